//! One framed stanza, read into an [`Element`].
//!
//! Names are resolved here and not by the parser: servers pass on stanzas whose prefixes they forgot to declare, and
//! that is a fault of one stanza, whereas rxml would end the document.

use std::collections::BTreeMap;

use minidom::Element;
use rxml::error::{EndOrError, Error};
use rxml::{Namespace, NcName, Options, Parse, RawEvent, RawParser, RawQName, WithOptions};

use super::frame::{Broken, Excess, Limits};
use super::{COMPONENT_NS, Head, Refusal};

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
pub(super) enum Fault {
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
pub(super) fn header(frame: &[u8]) -> Result<Header, Broken> {
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
                    declared.insert(prefix, namespace(value));
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
    if local != "stream" || header.scopes.resolve(&prefix).is_none_or(|ns| ns != super::STREAM_NS) {
        return Err(Broken::BadFormat("the first element is not a stream"));
    }
    Ok(header)
}

/// Reads one whole child of the stream.
pub(super) fn element(frame: &[u8], scopes: &mut Scopes, limits: Limits) -> Result<Element, Fault> {
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
                    if scope.insert(prefix, namespace(value)).is_some() {
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
pub(super) fn head(frame: &[u8]) -> Head {
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

/// A namespace of the wire as the rest of the program knows it: stanzas are in `jabber:client` everywhere.
fn namespace(uri: String) -> Namespace<'static> {
    Namespace::from(if uri == COMPONENT_NS { super::CLIENT_NS.to_owned() } else { uri })
}

impl From<Excess> for Refusal {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::Depth => Self::Depth,
            Excess::Size => Self::Size,
        }
    }
}
