//! What is said and played to callers: recordings that the server has within itself, and how one leg, or
//! a room, is played them.
//!
//! `scripts/sounds.sh` makes the files, for each language in a folder of its own. They are decoded once,
//! when the first worker starts, so that nothing is decoded or allocated while people talk.

use std::sync::LazyLock;

use cusax_media::FRAME_SAMPLES;
use cusax_media::codec::{Codec, Decoder};
use ogg::PacketReader;

use super::mix::FADE_SAMPLES;
use super::plan::{MAX_PROMPTS, Prompt, Tone};

/// A name and its samples.
type Recording = (&'static str, Box<[i16]>);
/// Samples at 48 kHz.
type Clip = &'static [i16];

/// Decodes everything, if that was not done before: about 40 s of sound.
pub fn prepare() {
    LazyLock::force(&PACK);
}

impl Prompt {
    /// What is heard.
    pub(super) fn clips(self) -> impl Iterator<Item = Clip> {
        let mut names = [None; 2];
        names[0] = Some(match self {
            Self::Pause => PAUSE,
            Self::Muted => "muted",
            Self::Unmuted => "unmuted",
            Self::MutedByModerator => "muted-by-moderator",
            Self::MaySpeak => "may-speak",
            Self::HandRaised => "hand-raised",
            Self::HandLowered => "hand-lowered",
            Self::Alone => "alone",
            Self::ThereAre => "there-are",
            Self::ManyPeople | Self::Number(100..) => "many",
            Self::People => "people",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::AllMuted => "all-muted",
            Self::AllUnmuted => "all-unmuted",
            Self::NotPermitted => "not-permitted",
            Self::Number(number @ 0..=20) => SMALL[usize::from(number)],
            Self::Number(number) => {
                let ones = usize::from(number % 10);
                names[1] = (ones > 0).then(|| SMALL[ones]);
                TENS[usize::from(number / 10) - 2]
            }
        });
        names.into_iter().flatten().map(clip)
    }
}

impl Tone {
    /// What is heard.
    pub(super) fn clip(self) -> Clip {
        clip(match self {
            Self::Entered => "entered",
            Self::Left => "left",
        })
    }
}

/// Plays clips one after the other.
#[derive(Debug, Default)]
pub(super) struct Player {
    queue: [Clip; MAX_PROMPTS],
    len: usize,
    /// Of the first, how much was played.
    at: usize,
    /// What was stopped in its middle, and is to fade out.
    stopped: Option<Clip>,
}

impl Player {
    /// Takes one more clip, if there is a place for it.
    pub(super) fn push(&mut self, clip: Clip) {
        if self.len < MAX_PROMPTS && !clip.is_empty() {
            self.queue[self.len] = clip;
            self.len += 1;
        }
    }

    /// Plays no more.
    pub(super) fn stop(&mut self) {
        self.stopped = self.is_playing().then(|| &self.queue[0][self.at..]);
        (self.len, self.at) = (0, 0);
    }

    /// Whether there is something to play.
    pub(super) fn is_playing(&self) -> bool {
        self.len > 0
    }

    /// Adds 20 ms to a frame; whether anything was added.
    pub(super) fn play(&mut self, frame: &mut [f32; FRAME_SAMPLES]) -> bool {
        let mut played = false;
        if let Some(rest) = self.stopped.take() {
            for (i, (sample, last)) in frame.iter_mut().zip(rest).take(FADE_SAMPLES).enumerate() {
                *sample += full_scale(*last) * (1.0 - i as f32 / FADE_SAMPLES as f32);
            }
            played = true;
        }
        self.advance(|offset, clip| {
            for (sample, said) in frame[offset..].iter_mut().zip(clip) {
                *sample += full_scale(*said);
            }
            played = true;
        });
        played
    }

    /// Lets 20 ms pass unheard.
    pub(super) fn pass(&mut self) {
        self.stopped = None;
        self.advance(|_, _| {});
    }

    fn advance(&mut self, mut hear: impl FnMut(usize, Clip)) {
        let mut done = 0;
        while done < FRAME_SAMPLES && self.len > 0 {
            let clip = self.queue[0];
            let end = clip.len().min(self.at + FRAME_SAMPLES - done);
            hear(done, &clip[self.at..end]);
            done += end - self.at;
            self.at = end;
            if end == clip.len() {
                self.queue.copy_within(1..self.len, 0);
                (self.len, self.at) = (self.len - 1, 0);
            }
        }
    }
}

fn full_scale(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

fn clip(name: &str) -> Clip {
    if name == PAUSE {
        return &[0; PAUSE_SAMPLES];
    }
    let found = PACK.binary_search_by(|(other, _)| (*other).cmp(name));
    found.map_or(&[], |at| &PACK[at].1)
}

/// An Ogg file with one Opus stream (RFC 7845); nothing in a build without Opus.
fn decode(file: &[u8]) -> Option<Vec<i16>> {
    let mut packets = PacketReader::new(std::io::Cursor::new(file));
    let head = packets.read_packet().ok()??;
    let skipped = head.data.get(10..12)?;
    let skipped = usize::from(u16::from_le_bytes([skipped[0], skipped[1]]));
    packets.read_packet().ok()??; // Tags.
    let mut decoder = Decoder::new(Codec::Opus).ok()?;
    let mut samples = vec![];
    let mut end = 0;
    while let Some(packet) = packets.read_packet().ok()? {
        decoder.decode(&packet.data, &mut samples).ok()?;
        end = usize::try_from(packet.absgp_page()).ok()?;
    }
    samples.truncate(end);
    samples.drain(..skipped.min(samples.len()));
    Some(samples.into_iter().map(cusax_media::limiter::to_i16).collect())
}

/// By name, in order.
static PACK: LazyLock<Vec<Recording>> = LazyLock::new(|| {
    let decoded = FILES.iter().map(|(name, file)| (*name, decode(file).unwrap_or_default().into()));
    let mut pack: Vec<Recording> = decoded.collect();
    pack.sort();
    pack
});

const PAUSE: &str = "pause";
/// Half a second.
const PAUSE_SAMPLES: usize = 24_000;
const SMALL: [&str; 21] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19", "20",
];
const TENS: [&str; 8] = ["20", "30", "40", "50", "60", "70", "80", "90"];

/// Files by name.
macro_rules! files {
    ($folder:literal: $($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../sounds/", $folder, "/", $name, ".opus")).as_slice())),*]
    };
}

const TONES: [(&str, &[u8]); 2] = files!("tones": "entered", "left");
const ENGLISH: [(&str, &[u8]); 43] = files!(
    "en":
    "muted", "unmuted", "muted-by-moderator", "may-speak", "hand-raised", "hand-lowered", "alone",
    "there-are", "many", "people", "locked", "unlocked", "all-muted", "all-unmuted", "not-permitted",
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17",
    "18", "19", "20", "30", "40", "50", "60", "70", "80", "90"
);
static FILES: LazyLock<Vec<(&str, &[u8])>> =
    LazyLock::new(|| ENGLISH.into_iter().chain(TONES).collect());

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Prompt; 16] = [
        Prompt::Muted,
        Prompt::Unmuted,
        Prompt::MutedByModerator,
        Prompt::MaySpeak,
        Prompt::HandRaised,
        Prompt::HandLowered,
        Prompt::Alone,
        Prompt::ThereAre,
        Prompt::ManyPeople,
        Prompt::People,
        Prompt::Locked,
        Prompt::Unlocked,
        Prompt::AllMuted,
        Prompt::AllUnmuted,
        Prompt::NotPermitted,
        Prompt::Number(0),
    ];

    fn seconds(clips: impl Iterator<Item = Clip>) -> f32 {
        clips.map(|clip| clip.len() as f32 / 48_000.0).sum()
    }

    /// Each can be heard, is as loud as speech, and is short.
    #[test]
    fn all_are_sounds() {
        let numbers = (0..=255).map(Prompt::Number);
        for prompt in ALL.into_iter().chain(numbers) {
            let length = seconds(prompt.clips());
            assert!((0.3..4.0).contains(&length), "{prompt:?}: {length} s");
            let samples: Vec<f32> = prompt.clips().flatten().map(|s| full_scale(*s)).collect();
            let peak = samples.iter().fold(0.0, |peak: f32, sample| peak.max(sample.abs()));
            assert!((0.2..0.5).contains(&peak), "{prompt:?}: {peak}");
        }
        for tone in [Tone::Entered, Tone::Left] {
            let length = seconds(std::iter::once(tone.clip()));
            assert!((0.2..0.4).contains(&length), "{tone:?}: {length} s");
        }
        let bytes: usize = FILES.iter().map(|(_, file)| file.len()).sum();
        assert!(bytes < 300 * 1024, "{bytes} bytes");
        assert_eq!(Prompt::Number(20).clips().count(), 1);
        assert_eq!(Prompt::Number(42).clips().count(), 2);
    }

    #[test]
    fn plays_to_the_end_and_no_more_than_there_is_place_for() {
        static SHORT: [i16; 1_000] = [16_384; 1_000];
        let mut player = Player::default();
        for _ in 0..MAX_PROMPTS + 3 {
            player.push(&SHORT);
        }
        player.push(&[]);
        let mut heard = vec![];
        while player.is_playing() {
            let mut frame = [0.0; FRAME_SAMPLES];
            assert!(player.play(&mut frame));
            heard.extend(frame);
        }
        assert_eq!(heard.iter().filter(|sample| **sample == 0.5).count(), MAX_PROMPTS * 1_000);
        assert!(!player.play(&mut [0.0; FRAME_SAMPLES]));
    }

    #[test]
    fn what_is_stopped_fades_out() {
        static LONG: [i16; 5_000] = [16_384; 5_000];
        let mut player = Player::default();
        player.push(&LONG);
        player.play(&mut [0.0; FRAME_SAMPLES]);
        player.stop();
        assert!(!player.is_playing());
        let mut frame = [0.0; FRAME_SAMPLES];
        assert!(player.play(&mut frame));
        assert_eq!(frame[0], 0.5);
        let steepest = frame.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        assert!(steepest < 0.01, "{steepest}");
        assert!(frame[FADE_SAMPLES..].iter().all(|sample| *sample == 0.0));
    }
}
