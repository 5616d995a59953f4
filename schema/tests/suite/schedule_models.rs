//! Properties of schedules: against brute force by their definitions, over random zones and years.

use std::{collections::BTreeSet, time::Duration};

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, date},
    tz::TimeZone,
};
use ordinaut_schema::{
    fault::Fault,
    id::{OccurrenceKey, RunId, Shard, TaskId},
    limits::Limits,
    schedule::{Schedule, ScheduleKind, ScheduleSource, jitter_offset},
    time::Zone,
};
use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    sample::select,
};

fn parse(kind: ScheduleKind, expr: &str, zone: Option<&Zone>) -> Result<Schedule, Vec<Fault>> {
    let anchor = "2026-11-23T06:17:42.5Z".parse().unwrap();
    Schedule::parse(ScheduleSource { kind, expr, zone, anchor }, &Limits::DEFAULT)
}

/// So many cases, or what `PROPTEST_CASES` asks for.
#[expect(clippy::disallowed_methods, reason = "the edge of a test program: how long to search is the caller's to say")]
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    // Failures are told, not kept: a shrunk case becomes a test of its own.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(asked.unwrap_or(usual)) }
}

fn zones() -> impl Strategy<Value = Zone> {
    select(vec![
        "UTC",
        "Europe/Chisinau",
        "Europe/London",
        "America/New_York",
        "America/St_Johns",
        "America/Sao_Paulo",
        "America/Havana",
        "Australia/Lord_Howe",
        "Australia/Sydney",
        "Africa/Casablanca",
        "Africa/Cairo",
        "Asia/Kolkata",
        "Asia/Gaza",
        "Pacific/Apia",
        "Pacific/Auckland",
        "Antarctica/Troll",
    ])
    .prop_map(|name| Zone::find(name).unwrap())
}

/// An instant between 1975 and 2037, half of the time near a change of the zone's offset.
fn instants(zone: &Zone) -> impl Strategy<Value = Timestamp> + use<> {
    let rules = zone.rules().clone();
    (157_766_400_i64..2_114_380_800, any::<bool>(), -200_000_i64..100_000).prop_map(move |(second, near, shift)| {
        let at = Timestamp::from_second(second).unwrap();
        let change = rules.following(at).next().map(|it| it.timestamp()).filter(|_| near);
        change.map_or(at, |change| change + shift.seconds())
    })
}

/// A cron field that is a list: its text, and the values it stands for.
fn field(least: u8, most: u8) -> impl Strategy<Value = (String, BTreeSet<u8>)> {
    let list = btree_set(least..=most, 1..4)
        .prop_map(|set| (set.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), set));
    let range = (least..=most, least..=most, 1_u8..5).prop_map(|(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        (format!("{a}-{b}/{step}"), (a..=b).step_by(usize::from(step)).collect())
    });
    let step = (1_u8..=(most - least).min(20))
        .prop_map(move |step| (format!("*/{step}"), (least..=most).step_by(usize::from(step)).collect()));
    prop_oneof![2 => Just(("*".to_owned(), (least..=most).collect())), 3 => list, 1 => range, 1 => step]
}

#[derive(Debug, Clone)]
struct CronModel {
    minutes: (String, BTreeSet<u8>),
    hours: (String, BTreeSet<u8>),
    days: (String, BTreeSet<u8>),
    months: (String, BTreeSet<u8>),
    weekdays: (String, BTreeSet<u8>),
}

impl CronModel {
    fn text(&self) -> String {
        [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays].map(|it| it.0.clone()).join(" ")
    }

    fn is_wildcard(&self) -> bool {
        self.minutes.0.starts_with('*')
            || self.hours.0.starts_with('*')
            || self.minutes.1.len() == 60
            || self.hours.1.len() == 24
    }

    fn matches(&self, at: DateTime) -> bool {
        let unsigned = |value: i8| value.unsigned_abs();
        let day = self.days.1.contains(&unsigned(at.day()));
        let weekday = at.date().weekday().to_sunday_zero_offset().unsigned_abs();
        let weekday = self.weekdays.1.contains(&weekday);
        let both = self.days.0.starts_with('*') || self.weekdays.0.starts_with('*');
        self.minutes.1.contains(&unsigned(at.minute()))
            && self.hours.1.contains(&unsigned(at.hour()))
            && self.months.1.contains(&unsigned(at.month()))
            && if both { day && weekday } else { day || weekday }
    }

    /// Minute by minute, from `after` to `days` later.
    fn walk(&self, zone: &TimeZone, after: Timestamp, days: i64) -> BTreeSet<Timestamp> {
        let minute = |at: Timestamp| Timestamp::from_second(at.as_second().div_euclid(60) * 60).unwrap();
        let mut found = BTreeSet::new();
        if self.is_wildcard() {
            let mut at = minute(after) + 1.minute();
            for _ in 0..days * 1440 {
                if self.matches(zone.to_datetime(at)) {
                    found.insert(at);
                }
                at += 1.minute();
            }
        } else {
            let mut at = Timestamp::from_second(after.as_second().div_euclid(86_400) * 86_400 - 3 * 86_400).unwrap();
            for _ in 0..(days + 3) * 1440 {
                // Civil time, dressed as UTC.
                let civil = TimeZone::UTC.to_datetime(at);
                if self.matches(civil) {
                    found.insert(zone.to_ambiguous_timestamp(civil).compatible().unwrap());
                }
                at += 1.minute();
            }
        }
        let end = after + (days - 2) * 24.hours();
        found.into_iter().filter(|at| *at > after && *at < end).collect()
    }
}

fn crons() -> impl Strategy<Value = CronModel> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
        .prop_map(|(minutes, hours, days, months, weekdays)| CronModel { minutes, hours, days, months, weekdays })
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn cron_agrees_with_a_walk_minute_by_minute(
        model in crons(),
        (zone, after) in zones().prop_flat_map(|zone| (Just(zone.clone()), instants(&zone))),
    ) {
        let Ok(schedule) = parse(ScheduleKind::Cron, &model.text(), Some(&zone)) else {
            // Only days that never meet are refused.
            prop_assert!(model.walk(zone.rules(), after, 40).is_empty(), "{}", model.text());
            return Ok(());
        };
        let walked = model.walk(zone.rules(), after, 12);
        let mut at = after;
        for wanted in walked.iter().take(40) {
            let next = schedule.next_after(at).unwrap();
            prop_assert_eq!(next, Some(*wanted), "{} after {}", model.text(), at);
            at = *wanted;
        }
    }

    #[test]
    fn occurrences_are_strictly_after_and_ascending(
        model in crons(),
        (zone, after) in zones().prop_flat_map(|zone| (Just(zone.clone()), instants(&zone))),
        fraction in 0_i64..1_000_000_000,
    ) {
        let after = after + fraction.nanoseconds();
        let Ok(schedule) = parse(ScheduleKind::Cron, &model.text(), Some(&zone)) else { return Ok(()) };
        let upcoming = schedule.upcoming(after, None, 20).unwrap();
        prop_assert!(upcoming.iter().all(|it| it.at > after));
        prop_assert!(upcoming.windows(2).all(|pair| pair[0].at < pair[1].at));
        // Asked just before an occurrence, the answer is that occurrence.
        for it in &upcoming {
            prop_assert_eq!(schedule.next_after(it.at - 1.nanosecond()).unwrap(), Some(it.at));
        }
    }

    #[test]
    fn what_is_normalised_reads_back_as_the_same_schedule(model in crons(), zone in zones()) {
        let Ok(schedule) = parse(ScheduleKind::Cron, &model.text(), Some(&zone)) else { return Ok(()) };
        let again = parse(ScheduleKind::Cron, schedule.normalised(), Some(&zone)).unwrap();
        prop_assert_eq!(again.normalised(), schedule.normalised());
        let after = Timestamp::UNIX_EPOCH;
        prop_assert_eq!(again.upcoming(after, None, 5).unwrap(), schedule.upcoming(after, None, 5).unwrap());
    }

    #[test]
    fn any_text_is_answered_and_never_panics(text in "[ -~\\n]{0,60}", kind in select(ScheduleKind::ALL.to_vec())) {
        if let Ok(schedule) = parse(kind, &text, Some(&Zone::utc())) {
            prop_assert!(!schedule.describe().is_empty());
            // What is hard to find may be given up, but not answered wrongly.
            if let Ok(Some(at)) = schedule.next_after(Timestamp::UNIX_EPOCH) {
                prop_assert!(at > Timestamp::UNIX_EPOCH);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn any_rule_made_of_valid_parts_is_answered_and_reads_back(
        freq in select(vec!["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"]),
        parts in proptest::sample::subsequence(
            vec![
                "INTERVAL=7", "INTERVAL=86401", "INTERVAL=4294967295", "BYMONTH=2", "BYMONTH=1,6,12", "BYMONTHDAY=29",
                "BYMONTHDAY=-31,30", "BYYEARDAY=366,-1", "BYWEEKNO=53,-53", "BYDAY=MO", "BYDAY=-53SU,2TU", "BYHOUR=2,3",
                "BYMINUTE=0,30,59", "BYSECOND=0,60", "BYSETPOS=-1", "BYSETPOS=366", "WKST=SU", "COUNT=50",
                "UNTIL=20300101T000000Z",
            ],
            0..6,
        ),
        zone in zones(),
        year in 1_i16..2500,
    ) {
        let parts: String = parts.iter().map(|part| format!(";{part}")).collect();
        let text = format!("DTSTART;TZID={}:{year:04}0131T023000\nRRULE:FREQ={freq}{parts}", zone.name());
        let Ok(schedule) = parse(ScheduleKind::Rrule, &text, None) else { return Ok(()) };
        prop_assert!(schedule.describe().ends_with(zone.name()));
        let again = parse(ScheduleKind::Rrule, schedule.normalised(), None).unwrap();
        let after = "2026-11-23T11:00:00Z".parse().unwrap();
        let (next, same) = (schedule.upcoming(after, None, 3), again.upcoming(after, None, 3));
        prop_assert!(next.iter().flatten().all(|it| it.at > after));
        prop_assert_eq!(next, same, "{}", text);
    }
}

/// A rule of whole days in UTC, by its definition.
#[derive(Debug, Clone)]
struct RuleModel {
    freq: &'static str,
    interval: i64,
    start: Date,
    months: BTreeSet<i8>,
    month_days: BTreeSet<i8>,
    year_days: BTreeSet<i16>,
    weeks: BTreeSet<i8>,
    weekdays: BTreeSet<(i8, i8)>,
    positions: BTreeSet<i8>,
    week_start: i8,
}

const DAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

impl RuleModel {
    fn text(&self) -> String {
        fn list<T: ToString>(name: &str, values: impl IntoIterator<Item = T>) -> String {
            let values: Vec<String> = values.into_iter().map(|it| it.to_string()).collect();
            if values.is_empty() { String::new() } else { format!(";{name}={}", values.join(",")) }
        }
        let day = |(ordinal, day): &(i8, i8)| {
            let name = DAYS[usize::from(day.unsigned_abs())];
            if *ordinal == 0 { name.to_owned() } else { format!("{ordinal}{name}") }
        };
        [
            format!("DTSTART:{}T090000Z\nRRULE:FREQ={}", self.start.strftime("%Y%m%d"), self.freq),
            format!(";INTERVAL={};WKST={}", self.interval, DAYS[usize::from(self.week_start.unsigned_abs())]),
            list("BYMONTH", &self.months),
            list("BYMONTHDAY", &self.month_days),
            list("BYYEARDAY", &self.year_days),
            list("BYWEEKNO", &self.weeks),
            list("BYDAY", self.weekdays.iter().map(day)),
            list("BYSETPOS", &self.positions),
        ]
        .concat()
    }

    fn week_of(&self, day: Date) -> Date {
        let back = (day.weekday().to_monday_zero_offset() - self.week_start).rem_euclid(7);
        day - i64::from(back).days()
    }

    /// The period that a day lies in, numbered.
    fn period(&self, day: Date) -> i64 {
        let days = |date: Date| i64::from((date - jiff::civil::date(1970, 1, 1)).get_days());
        match self.freq {
            "YEARLY" => i64::from(day.year()),
            "MONTHLY" => i64::from(day.year()) * 12 + i64::from(day.month()),
            "WEEKLY" => days(self.week_of(day)).div_euclid(7),
            _ => days(day),
        }
    }

    /// The first day of the week that is a year's first: the one with at least four days in it.
    fn first_week(&self, year: i16) -> Date {
        self.week_of(date(year, 1, 4))
    }

    fn in_weeks(&self, day: Date) -> bool {
        let week = self.week_of(day);
        let year = (day.year() - 1..=day.year() + 1).rev().find(|year| self.first_week(*year) <= week).unwrap();
        let since = |date: Date| i64::from((week - date).get_days()) / 7;
        let number = since(self.first_week(year)) + 1;
        let total = i64::from((self.first_week(year + 1) - self.first_week(year)).get_days()) / 7;
        self.weeks.iter().any(|wanted| {
            let wanted = i64::from(*wanted);
            wanted == number || total + 1 + wanted == number
        })
    }

    fn on_weekday(&self, day: Date) -> bool {
        let weekday = day.weekday().to_monday_zero_offset();
        let (first, last) = if self.freq == "MONTHLY" || !self.months.is_empty() {
            (day.first_of_month(), day.last_of_month())
        } else {
            (day.first_of_year(), day.last_of_year())
        };
        let forth = i64::from((day - first).get_days()) / 7 + 1;
        let back = -(i64::from((last - day).get_days()) / 7 + 1);
        self.weekdays.iter().any(|(ordinal, wanted)| {
            let ordinal = i64::from(*ordinal);
            *wanted == weekday && (ordinal == 0 || ordinal == forth || ordinal == back)
        })
    }

    fn allows(&self, day: Date) -> bool {
        let from_end = |n: i64, length: i64| n - length - 1;
        let month_day = i64::from(day.day());
        let year_day = i64::from(day.day_of_year());
        (self.months.is_empty() || self.months.contains(&day.month()))
            && (self.month_days.is_empty()
                || self.month_days.iter().any(|wanted| {
                    [month_day, from_end(month_day, i64::from(day.days_in_month()))].contains(&i64::from(*wanted))
                }))
            && (self.year_days.is_empty()
                || self.year_days.iter().any(|wanted| {
                    [year_day, from_end(year_day, i64::from(day.days_in_year()))].contains(&i64::from(*wanted))
                }))
            && (self.weeks.is_empty() || self.in_weeks(day))
            && (self.weekdays.is_empty() || self.on_weekday(day))
    }

    /// Day by day from the first period on, for `years`.
    fn walk(&self, years: i64) -> Vec<Date> {
        let phase = self.period(self.start);
        let mut found = Vec::new();
        let mut period = Vec::new();
        let mut day = self.start - 1.year();
        let end = self.start + years.years();
        let mut number = self.period(day);
        while day < end {
            if self.period(day) != number {
                found.extend(self.pick(&period));
                (number, period) = (self.period(day), Vec::new());
            }
            if (number - phase).rem_euclid(self.interval) == 0 && self.allows(day) {
                period.push(day);
            }
            day = day.tomorrow().unwrap();
        }
        found.retain(|day| *day >= self.start);
        found
    }

    fn pick(&self, period: &[Date]) -> Vec<Date> {
        if self.positions.is_empty() {
            return period.to_vec();
        }
        let length = i64::try_from(period.len()).unwrap();
        let wanted = |n: usize| {
            let n = i64::try_from(n).unwrap();
            self.positions.iter().any(|position| [n + 1, n - length].contains(&i64::from(*position)))
        };
        period.iter().enumerate().filter(|(n, _)| wanted(*n)).map(|(_, day)| *day).collect()
    }
}

fn signed(most: i8) -> impl Strategy<Value = i8> {
    prop_oneof![1..=most, -most..=-1]
}

fn rules() -> impl Strategy<Value = RuleModel> {
    let day = |ordinals: i8| {
        let ordinal = if ordinals == 0 { Just(0).boxed() } else { prop_oneof![Just(0), signed(ordinals)].boxed() };
        btree_set((ordinal, 0_i8..7), 1..4)
    };
    let start = (0_i64..30_000).prop_map(|days| date(1960, 1, 1) + days.days());
    let common = (start, 1_i64..5, 0_i8..7, btree_set(signed(4), 0..3), any::<bool>());
    let months = btree_set(1_i8..=12, 0..4);
    (common, months, btree_set(signed(31), 1..4), btree_set(signed(53), 1..4), 0_u8..10).prop_flat_map(
        move |((start, interval, week_start, positions, positioned), months, month_days, weeks, form)| {
            let (freq, ordinals) = match form {
                0 => ("DAILY", 0),
                1 => ("WEEKLY", 0),
                2..=4 => ("MONTHLY", 5),
                5 => ("YEARLY", 0),
                6 | 7 if months.is_empty() => ("YEARLY", 53),
                _ => ("YEARLY", 5),
            };
            (day(ordinals), vec(prop_oneof![1_i16..=366, -366_i16..=-1], 1..4)).prop_map(
                move |(weekdays, year_days)| {
                    let monthly = matches!(form, 0 | 2 | 3);
                    RuleModel {
                        freq,
                        interval,
                        start,
                        months: months.clone(),
                        month_days: if monthly { month_days.clone() } else { BTreeSet::new() },
                        year_days: if form == 9 { year_days.into_iter().collect() } else { BTreeSet::new() },
                        weeks: if form == 5 { weeks.clone() } else { BTreeSet::new() },
                        weekdays: if matches!(form, 2 | 9) { BTreeSet::new() } else { weekdays },
                        positions: if positioned { positions.clone() } else { BTreeSet::new() },
                        week_start,
                    }
                },
            )
        },
    )
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_rule_of_days_agrees_with_its_definition(model in rules()) {
        let walked = model.walk(12);
        let Ok(schedule) = parse(ScheduleKind::Rrule, &model.text(), None) else {
            prop_assert!(walked.is_empty(), "{} is refused and has {:?}", model.text(), walked[0]);
            return Ok(());
        };
        let again = parse(ScheduleKind::Rrule, schedule.normalised(), None).unwrap();
        prop_assert_eq!(again.normalised(), schedule.normalised());
        let mut at = Timestamp::from_second(-3_000_000_000).unwrap();
        for day in walked.iter().take(30) {
            let wanted = day.at(9, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
            let next = schedule.next_after(at).unwrap();
            prop_assert_eq!(next, Some(wanted), "{}", model.text());
            prop_assert_eq!(again.next_after(at).unwrap(), next);
            at = wanted;
        }
    }

    #[test]
    fn a_counted_rule_ends_after_so_many(model in rules(), count in 1_usize..60, hours in btree_set(0_u8..24, 1..4)) {
        let hours: Vec<String> = hours.iter().map(ToString::to_string).collect();
        let rule = format!("{};BYHOUR={}", model.text(), hours.join(","));
        let Ok(endless) = parse(ScheduleKind::Rrule, &rule, None) else { return Ok(()) };
        let before = Timestamp::from_second(-3_000_000_000).unwrap();
        let wanted = endless.upcoming(before, None, count).unwrap();
        let counted = parse(ScheduleKind::Rrule, &format!("{rule};COUNT={count}"), None).unwrap();
        prop_assert_eq!(counted.upcoming(before, None, count + 1).unwrap(), wanted, "{};COUNT={}", rule, count);
    }

    #[test]
    fn a_rule_of_hours_or_minutes_agrees_with_a_walk_by_elapsed_time(
        (zone, near) in zones().prop_flat_map(|zone| (Just(zone.clone()), instants(&zone))),
        (freq, unit) in select(vec![("HOURLY", 3600_i64), ("MINUTELY", 60)]),
        interval in 1_i64..40,
        hours in btree_set(0_i8..24, 0..6),
        weekdays in btree_set(0_i8..7, 0..4),
        count in proptest::option::of(1_usize..40),
    ) {
        let rules = zone.rules();
        let start = Timestamp::from_second(near.as_second().div_euclid(60) * 60).unwrap() - 50.hours();
        // Where the wall clock shows a time twice, the text means the first.
        let civil = rules.to_datetime(start);
        let start = rules.to_ambiguous_timestamp(civil).compatible().unwrap();
        let list = |name: &str, values: Vec<String>| if values.is_empty() { String::new() } else { format!(";{name}={}", values.join(",")) };
        let text = format!(
            "DTSTART;TZID={}:{}\nRRULE:FREQ={freq};INTERVAL={interval}{}{}{}",
            zone.name(),
            civil.strftime("%Y%m%dT%H%M%S"),
            list("BYHOUR", hours.iter().map(ToString::to_string).collect()),
            list("BYDAY", weekdays.iter().map(|day| DAYS[usize::from(day.unsigned_abs())].to_owned()).collect()),
            count.map_or_else(String::new, |count| format!(";COUNT={count}")),
        );
        let matches = |at: &Timestamp| {
            let local = rules.to_datetime(*at);
            (hours.is_empty() || hours.contains(&local.hour()))
                && (weekdays.is_empty() || weekdays.contains(&local.date().weekday().to_monday_zero_offset()))
        };
        let walked: Vec<Timestamp> = (0..14 * 86_400 / (unit * interval))
            .map(|n| start + (n * unit * interval).seconds())
            .filter(matches)
            .take(count.unwrap_or(60))
            .collect();
        let schedule = match parse(ScheduleKind::Rrule, &text, None) {
            Ok(schedule) => schedule,
            Err(refused) => {
                // Where a sparse rule's COUNT ends is not searched for without a limit.
                let gave_up = refused.iter().any(|fault| fault.to_string().contains("where COUNT ends could not be found"));
                prop_assert!(walked.is_empty() || (gave_up && count.is_some()), "{text}");
                return Ok(());
            }
        };
        let upcoming = schedule.upcoming(start - 1.hour(), None, walked.len()).unwrap();
        prop_assert_eq!(upcoming.iter().map(|it| it.at).collect::<Vec<_>>(), walked, "{}", text);
    }

    #[test]
    fn an_old_rule_answers_like_a_young_one(years in 0_i64..2000, interval in select(vec![1_u32, 2, 7, 15, 90])) {
        // The same grid, begun whole multiples of the interval earlier.
        let young = date(2026, 1, 1).at(0, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
        let old = young - (years * 315 * 1440).minutes();
        let rule = |start: Timestamp| {
            let text = format!("DTSTART:{}\nRRULE:FREQ=MINUTELY;INTERVAL={interval}", start.strftime("%Y%m%dT%H%M%SZ"));
            parse(ScheduleKind::Rrule, &text, None).unwrap()
        };
        let after = "2026-11-23T11:11:11Z".parse().unwrap();
        prop_assert_eq!(rule(old).upcoming(after, None, 5).unwrap(), rule(young).upcoming(after, None, 5).unwrap());
    }

    #[test]
    fn the_jitter_of_a_run_never_moves_and_never_reaches_the_next_occurrence(
        key in "[a-z0-9]{1,20}",
        bound in 1_u64..100_000_000,
        gap in proptest::option::of(0_u64..100_000_000),
    ) {
        let at = "2026-11-23T08:30:00Z".parse().unwrap();
        let run = RunId::derive(TaskId::new(), &OccurrenceKey::manual(&key), at, Shard(0));
        let (bound, gap) = (Duration::from_millis(bound), gap.map(Duration::from_millis));
        let offset = jitter_offset(run, bound, gap);
        prop_assert_eq!(offset, jitter_offset(run, bound, gap));
        prop_assert!(offset < bound);
        prop_assert!(gap.is_none_or(|gap| offset <= gap / 2));
    }
}
