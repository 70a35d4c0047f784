//! What no client should send: each gets the answer that its protocol has for it, and changes
//! nothing.

use cusaxd::clock::Now;
use cusaxd::room::Policy;
use cusaxd::room::person::Person;
use cusaxd::room::standing::Role;
use minidom::Element;
use proptest::prelude::*;

use crate::muc::{Server, parse};

/// A room with Juliet, its owner, Romeo, and a caller.
fn garden() -> Server {
    let mut server = Server::new();
    for line in [
        "juliet make garden Juliet",
        "romeo join garden Romeo",
        "phone 1 call garden sip:bob@example.net Bob",
        "juliet <message to='garden@rooms.example.org' type='groupchat'><body>Ay me!</body></message>",
    ] {
        server.line(line);
    }
    server
}

/// What came back: `iq error bad-request modify`, and so on, joined by `, `.
fn told(out: &[Element]) -> String {
    let one = |stanza: &Element| {
        let error = stanza.children().find(|child| child.name() == "error");
        let condition = error.and_then(|error| error.children().next()).map(Element::name);
        let words = [
            Some(stanza.name()),
            stanza.attr("type"),
            condition,
            error.and_then(|error| error.attr("type")),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    out.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn hostile_stanzas_are_answered_and_change_nothing() {
    let long = "x".repeat(70_000);
    let big = "x".repeat(9_000);
    let many = "<item affiliation='member' jid='a@b'/>".repeat(257);
    let invites = "<invite to='a@b'/>".repeat(21);
    let nick = "n".repeat(65);
    let node = "n".repeat(1_024);
    let deep = format!("{}{}", "<a>".repeat(60), "</a>".repeat(60));
    let muc = "http://jabber.org/protocol/muc";
    let room = "garden@rooms.example.org";
    let admin = |item: &str| format!("<query xmlns='{muc}#admin'>{item}</query>");
    let set = |payload: &str| format!("<iq id='i' type='set' to='{room}'>{payload}</iq>");
    let get = |payload: &str| format!("<iq id='i' type='get' to='{room}'>{payload}</iq>");
    let owner = |inner: &str| set(&format!("<query xmlns='{muc}#owner'>{inner}</query>"));
    let form =
        |fields: &str| owner(&format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>"));
    let field = |var: &str, value: &str| {
        form(&format!("<field var='muc#roomconfig_{var}'><value>{value}</value></field>"))
    };
    let join =
        |to: &str, x: &str| format!("<presence to='{to}'><x xmlns='{muc}'>{x}</x></presence>");
    let to_room = |inner: &str| format!("<message to='{room}'>{inner}</message>");
    let user = |inner: &str| to_room(&format!("<x xmlns='{muc}#user'>{inner}</x>"));
    let picture = "A".repeat(90_000);
    let admins: String = (0..257).map(|n| format!("<value>a{n}@b</value>")).collect();
    let register = |inner: &str| set(&format!("<query xmlns='jabber:iq:register'>{inner}</query>"));
    let vcard = |inner: &str| set(&format!("<vCard xmlns='vcard-temp'>{inner}</vCard>"));
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let items = |set: &str| {
        format!(
            "<iq id='i' type='get' to='rooms.example.org'>\
             <query xmlns='http://jabber.org/protocol/disco#items'>\
             <set xmlns='http://jabber.org/protocol/rsm'>{set}</set></query></iq>"
        )
    };
    let command = |node: &str, inner: &str| {
        let ns = "http://jabber.org/protocol/commands";
        format!("<command xmlns='{ns}' node='{node}'>{inner}</command>")
    };
    let hat = |uri: &str| {
        format!(
            "<x xmlns='jabber:x:data' type='submit'>\
             <field var='hats#title'><value>Poet</value></field>\
             <field var='hats#uri'><value>{uri}</value></field></x>"
        )
    };
    let person = |who: &str| {
        format!(
            "<x xmlns='jabber:x:data' type='submit'>\
             <field var='person'><value>{who}</value></field></x>"
        )
    };
    let bad = "iq error bad-request modify";
    let none = "";
    let cases: Vec<(&str, String, &str)> = vec![
        // The shape of an iq (RFC 6120 §8.2.3).
        ("nurse", format!("<iq type='get' to='{room}'>{ping}</iq>"), bad),
        ("nurse", format!("<iq id='i' to='{room}'>{ping}</iq>"), bad),
        ("nurse", format!("<iq id='i' type='gets' to='{room}'>{ping}</iq>"), bad),
        ("nurse", format!("<iq id='i' type='get' to='{room}'/>"), bad),
        ("nurse", format!("<iq id='i' type='get' to='{room}'>{ping}{ping}</iq>"), bad),
        ("nurse", format!("<iq id='i' type='get' to='{room}'>text</iq>"), bad),
        ("nurse", format!("<iq id='i' type='result' to='{room}'/>"), none),
        ("nurse", format!("<iq id='i' type='error' to='{room}'/>"), none),
        ("romeo", format!("<iq id='alive-1' type='result' to='{room}'/>"), none),
        (
            "romeo",
            format!("<iq id='alive-99999999999999999999999' type='error' to='{room}'/>"),
            none,
        ),
        ("nurse", set(ping), "iq error service-unavailable cancel"),
        ("nurse", set(info), "iq error service-unavailable cancel"),
        ("nurse", get("<unknown xmlns='urn:x'/>"), "iq error service-unavailable cancel"),
        ("nurse", get("<ping xmlns='urn:xmpp:pong'/>"), "iq error service-unavailable cancel"),
        (
            "nurse",
            get(&format!("<u xmlns='urn:x'>{deep}</u>")),
            "iq error service-unavailable cancel",
        ),
        // Addresses.
        (
            "nurse",
            format!("<iq id='i' type='get' to='@'>{ping}</iq>"),
            "iq error jid-malformed modify",
        ),
        ("nurse", format!("<iq id='i' type='get'>{ping}</iq>"), "iq error jid-malformed modify"),
        (
            "nurse",
            format!("<iq id='i' type='get' to='elsewhere.example'>{ping}</iq>"),
            "iq error jid-malformed modify",
        ),
        (
            "nurse",
            format!("<iq id='i' type='get' to='{node}@rooms.example.org'>{ping}</iq>"),
            "iq error jid-malformed modify",
        ),
        (
            "nurse",
            format!("<iq id='i' type='get' to='rooms.example.org/x'>{ping}</iq>"),
            "iq error service-unavailable cancel",
        ),
        (
            "nurse",
            format!("<iq id='i' type='get' to='nowhere@rooms.example.org'>{ping}</iq>"),
            "iq error item-not-found cancel",
        ),
        (
            "nurse",
            format!("<iq id='i' type='get' to='a\\40b@rooms.example.org'>{info}</iq>"),
            "iq error service-unavailable cancel",
        ),
        (
            "nurse",
            format!("<iq id='i' type='get' to='{room}/{nick}'>{ping}</iq>"),
            "iq error service-unavailable cancel",
        ),
        ("rooms.example.org", format!("<iq id='i' type='get' to='{room}'>{ping}</iq>"), none),
        (
            "x@rooms.example.org/y",
            format!("<message type='groupchat' to='{room}'><body>loop</body></message>"),
            none,
        ),
        (
            "nurse@example.org",
            join(&format!("{room}/Nurse"), ""),
            "presence error bad-request modify",
        ),
        ("example.org", set(&admin("<item affiliation='owner' jid='a@b'/>")), bad),
        // Presence.
        ("nurse", join(room, ""), "presence error jid-malformed modify"),
        ("nurse", join(&format!("{room}/{nick}"), ""), "presence error jid-malformed modify"),
        ("nurse", join("rooms.example.org", ""), "presence error service-unavailable cancel"),
        ("nurse", join("rooms.example.org/Nurse", ""), "presence error service-unavailable cancel"),
        (
            "nurse",
            join("a\\40b@rooms.example.org/Nurse", ""),
            "presence error service-unavailable cancel",
        ),
        (
            "nurse",
            join(&format!("{room}/Nurse"), &format!("<x>{big}</x>")),
            "presence error policy-violation modify",
        ),
        (
            "nurse",
            join(&format!("{room}/Nurse"), "<history seconds='-1'/>"),
            "presence error bad-request modify",
        ),
        (
            "nurse",
            join(&format!("{room}/Nurse"), "<history maxchars='1e9'/>"),
            "presence error bad-request modify",
        ),
        (
            "nurse",
            join(&format!("{room}/Nurse"), "<history since='99999-99-99'/>"),
            "presence error bad-request modify",
        ),
        ("nurse", join(&format!("{room}/Romeo"), ""), "presence error conflict cancel"),
        ("nurse", join(&format!("{room}/Bob (phone)"), ""), "presence error conflict cancel"),
        ("nurse", join(&format!("{room}/Nurse (PHONE)"), ""), "presence error conflict cancel"),
        ("nurse", format!("<presence to='{room}/Nurse'/>"), "presence unavailable"),
        (
            "nurse",
            format!("<presence type='nonsense' to='{room}/Nurse'/>"),
            "presence error bad-request modify",
        ),
        ("nurse", format!("<presence type='probe' to='{room}/Romeo'/>"), none),
        ("nurse", format!("<presence type='subscribe' to='{room}'/>"), "presence unsubscribed"),
        ("nurse", format!("<presence type='unavailable' to='{room}/Romeo'/>"), none),
        ("nurse", format!("<presence type='error' to='{room}/Romeo'/>"), none),
        (
            "romeo",
            format!("<presence to='{room}/Romeo'><status>{big}</status></presence>"),
            "presence error policy-violation modify",
        ),
        (
            "romeo",
            format!("<presence type='error' to='{room}/Romeo'><error type='cancel'/></presence>"),
            none,
        ),
        // Messages.
        (
            "nurse",
            format!("<message type='groupchat' to='{room}'><body>x</body></message>"),
            "message error not-acceptable cancel",
        ),
        (
            "romeo",
            format!("<message type='groupchat' to='{room}'><body>{long}</body></message>"),
            "message error policy-violation modify",
        ),
        (
            "romeo",
            format!("<message type='groupchat' to='{room}' id='LONG'/>"),
            "message error policy-violation modify",
        ),
        (
            "romeo",
            format!("<message type='groupchat' to='{room}/Juliet'><body>x</body></message>"),
            "message error bad-request modify",
        ),
        (
            "romeo",
            "<message type='groupchat' to='rooms.example.org'><body>x</body></message>".to_owned(),
            "message error service-unavailable cancel",
        ),
        (
            "romeo",
            format!("<message type='chat' to='{room}/Nobody'><body>x</body></message>"),
            "message error item-not-found cancel",
        ),
        (
            "romeo",
            format!("<message type='chat' to='{room}/Bob (phone)'><body>x</body></message>"),
            "message error item-not-found cancel",
        ),
        (
            "romeo",
            format!("<message type='chat' to='{room}/{nick}'><body>x</body></message>"),
            "message error item-not-found cancel",
        ),
        ("romeo", to_room("<body>x</body>"), "message error bad-request modify"),
        ("romeo", user(""), "message error bad-request modify"),
        ("romeo", user("<invite/>"), "message error jid-malformed modify"),
        (
            "romeo",
            user("<invite to='garden@rooms.example.org'/>"),
            "message error item-not-found cancel",
        ),
        ("romeo", user(&invites), "message error policy-violation modify"),
        ("nurse", user("<invite to='a@b'/>"), "message error not-acceptable cancel"),
        ("nurse", user("<decline/>"), "message error jid-malformed modify"),
        (
            "nurse",
            user("<decline to='victim@example.org'/>"),
            "message error item-not-found cancel",
        ),
        (
            "romeo",
            to_room(
                "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>other</value></field></x>",
            ),
            "message error bad-request modify",
        ),
        (
            "romeo",
            to_room(
                "<x xmlns='jabber:x:data' type='submit'><field var='muc#request_allow'><value>yes</value></field></x>",
            ),
            "message error not-acceptable modify",
        ),
        (
            "romeo",
            to_room(
                "<x xmlns='jabber:x:data' type='submit'><field var='muc#roomnick'><value>Romeo</value></field><field var='muc#request_allow'><value>1</value></field></x>",
            ),
            "message error forbidden auth",
        ),
        (
            "romeo",
            to_room("<x xmlns='jabber:x:data' type='submit'/>"),
            "message error not-allowed cancel",
        ),
        ("nurse", format!("<message type='error' to='{room}'><body>x</body></message>"), none),
        (
            "nurse",
            format!(
                "<message type='error' to='{room}/Romeo'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
            ),
            none,
        ),
        (
            "romeo",
            format!("<message type='groupchat' to='{room}'><subject>mine</subject></message>"),
            "message error forbidden auth",
        ),
        // Commands: who may not give them learns nothing, and nobody gives a room those of the service.
        ("nurse", set(&command("urn:x-cusax:command:lock-room", "")), "iq error forbidden auth"),
        ("romeo", set(&command("urn:x-cusax:command:lock-room", "")), "iq error forbidden auth"),
        (
            "juliet",
            set(&command("urn:x-cusax:command:destroy-room", "")),
            "iq error item-not-found cancel",
        ),
        ("juliet", set(&command("", "")), "iq error item-not-found cancel"),
        ("juliet", set("<command xmlns='http://jabber.org/protocol/commands'/>"), bad),
        ("juliet", set(&command("urn:x-cusax:command:kick", "<x xmlns='jabber:x:data'/>")), bad),
        ("juliet", set(&command("urn:x-cusax:command:kick' action='explode", "")), bad),
        ("juliet", set(&command("urn:x-cusax:command:kick' sessionid='1-command", "")), bad),
        (
            "juliet",
            set(&command("urn:x-cusax:command:kick' sessionid='99999999999999999999", "")),
            bad,
        ),
        ("juliet", set(&command("urn:x-cusax:command:kick", &person("p99"))), "iq error item-not-found cancel"),
        ("juliet", set(&command("urn:x-cusax:command:kick", &person(&long))), bad),
        (
            "juliet",
            set(&command("urn:x-cusax:command:ban", &person("Juliet"))),
            "iq error conflict cancel",
        ),
        (
            "juliet@example.org",
            set(&command("urn:x-cusax:command:lock-room", "")),
            "iq error forbidden auth",
        ),
        ("romeo", set(&command("urn:xmpp:hats:commands:create", "")), "iq error forbidden auth"),
        ("nurse", set(&command("urn:xmpp:hats:commands:assign", "")), "iq error forbidden auth"),
        ("juliet", set(&command("urn:xmpp:hats:commands:don", "")), "iq error item-not-found cancel"),
        (
            "juliet",
            set(&command("urn:xmpp:hats:commands:create", &hat(&long))),
            "iq error not-acceptable modify",
        ),
        (
            "juliet",
            set(&command("urn:xmpp:hats:commands:create", &hat("urn:x-cusax:hat:muted"))),
            "iq error not-allowed cancel",
        ),
        // muc#admin.
        ("juliet", set(&admin("")), bad),
        ("juliet", set(&admin("<other/>")), bad),
        ("juliet", set(&admin("<item/>")), bad),
        ("juliet", set(&admin("<item role='none'/>")), bad),
        ("juliet", set(&admin("<item role='king' nick='Romeo'/>")), bad),
        ("juliet", set(&admin("<item role='none' affiliation='outcast' nick='Romeo'/>")), bad),
        ("juliet", set(&admin("<item affiliation='outcast'/>")), bad),
        ("juliet", set(&admin("<item affiliation='emperor' jid='a@b'/>")), bad),
        (
            "juliet",
            set(&admin("<item affiliation='outcast' jid='@'/>")),
            "iq error jid-malformed modify",
        ),
        (
            "juliet",
            set(&admin("<item affiliation='outcast' jid='rooms.example.org'/>")),
            "iq error item-not-found cancel",
        ),
        (
            "juliet",
            set(&admin("<item affiliation='outcast' jid='garden@rooms.example.org'/>")),
            "iq error item-not-found cancel",
        ),
        (
            "juliet",
            set(&admin("<item affiliation='outcast' jid='other@rooms.example.org'/>")),
            "iq error item-not-found cancel",
        ),
        (
            "juliet",
            set(&admin(&format!("<item role='none' nick='{nick}'/>"))),
            "iq error not-acceptable modify",
        ),
        ("juliet", set(&admin("<item role='none' nick=' '/>")), "iq error not-acceptable modify"),
        (
            "juliet",
            set(&admin("<item role='none' jid='nurse@example.org/pc'/>")),
            "iq error item-not-found cancel",
        ),
        ("juliet", set(&admin(&many)), "iq error policy-violation modify"),
        (
            "juliet",
            set(&admin("<item role='none' nick='Romeo'/><item role='none' nick='Nobody'/>")),
            "iq error item-not-found cancel",
        ),
        (
            "juliet",
            set(&admin(
                "<item role='none' nick='Romeo'/><item affiliation='none' jid='juliet@example.org'/>",
            )),
            "iq error conflict cancel",
        ),
        ("romeo", set(&admin("<item role='none' nick='Juliet'/>")), "iq error forbidden auth"),
        (
            "romeo",
            set(&admin("<item affiliation='owner' jid='romeo@example.org'/>")),
            "iq error forbidden auth",
        ),
        ("nurse", set(&admin("<item role='none' nick='Juliet'/>")), "iq error forbidden auth"),
        ("juliet", get(&admin("")), bad),
        ("juliet", get(&admin("<item/>")), bad),
        ("juliet", get(&admin("<item affiliation='none'/>")), bad),
        ("juliet", get(&admin("<item role='none'/>")), bad),
        ("juliet", get(&admin("<item role='visitor' affiliation='none'/>")), bad),
        ("juliet", get(&admin("<item affiliation='owner'/><item affiliation='admin'/>")), bad),
        ("romeo", get(&admin("<item affiliation='owner'/>")), "iq error forbidden auth"),
        ("romeo", get(&admin("<item affiliation='outcast'/>")), "iq error forbidden auth"),
        ("nurse", get(&admin("<item role='moderator'/>")), "iq error forbidden auth"),
        // muc#owner.
        ("juliet", owner(""), bad),
        ("juliet", owner("<destroy/><destroy/>"), bad),
        ("juliet", owner("<other xmlns='urn:x'/>"), bad),
        ("juliet", owner("<x xmlns='jabber:x:data'/>"), bad),
        ("juliet", owner("<x xmlns='jabber:x:data' type='result'/>"), bad),
        ("juliet", owner("<destroy jid='@'/>"), "iq error jid-malformed modify"),
        ("juliet", owner("<destroy jid='a@b/c'/>"), "iq error jid-malformed modify"),
        ("juliet", form("<field var='FORM_TYPE'><value>jabber:iq:search</value></field>"), bad),
        ("juliet", field("passwordprotectedroom", "1"), "iq error not-acceptable modify"),
        ("juliet", field("membersonly", "2"), "iq error not-acceptable modify"),
        ("juliet", field("maxusers", "99999999999"), "iq error not-acceptable modify"),
        ("juliet", field("whois", ""), "iq error not-acceptable modify"),
        ("juliet", field("roomname", &big), "iq error not-acceptable modify"),
        ("romeo", field("roomname", "mine"), "iq error forbidden auth"),
        ("romeo", owner("<destroy/>"), "iq error forbidden auth"),
        ("nurse", get(&format!("<query xmlns='{muc}#owner'/>")), "iq error forbidden auth"),
        // Disco.
        (
            "nurse",
            get("<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>"),
            "iq error item-not-found cancel",
        ),
        (
            "nurse",
            get("<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>"),
            "iq result",
        ),
        (
            "nurse",
            get("<query xmlns='http://jabber.org/protocol/disco#info' node='http://jabber.org/protocol/muc#traffic'/>"),
            "iq error feature-not-implemented cancel",
        ),
        // Registration.
        ("nurse", get("<query xmlns='jabber:iq:register'/>"), "iq result"),
        ("nurse", set("<query xmlns='jabber:iq:register'/>"), bad),
        ("nurse", register("<username/>"), bad),
        ("nurse", register("<username>Romeo</username>"), "iq error conflict cancel"),
        ("nurse", register("<username>ROMEO</username>"), "iq error conflict cancel"),
        ("nurse", register("<username>Bob (phone)</username>"), "iq error conflict cancel"),
        ("nurse", register("<username>x (phone)</username>"), "iq error conflict cancel"),
        (
            "nurse",
            register(&format!("<username>{nick}</username>")),
            "iq error not-acceptable modify",
        ),
        ("nurse", register("<remove/>"), "iq error forbidden auth"),
        ("nurse", register("<x xmlns='jabber:x:data' type='cancel'/>"), bad),
        ("nurse", register("<x xmlns='jabber:x:data' type='submit'/>"), bad),
        (
            "nurse@example.org",
            register("<username>Nurse</username>"),
            bad,
        ),
        (
            "nurse",
            "<iq id='i' type='get' to='nowhere@rooms.example.org'><query xmlns='jabber:iq:register'/></iq>".to_owned(),
            "iq error item-not-found cancel",
        ),
        // The room's picture.
        ("nurse", get("<vCard xmlns='vcard-temp'/>"), "iq error service-unavailable cancel"),
        ("romeo", vcard("<PHOTO><TYPE>image/png</TYPE><BINVAL>AAAA</BINVAL></PHOTO>"), "iq error forbidden auth"),
        ("romeo", vcard(""), "iq error forbidden auth"),
        ("juliet", vcard("<PHOTO/>"), "iq error not-acceptable modify"),
        ("juliet", vcard("<PHOTO><BINVAL>AAAA</BINVAL></PHOTO>"), "iq error not-acceptable modify"),
        ("juliet", vcard("<PHOTO><TYPE>image/png</TYPE></PHOTO>"), "iq error not-acceptable modify"),
        (
            "juliet",
            vcard("<PHOTO><TYPE>image/png</TYPE><BINVAL>=A=A</BINVAL></PHOTO>"),
            "iq error not-acceptable modify",
        ),
        (
            "juliet",
            vcard("<PHOTO><TYPE>image/png\n</TYPE><BINVAL>&#xe9;</BINVAL></PHOTO>"),
            "iq error not-acceptable modify",
        ),
        (
            "juliet",
            vcard(&format!("<PHOTO><TYPE>image/png</TYPE><BINVAL>{picture}</BINVAL></PHOTO>")),
            "iq error policy-violation modify",
        ),
        // Iqs to occupants.
        (
            "nurse",
            format!("<iq id='i' type='get' to='{room}/Romeo'><vCard xmlns='vcard-temp'/></iq>"),
            "iq error not-acceptable cancel",
        ),
        (
            "romeo",
            format!("<iq id='i' type='get' to='{room}/Nobody'>{ping}</iq>"),
            "iq error item-not-found cancel",
        ),
        (
            "romeo",
            format!("<iq id='i' type='get' to='{room}/Bob (phone)'>{ping}</iq>"),
            "iq error service-unavailable cancel",
        ),
        (
            "romeo",
            format!("<iq id='i' type='set' to='{room}/Juliet'><x xmlns='urn:x'>{long}</x></iq>"),
            "iq error policy-violation modify",
        ),
        (
            "romeo",
            format!("<iq id='LONG' type='get' to='{room}/Juliet'>{ping}</iq>"),
            "iq error policy-violation modify",
        ),
        ("romeo", format!("<iq id='relay-1-0' type='result' to='{room}/Juliet'/>"), none),
        ("romeo", format!("<iq id='relay--' type='error' to='{room}/Juliet'/>"), none),
        // More configuration.
        ("juliet", field("allowpm", "all"), "iq error not-acceptable modify"),
        ("juliet", field("allowinvites", "perhaps"), "iq error not-acceptable modify"),
        ("juliet", field("presencebroadcast", "owner"), "iq error not-acceptable modify"),
        ("juliet", field("getmemberlist", "none"), "iq error not-acceptable modify"),
        ("juliet", field("lang", "&lt;en&gt;"), "iq error not-acceptable modify"),
        ("juliet", field("lang", &"a-".repeat(20)), "iq error not-acceptable modify"),
        ("juliet", field("slow_mode_duration", "99999999999"), "iq error not-acceptable modify"),
        ("juliet", field("slow_mode_duration", "1.5"), "iq error not-acceptable modify"),
        ("juliet", field("roomadmins", "@"), "iq error jid-malformed modify"),
        ("juliet", field("roomadmins", "rooms.example.org"), "iq error item-not-found cancel"),
        ("juliet", field("roomadmins", "example.net"), "iq error not-allowed cancel"),
        ("juliet", field("roomadmins", "juliet@example.org"), "iq error conflict cancel"),
        ("juliet", field("roomowners", ""), "iq error conflict cancel"),
        (
            "juliet",
            form(&format!("<field var='muc#roomconfig_roomadmins'>{admins}</field>")),
            "iq error policy-violation modify",
        ),
        ("romeo", field("roomadmins", "romeo@example.org"), "iq error forbidden auth"),
        ("nurse", items("<max>lots</max>"), bad),
        ("nurse", items("<max>-1</max>"), bad),
        ("nurse", items("<before/><after>x</after>"), bad),
        ("nurse", items("<index>99999999</index>"), "iq result"),
        (
            "nurse",
            items("<max>18446744073709551615</max><index>18446744073709551615</index>"),
            "iq result",
        ),
        // What is no stanza.
        ("nurse", format!("<message xmlns='urn:x' type='groupchat' to='{room}'/>"), none),
        ("nurse", format!("<nonsense to='{room}'/>"), none),
    ];
    let untouched = garden();
    let mut wrong = vec![];
    for (who, xml, expected) in &cases {
        let mut server = garden();
        let mut out = vec![];
        let mut stanza = parse(who, xml);
        if let Some(id) = stanza.attrs_mut().iter_mut().find(|(_, value)| *value == "LONG") {
            id.1.clone_from(&long);
        }
        server.element(stanza, &mut out);
        let short: String = xml.chars().take(120).collect();
        if told(&out) != *expected {
            wrong.push(format!("{who} {short}\n  expected {expected:?}, got {:?}", told(&out)));
        }
        if shape(&server) != shape(&untouched) {
            wrong.push(format!("{who} {short}\n  changed the room"));
        }
    }
    assert!(cases.len() >= 120);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn questions_to_others_have_a_limit_and_an_answer() {
    let mut server = garden();
    let mut out = vec![];
    let ask = |to: &str| {
        format!(
            "<iq id='i' type='get' to='garden@rooms.example.org/{to}'><ping xmlns='urn:xmpp:ping'/></iq>"
        )
    };
    for _ in 0..201 {
        server.stanza("romeo", &ask("Juliet"), &mut out);
    }
    let (passed, refused) = out.split_at(200);
    assert!(passed.iter().all(|iq| iq.attr("to") == Some("juliet@example.org/pc")));
    assert_eq!(told(refused), "iq error policy-violation wait", "faster than the rate");
    out.clear();
    server.line("+20");
    server.stanza("romeo", &ask("Juliet"), &mut out);
    assert_eq!(told(&out), "iq error resource-constraint wait", "too many without an answer");
    let given_up = server.line("+60");
    assert_eq!(given_up.len(), 200);
    assert!(given_up.iter().all(|iq| iq.attr("to") == Some("romeo@example.org/pc")));
    assert_eq!(told(&given_up[..1]), "iq error remote-server-timeout wait");
    out.clear();
    server.stanza("romeo", &ask("Juliet"), &mut out);
    assert_eq!(told(&out), "iq get");
}

#[test]
fn what_changes_for_all_is_no_flood() {
    let configure = |people: usize| {
        let mut server = Server::new();
        server.line("juliet make garden Juliet");
        for n in 1..people {
            server.line(&format!("guest{n} join garden Guest{n}"));
            server.line("+0.1");
        }
        let out = server.line(
            "juliet <iq id='o' type='set' to='garden@rooms.example.org'>\
             <query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
             <field var='muc#roomconfig_whois'><value>anyone</value></field></x></query></iq>",
        );
        out.iter().filter(|stanza| stanza.name() == "presence").count()
    };
    // Everyone is shown everyone else, but for the moderator, who saw them all along.
    assert_eq!(configure(100), 99 * 99);
    assert_eq!(configure(101), 0);
}

/// All that a stanza could have changed.
fn shape(server: &Server) -> String {
    let rooms: Vec<_> = server
        .rooms
        .iter()
        .map(|room| {
            let affiliations: Vec<_> = room.affiliations().collect();
            let told = room.history.iter().count();
            let nicks: Vec<_> = room.registered_nicks().collect();
            format!(
                "{:?} {:?} {:?} {:?} {affiliations:?} {nicks:?} {told}",
                room.settings, room.people, room.subject, room.avatar
            )
        })
        .collect();
    format!("{rooms:?} {}", server.muc.sessions())
}

/// XML that resembles what clients send, put together at random.
fn any_stanza() -> impl Strategy<Value = String> {
    let pick = |words: &'static [&'static str]| proptest::sample::select(words);
    let payload = pick(&[
        "<x xmlns='http://jabber.org/protocol/muc'/>",
        "<x xmlns='http://jabber.org/protocol/muc'><password>p</password><history maxstanzas='1'/></x>",
        "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='tybalt@example.org'/></x>",
        "<x xmlns='http://jabber.org/protocol/muc#user'><decline to='juliet@example.org'/></x>",
        "<x xmlns='jabber:x:data' type='submit'/>",
        "<body>hi</body>",
        "<subject>s</subject>",
        "<subject/>",
        "<show>away</show>",
        "<ping xmlns='urn:xmpp:ping'/>",
        "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='cancel'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
         <field var='muc#roomconfig_membersonly'><value>1</value></field></x></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
         <field var='muc#roomconfig_moderatedroom'><value>1</value></field></x></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
         <field var='muc#roomconfig_presencebroadcast'><value>moderator</value></field></x></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
         <field var='muc#roomconfig_presencebroadcast'><value>visitor</value><value>participant</value>\
         </field><field var='muc#roomconfig_whois'><value>anyone</value></field></x></query>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
         <field var='muc#roomconfig_roomadmins'><value>romeo@example.org</value></field></x></query>",
        "<query xmlns='jabber:iq:register'/>",
        "<query xmlns='jabber:iq:register'><username>Nurse</username></query>",
        "<query xmlns='jabber:iq:register'><remove/></query>",
        "<vCard xmlns='vcard-temp'/>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Romeo' role='none'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Nurse' role='visitor'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Bob (phone)' role='visitor'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='nurse@example.org' affiliation='outcast'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='romeo@example.org' affiliation='admin'/></query>",
        "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query>",
    ]);
    let name = pick(&["iq", "message", "presence", "presence", "message"]);
    let kind = pick(&[
        "",
        " type='get'",
        " type='set'",
        " type='set'",
        " type='result'",
        " type='error'",
        " type='groupchat'",
        " type='chat'",
        " type='unavailable'",
        " type='odd'",
    ]);
    let to = pick(&[
        "rooms.example.org",
        "garden@rooms.example.org",
        "cellar@rooms.example.org",
        "garden@rooms.example.org/Juliet",
        "garden@rooms.example.org/Romeo",
        "garden@rooms.example.org/Nurse",
        "cellar@rooms.example.org/Romeo",
    ]);
    let payloads = proptest::collection::vec(payload, 0..3);
    (name, kind, to, payloads).prop_map(|(name, kind, to, payloads)| {
        format!("<{name} id='p'{kind} to='{to}'>{}</{name}>", payloads.concat())
    })
}

fn any_line() -> impl Strategy<Value = String> {
    let who = proptest::sample::select(&["juliet", "romeo", "nurse", "romeo/tablet", "root"][..]);
    let other = proptest::sample::select(
        &[
            "phone 2 call garden romeo@example.org",
            "phone 3 call garden unknown",
            "phone 1 hang-up",
            "phone 2 hang-up",
            "phone 3 hang-up",
            "phone 1 hold",
            "link down",
            "link down",
            "link up",
            "+0.3",
            "+31",
            "nurse join garden Nurse",
            "romeo join garden Romeo",
            "romeo/tablet join garden Romeo",
        ][..],
    );
    prop_oneof![
        6 => (who, any_stanza()).prop_map(|(who, xml)| format!("{who} {xml}")),
        2 => other.prop_map(str::to_owned),
    ]
}

/// What someone's client believes of a room after all that it was told: who is in.
fn belief<'a>(log: impl Iterator<Item = &'a Element>) -> std::collections::BTreeSet<String> {
    let mut here = std::collections::BTreeSet::new();
    for stanza in log.filter(|stanza| stanza.name() == "presence") {
        let (Some(from), kind) = (stanza.attr("from"), stanza.attr("type")) else { continue };
        let own =
            stanza.children().flat_map(Element::children).any(|x| x.attr("code") == Some("110"));
        let renamed =
            stanza.children().flat_map(Element::children).any(|x| x.attr("code") == Some("303"));
        match kind {
            None => drop(here.insert(from.to_owned())),
            Some("unavailable") if own && !renamed => here.clear(),
            Some("unavailable") => drop(here.remove(from)),
            Some(_) => {}
        }
    }
    here
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent, in whatever order, with the link away now and then: every iq that asks is
    /// answered exactly once and no other is; errors are never answered; and what each client was
    /// told of who is in the room is who is in the room.
    #[test]
    fn clients_believe_what_is_true(
        lines in proptest::collection::vec(any_line(), 1..60),
        crowd in 0..4_u32,
    ) {
        let mut clients = Clients { server: garden(), log: vec![], down: false };
        let policy = Policy { crowd, ..clients.server.rooms.policy().clone() };
        clients.server.rooms.set_policy(Now::read(), policy);
        // What was said before this test began to listen.
        for who in ["juliet join garden Juliet", "romeo join garden Romeo"] {
            clients.line(who);
        }
        for line in &lines {
            let from_client = line.contains('<') || line.contains(" join ");
            if clients.down && from_client {
                continue;
            }
            let out = clients.line(line);
            let answers = out.iter().filter(|s| s.name() == "iq" && s.attr("id") == Some("p")).count();
            let asked = line.contains("<iq ")
                && !line.contains("<iq id='p' type='result'")
                && !line.contains("<iq id='p' type='error'");
            prop_assert_eq!(answers, usize::from(asked), "{}", line);
            if line.contains("type='error' to=") {
                prop_assert!(out.iter().all(|s| s.attr("type") != Some("error")), "{}", line);
            }
        }
        if clients.down {
            clients.line("link up");
        }
        clients.line("+31");
        for room in clients.server.rooms.iter() {
            let jid = format!("{}@rooms.example.org", room.name);
            let sessions = |id| room.person(id).into_iter().flat_map(|person| person.chats.keys());
            let ids = room.people.values().map(|person| person.id);
            for (id, chat) in ids.flat_map(|id| sessions(id).map(move |chat| (id, chat))) {
                let broadcast = &room.settings.presence_broadcast;
                let moderates = room.person(id).is_some_and(|it| it.role == Role::Moderator);
                let shown = |it: &Person| !it.aside || it.role != Role::Visitor || moderates;
                let truth: std::collections::BTreeSet<_> = room
                    .people
                    .values()
                    .filter(|it| it.id == id || broadcast.contains(&it.role) && shown(it))
                    .map(|person| format!("{jid}/{}", person.nick))
                    .collect();
                let told = clients.log.iter().filter(|stanza| {
                    stanza.attr("to") == Some(chat.as_str())
                        && stanza.attr("from").is_some_and(|from| from.starts_with(&jid))
                });
                prop_assert_eq!(&belief(told), &truth, "{}", chat);
            }
        }
    }
}

/// Every client at once: what they were told, and that they answer pings, and what other clients
/// ask.
struct Clients {
    server: Server,
    log: Vec<Element>,
    down: bool,
}

impl Clients {
    fn line(&mut self, line: &str) -> Vec<Element> {
        match line {
            "link down" => self.down = true,
            "link up" => self.down = false,
            _ => {}
        }
        // Step by step, so that pings are answered before they time out.
        let mut out = match line.strip_prefix('+').map(|seconds| seconds.parse::<f64>().unwrap()) {
            Some(seconds) => (0..(seconds * 10.0) as u32).flat_map(|_| self.step("+0.1")).collect(),
            None => self.step(line),
        };
        if self.down {
            out.clear();
        }
        out
    }

    fn step(&mut self, line: &str) -> Vec<Element> {
        let mut out = self.server.line(line);
        if self.down {
            return out;
        }
        let pings: Vec<_> = out
            .iter()
            .filter(|stanza| stanza.name() == "iq")
            .filter(|stanza| matches!(stanza.attr("type"), Some("get" | "set")))
            .map(|ping| ["to", "from", "id"].map(|name| ping.attr(name).unwrap().to_owned()))
            .collect();
        for [who, room, id] in pings {
            let pong = format!("<iq id='{id}' type='result' to='{room}'/>");
            self.server.stanza(&who, &pong, &mut out);
        }
        self.log.extend(out.iter().cloned());
        out
    }
}

/// XEP-0463 §4.2.1.
#[test]
fn long_lists_of_affiliations_come_in_parts_that_join() {
    let mut server = Server::new();
    server.line("juliet make garden Juliet");
    for hundred in 0..5 {
        let items: String = (0..100)
            .map(|n| {
                format!("<item jid='{}@example.org' affiliation='member'/>", hundred * 100 + n)
            })
            .collect();
        server.line(&format!(
            "juliet <iq type='set' id='a' to='garden@rooms.example.org'>\
             <query xmlns='http://jabber.org/protocol/muc#admin'>{items}</query></iq>"
        ));
    }
    let join = |since: &str| {
        format!(
            "juliet <presence to='garden@rooms.example.org/Juliet'>\
             <x xmlns='http://jabber.org/protocol/muc'>\
             <mav xmlns='urn:xmpp:muc:affiliations:1'{since}/></x></presence>"
        )
    };
    let parts = |told: Vec<Element>| {
        let x = |it: &Element| it.get_child("x", "http://jabber.org/protocol/muc#user").cloned();
        let told = told.iter().filter(|it| it.name() == "message").filter_map(x);
        let part = told.filter_map(|x| {
            let mav = x.get_child("mav", "urn:xmpp:muc:affiliations:1")?;
            let version = |name| mav.attr(name).map(str::to_owned);
            let items = x.children().filter(|it| it.name() == "item").count();
            Some((version("since"), version("until"), items))
        });
        part.collect::<Vec<_>>()
    };
    let all = parts(server.line(&join("")));
    assert_eq!(all.iter().map(|part| part.2).collect::<Vec<_>>(), [200, 200, 101]);
    assert_eq!(all[0].0, None);
    assert!(all.windows(2).all(|two| two[0].1 == two[1].0), "{all:?}");
    // Whoever heard half of it hears all of it; whoever heard all hears no more.
    let since = |part: usize| format!(" since='{}'", all[part].1.as_ref().unwrap());
    assert_eq!(parts(server.line(&join(&since(0)))).len(), 3);
    assert_eq!(parts(server.line(&join(&since(2)))), []);
}

/// XEP-0050 §4.3: who begins commands and never ends them takes the place of nobody else.
#[test]
fn commands_that_nobody_ends_have_a_limit_and_an_answer() {
    let mut server = Server::new();
    server.line("juliet make garden Juliet");
    let begin =
        |server: &mut Server, who: &str| told(&server.line(&format!("{who}@garden command kick")));
    assert_eq!(begin(&mut server, "juliet"), "iq result");
    // The session of a client that begins eight more is over; of another it is not.
    for _ in 0..8 {
        assert_eq!(begin(&mut server, "juliet/tablet"), "iq result");
    }
    let go_on = |server: &mut Server, who: &str, id: u32| {
        told(&server.line(&format!("{who}@garden command kick #{id}-command !cancel")))
    };
    assert_eq!(go_on(&mut server, "juliet", 1), "iq result");
    assert_eq!(go_on(&mut server, "juliet/tablet", 9), "iq result");
    assert_eq!(begin(&mut server, "juliet/tablet"), "iq result");
    assert_eq!(begin(&mut server, "juliet/tablet"), "iq result");
    assert_eq!(go_on(&mut server, "juliet/tablet", 2), "iq error not-allowed cancel");
    // However many there are, there is a last.
    let answers = (0..1_100).map(|n| begin(&mut server, &format!("juliet/{n}")));
    let answers: std::collections::BTreeSet<_> = answers.collect();
    let expected = ["iq error resource-constraint wait", "iq result"];
    assert_eq!(answers.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    server.line("+901");
    assert_eq!(begin(&mut server, "juliet"), "iq result");
}
