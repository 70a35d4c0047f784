//! Signalling and media that nobody on the way can read.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    baresip::{Caller, Options, TONE_DBFS},
    process::{Process, command},
    recording::SILENT_DBFS,
    site::{Site, conference, installed},
    wait::{monotonic, pause},
};

/// A phone that comes by TLS.
fn by_tls(site: &Site, user: &str, more: Options) -> Caller {
    site.caller_as(user, Options { tls: true, proxy: Some(site.ports.tls), ..more })
}

/// Whether two hear each other, and not themselves, for the next seconds.
fn hear_each_other(first: (&Caller, f64), second: (&Caller, f64)) {
    pause(Duration::from_secs(1));
    let from = monotonic();
    pause(Duration::from_secs(3));
    let to = monotonic() - 0.2;
    for ((listener, own), (_, other)) in [(first, second), (second, first)] {
        let heard = listener.heard();
        let (level, echo) = (heard.level(other, from, to), heard.level(own, from, to));
        println!("{own} Hz hears {other} Hz at {level:.1} dBFS, itself at {echo:.1} dBFS");
        assert!((level - TONE_DBFS).abs() < 3.0, "{other} Hz at {level:.1} dBFS");
        assert!(echo < SILENT_DBFS, "an echo of {echo:.1} dBFS");
    }
}

#[test]
fn a_call_by_tls_is_a_call_like_any_other() {
    let Some(site) = Site::start("a_call_by_tls_is_a_call_like_any_other") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = by_tls(&site, "carol", Options::default());
    let dave = site.caller("dave");
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    let answer = carol.answer();
    assert!(answer.contains(";transport=tls>;isfocus"), "{answer}");
    hear_each_other((&carol, 600.0), (&dave, 1000.0));
    // Requests of ours go over the connection that the phone opened: it listens nowhere.
    let mark = carol.mark();
    let nicks = alice.sees_callers(0, 2);
    let nick = nicks.iter().find(|nick| nick.starts_with("carol")).expect("she is shown");
    alice.role("lounge", nick, "none");
    let bye = carol.ended(mark, Duration::from_secs(5));
    assert!(bye.contains("SIP/2.0/TLS"), "{bye}");
}

/// What a browser's library gets over WebSocket: all of signalling, and a clean refusal of media that we
/// do not speak.
#[test]
fn jssip_asks_subscribes_and_is_refused_a_call_it_cannot_have() {
    let test = "jssip_asks_subscribes_and_is_refused_a_call_it_cannot_have";
    let Some(site) = Site::start(test) else { return };
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers/node");
    if installed(&["node"]).is_none() || !peers.exists() {
        assert!(std::env::var("CI").is_err(), "not installed: .peers/node (scripts/setup.sh)");
        println!("skipped: not installed: .peers/node (scripts/setup.sh installs it)");
        return;
    }
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    for (scheme, port) in [("ws", site.ports.ws), ("wss", site.ports.wss)] {
        let mut node = command("node");
        node.arg(crate::peer::program("browser.mjs")).arg(&peers);
        node.arg(format!("{scheme}://127.0.0.1:{port}")).arg(conference("lounge"));
        let log = site.dir.join(format!("jssip-{scheme}.log"));
        let mut process = Process::start("jssip", &mut node, &log, false);
        assert!(process.wait(Duration::from_secs(30)).is_some(), "{}", process.output());
        let said = process.output();
        let event = |name: &str| -> Value {
            let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut named = events.filter(|event| event["ev"] == name);
            named.next().unwrap_or_else(|| panic!("no {name}: {said}"))
        };
        assert_eq!(event("options")["status"], 200);
        let contact = event("options")["contact"].to_string();
        assert!(contact.contains(";transport=ws>;isfocus"), "{contact}");
        event("accepted");
        let document = event("notify")["body"].to_string();
        assert!(document.contains("<conference-info") && document.contains("alice"), "{document}");
        assert_eq!(event("invite")["status"], 488);
        event("done");
    }
}
