//! A whole CUSAX site on loopback: an XMPP server, `cusaxd`, sometimes a SIP proxy.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use crate::{
    baresip::{Caller, Options},
    converse::Browser,
    cusaxd::{Cusaxd, MEDIA_PORTS, free},
    ejabberd::Ejabberd,
    gajim::Gajim,
    kamailio::Kamailio,
    peer,
    profanity::Profanity,
    prosody::Prosody,
    slixmpp::Chat,
};

/// The domain of the chat users.
pub(crate) const CHAT: &str = "chat.test";
/// The component's domain.
pub(crate) const ROOMS: &str = "rooms.chat.test";
/// The domain of the conference URIs.
pub(crate) const CONFERENCES: &str = "conf.test";
/// The domain and realm of the phones behind Kamailio.
pub(crate) const PHONES: &str = "sip.test";
/// The component's secret.
pub(crate) const SECRET: &str = "3a7bd3e2360a3d29eea436fcfb7e44c7";
/// Who may administer the service.
pub(crate) const ADMIN: &str = "admin";
/// Everybody with an account on the XMPP server and on Kamailio.
pub(crate) const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// How many sites may stand at a time: a site with its peers keeps a core busy for seconds.
const SITES: usize = 2;

/// The password of a user, on both sides.
pub(crate) fn password(user: &str) -> String {
    format!("{user}-pw")
}

/// The ports of one site, free when they were chosen.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    /// XMPP clients.
    pub(crate) clients: u16,
    /// XMPP components.
    pub(crate) component: u16,
    /// The focus, UDP and TCP.
    pub(crate) sip: u16,
    /// The focus by TLS.
    pub(crate) tls: u16,
    /// The focus by WebSocket, and by WebSocket within TLS.
    pub(crate) ws: u16,
    pub(crate) wss: u16,
    /// The SIP proxy, UDP and TCP.
    pub(crate) proxy: u16,
    /// The first of the RTP ports.
    pub(crate) media: u16,
    /// The admin API of `cusaxd`.
    pub(crate) http: u16,
    /// HTTP of the XMPP server: clients in browsers, and ejabberd's own API.
    pub(crate) web: u16,
}

/// What a site consists of.
pub(crate) struct Plan {
    /// Who may call: `open`, `digest` or `trusted`.
    pub(crate) auth: &'static str,
    /// The XMPP server.
    pub(crate) server: Server,
    /// Whether Kamailio stands in front of the focus.
    pub(crate) proxy: bool,
    /// The loopback address at which phones find the focus and its media.
    pub(crate) phones: Loopback,
    /// The URL of the store; `None`: a file of its own.
    pub(crate) store: Option<String>,
    /// Whether the directory binds everybody's calls to their JIDs.
    pub(crate) directory: bool,
    /// Whether callers are told by voice and tone what happens.
    pub(crate) prompts: bool,
}

/// One of this machine's addresses for itself.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Loopback {
    /// 127.0.0.1
    #[default]
    V4,
    /// ::1
    V6,
}

impl Loopback {
    /// The address as it is.
    pub(crate) fn address(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1",
            Self::V6 => "::1",
        }
    }

    /// The address with a port, as URIs write it.
    pub(crate) fn at(self, port: u16) -> String {
        match self {
            Self::V4 => format!("127.0.0.1:{port}"),
            Self::V6 => format!("[::1]:{port}"),
        }
    }
}

/// Which XMPP server stands in front of the rooms.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Server {
    /// Prosody 0.12.
    Prosody,
    /// ejabberd 23.
    Ejabberd,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            auth: "open",
            server: Server::Prosody,
            proxy: false,
            phones: Loopback::V4,
            store: None,
            directory: false,
            prompts: false,
        }
    }
}

impl Plan {
    /// Digest authentication, and a directory that binds everybody's calls to their JIDs: who calls
    /// is known, so the call and the chat are one person.
    pub(crate) fn with_directory() -> Self {
        Self { auth: "digest", directory: true, ..Self::default() }
    }
}

/// Makes of each function that takes a [`Site`] two tests, `CASE::prosody` and `CASE::ejabberd`: what
/// chat users see must not depend on the server between them and the rooms.
macro_rules! behind_each_server {
    ($plan:expr => $($case:ident),+) => {$(
        mod $case {
            use super::*;
            use crate::site::Server;

            #[test]
            fn prosody() {
                behind("prosody", Server::Prosody);
            }

            #[test]
            fn ejabberd() {
                behind("ejabberd", Server::Ejabberd);
            }

            fn behind(name: &str, server: Server) {
                let test = format!("{}-{name}", stringify!($case));
                if let Some(site) = Site::start_as(&test, Plan { server, ..$plan }) {
                    super::$case(site);
                }
            }
        }
    )+};
}
pub(crate) use behind_each_server;

/// The XMPP server that runs.
pub(crate) enum XmppServer {
    /// Prosody.
    Prosody(Prosody),
    /// ejabberd.
    Ejabberd(Ejabberd),
}

impl XmppServer {
    /// Stops it as an operator would.
    pub(crate) fn stop(&mut self) {
        match self {
            Self::Prosody(server) => server.stop(),
            Self::Ejabberd(server) => server.stop(),
        }
    }

    /// How deep elements may be nested in a stanza that it passes on.
    pub(crate) fn levels(&self) -> usize {
        match self {
            Self::Prosody(_) => 4_000,
            // At more it ends the stream of who sent that.
            Self::Ejabberd(_) => 500,
        }
    }

    /// Starts it again with the same accounts.
    pub(crate) fn start_again(&mut self) {
        match self {
            Self::Prosody(server) => server.start_again(),
            Self::Ejabberd(server) => server.start_again(),
        }
    }
}

/// Everything that runs for one test. Fields are dropped, so stopped, in this order.
pub(crate) struct Site {
    pub(crate) cusaxd: Cusaxd,
    pub(crate) server: XmppServer,
    pub(crate) kamailio: Option<Kamailio>,
    pub(crate) ports: Ports,
    pub(crate) phones: Loopback,
    pub(crate) dir: PathBuf,
    _turn: Turn,
}

impl Site {
    /// Starts a site with Prosody where everybody may call.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_as(test, Plan::default())
    }

    /// Starts a site with Prosody where the directory knows who calls.
    pub(crate) fn with_directory(test: &str) -> Option<Self> {
        Self::start_as(test, Plan::with_directory())
    }

    /// Starts a site; `None`, with a message, when a program is missing and this is not CI.
    pub(crate) fn start_as(test: &str, plan: Plan) -> Option<Self> {
        let server = match plan.server {
            Server::Prosody => "prosody",
            Server::Ejabberd => "ejabberdctl",
        };
        installed(&[server, "setpriv"])?;
        if plan.proxy {
            installed(&["kamailio"])?;
        }
        let turn = Turn::take();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        // Logs of the last run; this one leaves its own behind.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the target folder is ours");
        let ports = Ports::choose();
        let server = match plan.server {
            Server::Prosody => XmppServer::Prosody(Prosody::start(&dir, ports)),
            Server::Ejabberd => XmppServer::Ejabberd(Ejabberd::start(&dir, ports)),
        };
        let kamailio = plan.proxy.then(|| Kamailio::start(&dir, ports));
        let file = || format!("sqlite:{}", dir.join("cusaxd.db").display());
        let store = plan.store.clone().unwrap_or_else(file);
        let cusaxd = Cusaxd::start(&dir, ports, &plan, &store);
        if plan.directory {
            for user in ["alice", "bob", "carol", "dave"] {
                cusaxd.enroll(user, &format!("sip:{user}@{CONFERENCES}"), &password(user));
            }
        }
        Some(Self { cusaxd, server, kamailio, ports, phones: plan.phones, dir, _turn: turn })
    }

    /// A chat user who is online.
    pub(crate) fn chat(&self, user: &str) -> Chat {
        Chat::start(user, self.ports.clients, &self.dir)
    }

    /// A chat user with another client library, who is online.
    pub(crate) fn gajim(&self, user: &str) -> Option<Gajim> {
        Gajim::start(user, self.ports.clients, &self.dir)
    }

    /// A chat user at a terminal, who is online.
    pub(crate) fn terminal(&self, user: &str) -> Option<Profanity> {
        Profanity::start(user, self.ports.clients, &self.dir)
    }

    /// A browser in which a user's chat client is about to enter a room.
    pub(crate) fn browser(&self, user: &str) -> Option<Browser> {
        Browser::start(user, self.ports.web, &self.dir)
    }

    /// A phone that goes straight to the focus.
    pub(crate) fn caller(&self, user: &str) -> Caller {
        self.caller_as(user, Options::default())
    }

    /// A phone with options of its own.
    pub(crate) fn caller_as(&self, user: &str, options: Options) -> Caller {
        Caller::start(user, self.phones, self.ports.sip, &self.dir, options)
    }
}

/// The JID of a room.
pub(crate) fn room(name: &str) -> String {
    format!("{name}@{ROOMS}")
}

/// The address of a room for phones.
pub(crate) fn conference(name: &str) -> String {
    format!("sip:{name}@{CONFERENCES}")
}

/// Whether these programs, or files of the repository, and the peers' Python are there. A missing one fails the test under
/// `CI=true`; elsewhere the test says so and passes.
pub(crate) fn installed(programs: &[&str]) -> Option<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| {
        env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from))
            .chain([PathBuf::from(env!("CARGO_MANIFEST_DIR"))])
            .any(|folder| folder.join(name).exists())
    };
    let mut missing: Vec<&str> = programs.iter().filter(|name| !found(name)).copied().collect();
    if !peer::python().exists() {
        missing.push(".peers/venv");
    }
    if missing.is_empty() {
        return Some(());
    }
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "not installed: {missing:?} (scripts/setup.sh installs them)");
    println!("skipped: not installed: {missing:?} (scripts/setup.sh installs them)");
    None
}

impl Ports {
    /// Chooses ports that nobody uses, none of which another test of this run was given.
    fn choose() -> Self {
        // Below the range from which the system itself gives ports.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let block = MEDIA_PORTS + 10;
        let own = u16::try_from(std::process::id() % 100).expect("below 100") * 100;
        let mut tries = 0;
        loop {
            let offset = (own + NEXT.fetch_add(1, Ordering::Relaxed) * block) % 12_000;
            let first = 20_000 + offset;
            if (first..first + block).all(free) {
                let at = |n| first + MEDIA_PORTS + n;
                return Self {
                    media: first,
                    clients: at(0),
                    component: at(1),
                    sip: at(2),
                    proxy: at(3),
                    http: at(4),
                    tls: at(6),
                    ws: at(7),
                    wss: at(8),
                    web: at(5),
                };
            }
            tries += 1;
            assert!(tries < 200, "no free block of ports");
        }
    }

    /// A port for a peer that cannot choose one itself.
    pub(crate) fn any() -> u16 {
        let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        socket.local_addr().expect("it is bound").port()
    }
}

/// The right to keep a site: tests run side by side, but not all at once.
struct Turn;

static STANDING: Mutex<usize> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let standing = STANDING.lock().expect("no holder panics");
        let mut standing =
            LEFT.wait_while(standing, |count| *count >= SITES).expect("no holder panics");
        *standing += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *STANDING.lock().expect("no holder panics") -= 1;
        LEFT.notify_one();
    }
}
