//! Calls that rooms make, in virtual time.

use super::*;
use crate::dialplan::Hop;
use crate::id::DialId;
use crate::room::dial::Callee;
use crate::room::person::{Caller, Proof};

pub(super) const BOB: &str = "192.0.2.77:5060";

impl Scene {
    /// A moderator wants bob; gives the number of the leg that a server is looked for.
    pub(super) fn dials(&mut self) -> LegId {
        let aor: cusax::identity::Aor = "sip:bob@example.org".parse().unwrap();
        let person = Caller {
            who: Who::Aor(aor.clone()),
            aor: Some(aor),
            name: Some("Bob".to_owned()),
            proof: Proof::Dialled,
            private: false,
        };
        let callee = Callee::new("sip:bob@example.org".to_owned(), person);
        self.owner(Command::Dial(Box::new(callee)));
        let [lookup] = &self.lookups[..] else { panic!("{:?}", self.lookups) };
        let leg = lookup.leg;
        self.sip.clear();
        leg
    }

    /// Bob's server is at these places.
    pub(super) fn found(&mut self, leg: LegId, at: &[&str]) -> Vec<Sent> {
        let hop = |at: &&str| Hop { transport: Transport::Udp, remote: at.parse().unwrap() };
        let hops: Vec<_> = at.iter().map(hop).collect();
        let mut out =
            Wires { sip: &mut self.sip, media: &mut self.media, lookups: &mut self.lookups };
        let asks = self.focus.located(self.now, leg, &hops, &mut out);
        self.ask(asks);
        self.sent()
    }

    /// The INVITE of a call that was wanted, and found one place to go.
    pub(super) fn calls_bob(&mut self) -> Request {
        let leg = self.dials();
        only_request(&self.found(leg, &[BOB]), "INVITE")
    }

    /// Bob's phone answers a request of ours.
    pub(super) fn bob_says(
        &mut self,
        request: &Request,
        status: &str,
        headers: &str,
        body: &str,
    ) -> Vec<Sent> {
        let mut text = response_to(request, status);
        if !status.starts_with("100") && !text.contains(";tag=bob") {
            text =
                text.replacen("To: <sip:bob@example.org>", "To: <sip:bob@example.org>;tag=bob", 1);
        }
        let head = text.split("Content-Length").next().unwrap().to_owned();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let contact = "Contact: <sip:bob@192.0.2.77:5060>\r\n";
        let length = body.len();
        let text = format!("{head}{contact}{headers}{kind}Content-Length: {length}\r\n\r\n{body}");
        self.send_from(BOB, &text)
    }

    /// How the one call failed that did since this was last asked.
    pub(super) fn failure(&mut self) -> (u16, String) {
        let [failure] = &std::mem::take(&mut self.failures)[..] else { panic!("not one") };
        failure.clone()
    }

    pub(super) fn dialling(&self) -> usize {
        let room = self.rooms.get(&tea()).map_or(0, |room| room.dials.len());
        assert_eq!(self.focus.dials.len(), room, "focus and room agree");
        room
    }

    /// The statuses of the endpoints of whoever a new watcher sees called.
    fn watched(&mut self, id: u32) -> Vec<String> {
        let mut watcher = Phone::new("carol", id);
        let sent = self.send(&watcher.subscribe(""));
        let notify = only_request(&sent, "NOTIFY");
        watcher.answer_notify(self, &sent);
        let document = document(&notify);
        texts(&document, "users/user/endpoint/status")
    }
}

#[test]
fn a_call_out_is_an_invite_of_a_focus_and_ends_as_a_call_in() {
    let mut scene = Scene::open();
    let leg = scene.dials();
    assert_eq!(scene.lookups[0].uri.to_string(), "sip:bob@example.org");
    assert_eq!(scene.watched(50), ["connected", "pending"]);
    let sent = scene.found(leg, &[BOB]);
    assert_eq!(sent[0].0.remote, BOB.parse().unwrap());
    let invite = only_request(&sent, "INVITE");
    assert_eq!(invite.uri.to_string(), "sip:bob@example.org");
    assert!(
        invite
            .headers
            .get(&Name::FROM)
            .unwrap()
            .starts_with("\"Tea Time\" <sip:tea@conf.example.org>;tag=")
    );
    for (name, expected) in [
        (Name::CONTACT, "<sip:tea@192.0.2.10:5060>;isfocus"),
        (Name::ALLOW_EVENTS, "conference, refer"),
        (Name::CALL_INFO, "<xmpp:tea@rooms.example.org>;purpose=impp"),
        (Name::CSEQ, "1 INVITE"),
        (Name::CONTENT_TYPE, "application/sdp"),
    ] {
        assert_eq!(invite.headers.get(&name), Some(expected), "{name}");
    }
    let offer = String::from_utf8(invite.body.clone()).unwrap();
    assert!(offer.contains("opus/48000/2") && offer.contains("PCMU/8000"), "{offer}");
    assert_eq!(scene.watched(51), ["connected", "dialing-out"]);
    scene.bob_says(&invite, "180 Ringing", "", "");
    assert_eq!(scene.watched(52), ["connected", "alerting"]);
    assert_eq!(scene.media, [], "no audio before the answer");
    let ack = scene.bob_says(&invite, "200 OK", "", PCMU_ANSWER);
    assert_eq!(only_request(&ack, "ACK").uri.to_string(), "sip:bob@192.0.2.77:5060");
    let plan = scene.opened();
    assert_eq!((plan.codec.kind, plan.heard, plan.hears), (CodecKind::Pcmu, true, true));
    assert!(offer.contains(&format!("m=audio {} ", plan.port)));
    assert_eq!((scene.dialling(), scene.focus.legs.len()), (0, 1));
    assert_eq!(scene.person("bob").unwrap().nick.as_str(), "Bob (phone)");
    let mut watcher = Phone::new("dora", 53);
    let notify = scene.send(&watcher.subscribe(""));
    let told = document(&only_request(&notify, "NOTIFY"));
    watcher.answer_notify(&mut scene, &notify);
    assert_eq!(texts(&told, "users/user/endpoint/joining-method"), ["dialed-out"]);
    // A kick hangs up.
    let nick = Nick::new("Bob (phone)").unwrap();
    let reason = Some("noise".to_owned());
    scene.sip.clear();
    scene.owner(Command::Moderate(vec![Change::Role { nick, role: None, reason }]));
    let bye = only_request(&scene.sent(), "BYE");
    assert_eq!(bye.headers.get(&Name::REASON), Some("SIP;cause=603;text=\"Kicked: noise\""));
    assert!(matches!(scene.media[..], [Order::Close(_)]));
}

#[test]
fn a_call_that_fails_is_told_and_leaves_nothing() {
    for (answer, status, text) in [
        ("486 Busy Here", 486, "Busy Here"),
        ("603 Not Now", 603, "Not Now"),
        ("302 Moved Temporarily", 302, "Moved Temporarily"),
        ("407 Proxy Authentication Required", 407, "Proxy Authentication Required"),
    ] {
        let mut scene = Scene::open();
        let invite = scene.calls_bob();
        let sent = scene.bob_says(&invite, answer, "", "");
        assert!(is_request(&sent[0].1, "ACK"), "{sent:?}");
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!((scene.dialling(), scene.focus.dialogs.len()), (0, 0));
        assert_eq!(scene.failure(), (status, text.to_owned()));
    }
    // Nobody has that address.
    let mut scene = Scene::open();
    let leg = scene.dials();
    assert_eq!(scene.found(leg, &[]), []);
    assert_eq!(scene.failure().0, 502);
    // It is our own.
    let mut scene = Scene::open();
    let leg = scene.dials();
    assert_eq!(scene.found(leg, &["192.0.2.10:5060"]), []);
    assert_eq!(scene.failure().0, 482);
    assert_eq!(scene.dialling(), 0);
}

#[test]
fn an_answer_without_common_media_is_hung_up_on() {
    let mut scene = Scene::open();
    let invite = scene.calls_bob();
    let sent = scene.bob_says(&invite, "200 OK", "", G729);
    assert!(is_request(&sent[0].1, "ACK"), "{sent:?}");
    let bye = only_request(&sent, "BYE");
    assert!(bye.headers.get(&Name::REASON).unwrap().starts_with("SIP;cause=488"));
    assert_eq!(scene.failure().0, 488);
    assert_eq!((scene.dialling(), scene.focus.legs.len(), scene.media.len()), (0, 0, 0));
}

#[test]
fn who_is_called_no_more_is_not_left_ringing() {
    let give_up = |scene: &mut Scene| {
        let (dial, end) = (DialId(1), crate::room::dial::DialEnd::Cancelled);
        scene.owner(Command::EndDial { dial, end });
    };
    let ban = |scene: &mut Scene| scene.affiliate("bob", Affiliation::Outcast);
    let destroy = |scene: &mut Scene| {
        scene.owner(Command::Destroy { reason: None, alternate: None });
    };
    let wait = |scene: &mut Scene| scene.wait(Duration::from_secs(120));
    let shut_down = |scene: &mut Scene| {
        for (name, facts) in scene.rooms.shut_down() {
            scene.publish(&name, &facts);
        }
    };
    let ways: [&dyn Fn(&mut Scene); 5] = [&give_up, &ban, &destroy, &wait, &shut_down];
    for end in ways {
        let mut scene = Scene::open();
        let invite = scene.calls_bob();
        scene.bob_says(&invite, "180 Ringing", "", "");
        end(&mut scene);
        let cancel = only_request(&scene.sent(), "CANCEL");
        assert_eq!(cancel.headers.cseq().unwrap().number, 1);
        assert_eq!((scene.dialling(), scene.focus.dialogs.len()), (0, 0));
        // It was answered at the same moment: they are hung up on.
        let sent = scene.bob_says(&invite, "200 OK", "", PCMU_ANSWER);
        assert!(is_request(&sent[0].1, "ACK") && is_request(&sent[1].1, "BYE"), "{sent:?}");
        assert_eq!((scene.focus.legs.len(), scene.media.len()), (0, 0));
    }
}

#[test]
fn a_room_that_was_locked_meanwhile_keeps_them_out() {
    let mut scene = Scene::open();
    let invite = scene.calls_bob();
    scene.owner(Command::Lock(true));
    let sent = scene.bob_says(&invite, "200 OK", "", PCMU_ANSWER);
    let bye = only_request(&sent, "BYE");
    assert_eq!(bye.headers.get(&Name::REASON), Some("SIP;cause=480;text=\"Conference Locked\""));
    assert_eq!((scene.dialling(), scene.focus.legs.len(), scene.media.len()), (0, 0, 0));
}

#[test]
fn the_next_server_is_tried_when_one_is_down() {
    let mut scene = Scene::open();
    let leg = scene.dials();
    let invite = only_request(&scene.found(leg, &["192.0.2.66:5060", BOB]), "INVITE");
    let sent = scene.bob_says(&invite, "503 Service Unavailable", "", "");
    let again = only_request(&sent, "INVITE");
    assert_eq!(sent.last().unwrap().0.remote, BOB.parse().unwrap());
    assert_eq!(again.headers.cseq().unwrap().number, 2);
    assert_eq!(again.headers.call_id(), invite.headers.call_id());
    assert_eq!(again.body, invite.body);
    // Who has rung is there, whatever comes after.
    scene.bob_says(&again, "180 Ringing", "", "");
    scene.bob_says(&again, "200 OK", "", PCMU_ANSWER);
    assert!(scene.person("bob").is_some());
    // Silence is as good as 503.
    let mut scene = Scene::open();
    let leg = scene.dials();
    scene.found(leg, &["192.0.2.66:5060", BOB]);
    scene.wait(Duration::from_secs(33));
    let sent = scene.sent();
    let to_bob = sent.iter().filter(|(flow, _)| flow.remote == BOB.parse().unwrap()).count();
    assert!(to_bob > 0 && scene.dialling() == 1, "{sent:?}");
}

#[test]
fn the_proxy_is_told_who_we_are_and_nobody_else() {
    let challenge = |realm: &str| {
        format!(
            "Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"abc\", algorithm=SHA-256, qop=\"auth\"\r\n"
        )
    };
    let status = "407 Proxy Authentication Required";
    let mut scene = Scene::open();
    scene.focus.config.outbound = Some(Outbound {
        proxy: "sip:192.0.2.77".parse().unwrap(),
        credentials: Some(("cusax".to_owned(), "secret".to_owned())),
        realm: "trunk.example".to_owned(),
    });
    let leg = scene.dials();
    assert_eq!(scene.lookups[0].uri.to_string(), "sip:192.0.2.77", "the proxy is looked for");
    let invite = only_request(&scene.found(leg, &[BOB]), "INVITE");
    assert!(!invite.headers.contains(&Name::PROXY_AUTHORIZATION));
    let sent = scene.bob_says(&invite, status, &challenge("trunk.example"), "");
    let again = only_request(&sent, "INVITE");
    let [credentials] = &again.headers.credentials(&Name::PROXY_AUTHORIZATION)[..] else {
        panic!()
    };
    assert_eq!(credentials.get("username"), Some("cusax"));
    assert_eq!(credentials.get("uri"), Some("sip:bob@example.org"));
    assert_eq!(again.headers.cseq().unwrap().number, 2);
    // Asked once more, the password is wrong.
    let sent = scene.bob_says(&again, status, &challenge("trunk.example"), "");
    assert!(!sent.iter().any(|(_, message)| is_request(message, "INVITE")), "{sent:?}");
    assert_eq!(scene.failure().0, 407);
    // Whoever names another realm gets no proof to try passwords on.
    scene.lookups.clear();
    let leg = scene.dials();
    let invite = only_request(&scene.found(leg, &[BOB]), "INVITE");
    let sent = scene.bob_says(&invite, status, &challenge("evil.example"), "");
    assert!(!sent.iter().any(|(_, message)| is_request(message, "INVITE")), "{sent:?}");
    assert_eq!(scene.dialling(), 0);
}

#[test]
fn a_call_that_comes_back_to_us_is_a_loop() {
    let mut scene = Scene::open();
    let invite = scene.calls_bob();
    let mut back = invite.clone();
    back.uri = "sip:tea@conf.example.org".parse().unwrap();
    let text =
        String::from_utf8(back.to_bytes()).unwrap().replace("branch=z9hG4bK", "branch=z9hG4bKx");
    let answer = only_response(&scene.send(&text));
    assert_eq!(answer.status.code(), 482);
    assert_eq!((scene.dialling(), scene.focus.legs.len()), (1, 0));
}

#[test]
fn under_stress_nobody_is_called() {
    let mut scene = Scene::open();
    scene.focus.note_stress(1.0);
    let leg = scene.dials();
    assert_eq!(scene.found(leg, &[BOB]), []);
    assert_eq!(scene.failure().0, 503);
}
