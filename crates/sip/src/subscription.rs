//! Subscriptions of peers (RFC 6665 §4.2, the notifier's side): SUBSCRIBE in, NOTIFY out.

use std::time::{Duration, Instant};

use crate::{
    dialog::append,
    endpoint::{
        DialogId, Endpoint, Event, RequestId, SendError, SentId, SubscriptionEnd, SubscriptionId,
        Usage,
    },
    flow::{Flow, Transmit, Transport},
    header::{self, Headers, Name, RetryAfter, SubscriptionState},
    message::{Method, Request, Response, Status},
    table::{Answer, Owner, Purpose},
};

/// How long a subscription lasts if neither side says (RFC 4575 §3.3), in seconds.
const DEFAULT_EXPIRES: u32 = 3600;

/// The usage of a dialog that a SUBSCRIBE makes.
#[derive(Debug)]
pub(crate) struct Subscription {
    dialog: DialogId,
    event: header::Event,
    phase: Phase,
    /// The SUBSCRIBE that the user has not answered.
    pending: Option<Pending>,
    /// When it ends unless it is refreshed.
    expires_at: Option<Instant>,
    /// The NOTIFY that the subscriber has not answered.
    outstanding: Option<SentId>,
    /// The last NOTIFY, which waits for that answer.
    last: Option<Report>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not accepted yet.
    New,
    /// Accepted.
    Active,
    /// Ended by the subscriber (`Expires: 0`), who is due one more report.
    LastReportDue,
    /// Ended; the last report is sent or waits.
    Over,
}

#[derive(Debug)]
struct Pending {
    id: RequestId,
    /// The Expires asked for, in seconds.
    asked: Option<u32>,
    contact: Headers,
}

#[derive(Debug)]
struct Report {
    state: SubscriptionState,
    headers: Headers,
    body: Vec<u8>,
}

/// What the user does.
impl Endpoint {
    /// Answers an [`Event::Subscribe`] or [`Event::Refresh`]. The Expires of a 2xx is shortened to
    /// what was asked for; without one, it is what was asked for, or an hour. A refusal of a refresh
    /// leaves the subscription as it was.
    pub fn answer_subscribe(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        mut response: Response,
        out: &mut Vec<Transmit>,
    ) {
        let Self { dialogs, subscriptions, transactions, .. } = self;
        let Some(held) = subscriptions.get_mut(&subscription) else { return };
        let Some(pending) = held.pending.take() else { return };
        let Some(dialog) = dialogs.get_mut(&held.dialog) else { return };
        let status = response.status;
        let asked = pending.asked.unwrap_or(DEFAULT_EXPIRES);
        let seconds = response.headers.expires().ok().flatten().unwrap_or(asked).min(asked);
        if status.is_success() {
            response.headers.set(Name::EXPIRES, seconds);
            dialog.dialog.own_contact(&mut response.headers);
            dialog.dialog.refresh(&pending.contact);
            held.phase = if seconds == 0 { Phase::LastReportDue } else { Phase::Active };
            held.expires_at = Some(now + Duration::from_secs(seconds.into()));
        }
        self.config.decorate(&mut response.headers, Name::SERVER);
        transactions.answer(now, pending.id, response, out);
        if !status.is_final() {
            held.pending = Some(pending);
        } else if !status.is_success() && held.phase == Phase::New {
            self.end_subscription(subscription);
        }
        self.wake_subscription(subscription);
    }

    /// Reports to a subscriber, one at a time: headers (Content-Type among them) and body. Event,
    /// Subscription-State and Contact are filled in. After `Expires: 0` this is the last report, and
    /// never [`SendError::Pending`].
    pub fn notify(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        headers: Headers,
        body: Vec<u8>,
        out: &mut Vec<Transmit>,
    ) -> Result<(), SendError> {
        let room = self.transactions.may_start();
        let held = self.subscriptions.get_mut(&subscription).ok_or(SendError::Unknown)?;
        match (held.phase, held.expires_at) {
            (Phase::Active, _) if held.outstanding.is_some() => Err(SendError::Pending),
            (Phase::Active, _) if !room => Err(SendError::Full),
            (Phase::Active, Some(at)) => {
                // Rounded up: a subscriber that refreshes in time must not be too late.
                let left = at.saturating_duration_since(now).as_millis().div_ceil(1000);
                let state = SubscriptionState::active(u32::try_from(left).unwrap_or(u32::MAX));
                self.report(now, subscription, Report { state, headers, body }, out);
                Ok(())
            }
            (Phase::LastReportDue, _) => {
                let state = SubscriptionState::terminated("timeout");
                self.close_subscription(now, subscription, Report { state, headers, body }, out);
                Ok(())
            }
            (Phase::New | Phase::Active | Phase::Over, _) => Err(SendError::Unknown),
        }
    }

    /// Ends a subscription with a last report, after the one that may be under way. `state` says why,
    /// such as `SubscriptionState::terminated("noresource")` (RFC 6665 §4.1.3).
    pub fn terminate(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        state: SubscriptionState,
        headers: Headers,
        body: Vec<u8>,
        out: &mut Vec<Transmit>,
    ) {
        let Some(held) = self.subscriptions.get(&subscription) else { return };
        match held.phase {
            Phase::New => {
                let response = Response::new(Status::FORBIDDEN);
                self.answer_subscribe(now, subscription, response, out);
            }
            Phase::Active | Phase::LastReportDue => {
                self.close_subscription(now, subscription, Report { state, headers, body }, out);
            }
            Phase::Over => {}
        }
    }

    /// Whether [`Self::notify`] would send: the subscription is accepted, and no NOTIFY is under way.
    pub fn may_notify(&self, subscription: SubscriptionId) -> bool {
        let held = self.subscriptions.get(&subscription);
        held.is_some_and(|held| match held.phase {
            Phase::Active => held.outstanding.is_none() && self.transactions.may_start(),
            Phase::LastReportDue => true,
            Phase::New | Phase::Over => false,
        })
    }
}

/// What peers and time do.
impl Endpoint {
    /// Takes a SUBSCRIBE, in a dialog or without one.
    pub(crate) fn handle_subscribe(
        &mut self,
        now: Instant,
        flow: Flow,
        within: Option<DialogId>,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let Ok(Some(event)) = request.headers.event() else {
            let response = Response::new(Status::BAD_REQUEST).with_reason("Event Header Needed");
            return self.conclude(now, flow, &request, response, out);
        };
        if let Err(error) = request.headers.expires() {
            let response = Response::new(Status::BAD_REQUEST).with_reason(&error.to_string());
            return self.conclude(now, flow, &request, response, out);
        }
        match within.and_then(|id| self.find_subscription(id, &event)) {
            Some(id) => self.handle_refresh(now, flow, id, request, out),
            None => self.handle_new_subscription(now, flow, within, event, request, out),
        }
    }

    /// Takes a REFER, in a dialog or without one: a subscription to what becomes of it (RFC 3515 §2.4.4),
    /// unless the peer wants none (RFC 4488 §4, RFC 7614 §5).
    pub(crate) fn handle_refer(
        &mut self,
        now: Instant,
        flow: Flow,
        within: Option<DialogId>,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let wanted = request.headers.get(&Name::REFER_SUB).and_then(|it| it.split(';').next());
        let unwanted = wanted.is_some_and(|it| it.trim().eq_ignore_ascii_case("false"));
        if unwanted || request.headers.requires("nosub") {
            return self.handle_other(now, flow, within, request, out);
        }
        let mut event = header::Event::new("refer");
        if let (Some(_), Ok(cseq)) = (within, request.headers.cseq()) {
            // Several of one dialog are told apart by it (RFC 3515 §2.4.6).
            event.params.set("id", Some(&cseq.number.to_string()));
        }
        self.handle_new_subscription(now, flow, within, event, request, out);
    }

    fn handle_new_subscription(
        &mut self,
        now: Instant,
        flow: Flow,
        within: Option<DialogId>,
        event: header::Event,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let (dialog, tag, new) = match within {
            Some(dialog) => (dialog, self.local_tag(dialog), None),
            None => {
                let Some((new, tag)) = self.new_dialog(flow, &request, out) else { return };
                (self.next_dialog_id(), tag, Some(new))
            }
        };
        if let Some(held) = self.dialogs.get(&dialog) {
            if held.call.as_ref().is_some_and(|call| call.is_ending()) {
                let response = Response::new(Status::CALL_DOES_NOT_EXIST);
                return self.conclude(now, flow, &request, response, out);
            }
            if held.subscriptions.len() >= self.config.limits.subscriptions_per_dialog {
                return self.overloaded(flow, &request, out);
            }
        }
        let id = self.next_subscription_id();
        let owner = Owner::Subscription(id);
        let Some(opened) = self.transactions.open(now, flow, &request, tag, owner) else {
            return self.overloaded(flow, &request, out);
        };
        if let Some(new) = new {
            self.insert_dialog(dialog, new, None);
        }
        if let Some(held) = self.dialogs.get_mut(&dialog) {
            held.subscriptions.insert(id);
        }
        let subscription = Subscription {
            dialog,
            event,
            phase: Phase::New,
            pending: Some(Pending::new(opened, &request)),
            expires_at: None,
            outstanding: None,
            last: None,
        };
        self.subscriptions.insert(id, subscription);
        self.events.push(Event::Subscribe { subscription: id, dialog, flow, request });
    }

    fn handle_refresh(
        &mut self,
        now: Instant,
        flow: Flow,
        id: SubscriptionId,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let Some(held) = self.subscriptions.get(&id) else { return };
        if held.pending.is_some() {
            let response = Response::new(Status::SERVER_INTERNAL_ERROR)
                .with(Name::RETRY_AFTER, RetryAfter::new(1));
            return self.conclude(now, flow, &request, response, out);
        }
        if held.phase != Phase::Active {
            let response = Response::new(Status::CALL_DOES_NOT_EXIST);
            return self.conclude(now, flow, &request, response, out);
        }
        let (tag, owner) = (self.local_tag(held.dialog), Owner::Subscription(id));
        let Some(opened) = self.transactions.open(now, flow, &request, tag, owner) else {
            return self.overloaded(flow, &request, out);
        };
        if let Some(held) = self.subscriptions.get_mut(&id) {
            held.pending = Some(Pending::new(opened, &request));
        }
        self.events.push(Event::Refresh { subscription: id, flow, request });
    }

    /// Takes the answer to a NOTIFY (RFC 6665 §4.2.2).
    pub(crate) fn handle_notify_answer(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        answer: &Answer,
        out: &mut Vec<Transmit>,
    ) {
        let status = answer.response.status;
        let Some(held) = self.subscriptions.get_mut(&id) else { return };
        if !status.is_final() || held.outstanding != Some(answer.id) {
            return;
        }
        held.outstanding = None;
        if let Some(dialog) = self.dialogs.get_mut(&held.dialog) {
            // TCP was tried for its length, in vain.
            dialog.dialog.datagrams_only |= answer.moved && answer.flow.transport == Transport::Udp;
            if status.is_success() {
                dialog.dialog.refresh(&answer.response.headers);
            }
        }
        let lost = answer.local || ends_subscription(status);
        match (held.phase, held.last.take()) {
            (Phase::Over, Some(last)) if !lost => self.report(now, id, last, out),
            (Phase::Over, _) => self.end_subscription(id),
            (Phase::LastReportDue, _) if !lost => {}
            (Phase::New | Phase::Active | Phase::LastReportDue, _) if lost => {
                self.refuse_pending(now, id, out);
                self.end_subscription(id);
                let why = SubscriptionEnd::Status(status);
                self.events.push(Event::Unsubscribed { subscription: id, why });
            }
            (Phase::New | Phase::Active | Phase::LastReportDue, _) => {
                self.events.push(Event::Notified { subscription: id, status });
            }
        }
    }

    /// Ends a subscription that was not refreshed, or whose last report the user left out.
    pub(crate) fn handle_expiry(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        out: &mut Vec<Transmit>,
    ) {
        let Some(held) = self.subscriptions.get(&id) else { return };
        if held.expires_at.is_none_or(|at| at > now) {
            return self.wake_subscription(id);
        }
        self.refuse_pending(now, id, out);
        let state = SubscriptionState::terminated("timeout");
        let report = Report { state, headers: Headers::new(), body: vec![] };
        self.close_subscription(now, id, report, out);
        let why = SubscriptionEnd::Expired;
        self.events.push(Event::Unsubscribed { subscription: id, why });
    }

    /// Forgets a SUBSCRIBE that the user never answered, and the subscription if it was the first.
    pub(crate) fn handle_unanswered_subscribe(&mut self, id: SubscriptionId) {
        let Some(held) = self.subscriptions.get_mut(&id) else { return };
        held.pending = None;
        if held.phase == Phase::New {
            self.end_subscription(id);
        }
    }

    fn find_subscription(&self, dialog: DialogId, event: &header::Event) -> Option<SubscriptionId> {
        let same = |id: &&SubscriptionId| {
            self.subscriptions.get(id).is_some_and(|held| {
                held.phase != Phase::Over
                    && held.event.package.eq_ignore_ascii_case(&event.package)
                    && held.event.id() == event.id()
            })
        };
        self.dialogs.get(&dialog)?.subscriptions.iter().find(same).copied()
    }

    /// Answers a refresh that came too late.
    fn refuse_pending(&mut self, now: Instant, id: SubscriptionId, out: &mut Vec<Transmit>) {
        let held = self.subscriptions.get_mut(&id);
        if let Some(pending) = held.and_then(|held| held.pending.take()) {
            let response = Response::new(Status::CALL_DOES_NOT_EXIST);
            self.respond(now, pending.id, response, out);
        }
    }

    /// Sends the last report, or keeps it until the one under way is answered.
    fn close_subscription(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        report: Report,
        out: &mut Vec<Transmit>,
    ) {
        let Some(held) = self.subscriptions.get_mut(&id) else { return };
        held.phase = Phase::Over;
        held.expires_at = None;
        if held.outstanding.is_some() {
            held.last = Some(report);
        } else {
            self.report(now, id, report, out);
        }
        self.wake_subscription(id);
    }

    fn report(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        report: Report,
        out: &mut Vec<Transmit>,
    ) {
        let Some(held) = self.subscriptions.get(&id) else { return };
        let (dialog, event) = (held.dialog, held.event.clone());
        let Some(found) = self.dialogs.get_mut(&dialog) else { return };
        let mut request = found
            .dialog
            .request(Method::Notify)
            .with(Name::EVENT, event)
            .with(Name::SUBSCRIPTION_STATE, report.state);
        append(&mut request.headers, &report.headers);
        found.dialog.own_contact(&mut request.headers);
        request.body = report.body;
        let sent = self.send_in(now, dialog, request, Purpose::Notify(id), out);
        let Some(held) = self.subscriptions.get_mut(&id) else { return };
        held.outstanding = sent;
        if sent.is_none() && held.phase == Phase::Over {
            self.end_subscription(id);
        }
    }

    /// Forgets a subscription, and its dialog if nothing else needs it.
    fn end_subscription(&mut self, id: SubscriptionId) {
        let Some(held) = self.subscriptions.remove(&id) else { return };
        if let Some(dialog) = self.dialogs.get_mut(&held.dialog) {
            dialog.subscriptions.remove(&id);
        }
        self.wake_subscription(id);
        self.drop_if_unused(held.dialog);
    }

    /// Sets when [`Self::handle_expiry`] is next due.
    fn wake_subscription(&mut self, id: SubscriptionId) {
        let at = self.subscriptions.get(&id).and_then(|held| held.expires_at);
        self.agenda.set(Usage::Subscription(id), at);
    }
}

impl Pending {
    fn new(id: RequestId, request: &Request) -> Self {
        let asked = request.headers.expires().ok().flatten();
        let mut contact = Headers::new();
        contact.copy(&request.headers, &Name::CONTACT);
        Self { id, asked, contact }
    }
}

/// Whether the subscription is gone when its NOTIFY is answered so (RFC 6665 §4.2.2). 408 is no less
/// than the silence that it tells of.
fn ends_subscription(status: Status) -> bool {
    matches!(status.code(), 404 | 405 | 408 | 410 | 416 | 480..=485 | 489 | 501 | 604)
}
