//! `http.*`: one guarded HTTP call.
//!
//! What it promises: nothing but judged addresses is ever connected to, on the first hop or a later one
//! ([`guard`]); credentials stay with their origin; time, output and decompressed size are bounded; and a failure
//! says whether the request may have left (`sent`), so that the engine can tell "try again" from "nobody knows".
//! Messages name host and status, never a URL, which may hold credentials.
//!
//! `secrets` puts values in when the request is made, and takes them out of what comes back.
//! `connect` makes the one request, `redirect` decides the next hop, `body` shapes the output, `status` types
//! what was not expected.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::Method;
use ordinaut_schema::{
    limits::Limits,
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::secrets::SecretVault;
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use self::{
    guard::{Destination, Guard},
    request::Request,
    secrets::Carried,
};
use super::{Action, ActionRegistry, Answer, StepCall};

pub(crate) mod body;
mod connect;
pub(crate) mod endpoint;
pub mod guard;
mod redirect;
mod request;
pub(crate) mod secrets;
pub(crate) mod status;

/// The actions of this family.
pub const NAMES: &[&str] =
    &["http.request", "http.get", "http.post", "http.put", "http.patch", "http.delete", "http.head"];

/// What a call may cost.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Of the output as JSON; the body is read no further.
    pub output_bytes: usize,
    pub json_depth: usize,
    pub redirects: usize,
    pub connect_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            output_bytes: Limits::DEFAULT.step_output_bytes,
            json_depth: Limits::DEFAULT.json_depth,
            redirects: 5,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Performs `http.*`.
#[derive(Debug)]
pub struct HttpAction {
    guard: Guard,
    limits: HttpLimits,
    vault: Option<SecretVault>,
}

impl HttpAction {
    pub fn new(guard: Guard, limits: HttpLimits) -> Self {
        Self { guard, limits, vault: None }
    }

    /// Lets requests carry secrets.
    #[must_use]
    pub fn with_secrets(self, vault: SecretVault) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// Adds the whole family to `registry`.
    #[must_use]
    pub fn register(self, mut registry: ActionRegistry) -> ActionRegistry {
        let action: Arc<dyn Action> = Arc::new(self);
        for name in NAMES {
            registry = registry.with(name, action.clone());
        }
        registry
    }

    /// Follows the call through its redirects to an output.
    async fn exchange(&self, mut request: Request, deadline: Instant, sent: &AtomicBool) -> Result<Value, StepFailure> {
        // A redirect that turns a POST into a GET proves that the POST was taken in.
        let mut taken_in = false;
        for _ in 0..=self.limits.redirects {
            sent.store(taken_in, Ordering::Relaxed);
            let (destination, response) = self
                .hop(&request, deadline, sent)
                .await
                .map_err(|failure| StepFailure { sent: failure.sent || taken_in, ..failure })?;
            let status = response.status();
            if request.expected.covers(status) {
                return self.conclude(&request, response, &destination.shown).await;
            }
            if !redirect::is_redirect(status, response.headers()) {
                let headers = response.headers().clone();
                // The words are a courtesy: an endless answer must not turn a known status into a time-out.
                let excerpt = timeout(Duration::from_secs(2), body::excerpt(response, request.carried.redactor()))
                    .await
                    .unwrap_or_default();
                #[expect(clippy::disallowed_methods, reason = "Retry-After may be a date of the world's clock")]
                let now = jiff::Timestamp::now();
                return Err(status::unexpected(status, &headers, &destination.shown, &excerpt, now).sent(taken_in));
            }
            let method = request.method.clone();
            request = redirect::next(request, status, response.headers()).map_err(|it| it.sent(taken_in))?;
            taken_in |= request.method != method;
        }
        let message =
            format!("more than {} redirects; the last led to {}", self.limits.redirects, guard::shown(&request.url));
        Err(StepFailure::new(ErrorKind::ClientError, message).sent(taken_in))
    }

    /// One request to one judged destination.
    async fn hop(
        &self,
        request: &Request,
        deadline: Instant,
        sent: &AtomicBool,
    ) -> Result<(Destination, Response), StepFailure> {
        // Shorter than what is left: when the whole call runs out of time, the connection stood.
        let connect_timeout = self.limits.connect_timeout.min((deadline - Instant::now()) * 3 / 8);
        let destination = timeout(connect_timeout, self.guard.judge(&request.url)).await.map_err(|_elapsed| {
            let message = format!("the name of {} could not be resolved in time", guard::shown(&request.url));
            StepFailure::new(ErrorKind::Connection, message)
        })??;
        request.carried.judge_connection(&request.url, &destination)?;
        let client = connect::client(&destination, connect_timeout)?;
        let mut builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        sent.store(true, Ordering::Relaxed);
        let response = builder.send().await.map_err(|error| connect::failure(&error, &destination.shown))?;
        Ok((destination, response))
    }

    async fn conclude(&self, request: &Request, response: Response, shown: &str) -> Result<Value, StepFailure> {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = body::read(response, self.limits.output_bytes, shown).await?;
        let is_head = request.method == Method::HEAD;
        let mut output = body::output(status, &headers, bytes, self.limits.json_depth, is_head).await;
        request.carried.redactor().clean(&mut output);
        if output.to_string().len() > self.limits.output_bytes {
            let message = format!("the answer of {shown} is larger than {} bytes", self.limits.output_bytes);
            return Err(StepFailure::new(ErrorKind::InvalidOutput, message).sent(true));
        }
        Ok(output)
    }
}

#[async_trait]
impl Action for HttpAction {
    async fn execute(&self, mut call: StepCall) -> Result<Answer, StepFailure> {
        let deadline = Instant::now() + own_limit(call.limit);
        let carried = timeout_at(deadline, Carried::fill(self.vault.as_ref(), &mut call.input)).await;
        let carried = carried.unwrap_or_else(|_elapsed| {
            Err(StepFailure::new(ErrorKind::Connection, "its secrets could not be read in time"))
        })?;
        let secrets = carried.clone();
        self.send(call, carried, deadline)
            .await
            .map_err(|failure| StepFailure { message: secrets.redactor().text(&failure.message), ..failure })
    }
}

impl HttpAction {
    async fn send(&self, call: StepCall, carried: Carried, deadline: Instant) -> Result<Answer, StepFailure> {
        let request = Request::parse(&call.uses, call.input, &call.idempotency_key)?.carrying(carried);
        let shown = guard::shown(&request.url);
        let sent = AtomicBool::new(false);
        tokio::select! {
            biased;
            done = timeout_at(deadline, self.exchange(request, deadline, &sent)) => match done {
                Ok(answer) => answer.map(Answer::Output),
                Err(_elapsed) => {
                    let message = format!("{shown} did not answer within {:?}", call.limit);
                    Err(StepFailure::new(ErrorKind::Timeout, message).sent(sent.load(Ordering::Relaxed)))
                }
            },
            () = call.cancelled.cancelled() => {
                let message = format!("the run was cancelled while {shown} was being called");
                Err(StepFailure::new(ErrorKind::Cancelled, message).sent(sent.load(Ordering::Relaxed)))
            }
        }
    }
}

/// A little less than the engine's limit: only the action knows whether the request had left when time ran out.
pub(crate) fn own_limit(limit: Duration) -> Duration {
    limit.saturating_sub((limit / 20).min(Duration::from_millis(250)))
}
