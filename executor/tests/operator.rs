//! What the operator configures, at work: channels and models against local servers, commands, the file read again by a real
//! executor, grants and limits at the call, and credentials in nothing that is kept.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on should stop; `json!` makes values"
)]

#[expect(unreachable_pub, dead_code, reason = "fixtures of several test programs")]
#[path = "daemon/support.rs"]
mod support;

#[path = "operator/approval.rs"]
mod approval;
#[path = "operator/budgets.rs"]
mod budgets;
#[path = "operator/daemon.rs"]
mod daemon;
#[path = "operator/email.rs"]
mod email;
#[path = "operator/endpoint.rs"]
mod endpoint;
#[path = "operator/llm.rs"]
mod llm;
#[path = "operator/notify.rs"]
mod notify;
#[path = "operator/shell.rs"]
mod shell;
#[path = "operator/smtp.rs"]
mod smtp;
