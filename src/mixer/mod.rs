//! One conference's audio, without sockets or threads.
//!
//! The control plane gives [`plan::Order`]s and gets [`plan::Report`]s; packets go into a
//! [`mix::Mix`] as they come and out of it at each tick of 20 ms. Nothing here opens a socket, takes
//! a lock or reads a clock, and once a room has warmed up nothing allocates.
//!
//! | read | to learn |
//! | --- | --- |
//! | [`plan`] | what crosses between the two planes |
//! | [`floor`] | who may be heard, from the room's facts |
//! | [`mix`] | one room's audio: hear, sum, subtract, say |
//! | [`stream`] | one encode shared by all who hear the same, and what silence is |
//! | [`effort`] | how much an encode may cost while the machine is busy |
//! | [`speakers`] | who speaks, and whose sound is worth mixing |

pub mod effort;
pub mod floor;
pub mod mix;
pub mod plan;
pub mod speakers;
pub mod stream;
