//! The shape of an expression: five fields or a macro, and what people write instead.

use super::fields::bad;
use crate::fault::{Fault, nearest};

pub(super) fn expand_macro(text: &str) -> Result<&'static str, Fault> {
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

pub(super) fn wrong_count(text: &str, parts: &[&str]) -> Fault {
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
