//! CPU time and memory of the server, and the unit of CPU time.

use std::path::Path;

use anyhow::{Context, ensure};
use cusax_media::FRAME_SAMPLES;

use crate::speech::Coding;

/// The frames that one round of [`encode_ns`] encodes, and its rounds.
const FRAMES: usize = 500;
const ROUNDS: usize = 6;

/// CPU time that all threads of a process have had, in ns.
pub(crate) fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")?;
    // A thread may end while we look.
    Ok(tasks.flatten().filter_map(|task| thread_ns(&task.path())).sum())
}

/// Memory of a process that is not shared, in bytes.
pub(crate) fn memory_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no RssAnon")?;
    Ok(kib.parse::<u64>()? * 1_024)
}

/// CPU time of one encode of 20 ms of speech, VOIP, 32 kbit/s, complexity 5, in ns: the middle of some
/// rounds, by the libopus that the server has.
pub(crate) fn encode_ns(speech: &[f32]) -> anyhow::Result<u64> {
    let (frames, _) = speech.as_chunks::<FRAME_SAMPLES>();
    ensure!(frames.len() >= FRAMES, "at least {FRAMES} frames of speech are wanted");
    let me = Path::new("/proc/thread-self");
    let mut payload = [0; 1_500];
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let mut encoder = Coding { bitrate: 32_000, celt: false }.encoder()?;
        let before = thread_ns(me).context("no schedstat")?;
        for frame in &frames[..FRAMES] {
            encoder.encode_float(frame, &mut payload)?;
        }
        rounds.push((thread_ns(me).context("no schedstat")? - before) / FRAMES as u64);
    }
    rounds.sort_unstable();
    Ok(rounds[ROUNDS / 2])
}

fn thread_ns(task: &Path) -> Option<u64> {
    let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
    times.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_time_and_memory() {
        let me = std::process::id();
        let before = cpu_ns(me).unwrap();
        let noise: Vec<f32> =
            (0..FRAMES * FRAME_SAMPLES).map(|i| (i % 97) as f32 / 970.0).collect();
        let unit = encode_ns(&noise).unwrap();
        // What was measured is within what was used.
        assert!(unit > 1_000 && cpu_ns(me).unwrap() - before >= unit * FRAMES as u64);
        assert!(memory_bytes(me).unwrap() > 100_000);
        assert!(cpu_ns(u32::MAX).is_err());
    }
}
