//! Calls a conference mixer with many people, and measures what they hear and what it costs.
//!
//! People talk real speech in Opus and listen through real sockets, one each. The server is `cusaxd`,
//! called by SIP, or Janus AudioBridge, told by its API. What is measured is printed as one line of
//! JSON ([`run::Report`]); `scripts/bench` calls this many times and makes tables.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`speech`] | what people say, encoded beforehand, with a marker tone every three seconds |
//! | [`ear`] | finds the marker in what somebody hears |
//! | [`sip`], [`janus`] | how people get into a room |
//! | [`run`] | the run itself: 50 packets a second for everyone, and their account |
//! | [`usage`] | CPU time and memory of the server, and the unit of CPU time |

mod ear;
mod janus;
mod run;
mod sip;
mod speech;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

/// Many people in conference rooms: who talk, who listen, and what they hear.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Calls, talks, listens, hangs up, prints one line of JSON.
    Run(Plan),
    /// Prints the unit of CPU time as this core has it now: nanoseconds of one encode of 20 ms of
    /// speech, 32 kbit/s, complexity 5.
    Calibrate {
        /// Where the speech is: a folder of WAV files, 16 kHz mono.
        #[arg(long, default_value = SPEECH)]
        speech: PathBuf,
    },
}

/// Who calls whom.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plan {
    /// The server's SIP address over UDP.
    #[arg(long, required_unless_present = "janus")]
    sip: Option<SocketAddr>,
    /// The domain of its conference URIs.
    #[arg(long, default_value = "conf.localhost")]
    domain: String,
    /// Janus's API: its Unix socket, of type SOCK_SEQPACKET.
    #[arg(long, conflicts_with = "sip")]
    janus: Option<PathBuf>,
    /// How many rooms; they are called bench-0, bench-1 and so on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rooms: u32,
    /// How many people in each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10000))]
    people: u32,
    /// How many of them talk, all at once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    talkers: u32,
    /// What the others send.
    #[arg(long, value_enum, default_value_t = Microphone::Noise)]
    listeners: Microphone,
    /// Everybody tells how loud they are (RFC 6464).
    #[arg(long)]
    levels: bool,
    /// Everybody sends CELT alone, which has no voice flag.
    #[arg(long)]
    celt: bool,
    /// For how many seconds to measure.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Seconds before that.
    #[arg(long, default_value_t = 4)]
    warm_up: u32,
    /// The server's process: its CPU time and memory are measured.
    #[arg(long)]
    pid: Option<u32>,
    /// How many people decode what they hear, talkers first; of the others, packets are counted.
    #[arg(long, default_value_t = 60)]
    ears: usize,
    /// Bits a second of what people send, and of what Janus is asked to.
    #[arg(long, default_value_t = 32_000)]
    bitrate: u32,
    /// The complexity that Janus is asked to encode with.
    #[arg(long, default_value_t = 5)]
    janus_quality: u32,
    /// Where the speech is: a folder of WAV files, 16 kHz mono.
    #[arg(long, default_value = SPEECH)]
    speech: PathBuf,
}

/// What a listener sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Microphone {
    /// An open microphone in a quiet room: noise at −66 dBFS, 50 packets a second.
    Noise,
    /// A packet of 20 ms every 400 ms.
    Dtx,
    /// One packet in the beginning, so that the server knows where from.
    None,
}

/// Where Debian's `pocketsphinx-testdata` puts a female reader's sentences.
const SPEECH: &str = "/usr/share/pocketsphinx/test/data/librivox";

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(plan) => {
            anyhow::ensure!(plan.talkers <= plan.people, "more talkers than people");
            let report = run::run(&plan)?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Command::Calibrate { speech } => {
            let speech = speech::read(&speech).context("reading the speech")?;
            println!("{}", usage::encode_ns(&speech)?);
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn clock() -> Instant {
    Instant::now()
}
