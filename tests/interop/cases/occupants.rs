//! What clients ask of a room and of each other through it, on a real server: registered nicks, iqs
//! between occupants, the whole configuration as a form, the room's picture.

use serde_json::{Value, json};

use crate::{
    site::{CHAT, Plan, Site, behind_each_server, room},
    slixmpp::Chat,
};

behind_each_server!(Plan::default() => occupants_ask_each_other_and_see_no_addresses, registered_nicks_and_the_picture_outlast_a_crash, the_whole_configuration_comes_back_as_it_was);

fn iq(chat: &Chat, kind: &str, to: &str, xml: &str) -> Result<String, String> {
    let answer = chat.attempt("iq", json!({ "type": kind, "to": to, "xml": xml }))?;
    Ok(answer["xml"].as_str().expect("an iq is XML").to_owned())
}

fn register(nick: &str) -> String {
    format!(
        "<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>\
         <field var='muc#register_roomnick'><value>{nick}</value></field></x></query>"
    )
}

/// XEP-0045 §17.4.
fn occupants_ask_each_other_and_see_no_addresses(site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    bob.join("lounge");
    let other = format!("{}/alice", room("lounge"));

    bob.tell("ping", json!({ "jid": other }));
    let features = bob.tell("disco", json!({ "jid": other }));
    assert!(!features["features"].as_array().expect("a list").is_empty(), "{features}");
    let vcard = "<vCard xmlns='vcard-temp'><FN>Alice Liddell</FN></vCard>";
    iq(&alice, "set", &format!("alice@{CHAT}"), vcard).expect("the account keeps a vCard");
    let got = iq(&bob, "get", &other, "<vCard xmlns='vcard-temp'/>").expect("it is passed on");
    assert!(got.contains("Alice Liddell") && got.contains(&other), "{got}");
    assert!(!got.contains(&format!("alice@{CHAT}")), "{got}");
    let unknown = iq(&bob, "get", &other, "<query xmlns='urn:x:unknown'/>");
    assert_eq!(unknown, Err("feature-not-implemented".to_owned()));
}

/// XEP-0045 §7.10, §7.12; XEP-0486.
fn registered_nicks_and_the_picture_outlast_a_crash(mut site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    let lounge = room("lounge");
    alice.create("lounge", json!({ "muc#roomconfig_persistentroom": true }));
    iq(&bob, "set", &lounge, &register("Bobby")).expect("an open room lets everyone register");
    let picture = format!(
        "<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>{}</BINVAL></PHOTO></vCard>",
        "iVBO".repeat(10_000)
    );
    iq(&alice, "set", &lounge, &picture).expect("an owner chooses the picture");
    assert_eq!(iq(&bob, "set", &lounge, &picture), Err("forbidden".to_owned()));

    site.cusaxd.kill();
    site.cusaxd.start_again();
    assert_eq!(iq(&alice, "set", &lounge, &register("BOBBY")), Err("conflict".to_owned()));
    let own = bob.tell("disco", json!({ "jid": lounge, "node": "x-roomuser-item" }));
    assert_eq!(own["identities"][0][3], "Bobby", "{own}");
    let info = alice.tell("disco", json!({ "jid": lounge }));
    let hash = info["form"]["muc#roominfo_avatarhash"][0].as_str().map(str::len);
    assert_eq!(hash, Some(40), "{info}");
    let got = iq(&bob, "get", &lounge, "<vCard xmlns='vcard-temp'/>").expect("there is one");
    assert!(got.contains(&"iVBO".repeat(10_000)), "the picture is another one");
}

/// XEP-0045 §10.2: a form that comes back as it was changes nothing; lists in it are full lists.
fn the_whole_configuration_comes_back_as_it_was(site: Site) {
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let config = || -> Value { alice.tell("config", json!({ "room": room("lounge") })) };
    let before = config()["fields"].clone();
    alice.configure("lounge", json!({}));
    assert_eq!(config()["fields"], before);

    let bob = format!("bob@{CHAT}");
    alice.configure("lounge", json!({ "muc#roomconfig_roomadmins": [&bob] }));
    let admins =
        alice.tell("affiliations", json!({ "room": room("lounge"), "affiliation": "admin" }));
    assert_eq!(admins["jids"], json!([bob]));
    alice.configure("lounge", json!({ "muc#roomconfig_roomadmins": [] }));
    assert_eq!(config()["fields"], before);
}
