//! Offers and answers as tables.

use std::net::SocketAddr;

use rand::{SeedableRng, rngs::StdRng};

use super::{
    offer::{Audio, Capabilities, Negotiation, Offered},
    *,
};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n";

fn capabilities() -> Capabilities {
    let offered = |name, clock_rate, channels, payload_type, fmtp: &str| Offered {
        codec: Codec::new(name, clock_rate, channels),
        payload_type,
        fmtp: fmtp.to_owned(),
    };
    Capabilities {
        codecs: vec![
            offered("opus", 48000, 2, 96, "useinbandfec=1"),
            offered("PCMU", 8000, 1, 0, ""),
            offered("PCMA", 8000, 1, 8, ""),
        ],
        telephone_events: vec![(48000, 97), (8000, 101)],
        rtcp_mux: true,
        extensions: vec!["urn:ietf:params:rtp-hdrext:ssrc-audio-level".to_owned()],
        suites: vec![("GCM".to_owned(), 28), ("CM".to_owned(), 30)],
        ptime_ms: Some(20),
        label: None,
    }
}

fn negotiation() -> Negotiation {
    Negotiation::new(capabilities(), "192.0.2.1:4000".parse().unwrap(), 77)
}

fn answer(offer: &str) -> Result<(String, Audio), Refusal> {
    let (text, audio) = negotiation().answer(offer.as_bytes(), Direction::SendRecv, None)?;
    Ok((String::from_utf8(text).unwrap(), audio))
}

/// The answer's lines from the first m-line on.
fn streams(text: &str) -> Vec<&str> {
    let all: Vec<_> = text.split("\r\n").filter(|line| !line.is_empty()).collect();
    let at = all.iter().position(|line| line.starts_with("m=")).unwrap();
    all[at..].to_vec()
}

#[test]
fn answers() {
    let check = |offer: &str, expected: &[&str]| {
        let (text, _) = answer(&format!("{HEAD}{offer}")).unwrap();
        assert_eq!(streams(&text), expected, "{offer}");
    };
    let sendrecv = "a=sendrecv";
    let ptime = "a=ptime:20";
    // Static types need no map, and the answer has one.
    check(
        "m=audio 5000 RTP/AVP 18 8 0 13",
        &["m=audio 4000 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", ptime, sendrecv],
    );
    // A modern phone: the offer's types, ids, mid and profile come back.
    check(
        "m=audio 5000 RTP/AVPF 111 0 101 102\r\na=rtpmap:111 OPUS/48000/2\r\n\
         a=fmtp:111 stereo=1; useinbandfec=1\r\na=rtpmap:101 telephone-event/48000\r\n\
         a=rtpmap:102 telephone-event/8000\r\na=fmtp:102 0-16\r\na=rtcp-mux\r\na=mid:a0\r\n\
         a=extmap:3/sendonly urn:ietf:params:rtp-hdrext:ssrc-audio-level vad=on\r\n\
         a=extmap:4 urn:other\r\na=setup:actpass\r\na=rtcp-fb:* nack\r\n",
        &[
            "m=audio 4000 RTP/AVPF 111 101 102",
            "a=rtpmap:111 OPUS/48000/2",
            "a=fmtp:111 useinbandfec=1",
            "a=rtpmap:101 telephone-event/48000",
            "a=fmtp:101 0-15",
            "a=rtpmap:102 telephone-event/8000",
            "a=fmtp:102 0-15",
            "a=mid:a0",
            ptime,
            "a=extmap:3 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            "a=rtcp-mux",
            sendrecv,
        ],
    );
    // Other streams keep their places with port 0; the first audio that fits wins.
    check(
        "m=video 6000 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n\
         m=audio 5000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n\
         m=audio 5002 RTP/AVP 0\r\nm=audio 5004 RTP/AVP 0\r\nm=image 7000 udptl t38\r\n",
        &[
            "m=video 0 RTP/AVP 31",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 4000 RTP/AVP 0",
            "a=rtpmap:0 PCMU/8000",
            ptime,
            sendrecv,
            "m=audio 0 RTP/AVP 0",
            "m=image 0 udptl t38",
        ],
    );
}

#[test]
fn an_answer_has_its_head() {
    let offer = HEAD.replace("t=0 0", "t=3149328700 5") + "m=audio 5000 RTP/AVP 0\r\n";
    let (text, _) = answer(&offer).unwrap();
    let head = "v=0\r\no=- 77 77 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n\
                t=3149328700 5\r\nm=";
    assert!(text.starts_with(head), "{text}");
}

#[test]
fn refusals() {
    let check = |offer: &str, expected: Refusal, status: u16, code: u16| {
        let refusal = answer(&format!("{HEAD}{offer}")).unwrap_err();
        assert_eq!(refusal, expected, "{offer}");
        assert_eq!(refusal.status().code(), status);
        assert_eq!(refusal.warning("h").code, code);
    };
    let malformed = Refusal::Malformed;
    check("", Refusal::NoAudio, 488, 304);
    check("m=video 5000 RTP/AVP 31\r\n", Refusal::NoAudio, 488, 304);
    check("m=audio 0 RTP/AVP 0\r\n", Refusal::NoAudio, 488, 304);
    check("m=audio 5000 RTP/AVP 18\r\n", Refusal::NoCodec, 488, 305);
    check("m=audio 5000 RTP/AVP 96\r\na=rtpmap:96 opus/48000\r\n", Refusal::NoCodec, 488, 305);
    check("m=audio 5000 RTP/AVP 96\r\na=rtpmap:96 opus/0/2\r\n", Refusal::NoCodec, 488, 305);
    check("m=audio 5000 RTP/AVP 0\r\na=rtpmap:0 L16/44100\r\n", Refusal::NoCodec, 488, 305);
    check("m=audio 5000 RTP/SAVP 0\r\n", Refusal::KeysInTheClear, 488, 399);
    check("m=audio 5000 UDP/TLS/RTP/SAVPF 0\r\n", Refusal::Transport, 488, 302);
    check("m=audio 5000 TCP/MSRP *\r\n", Refusal::Transport, 488, 302);
    check("m=audio 5000 RTP/AVP 128\r\n", malformed("payload type"), 400, 399);
    check("m=audio 5000 RTP/AVP x\r\n", malformed("payload type"), 400, 399);
    check("m=audio 70000 RTP/AVP 0\r\n", malformed("syntax"), 400, 399);
    check("m=audio\r\n", malformed("syntax"), 400, 399);
    check("m=audio 65535 RTP/AVP 0\r\n", Refusal::Address, 488, 301);
    check("a=x\ry\r\n", malformed("control character"), 400, 399);
    check("a=x\0\r\n", malformed("control character"), 400, 399);
    let stream = "m=audio 5000 RTP/AVP 0\r\n";
    check(&stream.repeat(MAX_STREAMS + 1), malformed("too many streams"), 400, 399);
    let attributes = format!("{stream}{}", "a=x\r\n".repeat(MAX_ATTRIBUTES + 1));
    check(&attributes, malformed("too many attributes"), 400, 399);
    let formats = format!("m=audio 5000 RTP/AVP{}\r\n", " 0".repeat(MAX_FORMATS + 1));
    check(&formats, malformed("too many formats"), 400, 399);
    let long = format!("{stream}a=x:{}\r\n", "y".repeat(MAX_BYTES));
    check(&long, Refusal::TooLarge, 413, 399);
    // Many streams at the limit are an answer like any other.
    let (text, _) = answer(&format!("{HEAD}{}", stream.repeat(MAX_STREAMS))).unwrap();
    assert_eq!(text.matches("m=audio 0 ").count(), MAX_STREAMS - 1);
    assert_eq!(answer("").unwrap_err(), Refusal::Malformed("syntax"));
    assert_eq!(answer("hello").unwrap_err(), Refusal::Malformed("syntax"));
}

#[test]
fn addresses() {
    let check = |address: &str, expected: Option<&str>| {
        let family = if address.contains(':') { "IP6" } else { "IP4" };
        let ours: SocketAddr = match family {
            "IP6" => "[2001:db8::1]:4000".parse().unwrap(),
            _ => "192.0.2.1:4000".parse().unwrap(),
        };
        let offer = format!("{HEAD}m=audio 5000 RTP/AVP 0\r\nc=IN {family} {address}\r\n");
        let mut negotiation = Negotiation::new(capabilities(), ours, 1);
        let result = negotiation.answer(offer.as_bytes(), Direction::SendRecv, None);
        let remote = result.ok().map(|(_, audio)| match audio.remote_rtp {
            Some(address) => address.to_string(),
            None => "held".to_owned(),
        });
        assert_eq!(remote.as_deref(), expected, "{address}");
    };
    check("192.0.2.9", Some("192.0.2.9:5000"));
    check("127.0.0.1", Some("127.0.0.1:5000"));
    check("10.0.0.1", Some("10.0.0.1:5000"));
    check("2001:db8::9", Some("[2001:db8::9]:5000"));
    check("::1", Some("[::1]:5000"));
    check("0.0.0.0", Some("held"));
    check("::", Some("held"));
    check("0.0.0.1", None);
    check("0.255.0.1", None);
    check("224.0.0.1", None);
    check("239.255.255.255/127", None);
    check("255.255.255.255", None);
    check("169.254.1.1", None);
    check("ff02::1", None);
    check("fe80::1", None);
    check("::ffff:224.0.0.1", None);
    check("::ffff:0.0.0.1", None);
    check("phone.example.org", None);
    check("192.0.2.256", None);
    // The other family than ours cannot be reached from our socket.
    let offer = format!("{HEAD}m=audio 5000 RTP/AVP 0\r\nc=IN IP6 2001:db8::9\r\n");
    assert_eq!(answer(&offer).unwrap_err(), Refusal::Address);
    // And ours is not theirs.
    let offer = format!("{HEAD}m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n");
    assert_eq!(answer(&offer).unwrap_err(), Refusal::Address);
}

#[test]
fn rtcp_goes_where_it_should() {
    let check = |attributes: &str, rtcp: &str, mux| {
        let (_, audio) = answer(&format!("{HEAD}m=audio 5000 RTP/AVP 0\r\n{attributes}")).unwrap();
        assert_eq!(audio.remote_rtcp.unwrap().to_string(), rtcp, "{attributes}");
        assert_eq!(audio.rtcp_mux, mux);
    };
    check("", "192.0.2.7:5001", false);
    check("a=rtcp-mux\r\n", "192.0.2.7:5000", true);
    check("a=rtcp:6000\r\n", "192.0.2.7:6000", false);
    check("a=rtcp:6000 IN IP4 192.0.2.8\r\n", "192.0.2.8:6000", false);
    check("a=rtcp:6000 IN IP4 224.0.0.1\r\n", "192.0.2.7:5001", false);
    check("a=rtcp:0\r\n", "192.0.2.7:5001", false);
    check("a=rtcp:6000\r\na=rtcp-mux\r\n", "192.0.2.7:5000", true);
    let mut alone = Negotiation::new(
        Capabilities { rtcp_mux: false, ..capabilities() },
        "192.0.2.1:4000".parse().unwrap(),
        1,
    );
    let offer = format!("{HEAD}m=audio 5000 RTP/AVP 0\r\na=rtcp-mux\r\n");
    let (text, audio) = alone.answer(offer.as_bytes(), Direction::SendRecv, None).unwrap();
    assert!(!audio.rtcp_mux && !String::from_utf8(text).unwrap().contains("rtcp-mux"));
}

#[test]
fn directions() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    let check = |theirs: &str, wish: Direction, ours: Direction, held: bool| {
        let offer = format!("{HEAD}m=audio 5000 RTP/AVP 0\r\n{theirs}");
        let (text, audio) = negotiation().answer(offer.as_bytes(), wish, None).unwrap();
        assert_eq!(audio.direction, ours, "{theirs}");
        assert_eq!(audio.is_held(), held, "{theirs}");
        assert!(String::from_utf8(text).unwrap().ends_with(&format!("a={ours}\r\n")));
    };
    check("", SendRecv, SendRecv, false);
    check("a=sendrecv\r\n", RecvOnly, RecvOnly, false);
    check("a=sendonly\r\n", SendRecv, RecvOnly, true);
    check("a=sendonly\r\n", SendOnly, Inactive, true);
    check("a=recvonly\r\n", SendRecv, SendOnly, false);
    check("a=inactive\r\n", SendRecv, Inactive, true);
    check("c=IN IP4 0.0.0.0\r\n", SendRecv, RecvOnly, true);
    check("c=IN IP4 0.0.0.0\r\na=inactive\r\n", SendRecv, Inactive, true);
    // One for the session counts where the stream has none.
    let session = format!("{HEAD}a=sendonly\r\nm=audio 5000 RTP/AVP 0\r\n");
    assert_eq!(answer(&session).unwrap().1.direction, RecvOnly);
    let stream = format!("{HEAD}a=inactive\r\nm=audio 5000 RTP/AVP 0\r\na=sendrecv\r\n");
    assert_eq!(answer(&stream).unwrap().1.direction, SendRecv);
}

#[test]
fn what_the_peer_wants_is_told() {
    let offer = format!(
        "{HEAD}m=audio 5000 RTP/AVP 111 101\r\na=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 MaxAverageBitrate=20000; stereo=1;usedtx\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=ptime:40.0\r\na=maxptime:60\r\na=label:7\r\n"
    );
    let (_, audio) = answer(&offer).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let fmtp = [pair("maxaveragebitrate", "20000"), pair("stereo", "1"), pair("", "usedtx")];
    assert_eq!(audio.codec().remote_fmtp, fmtp);
    assert_eq!((audio.codec().send, audio.codec().receive), (111, 111));
    assert_eq!((audio.ptime_ms, audio.max_ptime_ms), (Some(40), Some(60)));
    assert_eq!(audio.remote_label.as_deref(), Some("7"));
    let event = audio.telephone_events[0];
    assert_eq!((event.clock_rate, event.send, event.receive), (8000, 101, 101));
}

#[test]
fn an_offer_and_its_answer() {
    let mut negotiation = negotiation();
    assert_eq!(negotiation.current(), None);
    let text = String::from_utf8(negotiation.offer(Direction::SendRecv, None)).unwrap();
    let expected = "v=0\r\no=- 77 77 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                    m=audio 4000 RTP/AVP 96 0 8 97 101\r\na=rtpmap:96 opus/48000/2\r\n\
                    a=fmtp:96 useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
                    a=rtpmap:97 telephone-event/48000\r\na=fmtp:97 0-15\r\n\
                    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n\
                    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=rtcp-mux\r\n\
                    a=sendrecv\r\n";
    assert_eq!(text, expected);
    assert!(negotiation.is_offering());
    // The peer may send with other types than it receives with.
    let answer = format!(
        "{HEAD}m=audio 5000 RTP/AVP 8 120 118\r\na=rtpmap:120 opus/48000/2\r\n\
         a=rtpmap:118 telephone-event/8000\r\na=recvonly\r\n"
    );
    let audio = negotiation.accept(answer.as_bytes()).unwrap();
    let types: Vec<_> =
        audio.codecs.iter().map(|c| (c.codec.to_string(), c.send, c.receive)).collect();
    assert_eq!(types, [("PCMA/8000".to_owned(), 8, 8), ("opus/48000/2".to_owned(), 120, 96)]);
    let event = audio.telephone_events[0];
    assert_eq!((event.send, event.receive), (118, 101));
    assert_eq!(audio.direction, Direction::SendOnly);
    assert!(!audio.rtcp_mux && audio.extensions.is_empty());
    assert_eq!(negotiation.current(), Some(text.as_bytes()));
    let again = negotiation.accept(answer.as_bytes());
    assert_eq!(again, Err(Refusal::Malformed("answer without offer")));
}

#[test]
fn answers_that_do_not_fit() {
    let check = |answer: &str, expected: Refusal| {
        let mut negotiation = negotiation();
        negotiation.offer(Direction::SendRecv, None);
        assert_eq!(negotiation.accept(format!("{HEAD}{answer}").as_bytes()), Err(expected));
        assert!(!negotiation.is_offering());
        assert_eq!(negotiation.current(), None);
    };
    let mismatch = Refusal::Malformed("streams do not match the offer");
    check("", mismatch);
    check("m=audio 5000 RTP/AVP 0\r\nm=audio 5000 RTP/AVP 0\r\n", mismatch);
    check("m=audio 0 RTP/AVP 0\r\n", Refusal::NoAudio);
    check("m=video 5000 RTP/AVP 0\r\n", Refusal::NoAudio);
    check("m=audio 5000 RTP/AVP 18\r\n", Refusal::NoCodec);
    check("m=audio 5000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", Refusal::NoCodec);
    check("m=audio 5000 RTP/SAVP 0\r\n", Refusal::NoSuite);
    check("m=audio 5000 UDP/TLS/RTP/SAVPF 0\r\n", Refusal::Transport);
}

#[test]
fn a_call_changes_and_keeps_its_shape() {
    let mut negotiation = negotiation();
    let offer = format!(
        "{HEAD}m=video 6000 RTP/AVP 31\r\nm=audio 5000 RTP/AVP 110 0 96\r\n\
         a=rtpmap:110 opus/48000/2\r\na=rtpmap:96 telephone-event/8000\r\n\
         a=extmap:5 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
    );
    let (first, _) = negotiation.answer(offer.as_bytes(), Direction::SendRecv, None).unwrap();
    // The same again is the same again, version and all.
    let (second, _) = negotiation.answer(offer.as_bytes(), Direction::SendRecv, None).unwrap();
    assert_eq!(first, second);
    let held = format!("{offer}a=sendonly\r\n");
    let (third, _) = negotiation.answer(held.as_bytes(), Direction::SendRecv, None).unwrap();
    let third = String::from_utf8(third).unwrap();
    assert!(third.contains("o=- 77 78 IN") && third.contains("a=recvonly"), "{third}");
    // Our own offer keeps the streams and what the types meant.
    let ours = String::from_utf8(negotiation.offer(Direction::SendOnly, None)).unwrap();
    assert!(ours.contains("o=- 77 79 IN"), "{ours}");
    let lines = streams(&ours);
    assert_eq!(lines[..2], ["m=video 0 RTP/AVP 31", "m=audio 4000 RTP/AVP 110 0 8 97 96"]);
    assert!(lines.contains(&"a=rtpmap:110 opus/48000/2"));
    assert!(lines.contains(&"a=rtpmap:96 telephone-event/8000"));
    assert!(lines.contains(&"a=extmap:5 urn:ietf:params:rtp-hdrext:ssrc-audio-level"));
    // It is refused: what was in force is.
    negotiation.withdraw();
    assert_eq!(negotiation.current(), Some(third.as_bytes()));
    let next = String::from_utf8(negotiation.offer(Direction::SendRecv, None)).unwrap();
    assert!(next.contains("o=- 77 80 IN"), "{next}");
    let answer = format!("{HEAD}m=video 0 RTP/AVP 31\r\nm=audio 5000 RTP/AVP 0\r\n");
    assert_eq!(negotiation.accept(answer.as_bytes()).unwrap().codec().receive, 0);
    // A stream may come, none may go; a refusal changes nothing.
    let fewer = format!("{HEAD}m=audio 5000 RTP/AVP 0\r\n");
    let before = negotiation.current().unwrap().to_vec();
    let refused = negotiation.answer(fewer.as_bytes(), Direction::SendRecv, None);
    assert_eq!(refused.unwrap_err(), Refusal::Malformed("fewer streams than before"));
    assert_eq!(negotiation.current(), Some(&*before));
    let more = format!("{offer}m=audio 5004 RTP/AVP 0\r\n");
    assert!(negotiation.answer(more.as_bytes(), Direction::SendRecv, None).is_ok());
}

#[test]
fn an_offer_never_reuses_a_type() {
    let mut negotiation = negotiation();
    // The peer has 96 and 97 for its own purposes, and 98 for telephone-event.
    let offer = format!(
        "{HEAD}m=audio 5000 RTP/AVP 97 96\r\na=rtpmap:97 PCMU/8000\r\n\
         a=rtpmap:96 telephone-event/48000\r\n"
    );
    let (_, audio) = negotiation.answer(offer.as_bytes(), Direction::SendRecv, None).unwrap();
    assert_eq!(audio.codec().receive, 97);
    let text = String::from_utf8(negotiation.offer(Direction::SendRecv, None)).unwrap();
    assert!(text.contains("m=audio 4000 RTP/AVP 98 97 8 96 101"), "{text}");
    assert!(text.contains("a=rtpmap:98 opus/48000/2"), "{text}");
}

#[test]
fn a_description_prints_as_it_came() {
    let text = format!("{HEAD}m=audio 5000 RTP/AVP 0\r\na=x:y z\r\na=sendrecv\r\n");
    let description = Description::parse(text.as_bytes()).unwrap();
    assert_eq!(description.to_bytes(), text.as_bytes());
    let bare = Description::parse(text.replace("\r\n", "\n").as_bytes()).unwrap();
    assert_eq!(bare, description);
}

/// Keys of the right lengths, in base64.
const GCM: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ==";
const CM: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC";

fn protected(proto: &str, lines: &str) -> String {
    format!("{HEAD}m=audio 5000 {proto} 0\r\n{lines}")
}

/// What of SRTP an offer gets over signalling that nobody reads, and that everybody reads: the tag and suite
/// of the answer, `plain`, or why not.
#[test]
fn keys_are_agreed_on_where_nobody_reads_them() {
    let check = |proto: &str, lines: &str, secret: &str, open: &str| {
        let lines = lines.replace("GKEY", GCM).replace("CKEY", CM);
        let offer = protected(proto, &lines);
        for (seed, expected) in [(Some(7), secret), (None, open)] {
            let mut random = seed.map(StdRng::seed_from_u64);
            let keys = random.as_mut();
            let answer = negotiation().answer(offer.as_bytes(), Direction::SendRecv, keys);
            let found = match answer {
                Err(why) => why.to_string(),
                Ok((text, audio)) => {
                    let text = String::from_utf8(text).unwrap();
                    assert!(text.contains(&format!("m=audio 4000 {proto} 0")), "{text}");
                    let line = text.lines().find_map(|line| line.strip_prefix("a=crypto:"));
                    assert_eq!(line.is_some(), audio.srtp.is_some());
                    audio.srtp.map_or("plain".to_owned(), |srtp| {
                        assert_eq!(srtp.ours.to_string(), line.unwrap());
                        assert_eq!(srtp.ours.key.len(), srtp.theirs.key.len());
                        assert_ne!(srtp.ours.key, srtp.theirs.key);
                        format!("{} {}", srtp.ours.tag, srtp.ours.suite)
                    })
                }
            };
            assert_eq!(found, expected, "{proto} {lines} {seed:?}");
        }
    };
    let (clear, none) = ("SRTP Keys Only Over TLS", "No Crypto Suite In Common");
    check("RTP/SAVP", "a=crypto:1 CM inline:CKEY\r\n", "1 CM", clear);
    check("RTP/SAVPF", "a=crypto:1 CM inline:CKEY|2^31\r\n", "1 CM", clear);
    // The first that we know, of the right length.
    let three = "a=crypto:1 F8 inline:CKEY\r\na=crypto:2 GCM inline:CKEY\r\na=crypto:3 GCM inline:GKEY\r\n\
                 a=crypto:4 CM inline:CKEY\r\n";
    check("RTP/SAVP", three, "3 GCM", clear);
    check("RTP/SAVP", "a=crypto:1 F8 inline:CKEY\r\n", none, clear);
    check("RTP/SAVP", "a=crypto:1 CM inline:CKEY|1:4\r\n", none, clear);
    check("RTP/SAVP", "a=crypto:1 CM inline:CKEY UNENCRYPTED_SRTP\r\n", none, clear);
    check("RTP/SAVP", "", none, clear);
    // Who would like it and does without.
    check("RTP/AVP", "a=crypto:1 CM inline:CKEY\r\n", "1 CM", "plain");
    check("RTP/AVP", "a=crypto:1 F8 inline:CKEY\r\n", "plain", "plain");
    check("RTP/AVP", "", "plain", "plain");
    let transport = "Transport Not Supported";
    check("UDP/TLS/RTP/SAVPF", "a=setup:actpass\r\n", transport, transport);
}

#[test]
fn a_key_stays_as_long_as_the_peers_does() {
    let mut random = StdRng::seed_from_u64(1);
    let mut negotiation = negotiation();
    let mut ours = |lines: &str| {
        let offer = protected("RTP/SAVP", lines);
        let answer =
            negotiation.answer(offer.as_bytes(), Direction::SendRecv, Some(&mut random)).unwrap();
        answer.1.srtp.unwrap().ours.key
    };
    let first = ours(&format!("a=crypto:1 CM inline:{CM}\r\n"));
    let held = ours(&format!("a=crypto:5 CM inline:{CM}\r\na=sendonly\r\n"));
    assert_eq!(first, held, "a hold");
    let other = ours(&format!("a=crypto:1 CM inline:{}\r\n", CM.replace("AgI", "AwM")));
    assert_ne!(first, other, "a new key");
    let suite = ours(&format!("a=crypto:1 GCM inline:{GCM}\r\n"));
    assert_eq!(suite.len(), 28);
    let back = ours(&format!("a=crypto:1 CM inline:{CM}\r\n"));
    assert!(back != first && back != other, "no key comes back");
}

#[test]
fn our_offers_have_a_key_for_each_suite_and_take_one_line() {
    let offer = |negotiation: &mut Negotiation, random: &mut StdRng| {
        let text = negotiation.offer(Direction::SendRecv, Some(random));
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("a=crypto:"))
            .map(str::to_owned)
            .collect();
        (text, lines)
    };
    let check = |lines: &str, expected: Result<Option<&str>, Refusal>| {
        let (mut negotiation, mut random) = (negotiation(), StdRng::seed_from_u64(3));
        let (text, offered) = offer(&mut negotiation, &mut random);
        assert!(text.contains("m=audio 4000 RTP/AVP "), "{text}");
        assert!(offered[0].starts_with("1 GCM ") && offered[1].starts_with("2 CM "), "{offered:?}");
        let lines = lines.replace("GKEY", GCM).replace("CKEY", CM);
        let answer = protected("RTP/AVP", &lines);
        let agreed = negotiation.accept(answer.as_bytes());
        let found = agreed.as_ref().map(|audio| {
            audio.srtp.as_ref().map(|srtp| {
                assert!(offered.contains(&srtp.ours.to_string()));
                srtp.theirs.suite.as_str()
            })
        });
        assert_eq!(found.map_err(|why| *why), expected, "{lines}");
        // Once protected it stays so, with the same key.
        if let Ok(Some(_)) = found {
            let ours = agreed.unwrap().srtp.unwrap().ours;
            assert_eq!(offer(&mut negotiation, &mut random).1, [ours.to_string()]);
            let plain = protected("RTP/AVP", "");
            assert_eq!(negotiation.accept(plain.as_bytes()).err(), Some(Refusal::NoSuite));
        }
    };
    check("", Ok(None));
    check("a=crypto:1 GCM inline:GKEY\r\n", Ok(Some("GCM")));
    check("a=crypto:2 CM inline:CKEY\r\n", Ok(Some("CM")));
    check("a=crypto:1 CM inline:CKEY\r\n", Err(Refusal::NoSuite));
    check("a=crypto:3 CM inline:CKEY\r\n", Err(Refusal::NoSuite));
    let both = "a=crypto:1 GCM inline:GKEY\r\na=crypto:2 CM inline:CKEY\r\n";
    check(both, Err(Refusal::NoSuite));
}
