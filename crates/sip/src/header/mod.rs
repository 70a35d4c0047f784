//! Headers: an ordered list of names and values, and the typed values in it.
//!
//! The list keeps what the peer wrote, in order. The accessors of [`Headers`] read one header each
//! and say what is wrong with it; each type prints itself, so `headers.push(Name::CSEQ, cseq)` is
//! all that building takes. A value can never hold a line break: [`Headers`] replaces it.
//!
//! A type with a grammar of its own has a file; those that are a token or two are in `values.rs`.

mod auth;
mod name;
mod name_addr;
mod params;
#[cfg(test)]
mod tests;
mod values;
mod via;

pub use auth::{Challenge, Credentials};
pub use name::Name;
pub use name_addr::NameAddr;
pub use params::{MAX_PARAMS, Params};
pub use values::{
    CSeq, CallInfo, Contacts, Event, MediaType, RAck, Reason, Refresher, Replaces, RetryAfter,
    SessionExpires, SubscriptionState, Substate, Warning,
};
pub use via::{MAGIC_COOKIE, Via};

use crate::{message::Method, scan};

/// The headers of one message, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Name, String)>);

/// What is wrong with a header. A request with such a header is answered with 400, naming it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The message cannot do without it.
    #[error("Missing {0} header")]
    Missing(Name),
    /// It does not follow its grammar.
    #[error("Malformed {0} header")]
    Malformed(Name),
    /// It may stand once, and stands twice.
    #[error("Repeated {0} header")]
    Repeated(Name),
    /// It lists more values than [`MAX_VALUES`].
    #[error("Too many values in {0}")]
    TooMany(Name),
}

/// The most values that a list header may have over all its lines: as many Via as hops that
/// Max-Forwards allows (RFC 3261 §8.1.1.6).
pub const MAX_VALUES: usize = 70;

impl Headers {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many header lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value under this name, as it stands on its line.
    pub fn get(&self, name: &Name) -> Option<&str> {
        self.all(name).next()
    }

    /// The values under this name, one a line.
    pub fn all<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(had, _)| had == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is such a header.
    pub fn contains(&self, name: &Name) -> bool {
        self.get(name).is_some()
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.0.iter().map(|(name, value)| (name, value.as_str()))
    }

    /// Adds a header at the end. CR, LF and NUL in the value become spaces.
    pub fn push(&mut self, name: Name, value: impl ToString) {
        self.0.push((name, clean(value.to_string())));
    }

    /// Adds a header before all others: a Via on the way out.
    pub fn push_front(&mut self, name: Name, value: impl ToString) {
        self.0.insert(0, (name, clean(value.to_string())));
    }

    /// Replaces all headers of this name by one, where the first of them stood or at the end.
    pub fn set(&mut self, name: Name, value: impl ToString) {
        let at = self.0.iter().position(|(had, _)| *had == name).unwrap_or(self.0.len());
        self.remove(&name);
        self.0.insert(at.min(self.0.len()), (name, clean(value.to_string())));
    }

    /// Removes all headers of this name.
    pub fn remove(&mut self, name: &Name) {
        self.0.retain(|(had, _)| had != name);
    }

    /// Copies all headers of this name from another message, in order.
    pub fn copy(&mut self, from: &Self, name: &Name) {
        self.0.extend(from.0.iter().filter(|(had, _)| had == name).cloned());
    }

    /// The topmost Via (RFC 3261 §20.42).
    pub fn via(&self) -> Result<Via, HeaderError> {
        self.vias()?.into_iter().next().ok_or(HeaderError::Missing(Name::VIA))
    }

    /// Every Via, topmost first.
    pub fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        self.list(&Name::VIA)
    }

    /// Replaces the topmost Via, leaving those below as they are: where `received` and `rport` go
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn set_top_via(&mut self, via: &Via) {
        let Some((_, value)) = self.0.iter_mut().find(|(name, _)| *name == Name::VIA) else {
            return self.push_front(Name::VIA, via);
        };
        *value = match scan::split_once(value, b',') {
            Some((_, Some(rest))) => clean(format!("{via}, {rest}")),
            _ => clean(via.to_string()),
        };
    }

    /// From (RFC 3261 §20.20).
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.required(&Name::FROM)
    }

    /// To (RFC 3261 §20.39).
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.required(&Name::TO)
    }

    /// CSeq (RFC 3261 §20.16).
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        self.required(&Name::CSEQ)
    }

    /// Call-ID (RFC 3261 §20.8): compared byte by byte.
    pub fn call_id(&self) -> Result<&str, HeaderError> {
        let value = self.single(&Name::CALL_ID)?.ok_or(HeaderError::Missing(Name::CALL_ID))?;
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if value.is_empty() || value.contains(odd) {
            return Err(HeaderError::Malformed(Name::CALL_ID));
        }
        Ok(value)
    }

    /// The tag of From, `None` from RFC 2543 peers.
    pub fn from_tag(&self) -> Result<Option<String>, HeaderError> {
        Ok(self.from()?.tag().map(str::to_owned))
    }

    /// The tag of To: a request that has one belongs to a dialog.
    pub fn to_tag(&self) -> Result<Option<String>, HeaderError> {
        Ok(self.to()?.tag().map(str::to_owned))
    }

    /// Puts a tag on To, replacing one that is there (RFC 3261 §8.2.6.2). Does nothing to a To that
    /// cannot be read.
    pub fn set_to_tag(&mut self, tag: &str) {
        if let Ok(mut to) = self.to() {
            to.params.set("tag", Some(tag));
            self.set(Name::TO, to);
        }
    }

    /// Contact, `*` included (RFC 3261 §20.10).
    pub fn contacts(&self) -> Result<Contacts, HeaderError> {
        let mut lines = self.all(&Name::CONTACT).peekable();
        if lines.peek() == Some(&"*") {
            lines.next();
            let only = lines.next().is_none();
            return if only {
                Ok(Contacts::All)
            } else {
                Err(HeaderError::Repeated(Name::CONTACT))
            };
        }
        self.list(&Name::CONTACT).map(Contacts::List)
    }

    /// The one Contact that a dialog-forming message has: the remote target (RFC 3261 §12.1).
    pub fn contact(&self) -> Result<Option<NameAddr>, HeaderError> {
        match self.contacts()? {
            Contacts::All => Err(HeaderError::Malformed(Name::CONTACT)),
            Contacts::List(list) => Ok(list.into_iter().next()),
        }
    }

    /// Route, in order (RFC 3261 §20.34).
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(&Name::ROUTE)
    }

    /// Record-Route, in order (RFC 3261 §20.30).
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(&Name::RECORD_ROUTE)
    }

    /// Max-Forwards (RFC 3261 §20.22): 0 to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.read(&Name::MAX_FORWARDS, scan::number)
    }

    /// Content-Length in bytes (RFC 3261 §20.14). Repetitions must agree.
    pub fn content_length(&self) -> Result<Option<u32>, HeaderError> {
        let mut lengths = self.all(&Name::CONTENT_LENGTH).map(scan::number::<u32>);
        let Some(first) = lengths.next() else { return Ok(None) };
        let first = first.ok_or(HeaderError::Malformed(Name::CONTENT_LENGTH))?;
        if lengths.any(|length| length != Some(first)) {
            return Err(HeaderError::Repeated(Name::CONTENT_LENGTH));
        }
        Ok(Some(first))
    }

    /// Expires in seconds (RFC 3261 §20.19). A number too large counts as the largest.
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.read(&Name::EXPIRES, values::seconds)
    }

    /// Min-Expires in seconds (RFC 3261 §20.23).
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.read(&Name::MIN_EXPIRES, values::seconds)
    }

    /// Event (RFC 6665 §8.2.1).
    pub fn event(&self) -> Result<Option<Event>, HeaderError> {
        self.optional(&Name::EVENT)
    }

    /// Subscription-State (RFC 6665 §8.2.3).
    pub fn subscription_state(&self) -> Result<Option<SubscriptionState>, HeaderError> {
        self.optional(&Name::SUBSCRIPTION_STATE)
    }

    /// Require: option tags that must be understood (RFC 3261 §20.32).
    pub fn require(&self) -> Result<Vec<&str>, HeaderError> {
        self.tokens(&Name::REQUIRE)
    }

    /// Proxy-Require (RFC 3261 §20.29).
    pub fn proxy_require(&self) -> Result<Vec<&str>, HeaderError> {
        self.tokens(&Name::PROXY_REQUIRE)
    }

    /// Supported: option tags (RFC 3261 §20.37).
    pub fn supported(&self) -> Result<Vec<&str>, HeaderError> {
        self.tokens(&Name::SUPPORTED)
    }

    /// Unsupported: what a 420 names (RFC 3261 §20.40).
    pub fn unsupported(&self) -> Result<Vec<&str>, HeaderError> {
        self.tokens(&Name::UNSUPPORTED)
    }

    /// Whether the peer supports this option tag, by Supported or Require. A malformed list
    /// supports nothing.
    pub fn supports(&self, option: &str) -> bool {
        let lists = [self.supported(), self.require()];
        lists.into_iter().flatten().flatten().any(|tag| tag.eq_ignore_ascii_case(option))
    }

    /// Allow (RFC 3261 §20.5). `None` when the header is absent: the peer did not say.
    pub fn allow(&self) -> Result<Option<Vec<Method>>, HeaderError> {
        if !self.contains(&Name::ALLOW) {
            return Ok(None);
        }
        Ok(Some(self.tokens(&Name::ALLOW)?.into_iter().map(Method::from_token).collect()))
    }

    /// Allow-Events: event packages (RFC 6665 §8.2.2).
    pub fn allow_events(&self) -> Result<Vec<&str>, HeaderError> {
        self.tokens(&Name::ALLOW_EVENTS)
    }

    /// Accept (RFC 3261 §20.1). `None` when the header is absent; each type may carry `q`.
    pub fn accept(&self) -> Result<Option<Vec<MediaType>>, HeaderError> {
        if !self.contains(&Name::ACCEPT) {
            return Ok(None);
        }
        self.list(&Name::ACCEPT).map(Some)
    }

    /// Content-Type (RFC 3261 §20.15).
    pub fn content_type(&self) -> Result<Option<MediaType>, HeaderError> {
        self.optional(&Name::CONTENT_TYPE)
    }

    /// Content-Disposition: its type and parameters, such as `handling` (RFC 3261 §20.11).
    pub fn content_disposition(&self) -> Result<Option<Event>, HeaderError> {
        self.optional(&Name::CONTENT_DISPOSITION)
    }

    /// WWW-Authenticate or Proxy-Authenticate, one challenge a line. Lines that cannot be read are
    /// left out: a client answers the first challenge that it understands (RFC 8760 §2.4).
    pub fn challenges(&self, name: &Name) -> Vec<Challenge> {
        self.all(name).filter_map(|value| value.parse().ok()).collect()
    }

    /// Authorization or Proxy-Authorization, one a line. Lines that cannot be read, or that are of
    /// a scheme that nobody knows, are no reason to refuse (RFC 3261 §22.1).
    pub fn credentials(&self, name: &Name) -> Vec<Credentials> {
        self.all(name).filter_map(|value| value.parse().ok()).collect()
    }

    /// Reason (RFC 3326), one for each protocol.
    pub fn reasons(&self) -> Result<Vec<Reason>, HeaderError> {
        self.list(&Name::REASON)
    }

    /// Call-Info (RFC 3261 §20.9).
    pub fn call_info(&self) -> Result<Vec<CallInfo>, HeaderError> {
        self.list(&Name::CALL_INFO)
    }

    /// P-Asserted-Identity (RFC 3325 §9.1). Whether it may be believed is for the caller to know.
    pub fn asserted_identities(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(&Name::P_ASSERTED_IDENTITY)
    }

    /// Privacy: `id`, `header`, `user`, … (RFC 3323 §4.2), which are separated by semicolons.
    pub fn privacy(&self) -> Result<Vec<&str>, HeaderError> {
        let Some(value) = self.single(&Name::PRIVACY)? else { return Ok(vec![]) };
        let values: Vec<_> = value.split(';').map(scan::trim).collect();
        let good = values.len() <= MAX_VALUES && values.iter().all(|value| scan::is_token(value));
        if good { Ok(values) } else { Err(HeaderError::Malformed(Name::PRIVACY)) }
    }

    /// Retry-After (RFC 3261 §20.33).
    pub fn retry_after(&self) -> Result<Option<RetryAfter>, HeaderError> {
        self.optional(&Name::RETRY_AFTER)
    }

    /// Warning (RFC 3261 §20.43).
    pub fn warnings(&self) -> Result<Vec<Warning>, HeaderError> {
        self.list(&Name::WARNING)
    }

    /// Session-Expires (RFC 4028 §4).
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, HeaderError> {
        self.optional(&Name::SESSION_EXPIRES)
    }

    /// Min-SE in seconds (RFC 4028 §5). Its parameters have no meaning.
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        let first = |value: &str| scan::split_once(value, b';').map(|(first, _)| first.to_owned());
        self.read(&Name::MIN_SE, |value| values::seconds(&first(value)?))
    }

    /// RSeq: the number of a reliable provisional answer (RFC 3262 §7.1).
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.read(&Name::RSEQ, scan::number)
    }

    /// RAck (RFC 3262 §7.2).
    pub fn rack(&self) -> Result<Option<RAck>, HeaderError> {
        self.optional(&Name::RACK)
    }

    /// Whether the peer demands this option of the answer to its request.
    pub fn requires(&self, option: &str) -> bool {
        self.require().is_ok_and(|tags| tags.iter().any(|tag| tag.eq_ignore_ascii_case(option)))
    }

    /// Replaces (RFC 3891 §6.1).
    pub fn replaces(&self) -> Result<Option<Replaces>, HeaderError> {
        self.optional(&Name::REPLACES)
    }

    /// Join, which has the grammar of Replaces (RFC 3911 §7.1).
    pub fn join(&self) -> Result<Option<Replaces>, HeaderError> {
        self.optional(&Name::JOIN)
    }

    /// Target-Dialog: the dialog that a request is about, as its recipient sees it (RFC 4538 §7). One that
    /// does not say both tags names none (§4).
    pub fn target_dialog(&self) -> Option<Replaces> {
        let value = self.single(&Name::TARGET_DIALOG).ok()??;
        let (call_id, params) = scan::split_once(value, b';')?;
        let params = Params::parse(params).ok()?;
        let tag = |name| params.get(name).map(str::to_owned);
        Some(Replaces {
            call_id: call_id.to_owned(),
            to_tag: tag("local-tag")?,
            from_tag: tag("remote-tag")?,
            early_only: false,
        })
    }

    /// Refer-To (RFC 3515 §2.1).
    pub fn refer_to(&self) -> Result<Option<NameAddr>, HeaderError> {
        self.optional(&Name::REFER_TO)
    }

    /// Referred-By (RFC 3892 §3).
    pub fn referred_by(&self) -> Result<Option<NameAddr>, HeaderError> {
        self.optional(&Name::REFERRED_BY)
    }

    /// The tokens of a comma-separated list, over all its lines. An empty header lists nothing.
    pub fn tokens(&self, name: &Name) -> Result<Vec<&str>, HeaderError> {
        let mut tokens = vec![];
        for token in self.all(name).filter(|line| !line.is_empty()).flat_map(|l| l.split(',')) {
            let token = scan::trim(token);
            if !scan::is_token(token) {
                return Err(HeaderError::Malformed(name.clone()));
            }
            if tokens.len() == MAX_VALUES {
                return Err(HeaderError::TooMany(name.clone()));
            }
            tokens.push(token);
        }
        Ok(tokens)
    }

    /// The value of a header that may stand only once.
    fn single(&self, name: &Name) -> Result<Option<&str>, HeaderError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(HeaderError::Repeated(name.clone())),
        }
    }

    fn read<T>(
        &self,
        name: &Name,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, HeaderError> {
        match self.single(name)? {
            Some(value) => {
                parse(value).map(Some).ok_or_else(|| HeaderError::Malformed(name.clone()))
            }
            None => Ok(None),
        }
    }

    fn optional<T: std::str::FromStr>(&self, name: &Name) -> Result<Option<T>, HeaderError> {
        self.read(name, |value| value.parse().ok())
    }

    fn required<T: std::str::FromStr>(&self, name: &Name) -> Result<T, HeaderError> {
        self.optional(name)?.ok_or_else(|| HeaderError::Missing(name.clone()))
    }

    /// The values of a comma-separated list, over all its lines.
    fn list<T: std::str::FromStr>(&self, name: &Name) -> Result<Vec<T>, HeaderError> {
        let mut values = vec![];
        for line in self.all(name) {
            let parts =
                scan::split(line, b',').ok_or_else(|| HeaderError::Malformed(name.clone()))?;
            if values.len() + parts.len() > MAX_VALUES {
                return Err(HeaderError::TooMany(name.clone()));
            }
            for part in parts {
                values.push(part.parse().map_err(|_| HeaderError::Malformed(name.clone()))?);
            }
        }
        Ok(values)
    }
}

fn clean(value: String) -> String {
    match scan::one_line(&value) {
        std::borrow::Cow::Borrowed(_) => value,
        std::borrow::Cow::Owned(cleaned) => cleaned,
    }
}

/// Why a text is not a value of the type that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed header value")]
pub struct ValueError;
