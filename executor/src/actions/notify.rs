//! `notify.send`: a message to a person, through a channel of the operator's. One file for each kind of channel.
//!
//! What they promise together: the text is cut to what the service takes and cannot mention everybody; a repeat shows
//! the message twice rather than not at all, and carries the call's key where the service can use one; a credential is
//! in no failure and no output. `me` always exists: the inbox, and this machine's desktop where there is one, until the
//! operator redirects it.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ordinaut_schema::{
    id::RunId,
    limits::Limits,
    operator::{Channel, Operator},
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::{Store, secrets::SecretVault};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::message::Message;
use super::{
    Action, Answer, StepCall,
    credentials::{Owner, Used},
    http::{
        endpoint::{self, Reply},
        own_limit,
    },
    store_failure,
};
use crate::operator::Standing;

pub mod desktop;
mod discord;
mod email;
mod inbox;
mod message;
mod ntfy;
mod slack;
mod telegram;
mod webhook;

pub use desktop::Desktop;

/// The channel that needs no configuration.
const ME: &str = "me";
/// What a service says of a message that it took.
const REPLY_BYTES: usize = 64 * 1024;

/// Performs `notify.send`.
pub struct NotifySend {
    standing: Standing,
    store: Store,
    secrets: SecretVault,
    desktop: Desktop,
    most_per_day: u32,
}

impl std::fmt::Debug for NotifySend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotifySend").field("desktop", &self.desktop).finish_non_exhaustive()
    }
}

/// What sending one message may use.
struct Sending<'a> {
    call: &'a StepCall,
    message: &'a Message,
    secrets: &'a SecretVault,
    used: &'a mut Used,
    deadline: Instant,
    /// Set before the message may leave.
    sent: &'a AtomicBool,
    /// In whose name it is sent, if in one's.
    run: Option<RunId>,
    /// What it says is in the inbox already.
    is_posted: bool,
}

/// What is told of something that the inbox has already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced<'a> {
    /// To it, and for nobody else to see; empty for none.
    pub(crate) link: &'a str,
    /// A message of a task that was paused, say, is of no run.
    pub(crate) run: Option<RunId>,
}

impl Sending<'_> {
    /// Posts JSON to a service; later headers overrule earlier ones.
    async fn post_json(&mut self, url: Url, headers: &[(&str, String)], body: &Value) -> Result<Reply, StepFailure> {
        let post = endpoint::Post { url, headers: endpoint::headers(headers)?, body: body.to_string().into() };
        self.sent.store(true, Ordering::Relaxed);
        endpoint::post(post, self.deadline, REPLY_BYTES, self.used.redactor()).await
    }
}

impl NotifySend {
    pub fn new(standing: Standing, store: Store, secrets: SecretVault, desktop: Desktop, limits: &Limits) -> Self {
        Self { standing, store, secrets, desktop, most_per_day: limits.notifications_per_day }
    }

    async fn send(&self, channel: Option<&Channel>, sending: Sending<'_>) -> Result<Map<String, Value>, StepFailure> {
        let said = match channel {
            None => return self.tell_me(sending).await,
            Some(Channel::Email(email)) => email::send(email, sending).await?,
            Some(Channel::Slack { url }) => slack::send(url, sending).await?,
            Some(Channel::Discord { url }) => discord::send(url, sending).await?,
            Some(Channel::Telegram { token, chat_id, base_url }) => {
                telegram::send(&telegram::Bot { token, chat_id, base_url }, sending).await?
            }
            Some(Channel::Ntfy { base_url, topic, token }) => {
                ntfy::send(&ntfy::Topic { base_url, name: topic, token: token.as_ref() }, sending).await?
            }
            Some(Channel::Webhook { url, headers }) => webhook::send(url, headers, sending).await?,
            Some(Channel::Desktop) => self.desktop.show(sending.message).await.map(|()| json!({}))?,
            Some(Channel::Inbox) => inbox::post(&self.store, &sending).await?,
        };
        let Value::Object(said) = said else { unreachable!("channels answer with objects") };
        Ok(said)
    }

    /// The inbox, which counts, and the desktop, which is a courtesy.
    async fn tell_me(&self, sending: Sending<'_>) -> Result<Map<String, Value>, StepFailure> {
        let mut said = inbox::post(&self.store, &sending).await?;
        let shown = match self.desktop.show(sending.message).await {
            Ok(()) => true,
            Err(failure) => {
                tracing::debug!(run.id = %sending.call.run, "no desktop notification: {failure}");
                false
            }
        };
        said["desktop"] = json!(shown);
        Ok(said.as_object().cloned().unwrap_or_default())
    }

    /// A limit is no pace: a task that loops is not to be delivered tomorrow, so it is denied, which is not retried.
    async fn count(&self, call: &StepCall) -> Result<(), StepFailure> {
        let most = self.most_per_day;
        match self.store.count_call(call.agent, "notify.send", most).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StepFailure::new(
                ErrorKind::Denied,
                format!(
                    "this agent has sent {most} notifications today (UTC), which is the most a day; gather several \
                     messages into one, or let the task run less often"
                ),
            )),
            Err(error) => Err(store_failure(&error)),
        }
    }
}

/// The channel of that name; `me` without configuration is none.
fn find<'o>(name: &str, operator: &'o Operator) -> Result<Option<&'o Channel>, StepFailure> {
    match operator.channels.get(name) {
        Some(channel) => Ok(Some(channel)),
        None if name == ME => Ok(None),
        None => {
            let others = operator.channels.keys().map(String::as_str).filter(|it| *it != ME);
            let names: Vec<_> = std::iter::once(ME).chain(others).collect();
            Err(StepFailure::new(
                ErrorKind::ClientError,
                format!(
                    "the channel `{name}` is not configured: there is {}. A person adds one with ordinaut channel add",
                    names.join(", ")
                ),
            ))
        }
    }
}

#[async_trait]
impl Action for NotifySend {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        self.deliver(call, None).await.map(Answer::Output)
    }
}

impl NotifySend {
    /// Tells of what the inbox has already; its link is neither in what it answers nor in a failure.
    pub(crate) async fn announce(&self, call: StepCall, announced: Announced<'_>) -> Result<(), StepFailure> {
        self.deliver(call, Some(announced)).await.map(drop)
    }

    async fn deliver(&self, call: StepCall, announced: Option<Announced<'_>>) -> Result<Value, StepFailure> {
        let message = Message::read(&call.input)?;
        let operator = self.standing.borrow().clone();
        let channel = find(&message.channel, &operator)?;
        self.count(&call).await?;
        let kind = channel.map_or("inbox", |channel| channel.kind().as_str());
        let deadline = Instant::now() + own_limit(call.limit);
        let (mut used, sent) = (Used::of(Owner::Channel(message.channel.clone())), AtomicBool::new(false));
        if let Some(announced) = announced {
            used.hide(announced.link);
        }
        let sending = Sending {
            call: &call,
            message: &message,
            secrets: &self.secrets,
            used: &mut used,
            deadline,
            sent: &sent,
            run: announced.map_or(Some(call.run), |announced| announced.run),
            is_posted: announced.is_some(),
        };
        let done = tokio::select! {
            biased;
            done = timeout_at(deadline, self.send(channel, sending)) => done,
            () = call.cancelled.cancelled() => {
                let message = format!("the run was cancelled while the channel `{}` was sent to", message.channel);
                return Err(StepFailure::new(ErrorKind::Cancelled, message).sent(sent.load(Ordering::Relaxed)));
            }
        };
        let said = done.unwrap_or_else(|_elapsed| {
            let message = format!("the channel `{}` took no message within {:?}", message.channel, call.limit);
            Err(StepFailure::new(ErrorKind::Timeout, message))
        });
        match said {
            Ok(said) => {
                let mut output = json!({ "channel": message.channel, "kind": kind, "delivered": true });
                output.as_object_mut().expect("just built as an object").extend(said);
                used.redactor().clean(&mut output);
                Ok(output)
            }
            Err(failure) => {
                let sent = failure.sent || sent.load(Ordering::Relaxed) && may_have_left(failure.kind);
                let failure = used.mask_failure(failure).sent(sent);
                let message = format!("channel `{}`: {}", message.channel, failure.message);
                Err(StepFailure { message, ..failure })
            }
        }
    }
}

/// What the other side refused did not go out.
const fn may_have_left(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Timeout | ErrorKind::Cancelled)
}
