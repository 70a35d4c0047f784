//! Whether both halves of a service are protected alike, and no worse than before (RFC 7081 §7).
//!
//! Who sees one service takes it for one: a lock on the chat is believed of the calls. So the two are
//! compared by what people rely on: that nobody reads along ([`Privacy`]), and that a password is not given
//! away ([`Login`]). A difference is told with what would mend it. What a side once had, it is not to lose
//! in silence: [`Memory`] has each connection checked before it is used.

use std::collections::BTreeSet;

use crate::connections::Side;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// On the way to the server.
    pub privacy: Privacy,
    /// How it was proven who logs in.
    pub login: Login,
}

/// Who can read along, from everybody to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privacy {
    /// Everybody on the way.
    Open,
    /// Who can pose as the server: its certificate was not proven.
    Unproven,
    /// Who recorded it, and later breaks an old version: TLS 1.2 or less.
    Tls12,
    /// Nobody: TLS 1.3.
    Tls13,
    /// Nobody: it does not leave this machine.
    Local,
}

/// How it was proven who logs in, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Login {
    /// Not at all.
    Nothing,
    /// The password itself was sent (SASL PLAIN, HTTP Basic).
    Password,
    /// By Digest with MD5 (RFC 2617), or CRAM-MD5.
    Md5,
    /// By Digest with SHA-256 or better (RFC 8760), or SCRAM with SHA-1 (RFC 5802).
    Digest,
    /// By SCRAM with SHA-256 or better (RFC 7677).
    Scram,
    /// By SCRAM bound to the TLS connection (RFC 5802 §6): nobody stands in between.
    Bound,
    /// By a certificate (SASL EXTERNAL, TLS): there is no password to lose.
    Certificate,
}

impl Privacy {
    /// Whether it keeps anybody out; differences above are told as hints, not as warnings.
    const fn is_protected(self) -> bool {
        matches!(self, Self::Tls12 | Self::Tls13 | Self::Local)
    }
}

impl Login {
    /// The mechanism's strength where only large differences matter: those that change what somebody
    /// needs to get in.
    const fn class(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Password | Self::Md5 => 1,
            Self::Digest | Self::Scram | Self::Bound => 2,
            Self::Certificate => 3,
        }
    }
}

/// In what two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// The weaker side.
    pub weaker: Side,
    /// What it lacks.
    pub lacks: Lacks,
    /// What would mend it.
    pub mend: Mend,
}

/// What a side lacks that the other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lacks {
    /// Encryption.
    Encryption,
    /// A server that proved who it is.
    Proof,
    /// The newer version of TLS.
    Version,
    /// A log-in that is as good.
    Login,
}

/// What brings the weaker side up. The client offers it; the person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mend {
    /// Connect by TLS, and by nothing else.
    RequireTls,
    /// Require a valid certificate.
    RequireProof,
    /// Require TLS 1.3.
    RequireTls13,
    /// Ask the server for a better mechanism, and take no worse one.
    RequireLogin,
}

/// Compares the two sides of a service.
pub fn compare(chat: Protection, voice: Protection) -> Vec<Mismatch> {
    let mut found = vec![];
    let weaker = |chat_is_weaker| if chat_is_weaker { Side::Chat } else { Side::Voice };
    let (low, high) = (chat.privacy.min(voice.privacy), chat.privacy.max(voice.privacy));
    let lacks = match (low, high) {
        // What stays in the machine needs no TLS.
        (low, high) if low == high || !high.is_protected() && low == Privacy::Open => None,
        (Privacy::Open, _) => Some((Lacks::Encryption, Mend::RequireTls)),
        (Privacy::Unproven, _) => Some((Lacks::Proof, Mend::RequireProof)),
        (Privacy::Tls12, Privacy::Tls13) => Some((Lacks::Version, Mend::RequireTls13)),
        (Privacy::Tls12 | Privacy::Tls13 | Privacy::Local, _) => None,
    };
    if let Some((lacks, mend)) = lacks {
        found.push(Mismatch { weaker: weaker(chat.privacy < voice.privacy), lacks, mend });
    }
    if chat.login.class() != voice.login.class() {
        let weaker = weaker(chat.login < voice.login);
        found.push(Mismatch { weaker, lacks: Lacks::Login, mend: Mend::RequireLogin });
    }
    found
}

/// What each side is known to be capable of: the best that was seen, from the first connection on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    chat: Option<Protection>,
    voice: Option<Protection>,
}

/// In what a connection is worse than one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Downgrade {
    /// The way was better protected.
    Privacy {
        /// Then.
        before: Privacy,
        /// Now.
        now: Privacy,
    },
    /// The log-in was better.
    Login {
        /// Then.
        before: Login,
        /// Now.
        now: Login,
    },
}

impl Memory {
    /// Judges a connection before it is used: nothing is wrong, and it is remembered; or it is worse than
    /// before, and is to be ended ([`Fault::NotTrusted`](crate::connections::Fault::NotTrusted)) until the
    /// person has seen why. That is asked before the password is sent, where the mechanism is known.
    pub fn check(&mut self, side: Side, now: Protection) -> BTreeSet<Downgrade> {
        let known = match side {
            Side::Chat => &mut self.chat,
            Side::Voice => &mut self.voice,
        };
        let Some(before) = *known else {
            *known = Some(now);
            return BTreeSet::new();
        };
        let mut worse = BTreeSet::new();
        if now.privacy < before.privacy {
            worse.insert(Downgrade::Privacy { before: before.privacy, now: now.privacy });
        }
        if now.login < before.login {
            worse.insert(Downgrade::Login { before: before.login, now: now.login });
        }
        if worse.is_empty() {
            *known = Some(now);
        }
        worse
    }

    /// The person has seen that a side is worse than before, and wants it.
    pub fn accept(&mut self, side: Side, now: Protection) {
        match side {
            Side::Chat => self.chat = Some(now),
            Side::Voice => self.voice = Some(now),
        }
    }

    /// What is remembered of a side: to be stored with the account, where others cannot change it.
    pub fn known(&self, side: Side) -> Option<Protection> {
        match side {
            Side::Chat => self.chat,
            Side::Voice => self.voice,
        }
    }
}

/// How SASL's mechanism logs in (RFC 6120 §6); `None` if it is none that is known.
pub fn sasl(mechanism: &str) -> Option<Login> {
    Some(match mechanism.to_ascii_uppercase().as_str() {
        "EXTERNAL" => Login::Certificate,
        "PLAIN" | "LOGIN" => Login::Password,
        "CRAM-MD5" | "DIGEST-MD5" => Login::Md5,
        "SCRAM-SHA-1" => Login::Digest,
        "SCRAM-SHA-256" | "SCRAM-SHA-512" => Login::Scram,
        "SCRAM-SHA-1-PLUS" | "SCRAM-SHA-256-PLUS" | "SCRAM-SHA-512-PLUS" => Login::Bound,
        "ANONYMOUS" => Login::Nothing,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Privacy, &str); 5] = [
        (Privacy::Open, "open"),
        (Privacy::Unproven, "unproven"),
        (Privacy::Tls12, "1.2"),
        (Privacy::Tls13, "1.3"),
        (Privacy::Local, "local"),
    ];

    #[test]
    fn both_sides_are_to_be_protected_alike() {
        use Login::{Certificate, Digest, Md5, Nothing, Password, Scram};
        let check = |chat: (&str, Login), voice: (&str, Login), expected: &[&str]| {
            let side = |(way, login): (&str, Login)| {
                let privacy = ALL.iter().find(|(_, name)| *name == way).unwrap().0;
                Protection { privacy, login }
            };
            let found = compare(side(chat), side(voice));
            let found: Vec<_> = found
                .iter()
                .map(|one| format!("{:?} {:?} {:?}", one.weaker, one.lacks, one.mend))
                .collect();
            assert_eq!(found, expected, "{chat:?} {voice:?}");
            // Whichever of the two it is.
            let mirrored = compare(side(voice), side(chat));
            assert_eq!(mirrored.len(), found.len());
        };
        check(("1.3", Scram), ("1.3", Digest), &[]);
        check(("1.3", Scram), ("open", Digest), &["Voice Encryption RequireTls"]);
        check(("open", Scram), ("1.3", Digest), &["Chat Encryption RequireTls"]);
        check(("1.3", Scram), ("unproven", Digest), &["Voice Proof RequireProof"]);
        check(("unproven", Scram), ("open", Digest), &[]);
        check(("1.3", Scram), ("1.2", Digest), &["Voice Version RequireTls13"]);
        check(("local", Scram), ("1.3", Digest), &[]);
        check(("local", Scram), ("open", Digest), &["Voice Encryption RequireTls"]);
        check(("open", Scram), ("open", Digest), &[]);
        // The pairs that RFC 7081 §7 names.
        check(("1.3", Scram), ("1.3", Md5), &["Voice Login RequireLogin"]);
        check(("1.3", Certificate), ("1.3", Digest), &["Voice Login RequireLogin"]);
        check(("1.3", Password), ("1.3", Digest), &["Chat Login RequireLogin"]);
        check(("1.3", Scram), ("1.3", Nothing), &["Voice Login RequireLogin"]);
        let both = &["Voice Encryption RequireTls", "Voice Login RequireLogin"];
        check(("1.3", Certificate), ("open", Md5), both);
    }

    #[test]
    fn no_side_gets_worse_in_silence() {
        let mut memory = Memory::default();
        let with = |privacy, login| Protection { privacy, login };
        let good = with(Privacy::Tls12, Login::Scram);
        for side in Side::ALL {
            assert!(memory.check(side, good).is_empty());
            let better = with(Privacy::Tls13, Login::Scram);
            assert!(memory.check(side, better).is_empty());
            let wiretap = with(Privacy::Open, Login::Scram);
            let lost = Downgrade::Privacy { before: Privacy::Tls13, now: Privacy::Open };
            assert_eq!(memory.check(side, wiretap), [lost].into());
            // It stays so however often it is tried, and what was better is remembered.
            assert_eq!(memory.check(side, wiretap).len(), 1);
            assert_eq!(memory.check(side, good).len(), 1);
            let worst = with(Privacy::Unproven, Login::Password);
            assert_eq!(memory.check(side, worst).len(), 2);
            assert_eq!(memory.known(side), Some(better));
            // Until the person wants it.
            memory.accept(side, worst);
            assert!(memory.check(side, worst).is_empty());
            assert!(memory.check(side, good).is_empty());
            assert_eq!(memory.check(side, worst).len(), 2);
        }
    }

    #[test]
    fn mechanisms_have_their_strength() {
        let order = ["ANONYMOUS", "PLAIN", "DIGEST-MD5", "SCRAM-SHA-1", "scram-sha-256"];
        let more = ["SCRAM-SHA-256-PLUS", "EXTERNAL"];
        let all: Vec<_> = order.iter().chain(&more).map(|name| sasl(name).unwrap()).collect();
        assert!(all.is_sorted() && all.windows(2).all(|two| two[0] != two[1]), "{all:?}");
        assert_eq!(sasl("X-OAUTH"), None);
    }
}
