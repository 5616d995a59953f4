//! Pipelines do real work and survive what happens to their executors: the real programs, against stand-ins for
//! everything outside that write down each call they get.

mod briefing;
mod hundred;
mod originals;
mod parked;

use std::time::Duration;

use ordinaut_store::runs::RunRecord;
use serde_json::Value;
use tokio::{process::Child, time::timeout};

use crate::support::lab::{Lab, me, until};
use crate::support::stand_ins::{StandIns, Tools};

async fn kill_9(mut executor: Child) {
    executor.start_kill().unwrap();
    timeout(Duration::from_mins(1), executor.wait()).await.unwrap().unwrap();
}

/// Writes the operator's files: these servers, a model, and what else is said.
fn configure(lab: &Lab, stand_ins: &StandIns, servers: Tools, more: &str) {
    let model = format!(
        "[llm.home]\nkind = \"openai\"\nbase_url = \"{}\"\nmodel = \"stand-in\"\ndefault = true\n",
        stand_ins.url("/v1")
    );
    std::fs::write(lab.directory().join("ordinaut.toml"), model + more).unwrap();
    std::fs::write(lab.directory().join("mcp-servers.json"), stand_ins.servers(servers)).unwrap();
}

/// Waits until an executor has said what the operator offers, the tools of these servers included.
async fn offered(lab: &Lab, servers: Tools) {
    let tools: usize = servers.iter().map(|(_, tools)| tools.len()).sum();
    until("what the operator offers", async || {
        let found = lab.store.catalogue(&me()).await.unwrap();
        (found.tools.len() == tools && found.offered.default_model.is_some()).then_some(())
    })
    .await;
}

fn step_state<'r>(run: &'r RunRecord, step: &str) -> &'r str {
    run.steps.iter().find(|record| record.step == step).map_or("", |record| record.state.as_str())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
