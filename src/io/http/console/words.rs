//! Events as sentences.

use maud::{Markup, html};
use serde_json::Value;

use crate::admin::Event;

/// What happened, for people.
pub(super) fn tell(event: &Event) -> String {
    let data = &event.data;
    let text = |path: &str| data.pointer(path).and_then(Value::as_str).unwrap_or("");
    let who = || match text("/person/nick") {
        "" => text("/person/id"),
        nick => nick,
    };
    match event.name {
        "room-created" => "The room was made.".to_owned(),
        "room-configured" => "The settings changed.".to_owned(),
        "room-destroyed" => "The room is no more.".to_owned(),
        "chat-entered" => format!("{} came into the chat.", who()),
        "chat-left" if data["lost"] == true => format!("{}’s chat was lost.", who()),
        "chat-left" => format!("{} left the chat.", who()),
        "call-entered" => format!("{} is on the call.", who()),
        "call-left" => format!("{} left the call.", who()),
        "leg-changed" => {
            let hold = data["person"]["legs"].as_array();
            let hold = hold.is_some_and(|legs| legs.iter().any(|leg| leg["hold"] == true));
            format!("{} {}.", who(), if hold { "is on hold" } else { "is back" })
        }
        "dialled" => format!("The room calls {}.", text("/call/uri")),
        "dial-ended" => match (text("/why"), text("/text")) {
            (why, "") => format!("The call to {}: {why}.", text("/call/uri")),
            (why, more) => format!("The call to {}: {why} ({more}).", text("/call/uri")),
        },
        "gone" => {
            let how = match text("/why") {
                "left" => "left",
                "lost" => "was lost",
                "kicked" => "was kicked",
                "banned" => "was banned",
                "membership-lost" | "members-only" => "is no member, and is out",
                _ => "is out",
            };
            match text("/reason") {
                "" => format!("{} {how}.", who()),
                reason => format!("{} {how}: {reason}", who()),
            }
        }
        "renamed" => format!("{} is now {}.", text("/old"), who()),
        "standing-changed" => {
            format!(
                "{} is {}, {}.",
                who(),
                text("/person/role"),
                affiliation(text("/person/affiliation"))
            )
        }
        "affiliation-changed" => {
            format!("{} is {} here.", text("/who"), affiliation(text("/affiliation")))
        }
        "mute-changed" if data["person"]["muted"] == true => format!("{} is muted.", who()),
        "mute-changed" => format!("{} may be heard.", who()),
        "hand-changed" if data["person"]["hand"].is_null() => format!("{} lowered a hand.", who()),
        "hand-changed" => format!("{} raised a hand.", who()),
        "voice-requested" => format!("{} asks for voice.", who()),
        "hats-changed" => "People wear other hats.".to_owned(),
        "subject-changed" => format!("The subject is “{}”.", text("/subject")),
        "lock-changed" if data["locked"] == true => "The room is locked.".to_owned(),
        "lock-changed" => "The room is open.".to_owned(),
        "avatar-changed" => "The room has another picture.".to_owned(),
        "nick-registered" => match text("/nick") {
            "" => format!("No nick is kept for {} any more.", text("/jid")),
            nick => format!("{nick} is kept for {}.", text("/jid")),
        },
        "message-retracted" => "A message was taken back.".to_owned(),
        // A newer kind says at least its name.
        other => format!("{}.", other.replace('-', " ")),
    }
}

fn affiliation(word: &str) -> &str {
    if word == "none" { "without affiliation" } else { word }
}

/// An event as a row of the table of all.
pub(super) fn row(event: &Event, at: &str) -> Markup {
    let room = event.data["room"].as_str().unwrap_or("");
    html! {
        tr {
            td data-label="When" { time datetime=(at) { (super::clock(at)) } }
            td data-label="Room" { a href=(super::room_url(room)) { (room) } }
            td data-label="What" { (tell(event)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_happened_is_a_sentence() {
        let check = |name: &'static str, data: Value, expected: &str| {
            assert_eq!(tell(&Event { name, data }), expected);
        };
        let dave =
            json!({ "nick": "Dave", "role": "visitor", "affiliation": "none", "muted": true });
        check("mute-changed", json!({ "person": dave }), "Dave is muted.");
        check(
            "standing-changed",
            json!({ "person": dave }),
            "Dave is visitor, without affiliation.",
        );
        check(
            "gone",
            json!({ "person": { "nick": "Dave" }, "why": "kicked", "reason": "noise" }),
            "Dave was kicked: noise",
        );
        check("gone", json!({ "person": { "id": "p3" }, "why": "left" }), "p3 left.");
        check("lock-changed", json!({ "locked": false }), "The room is open.");
        check(
            "dial-ended",
            json!({ "call": { "uri": "sip:a@b" }, "why": "failed", "text": "Busy Here" }),
            "The call to sip:a@b: failed (Busy Here).",
        );
        check("something-new", json!({}), "something new.");
    }

    #[test]
    fn what_people_call_themselves_is_text_and_nothing_else() {
        let data = json!({ "room": "a\"><b>", "person": { "nick": "<script>alert(1)</script>" } });
        let row = row(&Event { name: "call-entered", data }, "2026-01-02T03:04:05Z").into_string();
        assert!(row.contains("&lt;script&gt;alert(1)&lt;/script&gt; is on the call."), "{row}");
        assert!(row.contains("/console/rooms/a%22%3E%3Cb%3E\""), "{row}");
        assert!(!row.contains("<script") && !row.contains("<b>"), "{row}");
    }
}
