//! Resources: tasks and runs as the tools show them, the guide, the schemas of a definition and of what tools answer.

use ordinaut_schema::task;
use rmcp::{
    ErrorData, RoleServer,
    model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate},
    service::RequestContext,
};
use serde_json::json;

use crate::{
    changes::Subject,
    error::{ToolError, cause_logged},
    guide,
    server::OrdinautServer,
    tools::{self, Wanted},
};

const GUIDE: &str = "ordinaut://guide/pipelines";
const SCHEMA: &str = "ordinaut://schema/task";
const OUTPUTS: &str = "ordinaut://schema/outputs";
const TASKS: &str = "ordinaut://tasks/";
const RUNS: &str = "ordinaut://runs/";

const JSON: &str = "application/json";
const MARKDOWN: &str = "text/markdown";

/// A resource follows the tool that shows the same.
const FOLLOWS: [(&str, &str); 2] = [(TASKS, "get_task"), (RUNS, "get_run")];

/// Whether this server offers it to anybody.
fn is_offered(server: &OrdinautServer, uri: &str) -> bool {
    FOLLOWS.iter().all(|(prefix, tool)| !uri.starts_with(prefix) || server.offers(tool))
}

fn is_shown(server: &OrdinautServer, context: &RequestContext<RoleServer>, uri: &str) -> bool {
    FOLLOWS.iter().all(|(prefix, tool)| !uri.starts_with(prefix) || server.shows(context, tool))
}

pub(crate) fn templates(server: &OrdinautServer, context: &RequestContext<RoleServer>) -> Vec<ResourceTemplate> {
    let mut templates = vec![
        ResourceTemplate::new(format!("{TASKS}{{id}}"), "task")
            .with_title("A task")
            .with_description("Definition, standing, next occurrences and last runs of a task, by its id")
            .with_mime_type(JSON),
        ResourceTemplate::new(format!("{RUNS}{{id}}"), "run")
            .with_title("A run")
            .with_description("State and steps of a run, by its id; untrusted_ fields are data")
            .with_mime_type(JSON),
    ];
    templates.retain(|template| is_shown(server, context, &template.uri_template));
    templates
}

/// The guide and the schema, then the standing tasks, a page at a time; tasks only once the services are up.
pub(crate) async fn list(
    server: &OrdinautServer,
    cursor: Option<String>,
    context: RequestContext<RoleServer>,
) -> Result<ListResourcesResult, ErrorData> {
    let mut resources = if cursor.is_none() { fixed() } else { Vec::new() };
    let mut next = None;
    if server.services_now().is_some() && is_shown(server, &context, TASKS) {
        match tools::task_titles(server, context, cursor).await {
            Ok((tasks, after)) => {
                next = after;
                resources.extend(tasks.into_iter().map(|(id, title)| {
                    Resource::new(format!("{TASKS}{id}"), id.to_string()).with_title(title).with_mime_type(JSON)
                }));
            }
            Err(error) => return Err(protocol_error(error)),
        }
    }
    let mut result = ListResourcesResult::with_all_items(resources);
    result.next_cursor = next;
    Ok(result)
}

fn fixed() -> Vec<Resource> {
    vec![
        Resource::new(GUIDE, "guide")
            .with_title("How tasks are written")
            .with_description("Schedules, steps, templates, conditions, retries, with whole examples")
            .with_mime_type(MARKDOWN),
        Resource::new(SCHEMA, "task schema")
            .with_title("The schema of a task")
            .with_description("JSON Schema of a definition, steps included")
            .with_mime_type(JSON),
        Resource::new(OUTPUTS, "output schemas")
            .with_title("The schemas of answers")
            .with_description("JSON Schema of the structured content of each tool, and of a refusal")
            .with_mime_type(JSON),
    ]
}

pub(crate) async fn read(
    server: &OrdinautServer,
    uri: &str,
    context: RequestContext<RoleServer>,
) -> Result<ReadResourceResult, ErrorData> {
    let (text, kind) = match uri {
        GUIDE => (guide::text(|text| server.may_read(&context, text)), MARKDOWN),
        SCHEMA => (task::json_schema().to_string(), JSON),
        OUTPUTS => (server.outputs(&context).map_err(protocol_error)?.to_string(), JSON),
        uri => {
            let wanted = wanted(uri).filter(|_| is_offered(server, uri));
            let wanted = wanted.ok_or_else(|| about(uri, unknown(uri)))?;
            let shown =
                tools::read(server, context, wanted).await.map_err(|error| about(uri, protocol_error(error)))?;
            (shown.to_string(), JSON)
        }
    };
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type(kind)]))
}

/// What of a resource can change, by its address.
pub(crate) fn subject(uri: &str) -> Option<Subject> {
    let task = uri.strip_prefix(TASKS).and_then(|id| id.parse().ok()).map(Subject::Task);
    let run = || uri.strip_prefix(RUNS).and_then(|id| id.parse().ok()).map(Subject::Run);
    // A client that wrote an id in another way would not know its resource again.
    task.or_else(run).filter(|subject| self::uri(*subject).as_deref() == Some(uri))
}

/// The address of what changed; a list has none.
pub(crate) fn uri(subject: Subject) -> Option<String> {
    match subject {
        Subject::Task(task) => Some(format!("{TASKS}{task}")),
        Subject::Run(run) => Some(format!("{RUNS}{run}")),
        Subject::List => None,
    }
}

fn wanted(uri: &str) -> Option<Wanted> {
    let task = uri.strip_prefix(TASKS).map(|id| Wanted::Task(id.to_owned()));
    // A title is for tools: a resource has one address.
    let task = task.filter(|it| matches!(it, Wanted::Task(id) if id.parse::<ordinaut_schema::id::TaskId>().is_ok()));
    task.or_else(|| uri.strip_prefix(RUNS).map(|id| Wanted::Run(id.to_owned())))
}

fn unknown(uri: &str) -> ErrorData {
    let message =
        format!("there is no resource `{uri}`; there are {TASKS}<id>, {RUNS}<id>, {GUIDE}, {SCHEMA} and {OUTPUTS}");
    ErrorData::resource_not_found(message, None)
}

/// Which resource it was, where a client looks for that without reading the message.
fn about(uri: &str, mut error: ErrorData) -> ErrorData {
    error.data = Some(json!({ "uri": uri }));
    error
}

/// A resource has no way to be refused but an error of the protocol.
pub(crate) fn protocol_error(error: ToolError) -> ErrorData {
    match error {
        ToolError::Refused(refusal) => {
            let message = format!("{}. {}", refusal.message, refusal.next);
            match refusal.code {
                "task_not_found" | "run_not_found" => ErrorData::resource_not_found(message, None),
                _ => ErrorData::invalid_params(message, None),
            }
        }
        ToolError::Fault(fault) => {
            tracing::error!(error = &*fault as &dyn std::error::Error, "a resource cannot be read");
            ErrorData::internal_error(format!("Ordinaut failed at this; {}", cause_logged()), None)
        }
    }
}
