//! Zone names: found strictly, and refused with the nearest one that exists.

use crate::{
    fault::{Fault, FaultCode, nearest},
    time::Zone,
};

/// What people call places whose zone has another name, beside the links that the database itself has.
const CALLED: [(&str, &str); 14] = [
    ("Europe/Kishinev", "Europe/Chisinau"),
    ("Europe/Chișinău", "Europe/Chisinau"),
    ("Europe/Bonn", "Europe/Berlin"),
    ("Europe/Munich", "Europe/Berlin"),
    ("Europe/Geneva", "Europe/Zurich"),
    ("Asia/Beijing", "Asia/Shanghai"),
    ("Asia/Mumbai", "Asia/Kolkata"),
    ("Asia/Delhi", "Asia/Kolkata"),
    ("Asia/Bangalore", "Asia/Kolkata"),
    ("America/San_Francisco", "America/Los_Angeles"),
    ("America/Seattle", "America/Los_Angeles"),
    ("America/Washington", "America/New_York"),
    ("America/Boston", "America/New_York"),
    ("America/Dallas", "America/Chicago"),
];

/// In the database, and no zone that somebody lives by.
const NOT_ZONES: [&str; 4] = ["Factory", "Etc/Unknown", "posixrules", "localtime"];

/// Finds a zone by exactly its IANA name, in any case.
///
/// # Errors
/// At `path`, with the nearest name where one is near.
pub(crate) fn find(name: &str, path: &str) -> Result<Zone, Fault> {
    let unknown = |why: String| Fault::new(path, FaultCode::UnknownTimezone, why);
    if name.is_empty() {
        return Err(unknown("the timezone is empty; use an IANA name such as `Europe/Chisinau`".to_owned()));
    }
    let shown: String = name.chars().take(64).flat_map(char::escape_default).collect();
    let is_plain = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic());
    if is_plain
        && !NOT_ZONES.iter().any(|it| it.eq_ignore_ascii_case(name))
        && let Some(zone) = Zone::find(name)
    {
        return Ok(zone);
    }
    if let Some((old, new)) = CALLED.iter().find(|(old, _)| old.to_lowercase() == name.trim().to_lowercase()) {
        return Err(unknown(format!("`{old}` is not an IANA timezone; it is now `{new}`")).suggest(*new));
    }
    let abbreviation = name.len() <= 5 && name.len() >= 3 && name.bytes().all(|b| b.is_ascii_uppercase());
    let fault = unknown(if abbreviation {
        format!(
            "`{shown}` is an abbreviation, not an IANA timezone, and says nothing about daylight saving; use a name such as `Europe/Chisinau`"
        )
    } else {
        format!("`{shown}` is not an IANA timezone name; use one such as `Europe/Chisinau`, exactly")
    });
    Err(match suggestion(name).filter(|_| !abbreviation) {
        Some(near) => fault.suggest(near),
        None => fault,
    })
}

fn suggestion(name: &str) -> Option<String> {
    let wanted = name.trim().trim_matches('/').replace(' ', "_");
    if wanted.is_empty() || wanted.len() > 64 {
        return None;
    }
    let names: Vec<String> = Zone::names().filter(|name| !NOT_ZONES.contains(&name.as_str())).collect();
    let same = |name: &&String| name.eq_ignore_ascii_case(&wanted);
    let city = |name: &&String| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&wanted));
    names
        .iter()
        .find(same)
        .or_else(|| names.iter().filter(|name| name.contains('/')).find(city))
        .cloned()
        .or_else(|| nearest(&wanted, names.iter().map(String::as_str)).map(str::to_owned))
}

/// The name that the database prefers to an old one: `Asia/Calcutta` is now `Asia/Kolkata`.
pub(crate) fn newer_name(zone: &Zone) -> Option<&str> {
    zone.rules().primary_iana_name().filter(|primary| *primary != zone.name() && *primary != "UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_zone_is_refused_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("Europe/Kishinev", Some("Europe/Chisinau")),
            ("Chisinau", Some("Europe/Chisinau")),
            ("Europe/Chisnau", Some("Europe/Chisinau")),
            ("America/New York", Some("America/New_York")),
            ("Europe/Chisinau\n", Some("Europe/Chisinau")),
            ("Mars/Olympus", None),
        ] {
            let fault = find(name, "$.timezone").unwrap_err();
            assert_eq!(fault.code, FaultCode::UnknownTimezone);
            assert_eq!(fault.suggestion.as_deref(), meant, "{name:?}");
        }
    }

    #[test]
    fn an_old_name_is_accepted_and_its_new_one_known() {
        let zone = find("Asia/Calcutta", "$.timezone").unwrap();
        assert_eq!(newer_name(&zone), Some("Asia/Kolkata"));
        assert_eq!(newer_name(&find("Europe/Chisinau", "$.timezone").unwrap()), None);
    }
}
