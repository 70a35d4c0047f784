//! Connections for the decisions of this crate, on tokio: one task for chat, one for voice, one for the
//! audio of a call.
//!
//! | read | to learn |
//! | --- | --- |
//! | [`chat`] | log in to an XMPP server, stanzas both ways |
//! | [`voice`] | register, call, hold, hang up, follow a conference |
//! | [`fetch`] | get the accounts of a service ([`provision`](crate::provision)) |
//! | [`audio`] | a call's audio, and what a microphone and a loudspeaker have to do |
//!
//! Each connection lives until it is dropped, told to stop, or lost, and is not made again by itself: that is
//! what [`connections`](crate::connections) decides. All channels are bounded; who does not read what happens
//! keeps the connection waiting, and so its peer.

pub mod audio;
pub mod chat;
mod clock;
pub mod fetch;
mod tls;
pub mod voice;
mod xml;

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::connections::Fault;
use crate::security::{Downgrade, Protection, worse};

pub use tls::Roots;

/// Why a connection could not be made, or is over.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// There is no way to the server, or it said nothing for too long.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// `HOST:PORT`.
        server: String,
        /// What the system says.
        why: io::Error,
    },
    /// The server ended it.
    #[error("{0}")]
    Ended(String),
    /// The server speaks something else.
    #[error("the server breaks the protocol: {0}")]
    Protocol(String),
    /// The server offers no encryption, and is not on this machine.
    #[error("the server offers no encryption, so no password is sent to it")]
    NotProtected,
    /// The certificate is not valid for the domain.
    #[error("the server did not prove who it is: {0}")]
    Certificate(io::Error),
    /// The connection is worse protected than before.
    #[error("less protected than before: {0:?}")]
    Downgrade(Vec<Downgrade>),
    /// Name or password are wrong.
    #[error("wrong name or password")]
    WrongPassword,
    /// The account is not let in.
    #[error("the server does not let the account in: {0}")]
    Refused(String),
    /// Another client took the place.
    #[error("another client took this one's place")]
    Replaced,
}

impl Lost {
    /// What it means for [`Connections`](crate::connections::Connections).
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. } | Self::Ended(_) | Self::Protocol(_) => Fault::Unreachable,
            Self::NotProtected | Self::Certificate(_) | Self::Downgrade(_) => Fault::NotTrusted,
            Self::WrongPassword => Fault::WrongPassword,
            Self::Refused(_) => Fault::Refused,
            Self::Replaced => Fault::Replaced,
        }
    }
}

/// A connection with or without TLS.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Gives up what is less protected than it was before.
fn no_worse(before: Option<Protection>, now: Protection) -> Result<(), Lost> {
    let worse = before.map(|before| worse(before, now)).unwrap_or_default();
    if worse.is_empty() { Ok(()) } else { Err(Lost::Downgrade(worse.into_iter().collect())) }
}

/// Connects to `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`: the first of its addresses that answers.
async fn connect(server: &str, port: u16) -> Result<TcpStream, Lost> {
    let lost = |why| Lost::Unreachable { server: with_port(server, port), why };
    let addresses = lookup_host(with_port(server, port)).await.map_err(lost)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in addresses.take(MAX_ADDRESSES) {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(lost)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(lost(last))
}

/// A server with its port.
fn with_port(server: &str, port: u16) -> String {
    let bare = match server.rsplit_once(':') {
        None => true,
        // An IPv6 address has colons of its own.
        Some((host, _)) => host.contains(':') && !server.contains(']') || server.ends_with(']'),
    };
    match bare {
        true if server.contains(':') && !server.starts_with('[') => format!("[{server}]:{port}"),
        true => format!("{server}:{port}"),
        false => server.to_owned(),
    }
}

/// How long an answer may take that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many addresses of a server are tried.
const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_get_a_port() {
        for (server, expected) in [
            ("example.org", "example.org:1"),
            ("example.org:99", "example.org:99"),
            ("192.0.2.1", "192.0.2.1:1"),
            ("::1", "[::1]:1"),
            ("[::1]", "[::1]:1"),
            ("[::1]:99", "[::1]:99"),
        ] {
            assert_eq!(with_port(server, 1), expected);
        }
    }
}
