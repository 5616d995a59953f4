//! Budgets at the call of a model: what could pass them is denied, and every answer is paid for.

use ordinaut_executor::actions::{StepCall, llm::LlmGenerate};
use ordinaut_schema::{
    budget::{Budget, Cost},
    id::TaskId,
    limits::Limits,
    run::{ErrorKind, RunState},
    schedule::ScheduleKind,
};
use ordinaut_store::tasks::TaskRef;
use serde_json::{Value, json};

use super::{
    daemon::File,
    endpoint::{Base, Endpoint, call, failure, output},
};
use crate::support::{House, eventually};

/// A token of a prompt costs 0.001, one of an answer 0.01.
const PRICE: &str = "price = { input = 1000, output = 10000 }";

fn action(base: &Base, endpoint: &Endpoint) -> LlmGenerate {
    let file = json!({ "llm": {
        "dear": {"kind": "openai", "base_url": endpoint.url("/v1"), "model": "x", "default": true, "max_tokens": 10,
                 "price": {"input": 1000, "output": 10000}},
        "free": {"kind": "openai", "base_url": endpoint.url("/v1"), "model": "y"},
    }});
    LlmGenerate::new(base.standing(&file), base.store.clone(), base.secrets(), &Limits::DEFAULT)
}

/// Seven tokens of a prompt and three of an answer: 0.037.
fn answer(text: &str) -> Value {
    json!({
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    })
}

fn at_most(amount: f64, with: Value) -> StepCall {
    let budget = Budget { max_cost_per_month: Cost::of(amount), ..Budget::default() };
    StepCall { budget, ..call("llm.generate", with) }
}

#[tokio::test]
async fn a_call_that_could_pass_what_a_month_may_cost_is_denied_unasked() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    let task = TaskId::new();
    let ask = || StepCall { task, ..at_most(0.18, json!({"instruction": "x"})) };
    for _ in 0..2 {
        endpoint.then(200, &[], answer("fine"));
        output(&action, ask()).await;
    }
    let denied = failure(&action, ask()).await;
    assert_eq!((denied.kind, endpoint.seen().len()), (ErrorKind::Denied, 2), "{denied}");
    assert!(denied.message.contains("`max_cost_per_month` is 0.18, of which 0.074 is spent"), "{denied}");
    assert!(denied.message.contains("it begins anew at 20"), "{denied}");
    endpoint.then(200, &[], answer("fine"));
    output(&action, at_most(0.18, json!({"instruction": "x"}))).await;
}

#[tokio::test]
async fn an_answer_is_paid_for_before_it_is_judged_and_a_repeat_costs_again() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    let schema = json!({"type": "object", "required": ["warm"]});
    for _ in 0..2 {
        endpoint.then(200, &[], answer("warm, I think"));
    }
    let unfit = failure(&action, at_most(9.0, json!({"instruction": "x", "schema": schema}))).await;
    assert_eq!(unfit.kind, ErrorKind::InvalidOutput, "{unfit}");
    let spent = base.store.agent_budget("local").await.unwrap();
    assert_eq!((spent.spent, spent.tokens, spent.calls), (Cost::of(0.074).unwrap(), 20, 2));

    endpoint.then(500, &[], "no");
    failure(&action, at_most(9.0, json!({"instruction": "x"}))).await;
    assert_eq!(base.store.agent_budget("local").await.unwrap().calls, 2, "what was not answered cost nothing");
    // An endpoint that does not say what it used is taken at the most.
    endpoint.then(200, &[], json!({"choices": [{"message": {"content": "x"}}]}));
    output(&action, at_most(9.0, json!({"instruction": "x"}))).await;
    assert!(base.store.agent_budget("local").await.unwrap().spent > Cost::of(0.174).unwrap());
}

#[tokio::test]
async fn under_a_budget_of_cost_a_model_without_a_price_is_denied_at_the_call() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    let denied = failure(&action, at_most(9.0, json!({"instruction": "x", "model": "free"}))).await;
    assert_eq!((denied.kind, endpoint.seen().len()), (ErrorKind::Denied, 0));
    assert!(denied.message.contains("ordinaut llm add free … --price"), "{denied}");
    endpoint.then(200, &[], answer("fine"));
    output(&action, call("llm.generate", json!({"instruction": "x", "model": "free"}))).await;
}

#[tokio::test]
async fn a_run_has_its_tokens_over_all_its_attempts_and_the_next_call_is_denied() {
    let (house, endpoint, file) = (House::new().await, Endpoint::open().await, File::new());
    file.write(&format!(
        "[llm.dear]\nkind = \"openai\"\nmodel = \"x\"\nbase_url = \"{}\"\n{PRICE}\n",
        endpoint.url("/v1")
    ));
    let _executor = house.executor_reading(&file.path(), &[]).await;
    eventually("the price is known", async || (!house.store.offered().await.unwrap().tariffs.is_empty()).then_some(()))
        .await;
    let ask = |id: &str| json!({"id": id, "uses": "llm.generate", "with": {"instruction": id, "max_tokens": 50}});
    let fields = json!({
        "max_tokens_per_run": 12, "max_cost_per_month": 9,
        "pipeline": [ask("first"), ask("second"), ask("third")],
        "retry": { "max_attempts": 3, "backoff": "fixed", "initial": "1s", "max": "1s" },
    });
    endpoint.then(200, &[], answer("one"));
    endpoint.then(500, &[], "not now");
    endpoint.then(200, &[], answer("two"));
    let task = house.task("wordy", (ScheduleKind::Manual, ""), fields).await;
    let run = house.ended(house.run_now(&task, "1").await).await;
    let error = run.error.unwrap();
    assert_eq!((run.state, error.kind, error.step.as_str()), (RunState::Failed, ErrorKind::Denied, "third"), "{error}");
    assert!(error.message.contains("the run has used 20 tokens"), "{error}");
    let asked: Vec<_> = endpoint.seen().iter().map(|seen| seen.body["max_tokens"].clone()).collect();
    assert_eq!(asked, [json!(12), json!(2), json!(2)], "no more than is left");

    let record = house.store.find_task(&house.caller, &TaskRef::Id(task)).await.unwrap();
    let budget = house.store.task_budget(&house.caller, &record).await.unwrap().unwrap();
    assert_eq!((budget.spent, budget.calls), (Cost::of(0.074).unwrap(), 2));
    assert_eq!(budget.reserved, Cost::ZERO, "a run that is over sets nothing aside");
}
