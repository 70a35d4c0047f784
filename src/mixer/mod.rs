//! One conference's audio, without sockets or threads.

pub mod floor;
pub mod plan;
