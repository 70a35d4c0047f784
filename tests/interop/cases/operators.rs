//! What operators run and look at.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    http,
    site::{SECRET, Site, room},
    wait::{PATIENCE, pause, until},
};

/// The metrics that dashboards may rely on.
const METRICS: [&str; 24] = [
    "cusax_rooms",
    "cusax_people",
    "cusax_call_legs",
    "cusax_xmpp_component_up",
    "cusax_stanzas_total",
    "cusax_sip_requests_total",
    "cusax_sip_responses_total",
    "cusax_subscriptions",
    "cusax_mirror_seconds_bucket",
    "cusax_mirror_divergence",
    "cusax_mix_tick_seconds_bucket",
    "cusax_mix_late_ticks_total",
    "cusax_encodes_total",
    "cusax_forwarded_frames_total",
    "cusax_rtp_packets_total",
    "cusax_rtp_lost_total",
    "cusax_concealed_frames_total",
    "cusax_fec_frames_total",
    "cusax_jitter_buffer_seconds_bucket",
    "cusax_stress",
    "cusax_build_info",
    "cusax_mirror_seconds_count",
    "cusax_mix_tick_seconds_count",
    "cusax_jitter_buffer_seconds_count",
];

#[test]
fn a_running_room_is_in_metrics_health_and_the_api() {
    let Some(site) = Site::start("a_running_room_is_in_metrics_health_and_the_api") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(std::time::Duration::from_secs(2));
    let metrics = site.cusaxd.get("/metrics").body;
    for name in METRICS {
        let found = metrics
            .lines()
            .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        assert!(found, "{name} is missing:\n{metrics}");
    }
    let value = |name: &str, label: &str| site.cusaxd.metric(name, label);
    assert_eq!(value("cusax_rooms", ""), 1.0);
    assert_eq!(value("cusax_people", "audio"), 2.0);
    assert_eq!(value("cusax_people", "chat"), 1.0);
    assert_eq!(value("cusax_mirror_divergence", ""), 0.0);
    assert!(value("cusax_rtp_packets_total", "in") > 100.0);
    assert!(value("cusax_rtp_packets_total", "out") > 100.0);
    assert!(!metrics.contains("lounge") && !metrics.contains("alice"), "{metrics}");

    let ready = site.cusaxd.get("/health/ready");
    assert_eq!(ready.status, 200);
    for part in ["xmpp", "sip", "media", "store"] {
        assert!(!ready.json()[part].is_null(), "{part}: {}", ready.body);
    }
    assert_eq!(site.cusaxd.get("/health/live").status, 200);
    let rooms = site.cusaxd.get("/api/v1/rooms").body;
    assert!(rooms.contains("lounge"), "{rooms}");
    assert_eq!(site.cusaxd.get("/api/v1/rooms/nowhere").status, 404);
    let locked_out = http::get(site.ports.http, "/api/v1/rooms", None);
    assert_eq!(locked_out.expect("an answer").status, 401);
    assert_eq!(site.cusaxd.room("lounge")["jid"], room("lounge").as_str());
}

#[test]
fn the_command_line_shows_mutes_kicks_and_bans_whom_it_names() {
    let test = "the_command_line_shows_mutes_kicks_and_bans_whom_it_names";
    let Some(site) = Site::start(test) else { return };
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    bob.join("lounge");
    let mark = alice.mark();
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    alice.sees_callers(mark, 2);
    let done = |arguments: &[&str]| {
        let (code, said) = site.cusaxd.operate(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    };

    let shown = done(&["room", "show", "lounge"]);
    for word in ["alice", "bob", "sip:carol@conf.test", "audio", "chat", "moderator", "claimed"] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
    let calls = done(&["call", "list"]);
    assert_eq!(calls.lines().count(), 3, "{calls}");
    assert!(calls.contains("sip:dave@conf.test"), "{calls}");

    // By SIP address, which only one of them has.
    let carol_at = "sip:carol@conf.test";
    assert!(done(&["room", "mute", "lounge", carol_at]).contains("moderator"), "{carol_at}");
    let heard = |aor: &str| {
        let calls: Value = serde_json::from_str(&done(&["call", "list", "--json"])).unwrap();
        let calls = calls["calls"].as_array().unwrap().clone();
        calls.iter().find(|call| call["aor"] == aor).unwrap()["heard"].clone()
    };
    assert_eq!((heard(carol_at), heard("sip:dave@conf.test")), (json!(false), json!(true)));
    done(&["room", "unmute", "lounge", carol_at]);
    assert_eq!(heard(carol_at), true);

    // By nick: out of the room, and the others read why.
    let mark = alice.mark();
    done(&["room", "kick", "lounge", "bob", "--reason", "too loud"]);
    let gone = alice.sees_gone(mark, "bob", PATIENCE);
    assert!(gone.to_string().contains("307"), "{gone}");
    let mark = carol.mark();
    done(&["room", "ban", "lounge", carol_at]);
    carol.ended(mark, PATIENCE);
    let (code, said) = site.cusaxd.operate(&["room", "kick", "lounge", "bob"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("bob: nobody in the room is called that"), "{said}");
    assert_eq!(done(&["room", "destroy", "lounge"]), "");
}

#[test]
fn a_drain_lets_calls_end_and_takes_no_new_ones() {
    let test = "a_drain_lets_calls_end_and_takes_no_new_ones";
    let Some(mut site) = Site::start(test) else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    let mark = alice.mark();
    let (code, said) = site.cusaxd.operate(&["drain", "--delay", "600"]);
    assert!(code == Some(0) && said.starts_with("1 calls may go on until "), "{said}");
    alice.wait(mark, "what everyone is told", |event| {
        event["body"].as_str().is_some_and(|body| body.contains("takes no new calls"))
    });
    assert_eq!(dave.refused("lounge"), 503);
    let ready = site.cusaxd.get("/health/ready");
    assert_eq!((ready.status, &ready.json()["draining"]), (503, &json!(true)), "{}", ready.body);
    until("the metric says so", PATIENCE, || {
        (site.cusaxd.metric("cusax_draining", "") == 1.0).then_some(())
    });
    // It is taken back: calls come again. Then it ends with the last of them.
    assert_eq!(site.cusaxd.operate(&["undrain"]).0, Some(0));
    site.cusaxd.ready();
    dave.call("lounge", 1000.0);
    assert_eq!(site.cusaxd.operate(&["drain", "--delay", "600"]).0, Some(0));
    dave.hangup();
    pause(std::time::Duration::from_secs(1));
    assert!(site.cusaxd.alive(), "a call is up");
    let mark = alice.mark();
    carol.hangup();
    let gone = alice.sees_gone(mark, "alice", PATIENCE);
    assert!(gone.to_string().contains("332"), "{gone}");
    assert!(site.cusaxd.ended().success());
}

#[test]
fn a_probe_finds_the_link_good_or_says_why_not() {
    let test = "a_probe_finds_the_link_good_or_says_why_not";
    let Some(mut site) = Site::start(test) else { return };
    let probe = ["check-config", "--probe"];
    let (code, said) = site.cusaxd.operate(&probe);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("sip.listen") && !said.contains("xmpp"), "it runs already: {said}");
    assert_eq!(site.cusaxd.get("/health/ready").status, 200, "and is left alone");
    assert!(site.cusaxd.terminate().success());
    let (code, said) = site.cusaxd.operate(&probe);
    assert!(code == Some(0) && said.contains("good"), "{said}");
    let config = site.dir.join("cusaxd.toml");
    let wrong = fs::read_to_string(&config).expect("ours").replace(SECRET, "guessed");
    fs::write(&config, wrong).expect("ours");
    let (code, said) = site.cusaxd.operate(&probe);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("xmpp.secret: ") && said.contains("not-authorized"), "{said}");
}

#[test]
fn check_config_says_what_is_wrong_and_where() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("check_config");
    fs::create_dir_all(&dir).expect("the target folder is ours");
    let good = include_str!("../../../conf/demo.toml");
    let check = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).expect("a file of ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cusaxd"));
        let done = command.arg("check-config").arg("--config").arg(&file).output();
        let done = done.expect("cusaxd runs");
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(check("good.toml", good).0, Some(0));
    for (name, from, to, key) in [
        ("listen.toml", "udp:127.0.0.1:5060", "carrier-pigeon:5060", "listen"),
        ("unknown.toml", "[http]", "[http]\nlisden = \"x\"", "lisden"),
        ("auth.toml", "auth = \"digest\"", "auth = \"perhaps\"", "auth"),
        ("ports.toml", "40000-40199", "40199-40000", "ports"),
        ("secret.toml", "secret = \"loopback-demo-secret\"", "", "secret"),
        ("syntax.toml", "[sip]", "[sip", "syntax.toml"),
    ] {
        let (code, said) = check(name, &good.replace(from, to));
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains(name) && said.contains(key), "{name}: {said}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_cusaxd"));
    let version = command.arg("--version").output().expect("cusaxd runs");
    let said = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.status.success() && said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}
