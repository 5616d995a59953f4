//! Cron and rules in zones whose clocks do odd things, against a walk second by second around the change.

use std::{collections::BTreeSet, ops::Range};

use jiff::{
    Timestamp, ToSpan,
    civil::{DateTime, date},
    tz::TimeZone,
};
use ordinaut_schema::{
    fault::Fault,
    limits::Limits,
    schedule::{Schedule, ScheduleKind, ScheduleSource},
    time::Zone,
};
use proptest::{collection::btree_set, prelude::*, sample::select};

/// A zone, and a year in which its clock did what is said.
const ODD: [(&str, i16); 16] = [
    ("Australia/Lord_Howe", 2026), // half an hour of daylight saving
    ("Australia/Lord_Howe", 1981), // half an hour, for good
    ("Antarctica/Troll", 2026),    // two hours of it
    ("Antarctica/Casey", 2020),    // three hours, a minute after midnight
    ("Pacific/Chatham", 2026),     // +12:45, changing at 2:45
    ("Pacific/Apia", 2011),        // a day left out
    ("Pacific/Kwajalein", 1993),   // another
    ("Asia/Kathmandu", 1985),      // a quarter of an hour
    ("Asia/Pyongyang", 2015),      // back by half an hour
    ("America/Caracas", 2007),     // the same
    ("America/St_Johns", 1988),    // double summer time, a minute after midnight
    ("America/Havana", 2026),      // a midnight left out
    ("Africa/Casablanca", 2026),   // around Ramadan
    ("Africa/Monrovia", 1972),     // an offset with seconds
    ("Europe/Amsterdam", 1937),    // another, by 28 seconds
    ("Europe/Dublin", 1916),       // another, by 25 minutes and 21 seconds
];

fn parse(kind: ScheduleKind, expr: &str, zone: &Zone) -> Result<Schedule, Vec<Fault>> {
    let source = ScheduleSource { kind, expr, zone: Some(zone), anchor: Timestamp::UNIX_EPOCH };
    Schedule::parse(source, &Limits::DEFAULT)
}

/// A zone and an instant at which its offset changed.
fn changes() -> impl Strategy<Value = (Zone, Timestamp)> {
    let changes_of = |(name, year): (&str, i16)| {
        let zone = Zone::find(name).unwrap();
        let start = date(year, 1, 1).to_zoned(zone.rules().clone()).unwrap().timestamp();
        let offset = |at: Timestamp| zone.rules().to_offset(at);
        let changes = zone.rules().following(start).map(|it| it.timestamp());
        let changes = changes.take_while(|at| *at < start + (366 * 24).hours());
        let changes: Vec<_> = changes.filter(|at| offset(*at) != offset(*at - 1.second())).collect();
        assert!(!changes.is_empty(), "{name} did nothing in {year}");
        changes.into_iter().map(move |at| (zone.clone(), at)).collect::<Vec<_>>()
    };
    select(ODD.into_iter().flat_map(changes_of).collect::<Vec<_>>())
}

/// Values of a part, more often those around which clocks change.
fn values(least: i8, most: i8) -> impl Strategy<Value = BTreeSet<i8>> {
    btree_set(prop_oneof![2 => least..=most, 1 => Just(0), 1 => Just(30.min(most)), 1 => 0_i8..4], 1..4)
}

fn list(name: &str, values: &BTreeSet<i8>) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    if values.is_empty() { String::new() } else { format!("{name}{}", values.join(",")) }
}

/// Every instant in the stretch at which the clock on the wall shows a time that `is_due`.
fn shown(zone: &TimeZone, stretch: &Range<Timestamp>, is_due: impl Fn(DateTime) -> bool) -> BTreeSet<Timestamp> {
    let length = stretch.end.as_second() - stretch.start.as_second();
    (0..length).map(|n| stretch.start + n.seconds()).filter(|at| is_due(zone.to_datetime(*at))).collect()
}

/// The instants in the stretch of every minute that `is_due`, shown by the clock or not.
fn named(zone: &TimeZone, stretch: &Range<Timestamp>, is_due: impl Fn(DateTime) -> bool) -> BTreeSet<Timestamp> {
    // No clock was ever moved by more than a day.
    let first = zone.to_datetime(stretch.start) - 26.hours();
    let first = first - i64::from(first.second()).seconds();
    let length = (stretch.end.as_second() - stretch.start.as_second()) / 60 + 52 * 60;
    (0..length)
        .map(|n| first + n.minutes())
        .filter(|civil| is_due(*civil))
        .map(|civil| zone.to_ambiguous_timestamp(civil).compatible().unwrap())
        .filter(|at| stretch.contains(at))
        .collect()
}

fn around(change: Timestamp, after: i64) -> Range<Timestamp> {
    change - 4.hours()..change + after.hours()
}

fn agrees(schedule: &Schedule, stretch: &Range<Timestamp>, wanted: &BTreeSet<Timestamp>) -> Result<(), TestCaseError> {
    let upcoming = schedule.upcoming(stretch.start - 1.second(), Some(stretch.end), 200).unwrap();
    let wanted: Vec<Timestamp> = wanted.iter().copied().take(200).collect();
    let text = schedule.normalised();
    prop_assert_eq!(upcoming.iter().map(|it| it.at).collect::<Vec<_>>(), wanted, "{} in {:?}", text, stretch);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn times_of_the_day_are_shifted_out_of_any_gap_and_taken_once_in_any_fold(
        (zone, change) in changes(),
        hours in values(0, 23),
        minutes in values(0, 59),
        as_cron in any::<bool>(),
    ) {
        let schedule = if as_cron {
            parse(ScheduleKind::Cron, &format!("{} {} * * *", list("", &minutes), list("", &hours)), &zone)
        } else {
            let text = format!("DTSTART:18000101T000000\nRRULE:FREQ=DAILY{}{}", list(";BYHOUR=", &hours), list(";BYMINUTE=", &minutes));
            parse(ScheduleKind::Rrule, &text, &zone)
        };
        let is_due = |at: DateTime| hours.contains(&at.hour()) && minutes.contains(&at.minute());
        let stretch = around(change, 30);
        agrees(&schedule.unwrap(), &stretch, &named(zone.rules(), &stretch, is_due))?;
    }

    #[test]
    fn a_rule_of_hours_or_finer_fires_whenever_the_wall_clock_shows_what_it_names(
        (zone, change) in changes(),
        (hours, minutes, seconds) in (values(0, 23), values(0, 59), values(0, 59)),
        freq in select(vec!["HOURLY", "MINUTELY", "SECONDLY"]),
        with_hours in any::<bool>(),
    ) {
        let hours = if with_hours { hours } else { BTreeSet::new() };
        let text = format!(
            "DTSTART:18000101T000000\nRRULE:FREQ={freq}{}{}{}",
            list(";BYHOUR=", &hours), list(";BYMINUTE=", &minutes), list(";BYSECOND=", &seconds)
        );
        let is_due = |at: DateTime| {
            (hours.is_empty() || hours.contains(&at.hour())) && minutes.contains(&at.minute()) && seconds.contains(&at.second())
        };
        let stretch = around(change, 6);
        agrees(&parse(ScheduleKind::Rrule, &text, &zone).unwrap(), &stretch, &shown(zone.rules(), &stretch, is_due))?;
    }

    #[test]
    fn a_wildcard_cron_fires_whenever_the_wall_clock_shows_what_it_names(
        (zone, change) in changes(),
        minutes in values(0, 59),
        step in 2_i8..12,
    ) {
        let is_due = |at: DateTime| at.second() == 0 && at.hour() % step == 0 && minutes.contains(&at.minute());
        let schedule = parse(ScheduleKind::Cron, &format!("{} */{step} * * *", list("", &minutes)), &zone).unwrap();
        let stretch = around(change, 6);
        agrees(&schedule, &stretch, &shown(zone.rules(), &stretch, is_due))?;
    }
}
