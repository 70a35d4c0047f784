//! What strangers send to the ports changes nothing for those who talk.

use std::{
    io::Write,
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use serde_json::json;

use crate::{
    baresip::{Caller, Options, TONE_DBFS, header},
    recording::SILENT_DBFS,
    rtp::Sink,
    sipp::Scenario,
    site::{Site, room},
    steady::Stretch,
    wait::{PATIENCE, monotonic, pause, until},
};

/// The port on which the focus takes a phone's RTP, from the answer that the phone received.
fn media_port(phone: &Caller) -> u16 {
    let answers = phone.messages(0, "RX");
    let answer = answers.iter().find(|text| text.contains("m=audio ")).expect("an answer");
    let rest = answer.split_once("m=audio ").expect("found above").1;
    rest.split(' ').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// One RTP packet as a stranger makes it up.
fn packet(payload_type: u8, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 960).to_be_bytes());
    packet.extend(0xBAD_F00D_u32.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Bytes that are no SIP, or SIP gone wrong.
fn junk() -> Vec<Vec<u8>> {
    let request = |line: &str, headers: &str| {
        format!("{line}\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKjunk\r\n{headers}\r\n\r\n")
            .into_bytes()
    };
    let basics = "From: <sip:a@b>;tag=1\r\nTo: <sip:lounge@conf.test>\r\nCall-ID: junk";
    vec![
        vec![],
        b"\r\n\r\n".to_vec(),
        vec![0; 1_200],
        vec![0xFF; 1_200],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"INVITE sip:lounge@conf.test SIP/7.0\r\n\r\n".to_vec(),
        b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
        b"SIP/2.0 999999 Loud\r\nCSeq: 1 INVITE\r\n\r\n".to_vec(),
        request("INVITE sip:lounge@conf.test SIP/2.0", basics),
        request(
            "INVITE sip:lounge@conf.test SIP/2.0",
            &format!("{basics}\r\nCSeq: 99999999999 INVITE"),
        ),
        request("INVITE sip:lounge@conf.test SIP/2.0", &format!("{basics}\r\nCSeq: 1 BYE")),
        request("INVITE \u{0} SIP/2.0", &format!("{basics}\r\nCSeq: 1 INVITE")),
        request("BYE sip:lounge@conf.test SIP/2.0", &format!("{basics}\r\nCSeq: 1 BYE")),
        request("ACK sip:lounge@conf.test SIP/2.0", &format!("{basics}\r\nCSeq: 1 ACK")),
        request(
            "OPTIONS sip:lounge@conf.test SIP/2.0",
            &format!("{basics}\r\nCSeq: 1 OPTIONS\r\nContent-Length: -1"),
        ),
        request(
            "OPTIONS sip:lounge@conf.test SIP/2.0",
            &format!("{basics}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 4294967297"),
        ),
        request(
            "OPTIONS sip:lounge@conf.test SIP/2.0",
            &format!("{basics}\r\nCSeq: 1 OPTIONS\r\nX: {}", "y".repeat(9_000)),
        ),
        request(
            "OPTIONS sip:lounge@conf.test SIP/2.0",
            &format!("{basics}\r\nCSeq: 1 OPTIONS\r\n{}", "A: b\r\n".repeat(500)),
        ),
        request(
            "SUBSCRIBE sip:lounge@conf.test SIP/2.0",
            &format!("{basics}\r\nCSeq: 1 SUBSCRIBE\r\nEvent: conference\r\nExpires: banana"),
        ),
        request(
            "INVITE sip:lounge@conf.test SIP/2.0",
            &format!(
                "{basics}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.1:9>\r\nContent-Type: application/sdp\r\nContent-Length: 9\r\n\r\nv=0\r\nm=au"
            ),
        ),
    ]
}

#[test]
fn a_media_address_that_never_answers_is_left_alone() {
    let Some(site) = Site::start("a_media_address_that_never_answers_is_left_alone") else {
        return;
    };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    // Somebody names a victim in SDP: sound must not flood it.
    let victim = Sink::bind(false);
    let port = victim.port.to_string();
    let keys = [("who", "mallory"), ("sink", port.as_str()), ("milliseconds", "8000")];
    let Some(call) = Scenario::start(&site, "listener", "lounge", false, &keys) else { return };
    let first = until("the first sound", PATIENCE, || victim.first());
    pause(Duration::from_secs(8));
    assert!(victim.count(0.0, first + 6.0) > 50, "who may be behind a NAT gets a chance");
    assert_eq!(victim.count(first + 6.0, f64::MAX), 0);
    call.passes(Duration::from_secs(20));
}

#[test]
fn junk_on_every_port_leaves_the_call_alone() {
    let Some(mut site) = Site::start("junk_on_every_port_leaves_the_call_alone") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let pcmu = Options { codecs: Some("pcmu"), ..Options::default() };
    let (carol, dave) = (site.caller_as("carol", pcmu), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(2));
    let stretch = Stretch::begin(&site);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    for bytes in junk() {
        let _ = stranger.send_to(&bytes, ("127.0.0.1", site.ports.sip));
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", site.ports.sip)) {
            let _ = stream.write_all(&bytes);
        }
    }
    // Half a message, then nothing.
    let mut slow = TcpStream::connect(("127.0.0.1", site.ports.sip)).expect("it listens");
    slow.write_all(b"OPTIONS sip:lounge@conf.test SIP/2.0\r\nVia: ").expect("it reads");
    let port = media_port(&carol);
    for sequence in 0..200_u16 {
        // A square wave of 200 Hz, as loud as G.711 goes.
        let loud: Vec<u8> = (0..160).map(|at| if at / 20 % 2 == 0 { 0x00 } else { 0x80 }).collect();
        for bytes in [
            packet(0, sequence, &loud),
            packet(96, sequence, &[0xFC; 90]),
            packet(101, sequence, &[1, 0x80, 0, 160]),
            vec![0x80],
            vec![0xC0; 4],
            packet(96, sequence, &[0x03; 1_400]),
            vec![0x81, 203, 0, 1, 0xBA, 0xD0, 0xF0, 0x0D],
            vec![0x80, 200, 0xFF, 0xFF],
        ] {
            let _ = stranger.send_to(&bytes, ("127.0.0.1", port));
            let _ = stranger.send_to(&bytes, ("127.0.0.1", port + 1));
        }
        pause(Duration::from_millis(10));
    }
    let to = monotonic() - 0.2;
    assert!(site.cusaxd.alive());
    let from = stretch.from();
    for (listener, own, talker, hz) in
        [(&carol, 600.0, &dave, 1000.0), (&dave, 1000.0, &carol, 600.0)]
    {
        let heard = listener.heard();
        assert!((heard.level(hz, from, to) - TONE_DBFS).abs() < 3.0);
        stretch.was_heard(&site, listener, talker, hz, to);
        assert!(heard.level(own, from, to) < SILENT_DBFS);
        assert!(heard.level(200.0, from, to) < SILENT_DBFS);
    }
    // Nothing came back to the stranger's socket from the media ports: no RTP bleeds out.
    stranger.set_nonblocking(true).expect("a socket of ours");
    let mut buffer = [0; 2_048];
    while let Ok((length, source)) = stranger.recv_from(&mut buffer) {
        assert_eq!(source.port(), site.ports.sip, "{length} bytes of media for a stranger");
    }
    assert_eq!(site.cusaxd.room("lounge")["people"].as_array().map(Vec::len), Some(3));
    assert_eq!(alice.tell("items", json!({ "jid": room("lounge") }))["ok"], true);
}

/// Requests of strangers, each one new, from an address that nobody vouches for.
struct Stranger {
    socket: UdpSocket,
    focus: (&'static str, u16),
    sent: u32,
}

impl Stranger {
    fn new(host: &str, port: u16) -> Self {
        let socket = UdpSocket::bind((host, 0)).expect("loopback has many addresses");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket of ours");
        Self { socket, focus: ("127.0.0.1", port), sent: 0 }
    }

    /// A request of a call, with the To tag of the answer once there is one.
    fn request(&self, method: &str, call: u32, to_tag: &str, sdp: &str) -> String {
        let local = self.socket.local_addr().expect("it is bound");
        let cseq = if method == "BYE" { 2 } else { 1 };
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:lounge@conf.test SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{call}-{method};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{}@conf.test>;tag=f{call}\r\nTo: <sip:lounge@conf.test>{to_tag}\r\n\
             Call-ID: {call}@{local}\r\nCSeq: {cseq} {method}\r\nContact: <sip:x@{local}>\r\n\
             {kind}Content-Length: {}\r\n\r\n{sdp}",
            local.port(),
            sdp.len(),
        )
    }

    fn send(&self, text: &str) {
        let _ = self.socket.send_to(text.as_bytes(), self.focus);
    }

    /// Sends new requests of all kinds for a while, as fast as `pace` allows.
    fn flood(&mut self, seconds: f64, pace: Duration) {
        let until = monotonic() + seconds;
        while monotonic() < until {
            for method in ["OPTIONS", "INVITE", "SUBSCRIBE", "REGISTER"] {
                self.sent += 1;
                let sdp = if method == "INVITE" { SDP } else { "" };
                self.send(&self.request(method, self.sent, "", sdp));
            }
            pause(pace);
        }
    }

    /// The next answer, provisional ones left out.
    fn answer(&self) -> Option<String> {
        let mut buffer = [0; 8_192];
        loop {
            let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if !text.starts_with("SIP/2.0 1") {
                return Some(text);
            }
        }
    }

    /// Calls the room, sending again as UDP has it, and hangs up: how long it took to get through.
    fn call(&self) -> f64 {
        let (call, began) = (9_999_999, monotonic());
        let ok = (0..10).find_map(|_| {
            self.send(&self.request("INVITE", call, "", SDP));
            self.answer()
        });
        let ok = ok.expect("an answer");
        assert!(ok.starts_with("SIP/2.0 200 "), "{ok}");
        let took = monotonic() - began;
        let to = header(&ok, "To").and_then(|to| to.split_once(";tag=")).expect("a tag").1;
        self.send(&self.request("ACK", call, &format!(";tag={to}"), ""));
        self.send(&self.request("BYE", call, &format!(";tag={to}"), ""));
        let bye = std::iter::from_fn(|| self.answer()).find(|text| text.contains(" BYE"));
        assert!(bye.expect("an answer").starts_with("SIP/2.0 200 "));
        took
    }
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.8\r\ns=-\r\nc=IN IP4 127.0.0.8\r\nt=0 0\r\n\
    m=audio 9 RTP/AVP 0\r\na=inactive\r\n";

#[test]
fn a_flood_from_one_address_neither_disturbs_a_call_nor_keeps_another_out() {
    let test = "a_flood_from_one_address_neither_disturbs_a_call_nor_keeps_another_out";
    let Some(mut site) = Site::start(test) else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(2));
    let before = site.cusaxd.resident();
    let (sip, stretch) = (site.ports.sip, Stretch::begin(&site));
    // All in one name, which has a share of the room's places; the rest of the calls is refused.
    let mut mallory = Stranger::new("127.0.0.9", sip);
    let took = std::thread::scope(|scope| {
        let flood = scope.spawn(|| mallory.flood(2.0, Duration::from_millis(2)));
        pause(Duration::from_millis(500));
        let took = Stranger::new("127.0.0.8", sip).call();
        flood.join().expect("it only sends");
        took
    });
    let to = monotonic() - 0.2;
    assert!(mallory.sent > 1_000, "{}", mallory.sent);
    assert!(took < 2.0, "another caller waited for {took} s");
    assert!(site.cusaxd.alive());
    for (listener, talker, hz) in [(&carol, &dave, 1000.0), (&dave, &carol, 600.0)] {
        let level = listener.heard().level(hz, stretch.from(), to);
        assert!((level - TONE_DBFS).abs() < 3.0, "{level}");
        stretch.was_heard(&site, listener, talker, hz, to);
    }
    // Sixty, twenty a second, and five refusals with one a second.
    mallory.socket.set_nonblocking(true).expect("a socket of ours");
    let (mut served, mut refused) = (0, 0);
    while let Some(answer) = mallory.answer() {
        match answer.starts_with("SIP/2.0 503 ") {
            true => refused += 1,
            false => served += 1,
        }
    }
    assert!((60..=140).contains(&served), "{served}");
    assert!((5..=12).contains(&refused), "{refused}");
    let limited = until("the metric", Duration::from_secs(5), || {
        let limited = site.cusaxd.metric("cusax_sip_limited_total", "rate");
        (limited > f64::from(mallory.sent) / 2.0).then_some(limited)
    });
    let after = site.cusaxd.resident();
    println!("{} requests, {limited} turned away; {before} KiB, then {after} KiB", mallory.sent);
    assert!(after < before + 32 * 1024, "{before} KiB, then {after} KiB");
}
