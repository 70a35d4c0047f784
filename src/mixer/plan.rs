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
