//! A room's archive, as a client of another author walks it.

use serde_json::{Value, json};

use crate::{
    site::{CHAT, Plan, Site, behind_each_server, room},
    slixmpp::Chat,
};

behind_each_server!(Plan::default() => an_archive_is_walked_both_ways_cleaned_and_outlasts_a_kill);

fn walk(chat: &Chat, page: u32, reverse: bool) -> Vec<Value> {
    let fields = json!({ "room": room("lounge"), "page": page, "reverse": reverse });
    chat.tell("archive", fields)["messages"].as_array().expect("a list").clone()
}

fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["body"].as_str().unwrap_or_default()).collect()
}

fn an_archive_is_walked_both_ways_cleaned_and_outlasts_a_kill(mut site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({ "muc#roomconfig_persistentroom": true }));
    bob.join("lounge");
    let mark = bob.mark();
    let said: Vec<String> = (0..15).map(|number| format!("message {number}")).collect();
    for (number, body) in said.iter().enumerate() {
        if number % 2 == 0 { &alice } else { &bob }.say("lounge", body);
        bob.reads(mark, body);
    }
    let info = bob.tell("disco", json!({ "jid": room("lounge") }));
    let features = info["features"].as_array().expect("a list");
    for feature in ["urn:xmpp:mam:2", "urn:xmpp:mam:2#extended", "urn:xmpp:sid:0"] {
        assert!(features.contains(&json!(feature)), "{info}");
    }

    let all = walk(&bob, 4, false);
    assert_eq!(bodies(&all), said);
    let mut backwards = walk(&bob, 4, true);
    backwards.reverse();
    assert_eq!(backwards, all);
    // From an occupant to nobody, and the address for those alone who may see it.
    assert_eq!(all[1]["from"], format!("{}/bob", room("lounge")));
    assert!(all.iter().all(|message| message["to"].is_null() && message["jid"].is_null()));
    assert_eq!(walk(&alice, 100, false)[1]["jid"], format!("bob@{CHAT}"));
    let ends = bob.tell("metadata", json!({ "room": room("lounge") }));
    assert_eq!((&ends["start"], &ends["end"]), (&all[0]["id"], &all[14]["id"]));

    let moderate = format!(
        "<moderate xmlns='urn:xmpp:message-moderate:1' id='{}'>\
         <retract xmlns='urn:xmpp:message-retract:1'/></moderate>",
        all[3]["id"].as_str().expect("an id")
    );
    let fields = json!({ "type": "set", "to": room("lounge"), "xml": moderate });
    assert_eq!(bob.attempt("iq", fields.clone()), Err("forbidden".to_owned()));
    alice.tell("iq", fields);
    site.cusaxd.kill();
    site.cusaxd.start_again();

    let joined = bob.join("lounge");
    assert!(joined["own"]["codes"].as_array().expect("a list").contains(&json!(170)), "{joined}");
    let history = joined["history"].as_array().expect("a list").clone();
    // What was taken back is neither in what newcomers are told nor in the archive; there a tombstone
    // stands for it, and what was told of it comes last.
    let mut left = said.clone();
    left.remove(3);
    assert_eq!(bodies(&history), left);
    let all = walk(&bob, 3, false);
    left.insert(3, String::new());
    left.push(String::new());
    assert_eq!(bodies(&all), left);
    assert_eq!(all[3]["retracted"], true);
    // Who never came reads nothing.
    let carol = site.chat("carol");
    let fields =
        json!({ "type": "set", "to": room("lounge"), "xml": "<query xmlns='urn:xmpp:mam:2'/>" });
    assert_eq!(carol.attempt("iq", fields), Err("forbidden".to_owned()));
}
