//! What becomes of a task's occurrences up to now: which run, which are skipped and why, and where the cursor goes.
//!
//! Pure: the planner reads a [`Standing`] under the task's lock, asks [`plan`], and writes the answer in the same
//! transaction. Every occurrence the cursor passes is in the answer exactly once, as a run or within a stretch.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    budget::{Allowance, Cost},
    id::{OccurrenceKey, RunId, Shard, TaskId},
    run::SkipReason,
    schedule::{GaveUp, Misfire, Overlap, Schedule, jitter_offset},
    task::TaskSpec,
};

/// Occurrences looked at in one visit; what is left is looked at in the next, at once.
const VISIT: usize = 20_000;
/// A stretch is written to history when it has been open so long.
const STRETCH_AGE: Duration = Duration::from_hours(1);
/// A paused task is looked at no more often than this.
const PAUSED_PACE: Duration = Duration::from_mins(1);
/// Under `misfire: skip` without a grace, an occurrence is late after this.
const SKIP_GRACE: Duration = Duration::from_mins(1);

/// Consecutive occurrences skipped for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub reason: SkipReason,
    pub from: Timestamp,
    pub to: Timestamp,
    pub count: u32,
    pub opened_at: Timestamp,
}

/// What the task's `dedupe_key` does to its occurrences: a clock's have one key, the same each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicates {
    pub window: Duration,
    /// The instant that the last run which took the key was for. Instants that runs were for are compared, not those
    /// they were planned at: with a window as long as its period a task would miss a turn by milliseconds.
    pub seen_at: Option<Timestamp>,
}

impl Duplicates {
    fn has(&self, at: Timestamp) -> bool {
        self.seen_at.is_some_and(|seen| at < seen.checked_add(self.window).unwrap_or(Timestamp::MAX))
    }
}

/// How far a schedule has been followed, and what stands in its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub next_occurrence_at: Option<Timestamp>,
    pub last_occurrence_at: Option<Timestamp>,
    pub runs_planned: u64,
    pub paused: bool,
    /// A paused task resumes by itself then.
    pub resume_at: Option<Timestamp>,
    /// Occurrences before the instant are skipped for the reason.
    pub pass: Option<(Timestamp, SkipReason)>,
    /// The next occurrence is held back until then.
    pub snoozed_until: Option<Timestamp>,
    pub skip_next: u32,
    pub open_stretch: Option<Stretch>,
    /// Runs of the task that hold it.
    pub live_runs: u32,
    /// Runs of the task that are not over, those that wait in its queue included.
    pub queued_runs: u32,
    /// `None` without a `dedupe_key`.
    pub duplicates: Option<Duplicates>,
    /// The task's budget and its agent's, where there are any, with what is left of them.
    pub allowances: Vec<Allowance>,
    /// What one run sets aside of them.
    pub reservation: Cost,
}

/// An occurrence that becomes a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRun {
    pub occurrence_at: Timestamp,
    /// The occurrence plus jitter, or the end of a snooze.
    pub due_at: Timestamp,
    /// Waits for the task's other runs.
    pub serial: bool,
}

/// What to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub runs: Vec<PlannedRun>,
    /// Ask the task's live runs to stop.
    pub cancel_live: bool,
    /// Stretches that ended: history rows.
    pub closed: Vec<Stretch>,
    pub open: Option<Stretch>,
    pub next_occurrence_at: Option<Timestamp>,
    /// When to look again; `None` when nothing will ever be due.
    pub next_due_at: Option<Timestamp>,
    pub last_occurrence_at: Option<Timestamp>,
    pub runs_planned: u64,
    pub snoozed_until: Option<Timestamp>,
    pub skip_next: u32,
    /// The pause came to its end.
    pub resumed: bool,
    /// No occurrence is left.
    pub ended: bool,
}

/// The first cursor of a schedule whose occurrences count after `after` (now, or the last one planned).
///
/// Answers the occurrence and when it is due.
///
/// # Errors
/// The schedule gave up.
pub fn first_cursor(
    task: TaskId,
    spec: &TaskSpec,
    schedule: &Schedule,
    after: Timestamp,
) -> Result<Option<(Timestamp, Timestamp)>, GaveUp> {
    let after = spec.starts_at.map_or(after, |start| after.max(start - Duration::from_nanos(1)));
    let Some(next) = bounded_next(spec, schedule, after)? else { return Ok(None) };
    Ok(Some((next, due_at(task, spec, schedule, next)?)))
}

/// How far a plan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What is due.
    Due,
    /// Every occurrence that has been, because another schedule is to follow: jitter holds none back any more, and the
    /// one that a snooze held back is skipped as snoozed. The snooze itself stands.
    Passed,
}

/// Decides every occurrence up to `now` that `reach` takes in.
///
/// # Errors
/// The schedule gave up; the caller pauses the task and says so.
pub fn plan(
    task: TaskId,
    spec: &TaskSpec,
    schedule: &Schedule,
    standing: &Standing,
    now: Timestamp,
    reach: Reach,
) -> Result<Plan, GaveUp> {
    let mut plan = Plan {
        last_occurrence_at: standing.last_occurrence_at,
        runs_planned: standing.runs_planned,
        skip_next: standing.skip_next,
        open: standing.open_stretch,
        ..Plan::default()
    };
    let mut due = Vec::new();
    let mut next = standing.next_occurrence_at;
    let mut held = standing.snoozed_until;
    let mut next_due = None;
    while let Some(occurrence) = next {
        let due_at = held.unwrap_or(Timestamp::MIN).max(due_at(task, spec, schedule, occurrence)?);
        let reached = match reach {
            Reach::Due => due_at <= now,
            Reach::Passed => occurrence <= now,
        };
        if !reached || due.len() == VISIT {
            next_due = Some(due_at);
            plan.snoozed_until = held;
            break;
        }
        due.push((occurrence, due_at));
        next = bounded_next(spec, schedule, occurrence)?;
        held = None;
    }
    let complete = due.len() < VISIT;
    // What the snooze held back is decided here; until when it holds is not.
    let holding = standing.snoozed_until.filter(|until| reach == Reach::Passed && *until > now);
    plan.snoozed_until = plan.snoozed_until.or(holding);
    plan.next_occurrence_at = next;

    let resumed = standing.paused && standing.resume_at.is_some_and(|at| at <= now);
    let mut fates: Vec<(Timestamp, Timestamp, Option<SkipReason>)> = due
        .iter()
        .map(|&(at, due_at)| (at, due_at, passed(spec, standing, holding, &mut plan.skip_next, at, due_at, now)))
        .collect();
    misfires(spec, &mut fates, complete, standing.snoozed_until.is_some() && holding.is_none());
    overlaps(spec, standing, &mut fates, &mut plan);

    for (at, due_at, fate) in fates {
        plan.last_occurrence_at = Some(at);
        match fate {
            Some(reason) => plan.skip(at, reason, now),
            None => plan.run(at, due_at, spec),
        }
        if spec.max_runs.is_some_and(|max| plan.runs_planned >= u64::from(max)) {
            plan.next_occurrence_at = None;
            break;
        }
    }
    plan.resumed = resumed;
    plan.conclude(standing, next_due, now);
    Ok(plan)
}

/// Whether an occurrence passes by: paused, snoozed (also the first of them, where the snooze is still `holding`), or
/// too late.
fn passed(
    spec: &TaskSpec,
    standing: &Standing,
    holding: Option<Timestamp>,
    skip_next: &mut u32,
    at: Timestamp,
    due_at: Timestamp,
    now: Timestamp,
) -> Option<SkipReason> {
    if standing.paused && standing.resume_at.is_none_or(|resume| at < resume) {
        return Some(SkipReason::Paused);
    }
    if let Some((until, reason)) = standing.pass
        && at < until
    {
        return Some(reason);
    }
    if *skip_next > 0 {
        *skip_next -= 1;
        return Some(SkipReason::Snoozed);
    }
    // Held back by a snooze: the first occurrence fires at its end, those between are skipped.
    if let Some(until) = standing.snoozed_until
        && (standing.next_occurrence_at != Some(at) || holding.is_some())
        && at <= until
    {
        return Some(SkipReason::Snoozed);
    }
    let grace = spec.misfire_grace.or((spec.misfire == Misfire::Skip).then_some(SKIP_GRACE));
    let late = Duration::try_from(now.duration_since(due_at)).unwrap_or(Duration::ZERO);
    if grace.is_some_and(|grace| late > grace) {
        return Some(SkipReason::Misfire);
    }
    None
}

/// Of several that are due at once, which run.
fn misfires(spec: &TaskSpec, fates: &mut [(Timestamp, Timestamp, Option<SkipReason>)], complete: bool, snoozed: bool) {
    let keep = match spec.misfire {
        Misfire::RunLatest => usize::from(complete),
        Misfire::RunAll => spec.misfire_limit as usize,
        // What is within the grace is not late.
        Misfire::Skip => usize::MAX,
    };
    // A snoozed occurrence was put off on purpose: it is not the backlog's to drop.
    let from = usize::from(snoozed);
    let mut kept = 0;
    for (_, _, fate) in fates.iter_mut().skip(from).rev() {
        if fate.is_none() {
            kept += 1;
            if kept > keep {
                *fate = Some(SkipReason::Misfire);
            }
        }
    }
}

/// What the runs that are not over, those that took the same `dedupe_key`, and budgets mean for those that are due.
fn overlaps(
    spec: &TaskSpec,
    standing: &Standing,
    fates: &mut [(Timestamp, Timestamp, Option<SkipReason>)],
    plan: &mut Plan,
) {
    let mut queued = standing.queued_runs;
    let mut duplicates = standing.duplicates;
    let mut allowances = standing.allowances.clone();
    let backlog = spec.misfire == Misfire::RunAll && fates.len() > 1;
    for (at, _, fate) in fates.iter_mut().filter(|(_, _, fate)| fate.is_none()) {
        if duplicates.is_some_and(|duplicates| duplicates.has(*at)) {
            *fate = Some(SkipReason::Duplicate);
            continue;
        }
        // Before anybody gives way, or a place in the queue is taken: what does not run does neither.
        if allowances.iter().any(|allowance| allowance.allows(Some(*at), standing.reservation).is_err()) {
            *fate = Some(SkipReason::Budget);
            continue;
        }
        match spec.overlap {
            // Those that wait for a place under their key, too: or each occurrence would join a queue that nothing bounds.
            Overlap::Skip if standing.queued_runs > 0 && !backlog => *fate = Some(SkipReason::Overlap),
            Overlap::Allow | Overlap::Skip => {}
            Overlap::Queue if queued >= spec.queue_limit.saturating_add(1) => *fate = Some(SkipReason::QueueFull),
            Overlap::Queue => queued += 1,
            Overlap::CancelRunning => plan.cancel_live = true,
        }
        if fate.is_none() {
            if let Some(duplicates) = &mut duplicates {
                duplicates.seen_at = Some(*at);
            }
            for allowance in &mut allowances {
                allowance.take(Some(*at), standing.reservation);
            }
        }
    }
}

impl Plan {
    fn skip(&mut self, at: Timestamp, reason: SkipReason, now: Timestamp) {
        match &mut self.open {
            Some(open) if open.reason == reason => {
                open.to = at;
                open.count += 1;
            }
            open => {
                let ended = open.replace(Stretch { reason, from: at, to: at, count: 1, opened_at: now });
                self.closed.extend(ended);
            }
        }
    }

    fn run(&mut self, occurrence_at: Timestamp, due_at: Timestamp, spec: &TaskSpec) {
        self.closed.extend(self.open.take());
        self.runs_planned += 1;
        self.runs.push(PlannedRun { occurrence_at, due_at, serial: spec.overlap != Overlap::Allow });
    }

    fn conclude(&mut self, standing: &Standing, next_due: Option<Timestamp>, now: Timestamp) {
        // A task that waits for events or requests has no cursor, and is looked at only because its pause may end.
        self.ended = self.next_occurrence_at.is_none() && standing.next_occurrence_at.is_some();
        let paused = standing.paused && !self.resumed;
        let grown_old = self.open.is_some_and(|open| open.opened_at + STRETCH_AGE <= now);
        if self.ended || grown_old || (self.resumed && self.runs.is_empty()) {
            self.closed.extend(self.open.take());
        }
        if self.ended {
            return;
        }
        let look = next_due.map(|at| if paused { at.max(now + PAUSED_PACE) } else { at });
        let resume = if paused { standing.resume_at } else { None };
        let write = self.open.map(|open| open.opened_at + STRETCH_AGE);
        self.next_due_at = [look, resume, write].into_iter().flatten().min();
    }
}

/// The next occurrence that the schedule and `ends_at` allow.
fn bounded_next(spec: &TaskSpec, schedule: &Schedule, after: Timestamp) -> Result<Option<Timestamp>, GaveUp> {
    let next = schedule.next_after(after)?;
    Ok(next.filter(|at| spec.ends_at.is_none_or(|end| *at < end)))
}

/// An occurrence plus its jitter, which is bound to its run's id and so never moves.
fn due_at(task: TaskId, spec: &TaskSpec, schedule: &Schedule, occurrence: Timestamp) -> Result<Timestamp, GaveUp> {
    let Some(bound) = spec.jitter.filter(|bound| !bound.is_zero()) else { return Ok(occurrence) };
    let gap =
        schedule.next_after(occurrence)?.and_then(|next| Duration::try_from(next.duration_since(occurrence)).ok());
    let run = RunId::derive(task, &OccurrenceKey::at(occurrence), occurrence, Shard::default());
    Ok(occurrence + jitter_offset(run, bound, gap))
}
