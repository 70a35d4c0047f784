//! The program itself, on loopback: its command line, its configuration, its listeners, its store.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::postgres::{PASSWORD, Postgres};

/// A folder of its own, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cusaxd-shell-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn cusaxd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cusaxd"));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CUSAXD_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

const GOOD: &str = "[xmpp]\ndomain = \"rooms.example.org\"\nsecret = \"s\"\n\
    [sip]\ndomain = \"conf.example.org\"\n";

fn check(file: &Path, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = cusaxd()
        .args(["check-config", "--config"])
        .arg(file)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    said(output)
}

/// The exit code, and all that was said.
fn said(output: Output) -> (Option<i32>, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

// --- The command line and the configuration -----------------------------------------------------

#[test]
fn says_its_version_and_how_it_is_used() {
    let version = said(cusaxd().arg("--version").output().unwrap());
    assert_eq!(version, (Some(0), format!("cusaxd {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, text) = said(cusaxd().arg("--help").output().unwrap());
    assert_eq!(code, Some(0));
    assert!(text.contains("check-config") && text.contains("run"), "{text}");
    for bad in [&[][..], &["dance"], &["run"], &["check-config"]] {
        assert_eq!(said(cusaxd().args(bad).output().unwrap()).0, Some(2), "{bad:?}");
    }
}

/// What packages install: what shells complete, and a page of the manual for each command.
#[test]
fn shells_complete_it_and_man_knows_it() {
    let folder = Folder::new();
    let output = |arguments: &[&str]| said(cusaxd().args(arguments).output().unwrap());
    for (shell, word) in [
        ("bash", "complete -F _cusaxd"),
        ("zsh", "#compdef cusaxd"),
        ("fish", "complete -c cusaxd"),
    ] {
        let (code, script) = output(&["completions", shell]);
        assert_eq!(code, Some(0));
        assert!(script.contains(word) && script.contains("check-config"), "{shell}");
    }
    // bash itself: after `cusaxd room k` there is one word.
    let (_, script) = output(&["completions", "bash"]);
    let asked = "\nCOMP_WORDS=(cusaxd room k); COMP_CWORD=2; _cusaxd cusaxd k room; echo \"${COMPREPLY[@]}\"";
    let answer = Command::new("bash").arg("-c").arg(script + asked).output().unwrap();
    assert_eq!(said(answer), (Some(0), "kick\n".to_owned()));

    let (code, page) = output(&["man"]);
    assert!(code == Some(0) && page.contains(".TH cusaxd 8"), "{page}");
    assert_eq!(output(&["man", folder.0.to_str().unwrap()]), (Some(0), String::new()));
    for name in
        ["cusaxd.8", "cusaxd-run.8", "cusaxd-room-ban.8", "cusaxd-user-put.8", "cusaxd-drain.8"]
    {
        let page = fs::read_to_string(folder.0.join(name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{name}");
        assert!(!page.contains("open sesame"), "no value of the environment");
    }
    assert!(!folder.0.join("cusaxd-help.8").exists());
    assert_eq!(output(&["man", "/nonexistent"]).0, Some(1));
}

/// Each wrong file: exit code 2, and the file, the key and the reason.
#[test]
fn wrong_configurations_are_named() {
    let folder = Folder::new();
    let path = folder.write("x.toml", "");
    let check = |text: &str, expected: &[&str]| {
        fs::write(&path, text).unwrap();
        let (code, said) = check(&path, &[]);
        if expected.is_empty() {
            assert_eq!((code, said), (Some(0), format!("{}: good\n", path.display())), "{text}");
            return;
        }
        assert_eq!(code, Some(2), "{text}\n{said}");
        assert!(said.starts_with(&path.display().to_string()), "{said}");
        for words in expected {
            assert!(said.contains(words), "{text}\n{said}\nlacks {words}");
        }
    };
    let with = |more: &str| format!("{GOOD}{more}");
    check(GOOD, &[]);
    check(include_str!("../../conf/cusaxd.toml"), &[]);
    check(include_str!("../../conf/demo.toml"), &[]);
    check("", &["xmpp"]);
    check("[xmpp", &["line 1"]);
    check(&GOOD.replace("domain = \"rooms.example.org\"\n", ""), &["domain"]);
    check(&GOOD.replace("secret = \"s\"\n", ""), &["xmpp.secret", "missing"]);
    check(&GOOD.replace("\"s\"", "\"\""), &["xmpp.secret", "empty"]);
    check(&GOOD.replace("rooms.example.org", "a@b"), &["xmpp.domain", "a@b"]);
    check(&GOOD.replace("secret =", "sekret ="), &["sekret"]);
    check(&with("[sap]\nx = 1\n"), &["sap"]);
    check(&with("[media]\nport = \"1\"\n"), &["port"]);
    check(&with("[media]\nports = \"5-4\"\n"), &["media.ports", "5-4"]);
    check(&with("[media]\nports = \"40001-40002\"\n"), &["media.ports", "room"]);
    check(&with("[media]\naddress = \"0.0.0.0\"\n"), &["media.address"]);
    check(&with("[media]\naddress = \"here\"\n"), &["media.address"]);
    check(&with("[media]\nworkers = \"many\"\n"), &["media.workers"]);
    check(&with("[media]\nworkers = -1\n"), &["media.workers"]);
    check(&with("listen = []\n"), &["sip.listen", "no listener"]);
    check(&with("listen = [\"udp:127.0.0.1:1\", \"udp:127.0.0.1:1\"]\n"), &["sip.listen", "twice"]);
    check(&with("listen = [\"udp:127.0.0.1:0\"]\n"), &["sip.listen", "port 0"]);
    check(&with("listen = [\"udp:224.0.0.1:5060\"]\n"), &["sip.listen", "address of many"]);
    let both = "listen = [\"tcp:0.0.0.0:5060\"]\n[http]\nlisten = \"127.0.0.1:5060\"\n";
    check(&with(both), &["http.listen", "tcp:0.0.0.0:5060"]);
    let inside = "listen = [\"udp:127.0.0.1:40010\"]\n[media]\nports = \"40000-40020\"\n";
    fs::write(&path, with(inside)).unwrap();
    let (code, said) = self::check(&path, &[]);
    let warning = "warning: media.ports: has the port of udp:127.0.0.1:40010 in sip.listen";
    assert!(code == Some(0) && said.contains(warning), "{said}");
    check(&with(&inside.replace("udp:", "tcp:")), &[]);
    check(&with(&inside.replace("udp:127.0.0.1", "udp:127.0.0.2")), &[]);
    check(&with("listen = [\"sctp:127.0.0.1:1\"]\n"), &["sip.listen", "sctp"]);
    check(&with("listen = 5060\n"), &["sip.listen"]);
    check(&with("auth = \"maybe\"\n"), &["auth", "maybe"]);
    check(&with("auth = \"trusted\"\n"), &["sip.trusted_proxies"]);
    check(&with("trusted_proxies = [\"10.0.0.0/40\"]\n"), &["sip.trusted_proxies", "10.0.0.0/40"]);
    check(&with("listen = [\"tls:127.0.0.1:1\"]\n"), &["sip.tls_certificate", "missing"]);
    check(&with("tls_certificate = \"x\"\n"), &["sip.tls_key", "missing"]);
    let none = "tls_certificate = \"/nonexistent\"\ntls_key = \"/nonexistent\"\n";
    check(&with(none), &["sip.tls_certificate", "/nonexistent", "No such file"]);
    check(&with("tls_client_ca = \"x\"\n"), &["sip.tls_client_ca"]);
    check(&with("trusted_domains = [\"a.org\"]\n"), &["sip.trusted_domains", "sip.tls_client_ca"]);
    check(&with("trusted_domains = [\"*.a.org\"]\n"), &["sip.trusted_domains", "wildcards"]);
    for key in ["max_requests_of_one", "max_burst_of_one", "max_wrong_passwords"] {
        check(&with(&format!("{key} = 0\n")), &[&format!("sip.{key}"), "at least 1"]);
        check(&with(&format!("{key} = 4294967295\n")), &[]);
    }
    check(&with("[media]\nmax_stress = 1.5\n"), &["media.max_stress"]);
    check(&with("[media]\nmax_stress = nan\n"), &["media.max_stress"]);
    check(&GOOD.replace("conf.example.org", "a b"), &["sip.domain"]);
    check(&with("[store]\nurl = \"mysql://x\"\n"), &["store.url", "sqlite", "postgres"]);
    check(&with("[store]\nurl = \"postgres://me:p@db.example:x/\"\n"), &["store.url", "port"]);
    check(&with("[store]\nurl = \"postgres:me\"\n"), &["store.url"]);
    check(&with("[store]\nurl = \"postgres://me@db.example/rooms?sslmode=verify-full\"\n"), &[]);
    check(&with("[http]\nlisten = \"x\"\n"), &["http.listen"]);
    check(&with("[http]\ntoken = \"\"\n"), &["http.token", "empty"]);
    check(&with("[http]\ntoken = \"a\"\ntoken_file = \"b\"\n"), &["http.token_file"]);
    check(&with("[http]\ntoken_file = \"/nonexistent\"\n"), &["http.token_file", "/nonexistent"]);
    check(&with("[http]\nread_token = \"a\"\n"), &["http.read_token", "without http.token"]);
    let token = |more: &str| with(&format!("[http]\ntoken = \"a\"\n{more}\n"));
    check(&token("read_token = \"\""), &["http.read_token", "empty"]);
    check(&token("read_token = \"a\""), &["http.read_token", "is http.token"]);
    check(&token("read_token = \"b\"\nread_token_file = \"c\""), &["http.read_token_file"]);
    check(&token("read_token_file = \"/nonexistent\""), &["http.read_token_file", "/nonexistent"]);
    check(&token("read_token = \"b\""), &[]);
    check(&with("[log]\nlevel = \"loud\"\n"), &["level", "loud"]);
    check(&with("[log]\naudit_file = \"/nonexistent/x\"\n"), &["log.audit_file", "/nonexistent/x"]);
    let provision = |line: &str| with(&format!("[provision]\n{line}\n"));
    for bad in ["x y", ":1", "x:0", "x:99999", "x>", "sip:x:1 "] {
        check(&provision(&format!("sip_proxy = \"{bad}\"")), &["provision.sip_proxy", "HOST:PORT"]);
        check(&provision(&format!("xmpp_server = \"{bad}\"")), &["provision.xmpp_server"]);
    }
    for good in ["", "x", "x:1", "192.0.2.1", "[::1]", "[::1]:5061"] {
        check(&provision(&format!("sip_proxy = \"{good}\"")), &[]);
    }
    check(&provision("sip_transports = []"), &["provision.sip_transports"]);
    check(&provision("sip_transports = [\"carrier pigeon\"]"), &["provision.sip_transports"]);
    check(&provision("refresh_hours = 0"), &["provision.refresh_hours"]);
    check(&provision("proxies = [\"x\"]"), &["provision.proxies"]);
    let xmpp = |line: &str| GOOD.replace("secret = \"s\"\n", &format!("secret = \"s\"\n{line}\n"));
    check(&xmpp("server = \"here\""), &["xmpp.server", "host:port"]);
    check(&xmpp("max_rooms = 0"), &["xmpp.max_rooms"]);
    check(&xmpp("max_people = 0"), &["xmpp.max_people"]);
    check(&xmpp("max_joins = 0"), &["xmpp.max_joins"]);
    check(&xmpp("max_message_burst_of_one = 0"), &["xmpp.max_message_burst_of_one"]);
    check(&xmpp("max_rooms_of_one = 0"), &["xmpp.max_rooms_of_one"]);
    check(&xmpp("admins = [\"@\"]"), &["xmpp.admins"]);
    check(&xmpp("secret_file = \"x\""), &["xmpp.secret_file"]);
    // All of it at once.
    let both = xmpp("max_rooms = 0\nmax_people = 0");
    check(&both, &["xmpp.max_rooms", "xmpp.max_people"]);

    let (code, text) = self::check(&folder.0.join("none.toml"), &[]);
    assert_eq!(code, Some(2));
    assert!(text.contains("none.toml") && text.contains("No such file"), "{text}");
}

#[test]
fn secrets_may_stand_in_files() {
    let folder = Folder::new();
    let secret = folder.write("secret", "from a file\n");
    let empty = folder.write("empty", "\n");
    let given = |path: &Path| {
        let line = format!("secret_file = {:?}\n", path.to_str().unwrap());
        folder.write("x.toml", &GOOD.replace("secret = \"s\"\n", &line))
    };
    let settings = cusaxd::io::settings::load(&given(&secret)).unwrap();
    assert_eq!(settings.secret, "from a file");
    assert_eq!(check(&given(&secret), &[]).0, Some(0));
    let (code, text) = check(&given(&empty), &[]);
    assert!(code == Some(2) && text.contains("is empty"), "{text}");
    let (code, text) = check(&given(Path::new("/nonexistent")), &[]);
    assert!(code == Some(2) && text.contains("xmpp.secret_file: /nonexistent"), "{text}");
}

/// Whoever has an account on the machine is not to be the operator.
#[test]
fn secrets_that_everybody_can_read_are_named() {
    let folder = Folder::new();
    let secret = folder.write("secret", "from a file\n");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let inline = "[http]\ntoken = \"t\"\n[store]\nurl = \"postgres://me:pw@db.example/rooms\"\n";
    let file = folder.write("x.toml", &format!("{GOOD}{inline}"));
    assert_eq!(check(&file, &[]).1, format!("{}: good\n", file.display()));
    mode(&file, 0o644);
    let warnings = |text: &str| text.lines().filter(|it| it.contains(": warning: ")).count();
    let (code, text) = check(&file, &[]);
    assert_eq!((code, warnings(&text)), (Some(0), 3), "{text}");
    for key in ["xmpp.secret", "http.token", "store.url"] {
        assert!(text.contains(&format!(": warning: {key}: everybody on this machine")), "{text}");
    }
    // What the environment has is not in the file.
    assert_eq!(warnings(&check(&file, &[("CUSAXD__XMPP__SECRET", "s")]).1), 2);
    let line = format!("secret_file = {:?}\n", secret.to_str().unwrap());
    let file = folder.write("y.toml", &GOOD.replace("secret = \"s\"\n", &line));
    mode(&file, 0o644);
    assert_eq!(warnings(&check(&file, &[]).1), 0, "it holds no secret itself");
    mode(&secret, 0o644);
    let (code, text) = check(&file, &[]);
    assert_eq!(code, Some(0));
    assert!(text.contains("warning: xmpp.secret: ") && text.contains("/secret (chmod"), "{text}");
}

#[test]
fn the_environment_counts_more_than_the_file() {
    let folder = Folder::new();
    let file = folder.write("x.toml", GOOD);
    let good = |variables: &[(&str, &str)]| {
        let (code, text) = check(&file, variables);
        assert_eq!(code, Some(0), "{variables:?} {text}");
    };
    let bad = |name: &str, value: &str, expected: &str| {
        let (code, text) = check(&file, &[(name, value)]);
        assert_eq!(code, Some(2), "{name}={value} {text}");
        assert!(text.contains(expected), "{name}={value} {text}");
    };
    good(&[("CUSAXD__XMPP__SECRET", "007"), ("CUSAXD__XMPP__MAX_ROOMS", "12")]);
    good(&[("CUSAXD__SIP__LISTEN", "udp:127.0.0.1:5060, tcp:[::1]:5060,")]);
    good(&[("CUSAXD__SIP__AUTH", "trusted"), ("CUSAXD__SIP__TRUSTED_PROXIES", "10.0.0.0/8,::1")]);
    good(&[("CUSAXD__XMPP__ADMINS", "a@example.org,b@example.org")]);
    good(&[("CUSAXD__LOG__LEVEL", "debug"), ("CUSAXD_OTHER", "x"), ("CUSAXD", "x")]);
    bad("CUSAXD__XMPP__MAX_ROOMS", "many", "xmpp.max_rooms");
    bad("CUSAXD__XMPP__MAX_ROOMS", "0", "xmpp.max_rooms");
    bad("CUSAXD__XMPP__SECRET", "", "xmpp.secret");
    bad("CUSAXD__SIP__LISTEN", "", "sip.listen");
    bad("CUSAXD__SIP__LISTEN", "udp:127.0.0.1:5060,x", "`x`");
    bad("CUSAXD__XMPP__ADMINS", "a@example.org,@", "xmpp.admins");
    bad("CUSAXD__XMPP__COLOUR", "red", "colour");
    bad("CUSAXD__COLOUR", "red", "colour");
    bad("CUSAXD__HTTP__LISTEN", "8088", "http.listen");
    // A file that lacks what the environment has is whole.
    let file = folder.write("y.toml", &GOOD.replace("secret = \"s\"\n", ""));
    assert_eq!(check(&file, &[]).0, Some(2));
    assert_eq!(check(&file, &[("CUSAXD__XMPP__SECRET", "s")]).0, Some(0));
}

/// Nobody listens where the XMPP server should be, and that is said only once everything is free.
#[test]
fn a_probe_tries_what_the_configuration_promises() {
    let folder = Folder::new();
    let (http, sip) = (free_port(), free_port());
    let text = configuration(&folder, http, sip, None);
    // Below the ports that the system itself gives to others.
    let mut blocks = (10_000..30_000).step_by(4).skip(std::process::id() as usize % 4_000);
    let bound = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok();
    let first = blocks.find(|first| (*first..first + 4).all(|port| bound(port).is_some()));
    let first: u16 = first.unwrap();
    let media = bound(first + 1).unwrap();
    let ports = format!("[media]\nports = \"{first}-{}\"", first + 3);
    let text = text.replace("[media]", &ports);
    let file = folder.write("probed.toml", &text);
    let probe = || {
        let arguments = ["check-config", "--probe", "--config"];
        said(cusaxd().args(arguments).arg(&file).output().unwrap())
    };
    assert_eq!(check(&file, &[]).0, Some(0), "as such it is good");
    let held = (
        TcpListener::bind((Ipv4Addr::LOCALHOST, http)).unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, sip)).unwrap(),
    );
    let (code, text) = probe();
    assert_eq!(code, Some(2), "{text}");
    for expected in [
        format!("probed.toml: sip.listen: cannot bind udp:127.0.0.1:{sip}: "),
        format!("probed.toml: http.listen: cannot bind 127.0.0.1:{http}: "),
        format!("probed.toml: media.ports: others use 1 of these ports, {} first", first + 1),
    ] {
        assert!(text.contains(&expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains("tcp:127.0.0.1") && !text.contains("xmpp"), "{text}");
    drop((held, media));
    let (code, text) = probe();
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("xmpp.server: 127.0.0.1:9: cannot connect: "), "{text}");
    assert!(!folder.0.join("store.db").exists(), "a probe leaves nothing behind");
    let store = format!("sqlite:{}", folder.0.join("store.db").display());
    for away in ["postgres://me:open-sesame@127.0.0.1:9/rooms", "sqlite:/nonexistent/x.db"] {
        fs::write(&file, fs::read_to_string(&file).unwrap().replace(&store, away)).unwrap();
        let (code, text) = probe();
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("store.url: ") && !text.contains("open-sesame"), "{text}");
        assert!(!text.contains("xmpp"), "{text}");
        fs::write(&file, fs::read_to_string(&file).unwrap().replace(away, &store)).unwrap();
    }
}

#[test]
fn a_probe_knows_when_a_certificate_ends() {
    let folder = Folder::new();
    let (http, sip) = (free_port(), free_port());
    let (certificate, key) = (folder.0.join("tls.pem"), folder.0.join("tls.key"));
    // Ports of audio that nobody else gets from the system.
    let names = format!(
        "tls_certificate = {certificate:?}\ntls_key = {key:?}\n[media]\nports = \"9100-9101\""
    );
    let text = configuration(&folder, http, sip, None).replace("[media]", &names);
    let file = folder.write("tls.toml", &text);
    let probe = |from: (i32, u8), until: (i32, u8)| {
        let mut params =
            rcgen::CertificateParams::new(vec!["conf.example.org".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, 1);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, 1);
        let pair = rcgen::KeyPair::generate().unwrap();
        folder.write("tls.pem", &params.self_signed(&pair).unwrap().pem());
        folder.write("tls.key", &pair.serialize_pem());
        let arguments = ["check-config", "--probe", "--config"];
        said(cusaxd().args(arguments).arg(&file).output().unwrap())
    };
    let (code, text) = probe((2020, 1), (2021, 2));
    let expected = format!(
        "sip.tls_certificate: {}: was good until 2021-02-01T00:00:00Z",
        certificate.display()
    );
    assert!(code == Some(2) && text.contains(&expected), "{text}");
    assert!(!text.contains("xmpp.server"), "no link is made then: {text}");
    let (code, text) = probe((2120, 1), (2121, 1));
    assert!(code == Some(2) && text.contains("is not good before 2120-01-01T00:00:00Z"), "{text}");
    let (_, text) = probe((2020, 1), (2121, 1));
    assert!(!text.contains("sip.tls_certificate") && text.contains("xmpp.server"), "{text}");
}

// --- Starting and stopping ----------------------------------------------------------------------

/// A running server in a folder of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) config: PathBuf,
    folder: Folder,
    pub(crate) http: SocketAddr,
    sip: SocketAddr,
    token: Option<&'static str>,
}

pub(crate) const TOKEN: &str = "open sesame";

fn free_port() -> u16 {
    // Free for both, as SIP wants it.
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn configuration(folder: &Folder, http: u16, sip: u16, token: Option<&str>) -> String {
    let token = token.map(|token| format!("token = {token:?}\n")).unwrap_or_default();
    let store = folder.0.join("store.db");
    // Nobody listens where the XMPP server should be.
    format!(
        "[xmpp]\ndomain = \"rooms.example.org\"\nserver = \"127.0.0.1:9\"\nsecret = \"s\"\n\
         [sip]\ndomain = \"conf.example.org\"\nauth = \"open\"\n\
         listen = [\"udp:127.0.0.1:{sip}\", \"tcp:127.0.0.1:{sip}\"]\n\
         [media]\nworkers = 1\n[store]\nurl = \"sqlite:{}\"\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\n{token}",
        store.display()
    )
}

/// What it logs goes to a file beside its configuration.
fn run(config: &Path) -> Child {
    // A limit on files is to fail writes, and not to end who writes.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; exec \"$0\" run --config \"$1\"",
        env!("CARGO_BIN_EXE_cusaxd"),
    ]);
    let log = fs::File::options().create(true).append(true).open(config.with_file_name("log"));
    command.arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
    for (name, _) in
        env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CUSAXD_"))
    {
        command.env_remove(name);
    }
    command.spawn().unwrap()
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(Some(TOKEN))
    }

    pub(crate) fn start_with(token: Option<&'static str>) -> Self {
        let folder = Folder::new();
        let store = format!("sqlite:{}", folder.0.join("store.db").display());
        Self::start_on(folder, token, &store)
    }

    fn start_on(folder: Folder, token: Option<&'static str>, store: &str) -> Self {
        let (http, sip) = (free_port(), free_port());
        let text = configuration(&folder, http, sip, token);
        let old = format!("sqlite:{}", folder.0.join("store.db").display());
        let config = folder.write("cusaxd.toml", &text.replace(&old, store));
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = run(&config);
        let mut server = Self { child, config, folder, http: at(http), sip: at(sip), token };
        server.answers();
        server
    }

    fn answers(&mut self) {
        until("the server answers", || {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself");
            TcpStream::connect(self.http).is_ok()
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it, and gives the exit code if it ended by itself.
    pub(crate) fn end(&mut self, by: Signal) -> Option<i32> {
        self.signal(by);
        until("the server ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }

    fn start_again(&mut self) {
        self.child = run(&self.config);
        self.answers();
    }

    /// A request with what it needs to be let in.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let token = self.token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        self.ask_with(method, path, &token.unwrap_or_default(), body.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    pub(crate) fn ask_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let host = match headers.contains("Host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.http),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        // On a machine with too much to do, a connection may end before its request was read.
        let mut answers = (0..3).map(|_| self.exchange(head.as_bytes(), body));
        let answer = answers.find(|answer| !answer.is_empty());
        Answer::read(&answer.unwrap_or_else(|| panic!("no answer to {method} {path}")))
    }

    fn exchange(&self, head: &[u8], body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head).unwrap();
        // Who is refused for the size of a body may be so before it is sent.
        drop(stream.write_all(body));
        let mut text = vec![];
        if let Err(why) = stream.read_to_end(&mut text) {
            assert_eq!(why.kind(), ErrorKind::ConnectionReset, "the answer ends otherwise");
        }
        String::from_utf8(text).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {text:?}"));
        Self { status: status.parse().unwrap(), head: head.to_lowercase(), body: body.to_owned() }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// The status, with a JSON body that says why.
    #[track_caller]
    fn refuses(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        let why = self.json();
        assert!(why["error"].as_str().is_some_and(|why| !why.is_empty()), "{self:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for a program that has its own clock")]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_cannot_start_says_so_and_ends() {
    let folder = Folder::new();
    let (http, sip) = (free_port(), free_port());
    let good = configuration(&folder, http, sip, None);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = |address: SocketAddr| format!("127.0.0.1:{}", address.port());
    let (tcp, udp) = (port(taken.local_addr().unwrap()), port(taken_udp.local_addr().unwrap()));
    folder.write("text.db", "this is no database, and long enough not to be taken for a new one");
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let store = format!("sqlite:{}", folder.0.join("store.db").display());
    for (text, code, words) in [
        (replaced("[http]", "[htp]"), 2, "htp"),
        (replaced(&store, "sqlite:/nonexistent/x.db"), 1, "/nonexistent/x.db"),
        (replaced("store.db", "text.db"), 1, "text.db"),
        (
            replaced(&format!("listen = \"127.0.0.1:{http}\""), &format!("listen = \"{tcp}\"")),
            1,
            &tcp,
        ),
        (replaced(&format!("tcp:127.0.0.1:{sip}"), &format!("tcp:{tcp}")), 1, &tcp),
        (replaced(&format!("udp:127.0.0.1:{sip}"), &format!("udp:{udp}")), 1, &udp),
    ] {
        let config = folder.write("x.toml", &text);
        let output = cusaxd().args(["run", "--config"]).arg(&config).output().unwrap();
        let (ended, said) = said(output);
        assert_eq!(ended, Some(code), "{text}\n{said}");
        assert!(said.contains(words), "{said} lacks {words}");
    }
}

#[test]
fn stops_when_asked() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start();
        // A reload is no reason to stop.
        server.signal(Signal::SIGHUP);
        assert_eq!(server.get("/health/live").status, 200);
        assert_eq!(server.end(signal), Some(0), "{signal}");
    }
}

// --- HTTP ---------------------------------------------------------------------------------------

#[test]
fn tells_its_metrics_and_health() {
    let server = Server::start();
    let live = server.ask_with("GET", "/health/live", "", b"");
    assert_eq!((live.status, live.json()["media"].clone()), (200, json!("ok")));
    let ready = server.ask_with("GET", "/health/ready", "", b"");
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.json(),
        json!({
            "status": "down", "xmpp": "down", "sip": "ok", "media": "ok", "store": "ok",
            "draining": false,
        })
    );

    let metrics = server.ask_with("GET", "/metrics", "", b"");
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    let mut names = vec![];
    for line in metrics.body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (kind, rest) = comment.split_once(' ').unwrap();
            let (name, text) = rest.split_once(' ').unwrap();
            let kinds = ["counter", "gauge", "histogram"];
            assert!(kind == "HELP" || (kind == "TYPE" && kinds.contains(&text)), "{line}");
            assert!(name.starts_with("cusax_"), "{line}");
            names.push(name.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap_or_else(|why| panic!("{line}: {why}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(names.iter().any(|known| name.starts_with(known.as_str())), "{line}");
        assert!(labels.ends_with('}'), "{line}");
        assert!(!["room=", "user=", "jid="].iter().any(|label| labels.contains(label)), "{line}");
    }
    for promised in [
        "rooms",
        "people",
        "call_legs",
        "xmpp_component_up",
        "stanzas_total",
        "sip_requests_total",
        "sip_responses_total",
        "subscriptions",
        "mirror_seconds",
        "mirror_divergence",
        "mix_tick_seconds",
        "mix_late_ticks_total",
        "encodes_total",
        "forwarded_frames_total",
        "rtp_packets_total",
        "rtp_lost_total",
        "concealed_frames_total",
        "fec_frames_total",
        "jitter_buffer_seconds",
        "stress",
        "build_info",
    ] {
        assert!(names.contains(&format!("cusax_{promised}")), "cusax_{promised} is missing");
    }
}

/// What a service manager is told, in its order (sd_notify(3)).
#[test]
fn a_service_manager_is_told_how_it_goes() {
    let folder = Folder::new();
    let path = folder.0.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let (http, sip) = (free_port(), free_port());
    let config = folder.write("cusaxd.toml", &configuration(&folder, http, sip, None));
    let mut child = cusaxd()
        .args(["run", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "30000000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let signal = |signal| kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    // The next thing that is told, and how often it was told before that it is alive.
    let next = || {
        let mut alive = 0;
        loop {
            let mut buffer = [0; 1_024];
            let length = manager.recv(&mut buffer).expect("it tells in time");
            match std::str::from_utf8(&buffer[..length]).unwrap().trim_end() {
                "WATCHDOG=1" => alive += 1,
                told => break (told.replace('\n', " "), alive),
            }
        }
    };
    assert_eq!(next(), ("READY=1 STATUS=ready".to_owned(), 0));
    TcpStream::connect((Ipv4Addr::LOCALHOST, http)).expect("it is ready");
    let mut buffer = [0; 1_024];
    let length = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"WATCHDOG=1\n", "it is alive");
    signal(Signal::SIGHUP);
    let (told, _) = next();
    assert!(told.starts_with("RELOADING=1 MONOTONIC_USEC="), "{told}");
    assert_eq!(next().0, "READY=1 STATUS=ready");
    // A file that is wrong is no reason to wait for ever.
    fs::write(&config, "[xmpp").unwrap();
    signal(Signal::SIGHUP);
    assert!(next().0.starts_with("RELOADING=1 "));
    assert_eq!(next().0, "READY=1 STATUS=ready");
    signal(Signal::SIGTERM);
    assert_eq!(next().0, "STOPPING=1 EXTEND_TIMEOUT_USEC=32000000");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The unit is one that systemd takes, and leaves the server little to break.
#[test]
fn the_unit_is_tight() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/cusaxd.service");
    let analyze = |arguments: &[&str]| {
        Command::new("systemd-analyze").args(arguments).arg(unit).output().map(said)
    };
    let rated = match analyze(&["security", "--offline=true", "--threshold=15"]) {
        Ok(rated) => rated,
        Err(why) if why.kind() == ErrorKind::NotFound && env::var_os("CI").is_none() => return,
        Err(why) => panic!("systemd-analyze: {why}"),
    };
    assert_eq!(rated.0, Some(0), "the exposure is above 1.5: {}", rated.1);
}

#[test]
fn the_api_is_for_who_has_the_token() {
    let server = Server::start();
    let get = |headers: &str| server.ask_with("GET", "/api/v1/rooms", headers, b"");
    assert_eq!(get(&format!("Authorization: Bearer {TOKEN}\r\n")).status, 200);
    for headers in [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        "Authorization: Bearer wrong\r\n".to_owned(),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("X-Token: {TOKEN}\r\n"),
    ] {
        let refused = get(&headers);
        refused.refuses(401);
        assert!(refused.head.contains("www-authenticate: bearer"), "{refused:?}");
    }
    // Not even which paths there are is told to others.
    for (method, path) in
        [("GET", "/api/v1/none"), ("PATCH", "/api/v1/rooms"), ("GET", "/api/v1/events")]
    {
        server.ask_with(method, path, "", b"").refuses(401);
    }
}

/// Who has the second token sees everything and changes nothing, by whatever way.
#[test]
fn the_token_for_reading_reads() {
    let mut server = Server::start();
    let token = format!("token = {TOKEN:?}\n");
    let both = format!("{token}read_token = \"look\"\n");
    let text = fs::read_to_string(&server.config).unwrap().replace(&token, &both);
    fs::write(&server.config, text).unwrap();
    server.signal(Signal::SIGHUP);
    let look = "Authorization: Bearer look\r\n";
    let get = |path: &str| server.ask_with("GET", path, look, b"").status;
    until("the second token is known", || get("/api/v1/rooms") == 200);
    assert_eq!(server.ask("PUT", "/api/v1/rooms/cave", "").status, 200);
    for path in ["/api/v1/rooms/cave", "/api/v1/users", "/api/v1/openapi.json"] {
        assert_eq!(get(path), 200, "{path}");
    }
    for (method, path) in [
        ("PUT", "/api/v1/rooms/cellar"),
        ("DELETE", "/api/v1/rooms/cave"),
        ("POST", "/api/v1/rooms/cave/lock"),
        ("POST", "/api/v1/announce"),
        ("PATCH", "/api/v1/none"),
    ] {
        let refused = server.ask_with(method, path, look, b"{}");
        refused.refuses(403);
        assert_eq!(refused.json()["error"], "this token may only read", "{method} {path}");
        let challenge = "www-authenticate: bearer error=\"insufficient_scope\"";
        assert!(refused.head.contains(challenge), "{refused:?}");
    }
    let wrong = server.ask_with("GET", "/api/v1/rooms", "Authorization: Bearer no\r\n", b"");
    assert!(wrong.head.contains("www-authenticate: bearer error=\"invalid_token\""), "{wrong:?}");
    let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode("me:look"));
    assert_eq!(server.ask_with("GET", "/console", &basic, b"").status, 200);

    // And so at the command line.
    server.token = Some("look");
    assert!(done(&server, &["room", "list"]).contains("cave"));
    let refused = operate(&server, &["room", "lock", "cave"]);
    assert_eq!((refused.0, refused.2.as_str()), (Some(1), "cusaxd: this token may only read\n"));
    server.token = Some(TOKEN);
    assert_eq!(server.get("/api/v1/rooms/cave").json()["locked"], false);
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
}

/// Who changed what, from where, and what came of it: in the log and in a file that others rotate.
#[test]
fn what_operators_change_is_written_down() {
    let mut server = Server::start();
    let file = server.folder.0.join("audit.jsonl");
    let text = fs::read_to_string(&server.config).unwrap();
    let text = text.replace("[http]\n", "[http]\nread_token = \"look\"\n");
    let text = format!("{text}[log]\naudit_file = {:?}\n", file.to_str().unwrap());
    fs::write(&server.config, text).unwrap();
    server.signal(Signal::SIGHUP);
    until("the file is there", || file.exists());
    let entries = |file: &Path| -> Vec<Value> {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    server.get("/api/v1/rooms");
    server.ask("PUT", "/api/v1/rooms/cave", "{\"password\": \"open\", \"history\": 3}");
    done(&server, &["room", "lock", "cave"]);
    server.ask("POST", "/api/v1/rooms/cave/people/p9/kick", "{\"reason\": \"noise\"}");
    server.ask_with("DELETE", "/api/v1/rooms/cave", "Authorization: Bearer look\r\n", b"");
    until("all is written", || entries(&file).len() >= 4);
    let written = entries(&file);
    let told: Vec<_> = written
        .iter()
        .map(|it| {
            assert!(it["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{it}");
            assert!(it["at"].as_str().unwrap().ends_with('Z'), "{it}");
            [&it["by"], &it["via"], &it["operation"], &it["args"], &it["status"], &it["error"]]
                .map(Value::to_string)
                .join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            r#""http.token" "http" "setRoom" {"history":3,"password":"(secret)","room":"cave"} 200 null"#,
            r#""http.token" "cli" "lockRoom" {"room":"cave"} 200 null"#,
            r#""http.token" "http" "kick" {"person":"p9","reason":"noise","room":"cave"} 404 "nobody by that number is in the room""#,
            r#""http.read_token" "http" "destroyRoom" {"path":"/rooms/cave"} 403 "this token may only read""#,
        ]
    );
    let log = fs::read_to_string(server.folder.0.join("log")).unwrap();
    let line = log.lines().find(|line| line.contains("operation=\"lockRoom\"")).unwrap();
    assert!(
        line.contains(" INFO audit: asked by=\"http.token\" via=\"cli\" from=127.0.0.1:"),
        "{line}"
    );
    assert!(!log.contains("\"open\""), "{log}");

    // Rotated: the old file is left, and a new one begun.
    let old = server.folder.0.join("audit.1");
    fs::rename(&file, &old).unwrap();
    server.signal(Signal::SIGHUP);
    until("there is a new file", || file.exists());
    server.ask("POST", "/api/v1/rooms/cave/unlock", "");
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
    assert_eq!((entries(&old).len(), entries(&file).len()), (4, 1));
}

/// Without a token, a page of another site in the operator's browser is not the operator.
#[test]
fn clients_are_told_what_to_set_up() {
    let mut server = Server::start();
    let user = json!({ "aor": "sip:alice@conf.example.org", "name": "Alice", "password": "open" });
    assert_eq!(server.ask("PUT", "/api/v1/users/alice@example.org", &user.to_string()).status, 200);
    let basic = |name: &str, password: &str| {
        format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{password}")))
    };
    let right = basic("alice", "open");
    let get =
        |server: &Server, path: &str, headers: &str| server.ask_with("GET", path, headers, b"");

    let json = get(&server, "/provision", &right);
    assert_eq!((json.status, &json.json()["xmpp"]["jid"]), (200, &json!("alice@example.org")));
    assert!(json.head.contains("cache-control: no-store"), "{}", json.head);
    for (path, headers, expected) in [
        ("/provision?format=linphone", "", "lpconfig.xsd"),
        ("/provision?format=jitsi", "", "cusax.XMPP_ACCOUNT_ID=acc7081xmpp"),
        ("/provision", "Accept: application/xml\r\n", "lpconfig.xsd"),
        ("/provision", "User-Agent: Linphone/5.1\r\n", "lpconfig.xsd"),
    ] {
        let answer = get(&server, path, &format!("{right}{headers}"));
        assert_eq!(answer.status, 200, "{path} {headers}");
        assert!(answer.body.contains(expected), "{path} {headers}: {}", answer.body);
    }
    // As Jitsi sends what it asked the person for.
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let posted =
        |body: &[u8]| server.ask_with("POST", "/provision?format=jitsi", form, body).status;
    assert_eq!(posted(b"username=alice&password=open&uuid=1"), 200);
    assert_eq!(posted(b"username=alice&password=wrong"), 401);
    assert_eq!(posted(b""), 401);
    assert_eq!(posted(&vec![b'a'; 70_000]), 413);

    for (path, headers, status) in [
        ("/provision", String::new(), 401),
        ("/provision", basic("alice", "wrong"), 401),
        ("/provision", format!("Authorization: Bearer {TOKEN}\r\n"), 401),
        ("/provision?format=vcard", right.clone(), 400),
        (
            "/provision",
            format!("{right}X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"),
            403,
        ),
        (
            "/provision",
            format!("{right}X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n"),
            200,
        ),
    ] {
        let answer = get(&server, path, &headers);
        assert_eq!(answer.status, status, "{path} {headers}: {answer:?}");
        assert_eq!(status == 401, answer.head.contains("www-authenticate: basic"), "{answer:?}");
    }
    let log = || fs::read_to_string(server.folder.0.join("log")).unwrap();
    assert!(!log().contains("open") && !log().contains("wrong"), "{}", log());

    let text = fs::read_to_string(&server.config).unwrap() + "[provision]\nenabled = false\n";
    fs::write(&server.config, text).unwrap();
    server.signal(Signal::SIGHUP);
    until("it is switched off", || get(&server, "/provision", &right).status == 404);
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
}

#[test]
fn without_a_token_the_api_is_for_this_machine() {
    let server = Server::start_with(None);
    let ask = |headers: &str| server.ask_with("POST", "/api/v1/rooms/x/lock", headers, b"").status;
    let port = server.http.port();
    assert_eq!(ask(""), 404, "let in, and there is no such room");
    assert_eq!(ask(&format!("Host: localhost:{port}\r\n")), 404);
    assert_eq!(ask(&format!("Host: [::1]:{port}\r\n")), 404);
    assert_eq!(ask(&format!("Origin: http://{}\r\n", server.http)), 404);
    for headers in [
        "Origin: https://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        format!("Origin: http://127.0.0.1:{}\r\n", port ^ 1),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
        "Host: \r\n".to_owned(),
    ] {
        assert_eq!(ask(&headers), 403, "{headers}");
    }
}

#[test]
fn bad_requests_get_clear_answers() {
    let server = Server::start();
    let check = |method: &str, path: &str, body: &str, status: u16| {
        server.ask(method, path, body).refuses(status);
    };
    check("GET", "/none", "", 404);
    check("POST", "/metrics", "", 405);
    check("GET", "/api/v1/none", "", 404);
    check("PATCH", "/api/v1/rooms", "", 405);
    check("GET", "/api/v1/rooms/none", "", 404);
    check("GET", "/api/v1/rooms/a%20b", "", 400);
    check("GET", "/api/v1/rooms/%00", "", 400);
    check("DELETE", "/api/v1/rooms/none", "", 404);
    check("PUT", "/api/v1/rooms/x", "{", 400);
    check("PUT", "/api/v1/rooms/x", "[]", 400);
    check("PUT", "/api/v1/rooms/x", &"[".repeat(10_000), 400);
    check("PUT", "/api/v1/rooms/x", r#"{"colour":"red"}"#, 400);
    check("PUT", "/api/v1/rooms/x", r#"{"max_users":-1}"#, 400);
    check("PUT", "/api/v1/rooms/x", r#"{"max_users":0}"#, 400);
    check("PUT", "/api/v1/rooms/x", r#"{"moderated":"yes"}"#, 400);
    check("GET", "/api/v1/rooms/x", "", 404);
    check("POST", "/api/v1/rooms/x/people/p1/mute", "", 404);
    check("PUT", "/api/v1/users/a@example.org", "{}", 400);
    check("PUT", "/api/v1/users/a@example.org", r#"{"aor":"alice"}"#, 400);
    check("PUT", "/api/v1/users/a@example.org", r#"{"aor":"sip:a@x","role":"boss"}"#, 400);
    check("PUT", "/api/v1/users/@", r#"{"aor":"sip:a@x"}"#, 400);
    check("PUT", "/api/v1/users/a@example.org%2Fpc", r#"{"aor":"sip:a@x"}"#, 400);
    check("DELETE", "/api/v1/users/a@example.org", "", 404);
    assert_eq!(server.ask("PUT", "/api/v1/rooms/x", "{}").status, 200);
    check("POST", "/api/v1/rooms/x/people/p1/mute", "", 404);
    check("POST", "/api/v1/rooms/x/people/1/mute", "", 404);
    check("POST", "/api/v1/rooms/x/people/p1/dance", "", 404);
    check("POST", "/api/v1/rooms/x/people/p1/kick", r#"{"reason":5}"#, 400);
    let huge = format!(r#"{{"name":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(server.ask("PUT", "/api/v1/rooms/x", &huge).status, 413);
    let long = format!("/api/v1/rooms/{}", "x".repeat(2_000));
    check("GET", &long, "", 400);
    assert_eq!(server.get("/api/v1/rooms").json()["rooms"].as_array().unwrap().len(), 1);
}

#[test]
fn what_operators_do_survives_a_restart_and_a_crash() {
    let mut server = Server::start();
    let put = |server: &Server, path: &str, body: Value| {
        let answer = server.ask("PUT", path, &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let alice =
        json!({ "aor": "sip:alice;x?y%25@conf.example.org", "name": "Alice", "password": "p" });
    let shown = put(&server, "/api/v1/users/alice@example.org", alice);
    assert_eq!(
        shown,
        json!({
            "jid": "alice@example.org", "aor": "sip:alice;x?y%25@conf.example.org",
            "name": "Alice", "password": true,
        })
    );
    let taken = json!({ "aor": "sip:alice;x?y%25@CONF.example.org:5070" }).to_string();
    server.ask("PUT", "/api/v1/users/bob@example.org", &taken).refuses(409);
    put(&server, "/api/v1/users/bob@example.org", json!({ "aor": "sip:bob@conf.example.org" }));
    put(&server, "/api/v1/users/eve@example.org", json!({ "aor": "sip:eve@conf.example.org" }));
    assert_eq!(server.ask("DELETE", "/api/v1/users/eve@example.org", "").status, 204);

    let settings = json!({ "name": "Garden", "moderated": true, "max_users": 5 });
    let room = put(&server, "/api/v1/rooms/garden", settings);
    assert_eq!(room["settings"]["name"], "Garden");
    assert_eq!(room["jid"], "garden@rooms.example.org");
    assert_eq!(room["uri"], "sip:garden@conf.example.org");
    put(&server, "/api/v1/rooms/gone", json!({}));
    assert_eq!(server.ask("DELETE", "/api/v1/rooms/gone", "").status, 204);
    // A room that nobody keeps and nobody is in is none.
    assert_eq!(server.ask("PUT", "/api/v1/rooms/brief", r#"{"persistent":false}"#).status, 204);
    server.get("/api/v1/rooms/brief").refuses(404);
    let locked = server.ask("POST", "/api/v1/rooms/garden/lock", "");
    assert_eq!((locked.status, &locked.json()["locked"]), (200, &json!(true)));
    // Changes name what changes.
    let room = put(&server, "/api/v1/rooms/garden", json!({ "password": "swordfish" }));
    assert_eq!(room["settings"]["password"], true);
    assert_eq!(room["settings"]["max_users"], 5);

    let without_time = |mut room: Value| {
        room.as_object_mut().unwrap().remove("since");
        room
    };
    let all = |server: &Server| {
        let room = server.get("/api/v1/rooms/garden").json();
        let users = server.get("/api/v1/users").json();
        let rooms = server.get("/api/v1/rooms").json();
        (without_time(room), users, rooms["rooms"].as_array().unwrap().len())
    };
    let before = all(&server);
    assert_eq!(before.1["users"].as_array().unwrap().len(), 2);
    assert_eq!(before.2, 1);
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
    server.start_again();
    assert_eq!(all(&server), before);

    let unlocked = server.ask("POST", "/api/v1/rooms/garden/unlock", "");
    assert_eq!(unlocked.json()["locked"], false);
    // At once: what was acknowledged is kept.
    assert_eq!(server.end(Signal::SIGKILL), None);
    server.start_again();
    assert_eq!(server.get("/api/v1/rooms/garden").json()["locked"], false);
    assert!(server.folder.0.join("store.db").exists());
}

/// What the store does not take waits, up to a limit; then what would have to be kept is refused, and
/// the rest goes on. When the store is back, it has all that was accepted and nothing else.
fn fails_and_comes_back(
    mut server: Server,
    fail: impl FnOnce(&Server),
    mend: impl FnOnce(&Server),
) {
    let description = |number: usize| format!("{number} {}", "x".repeat(8_000));
    let put = |server: &Server, number: usize| {
        let body = json!({ "description": description(number) }).to_string();
        server.ask("PUT", "/api/v1/rooms/garden", &body).status
    };
    let user = r#"{"aor":"sip:alice@conf.example.org","password":"p"}"#;
    assert_eq!(put(&server, 0), 200);
    assert_eq!(server.ask("PUT", "/api/v1/users/alice@example.org", user).status, 200);
    fail(&server);
    let most = 2_500;
    let refused = (1..most).find(|number| put(&server, *number) == 503).expect("it has a limit");
    assert!(refused > 100, "only {refused} changes wait");
    assert_eq!(server.get("/health/ready").json()["store"], "down");
    for (method, path, body) in [
        ("PUT", "/api/v1/rooms/attic", "{}"),
        ("DELETE", "/api/v1/rooms/garden", ""),
        ("POST", "/api/v1/rooms/garden/lock", ""),
        ("PUT", "/api/v1/users/bob@example.org", r#"{"aor":"sip:bob@conf.example.org"}"#),
        ("DELETE", "/api/v1/users/alice@example.org", ""),
    ] {
        server.ask(method, path, body).refuses(503);
    }
    let accepted = |server: &Server| {
        assert_eq!(server.get("/api/v1/rooms").json()["rooms"].as_array().unwrap().len(), 1);
        assert_eq!(server.get("/api/v1/users").json()["users"].as_array().unwrap().len(), 1);
        let room = server.get("/api/v1/rooms/garden").json();
        assert_eq!(room["locked"], false);
        room["settings"]["description"].as_str().unwrap() == description(refused - 1)
    };
    assert!(accepted(&server), "what was refused changed nothing");
    mend(&server);
    until("the store is back", || server.get("/health/ready").json()["store"] == "ok");
    assert_eq!(server.end(Signal::SIGKILL), None);
    server.start_again();
    assert!(accepted(&server), "what was accepted is kept");
    assert_eq!(put(&server, most), 200);
    let log = fs::read_to_string(server.config.with_file_name("log")).unwrap();
    assert!(log.contains("too many changes wait for the store"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
fn a_full_disk_refuses_what_cannot_be_kept_and_keeps_what_was() {
    let limit = |server: &Server, bytes: &str| {
        let process = server.child.id().to_string();
        let limit = format!("--fsize={bytes}:unlimited");
        let done = Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap();
        assert!(done.success());
    };
    // The log is a file on the same disk: only what has to be said is to be in it.
    let server = Server::start();
    let text = fs::read_to_string(&server.config).unwrap() + "[log]\nlevel = \"warn\"\n";
    fs::write(&server.config, text).unwrap();
    server.signal(Signal::SIGHUP);
    let log = server.folder.0.join("log");
    until("it is read", || fs::read_to_string(&log).unwrap().contains("read again"));
    fails_and_comes_back(
        server,
        |server| limit(server, "65536"),
        |server| limit(server, "unlimited"),
    );
}

#[test]
fn a_database_that_is_away_refuses_what_cannot_be_kept_and_keeps_what_was() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database("cusaxd");
    let server = Server::start_on(Folder::new(), Some(TOKEN), &url);
    // A second one on the same database does not come up, and disturbs nobody.
    let folder = Folder::new();
    let text = configuration(&folder, free_port(), free_port(), None);
    let store = format!("sqlite:{}", folder.0.join("store.db").display());
    let second = folder.write("second.toml", &text.replace(&store, &url));
    let output = cusaxd().args(["run", "--config"]).arg(&second).output().unwrap();
    let (code, text) = said(output);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("in use by another cusaxd") && !text.contains(PASSWORD), "{text}");
    fails_and_comes_back(server, |_| postgres.stop("immediate"), |_| postgres.resume());
}

#[test]
fn events_are_told_as_they_happen() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        server.http
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    let mut read_until = |words: &str| {
        let mut buffer = [0; 4_096];
        while !text.contains(words) {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        text.clone()
    };
    assert!(read_until("\r\n\r\n").contains("text/event-stream"));
    server.ask("PUT", "/api/v1/rooms/garden", "{}");
    let told = read_until("room-configured");
    assert!(told.contains("event: room-created\ndata: {\"room\":\"garden\"}\n\n"), "{told}");
    server.ask("DELETE", "/api/v1/rooms/garden", "");
    read_until("room-destroyed");
}

// --- SIP ----------------------------------------------------------------------------------------

fn options(transport: &str, from: SocketAddr) -> String {
    format!(
        "OPTIONS sip:conf.example.org SIP/2.0\r\nVia: SIP/2.0/{transport} {from};branch=z9hG4bK{};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@example.org>;tag=1\r\nTo: <sip:conf.example.org>\r\n\
         Call-ID: {}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        from.port(),
        from.port()
    )
}

/// A connection from an address of one's own.
fn connect_from(host: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((host, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// Asks over TCP, and gives the first line of the answer.
fn asks_over_tcp(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let from = stream.local_addr().unwrap();
    stream.write_all(options("TCP", from).as_bytes()).unwrap();
    let mut buffer = [0; 2_048];
    let length = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_configuration_is_read_again_while_the_server_runs() {
    let mut server = Server::start();
    let first = fs::read_to_string(&server.config).unwrap();
    let log = |server: &Server| fs::read_to_string(server.folder.0.join("log")).unwrap();
    let read_again = |server: &Server, text: &str, expected: &str| {
        fs::write(&server.config, text).unwrap();
        let before = log(server).len();
        server.signal(Signal::SIGHUP);
        let new = || log(server)[before..].to_owned();
        until("it is read again", || new().contains(expected));
        new()
    };
    let refused = |server: &Server| {
        let metrics = server.get("/metrics").body;
        metrics.lines().any(|line| line == "cusax_config_refused 1")
    };

    // What is not as it was is told, without secrets; what can be is in force, the rest is not.
    let second = first
        .replace("auth = \"open\"", "auth = \"digest\"")
        .replace(TOKEN, "another token")
        .replace("workers = 1", "workers = 2")
        + "[log]\nlevel = \"debug\"\n";
    let told = read_again(&server, &second, "read again");
    for expected in [
        "changed key=\"http.token\" old=(secret) new=(secret)",
        "changed key=\"sip.auth\" old=\"open\" new=\"digest\"",
        "changed key=\"log.level\" old=\"info\" new=\"debug\"",
        "WARN cusaxd::io: changed, and needs a restart key=\"media.workers\" old=1 new=2",
        "live=3 restart=1",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    assert!(!told.contains(TOKEN) && !told.contains("another token"), "{told}");
    assert_eq!(server.get("/api/v1/rooms").status, 401);
    server.token = Some("another token");
    assert_eq!(server.get("/api/v1/rooms").status, 200);

    // A bad file is refused whole: the good half of it is not in force either.
    let bad = second.replace("another token", "a third").replace("digest", "maybe");
    let told = read_again(&server, &bad, "refused");
    assert!(told.contains("ERROR") && told.contains("maybe"), "{told}");
    assert_eq!(server.get("/api/v1/rooms").status, 200);
    assert!(refused(&server));

    // With nothing changed since, what needs a restart still does.
    let told = read_again(&server, &second, "read again");
    assert!(told.contains("live=0 restart=1"), "{told}");
    assert!(!refused(&server));
    let told = read_again(&server, &first, "read again");
    assert!(told.contains("live=3 restart=0"), "{told}");
    server.token = Some(TOKEN);
    assert_eq!(server.get("/api/v1/rooms").status, 200);

    // What a file holds counts, whatever its name.
    let secret = server.folder.write("token", "from a file");
    let line = format!("token_file = {:?}", secret.to_str().unwrap());
    let third = first.replace(&format!("token = {TOKEN:?}"), &line);
    read_again(&server, &third, "live=2 restart=0");
    server.folder.write("token", "from the same file");
    let told = read_again(&server, &third, "live=1 restart=0");
    assert!(told.contains("http.token_file") && !told.contains("from"), "{told}");
    server.token = Some("from the same file");
    assert_eq!(server.get("/api/v1/rooms").status, 200);
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
}

/// SIGTERM waits for the call that is up; a second one does not.
#[test]
fn asked_twice_to_stop_it_does_not_wait_for_calls() {
    let mut server = Server::start();
    assert_eq!(server.ask("PUT", "/api/v1/rooms/cave", "{}").status, 200);
    let phone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    phone.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = phone.local_addr().unwrap();
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    let invite = format!(
        "INVITE sip:cave@conf.example.org SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKi;rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@example.org>;tag=1\r\nTo: <sip:cave@conf.example.org>\r\n\
         Call-ID: stop\r\nCSeq: 1 INVITE\r\nContact: <sip:a@{at}>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    phone.send_to(invite.as_bytes(), server.sip).unwrap();
    let mut buffer = [0; 4_096];
    until("the call is taken", || {
        let length = phone.recv(&mut buffer).unwrap();
        buffer[..length].starts_with(b"SIP/2.0 200 ")
    });
    server.signal(Signal::SIGTERM);
    until("it drains", || server.get("/health/ready").json()["draining"] == true);
    // It has been told to stop, so that no operator takes that back.
    server.ask("DELETE", "/api/v1/drain", "").refuses(409);
    assert!(server.child.try_wait().unwrap().is_none(), "a call is up");
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
}

#[test]
fn a_crowd_of_idle_connections_keeps_nobody_else_out() {
    let server = Server::start();
    let mut crowd: Vec<_> = (0..200).map(|_| connect_from([127, 0, 0, 9], server.sip)).collect();
    assert_eq!(asks_over_tcp(connect_from([127, 0, 0, 1], server.sip)), "SIP/2.0 200 OK");
    // Those beyond the share of one source are turned away; the others are served.
    let mut closed = 0;
    for stream in &mut crowd {
        stream.set_nonblocking(true).unwrap();
    }
    until("a hundred are turned away", || {
        crowd.retain_mut(|stream| {
            let gone = match stream.read(&mut [0]) {
                Ok(length) => length == 0,
                Err(why) => why.kind() != ErrorKind::WouldBlock,
            };
            closed += usize::from(gone);
            !gone
        });
        closed >= 100
    });
    assert_eq!((closed, crowd.len()), (100, 100));
    let served = crowd.pop().unwrap();
    served.set_nonblocking(false).unwrap();
    assert_eq!(asks_over_tcp(served), "SIP/2.0 200 OK");
}

#[test]
fn what_is_no_sip_harms_nobody() {
    let server = Server::start();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let long = "x".repeat(60_000);
    for noise in [
        "",
        "\r\n\r\n",
        "\0",
        "GET / HTTP/1.1\r\n\r\n",
        "SIP/2.0 200 OK\r\n\r\n",
        "INVITE sip:x SIP/2.0\r\n\r\n",
        &long,
    ] {
        udp.send_to(noise.as_bytes(), server.sip).unwrap();
        let mut stream = TcpStream::connect(server.sip).unwrap();
        drop(stream.write_all(noise.as_bytes()));
    }
    udp.send_to(options("UDP", udp.local_addr().unwrap()).as_bytes(), server.sip).unwrap();
    let mut buffer = [0; 65_536];
    loop {
        let length = udp.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        if text.contains("CSeq: 1 OPTIONS") {
            assert!(text.starts_with("SIP/2.0 200 "), "{text}");
            break;
        }
    }
    assert_eq!(asks_over_tcp(TcpStream::connect(server.sip).unwrap()), "SIP/2.0 200 OK");
    let metrics = server.get("/metrics").body;
    let value = |series: &str| {
        let line = metrics.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(value("cusax_sip_requests_total{direction=\"in\",method=\"OPTIONS\"}"), 2);
    assert!(value("cusax_sip_responses_total{code=\"200\"}") >= 2);
}

// --- Asking a running server -----------------------------------------------------------------------

/// `cusaxd ARGUMENTS` with a server's address and token: exit code, output, errors.
fn operate(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = cusaxd();
    command.args(arguments).arg("--url").arg(format!("http://{}", server.http));
    command.envs(server.token.map(|token| ("CUSAXD_TOKEN", token)));
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[track_caller]
fn done(server: &Server, arguments: &[&str]) -> String {
    let (code, out, errors) = operate(server, arguments);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    out
}

#[test]
fn operators_make_change_and_end_rooms_at_the_command_line() {
    let server = Server::start();
    let heads = "ROOM  TITLE  PEOPLE  CHAT  AUDIO  BOTH  LOCKED  PERSISTENT  SINCE\n";
    assert_eq!(done(&server, &["room", "list"]), heads);
    let secret = server.folder.write("secret", "open sesame\n");
    let made = done(
        &server,
        &[
            "room",
            "create",
            "lounge",
            "--name",
            "The lounge",
            "--moderated",
            "--public=false",
            "--max-users",
            "9",
            "--whois",
            "anyone",
            "--password-file",
            secret.to_str().unwrap(),
        ],
    );
    for line in [
        "title           The lounge",
        "uri             sip:lounge@conf.example.org",
        "locked          no",
        "moderated       yes",
        "public          no",
        "max_users       9",
        "whois           anyone",
        "password        yes",
        "persistent      yes",
    ] {
        assert!(made.lines().any(|it| it == line), "{line} is not in\n{made}");
    }
    // What is not given stays; what is given as nothing goes.
    done(
        &server,
        &["room", "set", "lounge", "--moderated=false", "--max-users=0", "--no-password"],
    );
    let room = server.get("/api/v1/rooms/lounge").json();
    assert_eq!(room["title"], "The lounge");
    assert_eq!(room["settings"]["moderated"], false);
    assert_eq!(room["settings"]["max_users"], Value::Null);
    assert_eq!(room["settings"]["password"], false);
    assert!(done(&server, &["room", "lock", "lounge"]).contains("locked          yes"));
    assert!(done(&server, &["room", "unlock", "lounge"]).contains("locked          no"));

    // For machines the answer as it is.
    let shown: Value =
        serde_json::from_str(&done(&server, &["room", "show", "lounge", "--json"])).unwrap();
    assert_eq!(shown, server.get("/api/v1/rooms/lounge").json());
    let calls: Value = serde_json::from_str(&done(&server, &["call", "--json", "list"])).unwrap();
    assert_eq!(calls, json!({ "calls": [] }));
    assert!(done(&server, &["call", "list", "lounge"]).starts_with("ROOM  PERSON  LEG "));

    assert_eq!(done(&server, &["room", "destroy", "lounge"]), "");
    let nobody = "there is no such room";
    for arguments in [
        &["room", "show", "lounge"][..],
        &["room", "destroy", "lounge"],
        &["room", "kick", "lounge", "p1"],
        &["call", "list", "lounge"],
    ] {
        let answer = operate(&server, arguments);
        assert_eq!(
            answer,
            (Some(1), String::new(), format!("cusaxd: {nobody}\n")),
            "{arguments:?}"
        );
    }
}

#[test]
fn operators_keep_the_directory_at_the_command_line() {
    let server = Server::start();
    let secret = server.folder.write("secret", "pw");
    let put = done(
        &server,
        &[
            "user",
            "put",
            "alice@example.org",
            "--aor",
            "sip:alice@conf.example.org",
            "--name",
            "Alice",
            "--password-file",
            secret.to_str().unwrap(),
        ],
    );
    let expected = "JID                SIP                         NAME   PASSWORD\n\
                    alice@example.org  sip:alice@conf.example.org  Alice  yes\n";
    assert_eq!(put, expected);
    assert_eq!(done(&server, &["user", "list"]), expected);
    done(&server, &["user", "put", "alice@example.org", "--name", "Al"]);
    let users = server.get("/api/v1/users").json();
    assert_eq!(users["users"][0]["name"], "Al");
    assert_eq!(users["users"][0]["password"], true);
    let (code, _, why) = operate(
        &server,
        &["user", "put", "bob@example.org", "--aor", "sip:alice@conf.example.org"],
    );
    assert_eq!(code, Some(1));
    assert!(why.starts_with("cusaxd: "), "{why}");
    assert_eq!(done(&server, &["user", "delete", "alice@example.org"]), "");

    // Standard input: one line, as it is typed or piped.
    let mut command = cusaxd();
    command.args(["user", "put", "bob@example.org", "--aor", "sip:bob@conf.example.org"]);
    command.args(["--password-file", "-", "--config"]).arg(&server.config);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_ref().unwrap().write_all(b"pw of bob\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "it does not wait for more than a line");
    let users = server.get("/api/v1/users").json();
    assert_eq!(users["users"][0]["password"], true, "{users}");

    let (code, _, why) = operate(&server, &["user", "delete", "alice@example.org"]);
    assert_eq!((code, why.as_str()), (Some(1), "cusaxd: no such user\n"));
}

#[test]
fn what_is_asked_wrongly_is_told_from_what_is_refused() {
    let server = Server::start();
    let empty = server.folder.write("empty", "\n");
    let empty = empty.to_str().unwrap();
    for (code, arguments, expected) in [
        (2, &["room"][..], "Usage"),
        (2, &["room", "show"], "<ROOM>"),
        (2, &["room", "set", "lounge", "--password", "x"], "--password"),
        (2, &["room", "set", "lounge", "--moderated=perhaps"], "perhaps"),
        (2, &["room", "set", "lounge", "--password-file", empty], "holds no password"),
        (2, &["room", "set", "lounge", "--password-file", "/nowhere"], "/nowhere"),
        (1, &["room", "set", "lounge", "--history", "501"], "break a limit"),
        (1, &["room", "show", "no such\nroom"], "not a name of a room"),
        (1, &["user", "put", "alice@example.org"], "aor: is missing"),
    ] {
        let (got, out, why) = operate(&server, arguments);
        assert_eq!(got, Some(code), "{arguments:?}: {why}");
        assert!(out.is_empty() && why.contains(expected), "{arguments:?}: {why}");
    }

    // Where the server is and what opens it may also come from its configuration.
    let list = |arguments: &[&str]| {
        said(cusaxd().args(["room", "list"]).args(arguments).output().unwrap())
    };
    let (url, config) = (format!("http://{}", server.http), server.config.to_str().unwrap());
    assert_eq!(list(&["--config", config]).0, Some(0));
    assert_eq!(list(&["--url", &url, "--token", server.token.unwrap()]).0, Some(0));
    for (arguments, code, expected) in [
        (&["--url", &url][..], 1, "a bearer token is needed"),
        (&["--url", &url, "--token", "wrong"], 1, "this token is none of ours"),
        (&["--config", config, "--token", "wrong"], 1, "this token is none of ours"),
        (&["--config", "/nowhere"], 2, "/nowhere"),
        (&["--url", "https://127.0.0.1"], 2, "no TLS"),
        (&["--url", &format!("http://127.0.0.1:{}", free_port())], 1, "127.0.0.1"),
    ] {
        let (got, said) = list(arguments);
        assert!(got == Some(code) && said.contains(expected), "{arguments:?}: {got:?} {said}");
    }
}
