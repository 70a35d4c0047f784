//! One audio leg without IO: RTP, RTCP, SRTP, jitter buffer, Opus and G.711.
//!
//! A [`leg::Leg`] is everything that one caller's audio needs between the socket and the mix. Packets go
//! in with the time and the address they came from, one frame of 20 ms comes out at each tick of the mixer,
//! and payloads that the mixer encoded once go out under the leg's own RTP header.
//!
//! Nothing here opens a socket, reads a clock, takes a lock, or knows of rooms and signalling. In steady state
//! nothing allocates. Read [`leg`] first; then [`jitter`], where the hard decisions are.

pub mod codec;
pub mod dtmf;
pub mod jitter;
pub mod leg;
pub mod level;
pub mod limiter;
pub mod quality;
pub mod resample;
pub mod rtcp;
pub mod rtp;
pub mod source;
pub mod srtp;
pub mod stretch;

use std::time::Duration;

/// The mixer's pace: one frame of every leg is mixed at each tick.
pub const TICK: Duration = Duration::from_millis(20);
/// Samples a second of everything between decoder and encoder (mono).
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of one tick at [`SAMPLE_RATE`].
pub const FRAME_SAMPLES: usize = 960;
/// The longest packet that is read or written, in bytes: an Ethernet MTU. Longer ones are dropped and counted.
pub const MAX_PACKET: usize = 1_500;
