//! The client half of RFC 7081.
