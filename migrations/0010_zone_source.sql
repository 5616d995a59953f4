-- Why a task has the zone it has: whoever asks about it later is told, as its creator was. Null for tasks that were
-- kept before this was, and for those that a program one version back keeps.
alter table task add column zone_source text
    constraint task_zone_source check (zone_source in ('task', 'agent', 'machine', 'configuration', 'not_needed'));
