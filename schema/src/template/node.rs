//! The tree of an expression.

use serde_json::Value;

use super::{functions::Function, lexer::Comparator};

/// One element of an expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Current,
    Root,
    Field {
        name: String,
    },
    Index(i64),
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Literal(Value),
    /// The right side, with the value of the left as the document: `.` and `|`.
    Then(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Compare(Comparator, Box<Node>, Box<Node>),
    /// The right side for each element of the left, `null`s left out.
    Project(Box<Node>, Box<Node>),
    /// The right side where the left holds, else `null`: a filter is a projection of these.
    When(Box<Node>, Box<Node>),
    Values(Box<Node>),
    Flatten(Box<Node>),
    List(Vec<Node>),
    Hash(Vec<(String, Node)>),
    Call(&'static Function, Vec<Node>),
    /// `&expression`: an argument that the function evaluates itself.
    Deferred(Box<Node>),
}

impl Node {
    pub(super) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Current
            | Self::Root
            | Self::Field { .. }
            | Self::Index(_)
            | Self::Slice { .. }
            | Self::Literal(_) => Vec::new(),
            Self::Then(left, right)
            | Self::Or(left, right)
            | Self::And(left, right)
            | Self::Compare(_, left, right)
            | Self::Project(left, right)
            | Self::When(left, right) => vec![left, right],
            Self::Not(only) | Self::Values(only) | Self::Flatten(only) | Self::Deferred(only) => vec![only],
            Self::List(nodes) | Self::Call(_, nodes) => nodes.iter().collect(),
            Self::Hash(pairs) => pairs.iter().map(|(_, node)| node).collect(),
        }
    }

    pub(super) fn is_taller_than(&self, limit: usize) -> bool {
        let mut open = vec![(self, 1)];
        while let Some((node, height)) = open.pop() {
            if height > limit {
                return true;
            }
            open.extend(node.children().into_iter().map(|child| (child, height + 1)));
        }
        false
    }
}
