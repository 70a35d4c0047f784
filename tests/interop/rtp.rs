//! The end of the wire: what the mixer sends to a phone, packet by packet, without a phone.

use std::{
    net::UdpSocket,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{recording, wait::monotonic};

/// The sampling rate of G.711.
const RATE: u32 = 8_000;

/// The length of an RTP header without extensions and contributors (RFC 3550 §5.1).
const HEADER: usize = 12;

/// A port to which a call's sound is sent in G.711 μ-law; a scenario of SIPp makes the call.
pub(crate) struct Sink {
    /// The port to name in SDP.
    pub(crate) port: u16,
    packets: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// One RTP packet.
struct Packet {
    at: f64,
    samples: Vec<i16>,
}

impl Sink {
    /// Takes a port and begins to listen. One that `answers` sends a packet of silence for each
    /// that it gets, as a phone does: nobody is sent sound for long whom nothing comes from.
    pub(crate) fn bind(answers: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let port = socket.local_addr().expect("it is bound").port();
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket of ours");
        let packets = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopped) = (Arc::clone(&packets), Arc::clone(&stop));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 2_048];
            let mut sequence = 0;
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, mixer)) = socket.recv_from(&mut buffer) else { continue };
                let at = monotonic();
                if answers {
                    // Loopback takes it, or the mixer is gone: then no more will come.
                    let _ = socket.send_to(&silence(sequence), mixer);
                    sequence = sequence.wrapping_add(1);
                }
                // Version 2, no padding, extension or contributors; payload type 0.
                if length > HEADER && buffer[0] == 0x80 && buffer[1] & 0x7F == 0 {
                    let samples = buffer[HEADER..length].iter().map(|byte| expand(*byte)).collect();
                    kept.lock().expect("no holder panics").push(Packet { at, samples });
                }
            }
        });
        Self { port, packets, stop, reader: Some(reader) }
    }

    /// When the last packet arrived, between two times, that holds a tone of at least this level.
    pub(crate) fn last_heard(&self, hz: f64, dbfs: f64, from: f64, to: f64) -> Option<f64> {
        let packets = self.packets.lock().expect("no holder panics");
        let mut within = packets.iter().rev().filter(|one| one.at > from && one.at <= to);
        let heard = |one: &&Packet| recording::level(&one.samples, hz, RATE) >= dbfs;
        within.find(heard).map(|packet| packet.at)
    }

    /// When the first packet arrived.
    pub(crate) fn first(&self) -> Option<f64> {
        self.packets.lock().expect("no holder panics").first().map(|packet| packet.at)
    }

    /// How many packets arrived between two times.
    pub(crate) fn count(&self, from: f64, to: f64) -> usize {
        let packets = self.packets.lock().expect("no holder panics");
        packets.iter().filter(|packet| packet.at > from && packet.at <= to).count()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It only reads: if it panicked, its packets are missed already.
            let _ = reader.join();
        }
    }
}

/// An RTP packet of 20 ms of silence.
fn silence(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(0x51E2_7CE5_u32.to_be_bytes());
    packet.extend([0xFF; 160]);
    packet
}

/// One sample of G.711 μ-law (ITU-T G.711), from the definition of its segments.
fn expand(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = (((i32::from(byte & 0x0F) << 3) + 132) << ((byte >> 4) & 7)) - 132;
    let signed = if byte & 0x80 == 0 { magnitude } else { -magnitude };
    i16::try_from(signed).expect("14 bits of magnitude")
}

#[test]
fn the_segments_of_mu_law_are_expanded() {
    for (byte, sample) in [(0xFF, 0), (0x7F, 0), (0x80, 32_124), (0x00, -32_124), (0x9F, 8_316)] {
        assert_eq!(expand(byte), sample, "{byte:#x}");
    }
}
