//! What the link counts, for metrics and readiness.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::metrics::Metrics;

/// Which way a stanza went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server.
    In,
    /// To the server.
    Out,
}

/// The three stanzas of RFC 6120 §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Message, Self::Presence, Self::Iq];

    /// The kind that an element's name tells.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The element's name, and the metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }
}

/// Why a stanza went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// In: refused, see [`Refused`](super::Refused).
    Refused,
    /// In: the control loop's queue was full, or the writer's half full; the sender was told, if it could be.
    Congested,
    /// In: not a stanza.
    Unknown,
    /// Out: see [`Unsendable`](super::Unsendable).
    Unsendable,
    /// Out: the writer's queue was full.
    Overflow,
    /// Out: there was no link.
    Down,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Congested,
        Self::Unknown,
        Self::Unsendable,
        Self::Overflow,
        Self::Down,
    ];

    /// The metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Congested => "congested",
            Self::Unknown => "unknown",
            Self::Unsendable => "unsendable",
            Self::Overflow => "overflow",
            Self::Down => "down",
        }
    }
}

/// Numbers of one link since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    up: AtomicBool,
    stanzas: [[AtomicU64; Kind::ALL.len()]; 2],
    dropped: [AtomicU64; Dropped::ALL.len()],
    ends: [AtomicU64; super::End::NAMES.len()],
}

impl Counters {
    /// Whether the server takes and gives stanzas.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Stanzas read into the queue, or put into the writer's.
    pub fn stanzas(&self, direction: Direction, kind: Kind) -> u64 {
        self.stanzas[direction as usize][kind as usize].load(Relaxed)
    }

    /// Stanzas that went no further.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Relaxed)
    }

    /// Links that ended, and attempts that failed, by the names of [`End::NAMES`](super::End::NAMES).
    pub fn ends(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        super::End::NAMES.into_iter().zip(self.ends.iter().map(|count| count.load(Relaxed)))
    }

    /// Brings the metrics up to these numbers.
    pub fn measure(&self, metrics: &Metrics) {
        for (direction, label) in [(Direction::In, "in"), (Direction::Out, "out")] {
            for kind in Kind::ALL {
                let counter = metrics.stanzas.with_label_values(&[label, kind.name()]);
                Metrics::catch_up(&counter, self.stanzas(direction, kind));
            }
        }
        for why in Dropped::ALL {
            let counter = metrics.stanzas_dropped.with_label_values(&[why.name()]);
            Metrics::catch_up(&counter, self.dropped(why));
        }
        for (end, count) in self.ends() {
            Metrics::catch_up(&metrics.component_losses.with_label_values(&[end]), count);
        }
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Relaxed);
    }

    pub(super) fn pass(&self, direction: Direction, kind: Kind, stanzas: usize) {
        self.stanzas[direction as usize][kind as usize].fetch_add(stanzas as u64, Relaxed);
    }

    pub(super) fn lose(&self, why: Dropped, stanzas: usize) {
        self.dropped[why as usize].fetch_add(stanzas as u64, Relaxed);
    }

    pub(super) fn end(&self, end: &super::End) {
        if let Some(at) = super::End::NAMES.iter().position(|name| *name == end.name()) {
            self.ends[at].fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_know_every_reason() {
        let metrics = Metrics::new();
        let values = |name: &str| {
            let definition = metrics.definitions().iter().find(|it| it.name == name).unwrap();
            definition.labels[0].values.to_vec()
        };
        assert_eq!(values("cusax_stanzas_dropped_total"), Dropped::ALL.map(Dropped::name));
        assert_eq!(values("cusax_xmpp_component_losses_total"), super::super::End::NAMES);
    }
}
