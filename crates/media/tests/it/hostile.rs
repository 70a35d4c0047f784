//! What a hostile or broken peer sends changes nothing but a counter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cusax_media::FRAME_SAMPLES;
use cusax_media::codec::Codec;
use cusax_media::leg::{DropReason, Leg, LegStats, Received};
use proptest::prelude::*;

use crate::simulation::{EVENTS, OPUS, config, opus, peer, start, talk, tone};

fn stranger() -> SocketAddr {
    "198.51.100.66:4000".parse().unwrap()
}

/// A leg one second into a call, at the moment between two packets.
fn call() -> (Leg, Instant) {
    let start = start();
    let mut leg = Leg::new(start, config(Codec::Opus), "test", 5);
    let mut now = start;
    for (at, packet) in talk(opus(), tone, 50) {
        now = start + Duration::from_micros(at);
        assert_eq!(leg.receive(now, peer(), &packet), Received::Audio);
        leg.tick(now, &mut [0.0; FRAME_SAMPLES]);
    }
    (leg, now + Duration::from_millis(1))
}

fn without_drops(leg: &Leg) -> LegStats {
    LegStats { dropped: Default::default(), ..leg.stats() }
}

/// A header with the call's SSRC and the number that is next.
fn rtp(first: u8, second: u8, tail: &[u8]) -> Vec<u8> {
    [&[first, second, 0, 14, 0, 0, 0, 0, 0, 0, 0, 77], tail].concat()
}

fn rtcp(kind: u8, count: u8, words: u16, body: &[u8]) -> Vec<u8> {
    [&[0x80 | count, kind][..], &words.to_be_bytes(), body].concat()
}

/// An RR without blocks, then something else.
fn after_rr(tail: &[u8]) -> Vec<u8> {
    [&[0x80, 201, 0, 1, 0, 0, 0, 77][..], tail].concat()
}

#[test]
fn malformed_packets_change_nothing() {
    use DropReason::{Malformed, PayloadType, Ssrc, TooLong};
    let long = {
        let mut long = rtp(0x80, OPUS, &[0x08]);
        long.resize(1_501, 0);
        long
    };
    let rtp_cases: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("empty", vec![], Malformed),
        ("one byte", vec![0x80], Malformed),
        ("half a header", rtp(0x80, OPUS, &[])[..11].to_vec(), Malformed),
        ("version 0", rtp(0x00, OPUS, &[8, 1]), Malformed),
        ("version 1", rtp(0x40, OPUS, &[8, 1]), Malformed),
        ("version 3", rtp(0xC0, OPUS, &[8, 1]), Malformed),
        ("CSRCs missing", rtp(0x8F, OPUS, &[8, 1]), Malformed),
        ("CSRCs cut", rtp(0x82, OPUS, &[0, 0, 0, 1, 0, 0]), Malformed),
        ("extension missing", rtp(0x90, OPUS, &[]), Malformed),
        ("extension head cut", rtp(0x90, OPUS, &[0xBE, 0xDE]), Malformed),
        (
            "extension longer than packet",
            rtp(0x90, OPUS, &[0xBE, 0xDE, 0xFF, 0xFF, 8, 1]),
            Malformed,
        ),
        ("padding missing", rtp(0xA0, OPUS, &[]), Malformed),
        ("padding of zero", rtp(0xA0, OPUS, &[8, 1, 0]), Malformed),
        ("padding longer than payload", rtp(0xA0, OPUS, &[8, 1, 200]), Malformed),
        ("nothing but padding", rtp(0xA0, OPUS, &[0, 2]), Malformed),
        ("no payload", rtp(0x80, OPUS, &[]), Malformed),
        ("too long", long, TooLong),
        ("unknown payload type", rtp(0x80, 96, &[8, 1]), PayloadType),
        ("comfort noise not negotiated", rtp(0x80, 13, &[40]), PayloadType),
        ("RTCP on an unmultiplexed port", after_rr(&after_rr(&[])), PayloadType),
        (
            "STUN",
            vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Malformed,
        ),
        ("DTLS", vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Malformed),
        ("SIP", b"OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec(), Malformed),
        ("Opus: odd", rtp(0x80, OPUS, &[0x09, 1, 2, 3]), Malformed),
        ("Opus: no frame length", rtp(0x80, OPUS, &[0x0A]), Malformed),
        ("Opus: frame length overruns", rtp(0x80, OPUS, &[0x0A, 200, 1]), Malformed),
        ("Opus: no frame count", rtp(0x80, OPUS, &[0x0B]), Malformed),
        ("Opus: no frames", rtp(0x80, OPUS, &[0x0B, 0]), Malformed),
        ("Opus: 49 frames", rtp(0x80, OPUS, &[0x83, 49]), Malformed),
        ("Opus: 180 ms", rtp(0x80, OPUS, &[0x1B, 3, 1, 2, 3]), Malformed),
        ("Opus: padding overruns", rtp(0x80, OPUS, &[0x0B, 0x41, 9, 1]), Malformed),
        (
            "Opus: frame of 1,276 bytes",
            rtp(0x80, OPUS, &[[8].as_slice(), &[0; 1_276]].concat()),
            Malformed,
        ),
        ("G.711: empty", rtp(0x80, 0, &[]), Malformed),
        ("G.711: 121 ms", rtp(0x80, 8, &[0; 968]), Malformed),
        ("event: empty", rtp(0x80, EVENTS, &[]), Malformed),
        ("event: cut", rtp(0x80, EVENTS, &[1, 10, 0]), Malformed),
        ("another SSRC", [&rtp(0x80, OPUS, &[])[..11], &[78, 8, 1]].concat(), Ssrc),
    ];
    let sr = |words| rtcp(200, 0, words, &[[0, 0, 0, 77].as_slice(), &[0; 20]].concat());
    let rtcp_cases: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("empty", vec![], Malformed),
        ("four bytes", vec![0x80, 201, 0, 0], Malformed),
        ("seven bytes", vec![0x80, 201, 0, 1, 0, 0, 0], Malformed),
        (
            "version 1",
            rtcp(201, 0, 1, &[0, 0, 0, 77])
                .into_iter()
                .enumerate()
                .map(|(i, b)| if i == 0 { 0x40 } else { b })
                .collect(),
            Malformed,
        ),
        ("SR shorter than its sender info", rtcp(200, 0, 1, &[0, 0, 0, 77]), Malformed),
        ("SR length beyond the packet", sr(7), Malformed),
        ("SR with blocks it has not", rtcp(200, 3, 6, &[0; 24]), Malformed),
        ("RR with blocks it has not", rtcp(201, 1, 1, &[0, 0, 0, 77]), Malformed),
        ("RR of 31 blocks in 24 bytes", rtcp(201, 31, 7, &[0; 28]), Malformed),
        ("trailing bytes", after_rr(&[0, 0]), Malformed),
        ("second packet cut", after_rr(&[0x81, 202, 0, 9, 0, 0]), Malformed),
        ("BYE alone", rtcp(203, 1, 1, &[0, 0, 0, 77]), Malformed),
        ("SDES alone", rtcp(202, 1, 2, &[0, 0, 0, 77, 0, 0, 0, 0]), Malformed),
        ("APP alone", rtcp(204, 0, 2, &[0; 8]), Malformed),
        ("BYE with sources it has not", after_rr(&rtcp(203, 2, 1, &[0, 0, 0, 77])), Malformed),
        (
            "BYE with a reason beyond its end",
            after_rr(&rtcp(203, 1, 2, &[0, 0, 0, 77, 9, 0, 0, 0])),
            Malformed,
        ),
        ("SDES without room for an SSRC", after_rr(&rtcp(202, 1, 0, &[])), Malformed),
        (
            "SDES item beyond its end",
            after_rr(&rtcp(202, 1, 2, &[0, 0, 0, 77, 1, 200, 0, 0])),
            Malformed,
        ),
        (
            "SDES without an end",
            after_rr(&rtcp(202, 1, 2, &[0, 0, 0, 77, 1, 2, 65, 65])),
            Malformed,
        ),
        (
            "SDES with chunks it has not",
            after_rr(&rtcp(202, 2, 2, &[0, 0, 0, 77, 0, 0, 0, 0])),
            Malformed,
        ),
        (
            "padding in the first of two",
            [&[0xA0, 201, 0, 1, 0, 0, 0, 4][..], &rtcp(203, 0, 0, &[])].concat(),
            Malformed,
        ),
        ("padding of zero", vec![0xA0, 201, 0, 2, 0, 0, 0, 77, 0, 0, 0, 0], Malformed),
        ("padding of three", vec![0xA0, 201, 0, 2, 0, 0, 0, 77, 0, 0, 0, 3], Malformed),
        ("padding of everything", vec![0xA0, 201, 0, 2, 0, 0, 0, 77, 0, 0, 0, 8], Malformed),
        ("too long", vec![0x80; 1_501], TooLong),
    ];
    assert!(rtp_cases.len() + rtcp_cases.len() >= 60);
    let rtcp_peer: SocketAddr = "192.0.2.7:4001".parse().unwrap();
    for (name, packet, reason) in &rtp_cases {
        let (mut leg, now) = call();
        let (before, upcoming) = (without_drops(&leg), leg.upcoming());
        assert_eq!(leg.receive(now, peer(), packet), Received::Dropped(*reason), "RTP: {name}");
        assert_eq!((without_drops(&leg), leg.upcoming()), (before, upcoming), "RTP: {name}");
        assert_eq!(leg.stats().dropped.iter().sum::<u64>(), 1);
    }
    for (name, packet, reason) in &rtcp_cases {
        let (mut leg, now) = call();
        let before = without_drops(&leg);
        let due = leg.poll_timeout();
        assert_eq!(
            leg.receive_rtcp(now, rtcp_peer, packet),
            Received::Dropped(*reason),
            "RTCP: {name}"
        );
        assert_eq!((without_drops(&leg), leg.poll_timeout()), (before, due), "RTCP: {name}");
    }
    // The same by a shared port, and from a stranger whatever it is.
    for (name, packet, _) in rtp_cases.iter().chain(&rtcp_cases) {
        let (mut leg, now) = call();
        leg.reconfigure(now, cusax_media::leg::LegConfig { rtcp_mux: true, ..config(Codec::Opus) });
        let before = without_drops(&leg);
        assert!(matches!(leg.receive(now, stranger(), packet), Received::Dropped(_)), "{name}");
        assert_eq!(without_drops(&leg), before, "{name}");
        assert_eq!(leg.remote(now), Some(peer()));
    }
}

#[test]
fn a_stranger_is_neither_heard_nor_sent_to() {
    let start = start();
    let mut leg = Leg::new(start, config(Codec::Opus), "test", 5);
    let theirs = talk(opus(), tone, 500);
    for (n, (at, packet)) in theirs.iter().enumerate() {
        let now = start + Duration::from_micros(*at);
        assert_eq!(
            leg.receive(now, stranger(), packet),
            Received::Dropped(DropReason::Source),
            "{n}"
        );
        if (100..300).contains(&n) {
            let mut ours = packet.clone();
            ours[11] = 99;
            assert_eq!(leg.receive(now, peer(), &ours), Received::Audio, "{n}");
        }
        assert_ne!(leg.remote(now), Some(stranger()));
        let heard = leg.tick(now, &mut [0.0; FRAME_SAMPLES]);
        assert!(!heard.sound || (100..310).contains(&n), "{n}");
    }
    assert_eq!(leg.stats().jitter.received, 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_makes_a_leg_panic(
        packets in proptest::collection::vec(
            (0u64..200, any::<bool>(), prop_oneof![Just(OPUS), Just(0u8), Just(8), Just(EVENTS), any::<u8>()],
             any::<u16>(), prop_oneof![any::<u32>(), 0u32..5_000], prop_oneof![Just(77u32), Just(78), any::<u32>()],
             proptest::collection::vec(any::<u8>(), 0..60)),
            0..300),
    ) {
        let start = start();
        let mut leg = Leg::new(start, config(Codec::Opus), "test", 5);
        let mut now = start;
        let mut frame = [0.0; FRAME_SAMPLES];
        for (wait, near, kind, sequence, timestamp, ssrc, tail) in packets {
            now += Duration::from_millis(wait / 10);
            let sequence = if near { sequence % 64 } else { sequence };
            let mut packet = vec![if wait % 7 == 0 { 0x90 } else { 0x80 }, kind];
            packet.extend(sequence.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet.extend(&tail);
            leg.receive(now, peer(), &packet);
            leg.receive_rtcp(now, peer(), &packet);
            if wait % 3 == 0 {
                leg.tick_skip(now);
            } else {
                leg.tick(now, &mut frame);
            }
            prop_assert!(frame.iter().all(|s| s.is_finite()));
            prop_assert!(leg.stats().jitter.delay_s < 3.0);
            leg.handle_timeout(now, &mut [0; 300]);
        }
    }

    #[test]
    fn noise_makes_no_leg_panic(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..100)) {
        let start = start();
        let mut leg = Leg::new(start, config(Codec::Opus), "test", 5);
        for (n, packet) in packets.iter().enumerate() {
            let now = start + Duration::from_millis(n as u64 * 7);
            leg.receive(now, peer(), packet);
            leg.receive_rtcp(now, peer(), packet);
            leg.tick(now, &mut [0.0; FRAME_SAMPLES]);
        }
    }
}
