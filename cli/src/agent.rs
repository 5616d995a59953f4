//! `agent`: who may reach Ordinaut over HTTP. A token is shown once, when it is made; only its digest is kept.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use jiff::Timestamp;
use ordinaut_schema::{
    action::Grants,
    budget::{Budget as Limits, Cost},
    time::{Zone, parse_duration},
};
use ordinaut_store::{agents::AgentRecord, budgets::BudgetChange};
use serde_json::{Value, json};

use crate::{
    failure::{Exit, Failure, quoted},
    out::{Out, note},
    session::Session,
};

const SCOPES: [&str; 6] = ["task:read", "task:write", "run:control", "event:publish", "approval:answer", "admin"];
/// Enough to be a scheduler's user: neither approvals nor administration.
const USUAL_SCOPES: [&str; 4] = ["task:read", "task:write", "run:control", "event:publish"];

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Make an agent, or one more token for it with --label; the token is shown once
    Add(Add),
    /// Change what an agent's steps may use; `local` is the local agent, which has all but commands
    Grant(Grant),
    /// Limit what an agent may use, or show what it has used; `local` is the local agent
    Budget(Budget),
    /// List agents with their tokens
    List,
    /// Revoke an agent and its tokens; its tasks stay, paused
    Revoke { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    name: String,
    /// One more token, under this label, for an agent that exists
    #[arg(long, conflicts_with_all = ["timezone", "tool", "channel", "model", "command", "secret"])]
    label: Option<String>,
    /// What the token is good for; may be given more than once. Default: all but approval:answer and admin
    #[arg(long, value_name = "SCOPE", value_parser = SCOPES)]
    scope: Vec<String>,
    /// The zone of its tasks that name none
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    #[command(flatten)]
    granted: Granted,
    /// When the token stops working, from now on: 30d, 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires: Option<Duration>,
}

/// What steps may use of the operator's; each may be given more than once.
#[derive(Debug, Clone, Args)]
pub(crate) struct Granted {
    /// An MCP server, or one tool (`github.create_issue`)
    #[arg(long, value_name = "SERVER[.TOOL]")]
    tool: Vec<String>,
    /// A channel of `notify.send`; `*` is every one
    #[arg(long, value_name = "NAME")]
    channel: Vec<String>,
    /// A model of `llm.generate`; `*` is every one
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// A command of `shell.exec`, by its id
    #[arg(long, value_name = "ID")]
    command: Vec<String>,
    /// A secret that steps may name; `*` is every one
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Grant {
    name: String,
    #[command(flatten)]
    granted: Granted,
    /// Take these away instead
    #[arg(long)]
    revoke: bool,
}

/// Without a limit, and without --clear, shows what is limited and used.
#[derive(Debug, Args)]
pub(crate) struct Budget {
    name: String,
    /// Runs of its tasks in a day of its zone (UTC without one); what is above is skipped
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    max_runs_per_day: Option<u32>,
    /// What models may cost in a month of its zone, in the currency of their prices
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    max_cost_per_month: Option<Cost>,
    /// Tokens of models, prompts included, that one run may use
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    max_tokens_per_run: Option<u32>,
    /// Forget the limits there are; those given beside it hold
    #[arg(long)]
    clear: bool,
}

fn amount(text: &str) -> Result<Cost, String> {
    let read = text.trim().parse().ok().and_then(Cost::of).filter(|amount| *amount > Cost::ZERO);
    read.ok_or_else(|| format!("`{text}` is no amount above 0, such as 20 or 2.50"))
}

impl Granted {
    fn change(&self, grants: &mut Grants, revoke: bool) {
        let lists = [
            (&self.tool, &mut grants.tools),
            (&self.channel, &mut grants.channels),
            (&self.model, &mut grants.models),
            (&self.command, &mut grants.commands),
            (&self.secret, &mut grants.secrets),
        ];
        for (named, granted) in lists {
            granted.retain(|it| !named.contains(it));
            if !revoke {
                granted.extend(named.iter().cloned());
            }
        }
    }
}

pub(crate) async fn agent(session: &Session, verb: &Agent, out: Out) -> Result<(), Failure> {
    match verb {
        Agent::Add(options) => add(session, options, out).await,
        Agent::Grant(options) => grant(session, options, out).await,
        Agent::Budget(options) => budget(session, options, out).await,
        Agent::List => list(session, out).await,
        Agent::Revoke { name } => {
            let id = session.store.revoke_agent(name).await?;
            if out.is_json() {
                return out.json(&json!({ "id": id, "name": name, "revoked": true }));
            }
            out.line(format!("agent `{name}` and its tokens are revoked; its tasks are paused"))
        }
    }
}

async fn add(session: &Session, options: &Add, out: Out) -> Result<(), Failure> {
    let store = &session.store;
    let timezone = match &options.timezone {
        Some(name) => Some(Zone::find(name).ok_or_else(|| {
            Failure::new(Exit::Refused, format!("`{name}` is no IANA zone"))
                .mend("write a name such as Europe/Chisinau")
        })?),
        None => None,
    };
    let expires_at = match options.expires {
        Some(after) => {
            let at = store.now().await?.checked_add(after);
            Some(at.map_err(|_| Failure::new(Exit::Refused, "the token would expire beyond the calendar's end"))?)
        }
        None => None,
    };
    let scopes = match options.scope.as_slice() {
        [] => USUAL_SCOPES.map(str::to_owned).to_vec(),
        named => named.to_vec(),
    };
    let token = if let Some(label) = &options.label {
        store.add_token(&options.name, label, &scopes, expires_at).await?
    } else {
        let mut grants = Grants::default();
        options.granted.change(&mut grants, false);
        let zone = timezone.as_ref().map(Zone::name);
        store.add_agent(&options.name, zone, &grants, &scopes, expires_at).await?.1
    };
    if out.is_json() {
        return out.json(&json!({
            "agent": options.name,
            "token_id": token.id,
            "token": token.text,
            "scopes": scopes,
            "expires_at": expires_at,
        }));
    }
    note(format!(
        "agent `{}`, token with {}; shown this once:",
        options.name,
        quoted(&scopes).replace(" or ", " and ")
    ));
    out.line(&token.text)
}

async fn grant(session: &Session, options: &Grant, out: Out) -> Result<(), Failure> {
    let (granted, revoke) = (options.granted.clone(), options.revoke);
    let change = move |grants: &mut Grants| granted.change(grants, revoke);
    let grants = session.store.change_grants(&options.name, change).await?;
    if out.is_json() {
        return out.json(&json!({ "agent": options.name, "grants": grants }));
    }
    let what = told(&grants);
    out.line(format!(
        "agent `{}` may use {}",
        options.name,
        if what.is_empty() { "the built-in actions only" } else { &what }
    ))
}

async fn budget(session: &Session, options: &Budget, out: Out) -> Result<(), Failure> {
    let limits = Limits {
        max_runs_per_day: options.max_runs_per_day,
        max_cost_per_month: options.max_cost_per_month,
        max_tokens_per_run: options.max_tokens_per_run,
    };
    let standing = if options.clear || !limits.is_empty() {
        session.store.set_agent_budget(&options.name, BudgetChange { clear: options.clear, limits }).await?
    } else {
        session.store.agent_budget(&options.name).await?
    };
    if out.is_json() {
        let mut shown = standing.to_json();
        shown["agent"] = json!(options.name);
        return out.json(&shown);
    }
    out.line(format!("agent `{}`, days and months of {}", options.name, standing.zone.name()))?;
    for (what, how) in standing.lines() {
        out.line(format!("  {what:<20}{how}"))?;
    }
    Ok(())
}

/// What is granted, for people.
fn told(grants: &Grants) -> String {
    let everything = grants.all.then(|| "everything configured".to_owned());
    let lists = [
        ("channel", &grants.channels),
        ("model", &grants.models),
        ("command", &grants.commands),
        ("secret", &grants.secrets),
    ];
    let named = lists.into_iter().flat_map(|(what, names)| names.iter().map(move |name| format!("{what}:{name}")));
    everything.into_iter().chain(grants.tools.iter().cloned()).chain(named).collect::<Vec<_>>().join(", ")
}

async fn list(session: &Session, out: Out) -> Result<(), Failure> {
    let agents = session.store.list_agents().await?;
    if out.is_json() {
        return out.json(&agents.iter().map(to_json).collect::<Vec<_>>());
    }
    let now = session.store.now().await?;
    let mut rows = Vec::new();
    for agent in &agents {
        let granted = told(&agent.grants);
        let zone = agent.timezone.clone().unwrap_or_default();
        let row = |label: &str, scopes: String, state: &str| {
            vec![agent.name.clone(), zone.clone(), granted.clone(), label.to_owned(), scopes, state.to_owned()]
        };
        if agent.tokens.is_empty() {
            rows.push(row("", String::new(), standing(agent.revoked_at, None, now)));
        }
        for token in &agent.tokens {
            let revoked_at = agent.revoked_at.or(token.revoked_at);
            rows.push(row(&token.label, token.scopes.join(" "), standing(revoked_at, token.expires_at, now)));
        }
    }
    out.table(&["AGENT", "ZONE", "MAY USE", "TOKEN", "SCOPES", "STATE"], rows, "no agent")
}

fn standing(revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>, now: Timestamp) -> &'static str {
    match (revoked_at, expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, _) => "good",
    }
}

fn to_json(agent: &AgentRecord) -> Value {
    let tokens: Vec<_> = agent
        .tokens
        .iter()
        .map(|token| {
            json!({
                "id": token.id,
                "label": token.label,
                "scopes": token.scopes,
                "created_at": token.created_at,
                "expires_at": token.expires_at,
                "revoked_at": token.revoked_at,
            })
        })
        .collect();
    json!({
        "id": agent.id,
        "name": agent.name,
        "timezone": agent.timezone,
        "grants": agent.grants,
        "created_at": agent.created_at,
        "revoked_at": agent.revoked_at,
        "tokens": tokens,
    })
}
