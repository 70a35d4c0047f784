//! Where SIP messages come from and go to.

use std::fmt;
use std::net::SocketAddr;

use crate::uri;

/// How a SIP message came or goes: transport, and the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
}

/// SIP transports (RFC 3261 §18, RFC 7118).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream within TLS.
    Tls,
    /// A WebSocket.
    Ws,
    /// A WebSocket within TLS.
    Wss,
}

impl Transport {
    /// Whether the transport itself delivers what is sent (RFC 3261 §17: no retransmission).
    pub const fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls | Self::Ws | Self::Wss => true,
        }
    }

    /// Whether nobody on the way can read what is sent, as SIPS (RFC 3261 §26.2.2) and keys in a
    /// session description (RFC 4568 §7.3) ask for.
    pub const fn is_secure(self) -> bool {
        match self {
            Self::Udp | Self::Tcp | Self::Ws => false,
            Self::Tls | Self::Wss => true,
        }
    }

    /// The value of `transport` in a URI; none for UDP, which needs none. Both kinds of WebSocket are
    /// `ws` (RFC 7118 §5.2).
    pub const fn uri_param(self) -> Option<&'static str> {
        match self {
            Self::Udp => None,
            Self::Tcp => Some("tcp"),
            Self::Tls => Some("tls"),
            Self::Ws | Self::Wss => Some("ws"),
        }
    }
}

impl From<Transport> for uri::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Udp => Self::Udp,
            Transport::Tcp => Self::Tcp,
            Transport::Tls => Self::Tls,
            Transport::Ws => Self::Ws,
            Transport::Wss => Self::Wss,
        }
    }
}

impl fmt::Display for Transport {
    /// Writes the word of a Via header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uri::Transport::from(*self).fmt(f)
    }
}

/// A SIP message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Over which flow. For a stream, an open connection between those ends is used; if there is
    /// none, one is opened to `remote` (RFC 3261 §18.2.2), unless it is a WebSocket: only clients open
    /// those (RFC 7118 §3).
    pub flow: Flow,
    /// The message.
    pub bytes: Vec<u8>,
}
