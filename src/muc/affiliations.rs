//! Affiliations by version: who knew them once is told what changed since (XEP-0463).
//!
//! A version is told to those alone who may read lists of affiliations, and is of the lists that they
//! may read: whoever may read others meanwhile gets everything anew. It carries a code that only this
//! service makes, so that nobody learns by a guess what was before they came.

use std::collections::BTreeMap;

use jid::FullJid;
use minidom::Element;

use super::admin::{Affiliated, may_read};
use super::error::Fault;
use super::limits::MAX_AFFILIATIONS_TOLD;
use super::presence::reason_element;
use super::xml::{Xml, ns};
use super::{Muc, mac};
use crate::room::Room;
use crate::room::person::{Person, Who};
use crate::room::standing::Affiliation;
use crate::stanzas::Stanzas;

/// The affiliations whose lists someone may read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reach(Vec<Affiliation>);

impl Reach {
    /// What someone in a room may read; `None`: nothing.
    fn of(room: &Room, person: &Person) -> Option<Self> {
        let affiliation = room.affiliation(&person.who);
        let all =
            [Affiliation::Outcast, Affiliation::Member, Affiliation::Admin, Affiliation::Owner];
        let may = |it: &Affiliation| may_read(room, Some(person.role), affiliation, *it);
        let reach: Vec<_> = all.into_iter().filter(may).collect();
        (!reach.is_empty()).then_some(Self(reach))
    }

    /// An affiliation as it is shown to them: none, if they may not read of it.
    fn see(&self, affiliation: Affiliation) -> Affiliation {
        if self.0.contains(&affiliation) { affiliation } else { Affiliation::None }
    }
}

impl Muc {
    /// Tells who enters what changed since the version that they know, or everything; answers the
    /// version that holds, unless they may not know (§4.2.1).
    pub(super) fn show_affiliations(
        &self,
        room: &Room,
        (person, chat): (&Person, &FullJid),
        since: Option<&str>,
        id: Option<&str>,
        out: &mut Stanzas,
    ) -> Option<Element> {
        let from = self.room_jid(&room.name);
        let message = || {
            let message = Xml::new("message", ns::CLIENT);
            message.attr("from", from.as_str()).attr("to", chat.as_str())
        };
        let Some(reach) = Reach::of(room, person) else {
            let error = Fault::forbidden("The lists of this room are not for you.");
            let refused = message().attr("type", "error").maybe("id", id);
            out.push(refused.child(error.element(Some(from))).into());
            return None;
        };
        let version = room.changes().version();
        let until = self.version(room, version, &reach, 0);
        let item = |who: &Who| {
            let jid = self.bare(who)?;
            Some(item(jid.as_str(), reach.see(room.given_affiliation(who))))
        };
        let known = since.and_then(|since| {
            let number = u64::from_str_radix(since.split_once('-')?.0, 16).ok()?;
            let ours = self.version(room, number, &reach, 0) == since;
            ours.then(|| room.changes().since(number)).flatten()
        });
        if let Some(changed) = known {
            if since != Some(&until) {
                let items = changed.into_iter().filter_map(item);
                let x = Xml::new("x", ns::MUC_USER).child(mav(since, &until)).children(items);
                out.push(message().child(x).into());
            }
            return Some(mav(None, &until).into());
        }
        let all = room.affiliations().filter(|(_, it)| reach.0.contains(it));
        let all: Vec<_> = all.filter_map(|(who, it)| Some((self.bare(who)?, it))).collect();
        let mut parts = all.chunks(MAX_AFFILIATIONS_TOLD).peekable();
        let mut part = parts.next().unwrap_or(&[]);
        let mut before = None;
        // What is between two messages is no version, so who has heard half gets all again.
        for number in 1.. {
            let last = parts.peek().is_none();
            let reached =
                if last { until.clone() } else { self.version(room, version, &reach, number) };
            let items = part.iter().map(|(jid, it)| self::item(jid.as_str(), *it));
            let x = Xml::new("x", ns::MUC_USER).child(mav(before.as_deref(), &reached));
            out.push(message().child(x.children(items)).into());
            before = Some(reached);
            match parts.next() {
                Some(next) => part = next,
                None => break,
            }
        }
        Some(mav(None, &until).into())
    }

    /// A changed affiliation, to the sessions that go by versions (§4.2.2); answers which these are.
    pub(super) fn show_change(
        &self,
        room: &Room,
        change: &Affiliated<'_>,
        out: &mut Stanzas,
    ) -> Vec<FullJid> {
        let mut told: BTreeMap<Reach, Vec<FullJid>> = BTreeMap::new();
        for (person, chat) in self.chats.told(room) {
            let versioned = self.chats.get(&room.name, chat).is_some_and(|it| it.versioned);
            if let Some(reach) = versioned.then(|| Reach::of(room, person)).flatten() {
                told.entry(reach).or_default().push(chat.clone());
            }
        }
        let mut all = vec![];
        let Some(jid) = self.bare(change.who) else { return all };
        let away = room.people.all_of(change.who).next().is_none();
        for (reach, chats) in told {
            let since = self.version(room, change.version - 1, &reach, 0);
            let until = self.version(room, change.version, &reach, 0);
            let item = item(jid.as_str(), reach.see(change.new));
            let item = item.maybe("role", away.then_some("none"));
            let item = item.children(change.reason.map(reason_element));
            let x = Xml::new("x", ns::MUC_USER).child(mav(Some(&since), &until)).child(item);
            let from = self.room_jid(&room.name);
            let message = Xml::new("message", ns::CLIENT).attr("from", from.as_str()).child(x);
            all.extend(chats.iter().cloned());
            out.push_to(message, chats);
        }
        all
    }

    /// A version as those know it who may read so much; `part`: of how many messages that tell it.
    fn version(&self, room: &Room, version: u64, reach: &Reach, part: usize) -> String {
        let reach: Vec<_> = reach.0.iter().map(|it| it.as_str()).collect();
        let what = format!("{version}/{}/{part}", reach.join(","));
        let parts = ["mav", room.name.as_str(), &what];
        format!("{version:x}-{}", mac(&self.config.secret, &parts))
    }
}

fn item(jid: &str, affiliation: Affiliation) -> Xml {
    Xml::new("item", ns::MUC_USER).attr("jid", jid).attr("affiliation", affiliation.as_str())
}

fn mav(since: Option<&str>, until: &str) -> Xml {
    Xml::new("mav", ns::MAV).maybe("since", since).attr("until", until)
}
