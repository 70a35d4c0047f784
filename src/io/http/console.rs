//! The operators' page: who is where, and who is heard. It only shows; commands go by the API.
//!
//! Written on the server, without scripts, so that it shows on anything; what people call themselves
//! is hostile input here as everywhere.

use std::fmt::Write as _;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use super::access::Closed;
use super::{Http, Peer, credentials};
use crate::admin::Question;
use crate::admin::audit::Via;
use crate::id::RoomName;

/// `GET /console`
pub(super) async fn page(
    State(http): State<Http>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let password = credentials(headers).map(|(_, password)| password);
    let operator = match http.admit(from, headers, password.as_deref()) {
        Ok(operator) => operator,
        Err(closed @ Closed::Elsewhere) => return *closed.answer(),
        Err(Closed::NoToken | Closed::WrongToken) => return challenge(),
    };
    let put = async |question| http.put(operator, Via::Console(from), question).await;
    let mut rooms = vec![];
    if let Some(list) = put(Question::Rooms).await {
        let names = list.body["rooms"].as_array().into_iter().flatten();
        let names: Vec<_> = names
            .filter_map(|room| RoomName::new(room["name"].as_str()?).ok())
            .take(MAX_ROOMS)
            .collect();
        for name in names {
            // A room may have ended since the list was made.
            rooms.extend(put(Question::Room(name)).await.filter(|room| room.status == 200));
        }
    }
    let rooms: Vec<_> = rooms.into_iter().map(|room| room.body).collect();
    let mut response = Html(html(&rooms, http.is_ready())).into_response();
    let safe = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in safe {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// `GET /console.css`
pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// What a browser is told that has not said the token.
fn challenge() -> Response {
    let mut response = (
        StatusCode::UNAUTHORIZED,
        "The password is http.token or http.read_token; the name does not matter.\n",
    )
        .into_response();
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        header::HeaderValue::from_static("Basic realm=\"cusaxd\", charset=\"UTF-8\""),
    );
    response
}

fn html(rooms: &[Value], ready: bool) -> String {
    let mut page = String::with_capacity(4096);
    page += "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <meta http-equiv=\"refresh\" content=\"5\"><title>cusaxd</title>\
             <link rel=\"stylesheet\" href=\"console.css\"></head><body><header><h1>cusaxd</h1><p>";
    page += if ready { "<b class=\"good\">ready</b>" } else { "<b class=\"bad\">not ready</b>" };
    let plural = if rooms.len() == 1 { "" } else { "s" };
    let _ = write!(page, " · {} room{plural}</p></header><main>", rooms.len());
    if rooms.is_empty() {
        page += "<p>There is no room.</p>";
    }
    for room in rooms {
        show_room(&mut page, room);
    }
    page += "</main></body></html>";
    page
}

fn show_room(page: &mut String, room: &Value) {
    let title = room["title"].as_str().filter(|title| !title.is_empty());
    let _ = write!(
        page,
        "<section><h2>{}</h2><p><code>{}</code> · <code>{}</code>{}{}</p>",
        escape(title.unwrap_or_else(|| text(&room["name"]))),
        escape(text(&room["jid"])),
        escape(text(&room["uri"])),
        if room["locked"] == true { " · <b>locked</b>" } else { "" },
        if room["settings"]["moderated"] == true { " · moderated" } else { "" },
    );
    let people = room["people"].as_array().map_or(&[][..], Vec::as_slice);
    if people.is_empty() {
        *page += "<p>Nobody is here.</p></section>";
        return;
    }
    *page += "<table><thead><tr><th scope=\"col\">Who<th scope=\"col\">By<th scope=\"col\">Role\
              <th scope=\"col\">On the call<th scope=\"col\">Known as<th scope=\"col\">Since</tr></thead><tbody>";
    for person in people {
        let known = person["jid"].as_str().or_else(|| person["aor"].as_str()).unwrap_or("");
        let since = text(&person["since"]).get(11..19).unwrap_or("");
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}<td>{}<td>{}<td>{}<td><code>{}</code><td>{} UTC</tr>",
            escape(text(&person["nick"])),
            match person["level"].as_str() {
                Some("both") => "chat and audio",
                Some(one) => one,
                None => "",
            },
            text(&person["role"]),
            on_the_call(person),
            escape(known),
            escape(since),
        );
    }
    *page += "</tbody></table></section>";
}

/// Heard, or why not, with who muted whom.
fn on_the_call(person: &Value) -> String {
    let legs = person["legs"].as_array().map_or(&[][..], Vec::as_slice);
    if legs.is_empty() {
        return String::new();
    }
    if legs.iter().any(|leg| leg["heard"] == true) {
        return "<b class=\"good\">heard</b>".to_owned();
    }
    if legs.iter().all(|leg| leg["hold"] == true) {
        return "on hold".to_owned();
    }
    let origins: Vec<_> = person["mute"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mute| match (mute["origin"].as_str(), mute["by"].as_str()) {
            (Some("moderator"), Some(by)) => format!("by {}", escape(by)),
            (Some("moderator"), None) => "by an operator".to_owned(),
            (Some("room"), _) => "by the room".to_owned(),
            (Some(_) | None, _) => "by themselves".to_owned(),
        })
        .collect();
    match origins.as_slice() {
        [] => "<b class=\"bad\">sends nothing</b>".to_owned(),
        origins => format!("<b class=\"bad\">muted</b> {}", origins.join(", ")),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// Nothing is loaded but the style sheet, nothing runs, nobody frames it.
const POLICY: &str = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// Rooms on one page.
const MAX_ROOMS: usize = 100;
const STYLE: &str = include_str!("console.css");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_call_themselves_is_text_and_nothing_else() {
        let room = json!({
            "name": "cave", "title": "<script>alert(1)</script>", "jid": "cave@x", "uri": "sip:cave@y",
            "locked": true, "settings": {},
            "people": [{
                "nick": "a\" onmouseover='b'>&", "level": "both", "role": "visitor",
                "since": "2026-01-02T03:04:05Z", "jid": "a@b",
                "legs": [{ "heard": false, "hold": false }],
                "mute": [{ "origin": "moderator", "by": "<i>M</i>" }],
            }],
        });
        let page = html(&[room], false);
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        assert!(page.contains("a&quot; onmouseover=&#39;b&#39;&gt;&amp;"), "{page}");
        assert!(page.contains("muted</b> by &lt;i&gt;M&lt;/i&gt;"), "{page}");
        assert!(page.contains("03:04:05 UTC") && page.contains("<b>locked</b>"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<i>"), "{page}");
    }

    #[test]
    fn says_who_is_heard_and_why_not() {
        let check = |person: Value, expected: &str| assert_eq!(on_the_call(&person), expected);
        check(json!({}), "");
        check(json!({ "legs": [{ "heard": true }] }), "<b class=\"good\">heard</b>");
        check(json!({ "legs": [{ "heard": false, "hold": true }] }), "on hold");
        check(
            json!({ "legs": [{ "heard": false }], "mute": [{ "origin": "room" }, { "origin": "self" }] }),
            "<b class=\"bad\">muted</b> by the room, by themselves",
        );
        check(json!({ "legs": [{ "heard": false }] }), "<b class=\"bad\">sends nothing</b>");
    }
}
