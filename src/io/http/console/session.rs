//! Who looks at the console, and that what comes from their browser is their own wish.
//!
//! Whoever gives a token gets a session, in a cookie that no script reads and that is sent from our own
//! pages alone. A session ends with its token. Without a token of ours, who sits at this machine needs
//! no session. What changes anything has to come from a page of ours: it carries a word that only our
//! pages know (the synchroniser token of OWASP's advice on request forgery), and the browser must not
//! say that it comes from somewhere else (Fetch metadata; RFC 6454 §7).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use super::super::access::{Closed, Operator, Scope};
use super::super::{Http, Peer, credentials};
use super::layout;
use crate::admin::audit::{Entry, Via};
use crate::clock::Now;
use crate::operation::Operation;
use crate::rate::{Meter, Rate, Source};

/// Who is logged in.
#[derive(Debug)]
pub(in super::super) struct Sessions {
    /// What words against forgery are made with.
    key: [u8; 32],
    open: Mutex<BTreeMap<Id, Session>>,
    /// Who tried tokens of late.
    tries: Mutex<BTreeMap<Source, Meter>>,
}

/// What a cookie says: 256 bits that nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id([u8; 32]);

#[derive(Debug)]
struct Session {
    /// The hash of the token that opened it.
    token: [u8; 32],
    opened: Instant,
    used: Instant,
}

/// Somebody who was let in to the console.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    pub(super) operator: Operator,
    pub(super) from: SocketAddr,
    /// The word that what they send has to carry.
    pub(super) word: String,
    /// Whether there is a session to end.
    pub(super) logged_in: bool,
    /// What proves who they are, to ask again later.
    proof: Proof,
}

/// What proves who somebody is.
#[derive(Clone, Copy, Debug)]
enum Proof {
    Session(Id),
    /// The hash of a token that came with the request.
    Token([u8; 32]),
    /// They are on this machine, and there is no token.
    Here,
}

impl Sessions {
    /// Nobody is logged in.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(in super::super) fn new() -> anyhow::Result<Self> {
        let mut key = [0; 32];
        OsRng.try_fill_bytes(&mut key)?;
        Ok(Self { key, open: Mutex::default(), tries: Mutex::default() })
    }

    fn word(&self, proof: Proof) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length does");
        match proof {
            Proof::Session(Id(id)) => mac.update(&[&b"session"[..], &id].concat()),
            Proof::Token(hash) => mac.update(&[&b"token"[..], &hash].concat()),
            Proof::Here => mac.update(b"here"),
        }
        hex(&mac.finalize().into_bytes())
    }

    /// The hash of the token that opened a session, if there still is one.
    fn token(&self, now: Instant, id: Id) -> Option<[u8; 32]> {
        let mut open = lock(&self.open);
        let session = open.get_mut(&id)?;
        let since = |then| now.saturating_duration_since(then);
        if since(session.opened) > LIFETIME || since(session.used) > IDLE {
            open.remove(&id);
            return None;
        }
        session.used = now;
        Some(session.token)
    }

    fn open(&self, now: Instant, token: [u8; 32]) -> Option<Id> {
        let mut id = Id([0; 32]);
        OsRng.try_fill_bytes(&mut id.0).ok()?;
        let mut open = lock(&self.open);
        if open.len() >= MAX_SESSIONS
            && let Some(idle) = open.iter().min_by_key(|(_, it)| it.used).map(|(id, _)| *id)
        {
            open.remove(&idle);
        }
        open.insert(id, Session { token, opened: now, used: now });
        Some(id)
    }

    /// Whether somebody may try another token.
    fn may_try(&self, now: Instant, from: SocketAddr) -> bool {
        let mut tries = lock(&self.tries);
        if tries.len() >= MAX_SOURCES {
            tries.retain(|_, meter| !meter.is_clear(now));
        }
        let source = Source::of(from.ip());
        if tries.len() >= MAX_SOURCES && !tries.contains_key(&source) {
            return false;
        }
        tries.entry(source).or_default().admits(now, TRIES, 1)
    }
}

impl Http {
    /// Opens a session for who gives a token; the cookie to set.
    pub(super) fn log_in(
        &self,
        now: Now,
        from: SocketAddr,
        headers: &HeaderMap,
        token: &str,
    ) -> Result<String, LogInRefused> {
        let sessions = &self.0.sessions;
        if !sessions.may_try(now.instant, from) {
            return Err(LogInRefused::TooOften);
        }
        match self.admit(from, headers, Some(token)) {
            Ok(_) => {}
            Err(Closed::NoToken | Closed::WrongToken) => return Err(LogInRefused::Wrong),
            Err(Closed::Elsewhere) => return Err(LogInRefused::Elsewhere),
        }
        let id = sessions.open(now.instant, Sha256::digest(token).into());
        let Id(id) = id.ok_or(LogInRefused::TooOften)?;
        Ok(cookie(headers, &hex(&id), LIFETIME))
    }

    /// Ends somebody's session; the cookie to set.
    pub(super) fn log_out(&self, viewer: &Viewer, headers: &HeaderMap) -> String {
        if let Proof::Session(id) = viewer.proof {
            lock(&self.0.sessions.open).remove(&id);
        }
        cookie(headers, "", Duration::ZERO)
    }

    /// Who asks, by their cookie, by a token in the request, or because they are here.
    fn viewer(&self, now: Now, from: SocketAddr, headers: &HeaderMap) -> Result<Viewer, Closed> {
        let sessions = &self.0.sessions;
        let let_in = |operator, proof| {
            let logged_in = matches!(proof, Proof::Session(_));
            Ok(Viewer { operator, from, word: sessions.word(proof), logged_in, proof })
        };
        if let Some(id) = read_cookie(headers)
            && let Some(token) = sessions.token(now.instant, id)
            && let Some(operator) = self.access().holder(token)
        {
            return let_in(operator, Proof::Session(id));
        }
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = text.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        let given = bearer.or_else(|| credentials(headers).map(|(_, password)| password));
        let operator = self.admit(from, headers, given.as_deref())?;
        let token = given.filter(|_| self.access().has_token());
        let_in(operator, token.map_or(Proof::Here, |it| Proof::Token(Sha256::digest(it).into())))
    }

    /// Whether somebody is still let in, long after they asked.
    pub(super) fn still_admits(&self, now: Instant, viewer: &Viewer) -> bool {
        let access = self.access();
        match viewer.proof {
            Proof::Session(id) => {
                let token = self.0.sessions.token(now, id);
                token.is_some_and(|token| access.holder(token).is_some())
            }
            Proof::Token(token) => access.holder(token).is_some(),
            Proof::Here => !access.has_token(),
        }
    }
}

impl Http {
    /// Records that somebody who may only look asked for a change.
    pub(super) fn turned_away(&self, viewer: &Viewer, operation: Operation) {
        let via = Via::Console(viewer.from);
        let what = operation.spec().http;
        let entry = Entry::turned_away(Now::read(), viewer.operator.name, via, what);
        entry.iter().for_each(|entry| self.0.audit.record(entry));
    }
}

impl Viewer {
    /// Whether they may change anything.
    pub(super) fn may_change(&self) -> bool {
        self.operator.scope >= Scope::Write
    }

    /// Whether something that was sent to be done came from a page that we showed them.
    pub(super) fn meant(&self, headers: &HeaderMap, word: &str) -> bool {
        // Hashes are compared, so that the time it takes tells nothing about the word.
        is_from_here(headers) && Sha256::digest(word) == Sha256::digest(&self.word)
    }
}

impl FromRequestParts<Http> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Response> {
        let peer = ConnectInfo::<Peer>::from_request_parts(parts, http).await;
        let ConnectInfo(Peer(from)) = peer.map_err(IntoResponse::into_response)?;
        // Without the part that all pages share, which the router has cut off.
        let below = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let path = &format!("/console{}", if below == "/" { "" } else { below });
        http.viewer(Now::read(), from, &parts.headers).map_err(|closed| match closed {
            // Whoever has given no token is asked for one.
            Closed::NoToken => layout::log_in(StatusCode::UNAUTHORIZED, path, None),
            Closed::WrongToken => {
                layout::log_in(StatusCode::UNAUTHORIZED, path, Some(LogInRefused::Wrong))
            }
            Closed::Elsewhere => {
                layout::log_in(StatusCode::FORBIDDEN, path, Some(LogInRefused::Elsewhere))
            }
        })
    }
}

/// Why nobody was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LogInRefused {
    #[error("This token is none of ours.")]
    Wrong,
    #[error("Too many tried. Wait a moment, then try again.")]
    TooOften,
    #[error("Without http.token, the console answers on this machine alone.")]
    Elsewhere,
    #[error("This did not come from the console. Try again here.")]
    Forged,
}

/// Whether the browser does not say that a page of somebody else had it send this.
pub(super) fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str());
    match text(&HeaderName::from_static("sec-fetch-site")) {
        Some(site) => matches!(site, Ok("same-origin" | "none")),
        // Browsers tell that to hosts with TLS alone, and to those on this machine.
        None => match (text(&header::ORIGIN), text(&header::HOST)) {
            (None, _) => true,
            (Some(Ok(origin)), Some(Ok(host))) => {
                origin.split_once("://").is_some_and(|(_, authority)| authority == host)
            }
            (Some(_), _) => false,
        },
    }
}

/// A cookie for the console's pages (RFC 6265). Behind a proxy that has TLS it is for TLS alone.
fn cookie(headers: &HeaderMap, value: &str, lifetime: Duration) -> String {
    let tls = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if tls { "; Secure" } else { "" };
    let age = lifetime.as_secs();
    format!("{COOKIE}={value}; Path=/console; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

fn read_cookie(headers: &HeaderMap) -> Option<Id> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|it| it.to_str().ok());
    let mut pairs = cookies.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
    let mut id = Id([0; 32]);
    if value.len() != 2 * id.0.len() || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in id.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&value[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(id)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Id(…)")
    }
}

const COOKIE: &str = "cusaxd_console";
/// The longest that a session lasts.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that it lasts unused.
const IDLE: Duration = Duration::from_secs(8 * 60 * 60);
/// Sessions at a time; who comes then takes the place of the one that was unused for longest.
const MAX_SESSIONS: usize = 256;
/// How often one source may try a token.
const TRIES: Rate = Rate { interval: Duration::from_secs(2), burst: 10 };
/// Sources that are told apart by how often they try.
const MAX_SOURCES: usize = 1_024;

#[cfg(test)]
pub(super) mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Somebody at this machine.
    pub(in super::super) fn viewer(may_change: bool) -> Viewer {
        let scope = if may_change { Scope::Write } else { Scope::Read };
        Viewer {
            operator: Operator { name: "loopback", scope },
            from: "127.0.0.1:4000".parse().unwrap(),
            word: "the word".to_owned(),
            logged_in: false,
            proof: Proof::Here,
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_session_ends_by_time_and_by_too_many_others() {
        let sessions = Sessions::new().unwrap();
        let now = Now::read().instant;
        let id = sessions.open(now, [1; 32]).unwrap();
        assert_eq!(sessions.token(now + IDLE, id), Some([1; 32]));
        assert_eq!(sessions.token(now + IDLE * 2, id), Some([1; 32]), "it was used meanwhile");
        assert_eq!(sessions.token(now + LIFETIME + IDLE, id), None);
        assert_eq!(sessions.token(now, id), None, "what has ended stays so");
        assert_eq!(sessions.token(now, Id([0; 32])), None);

        let first = sessions.open(now, [1; 32]).unwrap();
        for second in 0..MAX_SESSIONS as u64 {
            sessions.open(now + Duration::from_secs(second + 1), [2; 32]).unwrap();
        }
        assert_eq!(sessions.token(now, first), None);
        assert_eq!(lock(&sessions.open).len(), MAX_SESSIONS);
    }

    #[test]
    fn who_guesses_has_to_wait_and_others_do_not() {
        let sessions = Sessions::new().unwrap();
        let now = Now::read().instant;
        let guesser: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let tried = (0..50).filter(|_| sessions.may_try(now, guesser)).count();
        assert_eq!(tried, TRIES.burst as usize);
        assert!(sessions.may_try(now, "192.0.2.2:4000".parse().unwrap()));
        assert!(sessions.may_try(now + TRIES.interval, guesser));
        for host in 0..2 * MAX_SOURCES as u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + host);
            sessions.may_try(now, (address, 1).into());
        }
        assert_eq!(lock(&sessions.tries).len(), MAX_SOURCES);
    }

    #[test]
    fn each_way_in_has_a_word_of_its_own() {
        let sessions = Sessions::new().unwrap();
        let words = [
            sessions.word(Proof::Here),
            sessions.word(Proof::Token([1; 32])),
            sessions.word(Proof::Session(Id([1; 32]))),
            sessions.word(Proof::Session(Id([2; 32]))),
            Sessions::new().unwrap().word(Proof::Here),
        ];
        assert_eq!(words.iter().collect::<std::collections::BTreeSet<_>>().len(), words.len());
    }

    #[test]
    fn what_another_page_sends_is_not_from_here() {
        let check = |pairs: &[(&'static str, &'static str)], expected: bool| {
            assert_eq!(is_from_here(&headers(pairs)), expected, "{pairs:?}");
        };
        check(&[("sec-fetch-site", "same-origin")], true);
        // A proxy may have changed the host; the browser knows better.
        let proxied = [("host", "10.0.0.1:8088"), ("origin", "https://console.example")];
        check(&[("sec-fetch-site", "same-origin"), proxied[0], proxied[1]], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("sec-fetch-site", "cross-site"), ("host", "a"), ("origin", "http://a")], false);
        check(&proxied, false);
        check(&[("host", "a:1"), ("origin", "http://a:1")], true);
        check(&[("host", "a:1"), ("origin", "https://a:1")], true);
        check(&[("host", "a:1"), ("origin", "http://a:2")], false);
        check(&[("host", "a:1"), ("origin", "null")], false);
        check(&[("host", "a:1")], true);
        check(&[("origin", "http://a:1")], false);
    }

    #[test]
    fn cookies_are_read_whatever_else_is_in_them() {
        let id = "00".repeat(31) + "ff";
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, value.parse().unwrap());
            read_cookie(&headers)
        };
        let mut expected = Id([0; 32]);
        expected.0[31] = 255;
        assert_eq!(read(&format!("a=b; {COOKIE}={id}; c")), Some(expected));
        for wrong in ["", COOKIE, "cusaxd_console=", "cusaxd_console=zz", &id, "=;=;="] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read(&format!("{COOKIE}={}", "é".repeat(32))), None);
        assert_eq!(read(&format!("{COOKIE}={}", "+f".repeat(32))), None, "no sign is a digit");
    }

    #[test]
    fn a_cookie_is_for_our_pages_alone() {
        let plain = cookie(&HeaderMap::new(), "x", LIFETIME);
        assert!(plain.ends_with("HttpOnly; SameSite=Strict"), "{plain}");
        let secure = cookie(&headers(&[("x-forwarded-proto", "https")]), "x", LIFETIME);
        assert!(secure.ends_with("; Secure") && secure.contains("Path=/console;"), "{secure}");
    }
}
