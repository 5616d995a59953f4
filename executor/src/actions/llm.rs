//! `llm.generate`: asks a language model of the operator's.
//!
//! The instruction comes first, and what else the step gives follows as data, delimited so that nothing in it can end
//! the data. An answer that has to fit a JSON Schema is held to it by the endpoint where it can, judged here always, and
//! mended by the model once. Failures are typed, say what the endpoint said, and never hold its key.
//!
//! `prompt` is what is asked, `anthropic` and `openai` how, `answer` what becomes of it; `purse` is what it may cost.

use async_trait::async_trait;
use ordinaut_schema::{
    action::Need,
    limits::Limits,
    operator::{Model, ModelKind, Operator},
    run::{ErrorKind, StepFailure},
    secret::Redactor,
};
use ordinaut_store::{Store, secrets::SecretVault};
use tokio::time::{Instant, timeout_at};

use self::{
    answer::Said,
    prompt::{Asked, Prompt},
    purse::Purse,
};
use super::{
    Action, Answer, StepCall,
    credentials::{Owner, Used},
    http::{endpoint, own_limit},
    store_failure,
};
use crate::operator::Standing;

mod answer;
mod anthropic;
mod openai;
mod prompt;
mod purse;
mod strict;

/// Performs `llm.generate`.
pub struct LlmGenerate {
    standing: Standing,
    store: Store,
    secrets: SecretVault,
    limits: Limits,
}

impl std::fmt::Debug for LlmGenerate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlmGenerate").finish_non_exhaustive()
    }
}

/// One model, to be asked once or twice.
struct Conversation<'a> {
    call: &'a StepCall,
    name: &'a str,
    model: &'a Model,
    key: Option<String>,
    redactor: Redactor,
    deadline: Instant,
}

impl LlmGenerate {
    pub fn new(standing: Standing, store: Store, secrets: SecretVault, limits: &Limits) -> Self {
        Self { standing, store, secrets, limits: *limits }
    }

    async fn generate(
        &self,
        asked: Asked,
        operator: &Operator,
        call: &StepCall,
        used: &mut Option<Used>,
        deadline: Instant,
    ) -> Result<serde_json::Value, StepFailure> {
        let (name, model) = self.choose(asked.model.as_deref(), operator, call).await?;
        let used = used.insert(Used::of(Owner::Model(model.base_url.clone())));
        let key = match &model.api_key {
            Some(key) => Some(used.fill(key, &self.secrets).await?),
            None => None,
        };
        let talk = Conversation { call, name, model, key, redactor: used.redactor().clone(), deadline };
        let mut prompt = Prompt::new(&asked, model, &call.idempotency_key);
        let mut said = self.ask(&talk, &prompt).await?;
        let mut usage = said.usage;
        let mut read = answer::read(&said, asked.schema.as_ref(), self.limits.json_depth)?;
        if let Some(wrong) = &read.wrong {
            prompt.mend(&said.text, wrong);
            said = self.ask(&talk, &prompt).await?;
            usage = usage.with(said.usage);
            read = answer::read(&said, asked.schema.as_ref(), self.limits.json_depth)?;
        }
        if let Some(wrong) = read.wrong {
            let message = format!("model `{name}`: its answer does not fit `schema`, mended once: {wrong}");
            return Err(StepFailure::new(ErrorKind::InvalidOutput, message).sent(true));
        }
        Ok(answer::output(&said, read.json, usage, &model.model))
    }

    /// The model that a step means. One that names none has the default, which its agent must be granted by name.
    async fn choose<'o>(
        &self,
        named: Option<&'o str>,
        operator: &'o Operator,
        call: &StepCall,
    ) -> Result<(&'o str, &'o Model), StepFailure> {
        let missing = |what: String| {
            let all: Vec<_> = operator.models.keys().map(String::as_str).collect();
            let known =
                if all.is_empty() { "none is configured".to_owned() } else { format!("there is {}", all.join(", ")) };
            StepFailure::new(
                ErrorKind::ClientError,
                format!("{what}: {known}. A person adds one with ordinaut llm add"),
            )
        };
        let name = match (named, operator.default_model.as_deref()) {
            (Some(name), _) => name,
            (None, Some(name)) => {
                let agent = self.store.find_agent(call.agent).await.map_err(|error| store_failure(&error))?;
                let need = Need::Model(Some(name.to_owned()));
                if !agent.grants.allow(&need) {
                    let message = format!("the step names no model, and the agent is not granted {need}, the default");
                    return Err(StepFailure::new(ErrorKind::Denied, message));
                }
                name
            }
            (None, None) => return Err(missing("the step names no model, and none is the default".to_owned())),
        };
        let model =
            operator.models.get(name).ok_or_else(|| missing(format!("the model `{name}` is not configured")))?;
        Ok((name, model))
    }

    /// One request; each is counted, and paid for where budgets say so.
    async fn ask(&self, talk: &Conversation<'_>, prompt: &Prompt) -> Result<Said, StepFailure> {
        let (model, key) = (talk.model, talk.key.as_deref());
        let purse = Purse::open(&self.store, talk.call, (talk.name, model.tariff())).await?;
        let prompt = &Prompt { max_tokens: purse.most(prompt.max_tokens), ..prompt.clone() };
        let (mut headers, body) = match model.kind {
            ModelKind::Anthropic => (anthropic::headers(key), anthropic::body(model, prompt)),
            ModelKind::OpenAi => (openai::headers(key), openai::body(model, prompt)),
        };
        let body = body.to_string();
        let bytes = body.len();
        purse.judge(bytes, prompt.max_tokens)?;
        let most = self.limits.llm_calls_per_day;
        match self.store.count_call(talk.call.agent, "llm.generate", most).await {
            Ok(true) => {}
            Ok(false) => {
                let message = format!(
                    "this agent has called models {most} times today (UTC), which is the most a day; ask for more in \
                     one call, or let the task run less often"
                );
                return Err(StepFailure::new(ErrorKind::Denied, message));
            }
            Err(error) => return Err(store_failure(&error)),
        }
        // What is to be mended is another call: under the first one's key its first answer might come again.
        let mending = if prompt.turns.len() > 1 { "/mend" } else { "" };
        headers.push(("Idempotency-Key", format!("{}{mending}", talk.call.idempotency_key)));
        let post = endpoint::Post { url: model.url(), headers: endpoint::headers(&headers)?, body: body.into() };
        // Twice what may be kept: JSON around the text, and what is escaped in it.
        let reply = endpoint::post(post, talk.deadline, self.limits.step_output_bytes * 2, &talk.redactor)
            .await
            .map_err(|failure| {
                let hint = if failure.kind == ErrorKind::ClientError && prompt.strict_schema.is_some() {
                    " (where the endpoint knows no strict schemas, the operator sets `strict = false`)"
                } else {
                    ""
                };
                StepFailure { message: format!("model `{}`: {}{hint}", talk.name, failure.message), ..failure }
            })?;
        let said = reply.json().and_then(|mut told| {
            // Before any of it is cut, quoted or sent back.
            talk.redactor.clean(&mut told);
            match model.kind {
                ModelKind::Anthropic => anthropic::read(&told),
                ModelKind::OpenAi => openai::read(&told),
            }
        });
        let said = said.ok_or_else(|| {
            let message = format!(
                "model `{}`: {} does not answer as {} does; the operator mends `kind` or `base_url`",
                talk.name,
                model.base_url.host_str().unwrap_or_default(),
                model.kind
            );
            StepFailure::new(ErrorKind::InvalidOutput, message).sent(true)
        })?;
        purse.settle(&self.store, said.usage, bytes, prompt.max_tokens).await;
        match &said.refusal {
            None => Ok(said),
            Some(why) => Err(StepFailure::new(
                ErrorKind::ClientError,
                format!("model `{}` declined to answer{}{why}", talk.name, if why.is_empty() { "" } else { ": " }),
            )),
        }
    }
}

#[async_trait]
impl Action for LlmGenerate {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let asked = Asked::read(&call.input)?;
        let operator = self.standing.borrow().clone();
        let deadline = Instant::now() + own_limit(call.limit);
        let mut used = None;
        let done = tokio::select! {
            biased;
            done = timeout_at(deadline, self.generate(asked, &operator, &call, &mut used, deadline)) => done,
            () = call.cancelled.cancelled() => {
                return Err(StepFailure::new(ErrorKind::Cancelled, "the run was cancelled while a model was asked"));
            }
        };
        match done {
            Ok(Ok(output)) => Ok(output.into()),
            Ok(Err(failure)) => Err(match used {
                Some(used) => used.mask_failure(failure),
                None => failure,
            }),
            Err(_elapsed) => {
                let message =
                    format!("the model did not answer within {:?}; `timeout` of the step allows more", call.limit);
                Err(StepFailure::new(ErrorKind::Timeout, message).sent(true))
            }
        }
    }
}
