//! Light XMPP clients: they log in, write what they are told to, and count what they read.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::USERS;

/// How often something was read, by how it begins.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) presences: AtomicU64,
    pub(crate) bodies: AtomicU64,
    pub(crate) subjects: AtomicU64,
    pub(crate) iqs: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) more: Notify,
}

impl Seen {
    /// Counts in each of `all` what begins in `bytes`; what may go on later stays in it.
    pub(crate) fn count(bytes: &mut Vec<u8>, all: &[&Self]) {
        const LONGEST: usize = "<presence".len();
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'<') {
            from += at;
            let rest = &bytes[from..];
            if rest.len() < LONGEST {
                bytes.drain(..from);
                return;
            }
            for seen in all {
                seen.count_one(rest);
            }
            from += 1;
        }
        bytes.clear();
    }

    fn count_one(&self, tag: &[u8]) {
        let kinds: [(&[u8], &AtomicU64); 5] = [
            (b"<presence", &self.presences),
            (b"<body", &self.bodies),
            (b"<subject", &self.subjects),
            (b"<iq", &self.iqs),
            (b"<error", &self.errors),
        ];
        if let Some((_, count)) = kinds.iter().find(|(begin, _)| tag.starts_with(begin)) {
            count.fetch_add(1, SeqCst);
        }
    }

    /// Waits until what `count` tells is `enough`.
    pub(crate) async fn until(&self, what: &str, count: &AtomicU64, enough: u64) -> Result<()> {
        let waiting = async {
            while count.load(SeqCst) < enough {
                // The tick is for what was counted between the look and the wait.
                timeout(TICK, self.more.notified()).await.ok();
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("{what}: {enough} expected, {self:?} came"))
    }
}

/// One client.
pub(crate) struct Client {
    write: OwnedWriteHalf,
    reader: JoinHandle<()>,
    /// What it read.
    pub(crate) seen: Arc<Seen>,
}

impl Client {
    /// Logs in as somebody new; what is read counts in `all` as well.
    pub(crate) async fn login(port: u16, all: Arc<Seen>) -> Result<Self> {
        let (read, write) = log_in(port).await?;
        let seen = Arc::new(Seen::default());
        let reader = tokio::spawn(count(read, Arc::clone(&seen), all));
        Ok(Self { write, reader, seen })
    }

    pub(crate) async fn send(&mut self, xml: &str) -> Result<()> {
        Ok(self.write.write_all(xml.as_bytes()).await?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A client that reads what it gets.
pub(crate) struct Dialog {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    unread: Vec<u8>,
}

impl Dialog {
    pub(crate) async fn login(port: u16) -> Result<Self> {
        let (read, write) = log_in(port).await?;
        Ok(Self { read, write, unread: vec![] })
    }

    /// Sends something and reads up to the end of `until`.
    pub(crate) async fn ask(&mut self, xml: &str, until: &str) -> Result<String> {
        self.write.write_all(xml.as_bytes()).await?;
        timeout(PATIENCE, read_to(&mut self.read, &mut self.unread, until))
            .await
            .with_context(|| format!("{until} after {xml}"))?
    }
}

async fn log_in(port: u16) -> Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let open = format!(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
         to='{USERS}' version='1.0'>"
    );
    let sasl = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>";
    let bind = "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    let mut unread = vec![];
    for (say, answer) in [
        (open.as_str(), "</stream:features>"),
        (sasl, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
        (&open, "</stream:features>"),
        (bind, "</iq>"),
    ] {
        write.write_all(say.as_bytes()).await?;
        timeout(PATIENCE, read_to(&mut read, &mut unread, answer))
            .await
            .with_context(|| format!("no {answer}"))??;
    }
    Ok((read, write))
}

async fn read_to(read: &mut OwnedReadHalf, unread: &mut Vec<u8>, until: &str) -> Result<String> {
    let mut looked: usize = 0;
    loop {
        let from = looked.saturating_sub(until.len());
        let found = unread[from..].windows(until.len()).position(|it| it == until.as_bytes());
        if let Some(at) = found {
            let rest = unread.split_off(from + at + until.len());
            return Ok(String::from_utf8(std::mem::replace(unread, rest))?);
        }
        looked = unread.len();
        if read.read_buf(unread).await? == 0 {
            bail!("the server closed after {}", String::from_utf8_lossy(unread));
        }
    }
}

async fn count(mut read: OwnedReadHalf, seen: Arc<Seen>, all: Arc<Seen>) {
    let mut bytes = Vec::with_capacity(16 << 10);
    while read.read_buf(&mut bytes).await.is_ok_and(|length| length > 0) {
        Seen::count(&mut bytes, &[&seen, &all]);
        seen.more.notify_one();
        all.more.notify_one();
    }
}

const TICK: Duration = Duration::from_millis(20);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(180);
