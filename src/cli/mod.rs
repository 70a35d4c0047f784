//! The command line. `operate` has what it asks a running server.

mod operate;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser, Subcommand};
use clap_mangen::Man;
use cusaxd::config::{Format, Level, Problem};
use cusaxd::io;
use cusaxd::io::probe::Probed;
use cusaxd::io::settings::{self, Settings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Joins XMPP chat rooms and SIP calls (CUSAX, RFC 7081).
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Run the server.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// See and change the rooms of a running server.
    Room {
        #[command(subcommand)]
        wish: operate::RoomWish,
        #[command(flatten)]
        reach: operate::Reach,
    },
    /// Tell everyone who is in the chat of any room something, once.
    Announce {
        /// What.
        announcement: String,
        /// What it is about.
        #[arg(long)]
        subject: Option<String>,
        #[command(flatten)]
        reach: operate::Reach,
    },
    /// Take no new calls, and stop when those that are up are over; tells people in chat.
    Drain {
        /// After how many seconds calls end that are not over by then; else run.drain_seconds.
        #[arg(long, value_name = "SECONDS")]
        delay: Option<u64>,
        /// What people are told, instead of the usual words.
        #[arg(long, value_name = "TEXT")]
        announcement: Option<String>,
        #[command(flatten)]
        reach: operate::Reach,
    },
    /// Stay after all, and take calls again.
    Undrain {
        #[command(flatten)]
        reach: operate::Reach,
    },
    /// See and change its directory: which SIP address is which JID.
    User {
        #[command(subcommand)]
        wish: operate::UserWish,
        #[command(flatten)]
        reach: operate::Reach,
    },
    /// See its calls.
    Call {
        #[command(subcommand)]
        wish: operate::CallWish,
        #[command(flatten)]
        reach: operate::Reach,
    },
    /// Print what a shell completes, as in: cusaxd completions bash > /etc/bash_completion.d/cusaxd
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page of the program, or write those of all commands.
    Man {
        /// A folder for all of them.
        folder: Option<PathBuf>,
    },
    /// Check a configuration; exit with 2 and the reasons if it cannot work.
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Also try it, before the server is started: bind its addresses and ports, link to the XMPP server.
        #[arg(long)]
        probe: bool,
    },
}

/// Does what the arguments say. Exit codes: 0 stopped on request, 1 a fault, 2 bad configuration.
pub(crate) fn run() -> ExitCode {
    match Arguments::parse().command {
        Subject::Run { config } => match settings::load(&config) {
            Ok(settings) => serve(settings),
            Err(bad) => refuse(&bad),
        },
        Subject::Room { wish, reach } => operate::rooms(wish, reach),
        Subject::Announce { announcement, subject, reach } => {
            operate::announce(&announcement, subject.as_deref(), reach)
        }
        Subject::Drain { delay, announcement, reach } => {
            operate::drain(delay, announcement.as_deref(), reach)
        }
        Subject::Undrain { reach } => operate::undrain(reach),
        Subject::User { wish, reach } => operate::users(wish, reach),
        Subject::Call { wish, reach } => operate::calls(wish, reach),
        Subject::CheckConfig { config, probe } => check(config, probe),
        Subject::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
            print(&script)
        }
        Subject::Man { folder } => man(folder.as_deref()),
    }
}

fn check(file: PathBuf, probe: bool) -> ExitCode {
    let settings = match settings::load(&file) {
        Ok(settings) => settings,
        Err(bad) => return refuse(&bad),
    };
    let tell = |warnings: &[Problem]| {
        for warning in warnings {
            eprintln!("{}: warning: {warning}", file.display());
        }
    };
    tell(&settings.warnings());
    if probe {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Probed { problems: reasons, warnings } = match runtime {
            Ok(runtime) => runtime.block_on(io::probe::probe(&settings)),
            Err(why) => {
                eprintln!("cusaxd: {why}");
                return ExitCode::FAILURE;
            }
        };
        tell(&warnings);
        if !reasons.is_empty() {
            let reasons = reasons.iter().map(ToString::to_string).collect();
            return refuse(&settings::BadConfig { file, reasons });
        }
    }
    println!("{}: good", file.display());
    ExitCode::SUCCESS
}

/// The man page of the program; or, in a folder, one for each command, as in `cusaxd-room-mute(8)`.
fn man(folder: Option<&Path>) -> ExitCode {
    let mut command = Arguments::command().name(NAME).disable_help_subcommand(true);
    command.build();
    let Some(folder) = folder else {
        let mut text = vec![];
        page(command).render(&mut text).expect("memory takes all");
        return print(&text);
    };
    match write_pages(command, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cusaxd: {}: {why}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write_pages(command: Command, folder: &Path) -> std::io::Result<()> {
    for sub in command.get_subcommands().cloned() {
        write_pages(sub, folder)?;
    }
    page(command).generate_to(folder).map(drop)
}

/// A page of section 8: commands of those who administer a system.
fn page(command: Command) -> Man {
    Man::new(command).section("8").manual("cusaxd").source(VERSION)
}

/// As in `cusaxd man | head`: whoever read has what they wanted.
fn print(text: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(text) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("cusaxd: {why}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn serve(settings: Settings) -> ExitCode {
    let set_level = log(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cusaxd-io")
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(io::run(settings, set_level)),
        Err(why) => Err(why.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cusaxd: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(bad: &settings::BadConfig) -> ExitCode {
    eprintln!("{bad}");
    ExitCode::from(2)
}

/// Starts to log. What it gives changes the level.
fn log(settings: &Settings) -> impl Fn(Level) + use<> {
    let log = &settings.config.log;
    let (level, handle) = reload::Layer::new(filter(log.level));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        // It would tell of a log that cannot be written, on a full disk, by a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(level);
    match log.format {
        Format::Text => registry.with(lines).init(),
        Format::Json => registry.with(lines.json()).init(),
    }
    // Fails only without a subscriber, and this one stays.
    move |level| drop(handle.reload(filter(level)))
}

const fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

const NAME: &str = "cusaxd";
const VERSION: &str = concat!("cusaxd ", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cusaxd::operation::{Kind, Operation};

    use super::*;

    /// Every command that asks a running server something, by its words.
    fn asked(command: &Command, words: &[String], found: &mut BTreeSet<Vec<String>>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let words = [words, &[sub.get_name().to_owned()]].concat();
            if sub.has_subcommands() {
                asked(sub, &words, found);
            } else {
                found.insert(words);
            }
        }
    }

    #[test]
    fn the_command_line_has_every_operation_with_its_parameters_and_no_other() {
        let all = Arguments::command();
        let mut found = BTreeSet::new();
        asked(&all, &[], &mut found);
        for operation in Operation::ALL {
            let spec = operation.spec();
            let words: Vec<String> = spec.cli.iter().map(|word| (*word).to_owned()).collect();
            assert!(found.remove(&words), "{words:?}");
            let command = spec.cli.iter().fold(&all, |at, word| at.find_subcommand(word).unwrap());
            let has = |name: &str| command.get_arguments().any(|it| it.get_id() == name);
            for param in spec.params {
                let there = match param.kind {
                    Kind::Settings => has("members_only") && has("slow_mode_s"),
                    Kind::Secret => has("password_file"),
                    Kind::Room
                    | Kind::AnyRoom
                    | Kind::Person
                    | Kind::Jid
                    | Kind::Text
                    | Kind::Lines
                    | Kind::Seconds => has(param.name),
                };
                assert!(there, "{words:?} knows no {}", param.name);
            }
        }
        // What is left shows what the others have in another way, or asks no server.
        let others =
            [&["call", "list"][..], &["check-config"], &["completions"], &["man"], &["run"]];
        let others = others.map(|it| it.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(found, others.into());
    }
}
