//! `llm.generate` against a local server that speaks both kinds.

use std::time::Duration;

use ordinaut_executor::actions::llm::LlmGenerate;
use ordinaut_schema::{action::Grants, limits::Limits, run::ErrorKind};
use serde_json::{Value, json};

use super::endpoint::{Base, Endpoint, call, failure, output};

fn file(endpoint: &Endpoint) -> Value {
    json!({ "llm": {
        "claude": {"kind": "anthropic", "base_url": endpoint.url(""), "model": "claude-x", "api_key": "hunter2-claude",
                   "default": true, "max_tokens": 900},
        "home": {"kind": "openai", "base_url": endpoint.url("/v1"), "model": "small", "api_key": "hunter2-home"},
        "loose": {"kind": "openai", "base_url": endpoint.url(""), "model": "tiny", "strict": false},
    }})
}

fn limited(base: &Base, endpoint: &Endpoint, llm_calls_per_day: u32) -> LlmGenerate {
    let limits = Limits { llm_calls_per_day, ..Limits::DEFAULT };
    LlmGenerate::new(base.standing(&file(endpoint)), base.store.clone(), base.secrets(), &limits)
}

fn action(base: &Base, endpoint: &Endpoint) -> LlmGenerate {
    limited(base, endpoint, 1_000)
}

fn anthropic(text: &str) -> Value {
    json!({
        "id": "m", "type": "message", "role": "assistant", "model": "claude-x-2026", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 10, "output_tokens": 4},
    })
}

fn openai(text: &str) -> Value {
    json!({
        "id": "c", "object": "chat.completion", "model": "small-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    })
}

fn closed() -> Value {
    json!({
        "type": "object", "properties": {"warm": {"type": "boolean"}}, "required": ["warm"],
        "additionalProperties": false,
    })
}

#[tokio::test]
async fn anthropics_messages_are_spoken() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    endpoint.then(200, &[], anthropic("It is warm."));
    let with = json!({"instruction": "Say how it is", "system": "Be brief", "max_tokens": 50, "forecast": {"t": 30}});
    let said = output(&action(&base, &endpoint), call("llm.generate", with)).await;
    assert_eq!(
        said,
        json!({
            "text": "It is warm.", "usage": {"input_tokens": 10, "output_tokens": 4}, "model": "claude-x-2026",
        })
    );
    let asked = endpoint.last();
    assert_eq!((asked.path.as_str(), asked.header("x-api-key")), ("/v1/messages", "hunter2-claude"));
    assert_eq!(asked.header("anthropic-version"), "2023-06-01");
    assert_eq!((&asked.body["model"], &asked.body["max_tokens"]), (&json!("claude-x"), &json!(50)));
    assert_eq!(asked.body["system"], "Be brief");
    assert_eq!(asked.body["messages"][0]["role"], "user");
    let text = asked.body["messages"][0]["content"].as_str().unwrap();
    assert!(text.starts_with("Say how it is\n") && text.contains("forecast\n{\"t\":30}\n"), "{text}");
}

#[tokio::test]
async fn chat_completions_are_spoken() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    endpoint.then(200, &[], openai("{\"mood\": \"fine\", \"model\": \"mine\"}"));
    let with = json!({"instruction": "Say how it is", "system": "Be brief", "model": "home"});
    let said = output(&action(&base, &endpoint), call("llm.generate", with)).await;
    assert_eq!((&said["mood"], &said["model"]), (&json!("fine"), &json!("small-1")));
    assert_eq!(said["json"]["model"], "mine");
    assert_eq!(said["usage"], json!({"input_tokens": 7, "output_tokens": 3}));
    let asked = endpoint.last();
    assert_eq!((asked.path.as_str(), asked.header("authorization")), ("/v1/chat/completions", "Bearer hunter2-home"));
    let roles: Vec<_> = asked.body["messages"].as_array().unwrap().iter().map(|turn| turn["role"].clone()).collect();
    assert_eq!(roles, ["system", "user"]);
    assert_eq!(asked.body["max_tokens"], 4096);
}

#[tokio::test]
async fn a_schema_is_asked_for_strictly_where_that_is_offered() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    let open = json!({"type": "object", "properties": {"warm": {"type": "boolean"}}, "required": ["warm"]});
    for (model, schema, told) in [
        ("claude", closed(), json!({"output_config": {"format": {"type": "json_schema", "schema": closed()}}})),
        ("claude", open.clone(), json!({})),
        (
            "home",
            closed(),
            json!({"response_format": {"type": "json_schema", "json_schema":
            {"name": "answer", "schema": closed(), "strict": true}}}),
        ),
        (
            "home",
            open.clone(),
            json!({"response_format": {"type": "json_schema", "json_schema":
            {"name": "answer", "schema": open, "strict": false}}}),
        ),
        ("loose", closed(), json!({})),
    ] {
        let answer = if model == "claude" { anthropic("{\"warm\": true}") } else { openai("{\"warm\": true}") };
        endpoint.then(200, &[], answer);
        let with = json!({"instruction": "Is it warm?", "model": model, "schema": schema});
        assert_eq!(output(&action, call("llm.generate", with)).await["warm"], true);
        let body = endpoint.last().body;
        for field in ["output_config", "response_format"] {
            assert_eq!(body.get(field), told.get(field), "{model}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_mended_once_and_both_calls_are_counted() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    let with = json!({"instruction": "Is it warm?", "schema": closed()});
    endpoint.then(200, &[], anthropic("{\"warm\": \"very\"}"));
    endpoint.then(200, &[], anthropic("```json\n{\"warm\": true}\n```"));
    let said = output(&action, call("llm.generate", with.clone())).await;
    assert_eq!((&said["warm"], &said["json"]), (&json!(true), &json!({"warm": true})));
    assert_eq!(said["usage"], json!({"input_tokens": 20, "output_tokens": 8}));
    let turns = endpoint.last().body["messages"].as_array().unwrap().clone();
    assert_eq!((turns.len(), &turns[1]["content"]), (3, &json!("{\"warm\": \"very\"}")));
    let keys: Vec<_> = endpoint.seen().iter().map(|seen| seen.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys, ["root/step", "root/step/mend"], "what is mended is another call");
    assert!(turns[2]["content"].as_str().unwrap().contains("/warm"), "{turns:?}");

    for _ in 0..2 {
        endpoint.then(200, &[], anthropic("warm, I think"));
    }
    let failure = failure(&action, call("llm.generate", with)).await;
    assert_eq!(failure.kind, ErrorKind::InvalidOutput);
    assert_eq!(endpoint.seen().len(), 4);
}

#[tokio::test]
async fn a_repeat_of_a_call_sends_the_same_bytes() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let with = json!({"instruction": "Sum up", "mail": "text", "more": [1, 2]});
    for _ in 0..2 {
        endpoint.then(200, &[], anthropic("x"));
        output(&action(&base, &endpoint), call("llm.generate", with.clone())).await;
    }
    let seen = endpoint.seen();
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!((seen[0].header("idempotency-key"), seen[1].header("idempotency-key")), ("root/step", "root/step"));
}

#[tokio::test]
async fn what_an_endpoint_refuses_is_typed() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    for (status, kind, delay) in [
        (429, ErrorKind::RateLimited, Some(3)),
        (529, ErrorKind::ServerError, Some(3)),
        (500, ErrorKind::ServerError, Some(3)),
        (401, ErrorKind::ClientError, None),
    ] {
        endpoint.then(status, &[("retry-after", "3")], "ECHO");
        let failure = failure(&action, call("llm.generate", json!({"instruction": "x"}))).await;
        assert_eq!((failure.kind, failure.retry_after), (kind, delay.map(Duration::from_secs)), "{failure:?}");
        assert!(failure.message.contains("`claude`") && !failure.message.contains("hunter2"), "{failure:?}");
    }
    endpoint.then(200, &[], json!({"hello": "I am no model"}));
    let other = failure(&action, call("llm.generate", json!({"instruction": "x"}))).await;
    assert_eq!(other.kind, ErrorKind::InvalidOutput);
    endpoint.then(200, &[], json!({"content": [], "stop_reason": "refusal"}));
    let declined = failure(&action, call("llm.generate", json!({"instruction": "x"}))).await;
    assert!(declined.kind == ErrorKind::ClientError && declined.message.contains("declined"), "{declined:?}");
}

#[tokio::test]
async fn an_answer_that_echoes_the_key_is_kept_without_it() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    endpoint.then(200, &[], anthropic("{'echo': 'ECHO'}"));
    let said = output(&action(&base, &endpoint), call("llm.generate", json!({"instruction": "x"}))).await.to_string();
    assert!(said.contains("[hidden]") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn an_answer_that_was_cut_off_says_so() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let mut cut = anthropic("It is");
    cut["stop_reason"] = json!("max_tokens");
    endpoint.then(200, &[], cut);
    assert_eq!(
        output(&action(&base, &endpoint), call("llm.generate", json!({"instruction": "x"}))).await["truncated"],
        true
    );
}

#[tokio::test]
async fn the_default_model_is_for_agents_that_are_granted_it() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let grants = Grants { models: vec!["home".to_owned()], ..Grants::default() };
    let (agent, _) = base.store.add_agent("phone", None, &grants, &[], None).await.unwrap();
    let mut asked = call("llm.generate", json!({"instruction": "x"}));
    asked.agent = agent;
    let failure = failure(&action(&base, &endpoint), asked).await;
    assert_eq!(failure.kind, ErrorKind::Denied);
    assert!(failure.message.contains("`claude`"), "{failure:?}");
    assert!(endpoint.seen().is_empty());
}

#[tokio::test]
async fn one_more_than_a_days_calls_is_denied_and_a_mending_call_counts() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = limited(&base, &endpoint, 2);
    for _ in 0..2 {
        endpoint.then(200, &[], anthropic("no json"));
    }
    let with = json!({"instruction": "x", "schema": closed()});
    assert_eq!(failure(&action, call("llm.generate", with.clone())).await.kind, ErrorKind::InvalidOutput);
    assert_eq!(failure(&action, call("llm.generate", with)).await.kind, ErrorKind::Denied);
    assert_eq!(endpoint.seen().len(), 2);
}
