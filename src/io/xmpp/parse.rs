//! One framed stanza, read into an [`Element`].
//!
//! Names are resolved here and not by the parser: servers pass on stanzas whose prefixes they forgot to declare, and
//! that is a fault of one stanza, whereas rxml would end the document.

use std::collections::BTreeMap;

use minidom::Element;
use rxml::error::{EndOrError, Error};
use rxml::{Namespace, NcName, Options, Parse, RawEvent, RawParser, RawQName, WithOptions};

use super::frame::{Broken, Excess, Frame, Framer, Limits};
use super::{CLIENT_NS, COMPONENT_NS, Head, Refusal, Refused, STREAM_NS};

/// What comes out of a stream.
#[derive(Debug)]
pub(super) enum Item {
    /// The peer's stream header.
    Open(Header),
    /// A whole child of the stream.
    Element(Element),
    /// A child that was skipped.
    Refused(Refused),
    /// The stream's end tag.
    Close,
}

/// Bytes in, items out: framing and parsing together, without a socket.
#[derive(Debug)]
pub(super) struct Decoder {
    framer: Framer,
    limits: Limits,
    scopes: Scopes,
}

impl Decoder {
    pub(super) fn new(limits: Limits) -> Self {
        Self { framer: Framer::new(limits), limits, scopes: Scopes::default() }
    }

    /// Takes bytes from `input` up to the end of the next item, or all of them.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item>, Broken> {
        let (kept, why) = match self.framer.next(input)? {
            None => return Ok(None),
            Some(Frame::Close) => return Ok(Some(Item::Close)),
            Some(Frame::Header(kept)) => {
                let header = header(&kept)?;
                self.scopes = header.scopes.clone();
                return Ok(Some(Item::Open(header)));
            }
            Some(Frame::Whole(kept)) => match element(&kept, &mut self.scopes, self.limits) {
                Ok(element) => return Ok(Some(Item::Element(element))),
                Err(Fault::Stanza(why)) => (kept, why),
                Err(Fault::Stream(broken)) => return Err(broken),
            },
            Some(Frame::Excess(kept, excess)) => (kept, excess.into()),
        };
        Ok(Some(Item::Refused(Refused { head: head(&kept), why })))
    }
}

/// Prefixes in force, by the element that declares them, outermost first. The default namespace has no prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Scopes(Vec<BTreeMap<Option<NcName>, Namespace<'static>>>);

impl Scopes {
    fn resolve(&self, prefix: &Option<NcName>) -> Option<&Namespace<'static>> {
        match prefix {
            Some(prefix) if prefix == "xml" => Some(Namespace::xml()),
            _ => self.0.iter().rev().find_map(|declared| declared.get(prefix)),
        }
    }
}

/// The peer's stream header (RFC 6120 §4.7).
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// The stream's id, unescaped: half of the hand-shake's input.
    pub(super) id: Option<String>,
    /// Whether the default namespace is the one of XEP-0114.
    pub(super) is_component: bool,
    /// What the header declares for all stanzas.
    pub(super) scopes: Scopes,
}

/// Why a frame gives no element.
#[derive(Debug)]
enum Fault {
    /// The stanza's own fault: answer it and go on.
    Stanza(Refusal),
    /// The stream's: it ends.
    Stream(Broken),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            // Namespaces in XML 1.0; the document is well-formed all the same.
            Error::MultiColonName(_)
            | Error::EmptyNamePart(_)
            | Error::UndeclaredNamespacePrefix(_)
            | Error::ReservedNamespacePrefix
            | Error::ReservedNamespaceName
            | Error::InvalidLocalName(_)
            | Error::EmptyNamespaceUri => Self::Stanza(Refusal::Namespaces),
            Error::RestrictedXml(what) => Self::Stream(Broken::Restricted(what)),
            Error::InvalidEof(_)
            | Error::UndeclaredEntity
            | Error::InvalidChar(..)
            | Error::UnexpectedChar(..)
            | Error::UnexpectedByte(..)
            | Error::InvalidSyntax(_)
            | Error::UnexpectedToken(..)
            | Error::DuplicateAttribute
            | Error::ElementMismatch
            | Error::InvalidUtf8Byte(_) => Self::Stream(Broken::NotWellFormed(error.to_string())),
        }
    }
}

/// Reads the stream header's frame, in which the stream stays open.
fn header(frame: &[u8]) -> Result<Header, Broken> {
    let mut header = Header::default();
    let mut declared = BTreeMap::new();
    let mut parser = parser(frame.len());
    let mut input = frame;
    let mut root = None;
    loop {
        match parser.parse(&mut input, false) {
            Ok(Some(RawEvent::ElementHeadOpen(_, name))) => root = Some(name),
            Ok(Some(RawEvent::Attribute(_, name, value))) => match declares(&name) {
                Some(prefix) => {
                    header.is_component |= prefix.is_none() && value == COMPONENT_NS;
                    declared.insert(prefix, value.into());
                }
                None if name.0.is_none() && name.1 == "id" => header.id = Some(value),
                None => {}
            },
            Ok(Some(RawEvent::ElementHeadClose(_))) => break,
            Ok(Some(
                RawEvent::XmlDeclaration(..) | RawEvent::Text(..) | RawEvent::ElementFoot(_),
            )) => {}
            Ok(None) | Err(EndOrError::NeedMoreData) => {
                return Err(Broken::NotWellFormed("the stream header is cut short".into()));
            }
            Err(EndOrError::Error(error)) => {
                return Err(Broken::NotWellFormed(error.to_string()));
            }
        }
    }
    header.scopes.0.push(declared);
    let (prefix, local) = root.ok_or(Broken::BadFormat("no stream header"))?;
    if local != "stream" || header.scopes.resolve(&prefix).is_none_or(|ns| ns != STREAM_NS) {
        return Err(Broken::BadFormat("the first element is not a stream"));
    }
    Ok(header)
}

/// Reads one whole child of the stream.
fn element(frame: &[u8], scopes: &mut Scopes, limits: Limits) -> Result<Element, Fault> {
    let outer = scopes.0.len();
    let read = Tree { scopes, limits, open: Vec::new() }.read(frame);
    scopes.0.truncate(outer);
    read
}

struct Tree<'a> {
    scopes: &'a mut Scopes,
    limits: Limits,
    open: Vec<Element>,
}

impl Tree<'_> {
    fn read(mut self, frame: &[u8]) -> Result<Element, Fault> {
        let mut parser = parser(frame.len());
        let mut input = frame;
        let mut name: RawQName = (None, NcName::try_from("none").expect("a valid name"));
        let mut attributes = Vec::new();
        let mut root = None;
        loop {
            match parser.parse(&mut input, true) {
                Ok(Some(RawEvent::ElementHeadOpen(_, opened))) => {
                    name = opened;
                    self.scopes.0.push(BTreeMap::new());
                }
                Ok(Some(RawEvent::Attribute(_, name, value))) => {
                    if attributes.len() == self.limits.attributes {
                        return Err(Fault::Stanza(Refusal::Attributes));
                    }
                    attributes.push((name, value));
                }
                Ok(Some(RawEvent::ElementHeadClose(_))) => {
                    let element = self.start(&name, attributes.drain(..))?;
                    self.open.push(element);
                }
                Ok(Some(RawEvent::ElementFoot(_))) => {
                    self.scopes.0.pop();
                    let element = self.open.pop().expect("the parser pairs start and end tags");
                    match self.open.last_mut() {
                        Some(parent) => {
                            parent.append_child(element);
                        }
                        None => root = Some(element),
                    }
                }
                Ok(Some(RawEvent::Text(_, text))) => {
                    if let Some(parent) = self.open.last_mut() {
                        parent.append_text(text);
                    }
                }
                Ok(Some(RawEvent::XmlDeclaration(..))) => {
                    return Err(Fault::Stream(Broken::Restricted("an XML declaration")));
                }
                Ok(None) => break,
                Err(EndOrError::NeedMoreData) => break,
                Err(EndOrError::Error(error)) => return Err(error.into()),
            }
        }
        root.ok_or_else(|| Fault::Stream(Broken::NotWellFormed("a stanza is cut short".into())))
    }

    fn start(
        &mut self,
        (prefix, local): &RawQName,
        attributes: impl Iterator<Item = (RawQName, String)>,
    ) -> Result<Element, Fault> {
        let mut plain = Vec::new();
        for (name, value) in attributes {
            match declares(&name) {
                Some(prefix) => {
                    let scope = self.scopes.0.last_mut().expect("pushed by the start tag");
                    if scope.insert(prefix, value.into()).is_some() {
                        return Err(Error::DuplicateAttribute.into());
                    }
                }
                None => plain.push((name, value)),
            }
        }
        let undeclared = || Fault::Stanza(Refusal::Namespaces);
        let ns = match self.scopes.resolve(prefix) {
            // `xml:` is for attributes; as the namespace of an element it cannot be written again.
            Some(ns) if ns == Namespace::xml() => return Err(undeclared()),
            // The stream's own namespace stays on the wire.
            Some(ns) if ns == COMPONENT_NS => Namespace::from_str(CLIENT_NS),
            Some(ns) => ns.clone(),
            None if prefix.is_none() => Namespace::NONE,
            None => return Err(undeclared()),
        };
        let mut element = Element::bare(local.as_str(), ns);
        for ((prefix, local), value) in plain {
            let ns = match prefix {
                None => Namespace::NONE,
                Some(_) => self.scopes.resolve(&prefix).ok_or_else(undeclared)?.clone(),
            };
            if element.attrs_mut().insert(ns, local, value).is_some() {
                // The same name twice is not well-formed; the same name by two prefixes is only odd.
                return Err(match prefix {
                    None => Error::DuplicateAttribute.into(),
                    Some(_) => undeclared(),
                });
            }
        }
        Ok(element)
    }
}

/// What can be told of a stanza from the part of it that was kept.
fn head(frame: &[u8]) -> Head {
    let mut head = Head::default();
    let mut parser = parser(frame.len());
    let mut input = frame;
    loop {
        match parser.parse(&mut input, false) {
            Ok(Some(RawEvent::ElementHeadOpen(_, (_, local)))) => head.name = local.to_string(),
            Ok(Some(RawEvent::Attribute(_, (None, name), value))) => head.set(&name, value),
            Ok(Some(RawEvent::Attribute(..) | RawEvent::XmlDeclaration(..))) => {}
            // Behind the start tag, at its end, or at what is wrong with it.
            Ok(Some(
                RawEvent::ElementHeadClose(_) | RawEvent::ElementFoot(_) | RawEvent::Text(..),
            ))
            | Ok(None)
            | Err(_) => return head,
        }
    }
}

/// A parser whose buffers are no larger than the frame.
fn parser(frame_bytes: usize) -> RawParser {
    // One more, so that a token which fills the frame is not yet too long.
    RawParser::with_options(Options { max_token_length: frame_bytes + 1, ..Options::default() })
}

/// The prefix that an attribute declares, if it declares one.
fn declares((prefix, local): &RawQName) -> Option<Option<NcName>> {
    match prefix {
        Some(prefix) if prefix == "xmlns" => Some(Some(local.clone())),
        None if local == "xmlns" => Some(None),
        Some(_) | None => None,
    }
}

impl From<Excess> for Refusal {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::Depth => Self::Depth,
            Excess::Size => Self::Size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
        xmlns:stream='http://etherx.jabber.org/streams' from='c.test' id='a&amp;&#x31;'>";

    /// An element in one line; namespaces where they differ from the parent's.
    fn show(element: &Element, parent_ns: &str) -> String {
        let mut line = element.name().to_owned();
        if !element.has_ns(parent_ns) {
            line += &format!("{{{}}}", element.ns());
        }
        for ((ns, name), value) in element.attrs() {
            let ns = if ns.is_none() { String::new() } else { format!("{{{ns}}}") };
            line += &format!(" {ns}{name}={value:?}");
        }
        let nodes: Vec<_> = element
            .nodes()
            .map(|node| match node {
                minidom::Node::Element(child) => show(child, &element.ns()),
                minidom::Node::Text(text) => format!("{text:?}"),
            })
            .collect();
        if nodes.is_empty() { line } else { format!("{line}({})", nodes.join(", ")) }
    }

    /// What comes out of a whole stream that arrives in portions ending at `cuts`, and then byte by byte.
    fn read(stream: &[u8], limits: Limits, portions: impl Iterator<Item = usize>) -> Vec<String> {
        let mut decoder = Decoder::new(limits);
        let mut out = Vec::new();
        let mut rest = stream;
        for length in portions {
            let (mut portion, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            while !portion.is_empty() {
                out.push(match decoder.next(&mut portion) {
                    Ok(None) => continue,
                    Ok(Some(Item::Open(header))) => {
                        format!("open {} {}", header.id.unwrap_or_default(), header.is_component)
                    }
                    Ok(Some(Item::Element(element))) => show(&element, CLIENT_NS),
                    Ok(Some(Item::Refused(Refused { head, why }))) => format!(
                        "refused {why:?} {} {:?} {:?} {:?} {:?}",
                        head.name, head.from, head.to, head.id, head.kind
                    ),
                    Ok(Some(Item::Close)) => "close".to_owned(),
                    Err(broken) => {
                        out.push(format!("broken {}", broken.condition()));
                        return out;
                    }
                });
            }
        }
        out
    }

    /// Reads a stream at once, cut in two at every position, and byte by byte: always with the same result.
    fn check_stream(stream: &[u8], expected: &[&str]) {
        let limits = Limits::default();
        let whole = read(stream, limits, [stream.len()].into_iter());
        assert_eq!(whole, expected, "{}", String::from_utf8_lossy(stream));
        assert_eq!(read(stream, limits, std::iter::repeat_n(1, stream.len())), expected);
        // Long ones are alike in the middle.
        let stride = if stream.len() < 4_000 { 1 } else { stream.len() / 20 };
        let cuts = (1..stream.len()).step_by(stride);
        for cut in cuts {
            let halves = [cut, stream.len()].into_iter();
            assert_eq!(read(stream, limits, halves), expected, "cut at {cut}");
        }
    }

    fn check(body: &str, expected: &[&str]) {
        check_bytes(body.as_bytes(), expected);
    }

    fn check_bytes(body: &[u8], expected: &[&str]) {
        let stream = [HEADER.as_bytes(), body].concat();
        let expected: Vec<_> = ["open a&1 true"].into_iter().chain(expected.to_vec()).collect();
        check_stream(&stream, &expected);
    }

    #[test]
    fn headers() {
        let open = "xmlns:stream='http://etherx.jabber.org/streams'";
        for (header, expected) in [
            (
                format!("<stream:stream {open} xmlns='jabber:component:accept' id='7'>"),
                "open 7 true",
            ),
            (format!("\n <stream:stream {open} xmlns='jabber:client' id='7' >"), "open 7 false"),
            (
                format!(
                    "<s:stream {} xmlns='jabber:component:accept'>",
                    open.replace(":stream=", ":s=")
                ),
                "open  true",
            ),
            (
                format!(
                    "<?xml version=\"1.0\" encoding='UTF-8'?>\n<stream:stream {open} id=\"a'b>&quot;&lt;\">"
                ),
                "open a'b>\"< false",
            ),
            ("<stream xmlns='http://etherx.jabber.org/streams' id='1'>".into(), "open 1 false"),
            (format!("<stream:stream {open}/>"), "broken bad-format"),
            ("<stream:stream id='1'>".into(), "broken bad-format"),
            ("<stream xmlns='jabber:component:accept' id='1'>".into(), "broken bad-format"),
            (format!("<stream:features {open}>"), "broken bad-format"),
            (
                format!("<stream:stream {open} {open}>").replace("<stream", "\u{0}<stream"),
                "broken bad-format",
            ),
            ("HTTP/1.1 400 Bad Request\r\n\r\n".into(), "broken bad-format"),
            ("</stream:stream>".into(), "broken not-well-formed"),
            ("<!DOCTYPE s><stream:stream>".into(), "broken restricted-xml"),
            ("<!-- hello --><stream:stream>".into(), "broken restricted-xml"),
            ("<?xml version='1.1'?><stream:stream>".into(), "broken not-well-formed"),
            (
                "<?xml version='1.0' encoding='latin-1'?><stream:stream>".into(),
                "broken not-well-formed",
            ),
            (
                "<?xml version='1.0'?><?xml version='1.0'?><stream:stream>".into(),
                "broken restricted-xml",
            ),
            ("<stream:stream id=1>".into(), "broken not-well-formed"),
            ("<stream:stream <".into(), "broken not-well-formed"),
            ("< stream:stream>".into(), "broken not-well-formed"),
        ] {
            check_stream(header.as_bytes(), &[expected]);
        }
    }

    #[test]
    fn stanzas() {
        let m = |inner: &str| format!("<message>{inner}</message>");
        for (body, expected) in [
            ("<message/>".to_owned(), "message"),
            ("<message></message>".into(), "message"),
            ("<message \n to = 'a' />".into(), "message to=\"a\""),
            ("<presence from=\"a'b\" to='c\"d>e'/>".into(), "presence from=\"a'b\" to=\"c\\\"d>e\""),
            ("<iq type='get'><q xmlns='u'/></iq>".into(), "iq type=\"get\"(q{u})"),
            // White space between stanzas keeps the link alive and is nothing.
            (" \r\n\t <iq/> \n ".into(), "iq"),
            (m("  <body>x</body>\n"), "message(\"  \", body(\"x\"), \"\\n\")"),
            // Namespaces: the stream's is the client's here, at every level and by every prefix.
            (m("<body xmlns='jabber:client'>x</body>"), "message(body(\"x\"))"),
            (m("<c:body xmlns:c='jabber:component:accept'>x</c:body>"), "message(body(\"x\"))"),
            ("<m:message xmlns:m='jabber:component:accept'/>".into(), "message"),
            ("<message xmlns='jabber:server'/>".into(), "message{jabber:server}"),
            (m("<f xmlns='urn:f'><message xmlns='jabber:client'/></f>"), "message(f{urn:f}(message{jabber:client}))"),
            (m("<x xmlns=''><y/></x>"), "message(x{}(y))"),
            (m("<a xmlns='u'><b xmlns='v'><c/></b><d/></a>"), "message(a{u}(b{v}(c), d))"),
            (m("<p:a xmlns:p='u'><p:b xmlns:p='v'/><p:c/></p:a>"), "message(a{u}(b{v}, c))"),
            (m("<a xmlns='u' xmlns:p='u' p:x='1' x='2'/>"), "message(a{u} x=\"2\" {u}x=\"1\")"),
            ("<message xmlns:p='u'><p:a p:b='1'/></message>".into(), "message(a{u} {u}b=\"1\")"),
            (m("<x xmlns='a&apos;b&amp;&lt;'/>"), "message(x{a'b&<})"),
            ("<message xml:lang='de'><body xml:lang='en'>x</body></message>".into(),
                "message {http://www.w3.org/XML/1998/namespace}lang=\"de\"(body {http://www.w3.org/XML/1998/namespace}lang=\"en\"(\"x\"))"),
            ("<message xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:base='b'/>".into(),
                "message {http://www.w3.org/XML/1998/namespace}base=\"b\""),
            (m("<stream:x/>"), "message(x{http://etherx.jabber.org/streams})"),
            // Text, in every way to write it.
            (m("a<![CDATA[<b/>&amp;]]]]>c"), "message(\"a<b/>&amp;]]c\")"),
            (m("<![CDATA[]]>"), "message"),
            (m("<![CDATA[ ]]&gt; > ]>]]>"), "message(\" ]]&gt; > ]>\")"),
            (m("<![CDATA[<message>]]><![CDATA[</message>]]>"), "message(\"<message></message>\")"),
            (m("&amp;&lt;&gt;&apos;&quot;&#65;&#x1F600;"), "message(\"&<>'\\\"A😀\")"),
            (m("&amp;amp;lt;"), "message(\"&amp;lt;\")"),
            (m("a\r\nb\rc&#13;d"), "message(\"a\\nb\\nc\\rd\")"),
            ("<message a='x&#10;y&#9;z\n\tw\r\nv'/>".into(), "message a=\"x\\ny\\tz  w v\""),
            (m("é\u{85}\u{2028}\u{10ffff}\u{fffd}"), "message(\"é\\u{85}\\u{2028}\\u{10ffff}\u{fffd}\")"),
            (m("] ]] > ]>"), "message(\"] ]] > ]>\")"),
            (m("<été à='1' xmlns='u'/>"), "message(été{u} à=\"1\")"),
            (m("<a-b.c_d1 xmlns='u'/>"), "message(a-b.c_d1{u})"),
            // What is no stanza is handed up all the same; the link knows what to do.
            ("<handshake/>".into(), "handshake"),
            ("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>".into(),
                "error{http://etherx.jabber.org/streams}(conflict{urn:ietf:params:xml:ns:xmpp-streams})"),
            ("<a:b xmlns:a='u' a:c=''/>".into(), "b{u} {u}c=\"\""),
        ] {
            check(&format!("{body}<iq/></stream:stream>"), &[expected, "iq", "close"]);
        }
    }

    /// Each is answered to its sender, and the next stanza is read as if nothing had been.
    #[test]
    fn refused_stanzas() {
        let open = "<message to='c.test' from='a@b/c' id='1' type='chat'";
        let full = |body: String| format!("{open}>{body}</message>");
        let nested = |levels: usize| format!("{}x{}", "<a>".repeat(levels), "</a>".repeat(levels));
        let attributes =
            |count: usize| (0..count).fold(String::new(), |all, n| all + &format!(" a{n}=''"));
        let head = "message Some(\"a@b/c\") Some(\"c.test\") Some(\"1\") Some(\"chat\")";
        for (stanza, why) in [
            (full(nested(64)), "Depth"),
            (full(format!("<b/>{}<b/>", "<a>".repeat(63) + "<c/>" + &"</a>".repeat(63))), "Depth"),
            // 28 kB, and 30,000 levels: no recursion anywhere, in reading or dropping.
            (full(nested(4_000)), "Depth"),
            (full(nested(30_000)), "Depth"),
            (full("x".repeat(257 << 10)), "Size"),
            (full("<a b='c'/>".repeat(27_000)), "Size"),
            (full("&#60;".repeat(60_000)), "Size"),
            (full(format!("<![CDATA[{}]]>", "</message>".repeat(30_000))), "Size"),
            (format!("{open} x='{}'/>", ">".repeat(300_000)), "Size"),
            (format!("{open}{}/>", attributes(125)), "Attributes"),
            (full(format!("<x{}/>", attributes(129))), "Attributes"),
            (full(format!("<x{}/>", attributes(5_000))), "Attributes"),
            // Servers pass these on.
            (full("<x xmlns='http://www.w3.org/XML/1998/namespace'/>".into()), "Namespaces"),
            (full("<xml:x/>".into()), "Namespaces"),
            (full("<p:x/>".into()), "Namespaces"),
            (full("<x p:y='1'/>".into()), "Namespaces"),
            (full("<x xmlns:p=''/>".into()), "Namespaces"),
            (full("<x xmlns:xml='u'/>".into()), "Namespaces"),
            (full("<x xmlns:xmlns='u'/>".into()), "Namespaces"),
            (full("<x xmlns:p='http://www.w3.org/XML/1998/namespace'/>".into()), "Namespaces"),
            (full("<x xmlns:p='u' xmlns:q='u' p:a='1' q:a='2'/>".into()), "Namespaces"),
            (full("<xmlns:x/>".into()), "Namespaces"),
            (full("<a:b:c xmlns:a='u'/>".into()), "Namespaces"),
            (full("<a: xmlns:a='u'/>".into()), "Namespaces"),
            (full("<:a/>".into()), "Namespaces"),
        ] {
            let expected = format!("refused {why} {head}");
            check(&format!("<presence/>{stanza}<iq/>"), &["presence", &expected, "iq"]);
        }
    }

    #[test]
    fn limits_are_exact() {
        let deep = format!("<iq>{}{}</iq>", "<a>".repeat(63), "</a>".repeat(63));
        let many = (0..128).fold("<iq".to_owned(), |all, n| all + &format!(" a{n}=''")) + "/>";
        let large = format!("<iq><a>{}</a></iq>", "x".repeat((256 << 10) - 16));
        for (stanza, excess) in [(&deep, "<a/>"), (&large, "x")] {
            let stream = format!("{HEADER}{stanza}");
            let read_all =
                |stream: &str| read(stream.as_bytes(), Limits::default(), [usize::MAX].into_iter());
            assert!(read_all(&stream)[1].starts_with("iq("), "{}", &stream[..200]);
            let stream = if excess == "x" {
                stream.replacen("xx", "xxx", 1)
            } else {
                stream.replacen("<a></a>", "<a><a/></a>", 1)
            };
            assert!(read_all(&stream)[1].starts_with("refused"), "{}", &stream[..200]);
        }
        check_stream(
            format!("{HEADER}{many}").as_bytes(),
            &[
                "open a&1 true",
                &show(
                    &many.replacen("<iq", "<iq xmlns='jabber:client'", 1).parse().unwrap(),
                    CLIENT_NS,
                ),
            ],
        );
    }

    #[test]
    fn long_attributes_pass() {
        for length in [8_193, 9_000, 70_000, 200_000] {
            let value = "v".repeat(length);
            let stanza = format!("<message a='{value}'/><iq/>");
            let stream = format!("{HEADER}{stanza}");
            let items = read(stream.as_bytes(), Limits::default(), std::iter::repeat_n(4096, 60));
            assert_eq!(items[1], format!("message a={value:?}"));
            assert_eq!(items[2], "iq");
        }
    }

    #[test]
    fn heads_of_what_cannot_be_addressed() {
        let long = "j".repeat(Head::ATTRIBUTE_BYTES + 1);
        for (start, head) in [
            (format!("<message from='{long}' to='c'"), "message None Some(\"c\") None None"),
            (
                format!("<message to='{}' from='a'", "x".repeat(300_000)),
                "message None None None None",
            ),
            (
                "<iq id='&lt;&#39;' p:from='x' from='a'".into(),
                "iq Some(\"a\") None Some(\"<'\") None",
            ),
            ("<p:iq p:id='1' from='a'".into(), "iq Some(\"a\") None None None"),
        ] {
            let stanza = format!("{start}>{}{}</message>", "<a>".repeat(80), "</a>".repeat(80));
            let stream = format!("{HEADER}{stanza}<iq/>");
            let items = read(stream.as_bytes(), Limits::default(), [usize::MAX].into_iter());
            let (refused, why) = (&items[1], if start.len() > 200_000 { "Size" } else { "Depth" });
            assert_eq!(*refused, format!("refused {why} {head}"));
            assert_eq!(items[2], "iq");
        }
    }

    #[test]
    fn broken_streams() {
        let m = |inner: &str| format!("<message>{inner}</message>");
        for (body, condition) in [
            ("text".to_owned(), "bad-format"),
            ("&amp;".into(), "bad-format"),
            ("<![CDATA[x]]>".into(), "restricted-xml"),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]>".into(), "restricted-xml"),
            ("<!-- a -->".into(), "restricted-xml"),
            ("<?php ?>".into(), "restricted-xml"),
            ("<?xml version='1.0'?>".into(), "restricted-xml"),
            (m("<!-- a -->"), "restricted-xml"),
            (m("<!ELEMENT a>"), "restricted-xml"),
            (m("<![cdata[a]]>"), "restricted-xml"),
            (m("<?a b?>"), "restricted-xml"),
            (m("&b;"), "not-well-formed"),
            (m("&lol9;"), "not-well-formed"),
            (m("&#0;"), "not-well-formed"),
            (m("&#x1;"), "not-well-formed"),
            (m("&#xD800;"), "not-well-formed"),
            (m("&#x110000;"), "not-well-formed"),
            (m("&#xFFFFFFFFFF;"), "not-well-formed"),
            (m("&"), "not-well-formed"),
            (m("& b"), "not-well-formed"),
            (m("a]]>b"), "not-well-formed"),
            (m("\u{1}"), "not-well-formed"),
            (m("\u{b}"), "not-well-formed"),
            (m("\u{fffe}"), "not-well-formed"),
            (m("<![CDATA[\u{0}]]>"), "not-well-formed"),
            (m("<a></b>"), "not-well-formed"),
            (m("<a b></a>"), "not-well-formed"),
            (m("<a b=c/>"), "not-well-formed"),
            (m("<a b='<'/>"), "not-well-formed"),
            (m("<a b='1' b='2'/>"), "not-well-formed"),
            (m("<a xmlns='1' xmlns='2'/>"), "not-well-formed"),
            (m("<a b='1'c='2'/>"), "not-well-formed"),
            (m("<a b='\u{1f}'/>"), "not-well-formed"),
            (m("<1/>"), "not-well-formed"),
            (m("<a!/>"), "not-well-formed"),
            (m("<>"), "not-well-formed"),
            (m("< a/>"), "not-well-formed"),
            (m("<='a'/>"), "not-well-formed"),
            (m("<a /></ a>"), "not-well-formed"),
            (m("<a / ></a>"), "not-well-formed"),
            ("<message></iq>".into(), "not-well-formed"),
            ("<message><<".into(), "not-well-formed"),
            ("<message></a<".into(), "not-well-formed"),
        ] {
            check(&body, &[&format!("broken {condition}")]);
        }
        check("<iq/>x", &["iq", "broken bad-format"]);
        for bytes in [
            &b"<message>\xff</message>"[..],
            b"<message>\xc3</message>",
            b"<message>\xed\xa0\x80</message>",
            b"<message>\xc0\xbc</message>",
            b"<message>\xf4\x90\x80\x80</message>",
            b"<message a='\xc3'/>",
            b"<\xff/>",
        ] {
            check_bytes(bytes, &["broken not-well-formed"]);
        }
    }

    #[test]
    fn a_stanza_without_end_ends_the_stream() {
        let limits = Limits { skipped_bytes: 1 << 20, ..Limits::default() };
        let stream = [HEADER.as_bytes(), b"<message>", &b"<a>".repeat(1 << 19)].concat();
        let portions = std::iter::repeat_n(32 << 10, 100);
        assert_eq!(read(&stream, limits, portions), ["open a&1 true", "broken policy-violation"]);
    }

    #[test]
    fn a_stanza_cut_short_is_no_stanza() {
        for part in ["<message", "<message>", "<message><a/></message", "<message a='>", "<mess"] {
            check(part, &[]);
        }
    }

    #[test]
    fn refusals_are_answered_once_and_to_the_sender() {
        let refused = |name: &str, kind: Option<&str>, why| {
            let mut head = Head { name: name.into(), id: Some("7".into()), ..Head::default() };
            (head.from, head.to) = (Some("a@b/c".into()), Some("r@c.test".into()));
            head.kind = kind.map(str::to_owned);
            Refused { head, why }.answer().map(|answer| show(&answer, CLIENT_NS))
        };
        assert_eq!(
            refused("message", Some("groupchat"), Refusal::Size).unwrap(),
            "message from=\"r@c.test\" id=\"7\" to=\"a@b/c\" type=\"error\"\
             (error type=\"modify\"(policy-violation{urn:ietf:params:xml:ns:xmpp-stanzas}))"
        );
        assert!(refused("iq", Some("set"), Refusal::Namespaces).unwrap().contains("bad-request"));
        assert!(refused("presence", None, Refusal::Depth).is_some());
        for (name, kind) in [
            ("message", Some("error")),
            ("iq", Some("result")),
            ("iq", Some("error")),
            ("iq", None),
            ("presence", Some("error")),
            ("presence", Some("unavailable")),
            ("handshake", None),
        ] {
            assert_eq!(refused(name, kind, Refusal::Size), None, "{name} {kind:?}");
        }
    }
}
