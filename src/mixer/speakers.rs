//! Who speaks, and whose sound is worth mixing.

use std::time::Duration;

use cusax_media::TICK;
use cusax_media::leg::Heard;
use cusax_media::level::SILENCE_DBOV;

use super::mix::Voicing;

/// What lies below this level, in dBov, is not worth mixing: a listener's room, not a voice. Speech
/// comes at −15 to −45 dBov; the noise of a headset's microphone at −60 to −75.
pub const AUDIBLE_DBOV: f32 = -58.0;
/// What lies above this level, in dBov, is taken for speech whatever the codec thinks of it.
pub const LOUD_DBOV: f32 = -45.0;
/// A pause this long belongs to the sentence: the last word's end is not cut.
pub const SENTENCE: Duration = Duration::from_millis(500);
/// Sound this long is somebody speaking, shorter sound a cough or a key.
pub const BEGUN: Duration = Duration::from_millis(100);
/// Silence this long is somebody having ceased to speak.
pub const CEASED: Duration = Duration::from_millis(1_000);

/// A voice is as loud as it was of late: it may fall by so much in a tick, in dB, so that no syllable
/// gives its place away.
const LOUDNESS_FALLS_DB: f32 = 0.4;

/// Listens to one leg.
#[derive(Clone, Debug, Default)]
pub struct Speaker {
    /// Ticks until the leg is no longer worth mixing.
    audible: u32,
    /// Ticks of speech, less ticks without.
    speech: u32,
    /// Ticks since the last speech.
    pause: u32,
    speaking: bool,
    loudness_dbov: Option<f32>,
}

impl Speaker {
    /// Takes what one tick brought; tells if the leg began to speak (`true`) or ceased to.
    ///
    /// The two are at least [`BEGUN`] and [`CEASED`] apart, so nobody can make it chatter.
    pub fn hear(&mut self, heard: Heard) -> Option<bool> {
        let level_dbov = if heard.sound { heard.level_dbov } else { SILENCE_DBOV };
        self.loudness_dbov = Some(level_dbov.max(self.loudness_dbov() - LOUDNESS_FALLS_DB));
        let audible = heard.sound && heard.level_dbov >= AUDIBLE_DBOV;
        self.audible = if audible { ticks(SENTENCE) } else { self.audible.saturating_sub(1) };
        let speech = audible && (heard.voice || heard.level_dbov >= LOUD_DBOV);
        if speech {
            self.speech = (self.speech + 1).min(ticks(BEGUN));
            self.pause = 0;
        } else {
            self.speech = self.speech.saturating_sub(1);
            self.pause = self.pause.saturating_add(1);
        }
        let speaking = match self.speaking {
            false => self.speech >= ticks(BEGUN),
            true => self.pause < ticks(CEASED),
        };
        self.turn(speaking)
    }

    /// The leg may not be heard: whatever it sends, it does not speak.
    pub fn hush(&mut self) -> Option<bool> {
        let told = self.turn(false);
        *self = Self::default();
        told
    }

    /// Whether what the leg sends is worth mixing.
    pub fn is_audible(&self) -> bool {
        self.audible > 0
    }

    /// Whether the leg speaks.
    pub fn is_speaking(&self) -> bool {
        self.speaking
    }

    /// How loud the leg has been of late, in dBov.
    pub fn loudness_dbov(&self) -> f32 {
        self.loudness_dbov.unwrap_or(SILENCE_DBOV)
    }

    /// What is shown of it.
    pub fn voicing(&self) -> Voicing {
        Voicing { level_dbov: self.loudness_dbov().max(SILENCE_DBOV), speaking: self.speaking }
    }

    fn turn(&mut self, speaking: bool) -> Option<bool> {
        let turned = self.speaking != speaking;
        self.speaking = speaking;
        turned.then_some(speaking)
    }
}

/// A duration in ticks of the mixer.
pub(super) const fn ticks(duration: Duration) -> u32 {
    (duration.as_millis() / TICK.as_millis()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(level_dbov: f32, voice: bool) -> Heard {
        Heard { sound: level_dbov > -127.0, level_dbov, voice }
    }

    /// Plays (level, voice, ticks) and gives (tick, began or ceased).
    fn turns(script: &[(f32, bool, usize)]) -> Vec<(usize, bool)> {
        let mut speaker = Speaker::default();
        script
            .iter()
            .flat_map(|(level, voice, count)| std::iter::repeat_n(heard(*level, *voice), *count))
            .enumerate()
            .filter_map(|(tick, heard)| speaker.hear(heard).map(|on| (tick, on)))
            .collect()
    }

    #[test]
    fn tells_who_speaks() {
        let (speech, silence) = ((-25.0, true, 50), (-127.0, false, 100));
        assert_eq!(turns(&[silence, speech, silence]), [(104, true), (199, false)]);
        assert_eq!(turns(&[silence, (-25.0, true, 4), silence]), [], "a cough");
        assert_eq!(turns(&[(-66.0, true, 500)]), [], "a fan");
        assert_eq!(turns(&[(-50.0, false, 500)]), [], "a road");
        assert_eq!(turns(&[(-50.0, true, 20), silence]), [(4, true), (69, false)], "a whisper");
        assert_eq!(turns(&[(-20.0, false, 20), silence]), [(4, true), (69, false)], "a trumpet");
        let sentence = [(-25.0, true, 10), (-70.0, false, 40)].repeat(20);
        assert_eq!(turns(&sentence), [(4, true)], "pauses belong to speech");
    }

    #[test]
    fn is_silent_at_once_when_muted() {
        let mut speaker = Speaker::default();
        for _ in 0..10 {
            speaker.hear(heard(-20.0, true));
        }
        assert!(speaker.is_speaking() && speaker.is_audible());
        assert_eq!(speaker.hush(), Some(false));
        assert!(!speaker.is_speaking() && !speaker.is_audible());
        assert_eq!(speaker.hush(), None);
    }

    #[test]
    fn shows_a_level_that_falls_as_meters_do() {
        let mut speaker = Speaker::default();
        assert_eq!(speaker.voicing(), Voicing::default());
        speaker.hear(heard(-20.0, true));
        assert_eq!(speaker.voicing().level_dbov, -20.0);
        // 20 dB in a second.
        for _ in 0..60 {
            speaker.hear(heard(-127.0, false));
        }
        assert!((speaker.voicing().level_dbov + 44.0).abs() < 0.1, "{:?}", speaker.voicing());
        for _ in 0..500 {
            speaker.hear(heard(-127.0, false));
        }
        assert_eq!(speaker.voicing().level_dbov, -127.0);
        speaker.hear(heard(-20.0, true));
        speaker.hush();
        assert_eq!(speaker.voicing(), Voicing::default());
    }

    #[test]
    fn keeps_the_end_of_a_word() {
        let mut speaker = Speaker::default();
        speaker.hear(heard(-20.0, true));
        let kept = (0..100)
            .take_while(|_| {
                speaker.hear(heard(-90.0, false));
                speaker.is_audible()
            })
            .count();
        assert_eq!(kept, 24);
    }
}
