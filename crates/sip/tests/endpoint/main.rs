//! The endpoint as its users and its peers see it: text in, text and events out, in virtual time.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod anything;
mod bench;
mod called;
mod calling;
mod lossy;
mod reliable;
mod requests;
mod session;
mod subscriptions;
