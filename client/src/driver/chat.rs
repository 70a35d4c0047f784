//! An XMPP connection (RFC 6120): TLS, SASL, a resource, and then stanzas both ways.
//!
//! What every client has to answer is answered here: pings, who it is, and that it does not know what it is
//! asked. The rest is its user's.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cusax::account::Xmpp;
use jid::{BareJid, FullJid};
use minidom::Element;
use sasl::client::Mechanism;
use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::scram::{Sha1, Sha256};
use sasl::common::{ChannelBinding, Credentials};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::tls::{exporter, privacy as tls_privacy, secure};
use super::xml::{Item, Reader};
use super::{Duplex, Lost, PATIENCE, Roots, connect};
use crate::room::{CLIENT, ROSTER, element, text, with};
use crate::security::{Privacy, Protection, sasl};

/// An account at an XMPP server.
#[derive(Clone)]
pub struct Account {
    /// Whose.
    pub jid: BareJid,
    /// Their password.
    pub password: String,
    /// `HOST` or `HOST:PORT`; without it, the domain at port 5222.
    pub server: Option<String>,
    /// The resource to ask for; the server may give another.
    pub resource: Option<String>,
    /// Whose certificates are believed.
    pub roots: Roots,
}

impl Account {
    /// The account of a document, with its password.
    pub fn new(xmpp: &Xmpp, password: &str) -> Self {
        Self {
            jid: xmpp.jid.clone(),
            password: password.to_owned(),
            server: xmpp.server.clone(),
            resource: None,
            roots: Roots::System,
        }
    }
}

/// A connection that is logged in.
pub struct Chat {
    jid: FullJid,
    protection: Protection,
    out: mpsc::Sender<Element>,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum Event {
    /// A stanza that is for the user.
    Stanza(Element),
    /// It is over. Nothing follows.
    Lost(Lost),
}

impl Chat {
    /// Logs in. What comes then goes to `events`, whatever else is told there. `before` is how well
    /// protected the account was: no password goes where it would be less.
    pub async fn connect<E: From<Event> + Send + 'static>(
        account: &Account,
        before: Option<Protection>,
        events: mpsc::Sender<E>,
    ) -> Result<Self, Lost> {
        let logged_in = timeout(3 * PATIENCE, log_in(account, before)).await;
        let (stream, jid, protection) = logged_in.unwrap_or_else(|_| {
            let server = account.jid.domain().to_string();
            Err(Lost::Unreachable { server, why: io::ErrorKind::TimedOut.into() })
        })?;
        let (out, orders) = mpsc::channel(QUEUE);
        let own = jid.clone();
        tokio::spawn(async move {
            if let Some(lost) = live(stream, own, orders, &events).await {
                // Who no longer listens need not be told.
                drop(events.send(E::from(Event::Lost(lost))).await);
            }
        });
        Ok(Self { jid, protection, out })
    }

    /// As whom it is logged in.
    pub fn jid(&self) -> &FullJid {
        &self.jid
    }

    /// How it is protected.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Sends a stanza; waits while too many are on their way. After the end of the connection it does
    /// nothing. Dropping the connection ends it.
    pub async fn send(&self, stanza: Element) {
        drop(self.out.send(stanza).await);
    }
}

/// A connection and the XML stream in it.
struct Stream<T> {
    io: T,
    reader: Reader,
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    start: usize,
}

impl<T: Duplex> Stream<T> {
    fn new(io: T) -> Self {
        Self { io, reader: Reader::new(), buffer: vec![], start: 0 }
    }

    async fn send(&mut self, text: &str) -> Result<(), Lost> {
        let written = timeout(PATIENCE, async {
            self.io.write_all(text.as_bytes()).await?;
            self.io.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(Lost::Ended("the server takes nothing".to_owned())),
        }
    }

    /// Opens it, or opens it anew, and says what the server offers (§4.3).
    async fn open(&mut self, domain: &str) -> Result<Element, Lost> {
        // What came before the restart is not of this stream.
        (self.reader, self.start) = (Reader::new(), self.buffer.len());
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xml:lang='en' \
             xmlns='jabber:client' xmlns:stream='{STREAMS}'>"
        );
        self.send(&header).await?;
        match self.item().await? {
            Item::Open => {}
            Item::Element(_) | Item::Close => return Err(protocol("no stream header")),
        }
        let features = self.element().await?;
        if features.is("features", STREAMS) { Ok(features) } else { Err(stream_error(&features)) }
    }

    async fn element(&mut self) -> Result<Element, Lost> {
        match self.item().await? {
            Item::Element(element) => Ok(element),
            Item::Open => Err(protocol("two stream headers")),
            Item::Close => Err(Lost::Ended("the server ended the stream".to_owned())),
        }
    }

    /// The next item. Giving up waiting for it loses nothing.
    async fn item(&mut self) -> Result<Item, Lost> {
        loop {
            let mut input = &self.buffer[self.start..];
            let item = self.reader.next(&mut input);
            self.start = self.buffer.len() - input.len();
            if let Some(item) = item.map_err(Lost::Protocol)? {
                return Ok(item);
            }
            self.buffer.clear();
            self.start = 0;
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Lost::Ended("the server closed the connection".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

type Secret<'a> = &'a mut (dyn Mechanism + Send + Sync);

/// Everything from the socket to a bound resource.
async fn log_in(
    account: &Account,
    before: Option<Protection>,
) -> Result<(Stream<Box<dyn Duplex>>, FullJid, Protection), Lost> {
    let domain = account.jid.domain().as_str();
    let socket = connect(account.server.as_deref().unwrap_or(domain), PORT).await?;
    let local = socket.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    let mut plain = Stream::new(socket);
    let mut features = plain.open(domain).await?;
    let starttls = features.get_child("starttls", TLS);
    let required = starttls.is_some_and(|tls| tls.has_child("required", TLS));
    let (mut privacy, mut binding) = (Privacy::Local, None);
    let mut stream: Stream<Box<dyn Duplex>> = if starttls.is_some() && (required || !local) {
        plain.send(&format!("<starttls xmlns='{TLS}'/>")).await?;
        if !plain.element().await?.is("proceed", TLS) {
            return Err(Lost::NotProtected);
        }
        // Nothing that came in the clear is taken for something that came encrypted.
        let secured = secure(plain.io, domain, &account.roots).await?;
        (privacy, binding) = (tls_privacy(&secured), exporter(&secured));
        let mut stream: Stream<Box<dyn Duplex>> = Stream::new(Box::new(secured));
        features = stream.open(domain).await?;
        stream
    } else if local {
        let Stream { io, reader, buffer, start } = plain;
        Stream { io: Box::new(io), reader, buffer, start }
    } else {
        return Err(Lost::NotProtected);
    };
    let mut mechanism = mechanism(account, &features, binding)?;
    let login = sasl(mechanism.name()).ok_or_else(|| protocol("an unknown mechanism"))?;
    let protection = Protection { privacy, login };
    super::no_worse(before, protection)?;
    authenticate(&mut stream, mechanism.as_mut()).await?;
    let features = stream.open(domain).await?;
    if !features.has_child("bind", BIND) {
        return Err(protocol("no resource can be bound"));
    }
    let jid = bind(&mut stream, account.resource.as_deref()).await?;
    Ok((stream, jid, protection))
}

/// The best mechanism that both sides know (§6.3.3). A password is sent as it is only where nobody
/// can read it, which here is always so.
fn mechanism(
    account: &Account,
    features: &Element,
    binding: Option<Vec<u8>>,
) -> Result<Box<dyn Mechanism + Send + Sync>, Lost> {
    let offered: Vec<String> = features
        .get_child("mechanisms", SASL)
        .into_iter()
        .flat_map(Element::children)
        .map(|mechanism| mechanism.text().trim().to_owned())
        .collect();
    let has = |name: &str| offered.iter().any(|offered| offered == name);
    // XEP-0440: which bindings the server knows.
    let knows_exporter = features
        .get_child("sasl-channel-binding", BINDINGS)
        .is_some_and(|all| all.children().any(|one| one.attr("type") == Some("tls-exporter")));
    let user = account.jid.node().map(|node| node.to_string()).unwrap_or_default();
    let credentials = |channel_binding| {
        Credentials { channel_binding, ..Credentials::default() }
            .with_username(user.clone())
            .with_password(account.password.clone())
    };
    let failed = |_| protocol("no log-in can be made");
    let scram =
        |plus: bool, channel_binding| -> Result<Option<Box<dyn Mechanism + Send + Sync>>, Lost> {
            let suffix = if plus { "-PLUS" } else { "" };
            let credentials = credentials(channel_binding);
            Ok(if has(&format!("SCRAM-SHA-256{suffix}")) {
                Some(Box::new(Scram::<Sha256>::from_credentials(credentials).map_err(failed)?))
            } else if has(&format!("SCRAM-SHA-1{suffix}")) {
                Some(Box::new(Scram::<Sha1>::from_credentials(credentials).map_err(failed)?))
            } else {
                None
            })
        };
    if let Some(data) = binding.filter(|_| knows_exporter)
        && let Some(bound) = scram(true, ChannelBinding::TlsExporter(data))?
    {
        return Ok(bound);
    }
    if let Some(scram) = scram(false, ChannelBinding::Unsupported)? {
        return Ok(scram);
    }
    if has("PLAIN") {
        let plain = Plain::from_credentials(credentials(ChannelBinding::Unsupported));
        return Ok(Box::new(plain.map_err(failed)?));
    }
    Err(Lost::Refused(format!("it offers no log-in that is known, but {}", offered.join(", "))))
}

/// Proves who logs in, and with SCRAM that the server knows the password too (§6.4).
async fn authenticate<T: Duplex>(
    stream: &mut Stream<T>,
    mechanism: Secret<'_>,
) -> Result<(), Lost> {
    let initial = mechanism.initial();
    let mut auth = element("auth", SASL, &[("mechanism", mechanism.name())]);
    auth.append_text(STANDARD.encode(&initial));
    stream.send(&String::from(&auth)).await?;
    for _ in 0..MAX_ROUNDS {
        let answer = stream.element().await?;
        let data = STANDARD.decode(answer.text().trim()).map_err(|_| protocol("no base64"))?;
        if answer.is("challenge", SASL) {
            fair(&initial, &data)?;
            let response =
                mechanism.response(&data).map_err(|why| Lost::Protocol(why.to_string()))?;
            let response = text("response", SASL, &STANDARD.encode(response));
            stream.send(&String::from(&response)).await?;
        } else if answer.is("success", SASL) {
            // Who only pretends to know the password is found out here.
            return mechanism.success(&data).map_err(|why| Lost::Protocol(why.to_string()));
        } else if answer.is("failure", SASL) {
            return Err(failure(&answer));
        } else {
            return Err(stream_error(&answer));
        }
    }
    Err(protocol("log-in does not end"))
}

/// A challenge of SCRAM that goes on from what we said, and does not ask for work without end (RFC 5802 §5.1).
fn fair(initial: &[u8], challenge: &[u8]) -> Result<(), Lost> {
    let part = |text: &[u8], name: &str| {
        let text = String::from_utf8_lossy(text).into_owned();
        text.split(',').find_map(|part| part.strip_prefix(name)).map(str::to_owned)
    };
    let own = part(initial, "r=").unwrap_or_default();
    let theirs = part(challenge, "r=").unwrap_or_default();
    let rounds = part(challenge, "i=").and_then(|rounds| rounds.parse::<u32>().ok()).unwrap_or(0);
    if !theirs.starts_with(&own) || theirs.len() == own.len() {
        return Err(protocol("a challenge to somebody else"));
    }
    if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&rounds) {
        return Err(Lost::Protocol(format!("a challenge of {rounds} iterations")));
    }
    Ok(())
}

fn failure(failure: &Element) -> Lost {
    let word = failure.children().map(Element::name).find(|name| *name != "text");
    match word.unwrap_or("not-authorized") {
        "not-authorized" | "credentials-expired" => Lost::WrongPassword,
        "temporary-auth-failure" => Lost::Ended("log-in fails for now".to_owned()),
        word => Lost::Refused(word.to_owned()),
    }
}

/// Asks for a resource (§7).
async fn bind<T: Duplex>(stream: &mut Stream<T>, resource: Option<&str>) -> Result<FullJid, Lost> {
    let mut bind = Element::bare("bind", BIND);
    if let Some(wish) = resource {
        bind.append_child(text("resource", BIND, wish));
    }
    let request = with(element("iq", CLIENT, &[("type", "set"), ("id", "bind")]), bind);
    stream.send(&String::from(&request)).await?;
    let answer = stream.element().await?;
    let jid = answer.get_child("bind", BIND).and_then(|bind| bind.get_child("jid", BIND));
    let jid = jid.and_then(|jid| FullJid::new(jid.text().trim()).ok());
    jid.ok_or_else(|| Lost::Refused("it gives no resource".to_owned()))
}

/// Carries stanzas until one side has enough; `None` if it was the user.
async fn live<E: From<Event>>(
    mut stream: Stream<Box<dyn Duplex>>,
    own: FullJid,
    mut orders: mpsc::Receiver<Element>,
    events: &mpsc::Sender<E>,
) -> Option<Lost> {
    let mut asked = false;
    loop {
        let patience = if asked { PATIENCE } else { SILENCE };
        let step = tokio::select! {
            order = orders.recv() => match order {
                Some(stanza) => stream.send(&String::from(&stanza)).await,
                None => {
                    drop(stream.send("</stream:stream>").await);
                    return None;
                }
            },
            item = timeout(patience, stream.item()) => match item {
                Ok(Ok(Item::Element(element))) => {
                    asked = false;
                    match answer(&element, &own) {
                        Some(answer) => stream.send(&String::from(&answer)).await,
                        None if element.is("error", STREAMS) => Err(stream_error(&element)),
                        None if is_pong(&element) => Ok(()),
                        None => {
                            let sent = events.send(E::from(Event::Stanza(element))).await;
                            if sent.is_err() {
                                return None;
                            }
                            Ok(())
                        }
                    }
                }
                Ok(Ok(Item::Close)) => Err(Lost::Ended("the server ended the stream".to_owned())),
                Ok(Ok(Item::Open)) => Err(protocol("two stream headers")),
                Ok(Err(lost)) => Err(lost),
                Err(_) if asked => Err(Lost::Ended("the server is silent".to_owned())),
                Err(_) => {
                    asked = true;
                    let ping = element("iq", CLIENT, &[("type", "get"), ("id", PING_ID)]);
                    let ping = with(ping, Element::bare("ping", PING));
                    stream.send(&String::from(&ping)).await
                }
            },
        };
        if let Err(lost) = step {
            return Some(lost);
        }
    }
}

/// The answer to a request that every client answers: XEP-0199, XEP-0030, a change of the roster by one's own
/// account (RFC 6121 §2.1.6), and for all that is unknown an error (RFC 6120 §8.2.3).
fn answer(request: &Element, own: &FullJid) -> Option<Element> {
    let kind = request.attr("type")?;
    if request.name() != "iq" || !matches!(kind, "get" | "set") {
        return None;
    }
    let asks = |wanted, name: &str, ns: &str| {
        kind == wanted && request.children().next().is_some_and(|payload| payload.is(name, ns))
    };
    let from = request.attr("from");
    let by_own = from.is_none_or(|from| BareJid::new(from).is_ok_and(|by| by == own.to_bare()));
    let known = asks("get", "ping", PING)
        || asks("get", "query", DISCO)
        || asks("set", "query", ROSTER) && by_own;
    let mut attributes = vec![
        ("type", if known { "result" } else { "error" }),
        ("id", request.attr("id").unwrap_or_default()),
    ];
    attributes.extend(from.map(|from| ("to", from)));
    let mut reply = element("iq", CLIENT, &attributes);
    if asks("get", "query", DISCO) {
        let identity = [("category", "client"), ("type", "phone"), ("name", "cusax")];
        let mut query = with(Element::bare("query", DISCO), element("identity", DISCO, &identity));
        for var in [DISCO, PING] {
            query.append_child(element("feature", DISCO, &[("var", var)]));
        }
        reply.append_child(query);
    } else if !known {
        let error = element("error", CLIENT, &[("type", "cancel")]);
        reply.append_child(with(error, Element::bare("service-unavailable", STANZA_ERRORS)));
    }
    Some(reply)
}

/// The answer to our ping, whatever it says: the server is there.
fn is_pong(stanza: &Element) -> bool {
    stanza.name() == "iq" && stanza.attr("id") == Some(PING_ID)
}

/// What a stream error means (§4.9).
fn stream_error(error: &Element) -> Lost {
    if !error.is("error", STREAMS) {
        return protocol("not what was asked for");
    }
    match error.children().map(Element::name).find(|name| *name != "text") {
        Some("conflict") => Lost::Replaced,
        Some("not-authorized" | "policy-violation") => Lost::Refused("by its policy".to_owned()),
        word => {
            Lost::Ended(format!("the server ended the stream: {}", word.unwrap_or("no reason")))
        }
    }
}

fn broken(error: &io::Error) -> Lost {
    Lost::Ended(format!("the connection broke: {error}"))
}

fn protocol(what: &str) -> Lost {
    Lost::Protocol(what.to_owned())
}

const STREAMS: &str = "http://etherx.jabber.org/streams";
const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// XEP-0440.
const BINDINGS: &str = "urn:xmpp:sasl-cb:0";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
const PING: &str = "urn:xmpp:ping";
const DISCO: &str = "http://jabber.org/protocol/disco#info";
/// Where servers listen for clients (RFC 6120 §14.7).
const PORT: u16 = 5222;
/// The id of our pings: they never overlap.
const PING_ID: &str = "cusax-ping";
/// A server that says nothing for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(60);
/// Stanzas that wait to be written.
const QUEUE: usize = 64;
/// The most challenges of one log-in.
const MAX_ROUNDS: usize = 4;
/// How much work a server may ask for: RFC 7677 §4 asks for at least the first.
const MIN_ITERATIONS: u32 = 4_096;
const MAX_ITERATIONS: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_has_to_be_ours_and_bearable() {
        let check = |challenge: &str, fine: bool| {
            let initial = b"n,,n=alice,r=abc";
            assert_eq!(fair(initial, challenge.as_bytes()).is_ok(), fine, "{challenge}");
        };
        check("r=abcdef,s=c2FsdA==,i=4096", true);
        check("r=abcdef,s=c2FsdA==,i=10000", true);
        check("r=abc,s=c2FsdA==,i=4096", false);
        check("r=xyzdef,s=c2FsdA==,i=4096", false);
        check("r=abcdef,s=c2FsdA==,i=1", false);
        check("r=abcdef,s=c2FsdA==,i=4294967295", false);
        check("r=abcdef,s=c2FsdA==", false);
        check("", false);
    }

    #[test]
    fn answers_what_every_client_answers() {
        let check = |request: &str, expected: Option<&str>| {
            let own = FullJid::new("me@x/pc").unwrap();
            let request = format!("<iq xmlns='jabber:client' id='1' {request}</iq>");
            let answer = answer(&request.parse().unwrap(), &own).map(|answer| {
                let to = answer.attr("to").unwrap_or("-").to_owned();
                let child = answer.children().next().map(|child| child.name().to_owned());
                format!("{} {to} {}", answer.attr("type").unwrap(), child.unwrap_or_default())
            });
            assert_eq!(answer.as_deref().map(str::trim_end), expected, "{request}");
        };
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        check(&format!("type='get' from='x'>{ping}"), Some("result x"));
        check(&format!("type='get'>{ping}"), Some("result -"));
        check(&format!("type='set' from='x'>{ping}"), Some("error x error"));
        let disco = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        check(&format!("type='get' from='a@x/y'>{disco}"), Some("result a@x/y query"));
        check("type='get' from='a@x'><query xmlns='odd'/>", Some("error a@x error"));
        check("type='get' from='a@x'>", Some("error a@x error"));
        let roster = "<query xmlns='jabber:iq:roster'><item jid='e@x'/></query>";
        check(&format!("type='set' from='me@x'>{roster}"), Some("result me@x"));
        check(&format!("type='set'>{roster}"), Some("result -"));
        check(&format!("type='set' from='eve@x'>{roster}"), Some("error eve@x error"));
        check(&format!("type='result'>{roster}"), None);
        check("type='error'>", None);
    }

    #[test]
    fn tells_a_wrong_password_from_a_server_in_trouble() {
        let check = |inner: &str, expected: &str| {
            let text = format!("<failure xmlns='{SASL}'>{inner}</failure>");
            assert_eq!(failure(&text.parse().unwrap()).to_string(), expected);
        };
        check("<not-authorized/>", "wrong name or password");
        check("<text>x</text><not-authorized/>", "wrong name or password");
        check("<temporary-auth-failure/>", "log-in fails for now");
        check("<account-disabled/>", "the server does not let the account in: account-disabled");
        let gone = format!("<error xmlns='{STREAMS}'><conflict xmlns='x'/></error>");
        assert!(matches!(stream_error(&gone.parse().unwrap()), Lost::Replaced));
    }
}
