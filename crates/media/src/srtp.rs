//! SRTP and SRTCP: packets that only the two ends read, and that nobody else can make (RFC 3711, RFC 6188,
//! RFC 7714).
//!
//! A context holds session keys, not expanded ones: expanding is a few dozen nanoseconds with AES in hardware, and a
//! context stays small enough that thousands of legs fit a cache. Nothing allocates. Master keys come from
//! signalling; there is no MKI, no key derivation rate and no unencrypted RTCP, which signalling refuses as well.

use std::fmt;

use aes::cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256, Block};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{AesGcm, Nonce, Tag};
use ctr::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use crate::rtp::{HEADER_LEN, be32};

/// The most bytes that SRTP or SRTCP adds to a packet.
pub const MAX_OVERHEAD: usize = 4 + 16;
/// Streams (SSRCs) that one master key of the peer may carry; packets of more are dropped. Forgetting one instead
/// would let its old packets be played again.
pub const MAX_STREAMS: usize = 8;

/// What packets are protected with, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// AES-256 in Galois/counter mode (RFC 7714).
    AeadAes256Gcm,
    /// AES-128 in Galois/counter mode.
    AeadAes128Gcm,
    /// AES-256 in counter mode, HMAC-SHA1 of 80 bits (RFC 6188).
    AesCm256HmacSha1_80,
    /// AES-128 in counter mode, HMAC-SHA1 of 80 bits (RFC 3711): what everybody has.
    AesCm128HmacSha1_80,
    /// The same with 32 bits for RTP; RTCP has 80 (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
}

impl Suite {
    /// All of them, best first.
    pub const ALL: [Self; 5] = [
        Self::AeadAes256Gcm,
        Self::AeadAes128Gcm,
        Self::AesCm256HmacSha1_80,
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
    ];

    /// Its name in `a=crypto` (RFC 4568 §6.2, RFC 6188 §4, RFC 7714 §14.2).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// The length of its master key and salt together, in bytes.
    #[must_use]
    pub const fn master_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AesCm256HmacSha1_80 => 32,
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 16,
        }
    }

    const fn salt_len(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    const fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes256Gcm | Self::AeadAes128Gcm)
    }

    const fn tag_len(self, kind: Kind) -> usize {
        match (self, kind) {
            (Self::AeadAes256Gcm | Self::AeadAes128Gcm, _) => 16,
            (Self::AesCm128HmacSha1_32, Kind::Rtp) => 4,
            (Self::AesCm256HmacSha1_80 | Self::AesCm128HmacSha1_80, _)
            | (Self::AesCm128HmacSha1_32, Kind::Rtcp) => 10,
        }
    }
}

/// What signalling agreed on: each side's master key with its salt behind it.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// With which suite, both ways.
    pub suite: Suite,
    /// For what we send, [`Suite::master_len`] bytes.
    pub ours: Vec<u8>,
    /// For what they send.
    pub theirs: Vec<u8>,
}

impl fmt::Debug for Keys {
    /// Keeps the keys to itself: logs are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Why a packet was not taken, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// Too short, or its header runs over its end; or the buffer has no room.
    #[error("malformed")]
    Malformed,
    /// Not made with the key, or changed on the way.
    #[error("not authentic")]
    NotAuthentic,
    /// Came before, or too late to tell.
    #[error("replayed")]
    Replayed,
    /// Of one stream more than [`MAX_STREAMS`], or beyond what a key may protect.
    #[error("too many for one key")]
    Exhausted,
}

/// RTP or RTCP: each has keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rtp,
    Rtcp,
}

/// The session keys of one direction and kind (RFC 3711 §4.3).
struct Session {
    suite: Suite,
    kind: Kind,
    key: [u8; 32],
    salt: [u8; 14],
    mac: Hmac<Sha1>,
}

impl Session {
    fn derive(suite: Suite, kind: Kind, master: &[u8]) -> Self {
        let (master_key, master_salt) = master.split_at(suite.key_len());
        let label = match kind {
            Kind::Rtp => 0,
            Kind::Rtcp => 3,
        };
        let (mut key, mut auth, mut salt) = ([0; 32], [0; 20], [0; 14]);
        derive(master_key, master_salt, label, &mut key[..suite.key_len()]);
        derive(master_key, master_salt, label + 1, &mut auth);
        derive(master_key, master_salt, label + 2, &mut salt[..suite.salt_len()]);
        let mac =
            <Hmac<Sha1> as Mac>::new_from_slice(&auth).expect("HMAC takes keys of any length");
        Self { suite, kind, key, salt, mac }
    }

    /// Encrypts what lies behind `clear` bytes, and returns the tag over all of it and `trailer`: the rollover
    /// counter, or SRTCP's own index.
    fn seal(
        &self,
        packet: &mut [u8],
        clear: usize,
        ssrc: u32,
        index: u64,
        trailer: [u8; 4],
    ) -> [u8; 16] {
        let mut tag = [0; 16];
        if self.suite.is_aead() {
            let (aad, aad_len) = self.aad(&packet[..clear], trailer);
            let text = &mut packet[clear..];
            let sealed = match self.suite.key_len() {
                32 => gcm::<Aes256>(&self.key).encrypt_in_place_detached(
                    &self.nonce(ssrc, index),
                    &aad[..aad_len],
                    text,
                ),
                _ => gcm::<Aes128>(&self.key[..16]).encrypt_in_place_detached(
                    &self.nonce(ssrc, index),
                    &aad[..aad_len],
                    text,
                ),
            };
            tag = sealed.expect("packets are far shorter than what GCM can take").into();
        } else {
            self.keystream(&mut packet[clear..], ssrc, index);
            let mut mac = self.mac.clone();
            mac.update(packet);
            mac.update(&trailer);
            tag.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        tag
    }

    /// Decrypts in place what [`Self::seal`] encrypted; what is not authentic is left as it is, or wiped.
    fn open(
        &self,
        packet: &mut [u8],
        clear: usize,
        ssrc: u32,
        index: u64,
        trailer: [u8; 4],
        tag: &[u8],
    ) -> Result<(), SrtpError> {
        if self.suite.is_aead() {
            let (aad, aad_len) = self.aad(&packet[..clear], trailer);
            let (text, tag) = (&mut packet[clear..], Tag::from_slice(tag));
            let nonce = self.nonce(ssrc, index);
            let opened = match self.suite.key_len() {
                32 => gcm::<Aes256>(&self.key).decrypt_in_place_detached(
                    &nonce,
                    &aad[..aad_len],
                    text,
                    tag,
                ),
                _ => gcm::<Aes128>(&self.key[..16]).decrypt_in_place_detached(
                    &nonce,
                    &aad[..aad_len],
                    text,
                    tag,
                ),
            };
            return opened.map_err(|_| SrtpError::NotAuthentic);
        }
        let mut mac = self.mac.clone();
        mac.update(packet);
        mac.update(&trailer);
        mac.verify_truncated_left(tag).map_err(|_| SrtpError::NotAuthentic)?;
        self.keystream(&mut packet[clear..], ssrc, index);
        Ok(())
    }

    /// What GCM authenticates besides: the header, and of SRTCP its index (RFC 7714 §8.2, §9.2).
    fn aad(&self, header: &[u8], trailer: [u8; 4]) -> ([u8; MAX_HEADER + 4], usize) {
        let mut aad = [0; MAX_HEADER + 4];
        let mut len = header.len();
        aad[..len].copy_from_slice(header);
        if self.kind == Kind::Rtcp {
            aad[len..len + 4].copy_from_slice(&trailer);
            len += 4;
        }
        (aad, len)
    }

    /// RFC 7714 §8.1, §9.1.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in nonce.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        nonce.into()
    }

    /// RFC 3711 §4.1.1.
    fn keystream(&self, text: &mut [u8], ssrc: u32, index: u64) {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in iv.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        match self.suite.key_len() {
            32 => Ctr128BE::<Aes256>::new(&self.key.into(), &iv.into()).apply_keystream(text),
            _ => {
                let key = aes::cipher::Key::<Aes128>::from_slice(&self.key[..16]);
                Ctr128BE::<Aes128>::new(key, &iv.into()).apply_keystream(text);
            }
        }
    }
}

fn gcm<C>(key: &[u8]) -> AesGcm<C, aes_gcm::aead::consts::U12>
where
    AesGcm<C, aes_gcm::aead::consts::U12>: KeyInit,
{
    <AesGcm<C, _> as KeyInit>::new_from_slice(key).expect("the key has the cipher's length")
}

/// The key derivation function, with a rate of zero (RFC 3711 §4.3.1, RFC 6188 §3, RFC 7714 §11).
fn derive(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) {
    let mut input = [0; 16];
    input[..salt.len()].copy_from_slice(salt);
    input[7] ^= label;
    let aes128 = Aes128::new_from_slice(key);
    let aes256 = Aes256::new_from_slice(key);
    for (counter, chunk) in out.chunks_mut(16).enumerate() {
        let mut block = Block::from(input);
        block[15] = counter as u8;
        match (&aes128, &aes256) {
            (Ok(aes), _) => aes.encrypt_block(&mut block),
            (_, Ok(aes)) => aes.encrypt_block(&mut block),
            (Err(_), Err(_)) => unreachable!("every suite has keys of 16 or 32 bytes"),
        }
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
}

/// What we send, of one SSRC.
pub struct Outgoing {
    rtp: Session,
    rtcp: Session,
    /// How often the sequence number has wrapped, and the last one (RFC 3711 §3.3.1).
    rollovers: u32,
    last: Option<u16>,
    rtcp_index: u32,
}

impl Outgoing {
    /// A context whose rollover counter is zero. `master` has [`Suite::master_len`] bytes.
    #[must_use]
    pub fn new(suite: Suite, master: &[u8]) -> Self {
        Self {
            rtp: Session::derive(suite, Kind::Rtp, master),
            rtcp: Session::derive(suite, Kind::Rtcp, master),
            rollovers: 0,
            last: None,
            rtcp_index: 0,
        }
    }

    /// Protects the RTP packet of `len` bytes at the start of `buffer`, in place; returns its new length. Packets
    /// have to come in the order of their sequence numbers.
    ///
    /// # Errors
    /// It is no RTP packet, or the buffer has no room for the tag.
    pub fn protect(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let tag_len = self.rtp.suite.tag_len(Kind::Rtp);
        let packet = buffer.get_mut(..len + tag_len).ok_or(SrtpError::Malformed)?;
        let (packet, tag) = packet.split_at_mut(len);
        let clear = header_len(packet).ok_or(SrtpError::Malformed)?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        if self.last.is_some_and(|last| sequence < last) {
            self.rollovers = self.rollovers.wrapping_add(1);
        }
        self.last = Some(sequence);
        let index = u64::from(self.rollovers) << 16 | u64::from(sequence);
        let ssrc = be32(packet, 8);
        let made = self.rtp.seal(packet, clear, ssrc, index, self.rollovers.to_be_bytes());
        tag.copy_from_slice(&made[..tag_len]);
        Ok(len + tag_len)
    }

    /// Protects the RTCP packet of `len` bytes at the start of `buffer`, in place; returns its new length.
    ///
    /// # Errors
    /// It is no RTCP packet, the buffer has no room, or 2³¹ packets were protected.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let suite = self.rtcp.suite;
        let tag_len = suite.tag_len(Kind::Rtcp);
        let packet = buffer.get_mut(..len + tag_len + 4).ok_or(SrtpError::Malformed)?;
        if len < RTCP_CLEAR {
            return Err(SrtpError::Malformed);
        }
        if self.rtcp_index >= ENCRYPTED {
            return Err(SrtpError::Exhausted);
        }
        let (packet, rest) = packet.split_at_mut(len);
        let trailer = (self.rtcp_index | ENCRYPTED).to_be_bytes();
        let ssrc = be32(packet, 4);
        let made = self.rtcp.seal(packet, RTCP_CLEAR, ssrc, self.rtcp_index.into(), trailer);
        // GCM's tag is part of the cipher text, and so before the index; HMAC's is behind it.
        let (tag, index) = if suite.is_aead() { (0, tag_len) } else { (4, 0) };
        rest[index..index + 4].copy_from_slice(&trailer);
        rest[tag..tag + tag_len].copy_from_slice(&made[..tag_len]);
        self.rtcp_index += 1;
        Ok(len + tag_len + 4)
    }
}

/// What they send, of a few SSRCs.
pub struct Incoming {
    rtp: Session,
    rtcp: Session,
    streams: [Option<Stream>; MAX_STREAMS],
}

/// What has come of one SSRC.
#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
}

/// The indices that came: the highest, and which of the 64 up to it (RFC 3711 §3.3.2).
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    highest: Option<u64>,
    seen: u64,
}

impl Incoming {
    /// A context that has seen nothing. `master` has [`Suite::master_len`] bytes.
    #[must_use]
    pub fn new(suite: Suite, master: &[u8]) -> Self {
        Self {
            rtp: Session::derive(suite, Kind::Rtp, master),
            rtcp: Session::derive(suite, Kind::Rtcp, master),
            streams: [None; MAX_STREAMS],
        }
    }

    /// Writes the RTP packet within `packet` to `out` and returns its length. What is refused changes nothing.
    ///
    /// # Errors
    /// It is not authentic, came before, or is no SRTP.
    pub fn unprotect(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, SrtpError> {
        let tag_len = self.rtp.suite.tag_len(Kind::Rtp);
        let len = packet.len().checked_sub(tag_len).ok_or(SrtpError::Malformed)?;
        let (packet, tag) = packet.split_at(len);
        let clear = header_len(packet).ok_or(SrtpError::Malformed)?;
        let out = out.get_mut(..len).ok_or(SrtpError::Malformed)?;
        let (ssrc, sequence) = (be32(packet, 8), u16::from_be_bytes([packet[2], packet[3]]));
        let (slot, mut stream) = self.stream(ssrc)?;
        let index = stream.rtp.guess(sequence).ok_or(SrtpError::Replayed)?;
        stream.rtp.take(index)?;
        out.copy_from_slice(packet);
        let rollovers = (index >> 16) as u32;
        self.rtp.open(out, clear, ssrc, index, rollovers.to_be_bytes(), tag)?;
        self.streams[slot] = Some(stream);
        Ok(len)
    }

    /// Writes the RTCP packet within `packet` to `out` and returns its length. What is refused changes nothing.
    ///
    /// # Errors
    /// It is not authentic or not encrypted, came before, or is no SRTCP.
    pub fn unprotect_rtcp(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, SrtpError> {
        let suite = self.rtcp.suite;
        let tag_len = suite.tag_len(Kind::Rtcp);
        let len = packet.len().checked_sub(tag_len + 4).ok_or(SrtpError::Malformed)?;
        if len < RTCP_CLEAR {
            return Err(SrtpError::Malformed);
        }
        let (packet, rest) = packet.split_at(len);
        let (tag, index) = if suite.is_aead() { (0, tag_len) } else { (4, 0) };
        let (tag, word) = (&rest[tag..tag + tag_len], be32(rest, index));
        if word & ENCRYPTED == 0 {
            return Err(SrtpError::NotAuthentic);
        }
        let out = out.get_mut(..len).ok_or(SrtpError::Malformed)?;
        let (ssrc, index) = (be32(packet, 4), u64::from(word & !ENCRYPTED));
        let (slot, mut stream) = self.stream(ssrc)?;
        stream.rtcp.take(index)?;
        out.copy_from_slice(packet);
        self.rtcp.open(out, RTCP_CLEAR, ssrc, index, word.to_be_bytes(), tag)?;
        self.streams[slot] = Some(stream);
        Ok(len)
    }

    /// What is known of an SSRC, and where to keep it: a new one takes the first free place.
    fn stream(&self, ssrc: u32) -> Result<(usize, Stream), SrtpError> {
        for (slot, stream) in self.streams.iter().enumerate() {
            match stream {
                Some(stream) if stream.ssrc == ssrc => return Ok((slot, *stream)),
                Some(_) => {}
                None => {
                    let (rtp, rtcp) = (Window::default(), Window::default());
                    return Ok((slot, Stream { ssrc, rtp, rtcp }));
                }
            }
        }
        Err(SrtpError::Exhausted)
    }
}

impl Window {
    /// The index that a sequence number most likely means (RFC 3711 §3.3.1); `None` for one before the first.
    fn guess(&self, sequence: u16) -> Option<u64> {
        let Some(highest) = self.highest else { return Some(sequence.into()) };
        let ahead = sequence.wrapping_sub(highest as u16) as i16;
        highest.checked_add_signed(ahead.into())
    }

    /// Notes an index, unless it came before or is too old.
    fn take(&mut self, index: u64) -> Result<(), SrtpError> {
        match self.highest {
            None => (self.highest, self.seen) = (Some(index), 1),
            Some(highest) if index > highest => {
                self.seen =
                    self.seen.checked_shl((index - highest).min(64) as u32).unwrap_or(0) | 1;
                self.highest = Some(index);
            }
            Some(highest) => {
                let bit = 1_u64.checked_shl((highest - index).min(64) as u32).unwrap_or(0);
                if bit == 0 || self.seen & bit != 0 {
                    return Err(SrtpError::Replayed);
                }
                self.seen |= bit;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("suite", &self.rtp.suite).finish_non_exhaustive()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("suite", &self.rtp.suite).finish_non_exhaustive()
    }
}

/// How many bytes stay clear: fixed header, CSRCs, extension.
fn header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first().filter(|first| **first >> 6 == 2)?;
    let mut len = HEADER_LEN + usize::from(first & 0x0F) * 4;
    if first & 0x10 != 0 {
        let words = packet.get(len + 2..len + 4)?;
        len += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    (len <= packet.len() && len <= MAX_HEADER).then_some(len)
}

/// What of SRTCP stays clear: its first header and SSRC.
const RTCP_CLEAR: usize = 8;
/// The flag before SRTCP's index.
const ENCRYPTED: u32 = 1 << 31;
/// The longest header with its extension that is taken, in bytes.
const MAX_HEADER: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    /// A session with these keys, as test vectors give them.
    fn session(suite: Suite, kind: Kind, key: &str, salt: &str) -> Session {
        let mut session = Session::derive(suite, kind, &vec![0; suite.master_len()]);
        let (key, salt) = (bytes(key), bytes(salt));
        session.key[..key.len()].copy_from_slice(&key);
        session.salt[..salt.len()].copy_from_slice(&salt);
        session
    }

    #[test]
    fn derives_the_keys_of_the_rfcs() {
        let check = |suite: Suite, master: &str, key: &str, auth: &str, salt: &str| {
            let master = bytes(master);
            let (master_key, master_salt) = master.split_at(suite.key_len());
            let mut found = vec![0; bytes(auth).len()];
            derive(master_key, master_salt, 1, &mut found);
            assert_eq!(found, bytes(auth));
            let session = Session::derive(suite, Kind::Rtp, &master);
            assert_eq!(session.key[..suite.key_len()], bytes(key));
            assert_eq!(session.salt[..], bytes(salt));
        };
        // RFC 3711 B.3.
        check(
            Suite::AesCm128HmacSha1_80,
            "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6",
            "C61E7A93744F39EE10734AFE3FF7A087",
            "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
             E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25
             6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2",
            "30CBBC08863D8C85D49DB34A9AE1",
        );
        // RFC 6188 §7.2.
        check(
            Suite::AesCm256HmacSha1_80,
            "f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6
             3b04803de51ee7c96423ab5b78d2",
            "5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4",
            "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05",
            "fa31791685ca444a9e07c6c64e93",
        );
    }

    #[test]
    fn makes_the_keystream_of_the_rfc() {
        // RFC 3711 B.2.
        let suite = Suite::AesCm128HmacSha1_80;
        let (key, salt) = ("2B7E151628AED2A6ABF7158809CF4F3C", "F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
        let mut stream = [0; 48];
        session(suite, Kind::Rtp, key, salt).keystream(&mut stream, 0, 0);
        let expected = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
                        41E95B3BB0A2E8DD477901E4FCA894C0";
        assert_eq!(stream[..], bytes(expected));
    }

    const SHORT_KEY: &str = "000102030405060708090a0b0c0d0e0f";
    const LONG_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const SALT: &str = "517569642070726f2071756f";
    const HEADER: &str = "8040f17b8041f8d35501a0b2";

    #[test]
    fn gcm_is_that_of_rfc_7714() {
        let text = "47616c6c696120657374206f6d6e697320646976697361 20696e207061727465732074726573";
        for (suite, key, sealed) in [
            (
                Suite::AeadAes128Gcm,
                SHORT_KEY,
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b
                 36de3adf8833899d7f27beb16a9152cf765ee4390cce",
            ),
            (
                Suite::AeadAes256Gcm,
                LONG_KEY,
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f
                 1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
            ),
        ] {
            let mut packet = bytes(&format!("{HEADER}{text}"));
            let plain = packet.clone();
            let session = session(suite, Kind::Rtp, key, SALT);
            let tag = session.seal(&mut packet, 12, 0x5501_a0b2, 0xf17b, [0; 4]);
            assert_eq!([&packet[..], &tag].concat(), bytes(&format!("{HEADER}{sealed}")));
            session.open(&mut packet, 12, 0x5501_a0b2, 0xf17b, [0; 4], &tag).unwrap();
            assert_eq!(packet, plain);
        }
    }

    #[test]
    fn gcm_of_rtcp_is_that_of_rfc_7714() {
        // §17.1.
        let master = vec![0; Suite::AeadAes128Gcm.master_len()];
        let mut sender = Outgoing::new(Suite::AeadAes128Gcm, &master);
        sender.rtcp = session(Suite::AeadAes128Gcm, Kind::Rtcp, SHORT_KEY, SALT);
        sender.rtcp_index = 0x5d4;
        let plain = bytes(
            "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61
             deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
        );
        let mut packet = [0; 100];
        packet[..plain.len()].copy_from_slice(&plain);
        let len = sender.protect_rtcp(&mut packet, plain.len()).unwrap();
        let expected = "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32d
             c676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf872 45d9eade800005d4";
        assert_eq!(packet[..len], bytes(expected));
        let mut receiver = Incoming::new(Suite::AeadAes128Gcm, &master);
        receiver.rtcp = session(Suite::AeadAes128Gcm, Kind::Rtcp, SHORT_KEY, SALT);
        let mut out = [0; 100];
        assert_eq!(receiver.unprotect_rtcp(&packet[..len], &mut out), Ok(plain.len()));
        assert_eq!(out[..plain.len()], plain);
    }

    fn master(suite: Suite, seed: u8) -> Vec<u8> {
        (0..suite.master_len()).map(|n| seed.wrapping_add((n as u8).wrapping_mul(7))).collect()
    }

    fn pair(suite: Suite) -> (Outgoing, Incoming) {
        (Outgoing::new(suite, &master(suite, 1)), Incoming::new(suite, &master(suite, 1)))
    }

    fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend(b"speech");
        packet
    }

    fn protect(sender: &mut Outgoing, packet: &[u8]) -> Vec<u8> {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + MAX_OVERHEAD, 0);
        let len = sender.protect(&mut buffer, packet.len()).unwrap();
        buffer.truncate(len);
        buffer
    }

    fn unprotect(receiver: &mut Incoming, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let mut out = vec![0; packet.len()];
        let len = receiver.unprotect(packet, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    #[test]
    fn what_was_changed_or_came_before_is_refused_and_changes_nothing() {
        for suite in Suite::ALL {
            let (mut sender, mut receiver) = pair(suite);
            let plain = packet(7, 1);
            let sent = protect(&mut sender, &plain);
            assert!(!sent.windows(6).any(|bytes| bytes == b"speech"), "{suite:?}");
            for at in 0..sent.len() {
                let mut changed = sent.clone();
                changed[at] ^= 1;
                assert!(unprotect(&mut receiver, &changed).is_err(), "{suite:?}: byte {at}");
                assert!(unprotect(&mut receiver, &sent[..at]).is_err(), "{suite:?}: {at} bytes");
            }
            let mut stranger = Outgoing::new(suite, &master(suite, 2));
            let forged = protect(&mut stranger, &packet(7, 2));
            assert_eq!(unprotect(&mut receiver, &forged), Err(SrtpError::NotAuthentic));
            assert_eq!(unprotect(&mut receiver, &sent), Ok(plain));
            assert_eq!(unprotect(&mut receiver, &sent), Err(SrtpError::Replayed));
        }
    }

    #[test]
    fn counts_rollovers_and_remembers_64_packets() {
        let (mut sender, mut receiver) = pair(Suite::AesCm128HmacSha1_80);
        let sent: Vec<_> = (0..140_000_u32)
            .map(|n| protect(&mut sender, &packet(7, (n + 60_000) as u16)))
            .collect();
        // In pairs that came the wrong way round, over two wraps.
        for pair in sent[..139_000].chunks(2) {
            for packet in pair.iter().rev() {
                unprotect(&mut receiver, packet).unwrap();
            }
        }
        assert_eq!(unprotect(&mut receiver, &sent[138_999]), Err(SrtpError::Replayed));
        // Of the last ones, one is 64 packets old: too late to tell.
        unprotect(&mut receiver, &sent[139_064]).unwrap();
        assert_eq!(unprotect(&mut receiver, &sent[139_000]), Err(SrtpError::Replayed));
        unprotect(&mut receiver, &sent[139_001]).unwrap();
        assert_eq!(unprotect(&mut receiver, &sent[139_001]), Err(SrtpError::Replayed));
        // A long gap within half a turn is bridged.
        unprotect(&mut receiver, &sent[139_999]).unwrap();
    }

    #[test]
    fn one_key_carries_a_few_streams_and_none_is_forgotten() {
        let (_, mut receiver) = pair(Suite::AeadAes128Gcm);
        let sent: Vec<_> = (0..=MAX_STREAMS as u32)
            .map(|ssrc| protect(&mut pair(Suite::AeadAes128Gcm).0, &packet(ssrc, 9)))
            .collect();
        for packet in &sent[..MAX_STREAMS] {
            unprotect(&mut receiver, packet).unwrap();
        }
        assert_eq!(unprotect(&mut receiver, &sent[MAX_STREAMS]), Err(SrtpError::Exhausted));
        for packet in &sent[..MAX_STREAMS] {
            assert_eq!(unprotect(&mut receiver, packet), Err(SrtpError::Replayed));
        }
    }

    #[test]
    fn rtcp_is_encrypted_and_never_taken_twice_or_in_the_clear() {
        for suite in Suite::ALL {
            let (mut sender, mut receiver) = pair(suite);
            let plain = [0x80, 201, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4];
            for _ in 0..3 {
                let mut buffer = [0; 64];
                buffer[..12].copy_from_slice(&plain);
                let len = sender.protect_rtcp(&mut buffer, 12).unwrap();
                assert_ne!(buffer[8..12], plain[8..]);
                let mut out = [0; 64];
                let index = if suite.is_aead() { len - 4 } else { 12 };
                let mut clear = buffer;
                clear[index] &= 0x7F;
                assert!(receiver.unprotect_rtcp(&clear[..len], &mut out).is_err());
                assert_eq!(receiver.unprotect_rtcp(&buffer[..len], &mut out), Ok(12), "{suite:?}");
                assert_eq!(out[..12], plain);
                let again = receiver.unprotect_rtcp(&buffer[..len], &mut out);
                assert_eq!(again, Err(SrtpError::Replayed));
                assert_eq!(sender.protect_rtcp(&mut buffer, 60), Err(SrtpError::Malformed));
            }
        }
    }

    #[test]
    fn contexts_are_small_and_keep_their_keys_to_themselves() {
        assert!(size_of::<Outgoing>() <= 1_024, "{}", size_of::<Outgoing>());
        assert!(size_of::<Incoming>() <= 1_024, "{}", size_of::<Incoming>());
        let suite = Suite::AeadAes256Gcm;
        let keys = Keys { suite, ours: vec![0xAB; 44], theirs: vec![0xCD; 44] };
        let (sender, receiver) = pair(suite);
        let shown = format!("{keys:?} {sender:?} {receiver:?}");
        let none = "{ suite: AeadAes256Gcm, .. }";
        assert_eq!(shown, format!("Keys {none} Outgoing {none} Incoming {none}"));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), suite in 0..5usize) {
            let (mut sender, mut receiver) = pair(Suite::ALL[suite]);
            let mut out = [0; 300];
            let _ = receiver.unprotect(&bytes, &mut out);
            let _ = receiver.unprotect_rtcp(&bytes, &mut out);
            let mut buffer = bytes.clone();
            for len in [0, bytes.len() / 2, bytes.len()] {
                let _ = sender.protect(&mut buffer, len);
                let _ = sender.protect_rtcp(&mut buffer, len);
            }
        }
    }
}
