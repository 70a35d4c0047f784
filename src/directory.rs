//! Who is who: which SIP address belongs to which JID, and what proves it. In memory from start-up.

use std::collections::BTreeMap;

use cusax::identity::Aor;
use jid::BareJid;

/// One user of both networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their XMPP address.
    pub jid: BareJid,
    /// Their SIP address of record.
    pub aor: Aor,
    /// Their name, for people.
    pub name: Option<String>,
    /// What their password leaves behind, if they have one here.
    pub secret: Option<Secret>,
}

/// The hashes that digest authentication needs (`H(A1)` of RFC 7616 §3.4.2), in lower-case hex. The
/// password itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// For `algorithm=MD5`.
    pub md5: String,
    /// For `algorithm=SHA-256`.
    pub sha256: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Every user, found by either address.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    by_jid: BTreeMap<BareJid, User>,
    by_aor: BTreeMap<Aor, BareJid>,
}

impl Directory {
    /// The user of a SIP address.
    pub fn by_aor(&self, aor: &Aor) -> Option<&User> {
        self.by_jid.get(self.by_aor.get(aor)?)
    }

    /// The user of a JID.
    pub fn by_jid(&self, jid: &BareJid) -> Option<&User> {
        self.by_jid.get(jid)
    }

    /// All users, by JID.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.by_jid.values()
    }

    /// Adds a user, or replaces the one of that JID; refused if the SIP address is another's.
    pub fn put(&mut self, user: User) -> Result<(), AddressTaken> {
        if self.by_aor.get(&user.aor).is_some_and(|owner| *owner != user.jid) {
            return Err(AddressTaken);
        }
        self.remove(&user.jid);
        self.by_aor.insert(user.aor.clone(), user.jid.clone());
        self.by_jid.insert(user.jid.clone(), user);
        Ok(())
    }

    /// Removes a user; gives back who that was.
    pub fn remove(&mut self, jid: &BareJid) -> Option<User> {
        let user = self.by_jid.remove(jid)?;
        self.by_aor.remove(&user.aor);
        Some(user)
    }
}

/// The SIP address belongs to another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that SIP address belongs to another user")]
pub struct AddressTaken;

#[cfg(test)]
mod tests {
    use super::*;

    fn user(jid: &str, aor: &str) -> User {
        User {
            jid: BareJid::new(jid).unwrap(),
            aor: aor.parse().unwrap(),
            name: None,
            secret: None,
        }
    }

    #[test]
    fn an_address_has_one_owner_and_follows_its_user() {
        let mut directory = Directory::default();
        directory.put(user("a@x", "sip:1@y")).unwrap();
        assert_eq!(directory.put(user("b@x", "sip:1@y")), Err(AddressTaken));
        assert_eq!(directory.users().count(), 1);

        directory.put(user("a@x", "sip:2@y")).unwrap();
        assert!(directory.by_aor(&"sip:1@y".parse().unwrap()).is_none());
        directory.put(user("b@x", "sip:1@y")).unwrap();
        assert_eq!(directory.by_aor(&"sip:2@y".parse().unwrap()).unwrap().jid.to_string(), "a@x");

        directory.remove(&BareJid::new("a@x").unwrap());
        assert!(directory.by_aor(&"sip:2@y".parse().unwrap()).is_none());
    }
}
