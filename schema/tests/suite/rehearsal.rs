//! Dry runs: what is known is shown, what is not is left alone, and nothing is made up in silence.

use ordinaut_schema::{
    action::{Catalogue, Grants, Offered, data},
    limits::Limits,
    rehearsal::{Given, InputFrom, Rehearsal, Rehearsed, SampleOf, Verdict, rehearse},
    run::{StepRecord, StepState},
    secret::mark,
    task::{Acceptance, TaskSpec, ZoneSource, accept},
    template::Scope,
    time::Zone,
};
use serde_json::{Map, Value, json};

const NOW: &str = "2026-11-23T06:30:00Z";

fn catalogue() -> Catalogue {
    Catalogue {
        offered: Offered {
            channels: [("ops".to_owned(), "slack".to_owned())].into(),
            models: [("home".to_owned(), "small-1".to_owned()), ("big".to_owned(), "large-2".to_owned())].into(),
            default_model: Some("home".to_owned()),
            secrets: [("API_KEY".to_owned(), vec!["api.example.com".to_owned()])].into(),
            ..Offered::default()
        },
        unseen_servers: vec!["calendar".to_owned()],
        grants: Grants::local(),
        ..Catalogue::default()
    }
}

fn spec(more: Value) -> TaskSpec {
    let mut definition = json!({ "title": "t", "schedule_kind": "manual" });
    definition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let zone = Zone::find("Europe/Chisinau").unwrap();
    let against = Acceptance {
        now: NOW.parse().unwrap(),
        default_zone: Some((&zone, ZoneSource::Machine)),
        catalogue: &catalogue(),
        limits: &Limits::DEFAULT,
    };
    accept(&definition, against).unwrap_or_else(|faults| panic!("{faults}")).spec
}

/// How a rehearsal is set up, where it is not the usual way.
#[derive(Default)]
struct Scene {
    last: Vec<StepRecord>,
    event: Option<Value>,
    params: Option<Map<String, Value>>,
    catalogue: Option<Catalogue>,
    most_bytes: Option<usize>,
}

impl Scene {
    fn play(&self, definition: Value) -> Rehearsal {
        let catalogue = self.catalogue.clone().unwrap_or_else(catalogue);
        rehearse(
            &spec(definition),
            &Given {
                now: NOW.parse().unwrap(),
                task: None,
                params: self.params.as_ref(),
                event: self.event.as_ref(),
                previous: &Value::Null,
                last: &self.last,
                catalogue: &catalogue,
                limits: &Limits::DEFAULT,
                most_bytes: self.most_bytes.unwrap_or(64 * 1024),
            },
        )
    }
}

fn played(pipeline: Value) -> Vec<Rehearsed> {
    Scene::default().play(json!({ "pipeline": pipeline, "params": { "city": "Chisinau", "list": [1, 2, 3, 4] } })).calls
}

fn ran(step: &str, uses: &str, output: Value) -> StepRecord {
    let record = json!({ "step": step, "uses": uses, "state": StepState::Succeeded, "calls": 1, "output": output });
    serde_json::from_value(record).unwrap()
}

fn weather(expect: Value) -> Value {
    json!({ "id": "weather", "uses": "http.get", "with": { "url": "https://api.example.com/forecast" }, "expect": expect })
}

fn tell(text: &str) -> Value {
    json!({ "id": "tell", "uses": "inbox.post", "with": { "text": text, "title": "${params.city}" } })
}

fn condition_of(call: &Rehearsed) -> Option<&str> {
    match &call.verdict {
        Verdict::WouldSkip { condition } | Verdict::Depends { condition } => Some(condition),
        Verdict::WouldCall | Verdict::WouldFail { .. } => None,
    }
}

fn reason(call: &Rehearsed) -> &str {
    match &call.verdict {
        Verdict::WouldFail { reason } => reason,
        other => panic!("{other:?} of {call:?}"),
    }
}

#[test]
fn what_is_known_is_rendered_and_what_is_not_stays_as_it_was_written() {
    let calls = played(json!([weather(json!(true)), tell("In ${params.city}: ${steps.weather.body.t}°C at ${now}")]));
    assert_eq!((&calls[0].verdict, calls[0].from), (&Verdict::WouldCall, Some(InputFrom::Known)));
    assert_eq!(calls[0].call, "GET https://api.example.com/forecast");
    assert_eq!(calls[1].from, Some(InputFrom::PartlyUnknown));
    assert_eq!(
        calls[1].input,
        json!({ "text": "In Chisinau: ${steps.weather.body.t}°C at 2026-11-23T08:30:00+02:00", "title": "Chisinau" })
    );
}

#[test]
fn a_known_input_is_what_the_engine_would_render() {
    let step = json!({ "id": "a", "uses": "http.post", "with": {
        "url": "https://api.example.com/${url_encode(params.city)}",
        "headers": { "Authorization": "${basic_auth(params.city, secrets.API_KEY)}", "X": "Bearer ${secrets.API_KEY}" },
        "json": { "n": "${length(params.list)}", "later": "${now+24h}", "plain": "$${x}", "none": "${params.none}" },
    } });
    let params = json!({ "city": "Chișinău", "list": [1, 2], "none": null });
    let calls = Scene::default().play(json!({ "pipeline": [step], "params": params })).calls;
    let scope = Scope { params, now: "2026-11-23T08:30:00+02:00".to_owned(), ..Scope::default() };
    let engines = mark::shown(data::render("http.post", &step["with"], &scope).unwrap());
    assert_eq!(calls[0].input, engines);
    assert_eq!(calls[0].input["headers"]["X"], "Bearer [secret API_KEY]");
    assert_eq!(calls[0].from, Some(InputFrom::Known));
}

#[test]
fn the_scope_taken_whole_is_never_taken_for_known() {
    for template in ["${keys(@)}", "${$}", "${[@][0].steps}", "${run}", "${run.id}", "${task.id}", "${to_json(steps)}"]
    {
        let calls = played(json!([weather(json!(true)), tell(&format!("x {template}"))]));
        assert_eq!(calls[1].input["text"], format!("x {template}"));
        assert_eq!(calls[1].from, Some(InputFrom::PartlyUnknown), "{template}");
    }
}

#[test]
fn a_condition_on_what_is_known_is_decided_and_on_what_is_not_is_shown() {
    let step = |condition: &str| json!({ "uses": "inbox.post", "if": condition, "with": { "text": "x" } });
    let calls = played(json!([
        weather(json!(true)),
        step("params.city == 'Chisinau'"),
        step("params.city == 'Rome'"),
        step("steps.weather.body.t > 25"),
        step("params.city > 3"),
    ]));
    assert_eq!(calls[1].verdict, Verdict::WouldCall);
    assert!(matches!(calls[2].verdict, Verdict::WouldSkip { .. }) && calls[2].input.is_null(), "{:?}", calls[2]);
    assert!(matches!(calls[3].verdict, Verdict::Depends { .. }) && calls[3].notes.is_empty(), "{:?}", calls[3]);
    assert_eq!(condition_of(&calls[3]), Some("steps.weather.body.t > 25"));
    assert!(reason(&calls[4]).starts_with("`if`: "), "{:?}", calls[4]);
}

#[test]
fn a_condition_on_a_sample_depends_and_says_what_the_sample_gives() {
    let expect = json!({ "type": "object", "properties": { "body": { "properties": { "t": { "examples": [30] } } } } });
    let step =
        |id: &str, condition: &str| json!({ "id": id, "uses": "inbox.post", "if": condition, "with": { "text": "x" } });
    let calls = played(json!([
        weather(expect),
        step("hot", "steps.weather.body.t > 25"),
        step("cold", "steps.weather.body.t < 5"),
        step("wrong", "steps.weather.body.t < 'x'"),
    ]));
    for (call, note) in
        [(1, vec!["with the sample data it holds"]), (2, vec!["with the sample data it does not hold"]), (3, vec![])]
    {
        assert!(matches!(calls[call].verdict, Verdict::Depends { .. }), "{:?}", calls[call]);
        assert_eq!(calls[call].notes, note);
    }
}

#[test]
fn a_template_that_fails_on_what_is_known_would_fail_and_says_where() {
    let calls = played(json!([
        { "id": "a", "uses": "inbox.post", "with": { "text": "${params.city > 3}" } },
        { "id": "b", "uses": "inbox.post", "with": { "text": "x" } },
    ]));
    assert!(reason(&calls[0]).contains("`with.text`"), "{:?}", calls[0]);
    assert_eq!(calls[1].notes, ["not reached: the run ends at `a`"]);
}

#[test]
fn what_fails_with_a_sample_is_not_said_to_fail() {
    let expect = json!({ "type": "object", "properties": { "body": { "type": "string", "examples": ["hot"] } } });
    let calls = played(json!([
        weather(expect),
        tell("${steps.weather.body > `3`}"),
        { "id": "sum", "uses": "data.transform", "with": { "expr": "sum(steps.weather.body)" } },
        { "id": "send", "uses": "notify.send", "with": { "channel": "${steps.weather.body}", "text": "x" } },
    ]));
    assert_eq!((&calls[1].verdict, calls[1].from), (&Verdict::WouldCall, Some(InputFrom::PartlyUnknown)));
    for call in &calls[2..] {
        assert_eq!((&call.verdict, call.from), (&Verdict::WouldCall, Some(InputFrom::Sample)));
        assert!(call.notes[0].starts_with("with the sample data it fails: "), "{call:?}");
    }
}

#[test]
fn the_last_run_comes_before_expect_and_each_says_that_it_is_a_sample() {
    let expect =
        json!({ "type": "object", "required": ["body"], "properties": { "body": { "examples": [{ "t": 1 }] } } });
    let pipeline = json!([weather(expect.clone()), tell("${steps.weather.body.t}")]);
    let definition = json!({ "pipeline": pipeline, "params": { "city": "x" } });
    let made = Scene::default().play(definition.clone()).calls;
    assert_eq!((made[0].sample, &made[1].input["text"]), (Some(SampleOf::Expect), &json!(1)));
    assert_eq!(made[1].from, Some(InputFrom::Sample));

    let scene = Scene { last: vec![ran("weather", "http.get", json!({ "body": { "t": 21 } }))], ..Scene::default() };
    let last = scene.play(definition.clone()).calls;
    assert_eq!((last[0].sample, &last[1].input["text"]), (Some(SampleOf::LastRun), &json!(21)));

    // What another action returned under this name says nothing.
    let scene = Scene { last: vec![ran("weather", "http.post", json!({ "body": { "t": 21 } }))], ..Scene::default() };
    assert_eq!(scene.play(definition).calls[1].input["text"], json!(1));
}

#[test]
fn what_a_sample_does_not_hold_is_left_as_it_was_written() {
    let expect = json!({ "type": "object", "required": ["body"],
        "properties": { "body": { "type": "object", "required": ["temperature"] } } });
    for template in ["${steps.weather.body.temperature}", "${steps.weather.status}", "at ${steps.weather.status}"] {
        let calls = played(json!([weather(expect.clone()), tell(template)]));
        assert_eq!(calls[1].input["text"], template);
        assert_eq!(calls[1].from, Some(InputFrom::PartlyUnknown));
    }
}

#[test]
fn a_pure_step_is_computed_and_what_it_gives_is_known() {
    let calls = played(json!([
        { "id": "twice", "uses": "data.transform", "with": { "input": "${params.list}", "expr": "[0:2]" } },
        tell("${length(steps.twice)}"),
        { "id": "check", "uses": "data.assert", "with": { "that": "length(steps.twice) > 2", "message": "too few" } },
    ]));
    assert_eq!((&calls[1].input["text"], calls[1].from), (&json!(2), Some(InputFrom::Known)));
    assert_eq!(reason(&calls[2]), "too few");
}

#[test]
fn a_pure_step_over_what_is_not_known_is_not_computed() {
    let calls = played(json!([
        weather(json!(true)),
        { "id": "t", "uses": "data.transform", "with": { "expr": "steps.weather.body.t" } },
        tell("${steps.t}"),
    ]));
    assert_eq!(calls[1].from, Some(InputFrom::PartlyUnknown));
    assert_eq!(calls[2].input["text"], "${steps.t}");
}

#[test]
fn the_output_of_a_step_that_may_be_skipped_is_not_taken_for_known() {
    let calls = played(json!([
        weather(json!(true)),
        { "id": "t", "if": "steps.weather.body", "uses": "data.transform", "with": { "expr": "params.city" } },
        { "id": "never", "if": "params.city == 'Rome'", "uses": "data.transform", "with": { "expr": "params.city" } },
        tell("${steps.t}"),
        { "id": "after", "uses": "inbox.post", "with": { "text": "${default(steps.never, 'skipped')}" } },
    ]));
    assert_eq!(calls[3].input["text"], "${steps.t}");
    assert_eq!((&calls[4].input["text"], calls[4].from), (&json!("skipped"), Some(InputFrom::Known)));
}

#[test]
fn of_a_choice_whose_branch_is_not_known_no_branch_is_taken() {
    let branch = |id: &str, condition: &str| json!({ "id": id, "save_as": "text", "if": condition, "uses": "data.transform", "with": { "expr": "params.city" } });
    let known = played(json!([
        branch("a", "params.city == 'Chisinau'"),
        branch("b", "params.city == 'Rome'"),
        tell("${steps.text}")
    ]));
    assert_eq!((&known[2].input["text"], known[2].from), (&json!("Chisinau"), Some(InputFrom::Known)));
    let open = played(json!([
        weather(json!(true)),
        branch("a", "params.city"),
        branch("b", "steps.weather"),
        tell("${steps.text}")
    ]));
    assert_eq!(open[3].input["text"], "${steps.text}");
}

#[test]
fn the_first_three_items_of_a_known_list_are_shown_with_their_number() {
    let each = json!({ "id": "each", "foreach": "params.list", "uses": "inbox.post", "with": { "text": "${index}: ${item}" } });
    let calls = played(json!([each]));
    let shown: Vec<_> =
        calls.iter().map(|call| (call.name(), call.item.unwrap().of, call.input["text"].clone())).collect();
    assert_eq!(
        shown,
        [("each[0] of 4", 4, "0: 1"), ("each[1] of 4", 4, "1: 2"), ("each[2] of 4", 4, "2: 3")]
            .map(|(name, of, text)| (name.to_owned(), of, json!(text)))
    );
}

#[test]
fn a_list_that_is_not_known_shows_one_item_with_its_templates() {
    let each = json!({ "id": "each", "foreach": "steps.weather.body", "uses": "inbox.post", "with": { "text": "${item.a} of ${params.city}" } });
    let calls = played(json!([weather(json!(true)), each]));
    assert_eq!((calls.len(), &calls[1].input["text"]), (2, &json!("${item.a} of Chisinau")));
    assert!(calls[1].notes[0].contains("`steps.weather.body`, which is not known yet"), "{:?}", calls[1]);
}

#[test]
fn a_pure_step_over_a_list_is_computed_for_every_item() {
    let calls = played(json!([
        { "id": "each", "foreach": "params.list", "uses": "data.transform", "with": { "expr": "item" } },
        tell("${sum(steps.each)}"),
        { "id": "wrong", "foreach": "params.city", "uses": "inbox.post", "with": { "text": "x" } },
        { "id": "none", "foreach": "params.list[9:]", "uses": "inbox.post", "with": { "text": "x" } },
    ]));
    assert_eq!((calls.len(), &calls[3].input["text"]), (6, &json!(10)));
    assert_eq!(calls[3].from, Some(InputFrom::Known));
    assert!(reason(&calls[4]).contains("must yield a list"), "{:?}", calls[4]);
    assert!(calls[5].notes.iter().any(|note| note.contains("nothing is called")), "{:?}", calls[5]);
}

#[test]
fn members_of_a_group_are_named_with_it() {
    let member =
        |id: &str| json!({ "id": id, "uses": "http.get", "with": { "url": format!("https://api.example.com/{id}") } });
    let calls = played(
        json!([{ "id": "both", "parallel": [member("a"), member("b")] }, tell("${steps.a.status} ${params.city}")]),
    );
    assert_eq!(calls.iter().map(|call| call.group.as_deref()).collect::<Vec<_>>(), [Some("both"), Some("both"), None]);
}

#[test]
fn a_member_that_fails_does_not_keep_its_siblings_from_being_called() {
    let member = |id: &str, text: &str| json!({ "id": id, "uses": "inbox.post", "with": { "text": text } });
    let calls = played(json!([
        { "id": "both", "parallel": [member("a", "${params.city > 3}"), member("b", "x")] },
        tell("x"),
    ]));
    assert!(calls[0].fails() && calls[1].notes.is_empty());
    assert_eq!(calls[2].notes, ["not reached: the run ends at `a`"]);
}

#[test]
fn an_output_that_would_not_be_kept_would_fail() {
    let step = |expect: Value, expr: &str| json!({ "id": "a", "uses": "data.transform", "expect": expect, "with": { "expr": expr } });
    let play = |step: Value| {
        let definition = json!({ "pipeline": [step], "params": { "x": "y".repeat(200_000) } });
        Scene::default().play(definition).calls.remove(0)
    };
    assert!(reason(&play(step(json!(true), "[params.x, params.x]"))).contains("more than the 262144"));
    assert!(reason(&play(step(json!({ "type": "number" }), "'x'"))).contains("does not fit `expect`"));
}

#[test]
fn the_steps_of_on_failure_are_apart_and_know_nothing_of_what_failed() {
    let rehearsal = Scene::default().play(json!({
        "params": { "city": "Chisinau" },
        "pipeline": [{ "id": "t", "uses": "data.transform", "with": { "expr": "params.city" } }],
        "on_failure": [{ "id": "cry", "uses": "inbox.post", "with": { "text": "${params.city}: ${error.message} after ${steps.t}" } }],
    }));
    assert_eq!(rehearsal.calls.len(), 1);
    assert_eq!(rehearsal.on_failure[0].input["text"], "Chisinau: ${error.message} after ${steps.t}");
    assert_eq!(rehearsal.fails_at, None);
}

#[test]
fn a_failure_that_is_continued_from_ends_nothing_and_is_what_later_steps_see() {
    let rehearsal = Scene::default().play(json!({
        "params": { "city": "Chisinau" },
        "pipeline": [
            { "id": "a", "on_error": "continue", "uses": "data.assert", "with": { "that": "params.city == 'Rome'", "message": "not there" } },
            tell("${steps.a.error.message}"),
        ],
    }));
    assert_eq!((rehearsal.fails_at.as_deref(), &rehearsal.calls[1].input["text"]), (None, &json!("not there")));
    assert!(rehearsal.calls[0].fails() && rehearsal.calls[1].notes.is_empty());
}

#[test]
fn each_call_is_said_as_it_would_be_outwardly() {
    for (uses, with, call) in [
        (
            "http.request",
            json!({ "method": "put", "url": "https://x.example/${params.city}" }),
            "PUT https://x.example/Chisinau",
        ),
        ("http.delete", json!({ "url": "https://x.example/a" }), "DELETE https://x.example/a"),
        ("notify.send", json!({ "channel": "ops", "text": "x" }), "sends a message through the channel `ops` (slack)"),
        ("llm.generate", json!({ "instruction": "x" }), "asks the model `home` (small-1)"),
        ("llm.generate", json!({ "instruction": "x", "model": "big" }), "asks the model `big` (large-2)"),
        ("calendar.add", json!({ "at": "${now}" }), "calls the tool `add` of the MCP server `calendar`"),
        ("inbox.post", json!({ "text": "x" }), "leaves a message in the inbox"),
        ("event.publish", json!({ "topic": "report.ready" }), "publishes the event `report.ready`"),
        ("wait.for", json!({ "duration": "2h" }), "waits 2h: until 2026-11-23T10:30:00+02:00 if it begins now"),
        ("wait.until", json!({ "until": "${format_time(now, '%F')}T18:00" }), "waits until 2026-11-23T18:00:00+02:00"),
        (
            "wait.until",
            json!({ "until": "2020-01-01T00:00:00Z" }),
            "does not wait: 2020-01-01T02:00:00+02:00 has gone by",
        ),
        (
            "approval.request",
            json!({ "message": "Pay?", "timeout": "4h" }),
            "asks a person: Pay? (for 4h at most, then reject)",
        ),
        ("task.run", json!({ "task": "Other" }), "runs the task \"Other\" and waits for its end"),
        ("data.transform", json!({ "expr": "now" }), "computes a value; nothing goes out"),
    ] {
        let with = if uses == "http.request" { json!({ "method": "PUT", "url": with["url"] }) } else { with };
        let calls = played(json!([{ "id": "a", "uses": uses, "with": with }]));
        assert_eq!((calls[0].call.as_str(), &calls[0].verdict), (call, &Verdict::WouldCall));
    }
}

#[test]
fn a_call_that_would_be_refused_would_fail_with_the_reason() {
    let scene = |catalogue: Catalogue| Scene { catalogue: Some(catalogue), ..Scene::default() };
    let steps = |uses: &str, with: Value| {
        json!({ "pipeline": [{ "id": "a", "uses": uses, "with": with }],
        "params": { "to": "gone", "url": "ftp://x", "host": "evil.example", "wait": "soon" } })
    };
    let keyed = json!({ "url": "https://api.example.com/", "headers": { "X": "${secrets.API_KEY}" } });
    let no_grants = Catalogue { grants: Grants::default(), ..catalogue() };
    let nothing_offered = Catalogue { grants: Grants::local(), ..Catalogue::default() };
    for (catalogue, definition, why) in [
        (
            catalogue(),
            steps("notify.send", json!({ "channel": "${params.to}", "text": "x" })),
            "`gone` is not configured",
        ),
        (catalogue(), steps("http.get", json!({ "url": "${params.url}" })), "`with.url`"),
        (catalogue(), steps("wait.for", json!({ "duration": "${params.wait}" })), "`soon` is not a duration"),
        (
            catalogue(),
            steps("http.get", json!({ "url": "https://${params.host}/", "headers": { "X": "${secrets.API_KEY}" } })),
            "not bound to evil.example",
        ),
        // What was accepted once may have been taken since.
        (no_grants, steps("http.get", keyed.clone()), "not granted the secret `API_KEY`"),
        (nothing_offered.clone(), steps("http.get", keyed), "the secret `API_KEY` is not configured"),
        (nothing_offered, steps("calendar.add", json!({})), "no MCP server `calendar`"),
    ] {
        let rehearsal = scene(catalogue).play(definition);
        assert!(reason(&rehearsal.calls[0]).contains(why), "{:?}", rehearsal.calls[0]);
        assert_eq!(rehearsal.fails_at.as_deref(), Some("a"));
    }
}

#[test]
fn an_event_is_not_known_unless_there_is_a_sample_and_params_of_the_call_go_over_the_tasks() {
    let definition = json!({ "schedule_kind": "event", "schedule_expr": "order.paid", "params": { "city": "x" },
        "pipeline": [{ "id": "a", "uses": "inbox.post", "with": { "text": "${event.payload.id} ${params.city}" } }] });
    assert_eq!(Scene::default().play(definition.clone()).calls[0].input["text"], "${event.payload.id} x");
    let scene = Scene {
        event: Some(json!({ "id": "1", "topic": "order.paid", "payload": { "id": 7 } })),
        params: json!({ "city": "y" }).as_object().cloned(),
        ..Scene::default()
    };
    let call = scene.play(definition).calls.remove(0);
    assert_eq!((&call.input["text"], call.from), (&json!("7 y"), Some(InputFrom::Sample)));
}

#[test]
fn what_repeats_without_harm_says_so() {
    let calls = played(
        json!([weather(json!(true)), { "id": "b", "uses": "http.post", "with": { "url": "https://x.example/" } }]),
    );
    assert_eq!((calls[0].idempotent, calls[1].idempotent), (true, false));
}

#[test]
fn a_rehearsal_is_bounded_and_says_what_it_leaves_out() {
    let step =
        |n: usize| json!({ "id": format!("s{n}"), "uses": "inbox.post", "with": { "text": "é".repeat(20_000) } });
    let mut steps: Vec<_> = (0..20).map(step).collect();
    steps.push(json!({ "id": "ends", "uses": "data.assert", "with": { "that": "params.no", "message": "no" } }));
    let scene = Scene { most_bytes: Some(10_000), ..Scene::default() };
    let rehearsal = scene.play(json!({ "pipeline": steps, "params": { "no": false } }));
    assert!(serde_json::to_string(&rehearsal).unwrap().len() < 12_000);
    assert!(rehearsal.calls[0].input["text"].as_str().unwrap().ends_with("(cut: 40000 bytes in all)"));
    let shown = rehearsal.calls.len() - 1;
    assert!(rehearsal.left_out.unwrap().starts_with(&format!("{} further calls not shown", 20 - shown)));
    // What ends the run is told, however much came before.
    assert_eq!((rehearsal.fails_at.as_deref(), rehearsal.calls.last().unwrap().step.as_str()), (Some("ends"), "ends"));
}

#[test]
fn rendering_stops_at_a_bound_over_all_steps() {
    let bomb = |n: usize| json!({ "id": format!("s{n}"), "uses": "data.transform", "with": { "expr": "length(to_json({a: params.x, b: params.x, c: params.x}))" } });
    let definition =
        json!({ "pipeline": (0..60).map(bomb).collect::<Value>(), "params": { "x": "y".repeat(400_000) } });
    let rehearsal = Scene::default().play(definition);
    assert!((1..60).contains(&rehearsal.calls.len()), "{}", rehearsal.calls.len());
    assert!(rehearsal.left_out.is_some_and(|why| why.contains("bounded time")));
}
