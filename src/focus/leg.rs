//! One call leg: its dialog, and what was offered and answered in it.

use std::net::{IpAddr, SocketAddr};

use cusax_sip::digest::Denied;
use cusax_sip::endpoint::DialogId;
use cusax_sip::header::NameAddr;
use cusax_sip::sdp::offer::{Audio, Negotiation};
use cusax_sip::sdp::{Direction, Refusal};
use rand::Rng;
use rand::rngs::StdRng;

use super::keypad::Keypad;
use super::offer::{capabilities, codec_plan, keys, level_extension};
use crate::id::{DialId, LegId, RoomName};
use crate::mixer::plan::{LegPlan, Order};
use crate::room::Command;
use crate::room::person::Caller;

/// A call leg, from the INVITE that was understood to the BYE.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) id: LegId,
    pub(super) dialog: DialogId,
    pub(super) room: RoomName,
    pub(super) caller: Caller,
    /// Which call of the room it is, if they did not call us.
    pub(super) dialled: Option<DialId>,
    /// The URI of who referred them here.
    pub(super) referred_by: Option<String>,
    /// Their INVITE waits for the room to decide.
    pub(super) waits: bool,
    /// What our answers name as Contact.
    pub(super) contact: NameAddr,
    /// Where signalling comes from.
    pub(super) source: IpAddr,
    /// Whether nobody on the way reads signalling: it may carry keys.
    pub(super) secure: bool,
    /// Our end of the media.
    pub(super) address: SocketAddr,
    pub(super) negotiation: Negotiation,
    /// What our next answer says of our media.
    pub(super) description: Vec<u8>,
    /// What was agreed last; nothing yet after an INVITE without offer (RFC 3261 §13.2.1).
    pub(super) audio: Option<Audio>,
    /// Why their first offer cannot be answered.
    pub(super) refusal: Option<Refusal>,
    /// How the room's password was missed.
    pub(super) denied: Denied,
    /// What they pressed.
    pub(super) keypad: Keypad,
    /// The SSRC that they send with, once the mixer has seen it.
    pub(super) src_id: Option<u32>,
    /// What the mixer was told last.
    told: Option<LegPlan>,
    ssrc: u32,
    cname: String,
}

/// What an INVITE brings.
pub(super) struct Incoming {
    pub(super) id: LegId,
    pub(super) dialog: DialogId,
    pub(super) room: RoomName,
    pub(super) caller: Caller,
    pub(super) contact: NameAddr,
    pub(super) source: IpAddr,
    pub(super) secure: bool,
}

impl Leg {
    /// A leg whose media has this address on our side. SSRC, CNAME (RFC 7022 §4.2) and session id
    /// are random.
    pub(super) fn new(incoming: Incoming, address: SocketAddr, rng: &mut StdRng) -> Self {
        let Incoming { id, dialog, room, caller, contact, source, secure } = incoming;
        Self {
            id,
            dialog,
            room,
            caller,
            dialled: None,
            referred_by: None,
            waits: false,
            contact,
            source,
            secure,
            address,
            negotiation: Negotiation::new(capabilities(), address, u64::from(rng.random::<u32>())),
            description: vec![],
            audio: None,
            refusal: None,
            denied: Denied::Missing,
            keypad: Keypad::default(),
            src_id: None,
            told: None,
            ssrc: rng.random(),
            cname: format!("{:024x}", rng.random::<u128>() >> 32),
        }
    }

    /// Takes their offer; [`Self::description`] answers it. A refusal leaves everything as it was.
    pub(super) fn take_offer(&mut self, offer: &[u8], rng: &mut StdRng) -> Result<(), Refusal> {
        let keys = self.secure.then_some(rng);
        let (answer, audio) = self.negotiation.answer(offer, Direction::SendRecv, keys)?;
        (self.description, self.audio) = (answer, Some(audio));
        Ok(())
    }

    /// Makes [`Self::description`] an offer of all that we can do.
    pub(super) fn offer(&mut self, rng: &mut StdRng) {
        let keys = self.secure.then_some(rng);
        self.description = self.negotiation.offer(Direction::SendRecv, keys);
    }

    /// Whether the mixer has the leg.
    pub(super) fn is_open(&self) -> bool {
        self.told.is_some()
    }

    /// What the mixer was told last.
    #[cfg(test)]
    pub(super) fn told(&self) -> Option<&LegPlan> {
        self.told.as_ref()
    }

    /// Tells the mixer what was agreed, if that is news. `heard` is what the room says; who is on
    /// hold or does not send is not heard either way.
    pub(super) fn tell_mixer(&mut self, heard: bool, media: &mut Vec<Order>) {
        let Some(plan) = self.plan(heard) else { return };
        match &self.told {
            None => media.push(Order::Open(Box::new(plan.clone()))),
            Some(told) if LegPlan { heard: plan.heard, ..told.clone() } == plan => {}
            Some(_) => media.push(Order::Change(Box::new(plan.clone()))),
        }
        self.told = Some(plan);
    }

    fn plan(&self, heard: bool) -> Option<LegPlan> {
        let audio = self.audio.as_ref()?;
        Some(LegPlan {
            leg: self.id,
            room: self.room.clone(),
            local: self.address.ip(),
            port: self.address.port(),
            remote: audio.remote_rtp,
            remote_rtcp: audio.remote_rtcp,
            signalled_from: self.source,
            mux: audio.rtcp_mux,
            codec: codec_plan(audio)?,
            dtmf: audio
                .telephone_events
                .iter()
                .map(|event| (event.receive, event.clock_rate))
                .collect(),
            level_ext: level_extension(audio),
            ssrc: self.ssrc,
            cname: self.cname.clone(),
            srtp: keys(audio),
            hears: audio.direction.sends(),
            heard: heard && audio.remote_direction.sends() && !audio.is_held(),
        })
    }

    /// What the media direction that was agreed last asks of the room: nothing if media flows both
    /// ways from the start (RFC 3264 §8.4).
    pub(super) fn direction(&self) -> Option<Command> {
        let audio = self.audio.as_ref()?;
        let hold = audio.is_held();
        Some(Command::ChangeLeg { hold, sends: audio.remote_direction.sends() })
    }
}
