//! Codecs: what a payload type means, and the machines that turn payloads into samples and back.

use crate::FRAME_SAMPLES;

/// A codec that a leg can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Opus, RTP clock 48 kHz (RFC 6716, RFC 7587). Only with feature `opus`.
    Opus,
    /// G.711 µ-law, 8 kHz (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law, 8 kHz (RFC 3551 §4.5.14).
    Pcma,
}

impl Codec {
    /// The RTP clock rate in Hz.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }
}

/// What an encoder produces. Two legs with equal settings can be sent the same payload: the mixer groups
/// listeners by this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EncoderSettings {
    /// Opus, mono, 20 ms.
    Opus(OpusSettings),
    /// G.711 µ-law, 20 ms.
    Pcmu,
    /// G.711 A-law, 20 ms.
    Pcma,
}

/// How Opus is encoded (RFC 7587 §6.1 names what the receiver may ask for).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpusSettings {
    /// Bits a second of payload.
    pub bitrate: u32,
    /// 0 (cheap) to 10 (dear). 5 costs half of 10.
    pub complexity: u8,
    /// In-band forward error correction (`useinbandfec=1`).
    pub fec: bool,
    /// The loss that FEC prepares for, in percent, 0 to 100. FEC costs bits in proportion.
    pub loss_percent: u8,
    /// Discontinuous transmission (`usedtx=1`).
    pub dtx: bool,
}

impl Default for OpusSettings {
    fn default() -> Self {
        Self { bitrate: 32_000, complexity: 5, fec: true, loss_percent: 5, dtx: false }
    }
}

/// Why a codec did not deliver. The caller drops the frame and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// This build has no such codec.
    #[error("codec not built in")]
    Absent,
    /// The payload breaks the codec's format.
    #[error("payload malformed")]
    Malformed,
    /// The output buffer cannot hold the frame.
    #[error("output buffer too small")]
    Short,
    /// The codec itself failed.
    #[error("codec failed")]
    Failed,
}

/// An encoder of 20 ms frames.
#[derive(Debug)]
pub struct Encoder {
    settings: EncoderSettings,
}

impl Encoder {
    /// Creates an encoder.
    ///
    /// # Errors
    /// [`CodecError::Absent`] for Opus in a build without it.
    pub fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        Ok(Self { settings })
    }

    /// The settings that it was made with.
    #[must_use]
    pub fn settings(&self) -> EncoderSettings {
        self.settings
    }

    /// Encodes one frame (samples in ±1.0) and returns the length of the payload; 0 when discontinuous
    /// transmission wants nothing sent.
    ///
    /// # Errors
    /// [`CodecError::Short`] when `out` cannot hold the payload.
    pub fn encode(
        &mut self,
        frame: &[f32; FRAME_SAMPLES],
        out: &mut [u8],
    ) -> Result<usize, CodecError> {
        let _ = (frame, out);
        Err(CodecError::Absent)
    }

    /// Forgets the past, as for a new stream.
    pub fn reset(&mut self) {}
}
