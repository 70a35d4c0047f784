//! Challenges and credentials (RFC 3261 §20.7, §20.44; RFC 7616 §3).

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use super::{MAX_PARAMS, ValueError};
use crate::scan;

/// One WWW-Authenticate or Proxy-Authenticate value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, such as `Digest`.
    pub scheme: String,
    params: Vec<(String, String)>,
}

/// One Authorization or Proxy-Authorization value.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The scheme, such as `Digest`.
    pub scheme: String,
    params: Vec<(String, String)>,
}

impl Challenge {
    /// A Digest challenge of these parameters, in order.
    pub fn digest(params: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { scheme: "Digest".to_owned(), params: owned(params) }
    }

    /// A parameter by its name, without quotes.
    pub fn get(&self, name: &str) -> Option<&str> {
        get(&self.params, name)
    }
}

impl Credentials {
    /// Digest credentials of these parameters, in order.
    pub fn digest(params: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { scheme: "Digest".to_owned(), params: owned(params) }
    }

    /// A parameter by its name, without quotes.
    pub fn get(&self, name: &str) -> Option<&str> {
        get(&self.params, name)
    }
}

impl FromStr for Challenge {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse(text).map(|(scheme, params)| Self { scheme, params })
    }
}

impl FromStr for Credentials {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse(text).map(|(scheme, params)| Self { scheme, params })
    }
}

impl Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, &self.scheme, &self.params, &["algorithm", "stale"])
    }
}

impl Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, &self.scheme, &self.params, &["algorithm", "qop", "nc", "userhash"])
    }
}

/// Shows no response value: a log must not help to guess passwords.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} …)", self.scheme)
    }
}

fn owned(params: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(String, String)> {
    params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn get<'a>(params: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = params.iter().find(|(had, _)| had.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

fn parse(text: &str) -> Result<(String, Vec<(String, String)>), ValueError> {
    let (scheme, rest) = scan::trim(text).split_once([' ', '\t']).ok_or(ValueError)?;
    if !scan::is_token(scheme) {
        return Err(ValueError);
    }
    let mut params: Vec<(String, String)> = vec![];
    let parts = scan::split(rest, b',').filter(|parts| parts.len() <= MAX_PARAMS);
    for part in parts.ok_or(ValueError)? {
        let (name, value) = scan::split_once(part, b'=').ok_or(ValueError)?;
        let value = value.ok_or(ValueError)?;
        let value = if value.starts_with('"') {
            scan::unquote(value).ok_or(ValueError)?.into_owned()
        } else if value.contains([' ', '\t', '"']) {
            return Err(ValueError);
        } else {
            value.to_owned()
        };
        // Twice the same parameter is an attempt to have two readers disagree.
        if !scan::is_token(name) || get(&params, name).is_some() {
            return Err(ValueError);
        }
        params.push((name.to_owned(), value));
    }
    Ok((scheme.to_owned(), params))
}

/// Prints with quotes around all but the `bare` ones, which is how RFC 7616 §3.3 to §3.5 draw the
/// line and which old peers insist on.
fn print(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    params: &[(String, String)],
    bare: &[&str],
) -> fmt::Result {
    f.write_str(scheme)?;
    for (i, (name, value)) in params.iter().enumerate() {
        f.write_str(if i == 0 { " " } else { ", " })?;
        if bare.contains(&name.as_str()) && scan::is_token(value) {
            write!(f, "{name}={value}")?;
        } else {
            write!(f, "{name}={}", scan::quote(value))?;
        }
    }
    Ok(())
}
