//! `ordinaut-bench [name]…`: measures, and says it twice: a table for people on stderr, a JSON line a figure on stdout.
//!
//! One file a bench, over one measuring core ([`measure`]). What is compared is measured in interleaved rounds of
//! one run, so that a noisy machine is equally noisy to all.

mod burst;
mod drain;
mod history;
mod limit;
mod mcp;
mod measure;
mod pickup;
mod pinned;
mod pipelines;
mod programs;
mod scale;
mod scene;
mod schedules;
mod serve;
mod server;
mod steady;
mod table;

use std::io::Write as _;

use anyhow::{Context as _, bail};

use measure::Figure;

/// A bench, and what it measures.
type Bench = (&'static str, fn() -> anyhow::Result<Vec<Figure>>);

const BENCHES: &[Bench] = &[
    ("schedules", schedules::run),
    ("mcp", mcp::run),
    ("drain", drain::run),
    ("pickup", pickup::run),
    ("burst", burst::run),
    ("pinned", pinned::run),
    ("history", history::run),
    ("scale", scale::run),
    ("pipelines", pipelines::run),
    ("serve", serve::run),
    ("steady", steady::run),
];

fn main() -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        bail!("built without optimisation, which measures nothing: `./just bench` builds it as it should be");
    }
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = asked.iter().find(|name| BENCHES.iter().all(|(it, _)| it != name)) {
        let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        bail!("there is no bench `{unknown}`; there are: {}", known.join(", "));
    }
    for &(name, bench) in BENCHES {
        if !asked.is_empty() && !asked.iter().any(|it| it == name) {
            continue;
        }
        let figures = bench().with_context(|| format!("bench {name}"))?;
        for figure in &figures {
            writeln!(std::io::stdout(), "{}", figure.to_json(name))?;
        }
        writeln!(std::io::stderr(), "{}", table::of(&figures))?;
    }
    Ok(())
}
