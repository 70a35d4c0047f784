//! Addresses with a name and parameters: From, To, Contact, Route, … (RFC 3261 §20.10).

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use super::{Params, ValueError};
use crate::{scan, uri::Uri};

/// A `name-addr` or `addr-spec` with header parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name without quotes and escapes. Hostile input: anyone can write anything here.
    pub display: Option<String>,
    /// The URI.
    pub uri: Uri,
    /// The header's parameters, such as `tag`, `expires` or `isfocus`.
    pub params: Params,
}

impl NameAddr {
    /// An address without name or parameters.
    pub fn new(uri: impl Into<Uri>) -> Self {
        Self { display: None, uri: uri.into(), params: Params::default() }
    }

    /// The same address with a display name; an empty one is none.
    #[must_use]
    pub fn with_display(mut self, display: &str) -> Self {
        self.display = Some(display.to_owned()).filter(|display| !display.is_empty());
        self
    }

    /// The same address with one more parameter.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Self {
        self.params.set(name, value);
        self
    }

    /// The tag of From or To; an empty one is none.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }
}

impl FromStr for NameAddr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = scan::trim(text);
        let (display, rest) = match text.strip_prefix('"') {
            Some(inner) => {
                let (display, rest) = scan::quoted(inner).ok_or(ValueError)?;
                (Some(display.into_owned()), scan::trim(rest))
            }
            None => match text.find('<') {
                Some(at) => (unquoted_display(&text[..at])?, &text[at..]),
                None => (None, text),
            },
        };
        let (uri, params) = match rest.strip_prefix('<') {
            Some(inner) => {
                let (uri, rest) = inner.split_once('>').ok_or(ValueError)?;
                let rest = scan::trim(rest);
                let params = rest.strip_prefix(';');
                if params.is_none() && !rest.is_empty() {
                    return Err(ValueError);
                }
                (uri, params)
            }
            None if display.is_some() => return Err(ValueError),
            // Without brackets, parameters belong to the header, and the URI may have no headers.
            None => {
                let (uri, params) = scan::split_once(rest, b';').ok_or(ValueError)?;
                if uri.contains(['?', ',']) {
                    return Err(ValueError);
                }
                (uri, params)
            }
        };
        let uri = uri.parse().map_err(|_| ValueError)?;
        let display = display.filter(|display| !display.is_empty());
        Ok(Self { display, uri, params: Params::parse(params)? })
    }
}

impl Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{} ", scan::quote(display))?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// Takes a display name that has no quotes. The grammar wants tokens; peers write dots, brackets
/// and letters of any script, none of which can be mistaken for what follows.
fn unquoted_display(text: &str) -> Result<Option<String>, ValueError> {
    let text = scan::trim(text);
    if text.contains(['"', ';', ',', '\\', '>', ':', '@']) {
        return Err(ValueError);
    }
    Ok(Some(text.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")))
}
