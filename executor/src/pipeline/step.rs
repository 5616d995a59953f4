//! One step, or one item of one: judged, rendered, called, validated, journaled.

use jiff::Timestamp;
use opentelemetry::KeyValue;
use ordinaut_schema::{
    action::{Effect, data, need},
    event::Topic,
    pipeline::{OnError, Step},
    run::{ErrorKind, StepFailure, StepRecord, StepState},
    secret::mark,
    template,
    time::Zone,
};
use ordinaut_store::faults;
use serde_json::{Value, json};
use tracing::Instrument as _;

use super::{
    Engine, Halt, budget, call, effect, output, outputs,
    resume::{Standing, standing},
};
use crate::{
    actions::{Answer, StepCall},
    metrics,
    progress::ProgressEvent,
    traces,
};

/// Which call of which step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    step: &'p Step,
    item: Option<(u32, &'p Value)>,
    /// Others run beside it: its result is made durable at once.
    beside: bool,
    /// Part of `on_failure`: called once, whatever comes of it.
    aftermath: bool,
}

impl<'p> Place<'p> {
    pub(super) const fn alone(step: &'p Step) -> Self {
        Self { step, item: None, beside: false, aftermath: false }
    }

    pub(super) const fn member(step: &'p Step) -> Self {
        Self { beside: true, ..Self::alone(step) }
    }

    pub(super) const fn aftermath(step: &'p Step) -> Self {
        Self { aftermath: true, ..Self::alone(step) }
    }

    pub(super) fn item(step: &'p Step, n: usize, item: &'p Value) -> Self {
        let n = u32::try_from(n).expect("a foreach has at most a thousand items");
        Self { item: Some((n, item)), beside: true, ..Self::alone(step) }
    }

    pub(super) fn id(&self) -> &'p str {
        &self.step.id
    }

    pub(super) fn index(&self) -> Option<u32> {
        self.item.map(|(n, _)| n)
    }
}

impl Engine<'_> {
    /// Brings one step to its end, from wherever it stands.
    pub(super) async fn call_step(&self, place: Place<'_>) -> Result<(), Halt> {
        let step = place.step;
        let begun = match self.journal.find(&step.id, place.index()) {
            Some(record) => self.resume(place, record)?,
            None => self.begin(place).await?,
        };
        let Some(mut record) = begun else { return Ok(()) };
        self.orders.may_start().await?;
        if let Err(failure) = self.may_call(step, &record.input) {
            return self.fail(place, record, failure);
        }
        let effect = effect::effect(step, &record.input, &self.around.actions);
        if effect == Effect::Pure {
            self.journal.flush_effects().await?;
        } else {
            record.error = None;
            // What a step waits for stays until its call is over, unless a repeat might do harm.
            let waits_for = std::mem::take(&mut record.output);
            let output = if effect == Effect::Once { Value::Null } else { waits_for };
            // A repeated call too: a database that crashed may have lost the claim, and only after a write under its
            // lease is it sure that nobody else has the run.
            self.journal.put(StepRecord { output, ..record.clone() });
            self.journal.flush().await?;
        }
        let answer = match self.perform(&place, &record).await {
            Ok(Answer::Parked { until, waiting }) => return self.park(place, record, until, waiting),
            Ok(Answer::Output(output)) => Ok(output),
            Err(failure) => Err(failure),
        };
        let answered = answer.is_ok();
        let answer = answer.and_then(|answer| output::accept(answer, step.expect.as_ref(), &self.around.limits));
        record.calls += 1;
        count(step, answer.as_ref().err());
        let ended = match answer {
            Ok(answer) => self.succeed(place, record, answer),
            Err(failure) if failure.kind == ErrorKind::Cancelled => Err(Halt::Cancelled),
            Err(failure) if effect == Effect::Once && failure.sent => {
                self.fail(place, record, unknown(&failure.message))
            }
            Err(failure) if effect == Effect::Once && answered => self.fail(place, record, done(failure)),
            Err(failure) => self.fail_or_retry(place, record, failure),
        };
        if place.beside {
            self.journal.flush_effects().await?;
        }
        ended
    }

    /// The step waits, and the run with it: what it waits for is kept with the record, its call is not counted.
    fn park(&self, place: Place<'_>, mut record: StepRecord, until: Timestamp, waiting: Value) -> Result<(), Halt> {
        if place.aftermath {
            let message = format!("`{}` waits, and a step of on_failure cannot", place.step.uses);
            return self.fail(place, record, StepFailure::new(ErrorKind::ClientError, message));
        }
        debug_assert!(!waiting.is_null(), "what a parked step waits for is what marks it as parked");
        record.output = waiting;
        self.journal.put(record);
        Err(Halt::Parked { until })
    }

    /// A step that an earlier attempt began: `None` when it is over, else its record, to be called again.
    fn resume(&self, place: Place<'_>, record: StepRecord) -> Result<Option<StepRecord>, Halt> {
        match standing(&record, effect::effect(place.step, &record.input, &self.around.actions)) {
            Standing::Done => Ok(None),
            Standing::Failed(failure) => Err(Halt::Failed(failure)),
            Standing::Unknown => {
                self.fail(place, record, unknown("its executor was lost during it"))?;
                Ok(None)
            }
            Standing::Again => Ok(Some(record)),
        }
    }

    /// A step that nobody began: judged and rendered; `None` when it is skipped, or failed and continued from.
    async fn begin(&self, place: Place<'_>) -> Result<Option<StepRecord>, Halt> {
        self.orders.may_start().await?;
        if place.item.is_none() && self.is_skipped(place.step)? {
            return Ok(None);
        }
        match self.rendered(&place) {
            Ok(input) => Ok(Some(self.new_record(&place, input))),
            Err(failure) => {
                self.fail(place, self.new_record(&place, Value::Null), failure)?;
                Ok(None)
            }
        }
    }

    /// The call itself; pure steps are computed here, on the scope they stand in.
    async fn perform(&self, place: &Place<'_>, record: &StepRecord) -> Result<Answer, StepFailure> {
        let step = place.step;
        if data::is_pure(&step.uses) {
            return self.in_scope(place, |scope| data::perform(&step.uses, &record.input, scope)).map(Answer::Output);
        }
        let Some(action) = self.around.actions.find(&step.uses) else {
            return Err(StepFailure::new(
                ErrorKind::ClientError,
                format!("this executor has no action `{}`; list_actions says what there is", step.uses),
            ));
        };
        let key = match place.index() {
            Some(n) => format!("{}/{}/{n}", self.run.root_run, step.id),
            None => format!("{}/{}", self.run.root_run, step.id),
        };
        let default = if step.uses == "llm.generate" { Step::TIMEOUT * 3 } else { Step::TIMEOUT };
        let step_call = StepCall {
            uses: step.uses.clone(),
            input: record.input.clone(),
            idempotency_key: key,
            started_at: record.started_at.unwrap_or(self.run.started_at),
            limit: step.timeout.unwrap_or(default).min(self.around.limits.step_timeout),
            agent: self.run.agent,
            task: self.run.task,
            run: self.run.id,
            cause_depth: self.run.cause_depth,
            budget: self.spec.budget(),
            zone: Zone::find(&self.spec.timezone).unwrap_or_else(Zone::utc),
            cancelled: self.orders.cancelled.child_token(),
        };
        let span = traces::step(&step.id, &step.uses, place.index());
        faults::reached("before-call");
        let answer = call::call(action, step_call).instrument(span.clone()).await;
        faults::reached("after-call");
        traces::called(&span, answer.as_ref().err());
        answer
    }

    fn succeed(&self, place: Place<'_>, mut record: StepRecord, answer: Value) -> Result<(), Halt> {
        if let Err(failure) = self.fits(&answer) {
            return self.fail(place, record, failure);
        }
        record.state = StepState::Succeeded;
        record.output = answer;
        record.error = None;
        self.finish(record);
        Ok(())
    }

    fn fail_or_retry(&self, place: Place<'_>, mut record: StepRecord, failure: StepFailure) -> Result<(), Halt> {
        let step = place.step;
        let failure = failure.at_step(&step.id);
        record.error = Some(failure.clone());
        self.journal.put(record.clone());
        if place.aftermath {
            return self.fail(place, record, failure);
        }
        let (retry, failures) = if let Some(own) = &step.retry {
            (own, record.calls)
        } else {
            let spent = self.journal.read(|records| budget::spent_by_task(&self.spec.pipeline, records));
            (&self.spec.retry, spent)
        };
        match budget::next_call(&failure, retry, failures, rand::random()) {
            Some(delay) => Err(Halt::Retry { delay, error: failure }),
            None => self.fail(place, record, failure),
        }
    }

    /// Ends a step as failed; its run goes on only with `on_error: continue`.
    fn fail(&self, place: Place<'_>, mut record: StepRecord, failure: StepFailure) -> Result<(), Halt> {
        let failure = failure.at_step(&place.step.id);
        record.error = Some(failure.clone());
        if place.step.on_error == OnError::Continue {
            record.state = StepState::Continued;
            record.output = outputs::error_output(&failure);
            self.finish(record);
            return Ok(());
        }
        record.state = StepState::Failed;
        self.finish(record);
        Err(Halt::Failed(failure))
    }

    /// As [`Engine::fail`], for a step that never got as far as a call and cannot be continued from.
    pub(super) fn refuse(&self, step: &Step, input: Value, failure: StepFailure) -> Halt {
        let failure = failure.at_step(&step.id);
        let record = self.new_record(&Place::alone(step), input);
        self.finish(StepRecord { state: StepState::Failed, error: Some(failure.clone()), ..record });
        Halt::Failed(failure)
    }

    fn finish(&self, mut record: StepRecord) {
        record.finished_at = Some(self.around.clock.now());
        self.around.progress.tell(|| ProgressEvent {
            topic: Topic::StepFinished,
            agent: self.run.agent,
            task: self.run.task,
            run: self.run.id,
            payload: json!({ "step": record.step, "index": record.index, "state": record.state, "calls": record.calls }),
        });
        self.journal.put(record);
    }

    pub(super) fn new_record(&self, place: &Place<'_>, input: Value) -> StepRecord {
        StepRecord {
            step: place.step.id.clone(),
            index: place.index(),
            uses: place.step.uses.clone(),
            state: StepState::Started,
            calls: 0,
            input,
            output: Value::Null,
            error: None,
            started_at: Some(self.around.clock.now()),
            finished_at: None,
        }
    }

    fn rendered(&self, place: &Place<'_>) -> Result<Value, StepFailure> {
        let mut input = self.in_scope(place, |scope| data::render(&place.step.uses, &place.step.with, scope))?;
        output::remove_nul(&mut input);
        self.fits(&input)?;
        Ok(input)
    }

    fn in_scope<T>(&self, place: &Place<'_>, look: impl FnOnce(&template::Scope) -> T) -> T {
        let mut scope = self.scope();
        if let Some((n, item)) = place.item {
            scope.item = item.clone();
            scope.index = n.into();
        }
        let seen = look(&scope);
        scope.item = Value::Null;
        scope.index = Value::Null;
        seen
    }

    /// Grants are looked at again at the call: they may have been taken since the task was made, and what was a template
    /// then has its value now.
    fn may_call(&self, step: &Step, input: &Value) -> Result<(), StepFailure> {
        let missing = match need(&step.uses, input) {
            Some(need) if !self.grants.allow(&need) => Some((need.to_string(), need.grant(""))),
            _ => mark::names(input)
                .into_iter()
                .find(|name| !self.grants.allow_secret(name))
                .map(|name| (format!("the secret `{name}`"), format!("ordinaut agent grant <agent> --secret {name}"))),
        };
        missing.map_or(Ok(()), |(missing, command)| {
            let message = format!("the agent is not granted {missing}; a person grants it with `{command}`");
            Err(StepFailure::new(ErrorKind::Denied, message))
        })
    }

    /// Whether one more value still fits into what is kept of a run.
    pub(super) fn fits(&self, value: &Value) -> Result<(), StepFailure> {
        let (kept, more) = (self.journal.bytes(), output::json_bytes(value));
        if kept + more <= self.around.limits.journal_bytes {
            return Ok(());
        }
        Err(StepFailure::new(
            ErrorKind::InvalidOutput,
            format!(
                "with these {more} bytes the run's inputs and outputs pass the {} that are kept of a run; \
                 narrow what earlier steps return",
                self.around.limits.journal_bytes
            ),
        ))
    }
}

pub(super) fn unknown(why: &str) -> StepFailure {
    StepFailure::new(
        ErrorKind::OutcomeUnknown,
        format!(
            "nobody knows whether the call had its effect: {why}. A repeat could do it twice, so it is not repeated by \
             itself: look at the other side, then retry the run, or mark the step `idempotent: true` if a repeat is safe"
        ),
    )
}

/// The call had its effect, only its answer is of no use: a repeat would do it twice.
fn done(mut failure: StepFailure) -> StepFailure {
    failure.message.push_str(
        ". The call itself was answered, so it had its effect and is not repeated by itself: mend `expect` or what is \
         asked for, or mark the step `idempotent: true` if a repeat is safe",
    );
    failure
}

fn count(step: &Step, failure: Option<&StepFailure>) {
    let outcome = failure.map_or("ok", |failure| failure.kind.as_str());
    // Tools of MCP servers are many and not ours: one label for all of a server's.
    let family = step.uses.split('.').next().unwrap_or_default().to_owned();
    metrics::get().calls.add(1, &[KeyValue::new("family", family), KeyValue::new("outcome", outcome)]);
}
