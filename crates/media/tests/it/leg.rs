//! One leg: key presses, new streams, its own packets and reports.

use std::time::{Duration, Instant};

use cusax_media::codec::{Codec, EncoderSettings};
use cusax_media::leg::{Activity, DropReason, Leg, LegConfig, Received};
use cusax_media::level::measure_dbov;
use cusax_media::rtcp::{self, Compound, Packet, ReportBlock, SenderInfo};
use cusax_media::rtp::Header;
use cusax_media::srtp::{Incoming, Keys, Outgoing, Suite};
use cusax_media::{FRAME_SAMPLES, rtp};
use webrtc_util::marshal::Unmarshal;

use crate::simulation::{EVENTS, Sent, config, opus, peer, start, talk, tone};

fn open(codec: Codec) -> (Leg, Instant) {
    let start = start();
    (Leg::new(start, config(codec), "leg@test", 5), start)
}

/// Plays packets and ticks 3 ms after each.
fn play(leg: &mut Leg, start: Instant, packets: &[Sent]) -> (Vec<Received>, Vec<f32>) {
    let (mut received, mut pcm, mut frame) = (Vec::new(), Vec::new(), [0.0; FRAME_SAMPLES]);
    let ticks = packets.last().unwrap().0 / 20_000 + 1;
    let mut packets = packets.iter().peekable();
    for n in 0..ticks {
        while let Some((at, packet)) = packets.next_if(|(at, _)| *at <= n * 20_000) {
            received.push(leg.receive(start + Duration::from_micros(*at), peer(), packet));
        }
        leg.tick(start + Duration::from_micros(n * 20_000 + 3_000), &mut frame);
        pcm.extend_from_slice(&frame);
    }
    (received, pcm)
}

#[test]
fn key_presses_are_reported_once_and_never_heard() {
    for keep_audio in [false, true] {
        let (mut leg, start) = open(Codec::Pcmu);
        // From the second second, ten packets of a key replace the audio or go between.
        let mut sequence = 0u16;
        let mut packets = Vec::new();
        for (n, (at, packet)) in talk(EncoderSettings::Pcmu, tone, 150).into_iter().enumerate() {
            let number = |sequence: &mut u16, mut packet: Vec<u8>| {
                packet[2..4].copy_from_slice(&sequence.to_be_bytes());
                *sequence += 1;
                packet
            };
            let pressed = (50..60).contains(&n);
            if pressed {
                let mut event = packet[..12].to_vec();
                event[1] = EVENTS | if n == 50 { 0x80 } else { 0 };
                // The press began with packet 50.
                let begun = u32::from_be_bytes([event[4], event[5], event[6], event[7]])
                    .wrapping_sub((n as u32 - 50) * 160);
                event[4..8].copy_from_slice(&begun.to_be_bytes());
                event.extend([11, if n > 56 { 0x8A } else { 10 }]);
                event.extend(((n as u16 - 49) * 160).to_be_bytes());
                packets.push((at, number(&mut sequence, event)));
            }
            if !pressed || keep_audio {
                packets.push((at, number(&mut sequence, packet)));
            }
        }
        let (received, pcm) = play(&mut leg, start, &packets);
        let digits: Vec<_> = received.iter().filter(|r| matches!(r, Received::Digit(_))).collect();
        assert_eq!(digits, [&Received::Digit('#')]);
        assert_eq!(received.iter().filter(|r| **r == Received::DigitContinues).count(), 9);
        assert_eq!(leg.stats().jitter.concealed, 0, "{:?}", leg.stats());
        assert_eq!(leg.stats().lost, 0);
        // Where the audio stopped it faded; nothing else was made up.
        let quiet = pcm.chunks(960).filter(|frame| measure_dbov(frame) < -60.0).count();
        let start_up = 4;
        if keep_audio {
            assert!(quiet <= start_up, "{quiet}");
        } else {
            assert!((8..=10 + start_up).contains(&quiet), "{quiet}");
        }
    }
}

#[test]
fn a_new_stream_needs_four_packets_and_then_replaces_the_old() {
    let (mut leg, start) = open(Codec::Opus);
    let old = talk(opus(), tone, 100);
    let mut packets = old[..50].to_vec();
    for (at, packet) in &old[50..] {
        let mut new = packet.clone();
        new[2] ^= 0x55; // other numbers, other SSRC
        new[8] = 9;
        packets.push((*at, new));
    }
    let (received, pcm) = play(&mut leg, start, &packets);
    assert_eq!(&received[50..53], [Received::Dropped(DropReason::Ssrc); 3]);
    assert!(received[53..].iter().all(|r| *r == Received::Audio));
    let gap = pcm[48_000..].chunks(960).filter(|frame| measure_dbov(frame) < -30.0).count();
    assert!(gap <= 8, "{gap} frames without sound");
    // Stray packets of a third never get in.
    let mut stray = old[99].1.clone();
    stray[8] = 33;
    for n in 0..20u64 {
        let now = start + Duration::from_millis(2_000 + n);
        assert_eq!(leg.receive(now, peer(), &stray), Received::Dropped(DropReason::Ssrc));
    }
}

#[test]
fn a_codec_may_change_on_the_way() {
    let (mut leg, start) = open(Codec::Opus);
    let mut packets = talk(opus(), tone, 50);
    let next = u16::from_be_bytes([packets[49].1[2], packets[49].1[3]]).wrapping_add(1);
    for (n, (at, mut packet)) in
        talk(EncoderSettings::Pcma, tone, 100).into_iter().skip(50).enumerate()
    {
        packet[2..4].copy_from_slice(&next.wrapping_add(n as u16).to_be_bytes());
        packets.push((at, packet));
    }
    let (received, pcm) = play(&mut leg, start, &packets);
    assert!(received.iter().all(|r| *r == Received::Audio));
    assert!(pcm[72_000..].chunks(960).all(|frame| (measure_dbov(frame) + 9.0).abs() < 0.7));
}

#[test]
fn a_skipped_leg_keeps_time_and_comes_back_clean() {
    let (mut leg, start) = open(Codec::Opus);
    let mut frame = [0.0; FRAME_SAMPLES];
    for (n, (at, packet)) in talk(opus(), tone, 200).into_iter().enumerate() {
        let now = start + Duration::from_micros(at);
        leg.receive(now, peer(), &packet);
        if (50..100).contains(&n) {
            leg.tick_skip(now);
            continue;
        }
        let heard = leg.tick(now, &mut frame);
        let peak = frame.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        assert!(peak < 0.85, "{n}: a burst of {peak}");
        if n > 110 {
            assert!((heard.level_dbov + 9.0).abs() < 0.7, "{n}: {}", heard.level_dbov);
            assert!(matches!(leg.upcoming(), Activity::Told { .. } | Activity::Unknown));
        }
    }
    let stats = leg.stats();
    assert_eq!(stats.jitter.concealed, 0);
    assert!(stats.jitter.delay_s < 0.06);
}

#[test]
fn the_senders_level_is_known_before_decoding() {
    let (mut leg, start) = open(Codec::Pcmu);
    for (level, expected) in [
        (0x9E, Activity::Told { voice: true, level_dbov: Some(-30) }),
        (0x46, Activity::Told { voice: false, level_dbov: Some(-70) }),
        (0x7F, Activity::Silent),
    ] {
        let mut packet =
            vec![0x90, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 0xBE, 0xDE, 0, 1, 0x10, level, 0, 0];
        packet.extend([0xFF; 160]);
        assert_eq!(leg.receive(start, peer(), &packet), Received::Audio);
        assert_eq!(leg.upcoming(), expected);
        (leg, _) = open(Codec::Pcmu);
    }
    assert_eq!(leg.upcoming(), Activity::Silent);
}

#[test]
fn our_packets_have_marks_where_talk_starts_and_time_runs_on() {
    for (codec, units) in [(Codec::Opus, 960), (Codec::Pcmu, 160)] {
        let (mut leg, start) = open(codec);
        let mut out = [0; 1_500];
        let mut sent = Vec::new();
        for n in 0..10u32 {
            let now = start + Duration::from_millis(u64::from(n) * 20);
            if (4..7).contains(&n) {
                leg.pause(960);
            } else {
                let len = leg.packetize(now, b"payload", 960, &mut out);
                let packet = ::rtp::packet::Packet::unmarshal(&mut &out[..len]).unwrap();
                assert_eq!(&packet.payload[..], b"payload");
                sent.push((n, packet.header));
            }
        }
        let first = sent[0].1.clone();
        for (place, (n, header)) in sent.iter().enumerate() {
            assert_eq!(header.marker, *n == 0 || *n == 7, "{n}");
            assert_eq!(header.sequence_number, first.sequence_number.wrapping_add(place as u16));
            assert_eq!(header.timestamp, first.timestamp.wrapping_add(n * units));
            assert_eq!(
                (header.ssrc, header.payload_type),
                (leg.ssrc(), leg.send_format().payload_type)
            );
        }
        assert_eq!(leg.packetize(start, &[0; 100], 960, &mut [0; 111]), 0);
        assert_eq!(leg.packetize(start, &[0; 1_489], 960, &mut [0; 2_000]), 0);
        // Another seed, other numbers.
        let other = Leg::new(start, config(codec), "x", 6);
        assert_ne!(leg.ssrc(), other.ssrc());
    }
}

fn report(leg: &Leg, block: ReportBlock, sender: SenderInfo) -> Vec<u8> {
    let mut out = [0; 300];
    let block = ReportBlock { ssrc: leg.ssrc(), ..block };
    let len = rtcp::write(&mut out, 77, Some(sender), Some(block), "peer", false);
    out[..len].to_vec()
}

#[test]
fn reports_come_in_time_and_tell_the_truth() {
    let (mut leg, start) = open(Codec::Opus);
    let rtcp_peer = "192.0.2.7:4001".parse().unwrap();
    let mut out = [0; 1_500];
    let mut reports = Vec::new();
    for (n, (at, packet)) in talk(opus(), tone, 3_000).into_iter().enumerate() {
        let now = start + Duration::from_micros(at);
        if n % 10 != 3 {
            leg.receive(now, peer(), &packet);
        }
        leg.packetize(now, &[0; 50], 960, &mut out);
        leg.tick(now, &mut [0.0; FRAME_SAMPLES]);
        let len = leg.handle_timeout(now, &mut out);
        if len > 0 {
            // An independent reader understands all of it.
            let theirs = ::rtcp::packet::unmarshal(&mut &out[..len]).unwrap();
            assert_eq!(theirs.len(), 2);
            let sr = theirs[0]
                .as_any()
                .downcast_ref::<::rtcp::sender_report::SenderReport>()
                .unwrap()
                .clone();
            let sdes = theirs[1]
                .as_any()
                .downcast_ref::<::rtcp::source_description::SourceDescription>()
                .unwrap();
            assert_eq!(&sdes.chunks[0].items[0].text[..], b"leg@test");
            assert_eq!(u64::from(sr.packet_count), leg.stats().sent);
            assert_eq!(u64::from(sr.octet_count), leg.stats().sent_bytes);
            reports.push((now, sr));
        }
        if let Some((at, sr)) = reports.last().filter(|_| n == 2_000) {
            // The peer answers with an RR 100 ms after it had our SR, which took 15 ms each way.
            let now = *at + Duration::from_millis(130);
            let block = ReportBlock {
                fraction_lost: 64,
                last_sr: (sr.ntp_time >> 16) as u32,
                delay_since_last_sr: 6_554,
                ..ReportBlock::default()
            };
            let bytes = report(&leg, block, SenderInfo { ntp: 7 << 32, ..SenderInfo::default() });
            assert_eq!(leg.receive_rtcp(now, rtcp_peer, &bytes), Received::Rtcp);
            let rtt = leg.stats().rtt.unwrap();
            assert!(rtt.abs_diff(Duration::from_millis(30)) < Duration::from_millis(1), "{rtt:?}");
            assert_eq!(leg.stats().remote_loss, 0.25);
        }
    }
    // 60 s, an interval of 5 s on average (RFC 3550 §6.2).
    assert!((8..=20).contains(&reports.len()), "{}", reports.len());
    let gaps: Vec<_> = reports.windows(2).map(|w| w[1].0 - w[0].0).collect();
    assert!(gaps.iter().all(|gap| (2.0..6.3).contains(&gap.as_secs_f64())), "{gaps:?}");
    for (_, sr) in &reports[1..] {
        assert_eq!(sr.reports[0].ssrc, 77);
        assert!(
            (24..=27).contains(&sr.reports[0].fraction_lost),
            "a tenth: {}",
            sr.reports[0].fraction_lost
        );
    }
    // Time on both clocks of our reports runs alike.
    let (a, b) = (&reports[0].1, &reports[reports.len() - 1].1);
    let seconds = (b.ntp_time - a.ntp_time) as f64 / 4_294_967_296.0;
    let samples = f64::from(b.rtp_time.wrapping_sub(a.rtp_time));
    assert!((samples / 48_000.0 - seconds).abs() < 0.001);
    let last = reports.last().unwrap().1.reports[0].clone();
    assert!(last.last_sender_report == 7 << 16 && last.delay > 0);
}

#[test]
fn a_bye_ends_the_stream_and_not_the_call() {
    let (mut leg, start) = open(Codec::Opus);
    let packets = talk(opus(), tone, 100);
    play(&mut leg, start, &packets[..50]);
    let now = start + Duration::from_secs(1);
    let bye = |ssrc| {
        let mut out = [0; 100];
        let len = rtcp::write(&mut out, ssrc, None, None, "peer", true);
        out[..len].to_vec()
    };
    let stranger = "198.51.100.66:4001".parse().unwrap();
    let known = "192.0.2.7:4001".parse().unwrap();
    assert_eq!(leg.receive_rtcp(now, stranger, &bye(77)), Received::Dropped(DropReason::Source));
    let mut other = packets[50].1.clone();
    other[11] = 78;
    // Neither a stranger's nor one for a stream that we do not know.
    assert_eq!(leg.receive_rtcp(now, known, &bye(55)), Received::Rtcp);
    assert_eq!(leg.receive(now, peer(), &other), Received::Dropped(DropReason::Ssrc));
    // The real one lets another stream in without trial.
    assert_eq!(leg.receive_rtcp(now, known, &bye(77)), Received::Rtcp);
    assert_eq!(leg.receive(now, peer(), &other), Received::Audio);

    let mut out = [0; 300];
    let len = leg.bye(now, &mut out);
    let ours = Compound::parse(&out[..len]).unwrap();
    let last = ours.packets().last().unwrap();
    let Packet::Bye(mut sources) = last else { panic!("{last:?}") };
    assert_eq!(sources.next(), Some(leg.ssrc()));
    assert_eq!(::rtcp::packet::unmarshal(&mut &out[..len]).unwrap().len(), 3);
    assert_eq!(leg.bye(now, &mut [0; 20]), 0);
}

#[test]
fn a_shared_port_carries_both() {
    let start = start();
    let config = LegConfig { rtcp_mux: true, ..config(Codec::Opus) };
    let mut leg = Leg::new(start, config, "leg@test", 5);
    let mut rr = [0; 100];
    let len = rtcp::write(&mut rr, 77, None, None, "peer", false);
    assert!(rtp::is_rtcp(&rr[..len]));
    assert_eq!(leg.receive(start, peer(), &rr[..len]), Received::Rtcp);
    assert_eq!(leg.receive(start, peer(), &talk(opus(), tone, 1)[0].1), Received::Audio);
    assert_eq!(leg.remote_rtcp(start), Some(peer()));
    assert_eq!(leg.last_heard(), Some(start));
}

#[test]
fn our_own_packets_come_back_unheard() {
    let (mut leg, start) = open(Codec::Opus);
    let header =
        Header { marker: true, payload_type: 111, sequence: 1, timestamp: 1, ssrc: leg.ssrc() };
    let packet = [&header.to_bytes()[..], &[8, 1, 2]].concat();
    assert_eq!(leg.receive(start, peer(), &packet), Received::Dropped(DropReason::Ssrc));
}

#[test]
fn a_leg_may_be_given_to_another_thread() {
    fn check<T: Send>() {}
    check::<Leg>();
    check::<cusax_media::codec::Encoder>();
}

fn keys(suite: Suite, seed: u8) -> Keys {
    let key = |seed: u8| (0..suite.master_len()).map(|n| n as u8 ^ seed).collect();
    Keys { suite, ours: key(seed), theirs: key(seed + 100) }
}

/// Nothing goes in or out but under the key, whatever the suite; the stream follows its sender at once.
#[test]
fn a_protected_leg_hears_and_tells_only_who_has_the_key() {
    for suite in Suite::ALL {
        let start = start();
        let agreed = keys(suite, 1);
        let config = LegConfig { srtp: Some(agreed.clone()), ..config(Codec::Pcmu) };
        let mut leg = Leg::new(start, config.clone(), "leg@test", 5);
        let mut theirs = Outgoing::new(suite, &agreed.theirs);
        let mut protect = |packet: &[u8]| {
            let mut buffer = packet.to_vec();
            buffer.resize(packet.len() + 20, 0);
            let len = theirs.protect(&mut buffer, packet.len()).unwrap();
            buffer[..len].to_vec()
        };
        let unlike = Received::Dropped(DropReason::NotAuthentic);
        let talk = talk(EncoderSettings::Pcmu, tone, 40);
        let away = "198.51.100.9:7000".parse().unwrap();
        let mut last = vec![];
        for (n, (at, packet)) in talk.iter().enumerate() {
            let now = start + Duration::from_micros(*at);
            assert_eq!(leg.receive(now, peer(), packet), unlike, "plain RTP");
            last = protect(packet);
            // Half way through the caller walks out of the house.
            let from = if n < 20 { peer() } else { away };
            assert_eq!(leg.receive(now, from, &last), Received::Audio, "{suite:?} {n}");
            assert_eq!(leg.receive(now, away, &last), unlike, "played again");
            assert_eq!(leg.remote(now), Some(from));
        }
        let now = start + Duration::from_secs(1);
        let mut out = [0; 300];
        let mut ours = Incoming::new(suite, &agreed.ours);
        let mut plain = [0; 300];
        let len = leg.packetize(now, b"payload", 960, &mut out);
        assert!(len > 19 && !out.windows(7).any(|bytes| bytes == b"payload"));
        assert_eq!(ours.unprotect(&out[..len], &mut plain), Ok(19));
        assert_eq!(&plain[12..19], b"payload");
        let len = leg.bye(now, &mut out);
        let len = ours.unprotect_rtcp(&out[..len], &mut plain).unwrap();
        assert!(Compound::parse(&plain[..len]).is_ok());
        // Too little room for the tag: nothing goes out.
        assert_eq!(leg.packetize(now, b"payload", 960, &mut out[..30]), 0);

        // A change that keeps the keys goes on where it was; new keys begin anew.
        leg.reconfigure(now, LegConfig { remote: None, ..config.clone() });
        assert_eq!(leg.receive(now, away, &last), unlike, "still played again");
        let changed = keys(suite, 2);
        leg.reconfigure(now, LegConfig { srtp: Some(changed.clone()), ..config.clone() });
        let len = leg.packetize(now, b"payload", 960, &mut out);
        assert!(ours.unprotect(&out[..len], &mut plain).is_err());
        let mut ours = Incoming::new(suite, &changed.ours);
        assert_eq!(ours.unprotect(&out[..len], &mut plain), Ok(19));
    }
}

#[test]
fn junk_costs_a_protected_leg_nothing_but_a_counter() {
    let start = start();
    let agreed = keys(Suite::AesCm128HmacSha1_80, 1);
    let config = LegConfig { srtp: Some(agreed), rtcp_mux: true, ..config(Codec::Pcmu) };
    let mut leg = Leg::new(start, config, "leg@test", 5);
    for n in 0..100_000_u32 {
        let mut packet = [0x80; 60];
        packet[1] = if n % 3 == 0 { 200 } else { 0 };
        packet[2..6].copy_from_slice(&n.to_be_bytes());
        assert_eq!(
            leg.receive(start, peer(), &packet),
            Received::Dropped(DropReason::NotAuthentic)
        );
    }
    let dropped = leg.stats().dropped[DropReason::NotAuthentic as usize];
    assert_eq!((dropped, leg.peer_ssrc(), leg.last_heard()), (100_000, None, None));
}
