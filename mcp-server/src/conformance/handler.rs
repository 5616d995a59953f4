//! The server with the fixtures in front of it, where it has any; what no fixture answers, the server does.
#![expect(deprecated, reason = "the suite still calls what a later revision dropped")]

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CompletionInfo,
        GetPromptRequestParams, GetPromptResponse, JsonObject, ListPromptsResult, ListResourceTemplatesResult,
        ListResourcesResult, ListToolsResult, LoggingLevel, PaginatedRequestParams, ProtocolVersion,
        ReadResourceRequestParams, ReadResourceResponse, Reference, ServerConfig, SetLevelRequestParams,
        SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use tokio::sync::watch;

use crate::server::OrdinautServer;

use super::{
    Changes, Fixtures, asking, content, prompts, resources,
    rounds::{self, Round},
    telling, tools,
};

/// One session's, or one request's.
#[derive(Debug)]
pub(crate) struct Handler {
    server: OrdinautServer,
    fixtures: Option<Fixtures>,
    /// Since before any request was answered: what changes while a subscription begins is told it, too.
    changes: Option<watch::Receiver<Changes>>,
    least: Mutex<LoggingLevel>,
}

impl Handler {
    pub(crate) fn new(server: OrdinautServer) -> Self {
        let fixtures = server.fixtures().cloned();
        let changes = fixtures.as_ref().map(|fixtures| fixtures.changes.subscribe());
        Self { server, fixtures, changes, least: Mutex::new(LoggingLevel::Debug) }
    }

    fn least(&self) -> LoggingLevel {
        // One word, always whole.
        *self.least.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let mut config = self.server.get_info();
        if self.fixtures.is_some() {
            let can = &mut config.capabilities;
            can.logging = Some(JsonObject::new());
            can.completions = Some(JsonObject::new());
            can.tools.get_or_insert_default().list_changed = Some(true);
            can.prompts.get_or_insert_default().list_changed = Some(true);
            can.resources.get_or_insert_default().subscribe = Some(true);
        }
        config
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.server.supported_protocol_versions()
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let fixture = self.fixtures.as_ref().and_then(|_| tools::find(name));
        fixture.or_else(|| self.server.get_tool(name))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut result = self.server.list_tools(request, context).await?;
        if self.fixtures.is_some() {
            result.tools.extend(tools::all());
        }
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(fixtures) = self.fixtures.as_ref().filter(|_| tools::find(&request.name).is_some()) else {
            return self.server.call_tool(request, context).await;
        };
        if let Some(result) = content::answer(&request.name) {
            return Ok(result.into());
        }
        if let Some(result) = telling::answer(&request.name, fixtures, self.least(), &context).await {
            return Ok(result.into());
        }
        let arguments = request.arguments.unwrap_or_default();
        if let Some(result) = asking::answer(&request.name, &arguments, &context).await {
            return Ok(result.into());
        }
        let round = Round {
            responses: request.input_responses.unwrap_or_default(),
            state: request.request_state,
            client: context.client_capabilities().unwrap_or_default(),
            states: &fixtures.states,
        };
        rounds::answer(&request.name, &round).expect("a fixture that is listed is answered")
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let mut result = self.server.list_resources(request, context).await?;
        if self.fixtures.is_some() {
            result.resources.extend(resources::all());
        }
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut result = self.server.list_resource_templates(request, context).await?;
        if self.fixtures.is_some() {
            result.resource_templates.extend(resources::templates());
        }
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match self.fixtures.as_ref().and_then(|_| resources::read(&request.uri)) {
            Some(result) => Ok(result.into()),
            None => self.server.read_resource(request, context).await,
        }
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let mut result = self.server.list_prompts(request, context).await?;
        if self.fixtures.is_some() {
            result.prompts.extend(prompts::all());
        }
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let got = self.fixtures.as_ref().and_then(|fixtures| {
            let round = Round {
                responses: request.input_responses.clone().unwrap_or_default(),
                state: request.request_state.clone(),
                client: context.client_capabilities().unwrap_or_default(),
                states: &fixtures.states,
            };
            prompts::get(&request.name, &request.arguments.clone().unwrap_or_default(), &round)
        });
        match got {
            Some(answer) => answer,
            None => self.server.get_prompt(request, context).await,
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        match &request.r#ref {
            Reference::Prompt(prompt) if self.fixtures.is_some() && prompt.name.starts_with("test_") => {
                let values = ["paris", "park", "party"].map(str::to_owned);
                let begun = values.into_iter().filter(|value| value.starts_with(&request.argument.value));
                let found = CompletionInfo::with_all_values(begun.collect());
                found.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
            }
            _ => self.server.complete(request, context).await,
        }
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if self.fixtures.is_none() {
            return self.server.set_level(request, context).await;
        }
        *self.least.lock().unwrap_or_else(PoisonError::into_inner) = request.level;
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if self.fixtures.is_some() && resources::is_watched(&request.uri) {
            return Ok(());
        }
        self.server.subscribe(request, context).await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if self.fixtures.is_some() && resources::is_watched(&request.uri) {
            return Ok(());
        }
        self.server.unsubscribe(request, context).await
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        // The SDK leaves of it what the capabilities say.
        if self.fixtures.is_some() {
            Some(requested.clone())
        } else {
            self.server.accepted_subscription_filter(requested)
        }
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let Some(mut changes) = self.changes.clone() else { return self.server.listen(context).await };
        let mut told = *changes.borrow();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                more = changes.changed() => if more.is_err() { return Ok(()) },
            }
            let now = *changes.borrow_and_update();
            let wants = context.accepted();
            let mut sent = Ok(());
            if now.tools != told.tools && wants.tools_list_changed == Some(true) {
                sent = context.sink().notify_tool_list_changed().await;
            }
            if now.prompts != told.prompts && wants.prompts_list_changed == Some(true) {
                sent = sent.and(context.sink().notify_prompt_list_changed().await);
            }
            if sent.is_err() {
                // Whoever listened is gone.
                return Ok(());
            }
            told = now;
        }
    }
}
