//! Finds the value of an expression.
//!
//! Values are borrowed from the scope as long as possible. What has to be made is paid for from a [`Fuel`], as is
//! each step of the walk, so that no expression makes more than a few mebibytes or runs for long.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    Scope,
    fuel::{Fuel, MAX_DEPTH, VALUE_COST, is_deeper_than, size},
    functions::{Argument, Function},
    is_truthy,
    node::Node,
    order::compare,
};

/// The document that an expression is read against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'v> {
    Scope(&'v Scope),
    /// An object that is not a [`Value`]: `steps`.
    Fields(&'v Map<String, Value>),
    Value(&'v Value),
}

static NULL: Value = Value::Null;

impl<'v> Data<'v> {
    fn field(self, name: &str) -> Cow<'v, Value> {
        let scope = match self {
            Self::Value(value) => return Cow::Borrowed(value.get(name).unwrap_or(&NULL)),
            Self::Fields(fields) => return Cow::Borrowed(fields.get(name).unwrap_or(&NULL)),
            Self::Scope(scope) => scope,
        };
        Cow::Borrowed(match name {
            "params" => &scope.params,
            "event" => &scope.event,
            "run" => &scope.run,
            "task" => &scope.task,
            "previous" => &scope.previous,
            "error" => &scope.error,
            "item" => &scope.item,
            "index" => &scope.index,
            "now" => return Cow::Owned(Value::String(scope.now.clone())),
            "steps" => return Cow::Owned(Value::Object(scope.steps.clone())),
            _ => &NULL,
        })
    }

    /// All of it as one value.
    fn whole(self, fuel: &Fuel) -> Result<Cow<'v, Value>, String> {
        match self {
            Self::Value(value) => Ok(Cow::Borrowed(value)),
            Self::Fields(fields) => {
                fuel.spend(fields.values().map(size).sum())?;
                Ok(Cow::Owned(Value::Object(fields.clone())))
            }
            Self::Scope(_) => {
                let mut all = Map::new();
                for name in Scope::NAMES {
                    let field = self.field(name);
                    fuel.spend(size(&field))?;
                    all.insert(name.to_owned(), field.into_owned());
                }
                Ok(Cow::Owned(Value::Object(all)))
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Evaluator<'a> {
    root: Data<'a>,
    fuel: &'a Fuel,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(root: Data<'a>, fuel: &'a Fuel) -> Self {
        Self { root, fuel }
    }

    /// The value of the whole expression.
    pub(super) fn value(&self, node: &Node) -> Result<Value, String> {
        let found = self.find(node, self.root)?;
        if is_deeper_than(&found, MAX_DEPTH) {
            return Err(format!("its value is nested more than {MAX_DEPTH} deep"));
        }
        self.own(found)
    }

    /// Makes a value our own, paying for it unless it was made here.
    pub(super) fn own(&self, found: Cow<'_, Value>) -> Result<Value, String> {
        if let Cow::Borrowed(value) = &found {
            self.fuel.spend(size(value))?;
        }
        Ok(found.into_owned())
    }

    pub(super) fn fuel(&self) -> &Fuel {
        self.fuel
    }

    /// The value of `node` with `data` as the document.
    pub(super) fn find<'v>(&self, node: &'v Node, data: Data<'v>) -> Result<Cow<'v, Value>, String>
    where
        'a: 'v,
    {
        self.fuel.spend(1)?;
        match node {
            Node::Current => data.whole(self.fuel),
            Node::Root => self.root.whole(self.fuel),
            Node::Literal(value) => Ok(Cow::Borrowed(value)),
            Node::Field { name } => {
                if let (Data::Scope(scope), "steps") = (data, name.as_str()) {
                    return Data::Fields(&scope.steps).whole(self.fuel);
                }
                Ok(data.field(name))
            }
            Node::Index(index) => Ok(element(data.whole(self.fuel)?, *index)),
            Node::Then(left, right) => self.then(left, right, data),
            Node::Or(left, right) => {
                let left = self.find(left, data)?;
                if is_truthy(&left) { Ok(left) } else { self.find(right, data) }
            }
            Node::And(left, right) => {
                let left = self.find(left, data)?;
                if is_truthy(&left) { self.find(right, data) } else { Ok(left) }
            }
            Node::Not(inner) => Ok(Cow::Owned(Value::Bool(!is_truthy(&*self.find(inner, data)?)))),
            Node::Compare(comparator, left, right) => {
                let (left, right) = (self.find(left, data)?, self.find(right, data)?);
                compare(*comparator, &left, &right).map(|holds| Cow::Owned(Value::Bool(holds)))
            }
            Node::When(condition, then) => {
                if is_truthy(&*self.find(condition, data)?) {
                    self.find(then, data)
                } else {
                    Ok(Cow::Borrowed(&NULL))
                }
            }
            Node::Slice { from, to, step } => {
                let whole = data.whole(self.fuel)?;
                let Value::Array(items) = &*whole else { return Ok(Cow::Borrowed(&NULL)) };
                let picked = slice(items.len(), *from, *to, *step)
                    .into_iter()
                    .map(|at| self.own(Cow::Borrowed(&items[at])))
                    .collect::<Result<_, _>>()?;
                Ok(Cow::Owned(Value::Array(picked)))
            }
            Node::Project(..) | Node::Values(_) | Node::Flatten(_) => self.project(node, data),
            Node::List(_) | Node::Hash(_) => self.select(node, data),
            Node::Call(function, arguments) => self.call(function, arguments, data),
            Node::Deferred(_) => {
                Err("`&` may stand only before an argument of a function such as `sort_by`".to_owned())
            }
        }
    }

    fn then<'v>(&self, left: &'v Node, right: &'v Node, data: Data<'v>) -> Result<Cow<'v, Value>, String>
    where
        'a: 'v,
    {
        match (left, data, self.root) {
            // Paths from the scope on, the common case, must not copy it.
            (Node::Field { name }, Data::Scope(scope), _) if name == "steps" => {
                return self.find(right, Data::Fields(&scope.steps));
            }
            (Node::Current, ..) => return self.find(right, data),
            (Node::Root, ..) => return self.find(right, self.root),
            (Node::Then(first, second), _, Data::Scope(scope)) if matches!((&**first, &**second), (Node::Root, Node::Field { name }) if name == "steps") =>
            {
                return self.find(right, Data::Fields(&scope.steps));
            }
            _ => {}
        }
        match self.find(left, data)? {
            Cow::Borrowed(value) => self.find(right, Data::Value(value)),
            Cow::Owned(value) => {
                // Values made on the way live here only; what is found in them is copied out.
                let found = Evaluator { root: self.root, fuel: self.fuel }.find_in(right, &value)?;
                Ok(Cow::Owned(found))
            }
        }
    }

    /// The value of `node` within a value that does not outlive this call.
    pub(super) fn find_in(&self, node: &Node, value: &Value) -> Result<Value, String> {
        let inner: Evaluator<'_> = Evaluator { root: self.root, fuel: self.fuel };
        let found = inner.find(node, Data::Value(value))?;
        self.own(found)
    }

    fn project<'v>(&self, node: &'v Node, data: Data<'v>) -> Result<Cow<'v, Value>, String>
    where
        'a: 'v,
    {
        let (source, each) = match node {
            Node::Project(source, each) => (source, Some(each)),
            Node::Values(source) | Node::Flatten(source) => (source, None),
            _ => unreachable!("only projections come here"),
        };
        let source = self.find(source, data)?;
        let mut made = Vec::new();
        match (node, &*source) {
            (Node::Values(_), Value::Object(fields)) => {
                for field in fields.values() {
                    made.push(self.own(Cow::Borrowed(field))?);
                }
            }
            (Node::Flatten(_), Value::Array(items)) => {
                for item in items {
                    match item {
                        Value::Array(inner) => {
                            for item in inner {
                                made.push(self.own(Cow::Borrowed(item))?);
                            }
                        }
                        other => made.push(self.own(Cow::Borrowed(other))?),
                    }
                }
            }
            (Node::Project(..), Value::Array(items)) => {
                let each = each.expect("a projection has a right side");
                for item in items {
                    let found = self.find_in(each, item)?;
                    if !found.is_null() {
                        made.push(found);
                    }
                }
            }
            _ => return Ok(Cow::Borrowed(&NULL)),
        }
        Ok(Cow::Owned(Value::Array(made)))
    }

    /// `[a, b]` and `{a: b}`.
    fn select<'v>(&self, node: &'v Node, data: Data<'v>) -> Result<Cow<'v, Value>, String>
    where
        'a: 'v,
    {
        if matches!(data, Data::Value(Value::Null)) {
            return Ok(Cow::Borrowed(&NULL));
        }
        self.fuel.spend(VALUE_COST)?;
        Ok(Cow::Owned(match node {
            Node::List(nodes) => {
                Value::Array(nodes.iter().map(|node| self.own(self.find(node, data)?)).collect::<Result<_, _>>()?)
            }
            Node::Hash(pairs) => Value::Object(
                pairs.iter().map(|(key, node)| Ok((key.clone(), self.own(self.find(node, data)?)?))).collect::<Result<
                    _,
                    String,
                >>(
                )?,
            ),
            _ => unreachable!("only selections come here"),
        }))
    }

    fn call<'v>(
        &self,
        function: &'static Function,
        arguments: &'v [Node],
        data: Data<'v>,
    ) -> Result<Cow<'v, Value>, String>
    where
        'a: 'v,
    {
        let arguments = arguments
            .iter()
            .map(|node| match node {
                Node::Deferred(inner) => Ok(Argument::Deferred(inner)),
                other => self.find(other, data).map(Argument::Value),
            })
            .collect::<Result<Vec<_>, String>>()?;
        let made = function.call(self, &arguments)?;
        self.fuel.spend(size(&made))?;
        Ok(Cow::Owned(made))
    }
}

fn element(list: Cow<'_, Value>, index: i64) -> Cow<'_, Value> {
    let at = |length: usize| {
        let index = if index < 0 { index.checked_add_unsigned(length as u64)? } else { index };
        usize::try_from(index).ok().filter(|at| *at < length)
    };
    match list {
        Cow::Borrowed(Value::Array(items)) => Cow::Borrowed(at(items.len()).map_or(&NULL, |at| &items[at])),
        Cow::Owned(Value::Array(mut items)) => match at(items.len()) {
            Some(at) => Cow::Owned(items.swap_remove(at)),
            None => Cow::Borrowed(&NULL),
        },
        _ => Cow::Borrowed(&NULL),
    }
}

/// The places that `[start:stop:step]` picks from a list of `length`.
fn slice(length: usize, from: Option<i64>, to: Option<i64>, step: i64) -> Vec<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |end: i64| if end < 0 { end.saturating_add(length) } else { end }.clamp(low, high);
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (mut at, end) = (from.map_or(first, bound), to.map_or(last, bound));
    let mut places = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        places.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    places
}
