//! How instants and durations are read and written, in one place.
//!
//! Instants are [`jiff::Timestamp`]; civil time exists only inside [`crate::schedule`], always with a [`Zone`].

use std::{fmt, sync::LazyLock, time::Duration};

use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};

/// The zones that come with the program, so that every machine answers alike.
static TZDB: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// An IANA zone by its canonical name.
#[derive(Clone)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// Finds a zone by its IANA name, in any case; `None` if there is none.
    pub fn find(name: &str) -> Option<Self> {
        let rules = TZDB.get(name.trim()).ok()?;
        let name = rules.iana_name()?.to_owned();
        Some(Self { name, rules })
    }

    /// Every name of the database, for suggestions.
    pub fn names() -> impl Iterator<Item = String> {
        TZDB.available().map(|name| name.as_str().to_owned())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn rules(&self) -> &TimeZone {
        &self.rules
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

/// RFC 3339 with the zone's offset, whole seconds unless there are fractions: `2026-11-23T08:30:00+02:00`.
pub fn with_offset(at: Timestamp, zone: &Zone) -> String {
    at.display_with_offset(zone.rules.to_offset(at)).to_string()
}

/// Half past eight on the morning after `now`, as an example to follow: with offset, and as civil time.
pub(crate) fn tomorrow(now: Timestamp, zone: &Zone) -> (String, String) {
    let civil = zone.rules.to_datetime(now).date().saturating_add(jiff::ToSpan::day(1)).at(8, 30, 0, 0);
    let at = zone.rules.to_ambiguous_timestamp(civil).compatible().unwrap_or(now);
    (with_offset(at, zone), civil.strftime("%Y-%m-%dT%H:%M").to_string())
}

/// The shortest form people write: `90s`, `15m`, `1h30m`, `2d`; `0s` for nothing.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let mut text = String::new();
    for (n, unit) in parts.into_iter().filter(|(n, _)| *n > 0) {
        text.push_str(&n.to_string());
        text.push(unit);
    }
    if duration.subsec_millis() > 0 {
        text.push_str(&duration.subsec_millis().to_string());
        text.push_str("ms");
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `250ms`, `90s`, `15m`, `1h30m`, `2d`, `1w` or ISO 8601 `PT15M`; calendar units are not durations.
///
/// # Errors
/// What is wrong with the text, in one sentence that names it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    let wrong = || format!("`{text}` is not a duration; write `90s`, `15m`, `1h30m`, `2d` or ISO 8601 `PT15M`");
    if trimmed.is_empty() || trimmed.starts_with(['-', '+']) {
        return Err(wrong());
    }
    let span: jiff::Span = trimmed.parse().map_err(|_| wrong())?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(format!(
            "`{text}` has months or years, whose length varies; use a cron or rrule schedule for those"
        ));
    }
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).map_err(|_| wrong())
}

/// A duration as wire text, for `#[serde(with = "crate::time::duration_text")]`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::short(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }

    /// The same for an optional duration.
    pub mod option {
        use super::{Deserialize, Deserializer, Duration, Error, Serializer};

        pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            Option::<String>::deserialize(deserializer)?
                .map(|text| crate::time::parse_duration(&text).map_err(D::Error::custom))
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("PT15M", 900), ("1w", 604_800)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "15", "-5m", "1 fortnight", "P1M", "1y"] {
            assert!(parse_duration(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn short_durations_read_back() {
        for seconds in [0, 1, 59, 60, 61, 3600, 5400, 86_400, 90_061] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&short(duration)), Ok(duration));
        }
    }

    #[test]
    fn a_zone_is_found_in_any_case_and_named_canonically() {
        assert_eq!(
            Zone::find("europe/chisinau").map(|zone| zone.name().to_owned()),
            Some("Europe/Chisinau".to_owned())
        );
        assert_eq!(Zone::find("Mars/Olympus"), None);
    }
}
