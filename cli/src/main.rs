//! Ordinaut for people.

mod supervise;

use std::process::ExitCode;

fn main() -> ExitCode {
    supervise::hidden_command(std::env::args_os()).unwrap_or(ExitCode::SUCCESS)
}
