//! Whether two addresses are one: telephone numbers in all their forms, and SIP addresses.
//!
//! A number is told by its digits in the form of E.164, whoever wrote it and however: with
//! separators, with the prefix for calls abroad, with the country's own prefix, as a tel URI or as the
//! user part of a SIP URI. The last counts only at hosts that speak for numbers: anyone can run a host
//! and call themselves anything at it.

use cusax::identity::Aor;
use cusax_sip::uri::{SipUri, TelUri, Uri};

/// An address in the form in which two of them compare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A telephone number: its digits with the country's first, and an extension behind `;ext=`.
    Number(String),
    /// A number that means something only where it is dialled: an extension, an emergency number.
    Local(String),
    /// A SIP address.
    Sip(Aor),
}

impl Address {
    /// What to call, through an account at this domain: numbers are called there (RFC 3261 §19.1.6).
    /// `None` if that is no domain.
    pub fn uri(&self, domain: &str) -> Option<Uri> {
        let at = |user: &str, host: &str| {
            host.parse().map(|host| SipUri::new(Some(user), host, None)).ok()
        };
        Some(Uri::Sip(match self {
            Self::Number(digits) => {
                at(&format!("+{digits}"), domain)?.with_param("user", Some("phone"))
            }
            Self::Local(digits) => at(digits, domain)?,
            Self::Sip(aor) => at(aor.user(), aor.host())?,
        }))
    }
}

/// How numbers are written where the user is, and who speaks for numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialling {
    country: Option<&'static Country>,
    domains: Vec<String>,
}

/// How a country writes numbers.
#[derive(Debug, PartialEq, Eq)]
pub struct Country {
    /// ISO 3166-1.
    iso: &'static str,
    /// Its code (E.164).
    code: &'static str,
    /// What is dialled before the code of another country.
    abroad: &'static str,
    /// What is dialled before a number with its area code; empty where nothing is.
    trunk: &'static str,
    /// Whether numbers are dialled with their area code always: then one without prefix is whole.
    whole: bool,
    /// The fewest digits of a number with its area code and without prefix.
    shortest: usize,
}

impl Country {
    /// The country with a code of ISO 3166-1, in any case.
    pub fn of(iso: &str) -> Option<&'static Self> {
        COUNTRIES.iter().find(|country| country.iso.eq_ignore_ascii_case(iso))
    }
}

impl Dialling {
    /// Numbers as they are dialled in a country, if it is known which.
    pub fn new(country: Option<&'static Country>) -> Self {
        Self { country, domains: vec![] }
    }

    /// A domain whose numbers are telephone numbers: one's own provider's, a gateway's.
    #[must_use]
    pub fn with_domain(mut self, domain: &str) -> Self {
        self.domains.push(domain.to_ascii_lowercase());
        self
    }

    /// The address that a URI is; `None` if it is of another kind.
    pub fn address(&self, uri: &Uri) -> Option<Address> {
        match uri {
            Uri::Tel(tel) => self.tel(tel),
            Uri::Sip(sip) => {
                let aor = Aor::new(&sip.user()?, &sip.host.to_string()).ok()?;
                let speaks = self.domains.iter().any(|domain| domain == aor.host());
                // The user part may have the parameters of a tel URI (RFC 3261 §19.1.6).
                let user = aor.user().split(';').next().unwrap_or_default();
                let number = Some(user).filter(|_| speaks).and_then(|user| self.number(user));
                Some(number.unwrap_or(Address::Sip(aor)))
            }
            Uri::Other(_) => None,
        }
    }

    /// The address that a text of a card or a directory is: a URI, `user@host`, or a number as people
    /// write it.
    pub fn read(&self, text: &str) -> Option<Address> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_TEXT {
            return None;
        }
        if let Some(number) = self.number(text) {
            return Some(number);
        }
        match text.parse::<Uri>() {
            Ok(uri) => self.address(&uri),
            Err(_) if text.contains('@') => self.address(&format!("sip:{text}").parse().ok()?),
            // `tel:` before a number with blanks, as cards have it.
            Err(_) => {
                let (scheme, rest) = text.split_once(':')?;
                scheme.eq_ignore_ascii_case("tel").then(|| self.number(rest))?
            }
        }
    }

    fn tel(&self, tel: &TelUri) -> Option<Address> {
        let number = tel.number();
        let context = tel.param("phone-context");
        let whole = match context.as_deref().and_then(|context| context.strip_prefix('+')) {
            // RFC 3966 §5.1.5: digits that stand before the number.
            Some(prefix) if !number.starts_with('+') => self.number(&format!("+{prefix}{number}")),
            _ => self.number(number),
        }?;
        Some(match (whole, tel.param("ext")) {
            (Address::Number(digits), Some(ext)) => {
                let ext: String = ext.chars().filter(char::is_ascii_digit).collect();
                Address::Number(format!("{digits};ext={ext}"))
            }
            (address, _) => address,
        })
    }

    /// Reads a number as people write and dial it.
    fn number(&self, text: &str) -> Option<Address> {
        // The zero that is dialled at home only: +49 (0)30 …
        let international = text.trim_start().starts_with('+');
        let text = if international { text.replace("(0)", "") } else { text.to_owned() };
        let mut digits = String::new();
        for c in text.trim_start().strip_prefix('+').unwrap_or(&text).chars() {
            match c {
                '0'..='9' => digits.push(c),
                ' ' | '\u{a0}' | '\u{202f}' | '-' | '\u{2010}' | '\u{2011}' | '\u{2013}' | '.'
                | '/' | '(' | ')' => {}
                _ => return None,
            }
        }
        if international {
            return whole(digits);
        }
        if digits.is_empty() {
            return None;
        }
        let Some(country) = self.country else { return Some(Address::Local(digits)) };
        if let Some(rest) = digits.strip_prefix(country.abroad)
            && let Some(number) = whole(rest.to_owned())
        {
            return Some(number);
        }
        let national = match digits.strip_prefix(country.trunk) {
            Some(rest) if !country.trunk.is_empty() && rest.len() >= country.shortest => Some(rest),
            _ if country.whole && digits.len() >= country.shortest => Some(digits.as_str()),
            _ => None,
        };
        let number = national.and_then(|national| whole(format!("{}{national}", country.code)));
        Some(number.unwrap_or(Address::Local(digits)))
    }
}

/// A number with its country's code, if E.164 allows its length.
fn whole(digits: String) -> Option<Address> {
    ((SHORTEST..=LONGEST).contains(&digits.len()) && !digits.starts_with('0'))
        .then_some(Address::Number(digits))
}

/// The longest address that is read, in bytes.
const MAX_TEXT: usize = 512;
/// The fewest digits of a number with its country's code.
const SHORTEST: usize = 7;
/// The most digits of one (E.164 §6).
const LONGEST: usize = 15;

const fn country(
    iso: &'static str,
    code: &'static str,
    abroad: &'static str,
    trunk: &'static str,
    whole: bool,
    shortest: usize,
) -> Country {
    Country { iso, code, abroad, trunk, whole, shortest }
}

/// Countries by their ISO code: calling code, prefix for abroad, prefix before area codes, whether
/// numbers are always whole, fewest digits.
const COUNTRIES: [Country; 32] = [
    country("AT", "43", "00", "0", false, 7),
    country("AU", "61", "0011", "0", false, 9),
    country("BE", "32", "00", "0", false, 8),
    country("BG", "359", "00", "0", false, 7),
    country("BR", "55", "00", "0", false, 10),
    country("CA", "1", "011", "1", true, 10),
    country("CH", "41", "00", "0", false, 9),
    country("CN", "86", "00", "0", false, 10),
    country("CZ", "420", "00", "", true, 9),
    country("DE", "49", "00", "0", false, 6),
    country("DK", "45", "00", "", true, 8),
    country("EE", "372", "00", "", true, 7),
    country("ES", "34", "00", "", true, 9),
    country("FI", "358", "00", "0", false, 6),
    country("FR", "33", "00", "0", false, 9),
    country("GB", "44", "00", "0", false, 9),
    country("GR", "30", "00", "", true, 10),
    country("HU", "36", "00", "06", false, 8),
    country("IE", "353", "00", "0", false, 7),
    country("IN", "91", "00", "0", false, 10),
    // The zero of an area code belongs to the number.
    country("IT", "39", "00", "", true, 8),
    country("JP", "81", "010", "0", false, 9),
    country("LU", "352", "00", "", true, 6),
    country("NL", "31", "00", "0", false, 9),
    country("NO", "47", "00", "", true, 8),
    country("NZ", "64", "00", "0", false, 8),
    country("PL", "48", "00", "", true, 9),
    country("PT", "351", "00", "", true, 9),
    country("RU", "7", "810", "8", false, 10),
    country("SE", "46", "00", "0", false, 7),
    country("US", "1", "011", "1", true, 10),
    country("ZA", "27", "00", "0", false, 9),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, in short: `+digits`, `=local`, or the SIP address.
    fn read(iso: &str, text: &str) -> String {
        let dialling = Dialling::new(Country::of(iso)).with_domain("Provider.example.org");
        match dialling.read(text) {
            Some(Address::Number(digits)) => format!("+{digits}"),
            Some(Address::Local(digits)) => format!("={digits}"),
            Some(Address::Sip(aor)) => aor.to_string(),
            None => "-".to_owned(),
        }
    }

    #[test]
    fn reads_one_number_in_all_its_forms() {
        let check = |iso: &str, texts: &[&str], expected: &str| {
            for text in texts {
                assert_eq!(read(iso, text), expected, "{iso} {text:?}");
            }
        };
        let berlin = [
            "+49 30 123456",
            "+49 (0)30 123456",
            "+49.30/123-456",
            "0049 30 123456",
            "030 123456",
            "(030) 12 34 56",
            "tel:+4930123456",
            "tel:+49-30-123456",
            "tel:030123456",
            "TEL:030 123456",
            "tel:123456;phone-context=+4930",
            "sip:+4930123456@provider.example.org;user=phone",
            "sips:030123456@PROVIDER.example.org:5061",
            "sip:0049(30)123456@provider.example.org",
            "030123456@provider.example.org",
        ];
        check("de", &berlin, "+4930123456");
        let new_york = [
            "+1 (212) 555-0123",
            "(212) 555-0123",
            "1-212-555-0123",
            "011 1 212 555 0123",
            "tel:2125550123;phone-context=+1",
        ];
        check("US", &new_york, "+12125550123");
        check("GB", &["020 7946 0123", "+44 20 7946 0123"], "+442079460123");
        check("FR", &["01 99 00 12 34", "+33199001234", "0033199001234"], "+33199001234");
        check("IT", &["06 1234 5678", "+39 06 12345678"], "+390612345678");
        check("ES", &["910 123 456", "+34910123456"], "+34910123456");
        check("RU", &["8 495 123-45-67", "+7 495 1234567", "8 10 7 495 1234567"], "+74951234567");
        check("HU", &["06 1 234 5678", "+36 1 2345678"], "+3612345678");
        // Without a country only what is whole is a number.
        check("", &["+4930123456", "tel:+4930123456"], "+4930123456");
        check("", &["030 123456", "tel:030123456"], "=030123456");
        check("DE", &["tel:+4930123456;ext=12", "tel:+49-30-123456;ext=1-2"], "+4930123456;ext=12");
        // Local where it is: an extension, an emergency, a number of the same town.
        check("DE", &["112", "tel:112", "1-12"], "=112");
        check("US", &["555-0123"], "=5550123");
        // Not at every host is a number a number.
        check("DE", &["sip:+4930123456@evil.test;user=phone"], "sip:+4930123456@evil.test");
        check("DE", &["sip:Alice@Example.org:5070;transport=tcp"], "sip:Alice@example.org");
        check("DE", &["alice@example.org", "SIP:alice@EXAMPLE.org"], "sip:alice@example.org");
        check("DE", &["", "   ", "-", "+", "+1", "+0123456789", "+1234567890123456"], "-");
        check("DE", &["alice", "xmpp:a@x", "mailto:a@x", "030 CALL ME", "tel:", "@"], "-");
    }

    #[test]
    fn countries_are_in_order_and_once() {
        assert!(COUNTRIES.windows(2).all(|pair| pair[0].iso < pair[1].iso));
        assert_eq!(Country::of("XX"), None);
    }

    proptest::proptest! {
        /// No text makes it panic, and a number read is read as itself.
        #[test]
        fn numbers_are_stable(text in "\\PC{0,30}", digits in "[+0]{0,2}[1-9][0-9 ().-]{0,18}") {
            for country in ["DE", "US", "IT", ""] {
                let dialling = Dialling::new(Country::of(country)).with_domain("x");
                let _ = dialling.read(&text);
                if let Some(Address::Number(number)) = dialling.read(&digits) {
                    let again = dialling.read(&format!("+{number}"));
                    proptest::prop_assert_eq!(again, Some(Address::Number(number)));
                }
            }
        }
    }
}
