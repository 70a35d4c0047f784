//! A SIP account (RFC 3261): registered, and one call at a time, with the conference that it may be.
//!
//! Everything goes to one place, the outbound proxy or the account's domain, over one flow: UDP, TCP or TLS.
//! When that is lost, so is the account's connection, and the call with it. One task does all of it:
//! `wire` is its flow, `call` its call, `conference` what it hears of who is in that.

mod call;
mod conference;
mod wire;

use std::io;
use std::time::{Duration, Instant};

use cusax::account::{Sip, Transport as AccountTransport};
use cusax::conference::Conference;
use cusax::identity::Aor;
use cusax_sip::digest::{Account as Digest, Algorithm};
use cusax_sip::endpoint::{
    Config, DialogId, Endpoint, Event as Happens, Limits, RequestId, SentId, refuse_method,
};
use cusax_sip::flow::{Flow, Transmit, Transport};
use cusax_sip::frame::{Frame as Piece, PONG};
use cusax_sip::header::{Headers, Name, NameAddr};
use cusax_sip::message::{Method, Request, Response, Status};
use cusax_sip::register::{self, Outcome as Registered, Registration};
use cusax_sip::uri::{Host, SipUri, Uri};
use jid::BareJid;
use rand::rngs::OsRng;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, TryRngCore};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use super::audio::{Device, Meter};
use super::clock::now;
use super::tls::{privacy, secure};
use super::{Lost, Roots, connect};
use crate::security::{Login, Privacy, Protection};
use call::Call;
use conference::Watch;
use wire::{PORT, TLS_PORT, Wire, datagrams};

/// An account at a SIP service.
#[derive(Clone)]
pub struct Account {
    /// Whose.
    pub aor: Aor,
    /// Their name, for people.
    pub name: Option<String>,
    /// The realm in which the password counts.
    pub realm: String,
    /// The user name there; the user part of the address, as a rule.
    pub user: String,
    /// Their password.
    pub password: String,
    /// `HOST` or `HOST:PORT` of the outbound proxy; without it, the domain at its transport's port.
    pub proxy: Option<String>,
    /// How it is reached: UDP, TCP or TLS.
    pub transport: Transport,
    /// Whether to register. Who does not cannot be called.
    pub register: bool,
    /// The XMPP account of the same service: calls tell it (RFC 6993).
    pub impp: Option<BareJid>,
    /// Whose certificates are believed.
    pub roots: Roots,
}

impl Account {
    /// The account of a document, with its password, over the first of its transports that is known here.
    pub fn new(sip: &Sip, name: Option<&str>, password: &str, impp: Option<BareJid>) -> Self {
        let transport = sip.transports.first().map_or(Transport::Tcp, |first| match first {
            AccountTransport::Udp => Transport::Udp,
            AccountTransport::Tcp => Transport::Tcp,
            AccountTransport::Tls => Transport::Tls,
        });
        Self {
            aor: sip.aor.clone(),
            name: name.map(str::to_owned),
            realm: sip.realm.clone(),
            user: sip.aor.user().to_owned(),
            password: password.to_owned(),
            proxy: sip.proxy.clone(),
            transport,
            register: sip.register,
            impp,
            roots: Roots::System,
        }
    }
}

/// An account's connection.
pub struct Voice {
    protection: Protection,
    orders: mpsc::Sender<Order>,
    meter: watch::Receiver<Meter>,
    task: JoinHandle<()>,
}

/// What an account is told.
enum Order {
    Call { to: Uri, device: Box<dyn Device>, meter: watch::Sender<Meter> },
    Answer { device: Box<dyn Device>, meter: watch::Sender<Meter> },
    HangUp,
    Hold(bool),
    Mute(bool),
    Stop,
}

/// What happens to an account.
#[derive(Debug)]
pub enum Event {
    /// Somebody calls: what they say of themselves is in the headers
    /// ([`caller`](crate::caller)). Answer it or hang up.
    Incoming(Box<Headers>),
    /// The other side rings.
    Ringing,
    /// The call is up.
    Connected {
        /// It is a conference, which tells who is in it.
        conference: bool,
        /// Nobody hears along on the way.
        encrypted: bool,
    },
    /// The call went on or off hold, by either side.
    Held(bool),
    /// The call is over.
    Ended(Why),
    /// Who is in the conference, whenever that changes; `None` when it is told no more.
    Conference(Option<Box<Conference>>),
    /// The account's connection is over, and its call. Nothing follows.
    Lost {
        /// Why.
        why: Lost,
        /// How long the server wants to be left alone.
        after: Option<Duration>,
    },
}

/// Why a call is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The person hung up.
    Oneself,
    /// The other side did, and says so.
    TheOther(Option<String>),
    /// The other side did not take it.
    Refused {
        /// The status (RFC 3261 §21).
        status: u16,
        /// What it says of it.
        reason: String,
    },
    /// Nothing in common to speak.
    NoMedia,
    /// There is no way to it any more.
    Lost,
}

impl Voice {
    /// Connects, and registers if the account wants that. What comes then goes to `events`. `before` is how
    /// well protected the account was: where it would be less, it is given up.
    pub async fn connect<E: From<Event> + Send + 'static>(
        account: &Account,
        before: Option<Protection>,
        events: mpsc::Sender<E>,
    ) -> Result<Self, Over> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let mut line = Line::open(account, receiver).await.map_err(|lost| (lost, None))?;
        let protection = line.log_in().await?;
        super::no_worse(before, protection).map_err(|lost| (lost, None))?;
        let task = tokio::spawn(async move { line.run(&events).await });
        let (_, meter) = watch::channel(Meter::default());
        Ok(Self { protection, orders, meter, task })
    }

    /// How it is protected.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Calls somebody. While there is a call, it does nothing.
    pub async fn call(&mut self, to: Uri, device: impl Device) {
        let meter = self.new_meter();
        self.order(Order::Call { to, device: Box::new(device), meter }).await;
    }

    /// Takes the call that came.
    pub async fn answer(&mut self, device: impl Device) {
        let meter = self.new_meter();
        self.order(Order::Answer { device: Box::new(device), meter }).await;
    }

    /// Ends the call, or does not take it.
    pub async fn hang_up(&self) {
        self.order(Order::HangUp).await;
    }

    /// Holds the call: neither side is heard (RFC 3264 §8.4). Or goes on with it.
    pub async fn hold(&self, hold: bool) {
        self.order(Order::Hold(hold)).await;
    }

    /// Says nothing to the others, or does again. Nothing of it leaves this machine.
    pub async fn mute(&self, mute: bool) {
        self.order(Order::Mute(mute)).await;
    }

    /// How the call sounds.
    pub fn meter(&self) -> Meter {
        *self.meter.borrow()
    }

    /// Ends the call, takes the registration back, and waits until that is done.
    pub async fn stop(self) {
        self.order(Order::Stop).await;
        // It does not panic, and if it did there were nothing left to end.
        drop(self.task.await);
    }

    fn new_meter(&mut self) -> watch::Sender<Meter> {
        let (sender, meter) = watch::channel(Meter::default());
        self.meter = meter;
        sender
    }

    async fn order(&self, order: Order) {
        // Who is gone takes no orders.
        drop(self.orders.send(order).await);
    }
}

/// An account's one task.
struct Line {
    account: Account,
    wire: Wire,
    flow: Flow,
    privacy: Privacy,
    endpoint: Endpoint,
    random: StdRng,
    orders: mpsc::Receiver<Order>,
    registration: Option<Registration>,
    registering: Option<SentId>,
    /// Answers challenges of calls and subscriptions.
    digest: Digest,
    call: Option<Call>,
    watch: Option<Watch>,
    ping_at: Instant,
    out: Vec<Transmit>,
    told: Vec<Event>,
}

/// Why an account's connection is over, and how long to leave the server alone.
type Over = (Lost, Option<Duration>);

impl Line {
    async fn open(account: &Account, orders: mpsc::Receiver<Order>) -> Result<Self, Lost> {
        let domain = account.aor.host();
        let server = account.proxy.as_deref().unwrap_or(domain);
        let broken = |why: io::Error| Lost::Ended(why.to_string());
        let mut seed = [0; 32];
        OsRng.try_fill_bytes(&mut seed).map_err(|error| Lost::Ended(error.to_string()))?;
        let (wire, local, remote, secured) = match account.transport {
            Transport::Udp => {
                let (socket, local, remote) = datagrams(server).await?;
                (Wire::Datagrams(socket), local, remote, None)
            }
            Transport::Tcp => {
                let socket = connect(server, PORT).await?;
                let ends = socket.local_addr().and_then(|local| Ok((local, socket.peer_addr()?)));
                let (local, remote) = ends.map_err(broken)?;
                (Wire::stream(socket), local, remote, None)
            }
            Transport::Tls => {
                let socket = connect(server, TLS_PORT).await?;
                let ends = socket.local_addr().and_then(|local| Ok((local, socket.peer_addr()?)));
                let (local, remote) = ends.map_err(broken)?;
                let socket = secure(socket, domain, &account.roots).await?;
                let privacy = privacy(&socket);
                (Wire::stream(socket), local, remote, Some(privacy))
            }
            Transport::Ws | Transport::Wss => {
                return Err(Lost::Protocol("SIP over WebSocket is for browsers".to_owned()));
            }
        };
        let open = if remote.ip().is_loopback() { Privacy::Local } else { Privacy::Open };
        let limits = Limits { dialogs: MAX_DIALOGS, ..Limits::default() };
        let product = concat!("cusax/", env!("CARGO_PKG_VERSION")).to_owned();
        let digest = Digest::new(&account.user, &account.password, Some(&account.realm));
        let mut random = StdRng::from_seed(seed);
        Ok(Self {
            endpoint: Endpoint::new(
                Config { supported: vec![], product, session: None, limits },
                random.random(),
            ),
            account: account.clone(),
            wire,
            flow: Flow { transport: account.transport, local, remote },
            privacy: secured.unwrap_or(open),
            random,
            orders,
            registration: None,
            registering: None,
            digest,
            call: None,
            watch: None,
            ping_at: now() + PING_EVERY,
            out: vec![],
            told: vec![],
        })
    }

    /// Registers, if that is wanted; how well it is protected then.
    async fn log_in(&mut self) -> Result<Protection, Over> {
        if !self.account.register {
            // Nothing was asked for yet; what will be is a digest.
            return Ok(Protection { privacy: self.privacy, login: Login::Digest });
        }
        let uri = format!("sip:{}", self.account.aor.host());
        let odd = |_| (Lost::Refused("its address is no SIP address".to_owned()), None);
        self.registration = Some(Registration::new(register::Config {
            registrar: uri.parse().map_err(odd)?,
            aor: self.account.aor.to_string().parse().map_err(odd)?,
            contact: self.contact(),
            expires_s: EXPIRES_S,
            account: Digest::new(
                &self.account.user,
                &self.account.password,
                Some(&self.account.realm),
            ),
            call_id: self.token(),
        }));
        self.register()?;
        while self.registering.is_some() {
            self.step(false).await?;
        }
        let algorithm = self.registration.as_ref().and_then(Registration::algorithm);
        let login = match algorithm {
            None => Login::Nothing,
            Some(Algorithm::Md5) => Login::Md5,
            Some(Algorithm::Sha256 | Algorithm::Sha512_256) => Login::Digest,
        };
        Ok(Protection { privacy: self.privacy, login })
    }

    async fn run<E: From<Event>>(mut self, events: &mpsc::Sender<E>) {
        loop {
            for event in std::mem::take(&mut self.told) {
                if events.send(E::from(event)).await.is_err() {
                    return self.leave().await;
                }
            }
            match self.step(true).await {
                Ok(true) => {}
                Ok(false) => return self.leave().await,
                Err((why, after)) => {
                    let ended = self.call.take().map(|_| Event::Ended(Why::Lost));
                    for event in ended.into_iter().chain([Event::Lost { why, after }]) {
                        // Who no longer listens need not be told.
                        drop(events.send(E::from(event)).await);
                    }
                    return;
                }
            }
        }
    }

    /// Hangs up and takes the registration back, if the server is quick to take note.
    async fn leave(mut self) {
        self.hang_up();
        self.unwatch();
        let cnonce = self.token();
        if let Some(registration) = &mut self.registration {
            let request = registration.unregister(&cnonce);
            let sent = self.endpoint.send(now(), self.flow, request, &mut self.out);
            self.registering = sent.ok();
        }
        let goodbye = async {
            while self.registering.is_some() || self.endpoint.load().dialogs > 0 {
                if self.step(false).await.is_err() {
                    return;
                }
            }
        };
        // One second is enough for a server that is there.
        drop(timeout(GOODBYE, goodbye).await);
    }

    /// Sends what is to be sent, and waits for what comes next; false if there are to be no more. Orders
    /// are taken if `obey`.
    async fn step(&mut self, obey: bool) -> Result<bool, Over> {
        self.flush().await?;
        let wake = [
            self.endpoint.poll_timeout(),
            self.registration.as_ref().and_then(Registration::poll_timeout),
            self.watch.as_ref().and_then(|watch| watch.refresh_at),
            Some(self.ping_at),
        ];
        let wake = wake.into_iter().flatten().min().unwrap_or(self.ping_at);
        tokio::select! {
            came = self.wire.receive() => {
                let bytes = came.map_err(|error| (Lost::Ended(format!("the connection broke: {error}")), None))?;
                self.take(&bytes)?;
            }
            order = self.orders.recv(), if obey => match order {
                None | Some(Order::Stop) => return Ok(false),
                Some(order) => self.obey(order).await,
            },
            () = sleep_until(wake.into()) => self.handle_timeout()?,
        }
        self.flush().await?;
        Ok(true)
    }

    async fn flush(&mut self) -> Result<(), Over> {
        for transmit in std::mem::take(&mut self.out) {
            if transmit.flow == self.flow {
                let sent = self.wire.send(&transmit.bytes).await;
                sent.map_err(|error| {
                    (Lost::Ended(format!("the connection broke: {error}")), None)
                })?;
            } else {
                // There is one flow; the endpoint knows whether there is another way over it.
                let events = self.endpoint.failed(now(), transmit.flow, &mut self.out);
                self.happen(events)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let Wire::Stream { framer, .. } = &mut self.wire else {
            let events = self.endpoint.receive(now(), self.flow, bytes, &mut self.out);
            return self.happen(events);
        };
        framer.push(bytes);
        loop {
            let Wire::Stream { framer, .. } = &mut self.wire else { return Ok(()) };
            let message = match framer.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Piece::Message(message))) => Ok(*message),
                Ok(Some(Piece::Malformed(error))) => Err(error),
                Ok(Some(Piece::Ping)) => {
                    self.out.push(Transmit { flow: self.flow, bytes: PONG.to_vec() });
                    continue;
                }
                Ok(Some(Piece::EmptyLine)) => continue,
                Err(error) => return Err((Lost::Protocol(error.to_string()), None)),
            };
            let events = self.endpoint.receive_message(now(), self.flow, message, &mut self.out);
            self.happen(events)?;
        }
    }

    fn handle_timeout(&mut self) -> Result<(), Over> {
        let now = now();
        let events = self.endpoint.handle_timeout(now, &mut self.out);
        self.happen(events)?;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.registration.as_ref().and_then(Registration::poll_timeout)) {
            self.register()?;
        }
        if due(self.watch.as_ref().and_then(|watch| watch.refresh_at)) {
            self.refresh_watch();
        }
        if self.ping_at <= now {
            self.ping_at = now + PING_EVERY;
            if self.flow.transport.is_reliable() {
                // RFC 5626 §4.4.1: whoever is in between sees that the connection is used.
                self.out.push(Transmit { flow: self.flow, bytes: b"\r\n\r\n".to_vec() });
            }
        }
        Ok(())
    }

    fn register(&mut self) -> Result<(), Over> {
        let cnonce = self.token();
        let Some(registration) = &mut self.registration else { return Ok(()) };
        let request = registration.request(&cnonce);
        match self.endpoint.send(now(), self.flow, request, &mut self.out) {
            Ok(id) => self.registering = Some(id),
            Err(error) => return Err((Lost::Refused(error.to_string()), None)),
        }
        Ok(())
    }

    fn registered(&mut self, response: &Response) -> Result<(), Over> {
        let Some(registration) = &mut self.registration else { return Ok(()) };
        match registration.handle_response(now(), response) {
            Registered::Again => self.register(),
            Registered::Registered { .. } | Registered::Unregistered => Ok(()),
            Registered::Refused { status, retry_after } => {
                let said = format!("{status} {}", response.reason);
                let lost = match status {
                    Status::UNAUTHORIZED | Status::PROXY_AUTHENTICATION_REQUIRED => {
                        Lost::WrongPassword
                    }
                    Status::FORBIDDEN | Status::NOT_FOUND => Lost::Refused(said),
                    Status::REQUEST_TIMEOUT => {
                        let why = io::ErrorKind::TimedOut.into();
                        Lost::Unreachable { server: self.flow.remote.to_string(), why }
                    }
                    _ => Lost::Ended(said),
                };
                Err((lost, retry_after))
            }
        }
    }

    /// Takes what the endpoint says.
    fn happen(&mut self, events: Vec<Happens>) -> Result<(), Over> {
        for event in events {
            match event {
                Happens::Response { id, response } if self.registering == Some(id) => {
                    if response.status.is_final() {
                        self.registering = None;
                        self.registered(&response)?;
                    }
                }
                Happens::Response { id, response } => self.watched(id, &response),
                Happens::Request { id, dialog, request, .. } => {
                    self.requested(id, dialog, &request)
                }
                Happens::Invite { dialog, request, .. } => self.called(dialog, request),
                Happens::Reinvite { dialog, request, .. } => self.changed(dialog, &request),
                Happens::Ack { dialog, request } => {
                    if let Some(request) = request.filter(|request| !request.body.is_empty()) {
                        self.agree(dialog, &request.body);
                    }
                }
                Happens::Progress { dialog, response } => {
                    let rings = response.status == Status::RINGING && self.is_call(dialog);
                    self.told.extend(rings.then_some(Event::Ringing));
                }
                Happens::Answered { dialog, response } => self.answered(dialog, &response),
                Happens::Refused { dialog, .. } => {
                    if let Some(call) = self.call.as_mut().filter(|call| call.dialog == dialog) {
                        call.negotiation.withdraw();
                        call.hold = call.held;
                    }
                }
                Happens::Retry { dialog } | Happens::RefreshDue { dialog }
                    if self.is_call(dialog) =>
                {
                    self.reinvite();
                }
                // Who wants another session asks by re-INVITE; without a body they only say that they are there.
                Happens::Update { id, request, .. } => {
                    let there = request.body.is_empty();
                    let status = if there { Status::OK } else { Status::NOT_ACCEPTABLE_HERE };
                    self.endpoint.respond(now(), id, Response::new(status), &mut self.out);
                }
                Happens::Ended { dialog, why } => self.ended(dialog, why),
                Happens::Subscribe { subscription, request, .. } => {
                    let refer = request.method == Method::Refer;
                    let status = if refer { Status::DECLINE } else { Status::BAD_EVENT };
                    let response = Response::new(status);
                    self.endpoint.answer_subscribe(now(), subscription, response, &mut self.out);
                }
                Happens::Retry { .. }
                | Happens::RefreshDue { .. }
                | Happens::Refresh { .. }
                | Happens::Notified { .. }
                | Happens::Unsubscribed { .. }
                | Happens::ReinviteCancelled { .. } => {}
            }
        }
        Ok(())
    }

    /// A request that is no call: reports of the conference, and what every phone is asked.
    fn requested(&mut self, id: RequestId, dialog: Option<DialogId>, request: &Request) {
        let watched = self.watch.as_ref().is_some_and(|watch| dialog == Some(watch.dialog));
        let response = if request.method == Method::Notify {
            let status = if watched { Status::OK } else { Status::CALL_DOES_NOT_EXIST };
            Response::new(status)
        } else if request.method == Method::Options {
            Response::new(Status::OK).with(Name::ALLOW, ALLOWED_TEXT)
        } else {
            refuse_method(&request.method, &ALLOWED)
        };
        self.endpoint.respond(now(), id, response, &mut self.out);
        if watched && request.method == Method::Notify {
            self.report(request);
        }
    }
}

/// Names.
impl Line {
    fn from(&self) -> NameAddr {
        let uri = SipUri::new(Some(self.account.aor.user()), self.host(), None);
        let from = NameAddr::new(Uri::Sip(uri));
        match &self.account.name {
            Some(name) => from.with_display(name),
            None => from,
        }
    }

    fn host(&self) -> Host {
        let host = self.account.aor.host();
        host.parse().unwrap_or_else(|_| Host::Name(host.to_owned()))
    }

    fn contact(&self) -> NameAddr {
        let mut uri = SipUri::at(self.flow.local).over(self.flow.transport);
        uri.set_user(Some(self.account.aor.user()));
        NameAddr::new(Uri::Sip(uri))
    }

    fn token(&mut self) -> String {
        format!("{:016x}", self.random.random::<u64>())
    }
}

/// For how long registrations and subscriptions are asked for, in seconds.
const EXPIRES_S: u32 = 600;
/// Connections are shown to be used this often (RFC 5626 §4.4.1).
const PING_EVERY: Duration = Duration::from_secs(95);
/// How long leaving may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Orders that wait.
const ORDERS: usize = 16;
/// One call, one subscription, and what ends meanwhile or is refused.
const MAX_DIALOGS: usize = 32;
/// What a phone is asked.
const ALLOWED: [Method; 6] =
    [Method::Invite, Method::Ack, Method::Cancel, Method::Bye, Method::Options, Method::Notify];
const ALLOWED_TEXT: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY";
