//! Registration, the client's side (RFC 3261 §10.2): where a user is reached, kept up to date at a registrar.
//!
//! [`Registration`] says what to send and when, and is told what came of it; sending is its user's
//! ([`Endpoint::send`](crate::endpoint::Endpoint::send)). Challenges are answered in here.

use std::time::{Duration, Instant};

use crate::digest::Account;
use crate::header::{CSeq, Contacts, Name, NameAddr};
use crate::message::{Method, Request, Response, Status};
use crate::uri::{SipUri, Uri};

/// What is registered where.
#[derive(Debug)]
pub struct Config {
    /// The domain of the registrar, as a URI without user (§10.2).
    pub registrar: SipUri,
    /// The user's address of record.
    pub aor: Uri,
    /// Where they are reached.
    pub contact: NameAddr,
    /// For how long, if the registrar agrees, in seconds.
    pub expires_s: u32,
    /// Who they are to the registrar.
    pub account: Account,
    /// The Call-ID of all of its requests: random (§10.2).
    pub call_id: String,
}

/// One address, kept registered.
#[derive(Debug)]
pub struct Registration {
    config: Config,
    cseq: u32,
    /// The header to answer a challenge in, once there was one.
    proves: Option<Name>,
    /// What the last request asked for; 0 takes the address back.
    asked_s: u32,
    refresh_at: Option<Instant>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send [`Registration::request`] again at once: credentials or a longer time were asked for.
    Again,
    /// It is registered for so long, and is refreshed before.
    Registered {
        /// For how long, in seconds.
        expires_s: u32,
    },
    /// It was taken back, as was asked for.
    Unregistered,
    /// It is not registered: 401 and 407 mean a wrong password, 403 and 404 that the registrar does not
    /// want the user, others that it may be tried again later.
    Refused {
        /// What it said.
        status: Status,
        /// How long to leave it alone, if it says (§20.33).
        retry_after: Option<Duration>,
    },
}

impl Registration {
    /// Nothing is registered yet.
    pub fn new(config: Config) -> Self {
        let asked_s = config.expires_s;
        Self { config, cseq: 0, proves: None, asked_s, refresh_at: None }
    }

    /// The next REGISTER. `cnonce` is random.
    pub fn request(&mut self, cnonce: &str) -> Request {
        self.cseq = self.cseq.saturating_add(1);
        self.refresh_at = None;
        let uri = Uri::Sip(self.config.registrar.clone());
        let mut request = Request::new(Method::Register, uri.clone())
            .with(Name::FROM, NameAddr::new(self.config.aor.clone()))
            .with(Name::TO, NameAddr::new(self.config.aor.clone()))
            .with(Name::CALL_ID, &self.config.call_id)
            .with(Name::CSEQ, CSeq::new(self.cseq, Method::Register))
            .with(Name::CONTACT, &self.config.contact)
            .with(Name::EXPIRES, self.asked_s);
        if let Some(name) = &self.proves
            && let Some(credentials) =
                self.config.account.credentials(&Method::Register, &uri.to_string(), cnonce)
        {
            request = request.with(name.clone(), credentials);
        }
        request
    }

    /// The REGISTER that takes the address back (§10.2.2).
    pub fn unregister(&mut self, cnonce: &str) -> Request {
        self.asked_s = 0;
        self.request(cnonce)
    }

    /// Takes the final answer to [`Self::request`].
    pub fn handle_response(&mut self, now: Instant, response: &Response) -> Outcome {
        let challenge = match response.status {
            Status::UNAUTHORIZED => Some((Name::WWW_AUTHENTICATE, Name::AUTHORIZATION)),
            Status::PROXY_AUTHENTICATION_REQUIRED => {
                Some((Name::PROXY_AUTHENTICATE, Name::PROXY_AUTHORIZATION))
            }
            _ => None,
        };
        if let Some((asks, proves)) = challenge
            && self.config.account.challenged(&response.headers, &asks)
        {
            self.proves = Some(proves);
            return Outcome::Again;
        }
        let least = response.headers.min_expires().ok().flatten();
        if response.status == Status::INTERVAL_TOO_BRIEF
            && self.asked_s > 0
            && let Some(least) =
                least.filter(|least| (self.asked_s + 1..=MAX_EXPIRES_S).contains(least))
        {
            self.asked_s = least;
            return Outcome::Again;
        }
        if !response.status.is_success() {
            let wait = response.headers.retry_after().ok().flatten();
            let retry_after = wait.map(|wait| Duration::from_secs(u64::from(wait.seconds)));
            return Outcome::Refused { status: response.status, retry_after };
        }
        self.config.account.accepted();
        if self.asked_s == 0 {
            return Outcome::Unregistered;
        }
        let expires_s = self.granted(response);
        // In time for a second attempt, and never as fast as it can.
        let wait = (expires_s / 2).max(expires_s.saturating_sub(MARGIN_S)).max(1);
        self.refresh_at = Some(now + Duration::from_secs(u64::from(wait)));
        Outcome::Registered { expires_s }
    }

    /// When [`Self::request`] is due again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.refresh_at
    }

    /// What the registrar granted this contact: its own parameter, or the header for all (§10.2.4).
    fn granted(&self, response: &Response) -> u32 {
        let listed = match response.headers.contacts() {
            Ok(Contacts::List(list)) => list,
            Ok(Contacts::All) | Err(_) => vec![],
        };
        let same = |contact: &NameAddr| contact.uri.equivalent(&self.config.contact.uri);
        let own = listed.into_iter().find(same);
        let own = own.and_then(|contact| contact.params.get("expires")?.parse().ok());
        let all = || response.headers.expires().ok().flatten();
        own.or_else(all).unwrap_or(self.asked_s).min(MAX_EXPIRES_S)
    }
}

/// The longest time that is asked for or believed: a day.
const MAX_EXPIRES_S: u32 = 24 * 60 * 60;
/// How long before its end a registration is refreshed, in seconds.
const MARGIN_S: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any fixed start will do")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn registration() -> Registration {
        Registration::new(Config {
            registrar: "sip:example.org".parse().unwrap(),
            aor: "sip:alice@example.org".parse().unwrap(),
            contact: NameAddr::new("sip:alice@192.0.2.1:5070".parse::<Uri>().unwrap()),
            expires_s: 600,
            account: Account::new("alice", "secret", Some("example.org")),
            call_id: "c1".to_owned(),
        })
    }

    fn response(code: u16, headers: &[(Name, &str)]) -> Response {
        let mut response = Response::new(Status::new(code).unwrap());
        for (name, value) in headers {
            response = response.with(name.clone(), *value);
        }
        response
    }

    const CHALLENGE: &str = "Digest realm=\"example.org\",nonce=\"n1\",algorithm=MD5,qop=\"auth\"";

    #[test]
    fn registers_answers_a_challenge_refreshes_and_takes_back() {
        let mut it = registration();
        let now = epoch();
        let first = it.request("x");
        assert_eq!(first.uri.to_string(), "sip:example.org");
        assert_eq!(first.headers.expires(), Ok(Some(600)));
        assert!(!first.headers.contains(&Name::AUTHORIZATION));
        let challenge = response(401, &[(Name::WWW_AUTHENTICATE, CHALLENGE)]);
        assert_eq!(it.handle_response(now, &challenge), Outcome::Again);
        let second = it.request("x");
        assert_eq!(second.headers.cseq().unwrap().number, 2);
        assert_eq!(second.headers.call_id(), Ok("c1"));
        let proof = second.headers.credentials(&Name::AUTHORIZATION).remove(0);
        assert_eq!((proof.get("username"), proof.get("nc")), (Some("alice"), Some("00000001")));
        // What counts is what the registrar says of this contact.
        let contacts = "<sip:alice@192.0.2.9>;expires=9, <sip:alice@192.0.2.1:5070>;expires=120";
        let ok = response(200, &[(Name::CONTACT, contacts), (Name::EXPIRES, "500")]);
        assert_eq!(it.handle_response(now, &ok), Outcome::Registered { expires_s: 120 });
        assert_eq!(it.poll_timeout(), Some(now + Duration::from_secs(88)));
        // The nonce is used again, and a new one is taken.
        let again = it.request("y");
        let proof = again.headers.credentials(&Name::AUTHORIZATION).remove(0);
        assert_eq!(proof.get("nc"), Some("00000002"));
        assert_eq!(it.handle_response(now, &challenge), Outcome::Again);
        let gone = it.unregister("z");
        assert_eq!(gone.headers.expires(), Ok(Some(0)));
        assert_eq!(it.handle_response(now, &response(200, &[])), Outcome::Unregistered);
        assert_eq!(it.poll_timeout(), None);
    }

    #[test]
    fn knows_what_to_do_about_each_answer() {
        let now = epoch();
        let check = |code, headers: &[(Name, &str)], expected: Outcome| {
            let mut it = registration();
            it.request("x");
            assert_eq!(it.handle_response(now, &response(code, headers)), expected, "{code}");
        };
        let refused = |code, wait: Option<u64>| Outcome::Refused {
            status: Status::new(code).unwrap(),
            retry_after: wait.map(Duration::from_secs),
        };
        check(200, &[], Outcome::Registered { expires_s: 600 });
        check(200, &[(Name::EXPIRES, "60")], Outcome::Registered { expires_s: 60 });
        check(200, &[(Name::EXPIRES, "4000000000")], Outcome::Registered { expires_s: 86_400 });
        check(423, &[(Name::MIN_EXPIRES, "3600")], Outcome::Again);
        check(423, &[(Name::MIN_EXPIRES, "30")], refused(423, None));
        check(423, &[(Name::MIN_EXPIRES, "99999999")], refused(423, None));
        check(503, &[(Name::RETRY_AFTER, "40")], refused(503, Some(40)));
        check(404, &[], refused(404, None));
        // A challenge of a realm that is not ours is not answered.
        let other = CHALLENGE.replace("example.org", "evil.test");
        check(401, &[(Name::WWW_AUTHENTICATE, &other)], refused(401, None));
        // A wrong password is not tried for ever.
        let mut it = registration();
        let challenge = response(407, &[(Name::PROXY_AUTHENTICATE, CHALLENGE)]);
        it.request("x");
        assert_eq!(it.handle_response(now, &challenge), Outcome::Again);
        assert!(it.request("x").headers.contains(&Name::PROXY_AUTHORIZATION));
        assert_eq!(it.handle_response(now, &challenge), refused(407, None));
        // A registration that lasts a second is not refreshed all the time.
        let brief = response(200, &[(Name::EXPIRES, "0")]);
        it.handle_response(now, &brief);
        assert_eq!(it.poll_timeout(), Some(now + Duration::from_secs(1)));
    }
}
