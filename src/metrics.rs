//! Every metric's name, help and labels, once. No room and no user is ever a label.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use cusax_sip::message::Message;
use cusax_sip::parse::ParseError;
use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// What the server tells Prometheus.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    definitions: Vec<Definition>,
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
    /// Whether no new calls are taken, because the server is to stop.
    pub draining: IntGauge,
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
    /// Steps by which encodes were made cheaper or dearer.
    pub effort_steps: IntCounterVec,
    /// Calls that the media ports allow.
    pub call_capacity: IntGauge,
    /// Calls, by how well their address was proven and whether the directory ties it to a JID.
    pub bindings: IntGaugeVec,
    /// Wrong passwords and tokens, by where they were given.
    pub auth_failures: IntCounterVec,
    /// Bytes of stanzas that the XMPP server has not read yet.
    pub component_queue: IntGauge,
    /// Changes that wait for the store.
    pub store_unsaved: IntGauge,
    /// Whether the configuration that was read last was refused.
    pub config_refused: IntGauge,
    /// Failures of the store.
    pub store_errors: IntCounter,
    /// Lines of files beside the log that could not be written, by what they record.
    pub records_lost: IntCounterVec,
    /// Faults that were contained, by part.
    pub panics: IntCounterVec,
    /// What the operating system counts for this process.
    pub process: Process,
}

/// What the operating system counts for this process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Seconds of processor time.
    pub cpu: Counter,
    /// Bytes in memory.
    pub resident_memory: IntGauge,
    /// Descriptors in use.
    pub open_fds: IntGauge,
    /// Descriptors that there may be.
    pub max_fds: IntGauge,
    /// Threads.
    pub threads: IntGauge,
    /// When it started, in seconds since 1970.
    pub start_time: Gauge,
}

/// What a metric is: `docs/metrics.md` is made of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// As Prometheus has it.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it tells.
    pub help: String,
    /// What it is told apart by.
    pub labels: Vec<Label>,
}

/// A label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Every value it may have. All are there from the start, so that a rate never misses the first
    /// event. Empty: the values come from a set that others keep small.
    pub values: &'static [&'static str],
}

impl Metrics {
    /// Registers them all.
    pub fn new() -> Self {
        let define = Define::default();
        let metrics = Self {
            rooms: define.gauge("cusax_rooms", "Rooms that exist."),
            people: define.gauges(
                "cusax_people",
                "People in rooms, by how they are present.",
                &[Label { name: "level", values: &["chat", "audio", "both"] }],
            ),
            call_legs: define.gauges(
                "cusax_call_legs",
                "Call legs, by state: heard, on hold, silent for another reason, or not answered yet.",
                &[Label { name: "state", values: &["connected", "held", "muted", "dialling"] }],
            ),
            call_capacity: define
                .gauge("cusax_call_capacity", "Calls that the media ports allow at a time."),
            bindings: define.gauges(
                "cusax_bindings",
                "Call legs, by how the caller's address was proven, and whether the directory ties it to a JID.",
                &[
                    Label { name: "strength", values: &["none", "claimed", "dialled", "asserted", "digest"] },
                    Label { name: "bound", values: &["yes", "no"] },
                ],
            ),
            auth_failures: define.counters(
                "cusax_auth_failures_total",
                "Wrong passwords of callers, and wrong tokens of the admin API and the console.",
                &[Label { name: "interface", values: &["sip", "http"] }],
            ),
            component_up: define
                .gauge("cusax_xmpp_component_up", "Whether the XMPP server takes our stanzas."),
            component_losses: define.counters(
                "cusax_xmpp_component_losses_total",
                "Times the component link was lost or refused.",
                &[Label { name: "reason", values: &LOSSES }],
            ),
            component_queue: define.gauge(
                "cusax_xmpp_queue_bytes",
                "Stanzas that wait for the XMPP server to read them.",
            ),
            stanzas: define.counters(
                "cusax_stanzas_total",
                "Stanzas.",
                &[DIRECTION, Label { name: "kind", values: &["iq", "message", "presence"] }],
            ),
            stanzas_dropped: define.counters(
                "cusax_stanzas_dropped_total",
                "Stanzas that went no further.",
                &[Label { name: "reason", values: &DROPS }],
            ),
            sip_requests: define.counters(
                "cusax_sip_requests_total",
                "SIP requests.",
                &[Label { name: "method", values: &METHODS }, DIRECTION],
            ),
            sip_responses: define.counters(
                "cusax_sip_responses_total",
                "SIP responses sent.",
                &[Label { name: "code", values: &[] }],
            ),
            sip_limited: define.counters(
                "cusax_sip_limited_total",
                "SIP requests turned away: too fast, locked out after wrong passwords, no time to mix.",
                &[Label { name: "reason", values: &["rate", "guesses", "stress"] }],
            ),
            draining: define.gauge(
                "cusax_draining",
                "1 while no new calls are taken, because the server is to stop.",
            ),
            subscriptions: define.gauge("cusax_subscriptions", "Conference subscriptions."),
            mirror: define.histogram(
                "cusax_mirror_seconds",
                "From the chat command to the mixer applying it.",
                &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.25],
            ),
            mirror_divergence: define.gauge(
                "cusax_mirror_divergence",
                "Legs about which room and mixer disagree. Anything but 0 is a fault.",
            ),
            mix_tick: define.histogram(
                "cusax_mix_tick_seconds",
                "Time that one tick of one room's mix took.",
                &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02],
            ),
            mix_late_ticks: define
                .counter("cusax_mix_late_ticks_total", "Ticks that ended after the next was due."),
            effort_steps: define.counters(
                "cusax_encoder_effort_steps_total",
                "Steps by which a busy mixer made encodes cheaper, and later dearer again.",
                &[Label { name: "direction", values: &["down", "up"] }],
            ),
            stress: define
                .float("cusax_stress", "How near the mixer is to being late, 0 to 1."),
            encodes: define.counters(
                "cusax_encodes_total",
                "Encoded frames, by whether listeners share them.",
                &[Label { name: "kind", values: &["shared", "own"] }],
            ),
            forwarded_frames: define
                .counter("cusax_forwarded_frames_total", "Frames sent on as they came."),
            rtp_packets: define.counters("cusax_rtp_packets_total", "RTP packets.", &[DIRECTION]),
            rtp_lost: define.counter("cusax_rtp_lost_total", "RTP packets that never came."),
            rtp_rejected: define.counters(
                "cusax_rtp_rejected_total",
                "RTP packets that were refused: not from the leg's peer, or no RTP that we take.",
                &[Label { name: "reason", values: &["source", "other"] }],
            ),
            concealed_frames: define.counter(
                "cusax_concealed_frames_total",
                "Frames invented because none came in time.",
            ),
            fec_frames: define.counter(
                "cusax_fec_frames_total",
                "Frames rebuilt from the packet that followed.",
            ),
            jitter_buffer: define.histogram(
                "cusax_jitter_buffer_seconds",
                "How long audio waits in jitter buffers.",
                &[0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4],
            ),
            config_refused: define.gauge(
                "cusax_config_refused",
                "1 while the configuration that was read last (SIGHUP) is refused, and the old one in force.",
            ),
            store_unsaved: define
                .gauge("cusax_store_unsaved_changes", "Changes that wait for the store."),
            store_errors: define.counter("cusax_store_errors_total", "Failures of the store."),
            records_lost: define.counters(
                "cusax_records_lost_total",
                "Lines of the audit log that could not be written.",
                &[Label { name: "record", values: &["audit"] }],
            ),
            panics: define.counters(
                "cusax_panics_total",
                "Faults that were contained.",
                &[Label { name: "part", values: &["mix"] }],
            ),
            process: Process {
                cpu: define.seconds("cusax_process_cpu_seconds_total", "Processor time used."),
                resident_memory: define
                    .gauge("cusax_process_resident_memory_bytes", "Memory in use."),
                open_fds: define.gauge("cusax_process_open_fds", "File descriptors in use."),
                max_fds: define.gauge("cusax_process_max_fds", "File descriptors that there may be."),
                threads: define.gauge("cusax_process_threads", "Threads."),
                start_time: define
                    .float("cusax_process_start_time_seconds", "When it started, as seconds since 1970."),
            },
            registry: define.registry.clone(),
            definitions: vec![],
        };
        for code in ["200", "401", "403", "404", "486", "488", "503"] {
            metrics.sip_responses.with_label_values(&[code]);
        }
        let version = Label { name: "version", values: &[] };
        let info = define.gauges("cusax_build_info", "What runs here.", &[version]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self { definitions: define.definitions.take(), ..metrics }
    }

    /// What there is, in the order of the documentation.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// Says when the process started.
    pub fn started(&self, utc: SystemTime) {
        let since = utc.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.process.start_time.set(since.as_secs_f64());
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The methods that have a label of their own: a peer's inventions must not become series.
const METHODS: [&str; 17] = [
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
    "other",
];

/// Why a component link may end, or could not be made.
pub const LOSSES: [&str; 13] = [
    "unreachable",
    "slow",
    "not-authorized",
    "host-unknown",
    "conflict",
    "not-components",
    "stream-error",
    "broken",
    "closed",
    "lost",
    "silent",
    "stalled",
    "shutdown",
];

/// Why a stanza may go no further.
const DROPS: [&str; 6] = ["refused", "congested", "unknown", "unsendable", "overflow", "down"];

const DIRECTION: Label = Label { name: "direction", values: &["in", "out"] };

#[derive(Default)]
struct Define {
    registry: Registry,
    definitions: RefCell<Vec<Definition>>,
}

impl Define {
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register("counter", name, help, &[], IntCounter::new(name, help))
    }

    fn seconds(&self, name: &str, help: &str) -> Counter {
        self.register("counter", name, help, &[], Counter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[Label]) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), &names(labels));
        let counters = self.register("counter", name, help, labels, made);
        start_at_zero(&counters, labels);
        counters
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register("gauge", name, help, &[], IntGauge::new(name, help))
    }

    fn float(&self, name: &str, help: &str) -> Gauge {
        self.register("gauge", name, help, &[], Gauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[Label]) -> IntGaugeVec {
        let made = IntGaugeVec::new(Opts::new(name, help), &names(labels));
        let gauges = self.register("gauge", name, help, labels, made);
        start_at_zero(&gauges, labels);
        gauges
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register("histogram", name, help, &[], Histogram::with_opts(options))
    }

    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        kind: &'static str,
        name: &str,
        help: &str,
        labels: &[Label],
        made: prometheus::Result<C>,
    ) -> C {
        let collector = made.expect("names, labels and buckets above are valid");
        self.registry.register(Box::new(collector.clone())).expect("each name above is there once");
        let (name, help, labels) = (name.to_owned(), help.to_owned(), labels.to_vec());
        self.definitions.borrow_mut().push(Definition { name, kind, help, labels });
        collector
    }
}

fn names(labels: &[Label]) -> Vec<&'static str> {
    labels.iter().map(|label| label.name).collect()
}

/// Shows every combination of the labels' values.
fn start_at_zero<M: MetricVecBuilder>(metrics: &MetricVec<M>, labels: &[Label]) {
    let none = vec![vec![]];
    let all = labels.iter().fold(none, |combinations: Vec<Vec<&str>>, label| {
        let with =
            |value| combinations.iter().map(move |some| [some.as_slice(), &[value]].concat());
        label.values.iter().copied().flat_map(with).collect()
    });
    for values in all {
        metrics.with_label_values(&values);
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

    /// `docs/metrics.md` says what is defined here. `UPDATE_EXPECT=1` writes it.
    #[test]
    fn documentation_lists_every_metric() {
        let mut page = String::from(
            "# Metrics\n\n\
             What `GET /metrics` shows, in base units. No room and no user is a label. Where values are listed, all of\n\
             them are there from the start. Written by a test from `src/metrics.rs`; `docs/runbooks.md` says what to do\n\
             about those that an alert watches.\n\n\
             | name | type | labels | what |\n| --- | --- | --- | --- |\n",
        );
        for Definition { name, kind, help, labels } in Metrics::new().definitions() {
            let labels: Vec<String> = labels
                .iter()
                .map(|Label { name, values }| match values.join("`, `") {
                    values if values.is_empty() => format!("`{name}`"),
                    values => format!("`{name}`: `{values}`"),
                })
                .collect();
            page += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join("; "));
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(file, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), page, "UPDATE_EXPECT=1 writes {file}");
    }
}
