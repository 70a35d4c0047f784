//! The client half of RFC 7081.

pub mod caller;
pub mod link;
pub mod number;
pub mod people;
