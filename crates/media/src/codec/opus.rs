//! Opus (RFC 6716): packets measured by us before libopus sees them, encoder and decoder.

use crate::codec::{CodecError, OpusSettings};

/// Frames in a packet (RFC 6716 §3.2.5: at most 120 ms of 2.5 ms).
pub const MAX_FRAMES: usize = 48;
/// Samples in a packet at 48 kHz (RFC 6716 §3.2: 120 ms).
pub const MAX_SAMPLES: usize = 5_760;
/// Bytes in a frame (RFC 6716 §3.2.1).
pub const MAX_FRAME_BYTES: usize = 1_275;

/// What a packet says of itself, read without decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Length at 48 kHz, in samples a channel.
    pub samples: usize,
    /// All frames are empty or nearly so: the sender's DTX.
    pub silent: bool,
    /// The encoder's own voice flag, where the mode has one (SILK and hybrid).
    pub voice: Option<bool>,
    /// The packet brings a copy of the frame before it (SILK's LBRR, RFC 6716 §4.2.4).
    pub fec: bool,
}

impl Shape {
    /// Checks the packet against requirements R1 to R7 of RFC 6716 §3.4.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] when one is broken.
    pub fn parse(packet: &[u8]) -> Result<Self, CodecError> {
        Self::read(packet).ok_or(CodecError::Malformed)
    }

    fn read(packet: &[u8]) -> Option<Self> {
        let (&toc, rest) = packet.split_first()?;
        let config = toc >> 3;
        let frame_samples = frame_samples(config);
        let (largest, first_frame);
        let frames = match toc & 3 {
            0 => {
                (largest, first_frame) = (rest.len(), rest);
                1
            }
            1 => {
                if rest.len() % 2 != 0 {
                    return None;
                }
                largest = rest.len() / 2;
                first_frame = &rest[..largest];
                2
            }
            2 => {
                let (len, rest) = frame_len(rest)?;
                let (first, second) = rest.split_at_checked(len)?;
                largest = first.len().max(second.len());
                first_frame = first;
                2
            }
            _ => {
                let (&count, mut rest) = rest.split_first()?;
                let frames = usize::from(count & 0x3F);
                if frames == 0 || frames > MAX_FRAMES {
                    return None;
                }
                if count & 0x40 != 0 {
                    let (padding, tail) = padding_len(rest)?;
                    rest = &tail[..tail.len().checked_sub(padding)?];
                }
                if count & 0x80 != 0 {
                    let mut lens = [0; MAX_FRAMES];
                    for len in &mut lens[..frames - 1] {
                        (*len, rest) = frame_len(rest)?;
                    }
                    let told: usize = lens.iter().sum();
                    lens[frames - 1] = rest.len().checked_sub(told)?;
                    largest = lens.into_iter().max()?;
                    first_frame = &rest[..lens[0]];
                } else {
                    if rest.len() % frames != 0 {
                        return None;
                    }
                    largest = rest.len() / frames;
                    first_frame = &rest[..largest];
                }
                frames
            }
        };
        let samples = frames * frame_samples;
        if samples > MAX_SAMPLES || largest > MAX_FRAME_BYTES {
            return None;
        }
        // The first symbols of a SILK frame are its flags, each with even odds, and so the first byte's top bits:
        // a voice flag for each 20 ms, then whether a copy of the last frame follows (RFC 6716 §4.2.3, §4.2.4).
        let silk = config < 16;
        let flags = first_frame.first().copied().unwrap_or(0);
        let voice_flags = frame_samples.div_ceil(960).min(3);
        Some(Self {
            samples,
            silent: largest <= 1,
            voice: (silk && largest > 1).then_some(flags >> (8 - voice_flags) != 0),
            fec: silk && largest > 1 && flags >> (7 - voice_flags) & 1 != 0,
        })
    }
}

/// Length of a frame at 48 kHz by configuration number (RFC 6716 §3.1, table 2).
fn frame_samples(config: u8) -> usize {
    match config {
        0..12 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        12..16 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    }
}

/// A frame's length in one or two bytes (RFC 6716 §3.2.1), and what follows.
fn frame_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [len @ 0..252, ref rest @ ..] => Some((len.into(), rest)),
        [low, high, ref rest @ ..] => Some((usize::from(high) * 4 + usize::from(low), rest)),
        _ => None,
    }
}

/// The length of padding (RFC 6716 §3.2.5), and what follows.
fn padding_len(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut total = 0;
    loop {
        let (&len, rest) = bytes.split_first()?;
        bytes = rest;
        if len < 255 {
            return Some((total + usize::from(len), bytes));
        }
        total += 254;
    }
}

/// An encoder of 20 ms of 48 kHz mono.
#[derive(Debug)]
pub(super) struct Encoder {
    inner: opus::Encoder,
}

impl Encoder {
    pub(super) fn new(settings: OpusSettings) -> Result<Self, CodecError> {
        let mut inner =
            opus::Encoder::new(crate::SAMPLE_RATE, opus::Channels::Mono, opus::Application::Voip)
                .map_err(failed)?;
        let bits = i32::try_from(settings.bitrate.clamp(6_000, 510_000)).unwrap_or(510_000);
        inner.set_bitrate(opus::Bitrate::Bits(bits)).map_err(failed)?;
        inner.set_complexity(settings.complexity.min(10).into()).map_err(failed)?;
        inner.set_inband_fec(settings.fec).map_err(failed)?;
        inner.set_packet_loss_perc(settings.loss_percent.min(100).into()).map_err(failed)?;
        inner.set_dtx(settings.dtx).map_err(failed)?;
        Ok(Self { inner })
    }

    pub(super) fn encode(&mut self, frame: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        self.inner.encode_float(frame, out).map_err(failed)
    }

    /// libopus takes both while it runs; what it refuses stays as it was.
    pub(super) fn adjust(&mut self, complexity: u8, bitrate: u32) {
        let bits = i32::try_from(bitrate.clamp(6_000, 510_000)).unwrap_or(510_000);
        let _ = self.inner.set_complexity(complexity.min(10).into());
        let _ = self.inner.set_bitrate(opus::Bitrate::Bits(bits));
    }

    pub(super) fn predict(&mut self, predict: bool) {
        // As for reset.
        let _ = self.inner.set_prediction_disabled(!predict);
    }

    pub(super) fn reset(&mut self) {
        // libopus cannot refuse this; if it did, the encoder would go on with its past.
        let _ = self.inner.reset_state();
    }
}

/// A decoder to 48 kHz mono; stereo is mixed down by libopus.
#[derive(Debug)]
pub(super) struct Decoder {
    inner: opus::Decoder,
}

/// Concealment comes in units of 2.5 ms.
const UNIT: usize = 120;

impl Decoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        let inner = opus::Decoder::new(crate::SAMPLE_RATE, opus::Channels::Mono).map_err(failed)?;
        Ok(Self { inner })
    }

    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), CodecError> {
        let samples = Shape::parse(packet)?.samples;
        self.append(packet, samples, false, out)
    }

    /// The frame of `samples` before `next`, from the copy in it; what the copy does not cover is concealed.
    pub(super) fn recover(
        &mut self,
        next: &[u8],
        samples: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), CodecError> {
        self.append(next, samples, true, out)
    }

    pub(super) fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<(), CodecError> {
        let start = out.len();
        self.append(&[], samples.next_multiple_of(UNIT), false, out)?;
        out.truncate(start + samples);
        Ok(())
    }

    fn append(
        &mut self,
        packet: &[u8],
        samples: usize,
        fec: bool,
        out: &mut Vec<f32>,
    ) -> Result<(), CodecError> {
        let start = out.len();
        out.resize(start + samples, 0.0);
        let decoded = self.inner.decode_float(packet, &mut out[start..], fec);
        out.truncate(start + *decoded.as_ref().unwrap_or(&0));
        decoded.map(drop).map_err(failed)
    }

    pub(super) fn reset(&mut self) {
        // As for the encoder.
        let _ = self.inner.reset_state();
    }
}

fn failed(error: opus::Error) -> CodecError {
    match error.code() {
        opus::ErrorCode::InvalidPacket => CodecError::Malformed,
        opus::ErrorCode::BufferTooSmall => CodecError::Short,
        opus::ErrorCode::BadArg
        | opus::ErrorCode::InternalError
        | opus::ErrorCode::Unimplemented
        | opus::ErrorCode::InvalidState
        | opus::ErrorCode::AllocFail
        | opus::ErrorCode::Unknown => CodecError::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// TOC of a configuration, mono, with frame count code.
    fn toc(config: u8, code: u8) -> u8 {
        config << 3 | code
    }

    fn check(packet: &[u8], samples: Option<usize>) {
        assert_eq!(Shape::parse(packet).ok().map(|s| s.samples), samples, "{packet:02x?}");
        // libopus counts the same wherever we accept.
        if let Some(samples) = samples {
            assert_eq!(opus::packet::get_nb_samples(packet, 48_000).unwrap(), samples);
            assert!(opus::packet::parse(packet).is_ok(), "{packet:02x?}");
        } else {
            let theirs = opus::packet::parse(packet)
                .and_then(|_| opus::packet::get_nb_samples(packet, 48_000));
            assert!(theirs.is_err(), "{packet:02x?}");
        }
    }

    #[test]
    fn measures_packets_as_libopus_does() {
        for config in 0..32 {
            check(&[toc(config, 0), 1, 2, 3], Some(frame_samples(config)));
        }
        check(&[toc(1, 0)], Some(960)); // DTX
        check(&[toc(1, 1), 1, 2], Some(1_920));
        check(&[toc(1, 1)], Some(1_920));
        check(&[toc(1, 1), 1], None); // odd
        check(&[toc(1, 2), 1, 9, 9, 9], Some(1_920));
        check(&[toc(1, 2)], None); // no length
        check(&[toc(1, 2), 4, 9], None); // length overruns
        check(&[toc(1, 2), 252], None); // half a length
        check(&[toc(1, 3)], None); // no count
        check(&[toc(1, 3), 0], None); // no frames
        check(&[toc(1, 3), 6, 1, 2, 3, 4, 5, 6], Some(5_760));
        check(&[toc(1, 3), 7, 1, 2, 3, 4, 5, 6, 7], None); // 140 ms
        check(&[toc(3, 3), 3, 1, 2, 3], None); // 180 ms
        check(&[toc(16, 3), 48], Some(5_760));
        check(&[toc(16, 3), 49], None);
        check(&[toc(16, 3), 63], None);
        check(&[toc(1, 3), 2, 1, 2, 3], None); // not a multiple
        check(&[toc(1, 3), 0x82, 1, 7, 8, 9], Some(1_920)); // VBR
        check(&[toc(1, 3), 0x82, 5, 7], None); // VBR overruns
        check(&[toc(1, 3), 0x82], None);
        check(&[toc(1, 3), 0x41, 2, 7, 0, 0], Some(960)); // padding
        check(&[toc(1, 3), 0x41, 4, 7, 0, 0], None); // padding overruns
        check(&[toc(1, 3), 0x41, 255, 255], None); // padding never ends
        check(&[], None);
        let mut long = vec![toc(31, 0)];
        long.resize(1 + MAX_FRAME_BYTES, 0);
        check(&long, Some(960));
        long.push(0);
        check(&long, None);
    }

    fn tone(frame: usize, amplitude: f32) -> [f32; 960] {
        std::array::from_fn(|i| {
            let t = (frame * 960 + i) as f32 / 48_000.0;
            amplitude
                * (std::f32::consts::TAU * 220.0 * t).sin()
                * (1.0 + (std::f32::consts::TAU * 3.0 * t).sin())
                / 2.0
        })
    }

    #[test]
    fn encodes_with_copies_for_lossy_paths_and_reads_its_own_flags() {
        let settings = OpusSettings { loss_percent: 10, ..OpusSettings::default() };
        let mut encoder = Encoder::new(settings).unwrap();
        let mut out = [0; 1_500];
        let (mut fec, mut voice) = (0, 0);
        for n in 0..100 {
            let len = encoder.encode(&tone(n, 0.5), &mut out).unwrap();
            let shape = Shape::parse(&out[..len]).unwrap();
            assert_eq!(shape.samples, 960);
            fec += u32::from(shape.fec);
            voice += u32::from(shape.voice == Some(true));
        }
        assert!(fec > 50 && voice > 50, "copies {fec}, voice {voice}");
    }

    #[test]
    fn hostile_settings_are_brought_within_range() {
        for bitrate in [0, 1, u32::MAX] {
            let settings =
                OpusSettings { bitrate, complexity: 255, loss_percent: 255, fec: true, dtx: true };
            assert!(Encoder::new(settings).unwrap().encode(&tone(0, 0.5), &mut [0; 1_500]).is_ok());
        }
    }

    proptest! {
        #[test]
        fn whatever_we_accept_fits_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let shape = Shape::parse(&bytes);
            if opus::packet::parse(&bytes).is_err() {
                prop_assert!(shape.is_err());
            }
            if let Ok(shape) = shape {
                let mut decoder = Decoder::new().unwrap();
                let mut out = Vec::new();
                if decoder.decode(&bytes, &mut out).is_ok() {
                    prop_assert_eq!(out.len(), shape.samples);
                }
                prop_assert!(out.iter().all(|s| s.is_finite()));
            }
        }
    }
}
