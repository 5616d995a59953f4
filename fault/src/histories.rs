//! What is judged: everything that was seen of one fault, from outside and by the witnesses.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ordinaut_schema::id::{EventId, LeaseToken, RunId, TaskId};
use serde::{Deserialize, Serialize};

use crate::expected::Expected;

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Histories {
    pub expected: Vec<Expected>,
    pub ended: Vec<EndedRun>,
    /// What was not over when the lab had no more patience.
    pub live: Vec<LiveRun>,
    pub stretches: Vec<Stretch>,
    /// In the order in which the database let them happen.
    pub notes: Vec<Note>,
    /// In the order in which they arrived.
    pub calls: Vec<Call>,
    pub acknowledged: Vec<Kept>,
    /// Acknowledged while nothing was replicated any more: it may be there.
    pub doubtful: Vec<Kept>,
    pub kept: BTreeSet<Kept>,
    pub outbox: BTreeSet<EventId>,
    /// Event ids in the stream.
    pub told: BTreeSet<EventId>,
    pub disturbances: Vec<Disturbance>,
    /// PostgreSQL's clock was another one than the lab's: what they dated is not compared.
    pub clocks_differ: bool,
    pub unreplicated: Option<Unreplicated>,
    pub turns: Vec<Turns>,
}

/// A time whose commits a replica never got, before it took over: what was done then may be gone, and be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreplicated {
    /// Everything that was committed before is there.
    pub since: Timestamp,
    /// From here on, what is done is done to what took over.
    pub until: Timestamp,
}

impl Unreplicated {
    pub fn has(self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }
}

/// A path that no more than so many calls are inside of at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    pub path: String,
    pub most: usize,
}

/// A row of history.
#[derive(Debug, Clone, Deserialize)]
pub struct EndedRun {
    pub id: RunId,
    pub task: TaskId,
    pub state: String,
    pub trigger: String,
    pub key: String,
    pub occurrence_at: Timestamp,
    pub stretch_to: Option<Timestamp>,
    pub stretch_count: Option<u32>,
    pub attempts: u32,
    pub failures: u32,
    pub crashes: u32,
    /// The sink's number of the call whose answer each finished step kept.
    pub answers: Vec<Answer>,
}

/// A step's kept result, by the number that the sink gave it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Answer {
    pub step: String,
    pub call: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct LiveRun {
    pub id: RunId,
    pub task: TaskId,
    pub state: String,
    pub trigger: String,
    pub occurrence_at: Timestamp,
}

/// The open stretch of a task.
#[derive(Debug, Clone, Deserialize)]
pub struct Stretch {
    pub task: TaskId,
    pub from: Timestamp,
    pub to: Timestamp,
    pub count: u32,
}

/// What a witness saw, in the writer's own transaction: rolled back with it, and committed with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Note {
    pub at: Timestamp,
    /// The session's user: every executor that the lab starts logs in under a name of its own.
    pub by: String,
    pub run: RunId,
    #[serde(flatten)]
    pub seen: Seen,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Seen {
    /// A row of `due_work` came, changed its state or lease, or went.
    Moved {
        before: Option<String>,
        after: Option<String>,
        token_before: Option<LeaseToken>,
        token_after: Option<LeaseToken>,
        /// One crash more was counted: recovery.
        crashed: bool,
    },
    /// A step was written to the journal.
    Journaled { step: String, state: String, call: Option<u64> },
    /// A row of history came.
    Ended { after: String },
}

/// A call that the sink received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// From 1 on; what it was answered with.
    pub call: u64,
    pub at: Timestamp,
    /// When it was answered, or hung up on; `None` while it is inside.
    #[serde(skip)]
    pub left_at: Option<Timestamp>,
    pub method: String,
    pub path: String,
    /// `<root run>/<step>`.
    pub key: Option<String>,
}

/// What exists, or was said to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    Task(TaskId),
    Run(RunId),
    /// By its publisher's id.
    Event(String),
}

/// Something that the lab did to the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    pub begun: Timestamp,
    pub over: Timestamp,
    /// The one it was done to; `None`: all of them.
    pub executor: Option<String>,
}
