//! The five fields of a cron expression, read strictly.
//!
//! Every field becomes an ascending list of values, so that what matches them needs no rules of its own; the day
//! fields may instead hold one of the marks `L`, `L-3`, `15W`, `LW`, `5L` or `MON#2`, alone. All fields are judged
//! before anything is refused.

use super::super::EXPR;
use crate::fault::{Fault, FaultCode, nearest};

/// One field: its range, and how it is called in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

pub(crate) const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
pub(crate) const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Field {
    const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::DayOfMonth, Self::Month, Self::DayOfWeek];

    const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
        }
    }

    const fn range(self) -> (u8, u8) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            // 7 is read as 0, Sunday.
            Self::DayOfWeek => (0, 7),
        }
    }

    /// How many different values there are.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Minute => 60,
            Self::Hour => 24,
            Self::DayOfMonth => 31,
            Self::Month => 12,
            Self::DayOfWeek => 7,
        }
    }

    const fn values(self) -> &'static str {
        match self {
            Self::Minute => "minutes are 0 to 59",
            Self::Hour => "hours are 0 to 23",
            Self::DayOfMonth => "days of the month are 1 to 31",
            Self::Month => "months are 1 to 12 or JAN to DEC",
            Self::DayOfWeek => "days of the week are 0 to 7 (0 and 7 are Sunday) or SUN to SAT",
        }
    }

    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Minute | Self::Hour | Self::DayOfMonth => &[],
            Self::Month => &MONTHS,
            Self::DayOfWeek => &DAYS,
        }
    }
}

/// Days that depend on the month they lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `L`, `L-3`: so many days before the last of the month.
    Last(u8),
    /// `15W`: the weekday (Monday to Friday) nearest to a day, within its month.
    NearestWeekday(u8),
    /// `LW`: the last weekday of the month.
    LastWeekday,
    /// `5L`: the last such day of the week in the month.
    LastOf(u8),
    /// `MON#2`.
    Nth(u8, u8),
}

/// What a field allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Values {
    /// As normalised.
    pub(crate) text: String,
    /// Begins with `*`, which is what crontab(5) calls unrestricted.
    pub(crate) star: bool,
    /// Ascending, without repeats; empty where there is a mark.
    pub(crate) list: Vec<u8>,
    pub(crate) mark: Option<Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) minutes: Values,
    pub(crate) hours: Values,
    pub(crate) days: Values,
    pub(crate) months: Values,
    pub(crate) weekdays: Values,
}

impl Fields {
    /// # Errors
    /// One fault for the shape, or one for each bad field.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let expanded = if text.starts_with('@') { expand_macro(text).map_err(|fault| vec![fault])? } else { text };
        let parts: Vec<&str> = expanded.split([' ', '\t']).filter(|part| !part.is_empty()).collect();
        let &[minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(vec![wrong_count(text, &parts)]);
        };

        let mut faults = Vec::new();
        let mut read = |field: Field, part: &str| {
            parse_field(field, part).unwrap_or_else(|refusal| {
                faults.push(refusal.into_fault(field, part, &parts));
                Values { text: String::new(), star: true, list: Vec::new(), mark: None }
            })
        };
        let [minutes, hours, days, months, weekdays] = [
            read(Field::Minute, minute),
            read(Field::Hour, hour),
            read(Field::DayOfMonth, day),
            read(Field::Month, month),
            read(Field::DayOfWeek, weekday),
        ];
        if faults.is_empty() { Ok(Self { minutes, hours, days, months, weekdays }) } else { Err(faults) }
    }

    /// Whether it goes by elapsed real time: its minute or hour field begins with `*` or has every value.
    pub(crate) fn is_wildcard(&self) -> bool {
        let wild = |values: &Values, field: Field| values.star || values.list.len() == field.size();
        wild(&self.minutes, Field::Minute) || wild(&self.hours, Field::Hour)
    }

    pub(crate) fn text(&self) -> String {
        [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays].map(|it| it.text.as_str()).join(" ")
    }
}

fn bad(message: String) -> Fault {
    Fault::new(EXPR, FaultCode::BadCron, message)
}

fn expand_macro(text: &str) -> Result<&'static str, Fault> {
    const MACROS: [(&str, &str); 7] = [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ];
    let known = MACROS.map(|(name, _)| name);
    if let Some((_, fields)) = MACROS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        return Ok(fields);
    }
    let (name, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let fault = if name.eq_ignore_ascii_case("@every") {
        let example = if rest.trim().is_empty() { "15m" } else { rest.trim() };
        return Err(bad("`@every` is not crontab: use schedule_kind `interval` with a duration".to_owned())
            .suggest(format!("schedule_kind: interval, schedule_expr: {example}")));
    } else if name.eq_ignore_ascii_case("@reboot") {
        bad("`@reboot` names no time; use schedule_kind `manual` or `event`".to_owned())
    } else if !rest.is_empty() {
        bad(format!("`{name}` stands alone; `{}` after it is one too many", rest.trim()))
    } else {
        bad(format!("`{name}` is not known; there are {}", known.join(", ")))
    };
    Err(match nearest(name, known) {
        Some(near) => fault.suggest(near),
        None => fault,
    })
}

fn wrong_count(text: &str, parts: &[&str]) -> Fault {
    const FIVE: &str = "a cron expression has five fields: minute, hour, day of month, month, day of week";
    if text.is_empty() {
        return bad(format!("the expression is empty; {FIVE}")).suggest("30 8 * * MON-FRI");
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() && !matches!(c, ' ' | '\t')) {
        return bad(format!(
            "the character U+{:04X} cannot stand in a cron expression; {FIVE}, separated by plain spaces",
            u32::from(odd)
        ));
    }
    if let Some(comment) = parts.iter().position(|part| part.starts_with('#')) {
        return bad(format!("`{}`: a comment cannot stand in an expression; {FIVE}", parts[comment..].join(" ")))
            .suggest(parts[..comment].join(" "));
    }
    let count = parts.len();
    if count == 6 && parts[5].parse::<u16>().is_ok_and(|year| year >= 1970) {
        return bad(format!(
            "6 fields, the last a year: `{}`; {FIVE}; for one date use schedule_kind `once`",
            parts[5]
        ))
        .suggest(parts[..5].join(" "));
    }
    if count == 6 || count == 7 {
        let fault = bad(format!(
            "{count} fields, it seems with seconds; {FIVE}. For seconds use schedule_kind `interval`, such as `30s`"
        ));
        return match parts[0].split_once('/') {
            Some((_, step)) if step.parse::<u8>().is_ok_and(|step| step > 0) => {
                fault.suggest(format!("schedule_kind: interval, schedule_expr: {step}s"))
            }
            Some(_) => fault.suggest("schedule_kind: interval, schedule_expr: 30s"),
            None if parts[0] == "*" => fault.suggest("schedule_kind: interval, schedule_expr: 1s"),
            None => fault.suggest(parts[1..6].join(" ")),
        };
    }
    let plural = if count == 1 { "field" } else { "fields" };
    let fault = bad(format!("`{text}` has {count} {plural}; {FIVE}, separated by spaces"));
    if count < 5 && !parts.iter().any(|part| part.contains([';', '_'])) {
        let mut filled: Vec<&str> = parts.to_vec();
        filled.resize(5, "*");
        return fault.suggest(filled.join(" "));
    }
    fault
}

/// Why a field is refused, and what to put in its place.
struct Refusal {
    why: String,
    instead: Option<String>,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), instead: None }
    }

    fn instead(mut self, instead: impl Into<String>) -> Self {
        self.instead = Some(instead.into());
        self
    }

    fn into_fault(self, field: Field, part: &str, parts: &[&str]) -> Fault {
        let position = Field::ALL.iter().position(|it| *it == field).expect("every field is listed");
        let fault = bad(format!("{} field `{part}`: {}", field.name(), self.why));
        let Some(instead) = self.instead else { return fault };
        let mut mended: Vec<&str> = parts.to_vec();
        mended[position] = &instead;
        fault.suggest(mended.join(" "))
    }
}

fn parse_field(field: Field, part: &str) -> Result<Values, Refusal> {
    if let Some(odd) = part.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(Refusal::new(format!("the character `{}` is not allowed here", odd.escape_default())));
    }
    let upper = part.to_ascii_uppercase();
    if let Some(mark) = parse_mark(field, &upper)? {
        return Ok(Values { text: upper, star: false, list: Vec::new(), mark: Some(mark) });
    }
    let mut present = [false; 60];
    let mut texts = Vec::new();
    for item in upper.split(',') {
        let (text, values) = parse_item(field, item)?;
        texts.push(text);
        for value in values {
            present[usize::from(value)] = true;
        }
    }
    let list = (0..60_u8).filter(|value| present[usize::from(*value)]).collect();
    Ok(Values { text: texts.join(","), star: upper.starts_with('*'), list, mark: None })
}

/// One item of a list: `*`, `5`, `1-5`, each with `/step` where that makes sense.
fn parse_item(field: Field, item: &str) -> Result<(String, Vec<u8>), Refusal> {
    if item.is_empty() {
        return Err(Refusal::new("an item of the list is empty (a comma too many)"));
    }
    if item == "?" {
        let refusal = Refusal::new("`?` is not crontab; write `*`");
        return Err(if matches!(field, Field::DayOfMonth | Field::DayOfWeek) { refusal.instead("*") } else { refusal });
    }
    let (base, step) = match item.split_once('/') {
        Some((base, step)) => (base, Some(parse_step(field, step)?)),
        None => (item, None),
    };
    let (least, most) = field.range();
    let (start, end, text) = if base == "*" {
        (least, most, "*".to_owned())
    } else if let Some(rest) = base.strip_prefix('*') {
        return Err(match rest.parse::<u8>() {
            Ok(step) if step > 0 => {
                Refusal::new(format!("`{base}` is neither `*` nor a step")).instead(format!("*/{step}"))
            }
            _ => Refusal::new(format!("`*` stands alone or with a step, such as `*/5`; `{base}` is neither")),
        });
    } else if let Some((start, end)) = base.split_once('-') {
        if start.is_empty() {
            return Err(Refusal::new(format!("`{item}` has no start, or is negative; {}", field.values())));
        }
        if end.is_empty() {
            return Err(Refusal::new(format!("the range `{base}` has no end")));
        }
        if end.contains('-') {
            return Err(Refusal::new(format!("`{base}` is more than one range; a range is `first-last`")));
        }
        let (start, from) = parse_value(field, start)?;
        let (end, to) = parse_value(field, end)?;
        (start, end, format!("{from}-{to}"))
    } else {
        let (value, text) = match base {
            "" => {
                return Err(Refusal::new("nothing stands before the `/`; write `*` there").instead(format!("*{item}")));
            }
            base => parse_value(field, base)?,
        };
        if let Some(step) = step {
            let instead = if value == least { format!("*/{step}") } else { format!("{value}-{most}/{step}") };
            return Err(Refusal::new(format!("`{item}`: a step follows `*` or a range")).instead(instead));
        }
        (value, value, text)
    };
    let text = step.map_or(text.clone(), |step| format!("{text}/{step}"));
    Ok((text, walk(field, start, end, step.unwrap_or(1))))
}

/// The values from `start` to `end` in steps; past the end of the field where the range wraps.
fn walk(field: Field, start: u8, end: u8, step: u8) -> Vec<u8> {
    let (least, _) = field.range();
    let size = u8::try_from(field.size()).expect("no field has more than 60 values");
    // 7 at the start of a range is the Sunday that begins a week, not the one that ends it.
    let start = if field == Field::DayOfWeek && start == 7 && end < 7 { 0 } else { start };
    let end = if end < start { end + size } else { end };
    (start..=end).step_by(usize::from(step)).map(|value| (value - least) % size + least).collect()
}

fn parse_step(field: Field, text: &str) -> Result<u8, Refusal> {
    if text.contains('/') {
        return Err(Refusal::new("more than one `/`"));
    }
    let wrong = || Refusal::new(format!("the step `{text}` is not a whole number above 0"));
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let step: u32 = text.parse().unwrap_or(u32::MAX);
    match u8::try_from(step) {
        Ok(0) => Err(Refusal::new("a step of 0 never moves; the least step is 1")),
        Ok(small) if usize::from(small) <= field.size() => Ok(small),
        _ if field == Field::Minute => Err(Refusal::new(format!(
            "a step of {text} minutes does not fit into an hour; for every {text} minutes use schedule_kind `interval` with `{text}m`"
        ))),
        _ if field == Field::Hour => Err(Refusal::new(format!(
            "a step of {text} hours does not fit into a day; for every {text} hours use schedule_kind `interval` with `{text}h`"
        ))),
        _ => Err(Refusal::new(format!("a step of {text} is more than the field has; {}", field.values()))),
    }
}

/// A number or a name, and its normalised text.
fn parse_value(field: Field, text: &str) -> Result<(u8, String), Refusal> {
    let (least, most) = field.range();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u8>() {
            Ok(value) if (least..=most).contains(&value) => Ok((value, value.to_string())),
            _ => {
                let refusal = Refusal::new(format!("{text} is out of range; {}", field.values()));
                Err(match (field, text) {
                    (Field::Minute, "60") | (Field::Hour, "24") => refusal.instead("0"),
                    (Field::DayOfMonth | Field::Month, "0") => refusal.instead("1"),
                    (Field::DayOfMonth, "32") => refusal.instead("L"),
                    _ => refusal,
                })
            }
        };
    }
    if text.contains('*') {
        return Err(Refusal::new("`*` is every value and cannot be one end of a range"));
    }
    let names = field.names();
    if let Some(index) = names.iter().position(|name| *name == text) {
        let index = u8::try_from(index).expect("at most twelve names");
        return Ok((index + least, text.to_owned()));
    }
    let refusal = Refusal::new(format!("`{text}` is not known; {}", field.values()));
    let known = |names: &'static [&'static str]| {
        names.iter().copied().find(|name| text.len() >= 2 && (text.starts_with(name) || name.starts_with(text)))
    };
    Err(if let Some(name) = known(names).or_else(|| nearest(text, names.iter().copied())) {
        refusal.instead(name)
    } else if let Some(other) = Field::ALL.into_iter().find(|other| other.names().contains(&text)) {
        Refusal::new(format!("`{text}` is a name for the {} field; {}", other.name(), field.values()))
    } else if text == "H" {
        Refusal::new("`H` is not crontab; to spread runs set `jitter`".to_owned())
    } else {
        refusal
    })
}

/// `L`, `L-3`, `15W`, `LW`; `5L`, `MON#2`. `None` where the part is an ordinary list.
fn parse_mark(field: Field, part: &str) -> Result<Option<Mark>, Refusal> {
    let marked = match field {
        Field::Minute | Field::Hour | Field::Month => false,
        Field::DayOfMonth => part.contains(['L', 'W']),
        Field::DayOfWeek => part.contains('#') || (part.ends_with('L') && !part.ends_with("JUL")),
    };
    if !marked {
        return Ok(None);
    }
    if part.contains(',') {
        return Err(Refusal::new("`L`, `W` and `#` stand alone, not in a list; use one task for each, or an rrule"));
    }
    if field == Field::DayOfWeek { weekday_mark(part) } else { month_day_mark(part) }.map(Some)
}

fn month_day_mark(part: &str) -> Result<Mark, Refusal> {
    let digits = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u8>().unwrap_or(u8::MAX))
    };
    if part == "L" {
        return Ok(Mark::Last(0));
    }
    if matches!(part, "LW" | "WL") {
        return Ok(Mark::LastWeekday);
    }
    if let Some(rest) = part.strip_prefix("L-") {
        if rest.ends_with('W') {
            return Err(Refusal::new("`L-n` and `W` cannot be combined").instead("LW"));
        }
        return match digits(rest) {
            Some(offset @ 1..=30) => Ok(Mark::Last(offset)),
            Some(0) => Err(Refusal::new("`L-0` is the last day itself").instead("L")),
            _ => Err(Refusal::new("`L-n` counts 1 to 30 days back from the last day, such as `L-3`")),
        };
    }
    match part.strip_suffix('W').map(|day| (day, digits(day))) {
        Some((_, Some(day @ 1..=31))) => Ok(Mark::NearestWeekday(day)),
        Some(("", _)) => Err(Refusal::new("`W` needs a day before it, such as `15W`, or `LW` for the last weekday")),
        Some((day, Some(_))) => Err(Refusal::new(format!("there is no day {day}; days of the month are 1 to 31"))),
        _ => Err(Refusal::new("write `L`, `L-3`, `15W` or `LW`")),
    }
}

fn weekday_mark(part: &str) -> Result<Mark, Refusal> {
    if let Some((day, nth)) = part.split_once('#') {
        if day.is_empty() {
            return Err(Refusal::new(format!("`{part}` has no day before `#`; write `MON#2` for the second Monday")));
        }
        let (day, _) = parse_value(Field::DayOfWeek, day)?;
        return match nth.parse::<u8>() {
            Ok(nth @ 1..=5) if part.len() - part.find('#').expect("it was split there") == 2 => {
                Ok(Mark::Nth(day % 7, nth))
            }
            _ => Err(Refusal::new(format!("`#{nth}`: a month has a first to a fifth of each day; write `#1` to `#5`"))),
        };
    }
    let day = &part[..part.len() - 1];
    if day.is_empty() {
        return Err(Refusal::new(
            "`L` needs a day before it, such as `5L` for the last Friday; for the last day of the month put `L` in the day-of-month field",
        ));
    }
    let (day, _) = parse_value(Field::DayOfWeek, day)?;
    Ok(Mark::LastOf(day % 7))
}
