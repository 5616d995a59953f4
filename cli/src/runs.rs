//! `runs`: what ran, what runs, what was skipped and why; one run step by step; or as they come.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use ordinaut_schema::{id::RunId, run::RunState, time::parse_duration};
use ordinaut_store::{
    runs::{RunFilter, RunRecord},
    tasks::TaskRef,
};

use crate::{
    failure::{Exit, Failure},
    out::{Out, cut, note},
    session::Session,
    timeline::{show, state_line, to_json, waits},
    times::{between, local, took},
};

const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// How far back a change of state is still noticed while following.
const FOLLOWED_RUNS: u32 = 200;

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// A run's id: show it step by step. A task's title or id: list its runs
    what: Option<String>,
    /// Only runs in this state; may be given more than once
    #[arg(long, value_name = "STATE")]
    state: Vec<State>,
    /// Only runs for occurrences from then on: an instant, or a duration back from now such as 2h
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// How many at most, the newest
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on, with a line for each run that begins, moves or ends, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

/// [`RunState`] as an argument.
#[derive(Debug, Clone, Copy)]
struct State(RunState);

impl ValueEnum for State {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [State; 9] = [
            State(RunState::Blocked),
            State(RunState::Waiting),
            State(RunState::Pending),
            State(RunState::Running),
            State(RunState::Succeeded),
            State(RunState::Failed),
            State(RunState::Cancelled),
            State(RunState::Skipped),
            State(RunState::Quarantined),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.as_str()))
    }
}

pub(crate) async fn runs(session: &Session, options: &Runs, out: Out) -> Result<(), Failure> {
    let Session { store, caller, .. } = session;
    if let Some(run) = options.what.as_deref().and_then(run_id) {
        let run = store.find_run(caller, run).await?;
        return if out.is_json() { out.json(&to_json(&run)) } else { show(session, &run, out).await };
    }
    let task = match &options.what {
        Some(task) => Some(store.find_task(caller, &TaskRef::from(task.as_str())).await?.id),
        None => None,
    };
    let since = match &options.since {
        Some(text) => Some(instant(text, store.now().await?)?),
        None => None,
    };
    let states = options.state.iter().map(|State(state)| *state).collect();
    let filter = RunFilter { task, states, since, until: None };
    if options.follow {
        return follow(session, &filter, options.limit, out).await;
    }
    let runs = store.list_runs(caller, &filter, None, options.limit).await?;
    if out.is_json() {
        return out.json(&runs.iter().map(to_json).collect::<Vec<_>>());
    }
    let rows = runs.iter().map(|run| {
        vec![
            local(run.occurrence_at, &session.zone),
            cut(&run.task_title, 40),
            run.state.to_string(),
            run.trigger.to_string(),
            match (run.started_at, run.finished_at) {
                (Some(from), Some(to)) => took(between(from, to)),
                _ => String::new(),
            },
            cut(&why(run), 60),
            run.id.to_string(),
        ]
    });
    let none = "no run yet; `ordinaut tasks` says what is due when";
    out.table(&["FOR", "TASK", "STATE", "BY", "TOOK", "WHY", "ID"], rows.collect(), none)
}

fn why(run: &RunRecord) -> String {
    match (&run.error, run.skip_reason, run.stretch) {
        (Some(error), _, _) => error.message.clone(),
        (None, Some(reason), Some((_, count))) => format!("{reason} ({count} occurrences)"),
        (None, Some(reason), None) => reason.to_string(),
        (None, None, _) => run.waiting.as_ref().map_or_else(String::new, waits),
    }
}

/// The id of a run, which is told from a task's by its version.
fn run_id(text: &str) -> Option<RunId> {
    text.trim().parse::<RunId>().ok().filter(|id| id.uuid().get_version_num() == 8)
}

fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let back = parse_duration(text).ok().and_then(|back| now.checked_sub(back).ok());
    back.ok_or_else(|| {
        Failure::new(Exit::Refused, format!("`{text}` is neither an instant nor a duration"))
            .mend("write `--since 2h`, `--since 7d` or `--since 2026-11-23T08:00:00Z`")
    })
}

/// A line for each run whenever its state is another than it was, the oldest first.
async fn follow(session: &Session, filter: &RunFilter, first: u32, out: Out) -> Result<(), Failure> {
    let mut known: BTreeMap<RunId, RunState> = BTreeMap::new();
    let mut most = first;
    let mut is_down = false;
    // All states are looked at: a run that leaves a wanted state has moved, and says so by its absence only.
    loop {
        match session.store.list_runs(&session.caller, filter, None, most).await {
            Ok(runs) => {
                if is_down {
                    note("ordinaut: the database answers again");
                    is_down = false;
                }
                for run in runs.iter().rev() {
                    if known.insert(run.id, run.state) != Some(run.state) {
                        tell(session, run, out)?;
                    }
                }
                let oldest = runs.last().map(|run| run.id);
                known.retain(|id, _| oldest.is_some_and(|oldest| *id >= oldest));
            }
            Err(error) if error.is_retryable() => {
                if !is_down {
                    note(format!("ordinaut: {error}; trying again"));
                    is_down = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        most = FOLLOWED_RUNS;
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

fn tell(session: &Session, run: &RunRecord, out: Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.json_line(&to_json(run));
    }
    let at = local(run.occurrence_at, &session.zone);
    out.line(format!("{at}  {:<32}  {}  ({})", cut(&run.task_title, 32), state_line(run), run.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_from_a_task_by_its_id() {
        assert!(run_id("0193a2b4-0000-8000-8000-000000000001").is_some());
        assert!(run_id("0193a2b4-0000-7000-8000-000000000001").is_none());
        assert!(run_id("Morning briefing").is_none());
    }

    #[test]
    fn since_is_an_instant_or_a_way_back() {
        let now: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        assert_eq!(instant("2h", now).unwrap().to_string(), "2026-11-23T06:00:00Z");
        assert_eq!(instant("2026-11-01T00:00:00Z", now).unwrap().to_string(), "2026-11-01T00:00:00Z");
        assert_eq!(instant("yesterday", now).unwrap_err().code(), 2);
    }
}
