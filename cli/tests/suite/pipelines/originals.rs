//! The two examples of the original's README, byte for byte as they stand there.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use ordinaut_schema::{id::RunId, run::RunState};
use serde_json::{Value, json};

use super::{configure, offered, step_state, text};
use crate::support::{
    chat::{Chat, call, chat},
    lab::{Lab, output, until},
    programs::{Answer, bare, finish, repository},
    stand_ins::{Seen, StandIns, Tools},
};

/// By the names and tools that the examples use.
const SERVERS: Tools = &[
    ("google-calendar-mcp", &["list_events"]),
    ("weather-mcp", &["forecast"]),
    ("telegram-mcp", &["send_message"]),
    ("imap-mcp", &["find_outbound_without_reply"]),
    ("gmail-mcp", &["send_followups"]),
];

const BRIEFING: &str = "One meeting at ten, and it stays dry.";

fn threads() -> Value {
    json!([{ "to": "ada@example.com", "subject": "Invoice" }, { "to": "bo@example.com", "subject": "Lunch" }])
}

fn drafts() -> Value {
    json!([{ "to": "ada@example.com", "body": "Dear Ada" }, { "to": "bo@example.com", "body": "Dear Bo" }])
}

fn answers(seen: &Seen) -> Value {
    match seen.at.as_str() {
        "google-calendar-mcp.list_events" => json!({ "events": [{ "at": "10:00", "what": "A meeting" }] }),
        "weather-mcp.forecast" => json!({ "sky": "dry", "temperature": 12 }),
        "imap-mcp.find_outbound_without_reply" => json!({ "threads": threads() }),
        "llm" if seen.prompt().starts_with("Create morning briefing") => json!(BRIEFING),
        "llm" => json!({ "count": 2, "messages": drafts() }),
        _ => json!({ "ok": true }),
    }
}

/// A lab with the stand-ins configured, an executor over it, and a chat whose machine is in New York.
struct Stage {
    lab: Lab,
    stand_ins: StandIns,
    chat: Chat,
    _executor: tokio::process::Child,
}

impl Stage {
    async fn set() -> Self {
        let (lab, stand_ins) = (Lab::fast().await, StandIns::open(SERVERS, answers).await);
        configure(&lab, &stand_ins, SERVERS, "");
        let executor = lab.executor("executor");
        let chat = chat(&lab, &lab.directory().join("chat.log"), &[("TZ".into(), "America/New_York".into())]).await;
        offered(&lab, SERVERS).await;
        Self { lab, stand_ins, chat, _executor: executor }
    }

    /// Creates a task from one of the originals' files, and answers with what was said.
    async fn create(&self, file: &str) -> Value {
        let definition = std::fs::read_to_string(repository().join("cli/tests/original").join(file)).unwrap();
        let created = call(&self.chat, "create_task", serde_json::from_str(&definition).unwrap()).await;
        assert_ne!(created["isError"], json!(true), "{created}");
        created["structuredContent"].clone()
    }

    async fn run_now(&self, title: &str) -> RunId {
        let started = call(&self.chat, "run_now", json!({ "task": title })).await;
        serde_json::from_value(started["structuredContent"]["run"]["id"].clone()).unwrap()
    }

    /// A command of the person's.
    async fn command(&self, arguments: &[&str]) -> Answer {
        let mut command = bare(self.lab.directory());
        command.env("DATABASE_URL", &self.lab.database.url);
        finish(command, arguments, "").await
    }

    /// The approval that waits, as the person sees it.
    async fn asked(&self) -> Value {
        until("an approval", async || {
            let waiting = self.command(&["approve", "--json"]).await.json();
            waiting.as_array().unwrap().first().cloned()
        })
        .await
    }

    /// The arguments of the only call of a tool.
    fn once(&self, tool: &str) -> Value {
        let calls = self.stand_ins.at(tool);
        assert_eq!(calls.len(), 1, "{tool}: {calls:?}");
        calls[0].body.clone()
    }
}

#[tokio::test]
async fn the_originals_morning_briefing_is_created_as_written_and_runs() {
    let stage = Stage::set().await;
    let created = stage.create("briefing.json").await;
    assert_eq!(created["warnings"], Value::Null, "{created}");
    assert_eq!(created["task"]["schedule"]["timezone"], "Europe/Chisinau", "{created}");

    let run = stage.run_now("Weekday Morning Briefing").await;
    let run = stage.lab.end_of(run).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);

    let day = stage.once("google-calendar-mcp.list_events");
    let zone = TimeZone::get("Europe/Chisinau").unwrap();
    let [start, end] = ["start", "end"].map(|name| {
        let at: Timestamp = text(&day[name]).parse().unwrap();
        let offset = at.to_zoned(zone.clone()).strftime("%:z").to_string();
        assert!(text(&day[name]).ends_with(&offset), "{day}: in the task's zone, {offset}");
        at
    });
    assert_eq!(end.duration_since(start), SignedDuration::from_hours(24));
    assert!(start <= run.finished_at.unwrap() && start >= run.occurrence_at, "now is when the run first started");

    assert_eq!(stage.once("weather-mcp.forecast"), json!({ "city": "Chisinau" }));
    let asked = &stage.stand_ins.at("llm")[0];
    for part in ["Create morning briefing", r#"{"events":[{"at":"10:00","what":"A meeting"}]}"#, r#""sky":"dry""#] {
        assert!(asked.prompt().contains(part), "{part}: {}", asked.prompt());
    }
    assert_eq!(output(&run, "summarize")["text"], BRIEFING);
    assert_eq!(stage.once("telegram-mcp.send_message"), json!({ "chat_id": 12345, "text": BRIEFING }));
    for seen in stage.stand_ins.all() {
        assert!(seen.key.starts_with(&run.id.to_string()), "each call has its key: {seen:?}");
    }
}

#[tokio::test]
async fn the_originals_follow_ups_wait_for_a_person_and_send_what_was_approved() {
    let stage = Stage::set().await;
    let created = stage.create("follow-up.json").await;
    assert_eq!(created["warnings"], Value::Null, "{created}");
    let schedule = &created["task"]["schedule"];
    assert_eq!((&schedule["timezone"], &schedule["timezone_source"]), (&json!("America/New_York"), &json!("machine")));
    let title = "Email Follow-up Manager";

    let run = stage.run_now(title).await;
    let asked = stage.asked().await;
    assert_eq!((&asked["message"], &asked["data"]), (&json!("Review 2 follow-up emails"), &drafts()));
    assert_eq!(stage.once("imap-mcp.find_outbound_without_reply"), json!({ "lookback_days": 7, "min_age_hours": 72 }));
    let prompt = stage.stand_ins.at("llm")[0].prompt().to_owned();
    for part in ["generate followups", "ada@example.com", "professional_friendly"] {
        assert!(prompt.contains(part), "{part}: {prompt}");
    }
    let answered = stage.command(&["approve", text(&asked["id"]), "--items", "2", "--json"]).await.json();
    assert_eq!(answered["state"], "approved");
    let run = stage.lab.end_of(run).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!((&output(&run, "generate_followups")["count"], run.failures), (&json!(2), 0));
    assert_eq!(stage.once("gmail-mcp.send_followups"), json!({ "drafts": [drafts()[1]] }));

    let run = stage.run_now(title).await;
    let asked = stage.asked().await;
    assert_eq!(stage.command(&["approve", text(&asked["id"]), "--reject"]).await.code, 0);
    let run = stage.lab.end_of(run).await;
    assert_eq!((run.state, step_state(&run, "send_approved")), (RunState::Succeeded, "skipped"));
    assert_eq!(output(&run, "request_approval")["status"], "rejected");
    assert_eq!(stage.stand_ins.at("gmail-mcp.send_followups").len(), 1, "nothing is sent that was rejected");

    let run = stage.run_now(title).await;
    let asked = stage.asked().await;
    assert_eq!(stage.command(&["approve", text(&asked["id"])]).await.code, 0);
    assert_eq!(stage.lab.end_of(run).await.state, RunState::Succeeded);
    let sent = stage.stand_ins.at("gmail-mcp.send_followups");
    assert_eq!(sent.last().unwrap().body, json!({ "drafts": drafts() }));
}
