//! One audio leg without IO: RTP, RTCP, jitter buffer, Opus and G.711.
