//! What the service manager is told (sd_notify(3)): that the server is ready, that it reads its
//! configuration again, that it is alive, that it stops and how long that may take.
//!
//! Without a service manager that wants to know, nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The service manager.
#[derive(Clone, Copy, Debug)]
pub(super) struct Systemd {
    /// It wants to hear from us, or else starts us anew.
    watches: bool,
}

impl Systemd {
    /// Asks the environment whether it watches.
    pub(super) fn from_environment() -> Self {
        Self { watches: sd_notify::watchdog_enabled().is_some() }
    }

    /// Everything is bound, and people are served; after a reload as well.
    pub(super) fn ready(self) {
        tell(&[NotifyState::Ready, NotifyState::Status("ready")]);
    }

    /// The configuration is read again; [`Self::ready`] follows, whatever comes of it.
    pub(super) fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The loop turns, and the mixer moves.
    pub(super) fn alive(self) {
        if self.watches {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// It drains on an operator's word, or does so no more.
    pub(super) fn drains(self, calls: Option<usize>) {
        match calls {
            Some(calls) => tell(&[NotifyState::Status(&format!("draining, {calls} calls"))]),
            None => tell(&[NotifyState::Status("ready")]),
        }
    }

    /// It stops, which may take so long: whoever told it to is not to lose patience before.
    pub(super) fn stopping(self, within: Duration) {
        let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(state) {
        debug!(%why, "the service manager cannot be told");
    }
}
