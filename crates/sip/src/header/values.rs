//! The small header values: a token or a number, and parameters.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use super::{NameAddr, Params, ValueError};
use crate::{
    message::Method,
    scan::{self, number},
    uri::Uri,
};

/// CSeq: a number and the method again (RFC 3261 §20.16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// The sequence number, below 2³¹ (§8.1.1.5).
    pub number: u32,
    /// The method; for a CANCEL or an ACK, their own.
    pub method: Method,
}

/// Contact: addresses, or `*` for all of them (RFC 3261 §10.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// `*`, which only a REGISTER that removes all may carry.
    All,
    /// The addresses, perhaps none.
    List(Vec<NameAddr>),
}

/// Event: a package and what tells subscriptions to it apart (RFC 6665 §8.2.1). Also the grammar of
/// Content-Disposition: a token with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The package, such as `conference` or `refer`.
    pub package: String,
    /// `id` and others.
    pub params: Params,
}

/// Subscription-State (RFC 6665 §8.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// The state itself.
    pub state: Substate,
    /// `expires`, `reason`, `retry-after`.
    pub params: Params,
}

/// Where a subscription stands (RFC 6665 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Substate {
    /// Accepted.
    Active,
    /// Not decided yet.
    Pending,
    /// Over.
    Terminated,
    /// An extension, to be taken as active.
    Other(String),
}

/// A media type: Content-Type, or one in Accept (RFC 3261 §20.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// Such as `application`, in lower case.
    pub kind: String,
    /// Such as `sdp`, in lower case.
    pub subtype: String,
    /// `boundary`, `charset`, `q` and others.
    pub params: Params,
}

/// Reason: why a request was sent (RFC 3326).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850` or another.
    pub protocol: String,
    /// The cause in that protocol: a SIP status, a Q.850 value.
    pub cause: Option<u16>,
    /// A text for people.
    pub text: Option<String>,
}

/// Call-Info: something about the caller or the called (RFC 3261 §20.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallInfo {
    /// What it points to.
    pub uri: Uri,
    /// `purpose` and others.
    pub params: Params,
}

/// Retry-After (RFC 3261 §20.33).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// How long to wait, in seconds.
    pub seconds: u32,
    /// `duration`: for how long the peer will be reachable then.
    pub params: Params,
}

/// Warning (RFC 3261 §20.43).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Three digits; 304 and 305 are about media.
    pub code: u16,
    /// Who warns: a host or a name.
    pub agent: String,
    /// What to read.
    pub text: String,
}

/// Session-Expires (RFC 4028 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session's interval, in seconds.
    pub seconds: u32,
    /// Who refreshes, if it is agreed.
    pub refresher: Option<Refresher>,
}

/// Who refreshes a session (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The client of the request that carries it.
    Uac,
    /// The server.
    Uas,
}

/// Replaces or Join: the dialog meant, as its owner sees it (RFC 3891 §6.1, RFC 3911 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// The dialog's Call-ID.
    pub call_id: String,
    /// The tag of the side that receives this.
    pub to_tag: String,
    /// The tag of the other side.
    pub from_tag: String,
    /// Replace only a dialog that is not confirmed yet.
    pub early_only: bool,
}

/// RAck: which reliable provisional answer a PRACK confirms (RFC 3262 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// The RSeq of the answer.
    pub rseq: u32,
    /// The CSeq number of the request that it answers.
    pub cseq: u32,
    /// The method of that request.
    pub method: Method,
}

impl CSeq {
    /// Its two parts.
    pub fn new(number: u32, method: Method) -> Self {
        Self { number, method }
    }
}

impl Event {
    /// A package, or a disposition, without parameters.
    pub fn new(package: &str) -> Self {
        Self { package: package.to_owned(), params: Params::default() }
    }

    /// What tells two subscriptions to a package in one dialog apart.
    pub fn id(&self) -> Option<&str> {
        self.params.get("id")
    }
}

impl SubscriptionState {
    /// A state without parameters.
    pub fn new(state: Substate) -> Self {
        Self { state, params: Params::default() }
    }

    /// An active subscription with this much time left, in seconds.
    pub fn active(expires: u32) -> Self {
        Self::new(Substate::Active).with_param("expires", &expires.to_string())
    }

    /// A subscription that ended for this reason, such as `noresource` (RFC 6665 §4.1.3).
    pub fn terminated(reason: &str) -> Self {
        Self::new(Substate::Terminated).with_param("reason", reason)
    }

    /// The same state with one more parameter.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        self.params.set(name, Some(value));
        self
    }

    /// The time left, in seconds.
    pub fn expires(&self) -> Option<u32> {
        self.params.get("expires").and_then(seconds)
    }

    /// Why it ended.
    pub fn reason(&self) -> Option<&str> {
        self.params.get("reason")
    }

    /// When to try again, in seconds.
    pub fn retry_after(&self) -> Option<u32> {
        self.params.get("retry-after").and_then(seconds)
    }
}

impl MediaType {
    /// A type without parameters.
    pub fn new(kind: &str, subtype: &str) -> Self {
        let (kind, subtype) = (kind.to_ascii_lowercase(), subtype.to_ascii_lowercase());
        Self { kind, subtype, params: Params::default() }
    }

    /// Whether it is this type, in any case and with any parameters.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    /// Whether a body of this type satisfies the range `self` of an Accept, `*` and `q=0` observed.
    pub fn accepts(&self, kind: &str, subtype: &str) -> bool {
        let any = |range: &str, value: &str| range == "*" || range.eq_ignore_ascii_case(value);
        let refused = self
            .params
            .get("q")
            .is_some_and(|q| !q.is_empty() && q.bytes().all(|digit| matches!(digit, b'0' | b'.')));
        any(&self.kind, kind) && any(&self.subtype, subtype) && !refused
    }
}

impl Reason {
    /// A reason in terms of a SIP status.
    pub fn sip(cause: u16, text: &str) -> Self {
        Self { protocol: "SIP".to_owned(), cause: Some(cause), text: Some(text.to_owned()) }
    }

    /// A reason in terms of the telephone network.
    pub fn q850(cause: u16) -> Self {
        Self { protocol: "Q.850".to_owned(), cause: Some(cause), text: None }
    }
}

impl CallInfo {
    /// A pointer with its purpose, such as `impp` (RFC 6993).
    pub fn new(uri: Uri, purpose: &str) -> Self {
        Self { uri, params: Params::default().with("purpose", Some(purpose)) }
    }

    /// What the pointer is for.
    pub fn purpose(&self) -> Option<&str> {
        self.params.get("purpose")
    }
}

impl RetryAfter {
    /// A time to wait, in seconds.
    pub fn new(seconds: u32) -> Self {
        Self { seconds, params: Params::default() }
    }
}

/// Reads seconds; a number too large counts as the largest (RFC 3261 §20.19 has 2³²−1 as limit).
pub(super) fn seconds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// Splits a value into its head and its parameters.
fn with_params(text: &str) -> Result<(&str, Params), ValueError> {
    let (head, params) = scan::split_once(text, b';').ok_or(ValueError)?;
    Ok((head, Params::parse(params)?))
}

fn token(text: &str) -> Result<String, ValueError> {
    if scan::is_token(text) { Ok(text.to_owned()) } else { Err(ValueError) }
}

impl FromStr for CSeq {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (digits, method) = text.split_once([' ', '\t']).ok_or(ValueError)?;
        let number = number(digits).filter(|number| *number <= MAX_CSEQ).ok_or(ValueError)?;
        Ok(Self { number, method: Method::from_token(&token(scan::trim(method))?) })
    }
}

impl FromStr for RAck {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (rseq, cseq) = text.split_once([' ', '\t']).ok_or(ValueError)?;
        let rseq = number(rseq).ok_or(ValueError)?;
        let CSeq { number: cseq, method } = scan::trim(cseq).parse()?;
        Ok(Self { rseq, cseq, method })
    }
}

impl FromStr for Event {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (package, params) = with_params(text)?;
        Ok(Self { package: token(package)?, params })
    }
}

impl FromStr for SubscriptionState {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (state, params) = with_params(text)?;
        let state = match state.to_ascii_lowercase().as_str() {
            "active" => Substate::Active,
            "pending" => Substate::Pending,
            "terminated" => Substate::Terminated,
            _ => Substate::Other(token(state)?),
        };
        Ok(Self { state, params })
    }
}

impl FromStr for MediaType {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (head, params) = with_params(text)?;
        // Some peers write a bare `*` in Accept.
        let (kind, subtype) =
            if head == "*" { ("*", "*") } else { head.split_once('/').ok_or(ValueError)? };
        let (kind, subtype) = (scan::trim(kind), scan::trim(subtype));
        if !scan::is_token(kind) || !scan::is_token(subtype) {
            return Err(ValueError);
        }
        Ok(Self { params, ..Self::new(kind, subtype) })
    }
}

impl FromStr for Reason {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (protocol, params) = with_params(text)?;
        let cause = params.get("cause").map(|cause| number(cause).ok_or(ValueError)).transpose()?;
        let text = params.get("text").map(str::to_owned);
        Ok(Self { protocol: token(protocol)?, cause, text })
    }
}

impl FromStr for CallInfo {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (head, params) = with_params(text)?;
        let uri = head.strip_prefix('<').and_then(|head| head.strip_suffix('>'));
        let uri = uri.ok_or(ValueError)?.parse().map_err(|_| ValueError)?;
        Ok(Self { uri, params })
    }
}

impl FromStr for RetryAfter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let rest = scan::trim(&text[digits..]);
        // A comment may follow; whatever it says, it ends with a parenthesis.
        let rest = match rest.strip_prefix('(') {
            Some(comment) => scan::trim(&comment[comment.rfind(')').ok_or(ValueError)? + 1..]),
            None => rest,
        };
        let params = rest.strip_prefix(';');
        if params.is_none() && !rest.is_empty() {
            return Err(ValueError);
        }
        let seconds = seconds(&text[..digits]).ok_or(ValueError)?;
        Ok(Self { seconds, params: Params::parse(params)? })
    }
}

impl FromStr for Warning {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (code, rest) = text.split_once(' ').ok_or(ValueError)?;
        let (agent, text) = scan::trim(rest).split_once(' ').ok_or(ValueError)?;
        let code = number(code).filter(|code| (100..1000).contains(code)).ok_or(ValueError)?;
        let text = scan::unquote(scan::trim(text)).ok_or(ValueError)?.into_owned();
        Ok(Self { code, agent: agent.to_owned(), text })
    }
}

impl FromStr for SessionExpires {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (head, params) = with_params(text)?;
        let refresher = match params.get("refresher").map(str::to_ascii_lowercase).as_deref() {
            Some("uac") => Some(Refresher::Uac),
            Some("uas") => Some(Refresher::Uas),
            Some(_) => return Err(ValueError),
            None => None,
        };
        Ok(Self { seconds: seconds(head).ok_or(ValueError)?, refresher })
    }
}

impl FromStr for Replaces {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (call_id, params) = with_params(text)?;
        if call_id.is_empty() || call_id.contains([' ', '\t']) {
            return Err(ValueError);
        }
        let tag = |name| params.get(name).map(str::to_owned).ok_or(ValueError);
        Ok(Self {
            call_id: call_id.to_owned(),
            to_tag: tag("to-tag")?,
            from_tag: tag("from-tag")?,
            early_only: params.has("early-only"),
        })
    }
}

impl Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

impl Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rseq, self.cseq, self.method)
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.package, self.params)
    }
}

impl Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            Substate::Active => "active",
            Substate::Pending => "pending",
            Substate::Terminated => "terminated",
            Substate::Other(other) => other,
        };
        write!(f, "{state}{}", self.params)
    }
}

impl Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.kind, self.subtype, self.params)
    }
}

impl Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.protocol)?;
        if let Some(cause) = self.cause {
            write!(f, ";cause={cause}")?;
        }
        match &self.text {
            // Always quoted: the grammar of RFC 3326 §2 has no token here.
            Some(text) => write!(f, ";text={}", scan::quote(text)),
            None => Ok(()),
        }
    }
}

impl Display for CallInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

impl Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.seconds, self.params)
    }
}

impl Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {} {}", self.code, self.agent, scan::quote(&self.text))
    }
}

impl Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

impl Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call_id, to_tag, from_tag, early_only } = self;
        write!(f, "{call_id};to-tag={to_tag};from-tag={from_tag}")?;
        if *early_only { f.write_str(";early-only") } else { Ok(()) }
    }
}

/// The largest CSeq number (RFC 3261 §8.1.1.5).
const MAX_CSEQ: u32 = (1 << 31) - 1;
