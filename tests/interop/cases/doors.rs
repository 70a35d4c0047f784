//! Who may come in: the same doors for chat and for phones.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::{Options, header},
    linphone::Linphone,
    site::{CHAT, Plan, ROOMS, Site, behind_each_server, password, room},
};

behind_each_server!(Plan::with_directory() => members_only, password_protected, full);

fn members_only(site: Site) {
    let alice = site.chat("alice");
    alice.create("club", json!({ "muc#roomconfig_membersonly": true }));
    let carol = site.caller_as("carol", Options::known("carol"));
    assert_eq!(carol.refused("club"), 403);
    assert_eq!(site.chat("bob").try_join("club", None).unwrap_err(), "registration-required");
    alice.affiliation("club", &format!("carol@{CHAT}"), "member");
    carol.call("club", 600.0);
}

fn password_protected(site: Site) {
    let alice = site.chat("alice");
    alice.create(
        "vault",
        json!({ "muc#roomconfig_passwordprotectedroom": true, "muc#roomconfig_roomsecret": "sesame" }),
    );
    let bob = site.chat("bob");
    assert_eq!(bob.try_join("vault", None).unwrap_err(), "not-authorized");
    assert_eq!(bob.try_join("vault", Some("wrong")).unwrap_err(), "not-authorized");
    bob.try_join("vault", Some("sesame")).expect("the right password opens");
    // A phone has no way to say the password; who is in the chat already has said it.
    let carol = site.caller_as("carol", Options::known("carol"));
    assert!(matches!(carol.refused("vault"), 401 | 403));
    site.caller_as("bob", Options::known("bob")).call("vault", 600.0);
}

fn full(site: Site) {
    let alice = site.chat("alice");
    alice.create("closet", json!({ "muc#roomconfig_maxusers": "2" }));
    let carol = site.caller_as("carol", Options::known("carol"));
    carol.call("closet", 600.0);
    let dave = site.caller_as("dave", Options::known("dave"));
    assert_eq!(dave.refused("closet"), 486);
    assert_eq!(site.chat("bob").try_join("closet", None).unwrap_err(), "service-unavailable");
    carol.hangup();
    dave.call("closet", 1000.0);
}

#[test]
fn a_wrong_password_of_the_account_is_refused() {
    let Some(site) = Site::with_directory("a_wrong_password_of_the_account_is_refused") else {
        return;
    };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = Options { password: Some("guess".into()), ..Options::default() };
    assert!(matches!(site.caller_as("carol", carol).refused("lounge"), 401 | 403));
    // Somebody whom nobody knows gets the same answer.
    let mallory = Options { password: Some("guess".into()), ..Options::default() };
    assert!(matches!(site.caller_as("mallory", mallory).refused("lounge"), 401 | 403));
    site.caller_as("dave", Options::known("dave")).call("lounge", 600.0);
}

#[test]
fn a_phone_that_knows_only_md5_proves_who_it_is() {
    let Some(site) = Site::with_directory("a_phone_that_knows_only_md5_proves_who_it_is") else {
        return;
    };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let Some(carol) = Linphone::direct("carol", &site) else { return };
    let mark = alice.mark();
    carol.call(&format!("sip:lounge@127.0.0.1:{}", site.ports.sip));
    let seen = alice.sees(mark, "carol", "to come", |event| event["type"].is_null());
    let jid = seen["jid"].as_str().expect("moderators see addresses");
    assert!(jid.starts_with(&format!("carol@{CHAT}")), "{seen}");
    let people = site.cusaxd.room("lounge")["people"].clone();
    let carol = people.as_array().expect("a list").iter().find(|one| one["nick"] == "carol");
    assert_eq!(carol.expect("she is there")["binding"]["strength"], "digest", "{people}");
}

#[test]
fn a_caller_without_chat_is_banned_by_the_address_that_chat_shows() {
    let test = "a_caller_without_chat_is_banned_by_the_address_that_chat_shows";
    let plan = Plan { auth: "trusted", proxy: true, ..Plan::default() };
    let Some(site) = Site::start_as(test, plan) else { return };
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    bob.join("lounge");
    let behind = |user| Options {
        proxy: Some(site.ports.proxy),
        domain: Some("sip.test"),
        password: Some(password(user)),
        ..Options::default()
    };
    let (carol, dave) =
        (site.caller_as("carol", behind("carol")), site.caller_as("dave", behind("dave")));
    let (hers, his) = (alice.mark(), bob.mark());
    carol.call("lounge", 600.0);
    let nick = alice.sees_callers(hers, 1).remove(0);
    let address = format!("carol\\40sip.test@{ROOMS}");
    let seen = alice.sees(hers, &nick, "to come", |event| event["type"].is_null());
    assert_eq!(seen["jid"], format!("{address}/phone"), "{seen}");
    // Only moderators see it.
    let seen = bob.sees(his, &nick, "to come", |event| event["type"].is_null());
    assert!(seen["jid"].is_null(), "{seen}");

    let mark = carol.mark();
    alice.affiliation("lounge", &address, "outcast");
    let bye = carol.ended(mark, Duration::from_secs(5));
    assert!(header(&bye, "Reason").is_some_and(|reason| reason.contains("cause=403")), "{bye}");
    assert_eq!(carol.refused("lounge"), 403);
    dave.call("lounge", 1000.0);
    let lists = || {
        let fields = json!({ "room": room("lounge"), "affiliation": "outcast" });
        alice.tell("affiliations", fields)["jids"].clone()
    };
    assert_eq!(lists(), json!([address]));
    alice.affiliation("lounge", &address, "none");
    assert_eq!(lists(), json!([]));
    carol.call("lounge", 600.0);
}

#[test]
fn behind_a_trusted_proxy_the_asserted_identity_counts() {
    let plan = Plan { auth: "trusted", proxy: true, ..Plan::default() };
    let Some(site) = Site::start_as("behind_a_trusted_proxy_the_asserted_identity_counts", plan)
    else {
        return;
    };
    site.cusaxd.enroll("carol", "sip:carol@sip.test", &password("carol"));
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = site.chat("carol");
    carol.join("lounge");
    let behind = Options {
        proxy: Some(site.ports.proxy),
        domain: Some("sip.test"),
        password: Some(password("carol")),
        ..Options::default()
    };
    let mark = alice.mark();
    let phone = site.caller_as("carol", behind);
    phone.call("lounge", 600.0);
    alice.sees(mark, "carol", "on the call", |event| {
        event["hats"].as_array().is_some_and(|hats| hats.contains(&json!("On the call")))
    });
}
