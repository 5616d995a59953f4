//! `list_actions`: what a step may use, and the guide to pipelines.

use std::collections::BTreeMap;

use ordinaut_schema::action::{
    Catalogue, Descriptor, Effect, Need, accept_command, built_in, meant, needs_grants, split_tool,
};
use serde_json::{Map, Value, json};

use crate::{
    error::{Refusal, ToolError},
    guide,
    principal::Scope,
};

use super::{
    Adding, Kind, Spec, add_tool,
    answer::Answer,
    call::Call,
    outputs::{self, always, elsewhere, maybe, untrusted_text},
    page::{offset, offset_cursor},
    refusals::refuse,
    schema::{arguments, text, word},
    untrusted,
};

/// How many actions a page holds.
const ACTIONS: usize = 50;

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool(group, spec(), list_actions);
}

fn spec() -> Spec {
    Spec {
        name: "list_actions",
        title: "List actions, read the guide",
        description: "What a step may use: every action in one line; with name one action with its input schema and an example; with topic guide how pipelines are written.",
        scope: Scope::TaskRead,
        kind: Kind::Reads,
        input: arguments(
            &[],
            [
                ("name", text("One action", "http.get")),
                ("topic", word("The guide to pipelines", &["guide"])),
                ("cursor", text("next_cursor of the page before", "n50")),
            ],
        ),
        output: output(),
    }
}

fn output() -> Value {
    let name = || always("name", outputs::text("What a step `uses`"));
    let changed = || {
        [
            maybe("changed", outputs::flag("Its server has changed it: no step may use it until a person has looked")),
            maybe("accept", outputs::text("The command by which a person accepts it")),
        ]
    };
    let listed = [
        name(),
        maybe("sentence", outputs::text("What it does")),
        maybe("untrusted_sentence", untrusted_text("The same of a server's tool, in the server's words")),
    ];
    let whole = [
        name(),
        always("repeat", outputs::text("What becomes of it after an unknown outcome")),
        maybe("sentence", outputs::text("What it does")),
        maybe("input_schema", elsewhere("JSON Schema of `with`")),
        maybe("example", elsewhere("A step")),
        maybe("untrusted_sentence", untrusted_text("Of a server's tool, in the server's words")),
        maybe("untrusted_input_schema", outputs::any("Likewise; cut at 2 KB")),
    ];
    let offered = |what: &str| outputs::map(what, outputs::text(""));
    outputs::answer([
        maybe("guide", outputs::text("Markdown")),
        maybe("actions", outputs::list("", outputs::object("", listed.into_iter().chain(changed())))),
        maybe("unseen_servers", outputs::list("Configured, and not seen yet", outputs::text(""))),
        maybe("action", outputs::object("With `name`", whole.into_iter().chain(changed()))),
        maybe("channels", offered("Those that this agent may name, and what each is")),
        maybe("models", offered("Likewise")),
        maybe("commands", offered("Likewise")),
        maybe("default_model", outputs::text("The model of a step that names none")),
        outputs::next_cursor(),
    ])
}

async fn list_actions(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let name = given.text("name");
    let topic = given.choices("topic", &["guide"], |word| word);
    let from = offset(given);
    given.finish("list_actions")?;
    if !topic.is_empty() {
        let guide = guide::text(|text| call.may_read(text));
        return Ok(Answer::new().with("guide", guide.as_str()).line(guide));
    }
    // Built-in actions are known before the services are, but for what the operator offers to them.
    let known = built_in().iter().find(|action| Some(&action.name) == name.as_ref());
    if let Some(action) = known.filter(|action| !needs_grants(&action.name)) {
        return Ok(one(action, false, &Catalogue::default()));
    }
    let desk = call.desk().await?;
    let catalogue = desk.store.catalogue(&desk.caller).await.map_err(|error| refuse(error, None))?;
    if let Some(action) = known {
        return Ok(with_offered(one(action, false, &catalogue), action, &catalogue));
    }
    match name {
        Some(name) => match catalogue.find(&name) {
            Some(action) => Ok(one(action, true, &catalogue)),
            None => Err(unknown(&name, &catalogue)),
        },
        None => Ok(all(&catalogue, from)),
    }
}

/// What a person types before steps may use a tool again; nothing where it is what was accepted.
fn accept(action: &Descriptor, catalogue: &Catalogue) -> Option<String> {
    catalogue.changed.get(&action.name)?;
    split_tool(&action.name).map(|(server, tool)| accept_command(server, tool))
}

/// One action, whole. What a server says of its own tools is foreign text, and only what a person, or its first use,
/// accepted of it: what it has changed to is nobody's to read here.
fn one(action: &Descriptor, foreign: bool, catalogue: &Catalogue) -> Answer {
    let mut shown = Map::from_iter([
        ("name".to_owned(), json!(untrusted::clean(&action.name))),
        ("repeat".to_owned(), json!(repeat(action.effect))),
    ]);
    let (sentence, schema) =
        if foreign { ("untrusted_sentence", "untrusted_input_schema") } else { ("sentence", "input_schema") };
    if foreign {
        shown.insert(sentence.to_owned(), json!(untrusted::text(&action.sentence)));
        shown.insert(schema.to_owned(), untrusted::value(&action.input_schema));
    } else {
        shown.insert(sentence.to_owned(), json!(action.sentence));
        shown.insert(schema.to_owned(), action.input_schema.clone());
        shown.insert("example".to_owned(), json!({ "uses": action.name, "with": action.example }));
    }
    if let Some(command) = accept(action, catalogue) {
        shown.insert("changed".to_owned(), json!(true));
        shown.insert("accept".to_owned(), json!(command));
    }
    let lines: Vec<String> = shown
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    Answer::new().with("action", Value::Object(shown)).lines(lines)
}

/// What the operator offers to an action: what this agent may use, and how it is granted the rest.
fn with_offered(answer: Answer, action: &Descriptor, catalogue: &Catalogue) -> Answer {
    let Catalogue { offered, grants, .. } = catalogue;
    let mut missing = Vec::new();
    let mut granted = |entries: &BTreeMap<String, String>, need: fn(String) -> Need| -> Map<String, Value> {
        let (may, may_not): (Vec<_>, Vec<_>) =
            entries.iter().partition(|(name, _)| grants.allow(&need((*name).clone())));
        missing.extend(may_not.into_iter().map(|(name, _)| need(name.clone()).grant(&catalogue.agent)));
        may.into_iter().map(|(name, about)| (name.clone(), json!(about))).collect()
    };
    let (field, entries, command) = match action.name.as_str() {
        "notify.send" | "approval.request" => {
            let mut channels = offered.channels.clone();
            channels.entry("me".to_owned()).or_insert_with(|| "inbox".to_owned());
            ("channels", granted(&channels, Need::Channel), "ordinaut channel add")
        }
        "llm.generate" => ("models", granted(&offered.models, |name| Need::Model(Some(name))), "ordinaut llm add"),
        "shell.exec" => {
            ("commands", granted(&offered.commands, Need::Command), "a `[shell.<id>]` table in ordinaut.toml")
        }
        _ => return answer,
    };
    let ungranted = if missing.is_empty() {
        String::new()
    } else {
        format!("Configured, and not granted to this agent; a person grants it with: {}", missing.join("; "))
    };
    let line = if entries.is_empty() {
        format!("{field}: none that this agent may use; a person adds one with {command}")
    } else {
        format!("{field}: {}", Value::Object(entries.clone()))
    };
    let default = offered.default_model.as_ref().filter(|name| field == "models" && entries.contains_key(*name));
    let chosen = default.map(|name| format!("default_model: {name}")).unwrap_or_default();
    answer
        .with("default_model", default.map_or(Value::Null, |name| json!(name)))
        .with(field, entries)
        .line(line)
        .line(ungranted)
        .line(chosen)
}

fn all(catalogue: &Catalogue, from: usize) -> Answer {
    let granted = catalogue
        .tools
        .values()
        .filter(|tool| split_tool(&tool.name).is_some_and(|(server, tool)| catalogue.grants.allow_tool(server, tool)));
    let everything: Vec<(&Descriptor, bool)> =
        built_in().iter().map(|action| (action, false)).chain(granted.map(|tool| (tool, true))).collect();
    let page: Vec<_> = everything.iter().skip(from).take(ACTIONS).collect();
    let more = (from + page.len() < everything.len()).then(|| offset_cursor(from + page.len()));
    let actions: Vec<Value> = page
        .iter()
        .map(|(action, foreign)| {
            let mut shown = json!({ "name": untrusted::clean(&action.name) });
            let name = if *foreign { "untrusted_sentence" } else { "sentence" };
            shown[name] = Value::from(brief(&action.sentence));
            if let Some(command) = accept(action, catalogue) {
                shown["changed"] = json!(true);
                shown["accept"] = json!(command);
            }
            shown
        })
        .collect();
    let lines: Vec<String> = page
        .iter()
        .map(|(action, foreign)| {
            let mark = if *foreign { "untrusted_sentence: " } else { "" };
            let changed = accept(action, catalogue)
                .map(|command| format!(" (changed: no step may use it until a person has looked, `{command}`)"))
                .unwrap_or_default();
            format!("- {}{changed}: {mark}{}", untrusted::clean(&action.name), brief(&action.sentence))
        })
        .collect();
    let unseen = &catalogue.unseen_servers;
    let waiting = if unseen.is_empty() {
        String::new()
    } else {
        format!("Configured, and not seen yet: {}. Their tools are <server>.<tool>.", unseen.join(", "))
    };
    Answer::new()
        .with("actions", actions)
        .with("unseen_servers", if unseen.is_empty() { Value::Null } else { json!(unseen) })
        .lines(lines)
        .line(waiting)
        .hint("list_actions with `name` shows the input of one; topic \"guide\" shows how pipelines are written.")
        .more(more)
}

/// The beginning of a sentence, on one line.
fn brief(sentence: &str) -> String {
    const MOST: usize = 200;
    let flat = untrusted::clean(sentence).replace(['\n', '\t'], " ");
    match flat.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

const fn repeat(effect: Effect) -> &'static str {
    match effect {
        Effect::Pure => "has no effect",
        Effect::Idempotent => "may be called again after an unknown outcome",
        Effect::Once => "is not called again after an unknown outcome",
    }
}

fn unknown(name: &str, catalogue: &Catalogue) -> ToolError {
    let next = match meant(name, catalogue) {
        Some(near) => format!("Perhaps `{near}` is meant. list_actions without arguments shows all."),
        None => "list_actions without arguments shows all. MCP servers are added by a person: `ordinaut server add`."
            .to_owned(),
    };
    Refusal::new("unknown_action", format!("there is no action `{name}`"), next).into()
}
