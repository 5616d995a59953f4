//! `ordinaut next`: what a schedule says and when it is due, without a database.
//!
//! For people it prints the normalised schedule, a sentence, and the next occurrences with what daylight saving does
//! to them; [`jsonl`] answers programs, one request a line. Neither reads a clock: the present is handed in.

mod jsonl;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context as _;
use jiff::{Timestamp, Unit};
use ordinaut_schema::{
    fault::{Fault, Faults},
    limits::Limits,
    schedule::{DstShift, Schedule, ScheduleKind, ScheduleSource, Upcoming, find_zone, newer_zone_name},
    time::{Zone, parse_duration},
};
use serde::Serialize;

/// What is coming: the next occurrences of a schedule, in local time and UTC, with daylight-saving warnings.
#[derive(Debug, clap::Args)]
pub(crate) struct NextArgs {
    /// The schedule: `30 8 * * MON-FRI`, `FREQ=WEEKLY;BYDAY=MO`, `2026-12-24T18:00`, `+20m`, `15m`.
    #[arg(required_unless_present = "jsonl", allow_hyphen_values = true)]
    expr: Option<String>,
    /// How to read it; guessed from its form when not given.
    #[arg(long, value_parser = ["cron", "rrule", "once", "interval"])]
    kind: Option<String>,
    /// The IANA zone of its civil times; this machine's when not given.
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// How many occurrences to show.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Show what comes after this instant; now when not given.
    #[arg(long, value_name = "INSTANT")]
    after: Option<Timestamp>,
    /// For programs: one JSON object.
    #[arg(long)]
    json: bool,
    /// For programs: read one JSON request a line from stdin, answer one line each.
    #[arg(long, conflicts_with_all = ["expr", "kind", "tz", "count", "after", "json"])]
    jsonl: bool,
}

/// The exit code of a schedule that is refused.
const REFUSED: u8 = 2;

/// Runs the command: 0 when the schedule is valid, 2 when it is refused.
pub(crate) fn run(args: &NextArgs, now: Timestamp, machine_zone: Option<&Zone>) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if args.jsonl {
        jsonl::answer_all(io::stdin().lock(), &mut out, now).context("answer requests")?;
        return Ok(ExitCode::SUCCESS);
    }
    match preview(args, now, machine_zone) {
        Ok(preview) if args.json => writeln!(out, "{}", serde_json::to_string_pretty(&preview)?)?,
        Ok(preview) => preview.write(&mut out, args.after.unwrap_or(now)).context("print the occurrences")?,
        Err(faults) => {
            if args.json {
                writeln!(out, "{}", serde_json::to_string_pretty(&serde_json::json!({ "faults": faults }))?)?;
            } else {
                writeln!(io::stderr(), "{faults}").context("print why it is refused")?;
            }
            return Ok(ExitCode::from(REFUSED));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that is shown of a schedule.
#[derive(Debug, Serialize)]
struct Preview {
    schedule_kind: ScheduleKind,
    /// Normalised.
    schedule_expr: String,
    sentence: String,
    timezone: String,
    /// Why that one.
    timezone_from: &'static str,
    next: Vec<Upcoming>,
    warnings: Vec<String>,
}

fn preview(args: &NextArgs, now: Timestamp, machine_zone: Option<&Zone>) -> Result<Preview, Faults> {
    // A shell hands over `\n` between the lines of a rule as two characters.
    let expr = args.expr.clone().unwrap_or_default().replace("\\n", "\n");
    let kind = args.kind.as_deref().and_then(ScheduleKind::from_text).unwrap_or_else(|| guess(&expr));
    let named = args.tz.as_deref().map(find_zone).transpose()?;
    let zone = named.as_ref().or(machine_zone);
    let schedule = Schedule::parse(ScheduleSource { kind, expr: &expr, zone, anchor: now }, &Limits::DEFAULT)
        .map_err(|faults| faults.into_iter().fold(Faults::default(), with))?;

    let mut warnings = Vec::new();
    if let Some(newer) = newer_zone_name(schedule.zone()) {
        warnings.push(format!("{} is now {newer}", schedule.zone().name()));
    }
    let next = schedule.upcoming(args.after.unwrap_or(now), None, usize::from(args.count)).unwrap_or_else(|gave_up| {
        warnings.push(gave_up.to_string());
        Vec::new()
    });
    warnings.extend(next.iter().filter_map(|it| it.dst.map(|shift| format!("{}: {}", it.local, explain(shift)))));
    if next.is_empty() && warnings.is_empty() {
        warnings.push(format!("nothing is due after {}", args.after.unwrap_or(now)));
    }
    let timezone_from = match (&named, zone) {
        _ if matches!(kind, ScheduleKind::Interval) => "none is needed",
        (_, Some(zone)) if schedule.zone() != zone => "as the schedule says",
        (Some(_), _) => "as --tz says",
        (None, Some(_)) => "this machine's",
        (None, None) => "as the schedule says",
    };
    Ok(Preview {
        schedule_kind: kind,
        schedule_expr: schedule.normalised().to_owned(),
        sentence: schedule.describe(),
        timezone: schedule.zone().name().to_owned(),
        timezone_from,
        next,
        warnings,
    })
}

fn with(mut faults: Faults, fault: Fault) -> Faults {
    faults.push(fault);
    faults
}

fn explain(shift: DstShift) -> &'static str {
    match shift {
        DstShift::Gap => "the time on the wall does not exist that day; shifted forward by the gap",
        DstShift::Fold => "the time on the wall comes twice that day; the first pass is taken",
    }
}

/// The kind of schedule that a text looks like.
fn guess(expr: &str) -> ScheduleKind {
    let upper = expr.trim().to_ascii_uppercase();
    if upper.contains("FREQ=") || ["RRULE", "DTSTART", "RDATE", "EXDATE"].iter().any(|name| upper.starts_with(name)) {
        return ScheduleKind::Rrule;
    }
    let dated =
        upper.len() >= 10 && upper.as_bytes()[..4].iter().all(u8::is_ascii_digit) && upper.as_bytes()[4] == b'-';
    if upper.starts_with('+') || dated {
        ScheduleKind::Once
    } else if parse_duration(&upper.to_ascii_lowercase()).is_ok() || parse_duration(&upper).is_ok() {
        ScheduleKind::Interval
    } else {
        ScheduleKind::Cron
    }
}

impl Preview {
    fn write(&self, out: &mut impl Write, after: Timestamp) -> io::Result<()> {
        let mut lines = self.schedule_expr.lines();
        writeln!(out, "{:<10}{}", self.schedule_kind.as_str(), lines.next().unwrap_or_default())?;
        for line in lines {
            writeln!(out, "{:<10}{line}", "")?;
        }
        writeln!(out, "{:<10}{}", "means", self.sentence)?;
        writeln!(out, "{:<10}{} ({})", "zone", self.timezone, self.timezone_from)?;
        for (n, occurrence) in self.next.iter().enumerate() {
            let label = if n == 0 { "next" } else { "" };
            let mark = match occurrence.dst {
                Some(DstShift::Gap) => "  ! shifted by daylight saving",
                Some(DstShift::Fold) => "  ! first of two passes",
                None => "",
            };
            let wait = away(after, occurrence.at);
            writeln!(out, "{label:<10}{}  {}  {wait}{mark}", occurrence.local, occurrence.at)?;
        }
        for warning in &self.warnings {
            writeln!(out, "{:<10}{warning}", "warning")?;
        }
        Ok(())
    }
}

/// How far off, roughly: `in 2d 3h`.
fn away(from: Timestamp, to: Timestamp) -> String {
    let Ok(span) = from.until((Unit::Hour, to)) else { return String::new() };
    let (hours, minutes, seconds) = (span.get_hours(), span.get_minutes(), span.get_seconds());
    match (hours / 24, hours % 24, minutes, seconds) {
        (days @ 1.., hours, ..) => format!("in {days}d {hours}h"),
        (_, hours @ 1.., minutes, _) => format!("in {hours}h {minutes}m"),
        (_, _, minutes @ 1.., seconds) => format!("in {minutes}m {seconds}s"),
        (.., seconds) => format!("in {seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        next: NextArgs,
    }

    fn shown(line: &[&str]) -> Result<Preview, Faults> {
        let args = Line::try_parse_from([&["next"], line].concat()).unwrap().next;
        let now = "2026-11-23T06:00:00Z".parse().unwrap();
        preview(&args, now, Some(&Zone::find("Europe/Chisinau").unwrap()))
    }

    #[test]
    fn the_kind_is_guessed_from_the_form() {
        for (expr, kind) in [
            ("30 8 * * MON-FRI", ScheduleKind::Cron),
            ("@daily", ScheduleKind::Cron),
            ("-1 * * * *", ScheduleKind::Cron),
            ("FREQ=DAILY", ScheduleKind::Rrule),
            ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY", ScheduleKind::Rrule),
            ("+20m", ScheduleKind::Once),
            ("2026-12-24T18:00", ScheduleKind::Once),
            ("15m", ScheduleKind::Interval),
            ("PT15M", ScheduleKind::Interval),
        ] {
            assert_eq!(guess(expr), kind, "{expr}");
        }
    }

    #[test]
    fn occurrences_are_shown_in_local_time_with_what_daylight_saving_does() {
        let preview = shown(&["30 3 * * *", "--after", "2027-03-27T12:00:00Z", "--count", "2"]).unwrap();
        assert_eq!(preview.sentence, "Every day at 03:30, Europe/Chisinau");
        assert_eq!(preview.next[0].local, "2027-03-28T04:30:00+03:00");
        assert!(preview.warnings[0].contains("does not exist"), "{:?}", preview.warnings);

        let mut text = Vec::new();
        preview.write(&mut text, "2027-03-27T12:00:00Z".parse().unwrap()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("zone      Europe/Chisinau (this machine's)"), "{text}");
        assert!(text.contains("2027-03-28T04:30:00+03:00  2027-03-28T01:30:00Z  in 13h 30m  ! shifted"), "{text}");
    }

    #[test]
    fn a_bad_zone_and_a_bad_schedule_are_refused_with_a_mend() {
        assert!(shown(&["0 0 * * *", "--tz", "Europe/Kishinev"]).unwrap_err().to_string().contains("Europe/Chisinau"));
        assert!(shown(&["60 * * * *"]).unwrap_err().to_string().contains("(try 0 * * * *)"));
    }
}
