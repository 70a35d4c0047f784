//! Clients are told what to set up, and then it works.

use serde_json::json;

use crate::{
    http,
    linphone::Linphone,
    site::{CHAT, CONFERENCES, Site, conference},
};

/// From a link to a call by digest, and nothing typed in but the link.
#[test]
fn linphone_sets_itself_up_from_a_link_and_calls() {
    let name = "linphone_sets_itself_up_from_a_link_and_calls";
    let Some(site) = Site::with_directory(name) else { return };
    let aor = format!("sip:carol@{CONFERENCES}");
    let (code, said) = site.cusaxd.operate(&["user", "link", &format!("carol@{CHAT}")]);
    assert_eq!(code, Some(0), "{said}");
    let path = said.trim();
    let url = format!("http://127.0.0.1:{}{path}?format=linphone", site.ports.http);
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));

    let Some(mut linphone) = Linphone::told("carol", &url, &site) else { return };
    let mark = linphone.mark();
    linphone.tell("identity", json!({}));
    let told = linphone.wait(mark, "the account", |event| event["ev"] == "identity");
    assert!(told["address"].as_str().is_some_and(|it| it.contains(&aor)), "{told}");
    linphone.call(&conference("lounge"));
    let room = site.cusaxd.room("lounge");
    let people = room["people"].as_array().expect("people");
    let carol =
        people.iter().find(|one| one["jid"] == format!("carol@{CHAT}")).expect("carol by JID");
    assert_eq!(carol["binding"], json!({ "bound": true, "strength": "digest" }));
    assert!(linphone.alive());
    // It opened once.
    let again = http::get(site.ports.http, path, None).expect("an answer");
    assert_eq!(again.status, 404, "{}", again.body);
}
