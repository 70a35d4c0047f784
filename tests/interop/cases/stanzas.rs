//! What chat users send wrong changes nothing: process and link stay up.

use std::time::Duration;

use serde_json::json;

use crate::{
    site::{Plan, ROOMS, Site, behind_each_server, room},
    slixmpp::Chat,
    wait::pause,
};

behind_each_server!(Plan::default() => wrong_stanzas_change_nothing, a_session_that_bounces_is_out_alone, a_room_tells_where_to_call, chat_is_chat);

/// Stanzas that are XML, so that the server passes them on, and wrong in some other way.
fn wrong_stanzas(levels: usize) -> Vec<(&'static str, String)> {
    let lounge = room("lounge");
    let nested = "<a>".repeat(levels) + &"</a>".repeat(levels);
    let long = "x".repeat(9_000);
    vec![
        (
            "deeply nested elements",
            format!("<message to='{lounge}' type='groupchat'><body>x</body>{nested}</message>"),
        ),
        (
            "nested elements in an iq",
            format!(
                "<iq type='get' id='n1' to='{lounge}'><query xmlns='jabber:iq:nested'>{nested}</query></iq>"
            ),
        ),
        (
            "an attribute of 9 kB",
            format!(
                "<message to='{lounge}' type='groupchat'><body>x</body><a b='{long}'/></message>"
            ),
        ),
        (
            "an id of 9 kB",
            format!("<iq type='get' id='{long}' to='{ROOMS}'><ping xmlns='urn:xmpp:ping'/></iq>"),
        ),
        (
            "an unknown type of message",
            format!("<message to='{lounge}' type='foo'><body>x</body></message>"),
        ),
        ("an unknown type of presence", format!("<presence to='{lounge}/nick' type='foo'/>")),
        ("an unknown type of iq", format!("<iq to='{lounge}' type='foo' id='1'/>")),
        (
            "a priority that is no number",
            format!("<presence to='{lounge}/alice'><priority>abc</priority></presence>"),
        ),
        (
            "an iq of two payloads",
            format!("<iq type='get' id='t1' to='{ROOMS}'><a xmlns='a'/><b xmlns='b'/></iq>"),
        ),
        ("an iq without payload", format!("<iq type='set' id='e1' to='{lounge}'/>")),
        (
            "an admin request of nonsense",
            format!(
                "<iq type='set' id='a1' to='{lounge}'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='emperor' jid='bob@chat.test'/></query></iq>"
            ),
        ),
        (
            "an admin request of two wishes",
            format!(
                "<iq type='set' id='a2' to='{lounge}'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member' role='none' nick='bob' jid='bob@chat.test'/></query></iq>"
            ),
        ),
        (
            "an owner form of a wrong type",
            format!(
                "<iq type='set' id='o1' to='{lounge}'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'/></query></iq>"
            ),
        ),
        (
            "a form with a field twice",
            format!(
                "<iq type='set' id='o2' to='{lounge}'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field><field var='muc#roomconfig_maxusers'><value>minus one</value></field></x></query></iq>"
            ),
        ),
        (
            "somebody else's identity",
            format!(
                "<message to='{lounge}' type='groupchat'><body>x</body><x xmlns='http://jabber.org/protocol/muc#user'><item jid='eve@chat.test' affiliation='owner'/></x><occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/></message>"
            ),
        ),
        ("a result that nobody asked for", format!("<iq type='result' id='r1' to='{lounge}'/>")),
        (
            "an error that nobody caused",
            format!(
                "<message type='error' to='{lounge}/nobody'><error type='cancel'><feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
            ),
        ),
        (
            "a join without a nick",
            format!(
                "<presence to='{lounge}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            ),
        ),
        (
            "a nick of blanks",
            format!(
                "<presence to='{lounge}/%20'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            )
            .replace("%20", "&#x2003;"),
        ),
        (
            "a body of 200 kB",
            format!(
                "<message to='{lounge}' type='groupchat'><body>{}</body></message>",
                "y".repeat(200_000)
            ),
        ),
        (
            "a thousand children",
            format!(
                "<message to='{lounge}' type='groupchat'>{}</message>",
                "<c xmlns='c'/>".repeat(1_000)
            ),
        ),
        (
            "prefixes",
            format!(
                "<message to='{lounge}' type='groupchat'><body>x</body><p:a xmlns:p='p' p:b='1'><p:c/></p:a></message>"
            ),
        ),
        (
            "all of Unicode's corners",
            format!(
                "<message to='{lounge}' type='groupchat'><body>\u{202e}\u{fffd}\u{feff}&#x10FFFD;\u{1F468}\u{200D}\u{1F469}</body></message>"
            ),
        ),
    ]
}

/// The room answers as before.
fn answers(chat: &Chat, what: &str) {
    let info = chat.attempt("disco", json!({ "jid": room("lounge") }));
    assert!(info.is_ok(), "after {what}: {info:?}");
}

fn wrong_stanzas_change_nothing(mut site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    bob.join("lounge");
    let links = site.cusaxd.log().matches("conflict").count();
    for (what, stanza) in wrong_stanzas(site.server.levels()) {
        bob.tell("raw", json!({ "xml": stanza }));
        answers(&bob, what);
        assert!(site.cusaxd.alive(), "{what} ended the process");
    }
    assert_eq!(site.cusaxd.log().matches("conflict").count(), links);
    // Never was the link down: alice is still in the room that she made, and hears bob.
    assert_eq!(site.cusaxd.metric("cusax_xmpp_component_up", ""), 1.0);
    // Bob neither, once he has paused from talking too fast (XEP-0045 §14.6).
    pause(Duration::from_secs(1));
    let mark = alice.mark();
    bob.say("lounge", "still here");
    assert_eq!(alice.reads(mark, "still here"), "bob");
    let config =
        alice.tell("affiliations", json!({ "room": room("lounge"), "affiliation": "owner" }));
    assert_eq!(config["jids"], json!(["alice@chat.test"]));
}

fn a_session_that_bounces_is_out_alone(site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    bob.join("lounge");
    // What a server sends for a session that is no more (XEP-0045 §18.1.2).
    let (hers, his) = (alice.mark(), bob.mark());
    let gone = format!(
        "<message type='error' to='{}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
        room("lounge")
    );
    bob.tell("raw", json!({ "xml": gone }));
    for (chat, mark) in [(&alice, hers), (&bob, his)] {
        let left = chat.sees_gone(mark, "bob", Duration::from_secs(5));
        assert!(left["codes"].as_array().expect("a list").contains(&json!(333)), "{left}");
    }
    bob.join("lounge");
    let mark = alice.mark();
    bob.say("lounge", "back again");
    assert_eq!(alice.reads(mark, "back again"), "bob");
}

fn a_room_tells_where_to_call(site: Site) {
    let alice = site.chat("alice");
    alice.create("lounge", json!({ "muc#roomconfig_roomname": "The Lounge" }));
    let service = alice.tell("disco", json!({ "jid": ROOMS }));
    let muc = json!("http://jabber.org/protocol/muc");
    assert!(service["features"].as_array().expect("a list").contains(&muc), "{service}");
    assert_eq!(service["identities"][0][0], "conference");
    let items = alice.tell("items", json!({ "jid": ROOMS }));
    assert_eq!(items["items"], json!([[room("lounge"), "The Lounge"]]));
    let search = "<search xmlns='urn:xmpp:channel-search:0:search'>\
        <x xmlns='jabber:x:data' type='submit'><field var='q'><value>LOUNGE the</value></field></x></search>";
    let found = alice.tell("iq", json!({ "type": "get", "to": ROOMS, "xml": search }));
    assert!(found["xml"].as_str().expect("a stanza").contains(&room("lounge")), "{found}");
    let info = alice.tell("disco", json!({ "jid": room("lounge") }));
    for field in ["audio-video-uri", "muc#roominfo_audio-video-uri"] {
        assert_eq!(info["form"][field], json!(["sip:lounge@conf.test"]), "{info}");
    }
    assert!(info["features"].as_array().expect("a list").contains(&json!("muc_unmoderated")));
    alice.tell("ping", json!({ "jid": format!("{}/alice", room("lounge")) }));
}

fn chat_is_chat(site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    alice.say("lounge", "before you came");
    alice.tell("subject", json!({ "room": room("lounge"), "text": "Tea" }));
    // Bob's words go another way: they may come sooner.
    alice.reads(0, "before you came");
    alice.wait(0, "the subject", |event| event["ev"] == "message" && event["subject"] == "Tea");
    let joined = bob.join("lounge");
    assert_eq!(joined["subject"], "Tea");
    assert!(
        joined["history"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|message| { message["body"] == "before you came" && message["delayed"] == true })
    );
    // A nick that is taken, a private message, another nick, a word from outside.
    assert_eq!(
        site.chat("carol").attempt("join", json!({ "room": room("lounge"), "nick": "bob" })),
        Err("conflict".to_owned())
    );
    let mark = bob.mark();
    alice.tell("whisper", json!({ "to": format!("{}/bob", room("lounge")), "body": "psst" }));
    bob.wait(mark, "the private message", |event| {
        event["ev"] == "message" && event["type"] == "chat" && event["body"] == "psst"
    });
    let mark = alice.mark();
    assert_eq!(
        bob.tell("nick", json!({ "room": room("lounge"), "nick": "robert" }))["nick"],
        "robert"
    );
    alice.sees(mark, "robert", "to be there", |event| event["type"].is_null());
    let mark = bob.mark();
    bob.say("lounge", "hello");
    assert_eq!(bob.reads(mark, "hello"), "robert");
    let mark = alice.mark();
    bob.tell("leave", json!({ "room": room("lounge"), "nick": "robert" }));
    alice.sees(mark, "robert", "to leave", |event| event["type"] == "unavailable");
    let dave = site.chat("dave");
    let mark = dave.mark();
    dave.say("lounge", "may I?");
    dave.wait(mark, "the refusal", |event| {
        event["ev"] == "message" && event["error"] == "not-acceptable"
    });
}
