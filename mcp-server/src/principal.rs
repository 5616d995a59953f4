//! Who is calling, and what they may do.
//!
//! Over HTTP the guard puts a [`Principal`] into each request's extensions; on stdio the caller is the local agent.

use std::fmt;

use ordinaut_schema::id::AgentId;

/// One thing that a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    TaskRead,
    TaskWrite,
    RunControl,
    EventPublish,
    ApprovalAnswer,
    Admin,
}

impl Scope {
    pub const ALL: [Self; 6] =
        [Self::TaskRead, Self::TaskWrite, Self::RunControl, Self::EventPublish, Self::ApprovalAnswer, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TaskRead => "task:read",
            Self::TaskWrite => "task:write",
            Self::RunControl => "run:control",
            Self::EventPublish => "event:publish",
            Self::ApprovalAnswer => "approval:answer",
            Self::Admin => "admin",
        }
    }

    /// The scope of that name, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent that has shown who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub agent: AgentId,
    pub name: String,
    /// Through what: `stdio`, or the label of a token.
    pub label: String,
    pub scopes: Vec<Scope>,
}

impl Principal {
    /// Nobody in particular, whom no scope is missing: for what is said before anybody has asked.
    pub(crate) fn with_every_scope() -> Self {
        let agent = ordinaut_store::Caller::LOCAL_AGENT;
        Self { agent, name: String::new(), label: String::new(), scopes: Scope::ALL.to_vec() }
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}
