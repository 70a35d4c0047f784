//! `cusaxd room`, `user` and `call`: what operators ask a running server, by its admin API.
//!
//! For people as tables, with `--json` as the API's own answer. Exit codes: 0 done, 1 a fault or
//! refused, 2 asked wrongly.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use axum::http::{Method, StatusCode};
use clap::{Args, Subcommand, ValueEnum};
use cusaxd::io::client::{Client, Failure};
use cusaxd::io::settings;
use serde_json::{Map, Value, json};

/// How to get at the server.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// Where the admin API is; else where the configuration says, else on this machine.
    #[arg(long, global = true, value_name = "URL", help_heading = "The server")]
    url: Option<String>,
    /// Its bearer token; other users of this machine can read arguments, so better in the environment.
    #[arg(
        long,
        global = true,
        help_heading = "The server",
        value_name = "TOKEN",
        env = "CUSAXD_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// The server's configuration, for address and token.
    #[arg(long, global = true, value_name = "FILE", help_heading = "The server")]
    config: Option<PathBuf>,
    /// Print the API's answer instead of a table.
    #[arg(long, global = true, help_heading = "The server")]
    json: bool,
}

/// What is to be done about rooms. ROOM is the part of the room's JID before the @; PERSON a number as in
/// p3, or a nick, JID or SIP address if only one person in the room has it.
#[derive(Debug, Subcommand)]
pub(super) enum RoomWish {
    /// All rooms.
    List,
    /// One room, and who is in it.
    Show {
        /// The room.
        room: String,
    },
    /// Make a room, or change settings of one that is there.
    #[command(visible_alias = "create")]
    Set {
        /// The room.
        room: String,
        #[command(flatten)]
        settings: Box<RoomSettings>,
    },
    /// Destroy a room; chats and calls in it end.
    Destroy {
        /// The room.
        room: String,
    },
    /// Let nobody new in.
    Lock {
        /// The room.
        room: String,
    },
    /// Let people in again.
    Unlock {
        /// The room.
        room: String,
    },
    /// Call somebody into a room; it does not wait for their answer.
    Dial {
        /// The room.
        room: String,
        /// A SIP or tel URI, as in sip:bob@example.org.
        uri: String,
    },
    /// Give up a call that nobody has answered.
    HangUp {
        /// The room.
        room: String,
        /// The call's number, as in d3.
        call: String,
    },
    /// Take someone out of the mix.
    Mute(Someone),
    /// Put someone back into the mix.
    Unmute(Someone),
    /// Throw someone out.
    Kick {
        #[command(flatten)]
        someone: Someone,
        /// Told to them and the room.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Throw someone out for good.
    Ban {
        #[command(flatten)]
        someone: Someone,
        /// Told to them and the room.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Someone in a room.
#[derive(Debug, Args)]
pub(super) struct Someone {
    /// The room.
    room: String,
    /// A number as in p3; or a nick, JID or SIP address that one person in the room has.
    person: String,
}

/// Settings of a room; what is not given stays.
#[derive(Debug, Args)]
pub(super) struct RoomSettings {
    /// Its natural name.
    #[arg(long)]
    name: Option<String>,
    /// What it is about.
    #[arg(long)]
    description: Option<String>,
    /// Newcomers have no voice.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    moderated: Option<bool>,
    /// Only members may enter.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    members_only: Option<bool>,
    /// A file with the password; - reads it from standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// No password any more.
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    /// How many people may be in; 0: as many as the server allows.
    #[arg(long, value_name = "N")]
    max_users: Option<u32>,
    /// It outlives its last occupant and a restart; so it is unless you say false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    persistent: Option<bool>,
    /// Listed.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    public: Option<bool>,
    /// Who sees real addresses.
    #[arg(long)]
    whois: Option<Whois>,
    /// Participants may change the subject.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    change_subject: Option<bool>,
    /// How many messages newcomers are told.
    #[arg(long, value_name = "N")]
    history: Option<u32>,
    /// What is said is archived, as long as the room is persistent.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    archive: Option<bool>,
    /// Who may send private messages.
    #[arg(long)]
    allow_pm: Option<Whisperers>,
    /// Members may invite others to a members-only room.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    allow_invites: Option<bool>,
    /// Who becomes a member by registering.
    #[arg(long)]
    registration: Option<Registration>,
    /// Whose presence is shown to the others: roles with commas between; empty: nobody's.
    #[arg(long, value_name = "ROLES")]
    presence_broadcast: Option<String>,
    /// Who may ask for the list of members: roles with commas between; empty: nobody.
    #[arg(long, value_name = "ROLES")]
    member_list: Option<String>,
    /// The language of what is said, as de or pt-BR; empty: not told.
    #[arg(long, value_name = "TAG")]
    lang: Option<String>,
    /// Seconds between two messages of one person; 0: any pace.
    #[arg(long, value_name = "SECONDS")]
    slow_mode_s: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Whisperers {
    Anyone,
    Participants,
    Moderators,
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Registration {
    /// Anyone.
    Open,
    /// Anyone, while nothing keeps strangers out.
    Unguarded,
    /// Whom an admin approves.
    Approval,
    /// Nobody.
    Closed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Whois {
    Moderators,
    Anyone,
}

/// What is to be done about users.
#[derive(Debug, Subcommand)]
pub(super) enum UserWish {
    /// Everyone in the directory.
    List,
    /// Put someone in, or change what is given.
    Put {
        /// Their bare JID.
        jid: String,
        /// Their SIP address; needed for who is new.
        #[arg(long, value_name = "SIP URI")]
        aor: Option<String>,
        /// Their name.
        #[arg(long)]
        name: Option<String>,
        /// A file with the password of their phone; - reads it from standard input.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Take someone out.
    Delete {
        /// Their bare JID.
        jid: String,
    },
    /// Make a link that tells their client what to set up: it opens once, within 15 minutes.
    Link {
        /// Their bare JID.
        jid: String,
    },
}

/// What is to be done about calls.
#[derive(Debug, Subcommand)]
pub(super) enum CallWish {
    /// All calls, or those of one room.
    List {
        /// The room.
        room: Option<String>,
    },
}

/// Does what is asked about rooms.
pub(super) fn rooms(wish: RoomWish, reach: Reach) -> ExitCode {
    operate(reach, async |client| {
        let command = async |method, path: &[&str]| {
            let room = client.ask(method, path, None).await?;
            Ok(Answer { text: show_room(&room), value: room })
        };
        match &wish {
            RoomWish::List => {
                let value = client.ask(Method::GET, &["rooms"], None).await?;
                Ok(Answer { text: table(&ROOMS, items(&value["rooms"])), value })
            }
            RoomWish::Show { room } => command(Method::GET, &["rooms", room]).await,
            RoomWish::Set { room, settings } => {
                let changes = changes(settings)?;
                let value = client.ask(Method::PUT, &["rooms", room], Some(&changes)).await?;
                Ok(Answer { text: show_room(&value), value })
            }
            RoomWish::Destroy { room } => command(Method::DELETE, &["rooms", room]).await,
            RoomWish::Lock { room } => command(Method::POST, &["rooms", room, "lock"]).await,
            RoomWish::Unlock { room } => command(Method::POST, &["rooms", room, "unlock"]).await,
            RoomWish::Dial { room, uri } => {
                let body = json!({ "uri": uri });
                let path = ["rooms", room, "dial"];
                let value = client.ask(Method::POST, &path, Some(&body)).await?;
                Ok(Answer { text: show_room(&value), value })
            }
            RoomWish::HangUp { room, call } => {
                command(Method::DELETE, &["rooms", room, "dial", call]).await
            }
            RoomWish::Mute(someone) => act(client, someone, "mute", None).await,
            RoomWish::Unmute(someone) => act(client, someone, "unmute", None).await,
            RoomWish::Kick { someone, reason } => {
                act(client, someone, "kick", reason.as_deref()).await
            }
            RoomWish::Ban { someone, reason } => {
                act(client, someone, "ban", reason.as_deref()).await
            }
        }
    })
}

/// Tells everyone something.
pub(super) fn announce(announcement: &str, subject: Option<&str>, reach: Reach) -> ExitCode {
    operate(reach, async |client| {
        let body = json!({ "announcement": announcement, "subject": subject });
        let value = client.ask(Method::POST, &["announce"], Some(&body)).await?;
        Ok(Answer { text: String::new(), value })
    })
}

/// Has the server go down in good order.
pub(super) fn drain(delay: Option<u64>, announcement: Option<&str>, reach: Reach) -> ExitCode {
    operate(reach, async |client| {
        let body = json!({ "delay": delay, "announcement": announcement });
        let value = client.ask(Method::POST, &["drain"], Some(&body)).await?;
        let (calls, until) = (&value["calls"], text(&value["until"]));
        Ok(Answer { text: format!("{calls} calls may go on until {until}\n"), value })
    })
}

/// Has it stay.
pub(super) fn undrain(reach: Reach) -> ExitCode {
    operate(reach, async |client| {
        let value = client.ask(Method::DELETE, &["drain"], None).await?;
        Ok(Answer { text: String::new(), value })
    })
}

/// Does what is asked about users.
pub(super) fn users(wish: UserWish, reach: Reach) -> ExitCode {
    operate(reach, async |client| match &wish {
        UserWish::List => {
            let value = client.ask(Method::GET, &["users"], None).await?;
            Ok(Answer { text: table(&USERS, items(&value["users"])), value })
        }
        UserWish::Put { jid, aor, name, password_file } => {
            let mut body = Map::new();
            body.extend(aor.as_ref().map(|aor| ("aor".to_owned(), json!(aor))));
            body.extend(name.as_ref().map(|name| ("name".to_owned(), json!(name))));
            if let Some(file) = password_file {
                body.insert("password".to_owned(), json!(password(file)?));
            }
            let body = Value::Object(body);
            let value = client.ask(Method::PUT, &["users", jid], Some(&body)).await?;
            Ok(Answer { text: table(&USERS, std::slice::from_ref(&value)), value })
        }
        UserWish::Delete { jid } => {
            let value = client.ask(Method::DELETE, &["users", jid], None).await?;
            Ok(Answer { text: String::new(), value })
        }
        UserWish::Link { jid } => {
            let value = client.ask(Method::POST, &["users", jid, "link"], None).await?;
            Ok(Answer { text: format!("{}\n", text(&value["path"])), value })
        }
    })
}

/// Does what is asked about calls.
pub(super) fn calls(wish: CallWish, reach: Reach) -> ExitCode {
    operate(reach, async |client| {
        let CallWish::List { room } = &wish;
        let mut rooms = vec![];
        match room {
            Some(room) => rooms.push(client.ask(Method::GET, &["rooms", room], None).await?),
            None => {
                let all = client.ask(Method::GET, &["rooms"], None).await?;
                let called = |room: &&Value| room["audio"] != 0 || room["both"] != 0;
                for room in items(&all["rooms"]).iter().filter(called) {
                    match client.ask(Method::GET, &["rooms", text(&room["name"])], None).await {
                        Ok(room) => rooms.push(room),
                        // It ended meanwhile, and its calls with it.
                        Err(Failure::Refused(StatusCode::NOT_FOUND, _)) => {}
                        Err(why) => return Err(why.into()),
                    }
                }
            }
        }
        let calls: Vec<Value> = rooms.iter().flat_map(calls_of).collect();
        Ok(Answer { text: table(&CALLS, &calls), value: json!({ "calls": calls }) })
    })
}

/// What there is to print.
struct Answer {
    text: String,
    value: Value,
}

/// Why it was not done.
enum Problem {
    /// The server refused, or there is none.
    Failed(String),
    /// It was asked wrongly.
    Wrong(String),
}

impl From<Failure> for Problem {
    fn from(why: Failure) -> Self {
        Self::Failed(why.to_string())
    }
}

fn operate(reach: Reach, wish: impl AsyncFnOnce(&Client) -> Result<Answer, Problem>) -> ExitCode {
    let Reach { url, token, config, json } = reach;
    let settings = match config.map(|file| settings::load(&file)).transpose() {
        Ok(settings) => settings,
        Err(bad) => return super::refuse(&bad),
    };
    let (configured, stored) = match settings {
        Some(settings) => (Some(settings.config.http.listen), settings.token),
        None => (None, None),
    };
    let url = url.unwrap_or_else(|| match configured {
        Some(mut listen) => {
            if listen.ip().is_unspecified() {
                listen.set_ip(match listen {
                    std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            format!("http://{listen}")
        }
        None => DEFAULT_URL.to_owned(),
    });
    let done = Client::new(&url, token.or(stored))
        .map_err(|why| Problem::Wrong(format!("{url}: {why}")))
        .and_then(|client| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|why| Failure::Unreachable(why.to_string()))?;
            runtime.block_on(wish(&client))
        });
    let (code, why) = match done {
        Ok(Answer { text, value }) => {
            let text = if json { format!("{value:#}\n") } else { text };
            match io::stdout().write_all(text.as_bytes()) {
                Ok(()) => return ExitCode::SUCCESS,
                // As in `cusaxd room list | head`: whoever read has what they wanted.
                Err(why) if why.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
                Err(why) => (1, why.to_string()),
            }
        }
        Err(Problem::Failed(why)) => (1, why),
        Err(Problem::Wrong(why)) => (2, why),
    };
    eprintln!("cusaxd: {}", printable(&why));
    ExitCode::from(code)
}

/// Mutes, unmutes, kicks or bans someone.
async fn act(
    client: &Client,
    Someone { room, person }: &Someone,
    action: &str,
    reason: Option<&str>,
) -> Result<Answer, Problem> {
    let people = client.ask(Method::GET, &["rooms", room], None).await?;
    let id = find(items(&people["people"]), person).map_err(Problem::Failed)?;
    let body = reason.map(|reason| json!({ "reason": reason }));
    let path = ["rooms", room, "people", id, action];
    let value = client.ask(Method::POST, &path, body.as_ref()).await?;
    Ok(Answer { text: show_room(&value), value })
}

/// The number of whom `wanted` means: a number first, so that no nick can pass for one.
fn find<'a>(people: &'a [Value], wanted: &str) -> Result<&'a str, String> {
    let known_as = |keys: &[&str]| {
        let is = |person: &&Value| keys.iter().any(|key| person[*key].as_str() == Some(wanted));
        people.iter().filter(is).map(|person| text(&person["id"])).collect::<Vec<_>>()
    };
    let by_id = known_as(&["id"]);
    let found = if by_id.is_empty() { known_as(&["nick", "jid", "aor"]) } else { by_id };
    match found[..] {
        [id] => Ok(id),
        [] => Err(format!("{wanted}: nobody in the room is called that")),
        _ => Err(format!("{wanted}: may be any of {}", found.join(", "))),
    }
}

fn changes(settings: &RoomSettings) -> Result<Value, Problem> {
    let RoomSettings {
        name,
        description,
        moderated,
        members_only,
        password_file,
        no_password,
        max_users,
        persistent,
        public,
        whois,
        change_subject,
        history,
        archive,
        allow_pm,
        allow_invites,
        registration,
        presence_broadcast,
        member_list,
        lang,
        slow_mode_s,
    } = settings;
    let secret = match password_file {
        Some(file) => Some(json!(password(file)?)),
        None => no_password.then_some(Value::Null),
    };
    let whois = whois.map(|whois| match whois {
        Whois::Moderators => json!("moderators"),
        Whois::Anyone => json!("anyone"),
    });
    let allow_pm = allow_pm.map(|whisperers| match whisperers {
        Whisperers::Anyone => json!("anyone"),
        Whisperers::Participants => json!("participants"),
        Whisperers::Moderators => json!("moderators"),
        Whisperers::None => json!("none"),
    });
    let registration = registration.map(|registration| match registration {
        Registration::Open => json!("open"),
        Registration::Unguarded => json!("unguarded"),
        Registration::Approval => json!("approval"),
        Registration::Closed => json!("closed"),
    });
    let roles = |roles: &Option<String>| {
        let roles = roles.as_ref()?;
        Some(roles.split(',').map(str::trim).filter(|role| !role.is_empty()).collect::<Value>())
    };
    let given = [
        ("name", name.as_ref().map(|it| json!(it))),
        ("description", description.as_ref().map(|it| json!(it))),
        ("moderated", moderated.map(Value::from)),
        ("members_only", members_only.map(Value::from)),
        ("password", secret),
        ("max_users", max_users.map(|most| json!(Some(most).filter(|most| *most > 0)))),
        ("persistent", persistent.map(Value::from)),
        ("public", public.map(Value::from)),
        ("whois", whois),
        ("change_subject", change_subject.map(Value::from)),
        ("history", history.map(Value::from)),
        ("archive", archive.map(Value::from)),
        ("allow_pm", allow_pm),
        ("allow_invites", allow_invites.map(Value::from)),
        ("registration", registration),
        ("presence_broadcast", roles(presence_broadcast)),
        ("member_list", roles(member_list)),
        ("lang", lang.as_ref().map(|it| json!(it))),
        ("slow_mode_s", slow_mode_s.map(Value::from)),
    ];
    let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Ok(Value::Object(given.collect()))
}

/// The first line of a file, or of standard input: never an argument, which everyone on the machine sees.
fn password(file: &Path) -> Result<String, Problem> {
    let wrong = |why: &dyn std::fmt::Display| Problem::Wrong(format!("{}: {why}", file.display()));
    let mut line = String::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line)
    } else {
        File::open(file)
            .and_then(|file| BufReader::new(file).take(MAX_PASSWORD).read_line(&mut line))
    };
    read.map_err(|why| wrong(&why))?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong(&"holds no password")),
        password => Ok(password.to_owned()),
    }
}

fn calls_of(room: &Value) -> Vec<Value> {
    let people = items(&room["people"]).iter();
    let calls =
        people.flat_map(|person| items(&person["legs"]).iter().map(move |leg| (person, leg)));
    let shown = calls.map(|(person, leg)| {
        json!({
            "room": room["name"],
            "person": person["id"],
            "nick": person["nick"],
            "aor": person["aor"],
            "jid": person["jid"],
            "binding": person["binding"],
            "leg": leg["id"],
            "heard": leg["heard"],
            "hold": leg["hold"],
            "sends": leg["sends"],
            "mute": person["mute"],
            "since": leg["since"],
        })
    });
    shown.collect()
}

/// A room in full; one that is no more is nothing.
fn show_room(room: &Value) -> String {
    if room.is_null() {
        return String::new();
    }
    let mut shown = String::new();
    for key in ["name", "title", "jid", "uri", "subject", "locked", "since"] {
        let value = cell(&room[key]);
        if value != "-" {
            writeln!(shown, "{key:<15} {value}").expect("a string takes all");
        }
    }
    if let Some(settings) = room["settings"].as_object() {
        // The room's title is its name among the settings.
        for (key, value) in settings.iter().filter(|(key, _)| *key != "name") {
            writeln!(shown, "{key:<15} {}", cell(value)).expect("a string takes all");
        }
    }
    shown.push('\n');
    shown.push_str(&table(&PEOPLE, items(&room["people"])));
    if let calls @ [_, ..] = items(&room["calling"]) {
        shown.push('\n');
        shown.push_str(&table(&CALLING, calls));
    }
    shown
}

/// A column: its head, and what it shows of a line.
struct Column(&'static str, fn(&Value) -> String);

fn table(columns: &[Column], lines: &[Value]) -> String {
    let heads = columns.iter().map(|Column(head, _)| (*head).to_owned()).collect();
    let mut cells: Vec<Vec<String>> = vec![heads];
    cells.extend(
        lines.iter().map(|line| columns.iter().map(|Column(_, show)| show(line)).collect()),
    );
    let width = |column: usize| cells.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in &cells {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => printable(&value.to_string()),
    }
}

/// People choose their names; a terminal must not obey them, nor turn a line around.
fn printable(text: &str) -> String {
    let turns = |char| matches!(char, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let shown = |char: char| if char.is_control() || turns(char) { '\u{FFFD}' } else { char };
    text.chars().map(shown).collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Who silences someone: `moderator`, or `self, room`.
fn origins(mute: &Value) -> String {
    let origins = items(mute).iter().map(|mute| text(&mute["origin"])).collect::<Vec<_>>();
    cell(&json!(origins.join(", ")))
}

fn binding(binding: &Value) -> String {
    let strength = cell(&binding["strength"]);
    if binding["bound"] == true { format!("{strength}, bound") } else { strength }
}

const DEFAULT_URL: &str = "http://127.0.0.1:8088";
/// The longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 64 * 1024;

const ROOMS: [Column; 9] = [
    Column("ROOM", |room| cell(&room["name"])),
    Column("TITLE", |room| cell(&room["title"])),
    Column("PEOPLE", |room| cell(&room["people"])),
    Column("CHAT", |room| cell(&room["chat"])),
    Column("AUDIO", |room| cell(&room["audio"])),
    Column("BOTH", |room| cell(&room["both"])),
    Column("LOCKED", |room| cell(&room["locked"])),
    Column("PERSISTENT", |room| cell(&room["persistent"])),
    Column("SINCE", |room| cell(&room["since"])),
];

const PEOPLE: [Column; 9] = [
    Column("ID", |person| cell(&person["id"])),
    Column("NICK", |person| cell(&person["nick"])),
    Column("BY", |person| cell(&person["level"])),
    Column("ROLE", |person| cell(&person["role"])),
    Column("AFFILIATION", |person| cell(&person["affiliation"])),
    Column("JID", |person| cell(&person["jid"])),
    Column("SIP", |person| cell(&person["aor"])),
    Column("BINDING", |person| binding(&person["binding"])),
    Column("MUTED BY", |person| origins(&person["mute"])),
];

const CALLING: [Column; 5] = [
    Column("CALLING", |call| cell(&call["id"])),
    Column("NAME", |call| cell(&call["name"])),
    Column("AT", |call| cell(&call["uri"])),
    Column("JID", |call| cell(&call["jid"])),
    Column("SINCE", |call| cell(&call["since"])),
];

const CALLS: [Column; 9] = [
    Column("ROOM", |call| cell(&call["room"])),
    Column("PERSON", |call| cell(&call["person"])),
    Column("LEG", |call| cell(&call["leg"])),
    Column("NICK", |call| cell(&call["nick"])),
    Column("SIP", |call| cell(&call["aor"])),
    Column("BINDING", |call| binding(&call["binding"])),
    Column("HEARD", |call| cell(&call["heard"])),
    Column("MUTED BY", |call| origins(&call["mute"])),
    Column("SINCE", |call| cell(&call["since"])),
];

const USERS: [Column; 4] = [
    Column("JID", |user| cell(&user["jid"])),
    Column("SIP", |user| cell(&user["aor"])),
    Column("NAME", |user| cell(&user["name"])),
    Column("PASSWORD", |user| cell(&user["password"])),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> Value {
        json!([
            { "id": "p1", "nick": "Alice", "jid": "alice@example.org", "aor": "sip:a@example.org" },
            { "id": "p2", "nick": "p1", "jid": "mallory@example.org", "aor": null },
            { "id": "p3", "nick": "alice@example.org", "jid": null, "aor": "sip:x@example.org" },
        ])
    }

    #[test]
    fn a_person_is_found_by_whatever_only_they_are_called() {
        let people = people();
        let find = |wanted| find(items(&people), wanted);
        assert_eq!(find("p1"), Ok("p1"), "a nick is no number");
        assert_eq!(find("Alice"), Ok("p1"));
        assert_eq!(find("mallory@example.org"), Ok("p2"));
        assert_eq!(find("sip:x@example.org"), Ok("p3"));
        assert!(find("alice@example.org").unwrap_err().ends_with("may be any of p1, p3"));
        assert!(find("-").is_err());
        assert!(find("").is_err());
    }

    /// A setting that is new is one here as well.
    #[test]
    fn all_settings_of_a_room_can_be_set() {
        let all = RoomSettings {
            name: Some(String::new()),
            description: Some(String::new()),
            moderated: Some(true),
            members_only: Some(true),
            password_file: None,
            no_password: true,
            max_users: Some(1),
            persistent: Some(true),
            public: Some(true),
            whois: Some(Whois::Anyone),
            change_subject: Some(true),
            history: Some(1),
            archive: Some(true),
            allow_pm: Some(Whisperers::None),
            allow_invites: Some(true),
            registration: Some(Registration::Approval),
            presence_broadcast: Some("visitor, moderator".to_owned()),
            member_list: Some(String::new()),
            lang: Some("de".to_owned()),
            slow_mode_s: Some(5),
        };
        let Ok(changes) = changes(&all) else { panic!("{all:?}") };
        let settings = serde_json::to_value(cusaxd::room::settings::Settings::default()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&changes), keys(&settings));
        assert_eq!(changes["presence_broadcast"], json!(["visitor", "moderator"]));
        assert_eq!(changes["member_list"], json!([]));
    }

    #[test]
    fn tables_line_up_and_obey_nobody() {
        let users = json!([
            { "jid": "zoë@example.org", "aor": "sip:z@example.org", "name": "\u{1b}[2J\u{202e}", "password": true },
            { "jid": "a@example.org", "aor": "sip:a@example.org", "name": null, "password": false },
        ]);
        assert_eq!(
            table(&USERS, items(&users)),
            "JID              SIP                NAME   PASSWORD\n\
             zoë@example.org  sip:z@example.org  \u{FFFD}[2J\u{FFFD}  yes\n\
             a@example.org    sip:a@example.org  -      no\n"
        );
        assert_eq!(table(&ROOMS, &[]).lines().count(), 1);
    }

    #[test]
    fn a_room_is_shown_with_whoever_silences_whom() {
        let room = json!({
            "name": "lounge", "title": "", "jid": "lounge@rooms.example.org", "locked": true,
            "settings": { "name": "", "history": 20 },
            "people": [{
                "id": "p1", "nick": "Alice", "level": "both", "role": "moderator", "affiliation": "owner",
                "jid": "alice@example.org", "aor": "sip:a@example.org",
                "binding": { "bound": true, "strength": "digest" },
                "mute": [{ "origin": "self" }, { "origin": "moderator" }],
            }],
        });
        assert_eq!(
            show_room(&room),
            "name            lounge\n\
             jid             lounge@rooms.example.org\n\
             locked          yes\n\
             history         20\n\
             \n\
             ID  NICK   BY    ROLE       AFFILIATION  JID                SIP                BINDING        MUTED BY\n\
             p1  Alice  both  moderator  owner        alice@example.org  sip:a@example.org  digest, bound  self, moderator\n"
        );
        assert_eq!(show_room(&Value::Null), "");
    }
}
