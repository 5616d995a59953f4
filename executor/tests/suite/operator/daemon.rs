//! The whole executor: it reads the operator's file again, grants hold at the call, and nothing keeps a credential.

use std::path::PathBuf;

use ordinaut_executor::operator::Watch;
use ordinaut_schema::{
    action::Grants,
    operator::Operator,
    run::{ErrorKind, RunState},
    schedule::ScheduleKind,
};
use ordinaut_store::Caller;
use serde_json::{Value, json};

use super::endpoint::{Base, Endpoint};
use crate::support::{House, eventually};

/// An `ordinaut.toml` of the test's own.
pub(crate) struct File(pub(crate) PathBuf);

impl File {
    pub(crate) fn new() -> Self {
        let file = Self(std::env::temp_dir().join(format!("ordinaut-operator-{}.toml", uuid::Uuid::now_v7())));
        file.write("");
        file
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that stays in the temporary directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn manual(with: &Value) -> Value {
    json!({ "pipeline": [{ "id": "tell", "uses": "notify.send", "with": with }] })
}

#[tokio::test]
async fn a_server_that_is_added_while_an_executor_runs_is_known_soon_and_gone_soon() {
    let (house, servers) = (House::new().await, File::new());
    let _executor = house.executor_with(&[("ORDINAUT_MCP_SERVERS", servers.path().to_str().unwrap())]).await;
    let knows =
        async |tool: &str| house.store.catalogue(&Caller::local("test")).await.unwrap().tools.contains_key(tool);
    assert!(!knows("hub.get_weather").await);

    let entry = json!({ "command": env!("CARGO_BIN_EXE_ordinaut-example-server") });
    servers.write(&json!({ "mcpServers": { "hub": entry } }).to_string());
    eventually("the server's tools are known", async || knows("hub.get_weather").await.then_some(())).await;

    servers.write(&json!({ "mcpServers": {} }).to_string());
    eventually("the server is gone", async || (!knows("hub.get_weather").await).then_some(())).await;
}

#[tokio::test]
async fn an_edit_of_the_file_is_in_force_soon() {
    let (house, endpoint, file) = (House::new().await, Endpoint::open().await, File::new());
    let _executor = house.executor_reading(&file.0, &[]).await;
    assert!(house.store.offered().await.unwrap().channels.is_empty());

    let hook = |name: &str| {
        format!("[channels.{name}]\nkind = \"webhook\"\nurl = \"{}\"\n", endpoint.url("/hook/hunter2-hook-path"))
    };
    file.write(&hook("ops"));
    let offers = async |name: &str| {
        eventually("the channel is offered", async || {
            house.store.offered().await.unwrap().channels.contains_key(name).then_some(())
        })
        .await;
    };
    offers("ops").await;
    let with = json!({ "channel": "ops", "text": "one" });
    let task = house.task("tell", (ScheduleKind::Manual, ""), manual(&with)).await;
    let run = house.ended(house.run_now(&task, "one").await).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(run.steps[0].output["delivered"], true);

    file.write(&hook("more"));
    offers("more").await;
    let run = house.ended(house.run_now(&task, "two").await).await;
    assert_eq!(run.state, RunState::Failed);
    assert!(run.error.unwrap().message.contains("there is me, more"));
    assert_eq!(endpoint.seen().len(), 1);
    assert!(!house.every_row().await.contains("hunter2"), "a credential was kept");
}

#[tokio::test]
async fn a_broken_edit_keeps_what_was_in_force_until_it_is_mended() {
    let (base, file) = (Base::new().await, File::new());
    let (mut watch, standing) = Watch::new(Some(file.0.clone()), Operator::default(), base.store.clone());
    let names = || standing.borrow().channels.keys().cloned().collect::<Vec<_>>();
    let ntfy = |name: &str| format!("[channels.{name}]\nkind = \"ntfy\"\ntopic = \"x\"\n");
    file.write(&ntfy("ops"));
    assert!(watch.look_again().await && !watch.look_again().await);
    for broken in ["[channels.ops]\nkind = \"pigeon\"\n", "[channels", &(ntfy("more") + "[llm.x]\n")] {
        file.write(broken);
        assert!(!watch.look_again().await, "{broken}");
        assert_eq!(names(), ["ops"], "{broken}");
    }
    file.write(&ntfy("more"));
    assert!(watch.look_again().await);
    assert_eq!(names(), ["more"]);
    std::fs::remove_file(&file.0).unwrap();
    assert!(watch.look_again().await);
    assert!(names().is_empty());
}

#[tokio::test]
async fn a_grant_that_was_taken_is_missed_at_the_call() {
    let (mut house, endpoint, file) = (House::new().await, Endpoint::open().await, File::new());
    file.write(&format!("[channels.ops]\nkind = \"webhook\"\nurl = \"{}\"\n", endpoint.url("/x")));
    let _executor = house.executor_reading(&file.0, &[]).await;
    let grants = Grants { channels: vec!["ops".to_owned()], ..Grants::default() };
    let (agent, _) = house.store.add_agent("phone", None, &grants, &[], None).await.unwrap();
    house.caller = Caller { agent, ..Caller::local("test") };
    let with = json!({ "channel": "${params.to}", "text": "x" });
    let mut fields = manual(&with);
    fields["params"] = json!({ "to": "ops" });
    let task = house.task("tell", (ScheduleKind::Manual, ""), fields).await;
    let run = house.ended(house.run_now(&task, "granted").await).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);

    house.store.change_grants("phone", |grants| grants.channels.clear()).await.unwrap();
    let run = house.ended(house.run_now(&task, "taken").await).await;
    let error = run.error.unwrap();
    assert_eq!((run.state, error.kind), (RunState::Failed, ErrorKind::Denied), "{error}");
    assert!(error.message.contains("the channel `ops`"), "{error}");
    assert_eq!(endpoint.seen().len(), 1);
}

#[tokio::test]
async fn what_the_operator_offers_is_what_definitions_are_judged_by() {
    let (house, file) = (House::new().await, File::new());
    file.write("[channels.ops]\nkind = \"slack\"\nurl = \"https://hooks.example.com/x\"\n[llm.a]\nkind = \"openai\"\nmodel = \"m\"\n");
    let _executor = house.executor_reading(&file.0, &[]).await;
    let catalogue = eventually("it is offered", async || {
        let catalogue = house.store.catalogue(&house.caller).await.unwrap();
        (!catalogue.offered.models.is_empty()).then_some(catalogue)
    })
    .await;
    assert_eq!(catalogue.offered.channels, [("ops".to_owned(), "slack".to_owned())].into());
    assert_eq!(catalogue.offered.default_model.as_deref(), Some("a"));
}
