//! Random commands by random people: what always holds of a room, and that its facts tell all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cusaxd::id::{DialId, LegId, Nick, PersonId, RoomName};
use cusaxd::journal::{self, Row};
use cusaxd::room::avatar::Avatar;
use cusaxd::room::dial::{Callee, DialEnd};
use cusaxd::room::hats::{Hats, Look};
use cusaxd::room::person::{Caller, Proof, Who};
use cusaxd::room::settings::{Registration, Settings};
use cusaxd::room::standing::{Affiliation, Role};
use cusaxd::room::{By, Change, Command, Ending, Fact, Invited, Policy, Room, StoredRoom};
use jid::{BareJid, FullJid};
use proptest::prelude::*;
use proptest::sample::select;

use super::{World, affiliate, caller, chat, jid, nick, operator, policy, role, said, who};

/// What someone learns who is told every fact, and looks at the room only for those whom a fact
/// names, as the faces do.
#[derive(Debug, Default, PartialEq)]
struct Told {
    people: BTreeMap<PersonId, Seen>,
    locked: bool,
    settings: Option<Settings>,
    subject: Option<String>,
    nicks: BTreeMap<BareJid, Nick>,
    requests: BTreeMap<BareJid, Nick>,
    avatar: Option<Arc<Avatar>>,
    /// By URI.
    hats: BTreeMap<String, Look>,
    dials: BTreeSet<DialId>,
}

#[derive(Debug, PartialEq)]
struct Seen {
    nick: Nick,
    /// What they wear, by title.
    hats: Vec<String>,
    chats: BTreeSet<FullJid>,
    /// Each leg, and whether it is heard.
    legs: BTreeMap<LegId, bool>,
    role: Role,
    affiliation: Affiliation,
    hand: bool,
}

impl Told {
    fn hear(&mut self, room: &Room, fact: &Fact) {
        match fact {
            Fact::Created { .. } => self.settings = Some(Settings::default()),
            Fact::ChatEntered { person, chat, .. } => {
                self.see(room, *person, |seen| {
                    seen.chats.insert(chat.clone());
                });
            }
            Fact::ChatLeft { person, chat, .. } => {
                self.see(room, *person, |seen| {
                    seen.chats.remove(chat);
                });
            }
            Fact::CallEntered { person, leg, .. } => {
                let heard = room.person(*person).is_some_and(|person| person.may_be_heard(*leg));
                self.see(room, *person, |seen| {
                    seen.legs.insert(*leg, heard);
                });
            }
            Fact::CallLeft { person, leg, .. } => {
                self.see(room, *person, |seen| {
                    seen.legs.remove(leg);
                });
            }
            Fact::LegChanged { person, .. } | Fact::MuteChanged { person, .. } => {
                let Some(now) = room.person(*person) else { return };
                self.see(room, *person, |seen| {
                    for (leg, heard) in &mut seen.legs {
                        *heard = now.may_be_heard(*leg);
                    }
                });
            }
            Fact::Renamed { person, .. } => {
                let Some(now) = room.person(*person) else { return };
                self.see(room, *person, |seen| seen.nick = now.nick.clone());
            }
            Fact::StandingChanged { person, .. } => {
                let Some(now) = room.person(*person) else { return };
                let affiliation = room.affiliation(&now.who);
                self.see(room, *person, |seen| {
                    (seen.role, seen.affiliation) = (now.role, affiliation);
                });
            }
            Fact::HandChanged { person } => {
                let up = room.person(*person).is_some_and(|person| person.hand.is_some());
                self.see(room, *person, |seen| seen.hand = up);
            }
            Fact::Gone { was, .. } => {
                let seen = self.people.remove(&was.id).expect("whoever goes was here");
                assert_eq!(seen.nick, was.nick);
                assert_eq!(seen.chats, was.chats.keys().cloned().collect());
                assert!(seen.legs.keys().eq(was.legs.keys()));
            }
            Fact::Destroyed { people, .. } => {
                let ids: BTreeSet<_> = people.iter().map(|person| person.id).collect();
                assert!(self.people.keys().eq(ids.iter()), "all who were here, and no other");
                *self = Self::default();
            }
            Fact::Configured { old, .. } => {
                assert_eq!(self.settings.as_ref(), Some(&**old));
                self.settings = Some(room.settings.clone());
            }
            Fact::LockChanged => self.locked = room.locked,
            Fact::HatsChanged { wearers, list } => {
                if *list {
                    self.hats = made(room);
                }
                for id in wearers {
                    let Some(now) = room.person(*id) else { continue };
                    self.see(room, *id, |seen| seen.hats = hats(room, &now.who));
                }
            }
            Fact::AvatarChanged => self.avatar = room.avatar.clone(),
            Fact::NickRegistered { jid, nick: Some(nick) } => {
                drop(self.nicks.insert(jid.clone(), nick.clone()));
            }
            Fact::NickRegistered { jid, nick: None } => {
                self.nicks.remove(jid).expect("it was registered");
            }
            Fact::RegistrationRequested { jid, nick } => {
                drop(self.requests.insert(jid.clone(), nick.clone()));
            }
            Fact::RequestEnded { jid, .. } => {
                self.requests.remove(jid).expect("they asked");
            }
            Fact::SubjectChanged(_) => {
                self.subject = room.subject.as_ref().map(|subject| subject.text.clone());
            }
            Fact::Dialled { dial } => assert!(self.dials.insert(*dial), "{dial} again"),
            Fact::DialEnded { was, .. } => {
                assert!(self.dials.remove(&was.id), "{} ended, and never began", was.id);
            }
            Fact::AffiliationChanged { .. }
            | Fact::PresenceShown { .. }
            | Fact::VoiceRequested { .. }
            | Fact::Retracted { .. }
            | Fact::Spoken(_)
            | Fact::Whispered { .. } => {}
        }
    }

    /// Someone whom a fact names; new ones are seen without sessions and legs.
    fn see(&mut self, room: &Room, id: PersonId, change: impl FnOnce(&mut Seen)) {
        let Some(person) = room.person(id) else { return };
        change(self.people.entry(id).or_insert_with(|| Seen {
            nick: person.nick.clone(),
            hats: hats(room, &person.who),
            chats: BTreeSet::new(),
            legs: BTreeMap::new(),
            role: person.role,
            affiliation: room.affiliation(&person.who),
            hand: person.hand.is_some(),
        }));
    }

    /// What is to be known of a room.
    fn all_of(room: Option<&Room>) -> Self {
        let Some(room) = room else { return Self::default() };
        let people = room.people.values().map(|person| {
            let legs = person.legs.keys().map(|leg| (*leg, person.may_be_heard(*leg)));
            let seen = Seen {
                nick: person.nick.clone(),
                hats: hats(room, &person.who),
                chats: person.chats.keys().cloned().collect(),
                legs: legs.collect(),
                role: person.role,
                affiliation: room.affiliation(&person.who),
                hand: person.hand.is_some(),
            };
            (person.id, seen)
        });
        Self {
            people: people.collect(),
            locked: room.locked,
            settings: Some(room.settings.clone()),
            subject: room.subject.as_ref().map(|subject| subject.text.clone()),
            nicks: nicks(room),
            requests: requests(room),
            avatar: room.avatar.clone(),
            hats: made(room),
            dials: room.dials.keys().copied().collect(),
        }
    }
}

fn made(room: &Room) -> BTreeMap<String, Look> {
    room.hats().iter().map(|(uri, look)| (uri.to_owned(), look.clone())).collect()
}

fn hats(room: &Room, who: &Who) -> Vec<String> {
    room.hats().of(who).map(|(_, look)| look.title.clone()).collect()
}

fn nicks(room: &Room) -> BTreeMap<BareJid, Nick> {
    room.registered_nicks().map(|(jid, nick)| (jid.clone(), nick.clone())).collect()
}

fn requests(room: &Room) -> BTreeMap<BareJid, Nick> {
    room.requests().map(|(jid, nick)| (jid.clone(), nick.clone())).collect()
}

/// A store, as far as rows tell it.
#[derive(Debug, Default, PartialEq)]
struct Stored(BTreeMap<RoomName, Kept>);

#[derive(Debug, PartialEq)]
struct Kept {
    room: StoredRoom,
    affiliations: BTreeMap<Who, Affiliation>,
    nicks: BTreeMap<BareJid, Nick>,
    requests: BTreeMap<BareJid, Nick>,
    avatar: Option<Arc<Avatar>>,
    hats: Hats,
}

impl Stored {
    fn write(&mut self, row: Row) {
        match row {
            Row::Room(room) => match self.0.get_mut(&room.name) {
                Some(kept) => kept.room = room,
                None => {
                    let (affiliations, nicks) = (BTreeMap::new(), BTreeMap::new());
                    let name = room.name.clone();
                    let (avatar, hats, requests) = (None, Hats::default(), BTreeMap::new());
                    let kept = Kept { room, affiliations, nicks, requests, avatar, hats };
                    self.0.insert(name, kept);
                }
            },
            Row::NoRoom(name) => drop(self.0.remove(&name)),
            Row::Affiliation { room, who, affiliation, .. } => {
                let affiliations = &mut self.kept(&room).affiliations;
                if affiliation == Affiliation::None {
                    affiliations.remove(&who);
                } else {
                    affiliations.insert(who, affiliation);
                }
            }
            Row::Nick { room, jid, nick: Some(nick) } => {
                drop(self.kept(&room).nicks.insert(jid, nick));
            }
            Row::Nick { room, jid, nick: None } => drop(self.kept(&room).nicks.remove(&jid)),
            Row::Request { room, jid, nick: Some(nick) } => {
                drop(self.kept(&room).requests.insert(jid, nick));
            }
            // One that ends as its room becomes persistent was never kept.
            Row::Request { room, jid, nick: None } => drop(self.kept(&room).requests.remove(&jid)),
            Row::Hats { room, hats } => self.kept(&room).hats = hats,
            Row::Avatar { room, avatar } => self.kept(&room).avatar = avatar,
            Row::Archived { room, .. } => {
                assert!(self.kept(&room).room.settings.archived());
            }
            Row::Buried { .. } | Row::User(_) | Row::NoUser(_) | Row::Sweep { .. } => {
                unreachable!("nothing here writes that");
            }
        }
    }

    fn kept(&mut self, room: &RoomName) -> &mut Kept {
        self.0.get_mut(room).expect("its room is stored first")
    }

    /// What is to be stored of a room.
    fn all_of(room: Option<&Room>) -> Self {
        let kept = room.filter(|room| room.settings.persistent);
        let rooms = kept.map(|room| {
            let affiliations = room.affiliations().map(|(who, it)| (who.clone(), it)).collect();
            let (nicks, avatar) = (nicks(room), room.avatar.clone());
            let (name, hats, requests) = (room.name.clone(), room.hats().clone(), requests(room));
            (name, Kept { room: room.stored(), affiliations, nicks, requests, avatar, hats })
        });
        Self(rooms.into_iter().collect())
    }
}

/// What holds whatever happened.
fn check_invariants(room: &Room, most: usize) {
    let people = || room.people.values();
    let mut nicks = BTreeSet::new();
    let mut sessions = BTreeSet::new();
    let mut legs = BTreeSet::new();
    let reserved: BTreeMap<_, _> =
        room.registered_nicks().map(|(jid, nick)| (nick.key(), jid)).collect();
    assert_eq!(reserved.len(), room.registered_nicks().count(), "a nick has one owner");
    for person in people() {
        let owner = reserved.get(person.nick.key());
        assert!(owner.is_none_or(|jid| person.jid() == Some(jid)), "{person:?} has another's nick");
        let affiliation = room.affiliation(&person.who);
        assert!(affiliation > Affiliation::Outcast, "{person:?} is banned and here");
        if room.settings.members_only {
            assert!(affiliation >= Affiliation::Member, "{person:?} is here and no member");
        }
        if affiliation >= Affiliation::Admin {
            assert_eq!(person.role, Role::Moderator, "{person:?}");
        }
        let silenced = person.mutes.moderator.is_some() || person.mutes.room.is_some();
        assert!(silenced || person.role > Role::Visitor, "{person:?} has no voice and no mute");
        assert!(person.mutes.room.is_none() || person.role == Role::Visitor, "{person:?}");
        assert!(!(person.chats.is_empty() && person.legs.is_empty()), "{person:?} is nowhere");
        assert!(nicks.insert(person.nick.key()), "two people are {}", person.nick);
        assert!(person.chats.keys().all(|chat| sessions.insert(chat)), "{person:?}");
        assert!(person.legs.keys().all(|leg| legs.insert(*leg)), "{person:?}");
        for leg in person.legs.keys() {
            assert!(!(person.mutes.any() && person.may_be_heard(*leg)), "{person:?}");
        }
        assert!(
            person.chats.is_empty() || !person.nick.key().ends_with(" (phone)"),
            "{person:?} passes for a caller"
        );
        for other in people().filter(|other| other.who == person.who) {
            let voice = (other.role, &other.mutes);
            assert_eq!(voice, (person.role, &person.mutes), "one person, one voice");
        }
    }
    for dial in room.dials.values() {
        let affiliation = room.affiliation(&dial.callee.person.who);
        assert!(affiliation > Affiliation::Outcast, "{dial:?} calls someone who is banned");
    }
    assert!(people().count() <= most);
    assert!(room.history.iter().count() <= room.settings.history as usize);
    assert!(room.settings.persistent || people().count() > 0, "nobody is here and it goes on");
}

/// One step: who does what, with people and sessions given by number.
#[derive(Clone, Debug)]
struct Step {
    by: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Enter(usize, Option<&'static str>),
    Rename(usize),
    LeaveChat,
    LoseChat,
    Call { who: usize, private: bool, password: bool, media_agreed: bool },
    ChangeLeg(bool, bool),
    HangUp(bool),
    Hand(bool),
    Say,
    Whisper(usize),
    Subject(usize),
    RequestVoice,
    MuteSelf(bool),
    Moderate(Vec<Turn>),
    Mute(usize, bool),
    MuteAll(bool),
    LowerHand(usize),
    Lock(bool),
    Configure(Settings),
    Reconfigure(Settings, Vec<Turn>),
    Register(usize),
    Unregister,
    Answer(usize, bool),
    Avatar(u8),
    MakeHat(u8),
    DestroyHat(u8),
    GiveHat(u8, usize, bool),
    Invite(usize),
    Dial(usize),
    EndDial(usize),
    Connect(usize),
    Cancel,
    Destroy,
    ShowPresence,
}

#[derive(Clone, Debug)]
enum Turn {
    Role(usize, Option<Role>),
    Affiliation(usize, Affiliation),
    Nick(usize, Option<usize>),
}

const USERS: [&str; 6] = ["owner", "juliet", "romeo", "tybalt", "mercutio", "root"];
const NICKS: [&str; 8] =
    ["Owner", "Juliet", "juliet", "Romeo", "Nurse", "Caller (phone)", "Tybalt", "root"];
const IDENTITIES: [&str; 10] = [
    "owner",
    "juliet",
    "romeo",
    "tybalt",
    "mercutio",
    "root",
    "sip:bob@x",
    "sip:eve@x",
    "@example.org",
    "@evil.example",
];

fn turn() -> impl Strategy<Value = Turn> {
    use Affiliation::{Admin, Member, Outcast, Owner};
    let role = prop_oneof![
        2 => Just(None),
        6 => select(vec![Some(Role::Visitor), Some(Role::Participant), Some(Role::Moderator)]),
    ];
    let affiliation = select(vec![Outcast, Affiliation::None, Member, Member, Admin, Owner]);
    prop_oneof![
        (0..12_usize, role).prop_map(|(whom, role)| Turn::Role(whom, role)),
        (0..12_usize, affiliation).prop_map(|(whom, it)| Turn::Affiliation(whom, it)),
        (0..USERS.len(), proptest::option::of(0..NICKS.len()))
            .prop_map(|(whom, nick)| Turn::Nick(whom, nick)),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let most = prop_oneof![3 => Just(None), 1 => (0..5_u32).prop_map(Some)];
    let often = || prop::bool::weighted(0.3);
    let registration = select(vec![
        Registration::Open,
        Registration::Unguarded,
        Registration::Approval,
        Registration::Approval,
        Registration::Closed,
    ]);
    let rest = (any::<bool>(), any::<bool>(), 0..4_u32, any::<bool>(), often(), registration);
    (often(), often(), often(), most, rest).prop_map(
        |(moderated, members_only, secret, max_users, rest)| {
            let (persistent, change_subject, history, allow_invites, slow, registration) = rest;
            let password = secret.then(|| "swordfish".to_owned());
            Settings {
                moderated,
                members_only,
                password,
                max_users,
                persistent,
                change_subject,
                history,
                allow_invites,
                registration,
                slow_mode_s: if slow { 30 } else { 0 },
                ..Settings::default()
            }
        },
    )
}

fn what() -> impl Strategy<Value = What> {
    let password = || prop_oneof![Just(None), Just(Some("swordfish"))];
    let call = (0..IDENTITIES.len(), any::<[bool; 2]>(), prop::bool::weighted(0.95));
    prop_oneof![
        12 => (0..NICKS.len(), password()).prop_map(|(nick, password)| What::Enter(nick, password)),
        3 => (0..NICKS.len()).prop_map(What::Rename),
        3 => Just(What::LeaveChat),
        2 => Just(What::LoseChat),
        12 => call.prop_map(|(who, [private, password], media_agreed)| {
            What::Call { who, private, password, media_agreed }
        }),
        4 => any::<[bool; 2]>().prop_map(|[hold, sends]| What::ChangeLeg(hold, sends)),
        3 => any::<bool>().prop_map(What::HangUp),
        2 => any::<bool>().prop_map(What::Hand),
        2 => Just(What::Say),
        1 => (0..NICKS.len()).prop_map(What::Whisper),
        1 => (0..3_usize).prop_map(What::Subject),
        1 => Just(What::RequestVoice),
        3 => any::<bool>().prop_map(What::MuteSelf),
        14 => prop::collection::vec(turn(), 1..4).prop_map(What::Moderate),
        5 => (0..12_usize, any::<bool>()).prop_map(|(whom, on)| What::Mute(whom, on)),
        1 => any::<bool>().prop_map(What::MuteAll),
        1 => (0..NICKS.len()).prop_map(What::LowerHand),
        3 => (settings(), prop::collection::vec(turn(), 0..3))
            .prop_map(|(settings, turns)| What::Reconfigure(settings, turns)),
        4 => (0..NICKS.len()).prop_map(What::Register),
        1 => Just(What::Unregister),
        3 => (0..USERS.len(), any::<bool>()).prop_map(|(whom, allow)| What::Answer(whom, allow)),
        1 => (0..3_u8).prop_map(What::Avatar),
        2 => (0..4_u8).prop_map(What::MakeHat),
        1 => (0..4_u8).prop_map(What::DestroyHat),
        2 => (0..4_u8, 0..USERS.len(), any::<bool>()).prop_map(|(look, user, on)| {
            What::GiveHat(look, user, on)
        }),
        2 => (0..USERS.len()).prop_map(What::Invite),
        6 => (0..IDENTITIES.len()).prop_map(What::Dial),
        1 => (0..3_usize).prop_map(What::EndDial),
        4 => (0..3_usize).prop_map(What::Connect),
        1 => any::<bool>().prop_map(What::Lock),
        4 => settings().prop_map(What::Configure),
        1 => Just(What::Cancel),
        1 => Just(What::Destroy),
        1 => Just(What::ShowPresence),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (0..40_usize, what()).prop_map(|(by, what)| Step { by, what })
}

impl World {
    /// Who takes a step: chat users in either of two sessions, legs, an operator.
    fn actor(&self, by: usize, what: &What, next_leg: u64) -> By {
        let session = || chat(&format!("{}/{}", USERS[by / 2 % USERS.len()], by % 2));
        let legs = self.rooms.iter().flat_map(|room| room.people.values());
        let legs: Vec<_> = legs.flat_map(|person| person.legs.keys().copied()).collect();
        let leg = || By::Leg(legs.get(by % (legs.len() + 1)).copied().unwrap_or(LegId(999)));
        match what {
            What::Enter(..) | What::Rename(_) | What::LeaveChat | What::ShowPresence => session(),
            What::LoseChat | What::Connect(_) => By::Server,
            What::Call { .. } => By::Leg(LegId(next_leg)),
            What::ChangeLeg(..) | What::HangUp(_) => leg(),
            What::Hand(_) | What::MuteSelf(_) | What::RequestVoice if by >= 20 => leg(),
            What::Moderate(_) | What::Mute(..) | What::Configure(_) | What::Lock(_) if by >= 32 => {
                operator()
            }
            What::Moderate(_)
            | What::Mute(..)
            | What::MuteAll(_)
            | What::LowerHand(_)
            | What::Dial(_)
            | What::EndDial(_)
                if by >= 24 =>
            {
                chat("owner/0")
            }
            What::Moderate(_) if by >= 22 => leg(),
            What::Hand(_)
            | What::MuteSelf(_)
            | What::RequestVoice
            | What::Say
            | What::Whisper(_)
            | What::Subject(_)
            | What::Moderate(_)
            | What::Mute(..)
            | What::MuteAll(_)
            | What::LowerHand(_)
            | What::Lock(_)
            | What::Configure(_)
            | What::Reconfigure(..)
            | What::Register(_)
            | What::Unregister
            | What::Answer(..)
            | What::Avatar(_)
            | What::MakeHat(_)
            | What::DestroyHat(_)
            | What::GiveHat(..)
            | What::Invite(_)
            | What::Dial(_)
            | What::EndDial(_)
            | What::Cancel
            | What::Destroy => session(),
        }
    }

    fn command(&self, by: usize, what: What, next_leg: u64) -> Command {
        let people: Vec<_> =
            self.rooms.iter().flat_map(|room| room.people.values()).cloned().collect();
        let person = |number: usize| people.get(number % people.len().max(1));
        let change = |turn| match turn {
            Turn::Role(whom, to) => match person(whom) {
                Some(person) => role(person.nick.as_str(), to),
                None => role("Nobody", to),
            },
            Turn::Nick(whom, kept) => {
                Change::Nick { jid: jid(USERS[whom]), nick: kept.map(|kept| nick(NICKS[kept])) }
            }
            Turn::Affiliation(whom, affiliation) => match (whom, person(whom)) {
                (10.., Some(person)) => {
                    Change::Affiliation { who: person.who.clone(), affiliation, reason: None }
                }
                _ => affiliate(IDENTITIES[whom % IDENTITIES.len()], affiliation),
            },
        };
        let dials: Vec<_> = self.rooms.iter().flat_map(|room| room.dials.keys()).copied().collect();
        let dial = |number: usize| dials.get(number).copied().unwrap_or(DialId(999));
        match what {
            What::Enter(text, password) => Command::EnterChat {
                nick: nick(NICKS[text]),
                password: password.map(str::to_owned),
            },
            What::Rename(text) => Command::Rename { nick: nick(NICKS[text]) },
            What::LeaveChat => Command::LeaveChat,
            What::LoseChat => {
                let By::Chat(chat) = chat(&format!("{}/{}", USERS[by / 2 % 6], by % 2)) else {
                    unreachable!()
                };
                Command::LoseChat { chat }
            }
            What::Call { who: text, private, password, media_agreed } => {
                let leg = LegId(next_leg);
                let identity = match IDENTITIES[text] {
                    domain if domain.starts_with('@') => Who::Unknown(leg),
                    other => who(other),
                };
                let caller = Caller { private, proof: Proof::Asserted, ..caller(identity) };
                let password = password.then(|| "swordfish".to_owned());
                Command::Call { leg, caller, password, media_agreed }
            }
            What::ChangeLeg(hold, sends) => Command::ChangeLeg { hold, sends },
            What::HangUp(departed) => Command::HangUp {
                ending: match departed {
                    true => Ending::Departed,
                    false => Ending::Failed { status: 408, text: "lost".to_owned() },
                },
            },
            What::Hand(up) => Command::RaiseHand(up),
            What::Say => Command::Say { id: None, payload: said() },
            What::Whisper(to) => {
                Command::Whisper { to: nick(NICKS[to]), id: None, payload: said() }
            }
            What::Subject(n) => {
                Command::ChangeSubject { id: None, text: "x".repeat(n), payload: said() }
            }
            What::RequestVoice => Command::RequestVoice,
            What::MuteSelf(on) => Command::MuteSelf(on),
            What::Moderate(turns) => Command::Moderate(turns.into_iter().map(change).collect()),
            What::Mute(whom, on) => {
                Command::Mute { person: person(whom).map_or(PersonId(0), |person| person.id), on }
            }
            What::MuteAll(on) => Command::MuteAll(on),
            What::LowerHand(text) => Command::LowerHand { nick: nick(NICKS[text]) },
            What::Lock(on) => Command::Lock(on),
            What::Configure(settings) => Command::Configure(Box::new(settings)),
            What::Reconfigure(settings, turns) => Command::Reconfigure {
                settings: Box::new(settings),
                affiliations: turns.into_iter().map(change).collect(),
            },
            What::Register(text) => Command::Register { nick: nick(NICKS[text]) },
            What::Unregister => Command::Unregister,
            What::Answer(whom, allow) => Command::AnswerRequest { jid: jid(USERS[whom]), allow },
            What::MakeHat(look) => {
                let (title, hue) = (format!("Hat {look}"), Some(look.to_string()));
                Command::MakeHat { uri: hat(look), look: Look { title, hue } }
            }
            What::DestroyHat(look) => Command::DestroyHat { uri: hat(look) },
            What::GiveHat(look, user, on) => {
                Command::GiveHat { jid: jid(USERS[user]), uri: hat(look), on }
            }
            What::Avatar(byte) => {
                let avatar = Avatar::new("image/png", vec![byte]).map(Arc::new);
                Command::SetAvatar(avatar.filter(|_| byte > 0))
            }
            What::Invite(whom) => {
                Command::Invite(vec![Invited { jid: jid(USERS[whom]), reason: None }])
            }
            What::Dial(whom) => {
                let text = IDENTITIES[whom].trim_start_matches('@');
                let person = Caller { proof: Proof::Dialled, ..caller(who(text)) };
                Command::Dial(Box::new(Callee::new(text.to_owned(), person)))
            }
            What::EndDial(number) => {
                Command::EndDial { dial: dial(number), end: DialEnd::Cancelled }
            }
            What::Connect(number) => Command::Connect { dial: dial(number), leg: LegId(next_leg) },
            What::Cancel => Command::CancelConfiguration,
            What::Destroy => Command::Destroy { reason: None, alternate: None },
            What::ShowPresence => Command::ShowPresence,
        }
    }
}

/// Two URIs, each with two looks.
fn hat(look: u8) -> String {
    format!("urn:example:{}", look / 2)
}

const MOST_PEOPLE: u32 = 6;
/// Places that full rooms keep for their admins.
const RESERVED: usize = 10;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(150)
    })]

    /// A refused command changes nothing ([`World::tries`]); what is done keeps every invariant; and
    /// who is told the facts, or reads the rows, knows all of it.
    #[test]
    fn facts_tell_all_and_invariants_hold(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::under(Policy { max_people: MOST_PEOPLE, ..policy() });
        let (mut told, mut stored) = (Told::all_of(Some(world.room())), Stored::default());
        let mut owned = true;
        for (number, Step { by, what }) in steps.into_iter().enumerate() {
            let leg = number as u64 + 1;
            let actor = world.actor(by, &what, leg);
            let command = world.command(by, what, leg);
            let Ok(facts) = world.tries(&actor, command) else { continue };
            let room = world.rooms.get(&world.room).expect("swept only after its facts");
            let mut rows = vec![];
            for fact in &facts {
                told.hear(room, fact);
                journal::write(room, fact, &mut rows);
            }
            rows.into_iter().for_each(|row| stored.write(row));
            world.rooms.sweep();
            let room = world.rooms.get(&world.room);
            prop_assert_eq!(&told, &Told::all_of(room));
            prop_assert_eq!(&stored, &Stored::all_of(room));
            if let Some(room) = room {
                check_invariants(room, MOST_PEOPLE as usize + RESERVED);
                let has_owner = room.affiliations().any(|(_, it)| it == Affiliation::Owner);
                let made = facts.iter().any(|fact| matches!(fact, Fact::Created { .. }));
                prop_assert!(has_owner || made || !owned, "the last owner is gone");
                owned = has_owner;
            }
        }
    }
}
