//! The conference document (RFC 4575) as its readers see it.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use cusax::conference::{Document, Outcome, Subscriber};
use serde_json::json;

use crate::{
    linphone::{Linphone, devices},
    sipp::Scenario,
    site::{Plan, Site, conference, installed, room},
    wait::pause,
};

/// Checks a document against the schema by libxml2.
fn valid(document: &str, dir: &Path) {
    let file = dir.join("document.xml");
    fs::write(&file, document).expect("a file of ours");
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/cusax/tests/schema/conference-info.xsd");
    let checked = Command::new("xmllint")
        .args(["--noout", "--nonet", "--schema"])
        .args([&schema, &file])
        .output()
        .expect("xmllint runs");
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{errors}\n{document}");
}

#[test]
fn linphone_lists_everybody() {
    let plan = Plan { proxy: true, ..Plan::default() };
    let Some(site) = Site::start_as("linphone_lists_everybody", plan) else { return };
    let alice = site.chat("alice");
    alice.create("conflounge", json!({}));
    let Some(mut linphone) = Linphone::start("dave", &site) else { return };
    let mark = linphone.mark();
    linphone.call(&conference("conflounge"));
    linphone.shows(mark, "alice in the list", |list| {
        devices(list).iter().any(|name| name.contains("alice"))
    });
    // Somebody comes by chat, somebody by phone; both leave again.
    let bob = site.chat("bob");
    bob.join("conflounge");
    let carol = site.caller("carol");
    carol.call("conflounge", 600.0);
    let list = linphone.shows(mark, "three others, one by one", |list| {
        list["people"].as_array().is_some_and(|people| people.len() == 3)
    });
    let addresses: BTreeSet<&str> = list["people"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|person| person["address"].as_str())
        .collect();
    assert_eq!(addresses.len(), 3, "{list}");
    let names = devices(&list);
    for name in ["alice", "bob", "carol (phone)"] {
        assert!(names.iter().any(|one| one == name), "{name}: {list}");
    }
    let later = linphone.mark();
    bob.tell("leave", json!({ "room": room("conflounge"), "nick": "bob" }));
    carol.hangup();
    linphone.shows(later, "bob to leave the list", |list| {
        !devices(list).iter().any(|name| name.contains("bob"))
    });
    // Hold and resume keep the focus a focus.
    linphone.tell("hold", json!({}));
    pause(Duration::from_secs(1));
    let later = linphone.mark();
    linphone.tell("resume", json!({}));
    linphone.wait(later, "the call to run again", |event| {
        event["state"] == "LinphoneCallStreamsRunning"
    });
    linphone.tell("hangup", json!({}));
    linphone.wait(later, "the call to end", |event| event["state"] == "LinphoneCallReleased");
    assert!(linphone.alive(), "Linphone crashed");
}

#[test]
fn documents_too_long_for_a_datagram_take_tcp_where_there_is_one() {
    let test = "documents_too_long_for_a_datagram_take_tcp_where_there_is_one";
    let Some(site) = Site::start_as(test, Plan { proxy: true, ..Plan::default() }) else { return };
    let alice = site.chat("alice");
    alice.create("confcrowd", json!({}));
    let keys = [("milliseconds", "25000")];
    let crowd = Scenario::start_many(&site, "crowd", "confcrowd", false, &keys, CROWD);
    let Some(crowd) = crowd else { return };
    // A phone behind a proxy: the focus hears it by UDP, and reaches it through the proxy by TCP.
    let Some(mut linphone) = Linphone::start("dave", &site) else { return };
    let mark = linphone.mark();
    linphone.call(&conference("confcrowd"));
    linphone.shows(mark, "the crowd", |list| {
        list["people"].as_array().is_some_and(|people| people.len() == CROWD + 1)
    });
    let kamailio = site.kamailio.as_ref().expect("this site has one");
    let requests = kamailio.requests();
    let invited = requests.iter().find(|request| request.starts_with("INVITE "));
    assert!(invited.is_some_and(|request| request.contains(" at udp:")), "{requests:?}");
    let notified: Vec<_> = requests.iter().filter(|line| line.starts_with("NOTIFY ")).collect();
    assert!(!notified.is_empty() && notified.iter().all(|line| line.contains(" at tcp:")));
    // A watcher that has no TCP gets it by UDP all the same.
    let watching = [("who", "watcher")];
    let watcher = Scenario::start(&site, "subscribe", "confcrowd", false, &watching);
    let Some(watcher) = watcher else { return };
    let documents = watcher.passes(Duration::from_secs(60)).documents();
    let first = documents.first().expect("a document");
    assert!(first.len() > 1_300 && first.contains("guest12"), "{first}");
    linphone.tell("hangup", json!({}));
    linphone.wait(mark, "the call to end", |event| event["state"] == "LinphoneCallReleased");
    assert!(linphone.alive(), "Linphone crashed");
    crowd.passes(Duration::from_secs(60));
}

/// How many callers make a document too long for a datagram.
const CROWD: usize = 12;

#[test]
fn documents_are_valid_complete_and_paced() {
    let Some(site) = Site::start("documents_are_valid_complete_and_paced") else { return };
    if installed(&["xmllint"]).is_none() {
        return;
    }
    let alice = site.chat("alice");
    alice.create("lounge", json!({ "muc#roomconfig_roomname": "The <Lounge> & \"bar\"" }));
    let mark = alice.mark();
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    let nick = alice.sees_callers(mark, 1).remove(0);
    let keys = [("who", "watcher")];
    let Some(watcher) = Scenario::start(&site, "subscribe", "lounge", true, &keys) else { return };
    pause(Duration::from_secs(1));
    // A burst of changes makes one document, not one each.
    let bob = site.chat("bob");
    for _ in 0..5 {
        bob.join("lounge");
        bob.tell("leave", json!({ "room": room("lounge"), "nick": "bob" }));
    }
    bob.join("lounge");
    alice.role("lounge", &nick, "visitor");
    let transcript = watcher.passes(Duration::from_secs(60));
    let documents = transcript.documents();
    assert!((2..=5).contains(&documents.len()), "{} documents", documents.len());
    let mut reader = Subscriber::default();
    for document in &documents {
        valid(document, &site.dir);
        let service = format!("xmpp:{}", room("lounge"));
        assert!(document.contains(&service) && document.contains("grouptextchat"), "{document}");
        let read = Document::from_xml(document).expect("it is valid");
        assert_eq!(reader.handle_document(read), Outcome::Applied, "{document}");
    }
    assert!(documents[0].contains("alice"), "{}", documents[0]);
    assert!(!documents[1].contains("alice"), "there is nothing new of her: {}", documents[1]);
    let last = documents.last().expect("there are some");
    assert!(last.contains("bob"), "{last}");
    assert!(last.contains("muted-via-focus"), "the caller is muted: {last}");
    let versions: Vec<u32> = documents.iter().filter_map(|one| version(one)).collect();
    assert!(versions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{versions:?}");
    assert!(transcript.log.contains("terminated"), "{}", transcript.log);
}

/// The version of a conference document.
fn version(document: &str) -> Option<u32> {
    let rest = document.split_once("version=\"")?.1;
    rest.split('"').next()?.parse().ok()
}
