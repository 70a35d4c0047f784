//! Gets an account document over HTTPS, by the rules of [`provision`](crate::provision): no password goes to
//! a server that did not prove who it is, nor on to another host.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cusax::account::{Account, Secrets};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::tls::secure;
use super::{Lost, PATIENCE, Roots, connect};
use crate::provision::{Came, Place, follow, read};

/// What came of asking.
#[derive(Debug)]
pub enum Answer {
    /// The accounts.
    Accounts(Box<Account>, Secrets),
    /// Something else, for [`provision::next`](crate::provision::next).
    Other(Came),
    /// It is somewhere else, where no password goes before the person has seen its name.
    Elsewhere(Place),
}

/// Asks at a place, as a user with a password where one may be sent.
pub async fn fetch(
    place: &Place,
    user: &str,
    password: &str,
    roots: &Roots,
) -> Result<Answer, Lost> {
    let mut place = place.clone();
    for _ in 0..MAX_REDIRECTIONS {
        let asked = timeout(3 * PATIENCE, get(&place, user, password, roots));
        let late = || Lost::Ended(format!("{} does not answer", place.url));
        let (status, headers, body) = asked.await.map_err(|_| late())??;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if status.is_redirection()
            && let Some(location) = header(LOCATION)
        {
            let refused = |_| Lost::Protocol(format!("it leads to {location}"));
            let next = follow(&place, location).map_err(refused)?;
            if place.password && !next.password {
                return Ok(Answer::Elsewhere(next));
            }
            place = next;
            continue;
        }
        if status != StatusCode::OK {
            let retry_after_s = header(RETRY_AFTER).and_then(|text| text.parse().ok());
            return Ok(Answer::Other(Came::Status { code: status.as_u16(), retry_after_s }));
        }
        let text = String::from_utf8_lossy(&body);
        return Ok(match read(header(CONTENT_TYPE).unwrap_or_default(), &text) {
            Ok((account, secrets)) => Answer::Accounts(Box::new(account), secrets),
            Err(_) => Answer::Other(Came::Nothing),
        });
    }
    Err(Lost::Protocol("it leads round and round".to_owned()))
}

/// One GET.
async fn get(
    place: &Place,
    user: &str,
    password: &str,
    roots: &Roots,
) -> Result<(StatusCode, HeaderMap, Bytes), Lost> {
    let odd = |error: &dyn std::fmt::Display| Lost::Protocol(error.to_string());
    let uri: Uri = place.url.parse().map_err(|error: hyper::http::uri::InvalidUri| odd(&error))?;
    let authority = uri.authority().ok_or_else(|| odd(&"no host"))?;
    let port = authority.port_u16().unwrap_or(if place.certificate.is_some() { 443 } else { 80 });
    let socket = connect(&format!("{}:{port}", authority.host()), port).await?;
    let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("cusax/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json");
    if place.password && !password.is_empty() {
        let proof = STANDARD.encode(format!("{user}:{password}"));
        request = request.header(AUTHORIZATION, format!("Basic {proof}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| odd(&error))?;
    match &place.certificate {
        Some(name) => {
            let name = name.trim_matches(['[', ']']);
            exchange(secure(socket, name, roots).await?, request).await
        }
        None => exchange(socket, request).await,
    }
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, HeaderMap, Bytes), Lost> {
    let ended = |error: hyper::Error| Lost::Ended(error.to_string());
    let (mut sender, connection) = handshake(TokioIo::new(io)).await.map_err(ended)?;
    let ask = async {
        let answer = sender.send_request(request).await.map_err(ended)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| Lost::Ended(error.to_string()))?.to_bytes();
        Ok((head.status, head.headers, body))
    };
    // The connection has to be carried on while its answer is awaited.
    tokio::pin!(connection);
    tokio::select! {
        answer = ask => answer,
        over = &mut connection => Err(match over {
            Ok(()) => Lost::Ended("the server closed the connection".to_owned()),
            Err(error) => ended(error),
        }),
    }
}

/// How often one is sent on.
const MAX_REDIRECTIONS: usize = 5;
/// The longest document, in bytes.
const MAX_BODY: usize = 256 << 10;
