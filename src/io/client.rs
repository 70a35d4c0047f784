//! The other end of [`http`](super::http): asks the admin API of a running server.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::uri::{Authority, Scheme};
use axum::http::{Method, Request, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where a server's admin API is, and what opens it.
#[derive(Debug)]
pub struct Client {
    authority: Authority,
    /// What stands before the API's paths, without a slash at the end.
    prefix: String,
    token: Option<String>,
}

/// Why a question was not answered with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server says no; mostly the asker can mend it.
    #[error("{1}")]
    Refused(StatusCode, String),
    /// There is no server, or not one of ours.
    #[error("{0}")]
    Unreachable(String),
}

impl Client {
    /// The API of the server at `url`, as in `http://127.0.0.1:8088`.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "not a URL")?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err("the admin API has no TLS: use http, on loopback or through a tunnel");
            }
            Some(_) | None => return Err("expected http://HOST:PORT"),
        }
        let authority = uri.authority().cloned().ok_or("names no host")?;
        if token.as_ref().is_some_and(|token| header::HeaderValue::from_str(token).is_err()) {
            return Err("the token holds characters that no HTTP header can");
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { authority, prefix, token })
    }

    /// Asks for the path of these segments below `/api/v1`; a body that is not there is `Null`.
    pub async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        timeout(PATIENCE, self.exchange(method, path, body)).await.unwrap_or_else(|_| {
            Err(Failure::Unreachable(format!(
                "{}: no answer in {} s",
                self.authority,
                PATIENCE.as_secs()
            )))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let unreachable = |why: &dyn std::fmt::Display| {
            Failure::Unreachable(format!("{}: {why}", self.authority))
        };
        let host = self.authority.host().trim_matches(['[', ']']);
        let port = self.authority.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host, port)).await.map_err(|why| unreachable(&why))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|why| unreachable(&why))?;
        // Ends with the answer; what goes wrong with it is told by the answer as well.
        tokio::spawn(connection);

        let mut target = format!("{}/api/v1", self.prefix);
        for segment in path {
            target.push('/');
            target.push_str(&escaped(segment));
        }
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, self.authority.as_str())
            .header(
                header::USER_AGENT,
                concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|why| unreachable(&why))?;
        let answer = sender.send_request(request).await.map_err(|why| unreachable(&why))?;
        let status = answer.status();
        let body = Body::new(answer.into_body());
        let bytes = to_bytes(body, MAX_ANSWER).await.map_err(|why| unreachable(&why))?;
        let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        match body {
            Ok(body) if status.is_success() => Ok(body),
            Err(_) if status.is_success() => Err(unreachable(&"this is no cusaxd")),
            body => {
                let why = body.ok().and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
                Err(Failure::Refused(status, why.unwrap_or_else(|| status.to_string())))
            }
        }
    }
}

/// A segment of a path (RFC 3986 §3.3).
pub(super) fn escaped(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Longer than the server gives itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// The largest answer that is taken, in bytes: ten thousand rooms are 3 MB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_plain_http_will_do() {
        for (url, good) in [
            ("http://127.0.0.1:8088", true),
            ("http://[::1]:8088/behind/a/proxy/", true),
            ("http://example.org", true),
            ("https://example.org", false),
            ("example.org:8088", false),
            ("/api", false),
            ("ftp://example.org", false),
            ("", false),
            ("http://exa mple.org", false),
        ] {
            assert_eq!(Client::new(url, None).is_ok(), good, "{url}");
        }
        assert!(Client::new("http://example.org", Some("two\nlines".to_owned())).is_err());
    }

    #[test]
    fn segments_stay_segments() {
        assert_eq!(escaped("lounge"), "lounge");
        assert_eq!(escaped("alice@example.org"), "alice@example.org");
        assert_eq!(escaped("../users?a=b#c%20"), "..%2Fusers%3Fa%3Db%23c%2520");
        assert_eq!(escaped("Küche 1"), "K%C3%BCche%201");
    }

    /// What a client makes of whatever answers.
    async fn says(answer: &'static [u8]) -> Result<Value, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
            assert!(request.starts_with("get /api/v1/rooms/a%2fb http/1.1\r\n"), "{request}");
            assert!(request.contains("\r\nauthorization: bearer secret\r\n"), "{request}");
            stream.write_all(answer).await.unwrap();
        });
        let client = Client::new(&format!("http://127.0.0.1:{port}"), Some("secret".to_owned()));
        client.unwrap().ask(Method::GET, &["rooms", "a/b"], None).await
    }

    #[tokio::test]
    async fn answers_of_all_kinds_become_values_or_reasons() {
        let good = says(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}").await;
        assert_eq!(good.unwrap()["a"], 1);
        assert_eq!(says(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap(), Value::Null);
        for (answer, expected) in [
            (
                "HTTP/1.1 404 Not Found\r\nContent-Length: 21\r\n\r\n{\"error\":\"not there\"}",
                "not there",
            ),
            ("HTTP/1.1 413 Too\r\nContent-Length: 4\r\n\r\nlong", "413 Payload Too Large"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "this is no cusaxd"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nx", "127.0.0.1"),
            ("SSH-2.0-OpenSSH\r\n", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            let said = says(answer.as_bytes()).await.unwrap_err().to_string();
            assert!(said.contains(expected), "{answer:?}: {said}");
        }
    }
}
