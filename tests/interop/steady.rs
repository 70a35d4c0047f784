//! That nothing was missing from a steady tone, and whose fault it was if something was.

use crate::{baresip::Caller, recording::NO_GAP, site::Site, wait::monotonic};

/// The metric that says that the mixer was not in time.
const LATE: &str = "cusax_mix_late_ticks_total";

/// A stretch of time in which tones have to be heard without a gap.
pub(crate) struct Stretch {
    from: f64,
    late: f64,
    kept: f64,
}

impl Stretch {
    /// It begins now.
    pub(crate) fn begin(site: &Site) -> Self {
        let (late, kept) = (site.cusaxd.metric(LATE, ""), site.cusaxd.kept_waiting());
        Self { from: monotonic(), late, kept }
    }

    /// When it began.
    pub(crate) fn from(&self) -> f64 {
        self.from
    }

    /// Panics if `listener` missed some of the tone of `talker` until `to`.
    ///
    /// On a busy machine a phone may be kept from sending or from playing for a moment. It tells
    /// the former; the latter it was, not the mixer, if what came held no silence and the mixer
    /// was never late. The mixer itself may be late by as much as the machine kept it from running,
    /// and not by what it did meanwhile.
    pub(crate) fn was_heard(
        &self,
        site: &Site,
        listener: &Caller,
        talker: &Caller,
        hz: f64,
        to: f64,
    ) {
        let heard = listener.heard();
        let silence = heard.longest_silence(hz, self.from, to);
        let gap = silence.max(heard.longest_wait(self.from, to));
        let late = site.cusaxd.metric(LATE, "") - self.late;
        let kept = site.cusaxd.kept_waiting() - self.kept;
        let starved = talker.starved();
        println!(
            "{hz} Hz: longest gap {:.0} ms, of that silence {:.0} ms; mixer late {late} times and kept \
             from running for {:.0} ms; the talker's phone missed {starved} frames",
            gap * 1e3,
            silence * 1e3,
            kept * 1e3,
        );
        if starved == 0 {
            assert!(silence <= NO_GAP, "{silence:.3} s of silence in {hz} Hz");
            let excused = late == 0.0 || gap <= kept;
            assert!(gap <= NO_GAP || excused, "a gap of {gap:.3} s in {hz} Hz");
        }
    }
}
