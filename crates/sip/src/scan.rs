//! The lexical rules that headers and URIs share (RFC 3261 §25.1).

use std::borrow::Cow;

/// Whether `text` is a `token`.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether `byte` may be part of a `token`.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Strips the linear white space that may surround any header element.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Reads a decimal number: digits only, no sign, `None` when there are none or it does not fit.
pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Splits at each `separator` that stands outside quoted strings and angle brackets, trimming the
/// parts. `None` if a quote or a bracket is not closed.
pub(crate) fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let mut parts = vec![];
    let mut start = 0;
    for at in outside(text)? {
        if text.as_bytes()[at] == separator {
            parts.push(trim(&text[start..at]));
            start = at + 1;
        }
    }
    parts.push(trim(&text[start..]));
    Some(parts)
}

/// Splits at the first `separator` outside quoted strings and angle brackets.
pub(crate) fn split_once(text: &str, separator: u8) -> Option<(&str, Option<&str>)> {
    let at = outside(text)?.into_iter().find(|&at| text.as_bytes()[at] == separator);
    Some(match at {
        Some(at) => (trim(&text[..at]), Some(trim(&text[at + 1..]))),
        None => (trim(text), None),
    })
}

/// Where the bytes are that could separate: those outside quoted strings and angle brackets.
fn outside(text: &str) -> Option<Vec<usize>> {
    let mut found = vec![];
    let mut inside = None;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (inside, byte) {
            (Some(b'"'), b'\\') => {
                bytes.next()?;
            }
            (Some(b'"'), b'"') | (Some(b'<'), b'>') => inside = None,
            (Some(_), _) => {}
            (None, b'"' | b'<') => inside = Some(byte),
            (None, b',' | b';' | b'=') => found.push(at),
            (None, _) => {}
        }
    }
    inside.is_none().then_some(found)
}

/// Reads a `quoted-string` that spans all of `text`.
pub(crate) fn unquote(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?;
    let (value, rest) = quoted(inner)?;
    rest.is_empty().then_some(value)
}

/// Reads a quoted string up to its closing quote; `text` starts after the opening one. Returns the
/// value without its escapes, and what follows the closing quote.
pub(crate) fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = Cow::Borrowed("");
    let mut run = 0;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                push(&mut value, &text[run..at]);
                return Some((value, &text[at + 1..]));
            }
            '\\' => {
                push(&mut value, &text[run..at]);
                // The escaped character itself starts the next run.
                run = chars.next()?.0;
            }
            _ => {}
        }
    }
    None
}

fn push<'a>(value: &mut Cow<'a, str>, more: &'a str) {
    if value.is_empty() {
        *value = Cow::Borrowed(more);
    } else if !more.is_empty() {
        value.to_mut().push_str(more);
    }
}

/// Writes `text` as a quoted string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // No escape can carry these (RFC 3261 §25.1, quoted-pair).
            '\r' | '\n' | '\0' => out.push(' '),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Replaces what could end a line or a string in some parser down the path: a value printed through
/// this cannot start a header of its own.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\r', '\n', '\0']) {
        Cow::Owned(text.replace(['\r', '\n', '\0'], " "))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_brackets_hide_separators() {
        let check = |text, expected: Option<&[&str]>| {
            assert_eq!(split(text, b',').as_deref(), expected, "{text}");
        };
        check("a", Some(&["a"]));
        check("a , b", Some(&["a", "b"]));
        check("\"a,b\" , <c,d>", Some(&["\"a,b\"", "<c,d>"]));
        check("\"a\\\",b\",c", Some(&["\"a\\\",b\"", "c"]));
        check("a,,b", Some(&["a", "", "b"]));
        check("\"<\",b", Some(&["\"<\"", "b"]));
        check("\"a,b", None);
        check("<a,b", None);
        check("\"a\\", None);
        check("", Some(&[""]));
    }

    #[test]
    fn unquotes_what_it_quotes() {
        for text in ["", "a", "a b", "\"", "\\", "a\"b\\c", "ä☎", "\\\"\\"] {
            assert_eq!(unquote(&quote(text)).as_deref(), Some(text));
        }
        assert_eq!(unquote("\"a\r\nb"), None);
        assert_eq!(quote("a\r\nb"), "\"a  b\"");
        assert_eq!(unquote("\"\\a\"").as_deref(), Some("a"));
        assert_eq!(unquote("\"a\"b"), None);
    }

    #[test]
    fn numbers_have_digits_only() {
        assert_eq!(number::<u16>("5060"), Some(5060));
        for text in ["", "+1", "-1", " 1", "1.", "65536", "٣"] {
            assert_eq!(number::<u16>(text), None, "{text}");
        }
    }
}
