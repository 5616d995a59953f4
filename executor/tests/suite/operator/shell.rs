//! `shell.exec`: what reaches a command, what it gives back, and that nobody of it outlives its call.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{errno::Errno, sys::signal::Signal, sys::signal::kill, unistd::Pid};
use ordinaut_executor::actions::{StepCall, shell::ShellExec};
use ordinaut_schema::{
    action::Grants,
    limits::Limits,
    run::{ErrorKind, RunState},
    schedule::ScheduleKind,
};
use serde_json::{Value, json};

use super::{
    daemon::File,
    endpoint::{Base, call, failure, output},
};
use crate::support::{House, eventually};

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ordinaut-shell-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The id that a command wrote down.
    async fn noted(&self, name: &str) -> i32 {
        let path = self.file(name);
        eventually("a command wrote its id down", async || {
            std::fs::read_to_string(&path).ok()?.strip_suffix('\n')?.parse().ok()
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Left-overs in the temporary directory harm nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command that `/bin/sh` interprets, because its operator says so.
fn script(text: &str) -> Value {
    json!({ "argv": ["/bin/sh", "-c", text, "script"], "args": true, "stdin": true })
}

fn commands(base: &Base, home: &Path, commands: &Value) -> ShellExec {
    let environment = [("PATH", OsString::from("/usr/bin:/bin")), ("HOME", home.into())];
    let environment: BTreeMap<_, _> = environment.map(|(name, value)| (name.to_owned(), value)).into();
    ShellExec::new(base.standing(&json!({ "shell": commands })), environment, &Limits::DEFAULT)
}

fn exec(with: Value) -> StepCall {
    call("shell.exec", with)
}

fn briefly(with: Value) -> StepCall {
    StepCall { limit: Duration::from_secs(1), ..exec(with) }
}

async fn gone(id: i32) {
    eventually("the process is gone", async || {
        let is_zombie = || std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        (kill(Pid::from_raw(id), None) == Err(Errno::ESRCH) || is_zombie()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn arguments_arrive_as_they_were_given_and_no_shell_reads_them() {
    let (base, place) = (Base::new().await, Place::new());
    let action = commands(&base, &place.0, &json!({ "say": { "argv": ["printf", "<%s>"], "args": true } }));
    let args = json!(["$(touch pwned)", "; touch pwned", "a  b", "*", "'", "", 7, true]);
    let said = output(&action, exec(json!({ "command": "say", "args": args }))).await;
    assert_eq!(said["stdout"], "<$(touch pwned)><; touch pwned><a  b><*><'><><7><true>");
    assert_eq!(said["exit_code"], 0);
    assert!(!place.0.join("pwned").exists());
    let nested = failure(&action, exec(json!({ "command": "say", "args": [["a"]] }))).await;
    assert_eq!(nested.kind, ErrorKind::ClientError);
}

#[tokio::test]
async fn a_command_knows_nothing_of_the_executors_environment() {
    let (base, place) = (Base::new().await, Place::new());
    let action = commands(
        &base,
        &place.0,
        &json!({ "env": { "argv": ["/usr/bin/env"] }, "pwd": { "argv": ["/bin/pwd"] },
        "there": { "argv": ["/bin/pwd"], "directory": "/usr" } }),
    );
    let call = exec(json!({ "command": "env" }));
    let (run, task) = (call.run.to_string(), call.task.to_string());
    let said = output(&action, call).await;
    let mut lines: Vec<_> = said["stdout"].as_str().unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    let expected = [
        format!("HOME={}", place.0.display()),
        "ORDINAUT_IDEMPOTENCY_KEY=root/step".to_owned(),
        format!("ORDINAUT_RUN_ID={run}"),
        format!("ORDINAUT_TASK_ID={task}"),
        "PATH=/usr/bin:/bin".to_owned(),
    ];
    assert_eq!(lines, expected);
    let home = output(&action, exec(json!({ "command": "pwd" }))).await;
    assert_eq!(home["stdout"], format!("{}\n", place.0.canonicalize().unwrap().display()));
    assert_eq!(output(&action, exec(json!({ "command": "there" }))).await["stdout"], "/usr\n");
}

#[tokio::test]
async fn an_input_is_read_and_json_is_kept_typed() {
    let (base, place) = (Base::new().await, Place::new());
    let action = commands(&base, &place.0, &json!({ "cat": script("cat"), "deaf": script("exec true") }));
    let cat = async |stdin: Value| output(&action, exec(json!({ "command": "cat", "stdin": stdin }))).await;
    let object = cat(json!({ "b": [1, "x"], "a": null })).await;
    assert_eq!((&object["stdout"], &object["json"]["b"]), (&json!("{\"b\":[1,\"x\"],\"a\":null}"), &json!([1, "x"])));
    assert_eq!(cat(json!(" [1]\n")).await["json"], json!([1]));
    let text = cat(json!("7")).await;
    assert_eq!((text["stdout"].as_str(), text.get("json")), (Some("7"), None));
    let deep = cat(json!("[".repeat(100) + &"]".repeat(100))).await;
    assert_eq!((deep["stdout"].as_str().unwrap().len(), deep.get("json")), (200, None));
    let unread = json!({ "command": "deaf", "stdin": "x".repeat(200_000) });
    assert_eq!(output(&action, exec(unread)).await["exit_code"], 0);
}

#[tokio::test]
async fn an_exit_code_that_was_not_expected_is_a_tool_error_with_the_last_lines() {
    let (base, place) = (Base::new().await, Place::new());
    let action = commands(
        &base,
        &place.0,
        &json!({ "fails": script("echo one >&2; echo two >&2; exit 3"),
        "dies": script("kill -SEGV $$"), "missing": { "argv": ["/no/such/program"] },
        "nowhere": { "argv": ["/bin/true"], "directory": "/no/such/directory" } }),
    );
    let failed = failure(&action, exec(json!({ "command": "fails" }))).await;
    assert_eq!((failed.kind, failed.sent), (ErrorKind::ToolError, false));
    assert!(failed.message.contains("exit code 3: one | two"), "{failed}");
    let expected = output(&action, exec(json!({ "command": "fails", "exit_codes": [0, 3] }))).await;
    assert_eq!(expected, json!({ "exit_code": 3, "stdout": "", "stderr": "one\ntwo\n" }));
    let died = failure(&action, exec(json!({ "command": "dies", "exit_codes": [0, 139] }))).await;
    assert!(died.kind == ErrorKind::ToolError && died.message.contains("SIGSEGV"), "{died}");
    for (command, part) in [("missing", "/no/such/program"), ("nowhere", "/no/such/directory"), ("other", "there is ")]
    {
        let failed = failure(&action, exec(json!({ "command": command }))).await;
        assert_eq!((failed.kind, failed.sent), (ErrorKind::ClientError, false));
        assert!(failed.message.contains(part) && failed.message.contains("[shell."), "{failed}");
    }
}

#[tokio::test]
async fn what_the_operator_does_not_let_steps_give_is_denied() {
    let (base, place) = (Base::new().await, Place::new());
    let action = commands(&base, &place.0, &json!({ "bare": { "argv": ["/bin/true"] } }));
    output(&action, exec(json!({ "command": "bare", "args": [], "stdin": null }))).await;
    for field in ["args", "stdin"] {
        let given = failure(&action, exec(json!({ "command": "bare", field: ["x"] }))).await;
        assert_eq!(given.kind, ErrorKind::Denied);
        assert!(given.message.contains(&format!("`{field} = true` in `[shell.bare]`")), "{given}");
    }
}

#[tokio::test]
async fn nobody_of_a_command_outlives_its_limit_its_cancellation_or_its_caller() {
    let (base, place) = (Base::new().await, Place::new());
    let stubborn = |name: &str| {
        script(&format!("(trap '' TERM HUP; exec sleep 1000) & echo $! > '{}'; sleep 1000", place.file(name)))
    };
    let mut own = stubborn("own");
    own["timeout"] = json!("1s");
    let table = json!({ "own": own, "late": stubborn("late"), "cancelled": stubborn("cancelled"), "dropped": stubborn("dropped") });
    let action = commands(&base, &place.0, &table);
    let late = failure(&action, briefly(json!({ "command": "late" }))).await;
    assert_eq!((late.kind, late.sent), (ErrorKind::Timeout, true));
    assert!(late.message.contains("1s (`timeout` of the step)"), "{late}");
    gone(place.noted("late").await).await;
    let late = failure(&action, exec(json!({ "command": "own" }))).await;
    assert!(late.kind == ErrorKind::Timeout && late.message.contains("the operator's limit"), "{late}");
    gone(place.noted("own").await).await;

    let call = exec(json!({ "command": "cancelled" }));
    let cancelled = call.cancelled.clone();
    let (failed, id) = tokio::join!(failure(&action, call), async {
        let id = place.noted("cancelled").await;
        cancelled.cancel();
        id
    });
    assert_eq!((failed.kind, failed.sent), (ErrorKind::Cancelled, true));
    gone(id).await;

    let id = tokio::select! {
        failed = failure(&action, exec(json!({ "command": "dropped" }))) => panic!("{failed:?}"),
        id = place.noted("dropped") => id,
    };
    gone(id).await;
}

#[tokio::test]
async fn a_command_that_ends_takes_with_it_what_it_left_behind() {
    let (base, place) = (Base::new().await, Place::new());
    let leaves = script(&format!("sleep 1000 & echo $! > '{}'; echo done", place.file("left")));
    let escapes = script(&format!("setsid sleep 1000 & echo $! > '{}'; echo done", place.file("escaped")));
    let action = commands(&base, &place.0, &json!({ "leaves": leaves, "escapes": escapes }));
    let said = output(&action, exec(json!({ "command": "leaves" }))).await;
    assert_eq!(said["stdout"], "done\n");
    gone(place.noted("left").await).await;
    // Who left the group holds the pipe open, and is not waited for.
    let said = output(&action, exec(json!({ "command": "escapes" }))).await;
    assert_eq!(said["stdout"], "done\n");
    kill(Pid::from_raw(place.noted("escaped").await), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_command_that_floods_is_killed_at_the_limit() {
    let (base, place) = (Base::new().await, Place::new());
    let floods = |to: &str| script(&format!("echo $$ > '{}'; exec yes {to}", place.file("flood")));
    let much = script("head -c 200000 /dev/zero");
    let action = commands(&base, &place.0, &json!({ "out": floods(""), "err": floods(">&2"), "much": much }));
    for command in ["out", "err", "much"] {
        let failed = failure(&action, exec(json!({ "command": command }))).await;
        assert_eq!((failed.kind, failed.sent), (ErrorKind::InvalidOutput, true), "{command}: {failed}");
        assert!(failed.message.contains("262144"), "{failed}");
        gone(place.noted("flood").await).await;
    }
}

fn step(command: &str) -> Value {
    json!({ "pipeline": [{ "id": "it", "uses": "shell.exec", "with": { "command": command } }] })
}

#[tokio::test]
async fn a_command_runs_once_granted_and_an_edit_of_the_file_is_in_force_soon() {
    let (house, file) = (House::new().await, File::new());
    file.write("[shell.hello]\nargv = [\"/bin/echo\", \"one\"]\n");
    let _executor = house.executor_reading(&file.0, &[]).await;
    let task = house.task("hello", (ScheduleKind::Manual, ""), step("hello")).await;
    let denied = house.ended(house.run_now(&task, "denied").await).await;
    let error = denied.error.unwrap();
    assert_eq!((denied.state, error.kind), (RunState::Failed, ErrorKind::Denied));
    assert!(error.message.contains("ordinaut agent grant <agent> --command hello"), "{error}");

    let grants = |grants: &mut Grants| grants.commands = vec!["hello".to_owned(), "more".to_owned()];
    house.store.change_grants("local", grants).await.unwrap();
    let run = house.ended(house.run_now(&task, "granted").await).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(run.steps[0].output["stdout"], "one\n");

    file.write("[shell.more]\nargv = [\"/bin/echo\", \"two\"]\n");
    eventually("another command is offered", async || {
        house.store.offered().await.unwrap().commands.contains_key("more").then_some(())
    })
    .await;
    let run = house.ended(house.run_now(&task, "gone").await).await;
    assert!(run.error.unwrap().message.contains("there is more"));
    let task = house.task("more", (ScheduleKind::Manual, ""), step("more")).await;
    let run = house.ended(house.run_now(&task, "more").await).await;
    assert_eq!(run.steps[0].output["stdout"], "two\n", "{:?}", run.error);
}

#[tokio::test]
async fn nobody_of_a_command_outlives_an_executor_that_is_killed() {
    let (house, place) = (House::new().await, Place::new());
    let (own, child) = (place.file("own"), place.file("child"));
    let argv =
        json!(["/bin/sh", "-c", format!("sleep 1000 & echo $! > '{child}'; echo $$ > '{own}'; exec sleep 1000")]);
    std::fs::write(place.0.join("ordinaut.toml"), format!("[shell.slow]\nargv = {argv}\n")).unwrap();
    house.store.change_grants("local", |grants| grants.commands = vec!["slow".to_owned()]).await.unwrap();
    let task = house.task("slow", (ScheduleKind::Manual, ""), step("slow")).await;
    house.run_now(&task, "1").await;
    let mut executor = tokio::process::Command::new(env!("CARGO_BIN_EXE_ordinaut-executor"))
        .env_clear()
        .envs(house.environment())
        .envs([("HOME", &place.0), ("ORDINAUT_CONFIG_DIR", &place.0)])
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ids = [place.noted("own").await, place.noted("child").await];
    // SIGKILL: nothing is dropped.
    executor.kill().await.unwrap();
    for id in ids {
        gone(id).await;
    }
}

#[tokio::test]
async fn a_command_whose_executor_is_lost_or_whose_time_runs_out_is_not_repeated_by_itself() {
    let (house, file, place) = (House::new().await.with_short_leases(), File::new(), Place::new());
    let (note, count) = (place.file("note"), place.file("count"));
    file.write(&format!(
        "[shell.slow]\nargv = [\"/bin/sh\", \"-c\", \"echo x >> '{count}'; echo $$ > '{note}'; exec sleep 1000\"]\n"
    ));
    house.store.change_grants("local", |grants| grants.commands = vec!["slow".to_owned()]).await.unwrap();
    let victim = house.executor_reading(&file.0, &[]).await;
    let task = house.task("slow", (ScheduleKind::Manual, ""), step("slow")).await;
    let run = house.run_now(&task, "lost").await;
    let id = place.noted("note").await;
    victim.kill();
    // With its tasks the executor's hold on the command went.
    gone(id).await;
    let _survivor = house.executor_reading(&file.0, &[]).await;
    let run = house.ended(run).await;
    assert_eq!((run.state, run.error.unwrap().kind), (RunState::Failed, ErrorKind::OutcomeUnknown));

    let mut brief = step("slow");
    brief["pipeline"][0]["timeout"] = json!("1s");
    let task = house.task("brief", (ScheduleKind::Manual, ""), brief).await;
    let run = house.ended(house.run_now(&task, "brief").await).await;
    assert_eq!((run.state, run.error.unwrap().kind), (RunState::Failed, ErrorKind::OutcomeUnknown));
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\nx\n", "each ran once");
}
