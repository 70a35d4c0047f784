//! Who watches a conference, and what they are told (RFC 4575, RFC 6665).
//!
//! A change only marks subscriptions as due; documents are written when they leave, at most one in
//! [`PACE`] for each subscriber, so however much happens in between, one tells it all. The first, and the
//! one after a refresh or a refusal, lists everyone; those between what is new (§4.4). Each is for the eyes
//! of its reader: who may not see addresses sees none.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use cusax::conference::{
    self, AUDIO, AvailableMedia, Conference, ConferenceState, Description, Endpoint,
    EndpointStatus, Execution, GROUP_TEXT_CHAT, JoiningMethod, MESSAGE, Media, MediaStatus,
    PARTICIPATION, State, UriEntry, User, Users,
};
use cusax::identity::xmpp_uri;
use cusax_sip::endpoint::SubscriptionId;
use cusax_sip::header::{Headers, Name, NameAddr};
use cusax_sip::sdp::Direction;
use hmac::{Hmac, Mac};
use jid::Jid;
use sha2::Sha256;

use super::FocusConfig;
use super::dial::{Dialling, Dials, Progress};
use super::leg::Leg;
use super::offer::{LABEL, media_status};
use crate::id::{LegId, PersonId, RoomName};
use crate::room::dial::Dial;
use crate::room::person::{Person, Proof, Who};
use crate::room::settings::Whois;
use crate::room::standing::{Affiliation, Role};
use crate::room::{Intake, Policy, Refusal, Room};

/// All subscriptions to conferences.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: BTreeMap<SubscriptionId, Watcher>,
    of_room: BTreeMap<RoomName, BTreeSet<SubscriptionId>>,
    due: BTreeSet<(Instant, SubscriptionId)>,
}

/// One subscription.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    /// The conference.
    pub(super) room: RoomName,
    /// Who subscribed.
    pub(super) who: Who,
    /// The URI that they subscribed to.
    pub(super) entity: String,
    /// What our NOTIFYs name as Contact.
    pub(super) contact: NameAddr,
    /// Whether they knew the room's password.
    pub(super) knows_password: bool,
    /// The number of the last document (RFC 4575 §5.2).
    version: u32,
    /// When the next document may leave.
    next: Instant,
    /// When the next document is due, if one is.
    due: Option<Instant>,
    /// A document is due as soon as the last one has arrived.
    waits: bool,
    /// What the last document told; `None` if it may not have been read.
    told: Option<Told>,
}

/// What a document told, as far as it takes to know what is new in the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Of the conference itself.
    conference: u64,
    /// Of each of its people.
    users: BTreeMap<String, u64>,
}

impl Told {
    /// What a full document tells.
    pub(super) fn of(document: &Conference) -> Self {
        fn digest(value: impl Hash) -> u64 {
            let mut hasher = DefaultHasher::new();
            value.hash(&mut hasher);
            hasher.finish()
        }
        let users = document.users.list.iter();
        Self {
            conference: digest((&document.description, &document.conference_state)),
            users: users.map(|user| (user.entity.clone(), digest(user))).collect(),
        }
    }
}

impl Watcher {
    /// A subscription that was told nothing yet.
    pub(super) fn new(
        now: Instant,
        room: RoomName,
        who: Who,
        entity: String,
        contact: NameAddr,
        knows_password: bool,
    ) -> Self {
        Self {
            room,
            who,
            entity,
            contact,
            knows_password,
            version: 0,
            next: now,
            due: None,
            waits: false,
            told: None,
        }
    }

    /// The number of the last document.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// What of a full document is news to who was told the last one (RFC 4575 §4.4): people who are new or
    /// changed, whole, and those who are gone, whose absence Linphone 5.1 would not notice. `None` if nothing
    /// is. What is said of the conference itself is always there: Jitsi reads no document without.
    pub(super) fn news(&self, mut document: Conference) -> Option<Conference> {
        let Some(told) = &self.told else { return Some(document) };
        let now = Told::of(&document);
        if now == *told {
            return None;
        }
        document.state = State::Partial;
        document.users.state = State::Partial;
        document
            .users
            .list
            .retain(|user| told.users.get(&user.entity) != now.users.get(&user.entity));
        let gone = told.users.keys().filter(|entity| !now.users.contains_key(*entity));
        let gone: Vec<_> = gone
            .map(|entity| User { entity: entity.clone(), state: State::Deleted, ..User::default() })
            .collect();
        document.users.list.splice(0..0, gone);
        Some(document)
    }

    /// The headers of a NOTIFY with a document.
    pub(super) fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        headers.push(Name::CONTACT, &self.contact);
        headers.push(Name::CONTENT_TYPE, conference::MEDIA_TYPE);
        headers
    }
}

impl Watchers {
    /// Adds a subscription.
    pub(super) fn add(&mut self, id: SubscriptionId, watcher: Watcher) {
        self.of_room.entry(watcher.room.clone()).or_default().insert(id);
        self.all.insert(id, watcher);
    }

    /// Forgets a subscription.
    pub(super) fn remove(&mut self, id: SubscriptionId) -> Option<Watcher> {
        let watcher = self.all.remove(&id)?;
        if let Some(due) = watcher.due {
            self.due.remove(&(due, id));
        }
        if let Some(ids) = self.of_room.get_mut(&watcher.room) {
            ids.remove(&id);
            if ids.is_empty() {
                self.of_room.remove(&watcher.room);
            }
        }
        Some(watcher)
    }

    /// A subscription.
    pub(super) fn get(&self, id: SubscriptionId) -> Option<&Watcher> {
        self.all.get(&id)
    }

    /// How many subscriptions there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The subscriptions to a room of those whom `whose` says.
    pub(super) fn of(&self, room: &RoomName, whose: impl Fn(&Who) -> bool) -> Vec<SubscriptionId> {
        let ids = self.of_room.get(room).into_iter().flatten();
        ids.filter(|id| self.all.get(id).is_some_and(|watcher| whose(&watcher.who)))
            .copied()
            .collect()
    }

    /// Takes note that a room changed: everyone who watches it is told when their pace allows.
    pub(super) fn changed(&mut self, now: Instant, room: &RoomName) {
        for id in self.of(room, |_| true) {
            if let Some(watcher) = self.all.get(&id)
                && watcher.due.is_none()
                && !watcher.waits
            {
                self.schedule(id, watcher.next.max(now));
            }
        }
    }

    /// Takes note that a subscription is due a document at `at`, whatever its pace.
    pub(super) fn schedule(&mut self, id: SubscriptionId, at: Instant) {
        let Some(watcher) = self.all.get_mut(&id) else { return };
        if let Some(due) = watcher.due.replace(at) {
            self.due.remove(&(due, id));
        }
        self.due.insert((at, id));
    }

    /// When the next document is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A subscription that is due; it is no longer, then.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<SubscriptionId> {
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        self.all.get_mut(&id)?.due = None;
        Some(id)
    }

    /// Takes note that a document leaves before it is due.
    pub(super) fn not_due(&mut self, id: SubscriptionId) {
        let Some(watcher) = self.all.get_mut(&id) else { return };
        watcher.waits = false;
        if let Some(due) = watcher.due.take() {
            self.due.remove(&(due, id));
        }
    }

    /// Takes note that a document left; the next follows at its pace.
    pub(super) fn sent(&mut self, now: Instant, id: SubscriptionId, told: Told) {
        if let Some(watcher) = self.all.get_mut(&id) {
            watcher.told = Some(told);
            watcher.version += 1;
            watcher.next = now + PACE;
        }
    }

    /// Takes note that a document cannot leave before the last one has arrived.
    pub(super) fn wait(&mut self, id: SubscriptionId) {
        if let Some(watcher) = self.all.get_mut(&id) {
            watcher.waits = true;
        }
    }

    /// Takes note that the last document has arrived. If it was not `taken`, the next is a full one.
    pub(super) fn notified(&mut self, now: Instant, id: SubscriptionId, taken: bool) {
        let Some(watcher) = self.all.get_mut(&id) else { return };
        if !taken {
            watcher.told = None;
        }
        if std::mem::take(&mut watcher.waits) {
            self.schedule(id, now);
        }
    }
}

/// Whether someone may watch a room: everyone in it, its members, and of a room without door anyone
/// whom the server lets call. The order is that of the checks of an INVITE (RFC 4575 §3.5).
pub(super) fn may_watch(room: &Room, who: &Who, knows_password: bool) -> Result<(), Refusal> {
    let affiliation = room.affiliation(who);
    if !room.configured && affiliation < Affiliation::Owner {
        return Err(Refusal::NotConfigured);
    }
    if affiliation == Affiliation::Outcast {
        return Err(Refusal::Banned);
    }
    if affiliation >= Affiliation::Member || room.people.all_of(who).next().is_some() {
        return Ok(());
    }
    if room.settings.members_only {
        return Err(Refusal::MembersOnly);
    }
    if room.settings.password.is_some() && !knows_password {
        return Err(Refusal::WrongPassword);
    }
    Ok(())
}

/// What only the phone face knows of calls.
#[derive(Clone, Copy)]
pub(super) struct Calls<'a> {
    /// Those that are up.
    pub(super) legs: &'a BTreeMap<LegId, Leg>,
    /// Those that rooms make.
    pub(super) dials: &'a Dials,
}

/// What a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Everyone's addresses.
    Open,
    /// Nobody's addresses but their own (XEP-0045 §7.2.3, RFC 4575 §8.2).
    Veiled(Option<PersonId>),
}

/// Writes documents.
#[derive(Debug)]
pub(super) struct Scribe {
    /// Makes names that say nothing.
    pub(super) key: [u8; 32],
}

impl Scribe {
    /// What a watcher is told of a room.
    pub(super) fn document(
        &self,
        config: &FocusConfig,
        policy: &Policy,
        room: &Room,
        calls: Calls<'_>,
        watcher: &Watcher,
    ) -> Conference {
        let view = view(room, &watcher.who);
        let on_call = room.people.values().filter(|person| !person.legs.is_empty()).count();
        let places = room.settings.max_users.unwrap_or(policy.max_people).min(policy.max_people);
        let full = room.people.len() >= places as usize;
        let mut taken = BTreeSet::new();
        let people = room.people.values().take(MAX_LISTED).map(|person| {
            let mut user = self.user(config, room, calls, person, view);
            if !taken.insert(user.entity.clone()) {
                user.entity = self.nobody(room, person.id);
                taken.insert(user.entity.clone());
            }
            user
        });
        let mut users: Vec<_> = people.collect();
        for dial in room.dials.values().filter(|dial| !room.is_here(&dial.callee.person.who)) {
            let user = self.callee(config, room, calls, dial, view);
            if taken.insert(user.entity.clone()) {
                users.push(user);
            }
        }
        Conference {
            entity: watcher.entity.clone(),
            state: State::Full,
            description: description(config, room),
            conference_state: ConferenceState {
                user_count: u32::try_from(on_call).ok(),
                active: Some(
                    room.configured && !room.locked && !full && policy.intake == Intake::Open,
                ),
                locked: Some(room.locked),
            },
            users: Users { state: State::Full, list: users },
        }
    }

    fn user(
        &self,
        config: &FocusConfig,
        room: &Room,
        calls: Calls<'_>,
        person: &Person,
        view: View,
    ) -> User {
        let veiled = match view {
            View::Open => false,
            View::Veiled(own) => own != Some(person.id),
        };
        let caller = person.legs.values().map(|leg| &leg.caller).next();
        let private = caller.is_some_and(|caller| caller.private);
        // An address that is a mere claim names nobody, and might be another's.
        let aor = caller
            .filter(|caller| !veiled && !private && caller.proof > Proof::Claimed)
            .and_then(|caller| caller.aor.as_ref());
        let entity = aor.map_or_else(|| self.nobody(room, person.id), ToString::to_string);
        let jid = person.jid().filter(|_| !veiled && !private);
        let nick = person.nick.as_str();
        let audio = person.legs.iter().map(|(id, at)| Endpoint {
            entity: self.instance(config, room, *id),
            display_text: Some(nick.to_owned()),
            referred: calls.legs.get(id).and_then(|leg| referred(leg.referred_by.as_ref(), view)),
            status: Some(match (at.hold, person.mutes.any()) {
                (true, _) => EndpointStatus::OnHold,
                (false, true) => EndpointStatus::MutedViaFocus,
                (false, false) => EndpointStatus::Connected,
            }),
            joining_method: Some(match calls.legs.get(id).and_then(|leg| leg.dialled) {
                Some(_) => JoiningMethod::DialedOut,
                None => JoiningMethod::DialedIn,
            }),
            joining_info: Some(Execution { when: Some(at.since), ..Execution::default() }),
            media: vec![audio_media(person, at.hold, calls.legs.get(id))],
            ..Endpoint::default()
        });
        let called = room.dials.values().filter(|dial| dial.callee.person.who == person.who);
        let called = called.map(|dial| self.called(config, room, calls, dial, view));
        let chat = person.chats.values().min().map(|since| Endpoint {
            entity: occupant(config, room, person),
            display_text: Some(nick.to_owned()),
            status: Some(EndpointStatus::Connected),
            joining_info: Some(Execution { when: Some(*since), ..Execution::default() }),
            media: vec![Media {
                id: "1".to_owned(),
                kind: MESSAGE.to_owned(),
                label: None,
                src_id: None,
                status: match person.role {
                    Role::Visitor => MediaStatus::RecvOnly,
                    Role::Participant | Role::Moderator => MediaStatus::SendRecv,
                },
            }],
            ..Endpoint::default()
        });
        let affiliation = room.affiliation(&person.who);
        let roles = std::iter::once(person.role.as_str())
            .chain((affiliation >= Affiliation::Member).then_some(affiliation.as_str()));
        User {
            entity,
            state: State::Full,
            display_text: Some(nick.to_owned()),
            associated_aors: jid
                .map(|jid| UriEntry {
                    uri: xmpp_uri(&Jid::from(jid.clone())),
                    ..UriEntry::default()
                })
                .into_iter()
                .collect(),
            roles: roles.map(str::to_owned).collect(),
            endpoints: audio.chain(called).chain(chat).collect(),
        }
    }

    /// Someone who is being called and is not here in another way.
    fn callee(
        &self,
        config: &FocusConfig,
        room: &Room,
        calls: Calls<'_>,
        dial: &Dial,
        view: View,
    ) -> User {
        let aor = dial.callee.person.aor.as_ref().filter(|_| view == View::Open);
        User {
            entity: aor.map_or_else(|| self.nobody(room, dial.id), ToString::to_string),
            state: State::Full,
            display_text: dial.callee.person.name.clone(),
            endpoints: vec![self.called(config, room, calls, dial, view)],
            ..User::default()
        }
    }

    /// A call that nobody has answered (RFC 4575 §5.7.3).
    fn called(
        &self,
        config: &FocusConfig,
        room: &Room,
        calls: Calls<'_>,
        dial: &Dial,
        view: View,
    ) -> Endpoint {
        let dialling = calls.dials.values().find(|it| it.dial == dial.id && it.room == room.name);
        Endpoint {
            entity: self.instance(config, room, dial.id),
            display_text: dial.callee.person.name.clone(),
            referred: referred(dial.callee.referred_by.as_ref(), view),
            status: Some(match dialling.map_or(Progress::Pending, Dialling::progress) {
                Progress::Pending => EndpointStatus::Pending,
                Progress::Dialling => EndpointStatus::DialingOut,
                Progress::Alerting => EndpointStatus::Alerting,
            }),
            joining_method: Some(JoiningMethod::DialedOut),
            joining_info: Some(Execution { when: Some(dial.since), ..Execution::default() }),
            ..Endpoint::default()
        }
    }

    /// An address for someone whose own is not to be told, the same as long as they are here
    /// (RFC 4575 §5.6). The user part must differ: Linphone takes two people whose URIs differ in
    /// `gr` alone for one.
    pub(super) fn nobody(&self, room: &Room, id: impl ToString) -> String {
        format!("sip:{}@anonymous.invalid", self.digest(room, &id.to_string()))
    }

    /// An address for a leg, the same as long as it is up: a GRUU of our own (RFC 5627 §4.3).
    fn instance(&self, config: &FocusConfig, room: &Room, id: impl ToString) -> String {
        let gr = self.digest(room, &id.to_string());
        format!("{};gr={gr}", config.room_uri(&room.name))
    }

    fn digest(&self, room: &Room, what: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        mac.update(room.name.as_str().as_bytes());
        mac.update(b"\0");
        mac.update(what.as_bytes());
        mac.finalize().into_bytes()[..10].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who referred somebody here (RFC 4575 §5.7.2), for those who may see addresses.
fn referred(by: Option<&String>, view: View) -> Option<Execution> {
    let by = by.filter(|_| view == View::Open).cloned();
    by.map(|by| Execution { by: Some(by), ..Execution::default() })
}

fn description(config: &FocusConfig, room: &Room) -> Description {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let settings = &room.settings;
    Description {
        display_text: text(&settings.name).or_else(|| text(room.name.as_str())),
        subject: room.subject.as_ref().and_then(|subject| text(&subject.text)),
        free_text: text(&settings.description),
        conf_uris: vec![UriEntry::new(config.room_uri(&room.name).to_string(), PARTICIPATION)],
        service_uris: vec![UriEntry::new(config.chat_uri(&room.name), GROUP_TEXT_CHAT)],
        maximum_user_count: settings.max_users,
        available_media: vec![AvailableMedia {
            label: LABEL.to_owned(),
            kind: AUDIO.to_owned(),
            status: MediaStatus::SendRecv,
        }],
    }
}

/// Moderators see everyone's addresses, and everyone does where the room says so.
fn view(room: &Room, who: &Who) -> View {
    let person = room.people.all_of(who).next();
    let moderates = room.affiliation(who) >= Affiliation::Admin
        || person.is_some_and(|person| person.role == Role::Moderator);
    match room.settings.whois {
        Whois::Anyone => View::Open,
        Whois::Moderators if moderates => View::Open,
        Whois::Moderators => View::Veiled(person.map(|person| person.id)),
    }
}

/// A leg's audio, from its person's point of view: on hold as SDP says, muted as one who only
/// listens (RFC 4575 §5.8.5).
fn audio_media(person: &Person, hold: bool, leg: Option<&Leg>) -> Media {
    let theirs = leg.and_then(|leg| leg.audio.as_ref()).map(|audio| audio.remote_direction);
    let status = match theirs {
        Some(direction) if hold => media_status(direction),
        Some(direction) if person.mutes.any() => media_status(direction.and(Direction::RecvOnly)),
        Some(direction) => media_status(direction),
        None => MediaStatus::Inactive,
    };
    Media {
        id: "1".to_owned(),
        kind: AUDIO.to_owned(),
        label: Some(LABEL.to_owned()),
        src_id: leg.and_then(|leg| leg.src_id),
        status,
    }
}

/// Someone's address in the chat room.
fn occupant(config: &FocusConfig, room: &Room, person: &Person) -> String {
    let jid = room.name.jid(&config.xmpp_domain);
    let occupant = jid.with_resource_str(person.nick.as_str());
    xmpp_uri(&occupant.map_or_else(|_| Jid::from(jid), Jid::from))
}

/// At most one document for each subscriber in this time (RFC 4575 §3.9).
pub(super) const PACE: Duration = Duration::from_secs(5);
/// Documents that leave in one go.
pub(super) const BATCH: usize = 32;
/// How many people a document lists at most; `user-count` tells how many there are
/// (RFC 4575 §5.5.1).
const MAX_LISTED: usize = 200;
/// Subscriptions of one person to one room.
pub(super) const MAX_PER_PERSON: usize = 8;
/// Subscriptions in all.
pub(super) const MAX_WATCHERS: usize = 10_000;
