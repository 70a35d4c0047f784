//! One conference's audio, without sockets or threads.

pub mod plan;
