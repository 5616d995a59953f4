//! The forms in which a template may name a secret: `secrets.NAME`, and `basic_auth(user, password)`.
//!
//! Read off the tree, before anything is evaluated: a value of a secret is in no scope, so no expression can compute
//! with one, compare it or ask whether it is empty.

use serde_json::Value;

use crate::secret::mark;

use super::{
    evaluator::{Data, Evaluator},
    fuel::Fuel,
    node::Node,
    references::{self, Reference},
};

/// Why a secret is refused elsewhere, and what to do.
pub(crate) const MISPLACED: &str = "a secret may stand only in headers, query and body (json, form, body) of an `http.*` step, \
     as `${secrets.NAME}` alone or within a text, or in `${basic_auth(user, password)}`; nothing can be computed from it";

/// The secrets that a template stands for.
#[derive(Debug)]
pub struct SecretUse<'e>(Form<'e>);

#[derive(Debug)]
enum Form<'e> {
    Alone(&'e str),
    Basic([Half<'e>; 2]),
}

/// The user or the password.
#[derive(Debug)]
enum Half<'e> {
    Secret(&'e str),
    Other(&'e Node),
}

pub(super) fn find(node: &Node) -> Option<SecretUse<'_>> {
    if let Some(name) = named(node) {
        return Some(SecretUse(Form::Alone(name)));
    }
    let Node::Call(function, arguments) = node else { return None };
    let [user, password] = arguments.as_slice() else { return None };
    let half = |node| named(node).map_or(Half::Other(node), Half::Secret);
    (function.name == "basic_auth").then(|| SecretUse(Form::Basic([half(user), half(password)])))
}

/// The name in `secrets.NAME`.
fn named(node: &Node) -> Option<&str> {
    match node {
        Node::Then(left, right) => match (&**left, &**right) {
            (Node::Field { name: root }, Node::Field { name }) if root == "secrets" => Some(name),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn calls_basic_auth(node: &Node) -> bool {
    matches!(node, Node::Call(function, _) if function.name == "basic_auth")
        || node.children().into_iter().any(calls_basic_auth)
}

impl SecretUse<'_> {
    /// The names of the secrets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let halves: &[Half<'_>] = match &self.0 {
            Form::Alone(name) => &[Half::Secret(name)],
            Form::Basic(halves) => halves,
        };
        let names: Vec<&str> = halves
            .iter()
            .filter_map(|half| match half {
                Half::Secret(name) => Some(*name),
                Half::Other(_) => None,
            })
            .collect();
        names.into_iter()
    }

    /// What the halves that are no secrets name in their scope.
    pub fn references(&self) -> Vec<Reference> {
        match &self.0 {
            Form::Alone(_) => Vec::new(),
            Form::Basic(halves) => halves
                .iter()
                .flat_map(|half| match half {
                    Half::Secret(_) => Vec::new(),
                    Half::Other(node) => references::find(node),
                })
                .collect(),
        }
    }

    /// Whether credentials are put together within credentials.
    pub fn is_nested(&self) -> bool {
        match &self.0 {
            Form::Alone(_) => false,
            Form::Basic(halves) => {
                halves.iter().any(|half| matches!(half, Half::Other(node) if calls_basic_auth(node)))
            }
        }
    }

    pub(super) fn mark(&self, data: Data<'_>, fuel: &Fuel) -> Result<String, String> {
        match &self.0 {
            Form::Alone(name) => Ok(mark::secret(name)),
            Form::Basic([user, password]) => {
                Ok(mark::basic(&half(user, "user", data, fuel)?, &half(password, "password", data, fuel)?))
            }
        }
    }
}

fn half(half: &Half<'_>, what: &str, data: Data<'_>, fuel: &Fuel) -> Result<String, String> {
    match half {
        Half::Secret(name) => Ok(mark::secret(name)),
        Half::Other(node) => match Evaluator::new(data, fuel).value(node)? {
            Value::String(text) => Ok(mark::clean_text(text)),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(format!("the {what} of `basic_auth` must be a text, not {}", super::order::brief(&other))),
        },
    }
}
