//! The jitter buffer (being written).

/// What the jitter buffer has counted since the leg began, in packets unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JitterStats {
    /// Taken into the buffer.
    pub received: u64,
    /// Came after their moment.
    pub late: u64,
    /// Came twice.
    pub duplicate: u64,
    /// Frames of 20 ms made up because nothing was there to play.
    pub concealed: u64,
    /// Frames repaired from the copy in the following packet.
    pub fec: u64,
    /// The delay that the buffer adds now, in seconds.
    pub delay_s: f64,
    /// The delay that it aims at, in seconds.
    pub target_s: f64,
}
