//! A secret in what the operator configures: channels, models and MCP servers, each of which gives away what it was
//! given, in answers, failures and half of an answer that never ends.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::request::Parts, routing::post};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ordinaut_schema::{id::RunId, run::RunState};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{CANARY, KEY, Mirror, dump, forms, nowhere};
use crate::support::{
    chat::{call, chat},
    lab::{Lab, me, until},
    programs::{Answer, PATIENCE, bare, finish, program},
    smtp::MailServer,
};

/// An MCP server over HTTP, whose only tool gives away the header that came with the call.
#[derive(Clone)]
struct Remote;

impl ServerHandler for Remote {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("remote", "1"))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let Value::Object(schema) = json!({ "type": "object" }) else { unreachable!("it is written so") };
        let described = format!("Gives away {}", given(&context));
        Ok(ListToolsResult::with_all_items(vec![Tool::new("repeat", described, Arc::new(schema))]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let said = vec![forms(&given(&context)).join(" "); 4];
        let how = request.arguments.unwrap_or_default();
        Ok(match how.get("how").and_then(Value::as_str).unwrap_or_default() {
            "answer" => CallToolResult::structured(json!({ "said": said })).into(),
            "fail" => CallToolResult::error(vec![ContentBlock::text(said.join(" "))]).into(),
            _ => return Err(ErrorData::internal_error(said.join(" "), None)),
        })
    }
}

fn given(context: &RequestContext<RoleServer>) -> String {
    let parts = context.extensions.get::<Parts>().expect("it came over HTTP");
    parts.headers.get("x-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Serves [`Remote`] at `/mcp`, and takes traces.
async fn remote() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = StreamableHttpService::new(
        || Ok(Remote),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let spans: Arc<Mutex<Vec<u8>>> = Arc::default();
    // Texts stand in protobuf as they are.
    let take = async |State(spans): State<Arc<Mutex<Vec<u8>>>>, body: Bytes| spans.lock().unwrap().extend(&body);
    let routes = Router::new().route("/v1/traces", post(take)).with_state(spans.clone()).nest_service("/mcp", service);
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (format!("http://{address}"), spans)
}

fn definition(title: &str, uses: &str, with: &Value) -> Value {
    json!({
        "title": title,
        "schedule_kind": "manual",
        "retry": { "max_attempts": 1 },
        "pipeline": [
            { "id": "ask", "uses": uses, "with": with, "timeout": "3s" },
            { "id": "keep", "uses": "event.publish", "with": { "topic": "canary.seen", "payload": "${steps.ask}" } },
            { "id": "tell", "uses": "inbox.post", "with": { "text": "${to_json(steps.ask)}" } },
        ],
        "on_failure": [{ "uses": "inbox.post", "with": { "text": "failed: ${error.message}" } }],
    })
}

/// What is called, whether that goes well, and whether the secret's name has to be seen where its value was.
fn calls(mirror: &Mirror) -> Vec<(&'static str, &'static str, Value, RunState, bool)> {
    let http = |path: &str| json!({ "url": format!("http://{}{path}", mirror.address), "headers": { "X-Key": "${secrets.CANARY}" } });
    let send = |channel: &str| json!({ "channel": channel, "text": "hello" });
    let ask = |model: &str| json!({ "model": model, "instruction": "Say what you were given" });
    let child = |how: &str| json!({ "variable": "GIVEN", "how": how });
    let (good, bad) = (RunState::Succeeded, RunState::Failed);
    vec![
        ("half an answer", "http.get", http("/hang"), bad, false),
        ("a hook", "notify.send", send("hook"), good, false),
        ("a hook that fails", "notify.send", send("hook-fails"), bad, true),
        // Of an address everything after the host is hidden, as one.
        ("a hook by its address", "notify.send", send("hook-address"), bad, false),
        ("a mail", "notify.send", send("mail"), bad, true),
        ("a model", "llm.generate", ask("mirror"), good, true),
        ("a model that fails", "llm.generate", ask("mirror-fails"), bad, true),
        ("a remote server", "remote.repeat", json!({ "how": "answer" }), good, true),
        ("a remote tool that fails", "remote.repeat", json!({ "how": "fail" }), bad, true),
        ("a remote server that refuses", "remote.repeat", json!({ "how": "refuse" }), bad, true),
        ("a child", "child.repeat", child("answer"), good, true),
        ("a child's tool that fails", "child.repeat", child("fail"), bad, true),
        ("a child that hangs", "child.repeat", child("hang"), bad, false),
        ("a child that dies", "child.repeat", child("crash"), bad, false),
    ]
}

fn configure(lab: &Lab, mirror: &Mirror, mail: &MailServer, remote: &str) {
    let operator = format!(
        "[channels.hook]\nkind = \"webhook\"\nurl = \"http://{mirror}/hook\"\n\
         headers = {{ X-Key = \"${{secrets.CANARY}}\" }}\n\
         [channels.hook-fails]\nkind = \"webhook\"\nurl = \"http://{mirror}/fail\"\n\
         headers = {{ X-Key = \"${{secrets.CANARY}}\" }}\n\
         [channels.hook-address]\nkind = \"webhook\"\nurl = \"http://{mirror}/fail?key=${{secrets.CANARY}}\"\n\
         [channels.mail]\nkind = \"email\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nusername = \"ada\"\n\
         password = \"${{secrets.CANARY}}\"\nfrom = \"o@example.com\"\nto = [\"ada@example.com\"]\n\
         [llm.mirror]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://{mirror}/v1\"\n\
         api_key = \"${{secrets.CANARY}}\"\ndefault = true\n\
         [llm.mirror-fails]\nkind = \"anthropic\"\nmodel = \"m\"\nbase_url = \"http://{mirror}/fail\"\n\
         api_key = \"${{secrets.CANARY}}\"\n",
        mail.address.port(),
        mirror = mirror.address,
    );
    std::fs::write(lab.directory().join("ordinaut.toml"), operator).unwrap();
    let servers = json!({ "mcpServers": {
        "child": {
            "command": program("ordinaut-example-server"), "args": ["--faults"],
            "env": { "GIVEN": "${secrets.CANARY}" },
        },
        "remote": { "type": "http", "url": format!("{remote}/mcp"), "headers": { "X-Key": "${secrets.CANARY}" } },
    } });
    std::fs::write(lab.directory().join("mcp-servers.json"), servers.to_string()).unwrap();
}

/// A command of the person's, over the same files.
async fn command(lab: &Lab, arguments: &[&str], input: &str) -> Answer {
    let mut command = bare(lab.directory());
    command
        .env("DATABASE_URL", &lab.database.url)
        .env("ORDINAUT_SECRET_KEY", KEY)
        .env("ORDINAUT_CONFIG_DIR", lab.directory());
    finish(command, arguments, input).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_channels_models_and_servers_give_away_is_found_nowhere() {
    let (lab, mirror, mail) = (Lab::open().await, Mirror::open().await, MailServer::open("250 ok").await);
    let (remote, spans) = remote().await;
    configure(&lab, &mirror, &mail, &remote);
    let host = mirror.address.to_string();
    let mut set = vec!["secret", "set", "CANARY", "--host", &host, "--server", "child", "--server", "remote"];
    for channel in ["hook", "hook-fails", "hook-address", "mail"] {
        set.extend(["--channel", channel]);
    }
    assert_eq!(command(&lab, &set, CANARY).await.code, 0);

    let traced = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), remote.into()),
        ("OTEL_BSP_SCHEDULE_DELAY".into(), "50".into()),
        ("ORDINAUT_SECRET_KEY".into(), KEY.into()),
        ("ORDINAUT_HTTP_ALLOW".into(), mirror.address.to_string().into()),
        ("ORDINAUT_LOG".into(), "trace".into()),
    ];
    let mut executor = lab.executor_with("executor", &traced);
    let chat_log = lab.directory().join("chat.log");
    let chat = chat(&lab, &chat_log, &traced).await;
    until("what the operator offers", async || {
        let found = lab.store.catalogue(&me()).await.unwrap();
        let tools = ["child.repeat", "remote.repeat"].iter().all(|tool| found.tools.contains_key(*tool));
        (tools && found.offered.models.len() == 2).then_some(())
    })
    .await;

    let (mut haystacks, mut unnamed) = (Vec::new(), Vec::new());
    for (title, uses, with, expected, is_named) in calls(&mirror) {
        let created = call(&chat, "create_task", definition(title, uses, &with)).await;
        assert_ne!(created["isError"], json!(true), "{created}");
        let started = call(&chat, "run_now", json!({ "task": title })).await;
        let run: RunId = serde_json::from_value(started["structuredContent"]["run"]["id"].clone()).unwrap();
        let ended = lab.end_of(run).await;
        assert_eq!(ended.state, expected, "{title}: {:?}", ended.error);
        let shown = call(&chat, "get_run", json!({ "run": run })).await.to_string();
        let is_seen = !is_named || shown.contains("[secret CANARY]");
        unnamed.extend((!is_seen).then(|| format!("{title}: {:?} {}", ended.error, ended.steps[0].output)));
        haystacks.extend([("create_task", created.to_string()), ("get_run", shown)]);
        haystacks.push(("runs", command(&lab, &["runs", &run.to_string(), "--json"], "").await.stdout));
    }
    for tool in ["list_tasks", "list_runs", "check_inbox", "list_actions"] {
        haystacks.push((tool, call(&chat, tool, json!({})).await.to_string()));
    }
    haystacks.push(("list_actions", call(&chat, "list_actions", json!({ "topic": "remote" })).await.to_string()));
    for arguments in [&["doctor"][..], &["channel", "list"], &["llm", "list"], &["server", "list"], &["inbox"]] {
        haystacks.push(("the command line", format!("{:?}", command(&lab, arguments, "").await)));
    }
    until("the events in Redis", async || {
        lab.redis(&["XRANGE", "ordinaut:events", "-", "+"]).await.contains("run.failed").then_some(())
    })
    .await;
    chat.cancel().await.unwrap();
    kill(Pid::from_raw(executor.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
    timeout(PATIENCE, executor.wait()).await.expect("the executor drains").unwrap();

    haystacks.push(("redis", lab.redis(&["--raw", "XRANGE", "ordinaut:events", "-", "+"]).await));
    haystacks.push(("database", dump(&lab).await));
    haystacks.push(("executor.log", lab.log("executor")));
    haystacks.push(("chat.log", std::fs::read_to_string(&chat_log).unwrap()));
    let spans = String::from_utf8_lossy(&spans.lock().unwrap()).into_owned();
    for told in ["ordinaut-mcp", "ordinaut-executor", "attempt", "tools/call run_now"] {
        assert!(spans.contains(told), "nothing was traced of {told}");
    }
    haystacks.push(("traces", spans));
    assert!(mirror.seen.lock().unwrap().iter().any(|seen| seen.contains(CANARY)), "no call carried it");
    nowhere(&haystacks);
    assert!(unnamed.is_empty(), "where the value was, its name is to be: {unnamed:#?}");
}
