//! A briefing of every kind of step, whose executor is killed at each of them: while the call is on its way, and when
//! it had its effect and nobody wrote that down.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
};

use ordinaut_schema::{
    id::RunId,
    run::{ErrorKind, RunState},
};
use serde_json::{Value, json};

use super::{configure, kill_9, offered, step_state};
use crate::support::{
    chat::{call, chat},
    lab::{Lab, until},
    smtp::{Mail, MailServer},
    stand_ins::{Gate, Seen, StandIns, Tools},
};

const SERVERS: Tools = &[("calendar", &["list_events"]), ("telegram", &["send_message"])];

/// The steps in their order, and whether a repeat of one does no harm: of `events` its step says so.
const STEPS: [(&str, bool); 6] =
    [("weather", true), ("events", true), ("summary", true), ("book", false), ("tell", false), ("mail", true)];

/// Each call says which step of which variant it is.
const BRIEFING: &str = "
title: TITLE
schedule_kind: manual
pipeline:
  - { id: weather, uses: http.get, with: { url: PAGES/forecast, query: { tag: TITLE.weather } } }
  - { id: events, uses: calendar.list_events, with: { tag: TITLE.events, start: '${now}' }, idempotent: true }
  - id: summary
    uses: llm.generate
    with: { instruction: 'Summarize TITLE.summary', weather: '${steps.weather.body}', events: '${steps.events}' }
  - { id: book, uses: http.post, with: { url: PAGES/bookings, json: { tag: TITLE.book, text: '${steps.summary.text}' } } }
  - { id: tell, uses: telegram.send_message, with: { tag: TITLE.tell, text: '${steps.summary.text}' } }
  - { id: mail, uses: notify.send, with: { channel: post, title: TITLE.mail, text: '${steps.summary.text}' } }
";

fn answers(seen: &Seen) -> Value {
    match seen.at.as_str() {
        "/forecast" => json!({ "sky": "dry" }),
        "calendar.list_events" => json!({ "events": ["A meeting"] }),
        "llm" => json!("Dry, and a meeting."),
        _ => json!({ "done": true }),
    }
}

/// Where the kill falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The call has arrived, and is not answered.
    InFlight,
    /// The call is answered, and the answer is not journaled.
    Unwritten,
}

#[derive(Debug)]
struct Variant {
    title: String,
    step: usize,
    point: Point,
    run: RunId,
}

impl Variant {
    /// The word in the call at which it is killed.
    fn tag(&self) -> String {
        format!("{}.{}", self.title, STEPS[self.step].0)
    }
}

/// Everything outside.
struct World {
    stand_ins: StandIns,
    mails: MailServer,
}

impl World {
    async fn open() -> Self {
        let stand_ins = StandIns::open(SERVERS, answers).await;
        let gate: Gate = stand_ins.gate.clone();
        let wait = move |mail: Mail| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let gate = gate.clone();
            Box::pin(async move { gate.pass(|word| mail.text.contains(word)).await })
        };
        Self { stand_ins, mails: MailServer::waiting("250 ok", Arc::new(wait)).await }
    }

    /// The calls of one step: key and content.
    fn calls(&self, tag: &str) -> Vec<(String, String)> {
        let seen = self.stand_ins.all().into_iter().filter(|seen| seen.says(tag));
        let mails = self.mails.mails().into_iter().filter(|mail| mail.header("Subject").contains(tag));
        let body = |mail: &Mail| mail.text.split_once("\r\n\r\n").unwrap().1.to_owned();
        seen.map(|seen| (seen.key.clone(), seen.body.to_string()))
            .chain(mails.map(|mail| (mail.header("Message-ID"), body(&mail))))
            .collect()
    }

    /// How often each step of a run was called; each under its key, and a repeat with the same content.
    fn counts(&self, title: &str, root: RunId) -> BTreeMap<&'static str, usize> {
        let counted = STEPS.iter().map(|(step, _)| {
            let calls = self.calls(&format!("{title}.{step}"));
            for call in &calls {
                assert_eq!(call, &calls[0], "a repeat is the same call");
                let expected = match *step {
                    // Asking changes nothing: a GET needs no key.
                    "weather" => String::new(),
                    // Its Message-ID, which comes of the key.
                    "mail" => calls[0].0.clone(),
                    _ => format!("{root}/{step}"),
                };
                assert_eq!(call.0, expected, "{call:?}");
            }
            (*step, calls.len())
        });
        counted.collect()
    }
}

/// As many calls of each step.
fn times(of: impl Fn(usize) -> usize) -> BTreeMap<&'static str, usize> {
    STEPS.iter().enumerate().map(|(n, (step, _))| (*step, of(n))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_briefing_killed_at_each_of_its_steps_makes_every_call_once_or_under_its_own_key() {
    let (lab, world) = (Lab::open().await.with_short_leases(), World::open().await);
    let more = format!(
        "[channels.post]\nkind = \"email\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"o@example.com\"\n\
         to = [\"ada@example.com\"]\n",
        world.mails.address.port()
    );
    configure(&lab, &world.stand_ins, SERVERS, &more);
    let allowed = ("ORDINAUT_HTTP_ALLOW".into(), world.stand_ins.address.to_string().into());
    // Long enough that it outlives what is done before the kill.
    let victim = lab.executor_with("victim", &[allowed.clone(), ("ORDINAUT_LEASE".into(), "20s".into())]);
    offered(&lab, SERVERS).await;

    let mut variants = Vec::new();
    for (step, (name, _)) in STEPS.iter().enumerate() {
        for point in [Point::InFlight, Point::Unwritten] {
            let title = format!("{point:?}-{name}");
            let task = BRIEFING.replace("TITLE", &title).replace("PAGES", &world.stand_ins.url(""));
            world.stand_ins.gate.close(&format!("{title}.{name}"));
            let run = lab.run_now(lab.keep(&task).await, &title).await;
            variants.push(Variant { title, step, point, run });
        }
    }
    for variant in &variants {
        let tag = variant.tag();
        until(&tag, async || (!world.calls(&tag).is_empty()).then_some(())).await;
    }
    // The answers of half of them get as far as the journal, and no further.
    let unwritten: Vec<_> = variants.iter().filter(|variant| variant.point == Point::Unwritten).collect();
    let steps: Vec<_> = unwritten.iter().map(|variant| (variant.run, STEPS[variant.step].0)).collect();
    let held = lab.database.hold_steps(&steps).await;
    for variant in &unwritten {
        world.stand_ins.gate.open(&variant.tag());
    }
    let sessions = i64::try_from(unwritten.len()).unwrap();
    until("every result stands before the journal", async || {
        (lab.database.waiting_for_steps().await == sessions).then_some(())
    })
    .await;
    kill_9(victim).await;
    lab.database.cut_off_waiting().await;
    held.rollback().await.unwrap();
    for variant in &variants {
        world.stand_ins.gate.open(&variant.tag());
    }

    let _finisher = lab.executor_with("finisher", &[allowed]);
    let chat = chat(&lab, &lab.directory().join("chat.log"), &[]).await;
    for variant in &variants {
        let (title, killed) = (&variant.title, variant.step);
        let run = lab.end_of(variant.run).await;
        assert_eq!((run.attempts, run.crashes), (2, 1), "{title}");
        let counts = world.counts(title, run.id);
        if STEPS[killed].1 {
            assert_eq!(run.state, RunState::Succeeded, "{title}: {:?}", run.error);
            assert_eq!(counts, times(|n| if n == killed { 2 } else { 1 }), "{title}");
            continue;
        }
        let error = run.error.as_ref().unwrap();
        assert_eq!(
            (run.state, error.kind, error.step.as_str()),
            (RunState::Failed, ErrorKind::OutcomeUnknown, STEPS[killed].0)
        );
        assert_eq!(counts, times(|n| usize::from(n <= killed)), "{title}: nobody repeats it unasked");

        let retried = call(&chat, "retry_run", json!({ "run": run.id })).await;
        assert_ne!(retried["isError"], json!(true), "{retried}");
        let retry: RunId = serde_json::from_value(retried["structuredContent"]["run"]["id"].clone()).unwrap();
        let ended = lab.end_of(retry).await;
        assert_eq!((ended.state, ended.root_run), (RunState::Succeeded, run.id), "{title}: {:?}", ended.error);
        assert_eq!(step_state(&ended, "weather"), "succeeded");
        let counts = world.counts(title, run.id);
        assert_eq!(counts, times(|n| if n == killed { 2 } else { 1 }), "{title}: on a person's word, and nothing else");
    }
    // What a mail program sees of a mail that came twice.
    let ids = world.calls("-mail.mail").iter().map(|(id, _)| id.clone()).collect::<BTreeSet<_>>();
    assert_eq!((ids.len(), world.calls("-mail.mail").len()), (2, 4));
}
