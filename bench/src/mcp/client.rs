//! The client: JSON-RPC over the pipes of a process, and over HTTP with a session. It reads what is needed and no more.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{
    session::{Session, hello},
    site::{Change, Server},
};
use crate::programs::memory;

/// A server in a process of its own, and its pipes.
pub(super) struct Stdio {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    line: String,
    id: u64,
    /// From before the process was made to the answer to `initialize`.
    pub(super) started_in: Duration,
}

impl Stdio {
    pub(super) fn start(server: &Server) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut process = server.stdio().spawn().context("start it")?;
        let (to, from) = (process.stdin.take().context("its input")?, process.stdout.take().context("its output")?);
        let from = BufReader::new(from);
        let mut started = Self { process, to, from, line: String::new(), id: 0, started_in: Duration::ZERO };
        started.request("initialize", &hello())?;
        started.started_in = began.elapsed();
        started.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(started)
    }

    pub(super) fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<()> {
        let answer = self.request("tools/call", &json!({ "name": tool, "arguments": arguments }))?;
        succeeded(tool, &answer)
    }

    /// Subscribes, asks for a run, and waits for the answer and until the subscriber is told: how long the latter took.
    pub(super) fn change(&mut self, change: &Change) -> anyhow::Result<Duration> {
        let subject = json!({ "uri": change.uri });
        succeeded("resources/subscribe", &self.request("resources/subscribe", &subject)?)?;
        let began = Instant::now();
        self.ask("tools/call", &json!({ "name": "run_now", "arguments": change.arguments }))?;
        let (mut told_in, mut answered) = (None, false);
        loop {
            let message = self.read()?;
            if message["params"]["uri"] == change.uri {
                told_in.get_or_insert(began.elapsed());
            } else if message["id"] == self.id {
                succeeded("run_now", &message)?;
                answered = true;
            }
            if let Some(told_in) = told_in.filter(|_| answered) {
                // What else is told of it is nobody's any more; the SDKs' servers know no such request, and say so.
                self.request("resources/unsubscribe", &subject)?;
                return Ok(told_in);
            }
        }
    }

    fn request(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.ask(method, params)?;
        loop {
            let message = self.read()?;
            if message["id"] == self.id {
                return Ok(message);
            }
        }
    }

    pub(super) fn memory(&self, what: &str) -> anyhow::Result<f64> {
        memory(self.process.id(), what)
    }

    fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<()> {
        self.id += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params }))
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let mut line = message.to_string();
        line.push('\n');
        self.to.write_all(line.as_bytes()).context("write to it")
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        self.line.clear();
        if self.from.read_line(&mut self.line).context("read from it")? == 0 {
            bail!("it ended");
        }
        serde_json::from_str(&self.line).with_context(|| format!("read {}", self.line))
    }
}

fn succeeded(tool: &str, answer: &Value) -> anyhow::Result<()> {
    if answer["result"].is_null() || answer["result"]["isError"] == true {
        bail!("{tool}: {answer}");
    }
    Ok(())
}

impl Drop for Stdio {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A session over HTTP, for somebody who waits for each answer.
pub(super) struct Http {
    runtime: tokio::runtime::Runtime,
    session: Session,
}

impl Http {
    pub(super) fn connect(server: &Server) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        let session = runtime.block_on(Session::begin(&server.url, server.token.as_deref()))?;
        Ok(Self { runtime, session })
    }

    pub(super) fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<()> {
        self.runtime.block_on(self.session.call(tool, arguments))
    }
}
