//! The days and months of a zone, as budgets count them: by the wall clock there, whatever the length.

use jiff::{Timestamp, ToSpan as _, civil::Date};

use crate::time::Zone;

/// One local day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// One local month, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(Date);

impl Day {
    pub fn of(at: Timestamp, zone: &Zone) -> Self {
        Self(zone.rules().to_datetime(at).date())
    }

    /// When it begins, and when the next one does. A midnight that a transition leaves out is the instant after it; of
    /// one that comes twice it is the first.
    pub fn bounds(self, zone: &Zone) -> (Timestamp, Timestamp) {
        (begins(self.0, zone), begins(self.0.saturating_add(1.day()), zone))
    }

    /// Every day from that of `first` to that of `last`.
    pub fn through(first: Timestamp, last: Timestamp, zone: &Zone) -> impl Iterator<Item = Self> {
        let last = Self::of(last, zone);
        let next = |day: &Self| day.0.checked_add(1.day()).ok().map(Self);
        std::iter::successors(Some(Self::of(first, zone)), next).take_while(move |day| *day <= last)
    }
}

impl Month {
    pub fn of(at: Timestamp, zone: &Zone) -> Self {
        Self(zone.rules().to_datetime(at).date().first_of_month())
    }

    /// When the next one begins.
    pub fn ends_at(self, zone: &Zone) -> Timestamp {
        begins(self.0.saturating_add(1.month()), zone)
    }

    /// Its first day, as the store keeps it.
    pub fn first_day(self) -> String {
        self.0.to_string()
    }
}

fn begins(date: Date, zone: &Zone) -> Timestamp {
    date.to_zoned(zone.rules().clone()).map_or(Timestamp::MAX, |begins| begins.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_the_zones_and_as_long_as_the_clocks_make_it() {
        let zone = Zone::find("Europe/Chisinau").unwrap();
        // The clocks go back on 25 October 2026: that day has 25 hours.
        let day = Day::of(instant("2026-10-24T21:30:00Z"), &zone);
        assert_eq!(day.bounds(&zone), (instant("2026-10-24T21:00:00Z"), instant("2026-10-25T22:00:00Z")));
        assert_ne!(day, Day::of(instant("2026-10-24T20:59:59Z"), &zone));
        let days = Day::through(instant("2026-10-24T20:59:59Z"), instant("2026-10-25T22:00:00Z"), &zone);
        assert_eq!(days.count(), 3);
    }

    #[test]
    fn a_month_ends_at_midnight_of_the_zone() {
        let zone = Zone::find("Europe/Chisinau").unwrap();
        let month = Month::of(instant("2026-11-30T21:59:59Z"), &zone);
        assert_eq!((month.first_day().as_str(), month.ends_at(&zone)), ("2026-11-01", instant("2026-11-30T22:00:00Z")));
        assert_eq!(Month::of(instant("2026-11-30T22:00:00Z"), &zone).first_day(), "2026-12-01");
    }
}
