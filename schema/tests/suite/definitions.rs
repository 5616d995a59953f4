//! Definitions, from text to spec and back, sentence by sentence of SPEC section 4.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use ordinaut_schema::{
    action::{Catalogue, Change, Descriptor, Effect, Grants, Offered, built_in},
    budget::{Cost, Tariff},
    fault::{Fault, FaultCode, Faults},
    id::TaskId,
    limits::Limits,
    pipeline::{Element, judge_output},
    retry::Backoff,
    run::ErrorKind,
    schedule::{Misfire, Overlap, ScheduleKind},
    task::{Acceptance, Accepted, TaskSpec, ZoneSource, accept, amend, read},
    template::Scope,
    time::Zone,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NOW: &str = "2026-11-23T06:30:00.5Z";

fn catalogue() -> Catalogue {
    let tool = Descriptor {
        name: "github.create_issue".to_owned(),
        sentence: "Creates an issue.".to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {"repo": {"type": "string"}, "title": {"type": "string"}, "count": {"type": "integer"}},
            "required": ["repo"],
            "additionalProperties": false,
        }),
        example: json!({"repo": "a/b"}),
        effect: Effect::Once,
    };
    Catalogue {
        cost_budget: false,
        tools: [(tool.name.clone(), tool)].into(),
        changed: BTreeMap::new(),
        unseen_servers: vec!["calendar".to_owned()],
        offered: Offered {
            models: [("home".to_owned(), "small".to_owned())].into(),
            default_model: Some("home".to_owned()),
            commands: [("backup".to_owned(), "Backs up".to_owned()), ("other".to_owned(), "other".to_owned())].into(),
            ..Offered::default()
        },
        grants: Grants { commands: vec!["backup".to_owned()], ..Grants::local() },
        agent: "phone".to_owned(),
    }
}

fn judge_with(definition: &Value, catalogue: &Catalogue) -> Result<Accepted, Faults> {
    let zone = Zone::find("Europe/Chisinau").unwrap();
    accept(
        definition,
        Acceptance {
            now: NOW.parse().unwrap(),
            default_zone: Some((&zone, ZoneSource::Machine)),
            catalogue,
            limits: &Limits::DEFAULT,
        },
    )
}

fn judge(definition: &Value) -> Result<Accepted, Faults> {
    judge_with(definition, &catalogue())
}

fn accepted(definition: &Value) -> Accepted {
    judge(definition).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(definition: &Value) -> Vec<Fault> {
    judge(definition).map(drop).unwrap_err().into_iter().collect()
}

/// The one fault of a definition.
fn fault(definition: &Value) -> Fault {
    let found = faults(definition);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

/// A manual task with these steps.
fn task(pipeline: Value) -> Value {
    json!({"title": "t", "schedule_kind": "manual", "pipeline": pipeline})
}

/// A manual task with one `inbox.post` and some more fields.
fn with(fields: Value) -> Value {
    let mut definition = task(json!([{"uses": "inbox.post", "with": {"text": "hi"}}]));
    definition.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    definition
}

const BRIEFING: &str = r#"
title: Weekday morning briefing
schedule_kind: rrule
schedule_expr: FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30
timezone: Europe/Chisinau
params: { city: Chisinau }
pipeline:
  - id: weather
    uses: http.get
    with: { url: "https://api.example.com/forecast", query: { city: "${params.city}" } }
    timeout: 30s
    expect: { type: object, required: [body], properties: { body: { type: object, required: [temperature] } } }
  - id: tell
    if: "steps.weather.body.temperature > 25"
    uses: inbox.post
    with: { text: "Hot today: ${steps.weather.body.temperature}°C" }
on_failure:
  - uses: inbox.post
    with: { text: "The briefing failed: ${error.message}" }
"#;

fn briefing() -> Value {
    read(BRIEFING, &Limits::DEFAULT).unwrap().remove(0)
}

#[test]
fn the_example_of_the_specification_is_accepted() {
    let Accepted { spec, zone_source, warnings, .. } = accepted(&briefing());
    assert_eq!(zone_source, ZoneSource::Task);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(spec.timezone, "Europe/Chisinau");
    assert_eq!(spec.on_failure[0].id, "failure_1");
    let Element::Step(weather) = &spec.pipeline[0] else { panic!("a step") };
    assert_eq!(weather.limit(), Duration::from_secs(30));
}

#[test]
fn six_different_faults_are_six_faults_each_with_its_path() {
    let definition = json!({
        "title": "Broken",
        "schedule_kind": "cron",
        "schedule_expr": "*/5 * * * * *",
        "timezone": "Europe/Chisnau",
        "priority": 12,
        "pipeline": [
            {"id": "weather", "uses": "http.gett", "with": {"url": "https://a.example"}},
            {"id": "tell", "uses": "inbox.post", "with": {"text": "${steps.wether.body}"}, "if": "steps.weather.status == \"ok\""},
        ],
    });
    let found = faults(&definition);
    let paths: HashSet<(&str, FaultCode)> = found.iter().map(|it| (it.path.as_str(), it.code)).collect();
    for expected in [
        ("$.schedule_expr", FaultCode::BadCron),
        ("$.timezone", FaultCode::UnknownTimezone),
        ("$.priority", FaultCode::InvalidValue),
        ("$.pipeline[0].uses", FaultCode::UnknownAction),
        ("$.pipeline[1].with.text", FaultCode::UnknownReference),
        ("$.pipeline[1].if", FaultCode::BadExpression),
    ] {
        assert!(paths.contains(&expected), "{expected:?} in {found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
    let suggestions: Vec<_> = found.iter().filter_map(|it| it.suggestion.as_deref()).collect();
    for suggestion in ["Europe/Chisinau", "http.get", "steps.weather", "'ok'"] {
        assert!(suggestions.contains(&suggestion), "{suggestion} in {suggestions:?}");
    }
}

#[test]
fn defaults_are_those_of_the_specification() {
    let Accepted { spec, zone_source, .. } = accepted(&with(json!({})));
    assert_eq!(spec.schedule_kind, ScheduleKind::Manual);
    assert_eq!((spec.timezone.as_str(), zone_source), ("Europe/Chisinau", ZoneSource::Machine));
    assert_eq!(spec.misfire, Misfire::RunLatest);
    assert_eq!((spec.misfire_limit, spec.queue_limit, spec.priority, spec.concurrency_limit), (100, 100, 5, 1));
    assert_eq!(spec.overlap, Overlap::Queue);
    assert_eq!(spec.run_timeout, Duration::from_hours(1));
    assert_eq!(spec.pause_after_failures, 10);
    assert_eq!(spec.retry.max_attempts, 4);
    assert_eq!(spec.anchored_at.to_string(), "2026-11-23T06:30:00Z");
    let event = accepted(&with(json!({"schedule_kind": "event", "schedule_expr": "user.email.*"}))).spec;
    assert_eq!((event.queue_limit, event.overlap), (10_000, Overlap::Queue));
    let cron = accepted(&with(json!({"schedule_kind": "cron", "schedule_expr": "0 8 * * *"}))).spec;
    assert_eq!(cron.overlap, Overlap::Skip);
}

#[test]
fn durations_are_text_or_whole_seconds() {
    for (given, seconds) in [(json!("90s"), 90), (json!(90), 90), (json!("90"), 90), (json!("PT2M"), 120)] {
        assert_eq!(accepted(&with(json!({"run_timeout": given}))).spec.run_timeout, Duration::from_secs(seconds));
    }
    assert_eq!(fault(&with(json!({"run_timeout": "1 fortnight"}))).path, "$.run_timeout");
    assert_eq!(fault(&with(json!({"run_timeout": true}))).code, FaultCode::WrongType);
    assert_eq!(fault(&with(json!({"run_timeout": 0}))).code, FaultCode::Limit);
}

#[test]
fn an_unknown_field_is_a_fault_with_the_nearest_known_one() {
    let found = fault(&with(json!({"priorty": 3})));
    assert_eq!((found.code, found.path.as_str()), (FaultCode::UnknownField, "$.priorty"));
    assert_eq!(found.suggestion.as_deref(), Some("priority"));
    assert_eq!(fault(&with(json!({"tz": "UTC"}))).suggestion.as_deref(), Some("timezone"));
    let found = fault(&task(json!([{"uses": "inbox.post", "with": {"text": "a"}, "when": "true"}])));
    assert_eq!((found.path.as_str(), found.suggestion.as_deref()), ("$.pipeline[0].when", Some("if")));
}

#[test]
fn missing_fields_are_named_with_what_belongs_there() {
    let found = faults(&json!({}));
    let paths: Vec<_> = found.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["$.title", "$.schedule_kind", "$.pipeline"]);
    assert!(found.iter().all(|it| it.code == FaultCode::MissingField));
    assert_eq!(fault(&with(json!({"schedule_kind": "cron"}))).path, "$.schedule_expr");
    assert_eq!(fault(&task(json!([]))).path, "$.pipeline");
    assert_eq!(fault(&task(json!([{"id": "a"}]))).path, "$.pipeline[0].uses");
    assert_eq!(fault(&task(json!(["http.get"]))).path, "$.pipeline[0]");
}

#[test]
fn without_any_zone_a_schedule_of_civil_times_is_refused_and_others_are_not() {
    let catalogue = catalogue();
    let against =
        Acceptance { now: NOW.parse().unwrap(), default_zone: None, catalogue: &catalogue, limits: &Limits::DEFAULT };
    let codes = |definition: Value| -> Vec<FaultCode> {
        accept(&definition, against).map(drop).unwrap_err().into_iter().map(|it| it.code).collect()
    };
    let cron = with(json!({"schedule_kind": "cron", "schedule_expr": "0 8 * * *"}));
    assert_eq!(codes(cron), [FaultCode::TimezoneRequired]);
    let once = with(json!({"schedule_kind": "once", "schedule_expr": "2027-01-01T08:00"}));
    assert_eq!(codes(once), [FaultCode::TimezoneRequired]);
    let start = with(json!({"starts_at": "2027-01-01T08:00"}));
    assert_eq!(codes(start), [FaultCode::TimezoneRequired]);
    let interval = accept(&with(json!({"schedule_kind": "interval", "schedule_expr": "15m"})), against).unwrap();
    assert_eq!(interval.zone_source, ZoneSource::NotNeeded);
}

#[test]
fn a_past_instant_is_refused_and_told_the_present_one_with_offset() {
    let found = fault(&with(json!({"schedule_kind": "once", "schedule_expr": "2026-11-23T08:00:00+02:00"})));
    assert_eq!((found.code, found.path.as_str()), (FaultCode::InThePast, "$.schedule_expr"));
    assert!(found.message.contains("2026-11-23T08:30:00+02:00"), "{found}");
    let found = fault(&with(json!({"ends_at": "2026-11-01"})));
    assert_eq!((found.code, found.path.as_str()), (FaultCode::InThePast, "$.ends_at"));
    accepted(&with(json!({"schedule_kind": "once", "schedule_expr": "+20m"})));
}

#[test]
fn a_schedule_that_never_fires_is_refused() {
    let ended = json!({"schedule_kind": "interval", "schedule_expr": "2d", "ends_at": "2026-11-24T08:00"});
    let found = fault(&with(ended));
    assert_eq!((found.code, found.path.as_str()), (FaultCode::NeverFires, "$.ends_at"));
    let found = fault(&with(json!({"schedule_kind": "cron", "schedule_expr": "0 0 30 2 *"})));
    assert_eq!(found.path, "$.schedule_expr");
    let bounds = json!({"starts_at": "2027-02-01", "ends_at": "2027-01-01"});
    assert_eq!(fault(&with(bounds)).path, "$.ends_at");
}

#[test]
fn every_policy_is_read() {
    let spec = accepted(&with(json!({
        "description": "d", "starts_at": "2027-01-01T00:00", "ends_at": "2027-06-01T00:00:00Z", "max_runs": 3,
        "jitter": "5m", "misfire": "run_all", "misfire_limit": 7, "misfire_grace": "1h", "overlap": "allow",
        "overlap_ignores_waiting": true, "queue_limit": 9, "concurrency_key": "db", "concurrency_limit": 2,
        "max_runs_per_day": 24, "max_cost_per_month": 2.5, "max_tokens_per_run": 5000,
        "priority": 1, "dedupe_key": "k", "dedupe_window": "1h", "run_timeout": "2h", "pause_after_failures": 0,
        "escalate_after": "90m", "escalate_to": "me",
        "retry": {"max_attempts": 2, "backoff": "fixed", "initial": "10m", "errors": ["timeout"]},
    })))
    .spec;
    assert_eq!(spec.starts_at.unwrap().to_string(), "2026-12-31T22:00:00Z");
    assert_eq!(spec.anchored_at, spec.starts_at.unwrap());
    assert_eq!((spec.max_runs, spec.misfire_limit, spec.queue_limit, spec.priority), (Some(3), 7, 9, 1));
    assert_eq!((spec.misfire, spec.overlap), (Misfire::RunAll, Overlap::Allow));
    assert_eq!((spec.max_runs_per_day, spec.max_tokens_per_run), (Some(24), Some(5000)));
    assert_eq!(spec.max_cost_per_month, Cost::of(2.5));
    assert_eq!(fault(&with(json!({"max_cost_per_month": 0}))).path, "$.max_cost_per_month");
    assert_eq!((spec.escalate_after, spec.escalate_to.as_deref()), (Some(Duration::from_mins(90)), Some("me")));
    assert_eq!(fault(&with(json!({"escalate_after": "30s"}))).path, "$.escalate_after");
    assert_eq!(spec.retry.backoff, Backoff::Fixed);
    assert_eq!((spec.retry.initial, spec.retry.max), (Duration::from_mins(10), Duration::from_mins(10)));
    assert_eq!(spec.retry.errors, [ErrorKind::Timeout]);
    assert_eq!(fault(&with(json!({"retry": {"errors": ["outcome_unknown"]}}))).path, "$.retry.errors[0]");
    assert_eq!(fault(&with(json!({"dedupe_window": "1h"}))).path, "$.dedupe_window");
    assert_eq!(fault(&with(json!({"max_retries": 1, "retry": {}}))).path, "$.max_retries");
    assert_eq!(fault(&with(json!({"event_filter": "event.payload"}))).path, "$.event_filter");
    assert_eq!(fault(&with(json!({"overlap": "alow"}))).suggestion.as_deref(), Some("allow"));
}

#[test]
fn a_budget_of_cost_is_refused_for_a_model_without_a_price() {
    let ask = json!([{"uses": "llm.generate", "with": {"instruction": "x"}}]);
    let found = fault(&with(json!({"max_cost_per_month": 5, "pipeline": ask})));
    assert_eq!((found.code, found.path.as_str()), (FaultCode::NotConfigured, "$.pipeline[0].with.model"));
    assert!(found.message.contains("the model `home` has no price, so the task's"), "{found}");
    assert!(found.message.contains("ordinaut llm add home … --price INPUT,OUTPUT --replace"), "{found}");

    let of_agent = Catalogue { cost_budget: true, ..catalogue() };
    let found = judge_with(&with(json!({"pipeline": ask})), &of_agent).unwrap_err().to_string();
    assert!(found.contains("the agent's `max_cost_per_month`"), "{found}");
    let mut priced = of_agent;
    let tariff = Tariff { input: Cost::ZERO, output: Cost::ZERO, max_tokens: 100 };
    priced.offered.tariffs.insert("home".to_owned(), tariff);
    judge_with(&with(json!({"max_cost_per_month": 5, "pipeline": ask})), &priced).expect("a price of nothing is one");
    judge_with(&with(json!({"max_cost_per_month": 5})), &catalogue()).expect("who asks no model needs no price");
}

#[test]
fn a_bare_name_in_an_event_filter_is_told_where_the_payload_is() {
    let listening = |filter: &str| {
        with(json!({"schedule_kind": "event", "schedule_expr": "a.b", "event_filter": filter, "params": {"most": 3}}))
    };
    let found = fault(&listening("n > 3"));
    assert_eq!((found.path.as_str(), found.suggestion.as_deref()), ("$.event_filter", Some("event.payload.n")));
    assert!(found.message.contains("what the event carries is in `event.payload`"), "{found}");
    assert_eq!(fault(&listening("event.payload.n > most")).suggestion.as_deref(), Some("params.most"));
    accepted(&listening("event.payload.n > params.most"));
}

#[test]
fn a_once_that_has_gone_by_is_refused_with_the_instants_that_may_have_been_meant() {
    let gone = |expr: &str| fault(&with(json!({"schedule_kind": "once", "schedule_expr": expr})));
    // Earlier today, yesterday, and tomorrow's date in a year gone by: there is one instant to put in its place.
    for (written, meant) in [
        ("2026-11-23T08:00", "2026-11-24T08:00:00+02:00"),
        ("2026-11-22T09:00", "2026-11-23T09:00:00+02:00"),
        ("2024-11-24T08:00", "2026-11-24T08:00:00+02:00"),
    ] {
        assert_eq!(gone(written).suggestion.as_deref(), Some(meant), "{written}");
    }
    // Otherwise both are shown, and none is put in its place.
    let far = gone("2024-02-29T09:00");
    assert_eq!(far.suggestion, None);
    assert!(far.message.contains("09:00 comes next at `2026-11-23T09:00:00+02:00`"), "{far}");
    assert!(far.message.contains("29 February at `2028-02-29T09:00:00+02:00`"), "{far}");
}

#[test]
fn a_zone_by_the_name_of_a_city_is_refused_with_its_zone() {
    for (written, meant) in
        [("Chisinau", "Europe/Chisinau"), ("Europe/Kishinev", "Europe/Chisinau"), ("Asia/Mumbai", "Asia/Kolkata")]
    {
        let found = fault(&with(json!({"timezone": written})));
        assert_eq!((found.code, found.path.as_str()), (FaultCode::UnknownTimezone, "$.timezone"));
        assert_eq!(found.suggestion.as_deref(), Some(meant), "{written}");
    }
}

#[test]
fn a_once_that_has_gone_by_is_shown_in_its_zone() {
    let gone = fault(&with(json!({"schedule_kind": "once", "schedule_expr": "2026-11-23T08:00"})));
    assert_eq!(gone.code, FaultCode::InThePast);
    for said in ["`2026-11-23T08:00:00+02:00` has gone by", "it is now 2026-11-23T08:30:00+02:00"] {
        assert!(gone.message.contains(said), "{gone}");
    }
    let example = fault(&with(json!({"starts_at": "soon"})));
    assert!(example.message.contains("`2026-11-24T08:30` or `2026-11-24T08:30:00+02:00`"), "{example}");
}

#[test]
fn a_dedupe_key_names_params_event_and_task_and_nothing_that_is_known_later() {
    let keyed = |key: &str| with(json!({"params": {"city": "x"}, "dedupe_key": key}));
    for key in ["daily", "${params.city}", "${task.id}-${task.title}", "$${literal"] {
        assert_eq!(accepted(&keyed(key)).warnings, Vec::<String>::new(), "{key}");
    }
    for key in ["${now}", "${run.id}", "${previous.run.id}", "${steps.step_1}", "${params.town}", "${params.city", "${"]
    {
        assert_eq!(fault(&keyed(key)).path, "$.dedupe_key", "{key}");
    }
    assert!(fault(&keyed("${now}")).message.contains("params, event, task"));
    let event = accepted(&keyed("${event.payload.id}")).warnings.remove(0);
    assert!(event.contains("null in a run that no event started"), "{event}");
    let listening = json!({"schedule_kind": "event", "schedule_expr": "a.b", "dedupe_key": "${event.payload.id}"});
    assert_eq!(accepted(&with(listening)).warnings, Vec::<String>::new());
}

#[test]
fn a_dedupe_key_is_rendered_and_one_that_comes_to_nothing_is_none() {
    let rendered = |key: &str, event: Value| {
        let spec = accepted(&with(json!({"params": {"city": "x"}, "dedupe_key": key}))).spec;
        let over = json!({"city": "y"});
        spec.dedupe(TaskId::new(), over.as_object(), Some(&event)).map(|key| key.map(|it| it.key))
    };
    let payload = |value: Value| json!({"id": "1", "topic": "a", "payload": value});
    let same = |key: &str, event: Value| rendered(key, event).unwrap().unwrap();
    assert_eq!(same("${params.city}", Value::Null), "d:y", "what the caller set over the params counts");
    assert_eq!(same("order ${event.payload.n}", payload(json!({"n": 7}))), "d:order 7");
    assert_eq!(same("${event.payload.n}", payload(json!({"n": 7}))), "d:7");
    for nothing in [Value::Null, json!({"n": ""}), json!({"m": 1})] {
        assert_eq!(rendered("${event.payload.n}", payload(nothing)).unwrap(), None);
    }
    assert!(rendered("order ${event.payload.n}", payload(json!({}))).is_err(), "null inside text");
    let long = |c: &str| payload(json!({"n": c.repeat(100_000)}));
    let (a, b) = (same("${event.payload.n}", long("a")), same("${event.payload.n}", long("b")));
    assert!(a != b && a.len() < 100 && a.starts_with("d#"), "{a}");
    assert!(same("${event.payload.n}", payload(json!({"n": "a\u{0}b"}))).starts_with("d#"));
}

#[test]
fn a_dedupe_window_is_an_hour_unless_given_and_says_what_it_leaves_out() {
    let clock = |kind: &str, expr: &str, window: Value| {
        let mut fields = json!({"schedule_kind": kind, "schedule_expr": expr, "dedupe_key": "k"});
        fields.as_object_mut().unwrap().extend(window.as_object().unwrap().clone());
        accepted(&with(fields))
    };
    let hourly = clock("interval", "1h", json!({}));
    assert_eq!((hourly.spec.dedupe_window(), hourly.warnings.len()), (Duration::from_hours(1), 0));
    assert!(clock("interval", "59m", json!({})).warnings[0].contains("as little as 59m apart"));
    // The day on which the clock goes forward has 23 hours.
    assert!(clock("cron", "0 8 * * *", json!({"dedupe_window": "1d"})).warnings[0].contains("23h apart"));
    assert!(clock("cron", "0 8 * * *", json!({"dedupe_window": "23h"})).warnings.is_empty());
    assert!(clock("interval", "1d", json!({"dedupe_window": "1d"})).warnings.is_empty());
    // The original's.
    let none = clock("cron", "0 8 * * *", json!({"dedupe_window_seconds": 0}));
    assert_eq!((none.spec.dedupe_key, none.spec.dedupe_window), (None, None));
    assert!(none.warnings[0].contains("nothing is a duplicate"));
    let keyless = accepted(&with(json!({"dedupe_window_seconds": 60})));
    assert_eq!(accepted(&keyless.spec.to_definition()).spec, keyless.spec);
}

#[test]
fn ids_match_the_pattern_are_unique_and_have_defaults() {
    let post = json!({"uses": "inbox.post", "with": {"text": "a"}});
    let named = |id: &str| json!({"id": id, "uses": "inbox.post", "with": {"text": "a"}});
    let group = json!({"parallel": [post, post]});
    let spec = accepted(&task(json!([post, group, post]))).spec;
    let ids: Vec<_> = spec.steps().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["step_1", "step_2", "step_3", "step_4"]);
    let found = fault(&task(json!([named("a"), named("a")])));
    assert_eq!((found.code, found.path.as_str()), (FaultCode::DuplicateId, "$.pipeline[1].id"));
    let mut both = task(json!([named("a")]));
    both["on_failure"] = json!([named("a")]);
    assert_eq!(fault(&both).path, "$.on_failure[0].id");
    let found = fault(&task(json!([named("my step")])));
    assert_eq!((found.path.as_str(), found.suggestion.as_deref()), ("$.pipeline[0].id", Some("my_step")));
    assert_eq!(fault(&task(json!([named("a-b")]))).path, "$.pipeline[0].id");
    assert!(judge(&json!({"title": "t", "schedule_kind": "manual", "payload": {"pipeline": [named("a-b")]}})).is_ok());
}

#[test]
fn names_are_letters_digits_and_underscores_in_ids_groups_and_save_as_alike() {
    let post = json!({"uses": "inbox.post", "with": {"text": "a"}});
    for (name, fits) in
        [("_a9", true), ("A", true), ("9a", false), ("a.b", false), ("a-b", false), ("é", false), ("", false)]
    {
        let (mut id, mut saved) = (post.clone(), post.clone());
        id["id"] = json!(name);
        saved["save_as"] = json!(name);
        let group = json!({"id": name, "parallel": [post]});
        for (step, path) in [(id, "$.pipeline[0].id"), (saved, "$.pipeline[0].save_as"), (group, "$.pipeline[0].id")] {
            match judge(&task(json!([step]))) {
                Ok(_) => assert!(fits, "{name}"),
                Err(faults) => assert!(!fits && faults.as_slice()[0].path == path, "{name}: {faults}"),
            }
        }
    }
    // Steps are counted over all, so that a default is never somebody else's.
    let mut both = task(json!([post, {"uses": "inbox.post", "with": {"text": "a"}, "save_as": "same"},
                               {"uses": "inbox.post", "with": {"text": "a"}, "save_as": "same"}]));
    both["on_failure"] = json!([post, post]);
    let spec = accepted(&both).spec;
    let ids: Vec<_> = spec.steps().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["step_1", "step_2", "step_3", "failure_1", "failure_2"]);
}

#[test]
fn a_timeout_is_at_most_an_hour() {
    let step = |timeout: &str| task(json!([{"uses": "inbox.post", "with": {"text": "a"}, "timeout": timeout}]));
    accepted(&step("1h"));
    let found = fault(&step("61m"));
    assert_eq!((found.code, found.path.as_str()), (FaultCode::Limit, "$.pipeline[0].timeout"));
}

#[test]
fn a_retry_is_four_attempts_with_jitter_from_a_second_to_five_minutes_unless_it_says_otherwise() {
    let retry = |fields: Value| accepted(&with(fields)).spec.retry;
    for defaults in [json!({}), json!({"retry": {}})] {
        let retry = retry(defaults);
        assert_eq!((retry.max_attempts, retry.backoff), (4, Backoff::ExponentialJitter));
        assert_eq!((retry.initial, retry.max), (Duration::from_secs(1), Duration::from_mins(5)));
    }
    let original = retry(json!({"max_retries": 2, "backoff_strategy": "linear"}));
    assert_eq!((original.max_attempts, original.backoff), (3, Backoff::Linear), "n retries are n+1 attempts");
}

#[test]
fn groups_do_not_nest_and_take_steps_only() {
    let post = json!({"uses": "inbox.post", "with": {"text": "a"}});
    let nested = task(json!([{"parallel": [{"parallel": [post]}]}]));
    assert_eq!(fault(&nested).path, "$.pipeline[0].parallel[0]");
    assert_eq!(fault(&task(json!([{"parallel": []}]))).path, "$.pipeline[0].parallel");
    let conditional = task(json!([{"parallel": [post], "if": "true"}]));
    assert_eq!(fault(&conditional).path, "$.pipeline[0].if");
    let lonely = task(json!([{"uses": "inbox.post", "with": {"text": "a"}, "max_parallel": 2}]));
    assert_eq!(fault(&lonely).path, "$.pipeline[0].max_parallel");
}

#[test]
fn an_unknown_reference_is_refused_with_a_suggestion() {
    let step = |id: &str, text: &str| json!({"id": id, "uses": "inbox.post", "with": {"text": text}});
    let reference = |text: &str| {
        let mut definition = task(json!([step("weather", "a"), step("tell", text), step("later", "a")]));
        definition["params"] = json!({"city": "x"});
        faults(&definition).remove(0)
    };
    for (text, says, suggestion) in [
        ("${steps.wether.body}", "`steps.wether` names no step", Some("steps.weather")),
        ("${steps.later.body}", "runs later", None),
        ("${steps.tell.body}", "this step", None),
        ("${params.town}", "`params` has city", None),
        ("${params.cty}", "does not exist", Some("params.city")),
        ("${weather.body}", "names nothing here", Some("steps.weather.body")),
        ("${city}", "names nothing here", Some("params.city")),
        ("${item.x}", "`foreach`", None),
        ("${index}", "`foreach`", None),
        ("${error.message}", "`on_failure`", None),
        ("${run.idd}", "`run` has id", Some("run.id")),
    ] {
        let found = reference(text);
        assert_eq!(
            (found.code, found.path.as_str()),
            (FaultCode::UnknownReference, "$.pipeline[1].with.text"),
            "{text}"
        );
        assert!(found.message.contains(says), "{text}: {found}");
        assert_eq!(found.suggestion.as_deref(), suggestion, "{text}");
    }
}

#[test]
fn a_parallel_sibling_has_no_output_yet_and_a_later_step_sees_all_of_them() {
    let step = |id: &str, text: &str| json!({"id": id, "uses": "inbox.post", "with": {"text": text}});
    let beside = task(json!([{"id": "both", "parallel": [step("a", "x"), step("b", "${steps.a.x}")]}]));
    assert!(fault(&beside).message.contains("runs beside it"));
    let after =
        task(json!([{"id": "both", "parallel": [step("a", "x"), step("b", "y")]}, step("c", "${[steps.a, steps.b]}")]));
    accepted(&after);
    let group = task(json!([{"id": "both", "parallel": [step("a", "x")]}, step("c", "${steps.both}")]));
    assert!(fault(&group).message.contains("group"));
}

#[test]
fn item_and_index_exist_in_with_of_a_foreach_and_the_output_under_save_as() {
    let definition = task(json!([
        {"id": "orders", "uses": "http.get", "with": {"url": "https://a.example"}, "save_as": "list"},
        {"id": "each", "foreach": "${steps.list.body}", "max_parallel": 3, "uses": "inbox.post",
         "with": {"text": "${index}: ${item.name}"}},
        {"id": "few", "foreach": [1, "`"], "uses": "inbox.post", "with": {"text": "${item} of ${steps.orders.status}"}},
    ]));
    let spec = accepted(&definition).spec;
    let Element::Step(few) = &spec.pipeline[2] else { panic!("a step") };
    let items = ordinaut_schema::template::evaluate(few.foreach.as_deref().unwrap(), &Scope::default()).unwrap();
    assert_eq!(items, json!([1, "`"]));
    let outside = task(json!([{"foreach": "params.x", "if": "item > 3", "uses": "inbox.post", "with": {"text": "a"}}]));
    assert_eq!(faults(&outside).len(), 2);
}

#[test]
fn a_bad_expression_is_refused_with_its_position() {
    let definition = task(json!([{"uses": "inbox.post", "with": {"text": "a ${params..x}"}}]));
    let found = fault(&definition);
    assert_eq!((found.code, found.path.as_str()), (FaultCode::BadExpression, "$.pipeline[0].with.text"));
    assert!(found.message.contains("at character 8"), "{found}");
    let open = task(json!([{"uses": "inbox.post", "with": {"text": "a ${params"}}]));
    assert_eq!(fault(&open).code, FaultCode::BadTemplate);
}

#[test]
fn a_bad_schema_is_refused_and_nothing_is_fetched() {
    let expect =
        |schema: Value| task(json!([{"uses": "http.get", "with": {"url": "https://a.example"}, "expect": schema}]));
    for schema in [
        json!({"type": "strin"}),
        json!({"$ref": "https://a.example/schema.json"}),
        json!({"$ref": "#/$defs/none"}),
        json!(7),
        json!({"pattern": "("}),
    ] {
        let found = fault(&expect(schema));
        assert_eq!((found.code, found.path.as_str()), (FaultCode::BadSchema, "$.pipeline[0].expect"));
    }
    accepted(&expect(json!({"type": "object"})));
}

#[test]
fn an_output_is_judged_whole_by_expect() {
    let expect = json!({"type": "object", "required": ["body"], "properties": {"body": {"type": "string"}}});
    assert_eq!(judge_output(&expect, &json!({"body": "x", "status": 200})), Ok(()));
    let failure = judge_output(&expect, &json!({"body": 3})).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidOutput);
    assert!(failure.message.contains("/body"), "{failure}");
    assert!(
        judge_output(&json!({"$ref": "#"}), &json!({})).is_ok()
            || judge_output(&json!({"$ref": "#"}), &json!({})).is_err()
    );
}

#[test]
fn a_hostile_schema_is_refused_before_it_can_hang_or_overflow() {
    let chain: Map<String, Value> = (0..40)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/a{}", n + 1)});
            (format!("a{n}"), if n == 39 { json!({"type": "object"}) } else { json!({"allOf": [next, next]}) })
        })
        .collect();
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"not": {"$ref": "#"}}),
        json!({"properties": {"a": {"$ref": "#/properties/b"}, "b": {"items": {"$ref": "#/properties/a"}}}}),
        json!({"$ref": "#/$defs/a0", "$defs": chain}),
    ] {
        let definition = task(json!([{"uses": "http.get", "with": {"url": "https://a.example"}, "expect": schema}]));
        assert_eq!(fault(&definition).code, FaultCode::BadSchema);
        assert_eq!(judge_output(&schema, &json!({"a": 1})).unwrap_err().kind, ErrorKind::InvalidOutput);
    }
    let shared = json!({"$defs": {"name": {"type": "string"}},
                        "properties": {"a": {"$ref": "#/$defs/name"}, "b": {"$ref": "#/$defs/name"}}});
    assert_eq!(judge_output(&shared, &json!({"a": "x", "b": "y"})), Ok(()));
    assert!(judge_output(&shared, &json!({"a": "x", "b": 3})).is_err());
}

#[test]
fn the_faults_of_a_hostile_definition_are_bounded() {
    let steps = task(json!(vec![json!(0); 50_000]));
    let found = faults(&steps);
    assert!(found.len() <= Faults::MOST);
    assert!(found.iter().any(|it| it.message.contains("50000 steps")) || found.len() == Faults::MOST);
    let texts = task(json!([{"uses": "inbox.post", "with": {"text": "${x}".repeat(100_000)}}]));
    assert!(faults(&texts).len() <= Faults::MOST);
    let unknown: Map<String, Value> = (0..20_000).map(|n| (format!("field_{n}"), json!(1))).collect();
    assert!(faults(&with(Value::Object(unknown))).len() <= Faults::MOST);
    assert_eq!(fault(&with(json!({"timezone": "E".repeat(900_000)}))).code, FaultCode::UnknownTimezone);
}

#[test]
fn with_is_judged_against_the_actions_input_and_templates_are_not_typed() {
    let call = |uses: &str, with: Value| task(json!([{"uses": uses, "with": with}]));
    for (uses, with, path) in [
        ("http.get", json!({}), "$.pipeline[0].with.url"),
        ("http.get", json!({"url": 3}), "$.pipeline[0].with.url"),
        ("http.get", json!({"url": "ftp://a.example"}), "$.pipeline[0].with.url"),
        ("http.get", json!({"url": "https://u:p@a.example"}), "$.pipeline[0].with.url"),
        ("http.get", json!({"url": "https://a.example", "json": {}}), "$.pipeline[0].with.json"),
        ("http.get", json!({"url": "https://a.example", "timeout": 3}), "$.pipeline[0].with.timeout"),
        ("http.get", json!({"url": "${params}", "headers": {"X-A": {}}}), "$.pipeline[0].with.headers.X-A"),
        ("http.post", json!({"url": "https://a.example", "json": 1, "body": "x"}), "$.pipeline[0].with"),
        ("http.request", json!({"url": "https://a.example", "method": "FETCH"}), "$.pipeline[0].with.method"),
        ("http.get", json!({"url": "https://a.example", "expected_status": 99}), "$.pipeline[0].with.expected_status"),
        ("inbox.post", json!({"message": "x"}), "$.pipeline[0].with.message"),
        ("event.publish", json!({"topic": "a.*"}), "$.pipeline[0].with.topic"),
        ("github.create_issue", json!({"repo": "a/b", "count": "three"}), "$.pipeline[0].with.count"),
        ("github.create_issue", json!({"repo": "a/b", "titel": "x"}), "$.pipeline[0].with.titel"),
    ] {
        let found = faults(&call(uses, with.clone()));
        assert!(found.iter().any(|it| it.path == path), "{uses} {with}: {found:#?}");
    }
    accepted(&call("github.create_issue", json!({"repo": "${run.id}", "count": "${run.attempt}"})));
    accepted(&call(
        "http.get",
        json!({"url": "${run.id}", "expected_status": [200, "3xx"], "query": "${previous.run}"}),
    ));
}

#[test]
fn an_unknown_action_is_refused_with_what_is_near() {
    let uses = |uses: &str| fault(&task(json!([{"uses": uses}])));
    assert_eq!(uses("http.gett").suggestion.as_deref(), Some("http.get"));
    assert_eq!(uses("gihub.create_issue").suggestion.as_deref(), Some("github.create_issue"));
    assert!(uses("github.close").message.contains("there are github.create_issue"));
    assert_eq!(uses("shell.run").code, FaultCode::UnknownAction);
    assert_eq!(uses("fetch").code, FaultCode::UnknownAction);
}

#[test]
fn an_action_in_another_word_is_refused_with_the_one_that_does_it() {
    for (written, meant) in [
        ("email.send", "notify.send"),
        ("Slack.post_message", "notify.send"),
        ("send_mail", "notify.send"),
        ("fetch", "http.request"),
        ("openai.chat", "llm.generate"),
        ("sleep", "wait.for"),
    ] {
        assert_eq!(fault(&task(json!([{"uses": written}]))).suggestion.as_deref(), Some(meant), "{written}");
    }
    assert_eq!(fault(&task(json!([{"uses": "crm.close"}]))).suggestion, None);
}

#[test]
fn what_other_languages_write_is_refused_with_what_is_meant() {
    let first = json!({"id": "a", "uses": "http.get", "with": {"url": "https://a.example.com"}});
    let condition =
        |text: &str| task(json!([first, {"id": "b", "if": text, "uses": "inbox.post", "with": {"text": "x"}}]));
    let header = json!([{"id": "a", "uses": "http.get", "with":
        {"url": "https://a.example.com", "headers": {"X-Key": "${env.KEY}"}}}]);
    let rule = |rule: &str| with(json!({"schedule_kind": "rrule", "schedule_expr": rule}));
    for (definition, meant) in [
        (condition("len(steps.a.body) > 0"), "length"),
        (condition("steps.a.body is not None"), "!="),
        (condition("steps.a.body is null"), "=="),
        (task(header), "secrets.KEY"),
        (task(json!([first, first])), "a_2"),
        (rule("FREQ=BIWEEKLY;BYDAY=MO;BYHOUR=9;BYMINUTE=0"), "FREQ=WEEKLY;INTERVAL=2"),
        (rule("FREQ=QUARTERLY;BYHOUR=9;BYMINUTE=0"), "FREQ=MONTHLY;INTERVAL=3"),
    ] {
        assert_eq!(fault(&definition).suggestion.as_deref(), Some(meant), "{definition}");
    }
}

#[test]
fn what_an_action_lacks_is_named_with_an_example() {
    let lacking = faults(&task(json!([{"uses": "notify.send", "with": {}}])));
    let messages: Vec<_> = lacking.iter().map(|fault| fault.message.as_str()).collect();
    assert!(messages.contains(&"`notify.send` needs `channel`, such as \"me\""), "{messages:?}");
    // The words of a foreign tool are not repeated.
    let foreign = fault(&task(json!([{"uses": "github.create_issue", "with": {}}])));
    assert_eq!(foreign.message, "`github.create_issue` needs `repo`");
}

#[test]
fn grants_are_checked_and_an_unseen_server_is_a_warning() {
    let definition = task(json!([{"uses": "github.create_issue", "with": {"repo": "a/b"}}]));
    let stranger = Catalogue { grants: Grants::default(), ..catalogue() };
    let found: Vec<_> = judge_with(&definition, &stranger).map(drop).unwrap_err().into_iter().collect();
    assert_eq!((found[0].code, found[0].path.as_str()), (FaultCode::NotGranted, "$.pipeline[0].uses"));
    let granted = Grants { tools: vec!["github.create_issue".to_owned()], ..Grants::default() };
    judge_with(&definition, &Catalogue { grants: granted, ..catalogue() }).unwrap();
    let unseen = accepted(&task(json!([{"uses": "calendar.list", "with": {"anything": 1}}])));
    assert!(unseen.warnings[0].contains("calendar"), "{:?}", unseen.warnings);
}

#[test]
fn a_command_is_judged_by_its_id_its_grant_and_its_input() {
    let exec = |with: Value| task(json!([{"uses": "shell.exec", "with": with}]));
    let whole =
        json!({"command": "backup", "args": ["a", 1, true, "${run.id}"], "stdin": {"a": 1}, "exit_codes": [0, 3]});
    let Element::Step(step) = accepted(&exec(whole)).spec.pipeline.remove(0) else { panic!("a step") };
    assert_eq!(step.effect(&catalogue()), Effect::Once);

    let unknown = fault(&exec(json!({"command": "bakcup"})));
    assert_eq!((unknown.code, unknown.suggestion.as_deref()), (FaultCode::NotConfigured, Some("backup")));
    assert!(unknown.message.contains("backup, other") && unknown.message.contains("[shell.<id>]"), "{unknown}");
    let denied = fault(&exec(json!({"command": "other"})));
    assert_eq!((denied.code, denied.path.as_str()), (FaultCode::NotGranted, "$.pipeline[0].with.command"));
    assert!(denied.message.contains("`ordinaut agent grant phone --command other`"), "{denied}");
    for (with, path) in [
        (json!({"command": "backup", "args": "a b"}), "args"),
        (json!({"command": "backup", "args": [["a"]]}), "args[0]"),
        (json!({"command": "backup", "exit_codes": [256]}), "exit_codes[0]"),
        (json!({"command": "backup", "argv": ["a"]}), "argv"),
        (json!({}), "command"),
    ] {
        let at = format!("$.pipeline[0].with.{path}");
        assert!(faults(&exec(with.clone())).iter().any(|it| it.path == at), "{with} {at}");
    }
}

#[test]
fn a_definition_that_means_harm_is_refused_when_it_is_made() {
    let transform = |expr: String| task(json!([{"uses": "data.transform", "with": {"expr": expr}}]));
    let text = |text: String| task(json!([{"uses": "inbox.post", "with": {"text": text}}]));
    for (what, definition, path) in [
        ("parentheses", transform("(".repeat(5_000) + "a" + &")".repeat(5_000)), "$.pipeline[0].with.expr"),
        ("projections", transform(format!("a{}", "[]".repeat(1_900))), "$.pipeline[0].with.expr"),
        ("a deep template", text(format!("${{{}1}}", "!".repeat(1_900))), "$.pipeline[0].with.text"),
        ("braces", text("${".repeat(100_000)), "$.pipeline[0].with.text"),
        (
            "a deep condition",
            task(json!([{"uses": "inbox.post", "with": {"text": "x"}, "if": "(".repeat(50_000)}])),
            "$.pipeline[0].if",
        ),
        (
            "a schema of itself",
            task(json!([{"uses": "inbox.post", "with": {"text": "x"}, "expect": {"$ref": "#"}}])),
            "$.pipeline[0].expect",
        ),
        (
            "deep data",
            task(json!([{"uses": "inbox.post", "with": {"text": (0..90).fold(json!(1), |it, _| json!([it]))}}])),
            "$",
        ),
    ] {
        let found = faults(&definition);
        assert!(found.iter().any(|it| it.path.starts_with(path)), "{what}: {found:?}");
    }
    let deep = format!("{{title: t, schedule_kind: manual, params: {}", "{a: ".repeat(20_000));
    read(&deep, &Limits::DEFAULT).unwrap_err();
}

#[test]
fn a_tool_that_changed_is_refused_with_the_persons_command_and_its_input_judged_by_what_was_accepted() {
    let change = Change { description: true, input_schema: true, hints: false };
    let changed = Catalogue { changed: [("github.create_issue".to_owned(), change)].into(), ..catalogue() };
    let uses = |with: Value| task(json!([{"uses": "github.create_issue", "with": with}]));
    let found: Vec<_> = judge_with(&uses(json!({"reop": "a"})), &changed).map(drop).unwrap_err().into_iter().collect();
    assert_eq!((found[0].code, found[0].path.as_str()), (FaultCode::ToolChanged, "$.pipeline[0].uses"));
    for part in ["its description and its input schema", "`ordinaut server accept github create_issue`"] {
        assert!(found[0].message.contains(part), "{}", found[0]);
    }
    assert!(found[1..].iter().any(|fault| fault.code == FaultCode::BadInput), "{found:?}");
    let stranger = Catalogue { grants: Grants::default(), ..changed };
    let found = judge_with(&uses(json!({"repo": "a"})), &stranger).map(drop).unwrap_err();
    assert_eq!(found.as_slice()[0].code, FaultCode::NotGranted, "who may not use it learns nothing of it");
}

#[test]
fn limits_hold() {
    let post = json!({"uses": "inbox.post", "with": {"text": "a"}});
    let many = task(json!(vec![post.clone(); 101]));
    assert_eq!((fault(&many).code, fault(&many).path.as_str()), (FaultCode::Limit, "$.pipeline"));
    let deep = (0..80).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(fault(&with(json!({"params": {"deep": deep}}))).code, FaultCode::Limit);
    assert_eq!(fault(&with(json!({"description": "x".repeat(2_000_000)}))).code, FaultCode::Limit);
    assert_eq!(fault(&with(json!({"title": "x".repeat(201)}))).path, "$.title");
    assert_eq!(fault(&with(json!({"params": {"a": ["\u{0}"]}}))).path, "$.params.a[0]");
    let costly = json!({"title": "t", "schedule_kind": "interval", "schedule_expr": "5s",
                        "pipeline": [{"uses": "github.create_issue", "with": {"repo": "a/b"}}]});
    let found = fault(&costly);
    assert_eq!((found.code, found.path.as_str()), (FaultCode::Limit, "$.schedule_expr"));
    assert!(found.message.contains("every 5s"), "{found}");
    accepted(&with(json!({"schedule_kind": "interval", "schedule_expr": "5s"})));
}

#[test]
fn definitions_of_the_original_are_accepted() {
    let original = json!({
        "title": "Morning", "schedule_kind": "cron", "schedule_expr": "30 8 * * *", "timezone": "Europe/Chisinau",
        "created_by": {"agent": "x"}, "priority": 3, "dedupe_key": "m", "dedupe_window_seconds": 600,
        "max_retries": 3, "backoff_strategy": "exponential_jitter", "concurrency_key": "k",
        "payload": {"params": {"city": "x"}, "pipeline": [
            {"id": "get-weather", "uses": "http.get", "with": {"url": "https://a.example/${params.city}"},
             "save_as": "weather", "timeout_seconds": 20},
            {"id": "tell", "uses": "inbox.post", "with": {"text": "${steps.weather.body} ${steps.get-weather.status}"},
             "if": "length(steps.weather.body) > `0`"},
        ]},
    });
    let Accepted { spec, warnings, .. } = accepted(&original);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("created_by"));
    assert_eq!((spec.retry.max_attempts, spec.retry.backoff), (4, Backoff::ExponentialJitter));
    assert_eq!(spec.dedupe_window, Some(Duration::from_mins(10)));
    let Element::Step(weather) = &spec.pipeline[0] else { panic!("a step") };
    assert_eq!((weather.id.as_str(), weather.limit()), ("get-weather", Duration::from_secs(20)));
    assert_eq!(accepted(&spec.to_definition()).spec, spec);

    let event =
        with(json!({"schedule_kind": "condition", "schedule_expr": "a.b", "event_filter": "event.payload.x > 3"}));
    assert_eq!(accepted(&event).spec.schedule_kind, ScheduleKind::Event);
    let mut broken = original.clone();
    broken["payload"]["pipeline"][1]["with"]["text"] = json!("${steps.wether}");
    assert_eq!(fault(&broken).path, "$.payload.pipeline[1].with.text");
    let mut later = original.clone();
    later["payload"]["pipeline"][1] = json!({"uses": "shell.exec", "with": {"a": 1}});
    assert_eq!(faults(&later)[0].path, "$.payload.pipeline[1].with.a");
    later["payload"]["pipeline"][1] =
        json!({"uses": "orchestrator.request_approval", "with": {"message": "Send?", "data": "${steps.get-weather}"}});
    let Element::Step(asks) = &accepted(&later).spec.pipeline[1] else { panic!("a step") };
    assert_eq!(asks.uses, "approval.request");

    let mut asks = original.clone();
    asks["payload"]["pipeline"][1] = json!({"uses": "llm.write_summary", "with": {"weather": "${steps.weather}"}});
    let spec = accepted(&asks).spec;
    let Element::Step(summary) = &spec.pipeline[1] else { panic!("a step") };
    assert_eq!(summary.uses, "llm.generate");
    assert_eq!(summary.with, json!({"weather": "${steps.weather}", "instruction": "write summary"}));
}

#[test]
fn what_is_written_out_of_a_wait_or_an_approval_is_judged_at_creation() {
    for (uses, with, path, suggestion) in [
        ("wait.for", json!({"duration": "2 fortnights"}), "$.pipeline[0].with.duration", Some("2h")),
        ("wait.for", json!({"duration": "400d"}), "$.pipeline[0].with.duration", Some("2h")),
        ("wait.for", json!({"durations": "2h"}), "$.pipeline[0].with.duration", None),
        ("wait.until", json!({"until": "six o'clock"}), "$.pipeline[0].with.until", Some("2027-01-31T09:00")),
        ("approval.request", json!({"message": "x", "timeout": "0s"}), "$.pipeline[0].with.timeout", Some("24h")),
        ("approval.request", json!({"message": "x", "on_timeout": "shrug"}), "$.pipeline[0].with.on_timeout", None),
        ("approval.request", json!({"message": "x", "channel": "mee"}), "$.pipeline[0].with.channel", Some("me")),
        ("approval.request", json!({"message": "x", "channel": ""}), "$.pipeline[0].with.channel", None),
        ("task.run", json!({}), "$.pipeline[0].with.task", None),
    ] {
        let faults = judge(&task(json!([{"uses": uses, "with": with}]))).unwrap_err();
        let found = faults.as_slice().iter().find(|it| it.path == path);
        assert_eq!(found.map(|it| it.suggestion.as_deref()), Some(suggestion), "{uses} {with}: {faults}");
    }
    accepted(&task(json!([
        {"id": "pause", "uses": "wait.for", "with": {"duration": "${default(event.payload.pause, '1h')}"}},
        {"id": "six", "uses": "wait.until", "with": {"until": "${format_time(now, '%F')}T18:00"}},
        {"id": "ask", "uses": "approval.request", "with": {"message": "Go on?", "data": [1], "timeout": "2h"}},
        {"id": "other", "uses": "task.run", "with": {"task": "Other", "params": {"a": "${steps.ask.comment}"}}},
    ])));
}

#[test]
fn waits_and_approvals_stand_neither_in_foreach_nor_in_parallel_nor_in_on_failure() {
    let steps = [
        json!({"uses": "wait.for", "with": {"duration": "1m"}}),
        json!({"uses": "wait.until", "with": {"until": "2027-01-31T09:00"}}),
        json!({"uses": "approval.request", "with": {"message": "Go on?"}}),
    ];
    for step in steps {
        let mut each = step.clone();
        each["foreach"] = json!([1, 2]);
        let refused = fault(&task(json!([each])));
        assert_eq!(refused.path, "$.pipeline[0].uses");
        assert!(refused.message.contains("task.run"), "{refused}");
        let refused = fault(&task(json!([{"parallel": [step]}])));
        assert_eq!(refused.path, "$.pipeline[0].parallel[0].uses");
        let refused = fault(&with(json!({"on_failure": [step]})));
        assert_eq!(refused.path, "$.on_failure[0].uses");
    }
    let run = json!({"uses": "task.run", "with": {"task": "Other"}});
    assert_eq!(fault(&with(json!({"on_failure": [run]}))).path, "$.on_failure[0].uses");
    accepted(&task(json!([{"parallel": [run]}, {"uses": "task.run", "foreach": [1], "with": {"task": "${item}"}}])));
}

#[test]
fn what_the_operator_did_not_configure_is_refused_with_what_exists_and_the_command() {
    let channels = [("team".to_owned(), "slack".to_owned())].into();
    let some = Catalogue { offered: Offered { channels, ..Offered::default() }, ..catalogue() };
    let step = |uses: &str, with: Value| task(json!([{"uses": uses, "with": with}]));
    let refused = judge_with(&step("notify.send", json!({"channel": "taem", "text": "x"})), &some).unwrap_err();
    let fault = &refused.as_slice()[0];
    assert_eq!((fault.code, fault.path.as_str()), (FaultCode::NotConfigured, "$.pipeline[0].with.channel"));
    assert!(fault.message.contains("there is me, team") && fault.message.contains("ordinaut channel add"), "{fault}");
    assert_eq!(fault.suggestion.as_deref(), Some("team"));

    let refused = judge_with(&step("llm.generate", json!({"instruction": "x"})), &some).unwrap_err();
    assert!(refused.as_slice()[0].message.contains("ordinaut llm add"), "{refused}");

    let me = step("notify.send", json!({"channel": "me", "text": "x"}));
    judge_with(&me, &some).unwrap();
    let stranger = Catalogue { grants: Grants::default(), ..some };
    assert_eq!(judge_with(&me, &stranger).unwrap_err().as_slice()[0].code, FaultCode::NotGranted);
}

#[test]
fn where_unread_messages_go_is_judged_as_a_step_that_sends_there_is() {
    let channels = [("team".to_owned(), "slack".to_owned())].into();
    let some = Catalogue { offered: Offered { channels, ..Offered::default() }, ..catalogue() };
    let to = |channel: &str| with(json!({"escalate_after": "4h", "escalate_to": channel}));
    assert!(judge_with(&to("team"), &some).unwrap().warnings.is_empty());
    let refused = judge_with(&to("taem"), &some).unwrap_err();
    let fault = &refused.as_slice()[0];
    assert_eq!((fault.code, fault.path.as_str()), (FaultCode::NotConfigured, "$.escalate_to"));
    assert_eq!(fault.suggestion.as_deref(), Some("team"));

    let me = with(json!({"escalate_after": "4h"}));
    let warned = judge_with(&me, &some).unwrap().warnings;
    assert!(warned[0].contains("the inbox itself") && warned[0].contains("ordinaut channel add me"), "{warned:?}");
    let mut redirected = some.clone();
    redirected.offered.channels.insert("me".to_owned(), "ntfy".to_owned());
    assert!(judge_with(&me, &redirected).unwrap().warnings.is_empty());
    let lonely = judge_with(&with(json!({"escalate_to": "team"})), &some).unwrap().warnings;
    assert!(lonely[0].contains("without `escalate_after`"), "{lonely:?}");

    let stranger = Catalogue { grants: Grants::default(), ..redirected };
    for definition in [&me, &to("team")] {
        let refused = judge_with(definition, &stranger).unwrap_err();
        assert_eq!(
            (refused.as_slice()[0].code, refused.as_slice()[0].path.as_str()),
            (FaultCode::NotGranted, "$.escalate_to")
        );
    }
}

#[test]
fn the_schema_of_an_answer_is_judged_at_creation() {
    let with = json!({"instruction": "x", "schema": {"type": "objekt"}, "any": {"thing": 1}});
    let fault = fault(&task(json!([{"uses": "llm.generate", "with": with}])));
    assert_eq!((fault.code, fault.path.as_str()), (FaultCode::BadSchema, "$.pipeline[0].with.schema"));
}

#[test]
fn what_is_written_back_is_accepted_again_as_the_same_spec() {
    for definition in [
        briefing(),
        with(json!({"schedule_kind": "once", "schedule_expr": "+20m"})),
        with(json!({"schedule_kind": "interval", "schedule_expr": "15m", "starts_at": "2027-01-01", "jitter": 90})),
        with(json!({"schedule_kind": "cron", "schedule_expr": "@daily", "retry": {"max": "1m"}, "overlap": "queue"})),
        with(json!({"schedule_kind": "event", "schedule_expr": "a.*", "queue_limit": 5})),
        task(json!([{"id": "g", "parallel": [{"uses": "inbox.post", "with": {"text": "x"}, "on_error": "continue"}]},
                    {"uses": "inbox.post", "with": {"text": "$${x}"}, "foreach": [1, 2], "retry": {"max_attempts": 1}}])),
    ] {
        let spec = accepted(&definition).spec;
        let written = spec.to_definition();
        assert_eq!(accepted(&written).spec, spec, "{written:#}");
        assert_eq!(TaskSpec::from_stored(spec.to_stored()).unwrap(), spec);
        assert_eq!(spec.schedule(&Limits::DEFAULT).unwrap().normalised(), spec.schedule_expr);
    }
    let written = accepted(&with(json!({}))).spec.to_definition();
    let keys: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["title", "schedule_kind", "timezone", "anchored_at", "pipeline"]);
}

#[test]
fn the_same_definition_later_makes_the_same_task() {
    let catalogue = catalogue();
    let zone = Zone::find("Europe/Chisinau").unwrap();
    let later = Acceptance {
        now: "2026-12-24T00:00:00Z".parse().unwrap(),
        default_zone: Some((&zone, ZoneSource::Machine)),
        catalogue: &catalogue,
        limits: &Limits::DEFAULT,
    };
    for definition in [
        briefing(),
        with(json!({"schedule_kind": "once", "schedule_expr": "+20m"})),
        with(json!({"schedule_kind": "interval", "schedule_expr": "1h"})),
    ] {
        let spec = accepted(&definition).spec;
        assert!(spec.is_made_by(&definition, later));
        let mut other = definition.clone();
        other["priority"] = json!(1);
        assert!(!spec.is_made_by(&other, later));
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z${}.*\\[\\]'\"@ 0-9+-]{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["http.get", "cron", "*/5 * * * *", "+20m", "${steps.a.b}", "a"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(FIELDS.to_vec()), inner), 0..3)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

const FIELDS: [&str; 16] = [
    "id",
    "uses",
    "with",
    "if",
    "foreach",
    "parallel",
    "retry",
    "expect",
    "url",
    "text",
    "payload",
    "params",
    "pipeline",
    "schedule_expr",
    "timezone",
    "starts_at",
];

proptest! {
    /// Whatever stands in a field: faults or a spec, never a panic, and every fault has a path from the root.
    #[test]
    fn accepting_never_panics(field in prop::sample::select(FIELDS.to_vec()), value in values(), step in values()) {
        let mut definition = briefing();
        definition["pipeline"][0][field] = step;
        definition[field] = value;
        if let Err(faults) = judge(&definition) {
            prop_assert!(faults.into_iter().all(|fault| fault.path.starts_with('$') && !fault.message.is_empty()));
        }
    }

    #[test]
    fn reading_never_panics(text in "[a-z:&*@!\\-\\[\\]{}'\",#|>%\n ]{0,60}") {
        drop(read(&text, &Limits::DEFAULT));
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[test]
fn an_amendment_changes_clears_and_replaces_single_steps() {
    let spec = accepted(&briefing()).spec;
    let none = Map::new();
    let made = amend(
        &spec,
        &object(json!({"priority": 2, "max_retries": 1})),
        &["on_failure".to_owned()],
        &object(json!({"tell": {"uses": "inbox.post", "with": {"text": "new"}}})),
    )
    .unwrap();
    let amended = accepted(&made).spec;
    assert_eq!((amended.priority, amended.retry.max_attempts, amended.on_failure.len()), (2, 2, 0));
    let Element::Step(tell) = &amended.pipeline[1] else { panic!("a step") };
    assert_eq!((tell.id.as_str(), tell.with["text"].as_str(), tell.condition.as_deref()), ("tell", Some("new"), None));
    assert_eq!(amended.anchored_at, spec.anchored_at);

    let found =
        amend(&spec, &none, &["title".to_owned(), "priorty".to_owned()], &object(json!({"tel": {}}))).unwrap_err();
    let paths: Vec<_> = found.as_slice().iter().map(|it| (it.path.as_str(), it.suggestion.as_deref())).collect();
    assert_eq!(paths, [("$.clear[0]", None), ("$.clear[1]", Some("priority")), ("$.steps.tel", Some("tell"))]);
}

#[test]
fn an_amended_schedule_counts_anew_and_any_other_change_does_not() {
    let spec = accepted(&with(json!({"schedule_kind": "interval", "schedule_expr": "1h"}))).spec;
    let none = Map::new();
    let kept = amend(&spec, &object(json!({"title": "u"})), &[], &none).unwrap();
    assert_eq!(kept["anchored_at"], json!("2026-11-23T06:30:00Z"));
    let moved = amend(&spec, &object(json!({"schedule_expr": "2h"})), &[], &none).unwrap();
    assert_eq!(moved.get("anchored_at"), None);
    let manual = amend(&spec, &object(json!({"schedule_kind": "manual"})), &[], &none).unwrap();
    assert_eq!(accepted(&manual).spec.schedule_kind, ScheduleKind::Manual);
}

#[test]
fn json_and_yaml_are_read_and_several_definitions_at_once() {
    let limits = Limits::DEFAULT;
    assert_eq!(read(r#"{"a": 1}"#, &limits).unwrap(), [json!({"a": 1})]);
    assert_eq!(read("a: 1\n---\na: 2\n", &limits).unwrap(), [json!({"a": 1}), json!({"a": 2})]);
    assert_eq!(read("- a: 1\n- a: 2\n", &limits).unwrap(), [json!({"a": 1}), json!({"a": 2})]);
    assert_eq!(read("[{a: yes, b: 012, c: 1_000, d: ~}]", &limits).unwrap()[0]["a"], json!("yes"));
    assert_eq!(read("on: off\nx: true", &limits).unwrap(), [json!({"on": "off", "x": true})]);
    assert!(read("", &limits).is_err());
    assert!(read("# nothing\n", &limits).is_err());
}

#[test]
fn yaml_is_read_by_the_core_schema_of_1_2() {
    let text = "yes: no\non: Off\ny: n\noctal: 012\nmarked: 0o14\nhex: 0x1F\nthousands: 1_000\nnone: [~, null, ]\n\
                true: True\nday: 2026-11-23\ntime: 8:30\nfloat: 1e3\nquoted: \"1\"\nblock: |\n  a\n  b\nfolded: >-\n  a\n  b\n";
    let expected = json!({
        "yes": "no", "on": "Off", "y": "n", "octal": 12.0, "marked": 12, "hex": 31, "thousands": "1_000",
        "none": [null, null], "true": true, "day": "2026-11-23", "time": "8:30", "float": 1000.0, "quoted": "1",
        "block": "a\nb\n", "folded": "a b",
    });
    assert_eq!(read(text, &Limits::DEFAULT).unwrap(), [expected]);
}

#[test]
fn a_definition_is_the_same_in_json_and_in_yaml() {
    let yaml = briefing();
    assert_eq!(read(&yaml.to_string(), &Limits::DEFAULT).unwrap(), [yaml]);
}

#[test]
fn what_yaml_may_not_have_is_refused_with_line_and_column() {
    let refused = |text: &str| {
        let found = read(text, &Limits::DEFAULT).unwrap_err();
        assert_eq!(found.as_slice()[0].code, FaultCode::Syntax);
        found.as_slice()[0].clone()
    };
    for (text, says) in [
        ("a: 1\na: 2\n", "`a` stands twice (line 2, column 1)"),
        ("a: &x 1\nb: *x\n", "line"),
        ("base: {a: 1}\nb:\n  <<: {c: 2}\n", "merge keys"),
        ("schedule_kind: cron\nschedule_expr: */5 * * * *\n", "must be quoted"),
        ("schedule_kind: cron\nschedule_expr: * * * * *\n", "must be quoted"),
        ("schedule_kind: cron\nschedule_expr: @daily\n", "must be quoted"),
        ("a: [1,\n", "line"),
        ("{\"a\": 1 \"b\": 2}", "line 1 column 9"),
        ("{\"a\": 1, \"a\": 2}", "stands twice"),
        ("a: !!python/object x\n", "line"),
    ] {
        let found = refused(text);
        assert!(found.message.contains(says), "{text}: {found}");
    }
    assert_eq!(refused("schedule_expr: @daily\n").suggestion.as_deref(), Some("\"@daily\""));
    let bomb = format!("a: {}", "[".repeat(10_000));
    read(&bomb, &Limits::DEFAULT).unwrap_err();
}

#[test]
fn every_built_in_action_has_an_example_that_validates() {
    let names: Vec<_> = built_in().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "http.request",
            "http.get",
            "http.post",
            "http.put",
            "http.patch",
            "http.delete",
            "http.head",
            "llm.generate",
            "notify.send",
            "inbox.post",
            "event.publish",
            "wait.for",
            "wait.until",
            "approval.request",
            "task.run",
            "data.transform",
            "data.assert",
            "shell.exec"
        ]
    );
    for descriptor in built_in() {
        let mut definition = task(json!([
            {"id": "weather", "uses": "http.get", "with": {"url": "https://a.example"}},
            {"id": "orders", "uses": "http.get", "with": {"url": "https://a.example"}},
            {"id": "report", "uses": "http.get", "with": {"url": "https://a.example"}},
            {"uses": descriptor.name, "with": descriptor.example},
        ]));
        definition["params"] = json!({"city": "x", "name": "x", "id": 1});
        accepted(&definition);
        // Whatever else stands in `with` of `llm.generate` is its context.
        let is_open = descriptor.input_schema["additionalProperties"] != json!(false);
        assert!(descriptor.sentence.ends_with('.') && is_open == (descriptor.name == "llm.generate"));
    }
}

#[test]
fn the_effect_of_a_step_is_its_actions_unless_it_says_otherwise() {
    let catalogue = catalogue();
    let effect = |step: Value| {
        let Element::Step(step) = accepted(&task(json!([step]))).spec.pipeline.remove(0) else { panic!("a step") };
        step.effect(&catalogue)
    };
    let url = json!({"url": "https://a.example"});
    assert_eq!(effect(json!({"uses": "http.get", "with": url})), Effect::Idempotent);
    assert_eq!(effect(json!({"uses": "http.post", "with": url})), Effect::Once);
    assert_eq!(effect(json!({"uses": "http.post", "with": url, "idempotent": true})), Effect::Idempotent);
    assert_eq!(effect(json!({"uses": "http.get", "with": url, "idempotent": false})), Effect::Once);
    let request =
        |method: &str| json!({"uses": "http.request", "with": {"url": "https://a.example", "method": method}});
    assert_eq!(effect(request("PUT")), Effect::Idempotent);
    assert_eq!(effect(request("POST")), Effect::Once);
    assert_eq!(effect(request("${run.id}")), Effect::Once);
    assert_eq!(effect(json!({"uses": "data.assert", "with": {"that": true, "message": "m"}})), Effect::Pure);
    assert_eq!(effect(json!({"uses": "github.create_issue", "with": {"repo": "a"}})), Effect::Once);
}

#[test]
fn expressions_of_data_steps_are_judged_as_expressions() {
    let path = |uses: &str, with: Value| fault(&task(json!([{"uses": uses, "with": with}]))).path;
    assert_eq!(path("data.transform", json!({"expr": "steps.x"})), "$.pipeline[0].with.expr");
    assert_eq!(path("data.transform", json!({"expr": "a ==", "input": [1]})), "$.pipeline[0].with.expr");
    assert_eq!(path("data.transform", json!({"expr": "a", "input": "${steps.x}"})), "$.pipeline[0].with.input");
    assert_eq!(path("data.assert", json!({"that": "${run.id} == 'x'", "message": "m"})), "$.pipeline[0].with.that");
    accepted(&task(json!([{"uses": "data.transform", "with": {"expr": "anything.in.it", "input": {}}}])));
    accepted(&task(json!([{"uses": "data.assert", "with": {"that": "${run.id == 'x'}", "message": "m ${run.id}"}}])));
}
