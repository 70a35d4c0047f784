//! Who someone is on the SIP side, and how a SIP address is written as a JID.

use std::fmt;
use std::str::FromStr;

use jid::{BareJid, DomainPart, Jid, NodePart, ResourcePart};

/// An address of record in the form in which two of them compare: `user@host` or a number.
///
/// Scheme, port, parameters and the case of the host do not tell two people apart; the case of the
/// user part does (RFC 3261 §19.1.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aor {
    user: String,
    host: String,
}

impl Aor {
    /// An address from a decoded user part and a host name or address.
    pub fn new(user: &str, host: &str) -> Result<Self, BadAor> {
        let fits = |text: &str| {
            !text.is_empty()
                && text.len() <= MAX_PART
                && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '@')
        };
        if fits(user) && fits(host) {
            Ok(Self { user: user.to_owned(), host: host.to_ascii_lowercase() })
        } else {
            Err(BadAor)
        }
    }

    /// The part before the `@`, decoded.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The part behind the `@`, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the user part is a telephone number: an optional `+`, then three or more digits.
    pub fn is_number(&self) -> bool {
        let digits = self.user.strip_prefix('+').unwrap_or(&self.user);
        digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit())
    }

    /// The address as a JID node at another domain: `alice\40example.org` (XEP-0106 §3).
    pub fn escaped_node(&self) -> String {
        let mut node = String::new();
        for c in format!("{}@{}", self.user, self.host).chars() {
            match ESCAPED.iter().find(|(plain, _)| *plain == c) {
                Some((_, escape)) => node.push_str(escape),
                None => node.push(c),
            }
        }
        node
    }

    /// Reads [`Self::escaped_node`] back; `None` if the node is not an escaped address.
    pub fn from_escaped_node(node: &str) -> Option<Self> {
        let mut text = node.to_owned();
        for (plain, escape) in ESCAPED {
            text = text.replace(escape, &plain.to_string());
        }
        let (user, host) = text.rsplit_once('@')?;
        Self::new(user, host).ok()
    }
}

impl FromStr for Aor {
    type Err = BadAor;

    /// Reads `sip:user@host;params`, `sips:…`, or a bare `user@host`; the user part may be
    /// percent-encoded. Reads what [`Display`](fmt::Display) writes as the same address.
    fn from_str(text: &str) -> Result<Self, BadAor> {
        let rest = ["sip:", "sips:"]
            .iter()
            .find_map(|scheme| {
                text.get(..scheme.len())
                    .filter(|head| head.eq_ignore_ascii_case(scheme))
                    .map(|head| &text[head.len()..])
            })
            .unwrap_or(text);
        // A user part may hold `;` and `?`, and never a bare `@` (RFC 3261 §25.1).
        let (user, host) = rest.split_once('@').ok_or(BadAor)?;
        let host = host.split(['?', ';']).next().unwrap_or(host);
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.split_once(']').map(|(v6, _)| format!("[{v6}]")).ok_or(BadAor)?,
            None => host.split(':').next().unwrap_or(host).to_owned(),
        };
        let user = user.split(':').next().unwrap_or(user);
        Self::new(&percent_decoded(user).ok_or(BadAor)?, &host)
    }
}

/// The text with each `%XX` as the byte that it stands for; `None` if that is not UTF-8. A `%` that
/// begins no escape is itself.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Aor {
    /// Writes `sip:user@host`, with what a user part may not hold percent-encoded (RFC 3261 §25.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sip:")?;
        for byte in self.user.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        write!(f, "@{}", self.host)
    }
}

/// Writes a JID as an `xmpp:` URI (RFC 5122 §2.7): what a URI may not hold is percent-encoded, and
/// so is what would end a part of the address.
pub fn xmpp_uri(jid: &Jid) -> String {
    let mut uri = "xmpp:".to_owned();
    let encode = |uri: &mut String, part: &str| {
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
    };
    if let Some(node) = jid.node() {
        encode(&mut uri, node.as_str());
        uri.push('@');
    }
    encode(&mut uri, jid.domain().as_str());
    if let Some(resource) = jid.resource() {
        uri.push('/');
        encode(&mut uri, resource.as_str());
    }
    uri
}

/// Reads the JID of an `xmpp:` URI (RFC 5122 §2.2). An authority, a query such as `?join` and a
/// fragment say what to do and as whom, and not whom it is about, so they are passed over (§2.5).
/// `None` if it is no such URI.
pub fn jid_of_xmpp_uri(uri: &str) -> Option<Jid> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("xmpp") || uri.len() > MAX_URI {
        return None;
    }
    let rest = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/')?.1,
        None => rest,
    };
    let path = rest.split(['?', '#']).next()?;
    let (bare, resource) = match path.split_once('/') {
        Some((bare, resource)) => (bare, Some(resource)),
        None => (path, None),
    };
    let (node, domain) = match bare.split_once('@') {
        Some((node, domain)) => (Some(node), domain),
        None => (None, bare),
    };
    // Part by part: what an escape hides must not become what ends a part.
    let node = node.map(|node| NodePart::new(&percent_decoded(node)?).ok().map(NodePart::from));
    let node = if let Some(node) = node { Some(node?) } else { None };
    let domain = DomainPart::from(DomainPart::new(&percent_decoded(domain)?).ok()?);
    let bare = BareJid::from_parts(node.as_deref(), &domain);
    Some(match resource {
        Some(resource) => {
            let resource = ResourcePart::from(ResourcePart::new(&percent_decoded(resource)?).ok()?);
            bare.with_resource(&resource).into()
        }
        None => bare.into(),
    })
}

/// A text that is no SIP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SIP address (sip:user@host)")]
pub struct BadAor;

/// The longest URI that is read, in bytes: three parts of a JID with every byte escaped.
const MAX_URI: usize = 3 * 3 * 1_023 + 16;
/// The longest user part or host, in bytes.
const MAX_PART: usize = 255;

/// XEP-0106 §3: what a JID node may not hold, and its escape. The backslash comes last when
/// decoding, and first cannot matter when encoding character by character.
const ESCAPED: [(char, &str); 10] = [
    (' ', "\\20"),
    ('"', "\\22"),
    ('&', "\\26"),
    ('\'', "\\27"),
    ('/', "\\2f"),
    (':', "\\3a"),
    ('<', "\\3c"),
    ('>', "\\3e"),
    ('@', "\\40"),
    ('\\', "\\5c"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_means_the_same_as_the_same() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Aor>().unwrap().to_string(), expected, "{text}");
        };
        check("sip:alice@Example.ORG", "sip:alice@example.org");
        check("SIPS:alice@example.org:5061;transport=tls", "sip:alice@example.org");
        check("alice@example.org", "sip:alice@example.org");
        check("sip:alice:secret@example.org?subject=x", "sip:alice@example.org");
        check("sip:+4930123@[2001:DB8::1]:5060", "sip:+4930123@[2001:db8::1]");
        check("sip:a;b?c@example.org;x=@y?z=@", "sip:a;b?c@example.org");
        check("sip:%61lice@example.org", "sip:alice@example.org");
        check("sip:caf%C3%A9@example.org", "sip:caf%C3%A9@example.org");
        check("sip:b%23d@example.org", "sip:b%23d@example.org");
        check("sip:100%@example.org", "sip:100%25@example.org");
        for bad in [
            "",
            "sip:",
            "sip:@x",
            "sip:a@",
            "alice",
            "sip:a b@x",
            "sip:a\n@x",
            "sip:a%40b@x",
            "sip:a%20@x",
            "sip:%ff@x",
            "sip:a@[::1",
        ] {
            assert_eq!(bad.parse::<Aor>(), Err(BadAor), "{bad:?}");
        }
    }

    #[test]
    fn escapes_to_a_node_and_back() {
        for (aor, node) in [
            ("sip:alice@example.org", "alice\\40example.org"),
            ("sip:o'brien@example.org", "o\\27brien\\40example.org"),
            ("sip:+4930@[::1]", "+4930\\40[\\3a\\3a1]"),
        ] {
            let aor: Aor = aor.parse().unwrap();
            assert_eq!(aor.escaped_node(), node);
            assert_eq!(Aor::from_escaped_node(node), Some(aor));
        }
        assert_eq!(Aor::from_escaped_node("alice"), None);
    }

    proptest::proptest! {
        /// What is stored as text is read back as the same: a ban must outlive a restart.
        #[test]
        fn reads_back_what_it_writes(user in "\\PC{1,20}", host in "[a-zA-Z0-9.-]{1,10}") {
            if let Ok(aor) = Aor::new(&user, &host) {
                proptest::prop_assert_eq!(aor.to_string().parse::<Aor>(), Ok(aor.clone()));
                proptest::prop_assert_eq!(Aor::from_escaped_node(&aor.escaped_node()), Some(aor));
            }
        }
    }

    #[test]
    fn writes_xmpp_uris() {
        for (jid, uri) in [
            ("room@muc.example.org", "xmpp:room@muc.example.org"),
            ("room@muc.example.org/Third Witch", "xmpp:room@muc.example.org/Third%20Witch"),
            ("café@x/a/b?c#d@e%", "xmpp:caf%C3%A9@x/a%2Fb%3Fc%23d%40e%25"),
            ("x", "xmpp:x"),
        ] {
            assert_eq!(xmpp_uri(&Jid::new(jid).unwrap()), uri);
            assert_eq!(jid_of_xmpp_uri(uri), Some(Jid::new(jid).unwrap()));
        }
    }

    #[test]
    fn reads_xmpp_uris_whatever_is_to_be_done_with_them() {
        let check = |uri: &str, jid: Option<&str>| {
            assert_eq!(jid_of_xmpp_uri(uri).as_ref().map(Jid::as_str), jid, "{uri}");
        };
        check("XMPP:Room@MUC.example.org?join", Some("room@muc.example.org"));
        check("xmpp:room@muc.example.org?join;password=a@b/c#d", Some("room@muc.example.org"));
        check("xmpp://me@example.org/room@muc.example.org", Some("room@muc.example.org"));
        check("xmpp:muc.example.org#x", Some("muc.example.org"));
        check("xmpp:a%40b@x", None);
        check("xmpp:good@x%2fevil.example.org", None);
        check("xmpp:%ff@x", None);
        check("xmpp://me@example.org", None);
        check("xmpp:", None);
        check("xmpp:@x", None);
        check("xmpp:x/", None);
        check("sip:a@x", None);
        check("room@muc.example.org", None);
        check(&format!("xmpp:{}@x", "%41".repeat(10_000)), None);
    }

    proptest::proptest! {
        /// Every JID comes back from its URI. (Not with a dot behind the domain: `jid` 0.12 takes such
        /// a one apart in the wrong place.)
        #[test]
        fn reads_back_the_xmpp_uris_that_it_writes(
            text in "\\PC{1,12}@[a-z]{1,4}(\\.[a-z]{1,3})?/\\PC{1,12}",
        ) {
            if let Ok(jid) = Jid::new(&text) {
                proptest::prop_assert_eq!(jid_of_xmpp_uri(&xmpp_uri(&jid)), Some(jid));
            }
        }

        /// No text makes it panic.
        #[test]
        fn any_text_is_a_uri_or_none(text in "(xmpp:)?\\PC{0,40}") {
            let _ = jid_of_xmpp_uri(&text);
        }
    }

    #[test]
    fn knows_numbers() {
        for (aor, number) in
            [("+4930123@x", true), ("112@x", true), ("a12@x", false), ("+1@x", false)]
        {
            assert_eq!(aor.parse::<Aor>().unwrap().is_number(), number, "{aor}");
        }
    }
}
