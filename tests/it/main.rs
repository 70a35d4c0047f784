//! Hermetic tests: no network, no clock, no order of their own.
