//! The binary itself on stdio: it answers before any service is up.

use std::process::Stdio;

use rmcp::{ServiceExt, transport::TokioChildProcess};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::support::PATIENCE;

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordinaut-mcp"));
    // A database that nobody answers for, and nothing of the machine's own configuration.
    command.arg("stdio").env_clear().env("DATABASE_URL", "postgres:///none?host=/nonexistent").kill_on_drop(true);
    command
}

#[tokio::test]
async fn initialize_and_tools_list_are_answered_before_the_services_are_up() {
    let client = timeout(PATIENCE, ().serve(TokioChildProcess::new(binary()).unwrap())).await.unwrap().unwrap();
    assert_eq!(client.peer_info().unwrap().server_info.as_ref().unwrap().name, "ordinaut");
    timeout(PATIENCE, client.list_all_tools()).await.unwrap().unwrap();
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn stdout_holds_nothing_but_mcp_and_closing_stdin_ends_the_server() {
    let mut child = binary().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // A line past the limit is dropped, not buffered, and the conversation goes on.
    let long = vec![b'x'; 2 * 1024 * 1024];
    input.write_all(&long).await.unwrap();
    input.write_all(b"\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n").await.unwrap();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["id"], 1);
    drop(input);
    assert_eq!(timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap(), None);
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}
