//! A call, from the first INVITE to the last BYE (RFC 3261 §13 to §15), and what is agreed on for its audio.

use std::io;
use std::net::SocketAddr;

use cusax::conference::PACKAGE;
use cusax::identity::xmpp_uri;
use cusax_sip::endpoint::{DialogId, End};
use cusax_sip::header::{CSeq, Headers, MediaType, Name};
use cusax_sip::message::{Method, Request, Response, Status};
use cusax_sip::sdp::Direction;
use cusax_sip::sdp::offer::{Audio, Negotiation};
use cusax_sip::uri::Uri;
use rand::Rng;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use super::super::audio::{self, Device, Meter, capabilities};
use super::super::clock::now;
use super::conference::conference_of;
use super::{ALLOWED_TEXT, Event, Line, Order, Why};

/// A call, from the first INVITE on.
pub(super) struct Call {
    pub(super) dialog: DialogId,
    /// What we call; `None` if we are called.
    pub(super) to: Option<Uri>,
    call_id: String,
    cseq: u32,
    /// For the audio, until it begins.
    socket: Option<UdpSocket>,
    device: Option<Box<dyn Device>>,
    meter: Option<watch::Sender<Meter>>,
    pub(super) negotiation: Negotiation,
    /// The offer to us that is not answered; empty if we are to make one.
    offered: Option<Vec<u8>>,
    audio: Option<mpsc::Sender<audio::Order>>,
    muted: bool,
    /// We hold it, or want to.
    pub(super) hold: bool,
    pub(super) held: bool,
}

/// Calls.
impl Line {
    pub(super) async fn obey(&mut self, order: Order) {
        match order {
            Order::Call { to, device, meter } => {
                if self.call.is_some() {
                    return;
                }
                let Ok((socket, negotiation)) = self.media().await else {
                    return self.told.push(Event::Ended(Why::NoMedia));
                };
                self.dial(to, socket, negotiation, device, meter);
            }
            Order::Answer { device, meter } => {
                let Ok((socket, negotiation)) = self.media().await else { return self.hang_up() };
                self.pick_up(socket, negotiation, device, meter);
            }
            Order::HangUp => {
                if self.call.is_some() {
                    self.hang_up();
                    self.told.push(Event::Ended(Why::Oneself));
                }
            }
            Order::Hold(hold) => {
                if let Some(call) = &mut self.call
                    && call.hold != hold
                {
                    call.hold = hold;
                    self.reinvite();
                }
            }
            Order::Mute(muted) => {
                if let Some(call) = &mut self.call {
                    call.muted = muted;
                    call.tell(audio::Order::Mute(muted));
                }
            }
            Order::Stop => {}
        }
    }

    /// A port for audio, and our side of its description.
    async fn media(&mut self) -> io::Result<(UdpSocket, Negotiation)> {
        let socket = UdpSocket::bind((self.flow.local.ip(), 0)).await?;
        let address = socket.local_addr()?;
        let session = u64::from(self.random.random::<u32>());
        Ok((socket, Negotiation::new(capabilities(), address, session)))
    }

    fn dial(
        &mut self,
        to: Uri,
        socket: UdpSocket,
        mut negotiation: Negotiation,
        device: Box<dyn Device>,
        meter: watch::Sender<Meter>,
    ) {
        let keys = self.flow.transport.is_secure().then_some(&mut self.random);
        let offer = negotiation.offer(Direction::SendRecv, keys);
        let call_id = self.token();
        let invite = self.invite(&to, &call_id, 1, &offer);
        match self.endpoint.invite(now(), self.flow, invite, &mut self.out) {
            Ok(dialog) => {
                self.call = Some(Call {
                    dialog,
                    to: Some(to),
                    call_id,
                    cseq: 1,
                    socket: Some(socket),
                    device: Some(device),
                    meter: Some(meter),
                    negotiation,
                    offered: Some(offer),
                    audio: None,
                    muted: false,
                    hold: false,
                    held: false,
                });
            }
            Err(error) => {
                let why = Why::Refused { status: 503, reason: error.to_string() };
                self.told.push(Event::Ended(why));
            }
        }
    }

    fn invite(&mut self, to: &Uri, call_id: &str, cseq: u32, offer: &[u8]) -> Request {
        let mut request = Request::new(Method::Invite, to.clone())
            .with(Name::FROM, self.from())
            .with(Name::CALL_ID, call_id)
            .with(Name::CSEQ, CSeq::new(cseq, Method::Invite))
            .with(Name::CONTACT, self.contact())
            .with(Name::ALLOW, ALLOWED_TEXT)
            .with_body(&MediaType::new("application", "sdp"), offer);
        if let Some(jid) = &self.account.impp {
            let cue = format!("<{}>;purpose=impp", xmpp_uri(&jid.clone().into()));
            request = request.with(Name::CALL_INFO, cue);
        }
        self.prove(&mut request);
        request
    }

    /// Adds credentials, once some were asked for.
    pub(super) fn prove(&mut self, request: &mut Request) {
        let cnonce = self.token();
        let uri = request.uri.to_string();
        let Some((name, credentials)) = self.digest.header(&request.method, &uri, &cnonce) else {
            return;
        };
        request.headers.push(name, credentials);
    }

    /// Whether a refusal asks for credentials that we have.
    pub(super) fn may_prove(&mut self, response: &Response) -> bool {
        self.digest.challenged_by(response)
    }

    pub(super) fn answered(&mut self, dialog: DialogId, response: &Response) {
        self.endpoint.ack(dialog, Headers::new(), vec![], &mut self.out);
        if !self.is_call(dialog) {
            return;
        }
        self.digest.accepted();
        let first = self.call.as_ref().is_some_and(|call| call.audio.is_none());
        if !self.agree(dialog, &response.body) || !first {
            return;
        }
        let contact = response.headers.contact().ok().flatten();
        let focus = contact.filter(|contact| contact.params.has("isfocus"));
        let encrypted = self.flow.transport.is_secure()
            && self.call.as_ref().is_some_and(|call| call.negotiation.is_protected());
        self.told.push(Event::Connected { conference: focus.is_some(), encrypted });
        let packages = response.headers.allow_events().unwrap_or_default();
        if let Some(focus) = focus.filter(|_| packages.contains(&PACKAGE)) {
            let dialled = self.call.as_ref().and_then(|call| call.to.clone());
            self.follow(conference_of(dialled, focus.uri));
        }
    }

    /// Takes the answer to our offer; false if there is nothing in common, and then the call is over.
    pub(super) fn agree(&mut self, dialog: DialogId, answer: &[u8]) -> bool {
        let Some(call) = self.call.as_mut().filter(|call| call.dialog == dialog) else {
            return false;
        };
        match call.negotiation.accept(answer) {
            Ok(agreed) => self.begin(&agreed),
            // The change is off, the call is as it was.
            Err(_) if call.audio.is_some() => true,
            Err(_) => {
                self.hang_up();
                self.told.push(Event::Ended(Why::NoMedia));
                false
            }
        }
    }

    /// Starts the audio, or changes it to what was agreed on.
    fn begin(&mut self, agreed: &Audio) -> bool {
        let (signalling, seed) = (self.flow.remote.ip(), self.random.random());
        let Some(call) = &mut self.call else { return false };
        let held = call.hold || agreed.is_held();
        let changed = held != std::mem::replace(&mut call.held, held);
        if call.audio.is_some() {
            call.tell(audio::Order::Agreed(Box::new(agreed.clone())));
        } else if let (Some(socket), Some(device), Some(meter)) =
            (call.socket.take(), call.device.take(), call.meter.take())
        {
            match audio::start(socket, agreed, device, meter, signalling, seed) {
                Ok(audio) => {
                    call.audio = Some(audio);
                    call.tell(audio::Order::Mute(call.muted));
                }
                Err(_) => {
                    self.hang_up();
                    self.told.push(Event::Ended(Why::NoMedia));
                    return false;
                }
            }
        }
        self.told.extend(changed.then_some(Event::Held(held)));
        true
    }

    /// Offers what is wanted now: holding, or going on.
    pub(super) fn reinvite(&mut self) {
        let secure = self.flow.transport.is_secure();
        let Some(call) = self.call.as_mut().filter(|call| call.audio.is_some()) else { return };
        if call.negotiation.is_offering() {
            return;
        }
        let direction = if call.hold { Direction::SendOnly } else { Direction::SendRecv };
        let offer = call.negotiation.offer(direction, secure.then_some(&mut self.random));
        let mut headers = Headers::new();
        headers.push(Name::CONTENT_TYPE, "application/sdp");
        let sent = self.endpoint.reinvite(now(), call.dialog, headers, offer, &mut self.out);
        if sent.is_err() {
            call.negotiation.withdraw();
            call.hold = call.held;
        }
    }

    /// Somebody calls.
    pub(super) fn called(&mut self, dialog: DialogId, request: Request) {
        if self.call.is_some() {
            let busy = Response::new(Status::BUSY_HERE);
            return self.endpoint.answer(now(), dialog, busy, &mut self.out);
        }
        let ringing = Response::new(Status::RINGING).with(Name::CONTACT, self.contact());
        self.endpoint.answer(now(), dialog, ringing, &mut self.out);
        let address = SocketAddr::new(self.flow.local.ip(), 0);
        self.call = Some(Call {
            dialog,
            to: None,
            call_id: String::new(),
            cseq: 0,
            socket: None,
            device: None,
            meter: None,
            negotiation: Negotiation::new(capabilities(), address, 0),
            offered: Some(request.body),
            audio: None,
            muted: false,
            hold: false,
            held: false,
        });
        self.told.push(Event::Incoming(Box::new(request.headers)));
    }

    fn pick_up(
        &mut self,
        socket: UdpSocket,
        mut negotiation: Negotiation,
        device: Box<dyn Device>,
        meter: watch::Sender<Meter>,
    ) {
        let keys = self.flow.transport.is_secure().then_some(&mut self.random);
        let Some(call) = self.call.as_mut().filter(|call| call.to.is_none()) else { return };
        let Some(offer) = call.offered.take() else { return };
        let dialog = call.dialog;
        (call.socket, call.device, call.meter) = (Some(socket), Some(device), Some(meter));
        let answer = if offer.is_empty() {
            Ok((negotiation.offer(Direction::SendRecv, keys), None))
        } else {
            let answer = negotiation.answer(&offer, Direction::SendRecv, keys);
            answer.map(|(answer, agreed)| (answer, Some(agreed)))
        };
        call.negotiation = negotiation;
        match answer {
            Ok((body, agreed)) => {
                let ok = Response::new(Status::OK)
                    .with(Name::CONTACT, self.contact())
                    .with_body(&MediaType::new("application", "sdp"), body);
                self.endpoint.answer(now(), dialog, ok, &mut self.out);
                if agreed.is_none_or(|agreed| self.begin(&agreed)) {
                    let encrypted = self.flow.transport.is_secure();
                    self.told.push(Event::Connected { conference: false, encrypted });
                }
            }
            Err(refusal) => {
                let response = Response::new(refusal.status());
                self.endpoint.answer(now(), dialog, response, &mut self.out);
                self.over(Why::NoMedia);
            }
        }
    }

    /// The other side changes the session.
    pub(super) fn changed(&mut self, dialog: DialogId, request: &Request) {
        let keys = self.flow.transport.is_secure().then_some(&mut self.random);
        let call = self.call.as_mut().filter(|call| call.dialog == dialog);
        let Some(call) = call.filter(|call| call.audio.is_some()) else {
            let response = Response::new(Status::NOT_ACCEPTABLE_HERE);
            return self.endpoint.answer(now(), dialog, response, &mut self.out);
        };
        let direction = if call.hold { Direction::SendOnly } else { Direction::SendRecv };
        let answer = if request.body.is_empty() {
            Ok((call.negotiation.offer(direction, keys), None))
        } else {
            let answer = call.negotiation.answer(&request.body, direction, keys);
            answer.map(|(answer, agreed)| (answer, Some(agreed)))
        };
        let response = match &answer {
            Ok((body, _)) => Response::new(Status::OK)
                .with_body(&MediaType::new("application", "sdp"), body.clone()),
            Err(refusal) => Response::new(refusal.status()),
        };
        self.endpoint.answer(now(), dialog, response, &mut self.out);
        if let Ok((_, Some(agreed))) = answer {
            self.begin(&agreed);
        }
    }

    pub(super) fn ended(&mut self, dialog: DialogId, end: End) {
        let Some(call) = self.call.as_mut().filter(|call| call.dialog == dialog) else { return };
        let says = |headers: &Headers| {
            let reasons = headers.reasons().unwrap_or_default();
            reasons.into_iter().find_map(|reason| reason.text)
        };
        let why = match end {
            End::Refused(response) => {
                let offer = call.offered.clone().unwrap_or_default();
                if let Some(to) = call.to.clone()
                    && self.may_prove(&response)
                {
                    return self.dial_again(&to, &offer);
                }
                let reason = response.reason.clone();
                Why::Refused { status: response.status.code(), reason }
            }
            End::Bye(request) | End::Cancelled(request) => Why::TheOther(says(&request.headers)),
            End::NoAck | End::NotAnswered | End::NoPrack | End::Expired | End::Gone(_) => Why::Lost,
        };
        self.over(why);
    }

    /// The same call, with credentials.
    fn dial_again(&mut self, to: &Uri, offer: &[u8]) {
        let Some(call) = &mut self.call else { return };
        call.cseq += 1;
        let (call_id, cseq) = (call.call_id.clone(), call.cseq);
        let invite = self.invite(to, &call_id, cseq, offer);
        match self.endpoint.invite(now(), self.flow, invite, &mut self.out) {
            Ok(dialog) => {
                if let Some(call) = &mut self.call {
                    call.dialog = dialog;
                }
            }
            Err(error) => {
                self.over(Why::Refused { status: 503, reason: error.to_string() });
            }
        }
    }

    fn over(&mut self, why: Why) {
        self.call = None;
        self.unwatch();
        self.told.push(Event::Ended(why));
    }

    pub(super) fn hang_up(&mut self) {
        if let Some(call) = self.call.take() {
            self.endpoint.bye(now(), call.dialog, Headers::new(), &mut self.out);
        }
        self.unwatch();
    }

    pub(super) fn is_call(&self, dialog: DialogId) -> bool {
        self.call.as_ref().is_some_and(|call| call.dialog == dialog)
    }
}

impl Call {
    fn tell(&self, order: audio::Order) {
        if let Some(audio) = &self.audio {
            // Its task takes them every 20 ms; who cannot is gone.
            drop(audio.try_send(order));
        }
    }
}
