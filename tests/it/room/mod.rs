//! The room itself, without any face: who may come, who may do what to whom, and what becomes of it.

mod dial;
mod model;

use std::sync::Arc;
use std::time::Duration;

use cusaxd::clock::Now;
use cusaxd::id::{LegId, Nick, PersonId, RoomName};
use cusaxd::room::avatar::Avatar;
use cusaxd::room::hats::Look;
use cusaxd::room::history::Payload;
use cusaxd::room::person::{Caller, Level, Person, Proof, Who};
use cusaxd::room::settings::{MAX_HISTORY, MAX_SLOW_MODE_S, Registration, Settings};
use cusaxd::room::standing::{Affiliation, Role};
use cusaxd::room::{
    Arrival, By, Change, Command, Creation, Departure, Ending, Fact, Intake, Invited, Policy,
    Refusal, RequestEnd, Room, RoomEnd, Rooms,
};

use Affiliation::{Admin, Member, Outcast, Owner};
use Role::{Moderator, Participant, Visitor};

/// A room that `owner@example.org` made and sits in as `Owner`.
pub(crate) struct World {
    pub(crate) rooms: Rooms,
    pub(crate) now: Now,
    pub(crate) room: RoomName,
    next_leg: u64,
}

pub(crate) fn policy() -> Policy {
    Policy { admins: Arc::new([jid("root")].into()), ..Policy::default() }
}

/// `juliet`, or `juliet/tablet`, at example.org; or a whole address.
pub(crate) fn chat(who: &str) -> By {
    let (user, resource) = who.split_once('/').unwrap_or((who, "pc"));
    let at = if user.contains('@') { "" } else { "@example.org" };
    By::Chat(format!("{user}{at}/{resource}").parse().unwrap())
}

pub(crate) fn jid(user: &str) -> jid::BareJid {
    format!("{user}@example.org").parse().unwrap()
}

/// A JID by its user, an address with `sip:`, a domain with `@`.
pub(crate) fn who(text: &str) -> Who {
    match (text.starts_with("sip:"), text.strip_prefix('@')) {
        (true, _) => Who::Aor(text.parse().unwrap()),
        (false, Some(domain)) => Who::Jid(domain.parse().unwrap()),
        (false, None) => Who::Jid(jid(text)),
    }
}

pub(crate) fn nick(text: &str) -> Nick {
    Nick::new(text).unwrap()
}

pub(crate) fn operator() -> By {
    By::Operator("test".to_owned())
}

fn enter(text: &str) -> Command {
    Command::EnterChat { nick: nick(text), password: None }
}

fn enter_with(text: &str, password: &str) -> Command {
    Command::EnterChat { nick: nick(text), password: Some(password.to_owned()) }
}

pub(crate) fn caller(who: Who) -> Caller {
    let aor = match &who {
        Who::Aor(aor) => Some(aor.clone()),
        Who::Jid(_) | Who::Unknown(_) => None,
    };
    Caller { who, aor, name: None, proof: Proof::Digest, private: false }
}

fn call(leg: u64, caller: Caller) -> Command {
    Command::Call { leg: LegId(leg), caller, password: None, media_agreed: true }
}

pub(crate) fn role(of: &str, role: Option<Role>) -> Change {
    Change::Role { nick: nick(of), role, reason: None }
}

pub(crate) fn affiliate(of: &str, affiliation: Affiliation) -> Change {
    Change::Affiliation { who: who(of), affiliation, reason: None }
}

fn kick(of: &str) -> Command {
    Command::Moderate(vec![role(of, None)])
}

fn give(of: &str, affiliation: Affiliation) -> Command {
    Command::Moderate(vec![affiliate(of, affiliation)])
}

fn let_speak(of: &str, on: bool) -> Command {
    Command::Moderate(vec![role(of, Some(if on { Participant } else { Visitor }))])
}

pub(crate) fn said() -> Payload {
    let stanza = "<message xmlns='jabber:client'><body>x</body></message>".parse().unwrap();
    Payload { stanza: Arc::new(stanza), lasting: true, text: true, stanza_id: None }
}

fn say() -> Command {
    Command::Say { id: None, payload: said() }
}

const HANG_UP: Command = Command::HangUp { ending: Ending::Departed };

impl World {
    pub(crate) fn new() -> Self {
        Self::under(policy())
    }

    fn under(policy: Policy) -> Self {
        let room = RoomName::new("talk").unwrap();
        let (rooms, now) = (Rooms::new(policy), Now::read());
        let mut world = Self { rooms, now, room, next_leg: 1 };
        world.does(&chat("owner"), enter("Owner"));
        world
    }

    /// The room with these settings.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut world = Self::new();
        world.configure(change);
        world
    }

    fn configure(&mut self, change: impl FnOnce(&mut Settings)) -> Vec<Fact> {
        let mut settings = self.room().settings.clone();
        change(&mut settings);
        self.does(&chat("owner"), Command::Configure(Box::new(settings)))
    }

    pub(crate) fn room(&self) -> &Room {
        self.rooms.get(&self.room).expect("the room is there")
    }

    /// Every room as it is.
    pub(crate) fn all(&self) -> Vec<Room> {
        self.rooms.iter().cloned().collect()
    }

    pub(crate) fn tries(&mut self, by: &By, command: Command) -> Result<Vec<Fact>, Refusal> {
        self.now = self.now + Duration::from_secs(1);
        let before = self.all();
        let result = self.rooms.apply(self.now, &self.room, by, command.clone());
        if result.is_err() {
            assert_eq!(self.all(), before, "{command:?} by {by:?} was refused and changed a thing");
        }
        result
    }

    fn does(&mut self, by: &By, command: Command) -> Vec<Fact> {
        let wish = format!("{command:?} by {by:?}");
        match self.tries(by, command) {
            Ok(facts) => facts,
            Err(refusal) => panic!("{wish}: {refusal:?}"),
        }
    }

    #[track_caller]
    fn refuses(&mut self, by: &By, command: Command, refusal: Refusal) {
        let wish = format!("{command:?} by {by:?}");
        assert_eq!(self.tries(by, command), Err(refusal), "{wish}");
    }

    /// Someone comes in by chat, under the nick that is their name with a capital.
    fn comes(&mut self, user: &str) -> PersonId {
        let mut name = user.split(['@', '/']).next().unwrap().to_owned();
        name[..1].make_ascii_uppercase();
        self.does(&chat(user), enter(&name));
        self.room().by_nick(&nick(&name)).unwrap().id
    }

    /// Someone calls; gives the leg.
    fn calls(&mut self, from: &str) -> By {
        let caller = caller(who(from));
        self.dials(caller)
    }

    fn dials(&mut self, caller: Caller) -> By {
        let leg = self.next_leg;
        self.next_leg += 1;
        self.does(&By::Leg(LegId(leg)), call(leg, caller));
        By::Leg(LegId(leg))
    }

    fn person(&self, text: &str) -> &Person {
        self.room().by_nick(&nick(text)).unwrap_or_else(|| panic!("no {text}"))
    }

    /// Whether what a leg sends is heard.
    fn heard(&self, leg: &By) -> bool {
        let By::Leg(leg) = *leg else { panic!("{leg:?} is no leg") };
        self.room().by_leg(leg).is_some_and(|person| person.may_be_heard(leg))
    }

    fn names(&self) -> Vec<String> {
        self.room().people.values().map(|person| person.nick.to_string()).collect()
    }
}

// --- Coming in --------------------------------------------------------------------------------

/// Of all reasons not to let someone in, the first in this list is the one that they are told.
#[test]
fn of_several_reasons_to_stay_out_the_first_is_told() {
    use Refusal::*;
    let chat_order =
        [Draining, NotConfigured, Banned, MembersOnly, WrongPassword, Locked, Full, NickTaken];
    let call_order =
        [Draining, NotConfigured, Banned, MembersOnly, WrongPassword, Locked, Full, NoCommonMedia];
    for (order, by_phone) in [(chat_order, false), (call_order, true)] {
        for set in 0_u32..1 << order.len() {
            let holds = |refusal| {
                order.iter().position(|r| *r == refusal).is_some_and(|bit| set & (1 << bit) != 0)
            };
            if holds(NotConfigured) && (holds(MembersOnly) || holds(WrongPassword) || holds(Full)) {
                continue; // Those are configuration.
            }
            let mut world = World::new();
            if !holds(NotConfigured) {
                world.configure(|settings| {
                    settings.members_only = holds(MembersOnly);
                    settings.password = holds(WrongPassword).then(|| "swordfish".to_owned());
                    settings.max_users = holds(Full).then_some(1);
                });
            }
            if holds(Banned) {
                world.does(&chat("owner"), give("juliet", Outcast));
            }
            if holds(Locked) {
                world.does(&chat("owner"), Command::Lock(true));
            }
            if holds(Draining) {
                world.rooms.set_intake(Intake::Closed);
            }
            let expected = order.into_iter().find(|refusal| holds(*refusal));
            let (by, command) = if by_phone {
                let media_agreed = !holds(NoCommonMedia);
                let (leg, caller) = (LegId(1), caller(who("juliet")));
                (By::Leg(leg), Command::Call { leg, caller, password: None, media_agreed })
            } else {
                (chat("juliet"), enter(if holds(NickTaken) { "OWNER" } else { "Juliet" }))
            };
            let told = world.tries(&by, command).err();
            assert_eq!(told, expected, "{order:?} {set:08b}");
        }
    }
}

#[test]
fn a_room_is_made_by_whom_the_policy_lets() {
    let root = chat("root");
    let check = |policy: Policy, by: &By, command: Command, expected: Result<(), Refusal>| {
        let mut rooms = Rooms::new(policy);
        let name = RoomName::new("new").unwrap();
        let made = rooms.apply(Now::read(), &name, by, command).map(|_| ());
        assert_eq!(made, expected, "{by:?}");
        assert_eq!(rooms.iter().count(), usize::from(expected.is_ok()));
    };
    let admins = || Policy { creation: Creation::Admins, ..policy() };
    let full = || Policy { max_rooms: 0, ..policy() };
    let draining = || Policy { intake: Intake::Draining, ..policy() };
    let keep = || Box::new(Settings { persistent: true, ..Settings::default() });
    check(policy(), &chat("juliet"), enter("J"), Ok(()));
    check(admins(), &chat("juliet"), enter("J"), Err(Refusal::MayNotCreate));
    check(admins(), &root, enter("R"), Ok(()));
    check(admins(), &operator(), Command::Configure(keep()), Ok(()));
    check(full(), &root, enter("R"), Err(Refusal::TooMany));
    check(full(), &operator(), Command::Configure(keep()), Err(Refusal::TooMany));
    check(draining(), &root, enter("R"), Err(Refusal::Draining));
    check(policy(), &chat("juliet"), enter("J (phone)"), Err(Refusal::NickTaken));
    // A call makes no room, and neither does anything else.
    let leg = By::Leg(LegId(1));
    check(policy(), &leg, call(1, caller(who("juliet"))), Err(Refusal::NoSuchRoom));
    check(policy(), &chat("juliet"), Command::Lock(true), Err(Refusal::NoSuchRoom));
    check(policy(), &chat("juliet"), Command::Configure(keep()), Err(Refusal::NoSuchRoom));
    check(policy(), &operator(), Command::Lock(true), Err(Refusal::NoSuchRoom));
}

#[test]
fn one_user_does_not_take_every_room() {
    let mut rooms = Rooms::new(Policy { max_rooms_of_one: 2, ..policy() });
    let mut make = |room: &str, by: &str| {
        let name = RoomName::new(room).unwrap();
        rooms.apply(Now::read(), &name, &chat(by), enter("X")).map(|_| ())
    };
    assert_eq!(make("a", "juliet"), Ok(()));
    assert_eq!(make("b", "juliet/other"), Ok(()));
    assert_eq!(make("c", "juliet"), Err(Refusal::TooMany));
    assert_eq!(make("c", "romeo"), Ok(()));
    for room in ["d", "e", "f"] {
        assert_eq!(make(room, "root"), Ok(()), "service admins make as many as they want");
    }
}

#[test]
fn a_password_is_for_strangers() {
    let mut world = World::with(|settings| settings.password = Some("swordfish".to_owned()));
    let (juliet, phone) = (chat("juliet"), By::Leg(LegId(90)));
    world.refuses(&juliet, enter("Juliet"), Refusal::WrongPassword);
    world.refuses(&juliet, enter_with("Juliet", "Swordfish"), Refusal::WrongPassword);
    world.does(&juliet, enter_with("Juliet", "swordfish"));
    world.refuses(&phone, call(90, caller(who("sip:bob@x"))), Refusal::WrongPassword);
    // Who is here in one way may come in the other, and by another session.
    world.calls("juliet");
    world.does(&chat("juliet/tablet"), enter("Juliet"));
    // Nobody types a password into a phone whom the room knows; in the chat members need it.
    world.does(&chat("owner"), give("romeo", Member));
    world.refuses(&chat("romeo"), enter("Romeo"), Refusal::WrongPassword);
    world.calls("romeo");
    world.does(&chat("romeo"), enter("Romeo"));
    // An empty one is none.
    world.configure(|settings| settings.password = Some(String::new()));
    assert_eq!(world.room().settings.password, None);
    world.comes("mercutio");
}

#[test]
fn a_full_room_has_places_for_its_admins_and_not_for_all_of_them() {
    let mut world = World::with(|settings| settings.max_users = Some(2));
    world.comes("juliet");
    world.refuses(&chat("romeo"), enter("Romeo"), Refusal::Full);
    let stranger = || caller(who("sip:bob@x"));
    world.refuses(&By::Leg(LegId(90)), call(90, stranger()), Refusal::Full);
    // Who is here takes no second place by another way, and does by another nick.
    world.calls("juliet");
    world.does(&chat("juliet/tablet"), enter("Juliet"));
    world.refuses(&chat("juliet/tv"), enter("Capulet"), Refusal::Full);
    for n in 0..10 {
        world.does(&chat("owner"), give(&format!("admin{n}"), Admin));
        world.comes(&format!("admin{n}"));
    }
    world.does(&chat("owner"), give("admin10", Admin));
    world.refuses(&chat("admin10"), enter("Admin10"), Refusal::Full);
    // The service's own limit is above what an owner sets.
    let mut world = World::under(Policy { max_people: 1, ..policy() });
    world.configure(|settings| settings.max_users = Some(100));
    world.refuses(&chat("juliet"), enter("Juliet"), Refusal::Full);
}

#[test]
fn a_locked_room_lets_nobody_new_in() {
    let mut world = World::with(|_| {});
    world.comes("juliet");
    world.does(&chat("owner"), give("tybalt", Admin));
    world.does(&chat("owner"), give("romeo", Member));
    assert_eq!(world.does(&chat("owner"), Command::Lock(true)), [Fact::LockChanged]);
    assert_eq!(world.does(&chat("owner"), Command::Lock(true)), []);
    world.refuses(&chat("romeo"), enter("Romeo"), Refusal::Locked);
    world.refuses(&By::Leg(LegId(90)), call(90, caller(who("romeo"))), Refusal::Locked);
    world.calls("juliet");
    world.does(&chat("juliet/tablet"), enter("Capulet"));
    world.comes("tybalt");
    world.refuses(&chat("juliet"), Command::Lock(false), Refusal::Forbidden);
    world.does(&chat("tybalt"), Command::Lock(false));
    world.comes("romeo");
}

#[test]
fn nicks_have_one_owner() {
    let mut world = World::with(|_| {});
    world.comes("juliet");
    for same in ["Juliet", "JULIET", " juliet "] {
        world.refuses(&chat("romeo"), enter(same), Refusal::NickTaken);
    }
    world.comes("romeo");
    let rename = |text: &str| Command::Rename { nick: nick(text) };
    world.refuses(&chat("romeo"), rename("JULIET"), Refusal::NickTaken);
    world.refuses(&chat("romeo"), enter("Juliet"), Refusal::NickTaken);
    assert_eq!(world.does(&chat("romeo"), rename("Romeo")), []);
    // One's own nick may be written in another way.
    let person = world.person("Romeo").id;
    let renamed = |old: &str| [Fact::Renamed { person, old: nick(old) }];
    assert_eq!(world.does(&chat("romeo"), rename("ROMEO")), renamed("Romeo"));
    assert_eq!(world.does(&chat("romeo"), enter("Montague")), renamed("ROMEO"));
    // The old one is free at once.
    world.does(&chat("mercutio"), enter("Romeo"));
    world.refuses(&chat("tybalt"), rename("Tybalt"), Refusal::NotHere);
}

#[test]
fn what_marks_a_caller_is_no_chat_users_nick() {
    let mut world = World::with(|_| {});
    world.comes("juliet");
    for nick_of_caller in ["Bob (phone)", "bob (PHONE)", "Bob\u{a0}(phone)", "Bob （phone）"] {
        let rename = Command::Rename { nick: nick(nick_of_caller) };
        world.refuses(&chat("juliet"), rename, Refusal::NickTaken);
        world.refuses(&chat("juliet"), enter(nick_of_caller), Refusal::NickTaken);
        world.refuses(&chat("romeo"), enter(nick_of_caller), Refusal::NickTaken);
    }
    // Not even of someone who is on the phone.
    world.calls("romeo");
    world.refuses(&chat("romeo"), enter("Bob (phone)"), Refusal::NickTaken);
    let hidden = Caller { private: true, ..caller(who("mercutio")) };
    world.dials(hidden);
    assert_eq!(world.person("Anonymous (phone)").who, who("mercutio"));
    world.refuses(&chat("mercutio"), enter("Anonymous (phone)"), Refusal::NickTaken);
    world.does(&chat("mercutio"), enter("Mercutio"));
    assert_eq!(world.person("Mercutio").level(), Level::Both);
}

/// A caller's name comes from outside: whatever it is, there is a nick for it, and at once.
#[test]
fn every_caller_gets_a_nick() {
    let long = "x".repeat(500);
    let grows = "\u{fdfa}".repeat(31);
    let names = [
        ("", "Caller"),
        ("Bob", "Bob"),
        ("  Bob  ", "Bob"),
        ("Bob\nBan", "Caller"),
        ("\u{200b} \u{200b}", "Caller"),
        (&long, &long[..44]),
        // Right to left to its end, so nothing can stand behind it (RFC 3454 §6).
        ("שלום", "Caller"),
        ("محمد", "Caller"),
        (&grows, "Caller"),
        ("\u{202e}boB", "Caller"),
        ("Juliet", "Juliet"),
        ("Bob (phone)", "Bob (phone)"),
    ];
    for (name, expected) in names {
        for bound in [false, true] {
            let mut world = World::with(|_| {});
            let mut got = vec![];
            for n in 0..3 {
                let who = match bound {
                    true => Who::Jid(jid(&format!("user{n}"))),
                    false => Who::Aor(format!("sip:{n}@x").parse().unwrap()),
                };
                let leg = world.dials(Caller { name: Some(name.to_owned()), ..caller(who) });
                let By::Leg(leg) = leg else { unreachable!() };
                got.push(world.room().by_leg(leg).unwrap().nick.to_string());
            }
            if !bound {
                let numbered = ["", " 2", " 3"].map(|n| format!("{expected}{n} (phone)"));
                assert_eq!(got, numbered, "{name:?}");
            }
        }
    }
    let mut world = World::with(|_| {});
    for (n, expected) in ["שלום", "Caller", "Caller 2"].into_iter().enumerate() {
        let name = Some("שלום".to_owned());
        world.dials(Caller { name, ..caller(who(&format!("user{n}"))) });
        assert_eq!(world.names().last().unwrap(), expected);
    }
}

#[test]
fn a_caller_who_wants_no_name_has_none() {
    let name = || Some("Bob".to_owned());
    for who in [who("bob"), who("sip:bob@x"), Who::Unknown(LegId(1))] {
        let mut world = World::with(|_| {});
        world.dials(Caller { private: true, name: name(), ..caller(who.clone()) });
        assert_eq!(world.names(), ["Owner", "Anonymous (phone)"], "{who:?}");
    }
}

#[test]
fn sessions_legs_and_nicks_of_one_have_limits() {
    let mut world = World::with(|_| {});
    for n in 0..32 {
        world.does(&chat(&format!("juliet/{n}")), enter("Juliet"));
    }
    world.refuses(&chat("juliet/32"), enter("Juliet"), Refusal::TooMany);
    for leg in 0..8 {
        world.does(&By::Leg(LegId(leg)), call(leg, caller(who("juliet"))));
    }
    world.refuses(&By::Leg(LegId(8)), call(8, caller(who("juliet"))), Refusal::TooMany);
    assert_eq!(world.room().people.len(), 2);
    for n in 0..8 {
        world.does(&chat(&format!("romeo/{n}")), enter(&format!("Romeo {n}")));
    }
    world.refuses(&chat("romeo/8"), enter("Romeo 8"), Refusal::TooMany);
    // The same leg does not call twice, for whomever.
    world.refuses(&By::Leg(LegId(3)), call(3, caller(who("juliet"))), Refusal::NotAllowed);
    world.refuses(&By::Leg(LegId(3)), call(3, caller(who("sip:x@x"))), Refusal::NotAllowed);
}

/// XEP-0045 §5.1.2.
#[test]
fn roles_of_newcomers() {
    for (affiliation, moderated, expected) in [
        (Affiliation::None, false, Some(Participant)),
        (Affiliation::None, true, Some(Visitor)),
        (Member, false, Some(Participant)),
        (Member, true, Some(Participant)),
        (Admin, false, Some(Moderator)),
        (Admin, true, Some(Moderator)),
        (Owner, false, Some(Moderator)),
        (Owner, true, Some(Moderator)),
        (Outcast, false, None),
        (Outcast, true, None),
    ] {
        for by_phone in [false, true] {
            let mut world = World::with(|settings| settings.moderated = moderated);
            world.does(&chat("owner"), give("juliet", affiliation));
            let (by, command) = match by_phone {
                false => (chat("juliet"), enter("juliet")),
                true => (By::Leg(LegId(1)), call(1, caller(who("juliet")))),
            };
            let came = world.tries(&by, command);
            let role = came.is_ok().then(|| world.person("juliet").role);
            assert_eq!(role, expected, "{affiliation:?}, moderated: {moderated}");
            if role == Some(Visitor) {
                assert!(world.person("juliet").mutes.room.is_some());
                assert!(world.person("juliet").mutes.moderator.is_none());
            } else if role.is_some() {
                assert!(!world.person("juliet").mutes.any());
            }
        }
    }
    let mut world = World::new();
    world.comes("root");
    assert_eq!(world.person("Root").role, Moderator, "service admins own every room");
    assert_eq!(world.room().affiliation(&who("root")), Owner);
}

// --- Who is one with whom ----------------------------------------------------------------------

#[test]
fn chat_first_then_a_call_is_one_person() {
    let mut world = World::with(|_| {});
    let juliet = world.comes("juliet");
    let facts = world.tries(&By::Leg(LegId(9)), call(9, caller(who("juliet"))));
    let entered = Fact::CallEntered { person: juliet, leg: LegId(9), arrival: Arrival::Joined };
    assert_eq!(facts, Ok(vec![entered]));
    assert_eq!(world.person("Juliet").level(), Level::Both);
    // Either way may end first.
    let left = world.does(&chat("juliet"), Command::LeaveChat);
    let session = "juliet@example.org/pc".parse().unwrap();
    assert_eq!(left, [Fact::ChatLeft { person: juliet, chat: session, lost: false }]);
    assert_eq!(world.person("Juliet").level(), Level::Audio);
    let gone = world.does(&By::Leg(LegId(9)), HANG_UP);
    assert!(
        matches!(&gone[..], [Fact::Gone { was, departure: Departure::Left, .. }] if was.id == juliet)
    );
}

#[test]
fn a_call_first_then_chat_under_another_nick_is_one_person() {
    let mut world = World::with(|_| {});
    let leg = world.calls("juliet");
    let person = world.person("juliet").id;
    let session: jid::FullJid = "juliet@example.org/pc".parse().unwrap();
    assert_eq!(
        world.does(&chat("juliet"), enter("Capulet")),
        [
            Fact::Renamed { person, old: nick("juliet") },
            Fact::ChatEntered { person, chat: session.clone(), arrival: Arrival::Joined },
        ]
    );
    assert_eq!(world.names(), ["Owner", "Capulet"]);
    // The chat has the nick now: another session's nick is another person.
    let second = world.does(&chat("juliet/tablet"), enter("Capulet"));
    assert!(matches!(second[..], [Fact::ChatEntered { arrival: Arrival::Joined, .. }]));
    assert!(matches!(
        world.does(&chat("juliet/tv"), enter("Nurse"))[..],
        [Fact::ChatEntered { arrival: Arrival::New, .. }]
    ));
    assert!(world.heard(&leg));
    // The nick that was wanted may be another's.
    world.calls("romeo");
    world.refuses(&chat("romeo"), enter("Capulet"), Refusal::NickTaken);
    assert_eq!(world.person("romeo").level(), Level::Audio);
    // The same session once more asks to be told again.
    let again = Fact::ChatEntered { person, chat: session, arrival: Arrival::Again };
    assert_eq!(world.does(&chat("juliet"), enter("Capulet")), [again]);
}

#[test]
fn unbound_callers_are_people_of_their_own() {
    let mut world = World::with(|_| {});
    let bob = world.calls("sip:bob@x");
    world.dials(Caller { name: Some("Bob".to_owned()), ..caller(who("sip:bob@y")) });
    let unknown = |leg| Caller { private: true, ..caller(Who::Unknown(LegId(leg))) };
    world.does(&By::Leg(LegId(91)), call(91, unknown(91)));
    world.does(&By::Leg(LegId(92)), call(92, unknown(92)));
    let expected =
        ["Owner", "Caller (phone)", "Bob (phone)", "Anonymous (phone)", "Anonymous 2 (phone)"];
    assert_eq!(world.names(), expected);
    // A second call of one address is the same person's, and so is one after hanging up.
    let other = world.calls("sip:bob@X");
    assert_eq!(world.person("Caller (phone)").legs.len(), 2);
    let left = world.does(&bob, HANG_UP);
    assert!(matches!(left[..], [Fact::CallLeft { .. }]));
    let failed = Ending::Failed { status: 408, text: "no media".to_owned() };
    let gone = world.does(&other, Command::HangUp { ending: failed });
    assert!(matches!(&gone[..], [Fact::Gone { departure: Departure::Lost, reason: Some(why), .. }]
            if why == "no media"));
    world.refuses(&other, HANG_UP, Refusal::NotHere);
}

#[test]
fn who_moves_to_another_device_keeps_place_mutes_and_name() {
    let mut world = World::with(|settings| settings.max_users = Some(2));
    let replace = |leg: u64, old: u64, caller: Caller, media_agreed| {
        let (leg, old) = (LegId(leg), LegId(old));
        Command::Replace { leg, old, caller, password: None, media_agreed }
    };
    let bob = || caller(who("sip:bob@x"));
    world.does(&By::Leg(LegId(70)), call(70, bob()));
    let name = world.names().last().unwrap().clone();
    let person = world.person(&name).id;
    world.does(&chat("owner"), Command::Mute { person, on: true });
    // The room is full, and locked: it is no arrival.
    world.does(&chat("owner"), Command::Lock(true));
    let by = By::Leg(LegId(71));
    world.refuses(&by, replace(71, 70, bob(), false), Refusal::NoCommonMedia);
    world.refuses(&by, replace(71, 99, bob(), true), Refusal::NoSuchCall);
    world.refuses(&by, replace(71, 70, caller(who("sip:eve@x")), true), Refusal::Forbidden);
    let facts = world.does(&by, replace(71, 70, bob(), true));
    assert!(
        matches!(
            facts[..],
            [
                Fact::CallEntered { leg: LegId(71), arrival: Arrival::Joined, .. },
                Fact::CallLeft { leg: LegId(70), ending: Ending::Replaced, .. },
            ]
        ),
        "{facts:?}"
    );
    assert_eq!(world.names().last(), Some(&name));
    assert!(!world.heard(&by), "a mute goes along");
    world.refuses(&By::Leg(LegId(70)), HANG_UP, Refusal::NotHere);
}

#[test]
fn two_nicks_of_one_jid_have_one_voice() {
    let mut world = World::with(|_| {});
    world.comes("juliet");
    world.does(&chat("juliet/tablet"), enter("Nurse"));
    let leg = world.calls("juliet");
    assert!(world.heard(&leg));
    world.does(&chat("owner"), let_speak("Juliet", false));
    for name in ["Juliet", "Nurse"] {
        assert_eq!(world.person(name).role, Visitor);
        assert!(world.person(name).mutes.moderator.is_some());
    }
    assert!(!world.heard(&leg));
    world.refuses(&chat("juliet/tablet"), say(), Refusal::NoVoice);
    // Neither a third nick nor another call, nor coming back, is a way around.
    world.does(&chat("juliet/tv"), enter("Friar"));
    assert_eq!(world.person("Friar").role, Visitor);
    let second = world.calls("juliet");
    assert!(!world.heard(&second));
    for session in ["juliet", "juliet/tablet", "juliet/tv"] {
        world.does(&chat(session), Command::LeaveChat);
    }
    world.does(&leg, HANG_UP);
    world.does(&second, HANG_UP);
    assert_eq!(world.names(), ["Owner"]);
    world.comes("juliet/new");
    let third = world.calls("juliet");
    assert!(!world.heard(&third));
    assert_eq!(world.person("Juliet").role, Visitor);
    // Voice, once given, is given for good: nothing stale is remembered.
    world.does(&chat("juliet/tv"), enter("Friar"));
    world.does(&chat("juliet/new"), Command::LeaveChat);
    world.does(&third, HANG_UP);
    world.does(&chat("owner"), let_speak("Friar", true));
    world.does(&chat("juliet/tv"), Command::LeaveChat);
    world.comes("juliet");
    assert_eq!(world.person("Juliet").role, Participant);
    assert!(!world.person("Juliet").mutes.any());
}

// --- Going out ---------------------------------------------------------------------------------

#[test]
fn sessions_end_one_by_one() {
    let mut world = World::with(|_| {});
    let person = world.comes("juliet");
    world.does(&chat("juliet/tablet"), enter("Juliet"));
    world.refuses(&chat("juliet/tv"), Command::LeaveChat, Refusal::NotHere);
    let lost = "juliet@example.org/tablet".parse().unwrap();
    let lose = |chat: &jid::FullJid| Command::LoseChat { chat: chat.clone() };
    assert_eq!(
        world.does(&By::Server, lose(&lost)),
        [Fact::ChatLeft { person, chat: lost.clone(), lost: true }]
    );
    world.refuses(&By::Server, lose(&lost), Refusal::NotHere);
    let last = "juliet@example.org/pc".parse().unwrap();
    let gone = world.does(&By::Server, lose(&last));
    assert!(matches!(gone[..], [Fact::Gone { departure: Departure::Lost, .. }]));
}

#[test]
fn rooms_end_when_they_are_empty_or_given_up_or_destroyed() {
    let ends = |facts: &[Fact]| match facts.last() {
        Some(Fact::Destroyed { people, end }) => Some((people.len(), end.clone())),
        _ => None,
    };
    // Never configured: by leaving, and by cancelling.
    let mut world = World::new();
    let facts = world.does(&chat("owner"), Command::LeaveChat);
    assert_eq!(ends(&facts), Some((0, RoomEnd::NeverConfigured)));
    let mut world = World::new();
    let facts = world.does(&chat("owner"), Command::CancelConfiguration);
    assert_eq!(ends(&facts), Some((1, RoomEnd::NeverConfigured)));
    assert!(world.room().has_ended());
    // What ended is no more to anyone, though its last facts can be shown.
    world.refuses(&chat("owner"), Command::Lock(true), Refusal::NoSuchRoom);
    world.rooms.sweep();
    assert!(world.rooms.get(&world.room).is_none());

    let mut world = World::with(|_| {});
    world.comes("juliet");
    let leg = world.calls("romeo");
    assert_eq!(world.does(&chat("owner"), Command::CancelConfiguration), [], "it was configured");
    world.refuses(&chat("juliet"), Command::CancelConfiguration, Refusal::Forbidden);
    let destroy = |alternate: Option<jid::BareJid>| Command::Destroy {
        reason: Some("late".to_owned()),
        alternate,
    };
    for by in [&chat("juliet"), &leg, &chat("stranger")] {
        world.refuses(by, destroy(None), Refusal::Forbidden);
    }
    let facts = world.does(&chat("owner/elsewhere"), destroy(Some(jid("next"))));
    let end = RoomEnd::Destroyed { reason: Some("late".to_owned()), alternate: Some(jid("next")) };
    assert_eq!(ends(&facts), Some((3, end)));

    // The last to leave a temporary room ends it, whether by chat, phone, or by the door.
    let mut world = World::with(|_| {});
    let leg = world.calls("sip:bob@x");
    assert_eq!(ends(&world.does(&chat("owner"), Command::LeaveChat)), None);
    assert_eq!(ends(&world.does(&leg, HANG_UP)), Some((0, RoomEnd::Emptied)));
    let mut world = World::with(|_| {});
    assert_eq!(ends(&world.does(&operator(), kick("Owner"))), Some((0, RoomEnd::Emptied)));
    // A persistent one stays, until it is made temporary.
    let mut world = World::with(|settings| settings.persistent = true);
    assert_eq!(ends(&world.does(&chat("owner"), Command::LeaveChat)), None);
    let facts = world.configure(|settings| settings.persistent = false);
    assert_eq!(ends(&facts), Some((0, RoomEnd::Emptied)));
}

#[test]
fn a_shutdown_throws_everyone_out_and_keeps_the_door_shut() {
    let mut world = World::with(|_| {});
    world.comes("juliet");
    world.calls("sip:bob@x");
    let told = world.rooms.shut_down();
    let [(room, facts)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*room, world.room);
    assert_eq!(facts.len(), 3);
    let shutdown = |fact: &Fact| matches!(fact, Fact::Gone { departure: Departure::Shutdown, .. });
    assert!(facts.iter().all(shutdown));
    world.refuses(&chat("juliet"), enter("Juliet"), Refusal::Draining);
}

// --- Keeping order -----------------------------------------------------------------------------

/// Who may do what to whom: the whole of XEP-0045 §5.1.1, §5.2.1 and the guards of §8.2 to §10.4.
///
/// A line of `hierarchy.txt` for each asker and each target. Columns: kick, visitor, participant, moderator; outcast,
/// none, member, admin, owner. `+` done, `F` forbidden (the asker lacks the power), `N` not allowed
/// (the target is protected), `S` not to oneself.
#[test]
fn the_whole_hierarchy() {
    let askers = [
        ("visitor", Affiliation::None, Some(Visitor)),
        ("participant", Affiliation::None, Some(Participant)),
        ("moderator", Affiliation::None, Some(Moderator)),
        ("member", Member, Some(Participant)),
        ("member moderator", Member, Some(Moderator)),
        ("admin", Admin, Some(Moderator)),
        ("owner", Owner, Some(Moderator)),
        ("absent stranger", Affiliation::None, None),
        ("absent member", Member, None),
        ("absent admin", Admin, None),
        ("absent owner", Owner, None),
        ("operator", Owner, None),
    ];
    let targets = [
        ("visitor", Affiliation::None, Visitor),
        ("participant", Affiliation::None, Participant),
        ("moderator", Affiliation::None, Moderator),
        ("member", Member, Participant),
        ("member moderator", Member, Moderator),
        ("admin", Admin, Moderator),
        ("owner", Owner, Moderator),
        ("service admin", Owner, Moderator),
        ("self", Affiliation::None, Visitor),
    ];
    let mut table = String::new();
    for (asker, affiliation, asker_role) in askers {
        for (target, target_affiliation, target_role) in targets {
            let is_self = target == "self";
            if is_self && asker_role.is_none() {
                continue;
            }
            let mut line = format!("{asker:16} | {target:16} | ");
            for column in 0..9 {
                let mut world = World::with(|_| {});
                let set_up = |world: &mut World, name: &str, affiliation, role_wanted| {
                    world.comes(name);
                    if affiliation != Affiliation::None {
                        world.does(&operator(), give(name, affiliation));
                    }
                    if let Some(wanted) = role_wanted {
                        let current = world.room().by_nick(&nick(name)).unwrap().role;
                        if current != wanted {
                            let change = Command::Moderate(vec![role(name, Some(wanted))]);
                            world.does(&operator(), change);
                        }
                    } else {
                        world.does(&chat(name), Command::LeaveChat);
                    }
                };
                let by = if asker == "operator" {
                    operator()
                } else {
                    set_up(&mut world, "asker", affiliation, asker_role);
                    chat("asker")
                };
                let name = match target {
                    "self" => "asker",
                    "service admin" => "root",
                    _ => "target",
                };
                match target {
                    "self" => {}
                    "service admin" => drop(world.comes("root")),
                    _ => set_up(&mut world, name, target_affiliation, Some(target_role)),
                }
                let change = match column {
                    0 => role(name, None),
                    1 => role(name, Some(Visitor)),
                    2 => role(name, Some(Participant)),
                    3 => role(name, Some(Moderator)),
                    4 => affiliate(name, Outcast),
                    5 => affiliate(name, Affiliation::None),
                    6 => affiliate(name, Member),
                    7 => affiliate(name, Admin),
                    _ => affiliate(name, Owner),
                };
                if column == 4 {
                    line.push(' ');
                }
                line.push(match world.tries(&by, Command::Moderate(vec![change])) {
                    Ok(_) => '+',
                    Err(Refusal::Forbidden) => 'F',
                    Err(Refusal::NotAllowed) => 'N',
                    Err(Refusal::NotToYourself) => 'S',
                    Err(other) => panic!("{line}: {other:?}"),
                });
            }
            table.push_str(&line);
            table.push('\n');
        }
    }
    let expected = include_str!("hierarchy.txt");
    for (actual, expected) in table.lines().zip(expected.lines()) {
        assert_eq!(actual, expected);
    }
    assert_eq!(table.lines().count(), expected.lines().count(), "{table}");
}

#[test]
fn changes_are_made_all_or_none() {
    let mut world = World::with(|_| {});
    for name in ["juliet", "romeo", "tybalt"] {
        world.comes(name);
    }
    world.does(&chat("owner"), give("tybalt", Admin));
    let mut refuses = |changes: Vec<Change>, refusal| {
        world.refuses(&chat("tybalt"), Command::Moderate(changes), refusal);
    };
    let fine = || role("Juliet", None);
    refuses(vec![fine(), role("Owner", None)], Refusal::NotAllowed);
    refuses(vec![fine(), role("Nobody", None)], Refusal::NoSuchPerson);
    refuses(vec![fine(), affiliate("romeo", Admin)], Refusal::Forbidden);
    refuses(vec![fine(), affiliate("tybalt", Outcast)], Refusal::NotToYourself);
    refuses(vec![affiliate("romeo", Outcast), affiliate("owner", Outcast)], Refusal::NotAllowed);
    // Each is held against what those before it made.
    let owner = chat("owner");
    let changes = vec![affiliate("juliet", Admin), role("Juliet", Some(Visitor))];
    world.refuses(&owner, Command::Moderate(changes), Refusal::NotAllowed);
    let changes = vec![affiliate("tybalt", Affiliation::None), role("Tybalt", Some(Visitor))];
    world.does(&owner, Command::Moderate(changes));
    assert_eq!(world.person("Tybalt").role, Visitor);
    // Who is out by one change need not be thrown out by the next, nor does that fail.
    let changes = vec![affiliate("romeo", Outcast), role("Romeo", None), role("Juliet", None)];
    world.does(&owner, Command::Moderate(changes));
    assert_eq!(world.names(), ["Owner", "Tybalt"]);
    assert_eq!(world.does(&owner, Command::Moderate(vec![])), []);
}

#[test]
fn a_room_keeps_an_owner() {
    let mut world = World::with(|_| {});
    let owner = chat("owner");
    for lower in [Affiliation::None, Member, Admin] {
        world.refuses(&owner, give("owner", lower), Refusal::LastOwner);
        world.refuses(&operator(), give("owner", lower), Refusal::LastOwner);
    }
    world.refuses(&operator(), give("owner", Outcast), Refusal::LastOwner);
    // A domain, or nobody, owns nothing.
    world.refuses(&owner, give("@example.org", Owner), Refusal::NotAllowed);
    world.refuses(&owner, give("@example.org", Admin), Refusal::NotAllowed);
    // Handing over in one set works in either order, and not to nobody.
    for changes in [
        vec![affiliate("owner", Admin), affiliate("juliet", Owner)],
        vec![affiliate("owner", Owner), affiliate("juliet", Admin)],
    ] {
        world.does(&operator(), Command::Moderate(changes));
    }
    let changes =
        vec![affiliate("romeo", Owner), affiliate("owner", Member), affiliate("romeo", Member)];
    world.refuses(&operator(), Command::Moderate(changes), Refusal::LastOwner);
    // Service admins own every room, and no room says otherwise.
    for other in [Outcast, Affiliation::None, Member, Admin] {
        world.refuses(&owner, give("root", other), Refusal::NotAllowed);
    }
    // A room that an operator made has no owner to keep.
    let mut rooms = Rooms::new(policy());
    let name = RoomName::new("made").unwrap();
    let settings = Settings { persistent: true, ..Settings::default() };
    let now = Now::read();
    let mut apply = |command| rooms.apply(now, &name, &operator(), command);
    apply(Command::Configure(Box::new(settings))).unwrap();
    apply(give("juliet", Member)).unwrap();
    apply(give("juliet", Owner)).unwrap();
    assert_eq!(apply(give("juliet", Member)), Err(Refusal::LastOwner));
}

#[test]
fn bans_reach_everyone_they_name() {
    let mut world = World::with(|_| {});
    let owner = chat("owner");
    world.comes("juliet");
    world.does(&chat("juliet/tablet"), enter("Nurse"));
    world.calls("juliet");
    let facts = world.does(&owner, give("juliet", Outcast));
    assert!(matches!(facts[0], Fact::AffiliationChanged { new: Outcast, .. }));
    let banned = |fact: &Fact| matches!(fact, Fact::Gone { departure: Departure::Banned, .. });
    assert_eq!(facts.iter().filter(|fact| banned(fact)).count(), 2);
    assert_eq!(world.names(), ["Owner"]);
    assert_eq!(world.does(&owner, give("juliet", Outcast)), [], "it is so already");
    world.refuses(&chat("juliet/other"), enter("J"), Refusal::Banned);
    world.refuses(&By::Leg(LegId(90)), call(90, caller(who("juliet"))), Refusal::Banned);
    world.does(&owner, give("juliet", Affiliation::None));
    world.comes("juliet");

    // A caller by address, whoever that address is bound to later, unless that one has power.
    world.calls("sip:bob@x");
    world.does(&owner, give("sip:bob@x", Outcast));
    world.refuses(&By::Leg(LegId(90)), call(90, caller(who("sip:bob@X:5070"))), Refusal::Banned);
    let bound = |user| Caller { aor: "sip:bob@x".parse().ok(), ..caller(who(user)) };
    world.refuses(&By::Leg(LegId(90)), call(90, bound("bob")), Refusal::Banned);
    world.dials(bound("root"));

    // Nobody in particular: out, and nothing to remember.
    let nobody = Who::Unknown(LegId(91));
    world.does(&By::Leg(LegId(91)), call(91, caller(nobody.clone())));
    for affiliation in [Member, Admin, Owner, Affiliation::None] {
        let change = Change::Affiliation { who: nobody.clone(), affiliation, reason: None };
        world.refuses(&owner, Command::Moderate(vec![change]), Refusal::NotAllowed);
    }
    let ban = Change::Affiliation { who: nobody, affiliation: Outcast, reason: None };
    let facts = world.does(&owner, Command::Moderate(vec![ban]));
    assert!(matches!(facts[..], [Fact::Gone { departure: Departure::Banned, .. }]));
}

/// XEP-0045 §9.1: `user@domain` before `domain`.
#[test]
fn a_domain_is_banned_or_let_in_as_a_whole() {
    let mut world = World::with(|_| {});
    let owner = chat("owner");
    world.comes("juliet@evil.example");
    world.does(
        &owner,
        Command::Moderate(vec![Change::Affiliation {
            who: Who::Jid("known@evil.example".parse().unwrap()),
            affiliation: Member,
            reason: None,
        }]),
    );
    world.comes("known@evil.example");
    world.comes("romeo");
    let facts = world.does(&owner, give("@evil.example", Outcast));
    assert!(matches!(
        &facts[..],
        [Fact::AffiliationChanged { .. }, Fact::Gone { was, departure: Departure::Banned, .. }]
            if was.nick == nick("Juliet")
    ));
    assert_eq!(world.names(), ["Owner", "Known", "Romeo"]);
    world.refuses(&chat("juliet@evil.example"), enter("J"), Refusal::Banned);
    world.refuses(&chat("other@evil.example"), enter("O"), Refusal::Banned);
    world.does(&chat("other@sub.evil.example"), enter("O"));

    world.does(&owner, give("@example.org", Member));
    assert_eq!(world.room().affiliation(&who("romeo")), Member);
    world.configure(|settings| settings.members_only = true);
    assert_eq!(world.names(), ["Owner", "Known", "Romeo"]);
    let facts = world.does(&owner, give("@example.org", Affiliation::None));
    assert!(matches!(
        facts[..],
        [Fact::AffiliationChanged { .. }, Fact::Gone { departure: Departure::MembershipLost, .. }]
    ));
}

#[test]
fn a_room_for_members_holds_members() {
    let mut world = World::with(|settings| settings.moderated = true);
    let owner = chat("owner");
    for name in ["juliet", "romeo"] {
        world.comes(name);
    }
    world.calls("sip:bob@x");
    world.does(&owner, give("romeo", Member));
    let facts = world.configure(|settings| settings.members_only = true);
    assert!(matches!(facts[0], Fact::Configured { first: false, .. }));
    let gone: Vec<_> = facts[1..]
        .iter()
        .filter_map(|fact| {
            let Fact::Gone { was, departure: Departure::MembersOnly, .. } = fact else {
                return None;
            };
            Some(was.nick.to_string())
        })
        .collect();
    assert_eq!(facts.len(), 3);
    assert_eq!(gone, ["Juliet", "Caller (phone)"]);
    world.refuses(&chat("juliet"), enter("Juliet"), Refusal::MembersOnly);
    world.refuses(&By::Leg(LegId(90)), call(90, caller(who("sip:bob@x"))), Refusal::MembersOnly);
    world.does(&owner, give("sip:bob@x", Member));
    world.calls("sip:bob@x");
    assert_eq!(world.person("Caller (phone)").role, Participant);
    let facts = world.does(&owner, give("romeo", Affiliation::None));
    assert!(matches!(facts[1], Fact::Gone { departure: Departure::MembershipLost, .. }));
}

/// XEP-0045 §5.1.3: what becomes of a role when the affiliation changes.
#[test]
fn roles_follow_affiliations() {
    for (moderated, from, to, expected) in [
        (false, Affiliation::None, Member, Participant),
        (true, Affiliation::None, Member, Participant),
        (true, Affiliation::None, Admin, Moderator),
        (true, Affiliation::None, Owner, Moderator),
        (false, Admin, Affiliation::None, Participant),
        (true, Admin, Affiliation::None, Visitor),
        (true, Admin, Member, Participant),
        (true, Owner, Affiliation::None, Visitor),
        (true, Owner, Admin, Moderator),
        (true, Member, Affiliation::None, Participant),
    ] {
        let mut world = World::with(|settings| settings.moderated = moderated);
        world.does(&operator(), give("juliet", from));
        world.comes("juliet");
        let leg = world.calls("juliet");
        world.does(&operator(), give("juliet", to));
        let person = world.person("Juliet");
        assert_eq!(person.role, expected, "{from:?} to {to:?}, moderated: {moderated}");
        assert_eq!(person.mutes.room.is_some(), expected == Visitor);
        assert_eq!(world.heard(&leg), expected > Visitor);
    }
    // A member whose voice was taken stays without; an admin has it.
    let mut world = World::with(|_| {});
    world.comes("juliet");
    world.does(&operator(), let_speak("Juliet", false));
    world.does(&operator(), give("juliet", Member));
    assert_eq!(world.person("Juliet").role, Visitor);
    world.does(&operator(), give("juliet", Admin));
    assert_eq!(world.person("Juliet").role, Moderator);
    assert!(!world.person("Juliet").mutes.any());
    // Also if they were away.
    world.does(&operator(), give("juliet", Member));
    world.does(&operator(), let_speak("Juliet", false));
    world.does(&chat("juliet"), Command::LeaveChat);
    world.does(&operator(), give("juliet", Admin));
    world.comes("juliet");
    assert_eq!(world.person("Juliet").role, Moderator);
    assert!(!world.person("Juliet").mutes.any());
}

#[test]
fn a_list_of_affiliations_has_a_limit_and_can_shrink() {
    let mut world = World::with(|_| {});
    let many = (1..20_000).map(|n| affiliate(&format!("user{n}"), Member)).collect();
    world.does(&operator(), Command::Moderate(many));
    world.refuses(&operator(), give("juliet", Member), Refusal::TooMany);
    world.refuses(&operator(), give("juliet", Outcast), Refusal::TooMany);
    world.does(&operator(), give("user1", Outcast));
    world.does(&operator(), give("user2", Affiliation::None));
    world.does(&operator(), give("juliet", Outcast));
}

/// Whose call is proven too badly is who they are, and may do what anybody may.
#[test]
fn a_call_below_the_identity_floor_has_no_part_in_what_its_user_may_do() {
    let proven = |of: &str, proof| Caller { proof, ..caller(who(of)) };
    for floor in [Proof::Claimed, Proof::Dialled, Proof::Asserted, Proof::Digest] {
        for proof in [Proof::Claimed, Proof::Dialled, Proof::Asserted, Proof::Digest] {
            let mut world = World::under(Policy { identity_floor: floor, ..policy() });
            world.configure(|settings| settings.members_only = true);
            let owner = chat("owner");
            world.does(&owner, give("juliet", Member));
            world.does(&owner, give("tybalt", Outcast));
            let enough = proof >= floor;
            let banned = call(50, proven("tybalt", proof));
            world.refuses(&By::Leg(LegId(50)), banned, Refusal::Banned);
            let (leg, member) = (By::Leg(LegId(51)), call(51, proven("juliet", proof)));
            match enough {
                true => drop(world.does(&leg, member)),
                false => world.refuses(&leg, member, Refusal::MembersOnly),
            }
            world.configure(|settings| settings.members_only = false);
            let leg = By::Leg(LegId(52));
            world.does(&leg, call(52, proven("owner", proof)));
            let person = world.person("Owner");
            assert_eq!(
                (person.legs.len(), person.role),
                (1, Moderator),
                "they are one with their chat"
            );
            for command in [Command::Lock(true), Command::MuteAll(true), give("romeo", Member)] {
                match enough {
                    true => drop(world.does(&leg, command)),
                    false => world.refuses(&leg, command, Refusal::Forbidden),
                }
            }
            world.does(&leg, Command::MuteSelf(true));
            world.does(&leg, Command::RaiseHand(true));
            world.does(&owner, Command::Lock(true));
            world.does(&leg, HANG_UP);
        }
    }
}

// --- Voice -------------------------------------------------------------------------------------

#[test]
fn mutes_have_three_origins() {
    let mut world = World::with(|settings| settings.moderated = true);
    world.comes("juliet");
    let (leg, owner) = (world.calls("juliet"), chat("owner"));
    let id = world.person("Juliet").id;
    let origins = |world: &World| {
        let mutes = &world.person("Juliet").mutes;
        (mutes.own.is_some(), mutes.moderator.is_some(), mutes.room.is_some())
    };
    assert_eq!(origins(&world), (false, false, true));
    assert!(!world.heard(&leg));
    world.does(&leg, Command::MuteSelf(true));
    assert_eq!(origins(&world), (true, false, true));
    // Voice undoes what others did, and not what they did themselves.
    let hand = world.does(&leg, Command::RaiseHand(true));
    assert_eq!(hand, [Fact::HandChanged { person: id }, Fact::VoiceRequested { person: id }]);
    let facts = world.does(&owner, let_speak("Juliet", true));
    assert_eq!(origins(&world), (true, false, false));
    assert!(matches!(
        facts[..],
        [Fact::StandingChanged { .. }, Fact::MuteChanged { .. }, Fact::HandChanged { .. }]
    ));
    assert!(!world.heard(&leg));
    world.does(&chat("juliet"), Command::MuteSelf(false));
    assert!(world.heard(&leg));
    assert_eq!(world.does(&chat("juliet"), Command::MuteSelf(false)), []);
    // A mute of the audio alone leaves what they may write.
    let mute = |on| Command::Mute { person: id, on };
    world.does(&operator(), mute(true));
    assert_eq!(world.does(&operator(), mute(true)), []);
    assert_eq!((origins(&world), world.person("Juliet").role), ((false, true, false), Participant));
    world.does(&chat("juliet"), say());
    assert!(!world.heard(&leg));
    world.does(&operator(), mute(false));
    assert!(world.heard(&leg));
    // Voice taken is a mute by who took it, and a room that is open to all gives it back to none
    // of those whom moderators silenced.
    world.does(&owner, let_speak("Juliet", false));
    assert_eq!(origins(&world), (false, true, false));
    let by = world.person("Juliet").mutes.moderator.clone().unwrap().by.unwrap();
    assert_eq!(by.nick, Some(nick("Owner")));
    world.refuses(&chat("juliet"), say(), Refusal::NoVoice);
    world.configure(|settings| settings.moderated = false);
    assert_eq!(origins(&world), (false, true, false));
    // Unmuting gives back the whole of it.
    world.does(&operator(), mute(false));
    assert_eq!(
        (origins(&world), world.person("Juliet").role),
        ((false, false, false), Participant)
    );

    world.does(&owner, give("tybalt", Admin));
    world.comes("tybalt");
    let tybalt = world.person("Tybalt").id;
    let mute = |person, on| Command::Mute { person, on };
    world.refuses(&chat("juliet"), mute(id, false), Refusal::Forbidden);
    world.refuses(&chat("tybalt"), mute(PersonId(1), true), Refusal::NotAllowed);
    world.refuses(&chat("tybalt"), mute(PersonId(99), true), Refusal::NoSuchPerson);
    world.does(&owner, Command::Moderate(vec![role("Juliet", Some(Moderator))]));
    world.refuses(&chat("juliet"), mute(tybalt, true), Refusal::NotAllowed);
    world.does(&chat("tybalt"), mute(id, true));
}

#[test]
fn a_mute_survives_a_redial() {
    for origin in ["own", "moderator", "voice"] {
        for from in ["juliet", "sip:bob@x"] {
            let mut world = World::with(|_| {});
            let leg = world.calls(from);
            let person = world.room().people.values().last().unwrap();
            let (id, name) = (person.id, person.nick.to_string());
            match origin {
                "own" => world.does(&leg, Command::MuteSelf(true)),
                "moderator" => world.does(&operator(), Command::Mute { person: id, on: true }),
                _ => world.does(&chat("owner"), let_speak(&name, false)),
            };
            world.does(&leg, HANG_UP);
            let leg = world.calls(from);
            assert!(!world.heard(&leg), "{origin} {from}");
            let By::Leg(number) = leg else { unreachable!() };
            let role = world.room().by_leg(number).unwrap().role;
            assert_eq!(role, if origin == "voice" { Visitor } else { Participant });
            // It is remembered once, not for ever.
            let mutes = world.room().by_leg(number).unwrap().mutes.clone();
            match origin {
                "own" => world.does(&leg, Command::MuteSelf(false)),
                _ => {
                    let person = world.room().by_leg(number).unwrap().id;
                    world.does(&operator(), Command::Mute { person, on: false })
                }
            };
            world.does(&leg, HANG_UP);
            let leg = world.calls(from);
            assert!(world.heard(&leg), "{origin} {from} {mutes:?}");
        }
    }
}

#[test]
fn voice_given_in_a_moderated_room_lasts_and_default_roles_do_not() {
    let mut world = World::with(|settings| settings.moderated = true);
    world.comes("juliet");
    world.does(&chat("owner"), let_speak("Juliet", true));
    world.does(&chat("juliet"), Command::LeaveChat);
    world.comes("juliet");
    assert_eq!(world.person("Juliet").role, Participant);
    // Who left as everyone is comes back as everyone is by then, muted by themselves or not.
    for (before, after, expected) in [(true, false, Participant), (false, true, Visitor)] {
        let mut world = World::with(|settings| settings.moderated = before);
        world.comes("juliet");
        world.does(&chat("juliet"), Command::MuteSelf(true));
        world.does(&chat("juliet"), Command::LeaveChat);
        world.configure(|settings| settings.moderated = after);
        world.comes("juliet");
        let person = world.person("Juliet");
        assert_eq!(person.role, expected);
        assert_eq!(person.mutes.room.is_some(), expected == Visitor);
        assert!(person.mutes.own.is_some());
    }
}

#[test]
fn a_room_that_is_no_longer_moderated_lets_all_speak() {
    let mut world = World::with(|settings| settings.moderated = true);
    world.comes("juliet");
    world.comes("romeo");
    world.does(&chat("owner"), let_speak("Romeo", false));
    let leg = world.calls("sip:bob@x");
    let facts = world.configure(|settings| settings.moderated = false);
    assert_eq!(facts.len(), 6, "{facts:?}");
    assert_eq!(world.person("Juliet").role, Participant);
    assert!(world.heard(&leg));
    assert_eq!(world.person("Romeo").role, Visitor, "that was a moderator");
    assert!(world.person("Romeo").mutes.room.is_none());
    // The other way round, nobody loses what they have.
    world.configure(|settings| settings.moderated = true);
    assert_eq!(world.person("Juliet").role, Participant);
    world.comes("mercutio");
    assert_eq!(world.person("Mercutio").role, Visitor);
}

#[test]
fn a_leg_on_hold_or_silent_is_not_heard() {
    let mut world = World::with(|_| {});
    let leg = world.calls("juliet");
    let change = |hold, sends| Command::ChangeLeg { hold, sends };
    for (hold, sends, heard) in
        [(true, true, false), (true, false, false), (false, false, false), (false, true, true)]
    {
        let facts = world.does(&leg, change(hold, sends));
        assert!(matches!(facts[..], [Fact::LegChanged { .. }]));
        assert_eq!(world.heard(&leg), heard, "hold {hold}, sends {sends}");
    }
    assert_eq!(world.does(&leg, change(false, true)), []);
    world.refuses(&chat("owner"), change(true, true), Refusal::NotHere);
    world.refuses(&By::Leg(LegId(90)), change(true, true), Refusal::NotHere);
}

// --- Speaking and configuring ------------------------------------------------------------------

#[test]
fn who_may_say_what() {
    let mut world = World::with(|settings| settings.moderated = true);
    world.comes("juliet");
    world.comes("romeo");
    world.does(&chat("owner"), let_speak("Romeo", true));
    world.calls("sip:bob@x");
    let whisper = |to: &str| Command::Whisper { to: nick(to), id: None, payload: said() };
    let subject = || Command::ChangeSubject { id: None, text: "x".to_owned(), payload: said() };
    let (visitor, participant, moderator) = (chat("juliet"), chat("romeo"), chat("owner"));
    let absent = chat("tybalt");
    for (by, command, expected) in [
        (&visitor, say(), Err(Refusal::NoVoice)),
        (&participant, say(), Ok(())),
        (&moderator, say(), Ok(())),
        (&absent, say(), Err(Refusal::NotHere)),
        (&chat("juliet/tablet"), say(), Err(Refusal::NotHere)),
        (&operator(), say(), Err(Refusal::NotHere)),
        (&visitor, whisper("Romeo"), Ok(())),
        (&visitor, whisper("romeo"), Ok(())),
        (&visitor, whisper("Nobody"), Err(Refusal::NoSuchPerson)),
        (&visitor, whisper("Caller (phone)"), Err(Refusal::NoSuchPerson)),
        (&absent, whisper("Romeo"), Err(Refusal::NotHere)),
        (&visitor, subject(), Err(Refusal::Forbidden)),
        (&participant, subject(), Err(Refusal::Forbidden)),
        (&moderator, subject(), Ok(())),
        (&absent, subject(), Err(Refusal::NotHere)),
        (&visitor, Command::RequestVoice, Ok(())),
        (&participant, Command::RequestVoice, Err(Refusal::NotAllowed)),
        (&absent, Command::RequestVoice, Err(Refusal::NotHere)),
        (&visitor, Command::RaiseHand(true), Ok(())),
        (&absent, Command::RaiseHand(true), Err(Refusal::NotHere)),
        (&visitor, Command::ShowPresence, Ok(())),
        (&absent, Command::ShowPresence, Err(Refusal::NotHere)),
        (&absent, Command::MuteSelf(true), Err(Refusal::NotHere)),
        (&absent, Command::LeaveChat, Err(Refusal::NotHere)),
    ] {
        assert_eq!(world.tries(by, command.clone()).map(|_| ()), expected, "{by:?} {command:?}");
    }
    world.configure(|settings| settings.change_subject = true);
    world.does(&participant, subject());
    world.refuses(&visitor, subject(), Refusal::Forbidden);
    // Muted for the call alone, one may ask for voice and write on.
    let person = world.person("Romeo").id;
    world.does(&operator(), Command::Mute { person, on: true });
    world.does(&participant, Command::RequestVoice);
    world.does(&participant, say());
}

#[test]
fn history_keeps_to_its_limit_at_once() {
    let mut world = World::with(|settings| settings.history = 3);
    for _ in 0..5 {
        world.does(&chat("owner"), say());
    }
    let passing = Payload { lasting: false, ..said() };
    world.does(&chat("owner"), Command::Say { id: None, payload: passing });
    let length = |world: &World| world.room().history.iter().count();
    assert_eq!(length(&world), 3);
    let times: Vec<_> = world.room().history.iter().map(|said| said.at).collect();
    assert!(times.is_sorted());
    world.configure(|settings| settings.history = 1);
    assert_eq!(length(&world), 1);
    world.configure(|settings| settings.history = 0);
    assert_eq!(length(&world), 0);
    world.does(&chat("owner"), say());
    assert_eq!(length(&world), 0);
}

#[test]
fn moderators_take_messages_back() {
    let mut world = World::new();
    world.does(&chat("owner"), Command::Configure(Box::default()));
    for user in ["romeo", "nurse"] {
        world.comes(user);
    }
    world.does(&chat("owner"), Command::Moderate(vec![affiliate("friar", Admin)]));
    world.does(&chat("owner"), Command::Moderate(vec![role("Nurse", Some(Moderator))]));
    let under = |id: &str| Payload { stanza_id: Some(id.to_owned()), ..said() };
    let tombstone = Arc::new("<message xmlns='x'/>".parse().unwrap());
    let retract = |id: &str| Command::Retract {
        id: id.to_owned(),
        tombstone: Arc::clone(&tombstone),
        announcement: under("told"),
    };
    for (by, expected) in [
        (chat("romeo"), Err(Refusal::Forbidden)),
        (chat("stranger"), Err(Refusal::Forbidden)),
        (chat("nurse"), Ok(())),
        (chat("friar"), Ok(())),
        (operator(), Ok(())),
    ] {
        world.does(&chat("romeo"), Command::Say { id: None, payload: under("rude") });
        let result = world.tries(&by, retract("rude")).map(|_| ());
        assert_eq!(result, expected, "{by:?}");
        let history: Vec<_> = world.room().history.iter().collect();
        let left = history.iter().rev().nth(usize::from(expected.is_ok())).unwrap();
        assert_eq!(left.payload.stanza == tombstone, expected.is_ok(), "{by:?}");
        assert_eq!(left.can_be_retracted(), expected.is_err(), "{by:?}");
        // For the next one it is another message.
        world.configure(|settings| settings.history = 0);
        world.configure(|settings| settings.history = 20);
    }
}

#[test]
fn settings_are_checked_before_they_hold() {
    let mut world = World::new();
    let bad: [fn(&mut Settings); 9] = [
        |settings| settings.slow_mode_s = MAX_SLOW_MODE_S + 1,
        |settings| settings.lang = "pt_BR".to_owned(),
        |settings| settings.lang = "-".to_owned(),
        |settings| settings.lang = "x".repeat(9),
        |settings| settings.max_users = Some(0),
        |settings| settings.history = MAX_HISTORY + 1,
        |settings| settings.name = "x".repeat(1_025),
        |settings| settings.description = "x".repeat(8 * 1_024 + 1),
        |settings| settings.password = Some("x".repeat(1_025)),
    ];
    for change in bad {
        let mut settings = Settings::default();
        change(&mut settings);
        world.refuses(&chat("owner"), Command::Configure(Box::new(settings)), Refusal::BadSettings);
    }
    assert!(!world.room().configured);
    let facts = world.configure(|_| {});
    assert!(matches!(facts[..], [Fact::Configured { first: true, .. }]));
    assert_eq!(world.configure(|_| {}), [], "nothing changed");
    let facts = world.configure(|settings| settings.name = "Verona".to_owned());
    assert!(matches!(&facts[..], [Fact::Configured { first: false, old }] if old.name.is_empty()));
    world.comes("juliet");
    world.does(&operator(), give("tybalt", Admin));
    let configure = || Command::Configure(Box::default());
    for by in [&chat("juliet"), &chat("tybalt"), &chat("stranger")] {
        world.refuses(by, configure(), Refusal::Forbidden);
    }
    world.does(&chat("owner/elsewhere"), configure());
}

#[test]
fn a_nick_is_kept_for_the_member_who_registered_it() {
    let register = |text: &str| Command::Register { nick: nick(text) };
    let mut world = World::with(|_| {});
    world.does(&chat("juliet"), enter("Juliet"));
    let facts = world.does(&chat("juliet"), register("Rose"));
    assert!(matches!(facts.last(), Some(Fact::NickRegistered { nick: Some(_), .. })), "{facts:?}");
    assert_eq!(world.room().affiliation(&who("juliet")), Member);
    assert_eq!(world.does(&chat("juliet"), register("Rose")), []);

    world.refuses(&chat("romeo"), enter("rose"), Refusal::NickTaken);
    world.refuses(&chat("romeo"), register("ROSE"), Refusal::NickTaken);
    world.refuses(&chat("owner"), Command::Rename { nick: nick("Rose") }, Refusal::NickTaken);
    world.refuses(&chat("romeo"), register("Juliet"), Refusal::NickTaken);
    world.refuses(&operator(), register("Operator"), Refusal::Forbidden);
    world.refuses(&chat("romeo"), Command::Unregister, Refusal::Forbidden);
    world.does(&chat("juliet/tablet"), enter("Rose"));

    // Callers come under other names, and under their own.
    let named = |text: &str, of: Who| Caller { name: Some(text.to_owned()), ..caller(of) };
    world.does(&By::Leg(LegId(7)), call(7, named("Rose", who("tybalt"))));
    assert_eq!(world.room().by_leg(LegId(7)).unwrap().nick, nick("Rose 2"));

    // Another nick frees the first; the end of membership frees any.
    world.does(&chat("juliet"), register("Lily"));
    world.does(&chat("juliet/tablet"), Command::LeaveChat);
    world.does(&chat("romeo"), enter("Rose"));
    let facts = world.does(&chat("owner"), give("juliet", Affiliation::None));
    let freed = Fact::NickRegistered { jid: jid("juliet"), nick: None };
    assert!(facts.contains(&freed), "{facts:?}");
    assert_eq!(world.room().registered_nicks().count(), 0);
}

#[test]
fn registering_is_no_way_around_those_who_make_members() {
    let check = |change: fn(&mut Settings), expected: Result<(), Refusal>| {
        let mut world = World::with(change);
        let register = Command::Register { nick: nick("Romeo") };
        match expected {
            Ok(()) => drop(world.does(&chat("romeo"), register)),
            Err(refusal) => world.refuses(&chat("romeo"), register, refusal),
        }
        world.does(&chat("owner"), give("juliet", Member));
        world.does(&chat("juliet"), Command::Register { nick: nick("Juliet") });
    };
    check(|_| {}, Ok(()));
    check(|it| it.moderated = true, Err(Refusal::MayNotRegister));
    check(|it| it.members_only = true, Err(Refusal::MayNotRegister));
    check(|it| it.password = Some("rose".to_owned()), Err(Refusal::MayNotRegister));

    let mut world = World::new();
    let register = || Command::Register { nick: nick("Romeo") };
    world.refuses(&chat("romeo"), register(), Refusal::NotConfigured);
    world.configure(|_| {});
    world.does(&chat("owner"), give("romeo", Outcast));
    world.refuses(&chat("romeo"), register(), Refusal::MayNotRegister);
    // Whoever knew the password may.
    let mut world = World::with(|it| it.password = Some("rose".to_owned()));
    world.does(&chat("romeo"), enter_with("Romeo", "rose"));
    world.does(&chat("romeo"), register());
}

/// XEP-0045 §9.9: who may, what is kept until then, and what ends it.
#[test]
fn admins_answer_who_asks_to_register() {
    let mut world = World::with(|it| {
        it.members_only = true;
        it.registration = Registration::Approval;
    });
    let register = |text: &str| Command::Register { nick: nick(text) };
    let answer = |who: &str, allow| Command::AnswerRequest { jid: jid(who), allow };
    let ended = |who: &str, end| Fact::RequestEnded { jid: jid(who), end };
    world.refuses(&chat("romeo"), enter("Romeo"), Refusal::MembersOnly);
    let facts = world.does(&chat("romeo"), register("Romeo"));
    assert_eq!(facts, [Fact::RegistrationRequested { jid: jid("romeo"), nick: nick("Romeo") }]);
    assert_eq!(world.does(&chat("romeo"), register("Romeo")), []);
    world.refuses(&chat("romeo"), enter("Romeo"), Refusal::MembersOnly);
    world.refuses(&chat("romeo"), answer("romeo", true), Refusal::Forbidden);
    world.refuses(&chat("owner"), answer("juliet", true), Refusal::NoSuchPerson);

    // A nick is nobody's while it is only asked for; who is allowed first has it.
    world.does(&chat("juliet"), register("Romeo"));
    let facts = world.does(&chat("owner"), answer("juliet", true));
    assert!(facts.contains(&ended("juliet", RequestEnd::Allowed)), "{facts:?}");
    world.does(&chat("juliet"), enter("Romeo"));
    world.refuses(&chat("owner"), answer("romeo", true), Refusal::NickTaken);
    let facts = world.does(&chat("owner"), answer("romeo", false));
    assert_eq!(facts, [ended("romeo", RequestEnd::Denied)]);

    world.does(&chat("romeo"), register("Montague"));
    assert_eq!(
        world.does(&chat("romeo"), Command::Unregister),
        [ended("romeo", RequestEnd::Withdrawn)]
    );
    // Whoever is made a member, or banned, asks for nothing any more.
    for affiliation in [Member, Outcast] {
        world.does(&chat("romeo"), register("Montague"));
        let facts = world.does(&chat("owner"), give("romeo", affiliation));
        assert!(facts.contains(&ended("romeo", RequestEnd::Withdrawn)), "{facts:?}");
        world.does(&chat("owner"), give("romeo", Affiliation::None));
    }
    for number in 0..100 {
        world.does(&chat(&format!("user{number}")), register(&format!("User {number}")));
    }
    world.refuses(&chat("romeo"), register("Montague"), Refusal::TooMany);
    world.does(&chat("user7"), register("Another"));
}

#[test]
fn the_owner_says_who_becomes_a_member_by_registering() {
    let guards: [fn(&mut Settings); 4] = [
        |_| {},
        |it| it.members_only = true,
        |it| it.moderated = true,
        |it| it.password = Some("rose".to_owned()),
    ];
    for (guarded, guard) in guards.into_iter().enumerate() {
        for (registration, becomes) in [
            (Registration::Open, Ok(Member)),
            (Registration::Approval, Ok(Affiliation::None)),
            (Registration::Closed, Err(Refusal::MayNotRegister)),
            (
                Registration::Unguarded,
                if guarded == 0 { Ok(Member) } else { Err(Refusal::MayNotRegister) },
            ),
        ] {
            let mut world = World::with(|it| {
                guard(it);
                it.registration = registration;
            });
            let register = Command::Register { nick: nick("Romeo") };
            match becomes {
                Ok(affiliation) => {
                    world.does(&chat("romeo"), register);
                    let who = Who::Jid(jid("romeo"));
                    assert_eq!(world.room().affiliation(&who), affiliation, "{registration:?}");
                }
                Err(refusal) => world.refuses(&chat("romeo"), register, refusal),
            }
        }
    }
}

#[test]
fn lists_and_configuration_hold_together_or_not_at_all() {
    let mut world = World::with(|it| it.persistent = true);
    world.does(&chat("juliet"), enter("Juliet"));
    let reconfigure = |name: &str, affiliations: Vec<Change>| Command::Reconfigure {
        settings: Box::new(Settings {
            name: name.to_owned(),
            members_only: true,
            persistent: true,
            ..Settings::default()
        }),
        affiliations,
    };
    let both = vec![affiliate("juliet", Admin), affiliate("owner", Affiliation::None)];
    world.refuses(&chat("owner"), reconfigure("x", both), Refusal::LastOwner);
    let too_long = "x".repeat(2_000);
    let admin = || vec![affiliate("juliet", Admin)];
    world.refuses(&chat("owner"), reconfigure(&too_long, admin()), Refusal::BadSettings);
    world.refuses(&chat("juliet"), reconfigure("x", admin()), Refusal::Forbidden);

    let facts = world.does(&chat("owner"), reconfigure("x", admin()));
    assert!(matches!(facts.first(), Some(Fact::Configured { .. })), "{facts:?}");
    assert!(world.room().by_nick(&nick("Juliet")).is_some(), "who becomes an admin stays");
    assert_eq!(world.room().affiliation(&who("juliet")), Admin);
}

#[test]
fn whispers_are_for_those_who_may() {
    use cusaxd::room::settings::Whisperers;
    let whisper = || Command::Whisper { to: nick("Owner"), id: None, payload: said() };
    for (allow_pm, visitor, participant, owner) in [
        (Whisperers::Anyone, true, true, true),
        (Whisperers::Participants, false, true, true),
        (Whisperers::Moderators, false, false, true),
        (Whisperers::None, false, false, false),
    ] {
        let mut world = World::with(|it| it.allow_pm = allow_pm);
        world.does(&chat("juliet"), enter("Juliet"));
        world.does(&chat("romeo"), enter("Romeo"));
        world.does(&chat("owner"), let_speak("Romeo", false));
        for (by, may) in [("romeo", visitor), ("juliet", participant), ("owner", owner)] {
            if may {
                world.does(&chat(by), whisper());
            } else {
                world.refuses(&chat(by), whisper(), Refusal::Forbidden);
            }
        }
    }
}

#[test]
fn a_slow_room_has_one_pace_for_all_of_ones_nicks() {
    let mut world = World::with(|it| it.slow_mode_s = 600);
    let too_soon = Refusal::TooSoon { pace_s: 600 };
    world.does(&chat("juliet"), enter("Juliet"));
    world.does(&chat("juliet/tablet"), enter("Capulet"));
    world.does(&chat("juliet"), say());
    world.refuses(&chat("juliet"), say(), too_soon);
    world.refuses(&chat("juliet/tablet"), say(), too_soon);
    // Leaving is no way around.
    world.does(&chat("juliet"), Command::LeaveChat);
    world.does(&chat("juliet"), enter("Juliet"));
    world.refuses(&chat("juliet"), say(), too_soon);
    let sign = Command::Say { id: None, payload: Payload { text: false, ..said() } };
    world.does(&chat("juliet"), sign);
    world.now = world.now + Duration::from_secs(580);
    world.refuses(&chat("juliet"), say(), too_soon);
    world.now = world.now + Duration::from_secs(20);
    world.does(&chat("juliet"), say());
    for _ in 0..3 {
        world.does(&chat("owner"), say());
    }
}

#[test]
fn members_invite_where_the_owner_wants_that() {
    let invite = || {
        Command::Invite(vec![
            Invited { jid: jid("romeo"), reason: None },
            Invited { jid: jid("owner"), reason: None },
        ])
    };
    let mut world = World::with(|it| it.members_only = true);
    world.does(&chat("owner"), give("juliet", Member));
    world.does(&chat("juliet"), enter("Juliet"));
    world.refuses(&chat("juliet"), invite(), Refusal::Forbidden);
    world.configure(|it| it.allow_invites = true);
    world.refuses(&chat("romeo"), invite(), Refusal::NotHere);
    world.does(&chat("juliet"), invite());
    assert_eq!(world.room().affiliation(&who("romeo")), Member);
    assert_eq!(world.room().affiliation(&who("owner")), Owner);
    world.does(&chat("owner"), give("romeo", Outcast));
    world.refuses(&chat("juliet"), invite(), Refusal::NotAllowed);
}

#[test]
fn owners_choose_the_picture() {
    let picture = |byte| Avatar::new("image/png", vec![byte]).map(Arc::new);
    let mut world = World::with(|_| {});
    world.does(&chat("juliet"), enter("Juliet"));
    world.refuses(&chat("juliet"), Command::SetAvatar(picture(1)), Refusal::Forbidden);
    let facts = world.does(&chat("owner"), Command::SetAvatar(picture(1)));
    assert_eq!(facts, [Fact::AvatarChanged]);
    assert_eq!(world.does(&chat("owner"), Command::SetAvatar(picture(1))), []);
    assert_eq!(world.room().avatar, picture(1));
    world.does(&operator(), Command::SetAvatar(None));
    assert_eq!(world.room().avatar, None);
}

/// XEP-0317: hats of one room are counted, and so is who wears them.
#[test]
fn owners_make_and_give_hats_up_to_a_limit() {
    let mut world = World::with(|_| {});
    let owner = chat("owner");
    let look = |title: &str| Look { title: title.to_owned(), hue: None };
    let make = |uri: usize| Command::MakeHat { uri: format!("urn:x:{uri}"), look: look("Poet") };
    let give = |uri: usize, jid: &str| {
        let jid = jid.parse().unwrap();
        Command::GiveHat { jid, uri: format!("urn:x:{uri}"), on: true }
    };
    world.does(&chat("juliet"), enter("Juliet"));
    world.refuses(&chat("juliet"), make(0), Refusal::Forbidden);
    for uri in 0..100 {
        world.does(&owner, make(uri));
    }
    world.refuses(&owner, make(100), Refusal::TooMany);
    assert_eq!(world.does(&owner, make(99)), [], "one that is there takes no place");
    let facts = world.does(&owner, give(0, "juliet@example.org"));
    let wearers = vec![PersonId(2)];
    assert_eq!(facts, [Fact::HatsChanged { wearers, list: false }]);
    for number in 1..1_000 {
        world.does(&owner, give(number % 100, &format!("u{number}@example.org")));
    }
    world.refuses(&owner, give(1, "juliet@example.org"), Refusal::TooMany);
    assert_eq!(world.does(&owner, give(0, "juliet@example.org")), []);
    world.does(&owner, Command::DestroyHat { uri: "urn:x:0".to_owned() });
    world.does(&owner, give(1, "juliet@example.org"));
    for bad in [
        Command::MakeHat { uri: "u".repeat(257), look: look("Poet") },
        Command::MakeHat { uri: "urn:x:1".to_owned(), look: look(&"t".repeat(257)) },
        Command::MakeHat { uri: "urn:x:1".to_owned(), look: look(" ") },
        Command::MakeHat {
            uri: "urn:x:1".to_owned(),
            look: Look { title: "Poet".to_owned(), hue: Some("-1".to_owned()) },
        },
    ] {
        world.refuses(&owner, bad, Refusal::BadSettings);
    }
}
