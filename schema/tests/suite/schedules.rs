//! What schedules say of themselves: sentences, warnings, refusals.

use ordinaut_schema::{
    fault::{Fault, FaultCode},
    limits::Limits,
    schedule::{DstShift, Schedule, ScheduleKind, ScheduleSource},
    time::Zone,
};

fn parse(kind: ScheduleKind, expr: &str, zone: Option<&Zone>) -> Result<Schedule, Vec<Fault>> {
    let anchor = "2026-11-23T06:17:42.5Z".parse().unwrap();
    Schedule::parse(ScheduleSource { kind, expr, zone, anchor }, &Limits::DEFAULT)
}

#[test]
fn a_time_shifted_past_later_ones_hides_none_of_them() {
    // The clock goes from 02:00 to 02:30: 02:20 is shifted to 02:50, past two times that the clock does show.
    let zone = Zone::find("Australia/Lord_Howe").unwrap();
    for (kind, expr) in [
        (ScheduleKind::Cron, "0,20,35,40 2 * * *"),
        (ScheduleKind::Rrule, "DTSTART:20200101T000000\nRRULE:FREQ=DAILY;BYHOUR=2;BYMINUTE=0,20,35,40"),
    ] {
        let schedule = parse(kind, expr, Some(&zone)).unwrap();
        let upcoming = schedule.upcoming("2026-10-03T12:00:00Z".parse().unwrap(), None, 4).unwrap();
        let local: Vec<_> = upcoming.iter().map(|it| &it.local[11..16]).collect();
        assert_eq!(local, ["02:30", "02:35", "02:40", "02:50"], "{expr}");
    }
}

#[test]
fn a_preview_warns_of_each_occurrence_that_daylight_saving_moved() {
    let zone = Zone::find("Europe/Chisinau").unwrap();
    for (kind, expr) in
        [(ScheduleKind::Cron, "30 3 * * *"), (ScheduleKind::Rrule, "DTSTART:20250101T033000\nRRULE:FREQ=DAILY")]
    {
        let schedule = parse(kind, expr, Some(&zone)).unwrap();
        let gap = schedule.upcoming("2025-03-28T12:00:00Z".parse().unwrap(), None, 3).unwrap();
        let local: Vec<_> = gap.iter().map(|it| (it.local.as_str(), it.dst)).collect();
        assert_eq!(
            local,
            [
                ("2025-03-29T03:30:00+02:00", None),
                ("2025-03-30T04:30:00+03:00", Some(DstShift::Gap)),
                ("2025-03-31T03:30:00+03:00", None),
            ]
        );
        let fold = schedule.upcoming("2025-10-25T12:00:00Z".parse().unwrap(), None, 2).unwrap();
        assert_eq!((fold[0].local.as_str(), fold[0].dst), ("2025-10-26T03:30:00+03:00", Some(DstShift::Fold)));
        assert_eq!(fold[1].dst, None);
    }
    let wild = parse(ScheduleKind::Cron, "30 * * * *", Some(&zone)).unwrap();
    let fold = wild.upcoming("2025-10-25T23:59:00Z".parse().unwrap(), None, 3).unwrap();
    assert!(fold.iter().all(|it| it.dst.is_none()), "both passes fire, nothing is moved");
}

#[test]
fn a_rule_without_dtstart_counts_from_the_anchor_and_keeps_its_named_times_clean() {
    let zone = Zone::find("Europe/Chisinau").unwrap();
    let schedule =
        parse(ScheduleKind::Rrule, "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30", Some(&zone)).unwrap();
    assert_eq!(schedule.describe(), "Every weekday at 08:30, Europe/Chisinau");
    assert_eq!(
        schedule.normalised(),
        "DTSTART;TZID=Europe/Chisinau:20261123T081742\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30;BYSECOND=0"
    );
    let first = schedule.next_after("2026-11-23T06:17:42Z".parse().unwrap()).unwrap();
    assert_eq!(first, Some("2026-11-23T06:30:00Z".parse().unwrap()));
}

#[test]
fn a_stored_rule_says_what_it_said_when_it_was_written() {
    let anchor = "2026-11-23T06:17:42.5Z".parse().unwrap();
    for zone in ["Europe/Chisinau", "America/Los_Angeles", "Pacific/Kiritimati", "UTC"] {
        let zone = Zone::find(zone).unwrap();
        let parse = |expr: &str| {
            let source = ScheduleSource { kind: ScheduleKind::Rrule, expr, zone: Some(&zone), anchor };
            Schedule::parse(source, &Limits::DEFAULT).unwrap()
        };
        for rule in ["FREQ=DAILY;BYHOUR=9;BYMINUTE=0", "FREQ=WEEKLY;INTERVAL=2", "FREQ=DAILY;COUNT=3", "FREQ=HOURLY"] {
            let written = parse(rule);
            assert_eq!(parse(written.normalised()).describe(), written.describe());
            assert!(!written.describe().contains(", from "), "{}", written.describe());
        }
        // A start that somebody gave is said.
        let given = parse("DTSTART:20261124T090000\nRRULE:FREQ=DAILY");
        assert!(given.describe().contains("from 24 November 2026 09:00"), "{}", given.describe());
        assert_eq!(parse(given.normalised()).describe(), given.describe());
    }
}

#[test]
fn rules_are_told_in_plain_english() {
    for (rule, sentence) in [
        ("FREQ=DAILY", "Every day at 09:00, UTC"),
        ("FREQ=DAILY;INTERVAL=3;COUNT=4", "Every 3 days at 09:00, counted from 5 January 2026 09:00, 4 times, UTC"),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR",
            "Every 2 weeks on Monday and Friday at 09:00, counted from 5 January 2026 09:00, UTC",
        ),
        ("FREQ=MONTHLY", "Every month on day 5 of the month at 09:00, UTC"),
        ("FREQ=MONTHLY;BYDAY=-1FR", "Every month on the last Friday of the month at 09:00, UTC"),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", "Every month on the last day of the month at 09:00, UTC"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "Every month on the last weekday of the month at 09:00, UTC"),
        (
            "FREQ=MONTHLY;INTERVAL=2;BYDAY=MO,TU,WE,TH,FR",
            "Every 2 months on every weekday at 09:00, counted from 5 January 2026 09:00, UTC",
        ),
        (
            "FREQ=MONTHLY;BYDAY=SA,SU;BYMONTH=3,6;BYSETPOS=1,-1",
            "Every month on the first and last Saturday or Sunday of the month in March and June at 09:00, UTC",
        ),
        (
            "FREQ=YEARLY;BYMONTH=3,6;BYDAY=FR;BYSETPOS=-1",
            "Every year, only the last of: every Friday in March and June at 09:00, UTC",
        ),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9,17;BYSETPOS=-1",
            "Every month, only the last of: every weekday at 09:00 and 17:00, UTC",
        ),
        ("FREQ=DAILY;BYHOUR=9,17;BYSETPOS=-1", "Every day, only the last of: every day at 09:00 and 17:00, UTC"),
        (
            "FREQ=MONTHLY;BYMONTHDAY=13,14,15;BYSETPOS=2",
            "Every month, only the second of: on days 13 to 15 of the month at 09:00, UTC",
        ),
        (
            "FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=-1;BYDAY=MO,TU,WE,TH,FR",
            "Every hour, at minutes 0, 20 and 40, only the last of each hour, on every weekday, UTC",
        ),
        ("FREQ=YEARLY", "On day 5 of January at 09:00, UTC"),
        ("FREQ=HOURLY;INTERVAL=2", "Every 2 hours, counted from 5 January 2026 09:00, UTC"),
        (
            "FREQ=MINUTELY;INTERVAL=15;BYHOUR=9,10,11",
            "Every 15 minutes, at hours 9 to 11, counted from 5 January 2026 09:00, UTC",
        ),
        ("FREQ=DAILY;UNTIL=20260201T000000Z", "Every day at 09:00, until 1 February 2026 00:00, UTC"),
    ] {
        let schedule = parse(ScheduleKind::Rrule, &format!("DTSTART:20260105T090000Z\nRRULE:{rule}"), None).unwrap();
        assert_eq!(schedule.describe(), sentence);
    }
}

#[test]
fn a_stored_rule_is_told_like_the_one_that_was_written() {
    // East of Greenwich the clock on the wall is ahead of the instant.
    for zone in ["Europe/Chisinau", "America/New_York"] {
        let zone = Zone::find(zone).unwrap();
        let written = parse(ScheduleKind::Rrule, "FREQ=DAILY;BYHOUR=8", Some(&zone)).unwrap();
        let stored = parse(ScheduleKind::Rrule, written.normalised(), Some(&zone)).unwrap();
        assert_eq!(stored.describe(), written.describe());
        assert!(!stored.describe().contains("from"), "{}", stored.describe());
    }
}

#[test]
fn nothing_comes_after_the_last_instant_of_all() {
    let zone = Zone::utc();
    for (kind, expr) in [
        (ScheduleKind::Cron, "* * * * *"),
        (ScheduleKind::Rrule, "FREQ=SECONDLY"),
        (ScheduleKind::Interval, "1s"),
        (ScheduleKind::Once, "+1h"),
    ] {
        let schedule = parse(kind, expr, Some(&zone)).unwrap();
        assert_eq!(schedule.next_after(jiff::Timestamp::MAX), Ok(None), "{expr}");
    }
}

#[test]
fn a_start_to_come_is_told_once() {
    for (rule, sentence) in [
        ("FREQ=DAILY", "Every day at 09:00, from 4 January 2027 09:00, UTC"),
        ("FREQ=DAILY;INTERVAL=3", "Every 3 days at 09:00, counted from 4 January 2027 09:00, UTC"),
    ] {
        let text = format!("DTSTART:20270104T090000Z\nRRULE:{rule}");
        assert_eq!(parse(ScheduleKind::Rrule, &text, None).unwrap().describe(), sentence);
    }
}

#[test]
fn a_count_of_a_hundred_thousand_ends_on_its_day() {
    use jiff::{Timestamp, ToSpan, civil::date};
    let positions = (1..=366).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    // Each with the days from one occurrence to the next.
    for (rule, first, step) in [
        ("FREQ=DAILY;COUNT=100000".to_owned(), date(2026, 1, 1), 1),
        ("FREQ=DAILY;INTERVAL=3;COUNT=100000".to_owned(), date(2026, 1, 1), 3),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;COUNT=100000".to_owned(), date(2026, 1, 13), 14),
        ("FREQ=WEEKLY;BYDAY=MO;BYSETPOS=1,2,-1;COUNT=100000".to_owned(), date(2026, 1, 5), 7),
        (format!("FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS={positions};COUNT=100000"), date(2026, 1, 1), 1),
    ] {
        let schedule = parse(ScheduleKind::Rrule, &format!("DTSTART:20260101T090000Z\nRRULE:{rule}"), None).unwrap();
        let instant = |days: i64| {
            let at = first.at(9, 0, 0, 0) + days.days();
            at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
        };
        let last = instant(99_999 * step);
        assert_eq!(schedule.next_after(Timestamp::MIN), Ok(Some(instant(0))), "{rule}");
        assert_eq!(schedule.next_after(last - 1.second()), Ok(Some(last)), "{rule}");
        assert_eq!(schedule.next_after(last), Ok(None), "{rule}");
    }
}

#[test]
fn a_count_begins_at_dtstart_within_its_day_and_period() {
    for (rule, last) in [
        ("FREQ=DAILY;BYHOUR=3,9,20;COUNT=4", "2026-01-02T09:00:00Z"),
        ("FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=1,3;COUNT=2", "2026-01-05T09:00:00Z"),
    ] {
        let schedule = parse(ScheduleKind::Rrule, &format!("DTSTART:20260101T090000Z\nRRULE:{rule}"), None).unwrap();
        let upcoming = schedule.upcoming(jiff::Timestamp::MIN, None, 10).unwrap();
        assert_eq!(upcoming.last().map(|it| it.at.to_string()).as_deref(), Some(last), "{rule}");
    }
}

#[test]
fn a_set_that_costs_too_much_is_refused_with_what_to_do() {
    let minutes = |n: u32| format!("RRULE:FREQ=MINUTELY;INTERVAL={n};BYHOUR=3;BYMINUTE=7,9,31;COUNT=100000");
    let text = format!("DTSTART:20260101T000000Z\n{}\n{}", minutes(7), minutes(11));
    let faults = parse(ScheduleKind::Rrule, &text, None).unwrap_err();
    assert_eq!(faults[0].code, FaultCode::Limit);
    assert!(faults[0].message.contains("use UNTIL, or a smaller COUNT"), "{}", faults[0]);
}

#[test]
fn refusals_name_the_mend() {
    use ScheduleKind::{Cron, Event, Interval, Manual, Once, Rrule};
    let zone = Zone::utc();
    for (kind, expr, code, says, suggestion) in [
        (Cron, "60 * * * *", FaultCode::BadCron, "minutes are 0 to 59", Some("0 * * * *")),
        (Cron, "*/30 * * * * *", FaultCode::BadCron, "interval", Some("schedule_kind: interval, schedule_expr: 30s")),
        (Cron, "0 30 8 * * *", FaultCode::BadCron, "seconds", Some("30 8 * * *")),
        (Cron, "30 2 31 4 *", FaultCode::NeverFires, "never", Some("30 2 L 4 *")),
        (Cron, "0 0 * * MONDAY", FaultCode::BadCron, "MONDAY", Some("0 0 * * MON")),
        (Cron, "*/90 * * * *", FaultCode::BadCron, "90m", None),
        (Cron, "0/5 * * * *", FaultCode::BadCron, "0/5", Some("*/5 * * * *")),
        (Cron, "@every 5m", FaultCode::BadCron, "interval", Some("schedule_kind: interval, schedule_expr: 5m")),
        (Rrule, "FREQ=DAILY\nEXRULE:FREQ=WEEKLY", FaultCode::BadRrule, "EXRULE", None),
        (Rrule, "FREQ=DAILY;UNTIL=20270101T000000", FaultCode::BadRrule, "UTC", Some("UNTIL=20270101T000000Z")),
        (Rrule, "FREQ=DIALY", FaultCode::BadRrule, "DIALY", Some("FREQ=DAILY")),
        (Rrule, "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", FaultCode::NeverFires, "never", None),
        (Rrule, "FREQ=SECONDLY;COUNT=1000000000", FaultCode::Limit, "100000", None),
        (Once, "tomorrow", FaultCode::BadInstant, "RFC 3339", None),
        (Interval, "90", FaultCode::BadInterval, "90", Some("90s")),
        (Event, "user..x", FaultCode::BadTopic, "segment", None),
        (Manual, "0 0 * * *", FaultCode::InvalidValue, "manual", None),
    ] {
        let fault = parse(kind, expr, Some(&zone)).unwrap_err().remove(0);
        assert_eq!((fault.path.as_str(), fault.code), ("$.schedule_expr", code), "{expr}: {fault}");
        assert!(fault.message.contains(says), "{expr}: {fault}");
        assert_eq!(fault.suggestion.as_deref(), suggestion, "{expr}: {fault}");
    }
}

#[test]
fn civil_times_without_a_zone_are_refused_with_what_to_do() {
    for (kind, expr) in [
        (ScheduleKind::Cron, "30 8 * * *"),
        (ScheduleKind::Rrule, "FREQ=DAILY"),
        (ScheduleKind::Once, "2026-12-24T18:00"),
    ] {
        let faults = parse(kind, expr, None).unwrap_err();
        assert_eq!((faults[0].path.as_str(), faults[0].code), ("$.timezone", FaultCode::TimezoneRequired));
        assert!(faults[0].message.contains("set `timezone`"), "{}", faults[0]);
    }
}

#[test]
fn all_bad_fields_are_named_at_once() {
    let faults = parse(ScheduleKind::Cron, "61 25 * 13 *", Some(&Zone::utc())).unwrap_err();
    assert_eq!(faults.len(), 3);
    let faults = parse(ScheduleKind::Rrule, "FREQ=DAILY;BYHOUR=24;BYMINUTE=60", Some(&Zone::utc())).unwrap_err();
    assert_eq!(faults.len(), 2);
}

#[test]
fn a_wall_clock_that_goes_back_over_midnight_gives_the_old_day_again() {
    // St. John's left double summer time in 1988 at 00:01 on a Sunday, two hours back to Saturday.
    let zone = Zone::find("America/St_Johns").unwrap();
    let schedule = parse(ScheduleKind::Cron, "0 * * * 6", Some(&zone)).unwrap();
    let next = schedule.next_after("1988-10-30T01:30:58Z".parse().unwrap()).unwrap();
    assert_eq!(next, Some("1988-10-30T02:30:00Z".parse().unwrap()));
}
