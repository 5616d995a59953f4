//! The lines of a recurrence set, and the one form in which a set is stored.

use jiff::Timestamp;

use super::{
    super::{EXPR, ZONE, civil, zones},
    moment::{self, Moment},
    rule::Rule,
};
use crate::{
    fault::{Fault, FaultCode, nearest},
    limits::Limits,
    time::Zone,
};

pub(super) const MAX_RULES: usize = 4;

/// As many as anybody mends in one go; each unknown zone costs a search for the one that was meant.
const MAX_FAULTS: usize = 10;

/// Room for DTSTART and what is made explicit, so that a rule at the limit can be read back.
const NORMALISED_EXTRA: usize = 512;

pub(super) struct Lines {
    pub(super) zone: Zone,
    pub(super) start: i64,
    pub(super) start_was_given: bool,
    pub(super) rules: Vec<Rule>,
    pub(super) rdates: Vec<i64>,
    pub(super) exdates: Vec<i64>,
    pub(super) normalised: String,
}

/// A content line: `NAME;PARAM=value:VALUE`.
struct Line<'a> {
    name: String,
    params: Vec<(String, &'a str)>,
    value: &'a str,
}

const NAMES: [&str; 4] = ["DTSTART", "RRULE", "RDATE", "EXDATE"];

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(EXPR, FaultCode::BadRrule, message)
}

impl Lines {
    pub(super) fn read(
        text: &str,
        zone: Option<&Zone>,
        anchor: Timestamp,
        limits: &Limits,
    ) -> Result<Self, Vec<Fault>> {
        let most = limits.rrule_bytes + if text.starts_with("DTSTART") { NORMALISED_EXTRA } else { 0 };
        if text.len() > most {
            let message =
                format!("the rule has {} bytes, too long: at most {} are allowed", text.len(), limits.rrule_bytes);
            return Err(vec![Fault::new(EXPR, FaultCode::Limit, message)]);
        }
        let (lines, mut faults) = split(text);
        let named = |name: &'static str| lines.iter().filter(move |line| line.name == name);
        if lines.is_empty() && faults.is_empty() {
            let fault = bad("the rule is empty; write an RRULE")
                .suggest("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30");
            return Err(vec![fault]);
        }
        if named("DTSTART").count() > 1 {
            faults.push(bad("DTSTART stands twice; a set has one"));
        }
        match named("RRULE").count() {
            0 if faults.is_empty() => faults.push(bad("there is no RRULE; for a single date use schedule_kind `once`")),
            count if count > MAX_RULES => faults.push(bad(format!("{count} RRULEs; at most {MAX_RULES} are allowed"))),
            _ => {}
        }
        // Without a start the rest is still judged, so that all is told at once.
        let (zone, start, start_was_given) = start(named("DTSTART").next(), zone, anchor).unwrap_or_else(|fault| {
            faults.push(fault);
            (Zone::utc(), 0, true)
        });
        let mut rules = Vec::new();
        for line in named("RRULE") {
            match Rule::parse(line.value, &zone, limits) {
                Ok(mut rule) => {
                    if !start_was_given {
                        rule.zero_below_named();
                    }
                    rules.push(rule);
                }
                Err(more) => faults.extend(more),
            }
            if !line.params.is_empty() {
                faults.push(bad("RRULE takes no parameters"));
            }
        }
        let mut dates = |name: &'static str| -> Vec<i64> {
            let mut dates = Vec::new();
            for line in named(name) {
                if faults.len() >= MAX_FAULTS {
                    break;
                }
                match line.dates(&zone) {
                    Ok(more) => dates.extend(more),
                    Err(fault) => faults.push(fault),
                }
            }
            dates.sort_unstable();
            dates.dedup();
            dates
        };
        let (rdates, exdates) = (dates("RDATE"), dates("EXDATE"));
        if !faults.is_empty() {
            return Err(faults);
        }
        let normalised = normalise(&zone, start, &rules, &rdates, &exdates);
        Ok(Self { zone, start, start_was_given, rules, rdates, exdates, normalised })
    }
}

fn split(text: &str) -> (Vec<Line<'_>>, Vec<Fault>) {
    let mut lines = Vec::new();
    let mut faults = Vec::new();
    for line in text.split('\n').map(|line| line.trim_matches([' ', '\t', '\r'])).filter(|line| !line.is_empty()) {
        match Line::read(line) {
            Ok(line) => lines.push(line),
            Err(fault) => faults.push(fault),
        }
    }
    (lines, faults)
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Result<Self, Fault> {
        if let Some(odd) = line.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
            return Err(bad(format!("`{}` cannot stand in a rule", odd.escape_default())));
        }
        let Some((head, value)) = line.split_once(':') else {
            // A bare `FREQ=…` is an RRULE.
            if line.contains('=') && !NAMES.iter().any(|name| line.to_ascii_uppercase().starts_with(name)) {
                return Ok(Self { name: "RRULE".to_owned(), params: Vec::new(), value: line });
            }
            return Err(bad(format!("`{line}` is neither an RRULE nor `NAME:value`; such a rule begins with `FREQ=`")));
        };
        let mut parts = head.split(';');
        let name = parts.next().unwrap_or_default().to_ascii_uppercase();
        if name == "EXRULE" {
            return Err(bad(
                "EXRULE is obsolete (RFC 5545) and not read; name the dates in EXDATE, or narrow the RRULE",
            ));
        }
        if !NAMES.contains(&name.as_str()) {
            let fault = bad(format!("`{name}` is not read here; there are {}", NAMES.join(", ")));
            return Err(match nearest(&name, NAMES) {
                Some(near) => fault.suggest(format!("{near}:{value}")),
                None => fault,
            });
        }
        let mut params = Vec::new();
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                return Err(bad(format!("{name}: `{part}` is not `PARAM=value`")));
            };
            let key = key.to_ascii_uppercase();
            let known = key == "TZID" || (key == "VALUE" && value.eq_ignore_ascii_case("DATE-TIME"));
            if !known || name == "RRULE" {
                let why =
                    if key == "VALUE" { "; only dates with a time are read, such as `20261123T083000`" } else { "" };
                return Err(bad(format!("{name}: the parameter `{part}` is not read{why}")));
            }
            params.push((key, value.trim_matches('"')));
        }
        Ok(Self { name, params, value })
    }

    fn zone(&self) -> Result<Option<Zone>, Fault> {
        let Some((_, name)) = self.params.iter().find(|(key, _)| key == "TZID") else { return Ok(None) };
        zones::find(name, EXPR).map(Some)
    }

    /// The instants of RDATE or EXDATE; without TZID and `Z`, in the zone of DTSTART.
    fn dates(&self, zone: &Zone) -> Result<Vec<i64>, Fault> {
        let own = self.zone()?;
        let mut dates = Vec::new();
        for item in self.value.split(',') {
            dates.push(match moment::parse(item).map_err(|why| bad(format!("{} `{item}`: {why}", self.name)))? {
                Moment::Utc(_) if own.is_some() => {
                    return Err(bad(format!("{} `{item}`: TZID and a `Z` together; drop one", self.name)));
                }
                Moment::Utc(at) => at,
                Moment::Local(local) => civil::resolve(own.as_ref().unwrap_or(zone), local).0,
            });
        }
        Ok(dates)
    }
}

/// The zone, DTSTART on its wall clock, and whether there was one.
fn start(line: Option<&Line<'_>>, zone: Option<&Zone>, anchor: Timestamp) -> Result<(Zone, i64, bool), Fault> {
    let required = |what: &str| {
        let message = format!(
            "{what} and no zone is known: set `timezone` to an IANA name, such as `Europe/Chisinau`, or write DTSTART with a TZID"
        );
        Fault::new(ZONE, FaultCode::TimezoneRequired, message)
    };
    let Some(line) = line else {
        let zone = zone.ok_or_else(|| required("the rule has no DTSTART"))?;
        let at = civil::seconds(anchor);
        return Ok((zone.clone(), at + civil::offset_at(zone, at), false));
    };
    let own = line.zone()?;
    match moment::parse(line.value).map_err(|why| bad(format!("DTSTART `{}`: {why}", line.value)))? {
        Moment::Utc(_) if own.is_some() => {
            let fault = bad(format!("DTSTART `{}`: TZID and a `Z` together; drop the `Z` for local time", line.value));
            Err(fault.suggest(line.value.trim_end_matches(['Z', 'z'])))
        }
        Moment::Utc(at) => Ok((Zone::utc(), at, true)),
        Moment::Local(local) => {
            let zone = own.or_else(|| zone.cloned()).ok_or_else(|| required("DTSTART is local time"))?;
            Ok((zone, local, true))
        }
    }
}

fn normalise(zone: &Zone, start: i64, rules: &[Rule], rdates: &[i64], exdates: &[i64]) -> String {
    let mut lines = vec![if *zone == Zone::utc() {
        format!("DTSTART:{}", moment::utc_text(start))
    } else {
        format!("DTSTART;TZID={}:{}", zone.name(), moment::local_text(start))
    }];
    lines.extend(rules.iter().map(|rule| format!("RRULE:{}", rule.text())));
    for (name, dates) in [("RDATE", rdates), ("EXDATE", exdates)] {
        if !dates.is_empty() {
            let dates: Vec<String> = dates.iter().map(|at| moment::utc_text(*at)).collect();
            lines.push(format!("{name}:{}", dates.join(",")));
        }
    }
    lines.join("\n")
}
