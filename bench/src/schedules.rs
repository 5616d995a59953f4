//! What the next occurrence costs: common, sparse and old rules, beside `croner` and the crate `rrule` as it is.
//!
//! A call is asked about one of 4,096 instants spread over three years, zone changes included, so that nothing is
//! asked twice in a row. The peers get their own kind of instant, made beforehand. `rrule` walks from DTSTART at
//! every call; where that takes too long to be repeated, a round is one call.

use std::{hint::black_box, time::Duration};

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use jiff::{Timestamp, Zoned};
use ordinaut_schema::{
    limits::Limits,
    schedule::{Schedule, ScheduleKind, ScheduleSource},
    time::Zone,
};

use crate::measure::{Began, Figure, Subject, interleaved};

const ROUNDS: usize = 31;
/// Of rules whose raw call takes up to a second.
const SLOW_ROUNDS: usize = 5;
/// How long a subject's round takes, where one call is shorter.
const FILL: Duration = Duration::from_millis(4);
const CRON_GOAL: f64 = 1_000.0;
const RRULE_GOAL: f64 = 10_000.0;
/// No rule takes longer, whatever is asked of it.
const HOSTILE_GOAL: f64 = 50e6;

/// Name, expression, zone.
const CRONS: [[&str; 3]; 9] = [
    ["cron, weekdays at 8:30", "30 8 * * MON-FRI", "UTC"],
    ["cron, weekdays at 8:30, DST zone", "30 8 * * MON-FRI", "Europe/Chisinau"],
    ["cron, every 5 minutes, DST zone", "*/5 * * * *", "Europe/Chisinau"],
    ["cron, every hour, DST zone", "0 * * * *", "America/New_York"],
    ["cron, four times a day, DST zone", "15 0,6,12,18 * * *", "Australia/Lord_Howe"],
    ["cron, last weekday of the month, DST zone", "0 17 LW * *", "Europe/Chisinau"],
    ["cron, Friday the 13th or 1st, DST zone", "0 9 1,13 * FRI", "Europe/Chisinau"],
    ["cron, 29 February, DST zone", "0 0 29 2 *", "Europe/Chisinau"],
    ["cron, Mondays on odd days, DST zone", "0 12 */2 * MON", "Europe/Chisinau"],
];

/// Name, rule, and whether the crate `rrule` answers it soon enough to be asked many times.
const RULES: [(&str, &str, bool); 9] = [
    (
        "rrule, weekdays at 8:30, young",
        "DTSTART;TZID=Europe/Chisinau:20260105T083000\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
        true,
    ),
    ("rrule, daily, young", "DTSTART;TZID=Europe/Chisinau:20260105T083000\nRRULE:FREQ=DAILY", true),
    ("rrule, last Friday, young", "DTSTART;TZID=America/New_York:20260130T170000\nRRULE:FREQ=MONTHLY;BYDAY=-1FR", true),
    (
        "rrule, second last workday, young",
        "DTSTART;TZID=Europe/Chisinau:20260101T090000\nRRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        true,
    ),
    (
        "rrule, 29 February on a Monday",
        "DTSTART;TZID=Europe/Chisinau:20160229T090000\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
        true,
    ),
    ("rrule, daily, 30 years old", "DTSTART;TZID=Europe/Chisinau:19960101T083000\nRRULE:FREQ=DAILY", true),
    (
        "rrule, weekdays, 30 years old",
        "DTSTART;TZID=Europe/Chisinau:19960101T083000\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
        true,
    ),
    ("rrule, hourly, 5 years old", "DTSTART;TZID=Europe/Chisinau:20210101T000000\nRRULE:FREQ=HOURLY", false),
    ("rrule, every minute, 5 years old", "DTSTART;TZID=Europe/Chisinau:20210101T000000\nRRULE:FREQ=MINUTELY", false),
];

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let asked = instants();
    let mut quick = Vec::new();
    let mut slow = Vec::new();
    for [name, expr, zone] in CRONS {
        quick.push(ours(name, ScheduleKind::Cron, expr, Some(zone), &asked)?.goal(CRON_GOAL));
        quick.extend(croner(name, expr, zone, &asked)?);
    }
    for (name, rule, soon) in RULES {
        let subjects =
            [ours(name, ScheduleKind::Rrule, rule, None, &asked)?.goal(RRULE_GOAL), raw_rrule(name, rule, &asked)?];
        if soon { &mut quick } else { &mut slow }.extend(subjects);
    }
    let mut figures = interleaved(ROUNDS, quick)?;
    figures.extend(interleaved(SLOW_ROUNDS, slow)?);
    figures.extend(interleaved(SLOW_ROUNDS, hostile())?);
    Ok(figures)
}

/// 4,096 instants of 2026 to 2028 in no order.
fn instants() -> Vec<Timestamp> {
    const START: i64 = 1_767_225_600;
    const SPAN: i64 = 3 * 365 * 86_400;
    // The step is prime to the span, so no instant comes twice.
    (0..4096).filter_map(|n: i64| Timestamp::from_second(START + n * 38_654_707 % SPAN).ok()).collect()
}

fn parse(kind: ScheduleKind, expr: &str, zone: Option<&Zone>) -> anyhow::Result<Schedule> {
    let source = ScheduleSource { kind, expr, zone, anchor: Timestamp::UNIX_EPOCH };
    Schedule::parse(source, &Limits::DEFAULT).map_err(|faults| anyhow!("{expr}: {faults:?}"))
}

fn ours<'a>(
    case: &'static str,
    kind: ScheduleKind,
    expr: &str,
    zone: Option<&str>,
    asked: &'a [Timestamp],
) -> anyhow::Result<Subject<'a>> {
    let zone = zone.map(|name| Zone::find(name).context("a zone of the database")).transpose()?;
    let schedule = parse(kind, expr, zone.as_ref())?;
    Ok(Subject::per_call(case, "ordinaut", FILL, move |n| schedule.next_after(asked[n % asked.len()])))
}

fn to_chrono(at: Timestamp) -> anyhow::Result<DateTime<Utc>> {
    DateTime::from_timestamp(at.as_second(), 0).context("chrono has the instant")
}

fn croner<'a>(case: &'static str, expr: &str, zone: &str, asked: &[Timestamp]) -> anyhow::Result<[Subject<'a>; 2]> {
    let pattern: croner::Cron = expr.parse().map_err(|error| anyhow!("croner, {expr}: {error}"))?;
    let named: Tz = zone.parse().map_err(|error| anyhow!("chrono-tz, {zone}: {error}"))?;
    let of_chrono =
        asked.iter().map(|at| Ok(to_chrono(*at)?.with_timezone(&named))).collect::<anyhow::Result<Vec<_>>>()?;
    let rules = Zone::find(zone).context("a zone of the database")?;
    let of_jiff: Vec<Zoned> = asked.iter().map(|at| at.to_zoned(rules.rules().clone())).collect();
    let same = pattern.clone();
    Ok([
        Subject::per_call(case, "croner (chrono-tz)", FILL, move |n| {
            pattern.find_next_occurrence(&of_chrono[n % of_chrono.len()], false)
        }),
        Subject::per_call(case, "croner (jiff)", FILL, move |n| {
            same.find_next_occurrence(&of_jiff[n % of_jiff.len()], false)
        }),
    ])
}

fn raw_rrule<'a>(case: &'static str, rule: &str, asked: &[Timestamp]) -> anyhow::Result<Subject<'a>> {
    let set: rrule::RRuleSet = rule.parse().map_err(|error| anyhow!("rrule, {rule}: {error}"))?;
    let asked: Vec<_> = asked.iter().map(|at| rrule::Tz::UTC.timestamp_opt(at.as_second(), 0).unwrap()).collect();
    // Its set is used up by the question.
    Ok(Subject::per_call(case, "rrule, raw", FILL, move |n| set.clone().after(asked[n % asked.len()]).all(1)))
}

/// The longest single call, parsing included, for rules that are made to be slow.
fn hostile<'a>() -> Vec<Subject<'a>> {
    let every = |most: u8| (0..=most).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let full = format!("BYHOUR={};BYMINUTE={};BYSECOND={}", every(23), every(59), every(59));
    let dates: Vec<String> = (0..120).map(|n| format!("{}0229T000000Z", 2028 + 4 * n)).collect();
    let start = "DTSTART;TZID=Australia/Lord_Howe:20260101T000000\nRRULE:";
    let rules = [
        ("hostile: every second written out", format!("{start}FREQ=YEARLY;{full}")),
        (
            "hostile: the last of every second of a year",
            format!("{start}FREQ=YEARLY;BYYEARDAY=1,-1;{full};BYSETPOS=-1"),
        ),
        ("hostile: COUNT on a full product", format!("{start}FREQ=DAILY;{full};COUNT=100000")),
        ("hostile: COUNT on a sparse rule", format!("{start}FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;COUNT=100000")),
        ("hostile: COUNT on picked days", format!("{start}FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=100000")),
        (
            "hostile: COUNT on sparse minutes",
            format!("{start}FREQ=MINUTELY;INTERVAL=7;BYHOUR=3;BYDAY=MO;BYMONTH=2;COUNT=100000"),
        ),
        (
            "hostile: four COUNTs of weeks",
            format!(
                "{start}{}",
                [2, 3, 4, 5].map(|n| format!("FREQ=WEEKLY;INTERVAL={n};BYDAY=TU;COUNT=100000")).join("\nRRULE:")
            ),
        ),
        (
            "hostile: sparse seconds",
            format!("{start}FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;BYHOUR=3;BYMINUTE=7;BYSECOND=11"),
        ),
        ("hostile: never in phase", format!("{start}FREQ=SECONDLY;INTERVAL=86400;BYHOUR=3;BYMINUTE=7;BYSECOND=11")),
        (
            "hostile: a prime interval",
            format!("{start}FREQ=SECONDLY;INTERVAL=4294967291;BYHOUR=3;BYMINUTE=7;BYSECOND=11"),
        ),
        ("hostile: picks beyond the week", format!("{start}FREQ=WEEKLY;BYDAY=MO;BYHOUR=1;BYSETPOS=366")),
        (
            "hostile: every date excepted",
            format!("DTSTART:20280229T000000Z\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29\nEXDATE:{}", dates.join(",")),
        ),
    ];
    let ask = |rule: &str| {
        let began = Began::now();
        let schedule = parse(ScheduleKind::Rrule, rule, None);
        let mut longest = began.elapsed();
        for second in [0, 1_795_431_600, 4_102_444_800, 32_503_680_000] {
            let at = Timestamp::from_second(second).unwrap_or_default();
            let began = Began::now();
            black_box(schedule.as_ref().map(|schedule| schedule.next_after(at)).ok());
            longest = longest.max(began.elapsed());
        }
        longest.as_secs_f64() * 1e9
    };
    let subject = |(case, rule): (&'static str, String)| {
        Subject::new(case, "ordinaut, longest call", "ns", move || Ok(ask(&rule))).goal(HOSTILE_GOAL)
    };
    rules.into_iter().map(subject).collect()
}
