//! Subscriptions of ours (RFC 6665 §4.1): SUBSCRIBE, its refresh and its end. What peers subscribe to is
//! [`subscription`](crate::endpoint::Event::Subscribe)'s.
//!
//! Reports come as [`Event::Request`](crate::endpoint::Event::Request) with the dialog of the subscription,
//! perhaps before the answer to the SUBSCRIBE (§4.1.2.4); their user answers them, and says with
//! [`Endpoint::unsubscribed`] when the last one has come. When to refresh is the user's as well.

use std::time::Instant;

use crate::{
    dialog::{Dialog, append},
    endpoint::{DialogId, Endpoint, SendError, SentId},
    flow::{Flow, Transmit},
    header::{Headers, Name},
    message::{Method, Request},
    table::{Answer, Purpose, Route},
};

impl Endpoint {
    /// Subscribes over this flow, outside of other dialogs. From's tag, Call-ID, CSeq, Contact and
    /// Max-Forwards are filled in if they are absent. [`Event::Response`](crate::endpoint::Event::Response)
    /// brings the answer; after a refusal the dialog is gone, and with credentials the request is a new one.
    pub fn subscribe(
        &mut self,
        now: Instant,
        flow: Flow,
        mut request: Request,
        out: &mut Vec<Transmit>,
    ) -> Result<(DialogId, SentId), SendError> {
        if request.method != Method::Subscribe {
            return Err(SendError::Malformed);
        }
        if !self.may_open() {
            return Err(SendError::Full);
        }
        self.address(&mut request)?;
        let dialog = Dialog::of_client(&request, flow).map_err(|_| SendError::Malformed)?;
        if !request.headers.contains(&Name::CONTACT) {
            request.headers.push(Name::CONTACT, &dialog.contact);
        }
        let id = self.next_dialog_id();
        self.insert_dialog(id, dialog, None);
        if let Some(held) = self.dialogs.get_mut(&id) {
            held.subscribed = true;
        }
        let branch = self.branch();
        let purpose = Purpose::Subscribe(id);
        let route = Route::only(flow);
        match self.transactions.start(now, request, branch, route, purpose, out) {
            Some(sent) => Ok((id, sent)),
            None => {
                self.unsubscribed(id);
                Err(SendError::Full)
            }
        }
    }

    /// Refreshes a subscription, or with `Expires: 0` ends it. The headers hold Event and Expires.
    pub fn resubscribe(
        &mut self,
        now: Instant,
        dialog: DialogId,
        headers: Headers,
        out: &mut Vec<Transmit>,
    ) -> Result<SentId, SendError> {
        if !self.transactions.may_start() {
            return Err(SendError::Full);
        }
        let held = self.dialogs.get_mut(&dialog);
        let held = held.filter(|held| held.subscribed && held.dialog.is_formed());
        let dialog_of = &mut held.ok_or(SendError::Unknown)?.dialog;
        let contact = dialog_of.contact.clone();
        let mut request = dialog_of.request(Method::Subscribe).with(Name::CONTACT, contact);
        append(&mut request.headers, &headers);
        let sent = self.send_in(now, dialog, request, Purpose::Subscribe(dialog), out);
        sent.ok_or(SendError::Full)
    }

    /// Forgets a subscription: its last report has come, or will not come.
    pub fn unsubscribed(&mut self, dialog: DialogId) {
        if let Some(held) = self.dialogs.get_mut(&dialog) {
            held.subscribed = false;
        }
        self.drop_if_unused(dialog);
    }

    /// The subscription whose first report a NOTIFY is: it says who the notifier is (RFC 6665 §4.4.1).
    pub(crate) fn find_reported(&mut self, flow: Flow, request: &Request) -> Option<DialogId> {
        if request.method != Method::Notify {
            return None;
        }
        let id = self.find_dialog_of(request, "")?;
        let held = self.dialogs.get_mut(&id).filter(|held| held.subscribed)?;
        held.dialog.confirm_by(request, flow).ok()?;
        self.rekey(id);
        Some(id)
    }

    /// Takes the answer to a SUBSCRIBE. Whoever answers after the first is another fork, which is not
    /// subscribed to (§4.4.1).
    pub(crate) fn handle_subscribe_answer(&mut self, dialog: DialogId, answer: &Answer) {
        let status = answer.response.status;
        let Some(held) = self.dialogs.get_mut(&dialog) else { return };
        let formed = held.dialog.is_formed();
        if status.is_success() && !formed {
            if held.dialog.confirm(&answer.response).is_ok() {
                self.rekey(dialog);
            }
        } else if status.is_success() {
            held.dialog.refresh(&answer.response.headers);
        } else if status.is_final() && !formed {
            self.unsubscribed(dialog);
        }
    }
}
