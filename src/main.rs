//! Starts the server.

mod cli;
mod operate;

fn main() -> std::process::ExitCode {
    cli::run()
}
