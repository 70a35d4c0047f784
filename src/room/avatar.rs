//! The picture that stands for a room (XEP-0486).

use std::fmt::Write as _;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::standing::Affiliation;
use super::{By, Fact, Refusal, Room};

/// A picture, as its owner gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avatar {
    media_type: String,
    data: Vec<u8>,
    hash: String,
}

impl Avatar {
    /// A picture of at most [`MAX_AVATAR`] bytes; `None` if it is larger, empty, or no picture.
    pub fn new(media_type: &str, data: Vec<u8>) -> Option<Self> {
        let fits = (1..=MAX_AVATAR).contains(&data.len()) && media_type.len() <= MAX_MEDIA_TYPE;
        let kind = media_type.strip_prefix("image/").filter(|kind| !kind.is_empty())?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        if !fits || !kind.bytes().all(legal) {
            return None;
        }
        let digest = Sha1::digest(&data);
        let mut hash = String::with_capacity(40);
        for byte in digest {
            write!(hash, "{byte:02x}").expect("a string takes all text");
        }
        Some(Self { media_type: media_type.to_owned(), data, hash })
    }

    /// Its media type, `image/…`.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Its bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The SHA-1 of its bytes in hex, by which clients know it (XEP-0153 §4).
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

impl Room {
    pub(super) fn set_avatar(
        &mut self,
        by: &By,
        avatar: Option<Arc<Avatar>>,
    ) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        if self.avatar == avatar {
            return Ok(vec![]);
        }
        self.avatar = avatar;
        Ok(vec![Fact::AvatarChanged])
    }
}

/// The largest picture, in bytes.
pub const MAX_AVATAR: usize = 64 * 1024;
/// The longest name of a media type, in bytes (RFC 6838 §4.2).
const MAX_MEDIA_TYPE: usize = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_pictures_of_a_bearable_size() {
        let avatar = Avatar::new("image/png", b"abc".to_vec()).unwrap();
        assert_eq!(avatar.hash(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        for (media_type, size, taken) in [
            ("image/svg+xml", 1, true),
            ("image/png", MAX_AVATAR, true),
            ("image/png", MAX_AVATAR + 1, false),
            ("image/png", 0, false),
            ("image/", 1, false),
            ("text/html", 1, false),
            ("image/png\r\n", 1, false),
            ("", 1, false),
        ] {
            assert_eq!(Avatar::new(media_type, vec![0; size]).is_some(), taken, "{media_type:?}");
        }
        assert!(Avatar::new(&format!("image/{}", "x".repeat(200)), vec![0]).is_none());
    }
}
