//! What holds for any input: nothing panics, nothing breaks out of its place, and a stream means the
//! same however it is cut.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;

use cusax_sip::{
    frame::{Frame, Framer},
    header::{CallInfo, Challenge, Headers, MediaType, Name, NameAddr, Reason, Replaces, Warning},
    message::{Message, Method, Request, Response, Status},
    parse::{MAX_MESSAGE, ParseError, parse},
    sdp::{
        Codec, Description, Direction,
        offer::{Capabilities, Negotiation, Offered},
    },
    uri::{Host, SipUri, Uri},
};
use proptest::{collection::vec, prelude::*};
use rand::{SeedableRng, rngs::StdRng};

proptest! {
    #[test]
    fn a_stream_means_the_same_in_any_chunks(
        parts in vec(part(), 0..6),
        cuts in vec(1usize..200, 1..40),
    ) {
        let bytes = parts.concat();
        let whole = frames(&bytes, [bytes.len().max(1)].into_iter().cycle());
        prop_assert_eq!(&whole, &frames(&bytes, cuts.into_iter().cycle()));
        let small = if bytes.len() > 4096 { 97 } else { 1 };
        prop_assert_eq!(&whole, &frames(&bytes, [small].into_iter().cycle()));
    }

    #[test]
    fn any_text_is_a_display_name(text in any::<String>()) {
        let uri = SipUri::new(Some("a"), host(), None);
        let address = NameAddr::new(uri).with_display(&text).with_param("tag", Some("t"));
        let read = through(Name::FROM, &address.to_string()).from().unwrap();
        prop_assert_eq!(read.display.unwrap_or_default(), neutral(&text));
        prop_assert_eq!(read.params.get("tag"), Some("t"));
        prop_assert_eq!(read.uri, address.uri);
    }

    #[test]
    fn any_text_is_a_parameter(text in any::<String>()) {
        let address = NameAddr::new(SipUri::new(None, host(), None))
            .with_param(&text, Some("y"))
            .with_param("x", Some(&text))
            .with_param("tag", Some("t"));
        let read = through(Name::FROM, &address.to_string()).from().unwrap();
        prop_assert_eq!(read.params.get("x"), Some(&*neutral(&text)));
        prop_assert_eq!(read.params.get("tag"), Some("t"));
    }

    #[test]
    fn any_text_is_a_user_a_uri_parameter_and_a_uri_header(text in any::<String>()) {
        let mut uri = SipUri::new(Some("a"), host(), Some(5060));
        if !text.is_empty() {
            uri.set_user(Some(&text));
            uri.set_param(&text, Some("v"));
            uri.push_header(&text, "v");
        }
        uri.set_param("x", Some(&text));
        uri.push_header("y", &text);
        let read: SipUri = uri.to_string().parse().unwrap();
        prop_assert_eq!(&read, &uri);
        prop_assert!(read.equivalent(&uri));
        if !text.is_empty() {
            prop_assert_eq!(read.user().unwrap(), text.as_str());
        }
        prop_assert_eq!(read.param("x").unwrap(), text.as_str());
        prop_assert_eq!(read.headers().last().unwrap().1, text.as_str());
    }

    #[test]
    fn any_text_is_a_reason(text in any::<String>()) {
        let reason = Reason::sip(603, &text);
        let read = through(Name::REASON, &reason.to_string()).reasons().unwrap();
        prop_assert_eq!(read[0].text.as_deref(), Some(&*neutral(&text)));
        prop_assert_eq!(read.len(), 1);
        let warning = Warning { code: 399, agent: "h".to_owned(), text: text.clone() };
        let read = through(Name::WARNING, &warning.to_string()).warnings().unwrap();
        prop_assert_eq!(&read[0].text, &neutral(&text));
        prop_assert_eq!(read.len(), 1);
    }

    #[test]
    fn any_text_is_a_header_value_and_a_reason_phrase(text in any::<String>()) {
        let response = response().with(Name::SUBJECT, &text).with_reason(&text);
        let Ok(Message::Response(read)) = parse(&response.to_bytes()) else { panic!() };
        let text = neutral(&text);
        let subject = read.headers.get(&Name::SUBJECT);
        prop_assert_eq!(subject, Some(text.trim_matches([' ', '\t'])));
        prop_assert_eq!(&read.reason, &text);
        prop_assert_eq!(read.headers.len(), response.headers.len() + 1);
    }

    #[test]
    fn any_text_is_a_realm(text in any::<String>()) {
        let challenge = Challenge::digest([("realm", text.clone()), ("qop", "auth".to_owned())]);
        let read = through(Name::WWW_AUTHENTICATE, &challenge.to_string());
        let read = read.challenges(&Name::WWW_AUTHENTICATE);
        prop_assert_eq!(read[0].get("realm"), Some(&*neutral(&text)));
        prop_assert_eq!(read[0].get("qop"), Some("auth"));
    }

    #[test]
    fn any_body_arrives(body in vec(any::<u8>(), 0..300)) {
        let response = response().with_body(&MediaType::new("a", "b"), body.clone());
        let Ok(Message::Response(read)) = parse(&response.to_bytes()) else { panic!() };
        prop_assert_eq!(read.body, body);
    }

    #[test]
    fn no_bytes_break_anything(bytes in vec(any::<u8>(), 0..500)) {
        touch(&bytes);
    }

    #[test]
    fn no_text_breaks_a_value(text in "[ -~\t]{0,60}") {
        values(&text);
    }

    #[test]
    fn no_lines_break_a_description(lines in vec("[vosctma]=[ -~]{0,40}", 0..20)) {
        negotiate(format!("v=0\r\ns=-\r\n{}\r\n", lines.join("\r\n")).as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_mutation_breaks_anything(bytes in mutated()) {
        touch(&bytes);
    }

    #[test]
    fn no_mutation_breaks_a_description(bytes in mutated_sdp()) {
        negotiate(&bytes);
    }
}

/// Time is linear: the greatest message takes no more than a moment, whatever it is made of.
#[test]
fn the_greatest_messages_are_no_burden() {
    let head = "INVITE sip:h SIP/2.0\r\nv: SIP/2.0/UDP h\r\n";
    for filler in
        ["\n", " \n", "a", "a\n", "a:\n", "v:,", "\"", "<", "\\\"", ";a=", "f: <", "\r\n\r\n"]
    {
        let bytes = format!("{head}{}", filler.repeat(MAX_MESSAGE / filler.len()));
        touch(bytes.as_bytes());
        touch(filler.repeat(MAX_MESSAGE / filler.len()).as_bytes());
    }
}

/// A piece of a stream: whole messages, keep-alives, and things that should not be there.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let options = |body: &str, length: usize| {
        let head =
            "OPTIONS sip:h SIP/2.0\r\nv: SIP/2.0/TCP h\r\nf: <sip:b@h>\r\nt: sip:a@h\r\ni: c\r\n";
        format!("{head}CSeq: 1 OPTIONS\r\nl: {length}\r\n\r\n{body}").into_bytes()
    };
    prop_oneof![
        8 => ".{0,20}".prop_map(move |body| options(&body, body.len())),
        4 => Just(b"\r\n\r\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(options("", MAX_MESSAGE)),
        1 => Just(options("", 3)),
        1 => Just(options("abc\r\n", 5).repeat(3)),
        1 => Just(b"SIP/2.0 200 OK\r\n\r\n".to_vec()),
        1 => Just(vec![b'x'; MAX_MESSAGE - 1]),
        1 => vec(any::<u8>(), 0..20),
    ]
}

/// What a stream gives, up to its failure.
fn frames(bytes: &[u8], sizes: impl Iterator<Item = usize>) -> Vec<String> {
    let (mut framer, mut out, mut rest) = (Framer::new(), vec![], bytes);
    for size in sizes {
        let (chunk, more) = rest.split_at(size.min(rest.len()));
        rest = more;
        framer.push(chunk);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(frame)) => out.push(match frame {
                    Frame::Message(message) => format!("{:?}", message.to_bytes()),
                    other @ (Frame::Malformed(_) | Frame::Ping | Frame::EmptyLine) => {
                        format!("{other:?}")
                    }
                }),
                Err(error) => {
                    out.push(error.to_string());
                    return out;
                }
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    out
}

/// A message of the torture set with some bytes changed, removed, inserted or repeated.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture")).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "dat"));
    paths.sort();
    let all: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    mutate(proptest::sample::select(all))
}

fn mutated_sdp() -> impl Strategy<Value = Vec<u8>> {
    let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nb=AS:64\r\nt=0 0\r\n\
               a=group:BUNDLE 0\r\nm=audio 5000/2 RTP/AVP 111 0 101\r\na=rtpmap:111 opus/48000/2\r\n\
               a=fmtp:111 a=b;c\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
               a=rtcp:5001 IN IP4 192.0.2.7\r\na=extmap:1/sendrecv urn:x y\r\na=ptime:20\r\n\
               a=sendonly\r\nm=video 0 RTP/AVP 31\r\nc=IN IP6 ::1\r\n";
    mutate(Just(sdp.as_bytes().to_vec()))
}

fn mutate(from: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        any::<u8>(),
        proptest::sample::select(b"\r\n \t\0\"<>;,:=@?[]%/\\*0-9\xff".to_vec()),
    ];
    let edit = (any::<prop::sample::Index>(), 0u8..5, odd, 1usize..30);
    (from, vec(edit, 1..8)).prop_map(|(mut bytes, edits)| {
        for (at, kind, byte, count) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + count).min(bytes.len());
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => drop(bytes.drain(at..end)),
                2 => bytes.truncate(at),
                3 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

/// Reads everything that can be read.
fn touch(bytes: &[u8]) {
    let parsed = parse(bytes);
    let mut framer = Framer::new();
    framer.push(bytes);
    while let Ok(Some(_)) = framer.next() {}
    match parsed {
        Ok(message) => {
            read_all(message.headers());
            if let Message::Request(request) = &message {
                assert!(parse(&request.response(Status::OK).with_to_tag("t").to_bytes()).is_ok());
                negotiate(&request.body);
            }
            // What is taken can be printed and taken again.
            assert!(parse(&message.to_bytes()).is_ok());
        }
        Err(ParseError::Rejected(rejected)) => {
            read_all(&rejected.response.headers);
            let text = rejected.response.with_to_tag("t").to_bytes();
            assert!(!matches!(parse(&text), Err(ParseError::Rejected(_))));
        }
        Err(ParseError::Dropped(_)) => {}
    }
}

fn read_all(headers: &Headers) {
    let mut count = 0;
    count += headers.vias().iter().flatten().filter(|via| via.received().is_some()).count();
    count += headers.vias().iter().flatten().filter(|via| via.rfc3261_branch().is_some()).count();
    let results = [
        headers.via().map(drop),
        headers.from().map(drop),
        headers.to().map(drop),
        headers.cseq().map(drop),
        headers.call_id().map(drop),
        headers.contact().map(drop),
        headers.routes().map(drop),
        headers.record_routes().map(drop),
        headers.max_forwards().map(drop),
        headers.content_length().map(drop),
        headers.expires().map(drop),
        headers.min_expires().map(drop),
        headers.event().map(drop),
        headers.subscription_state().map(drop),
        headers.require().map(drop),
        headers.allow().map(drop),
        headers.accept().map(drop),
        headers.content_type().map(drop),
        headers.reasons().map(drop),
        headers.call_info().map(drop),
        headers.asserted_identities().map(drop),
        headers.privacy().map(drop),
        headers.retry_after().map(drop),
        headers.warnings().map(drop),
        headers.session_expires().map(drop),
        headers.min_se().map(drop),
        headers.replaces().map(drop),
        headers.refer_to().map(drop),
    ];
    count += results.iter().filter(|result| result.is_ok()).count();
    count += headers.credentials(&Name::AUTHORIZATION).len();
    assert!(count <= results.len() + 3 * 128);
    for (_, value) in headers.iter() {
        values(value);
    }
}

/// Reads a text as each type there is; what is read prints to what reads the same.
fn values(text: &str) {
    fn stable<T: std::str::FromStr + ToString + PartialEq>(text: &str) {
        if let Ok(value) = text.parse::<T>() {
            let printed = value.to_string();
            assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?} {printed:?}");
        }
    }
    stable::<Uri>(text);
    stable::<NameAddr>(text);
    stable::<cusax_sip::header::Via>(text);
    stable::<cusax_sip::header::CSeq>(text);
    stable::<cusax_sip::header::Event>(text);
    stable::<cusax_sip::header::SubscriptionState>(text);
    stable::<cusax_sip::header::RetryAfter>(text);
    stable::<cusax_sip::header::SessionExpires>(text);
    stable::<cusax_sip::header::Credentials>(text);
    stable::<Challenge>(text);
    stable::<MediaType>(text);
    stable::<Reason>(text);
    stable::<Replaces>(text);
    stable::<Warning>(text);
    stable::<CallInfo>(text);
    if let (Ok(a), Ok(b)) = (text.parse::<Uri>(), text.parse::<Uri>()) {
        assert!(a.equivalent(&b));
    }
}

/// Offers these bytes, and answers an offer with them.
fn negotiate(bytes: &[u8]) {
    let offered = |name, clock_rate, channels, payload_type| Offered {
        codec: Codec::new(name, clock_rate, channels),
        payload_type,
        fmtp: String::new(),
    };
    let capabilities = Capabilities {
        codecs: vec![offered("opus", 48000, 2, 96), offered("PCMU", 8000, 1, 0)],
        telephone_events: vec![(8000, 101)],
        extensions: vec!["urn:x".to_owned()],
        suites: vec![("X".to_owned(), 3)],
        rtcp_mux: true,
        ..Capabilities::default()
    };
    let address: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    let mut negotiation = Negotiation::new(capabilities, address, 1);
    let mut random = StdRng::seed_from_u64(1);
    if let Ok((answer, audio)) = negotiation.answer(bytes, Direction::SendRecv, Some(&mut random)) {
        let ours = Description::parse(&answer).unwrap().streams().unwrap();
        let theirs = Description::parse(bytes).unwrap().streams().unwrap();
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(ours.iter().filter(|stream| stream.port != 0).count(), 1);
        assert!(ours.iter().zip(&theirs).all(|(a, b)| a.kind == b.kind));
        assert!(!audio.codecs.is_empty());
        if let Some(remote) = audio.remote_rtp {
            assert!(cusax_sip::sdp::usable(remote.ip()) && remote.port() != 0);
        }
        // What we offer next, we can answer ourselves.
        let offer = negotiation.offer(Direction::SendRecv, Some(&mut random));
        assert!(Description::parse(&offer).unwrap().streams().is_ok());
    }
    negotiation.offer(Direction::SendRecv, Some(&mut random));
    let _ = negotiation.accept(bytes);
}

fn host() -> Host {
    "h".parse().unwrap()
}

fn response() -> Response {
    Request::new(Method::Options, SipUri::new(None, host(), None))
        .with(Name::VIA, "SIP/2.0/UDP h;branch=z9hG4bK1")
        .with(Name::FROM, "<sip:b@h>;tag=1")
        .with(Name::TO, "<sip:a@h>;tag=2")
        .with(Name::CALL_ID, "c")
        .with(Name::CSEQ, "1 OPTIONS")
        .response(Status::OK)
}

/// Sends a header value over the wire.
fn through(name: Name, value: &str) -> Headers {
    let mut response = response();
    response.headers.set(name, value);
    let count = response.headers.len() + 1;
    let Ok(Message::Response(read)) = parse(&response.to_bytes()) else { panic!("{value:?}") };
    assert_eq!(read.headers.len(), count);
    read.headers
}

/// What of a text arrives: no line break and no NUL.
fn neutral(text: &str) -> String {
    text.replace(['\r', '\n', '\0'], " ")
}
