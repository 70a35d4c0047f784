//! A SIP user agent without IO: messages and time in, messages and events out.
//!
//! [`Endpoint`] keeps the transactions (RFC 3261 §17, RFC 6026), the dialogs (§12), the calls in them
//! (§13 to §15) and the subscriptions (RFC 6665, the notifier's side). What RFC 3261 leaves no choice
//! about is done inside: retransmissions, ACK to refusals, 100, 2xx until ACK, CANCEL, BYE, stale CSeq,
//! glare, unknown dialogs, merged requests, extensions that nobody knows, overload. What is a choice
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

use std::time::Instant;

use crate::{
    flow::{Flow, Transmit},
    header::{Headers, Name, SubscriptionState},
    message::{Message, Method, Request, Response, Status},
    parse::ParseError,
};

/// A SIP user agent.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
}

/// What an endpoint is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The option tags that the user of the endpoint understands: a request that requires another is
    /// answered with 420 (RFC 3261 §8.2.2.3).
    pub supported: Vec<String>,
    /// The product, for Server and User-Agent; empty for neither.
    pub product: String,
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
    /// REFER, OPTIONS, MESSAGE, UPDATE, NOTIFY, unknown ones). Answer with [`Endpoint::respond`].
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
    /// Somebody subscribes. Answer with [`Endpoint::answer_subscribe`], and if that is a 2xx call
    /// [`Endpoint::notify`] at once. `Expires: 0` asks for one report and no more.
    Subscribe {
        /// The subscription.
        subscription: SubscriptionId,
        /// The dialog that it is in: a call's, or its own.
        dialog: DialogId,
        /// How it came.
        flow: Flow,
        /// The SUBSCRIBE. It has a readable Event header.
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
}

impl Endpoint {
    /// An endpoint. Tags, branches and Call-IDs are random numbers from this seed, which nobody
    /// must be able to guess (RFC 3261 §19.3).
    pub fn new(config: Config, _seed: [u8; 32]) -> Self {
        Self { config }
    }

    /// Takes a datagram, or one message of a stream.
    pub fn receive(
        &mut self,
        _now: Instant,
        _flow: Flow,
        _bytes: &[u8],
        _out: &mut Vec<Transmit>,
    ) -> Vec<Event> {
        todo!()
    }

    /// Takes a message that is parsed already: what [`crate::frame::Framer`] gives.
    pub fn receive_message(
        &mut self,
        _now: Instant,
        _flow: Flow,
        _message: Result<Message, ParseError>,
        _out: &mut Vec<Transmit>,
    ) -> Vec<Event> {
        todo!()
    }

    /// Takes note that nothing can be sent over a flow: the connection is closed or was refused, the
    /// address is unreachable. What waits for an answer over it is sent another way if there is one.
    pub fn failed(&mut self, _now: Instant, _flow: Flow, _out: &mut Vec<Transmit>) -> Vec<Event> {
        todo!()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, _now: Instant, _out: &mut Vec<Transmit>) -> Vec<Event> {
        todo!()
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Answers an [`Event::Request`].
    pub fn respond(
        &mut self,
        _now: Instant,
        _id: RequestId,
        _response: Response,
        _out: &mut Vec<Transmit>,
    ) {
        todo!()
    }

    /// Answers an [`Event::Invite`] or [`Event::Reinvite`].
    pub fn answer(
        &mut self,
        _now: Instant,
        _dialog: DialogId,
        _response: Response,
        _out: &mut Vec<Transmit>,
    ) {
        todo!()
    }

    /// Calls somebody over this flow. The request's From may lack its tag; Call-ID, CSeq, Contact and
    /// Max-Forwards are filled in if they are absent.
    pub fn invite(
        &mut self,
        _now: Instant,
        _flow: Flow,
        _request: Request,
        _out: &mut Vec<Transmit>,
    ) -> Result<DialogId, SendError> {
        todo!()
    }

    /// Changes the session: sends a re-INVITE with these headers (Content-Type among them) and body.
    pub fn reinvite(
        &mut self,
        _now: Instant,
        _dialog: DialogId,
        _headers: Headers,
        _body: Vec<u8>,
        _out: &mut Vec<Transmit>,
    ) -> Result<(), SendError> {
        todo!()
    }

    /// Confirms an [`Event::Answered`], with an answer in the body if the 2xx held an offer.
    pub fn ack(
        &mut self,
        _now: Instant,
        _dialog: DialogId,
        _headers: Headers,
        _body: Vec<u8>,
        _out: &mut Vec<Transmit>,
    ) {
        todo!()
    }

    /// Ends a call, whatever its state: BYE when it is up (after the ACK, if that is to come),
    /// CANCEL when we call, 480 when the peer does. `headers` go with it, such as Reason.
    pub fn bye(
        &mut self,
        _now: Instant,
        _dialog: DialogId,
        _headers: Headers,
        _out: &mut Vec<Transmit>,
    ) {
        todo!()
    }

    /// Answers an [`Event::Subscribe`] or [`Event::Refresh`]. The Expires of a 2xx is shortened to
    /// what was asked for; without one, it is what was asked for, or an hour.
    pub fn answer_subscribe(
        &mut self,
        _now: Instant,
        _subscription: SubscriptionId,
        _response: Response,
        _out: &mut Vec<Transmit>,
    ) {
        todo!()
    }

    /// Reports to a subscriber, one at a time. Event and Subscription-State are filled in. Last
    /// report after `Expires: 0`: then it never is [`SendError::Pending`].
    pub fn notify(
        &mut self,
        _now: Instant,
        _subscription: SubscriptionId,
        _headers: Headers,
        _body: Vec<u8>,
        _out: &mut Vec<Transmit>,
    ) -> Result<(), SendError> {
        todo!()
    }

    /// Ends a subscription with a last report, after the one that may be under way. `state` says why,
    /// such as `SubscriptionState::terminated("noresource")` (RFC 6665 §4.1.3).
    pub fn terminate(
        &mut self,
        _now: Instant,
        _subscription: SubscriptionId,
        _state: SubscriptionState,
        _headers: Headers,
        _body: Vec<u8>,
        _out: &mut Vec<Transmit>,
    ) {
        todo!()
    }

    /// Whether [`Self::notify`] would send: the subscription is accepted and no NOTIFY is under way.
    pub fn may_notify(&self, _subscription: SubscriptionId) -> bool {
        todo!()
    }

    /// Sends a request outside of dialogs over this flow. From's tag, Call-ID, CSeq and Max-Forwards
    /// are filled in if they are absent.
    pub fn send(
        &mut self,
        _now: Instant,
        _flow: Flow,
        _request: Request,
        _out: &mut Vec<Transmit>,
    ) -> Result<SentId, SendError> {
        todo!()
    }

    /// Sends a request within a dialog: INFO, REFER, MESSAGE, OPTIONS.
    pub fn send_within(
        &mut self,
        _now: Instant,
        _dialog: DialogId,
        _method: Method,
        _headers: Headers,
        _body: Vec<u8>,
        _out: &mut Vec<Transmit>,
    ) -> Result<SentId, SendError> {
        todo!()
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
