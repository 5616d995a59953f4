//! The table of tools: what there is, what of it this server offers, and what of that a principal sees.

use std::collections::BTreeMap;

use rmcp::{
    handler::server::router::tool::{ToolRoute, ToolRouter},
    model::Tool,
};

use crate::{
    error::ToolError,
    principal::{Principal, Scope},
    server::OrdinautServer,
    surface::{Group, Surface, Withheld},
};

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
}

/// Adds the tools of one group.
pub(super) struct Adding<'a> {
    table: &'a mut Table,
    group: Group,
}

impl Adding<'_> {
    pub(super) fn add(&mut self, route: ToolRoute<OrdinautServer>, scopes: Vec<Scope>, reads: bool) {
        let withheld = self.table.surface.withholds(self.group, reads);
        self.table.rows.insert(route.name().to_owned(), Row { scopes, withheld });
        if withheld.is_none() {
            self.table.router.add_route(route);
        }
    }
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
        self.router.list_all().into_iter().filter(|tool| self.sees(principal, &tool.name)).collect()
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
