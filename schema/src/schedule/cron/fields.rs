//! The five fields of a cron expression, read strictly.
//!
//! Every field becomes an ascending list of values, so that what matches them needs no rules of its own; the day
//! fields may instead hold one of the marks `L`, `L-3`, `15W`, `LW`, `5L` or `MON#2`, alone. All fields are judged
//! before anything is refused.

use super::{
    super::EXPR,
    marks::{Mark, parse_mark},
    shape::{expand_macro, wrong_count},
};
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

pub(super) fn bad(message: String) -> Fault {
    Fault::new(EXPR, FaultCode::BadCron, message)
}

/// Why a field is refused, and what to put in its place.
pub(super) struct Refusal {
    why: String,
    instead: Option<String>,
}

impl Refusal {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), instead: None }
    }

    pub(super) fn instead(mut self, instead: impl Into<String>) -> Self {
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
pub(super) fn parse_value(field: Field, text: &str) -> Result<(u8, String), Refusal> {
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
