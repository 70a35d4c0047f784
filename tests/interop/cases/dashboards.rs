//! What operators watch: every panel and every rule has something to show while people meet.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    baresip::Options,
    peer::{program, python},
    prometheus::{Prometheus, grafana, promtool, there},
    site::{Plan, Site, password},
    wait::{PATIENCE, pause, until},
};

/// `(where, query)` of every panel.
fn panels() -> Vec<(String, String)> {
    let mut found = vec![];
    for entry in fs::read_dir(grafana()).expect("it is in the repository") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let page = fs::read_to_string(&path).expect("it can be read");
        let page: Value = serde_json::from_str(&page).expect("it is JSON");
        for panel in page["panels"].as_array().expect("a list") {
            let place = format!("{}: {}", page["title"], panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                found.push((place.clone(), target["expr"].as_str().expect("text").to_owned()));
            }
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

#[test]
fn every_panel_and_every_rule_sees_a_running_room() {
    let Some(()) = there() else { return };
    let plan = Plan { auth: "digest", ..Plan::default() };
    let test = "every_panel_and_every_rule_sees_a_running_room";
    let Some(site) = Site::start_as(test, plan) else { return };
    for user in ["carol", "dave"] {
        site.cusaxd.enroll(user, &format!("sip:{user}@conf.test"), &password(user));
    }
    let prometheus = Prometheus::start(&site);
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let mark = alice.mark();
    let digest = |user: &str| {
        site.caller_as(user, Options { password: Some(password(user)), ..Options::default() })
    };
    let (carol, dave) = (digest("carol"), digest("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    let nicks = alice.sees_callers(mark, 2);
    // Long enough for rates: some scrapes, with commands from chat among them.
    for _ in 0..4 {
        alice.role("lounge", &nicks[0], "visitor");
        pause(Duration::from_secs(1));
        alice.role("lounge", &nicks[0], "participant");
        pause(Duration::from_secs(1));
    }

    let known = |expr: &str| {
        expr.replace("$__rate_interval", "10s").replace("$job", "cusaxd").replace("$instance", ".*")
    };
    let mut silent = vec![];
    let mut look = |place: &str, expr: &str| {
        assert!(!expr.contains('$'), "{place}: {expr}");
        let found = prometheus.query(expr);
        println!("{place}: {found:?}");
        if !found.iter().any(|value| value.is_finite()) {
            silent.push(format!("{place}: {expr}: {found:?}"));
        }
    };
    for (place, expr) in panels() {
        look(&place, &known(&expr));
    }
    let rules = until("all rules are evaluated", PATIENCE, || {
        let rules = prometheus.rules();
        let done = rules.iter().all(|rule| rule["health"] != "unknown");
        (!rules.is_empty() && done).then_some(rules)
    });
    assert!(rules.len() > 10, "{rules:?}");
    for rule in &rules {
        let (name, expr) = (rule["name"].to_string(), rule["query"].as_str().expect("text"));
        assert_eq!(rule["health"], "ok", "{rule}");
        // What a rule compares has to be there; that it does not hold is why nobody is woken up.
        let compared = [" > ", " == "].iter().find_map(|sign| expr.rsplit_once(sign));
        let (compared, _) = compared.unwrap_or_else(|| panic!("{name} compares nothing: {expr}"));
        look(&name, compared);
    }
    assert!(silent.is_empty(), "{silent:#?}");
    let firing: Vec<&Value> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
    assert!(firing.is_empty(), "{firing:#?}");

    // Not only something: what is known to be so.
    let one = |expr: &str| prometheus.query(expr)[0];
    assert_eq!(one("sum(cusax_bindings{strength=\"digest\",bound=\"yes\"})"), 2.0);
    assert_eq!(one("cusax_call_capacity"), 20.0);
    assert_eq!(one("sum(cusax_people)"), 3.0);
    assert!(one("rate(cusax_mirror_seconds_count[10s])") > 0.1);
    assert!(one("cusax_process_resident_memory_bytes") > 1e6);

    // And the names are such as Prometheus' own linter likes.
    promtool(&["check", "metrics"], &site.cusaxd.get("/metrics").body);
}

#[test]
fn rules_fire_when_they_should() {
    let Some(()) = there() else { return };
    promtool(&["check", "rules", "alerts.yaml"], "");
    promtool(&["test", "rules", "alerts_test.yaml"], "");
    promtool(&["check", "config", "../conf/prometheus.yml"], "");
}

/// Read into Grafana's own types and written again, nothing is lost: no key is misspelt.
#[test]
fn dashboards_are_what_grafana_reads() {
    let Some(()) = there() else { return };
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(grafana()).expect("it is in the repository") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|it| it == "json") {
            seen.insert(path);
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    let mut reader = Command::new(python());
    let done = reader.arg(program("grafana.py")).args(&seen).output().expect("python runs");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{said}");

    // The check itself: a misspelt key is found.
    let page = fs::read_to_string(seen.first().expect("four")).expect("it can be read");
    let wrong = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("misspelt.json");
    fs::write(&wrong, page.replace("\"legendFormat\"", "\"legendFromat\"")).expect("ours");
    let done = Command::new(python()).arg(program("grafana.py")).arg(&wrong).output();
    let done = done.expect("python runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && said.contains("legendFromat"), "{said}");
}
