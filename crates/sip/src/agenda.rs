//! When each of many machines wants to be woken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// One wake-up time for each key, the earliest first.
#[derive(Debug)]
pub(crate) struct Agenda<K> {
    due: BTreeSet<(Instant, K)>,
    at: BTreeMap<K, Instant>,
}

impl<K: Copy + Ord> Agenda<K> {
    pub(crate) fn new() -> Self {
        Self { due: BTreeSet::new(), at: BTreeMap::new() }
    }

    /// Sets when `key` is woken, or that it is not.
    pub(crate) fn set(&mut self, key: K, at: Option<Instant>) {
        let had = match at {
            Some(at) => self.at.insert(key, at),
            None => self.at.remove(&key),
        };
        if let Some(had) = had {
            self.due.remove(&(had, key));
        }
        if let Some(at) = at {
            self.due.insert((at, key));
        }
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.at.is_empty()
    }

    /// Takes out one key whose time has come. It is woken again when it is set again.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        let (_, key) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.set(key, None);
        Some(key)
    }
}
