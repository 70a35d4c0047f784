//! Conference documents as XML, in the order of the schema (RFC 4575 §6).

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::{
    AvailableMedia, Conference, ConferenceState, Description, Endpoint, Execution, Media,
    NAMESPACE, State, UriEntry, User,
};

impl Conference {
    /// Writes the document under a version: one counter for each subscription, one more for each
    /// document (RFC 4575 §5.2).
    pub fn to_xml(&self, version: u32) -> String {
        let mut xml = Xml(String::with_capacity(1_024 + 768 * self.users.list.len()));
        xml.0.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let version = version.to_string();
        let root = [
            ("xmlns", NAMESPACE),
            ("entity", &uri(&self.entity)),
            ("state", self.state.as_str()),
            ("version", &version),
        ];
        xml.element("conference-info", &root, |xml| {
            xml.element("conference-description", &[], |xml| self.description.write(xml));
            xml.element("conference-state", &[], |xml| self.conference_state.write(xml));
            xml.element("users", &[("state", self.users.state.as_str())], |xml| {
                for user in &self.users.list {
                    user.write(xml);
                }
            });
        });
        xml.0
    }
}

impl Description {
    fn write(&self, xml: &mut Xml) {
        xml.text("display-text", self.display_text.as_deref());
        xml.text("subject", self.subject.as_deref());
        xml.text("free-text", self.free_text.as_deref());
        xml.parent("conf-uris", &self.conf_uris, UriEntry::write);
        xml.parent("service-uris", &self.service_uris, UriEntry::write);
        xml.text("maximum-user-count", self.maximum_user_count.map(|n| n.to_string()).as_deref());
        xml.parent("available-media", &self.available_media, AvailableMedia::write);
    }
}

impl UriEntry {
    fn write(&self, xml: &mut Xml) {
        xml.element("entry", &[], |xml| {
            xml.text("uri", Some(&uri(&self.uri)));
            xml.text("display-text", self.display_text.as_deref());
            xml.text("purpose", self.purpose.as_deref());
        });
    }
}

impl AvailableMedia {
    fn write(&self, xml: &mut Xml) {
        xml.element("entry", &[("label", &self.label)], |xml| {
            xml.text("type", Some(&self.kind));
            xml.text("status", Some(self.status.as_str()));
        });
    }
}

impl ConferenceState {
    fn write(&self, xml: &mut Xml) {
        xml.text("user-count", self.user_count.map(|n| n.to_string()).as_deref());
        xml.text("active", self.active.map(|yes| if yes { "true" } else { "false" }));
        xml.text("locked", self.locked.map(|yes| if yes { "true" } else { "false" }));
    }
}

impl User {
    fn write(&self, xml: &mut Xml) {
        xml.keyed("user", &uri(&self.entity), self.state, |xml| {
            xml.text("display-text", self.display_text.as_deref());
            xml.parent("associated-aors", &self.associated_aors, UriEntry::write);
            xml.parent("roles", &self.roles, |role, xml| xml.text("entry", Some(role)));
            for endpoint in &self.endpoints {
                endpoint.write(xml);
            }
        });
    }
}

impl Endpoint {
    fn write(&self, xml: &mut Xml) {
        xml.keyed("endpoint", &uri(&self.entity), self.state, |xml| {
            xml.text("display-text", self.display_text.as_deref());
            Execution::write(self.referred.as_ref(), "referred", xml);
            xml.text("status", self.status.map(|status| status.as_str()));
            xml.text("joining-method", self.joining_method.map(|method| method.as_str()));
            Execution::write(self.joining_info.as_ref(), "joining-info", xml);
            xml.text(
                "disconnection-method",
                self.disconnection_method.map(|method| method.as_str()),
            );
            Execution::write(self.disconnection_info.as_ref(), "disconnection-info", xml);
            for media in &self.media {
                media.write(xml);
            }
        });
    }
}

impl Execution {
    fn write(this: Option<&Self>, name: &str, xml: &mut Xml) {
        let Some(this) = this else { return };
        xml.element(name, &[], |xml| {
            xml.text("when", this.when.map(stamp).as_deref());
            xml.text("reason", this.reason.as_deref());
            xml.text("by", this.by.as_deref().map(uri).as_deref());
        });
    }
}

impl Media {
    fn write(&self, xml: &mut Xml) {
        xml.element("media", &[("id", &self.id)], |xml| {
            xml.text("type", Some(&self.kind));
            xml.text("label", self.label.as_deref());
            xml.text("src-id", self.src_id.map(|ssrc| ssrc.to_string()).as_deref());
            xml.text("status", Some(self.status.as_str()));
        });
    }
}

/// The text written so far.
struct Xml(String);

impl Xml {
    /// An element with these attributes and whatever `content` writes.
    fn element(&mut self, name: &str, attrs: &[(&str, &str)], content: impl FnOnce(&mut Self)) {
        self.0.push('<');
        self.0.push_str(name);
        for (attr, value) in attrs {
            let _ = write!(self.0, " {attr}=\"");
            self.escaped(value);
            self.0.push('"');
        }
        self.0.push('>');
        let empty = self.0.len();
        content(self);
        if self.0.len() == empty {
            self.0.pop();
            self.0.push_str("/>");
        } else {
            let _ = write!(self.0, "</{name}>");
        }
    }

    /// An element that readers merge by its key; if it is no more, only the key is said.
    fn keyed(&mut self, name: &str, entity: &str, state: State, content: impl FnOnce(&mut Self)) {
        self.element(name, &[("entity", entity), ("state", state.as_str())], |xml| match state {
            State::Full | State::Partial => content(xml),
            State::Deleted => {}
        });
    }

    /// An element that holds a text, if there is one.
    fn text(&mut self, name: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        self.element(name, &[], |xml| xml.escaped(text));
    }

    /// An element that holds a list, unless the list is empty: the schema wants at least one entry.
    fn parent<T>(&mut self, name: &str, list: &[T], each: impl Fn(&T, &mut Self)) {
        if !list.is_empty() {
            self.element(name, &[], |xml| list.iter().for_each(|item| each(item, xml)));
        }
    }

    /// A text as character data or attribute value. Characters that XML 1.0 §2.2 forbids cannot be
    /// escaped, so they are left out; line ends and tabs survive an attribute as references only.
    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\t' | '\n' | '\r' => {
                    let _ = write!(self.0, "&#{};", u32::from(c));
                }
                '\u{fffe}' | '\u{ffff}' => {}
                c if c < ' ' => {}
                c => self.0.push(c),
            }
        }
    }
}

/// Encodes what may not stand in a URI (RFC 3986 §2), and percent signs that encode nothing. Text
/// that is a URI already stays as it is, so that keys compare byte by byte (RFC 4575 §4.5);
/// brackets belong to that only around an address (RFC 3261 §25.1).
fn uri(text: &str) -> String {
    let bytes = text.as_bytes();
    let address = ipv6(text).unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut fragment = false;
    for (i, byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'%' => {
                bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            }
            // A second one is no delimiter any more.
            b'#' => !std::mem::replace(&mut fragment, true),
            b'[' | b']' => address.contains(&i),
            byte => byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=".contains(byte),
        };
        if plain {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Where a SIP URI has an IPv6 address as its host, brackets included.
fn ipv6(text: &str) -> Option<Range<usize>> {
    let open = text.find('[')?;
    let close = open + text[open..].find(']')?;
    let is_host = text[..open].ends_with(['@', ':']);
    text[open + 1..close].parse::<Ipv6Addr>().ok().filter(|_| is_host).map(|_| open..close + 1)
}

/// An xs:dateTime in UTC, in whole seconds.
fn stamp(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::conference::{
        AUDIO, DisconnectionMethod, EndpointStatus, GROUP_TEXT_CHAT, JoiningMethod, MediaStatus,
        PARTICIPATION, Users,
    };

    #[test]
    fn writes_all_that_is_there_in_the_order_of_the_schema() {
        let at = UNIX_EPOCH + Duration::from_secs(1_782_900_000);
        let conference = Conference {
            entity: "sip:coven@focus.example.org".to_owned(),
            state: State::Full,
            description: Description {
                display_text: Some("A <Dark> & \"Cave\"".to_owned()),
                subject: Some("Spells".to_owned()),
                free_text: None,
                conf_uris: vec![UriEntry::new("sip:coven@focus.example.org", PARTICIPATION)],
                service_uris: vec![UriEntry::new("xmpp:coven@muc.example.org", GROUP_TEXT_CHAT)],
                maximum_user_count: Some(50),
                available_media: vec![AvailableMedia {
                    label: "1".to_owned(),
                    kind: AUDIO.to_owned(),
                    status: MediaStatus::SendRecv,
                }],
            },
            conference_state: ConferenceState {
                user_count: Some(1),
                active: Some(true),
                locked: Some(false),
            },
            users: Users {
                state: State::Partial,
                list: vec![
                    User {
                        entity: "sip:a b@x".to_owned(),
                        display_text: Some("Pistol\u{0}\u{1b}".to_owned()),
                        roles: vec!["moderator".to_owned()],
                        endpoints: vec![Endpoint {
                            entity: "sip:a@x;gr=1".to_owned(),
                            status: Some(EndpointStatus::Disconnected),
                            joining_method: Some(JoiningMethod::DialedIn),
                            joining_info: Some(Execution {
                                when: Some(at),
                                ..Execution::default()
                            }),
                            disconnection_method: Some(DisconnectionMethod::Booted),
                            disconnection_info: Some(Execution {
                                when: None,
                                reason: Some("Reason: SIP;cause=603;text=\"noise\"".to_owned()),
                                by: Some("sip:b@x".to_owned()),
                            }),
                            media: vec![Media {
                                id: "1".to_owned(),
                                kind: AUDIO.to_owned(),
                                label: Some("1".to_owned()),
                                src_id: Some(583_398),
                                status: MediaStatus::RecvOnly,
                            }],
                            ..Endpoint::default()
                        }],
                        ..User::default()
                    },
                    User {
                        entity: "sip:gone@x".to_owned(),
                        state: State::Deleted,
                        display_text: Some("not written".to_owned()),
                        ..User::default()
                    },
                ],
            },
        };
        let expected = concat!(
            r#"<?xml version="1.0" encoding="UTF-8"?>"#,
            "\n",
            r#"<conference-info xmlns="urn:ietf:params:xml:ns:conference-info" "#,
            r#"entity="sip:coven@focus.example.org" state="full" version="7">"#,
            "<conference-description>",
            "<display-text>A &lt;Dark&gt; &amp; &quot;Cave&quot;</display-text>",
            "<subject>Spells</subject>",
            "<conf-uris><entry><uri>sip:coven@focus.example.org</uri>",
            "<purpose>participation</purpose></entry></conf-uris>",
            "<service-uris><entry><uri>xmpp:coven@muc.example.org</uri>",
            "<purpose>grouptextchat</purpose></entry></service-uris>",
            "<maximum-user-count>50</maximum-user-count>",
            r#"<available-media><entry label="1"><type>audio</type>"#,
            "<status>sendrecv</status></entry></available-media>",
            "</conference-description>",
            "<conference-state><user-count>1</user-count><active>true</active>",
            "<locked>false</locked></conference-state>",
            r#"<users state="partial">"#,
            r#"<user entity="sip:a%20b@x" state="full"><display-text>Pistol</display-text>"#,
            "<roles><entry>moderator</entry></roles>",
            r#"<endpoint entity="sip:a@x;gr=1" state="full"><status>disconnected</status>"#,
            "<joining-method>dialed-in</joining-method>",
            "<joining-info><when>2026-07-01T10:00:00Z</when></joining-info>",
            "<disconnection-method>booted</disconnection-method><disconnection-info>",
            "<reason>Reason: SIP;cause=603;text=&quot;noise&quot;</reason>",
            "<by>sip:b@x</by></disconnection-info>",
            r#"<media id="1"><type>audio</type><label>1</label><src-id>583398</src-id>"#,
            "<status>recvonly</status></media></endpoint></user>",
            r#"<user entity="sip:gone@x" state="deleted"/></users></conference-info>"#,
        );
        assert_eq!(conference.to_xml(7), expected);
    }

    #[test]
    fn an_empty_conference_still_has_what_readers_insist_on() {
        assert_eq!(
            Conference::default().to_xml(0).lines().nth(1).unwrap(),
            concat!(
                r#"<conference-info xmlns="urn:ietf:params:xml:ns:conference-info" entity="" "#,
                r#"state="full" version="0"><conference-description/><conference-state/>"#,
                r#"<users state="full"/></conference-info>"#
            )
        );
    }

    #[test]
    fn encodes_what_is_no_uri_and_leaves_what_is_one() {
        for (text, expected) in [
            ("sip:a@x;gr=1?b=%20", "sip:a@x;gr=1?b=%20"),
            ("sip:a@[2001:db8::1]:5060", "sip:a@[2001:db8::1]:5060"),
            ("sip:[::1]", "sip:[::1]"),
            ("sip:a[b]@x", "sip:a%5Bb%5D@x"),
            ("xmpp:caf\u{e9}@x", "xmpp:caf%C3%A9@x"),
            ("a b<c>\"d\"", "a%20b%3Cc%3E%22d%22"),
            ("100%", "100%25"),
            ("%zz%4", "%25zz%254"),
            ("a#b#c", "a#b%23c"),
            ("\u{0}\n", "%00%0A"),
        ] {
            assert_eq!(uri(text), expected, "{text:?}");
        }
    }
}
