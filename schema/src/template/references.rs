//! What an expression names in its scope.
//!
//! Followed from the root only: inside a filter or projection a name is a field of the element at hand, of which
//! nothing is known before the run.

use super::node::Node;

/// A name that an expression takes from its scope, with the field it takes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `steps`, `params`, `now`, …
    pub name: String,
    /// `weather` of `steps.weather.body`; `None` where the whole is taken, or by a key not known yet.
    pub field: Option<String>,
}

/// What is known of a value.
#[derive(Clone)]
enum Known {
    Scope,
    /// Something in the scope, by its name.
    Named(String),
    Nothing,
}

pub(super) fn find(node: &Node) -> Vec<Reference> {
    look(node).references
}

/// Whether the scope is taken as a whole somewhere (`@`, `$`), with everything in it.
pub(super) fn takes_all(node: &Node) -> bool {
    look(node).all
}

/// What was found on the way.
#[derive(Default)]
struct Found {
    references: Vec<Reference>,
    all: bool,
}

impl Found {
    fn push(&mut self, reference: Reference) {
        self.references.push(reference);
    }
}

fn look(node: &Node) -> Found {
    let mut found = Found::default();
    settle(node, &Known::Scope, &mut found);
    found
}

fn walk(node: &Node, data: &Known, found: &mut Found) -> Known {
    match (node, data) {
        (Node::Current, _) => data.clone(),
        (Node::Root, _) => Known::Scope,
        (Node::Field { name }, Known::Scope) => Known::Named(name.clone()),
        (Node::Field { name: field }, Known::Named(name)) => {
            found.push(Reference { name: name.clone(), field: Some(field.clone()) });
            Known::Nothing
        }
        (Node::Then(left, right), _) => {
            let left = walk(left, data, found);
            if let (Known::Named(name), false) = (&left, matches!(**right, Node::Field { .. } | Node::Then(..))) {
                found.push(Reference { name: name.clone(), field: None });
            }
            walk(right, &left, found)
        }
        (Node::Project(source, each) | Node::When(source, each), _) if matches!(node, Node::Project(..)) => {
            settle(source, data, found);
            settle(each, &Known::Nothing, found);
            Known::Nothing
        }
        (Node::Deferred(inner), _) => {
            settle(inner, &Known::Nothing, found);
            Known::Nothing
        }
        _ => {
            for child in node.children() {
                settle(child, data, found);
            }
            Known::Nothing
        }
    }
}

/// Walks a part whose value is used as a whole.
fn settle(node: &Node, data: &Known, found: &mut Found) {
    match (walk(node, data, found), data) {
        (Known::Named(name), Known::Scope | Known::Nothing) => found.push(Reference { name, field: None }),
        (Known::Scope, _) => found.all = true,
        (Known::Named(_) | Known::Nothing, _) => {}
    }
}
