//! Who is let in to what: bearer tokens (RFC 6750), or this machine alone.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};

use super::super::settings::Settings;
use super::{Http, Peer, is_local, refusal};
use crate::admin::Question;
use crate::admin::audit::{Entry, MAY_ONLY_READ, Via};
use crate::clock::Now;
use crate::config::Network;

/// Who is let in to what.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The bearer token of the admin API. Without one, it answers on loopback alone.
    pub(super) token: Option<String>,
    /// The token of those who may look at everything and change nothing.
    pub(super) read_token: Option<String>,
    /// The TLS proxies in front of `/provision`; `None`: there is no such path.
    pub(super) proxies: Option<Vec<Network>>,
}

/// What somebody may do who was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Look at everything.
    Read,
    /// Change it as well.
    Write,
}

/// Somebody who was let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    /// What opened the door, as the audit log has it.
    pub(super) name: &'static str,
    /// What they may do.
    pub(super) scope: Scope,
}

impl Access {
    /// What the configuration says.
    pub fn new(settings: &Settings) -> Self {
        let provision = &settings.config.provision;
        let proxies = provision.proxies.iter().map(|proxy| proxy.0);
        let proxies = provision.enabled.then(|| proxies.collect());
        let Settings { token, read_token, .. } = settings.clone();
        Self { token, read_token, proxies }
    }

    /// Whom a token makes; `None` if it is no token of ours.
    fn operator(&self, given: &str) -> Option<Operator> {
        self.holder(Sha256::digest(given).into())
    }

    /// Whether there is a token at all.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The same by a token's hash (SHA-256). Hashes are compared, so that the time it takes tells nothing
    /// about the tokens.
    pub(super) fn holder(&self, given: [u8; 32]) -> Option<Operator> {
        let is = |token: &Option<String>| {
            token.as_ref().is_some_and(|token| Sha256::digest(token)[..] == given)
        };
        if is(&self.token) {
            Some(Operator { name: "http.token", scope: Scope::Write })
        } else if is(&self.read_token) {
            Some(Operator { name: "http.read_token", scope: Scope::Read })
        } else {
            None
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub(super) enum Closed {
    /// They gave no token.
    NoToken,
    /// They gave one that is none of ours.
    WrongToken,
    /// There is none, and they are not on this machine.
    Elsewhere,
}

impl Http {
    /// Who somebody is by what they give as token. Without a token of ours, whoever asks from here is
    /// an operator.
    pub(super) fn admit(
        &self,
        from: SocketAddr,
        headers: &HeaderMap,
        given: Option<&str>,
    ) -> Result<Operator, Closed> {
        let access = self.access();
        if access.token.is_none() {
            return match from.ip().to_canonical().is_loopback() && is_local(headers) {
                true => Ok(Operator { name: "loopback", scope: Scope::Write }),
                false => Err(Closed::Elsewhere),
            };
        }
        let given = given.ok_or(Closed::NoToken)?;
        access.operator(given).ok_or_else(|| {
            self.0.metrics.auth_failures.with_label_values(&["http"]).inc();
            Closed::WrongToken
        })
    }
}

impl Closed {
    /// What the API answers.
    pub(super) fn answer(self) -> Box<Response> {
        let (status, why, challenge) = match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "a bearer token is needed", Some("Bearer")),
            Self::WrongToken => (
                StatusCode::UNAUTHORIZED,
                "this token is none of ours",
                Some("Bearer error=\"invalid_token\""),
            ),
            Self::Elsewhere => {
                (StatusCode::FORBIDDEN, "without http.token only loopback is answered", None)
            }
        };
        challenged(status, why, challenge)
    }
}

fn challenged(status: StatusCode, why: &str, challenge: Option<&'static str>) -> Box<Response> {
    let mut response = refusal(status, why);
    if let Some(challenge) = challenge {
        let value = HeaderValue::from_static(challenge);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// Lets in to the API who may do what they ask.
pub(super) async fn authorise(
    State(http): State<Http>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let operator = match http.admit(from, headers, given) {
        Ok(operator) => operator,
        Err(closed) => return *closed.answer(),
    };
    let ours = |agent: &str| agent.starts_with(concat!(env!("CARGO_PKG_NAME"), "/"));
    let via = match text(header::USER_AGENT).is_some_and(ours) {
        true => Via::Cli(from),
        false => Via::Http(from),
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && operator.scope < Scope::Write {
        let what = (request.method().as_str(), request.uri().path());
        let entry = Entry::turned_away(Now::read(), operator.name, via, what);
        entry.iter().for_each(|entry| http.0.audit.record(entry));
        let challenge = "Bearer error=\"insufficient_scope\"";
        return *challenged(StatusCode::FORBIDDEN, MAY_ONLY_READ, Some(challenge));
    }
    request.extensions_mut().insert((operator, via));
    next.run(request).await
}

/// A request of somebody who was let in.
pub(super) struct Asked {
    http: Http,
    operator: Operator,
    via: Via,
}

impl Asked {
    /// Puts their question, and gives them the answer.
    pub(super) async fn ask(&self, question: Question) -> Response {
        self.http.ask(self.operator, self.via, question).await
    }
}

impl FromRequestParts<Http> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Self::Rejection> {
        let who = parts.extensions.get::<(Operator, Via)>().copied();
        let (operator, via) = who.ok_or_else(|| *Closed::NoToken.answer())?;
        Ok(Self { http: http.clone(), operator, via })
    }
}
