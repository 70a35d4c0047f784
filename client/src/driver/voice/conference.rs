//! The conference that a call is (RFC 4579 §3.4): a subscription to who is in it (RFC 4575, RFC 6665).

use std::time::{Duration, Instant};

use cusax::conference::{Document, MEDIA_TYPE, Outcome, PACKAGE, Subscriber};
use cusax_sip::endpoint::{DialogId, SentId};
use cusax_sip::header::{CSeq, Headers, Name, Substate};
use cusax_sip::message::{Method, Request, Response};
use cusax_sip::uri::Uri;

use super::super::clock::now;
use super::{EXPIRES_S, Event, Line};

/// A conference that we follow.
pub(super) struct Watch {
    pub(super) dialog: DialogId,
    to: Uri,
    call_id: String,
    cseq: u32,
    asked: Option<SentId>,
    /// It was accepted.
    up: bool,
    pub(super) refresh_at: Option<Instant>,
    subscriber: Subscriber,
}

impl Line {
    pub(super) fn follow(&mut self, to: Uri) {
        let call_id = self.token();
        self.subscribe(to, call_id, 1);
    }

    fn subscribe(&mut self, to: Uri, call_id: String, cseq: u32) {
        let mut request = Request::new(Method::Subscribe, to.clone())
            .with(Name::FROM, self.from())
            .with(Name::CALL_ID, &call_id)
            .with(Name::CSEQ, CSeq::new(cseq, Method::Subscribe))
            .with(Name::CONTACT, self.contact())
            .with(Name::EVENT, PACKAGE)
            .with(Name::ACCEPT, MEDIA_TYPE)
            .with(Name::EXPIRES, EXPIRES_S);
        self.prove(&mut request);
        let sent = self.endpoint.subscribe(now(), self.flow, request, &mut self.out);
        self.watch = sent.ok().map(|(dialog, asked)| Watch {
            dialog,
            to,
            call_id,
            cseq,
            asked: Some(asked),
            up: false,
            refresh_at: None,
            subscriber: Subscriber::default(),
        });
    }

    pub(super) fn refresh_watch(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        watch.refresh_at = None;
        if watch.asked.is_some() {
            return;
        }
        let headers = watch_headers(EXPIRES_S);
        let sent = self.endpoint.resubscribe(now(), watch.dialog, headers, &mut self.out);
        watch.asked = sent.ok();
    }

    /// The answer to a SUBSCRIBE.
    pub(super) fn watched(&mut self, id: SentId, response: &Response) {
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.asked == Some(id)) else {
            return;
        };
        if !response.status.is_final() {
            return;
        }
        watch.asked = None;
        if response.status.is_success() {
            watch.up = true;
            let expires = response.headers.expires().ok().flatten().unwrap_or(EXPIRES_S);
            watch.refresh_at = Some(refresh_at(expires));
            return self.digest.accepted();
        }
        let (to, call_id, cseq, up) =
            (watch.to.clone(), watch.call_id.clone(), watch.cseq + 1, watch.up);
        if !up && self.may_prove(response) {
            return self.subscribe(to, call_id, cseq);
        }
        self.unfollowed();
    }

    /// A report.
    pub(super) fn report(&mut self, request: &Request) {
        let Some(watch) = &mut self.watch else { return };
        let state = request.headers.subscription_state().ok().flatten();
        let over = state.as_ref().is_some_and(|state| state.state == Substate::Terminated);
        if let Some(expires) = state.as_ref().and_then(|state| state.params.get("expires")) {
            let expires = expires.parse().unwrap_or(EXPIRES_S);
            watch.refresh_at = Some(refresh_at(expires));
        }
        let text = std::str::from_utf8(&request.body).ok().filter(|text| !text.is_empty());
        let document = text.and_then(|text| Document::from_xml(text).ok());
        let outcome = document.map(|document| watch.subscriber.handle_document(document));
        match outcome {
            Some(Outcome::Applied) => {
                let known = watch.subscriber.conference().cloned().map(Box::new);
                self.told.push(Event::Conference(known));
            }
            Some(Outcome::Refresh) => self.refresh_watch(),
            Some(Outcome::Ended | Outcome::TooMany) => return self.unfollowed(),
            Some(Outcome::Stale | Outcome::Foreign) | None => {}
        }
        if !over {
            return;
        }
        // RFC 6665 §4.1.3: these ask for a new subscription, and the others for none.
        let reason =
            state.as_ref().and_then(|state| state.params.get("reason")).unwrap_or_default();
        let to = self.watch.as_ref().map(|watch| watch.to.clone());
        self.unfollowed();
        if let Some(to) = to.filter(|_| matches!(reason, "deactivated" | "timeout"))
            && self.call.is_some()
        {
            self.follow(to);
        }
    }

    /// Nothing more is told of the conference.
    fn unfollowed(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.endpoint.unsubscribed(watch.dialog);
            self.told.push(Event::Conference(None));
        }
    }

    /// Wants no more reports.
    pub(super) fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            let headers = watch_headers(0);
            // The last report finds nobody, which ends it as well.
            let _ = self.endpoint.resubscribe(now(), watch.dialog, headers, &mut self.out);
            self.endpoint.unsubscribed(watch.dialog);
            self.told.push(Event::Conference(None));
        }
    }
}

/// The address at which a conference tells who is in it: its own (RFC 4579 §3.4), in the form in which it
/// was called if that names the same, since proxies know the way there.
pub(super) fn conference_of(dialled: Option<Uri>, contact: Uri) -> Uri {
    let user = |uri: &Uri| uri.as_sip().and_then(|uri| uri.user()).map(|user| user.into_owned());
    dialled.filter(|dialled| user(dialled) == user(&contact)).unwrap_or(contact)
}

fn watch_headers(expires_s: u32) -> Headers {
    let mut headers = Headers::new();
    headers.push(Name::EVENT, PACKAGE);
    headers.push(Name::ACCEPT, MEDIA_TYPE);
    headers.push(Name::EXPIRES, expires_s);
    headers
}

/// When to refresh what lasts so long: in time for a second attempt.
fn refresh_at(expires_s: u32) -> Instant {
    let wait = (expires_s / 2).max(expires_s.saturating_sub(MARGIN_S)).clamp(1, EXPIRES_S);
    now() + Duration::from_secs(u64::from(wait))
}

/// How long before its end a subscription is refreshed, in seconds.
const MARGIN_S: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conference_is_asked_where_it_was_called() {
        let check = |dialled: &str, contact: &str, expected: &str| {
            let dialled = Some(dialled.parse().unwrap());
            let found = conference_of(dialled, contact.parse().unwrap());
            assert_eq!(found.to_string(), expected);
        };
        check("sip:tea@conf.test", "sip:tea@192.0.2.1:5060", "sip:tea@conf.test");
        check("sip:lobby@conf.test", "sip:tea@192.0.2.1:5060", "sip:tea@192.0.2.1:5060");
        check("tel:+4930123", "sip:tea@192.0.2.1", "sip:tea@192.0.2.1");
    }
}
