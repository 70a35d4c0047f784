//! One mix, encoded once for all who hear it.
//!
//! A decoder goes on from where the last packet left it, so a listener cannot be sent packets of one
//! encoder and then of another without care. How changes are made inaudible:
//!
//! * Whoever listens is on the stream of the full mix, shared by all of the same
//!   [`EncoderSettings`]; whoever speaks hears a mix without themselves, from a stream of their own.
//! * Whenever somebody changes streams, the next packet of the new one is *independent*: it predicts
//!   nothing from a past that their decoder does not have. On a steady tone, that leaves one frame
//!   with a residue of −21 dB, where the codec's own is −29 dB; without it the residue is −8 dB, even
//!   if the new encoder has been fed the same samples for half a second.
//! * A stream that begins in the middle of sound is *primed*: its encoder first swallows the frame of
//!   the full mix that the listener heard last. An encoder looks 6.5 ms ahead, so its first packet
//!   would otherwise begin with as much of nothing.
//! * If nobody else is on the shared stream, it is handed over instead, and nothing changes at all.
//!
//! Silence is never encoded: after a tail of [`TAIL`] a stored payload says it. For Opus that is a CELT
//! frame with nothing but its silence flag (RFC 6716 §4.3), which any decoder enters and leaves
//! without a trace: the next word is whole. (The table-of-contents byte alone, as in libopus's own
//! DTX, makes decoders conceal, and they then fade the next word in over 100 ms.) A peer that asked
//! for DTX gets it every [`COMFORT_PACE`]; others get it every tick, so that no jitter buffer runs
//! dry and nobody's loss meter moves.

use std::time::Duration;

use cusax_media::FRAME_SAMPLES;
use cusax_media::codec::{CodecError, Encoder, EncoderSettings, MAX_PAYLOAD, OpusSettings};
use cusax_media::limiter::Limiter;

use super::effort::Effort;
use super::plan::{CodecKind, CodecPlan, Volume};
use super::speakers::ticks;

/// How long silence is encoded before it is only said: decoders fade and learn the background.
pub const TAIL: Duration = Duration::from_millis(100);
/// The pace of packets in silence for peers that asked for DTX: libopus's own.
pub const COMFORT_PACE: Duration = Duration::from_millis(400);
/// What we send at most, in bits a second, and the steps below it for peers that want less. Steps, so
/// that peers who each want a little less than the next cannot have an encode each.
pub const BITRATES: [u32; 5] = [40_000, 32_000, 24_000, 16_000, 8_000];
/// The losses that in-band FEC is prepared for, in percent. Told of 5 % or less, libopus makes no copies at
/// 32 kbit/s and below.
pub const LOSS_CLASSES: [u8; 2] = [10, 20];
/// Loss below this, in percent, is none: copies of every frame make an encode a third dearer, and take
/// bits from what everybody hears.
pub const NO_LOSS_PERCENT: f64 = 1.0;

/// The settings that a leg's listener shares with others, given the loss that its peer reports.
pub fn settings(codec: &CodecPlan, remote_loss: f64) -> EncoderSettings {
    match codec.kind {
        CodecKind::Opus => {
            let wanted = codec.max_bitrate.unwrap_or(u32::MAX);
            let lowest = BITRATES[BITRATES.len() - 1];
            let bitrate = BITRATES.into_iter().find(|rate| *rate <= wanted).unwrap_or(lowest);
            let percent = remote_loss * 100.0;
            let class = LOSS_CLASSES.into_iter().find(|class| percent <= f64::from(*class));
            let loss_percent = match class {
                _ if percent < NO_LOSS_PERCENT => 0,
                Some(class) => class,
                None => LOSS_CLASSES[LOSS_CLASSES.len() - 1],
            };
            EncoderSettings::Opus(OpusSettings {
                bitrate,
                fec: codec.fec,
                loss_percent: if codec.fec { loss_percent } else { 0 },
                dtx: false,
                ..OpusSettings::default()
            })
        }
        CodecKind::Pcmu => EncoderSettings::Pcmu,
        CodecKind::Pcma => EncoderSettings::Pcma,
    }
}

/// The payload that says silence.
pub(super) fn silence(settings: EncoderSettings) -> &'static [u8] {
    match settings {
        // Mono, full band, 20 ms, CELT, one frame; then the silence flag.
        EncoderSettings::Opus(_) => &[0xF8, 0xFF, 0xFE],
        EncoderSettings::Pcmu => &[0xFF; 160],
        EncoderSettings::Pcma => &[0xD5; 160],
    }
}

/// An encoder with its limiter, fed with one mix.
#[derive(Debug)]
pub(super) struct Stream {
    encoder: Encoder,
    limiter: Limiter,
    /// Ticks of silence since the last sound.
    quiet: u32,
    /// The next packet predicts nothing from the last ones.
    independent: bool,
    payload: [u8; MAX_PAYLOAD],
    len: usize,
}

impl Stream {
    pub(super) fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        Ok(Self {
            encoder: Encoder::new(settings)?,
            limiter: Limiter::default(),
            quiet: ticks(TAIL),
            independent: true,
            payload: [0; MAX_PAYLOAD],
            len: 0,
        })
    }

    /// Encodes no dearer than this from now on.
    pub(super) fn limit(&mut self, effort: Effort) {
        self.encoder.limit(effort.complexity, effort.bitrate);
    }

    /// Begins anew, after `past`: what its listeners heard last, and the limiter it went through.
    pub(super) fn begin(&mut self, past: Option<(&[f32; FRAME_SAMPLES], &Limiter)>) {
        self.encoder.reset();
        self.independent = true;
        self.len = 0;
        match past {
            Some((frame, limiter)) => {
                self.limiter = limiter.clone();
                self.quiet = 0;
                // What comes out was said already, by another.
                let _ = self.encoder.encode(frame, &mut self.payload);
            }
            None => {
                self.limiter = Limiter::default();
                self.quiet = ticks(TAIL);
            }
        }
    }

    /// Someone joins whose decoder has been elsewhere.
    pub(super) fn welcome(&mut self) {
        self.independent = true;
    }

    /// Says one frame of a mix that was summed without bounds.
    pub(super) fn say(&mut self, mix: &mut [f32; FRAME_SAMPLES]) {
        self.limiter.process(mix);
        self.say_limited(mix);
    }

    /// Says one frame that some other limiter has been over.
    pub(super) fn say_limited(&mut self, mix: &[f32; FRAME_SAMPLES]) {
        self.quiet = 0;
        self.encode(mix);
    }

    /// Says nothing for one frame; returns whether that took an encode.
    pub(super) fn say_nothing(&mut self) -> bool {
        if self.is_settled() {
            // The stored silence comes from elsewhere, too.
            self.independent = true;
            self.len = 0;
            return false;
        }
        self.quiet += 1;
        self.encode(&[0.0; FRAME_SAMPLES]);
        true
    }

    /// Whether all that is left to say is silence.
    pub(super) fn is_settled(&self) -> bool {
        self.quiet >= ticks(TAIL)
    }

    /// The payload of this tick; `None` in silence.
    pub(super) fn payload(&self) -> Option<&[u8]> {
        (self.len > 0).then_some(&self.payload[..self.len])
    }

    fn encode(&mut self, frame: &[f32; FRAME_SAMPLES]) {
        // A frame that cannot be encoded is said as silence: listeners conceal it.
        let encoded = if std::mem::take(&mut self.independent) {
            self.encoder.encode_independent(frame, &mut self.payload)
        } else {
            self.encoder.encode(frame, &mut self.payload)
        };
        self.len = encoded.unwrap_or(0);
    }
}

/// Who can be sent the same packets: one codec, one loudness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) settings: EncoderSettings,
    pub(super) volume: Volume,
}

impl Group {
    pub(super) const fn new(settings: EncoderSettings, volume: Volume) -> Self {
        Self { settings, volume }
    }
}

/// All of a [`Group`], and the spare streams for those of them who speak.
#[derive(Debug)]
pub(super) struct Class {
    group: Group,
    /// Runs while someone listens to it.
    pub(super) shared: Option<Box<Stream>>,
    /// Who listens to it.
    pub(super) listeners: usize,
    /// Who is in the class.
    pub(super) members: usize,
    #[expect(clippy::vec_box, reason = "they go from hand to hand without being copied")]
    spare: Vec<Box<Stream>>,
    effort: Effort,
}

impl Class {
    /// With one stream in reserve, so that a codec which this build lacks is refused here.
    pub(super) fn new(group: Group, effort: Effort) -> Result<Self, CodecError> {
        let mut stream = Box::new(Stream::new(group.settings)?);
        stream.limit(effort);
        let spare = vec![stream];
        Ok(Self { group, shared: None, listeners: 0, members: 0, spare, effort })
    }

    /// Encodes no dearer than this from now on.
    pub(super) fn limit(&mut self, effort: Effort) {
        self.effort = effort;
        for stream in self.shared.iter_mut().chain(&mut self.spare) {
            stream.limit(effort);
        }
    }

    /// A stream that begins after `past`. `None` when libopus cannot make one: memory ran out.
    pub(super) fn take(
        &mut self,
        past: Option<(&[f32; FRAME_SAMPLES], &Limiter)>,
    ) -> Option<Box<Stream>> {
        let mut stream = match self.spare.pop() {
            Some(stream) => stream,
            None => {
                let mut stream = Box::new(Stream::new(self.group.settings).ok()?);
                stream.limit(self.effort);
                stream
            }
        };
        match (past, self.gain()) {
            (Some((frame, limiter)), Some(gain)) => {
                stream.begin(Some((&frame.map(|sample| sample * gain), limiter)));
            }
            (past, _) => stream.begin(past),
        }
        Some(stream)
    }

    /// What the mix is multiplied by for them; `None`: it is said as it is.
    pub(super) fn gain(&self) -> Option<f32> {
        (self.group.volume != Volume::default()).then(|| self.group.volume.gain())
    }

    pub(super) fn give_back(&mut self, stream: Box<Stream>) {
        self.spare.push(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opus(max_bitrate: Option<u32>, fec: bool) -> CodecPlan {
        let kind = CodecKind::Opus;
        CodecPlan { kind, send_pt: 96, receive_pt: 96, max_bitrate, fec, dtx: false }
    }

    #[test]
    fn peers_fall_into_few_classes() {
        let check = |max_bitrate, fec, loss, expected: (u32, u8)| match settings(
            &opus(max_bitrate, fec),
            loss,
        ) {
            EncoderSettings::Opus(found) => {
                assert_eq!((found.bitrate, found.loss_percent), expected);
                assert_eq!((found.fec, found.dtx), (fec, false));
            }
            EncoderSettings::Pcmu | EncoderSettings::Pcma => panic!("not Opus"),
        };
        check(None, true, 0.0, (40_000, 0));
        check(Some(40_000), true, 0.009, (40_000, 0));
        check(Some(39_999), true, 0.01, (32_000, 10));
        check(Some(510_000), true, 0.05, (40_000, 10));
        check(Some(31_999), true, 0.06, (24_000, 10));
        check(Some(20_000), true, 0.5, (16_000, 20));
        check(Some(6_000), true, 0.0, (8_000, 0));
        check(None, false, 0.3, (40_000, 0));
        let mut classes: Vec<_> = (6_000..64_000)
            .step_by(100)
            .flat_map(|rate| (0..100).map(move |loss| (rate, loss)))
            .flat_map(|(rate, loss)| {
                [true, false].map(|fec| settings(&opus(Some(rate), fec), f64::from(loss) / 100.0))
            })
            .collect();
        classes.sort();
        classes.dedup();
        assert_eq!(classes.len(), 20);
    }
}
