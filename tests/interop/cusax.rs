//! `cusax`, our client at the command line: two connections, one list of people.

use std::{
    env, fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;

use crate::{
    peer::Peer,
    process::command,
    recording::level,
    site::{CHAT, CONFERENCES, PHONES, ROOMS, Site, password},
    terminal::Terminal,
    wait::until,
};

/// A person with `cusax`, in a room.
pub(crate) struct Cusax {
    peer: Peer,
    record: PathBuf,
}

impl Deref for Cusax {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Cusax {
    /// Sets up both accounts by hand, voice by Kamailio, and enters a room with a tone of `hz`.
    pub(crate) fn join(site: &Site, user: &str, name: &str, hz: f64, more: &[&str]) -> Self {
        let (code, said) = login(site, user, name, &password(user));
        assert_eq!(code, Some(0), "{said}");
        let record = site.dir.join(format!("cusax-{user}.wav"));
        let play = site.dir.join(format!("tone-{hz}.wav"));
        write_tone(&play, hz);
        let mut line = cusax(site, user);
        line.args(["join", "lounge", "--json", "--play"]).arg(&play);
        line.arg("--record").arg(&record).args(more);
        Self { peer: Peer::of(&format!("cusax-{user}"), &mut line, &site.dir), record }
    }

    /// Waits until the list has these people: name, level, and whether they are heard.
    pub(crate) fn lists(&self, people: &[(&str, &str, Option<&str>)]) -> Value {
        let what = format!("the list to be {people:?}");
        let list = self.wait(0, &what, |event| {
            let Some(list) = event["people"].as_array() else { return false };
            let fits = |wanted: &(&str, &str, Option<&str>)| {
                list.iter().any(|one| {
                    (one["name"].as_str(), one["level"].as_str(), one["voice"].as_str())
                        == (Some(wanted.0), Some(wanted.1), wanted.2)
                })
            };
            list.len() == people.len() && people.iter().all(fits)
        });
        list["people"].clone()
    }

    /// How loud a tone is in the last second that was recorded, in dBFS.
    pub(crate) fn hears(&self, hz: f64) -> f64 {
        let bytes = fs::read(&self.record).expect("it records");
        let samples: Vec<i16> = bytes
            .get(44..)
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let last = &samples[samples.len().saturating_sub(48_000)..];
        let mut levels: Vec<f64> = last.chunks_exact(240).map(|it| level(it, hz, 48_000)).collect();
        levels.sort_by(f64::total_cmp);
        levels.get(levels.len() / 2).copied().unwrap_or(f64::NEG_INFINITY)
    }

    /// Waits until a tone is there, or is not.
    pub(crate) fn waits_to_hear(&self, hz: f64, wanted: impl Fn(f64) -> bool) -> f64 {
        let what = format!("the sound at {hz} Hz to change");
        until(&what, Duration::from_secs(15), || Some(self.hears(hz)).filter(|it| wanted(*it)))
    }

    /// Leaves; how the program ended.
    pub(crate) fn quit(mut self) -> Option<i32> {
        self.peer.write("/quit");
        self.peer.ends(Duration::from_secs(10)).and_then(|status| status.code())
    }
}

/// A person with `cusax` in a terminal of 100 by 24, in a room.
pub(crate) fn screen(site: &Site, user: &str, name: &str, hz: f64) -> Terminal {
    let (code, said) = login(site, user, name, &password(user));
    assert_eq!(code, Some(0), "{said}");
    let play = site.dir.join(format!("tone-{hz}.wav"));
    write_tone(&play, hz);
    let line = format!(
        "exec {} --account '{}' join lounge --play '{}'",
        program().display(),
        site.dir.join(format!("{user}.json")).display(),
        play.display()
    );
    Terminal::start(&site.dir.join(format!("terminal-{user}")), (100, 24), &line)
}

/// `cusax login` by hand; its exit code, and all that was said.
pub(crate) fn login(site: &Site, user: &str, name: &str, password: &str) -> (Option<i32>, String) {
    let mut line = cusax(site, user);
    line.args(["login", &format!("{user}@{CHAT}"), "--by-hand", "--password-stdin"]);
    line.args(["--name", name, "--sip", &format!("sip:{user}@{PHONES}"), "--transport", "tcp"]);
    line.args(["--xmpp-server", &format!("127.0.0.1:{}", site.ports.clients)]);
    line.args(["--sip-proxy", &format!("127.0.0.1:{}", site.ports.proxy)]);
    line.args(["--rooms", &format!("{ROOMS},{CONFERENCES}")]);
    run(&mut line, password)
}

/// Runs it to its end with a line of input.
pub(crate) fn run(line: &mut Command, input: &str) -> (Option<i32>, String) {
    use std::{io::Write, process::Stdio};
    line.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = line.spawn().expect("cusax runs");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{input}").expect("it reads");
    drop(stdin);
    let done = child.wait_with_output().expect("cusax ends");
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The program with a user's account file.
pub(crate) fn cusax(site: &Site, user: &str) -> Command {
    let mut line = command(program());
    line.arg("--account").arg(site.dir.join(format!("{user}.json")));
    line
}

/// The program, built as `cusaxd` was.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_cusaxd")).with_file_name("cusax");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "-p", "cusax-cli"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()), "cusax does not build");
        program
    })
}

/// A minute of a tone, as loud as the phones' tones.
fn write_tone(path: &Path, hz: f64) {
    let amplitude = 10_f64.powf(crate::baresip::TONE_DBFS / 20.0) * 32_767.0;
    let samples = (0..48_000 * 60)
        .map(|at| (std::f64::consts::TAU * hz * f64::from(at) / 48_000.0).sin() * amplitude)
        .flat_map(|sample| (sample as i16).to_le_bytes());
    let data: Vec<u8> = samples.collect();
    let length = u32::try_from(data.len()).expect("a minute");
    let mut file = vec![];
    for part in [
        &b"RIFF"[..],
        &(length + 36).to_le_bytes(),
        b"WAVEfmt ",
        &16_u32.to_le_bytes(),
        // PCM, one channel, 48 kHz, bytes a second, bytes a sample, bits.
        &1_u16.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &48_000_u32.to_le_bytes(),
        &96_000_u32.to_le_bytes(),
        &2_u16.to_le_bytes(),
        &16_u16.to_le_bytes(),
        b"data",
        &length.to_le_bytes(),
        &data,
    ] {
        file.extend_from_slice(part);
    }
    fs::write(path, file).expect("a file of ours");
}
