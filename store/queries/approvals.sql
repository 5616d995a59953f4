-- Approvals with the names of their task and agent, oldest first. Needs approval_waiting_idx where only those that wait
-- are asked for. $1 one of them or null, $2 an agent or null, $3 only those that wait, $4 limit.
select
    approval.id,
    approval.agent_id,
    agent.name as agent_name,
    approval.task_id,
    task.title as task_title,
    approval.run_id,
    approval.message,
    approval.data,
    approval.shown_sha256,
    approval.on_timeout,
    approval.requested_at as "requested_at: jiff_sqlx::Timestamp",
    approval.expires_at as "expires_at: jiff_sqlx::Timestamp",
    approval.state,
    approval.answered_at as "answered_at: jiff_sqlx::Timestamp",
    approval.answered_by,
    approval.comment,
    approval.approved_items,
    approval.told_at as "told_at: jiff_sqlx::Timestamp"
from approval
join task on task.id = approval.task_id
join agent on agent.id = approval.agent_id
where ($1::uuid is null or approval.id = $1)
  and ($2::uuid is null or approval.agent_id = $2)
  and (not $3::boolean or (approval.state = 'waiting' and approval.expires_at > now()))
order by approval.id
limit $4
