//! Calls (RFC 3261 §9, §13 to §15): INVITE and re-INVITE both ways, ACK, CANCEL, BYE.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::{
    dialog::{Dialog, append},
    endpoint::{DialogId, End, Endpoint, Event, RequestId, SendError, SentId, Stage, Usage},
    flow::{Flow, Transmit},
    header::{Headers, Name, Reason, RetryAfter},
    message::{Method, Request, Response, Status},
    reliable::{Heard, Overdue, Reliable},
    session::{Asked, Session, min_se},
    table::{Answer, Owner, Purpose, Route, way_back},
    transaction::{GIVE_UP, T1, T2},
};

/// The INVITE usage of a dialog.
#[derive(Debug)]
pub(crate) struct Call {
    state: CallState,
    /// Whether we called: then the Call-ID is ours, and we wait longer after glare (§14.1).
    caller: bool,
    /// The peer's INVITE that we have not answered.
    inbound: Option<Inbound>,
    /// Our INVITE that the peer has not answered.
    outbound: Option<Outbound>,
    /// Our 2xx that the peer has not confirmed.
    unacked: Option<Unacked>,
    /// The ACK for the peer's last 2xx.
    ack: Option<Ack>,
    /// When glare may be tried again.
    retry_at: Option<Instant>,
    /// What goes with a BYE that waits for an ACK (§15).
    bye: Option<Headers>,
    /// Our reliable answers to the peer's INVITE, if it demands them.
    pub(crate) reliable: Option<Reliable>,
    /// The peer's to ours.
    heard: Heard,
    /// The peer's UPDATE that we have not answered.
    pub(crate) update: Option<Update>,
    /// Whether the peer takes UPDATE of ours (RFC 3311 §4).
    pub(crate) takes_update: bool,
    /// Until when it lasts; `None` before it is up, or for ever.
    pub(crate) session: Option<Session>,
    /// The least that somebody on the way wants it to last, in seconds.
    pub(crate) min_se: u32,
    /// Whether an UPDATE of ours is under way that refreshes it.
    pub(crate) refreshing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    /// One side is called and has not answered.
    Ringing,
    /// Answered.
    Up,
    /// The user gave up calling, and the peer has not answered yet.
    Cancelling,
    /// The user is done with it, and a BYE is under way or waits for an ACK.
    Ending,
}

#[derive(Debug)]
struct Inbound {
    id: RequestId,
    cseq: u32,
    /// It came without a body: our 2xx holds the offer, the ACK the answer (§13.2.1).
    wants_offer: bool,
    contact: Headers,
    asked: Asked,
}

/// An UPDATE, or a PRACK with an offer.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) method: Method,
    pub(crate) contact: Headers,
    pub(crate) asked: Asked,
}

#[derive(Debug)]
struct Outbound {
    id: SentId,
    /// What goes with a CANCEL that waits for a provisional answer (§9.1).
    cancel: Option<Headers>,
}

/// A 2xx that is sent again until the ACK comes, on any transport (§13.3.1.4).
#[derive(Debug)]
struct Unacked {
    id: RequestId,
    cseq: u32,
    offered: bool,
    interval: Duration,
    resend_at: Instant,
    give_up_at: Instant,
}

#[derive(Debug)]
struct Ack {
    cseq: u32,
    /// `None` until the user has said what is in it.
    sent: Option<Transmit>,
}

impl Call {
    fn new(caller: bool) -> Self {
        Self {
            state: CallState::Ringing,
            caller,
            inbound: None,
            outbound: None,
            unacked: None,
            ack: None,
            retry_at: None,
            bye: None,
            reliable: None,
            heard: Heard::default(),
            update: None,
            takes_update: false,
            session: None,
            min_se: 0,
            refreshing: false,
        }
    }

    /// Whether the user is done with it.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.state, CallState::Cancelling | CallState::Ending)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let unacked =
            self.unacked.as_ref().map(|unacked| unacked.resend_at.min(unacked.give_up_at));
        let reliable = self.reliable.as_ref().and_then(Reliable::poll_timeout);
        let session = self.session.as_ref().map(Session::poll_timeout);
        [unacked, self.retry_at, reliable, session].into_iter().flatten().min()
    }

    /// Whether an INVITE is under way, in either direction.
    pub(crate) fn is_pending(&self) -> bool {
        let unconfirmed = self.ack.as_ref().is_some_and(|ack| ack.sent.is_none());
        let pending = self.inbound.is_some() || self.outbound.is_some() || self.unacked.is_some();
        pending || unconfirmed
    }

    /// Whether an offer of the peer's waits for our answer.
    pub(crate) fn owes_answer(&self) -> bool {
        self.inbound.is_some() || self.update.is_some()
    }

    /// Whether an offer of ours waits for the peer's answer, or is about to be made.
    pub(crate) fn awaits_answer(&self) -> bool {
        let unconfirmed = self.ack.as_ref().is_some_and(|ack| ack.sent.is_none());
        self.outbound.is_some() || unconfirmed || self.unacked.as_ref().is_some_and(|it| it.offered)
    }

    /// How far it has got.
    pub(crate) fn stage(&self) -> Stage {
        match self.state {
            CallState::Ringing if self.caller => Stage::Calling,
            CallState::Ringing => Stage::Called,
            CallState::Up => Stage::Confirmed,
            CallState::Cancelling | CallState::Ending => Stage::Over,
        }
    }

    /// Whether it is answered, and nobody has ended it.
    pub(crate) fn is_up(&self) -> bool {
        self.state == CallState::Up
    }

    /// Takes note of what the peer can do.
    fn note_allow(&mut self, headers: &Headers) {
        if let Ok(Some(methods)) = headers.allow() {
            self.takes_update = methods.contains(&Method::Update);
        }
    }
}

/// What the user does.
impl Endpoint {
    /// Answers an [`Event::Invite`] or [`Event::Reinvite`]. A 1xx is sent again until it has arrived if
    /// the peer demands that (RFC 3262); what is answered meanwhile may have to wait for it. To an INVITE
    /// without an offer, a 1xx goes without a body.
    pub fn answer(
        &mut self,
        now: Instant,
        dialog: DialogId,
        mut response: Response,
        out: &mut Vec<Transmit>,
    ) {
        let timer = self.config.session;
        let Some((held, call)) = self.call(dialog) else { return };
        let Some(inbound) = call.inbound.take() else { return };
        let status = response.status;
        let ringing = call.state == CallState::Ringing;
        if status.is_provisional() && inbound.wants_offer {
            response.body = vec![];
            response.headers.remove(&Name::CONTENT_TYPE);
        }
        if let Some(reliable) = &mut call.reliable {
            let Some(admitted) = reliable.admit(now, response) else {
                call.inbound = Some(inbound);
                return;
            };
            response = admitted;
        }
        if (status.is_provisional() && status != Status::TRYING) || status.is_success() {
            held.own_contact(&mut response.headers);
        }
        if let Some(timer) = timer.filter(|_| status.is_success()) {
            let granted = timer.grant(now, inbound.asked, call.session, &mut response.headers);
            call.session = Some(granted);
        }
        self.config.decorate(&mut response.headers, Name::SERVER);
        let sent = self.transactions.answer(now, inbound.id, response, out);
        let Some((held, call)) = self.call(dialog) else { return };
        if !status.is_final() {
            call.inbound = Some(inbound);
        } else if status.is_success() && sent {
            call.state = CallState::Up;
            call.unacked = Some(Unacked {
                id: inbound.id,
                cseq: inbound.cseq,
                offered: inbound.wants_offer,
                interval: T1,
                resend_at: now + T1,
                give_up_at: now + GIVE_UP,
            });
            held.refresh(&inbound.contact);
        } else if ringing {
            return self.end_call(dialog);
        }
        self.wake_call(dialog);
    }

    /// Calls somebody over this flow. From's tag, Call-ID, CSeq, Contact and Max-Forwards are filled
    /// in if they are absent. Without a body, the call asks for an offer.
    pub fn invite(
        &mut self,
        now: Instant,
        flow: Flow,
        mut request: Request,
        out: &mut Vec<Transmit>,
    ) -> Result<DialogId, SendError> {
        if !self.may_open() {
            return Err(SendError::Full);
        }
        self.address(&mut request)?;
        let min = min_se(&request.headers).unwrap_or_default();
        self.ask_for_time(&mut request.headers, true, min);
        let dialog = Dialog::of_client(&request, flow).map_err(|_| SendError::Malformed)?;
        if !request.headers.contains(&Name::CONTACT) {
            request.headers.push(Name::CONTACT, &dialog.contact);
        }
        let id = self.next_dialog_id();
        self.insert_dialog(id, dialog, Some(Call::new(true)));
        let branch = self.branch();
        let purpose = Purpose::Invite(id);
        let sent = self.transactions.start(now, request, branch, Route::only(flow), purpose, out);
        let Some((_, call)) = self.call(id) else { return Err(SendError::Unknown) };
        call.outbound = sent.map(|id| Outbound { id, cancel: None });
        call.min_se = min;
        Ok(id)
    }

    /// Changes the session: sends a re-INVITE with these headers (Content-Type among them) and body.
    pub fn reinvite(
        &mut self,
        now: Instant,
        dialog: DialogId,
        headers: Headers,
        body: Vec<u8>,
        out: &mut Vec<Transmit>,
    ) -> Result<(), SendError> {
        let room = self.transactions.may_start();
        let (held, call) = self.call(dialog).ok_or(SendError::Unknown)?;
        match call.state {
            CallState::Up if !room => return Err(SendError::Full),
            CallState::Up => {}
            CallState::Ringing | CallState::Cancelling | CallState::Ending => {
                return Err(SendError::Unknown);
            }
        }
        if call.is_pending() || call.update.is_some() || call.refreshing {
            return Err(SendError::Pending);
        }
        call.retry_at = None;
        let (contact, min) = (held.contact.clone(), call.min_se);
        let ours = call.session.is_none_or(|session| session.ours);
        let mut request = held.request(Method::Invite).with(Name::CONTACT, contact);
        append(&mut request.headers, &headers);
        request.body = body;
        self.ask_for_time(&mut request.headers, ours, min);
        let sent = self.send_in(now, dialog, request, Purpose::Invite(dialog), out);
        if let Some((_, call)) = self.call(dialog) {
            call.outbound = sent.map(|id| Outbound { id, cancel: None });
        }
        self.wake_call(dialog);
        Ok(())
    }

    /// Confirms an [`Event::Answered`], with an answer in the body if the 2xx held an offer.
    pub fn ack(
        &mut self,
        dialog: DialogId,
        headers: Headers,
        body: Vec<u8>,
        out: &mut Vec<Transmit>,
    ) {
        let Some((_, call)) = self.call(dialog) else { return };
        let Some(Ack { cseq, sent: None }) = call.ack else { return };
        let branch = self.branch();
        let Some((held, call)) = self.call(dialog) else { return };
        let mut request = held.ack(cseq);
        append(&mut request.headers, &headers);
        request.body = body;
        let transmit = held.transmit(request, &branch);
        out.push(transmit.clone());
        call.ack = Some(Ack { cseq, sent: Some(transmit) });
    }

    /// Ends a call, whatever its state: by BYE when it is up (after the ACK, if one is to come), by
    /// CANCEL when we call, by 480 when the peer does. `headers` go with it, such as Reason. Other
    /// requests that are pending are given up.
    pub fn bye(
        &mut self,
        now: Instant,
        dialog: DialogId,
        headers: Headers,
        out: &mut Vec<Transmit>,
    ) {
        let Some((_, call)) = self.call(dialog) else { return };
        match call.state {
            CallState::Cancelling | CallState::Ending => {}
            CallState::Ringing if call.inbound.is_some() => {
                let mut response = Response::new(Status::TEMPORARILY_UNAVAILABLE);
                append(&mut response.headers, &headers);
                self.answer(now, dialog, response, out);
            }
            CallState::Ringing => self.cancel(now, dialog, headers, out),
            CallState::Up => self.hang_up(now, dialog, headers, out),
        }
    }

    /// Gives up an INVITE of ours: at once if it rings, else when it does (§9.1).
    fn cancel(&mut self, now: Instant, id: DialogId, headers: Headers, out: &mut Vec<Transmit>) {
        let Some((_, call)) = self.call(id) else { return };
        call.state = CallState::Cancelling;
        let Some(outbound) = &mut call.outbound else { return self.end_call(id) };
        outbound.cancel = Some(headers);
        self.try_cancel(now, id, out);
    }

    fn try_cancel(&mut self, now: Instant, id: DialogId, out: &mut Vec<Transmit>) {
        let Self { dialogs, transactions, .. } = self;
        let call = dialogs.get_mut(&id).and_then(|held| held.call.as_mut());
        let Some(outbound) = call.and_then(|call| call.outbound.as_mut()) else { return };
        if !transactions.is_proceeding(outbound.id) {
            return;
        }
        if let Some(headers) = outbound.cancel.take() {
            transactions.cancel(now, outbound.id, &headers, out);
        }
    }

    /// Ends a call that is up. No BYE overtakes the peer's ACK, since it might not know the dialog
    /// yet (§15).
    pub(crate) fn hang_up(
        &mut self,
        now: Instant,
        id: DialogId,
        headers: Headers,
        out: &mut Vec<Transmit>,
    ) {
        self.refuse_inbound(now, id, out);
        let Some((_, call)) = self.call(id) else { return };
        if call.unacked.is_some() {
            (call.state, call.session) = (CallState::Ending, None);
            call.bye = Some(headers);
            return;
        }
        if call.ack.as_ref().is_some_and(|ack| ack.sent.is_none()) {
            self.ack(id, Headers::new(), vec![], out);
        }
        self.send_bye(now, id, headers, out);
    }
}

/// What peers do.
impl Endpoint {
    /// Takes an INVITE outside of dialogs.
    pub(crate) fn handle_invite(
        &mut self,
        now: Instant,
        flow: Flow,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let Some((dialog, tag)) = self.new_dialog(flow, &request, out) else { return };
        let mut call = Call::new(false);
        call.note_allow(&request.headers);
        call.reliable = self.reliable(&request);
        let id = self.next_dialog_id();
        let opened = self.transactions.open(now, flow, &request, tag, Owner::Call(id));
        let Some(inbound) = opened.and_then(|id| Inbound::new(id, &request)) else {
            return self.overloaded(flow, &request, out);
        };
        call.inbound = Some(inbound);
        self.insert_dialog(id, dialog, Some(call));
        self.events.push(Event::Invite { dialog: id, flow, request });
    }

    /// Takes an INVITE within a dialog.
    pub(crate) fn handle_reinvite(
        &mut self,
        now: Instant,
        flow: Flow,
        id: DialogId,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        if let Some(refusal) = self.refuses_offer(id) {
            return self.conclude(now, flow, &request, refusal, out);
        }
        let tag = self.local_tag(id);
        let reliable = self.reliable(&request);
        let opened = self.transactions.open(now, flow, &request, tag, Owner::Call(id));
        let Some(inbound) = opened.and_then(|id| Inbound::new(id, &request)) else {
            return self.overloaded(flow, &request, out);
        };
        let Some((_, call)) = self.call(id) else { return };
        call.inbound = Some(inbound);
        call.reliable = reliable;
        call.note_allow(&request.headers);
        // Nobody changes a session that it does not know of: only the ACK was lost.
        if call.unacked.take().is_some() {
            self.wake_call(id);
            self.events.push(Event::Ack { dialog: id, request: None });
        }
        self.events.push(Event::Reinvite { dialog: id, flow, request });
    }

    /// Refuses an offer of the peer's for which it is not the time (§14.2, RFC 3311 §5.2).
    pub(crate) fn refuses_offer(&mut self, id: DialogId) -> Option<Response> {
        let wait = self.rng.random_range(0..=10);
        let Some((_, call)) = self.call(id).filter(|(_, call)| !call.is_ending()) else {
            return Some(Response::new(Status::CALL_DOES_NOT_EXIST));
        };
        if call.owes_answer() {
            let response = Response::new(Status::SERVER_INTERNAL_ERROR);
            return Some(response.with(Name::RETRY_AFTER, RetryAfter::new(wait)));
        }
        call.awaits_answer().then(|| Response::new(Status::REQUEST_PENDING))
    }

    /// Takes an ACK that is not a transaction's (§13.3.1.4).
    pub(crate) fn handle_ack(
        &mut self,
        now: Instant,
        flow: Flow,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let Some(id) = self.find_dialog(&request) else { return };
        let Some((held, call)) = self.call(id) else { return };
        let number = request.headers.cseq().map(|cseq| cseq.number).ok();
        if call.unacked.take_if(|unacked| Some(unacked.cseq) == number).is_none() {
            return;
        }
        held.flow = way_back(flow, &request);
        let bye = call.bye.take();
        self.wake_call(id);
        match bye {
            Some(headers) => self.send_bye(now, id, headers, out),
            None => self.events.push(Event::Ack { dialog: id, request: Some(request) }),
        }
    }

    /// Takes a CANCEL (§9.2). Its own answer needs no transaction: a copy is answered alike.
    pub(crate) fn handle_cancel(
        &mut self,
        now: Instant,
        flow: Flow,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let Some((invite, owner, tag)) = self.transactions.find_cancelled(&request) else {
            return self.reject(flow, &request, Response::new(Status::CALL_DOES_NOT_EXIST), out);
        };
        let tag = tag.to_owned();
        self.reply(flow, &request, Response::new(Status::OK), &tag, out);
        let (Owner::Call(id), true) = (owner, self.transactions.is_waiting(invite)) else { return };
        self.refuse_inbound(now, id, out);
        let Some((_, call)) = self.call(id) else { return };
        if call.state == CallState::Ringing {
            self.end_call(id);
            self.events.push(Event::Ended { dialog: id, why: End::Cancelled(request) });
        } else {
            self.events.push(Event::ReinviteCancelled { dialog: id });
        }
    }

    /// Takes a BYE within a dialog (§15.1.2).
    pub(crate) fn handle_bye(
        &mut self,
        now: Instant,
        flow: Flow,
        id: DialogId,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let Some((_, call)) = self.call(id) else {
            let response = Response::new(Status::CALL_DOES_NOT_EXIST);
            return self.conclude(now, flow, &request, response, out);
        };
        let reported = !call.is_ending();
        self.conclude(now, flow, &request, Response::new(Status::OK), out);
        self.refuse_inbound(now, id, out);
        self.end_call(id);
        if reported {
            self.events.push(Event::Ended { dialog: id, why: End::Bye(request) });
        }
    }

    /// Takes an answer to our INVITE or re-INVITE.
    pub(crate) fn handle_invite_answer(
        &mut self,
        now: Instant,
        id: DialogId,
        answer: Answer,
        out: &mut Vec<Transmit>,
    ) {
        let status = answer.response.status;
        if status.is_success() {
            return self.handle_accepted(now, id, answer, out);
        }
        let Some((held, call)) = self.call(id) else { return };
        let (state, caller) = (call.state, call.caller);
        if call.outbound.as_ref().is_none_or(|outbound| outbound.id != answer.id) {
            return;
        }
        if status.is_provisional() {
            if !call.heard.is_next(&answer.response) {
                return;
            }
            call.note_allow(&answer.response.headers);
            let early = answer.response.headers.to_tag().is_ok_and(|tag| tag.is_some());
            if state == CallState::Ringing && early && held.confirm(&answer.response).is_ok() {
                self.rekey(id);
            }
            if matches!(state, CallState::Ringing | CallState::Up) {
                self.acknowledge(now, id, &answer.response, out);
            }
            if state == CallState::Cancelling {
                self.try_cancel(now, id, out);
            } else if state == CallState::Ending {
                // The call is over, and so is its re-INVITE.
            } else if status != Status::TRYING {
                self.events.push(Event::Progress { dialog: id, response: answer.response });
            }
            return;
        }
        call.outbound = None;
        match state {
            CallState::Ringing => {
                self.end_call(id);
                let why = End::Refused(answer.response);
                self.events.push(Event::Ended { dialog: id, why });
            }
            CallState::Cancelling => self.end_call(id),
            CallState::Ending => {}
            CallState::Up if status == Status::REQUEST_PENDING => {
                // §14.1, in its units of 10 ms.
                let units = if caller { 210..=400 } else { 0..=200 };
                let wait = Duration::from_millis(10 * self.rng.random_range(units));
                if let Some((_, call)) = self.call(id) {
                    call.retry_at = Some(now + wait);
                }
                self.wake_call(id);
            }
            CallState::Up => {
                if !self.end_if_gone(now, id, &answer, out) {
                    self.note_too_brief(now, id, &answer.response);
                    let response = answer.response;
                    self.events.push(Event::Refused { dialog: id, response });
                }
            }
        }
    }

    /// Takes a 2xx to our INVITE or re-INVITE: the first, a copy, or that of another branch.
    fn handle_accepted(
        &mut self,
        now: Instant,
        id: DialogId,
        answer: Answer,
        out: &mut Vec<Transmit>,
    ) {
        let headers = &answer.response.headers;
        let number = headers.cseq().map_or(0, |cseq| cseq.number);
        let tag = headers.to_tag().ok().flatten().unwrap_or_default();
        let Some((held, call)) = self.call(id) else { return self.decline(now, answer, out) };
        let known = held.key.remote_tag == tag;
        if let Some(ack) = call.ack.as_ref().filter(|ack| known && ack.cseq == number) {
            // The peer has not got our ACK (§13.2.2.4).
            return out.extend(ack.sent.clone());
        }
        if call.outbound.take_if(|outbound| outbound.id == answer.id).is_none() {
            if !known {
                return self.decline(now, answer, out);
            }
            // A copy that a later re-INVITE has overtaken.
            let ack = held.ack(number);
            let branch = self.branch();
            let transmit = self.dialogs.get(&id).map(|held| held.dialog.transmit(ack, &branch));
            return out.extend(transmit);
        }
        let state = call.state;
        call.ack = Some(Ack { cseq: number, sent: None });
        if matches!(state, CallState::Up | CallState::Ending) {
            held.refresh(headers);
        } else if held.confirm(&answer.response).is_err() {
            // Not even a BYE can be made of it.
            self.end_call(id);
            let why = End::Gone(answer.response);
            return self.events.push(Event::Ended { dialog: id, why });
        }
        self.rekey(id);
        match state {
            // It was answered while it was being cancelled.
            CallState::Cancelling => {
                self.ack(id, Headers::new(), vec![], out);
                return self.send_bye(now, id, Headers::new(), out);
            }
            CallState::Ending => return self.ack(id, Headers::new(), vec![], out),
            CallState::Ringing | CallState::Up => {}
        }
        let timer = self.config.session;
        if let Some((_, call)) = self.call(id) {
            call.state = CallState::Up;
            call.note_allow(&answer.response.headers);
            let min = call.min_se;
            call.session = timer.map(|it| it.granted(now, min, &answer.response.headers));
        }
        self.wake_call(id);
        self.events.push(Event::Answered { dialog: id, response: answer.response });
    }

    /// Ends the call that a 2xx makes which nobody wants: ACK, then BYE (§13.2.2.4).
    fn decline(&mut self, now: Instant, answer: Answer, out: &mut Vec<Transmit>) {
        let Ok(mut dialog) = Dialog::of_client(&answer.request, answer.flow) else { return };
        let Ok(cseq) = answer.response.headers.cseq() else { return };
        if dialog.confirm(&answer.response).is_err() {
            return;
        }
        let ack = dialog.ack(cseq.number);
        let branch = self.branch();
        out.push(dialog.transmit(ack, &branch));
        let bye = dialog.request(Method::Bye);
        let branch = self.branch();
        self.transactions.start(now, bye, branch, dialog.route(0), Purpose::Nobody, out);
    }

    /// Ends a call if the answer to a request in it tells that the peer has lost it (§12.2.1.2).
    pub(crate) fn end_if_gone(
        &mut self,
        now: Instant,
        id: DialogId,
        answer: &Answer,
        out: &mut Vec<Transmit>,
    ) -> bool {
        let status = answer.response.status;
        let gone = matches!(status, Status::CALL_DOES_NOT_EXIST | Status::REQUEST_TIMEOUT);
        if !(gone || answer.local) || self.call(id).is_none_or(|(_, call)| call.is_ending()) {
            return false;
        }
        self.refuse_inbound(now, id, out);
        self.send_bye(now, id, Headers::new(), out);
        let why = End::Gone(answer.response.clone());
        self.events.push(Event::Ended { dialog: id, why });
        true
    }

    /// Does what is due in a call at `now`.
    pub(crate) fn handle_call_timeout(
        &mut self,
        now: Instant,
        id: DialogId,
        out: &mut Vec<Transmit>,
    ) {
        let Some((_, call)) = self.call(id) else { return };
        if call.retry_at.take_if(|at| *at <= now).is_some() {
            self.events.push(Event::Retry { dialog: id });
        }
        self.handle_unconfirmed(now, id, out);
        self.handle_session_timeout(now, id, out);
        let Some((_, call)) = self.call(id) else { return };
        let Some(unacked) = &mut call.unacked else { return self.wake_call(id) };
        if unacked.give_up_at <= now {
            call.unacked = None;
            let reported = !call.is_ending();
            let bye = call.bye.take().unwrap_or_else(|| {
                let mut headers = Headers::new();
                headers.push(Name::REASON, Reason::sip(408, "No ACK"));
                headers
            });
            self.refuse_inbound(now, id, out);
            self.send_bye(now, id, bye, out);
            if reported {
                self.events.push(Event::Ended { dialog: id, why: End::NoAck });
            }
        } else if unacked.resend_at <= now {
            unacked.interval = (unacked.interval * 2).min(T2);
            unacked.resend_at = (unacked.resend_at + unacked.interval).max(now);
            let request = unacked.id;
            self.transactions.resend(request, out);
        }
        self.wake_call(id);
    }

    /// Sends a reliable 1xx again that nobody confirms, or refuses the INVITE (RFC 3262 §3).
    fn handle_unconfirmed(&mut self, now: Instant, id: DialogId, out: &mut Vec<Transmit>) {
        let Some((_, call)) = self.call(id) else { return };
        let overdue = call.reliable.as_mut().and_then(|reliable| reliable.handle_timeout(now));
        let Some(inbound) = call.inbound.as_ref().map(|inbound| inbound.id) else { return };
        let ringing = call.state == CallState::Ringing;
        match overdue {
            Some(Overdue::Resend) => self.transactions.resend(inbound, out),
            Some(Overdue::GiveUp) => {
                let response = Response::new(Status::SERVER_TIMEOUT).with_reason("No PRACK");
                self.answer(now, id, response, out);
                if ringing {
                    self.events.push(Event::Ended { dialog: id, why: End::NoPrack });
                } else {
                    self.events.push(Event::ReinviteCancelled { dialog: id });
                }
            }
            None => {}
        }
    }

    /// Answers an INVITE that the user left ringing for too long.
    pub(crate) fn handle_unanswered(
        &mut self,
        now: Instant,
        id: DialogId,
        out: &mut Vec<Transmit>,
    ) {
        let Some((_, call)) = self.call(id) else { return };
        let ringing = call.state == CallState::Ringing;
        call.reliable = None;
        self.answer(now, id, Response::new(Status::TEMPORARILY_UNAVAILABLE), out);
        if ringing {
            self.events.push(Event::Ended { dialog: id, why: End::NotAnswered });
        }
    }

    /// Refuses the peer's INVITE that is pending, if one is, since it or the call is given up.
    fn refuse_inbound(&mut self, now: Instant, id: DialogId, out: &mut Vec<Transmit>) {
        let Some((_, call)) = self.call(id) else { return };
        call.reliable = None;
        if let Some(inbound) = call.inbound.take() {
            let mut response = Response::new(Status::REQUEST_TERMINATED);
            self.config.decorate(&mut response.headers, Name::SERVER);
            self.transactions.answer(now, inbound.id, response, out);
        }
    }

    /// Sends BYE. The dialog stays until it is answered, to answer one of the peer's that crosses it.
    fn send_bye(&mut self, now: Instant, id: DialogId, headers: Headers, out: &mut Vec<Transmit>) {
        let Some((held, call)) = self.call(id) else { return };
        call.state = CallState::Ending;
        (call.unacked, call.retry_at, call.session) = (None, None, None);
        let mut request = held.request(Method::Bye);
        append(&mut request.headers, &headers);
        let sent = self.send_in(now, id, request, Purpose::Bye(id), out);
        self.wake_call(id);
        if sent.is_none() {
            self.end_call(id);
        }
    }

    /// Forgets a call, and its dialog if nothing else needs it.
    pub(crate) fn end_call(&mut self, id: DialogId) {
        if let Some(held) = self.dialogs.get_mut(&id) {
            held.call = None;
        }
        self.wake_call(id);
        self.drop_if_unused(id);
    }

    /// A call and the dialog that it is in.
    pub(crate) fn call(&mut self, id: DialogId) -> Option<(&mut Dialog, &mut Call)> {
        let held = self.dialogs.get_mut(&id)?;
        Some((&mut held.dialog, held.call.as_mut()?))
    }

    /// Sets when [`Self::handle_call_timeout`] is next due.
    pub(crate) fn wake_call(&mut self, id: DialogId) {
        let at = self.call(id).and_then(|(_, call)| call.poll_timeout());
        self.agenda.set(Usage::Call(id), at);
    }
}

impl Inbound {
    fn new(id: RequestId, request: &Request) -> Option<Self> {
        let cseq = request.headers.cseq().ok()?.number;
        let mut contact = Headers::new();
        contact.copy(&request.headers, &Name::CONTACT);
        let asked = Asked::new(&request.headers);
        Some(Self { id, cseq, wants_offer: request.body.is_empty(), contact, asked })
    }
}
