-- Definitions of tasks, by pairs. $1 tasks, $2 the revision of each. Needs task_revision_pkey.
-- Looked up one by one: a plan that is kept and knows nothing of the number may read all of them.
select
    asked.task_id as "task_id!",
    (
        select task_revision.definition
        from task_revision
        where task_revision.task_id = asked.task_id
          and task_revision.revision = asked.revision
    ) as "definition!"
from unnest($1::uuid [], $2::integer []) as asked (task_id, revision)
