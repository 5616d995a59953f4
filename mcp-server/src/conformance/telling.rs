//! Tools that tell something while they run: logs, progress, changes of lists.
#![expect(deprecated, reason = "the suite still calls what a later revision dropped")]

use std::time::Duration;

use rmcp::{
    RoleServer,
    model::{
        CallToolResult, ContentBlock, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
        ProtocolVersion,
    },
    service::RequestContext,
};
use serde_json::json;
use tokio::time::sleep;

use super::Fixtures;

/// Between two messages, so that they are seen to come while the call runs.
const PAUSE: Duration = Duration::from_millis(50);

/// The answer of the tool of that name, if it is one of these; `least` is the level that the session asked for.
pub(super) async fn answer(
    tool: &str,
    fixtures: &Fixtures,
    least: LoggingLevel,
    context: &RequestContext<RoleServer>,
) -> Option<CallToolResult> {
    match tool {
        "test_tool_with_logging" | "test_logging_tool" => log(least, context).await,
        "test_tool_with_progress" => progress(context).await,
        "test_trigger_tool_change" => fixtures.changes.send_modify(|changes| changes.tools += 1),
        "test_trigger_prompt_change" => fixtures.changes.send_modify(|changes| changes.prompts += 1),
        _ => return None,
    }
    Some(CallToolResult::success(vec![ContentBlock::text("told")]))
}

async fn log(least: LoggingLevel, context: &RequestContext<RoleServer>) {
    let newest = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    // From then on each request says what it wants, and one that says nothing wants nothing.
    let least = if newest { context.meta.log_level() } else { Some(least) };
    for text in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        if least.is_some_and(|least| rank(LoggingLevel::Info) >= rank(least)) {
            let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(text));
            // A client that is gone is told nothing.
            let _ = context.peer.notify_logging_message(message).await;
        }
        sleep(PAUSE).await;
    }
}

async fn progress(context: &RequestContext<RoleServer>) {
    let token = context.meta.get_progress_token();
    for reached in [0.0, 50.0, 100.0] {
        if let Some(token) = &token {
            let told = ProgressNotificationParam::new(token.clone(), reached).with_total(100.0);
            // As above.
            let _ = context.peer.notify_progress(told).await;
        }
        sleep(PAUSE).await;
    }
}

/// RFC 5424's order, turned round: what matters more is greater.
fn rank(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}
