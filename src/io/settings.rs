//! Reads the configuration: a TOML file, then the environment over it.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Config as Layers, File, FileFormat, Value, ValueKind};

use super::sip::tls::Tls;
use super::{lines, store};
use crate::config::{Config, Problem};
use crate::reload::{self, Change, Shown, Takes};

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct BadConfig {
    /// The file.
    pub file: PathBuf,
    /// Each key with its reason, or the reason why there are no keys.
    pub reasons: Vec<String>,
}

impl std::error::Error for BadConfig {}

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, reason) in self.reasons.iter().enumerate() {
            let end = if number + 1 < self.reasons.len() { "\n" } else { "" };
            write!(f, "{}: {reason}{end}", self.file.display())?;
        }
        Ok(())
    }
}

/// The configuration with its secrets, which may stand in files of their own.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file that they were read from.
    pub file: PathBuf,
    /// Everything else.
    pub config: Config,
    /// The component's secret.
    pub secret: String,
    /// The bearer token of the admin API.
    pub token: Option<String>,
    /// The token of those who may only read there.
    pub read_token: Option<String>,
    /// The certificate of SIP.
    pub tls: Option<Arc<Tls>>,
}

impl Settings {
    /// Puts what `new` changes in force, as far as it can be while the server runs; gives all of what is
    /// not as it was.
    pub fn adopt(&mut self, new: Self) -> Vec<Change> {
        let mut changes = reload::changes(&self.config, &new.config);
        // The key is the same, and what the file holds is not.
        let mut file_changed = |key: &str, file: &Option<String>, takes| {
            if file.is_some() && !changes.iter().any(|change| change.key == key) {
                let hidden = Shown::secret();
                let (old, new) = (hidden.clone(), hidden);
                changes.push(Change { key: key.to_owned(), old, new, takes });
            }
        };
        if self.secret != new.secret {
            file_changed("xmpp.secret_file", &new.config.xmpp.secret_file, Takes::Restart);
        }
        if self.token != new.token {
            file_changed("http.token_file", &new.config.http.token_file, Takes::Live);
        }
        if self.read_token != new.read_token {
            file_changed("http.read_token_file", &new.config.http.read_token_file, Takes::Live);
        }
        self.config = reload::adopt(&self.config, &new.config);
        self.token = new.token;
        self.read_token = new.read_token;
        changes
    }
}

impl Settings {
    /// What works, and is better otherwise: secrets that everybody on this machine can read, ports that are
    /// used twice.
    pub fn warnings(&self) -> Vec<Problem> {
        let open = |file: &Path| {
            std::fs::metadata(file).is_ok_and(|it| it.permissions().mode() & 0o004 != 0)
        };
        let Config { xmpp, sip, http, store, .. } = &self.config;
        let has_password = store.url.split_once('@').is_some_and(|(user, _)| {
            user.split_once("//").is_some_and(|(_, user)| user.contains(':'))
        });
        // The password of the proxy is there whether or not it came from a file.
        let outbound =
            sip.outbound_password.as_ref().filter(|_| sip.outbound_password_file.is_none());
        let secrets = [
            ("xmpp.secret", xmpp.secret.is_some(), &xmpp.secret_file),
            ("sip.outbound_password", outbound.is_some(), &sip.outbound_password_file),
            ("http.token", http.token.is_some(), &http.token_file),
            ("http.read_token", http.read_token.is_some(), &http.read_token_file),
            ("store.url", has_password, &None),
        ];
        let variable = |key: &str| format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"));
        let given = |key: &str| std::env::var_os(variable(key)).is_some();
        let mut warnings = vec![];
        let mut warn = |key, file: &Path| {
            let file = file.display();
            let reason = format!("everybody on this machine can read it in {file} (chmod o-r)");
            warnings.push(Problem { key, reason });
        };
        for (key, inline, file) in secrets {
            match file {
                Some(file) if open(Path::new(file)) => warn(key, Path::new(file)),
                None if inline && !given(key) && open(&self.file) => warn(key, &self.file),
                Some(_) | None => {}
            }
        }
        if let Some(listen) = self.config.listens_in_media_ports() {
            let reason = format!("has the port of {listen} in sip.listen");
            warnings.push(Problem { key: "media.ports", reason });
        }
        warnings
    }
}

/// Reads `file` and the environment (`CUSAXD__SECTION__KEY`), and finds what cannot work.
pub fn load(file: &Path) -> Result<Settings, BadConfig> {
    let bad = |reasons| BadConfig { file: file.to_owned(), reasons };
    let text = std::fs::read_to_string(file).map_err(|why| bad(vec![why.to_string()]))?;
    let mut layers = Layers::builder().add_source(File::from_str(&text, FileFormat::Toml));
    for (name, value) in environment() {
        let (name, value) = (name.as_str(), value.as_str());
        let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        let value: ValueKind = if LISTS.contains(&key.as_str()) {
            let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(str::to_owned).collect::<Vec<_>>().into()
        } else {
            // Left as text, whatever it looks like: a secret of digits keeps its zeros.
            value.into()
        };
        let value = Value::new(Some(&name.to_owned()), value);
        layers = layers.set_override(&key, value).map_err(|why| bad(vec![why.to_string()]))?;
    }
    let mut config: Config = layers
        .build()
        .and_then(Layers::try_deserialize)
        .map_err(|why| bad(vec![why.to_string()]))?;
    let mut problems = config.check();
    let url = store::problem(&config.store.url);
    problems.extend(url.map(|reason| Problem { key: "store.url", reason }));
    let mut read = |key, given: &Option<String>, file: &Option<String>| match (given, file) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Ok(_) => {
                problems.push(Problem { key, reason: format!("{file} is empty") });
                None
            }
            Err(why) => {
                problems.push(Problem { key, reason: format!("{file}: {why}") });
                None
            }
        },
        (None, None) => None,
    };
    let secret = read("xmpp.secret_file", &config.xmpp.secret, &config.xmpp.secret_file);
    let sip = &config.sip;
    let outbound =
        read("sip.outbound_password_file", &sip.outbound_password, &sip.outbound_password_file);
    config.sip.outbound_password = outbound;
    let http = &config.http;
    let token = read("http.token_file", &http.token, &http.token_file);
    let read_token = read("http.read_token_file", &http.read_token, &http.read_token_file);
    if token.is_some() && token == read_token {
        problems.push(Problem { key: "http.read_token", reason: "is http.token".to_owned() });
    }
    let audit = config.log.audit_file.as_deref().and_then(lines::problem);
    problems.extend(audit.map(|reason| Problem { key: "log.audit_file", reason }));
    let tls = Tls::load(&config.sip).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    match secret {
        Some(secret) if problems.is_empty() => {
            let (file, tls) = (file.to_owned(), tls.map(Arc::new));
            Ok(Settings { file, config, secret, token, read_token, tls })
        }
        Some(_) | None => Err(bad(problems.iter().map(ToString::to_string).collect())),
    }
}

/// The variables that override keys, in order.
fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    let mut variables: Vec<_> = variables.collect();
    variables.sort();
    variables
}

const PREFIX: &str = "CUSAXD__";
/// Keys whose variables hold several values, with commas between them.
const LISTS: [&str; 8] = [
    "provision.proxies",
    "provision.sip_transports",
    "sip.dial_allow",
    "sip.listen",
    "sip.trusted_domains",
    "sip.trusted_proxies",
    "xmpp.admins",
    "xmpp.uri_fields",
];
