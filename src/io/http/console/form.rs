//! What can be done, made from the table of operations: which buttons a place has, the form that an
//! operation asks with, and doing it.
//!
//! An operation that needs nothing but its place is one button; another is a link to its form, which
//! opens as a dialog where scripts run. What cannot be undone is asked for once more.

use std::collections::BTreeMap;

use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::session::Viewer;
use super::view::{Calling, Person, Room, User};
use super::{FORGED, layout, room_url, status, why};
use crate::admin::page::Page;
use crate::admin::{self, Question};
use crate::id::RoomName;
use crate::io::client::escaped;
use crate::io::http::Http;
use crate::operation::{Kind, Operation, Param, Spec};

/// Where something can be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// Nowhere in particular.
    Server,
    /// In a room.
    Room(&'a Room),
    /// To somebody in a room.
    Person(&'a Room, &'a Person),
    /// To a call that nobody has answered.
    Calling(&'a Room, &'a Calling),
    /// To a user of the directory.
    User(&'a User),
}

impl Place<'_> {
    /// What is known of an operation's parameters here.
    fn known(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Server => vec![],
            Self::Room(room) => vec![("room", &room.name)],
            Self::Person(room, person) => vec![("room", &room.name), ("person", &person.id)],
            Self::Calling(room, call) => vec![("room", &room.name), ("call", &call.id)],
            Self::User(user) => vec![("jid", &user.jid)],
        }
    }

    /// Whom or what a button of this place is about, for who only hears its name.
    fn whom(&self) -> Option<&str> {
        match self {
            Self::Server | Self::Room(_) => None,
            Self::Person(_, person) => Some(&person.nick),
            Self::Calling(_, call) => Some(call.name.as_deref().unwrap_or(&call.uri)),
            Self::User(user) => Some(&user.jid),
        }
    }

    /// Whether an operation is of this place, and would change something.
    fn has(&self, operation: Operation) -> bool {
        let spec = operation.spec();
        let places = spec.params.iter().filter(|param| is_place(param)).map(|param| param.name);
        let known = self.known();
        let of_here = spec.changes && places.eq(known.iter().map(|(name, _)| *name));
        of_here
            && match (self, operation) {
                (Self::Room(room), Operation::LockRoom) => !room.locked,
                (Self::Room(room), Operation::UnlockRoom) => room.locked,
                (Self::Person(_, person), Operation::Mute) => {
                    !person.legs.is_empty() && !person.is_kept_silent()
                }
                (Self::Person(_, person), Operation::Unmute) => person.is_kept_silent(),
                _ => true,
            }
    }
}

/// Whether a parameter says where, rather than what.
fn is_place(param: &Param) -> bool {
    param.kind.is_room() || matches!(param.kind, Kind::Person | Kind::Jid) || param.name == "call"
}

/// What else an operation asks.
fn asks(spec: &Spec) -> impl Iterator<Item = &'static Param> {
    spec.params.iter().filter(|param| !is_place(param))
}

/// What cannot be undone. To take calls again after all only ends that none are taken.
fn ends_something(spec: &Spec) -> bool {
    spec.http.0 == "DELETE" && spec.name != Operation::Undrain.spec().name
}

/// The button's word: the last of the command line's.
fn verb(operation: Operation) -> String {
    if operation == Operation::SetRoom {
        return "Settings".to_owned();
    }
    if operation == Operation::PutUser {
        return "Change".to_owned();
    }
    words_of(operation.spec().cli.last().copied().unwrap_or("do"))
}

/// A name as people write it: `hang-up` is “Hang up”.
fn words_of(name: &str) -> String {
    let words = name.replace(['-', '_'], " ");
    let mut chars = words.chars();
    chars.next().map_or(String::new(), |it| it.to_uppercase().chain(chars).collect())
}

/// Everything that can be done in a place.
pub(super) fn actions(viewer: &Viewer, place: Place<'_>) -> Markup {
    let here = Operation::ALL.into_iter().filter(|operation| place.has(*operation));
    let mut here: Vec<_> = here.collect();
    // What ends something is last, and what is done at once comes first.
    here.sort_by_key(|operation| {
        let spec = operation.spec();
        (ends_something(spec), asks(spec).next().is_some())
    });
    html! {
        div .actions { @for operation in here { (action(viewer, place, operation)) } }
    }
}

fn action(viewer: &Viewer, place: Place<'_>, operation: Operation) -> Markup {
    let spec = operation.spec();
    let known = place.known();
    let asks =
        asks(spec).next().is_some() || ends_something(spec) || operation == Operation::LinkUser;
    let verb = verb(operation);
    // A button that takes another's place keeps its name, and so the focus.
    let twin = match spec.name {
        "unmute" => "mute",
        "unlockRoom" => "lockRoom",
        name => name,
    };
    let id = known.iter().fold(twin.to_owned(), |id, (_, value)| id + "-" + &escaped(value));
    let label = place.whom().map(|whom| format!("{verb} {whom}"));
    let danger = ends_something(spec) || matches!(operation, Operation::Kick | Operation::Ban);
    let path = format!("/console/do/{}", spec.name);
    if asks {
        let query: Vec<_> =
            known.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let url = format!("{path}?{}", query.join("&"));
        return html! {
            a .button .danger[danger] id=(id) href=(url) aria-label=[&label] aria-haspopup="dialog"
                hx-get=(url) hx-target="#dialog" hx-swap="innerHTML" { (verb) "…" }
        };
    }
    html! {
        form method="post" action=(path) hx-post=(path) hx-target="#notice" hx-swap="innerHTML" {
            (layout::word(viewer))
            @for (name, value) in &known { input type="hidden" name=(name) value=(value); }
            @if let Some(whom) = place.whom() { input type="hidden" name="whom" value=(whom); }
            button .danger[danger] id=(id) type="submit" aria-label=[&label] { (verb) }
        }
    }
}

/// A link to a form that is of no place yet.
pub(super) fn link(url: &str, id: &str, words: &str) -> Markup {
    html! {
        a .button .main id=(id) href=(url) aria-haspopup="dialog" hx-get=(url) hx-target="#dialog"
            hx-swap="innerHTML" { (words) }
    }
}

/// `GET /console/do/{operation}`: the form that asks what an operation needs to know.
pub(super) async fn show(
    State(http): State<Http>,
    viewer: Viewer,
    Path(name): Path<String>,
    Query(known): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let Some(operation) = find(&name) else { return no_such(&viewer) };
    if !viewer.may_change() {
        return layout::failed(&viewer, StatusCode::FORBIDDEN, ONLY_READS);
    }
    let old = match before(&http, &viewer, operation, &known).await {
        Ok(old) => old,
        Err(refused) => return *refused,
    };
    let form = form(&viewer, operation, &known, &old);
    if is_htmx(&headers) {
        layout::part(StatusCode::OK, &form)
    } else {
        layout::page(&viewer, None, operation.spec().title, &html! { div .sheet { (form) } })
    }
}

/// `POST /console/do/{operation}`: does it.
pub(super) async fn act(
    State(http): State<Http>,
    viewer: Viewer,
    Path(name): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Vec<(String, String)>>,
) -> Response {
    let Some(operation) = find(&name) else { return no_such(&viewer) };
    let field =
        |name: &str| fields.iter().find(|(it, _)| it == name).map(|(_, text)| text.as_str());
    if !viewer.meant(&headers, field("word").unwrap_or("")) {
        return answer(&viewer, &headers, StatusCode::FORBIDDEN, FORGED);
    }
    if !viewer.may_change() {
        http.turned_away(&viewer, operation);
        return answer(&viewer, &headers, StatusCode::FORBIDDEN, ONLY_READS);
    }
    let values = values(operation.spec(), &fields);
    let question = match Question::read(operation, &values) {
        Ok(question) => question,
        Err(why) => {
            let refused = admin::Response { ticket: 0, status: 400, body: json!({ "error": why }) };
            return answer(&viewer, &headers, StatusCode::BAD_REQUEST, &super::why(&refused));
        }
    };
    let response = viewer.put(&http, question).await;
    if !(200..300).contains(&response.status) {
        return answer(&viewer, &headers, status(&response), &why(&response));
    }
    let place = field("room").map(room_url).filter(|_| response.status == 200);
    let whom = field("whom").or(field("jid")).or(field("room")).unwrap_or("");
    let done = html! {
        p .done {
            (verb(operation)) " " (whom) ": done."
            @if let Some(path) = response.body["path"].as_str() {
                " The link is " code { (path) } " on this server; it opens once."
            }
        }
    };
    if is_htmx(&headers) {
        let mut response = layout::part(StatusCode::OK, &done);
        response.headers_mut().insert("hx-trigger", HeaderValue::from_static("done"));
        return response;
    }
    if response.body["path"].is_string() {
        return layout::page(&viewer, None, operation.spec().title, &done);
    }
    let list = if field("jid").is_some() { "/console/users" } else { "/console" };
    Redirect::to(place.as_deref().unwrap_or(list)).into_response()
}

/// Words of refusal: in the page that is there, or in one of their own.
fn answer(viewer: &Viewer, headers: &HeaderMap, status: StatusCode, why: &str) -> Response {
    if is_htmx(headers) {
        layout::part(status, &html! { p .refused { (why) } })
    } else {
        layout::failed(viewer, status, why)
    }
}

fn no_such(viewer: &Viewer) -> Response {
    layout::failed(viewer, StatusCode::NOT_FOUND, "There is nothing like that to do.")
}

fn find(name: &str) -> Option<Operation> {
    Operation::ALL.into_iter().find(|it| it.spec().name == name && it.spec().changes)
}

fn is_htmx(headers: &HeaderMap) -> bool {
    headers.contains_key("hx-request")
}

/// What holds before an operation, as far as its form shows it.
async fn before(
    http: &Http,
    viewer: &Viewer,
    operation: Operation,
    known: &BTreeMap<String, String>,
) -> Result<Value, Box<Response>> {
    let kinds = || operation.spec().params.iter().map(|param| param.kind);
    let of_room = kinds().any(Kind::is_of_a_room);
    if let Some(room) = known.get("room").filter(|_| of_room)
        && let Ok(room) = RoomName::new(room)
    {
        return viewer.ask(http, Question::Room(room, Page::default())).await;
    }
    if let Some(jid) = known.get("jid") {
        let page = Page { search: jid.clone(), ..Page::default() };
        let mut found = viewer.ask(http, Question::Users(page)).await?;
        let all = found["users"].as_array_mut().map(std::mem::take).unwrap_or_default();
        return Ok(all.into_iter().find(|it| it["jid"] == **jid).unwrap_or_default());
    }
    Ok(Value::Null)
}

fn form(
    viewer: &Viewer,
    operation: Operation,
    known: &BTreeMap<String, String>,
    old: &Value,
) -> Markup {
    let spec = operation.spec();
    let path = format!("/console/do/{}", spec.name);
    let known = |param: &Param| known.get(param.name).map(String::as_str);
    let person = known(&PERSON).and_then(|id| {
        old["people"].as_array()?.iter().find(|it| it["id"] == id)?["nick"].as_str()
    });
    let places: Vec<_> =
        spec.params.iter().filter(|param| is_place(param)).filter_map(known).collect();
    let whom = person.or(places.last().copied());
    html! {
        h2 #dialog-title { (spec.title) }
        form .fields method="post" action=(path) hx-post=(path) hx-target="#outcome" hx-swap="innerHTML" {
            (layout::word(viewer))
            @if let Some(whom) = whom {
                input type="hidden" name="whom" value=(whom);
                p .whom { (whom) }
            }
            @for param in spec.params {
                @match known(param) {
                    Some(value) if is_place(param) => input type="hidden" name=(param.name) value=(value);,
                    _ => (field(param, old)),
                }
            }
            @if ends_something(spec) { p .hint { "This cannot be undone." } }
            div #outcome role="status" aria-live="polite" {}
            div .buttons {
                button .main[!ends_something(spec)] .danger[ends_something(spec)] type="submit" { (verb_of_form(operation)) }
                // Closes the dialog; a page of its own is left by its navigation.
                button .plain type="submit" formmethod="dialog" formnovalidate data-close { "Cancel" }
            }
        }
    }
}

fn verb_of_form(operation: Operation) -> String {
    let saves = matches!(operation, Operation::SetRoom | Operation::PutUser);
    if saves { "Save".to_owned() } else { verb(operation) }
}

/// One thing that a form asks.
fn field(param: &Param, old: &Value) -> Markup {
    let Param { name, label, kind, required } = *param;
    let id = format!("f-{name}");
    let was = old[name].as_str().unwrap_or("");
    html! {
        @match kind {
            Kind::Settings => (settings(&old["settings"])),
            Kind::Lines => {
                label for=(id) { (label) }
                textarea id=(id) name=(name) rows="4" required[required] {}
            },
            Kind::Secret => {
                label for=(id) { (label) }
                input id=(id) type="password" name=(name) autocomplete="new-password" required[required];
                @if old["password"] == true { p .hint { "Empty: stays as it is." } }
            },
            Kind::Seconds => {
                label for=(id) { (label) }
                input id=(id) type="number" name=(name) min="0" required[required];
            },
            Kind::Room | Kind::AnyRoom | Kind::Person | Kind::Jid | Kind::Text => {
                label for=(id) { (label) }
                input id=(id) type="text" name=(name) value=(was) autocomplete="off" required[required];
            },
        }
    }
}

/// All settings of a room, as the description of the API has them.
fn settings(old: &Value) -> Markup {
    let document = described();
    let mut all: Vec<_> = document["properties"].as_object().into_iter().flatten().collect();
    all.sort_by_key(|(name, about)| (*name != "name", Type::of(name, about)));
    html! {
        div .settings { @for (name, about) in all { (setting(name, about, &old[name])) } }
    }
}

/// The description of what a room may be set to.
fn described() -> Value {
    let mut document: Value = serde_json::from_str(admin::OPENAPI).unwrap_or_default();
    let found = document.pointer_mut("/components/schemas/SettingsChange");
    found.map(Value::take).unwrap_or_default()
}

fn setting(name: &str, about: &Value, old: &Value) -> Markup {
    let id = format!("s-{name}");
    let key = format!("settings.{name}");
    let label = about["title"].as_str().map_or_else(|| words_of(name), str::to_owned);
    let hint = about["description"].as_str().unwrap_or("").replace("null", "Empty");
    let words = |of: &Value| -> Vec<String> {
        let all = of["enum"].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let number = |key: &str| about[key].as_u64().map(|it| it.to_string());
    html! {
        @match Type::of(name, about) {
            Type::Flag => {
                label .check { input type="checkbox" name=(key) checked[old == true]; span { (label) } }
                p .hint { (hint) }
            },
            Type::Choice => {
                label for=(id) { (label) }
                div { select id=(id) name=(key) {
                    @for word in words(about) { option selected[*old == *word] { (word) } }
                } p .hint { (hint) } }
            },
            Type::Choices => fieldset {
                legend { (label) }
                p .hint { (hint) }
                @for word in words(&about["items"]) {
                    @let had = old.as_array().is_none_or(|all| all.iter().any(|it| *it == *word));
                    label .check { input type="checkbox" name=(key) value=(word) checked[had]; span { (word) } }
                }
            },
            Type::Number => {
                label for=(id) { (label) }
                div {
                    input id=(id) type="number" name=(key) min=[number("minimum")] max=[number("maximum")]
                        value=[old.as_u64()];
                    p .hint { (hint) }
                }
            },
            Type::Secret => {
                label for=(id) { (label) }
                div {
                    input id=(id) type="password" name=(key) autocomplete="new-password";
                    @if *old == true {
                        p .hint { "There is one. Empty: it stays." }
                        label .check { input type="checkbox" name=(NO_PASSWORD); span { "no password any more" } }
                    }
                }
            },
            Type::Text => {
                label for=(id) { (label) }
                div {
                    input id=(id) type="text" name=(key) value=(old.as_str().unwrap_or("")) maxlength=[number("maxLength")];
                    p .hint { (hint) }
                }
            },
        }
    }
}

/// What kind of value a setting has, in the order in which a form asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    Text,
    Secret,
    Number,
    Choice,
    Flag,
    Choices,
}

impl Type {
    fn of(name: &str, about: &Value) -> Self {
        let types = &about["type"];
        let is = |kind: &str| {
            types == kind || types.as_array().is_some_and(|all| all.iter().any(|it| it == kind))
        };
        if name == "password" {
            Self::Secret
        } else if is("boolean") {
            Self::Flag
        } else if is("array") {
            Self::Choices
        } else if is("integer") {
            Self::Number
        } else if about["enum"].is_array() {
            Self::Choice
        } else {
            Self::Text
        }
    }
}

/// Reads a form as the values of an operation's parameters. What is left empty is not said.
fn values(spec: &Spec, fields: &[(String, String)]) -> Map<String, Value> {
    let mut values = Map::new();
    for param in spec.params {
        let given = fields.iter().find(|(name, _)| name == param.name).map(|(_, text)| text);
        if param.kind == Kind::Settings {
            values.insert(param.name.to_owned(), chosen(fields));
        } else if let Some(text) = given.filter(|text| !text.is_empty()) {
            // Only what nobody sees while they write may begin or end with blanks.
            let text = if param.kind == Kind::Secret { text } else { text.trim() };
            // What is no number is for the operation to refuse.
            let number = text.parse::<u64>().ok().filter(|_| param.kind == Kind::Seconds);
            let value = number.map_or_else(|| json!(text), |number| json!(number));
            values.insert(param.name.to_owned(), value);
        }
    }
    values
}

/// The settings that a form says: all of them but a password that stays.
fn chosen(fields: &[(String, String)]) -> Value {
    let mut chosen = Map::new();
    for (name, about) in described()["properties"].as_object().into_iter().flatten() {
        let key = format!("settings.{name}");
        let given: Vec<&str> =
            fields.iter().filter(|(it, _)| *it == key).map(|(_, text)| text.as_str()).collect();
        let text = given.first().copied().unwrap_or("").trim();
        let value = match Type::of(name, about) {
            Type::Flag => Some(json!(!given.is_empty())),
            Type::Choices => Some(json!(given)),
            Type::Choice if text.is_empty() => None,
            // What is no number is for the room to refuse, and not to be taken for none.
            Type::Number => match text.parse::<u64>() {
                Ok(number) => Some(json!(number)),
                Err(_) if text.is_empty() && about["type"].is_array() => Some(Value::Null),
                Err(_) if text.is_empty() => None,
                Err(_) => Some(json!(text)),
            },
            Type::Secret => {
                let none = fields.iter().any(|(it, _)| it == NO_PASSWORD);
                let given = given.first().filter(|text| !text.is_empty());
                given.map(|text| json!(text)).or(none.then_some(Value::Null))
            }
            Type::Choice | Type::Text => Some(json!(text)),
        };
        chosen.extend(value.map(|value| (name.clone(), value)));
    }
    Value::Object(chosen)
}

const PERSON: Param = Param { name: "person", label: "", kind: Kind::Person, required: true };
/// The box that takes a room's password away.
const NO_PASSWORD: &str = "settings.password.none";
const ONLY_READS: &str = "This token may only read.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::http::console::session::tests::viewer;
    use crate::room::settings::Settings;

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_change_can_be_made_somewhere() {
        let (room, person) = (Room { locked: true, ..Room::default() }, Person::default());
        let open = Room::default();
        let on_call = Person { legs: vec![Default::default()], ..Person::default() };
        let mute = super::super::view::Mute { origin: "moderator".to_owned(), by: None };
        let muted = Person { mute: vec![mute], ..Person::default() };
        let (call, user) = (Calling::default(), User::default());
        let places = [
            Place::Server,
            Place::Room(&room),
            Place::Room(&open),
            Place::Person(&room, &person),
            Place::Person(&room, &on_call),
            Place::Person(&room, &muted),
            Place::Calling(&room, &call),
            Place::User(&user),
        ];
        for operation in Operation::ALL.into_iter().filter(|it| it.spec().changes) {
            let found = places.iter().any(|place| place.has(operation));
            assert!(found, "{operation:?} has no place");
        }
        for operation in Operation::ALL.into_iter().filter(|it| !it.spec().changes) {
            assert!(!places.iter().any(|place| place.has(operation)), "{operation:?}");
            assert_eq!(find(operation.spec().name), None);
        }
    }

    /// Every setting has a field, and a form that is sent as it came changes nothing.
    #[test]
    fn settings_that_are_sent_as_they_came_stay() {
        let settings =
            Settings { max_users: Some(9), name: "A \"b\"".to_owned(), ..Settings::default() };
        let mut old = serde_json::to_value(&settings).unwrap();
        old["password"] = json!(false);
        let shown = super::settings(&old).into_string();
        let mut fields = vec![];
        for (name, value) in old.as_object().unwrap() {
            assert!(shown.contains(&format!("name=\"settings.{name}\"")), "{name}: {shown}");
            let key = format!("settings.{name}");
            match value {
                Value::Bool(false) | Value::Null => {}
                Value::Bool(true) => fields.push((key, "on".to_owned())),
                Value::Array(all) => fields
                    .extend(all.iter().map(|one| (key.clone(), one.as_str().unwrap().to_owned()))),
                Value::String(text) => fields.push((key, text.clone())),
                Value::Number(number) => fields.push((key, number.to_string())),
                Value::Object(_) => panic!("{name}: a setting is no object"),
            }
        }
        let Value::Object(mut chosen) = chosen(&fields) else { panic!("an object") };
        assert_eq!(chosen.remove("password"), None);
        let mut all = serde_json::to_value(Settings::default()).unwrap();
        all.as_object_mut().unwrap().extend(chosen);
        assert_eq!(serde_json::from_value::<Settings>(all).unwrap(), settings);
        assert!(shown.contains("value=\"A &quot;b&quot;\""), "{shown}");
    }

    #[test]
    fn passwords_stay_unless_something_else_is_said() {
        let password = |all: &[(&str, &str)]| chosen(&pairs(all)).get("password").cloned();
        assert_eq!(password(&[("settings.password", "")]), None);
        assert_eq!(password(&[("settings.password", " x ")]), Some(json!(" x ")));
        assert_eq!(password(&[(NO_PASSWORD, "on"), ("settings.password", "")]), Some(Value::Null));
        assert_eq!(chosen(&pairs(&[("settings.history", "many")]))["history"], "many");
        assert_eq!(chosen(&pairs(&[("settings.max_users", "")]))["max_users"], Value::Null);
    }

    #[test]
    fn a_form_asks_what_is_not_known_and_says_whom() {
        let known = [("room", "a<b"), ("person", "p7")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let old = json!({ "people": [{ "id": "p7", "nick": "<i>Dave</i>" }] });
        let shown = form(&viewer(true), Operation::Kick, &known.into(), &old).into_string();
        assert!(shown.contains("&lt;i&gt;Dave&lt;/i&gt;"), "{shown}");
        assert!(shown.contains("type=\"hidden\" name=\"room\" value=\"a&lt;b\""), "{shown}");
        assert!(shown.contains("id=\"f-reason\""), "{shown}");
        let empty = form(&viewer(true), Operation::Dial, &BTreeMap::new(), &Value::Null);
        assert!(empty.into_string().contains("id=\"f-room\" type=\"text\" name=\"room\""));
    }

    #[test]
    fn what_is_left_empty_is_not_said() {
        let spec = Operation::PutUser.spec();
        let fields = [("jid", " a@b "), ("aor", ""), ("password", " p "), ("other", "x")];
        let read = values(spec, &pairs(&fields));
        assert_eq!(Value::Object(read), json!({ "jid": "a@b", "password": " p " }));
    }
}
