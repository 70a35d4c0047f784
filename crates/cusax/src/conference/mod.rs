//! Conference documents: who is in a conference, and how (RFC 4575, RFC 7106).
//!
//! A [`Conference`] is the whole of what one subscriber is told; [`Conference::to_xml`] writes it so
//! that it is valid against the schema of RFC 4575 §6 whatever the strings in it hold: the order of
//! the elements is the schema's, a parent without children is left out, characters that XML forbids
//! are left out, and what stands where a URI belongs is encoded as one. [`Document::from_xml`] reads
//! what any focus writes, and a [`Subscriber`] keeps what a row of documents says, full and partial.

mod merge;
mod read;
mod xml;

use std::time::SystemTime;

pub use merge::{Outcome, Subscriber};
pub use read::ReadError;

/// The media type of a document (RFC 4575 §3.4).
pub const MEDIA_TYPE: &str = "application/conference-info+xml";
/// The namespace of a document (RFC 4575 §4.2).
pub const NAMESPACE: &str = "urn:ietf:params:xml:ns:conference-info";
/// The event package that carries documents (RFC 4575 §3.1).
pub const PACKAGE: &str = "conference";
/// The purpose of a URI by which people take part (RFC 4575 §5.3.1).
pub const PARTICIPATION: &str = "participation";
/// The purpose of the URI of the chat room that belongs to the conference (RFC 7106 §3).
pub const GROUP_TEXT_CHAT: &str = "grouptextchat";
/// The media type of speech (RFC 4575 §5.8.2).
pub const AUDIO: &str = "audio";
/// The media type of chat (RFC 7702 §6.2).
pub const MESSAGE: &str = "message";

/// How much of an element's content a document holds (RFC 4575 §4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// All of it: what the reader had is replaced.
    #[default]
    Full,
    /// What changed.
    Partial,
    /// Nothing: the element is no more.
    Deleted,
}

/// What one subscriber is told of a conference (RFC 4575 §5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conference {
    /// The conference URI: what one subscribes to. Readers drop a document whose entity is not the
    /// Contact that they know.
    pub entity: String,
    /// Whether this is all of it.
    pub state: State,
    /// What the conference is.
    pub description: Description,
    /// How it is doing.
    pub conference_state: ConferenceState,
    /// Who is in it.
    pub users: Users,
}

/// One document as it was read (RFC 4575 §5.2). What a partial one does not hold has not changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Document {
    /// Its number: one counter for each subscription.
    pub version: u32,
    /// The conference URI.
    pub entity: String,
    /// Whether this is all of it, a change, or the end of the conference.
    pub state: State,
    /// What the conference is.
    pub description: Option<Description>,
    /// How it is doing.
    pub conference_state: Option<ConferenceState>,
    /// Who is in it.
    pub users: Option<Users>,
}

/// What a conference is (RFC 4575 §5.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Description {
    /// Its name.
    pub display_text: Option<String>,
    /// What is being talked about.
    pub subject: Option<String>,
    /// What it is for.
    pub free_text: Option<String>,
    /// Where to take part.
    pub conf_uris: Vec<UriEntry>,
    /// What else belongs to it, such as its chat room.
    pub service_uris: Vec<UriEntry>,
    /// How many people may be in.
    pub maximum_user_count: Option<u32>,
    /// The media of the conference.
    pub available_media: Vec<AvailableMedia>,
}

/// A URI and what it is for (RFC 4575 §5.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UriEntry {
    /// The URI.
    pub uri: String,
    /// Its name, for people.
    pub display_text: Option<String>,
    /// A word of the IANA registry of URI purposes, such as [`GROUP_TEXT_CHAT`].
    pub purpose: Option<String>,
}

/// A medium that the conference offers (RFC 4575 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AvailableMedia {
    /// The `a=label` of SDP (RFC 4574).
    pub label: String,
    /// The media name of SDP, such as [`AUDIO`].
    pub kind: String,
    /// What someone may do with it who is not muted.
    pub status: MediaStatus,
}

/// How a conference is doing (RFC 4575 §5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConferenceState {
    /// How many people take part; may be more than the document lists.
    pub user_count: Option<u32>,
    /// A call by someone who may take part would succeed at this moment.
    pub active: Option<bool>,
    /// Nobody can be added.
    pub locked: Option<bool>,
}

/// The people of a conference (RFC 4575 §5.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Users {
    /// Whether these are all. Written always: left out it would mean `full`, and that a partial
    /// list empties the reader's.
    pub state: State,
    /// They.
    pub list: Vec<User>,
}

/// One person (RFC 4575 §5.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// Their key, and their address where the reader may know it.
    pub entity: String,
    /// Whether this is all of them.
    pub state: State,
    /// Their name.
    pub display_text: Option<String>,
    /// Other addresses of theirs.
    pub associated_aors: Vec<UriEntry>,
    /// What they are here, in words.
    pub roles: Vec<String>,
    /// Each way in which they are present.
    pub endpoints: Vec<Endpoint>,
}

/// One way in which someone is present (RFC 4575 §5.7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its key among those of the person.
    pub entity: String,
    /// Whether this is all of it.
    pub state: State,
    /// Its name: what Linphone shows in place of the person's.
    pub display_text: Option<String>,
    /// Who referred it here, and when.
    pub referred: Option<Execution>,
    /// How it stands.
    pub status: Option<EndpointStatus>,
    /// How it came.
    pub joining_method: Option<JoiningMethod>,
    /// When it came, and through whom.
    pub joining_info: Option<Execution>,
    /// How it went.
    pub disconnection_method: Option<DisconnectionMethod>,
    /// When it went, why, and through whom.
    pub disconnection_info: Option<Execution>,
    /// Its media.
    pub media: Vec<Media>,
}

/// How an endpoint stands (RFC 4575 §5.7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointStatus {
    /// Waits for something.
    Pending,
    /// The focus calls it.
    DialingOut,
    /// It calls.
    DialingIn,
    /// It rings.
    Alerting,
    /// Neither hears nor is mixed.
    OnHold,
    /// Takes part.
    Connected,
    /// Hears, but is not mixed.
    MutedViaFocus,
    /// Is being disconnected.
    Disconnecting,
    /// Is gone.
    Disconnected,
}

/// How an endpoint came (RFC 4575 §5.7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoiningMethod {
    /// It called.
    DialedIn,
    /// The focus called it.
    DialedOut,
    /// It is the focus.
    FocusOwner,
}

/// How an endpoint went (RFC 4575 §5.7.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectionMethod {
    /// It left.
    Departed,
    /// It was thrown out, or not let in.
    Booted,
    /// It failed.
    Failed,
    /// It was busy, or the conference was full.
    Busy,
}

/// When something was done, why, and by whom (RFC 4575 §5.7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Execution {
    /// When.
    pub when: Option<SystemTime>,
    /// Why; for the end of a call in the form of a Reason header, its name included.
    pub reason: Option<String>,
    /// The URI of who did it.
    pub by: Option<String>,
}

/// A medium of an endpoint (RFC 4575 §5.8). Type and status are always written: Linphone 5.1 ends
/// with a segmentation fault without.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Media {
    /// Its key among those of the endpoint.
    pub id: String,
    /// The media name of SDP, such as [`AUDIO`].
    pub kind: String,
    /// The label of the [`AvailableMedia`] that this is.
    pub label: Option<String>,
    /// The SSRC that the endpoint sends with; the only form that Linphone 5.1 survives.
    pub src_id: Option<u32>,
    /// What the endpoint can do with it.
    pub status: MediaStatus,
}

/// A direction, from the participant's point of view (RFC 4575 §5.8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaStatus {
    /// Is heard and hears.
    SendRecv,
    /// Is heard only.
    SendOnly,
    /// Hears only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Deleted => "deleted",
        }
    }
}

impl EndpointStatus {
    const ALL: [Self; 9] = [
        Self::Pending,
        Self::DialingOut,
        Self::DialingIn,
        Self::Alerting,
        Self::OnHold,
        Self::Connected,
        Self::MutedViaFocus,
        Self::Disconnecting,
        Self::Disconnected,
    ];

    /// Reads [`Self::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// The word of the schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::DialingOut => "dialing-out",
            Self::DialingIn => "dialing-in",
            Self::Alerting => "alerting",
            Self::OnHold => "on-hold",
            Self::Connected => "connected",
            Self::MutedViaFocus => "muted-via-focus",
            Self::Disconnecting => "disconnecting",
            Self::Disconnected => "disconnected",
        }
    }
}

impl JoiningMethod {
    const ALL: [Self; 3] = [Self::DialedIn, Self::DialedOut, Self::FocusOwner];

    /// Reads [`Self::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// The word of the schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DialedIn => "dialed-in",
            Self::DialedOut => "dialed-out",
            Self::FocusOwner => "focus-owner",
        }
    }
}

impl DisconnectionMethod {
    const ALL: [Self; 4] = [Self::Departed, Self::Booted, Self::Failed, Self::Busy];

    /// Reads [`Self::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// The word of the schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Departed => "departed",
            Self::Booted => "booted",
            Self::Failed => "failed",
            Self::Busy => "busy",
        }
    }
}

impl MediaStatus {
    const ALL: [Self; 4] = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];

    /// Reads [`Self::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// The word of the schema, and of SDP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

impl UriEntry {
    /// A URI with its purpose.
    pub fn new(uri: impl Into<String>, purpose: &str) -> Self {
        Self { uri: uri.into(), display_text: None, purpose: Some(purpose.to_owned()) }
    }
}

/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 1 << 20;
/// How deep the elements of a document may be nested; the schema needs nine, sidebars included.
pub const MAX_DEPTH: usize = 32;
/// The most people in one document, and in what a subscriber knows.
pub const MAX_USERS: usize = 2_000;
/// The most endpoints of one person.
pub const MAX_ENDPOINTS: usize = 32;
/// The most media of one endpoint.
pub const MAX_MEDIA: usize = 16;
/// The most entries of a list of URIs, roles or media.
pub const MAX_ENTRIES: usize = 64;
