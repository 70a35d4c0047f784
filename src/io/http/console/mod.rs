//! The operators' page: who is where, who is heard and how well, and everything that the table of
//! operations has to do about it.
//!
//! Written on the server. Without scripts it shows and does all of it, when asked again; with htmx
//! it follows by itself. What people call themselves is hostile input here as everywhere: templates
//! escape it, and the policy that goes with each page runs nothing that is not ours.
//!
//! | read | to learn |
//! | --- | --- |
//! | `session` | who is let in, and what is believed to be their wish |
//! | `pages`, `room` | what is shown |
//! | `form` | what can be done, from [`Operation`](crate::operation::Operation) |
//! | `live` | what follows by itself, at which pace |
//! | `layout`, `view`, `words`, `assets` | what all of these use |

mod assets;
mod form;
mod layout;
mod live;
mod pages;
mod room;
mod session;
mod view;
mod words;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::super::client::escaped;
use super::{Http, MAX_BODY, Peer};
use crate::admin::audit::Via;
use crate::admin::page::{Page, Sort};
use crate::admin::{self, Question};
use crate::clock::Now;
pub(super) use session::Sessions;
use session::{LogInRefused, Viewer, is_from_here};

/// Everything below `/console`.
pub(super) fn router() -> Router<Http> {
    Router::new()
        .route("/", get(pages::overview))
        .route("/search", get(pages::search))
        .route("/rooms", get(pages::rooms))
        .route("/rooms/{room}", get(room::page))
        .route("/rooms/{room}/live", get(live::room))
        .route("/users", get(pages::users))
        .route("/events", get(pages::events))
        .route("/events/live", get(live::events))
        .route("/do/{operation}", get(form::show).post(form::act))
        .route("/login", get(log_in_page).post(log_in))
        .route("/logout", post(log_out))
        .route("/assets/{name}", get(assets::get))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Which part of a list a page asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    search: String,
    sort: Sort,
    /// From 1.
    page: usize,
}

#[derive(Debug, Deserialize)]
struct LogIn {
    token: String,
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
struct Word {
    word: String,
}

async fn log_in_page() -> Response {
    layout::log_in(StatusCode::OK, "/console", None)
}

async fn log_in(
    State(http): State<Http>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    headers: HeaderMap,
    Form(LogIn { token, next }): Form<LogIn>,
) -> Response {
    let cookie = match is_from_here(&headers) {
        true => http.log_in(Now::read(), from, &headers, token.trim()),
        false => Err(LogInRefused::Forged),
    };
    // Nobody is sent elsewhere.
    let ours = next == "/console" || next.starts_with("/console/") || next.starts_with("/console?");
    let next = if ours { next.as_str() } else { "/console" };
    match cookie {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response(),
        Err(why) => {
            let status = match why {
                LogInRefused::Wrong => StatusCode::UNAUTHORIZED,
                LogInRefused::TooOften => StatusCode::TOO_MANY_REQUESTS,
                LogInRefused::Elsewhere | LogInRefused::Forged => StatusCode::FORBIDDEN,
            };
            layout::log_in(status, next, Some(why))
        }
    }
}

async fn log_out(
    State(http): State<Http>,
    viewer: Viewer,
    headers: HeaderMap,
    Form(Word { word }): Form<Word>,
) -> Response {
    if !viewer.meant(&headers, &word) {
        return layout::failed(&viewer, StatusCode::FORBIDDEN, FORGED);
    }
    let cookie = http.log_out(&viewer, &headers);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/console/login")).into_response()
}

impl Viewer {
    /// Puts a question of theirs to the loop; the error is a page that says why there is no answer.
    async fn ask(
        &self,
        http: &Http,
        question: Question,
    ) -> Result<serde_json::Value, Box<Response>> {
        let answer = self.put(http, question).await;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        Err(Box::new(layout::failed(self, status(&answer), &why(&answer))))
    }

    async fn put(&self, http: &Http, question: Question) -> admin::Response {
        let answer = http.put(self.operator, Via::Console(self.from), question).await;
        answer.unwrap_or_else(|| {
            let body = serde_json::json!({ "error": "the server did not answer" });
            admin::Response { ticket: 0, status: 503, body }
        })
    }
}

fn status(answer: &admin::Response) -> StatusCode {
    StatusCode::from_u16(answer.status).expect("the operators' face answers with HTTP statuses")
}

/// Why something was refused, as a sentence.
fn why(answer: &admin::Response) -> String {
    let why = answer.body["error"].as_str().unwrap_or("it did not work");
    let mut chars = why.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if why.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

impl Part {
    /// The page of the operators' face.
    fn cut(&self, size: usize) -> Page {
        let offset = self.number().saturating_sub(1).saturating_mul(size);
        Page { search: self.search.clone(), sort: self.sort, offset, limit: Some(size) }
    }

    fn number(&self) -> usize {
        self.page.max(1)
    }

    /// The address of another page of the same list.
    fn url(&self, path: &str, page: usize) -> String {
        let sort = match self.sort {
            Sort::Name => "name",
            Sort::Size => "size",
        };
        let search = escaped(&self.search);
        format!("{path}?search={search}&sort={sort}&page={page}")
    }
}

fn room_url(room: &str) -> String {
    format!("/console/rooms/{}", escaped(room))
}

/// The time of day of a moment (RFC 3339).
fn clock(stamp: &str) -> &str {
    stamp.get(11..19).unwrap_or(stamp)
}

const FORGED: &str =
    "This did not come from a page of this console, or that page is old. Load it again.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_from_one() {
        let part = |page| Part { page, search: "a b&c".to_owned(), ..Part::default() };
        assert_eq!(part(0).cut(50).offset, 0);
        assert_eq!(part(1).cut(50).offset, 0);
        assert_eq!(part(3).cut(50).offset, 100);
        assert_eq!(part(usize::MAX).cut(50).offset, usize::MAX);
        assert_eq!(part(1).url("/x", 2), "/x?search=a%20b%26c&sort=name&page=2");
    }

    #[test]
    fn refusals_are_sentences() {
        let said = |body| why(&admin::Response { ticket: 0, status: 403, body });
        assert_eq!(said(serde_json::json!({ "error": "the room is full" })), "The room is full.");
        assert_eq!(said(serde_json::Value::Null), "It did not work.");
    }
}
