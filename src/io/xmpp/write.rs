//! The one place where stanzas become bytes.
//!
//! A server closes the link, for every room, on the first thing it dislikes: a control character, a foreign `from`,
//! a stanza above its limit. Names, subjects and reasons come from phones and strangers. So nothing leaves but
//! through [`stanza`] and [`Shared`], which strip what XML 1.0 forbids and refuse what a server would not forgive.

use std::borrow::Cow;

use minidom::{Element, Node};
use rxml::Namespace;

use super::{CLIENT_NS, Kind};

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
pub(super) fn stanza(out: &mut String, stanza: &Element, domain: &str) -> Result<Kind, Unsendable> {
    let kind = may_leave(stanza, domain)?;
    if stanza.attr("to").is_none_or(is_nobody) {
        return Err(Unsendable::To);
    }
    whole(out, stanza)?;
    Ok(kind)
}

/// A stanza that many get, written once but for who gets it.
#[derive(Debug)]
pub(super) struct Shared {
    text: String,
    /// Where `to` belongs: behind the name.
    at: usize,
}

impl Shared {
    /// Writes a stanza that has no `to`.
    pub(super) fn new(stanza: &Element, domain: &str) -> Result<Self, Unsendable> {
        may_leave(stanza, domain)?;
        if stanza.attr("to").is_some() {
            return Err(Unsendable::To);
        }
        let mut text = String::new();
        whole(&mut text, stanza)?;
        Ok(Self { text, at: 1 + stanza.name().len() })
    }

    /// The stanza's name.
    pub(super) fn name(&self) -> &str {
        &self.text[1..self.at]
    }

    /// How long it is, without `to`.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Appends the stanza for one of many to `out`, or leaves `out` as it was.
    pub(super) fn write(&self, out: &mut String, to: &str) -> Result<(), Unsendable> {
        if is_nobody(to) {
            return Err(Unsendable::To);
        }
        let start = out.len();
        let (name, rest) = self.text.split_at(self.at);
        out.push_str(name);
        attribute(out, "", "to", to);
        out.push_str(rest);
        if out.len() - start > OUT_STANZA_BYTES {
            out.truncate(start);
            return Err(Unsendable::Size);
        }
        Ok(())
    }
}

/// What holds of every stanza, whoever gets it.
fn may_leave(stanza: &Element, domain: &str) -> Result<Kind, Unsendable> {
    let kind = Kind::of(stanza.name()).filter(|_| stanza.has_ns(CLIENT_NS));
    let kind = kind.ok_or(Unsendable::NotAStanza)?;
    // Of the text as it will be: a resource may turn out empty.
    if stanza.attr("from").is_none_or(|from| domain_of(&clean(from)) != Some(domain)) {
        return Err(Unsendable::From);
    }
    Ok(kind)
}

/// Appends all of it, or nothing.
fn whole(out: &mut String, stanza: &Element) -> Result<(), Unsendable> {
    let start = out.len();
    let written = tree(out, stanza);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// The domain of a JID whose parts are there (RFC 7622 §3.1). Prosody takes `@domain` and `domain/` for foreign. Bytes
/// count here, as they do for the server that compares them.
fn domain_of(jid: &str) -> Option<&str> {
    let bare = match jid.split_once('/') {
        Some((_, "")) => return None,
        Some((bare, _)) => bare,
        None => jid,
    };
    match bare.split_once('@') {
        Some(("", _)) => None,
        Some((_, domain)) => Some(domain),
        None => Some(bare),
    }
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

/// Whether nothing is left of an address once what is forbidden is out of it.
fn is_nobody(to: &str) -> bool {
    to.chars().all(is_forbidden)
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use rxml::NcName;

    use super::super::COMPONENT_NS;
    use super::super::frame::Limits;
    use super::super::parse::{Decoder, Item};
    use super::super::refusal::attribute as set;
    use super::*;

    const HEADER: &str = "<stream:stream xmlns='jabber:component:accept' \
        xmlns:stream='http://etherx.jabber.org/streams'>";

    fn message() -> Element {
        let mut message = Element::bare("message", CLIENT_NS);
        set(&mut message, "from", "room@c.test/nick");
        set(&mut message, "to", "a@b/c");
        message
    }

    fn with(child: impl Into<Node>) -> Element {
        let mut message = message();
        message.append_node(child.into());
        message
    }

    fn written(element: &Element) -> Result<String, Unsendable> {
        let mut out = "before".to_owned();
        let written = stanza(&mut out, element, "c.test");
        assert!(out.starts_with("before") && (written.is_ok() || out == "before"));
        written.map(|_| out["before".len()..].to_owned())
    }

    /// The same by way of what many share, for each of `to`.
    fn shared(element: &Element, to: &[&str]) -> Vec<Result<String, Unsendable>> {
        let mut stanza = element.clone();
        stanza.attrs_mut().remove(&Namespace::NONE, "to");
        let shared = match Shared::new(&stanza, "c.test") {
            Ok(shared) => shared,
            Err(why) => return vec![Err(why); to.len()],
        };
        let one = |to: &&str| {
            let mut out = "before".to_owned();
            let written = shared.write(&mut out, to);
            assert!(out.starts_with("before") && (written.is_ok() || out == "before"));
            written.map(|()| out["before".len()..].to_owned())
        };
        to.iter().map(one).collect()
    }

    /// Writes what is inside a message, given as XML.
    fn check(inner: &str, expected: &str) {
        let xml = format!("<message xmlns='jabber:client' from='c.test' to='a'>{inner}</message>");
        let expected = if expected.is_empty() {
            "<message from='c.test' to='a'/>".to_owned()
        } else {
            format!("<message from='c.test' to='a'>{expected}</message>")
        };
        assert_eq!(written(&xml.parse().unwrap()), Ok(expected));
    }

    #[test]
    fn namespaces_are_written_where_they_change() {
        check("", "");
        check("<body>x</body>", "<body>x</body>");
        check(
            "<f xmlns='urn:f'><d xmlns='urn:d'/><message xmlns='jabber:client'><body/></message></f>",
            "<f xmlns='urn:f'><d xmlns='urn:d'/><message xmlns='jabber:client'><body/></message></f>",
        );
        check("<p:a xmlns:p='u'><p:b/><c xmlns=''/></p:a>", "<a xmlns='u'><b/><c xmlns=''/></a>");
        check("<x xmlns='u'/><y xmlns='u'/>", "<x xmlns='u'/><y xmlns='u'/>");
        check("<body xml:lang='de'>x</body>", "<body xml:lang='de'>x</body>");
        check(
            "<x xmlns='u' xmlns:p='v' xmlns:q='w' p:a='1' q:a='2' b='3'/>",
            "<x xmlns='u' b='3' xmlns:ns0='v' ns0:a='1' xmlns:ns1='w' ns1:a='2'/>",
        );
        check("<x xmlns='a&apos;b&amp;'/>", "<x xmlns='a&apos;b&amp;'/>");
    }

    #[test]
    fn character_data_is_escaped_and_cleaned() {
        for (text, in_text, in_attribute) in [
            ("a<b>&'\"", "a&lt;b&gt;&amp;'\"", "a&lt;b&gt;&amp;&apos;\""),
            ("]]>", "]]&gt;", "]]&gt;"),
            ("\t\n\r", "\t\n&#13;", "&#9;&#10;&#13;"),
            ("\u{0}a\u{1}\u{8}b\u{b}\u{c}\u{e}\u{1f}c", "abc", "abc"),
            ("\u{fffe}x\u{ffff}", "x", "x"),
            (
                "\u{7f}\u{85}\u{fdd0}\u{1fffe}é😀",
                "\u{7f}\u{85}\u{fdd0}\u{1fffe}é😀",
                "\u{7f}\u{85}\u{fdd0}\u{1fffe}é😀",
            ),
            ("\u{1}<\u{1}b>", "&lt;b&gt;", "&lt;b&gt;"),
            ("", "", ""),
        ] {
            let mut child = Element::bare("x", CLIENT_NS);
            set(&mut child, "a", text);
            child.append_text_node(text);
            let expected = format!(
                "<message from='room@c.test/nick' to='a@b/c'><x a='{in_attribute}'>{in_text}</x></message>"
            );
            assert_eq!(written(&with(child)), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_servers_do_not_forgive_is_left_out() {
        let empty = "<message from='room@c.test/nick' to='a@b/c'/>";
        for name in ["", "a b", "a>", "été", "1a", "-a", "a:b", "x\u{0}", "😀", "a/", "a='b'"] {
            let mut child = Element::bare(name, "u");
            child.append_child(Element::bare("inner", "u"));
            let stanza = written(&with(child)).unwrap();
            assert_eq!(stanza, empty.replace("/>", "></message>"), "{name:?}");
        }
        for ns in [
            "http://www.w3.org/XML/1998/namespace",
            "http://www.w3.org/2000/xmlns/",
            "http://www.w3.org/XML/1998/\u{1}namespace",
        ] {
            let stanza = written(&with(Element::bare("x", ns))).unwrap();
            assert_eq!(stanza, empty.replace("/>", "></message>"), "{ns:?}");
        }
        let mut attributes = message();
        for (ns, name) in [
            ("", "xmlns"),
            ("", "à"),
            ("\u{1}", "a"),
            ("http://www.w3.org/2000/xmlns/", "x"),
            ("http://www.w3.org/XML/1998/namespace\u{0}", "lang"),
        ] {
            attributes.attrs_mut().insert(ns.into(), NcName::try_from(name).unwrap(), "1".into());
        }
        assert_eq!(written(&attributes).unwrap(), empty);
        // Two namespaces that are one without the control character: the first attribute stays.
        for ns in ["u", "u\u{2}"] {
            attributes.attrs_mut().insert(ns.into(), NcName::try_from("a").unwrap(), "1".into());
        }
        let once = empty.replace("/>", " xmlns:ns0='u' ns0:a='1'/>");
        assert_eq!(written(&attributes).unwrap(), once);
    }

    #[test]
    fn addresses_are_checked() {
        for (from, to, expected) in [
            ("c.test", "a@b", Ok(())),
            ("room@c.test", "a", Ok(())),
            ("c.test/r@x/y", "a", Ok(())),
            ("room@c.test/a@evil.test", "a", Ok(())),
            ("", "a", Err(Unsendable::From)),
            ("evil.test", "a", Err(Unsendable::From)),
            ("c.test@evil.test", "a", Err(Unsendable::From)),
            ("x@evil.test/c.test", "a", Err(Unsendable::From)),
            ("evil.test/x@c.test", "a", Err(Unsendable::From)),
            ("sub.c.test", "a", Err(Unsendable::From)),
            ("C.TEST", "a", Err(Unsendable::From)),
            ("c.test\u{1}", "a", Ok(())),
            ("c.test ", "a", Err(Unsendable::From)),
            ("@c.test", "a", Err(Unsendable::From)),
            ("c.test/", "a", Err(Unsendable::From)),
            ("room@c.test/\u{1}\u{2}", "a", Err(Unsendable::From)),
            ("\u{1}@c.test", "a", Err(Unsendable::From)),
            ("a@b@c.test", "a", Err(Unsendable::From)),
            ("c.test/\u{1}n", "a", Ok(())),
            ("c.test", "", Err(Unsendable::To)),
            ("c.test", "\u{1}\u{ffff}", Err(Unsendable::To)),
        ] {
            let mut stanza = message();
            set(&mut stanza, "from", from);
            set(&mut stanza, "to", to);
            assert_eq!(written(&stanza).map(drop), expected, "{from:?} {to:?}");
        }
        let bare = Element::bare("message", CLIENT_NS);
        assert_eq!(written(&bare), Err(Unsendable::From));
        for (name, ns) in [("message", COMPONENT_NS), ("handshake", CLIENT_NS), ("message", "")] {
            let mut element = Element::bare(name, ns);
            set(&mut element, "from", "c.test");
            set(&mut element, "to", "a");
            assert_eq!(written(&element), Err(Unsendable::NotAStanza));
        }
    }

    #[test]
    fn what_many_get_is_held_to_the_same_limits() {
        let nobody = Err(Unsendable::To);
        let stanza = "<message to='a@b/c' from='room@c.test/nick'>x</message>".to_owned();
        let both = [Ok(stanza), nobody.clone(), nobody];
        assert_eq!(shared(&with("x"), &["a@b/c", "", "\u{1}"]), both);
        let foreign = {
            let mut stanza = message();
            set(&mut stanza, "from", "evil.test");
            stanza
        };
        assert_eq!(shared(&foreign, &["a@b"]), [Err(Unsendable::From)]);
        assert_eq!(Shared::new(&message(), "c.test").err(), Some(Unsendable::To), "it has one");

        let room = OUT_STANZA_BYTES - written(&with("x")).unwrap().len() + 1;
        let large = shared(&with("x".repeat(room)), &["a@b/c", "a@b/cd"]);
        assert_eq!(large[0].as_ref().map(String::len), Ok(OUT_STANZA_BYTES));
        assert_eq!(large[1], Err(Unsendable::Size));
    }

    #[test]
    fn limits_are_exact() {
        let nested = |levels: usize| {
            (1..levels - 1).fold(Element::bare("a", "u"), |inner, _| {
                let mut outer = Element::bare("a", "u");
                outer.append_child(inner);
                outer
            })
        };
        assert!(written(&with(nested(OUT_DEPTH))).is_ok());
        // The deepest element is empty, so it is never open.
        assert_eq!(written(&with(nested(OUT_DEPTH + 2))), Err(Unsendable::Depth));

        let room = OUT_STANZA_BYTES - written(&with("x")).unwrap().len() + 1;
        assert_eq!(written(&with("x".repeat(room))).unwrap().len(), OUT_STANZA_BYTES);
        assert_eq!(written(&with("x".repeat(room + 1))), Err(Unsendable::Size));
        assert_eq!(written(&with("<".repeat(room / 3))), Err(Unsendable::Size));
        let wide = (0..100_000).fold(message(), |mut all, _| {
            all.append_child(Element::bare("a", "u"));
            all
        });
        assert_eq!(written(&wide), Err(Unsendable::Size));
    }

    /// Strings as strangers choose them.
    fn hostile() -> impl Strategy<Value = String> {
        let char = prop_oneof![
            4 => any::<char>(),
            2 => prop::sample::select("<>&'\"]/=:\t\n\r \u{0}\u{1}\u{1f}\u{7f}\u{fffe}\u{ffff}".chars().collect::<Vec<_>>()),
            2 => prop::char::range('a', 'z'),
        ];
        prop::collection::vec(char, 0..12).prop_map(String::from_iter)
    }

    fn namespace() -> impl Strategy<Value = String> {
        let known = [
            "",
            "u",
            "u\u{1}",
            CLIENT_NS,
            COMPONENT_NS,
            rxml::XMLNS_XML,
            rxml::XMLNS_XMLNS,
            "http://etherx.jabber.org/streams",
        ];
        prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => hostile()]
    }

    fn name() -> impl Strategy<Value = String> {
        let known = ["a", "body", "xmlns", "lang", "x-1.2_3", "été"];
        prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => hostile()]
    }

    fn attributes() -> impl Strategy<Value = Vec<(String, String, String)>> {
        prop::collection::vec((namespace(), name(), hostile()), 0..4)
    }

    fn build(
        name: &str,
        ns: &str,
        attributes: Vec<(String, String, String)>,
        nodes: Vec<Node>,
    ) -> Element {
        let mut element = Element::bare(name, ns);
        for (ns, name, value) in attributes {
            if let Ok(name) = NcName::try_from(name) {
                element.attrs_mut().insert(ns.into(), name, value);
            }
        }
        for node in nodes {
            element.append_node(node);
        }
        element
    }

    fn any_stanza() -> impl Strategy<Value = Element> {
        let leaf = hostile().prop_map(Node::Text);
        let node = leaf.prop_recursive(6, 40, 5, |inner| {
            (name(), namespace(), attributes(), prop::collection::vec(inner, 0..5)).prop_map(
                |(name, ns, attributes, nodes)| Node::Element(build(&name, &ns, attributes, nodes)),
            )
        });
        let kind = prop::sample::select(vec!["message", "presence", "iq"]);
        (kind, attributes(), prop::collection::vec(node, 0..5), hostile()).prop_map(
            |(kind, attributes, nodes, nick)| {
                let mut stanza = build(kind, CLIENT_NS, attributes, nodes);
                set(&mut stanza, "from", &format!("room@c.test/n{nick}"));
                set(&mut stanza, "to", &format!("a@b/{nick}"));
                stanza
            },
        )
    }

    /// What ought to arrive, said independently of how it is written.
    fn sanitised(element: &Element) -> Option<Element> {
        let plain = |name: &str| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
                && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.')
        };
        let ns = clean(&element.ns()).into_owned();
        let reserved = [rxml::XMLNS_XML, rxml::XMLNS_XMLNS];
        if !plain(element.name()) || reserved.contains(&ns.as_str()) {
            return None;
        }
        let ns = if ns == COMPONENT_NS { CLIENT_NS.to_owned() } else { ns };
        let mut copy = Element::bare(element.name(), ns);
        for ((ns, name), value) in element.attrs() {
            let cleaned = clean(ns);
            let kept = plain(name)
                && name != "xmlns"
                && (ns.is_none()
                    || *ns == Namespace::XML
                    || (!cleaned.is_empty() && !reserved.contains(&&*cleaned)));
            if kept && copy.attrs().get(&*cleaned, name).is_none() {
                let ns = cleaned.into_owned().into();
                copy.attrs_mut().insert(ns, name.clone(), clean(value).into_owned());
            }
        }
        for node in element.nodes() {
            match node {
                Node::Element(child) => {
                    if let Some(child) = sanitised(child) {
                        copy.append_child(child);
                    }
                }
                Node::Text(text) => {
                    let text = clean(text);
                    if !text.is_empty() {
                        copy.append_text(text);
                    }
                }
            }
        }
        Some(copy)
    }

    /// Reads one stanza as the link would.
    fn read_back(written: &str) -> Element {
        let limits = Limits { attributes: usize::MAX, ..Limits::default() };
        let mut decoder = Decoder::new(limits);
        let stream = format!("{HEADER}{written}");
        let mut input = stream.as_bytes();
        assert!(matches!(decoder.next(&mut input), Ok(Some(Item::Open(_)))));
        let item = decoder.next(&mut input);
        assert!(input.is_empty(), "{written}");
        match item {
            Ok(Some(Item::Element(element))) => element,
            other => panic!("{other:?}: {written}"),
        }
    }

    proptest! {
        #[test]
        fn every_stanza_comes_back(stanza in any_stanza()) {
            prop_assert_eq!(Some(read_back(&written(&stanza).unwrap())), sanitised(&stanza));
        }

        #[test]
        fn what_many_get_is_what_each_would_get(stanza in any_stanza(), more in hostile()) {
            let to = ["a@b/c".to_owned(), format!("a@b/{more}")];
            let to: Vec<_> = to.iter().map(String::as_str).collect();
            for (to, shared) in to.iter().zip(shared(&stanza, &to)) {
                let mut alone = stanza.clone();
                set(&mut alone, "to", to);
                prop_assert_eq!(Some(read_back(&shared.unwrap())), sanitised(&alone));
            }
        }
    }

    /// The tree as expat's callbacks tell it, a line each, in hexadecimal.
    fn trace(element: &Element, lines: &mut String) {
        let full = |ns: &str, name: &str| match ns {
            "" => name.to_owned(),
            ns => format!("{ns}\u{1}{name}"),
        };
        let mut attributes: Vec<_> = element
            .attrs()
            .iter()
            .map(|((ns, name), value)| (full(ns, name), value.to_owned()))
            .collect();
        attributes.sort();
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        lines.extend(["start ", &hex(&full(&element.ns(), element.name())), "\n"]);
        for (name, value) in attributes {
            lines.extend(["name ", &hex(&name), "\nvalue ", &hex(&value), "\n"]);
        }
        for node in element.nodes() {
            match node {
                Node::Element(child) => trace(child, lines),
                Node::Text(text) => lines.extend(["text ", &hex(text), "\n"]),
            }
        }
        lines.push_str("end\n");
    }

    /// Prosody and ejabberd parse with expat: so it has to see the same tree, in one stream that never breaks.
    #[test]
    fn expat_sees_the_same_stanzas() {
        let mut runner = TestRunner::deterministic();
        let (mut stream, mut expected) = (HEADER.to_owned(), String::new());
        for _ in 0..400 {
            let stanza = any_stanza().new_tree(&mut runner).unwrap().current();
            let written = written(&stanza).unwrap();
            stream.push_str(&written);
            trace(&sanitised(&stanza).unwrap(), &mut expected);
        }
        stream.push_str("</stream:stream>");
        let mut python = Command::new("python3")
            .args(["-c", EXPAT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let mut stdin = python.stdin.take().unwrap();
        let feed = std::thread::spawn(move || stdin.write_all(stream.as_bytes()));
        let output = python.wait_with_output().unwrap();
        feed.join().unwrap().unwrap();
        assert!(output.status.success());
        let seen = String::from_utf8(output.stdout).unwrap();
        let first = seen.lines().zip(expected.lines()).find(|(seen, expected)| seen != expected);
        assert_eq!(first, None);
        assert_eq!(seen.lines().count(), expected.lines().count());
    }

    const EXPAT: &str = r#"
import sys
from xml.parsers import expat
def put(kind, text): print(kind, text.encode().hex())
def client(name): return name.replace("jabber:component:accept\x01", "jabber:client\x01", 1)
depth = 0
def start(name, attributes):
    global depth
    depth += 1
    if depth == 1: return
    put("start", client(name))
    for key in sorted(attributes):
        put("name", key)
        put("value", attributes[key])
def end(name):
    global depth
    depth -= 1
    if depth: print("end")
parser = expat.ParserCreate("utf-8", "\x01")
parser.buffer_text = True
parser.buffer_size = 1 << 20
parser.StartElementHandler = start
parser.EndElementHandler = end
parser.CharacterDataHandler = lambda text: put("text", text)
parser.Parse(sys.stdin.buffer.read(), True)
"#;
}
