//! An assistant's end of `ordinaut-mcp stdio`.

use std::{ffi::OsString, fs::File, path::Path};

use rmcp::{
    RoleClient, ServiceExt as _, model::CallToolRequestParams, service::RunningService, transport::TokioChildProcess,
};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::support::{
    lab::Lab,
    programs::{PATIENCE, path, program},
};

pub(crate) type Chat = RunningService<RoleClient, ()>;

/// Opens a chat over a lab, which logs everything to `log`; `environment` is what else it has.
pub(crate) async fn chat(lab: &Lab, log: &Path, environment: &[(OsString, OsString)]) -> Chat {
    let mut command = Command::new(program("ordinaut-mcp"));
    command
        .arg("stdio")
        .env_clear()
        .env("PATH", path())
        .env("HOME", lab.directory())
        .env("ORDINAUT_CONFIG_DIR", lab.directory())
        .env("ORDINAUT_DATA_DIR", lab.directory().join("data"))
        .env("ORDINAUT_RUNTIME_DIR", lab.directory().join("run"))
        .env("DATABASE_URL", &lab.database.url)
        .env("REDIS_URL", lab.servers.redis_url())
        .env("ORDINAUT_LOG", "trace")
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let (transport, _stderr) = TokioChildProcess::builder(command).stderr(File::create(log).unwrap()).spawn().unwrap();
    ().serve(transport).await.unwrap()
}

/// Calls a tool, and answers with the whole result.
pub(crate) async fn call(chat: &Chat, tool: &'static str, arguments: Value) -> Value {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    let answer = chat.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments));
    serde_json::to_value(timeout(PATIENCE, answer).await.expect("an answer").unwrap()).unwrap()
}
