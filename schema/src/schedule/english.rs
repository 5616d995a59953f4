//! The words that sentences about schedules are made of.

pub(crate) const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn join<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// Numbers, ascending; three or more in a row as `9 to 17`.
pub(crate) fn runs(values: &[u8], show: impl Fn(u8) -> String) -> String {
    let mut items = Vec::new();
    for run in values.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [first, .., last] if run.len() > 2 => items.push(format!("{} to {}", show(*first), show(*last))),
            run => items.extend(run.iter().map(|value| show(*value))),
        }
    }
    join(&items)
}

/// `1st`, `22nd`, `13th`.
pub(crate) fn ordinal(n: u32) -> String {
    let suffix = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

/// `first`, `3rd`; negative from the end: `last`, `3rd last`.
pub(crate) fn position(n: i32) -> String {
    match n {
        1 => "first".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        4 => "fourth".to_owned(),
        5 => "fifth".to_owned(),
        -1 => "last".to_owned(),
        n if n < 0 => format!("{} last", ordinal(n.unsigned_abs())),
        n => ordinal(n.unsigned_abs()),
    }
}

/// Days of the week, 0 = Monday, ascending.
pub(crate) fn weekdays(days: &[u8]) -> String {
    match days {
        [0, 1, 2, 3, 4] => "weekday".to_owned(),
        [0, 1, 2, 3, 4, 5, 6] => "day".to_owned(),
        days => join(&days.iter().map(|day| WEEKDAYS[usize::from(*day)]).collect::<Vec<_>>()),
    }
}

pub(crate) fn months(months: &[u8]) -> String {
    runs(months, |month| MONTHS[usize::from(month - 1)].to_owned())
}

/// `08:30`, or `08:30:15`.
pub(crate) fn clock(hour: u8, minute: u8, second: u8) -> String {
    if second == 0 { format!("{hour:02}:{minute:02}") } else { format!("{hour:02}:{minute:02}:{second:02}") }
}

/// The times of the day that three lists make, as a clause: `at 08:30 and 17:30`.
pub(crate) fn times(hours: &[u8], minutes: &[u8], seconds: &[u8]) -> String {
    if hours.len() * minutes.len() * seconds.len() <= 8 {
        let mut all = Vec::new();
        for hour in hours {
            for minute in minutes {
                all.extend(seconds.iter().map(|second| clock(*hour, *minute, *second)));
            }
        }
        return format!("at {}", join(&all));
    }
    let mut clauses = Vec::new();
    if seconds != [0] {
        clauses.push(within("second", seconds, 60));
    }
    clauses.push(within("minute", minutes, 60));
    clauses.push(if hours.len() == 24 {
        "every hour".to_owned()
    } else {
        format!("{} {}", if hours.len() == 1 { "hour" } else { "hours" }, runs(hours, |hour| format!("{hour:02}")))
    });
    format!("at {}", clauses.join(" of "))
}

/// `minute 7`, `minutes 0, 15 and 30`, `every minute`.
pub(crate) fn within(unit: &str, values: &[u8], size: usize) -> String {
    match values {
        values if values.len() == size => format!("every {unit}"),
        [only] => format!("{unit} {only}"),
        values => format!("{unit}s {}", runs(values, |value| value.to_string())),
    }
}

/// With its first letter large.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
