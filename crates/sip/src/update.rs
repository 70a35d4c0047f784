//! UPDATE (RFC 3311): the peer changes the session, or says that it is still there, without INVITE. A
//! PRACK with an offer (RFC 3262 §5) is answered the same way.

use std::time::Instant;

use crate::{
    endpoint::{DialogId, Endpoint, Event, RequestId},
    flow::{Flow, Transmit},
    header::{Headers, Name},
    invite::Update,
    message::{Method, Request, Response, Status},
    session::Asked,
    table::Owner,
};

impl Endpoint {
    /// Takes an UPDATE within a dialog (§5.2). One without an offer is in nobody's way.
    pub(crate) fn handle_update(
        &mut self,
        now: Instant,
        flow: Flow,
        id: DialogId,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let (offers, gone) = (!request.body.is_empty(), Response::new(Status::CALL_DOES_NOT_EXIST));
        let call = self.call(id).filter(|(_, call)| !call.is_ending());
        let refusal = match call {
            None => Some(gone),
            Some((_, call)) if offers || call.update.is_some() => self.refuses_offer(id),
            Some(_) => None,
        };
        match refusal {
            Some(refusal) => self.conclude(now, flow, &request, refusal, out),
            None => self.open_update(now, flow, id, request, out),
        }
    }

    /// Hands an UPDATE, or a PRACK with an offer, to the user.
    pub(crate) fn open_update(
        &mut self,
        now: Instant,
        flow: Flow,
        id: DialogId,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let tag = self.local_tag(id);
        let opened = self.transactions.open(now, flow, &request, tag, Owner::Update(id));
        let (Some(opened), Some((_, call))) = (opened, self.call(id)) else {
            return self.overloaded(flow, &request, out);
        };
        let mut contact = Headers::new();
        contact.copy(&request.headers, &Name::CONTACT);
        let asked = Asked::new(&request.headers);
        call.update = Some(Update { method: request.method.clone(), contact, asked });
        self.events.push(Event::Update { id: opened, dialog: id, flow, request });
    }

    /// Sends the user's answer to an UPDATE. With a 2xx the peer's Contact counts, and a session begins.
    pub(crate) fn answer_update(
        &mut self,
        now: Instant,
        dialog: DialogId,
        id: RequestId,
        mut response: Response,
        out: &mut Vec<Transmit>,
    ) {
        let timer = self.config.session;
        let final_ = response.status.is_final();
        if let Some((held, call)) = self.call(dialog).filter(|_| final_)
            && let Some(update) = call.update.take()
            && response.status.is_success()
            && update.method == Method::Update
        {
            held.own_contact(&mut response.headers);
            held.refresh(&update.contact);
            if let Some(timer) = timer.filter(|_| call.is_up()) {
                let granted = timer.grant(now, update.asked, call.session, &mut response.headers);
                call.session = Some(granted);
            }
        }
        self.transactions.answer(now, id, response, out);
        self.wake_call(dialog);
    }

    /// Forgets an UPDATE that the user left unanswered for too long.
    pub(crate) fn handle_unanswered_update(&mut self, dialog: DialogId) {
        if let Some((_, call)) = self.call(dialog) {
            call.update = None;
        }
    }
}
