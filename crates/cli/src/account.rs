//! The account file: both accounts of the service, their passwords, and how well both were protected so far.
//! Nobody but its owner may read it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cusax::account::{Account, Password};
use cusax_client::connections::Side;
use cusax_client::driver::{Roots, chat, voice};
use cusax_client::security::{Login, Memory, Privacy, Protection};
use serde::{Deserialize, Serialize};

/// What `cusax login` writes.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// What the service or the person said.
    pub(crate) account: Account,
    /// The password of the person.
    password: String,
    /// The password of the SIP account, if it is another.
    #[serde(default)]
    sip_password: Option<String>,
    /// A file with the authorities that are believed, instead of the system's.
    #[serde(default)]
    roots: Option<PathBuf>,
    /// How well chat and voice were protected.
    #[serde(default)]
    seen: [Option<Seen>; 2],
}

/// A [`Protection`] as it is written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Seen {
    privacy: usize,
    login: usize,
}

impl Saved {
    pub(crate) fn new(
        account: Account,
        password: String,
        sip_password: Option<String>,
        roots: Option<PathBuf>,
    ) -> Self {
        Self { account, password, sip_password, roots, seen: [None; 2] }
    }

    /// Reads a file that nobody else can read.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path)
            .with_context(|| format!("{shown} cannot be read; `cusax login` makes it"))?;
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!("{shown} holds passwords and others may read it: chmod 600 {shown}");
        }
        serde_json::from_str(&text).with_context(|| format!("{shown} is no account file"))
    }

    /// Writes it for its owner alone: a new file in place of the old one.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("{shown} cannot be made"))?;
        }
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).with_context(|| format!("{shown} cannot be made"))?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path).with_context(|| format!("{shown} cannot be made"))
    }

    /// How well both were protected so far.
    pub(crate) fn memory(&self) -> Memory {
        let [chat, voice] = self.seen.map(|seen| seen.and_then(Seen::read));
        Memory::new(chat, voice)
    }

    /// Takes note of how well both are protected; whether that is news.
    pub(crate) fn remember(&mut self, memory: &Memory) -> bool {
        let before = serde_json::to_string(&self.seen).ok();
        self.seen = Side::ALL.map(|side| memory.known(side).map(Seen::new));
        serde_json::to_string(&self.seen).ok() != before
    }

    /// The account for chat, ready to connect.
    pub(crate) fn chat(&self) -> anyhow::Result<Option<chat::Account>> {
        let Some(xmpp) = &self.account.xmpp else { return Ok(None) };
        let mut account = chat::Account::new(xmpp, &self.password);
        account.roots = self.roots()?;
        Ok(Some(account))
    }

    /// The account for voice, ready to connect.
    pub(crate) fn voice(&self) -> anyhow::Result<Option<voice::Account>> {
        let Account { sip, name, xmpp, related, .. } = &self.account;
        let Some(sip) = sip else { return Ok(None) };
        let password = match sip.password {
            Password::Own => &self.password,
            Password::Given => self.sip_password.as_ref().unwrap_or(&self.password),
        };
        let impp = xmpp.as_ref().filter(|_| *related).map(|xmpp| xmpp.jid.clone());
        let mut account = voice::Account::new(sip, name.as_deref(), password, impp);
        account.roots = self.roots()?;
        Ok(Some(account))
    }

    fn roots(&self) -> anyhow::Result<Roots> {
        let Some(path) = &self.roots else { return Ok(Roots::System) };
        let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Roots::Pem(text))
    }
}

impl Seen {
    fn new(protection: Protection) -> Self {
        let privacy = PRIVACY.iter().position(|one| *one == protection.privacy).unwrap_or_default();
        let login = LOGIN.iter().position(|one| *one == protection.login).unwrap_or_default();
        Self { privacy, login }
    }

    fn read(self) -> Option<Protection> {
        let (privacy, login) = (*PRIVACY.get(self.privacy)?, *LOGIN.get(self.login)?);
        Some(Protection { privacy, login })
    }
}

/// Where the account file is, unless it is said.
pub(crate) fn default_path() -> anyhow::Result<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let config = config.or_else(home).context("neither XDG_CONFIG_HOME nor HOME is set")?;
    Ok(config.join("cusax").join("account.json"))
}

/// In the order in which files number them: only added to.
const PRIVACY: [Privacy; 5] =
    [Privacy::Open, Privacy::Unproven, Privacy::Tls12, Privacy::Tls13, Privacy::Local];
const LOGIN: [Login; 7] = [
    Login::Nothing,
    Login::Password,
    Login::Md5,
    Login::Digest,
    Login::Scram,
    Login::Bound,
    Login::Certificate,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_was_told_from_everybody_else() {
        let folder = std::env::temp_dir().join(format!("cusax-account-{}", std::process::id()));
        let path = folder.join("deep").join("account.json");
        let account = r#"{"version":1,"xmpp":{"jid":"a@x.test","password":"own"},"refresh_s":0}"#;
        let account: Account = serde_json::from_str(account).unwrap();
        let mut saved = Saved::new(account, "secret".to_owned(), None, None);
        let mut memory = saved.memory();
        let good = Protection { privacy: Privacy::Tls13, login: Login::Bound };
        assert!(memory.check(Side::Chat, good).is_empty());
        assert!(saved.remember(&memory) && !saved.remember(&memory));
        saved.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Saved::load(&path).unwrap();
        assert_eq!((read.memory(), read.password.as_str()), (memory, "secret"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let why = Saved::load(&path).err().unwrap().to_string();
        assert!(why.contains("chmod 600"), "{why}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
