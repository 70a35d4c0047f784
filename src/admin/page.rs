//! Parts of long lists: what fits a search, in an order, some of it.
//!
//! Only what is on the page is described, so that a list of ten thousand rooms costs a glance at each.

use std::cmp::Reverse;

use serde::Deserialize;
use serde_json::{Value, json};

use super::schema;
use crate::directory::{Directory, User};
use crate::room::person::{Person, Who};
use crate::room::{Room, Rooms};

/// Which part of a list; by default all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Page {
    /// Only what has this in a name or an address, in whatever case. Empty: everything.
    pub search: String,
    /// In which order rooms come; people come as they came in, users by JID.
    pub sort: Sort,
    /// How many are left out that come before.
    pub offset: usize,
    /// How many there are at most; `None`: as many as there are.
    pub limit: Option<usize>,
}

/// The order of rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// By name.
    #[default]
    Name,
    /// The most people first.
    Size,
}

impl Page {
    /// Rooms in counts, and how many fit.
    pub(super) fn of_rooms(&self, rooms: &Rooms) -> Value {
        let wanted = self.wanted();
        let fits = |room: &&Room| {
            wanted.in_any([room.name.as_str(), &room.settings.name, &room.settings.description])
        };
        let mut fitting: Vec<&Room> = rooms.iter().filter(fits).collect();
        match self.sort {
            Sort::Name => {}
            Sort::Size => fitting.sort_by_key(|room| Reverse(room.people.len())),
        }
        let found = fitting.len();
        let shown: Vec<_> = self.cut(fitting.into_iter()).map(schema::summary).collect();
        self.with(json!({ "rooms": shown }), found)
    }

    /// People of all rooms, each with the room they are in, and how many fit.
    pub(super) fn of_people(&self, rooms: &Rooms) -> Value {
        let wanted = self.wanted();
        let people = || {
            let everyone = rooms
                .iter()
                .flat_map(|room| room.people.values().map(move |person| (room, person)));
            everyone.filter(|(_, person)| wanted.is_of(person))
        };
        let shown: Vec<_> = self
            .cut(people())
            .map(|(room, person)| {
                let mut value = schema::person(room, person);
                value["room"] = json!(room.name.as_str());
                value
            })
            .collect();
        self.with(json!({ "people": shown }), people().count())
    }

    /// People of a room, and how many fit.
    pub(super) fn of_one(&self, room: &Room) -> (Vec<Value>, usize) {
        let wanted = self.wanted();
        let people = || room.people.values().filter(|person| wanted.is_of(person));
        let shown = self.cut(people()).map(|person| schema::person(room, person)).collect();
        (shown, people().count())
    }

    /// Users of the directory, and how many fit.
    pub(super) fn of_users(&self, directory: &Directory) -> Value {
        let wanted = self.wanted();
        let users = || {
            directory.users().filter(|User { jid, aor, name, .. }| {
                wanted.in_any([jid.as_str(), &aor.to_string(), name.as_deref().unwrap_or("")])
            })
        };
        let shown: Vec<_> = self.cut(users()).map(schema::user).collect();
        self.with(json!({ "users": shown }), users().count())
    }

    /// Adds how many fit, unless all of them are there to be counted.
    pub(super) fn with(&self, mut list: Value, found: usize) -> Value {
        if *self != Self::default() {
            list["found"] = json!(found);
        }
        list
    }

    fn wanted(&self) -> Wanted {
        Wanted(self.search.trim().to_lowercase())
    }

    fn cut<T>(&self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.skip(self.offset).take(self.limit.unwrap_or(usize::MAX))
    }
}

/// What a search looks for, in lower case.
struct Wanted(String);

impl Wanted {
    fn in_any<const N: usize>(&self, texts: [&str; N]) -> bool {
        self.0.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&self.0))
    }

    fn is_of(&self, person: &Person) -> bool {
        let address = || match &person.who {
            Who::Jid(jid) => jid.to_string(),
            Who::Aor(aor) => aor.to_string(),
            Who::Unknown(_) => String::new(),
        };
        let called = || {
            let mut aors = person.legs.values().filter_map(|leg| leg.caller.aor.as_ref());
            aors.any(|aor| self.in_any([&aor.to_string()]))
        };
        self.in_any([person.nick.as_str(), &address()]) || called()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::id::{Nick, RoomName};
    use crate::room::settings::Settings;
    use crate::room::{By, Command, Policy};

    /// Rooms `r0` to `r11`, each titled by its number in words where it has one, and in `r7` two people.
    fn rooms() -> Rooms {
        let mut rooms = Rooms::new(Policy::default());
        let now = Now::read();
        let operator = By::Operator("test".to_owned());
        for number in 0..12 {
            let name = RoomName::new(&format!("r{number}")).unwrap();
            let title = if number == 3 { "Café <b>" } else { "" };
            let settings =
                Settings { name: title.to_owned(), persistent: true, ..Settings::default() };
            rooms.apply(now, &name, &operator, Command::Configure(Box::new(settings))).unwrap();
        }
        for user in ["ann", "bob"] {
            let by = By::Chat(format!("{user}@chat.example/x").parse().unwrap());
            let nick = Nick::new(&user.to_uppercase()).unwrap();
            let enter = Command::EnterChat { nick, password: None };
            rooms.apply(now, &RoomName::new("r7").unwrap(), &by, enter).unwrap();
        }
        rooms
    }

    fn names(value: &Value) -> Vec<&str> {
        let key = if value["rooms"].is_array() { ("rooms", "name") } else { ("people", "nick") };
        let all = value[key.0].as_array().unwrap();
        all.iter().map(|one| one[key.1].as_str().unwrap()).collect()
    }

    #[test]
    fn a_page_is_a_part_and_says_how_many_fit() {
        let rooms = rooms();
        let page = |text: &str| -> Value {
            let page: Page = serde_json::from_str(text).unwrap();
            page.of_rooms(&rooms)
        };
        let all = page("{}");
        assert_eq!((names(&all).len(), &all["found"]), (12, &Value::Null));
        let second = page(r#"{"offset": 5, "limit": 3}"#);
        assert_eq!((names(&second), &second["found"]), (vec!["r3", "r4", "r5"], &json!(12)));
        assert_eq!(names(&page(r#"{"sort": "size", "limit": 2}"#)), ["r7", "r0"]);
        let found = page(r#"{"search": " CAFÉ ", "limit": 50}"#);
        assert_eq!((names(&found), &found["found"]), (vec!["r3"], &json!(1)));
        let past = page(r#"{"offset": 18446744073709551615}"#);
        assert_eq!((names(&past), &past["found"]), (vec![], &json!(12)));
    }

    /// However many there are, a page describes what is on it.
    #[test]
    fn ten_thousand_rooms_are_pages_of_fifty() {
        let mut rooms = Rooms::new(Policy::default());
        let (now, operator) = (Now::read(), By::Operator("test".to_owned()));
        for number in 0..10_000 {
            let name = RoomName::new(&format!("room-{number:05}")).unwrap();
            let settings = Box::new(Settings::of_operators());
            rooms.apply(now, &name, &operator, Command::Configure(settings)).unwrap();
        }
        let page = |sort, search: &str| {
            let search = search.to_owned();
            Page { sort, search, offset: 9_950, limit: Some(50) }.of_rooms(&rooms)
        };
        for sort in [Sort::Name, Sort::Size] {
            let last = page(sort, "ROOM");
            assert_eq!((names(&last).len(), &last["found"]), (50, &json!(10_000)));
            assert_eq!(names(&last)[49], "room-09999");
        }
        assert_eq!(page(Sort::Name, "room-0999")["found"], 10);
    }

    #[test]
    fn people_are_found_in_any_room_by_nick_and_address() {
        let rooms = rooms();
        let find = |search: &str| {
            Page { search: search.to_owned(), limit: Some(1), ..Page::default() }.of_people(&rooms)
        };
        let everyone = find("@chat.EXAMPLE");
        assert_eq!((names(&everyone), &everyone["found"]), (vec!["ANN"], &json!(2)));
        assert_eq!(names(&find("bo")), ["BOB"]);
        assert_eq!(find("bo")["people"][0]["room"], "r7");
        assert_eq!(find("nobody")["found"], 0);
        let room = rooms.get(&RoomName::new("r7").unwrap()).unwrap();
        let (shown, found) = Page { offset: 1, ..Page::default() }.of_one(room);
        assert_eq!((shown.len(), found), (1, 2));
    }
}
