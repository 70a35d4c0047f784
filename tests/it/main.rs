//! Hermetic tests: no network, no clock, no order of their own.
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items)]

mod muc;
