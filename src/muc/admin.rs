//! `muc#admin`: lists by role and affiliation, read and changed (XEP-0045 §8, §9).

use cusax::identity::Aor;
use jid::{BareJid, Jid};
use minidom::Element;

use super::error::Fault;
use super::limits::{MAX_ITEMS, MAX_REASON};
use super::presence::{reason_element, status};
use super::stanza::{Head, caller_jid};
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply};
use crate::id::Nick;
use crate::room::person::{Person, Who};
use crate::room::settings::Whois;
use crate::room::standing::{Affiliation, Role};
use crate::room::{Actor, By, Change, Command, Refusal, Room};
use crate::stanzas::Stanzas;

/// A changed affiliation, to show.
#[derive(Debug)]
pub(super) struct Affiliated<'a> {
    pub(super) who: &'a Who,
    pub(super) old: Affiliation,
    pub(super) new: Affiliation,
    pub(super) reason: Option<&'a str>,
    pub(super) by: Option<&'a Actor>,
    pub(super) version: u64,
}

impl Muc {
    /// A list by role or by affiliation, to those who may read it (XEP-0045 §8.5, §9.2, §9.5, §9.8,
    /// §10.5, §10.8).
    pub(super) fn admin_list(
        &self,
        head: &Head,
        room: &Room,
        query: &Element,
    ) -> Result<Element, Fault> {
        let mut items = query.children();
        let (Some(item), None) = (items.next(), items.next()) else {
            return Err(Fault::bad_request("A list is asked for by exactly one item."));
        };
        let (role, affiliation) = super::standing(room, &head.from);
        let is_admin = affiliation >= Affiliation::Admin;
        let listed: Vec<Xml> = match (item.attr("role"), item.attr("affiliation")) {
            (Some(word), None) => {
                let wanted = Role::parse(word).ok_or(UNKNOWN_WORD)?;
                if role != Some(Role::Moderator) && !is_admin {
                    return Err(Refusal::Forbidden.into());
                }
                let people = room.people.values().filter(|person| person.role == wanted);
                people.map(|person| self.role_item(room, person)).collect()
            }
            (None, Some(word)) => {
                let wanted = Affiliation::parse(word)
                    .filter(|affiliation| *affiliation != Affiliation::None)
                    .ok_or(UNKNOWN_WORD)?;
                if !may_read(room, role, affiliation, wanted) {
                    return Err(Refusal::Forbidden.into());
                }
                let with = room.affiliations().filter(|(_, affiliation)| *affiliation == wanted);
                with.filter_map(|(who, _)| self.affiliation_item(room, who, wanted)).collect()
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(Fault::bad_request("An item asks for a role or an affiliation."));
            }
        };
        Ok(Xml::new("query", ns::MUC_ADMIN).children(listed).into())
    }

    /// Changes, all of them or none (XEP-0045 §9.2, §9.5).
    pub(super) fn admin_set(
        &self,
        head: &Head,
        room: &Room,
        query: &Element,
    ) -> Result<Ask, Fault> {
        let chat = head.session()?;
        let items: Vec<_> = query.children().collect();
        if items.is_empty() || items.iter().any(|item| !item.is("item", ns::MUC_ADMIN)) {
            return Err(Fault::bad_request("A change is a list of items."));
        }
        if items.len() > MAX_ITEMS {
            return Err(Fault::too_big("Too many changes at once."));
        }
        let mut changes = vec![];
        for item in items {
            let change = self.change(room, item)?;
            let nick = kept_nick(item, &change)?;
            changes.extend([Some(change), nick].into_iter().flatten());
        }
        Ok(Ask {
            room: room.name.clone(),
            by: By::Chat(chat.clone()),
            command: Command::Moderate(changes),
            reply: Reply::Iq(head.clone()),
        })
    }

    fn change(&self, room: &Room, item: &Element) -> Result<Change, Fault> {
        let reason = xml::child_text(item, "reason", ns::MUC_ADMIN)
            .map(|reason| xml::cut(&reason, MAX_REASON).to_owned())
            .filter(|reason| !reason.is_empty());
        let nick = item.attr("nick").filter(|nick| !nick.is_empty()).map(Nick::new).transpose();
        let nick = nick.map_err(|_| Fault::not_acceptable("That cannot be a nickname."));
        match (item.attr("role"), item.attr("affiliation")) {
            (Some(word), None) => {
                let role = if word == "none" {
                    None
                } else {
                    Some(Role::parse(word).ok_or(UNKNOWN_WORD)?)
                };
                let nick = match nick? {
                    Some(nick) => nick,
                    // §5.1: a role is of an occupant, by nick or full address.
                    None => match xml::jid(item, "jid").and_then(|jid| jid.try_into_full().ok()) {
                        Some(chat) => {
                            room.by_chat(&chat).ok_or(Refusal::NoSuchPerson)?.nick.clone()
                        }
                        None => {
                            return Err(Fault::bad_request("A role is of a nickname."));
                        }
                    },
                };
                Ok(Change::Role { nick, role, reason })
            }
            (None, Some(word)) => {
                let affiliation = Affiliation::parse(word).ok_or(UNKNOWN_WORD)?;
                let who = match item.attr("jid") {
                    Some(text) => self.who(room, text)?,
                    // Not in the XEP, and what clients do who see no address.
                    None => {
                        let nick =
                            nick?.ok_or(Fault::bad_request("An affiliation is of an address."))?;
                        room.by_nick(&nick).ok_or(Refusal::NoSuchPerson)?.who.clone()
                    }
                };
                Ok(Change::Affiliation { who, affiliation, reason })
            }
            // §17.4
            (Some(_), Some(_)) => {
                Err(Fault::bad_request("An item has a role or an affiliation, not both."))
            }
            (None, None) => Err(Fault::bad_request("An item has a role or an affiliation.")),
        }
    }

    /// Who an address in an item is: a JID, or a caller under the address that stands for them, or
    /// whoever sits behind an occupant JID.
    pub(super) fn who(&self, room: &Room, text: &str) -> Result<Who, Fault> {
        let jid =
            Jid::new(text).map_err(|_| Fault::jid_malformed("An item holds no legal address."))?;
        if jid.domain() != &*self.config.domain {
            return Ok(Who::Jid(jid.to_bare()));
        }
        let nobody = || Fault::not_found("Nobody has that address.");
        if jid.to_bare() == self.room_jid(&room.name) {
            let nick = jid.resource().and_then(|nick| Nick::new(nick.as_str()).ok());
            let person = nick.and_then(|nick| room.by_nick(&nick)).ok_or_else(nobody)?;
            return Ok(person.who.clone());
        }
        // A JID node is folded to lower case and a SIP user is not: those whom the room knows
        // come first.
        let here = room.people.values().map(|person| &person.who);
        let known = here.chain(room.affiliations().map(|(who, _)| who)).find(|who| match who {
            Who::Aor(aor) => self.stands_for(aor, &jid),
            Who::Jid(_) | Who::Unknown(_) => false,
        });
        let node = jid.node().map(|node| node.as_str());
        known
            .cloned()
            .or_else(|| node.and_then(Aor::from_escaped_node).map(Who::Aor))
            .ok_or_else(nobody)
    }

    fn stands_for(&self, aor: &Aor, jid: &Jid) -> bool {
        caller_jid(aor, &self.config.domain).is_some_and(|own| own.to_bare() == jid.to_bare())
    }

    fn role_item(&self, room: &Room, person: &Person) -> Xml {
        let jid = match (&person.who, person.chats.keys().next()) {
            (_, Some(chat)) => Some(chat.to_string()),
            (who, None) => self.bare(who).map(|jid| jid.to_string()),
        };
        Xml::new("item", ns::MUC_ADMIN)
            .attr("affiliation", room.affiliation(&person.who).as_str())
            .attr("role", person.role.as_str())
            .attr("nick", person.nick.as_str())
            .maybe("jid", jid)
    }

    fn affiliation_item(&self, room: &Room, who: &Who, affiliation: Affiliation) -> Option<Xml> {
        let here = room.people.all_of(who).next();
        // §9.5: of who is away, the nick that is kept for them.
        let kept = match who {
            Who::Jid(jid) => room.registered_nick(jid),
            Who::Aor(_) | Who::Unknown(_) => None,
        };
        let nick = here.map(|person| &person.nick).or(kept);
        // §17.4 forbids the role here, though §9.5 and §10.5 would allow it; Converse.js takes the
        // nick beside one for it.
        let item = Xml::new("item", ns::MUC_ADMIN)
            .attr("affiliation", affiliation.as_str())
            .attr("jid", self.bare(who)?.as_str())
            .maybe("nick", nick.map(Nick::as_str));
        Some(item)
    }

    pub(super) fn bare(&self, who: &Who) -> Option<BareJid> {
        match who {
            Who::Jid(jid) => Some(jid.clone()),
            Who::Aor(aor) => caller_jid(aor, &self.config.domain).map(|jid| jid.to_bare()),
            Who::Unknown(_) => None,
        }
    }

    /// Someone's affiliation changed while they were away: those who may see addresses are told
    /// (XEP-0045 §9.3), and they themselves, a new member of a members-only room by an invitation
    /// (§9.3, §9.5), others by 101 (§16.6.2).
    pub(super) fn show_affiliation(&self, room: &Room, change: &Affiliated<'_>, out: &mut Stanzas) {
        let versioned = self.show_change(room, change, out);
        let here = room.people.all_of(change.who).next().is_some();
        // Who was thrown out by this is told of by presence, which is still to come.
        let just_here = match change.who {
            Who::Jid(jid) => self.chats.knows(&room.name, jid),
            Who::Aor(_) | Who::Unknown(_) => change.new == Affiliation::Outcast,
        };
        if here || just_here {
            return;
        }
        let Some(jid) = self.bare(change.who) else { return };
        let item = Xml::new("item", ns::MUC_USER)
            .attr("affiliation", change.new.as_str())
            .attr("role", "none")
            .attr("jid", jid.as_str())
            .children(change.reason.map(reason_element));
        let x = Xml::new("x", ns::MUC_USER).child(item);
        let open = room.settings.whois == Whois::Anyone;
        let told = Xml::new("message", ns::CLIENT)
            .attr("from", self.room_jid(&room.name).as_str())
            .child(x);
        let to = self.chats.told(room).filter(|(viewer, _)| open || viewer.role == Role::Moderator);
        let to = to.map(|(_, chat)| chat).filter(|chat| !versioned.contains(chat));
        out.push_to(told, to.cloned().collect());
        let Who::Jid(jid) = change.who else { return };
        let by = change.by.and_then(|actor| actor.jid.as_ref());
        if jid.node().is_none() || by == Some(jid) {
            return;
        }
        let invited = change.old == Affiliation::None && change.new == Affiliation::Member;
        if invited && room.settings.members_only {
            let from = by.map_or_else(|| self.room_jid(&room.name).to_string(), BareJid::to_string);
            out.push(self.invitation(room, &jid.clone().into(), &from, change.reason, None));
            return;
        }
        let item = Xml::new("item", ns::MUC_USER)
            .attr("affiliation", change.new.as_str())
            .attr("role", "none");
        let told = Xml::new("message", ns::CLIENT)
            .attr("from", self.room_jid(&room.name).as_str())
            .attr("to", jid.as_str())
            .child(Xml::new("x", ns::MUC_USER).child(item).child(status(101)));
        out.push(told.into());
    }
}

/// The nick that an item keeps for whom it makes a member or more, or keeps no more: that of an empty
/// attribute (XEP-0045 §9.3, §9.5). Who is named by their nick alone keeps what they have.
fn kept_nick(item: &Element, change: &Change) -> Result<Option<Change>, Fault> {
    let (Some(text), Some(_)) = (item.attr("nick"), item.attr("jid")) else { return Ok(None) };
    let Change::Affiliation { who: Who::Jid(jid), affiliation, .. } = change else {
        return Ok(None);
    };
    if *affiliation < Affiliation::Member {
        return Ok(None);
    }
    let nick = (!text.is_empty()).then(|| Nick::new(text)).transpose();
    let nick = nick.map_err(|_| Fault::not_acceptable("That cannot be a nickname."))?;
    Ok(Some(Change::Nick { jid: jid.clone(), nick }))
}

/// Whether someone may read who has an affiliation (XEP-0045 §9.2, §9.5, §10.5, §10.8).
pub(super) fn may_read(
    room: &Room,
    role: Option<Role>,
    affiliation: Affiliation,
    wanted: Affiliation,
) -> bool {
    match wanted {
        Affiliation::Outcast | Affiliation::None => affiliation >= Affiliation::Admin,
        Affiliation::Member => {
            affiliation >= Affiliation::Admin || may_read_members(room, role, affiliation)
        }
        // A moderator who is no more than that has no business here.
        Affiliation::Admin | Affiliation::Owner => {
            let open = room.settings.whois == Whois::Anyone;
            affiliation >= Affiliation::Owner || (open && may_read_members(room, role, affiliation))
        }
    }
}

/// Whether someone may read who belongs to a room without being its admin (XEP-0045 §5.2.1,
/// `getmemberlist`): members where they see addresses, and moderators, in the roles that may. A
/// member who is away has the role of most members.
fn may_read_members(room: &Room, role: Option<Role>, affiliation: Affiliation) -> bool {
    let moderator = role == Some(Role::Moderator);
    let member = affiliation >= Affiliation::Member && room.settings.whois == Whois::Anyone;
    let role = role.unwrap_or(Role::Participant);
    (moderator || member) && room.settings.member_list.contains(&role)
}

const UNKNOWN_WORD: Fault = Fault::bad_request("There is no such role or affiliation.");
