//! An XML stream as a client reads it (RFC 6120 §4): whole children of its root, within limits.

use minidom::Element;
use minidom::tree_builder::TreeBuilder;
use rxml::error::EndOrError;
use rxml::{Options, Parse, RawEvent, RawParser, WithOptions};

/// Bytes in, stanzas out.
pub(super) struct Reader {
    parser: RawParser,
    tree: TreeBuilder,
    /// Of the child that is being read.
    bytes: usize,
    attributes: usize,
}

/// What comes out of a stream.
#[derive(Debug)]
pub(super) enum Item {
    /// The server's stream header.
    Open,
    /// A whole child of the stream.
    Element(Element),
    /// The stream's end.
    Close,
}

impl Reader {
    /// Reads a stream from its header on.
    pub(super) fn new() -> Self {
        let options = Options { max_token_length: MAX_BYTES, ..Options::default() };
        let parser = RawParser::with_options(options);
        Self { parser, tree: TreeBuilder::new(), bytes: 0, attributes: 0 }
    }

    /// Takes bytes up to the end of the next item, or all of them. After an error, which says what is
    /// wrong, the stream cannot be read on.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item>, String> {
        loop {
            let before = input.len();
            let event = self.parser.parse(input, false);
            self.bytes += before - input.len();
            if self.bytes > MAX_BYTES {
                return Err("a stanza is too long".to_owned());
            }
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Some(Item::Close)),
                Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(error)) => return Err(error.to_string()),
            };
            let depth = self.tree.depth();
            let (opens, closes) = match &event {
                // White space between stanzas keeps connections alive.
                RawEvent::Text(..) if depth <= 1 => {
                    self.bytes = 0;
                    continue;
                }
                RawEvent::Attribute(..) => {
                    self.attributes += 1;
                    if self.attributes > MAX_ATTRIBUTES {
                        return Err("a stanza has too many attributes".to_owned());
                    }
                    (false, false)
                }
                RawEvent::ElementHeadClose(_) if depth >= MAX_DEPTH => {
                    return Err("a stanza is nested too deep".to_owned());
                }
                RawEvent::ElementHeadClose(_) => (depth == 0, false),
                RawEvent::ElementFoot(_) => (false, true),
                RawEvent::XmlDeclaration(..)
                | RawEvent::ElementHeadOpen(..)
                | RawEvent::Text(..) => (false, false),
            };
            self.tree.process_event(event).map_err(|error| error.to_string())?;
            if opens {
                self.done();
                return Ok(Some(Item::Open));
            }
            if closes && self.tree.depth() == 0 {
                return Ok(Some(Item::Close));
            }
            if closes && self.tree.depth() == 1 {
                self.done();
                if let Some(element) = self.tree.unshift_child() {
                    return Ok(Some(Item::Element(element)));
                }
            }
        }
    }

    fn done(&mut self) {
        self.bytes = 0;
        self.attributes = 0;
    }
}

/// The longest stanza, in bytes: more than servers let pass by default.
const MAX_BYTES: usize = 1 << 20;
/// How deep stanzas may be nested: as deep as conference documents.
const MAX_DEPTH: usize = 64;
/// The most attributes of one stanza.
const MAX_ATTRIBUTES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
                          xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>";

    /// What a stream gives, in chunks of `size` bytes.
    fn read(text: &str, size: usize) -> Vec<String> {
        let mut reader = Reader::new();
        let mut out = vec![];
        for mut chunk in text.as_bytes().chunks(size) {
            loop {
                match reader.next(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(Item::Open)) => out.push("open".to_owned()),
                    Ok(Some(Item::Element(element))) => out.push(String::from(&element)),
                    Ok(Some(Item::Close)) => {
                        out.push("close".to_owned());
                        return out;
                    }
                    Err(why) => {
                        out.push(why);
                        return out;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn cuts_a_stream_into_stanzas() {
        let message = "<message xmlns='jabber:client' to='a@b'><body>x &amp; y</body></message>";
        let presence = "<presence xmlns='jabber:client'/>";
        // The namespace is the stream's.
        let short = message.replace(" xmlns='jabber:client'", "");
        let text = format!("{HEADER} {short} \n<presence/></stream:stream>");
        for size in [1, 7, 10_000] {
            let expected = ["open", message, presence, "close"];
            assert_eq!(read(&text, size), expected);
        }
    }

    #[test]
    fn what_is_too_much_ends_the_stream_and_nothing_else() {
        let check = |inner: String, expected: &str| {
            let got = read(&format!("{HEADER}{inner}"), 4_096);
            assert!(got.last().unwrap().contains(expected), "{got:?}");
        };
        check("<a>".repeat(100_000), "too deep");
        check(format!("<a>{}</a>", "x ".repeat(MAX_BYTES)), "too long");
        check(
            format!("<a>{}</a>", "<b c='d' e='f'/>".repeat(MAX_ATTRIBUTES)),
            "too many attributes",
        );
        check("<a></b>".to_owned(), "");
        check("<x:a/>".to_owned(), "");
        // White space for ever is no stanza.
        let blank = format!("{HEADER}{}<a/>", " ".repeat(3 * MAX_BYTES));
        assert_eq!(read(&blank, 4_096).len(), 2);
    }
}
