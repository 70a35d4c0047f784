//! The one place where the driver reads a clock: everything below it gets time as an argument.

use std::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
pub(super) fn now() -> Instant {
    Instant::now()
}
