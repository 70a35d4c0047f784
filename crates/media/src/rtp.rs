//! RTP packets, read in place and written into the caller's buffer (RFC 3550 §5.1).

/// Why bytes are not an RTP or RTCP packet. The caller drops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Ends before what its header announces.
    #[error("truncated")]
    Truncated,
    /// Not version 2.
    #[error("wrong version")]
    Version,
    /// The padding count is zero or larger than what could be padding.
    #[error("bad padding")]
    Padding,
    /// An RTCP compound packet that breaks the rules of RFC 3550 §6.1.
    #[error("bad compound packet")]
    Compound,
}

/// Length of the fixed header, in bytes.
pub const HEADER_LEN: usize = 12;

const VERSION: u8 = 2;
const ONE_BYTE: u16 = 0xBEDE;
const TWO_BYTE: u16 = 0x1000;

/// A view of one RTP packet; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    extension: Extension<'a>,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks the lengths of CSRC list, header extension and padding once, so that reading cannot fail later.
    ///
    /// # Errors
    /// [`ParseError`] when the packet is not what its header says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let first = *bytes.first().ok_or(ParseError::Truncated)?;
        if first >> 6 != VERSION {
            return Err(ParseError::Version);
        }
        let csrc_len = usize::from(first & 0x0F) * 4;
        let mut rest = bytes.get(HEADER_LEN + csrc_len..).ok_or(ParseError::Truncated)?;
        let mut extension = Extension { profile: 0, data: &[] };
        if first & 0x10 != 0 {
            let (head, tail) = rest.split_at_checked(4).ok_or(ParseError::Truncated)?;
            let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (data, tail) = tail.split_at_checked(words * 4).ok_or(ParseError::Truncated)?;
            extension = Extension { profile: u16::from_be_bytes([head[0], head[1]]), data };
            rest = tail;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(ParseError::Padding)?);
            if padding == 0 || padding > rest.len() {
                return Err(ParseError::Padding);
            }
            rest = &rest[..rest.len() - padding];
        }
        Ok(Self { bytes, extension, payload: rest })
    }

    /// The marker bit: in audio, the first packet of a talk-spurt (RFC 3551 §4.1).
    #[must_use]
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// The payload type, 0 to 127.
    #[must_use]
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7F
    }

    /// The sequence number; wraps.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// When the first sample was taken, in the codec's clock; wraps.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        be32(self.bytes, 4)
    }

    /// Who sends the stream.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        be32(self.bytes, 8)
    }

    /// Who was mixed into it, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + 'a {
        let count = usize::from(self.bytes[0] & 0x0F);
        self.bytes[HEADER_LEN..HEADER_LEN + count * 4].chunks_exact(4).map(|c| be32(c, 0))
    }

    /// The elements of the header extension, as id and data.
    pub fn extensions(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        self.extension
    }

    /// What is carried, without padding.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Walks a header extension of either form of RFC 8285; an element that overruns ends the walk, as §4.1.2 wants
/// of what cannot be understood.
#[derive(Clone, Copy, Debug)]
struct Extension<'a> {
    profile: u16,
    data: &'a [u8],
}

impl<'a> Iterator for Extension<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let one_byte = self.profile == ONE_BYTE;
        if !one_byte && self.profile & 0xFFF0 != TWO_BYTE {
            return None;
        }
        while let [0, rest @ ..] = self.data {
            self.data = rest;
        }
        let (id, len, rest) = match *self.data {
            [head, ref rest @ ..] if one_byte => (head >> 4, usize::from(head & 0x0F) + 1, rest),
            [id, len, ref rest @ ..] if !one_byte => (id, usize::from(len), rest),
            _ => return None,
        };
        match rest.split_at_checked(len) {
            // Id 15 of the one-byte form is reserved: reading stops there (§4.2).
            Some((data, rest)) if !(one_byte && id == 15) => {
                self.data = rest;
                Some((id, data))
            }
            _ => {
                self.data = &[];
                None
            }
        }
    }
}

/// The fixed header of a packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First packet of a talk-spurt.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in the codec's clock.
    pub timestamp: u32,
    /// The sender's SSRC.
    pub ssrc: u32,
}

impl Header {
    /// The header's bytes. Payloads shared by many listeners follow as a second slice of the same datagram.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = VERSION << 6;
        out[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7F;
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        out
    }
}

/// Whether a datagram on a shared port is RTCP: RTP's payload types 64 to 95 are left free for that (RFC 5761 §4).
#[must_use]
pub fn is_rtcp(bytes: &[u8]) -> bool {
    bytes.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

/// The number near `reference` of which `value` is the low 16 bits: sequence numbers, free of wrapping.
pub(crate) fn unwrap_sequence(reference: i64, value: u16) -> i64 {
    reference + i64::from(value.wrapping_sub(reference as u16) as i16)
}

/// The number near `reference` of which `value` is the low 32 bits: timestamps, free of wrapping.
pub(crate) fn unwrap_timestamp(reference: i64, value: u32) -> i64 {
    reference + i64::from(value.wrapping_sub(reference as u32) as i32)
}

/// The big-endian word at `at`, which the caller has checked to be there.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use webrtc_util::marshal::Unmarshal;

    const HEAD: [u8; 12] = [0x80, 0x6F, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8];

    fn with(first: u8, tail: &[u8]) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        bytes[0] = first;
        bytes.extend_from_slice(tail);
        bytes
    }

    #[test]
    fn reads_every_part() {
        let tail = [
            &[0, 0, 0, 9, 0, 0, 0, 8][..],                        // two CSRCs
            &[0xBE, 0xDE, 0, 2, 0x10, 0x85, 0, 0x31, 7, 7, 0, 0], // id 1, padding, id 3
            &[0xAA, 0xBB],
            &[0, 0, 3],
        ]
        .concat();
        let bytes = with(0xB2, &tail);
        let packet = Packet::parse(&bytes).unwrap();
        assert!(!packet.marker());
        assert_eq!(packet.payload_type(), 111);
        assert_eq!(packet.sequence(), 0x1234);
        assert_eq!(packet.timestamp(), 0x0102_0304);
        assert_eq!(packet.ssrc(), 0x0506_0708);
        assert_eq!(packet.csrcs().collect::<Vec<_>>(), [9, 8]);
        let elements: Vec<_> = packet.extensions().collect();
        assert_eq!(elements, [(1, &[0x85][..]), (3, &[7, 7][..])]);
        assert_eq!(packet.payload(), [0xAA, 0xBB]);
    }

    #[test]
    fn reads_both_forms_of_extension_and_stops_at_nonsense() {
        fn check(profile: u16, data: &[u8], expected: &[(u8, &[u8])]) {
            let mut tail = profile.to_be_bytes().to_vec();
            tail.extend_from_slice(&(data.len() as u16 / 4).to_be_bytes());
            tail.extend_from_slice(data);
            let bytes = with(0x90, &tail);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.extensions().collect::<Vec<_>>(), expected, "{profile:04x} {data:?}");
        }
        check(0xBEDE, &[0, 0, 0x20, 5], &[(2, &[5])]);
        check(0xBEDE, &[0xF0, 1, 0x20, 5], &[]); // id 15 ends it
        check(0xBEDE, &[0x20, 5, 0x3F, 1], &[(2, &[5])]); // overruns
        check(0x1000, &[7, 0, 9, 1, 3, 0, 0, 0], &[(7, &[]), (9, &[3])]);
        check(0x100A, &[9, 200, 3, 0], &[]);
        check(0x1000, &[0, 0, 0, 9], &[]);
        check(0x4242, &[0x20, 5, 0, 0], &[]); // somebody's own form
        check(0xBEDE, &[], &[]);
    }

    #[test]
    fn refuses_what_its_own_header_contradicts() {
        use ParseError::{Padding, Truncated, Version};
        for (bytes, error) in [
            (vec![], Truncated),
            (vec![0x80], Truncated),
            (HEAD[..11].to_vec(), Truncated),
            (with(0x00, &[]), Version),
            (with(0x40, &[]), Version),
            (with(0xC0, &[]), Version),
            (with(0x81, &[0, 0, 0]), Truncated),
            (with(0x8F, &[0; 59]), Truncated),
            (with(0x90, &[]), Truncated),
            (with(0x90, &[0xBE, 0xDE, 0]), Truncated),
            (with(0x90, &[0xBE, 0xDE, 0, 1, 1, 2, 3]), Truncated),
            (with(0x90, &[0xBE, 0xDE, 0xFF, 0xFF, 1, 2, 3, 4]), Truncated),
            (with(0xA0, &[]), Padding),
            (with(0xA0, &[1, 0]), Padding),
            (with(0xA0, &[1, 2, 4]), Padding),
        ] {
            assert_eq!(Packet::parse(&bytes).unwrap_err(), error, "{bytes:02x?}");
        }
    }

    #[test]
    fn an_independent_reader_agrees_with_our_writer() {
        for marker in [false, true] {
            let header = Header {
                marker,
                payload_type: 111,
                sequence: 65_535,
                timestamp: u32::MAX,
                ssrc: 0xDEAD_BEEF,
            };
            let mut bytes = header.to_bytes().to_vec();
            bytes.extend_from_slice(b"opus");
            let theirs = rtp::packet::Packet::unmarshal(&mut &bytes[..]).unwrap();
            assert_eq!(theirs.header.version, 2);
            assert_eq!(theirs.header.marker, marker);
            assert_eq!(theirs.header.payload_type, 111);
            assert_eq!(theirs.header.sequence_number, 65_535);
            assert_eq!(theirs.header.timestamp, u32::MAX);
            assert_eq!(theirs.header.ssrc, 0xDEAD_BEEF);
            assert_eq!(&theirs.payload[..], b"opus");
        }
    }

    #[test]
    fn counts_on_over_the_wrap() {
        assert_eq!(unwrap_sequence(65_535, 0), 65_536);
        assert_eq!(unwrap_sequence(65_536, 65_535), 65_535);
        assert_eq!(unwrap_sequence(3 << 16, 5), (3 << 16) + 5);
        assert_eq!(unwrap_timestamp(u32::MAX.into(), 959), i64::from(u32::MAX) + 960);
        assert_eq!(unwrap_timestamp(0, u32::MAX), -1);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0x80u8..0xC0) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.extensions().count() <= bytes.len());
                prop_assert!(packet.csrcs().count() <= 15);
                prop_assert!(packet.payload().len() <= bytes.len() - HEADER_LEN);
            }
            let _ = is_rtcp(&bytes);
        }
    }
}
