//! What others were caught by, tried on us: the table "Advisories" in `docs/conformance.md`.

use super::dial::BOB;
use super::*;

/// What a challenge of a 401 or 407 looks like.
fn challenge(realm: &str, nonce: u32, more: &str) -> String {
    format!(
        "Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"n{nonce}\", qop=\"auth\"{more}\r\n"
    )
}

fn with_trunk() -> Scene {
    let mut scene = Scene::open();
    scene.focus.config.outbound = Some(Outbound {
        proxy: "sip:192.0.2.77".parse().unwrap(),
        credentials: Some(("cusax".to_owned(), "secret".to_owned())),
        realm: "trunk.example".to_owned(),
    });
    scene
}

/// CVE-2021-41158: who calls, and answers our BYE with a challenge of the trunk's realm, learns nothing to
/// try passwords on.
#[test]
fn a_challenge_to_our_bye_is_not_answered() {
    let mut scene = with_trunk();
    let mut alice = scene.call("alice", 1);
    scene.sip.clear();
    scene.owner(Command::Destroy { reason: None, alternate: None });
    let bye = only_request(&scene.sent(), "BYE");
    for (status, header) in
        [("407 Proxy Authentication Required", "Proxy-"), ("401 Unauthorized", "WWW-")]
    {
        let asked = challenge("trunk.example", 1, "").replace("Proxy-", header);
        let text = response_to(&bye, status);
        let head = text.split("Content-Length").next().unwrap();
        let sent = scene.send(&format!("{head}{asked}Content-Length: 0\r\n\r\n"));
        assert_eq!(sent, [], "{status}");
    }
    let late = only_response(&scene.send(&alice.next().request("OPTIONS", "", "")));
    assert_eq!(late.status.code(), 481);
}

/// AST-2020-002: a proxy that wants another nonce each time is not followed for ever.
#[test]
fn a_proxy_that_is_never_content_is_given_up() {
    for more in [", stale=true", ""] {
        let mut scene = with_trunk();
        let leg = scene.dials();
        let mut invite = only_request(&scene.found(leg, &[BOB]), "INVITE");
        let mut invites = 1;
        loop {
            let asked = challenge("trunk.example", invites, more);
            let status = "407 Proxy Authentication Required";
            let sent = scene.bob_says(&invite, status, &asked, "");
            let again = sent.iter().filter_map(|(_, message)| request(message));
            let Some(again) = again.clone().find(|it| it.method == Method::Invite) else { break };
            (invite, invites) = (again.clone(), invites + 1);
            assert!(invites < 10, "{more}");
        }
        assert!((2..=4).contains(&invites), "{invites}{more}");
        assert_eq!((scene.failure().0, scene.dialling()), (407, 0));
    }
}

/// CVE-2021-37624, CVE-2021-41157, CVE-2025-47779: every method that does or tells anything asks who one is.
#[test]
fn who_proves_nothing_is_told_nothing_and_moves_nobody() {
    let mut scene = Scene::new(Auth::Digest);
    let refer = "Refer-To: <sip:bob@example.org>\r\n";
    for (number, (method, headers, expected)) in [
        ("INVITE", "", 401),
        ("SUBSCRIBE", "Event: conference\r\n", 401),
        ("SUBSCRIBE", "Event: refer\r\n", 401),
        ("REFER", refer, 401),
        ("MESSAGE", "", 405),
        ("PUBLISH", "Event: presence\r\n", 405),
        ("REGISTER", "", 405),
        ("INFO", "", 481),
        ("UPDATE", "", 405),
        ("PRACK", "RAck: 1 1 INVITE\r\n", 405),
        ("NOTIFY", "Event: conference\r\n", 481),
        ("BYE", "", 481),
    ]
    .into_iter()
    .enumerate()
    {
        let phone = Phone::new("alice", 100 + u32::try_from(number).unwrap());
        let sent = scene.send_from(STRANGER, &phone.request(method, headers, ""));
        let answer = only_response(&sent);
        assert_eq!(answer.status.code(), expected, "{method} {headers}");
        assert!(answer.body.is_empty(), "{method}");
    }
    assert_eq!((scene.focus.legs.len(), scene.focus.watchers.len()), (0, 0));
    assert_eq!((scene.lookups.len(), scene.focus.referrals.len()), (0, 0));
}

/// CVE-2020-28361: a header that a proxy in front was to remove, and did not know by a blank.
#[test]
fn an_identity_that_slipped_past_a_proxy_is_no_identity() {
    for name in [
        "P-Asserted-Identity",
        "P-Asserted-Identity ",
        "p-asserted-identity\t",
        "P-AsSeRtEd-IdEnTiTy",
    ] {
        let mut scene = Scene::new(Auth::Digest);
        let mut mallory = Phone::new("mallory", 1);
        mallory.with_header(name, "<sip:alice@example.org>");
        let sent = scene.send_from(STRANGER, &mallory.invite(OFFER));
        let code = only_response(&sent).status.code();
        assert!(code == 401 || code == 400, "{name}: {code}");
        assert!(scene.focus.legs.is_empty());
    }
}

/// PJSIP, sofia-sip: lengths and numbers in SDP that tables are indexed by.
#[test]
fn numbers_in_sdp_that_lie_break_nothing() {
    let mut scene = Scene::open();
    for (number, (from, to)) in [
        ("RTP/AVP 96", "RTP/AVP 128 999 -1 4294967296 96"),
        (
            "a=rtpmap:96 opus/48000/2",
            "a=rtpmap:4294967295 opus/48000/2\r\na=rtpmap:96 opus/48000/2",
        ),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 opus/99999999999/2"),
        ("a=sendrecv", "a=ptime:4294967295\r\na=maxptime:-7\r\na=sendrecv"),
        ("m=audio 7000", "m=audio 99999"),
        ("m=audio 7000", "m=audio 7000/65535"),
        ("a=extmap:3", "a=extmap:4294967299"),
        ("a=extmap:3", "a=extmap:0"),
        ("o=- 1 1", "o=- 99999999999999999999999 -1"),
        ("t=0 0", "t=-1 99999999999999999999"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(OFFER.contains(from), "{from}");
        let mut phone = Phone::new("alice", 1 + u32::try_from(number).unwrap());
        let sent = scene.send(&phone.invite(&OFFER.replace(from, to)));
        let answer = sent.iter().find_map(|(_, message)| response(message)).unwrap();
        let code = answer.status.code();
        assert!(matches!(code, 200 | 400 | 488), "{to}: {code}");
        phone.learn(answer);
        if code == 200 {
            scene.send(&phone.ack(""));
            let bye = scene.send(&phone.next().request("BYE", "", ""));
            assert_eq!(only_response(&bye).status.code(), 200, "{to}");
        }
    }
    assert!(scene.focus.legs.is_empty() && scene.person("alice").is_none());
}
