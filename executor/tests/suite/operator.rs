//! What the operator configures, at work: channels and models against local servers, commands, the file read again by a real
//! executor, grants and limits at the call, and credentials in nothing that is kept.

mod approval;
mod budgets;
mod daemon;
mod email;
mod endpoint;
mod escalation;
mod llm;
mod notify;
mod shell;
mod smtp;
