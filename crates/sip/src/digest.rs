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
    message::{Method, Request, Response, Status},
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
    /// The header that answers the last challenge.
    proves: Name,
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
        // Made for known users too: an unknown one costs the same time.
        let nobody = Ha1::new(answer.algorithm, &answer.user, &self.realm, "");
        let exists = known.is_some();
        let expected = known.unwrap_or(nobody).respond(
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

    /// Who a request says to be, right or wrong: the user name of its credentials for this realm, and
    /// nothing if there is none. `None` where [`Self::verify`] says [`Denied::Missing`].
    pub fn claimed_user(&self, request: &Request) -> Option<String> {
        let credentials = self.credentials_of(&request.headers)?;
        Some(credentials.get("username").unwrap_or_default().to_owned())
    }

    fn credentials_of(&self, headers: &Headers) -> Option<Credentials> {
        let ours = |c: &Credentials| {
            c.scheme.eq_ignore_ascii_case("Digest") && c.get("realm") == Some(&*self.realm)
        };
        headers.credentials(&Name::AUTHORIZATION).into_iter().find(ours)
    }

    /// Reads the credentials for this realm; a form that was not offered is wrong.
    fn answer_of(&self, headers: &Headers) -> Result<Answer, Denied> {
        let credentials = self.credentials_of(headers).ok_or(Denied::Missing)?;
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
            proves: Name::AUTHORIZATION,
            tries: 0,
        }
    }

    /// Takes the challenge of a response, if it is a 401 or 407. Whether sending the request again, with
    /// [`Self::header`], makes sense.
    pub fn challenged_by(&mut self, response: &Response) -> bool {
        let (asks, proves) = match response.status {
            Status::UNAUTHORIZED => (Name::WWW_AUTHENTICATE, Name::AUTHORIZATION),
            Status::PROXY_AUTHENTICATION_REQUIRED => {
                (Name::PROXY_AUTHENTICATE, Name::PROXY_AUTHORIZATION)
            }
            _ => return false,
        };
        self.proves = proves;
        self.challenged(&response.headers, &asks)
    }

    /// The header that proves who sends a request, and what stands in it: [`Self::credentials`] by the
    /// last challenge; `None` before any.
    pub fn header(
        &mut self,
        method: &Method,
        uri: &str,
        cnonce: &str,
    ) -> Option<(Name, Credentials)> {
        let credentials = self.credentials(method, uri, cnonce)?;
        Some((self.proves.clone(), credentials))
    }

    /// The hash that the last challenge asked for.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.answering.as_ref().map(|answering| answering.algorithm)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Status, uri::Uri};

    use Algorithm::{Md5, Sha256, Sha512_256};

    #[test]
    fn vectors() {
        let check =
            |algorithm, user: &str, realm, password, nonce, auth, call: (&str, &str), expected| {
                let ha1 = Ha1::new(algorithm, user, realm, password);
                let (method, uri) = call;
                let method = Method::from_token(method);
                assert_eq!(ha1.respond(nonce, auth, &method, uri), expected);
            };
        // RFC 7616 §3.9.1.
        let realm = "http-auth@example.org";
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let auth = Some(("00000001", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"));
        let get = ("GET", "/dir/index.html");
        let md5 = "8ca523f5e9506fed4657c9700eebdbec";
        check(Md5, "Mufasa", realm, "Circle of Life", nonce, auth, get, md5);
        let sha = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        check(Sha256, "Mufasa", realm, "Circle of Life", nonce, auth, get, sha);
        // RFC 2617 §3.5.
        let realm = "testrealm@host.com";
        let nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let auth = Some(("00000001", "0a4f113b"));
        let md5 = "6629fae49393a05397450978507c4ef1";
        check(Md5, "Mufasa", realm, "Circle Of Life", nonce, auth, get, md5);
        // The form without qop, as in RFC 2069 and RFC 3261 §22.4; computed with Python's hashlib.
        let invite = ("INVITE", "sip:bob@biloxi.com");
        let old = "bf57e4e0d0bffc0fbaedce64d59add5e";
        check(Md5, "bob", "biloxi.com", "zanzibar", nonce, None, invite, old);
        // RFC 7616 §3.9.2 with the name in clear; its printed response does not follow from its
        // input (errata 4897), so this too is hashlib's.
        let nonce = "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK";
        let auth = Some(("00000001", "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"));
        let call = ("GET", "/doe.json");
        let sha512 = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5";
        check(
            Sha512_256,
            "Jäsøn Doe",
            "api@example.org",
            "Secret, or not?",
            nonce,
            auth,
            call,
            sha512,
        );
    }

    #[test]
    fn a_call_goes_through() {
        let mut site = Site::new(&[Sha256, Md5]);
        let mut account = Account::new("alice", "secret", Some("example.org"));
        let unauthorized = site.challenge(Denied::Missing);
        let lines: Vec<_> = unauthorized.headers.all(&Name::WWW_AUTHENTICATE).collect();
        assert!(lines[0].contains("algorithm=SHA-256, qop=\"auth\"") && lines.len() == 2);
        assert!(account.challenged(&unauthorized.headers, &Name::WWW_AUTHENTICATE));
        for count in 1..=3 {
            let request = site.request(&mut account);
            assert!(request.headers.get(&Name::AUTHORIZATION).unwrap().contains("qop=auth"));
            assert_eq!(site.verify(&request), Ok("alice".to_owned()), "{count}");
            assert_eq!(site.verify(&request), Err(Denied::Stale), "a replay");
        }
        // An old nonce is stale, and a fresh one puts it right without asking anyone.
        site.now += NONCE_LIFETIME + Duration::from_millis(1);
        assert_eq!(site.verify(&site.request(&mut account)), Err(Denied::Stale));
        let stale = site.challenge(Denied::Stale);
        assert!(stale.headers.get(&Name::WWW_AUTHENTICATE).unwrap().ends_with("stale=true"));
        account.accepted();
        assert!(account.challenged(&stale.headers, &Name::WWW_AUTHENTICATE));
        assert_eq!(site.verify(&site.request(&mut account)), Ok("alice".to_owned()));
        assert_eq!(site.verifier.used.len(), 1);
    }

    #[test]
    fn who_is_turned_away() {
        let mut site = Site::new(&[Sha256]);
        let bare = site.plain();
        assert_eq!(site.verify(&bare), Err(Denied::Missing));
        let challenge = site.challenge(Denied::Missing);
        let mut good = Account::new("alice", "secret", None);
        assert!(good.challenged(&challenge.headers, &Name::WWW_AUTHENTICATE));
        let good = site.request(&mut good);
        let header = good.headers.get(&Name::AUTHORIZATION).unwrap().to_owned();
        let mut check = |from: &str, to: &str, expected| {
            assert!(header.contains(from), "{header}");
            let mut request = site.plain();
            request.headers.push(Name::AUTHORIZATION, header.replace(from, to));
            let missing = expected == Err(Denied::Missing);
            assert_eq!(site.verifier.claimed_user(&request).is_none(), missing, "{from} {to}");
            assert_eq!(site.verify(&request), expected, "{from} {to}");
        };
        check("username=", "x=", Err(Denied::Wrong));
        check("alice", "mallory", Err(Denied::Wrong));
        check("alice", "bob", Err(Denied::Wrong));
        check("example.org\"", "example.com\"", Err(Denied::Missing));
        check("Digest", "Basic", Err(Denied::Missing));
        check("qop=auth", "qop=auth-int", Err(Denied::Wrong));
        check(", qop=auth", "", Err(Denied::Wrong));
        check("nc=00000001", "nc=1", Err(Denied::Wrong));
        check("nc=00000001", "nc=00000002", Err(Denied::Wrong));
        check("nc=00000001", "nc=+0000001", Err(Denied::Wrong));
        check("SHA-256", "MD5", Err(Denied::Wrong));
        check("SHA-256", "SHA-256-sess", Err(Denied::Wrong));
        check(", algorithm=SHA-256", "", Err(Denied::Wrong));
        check("response=\"", "response=\"0", Err(Denied::Wrong));
        check("response=\"", "x=\"", Err(Denied::Wrong));
        check("nonce=\"", "nonce=\"A", Err(Denied::Wrong));
        let mut other = good.clone();
        other.method = Method::Bye;
        assert_eq!(site.verify(&other), Err(Denied::Wrong), "another method");
        assert_eq!(site.verify(&good), Ok("alice".to_owned()), "none of these spent the count");
    }

    #[test]
    fn a_nonce_of_another_run_is_stale() {
        let mut before = Site::new(&[Sha256]);
        let mut after = Site::new(&[Sha256]);
        after.verifier.key = Key([8; 32]);
        let mut account = Account::new("alice", "secret", None);
        let challenge = before.challenge(Denied::Missing);
        assert!(account.challenged(&challenge.headers, &Name::WWW_AUTHENTICATE));
        assert_eq!(after.verify(&after.request(&mut account)), Err(Denied::Stale));
        // Nor does one made for MD5 do for SHA-256.
        let mut md5 = Site::new(&[Md5]);
        let mut account = Account::new("alice", "secret", None);
        let challenge = md5.challenge(Denied::Missing);
        assert!(account.challenged(&challenge.headers, &Name::WWW_AUTHENTICATE));
        account.answering.as_mut().unwrap().algorithm = Sha256;
        let request = md5.request(&mut account);
        md5.verifier.algorithms = vec![Sha256];
        assert_eq!(md5.verify(&request), Err(Denied::Stale));
    }

    #[test]
    fn memory_is_bounded() {
        let mut site = Site::new(&[Md5]);
        let mut first = None;
        for _ in 0..MAX_NONCES + 10 {
            let mut account = Account::new("alice", "secret", None);
            let challenge = site.challenge(Denied::Missing);
            assert!(account.challenged(&challenge.headers, &Name::WWW_AUTHENTICATE));
            assert!(site.verify(&site.request(&mut account)).is_ok());
            first.get_or_insert(account);
        }
        assert_eq!(site.verifier.used.len(), MAX_NONCES);
        // What was forgotten cannot be replayed.
        let late = site.request(first.as_mut().unwrap());
        assert_eq!(site.verify(&late), Err(Denied::Stale));
        site.now += NONCE_LIFETIME * 2;
        let mut account = Account::new("alice", "secret", None);
        let challenge = site.challenge(Denied::Missing);
        account.challenged(&challenge.headers, &Name::WWW_AUTHENTICATE);
        assert!(site.verify(&site.request(&mut account)).is_ok());
        assert_eq!(site.verifier.used.len(), 1);
    }

    #[test]
    fn counts_may_overtake_each_other() {
        let mut uses = Uses::new(Duration::ZERO);
        let mut check = |nc, expected: bool| assert_eq!(uses.take(nc).is_some(), expected, "{nc}");
        check(0, false);
        check(2, true);
        check(1, true);
        check(1, false);
        check(65, true);
        check(3, true);
        check(2, false);
        check(1, false);
        check(u32::MAX, true);
        check(u32::MAX, false);
        check(u32::MAX - 63, true);
        check(u32::MAX - 64, false);
    }

    #[test]
    fn a_client_gives_up() {
        let headers = |line: &str| {
            let mut headers = Headers::new();
            headers.push(Name::WWW_AUTHENTICATE, line);
            headers
        };
        let fresh = "Digest realm=\"r\", nonce=\"n\", qop=\"auth,auth-int\", opaque=\"o\"";
        let mut account = Account::new("a", "p", Some("r"));
        assert!(account.credentials(&Method::Invite, "sip:h", "c").is_none());
        assert!(account.challenged(&headers(fresh), &Name::WWW_AUTHENTICATE));
        let credentials = account.credentials(&Method::Invite, "sip:h", "c").unwrap();
        assert_eq!(credentials.get("opaque"), Some("o"));
        assert_eq!(credentials.get("nc"), Some("00000001"));
        assert!(!account.challenged(&headers(fresh), &Name::WWW_AUTHENTICATE), "wrong password");
        let stale = format!("{fresh}, stale=TRUE");
        assert!(account.challenged(&headers(&stale), &Name::WWW_AUTHENTICATE));
        assert!(!account.challenged(&headers(&stale), &Name::WWW_AUTHENTICATE), "too often");
        let never = |line: &str| {
            let mut account = Account::new("a", "p", Some("r"));
            assert!(!account.challenged(&headers(line), &Name::WWW_AUTHENTICATE), "{line}");
        };
        never("Digest realm=\"trunk\", nonce=\"n\", qop=\"auth\"");
        never("Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"");
        never("Digest realm=\"r\", nonce=\"n\", algorithm=SHA3");
        never("Digest realm=\"r\"");
        never("Basic realm=\"r\"");
        never("Digest");
        let mut old = Account::new("a", "p", Some("r"));
        assert!(old.challenged(&headers("Digest realm=r, nonce=n"), &Name::WWW_AUTHENTICATE));
        let credentials = old.credentials(&Method::Invite, "sip:h", "c").unwrap();
        assert_eq!((credentials.get("qop"), credentials.get("cnonce")), (None, None));
    }

    #[test]
    fn secrets_do_not_show() {
        let site = Site::new(&[Md5]);
        let ha1 = Ha1::new(Md5, "alice", "example.org", "secret");
        let shown = format!("{ha1:?} {:?} {:?}", site.verifier, Account::new("a", "secret", None));
        assert!(
            !shown.contains("secret") && !shown.contains(ha1.as_hex()) && !shown.contains("7, 7")
        );
        assert_eq!(Ha1::from_hex(Md5, ha1.as_hex()), Some(ha1.clone()));
        assert_eq!(Ha1::from_hex(Sha256, ha1.as_hex()), None);
        assert_eq!(Ha1::from_hex(Md5, &"g".repeat(32)), None);
    }

    /// A server with one user.
    struct Site {
        verifier: Verifier,
        now: Instant,
    }

    impl Site {
        #[expect(clippy::disallowed_methods, reason = "any fixed start will do")]
        fn new(algorithms: &[Algorithm]) -> Self {
            let now = Instant::now();
            Self { verifier: Verifier::new(now, "example.org", algorithms, [7; 32]), now }
        }

        fn challenge(&mut self, denied: Denied) -> crate::message::Response {
            let mut response = self.plain().response(Status::UNAUTHORIZED);
            for challenge in self.verifier.challenge(self.now, denied) {
                response.headers.push(Name::WWW_AUTHENTICATE, challenge);
            }
            response
        }

        fn plain(&self) -> Request {
            Request::new(Method::Invite, "sip:room@example.org".parse::<Uri>().unwrap())
        }

        fn request(&self, account: &mut Account) -> Request {
            let mut request = self.plain();
            let uri = request.uri.to_string();
            let credentials = account.credentials(&request.method, &uri, "c").unwrap();
            request.headers.push(Name::AUTHORIZATION, credentials);
            request
        }

        fn verify(&mut self, request: &Request) -> Result<String, Denied> {
            self.verifier.verify(self.now, request, |user, algorithm| {
                (user == "alice").then(|| Ha1::new(algorithm, user, "example.org", "secret"))
            })
        }
    }
}
