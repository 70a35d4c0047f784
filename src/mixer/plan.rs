//! What the control plane tells the mixer, and what the mixer reports: a few values a second for
//! each leg, never a packet.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use cusax_media::srtp::Keys;

use crate::id::{LegId, RoomName};

/// What the mixer is told to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Open a leg: bind its port, take part in the room's mix.
    Open(Box<LegPlan>),
    /// The leg's media was negotiated anew (re-INVITE): everything but room, port, SSRC and CNAME
    /// may differ.
    Change(Box<LegPlan>),
    /// Let what the leg sends into the mix, or keep it out from the next frame on.
    Voice {
        /// Which leg.
        leg: LegId,
        /// Whether it is heard.
        heard: bool,
        /// When the control plane took the command that led to this; comes back in
        /// [`Report::VoiceApplied`].
        asked: Instant,
    },
    /// How loud the leg hears the others and how loud it is heard, from the next frame on.
    Volume {
        /// Which leg.
        leg: LegId,
        /// What it hears.
        hears: Volume,
        /// What it says.
        speaks: Volume,
    },
    /// Play prompts to a leg alone, one after the other, while it hears the others more softly. What
    /// would be more than [`MAX_PROMPTS`] is left out.
    Play {
        /// Which leg.
        leg: LegId,
        /// What.
        prompts: Vec<Prompt>,
        /// Whether what is being played to it ends at once.
        interrupt: bool,
    },
    /// Play a tone to everyone in a room; not while another is being played.
    Chime {
        /// Where.
        room: RoomName,
        /// Which.
        tone: Tone,
    },
    /// Close the leg: RTCP BYE, port drained for a while so that the next call never hears it.
    Close(LegId),
}

/// A leg's media, as negotiated.
#[derive(Clone, Debug, PartialEq)]
pub struct LegPlan {
    /// The leg.
    pub leg: LegId,
    /// Whose mix.
    pub room: RoomName,
    /// The local address that SDP shows.
    pub local: IpAddr,
    /// The local RTP port; RTCP is on the next one unless `mux`.
    pub port: u16,
    /// Where SDP says that RTP goes; `None` while it is not known (delayed offer) or `0.0.0.0`.
    pub remote: Option<SocketAddr>,
    /// Where SDP says that RTCP goes.
    pub remote_rtcp: Option<SocketAddr>,
    /// Where signalling comes from: a hint to the source lock.
    pub signalled_from: IpAddr,
    /// RTP and RTCP on one port (RFC 5761).
    pub mux: bool,
    /// What to encode and decode.
    pub codec: CodecPlan,
    /// Payload types of telephone-event that they may send, with the clock rate of each.
    pub dtmf: Vec<(u8, u32)>,
    /// The id of the RFC 6464 level extension in what they send, if agreed.
    pub level_ext: Option<u8>,
    /// Our SSRC towards them.
    pub ssrc: u32,
    /// Our CNAME towards them.
    pub cname: String,
    /// With what both sides protect their packets; `None`: plain RTP.
    pub srtp: Option<Keys>,
    /// Whether they want to hear the mix (their direction is `sendrecv` or `recvonly`).
    pub hears: bool,
    /// Whether what they send is in the mix from the start.
    pub heard: bool,
}

/// A codec as agreed for one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecPlan {
    /// Which.
    pub kind: CodecKind,
    /// The payload type in what we send.
    pub send_pt: u8,
    /// The payload type in what they send.
    pub receive_pt: u8,
    /// Bits per second that they want at most (`maxaveragebitrate`); `None`: our default.
    pub max_bitrate: Option<u32>,
    /// They can use in-band FEC (`useinbandfec=1`).
    pub fec: bool,
    /// They prefer DTX (`usedtx=1`).
    pub dtx: bool,
}

/// The codecs of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CodecKind {
    /// RFC 7587, 48 kHz.
    Opus,
    /// G.711 µ-law, 8 kHz.
    Pcmu,
    /// G.711 A-law, 8 kHz.
    Pcma,
}

/// A loudness, in steps of [`Volume::STEP_DB`] from that of the sender. Few steps, so that listeners who
/// want another one share an encode with all who want the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volume(i8);

impl Volume {
    /// What one step is, in dB.
    pub const STEP_DB: f32 = 6.0;
    const SOFTEST: i8 = -3;
    const LOUDEST: i8 = 2;

    /// One step up, if there is one.
    #[must_use]
    pub fn louder(self) -> Self {
        Self((self.0 + 1).min(Self::LOUDEST))
    }

    /// One step down, if there is one.
    #[must_use]
    pub fn softer(self) -> Self {
        Self((self.0 - 1).max(Self::SOFTEST))
    }

    /// In dB; 0: as it was sent.
    pub fn db(self) -> f32 {
        f32::from(self.0) * Self::STEP_DB
    }

    /// What samples are multiplied by.
    pub fn gain(self) -> f32 {
        10.0_f32.powf(self.db() / 20.0)
    }
}

/// Something that is said to one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prompt {
    /// Nothing, for as long as it takes until a phone that was just answered is at an ear.
    Pause,
    /// They muted themselves.
    Muted,
    /// They unmuted themselves.
    Unmuted,
    /// A moderator, or the room, keeps them from being heard.
    MutedByModerator,
    /// Nothing keeps them from being heard any more.
    MaySpeak,
    /// Their hand is up.
    HandRaised,
    /// Their hand is down.
    HandLowered,
    /// Nobody else is here.
    Alone,
    /// Begins the head count: this, a number, [`Self::People`].
    ThereAre,
    /// A number below 100.
    Number(u8),
    /// Stands for the number from 100 on.
    ManyPeople,
    /// Ends the head count.
    People,
    /// The conference lets nobody new in.
    Locked,
    /// The conference lets people in again.
    Unlocked,
    /// All who are no moderators were muted.
    AllMuted,
    /// They were unmuted.
    AllUnmuted,
    /// What they asked for is for moderators.
    NotPermitted,
}

/// Something that everyone in a room hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Somebody came by phone.
    Entered,
    /// Somebody who was here by phone went.
    Left,
}

/// How many prompts wait to be played to one leg.
pub const MAX_PROMPTS: usize = 8;

/// What the mixer reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A leg could not be opened: its port is taken, descriptors ran out.
    OpenFailed {
        /// Which leg.
        leg: LegId,
        /// For people.
        why: String,
    },
    /// A leg sends with this SSRC: the `src-id` of RFC 4575 §5.8.4.
    Source {
        /// Which leg.
        leg: LegId,
        /// Its SSRC.
        ssrc: u32,
    },
    /// Someone began to speak, or ceased.
    Speaking {
        /// Which leg.
        leg: LegId,
        /// Began or ceased.
        on: bool,
    },
    /// A key was pressed (RFC 4733).
    Digit {
        /// Which leg.
        leg: LegId,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digit: char,
    },
    /// An [`Order::Voice`] is in force: no later frame of the mix disagrees with it.
    VoiceApplied {
        /// Which leg.
        leg: LegId,
        /// Whether it is heard.
        heard: bool,
        /// From the order.
        asked: Instant,
        /// When it came into force.
        at: Instant,
    },
    /// Neither RTP nor RTCP came for a long time.
    Dead {
        /// Which leg.
        leg: LegId,
    },
}
