//! `ordinaut-fault [name]…`: does it to the programs, and says twice what came of it: a table for people on stderr, a line
//! of JSON a fault on stdout. Ends with an error when a promise was broken.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Parser;
use ordinaut_fault::{
    faults::{self, FAULTS, Report, Size},
    fleet, report,
    soak::{self, Soaked},
};
use serde_json::json;

/// Disturbs the real programs and judges what they left behind.
#[derive(Debug, Parser)]
struct Arguments {
    /// Faults by name; all of them when none is named.
    names: Vec<String>,
    /// The small size that the tests run.
    #[arg(long)]
    short: bool,
    /// Disturbs one and the same set of programs by whatever is drawn next, for so many minutes.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["names", "short"])]
    soak: Option<u32>,
    /// Where the programs of an earlier version are, for the fault that has them beside those of this one.
    #[arg(long, value_name = "DIRECTORY")]
    older: Option<PathBuf>,
    /// Says which faults there are.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for fault in &FAULTS {
            writeln!(std::io::stdout(), "{:<16} {}", fault.name, fault.does)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = arguments.names.iter().find(|name| faults::named(name).is_none()) {
        let known: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
        bail!("there is no fault `{unknown}`; there are: {}", known.join(", "));
    }
    if let Some(older) = arguments.older {
        fleet::set_older(older);
    }
    let chosen: Vec<_> = FAULTS
        .iter()
        .filter(|fault| arguments.names.is_empty() || arguments.names.iter().any(|name| name == fault.name))
        .collect();
    let size = if arguments.short { Size::Short } else { Size::Full };
    let mut reports = Vec::new();
    if let Some(minutes) = arguments.soak {
        let Soaked { report, growth, disturbed } = soak::soak(minutes).await;
        writeln!(std::io::stdout(), "{}", json!({ "disturbed": disturbed, "growth": growth.json() }))?;
        writeln!(std::io::stderr(), "{disturbed:?}\n{}", growth.table())?;
        reports.push(told(report)?);
    } else {
        for fault in chosen {
            reports.push(told(fault.run(size).await)?);
        }
    }
    writeln!(std::io::stderr(), "{}", report::table(&reports))?;
    let held = reports.iter().all(|report| report.outcome.is_clean());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what came of one at once: the next may take an hour.
fn told(report: Report) -> anyhow::Result<Report> {
    let line = report::json(&report);
    writeln!(std::io::stdout(), "{line}")?;
    if let Some(told) = line["told"].as_array() {
        for finding in told {
            writeln!(std::io::stderr(), "{}: {}", report.fault, finding.as_str().unwrap_or_default())?;
        }
    }
    Ok(report)
}
