//! A SIP user agent without IO: messages and time in, messages and events out.
//!
//! [`Endpoint`] keeps the transactions (RFC 3261 §17, RFC 6026), the dialogs (§12), the calls in them
//! (§13 to §15) and the subscriptions of both sides (RFC 6665). What RFC 3261 leaves no choice
//! about is done inside: retransmissions, ACK to refusals, 100, 2xx until ACK, reliable 1xx and PRACK
//! (RFC 3262), CANCEL, BYE, session timers (RFC 4028), stale CSeq, glare, unknown dialogs, merged
//! requests, extensions that nobody knows, overload. What is a choice
//! comes out as an [`Event`].
//!
//! Three kinds of things have names: a request that waits for its answer ([`RequestId`]), a call or
//! other dialog ([`DialogId`]), a subscription ([`SubscriptionId`]). An id stays good for calls of
//! methods after what it names is over; such a call does nothing.
//!
//! A `Response` that is given to [`Endpoint::respond`] and its like needs to hold only what the answer
//! says: status, reason, own headers, body. Via, From, To and its tag, Call-ID, CSeq and Record-Route
//! are filled in, and so are Contact (the address of the flow, unless one is given) and Server.
//!
//! Not in here: authentication, SDP, which methods and event packages there are. An endpoint never
//! answers a challenge: credentials belong to a request that its user makes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    agenda::Agenda,
    dialog::{Dialog, DialogKey, MAX_FORWARDS, append},
    flow::{Flow, Transmit},
    header::{CSeq, HeaderError, Headers, MAGIC_COOKIE, Name, NameAddr, Replaces, RetryAfter},
    invite::Call,
    message::{Message, Method, Request, Response, Status},
    parse::{ParseError, Rejected, parse},
    subscription::Subscription,
    table::{Answer, Lapse, Owner, Purpose, Route, Transactions, complete, reply_flows, way_back},
    uri::{Host, SipUri, Uri},
};

pub use crate::session::SessionTimer;

/// More than the Via of a request of ours takes, in bytes.
const VIA_LENGTH: usize = 128;

/// A SIP user agent.
///
/// [`Flow::local`] of what it is given stands in Via and, unless the user says otherwise, in Contact: it
/// must be an address that peers can reach, not the wildcard that a socket is bound to. Requests that
/// change over from UDP to TCP, or back, keep it: both are to listen on the same port.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) config: Config,
    pub(crate) rng: StdRng,
    /// Makes the tags of answers without state.
    secret: [u64; 2],
    pub(crate) transactions: Transactions,
    pub(crate) dialogs: BTreeMap<DialogId, Held>,
    by_key: HashMap<DialogKey, DialogId>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, Subscription>,
    pub(crate) agenda: Agenda<Usage>,
    last_id: u64,
    /// What the method that runs will return.
    pub(crate) events: Vec<Event>,
}

/// A dialog, and the usages that it is kept for (RFC 5057).
#[derive(Debug)]
pub(crate) struct Held {
    /// The key under which it is found; that of the dialog may be newer.
    key: DialogKey,
    pub(crate) dialog: Dialog,
    pub(crate) call: Option<Call>,
    pub(crate) subscriptions: BTreeSet<SubscriptionId>,
    /// It is a subscription of ours.
    pub(crate) subscribed: bool,
}

/// What may want to be woken, transactions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Usage {
    Call(DialogId),
    Subscription(SubscriptionId),
}

/// What an endpoint is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The option tags that the user of the endpoint understands: a request that requires another is
    /// answered with 420 (RFC 3261 §8.2.2.3). What the endpoint does by itself goes by them as well:
    /// `100rel` (RFC 3262), `timer`.
    pub supported: Vec<String>,
    /// The product, for Server and User-Agent; empty for neither.
    pub product: String,
    /// How long calls last that nobody refreshes (RFC 4028); without it, for ever. `timer` belongs to
    /// `supported` then.
    pub session: Option<SessionTimer>,
    /// The bounds of memory.
    pub limits: Limits,
}

/// The bounds of an endpoint's memory. Over one of them, what asks for more is answered with 503 and
/// Retry-After, without state.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests of peers that are answered, or were lately.
    pub server_transactions: usize,
    /// Requests of ours that are answered, or were lately.
    pub client_transactions: usize,
    /// Dialogs, those of subscriptions included.
    pub dialogs: usize,
    /// Subscriptions within one dialog.
    pub subscriptions_per_dialog: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            server_transactions: 20_000,
            client_transactions: 20_000,
            dialogs: 10_000,
            subscriptions_per_dialog: 8,
        }
    }
}

/// How much is under way, in the terms of [`Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests of peers.
    pub server_transactions: usize,
    /// Requests of ours.
    pub client_transactions: usize,
    /// Dialogs.
    pub dialogs: usize,
    /// Subscriptions, in all dialogs.
    pub subscriptions: usize,
}

/// A request of a peer that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A request of ours that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SentId(u64);

/// A call, or the dialog that a subscription has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId(u64);

/// A subscription of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(u64);

/// What the user of an endpoint must hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request outside of any dialog, or one within that has no meaning for the endpoint (INFO,
    /// REFER, OPTIONS, MESSAGE, NOTIFY, unknown ones). Answer with [`Endpoint::respond`].
    Request {
        /// To answer it.
        id: RequestId,
        /// The dialog that it is in.
        dialog: Option<DialogId>,
        /// How it came.
        flow: Flow,
        /// The request.
        request: Request,
    },
    /// Somebody calls. Answer with [`Endpoint::answer`], 1xx as often as you like, then once more.
    /// From here on the call has an end: either the user's ([`Endpoint::answer`] with a refusal,
    /// [`Endpoint::bye`]), or one [`Event::Ended`].
    Invite {
        /// The call.
        dialog: DialogId,
        /// How it came.
        flow: Flow,
        /// The INVITE; without a body it asks for an offer.
        request: Request,
    },
    /// The peer wants to change the session. Answer with [`Endpoint::answer`]: a refusal leaves the
    /// session as it was (RFC 3261 §14.2).
    Reinvite {
        /// The call.
        dialog: DialogId,
        /// How it came.
        flow: Flow,
        /// The re-INVITE; without a body it asks for an offer.
        request: Request,
    },
    /// The peer changes the session by UPDATE, or by a PRACK with an offer (RFC 3311 §5.2, RFC 3262 §5);
    /// an UPDATE without a body only says that it is still there, or where it is. Answer with
    /// [`Endpoint::respond`]: a refusal leaves the session as it was.
    Update {
        /// To answer it.
        id: RequestId,
        /// The call.
        dialog: DialogId,
        /// How it came.
        flow: Flow,
        /// The request.
        request: Request,
    },
    /// Our 2xx has arrived.
    Ack {
        /// The call.
        dialog: DialogId,
        /// The ACK, with the answer in its body if the 2xx held the offer. `None` if the ACK was lost
        /// and a later re-INVITE proved that the peer has our answer.
        request: Option<Request>,
    },
    /// The peer took a re-INVITE back. It has been answered with 487; the session stays as it was.
    ReinviteCancelled {
        /// The call.
        dialog: DialogId,
    },
    /// A call is over, and nothing is left to do. Not reported if the user itself ended it.
    Ended {
        /// The call.
        dialog: DialogId,
        /// Why.
        why: End,
    },
    /// A provisional answer to our INVITE.
    Progress {
        /// The call.
        dialog: DialogId,
        /// The answer, 101 to 199.
        response: Response,
    },
    /// Our INVITE or re-INVITE was accepted. Call [`Endpoint::ack`].
    Answered {
        /// The call.
        dialog: DialogId,
        /// The answer, 200 to 299.
        response: Response,
    },
    /// Our re-INVITE was refused; the session stays as it was.
    Refused {
        /// The call.
        dialog: DialogId,
        /// The answer, 300 to 699.
        response: Response,
    },
    /// Our re-INVITE met one of the peer's (491), and the time to wait is over: call
    /// [`Endpoint::reinvite`] again if it is still wanted (RFC 3261 §14.1).
    Retry {
        /// The call.
        dialog: DialogId,
    },
    /// It is for us to refresh the session, and the peer takes no UPDATE: call [`Endpoint::reinvite`] with
    /// the session as it is (RFC 4028 §7.4, §10).
    RefreshDue {
        /// The call.
        dialog: DialogId,
    },
    /// Somebody subscribes, or sends a REFER, which subscribes to its own progress (RFC 3515 §2.4.4)
    /// unless it says `Refer-Sub: false`; then it is an [`Event::Request`]. Answer with [`Endpoint::answer_subscribe`], and if that is a 2xx call
    /// [`Endpoint::notify`] at once. `Expires: 0` asks for one report and no more.
    Subscribe {
        /// The subscription.
        subscription: SubscriptionId,
        /// The dialog that it is in: a call's, or its own.
        dialog: DialogId,
        /// How it came.
        flow: Flow,
        /// The REFER, or the SUBSCRIBE, which has a readable Event header.
        request: Request,
    },
    /// A subscription is refreshed, or with `Expires: 0` ended. Answer it like
    /// [`Event::Subscribe`]; a report is due in both cases (RFC 6665 §4.2.1.4).
    Refresh {
        /// The subscription.
        subscription: SubscriptionId,
        /// How it came.
        flow: Flow,
        /// The SUBSCRIBE.
        request: Request,
    },
    /// A NOTIFY is through: the next one may be sent.
    Notified {
        /// The subscription.
        subscription: SubscriptionId,
        /// What the subscriber said. After a refusal it did not get the report, but stays subscribed.
        status: Status,
    },
    /// A subscription is over. Not reported if the user itself ended it: by a refusal,
    /// [`Endpoint::terminate`], or the report that follows `Expires: 0`.
    Unsubscribed {
        /// The subscription.
        subscription: SubscriptionId,
        /// Why. The expected end is [`SubscriptionEnd::Expired`] or a status 481.
        why: SubscriptionEnd,
    },
    /// An answer to a request that was sent with [`Endpoint::send`] or [`Endpoint::send_within`].
    /// The final one is the last; 408 is also said of silence and 503 of a broken flow
    /// (RFC 3261 §8.1.3.1).
    Response {
        /// The request.
        id: SentId,
        /// The answer.
        response: Response,
    },
}

/// Why a call is over.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The peer hung up. Its BYE may hold a Reason.
    Bye(Request),
    /// The peer gave up before it was answered. Its CANCEL may hold a Reason.
    Cancelled(Request),
    /// The peer never confirmed our 2xx, and was sent a BYE (RFC 3261 §13.3.1.4).
    NoAck,
    /// The user never answered the INVITE; the endpoint did, with 480.
    NotAnswered,
    /// The peer never confirmed our reliable 1xx, and was refused with 504 (RFC 3262 §3).
    NoPrack,
    /// Nobody refreshed the session in time, and the peer was sent a BYE (RFC 4028 §10).
    Expired,
    /// The peer refused our INVITE.
    Refused(Response),
    /// The peer does not know the call any more, or does not answer at all: the response to the
    /// request that told so, 481 or 408 (RFC 3261 §12.2.1.2). It was sent a BYE.
    Gone(Response),
}

/// Why a subscription is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionEnd {
    /// It was not refreshed. The subscriber was told.
    Expired,
    /// A NOTIFY was answered so, with 408 for silence and 503 for a broken flow
    /// (RFC 6665 §4.2.2).
    Status(Status),
}

/// How far the call has got that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// We call, and nobody has answered.
    Calling,
    /// The peer calls, and the user has not answered.
    Called,
    /// It was answered.
    Confirmed,
    /// It is over, and its end is still under way.
    Over,
}

/// Why a request cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no such dialog or subscription, or it is not accepted yet.
    #[error("no such dialog")]
    Unknown,
    /// Another one is under way that must be answered first: an INVITE in either direction
    /// (RFC 3261 §14.1), a NOTIFY (whose end [`Event::Notified`] reports).
    #[error("another request is pending")]
    Pending,
    /// A limit is reached.
    #[error("too many transactions")]
    Full,
    /// It is not a request to be sent this way, or has no From.
    #[error("malformed request")]
    Malformed,
}

impl Endpoint {
    /// An endpoint. Tags, branches and Call-IDs are random numbers from this seed, which nobody must
    /// be able to guess (RFC 3261 §19.3).
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let limits = config.limits;
        Self {
            secret: rng.random(),
            rng,
            transactions: Transactions::new(limits.server_transactions, limits.client_transactions),
            dialogs: BTreeMap::new(),
            by_key: HashMap::new(),
            subscriptions: BTreeMap::new(),
            agenda: Agenda::new(),
            last_id: 0,
            events: vec![],
            config,
        }
    }

    /// Takes a datagram, or one message of a stream.
    pub fn receive(
        &mut self,
        now: Instant,
        flow: Flow,
        bytes: &[u8],
        out: &mut Vec<Transmit>,
    ) -> Vec<Event> {
        self.receive_message(now, flow, parse(bytes), out)
    }

    /// Takes a message that is parsed already: what [`crate::frame::Framer`] gives.
    pub fn receive_message(
        &mut self,
        now: Instant,
        flow: Flow,
        message: Result<Message, ParseError>,
        out: &mut Vec<Transmit>,
    ) -> Vec<Event> {
        match message {
            Ok(Message::Request(request)) => self.handle_request(now, flow, request, out),
            Ok(Message::Response(response)) => {
                if let Some(answer) = self.transactions.handle_response(now, response, out) {
                    self.handle_answer(now, answer, out);
                }
            }
            Err(ParseError::Rejected(rejected)) => {
                let Rejected { method, response } = *rejected;
                let mut request = Request { headers: response.headers, ..nameless(method) };
                note_source(&mut request.headers, flow);
                let refusal = Response::new(response.status).with_reason(&response.reason);
                self.reject(flow, &request, refusal, out);
            }
            Err(ParseError::Dropped(why)) => tracing::debug!(why, "dropped a message"),
        }
        std::mem::take(&mut self.events)
    }

    /// Whether a request would begin something: it belongs to no transaction and to no dialog that is
    /// here. What does not begin anything is about what was let in before; an ACK never does.
    ///
    /// A user that limits how fast strangers may come asks this before it hands the request over, and
    /// [turns it away](Self::turn_away) if need be. Notes the source of the request in its Via.
    pub fn begins(&self, flow: Flow, request: &mut Request) -> bool {
        note_source(&mut request.headers, flow);
        let known = self.transactions.find(request).is_some()
            || self.find_dialog(request).is_some()
            || request.method == Method::Cancel
                && self.transactions.find_cancelled(request).is_some();
        request.method != Method::Ack && !known
    }

    /// Refuses a request that was not handed over, without state: 503 with Retry-After.
    pub fn turn_away(&mut self, flow: Flow, mut request: Request, out: &mut Vec<Transmit>) {
        note_source(&mut request.headers, flow);
        self.overloaded(flow, &request, out);
    }

    /// Takes note that nothing can be sent over a flow: its connection is closed or was refused, its
    /// address is unreachable. What waits for an answer over it is sent another way, if there is one.
    pub fn failed(&mut self, now: Instant, flow: Flow, out: &mut Vec<Transmit>) -> Vec<Event> {
        for answer in self.transactions.failed(now, flow, out) {
            self.handle_answer(now, answer, out);
        }
        std::mem::take(&mut self.events)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Transmit>) -> Vec<Event> {
        while self.transactions.poll_timeout().is_some_and(|at| at <= now) {
            match self.transactions.handle_timeout(now, out) {
                None => {}
                Some(Lapse::Client(answer)) => self.handle_answer(now, *answer, out),
                Some(Lapse::Server(id, owner)) => {
                    match owner {
                        Owner::Call(dialog) => self.handle_unanswered(now, dialog, out),
                        Owner::Subscription(id) => self.handle_unanswered_subscribe(id),
                        Owner::Update(dialog) => self.handle_unanswered_update(dialog),
                        Owner::User => {}
                    }
                    if self.transactions.is_waiting(id) {
                        self.transactions.close(id);
                    }
                }
            }
        }
        while let Some(usage) = self.agenda.pop(now) {
            match usage {
                Usage::Call(dialog) => self.handle_call_timeout(now, dialog, out),
                Usage::Subscription(subscription) => self.handle_expiry(now, subscription, out),
            }
        }
        std::mem::take(&mut self.events)
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.transactions.poll_timeout().into_iter().chain(self.agenda.next()).min()
    }

    /// Answers an [`Event::Request`] or [`Event::Update`].
    pub fn respond(
        &mut self,
        now: Instant,
        id: RequestId,
        mut response: Response,
        out: &mut Vec<Transmit>,
    ) {
        self.config.decorate(&mut response.headers, Name::SERVER);
        match self.transactions.owner(id) {
            Some(Owner::Update(dialog)) => self.answer_update(now, dialog, id, response, out),
            Some(Owner::User | Owner::Call(_) | Owner::Subscription(_)) | None => {
                self.transactions.answer(now, id, response, out);
            }
        }
    }

    /// Sends a request outside of dialogs over this flow; [`Event::Response`] brings the answer. To,
    /// From's tag, Call-ID, CSeq and Max-Forwards are filled in if they are absent. Not for INVITE,
    /// ACK and CANCEL.
    pub fn send(
        &mut self,
        now: Instant,
        flow: Flow,
        mut request: Request,
        out: &mut Vec<Transmit>,
    ) -> Result<SentId, SendError> {
        if matches!(request.method, Method::Invite | Method::Ack | Method::Cancel) {
            return Err(SendError::Malformed);
        }
        self.address(&mut request)?;
        if !self.transactions.may_start() {
            return Err(SendError::Full);
        }
        let branch = self.branch();
        let route = Route::only(flow);
        let sent = self.transactions.start(now, request, branch, route, Purpose::User, out);
        sent.ok_or(SendError::Full)
    }

    /// Sends a request within a dialog, such as INFO, REFER, MESSAGE, OPTIONS; [`Event::Response`]
    /// brings the answer. Not for INVITE, ACK, BYE, CANCEL, PRACK, UPDATE, SUBSCRIBE and NOTIFY.
    pub fn send_within(
        &mut self,
        now: Instant,
        dialog: DialogId,
        method: Method,
        headers: Headers,
        body: Vec<u8>,
        out: &mut Vec<Transmit>,
    ) -> Result<SentId, SendError> {
        let own = [Method::Invite, Method::Ack, Method::Bye, Method::Cancel];
        let own = own.iter().chain(&[Method::Prack, Method::Update]);
        let mut own = own.chain(&[Method::Subscribe, Method::Notify]);
        if own.any(|own| *own == method) {
            return Err(SendError::Malformed);
        }
        if !self.transactions.may_start() {
            return Err(SendError::Full);
        }
        let held = self.dialogs.get_mut(&dialog).filter(|held| held.dialog.is_formed());
        let mut request = held.ok_or(SendError::Unknown)?.dialog.request(method);
        append(&mut request.headers, &headers);
        request.body = body;
        let sent = self.send_in(now, dialog, request, Purpose::Within(dialog), out);
        sent.ok_or(SendError::Full)
    }

    /// Puts other session timers in force, for sessions that begin or are refreshed from now on.
    pub fn set_session(&mut self, session: Option<SessionTimer>) {
        self.config.session = session;
    }

    /// The call that Replaces or Join names, which see it from its other side (RFC 3891 §3,
    /// RFC 3911 §4).
    pub fn find(&self, meant: &Replaces) -> Option<(DialogId, Stage)> {
        let key = DialogKey {
            call_id: meant.call_id.clone(),
            local_tag: meant.to_tag.clone(),
            remote_tag: meant.from_tag.clone(),
        };
        let id = *self.by_key.get(&key)?;
        Some((id, self.dialogs.get(&id)?.call.as_ref()?.stage()))
    }

    /// How much is under way.
    pub fn load(&self) -> Load {
        let (server_transactions, client_transactions) = self.transactions.len();
        Load {
            server_transactions,
            client_transactions,
            dialogs: self.dialogs.len(),
            subscriptions: self.subscriptions.len(),
        }
    }
}

/// Requests, up to the point where their ways part.
impl Endpoint {
    fn handle_request(
        &mut self,
        now: Instant,
        flow: Flow,
        mut request: Request,
        out: &mut Vec<Transmit>,
    ) {
        note_source(&mut request.headers, flow);
        let known = self.transactions.find(&request);
        match (&request.method, known) {
            (Method::Ack, known) => {
                if !known.is_some_and(|id| self.transactions.handle_ack(now, id)) {
                    self.handle_ack(now, flow, request, out);
                }
            }
            (_, Some(id)) => self.transactions.handle_copy(id, out),
            (Method::Cancel, None) => self.handle_cancel(now, flow, request, out),
            (_, None) => match self.inspect(&request) {
                Some(refusal) => self.reject(flow, &request, refusal, out),
                None if request.headers.to_tag().is_ok_and(|tag| tag.is_some()) => {
                    self.handle_within(now, flow, request, out);
                }
                None => self.handle_outside(now, flow, request, out),
            },
        }
    }

    /// What every request must satisfy (RFC 3261 §8.2.2, §8.2.3), or how it is refused. Max-Forwards is
    /// no matter for the end of the way: 0 is as good as 70 (RFC 4475 §3.3.11).
    fn inspect(&self, request: &Request) -> Option<Response> {
        if matches!(request.uri, Uri::Other(_)) {
            return Some(Response::new(Status::UNSUPPORTED_URI_SCHEME));
        }
        let bad = |error: HeaderError| {
            Some(Response::new(Status::BAD_REQUEST).with_reason(&error.to_string()))
        };
        let mut unsupported = match request.headers.require() {
            Ok(required) => required,
            Err(error) => return bad(error),
        };
        unsupported.retain(|tag| {
            !self.config.supported.iter().any(|known| known.eq_ignore_ascii_case(tag))
        });
        if !unsupported.is_empty() {
            let response = Response::new(Status::BAD_EXTENSION);
            return Some(response.with(Name::UNSUPPORTED, unsupported.join(", ")));
        }
        let replaces = request.headers.contains(&Name::REPLACES);
        let joins = request.headers.contains(&Name::JOIN);
        if (replaces || joins) && request.method != Method::Invite || replaces && joins {
            let response = Response::new(Status::BAD_REQUEST);
            return Some(response.with_reason("Replaces Or Join Of No Use Here"));
        }
        if let Err(error) = request.headers.replaces().and(request.headers.join()) {
            return bad(error);
        }
        let timer = self.config.session;
        if let Some(refusal) = timer.and_then(|timer| timer.refuses(request)) {
            return Some(refusal);
        }
        let encodings = request.headers.all(&Name::CONTENT_ENCODING);
        let mut encodings = encodings.flat_map(|line| line.split(',')).map(str::trim);
        if !request.body.is_empty() && encodings.any(|it| !it.eq_ignore_ascii_case("identity")) {
            let response = Response::new(Status::UNSUPPORTED_MEDIA_TYPE);
            return Some(response.with(Name::ACCEPT_ENCODING, "identity"));
        }
        None
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other method is the user's")]
    fn handle_outside(
        &mut self,
        now: Instant,
        flow: Flow,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        if self.transactions.is_merged(&request) {
            return self.reject(flow, &request, Response::new(Status::LOOP_DETECTED), out);
        }
        match request.method {
            Method::Invite => self.handle_invite(now, flow, request, out),
            Method::Subscribe => self.handle_subscribe(now, flow, None, request, out),
            Method::Refer => self.handle_refer(now, flow, None, request, out),
            Method::Bye => {
                self.reject(flow, &request, Response::new(Status::CALL_DOES_NOT_EXIST), out);
            }
            _ => self.handle_other(now, flow, None, request, out),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other method is the user's")]
    fn handle_within(
        &mut self,
        now: Instant,
        flow: Flow,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let id = self.find_dialog(&request).or_else(|| self.find_reported(flow, &request));
        let Some((id, held)) = id.and_then(|id| Some((id, self.dialogs.get_mut(&id)?))) else {
            return self.reject(flow, &request, Response::new(Status::CALL_DOES_NOT_EXIST), out);
        };
        let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
        if !held.dialog.handle_cseq(number) {
            let response =
                Response::new(Status::SERVER_INTERNAL_ERROR).with_reason("CSeq Out Of Order");
            return self.reject(flow, &request, response, out);
        }
        held.dialog.flow = way_back(flow, &request);
        match request.method {
            Method::Invite => self.handle_reinvite(now, flow, id, request, out),
            Method::Bye => self.handle_bye(now, flow, id, request, out),
            Method::Prack => self.handle_prack(now, flow, id, request, out),
            Method::Update => self.handle_update(now, flow, id, request, out),
            Method::Subscribe => self.handle_subscribe(now, flow, Some(id), request, out),
            Method::Refer => self.handle_refer(now, flow, Some(id), request, out),
            _ => self.handle_other(now, flow, Some(id), request, out),
        }
    }

    /// Hands a request to the user.
    pub(crate) fn handle_other(
        &mut self,
        now: Instant,
        flow: Flow,
        dialog: Option<DialogId>,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        if dialog.and_then(|id| self.dialogs.get(&id)).is_some_and(Held::is_ending) {
            let response = Response::new(Status::CALL_DOES_NOT_EXIST);
            return self.conclude(now, flow, &request, response, out);
        }
        let tag = self.token();
        match self.transactions.open(now, flow, &request, tag, Owner::User) {
            Some(id) => self.events.push(Event::Request { id, dialog, flow, request }),
            None => self.overloaded(flow, &request, out),
        }
    }

    /// Takes the answer to a request of ours.
    fn handle_answer(&mut self, now: Instant, answer: Answer, out: &mut Vec<Transmit>) {
        let status = answer.response.status;
        match answer.purpose {
            Purpose::Invite(dialog) => self.handle_invite_answer(now, dialog, answer, out),
            Purpose::Notify(subscription) => {
                self.handle_notify_answer(now, subscription, &answer, out);
            }
            Purpose::Refresh(dialog) if status.is_final() => {
                self.handle_refreshed(now, dialog, &answer, out);
            }
            Purpose::Bye(dialog) if status.is_final() => self.end_call(dialog),
            Purpose::Subscribe(dialog) if status != Status::TRYING => {
                self.handle_subscribe_answer(dialog, &answer);
                self.events.push(Event::Response { id: answer.id, response: answer.response });
            }
            Purpose::User | Purpose::Within(_) if status != Status::TRYING => {
                if let (Purpose::Within(dialog), true) = (answer.purpose, status.is_final()) {
                    self.end_if_gone(now, dialog, &answer, out);
                }
                self.events.push(Event::Response { id: answer.id, response: answer.response });
            }
            Purpose::User
            | Purpose::Within(_)
            | Purpose::Refresh(_)
            | Purpose::Bye(_)
            | Purpose::Subscribe(_)
            | Purpose::Nobody => {}
        }
    }
}

/// Answers that the endpoint gives by itself.
impl Endpoint {
    /// Answers a request at once, and remembers it, so that its copies get the same answer.
    pub(crate) fn conclude(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
        response: Response,
        out: &mut Vec<Transmit>,
    ) {
        let tag = self.token();
        match self.transactions.open(now, flow, request, tag, Owner::User) {
            Some(id) => self.respond(now, id, response, out),
            None => self.reject(flow, request, response, out),
        }
    }

    /// Refuses a request without state (RFC 3261 §8.2.7).
    pub(crate) fn reject(
        &self,
        flow: Flow,
        request: &Request,
        response: Response,
        out: &mut Vec<Transmit>,
    ) {
        // The tag is the same for each copy.
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        for name in [Name::VIA, Name::FROM, Name::CALL_ID] {
            request.headers.get(&name).hash(&mut hasher);
        }
        self.reply(flow, request, response, &format!("{:016x}", hasher.finish()), out);
    }

    /// Answers a request without state, with this tag on To.
    pub(crate) fn reply(
        &self,
        flow: Flow,
        request: &Request,
        mut response: Response,
        tag: &str,
        out: &mut Vec<Transmit>,
    ) {
        let Ok(via) = request.headers.via() else { return };
        self.config.decorate(&mut response.headers, Name::SERVER);
        complete(&mut response, &request.headers, Some(tag));
        let (flow, _) = reply_flows(flow, &via);
        out.push(Transmit { flow, bytes: response.to_bytes() });
    }

    /// Refuses a request for which there is no room.
    pub(crate) fn overloaded(&mut self, flow: Flow, request: &Request, out: &mut Vec<Transmit>) {
        // Not all at the same time again.
        let wait = RetryAfter::new(self.rng.random_range(5..=15));
        let response = Response::new(Status::SERVICE_UNAVAILABLE).with(Name::RETRY_AFTER, wait);
        self.reject(flow, request, response, out);
    }
}

/// Dialogs and names.
impl Endpoint {
    /// The dialog that a request asks for, and our tag in it; or the request is refused.
    pub(crate) fn new_dialog(
        &mut self,
        flow: Flow,
        request: &Request,
        out: &mut Vec<Transmit>,
    ) -> Option<(Dialog, String)> {
        if self.dialogs.len() >= self.config.limits.dialogs {
            self.overloaded(flow, request, out);
            return None;
        }
        let tag = self.token();
        match Dialog::of_server(request, way_back(flow, request), tag.clone()) {
            Ok(dialog) => Some((dialog, tag)),
            Err(error) => {
                let response = Response::new(Status::BAD_REQUEST).with_reason(&error.to_string());
                self.reject(flow, request, response, out);
                None
            }
        }
    }

    pub(crate) fn insert_dialog(&mut self, id: DialogId, dialog: Dialog, call: Option<Call>) {
        self.by_key.insert(dialog.key.clone(), id);
        let subscriptions = BTreeSet::new();
        let key = dialog.key.clone();
        self.dialogs.insert(id, Held { key, dialog, call, subscriptions, subscribed: false });
    }

    /// Notes that the peer's tag has become known.
    pub(crate) fn rekey(&mut self, id: DialogId) {
        let Some(held) = self.dialogs.get_mut(&id) else { return };
        self.by_key.remove(&held.key);
        held.key = held.dialog.key.clone();
        self.by_key.insert(held.key.clone(), id);
    }

    pub(crate) fn drop_if_unused(&mut self, id: DialogId) {
        if let Some(held) = self.dialogs.get(&id).filter(|held| held.is_unused()) {
            self.by_key.remove(&held.key);
            self.dialogs.remove(&id);
        }
    }

    /// The dialog that a request of the peer is in (RFC 3261 §12.2.2).
    pub(crate) fn find_dialog(&self, request: &Request) -> Option<DialogId> {
        let remote_tag = request.headers.from_tag().ok()?.unwrap_or_default();
        self.find_dialog_of(request, &remote_tag)
    }

    /// The dialog that a request is in, of a peer with this tag.
    pub(crate) fn find_dialog_of(&self, request: &Request, remote_tag: &str) -> Option<DialogId> {
        let headers = &request.headers;
        let key = DialogKey {
            call_id: headers.call_id().ok()?.to_owned(),
            local_tag: headers.to_tag().ok()??,
            remote_tag: remote_tag.to_owned(),
        };
        self.by_key.get(&key).copied()
    }

    /// Whether there is room for a dialog that begins with a request of ours.
    pub(crate) fn may_open(&self) -> bool {
        self.dialogs.len() < self.config.limits.dialogs && self.transactions.may_start()
    }

    /// Our tag in a dialog; nothing if there is no such dialog.
    pub(crate) fn local_tag(&self, id: DialogId) -> String {
        self.dialogs.get(&id).map(|held| held.dialog.key.local_tag.clone()).unwrap_or_default()
    }

    /// Sends a request in a dialog. Nobody waits for its answer if there is no id.
    pub(crate) fn send_in(
        &mut self,
        now: Instant,
        id: DialogId,
        mut request: Request,
        purpose: Purpose,
        out: &mut Vec<Transmit>,
    ) -> Option<SentId> {
        self.config.decorate(&mut request.headers, Name::USER_AGENT);
        let branch = self.branch();
        let length = request.to_bytes().len() + VIA_LENGTH;
        let route = self.dialogs.get(&id)?.dialog.route(length);
        self.transactions.start(now, request, branch, route, purpose, out)
    }

    /// Fills in what a request outside of dialogs must have (RFC 3261 §8.1.1).
    pub(crate) fn address(&mut self, request: &mut Request) -> Result<(), SendError> {
        let mut from = request.headers.from().map_err(|_| SendError::Malformed)?;
        if from.tag().is_none() {
            from.params.set("tag", Some(&self.token()));
            request.headers.set(Name::FROM, from);
        }
        if !request.headers.contains(&Name::TO) {
            request.headers.push(Name::TO, NameAddr::new(request.uri.clone()));
        }
        if !request.headers.contains(&Name::CALL_ID) {
            request.headers.push(Name::CALL_ID, format!("{}{}", self.token(), self.token()));
        }
        if !request.headers.contains(&Name::CSEQ) {
            request.headers.push(Name::CSEQ, CSeq::new(1, request.method.clone()));
        }
        if !request.headers.contains(&Name::MAX_FORWARDS) {
            request.headers.push(Name::MAX_FORWARDS, MAX_FORWARDS);
        }
        self.config.decorate(&mut request.headers, Name::USER_AGENT);
        Ok(())
    }

    pub(crate) fn next_dialog_id(&mut self) -> DialogId {
        self.last_id += 1;
        DialogId(self.last_id)
    }

    pub(crate) fn next_subscription_id(&mut self) -> SubscriptionId {
        self.last_id += 1;
        SubscriptionId(self.last_id)
    }

    /// A tag, or a half of a Call-ID (RFC 3261 §19.3).
    pub(crate) fn token(&mut self) -> String {
        format!("{:016x}", self.rng.random::<u64>())
    }

    /// A branch (RFC 3261 §8.1.1.7).
    pub(crate) fn branch(&mut self) -> String {
        format!("{MAGIC_COOKIE}{}", self.token())
    }
}

impl Held {
    fn is_unused(&self) -> bool {
        self.call.is_none() && self.subscriptions.is_empty() && !self.subscribed
    }

    /// Whether it is there for the answer to our BYE alone.
    fn is_ending(&self) -> bool {
        self.subscriptions.is_empty()
            && !self.subscribed
            && self.call.as_ref().is_none_or(Call::is_ending)
    }
}

impl Config {
    /// Says what product speaks.
    pub(crate) fn decorate(&self, headers: &mut Headers, name: Name) {
        if !self.product.is_empty() && !headers.contains(&name) {
            headers.push(name, &self.product);
        }
    }
}

impl RequestId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }
}

impl SentId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }
}

/// A request of which only the headers are known.
fn nameless(method: Method) -> Request {
    Request::new(method, SipUri::new(None, Host::Name("invalid".to_owned()), None))
}

/// Notes in the topmost Via where a request came from.
fn note_source(headers: &mut Headers, flow: Flow) {
    if let Ok(mut via) = headers.via() {
        via.set_source(flow.remote);
        headers.set_top_via(&via);
    }
}

/// Refuses a method: 405 for one that the protocol has and this resource has not, 501 for one that
/// nobody knows, both with Allow (RFC 3261 §8.2.1).
pub fn refuse_method(method: &Method, allowed: &[Method]) -> Response {
    let unknown = matches!(method, Method::Other(_));
    let status = if unknown { Status::NOT_IMPLEMENTED } else { Status::METHOD_NOT_ALLOWED };
    let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
    Response::new(status).with(Name::ALLOW, allowed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Transport;

    #[expect(clippy::disallowed_methods, reason = "any fixed start will do")]
    fn epoch() -> Instant {
        Instant::now()
    }

    /// What the endpoint shows of its load is tested at the wire; this is about what it does not show.
    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other event is due")]
    fn no_index_keeps_what_is_over() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let limits = Limits { server_transactions: 4, ..Limits::default() };
            let config =
                Config { supported: vec![], product: String::new(), session: None, limits };
            let mut endpoint = Endpoint::new(config, [1; 32]);
            let (mut now, mut out) = (epoch(), vec![]);
            let [local, remote] =
                ["192.0.2.1:5060", "192.0.2.7:5060"].map(|at| at.parse().unwrap());
            let flow = Flow { transport, local, remote };
            for n in 0..20 {
                let method = ["INVITE", "SUBSCRIBE", "OPTIONS", "BYE"][n % 4];
                let text = format!(
                    "{method} sip:a@192.0.2.1 SIP/2.0\r\n\
                     Via: SIP/2.0/{transport} 192.0.2.7;branch=z9hG4bK{n}\r\n\
                     From: <sip:b@192.0.2.7>;tag=b\r\nTo: <sip:a@192.0.2.1>\r\nCall-ID: {n}\r\n\
                     CSeq: 1 {method}\r\nContact: <sip:b@192.0.2.7>\r\nEvent: conference\r\n\
                     Content-Length: 0\r\n\r\n"
                );
                let ok = || Response::new(Status::OK);
                for event in endpoint.receive(now, flow, text.as_bytes(), &mut out) {
                    match event {
                        Event::Invite { dialog, .. } => {
                            let code = if n % 8 == 0 { Status::OK } else { Status::BUSY_HERE };
                            endpoint.answer(now, dialog, Response::new(code), &mut out);
                        }
                        Event::Subscribe { subscription, .. } => {
                            endpoint.answer_subscribe(now, subscription, ok(), &mut out);
                            let (headers, body) = (Headers::new(), vec![b'x'; 1500]);
                            let sent = endpoint.notify(now, subscription, headers, body, &mut out);
                            assert_eq!(sent, Ok(()));
                        }
                        Event::Request { id, .. } => endpoint.respond(now, id, ok(), &mut out),
                        other => panic!("{other:?}"),
                    }
                }
                if n == 10 {
                    endpoint.failed(now, flow, &mut out);
                }
            }
            while let Some(at) = endpoint.poll_timeout() {
                now = now.max(at);
                endpoint.handle_timeout(now, &mut out);
            }
            assert!(endpoint.transactions.is_clean(), "{:?}", endpoint.transactions);
            assert!(endpoint.dialogs.is_empty() && endpoint.by_key.is_empty());
            assert!(endpoint.subscriptions.is_empty() && endpoint.agenda.is_empty());
        }
    }

    #[test]
    fn no_key_keeps_a_call_of_ours() {
        let config = Config {
            supported: vec![],
            product: String::new(),
            session: None,
            limits: Limits::default(),
        };
        let mut endpoint = Endpoint::new(config, [1; 32]);
        let (now, mut out) = (epoch(), vec![]);
        let [local, remote] = ["192.0.2.1:5060", "192.0.2.7:5060"].map(|at| at.parse().unwrap());
        let flow = Flow { transport: Transport::Udp, local, remote };
        let uri = SipUri::at(remote);
        let request = Request::new(Method::Invite, Uri::Sip(uri.clone()));
        let request = request.with(Name::FROM, NameAddr::new(Uri::Sip(uri)));
        endpoint.invite(now, flow, request, &mut out).unwrap();
        let Ok(Message::Request(invite)) = parse(&out[0].bytes) else { panic!() };
        for (status, tag) in
            [(Status::RINGING, "a"), (Status::RINGING, "b"), (Status::DECLINE, "b")]
        {
            let response = invite.response(status).with_to_tag(tag).to_bytes();
            endpoint.receive(now, flow, &response, &mut out);
        }
        assert!(endpoint.dialogs.is_empty() && endpoint.by_key.is_empty());
    }
}
