//! Prometheus 2.42, as `conf/prometheus.yml` sets it up, and its `promtool`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    http,
    process::{Process, command},
    site::{Ports, Site, installed},
    wait::{PATIENCE, until},
};

/// A Prometheus that scrapes a site's `cusaxd` every second.
pub(crate) struct Prometheus {
    _process: Process,
    port: u16,
}

impl Prometheus {
    /// Starts it, and waits until it has seen the server.
    pub(crate) fn start(site: &Site) -> Self {
        let config = include_str!("../../conf/prometheus.yml")
            .replace("127.0.0.1:8088", &format!("127.0.0.1:{}", site.ports.http))
            .replace("../grafana", grafana().to_str().expect("the path is UTF-8"))
            .replace("interval: 15s", "interval: 1s");
        let file = site.dir.join("prometheus.yml");
        fs::write(&file, config).expect("a file of ours");
        let port = Ports::any();
        let mut line = command("prometheus");
        line.arg(format!("--config.file={}", file.display()));
        line.arg(format!("--storage.tsdb.path={}", site.dir.join("prometheus").display()));
        line.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let log = site.dir.join("prometheus.log");
        let prometheus =
            Self { _process: Process::start("prometheus", &mut line, &log, false), port };
        until("prometheus has seen cusaxd", PATIENCE, || {
            let answer = prometheus.get("/api/v1/query?query=cusax_build_info").ok()?;
            (!answer["data"]["result"].as_array()?.is_empty()).then_some(())
        });
        prometheus
    }

    /// The numbers that a query gives now.
    pub(crate) fn query(&self, expr: &str) -> Vec<f64> {
        let escaped: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={escaped}"));
        let answer = answer.unwrap_or_else(|why| panic!("{expr}: {why}"));
        let found = answer["data"]["result"].as_array().expect("a vector").iter();
        let number = |sample: &Value| sample["value"][1].as_str()?.parse().ok();
        found.map(|sample| number(sample).expect("a number as text")).collect()
    }

    /// The rules that it has loaded: name, expression, whether they can be evaluated, and their state.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules").expect("prometheus knows its rules");
        answer["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default()
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let answer = http::get(self.port, path, None).map_err(|why| why.to_string())?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.body) }
    }
}

/// Runs `promtool` with these arguments and this input; it has to be content.
pub(crate) fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(grafana())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let done = child.wait_with_output().expect("it is our child");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "promtool {arguments:?}: {said}");
}

/// Whether they can be had.
pub(crate) fn there() -> Option<()> {
    installed(&["prometheus", "promtool"])
}

/// Where dashboards and rules are.
pub(crate) fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}
