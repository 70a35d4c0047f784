//! What the API answers is what `openapi.json` says: every key, type and word.

use std::time::Duration;

use cusaxd::admin::page::Page;
use cusaxd::admin::{OPENAPI, schema};
use cusaxd::clock::Now;
use cusaxd::directory::{Secret, User};
use cusaxd::id::{LegId, PersonId, RoomName};
use cusaxd::operation::{Kind, Operation};
use cusaxd::room::dial::Callee;
use cusaxd::room::person::{Caller, Proof, Who};
use cusaxd::room::settings::Settings;
use cusaxd::room::{By, Command, Policy, Rooms};
use serde_json::{Map, Value, json};

use crate::room::{chat, jid, nick, operator};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn schema_of(document: &Value, name: &str) -> Value {
    document["components"]["schemas"][name].clone()
}

/// The keywords of JSON Schema that the document uses, and what a value breaks of them.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = vec![];
    let mut fault = |what: String| found.push(format!("{at}: {what}: {value}"));
    let mut inner = vec![];
    for (keyword, wanted) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$ref" => {
                let target = document.pointer(&wanted.as_str().unwrap()[1..]).unwrap();
                inner.extend(faults(document, target, value, at));
            }
            "type" => {
                let one = vec![wanted.clone()];
                let types = wanted.as_array().unwrap_or(&one);
                let kind = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(number) if number.is_u64() => "integer",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                if !types.iter().any(|it| it == kind) {
                    fault(format!("not {wanted}"));
                }
            }
            "enum" if !wanted.as_array().unwrap().contains(value) => fault("no such word".into()),
            "required" => {
                for key in wanted.as_array().unwrap() {
                    if value.get(key.as_str().unwrap()).is_none() {
                        fault(format!("{key} is missing"));
                    }
                }
            }
            "additionalProperties" => {
                let none = Map::new();
                for key in value.as_object().unwrap_or(&none).keys() {
                    if schema["properties"].get(key).is_none() {
                        fault(format!("{key} is not described"));
                    }
                }
            }
            "properties" => {
                for (key, schema) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        inner.extend(faults(document, schema, value, &format!("{at}.{key}")));
                    }
                }
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    inner.extend(faults(document, wanted, value, &format!("{at}[{index}]")));
                }
            }
            "pattern" => {
                // `^p[0-9]+$` and its like.
                let first = wanted.as_str().unwrap().chars().nth(1).unwrap();
                let digits = value.as_str().unwrap().strip_prefix(first).unwrap_or("none");
                if digits.is_empty() || digits.bytes().any(|byte| !byte.is_ascii_digit()) {
                    fault(format!("not {wanted}"));
                }
            }
            "enum" | "description" | "format" | "minimum" | "maximum" | "minLength"
            | "maxLength" | "writeOnly" | "$schema" | "$id" | "title" => {}
            other => panic!("{at}: {other} is not understood here"),
        }
    }
    found.extend(inner);
    found
}

pub(crate) fn check(name: &str, value: &Value) {
    let document = document();
    let found = faults(&document, &schema_of(&document, name), value, name);
    assert!(found.is_empty(), "{found:#?}");
}

fn caller(who: Who, aor: Option<&str>, proof: Proof) -> Caller {
    let aor = aor.map(|aor| aor.parse().unwrap());
    Caller { who, aor, name: None, proof, private: false }
}

/// A room with everything in it that can be shown.
fn lounge() -> (Rooms, RoomName) {
    let name = RoomName::new("lounge").unwrap();
    let mut rooms = Rooms::new(Policy::default());
    let mut now = Now::read();
    let mut apply = |by: By, command| {
        now = now + Duration::from_secs(1);
        rooms.apply(now, &name, &by, command).unwrap();
    };
    let arrive = |leg, caller| {
        let command = Command::Call { leg: LegId(leg), caller, password: None, media_agreed: true };
        (By::Leg(LegId(leg)), command)
    };
    apply(chat("alice"), Command::EnterChat { nick: nick("Alice"), password: None });
    apply(
        operator(),
        Command::Configure(Box::new(Settings { max_users: Some(9), ..Settings::default() })),
    );
    let (by, call) =
        arrive(1, caller(Who::Jid(jid("alice")), Some("sip:alice@example.org"), Proof::Digest));
    apply(by, call);
    let stranger = "sip:+15550123@trunk.example";
    let (by, call) =
        arrive(2, caller(Who::Aor(stranger.parse().unwrap()), Some(stranger), Proof::Asserted));
    apply(by, call);
    let (by, call) = arrive(3, caller(Who::Unknown(LegId(3)), None, Proof::Claimed));
    apply(by, call);
    apply(chat("bob"), Command::EnterChat { nick: nick("Bob"), password: None });
    apply(chat("bob"), Command::RaiseHand(true));
    apply(By::Leg(LegId(2)), Command::ChangeLeg { hold: true, sends: false });
    apply(chat("alice"), Command::Mute { person: PersonId(1), on: true });
    apply(operator(), Command::Mute { person: PersonId(2), on: true });
    for (user, by) in [("carol", operator()), ("dave", chat("alice"))] {
        let uri = format!("sip:{user}@example.org");
        let mut person = caller(Who::Jid(jid(user)), Some(&uri), Proof::Dialled);
        person.name = Some(user.to_owned());
        apply(by, Command::Dial(Box::new(Callee::new(uri, person))));
    }
    (rooms, name)
}

#[test]
fn rooms_are_as_described() {
    let (rooms, name) = lounge();
    let room = rooms.get(&name).unwrap();
    let shown =
        schema::room(room, "lounge@rooms.example.org", "sip:lounge@example.org", &Page::default());
    check("Room", &shown);
    check("Rooms", &json!({ "rooms": [schema::summary(room)] }));
    // All that a person can have is there, or the check would prove little.
    let people = shown["people"].as_array().unwrap();
    let have = |key: &str| people.iter().any(|it| it[key] != Value::Null && it[key] != json!([]));
    for key in ["jid", "aor", "mute", "hand", "legs"] {
        assert!(have(key), "nobody has {key}: {shown:#}");
    }
    let calls = shown["calling"].as_array().unwrap();
    assert!(calls.iter().any(|it| it["by"].is_string() && it["jid"].is_string()), "{shown:#}");
    for strength in ["none", "digest", "asserted"] {
        assert!(people.iter().any(|it| it["binding"]["strength"] == strength), "{shown:#}");
    }
}

#[test]
fn what_a_room_may_be_set_to_is_what_can_be_set() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    check("SettingsChange", &settings);
    let described = schema_of(&document(), "SettingsChange");
    let described: Vec<&String> = described["properties"].as_object().unwrap().keys().collect();
    assert_eq!(described, settings.as_object().unwrap().keys().collect::<Vec<_>>());
}

/// The table of operations and the description name the same, with the same parameters.
#[test]
fn every_operation_is_described_with_its_parameters_and_no_other() {
    let document = document();
    let follow = |value: &Value| match value["$ref"].as_str() {
        Some(path) => document.pointer(&path[1..]).unwrap().clone(),
        None => value.clone(),
    };
    // Each path with each of its actions, as `POST /rooms/{room}/people/{person}/mute`.
    let mut described = std::collections::BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let mut params: Vec<String> = vec![];
        let mut actions = vec![path.clone()];
        for param in methods["parameters"].as_array().into_iter().flatten().map(&follow) {
            match param["name"].as_str().unwrap() {
                "action" => {
                    let words = param["schema"]["enum"].as_array().unwrap().iter();
                    let words = words.map(|word| path.replace("{action}", word.as_str().unwrap()));
                    actions = words.collect();
                }
                name => params.push(name.to_owned()),
            }
        }
        for (method, it) in
            methods.as_object().unwrap().iter().filter(|(it, _)| *it != "parameters")
        {
            let schema = follow(&it["requestBody"]["content"]["application/json"]["schema"]);
            let body = schema["properties"].as_object().into_iter().flat_map(Map::keys).cloned();
            let all: Vec<String> = params.iter().cloned().chain(body).collect();
            for path in &actions {
                let id = it["operationId"].as_str().unwrap().to_owned();
                described.insert((method.to_uppercase(), path.clone()), (id, all.clone()));
            }
        }
    }
    // What the token for reading opens is what changes nothing.
    let mut read = std::collections::BTreeSet::new();
    for it in document["paths"].as_object().unwrap().values() {
        for it in it.as_object().unwrap().values().filter(|it| it.get("operationId").is_some()) {
            let security = it.get("security").unwrap_or(&document["security"]);
            let opens = |name: &str| security.as_array().unwrap().contains(&json!({ name: [] }));
            assert!(opens("token"), "{it:#}");
            if opens("read_token") {
                read.insert(it["operationId"].as_str().unwrap());
            }
        }
    }
    let settings = serde_json::to_value(Settings::default()).unwrap();
    for operation in Operation::ALL {
        let spec = operation.spec();
        let key = (spec.http.0.to_owned(), spec.http.1.to_owned());
        let (id, params) = described.remove(&key).unwrap_or_else(|| panic!("{key:?}"));
        assert!(id == spec.name || id == "act", "{id}");
        assert_eq!(spec.changes, spec.http.0 != "GET", "{id}");
        assert_eq!(spec.changes, !read.contains(spec.name), "{id}: who may ask it");
        let mut known: Vec<String> = vec![];
        for param in spec.params {
            match param.kind {
                Kind::Settings => known.extend(settings.as_object().unwrap().keys().cloned()),
                Kind::Room
                | Kind::AnyRoom
                | Kind::Person
                | Kind::Jid
                | Kind::Text
                | Kind::Lines
                | Kind::Secret
                | Kind::Seconds => known.push(param.name.to_owned()),
            }
        }
        // All actions on people take a body; some have no use for its reason.
        let mut params = params;
        params.retain(|param| id != "act" || param != "reason" || known.contains(param));
        params.sort();
        known.sort();
        assert_eq!(params, known, "{}", spec.name);
    }
    let left: Vec<_> = described.keys().map(|(_, path)| path.as_str()).collect();
    assert_eq!(left, ["/events", "/openapi.json"]);
}

#[test]
fn users_and_refusals_are_as_described() {
    let mut user = User {
        jid: jid("alice"),
        aor: "sip:alice@example.org".parse().unwrap(),
        name: None,
        secret: None,
    };
    check("User", &schema::user(&user));
    user.name = Some("Alice".to_owned());
    user.secret = Some(Secret { md5: "a".to_owned(), sha256: "b".to_owned() });
    check("Users", &json!({ "users": [schema::user(&user)] }));
    check("Error", &json!({ "error": "there is no such room" }));
}

#[test]
fn what_is_not_as_described_is_found() {
    let (rooms, name) = lounge();
    let good = schema::summary(rooms.get(&name).unwrap());
    let document = document();
    let schema = schema_of(&document, "RoomSummary");
    for (key, wrong) in [("people", json!(-1)), ("name", Value::Null), ("more", json!(1))] {
        let mut bad = good.clone();
        bad[key] = wrong;
        assert_eq!(faults(&document, &schema, &bad, "").len(), 1, "{key}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("since");
    assert_eq!(faults(&document, &schema, &bad, "").len(), 1);
}
