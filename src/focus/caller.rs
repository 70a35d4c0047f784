//! Who calls: the word of a trusted proxy, a password, or, where the server is open, their own.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Instant;

use cusax::identity::Aor;
use cusax_sip::digest::{Algorithm, Denied, Ha1, Verifier};
use cusax_sip::header::{Challenge, Name, NameAddr};
use cusax_sip::message::{Request, Response, Status};
use cusax_sip::uri::Uri;

use crate::directory::Directory;
use crate::id::LegId;
use crate::room::person::{Caller, Proof, Who};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Users of the directory with their password, and whom a trusted proxy vouches for.
    Digest,
    /// Only what comes through a trusted proxy.
    Trusted,
    /// Anyone, as whoever they say they are: for demonstrations. What they say binds nothing.
    Open,
}

/// A block of addresses, such as `192.0.2.0/24` (RFC 4632 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Finds out who callers are.
#[derive(Debug)]
pub(super) struct Callers {
    auth: Auth,
    trusted: Vec<Network>,
    domain: String,
    verifier: Verifier,
}

impl Callers {
    /// Digest is asked for with the domain as realm; `key` makes its nonces.
    pub(super) fn new(
        now: Instant,
        auth: Auth,
        trusted: Vec<Network>,
        domain: &str,
        key: [u8; 32],
    ) -> Self {
        let verifier = Verifier::new(now, domain, ALGORITHMS, key);
        Self { auth, trusted, domain: domain.to_owned(), verifier }
    }

    /// Who sent a request, or what to answer instead of doing it. `leg` tells one nameless caller
    /// from another.
    pub(super) fn identify(
        &mut self,
        now: Instant,
        source: IpAddr,
        request: &Request,
        directory: &Directory,
        leg: LegId,
    ) -> Result<Caller, Box<Response>> {
        let private = wants_privacy(request);
        let trusted = self.trusted.iter().any(|network| network.contains(source));
        if trusted && let Some(asserted) = self.asserted(request) {
            let (aor, display) = asserted;
            return Ok(known(directory, aor, display.as_deref(), Proof::Asserted, private));
        }
        match self.auth {
            Auth::Digest => self.digest(now, request, directory, private),
            Auth::Trusted if trusted => Ok(nameless(leg)),
            Auth::Trusted => {
                let refusal = request.response(Status::FORBIDDEN).with_reason("Not From Here");
                Err(Box::new(refusal))
            }
            Auth::Open => Ok(self.claimed(request, private, leg)),
        }
    }

    /// The identity that a trusted proxy asserts (RFC 3325 §9.1); of two, the first that says who.
    fn asserted(&self, request: &Request) -> Option<(Aor, Option<String>)> {
        let identities = request.headers.asserted_identities().ok()?;
        identities.into_iter().find_map(|identity| {
            let aor = self.aor(&identity.uri)?;
            Some((aor, identity.display))
        })
    }

    /// The user whose password the request proves (RFC 7616). A user name means the address in From
    /// if it has that user part, else that user of our domain.
    fn digest(
        &mut self,
        now: Instant,
        request: &Request,
        directory: &Directory,
        private: bool,
    ) -> Result<Caller, Box<Response>> {
        let from = request.headers.from().ok();
        let candidates = |name: &str| {
            let claimed = from.as_ref().and_then(|from| aor_of(&from.uri));
            let ours = Aor::new(name, &self.domain).ok();
            [claimed.filter(|aor| aor.user() == name), ours]
                .into_iter()
                .flatten()
                .find_map(|aor| directory.by_aor(&aor))
        };
        let verified = self.verifier.verify(now, request, |name, algorithm| {
            let secret = candidates(name)?.secret.as_ref()?;
            match algorithm {
                Algorithm::Sha256 => Ha1::from_hex(algorithm, &secret.sha256),
                Algorithm::Md5 => Ha1::from_hex(algorithm, &secret.md5),
                Algorithm::Sha512_256 => None,
            }
        });
        let user = verified
            .and_then(|name| candidates(&name).ok_or(Denied::Wrong))
            .map_err(|denied| unauthorized(request, self.verifier.challenge(now, denied)))?;
        let display = from.as_ref().and_then(|from| from.display.as_deref());
        Ok(known(directory, user.aor.clone(), display, Proof::Digest, private))
    }

    /// What From says (RFC 3261 §20.20), believed by nobody.
    fn claimed(&self, request: &Request, private: bool, leg: LegId) -> Caller {
        let from = request.headers.from().ok();
        let Some((aor, from)) = from.and_then(|from| Some((self.aor(&from.uri)?, from))) else {
            return nameless(leg);
        };
        let name = from.display.as_deref().and_then(harmless).or_else(|| name_of(&aor));
        Caller {
            who: Who::Aor(aor.clone()),
            aor: Some(aor),
            name: name.filter(|_| !private),
            proof: Proof::Claimed,
            private,
        }
    }

    /// The address of record that a URI names; a telephone number is one of our domain.
    fn aor(&self, uri: &Uri) -> Option<Aor> {
        match uri {
            Uri::Tel(tel) => Aor::new(&digits(tel.number()), &self.domain).ok(),
            Uri::Sip(_) | Uri::Other(_) => aor_of(uri),
        }
    }
}

/// A 401 with these challenges, best first (RFC 8760 §2.3).
pub(super) fn unauthorized(request: &Request, challenges: Vec<Challenge>) -> Box<Response> {
    let mut response = request.response(Status::UNAUTHORIZED);
    for challenge in challenges {
        response.headers.push(Name::WWW_AUTHENTICATE, challenge);
    }
    Box::new(response)
}

/// A caller whose address is proven: whoever the directory says that is.
fn known(
    directory: &Directory,
    aor: Aor,
    display: Option<&str>,
    proof: Proof,
    private: bool,
) -> Caller {
    let user = directory.by_aor(&aor);
    let name = user
        .and_then(|user| user.name.as_deref())
        .and_then(harmless)
        .or_else(|| display.and_then(harmless))
        .or_else(|| name_of(&aor));
    Caller {
        who: user.map_or_else(|| Who::Aor(aor.clone()), |user| Who::Jid(user.jid.clone())),
        aor: Some(aor),
        name: name.filter(|_| !private),
        proof,
        private,
    }
}

/// A caller who says nothing about who they are.
fn nameless(leg: LegId) -> Caller {
    Caller {
        who: Who::Unknown(leg),
        aor: None,
        name: None,
        proof: Proof::Claimed,
        private: true,
    }
}

/// The address of record of a SIP URI; `anonymous@anonymous.invalid` and its like are nobody's
/// (RFC 3323 §4.1.1.3).
fn aor_of(uri: &Uri) -> Option<Aor> {
    let uri = uri.as_sip()?;
    let aor = Aor::new(&uri.user()?, &uri.host.to_string()).ok()?;
    let nobody = aor.host().rsplit('.').next() == Some("invalid");
    (!nobody).then_some(aor)
}

/// Whether the request asks to hide who sent it (RFC 3323 §4.2, RFC 3325 §9.3), or does so itself.
fn wants_privacy(request: &Request) -> bool {
    let asked = request.headers.privacy().is_ok_and(|values| {
        values.iter().any(|value| {
            ["id", "header", "user"].iter().any(|hide| value.eq_ignore_ascii_case(hide))
        })
    });
    let hidden = request.headers.from().is_ok_and(|from: NameAddr| {
        from.uri.as_sip().is_some_and(|uri| uri.host.to_string().ends_with(".invalid"))
    });
    asked || hidden
}

/// A name for someone who gives none: their user part, or their number with its middle hidden.
fn name_of(aor: &Aor) -> Option<String> {
    harmless(aor.user())
}

/// A name that people may be shown: on one line, without characters that hide or turn round what
/// stands beside them, not too long, and no number in full. `None` if nothing is left.
pub(super) fn harmless(name: &str) -> Option<String> {
    let mut clean = String::new();
    for word in name.split_whitespace() {
        let mut word = word.chars().filter(|c| !hides(*c)).peekable();
        if word.peek().is_some() && !clean.is_empty() {
            clean.push(' ');
        }
        clean.extend(word);
    }
    let clean: String = clean.chars().take(MAX_NAME).collect();
    if is_number(&clean) {
        return Some(masked(&clean));
    }
    Some(clean.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Control characters, and those by which one name passes for another: direction overrides, zero
/// width, the tag and private blocks.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}'
        )
}

/// Whether a name is nothing but a telephone number, however it is spaced.
fn is_number(name: &str) -> bool {
    let only = |c: char| c.is_ascii_digit() || "+-./() ".contains(c);
    name.chars().all(only) && name.chars().filter(char::is_ascii_digit).count() >= 3
}

/// A number with its middle hidden: `+49301•••45`.
fn masked(number: &str) -> String {
    let digits = digits(number);
    let plus = usize::from(digits.starts_with('+'));
    let count = digits.len() - plus;
    let head = plus + count.saturating_sub(5).min(5);
    format!("{}•••{}", &digits[..head], &digits[digits.len() - 2..])
}

/// A number without what people write between its digits.
fn digits(number: &str) -> String {
    number
        .char_indices()
        .filter(|(i, c)| c.is_ascii_digit() || (*i == 0 && *c == '+'))
        .map(|(_, c)| c)
        .collect()
}

impl Network {
    /// Whether an address lies in the block; an IPv4 address is the same when it is written as
    /// IPv6 (RFC 4291 §2.5.5.2).
    pub fn contains(self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((ours, family), (theirs, other)) = (bits(self.address), bits(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        family == other && (ours ^ theirs) & mask == 0
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    /// Reads `address/prefix`, or one address.
    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| BadNetwork)?,
            None => longest,
        };
        if prefix > longest { Err(BadNetwork) } else { Ok(Self { address, prefix }) }
    }
}

/// A text that is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network (192.0.2.0/24)")]
pub struct BadNetwork;

/// What is offered, best first (RFC 8760 §2.3): MD5 for the phones that know nothing else.
pub(super) const ALGORITHMS: &[Algorithm] = &[Algorithm::Sha256, Algorithm::Md5];
/// The longest name, in characters.
const MAX_NAME: usize = 64;
