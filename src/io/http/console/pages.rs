//! Lists: the server at a glance, rooms, users, what is found, what happens.

use std::sync::atomic::Ordering;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::form::{self, Place};
use super::layout::{self, Tab};
use super::session::Viewer;
use super::view::{self, Person, Summary, User};
use super::{Part, clock, room_url};
use crate::admin::Question;
use crate::admin::page::{Page, Sort};
use crate::io::http::Http;

/// `GET /console`
pub(super) async fn overview(State(http): State<Http>, viewer: Viewer) -> Response {
    let busiest = Page { sort: Sort::Size, limit: Some(BUSIEST), ..Page::default() };
    let rooms: Vec<Summary> = match viewer.ask(&http, Question::Rooms(busiest)).await {
        Ok(mut answer) => view::list(&mut answer, "rooms"),
        Err(refused) => return *refused,
    };
    let busy: Vec<_> = rooms.into_iter().filter(|room| room.people > 0).collect();
    let main = html! {
        div .head {
            h1 { "Overview" }
            (search_form("", "/console/search", "Search rooms and people"))
        }
        div #live hx-get="/console" hx-trigger="every 2s" hx-select="#live" hx-swap="morph:outerHTML" {
            section .cards aria-label="The server" {
                (health(&http))
                (counts(&http))
                (load(&http))
            }
            section aria-labelledby="busiest" {
                h2 #busiest { "Busiest rooms" }
                @if busy.is_empty() { p .empty { "Nobody is in any room." } } @else { (room_table(&busy)) }
            }
        }
        @if viewer.may_change() {
            section aria-labelledby="server" {
                h2 #server { "Server" }
                (form::actions(&viewer, Place::Server))
            }
        }
    };
    layout::page(&viewer, Some(Tab::Overview), "Overview", &main)
}

/// `GET /console/rooms`
pub(super) async fn rooms(
    State(http): State<Http>,
    viewer: Viewer,
    Query(part): Query<Part>,
) -> Response {
    let mut answer = match viewer.ask(&http, Question::Rooms(part.cut(ROOMS))).await {
        Ok(answer) => answer,
        Err(refused) => return *refused,
    };
    let found = answer["found"].as_u64().unwrap_or(0);
    let rooms: Vec<Summary> = view::list(&mut answer, "rooms");
    let here = part.url("/console/rooms", part.number());
    let main = html! {
        div .head {
            h1 { "Rooms" }
            form role="search" method="get" action="/console/rooms"
                hx-get="/console/rooms" hx-trigger="input changed delay:300ms from:#search, change, submit"
                hx-target="#live" hx-select="#live" hx-swap="morph:outerHTML" hx-push-url="true" {
                label .hidden for="search" { "Search rooms" }
                input #search type="search" name="search" value=(part.search) placeholder="Search rooms" maxlength=(MAX_SEARCH);
                label for="sort" { "by" }
                select #sort name="sort" {
                    option value="name" selected[part.sort == Sort::Name] { "name" }
                    option value="size" selected[part.sort == Sort::Size] { "people" }
                }
                button type="submit" { "Search" }
            }
            @if viewer.may_change() { (form::link("/console/do/setRoom", "make-room", "Make a room…")) }
        }
        div #live hx-get=(here) hx-trigger="every 2s" hx-select="#live" hx-swap="morph:outerHTML" {
            p .count { (plural(found, "room", "rooms")) @if !part.search.trim().is_empty() { " found" } }
            @if rooms.is_empty() { p .empty { "There is no such room." } } @else { (room_table(&rooms)) }
            (pager(&part, "/console/rooms", found, ROOMS))
        }
    };
    layout::page(&viewer, Some(Tab::Rooms), "Rooms", &main)
}

/// `GET /console/users`
pub(super) async fn users(
    State(http): State<Http>,
    viewer: Viewer,
    Query(part): Query<Part>,
) -> Response {
    let mut answer = match viewer.ask(&http, Question::Users(part.cut(USERS))).await {
        Ok(answer) => answer,
        Err(refused) => return *refused,
    };
    let found = answer["found"].as_u64().unwrap_or(0);
    let users: Vec<User> = view::list(&mut answer, "users");
    let main = html! {
        div .head {
            h1 { "Users" }
            (search_form(&part.search, "/console/users", "Search users"))
            @if viewer.may_change() { (form::link("/console/do/putUser", "add-user", "Add a user…")) }
        }
        p .hint { "The directory says which SIP address belongs to which JID, so that somebody’s call and chat are one person." }
        p .count { (plural(found, "user", "users")) @if !part.search.trim().is_empty() { " found" } }
        @if users.is_empty() { p .empty { "There is no such user." } } @else {
            table {
                thead { tr {
                    th scope="col" { "JID" } th scope="col" { "SIP address" } th scope="col" { "Name" }
                    th scope="col" { "Password" }
                    @if viewer.may_change() { th scope="col" { span .hidden { "Actions" } } }
                } }
                tbody { @for user in &users { tr {
                    th scope="row" data-label="JID" { (user.jid) }
                    td data-label="SIP address" { (user.aor) }
                    td data-label="Name" { (user.name.as_deref().unwrap_or("–")) }
                    td data-label="Password" { @if user.password { "set" } @else { "none" } }
                    @if viewer.may_change() {
                        td .acts { (form::actions(&viewer, Place::User(user))) }
                    }
                } } }
            }
        }
        (pager(&part, "/console/users", found, USERS))
    };
    layout::page(&viewer, Some(Tab::Users), "Users", &main)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    search: String,
}

/// `GET /console/search`
pub(super) async fn search(
    State(http): State<Http>,
    viewer: Viewer,
    Query(Search { search }): Query<Search>,
) -> Response {
    let page = |limit| Page { search: search.clone(), limit: Some(limit), ..Page::default() };
    let mut rooms = match viewer.ask(&http, Question::Rooms(page(ROOMS))).await {
        Ok(answer) => answer,
        Err(refused) => return *refused,
    };
    let mut people = match viewer.ask(&http, Question::People(page(PEOPLE))).await {
        Ok(answer) => answer,
        Err(refused) => return *refused,
    };
    let counts = [&rooms, &people].map(|answer| answer["found"].as_u64().unwrap_or(0));
    let rooms: Vec<Summary> = view::list(&mut rooms, "rooms");
    let people: Vec<Person> = view::list(&mut people, "people");
    let main = html! {
        div .head {
            h1 { "Search" }
            (search_form(&search, "/console/search", "Search rooms and people"))
        }
        section aria-labelledby="found-people" {
            h2 #found-people { (plural(counts[1], "person", "people")) }
            @if !people.is_empty() {
                table {
                    thead { tr {
                        th scope="col" { "Who" } th scope="col" { "Room" } th scope="col" { "Here by" }
                        th scope="col" { "Role" }
                    } }
                    tbody { @for person in &people { tr {
                        th scope="row" data-label="Who" { (person.nick) " " small { (person.address()) } }
                        td data-label="Room" { a href=(room_url(&person.room)) { (person.room) } }
                        td data-label="Here by" { (person.presence()) }
                        td data-label="Role" { (person.role) }
                    } } }
                }
                (cut_off(people.len(), counts[1]))
            }
        }
        section aria-labelledby="found-rooms" {
            h2 #found-rooms { (plural(counts[0], "room", "rooms")) }
            @if !rooms.is_empty() { (room_table(&rooms)) (cut_off(rooms.len(), counts[0])) }
        }
    };
    layout::page(&viewer, None, "Search", &main)
}

/// `GET /console/events`
pub(super) async fn events(viewer: Viewer) -> Response {
    let main = html! {
        h1 { "Events" }
        p .hint { "What happens in all rooms from now on, newest first; what people say is not in it." }
        div #stream sse-connect="/console/events/live" {
            table .events {
                thead { tr { th scope="col" { "When (UTC)" } th scope="col" { "Room" } th scope="col" { "What" } } }
                tbody #rows sse-swap="events" hx-swap="afterbegin" {}
            }
            p .empty { "Nothing has happened yet." }
        }
    };
    layout::page(&viewer, Some(Tab::Events), "Events", &main)
}

/// Which parts work.
fn health(http: &Http) -> Markup {
    let health = &http.0.health;
    let parts = [
        ("XMPP link", &health.xmpp),
        ("SIP", &health.sip),
        ("Mixer", &health.media),
        ("Store", &health.store),
    ];
    let good = http.is_ready();
    html! {
        div .card {
            h2 { "Health" }
            p .big .good[good] .bad[!good] { @if good { "Ready" } @else { "Not ready" } }
            ul .parts {
                @for (name, part) in parts {
                    @let works = part.load(Ordering::Relaxed);
                    li .good[works] .bad[!works] { (name) span { @if works { "works" } @else { "down" } } }
                }
                @if health.draining.load(Ordering::Relaxed) { li .bad { "Going down" span { "takes nobody new" } } }
            }
        }
    }
}

/// How many there are of what.
fn counts(http: &Http) -> Markup {
    let metrics = &http.0.metrics;
    let people = |level| metrics.people.with_label_values(&[level]).get();
    let legs = |state| metrics.call_legs.with_label_values(&[state]).get();
    let calls = legs("connected") + legs("held") + legs("muted");
    let everyone = people("chat") + people("audio") + people("both");
    html! {
        div .card {
            h2 { "Rooms" }
            p .big { (metrics.rooms.get()) }
            dl {
                dt { "People" } dd { (everyone) }
                dt { "by chat" } dd { (people("chat")) }
                dt { "by phone" } dd { (people("audio")) }
                dt { "by both" } dd { (people("both")) }
            }
        }
        div .card {
            h2 { "Calls" }
            p .big { (calls) small { " of " (metrics.call_capacity.get()) } }
            dl {
                dt { "heard" } dd { (legs("connected")) }
                dt { "muted" } dd { (legs("muted")) }
                dt { "on hold" } dd { (legs("held")) }
                dt { "being called" } dd { (legs("dialling")) }
            }
        }
    }
}

/// How near the server is to its limits.
fn load(http: &Http) -> Markup {
    let metrics = &http.0.metrics;
    let stress = (metrics.stress.get() * 100.0).clamp(0.0, 100.0);
    html! {
        div .card {
            h2 { "Stress of the mixer" }
            p .big { (format!("{stress:.0}")) small { " %" } }
            meter min="0" max="100" low="70" high="90" optimum="0" value=(format!("{stress:.0}")) aria-label="Stress of the mixer in percent" {}
            dl {
                dt { "Late ticks" } dd { (metrics.mix_late_ticks.get()) }
                dt { "Chat and mixer disagree" } dd { (metrics.mirror_divergence.get()) }
                dt { "Waiting for the store" } dd { (metrics.store_unsaved.get()) }
                dt { "Version" } dd { (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

fn room_table(rooms: &[Summary]) -> Markup {
    html! {
        table {
            thead { tr {
                th scope="col" { "Room" } th scope="col" .number { "People" } th scope="col" .number { "Chat" }
                th scope="col" .number { "Phone" } th scope="col" .number { "Both" } th scope="col" { "Since (UTC)" }
            } }
            tbody {
                @for room in rooms {
                    tr id={ "r-" (super::escaped(&room.name)) } {
                        th scope="row" data-label="Room" {
                            a href=(room_url(&room.name)) { (room.name) }
                            @if !room.title.is_empty() && room.title != room.name { " " small { (room.title) } }
                            @if room.locked { " " span .tag .warn { "locked" } }
                            @if room.persistent { " " span .tag { "kept" } }
                        }
                        td .number data-label="People" { (room.people) }
                        td .number data-label="Chat" { (room.chat) }
                        td .number data-label="Phone" { (room.audio) }
                        td .number data-label="Both" { (room.both) }
                        td data-label="Since (UTC)" { time datetime=(room.since) { (room.since.get(..10).unwrap_or("")) " " (clock(&room.since).get(..5).unwrap_or("")) } }
                    }
                }
            }
        }
    }
}

/// A field that finds something on another page.
pub(super) fn search_form(text: &str, action: &str, label: &str) -> Markup {
    html! {
        form role="search" method="get" action=(action) {
            label .hidden for="search" { (label) }
            input #search type="search" name="search" value=(text) placeholder=(label) maxlength=(MAX_SEARCH);
            button type="submit" { "Search" }
        }
    }
}

/// The way to the other pages of a list.
pub(super) fn pager(part: &Part, path: &str, found: u64, size: usize) -> Markup {
    let pages = usize::try_from(found).unwrap_or(usize::MAX).div_ceil(size).max(1);
    let number = part.number();
    if pages == 1 && number == 1 {
        return html! {};
    }
    html! {
        nav .pager aria-label="Pages of the list" {
            @if number > 1 { a rel="prev" href=(part.url(path, (number - 1).min(pages))) { "Earlier" } }
            span { "Page " (number) " of " (pages) }
            @if number < pages { a rel="next" href=(part.url(path, number + 1)) { "Later" } }
        }
    }
}

fn cut_off(shown: usize, found: u64) -> Markup {
    html! { @if (shown as u64) < found { p .hint { "The first " (shown) " are shown. Search for more of a name." } } }
}

/// A number and what is counted.
pub(super) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Rooms on one page.
const ROOMS: usize = 50;
/// Users on one page.
const USERS: usize = 50;
/// People that a search shows.
const PEOPLE: usize = 50;
/// Rooms on the first page.
const BUSIEST: usize = 8;
/// The longest search, in characters.
const MAX_SEARCH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_other_pages_is_there_when_there_are_any() {
        let show =
            |page, found| pager(&Part { page, ..Part::default() }, "/x", found, 50).into_string();
        assert_eq!(show(1, 50), "");
        let first = show(1, 51);
        assert!(
            first.contains("Page 1 of 2") && first.contains("page=2") && !first.contains("prev")
        );
        let last = show(2, 51);
        assert!(last.contains("page=1") && !last.contains("next"), "{last}");
        let past = show(99, 51);
        assert!(past.contains("Page 99 of 2") && past.contains("page=2"), "{past}");
    }
}
