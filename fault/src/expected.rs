//! The occurrences that must happen, by plain arithmetic: nothing here knows the project's schedules.
//!
//! Every schedule that the lab uses is a first instant and a step of whole seconds. That covers intervals with a
//! `starts_at`, `once`, and cron's `*/n` minutes in UTC, and leaves nothing to get wrong twice in the same way.

use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::id::TaskId;

/// What a task's schedule had to yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub task: TaskId,
    pub times: Times,
}

/// Instants `first`, `first + every`, … before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    first: Timestamp,
    every: SignedDuration,
    until: Timestamp,
}

impl Times {
    /// Every so many seconds from `first` on, which is one of them.
    pub fn every(seconds: u32, first: Timestamp, until: Timestamp) -> Self {
        Self { first, every: SignedDuration::from_secs(seconds.into()), until }
    }

    /// One instant.
    pub fn once(at: Timestamp) -> Self {
        Self::every(1, at, at + SignedDuration::from_secs(1))
    }

    /// Cron's `*/minutes * * * *` in UTC from `from` on; `minutes` divides 60.
    ///
    /// # Panics
    /// `from` is within an hour of the end of time.
    pub fn cron_minutes(minutes: u32, from: Timestamp, until: Timestamp) -> Self {
        let step = i64::from(minutes) * 60;
        let at = from.as_second() + i64::from(from.subsec_nanosecond() > 0);
        let first = at.div_euclid(step) * step + if at.rem_euclid(step) == 0 { 0 } else { step };
        let first = Timestamp::from_second(first).expect("an instant near another one is an instant");
        Self::every(minutes * 60, first, until)
    }

    pub fn instants(self) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(Some(self.first), move |at| Some(*at + self.every)).take_while(move |at| *at < self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn texts(times: Times) -> Vec<String> {
        times.instants().map(|at| at.to_string()).collect()
    }

    #[test]
    fn the_first_instant_counts_and_the_end_does_not() {
        let times = Times::every(2, at("2027-01-01T00:00:00Z"), at("2027-01-01T00:00:04Z"));
        assert_eq!(texts(times), ["2027-01-01T00:00:00Z", "2027-01-01T00:00:02Z"]);
        assert_eq!(texts(Times::once(at("2027-01-01T00:00:00Z"))), ["2027-01-01T00:00:00Z"]);
    }

    #[test]
    fn cron_minutes_are_those_that_divide_the_hour() {
        let until = at("2027-01-01T00:21:00Z");
        assert_eq!(
            texts(Times::cron_minutes(10, at("2027-01-01T00:00:00.5Z"), until)),
            ["2027-01-01T00:10:00Z", "2027-01-01T00:20:00Z"]
        );
        assert_eq!(texts(Times::cron_minutes(10, at("2027-01-01T00:10:00Z"), until)).len(), 2);
    }
}
