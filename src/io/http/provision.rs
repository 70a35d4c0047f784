//! `GET /provision`: what a user's client is to set up, for those who know their password.
//!
//! Only over TLS, which a proxy in front gives, or on loopback. The loop knows who is who and how often
//! somebody may be wrong.

use std::net::{IpAddr, SocketAddr};

use axum::Form as UrlEncoded;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Http, Peer, credentials, error};
use crate::bridge::Input;
use crate::config::Network;
use crate::provision::{Form, Proof, Request};

/// What stands behind the `?`.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    format: Option<String>,
}

/// The body of a POST, as Jitsi sends what it asked the person for.
#[derive(Default, Deserialize)]
pub(super) struct Fields {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// `GET /provision`
pub(super) async fn get(
    State(http): State<Http>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Response {
    let given = credentials(&headers).map(|(name, password)| Proof::Password(name, password));
    provision(&http, from, wish, &headers, given).await
}

/// `POST /provision`
pub(super) async fn post(
    State(http): State<Http>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
    UrlEncoded(Fields { username, password }): UrlEncoded<Fields>,
) -> Response {
    let posted = (!username.is_empty()).then_some((username, password));
    let given = credentials(&headers).or(posted);
    let given = given.map(|(name, password)| Proof::Password(name, password));
    provision(&http, from, wish, &headers, given).await
}

/// `GET /provision/{token}`
pub(super) async fn open(
    State(http): State<Http>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    Path(token): Path<String>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Response {
    provision(&http, from, wish, &headers, Some(Proof::Token(token))).await
}

async fn provision(
    http: &Http,
    from: SocketAddr,
    wish: Wish,
    headers: &HeaderMap,
    given: Option<Proof>,
) -> Response {
    let Some(proxies) = http.access().proxies.clone() else {
        return error(StatusCode::NOT_FOUND, "there is no such path");
    };
    let Some(from) = client(from.ip(), headers, &proxies) else {
        return error(StatusCode::FORBIDDEN, "passwords are taken over TLS only");
    };
    let text = |name| headers.get(name).and_then(|it: &HeaderValue| it.to_str().ok()).unwrap_or("");
    let form = match wish.format.as_deref().map(Form::named) {
        Some(Some(form)) => form,
        Some(None) => {
            return error(StatusCode::BAD_REQUEST, "format: json, jitsi or linphone");
        }
        None => Form::wanted(text(header::ACCEPT), text(header::USER_AGENT)),
    };
    let Some(proof) = given else { return challenge("a password is needed") };
    let asked = http.send(|ticket| Input::Provision(Request { ticket, from, proof, form }));
    let Some(answer) = asked.await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the server did not answer");
    };
    let said = answer.body.as_str().unwrap_or_default().to_owned();
    let mut response = match answer.status {
        200 => ([(header::CONTENT_TYPE, form.media_type())], said).into_response(),
        401 => challenge(&said),
        404 => error(StatusCode::NOT_FOUND, &said),
        _ => {
            let mut response = error(StatusCode::TOO_MANY_REQUESTS, &said);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, User-Agent"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn challenge(why: &str) -> Response {
    let mut response = error(StatusCode::UNAUTHORIZED, why);
    let basic = "Basic realm=\"cusaxd provisioning\", charset=\"UTF-8\"";
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(basic));
    response
}

/// The address of who asks, if nobody listens in on the way: a proxy that gives TLS says who it is for,
/// and says if there was no TLS.
fn client(from: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> Option<IpAddr> {
    let text = |name: &str| headers.get_all(name).iter().next_back().map(HeaderValue::to_str);
    let last = |value: &str| value.rsplit(',').next().unwrap_or_default().trim().to_owned();
    if !proxies.iter().any(|network| network.contains(from)) {
        return from.to_canonical().is_loopback().then_some(from);
    }
    if let Some(scheme) = text("x-forwarded-proto") {
        let https = scheme.is_ok_and(|scheme| last(scheme).eq_ignore_ascii_case("https"));
        if !https {
            return None;
        }
    }
    match text("x-forwarded-for") {
        Some(chain) => last(chain.ok()?).parse().ok(),
        None => from.to_canonical().is_loopback().then_some(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_travel_encrypted_or_not_at_all() {
        let proxies = ["127.0.0.1/32", "10.0.0.0/8"].map(|network| network.parse().unwrap());
        let check = |from: &str, headers: &[(&'static str, &str)], expected: Option<&str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(
                client(from.parse().unwrap(), &map, &proxies),
                expected,
                "{from} {headers:?}"
            );
        };
        let (by, over) = ("x-forwarded-for", "x-forwarded-proto");
        check("127.0.0.1", &[], Some("127.0.0.1"));
        check("127.0.0.2", &[], Some("127.0.0.2"));
        check("::1", &[], Some("::1"));
        check("192.0.2.1", &[], None);
        check("192.0.2.1", &[(by, "127.0.0.1")], None);
        check("192.0.2.1", &[(over, "https"), (by, "127.0.0.1")], None);
        check("10.0.0.1", &[], None);
        check("10.0.0.1", &[(by, "198.51.100.7")], Some("198.51.100.7"));
        check("10.0.0.1", &[(by, "198.51.100.7"), (over, "http")], None);
        check("10.0.0.1", &[(by, "198.51.100.7"), (over, "HTTPS")], Some("198.51.100.7"));
        // What the client itself claims stands before what the proxy adds.
        check("127.0.0.1", &[(by, "203.0.113.1, 198.51.100.7")], Some("198.51.100.7"));
        check("127.0.0.1", &[(by, "203.0.113.1"), (by, "2001:db8::7")], Some("2001:db8::7"));
        check("127.0.0.1", &[(by, "unknown")], None);
        check("127.0.0.1", &[(by, "\u{ff}")], None);
    }
}
