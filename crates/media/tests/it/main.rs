//! The media crate from outside: one leg on a simulated network, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod hostile;
mod leg;
mod network;
mod network_model;
mod simulation;
