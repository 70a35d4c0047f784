//! The one flow of an account: datagrams, or a stream with or without TLS.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use cusax_sip::frame::Framer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

use super::super::{Duplex, Lost, PATIENCE, with_port};

/// What goes over the network.
pub(super) enum Wire {
    Datagrams(UdpSocket),
    Stream { io: Box<dyn Duplex>, framer: Framer, buffer: Vec<u8> },
}

impl Wire {
    /// What came, which may be nothing whole. Giving up waiting for it loses nothing.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        match self {
            Self::Datagrams(socket) => {
                bytes.resize(MAX_DATAGRAM, 0);
                let length = socket.recv(&mut bytes).await?;
                bytes.truncate(length);
            }
            Self::Stream { io, buffer, .. } => {
                buffer.clear();
                if io.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                bytes.clone_from(buffer);
            }
        }
        Ok(bytes)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagrams(socket) => match socket.send(bytes).await {
                // Nobody listened to the one before; what is not answered is sent again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                sent => sent.map(drop),
            },
            Self::Stream { io, .. } => {
                let written = timeout(PATIENCE, async {
                    io.write_all(bytes).await?;
                    io.flush().await
                });
                written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl Wire {
    pub(super) fn stream(io: impl Duplex + 'static) -> Self {
        Self::Stream { io: Box::new(io), framer: Framer::new(), buffer: vec![] }
    }
}

/// A socket for datagrams to a server.
pub(super) async fn datagrams(server: &str) -> Result<(UdpSocket, SocketAddr, SocketAddr), Lost> {
    let lost = |why| Lost::Unreachable { server: with_port(server, PORT), why };
    let mut addresses = lookup_host(with_port(server, PORT)).await.map_err(lost)?;
    let none = || lost(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    let remote = addresses.next().ok_or_else(none)?;
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(lost)?;
    socket.connect(remote).await.map_err(lost)?;
    let local = socket.local_addr().map_err(lost)?;
    Ok((socket, local, remote))
}

/// Where SIP servers listen (RFC 3261 §19.1.2).
pub(super) const PORT: u16 = 5060;
pub(super) const TLS_PORT: u16 = 5061;
/// The longest datagram.
const MAX_DATAGRAM: usize = 65_535;
