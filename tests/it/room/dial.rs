//! Calls that a room makes.

use cusaxd::id::{DialId, LegId};
use cusaxd::room::dial::{Callee, DialEnd};
use cusaxd::room::person::{Caller, Proof};
use cusaxd::room::standing::Affiliation;
use cusaxd::room::{By, Command, Departure, Fact, Policy, Refusal, Rooms};

use super::{World, affiliate, caller, chat, give, kick, operator, policy, who};

fn callee(text: &str) -> Callee {
    let person = Caller { proof: Proof::Dialled, ..caller(who(text)) };
    Callee::new(text.to_owned(), person)
}

fn dial(text: &str) -> Command {
    Command::Dial(Box::new(callee(text)))
}

fn connect(dial: u64, leg: u64) -> Command {
    Command::Connect { dial: DialId(dial), leg: LegId(leg) }
}

/// How the one call ended that ended with these facts.
fn end(facts: &[Fact]) -> &DialEnd {
    let mut ends = facts.iter().filter_map(|fact| {
        let Fact::DialEnded { end, .. } = fact else { return None };
        Some(end)
    });
    let end = ends.next().expect("a call ended");
    assert_eq!(ends.next(), None, "{facts:?}");
    end
}

#[test]
fn whom_a_moderator_calls_is_in_when_they_answer() {
    let mut world = World::with(|_| {});
    let facts = world.does(&chat("owner"), dial("sip:bob@x"));
    assert_eq!(facts, [Fact::Dialled { dial: DialId(1) }]);
    assert_eq!(world.names(), ["Owner"]);
    let facts = world.does(&By::Server, connect(1, 7));
    assert!(matches!(
        &facts[..],
        [Fact::DialEnded { end: DialEnd::Answered, .. }, Fact::CallEntered { leg: LegId(7), .. }]
    ));
    assert_eq!(world.names(), ["Owner", "Caller (phone)"]);
    assert!(world.room().dials.is_empty());
    world.refuses(&By::Server, connect(1, 8), Refusal::NoSuchCall);
    // Whom the directory ties to a chat that is here is one with it.
    world.comes("juliet");
    world.does(&operator(), dial("juliet"));
    world.does(&By::Server, connect(2, 9));
    assert_eq!(world.names(), ["Owner", "Caller (phone)", "Juliet"]);
}

#[test]
fn the_checks_are_those_of_coming_and_the_wish_is_a_moderators() {
    let mut world = World::with(|_| {});
    world.comes("juliet");
    world.refuses(&chat("juliet"), dial("sip:bob@x"), Refusal::Forbidden);
    world.refuses(&chat("stranger"), dial("sip:bob@x"), Refusal::Forbidden);
    world.does(&chat("owner"), give("sip:bob@x", Affiliation::Outcast));
    world.refuses(&chat("owner"), dial("sip:bob@x"), Refusal::Banned);
    world.does(&chat("owner"), Command::Lock(true));
    world.refuses(&chat("owner"), dial("sip:eve@x"), Refusal::Locked);
    world.does(&chat("owner"), Command::Lock(false));
    world.configure(|room| room.members_only = true);
    world.refuses(&operator(), dial("sip:eve@x"), Refusal::MembersOnly);
    world.configure(|room| (room.members_only, room.max_users) = (false, Some(1)));
    world.refuses(&chat("owner"), dial("sip:eve@x"), Refusal::Full);
    world.configure(|room| room.max_users = None);
    // The password is for those who come by themselves.
    world.configure(|room| room.password = Some("swordfish".to_owned()));
    world.does(&chat("owner"), dial("sip:eve@x"));
    world.refuses(&chat("owner"), dial("sip:eve@x"), Refusal::AlreadyCalled);
    world.does(&By::Server, connect(1, 7));
}

#[test]
fn what_changed_while_it_rang_counts() {
    for (change, refusal) in [
        (Command::Lock(true), Refusal::Locked),
        (
            Command::Configure(Box::new(cusaxd::room::settings::Settings {
                max_users: Some(1),
                ..Default::default()
            })),
            Refusal::Full,
        ),
    ] {
        let mut world = World::with(|_| {});
        world.does(&chat("owner"), dial("sip:bob@x"));
        world.does(&chat("owner"), change);
        let facts = world.does(&By::Server, connect(1, 7));
        assert_eq!(end(&facts), &DialEnd::KeptOut(refusal));
        assert_eq!(world.names(), ["Owner"]);
    }
}

#[test]
fn whoever_is_thrown_out_is_called_no_more() {
    let mut world = World::with(|_| {});
    world.comes("juliet");
    world.does(&chat("owner"), dial("juliet"));
    let facts = world.does(&chat("owner"), kick("Juliet"));
    assert!(matches!(facts[0], Fact::Gone { departure: Departure::Kicked, .. }));
    assert_eq!(end(&facts), &DialEnd::Cancelled);
    world.does(&chat("owner"), dial("sip:bob@x"));
    let banned = Command::Moderate(vec![affiliate("sip:bob@x", Affiliation::Outcast)]);
    assert_eq!(end(&world.does(&chat("owner"), banned)), &DialEnd::Cancelled);
    // Who leaves may still be called back.
    world.comes("juliet");
    world.does(&chat("owner"), dial("juliet"));
    world.does(&chat("juliet"), Command::LeaveChat);
    assert_eq!(world.room().dials.len(), 1);
    world.does(&chat("owner"), Command::EndDial { dial: DialId(3), end: DialEnd::Cancelled });
    assert_eq!(world.room().dials.len(), 0);
}

#[test]
fn calls_have_limits_of_room_and_server() {
    let mut world = World::with(|_| {});
    for number in 0..16 {
        world.does(&operator(), dial(&format!("sip:bob{number}@x")));
    }
    world.refuses(&operator(), dial("sip:bob@x"), Refusal::TooMany);
    let mut world = World::with(|_| {});
    world.rooms = Rooms::new(Policy { max_dials: 1, ..policy() });
    world.comes("owner");
    world.configure(|_| {});
    world.does(&operator(), dial("sip:bob@x"));
    world.refuses(&operator(), dial("sip:eve@x"), Refusal::TooMany);
}

#[test]
fn a_server_that_stops_calls_nobody() {
    let mut world = World::with(|_| {});
    world.does(&chat("owner"), dial("sip:bob@x"));
    let facts = world.rooms.shut_down().remove(0).1;
    assert_eq!(end(&facts), &DialEnd::Cancelled);
    world.refuses(&operator(), dial("sip:eve@x"), Refusal::Draining);
}
