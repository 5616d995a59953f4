//! Plays a case's transcript against the real server, and judges what it left behind.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    Failed,
    case::{Call, Case, Judgement, Refused},
    mending,
    site::{Answer, Site, call_tool},
};

/// # Errors
/// The first thing that is not as the case says.
pub(crate) async fn play(case: &Case) -> Result<(), Failed> {
    let (site, client) = Site::set_up(case).await?;
    let mut before: Option<(&Call, Answer)> = None;
    let mut seen = site.text(&case.request).await?;
    for call in &case.transcript {
        let with = site.arguments(&call.with).await?;
        let call_as_made = Call { with: with.clone(), ..call.clone() };
        knows_its_ids(&call_as_made, &seen)?;
        if let Some((former, answer)) = &before
            && let Some(refused) = &former.refused
        {
            mending::judge(&named(&site, former).await?, &worded(&site, refused).await?, &answer.text, &call_as_made)
                .map_err(Failed::Mending)?;
        }
        let answer = call_tool(&client, &call.tool, with).await;
        answered(call, &answer)?;
        seen.push_str(&answer.text);
        before = Some((call, answer));
    }
    let last = before.map(|(_, answer)| answer.text).unwrap_or_default();
    holds(&site, case, &last).await?;
    judge(&site, &case.judge).await
}

/// The call with its names said.
async fn named(site: &Site, call: &Call) -> Result<Call, Failed> {
    Ok(Call { with: site.arguments(&call.with).await?, ..call.clone() })
}

async fn worded(site: &Site, refused: &Refused) -> Result<Refused, Failed> {
    let mut mend_from = Vec::new();
    for words in &refused.mend_from {
        mend_from.push(site.text(words).await?);
    }
    Ok(Refused { mend_from, ..refused.clone() })
}

/// A model knows an id only when it was told: every id in the arguments was in an answer before.
fn knows_its_ids(call: &Call, seen: &str) -> Result<(), Failed> {
    let is_id = |text: &str| text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match mending::leaves(&call.with).into_iter().find(|(_, text)| is_id(text) && !seen.contains(text.as_str())) {
        Some((path, id)) => Err(Failed::Call(format!("{}{path}: nobody told the model of {id}", call.tool))),
        None => Ok(()),
    }
}

fn answered(call: &Call, answer: &Answer) -> Result<(), Failed> {
    let Some(refused) = &call.refused else {
        return if answer.refused {
            Err(Failed::Call(format!("{} was refused: {}", call.tool, answer.text)))
        } else {
            Ok(())
        };
    };
    if !answer.refused {
        return Err(Failed::Refusal(format!("{} was not refused: {}", call.tool, answer.text)));
    }
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let found = answer.content["faults"].as_array().into_iter().flatten();
    let found: BTreeMap<String, String> = found.map(|it| (text(it, "path"), text(it, "code"))).collect();
    let code = text(&answer.content, "code");
    if code != refused.code || found != refused.faults {
        let wanted = &refused.faults;
        return Err(Failed::Refusal(format!(
            "{} was refused as {code} with {found:?}, not as {} with {wanted:?}: {}",
            call.tool, refused.code, answer.text
        )));
    }
    Ok(())
}

/// The facts that the person asked for are in the last answer.
async fn holds(site: &Site, case: &Case, last: &str) -> Result<(), Failed> {
    match missing(site, case, last).await? {
        Some(fact) => Err(Failed::Answer(format!("the last answer does not say `{fact}`: {last}"))),
        None => Ok(()),
    }
}

/// The first fact of a case that a text does not have, whatever its case.
pub(crate) async fn missing(site: &Site, case: &Case, text: &str) -> Result<Option<String>, Failed> {
    let text = text.to_lowercase();
    for fact in &case.answer {
        let fact = site.text(fact).await?;
        if !text.contains(&fact.to_lowercase()) {
            return Ok(Some(fact));
        }
    }
    Ok(None)
}

/// Asks Postgres whether the request is answered.
///
/// # Errors
/// The first query whose rows are others.
pub(crate) async fn judge(site: &Site, judgements: &[Judgement]) -> Result<(), Failed> {
    for Judgement { sql, is } in judgements {
        let sql = site.text(sql).await?;
        let rows = site.database.rows(&sql).await.map_err(|why| Failed::Verdict(format!("{why}, in {sql}")))?;
        let given = Value::from(rows);
        // Names may stand in what is expected, too.
        let wanted = site.text(&is.to_string()).await?;
        let wanted: Value = serde_json::from_str(&wanted).map_err(|error| Failed::Verdict(error.to_string()))?;
        let is_so = match &wanted {
            Value::Array(_) => given == wanted,
            Value::Object(_) => given == json!([wanted]),
            bare => matches!(given.as_array().map(Vec::as_slice), Some([Value::Object(row)])
                if row.len() == 1 && row.values().next() == Some(bare)),
        };
        if !is_so {
            return Err(Failed::Verdict(format!("{given}, not {wanted}, is the answer to {sql}")));
        }
    }
    Ok(())
}
