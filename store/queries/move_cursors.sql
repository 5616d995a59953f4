-- One element a task in each array; the tasks are locked. A pass that lies behind the cursor is forgotten.
update task
set next_occurrence_at = moved.next_occurrence_at,
    next_due_at = moved.next_due_at,
    last_occurrence_at = moved.last_occurrence_at,
    runs_planned = moved.runs_planned,
    snoozed_until = moved.snoozed_until,
    skip_next = moved.skip_next,
    state = moved.state,
    resume_at = case when moved.state = 'paused' then task.resume_at end,
    paused_because = case when moved.state = 'paused' then coalesce(moved.because, task.paused_because) end,
    pass_until = case when task.pass_until > now() then task.pass_until end,
    pass_reason = case when task.pass_until > now() then task.pass_reason end,
    stretch_reason = moved.stretch_reason,
    stretch_from = moved.stretch_from,
    stretch_to = moved.stretch_to,
    stretch_count = moved.stretch_count,
    stretch_opened_at = moved.stretch_opened_at
from unnest(
    $1::uuid [], $2::timestamptz [], $3::timestamptz [], $4::timestamptz [], $5::bigint [], $6::timestamptz [],
    $7::integer [], $8::text [], $9::text [], $10::text [], $11::timestamptz [], $12::timestamptz [], $13::integer [],
    $14::timestamptz []
) as moved (
    id, next_occurrence_at, next_due_at, last_occurrence_at, runs_planned, snoozed_until, skip_next, state, because,
    stretch_reason, stretch_from, stretch_to, stretch_count, stretch_opened_at
)
where task.id = moved.id
