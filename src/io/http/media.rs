//! What the mixer knows of calls, put beside what rooms know of them.

use cusax_media::quality::Quality;
use serde_json::{Value, json};

use super::Http;
use crate::id::LegId;
use crate::mixer::mix::LegHealth;
use crate::mixer::plan::CodecKind;

impl Http {
    /// Adds to each leg of a room what its audio is like: `media`, or `null` before the mixer has it.
    pub(super) fn add_media(&self, room: &mut Value) {
        let people = room.get_mut("people").and_then(Value::as_array_mut);
        let legs = people
            .into_iter()
            .flatten()
            .filter_map(|person| person.get_mut("legs").and_then(Value::as_array_mut))
            .flatten();
        for leg in legs {
            let number = leg["id"].as_str().and_then(|id| id.strip_prefix('l')?.parse().ok());
            let health = number.and_then(|number| self.0.legs.get(LegId(number)));
            leg["media"] = health.map_or(Value::Null, |health| media(&health));
        }
    }
}

fn media(health: &LegHealth) -> Value {
    let LegHealth { quality, codec, encrypted, stats, .. } = health;
    let codec = codec.map(|codec| match codec {
        CodecKind::Opus => "opus",
        CodecKind::Pcmu => "pcmu",
        CodecKind::Pcma => "pcma",
    });
    let share = |of: fn(&Quality) -> f64| quality.as_ref().map(|it| rounded(of(it), 4));
    json!({
        "codec": codec,
        "encrypted": encrypted,
        "mos": quality.as_ref().map(|it| rounded(it.mos, 2)),
        "loss": share(|it| it.loss),
        "concealed": share(|it| it.concealed),
        "jitter_ms": rounded(stats.interarrival_jitter_s * 1_000.0, 1),
        "delay_ms": quality.as_ref().map(|it| it.delay.as_millis() as u64),
        "rtt_ms": stats.rtt.map(|rtt| rtt.as_millis() as u64),
    })
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
