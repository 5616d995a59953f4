//! What a server offers: all of its tools, those that only read, or those of some groups.
//!
//! The operator decides it once, at start. What a token's scopes forbid is hidden besides, for each principal; that
//! is `tools`' and `server`'s.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The operator's choice; the default is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surface {
    /// Only tools that change nothing.
    pub read_only: bool,
    /// Only tools of these groups; empty for all.
    pub groups: Vec<Group>,
}

impl Surface {
    /// Why a tool of `group` is not offered, if it is not.
    pub(crate) fn withholds(&self, group: Group, reads: bool) -> Option<Withheld> {
        if !self.groups.is_empty() && !self.groups.contains(&group) {
            Some(Withheld::Group(group))
        } else if self.read_only && !reads {
            Some(Withheld::ReadOnly)
        } else {
            None
        }
    }
}

/// Why a tool is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Withheld {
    #[error("this server only reads; it was started with --read-only, or has `mcp.read_only`")]
    ReadOnly,
    #[error("this server does not offer the group `{0}`, which `--tools` or `mcp.tools` left out")]
    Group(Group),
}

/// Tools that belong together, named as the modules of `tools` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    Tasks,
    Runs,
    Schedules,
    Actions,
    Events,
    Inbox,
    Approvals,
}

impl Group {
    pub const ALL: [Self; 7] =
        [Self::Tasks, Self::Runs, Self::Schedules, Self::Actions, Self::Events, Self::Inbox, Self::Approvals];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Runs => "runs",
            Self::Schedules => "schedules",
            Self::Actions => "actions",
            Self::Events => "events",
            Self::Inbox => "inbox",
            Self::Approvals => "approvals",
        }
    }

    /// The group of that name, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == text)
    }

    /// All of them, as a person writes them.
    pub fn listed() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
