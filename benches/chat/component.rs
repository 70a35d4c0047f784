//! The server's end of a component link (XEP-0114), for a measure without an XMPP server: stanzas
//! that are ready go in, what comes out is counted.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinHandle;

use crate::client::Seen;
use crate::server::ROOMS;

/// A port that waits for a component.
pub(crate) struct Port(TcpListener);

/// A component that is linked.
pub(crate) struct Component {
    write: OwnedWriteHalf,
    reader: JoinHandle<()>,
    /// What it sent.
    pub(crate) seen: Arc<Seen>,
}

impl Port {
    pub(crate) async fn open() -> Result<Self> {
        Ok(Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?))
    }

    pub(crate) fn number(&self) -> Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    /// Shakes hands with whoever comes, whatever they say.
    pub(crate) async fn accept(&self) -> Result<Component> {
        let (stream, _) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        let (mut read, mut write) = stream.into_split();
        let open = format!(
            "<stream:stream xmlns='jabber:component:accept' id='bench' from='{ROOMS}' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        write.write_all(open.as_bytes()).await?;
        let mut bytes = vec![];
        while !bytes.ends_with(b"</handshake>") {
            ensure!(read.read_buf(&mut bytes).await? > 0, "no hand-shake");
        }
        write.write_all(b"<handshake/>").await?;
        let seen = Arc::new(Seen::default());
        let counted = Arc::clone(&seen);
        let reader = tokio::spawn(async move {
            let mut bytes = Vec::with_capacity(1 << 20);
            while read.read_buf(&mut bytes).await.is_ok_and(|length| length > 0) {
                Seen::count(&mut bytes, &[&counted]);
                counted.more.notify_one();
            }
        });
        Ok(Component { write, reader, seen })
    }
}

impl Component {
    pub(crate) async fn send(&mut self, xml: &str) -> Result<()> {
        Ok(self.write.write_all(xml.as_bytes()).await?)
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
