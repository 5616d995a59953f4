//! The tools: what an assistant can ask for, each a row in one table.
//!
//! A tool is a [`Spec`] (what clients are told) and an async function over a [`Call`] (what is done). Arguments are
//! read leniently, so that everything wrong with them is told at once; the schema that is advertised is shaped by
//! hand in `schema`, flat and small, because a model reads it.
//!
//! - `call`, `arguments`, `answer`, `refusals`: what every tool is made of
//! - `asking`: the client's form, which a person fills in; `zones`: a zone that is asked for so
//! - `table`: what of them is offered, and to whom
//! - `schema`: the input schemas' words; `outputs`: the output schemas'; `show`: tasks and runs as answers show them; `untrusted`: foreign text
//! - `tasks` (with `create`, `update`, `standing`, `listing`), `runs` (with `wait`), `schedules`, `actions`, `events`, `inbox`, `approvals`

mod actions;
mod answer;
mod approvals;
mod arguments;
mod asking;
mod call;
mod events;
mod inbox;
mod outputs;
mod page;
mod refusals;
mod runs;
mod schedules;
mod schema;
mod show;
mod table;
mod tasks;
mod untrusted;
mod zones;

use std::{future::Future, sync::Arc};

use ordinaut_schema::id::TaskId;
use rmcp::{
    RoleServer,
    handler::server::{router::tool::ToolRoute, tool::ToolCallContext},
    model::{CallToolResult, JsonObject, Tool, ToolAnnotations},
    service::RequestContext,
};
use serde_json::Value;

use crate::{
    error::ToolError,
    principal::{Principal, Scope},
    server::OrdinautServer,
    surface::{Group, Surface},
};

use self::{
    answer::Answer,
    call::{Call, Clock},
    table::Adding,
};

pub(crate) use self::{table::Table, tasks::Listings, untrusted::visible};

/// What clients are told of a tool, and what it takes to call it.
struct Spec {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    scope: Scope,
    kind: Kind,
    input: Value,
    /// What it answers, refusals apart.
    output: Value,
}

/// What calling a tool does to the world: the hints that clients ask people by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    /// Adds or changes; the same call again changes nothing more.
    Settles,
    /// Each call adds one more, unless it carries the id of a call before.
    Adds,
    /// What it ends does not come back.
    Ends,
    /// Starts steps now, which reach whatever they reach.
    Starts,
}

impl Kind {
    fn annotations(self, title: &str) -> ToolAnnotations {
        ToolAnnotations::with_title(title)
            .read_only(self == Self::Reads)
            .destructive(self == Self::Ends)
            .idempotent(matches!(self, Self::Reads | Self::Settles | Self::Ends))
            .open_world(self == Self::Starts)
    }
}

/// Every tool that this server offers.
pub(crate) fn table(surface: Surface) -> Table {
    let mut table = Table::of(surface);
    for group in Group::ALL {
        let adding = &mut table.group(group);
        match group {
            Group::Tasks => tasks::add(adding),
            Group::Runs => runs::add(adding),
            Group::Schedules => schedules::add(adding),
            Group::Actions => actions::add(adding),
            Group::Events => events::add(adding),
            Group::Inbox => inbox::add(adding),
            Group::Approvals => approvals::add(adding),
        }
    }
    table
}

/// What can be read as a resource too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Task(String),
    Run(String),
}

/// What the tools show of a task (its definition whole) or of a run, for those who read it as a resource.
pub(crate) async fn read(
    server: &OrdinautServer,
    context: RequestContext<RoleServer>,
    wanted: Wanted,
) -> Result<Value, ToolError> {
    let principal = server.principal_with(&context, Scope::TaskRead)?;
    let call = Call::new(server.clone(), context, None).from(principal);
    let (clock, context) = (call.clock(), call.context.clone());
    let answer = match wanted {
        // Boxed, as a tool's are: who serves a session holds room for the largest of its requests.
        Wanted::Task(task) => Box::pin(tasks::whole_task(&call, &task)).await?,
        Wanted::Run(run) => Box::pin(runs::run_by_id(&call, &run)).await?,
    };
    let result = answer.into_result(&clock.moment(), |text| server.may_read(&context, text));
    Ok(result.structured_content.unwrap_or_default())
}

/// The ids and titles of one page of tasks, and the cursor of the next page.
pub(crate) async fn task_titles(
    server: &OrdinautServer,
    context: RequestContext<RoleServer>,
    cursor: Option<String>,
) -> Result<(Vec<(TaskId, String)>, Option<String>), ToolError> {
    let principal = server.principal_with(&context, Scope::TaskRead)?;
    let call = Call::new(server.clone(), context, None).from(principal);
    Box::pin(tasks::titles(&call, cursor)).await
}

/// The refusal of a call that reaches no tool.
pub(crate) fn refused(server: &OrdinautServer, refusal: ToolError) -> CallToolResult {
    refusal.into_result(Clock::of(server).moment().text(), |_| true)
}

/// Who may call a tool at all.
type Admit = fn(&OrdinautServer, &RequestContext<RoleServer>, Scope) -> Result<Principal, ToolError>;

/// A tool for those whose token has its scope.
fn add_tool<F, A>(group: &mut Adding<'_>, spec: Spec, act: F)
where
    F: Fn(Call) -> A + Send + Sync + Copy + 'static,
    A: Future<Output = Result<Answer, ToolError>> + Send + 'static,
{
    let scopes = vec![spec.scope];
    add_admitting(group, spec, scopes, OrdinautServer::principal_with, act);
}

/// A tool that judges by itself who may do what with it; a token with its scope, or one of `also`, sees it.
fn add_tool_for_all<F, A>(group: &mut Adding<'_>, spec: Spec, also: &[Scope], act: F)
where
    F: Fn(Call) -> A + Send + Sync + Copy + 'static,
    A: Future<Output = Result<Answer, ToolError>> + Send + 'static,
{
    let scopes = also.iter().copied().chain([spec.scope]).collect();
    add_admitting(group, spec, scopes, |server, context, _scope| server.principal(context), act);
}

/// A tool as the router keeps it: the caller judged first, refusals turned into results, `now` on either.
fn add_admitting<F, A>(group: &mut Adding<'_>, spec: Spec, scopes: Vec<Scope>, admit: Admit, act: F)
where
    F: Fn(Call) -> A + Send + Sync + Copy + 'static,
    A: Future<Output = Result<Answer, ToolError>> + Send + 'static,
{
    let Spec { name, title, description, scope, kind, input, output } = spec;
    let Value::Object(input) = input else { unreachable!("an input schema is an object") };
    let tool = Tool::new(name, description, Arc::new(JsonObject::from_iter(input)))
        .with_title(title)
        .with_annotations(kind.annotations(title));
    let route = ToolRoute::new_dyn(tool, move |context: ToolCallContext<'_, OrdinautServer>| {
        Box::pin(async move {
            let principal = admit(context.service, &context.request_context, scope);
            let (server, request) = (context.service.clone(), context.request_context.clone());
            let may_read = |text: &str| server.may_read(&request, text);
            let call = Call::new(context.service.clone(), context.request_context, context.arguments)
                .answering(context.input_responses);
            let clock = call.clock();
            let answered = match principal {
                Ok(principal) => {
                    let agent = principal.agent;
                    let answered = act(call.from(principal)).await;
                    if kind != Kind::Reads && answered.is_ok() {
                        context.service.changes().stir(agent);
                    }
                    answered
                }
                Err(refusal) => Err(refusal),
            };
            match answered {
                Ok(answer) => Ok(answer.into_response(&clock.moment(), may_read)),
                Err(refusal) => Ok(refusal.into_result(clock.moment().text(), may_read).into()),
            }
        })
    });
    group.add(route, scopes, kind == Kind::Reads, output);
}
