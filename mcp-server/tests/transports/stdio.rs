//! The binary itself on stdio: it answers before any service is up.

use std::{process::Stdio, time::Duration};

use rmcp::{ServiceExt, transport::TokioChildProcess};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
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
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n").await.unwrap();
    assert_eq!(next(&mut lines).await["id"], 1);
    drop(input);
    assert_eq!(timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap(), None);
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

async fn next(lines: &mut Lines) -> Value {
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    serde_json::from_str(&line).unwrap()
}

/// The program with a client that has said hello.
async fn greeted() -> (Child, ChildStdin, Lines) {
    let mut child = binary().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let about = r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
    let hello = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{about}}}\n{}\n",
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#
    );
    input.write_all(hello.as_bytes()).await.unwrap();
    assert_eq!(next(&mut lines).await["id"], 0);
    (child, input, lines)
}

/// Lines with the error that answers each, and the id in the answer.
fn malformed() -> Vec<(Vec<u8>, i64, Value)> {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    let oversized =
        [b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"".to_vec(), vec![b'x'; 3 << 20], b"\"}".to_vec()].concat();
    let mut lines: Vec<(Vec<u8>, i64, Value)> = vec![
        (b"\xff\xfe{\x80}".to_vec(), -32700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(), -32700, Value::Null),
        (nested(100_000), -32700, Value::Null),
        (nested(60), -32600, Value::Null),
        (oversized, -32600, Value::Null),
    ];
    for (line, code, id) in [
        ("{", -32700, Value::Null),
        ("hello", -32700, Value::Null),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\0", -32700, Value::Null),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} {}", -32700, Value::Null),
        ("null", -32600, Value::Null),
        ("42", -32600, Value::Null),
        ("[]", -32600, Value::Null),
        ("{}", -32600, Value::Null),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]"#, -32600, Value::Null),
        (r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#, -32600, 3.into()),
        (r#"{"id":"four","method":"ping"}"#, -32600, "four".into()),
        (r#"{"jsonrpc":"2.0","id":5,"method":7}"#, -32600, 5.into()),
        (r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600, Value::Null),
    ] {
        lines.push((line.as_bytes().to_vec(), code, id));
    }
    lines
}

#[tokio::test]
async fn a_malformed_line_is_answered_with_the_protocols_error_and_the_conversation_goes_on() {
    let (mut child, mut input, mut lines) = greeted().await;
    for (line, code, id) in malformed() {
        input.write_all(&line).await.unwrap();
        // After it one that nobody answers, an empty one, and one that is answered.
        let rest = "\n{\"jsonrpc\":\"2.0\",\"method\":\"$/setTrace\"}\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n";
        input.write_all(rest.as_bytes()).await.unwrap();
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        let error = next(&mut lines).await;
        assert_eq!((&error["error"]["code"], &error["id"]), (&code.into(), &id), "{shown}: {error}");
        assert_eq!(next(&mut lines).await["id"], 1, "{shown}");
    }
    drop(input);
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

/// More answers than fit what is bounded below.
const FLOOD: u64 = 1000;
/// What the program may come to hold while nobody reads; all answers would be twice as much, and more as they are made.
const MOST_MORE_KB: u64 = 12 * 1024;

#[tokio::test]
async fn a_client_that_floods_and_does_not_read_holds_up_itself_and_nothing_else() {
    let (mut child, mut input, mut lines) = greeted().await;
    let before = peak_kb(&child);
    let flooding = tokio::spawn(async move {
        for id in 1..=FLOOD {
            let request = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/list\"}}\n");
            input.write_all(request.as_bytes()).await.unwrap();
        }
        input
    });
    // Time for a program without bounds to read all of it; one with bounds does not, however long this is.
    let early = timeout(Duration::from_secs(2), async {
        while !flooding.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let _ = early.await;
    let mut answered = std::collections::BTreeSet::new();
    while (answered.len() as u64) < FLOOD {
        assert!(answered.insert(next(&mut lines).await["id"].as_u64().unwrap()));
    }
    let peak = peak_kb(&child);
    assert!(peak - before < MOST_MORE_KB, "{before} kB, then {peak} kB");
    drop(flooding.await.unwrap());
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn a_client_that_takes_nothing_more_ends_the_program_though_it_holds_stdin_open() {
    let (mut child, mut input, lines) = greeted().await;
    drop(lines);
    let ping = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";
    // The first answer that cannot be written ends it; a write after that fails at this end.
    let _ = input.write_all(ping).await;
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

/// Kilobytes that the program held at the most.
fn peak_kb(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}
