//! A small MCP server for the examples, the demo and the tests: deterministic, and without any network.
//!
//! On stdio by default. `--http ADDR` serves a few pages instead (`/forecast`, `/page`), and the same tools over
//! Streamable HTTP at `/mcp`; it says its address on standard output. `--faults` adds tools that misbehave.

use std::{
    io::Write,
    net::SocketAddr,
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
    Json, RoleServer, ServerHandler, ServiceExt,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{Implementation, ServerCapabilities, ServerConfig},
    schemars::{self, JsonSchema},
    service::RequestContext,
    tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde::{Deserialize, Serialize};
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
    /// How many slow calls were cancelled by their caller.
    cancelled: u32,
    process: u32,
}

#[derive(Clone)]
struct Example {
    tools: ToolRouter<Self>,
    cancelled: Arc<AtomicU32>,
}

#[tool_router(router = weather_tools)]
impl Example {
    fn new(with_faults: bool) -> Self {
        let tools = if with_faults { Self::weather_tools() + Self::fault_tools() } else { Self::weather_tools() };
        Self { tools, cancelled: Arc::default() }
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
            cancelled: self.cancelled.load(Ordering::SeqCst),
            process: std::process::id(),
        })
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Example {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("ordinaut-example-server", env!("CARGO_PKG_VERSION")))
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

fn pages(with_faults: bool) -> Router {
    let tools = Example::new(with_faults);
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
        axum::serve(listener, pages(arguments.faults)).await.context("serve pages")
    } else {
        let server = Example::new(arguments.faults).serve(rmcp::transport::stdio()).await.context("handshake")?;
        server.waiting().await.context("serve MCP on stdio")?;
        Ok(())
    }
}
