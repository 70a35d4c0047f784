//! An operator with a browser, while people talk.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::{Options, TONE_DBFS},
    console::{Console, Look},
    cusaxd::{PROMPT, READ_TOKEN, TOKEN},
    recording::SILENT_DBFS,
    site::{Site, room},
    slixmpp::hats,
    wait::{PATIENCE, monotonic, pause},
};

/// Pages that axe looks at, each in both schemes.
const PAGES: [&str; 9] = [
    "/console",
    "/console/rooms",
    "/console/rooms/lounge",
    "/console/users",
    "/console/events",
    "/console/search?search=a",
    "/console/do/setRoom?room=lounge",
    "/console/do/announce",
    "/console/login",
];

#[test]
fn an_operator_mutes_a_caller_in_the_console() {
    let test = "an_operator_mutes_a_caller_in_the_console";
    let Some(site) = Site::with_directory(test) else { return };
    let Some(console) = Console::start(site.ports.http, &site.dir) else { return };
    let (alice, bob, carol) = (site.chat("alice"), site.chat("bob"), site.chat("carol"));
    alice.create("lounge", json!({ "muc#roomconfig_roomname": "Monday meeting" }));
    bob.join("lounge");
    carol.join("lounge");
    let mark = bob.mark();
    let hers = site.caller_as("carol", Options::known("carol"));
    hers.call("lounge", 1000.0);
    let dave = site.caller_as("dave", Options::known("dave"));
    dave.call("lounge", 600.0);
    let nick = bob.sees_callers(mark, 1).remove(0);

    assert_eq!(console.open("/console/rooms/lounge"), 401);
    console.log_in(TOKEN);
    let his = format!("tr:has-text(\"{nick}\")");
    console.shows(&his, "heard");
    console.shows("tr:has-text(\"carol\")", "Chat and phone");
    assert!(console.level(&nick) > 20.0, "he is loud");
    console.shows(&his, "Good");

    // By keyboard; everyone on every side knows at once.
    let mark = bob.mark();
    let before = monotonic();
    let muted = console.press(&format!("Mute {nick}"));
    console.shows("#notice", &format!("Mute {nick}: done."));
    console.shows(&his, "muted by an operator");
    bob.sees(mark, &nick, "is muted", |event| hats(event).iter().any(|hat| hat == "Muted"));
    assert_eq!(console.focus(), format!("Unmute {nick}"), "the focus stays where it was");
    pause(Duration::from_secs(2));
    let (now, heard) = (monotonic(), hers.heard());
    assert!(heard.level(600.0, before - 1.5, before - 0.2) > TONE_DBFS - 3.0, "heard before");
    let silent = muted + PROMPT.as_secs_f64();
    assert!(heard.level(600.0, silent, now - 0.1) < SILENT_DBFS, "heard after the mute");
    assert!(console.level(&nick) < 1.0, "nothing of him is in the mix");

    let wide = |scheme| Look { width: 1280, height: 720, scheme };
    let narrow = |scheme| Look { width: 390, height: 844, scheme };
    console.screenshot("console-room", &site.dir, &wide("light"));
    console.screenshot("console-room-dark", &site.dir, &wide("dark"));
    console.screenshot("console-room-small", &site.dir, &narrow("light"));
    console.open("/console/users");
    console.screenshot("console-users", &site.dir, &wide("light"));
    console.open("/console");
    console.shows(".card", "Ready");
    console.screenshot("console-overview", &site.dir, &wide("light"));
    console.screenshot("console-overview-small", &site.dir, &narrow("dark"));
    for path in PAGES {
        for scheme in ["light", "dark"] {
            let faults = console.examine(path, scheme);
            assert!(faults.is_empty(), "{faults:#?}");
        }
    }

    // Voice comes back, the room is locked, and somebody is thrown out for a reason.
    console.open("/console/rooms/lounge");
    let granted = console.press(&format!("Unmute {nick}"));
    console.shows(&his, "heard");
    console.press("Lock");
    console.shows("h1", "locked");
    pause(Duration::from_secs(1));
    let back = hers.heard().first_heard(600.0, granted - 0.5, monotonic());
    assert!(back.is_some_and(|back| back < granted + PROMPT.as_secs_f64()), "{back:?}");
    console.press("Settings…");
    console.shows("dialog h2", "settings");
    console.screenshot("console-settings", &site.dir, &wide("dark"));
    console.press("Cancel");
    let mark = bob.mark();
    console.press(&format!("Kick {nick}"));
    console.fill("Reason", "It is late");
    console.press("Kick");
    let gone = bob.sees_gone(mark, &nick, PATIENCE).to_string();
    assert!(gone.contains("307") && gone.contains("It is late"), "{gone}");
    dave.ended(0, PATIENCE);
    console.shows("#latest", &format!("{nick} was kicked: It is late"));
    assert_eq!(console.count(&his), 0);
    assert_eq!(console.complaints(), [""; 0]);

    // Who may only look sees the same, and nothing to press.
    let Some(looker) = Console::start(site.ports.http, &site.dir) else { return };
    looker.open("/console/rooms/lounge");
    looker.log_in(READ_TOKEN);
    looker.shows("tr:has-text(\"carol\")", "heard");
    looker.shows(".top", "read only");
    assert_eq!(looker.count("main button:not([type=submit]), main form[method=post]"), 0);
    assert_eq!(looker.open("/console/do/lockRoom"), 403);
    bob.tell("leave", json!({ "room": room("lounge"), "nick": "bob" }));
}
