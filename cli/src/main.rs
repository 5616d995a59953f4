//! Stand-in until the real commands are here: `ordinaut next` only.

mod next;

use clap::Parser;
use ordinaut_schema::time::Zone;

#[derive(Parser)]
enum Command {
    Next(next::NextArgs),
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    let Command::Next(args) = Command::parse();
    let zone = jiff::tz::TimeZone::system().iana_name().and_then(Zone::find);
    next::run(&args, jiff::Timestamp::now(), zone.as_ref())
}
