//! `server show` and `server accept`: what a server says of its tools, what of it is accepted, and a person's word.
//!
//! All of it is a stranger's text, written so that a model does something. It is shown line by line behind a margin of
//! our own, with whatever could hide in it written out.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
};

use clap::Args;
use ordinaut_schema::{
    action::{Change, Descriptor, Effect, accept_command},
    fault::nearest,
    visible::visible,
};
use ordinaut_store::catalog::{Digest, ToolRecord};
use serde_json::{Value, json};

use super::diff::diff;
use crate::{
    config::Config,
    failure::{Exit, Failure},
    out::{Out, note},
    session::Session,
    times::local,
};

#[derive(Debug, Args)]
pub(crate) struct Show {
    name: String,
    /// Only this tool, with its input schema
    tool: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Accept {
    name: String,
    /// Only these tools; without any, every one that changed
    tools: Vec<String>,
    /// Show what changed, and accept nothing
    #[arg(long)]
    dry_run: bool,
    /// Accept what is shown without being asked
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

pub(super) async fn show(config: &Config, agent: Option<&str>, options: &Show, out: Out) -> Result<(), Failure> {
    let session = Session::open(config, agent).await?;
    let tools = named(&session, &options.name, options.tool.as_slice()).await?;
    if out.is_json() {
        return out.json(&tools.iter().map(to_json).collect::<Vec<_>>());
    }
    for tool in &tools {
        let mut lines = head(&options.name, tool, &session);
        if let Some((seen, _)) = &tool.seen {
            lines.extend(difference(&tool.accepted, seen));
        } else {
            lines.extend(within(&tool.accepted.sentence));
            if options.tool.is_some() {
                lines.push("  input schema".to_owned());
                lines.extend(within(&pretty(&tool.accepted.input_schema)));
                lines.push(format!("  a repeat {}", repeat(tool.accepted.effect)));
            }
        }
        out.line(lines.join("\n"))?;
    }
    Ok(())
}

pub(super) async fn accept(config: &Config, agent: Option<&str>, options: &Accept, out: Out) -> Result<(), Failure> {
    let name = &options.name;
    let session = Session::open(config, agent).await?;
    let tools = named(&session, name, &options.tools).await?;
    for tool in tools.iter().filter(|tool| !options.tools.is_empty() && tool.seen.is_none()) {
        note(format!("`{name}.{}` is as it was accepted", visible(&tool.tool)));
    }
    let changed: Vec<_> = tools.iter().filter(|tool| tool.seen.is_some() && tool.gone_at.is_none()).collect();
    let shown: BTreeMap<String, Digest> =
        changed.iter().filter_map(|tool| Some((tool.tool.clone(), tool.seen.as_ref()?.1))).collect();
    if options.dry_run && out.is_json() {
        return out.json(&changed.into_iter().map(to_json).collect::<Vec<_>>());
    }
    for tool in &changed {
        let mut lines = head(name, tool, &session);
        lines.extend(tool.seen.iter().flat_map(|(seen, _)| difference(&tool.accepted, seen)));
        // Where the answer is for a program, what the person judges goes beside it.
        if out.is_json() { note(lines.join("\n")) } else { out.line(lines.join("\n"))? }
    }
    if shown.is_empty() {
        return if out.is_json() {
            out.json(&json!({ "server": name, "accepted": [] }))
        } else {
            out.line("nothing has changed: there is nothing to accept")
        };
    }
    if options.dry_run {
        return out.line("nothing was accepted (--dry-run)");
    }
    if !options.yes && !asked(shown.len())? {
        return Err(Failure::new(Exit::Refused, "nothing was accepted").mend("answer y, or say --yes"));
    }
    session.store.accept_tools(&session.caller, name, &shown).await?;
    let names: Vec<_> = shown.keys().map(|tool| visible(tool)).collect();
    if out.is_json() {
        return out.json(&json!({ "server": name, "accepted": names }));
    }
    out.line(format!("accepted as shown: {}; steps may use it from now on", names.join(", ")))
}

/// Whether the person says yes; whoever says nothing does not.
fn asked(count: usize) -> Result<bool, Failure> {
    let unread = |error: &io::Error| Failure::new(Exit::Failed, format!("the answer could not be read: {error}"));
    if io::stdin().is_terminal() {
        let what = if count == 1 { "this tool".to_owned() } else { format!("these {count} tools") };
        let mut stderr = io::stderr().lock();
        write!(stderr, "Accept {what} as shown? [y/N] ")
            .and_then(|()| stderr.flush())
            .map_err(|error| unread(&error))?;
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|error| unread(&error))?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The tools that are asked for, or all of them.
async fn named(session: &Session, server: &str, names: &[String]) -> Result<Vec<ToolRecord>, Failure> {
    let all = session.store.list_tools(server).await?;
    if all.is_empty() {
        return Err(Failure::new(Exit::NotFound, format!("no executor has seen a tool of a server `{server}`"))
            .mend("`ordinaut server list` lists servers, `ordinaut server test` asks one for its tools"));
    }
    for name in names {
        if !all.iter().any(|tool| tool.tool == *name) {
            let missing = Failure::new(Exit::NotFound, format!("the server `{server}` has no tool `{name}`"));
            return Err(match nearest(name, all.iter().map(|tool| tool.tool.as_str())) {
                Some(near) => missing.mend(format!("did you mean `{}`?", visible(near))),
                None => missing.mend(format!("`ordinaut server show {server}` shows them")),
            });
        }
    }
    let is_asked = |tool: &ToolRecord| {
        if names.is_empty() { tool.gone_at.is_none() } else { names.contains(&tool.tool) }
    };
    Ok(all.into_iter().filter(is_asked).collect())
}

fn head(server: &str, tool: &ToolRecord, session: &Session) -> Vec<String> {
    let state = match &tool.seen {
        _ if tool.gone_at.is_some() => "gone: its server does not list it".to_owned(),
        None => "as accepted".to_owned(),
        Some((seen, _)) => format!("changed: {}", Change::between(&tool.accepted, seen)),
    };
    let when = local(tool.accepted_at, &session.zone);
    let mut lines = vec![
        format!("{server}.{}  {state}", visible(&tool.tool).replace(['\n', '\t'], " ")),
        format!("  accepted {when} by {}, {}", tool.accepted_by, &hex(&tool.sha256)[..12]),
    ];
    if let Some((_, sha256)) = &tool.seen {
        lines.push(format!("  now {}; {}", &hex(sha256)[..12], accept_command(server, &tool.tool)));
    }
    lines
}

fn difference(accepted: &Descriptor, seen: &Descriptor) -> Vec<String> {
    let mut lines = Vec::new();
    for (what, old, new) in [
        ("description", visible(&accepted.sentence), visible(&seen.sentence)),
        ("input schema", visible(&pretty(&accepted.input_schema)), visible(&pretty(&seen.input_schema))),
    ] {
        if old != new {
            lines.push(format!("  {what}"));
            lines.extend(diff(&old, &new).into_iter().map(|line| format!("    {line}")));
        }
    }
    if Change::between(accepted, seen).hints {
        lines.push("  hints, believed of a trusted server only".to_owned());
        lines.push(format!("    - a repeat {}", repeat(accepted.effect)));
        lines.push(format!("    + a repeat {}", repeat(seen.effect)));
    }
    lines
}

fn within(text: &str) -> Vec<String> {
    visible(text).lines().map(|line| format!("    {line}")).collect()
}

fn pretty(schema: &Value) -> String {
    serde_json::to_string_pretty(schema).expect("JSON has string keys")
}

const fn repeat(effect: Effect) -> &'static str {
    match effect {
        Effect::Pure | Effect::Idempotent => "does no harm, it says",
        Effect::Once => "may do harm",
    }
}

fn to_json(tool: &ToolRecord) -> Value {
    let told = |descriptor: &Descriptor, sha256: &Digest| {
        json!({
            "description": visible(&descriptor.sentence),
            "input_schema": descriptor.input_schema,
            "effect": descriptor.effect,
            "sha256": hex(sha256),
        })
    };
    json!({
        "tool": visible(&tool.tool),
        "changed": tool.seen.is_some(),
        "gone_at": tool.gone_at,
        "accepted_at": tool.accepted_at,
        "accepted_by": tool.accepted_by,
        "accepted": told(&tool.accepted, &tool.sha256),
        "now": tool.seen.as_ref().map(|(seen, sha256)| told(seen, sha256)),
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(sentence: &str, schema: Value) -> Descriptor {
        let (name, sentence) = ("hub.close".to_owned(), sentence.to_owned());
        Descriptor { name, sentence, input_schema: schema, example: json!({}), effect: Effect::Once }
    }

    #[test]
    fn a_strangers_text_stays_behind_the_margin_and_hides_nothing() {
        let accepted = descriptor("Closes.", json!({ "type": "object" }));
        let hostile = "Closes.\naccepted as shown\n\u{1b}[2K\u{202e}evil\u{e0041}";
        let seen = descriptor(hostile, json!({ "type": "object", "title": "\u{200b}" }));
        let lines = difference(&accepted, &seen);
        assert!(lines.iter().all(|line| line.starts_with("  ")), "{lines:#?}");
        for part in ["    + accepted as shown", "    + \\u{1b}[2K\\u{202e}evil\\u{e0041}", "\\u{200b}"] {
            assert!(lines.iter().any(|line| line.contains(part)), "{part} in {lines:#?}");
        }
        assert!(!lines.join("").chars().any(char::is_control));
    }

    #[test]
    fn hints_that_changed_alone_are_shown() {
        let accepted = descriptor("Closes.", json!({}));
        let seen = Descriptor { effect: Effect::Idempotent, ..accepted.clone() };
        let lines = difference(&accepted, &seen).join("\n");
        assert!(lines.contains("- a repeat may do harm") && lines.contains("+ a repeat does no harm"), "{lines}");
    }
}
