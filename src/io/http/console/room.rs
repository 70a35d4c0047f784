//! One room: who is in it and how, who is heard and how well, and what can be done about it.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};

use super::form::{self, Place};
use super::layout::{self, Tab};
use super::pages::{pager, plural, search_form};
use super::session::Viewer;
use super::view::{self, Leg, Media, Person, Room};
use super::{Part, clock, room_url};
use crate::admin::Question;
use crate::io::http::{Http, read_room};

/// `GET /console/rooms/{room}`
pub(super) async fn page(
    State(http): State<Http>,
    viewer: Viewer,
    Path(name): Path<String>,
    Query(part): Query<Part>,
) -> Response {
    let name = match read_room(&name) {
        Ok(name) => name,
        Err(refused) => {
            return layout::failed(&viewer, refused.status(), "That is not a name of a room.");
        }
    };
    let answer = match viewer.ask(&http, Question::Room(name.clone(), part.cut(PEOPLE))).await {
        Ok(answer) => answer,
        Err(refused) => return *refused,
    };
    let room: Room = view::read(answer);
    let url = room_url(name.as_str());
    let follow = part.url(&format!("{url}/live"), part.number());
    let main = html! {
        div .above {
            p .crumbs { a href="/console/rooms" { "Rooms" } " / " (room.name) }
            (search_form(&part.search, &url, "Search people here"))
        }
        div #stream sse-connect=(follow) {
            div #live sse-swap="room" hx-swap="morph:innerHTML" { (live(&viewer, &room, &part)) }
            // What is said here is said by screen readers as well, when they have time.
            p #latest role="log" aria-live="polite" aria-label="What happened last" sse-swap="latest" {}
            div #levels hidden sse-swap="levels" {}
        }
    };
    layout::page(&viewer, Some(Tab::Rooms), &room.name, &main)
}

/// What of the page changes.
pub(super) fn live(viewer: &Viewer, room: &Room, part: &Part) -> Markup {
    let everyone = room.chat + room.audio + room.both;
    let setting = |name: &str| room.settings[name] == true;
    html! {
        div .head {
            h1 {
                @if room.title.is_empty() { (room.name) } @else { (room.title) }
                @if room.locked { " " span .tag .warn { "locked" } }
                @if setting("moderated") { " " span .tag { "moderated" } }
                @if setting("members_only") { " " span .tag { "members only" } }
                @if setting("password") { " " span .tag { "password" } }
                @if setting("persistent") { " " span .tag { "kept" } }
            }
            @if viewer.may_change() { (form::actions(viewer, Place::Room(room))) }
        }
        p .where { code { (room.jid) } " " code { (room.uri) } }
        @if let Some(subject) = room.subject.as_ref().filter(|it| !it.is_empty()) {
            p .subject { (subject) }
        }
        p .count {
            (plural(everyone as u64, "person", "people")) ": " (room.chat) " by chat, " (room.audio)
            " by phone, " (room.both) " by both"
            @if !part.search.trim().is_empty() { " · " (room.found) " found" }
        }
        @if !room.calling.is_empty() {
            section .calling aria-labelledby="calling" {
                h2 #calling { "Being called" }
                ul { @for call in &room.calling { li id=(call.id) {
                    (call.name.as_deref().unwrap_or(&call.uri)) " " small { (call.uri) }
                    @if let Some(by) = &call.by { " by " (by) }
                    @if viewer.may_change() { " " (form::actions(viewer, Place::Calling(room, call))) }
                } } }
            }
        }
        @if room.people.is_empty() {
            p .empty { @if everyone == 0 { "Nobody is here." } @else { "Nobody here is called that." } }
        } @else {
            table .people {
                thead { tr {
                    th scope="col" { "Who" } th scope="col" { "Here by" } th scope="col" { "Voice" }
                    th scope="col" { "Sound" } th scope="col" { "Since (UTC)" }
                    @if viewer.may_change() { th scope="col" { span .hidden { "Actions" } } }
                } }
                tbody { @for person in &room.people { (row(viewer, room, person)) } }
            }
        }
        (pager(part, &room_url(&room.name), room.found as u64, PEOPLE))
    }
}

/// What is shown of a room that ended while somebody looked.
pub(super) fn ended(name: &str) -> Markup {
    html! {
        div .head { h1 { (name) } }
        p .empty { "This room is no more." }
        p { a href="/console/rooms" { "All rooms" } }
    }
}

fn row(viewer: &Viewer, room: &Room, person: &Person) -> Markup {
    let silence = person.silence();
    let legs: Vec<_> = person.legs.iter().map(|leg| leg.id.as_str()).collect();
    html! {
        tr id=(person.id) data-legs=[(!legs.is_empty()).then(|| legs.join(" "))] {
            th scope="row" data-label="Who" {
                span .nick { (person.nick) }
                @if person.role != "participant" && !person.role.is_empty() { " " span .tag { (person.role) } }
                @if !matches!(person.affiliation.as_str(), "none" | "") { " " span .tag { (person.affiliation) } }
                @for hat in &person.hats { " " span .tag .hat { (hat.title) } }
                @if person.hand.is_some() { " " span .tag .warn { "hand raised" } }
                small { (person.address()) @if strength_matters(person) { " · " (person.binding.strength) } }
            }
            td data-label="Here by" { span class={ "way " (person.level) } { (person.presence()) } }
            td .voice data-label="Voice" {
                @if !legs.is_empty() {
                    span .level aria-hidden="true" { span .bar {} }
                }
                @if !silence.is_empty() {
                    span .silent { (silence.join(", ")) }
                } @else if !legs.is_empty() {
                    span .heard { span .quiet { "heard" } span .loud { "speaks" } }
                }
            }
            td data-label="Sound" { @for leg in &person.legs { (sound(leg)) } }
            td data-label="Since (UTC)" { time datetime=(person.since) { (clock(&person.since)) } }
            @if viewer.may_change() {
                td .acts { (form::actions(viewer, Place::Person(room, person))) }
            }
        }
    }
}

/// How somebody's call sounds: an estimate, and what it is made of.
fn sound(leg: &Leg) -> Markup {
    let Some(media) = &leg.media else { return html! {} };
    let parts: Vec<String> = [
        media.loss.map(|loss| format!("loss {:.1} %", loss * 100.0)),
        Some(format!("jitter {:.0} ms", media.jitter_ms)).filter(|_| media.mos.is_some()),
        media.delay_ms.map(|delay| format!("delay {delay:.0} ms")),
    ]
    .into_iter()
    .flatten()
    .collect();
    html! {
        div .sound {
            @match (media.verdict(), media.mos) {
                (Some((class, name)), Some(mos)) => span class={ "mos " (class) } { (name) " " (format!("{mos:.1}")) },
                _ => span .mos .none { "no estimate yet" },
            }
            " " (protection(media))
            small { (parts.join(" · ")) }
        }
    }
}

fn protection(media: &Media) -> Markup {
    let codec = match media.codec.as_deref() {
        Some("opus") => "Opus",
        Some("pcmu") => "PCMU",
        Some("pcma") => "PCMA",
        Some(other) => other,
        None => "–",
    };
    html! {
        span .tag { (codec) } " "
        @if media.encrypted { span .tag .good { "encrypted" } } @else { span .tag { "not encrypted" } }
    }
}

/// How well an address is proven is said where there is a call.
fn strength_matters(person: &Person) -> bool {
    !person.legs.is_empty() && person.binding.strength != "none"
}

/// People on one page of a room.
pub(super) const PEOPLE: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::io::http::console::session::tests::viewer;

    fn hostile() -> Room {
        view::read(json!({
            "name": "cave", "title": "<script>alert(1)</script>", "jid": "cave@x", "uri": "sip:cave@y",
            "locked": true, "chat": 0, "audio": 0, "both": 1, "found": 1, "settings": { "moderated": true },
            "subject": "</p><img src=x onerror=alert(1)>",
            "calling": [{ "id": "d1", "uri": "sip:\"><b>@x", "by": "<i>B</i>" }],
            "people": [{
                "id": "p7", "nick": "a\" onmouseover='b'>&", "level": "both", "role": "visitor",
                "affiliation": "none", "since": "2026-01-02T03:04:05Z", "jid": "a@b",
                "binding": { "bound": true, "strength": "digest" }, "muted": true,
                "hats": [{ "uri": "u", "title": "<u>hat</u>" }], "hand": "2026-01-02T03:04:05Z",
                "legs": [{ "id": "l9", "heard": false, "hold": false, "media": {
                    "codec": "opus", "encrypted": true, "mos": 4.27, "loss": 0.012, "jitter_ms": 3.4,
                    "delay_ms": 61.7,
                } }],
                "mute": [{ "origin": "moderator", "by": "<i>M</i>" }],
            }],
        }))
    }

    #[test]
    fn what_people_call_themselves_is_text_and_nothing_else() {
        for may_change in [true, false] {
            let viewer = viewer(may_change);
            let page = live(&viewer, &hostile(), &Part::default()).into_string();
            assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
            assert!(page.contains("a&quot; onmouseover='b'&gt;&amp;"), "{page}");
            assert!(page.contains("muted by &lt;i&gt;M&lt;/i&gt;"), "{page}");
            for tag in ["<script", "<i>", "<b>", "<u>", "<img", " onmouseover='b'>"] {
                assert!(!page.contains(tag), "{tag}: {page}");
            }
            assert!(!page.contains(" style=") && !page.contains(" onclick"), "{page}");
        }
    }

    #[test]
    fn who_may_only_look_has_nothing_to_press() {
        let page = live(&viewer(false), &hostile(), &Part::default()).into_string();
        for control in ["<button", "<form", "/console/do/", "word"] {
            assert!(!page.contains(control), "{control}: {page}");
        }
        let page = live(&viewer(true), &hostile(), &Part::default()).into_string();
        for control in [
            "/console/do/unmute",
            "/console/do/kick?room=cave&amp;person=p7",
            "do/unlockRoom",
            "do/endDial",
        ] {
            assert!(page.contains(control), "{control}: {page}");
        }
        assert!(!page.contains("/console/do/mute\""), "muted already: {page}");
    }

    /// A room of a thousand is a page of two hundred, and as small as that.
    #[test]
    fn a_large_room_is_a_page_of_some() {
        let mut room = hostile();
        room.people = vec![room.people[0].clone(); PEOPLE];
        (room.both, room.found) = (1_000, 1_000);
        let page = live(&viewer(true), &room, &Part::default()).into_string();
        assert!(page.contains("1000 people") && page.contains("Page 1 of 5"), "{page}");
        assert!(page.len() < 700 * 1024, "{}", page.len());
    }

    #[test]
    fn a_call_says_how_it_sounds() {
        let page = live(&viewer(false), &hostile(), &Part::default()).into_string();
        for words in [
            "Good 4.3",
            "loss 1.2 %",
            "jitter 3 ms",
            "delay 62 ms",
            "Opus",
            "encrypted",
            "03:04:05",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(page.contains("data-legs=\"l9\""), "{page}");
    }
}
