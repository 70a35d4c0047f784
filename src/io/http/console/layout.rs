//! What all pages of the console have in common: head, navigation, and the headers that keep them safe.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::assets::{ICON, SCRIPTS, STYLE};
use super::session::{LogInRefused, Viewer};

/// The pages that the navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Rooms,
    Users,
    Events,
}

impl Tab {
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Overview, "Overview", "/console"),
        (Self::Rooms, "Rooms", "/console/rooms"),
        (Self::Users, "Users", "/console/users"),
        (Self::Events, "Events", "/console/events"),
    ];
}

/// A whole page.
pub(super) fn page(viewer: &Viewer, tab: Option<Tab>, title: &str, main: &Markup) -> Response {
    let body = html! {
        a .skip href="#main" { "Skip to the content" }
        header .top {
            a .brand href="/console" {
                img src=(ICON.url()) alt="" width="24" height="24";
                "cusaxd"
            }
            nav aria-label="Pages" {
                ul {
                    @for (other, name, path) in Tab::ALL {
                        li { a href=(path) aria-current=[(tab == Some(other)).then_some("page")] { (name) } }
                    }
                }
            }
            @if !viewer.may_change() { span .tag { "read only" } }
            @if viewer.logged_in {
                form method="post" action="/console/logout" {
                    (word(viewer))
                    button .plain type="submit" { "Log out" }
                }
            }
        }
        main #main tabindex="-1" {
            // What was done, and what was refused: said politely by screen readers.
            div #notice role="status" aria-live="polite" {}
            (main)
        }
        p #offline role="alert" hidden { "The connection is lost. What you see may be old; trying again …" }
        dialog #dialog aria-labelledby="dialog-title" {}
    };
    respond(StatusCode::OK, title, &body)
}

/// The same, where something went wrong.
pub(super) fn failed(viewer: &Viewer, status: StatusCode, why: &str) -> Response {
    let main = html! {
        h1 { (status.canonical_reason().unwrap_or("It did not work")) }
        p .refused { (why) }
        p { a href="/console" { "Back to the overview" } }
    };
    let mut response = page(viewer, None, "Refused", &main);
    *response.status_mut() = status;
    response
}

/// A part of a page, for a page that is there.
pub(super) fn part(status: StatusCode, part: &Markup) -> Response {
    safe((status, Html(part.clone().into_string())).into_response())
}

/// The page that asks for a token; `next` is where to go then.
pub(super) fn log_in(status: StatusCode, next: &str, refused: Option<LogInRefused>) -> Response {
    let open = refused != Some(LogInRefused::Elsewhere);
    let body = html! {
        main #main .door {
            h1 { img src=(ICON.url()) alt="" width="32" height="32"; "cusaxd" }
            @if let Some(why) = refused { p .refused role="alert" { (why.to_string()) } }
            @if open {
                form method="post" action="/console/login" {
                    input type="hidden" name="next" value=(next);
                    label for="token" { "Token" }
                    input #token type="password" name="token" required autofocus autocomplete="current-password";
                    p .hint { "The one of " code { "http.token" } ", or that of " code { "http.read_token" } " to look only." }
                    button .main type="submit" { "Log in" }
                }
            }
        }
    };
    let mut response = respond(status, "Log in", &body);
    if status == StatusCode::UNAUTHORIZED {
        // Not Basic: browsers would ask by themselves.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        // A part of a page cannot be a log-in.
        response.headers_mut().insert("hx-refresh", HeaderValue::from_static("true"));
    }
    response
}

/// The word that shows that a form is ours.
pub(super) fn word(viewer: &Viewer) -> Markup {
    html! { input type="hidden" name="word" value=(viewer.word); }
}

fn respond(status: StatusCode, title: &str, body: &Markup) -> Response {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX);
                title { (title) " · cusaxd" }
                link rel="icon" href=(ICON.url());
                link rel="stylesheet" href=(STYLE.url());
                @for script in SCRIPTS { script src=(script.url()) defer {} }
            }
            body hx-ext="sse, morph" { (body) }
        }
    };
    safe((status, Html(document.into_string())).into_response())
}

/// Nothing runs and nothing looks but what is ours, nobody frames it, and nothing stays behind.
fn safe(mut response: Response) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// No styles and no code that the policy forbids, nothing kept of pages, and refusals are shown.
const HTMX: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"selfRequestsOnly":true,"historyCacheSize":0,"refreshOnHistoryMiss":true,"responseHandling":[{"code":"204","swap":false},{"code":"[2345]..","swap":true}]}"#;
