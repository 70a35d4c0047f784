//! What changes when the configuration is read again: which options are taken live, and which wait for
//! a restart.

use std::fmt;

use serde_json::{Map, Value};

use crate::config::Config;

/// When a changed option counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// As soon as it is read. Nobody is thrown out by it who is no longer admitted: limits and rules
    /// hold for what comes from then on.
    Live,
    /// With the next start.
    Restart,
}

/// One option that is not as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its key, as in `sip.listen`.
    pub key: String,
    /// What it was: JSON, or what stands for a secret.
    pub old: Shown,
    /// What the file says.
    pub new: Shown,
    /// When that counts.
    pub takes: Takes,
}

/// A value that may be logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown(Option<Value>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Value::Null) => f.write_str("none"),
            Some(value) => value.fmt(f),
            None => f.write_str("(secret)"),
        }
    }
}

/// Finds what differs, in the order of the keys.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (sections(old), sections(new));
    let mut changes = vec![];
    for (section, options) in &new {
        for (name, value) in options.as_object().into_iter().flatten() {
            let before = &old[section][name];
            if before != value {
                let key = format!("{section}.{name}");
                let takes = takes(&key);
                let shown = |value| Shown::of(&key, value);
                let (old, new) = (shown(before), shown(value));
                changes.push(Change { key, old, new, takes });
            }
        }
    }
    changes
}

/// The configuration that is in force after `new` was read: its live options, and for the rest those of
/// `old`.
pub fn adopt(old: &Config, new: &Config) -> Config {
    let (mut adopted, new) = (sections(old), sections(new));
    for (section, options) in &mut adopted {
        for (name, value) in options.as_object_mut().into_iter().flatten() {
            if takes(&format!("{section}.{name}")) == Takes::Live {
                *value = new[section][name].clone();
            }
        }
    }
    serde_json::from_value(Value::Object(adopted)).expect("each option was read from such a value")
}

impl Shown {
    /// What stands for a secret.
    pub const fn secret() -> Self {
        Self(None)
    }

    /// A value of an option, unless that is a secret.
    fn of(key: &str, value: &Value) -> Self {
        Self((!SECRETS.contains(&key) || value.is_null()).then(|| value.clone()))
    }
}

fn takes(key: &str) -> Takes {
    let found = OPTIONS.iter().find(|(known, _)| *known == key);
    // The table is complete, as a test says; what is not in it cannot be changed while it runs.
    found.map_or(Takes::Restart, |(_, takes)| *takes)
}

fn sections(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(sections)) => sections,
        Ok(_) | Err(_) => unreachable!("a configuration is a table of tables of plain values"),
    }
}

/// Every option. `conf/cusaxd.toml` says the same of each.
pub const OPTIONS: &[(&str, Takes)] = &[
    ("xmpp.domain", Takes::Restart),
    ("xmpp.server", Takes::Restart),
    ("xmpp.secret", Takes::Restart),
    ("xmpp.secret_file", Takes::Restart),
    ("xmpp.admins", Takes::Live),
    ("xmpp.create_rooms", Takes::Live),
    ("xmpp.max_rooms", Takes::Live),
    ("xmpp.max_rooms_of_one", Takes::Live),
    ("xmpp.max_people", Takes::Live),
    ("xmpp.crowd", Takes::Live),
    ("xmpp.archive_days", Takes::Live),
    ("xmpp.max_messages_of_one", Takes::Live),
    ("xmpp.max_message_burst_of_one", Takes::Live),
    ("xmpp.max_presences_of_one", Takes::Live),
    ("xmpp.max_presence_burst_of_one", Takes::Live),
    ("xmpp.max_joins", Takes::Live),
    ("xmpp.max_join_burst", Takes::Live),
    ("xmpp.uri_fields", Takes::Live),
    ("xmpp.jitsi_conference", Takes::Live),
    ("sip.domain", Takes::Restart),
    ("sip.listen", Takes::Restart),
    ("sip.tls_certificate", Takes::Restart),
    ("sip.tls_key", Takes::Restart),
    ("sip.tls_client_ca", Takes::Restart),
    ("sip.trusted_proxies", Takes::Live),
    ("sip.trusted_domains", Takes::Restart),
    ("sip.auth", Takes::Live),
    ("sip.identity_floor", Takes::Live),
    ("sip.max_requests_of_one", Takes::Live),
    ("sip.max_burst_of_one", Takes::Live),
    ("sip.max_wrong_passwords", Takes::Live),
    ("sip.session_expires", Takes::Live),
    ("sip.factory", Takes::Live),
    ("sip.factory_answer", Takes::Live),
    ("sip.dial_allow", Takes::Live),
    ("sip.max_dials", Takes::Live),
    ("sip.outbound_proxy", Takes::Live),
    ("sip.outbound_user", Takes::Live),
    ("sip.outbound_password", Takes::Live),
    ("sip.outbound_password_file", Takes::Live),
    ("sip.outbound_realm", Takes::Live),
    ("media.address", Takes::Restart),
    ("media.ports", Takes::Restart),
    ("media.workers", Takes::Restart),
    ("media.voices", Takes::Restart),
    ("media.max_stress", Takes::Live),
    ("media.prompts", Takes::Live),
    ("media.tones_up_to", Takes::Live),
    ("keypad.mute", Takes::Live),
    ("keypad.hand", Takes::Live),
    ("keypad.count", Takes::Live),
    ("keypad.louder", Takes::Live),
    ("keypad.softer", Takes::Live),
    ("keypad.speak_louder", Takes::Live),
    ("keypad.speak_softer", Takes::Live),
    ("keypad.lock", Takes::Live),
    ("keypad.mute_all", Takes::Live),
    ("store.url", Takes::Restart),
    ("http.listen", Takes::Restart),
    ("http.token", Takes::Live),
    ("http.token_file", Takes::Live),
    ("http.read_token", Takes::Live),
    ("http.read_token_file", Takes::Live),
    ("provision.enabled", Takes::Live),
    ("provision.proxies", Takes::Live),
    ("provision.xmpp_server", Takes::Live),
    ("provision.sip_proxy", Takes::Live),
    ("provision.sip_transports", Takes::Live),
    ("provision.one_password", Takes::Live),
    ("provision.xmpp_calls", Takes::Live),
    ("provision.sip_chat", Takes::Live),
    ("provision.sip_presence", Takes::Live),
    ("provision.refresh_hours", Takes::Live),
    ("run.drain_seconds", Takes::Live),
    ("log.level", Takes::Live),
    ("log.format", Takes::Restart),
    ("log.audit_file", Takes::Live),
];
/// Options whose values are in no log.
const SECRETS: [&str; 5] =
    ["xmpp.secret", "sip.outbound_password", "store.url", "http.token", "http.read_token"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(more: &Value) -> Config {
        let mut all = json!({
            "xmpp": { "domain": "rooms.example.org", "secret": "s" },
            "sip": { "domain": "conf.example.org" },
        });
        for (section, options) in more.as_object().unwrap() {
            for (key, value) in options.as_object().unwrap() {
                all[section][key] = value.clone();
            }
        }
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn every_option_is_in_the_table_once() {
        let all: Vec<String> = sections(&config(&json!({})))
            .iter()
            .flat_map(|(section, options)| {
                let names = options.as_object().unwrap().keys();
                names.map(|name| format!("{section}.{name}")).collect::<Vec<_>>()
            })
            .collect();
        let mut known: Vec<_> = OPTIONS.iter().map(|(key, _)| (*key).to_owned()).collect();
        known.sort();
        assert_eq!(known, all);
    }

    /// Every option, changed alone: it is named with both values, and it is in force or it is not.
    #[test]
    fn each_option_is_taken_live_or_waits_for_a_restart() {
        let changed = json!({
            "xmpp": {
                "domain": "b.example.org", "server": "127.0.0.1:1", "secret": "other", "secret_file": "f",
                "admins": ["a@example.org"], "create_rooms": "admins", "max_rooms": 1,
                "max_rooms_of_one": 1, "max_people": 1, "crowd": 1, "archive_days": 1, "uri_fields": ["x"],
                "max_messages_of_one": 1, "max_message_burst_of_one": 1, "max_presences_of_one": 2,
                "max_presence_burst_of_one": 1, "max_joins": 1, "max_join_burst": 1,
                "jitsi_conference": true,
            },
            "sip": {
                "domain": "b", "listen": ["udp:127.0.0.1:1"], "trusted_proxies": ["10.0.0.0/8"],
                "tls_certificate": "c", "tls_key": "k", "tls_client_ca": "a",
                "trusted_domains": ["example.com"], "auth": "open", "max_requests_of_one": 1, "max_burst_of_one": 1, "identity_floor": "digest",
                "max_wrong_passwords": 1, "session_expires": 90, "factory": "m", "factory_answer": "redirect",
                "dial_allow": ["+49"], "max_dials": 1,
                "outbound_proxy": "sip:192.0.2.1", "outbound_user": "u", "outbound_password": "p",
                "outbound_password_file": "f", "outbound_realm": "r",
            },
            "media": { "address": "127.0.0.2", "ports": "40000-40001", "workers": 1, "voices": 9, "max_stress": 0.5, "prompts": "none", "tones_up_to": 0 },
            "keypad": {
                "mute": "1", "hand": "2", "count": "3", "louder": "4", "softer": "5",
                "speak_louder": "6", "speak_softer": "7", "lock": "8", "mute_all": "",
            },
            "store": { "url": "sqlite:x" },
            "http": {
                "listen": "127.0.0.1:1", "token": "t", "token_file": "f", "read_token": "r",
                "read_token_file": "f",
            },
            "provision": {
                "enabled": false, "proxies": ["10.0.0.0/8"], "xmpp_server": "x", "sip_proxy": "y:1",
                "sip_transports": ["tls"], "one_password": true, "xmpp_calls": true, "sip_chat": true,
                "sip_presence": true, "refresh_hours": 1,
            },
            "run": { "drain_seconds": 1 },
            "log": { "level": "debug", "format": "json", "audit_file": "f" },
        });
        let old = config(&json!({}));
        for (key, takes) in OPTIONS.iter().copied() {
            let (section, name) = key.split_once('.').unwrap();
            let new = config(&json!({ section: { name: changed[section][name] } }));
            let changes = changes(&old, &new);
            let [Change { key: named, takes: said, old: was, new: is }] = &changes[..] else {
                panic!("{key}: {changes:?}");
            };
            assert_eq!((named.as_str(), *said), (key, takes));
            assert_ne!(was.to_string(), "", "{key}");
            if SECRETS.contains(&key) {
                assert_eq!(is.to_string(), "(secret)", "{key}");
            } else {
                assert_eq!(is.to_string(), changed[section][name].to_string(), "{key}");
            }
            let after = super::changes(&adopt(&old, &new), &new);
            assert_eq!(after.is_empty(), takes == Takes::Live, "{key}: {after:?}");
            assert!(
                super::changes(&adopt(&old, &new), &old).is_empty() == (takes == Takes::Restart)
            );
        }
        assert!(changes(&old, &old.clone()).is_empty());
    }

    #[test]
    fn no_secret_is_shown() {
        let (old, new) = (config(&json!({ "http": { "token": "old" } })), config(&json!({})));
        let [change] = &changes(&old, &new)[..] else { panic!() };
        let told = format!("{} {} {}", change.key, change.old, change.new);
        assert_eq!(told, "http.token (secret) none");
    }
}
