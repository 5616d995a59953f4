//! The binary itself: where it does not listen, and what it says then.

use std::process::Stdio;

use tokio::{process::Command, time::timeout};

use crate::support::PATIENCE;

async fn said_by(more: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordinaut-mcp"));
    command.args(["http", "--listen", "0.0.0.0:0"]).env_clear();
    command.env("DATABASE_URL", "postgres:///none?host=/nonexistent").envs(more.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_without_tls_and_says_three_ways() {
    let (good, said) = said_by(&[]).await;
    assert!(!good);
    for way in ["127.0.0.1:7447", "mcp.tls_certificate", "mcp.behind_proxy = true"] {
        assert!(said.contains(way), "{way} in {said}");
    }
    assert!(!said.contains("listening on"), "{said}");
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named() {
    let files =
        [("ORDINAUT_MCP_TLS_CERTIFICATE", "/nonexistent/chain.pem"), ("ORDINAUT_MCP_TLS_KEY", "/nonexistent/key.pem")];
    let (good, said) = said_by(&files).await;
    assert!(!good);
    assert!(said.contains("/nonexistent/chain.pem"), "{said}");
}
