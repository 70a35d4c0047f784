//! That nothing was missing from a steady tone, and whose fault it was if something was.

use crate::{baresip::Caller, recording::NO_GAP, site::Site, wait::monotonic};

/// The metric that says that the mixer was not in time.
const LATE: &str = "cusax_mix_late_ticks_total";

/// A stretch of time in which tones have to be heard without a gap.
pub(crate) struct Stretch {
    from: f64,
    late: f64,
}

impl Stretch {
    /// It begins now.
    pub(crate) fn begin(site: &Site) -> Self {
        Self { from: monotonic(), late: site.cusaxd.metric(LATE, "") }
    }

    /// When it began.
    pub(crate) fn from(&self) -> f64 {
        self.from
    }

    /// Panics if `listener` missed some of the tone of `talker` until `to`.
    ///
    /// On a busy machine a phone may be kept from sending or from playing for a moment. It tells
    /// the former; the latter it was, not the mixer, if what came held no silence and the mixer
    /// was never late.
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
        let starved = talker.starved();
        println!(
            "{hz} Hz: longest gap {:.0} ms, of that silence {:.0} ms, late ticks {late}, \
             frames that the talker's phone missed {starved}",
            gap * 1e3,
            silence * 1e3,
        );
        if starved == 0 {
            assert!(silence <= NO_GAP, "{silence:.3} s of silence in {hz} Hz");
            assert!(gap <= NO_GAP || late == 0.0, "a gap of {gap:.3} s in {hz} Hz");
        }
    }
}
