//! A zone that nobody knows: asked of the person where nothing else is missing and the client has a form.
//!
//! The person is asked last, when everything else is right, so that nobody is asked for the sake of a call that is
//! refused anyway; once more where the answer is no zone, with the one that was probably meant; and never again.

use ordinaut_schema::{
    fault::{Fault, FaultCode, Faults},
    schedule::find_zone,
    time::Zone,
};
use serde_json::{Value, json};

use super::{
    answer::Answer,
    asking::{self, Form, Reply},
    call::Call,
    untrusted,
};

const FIRST: &str = "timezone";
const AGAIN: &str = "timezone_again";

/// How much of what it is about a form shows.
const MOST_ABOUT: usize = 120;

/// Why something could not be judged well.
pub(super) enum Unusable {
    /// The person is being asked: the answer to this call.
    Asking(Answer),
    /// Everything wrong, and what to do about the zone where that is missing.
    Faulty { faults: Faults, zone: Option<String> },
}

/// What was made of something by the zone that is known or, where a zone is all that it lacks, what `judge` makes of it
/// by the one that the person says; and the person's zone, if that is the one.
pub(super) async fn judged<T>(
    call: &Call,
    about: &str,
    by_known: Result<T, Faults>,
    judge: impl FnOnce(&Zone) -> Result<T, Faults> + Send,
) -> Result<(T, Option<Zone>), Unusable> {
    let faults = match by_known {
        Ok(judged) => return Ok((judged, None)),
        Err(faults) => faults,
    };
    let is_zone = |fault: &Fault| fault.code == FaultCode::TimezoneRequired;
    if !faults.as_slice().iter().any(is_zone) {
        return Err(Unusable::Faulty { faults, zone: None });
    }
    if !faults.as_slice().iter().all(is_zone) {
        let zone = if asking::is_possible(call) { WHEN_ALL_ELSE_IS_RIGHT } else { ASK };
        return Err(Unusable::Faulty { faults, zone: Some(zone.to_owned()) });
    }
    match of_person(call, about).await {
        Ok(zone) => match judge(&zone) {
            Ok(judged) => Ok((judged, Some(zone))),
            Err(faults) => {
                let said = format!("The person was asked for the zone: give `timezone` \"{}\".", zone.name());
                Err(Unusable::Faulty { faults, zone: Some(said) })
            }
        },
        Err(Unsaid::Asking(form)) => Err(Unusable::Asking(*form)),
        Err(Unsaid::Never(why)) => Err(Unusable::Faulty { faults, zone: Some(why) }),
    }
}

const ASK: &str = "Ask the person where they live if you do not know it.";
const WHEN_ALL_ELSE_IS_RIGHT: &str =
    "Give `timezone` if you know it; left out, the person is asked for it as soon as nothing else is wrong.";

enum Unsaid {
    Asking(Box<Answer>),
    Never(String),
}

async fn of_person(call: &Call, about: &str) -> Result<Zone, Unsaid> {
    if !asking::is_possible(call) {
        return Err(Unsaid::Never(ASK.to_owned()));
    }
    let mut wrong: Option<Fault> = None;
    // A client that calls again brings the answer to its last form only.
    let is_last = asking::is_answered(call, AGAIN);
    for name in [FIRST, AGAIN].into_iter().skip(usize::from(is_last)) {
        let written = match asking::ask(call, form(name, about, wrong.as_ref())).await {
            Reply::Later(form) => return Err(Unsaid::Asking(Box::new(form))),
            Reply::Filled(filled) => filled,
            Reply::Closed => {
                let why = "The person was asked for the time zone and declined to say: do not guess it. Ask what they want instead.";
                return Err(Unsaid::Never(why.to_owned()));
            }
            Reply::Lost(why) => return Err(Unsaid::Never(format!("The person was to be asked, and {why}. {ASK}"))),
        };
        match find_zone(written["timezone"].as_str().unwrap_or_default().trim()) {
            Ok(zone) => return Ok(zone),
            Err(fault) => wrong = Some(fault),
        }
    }
    let wrong = wrong.map_or_else(String::new, |fault| said(&fault));
    Err(Unsaid::Never(format!("The person was asked twice, and what they wrote is no zone: {wrong}. {ASK}")))
}

fn form(name: &str, about: &str, wrong: Option<&Fault>) -> Form {
    let about = untrusted::visible(&about.chars().take(MOST_ABOUT).collect::<String>());
    let ask = "Which time zone is meant? Its IANA name, such as Europe/Chisinau.";
    let message = match wrong {
        None => format!("{about} goes by the clock, and nobody said where. {ask}"),
        Some(fault) => format!("{about} goes by the clock: {}. {ask}", said(fault)),
    };
    let mut field = json!({ "type": "string", "title": "Time zone", "description": "Such as Europe/Chisinau" });
    if let Some(near) = wrong.and_then(|fault| fault.suggestion.as_deref()) {
        // The person need only agree.
        field["default"] = Value::from(near);
    }
    let schema = json!({ "type": "object", "properties": { "timezone": field }, "required": ["timezone"] });
    Form { name: name.to_owned(), message, schema }
}

/// What was wrong with a zone, and which was probably meant.
fn said(fault: &Fault) -> String {
    match &fault.suggestion {
        Some(near) => format!("{}; perhaps {near} is meant", fault.message),
        None => fault.message.clone(),
    }
}
