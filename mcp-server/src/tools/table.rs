//! The table of tools: what there is, what of it this server offers, and what of that a principal sees.

use std::{collections::BTreeMap, sync::Arc};

use rmcp::{
    handler::server::router::tool::{ToolRoute, ToolRouter},
    model::Tool,
};
use serde_json::{Map, Value, json};

use crate::{
    error::ToolError,
    hints,
    principal::{Principal, Scope},
    server::OrdinautServer,
    surface::{Group, Surface, Withheld},
};

use super::refusals;

/// Every tool, with those that are not offered known by their names only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    router: ToolRouter<OrdinautServer>,
    rows: BTreeMap<String, Row>,
    surface: Surface,
}

#[derive(Debug, Clone)]
struct Row {
    /// Any one of them admits.
    scopes: Vec<Scope>,
    withheld: Option<Withheld>,
    output: Value,
}

/// Adds the tools of one group.
pub(super) struct Adding<'a> {
    table: &'a mut Table,
    group: Group,
}

impl Adding<'_> {
    /// Whether tools that change something are left out.
    pub(super) fn only_reads(&self) -> bool {
        self.table.surface.read_only
    }

    pub(super) fn add(&mut self, route: ToolRoute<OrdinautServer>, scopes: Vec<Scope>, reads: bool, output: Value) {
        let withheld = self.table.surface.withholds(self.group, reads);
        self.table.rows.insert(route.name().to_owned(), Row { scopes, withheld, output });
        if withheld.is_none() {
            self.table.router.add_route(route);
        }
    }
}

/// A tool whose descriptions are told as `shown` tells them.
fn told(mut tool: Tool, shown: impl Fn(&str) -> String) -> Tool {
    tool.description = tool.description.map(|text| shown(&text).into());
    let fields = Arc::make_mut(&mut tool.input_schema).get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(Map::values_mut) {
        if let Some(Value::String(text)) = field.get_mut("description") {
            *text = shown(text);
        }
    }
    tool
}

impl Table {
    pub(super) fn of(surface: Surface) -> Self {
        Self { surface, ..Self::default() }
    }

    pub(super) fn group(&mut self, group: Group) -> Adding<'_> {
        Adding { table: self, group }
    }

    /// Further tools, which everybody sees.
    pub(crate) fn merge(&mut self, tools: ToolRouter<OrdinautServer>) {
        self.router.merge(tools);
    }

    pub(crate) fn router(&self) -> &ToolRouter<OrdinautServer> {
        &self.router
    }

    /// What `principal` is told of, in one order.
    pub(crate) fn seen_by(&self, principal: &Principal) -> Vec<Tool> {
        let tools = self.router.list_all().into_iter().filter(|tool| self.sees(principal, &tool.name));
        if self.rows.keys().all(|tool| self.sees(principal, tool)) {
            return tools.collect();
        }
        let shown = |text: &str| hints::shown(text, |part| self.may_read(principal, part));
        tools.map(|tool| told(tool, shown)).collect()
    }

    /// What the tools that `principal` sees answer, as JSON Schemas, and what any of them refuses with.
    pub(crate) fn outputs(&self, principal: &Principal) -> Value {
        let seen = self.rows.iter().filter(|(tool, _)| self.sees(principal, tool));
        let tools: Map<_, _> = seen.map(|(tool, row)| (tool.clone(), row.output.clone())).collect();
        json!({ "tools": tools, "refusal": refusals::output() })
    }

    /// Whether a tool is offered, and `principal` may call it.
    pub(crate) fn sees(&self, principal: &Principal, tool: &str) -> bool {
        match self.rows.get(tool) {
            Some(row) => row.withheld.is_none() && row.scopes.iter().any(|scope| principal.may(*scope)),
            None => self.router.has_route(tool),
        }
    }

    /// The refusal of a tool that exists and is not offered: a client may know it from another day.
    pub(crate) fn withheld(&self, tool: &str) -> Option<ToolError> {
        let why = self.rows.get(tool)?.withheld?;
        let message = format!("`{tool}` is not offered: {why}; nothing was done");
        Some(ToolError::refused("not_offered", message, "Use the tools that tools/list shows, or tell the person."))
    }

    /// Whether a text tells of no tool that `principal` does not see.
    pub(crate) fn may_read(&self, principal: &Principal, text: &str) -> bool {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.all(|word| !self.rows.contains_key(word) || self.sees(principal, word))
    }
}
