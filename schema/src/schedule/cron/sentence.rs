//! What a cron expression says, in one English sentence.

use super::{
    super::english::{self, WEEKDAYS, capital, position, runs, within},
    fields::{Field, Fields, Values},
    marks::Mark,
};

/// Without the zone: `Every weekday at 08:30`.
pub(super) fn describe(fields: &Fields) -> String {
    let (minutes, hours) = (&fields.minutes.list, &fields.hours.list);
    let days = days(fields);
    if hours.len() < 24 && minutes.len() < 60 {
        return format!("{} {}", capital(&days), english::times(hours, minutes, &[0]));
    }
    let cadence = cadence(minutes, hours);
    if days == "every day" { capital(&cadence) } else { format!("{}, {days}", capital(&cadence)) }
}

/// Of a wildcard: how often within the day.
fn cadence(minutes: &[u8], hours: &[u8]) -> String {
    let every = match step_of(minutes) {
        Some(1) => "every minute".to_owned(),
        Some(step) => format!("every {step} minutes"),
        None if minutes == [0] && hours.len() == 24 => return "every hour, on the hour".to_owned(),
        None => format!("at {} of every hour", within("minute", minutes, 60)),
    };
    if hours.len() == 24 {
        return every;
    }
    let ranges: Vec<String> = hours
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| format!("from {:02}:00 to {:02}:59", run[0], run[run.len() - 1]))
        .collect();
    format!("{every} {}", english::join(&ranges))
}

/// The step of minutes that begin at 0 and divide the hour.
fn step_of(minutes: &[u8]) -> Option<u8> {
    let step = u8::try_from(60 / minutes.len()).ok().filter(|step| *step > 0 && 60 % minutes.len() == 0)?;
    let even = minutes.iter().zip((0..60).step_by(usize::from(step))).all(|(minute, at)| *minute == at);
    (even && minutes.len() > 1).then_some(step)
}

fn days(fields: &Fields) -> String {
    let any = |values: &Values, field: Field| values.star && values.list.len() == field.size();
    let any_month = fields.months.list.len() == 12;
    let months = if any_month { "every month".to_owned() } else { english::months(&fields.months.list) };
    match (any(&fields.days, Field::DayOfMonth), any(&fields.weekdays, Field::DayOfWeek)) {
        (true, true) if any_month => "every day".to_owned(),
        (true, true) => format!("every day in {months}"),
        (false, true) => format!("on {} of {months}", month_days(&fields.days)),
        (true, false) => {
            let weekdays = weekdays(&fields.weekdays);
            match fields.weekdays.mark {
                Some(_) => format!("on the {weekdays} of {months}"),
                None if any_month => format!("every {weekdays}"),
                None => format!("every {weekdays} in {months}"),
            }
        }
        (false, false) => {
            let dates = format!("on {} of {months}", month_days(&fields.days));
            let weekdays = match fields.weekdays.mark {
                Some(_) => format!("the {}", weekdays(&fields.weekdays)),
                None => format!("every {}", weekdays(&fields.weekdays)),
            };
            let and = fields.days.star || fields.weekdays.star;
            match (and, fields.weekdays.mark) {
                (true, Some(_)) => format!("{dates}, where that is {weekdays} of the month"),
                (true, None) => format!("{dates}, where that is a {}", alternatives(&fields.weekdays)),
                (false, Some(_)) => format!("{dates} and on {weekdays} of {months}"),
                (false, None) if any_month => format!("{dates} and {weekdays}"),
                (false, None) => format!("{dates} and {weekdays} in {months}"),
            }
        }
    }
}

fn month_days(days: &Values) -> String {
    match days.mark {
        Some(Mark::Last(0)) => "the last day".to_owned(),
        Some(Mark::Last(1)) => "the day before the last".to_owned(),
        Some(Mark::Last(offset)) => format!("the day {offset} days before the last"),
        Some(Mark::LastWeekday) => "the last weekday".to_owned(),
        Some(Mark::NearestWeekday(day)) => format!("the weekday nearest to day {day}"),
        _ if days.list.len() == 1 => format!("day {}", days.list[0]),
        _ => format!("days {}", runs(&days.list, |day| day.to_string())),
    }
}

/// Sunday = 0 to Monday = 0.
fn from_monday(day: u8) -> u8 {
    (day + 6) % 7
}

fn ordered(weekdays: &Values) -> Vec<u8> {
    let mut days: Vec<u8> = weekdays.list.iter().map(|day| from_monday(*day)).collect();
    days.sort_unstable();
    days
}

fn weekdays(weekdays: &Values) -> String {
    let name = |day: u8| WEEKDAYS[usize::from(from_monday(day))];
    match weekdays.mark {
        Some(Mark::LastOf(day)) => format!("last {}", name(day)),
        Some(Mark::Nth(day, nth)) => format!("{} {}", position(i32::from(nth)), name(day)),
        _ => english::weekdays(&ordered(weekdays)),
    }
}

fn alternatives(weekdays: &Values) -> String {
    english::join(&ordered(weekdays).iter().map(|day| WEEKDAYS[usize::from(*day)]).collect::<Vec<_>>())
        .replace(" and ", " or ")
}

#[cfg(test)]
mod tests {
    use super::{super::super::english::MONTHS, *};

    #[test]
    fn sentences_are_plain_and_exact() {
        for (expr, sentence) in [
            ("30 8 * * MON-FRI", "Every weekday at 08:30"),
            ("0 9,17 * * *", "Every day at 09:00 and 17:00"),
            ("* * * * *", "Every minute"),
            ("*/15 * * * *", "Every 15 minutes"),
            ("0 * * * *", "Every hour, on the hour"),
            ("7 * * * 6,0", "At minute 7 of every hour, every Saturday and Sunday"),
            ("*/20 9-17 * * 1-5", "Every weekday at minutes 0, 20 and 40 of hours 09 to 17"),
            ("* 9 * * *", "Every minute from 09:00 to 09:59"),
            ("0 0 1 1 *", "On day 1 of January at 00:00"),
            ("0 0 L * *", "On the last day of every month at 00:00"),
            ("0 0 L-3 6-8 *", "On the day 3 days before the last of June to August at 00:00"),
            ("0 0 15W * *", "On the weekday nearest to day 15 of every month at 00:00"),
            ("0 0 * * 5L", "On the last Friday of every month at 00:00"),
            ("0 0 * 3 MON#2", "On the second Monday of March at 00:00"),
            ("0 12 13 * FRI", "On day 13 of every month and every Friday at 12:00"),
            (
                "0 12 */2 * MON",
                "On days 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29 and 31 of every month, where that is a Monday at 12:00",
            ),
            ("*/50 * * * *", "At minutes 0 and 50 of every hour"),
        ] {
            assert_eq!(describe(&Fields::parse(expr).unwrap()), sentence, "{expr}");
        }
    }

    #[test]
    fn every_month_is_named_once() {
        assert_eq!(english::months(&[1, 2, 3, 12]), format!("{} to {} and {}", MONTHS[0], MONTHS[2], MONTHS[11]));
    }
}
