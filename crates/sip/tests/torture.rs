//! The torture messages of RFC 4475, byte for byte from its archive, and of RFC 5118 with their
//! Content-Length put right where the RFC miscounted. Each must have its outcome, each alone and each
//! at the end of a stream.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use cusax_sip::{
    frame::{Frame, Framer},
    header::{Contacts, Name},
    message::{Message, Method, Request, Response},
    parse::{ParseError, parse},
    sdp::Description,
    uri::{Host, Transport, Uri},
};

/// A request that parses, checked further.
type Check = fn(&Request);
/// The same for a response.
type CheckResponse = fn(&Response);

/// Those that must be taken: valid ones, and ones that only a layer above refuses.
const REQUESTS: &[(&str, Check)] = &[
    ("wsinv", |r| {
        assert_eq!(r.method, Method::Invite);
        assert_eq!(r.uri.as_sip().unwrap().param("unknownparam").as_deref(), Some(""));
        let (from, to) = (r.headers.from().unwrap(), r.headers.to().unwrap());
        assert_eq!(from.display.as_deref(), Some("J Rosenberg \\\""));
        assert_eq!((from.tag(), to.tag()), (Some("98asjd8"), Some("1918181833n")));
        assert_eq!(r.headers.max_forwards(), Ok(Some(68)));
        assert_eq!(r.headers.cseq().unwrap().to_string(), "9 INVITE");
        let vias = r.headers.vias().unwrap();
        let branches: Vec<_> = vias.iter().map(|via| via.branch().unwrap()).collect();
        assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
        assert_eq!(vias[0].rfc3261_branch(), None);
        assert_eq!(vias[1].transport, Transport::Tcp);
        let subject = r.headers.get(&Name::SUBJECT);
        assert_eq!(subject, Some(""));
        let fangled = Name::new("NewFangledHeader").unwrap();
        let value = Some("newfangled value continued newfangled value");
        assert_eq!(r.headers.get(&fangled), value);
        let route = &r.headers.routes().unwrap()[0];
        assert!(route.uri.as_sip().unwrap().is_loose_router());
        let contact = r.headers.contact().unwrap().unwrap();
        assert_eq!(contact.display.as_deref(), Some("Quoted string \"\""));
        assert_eq!(contact.params.get("newparam"), Some("newvalue"));
        assert_eq!(contact.params.get("secondparam"), Some(""));
        assert_eq!(contact.params.get("q"), Some("0.33"));
        assert_eq!(r.body.len(), 150);
    }),
    ("intmeth", |r| {
        assert_eq!(r.method.as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
        let uri = r.uri.as_sip().unwrap();
        let user = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*";
        assert_eq!(uri.user().as_deref(), Some(user));
        let password = "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)";
        assert_eq!(uri.password().as_deref(), Some(password));
        let to = r.headers.to().unwrap();
        // NUL can stand in a quoted string and is not passed on.
        assert_eq!(to.display.as_deref(), Some("BEL:\u{7} NUL:  DEL:\u{7f}"));
        let from = r.headers.from().unwrap();
        assert_eq!(from.display.as_deref(), Some("token1~` token2'+_ token3*%!.-"));
        assert_eq!(from.params.get("fromParam''~+*_!.-%"), Some("работающий"));
        assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
        assert_eq!(r.headers.max_forwards(), Ok(Some(255)));
        let call_id = "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{";
        assert_eq!(r.headers.call_id(), Ok(call_id));
        let odd = Name::new("extensionHeader-!.%*+_`'~").unwrap();
        assert_eq!(r.headers.get(&odd), Some("\u{feff}大停電"));
    }),
    ("esc01", |r| {
        let uri = r.uri.as_sip().unwrap();
        assert_eq!(uri.user().as_deref(), Some("sips:user@example.com"));
        assert_eq!(uri.host, Host::Name("example.net".to_owned()));
        let to = r.headers.to().unwrap().uri;
        assert!(to.equivalent(&"sip:user@example.com".parse().unwrap()));
        let from = r.headers.from().unwrap().uri;
        assert_eq!(from.as_sip().unwrap().user().as_deref(), Some("I have spaces"));
        let contact = r.headers.contact().unwrap().unwrap().uri;
        let contact = contact.as_sip().unwrap();
        assert_eq!(contact.user().as_deref(), Some("caller"));
        assert!(contact.is_loose_router());
        assert_eq!(contact.param("name").as_deref(), Some("value%41"));
        assert!(r.headers.content_type().unwrap().unwrap().is("application", "sdp"));
    }),
    ("escnull", |r| {
        let to = r.headers.to().unwrap().uri;
        assert_eq!(to.as_sip().unwrap().user().as_deref(), Some("null-\0-null"));
        assert_eq!(to.to_string(), "sip:null-%00-null@example.com");
        let Contacts::List(contacts) = r.headers.contacts().unwrap() else { panic!() };
        assert!(!contacts[0].uri.equivalent(&contacts[1].uri));
    }),
    ("esc02", |r| {
        assert_eq!(r.method, Method::Other("RE%47IST%45R".to_owned()));
        assert_eq!(r.headers.to().unwrap().display.as_deref(), Some("%Z%45"));
        let Contacts::List(contacts) = r.headers.contacts().unwrap() else { panic!() };
        assert_eq!(contacts.len(), 2);
    }),
    ("lwsdisp", |r| {
        assert_eq!(r.headers.from().unwrap().display.as_deref(), Some("caller"));
    }),
    ("longreq", |r| {
        assert_eq!(r.headers.vias().unwrap().len(), 34);
        assert_eq!(r.headers.via().unwrap().host, Host::Name("sip33.example.com".to_owned()));
        assert_eq!(r.body.len(), 150);
    }),
    ("dblreq", |r| {
        assert_eq!(r.method, Method::Register);
        assert!(r.body.is_empty());
    }),
    ("semiuri", |r| {
        let user = "user;par=u@example.net";
        assert_eq!(r.uri.as_sip().unwrap().user().as_deref(), Some(user));
        assert_eq!(r.uri.as_sip().unwrap().param("par"), None);
        assert_eq!(r.headers.accept().unwrap().unwrap().len(), 6);
    }),
    ("transports", |r| {
        let all: Vec<_> = r.headers.vias().unwrap().into_iter().map(|via| via.transport).collect();
        let other = |name: &str| Transport::Other(name.to_owned());
        let (sctp, unknown) = (other("SCTP"), other("UNKNOWN"));
        assert_eq!(all, [Transport::Udp, sctp, Transport::Tls, unknown, Transport::Tcp]);
    }),
    ("mpart01", |r| {
        let content = r.headers.content_type().unwrap().unwrap();
        assert!(content.is("multipart", "mixed"));
        assert_eq!(content.params.get("boundary"), Some("7a9cbec02ceef655"));
        assert_eq!(r.body.len(), 553);
    }),
    ("baddate", |r| assert_eq!(r.method, Method::Invite)),
    ("badbranch", |r| {
        assert_eq!(r.headers.via().unwrap().branch(), Some("z9hG4bK"));
        assert_eq!(r.headers.via().unwrap().rfc3261_branch(), None);
    }),
    ("unkscm", |r| assert_eq!(r.uri.scheme(), "nobodyKnowsThisScheme")),
    ("novelsc", |r| {
        assert_eq!(r.uri.scheme(), "soap.beep");
        assert_eq!(r.uri.to_string(), "soap.beep://192.0.2.103:3002");
    }),
    ("unksm2", |r| {
        assert_eq!(r.headers.to().unwrap().uri.to_string(), "isbn:2983792873");
        assert_eq!(r.headers.from().unwrap().uri.scheme(), "http");
        assert_eq!(r.headers.contact().unwrap().unwrap().uri.scheme(), "name");
    }),
    ("bext01", |r| {
        let required = r.headers.require().unwrap();
        assert_eq!(required, ["nothingSupportsThis", "nothingSupportsThisEither"]);
        assert_eq!(r.headers.proxy_require().unwrap().len(), 2);
    }),
    ("invut", |r| {
        assert!(r.headers.content_type().unwrap().unwrap().is("application", "unknownformat"));
    }),
    ("regaut01", |r| {
        let all = r.headers.credentials(&Name::AUTHORIZATION);
        assert_eq!(all[0].scheme, "NoOneKnowsThisScheme");
        assert_eq!(all[0].get("opaque-data"), Some("here"));
    }),
    ("zeromf", |r| assert_eq!(r.headers.max_forwards(), Ok(Some(0)))),
    ("cparam01", |r| {
        let contact = r.headers.contact().unwrap().unwrap();
        assert!(contact.params.has("unknownparam"));
        assert_eq!(contact.uri.as_sip().unwrap().param("unknownparam"), None);
    }),
    ("cparam02", |r| {
        let contact = r.headers.contact().unwrap().unwrap();
        assert!(!contact.params.has("unknownparam"));
        assert!(contact.uri.as_sip().unwrap().param("unknownparam").is_some());
    }),
    ("regescrt", |r| {
        let contact = r.headers.contact().unwrap().unwrap();
        let headers: Vec<_> = contact.uri.as_sip().unwrap().headers().collect();
        assert_eq!(headers, [("Route".into(), "<sip:sip.example.com>".into())]);
    }),
    ("sdp01", |r| {
        assert!(r.headers.accept().unwrap().unwrap()[0].accepts("text", "nobodyKnowsThis"));
    }),
    ("inv2543", |r| {
        assert_eq!(r.headers.via().unwrap().branch(), None);
        assert_eq!(r.headers.from_tag(), Ok(None));
        assert_eq!(r.headers.to().unwrap().params.get("user"), Some("phone"));
        assert_eq!(r.headers.content_length(), Ok(None));
        assert!(Description::parse(&r.body).unwrap().streams().unwrap()[0].port == 49217);
    }),
    ("v6-ipv6-good", |r| {
        assert_eq!(r.uri.to_string(), "sip:[2001:db8::10]");
        assert_eq!(r.headers.via().unwrap().host.to_string(), "[2001:db8::9:1]");
    }),
    ("v6-port-ambiguous", |r| {
        let uri = r.uri.as_sip().unwrap();
        assert_eq!((uri.host.to_string().as_str(), uri.port), ("[2001:db8::10:5070]", None));
    }),
    ("v6-port-unambiguous", |r| {
        let uri = r.uri.as_sip().unwrap();
        assert_eq!((uri.host.to_string().as_str(), uri.port), ("[2001:db8::10]", Some(5070)));
    }),
    ("v6-via-received-param-with-delim", received_9_255),
    ("v6-via-received-param-no-delim", received_9_255),
    ("v6-ipv6-in-sdp", |r| {
        let streams = Description::parse(&r.body).unwrap().streams().unwrap();
        assert_eq!(streams[0].rtcp_destination(false).unwrap().to_string(), "[2001:db8::20]:6001");
    }),
    ("v6-mult-ip-in-header", |r| {
        let vias = r.headers.vias().unwrap();
        assert_eq!((vias.len(), vias[0].port), (3, Some(6050)));
        assert_eq!(vias[2].received().unwrap().to_string(), "192.0.2.200");
    }),
    ("v6-mult-ip-in-sdp", |r| {
        let streams = Description::parse(&r.body).unwrap().streams().unwrap();
        let all: Vec<_> = streams.iter().filter_map(|s| s.rtcp_destination(true)).collect();
        assert!(all[0].is_ipv4() && all[1].is_ipv6());
    }),
    ("v6-ipv4-mapped-ipv6", |r| {
        let via = r.headers.via().unwrap();
        assert_eq!((via.host.to_string().as_str(), via.port), ("[::ffff:192.0.2.10]", Some(19823)));
    }),
    ("v6-ipv6-bug-abnf-3-colons", correct_v6),
    ("v6-ipv6-correct-abnf-2-colons", correct_v6),
];

fn received_9_255(request: &Request) {
    let received = request.headers.via().unwrap().received();
    assert_eq!(received.unwrap().to_string(), "2001:db8::9:255");
}

fn correct_v6(request: &Request) {
    let Uri::Sip(uri) = &request.uri else { panic!("not SIP") };
    assert_eq!(uri.host.to_string(), "[2001:db8::c000:201]");
    assert!(request.uri.equivalent(&request.headers.to().unwrap().uri));
}

/// Responses that must be taken.
const RESPONSES: &[(&str, CheckResponse)] = &[
    ("unreason", |r| {
        assert_eq!(r.status.code(), 200);
        assert_eq!(r.reason, "= 2**3 * 5**2 но сто девяносто девять - простое");
    }),
    ("noreason", |r| assert_eq!((r.status.code(), r.reason.as_str()), (100, ""))),
    // Two Via: the layer above discards what was not meant for us alone (RFC 3261 §8.1.3.3).
    ("bcast", |r| assert_eq!(r.headers.vias().unwrap().len(), 2)),
];

/// Requests that are answered at once, and with what.
const REJECTED: &[(&str, u16)] = &[
    ("badinv01", 400),
    ("clerr", 400),
    ("ncl", 400),
    ("scalar02", 400),
    ("quotbal", 400),
    ("ltgtruri", 400),
    ("lwsruri", 400),
    ("lwsstart", 400),
    ("trws", 400),
    ("escruri", 400),
    ("regbadct", 400),
    ("badaspec", 400),
    ("baddn", 400),
    ("badvers", 505),
    ("mismatch01", 400),
    ("mismatch02", 501),
    ("insuf", 400),
    ("multi01", 400),
    ("mcl01", 400),
    ("v6-ipv6-bad", 400),
];

/// Messages that nobody can answer, or should: malformed responses, and what is not SIP at all.
const DROPPED: &[&str] = &["scalarlg", "bigcode", "test"];

#[test]
fn each_message_has_its_outcome() {
    for (name, check) in REQUESTS {
        match parse(&read(name)) {
            Ok(Message::Request(request)) => check(&request),
            other => panic!("{name}: {other:?}"),
        }
    }
    for (name, check) in RESPONSES {
        match parse(&read(name)) {
            Ok(Message::Response(response)) => check(&response),
            other => panic!("{name}: {other:?}"),
        }
    }
    for (name, status) in REJECTED {
        match parse(&read(name)) {
            Err(ParseError::Rejected(rejected)) => {
                assert_eq!(rejected.response.status.code(), *status, "{name}");
                let headers = &rejected.response.headers;
                assert!(headers.contains(&Name::VIA), "{name}");
                assert!(
                    headers.iter().count() == if *name == "insuf" { 2 } else { 5 }
                        || *name == "multi01"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    for name in DROPPED {
        assert!(matches!(parse(&read(name)), Err(ParseError::Dropped(_))), "{name}");
    }
}

#[test]
fn no_message_is_forgotten() {
    let mut listed: Vec<_> = REQUESTS.iter().map(|(name, _)| *name).collect();
    listed.extend(RESPONSES.iter().map(|(name, _)| *name));
    listed.extend(REJECTED.iter().map(|(name, _)| *name));
    listed.extend(DROPPED);
    listed.sort_unstable();
    let files = std::fs::read_dir(DIR).unwrap().map(|entry| entry.unwrap().file_name());
    let mut files: Vec<_> =
        files.filter_map(|name| name.to_str()?.strip_suffix(".dat").map(str::to_owned)).collect();
    files.sort();
    assert_eq!(files, listed);
}

#[test]
fn what_is_taken_prints_and_parses_to_the_same() {
    let taken = REQUESTS.iter().map(|(n, _)| *n).chain(RESPONSES.iter().map(|(n, _)| *n));
    for name in taken {
        let mut first = parse(&read(name)).unwrap();
        let again = parse(&first.to_bytes()).unwrap();
        // Only Content-Length is written anew.
        first.headers_mut().remove(&Name::CONTENT_LENGTH);
        let mut same = again.clone();
        same.headers_mut().remove(&Name::CONTENT_LENGTH);
        assert_eq!(first, same, "{name}");
    }
}

#[test]
fn a_stream_gives_the_same_and_fails_where_lengths_do() {
    for (name, _) in REQUESTS.iter().filter(|(name, _)| !["inv2543", "dblreq"].contains(name)) {
        let mut framer = Framer::new();
        framer.push(&read(name));
        let expected = parse(&read(name)).unwrap();
        assert_eq!(framer.next(), Ok(Some(Frame::Message(Box::new(expected)))), "{name}");
    }
    for name in ["inv2543", "ncl", "mcl01"] {
        let mut framer = Framer::new();
        framer.push(&read(name));
        assert!(framer.next().is_err(), "{name}");
        assert!(framer.next().is_err(), "{name}: fails for good");
    }
    // A length that has not come yet is none of the stream's faults.
    let mut framer = Framer::new();
    framer.push(&read("clerr"));
    assert_eq!(framer.next(), Ok(None));
    // Two messages in one go are one too many only in a datagram.
    let mut framer = Framer::new();
    framer.push(&read("dblreq"));
    let mut methods = vec![];
    while let Ok(Some(frame)) = framer.next() {
        if let Frame::Message(message) = frame
            && let Message::Request(request) = *message
        {
            methods.push(request.method);
        }
    }
    assert_eq!(methods, [Method::Register, Method::Invite]);
}

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture");

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{DIR}/{name}.dat")).unwrap_or_else(|_| panic!("{name}"))
}
