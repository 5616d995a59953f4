//! The functions of expressions: JMESPath's in `standard`, ours in `texts` and `times`.
//!
//! Names, number and kinds of arguments are a table, so that a call is refused when the expression is read where
//! it can be, and with one wording when it is evaluated.

mod standard;
mod texts;
mod times;

use std::borrow::Cow;

use serde_json::Value;

use super::{evaluator::Evaluator, node::Node, order::brief};

pub(crate) use texts::base64;
pub(super) use times::check_shift;

/// What a function is given.
#[derive(Debug)]
pub(super) enum Argument<'v> {
    Value(Cow<'v, Value>),
    /// `&expression`.
    Deferred(&'v Node),
}

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Text,
    Number,
    List,
    Object,
    Deferred,
    TextOrList,
    TextOrNumber,
    /// Anything but a list or an object.
    Plain,
    /// A text, a list or an object.
    Countable,
    Numbers,
    Texts,
    NumbersOrTexts,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "a value",
            Self::Text => "a text",
            Self::Number => "a number",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Deferred => "an `&expression`",
            Self::TextOrList => "a text or a list",
            Self::TextOrNumber => "a text or a number",
            Self::Plain => "a text, a number or a boolean",
            Self::Countable => "a text, a list or an object",
            Self::Numbers => "a list of numbers",
            Self::Texts => "a list of texts",
            Self::NumbersOrTexts => "a list of numbers or a list of texts",
        }
    }

    fn fits(self, value: &Value) -> bool {
        let all = |wanted: fn(&Value) -> bool| value.as_array().is_some_and(|items| items.iter().all(wanted));
        match self {
            Self::Any => true,
            Self::Text => value.is_string(),
            Self::Number => value.is_number(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
            Self::Deferred => false,
            Self::TextOrList => value.is_string() || value.is_array(),
            Self::TextOrNumber => value.is_string() || value.is_number(),
            Self::Plain => value.is_string() || value.is_number() || value.is_boolean(),
            Self::Countable => value.is_string() || value.is_array() || value.is_object(),
            Self::Numbers => all(Value::is_number),
            Self::Texts => all(Value::is_string),
            Self::NumbersOrTexts => all(Value::is_number) || all(Value::is_string),
        }
    }
}

type Body = fn(&Evaluator<'_>, &[Argument<'_>]) -> Result<Value, String>;

/// One function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    parameters: &'static [Kind],
    /// How many of the last parameters may be left out.
    optional: usize,
    /// Whether the last parameter may be repeated.
    repeats: bool,
    body: Body,
}

impl Function {
    const fn new(name: &'static str, parameters: &'static [Kind], body: Body) -> Self {
        Self { name, parameters, optional: 0, repeats: false, body }
    }

    const fn optional(self, optional: usize) -> Self {
        Self { optional, ..self }
    }

    const fn repeats(self) -> Self {
        Self { repeats: true, ..self }
    }

    pub(super) fn takes(&self, count: usize) -> bool {
        count >= self.parameters.len() - self.optional && (self.repeats || count <= self.parameters.len())
    }

    pub(super) fn arity(&self) -> String {
        let most = self.parameters.len();
        let least = most - self.optional;
        let arguments = if most == 1 { "argument" } else { "arguments" };
        match (self.repeats, self.optional) {
            (true, _) => format!("at least {least} {arguments}"),
            (false, 0) => format!("{most} {arguments}"),
            (false, _) => format!("{least} to {most} {arguments}"),
        }
    }

    pub(super) fn call(&self, evaluator: &Evaluator<'_>, arguments: &[Argument<'_>]) -> Result<Value, String> {
        for (n, argument) in arguments.iter().enumerate() {
            let kind = self.parameters[n.min(self.parameters.len() - 1)];
            let given = match argument {
                Argument::Deferred(_) if kind == Kind::Deferred => continue,
                Argument::Value(value) if kind.fits(value) => continue,
                Argument::Deferred(_) => "an `&expression`".to_owned(),
                Argument::Value(value) => brief(value),
            };
            return Err(format!("argument {} of `{}` must be {}, not {given}", n + 1, self.name, kind.as_str()));
        }
        (self.body)(evaluator, arguments)
    }
}

pub(super) fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// The function for a word that other languages have for it.
pub(super) fn called(name: &str) -> Option<&'static str> {
    const CALLED: [(&[&str], &str); 4] = [
        (&["len", "size", "count"], "length"),
        (&["str", "string", "text"], "to_string"),
        (&["int", "float", "number"], "to_number"),
        (&["strftime", "format_date", "date", "date_format"], "format_time"),
    ];
    CALLED.iter().find(|(words, _)| words.contains(&name)).map(|(_, function)| *function)
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|function| function.name)
}

fn all() -> impl Iterator<Item = &'static Function> {
    standard::FUNCTIONS.iter().chain(texts::FUNCTIONS).chain(times::FUNCTIONS)
}

// The signature was checked when these are asked.

fn value<'a>(arguments: &'a [Argument<'_>], n: usize) -> &'a Value {
    match &arguments[n] {
        Argument::Value(value) => value,
        Argument::Deferred(_) => unreachable!("the signature has a value here"),
    }
}

fn text<'a>(arguments: &'a [Argument<'_>], n: usize) -> &'a str {
    value(arguments, n).as_str().expect("the signature has a text here")
}

fn list<'a>(arguments: &'a [Argument<'_>], n: usize) -> &'a [Value] {
    value(arguments, n).as_array().expect("the signature has a list here")
}

fn deferred<'a>(arguments: &'a [Argument<'_>], n: usize) -> &'a Node {
    match &arguments[n] {
        Argument::Deferred(node) => node,
        Argument::Value(_) => unreachable!("the signature has an expression here"),
    }
}
