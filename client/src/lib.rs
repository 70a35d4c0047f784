//! The client half of RFC 7081.

pub mod link;
