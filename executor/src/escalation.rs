//! Escalation: messages that stayed unread in an inbox are sent to the channel that their task names.
//!
//! Each message is claimed in Postgres, so that of several executors one sends it, once; at least once where an executor
//! dies between sending and noting it. A channel that does not take it is tried again, with longer pauses. Grants are
//! judged again at each try: they may have been taken, or given, since the task was kept.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    action::Need,
    budget::Budget,
    id::RunId,
    run::{ErrorKind, StepFailure},
    time::Zone,
};
use ordinaut_store::{Store, StoreError, escalations::Escalation};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    actions::{
        StepCall,
        notify::{Announced, NotifySend},
    },
    metrics,
};

/// Between two looks: a message's `escalate_after` is a minute at least.
const LOOK: Duration = Duration::from_secs(15);
/// Of one message; less than a claim lasts.
const LIMIT: Duration = Duration::from_mins(1);

/// Sends what is due until `drain`.
pub async fn serve(store: Store, notify: Arc<NotifySend>, drain: CancellationToken) -> anyhow::Result<()> {
    loop {
        if let Err(error) = send_due(&store, &notify, &drain).await {
            metrics::get().store_errors.add(1, &[opentelemetry::KeyValue::new("service", "escalation")]);
            warn!(error = &error as &dyn std::error::Error, "escalation failed; it is tried again");
        }
        if drain.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return Ok(());
        }
    }
}

/// Sends every message that is due, one after the other; answers how many channels took.
///
/// # Errors
/// When the database fails; what was claimed is due again later.
pub async fn send_due(store: &Store, notify: &NotifySend, drain: &CancellationToken) -> Result<u32, StoreError> {
    let mut sent = 0;
    while !drain.is_cancelled()
        && let Some(due) = store.claim_escalation().await?
    {
        let Some(channel) = due.channel.as_deref() else {
            store.settle_escalation(due.message, false).await?;
            continue;
        };
        match send(store, notify, &due, channel, drain).await? {
            Ok(()) => {
                store.settle_escalation(due.message, true).await?;
                sent += 1;
            }
            Err(failure) => {
                let then = if due.is_last { "it is not tried again" } else { "it is tried again later" };
                warn!(message.id = %due.message, task.id = %due.task, "an unread message was not sent: {failure}; {then}");
            }
        }
    }
    Ok(sent)
}

async fn send(
    store: &Store,
    notify: &NotifySend,
    due: &Escalation,
    channel: &str,
    drain: &CancellationToken,
) -> Result<Result<(), StepFailure>, StoreError> {
    let agent = store.find_agent(due.agent).await?;
    let need = Need::Channel(channel.to_owned());
    if !agent.grants.allow(&need) {
        let message =
            format!("the agent may not use {need} any more; a person grants it with `{}`", need.grant(&agent.name));
        return Ok(Err(StepFailure::new(ErrorKind::Denied, message)));
    }
    let mut input = json!({
        "channel": channel,
        "text": format!("{}\nUnread in the inbox since {}.", due.body, due.posted_at),
        "level": due.level,
    });
    if let Some(title) = &due.title {
        input["title"] = json!(title);
    }
    let call = StepCall {
        uses: "notify.send".to_owned(),
        input,
        idempotency_key: format!("escalation/{}", due.message),
        started_at: due.posted_at,
        limit: LIMIT,
        agent: due.agent,
        task: due.task,
        // A task that was paused posts in the name of no run.
        run: due.run.unwrap_or_else(|| RunId::floor(Timestamp::UNIX_EPOCH)),
        cause_depth: 0,
        budget: Budget::default(),
        zone: Zone::utc(),
        cancelled: drain.child_token(),
    };
    // The inbox has it already, and no link is to be hidden.
    Ok(notify.announce(call, Announced { link: "", run: due.run }).await)
}
