//! What ends of runs mean for their tasks: failures in a row are counted, and pause the task when they are too many.

use ordinaut_schema::{
    event::Topic,
    id::{AgentId, TaskId},
    run::RunState,
};
use serde_json::json;
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    conclusions::Ended,
    error::{Doing as _, StoreError},
    outbox::{Told, tell},
};

/// Counts failures in a row (a success ends the row), pauses what failed too often, and leaves a message.
pub(crate) async fn note_ends(tx: &mut Transaction<'_, Postgres>, ended: &[Ended<'_>]) -> Result<(), StoreError> {
    let of = |states: &[RunState]| -> Vec<Uuid> {
        let mut tasks: Vec<Uuid> =
            ended.iter().filter(|it| states.contains(&it.state)).map(|it| it.task.uuid()).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    };
    let succeeded = of(&[RunState::Succeeded]);
    if !succeeded.is_empty() {
        sqlx::query!("update task set failures_in_row = 0 where id = any ($1) and failures_in_row > 0", &succeeded)
            .execute(&mut **tx)
            .await
            .doing("end a row of failures")?;
    }
    let failed = of(&[RunState::Failed, RunState::Quarantined]);
    if failed.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "
        update task
        set failures_in_row = task.failures_in_row + 1
        from (select id from task where id = any ($1) order by id for no key update) as locked
        where task.id = locked.id
        ",
        &failed
    )
    .execute(&mut **tx)
    .await
    .doing("count failures in a row")?;
    pause_failing(tx, &failed).await
}

/// Pauses those of `tasks` whose failures in a row have reached their limit.
async fn pause_failing(tx: &mut Transaction<'_, Postgres>, tasks: &[Uuid]) -> Result<(), StoreError> {
    let paused = sqlx::query!(
        r#"
        update task
        set state = 'paused',
            resume_at = null,
            paused_because = 'failed ' || task.failures_in_row || ' times in a row',
            updated_at = now()
        from task_revision
        where task.id = any ($1)
          and task.state = 'active'
          and task_revision.task_id = task.id
          and task_revision.revision = task.revision
          and (task_revision.definition ->> 'pause_after_failures')::integer between 1 and task.failures_in_row
        returning task.id, task.agent_id, task.title, task.failures_in_row
        "#,
        tasks
    )
    .fetch_all(&mut **tx)
    .await
    .doing("pause failing tasks")?;
    let mut told = Vec::with_capacity(paused.len());
    for task in paused {
        let because = format!("failed {} times in a row", task.failures_in_row);
        sqlx::query!(
            "
            insert into inbox (id, agent_id, task_id, key, level, title, body, escalate_at)
            values ($1, $2, $3, $4, 'error', $5, $6, escalation_due($3))
            on conflict on constraint inbox_posted_once do nothing
            ",
            Uuid::now_v7(),
            task.agent_id,
            task.id,
            format!("paused:{}:{}", task.id, Uuid::now_v7()),
            format!("Paused: {}", task.title),
            format!("`{}` {because} and is paused. Look at its last runs, mend it, then resume it.", task.title),
        )
        .execute(&mut **tx)
        .await
        .doing("post that a task is paused")?;
        told.push(Told {
            agent: AgentId::from_uuid(task.agent_id),
            task: Some(TaskId::from_uuid(task.id)),
            run: None,
            topic: Topic::TaskPaused.as_str().into(),
            cause_depth: 0,
            payload: json!({ "task_id": task.id, "title": task.title, "because": because }),
        });
    }
    tell(tx, &told).await
}
