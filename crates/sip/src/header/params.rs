//! Parameters of header values: `;name=value` (RFC 3261 §7.3.1).

use std::fmt::{self, Display};

use super::ValueError;
use crate::scan;

/// The parameters of one header value, in order. Values are held without their quotes and are
/// quoted again in print where they must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Option<String>)>);

/// The most parameters of one header value.
pub const MAX_PARAMS: usize = 64;

impl Params {
    /// A parameter by its name, in any case; one without value is `""`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(had, _)| had.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// Whether there is such a parameter, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets or replaces a parameter. A name that is not a token is left out.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        if !scan::is_token(name) {
            return;
        }
        let at = self.0.iter().position(|(had, _)| had.eq_ignore_ascii_case(name));
        self.remove(name);
        let param = (name.to_owned(), value.map(str::to_owned));
        self.0.insert(at.unwrap_or(self.0.len()), param);
    }

    /// The same parameters and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.set(name, value);
        self
    }

    /// Removes a parameter.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(had, _)| !had.eq_ignore_ascii_case(name));
    }

    /// All parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Reads what follows the first `;`, or nothing.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, ValueError> {
        let Some(text) = text else { return Ok(Self::default()) };
        let parts = scan::split(text, b';').filter(|parts| parts.len() <= MAX_PARAMS);
        let mut params = Self::default();
        for part in parts.ok_or(ValueError)? {
            let (name, value) = parse_param(part)?;
            // Two readers that differ on which of two counts would be a way past one of them.
            if params.get(&name).is_some_and(|had| had != value.as_deref().unwrap_or_default()) {
                return Err(ValueError);
            }
            params.0.push((name, value));
        }
        Ok(params)
    }
}

impl Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            write!(f, ";{name}")?;
            match value {
                Some(value) if is_bare(value) => write!(f, "={value}")?,
                Some(value) => write!(f, "={}", scan::quote(value))?,
                None => {}
            }
        }
        Ok(())
    }
}

fn parse_param(text: &str) -> Result<(String, Option<String>), ValueError> {
    let (name, value) = scan::split_once(text, b'=').ok_or(ValueError)?;
    if !scan::is_token(name) {
        return Err(ValueError);
    }
    let value = match value {
        None => None,
        Some(quoted) if quoted.starts_with('"') => {
            Some(scan::unquote(quoted).ok_or(ValueError)?.into_owned())
        }
        // More than the grammar allows: peers write addresses and paths without quotes.
        Some(bare) if bare.contains([' ', '\t', '"']) => return Err(ValueError),
        Some(bare) => Some(bare.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// Whether a value may stand without quotes: a token, or a host as in `received=[::1]`.
fn is_bare(value: &str) -> bool {
    let letters = |b: u8| scan::is_token_byte(b) || b"[]:".contains(&b);
    !value.is_empty() && value.bytes().all(letters)
}
