//! Grafana's dashboards as code. `UPDATE_EXPECT=1` writes `grafana/*.json` from the tables at the end;
//! nobody edits those. What they ask of a running server is tried in `tests/interop/cases/dashboards.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cusaxd::metrics::{Definition, Metrics};
use serde_json::{Value, json};

/// A page of panels.
struct Dashboard {
    file: &'static str,
    title: &'static str,
    about: &'static str,
    rows: &'static [Row],
}

/// Panels below a headline, from left to right, wrapped at the edge.
struct Row(&'static str, &'static [Panel]);

struct Panel {
    shape: Shape,
    title: &'static str,
    /// What it shows, and what is good.
    about: &'static str,
    unit: &'static str,
    /// PromQL with `@` for the variables of the page, and the legend.
    queries: &'static [(&'static str, &'static str)],
}

enum Shape {
    /// One number, red from here on.
    Number(Option<f64>),
    /// One number that is red below 1.
    Light,
    /// Lines over time.
    Lines,
    /// Lines that add up.
    Stack,
}

/// What `@` stands for.
const SELECTOR: &str = "job=~\"$job\", instance=~\"$instance\"";
const WIDTH: u64 = 24;

impl Dashboard {
    fn json(&self) -> Value {
        let mut panels: Vec<Value> = vec![];
        let mut y = 0;
        for Row(headline, row) in self.rows {
            panels.push(json!({
                "id": panels.len() + 1, "type": "row", "title": headline, "collapsed": false,
                "gridPos": { "x": 0, "y": y, "w": WIDTH, "h": 1 }, "panels": [],
            }));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in *row {
                let (w, h) = panel.shape.size();
                if x + w > WIDTH {
                    (x, y) = (0, y + height);
                }
                let id = panels.len() + 1;
                panels.push(panel.json(id, json!({ "x": x, "y": y, "w": w, "h": h })));
                (x, height) = (x + w, h);
            }
            y += height;
        }
        json!({
            "uid": format!("cusaxd-{}", self.file),
            "title": format!("cusaxd: {}", self.title),
            "description": self.about,
            "tags": ["cusaxd"],
            "editable": false,
            "graphTooltip": 1,
            "schemaVersion": 38,
            "refresh": "30s",
            "time": { "from": "now-3h", "to": "now" },
            "timezone": "browser",
            "annotations": { "list": [] },
            "links": [{
                "type": "dashboards", "title": "cusaxd", "tags": ["cusaxd"], "asDropdown": true, "icon": "",
                "includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "", "url": "",
            }],
            "templating": { "list": [
                {
                    "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
                    "hide": 0, "includeAll": false, "multi": false, "refresh": 1,
                },
                variable("job", "Job", "label_values(cusax_build_info, job)"),
                variable("instance", "Instance", "label_values(cusax_build_info{job=~\"$job\"}, instance)"),
            ] },
            "panels": panels,
        })
    }
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "type": "query", "name": name, "label": label, "datasource": source(), "query": query,
        "hide": 0, "includeAll": true, "multi": true, "refresh": 2, "sort": 1,
        "current": { "selected": true, "text": "All", "value": "$__all" },
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

impl Shape {
    fn size(&self) -> (u64, u64) {
        match self {
            Self::Number(_) | Self::Light => (4, 4),
            Self::Lines | Self::Stack => (8, 8),
        }
    }
}

impl Panel {
    fn json(&self, id: usize, place: Value) -> Value {
        let targets = self.queries.iter().zip('A'..).map(|((query, legend), name)| {
            json!({
                "refId": name, "datasource": source(), "expr": query.replace('@', SELECTOR),
                "legendFormat": legend, "range": true,
            })
        });
        let steps = |steps: &[(Option<f64>, &str)]| {
            let steps = steps.iter().map(|(from, color)| json!({ "value": from, "color": color }));
            json!({ "mode": "absolute", "steps": steps.collect::<Vec<_>>() })
        };
        let calm = steps(&[(None, "green")]);
        let one = json!({
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto",
            "orientation": "auto",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
        });
        let many = json!({
            "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        });
        let stacking = |mode| {
            let fill = if mode == "normal" { 30 } else { 8 };
            json!({ "fillOpacity": fill, "lineWidth": 1, "showPoints": "never", "stacking": { "mode": mode, "group": "A" } })
        };
        let (kind, thresholds, custom, options) = match self.shape {
            Shape::Number(Some(bad)) => {
                ("stat", steps(&[(None, "green"), (Some(bad), "red")]), None, one)
            }
            Shape::Number(None) => ("stat", calm, None, one),
            Shape::Light => ("stat", steps(&[(None, "red"), (Some(1.0), "green")]), None, one),
            Shape::Lines => ("timeseries", calm, Some(stacking("none")), many),
            Shape::Stack => ("timeseries", calm, Some(stacking("normal")), many),
        };
        let mut defaults = json!({ "unit": self.unit, "min": 0, "thresholds": thresholds });
        if let Some(custom) = custom {
            defaults["custom"] = custom;
        }
        json!({
            "id": id, "type": kind, "title": self.title, "description": self.about, "gridPos": place,
            "datasource": source(), "targets": targets.collect::<Vec<_>>(),
            "fieldConfig": { "defaults": defaults, "overrides": [] }, "options": options,
        })
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

#[test]
fn dashboards_are_what_these_tables_say() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut files = BTreeSet::new();
    for dashboard in DASHBOARDS {
        let file = folder().join(format!("{}.json", dashboard.file));
        let text = format!("{:#}\n", dashboard.json());
        if update {
            fs::write(&file, &text).unwrap();
        }
        let there = fs::read_to_string(&file).unwrap_or_default();
        assert!(there == text, "{}: UPDATE_EXPECT=1 writes it", file.display());
        files.insert(file);
    }
    let there = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let there = there.filter(|path| path.extension().is_some_and(|it| it == "json"));
    assert_eq!(there.collect::<BTreeSet<_>>(), files);
}

#[test]
fn panels_say_what_they_show() {
    let mut titles = BTreeSet::new();
    for dashboard in DASHBOARDS {
        for panel in dashboard.rows.iter().flat_map(|Row(_, panels)| *panels) {
            let title = format!("{}: {}", dashboard.title, panel.title);
            assert!(panel.about.ends_with('.') && panel.about.len() > 20, "{title}: say more");
            assert!(!panel.unit.is_empty() && !panel.queries.is_empty(), "{title}");
            for (query, legend) in panel.queries {
                assert!(query.contains('@'), "{title}: {query} is not of the chosen instances");
                assert_eq!(query.matches("cusax_").count(), query.matches('@').count(), "{query}");
                assert!(!legend.is_empty(), "{title}: {query} has no name");
            }
            assert!(titles.insert(title.clone()), "{title} is there twice");
        }
    }
}

/// Who reads a gauge as a counter, or asks for what nobody counts, sees nothing or nonsense.
#[test]
fn queries_ask_for_metrics_that_exist_and_read_them_as_what_they_are() {
    let metrics = Metrics::new();
    let known: BTreeMap<&str, &Definition> =
        metrics.definitions().iter().map(|it| (it.name.as_str(), it)).collect();
    let queries = DASHBOARDS.iter().flat_map(|dashboard| dashboard.rows);
    let queries = queries.flat_map(|Row(_, panels)| *panels).flat_map(|panel| panel.queries);
    let mut queries: Vec<String> = queries.map(|(query, _)| (*query).to_owned()).collect();
    let alerts = fs::read_to_string(folder().join("alerts.yaml")).unwrap();
    queries.extend(expressions(&alerts));
    let mut used = BTreeSet::new();
    for query in &queries {
        for (at, _) in query.match_indices("cusax_") {
            let end = query[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &query[at..end.map_or(query.len(), |end| at + end)];
            let parts = ["_bucket", "_count", "_sum"];
            let base = parts.iter().find_map(|part| name.strip_suffix(part));
            let histogram = base.and_then(|base| known.get(base));
            let definition = histogram.or_else(|| known.get(name));
            let Some(definition) = definition else { panic!("{name} does not exist: {query}") };
            assert_eq!(histogram.is_some(), definition.kind == "histogram", "{query}");
            let rated = ["rate(", "increase("].iter().any(|it| query[..at].ends_with(it));
            assert_eq!(
                rated,
                definition.kind != "gauge",
                "{name} is a {}: {query}",
                definition.kind
            );
            used.insert(definition.name.as_str());
        }
    }
    // What is not worth a look is not worth counting.
    let unused: Vec<_> = known.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "nobody looks at {unused:?}");
}

/// The `expr` of every rule.
fn expressions(rules: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    let mut inside = false;
    for line in rules.lines() {
        let text = line.trim();
        if let Some(expr) = text.strip_prefix("expr: ") {
            inside = expr == ">-";
            found.push(if inside { String::new() } else { expr.to_owned() });
        } else if inside && !text.starts_with("for: ") && !text.starts_with("labels:") {
            let expr = found.last_mut().unwrap();
            *expr = format!("{expr} {text}");
        } else {
            inside = false;
        }
    }
    found
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let rules = fs::read_to_string(folder().join("alerts.yaml")).unwrap();
    let tests = fs::read_to_string(folder().join("alerts_test.yaml")).unwrap();
    let runbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks.md");
    let runbooks = fs::read_to_string(runbooks).unwrap();
    let of = |text: &str, before: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(before));
        lines.map(str::to_owned).collect()
    };
    let alerts = of(&rules, "- alert: ");
    assert!(alerts.len() > 10 && alerts.len() == expressions(&rules).len(), "{alerts:?}");
    assert_eq!(alerts, of(&runbooks, "## "), "in the same order");
    let anchors: Vec<_> = alerts.iter().map(|alert| alert.to_lowercase()).collect();
    let base = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks.md#");
    assert_eq!(anchors, of(&rules, &format!("runbook_url: {base}")));
    let tested: BTreeSet<_> = of(&tests, "alertname: ").into_iter().collect();
    assert_eq!(tested, alerts.into_iter().collect());
}

// --- What there is to see -------------------------------------------------------------------------

const DASHBOARDS: &[Dashboard] = &[OVERVIEW, MEDIA, SIGNALLING, LINKING];

const OVERVIEW: Dashboard = Dashboard {
    file: "overview",
    title: "overview",
    about: "Whether people can meet: who is here, and whether anything is short.",
    rows: &[
        Row(
            "Now",
            &[
                Panel {
                    shape: Shape::Light,
                    title: "XMPP link",
                    about: "1 while the XMPP server takes our stanzas. Calls go on without it; chat does not.",
                    unit: "none",
                    queries: &[("min(cusax_xmpp_component_up{@})", "up")],
                },
                Panel {
                    shape: Shape::Number(None),
                    title: "Rooms",
                    about: "Rooms that exist, empty ones that persist included.",
                    unit: "none",
                    queries: &[("sum(cusax_rooms{@})", "rooms")],
                },
                Panel {
                    shape: Shape::Number(None),
                    title: "People",
                    about: "People in rooms; who is there by chat and by call counts once.",
                    unit: "none",
                    queries: &[("sum(cusax_people{@})", "people")],
                },
                Panel {
                    shape: Shape::Number(Some(0.9)),
                    title: "Calls of what fits",
                    about: "Calls in relation to what media.ports allows. At 1 the next caller gets 503.",
                    unit: "percentunit",
                    queries: &[("sum(cusax_call_legs{@}) / sum(cusax_call_capacity{@})", "used")],
                },
                Panel {
                    shape: Shape::Number(Some(0.8)),
                    title: "Mixer stress",
                    about: "How near the busiest mixer is to being late; 1 is late, and audible.",
                    unit: "percentunit",
                    queries: &[("max(cusax_stress{@})", "stress")],
                },
                Panel {
                    shape: Shape::Number(Some(1.0)),
                    title: "Divergence",
                    about: "Calls about which room and mixer disagree. Anything but 0 is a fault of the program.",
                    unit: "none",
                    queries: &[("sum(cusax_mirror_divergence{@})", "legs")],
                },
            ],
        ),
        Row(
            "People and calls",
            &[
                Panel {
                    shape: Shape::Stack,
                    title: "People by how they are here",
                    about: "By chat alone, by call alone, by both.",
                    unit: "none",
                    queries: &[("sum by (level) (cusax_people{@})", "{{level}}")],
                },
                Panel {
                    shape: Shape::Stack,
                    title: "Calls by state",
                    about: "Heard, on hold, or silent for another reason.",
                    unit: "none",
                    queries: &[("sum by (state) (cusax_call_legs{@})", "{{state}}")],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Traffic",
                    about: "Stanzas, SIP requests and RTP packets, both ways.",
                    unit: "ops",
                    queries: &[
                        ("sum(rate(cusax_stanzas_total{@}[$__rate_interval]))", "stanzas"),
                        (
                            "sum(rate(cusax_sip_requests_total{@}[$__rate_interval]))",
                            "SIP requests",
                        ),
                        ("sum(rate(cusax_rtp_packets_total{@}[$__rate_interval]))", "RTP packets"),
                    ],
                },
            ],
        ),
        Row(
            "The process",
            &[
                Panel {
                    shape: Shape::Lines,
                    title: "Faults",
                    about: "What should stay at 0: failures of the store, panics that were contained, late ticks.",
                    unit: "ops",
                    queries: &[
                        ("sum(rate(cusax_store_errors_total{@}[$__rate_interval]))", "store"),
                        (
                            "sum by (record) (rate(cusax_records_lost_total{@}[$__rate_interval]))",
                            "{{record}}",
                        ),
                        (
                            "sum by (part) (rate(cusax_panics_total{@}[$__rate_interval]))",
                            "panic: {{part}}",
                        ),
                        (
                            "sum(rate(cusax_mix_late_ticks_total{@}[$__rate_interval]))",
                            "late ticks",
                        ),
                    ],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Changes not stored",
                    about: "Changes that wait for the store. They are lost if the process ends before they are taken.",
                    unit: "none",
                    queries: &[(
                        "sum by (instance) (cusax_store_unsaved_changes{@})",
                        "{{instance}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Configuration refused",
                    about: "1 while the file that SIGHUP had read last is wrong, and the configuration from before in force. The log names the reasons.",
                    unit: "none",
                    queries: &[("max by (instance) (cusax_config_refused{@})", "{{instance}}")],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Draining",
                    about: "1 while no new calls are taken, because the server is to stop when those that are up are over.",
                    unit: "none",
                    queries: &[("max by (instance) (cusax_draining{@})", "{{instance}}")],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Processor",
                    about: "Cores in use, and threads beside.",
                    unit: "none",
                    queries: &[
                        (
                            "sum by (instance) (rate(cusax_process_cpu_seconds_total{@}[$__rate_interval]))",
                            "cores {{instance}}",
                        ),
                        ("sum by (instance) (cusax_process_threads{@})", "threads {{instance}}"),
                    ],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Memory",
                    about: "Memory in use. It grows with rooms and calls, and does not creep.",
                    unit: "bytes",
                    queries: &[(
                        "sum by (instance) (cusax_process_resident_memory_bytes{@})",
                        "{{instance}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "File descriptors",
                    about: "Of those that there may be. A call takes two, and so does a port that rests after one.",
                    unit: "percentunit",
                    queries: &[(
                        "max by (instance) (cusax_process_open_fds{@} / cusax_process_max_fds{@})",
                        "{{instance}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Running since",
                    about: "How long each instance has run, and which version.",
                    unit: "s",
                    queries: &[(
                        "max by (instance, version) ((time() - cusax_process_start_time_seconds{@}) * on (job, instance) group_right () cusax_build_info{@})",
                        "{{instance}} {{version}}",
                    )],
                },
            ],
        ),
    ],
};

const MEDIA: Dashboard = Dashboard {
    file: "media",
    title: "media quality",
    about: "Whether what is said arrives, in time and whole.",
    rows: &[
        Row(
            "The network's part",
            &[
                Panel {
                    shape: Shape::Lines,
                    title: "Packets lost",
                    about: "Share of the callers' packets that never came. Above 5 % people notice, whatever is done about it.",
                    unit: "percentunit",
                    queries: &[(
                        "sum(rate(cusax_rtp_lost_total{@}[$__rate_interval])) / (sum(rate(cusax_rtp_packets_total{@, direction=\"in\"}[$__rate_interval])) + sum(rate(cusax_rtp_lost_total{@}[$__rate_interval])))",
                        "lost",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Frames made up",
                    about: "Frames of 20 ms, for each packet that came, that were rebuilt from the next one (nobody hears that) or invented (above 3 % people do).",
                    unit: "percentunit",
                    queries: &[
                        (
                            "sum(rate(cusax_concealed_frames_total{@}[$__rate_interval])) / sum(rate(cusax_rtp_packets_total{@, direction=\"in\"}[$__rate_interval]))",
                            "invented",
                        ),
                        (
                            "sum(rate(cusax_fec_frames_total{@}[$__rate_interval])) / sum(rate(cusax_rtp_packets_total{@, direction=\"in\"}[$__rate_interval]))",
                            "rebuilt",
                        ),
                    ],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Wait in jitter buffers",
                    about: "How long audio waits so that late packets still count. It follows the network's jitter; above 120 ms conversations stumble.",
                    unit: "s",
                    queries: &[
                        (
                            "histogram_quantile(0.5, sum by (le) (rate(cusax_jitter_buffer_seconds_bucket{@}[$__rate_interval])))",
                            "median",
                        ),
                        (
                            "histogram_quantile(0.95, sum by (le) (rate(cusax_jitter_buffer_seconds_bucket{@}[$__rate_interval])))",
                            "95 %",
                        ),
                        (
                            "histogram_quantile(0.99, sum by (le) (rate(cusax_jitter_buffer_seconds_bucket{@}[$__rate_interval])))",
                            "99 %",
                        ),
                    ],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "RTP packets",
                    about: "A call that speaks is 50 a second each way.",
                    unit: "pps",
                    queries: &[(
                        "sum by (direction) (rate(cusax_rtp_packets_total{@}[$__rate_interval]))",
                        "{{direction}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "RTP packets refused",
                    about: "Not from the call's own phone (source): a lost call, a wrong NAT, or somebody who tries. Other: no RTP that we take.",
                    unit: "pps",
                    queries: &[(
                        "sum by (reason) (rate(cusax_rtp_rejected_total{@}[$__rate_interval]))",
                        "{{reason}}",
                    )],
                },
            ],
        ),
        Row(
            "The mixer's part",
            &[
                Panel {
                    shape: Shape::Lines,
                    title: "Time of a tick",
                    about: "What one room's mix takes of its 20 ms.",
                    unit: "s",
                    queries: &[
                        (
                            "histogram_quantile(0.5, sum by (le) (rate(cusax_mix_tick_seconds_bucket{@}[$__rate_interval])))",
                            "median",
                        ),
                        (
                            "histogram_quantile(0.99, sum by (le) (rate(cusax_mix_tick_seconds_bucket{@}[$__rate_interval])))",
                            "99 %",
                        ),
                    ],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Late ticks",
                    about: "Share of ticks that ended after the next was due. Anything above 0 for long is heard as gaps.",
                    unit: "percentunit",
                    queries: &[(
                        "sum(rate(cusax_mix_late_ticks_total{@}[$__rate_interval])) / sum(rate(cusax_mix_tick_seconds_count{@}[$__rate_interval]))",
                        "late",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Stress",
                    about: "How near each instance is to being late.",
                    unit: "percentunit",
                    queries: &[("max by (instance) (cusax_stress{@})", "{{instance}}")],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Encodes made cheaper",
                    about: "Steps by which a busy mixer encodes with less care (down), and with all of it again (up).",
                    unit: "none",
                    queries: &[(
                        "sum by (direction) (increase(cusax_encoder_effort_steps_total{@}[$__rate_interval]))",
                        "{{direction}}",
                    )],
                },
                Panel {
                    shape: Shape::Stack,
                    title: "Encoded frames",
                    about: "Once for all who only listen (shared), once for each who speaks (own), or not at all (forwarded).",
                    unit: "ops",
                    queries: &[
                        (
                            "sum by (kind) (rate(cusax_encodes_total{@}[$__rate_interval]))",
                            "{{kind}}",
                        ),
                        (
                            "sum(rate(cusax_forwarded_frames_total{@}[$__rate_interval]))",
                            "forwarded",
                        ),
                    ],
                },
            ],
        ),
    ],
};

const SIGNALLING: Dashboard = Dashboard {
    file: "signalling",
    title: "signalling",
    about: "What XMPP servers and phones say, and what they are told.",
    rows: &[
        Row(
            "XMPP",
            &[
                Panel {
                    shape: Shape::Lines,
                    title: "Link",
                    about: "1 while the XMPP server takes our stanzas.",
                    unit: "none",
                    queries: &[("min by (instance) (cusax_xmpp_component_up{@})", "{{instance}}")],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Links lost or refused",
                    about: "By reason; the runbook of CusaxdXmppLinkDown tells what each means.",
                    unit: "ops",
                    queries: &[(
                        "sum by (reason) (rate(cusax_xmpp_component_losses_total{@}[$__rate_interval]))",
                        "{{reason}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Waiting for the server",
                    about: "Stanzas that the XMPP server has not read yet. From 16 MiB on they are dropped.",
                    unit: "bytes",
                    queries: &[("max by (instance) (cusax_xmpp_queue_bytes{@})", "{{instance}}")],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Stanzas",
                    about: "By direction and kind. One message in becomes one out for everyone in the room.",
                    unit: "ops",
                    queries: &[(
                        "sum by (direction, kind) (rate(cusax_stanzas_total{@}[$__rate_interval]))",
                        "{{direction}} {{kind}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Stanzas dropped",
                    about: "By reason. Refused and unknown are the senders' doing; overflow and congested are ours to look at.",
                    unit: "ops",
                    queries: &[(
                        "sum by (reason) (rate(cusax_stanzas_dropped_total{@}[$__rate_interval]))",
                        "{{reason}}",
                    )],
                },
            ],
        ),
        Row(
            "SIP",
            &[
                Panel {
                    shape: Shape::Lines,
                    title: "Requests",
                    about: "By method and direction.",
                    unit: "reqps",
                    queries: &[(
                        "sum by (direction, method) (rate(cusax_sip_requests_total{@, method=~\"INVITE|ACK|BYE|CANCEL|SUBSCRIBE|NOTIFY|OPTIONS\"}[$__rate_interval]))",
                        "{{direction}} {{method}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Requests that are none",
                    about: "What was malformed, dropped, or of a method of its own. Scanners do that.",
                    unit: "reqps",
                    queries: &[(
                        "sum by (method) (rate(cusax_sip_requests_total{@, direction=\"in\", method=~\"malformed|dropped|other\"}[$__rate_interval]))",
                        "{{method}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Responses sent",
                    about: "By status. 401 comes before each call with a password; 486, 403 and 404 are rooms' rules; 5xx are ours.",
                    unit: "reqps",
                    queries: &[(
                        "sum by (code) (rate(cusax_sip_responses_total{@}[$__rate_interval]))",
                        "{{code}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Failures of ours",
                    about: "Share of responses with 5xx and 6xx.",
                    unit: "percentunit",
                    queries: &[(
                        "sum(rate(cusax_sip_responses_total{@, code=~\"[56]..\"}[$__rate_interval])) / sum(rate(cusax_sip_responses_total{@}[$__rate_interval]))",
                        "failed",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Wrong passwords and tokens",
                    about: "By where they were given. A few are people; many are somebody who guesses.",
                    unit: "ops",
                    queries: &[(
                        "sum by (interface) (rate(cusax_auth_failures_total{@}[$__rate_interval]))",
                        "{{interface}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Turned away",
                    about: "Requests that came too fast from one source, tries after too many wrong passwords, calls while the mixer had no time.",
                    unit: "ops",
                    queries: &[(
                        "sum by (reason) (rate(cusax_sip_limited_total{@}[$__rate_interval]))",
                        "{{reason}}",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Subscriptions",
                    about: "Clients that watch a conference (RFC 4575). There may be 10,000.",
                    unit: "none",
                    queries: &[("sum by (instance) (cusax_subscriptions{@})", "{{instance}}")],
                },
            ],
        ),
    ],
};

const LINKING: Dashboard = Dashboard {
    file: "linking",
    title: "linking",
    about: "Whether chat and call are one room, and one person is one person.",
    rows: &[
        Row(
            "People",
            &[
                Panel {
                    shape: Shape::Lines,
                    title: "Callers who are in the chat too",
                    about: "Share of the people on a call whose chat is in the room as well (RFC 7081).",
                    unit: "percentunit",
                    queries: &[(
                        "sum(cusax_people{@, level=\"both\"}) / sum(cusax_people{@, level=~\"audio|both\"})",
                        "both",
                    )],
                },
                Panel {
                    shape: Shape::Stack,
                    title: "Calls by proof of who calls",
                    about: "A password (digest), a trusted proxy's word (asserted), the caller's own (claimed), or nothing.",
                    unit: "none",
                    queries: &[("sum by (strength) (cusax_bindings{@})", "{{strength}}")],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Calls that the directory knows",
                    about: "Share of the calls whose address the directory ties to a JID. The others are occupants of their own.",
                    unit: "percentunit",
                    queries: &[(
                        "sum(cusax_bindings{@, bound=\"yes\"}) / sum(cusax_bindings{@})",
                        "bound",
                    )],
                },
            ],
        ),
        Row(
            "One room",
            &[
                Panel {
                    shape: Shape::Lines,
                    title: "From a word in chat to silence on the phone",
                    about: "From a chat command to the mixer applying it. A tick is 20 ms; above 100 ms somebody who was muted is still heard.",
                    unit: "s",
                    queries: &[
                        (
                            "histogram_quantile(0.5, sum by (le) (rate(cusax_mirror_seconds_bucket{@}[$__rate_interval])))",
                            "median",
                        ),
                        (
                            "histogram_quantile(0.99, sum by (le) (rate(cusax_mirror_seconds_bucket{@}[$__rate_interval])))",
                            "99 %",
                        ),
                    ],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Commands mirrored",
                    about: "How often chat changed who may be heard.",
                    unit: "ops",
                    queries: &[(
                        "sum(rate(cusax_mirror_seconds_count{@}[$__rate_interval]))",
                        "commands",
                    )],
                },
                Panel {
                    shape: Shape::Lines,
                    title: "Disagreement",
                    about: "Calls about which room and mixer disagree. Anything but 0 is a fault of the program: please report it.",
                    unit: "none",
                    queries: &[("sum by (instance) (cusax_mirror_divergence{@})", "{{instance}}")],
                },
            ],
        ),
    ],
};
