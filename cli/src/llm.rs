//! `llm`: what `llm.generate` may ask. Edits `ordinaut.toml`, which executors read again within five seconds.

use clap::{Args, Subcommand};
use ordinaut_schema::operator::ModelKind;
use serde_json::json;
use toml_edit::{InlineTable, Table, Value, value};

use crate::{
    channel::{refuse_taken, remove, unknown, written},
    config::Config,
    credential::ask,
    failure::Failure,
    operator_file::OperatorFile,
    out::Out,
    session::Session,
    trial,
};

const TABLE: &str = "llm";

#[derive(Debug, Subcommand)]
pub(crate) enum Llm {
    /// Add a model; its API key is asked for, or read from stdin
    Add(Add),
    /// List models
    List,
    /// Ask a model one short question, as a step would
    Test { name: String },
    /// Remove a model
    Remove { name: String },
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Add {
    /// What steps call it: lower-case letters, digits, `_` and `-`
    name: String,
    /// What the endpoint speaks
    #[arg(value_parser = ModelKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())]
    kind: String,
    /// The endpoint's own name of the model
    #[arg(long)]
    model: String,
    /// Another endpoint than the kind's own, such as http://127.0.0.1:11434/v1
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// The endpoint wants none
    #[arg(long, conflicts_with = "secret")]
    no_key: bool,
    /// Write a reference to this secret instead of asking for the key
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// The most tokens of one answer
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Use it where a step names no model
    #[arg(long)]
    default: bool,
    /// The endpoint cannot hold a model to a JSON Schema
    #[arg(long)]
    no_strict: bool,
    /// What a million tokens cost: INPUT,OUTPUT
    #[arg(long, value_name = "INPUT,OUTPUT", value_parser = price)]
    price: Option<(f64, f64)>,
    /// Take the place of a model of that name
    #[arg(long)]
    replace: bool,
}

fn price(text: &str) -> Result<(f64, f64), String> {
    let pair = text
        .split_once(',')
        .and_then(|(input, output)| Some((input.trim().parse::<f64>().ok()?, output.trim().parse::<f64>().ok()?)));
    pair.ok_or_else(|| format!("`{text}` is not INPUT,OUTPUT, such as 3,15"))
}

pub(crate) async fn llm(config: &Config, agent: Option<&str>, verb: &Llm, out: Out) -> Result<(), Failure> {
    match verb {
        Llm::Add(options) => add(config, options, out),
        Llm::List => list(config, out),
        Llm::Remove { name } => remove(config, TABLE, "model", name, out),
        Llm::Test { name } => {
            let file = OperatorFile::open(&config.layout.config_file.path)?.operator()?;
            if !file.models.contains_key(name) {
                return Err(unknown("model", name, file.models.keys()));
            }
            let session = Session::open(config, agent).await?;
            trial::offered(&session, |offered| offered.models.contains_key(name)).await?;
            let with = json!({ "model": name, "instruction": "Answer with the one word: ready", "max_tokens": 200 });
            trial::step(&session, "llm.generate", &with, &format!("Test of the model {name}"), out).await
        }
    }
}

fn add(config: &Config, options: &Add, out: Out) -> Result<(), Failure> {
    let mut file = OperatorFile::open(&config.layout.config_file.path)?;
    refuse_taken(&file, TABLE, "model", &options.name, options.replace)?;
    let mut entry = Table::new();
    entry.insert("kind", value(&options.kind));
    if let Some(url) = &options.base_url {
        entry.insert("base_url", value(url));
    }
    entry.insert("model", value(&options.model));
    if options.default {
        entry.insert("default", value(true));
        file.clear_elsewhere(TABLE, "default", &options.name);
    }
    if let Some(most) = options.max_tokens {
        entry.insert("max_tokens", value(i64::from(most)));
    }
    if options.no_strict {
        entry.insert("strict", value(false));
    }
    if let Some((input, output)) = options.price {
        let prices = [("input", input), ("output", output)].map(|(name, amount)| (name, Value::from(amount)));
        entry.insert("price", value(InlineTable::from_iter(prices)));
    }
    if !options.no_key {
        entry.insert("api_key", value(ask("API key", options.secret.as_deref())?));
    }
    file.put(TABLE, &options.name, entry)?;
    file.write()?;
    written(config, "model", &options.name, out)
}

fn list(config: &Config, out: Out) -> Result<(), Failure> {
    let operator = OperatorFile::open(&config.layout.config_file.path)?.operator()?;
    let is_default = |name: &String| operator.default_model.as_ref() == Some(name);
    if out.is_json() {
        let models: Vec<_> = operator
            .models
            .iter()
            .map(|(name, it)| {
                let price = it.price.map(|price| json!({ "input": price.input, "output": price.output }));
                json!({
                    "name": name,
                    "kind": it.kind,
                    "model": it.model,
                    "base_url": it.base_url.as_str(),
                    "default": is_default(name),
                    "max_tokens": it.max_tokens,
                    "price": price,
                })
            })
            .collect();
        return out.json(&models);
    }
    let rows = operator.models.iter().map(|(name, it)| {
        let mark = if is_default(name) { "default" } else { "" };
        let host = it.base_url.host_str().unwrap_or_default();
        vec![name.clone(), it.kind.to_string(), it.model.clone(), host.to_owned(), mark.to_owned()]
    });
    out.table(&["NAME", "KIND", "MODEL", "AT", ""], rows.collect(), "no model; `ordinaut llm add` adds one")
}
