//! Which room belongs to which conference, and whether to join the one from the other (RFC 7081 §4,
//! RFC 7106).
//!
//! Each side names the other: a room in its disco#info, a conference in its documents. A name is a
//! claim of who wrote it; [`offer`] says what a client does about it.

use cusax::conference::{Description, GROUP_TEXT_CHAT};
use cusax::{hat, identity};
use cusax_sip::uri::Uri;
use jid::BareJid;
use minidom::Element;

/// What a room's disco#info says that matters here (XEP-0045 §6.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomInfo {
    /// Where to call to be in the room.
    pub conference: Option<Uri>,
    /// The room itself gives hats, so those in its presence are no client's (XEP-0317).
    pub hats: bool,
    /// The room itself gives occupant ids (XEP-0421 §3).
    pub occupant_ids: bool,
}

impl RoomInfo {
    /// Reads a disco#info `<query/>`, or an iq that holds one.
    pub fn read(answer: &Element) -> Self {
        let query = if answer.is("query", DISCO_INFO) {
            Some(answer)
        } else {
            answer.get_child("query", DISCO_INFO)
        };
        let Some(query) = query else { return Self::default() };
        let feature = |wanted: &str| {
            query
                .children()
                .any(|child| child.is("feature", DISCO_INFO) && child.attr("var") == Some(wanted))
        };
        Self {
            conference: conference_uri(query),
            hats: feature(hat::NS),
            occupant_ids: feature(OCCUPANT_ID),
        }
    }
}

/// The address of a room's conference: the first of its three spellings that holds a SIP, SIPS or
/// tel URI.
fn conference_uri(query: &Element) -> Option<Uri> {
    let form = query.children().find(|x| {
        x.is("x", DATA_FORM)
            && value(x, "FORM_TYPE", |field| field.attr("type") == Some("hidden")).as_deref()
                == Some(ROOM_INFO)
    })?;
    SPELLINGS.into_iter().find_map(|spelling| {
        let uri = value(form, spelling, |_| true)?;
        if uri.len() > MAX_URI {
            return None;
        }
        match uri.trim().parse().ok()? {
            Uri::Other(_) => None,
            uri @ (Uri::Sip(_) | Uri::Tel(_)) => Some(uri),
        }
    })
}

/// The first value of a form's field.
fn value(form: &Element, var: &str, fits: impl Fn(&Element) -> bool) -> Option<String> {
    let field = form.children().find(|field| {
        field.is("field", DATA_FORM) && field.attr("var") == Some(var) && fits(field)
    })?;
    field.get_child("value", DATA_FORM).map(Element::text)
}

/// The chat rooms that a conference names, in its order (RFC 7106 §1): `xmpp:` URIs of rooms, each
/// once. Rooms of other networks are not for an XMPP client to join.
pub fn rooms(description: &Description) -> Vec<BareJid> {
    let mut rooms = vec![];
    for entry in &description.service_uris {
        let jid = (entry.purpose.as_deref() == Some(GROUP_TEXT_CHAT))
            .then(|| identity::jid_of_xmpp_uri(&entry.uri))
            .flatten()
            .map(|jid| jid.to_bare())
            .filter(|jid| jid.node().is_some());
        if let Some(jid) = jid
            && !rooms.contains(&jid)
        {
            rooms.push(jid);
        }
    }
    rooms
}

/// Where a link leads from where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the conference, to the room that it names.
    ToRoom,
    /// In the room, to the conference that it names.
    ToConference,
}

/// What the other side says of this one. A client asks it before it offers the link: a room's
/// disco#info is open to whoever may enter, a conference is asked by SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// It could not be asked, or has not answered.
    NotAsked,
    /// It names this one: the link holds both ways.
    Mutual,
    /// It names none.
    Silent,
    /// It names another.
    Another,
}

impl Confirmation {
    /// What a room says of a conference.
    pub fn by_room(info: &RoomInfo, conference: &Uri) -> Self {
        match &info.conference {
            None => Self::Silent,
            Some(named) if same_conference(named, conference) => Self::Mutual,
            Some(_) => Self::Another,
        }
    }

    /// What a conference says of a room.
    pub fn by_conference(description: &Description, room: &BareJid) -> Self {
        match &rooms(description)[..] {
            [] => Self::Silent,
            named if named.contains(room) => Self::Mutual,
            _ => Self::Another,
        }
    }
}

/// Whether two URIs name one conference: as RFC 3261 §19.1.4 compares them, or the same user at the
/// same host.
pub fn same_conference(a: &Uri, b: &Uri) -> bool {
    if let (Uri::Sip(a), Uri::Sip(b)) = (a, b)
        && let (Some(user_a), Some(user_b)) = (a.user(), b.user())
    {
        return user_a == user_b && a.host.equivalent(&b.host);
    }
    a.equivalent(b)
}

/// What provisioning says belongs together (RFC 7081 §2, §3.4): services, each with its domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Related {
    services: Vec<Vec<String>>,
}

impl Related {
    /// Takes note of one service: everything at or under its domains, chat and voice, is one
    /// administration's.
    #[must_use]
    pub fn with<'a>(mut self, domains: impl IntoIterator<Item = &'a str>) -> Self {
        let domains = domains.into_iter().filter(|domain| !domain.is_empty());
        self.services.push(domains.map(domain_key).collect());
        self
    }

    /// Whether two hosts are of one service.
    fn are(&self, a: &str, b: &str) -> bool {
        let of = |service: &[String], host: &str| {
            service.iter().any(|domain| {
                host == domain
                    || host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
            })
        };
        self.services.iter().any(|service| of(service, a) && of(service, b))
    }
}

/// What a client does about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The full address of what would be joined: shown before and after joining (RFC 7106 §2).
    pub show: String,
    /// Whether it may be joined without being asked for.
    pub join: Join,
    /// What looks wrong, to be shown beside it.
    pub hints: Vec<Hint>,
}

/// Who decides that the other side is joined (RFC 7106 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// The user, by an act of theirs.
    ByUser,
    /// The client may: both are of one domain.
    SameDomain,
    /// The client may: both are of one service, as provisioning says.
    Related,
}

/// What does not fit in a link (RFC 7106 §2). None forbids it to a user who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// The two are at different domains.
    OtherDomain,
    /// The room's name is not the conference's user part.
    OtherName,
    /// The other side names no partner.
    NotConfirmed,
    /// The other side names another partner.
    Contradicted,
}

/// Judges a link between a conference and a room, followed in one direction. The check of domains is
/// of whole host names: that one is under the other says nothing where anybody can have a subdomain.
pub fn offer(
    way: &Way,
    conference: &Uri,
    room: &BareJid,
    confirmation: &Confirmation,
    related: &Related,
) -> Offer {
    let show = match way {
        Way::ToRoom => room.to_string(),
        Way::ToConference => conference.to_string(),
    };
    let room_host = domain_key(room.domain().as_str());
    let host = conference.as_sip().map(|uri| domain_key(&uri.host.to_string()));
    let same = host.as_ref() == Some(&room_host);
    let related = host.as_ref().is_some_and(|host| related.are(host, &room_host));
    let mut hints = vec![];
    if !same && !related {
        hints.push(Hint::OtherDomain);
    }
    let user = conference.as_sip().and_then(|uri| uri.user());
    let node = room.node().map(|node| node.as_str());
    let fits = match (&user, node) {
        (Some(user), Some(node)) => user.to_lowercase() == node.to_lowercase(),
        _ => false,
    };
    if !fits {
        hints.push(Hint::OtherName);
    }
    match confirmation {
        Confirmation::Mutual | Confirmation::NotAsked => {}
        Confirmation::Silent => hints.push(Hint::NotConfirmed),
        Confirmation::Another => hints.push(Hint::Contradicted),
    }
    let join = match (confirmation, related, same) {
        (Confirmation::Another, _, _) => Join::ByUser,
        (_, true, _) => Join::Related,
        (_, false, true) => Join::SameDomain,
        (_, false, false) => Join::ByUser,
    };
    Offer { show, join, hints }
}

/// A domain in the form in which two of them compare.
fn domain_key(domain: &str) -> String {
    domain.trim_end_matches('.').to_ascii_lowercase()
}

/// How a room's form may name the conference, in the order of preference: as RFC 7081 §4 writes it,
/// as fields of this form are called, and as XEP-0068 §3.4 would have it.
pub const SPELLINGS: [&str; 3] =
    ["audio-video-uri", "muc#roominfo_audio-video-uri", "{urn:ietf:rfc:7081}audio-video-uri"];

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const DATA_FORM: &str = "jabber:x:data";
const ROOM_INFO: &str = "http://jabber.org/protocol/muc#roominfo";
/// The namespace of occupant ids (XEP-0421).
pub(crate) const OCCUPANT_ID: &str = "urn:xmpp:occupant-id:0";
/// The longest address of a conference that is taken from a form, in bytes.
const MAX_URI: usize = 1_024;

#[cfg(test)]
mod tests {
    use cusax::conference::UriEntry;

    use super::*;

    fn info(form_type: &str, fields: &[(&str, &str)]) -> RoomInfo {
        let fields: String = fields
            .iter()
            .map(|(var, value)| format!("<field var='{var}'><value>{value}</value></field>"))
            .collect();
        let iq = format!(
            "<iq xmlns='jabber:client' type='result'><query xmlns='{DISCO_INFO}'>\
             <feature var='urn:xmpp:hats:0'/><x xmlns='{DATA_FORM}' type='result'/>\
             <x xmlns='{DATA_FORM}' type='result'><field var='FORM_TYPE' type='{form_type}'>\
             <value>{ROOM_INFO}</value></field>{fields}</x></query></iq>"
        );
        RoomInfo::read(&iq.parse().unwrap())
    }

    #[test]
    fn finds_the_conference_of_a_room() {
        let [rfc, muc, clark] = SPELLINGS;
        let check = |fields: &[(&str, &str)], expected: Option<&str>| {
            let uri = info("hidden", fields).conference.map(|uri| uri.to_string());
            assert_eq!(uri.as_deref(), expected, "{fields:?}");
        };
        check(&[(rfc, "sip:a@x")], Some("sip:a@x"));
        check(&[(muc, "sips:a@x")], Some("sips:a@x"));
        check(&[(clark, " tel:+4930123 ")], Some("tel:+4930123"));
        check(&[(clark, "sip:c@x"), (muc, "sip:b@x"), (rfc, "sip:a@x")], Some("sip:a@x"));
        check(&[(rfc, "https://x/meet"), (muc, "sip:b@x")], Some("sip:b@x"));
        check(&[(rfc, "javascript:alert(1)")], None);
        check(&[(rfc, "sip:a b@x")], None);
        check(&[(rfc, "")], None);
        check(&[("muc#roominfo_description", "sip:a@x")], None);
        check(&[(rfc, &format!("sip:{}@x", "a".repeat(2_000)))], None);
        check(&[], None);
        // A form counts as what it is if that is hidden (XEP-0068 §4.3).
        assert_eq!(info("text-single", &[(rfc, "sip:a@x")]).conference, None);
        assert!(info("hidden", &[]).hats && !info("hidden", &[]).occupant_ids);
        let other = "<query xmlns='jabber:iq:roster'/>".parse().unwrap();
        assert_eq!(RoomInfo::read(&other), RoomInfo::default());
    }

    #[test]
    fn finds_the_rooms_of_a_conference() {
        let entry = |uri: &str, purpose: &str| UriEntry::new(uri, purpose);
        let description = Description {
            service_uris: vec![
                entry("http://example.org/agenda", "web-page"),
                entry("xmpp:page@muc.example.org", "web-page"),
                entry("xmpp:tea@muc.example.org?join", GROUP_TEXT_CHAT),
                entry("xmpp:tea@muc.example.org", GROUP_TEXT_CHAT),
                entry("xmpp:Caf%C3%A9@muc.example.org/nick", GROUP_TEXT_CHAT),
                entry("irc://irc.example.org/tea", GROUP_TEXT_CHAT),
                entry("xmpp:muc.example.org", GROUP_TEXT_CHAT),
                entry("xmpp:a%40b@muc.example.org", GROUP_TEXT_CHAT),
            ],
            ..Description::default()
        };
        let found: Vec<_> = rooms(&description).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["tea@muc.example.org", "café@muc.example.org"]);
    }

    #[test]
    fn joins_by_itself_only_what_is_known_to_belong_together() {
        use Confirmation::{Another, Mutual, NotAsked, Silent};
        let related = Related::default().with(["Example.org."]).with(["sip.net", "chat.net"]);
        let check = |conference: &str, room: &str, said: &Confirmation, join, hints: &[Hint]| {
            let conference = conference.parse().unwrap();
            let room = BareJid::new(room).unwrap();
            for way in [Way::ToRoom, Way::ToConference] {
                let offer = offer(&way, &conference, &room, said, &related);
                assert_eq!((offer.join, &offer.hints[..]), (join, hints), "{conference} {room}");
                // The whole of it, whatever was decided.
                let whole = match way {
                    Way::ToRoom => room.to_string(),
                    Way::ToConference => conference.to_string(),
                };
                assert_eq!(offer.show, whole);
            }
        };
        let (by_user, same, of_one) = (Join::ByUser, Join::SameDomain, Join::Related);
        check("sip:tea@x.test", "tea@x.test", &Mutual, same, &[]);
        check("sip:Tea@X.test:5061;transport=tls", "tea@x.test", &NotAsked, same, &[]);
        check("sip:tea@x.test", "tea@x.test", &Silent, same, &[Hint::NotConfirmed]);
        check("sip:tea@x.test", "tea@x.test", &Another, by_user, &[Hint::Contradicted]);
        check("sip:a@conf.example.org", "a@muc.example.org", &Mutual, of_one, &[]);
        check("sip:a@sip.net", "a@rooms.chat.net", &Mutual, of_one, &[]);
        check("sip:a@sip.net", "b@chat.net", &Mutual, of_one, &[Hint::OtherName]);
        // Nothing follows from what names look like.
        let strange = &[Hint::OtherDomain];
        check("sip:a@x.test", "a@evil.x.test", &Mutual, by_user, strange);
        check("sip:a@evil.x.test", "a@x.test", &Mutual, by_user, strange);
        check("sip:a@notexample.org", "a@muc.example.org", &Mutual, by_user, strange);
        check("sip:a@example.org.evil.test", "a@example.org", &Mutual, by_user, strange);
        check("sip:a@sip.net", "a@muc.example.org", &Mutual, by_user, strange);
        let all = &[Hint::OtherDomain, Hint::OtherName, Hint::Contradicted];
        check("tel:+4930123", "tea@example.org", &Another, by_user, all);
        check("sip:x.test", "x.test", &NotAsked, same, &[Hint::OtherName]);
    }

    #[test]
    fn each_side_confirms_the_other() {
        let named = info("hidden", &[(SPELLINGS[0], "sip:tea@conf.example.org")]);
        for (uri, expected) in [
            ("sip:tea@CONF.example.org:5060;transport=tcp", Confirmation::Mutual),
            ("sip:Tea@conf.example.org", Confirmation::Another),
            ("sip:conf.example.org", Confirmation::Another),
            ("tel:+4930123", Confirmation::Another),
        ] {
            assert_eq!(Confirmation::by_room(&named, &uri.parse().unwrap()), expected, "{uri}");
        }
        let uri = "sip:tea@conf.example.org".parse().unwrap();
        assert_eq!(Confirmation::by_room(&RoomInfo::default(), &uri), Confirmation::Silent);

        let room = BareJid::new("tea@muc.example.org").unwrap();
        let mut description = Description::default();
        let said = Confirmation::by_conference(&description, &room);
        assert_eq!(said, Confirmation::Silent);
        description.service_uris.push(UriEntry::new("xmpp:a@b.test", GROUP_TEXT_CHAT));
        let said = Confirmation::by_conference(&description, &room);
        assert_eq!(said, Confirmation::Another);
        description.service_uris.push(UriEntry::new("xmpp:tea@muc.example.org", GROUP_TEXT_CHAT));
        let said = Confirmation::by_conference(&description, &room);
        assert_eq!(said, Confirmation::Mutual);
    }
}
