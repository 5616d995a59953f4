//! One request's own database, with what was there before the person asked, and the real server over it.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use ordinaut_store::testing::{Database, database};
use rmcp::{
    ClientHandler, ErrorData, RoleClient, ServiceExt as _,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction,
        ElicitationCapability, Implementation, ReadResourceRequestParams, ResourceContents, Tool,
    },
    service::{RequestContext, RunningService},
    transport::TokioChildProcess,
};
use serde_json::{Map, Value};
use tokio::{
    process::Command,
    sync::{Mutex, OnceCell},
    time::timeout,
};

use crate::{
    Failed,
    case::{Case, Given},
    outputs::{Outputs, RESOURCE},
};

/// No call takes so long, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The functions that set scenes; mcp-server/evals/README.md lists them.
const SCENES: &str = include_str!("../../evals/scenes.sql");

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_ordinaut-mcp");

pub(crate) struct Site {
    pub(crate) database: Database,
    names: BTreeMap<String, String>,
    /// What the names came to, each asked for once: it must not change while a case runs.
    values: Mutex<BTreeMap<String, String>>,
    zone: Option<String>,
}

pub(crate) type Client = RunningService<RoleClient, Person>;

impl Site {
    /// A database with what the case says is there, and the client by which it came there.
    ///
    /// # Errors
    /// What is to be there cannot be set up.
    pub(crate) async fn set_up(case: &Case) -> Result<(Self, Client), Failed> {
        let (names, zone) = (case.names.clone(), case.zone.clone());
        let site = Self { database: database().await, names, values: Mutex::default(), zone };
        site.database.run_sql(SCENES).await.map_err(Failed::Given)?;
        let client = site.client(case.person.clone()).await;
        for given in &case.given {
            match given {
                Given::Call(call) => {
                    let answer = call_tool(&client, &call.tool, site.arguments(&call.with).await?).await;
                    if answer.refused {
                        return Err(Failed::Given(format!("{} was refused: {}", call.tool, answer.text)));
                    }
                }
                Given::Sql(given) => {
                    let sql = site.text(&given.sql).await?;
                    site.database.run_sql(&sql).await.map_err(|why| Failed::Given(format!("{why}, in {sql}")))?;
                }
            }
        }
        Ok((site, client))
    }

    /// What a server has to know: all of it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("DATABASE_URL", self.database.url.clone()),
            // This machine's own zone and configuration are none of the case's.
            ("TZ", "ZZZ0".to_owned()),
            ("ORDINAUT_CONFIG_DIR", "/nonexistent".to_owned()),
        ];
        variables.extend(self.zone.clone().map(|zone| ("ORDINAUT_TIMEZONE", zone)));
        variables
    }

    /// A client of a server of its own.
    async fn client(&self, person: Option<Value>) -> Client {
        let mut command = Command::new(SERVER);
        command.arg("stdio").env_clear().envs(self.environment()).kill_on_drop(true);
        let (server, _) =
            TokioChildProcess::builder(command).stderr(Stdio::null()).spawn().expect("the server can be started");
        timeout(PATIENCE, Person(person).serve(server)).await.expect("it answers in time").expect("it speaks MCP")
    }

    /// A text with what its `{{names}}` stand for.
    ///
    /// # Errors
    /// A name that the case does not have, or whose query does not answer one value.
    pub(crate) async fn text(&self, text: &str) -> Result<String, Failed> {
        let mut shown = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or_else(|| Failed::Name(text.to_owned()))?;
            shown.push_str(before);
            shown.push_str(&self.value(name.trim()).await?);
            rest = after;
        }
        Ok(shown + rest)
    }

    async fn value(&self, name: &str) -> Result<String, Failed> {
        let mut values = self.values.lock().await;
        if let Some(known) = values.get(name) {
            return Ok(known.clone());
        }
        let wrong = |why: &str| Failed::Name(format!("`{name}`: {why}"));
        let query = self.names.get(name).ok_or_else(|| wrong("`let` does not have it"))?;
        let rows = self.database.rows(query).await.map_err(|why| wrong(&why))?;
        let value = match rows.as_slice() {
            [Value::Object(row)] if row.len() == 1 => row.values().next().cloned().unwrap_or_default(),
            _ => return Err(wrong("its query must answer one row of one column")),
        };
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        values.insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// Arguments with what their `{{names}}` stand for.
    ///
    /// # Errors
    /// As [`Site::text`].
    pub(crate) async fn arguments(&self, with: &Map<String, Value>) -> Result<Map<String, Value>, Failed> {
        let text = Value::Object(with.clone()).to_string();
        // In JSON still: what names stand for are words, ids and instants, which need no escaping.
        let text = self.text(&text).await?;
        serde_json::from_str(&text).map_err(|error| Failed::Name(error.to_string()))
    }
}

/// What a tool answered, as a model reads it.
pub(crate) struct Answer {
    pub(crate) refused: bool,
    pub(crate) text: String,
    pub(crate) content: Value,
}

pub(crate) async fn call_tool(client: &Client, tool: &str, with: Map<String, Value>) -> Answer {
    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(with);
    match timeout(PATIENCE, client.call_tool(request)).await.expect("a tool answers in time") {
        Ok(result) => {
            outputs(client).await.judge(tool, &result);
            Answer {
                refused: result.is_error == Some(true),
                text: result.content.iter().filter_map(|it| it.as_text()).map(|it| it.text.clone()).collect(),
                content: result.structured_content.unwrap_or_default(),
            }
        }
        // A tool that is not there, say: a client shows its model that, too.
        Err(error) => Answer { refused: true, text: error.to_string(), content: Value::Null },
    }
}

/// What tools answer, as the server says it: every answer of a case is held to that.
async fn outputs(client: &Client) -> &'static Outputs {
    static OUTPUTS: OnceCell<Outputs> = OnceCell::const_new();
    OUTPUTS
        .get_or_init(|| async {
            let request = ReadResourceRequestParams::new(RESOURCE);
            let read = timeout(PATIENCE, client.read_resource(request)).await.expect("it answers in time");
            match &read.expect("the resource is there").contents[..] {
                [ResourceContents::TextResourceContents { text, .. }] => Outputs::new(text),
                other => panic!("one text, not {other:?}"),
            }
        })
        .await
}

pub(crate) async fn tools(client: &Client) -> Vec<Tool> {
    timeout(PATIENCE, client.list_all_tools()).await.expect("it answers in time").expect("it lists its tools")
}

/// Whoever sits before the client: fills in forms where the case says how, and has none to fill in where it does not.
pub(crate) struct Person(Option<Value>);

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = self.0.as_ref().map(|_| ElicitationCapability::default());
        ClientConfig::new(capabilities, Implementation::new("evals", "1"))
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(match &self.0 {
            Some(filled) => ElicitResult::new(ElicitationAction::Accept).with_content(filled.clone()),
            None => ElicitResult::new(ElicitationAction::Decline),
        })
    }
}
