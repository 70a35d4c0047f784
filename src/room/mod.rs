//! What a conference is, whoever looks at it and from where.
//!
//! [`Rooms::apply`] takes a [`Command`] and answers with the [`Fact`]s that it made true, or with a
//! [`Refusal`], and then nothing changed. A room knows no XML, no SIP, no clock and no database:
//! the faces decode what their network says into commands and render facts into what it expects.
//!
//! | read | to learn |
//! | --- | --- |
//! | [`person`], [`people`] | one person: chats under a nick, and call legs; finding one among many |
//! | [`standing`] | affiliations and roles; the privilege tables of XEP-0045 §5 |
//! | [`settings`] | a room's configuration |
//! | [`history`] | what was said, and what newcomers are told of it |
//! | [`hats`] | what owners call people |
//! | [`avatar`] | the picture that stands for a room |
//! | [`changes`] | whose affiliations changed since when |
//! | [`dial`] | calls that a room makes |
//! | `enter`, `leave` | coming, with the ordered checks, and going |
//! | `replace`, `convene` | a call in the place of another, and one that makes its room |
//! | `speak`, `voice` | messages, subject; mutes, hold, raised hands that ask for voice |
//! | `moderate` | roles, affiliations, lock, destruction |
//! | `register` | nicks that members keep, and who asks to become one |

pub mod avatar;
pub mod changes;
mod convene;
pub mod dial;
mod enter;
pub mod hats;
pub mod history;
mod leave;
mod moderate;
pub mod people;
pub mod person;
mod register;
mod replace;
pub mod settings;
mod speak;
pub mod standing;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use jid::{BareJid, FullJid};
use minidom::Element;

use crate::clock::Now;
use crate::id::{DialId, LegId, Nick, PersonId, RoomName};
use avatar::Avatar;
use changes::Changes;
use dial::{Callee, Dial, DialEnd};
use hats::{Hats, Look};
use history::{History, Payload, Said};
use people::People;
use person::{Caller, Leg, Mutes, Person, Proof, Who};
use register::Nicks;
use settings::Settings;
use standing::{Affiliation, Role};

/// All rooms of the service, and who may create more.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<RoomName, Room>,
    /// Those that ended since the last sweep.
    ended: Vec<RoomName>,
    /// What holds for all of them.
    policy: Policy,
}

/// What holds for all rooms.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Service admins: owners of every room.
    pub admins: Arc<BTreeSet<BareJid>>,
    /// Who may create rooms.
    pub creation: Creation,
    /// How many rooms there may be.
    pub max_rooms: usize,
    /// How many of them one user may own before they can create no more (XEP-0045 §14.6); service
    /// admins may create all.
    pub max_rooms_of_one: usize,
    /// How many people one room may hold when its owner sets no limit.
    pub max_people: u32,
    /// From how many people on a room is a crowd, in which visitors who come are shown to moderators
    /// alone (XEP-0045 §7.2.2); 0: none is.
    pub crowd: u32,
    /// How many calls all rooms may be making at a time.
    pub max_dials: usize,
    /// Who new is let in.
    pub intake: Intake,
    /// How well a caller's address has to be proven for what its user may do in rooms.
    pub identity_floor: Proof,
}

/// Who new is let in, whatever the rooms' own rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intake {
    /// Whom the rooms let in.
    #[default]
    Open,
    /// No new calls and no new rooms: the server stops when its calls are over.
    Draining,
    /// Nobody: the server stops.
    Closed,
}

/// Who may create rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// Anyone who can reach the service.
    Anyone,
    /// Service admins.
    Admins,
}

/// One conference.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// Its name.
    pub name: RoomName,
    /// Its configuration.
    pub settings: Settings,
    /// Whether its owner has configured it; until then nobody else can enter (XEP-0045 §10.1).
    pub configured: bool,
    /// Whether a moderator let nobody new in.
    pub locked: bool,
    /// When it came to be, or was loaded.
    pub since: SystemTime,
    /// The subject, if there is one.
    pub subject: Option<Subject>,
    /// What was said.
    pub history: History,
    /// Everyone here, in the order in which they came.
    pub people: People,
    /// Whom it calls who have not answered.
    pub dials: BTreeMap<DialId, Dial>,
    /// Lasting relations; who is not in it has none.
    affiliations: BTreeMap<Who, Affiliation>,
    /// How they changed of late (XEP-0463).
    changes: Changes,
    /// The picture that stands for it, if there is one.
    pub avatar: Option<Arc<Avatar>>,
    /// What owners call people (XEP-0317).
    hats: Hats,
    /// Nicks that only their members may have.
    nicks: Nicks,
    /// Who asks to become a member, and under which nick (XEP-0045 §9.9).
    requests: BTreeMap<BareJid, Nick>,
    /// When people spoke last, as long as it matters (XEP-0500).
    spoke: BTreeMap<Who, Instant>,
    /// Service admins, who own every room.
    admins: Arc<BTreeSet<BareJid>>,
    /// What holds for people who left, if they come back.
    kept: BTreeMap<Who, Kept>,
    /// Who made it by a call.
    founder: Option<Who>,
    next_person: u64,
    next_dial: u64,
    /// No more; swept after its last facts were shown.
    ended: bool,
}

/// What of a room survives a restart, besides its affiliations.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRoom {
    /// Its name.
    pub name: RoomName,
    /// Its configuration.
    pub settings: Settings,
    /// Whether a moderator let nobody new in.
    pub locked: bool,
    /// Text, nick and moment of its subject.
    pub subject: Option<(String, String, SystemTime)>,
}

/// Voice and mutes of someone who left.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    /// The role, if it is not the one that everyone of their affiliation has.
    role: Option<Role>,
    mutes: Mutes,
}

/// A room's subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The text.
    pub text: String,
    /// The nick of who set it.
    pub nick: Nick,
    /// When.
    pub at: SystemTime,
    /// The message that set it, if it was set since the server started.
    pub payload: Option<Payload>,
}

/// Who gives a command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A chat session, by its real address; not necessarily an occupant.
    Chat(FullJid),
    /// A call leg of someone in the room, or about to be.
    Leg(LegId),
    /// An operator, over HTTP, CLI or ad-hoc commands, by the name that audit shows. May do
    /// anything an owner may.
    Operator(String),
    /// The server itself: time-outs, lost links, shutdown.
    Server,
}

/// What someone wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    // --- coming and going -------------------------------------------------------------------
    /// Enter the chat under a nick (XEP-0045 §7.2). From a session that is in already under this
    /// nick: be told everything again (§17.3); under another: a nick change (§7.6).
    EnterChat {
        /// The wanted nick.
        nick: Nick,
        /// What they gave as the room's password.
        password: Option<String>,
    },
    /// Change nick (XEP-0045 §7.6).
    Rename {
        /// The wanted nick.
        nick: Nick,
    },
    /// Leave the chat with one session; calls go on (RFC 7081 §4: the systems are independent).
    LeaveChat,
    /// A chat session is unreachable (XEP-0045 §11.1): what [`Self::LeaveChat`] does, shown as 333.
    LoseChat {
        /// Whose session.
        chat: FullJid,
    },
    /// A chat session's availability or status changed; what it says is the chat face's business.
    ShowPresence,
    /// Bring a call leg into the conference.
    Call {
        /// The leg, numbered by the phone face.
        leg: LegId,
        /// Who calls, as far as it is known and proven.
        caller: Caller,
        /// What they gave as the room's password.
        password: Option<String>,
        /// Whether a codec was agreed; checked last (RFC 3261 §21.4.26).
        media_agreed: bool,
    },
    /// Bring a call leg into a conference that comes to be with it (RFC 4579 §5.4).
    Convene {
        /// The leg, numbered by the phone face.
        leg: LegId,
        /// Who calls, as far as it is known and proven.
        caller: Caller,
        /// Whether a codec was agreed (RFC 3261 §21.4.26).
        media_agreed: bool,
    },
    /// Bring a call leg into the conference in the place of another, which ends: the same person's, or
    /// one that a moderator takes over (RFC 4579 §5.9).
    Replace {
        /// The leg, numbered by the phone face.
        leg: LegId,
        /// The one whose place it takes.
        old: LegId,
        /// Who calls, as far as it is known and proven.
        caller: Caller,
        /// What they gave as the room's password.
        password: Option<String>,
        /// Whether a codec was agreed; checked last (RFC 3261 §21.4.26).
        media_agreed: bool,
    },
    /// The media direction that the caller's side last agreed to changed (hold, self mute).
    ChangeLeg {
        /// The caller's side neither sends nor wants to hear (RFC 3264 §8.4).
        hold: bool,
        /// The caller's side will send audio.
        sends: bool,
    },
    /// The call leg ended.
    HangUp {
        /// How.
        ending: Ending,
    },
    /// Raise a hand, or lower it. Who has no voice asks for it in this way (XEP-0045 §7.13).
    RaiseHand(bool),
    /// Call somebody into the conference (RFC 4579 §5.2, §5.5).
    Dial(Box<Callee>),
    /// Give up a call that nobody has answered, or take note that it failed.
    EndDial {
        /// Which.
        dial: DialId,
        /// How it ends.
        end: DialEnd,
    },
    /// Somebody answered a call of the room: bring them into the conference.
    Connect {
        /// The call.
        dial: DialId,
        /// Its leg, numbered by the phone face.
        leg: LegId,
    },

    // --- speaking ---------------------------------------------------------------------------
    /// Say something to all (XEP-0045 §7.4).
    Say {
        /// The stanza's id, reflected.
        id: Option<String>,
        /// What was said.
        payload: Payload,
    },
    /// Say something to one occupant (XEP-0045 §7.5).
    Whisper {
        /// To whom.
        to: Nick,
        /// The stanza's id.
        id: Option<String>,
        /// What was said.
        payload: Payload,
    },
    /// Change the subject (XEP-0045 §8.1).
    ChangeSubject {
        /// The stanza's id, reflected.
        id: Option<String>,
        /// The new subject; empty removes it.
        text: String,
        /// The message as it was sent.
        payload: Payload,
    },
    /// Ask the moderators for voice (XEP-0045 §7.13), which raises a hand.
    RequestVoice,
    /// Mute or unmute oneself.
    MuteSelf(bool),

    // --- keeping order ----------------------------------------------------------------------
    /// Change roles and affiliations, all of them or none (XEP-0045 §8 to §10).
    Moderate(Vec<Change>),
    /// Make members of those whom someone invites who may do that (XEP-0045 §7.8.2): all or none.
    Invite(Vec<Invited>),
    /// Mute or unmute someone's audio without touching what they may write.
    Mute {
        /// Whom.
        person: PersonId,
        /// Muted or not.
        on: bool,
    },
    /// Mute everyone on the call who is no moderator, or unmute them.
    MuteAll(bool),
    /// Refuse someone the voice that they asked for (XEP-0045 §8.6): their hand goes down.
    LowerHand {
        /// Whose.
        nick: Nick,
    },
    /// Take somebody's message back for everyone (XEP-0425 §4).
    Retract {
        /// The message, by the id that the room gave it.
        id: String,
        /// What is left of it for those who come later.
        tombstone: Arc<Element>,
        /// What all are told of it.
        announcement: Payload,
    },
    /// Let nobody new in, or let them in again.
    Lock(bool),
    /// Finish creating the room (XEP-0045 §10.1) or change its configuration (§10.2).
    Configure(Box<Settings>),
    /// The same, with affiliations that the configuration lists in full (XEP-0045 §10.1.3): all of it
    /// or nothing.
    Reconfigure {
        /// The configuration.
        settings: Box<Settings>,
        /// How the lists differ from what holds.
        affiliations: Vec<Change>,
    },
    /// Choose the picture that stands for the room, or remove it (XEP-0486).
    SetAvatar(Option<Arc<Avatar>>),
    /// Make a hat, or give it another look (XEP-0317 §3.2).
    MakeHat {
        /// Its URI.
        uri: String,
        /// How it is shown.
        look: Look,
    },
    /// Take a hat away from the room and all who wear it (XEP-0317 §3.3).
    DestroyHat {
        /// Its URI.
        uri: String,
    },
    /// Give someone a hat, or take it (XEP-0317 §3.5, §3.6).
    GiveHat {
        /// To or from whom.
        jid: BareJid,
        /// Its URI.
        uri: String,
        /// Given or taken.
        on: bool,
    },
    /// Keep a nick, and become a member if one is none (XEP-0045 §7.10), or ask to.
    Register {
        /// The wanted nick.
        nick: Nick,
    },
    /// Give up the nick and the membership, or the request for them.
    Unregister,
    /// Make a member of somebody who asks to become one, or do not (XEP-0045 §9.9).
    AnswerRequest {
        /// Whom.
        jid: BareJid,
        /// Made a member or not.
        allow: bool,
    },
    /// Give up creating the room (XEP-0045 §10.1.3): it is destroyed if it was never configured.
    CancelConfiguration,
    /// End the room for good (XEP-0045 §10.9).
    Destroy {
        /// Why.
        reason: Option<String>,
        /// Where people should go.
        alternate: Option<BareJid>,
    },
}

impl Command {
    /// Whether it changes more than the asker's own presence, voice and call.
    const fn takes_power(&self) -> bool {
        match self {
            Self::EnterChat { .. }
            | Self::Rename { .. }
            | Self::LeaveChat
            | Self::LoseChat { .. }
            | Self::ShowPresence
            | Self::Call { .. }
            | Self::Convene { .. }
            | Self::Replace { .. }
            | Self::ChangeLeg { .. }
            | Self::HangUp { .. }
            | Self::RaiseHand(_)
            | Self::Connect { .. }
            | Self::Say { .. }
            | Self::Whisper { .. }
            | Self::RequestVoice
            | Self::MuteSelf(_) => false,
            Self::Dial(_)
            | Self::EndDial { .. }
            | Self::ChangeSubject { .. }
            | Self::Moderate(_)
            | Self::Invite(_)
            | Self::Mute { .. }
            | Self::MuteAll(_)
            | Self::LowerHand { .. }
            | Self::Retract { .. }
            | Self::Lock(_)
            | Self::Configure(_)
            | Self::Reconfigure { .. }
            | Self::SetAvatar(_)
            | Self::MakeHat { .. }
            | Self::DestroyHat { .. }
            | Self::GiveHat { .. }
            | Self::Register { .. }
            | Self::AnswerRequest { .. }
            | Self::Unregister
            | Self::CancelConfiguration
            | Self::Destroy { .. } => true,
        }
    }
}

/// One of a [`Command::Invite`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// Who.
    pub jid: BareJid,
    /// Why.
    pub reason: Option<String>,
}

/// One change of a [`Command::Moderate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A role, of an occupant by nick (XEP-0045 §5.1). `None` throws them out.
    Role {
        /// Whose.
        nick: Nick,
        /// The new role; `None` is a kick.
        role: Option<Role>,
        /// Why.
        reason: Option<String>,
    },
    /// An affiliation, of anyone by identity (XEP-0045 §5.2).
    Affiliation {
        /// Whose.
        who: Who,
        /// The new affiliation; [`Affiliation::Outcast`] is a ban.
        affiliation: Affiliation,
        /// Why.
        reason: Option<String>,
    },
    /// The nick that is kept for someone who belongs to the room (XEP-0045 §9.3, §9.5).
    Nick {
        /// For whom.
        jid: BareJid,
        /// Which; `None`: none any more.
        nick: Option<Nick>,
    },
}

/// How a call leg ended (RFC 4575 §5.7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They hung up.
    Departed,
    /// Another leg took its place.
    Replaced,
    /// It failed: no ACK, no media, transport lost.
    Failed {
        /// A SIP status that says how.
        status: u16,
        /// For people.
        text: String,
    },
}

/// What became true. A fact carries what the room no longer knows; the rest is read from the room.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// The room came to be.
    Created {
        /// Who created it; `None` for an operator.
        by: Option<BareJid>,
    },
    /// A chat session is in.
    ChatEntered {
        /// Whose.
        person: PersonId,
        /// The session.
        chat: FullJid,
        /// What that was to the others.
        arrival: Arrival,
    },
    /// Someone has another nick.
    Renamed {
        /// Who.
        person: PersonId,
        /// The nick until then.
        old: Nick,
    },
    /// A chat session shows another availability or status.
    PresenceShown {
        /// Whose.
        person: PersonId,
        /// The session.
        chat: FullJid,
    },
    /// A call leg is in.
    CallEntered {
        /// Whose.
        person: PersonId,
        /// The leg.
        leg: LegId,
        /// What that was to the others.
        arrival: Arrival,
    },
    /// A leg was put on hold or taken back, or mutes or unmutes itself by its media direction.
    LegChanged {
        /// Whose.
        person: PersonId,
        /// The leg.
        leg: LegId,
        /// How it was until then.
        was: Leg,
    },
    /// A chat session ended while its person stays, with another session or on the phone.
    ChatLeft {
        /// Whose.
        person: PersonId,
        /// The session.
        chat: FullJid,
        /// Whether it was lost (333) rather than left.
        lost: bool,
    },
    /// A call leg ended while its person stays, in the chat or with another leg.
    CallLeft {
        /// Whose.
        person: PersonId,
        /// The leg.
        leg: LegId,
        /// How it was until then.
        was: Leg,
        /// How it ended.
        ending: Ending,
    },
    /// The room calls somebody.
    Dialled {
        /// The call.
        dial: DialId,
    },
    /// A call of the room is over or, if it was answered, one like any other: then
    /// [`Self::CallEntered`] follows.
    DialEnded {
        /// The call, as it was.
        was: Box<Dial>,
        /// How it ended.
        end: DialEnd,
    },
    /// Someone is out of chat and call: each session and leg in `was` ended with them.
    Gone {
        /// Who, as they were.
        was: Box<Person>,
        /// Their affiliation after it.
        affiliation: Affiliation,
        /// Why.
        departure: Departure,
        /// Who did it, if it was done to them.
        by: Option<Actor>,
        /// The reason given.
        reason: Option<String>,
    },
    /// Someone who is here has another role or affiliation, or both.
    StandingChanged {
        /// Who.
        person: PersonId,
        /// The role until then.
        role: Role,
        /// The affiliation until then.
        affiliation: Affiliation,
        /// Who did it.
        by: Option<Actor>,
        /// The reason given.
        reason: Option<String>,
    },
    /// Someone's affiliation is another one, whether they are here or not: what the journal keeps.
    /// Comes before the [`Self::StandingChanged`] or [`Self::Gone`] that it causes.
    AffiliationChanged {
        /// Whose.
        who: Who,
        /// Until then.
        old: Affiliation,
        /// From here on.
        new: Affiliation,
        /// The reason given.
        reason: Option<String>,
        /// Who did it.
        by: Option<Actor>,
        /// The version of the room's affiliations that this makes (XEP-0463).
        version: u64,
    },
    /// Someone may be heard, or may not, for another reason than before.
    MuteChanged {
        /// Who.
        person: PersonId,
        /// Until then.
        old: Mutes,
    },
    /// A hand went up or down.
    HandChanged {
        /// Whose.
        person: PersonId,
    },
    /// Someone without voice asks for it.
    VoiceRequested {
        /// Who.
        person: PersonId,
    },
    /// Something was said to all.
    Spoken(Said),
    /// Something was said to one.
    Whispered {
        /// By whom.
        from: PersonId,
        /// To whom.
        to: PersonId,
        /// The stanza's id.
        id: Option<String>,
        /// What.
        payload: Payload,
    },
    /// The subject is another one.
    SubjectChanged(Said),
    /// A moderator took a message back: it is read no more.
    Retracted {
        /// The message, by the id that the room gave it.
        id: String,
        /// What is left of it.
        tombstone: Arc<Element>,
        /// What all are told of it.
        said: Said,
    },
    /// The configuration is another one, or the room was configured for the first time.
    Configured {
        /// Until then.
        old: Box<Settings>,
        /// Whether this ended the room's creation (XEP-0045 §10.1).
        first: bool,
    },
    /// The room has another picture, or none any more.
    AvatarChanged,
    /// There are other hats, or they look otherwise, or others wear them.
    HatsChanged {
        /// Who of those who are here is shown otherwise by it.
        wearers: Vec<PersonId>,
        /// Whether it changed which hats there are, or their looks.
        list: bool,
    },
    /// A nick is kept for someone, or none any more.
    NickRegistered {
        /// For whom.
        jid: BareJid,
        /// Which; `None`: none any more.
        nick: Option<Nick>,
    },
    /// Someone asks to become a member (XEP-0045 §9.9).
    RegistrationRequested {
        /// Who.
        jid: BareJid,
        /// Under which nick.
        nick: Nick,
    },
    /// Someone does not ask to become a member any more.
    RequestEnded {
        /// Who.
        jid: BareJid,
        /// How.
        end: RequestEnd,
    },
    /// The room lets nobody new in, or lets them in again.
    LockChanged,
    /// The room is no more. Everyone in it went with it.
    Destroyed {
        /// Who had been here.
        people: Vec<Person>,
        /// Why it ended.
        end: RoomEnd,
    },
}

/// How a request to become a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// They are a member; before it comes [`Fact::AffiliationChanged`].
    Allowed,
    /// An admin declined.
    Denied,
    /// They gave it up, or their standing was decided in another way.
    Withdrawn,
}

/// What an arrival was to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Someone who was not here.
    New,
    /// Someone who was here in another way: another session, or chat besides audio.
    Joined,
    /// The same session once more: it wants to be told everything again (XEP-0045 §17.3).
    Again,
}

/// Why someone is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// They left or hung up.
    Left,
    /// Their last session was unreachable, or their call failed (333).
    Lost,
    /// Kicked (307): may come back.
    Kicked,
    /// Banned (301).
    Banned,
    /// No longer a member of a members-only room (321).
    MembershipLost,
    /// The room became members-only (322).
    MembersOnly,
    /// The server goes down (332).
    Shutdown,
}

/// Who did something, as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Their nick, if they were in the room.
    pub nick: Option<Nick>,
    /// Their bare JID, if there is one; for those who may see it.
    pub jid: Option<BareJid>,
}

/// Why a room is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomEnd {
    /// An owner or operator destroyed it.
    Destroyed {
        /// Why.
        reason: Option<String>,
        /// Where people should go.
        alternate: Option<BareJid>,
    },
    /// The last one left a room that is not persistent.
    Emptied,
    /// Its creation was given up.
    NeverConfigured,
}

/// Why not. Each face says it in its own words: a stanza error, a SIP status, an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no such room.
    NoSuchRoom,
    /// The room exists but its owner has not configured it yet (XEP-0045 §7.2.10).
    NotConfigured,
    /// The asker may not create rooms (XEP-0045 §10.1.1).
    MayNotCreate,
    /// Banned (XEP-0045 §7.2.7).
    Banned,
    /// Not a member of a members-only room (XEP-0045 §7.2.6).
    MembersOnly,
    /// The password is missing or wrong (XEP-0045 §7.2.5).
    WrongPassword,
    /// A moderator locked the room.
    Locked,
    /// The room is full (XEP-0045 §7.2.9).
    Full,
    /// Another person has that nick (XEP-0045 §7.2.8).
    NickTaken,
    /// No codec in common.
    NoCommonMedia,
    /// The room takes and makes no calls.
    NoCalls,
    /// The room calls that address already.
    AlreadyCalled,
    /// Nobody may be called at that address.
    MayNotBeCalled,
    /// That call is over, or there never was one of that number.
    NoSuchCall,
    /// The asker is not in the room.
    NotHere,
    /// Nobody of that nick or number is in the room.
    NoSuchPerson,
    /// Only the room itself says that of people: who is on the call, and how.
    RoomsOwnHat,
    /// The room has no such hat (XEP-0317).
    NoSuchHat,
    /// The asker's role or affiliation does not allow it.
    Forbidden,
    /// The target's affiliation protects it (XEP-0045 §8.2, §9.7).
    NotAllowed,
    /// Nobody may do this to themselves (XEP-0045 §9.1).
    NotToYourself,
    /// A room keeps at least one owner (XEP-0045 §10.4).
    LastOwner,
    /// The asker has no voice (XEP-0045 §7.4).
    NoVoice,
    /// The asker spoke a moment ago, and this room is slow (XEP-0500).
    TooSoon {
        /// The room's pace, in seconds.
        pace_s: u32,
    },
    /// The asker may not register with the room (XEP-0045 §7.10).
    MayNotRegister,
    /// The configuration contradicts itself (XEP-0045 §10.1.3).
    BadSettings,
    /// A limit of the server is reached.
    TooMany,
    /// The server is going down and takes nobody new.
    Draining,
    /// This would have to be kept, and the store takes nothing more.
    NotKept,
}

/// The moment and author of something that lasts: a mute, a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Since when.
    pub since: SystemTime,
    /// By whom.
    pub by: Option<Actor>,
}

impl Rooms {
    /// No rooms, under a policy.
    pub fn new(policy: Policy) -> Self {
        Self { rooms: BTreeMap::new(), ended: vec![], policy }
    }

    /// Brings back a room that was stored, with what newcomers are told, oldest first.
    pub fn restore(
        &mut self,
        now: Now,
        stored: StoredRoom,
        affiliations: impl IntoIterator<Item = (Who, Affiliation)>,
        history: impl IntoIterator<Item = Said>,
    ) {
        let mut room = Room::new(now, stored.name, Arc::clone(&self.policy.admins));
        room.settings = stored.settings;
        room.configured = true;
        room.locked = stored.locked;
        room.subject = stored.subject.and_then(|(text, nick, at)| {
            Nick::new(&nick).ok().map(|nick| Subject { text, nick, at, payload: None })
        });
        room.affiliations = affiliations.into_iter().collect();
        for said in history {
            room.history.push(said, room.settings.history);
        }
        self.rooms.insert(room.name.clone(), room);
    }

    /// Brings back how affiliations of a room that was stored changed of late, by version.
    pub fn restore_change(&mut self, room: &RoomName, version: u64, who: Who) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.changes.restore(version, who);
        }
    }

    /// Brings back the nick that someone registered with a room that was stored.
    pub fn restore_nick(&mut self, room: &RoomName, jid: BareJid, nick: Nick) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.nicks.insert(jid, nick);
        }
    }

    /// Brings back who asks to become a member of a room that was stored.
    pub fn restore_request(&mut self, room: &RoomName, jid: BareJid, nick: Nick) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.requests.insert(jid, nick);
        }
    }

    /// Brings back the picture of a room that was stored.
    pub fn restore_avatar(&mut self, room: &RoomName, avatar: Arc<Avatar>) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.avatar = Some(avatar);
        }
    }

    /// Brings back the hats of a room that was stored.
    pub fn restore_hats(&mut self, room: &RoomName, hats: Hats) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.hats = hats;
        }
    }

    /// A room by name.
    pub fn get(&self, name: &RoomName) -> Option<&Room> {
        self.rooms.get(name)
    }

    /// All rooms, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// What holds for all rooms.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Puts another policy in force. Who becomes a service admin by it, or is none any more, gets the
    /// standing in each room that goes with that.
    pub fn set_policy(&mut self, now: Now, policy: Policy) -> Vec<(RoomName, Vec<Fact>)> {
        self.policy = policy;
        let admins = &self.policy.admins;
        let set = |(name, room): (&RoomName, &mut Room)| {
            (name.clone(), room.set_admins(now, Arc::clone(admins)))
        };
        self.rooms.iter_mut().map(set).filter(|(_, facts)| !facts.is_empty()).collect()
    }

    /// Says who new is let in from now on, anywhere.
    pub fn set_intake(&mut self, intake: Intake) {
        self.policy.intake = intake;
    }

    /// Does `command` in `name` for `by`, or refuses it and changes nothing.
    ///
    /// A room that ended with it can still be read, so that its last facts can be shown, until
    /// [`Self::sweep`].
    pub fn apply(
        &mut self,
        now: Now,
        name: &RoomName,
        by: &By,
        command: Command,
    ) -> Result<Vec<Fact>, Refusal> {
        let dials = self.rooms.values().map(|room| room.dials.len());
        if matches!(command, Command::Dial(_)) && dials.sum::<usize>() >= self.policy.max_dials {
            return Err(Refusal::TooMany);
        }
        if let Some(room) = self.rooms.get_mut(name).filter(|room| !room.ended) {
            let facts = room.apply(now, &self.policy, by, command)?;
            if room.ended {
                self.ended.push(name.clone());
            }
            return Ok(facts);
        }
        let creator = self.may_create(by, &command)?;
        let mut room = Room::new(now, name.clone(), Arc::clone(&self.policy.admins));
        if let Some(creator) = &creator {
            room.affiliations.insert(Who::Jid(creator.clone()), Affiliation::Owner);
        }
        room.convened_by(by, &command);
        let mut facts = vec![Fact::Created { by: creator }];
        facts.extend(room.apply(now, &self.policy, by, command)?);
        if room.ended {
            self.ended.push(name.clone());
        }
        self.rooms.insert(name.clone(), room);
        Ok(facts)
    }

    /// Makes a room what it was before a command, as if that had never been; `None`: there was none.
    pub fn put_back(&mut self, name: &RoomName, before: Option<Room>) {
        // It may have ended by that command.
        self.ended.retain(|ended| ended != name);
        match before {
            Some(room) => drop(self.rooms.insert(name.clone(), room)),
            None => drop(self.rooms.remove(name)),
        }
    }

    /// Forgets the rooms that ended.
    pub fn sweep(&mut self) {
        for name in self.ended.drain(..) {
            self.rooms.remove(&name);
        }
    }

    /// Throws everyone out because the server goes down (XEP-0045 §11.2), room by room.
    pub fn shut_down(&mut self) -> Vec<(RoomName, Vec<Fact>)> {
        self.policy.intake = Intake::Closed;
        self.rooms
            .iter_mut()
            .map(|(name, room)| {
                let mut facts = room.end_dials(|_| true);
                facts.extend(room.throw_out(Departure::Shutdown, |_| true));
                (name.clone(), facts)
            })
            .collect()
    }

    /// A room comes to be when someone enters its chat, when an operator configures it, or by a call to the
    /// factory; any other call creates none (RFC 4353 §3.1: a conference URI exists before it is called).
    fn may_create(&self, by: &By, command: &Command) -> Result<Option<BareJid>, Refusal> {
        if !matches!(
            (by, command),
            (By::Chat(_), Command::EnterChat { .. })
                | (By::Operator(_), Command::Configure(_))
                | (By::Leg(_), Command::Convene { .. })
        ) {
            return Err(Refusal::NoSuchRoom);
        }
        if self.policy.intake > Intake::Open {
            return Err(Refusal::Draining);
        }
        let creator = match (by, command) {
            (By::Chat(chat), _) => Some(chat.to_bare()),
            (_, Command::Convene { caller, .. }) => {
                self.may_convene(caller)?;
                caller.jid().cloned()
            }
            _ => None,
        };
        if let Some(creator) = &creator {
            self.may_own_more(creator)?;
        }
        if self.rooms.len() >= self.policy.max_rooms {
            return Err(Refusal::TooMany);
        }
        Ok(creator)
    }

    fn anyone_may_create(&self) -> bool {
        self.policy.creation == Creation::Anyone
    }

    /// Whether someone may create one more room.
    fn may_own_more(&self, creator: &BareJid) -> Result<(), Refusal> {
        if self.policy.admins.contains(creator) {
            return Ok(());
        }
        if !self.anyone_may_create() {
            return Err(Refusal::MayNotCreate);
        }
        let owner = Who::Jid(creator.clone());
        let owned = self.rooms.values().filter(|r| r.affiliation(&owner) == Affiliation::Owner);
        if owned.count() >= self.policy.max_rooms_of_one {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }
}

impl Room {
    fn new(now: Now, name: RoomName, admins: Arc<BTreeSet<BareJid>>) -> Self {
        Self {
            name,
            settings: Settings::default(),
            configured: false,
            locked: false,
            since: now.utc,
            subject: None,
            history: History::default(),
            people: People::default(),
            dials: BTreeMap::new(),
            affiliations: BTreeMap::new(),
            changes: Changes::new(micros(now.utc)),
            avatar: None,
            hats: Hats::default(),
            nicks: Nicks::default(),
            requests: BTreeMap::new(),
            spoke: BTreeMap::new(),
            admins,
            kept: BTreeMap::new(),
            founder: None,
            next_person: 1,
            next_dial: 1,
            ended: false,
        }
    }

    /// The table of contents: which file does what.
    fn apply(
        &mut self,
        now: Now,
        policy: &Policy,
        by: &By,
        command: Command,
    ) -> Result<Vec<Fact>, Refusal> {
        if command.takes_power() && self.is_weak(policy, by) {
            return Err(Refusal::Forbidden);
        }
        let mut facts = match command {
            Command::EnterChat { nick, password } => {
                self.enter_chat(now, policy, by, nick, password.as_deref())
            }
            Command::Rename { nick } => self.rename(by, nick),
            Command::LeaveChat => self.leave_chat(by),
            Command::LoseChat { chat } => self.lose_chat(&chat),
            Command::ShowPresence => self.show_presence(by),
            Command::Call { leg, caller, password, media_agreed } => {
                self.call(now, policy, leg, caller, password.as_deref(), media_agreed)
            }
            Command::Convene { leg, caller, media_agreed } => {
                self.call(now, policy, leg, caller, None, media_agreed)
            }
            Command::Replace { leg, old, caller, password, media_agreed } => {
                self.replace(now, policy, leg, old, caller, password.as_deref(), media_agreed)
            }
            Command::ChangeLeg { hold, sends } => self.change_leg(by, hold, sends),
            Command::HangUp { ending } => self.hang_up(by, ending),
            Command::Dial(callee) => self.dial(now, policy, by, *callee),
            Command::EndDial { dial, end } => self.end_dial(by, dial, end),
            Command::Connect { dial, leg } => self.connect(now, policy, dial, leg),
            Command::RaiseHand(up) => self.raise_hand(now, by, up),
            Command::Say { id, payload } => self.say(now, by, id, payload),
            Command::Whisper { to, id, payload } => self.whisper(by, &to, id, payload),
            Command::ChangeSubject { id, text, payload } => {
                self.change_subject(now, by, id, text, payload)
            }
            Command::RequestVoice => self.request_voice(now, by),
            Command::MuteSelf(on) => self.mute_self(now, by, on),
            Command::Moderate(changes) => self.moderate(now, by, &changes),
            Command::Invite(people) => self.invite(now, by, &people),
            Command::Mute { person, on } => self.mute(now, by, person, on),
            Command::MuteAll(on) => self.mute_all(now, by, on),
            Command::LowerHand { nick } => self.lower_hand(by, &nick),
            Command::Retract { id, tombstone, announcement } => {
                self.retract(now, by, id, tombstone, announcement)
            }
            Command::Lock(locked) => self.lock(by, locked),
            Command::Configure(settings) => self.configure(now, by, *settings, &[]),
            Command::Reconfigure { settings, affiliations } => {
                self.configure(now, by, *settings, &affiliations)
            }
            Command::SetAvatar(avatar) => self.set_avatar(by, avatar),
            Command::MakeHat { uri, look } => self.make_hat(by, uri, look),
            Command::DestroyHat { uri } => self.destroy_hat(by, &uri),
            Command::GiveHat { jid, uri, on } => self.give_hat(by, &jid, &uri, on),
            Command::Register { nick } => self.register(now, by, nick),
            Command::Unregister => self.unregister(now, by),
            Command::AnswerRequest { jid, allow } => self.answer_request(now, by, &jid, allow),
            Command::CancelConfiguration => self.cancel_configuration(by),
            Command::Destroy { reason, alternate } => self.destroy(by, reason, alternate),
        }?;
        facts.extend(self.end_dials_after(&facts));
        if self.people.is_empty() && !self.ended && !self.settings.persistent && !facts.is_empty() {
            let end = if self.configured { RoomEnd::Emptied } else { RoomEnd::NeverConfigured };
            facts.push(self.end(end));
        }
        debug_assert!(self.people.is_indexed(), "who is here is not who is found");
        Ok(facts)
    }

    /// Whether the room is no more, and only its last facts are still to be shown.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Someone here, by number.
    pub fn person(&self, id: PersonId) -> Option<&Person> {
        self.people.get(id)
    }

    /// Whose chat session this is.
    pub fn by_chat(&self, chat: &FullJid) -> Option<&Person> {
        self.people.by_chat(chat)
    }

    /// Whose call leg this is.
    pub fn by_leg(&self, leg: LegId) -> Option<&Person> {
        self.people.by_leg(leg)
    }

    /// Who has this nick, or one that looks the same.
    pub fn by_nick(&self, nick: &Nick) -> Option<&Person> {
        self.people.by_nick(nick)
    }

    /// Someone's affiliation. Service admins own every room; who was given none has that of their
    /// domain, unless that is one of power (XEP-0045 §9.1: `user@domain`, then `domain`).
    pub fn affiliation(&self, who: &Who) -> Affiliation {
        let given = |who: &Who| self.affiliations.get(who).copied();
        match who {
            Who::Jid(jid) if self.admins.contains(jid) => Affiliation::Owner,
            Who::Jid(jid) => given(who).unwrap_or_else(|| {
                let domain = given(&Who::Jid(BareJid::from_parts(None, jid.domain())));
                domain.filter(|domain| *domain <= Affiliation::Member).unwrap_or_default()
            }),
            Who::Aor(_) | Who::Unknown(_) => given(who).unwrap_or_default(),
        }
    }

    /// The affiliation that was given to someone, whoever else they are one of.
    pub fn given_affiliation(&self, who: &Who) -> Affiliation {
        self.affiliations.get(who).copied().unwrap_or_default()
    }

    /// Every affiliation that was given, by identity.
    pub fn affiliations(&self) -> impl Iterator<Item = (&Who, Affiliation)> {
        self.affiliations.iter().map(|(who, affiliation)| (who, *affiliation))
    }

    /// How affiliations changed of late.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The room as the store keeps it.
    pub fn stored(&self) -> StoredRoom {
        StoredRoom {
            name: self.name.clone(),
            settings: self.settings.clone(),
            locked: self.locked,
            subject: self
                .subject
                .as_ref()
                .map(|subject| (subject.text.clone(), subject.nick.to_string(), subject.at)),
        }
    }

    /// Whether a command comes from a call whose caller's address is proven too badly for what its
    /// user may do.
    fn is_weak(&self, policy: &Policy, by: &By) -> bool {
        let By::Leg(leg) = by else { return false };
        let at = self.by_leg(*leg).and_then(|person| person.legs.get(leg));
        at.is_some_and(|at| at.caller.proof < policy.identity_floor)
    }

    /// Who gives a command, and with what power.
    fn asker(&self, by: &By) -> Asker {
        let person = match by {
            By::Chat(chat) => self.by_chat(chat),
            By::Leg(leg) => self.by_leg(*leg),
            By::Operator(_) | By::Server => None,
        };
        let who = match by {
            By::Chat(chat) => Some(Who::Jid(chat.to_bare())),
            By::Leg(_) | By::Operator(_) | By::Server => person.map(|person| person.who.clone()),
        };
        let affiliation = match (by, &who) {
            (By::Operator(_) | By::Server, _) => Affiliation::Owner,
            (By::Chat(_) | By::Leg(_), Some(who)) => self.affiliation(who),
            (By::Chat(_) | By::Leg(_), None) => Affiliation::None,
        };
        let actor = match by {
            By::Chat(_) | By::Leg(_) => {
                let jid = match &who {
                    Some(Who::Jid(jid)) => Some(jid.clone()),
                    Some(Who::Aor(_) | Who::Unknown(_)) | None => None,
                };
                Some(Actor { nick: person.map(|p| p.nick.clone()), jid })
            }
            By::Operator(_) | By::Server => None,
        };
        Asker {
            person: person.map(|p| p.id),
            role: person.map(|p| p.role),
            affiliation,
            actor,
            who,
        }
    }

    /// The person whose session or leg gives the command.
    fn asking_person(&self, by: &By) -> Result<PersonId, Refusal> {
        self.asker(by).person.ok_or(Refusal::NotHere)
    }
}

/// Since 1970.
fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2)
}

/// Who gives a command, and with what power.
#[derive(Debug)]
struct Asker {
    person: Option<PersonId>,
    role: Option<Role>,
    affiliation: Affiliation,
    actor: Option<Actor>,
    who: Option<Who>,
}

impl Asker {
    /// Moderators in the room, and admins and owners wherever they are.
    fn may_moderate(&self) -> Result<(), Refusal> {
        if self.role == Some(Role::Moderator) || self.affiliation >= Affiliation::Admin {
            Ok(())
        } else {
            Err(Refusal::Forbidden)
        }
    }

    fn at_least(&self, affiliation: Affiliation) -> Result<(), Refusal> {
        if self.affiliation >= affiliation { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    fn mark(&self, now: Now) -> Mark {
        Mark { since: now.utc, by: self.actor.clone() }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            admins: Arc::default(),
            creation: Creation::Anyone,
            max_rooms: 10_000,
            max_rooms_of_one: 100,
            max_people: 5_000,
            crowd: 1_000,
            max_dials: 100,
            intake: Intake::Open,
            identity_floor: Proof::Claimed,
        }
    }
}
