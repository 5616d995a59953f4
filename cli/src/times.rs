//! How instants and durations are shown to people.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use ordinaut_schema::time::{Zone, short};

/// `Mon 2026-11-23 08:30:00 +02:00`
pub(crate) fn local(at: Timestamp, zone: &Zone) -> String {
    at.to_zoned(zone.rules().clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string()
}

/// `in 3h20m`, `5m ago`, `now`: the two largest units.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let (ahead, distance) = if at >= now { (true, at.duration_since(now)) } else { (false, now.duration_since(at)) };
    let distance = rounded(distance.unsigned_abs());
    match (distance.is_zero(), ahead) {
        (true, _) => "now".to_owned(),
        (false, true) => format!("in {}", short(distance)),
        (false, false) => format!("{} ago", short(distance)),
    }
}

/// `850ms`, `12s`, `3h20m`.
pub(crate) fn took(duration: Duration) -> String {
    if duration < Duration::from_secs(1) { format!("{}ms", duration.as_millis()) } else { short(rounded(duration)) }
}

/// The time between two instants of one clock; nothing where they stand the wrong way round.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn rounded(duration: Duration) -> Duration {
    let seconds = duration.as_secs();
    let unit = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    Duration::from_secs(seconds / unit * unit)
}

/// The zone that this machine's clock is set to, if it has a name.
pub(crate) fn machine_zone() -> Option<Zone> {
    TimeZone::system().iana_name().and_then(Zone::find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_told_in_their_two_largest_units() {
        let now: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(relative(at("2026-11-23T11:20:30Z"), now), "in 3h20m");
        assert_eq!(relative(at("2026-11-23T07:59:15Z"), now), "45s ago");
        assert_eq!(relative(at("2026-11-25T09:30:00Z"), now), "in 2d1h");
        assert_eq!(relative(now, now), "now");
    }

    #[test]
    fn an_instant_is_shown_on_the_zones_clock_with_its_offset() {
        let zone = Zone::find("Europe/Chisinau").unwrap();
        assert_eq!(local("2026-11-23T06:30:00Z".parse().unwrap(), &zone), "Mon 2026-11-23 08:30:00 +02:00");
    }
}
