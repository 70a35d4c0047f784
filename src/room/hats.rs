//! Hats that owners make and give (XEP-0317): words of their own for what someone is in a room. What
//! the room itself says of who is on the call is none of them.

use std::collections::{BTreeMap, BTreeSet};

use cusax::hat;
use jid::BareJid;
use serde::{Deserialize, Serialize};

use super::person::Who;
use super::standing::Affiliation;
use super::{By, Fact, Refusal, Room};

/// The hats of a room, and who wears them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hats {
    /// By URI, which is what programs compare.
    made: BTreeMap<String, Look>,
    /// The URIs of each wearer, by bare JID.
    worn: BTreeMap<String, BTreeSet<String>>,
}

/// How a hat is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// What people read.
    pub title: String,
    /// The angle of its colour, in degrees (XEP-0392 §5), as its maker wrote it.
    pub hue: Option<String>,
}

impl Hats {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Every hat, by URI.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Look)> {
        self.made.iter().map(|(uri, look)| (uri.as_str(), look))
    }

    /// What someone wears, by URI.
    pub fn of(&self, who: &Who) -> impl Iterator<Item = (&str, &Look)> {
        let worn = match who {
            Who::Jid(jid) => self.worn.get(jid.as_str()),
            Who::Aor(_) | Who::Unknown(_) => None,
        };
        let worn = worn.into_iter().flatten();
        worn.filter_map(|uri| Some((uri.as_str(), self.made.get(uri)?)))
    }
}

impl Room {
    /// The hats that owners made.
    pub fn hats(&self) -> &Hats {
        &self.hats
    }

    /// Makes a hat, or gives the one of that URI another look (XEP-0317 §3.2).
    pub(super) fn make_hat(
        &mut self,
        by: &By,
        uri: String,
        look: Look,
    ) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        // What the room says of calls can be said by nobody else, nor look as if.
        let ours = |it: &hat::Hat| it.title().eq_ignore_ascii_case(look.title.trim());
        if uri.starts_with(hat::PREFIX) || hat::Hat::ALL.iter().any(ours) {
            return Err(Refusal::RoomsOwnHat);
        }
        let degrees = look.hue.as_ref().map(|hue| hue.parse::<f64>());
        let legal = degrees.is_none_or(|it| it.is_ok_and(|it| (0.0..=360.0).contains(&it)));
        let named = !uri.trim().is_empty() && !look.title.trim().is_empty();
        let hue = look.hue.as_ref().map_or(0, String::len);
        if !legal || !named || [uri.len(), look.title.len(), hue].iter().any(|it| *it > MAX_TEXT) {
            return Err(Refusal::BadSettings);
        }
        if !self.hats.made.contains_key(&uri) && self.hats.made.len() >= MAX_HATS {
            return Err(Refusal::TooMany);
        }
        if self.hats.made.get(&uri) == Some(&look) {
            return Ok(vec![]);
        }
        let wearers = self.wearers(&uri);
        self.hats.made.insert(uri, look);
        Ok(vec![Fact::HatsChanged { wearers, list: true }])
    }

    /// Takes a hat away from the room and all who wear it (XEP-0317 §3.3).
    pub(super) fn destroy_hat(&mut self, by: &By, uri: &str) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        if !self.hats.made.contains_key(uri) {
            return Err(Refusal::NoSuchHat);
        }
        let wearers = self.wearers(uri);
        self.hats.made.remove(uri);
        self.hats.worn.retain(|_, worn| {
            worn.remove(uri);
            !worn.is_empty()
        });
        Ok(vec![Fact::HatsChanged { wearers, list: true }])
    }

    /// Gives someone a hat, whether they are here or not, or takes it (XEP-0317 §3.5, §3.6).
    pub(super) fn give_hat(
        &mut self,
        by: &By,
        jid: &BareJid,
        uri: &str,
        on: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        if !self.hats.made.contains_key(uri) {
            return Err(Refusal::NoSuchHat);
        }
        let has = self.hats.worn.get(jid.as_str()).is_some_and(|worn| worn.contains(uri));
        if has == on {
            return Ok(vec![]);
        }
        if on {
            let given: usize = self.hats.worn.values().map(BTreeSet::len).sum();
            if given >= MAX_GIVEN {
                return Err(Refusal::TooMany);
            }
            self.hats.worn.entry(jid.to_string()).or_default().insert(uri.to_owned());
        } else if let Some(worn) = self.hats.worn.get_mut(jid.as_str()) {
            worn.remove(uri);
            if worn.is_empty() {
                self.hats.worn.remove(jid.as_str());
            }
        }
        let wearers = self.people.all_of(&Who::Jid(jid.clone())).map(|it| it.id).collect();
        Ok(vec![Fact::HatsChanged { wearers, list: false }])
    }

    /// Who is here with a hat.
    fn wearers(&self, uri: &str) -> Vec<crate::id::PersonId> {
        let wears = |who: &Who| self.hats.of(who).any(|(it, _)| it == uri);
        self.people.values().filter(|person| wears(&person.who)).map(|person| person.id).collect()
    }
}

/// Hats of one room.
const MAX_HATS: usize = 100;
/// Hats that are given in one room, counted once for each wearer.
const MAX_GIVEN: usize = 1_000;
/// The longest URI, title or hue, in bytes.
const MAX_TEXT: usize = 256;
