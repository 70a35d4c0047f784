//! What a subscriber knows after any row of documents is what the last full one would have said.
#![allow(clippy::unwrap_used)]

use cusax::conference::{
    AUDIO, Conference, Document, Endpoint, EndpointStatus, MESSAGE, Media, MediaStatus, Outcome,
    State, Subscriber, User, Users,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

proptest! {
    /// Whoever is told by full and partial documents, in any mixture, knows what is told in full.
    #[test]
    fn partial_documents_add_up_to_full_ones(steps in vec((conference(), way()), 1..12)) {
        let mut subscriber = Subscriber::default();
        let mut before: Option<Conference> = None;
        for (version, (conference, way)) in (1..).zip(steps) {
            let told = match (&before, way) {
                (None, _) | (_, Way::Full) => conference.clone(),
                (Some(_), Way::PartialOfAll) => {
                    partial(&conference, conference.users.list.clone(), gone(&before, &conference))
                }
                (Some(before), Way::PartialOfChanged) => {
                    let changed = conference.users.list.iter()
                        .filter(|user| !before.users.list.contains(user));
                    let changed = changed.cloned().collect();
                    partial(&conference, changed, gone(&Some(before.clone()), &conference))
                }
            };
            let outcome = subscriber.handle_document(read(&told, version));
            prop_assert_eq!(outcome, Outcome::Applied);
            let known = by_entity(subscriber.conference().unwrap().clone());
            let whole = by_entity(read(&conference, version).into());
            prop_assert_eq!(known, whole);
            before = Some(conference);
        }
    }

    /// A document that is lost is noticed with the next, and the full one that follows mends it.
    #[test]
    fn a_gap_is_mended(conferences in vec(conference(), 3..4)) {
        let mut subscriber = Subscriber::default();
        subscriber.handle_document(read(&conferences[0], 1));
        let known = subscriber.clone();
        let late = partial(&conferences[2], vec![], vec![]);
        prop_assert_eq!(subscriber.handle_document(read(&late, 3)), Outcome::Refresh);
        prop_assert_eq!(subscriber.conference(), known.conference());
        prop_assert_eq!(subscriber.handle_document(read(&conferences[2], 3)), Outcome::Applied);
        let whole: Conference = read(&conferences[2], 3).into();
        prop_assert_eq!(subscriber.conference(), Some(&whole));
    }
}

/// How a focus may tell of a change.
#[derive(Clone, Copy, Debug)]
enum Way {
    Full,
    PartialOfAll,
    PartialOfChanged,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Full), Just(Way::PartialOfAll), Just(Way::PartialOfChanged)]
}

fn read(conference: &Conference, version: u32) -> Document {
    Document::from_xml(&conference.to_xml(version)).unwrap()
}

fn partial(conference: &Conference, users: Vec<User>, gone: Vec<User>) -> Conference {
    let list = gone.into_iter().chain(users).collect();
    let users = Users { state: State::Partial, list };
    Conference { state: State::Partial, users, ..conference.clone() }
}

/// Those who were there and are not.
fn gone(before: &Option<Conference>, conference: &Conference) -> Vec<User> {
    let here = |user: &User| conference.users.list.iter().any(|one| one.entity == user.entity);
    let before = before.iter().flat_map(|before| &before.users.list).filter(|user| !here(user));
    before
        .map(|user| User { entity: user.entity.clone(), state: State::Deleted, ..User::default() })
        .collect()
}

/// The order of people says nothing.
fn by_entity(mut conference: Conference) -> Conference {
    conference.users.list.sort_by(|a, b| a.entity.cmp(&b.entity));
    conference
}

fn conference() -> impl Strategy<Value = Conference> {
    let users = btree_map(0..6_u8, user(), 0..6);
    (option::of("[a-z<&]{0,6}"), option::of(0..9_u32), users).prop_map(|(subject, count, users)| {
        let mut conference =
            Conference { entity: "sip:tea@conf.example.org".to_owned(), ..Conference::default() };
        conference.description.subject = subject;
        conference.conference_state.user_count = count;
        conference.users.list = users
            .into_iter()
            .map(|(i, user)| User { entity: format!("sip:u{i}@anonymous.invalid"), ..user })
            .collect();
        conference
    })
}

fn user() -> impl Strategy<Value = User> {
    let roles = vec(prop_oneof![Just("owner".to_owned()), Just("visitor".to_owned())], 0..2);
    (option::of("[a-z ]{1,6}"), roles, btree_map(0..3_u8, endpoint(), 0..3)).prop_map(
        |(display_text, roles, endpoints)| User {
            display_text,
            roles,
            endpoints: endpoints
                .into_iter()
                .map(|(i, endpoint)| Endpoint { entity: format!("sip:tea@x;gr={i}"), ..endpoint })
                .collect(),
            ..User::default()
        },
    )
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let status = prop_oneof![
        Just(EndpointStatus::Connected),
        Just(EndpointStatus::MutedViaFocus),
        Just(EndpointStatus::OnHold),
    ];
    let media = prop_oneof![Just(AUDIO), Just(MESSAGE)];
    (option::of(status), option::of(media)).prop_map(|(status, kind)| Endpoint {
        status,
        media: kind
            .map(|kind| Media {
                id: "1".to_owned(),
                kind: kind.to_owned(),
                label: None,
                src_id: None,
                status: MediaStatus::SendRecv,
            })
            .into_iter()
            .collect(),
        ..Endpoint::default()
    })
}
