//! A small MCP server for the examples, the demo and the tests: deterministic, and without any network.
//!
//! On stdio by default. `--http ADDR` serves a few pages instead (`/forecast`, `/page`), and the same tools over
//! Streamable HTTP at `/mcp`; it says its address on standard output. `--faults` adds tools that misbehave; with
//! `--edition` the tools are described as a file says, which may change at any time.

use std::{
    borrow::Cow,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Json as Page, Router,
    extract::{Query, State},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose};
use clap::Parser;
use rmcp::{
    ErrorData, Json, RoleServer, ServerHandler, ServiceExt,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{
        CacheScope, Implementation, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities,
        ServerConfig, Tool,
    },
    schemars::{self, JsonSchema},
    service::RequestContext,
    tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::net::TcpListener;

/// A small MCP server for the examples: weather that never changes, and tools that go wrong.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Serve pages and `/mcp` over HTTP here instead of MCP on stdio.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Add the tools that misbehave.
    #[arg(long, hide = true)]
    faults: bool,
    /// A JSON object with fields to be put over the description of each tool that it names, read at every look; a tool
    /// that is null in it is not listed.
    #[arg(long, value_name = "FILE", hide = true)]
    edition: Option<PathBuf>,
    /// Speak only protocol versions with `initialize`, and announce changed tools: when `announce` is called.
    #[arg(long, hide = true)]
    announces: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct City {
    /// The name of a city, such as `Chisinau`.
    city: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Weather {
    city: String,
    /// In degrees Celsius.
    temperature: i32,
    sky: String,
    /// One sentence.
    summary: String,
}

impl Weather {
    /// Always the same for the same city.
    fn of(city: &str) -> Self {
        let number =
            city.trim().to_lowercase().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let temperature = i32::try_from(number % 35).expect("below 35") - 2;
        let sky = ["clear", "cloudy", "rainy", "windy"][(number / 35 % 4) as usize].to_owned();
        let summary = format!("{} is {sky} at {temperature}°C.", city.trim());
        Self { city: city.trim().to_owned(), temperature, sky, summary }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Dice {
    /// How many sides the die has.
    sides: u32,
    /// The same seed rolls the same number.
    seed: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Rolled {
    rolled: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Seconds {
    seconds: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Repeat {
    /// The name of a variable in this process's environment.
    variable: String,
    how: How,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum How {
    Answer,
    Fail,
    Hang,
    Crash,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Repeated {
    said: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Seen {
    /// The idempotency key of this call.
    key: String,
    /// The names of the variables in this process's environment.
    environment: Vec<String>,
    /// How many slow calls came.
    begun: u32,
    /// How many of them were cancelled by their caller.
    cancelled: u32,
    process: u32,
}

#[derive(Clone)]
struct Example {
    tools: ToolRouter<Self>,
    edition: Option<Arc<Path>>,
    announces: bool,
    begun: Arc<AtomicU32>,
    cancelled: Arc<AtomicU32>,
}

#[tool_router(router = weather_tools)]
impl Example {
    fn new(arguments: &Arguments) -> Self {
        let tools = if arguments.faults { Self::weather_tools() + Self::fault_tools() } else { Self::weather_tools() };
        let edition = arguments.edition.clone().map(Arc::from);
        Self { tools, edition, announces: arguments.announces, begun: Arc::default(), cancelled: Arc::default() }
    }

    /// The tools, as the file describes them by now.
    fn described(&self) -> anyhow::Result<Vec<Tool>> {
        let tools = self.tools.list_all();
        let Some(edition) = &self.edition else { return Ok(tools) };
        let text = std::fs::read_to_string(edition).context("read the edition")?;
        let edition: Map<String, Value> = serde_json::from_str(&text).context("read the edition as JSON")?;
        let edited = tools.into_iter().filter_map(|tool| match edition.get(tool.name.as_ref()) {
            Some(Value::Object(over)) => {
                let mut fields = serde_json::to_value(tool).expect("a tool has string keys");
                fields.as_object_mut().expect("a tool is an object").extend(over.clone());
                Some(serde_json::from_value(fields).context("read a tool"))
            }
            Some(_) => None,
            None => Some(Ok(tool)),
        });
        edited.collect()
    }

    /// Tell the weather of a city: always the same for the same city.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    async fn get_weather(&self, Parameters(asked): Parameters<City>) -> Result<Json<Weather>, String> {
        if asked.city.trim().is_empty() {
            return Err("`city` is empty: name one, such as Chisinau".to_owned());
        }
        Ok(Json(Weather::of(&asked.city)))
    }

    /// Roll a die. The seed decides, so that a repeated call gives the same number.
    #[tool(annotations(idempotent_hint = true, open_world_hint = false))]
    async fn roll(&self, Parameters(dice): Parameters<Dice>) -> Result<Json<Rolled>, String> {
        let number = dice.seed.bytes().fold(17_u32, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
        let rolled = number.checked_rem(dice.sides).ok_or("a die needs at least one side")? + 1;
        Ok(Json(Rolled { rolled }))
    }
}

#[tool_router(router = fault_tools)]
impl Example {
    /// Fail with a reason.
    #[tool]
    async fn fail(&self) -> Result<String, String> {
        Err("it was asked to fail".to_owned())
    }

    /// Answer after so many seconds, or never if cancelled.
    #[tool]
    async fn slow(&self, Parameters(wait): Parameters<Seconds>, context: RequestContext<RoleServer>) -> String {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let waited = tokio::time::sleep(Duration::from_secs(wait.seconds));
        if context.ct.run_until_cancelled(waited).await.is_none() {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        "done".to_owned()
    }

    /// End the process in the middle of the call.
    #[tool]
    async fn crash(&self) -> String {
        std::process::exit(3)
    }

    /// Say that the tools have changed.
    #[tool]
    async fn announce(&self, context: RequestContext<RoleServer>) -> Result<String, String> {
        context.peer.notify_tool_list_changed().await.map_err(|error| error.to_string())?;
        Ok("said".to_owned())
    }

    /// Answer with more than anybody wants.
    #[tool]
    async fn flood(&self) -> String {
        "x".repeat(1024 * 1024)
    }

    /// Give away a variable: in every form, on standard error, and in an answer, a failure or the last words.
    #[tool]
    async fn repeat(&self, Parameters(asked): Parameters<Repeat>) -> Result<Json<Repeated>, String> {
        #[expect(clippy::disallowed_methods, reason = "what it was given is what it is asked for")]
        let value = std::env::var(&asked.variable).unwrap_or_default();
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let (standard, url_safe) = (general_purpose::STANDARD.encode(&value), general_purpose::URL_SAFE.encode(&value));
        // So long that whoever cuts it off cuts a value in two.
        let said = vec![[value, standard, url_safe, encoded].join(" "); 9];
        writeln!(std::io::stderr(), "{}", said.join(" ")).map_err(|error| error.to_string())?;
        match asked.how {
            How::Answer => Ok(Json(Repeated { said })),
            How::Fail => Err(said.join(" ")),
            How::Hang => std::future::pending().await,
            How::Crash => std::process::exit(3),
        }
    }

    /// Tell what the server can see of its caller.
    #[tool]
    async fn look(&self, context: RequestContext<RoleServer>) -> Json<Seen> {
        let key = context.meta.get("io.ordinaut/idempotency-key").and_then(|key| key.as_str()).unwrap_or_default();
        #[expect(clippy::disallowed_methods, reason = "what it was given is what it is asked for")]
        let mut environment: Vec<_> =
            std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        environment.sort();
        Json(Seen {
            key: key.to_owned(),
            environment,
            begun: self.begun.load(Ordering::SeqCst),
            cancelled: self.cancelled.load(Ordering::SeqCst),
            process: std::process::id(),
        })
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Example {
    fn get_info(&self) -> ServerConfig {
        let tools = ServerCapabilities::builder().enable_tools();
        let offered = if self.announces { tools.enable_tool_list_changed().build() } else { tools.build() };
        ServerConfig::new(offered)
            .with_server_info(Implementation::new("ordinaut-example-server", env!("CARGO_PKG_VERSION")))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let latest = if self.announces { ProtocolVersion::LATEST_WITH_INITIALIZE } else { ProtocolVersion::LATEST };
        Cow::Borrowed(ProtocolVersion::known_up_to(&latest))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.described().map_err(|error| ErrorData::internal_error(format!("{error:#}"), None))?;
        let hints = context.protocol_version().is_some_and(|version| !version.has_initialize());
        // With an edition, a lie: what holds for an hour by its server's word may change at any time.
        let ttl_ms = hints.then_some(if self.edition.is_some() { 3_600_000 } else { 0 });
        let cache_scope = hints.then_some(CacheScope::Public);
        Ok(ListToolsResult { ttl_ms, cache_scope, ..ListToolsResult::with_all_items(tools) })
    }
}

/// The text of `/page`: a new edition with every third visit, or whatever was put there.
#[derive(Clone, Default)]
struct Press {
    visits: Arc<AtomicU32>,
    text: Arc<Mutex<Option<String>>>,
}

impl Press {
    fn page(&self) -> String {
        let edition = self.visits.fetch_add(1, Ordering::SeqCst) / 3 + 1;
        let put = self.text.lock().expect("never poisoned: no panic while held").clone();
        put.unwrap_or_else(|| format!("Edition {edition}: nothing new under the sun."))
    }
}

fn pages(arguments: &Arguments) -> Router {
    let tools = Example::new(arguments);
    let mcp = StreamableHttpService::new(
        move || Ok(tools.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    Router::new()
        .route("/forecast", get(async |Query(asked): Query<City>| Page(Weather::of(&asked.city))))
        .route(
            "/page",
            get(async |State(press): State<Press>| press.page()).put(
                async |State(press): State<Press>, text: String| {
                    *press.text.lock().expect("never poisoned: no panic while held") = Some(text);
                },
            ),
        )
        .with_state(Press::default())
        .nest_service("/mcp", mcp)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.http {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let bound = listener.local_addr().context("ask for the bound address")?;
        // For whoever asked for port 0. Not MCP: that is on HTTP here.
        writeln!(std::io::stdout(), "http://{bound}").context("say the address")?;
        axum::serve(listener, pages(&arguments)).await.context("serve pages")
    } else {
        let server = Example::new(&arguments).serve(rmcp::transport::stdio()).await.context("handshake")?;
        server.waiting().await.context("serve MCP on stdio")?;
        Ok(())
    }
}
