//! Traces, by the real programs: one from the tool call to the steps of the run that it asked for.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message as _;
use rmcp::{ServiceExt as _, model::CallToolRequestParams, transport::TokioChildProcess};
use serde_json::{Value, json};
use tokio::{process::Command, sync::watch, time::timeout};

use crate::support::programs::{CommandLine, PATIENCE, path, program};

/// What stands in a definition and in an answer, and must stand in no span.
const PRIVATE: &str = "open-sesame";

/// A collector of spans, and a page that steps call.
#[derive(Clone)]
struct Collector {
    address: String,
    spans: watch::Sender<Vec<(String, Span)>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Collector {
    async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let collector = Self { address, spans: watch::Sender::default(), headers: Arc::default() };
        let router =
            Router::new().route("/v1/traces", post(take)).route("/page", get(answer)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        collector
    }

    /// Waits until every span named so has come, and answers with all there are.
    async fn saw(&self, names: &[&str]) -> Vec<(String, Span)> {
        let mut spans = self.spans.subscribe();
        let all = spans.wait_for(|spans| names.iter().all(|name| spans.iter().any(|(_, span)| span.name == *name)));
        timeout(PATIENCE, all).await.expect("the spans come").unwrap().clone()
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    collector.spans.send_modify(|spans| {
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let service = attributes.iter().find(|it| it.key == "service.name").unwrap();
            let service = format!("{:?}", service.value);
            let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| (service.clone(), span)));
        }
    });
}

async fn answer(State(collector): State<Collector>, headers: HeaderMap) -> String {
    collector.headers.lock().unwrap().push(headers);
    PRIVATE.to_owned()
}

fn started(name: &str, cli: &CommandLine, collector: Option<&Collector>) -> Command {
    let mut command = Command::new(program(name));
    command
        .env_clear()
        .env("PATH", path())
        .env("TZ", "Europe/Chisinau")
        .env("ORDINAUT_DATA_DIR", cli.directory.join("data"))
        .env("ORDINAUT_RUNTIME_DIR", cli.directory.join("run"))
        .env("ORDINAUT_CONFIG_DIR", cli.directory.join("config"))
        .env("ORDINAUT_EXECUTOR_LISTEN", "127.0.0.1:0")
        .env("DATABASE_URL", &cli.database.url)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if let Some(collector) = collector {
        command.env("ORDINAUT_HTTP_ALLOW", &collector.address);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address));
        // Sent soon, so that the test need not wait for it.
        command.env("OTEL_BSP_SCHEDULE_DELAY", "50");
    }
    command
}

fn find<'s>(spans: &'s [(String, Span)], name: &str) -> &'s Span {
    &spans.iter().find(|(_, span)| span.name == name).unwrap().1
}

#[tokio::test]
async fn one_trace_goes_from_the_tool_call_to_the_steps() {
    let cli = CommandLine::new().await;
    let collector = Collector::open().await;
    let mut executor = started("ordinaut-executor", &cli, Some(&collector)).spawn().unwrap();
    let mut chat = started("ordinaut-mcp", &cli, Some(&collector));
    chat.arg("stdio");
    let chat = ().serve(TokioChildProcess::new(chat).unwrap()).await.unwrap();
    let call = async |tool: &'static str, arguments: Value| {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let called = chat.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments));
        let answer = timeout(PATIENCE, called).await.expect("an answer").unwrap();
        assert_ne!(answer.is_error, Some(true), "{answer:?}");
    };
    call(
        "create_task",
        json!({
            "title": "Traced",
            "schedule_kind": "manual",
            "params": { "word": PRIVATE },
            "pipeline": [
                { "id": "fetch", "uses": "http.get", "with": {
                    "url": format!("http://{}/page", collector.address), "query": { "q": "${params.word}" }
                } },
                { "id": "fail", "uses": "data.assert", "with": { "that": "`false`", "message": PRIVATE } },
            ],
        }),
    )
    .await;
    call("run_now", json!({ "task": "Traced" })).await;
    let spans = collector.saw(&["tools/call run_now", "claim", "attempt", "step"]).await;

    let (asked, claim) = (find(&spans, "tools/call run_now"), find(&spans, "claim"));
    let (attempt, step) = (find(&spans, "attempt"), find(&spans, "step"));
    assert_eq!(attempt.trace_id, asked.trace_id, "the run goes on with the call's trace");
    assert_eq!(attempt.parent_span_id, asked.span_id);
    assert_eq!(attempt.links[0].span_id, claim.span_id);
    assert_eq!(step.trace_id, asked.trace_id);
    assert_eq!(step.parent_span_id, attempt.span_id);
    assert_ne!(find(&spans, "tools/call create_task").trace_id, asked.trace_id);
    let failed = |span: &Span| span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
    assert!(!failed(step), "the page answered");
    for service in ["ordinaut-mcp", "ordinaut-executor"] {
        assert!(spans.iter().any(|(of, _)| of.contains(service)), "{service} told of itself");
    }
    assert!(!format!("{spans:?}").contains(PRIVATE), "no payload is in a span");
    let headers = collector.headers.lock().unwrap().clone();
    assert!(!headers.is_empty());
    assert!(
        headers.iter().all(|headers| !headers.contains_key("traceparent")),
        "third parties are not told: {headers:?}"
    );

    // A chat that ends has sent what it had to tell, and so has an executor that drains.
    drop(timeout(PATIENCE, chat.cancel()).await.expect("the chat ends"));
    let pid = nix::unistd::Pid::from_raw(executor.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(timeout(PATIENCE, executor.wait()).await.expect("the executor ends").unwrap().success());
}

#[tokio::test]
async fn an_unreachable_collector_holds_nobody_up() {
    let cli = CommandLine::new().await;
    let mut chat = started("ordinaut-mcp", &cli, None);
    // A port that was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    chat.arg("stdio").env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{free}"));
    let chat = ().serve(TokioChildProcess::new(chat).unwrap()).await.unwrap();
    let answer = timeout(PATIENCE, chat.call_tool(CallToolRequestParams::new("list_tasks"))).await.unwrap().unwrap();
    assert_ne!(answer.is_error, Some(true), "{answer:?}");
    drop(timeout(PATIENCE, chat.cancel()).await.expect("the chat ends"));
}
