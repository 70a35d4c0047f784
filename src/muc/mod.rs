//! How chat clients see rooms: XEP-0045 and its neighbours.
//!
//! Three functions, as for every face: [`Muc::decode`] what they ask, [`Muc::answer`] the asker,
//! [`Muc::render`] to everyone what became true. It knows stanzas and rooms, and nothing of sockets
//! or of SIP. What it keeps of its own is what rooms do not care for: the presence that each
//! session shows, and which sessions still answer.
//!
//! | read | to learn |
//! | --- | --- |
//! | `stanza`, `xml` | who says something to what; building XML |
//! | `presence` | join, leave, nick, status; the broadcast, with hats for the call |
//! | `message` | groupchat, private messages, subject, history, invitations, voice requests |
//! | `adhoc` | commands with forms, for operators and moderators |
//! | `admin`, `owner`, `form` | `muc#admin` lists, `muc#owner` configuration |
//! | `register` | nicks that members keep |
//! | `relay` | iqs between occupants |
//! | `hats` | what owners call people |
//! | `avatar` | the room's picture |
//! | `archive` | asking a room's archive; taking messages back |
//! | `disco` | what the service and a room say of themselves, the SIP address among it |
//! | `search` | looking for public rooms |
//! | `chats`, `ghosts` | sessions, and finding out which of them are gone |
//! | `error`, `limits` | why not, and how much |

mod adhoc;
mod admin;
mod archive;
mod avatar;
mod chats;
mod disco;
mod error;
mod form;
mod ghosts;
mod hats;
mod limits;
mod message;
mod owner;
mod presence;
mod register;
mod relay;
mod search;
mod stanza;
mod xml;

use std::time::Instant;

use cusax::hat::Hat;
use jid::{BareJid, DomainPart, FullJid, Jid};
use minidom::Element;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::clock::Now;
use crate::id::{PersonId, RoomName};
use crate::room::person::Who;
use crate::room::standing::{Affiliation, Role};
use crate::room::{By, Command, Fact, Refusal, Room, Rooms};
use crate::stanzas::Stanzas;
use adhoc::Commands;
pub use adhoc::Order;
use archive::Asked;
use chats::{Chats, Entry};
use error::Fault;
use ghosts::Ghosts;
pub use limits::Rates;
use relay::Relay;
use search::Searchers;
use stanza::{Address, Head};
use xml::{Xml, ns};

/// The chat face.
#[derive(Debug)]
pub struct Muc {
    config: MucConfig,
    chats: Chats,
    ghosts: Ghosts,
    relay: Relay,
    asked: Asked,
    commands: Commands,
    searchers: Searchers,
    /// The hats that were shown last: a fact about a mute may say nothing new.
    latest: Option<(RoomName, PersonId, Vec<Hat>)>,
    /// For the ids of messages (XEP-0359).
    rng: StdRng,
}

/// What the chat face is told.
#[derive(Clone, Debug)]
pub struct MucConfig {
    /// The component's domain: rooms are `ROOM@domain`.
    pub domain: DomainPart,
    /// Conference URIs are `sip:ROOM@sip_domain`.
    pub sip_domain: String,
    /// The fields of `muc#roominfo` that carry the conference URI (RFC 7081 §4).
    pub spellings: Vec<String>,
    /// Whether presence carries the conference as Jitsi Desktop reads it.
    pub jitsi_conference: bool,
    /// The key of occupant ids (XEP-0421): the same after a restart, and told to nobody.
    pub secret: Vec<u8>,
    /// What XEP-0092 answers.
    pub version: String,
    /// How often is too often.
    pub rates: Rates,
}

/// What a stanza asks of a room.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Which room.
    pub room: RoomName,
    /// Who asks.
    pub by: By,
    /// What.
    pub command: Command,
    /// How to answer.
    pub reply: Reply,
}

/// Who waits for the answer to an [`Ask`], and what is to be remembered if the room agrees.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nobody waits.
    Nobody,
    /// An iq: it is always answered.
    Iq(Head),
    /// An ad-hoc command, by its node, in a session.
    Command(Head, &'static str, String),
    /// A message, with what of it comes back if it is refused.
    Message(Head, Vec<Element>),
    /// A presence.
    Presence {
        /// Its head.
        head: Head,
        /// Whose.
        chat: FullJid,
        /// What it carries.
        shown: Vec<Element>,
        /// What it asks for, if it is an entry.
        entry: Option<Entry>,
    },
    /// A presence that leaves.
    Leaving {
        /// Whose.
        chat: FullJid,
        /// What it carries.
        shown: Vec<Element>,
    },
}

impl Muc {
    /// A face without sessions. `seed` makes the ids of messages.
    pub fn new(config: MucConfig, seed: u64) -> Self {
        Self {
            config,
            chats: Chats::default(),
            ghosts: Ghosts::default(),
            relay: Relay::default(),
            asked: Asked::default(),
            commands: Commands::default(),
            searchers: Searchers::default(),
            latest: None,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Tells the conference URI in other fields from now on.
    pub fn set_spellings(&mut self, spellings: Vec<String>) {
        self.config.spellings = spellings;
    }

    /// Has presence carry the conference for Jitsi Desktop, or not, from now on.
    pub fn set_jitsi_conference(&mut self, carries: bool) {
        self.config.jitsi_conference = carries;
    }

    /// Has other rates hold from now on.
    pub fn set_rates(&mut self, rates: Rates) {
        self.config.rates = rates;
    }

    /// Reads a stanza as a command; what needs no room, or only a look at one, is answered here.
    ///
    /// An iq that asks is always answered, and an error never.
    pub fn decode(
        &mut self,
        now: Now,
        stanza: Element,
        rooms: &Rooms,
        out: &mut Stanzas,
    ) -> Option<Ask> {
        if !stanza.has_ns(ns::CLIENT) {
            return None;
        }
        let from =
            xml::jid(&stanza, "from").filter(|from| from.domain() != &*self.config.domain)?;
        let to = xml::jid(&stanza, "to").filter(|to| to.domain() == &*self.config.domain);
        let misaddressed = to.is_none();
        let head = Head {
            from,
            to: to.unwrap_or_else(|| self.config.domain.clone().into()),
            id: stanza.attr("id").map(str::to_owned),
            kind: stanza.attr("type").map(str::to_owned),
        };
        let name = stanza.name().to_owned();
        let wants_answer = match name.as_str() {
            "iq" => !matches!(head.kind(), "result" | "error"),
            "message" => head.kind() != "error",
            "presence" => !matches!(head.kind(), "error" | "unavailable"),
            _ => false,
        };
        let by = head.room_jid();
        let echo = echo(&stanza);
        let asked = if misaddressed {
            Err(Fault::jid_malformed("There can be no such address here."))
        } else {
            match name.as_str() {
                "iq" => self.iq(now, &head, &stanza, rooms, out),
                "message" => self.message(now, &head, stanza, rooms, out),
                "presence" => self.presence(now, &head, stanza, rooms, out),
                _ => Ok(None),
            }
        };
        match asked {
            Ok(ask) => ask,
            Err(fault) => {
                if wants_answer {
                    out.push(fault.bounce(&name, &head, echo, by));
                }
                None
            }
        }
    }

    /// Answers who asked, after [`Self::throw_out`] and before what became true is rendered.
    pub fn answer(
        &mut self,
        room: &RoomName,
        reply: Reply,
        result: Result<(), Refusal>,
        out: &mut Stanzas,
    ) {
        match (reply, result) {
            (Reply::Nobody | Reply::Message(..), Ok(())) => {}
            (Reply::Nobody | Reply::Leaving { .. }, Err(_)) => {}
            (Reply::Leaving { chat, shown }, Ok(())) => {
                if let Some(session) = self.chats.get_mut(room, &chat) {
                    session.shown = shown;
                }
            }
            (Reply::Command(head, node, session), Ok(())) => {
                let done = self.commands.done(node, &session);
                out.push(head.result(Some(done)));
            }
            (Reply::Command(head, ..), Err(refusal)) => {
                let by = head.room_jid();
                out.push(Fault::from(refusal).bounce("iq", &head, None, by));
            }
            (Reply::Iq(head), Ok(())) => out.push(head.result(None)),
            // What one may do from outside depends on affiliation alone (XEP-0045 §8 to §10).
            (Reply::Iq(head), Err(Refusal::NotHere)) => {
                let by = head.room_jid();
                out.push(Fault::from(Refusal::Forbidden).bounce("iq", &head, None, by));
            }
            (Reply::Iq(head), Err(refusal)) => {
                let by = head.room_jid();
                out.push(Fault::from(refusal).bounce("iq", &head, None, by));
            }
            (Reply::Message(head, echo), Err(refusal)) => {
                let by = head.room_jid();
                out.push(Fault::from(refusal).bounce("message", &head, echo, by));
            }
            (Reply::Presence { chat, shown, entry, .. }, Ok(())) => {
                self.chats.show(room, &chat, shown, entry);
            }
            (Reply::Presence { head, entry, .. }, Err(refusal)) => {
                let echo =
                    entry.and_then(|entry| entry.history).map(|_| Element::bare("x", ns::MUC));
                let by = head.room_jid();
                out.push(Fault::from(refusal).bounce("presence", &head, echo, by));
            }
        }
    }

    /// Shows everyone in the chat what became true.
    pub fn render(&mut self, now: Now, room: &Room, fact: &Fact, out: &mut Stanzas) {
        match fact {
            // The creator learns it with their own presence (201).
            Fact::Created { .. } => {}
            Fact::ChatEntered { person, chat, arrival } => {
                self.show_entry(now, room, *person, chat, *arrival, out);
            }
            Fact::Renamed { person, old } => self.show_new_nick(room, *person, old, out),
            Fact::PresenceShown { person, .. }
            | Fact::CallEntered { person, .. }
            | Fact::LegChanged { person, .. }
            | Fact::CallLeft { person, .. }
            | Fact::HandChanged { person } => self.show_person(room, *person, None, None, out),
            Fact::ChatLeft { person, chat, lost } => {
                self.show_chat_left(room, *person, chat, *lost, out);
            }
            Fact::Gone { was, affiliation, departure, by, reason } => {
                let why = presence::Gone {
                    affiliation: *affiliation,
                    departure: *departure,
                    by: by.as_ref(),
                    reason: reason.as_deref(),
                };
                self.show_gone(room, was, &why, out);
            }
            Fact::StandingChanged { person, role, by, reason, .. } => {
                self.hide_after(room, *person, *role, out);
                self.show_person(room, *person, by.as_ref(), reason.as_deref(), out);
                self.show_addresses_to_new_moderator(room, *person, *role, out);
            }
            Fact::AffiliationChanged { who, old, new, reason, by } => {
                let change = admin::Affiliated {
                    who,
                    old: *old,
                    new: *new,
                    reason: reason.as_deref(),
                    by: by.as_ref(),
                };
                self.show_affiliation(room, &change, out);
            }
            Fact::MuteChanged { person, old } => self.show_mute(room, *person, old, out),
            Fact::VoiceRequested { person } => self.show_voice_request(room, *person, out),
            Fact::Spoken(said) => self.show_said(room, said, out),
            Fact::Whispered { from, to, id, payload } => {
                self.show_whisper(room, *from, *to, id.as_deref(), payload, out);
            }
            Fact::SubjectChanged(said) => self.show_subject(room, said.id.as_deref(), out),
            Fact::Retracted { said, .. } => self.show_said(room, said, out),
            Fact::Configured { old, first } => {
                if !first {
                    self.show_configured(room, old, out);
                }
            }
            Fact::HatsChanged { wearers, list } => {
                if *list {
                    self.show_changed(room, &[104], out);
                }
                for person in wearers {
                    self.show_person(room, *person, None, None, out);
                }
            }
            Fact::AvatarChanged => self.show_changed(room, &[104], out),
            Fact::RegistrationRequested { jid, nick } => self.show_request(room, jid, nick, out),
            Fact::RequestEnded { jid, end } => self.show_request_end(room, jid, *end, out),
            Fact::Dialled { dial } => self.invite_callee(room, *dial, out),
            // Who registered has the answer to their iq.
            Fact::NickRegistered { .. } | Fact::DialEnded { .. } => {}
            // XEP-0045 has no word for a lock: who is refused is told why.
            Fact::LockChanged => {}
            Fact::Destroyed { people, end } => self.show_destroyed(room, people, end, out),
        }
    }

    /// The link to the server went up or down. While it is down sessions are kept, since calls go
    /// on; when it is back each is asked whether it still is there.
    pub fn link(&mut self, now: Now, up: bool) {
        if up {
            self.ghosts.link_up(now.instant, self.chats.iter());
        } else {
            self.ghosts.link_down();
        }
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due =
            [self.ghosts.poll_timeout(), self.relay.poll_timeout(), self.asked.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// Does what is due: asks sessions whether they still are there, and gives up those that did
    /// not answer, as well as iqs to occupants that nobody answered and questions that the archive
    /// did not.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Stanzas) -> Vec<Ask> {
        self.asked.handle_timeout(now, out);
        for (serial, room, chat) in self.ghosts.due(now.instant) {
            if self.chats.get(&room, &chat).is_none() {
                continue;
            }
            let ping = Xml::new("iq", ns::CLIENT)
                .attr("from", self.room_jid(&room).as_str())
                .attr("to", chat.as_str())
                .attr("type", "get")
                .attr("id", format!("{}{serial}", ghosts::PING_ID))
                .child(Xml::new("ping", ns::PING));
            out.push(ping.into());
        }
        self.give_up_iqs(now, out);
        let lost = self.ghosts.lost(now.instant);
        self.ghosts.settle();
        lost.into_iter().filter_map(|ping| self.lose(ping.room, ping.chat)).collect()
    }

    /// How many chat sessions there are, each counted once for each room.
    pub fn sessions(&self) -> usize {
        self.chats.len()
    }

    /// An iq: exactly one child, and always an answer (RFC 6120 §8.2.3).
    fn iq(
        &mut self,
        now: Now,
        head: &Head,
        stanza: &Element,
        rooms: &Rooms,
        out: &mut Stanzas,
    ) -> Result<Option<Ask>, Fault> {
        let set = match head.kind() {
            "get" => false,
            "set" => true,
            "result" | "error" if self.pass_back(head, stanza, out) => return Ok(None),
            "result" | "error" => return Ok(self.pong(now, head, stanza, rooms, out)),
            _ => return Err(Fault::bad_request("An iq is a get, a set, a result or an error.")),
        };
        let mut children = stanza.children();
        let (Some(query), None) = (children.next(), children.next()) else {
            return Err(Fault::bad_request("An iq has exactly one child."));
        };
        if head.id.is_none() {
            return Err(Fault::bad_request("An iq has an id."));
        }
        match head.address() {
            Address::Service if query.is("command", ns::COMMANDS) && set => {
                let command = (xml::lang(stanza), query);
                self.command(now, head, command, None, rooms, out)
            }
            Address::Service => self.service_iq(now, head, set, query, rooms).map(|payload| {
                out.push(head.result(payload));
                None
            }),
            Address::Room(name) => {
                let room = open(rooms, &name).ok_or(Refusal::NoSuchRoom)?;
                match (query.name(), query.ns().as_str(), set) {
                    ("query", ns::DISCO_INFO, false) => {
                        out.push(head.result(Some(self.room_info(head, room, query, rooms)?)));
                        Ok(None)
                    }
                    ("query", ns::DISCO_ITEMS, false) => {
                        out.push(head.result(Some(self.room_items(head, room, query, rooms)?)));
                        Ok(None)
                    }
                    ("ping", ns::PING, false) => {
                        out.push(head.result(None));
                        Ok(None)
                    }
                    ("query", ns::MUC_ADMIN, false) => {
                        out.push(head.result(Some(self.admin_list(head, room, query)?)));
                        Ok(None)
                    }
                    ("query", ns::MUC_ADMIN, true) => self.admin_set(head, room, query).map(Some),
                    ("query", ns::MUC_OWNER, false) => {
                        out.push(head.result(Some(self.config_form(head, room)?)));
                        Ok(None)
                    }
                    ("query", ns::MUC_OWNER, true) => self.owner_set(head, room, query).map(Some),
                    ("query", ns::REGISTER, false) => {
                        out.push(head.result(Some(register::register_form(head, room)?)));
                        Ok(None)
                    }
                    ("query", ns::REGISTER, true) => {
                        register::register_set(head, room, query).map(Some)
                    }
                    ("vCard", ns::VCARD, false) if disco::tells(room, &head.from) => {
                        out.push(head.result(Some(avatar::vcard(room)?)));
                        Ok(None)
                    }
                    ("vCard", ns::VCARD, true) => avatar::vcard_set(head, room, query).map(Some),
                    ("query", ns::MAM, false) => {
                        out.push(head.result(Some(self.archive_form(head, room)?)));
                        Ok(None)
                    }
                    ("query", ns::MAM, true) => {
                        self.archive_query(now, head, room, query).map(|()| None)
                    }
                    ("metadata", ns::MAM, false) => {
                        self.archive_ends(now, head, room).map(|()| None)
                    }
                    ("command", ns::COMMANDS, true) => {
                        let command = (xml::lang(stanza), query);
                        self.command(now, head, command, Some(room), rooms, out)
                    }
                    ("moderate", ns::MODERATE, true) | ("apply-to", ns::FASTEN, true) => {
                        self.retract(now, head, room, query)
                    }
                    _ => Err(Fault::unavailable()),
                }
            }
            Address::Occupant(name, nick) => {
                let room = open(rooms, &name).ok_or(Refusal::NoSuchRoom);
                let here = room.as_ref().ok().and_then(|room| room.by_chat(head.chat()?));
                let is = |name, ns| query.is(name, ns);
                match (here, room) {
                    // Whoever is not in hears it in the words of XEP-0410 §3.1, whatever the room.
                    (None, _) if is("query", ns::DISCO_INFO) || is("query", ns::DISCO_ITEMS) => {
                        // §6.6
                        Err(Fault::bad_request("Only occupants may ask occupants."))
                    }
                    (None, _) | (_, Err(_)) => Err(Fault::not_here()),
                    (Some(person), Ok(_)) if person.nick == nick && is("ping", ns::PING) => {
                        out.push(head.result(None));
                        Ok(None)
                    }
                    (Some(asker), Ok(room)) => {
                        let asked = room.by_nick(&nick).ok_or(Refusal::NoSuchPerson)?;
                        self.pass_on(now, head, query, room, (asker, asked), out)?;
                        Ok(None)
                    }
                }
            }
            Address::BadNick(_) | Address::Nothing => Err(Fault::unavailable()),
        }
    }

    /// Something we sent did not arrive: is its addressee gone (XEP-0045 §11.1)?
    fn undelivered(&mut self, now: Now, head: &Head, stanza: &Element) -> Option<Ask> {
        let room = match head.address() {
            Address::Room(room) | Address::Occupant(room, _) => room,
            Address::Service | Address::BadNick(_) | Address::Nothing => return None,
        };
        let chat = head.chat()?;
        self.chats.get(&room, chat)?;
        let gone = ghosts::says_gone(stanza) && self.ghosts.gives_up(now.instant, &room, chat);
        gone.then(|| self.lose(room, chat.clone())).flatten()
    }

    /// The answer to one of our pings.
    fn pong(
        &mut self,
        now: Now,
        head: &Head,
        stanza: &Element,
        rooms: &Rooms,
        out: &mut Stanzas,
    ) -> Option<Ask> {
        let ping = self.ghosts.answered(head.id.as_deref()?, head.chat()?)?;
        let ask = if head.kind() == "error" && ghosts::says_gone(stanza) {
            let gone = self.ghosts.gives_up(now.instant, &ping.room, &ping.chat);
            gone.then(|| self.lose(ping.room, ping.chat)).flatten()
        } else {
            if let Some(room) = open(rooms, &ping.room) {
                self.show_again(room, &ping.chat, out);
            }
            None
        };
        self.ghosts.settle();
        ask
    }

    fn lose(&self, room: RoomName, chat: FullJid) -> Option<Ask> {
        self.chats.get(&room, &chat)?;
        let command = Command::LoseChat { chat };
        Some(Ask { room, by: By::Server, command, reply: Reply::Nobody })
    }

    fn room_jid(&self, room: &RoomName) -> BareJid {
        room.jid(&self.config.domain)
    }

    /// A fresh id of a message (XEP-0359 §3).
    fn fresh_id(&mut self) -> String {
        format!("{:016x}", self.rng.next_u64())
    }
}

/// A room that has not ended.
fn open<'a>(rooms: &'a Rooms, name: &RoomName) -> Option<&'a Room> {
    rooms.get(name).filter(|room| !room.has_ended())
}

/// With what role and affiliation someone asks something of a room.
fn standing(room: &Room, from: &Jid) -> (Option<Role>, Affiliation) {
    let person = from.try_as_full().ok().and_then(|chat| room.by_chat(chat));
    (person.map(|person| person.role), room.affiliation(&Who::Jid(from.to_bare())))
}

/// What of a refused stanza goes back to its sender (RFC 6120 §8.3.1): enough for a client to tell
/// what it was, and never a password.
fn echo(stanza: &Element) -> Vec<Element> {
    match stanza.name() {
        "message" => ["body", "subject"]
            .iter()
            .filter_map(|name| stanza.get_child(name, ns::CLIENT))
            .filter(|child| xml::size(child) <= MAX_ECHO)
            .cloned()
            .collect(),
        "presence" if stanza.has_child("x", ns::MUC) => vec![Element::bare("x", ns::MUC)],
        _ => vec![],
    }
}

/// How much of a refused message goes back, in bytes.
const MAX_ECHO: usize = 8 * 1024;
