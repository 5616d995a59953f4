//! Has a command answer a case's request with the tools of the real server, and judges what it left behind.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{self, Stdio},
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    Failed,
    case::Case,
    play::{judge, missing},
    site::{PATIENCE, SERVER, Site},
};

/// A token of the local agent's; the database that knows it lives as long as the case.
const TOKEN: &str = "a-token-for-one-request-of-an-evaluation";

/// # Errors
/// The command failed, or Postgres says that the request is not answered.
pub(crate) async fn drive(case: &Case, command: &str, patience: Duration) -> Result<(), Failed> {
    let (site, client) = Site::set_up(case).await?;
    // It was for setting up only; however it ends, its server ends with it.
    let _ = client.cancel().await;
    let sql = format!(
        "insert into agent_token (id, agent_id, label, token_sha256, scopes)
         select gen_random_uuid(), id, 'evals', sha256('{TOKEN}'),
                array['task:read', 'task:write', 'run:control', 'event:publish']
         from agent where name = 'local'"
    );
    site.database.run_sql(&sql).await.map_err(Failed::Given)?;
    let (address, _http) = serve(&site).await.map_err(Failed::Given)?;
    let config = ClientConfig::write(case, &site).map_err(|error| Failed::Given(error.to_string()))?;
    let reply = ask(case, &site, command, address, &config, patience).await?;
    judge(&site, &case.judge).await?;
    match missing(&site, case, &reply).await? {
        Some(fact) => Err(Failed::Answer(format!("the reply does not say `{fact}`: {reply}"))),
        None => Ok(()),
    }
}

/// The same server over HTTP, on a port that was free a moment ago.
async fn serve(site: &Site) -> Result<(SocketAddr, Child), String> {
    let said = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(said)?;
    let address = listener.local_addr().map_err(said)?;
    drop(listener);
    let mut server = Command::new(SERVER);
    server.args(["http", "--listen", &address.to_string()]).env_clear().envs(site.environment());
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let server = server.spawn().map_err(said)?;
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, listening).await.map_err(|_| "the server does not listen".to_owned())?;
    Ok((address, server))
}

/// A client's configuration, in the shape of Claude Desktop's, which most others read too.
struct ClientConfig(PathBuf);

impl ClientConfig {
    fn write(case: &Case, site: &Site) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ordinaut-eval-{}-{}.json", process::id(), case.id));
        let variables: serde_json::Map<_, _> =
            site.environment().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let server = json!({ "command": SERVER, "args": ["stdio"], "env": variables });
        std::fs::write(&path, json!({ "mcpServers": { "ordinaut": server } }).to_string())?;
        Ok(Self(path))
    }
}

impl Drop for ClientConfig {
    fn drop(&mut self) {
        // What is left lies in the directory for temporary files.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn ask(
    case: &Case,
    site: &Site,
    command: &str,
    address: SocketAddr,
    config: &ClientConfig,
    patience: Duration,
) -> Result<String, Failed> {
    let failed = |error: std::io::Error| Failed::Command(error.to_string());
    let request = site.text(&case.request).await?;
    let mut child = Command::new("/bin/sh");
    child.args(["-c", command]).envs(site.environment());
    child.env("ORDINAUT_EVAL_ID", &case.id).env("ORDINAUT_EVAL_SERVER", SERVER);
    child.env("ORDINAUT_EVAL_CONFIG", &config.0).env("ORDINAUT_EVAL_ZONE", case.zone.as_deref().unwrap_or_default());
    child.env("ORDINAUT_EVAL_URL", format!("http://{address}/mcp")).env("ORDINAUT_EVAL_TOKEN", TOKEN);
    child.env("ORDINAUT_EVAL_PERSON", case.person.as_ref().map(ToString::to_string).unwrap_or_default());
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = child.spawn().map_err(failed)?;
    let mut input = child.stdin.take().expect("it is piped");
    let asking = async {
        // A command that does not read what is asked of it is judged by what it did.
        let _ = input.write_all(request.as_bytes()).await;
        drop(input);
        child.wait_with_output().await
    };
    let late = || Failed::Command(format!("not done after {} s", patience.as_secs()));
    let output = timeout(patience, asking).await.map_err(|_| late())?.map_err(failed)?;
    if !output.status.success() {
        return Err(Failed::Command(format!("it ended with {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
