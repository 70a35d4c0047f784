//! What the operating system counts for this process.
//!
//! Read when metrics are asked for, and not by the loop: counting descriptors takes a moment when
//! there are many. Where `/proc` does not tell, a number stays what it was.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

use crate::metrics::Process;

/// Brings the metrics up to date.
pub(super) fn measure(process: &Process) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let used = usage.user_time() + usage.system_time();
        #[expect(clippy::cast_precision_loss, reason = "exact for the next 285 years")]
        let seconds = used.num_microseconds() as f64 / 1e6;
        // Two scrapes at a time may read in one order and come here in the other.
        process.cpu.inc_by((seconds - process.cpu.get()).max(0.0));
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<i64>().ok()
        };
        if let Some(kibibytes) = number("VmRSS:") {
            process.resident_memory.set(kibibytes * 1024);
        }
        if let Some(threads) = number("Threads:") {
            process.threads.set(threads);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        process.open_fds.set(i64::try_from(open.count()).unwrap_or(i64::MAX));
    }
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        process.max_fds.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn this_process_uses_something_of_everything() {
        let process = Metrics::new().process;
        measure(&process);
        let first = process.cpu.get();
        measure(&process);
        assert!(first > 0.0 && process.cpu.get() >= first);
        assert!(process.resident_memory.get() > 1024 * 1024);
        assert!(process.threads.get() >= 1);
        assert!((3..process.max_fds.get()).contains(&process.open_fds.get()));
    }
}
