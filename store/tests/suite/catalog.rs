//! What servers declare and which executors run.

use ordinaut_schema::action::{Descriptor, Effect, Grants};
use ordinaut_store::{Caller, catalog::SeenTool, testing::Fixture};
use serde_json::json;
use sqlx::types::Uuid;

fn tool(server: &str, tool: &str) -> SeenTool {
    let descriptor = Descriptor {
        name: format!("{server}.{tool}"),
        sentence: "Does something.".to_owned(),
        input_schema: json!({ "type": "object" }),
        example: json!({}),
        effect: Effect::Once,
    };
    SeenTool { tool: tool.to_owned(), descriptor, sha256: [7; 32] }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn the_catalogue_has_what_servers_declared_last_and_names_those_never_seen() {
    let (fixture, _database) = Fixture::fresh().await;
    let store = &fixture.executor;
    store.set_servers(&names(&["github", "home", "away"])).await.unwrap();
    store.write_server("github", Ok(vec![tool("github", "create"), tool("github", "close")])).await.unwrap();
    store.write_server("home", Ok(vec![tool("home", "light")])).await.unwrap();
    store.write_server("away", Err("connection refused".to_owned())).await.unwrap();
    store.write_server("unknown", Ok(vec![tool("unknown", "x")])).await.unwrap();

    let catalogue = fixture.mcp.catalogue(&Caller::local("test")).await.unwrap();
    assert_eq!(catalogue.tools.keys().collect::<Vec<_>>(), ["github.close", "github.create", "home.light"]);
    assert_eq!(catalogue.tools["home.light"], tool("home", "light").descriptor);
    assert_eq!(catalogue.unseen_servers, ["away"]);
    assert_eq!(catalogue.grants, Grants::local());

    // A tool goes, a server is away for a while and keeps its tools, another is not configured any more.
    store.write_server("github", Ok(vec![tool("github", "create")])).await.unwrap();
    store.write_server("github", Err("timed out".to_owned())).await.unwrap();
    store.set_servers(&names(&["github", "away", "away"])).await.unwrap();
    let catalogue = fixture.mcp.catalogue(&Caller::local("test")).await.unwrap();
    assert_eq!(catalogue.tools.keys().collect::<Vec<_>>(), ["github.create"]);
    let servers = fixture.mcp.list_servers().await.unwrap();
    let said: Vec<_> = servers.iter().map(|it| (it.name.as_str(), it.error.as_deref(), it.tools)).collect();
    assert_eq!(said, [("away", Some("connection refused"), 0), ("github", Some("timed out"), 1)]);
    assert!(fixture.mcp.set_servers(&[]).await.is_err(), "the MCP role writes no servers");

    let other = fixture.agent("other").await.unwrap();
    assert_eq!(fixture.mcp.catalogue(&other).await.unwrap().grants, Grants::default());
}

#[tokio::test]
async fn an_executor_lives_while_it_reports_and_has_not_stopped() {
    let (fixture, _database) = Fixture::fresh().await;
    let (one, two, gone) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    for id in [one, two, gone] {
        fixture.executor.report_executor(id, "here", "0.1.0", "running").await.unwrap();
    }
    fixture.executor.report_executor(one, "here", "0.1.0", "draining").await.unwrap();
    fixture.executor.report_executor(two, "here", "0.1.0", "stopped").await.unwrap();
    sqlx::query("update executor set seen_at = now() - interval '2 minutes' where id = $1")
        .bind(gone)
        .execute(&fixture.owner)
        .await
        .unwrap();
    let live = fixture.mcp.live_executors().await.unwrap();
    assert_eq!(live.iter().map(|it| (it.id, it.state.as_str())).collect::<Vec<_>>(), [(one, "draining")]);
}
