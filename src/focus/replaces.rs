//! Calls that mean another: Join (RFC 3911), which leads to its conference, and Replaces (RFC 3891), which
//! takes its place: somebody moves to another device, or answers there what rings elsewhere.

use cusax_sip::endpoint::{DialogId, Stage};
use cusax_sip::header::Replaces;
use cusax_sip::message::{Request, Response, Status};

use super::Focus;
use super::leg::Leg;
use crate::id::{DialId, LegId, RoomName};
use crate::room::person::Who;

/// What an INVITE means by the call that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// Its conference.
    Room(RoomName),
    /// Its place.
    Leg(RoomName, LegId),
    /// To answer it, since a room makes it and it still rings.
    Dial(RoomName, DialId),
}

impl Focus {
    /// The call that an INVITE names, or why it cannot have it; `None` if it names none. Who sends it must
    /// be known by then, so that nobody finds out by trying who is on which call.
    pub(super) fn meant(
        &self,
        request: &Request,
        who: &Who,
    ) -> Result<Option<Meant>, Box<Response>> {
        if let Ok(Some(join)) = request.headers.join() {
            // If there is none, the conference may still be named by the URI (RFC 3911 §4).
            let leg = self.leg_in(self.endpoint.find(&join).map(|(dialog, _)| dialog));
            return Ok(leg.map(|leg| Meant::Room(leg.room.clone())));
        }
        let Ok(Some(replaces)) = request.headers.replaces() else { return Ok(None) };
        self.replaced(&replaces, who).map(Some)
    }

    /// RFC 3891 §3, in its order.
    fn replaced(&self, replaces: &Replaces, who: &Who) -> Result<Meant, Box<Response>> {
        let refuse = |status| Err(Box::new(Response::new(status)));
        let Some((dialog, stage)) = self.endpoint.find(replaces) else {
            return refuse(Status::CALL_DOES_NOT_EXIST);
        };
        match stage {
            Stage::Over => return refuse(Status::DECLINE),
            // One that they make and we have not answered is not theirs to replace.
            Stage::Called => return refuse(Status::CALL_DOES_NOT_EXIST),
            Stage::Confirmed if replaces.early_only => return refuse(Status::BUSY_HERE),
            Stage::Confirmed | Stage::Calling => {}
        }
        if let Some(leg) = self.leg_in(Some(dialog)) {
            return Ok(Meant::Leg(leg.room.clone(), leg.id));
        }
        let dialling = self.dialogs.get(&dialog).and_then(|id| self.dials.get(id));
        match dialling {
            Some(dialling) if dialling.is_for(who) => {
                Ok(Meant::Dial(dialling.room.clone(), dialling.dial))
            }
            Some(_) => refuse(Status::FORBIDDEN),
            None => refuse(Status::CALL_DOES_NOT_EXIST),
        }
    }

    /// The call leg that a dialog is.
    pub(super) fn leg_in(&self, dialog: Option<DialogId>) -> Option<&Leg> {
        self.legs.get(self.dialogs.get(&dialog?)?)
    }
}
