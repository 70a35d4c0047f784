//! Codecs: what a payload type means, and the machines that turn payloads into samples and back.

pub mod g711;
#[cfg(feature = "opus")]
pub mod opus;

use crate::FRAME_SAMPLES;
use crate::resample::{Downsampler, Upsampler};

/// Room that an encoder wants, in bytes: the longest frame of Opus (RFC 6716 §3.2.1).
pub const MAX_PAYLOAD: usize = 1_275;
/// The longest G.711 packet, in bytes: 120 ms, as for Opus.
pub const MAX_G711: usize = 960;
/// From G.711's rate to the mixer's.
const G711_FACTOR: usize = 6;
/// Samples of one tick at G.711's rate.
const G711_FRAME: usize = FRAME_SAMPLES / G711_FACTOR;

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

    /// Whether this build has the codec.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            Self::Opus => cfg!(feature = "opus"),
            Self::Pcmu | Self::Pcma => true,
        }
    }

    /// What a payload says of itself, without decoding.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] for what must not reach a decoder, [`CodecError::Absent`] when there is none.
    pub fn inspect(self, payload: &[u8]) -> Result<Payload, CodecError> {
        match self {
            #[cfg(feature = "opus")]
            Self::Opus => opus::Shape::parse(payload).map(|shape| Payload {
                samples: shape.samples as u32,
                silent: shape.silent,
                voice: shape.voice,
                fec: shape.fec,
            }),
            #[cfg(not(feature = "opus"))]
            Self::Opus => Err(CodecError::Absent),
            Self::Pcmu | Self::Pcma if payload.is_empty() || payload.len() > MAX_G711 => {
                Err(CodecError::Malformed)
            }
            Self::Pcmu | Self::Pcma => Ok(Payload {
                samples: payload.len() as u32,
                silent: false,
                voice: None,
                fec: false,
            }),
        }
    }
}

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its length in the codec's RTP clock.
    pub samples: u32,
    /// The sender's DTX: nothing is in it.
    pub silent: bool,
    /// The encoder's own voice flag, if it has one.
    pub voice: Option<bool>,
    /// It holds a copy of the frame before it.
    pub fec: bool,
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

impl EncoderSettings {
    /// The codec that they configure.
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Self::Opus(_) => Codec::Opus,
            Self::Pcmu => Codec::Pcmu,
            Self::Pcma => Codec::Pcma,
        }
    }
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

/// An encoder of 20 ms frames. The mixer keeps one for each different mix that goes out.
#[derive(Debug)]
pub struct Encoder {
    settings: EncoderSettings,
    machine: EncoderMachine,
}

#[derive(Debug)]
enum EncoderMachine {
    #[cfg(feature = "opus")]
    Opus(opus::Encoder),
    G711 {
        law: g711::Law,
        down: Downsampler,
    },
}

impl Encoder {
    /// Creates an encoder.
    ///
    /// # Errors
    /// [`CodecError::Absent`] for Opus in a build without it; [`CodecError::Failed`] when libopus cannot.
    pub fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        let g711 = |law| EncoderMachine::G711 { law, down: Downsampler::new(G711_FACTOR) };
        let machine = match settings {
            #[cfg(feature = "opus")]
            EncoderSettings::Opus(settings) => EncoderMachine::Opus(opus::Encoder::new(settings)?),
            #[cfg(not(feature = "opus"))]
            EncoderSettings::Opus(_) => return Err(CodecError::Absent),
            EncoderSettings::Pcmu => g711(g711::Law::Mu),
            EncoderSettings::Pcma => g711(g711::Law::A),
        };
        Ok(Self { settings, machine })
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
    /// [`CodecError::Short`] when `out` is shorter than [`MAX_PAYLOAD`].
    pub fn encode(
        &mut self,
        frame: &[f32; FRAME_SAMPLES],
        out: &mut [u8],
    ) -> Result<usize, CodecError> {
        if out.len() < MAX_PAYLOAD {
            return Err(CodecError::Short);
        }
        match &mut self.machine {
            #[cfg(feature = "opus")]
            EncoderMachine::Opus(encoder) => {
                let len = encoder.encode(frame, &mut out[..MAX_PAYLOAD])?;
                // In DTX, one or two bytes say that the packet need not be sent.
                let idle = len <= 2
                    && matches!(self.settings, EncoderSettings::Opus(settings) if settings.dtx);
                Ok(if idle { 0 } else { len })
            }
            EncoderMachine::G711 { law, down } => {
                let mut low = [0.0; G711_FRAME];
                down.process(frame, &mut low);
                for (byte, sample) in out.iter_mut().zip(low) {
                    // The cast saturates.
                    *byte = law.encode((sample * 32_768.0).round() as i16);
                }
                Ok(G711_FRAME)
            }
        }
    }

    /// [`Self::encode`], but predicting nothing from earlier frames: for listeners whose decoder has had
    /// its last packets from another encoder. Costs a few bytes more.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_independent(
        &mut self,
        frame: &[f32; FRAME_SAMPLES],
        out: &mut [u8],
    ) -> Result<usize, CodecError> {
        self.predict(false);
        let encoded = self.encode(frame, out);
        self.predict(true);
        encoded
    }

    /// From the next frame on, spends at most this, and at most what the settings say: complexity 0 to 10, bits a
    /// second. Nobody's decoder minds.
    #[cfg_attr(
        not(feature = "opus"),
        expect(unused_variables, reason = "G.711 costs what it costs")
    )]
    pub fn limit(&mut self, complexity: u8, bitrate: u32) {
        match (&mut self.machine, self.settings) {
            #[cfg(feature = "opus")]
            (EncoderMachine::Opus(encoder), EncoderSettings::Opus(settings)) => {
                encoder.adjust(complexity.min(settings.complexity), bitrate.min(settings.bitrate));
            }
            #[cfg(feature = "opus")]
            (EncoderMachine::Opus(_), EncoderSettings::Pcmu | EncoderSettings::Pcma) => {}
            (EncoderMachine::G711 { .. }, _) => {}
        }
    }

    #[cfg_attr(not(feature = "opus"), expect(unused_variables, reason = "G.711 predicts nothing"))]
    fn predict(&mut self, predict: bool) {
        match &mut self.machine {
            #[cfg(feature = "opus")]
            EncoderMachine::Opus(encoder) => encoder.predict(predict),
            EncoderMachine::G711 { .. } => {}
        }
    }

    /// Forgets the past, as for a new stream.
    pub fn reset(&mut self) {
        match &mut self.machine {
            #[cfg(feature = "opus")]
            EncoderMachine::Opus(encoder) => encoder.reset(),
            EncoderMachine::G711 { down, .. } => down.reset(),
        }
    }
}

/// A decoder to 48 kHz mono, samples in ±1.0. Everything is appended to the caller's buffer.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    machine: DecoderMachine,
}

#[derive(Debug)]
enum DecoderMachine {
    #[cfg(feature = "opus")]
    Opus(opus::Decoder),
    G711 {
        speech: Box<g711::Speech>,
        up: Box<Upsampler>,
        low: Vec<f32>,
    },
}

impl Decoder {
    /// Creates a decoder.
    ///
    /// # Errors
    /// [`CodecError::Absent`] for Opus in a build without it; [`CodecError::Failed`] when libopus cannot.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        let g711 = |law| DecoderMachine::G711 {
            speech: Box::new(g711::Speech::new(law)),
            up: Box::new(Upsampler::new(G711_FACTOR)),
            low: Vec::with_capacity(G711_FRAME),
        };
        let machine = match codec {
            #[cfg(feature = "opus")]
            Codec::Opus => DecoderMachine::Opus(opus::Decoder::new()?),
            #[cfg(not(feature = "opus"))]
            Codec::Opus => return Err(CodecError::Absent),
            Codec::Pcmu => g711(g711::Law::Mu),
            Codec::Pcma => g711(g711::Law::A),
        };
        Ok(Self { codec, machine })
    }

    /// What it decodes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Decodes one payload, as long as [`Codec::inspect`] says.
    ///
    /// # Errors
    /// The payload breaks the codec's format; nothing is appended.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<(), CodecError> {
        match &mut self.machine {
            #[cfg(feature = "opus")]
            DecoderMachine::Opus(decoder) => decoder.decode(payload, out),
            DecoderMachine::G711 { speech, up, low } => {
                if payload.len() > MAX_G711 {
                    return Err(CodecError::Malformed);
                }
                low.clear();
                speech.decode(payload, low);
                up.process(low, out);
                Ok(())
            }
        }
    }

    /// Rebuilds the lost frame of `samples` (at 48 kHz) before `next` from the copy in it.
    ///
    /// # Errors
    /// The payload breaks the codec's format; nothing is appended.
    pub fn recover(
        &mut self,
        next: &[u8],
        samples: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), CodecError> {
        match &mut self.machine {
            #[cfg(feature = "opus")]
            DecoderMachine::Opus(decoder) => decoder.recover(next, samples, out),
            DecoderMachine::G711 { .. } => {
                // G.711 has no copies.
                let _ = next;
                self.conceal(samples, out)
            }
        }
    }

    /// Makes up `samples` (at 48 kHz) that go on from what was last heard.
    ///
    /// # Errors
    /// The codec failed; nothing is appended.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<(), CodecError> {
        match &mut self.machine {
            #[cfg(feature = "opus")]
            DecoderMachine::Opus(decoder) => decoder.conceal(samples, out),
            DecoderMachine::G711 { speech, up, low } => {
                let start = out.len();
                low.clear();
                speech.conceal(samples.div_ceil(G711_FACTOR), low);
                up.process(low, out);
                out.truncate(start + samples);
                Ok(())
            }
        }
    }

    /// Forgets the past, as for a new stream.
    pub fn reset(&mut self) {
        match &mut self.machine {
            #[cfg(feature = "opus")]
            DecoderMachine::Opus(decoder) => decoder.reset(),
            DecoderMachine::G711 { speech, up, .. } => {
                speech.reset();
                up.reset();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::measure_dbov;

    fn tone(frame: usize, hz: f32, amplitude: f32) -> [f32; FRAME_SAMPLES] {
        std::array::from_fn(|i| {
            let t = (frame * FRAME_SAMPLES + i) as f64 / 48_000.0;
            amplitude * (std::f64::consts::TAU * f64::from(hz) * t).sin() as f32
        })
    }

    #[test]
    fn each_codec_keeps_level_and_length() {
        for settings in [
            EncoderSettings::Pcmu,
            EncoderSettings::Pcma,
            #[cfg(feature = "opus")]
            EncoderSettings::Opus(OpusSettings::default()),
        ] {
            let codec = settings.codec();
            let mut encoder = Encoder::new(settings).unwrap();
            let mut decoder = Decoder::new(codec).unwrap();
            let (mut payload, mut out) = ([0; MAX_PAYLOAD], Vec::new());
            for n in 0..50 {
                let len = encoder.encode(&tone(n, 1_000.0, 0.5), &mut payload).unwrap();
                let told = codec.inspect(&payload[..len]).unwrap();
                assert_eq!(told.samples * 50, codec.clock_rate());
                decoder.decode(&payload[..len], &mut out).unwrap();
            }
            assert_eq!(out.len(), 50 * FRAME_SAMPLES, "{codec:?}");
            let level = measure_dbov(&out[9_600..]);
            assert!((level + 9.03).abs() < 1.0, "{codec:?}: {level} dBov");
            let len = out.len();
            decoder.conceal(FRAME_SAMPLES, &mut out).unwrap();
            assert_eq!(out.len(), len + FRAME_SAMPLES);
            assert!(measure_dbov(&out[len..]) > -20.0, "{codec:?} conceals");
            assert_eq!(
                encoder.encode(&tone(0, 1_000.0, 0.5), &mut [0; 1]),
                Err(CodecError::Short),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn g711_payloads_have_a_length() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            assert_eq!(codec.inspect(&[]), Err(CodecError::Malformed));
            assert_eq!(codec.inspect(&[0; MAX_G711 + 1]), Err(CodecError::Malformed));
            assert_eq!(codec.inspect(&[0; MAX_G711]).map(|p| p.samples), Ok(960));
        }
    }

    #[cfg(feature = "opus")]
    #[test]
    fn a_limited_encoder_spends_less_and_then_as_much_as_before() {
        let settings =
            EncoderSettings::Opus(OpusSettings { fec: false, ..OpusSettings::default() });
        let encode = |limits: &[(u8, u32)]| {
            let mut encoder = Encoder::new(settings).unwrap();
            let mut bytes = [0; MAX_PAYLOAD];
            let mut said = vec![];
            for (complexity, bitrate) in limits {
                encoder.limit(*complexity, *bitrate);
                let from = said.len();
                for n in 0..100 {
                    let hz = 300.0 + 20.0 * (n % 37) as f32;
                    let len = encoder.encode(&tone(n, hz, 0.3), &mut bytes).unwrap();
                    said.extend_from_slice(&bytes[..len]);
                }
                said.drain(..from);
            }
            said
        };
        let full = encode(&[(10, u32::MAX)]);
        assert_eq!(full, encode(&[(5, 32_000)]), "no more than the settings say");
        assert_ne!(full, encode(&[(0, u32::MAX)]), "another complexity, other bits");
        let least = encode(&[(0, 16_000)]).len();
        assert!(least * 10 < full.len() * 6, "{least} of {}", full.len());
        let again = encode(&[(0, 16_000), (10, u32::MAX)]).len();
        assert!(again.abs_diff(full.len()) * 20 < full.len(), "{again} of {}", full.len());
    }

    #[cfg(feature = "opus")]
    #[test]
    fn dtx_sends_nothing_in_silence() {
        let settings = OpusSettings { dtx: true, ..OpusSettings::default() };
        let mut encoder = Encoder::new(EncoderSettings::Opus(settings)).unwrap();
        let sent = (0..100)
            .filter(|_| encoder.encode(&[0.0; FRAME_SAMPLES], &mut [0; MAX_PAYLOAD]).unwrap() > 0)
            .count();
        assert!(sent < 30, "{sent} of 100 silent frames were sent");
    }
}
