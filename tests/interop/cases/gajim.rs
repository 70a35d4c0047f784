//! A room as the library of Gajim understands it.

use serde_json::{Value, json};

use crate::site::{CHAT, Plan, Site, behind_each_server, room};

behind_each_server!(Plan::default() => gajim_configures_reads_back_and_moderates);

fn gajim_configures_reads_back_and_moderates(site: Site) {
    let Some(alice) = site.gajim("alice") else { return };
    let bob = site.chat("bob");
    let lounge = room("lounge");
    let own = alice.join("lounge");
    assert_eq!((&own["affiliation"], &own["role"]), (&json!("owner"), &json!("moderator")));
    assert!(own["codes"].as_array().expect("a list").contains(&json!(201)), "{own}");
    let form = alice.tell(
        "configure",
        json!({
            "room": lounge,
            "muc#roomconfig_roomname": "The Lounge",
            "muc#roomconfig_persistentroom": true,
        }),
    );
    assert_eq!(form["before"]["muc#roomconfig_persistentroom"], false, "{form}");
    let labels = form["labels"].as_array().expect("a list");
    assert!(labels.iter().any(|label| label.as_str().is_some_and(|text| text.contains(' '))));
    assert_eq!(
        bob.tell("items", json!({ "jid": crate::site::ROOMS }))["items"][0][1],
        "The Lounge"
    );

    // Chat both ways, and what the room says of who said it.
    bob.join("lounge");
    let (hers, his) = (alice.mark(), bob.mark());
    bob.say("lounge", "first");
    let first = alice.reads(hers, "first");
    assert_eq!(first["nick"], "bob");
    assert_eq!(first["stanza_ids"].as_array().map(Vec::len), Some(1), "{first}");
    assert!(first["occupant_id"].is_string(), "{first}");
    alice.tell("say", json!({ "room": lounge, "body": "second" }));
    assert_eq!(bob.reads(his, "second"), "alice");
    bob.say("lounge", "third");
    alice.reads(hers, "third");
    alice.tell("subject", json!({ "room": lounge, "text": "Tea" }));
    alice.wait(hers, "the subject", |event| event["subject"] == "Tea");

    // Somebody comes later: history, subject, then the archive by pages.
    let Some(carol) = site.gajim("carol") else { return };
    carol.join("lounge");
    let told = carol.events(0);
    let history: Vec<&Value> =
        told.iter().filter(|event| event["ev"] == "message" && event["body"].is_string()).collect();
    let bodies: Vec<&Value> = history.iter().map(|event| &event["body"]).collect();
    assert_eq!(bodies, ["first", "second", "third"], "{told:?}");
    assert!(history.iter().all(|event| event["delayed"] == true), "{history:?}");
    assert!(told.iter().any(|event| event["subject"] == "Tea"), "{told:?}");
    let (pages, bodies) = carol.archive("lounge", 2);
    let said: Vec<&String> = bodies.iter().filter(|body| !body.is_empty()).collect();
    assert_eq!(said, ["first", "second", "third"], "{bodies:?}");
    assert_eq!(pages, json!(2));

    // A moderator takes a message back (XEP-0425 as this library knows it).
    let mark = carol.mark();
    let id = &first["stanza_ids"][0];
    alice.tell("retract", json!({ "room": lounge, "stanza_id": id, "reason": "off topic" }));
    let taken = carol.wait(mark, "the retraction", |event| event["moderated"].is_string());
    assert_eq!((&taken["moderated"], &taken["reason"]), (id, &json!("off topic")));
    let (_, bodies) = carol.archive("lounge", 10);
    assert!(!bodies.iter().any(|body| body == "first"), "{bodies:?}");
    assert!(bodies.iter().any(|body| body == "third"), "{bodies:?}");

    // Roles, lists, and the end of the room.
    let mark = carol.mark();
    alice.tell(
        "role",
        json!({ "room": lounge, "nick": "bob", "role": "visitor", "reason": "hush" }),
    );
    let hushed = carol.wait(mark, "bob without voice", |event| {
        event["nick"] == "bob" && event["role"] == "visitor"
    });
    assert_eq!(hushed["reason"], "hush");
    let dave = format!("dave@{CHAT}");
    alice.tell("affiliation", json!({ "room": lounge, "jid": dave, "affiliation": "outcast" }));
    let banned = alice.tell("affiliations", json!({ "room": lounge, "affiliation": "outcast" }));
    assert_eq!(banned["jids"], json!([dave]));
    let refused = json!({ "room": lounge, "jid": dave, "affiliation": "member" });
    assert_eq!(carol.attempt("affiliation", refused), Err("forbidden".to_owned()));
    let mark = carol.mark();
    alice.tell("destroy", json!({ "room": lounge, "reason": "over" }));
    carol.wait(mark, "the end of the room", |event| event["destroyed"] == true);
}
