//! Partial documents, in virtual time: what readers put together from them is what there is.

use std::collections::BTreeMap;

use cusax::conference::{Document, Outcome, State, Subscriber};

use super::*;
use crate::room::standing::Role;

/// Who reads, by the Call-ID of their subscription.
type Readers = BTreeMap<String, Subscriber>;

impl Scene {
    /// Hands every document to its reader; gives how many there were. Who refuses them has not read them.
    fn deliver(&mut self, readers: &mut Readers, refused: bool) -> usize {
        let mut count = 0;
        loop {
            let sent = self.sent().into_iter();
            let notifies: Vec<_> = sent.filter(|(_, it)| is_request(it, "NOTIFY")).collect();
            if notifies.is_empty() {
                return count;
            }
            for (flow, message) in notifies {
                let notify = request(&message).unwrap();
                let reader = readers.get_mut(notify.headers.call_id().unwrap()).unwrap();
                let text = String::from_utf8(notify.body.clone()).unwrap();
                let document = Document::from_xml(&text).unwrap();
                // Jitsi reads none without both.
                assert!(document.description.is_some() && document.users.is_some(), "{text}");
                if !refused {
                    assert_eq!(reader.handle_document(document), Outcome::Applied, "{text}");
                }
                let status = if refused { "500 No" } else { "200 OK" };
                self.receive(flow, response_to(notify, status).as_bytes());
                count += 1;
            }
        }
    }

    /// Lets time pass, too little at once for anything to be sent again.
    fn rest(&mut self, readers: &mut Readers, steps: u32, refused: bool) -> usize {
        let mut count = 0;
        for _ in 0..steps {
            self.wait(Duration::from_millis(400));
            count += self.deliver(readers, refused);
        }
        count
    }

    /// What there is, for the eyes of somebody.
    fn everything(&mut self, user: &str, id: u32) -> Conference {
        let mut fetcher = Phone::new(user, id);
        let sent = self.send(&fetcher.subscribe("Expires: 0\r\n"));
        let notify = only_request(&sent, "NOTIFY");
        fetcher.answer_notify(self, &sent);
        let text = String::from_utf8(notify.body).unwrap();
        Conference::from(Document::from_xml(&text).unwrap())
    }
}

fn sorted(mut conference: Conference) -> Conference {
    conference.users.list.sort_by(|a, b| a.entity.cmp(&b.entity));
    conference
}

const USERS: [&str; 5] = ["u0", "u1", "u2", "u3", "u4"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// RFC 4575 §4.4 to §4.6, for each reader by themselves: an owner who sees addresses, and somebody who
    /// does not.
    #[test]
    fn partial_documents_add_up_to_the_full_one(
        steps in prop::collection::vec((0_u8..9, 0_usize..5, prop::bool::weighted(0.15)), 1..40),
    ) {
        let mut scene = Scene::open();
        scene.affiliate("alice", Affiliation::Owner);
        let mut readers = Readers::new();
        for (user, id) in [("alice", 900), ("carol", 901)] {
            let watcher = Phone::new(user, id);
            readers.insert(watcher.call_id.clone(), Subscriber::default());
            let text = watcher.subscribe("");
            scene.sip.clear();
            scene.receive(flow(), text.as_bytes());
            scene.deliver(&mut readers, false);
        }
        let mut calls: BTreeMap<usize, Phone> = BTreeMap::new();
        for (number, (what, whom, refused)) in (0..).zip(steps) {
            let user = USERS[whom];
            let nick = scene.person(user).map(|person| (person.nick.clone(), person.id));
            match (what, calls.remove(&whom), nick) {
                (0..=2, None, _) => {
                    let mut phone = Phone::new(user, number);
                    scene.receive(flow(), phone.invite(OFFER).as_bytes());
                    let sent = scene.sent();
                    let ok = sent.iter().find_map(|(_, it)| response(it)).unwrap();
                    if ok.status.is_success() {
                        phone.learn(ok);
                        scene.receive(flow(), phone.ack("").as_bytes());
                        calls.insert(whom, phone);
                    }
                }
                (0, Some(mut phone), _) => {
                    scene.receive(flow(), phone.next().request("BYE", "", "").as_bytes());
                    scene.sip.clear();
                }
                (1, Some(mut phone), _) => {
                    let sdp = OFFER.replace("sendrecv", "sendonly");
                    let update = phone.next().request("UPDATE", "", &sdp);
                    scene.receive(flow(), update.as_bytes());
                    calls.insert(whom, phone);
                    scene.sip.clear();
                }
                (3, phone, Some((_, person))) => {
                    scene.owner(Command::Mute { person, on: number % 2 == 0 });
                    calls.extend(phone.map(|phone| (whom, phone)));
                }
                (4, phone, Some((nick, _))) => {
                    let role = [Some(Role::Moderator), Some(Role::Visitor)][number as usize % 2];
                    scene.owner(Command::Moderate(vec![Change::Role { nick, role, reason: None }]));
                    calls.extend(phone.map(|phone| (whom, phone)));
                }
                (5, phone, _) => {
                    scene.owner(Command::Lock(number % 2 == 0));
                    calls.extend(phone.map(|phone| (whom, phone)));
                }
                (6, phone, _) => {
                    scene.configure(|room| room.name = format!("Tea {number}"));
                    calls.extend(phone.map(|phone| (whom, phone)));
                }
                (_, phone, _) => {
                    scene.rest(&mut readers, 5 + 3 * whom as u32, refused);
                    calls.extend(phone.map(|phone| (whom, phone)));
                }
            }
            scene.deliver(&mut readers, refused);
        }
        // Whoever refused the last one hears of the next change in full.
        scene.configure(|room| room.name = "At last".to_owned());
        scene.rest(&mut readers, 14, false);
        for (user, id) in [("alice", 900), ("carol", 901)] {
            let known = readers[&format!("call-{id}")].conference().unwrap().clone();
            let there = scene.everything(user, id + 10);
            prop_assert_eq!(sorted(known), sorted(there), "{}", user);
        }
    }
}

#[test]
fn only_what_is_new_is_told() {
    let mut scene = Scene::open();
    let mut readers = Readers::new();
    let watcher = Phone::new("carol", 900);
    readers.insert(watcher.call_id.clone(), Subscriber::default());
    scene.call("alice", 1);
    scene.receive(flow(), watcher.subscribe("").as_bytes());
    scene.deliver(&mut readers, false);
    let mut bob = scene.call("bob", 2);
    let next = |scene: &mut Scene| {
        scene.wait(Duration::from_millis(5_100));
        let sent = scene.sent();
        let (flow, message) = sent.iter().find(|(_, it)| is_request(it, "NOTIFY"))?;
        let notify = request(message).unwrap();
        scene.receive(*flow, response_to(notify, "200 OK").as_bytes());
        let text = String::from_utf8(notify.body.clone()).unwrap();
        let document = Document::from_xml(&text).unwrap();
        let list = document.users.as_ref().unwrap().list.iter();
        let told: Vec<_> =
            list.map(|user| (user.state, user.display_text.clone().unwrap_or_default())).collect();
        Some((document.state, document.version, told))
    };
    let (full, deleted) = (State::Full, State::Deleted);
    let told = next(&mut scene);
    assert_eq!(told, Some((State::Partial, 2, vec![(full, "bob (phone)".to_owned())])));
    scene.send(&bob.next().request("BYE", "", ""));
    assert_eq!(next(&mut scene), Some((State::Partial, 3, vec![(deleted, String::new())])));
    // What nobody could see is told to nobody.
    scene.owner(Command::Lock(true));
    scene.owner(Command::Lock(false));
    assert_eq!(next(&mut scene), None);
}
