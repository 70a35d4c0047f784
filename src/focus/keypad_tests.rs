//! Keys in the middle of a call, by both ways that phones have.

use super::*;
use crate::mixer::plan::Prompt;

fn pressed(leg: u64, keys: &str) -> Vec<Report> {
    keys.chars().map(|digit| Report::Digit { leg: LegId(leg), digit }).collect()
}

fn muted(scene: &Scene) -> bool {
    scene.person("alice").unwrap().mutes.own.is_some()
}

fn info(phone: &mut Phone, kind: &str, body: &str) -> String {
    let length = format!("Content-Type: {kind}\r\nContent-Length: {}", body.len());
    phone.next().request("INFO", "", "").replace("Content-Length: 0", &length) + body
}

#[test]
fn info_carries_keys_within_a_call_and_nothing_else() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    let mut check = |kind: &str, body: &str, expected: u16, muted_then: bool| {
        let answer = only_response(&scene.send(&info(&mut alice, kind, body)));
        assert_eq!(answer.status.code(), expected, "{kind} {body:?}");
        assert_eq!(muted(&scene), muted_then, "{kind} {body:?}");
        answer
    };
    let (relay, bare) = ("application/dtmf-relay", "application/dtmf");
    check(relay, "Signal=*\r\nDuration=160\r\n", 200, false);
    check(relay, "Signal= 6\r\nDuration=160\r\n", 200, true);
    check(bare, "10", 200, true);
    check(bare, "6", 200, false);
    for (kind, body) in
        [(relay, "Duration=160\r\n"), (relay, "Signal=99\r\n"), (bare, "hello"), (bare, "\u{fffd}")]
    {
        check(kind, body, 400, false);
    }
    let refused = check("application/media_control+xml", "<x/>", 415, false);
    assert_eq!(
        refused.headers.get(&Name::ACCEPT),
        Some("application/dtmf-relay, application/dtmf")
    );
    // RFC 6086 §4.2.2: an empty INFO says that somebody is there; §4.2.1: packages are agreed on.
    let empty = alice.next().request("INFO", "", "");
    assert_eq!(only_response(&scene.send(&empty)).status.code(), 200);
    let package = alice.next().request("INFO", "Info-Package: dtmf\r\n", "");
    let refused = only_response(&scene.send(&package));
    assert_eq!(refused.status.code(), 469);
    assert_eq!(refused.headers.get(&Name::RECV_INFO), Some(""));
    let stranger = info(&mut Phone::new("mallory", 2), bare, "6");
    assert_eq!(only_response(&scene.send(&stranger)).status.code(), 481);
}

/// Phones that send each key in both ways press it once.
#[test]
fn a_key_that_comes_twice_is_pressed_once() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    for key in ["*", "6"] {
        pressed(1, key).iter().for_each(|report| scene.report(report));
        scene.send(&info(&mut alice, "application/dtmf", key));
    }
    assert!(muted(&scene));
    assert_eq!(scene.focus.pressed().iter().collect::<Vec<_>>(), [("mute", 1)]);
}

#[test]
fn what_is_often_is_limited_and_counted() {
    let mut scene = Scene::open();
    scene.call("alice", 1);
    for _ in 0..20 {
        pressed(1, "*8").iter().for_each(|report| scene.report(report));
    }
    assert_eq!(scene.focus.pressed().iter().collect::<Vec<_>>(), [("count", 8), ("limited", 12)]);
    // Nobody's keys are nobody's business.
    scene.report(&Report::Digit { leg: LegId(99), digit: '6' });
}

#[test]
fn the_table_is_what_the_configuration_says() {
    let mut scene = Scene::open();
    scene.call("alice", 1);
    let mut config = scene.focus.config.clone();
    config.keypad.mute.0 = "1".parse().unwrap();
    config.keypad.hand.0 = "".parse().unwrap();
    scene.focus.set_config(config);
    scene.media.clear();
    pressed(1, "*6*91").iter().for_each(|report| scene.report(report));
    assert!(muted(&scene) && scene.person("alice").unwrap().hand.is_none());
    assert_eq!(scene.media, [], "no word is said");
}

#[test]
fn prompts_and_tones_follow_who_comes_and_goes() {
    let mut scene = Scene::open();
    let config = FocusConfig { prompts: true, tones_up_to: 10, ..scene.focus.config.clone() };
    scene.focus.set_config(config);
    let tones = |scene: &mut Scene| {
        let orders = scene.media.drain(..);
        orders.filter(|order| matches!(order, Order::Chime { .. })).count()
    };
    let told = |scene: &Scene, leg: u64, prompt| {
        scene.media.iter().any(|order| {
            matches!(order, Order::Play { leg: to, prompts, .. }
                if *to == LegId(leg) && prompts.contains(&prompt))
        })
    };
    scene.call("alice", 1);
    assert!(told(&scene, 1, Prompt::Alone));
    assert_eq!(tones(&mut scene), 0, "nobody else is there to hear it");
    let mut bob = scene.call("bob", 2);
    assert!(!told(&scene, 2, Prompt::Alone));
    assert_eq!(tones(&mut scene), 1);
    // Who comes at once is not heard once more; who comes later is.
    scene.call("carol", 20);
    assert_eq!(tones(&mut scene), 0);
    scene.wait(Duration::from_secs(10));
    let mut carol = scene.call("carol", 21);
    assert_eq!(tones(&mut scene), 0, "a second phone of the same person");
    scene.send(&carol.next().request("BYE", "", ""));
    let nick = scene.person("carol").unwrap().nick.clone();
    scene.owner(Command::Moderate(vec![Change::Role { nick, role: None, reason: None }]));
    assert_eq!(tones(&mut scene), 1);
    assert!(!told(&scene, 1, Prompt::Alone));
    scene.wait(Duration::from_secs(10));
    scene.send(&bob.next().request("BYE", "", ""));
    assert!(told(&scene, 1, Prompt::Alone));
    assert_eq!(tones(&mut scene), 1);
    // In a large room nobody is heard coming.
    for id in 3..=12 {
        scene.wait(Duration::from_secs(10));
        scene.media.clear();
        scene.call(&format!("user{id}"), id);
        assert_eq!(tones(&mut scene), usize::from(id < 12), "{id}");
    }
}
