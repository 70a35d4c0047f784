//! Ad-hoc commands (XEP-0050) by slixmpp's own client of them, on a real server.

use serde_json::{Value, json};

use crate::{
    site::{ADMIN, CHAT, ROOMS, Site, room},
    wait::PATIENCE,
};

fn node(name: &str) -> String {
    format!("urn:x-cusax:command:{name}")
}

#[test]
fn an_admin_runs_the_rooms_by_forms_and_a_moderator_mutes_a_phone() {
    let test = "an_admin_runs_the_rooms_by_forms_and_a_moderator_mutes_a_phone";
    let Some(site) = Site::start(test) else { return };
    let (root, alice) = (site.chat(ADMIN), site.chat("alice"));
    let nodes = |chat: &crate::slixmpp::Chat, to: &str| -> Vec<Value> {
        chat.tell("commands", json!({ "to": to }))["nodes"].as_array().expect("a list").clone()
    };
    assert!(nodes(&root, ROOMS).contains(&json!(node("set-room"))));
    assert_eq!(nodes(&alice, ROOMS), Vec::<Value>::new());
    let refused = alice.attempt("command", json!({ "to": ROOMS, "node": node("list-rooms") }));
    assert_eq!(refused.err().as_deref(), Some("forbidden"));

    // Two forms make a room; the second shows its settings.
    let asked = root.tell("command", json!({ "to": ROOMS, "node": node("set-room") }));
    assert_eq!((&asked["status"], &asked["actions"]), (&json!("executing"), &json!(["next"])));
    let settings = root.tell(
        "command",
        json!({
            "to": ROOMS, "node": node("set-room"), "session": asked["session"], "action": "next",
            "form": { "room": "lounge" },
        }),
    );
    let fields = settings["fields"].as_array().expect("a list");
    assert!(fields.contains(&json!("muc#roomconfig_roomname")), "{settings}");
    let done = root.tell(
        "command",
        json!({
            "to": ROOMS, "node": node("set-room"), "session": asked["session"],
            "action": "complete", "form": { "muc#roomconfig_roomname": "The lounge" },
        }),
    );
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(site.cusaxd.room("lounge")["title"], "The lounge");

    // Who keeps order in a room mutes who calls, from the room's own commands.
    alice.join("lounge");
    let mark = alice.mark();
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    let carol = alice.sees_callers(mark, 1).remove(0);
    let mute = json!({ "to": room("lounge"), "node": node("mute"), "form": { "person": carol } });
    let refused = alice.attempt("command", mute.clone());
    assert_eq!(refused.err().as_deref(), Some("forbidden"));
    root.join("lounge");
    root.affiliation("lounge", &format!("alice@{CHAT}"), "admin");
    let mark = alice.mark();
    assert_eq!(alice.tell("command", mute)["status"], "completed");
    alice.sees(mark, &carol, "muted", |it| it["hats"].to_string().contains("Muted"));

    let mark = alice.mark();
    let announce = "http://jabber.org/protocol/admin#announce";
    let form = json!({ "announcement": "The server restarts" });
    root.tell("command", json!({ "to": ROOMS, "node": announce, "form": form }));
    alice.wait_for(mark, PATIENCE, "the announcement", |event| {
        event["ev"] == "message" && event["body"] == "The server restarts" && event["from"] == ROOMS
    });

    let listed = root.tell("command", json!({ "to": ROOMS, "node": node("list-rooms") }));
    assert!(listed["xml"].to_string().contains("The lounge"), "{listed}");
    let gone = json!({ "to": ROOMS, "node": node("destroy-room"), "form": { "room": "lounge" } });
    assert_eq!(root.tell("command", gone.clone())["status"], "completed");
    assert_eq!(root.attempt("command", gone).err().as_deref(), Some("item-not-found"));
}
