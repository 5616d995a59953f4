-- Unread messages of an agent, oldest first, and the snapshot that saw them kept on the last one. Needs inbox_new_idx.
-- $1 agent, $2 limit. One statement, so that the snapshot kept is the one that was read under. The first listing that
-- ends at a message keeps its snapshot: one that came later may have shown more than the first one's reader knows.
with page as (
    select id
    from inbox
    where agent_id = $1
      and acked_at is null
    order by id
    limit $2
),
marked as (
    update inbox
    set shown_in = pg_current_snapshot()
    where id = (select page.id from page order by page.id desc limit 1)
      and shown_in is null
)
select
    inbox.id,
    inbox.task_id,
    inbox.run_id,
    inbox.level,
    inbox.title,
    inbox.body,
    inbox.posted_at as "posted_at: jiff_sqlx::Timestamp",
    inbox.acked_at as "acked_at: jiff_sqlx::Timestamp"
from inbox
join page on page.id = inbox.id
order by inbox.id
