//! The factory, in virtual time.

use super::*;
use crate::config::FactoryAnswer;
use crate::room::Creation;

fn scene(auth: Auth, answer: FactoryAnswer) -> Scene {
    let mut scene = Scene::new(auth);
    scene.focus.config.factory = Some(Factory { user: "meet".to_owned(), answer });
    scene
}

fn caller(user: &str, id: u32) -> Phone {
    Phone { uri: "sip:meet@conf.example.org".to_owned(), ..Phone::new(user, id) }
}

/// Vouched for by the proxy that all phones come by.
fn vouched(user: &str, id: u32) -> Phone {
    let mut phone = caller(user, id);
    phone.with_header("P-Asserted-Identity", &format!("<sip:{user}@example.org>"));
    phone
}

fn made(scene: &Scene) -> Vec<RoomName> {
    scene.rooms.iter().map(|room| room.name.clone()).filter(|name| *name != tea()).collect()
}

#[test]
fn each_call_makes_a_conference_which_is_a_chat_room_as_well() {
    let mut scene = scene(Auth::Open, FactoryAnswer::Accept);
    let mut alice = vouched("alice", 1);
    let ok = only_response(&scene.send(&alice.invite(OFFER)));
    assert_eq!(ok.status.code(), 200);
    let [name] = &made(&scene)[..] else { panic!("{:?}", made(&scene)) };
    assert!(name.as_str().len() == 10 && name.as_str().bytes().all(|it| it.is_ascii_digit()));
    let contact = format!("<sip:{}@192.0.2.10:5060>;isfocus", name.as_str());
    assert_eq!(ok.headers.get(&Name::CONTACT), Some(&*contact));
    let chat = format!("<xmpp:{}@rooms.example.org>;purpose=impp", name.as_str());
    assert_eq!(ok.headers.get(&Name::CALL_INFO), Some(&*chat));
    let room = scene.rooms.get(name).unwrap();
    // Whom the directory ties to the address owns it, and nobody finds it in a list.
    let jid = Who::Jid(BareJid::new("alice@example.org").unwrap());
    assert_eq!(room.affiliation(&jid), Affiliation::Owner);
    assert!(room.configured && !room.settings.public && !room.settings.persistent);
    // Others call it by its own address.
    alice.learn(&ok);
    scene.send(&alice.ack(""));
    let bob = Phone { uri: format!("sip:{}@conf.example.org", name.as_str()), ..caller("bob", 2) };
    assert_eq!(only_response(&scene.send(&bob.invite(OFFER))).status.code(), 200);
    assert_eq!(scene.rooms.get(name).unwrap().people.len(), 2);
    // A second call makes another.
    assert_eq!(only_response(&scene.send(&caller("carol", 3).invite(OFFER))).status.code(), 200);
    assert_eq!(made(&scene).len(), 2);
}

#[test]
fn it_is_gone_with_the_last_one() {
    let mut scene = scene(Auth::Open, FactoryAnswer::Accept);
    let mut alice = caller("alice", 1);
    let ok = only_response(&scene.send(&alice.invite(OFFER)));
    alice.learn(&ok);
    scene.send(&alice.ack(""));
    let name = made(&scene).remove(0);
    // A mere claim owns nothing.
    let who = Who::Aor("sip:alice@example.org".parse().unwrap());
    assert_eq!(scene.rooms.get(&name).unwrap().affiliation(&who), Affiliation::None);
    scene.send(&alice.next().request("BYE", "", ""));
    assert_eq!(made(&scene), []);
}

#[test]
fn whom_it_sends_on_is_let_in_and_nobody_else() {
    let mut scene = scene(Auth::Open, FactoryAnswer::Redirect);
    let moved = only_response(&scene.send(&caller("alice", 1).invite(OFFER)));
    assert_eq!(moved.status.code(), 302);
    let contact = moved.headers.contact().unwrap().unwrap();
    assert!(moved.headers.get(&Name::CONTACT).unwrap().ends_with(";isfocus"));
    assert_eq!((made(&scene).len(), scene.focus.legs.len()), (0, 0), "nothing exists yet");
    let to = |user: &str, id| Phone { uri: contact.uri.to_string(), ..Phone::new(user, id) };
    assert_eq!(only_response(&scene.send(&to("bob", 2).invite(OFFER))).status.code(), 404);
    assert_eq!(only_response(&scene.send(&to("alice", 3).invite(OFFER))).status.code(), 200);
    assert_eq!(made(&scene).len(), 1);
    // Not for ever.
    let moved = only_response(&scene.send(&caller("alice", 4).invite(OFFER)));
    let uri = moved.headers.contact().unwrap().unwrap().uri.to_string();
    scene.wait(Duration::from_secs(33));
    let late = Phone { uri, ..Phone::new("alice", 5) };
    assert_eq!(only_response(&scene.send(&late.invite(OFFER))).status.code(), 404);
    assert!(scene.focus.promises.is_empty());
}

#[test]
fn who_may_have_one() {
    let check = |change: &dyn Fn(&mut Policy), phone: &Phone, sdp: &str, expected: &str| {
        let mut scene = scene(Auth::Open, FactoryAnswer::Accept);
        let mut policy = scene.rooms.policy().clone();
        change(&mut policy);
        scene.rooms.set_policy(scene.now, policy);
        let refusal = only_response(&scene.send(&phone.invite(sdp)));
        assert_eq!(format!("{} {}", refusal.status, refusal.reason), expected);
        let made = made(&scene).len();
        assert_eq!(made, usize::from(expected.starts_with('2')), "what is refused makes nothing");
    };
    let admins = |policy: &mut Policy| policy.creation = Creation::Admins;
    let alice_is_one = |policy: &mut Policy| {
        policy.creation = Creation::Admins;
        let jid = BareJid::new("alice@example.org").unwrap();
        policy.admins = std::sync::Arc::new([jid].into());
    };
    let full = |policy: &mut Policy| policy.max_rooms = 1;
    let none = |policy: &mut Policy| policy.max_rooms_of_one = 0;
    check(&admins, &caller("bob", 1), OFFER, "403 May Not Create Conferences");
    check(&admins, &vouched("alice", 1), OFFER, "403 May Not Create Conferences");
    check(&alice_is_one, &vouched("alice", 1), OFFER, "200 OK");
    check(&full, &vouched("alice", 1), OFFER, "486 Too Many Calls");
    check(&none, &vouched("alice", 1), OFFER, "486 Too Many Calls");
    check(&none, &caller("bob", 1), OFFER, "486 Too Many Calls");
    check(&|_| {}, &caller("bob", 1), VIDEO, "488 Not Acceptable Here");
    // Without a factory it is a conference that there is not.
    let mut scene = Scene::open();
    let refusal = only_response(&scene.send(&caller("bob", 1).invite(OFFER)));
    assert_eq!(refusal.status.code(), 404);
}
