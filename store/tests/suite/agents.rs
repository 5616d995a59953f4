//! Agents, tokens and the gate.

use jiff::{Timestamp, ToSpan as _};
use ordinaut_schema::{action::Grants, schedule::ScheduleKind, task::TaskState};
use ordinaut_store::{
    Caller, StoreError,
    tasks::{Inserted, TaskRef},
    testing::{Fixture, accepted},
};

fn scopes(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_token_speaks_for_its_agent_until_it_expires_or_is_revoked() {
    let (fixture, _database) = Fixture::fresh().await;
    let grants = Grants { tools: vec!["github".to_owned()], ..Grants::default() };
    let read = scopes(&["task:read"]);
    let (agent, token) =
        fixture.executor.add_agent("phone", Some("Europe/Chisinau"), &grants, &read, None).await.unwrap();
    assert!(!format!("{token:?}").contains(&token.text), "a token is not for logs");

    let principal = fixture.mcp.authenticate(&token.text).await.unwrap().expect("the token is known");
    assert_eq!((principal.agent, principal.agent_name.as_str()), (agent, "phone"));
    assert_eq!(principal.scopes, read);
    let kept: Vec<u8> = sqlx::query_scalar("select token_sha256 from agent_token where id = $1")
        .bind(token.id.uuid())
        .fetch_one(&fixture.owner)
        .await
        .unwrap();
    assert!(!token.text.as_bytes().windows(kept.len()).any(|part| part == kept));
    for wrong in ["", "ordinaut_", &token.text[..token.text.len() - 1], &token.text.to_uppercase()] {
        assert_eq!(fixture.mcp.authenticate(wrong).await.unwrap(), None, "{wrong}");
    }

    let past = Timestamp::UNIX_EPOCH + 1.second();
    let expired = fixture.executor.add_token("phone", "old", &read, Some(past)).await.unwrap();
    assert_eq!(fixture.mcp.authenticate(&expired.text).await.unwrap(), None);
    let second = fixture.executor.add_token("phone", "tablet", &read, None).await.unwrap();
    assert_eq!(fixture.mcp.authenticate(&second.text).await.unwrap().unwrap().label, "tablet");

    fixture.executor.revoke_agent("phone").await.unwrap();
    for text in [&token.text, &second.text] {
        assert_eq!(fixture.mcp.authenticate(text).await.unwrap(), None);
    }
    let listed = fixture.executor.list_agents().await.unwrap();
    let phone = listed.iter().find(|it| it.name == "phone").unwrap();
    assert_eq!((phone.tokens.len(), &phone.grants), (3, &grants));
    assert!(phone.revoked_at.is_some() && phone.tokens.iter().all(|token| token.revoked_at.is_some()));
    assert_eq!(listed[0].id, Caller::LOCAL_AGENT);
}

#[tokio::test]
async fn an_agent_sees_itself_and_no_other_and_cannot_make_one() {
    let (fixture, _database) = Fixture::fresh().await;
    let other = fixture.agent("other").await.unwrap();
    let found = fixture.mcp.find_agent(other.agent).await.unwrap();
    assert_eq!((found.name.as_str(), found.grants), ("other", Grants::default()));
    assert_eq!(fixture.executor.find_agent(Caller::LOCAL_AGENT).await.unwrap().grants, Grants::local());

    assert!(fixture.mcp.list_agents().await.is_err(), "tokens are not for the MCP role");
    assert!(fixture.mcp.add_agent("third", None, &Grants::local(), &[], None).await.is_err());
    assert!(fixture.mcp.revoke_agent("other").await.is_err());
    assert!(fixture.mcp.open_gate(None).await.is_err());
}

#[tokio::test]
async fn names_are_taken_once_and_missing_ones_are_said_so() {
    let (fixture, _database) = Fixture::fresh().await;
    fixture.agent("phone").await.unwrap();
    let taken = fixture.executor.add_agent("phone", None, &Grants::default(), &[], None).await;
    assert!(matches!(taken, Err(StoreError::AgentNameTaken(name)) if name == "phone"));
    assert!(matches!(fixture.executor.revoke_agent("x").await, Err(StoreError::AgentNotFound(_))));
    assert!(matches!(fixture.executor.add_token("x", "t", &[], None).await, Err(StoreError::AgentNotFound(_))));
    let unknown_scope = fixture.executor.add_token("phone", "t", &scopes(&["root"]), None).await;
    assert!(unknown_scope.is_err());
}

#[tokio::test]
async fn revoking_an_agent_pauses_its_tasks_and_nobody_elses() {
    let (fixture, _database) = Fixture::fresh().await;
    let other = fixture.agent("other").await.unwrap();
    let now = fixture.executor.now().await.unwrap();
    let mut tasks = Vec::new();
    for caller in [&other, &Caller::local("test")] {
        let definition = accepted("Report", (ScheduleKind::Manual, ""), now);
        let Inserted::Created(task) = fixture.mcp.insert_task(caller, &definition, None).await.unwrap() else {
            panic!("not created");
        };
        tasks.push(task.id);
    }
    fixture.executor.revoke_agent("other").await.unwrap();
    let theirs = fixture.executor.find_task(&other, &TaskRef::Id(tasks[0])).await.unwrap();
    assert_eq!(theirs.state, TaskState::Paused);
    assert!(theirs.paused_because.is_some());
    assert_eq!(fixture.topics(Some(tasks[0])).await, ["task.created", "task.paused"]);
    let mine = fixture.mcp.find_task(&Caller::local("test"), &TaskRef::Id(tasks[1])).await.unwrap();
    assert_eq!(mine.state, TaskState::Active);
}

#[tokio::test]
async fn the_gate_is_shut_for_one_or_for_all_and_opened_alike() {
    let (fixture, _database) = Fixture::fresh().await;
    let other = fixture.agent("other").await.unwrap();
    let shut = async |agent| fixture.mcp.gate_shut(agent).await.unwrap().map(|(_, by)| by);

    fixture.executor.shut_gate(Some(other.agent), "ann").await.unwrap();
    fixture.executor.shut_gate(Some(other.agent), "bob").await.unwrap();
    assert_eq!(shut(other.agent).await.as_deref(), Some("ann"), "the first one to shut it is remembered");
    assert_eq!(shut(Caller::LOCAL_AGENT).await, None);

    fixture.executor.shut_gate(None, "carl").await.unwrap();
    assert_eq!(shut(Caller::LOCAL_AGENT).await.as_deref(), Some("carl"));
    fixture.executor.open_gate(Some(other.agent)).await.unwrap();
    assert_eq!(shut(other.agent).await.as_deref(), Some("carl"));
    fixture.executor.open_gate(None).await.unwrap();
    assert_eq!(shut(other.agent).await, None);
    let audited: Vec<String> = sqlx::query_scalar("select verb from audit_log where verb like '%gate' order by id")
        .fetch_all(&fixture.owner)
        .await
        .unwrap();
    assert_eq!(audited, ["shut_gate", "shut_gate", "open_gate", "open_gate"]);
}
