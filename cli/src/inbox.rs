//! `inbox`: the messages that tasks left. Looking leaves them unread; `--ack` marks them as read.

use clap::Args;
use ordinaut_store::inbox::Message;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    out::{Out, clean},
    session::Session,
    times::{local, relative},
};

#[derive(Debug, Args)]
pub(crate) struct Inbox {
    /// Mark what is shown as read
    #[arg(long)]
    ack: bool,
    /// How many at most, the oldest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

pub(crate) async fn inbox(session: &Session, options: &Inbox, out: Out) -> Result<(), Failure> {
    let Session { store, caller, zone, .. } = session;
    let messages = store.check_inbox(caller, None, options.limit).await?;
    let now = store.now().await?;
    if out.is_json() {
        out.json(&messages.iter().map(to_json).collect::<Vec<_>>())?;
    } else if messages.is_empty() {
        out.line("nothing unread")?;
    } else {
        for message in &messages {
            let at = format!("{} ({})", local(message.posted_at, zone), relative(message.posted_at, now));
            let title = message.title.as_deref().map_or_else(String::new, |title| format!("  {}", clean(title)));
            out.line(format!("{at}  {}{title}", message.level))?;
            for line in message.body.lines() {
                out.line(format!("  {}", clean(line)))?;
            }
        }
    }
    // After it was shown: a reader that went away has not read it.
    if let Some(last) = messages.last().filter(|_| options.ack) {
        store.check_inbox(caller, Some(last.id), 1).await?;
    }
    Ok(())
}

fn to_json(message: &Message) -> Value {
    json!({
        "id": message.id,
        "task_id": message.task,
        "run_id": message.run,
        "level": message.level,
        "title": message.title,
        "body": message.body,
        "posted_at": message.posted_at,
        "acked_at": message.acked_at,
    })
}
