//! Who calls: the word of a trusted proxy, a password, or, where the server is open, their own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use cusax::identity::Aor;
use cusax_sip::digest::{Algorithm, Denied, Ha1, Verifier};
use cusax_sip::flow::Flow;
use cusax_sip::header::{Challenge, Name, NameAddr};
use cusax_sip::message::{Request, Response, Status};
use cusax_sip::uri::Uri;
use jid::BareJid;

use super::limits::{Guesses, Try};
use crate::config::{Auth, Network};
use crate::directory::{Directory, User};
use crate::display::{digits, harmless};
use crate::id::LegId;
use crate::rate::Source;
use crate::room::person::{Caller, Proof, Who};

/// Why a password opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogInRefused {
    /// It is wrong, or there is no such user.
    Wrong,
    /// It was not looked at: too many were wrong, or too much was asked.
    TooOften,
}

/// Finds out who callers are.
#[derive(Debug)]
pub(super) struct Callers {
    auth: Auth,
    /// Who vouches for others.
    pub(super) trust: Trust,
    domain: String,
    verifier: Verifier,
    /// Who guesses, at passwords of users and of rooms.
    pub(super) guesses: Guesses,
}

/// Who vouches for others.
#[derive(Debug)]
pub(super) struct Trust {
    networks: Vec<Network>,
    domains: Vec<String>,
    /// The connections of those domains that are open.
    proven: BTreeSet<Flow>,
}

impl Trust {
    /// Proxies in these networks, and those that prove to be of these domains.
    pub(super) fn new(networks: Vec<Network>, domains: Vec<String>) -> Self {
        Self { networks, domains, proven: BTreeSet::new() }
    }

    /// Takes note of a new connection, and of whom its certificate names, if one was verified.
    pub(super) fn opened(&mut self, flow: Flow, names: &[String]) {
        self.closed(flow);
        let ours = |name: &String| self.domains.iter().any(|it| it.eq_ignore_ascii_case(name));
        if names.iter().any(ours) {
            self.proven.insert(flow);
        }
    }

    /// Takes note of its end.
    pub(super) fn closed(&mut self, flow: Flow) {
        self.proven.remove(&flow);
    }

    fn covers(&self, flow: Flow) -> bool {
        self.networks.iter().any(|network| network.contains(flow.remote.ip()))
            || self.proven.contains(&flow)
    }
}

impl Callers {
    /// Digest is asked for with the domain as realm; `key` makes its nonces.
    pub(super) fn new(
        now: Instant,
        auth: Auth,
        trust: Trust,
        domain: &str,
        key: [u8; 32],
        guesses: Guesses,
    ) -> Self {
        let verifier = Verifier::new(now, domain, ALGORITHMS, key);
        Self { auth, trust, domain: domain.to_owned(), verifier, guesses }
    }

    /// Who may call from now on, and which networks' word counts for that.
    pub(super) fn set_rules(&mut self, auth: Auth, trusted: Vec<Network>) {
        self.auth = auth;
        self.trust.networks = trusted;
    }

    /// The source that a flow counts for; `None` for a trusted proxy, which stands for many.
    pub(super) fn stranger(&self, flow: Flow) -> Option<Source> {
        (!self.trust.covers(flow)).then(|| Source::of(flow.remote.ip()))
    }

    /// Who sent a request, or what to answer instead of doing it. `leg` tells one nameless caller
    /// from another.
    pub(super) fn identify(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
        directory: &Directory,
        leg: LegId,
    ) -> Result<Caller, Box<Response>> {
        let private = wants_privacy(request);
        let trusted = self.trust.covers(flow);
        if trusted && let Some(asserted) = self.asserted(request) {
            let (aor, display) = asserted;
            return Ok(known(directory, aor, display.as_deref(), Proof::Asserted, private));
        }
        match self.auth {
            Auth::Digest => self.digest(now, flow, request, directory, private),
            Auth::Trusted if trusted => Ok(nameless(leg)),
            Auth::Trusted => {
                let refusal = Response::new(Status::FORBIDDEN).with_reason("Not From Here");
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
        flow: Flow,
        request: &Request,
        directory: &Directory,
        private: bool,
    ) -> Result<Caller, Box<Response>> {
        let attempt = match self.verifier.claimed_user(request) {
            Some(user) => {
                let realm = self.verifier.realm().to_owned();
                Some(self.attempt(now, flow, &realm, &user)?)
            }
            None => None,
        };
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
        let user = verified.and_then(|name| candidates(&name).ok_or(Denied::Wrong));
        if let Some(attempt) = attempt {
            self.guesses.note(now, attempt, user.map(|_| ()));
        }
        let user = user.map_err(|denied| unauthorized(self.verifier.challenge(now, denied)))?;
        let display = from.as_ref().and_then(|from| from.display.as_deref());
        Ok(known(directory, user.aor.clone(), display, Proof::Digest, private))
    }

    /// The user of the directory who gives a password as such, not as a digest: by the user part of an
    /// address of ours, an address, or a JID. Wrong ones count as those of calls do, and whether there is
    /// such a user makes no difference.
    pub(super) fn log_in<'a>(
        &mut self,
        now: Instant,
        source: IpAddr,
        name: &str,
        password: &str,
        directory: &'a Directory,
    ) -> Result<&'a User, LogInRefused> {
        let attempt = self.guesses.of(Some(Source::of(source)), &self.domain, name);
        if !self.guesses.may(now, attempt) {
            return Err(LogInRefused::TooOften);
        }
        let ours = Aor::new(name, &self.domain).ok();
        let user = [ours, name.parse().ok()]
            .into_iter()
            .flatten()
            .find_map(|aor| directory.by_aor(&aor))
            .or_else(|| directory.by_jid(&BareJid::new(name).ok()?));
        let secret = user.and_then(|user| user.secret.as_ref());
        // Made for nobody as well: it takes its time.
        let account = user.map_or(name, |user| user.aor.user());
        let given = Ha1::new(Algorithm::Sha256, account, &self.domain, password);
        let right = secret.is_some_and(|secret| secret.sha256 == given.as_hex());
        self.guesses.note(now, attempt, if right { Ok(()) } else { Err(Denied::Wrong) });
        user.filter(|_| right).ok_or(LogInRefused::Wrong)
    }

    /// Whose password credentials are about to try, or the refusal of somebody who has been wrong too
    /// often. It is the same whether there is such a user or not, and right or wrong.
    pub(super) fn attempt(
        &mut self,
        now: Instant,
        flow: Flow,
        realm: &str,
        user: &str,
    ) -> Result<Try, Box<Response>> {
        let attempt = self.guesses.of(self.stranger(flow), realm, user);
        if self.guesses.may(now, attempt) {
            return Ok(attempt);
        }
        // No challenge: it would only be answered again (RFC 3261 §21.4.4).
        let refusal = Response::new(Status::FORBIDDEN).with_reason("Too Many Wrong Passwords");
        Err(Box::new(refusal))
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
pub(super) fn unauthorized(challenges: Vec<Challenge>) -> Box<Response> {
    let mut response = Response::new(Status::UNAUTHORIZED);
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
    Caller { who: Who::Unknown(leg), aor: None, name: None, proof: Proof::Claimed, private: true }
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

/// What is offered, best first (RFC 8760 §2.3): MD5 for the phones that know nothing else.
pub(super) const ALGORITHMS: &[Algorithm] = &[Algorithm::Sha256, Algorithm::Md5];

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use cusax_sip::digest::Account;
    use cusax_sip::flow::Transport;
    use cusax_sip::header::Headers;
    use cusax_sip::message::{Message, Method};
    use cusax_sip::parse;
    use jid::BareJid;

    use super::*;
    use crate::clock::Now;
    use crate::directory::{Secret, User};

    /// A request from `source` under each policy, and who that is.
    #[test]
    fn callers() {
        let pai = "P-Asserted-Identity: \"A. Smith\" <sip:alice@example.org>\r\n";
        for (auth, source, headers, expected) in [
            // A trusted proxy's word counts; the directory binds it to a JID and names it.
            (Auth::Digest, PROXY, pai, "alice@chat Asserted Alice"),
            (Auth::Trusted, PROXY, pai, "alice@chat Asserted Alice"),
            (Auth::Open, PROXY, pai, "alice@chat Asserted Alice"),
            (
                Auth::Trusted,
                PROXY,
                "P-Asserted-Identity: <tel:+49-30-1234567>\r\n",
                "sip:+49301234567@conf Asserted +49301•••67",
            ),
            (
                Auth::Trusted,
                PROXY,
                "P-Asserted-Identity: <urn:x>, <sip:carol@example.org>\r\n",
                "sip:carol@example.org Asserted carol",
            ),
            (Auth::Trusted, PROXY, "", "l9 Claimed - private"),
            // Nobody else's does, however it is spelt.
            (Auth::Digest, OTHER, pai, "401"),
            (Auth::Digest, OTHER, "P-Asserted-Identity : <sip:alice@example.org>\r\n", "401"),
            (Auth::Trusted, OTHER, pai, "403"),
            (Auth::Open, OTHER, pai, "sip:bob@example.org Claimed Bob"),
            // A password is asked for where there is no such word.
            (Auth::Digest, PROXY, "", "401"),
            // Who asks for privacy is known, and not named.
            (
                Auth::Trusted,
                PROXY,
                "P-Asserted-Identity: <sip:alice@example.org>\r\nPrivacy: id\r\n",
                "alice@chat Asserted - private",
            ),
            (
                Auth::Open,
                OTHER,
                "Privacy: header;user\r\n",
                "sip:bob@example.org Claimed - private",
            ),
            (Auth::Open, OTHER, "Privacy: none\r\n", "sip:bob@example.org Claimed Bob"),
            // Call-Info binds nothing.
            (
                Auth::Open,
                OTHER,
                "Call-Info: <xmpp:alice@chat>;purpose=impp\r\n",
                "sip:bob@example.org Claimed Bob",
            ),
        ] {
            let request = invite("\"Bob\" <sip:bob@example.org>", headers);
            assert_eq!(identify(auth, source, &request), expected, "{auth:?} {source} {headers}");
        }
    }

    #[test]
    fn a_proxy_is_trusted_by_its_certificate_wherever_it_comes_from() {
        let now = Now::read().instant;
        let mut callers = callers_with(now, Auth::Trusted);
        let asserted = "P-Asserted-Identity: <sip:carol@example.org>\r\n";
        let request = invite("<sip:bob@example.org>", asserted);
        let flow = Flow { transport: Transport::Tls, ..from(OTHER) };
        let mut who = |names: &[&str], asked: Flow| {
            callers
                .trust
                .opened(flow, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            show(&callers.identify(now, asked, &request, &directory(), LegId(9)))
        };
        let carol = "sip:carol@example.org Asserted carol";
        assert_eq!(who(&["other.org", "Proxy.Example.ORG"], flow), carol);
        // Another connection from there has proven nothing, nor has one that took the place of the first.
        assert_eq!(who(&["proxy.example.org"], from(OTHER)), "403");
        for names in [&[][..], &["example.org"], &["x.proxy.example.org"], &["*.example.org"]] {
            assert_eq!(who(names, flow), "403", "{names:?}");
        }
        assert_eq!(who(&["proxy.example.org"], flow), carol);
        callers.trust.closed(flow);
        let refused = callers.identify(now, flow, &request, &directory(), LegId(9));
        assert_eq!(show(&refused), "403");
    }

    #[test]
    fn an_open_server_believes_from_and_binds_nothing() {
        for (from, expected) in [
            ("\"The Boss\" <sip:alice@example.org>", "sip:alice@example.org Claimed The Boss"),
            ("<sip:+4930123445@example.org>", "sip:+4930123445@example.org Claimed +49301•••45"),
            ("<sip:anonymous@anonymous.invalid>", "l9 Claimed - private"),
            ("<sip:example.org>", "l9 Claimed - private"),
            ("<tel:112>", "sip:112@conf Claimed •••12"),
            ("<http://example.org>", "l9 Claimed - private"),
        ] {
            assert_eq!(identify(Auth::Open, OTHER, &invite(from, "")), expected, "{from}");
        }
    }

    #[test]
    fn a_password_proves_who_one_is() {
        let now = Now::read().instant;
        let mut callers = callers_with(now, Auth::Digest);
        let source = from(OTHER);
        for algorithm in ["SHA-256", "MD5"] {
            let request = invite("<sip:alice@example.org>", "");
            let challenged =
                callers.identify(now, source, &request, &directory(), LegId(1)).unwrap_err();
            let challenges = challenged.headers.challenges(&Name::WWW_AUTHENTICATE);
            let offered: Vec<_> = challenges.iter().filter_map(|c| c.get("algorithm")).collect();
            assert_eq!(offered, ["SHA-256", "MD5"]);
            let challenge =
                challenges.iter().find(|c| c.get("algorithm") == Some(algorithm)).unwrap();
            assert_eq!(challenge.get("realm"), Some("conf"));

            let mut account = Account::new("alice", "secret", Some("conf"));
            let mut only = Headers::new();
            only.push(Name::WWW_AUTHENTICATE, challenge);
            assert!(account.challenged(&only, &Name::WWW_AUTHENTICATE));
            let credentials = account.credentials(&Method::Invite, "sip:room@conf", "0a4f113b");
            let answer = request.with(Name::AUTHORIZATION, credentials.unwrap());
            let caller = callers.identify(now, source, &answer, &directory(), LegId(1)).unwrap();
            assert_eq!(show(&Ok(caller)), "alice@chat Digest Alice");

            // The same credentials once more are stale, and for someone else wrong.
            let again = callers.identify(now, source, &answer, &directory(), LegId(1));
            let again = again.unwrap_err().headers.challenges(&Name::WWW_AUTHENTICATE);
            assert!(again.iter().all(|challenge| challenge.get("stale") == Some("true")));
        }
    }

    const PROXY: &str = "192.0.2.1";
    const OTHER: &str = "192.0.2.77";

    fn from(source: &str) -> Flow {
        let local = "192.0.2.200:5060".parse().unwrap();
        let remote = SocketAddr::new(source.parse().unwrap(), 5060);
        Flow { transport: Transport::Udp, local, remote }
    }

    fn identify(auth: Auth, source: &str, request: &Request) -> String {
        let now = Now::read().instant;
        show(&callers_with(now, auth).identify(now, from(source), request, &directory(), LegId(9)))
    }

    fn show(identity: &Result<Caller, Box<Response>>) -> String {
        match identity {
            Ok(caller) => format!(
                "{} {:?} {}{}",
                match &caller.who {
                    Who::Jid(jid) => jid.to_string(),
                    Who::Aor(aor) => aor.to_string(),
                    Who::Unknown(leg) => leg.to_string(),
                },
                caller.proof,
                caller.name.as_deref().unwrap_or("-"),
                if caller.private { " private" } else { "" }
            ),
            Err(response) => response.status.to_string(),
        }
    }

    fn callers_with(now: Instant, auth: Auth) -> Callers {
        let trusted = vec![format!("{PROXY}/32").parse().unwrap()];
        let trust = Trust::new(trusted, vec!["proxy.example.org".to_owned()]);
        Callers::new(now, auth, trust, "conf", [7; 32], Guesses::new(5, [1, 2]))
    }

    fn directory() -> Directory {
        let hash = |algorithm| Ha1::new(algorithm, "alice", "conf", "secret").as_hex().to_owned();
        let mut directory = Directory::default();
        directory
            .put(User {
                jid: BareJid::new("alice@chat").unwrap(),
                aor: "sip:alice@example.org".parse().unwrap(),
                name: Some("Alice".to_owned()),
                secret: Some(Secret { md5: hash(Algorithm::Md5), sha256: hash(Algorithm::Sha256) }),
            })
            .unwrap();
        directory
    }

    fn invite(from: &str, headers: &str) -> Request {
        let text = format!(
            "INVITE sip:room@conf SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bK1\r\n\
             From: {from};tag=1\r\nTo: <sip:room@conf>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\
             {headers}Content-Length: 0\r\n\r\n"
        );
        match parse::parse(text.as_bytes()).unwrap() {
            Message::Request(request) => {
                assert_eq!(request.method, Method::Invite);
                request
            }
            Message::Response(_) => unreachable!(),
        }
    }
}
