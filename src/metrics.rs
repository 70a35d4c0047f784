//! Every metric's name, help and labels, once. No room and no user is ever a label.

use cusax_sip::message::Message;
use cusax_sip::parse::ParseError;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// What the server tells Prometheus.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Rooms that exist.
    pub rooms: IntGauge,
    /// People in rooms, by how they are present.
    pub people: IntGaugeVec,
    /// Call legs, by state.
    pub call_legs: IntGaugeVec,
    /// Whether the XMPP server takes our stanzas.
    pub component_up: IntGauge,
    /// Stanzas, by direction and kind.
    pub stanzas: IntCounterVec,
    /// Stanzas that went no further, by reason.
    pub stanzas_dropped: IntCounterVec,
    /// Times the component link was lost, by reason.
    pub component_losses: IntCounterVec,
    /// SIP requests, by method and direction.
    pub sip_requests: IntCounterVec,
    /// SIP responses sent, by status code.
    pub sip_responses: IntCounterVec,
    /// SIP requests that were turned away to protect the rest, by reason.
    pub sip_limited: IntCounterVec,
    /// Conference subscriptions.
    pub subscriptions: IntGauge,
    /// From the chat command to the mixer applying it.
    pub mirror: Histogram,
    /// Legs about which room and mixer disagree; anything but 0 is a fault.
    pub mirror_divergence: IntGauge,
    /// Time that one tick of one room's mix took.
    pub mix_tick: Histogram,
    /// Ticks that ended after the next was due.
    pub mix_late_ticks: IntCounter,
    /// Encoded frames, by whether listeners share them.
    pub encodes: IntCounterVec,
    /// Frames sent on as they came.
    pub forwarded_frames: IntCounter,
    /// RTP packets, by direction.
    pub rtp_packets: IntCounterVec,
    /// RTP packets that never came.
    pub rtp_lost: IntCounter,
    /// RTP packets that were refused, by reason.
    pub rtp_rejected: IntCounterVec,
    /// Frames invented because none came in time.
    pub concealed_frames: IntCounter,
    /// Frames rebuilt from the next packet (RFC 6716 §2.1.7).
    pub fec_frames: IntCounter,
    /// How long audio waits in jitter buffers.
    pub jitter_buffer: Histogram,
    /// How near the mixer is to being late.
    pub stress: Gauge,
    /// Failures of the store.
    pub store_errors: IntCounter,
    /// Faults that were contained, by part.
    pub panics: IntCounterVec,
}

impl Metrics {
    /// Registers them all.
    pub fn new() -> Self {
        let registry = Registry::new();
        let define = Define { registry: &registry };
        let metrics = Self {
            rooms: define.gauge("rooms", "Rooms that exist."),
            people: define.gauges(
                "people",
                "People in rooms, by how they are present.",
                &["level"],
            ),
            call_legs: define.gauges("call_legs", "Call legs, by state.", &["state"]),
            component_up: define
                .gauge("xmpp_component_up", "Whether the XMPP server takes our stanzas."),
            stanzas: define.counters("stanzas_total", "Stanzas.", &["direction", "kind"]),
            stanzas_dropped: define.counters(
                "stanzas_dropped_total",
                "Stanzas that went no further.",
                &["reason"],
            ),
            component_losses: define.counters(
                "xmpp_component_losses_total",
                "Times the component link was lost or refused.",
                &["reason"],
            ),
            sip_requests: define.counters(
                "sip_requests_total",
                "SIP requests.",
                &["method", "direction"],
            ),
            sip_responses: define.counters("sip_responses_total", "SIP responses sent.", &["code"]),
            sip_limited: define.counters(
                "sip_limited_total",
                "SIP requests turned away: too fast, locked out after wrong passwords, no time to mix.",
                &["reason"],
            ),
            subscriptions: define.gauge("subscriptions", "Conference subscriptions."),
            mirror: define.histogram(
                "mirror_seconds",
                "From the chat command to the mixer applying it.",
                &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.25],
            ),
            mirror_divergence: define
                .gauge("mirror_divergence", "Legs about which room and mixer disagree."),
            mix_tick: define.histogram(
                "mix_tick_seconds",
                "Time that one tick of one room's mix took.",
                &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02],
            ),
            mix_late_ticks: define
                .counter("mix_late_ticks_total", "Ticks that ended after the next was due."),
            encodes: define.counters("encodes_total", "Encoded frames.", &["kind"]),
            forwarded_frames: define
                .counter("forwarded_frames_total", "Frames sent on as they came."),
            rtp_packets: define.counters("rtp_packets_total", "RTP packets.", &["direction"]),
            rtp_lost: define.counter("rtp_lost_total", "RTP packets that never came."),
            rtp_rejected: define.counters(
                "rtp_rejected_total",
                "RTP packets that were refused.",
                &["reason"],
            ),
            concealed_frames: define
                .counter("concealed_frames_total", "Frames invented because none came in time."),
            fec_frames: define
                .counter("fec_frames_total", "Frames rebuilt from the packet that followed."),
            jitter_buffer: define.histogram(
                "jitter_buffer_seconds",
                "How long audio waits in jitter buffers.",
                &[0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4],
            ),
            stress: define.register(Gauge::new(
                "cusax_stress",
                "How near the mixer is to being late, 0 to 1.",
            )),
            store_errors: define.counter("store_errors_total", "Failures of the store."),
            panics: define.counters("panics_total", "Faults that were contained.", &["part"]),
            registry: registry.clone(),
        };
        let info = define.gauges("build_info", "What runs here.", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.start_at_zero();
        metrics
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = vec![];
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("metrics were checked when they were registered");
        String::from_utf8(text).expect("the text format is UTF-8")
    }

    /// Counts a request that arrived, or what should have been one.
    pub fn count_request(&self, message: Result<&Message, &ParseError>) {
        let method = match message {
            Ok(Message::Request(request)) => request.method.as_str(),
            Ok(Message::Response(_)) => return,
            Err(ParseError::Rejected(_)) => "malformed",
            Err(ParseError::Dropped(_)) => "dropped",
        };
        let known = METHODS.iter().find(|known| **known == method).unwrap_or(&"other");
        self.sip_requests.with_label_values(&[known, &"in"]).inc();
    }

    /// Counts a message that was sent, by its first line.
    pub fn count_sent(&self, bytes: &[u8]) {
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut words =
            line.split(|byte| *byte == b' ').filter_map(|it| std::str::from_utf8(it).ok());
        match (words.next(), words.next()) {
            (Some("SIP/2.0"), Some(code)) => self.sip_responses.with_label_values(&[code]).inc(),
            (Some(method), _) => {
                let known = METHODS.iter().find(|known| **known == method).unwrap_or(&"other");
                self.sip_requests.with_label_values(&[known, &"out"]).inc();
            }
            (None, _) => {}
        }
    }

    /// Brings a counter up to a total that is counted elsewhere.
    pub fn catch_up(counter: &IntCounter, total: u64) {
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// Shows every known label from the start, so that a rate never misses the first event.
    fn start_at_zero(&self) {
        for level in ["chat", "audio", "both"] {
            self.people.with_label_values(&[level]).set(0);
        }
        for state in ["connected", "held", "muted"] {
            self.call_legs.with_label_values(&[state]).set(0);
        }
        for direction in ["in", "out"] {
            for kind in ["iq", "message", "presence"] {
                self.stanzas.with_label_values(&[direction, kind]);
            }
            self.rtp_packets.with_label_values(&[direction]);
            for method in METHODS {
                self.sip_requests.with_label_values(&[method, direction]);
            }
        }
        for code in ["200", "401", "403", "404", "486", "488", "503"] {
            self.sip_responses.with_label_values(&[code]);
        }
        for reason in ["rate", "guesses", "stress"] {
            self.sip_limited.with_label_values(&[reason]);
        }
        for kind in ["shared", "own"] {
            self.encodes.with_label_values(&[kind]);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The methods that have a label of their own: a peer's inventions must not become series.
const METHODS: [&str; 16] = [
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
    "malformed",
    "dropped",
];

struct Define<'a> {
    registry: &'a Registry,
}

impl Define<'_> {
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(format!("cusax_{name}"), help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(format!("cusax_{name}"), help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(format!("cusax_{name}"), help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(format!("cusax_{name}"), help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(format!("cusax_{name}"), help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options))
    }

    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> C {
        let collector = made.expect("names, labels and buckets above are valid");
        self.registry.register(Box::new(collector.clone())).expect("each name above is there once");
        collector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that `/metrics` promises to others.
    #[test]
    fn shows_what_was_promised_from_the_start() {
        let text = Metrics::new().text();
        for name in [
            "cusax_rooms 0",
            "cusax_people{level=\"both\"} 0",
            "cusax_call_legs{state=\"connected\"} 0",
            "cusax_xmpp_component_up 0",
            "cusax_stanzas_total{direction=\"in\",kind=\"iq\"} 0",
            "cusax_sip_requests_total{direction=\"in\",method=\"INVITE\"} 0",
            "cusax_sip_responses_total{code=\"200\"} 0",
            "cusax_subscriptions 0",
            "cusax_mirror_seconds_count 0",
            "cusax_mirror_divergence 0",
            "cusax_mix_tick_seconds_count 0",
            "cusax_mix_late_ticks_total 0",
            "cusax_encodes_total{kind=\"shared\"} 0",
            "cusax_forwarded_frames_total 0",
            "cusax_rtp_packets_total{direction=\"out\"} 0",
            "cusax_rtp_lost_total 0",
            "cusax_concealed_frames_total 0",
            "cusax_fec_frames_total 0",
            "cusax_jitter_buffer_seconds_count 0",
            "cusax_stress 0",
            "cusax_build_info{version=",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
        }
    }
}
