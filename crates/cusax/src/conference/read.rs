//! Conference documents from XML, as focuses in the wild write them (RFC 4575 §4, §5).
//!
//! What a reader does not know is passed over: elements, attributes, words, prefixes, comments. What
//! is no conference document, or larger than one, is refused whole. Nothing that a peer sends makes
//! this panic, recurse without bound or keep more than the limits below.

use std::time::SystemTime;

use chrono::DateTime;
use minidom::Element;

use super::{
    AvailableMedia, Conference, ConferenceState, Description, DisconnectionMethod, Document,
    Endpoint, EndpointStatus, Execution, JoiningMethod, MAX_DEPTH, MAX_DOCUMENT, MAX_ENDPOINTS,
    MAX_ENTRIES, MAX_MEDIA, MAX_USERS, Media, MediaStatus, NAMESPACE, State, UriEntry, User, Users,
};

/// Why a text is no conference document that can be used. The subscription goes on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Larger than [`MAX_DOCUMENT`].
    #[error("the document is too large")]
    TooLarge,
    /// Deeper than [`MAX_DEPTH`].
    #[error("the document is nested too deep")]
    TooDeep,
    /// More users, endpoints, media or entries than one document may hold.
    #[error("the document lists too much")]
    TooMany,
    /// Not XML, or XML with a document type.
    #[error("not well-formed XML")]
    NotXml,
    /// The root is another element.
    #[error("not a conference document")]
    NotAConference,
    /// The root lacks its entity or its version (RFC 4575 §5.2), or a user, endpoint or medium its key.
    #[error("the document lacks an attribute that it must have")]
    Incomplete,
}

impl Document {
    /// Reads a document, full or partial.
    pub fn from_xml(text: &str) -> Result<Self, ReadError> {
        let text = bare(text)?;
        let root: Element = text.trim_start().parse().map_err(|_| ReadError::NotXml)?;
        if !root.is("conference-info", NAMESPACE) {
            return Err(ReadError::NotAConference);
        }
        let version = root.attr("version").and_then(|version| version.trim().parse().ok());
        Ok(Self {
            version: version.ok_or(ReadError::Incomplete)?,
            entity: key(&root, "entity")?,
            state: state(&root),
            description: child(&root, "conference-description").map(description).transpose()?,
            conference_state: child(&root, "conference-state").map(conference_state),
            users: child(&root, "users").map(users).transpose()?,
        })
    }
}

impl From<Document> for Conference {
    /// The document as the whole of what is known: what it does not say is empty.
    fn from(document: Document) -> Self {
        Self {
            entity: document.entity,
            state: document.state,
            description: document.description.unwrap_or_default(),
            conference_state: document.conference_state.unwrap_or_default(),
            users: document.users.unwrap_or_default(),
        }
    }
}

/// The document without what the parser behind us does not take (a declaration, comments, processing
/// instructions), if its elements are nested no deeper than [`MAX_DEPTH`]. A tree that deep costs
/// stack when it is dropped, so it must not come to be.
fn bare(text: &str) -> Result<String, ReadError> {
    if text.len() > MAX_DOCUMENT {
        return Err(ReadError::TooLarge);
    }
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    let mut out = String::with_capacity(rest.len());
    let mut depth = 0_usize;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (end, keep) = if rest.starts_with("<!--") {
            (until(rest, 4, "-->")?, false)
        } else if rest.starts_with("<?") {
            (until(rest, 2, "?>")?, false)
        } else if rest.starts_with("<![CDATA[") {
            (until(rest, 9, "]]>")?, true)
        } else if rest.starts_with("<!") {
            return Err(ReadError::NotXml);
        } else {
            let end = tag_end(rest)?;
            if rest.starts_with("</") {
                depth = depth.checked_sub(1).ok_or(ReadError::NotXml)?;
            } else if !rest[..end].ends_with("/>") {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(ReadError::TooDeep);
                }
            }
            (end, true)
        };
        if keep {
            out.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Where a construct ends that starts here and ends with `close`.
fn until(text: &str, from: usize, close: &str) -> Result<usize, ReadError> {
    text[from..].find(close).map(|at| from + at + close.len()).ok_or(ReadError::NotXml)
}

/// Where the tag that starts here ends; a `>` within quotes does not end it.
fn tag_end(text: &str) -> Result<usize, ReadError> {
    let mut quote = None;
    for (i, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'>') => return Ok(i + 1),
            _ => {}
        }
    }
    Err(ReadError::NotXml)
}

fn description(element: &Element) -> Result<Description, ReadError> {
    Ok(Description {
        display_text: text(element, "display-text"),
        subject: text(element, "subject"),
        free_text: text(element, "free-text"),
        conf_uris: entries(element, "conf-uris")?,
        service_uris: entries(element, "service-uris")?,
        maximum_user_count: word(element, "maximum-user-count").and_then(|n| n.parse().ok()),
        available_media: list(child(element, "available-media"), "entry", MAX_ENTRIES, |entry| {
            Ok(AvailableMedia {
                label: key(entry, "label")?,
                kind: word(entry, "type").unwrap_or_default(),
                status: media_status(entry),
            })
        })?,
    })
}

fn conference_state(element: &Element) -> ConferenceState {
    let yes = |name| match word(element, name).as_deref() {
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        _ => None,
    };
    ConferenceState {
        user_count: word(element, "user-count").and_then(|n| n.parse().ok()),
        active: yes("active"),
        locked: yes("locked"),
    }
}

fn users(element: &Element) -> Result<Users, ReadError> {
    Ok(Users { state: state(element), list: list(Some(element), "user", MAX_USERS, user)? })
}

fn user(element: &Element) -> Result<User, ReadError> {
    let roles = list(child(element, "roles"), "entry", MAX_ENTRIES, |entry| Ok(entry.text()))?;
    Ok(User {
        entity: key(element, "entity")?,
        state: state(element),
        display_text: text(element, "display-text"),
        associated_aors: entries(element, "associated-aors")?,
        roles,
        endpoints: list(Some(element), "endpoint", MAX_ENDPOINTS, endpoint)?,
    })
}

fn endpoint(element: &Element) -> Result<Endpoint, ReadError> {
    Ok(Endpoint {
        entity: key(element, "entity")?,
        state: state(element),
        display_text: text(element, "display-text"),
        referred: child(element, "referred").map(execution),
        status: word(element, "status").and_then(|word| EndpointStatus::from_word(&word)),
        joining_method: word(element, "joining-method")
            .and_then(|word| JoiningMethod::from_word(&word)),
        joining_info: child(element, "joining-info").map(execution),
        disconnection_method: word(element, "disconnection-method")
            .and_then(|word| DisconnectionMethod::from_word(&word)),
        disconnection_info: child(element, "disconnection-info").map(execution),
        media: list(Some(element), "media", MAX_MEDIA, |media| {
            Ok(Media {
                id: key(media, "id")?,
                kind: word(media, "type").unwrap_or_default(),
                label: text(media, "label"),
                src_id: word(media, "src-id").and_then(|ssrc| ssrc.parse().ok()),
                status: media_status(media),
            })
        })?,
    })
}

fn execution(element: &Element) -> Execution {
    let when = word(element, "when").and_then(|when| DateTime::parse_from_rfc3339(&when).ok());
    Execution {
        when: when.map(SystemTime::from),
        reason: text(element, "reason"),
        by: word(element, "by"),
    }
}

/// The status of a medium; one that says none may send and receive.
fn media_status(element: &Element) -> MediaStatus {
    word(element, "status")
        .and_then(|word| MediaStatus::from_word(&word))
        .unwrap_or(MediaStatus::SendRecv)
}

fn entries(element: &Element, name: &str) -> Result<Vec<UriEntry>, ReadError> {
    list(child(element, name), "entry", MAX_ENTRIES, |entry| {
        Ok(UriEntry {
            uri: word(entry, "uri").unwrap_or_default(),
            display_text: text(entry, "display-text"),
            purpose: word(entry, "purpose"),
        })
    })
}

/// The state of an element; what is left out or unknown is `full` (RFC 4575 §4.4).
fn state(element: &Element) -> State {
    match element.attr("state").map(str::trim) {
        Some("partial") => State::Partial,
        Some("deleted") => State::Deleted,
        _ => State::Full,
    }
}

/// An attribute that the element must have.
fn key(element: &Element, name: &str) -> Result<String, ReadError> {
    element.attr(name).map(|value| value.trim().to_owned()).ok_or(ReadError::Incomplete)
}

fn child<'a>(element: &'a Element, name: &str) -> Option<&'a Element> {
    element.get_child(name, NAMESPACE)
}

/// A text for people.
fn text(element: &Element, name: &str) -> Option<String> {
    child(element, name).map(Element::text)
}

/// A text for programs: a word, number or URI, without the blanks around it.
fn word(element: &Element, name: &str) -> Option<String> {
    text(element, name).map(|text| text.trim().to_owned())
}

/// The children of one name, at most `limit`.
fn list<T>(
    parent: Option<&Element>,
    name: &str,
    limit: usize,
    read: impl Fn(&Element) -> Result<T, ReadError>,
) -> Result<Vec<T>, ReadError> {
    let children = parent.into_iter().flat_map(Element::children);
    let children: Vec<_> = children.filter(|child| child.is(name, NAMESPACE)).collect();
    if children.len() > limit {
        return Err(ReadError::TooMany);
    }
    children.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::conference::AUDIO;

    /// As a focus writes that is not ours: prefixes, extensions, comments, white space, an id
    /// that is no number, words that nobody registered.
    const FOREIGN: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<!-- the <roster> -->
<ci:conference-info xmlns:ci="urn:ietf:params:xml:ns:conference-info" xmlns:x="urn:example:x"
    entity=" sip:coven@focus.example.org " version=" 3 " x:colour="a > b">
  <ci:conference-description xml:lang="en">
    <ci:display-text><![CDATA[A <Dark> Cave]]></ci:display-text>
    <ci:service-uris><ci:entry><ci:uri>
        xmpp:coven@muc.example.org </ci:uri><ci:purpose>grouptextchat</ci:purpose></ci:entry></ci:service-uris>
  </ci:conference-description>
  <ci:conference-state><ci:user-count>many</ci:user-count><ci:active>1</ci:active></ci:conference-state>
  <ci:users>
    <ci:user entity="sip:a@x" state="sideways"><x:mood>good</x:mood>
      <ci:endpoint entity="sip:a@x;gr=1" state="full"><ci:status>levitating</ci:status>
        <ci:joining-info><ci:when>2026-07-01T12:00:00+02:00</ci:when></ci:joining-info>
        <ci:media id="main-audio"><ci:type>audio</ci:type><ci:src-id>0xff</ci:src-id></ci:media>
      </ci:endpoint>
    </ci:user>
  </ci:users>
  <ci:sidebars-by-val state="partial"><ci:entry entity="sip:b@x"/></ci:sidebars-by-val>
</ci:conference-info>"#;

    #[test]
    fn reads_what_others_write() {
        let document = Document::from_xml(FOREIGN).unwrap();
        assert_eq!((document.version, document.state), (3, State::Full));
        assert_eq!(document.entity, "sip:coven@focus.example.org");
        let description = document.description.unwrap();
        assert_eq!(description.display_text.as_deref(), Some("A <Dark> Cave"));
        assert_eq!(description.service_uris[0].uri, "xmpp:coven@muc.example.org");
        let state = document.conference_state.unwrap();
        assert_eq!((state.user_count, state.active, state.locked), (None, Some(true), None));
        let user = &document.users.unwrap().list[0];
        assert_eq!((user.state, user.endpoints[0].status), (State::Full, None));
        let joined = user.endpoints[0].joining_info.as_ref().unwrap().when;
        assert_eq!(joined, Some(UNIX_EPOCH + Duration::from_secs(1_782_900_000)));
        let media = &user.endpoints[0].media[0];
        assert_eq!((media.id.as_str(), media.kind.as_str()), ("main-audio", AUDIO));
        assert_eq!((media.src_id, media.status), (None, MediaStatus::SendRecv));
    }

    #[test]
    fn refuses_what_is_no_document() {
        let root = |attributes: &str, content: &str| {
            format!("<conference-info xmlns='{NAMESPACE}' {attributes}>{content}</conference-info>")
        };
        let sound = "entity='sip:a@x' version='1'";
        let nested = |depth| "<x>".repeat(depth) + &"</x>".repeat(depth);
        let users = |count| "<user entity='sip:b@x'/>".repeat(count);
        let check = |text: &str, expected: Result<(), ReadError>| {
            let start: String = text.chars().take(120).collect();
            assert_eq!(Document::from_xml(text).map(|_| ()), expected, "{start}");
        };
        check(&root(sound, ""), Ok(()));
        check(&root(sound, &nested(MAX_DEPTH - 1)), Ok(()));
        check(&root(sound, &nested(MAX_DEPTH)), Err(ReadError::TooDeep));
        check(&nested(100_000), Err(ReadError::TooDeep));
        check(&"<x>".repeat(100_000), Err(ReadError::TooDeep));
        check(&root(sound, &format!("<users>{}</users>", users(MAX_USERS))), Ok(()));
        let crowd = format!("<users>{}</users>", users(MAX_USERS + 1));
        check(&root(sound, &crowd), Err(ReadError::TooMany));
        check(&" ".repeat(MAX_DOCUMENT + 1), Err(ReadError::TooLarge));
        check(&root("entity='sip:a@x'", ""), Err(ReadError::Incomplete));
        check(&root("version='1'", ""), Err(ReadError::Incomplete));
        check(&root("entity='sip:a@x' version='-1'", ""), Err(ReadError::Incomplete));
        check(&root(sound, "<users><user/></users>"), Err(ReadError::Incomplete));
        check("<conference-info entity='sip:a@x' version='1'/>", Err(ReadError::NotXml));
        check("<presence xmlns='jabber:client'/>", Err(ReadError::NotAConference));
        check("<!DOCTYPE x [<!ENTITY a 'aaaa'>]><x xmlns='y'>&a;</x>", Err(ReadError::NotXml));
        for broken in ["", "<", "<!--", "<?xml", "<a", "</a>", "<![CDATA[", "text", "<a b='>"] {
            check(broken, Err(ReadError::NotXml));
        }
        check(&root(sound, "<users>"), Err(ReadError::NotXml));
    }

    proptest::proptest! {
        /// Neither noise nor a document cut short, or with noise in it, makes the reader panic.
        #[test]
        fn never_panics(noise in "\\PC{0,200}", at in 0..FOREIGN.len(), cut: bool) {
            let _ = Document::from_xml(&noise);
            let mut text = FOREIGN.to_owned();
            if cut { text.truncate(at) } else { text.insert_str(at, &noise) }
            let _ = Document::from_xml(&text);
        }
    }
}
