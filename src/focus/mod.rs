//! How phones see rooms.
pub mod caller;
pub mod ports;
pub mod status;
