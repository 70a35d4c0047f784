//! Header names: one spelling for each, compact forms included (RFC 3261 §7.3.3).

use std::{
    borrow::Cow,
    fmt::{self, Display},
    hash::{Hash, Hasher},
};

use crate::scan;

/// A header name. Case does not count, and a compact form is the same name as its long form.
#[derive(Clone)]
pub struct Name(Cow<'static, str>);

impl Name {
    /// Reads a name from the wire or from a caller: `None` if it is not a token.
    pub fn new(text: &str) -> Option<Self> {
        if !scan::is_token(text) {
            return None;
        }
        if let &[letter] = text.as_bytes() {
            let letter = letter.to_ascii_lowercase();
            if let Some((_, long)) = COMPACT.iter().find(|(compact, _)| *compact == letter) {
                return Some(Self(Cow::Borrowed(long)));
            }
        }
        let known = KNOWN.iter().find(|known| known.0.eq_ignore_ascii_case(text));
        Some(known.cloned().unwrap_or_else(|| Self(Cow::Owned(text.to_owned()))))
    }

    /// The name in its usual spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            byte.to_ascii_lowercase().hash(state);
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! names {
    ($($constant:ident $text:literal)*) => {
        #[allow(missing_docs)]
        impl Name {
            $(pub const $constant: Self = Self(Cow::Borrowed($text));)*
        }
        /// All the names that have a constant.
        const KNOWN: &[Name] = &[$(Name::$constant),*];
    };
}

names! {
    ACCEPT "Accept"
    ACCEPT_ENCODING "Accept-Encoding"
    ACCEPT_LANGUAGE "Accept-Language"
    ALERT_INFO "Alert-Info"
    ALLOW "Allow"
    ALLOW_EVENTS "Allow-Events"
    AUTHENTICATION_INFO "Authentication-Info"
    AUTHORIZATION "Authorization"
    CALL_ID "Call-ID"
    CALL_INFO "Call-Info"
    CONTACT "Contact"
    CONTENT_DISPOSITION "Content-Disposition"
    CONTENT_ENCODING "Content-Encoding"
    CONTENT_LENGTH "Content-Length"
    CONTENT_TYPE "Content-Type"
    CSEQ "CSeq"
    DATE "Date"
    ERROR_INFO "Error-Info"
    EVENT "Event"
    EXPIRES "Expires"
    FROM "From"
    INFO_PACKAGE "Info-Package"
    IN_REPLY_TO "In-Reply-To"
    JOIN "Join"
    MAX_FORWARDS "Max-Forwards"
    MIME_VERSION "MIME-Version"
    MIN_EXPIRES "Min-Expires"
    MIN_SE "Min-SE"
    ORGANIZATION "Organization"
    P_ASSERTED_IDENTITY "P-Asserted-Identity"
    P_PREFERRED_IDENTITY "P-Preferred-Identity"
    PATH "Path"
    PRIORITY "Priority"
    PRIVACY "Privacy"
    PROXY_AUTHENTICATE "Proxy-Authenticate"
    PROXY_AUTHORIZATION "Proxy-Authorization"
    PROXY_REQUIRE "Proxy-Require"
    RACK "RAck"
    REASON "Reason"
    RECV_INFO "Recv-Info"
    RECORD_ROUTE "Record-Route"
    REFER_SUB "Refer-Sub"
    REFER_TO "Refer-To"
    REFERRED_BY "Referred-By"
    REJECT_CONTACT "Reject-Contact"
    REMOTE_PARTY_ID "Remote-Party-ID"
    REPLACES "Replaces"
    REPLY_TO "Reply-To"
    REQUEST_DISPOSITION "Request-Disposition"
    REQUIRE "Require"
    RETRY_AFTER "Retry-After"
    ROUTE "Route"
    RSEQ "RSeq"
    SERVER "Server"
    SERVICE_ROUTE "Service-Route"
    SESSION_EXPIRES "Session-Expires"
    SIP_ETAG "SIP-ETag"
    SIP_IF_MATCH "SIP-If-Match"
    SUBJECT "Subject"
    SUBSCRIPTION_STATE "Subscription-State"
    SUPPORTED "Supported"
    TARGET_DIALOG "Target-Dialog"
    TIMESTAMP "Timestamp"
    TO "To"
    UNSUPPORTED "Unsupported"
    USER_AGENT "User-Agent"
    VIA "Via"
    WARNING "Warning"
    WWW_AUTHENTICATE "WWW-Authenticate"
}

/// Compact forms: RFC 3261 §7.3.3, and the registry that IANA keeps.
const COMPACT: [(u8, &str); 20] = [
    (b'a', "Accept-Contact"),
    (b'b', "Referred-By"),
    (b'c', "Content-Type"),
    (b'd', "Request-Disposition"),
    (b'e', "Content-Encoding"),
    (b'f', "From"),
    (b'i', "Call-ID"),
    (b'j', "Reject-Contact"),
    (b'k', "Supported"),
    (b'l', "Content-Length"),
    (b'm', "Contact"),
    (b'n', "Identity-Info"),
    (b'o', "Event"),
    (b'r', "Refer-To"),
    (b's', "Subject"),
    (b't', "To"),
    (b'u', "Allow-Events"),
    (b'v', "Via"),
    (b'x', "Session-Expires"),
    (b'y', "Identity"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name() {
        let check = |text, expected: Option<&str>| {
            assert_eq!(Name::new(text).as_ref().map(Name::as_str), expected, "{text}");
        };
        check("v", Some("Via"));
        check("V", Some("Via"));
        check("vIA", Some("Via"));
        check("o", Some("Event"));
        check("x", Some("Session-Expires"));
        check("z", Some("z"));
        check("cALL-iD", Some("Call-ID"));
        check("X-Own", Some("X-Own"));
        check("", None);
        check("a b", None);
        check("a:", None);
        check("Via\r\nX", None);
        assert_eq!(Name::new("x-own"), Name::new("X-OWN"));
    }
}
