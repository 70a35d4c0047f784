//! Who may be heard, told to the media plane.
//!
//! The room decides ([`Person::may_be_heard`](crate::room::person::Person::may_be_heard)); the floor
//! remembers what the media plane was last told of each leg, and tells it whenever the two differ.

use std::collections::BTreeMap;

use super::plan::Order;
use crate::clock::Now;
use crate::id::{LegId, PersonId};
use crate::room::person::Person;
use crate::room::{Fact, Room, Rooms};

/// What the media plane was told of each leg.
#[derive(Debug, Default)]
pub struct Floor {
    told: BTreeMap<LegId, bool>,
}

impl Floor {
    /// Shows one fact to the media plane: an [`Order::Voice`] exactly when a leg's right to be heard
    /// is another one than it was told.
    ///
    /// A leg enters with the right that its [`LegPlan`](super::plan::LegPlan) carries, which the phone
    /// face reads from the same room, so its arrival needs no order.
    pub fn render(&mut self, now: Now, room: &Room, fact: &Fact, out: &mut Vec<Order>) {
        match fact {
            Fact::CallEntered { person, leg, .. } => {
                if let Some(person) = room.person(*person) {
                    self.told.insert(*leg, person.may_be_heard(*leg));
                }
            }
            Fact::LegChanged { person, .. }
            | Fact::StandingChanged { person, .. }
            | Fact::MuteChanged { person, .. } => self.follow(now, room, *person, out),
            Fact::CallLeft { leg, .. } => {
                self.told.remove(leg);
            }
            Fact::Gone { was, .. } => self.forget(was),
            Fact::Destroyed { people, .. } => {
                for person in people {
                    self.forget(person);
                }
            }
            Fact::Created { .. }
            | Fact::ChatEntered { .. }
            | Fact::Renamed { .. }
            | Fact::PresenceShown { .. }
            | Fact::ChatLeft { .. }
            | Fact::AffiliationChanged { .. }
            | Fact::HandChanged { .. }
            | Fact::VoiceRequested { .. }
            | Fact::Spoken(_)
            | Fact::Whispered { .. }
            | Fact::Retracted { .. }
            | Fact::SubjectChanged(_)
            | Fact::Configured { .. }
            | Fact::AvatarChanged
            | Fact::HatsChanged { .. }
            | Fact::Dialled { .. }
            | Fact::DialEnded { .. }
            | Fact::NickRegistered { .. }
            | Fact::RegistrationRequested { .. }
            | Fact::RequestEnded { .. }
            | Fact::LockChanged => {}
        }
    }

    /// In how many legs the media plane was told something else than the rooms say; anything but 0
    /// is a fault of ours.
    pub fn divergence(&self, rooms: &Rooms) -> usize {
        let legs = || {
            rooms
                .iter()
                .flat_map(|room| room.people.values())
                .flat_map(|person| person.legs.keys().map(|leg| (leg, person.may_be_heard(*leg))))
        };
        let misled = legs().filter(|(leg, heard)| self.told.get(leg) != Some(heard)).count();
        let known = legs().filter(|(leg, _)| self.told.contains_key(leg)).count();
        misled + (self.told.len() - known)
    }

    fn follow(&mut self, now: Now, room: &Room, person: PersonId, out: &mut Vec<Order>) {
        let Some(person) = room.person(person) else { return };
        for leg in person.legs.keys() {
            let heard = person.may_be_heard(*leg);
            if let Some(told) = self.told.get_mut(leg).filter(|told| **told != heard) {
                *told = heard;
                out.push(Order::Voice { leg: *leg, heard, asked: now.instant });
            }
        }
    }

    fn forget(&mut self, person: &Person) {
        for leg in person.legs.keys() {
            self.told.remove(leg);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::{Nick, RoomName};
    use crate::room::person::{Caller, Proof, Who};
    use crate::room::standing::{Affiliation, Role};
    use crate::room::{By, Change, Command, Ending, Policy};

    struct Scene {
        now: Now,
        room: RoomName,
        rooms: Rooms,
        floor: Floor,
    }

    impl Scene {
        fn new() -> Self {
            let mut scene = Self {
                now: Now::read(),
                room: RoomName::new("talk").unwrap(),
                rooms: Rooms::new(Policy::default()),
                floor: Floor::default(),
            };
            let nick = Nick::new("Olga").unwrap();
            scene.orders(&scene.owner(), Command::EnterChat { nick, password: None });
            scene.orders(&scene.owner(), Command::Configure(Box::default()));
            scene
        }

        fn owner(&self) -> By {
            By::Chat("olga@example.org/desk".parse().unwrap())
        }

        fn call(&mut self, leg: u64, who: &str) {
            let caller = Caller {
                who: Who::Jid(who.parse().unwrap()),
                aor: None,
                name: None,
                proof: Proof::Digest,
                private: false,
            };
            let command =
                Command::Call { leg: LegId(leg), caller, password: None, media_agreed: true };
            assert_eq!(self.orders(&By::Leg(LegId(leg)), command), vec![]);
        }

        /// Does a command, and gives what the media plane is told of it as (leg, heard).
        fn orders(&mut self, by: &By, command: Command) -> Vec<(u64, bool)> {
            self.now = self.now + Duration::from_secs(1);
            let facts = self.rooms.apply(self.now, &self.room, by, command).unwrap();
            let mut out = vec![];
            if let Some(room) = self.rooms.get(&self.room) {
                for fact in &facts {
                    self.floor.render(self.now, room, fact, &mut out);
                }
            }
            self.rooms.sweep();
            assert_eq!(self.floor.divergence(&self.rooms), 0);
            out.into_iter()
                .map(|order| match order {
                    Order::Voice { leg, heard, asked } => {
                        assert_eq!(asked, self.now.instant);
                        (leg.0, heard)
                    }
                    Order::Open(_) | Order::Change(_) | Order::Close(_) => {
                        panic!("the floor only gives and takes voice: {order:?}")
                    }
                })
                .collect()
        }

        fn mute(&mut self, leg: u64, on: bool) -> Vec<(u64, bool)> {
            let room = self.rooms.get(&self.room).unwrap();
            let person = room.by_leg(LegId(leg)).unwrap().id;
            self.orders(&self.owner(), Command::Mute { person, on })
        }
    }

    #[test]
    fn tells_each_change_once_and_no_other() {
        let mut scene = Scene::new();
        scene.call(1, "ann@example.org");
        scene.call(2, "ben@example.org");
        assert_eq!(scene.mute(1, true), [(1, false)]);
        // A second reason changes nothing that is heard, nor does the first one's end.
        assert_eq!(scene.orders(&By::Leg(LegId(1)), Command::MuteSelf(true)), []);
        assert_eq!(scene.mute(1, false), []);
        assert_eq!(scene.orders(&By::Leg(LegId(1)), Command::MuteSelf(false)), [(1, true)]);
        let hold = Command::ChangeLeg { hold: true, sends: false };
        assert_eq!(scene.orders(&By::Leg(LegId(2)), hold), [(2, false)]);
        assert_eq!(scene.mute(2, true), []);
        let back = Command::ChangeLeg { hold: false, sends: true };
        assert_eq!(scene.orders(&By::Leg(LegId(2)), back), []);
        assert_eq!(scene.mute(2, false), [(2, true)]);
    }

    #[test]
    fn voice_taken_in_the_chat_is_taken_on_every_leg() {
        let mut scene = Scene::new();
        scene.call(1, "ann@example.org");
        scene.call(2, "ann@example.org");
        let nick = scene.rooms.get(&scene.room).unwrap().by_leg(LegId(1)).unwrap().nick.clone();
        let role =
            |role| Command::Moderate(vec![Change::Role { nick: nick.clone(), role, reason: None }]);
        let owner = scene.owner();
        assert_eq!(scene.orders(&owner, role(Some(Role::Visitor))), [(1, false), (2, false)]);
        assert_eq!(scene.orders(&owner, role(Some(Role::Participant))), [(1, true), (2, true)]);
    }

    #[test]
    fn forgets_who_left_however_they_left() {
        let mut scene = Scene::new();
        for leg in 1..=4 {
            scene.call(leg, &format!("caller{leg}@example.org"));
        }
        assert_eq!(scene.floor.told.len(), 4);
        let gone = Command::HangUp { ending: Ending::Departed };
        assert_eq!(scene.orders(&By::Leg(LegId(1)), gone), []);
        let ban = Change::Affiliation {
            who: Who::Jid("caller2@example.org".parse().unwrap()),
            affiliation: Affiliation::Outcast,
            reason: None,
        };
        assert_eq!(scene.orders(&scene.owner(), Command::Moderate(vec![ban])), []);
        assert_eq!(scene.floor.told.len(), 2);
        let destroy = Command::Destroy { reason: None, alternate: None };
        assert_eq!(scene.orders(&scene.owner(), destroy), []);
        assert_eq!(scene.floor.told.len(), 0);
    }

    #[test]
    fn divergence_counts_each_leg_once() {
        let mut scene = Scene::new();
        scene.call(1, "ann@example.org");
        scene.floor.told.insert(LegId(1), false);
        assert_eq!(scene.floor.divergence(&scene.rooms), 1, "told wrongly");
        scene.floor.told.insert(LegId(9), true);
        assert_eq!(scene.floor.divergence(&scene.rooms), 2, "told of nobody");
        scene.floor.told.remove(&LegId(1));
        assert_eq!(scene.floor.divergence(&scene.rooms), 2, "never told, and told of nobody");
    }
}
