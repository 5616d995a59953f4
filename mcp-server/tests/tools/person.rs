//! A client with forms, and the person who fills them in.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use ordinaut_mcp::server::OrdinautServer;
use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction,
        ElicitationCapability, Implementation, ProtocolVersion,
    },
    service::{ClientLifecycleMode, ClientServiceExt as _, RequestContext},
};
use serde_json::{Value, json};

use crate::support::{Called, PATIENCE, serve};

/// The revisions that have forms: asked for as a result of the call, and while it waits.
pub(crate) const WITH_FORMS: [ProtocolVersion; 3] =
    [ProtocolVersion::V_2026_07_28, ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2025_06_18];

#[derive(Clone)]
struct Person {
    revision: ProtocolVersion,
    has_forms: bool,
    /// What they fill into one form after the other; `None` closes it.
    answers: Arc<Mutex<VecDeque<Option<Value>>>>,
    shown: Arc<Mutex<Vec<Form>>>,
}

/// What a person saw.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) message: String,
    pub(crate) schema: Value,
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = self.has_forms.then(ElicitationCapability::default);
        ClientConfig::new(capabilities, Implementation::new("person", "1")).with_protocol_version(self.revision.clone())
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } = request else {
            panic!("a form")
        };
        self.shown.lock().unwrap().push(Form { message, schema: json!(requested_schema) });
        Ok(match self.answers.lock().unwrap().pop_front().expect("nobody is asked more often than they answer") {
            Some(answer) => ElicitResult::new(ElicitationAction::Accept).with_content(answer),
            None => ElicitResult::new(ElicitationAction::Decline),
        })
    }
}

/// One call by a client of that revision, and the forms that its person saw, each answered with the next answer.
pub(crate) async fn through_the_form(
    server: &OrdinautServer,
    revision: &ProtocolVersion,
    answers: impl IntoIterator<Item = Option<Value>>,
    tool: &'static str,
    arguments: Value,
) -> (Called, Vec<Form>) {
    let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
    let person = Person { revision: revision.clone(), has_forms: true, answers, shown: Arc::default() };
    let called = call_as(person.clone(), server, tool, arguments).await;
    let shown = person.shown.lock().unwrap().clone();
    (called, shown)
}

/// One call by a client of that revision that has no forms.
pub(crate) async fn without_forms(
    server: &OrdinautServer,
    revision: &ProtocolVersion,
    tool: &'static str,
    arguments: Value,
) -> Called {
    let person =
        Person { revision: revision.clone(), has_forms: false, answers: Arc::default(), shown: Arc::default() };
    call_as(person, server, tool, arguments).await
}

async fn call_as(person: Person, server: &OrdinautServer, tool: &'static str, arguments: Value) -> Called {
    let lifecycle = if person.revision >= ProtocolVersion::V_2026_07_28 {
        ClientLifecycleMode::Discover { preferred_versions: vec![person.revision.clone()] }
    } else {
        ClientLifecycleMode::Initialize
    };
    let client = person.serve_with_lifecycle(serve(server.for_session()), lifecycle).await.unwrap();
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    let request = CallToolRequestParams::new(tool).with_arguments(arguments);
    let called = tokio::time::timeout(PATIENCE, client.call_tool(request)).await.unwrap().unwrap();
    client.cancel().await.unwrap();
    Called::of(tool, called).await
}
