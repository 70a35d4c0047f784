//! Header values as tables: what they are read as, and how they print.

use std::{fmt::Display, str::FromStr};

use super::*;

/// Reads, prints, and reads again.
fn check<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str, printed: Option<&str>) {
    let value = text.parse::<T>().ok();
    assert_eq!(value.as_ref().map(ToString::to_string).as_deref(), printed, "{text}");
    if let Some(value) = value {
        assert_eq!(value.to_string().parse::<T>().ok(), Some(value), "{text} printed");
    }
}

fn same<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    check::<T>(text, Some(text));
}

fn wrong<T: FromStr + Display + PartialEq + std::fmt::Debug>(texts: &[&str]) {
    for text in texts {
        check::<T>(text, None);
    }
}

fn headers(lines: &[(&Name, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in lines {
        headers.push((*name).clone(), value);
    }
    headers
}

#[test]
fn addresses() {
    same::<NameAddr>("<sip:a@h>");
    same::<NameAddr>("\"A B\" <sip:a@h;lr?x=y>;tag=1;flag");
    same::<NameAddr>("\"a \\\"b\\\" \\\\c\" <sip:a@h>");
    check::<NameAddr>("sip:a@h;tag=1", Some("<sip:a@h>;tag=1"));
    check::<NameAddr>("A  B<sip:a@h> ; tag = 1", Some("\"A B\" <sip:a@h>;tag=1"));
    check::<NameAddr>("J. Röder (x) <sip:a@h>", Some("\"J. Röder (x)\" <sip:a@h>"));
    check::<NameAddr>("\"\" <sip:a@h>", Some("<sip:a@h>"));
    check::<NameAddr>("\"x\"<tel:+1>", Some("\"x\" <tel:+1>"));
    same::<NameAddr>("<sip:a@h>;ob;ob");
    check::<NameAddr>(&format!("<sip:a@h>{}", ";x".repeat(MAX_PARAMS + 1)), None);
    let instance = "<sip:a@h>;+sip.instance=\"<urn:uuid:00-1>\";reg-id=1;methods=\"INVITE,BYE\"";
    same::<NameAddr>(instance);
    let contact: NameAddr = instance.parse().unwrap();
    assert_eq!(contact.params.get("+SIP.instance"), Some("<urn:uuid:00-1>"));
    wrong::<NameAddr>(&[
        "",
        "<>",
        "a",
        "\"a <sip:a@h>",
        "<sip:a@h",
        "sip:a@h>",
        "<sip:a@h> x",
        "<sip:a@h>;;x",
        "<sip:a@h>;tag=1;tag=2",
        "<sip:a@h>;tag=1;tag",
        "<sip:a@h>;=x",
        "<sip:a@h>;x=\"",
        "<sip:a@h>;x=a b",
        "< sip:a@h >",
        "sip:a@h?x=y",
        "\"a\" sip:a@h",
        "a;b <sip:a@h>",
        "a@b <sip:a@h>",
        "<sip:a@h>\"x\"",
    ]);
}

#[test]
fn vias() {
    same::<Via>("SIP/2.0/UDP h;branch=z9hG4bK1");
    same::<Via>("SIP/2.0/TCP [2001:db8::1]:5070;branch=x;received=192.0.2.1;rport=5060");
    check::<Via>("sip / 2.0 / udp   h : 5060 ; rport", Some("SIP/2.0/UDP h:5060;rport"));
    same::<Via>("SIP/2.0/TLS-SCTP h");
    wrong::<Via>(&[
        "",
        "SIP/2.0/UDP",
        "SIP/2.0 h",
        "SIP/3.0/UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP h:0",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP h;;",
        "SIP/2.0/U P h i",
    ]);
    let source = "192.0.2.9:1234".parse().unwrap();
    let check = |text: &str, expected: &str| {
        let mut via: Via = text.parse().unwrap();
        via.set_source(source);
        assert_eq!(via.to_string(), expected);
    };
    check("SIP/2.0/UDP h;branch=b", "SIP/2.0/UDP h;branch=b;received=192.0.2.9");
    check("SIP/2.0/UDP 192.0.2.9;branch=b", "SIP/2.0/UDP 192.0.2.9;branch=b");
    let asked = "SIP/2.0/UDP 192.0.2.9;rport=1234;branch=b;received=192.0.2.9";
    check("SIP/2.0/UDP 192.0.2.9;rport;branch=b", asked);
    let mut via: Via = "SIP/2.0/UDP 192.0.2.9".parse().unwrap();
    via.set_source("[::ffff:192.0.2.9]:5060".parse().unwrap());
    assert_eq!(via.received(), None);
    let branch = |text: &str| {
        let via: Via = text.parse().unwrap();
        via.rfc3261_branch().map(str::to_owned)
    };
    assert_eq!(branch("SIP/2.0/UDP h;branch=Z9hg4bkx").as_deref(), Some("Z9hg4bkx"));
    assert_eq!(branch("SIP/2.0/UDP h;branch=z9hG4bK"), None);
    assert_eq!(branch("SIP/2.0/UDP h;branch=\"ää\""), None);
    assert_eq!(branch("SIP/2.0/UDP h;branch="), None);
}

#[test]
fn small_values() {
    same::<CSeq>("1 INVITE");
    check::<CSeq>("0009 \t FOO", Some("9 FOO"));
    same::<CSeq>("2147483647 ACK");
    wrong::<CSeq>(&["", "1", "INVITE", "-1 INVITE", "2147483648 INVITE", "1 IN VITE", "1 "]);
    same::<Event>("conference;id=7");
    check::<Event>("refer ; id = 93809824", Some("refer;id=93809824"));
    wrong::<Event>(&["", ";id=1", "a b"]);
    same::<SubscriptionState>("active;expires=60");
    same::<SubscriptionState>("terminated;reason=noresource;retry-after=5");
    check::<SubscriptionState>("ACTIVE", Some("active"));
    same::<SubscriptionState>("other");
    wrong::<SubscriptionState>(&["", "a b", ";x"]);
    check::<MediaType>("Application/SDP", Some("application/sdp"));
    check::<MediaType>("text / plain ; charset=UTF-8", Some("text/plain;charset=UTF-8"));
    check::<MediaType>("*", Some("*/*"));
    same::<MediaType>("multipart/mixed;boundary=\"a b\"");
    wrong::<MediaType>(&["", "text", "text/", "/plain", "a/b/c"]);
    same::<Reason>("SIP;cause=603;text=\"Kicked: \\\"x\\\"\"");
    same::<Reason>("Q.850;cause=16");
    same::<Reason>("SIP;text=\"token\"");
    check::<Reason>("SIP ;cause=200 ;text=OK", Some("SIP;cause=200;text=\"OK\""));
    wrong::<Reason>(&["", ";cause=1", "SIP;cause=x", "SIP;cause=99999"]);
    same::<CallInfo>("<xmpp:juliet@example.com>;purpose=impp");
    wrong::<CallInfo>(&["xmpp:juliet@example.com", "<>", "<nope>"]);
    same::<RetryAfter>("5");
    check::<RetryAfter>("18000;duration=3600", Some("18000;duration=3600"));
    check::<RetryAfter>("120 (I'm in (a) meeting)", Some("120"));
    check::<RetryAfter>("120 (x) ;duration=1", Some("120;duration=1"));
    check::<RetryAfter>("99999999999", Some("4294967295"));
    wrong::<RetryAfter>(&["", "x", "5 x", "5 (x"]);
    same::<Warning>("304 focus.example.org \"No Audio Stream\"");
    wrong::<Warning>(&["1812 h \"x\"", "304 h", "304 h x", "30 h \"x\"", ""]);
    same::<SessionExpires>("1800;refresher=uac");
    check::<SessionExpires>("90 ; Refresher=UAS", Some("90;refresher=uas"));
    same::<SessionExpires>("90");
    wrong::<SessionExpires>(&["", "x", "-1", "90;refresher=both"]);
    same::<Replaces>("a@b;to-tag=1;from-tag=2");
    check::<Replaces>(
        "a@b;from-tag=2;early-only;to-tag=1",
        Some("a@b;to-tag=1;from-tag=2;early-only"),
    );
    wrong::<Replaces>(&["", "a@b", "a@b;to-tag=1", "a b;to-tag=1;from-tag=2"]);
}

#[test]
fn challenges_and_credentials() {
    same::<Challenge>(
        "Digest realm=\"a, b\", nonce=\"x\", algorithm=SHA-256, qop=\"auth\", stale=true",
    );
    check::<Challenge>("Digest realm=r , qop=auth", Some("Digest realm=\"r\", qop=\"auth\""));
    same::<Credentials>("Digest username=\"\\\"\", uri=\"sip:h\", qop=auth, nc=00000001");
    let twice = "Digest realm=\"a\", realm=\"b\"";
    wrong::<Challenge>(&["", "Digest", "Digest realm", "Digest =x", "Digest realm=\"a", twice]);
    let credentials: Credentials = "Digest response=\"5ecre7\"".parse().unwrap();
    assert!(!format!("{credentials:?}").contains("5ecre7"));
}

#[test]
fn lists_go_over_lines() {
    let check = |lines: &[&str], expected: Result<Vec<&str>, HeaderError>| {
        let lines: Vec<_> = lines.iter().map(|line| (&Name::ALLOW_EVENTS, *line)).collect();
        assert_eq!(headers(&lines).allow_events(), expected);
    };
    let wrong = Err(HeaderError::Malformed(Name::ALLOW_EVENTS));
    check(&[], Ok(vec![]));
    check(&[""], Ok(vec![]));
    check(&["a, b", "c"], Ok(vec!["a", "b", "c"]));
    check(&["a,,b"], wrong.clone());
    check(&["a b"], wrong);
    check(&["a,a,a,a,a,a,a,a,a,a"; 8], Err(HeaderError::TooMany(Name::ALLOW_EVENTS)));
    let routes = headers(&[
        (&Name::ROUTE, "\"a,<b\" <sip:a@h;x=1>, <sip:b@h>"),
        (&Name::ROUTE, "<sip:c,d@h>"),
    ]);
    assert_eq!(routes.routes().unwrap().len(), 3);
    let many = headers(&[(&Name::VIA, "SIP/2.0/UDP h"); MAX_VALUES + 1]);
    assert_eq!(many.vias(), Err(HeaderError::TooMany(Name::VIA)));
}

#[test]
fn accessors() {
    let all = headers(&[
        (&Name::CONTACT, "*"),
        (&Name::EXPIRES, "99999999999"),
        (&Name::MIN_SE, "90;x=y"),
        (&Name::PRIVACY, "id; critical"),
        (&Name::SUPPORTED, "timer, 100rel"),
        (&Name::REQUIRE, "replaces"),
        (&Name::ACCEPT, "application/*;q=0.5, text/plain;q=0"),
        (&Name::ALLOW, "INVITE, FOO"),
        (&Name::P_ASSERTED_IDENTITY, "\"A\" <sip:a@h>, <tel:+1>"),
        (&Name::CONTENT_LENGTH, "5"),
        (&Name::CONTENT_LENGTH, "05"),
    ]);
    assert_eq!(all.contacts(), Ok(Contacts::All));
    assert!(all.contact().is_err());
    assert_eq!(all.expires(), Ok(Some(u32::MAX)));
    assert_eq!(all.min_se(), Ok(Some(90)));
    assert_eq!(all.privacy(), Ok(vec!["id", "critical"]));
    assert!(all.supports("Timer") && all.supports("replaces") && !all.supports("gruu"));
    let accept = all.accept().unwrap().unwrap();
    assert!(accept.iter().any(|range| range.accepts("application", "sdp")));
    assert!(!accept.iter().any(|range| range.accepts("text", "plain")));
    let foo = Method::Other("FOO".to_owned());
    assert_eq!(all.allow(), Ok(Some(vec![Method::Invite, foo])));
    assert_eq!(all.asserted_identities().unwrap().len(), 2);
    assert_eq!(all.content_length(), Ok(Some(5)));
    assert_eq!(all.call_id(), Err(HeaderError::Missing(Name::CALL_ID)));
    assert_eq!(Headers::new().accept(), Ok(None));
    assert_eq!(Headers::new().contact(), Ok(None));
    let twice = headers(&[(&Name::FROM, "<sip:a@h>"), (&Name::FROM, "<sip:b@h>")]);
    assert_eq!(twice.from(), Err(HeaderError::Repeated(Name::FROM)));
    let lengths = headers(&[(&Name::CONTENT_LENGTH, "5"), (&Name::CONTENT_LENGTH, "6")]);
    assert_eq!(lengths.content_length(), Err(HeaderError::Repeated(Name::CONTENT_LENGTH)));
    let huge = headers(&[(&Name::CONTENT_LENGTH, "4294967296")]);
    assert_eq!(huge.content_length(), Err(HeaderError::Malformed(Name::CONTENT_LENGTH)));
}

#[test]
fn the_list_keeps_order() {
    let mut list =
        headers(&[(&Name::VIA, "SIP/2.0/UDP a, SIP/2.0/UDP b"), (&Name::TO, "<sip:a@h>")]);
    let top = list.via().unwrap();
    list.set_top_via(&Via { port: Some(7), ..top });
    assert_eq!(list.get(&Name::VIA), Some("SIP/2.0/UDP a:7, SIP/2.0/UDP b"));
    list.push_front(Name::VIA, "SIP/2.0/UDP c");
    assert_eq!(list.vias().unwrap().len(), 3);
    list.set_to_tag("1");
    list.set_to_tag("2");
    assert_eq!(list.get(&Name::TO), Some("<sip:a@h>;tag=2"));
    list.set(Name::VIA, "SIP/2.0/UDP d");
    assert_eq!(list.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["Via", "To"]);
    list.push(Name::SUBJECT, "a\r\nX: y\0");
    assert_eq!(list.get(&Name::SUBJECT), Some("a  X: y "));
}
