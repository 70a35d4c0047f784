//! The one place where stanzas become bytes.
//!
//! A server closes the link, for every room, on the first thing it dislikes: a control character, a foreign `from`,
//! a stanza above its limit. Names, subjects and reasons come from phones and strangers. So nothing leaves but
//! through [`stanza`], which strips what XML 1.0 forbids and refuses what a server would not forgive.

use std::borrow::Cow;

use minidom::{Element, Node};
use rxml::Namespace;

use super::CLIENT_NS;

/// Levels of an outgoing stanza: those that may come in, and some that an answer wraps around them.
pub const OUT_DEPTH: usize = 96;
/// Bytes of an outgoing stanza. Prosody takes 512 KiB from a component by default.
pub const OUT_STANZA_BYTES: usize = 256 << 10;

/// Why a stanza cannot be sent: always a fault of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// Neither message nor presence nor iq in `jabber:client`.
    #[error("not a stanza")]
    NotAStanza,
    /// `from` is not in our domain; the server would answer with `invalid-from` and close.
    #[error("`from` is not in our domain")]
    From,
    /// No `to`: a component has no server-side account that could stand in for it (XEP-0114 §3).
    #[error("no `to`")]
    To,
    /// More than [`OUT_DEPTH`] levels.
    #[error("too many levels")]
    Depth,
    /// More than [`OUT_STANZA_BYTES`].
    #[error("too large")]
    Size,
}

/// Appends `stanza` to `out`, or leaves `out` as it was.
///
/// `jabber:client` is left out at the top, where the stream's own default takes its place, and written wherever it
/// returns below another namespace, as in forwarded messages (XEP-0297). Elements and attributes whose names are not
/// plain ASCII are left out as well: servers parse names by different editions of XML 1.0.
pub(super) fn stanza(out: &mut String, stanza: &Element, domain: &str) -> Result<(), Unsendable> {
    if !matches!(stanza.name(), "message" | "presence" | "iq") || !stanza.has_ns(CLIENT_NS) {
        return Err(Unsendable::NotAStanza);
    }
    if stanza.attr("from").is_none_or(|from| domain_of(from) != domain) {
        return Err(Unsendable::From);
    }
    if stanza.attr("to").is_none_or(|to| to.chars().all(is_forbidden)) {
        return Err(Unsendable::To);
    }
    let start = out.len();
    let written = tree(out, stanza);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// The domain part of a JID (RFC 7622 §3.2). Bytes count here, as they do for the server that compares them.
fn domain_of(jid: &str) -> &str {
    let bare = jid.split_once('/').map_or(jid, |(bare, _)| bare);
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}

struct Open<'a> {
    element: &'a Element,
    rest: std::slice::Iter<'a, Node>,
}

/// Walks by a stack of its own, so that depth is a number to compare and not a stack to overflow.
fn tree(out: &mut String, root: &Element) -> Result<(), Unsendable> {
    let start = out.len();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut child = Some(root);
    loop {
        if let Some(element) = child.take() {
            if start_tag(out, element, open.last().map(|parent| parent.element)) {
                open.push(Open { element, rest: element.nodes() });
            }
            if open.len() > OUT_DEPTH {
                return Err(Unsendable::Depth);
            }
        }
        let Some(top) = open.last_mut() else { return Ok(()) };
        match top.rest.next() {
            Some(Node::Element(element)) => child = Some(element),
            Some(Node::Text(text)) => escape(out, text, false),
            None => {
                out.extend(["</", top.element.name(), ">"]);
                open.pop();
            }
        }
        if out.len() - start > OUT_STANZA_BYTES {
            return Err(Unsendable::Size);
        }
    }
}

/// Writes a start tag; false if it was left out, or was empty and is complete.
fn start_tag(out: &mut String, element: &Element, parent: Option<&Element>) -> bool {
    let ns = element.ns();
    let ns = clean(&ns);
    if !is_plain(element.name()) || is_reserved(&ns) {
        return false;
    }
    out.extend(["<", element.name()]);
    let inherited = match parent {
        Some(parent) => parent.has_ns(&*element.ns()),
        None => true,
    };
    if !inherited {
        attribute(out, "", "xmlns", &ns);
    }
    // Namespaces that differ only by what is stripped would make one attribute twice.
    let mut qualified: Vec<(Cow<'_, str>, &str)> = Vec::new();
    for ((ns, name), value) in element.attrs() {
        if !is_plain(name) || name == "xmlns" {
            continue;
        }
        if ns.is_none() {
            attribute(out, "", name, value);
        } else if ns == Namespace::xml() {
            attribute(out, "xml:", name, value);
        } else {
            let ns = clean(ns);
            if ns.is_empty() || is_reserved(&ns) || qualified.contains(&(ns.clone(), name)) {
                continue;
            }
            let prefix = format!("ns{}", qualified.len());
            attribute(out, "xmlns:", &prefix, &ns);
            attribute(out, &format!("{prefix}:"), name, value);
            qualified.push((ns, name));
        }
    }
    let empty = element.nodes().next().is_none();
    out.push_str(if empty { "/>" } else { ">" });
    !empty
}

fn attribute(out: &mut String, prefix: &str, name: &str, value: &str) {
    out.extend([" ", prefix, name, "='"]);
    escape(out, value, true);
    out.push('\'');
}

/// Writes character data (XML 1.0 §2.4) without what is forbidden in it. White space that a reader would normalise
/// (§2.11, §3.3.3) goes by reference.
fn escape(out: &mut String, text: &str, in_attribute: bool) {
    let mut from = 0;
    for (at, char) in text.char_indices() {
        let instead = match char {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\r' => "&#13;",
            '\'' if in_attribute => "&apos;",
            '\t' if in_attribute => "&#9;",
            '\n' if in_attribute => "&#10;",
            _ if is_forbidden(char) => "",
            _ => continue,
        };
        out.extend([&text[from..at], instead]);
        from = at + char.len_utf8();
    }
    out.push_str(&text[from..]);
}

/// An attribute's value as it is written between quotes.
pub(super) fn escaped(value: &str) -> String {
    let mut out = String::new();
    escape(&mut out, value, true);
    out
}

/// Text without what is forbidden in it.
fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_forbidden) {
        Cow::Owned(text.chars().filter(|&char| !is_forbidden(char)).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Not a `Char` of XML 1.0 §2.2. (A `char` is never a surrogate.)
fn is_forbidden(char: char) -> bool {
    matches!(char, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

/// A name without a prefix that every edition of XML 1.0 takes.
fn is_plain(name: &str) -> bool {
    let (Some(first), rest) = (name.bytes().next(), name.bytes().skip(1)) else { return false };
    (first.is_ascii_alphabetic() || first == b'_')
        && rest.into_iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Namespaces that no default declaration may name (Namespaces in XML 1.0 §3).
fn is_reserved(ns: &str) -> bool {
    ns == rxml::XMLNS_XML || ns == rxml::XMLNS_XMLNS
}
