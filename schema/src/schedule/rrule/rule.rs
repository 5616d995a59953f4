//! One RRULE, read strictly: what RFC 5545 section 3.3.10 forbids is refused, with the part and the reason.

use std::fmt::Write as _;

use super::{
    super::{EXPR, GaveUp, civil},
    moment,
    values::{bad_weekday, by_day, freq, list, number, until, weekday},
};
use crate::{
    fault::{Fault, FaultCode, nearest},
    limits::Limits,
    time::Zone,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Freq {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
    Minutely,
    Secondly,
}

impl Freq {
    pub(super) const ALL: [(&str, Self); 7] = [
        ("YEARLY", Self::Yearly),
        ("MONTHLY", Self::Monthly),
        ("WEEKLY", Self::Weekly),
        ("DAILY", Self::Daily),
        ("HOURLY", Self::Hourly),
        ("MINUTELY", Self::Minutely),
        ("SECONDLY", Self::Secondly),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, freq)| *freq == self).map_or("", |(name, _)| name)
    }
}

pub(super) const DAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// The parts of a rule; an empty list is a part that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) freq: Freq,
    pub(super) interval: u32,
    pub(super) count: Option<u32>,
    /// An instant, inclusive.
    pub(super) until: Option<i64>,
    /// 0 = Monday.
    pub(super) week_start: u8,
    pub(super) by_second: Vec<u8>,
    pub(super) by_minute: Vec<u8>,
    pub(super) by_hour: Vec<u8>,
    /// Ordinal (0 is every) and day, 0 = Monday.
    pub(super) by_day: Vec<(i8, u8)>,
    pub(super) by_month_day: Vec<i8>,
    pub(super) by_year_day: Vec<i16>,
    pub(super) by_week: Vec<i8>,
    pub(super) by_month: Vec<u8>,
    pub(super) by_set_pos: Vec<i16>,
}

const PARTS: [&str; 14] = [
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "WKST",
    "BYSECOND",
    "BYMINUTE",
    "BYHOUR",
    "BYDAY",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYMONTH",
    "BYSETPOS",
];

pub(super) fn bad(message: impl Into<String>) -> Fault {
    Fault::new(EXPR, FaultCode::BadRrule, message)
}

impl Rule {
    /// Reads the value of an RRULE line. `zone` is DTSTART's, to say what a local UNTIL would be in UTC.
    pub(super) fn parse(text: &str, zone: &Zone, limits: &Limits) -> Result<Self, Vec<Fault>> {
        let mut rule = Self {
            freq: Freq::Yearly,
            interval: 1,
            count: None,
            until: None,
            week_start: 0,
            by_second: Vec::new(),
            by_minute: Vec::new(),
            by_hour: Vec::new(),
            by_day: Vec::new(),
            by_month_day: Vec::new(),
            by_year_day: Vec::new(),
            by_week: Vec::new(),
            by_month: Vec::new(),
            by_set_pos: Vec::new(),
        };
        if text.is_empty() {
            return Err(vec![bad("the RRULE is empty; it needs a FREQ").suggest("FREQ=DAILY;BYHOUR=8;BYMINUTE=30")]);
        }
        let mut faults = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for part in text.split(';') {
            let Some((name, value)) = part.split_once('=') else {
                faults.push(bad(match part {
                    "" => "an empty part: a `;` too many".to_owned(),
                    part => format!("`{part}` is not `NAME=value`"),
                }));
                continue;
            };
            let (name, value) = (name.to_ascii_uppercase(), value.to_ascii_uppercase());
            if seen.contains(&name) {
                let mend = if name.starts_with("BY") {
                    "put the values into one list, such as `BYHOUR=8,17`"
                } else {
                    "drop one"
                };
                faults.push(bad(format!("{name} stands twice; {mend}")));
                continue;
            }
            if let Err(fault) = rule.set(&name, &value, zone, limits) {
                faults.push(fault);
            }
            seen.push(name);
        }
        if !seen.iter().any(|name| name == "FREQ") {
            faults.push(bad("FREQ is missing: YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY, MINUTELY or SECONDLY"));
        }
        if faults.is_empty() {
            faults = rule.check();
        }
        if faults.is_empty() { Ok(rule) } else { Err(faults) }
    }

    fn set(&mut self, name: &str, value: &str, zone: &Zone, limits: &Limits) -> Result<(), Fault> {
        match name {
            "FREQ" => self.freq = freq(value)?,
            "INTERVAL" => self.interval = number(name, value, 1, i64::from(u32::MAX))?,
            "COUNT" => {
                self.count = Some(number(name, value, 1, i64::from(u32::MAX))?);
                if self.count > Some(limits.rrule_count) {
                    let message =
                        format!("COUNT={value} is above the limit of {}; use UNTIL or no end", limits.rrule_count);
                    return Err(Fault::new(EXPR, FaultCode::Limit, message));
                }
            }
            "UNTIL" => self.until = Some(until(value, zone)?),
            "WKST" => self.week_start = weekday(value).ok_or_else(|| bad_weekday(name, value))?,
            "BYSECOND" => {
                // Without leap seconds, second 60 is 59 (RFC 5545 section 3.3.12).
                self.by_second =
                    list(name, value, 0, 60, false)?.into_iter().map(|second: u8| second.min(59)).collect();
                self.by_second.dedup();
            }
            "BYMINUTE" => self.by_minute = list(name, value, 0, 59, false)?,
            "BYHOUR" => self.by_hour = list(name, value, 0, 23, false)?,
            "BYDAY" => self.by_day = by_day(value)?,
            "BYMONTHDAY" => self.by_month_day = list(name, value, 1, 31, true)?,
            "BYYEARDAY" => self.by_year_day = list(name, value, 1, 366, true)?,
            "BYWEEKNO" => self.by_week = list(name, value, 1, 53, true)?,
            "BYMONTH" => self.by_month = list(name, value, 1, 12, false)?,
            "BYSETPOS" => self.by_set_pos = list(name, value, 1, 366, true)?,
            _ => {
                let fault = bad(format!("`{name}` is not a part of an RRULE; there are {}", PARTS.join(", ")));
                return Err(match nearest(name, PARTS) {
                    Some(near) => fault.suggest(format!("{near}={value}")),
                    None => fault,
                });
            }
        }
        Ok(())
    }

    /// What parts may not stand together.
    fn check(&self) -> Vec<Fault> {
        let freq = self.freq.name();
        let mut faults = Vec::new();
        let mut refuse = |wrong: bool, message: String| {
            if wrong {
                faults.push(bad(message));
            }
        };
        refuse(
            self.count.is_some() && self.until.is_some(),
            "COUNT and UNTIL must not both stand in a rule; drop one".to_owned(),
        );
        refuse(
            !self.by_week.is_empty() && self.freq != Freq::Yearly,
            format!("BYWEEKNO goes only with FREQ=YEARLY, not with {freq}"),
        );
        refuse(
            !self.by_year_day.is_empty() && matches!(self.freq, Freq::Monthly | Freq::Weekly | Freq::Daily),
            format!("BYYEARDAY does not go with FREQ={freq}; use FREQ=YEARLY"),
        );
        refuse(
            !self.by_month_day.is_empty() && self.freq == Freq::Weekly,
            "BYMONTHDAY does not go with FREQ=WEEKLY; use FREQ=MONTHLY or DAILY".to_owned(),
        );
        let ordinal = self.by_day.iter().find(|(ordinal, _)| *ordinal != 0);
        if let Some((ordinal, day)) = ordinal {
            let text = format!("{ordinal}{}", DAYS[usize::from(*day)]);
            refuse(
                !matches!(self.freq, Freq::Monthly | Freq::Yearly),
                format!("BYDAY={text}: a number before the day goes only with FREQ=MONTHLY or YEARLY, not with {freq}"),
            );
            refuse(
                !self.by_week.is_empty(),
                format!("BYDAY={text}: a number before the day does not go with BYWEEKNO"),
            );
        }
        if self.freq == Freq::Monthly
            && let Some((ordinal, _)) = self.by_day.iter().find(|(ordinal, _)| ordinal.abs() > 5)
        {
            refuse(
                true,
                format!("BYDAY ordinal {ordinal}: no month has more than five of a weekday; it never matches"),
            );
        }
        let lists = [
            self.by_second.is_empty(),
            self.by_minute.is_empty(),
            self.by_hour.is_empty(),
            self.by_day.is_empty(),
            self.by_month_day.is_empty(),
            self.by_year_day.is_empty(),
            self.by_week.is_empty(),
            self.by_month.is_empty(),
        ];
        refuse(
            !self.by_set_pos.is_empty() && lists.iter().all(|empty| *empty),
            "BYSETPOS picks from what another BY part yields, and there is none".to_owned(),
        );
        faults
    }

    /// Where no DTSTART was written, nobody meant the seconds of the moment of creation: below the finest time part
    /// that is named, everything is zero.
    pub(super) fn zero_below_named(&mut self) {
        if self.freq < Freq::Minutely && !self.by_hour.is_empty() && self.by_minute.is_empty() {
            self.by_minute = vec![0];
        }
        if self.freq < Freq::Secondly && !self.by_minute.is_empty() && self.by_second.is_empty() {
            self.by_second = vec![0];
        }
    }

    /// The rule with the parts that DTSTART implies made explicit, for days.
    pub(super) fn with_implied_days(&self, start: i64) -> Self {
        let mut rule = self.clone();
        let none = rule.by_day.is_empty()
            && rule.by_month_day.is_empty()
            && rule.by_year_day.is_empty()
            && rule.by_week.is_empty();
        if none {
            let date = civil::to_datetime(start).date();
            match rule.freq {
                Freq::Yearly => {
                    if rule.by_month.is_empty() {
                        rule.by_month = vec![date.month().unsigned_abs()];
                    }
                    rule.by_month_day = vec![date.day()];
                }
                Freq::Monthly => rule.by_month_day = vec![date.day()],
                Freq::Weekly => {
                    let day = civil::weekday(start.div_euclid(civil::DAY));
                    rule.by_day = vec![(0, u8::try_from(day).expect("below 7"))];
                }
                Freq::Daily | Freq::Hourly | Freq::Minutely | Freq::Secondly => {}
            }
        }
        rule
    }

    /// As stored: parts in one order, defaults left out.
    pub(super) fn text(&self) -> String {
        let mut text = format!("FREQ={}", self.freq.name());
        let mut put = |name: &str, value: String| {
            if !value.is_empty() {
                write!(text, ";{name}={value}").expect("a String takes everything");
            }
        };
        let day = |day: &(i8, u8)| match day.0 {
            0 => DAYS[usize::from(day.1)].to_owned(),
            ordinal => format!("{ordinal}{}", DAYS[usize::from(day.1)]),
        };
        put("INTERVAL", if self.interval == 1 { String::new() } else { self.interval.to_string() });
        put("COUNT", self.count.map(|count| count.to_string()).unwrap_or_default());
        put("UNTIL", self.until.map(moment::utc_text).unwrap_or_default());
        put("BYMONTH", join(&self.by_month));
        put("BYWEEKNO", join(&self.by_week));
        put("BYYEARDAY", join(&self.by_year_day));
        put("BYMONTHDAY", join(&self.by_month_day));
        put("BYDAY", self.by_day.iter().map(day).collect::<Vec<_>>().join(","));
        put("BYHOUR", join(&self.by_hour));
        put("BYMINUTE", join(&self.by_minute));
        put("BYSECOND", join(&self.by_second));
        put("BYSETPOS", join(&self.by_set_pos));
        put("WKST", if self.week_start == 0 { String::new() } else { DAYS[usize::from(self.week_start)].to_owned() });
        text
    }
}

fn join<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// That COUNT could not be counted out.
pub(super) fn too_long(rule: &Rule, gave_up: GaveUp) -> Fault {
    let message = format!(
        "`{}`: where COUNT ends could not be found in {} steps; use UNTIL, or a smaller COUNT",
        rule.text(),
        gave_up.steps
    );
    Fault::new(EXPR, FaultCode::Limit, message)
}

/// That the search for a set's first occurrence was too long.
pub(super) fn too_sparse(rule: &Rule, gave_up: GaveUp) -> Fault {
    let message = format!(
        "`{}` has no occurrence that could be found in {} steps: it fires never, or less than once in lifetimes",
        rule.text(),
        gave_up.steps
    );
    Fault::new(EXPR, FaultCode::NeverFires, message)
}
