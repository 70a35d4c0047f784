//! `cusax`, a client of RFC 7081 for the terminal: a room and its call as one, with one list of people.
//!
//! Decisions are [`cusax_client`]'s, connections its driver's; here is what people type and see.

mod account;
mod contacts;
mod exit;
mod login;
mod session;
mod view;
mod wav;
mod wish;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cusax_client::connections::{Loss, Order, Policy};
use futures_util::StreamExt;
use jid::BareJid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::account::{Saved, default_path};
use crate::exit::Exit;
use crate::session::{Event, Plan, Room, Session};
use crate::view::View;
use crate::wish::Wish;

/// A client that chats by XMPP and speaks by SIP, in one room.
#[derive(Debug, Parser)]
#[command(name = "cusax", version, after_help = EXITS)]
struct Cli {
    /// The account file; `cusax login` makes it.
    #[arg(long, global = true, env = "CUSAX_ACCOUNT", value_name = "FILE")]
    account: Option<PathBuf>,
    /// Write a line of JSON for everything that happens.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up both accounts of a service.
    Login(login::Login),
    /// List the contacts, and where each can be called.
    Contacts,
    /// Call a contact, an address or a number; or wait for a call.
    Call(Call),
    /// Be in a room: in its chat, and on its call.
    Join(Join),
}

#[derive(Debug, Args)]
struct Call {
    /// A contact's JID, a SIP address, or a number; nobody: wait for a call.
    whom: Option<String>,
    /// The country in which numbers are dialled (ISO 3166-1).
    #[arg(long, default_value = "DE", value_name = "CODE")]
    country: String,
    /// Call although it may cost money.
    #[arg(long)]
    yes: bool,
    /// Take the first call that comes, without being asked.
    #[arg(long)]
    answer: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct Join {
    /// The room: its JID, or its name at the service.
    room: String,
    /// The name to have there.
    #[arg(long)]
    nick: Option<String>,
    /// The room's password.
    #[arg(long)]
    password: Option<String>,
    /// Chat alone.
    #[arg(long)]
    no_call: bool,
    /// Stay on the call although it names another room.
    #[arg(long)]
    anyway: bool,
    /// Make the room if there is none.
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    how: How,
}

/// How to be there.
#[derive(Debug, Args)]
struct How {
    /// Say what is in this file: WAV, 48 kHz, 16 bits, one channel.
    #[arg(long, value_name = "WAV")]
    play: Option<PathBuf>,
    /// Keep what is heard in this file.
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// Be muted at first.
    #[arg(long)]
    muted: bool,
    /// Leave after so many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    lasts: Option<u64>,
    /// Lines instead of the whole terminal.
    #[arg(long)]
    plain: bool,
    /// Connect chat only once calls work.
    #[arg(long)]
    voice_first: bool,
    /// What the loss of one connection does.
    #[arg(long, value_enum, default_value = "warn")]
    loss: LossWord,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LossWord {
    /// The other goes on.
    Keep,
    /// The other goes on, and you are told.
    Warn,
    /// The other is ended as well.
    Drop,
}

impl How {
    fn plan(&self) -> Plan {
        Plan {
            room: None,
            call: None,
            policy: Policy {
                order: if self.voice_first { Order::VoiceFirst } else { Order::Together },
                loss: match self.loss {
                    LossWord::Keep => Loss::Keep,
                    LossWord::Warn => Loss::Warn,
                    LossWord::Drop => Loss::DropBoth,
                },
            },
            play: self.play.clone(),
            record: self.record.clone(),
            lasts: self.lasts.map(Duration::from_secs),
            muted: self.muted,
            answer: false,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("cusax: {error}");
                return ExitCode::FAILURE;
            }
        };
    let done = runtime.block_on(run(cli));
    // Whoever still waits for a line of input is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("cusax: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let path = cli.account.map_or_else(default_path, Ok)?;
    match cli.command {
        Command::Login(login) => login::login(login, &path).await,
        Command::Contacts => contacts::list(&Saved::load(&path)?, cli.json).await,
        Command::Call(call) => {
            let saved = Saved::load(&path)?;
            let mut plan = call.how.plan();
            plan.answer = call.answer;
            let title = call.whom.clone().unwrap_or_else(|| "waiting for a call".to_owned());
            if let Some(whom) = &call.whom {
                match contacts::address(&saved, whom, &call.country, call.yes).await? {
                    Ok(uri) => plan.call = Some(uri),
                    Err(exit) => return Ok(exit),
                }
            }
            hold(plan, saved, path, cli.json, call.how.plain, &title).await
        }
        Command::Join(join) => {
            let saved = Saved::load(&path)?;
            let mut plan = join.how.plan();
            let jid = room(&join.room, &saved)?;
            let nick = join.nick.or_else(|| saved.account.name.clone());
            let own = saved.account.xmpp.as_ref().and_then(|xmpp| xmpp.jid.node());
            let nick = nick.or_else(|| own.map(ToString::to_string));
            plan.room = Some(Room {
                jid: jid.clone(),
                nick: nick.context("--nick says under which name")?,
                password: join.password,
                call: !join.no_call,
                anyway: join.anyway,
                create: join.create,
            });
            hold(plan, saved, path, cli.json, join.how.plain, &jid.to_string()).await
        }
    }
}

/// The room that somebody means.
fn room(text: &str, saved: &Saved) -> anyhow::Result<BareJid> {
    let text = text.strip_prefix("xmpp:").unwrap_or(text);
    if text.contains('@') {
        return BareJid::new(text).with_context(|| format!("{text} is no room's address"));
    }
    let Some(conference) = &saved.account.conference else {
        bail!("the account does not say where rooms are: give the whole address, NAME@DOMAIN");
    };
    let jid = format!("{text}@{}", conference.xmpp_domain);
    BareJid::new(&jid).with_context(|| format!("{jid} is no room's address"))
}

/// Holds a session, with what the person types.
async fn hold(
    plan: Plan,
    saved: Saved,
    path: PathBuf,
    json: bool,
    plain: bool,
    title: &str,
) -> anyhow::Result<Exit> {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let view = View::open(json, plain, title).context("the terminal does not do as it is told")?;
    if view.is_screen() {
        tokio::spawn(keys(sender.clone()));
    } else {
        tokio::spawn(lines(sender.clone()));
    }
    Session::new(plan, saved, path, view, sender)?.run(&mut events).await
}

/// What is typed, line by line. The end of the input ends nothing: a script may have said all it wants.
async fn lines(sender: mpsc::Sender<Event>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(wish) = Wish::read(&line)
            && sender.send(Event::Wish(wish)).await.is_err()
        {
            return;
        }
    }
}

/// What is typed, key by key.
async fn keys(sender: mpsc::Sender<Event>) {
    let mut keys = crossterm::event::EventStream::new();
    while let Some(Ok(event)) = keys.next().await {
        if let crossterm::event::Event::Key(key) = event
            && key.kind != crossterm::event::KeyEventKind::Release
            && sender.send(Event::Key(key)).await.is_err()
        {
            return;
        }
    }
}

const EXITS: &str = "Ends with 0, 1 (a fault), 2 (a wrong command line), 3 (wrong name or password), \
                     4 (no such room or address, or it does not want you), 5 (no way there).";
/// What waits to be handled.
const EVENTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_fits_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
