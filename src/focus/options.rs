//! What a focus says of itself: OPTIONS, and the headers by which clients know one (RFC 4579 §5.13).

use cusax_sip::endpoint::{DialogId, RequestId, refuse_method};
use cusax_sip::flow::Flow;
use cusax_sip::header::{CallInfo, Name, NameAddr, Warning};
use cusax_sip::message::{Method, Request, Response, Status};

use super::door::overloaded;
use super::{Focus, FocusConfig, Wires};
use crate::clock::Now;
use crate::id::RoomName;
use crate::room::{Intake, Rooms};

impl Focus {
    /// A request that is neither about a call nor a subscription.
    #[expect(clippy::too_many_arguments, reason = "an event, and what it is judged by")]
    pub(super) fn request(
        &mut self,
        now: Now,
        id: RequestId,
        dialog: Option<DialogId>,
        flow: Flow,
        request: &Request,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
        let closed = rooms.policy().intake > Intake::Open && dialog.is_none();
        let response = if request.method == Method::Options && closed {
            *overloaded("Shutting Down")
        } else if request.method == Method::Options && dialog.is_none() && self.is_strained() {
            *overloaded("Too Busy")
        } else if request.method == Method::Options {
            self.capabilities(dialog, flow, request)
        } else if request.method == Method::Notify {
            // There is no subscription of ours that it could belong to (RFC 6665 §4.1.3).
            Response::new(Status::CALL_DOES_NOT_EXIST)
        } else if request.method == Method::Message
            && let Some(room) = self.addressed(dialog, flow, request)
        {
            let refusal = refuse_method(&request.method, ALLOWED);
            written_elsewhere(&self.config, &room, refusal)
        } else {
            refuse_method(&request.method, ALLOWED)
        };
        self.endpoint.respond(now.instant, id, response, out.sip);
    }

    /// The room that a request is for: that of the call that it is in, or the one that it names.
    fn addressed(
        &self,
        dialog: Option<DialogId>,
        flow: Flow,
        request: &Request,
    ) -> Option<RoomName> {
        let leg = self.leg_in(dialog).map(|leg| leg.room.clone());
        leg.or_else(|| self.room_of(&request.uri, flow).ok())
    }

    /// The answer to OPTIONS (RFC 4579 §5.13). Anyone may ask, so it is the same whether or not
    /// there is such a conference.
    pub(super) fn capabilities(
        &mut self,
        dialog: Option<DialogId>,
        flow: Flow,
        request: &Request,
    ) -> Response {
        let ok = Response::new(Status::OK).with(Name::ACCEPT, ACCEPTED);
        if let Some(leg) = dialog.and_then(|dialog| self.leg_of(dialog)) {
            let (contact, room) = (leg.contact.clone(), leg.room.clone());
            return describe(&self.config, ok, &contact, &room);
        }
        let userless = request.uri.as_sip().is_some_and(|uri| uri.user().is_none());
        match self.room_of(&request.uri, flow) {
            Ok(room) => describe(&self.config, ok, &self.contact(&room, flow, request), &room),
            Err(_) if userless && self.is_ours(&request.uri, flow) => {
                ok.with(Name::ALLOW, methods()).with(Name::ALLOW_EVENTS, EVENTS)
            }
            Err(refusal) => *refusal,
        }
    }
}

/// Adds what tells a conference-aware client that this is a focus, and which chat room belongs to
/// it (RFC 4579 §5.13, RFC 7082 §2.1, RFC 6993).
pub(super) fn describe(
    config: &FocusConfig,
    response: Response,
    contact: &NameAddr,
    room: &RoomName,
) -> Response {
    let marks = marks(config, contact, room).into_iter();
    marks.fold(response, |response, (name, value)| response.with(name, value))
}

/// The headers of [`describe`]; requests of a focus have them too.
pub(super) fn marks(
    config: &FocusConfig,
    contact: &NameAddr,
    room: &RoomName,
) -> Vec<(Name, String)> {
    let chat = chat_info(config, room).map(|chat| (Name::CALL_INFO, chat.to_string()));
    let marks = [
        (Name::CONTACT, contact.to_string()),
        (Name::ALLOW, methods()),
        (Name::ALLOW_EVENTS, EVENTS.to_owned()),
        (Name::SUPPORTED, SUPPORTED.join(", ")),
    ];
    marks.into_iter().chain(chat).collect()
}

/// Where people write to each other (RFC 6993).
fn chat_info(config: &FocusConfig, room: &RoomName) -> Option<CallInfo> {
    Some(CallInfo::new(config.chat_uri(room).parse().ok()?, "impp"))
}

/// Says in a refusal where text belongs: in the chat room, for RFC 7081 leaves it to XMPP.
pub(super) fn written_elsewhere(
    config: &FocusConfig,
    room: &RoomName,
    response: Response,
) -> Response {
    let text = format!("Text is written in {}", config.chat_uri(room));
    let warning = Warning { code: 399, agent: config.domain.clone(), text };
    let response = response.with(Name::WARNING, warning);
    match chat_info(config, room) {
        Some(chat) => response.with(Name::CALL_INFO, chat),
        None => response,
    }
}

pub(super) fn methods() -> String {
    let methods: Vec<_> = ALLOWED.iter().map(Method::as_str).collect();
    methods.join(", ")
}

/// What we do with SIP.
const ALLOWED: &[Method] = &[
    Method::Invite,
    Method::Ack,
    Method::Cancel,
    Method::Options,
    Method::Bye,
    Method::Prack,
    Method::Update,
    Method::Subscribe,
    Method::Refer,
    Method::Info,
];
/// What may be subscribed to; `refer` by sending a REFER alone.
const EVENTS: &str = "conference, refer";
/// Option tags that we understand (RFC 3262 §8, RFC 4028 §12, RFC 3891 §6.2, RFC 3911 §7.2, RFC 4538 §6,
/// RFC 4488 §7, RFC 7614 §6).
pub(super) const SUPPORTED: &[&str] =
    &["100rel", "timer", "replaces", "join", "tdialog", "norefersub", "nosub"];

/// What we read and write.
const ACCEPTED: &str = "application/sdp, application/conference-info+xml";
