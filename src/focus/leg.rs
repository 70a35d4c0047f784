//! One call leg: its dialog, and what was offered and answered in it.

use std::net::{IpAddr, SocketAddr};

use cusax_sip::digest::Denied;
use cusax_sip::endpoint::DialogId;
use cusax_sip::header::NameAddr;
use cusax_sip::sdp::Refusal;
use cusax_sip::sdp::offer::{Audio, Negotiation};
use rand::Rng;
use rand::rngs::StdRng;

use super::offer::{capabilities, codec_plan, level_extension};
use crate::id::{LegId, RoomName};
use crate::mixer::plan::LegPlan;
use crate::room::Command;
use crate::room::person::Caller;

/// A call leg, from the INVITE that was understood to the BYE.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) id: LegId,
    pub(super) dialog: DialogId,
    pub(super) room: RoomName,
    pub(super) caller: Caller,
    /// What our answers name as Contact.
    pub(super) contact: NameAddr,
    /// Where signalling comes from.
    pub(super) source: IpAddr,
    /// Our end of the media.
    pub(super) address: SocketAddr,
    pub(super) negotiation: Negotiation,
    /// What was agreed last; nothing yet after an INVITE without offer (RFC 3261 §13.2.1).
    pub(super) audio: Option<Audio>,
    /// Why their first offer cannot be answered.
    pub(super) refusal: Option<Refusal>,
    /// How the room's password was missed.
    pub(super) denied: Denied,
    /// The SSRC that they send with, once the mixer has seen it.
    pub(super) src_id: Option<u32>,
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
}

impl Leg {
    /// A leg whose media has this address on our side. SSRC, CNAME (RFC 7022 §4.2) and session id
    /// are random.
    pub(super) fn new(incoming: Incoming, address: SocketAddr, rng: &mut StdRng) -> Self {
        let Incoming { id, dialog, room, caller, contact, source } = incoming;
        Self {
            id,
            dialog,
            room,
            caller,
            contact,
            source,
            address,
            negotiation: Negotiation::new(capabilities(), address, rng.random::<u64>() >> 2),
            audio: None,
            refusal: None,
            denied: Denied::Missing,
            src_id: None,
            ssrc: rng.random(),
            cname: format!("{:024x}", rng.random::<u128>() >> 32),
        }
    }

    /// The leg's media for the mixer; `None` before the first agreement. `heard` is what the room
    /// says; who is on hold or does not send is not heard either way.
    pub(super) fn plan(&self, heard: bool) -> Option<LegPlan> {
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
            hears: audio.direction.sends(),
            heard: heard && audio.remote_direction.sends() && !audio.is_held(),
        })
    }

    /// What the media direction that was agreed last means to the room (RFC 3264 §8.4).
    pub(super) fn direction(&self) -> Option<Command> {
        let audio = self.audio.as_ref()?;
        let hold = audio.is_held();
        Some(Command::ChangeLeg { hold, sends: audio.remote_direction.sends() })
    }
}
