//! What may be asked of a running server, once: the HTTP interface with its description, the command
//! line and ad-hoc commands (XEP-0050) all offer what this table has.
//!
//! The HTTP interface and the command line are held against it by tests (`tests/it/openapi.rs`,
//! `src/cli/mod.rs`); the forms of ad-hoc commands are made from it (`src/muc/adhoc.rs`).

/// One thing that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// All rooms.
    ListRooms,
    /// One room, and who is in it.
    ShowRoom,
    /// Make a room, or change its settings.
    SetRoom,
    /// End a room.
    DestroyRoom,
    /// Let nobody new in.
    LockRoom,
    /// Let people in again.
    UnlockRoom,
    /// Call someone into a room.
    Dial,
    /// Give up a call that nobody has answered.
    HangUp,
    /// Take someone out of the mix.
    Mute,
    /// Put someone back into the mix.
    Unmute,
    /// Throw someone out.
    Kick,
    /// Throw someone out for good.
    Ban,
    /// Tell everyone something (XEP-0133 §4.23).
    Announce,
    /// The directory.
    ListUsers,
    /// Put someone into the directory.
    PutUser,
    /// Take someone out of the directory.
    DeleteUser,
    /// Make a link that tells someone's client what to set up.
    LinkUser,
    /// Take no new calls, and stop when those that are up are over (XEP-0133 §4.31).
    Drain,
    /// Stay after all, and take calls again.
    Undrain,
}

/// How each face knows an [`Operation`].
#[derive(Debug)]
pub struct Spec {
    /// Its name: the `operationId` of the API's description.
    pub name: &'static str,
    /// What people read.
    pub title: &'static str,
    /// The node of the ad-hoc command.
    pub node: &'static str,
    /// The method and path of the HTTP interface.
    pub http: (&'static str, &'static str),
    /// The words of the command line.
    pub cli: &'static [&'static str],
    /// Whether it changes anything.
    pub changes: bool,
    /// Whether a room's moderators may ask it of the room itself, and not operators alone.
    pub of_rooms: bool,
    /// What it needs to know, the room first.
    pub params: &'static [Param],
}

/// One thing that an [`Operation`] needs to know.
#[derive(Debug)]
pub struct Param {
    /// Its name, everywhere.
    pub name: &'static str,
    /// What people read.
    pub label: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Whether it has to be there.
    pub required: bool,
}

/// What a [`Param`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The name of a room that is there.
    Room,
    /// The name of a room, which may be new.
    AnyRoom,
    /// The number of someone in the room, as in `p3`.
    Person,
    /// The settings of the room, those that are to change.
    Settings,
    /// A bare JID.
    Jid,
    /// A line.
    Text,
    /// Several lines.
    Lines,
    /// What nobody is to read.
    Secret,
    /// A number of seconds.
    Seconds,
}

impl Operation {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 19] = [
        Self::ListRooms,
        Self::ShowRoom,
        Self::SetRoom,
        Self::DestroyRoom,
        Self::LockRoom,
        Self::UnlockRoom,
        Self::Dial,
        Self::HangUp,
        Self::Mute,
        Self::Unmute,
        Self::Kick,
        Self::Ban,
        Self::Announce,
        Self::ListUsers,
        Self::PutUser,
        Self::DeleteUser,
        Self::LinkUser,
        Self::Drain,
        Self::Undrain,
    ];

    /// The operation of an ad-hoc command's node.
    pub fn from_node(node: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.spec().node == node)
    }

    /// The operation of a method and a path of the HTTP interface, as in `/rooms/lounge/lock`.
    pub fn from_http(method: &str, path: &str) -> Option<Self> {
        let fits = |pattern: &str| {
            let same = |(wanted, given): (&str, &str)| match wanted.starts_with('{') {
                true => !given.is_empty(),
                false => wanted == given,
            };
            pattern.split('/').count() == path.split('/').count()
                && pattern.split('/').zip(path.split('/')).all(same)
        };
        Self::ALL.into_iter().find(|it| it.spec().http.0 == method && fits(it.spec().http.1))
    }

    /// How each face knows it.
    pub const fn spec(self) -> &'static Spec {
        match self {
            Self::ListRooms => &Spec {
                name: "listRooms",
                title: "List all rooms",
                node: "urn:x-cusax:command:list-rooms",
                http: ("GET", "/rooms"),
                cli: &["room", "list"],
                changes: false,
                of_rooms: false,
                params: &[],
            },
            Self::ShowRoom => &Spec {
                name: "showRoom",
                title: "Show a room and who is in it",
                node: "urn:x-cusax:command:show-room",
                http: ("GET", "/rooms/{room}"),
                cli: &["room", "show"],
                changes: false,
                of_rooms: false,
                params: &[ROOM],
            },
            Self::SetRoom => &Spec {
                name: "setRoom",
                title: "Make a room, or change its settings",
                node: "urn:x-cusax:command:set-room",
                http: ("PUT", "/rooms/{room}"),
                cli: &["room", "set"],
                changes: true,
                of_rooms: false,
                params: &[
                    Param { name: "room", label: "Room", kind: Kind::AnyRoom, required: true },
                    Param {
                        name: "settings",
                        label: "Settings",
                        kind: Kind::Settings,
                        required: false,
                    },
                ],
            },
            Self::DestroyRoom => &Spec {
                name: "destroyRoom",
                title: "Destroy a room",
                node: "urn:x-cusax:command:destroy-room",
                http: ("DELETE", "/rooms/{room}"),
                cli: &["room", "destroy"],
                changes: true,
                of_rooms: false,
                params: &[ROOM],
            },
            Self::LockRoom => &Spec {
                name: "lockRoom",
                title: "Let nobody new into a room",
                node: "urn:x-cusax:command:lock-room",
                http: ("POST", "/rooms/{room}/lock"),
                cli: &["room", "lock"],
                changes: true,
                of_rooms: true,
                params: &[ROOM],
            },
            Self::UnlockRoom => &Spec {
                name: "unlockRoom",
                title: "Let people into a room again",
                node: "urn:x-cusax:command:unlock-room",
                http: ("POST", "/rooms/{room}/unlock"),
                cli: &["room", "unlock"],
                changes: true,
                of_rooms: true,
                params: &[ROOM],
            },
            Self::Dial => &Spec {
                name: "dial",
                title: "Call someone into a room",
                node: "urn:x-cusax:command:dial",
                http: ("POST", "/rooms/{room}/dial"),
                cli: &["room", "dial"],
                changes: true,
                of_rooms: true,
                params: &[
                    ROOM,
                    Param {
                        name: "uri",
                        label: "SIP or tel URI",
                        kind: Kind::Text,
                        required: true,
                    },
                ],
            },
            Self::HangUp => &Spec {
                name: "endDial",
                title: "Give up a call that nobody has answered",
                node: "urn:x-cusax:command:hang-up",
                http: ("DELETE", "/rooms/{room}/dial/{call}"),
                cli: &["room", "hang-up"],
                changes: true,
                of_rooms: true,
                params: &[
                    ROOM,
                    Param {
                        name: "call",
                        label: "Number of the call",
                        kind: Kind::Text,
                        required: true,
                    },
                ],
            },
            Self::Mute => &Spec {
                name: "mute",
                title: "Mute someone on the call",
                node: "urn:x-cusax:command:mute",
                http: ("POST", "/rooms/{room}/people/{person}/mute"),
                cli: &["room", "mute"],
                changes: true,
                of_rooms: true,
                params: &[ROOM, PERSON],
            },
            Self::Unmute => &Spec {
                name: "unmute",
                title: "Unmute someone on the call",
                node: "urn:x-cusax:command:unmute",
                http: ("POST", "/rooms/{room}/people/{person}/unmute"),
                cli: &["room", "unmute"],
                changes: true,
                of_rooms: true,
                params: &[ROOM, PERSON],
            },
            Self::Kick => &Spec {
                name: "kick",
                title: "Throw someone out",
                node: "urn:x-cusax:command:kick",
                http: ("POST", "/rooms/{room}/people/{person}/kick"),
                cli: &["room", "kick"],
                changes: true,
                of_rooms: true,
                params: &[ROOM, PERSON, REASON],
            },
            Self::Ban => &Spec {
                name: "ban",
                title: "Throw someone out for good",
                node: "urn:x-cusax:command:ban",
                http: ("POST", "/rooms/{room}/people/{person}/ban"),
                cli: &["room", "ban"],
                changes: true,
                of_rooms: true,
                params: &[ROOM, PERSON, REASON],
            },
            Self::Announce => &Spec {
                name: "announce",
                title: "Announce something to everyone in any room",
                node: "http://jabber.org/protocol/admin#announce",
                http: ("POST", "/announce"),
                cli: &["announce"],
                changes: true,
                of_rooms: false,
                params: &[
                    Param { name: "subject", label: "Subject", kind: Kind::Text, required: false },
                    Param {
                        name: "announcement",
                        label: "Announcement",
                        kind: Kind::Lines,
                        required: true,
                    },
                ],
            },
            Self::ListUsers => &Spec {
                name: "listUsers",
                title: "List the directory: who has which SIP address",
                node: "urn:x-cusax:command:list-users",
                http: ("GET", "/users"),
                cli: &["user", "list"],
                changes: false,
                of_rooms: false,
                params: &[],
            },
            Self::PutUser => &Spec {
                name: "putUser",
                title: "Put someone into the directory, or change what is given",
                node: "urn:x-cusax:command:put-user",
                http: ("PUT", "/users/{jid}"),
                cli: &["user", "put"],
                changes: true,
                of_rooms: false,
                params: &[
                    JID,
                    Param { name: "aor", label: "SIP address", kind: Kind::Text, required: false },
                    Param { name: "name", label: "Name", kind: Kind::Text, required: false },
                    Param {
                        name: "password",
                        label: "Password of their phone",
                        kind: Kind::Secret,
                        required: false,
                    },
                ],
            },
            Self::DeleteUser => &Spec {
                name: "deleteUser",
                title: "Take someone out of the directory",
                node: "urn:x-cusax:command:delete-user",
                http: ("DELETE", "/users/{jid}"),
                cli: &["user", "delete"],
                changes: true,
                of_rooms: false,
                params: &[JID],
            },
            Self::LinkUser => &Spec {
                name: "linkUser",
                title: "Make a link that tells someone's client what to set up",
                node: "urn:x-cusax:command:link-user",
                http: ("POST", "/users/{jid}/link"),
                cli: &["user", "link"],
                changes: true,
                of_rooms: false,
                params: &[JID],
            },
            Self::Drain => &Spec {
                name: "drain",
                title: "Take no new calls, and stop when those that are up are over",
                node: "http://jabber.org/protocol/admin#shutdown",
                http: ("POST", "/drain"),
                cli: &["drain"],
                changes: true,
                of_rooms: false,
                params: &[
                    Param {
                        name: "delay",
                        label: "Seconds after which they end anyway",
                        kind: Kind::Seconds,
                        required: false,
                    },
                    Param {
                        name: "announcement",
                        label: "What people are told",
                        kind: Kind::Lines,
                        required: false,
                    },
                ],
            },
            Self::Undrain => &Spec {
                name: "undrain",
                title: "Stay after all, and take calls again",
                node: "urn:x-cusax:command:undrain",
                http: ("DELETE", "/drain"),
                cli: &["undrain"],
                changes: true,
                of_rooms: false,
                params: &[],
            },
        }
    }
}

impl Kind {
    /// Whether nobody can say it before the room is known.
    pub const fn is_of_a_room(self) -> bool {
        matches!(self, Self::Person | Self::Settings)
    }

    /// Whether it is the room.
    pub const fn is_room(self) -> bool {
        matches!(self, Self::Room | Self::AnyRoom)
    }
}

const ROOM: Param = Param { name: "room", label: "Room", kind: Kind::Room, required: true };
const PERSON: Param = Param { name: "person", label: "Person", kind: Kind::Person, required: true };
const REASON: Param = Param { name: "reason", label: "Reason", kind: Kind::Text, required: false };
const JID: Param = Param { name: "jid", label: "Their JID", kind: Kind::Jid, required: true };

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_one_operations_and_the_room_comes_first() {
        let specs = Operation::ALL.map(Operation::spec);
        for names in [specs.map(|it| it.name), specs.map(|it| it.node)] {
            assert_eq!(names.into_iter().collect::<BTreeSet<_>>().len(), specs.len());
        }
        for operation in Operation::ALL {
            let spec = operation.spec();
            assert_eq!(Operation::from_node(spec.node), Some(operation));
            let room = spec.params.iter().position(|param| param.kind.is_room());
            let of_it = spec.params.iter().any(|param| param.kind.is_of_a_room());
            assert!(room.is_none_or(|at| at == 0) && (!of_it || room.is_some()), "{}", spec.name);
            assert!(!spec.of_rooms || room.is_some(), "{}", spec.name);
        }
        assert_eq!(Operation::from_node("urn:x-cusax:command:"), None);
    }

    #[test]
    fn a_path_is_one_operations_and_not_that_of_its_neighbour() {
        for operation in Operation::ALL {
            let (method, path) = operation.spec().http;
            let sample = path.replace(['{', '}'], "");
            assert_eq!(Operation::from_http(method, &sample), Some(operation), "{sample}");
            assert_eq!(Operation::from_http("PATCH", &sample), None);
            assert_ne!(Operation::from_http(method, &format!("{sample}/more")), Some(operation));
        }
        for none in ["", "/", "/rooms/", "/rooms//lock", "/rooms/x/lock/", "rooms", "/events"] {
            assert_eq!(Operation::from_http("POST", none), None, "{none}");
        }
    }
}
