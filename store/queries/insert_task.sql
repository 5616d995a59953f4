-- A new task, unless its title is taken: then no row comes back, and nothing is broken.
-- $1 task, $2 agent, $3 title, $4 its key, $5 state, $6 schedule kind, $7 topic, $8 next occurrence, $9 due, $10 zone source.
-- The arbiter is the unique index task_title_taken: of two that insert one title at once, the second waits here.
insert into task (
    id, agent_id, title, title_key, state, revision, schedule_kind, topic, next_occurrence_at, next_due_at,
    zone_source
)
values ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10)
on conflict (agent_id, title_key) where state in ('active', 'paused') do nothing
