//! Hermetic tests: no network, no clock, no order of their own.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "one binary")]

mod accord;
mod archive;
mod book;
mod bridge;
mod client;
mod conformance;
#[cfg(feature = "io")]
mod console;
mod dashboards;
mod hall;
mod mix;
mod muc;
mod muc_hostile;
mod openapi;
#[cfg(feature = "io")]
#[path = "../support/postgres.rs"]
mod postgres;
mod provision;
mod room;
#[cfg(feature = "io")]
mod shell;
mod site;
mod tidy;
