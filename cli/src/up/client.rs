//! An MCP client on stdio, as Claude Desktop is one: `ordinaut-mcp stdio` as a child, one tool call at a time.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, CallToolResult},
    service::RunningService,
    transport::TokioChildProcess,
};
use serde_json::{Map, Value};
use tokio::{process::Command, time::timeout};

use crate::{
    config::Config,
    failure::{Exit, Failure},
};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// Longer than the server waits for its services before it says what is starting.
const CALL_LIMIT: Duration = Duration::from_secs(45);

pub(super) struct Client {
    conversation: RunningService<RoleClient, ()>,
    log: String,
}

impl Client {
    pub(super) async fn connect(config: &Config) -> Result<Self, Failure> {
        let program = config.installed("ordinaut-mcp")?;
        let log = config.layout.log_dir().join("up-mcp.log");
        let failed = |doing: &str, why: String| {
            Failure::new(Exit::Failed, format!("could not {doing} {}: {why}", program.display()))
                .mend(format!("{} may say more", log.display()))
        };
        let mut command = Command::new(&program);
        // Ctrl-C is for us; the end of the conversation ends it.
        command.arg("stdio").process_group(0);
        let said = open_log(&log).map_or_else(|_| Stdio::null(), Stdio::from);
        let (transport, _stderr) = TokioChildProcess::builder(command)
            .stderr(said)
            .spawn()
            .map_err(|error| failed("start", error.to_string()))?;
        let conversation = match timeout(HANDSHAKE_LIMIT, ().serve(transport)).await {
            Ok(Ok(conversation)) => conversation,
            Ok(Err(error)) => return Err(failed("speak MCP with", error.to_string())),
            Err(_elapsed) => return Err(failed("speak MCP with", format!("no answer in {HANDSHAKE_LIMIT:?}"))),
        };
        Ok(Self { conversation, log: log.display().to_string() })
    }

    /// Calls a tool; its structured answer.
    ///
    /// # Errors
    /// With what the server refused the call for, in its words.
    pub(super) async fn call(&self, tool: &'static str, arguments: Map<String, Value>) -> Result<Value, Failure> {
        let request = CallToolRequestParams::new(tool).with_arguments(arguments);
        let failed = |why: String| {
            Failure::new(Exit::Failed, format!("`{tool}` over MCP: {why}")).mend(format!("{} may say more", self.log))
        };
        let answer = match timeout(CALL_LIMIT, self.conversation.call_tool(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_elapsed) => return Err(failed(format!("no answer in {CALL_LIMIT:?}"))),
        };
        if answer.is_error == Some(true) {
            return Err(failed(text_of(&answer)));
        }
        Ok(answer.structured_content.unwrap_or_default())
    }

    pub(super) async fn close(self) {
        // The conversation is over either way; a child that does not end is killed when it is dropped.
        let _ = timeout(CALL_LIMIT, self.conversation.cancel()).await;
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn text_of(answer: &CallToolResult) -> String {
    let texts: Vec<_> = answer.content.iter().filter_map(|block| Some(block.as_text()?.text.clone())).collect();
    texts.join("\n")
}
