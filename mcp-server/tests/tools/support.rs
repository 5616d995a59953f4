//! A chat with the local agent's server, over a fresh database.

use std::{sync::Arc, time::Duration};

use ordinaut_mcp::{
    backend::{Backend, Embedded, Services, Stage, Starter},
    server::{OrdinautServer, Zones},
    telemetry::Metrics,
};
use ordinaut_schema::time::Zone;
use ordinaut_store::testing::{Database, Fixture};
use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, CallToolResult, ReadResourceRequestParams, ResourceContents, Tool},
    service::RunningService,
};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, sync::OnceCell};

use crate::outputs::{Outputs, RESOURCE};

/// Nothing here takes so long, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Chat {
    pub(crate) store: Fixture,
    pub(crate) server: OrdinautServer,
    pub(crate) client: RunningService<RoleClient, ()>,
    pub(crate) database: Database,
    _starter: Starter,
}

/// Zones as a person's machine in Chisinau has them.
pub(crate) fn chisinau() -> Zones {
    Zones { configured: Zone::find("Europe/Chisinau"), machine: None }
}

impl Chat {
    pub(crate) async fn start() -> Self {
        Self::start_in(chisinau()).await
    }

    pub(crate) async fn start_in(zones: Zones) -> Self {
        Self::start_with(zones, |services| services).await
    }

    /// Over services that are this machine's own set.
    pub(crate) async fn start_embedded(set: Embedded) -> Self {
        Self::start_with(chisinau(), |services| services.embedded(Arc::new(set))).await
    }

    async fn start_with(zones: Zones, known: impl FnOnce(Services) -> Services) -> Self {
        let (store, database) = Fixture::fresh().await;
        let (starter, backend) = Backend::starting("the fixture");
        starter.tell(Stage::Ready(known(Services::new(store.mcp.clone()))));
        let server = OrdinautServer::local(backend, Metrics::new().unwrap(), zones);
        let client = connect(server.clone()).await;
        Self { store, server, client, database, _starter: starter }
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Called {
        call(&self.client, tool, arguments).await
    }

    /// A call that must succeed.
    pub(crate) async fn ok(&self, tool: &str, arguments: Value) -> Value {
        let called = self.call(tool, arguments).await;
        assert!(!called.refused, "{tool} refused: {}", called.text);
        called.content
    }

    /// A call that must be refused.
    pub(crate) async fn refused(&self, tool: &str, arguments: Value) -> Called {
        let called = self.call(tool, arguments).await;
        assert!(called.refused, "{tool} answered: {}", called.text);
        called
    }
}

/// A server's client over a pipe within the process.
pub(crate) async fn connect(server: OrdinautServer) -> RunningService<RoleClient, ()> {
    tokio::time::timeout(PATIENCE, ().serve(serve(server))).await.unwrap().unwrap()
}

/// The near end of a pipe to a server.
pub(crate) fn serve(server: OrdinautServer) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        if let Ok(running) = server.serve(far).await {
            // The test ends with the client, and this with it.
            let _ = running.waiting().await;
        }
    });
    near
}

pub(crate) async fn call(client: &RunningService<RoleClient, ()>, tool: &str, arguments: Value) -> Called {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let result = tokio::time::timeout(PATIENCE, client.call_tool(request)).await.unwrap().unwrap();
    Called::of(tool, result).await
}

/// What tools answer, as every test's answers are held to it; a server without services knows that.
async fn outputs() -> &'static Outputs {
    static OUTPUTS: OnceCell<Outputs> = OnceCell::const_new();
    OUTPUTS
        .get_or_init(|| async {
            let (_starter, backend) = Backend::starting("nothing");
            let client = connect(OrdinautServer::local(backend, Metrics::new().unwrap(), chisinau())).await;
            Outputs::new(&read(&client, RESOURCE).await)
        })
        .await
}

/// The text of a resource.
pub(crate) async fn read(client: &RunningService<RoleClient, ()>, uri: &str) -> String {
    let result = client.read_resource(ReadResourceRequestParams::new(uri)).await.unwrap();
    match &result.contents[..] {
        [ResourceContents::TextResourceContents { text, .. }] => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// Every tool of a server that has no services at all.
pub(crate) async fn tools() -> Vec<Tool> {
    let (_starter, backend) = Backend::starting("nothing");
    let server = OrdinautServer::local(backend, Metrics::new().unwrap(), chisinau());
    connect(server).await.list_all_tools().await.unwrap()
}

#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) refused: bool,
    pub(crate) text: String,
    pub(crate) content: Value,
}

impl Called {
    /// A tool's result, which its output schema describes.
    pub(crate) async fn of(tool: &str, result: CallToolResult) -> Self {
        outputs().await.judge(tool, &result);
        Self {
            refused: result.is_error == Some(true),
            text: result.content.iter().filter_map(|it| it.as_text()).map(|it| it.text.clone()).collect(),
            content: result.structured_content.unwrap_or_default(),
        }
    }
}

impl Called {
    pub(crate) fn code(&self) -> &str {
        self.content["code"].as_str().unwrap_or_default()
    }

    /// (path, code) of every fault.
    pub(crate) fn faults(&self) -> Vec<(&str, &str)> {
        self.content["faults"]
            .as_array()
            .map(|faults| {
                faults
                    .iter()
                    .map(|fault| {
                        (fault["path"].as_str().unwrap_or_default(), fault["code"].as_str().unwrap_or_default())
                    })
                    .collect()
            })
            .unwrap_or_default()
    }
}

/// A task of one step, with `more` fields over it.
pub(crate) fn task(title: &str, more: Value) -> Value {
    let mut definition = json!({
        "title": title,
        "schedule_kind": "cron",
        "schedule_expr": "30 8 * * MON-FRI",
        "pipeline": [{ "id": "tell", "uses": "inbox.post", "with": { "text": "Good morning" } }],
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut definition, more) {
        fields.extend(more);
    }
    definition
}
