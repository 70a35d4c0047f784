//! Digest authentication, server and client (RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! The server keeps no state for a challenge: a nonce is a time and a number with a MAC over both.
//! State begins when a nonce is first used rightly, and is bounded. Unknown users get the same
//! challenge and cost the same work as known ones.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    str::FromStr,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};

use crate::{
    header::{Challenge, Credentials, Headers, Name},
    message::{Method, Request},
    scan,
};

/// A hash that Digest may use (RFC 8760 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// For old phones only.
    Md5,
    /// What RFC 8760 asks for.
    Sha256,
    /// SHA-512 cut to 256 bits.
    Sha512_256,
}

/// What a server stores instead of a password: `H(user ":" realm ":" password)` (RFC 7616 §3.4.2).
/// As good as the password within its realm, so it does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    algorithm: Algorithm,
    hex: String,
}

/// The server's end: makes challenges and checks answers to them.
#[derive(Debug)]
pub struct Verifier {
    realm: String,
    algorithms: Vec<Algorithm>,
    key: Key,
    epoch: Instant,
    next_nonce: u64,
    /// Nonces with a smaller number count as expired.
    floor: u64,
    used: BTreeMap<u64, Uses>,
}

/// Why a request is not authenticated. Each is answered with [`Verifier::challenge`]; only
/// [`Denied::Wrong`] tells of somebody guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It carries no credentials for this realm.
    #[error("no credentials")]
    Missing,
    /// The credentials are right, but their nonce is too old or was used with this count before.
    #[error("stale nonce")]
    Stale,
    /// The credentials are wrong, or of a form that was not offered.
    #[error("wrong credentials")]
    Wrong,
}

/// The client's end: answers challenges for one account.
pub struct Account {
    user: String,
    password: String,
    realm: Option<String>,
    answering: Option<Answering>,
    tries: u8,
}

/// How long a nonce may be used.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(60);
/// How many nonces in use are remembered; beyond, the oldest expire early.
pub const MAX_NONCES: usize = 4096;
/// How often one request is sent again with credentials before its sender gives up.
pub const MAX_TRIES: u8 = 2;

impl Algorithm {
    fn hash(self, text: &[u8]) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
            Self::Sha512_256 => hex(&Sha512_256::digest(text)),
        }
    }

    /// The length of a hash in hexadecimal digits.
    fn hex_len(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 | Self::Sha512_256 => 64,
        }
    }
}

impl Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        })
    }
}

impl FromStr for Algorithm {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Md5, Self::Sha256, Self::Sha512_256];
        all.into_iter().find(|a| a.to_string().eq_ignore_ascii_case(text)).ok_or(())
    }
}

impl Ha1 {
    /// The form to store for this user.
    pub fn new(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> Self {
        let hex = algorithm.hash(format!("{user}:{realm}:{password}").as_bytes());
        Self { algorithm, hex }
    }

    /// Reads what [`Ha1::as_hex`] gave: `None` if it is no such hash.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<Self> {
        let good = hex.len() == algorithm.hex_len() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| Self { algorithm, hex: hex.to_ascii_lowercase() })
    }

    /// The form to keep, as secret as the password.
    pub fn as_hex(&self) -> &str {
        &self.hex
    }

    /// The hash that made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The response to a challenge (RFC 7616 §3.4.1), with `qop=auth` if there is `auth`.
    fn respond(
        &self,
        nonce: &str,
        auth: Option<(&str, &str)>,
        method: &Method,
        uri: &str,
    ) -> String {
        let ha2 = self.algorithm.hash(format!("{method}:{uri}").as_bytes());
        let text = match auth {
            Some((nc, cnonce)) => format!("{}:{nonce}:{nc}:{cnonce}:auth:{ha2}", self.hex),
            None => format!("{}:{nonce}:{ha2}", self.hex),
        };
        self.algorithm.hash(text.as_bytes())
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ha1({} …)", self.algorithm)
    }
}

impl Verifier {
    /// A verifier that offers these algorithms, best first. The key makes its nonces; it should be
    /// random, and new in each run.
    pub fn new(now: Instant, realm: &str, algorithms: &[Algorithm], key: [u8; 32]) -> Self {
        Self {
            realm: realm.to_owned(),
            algorithms: algorithms.to_vec(),
            key: Key(key),
            epoch: now,
            next_nonce: 0,
            floor: 0,
            used: BTreeMap::new(),
        }
    }

    /// The realm that it guards.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The challenges to put into a 401, one WWW-Authenticate each, in this order (RFC 8760 §2.3).
    pub fn challenge(&mut self, now: Instant, denied: Denied) -> Vec<Challenge> {
        let number = self.next_nonce;
        self.next_nonce += 1;
        let challenge = |algorithm: &Algorithm| {
            let nonce = self.nonce(*algorithm, self.age(now), number);
            let mut params = vec![
                ("realm", self.realm.clone()),
                ("nonce", nonce),
                ("algorithm", algorithm.to_string()),
                ("qop", "auth".to_owned()),
            ];
            if denied == Denied::Stale {
                params.push(("stale", "true".to_owned()));
            }
            Challenge::digest(params)
        };
        self.algorithms.iter().map(challenge).collect()
    }

    /// Whose request this is. `ha1` looks up the stored form of a user's password.
    ///
    /// The digest's `uri` need not equal the Request-URI, which a proxy may have changed
    /// (RFC 3261 §22.4); a captured answer is of no use to anyone, since its count is spent.
    pub fn verify(
        &mut self,
        now: Instant,
        request: &Request,
        ha1: impl FnOnce(&str, Algorithm) -> Option<Ha1>,
    ) -> Result<String, Denied> {
        let answer = self.answer_of(&request.headers)?;
        let known = ha1(&answer.user, answer.algorithm).filter(|h| h.algorithm == answer.algorithm);
        // An unknown user costs as much time as a known one.
        let nobody = || Ha1::new(answer.algorithm, &answer.user, &self.realm, "");
        let exists = known.is_some();
        let expected = known.unwrap_or_else(nobody).respond(
            &answer.nonce,
            Some((&answer.nc, &answer.cnonce)),
            &request.method,
            &answer.uri,
        );
        if !same(&expected, &answer.response.to_ascii_lowercase()) || !exists {
            return Err(Denied::Wrong);
        }
        let nc = u32::from_str_radix(&answer.nc, 16).map_err(|_| Denied::Wrong)?;
        self.spend(now, answer.algorithm, &answer.nonce, nc).ok_or(Denied::Stale)?;
        Ok(answer.user)
    }

    /// Reads the credentials for this realm; a form that was not offered is wrong.
    fn answer_of(&self, headers: &Headers) -> Result<Answer, Denied> {
        let all = headers.credentials(&Name::AUTHORIZATION);
        let ours = |c: &&Credentials| {
            c.scheme.eq_ignore_ascii_case("Digest") && c.get("realm") == Some(&*self.realm)
        };
        let credentials = all.iter().find(ours).ok_or(Denied::Missing)?;
        let get = |name| credentials.get(name).ok_or(Denied::Wrong).map(str::to_owned);
        let algorithm = credentials.get("algorithm").unwrap_or("MD5");
        let algorithm = algorithm.parse().map_err(|()| Denied::Wrong)?;
        let nc = get("nc")?;
        let good = self.algorithms.contains(&algorithm)
            && get("qop")? == "auth"
            && nc.len() == 8
            && nc.bytes().all(|b| b.is_ascii_hexdigit());
        if !good {
            return Err(Denied::Wrong);
        }
        Ok(Answer {
            algorithm,
            nc,
            user: get("username")?,
            nonce: get("nonce")?,
            cnonce: get("cnonce")?,
            uri: get("uri")?,
            response: get("response")?,
        })
    }

    /// Uses up one count of a nonce: `None` if the nonce is not ours or too old, or if the count was
    /// used before.
    fn spend(&mut self, now: Instant, algorithm: Algorithm, nonce: &str, nc: u32) -> Option<()> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (issued, rest) = bytes.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        let issued = Duration::from_millis(u64::from_be_bytes(*issued));
        if !same(&self.nonce(algorithm, issued, number), nonce) || number < self.floor {
            return None;
        }
        let oldest = self.age(now).saturating_sub(NONCE_LIFETIME);
        self.used.retain(|_, uses| uses.issued >= oldest);
        if issued < oldest {
            return None;
        }
        self.used.entry(number).or_insert_with(|| Uses::new(issued)).take(nc)?;
        if self.used.len() > MAX_NONCES {
            let first = self.used.pop_first();
            self.floor = first.map_or(self.floor, |(number, _)| number + 1);
        }
        Some(())
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    fn nonce(&self, algorithm: Algorithm, issued: Duration, number: u64) -> String {
        let millis = u64::try_from(issued.as_millis()).unwrap_or(u64::MAX);
        let mut bytes = [millis.to_be_bytes(), number.to_be_bytes()].concat();
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).expect("HMAC takes any key");
        mac.update(&bytes);
        mac.update(algorithm.to_string().as_bytes());
        mac.update(self.realm.as_bytes());
        bytes.extend_from_slice(&mac.finalize().into_bytes()[..16]);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl Account {
    /// An account. With a realm, challenges of other realms are left unanswered, so that no peer can
    /// have answers made for it.
    pub fn new(user: &str, password: &str, realm: Option<&str>) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            realm: realm.map(str::to_owned),
            answering: None,
            tries: 0,
        }
    }

    /// Takes the challenge of a 401 (`WWW-Authenticate`) or 407 (`Proxy-Authenticate`): the first
    /// that it understands (RFC 8760 §2.4). Whether sending the request again makes sense.
    pub fn challenged(&mut self, headers: &Headers, name: &Name) -> bool {
        let challenges = headers.challenges(name);
        let Some(answering) = challenges.iter().find_map(|c| Answering::new(c, &self.realm)) else {
            return false;
        };
        // Asked again although the nonce was fresh: the password is wrong.
        let again = self.tries > 0 && !answering.stale;
        if again || self.tries == MAX_TRIES {
            return false;
        }
        self.tries += 1;
        self.answering = Some(answering);
        true
    }

    /// Notes that a request went through: later ones may be challenged anew.
    pub fn accepted(&mut self) {
        self.tries = 0;
    }

    /// Credentials for a request, by the last challenge; `None` before any. `cnonce` is random.
    pub fn credentials(&mut self, method: &Method, uri: &str, cnonce: &str) -> Option<Credentials> {
        let Answering { algorithm, realm, nonce, opaque, auth, count, .. } =
            self.answering.as_mut()?;
        *count += 1;
        let nc = format!("{count:08x}");
        let ha1 = Ha1::new(*algorithm, &self.user, realm, &self.password);
        let response = ha1.respond(nonce, auth.then_some((&*nc, cnonce)), method, uri);
        let mut params = vec![
            ("username", self.user.clone()),
            ("realm", realm.clone()),
            ("nonce", nonce.clone()),
            ("uri", uri.to_owned()),
            ("response", response),
            ("algorithm", algorithm.to_string()),
        ];
        if *auth {
            params.extend([("cnonce", cnonce.to_owned()), ("qop", "auth".to_owned()), ("nc", nc)]);
        }
        params.extend(opaque.clone().map(|opaque| ("opaque", opaque)));
        Some(Credentials::digest(params))
    }
}

/// Shows no password.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What credentials say.
struct Answer {
    algorithm: Algorithm,
    user: String,
    nonce: String,
    nc: String,
    cnonce: String,
    uri: String,
    response: String,
}

/// The counts of one nonce that were used: the highest, and which of the 64 up to it. Requests sent
/// together may overtake each other.
#[derive(Debug)]
struct Uses {
    issued: Duration,
    highest: u32,
    recent: u64,
}

impl Uses {
    fn new(issued: Duration) -> Self {
        Self { issued, highest: 0, recent: 1 }
    }

    fn take(&mut self, nc: u32) -> Option<()> {
        if let Some(ahead) = nc.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            self.recent = self.recent.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = nc;
            return Some(());
        }
        let bit = 1u64.checked_shl(self.highest - nc)?;
        if self.recent & bit != 0 {
            return None;
        }
        self.recent |= bit;
        Some(())
    }
}

/// A challenge being answered.
struct Answering {
    algorithm: Algorithm,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    auth: bool,
    stale: bool,
    count: u32,
}

impl Answering {
    fn new(challenge: &Challenge, realm: &Option<String>) -> Option<Self> {
        let digest = challenge.scheme.eq_ignore_ascii_case("Digest");
        let theirs = challenge
            .get("realm")
            .filter(|theirs| digest && realm.as_deref().is_none_or(|realm| realm == *theirs))?;
        let auth = match challenge.get("qop") {
            Some(list) => list.split(',').any(|qop| scan::trim(qop) == "auth").then_some(true)?,
            None => false,
        };
        Some(Self {
            algorithm: challenge.get("algorithm").unwrap_or("MD5").parse().ok()?,
            realm: theirs.to_owned(),
            nonce: challenge.get("nonce")?.to_owned(),
            opaque: challenge.get("opaque").map(str::to_owned),
            auth,
            stale: challenge.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            count: 0,
        })
    }
}

/// A key that does not show itself.
struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Compares in a time that does not tell where the two differ.
fn same(a: &str, b: &str) -> bool {
    let differ = a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differ) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
