//! The JSON of API, CLI and console, once.

use serde_json::{Value, json};

use crate::clock::stamp;
use crate::directory::User;
use crate::room::Room;
use crate::room::dial::{Callee, Dial};
use crate::room::person::{Level, Mutes, Person, Proof, Who};

/// A room in a list: its counts, not its people.
pub fn summary(room: &Room) -> Value {
    let count = |level: Level| room.people.values().filter(|p| p.level() == level).count();
    json!({
        "name": room.name.as_str(),
        "title": room.settings.name,
        "people": room.people.len(),
        "chat": count(Level::Chat),
        "audio": count(Level::Audio),
        "both": count(Level::Both),
        "locked": room.locked,
        "persistent": room.settings.persistent,
        "since": stamp(room.since),
    })
}

/// A room with everyone in it.
pub fn room(room: &Room, jid: &str, uri: &str) -> Value {
    let mut value = summary(room);
    value["jid"] = json!(jid);
    value["uri"] = json!(uri);
    value["subject"] = json!(room.subject.as_ref().map(|subject| &subject.text));
    value["settings"] = json!({
        "name": room.settings.name,
        "description": room.settings.description,
        "moderated": room.settings.moderated,
        "members_only": room.settings.members_only,
        "password": room.settings.password.is_some(),
        "max_users": room.settings.max_users,
        "persistent": room.settings.persistent,
        "public": room.settings.public,
        "whois": room.settings.whois,
        "change_subject": room.settings.change_subject,
        "history": room.settings.history,
        "allow_pm": room.settings.allow_pm,
        "allow_invites": room.settings.allow_invites,
        "registration": room.settings.registration,
        "presence_broadcast": room.settings.presence_broadcast,
        "member_list": room.settings.member_list,
        "lang": room.settings.lang,
        "slow_mode_s": room.settings.slow_mode_s,
        "archive": room.settings.archive,
    });
    value["calling"] = room.dials.values().map(dial).collect();
    value["people"] = room.people.values().map(|it| person(room, it)).collect();
    value
}

/// A call that a room makes.
pub fn dial(dial: &Dial) -> Value {
    let Callee { uri, person, .. } = &dial.callee;
    let jid = match &person.who {
        Who::Jid(jid) => Some(jid.to_string()),
        Who::Aor(_) | Who::Unknown(_) => None,
    };
    let by = dial.by.as_ref().and_then(|by| by.nick.as_ref());
    json!({
        "id": dial.id.to_string(),
        "uri": uri,
        "name": person.name,
        "jid": jid,
        "by": by.map(|nick| nick.as_str()),
        "since": stamp(dial.since),
    })
}

/// Someone in a room.
pub fn person(room: &Room, person: &Person) -> Value {
    let aor = match &person.who {
        Who::Aor(aor) => Some(aor.to_string()),
        Who::Jid(_) | Who::Unknown(_) => None,
    };
    let called = person.legs.values().find_map(|leg| leg.caller.aor.as_ref());
    json!({
        "id": person.id.to_string(),
        "nick": person.nick.as_str(),
        "level": match person.level() {
            Level::Chat => "chat",
            Level::Audio => "audio",
            Level::Both => "both",
        },
        "role": person.role.as_str(),
        "affiliation": room.affiliation(&person.who).as_str(),
        "jid": person.jid().map(ToString::to_string),
        "aor": aor.or(called.map(ToString::to_string)),
        "binding": binding(person),
        "muted": person.mutes.any(),
        "mute": mutes(&person.mutes),
        "hand": person.hand.map(stamp),
        "since": stamp(person.since),
        "chats": person.chats.len(),
        "legs": person.legs.iter().map(|(id, leg)| json!({
            "id": id.to_string(),
            "since": stamp(leg.since),
            "hold": leg.hold,
            "sends": leg.sends,
            "heard": person.may_be_heard(*id),
        })).collect::<Vec<_>>(),
    })
}

/// A user of the directory. Of the password only that there is one.
pub fn user(user: &User) -> Value {
    json!({
        "jid": user.jid.to_string(),
        "aor": user.aor.to_string(),
        "name": user.name,
        "password": user.secret.is_some(),
    })
}

/// What ties a person's call to their name, and how well: `none` where there is nothing to tie.
fn binding(person: &Person) -> Value {
    let proof = person.legs.values().map(|leg| leg.caller.proof).max();
    let bound = proof.is_some() && matches!(person.who, Who::Jid(_));
    json!({ "bound": bound, "strength": strength(proof, &person.who) })
}

/// How well the address of someone's call was proven.
pub fn strength(proof: Option<Proof>, who: &Who) -> &'static str {
    match (proof, who) {
        (None, _) | (Some(_), Who::Unknown(_)) => "none",
        (Some(Proof::Claimed), _) => "claimed",
        (Some(Proof::Dialled), _) => "dialled",
        (Some(Proof::Asserted), _) => "asserted",
        (Some(Proof::Digest), _) => "digest",
    }
}

fn mutes(mutes: &Mutes) -> Value {
    let origins = [("self", &mutes.own), ("moderator", &mutes.moderator), ("room", &mutes.room)];
    origins
        .into_iter()
        .filter_map(|(origin, mark)| {
            let mark = mark.as_ref()?;
            let by = mark.by.as_ref().and_then(|by| by.nick.as_ref());
            Some(json!({
                "origin": origin,
                "since": stamp(mark.since),
                "by": by.map(|nick| nick.as_str()),
            }))
        })
        .collect()
}
