//! Metrics, health and the admin API over HTTP.
//!
//! A request of the API becomes a [`Question`] for the loop, under a ticket; its answer comes back by
//! [`Http::answer`]. Nothing of a room is ever read from here.

mod access;
mod console;
mod listener;
mod media;
mod provision;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response, sse};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jid::BareJid;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::audit::Audit;
use super::media::Health as LegsHealth;
use super::process;
use crate::admin::audit::Via;
use crate::admin::page::Page;
use crate::admin::{self, Question};
use crate::bridge::Input;
use crate::id::{DialId, PersonId, RoomName};
use crate::metrics::Metrics;
use crate::room::By;
pub use access::Access;
use access::{Asked, Operator, authorise};
use console::Sessions;
use listener::{Limited, Peer};

/// The HTTP side: what handlers and the loop share.
#[derive(Clone, Debug)]
pub struct Http(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inputs: mpsc::Sender<Input>,
    tickets: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<admin::Response>>>,
    access: RwLock<Access>,
    events: broadcast::Sender<admin::Event>,
    metrics: Metrics,
    health: Arc<Health>,
    audit: Audit,
    /// How each leg's audio does.
    legs: LegsHealth,
    sessions: Sessions,
    /// Places for pages of the console that follow by themselves.
    watchers: Arc<Semaphore>,
}

/// Which parts work; the loop and the parts write it, health checks read it.
#[derive(Debug, Default)]
pub struct Health {
    /// The XMPP server takes our stanzas.
    pub xmpp: AtomicBool,
    /// SIP sockets are bound.
    pub sip: AtomicBool,
    /// The mixer's threads run.
    pub media: AtomicBool,
    /// The last write to the store succeeded.
    pub store: AtomicBool,
    /// The server goes down and takes nobody new.
    pub draining: AtomicBool,
}

impl Http {
    /// Binds and serves until the process ends. Gives the address that was bound.
    pub async fn serve(
        listen: SocketAddr,
        access: Access,
        inputs: mpsc::Sender<Input>,
        metrics: Metrics,
        health: Arc<Health>,
        audit: Audit,
        legs: LegsHealth,
    ) -> Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("http.listen: cannot bind {listen}"))?;
        let bound = listener.local_addr()?;
        let (tickets, waiting) = (AtomicU64::new(1), Mutex::default());
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let access = RwLock::new(access);
        let http = Self(Arc::new(Shared {
            inputs,
            tickets,
            waiting,
            access,
            events,
            metrics,
            health,
            audit,
            legs,
            sessions: Sessions::new()?,
            watchers: Arc::new(Semaphore::new(MAX_CONSOLES)),
        }));
        let service = http.router().into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move { axum::serve(Limited::new(listener), service).await });
        Ok((http, bound))
    }

    /// Lets in others from now on.
    pub fn set_access(&self, access: Access) {
        *self.0.access.write().unwrap_or_else(PoisonError::into_inner) = access;
    }

    fn access(&self) -> RwLockReadGuard<'_, Access> {
        self.0.access.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an answer to the request that waits for it.
    pub fn answer(&self, response: admin::Response) {
        let waiting = self.waiting().remove(&response.ticket);
        if let Some(waiting) = waiting {
            // Who does not wait any more has closed the connection.
            drop(waiting.send(response));
        }
    }

    /// Shows an event to everyone who watches.
    pub fn publish(&self, event: admin::Event) {
        // Nobody watches: nobody misses it.
        drop(self.0.events.send(event));
    }

    fn router(&self) -> Router {
        let api = routes()
            .into_iter()
            .fold(Router::new(), |api, (path, methods)| api.route(path, methods))
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .layer(middleware::from_fn_with_state(self.clone(), authorise))
            .layer(DefaultBodyLimit::max(MAX_BODY));
        Router::new()
            .route("/metrics", get(metrics))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route(
                "/provision",
                get(provision::get).post(provision::post).layer(DefaultBodyLimit::max(MAX_BODY)),
            )
            .route("/provision/{token}", get(provision::open))
            .nest("/console", console::router())
            .nest("/api/v1", api)
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .with_state(self.clone())
    }

    async fn ask(&self, operator: Operator, via: Via, question: Question) -> Response {
        match self.put(operator, via, question).await {
            Some(admin::Response { status, body, .. }) => {
                let status = StatusCode::from_u16(status)
                    .expect("the operators' face answers with HTTP statuses");
                if body == Value::Null {
                    status.into_response()
                } else {
                    (status, Json(body)).into_response()
                }
            }
            None => error(StatusCode::SERVICE_UNAVAILABLE, "the server did not answer"),
        }
    }

    /// Puts a question to the loop; `None` if it does not answer in time.
    async fn put(
        &self,
        operator: Operator,
        via: Via,
        question: Question,
    ) -> Option<admin::Response> {
        let by = By::Operator(operator.name.to_owned());
        let input = |ticket| Input::Admin(admin::Request { ticket, by, via, question });
        let mut answer = self.send(input).await?;
        self.add_media(&mut answer.body);
        Some(answer)
    }

    /// Sends the loop what has to be answered under a ticket.
    async fn send(&self, input: impl FnOnce(u64) -> Input) -> Option<admin::Response> {
        let (answer, answered) = oneshot::channel();
        let number = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        self.waiting().insert(number, answer);
        // Torn up however this ends: a client that goes away leaves nothing behind.
        let ticket = Ticket { http: self, number };
        let asked = self.0.inputs.send(input(number));
        let answered = timeout(ANSWER_TIMEOUT, async {
            asked.await.ok()?;
            answered.await.ok()
        });
        let answered = answered.await;
        drop(ticket);
        answered.ok().flatten()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<admin::Response>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        let Health { xmpp, sip, media, store, draining } = &*self.0.health;
        let all = [xmpp, sip, media, store].iter().all(|part| part.load(Ordering::Relaxed));
        all && !draining.load(Ordering::Relaxed)
    }
}

/// A question that is not answered yet.
struct Ticket<'a> {
    http: &'a Http,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.http.waiting().remove(&self.number);
    }
}

/// Whether a request on loopback is meant for us by who sits here: not by a page of another site in
/// their browser (which has an `Origin`), nor by a name that was made to point here (RFC 6454).
fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str());
    let local = |authority: &str| {
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next(),
            None => authority.split(':').next(),
        };
        host.is_some_and(|host| {
            let address = host.parse::<IpAddr>();
            host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
        })
    };
    let Some(Ok(host)) = text(header::HOST) else { return false };
    let same = match text(header::ORIGIN) {
        None => true,
        Some(Ok(origin)) => origin.strip_prefix("http://") == Some(host),
        Some(Err(_)) => false,
    };
    local(host) && same
}

/// Name and password of HTTP Basic authentication (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, pair) = value.split_once(' ')?;
    let pair =
        STANDARD.decode(pair.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let pair = String::from_utf8(pair).ok()?;
    let (name, password) = pair.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// The admin API's paths. `admin/openapi.json` describes each of them.
fn routes() -> [(&'static str, MethodRouter<Http>); 14] {
    [
        ("/rooms", get(rooms)),
        ("/rooms/{room}", get(room).put(put_room).delete(delete_room)),
        ("/rooms/{room}/lock", post(lock)),
        ("/rooms/{room}/unlock", post(unlock)),
        ("/rooms/{room}/dial", post(dial)),
        ("/rooms/{room}/dial/{call}", delete(end_dial)),
        ("/rooms/{room}/people/{person}/{action}", post(act)),
        ("/announce", post(announce)),
        ("/drain", post(drain).delete(undrain)),
        ("/users", get(users)),
        ("/users/{jid}", put(put_user).delete(delete_user)),
        ("/users/{jid}/link", post(link)),
        ("/events", get(events)),
        ("/openapi.json", get(openapi)),
    ]
}

async fn metrics(State(http): State<Http>) -> Response {
    process::measure(&http.0.metrics.process);
    let text = http.0.metrics.text();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The process runs and its mixer moves.
async fn live(State(http): State<Http>) -> Response {
    let media = http.0.health.media.load(Ordering::Relaxed);
    health(media, json!({ "media": word(media) }))
}

/// People can be served: every part by name.
async fn ready(State(http): State<Http>) -> Response {
    let health_now = &http.0.health;
    let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
    let (xmpp, sip) = (is(&health_now.xmpp), is(&health_now.sip));
    let (media, store) = (is(&health_now.media), is(&health_now.store));
    let draining = is(&health_now.draining);
    health(
        http.is_ready(),
        json!({
            "xmpp": word(xmpp),
            "sip": word(sip),
            "media": word(media),
            "store": word(store),
            "draining": draining,
        }),
    )
}

fn health(good: bool, mut body: Value) -> Response {
    body["status"] = json!(word(good));
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

const fn word(good: bool) -> &'static str {
    if good { "ok" } else { "down" }
}

/// Server-sent events, one typed event a fact. Who reads too slowly is told how many were missed.
async fn events(State(http): State<Http>) -> Response {
    if http.0.events.receiver_count() >= MAX_WATCHERS {
        return error(StatusCode::SERVICE_UNAVAILABLE, "too many watch already");
    }
    let stream = BroadcastStream::new(http.0.events.subscribe()).map(|event| {
        let event = match event {
            Ok(event) => sse::Event::default().event(event.name).data(event.data.to_string()),
            Err(BroadcastStreamRecvError::Lagged(missed)) => {
                sse::Event::default().event("missed").data(missed.to_string())
            }
        };
        Ok::<_, Infallible>(event)
    });
    sse::Sse::new(stream).keep_alive(sse::KeepAlive::default()).into_response()
}

async fn rooms(asked: Asked) -> Response {
    asked.ask(Question::Rooms(Page::default())).await
}

async fn room(asked: Asked, Path(name): Path<String>) -> Response {
    match read_room(&name) {
        Ok(room) => asked.ask(Question::Room(room, Page::default())).await,
        Err(refused) => *refused,
    }
}

async fn put_room(asked: Asked, Path(name): Path<String>, body: Bytes) -> Response {
    match read_room(&name).and_then(|room| Ok((room, read_json(&body)?))) {
        Ok((room, changes)) => asked.ask(Question::PutRoom(room, changes)).await,
        Err(refused) => *refused,
    }
}

async fn delete_room(asked: Asked, Path(name): Path<String>) -> Response {
    match read_room(&name) {
        Ok(room) => asked.ask(Question::DeleteRoom(room)).await,
        Err(refused) => *refused,
    }
}

async fn lock(asked: Asked, Path(name): Path<String>) -> Response {
    match read_room(&name) {
        Ok(room) => asked.ask(Question::Lock(room, true)).await,
        Err(refused) => *refused,
    }
}

async fn unlock(asked: Asked, Path(name): Path<String>) -> Response {
    match read_room(&name) {
        Ok(room) => asked.ask(Question::Lock(room, false)).await,
        Err(refused) => *refused,
    }
}

async fn dial(asked: Asked, Path(name): Path<String>, body: Bytes) -> Response {
    let question = || {
        let room = read_room(&name)?;
        match read_json(&body)?.get("uri") {
            Some(Value::String(uri)) => Ok(Question::Dial(room, uri.clone())),
            Some(_) | None => Err(refusal(StatusCode::BAD_REQUEST, "uri: expected a string")),
        }
    };
    match question() {
        Ok(question) => asked.ask(question).await,
        Err(refused) => *refused,
    }
}

async fn end_dial(asked: Asked, Path((name, call)): Path<(String, String)>) -> Response {
    let question = || {
        let room = read_room(&name)?;
        let number = call.strip_prefix('d').and_then(|number| number.parse().ok());
        let call = number.map(DialId);
        call.map(|call| Question::EndDial(room, call))
            .ok_or_else(|| refusal(StatusCode::NOT_FOUND, "there is no such call"))
    };
    match question() {
        Ok(question) => asked.ask(question).await,
        Err(refused) => *refused,
    }
}

async fn act(
    asked: Asked,
    Path((name, person, action)): Path<(String, String, String)>,
    body: Bytes,
) -> Response {
    let question = || {
        let room = read_room(&name)?;
        let person = person
            .strip_prefix('p')
            .and_then(|number| number.parse().ok())
            .map(PersonId)
            .ok_or_else(|| {
                refusal(StatusCode::NOT_FOUND, "nobody by that number is in the room")
            })?;
        let reason = || {
            let body = read_json(&body)?;
            match body.get("reason") {
                None => Ok(None),
                Some(Value::String(reason)) => Ok(Some(reason.clone())),
                Some(_) => Err(refusal(StatusCode::BAD_REQUEST, "reason: expected a string")),
            }
        };
        match action.as_str() {
            "mute" => Ok(Question::Mute(room, person, true)),
            "unmute" => Ok(Question::Mute(room, person, false)),
            "kick" => Ok(Question::Kick(room, person, reason()?)),
            "ban" => Ok(Question::Ban(room, person, reason()?)),
            _ => Err(refusal(StatusCode::NOT_FOUND, "there is no such action")),
        }
    };
    match question() {
        Ok(question) => asked.ask(question).await,
        Err(refused) => *refused,
    }
}

async fn announce(asked: Asked, body: Bytes) -> Response {
    match read_json(&body) {
        Ok(body) => match serde_json::from_value(body) {
            Ok(announcement) => asked.ask(Question::Announce(announcement)).await,
            Err(why) => error(StatusCode::BAD_REQUEST, &why.to_string()),
        },
        Err(refused) => *refused,
    }
}

async fn drain(asked: Asked, body: Bytes) -> Response {
    match read_json(&body) {
        Ok(body) => match serde_json::from_value(body) {
            Ok(draining) => asked.ask(Question::Drain(draining)).await,
            Err(why) => error(StatusCode::BAD_REQUEST, &why.to_string()),
        },
        Err(refused) => *refused,
    }
}

async fn undrain(asked: Asked) -> Response {
    asked.ask(Question::Undrain).await
}

async fn users(asked: Asked) -> Response {
    asked.ask(Question::Users(Page::default())).await
}

async fn put_user(asked: Asked, Path(jid): Path<String>, body: Bytes) -> Response {
    match read_jid(&jid).and_then(|jid| Ok((jid, read_json(&body)?))) {
        Ok((jid, body)) => asked.ask(Question::PutUser(jid, body)).await,
        Err(refused) => *refused,
    }
}

async fn delete_user(asked: Asked, Path(jid): Path<String>) -> Response {
    match read_jid(&jid) {
        Ok(jid) => asked.ask(Question::DeleteUser(jid)).await,
        Err(refused) => *refused,
    }
}

async fn link(asked: Asked, Path(jid): Path<String>) -> Response {
    match read_jid(&jid) {
        Ok(jid) => asked.ask(Question::LinkUser(jid)).await,
        Err(refused) => *refused,
    }
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], admin::OPENAPI).into_response()
}

async fn no_such_path() -> Response {
    error(StatusCode::NOT_FOUND, "there is no such path")
}

async fn no_such_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "this path knows other methods")
}

fn read_room(name: &str) -> Result<RoomName, Box<Response>> {
    RoomName::new(name).map_err(|_| refusal(StatusCode::BAD_REQUEST, "not a name of a room"))
}

fn read_jid(jid: &str) -> Result<BareJid, Box<Response>> {
    BareJid::new(jid).map_err(|_| refusal(StatusCode::BAD_REQUEST, "not a bare JID"))
}

/// No body is an empty object: most commands need no particulars.
fn read_json(body: &Bytes) -> Result<Value, Box<Response>> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body).map_err(|why| refusal(StatusCode::BAD_REQUEST, &why.to_string()))
}

fn error(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn refusal(status: StatusCode, why: &str) -> Box<Response> {
    Box::new(error(status, why))
}

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Events that a slow watcher may be behind.
const MAX_EVENTS: usize = 1_024;
/// Streams of events.
const MAX_WATCHERS: usize = 64;
/// Pages of the console that follow by themselves.
const MAX_CONSOLES: usize = 32;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::Method;

    use super::super::client::{Client, Failure};
    use super::super::lines::Lines;
    use super::*;

    /// A server whose loop answers everything with nothing.
    async fn serve(token: Option<&str>) -> (String, Metrics) {
        let (inputs, mut asked) = mpsc::channel(8);
        let metrics = Metrics::new();
        let listen = "127.0.0.1:0".parse().unwrap();
        let token = token.map(str::to_owned);
        let access = Access { token, read_token: None, proxies: Some(vec![]) };
        let health = Arc::new(Health::default());
        let lost = metrics.records_lost.with_label_values(&["audit"]);
        let audit = Audit(Lines::open("log.audit_file", None, lost).unwrap());
        let (http, bound) = Http::serve(
            listen,
            access,
            inputs,
            metrics.clone(),
            health,
            audit,
            LegsHealth::default(),
        )
        .await
        .unwrap();
        tokio::spawn(async move {
            while let Some(input) = asked.recv().await {
                let Input::Admin(request) = input else { panic!("{input:?}") };
                let ticket = request.ticket;
                let body = Value::Null;
                http.answer(admin::Response { ticket, status: 200, body });
            }
        });
        (format!("http://{bound}"), metrics)
    }

    #[tokio::test]
    async fn the_description_has_every_path_and_method_and_no_other() {
        let (url, _) = serve(None).await;
        let client = Client::new(&url, None).unwrap();
        let description = client.ask(Method::GET, &["openapi.json"], None).await.unwrap();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let described = description["paths"].as_object().unwrap();
        let paths: BTreeSet<&str> = described.keys().map(String::as_str).collect();
        assert_eq!(paths, routes().iter().map(|(path, _)| *path).collect());
        for (path, methods) in described {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
                let described = methods.get(method.as_str().to_ascii_lowercase()).is_some();
                if path == "/events" && described {
                    continue; // Its answer never ends; `/events` takes GET, as all that is left says.
                }
                let sample = path.replace("{person}", "p1").replace("{action}", "mute");
                let segments: Vec<&str> = sample[1..].split('/').map(sample_of).collect();
                let answer = client.ask(method.clone(), &segments, None).await;
                let there =
                    !matches!(answer, Err(Failure::Refused(StatusCode::METHOD_NOT_ALLOWED, _)));
                assert_eq!(there, described, "{method} {path}: {answer:?}");
            }
        }
    }

    fn sample_of(segment: &str) -> &str {
        match segment {
            "{room}" => "lounge",
            "{jid}" => "alice@example.org",
            other => other,
        }
    }

    #[tokio::test]
    async fn wrong_tokens_are_refused_and_counted() {
        let (url, metrics) = serve(Some("right")).await;
        let ask = async |token: Option<&str>| {
            let client = Client::new(&url, token.map(str::to_owned)).unwrap();
            client.ask(Method::GET, &["rooms"], None).await
        };
        for token in [None, Some("wrong"), Some("righ"), Some("right, too")] {
            match ask(token).await {
                Err(Failure::Refused(StatusCode::UNAUTHORIZED, why)) => {
                    let none = why == "a bearer token is needed";
                    assert!(none == token.is_none(), "{token:?}: {why}");
                }
                other => panic!("{token:?}: {other:?}"),
            }
        }
        assert_eq!(ask(Some("right")).await.unwrap(), Value::Null);
        // Who gave none has not been wrong.
        assert_eq!(metrics.auth_failures.with_label_values(&["http"]).get(), 3);
    }
}
