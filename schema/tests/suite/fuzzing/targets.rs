//! What every text is asked, whoever offers it: `cargo fuzz`, or the replay in `tests/fuzzing.rs`.
//!
//! An input is a zone (one byte), an instant (five bytes: seconds from the beginning of year 1) and the text. What
//! is refused must have faults that say something; what is accepted must keep the promises of `schema::schedule`.
//! Each call goes through [`super::measured`], so that whoever includes this decides what a call may cost.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::{
    fault::Fault,
    limits::Limits,
    schedule::{GaveUp, Schedule, ScheduleKind, ScheduleSource, find_zone, newer_zone_name},
    template::{self, Expression, Scope},
    time::{Zone, parse_duration},
};
use serde_json::{Value, json};

use super::measured;

pub(crate) type Target = fn(&[u8]);

/// Every target by its name.
pub(crate) const TARGETS: [(&str, Target); 4] =
    [("cron", cron), ("rrule", rrule), ("instants", instants), ("templates", templates)];

/// A byte of the input names one, so the order stays and new ones go to the end.
pub(crate) const ZONES: [&str; 32] = [
    "UTC",
    "Europe/Chisinau",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Caracas",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Africa/Monrovia",
    "Africa/El_Aaiun",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Gaza",
    "Asia/Tehran",
    "Asia/Pyongyang",
    "Asia/Manila",
    "America/Juneau",
    "America/Nuuk",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Europe/Amsterdam",
    "Asia/Riyadh",
    "Etc/GMT+12",
];

static KNOWN: LazyLock<Vec<Zone>> =
    LazyLock::new(|| ZONES.iter().map(|name| Zone::find(name).expect("the database has it")).collect());

/// 0001-01-01.
pub(crate) const ORIGIN: i64 = -62_135_596_800;
/// The seconds from there to the end of year 9999.
pub(crate) const SPAN: i64 = 315_537_897_600;

struct Input<'a> {
    zone: Option<&'static Zone>,
    at: Timestamp,
    text: &'a str,
}

impl<'a> Input<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&zone, rest) = bytes.split_first()?;
        let (second, text) = rest.split_first_chunk::<5>()?;
        let second = second.iter().fold(0, |number, byte| number * 256 + i64::from(*byte)) % SPAN + ORIGIN;
        Some(Self {
            // From 128 on: nobody named a zone.
            zone: (zone < 128).then(|| &KNOWN[usize::from(zone) % ZONES.len()]),
            at: Timestamp::from_second(second).ok()?,
            text: std::str::from_utf8(text).ok()?,
        })
    }
}

fn cron(bytes: &[u8]) {
    if let Some(input) = Input::read(bytes) {
        schedule(ScheduleKind::Cron, &input, input.text);
    }
}

fn rrule(bytes: &[u8]) {
    if let Some(input) = Input::read(bytes) {
        schedule(ScheduleKind::Rrule, &input, input.text);
    }
}

/// The first letter of the text says what the rest is read as.
fn instants(bytes: &[u8]) {
    let Some(input) = Input::read(bytes) else { return };
    let Some((kind, text)) = input.text.split_at_checked(1) else { return };
    match kind.as_bytes()[0] % 4 {
        0 => schedule(ScheduleKind::Once, &input, text),
        1 => schedule(ScheduleKind::Interval, &input, text),
        2 => schedule(ScheduleKind::Event, &input, text),
        _ => zone(text),
    }
}

fn zone(text: &str) {
    match measured("find a zone", || find_zone(text)) {
        Ok(zone) => {
            assert_eq!(find_zone(zone.name()).as_ref(), Ok(&zone), "{text:?}");
            assert!(newer_zone_name(&zone).is_none_or(|newer| find_zone(newer).is_ok()), "{text:?}");
        }
        Err(fault) => {
            judge(text, std::slice::from_ref(&fault));
            assert!(fault.suggestion.is_none_or(|near| find_zone(&near).is_ok()), "{text:?}");
        }
    }
    drop(measured("read a duration", || parse_duration(text)));
}

/// Faults must be of use: few enough to read, each saying something, none of it of unbounded length.
fn judge(text: &str, faults: &[Fault]) {
    assert!(!faults.is_empty(), "{text:?} is refused without a reason");
    for fault in faults {
        assert!(fault.message.len() > 20, "{text:?}: {fault:?}");
        assert!(fault.message.len() < 1000 + 12 * text.len(), "{text:?}: {fault:?}");
    }
}

fn parse(source: ScheduleSource<'_>) -> Result<Schedule, Vec<Fault>> {
    Schedule::parse(source, &Limits::DEFAULT)
}

fn schedule(kind: ScheduleKind, input: &Input<'_>, text: &str) {
    let source = ScheduleSource { kind, expr: text, zone: input.zone, anchor: input.at };
    match measured("parse", || parse(source)) {
        Err(faults) => judge(text, &faults),
        Ok(schedule) => {
            assert_eq!(schedule.kind(), kind);
            reads_back(&schedule, input);
        }
    }
}

/// What is made to be slow: the least that has to be asked of it. The fuzzer asks the rest, in an optimised build.
pub(crate) fn hostile(bytes: &[u8]) {
    let input = Input::read(bytes).expect("an input");
    let source = ScheduleSource { kind: ScheduleKind::Rrule, expr: input.text, zone: input.zone, anchor: input.at };
    match parse(source) {
        Err(faults) => judge(input.text, &faults),
        Ok(schedule) => {
            if let Ok(Some(next)) = schedule.next_after(input.at) {
                assert!(next > input.at, "{}", schedule.describe());
            }
        }
    }
}

/// Stored and read again it is the same schedule, which answers the same everywhere.
fn reads_back(schedule: &Schedule, input: &Input<'_>) {
    let sentence = measured("describe", || schedule.describe());
    assert!(sentence.starts_with(char::is_uppercase) && sentence.trim() == sentence, "{sentence:?}");
    assert!(!sentence.contains("  ") && !sentence.contains(" ,") && !sentence.contains(",,"), "{sentence:?}");

    let stored = schedule.normalised();
    let source = ScheduleSource { kind: schedule.kind(), expr: stored, zone: Some(schedule.zone()), anchor: input.at };
    let again = measured("parse what was stored", || parse(source))
        .unwrap_or_else(|faults| panic!("{stored:?} is stored and refused: {faults:?}"));
    assert_eq!(again.normalised(), stored);
    assert_eq!(again.zone(), schedule.zone());
    assert_eq!(again.describe(), sentence, "{stored:?}");

    let mut first = None;
    for at in probes(schedule.zone(), input.at) {
        let next = searched(schedule, &again, at);
        // Ascending in what is asked: later, and never an earlier answer.
        if let (Ok(Some(next)), Some((asked, before))) = (next, first)
            && asked <= at
        {
            assert!(before <= next, "{stored:?} answers {next} after {at} and {before} after {asked}");
        }
        if let Ok(Some(next)) = next {
            first = Some((at, next));
        }
    }
}

/// Instants to ask about, ascending: far ones, the input's, and those around the next change of the zone's offset.
fn probes(zone: &Zone, at: Timestamp) -> Vec<Timestamp> {
    let mut probes = vec![Timestamp::MIN, Timestamp::UNIX_EPOCH, "2026-11-23T11:00:00Z".parse().expect("an instant")];
    probes.extend([at, Timestamp::MAX]);
    for change in zone.rules().following(at).take(2) {
        let shifts = [-86_400, -7_200, -1_800, -1, 0, 1_799, 7_200];
        probes
            .extend(shifts.iter().filter_map(|by| change.timestamp().checked_add(SignedDuration::from_secs(*by)).ok()));
    }
    probes.sort_unstable();
    probes
}

/// The next occurrence after `at`, looked at from every side.
fn searched(schedule: &Schedule, again: &Schedule, at: Timestamp) -> Result<Option<Timestamp>, GaveUp> {
    let text = schedule.normalised();
    let next = measured("next_after", || schedule.next_after(at));
    assert_eq!(next, measured("next_after, stored", || again.next_after(at)), "{text:?} after {at}");
    let Ok(Some(found)) = next else { return next };
    assert!(found > at, "{text:?} answers {found} after {at}");

    // Between what was asked and what was found there is nothing else.
    let nanosecond = SignedDuration::from_nanos(1);
    let middle = at.checked_add(found.duration_since(at) / 2).expect("between two instants");
    for nearer in [middle, found.checked_sub(nanosecond).expect("after the first instant")] {
        if nearer < found
            && let Ok(same) = measured("next_after, nearer", || schedule.next_after(nearer))
        {
            assert_eq!(same, Some(found), "{text:?} after {nearer}, and {found} after {at}");
        }
    }
    if measured("shift_at", || schedule.shift_at(found)).is_some() {
        let offset = |days: i64| schedule.zone().rules().to_offset(found + SignedDuration::from_hours(24 * days));
        assert!(offset(-2) != offset(2) || offset(0) != offset(2), "{text:?}: nothing changes near {found}");
    }
    if let Ok(Some(second)) = measured("next_after, second", || schedule.next_after(found)) {
        assert!(second > found, "{text:?} answers {second} after {found}");
    }
    next
}

static SCOPE: LazyLock<Scope> = LazyLock::new(|| Scope {
    params: json!({ "city": "Chișinău", "n": 3, "list": [1, 2, 3], "deep": { "a": [{ "b": 1 }, { "b": "x" }] } }),
    steps: json!({ "weather": { "body": { "temperature": 26.5, "days": [{ "t": 1 }, { "t": null }] } } })
        .as_object()
        .expect("an object")
        .clone(),
    now: "2026-11-23T08:30:00+02:00".to_owned(),
    run: json!({ "id": "r", "attempt": 1 }),
    item: json!("x"),
    index: json!(0),
    ..Scope::default()
});

/// A template, an expression and a condition, parsed and evaluated over a fixed scope.
fn templates(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(expression) = measured("parse", || Expression::bare(text)) {
        measured("references", || expression.references());
        let value = measured("evaluate", || expression.evaluate(&SCOPE));
        assert_eq!(value, expression.evaluate(&SCOPE), "{text:?}");
    }
    drop(measured("split", || template::split(text)));
    let input = Value::String(text.to_owned());
    if let Ok(rendered) = measured("render", || template::render(&input, &SCOPE)) {
        assert!(template::has_template(text) || rendered == input, "{text:?}");
    }
}
