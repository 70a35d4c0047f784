//! One list of the people in a room and in the conference that belongs to it, with what each of them
//! gets: text, audio, or both (RFC 7081 §4).
//!
//! Two entries become one person only on proof. A conference and a room that name each other speak
//! for each other, so then an address that one gives of somebody counts at the other:
//!
//! | proof | what is compared |
//! | --- | --- |
//! | [`Proof::Oneself`] | the caller's own account and the room's word that an occupant is oneself |
//! | [`Proof::Occupant`] | an endpoint of the conference is the occupant's address in the room |
//! | [`Proof::Jid`] | an address of the conference's user is the JID that the room shows |
//! | [`Proof::Card`] | the same through a binding that [`caller`](crate::caller) has confirmed |
//! | [`Proof::Caller`] | the room says with its own hat that an occupant only calls, and the names are one |
//!
//! A display name alone proves nothing, and a nick is not a person: it may be another's a moment
//! later. So what was proven is remembered of the occupant, whom a change of nick does not change and
//! another occupant id (XEP-0421) does, and an address under a nick counts only if the room agrees on
//! who is on the call.

use std::collections::{BTreeMap, BTreeSet};

use cusax::conference::{Conference, Endpoint, EndpointStatus, MESSAGE, MediaStatus, User};
use cusax::hat::{self, Hat};
use cusax::identity::{Aor, jid_of_xmpp_uri};
use jid::{BareJid, Jid};
use minidom::Element;

use crate::link::{OCCUPANT_ID, RoomInfo};

/// The people of one room and one conference.
#[derive(Clone, Debug)]
pub struct People {
    room: BareJid,
    /// The room and the conference name each other.
    linked: bool,
    info: RoomInfo,
    /// The account that calls.
    own_aor: Option<Aor>,
    own_nick: Option<String>,
    own_mute: bool,
    occupants: BTreeMap<String, Occupant>,
    users: Vec<User>,
    bindings: BTreeMap<Aor, BareJid>,
    /// What was proven: the occupant of a user, and how.
    proven: BTreeMap<String, (OccupantKey, Proof)>,
    /// How many occupants came.
    arrivals: u64,
}

/// What stays the same of an occupant whatever their nick: the count of their arrival. An occupant id
/// is not that, for who is in under two nicks has it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OccupantKey(u64);

#[derive(Clone, Debug)]
struct Occupant {
    key: OccupantKey,
    /// XEP-0421.
    id: Option<String>,
    role: Role,
    affiliation: Affiliation,
    jid: Option<Jid>,
    hats: Vec<Badge>,
}

/// Someone in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their nick, or the name that the conference gives them.
    pub name: String,
    /// Whether they are who uses this client.
    pub own: bool,
    /// What they get.
    pub level: Level,
    /// As whom they are in the room, if they are.
    pub role: Option<Role>,
    /// What they are to the room, if it shows them.
    pub affiliation: Option<Affiliation>,
    /// What the room says of them besides (XEP-0317).
    pub hats: Vec<Badge>,
    /// Their JID, if the room shows it.
    pub jid: Option<Jid>,
    /// Their key in the conference, if they are in it: often an address that says nothing.
    pub entity: Option<String>,
    /// Whether they are heard, if they are on the call.
    pub voice: Option<Voice>,
    /// Why a chat user and a caller are taken for this one person.
    pub proof: Option<Proof>,
}

/// What someone gets of a conversation (RFC 7081 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// They read and hear nothing yet: their phone rings, or they wait.
    Coming,
    /// They read.
    Text,
    /// They hear.
    Audio,
    /// They read and hear.
    Both,
}

/// Whether someone on the call is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voice {
    /// They hold the call.
    OnHold,
    /// They hear and are not heard.
    Muted,
    /// They may be heard.
    Open,
}

/// Why two entries are one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// It is oneself.
    Oneself,
    /// By their address in the room.
    Occupant,
    /// By their JID.
    Jid,
    /// By a binding of addresses that was confirmed.
    Card,
    /// By the room's hat of callers without chat.
    Caller,
}

/// A role in a room (XEP-0045 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// None that is known.
    None,
    /// Reads.
    Visitor,
    /// Writes.
    Participant,
    /// Moderates.
    Moderator,
}

/// An affiliation with a room (XEP-0045 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affiliation {
    /// Banned.
    Outcast,
    /// None that is known.
    None,
    /// A member.
    Member,
    /// An admin.
    Admin,
    /// An owner.
    Owner,
}

/// A hat as presence carries it (XEP-0317 §3.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Badge {
    /// What programs compare.
    pub uri: String,
    /// What people read.
    pub title: String,
}

/// Why oneself is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MutedBy {
    /// By oneself, in this client.
    Oneself,
    /// The call is on hold.
    Hold,
    /// The room: oneself has no voice in it (XEP-0045 §8.6 tells how to ask for it).
    Room,
    /// The conference, for another reason.
    Conference,
}

impl People {
    /// An empty list. `linked` says that the room and the conference name each other
    /// ([`Confirmation::Mutual`](crate::link::Confirmation::Mutual)); without it the two only stand
    /// side by side. `own_aor` is the account that calls.
    pub fn new(room: BareJid, info: RoomInfo, linked: bool, own_aor: Option<Aor>) -> Self {
        Self {
            room,
            linked,
            info,
            own_aor,
            own_nick: None,
            own_mute: false,
            occupants: BTreeMap::new(),
            users: vec![],
            bindings: BTreeMap::new(),
            proven: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// Takes in a presence. One that is not from an occupant of the room changes nothing.
    pub fn handle_presence(&mut self, presence: &Element) {
        if presence.name() != "presence" {
            return;
        }
        let from = presence.attr("from").and_then(|from| Jid::new(from).ok());
        let Some(from) = from.filter(|from| from.to_bare() == self.room) else { return };
        let Some(nick) = from.resource().map(|nick| nick.to_string()) else { return };
        let x = presence.get_child("x", MUC_USER);
        let item = x.and_then(|x| x.get_child("item", MUC_USER));
        let has_status = |code: &str| {
            let mut children = x.into_iter().flat_map(Element::children);
            children.any(|child| child.is("status", MUC_USER) && child.attr("code") == Some(code))
        };
        let own = has_status("110");
        match presence.attr("type") {
            None => {
                self.show(&nick, presence, item);
                if own && self.occupants.contains_key(&nick) {
                    self.own_nick = Some(nick);
                }
            }
            Some("unavailable") => {
                let own = own || self.own_nick.as_ref() == Some(&nick);
                let new_nick = item.and_then(|item| item.attr("nick"));
                match new_nick.filter(|_| has_status("303")) {
                    // XEP-0045 §7.6: the same occupant under another nick.
                    Some(new) => {
                        if let Some(occupant) = self.occupants.remove(&nick) {
                            self.occupants.insert(new.to_owned(), occupant);
                            if own {
                                self.own_nick = Some(new.to_owned());
                            }
                        }
                    }
                    None if own => self.leave_room(),
                    None => {
                        self.occupants.remove(&nick);
                    }
                }
            }
            // Errors and requests are not about who is here.
            Some(_) => return,
        }
        self.prove();
    }

    fn show(&mut self, nick: &str, presence: &Element, item: Option<&Element>) {
        let id = presence
            .get_child("occupant-id", OCCUPANT_ID)
            .filter(|_| self.info.occupant_ids)
            .and_then(|id| id.attr("id"))
            .filter(|id| !id.is_empty() && id.len() <= MAX_TEXT)
            .map(str::to_owned);
        let had = self.occupants.get(nick);
        if had.is_none() && self.occupants.len() >= MAX_OCCUPANTS {
            return;
        }
        // Another id under the nick is another person, though nobody said that the first one left.
        let key = had.filter(|had| had.id == id).map(|had| had.key).unwrap_or_else(|| {
            self.arrivals += 1;
            OccupantKey(self.arrivals)
        });
        let attr = |name| item.and_then(|item| item.attr(name));
        let hats = if self.info.hats { badges(presence) } else { vec![] };
        let occupant = Occupant {
            key,
            id,
            role: Role::from_word(attr("role")),
            affiliation: Affiliation::from_word(attr("affiliation")),
            jid: attr("jid").and_then(|jid| Jid::new(jid).ok()),
            hats,
        };
        self.occupants.insert(nick.to_owned(), occupant);
    }

    /// The room is left, or the connection to it lost: of those in it nothing is known.
    pub fn leave_room(&mut self) {
        self.occupants.clear();
        self.own_nick = None;
        self.prove();
    }

    /// Takes in what the conference's subscriber knows; `None` when the subscription is over.
    pub fn handle_conference(&mut self, conference: Option<&Conference>) {
        let users = conference.into_iter().flat_map(|conference| &conference.users.list);
        let mut keys = BTreeSet::new();
        let users = users.filter(|user| keys.insert(user.entity.clone()));
        self.users = users.take(MAX_OCCUPANTS).cloned().collect();
        self.prove();
    }

    /// Takes note that the room and the conference name each other, or no longer do.
    pub fn set_linked(&mut self, linked: bool) {
        self.linked = linked;
        self.prove();
    }

    /// Takes note that an address and a JID are one person's: confirmed by a card or a directory,
    /// never by what a caller says.
    pub fn bind(&mut self, aor: Aor, jid: BareJid) {
        if self.bindings.len() < MAX_OCCUPANTS || self.bindings.contains_key(&aor) {
            self.bindings.insert(aor, jid);
            self.prove();
        }
    }

    /// Takes note that the user muted or unmuted themselves in this client.
    pub fn set_own_mute(&mut self, muted: bool) {
        self.own_mute = muted;
    }

    /// Why oneself is not heard; empty if nothing stands in the way. Lifting one reason leaves the
    /// others.
    pub fn own_mute(&self) -> BTreeSet<MutedBy> {
        let mut muted = BTreeSet::new();
        if self.own_mute {
            muted.insert(MutedBy::Oneself);
        }
        let occupant = self.own_nick.as_ref().and_then(|nick| self.occupants.get(nick));
        let visitor = occupant.is_some_and(|occupant| occupant.role == Role::Visitor);
        if visitor {
            muted.insert(MutedBy::Room);
        }
        let own_user = self.users.iter().find(|user| self.is_own(user));
        match own_user.and_then(voice_of) {
            Some(Voice::OnHold) => {
                muted.insert(MutedBy::Hold);
            }
            // A visitor is muted by the conference because of the room.
            Some(Voice::Muted) if !visitor && own_user.is_some_and(muted_via_focus) => {
                muted.insert(MutedBy::Conference);
            }
            Some(Voice::Muted) if !visitor => {
                muted.insert(MutedBy::Oneself);
            }
            Some(Voice::Muted | Voice::Open) | None => {}
        }
        muted
    }

    /// Everyone, each once, by name.
    pub fn list(&self) -> Vec<Person> {
        let nick_of: BTreeMap<_, _> =
            self.occupants.iter().map(|(nick, occupant)| (occupant.key, nick)).collect();
        let mut joined = BTreeSet::new();
        let mut people = vec![];
        for user in &self.users {
            let proven = self.proven.get(&user.entity);
            let nick = proven.and_then(|(key, _)| nick_of.get(key)).copied();
            if let Some(nick) = nick {
                joined.insert(nick);
            }
            people.extend(self.person(nick, Some(user), proven.map(|(_, proof)| *proof)));
        }
        let alone = self.occupants.keys().filter(|nick| !joined.contains(nick));
        people.extend(alone.filter_map(|nick| self.person(Some(nick), None, None)));
        let by_name = |person: &Person| {
            (person.name.to_lowercase(), person.name.clone(), person.entity.clone())
        };
        people.sort_by_key(by_name);
        people
    }

    fn person(
        &self,
        nick: Option<&String>,
        user: Option<&User>,
        proof: Option<Proof>,
    ) -> Option<Person> {
        let occupant = nick.and_then(|nick| self.occupants.get(nick));
        let wears = |hat| occupant.is_some_and(|occupant| occupant.wears(hat));
        let chats = occupant.is_some() && !wears(Hat::ByPhone);
        let endpoints = || user.into_iter().flat_map(|user| &user.endpoints);
        let here = |endpoint: &&Endpoint| is_here(endpoint);
        let text = chats || endpoints().filter(here).any(is_chat);
        let audio = wears(Hat::OnTheCall) || endpoints().filter(here).any(|one| !is_chat(one));
        let level = match (text, audio) {
            (true, true) => Level::Both,
            (true, false) => Level::Text,
            (false, true) => Level::Audio,
            (false, false) if endpoints().any(is_coming) => Level::Coming,
            // Who has left is told of once more, with how (RFC 4575 §5.7.6).
            (false, false) => return None,
        };
        // The conference knows more of a call than hats say.
        let voice = user.and_then(voice_of).or_else(|| match audio {
            false => None,
            true if wears(Hat::OnHold) => Some(Voice::OnHold),
            true if wears(Hat::Muted) => Some(Voice::Muted),
            true => Some(Voice::Open),
        });
        let named = user.and_then(|user| {
            let endpoints = user.endpoints.iter().map(|endpoint| &endpoint.display_text);
            std::iter::once(&user.display_text).chain(endpoints).flatten().next().cloned()
        });
        let own = nick.is_some() && nick == self.own_nick.as_ref();
        Some(Person {
            name: nick
                .cloned()
                .or(named)
                .or_else(|| user.map(|user| user.entity.clone()))
                .unwrap_or_default(),
            own: own || user.is_some_and(|user| self.is_own(user)),
            level,
            role: occupant.map(|occupant| occupant.role),
            affiliation: occupant.map(|occupant| occupant.affiliation),
            hats: occupant.map(|occupant| occupant.hats.clone()).unwrap_or_default(),
            jid: occupant.and_then(|occupant| occupant.jid.clone()),
            entity: user.map(|user| user.entity.clone()),
            voice,
            proof: nick.and(proof),
        })
    }

    /// Whether a user of the conference is who uses this client: the focus authenticated the account,
    /// or the user was proven to be one's own occupant.
    fn is_own(&self, user: &User) -> bool {
        let own_aor = self.own_aor.as_ref();
        let own_key = self.own_nick.as_ref().and_then(|nick| self.occupants.get(nick));
        own_aor.is_some_and(|own| user.entity.parse::<Aor>().as_ref() == Ok(own))
            || self
                .proven
                .get(&user.entity)
                .is_some_and(|(key, _)| own_key.is_some_and(|occupant| occupant.key == *key))
    }

    /// Finds who is whom. What was proven holds as long as both are there; what is new is looked for
    /// proof by proof, so that a strong one is not in the way of a weak one.
    fn prove(&mut self) {
        let here: BTreeSet<_> = self.occupants.values().map(|occupant| occupant.key).collect();
        let entities: BTreeSet<_> = self.users.iter().map(|user| user.entity.as_str()).collect();
        let mut nicks: BTreeMap<BareJid, BTreeSet<String>> = BTreeMap::new();
        for (nick, occupant) in &self.occupants {
            if let Some(jid) = &occupant.jid {
                nicks.entry(jid.to_bare()).or_default().insert(nick.clone());
            }
        }
        let mut callers: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.users.iter().filter_map(|user| user.display_text.clone()) {
            *callers.entry(name).or_default() += 1;
        }
        let linked = self.linked;
        let mut proven = std::mem::take(&mut self.proven);
        proven.retain(|entity, (key, proof)| {
            (linked || *proof == Proof::Oneself)
                && here.contains(key)
                && entities.contains(entity.as_str())
        });
        let mut taken: BTreeSet<_> = proven.values().map(|(key, _)| *key).collect();
        for proof in [Proof::Oneself, Proof::Occupant, Proof::Jid, Proof::Card, Proof::Caller] {
            if !self.linked && proof != Proof::Oneself {
                break;
            }
            for user in &self.users {
                if proven.contains_key(&user.entity) {
                    continue;
                }
                let nick = match proof {
                    Proof::Oneself => self.own_nick.clone().filter(|_| {
                        let aor = user.entity.parse::<Aor>().ok();
                        aor.is_some() && aor == self.own_aor
                    }),
                    Proof::Occupant => self.by_occupant(user),
                    Proof::Jid => by_jid(&user_jids(user, &self.room), &nicks),
                    Proof::Card => {
                        let aor = user.entity.parse::<Aor>().ok();
                        let jid = aor.and_then(|aor| self.bindings.get(&aor)).cloned();
                        by_jid(&jid.into_iter().collect(), &nicks)
                    }
                    Proof::Caller => self.by_hat(user, &callers),
                };
                let Some(key) = nick.and_then(|nick| self.occupants.get(&nick)).map(|o| o.key)
                else {
                    continue;
                };
                if taken.insert(key) {
                    proven.insert(user.entity.clone(), (key, proof));
                }
            }
        }
        self.proven = proven;
    }

    /// The one occupant whose address in the room an endpoint is. If the room tells who is on the
    /// call, it has to agree, and where both tell the JID, so have these.
    fn by_occupant(&self, user: &User) -> Option<String> {
        let addresses = user.endpoints.iter().filter(|endpoint| is_here(endpoint));
        let nicks: BTreeSet<_> = addresses
            .filter_map(|endpoint| jid_of_xmpp_uri(&endpoint.entity))
            .filter(|jid| jid.to_bare() == self.room)
            .filter_map(|jid| jid.resource().map(|nick| nick.to_string()))
            .collect();
        let nick = only(nicks)?;
        let occupant = self.occupants.get(&nick)?;
        let calls = user.endpoints.iter().any(|endpoint| is_here(endpoint) && !is_chat(endpoint));
        if calls && self.info.hats && !occupant.wears(Hat::OnTheCall) {
            return None;
        }
        let told = user_jids(user, &self.room);
        match &occupant.jid {
            Some(jid) if !told.is_empty() && !told.contains(&jid.to_bare()) => None,
            _ => Some(nick),
        }
    }

    /// The occupant whom the room shows for a caller without chat. It gave the call its nick, which no
    /// other occupant can have; still another user of the conference may use the name.
    fn by_hat(&self, user: &User, callers: &BTreeMap<String, usize>) -> Option<String> {
        let name = user.display_text.as_deref()?;
        let occupant = self.occupants.get(name)?;
        let by_phone = occupant.wears(Hat::ByPhone) && occupant.wears(Hat::OnTheCall);
        let chats = user.endpoints.iter().any(is_chat);
        (by_phone && !chats && callers.get(name) == Some(&1)).then(|| name.to_owned())
    }
}

/// The one occupant who has one of these JIDs.
fn by_jid(jids: &BTreeSet<BareJid>, nicks: &BTreeMap<BareJid, BTreeSet<String>>) -> Option<String> {
    only(jids.iter().filter_map(|jid| nicks.get(jid)).flatten()).cloned()
}

impl Occupant {
    fn wears(&self, hat: Hat) -> bool {
        self.hats.iter().any(|badge| badge.uri == hat.uri())
    }
}

impl Role {
    /// Its word in stanzas.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Visitor => "visitor",
            Self::Participant => "participant",
            Self::Moderator => "moderator",
        }
    }

    fn from_word(word: Option<&str>) -> Self {
        match word {
            Some("visitor") => Self::Visitor,
            Some("participant") => Self::Participant,
            Some("moderator") => Self::Moderator,
            _ => Self::None,
        }
    }
}

impl Affiliation {
    /// Its word in stanzas.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Outcast => "outcast",
            Self::None => "none",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    fn from_word(word: Option<&str>) -> Self {
        match word {
            Some("outcast") => Self::Outcast,
            Some("member") => Self::Member,
            Some("admin") => Self::Admin,
            Some("owner") => Self::Owner,
            _ => Self::None,
        }
    }
}

fn badges(presence: &Element) -> Vec<Badge> {
    let hats = presence.get_child("hats", hat::NS);
    let hats = hats.into_iter().flat_map(Element::children).filter(|hat| hat.is("hat", hat::NS));
    hats.take(MAX_HATS)
        .filter_map(|hat| {
            let text = |name| hat.attr(name).filter(|text| text.len() <= MAX_TEXT);
            Some(Badge { uri: text("uri")?.to_owned(), title: text("title")?.to_owned() })
        })
        .collect()
}

/// The JIDs that a conference gives of a user, those in the room apart.
fn user_jids(user: &User, room: &BareJid) -> BTreeSet<BareJid> {
    let uris = user.associated_aors.iter().map(|entry| entry.uri.as_str());
    uris.chain([user.entity.as_str()])
        .filter_map(jid_of_xmpp_uri)
        .map(|jid| jid.to_bare())
        .filter(|jid| jid != room)
        .collect()
}

/// The only one of these.
fn only<T>(all: impl IntoIterator<Item = T>) -> Option<T> {
    let mut all = all.into_iter();
    match (all.next(), all.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// Whether an endpoint gets what is said; one that tells no status does.
fn is_here(endpoint: &Endpoint) -> bool {
    matches!(
        endpoint.status,
        None | Some(
            EndpointStatus::Connected | EndpointStatus::MutedViaFocus | EndpointStatus::OnHold
        )
    )
}

fn is_coming(endpoint: &Endpoint) -> bool {
    matches!(
        endpoint.status,
        Some(
            EndpointStatus::Pending
                | EndpointStatus::DialingOut
                | EndpointStatus::DialingIn
                | EndpointStatus::Alerting
        )
    )
}

/// Whether an endpoint carries text and nothing else (RFC 7702 §6.2).
fn is_chat(endpoint: &Endpoint) -> bool {
    !endpoint.media.is_empty() && endpoint.media.iter().all(|media| media.kind == MESSAGE)
}

/// How a user is heard: as the endpoint that is heard best.
fn voice_of(user: &User) -> Option<Voice> {
    let calls = user.endpoints.iter().filter(|endpoint| is_here(endpoint) && !is_chat(endpoint));
    calls
        .map(|endpoint| {
            let sends = endpoint.media.is_empty()
                || endpoint.media.iter().any(|media| {
                    media.kind != MESSAGE
                        && matches!(media.status, MediaStatus::SendRecv | MediaStatus::SendOnly)
                });
            match endpoint.status {
                Some(EndpointStatus::OnHold) => Voice::OnHold,
                Some(EndpointStatus::MutedViaFocus) => Voice::Muted,
                _ if !sends => Voice::Muted,
                _ => Voice::Open,
            }
        })
        .max()
}

fn muted_via_focus(user: &User) -> bool {
    let muted = |endpoint: &Endpoint| endpoint.status == Some(EndpointStatus::MutedViaFocus);
    user.endpoints.iter().any(muted)
}

const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// The most occupants, and the most users of a conference, that a list keeps.
const MAX_OCCUPANTS: usize = 5_000;
/// The most hats of one occupant.
const MAX_HATS: usize = 16;
/// The longest text of a hat or occupant id, in bytes.
const MAX_TEXT: usize = 1_024;

#[cfg(test)]
mod tests {
    use cusax::conference::{AUDIO, Media, UriEntry, Users};

    use super::*;

    const ROOM: &str = "tea@rooms.example.org";

    /// A room that gives hats and ids, linked to its conference; `tests/it/client.rs` of the server
    /// plays whole meetings.
    fn people(linked: bool) -> People {
        let info = RoomInfo { conference: None, hats: true, occupant_ids: true };
        let own = "sip:me@example.org".parse().unwrap();
        People::new(BareJid::new(ROOM).unwrap(), info, linked, Some(own))
    }

    /// A presence in short: a nick, its occupant id, hats, and what else it holds.
    fn presence(people: &mut People, nick: &str, id: &str, hats: &[Hat], item: &str, codes: &str) {
        let hats: String = hats
            .iter()
            .map(|hat| format!("<hat uri='{}' title='{}'/>", hat.uri(), hat.title()))
            .collect();
        let codes: String = codes
            .split(' ')
            .filter(|code| !code.is_empty())
            .fold(String::new(), |all, code| all + &format!("<status code='{code}'/>"));
        let kind = if item.contains("role='none'") { "type='unavailable'" } else { "" };
        let text = format!(
            "<presence xmlns='jabber:client' from='{ROOM}/{nick}' {kind}>\
             <hats xmlns='urn:xmpp:hats:0'>{hats}</hats>\
             <occupant-id xmlns='urn:xmpp:occupant-id:0' id='{id}'/>\
             <x xmlns='http://jabber.org/protocol/muc#user'><item {item}/>{codes}</x></presence>"
        );
        people.handle_presence(&text.parse().unwrap());
    }

    const HERE: &str = "affiliation='none' role='participant'";
    const GONE: &str = "affiliation='none' role='none'";

    fn endpoint(entity: &str, kind: &str, status: EndpointStatus) -> Endpoint {
        let media = Media {
            id: "1".to_owned(),
            kind: kind.to_owned(),
            label: None,
            src_id: None,
            status: MediaStatus::SendRecv,
        };
        let entity = entity.to_owned();
        Endpoint { entity, status: Some(status), media: vec![media], ..Endpoint::default() }
    }

    /// A caller, who may also be in the room under a nick.
    fn caller(entity: &str, name: &str, nick: Option<&str>) -> User {
        let call = endpoint(&format!("{entity};gr=1"), AUDIO, EndpointStatus::Connected);
        let chat = nick.map(|nick| {
            endpoint(&format!("xmpp:{ROOM}/{nick}"), MESSAGE, EndpointStatus::Connected)
        });
        User {
            entity: entity.to_owned(),
            display_text: Some(name.to_owned()),
            endpoints: std::iter::once(call).chain(chat).collect(),
            ..User::default()
        }
    }

    fn tell(people: &mut People, list: &[User]) {
        let users = Users { list: list.to_vec(), ..Users::default() };
        people.handle_conference(Some(&Conference { users, ..Conference::default() }));
    }

    /// The list in short: name, level, and the proof.
    fn list(people: &People) -> Vec<String> {
        let list = people.list().into_iter().map(|person| {
            let proof = person.proof.map(|proof| format!(" {proof:?}")).unwrap_or_default();
            format!("{} {:?}{proof}", person.name, person.level)
        });
        list.collect()
    }

    const HIDDEN: &str = "sip:1f@anonymous.invalid";

    #[test]
    fn chat_and_call_of_one_person_are_one() {
        let mut people = people(true);
        presence(&mut people, "Alice", "a", &[Hat::OnTheCall], HERE, "");
        presence(&mut people, "Bob", "b", &[], HERE, "");
        presence(&mut people, "Carol", "c", &[Hat::OnTheCall, Hat::ByPhone], HERE, "");
        assert_eq!(list(&people), ["Alice Both", "Bob Text", "Carol Audio"]);
        let alice = caller(HIDDEN, "Alice", Some("Alice"));
        let carol = caller("sip:2f@anonymous.invalid", "Carol", None);
        tell(&mut people, &[alice.clone(), carol.clone()]);
        let together = ["Alice Both Occupant", "Bob Text", "Carol Audio Caller"];
        assert_eq!(list(&people), together);
        // A new nick leaves what was proven, though the document has the old one.
        let renamed = format!("{HERE} nick='Ally'");
        presence(&mut people, "Alice", "a", &[], &format!("{GONE} nick='Ally'"), "303");
        presence(&mut people, "Ally", "a", &[Hat::OnTheCall], &renamed, "");
        assert_eq!(list(&people), ["Ally Both Occupant", "Bob Text", "Carol Audio Caller"]);
        // Another who takes a nick is not who had it.
        presence(&mut people, "Carol", "c", &[], GONE, "");
        presence(&mut people, "Carol", "mallory", &[], HERE, "");
        let carols = ["Ally Both Occupant", "Bob Text", "Carol Text", "Carol Audio"];
        assert_eq!(list(&people), carols);
        // Without the link the two stand side by side.
        people.set_linked(false);
        assert_eq!(list(&people).len(), 5);
    }

    #[test]
    fn a_nick_that_is_anothers_proves_nothing() {
        let mut people = people(true);
        tell(&mut people, &[caller(HIDDEN, "Alice", Some("Alice"))]);
        // Mallory is in the room as Alice, and the room does not see them on the call.
        presence(&mut people, "Alice", "m", &[], HERE, "");
        assert_eq!(list(&people), ["Alice Text", "Alice Both"]);
        assert!(people.list().iter().all(|person| person.proof.is_none()));
        // The conference gives another JID than the room.
        let mut other = caller(HIDDEN, "Alice", Some("Alice"));
        let uri = "xmpp:alice@example.org".to_owned();
        other.associated_aors.push(UriEntry { uri, ..UriEntry::default() });
        let item = format!("{HERE} jid='mallory@example.org/x'");
        presence(&mut people, "Alice", "m", &[Hat::OnTheCall], &item, "");
        people.proven.clear();
        tell(&mut people, &[other]);
        assert!(people.list().iter().all(|person| person.proof.is_none()));
    }

    #[test]
    fn hats_of_a_room_that_gives_none_are_a_clients() {
        let mut people = people(true);
        people.info = RoomInfo::default();
        tell(&mut people, &[caller(HIDDEN, "Carol", None)]);
        presence(&mut people, "Carol", "c", &[Hat::OnTheCall, Hat::ByPhone], HERE, "");
        assert_eq!(list(&people), ["Carol Text", "Carol Audio"]);
        assert!(people.list().iter().all(|person| person.hats.is_empty()));
    }

    #[test]
    fn addresses_prove_who_one_is() {
        let mut people = people(true);
        let item = format!("{HERE} jid='alice@example.org/desk'");
        presence(&mut people, "Al", "a", &[Hat::OnTheCall], &item, "");
        let mut alice = caller("sip:alice@example.org", "Alice", None);
        tell(&mut people, &[alice.clone()]);
        assert_eq!(list(&people), ["Al Both", "Alice Audio"]);
        people.bind(
            "sip:alice@example.org".parse().unwrap(),
            BareJid::new("alice@example.org").unwrap(),
        );
        assert_eq!(list(&people), ["Al Both Card"]);
        alice.entity = HIDDEN.to_owned();
        let uri = "xmpp:alice@example.org".to_owned();
        alice.associated_aors.push(UriEntry { uri, ..UriEntry::default() });
        tell(&mut people, &[alice.clone()]);
        assert_eq!(list(&people), ["Al Both Jid"]);
        // Under two nicks it does not say which.
        people.leave_room();
        people.handle_conference(None);
        presence(&mut people, "Al", "a", &[], &item, "");
        presence(&mut people, "Al 2", "a", &[], &item, "");
        tell(&mut people, &[alice]);
        assert_eq!(list(&people), ["Al Text", "Al 2 Text", "Alice Audio"]);
    }

    #[test]
    fn knows_oneself_and_who_muted_one() {
        let mut people = people(false);
        presence(&mut people, "Me", "m", &[], HERE, "110");
        let mut me = caller("sip:me@example.org", "x", None);
        tell(&mut people, &[me.clone(), caller(HIDDEN, "Bob", None)]);
        // Oneself is oneself on both sides, whether these are linked or not.
        assert_eq!(list(&people), ["Bob Audio", "Me Both Oneself"]);
        assert_eq!(
            people.list().iter().map(|person| person.own).collect::<Vec<_>>(),
            [false, true]
        );
        let mut check = |mute: bool, item: &str, status, media, expected: &[MutedBy]| {
            people.set_own_mute(mute);
            presence(&mut people, "Me", "m", &[], item, "110");
            me.endpoints[0].status = Some(status);
            me.endpoints[0].media[0].status = media;
            tell(&mut people, &[me.clone()]);
            let muted: Vec<_> = people.own_mute().into_iter().collect();
            assert_eq!(muted, expected, "{mute} {item} {status:?} {media:?}");
        };
        let visitor = "affiliation='none' role='visitor'";
        let (on, muted) = (EndpointStatus::Connected, EndpointStatus::MutedViaFocus);
        let (both, listens) = (MediaStatus::SendRecv, MediaStatus::RecvOnly);
        check(false, HERE, on, both, &[]);
        check(true, HERE, on, both, &[MutedBy::Oneself]);
        check(false, HERE, on, listens, &[MutedBy::Oneself]);
        check(false, HERE, muted, listens, &[MutedBy::Conference]);
        check(true, HERE, muted, listens, &[MutedBy::Oneself, MutedBy::Conference]);
        check(false, visitor, muted, listens, &[MutedBy::Room]);
        check(true, visitor, muted, listens, &[MutedBy::Oneself, MutedBy::Room]);
        check(false, HERE, EndpointStatus::OnHold, both, &[MutedBy::Hold]);
        check(false, GONE, on, both, &[]);
        assert_eq!(list(&people), ["x Audio"]);
    }

    #[test]
    fn tells_how_far_someone_is() {
        let check = |status, expected: &[&str]| {
            let mut people = people(true);
            let mut user = caller(HIDDEN, "Dave", None);
            user.endpoints[0].status = Some(status);
            tell(&mut people, &[user]);
            assert_eq!(list(&people), expected, "{status:?}");
        };
        check(EndpointStatus::Connected, &["Dave Audio"]);
        check(EndpointStatus::MutedViaFocus, &["Dave Audio"]);
        check(EndpointStatus::OnHold, &["Dave Audio"]);
        check(EndpointStatus::Alerting, &["Dave Coming"]);
        check(EndpointStatus::Pending, &["Dave Coming"]);
        check(EndpointStatus::Disconnecting, &[]);
        check(EndpointStatus::Disconnected, &[]);
    }

    #[test]
    fn strange_stanzas_and_crowds_are_bounded() {
        let mut people = people(true);
        for text in [
            "<message xmlns='jabber:client' from='tea@rooms.example.org/x'/>",
            "<presence xmlns='jabber:client'/>",
            "<presence xmlns='jabber:client' from='@'/>",
            "<presence xmlns='jabber:client' from='tea@rooms.example.org'/>",
            "<presence xmlns='jabber:client' from='other@rooms.example.org/x'/>",
            "<presence xmlns='jabber:client' type='error' from='tea@rooms.example.org/x'/>",
            "<presence xmlns='jabber:client' type='unavailable' from='tea@rooms.example.org/x'/>",
        ] {
            people.handle_presence(&text.parse().unwrap());
            assert_eq!(list(&people), [""; 0], "{text}");
        }
        for i in 0..MAX_OCCUPANTS {
            people.occupants.insert(
                format!("{i}"),
                Occupant {
                    key: OccupantKey(0),
                    id: None,
                    role: Role::None,
                    affiliation: Affiliation::None,
                    jid: None,
                    hats: vec![],
                },
            );
        }
        presence(&mut people, "one more", "x", &[], HERE, "");
        assert_eq!(people.occupants.len(), MAX_OCCUPANTS);
        presence(&mut people, "7", "x", &[], GONE, "");
        presence(&mut people, "one more", "x", &[], HERE, "");
        assert!(people.occupants.contains_key("one more"));
        // One key twice is one user.
        people.leave_room();
        tell(&mut people, &[caller(HIDDEN, "A", None), caller(HIDDEN, "B", None)]);
        assert_eq!(list(&people), ["A Audio"]);
    }
}
