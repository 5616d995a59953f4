//! Claim a batch, conclude it, and again, until nothing is left.

use std::sync::Arc;

use anyhow::Context as _;
use sqlx::{PgPool, types::Uuid};
use tokio::task::JoinSet;

/// Which rows a run's end writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// History.
    Bare,
    /// History and outbox.
    Full,
}

const CONNECTIONS: usize = 2;
pub(super) const BATCH: i64 = 500;

/// By ctid, without a durable commit: a claim that is lost is only made again.
pub(super) const CLAIM: &str = "
    update due_work
    set state = 'running',
        lease_token = gen_random_uuid(),
        lease_owner = $1,
        lease_expires_at = now() + interval '15 s',
        attempt = attempt + 1,
        started_at = now(),
        claimed_at = now()
    where ctid = any (array(
        select ctid
        from due_work
        where state = 'pending'
        order by rank, run_id
        limit (select $2::bigint from set_config('synchronous_commit', 'off', true))
        for no key update skip locked
    ))
    returning run_id, lease_token";

/// `$told`: what is written with the history row.
macro_rules! conclude {
    ($told:literal) => {
        concat!(
            "
    with gone as (
        delete from due_work
        using unnest($1::uuid [], $2::uuid []) as held (run_id, lease_token)
        where due_work.run_id = held.run_id
          and due_work.lease_token = held.lease_token
        returning due_work.*
    )",
            $told,
            "
    insert into run (
        id, shard, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id, cause_depth,
        attempts, failures, crashes, planned_at, started_at, finished_at, output, steps
    )
    select
        run_id, shard, agent_id, task_id, revision, 'succeeded', trigger, occurrence_key, occurrence_at, root_run_id,
        cause_depth, attempt, failures, crashes, planned_at, started_at, clock_timestamp(), '1', $3::jsonb
    from gone"
        )
    };
}

const CONCLUDE: &str = conclude!("");

const CONCLUDE_AND_TELL: &str = conclude!(
    ",
    told as (
        insert into outbox (agent_id, task_id, run_id, topic, payload)
        select
            agent_id, task_id, run_id, 'run.succeeded',
            jsonb_build_object(
                'run_id', run_id, 'task_id', task_id, 'state', 'succeeded', 'scheduled_at', occurrence_at, 'error', null
            )
        from gone
    )"
);

/// The timeline of a run that does nothing, as an executor writes it.
pub(crate) const STEPS: &str = r#"[{
    "step": "nothing", "uses": "data.transform", "state": "succeeded", "calls": 1, "input": {"expr": "`1`"}, "output": 1,
    "started_at": "2026-12-01T04:19:16.123456Z", "finished_at": "2026-12-01T04:19:16.123456Z"
}]"#;

/// Empties the queue.
pub(crate) async fn drain(owner: &PgPool, form: Form) -> anyhow::Result<()> {
    let mut streams = JoinSet::new();
    // One plan for each statement, kept, and by key: planned for 500 ids at hand, a conclusion would scan the queue.
    let plans = [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")];
    let options = Arc::new(owner.connect_options().as_ref().clone().options(plans));
    for _ in 0..CONNECTIONS {
        let options = options.clone();
        streams.spawn(async move { stream(&options, form).await });
    }
    while let Some(ended) = streams.join_next().await {
        ended.context("a stream of the limit program")??;
    }
    Ok(())
}

async fn stream(options: &sqlx::postgres::PgConnectOptions, form: Form) -> anyhow::Result<()> {
    use sqlx::ConnectOptions as _;
    let mut connection = options.connect().await?;
    let conclude = match form {
        Form::Bare => CONCLUDE,
        Form::Full => CONCLUDE_AND_TELL,
    };
    let owner = Uuid::now_v7();
    let steps: serde_json::Value = serde_json::from_str(STEPS).expect("it is JSON");
    let mut empty = 0;
    while empty < 2 {
        let claimed: Vec<(Uuid, Uuid)> =
            sqlx::query_as(CLAIM).bind(owner).bind(BATCH).fetch_all(&mut connection).await?;
        if claimed.is_empty() {
            empty += 1;
            continue;
        }
        empty = 0;
        let (runs, tokens): (Vec<Uuid>, Vec<Uuid>) = claimed.into_iter().unzip();
        sqlx::query(conclude).bind(&runs).bind(&tokens).bind(&steps).execute(&mut connection).await?;
    }
    Ok(())
}
