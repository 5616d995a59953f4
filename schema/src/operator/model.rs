//! `[llm.<name>]`: one model behind an endpoint that speaks Anthropic's Messages or OpenAI's chat completions.

use serde_json::Value;
use url::Url;

use super::credential::{Credential, endpoint, read as read_credential};
use crate::{
    budget::{Cost, Tariff},
    fault::FaultCode,
    fields::Fields,
    run::text_enum,
};

const MAX_TOKENS: u32 = 4096;
const MOST_TOKENS: u32 = 1_000_000;

text_enum! {
    /// What an endpoint speaks.
    ModelKind {
        Anthropic = "anthropic",
        OpenAi = "openai",
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub kind: ModelKind,
    /// Without the path of the call.
    pub base_url: Url,
    /// As the endpoint calls it.
    pub model: String,
    /// A model of one's own machine needs none.
    pub api_key: Option<Credential>,
    /// The most that one answer may have, and what it has where a step says nothing.
    pub max_tokens: u32,
    /// Whether the endpoint can hold a model to a JSON Schema.
    pub strict: bool,
    pub price: Option<Price>,
}

/// Per million tokens, in the operator's currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    pub input: f64,
    pub output: f64,
}

impl Model {
    /// What it costs, where the operator gave it a price.
    pub fn tariff(&self) -> Option<Tariff> {
        let Price { input, output } = self.price?;
        Some(Tariff { input: Cost::of(input)?, output: Cost::of(output)?, max_tokens: self.max_tokens })
    }

    /// Where a call goes. A base that ends in `/v1` is what OpenAI-compatible servers are usually given as.
    pub fn url(&self) -> Url {
        let path = match self.kind {
            ModelKind::Anthropic => "messages",
            ModelKind::OpenAi => "chat/completions",
        };
        let base = self.base_url.path().trim_end_matches('/');
        let version = if base.ends_with("/v1") { "" } else { "/v1" };
        let mut url = self.base_url.clone();
        url.set_path(&format!("{base}{version}/{path}"));
        url
    }
}

/// The model, and whether it is the default.
pub(super) fn read(mut fields: Fields<'_, '_>) -> Option<(Model, bool)> {
    fields.missing("kind", "one of anthropic, openai (which many servers speak)");
    fields.missing("model", "the endpoint's own name of the model");
    let kind = fields.choice("kind", ModelKind::ALL, ModelKind::as_str);
    let model = fields.line("model", 200).map(str::to_owned);
    let usual = match kind {
        Some(ModelKind::OpenAi) => "https://api.openai.com",
        Some(ModelKind::Anthropic) | None => "https://api.anthropic.com",
    };
    let written = fields.line("base_url", 2000).unwrap_or(usual);
    let base_url = endpoint(written).map_err(|why| {
        fields.fault("base_url", FaultCode::InvalidValue, format!("`base_url` {why}"));
    });
    let api_key = read_credential(&mut fields, "api_key");
    let max_tokens = fields.count("max_tokens", 1..=MOST_TOKENS).unwrap_or(MAX_TOKENS);
    let strict = fields.flag("strict").unwrap_or(true);
    let is_default = fields.flag("default").unwrap_or_default();
    let price = price(&mut fields);
    fields.finish("a model", &[("url", "base_url"), ("key", "api_key"), ("prices", "price")]);
    Some((
        Model { kind: kind?, base_url: base_url.ok()?, model: model?, api_key, max_tokens, strict, price },
        is_default,
    ))
}

fn price(fields: &mut Fields<'_, '_>) -> Option<Price> {
    let written = fields.object("price")?;
    let amount = |name: &str| written.get(name).and_then(Value::as_f64).filter(|it| Cost::of(*it).is_some());
    if let (Some(input), Some(output), 2) = (amount("input"), amount("output"), written.len()) {
        return Some(Price { input, output });
    }
    let message = "`price` is what a million tokens cost: price = { input = 3.0, output = 15.0 }";
    fields.fault("price", FaultCode::InvalidValue, message);
    None
}
