//! `up` and `demo`, for real: from nothing to a task that fired, and down again.

use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ordinaut_schema::id::EventId;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::programs::{Answer, PATIENCE, bare, finish, program};

/// A machine where nothing of Ordinaut's has run; what runs at the end is taken down.
struct Machine {
    directory: PathBuf,
}

impl Machine {
    fn new() -> Self {
        for needed in ["ordinaut-mcp", "ordinaut-executor", "ordinaut-example-server"] {
            program(needed);
        }
        let directory = PathBuf::from(format!("/tmp/ordinaut-demo-{}", EventId::new()));
        std::fs::create_dir(&directory).unwrap();
        // Root's servers run under another user, who has to pass.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(&directory, open).unwrap();
        Self { directory }
    }

    fn ordinaut(&self) -> Command {
        bare(&self.directory)
    }

    async fn run(&self, arguments: &[&str]) -> Answer {
        finish(self.ordinaut(), arguments, "").await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing runs any more unless the test failed.
        let stopped = std::process::Command::new(program("ordinaut"))
            .env("ORDINAUT_DATA_DIR", self.directory.join("data"))
            .env("ORDINAUT_RUNTIME_DIR", self.directory.join("run"))
            .arg("down")
            .output();
        // A failed test leaves its logs for whoever looks into it.
        if stopped.is_ok_and(|output| output.status.success()) && !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn steps(run: &Value) -> Vec<(&str, &str)> {
    let steps = run["steps"].as_array().unwrap().iter();
    steps.map(|step| (step["step"].as_str().unwrap(), step["state"].as_str().unwrap())).collect()
}

const DONE: [(&str, &str); 3] = [("forecast", "succeeded"), ("verdict", "succeeded"), ("tell", "succeeded")];

#[tokio::test]
async fn the_demo_fires_a_task_that_was_created_over_mcp_and_leaves_nothing_running() {
    let machine = Machine::new();

    let first = machine.run(&["demo", "--mcp-port", "0", "--json"]).await.json();

    assert_eq!(first["run"]["state"], "succeeded", "{first}");
    assert_eq!(first["run"]["trigger"], "schedule", "{first}");
    assert_eq!(steps(&first["run"]), DONE);
    assert_eq!(first["claude_desktop"]["mcpServers"]["ordinaut"]["args"][0], "stdio");
    assert_eq!(machine.run(&["status"]).await.code, 5);

    let second = machine.run(&["demo", "--mcp-port", "0", "--json"]).await.json();
    assert_eq!(second["run"]["task_id"], first["run"]["task_id"], "the example was made twice");
    assert_eq!(steps(&second["run"]), DONE);
}

#[tokio::test]
async fn up_stays_until_it_is_interrupted_and_a_demo_beside_it_uses_the_same_set_and_task() {
    let machine = Machine::new();
    let mut up = machine.ordinaut();
    up.args(["up", "--mcp-port", "0"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut up = up.spawn().unwrap();
    let mut said = BufReader::new(up.stderr.take().unwrap()).lines();
    let is_up = async {
        while let Some(line) = said.next_line().await.unwrap()
            && !line.contains("Ctrl-C")
        {}
    };
    timeout(PATIENCE, is_up).await.expect("it comes up");

    let demo = machine.run(&["demo", "--json"]).await.json();
    assert_eq!(steps(&demo["run"]), DONE);
    assert_eq!(machine.run(&["tasks", "--all", "--json"]).await.json().as_array().unwrap().len(), 1);
    assert_eq!(machine.run(&["status"]).await.code, 0, "the demo took down what ran before it");
    assert_eq!(machine.run(&["doctor"]).await.code, 0);

    kill(Pid::from_raw(i32::try_from(up.id().unwrap()).unwrap()), Signal::SIGINT).unwrap();
    let ended = timeout(PATIENCE, up.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(0));
    assert_eq!(machine.run(&["status"]).await.code, 5);
}

#[tokio::test]
async fn up_refuses_to_start_a_database_beside_the_one_that_is_configured() {
    let machine = Machine::new();
    let mut command = machine.ordinaut();
    command.env("DATABASE_URL", "postgres:///somebodys");
    let refused = finish(command, &["up"], "").await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("DATABASE_URL"), "{refused:?}");
}
