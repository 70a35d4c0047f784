//! Keys of SRTP in a description: `a=crypto` (RFC 4568).

use std::fmt::{self, Display};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::scan::number;

/// One `a=crypto` line: a suite, and the key that its side sends with.
///
/// Lines that ask for what this core does not do are not read at all, as RFC 4568 §6.3 has it: several
/// keys or an MKI, parts in the clear, a key derivation rate. A lifetime is not counted: it is the sender
/// who has to change its key in time.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Names the line: an answer repeats it.
    pub tag: u32,
    /// The suite, such as `AES_CM_128_HMAC_SHA1_80`.
    pub suite: String,
    /// Master key and salt, one after the other.
    pub key: Vec<u8>,
}

impl Crypto {
    /// Reads `1 AES_CM_128_HMAC_SHA1_80 inline:BASE64|2^20 WSH=64`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9).and_then(number)?;
        let suite = words.next()?.to_owned();
        // Several keys would be parted by semicolons, and told apart by an MKI.
        let key = words.next().filter(|keys| !keys.contains(';'))?;
        let (method, key) = key.split_once(':')?;
        let mut parts = key.split('|');
        let key = STANDARD.decode(parts.next()?).ok()?;
        let mki = parts.any(|part| part.contains(':'));
        // What begins with a dash may be passed over.
        let known = |word: &str| word.starts_with('-') || word.starts_with("WSH=");
        let good = method.eq_ignore_ascii_case("inline") && !mki && words.all(known);
        good.then_some(Self { tag, suite, key })
    }
}

impl Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} inline:{}", self.tag, self.suite, STANDARD.encode(&self.key))
    }
}

impl fmt::Debug for Crypto {
    /// Keeps the key to itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crypto({} {})", self.tag, self.suite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let key = STANDARD.encode([7; 30]);
        let check = |line: &str, expected: bool| {
            let line = line.replace("KEY", &key);
            let found = Crypto::read(&line);
            assert_eq!(found.is_some(), expected, "{line}");
            if let Some(found) = found {
                assert_eq!(found.key, [7; 30]);
                assert_eq!(Crypto::read(&found.to_string()), Some(found.clone()));
                assert!(!format!("{found:?}").contains(&key));
            }
        };
        check("1 AES_CM_128_HMAC_SHA1_80 inline:KEY", true);
        check("999999999  X  INLINE:KEY|2^20 -ODD WSH=64", true);
        check("1 X inline:KEY|2147483648", true);
        check("1 X inline:KEY|2^20|1:4", false);
        check("1 X inline:KEY|1:4", false);
        check("1 X inline:KEY;inline:KEY", false);
        check("1 X inline:KEY UNENCRYPTED_SRTCP", false);
        check("1 X inline:KEY KDR=1", false);
        check("1 X inline:KEY FEC_ORDER=FEC_SRTP", false);
        check("1234567890 X inline:KEY", false);
        check("-1 X inline:KEY", false);
        check("1 X prompt:KEY", false);
        check("1 X inline:!", false);
        check("1 X", false);
        check("", false);
    }
}
