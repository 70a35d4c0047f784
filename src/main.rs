//! Starts the server.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
