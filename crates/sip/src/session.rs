//! Session timers (RFC 4028): a call that nobody refreshes is over at both ends, however it got lost.
//!
//! [`Session`] is until when one lasts and who refreshes it. It is agreed on anew by each 2xx to INVITE
//! and UPDATE, in headers alone. When its time comes, we send UPDATE, or have the user send a re-INVITE if the peer
//! takes none.
//!
//! We see to the refreshing unless the peer wants to: so a peer that knows nothing of session timers, or
//! has forgotten the call, is found out as well (§9, Table 2).

use std::time::{Duration, Instant};

use crate::{
    endpoint::{DialogId, End, Endpoint, Event},
    flow::Transmit,
    header::{Headers, Name, Reason, Refresher, SessionExpires},
    message::{Method, Request, Response, Status},
    table::{Answer, Purpose},
};

/// How long sessions last that nobody refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    /// What is asked for and granted at most, in seconds; 1800 is what §4 recommends.
    pub interval: u32,
    /// The least that is granted, in seconds; no less than 90 (§4).
    pub min: u32,
}

/// What a request says of the session's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    supports: bool,
    seconds: Option<u32>,
    refresher: Option<Refresher>,
    min: u32,
}

/// A session's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// Whether we refresh it.
    pub(crate) ours: bool,
    /// When we are to refresh it next.
    pub(crate) refresh_at: Option<Instant>,
    /// When it is over.
    end_at: Instant,
}

impl SessionTimer {
    /// Refuses a request for a session that is too short (§9).
    pub(crate) fn refuses(self, request: &Request) -> Option<Response> {
        if !matches!(request.method, Method::Invite | Method::Update) {
            return None;
        }
        let asked = request.headers.session_expires().ok().flatten()?;
        let refusal = Response::new(Status::SESSION_INTERVAL_TOO_SMALL);
        (asked.seconds < self.min).then(|| refusal.with(Name::MIN_SE, self.min))
    }

    /// Puts into a request of ours what we want (§7.1). `min` is what somebody on the way wants at least.
    pub(crate) fn ask(self, headers: &mut Headers, ours: bool, min: u32) {
        let refresher = Some(if ours { Refresher::Uac } else { Refresher::Uas });
        let seconds = self.interval.max(min);
        headers.set(Name::SESSION_EXPIRES, SessionExpires { seconds, refresher });
        if min > LEAST {
            headers.set(Name::MIN_SE, min);
        }
    }

    /// Puts into a 2xx of ours what is granted (§9); that session begins.
    pub(crate) fn grant(
        self,
        now: Instant,
        asked: Asked,
        had: Option<Session>,
        answer: &mut Headers,
    ) -> Session {
        let most = self.interval.max(asked.min);
        let seconds = asked.seconds.unwrap_or(most).min(most);
        let ours = match asked.refresher {
            _ if !asked.supports => true,
            Some(refresher) => refresher == Refresher::Uas,
            None => had.is_none_or(|had| had.ours),
        };
        let refresher = Some(if ours { Refresher::Uas } else { Refresher::Uac });
        answer.set(Name::SESSION_EXPIRES, SessionExpires { seconds, refresher });
        if asked.supports {
            answer.push(Name::REQUIRE, "timer");
        }
        Session::begin(now, seconds, ours)
    }

    /// Takes what a 2xx to a request of ours grants (§7.2); that session begins. Where the peer says
    /// nothing, it is for us to refresh.
    pub(crate) fn granted(self, now: Instant, min: u32, answer: &Headers) -> Session {
        match answer.session_expires() {
            Ok(Some(SessionExpires { seconds, refresher })) => {
                let ours = refresher != Some(Refresher::Uas);
                Session::begin(now, seconds.max(self.min), ours)
            }
            Ok(None) | Err(_) => Session::begin(now, self.interval.max(min), true),
        }
    }
}

impl Asked {
    /// What an INVITE or UPDATE says.
    pub(crate) fn new(headers: &Headers) -> Self {
        let expires = headers.session_expires().ok().flatten();
        Self {
            supports: headers.supports("timer"),
            seconds: expires.as_ref().map(|expires| expires.seconds),
            refresher: expires.and_then(|expires| expires.refresher),
            min: min_se(headers).unwrap_or_default(),
        }
    }
}

impl Session {
    fn begin(now: Instant, seconds: u32, ours: bool) -> Self {
        let whole = Duration::from_secs(seconds.into());
        Self {
            ours,
            refresh_at: ours.then(|| now + whole / 2),
            // §10: BYE goes before the time is up, so that it arrives in time.
            end_at: now + whole - (whole / 3).min(Duration::from_secs(32)),
        }
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.end_at <= now
    }

    /// When something is next due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.refresh_at.map_or(self.end_at, |at| at.min(self.end_at))
    }
}

impl Endpoint {
    /// Puts into a request that begins or refreshes a session how long it is to last.
    pub(crate) fn ask_for_time(&self, headers: &mut Headers, ours: bool, min: u32) {
        let Some(timer) = self.config.session else { return };
        timer.ask(headers, ours, min);
        if !headers.contains(&Name::SUPPORTED) {
            headers.push(Name::SUPPORTED, self.config.supported.join(", "));
        }
    }

    /// Does what is due at `now` in the session of a call: refreshes it, or ends it (§10).
    pub(crate) fn handle_session_timeout(
        &mut self,
        now: Instant,
        id: DialogId,
        out: &mut Vec<Transmit>,
    ) {
        let Some((_, call)) = self.call(id).filter(|(_, call)| call.is_up()) else { return };
        let Some(session) = &mut call.session else { return };
        if session.is_over(now) {
            let mut headers = Headers::new();
            headers.push(Name::REASON, Reason::sip(408, "Session Expired"));
            self.hang_up(now, id, headers, out);
            return self.events.push(Event::Ended { dialog: id, why: End::Expired });
        }
        if session.refresh_at.is_none_or(|at| at > now) {
            return;
        }
        // Again soon, unless what is sent or under way begins another session.
        session.refresh_at = Some(now + AGAIN);
        if call.is_pending() || call.update.is_some() || call.refreshing {
            return;
        }
        if !call.takes_update {
            return self.events.push(Event::RefreshDue { dialog: id });
        }
        let Some((held, call)) = self.call(id) else { return };
        let (contact, min) = (held.contact.clone(), call.min_se);
        let mut update = held.request(Method::Update).with(Name::CONTACT, contact);
        self.ask_for_time(&mut update.headers, true, min);
        let sent = self.send_in(now, id, update, Purpose::Refresh(id), out);
        if let Some((_, call)) = self.call(id) {
            call.refreshing = sent.is_some();
        }
    }

    /// Takes the answer to an UPDATE that refreshes a session.
    pub(crate) fn handle_refreshed(
        &mut self,
        now: Instant,
        id: DialogId,
        answer: &Answer,
        out: &mut Vec<Transmit>,
    ) {
        let timer = self.config.session;
        let status = answer.response.status;
        let Some((held, call)) = self.call(id) else { return };
        call.refreshing = false;
        if status.is_success() {
            held.refresh(&answer.response.headers);
            let min = call.min_se;
            call.session = timer.map(|it| it.granted(now, min, &answer.response.headers));
        } else if !self.end_if_gone(now, id, answer, out) {
            let untaken = [Status::METHOD_NOT_ALLOWED, Status::NOT_IMPLEMENTED];
            if let Some((_, call)) = self.call(id).filter(|_| untaken.contains(&status))
                && let Some(session) = &mut call.session
            {
                (call.takes_update, session.refresh_at) = (false, Some(now));
            }
            self.note_too_brief(now, id, &answer.response);
        }
        self.wake_call(id);
    }

    /// Takes note that a session must last longer than was wanted (§7.3): it is refreshed again at once.
    pub(crate) fn note_too_brief(&mut self, now: Instant, id: DialogId, response: &Response) {
        let Some((_, call)) = self.call(id) else { return };
        let min = min_se(&response.headers).unwrap_or_default();
        let longer = response.status == Status::SESSION_INTERVAL_TOO_SMALL && min > call.min_se;
        if let Some(session) = call.session.as_mut().filter(|_| longer) {
            (call.min_se, session.refresh_at) = (min, Some(now));
            self.wake_call(id);
        }
    }
}

/// The least that a 422 of the peer, or a request, allows; none if nobody could want that.
pub(crate) fn min_se(headers: &Headers) -> Option<u32> {
    headers.min_se().ok().flatten().filter(|min| *min <= DAY)
}

/// When a refresh is tried again that could not be sent or was not granted.
const AGAIN: Duration = Duration::from_secs(8);
/// What everybody must take, in seconds (§4).
const LEAST: u32 = 90;
/// In seconds.
const DAY: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMER: SessionTimer = SessionTimer { interval: 1800, min: 90 };

    #[expect(clippy::disallowed_methods, reason = "any fixed start will do")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn headers(lines: &[(Name, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.push(name.clone(), value);
        }
        headers
    }

    /// RFC 4028 §9, Table 2, and who refreshes where it leaves a choice.
    #[test]
    fn what_is_granted() {
        let now = epoch();
        let timer = (Name::SUPPORTED, "timer");
        let expires = |value| (Name::SESSION_EXPIRES, value);
        let ours = Session::begin(now, 1800, true);
        let theirs = Session::begin(now, 1800, false);
        for (asked, had, granted, required) in [
            (vec![], None, "1800;refresher=uas", None),
            (vec![expires("600")], None, "600;refresher=uas", None),
            (vec![expires("600;refresher=uac")], None, "600;refresher=uas", None),
            (vec![timer.clone()], None, "1800;refresher=uas", Some("timer")),
            (
                vec![timer.clone(), expires("600;refresher=uac")],
                Some(ours),
                "600;refresher=uac",
                Some("timer"),
            ),
            (
                vec![timer.clone(), expires("600;refresher=uas")],
                Some(theirs),
                "600;refresher=uas",
                Some("timer"),
            ),
            (
                vec![timer.clone(), expires("7200")],
                Some(theirs),
                "1800;refresher=uac",
                Some("timer"),
            ),
            (
                vec![timer.clone(), expires("7200"), (Name::MIN_SE, "3600")],
                Some(ours),
                "3600;refresher=uas",
                Some("timer"),
            ),
            (
                vec![timer, expires("600"), (Name::MIN_SE, "4000000000")],
                None,
                "600;refresher=uas",
                Some("timer"),
            ),
        ] {
            let asked = headers(&asked);
            let mut answer = Headers::new();
            let session = TIMER.grant(now, Asked::new(&asked), had, &mut answer);
            assert_eq!(answer.get(&Name::SESSION_EXPIRES), Some(granted), "{asked:?}");
            assert_eq!(answer.get(&Name::REQUIRE), required, "{asked:?}");
            assert_eq!(session.ours, granted.ends_with("uas"));
            assert_eq!(session.refresh_at.is_some(), session.ours);
        }
    }

    #[test]
    fn what_a_peer_grants() {
        let now = epoch();
        for (answer, ours, over_s) in [
            (None, true, 1768),
            (Some("1800;refresher=uac"), true, 1768),
            (Some("1800;refresher=uas"), false, 1768),
            (Some("90"), true, 60),
            // Less than we said that we take.
            (Some("1;refresher=uac"), true, 60),
        ] {
            let lines: Vec<_> = answer.map(|it| (Name::SESSION_EXPIRES, it)).into_iter().collect();
            let session = TIMER.granted(now, 0, &headers(&lines));
            assert_eq!(session.ours, ours, "{answer:?}");
            let over = now + Duration::from_secs(over_s);
            assert!(session.is_over(over), "{answer:?}");
            assert!(!session.is_over(over - Duration::from_millis(1)), "{answer:?}");
        }
    }
}
