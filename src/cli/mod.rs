//! The command line. `operate` has what it asks a running server.

mod operate;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cusaxd::config::{Format, Level};
use cusaxd::io;
use cusaxd::io::settings::{self, Settings};
use tracing_subscriber::filter::LevelFilter;

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
        Subject::User { wish, reach } => operate::users(wish, reach),
        Subject::Call { wish, reach } => operate::calls(wish, reach),
        Subject::CheckConfig { config, probe } => check(config, probe),
    }
}

fn check(file: PathBuf, probe: bool) -> ExitCode {
    let settings = match settings::load(&file) {
        Ok(settings) => settings,
        Err(bad) => return refuse(&bad),
    };
    if probe {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let reasons = match runtime {
            Ok(runtime) => runtime.block_on(io::probe::probe(&settings)),
            Err(why) => {
                eprintln!("cusaxd: {why}");
                return ExitCode::FAILURE;
            }
        };
        if !reasons.is_empty() {
            let reasons = reasons.iter().map(ToString::to_string).collect();
            return refuse(&settings::BadConfig { file, reasons });
        }
    }
    println!("{}: good", file.display());
    ExitCode::SUCCESS
}

fn serve(settings: Settings) -> ExitCode {
    log(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cusaxd-io")
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(io::run(settings)),
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

fn log(settings: &Settings) {
    let log = &settings.config.log;
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(std::io::stderr().is_terminal())
        // It would tell of a log that cannot be written, on a full disk, by a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match log.format {
        Format::Text => lines.init(),
        Format::Json => lines.json().init(),
    }
}
