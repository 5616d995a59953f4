//! Reads tokens into a tree: JMESPath's grammar, top down by operator precedence.
//!
//! Nesting and height are bounded, so that neither reading nor evaluating nor dropping a tree can exhaust the stack.
//! One precedence is ours: `!` negates the whole path after it, where JMESPath's reads `!a.b` as `(!a).b`.

mod projection;

use serde_json::Value;

use super::{
    expression::Unreadable,
    functions,
    lexer::{Comparator, Token, tokens},
    node::Node,
};

/// How deep brackets may nest.
const MAX_NESTING: usize = 50;
/// How high the tree may be: a path of 200 fields.
const MAX_HEIGHT: usize = 200;

pub(super) fn parse(text: &str) -> Result<Node, Unreadable> {
    if text.trim().is_empty() {
        return Err(Unreadable::new(0, "nothing is there"));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, nesting: 0 };
    let node = parser.expression(0)?;
    if *parser.peek() != Token::End {
        return Err(parser.left_over());
    }
    if node.is_taller_than(MAX_HEIGHT) {
        return Err(Unreadable::new(0, "it is too long a chain: split it over several steps"));
    }
    Ok(node)
}

/// Looser than anything that lengthens a path, tighter than comparisons.
const NOT_POWER: u8 = 8;

/// How tightly a token binds to what stands left of it.
fn power(token: &Token) -> u8 {
    match token {
        Token::Pipe => 1,
        Token::Or => 2,
        Token::And => 3,
        Token::Compare(_) => 5,
        Token::Flatten => 9,
        Token::Star => 20,
        Token::Filter => 21,
        Token::Dot => 40,
        Token::OpenBracket => 55,
        Token::OpenParen => 60,
        _ => 0,
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    nesting: usize,
}

impl Parser {
    /// The token `ahead` of the next one; past the end, the end.
    fn look(&self, ahead: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.next + ahead).min(last)].1
    }

    fn peek(&self) -> &Token {
        self.look(0)
    }

    fn at(&self) -> usize {
        let last = self.tokens.len() - 1;
        self.tokens[self.next.min(last)].0
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn expect(&mut self, wanted: &Token, why: &str) -> Result<(), Unreadable> {
        if self.peek() == wanted {
            self.next += 1;
            return Ok(());
        }
        Err(self.unexpected(why))
    }

    fn unexpected(&self, why: &str) -> Unreadable {
        let found = match self.peek() {
            Token::End => "it ends".to_owned(),
            token => format!("{token} stands"),
        };
        Unreadable::new(self.at(), format!("{found} where {why}"))
    }

    /// What to say of a complete expression with something after it.
    fn left_over(&self) -> Unreadable {
        match self.peek() {
            Token::Name(word) if word == "and" => Unreadable::new(self.at(), "`and` is written `&&`").suggest("&&"),
            Token::Name(word) if word == "or" => Unreadable::new(self.at(), "`or` is written `||`").suggest("||"),
            Token::Name(word) if word == "is" => {
                let is_not = matches!(self.look(1), Token::Name(word) if word == "not");
                let error =
                    Unreadable::new(self.at(), "`is` is written `==`, `is not` is written `!=`, none is `null`");
                error.suggest(if is_not { "!=" } else { "==" })
            }
            Token::Star => Unreadable::new(self.at(), "there is no arithmetic; `*` stands for all values, after a `.`"),
            token => Unreadable::new(self.at(), format!("{token} follows a complete expression")),
        }
    }

    fn expression(&mut self, binding: u8) -> Result<Node, Unreadable> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Unreadable::new(self.at(), "it is nested too deeply"));
        }
        let mut left = self.operand()?;
        while binding < power(self.peek()) {
            left = self.extend(left)?;
        }
        self.nesting -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Node, Unreadable> {
        let missing = "a field, a literal or a function call should";
        match self.peek().clone() {
            Token::Current => self.leaf(Node::Current),
            Token::Root => self.leaf(Node::Root),
            Token::Literal(value) => self.leaf(Node::Literal(value)),
            Token::Number(number) => self.leaf(Node::Literal(Value::Number(number))),
            Token::Quoted(name) => self.leaf(Node::Field { name }),
            Token::Name(name) => {
                self.next += 1;
                self.named(name)
            }
            Token::Star => {
                self.next += 1;
                self.values_of(Node::Current)
            }
            Token::Flatten => {
                self.next += 1;
                self.flatten_of(Node::Current)
            }
            Token::Filter => {
                self.next += 1;
                self.filter_of(Node::Current)
            }
            Token::OpenBracket => {
                self.next += 1;
                if self.opens_index() {
                    self.index()
                } else if *self.peek() == Token::Star && *self.look(1) == Token::CloseBracket {
                    self.next += 2;
                    self.project(Node::Current, power(&Token::Star))
                } else {
                    self.list(&Token::CloseBracket).map(Node::List)
                }
            }
            Token::OpenBrace => {
                self.next += 1;
                self.hash()
            }
            Token::Ampersand => {
                self.next += 1;
                Ok(Node::Deferred(Box::new(self.expression(0)?)))
            }
            Token::Not => {
                self.next += 1;
                Ok(Node::Not(Box::new(self.expression(NOT_POWER)?)))
            }
            Token::OpenParen => {
                self.next += 1;
                let inner = self.expression(0)?;
                self.expect(&Token::CloseParen, "a `)` should close the `(`")?;
                Ok(inner)
            }
            _ => Err(self.unexpected(missing)),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads as a table in `operand`")]
    fn leaf(&mut self, node: Node) -> Result<Node, Unreadable> {
        self.next += 1;
        Ok(node)
    }

    /// A bare name where an operand may stand: a literal word, a call, `now+24h`, or a field.
    fn named(&mut self, name: String) -> Result<Node, Unreadable> {
        if *self.peek() == Token::OpenParen {
            return self.call(&name);
        }
        if let Token::Shift(amount) = self.peek().clone() {
            let at = self.at();
            self.next += 1;
            functions::check_shift(&amount).map_err(|why| Unreadable::new(at, why))?;
            let add_time = functions::find("add_time").expect("add_time is one of ours");
            return Ok(Node::Call(add_time, vec![Node::Field { name }, Node::Literal(Value::String(amount))]));
        }
        Ok(match name.as_str() {
            "true" => Node::Literal(Value::Bool(true)),
            "false" => Node::Literal(Value::Bool(false)),
            "null" => Node::Literal(Value::Null),
            "not" if matches!(self.peek(), Token::Name(_)) => {
                return Err(Unreadable::new(self.at(), "`not` is written `!`").suggest("!"));
            }
            _ => Node::Field { name },
        })
    }

    fn call(&mut self, name: &str) -> Result<Node, Unreadable> {
        let at = self.tokens[self.next - 1].0;
        let Some(function) = functions::find(name) else {
            let error = Unreadable::new(at, format!("there is no function `{name}`"));
            return Err(match crate::fault::nearest(name, functions::names()).or_else(|| functions::called(name)) {
                Some(near) => error.suggest(near),
                None => error,
            });
        };
        self.next += 1;
        let arguments = self.list(&Token::CloseParen)?;
        if !function.takes(arguments.len()) {
            return Err(Unreadable::new(
                at,
                format!("`{}` takes {}, not {}", function.name, function.arity(), arguments.len()),
            ));
        }
        Ok(Node::Call(function, arguments))
    }

    fn extend(&mut self, left: Node) -> Result<Node, Unreadable> {
        let at = self.at();
        match self.advance() {
            Token::Dot if *self.peek() == Token::Star => {
                self.next += 1;
                self.values_of(left)
            }
            Token::Dot => Ok(Node::Then(Box::new(left), Box::new(self.after_dot(power(&Token::Dot))?))),
            Token::OpenBracket if self.opens_index() => Ok(Node::Then(Box::new(left), Box::new(self.index()?))),
            Token::OpenBracket => {
                self.expect(&Token::Star, "a number, `*`, `:` or `?` should")?;
                self.expect(&Token::CloseBracket, "a `]` should")?;
                self.project(left, power(&Token::Star))
            }
            Token::Flatten => self.flatten_of(left),
            Token::Filter => self.filter_of(left),
            Token::Pipe => Ok(Node::Then(Box::new(left), Box::new(self.expression(power(&Token::Pipe))?))),
            Token::Or => Ok(Node::Or(Box::new(left), Box::new(self.expression(power(&Token::Or))?))),
            Token::And => Ok(Node::And(Box::new(left), Box::new(self.expression(power(&Token::And))?))),
            Token::Compare(comparator) => self.comparison(left, comparator),
            Token::OpenParen => Err(Unreadable::new(at, "only a plain name can be called as a function")),
            token => Err(Unreadable::new(at, format!("{token} follows a complete expression"))),
        }
    }

    fn comparison(&mut self, left: Node, comparator: Comparator) -> Result<Node, Unreadable> {
        // The operand's own token: the left one ends just before the comparator, the right one starts after it.
        let before = self.next.checked_sub(2).filter(|_| matches!(left, Node::Field { .. }));
        self.refuse_quoted(before)?;
        let start = self.next;
        let right = self.expression(power(&Token::Compare(comparator)))?;
        self.refuse_quoted(Some(start).filter(|_| matches!(right, Node::Field { .. })))?;
        Ok(Node::Compare(comparator, Box::new(left), Box::new(right)))
    }

    /// In a comparison `"ok"` is a field in JMESPath and a text in the mind of whoever wrote it.
    fn refuse_quoted(&self, token: Option<usize>) -> Result<(), Unreadable> {
        match token.and_then(|token| self.tokens.get(token)) {
            Some((at, Token::Quoted(name))) => Err(Unreadable::new(
                *at,
                format!(
                    "\"{name}\" in double quotes names a field; a text is written '{name}' \
                     (if the field is meant, write @.\"{name}\")"
                ),
            )
            .suggest(format!("'{}'", name.replace('\'', "\\'")))),
            _ => Ok(()),
        }
    }

    fn opens_index(&self) -> bool {
        let ends = |token: &Token| matches!(token, Token::Colon | Token::CloseBracket);
        *self.peek() == Token::Colon
            || (matches!(self.peek(), Token::Number(number) if number.is_i64()) && ends(self.look(1)))
    }

    /// `0]`, `::-1]`, `0:-1]`.
    fn index(&mut self) -> Result<Node, Unreadable> {
        let mut parts = [None; 3];
        let mut colons = 0;
        loop {
            match self.peek().clone() {
                Token::Number(number) => parts[colons] = number.as_i64(),
                Token::Colon if colons < 2 => colons += 1,
                Token::CloseBracket => break,
                _ => return Err(self.unexpected("a number, `:` or `]` should")),
            }
            self.next += 1;
        }
        let at = self.at();
        self.next += 1;
        let [from, to, step] = parts;
        if colons == 0 {
            return Ok(Node::Index(from.ok_or_else(|| Unreadable::new(at, "a number should stand before the `]`"))?));
        }
        if step == Some(0) {
            return Err(Unreadable::new(at, "the step of a slice cannot be 0"));
        }
        self.project(Node::Slice { from, to, step: step.unwrap_or(1) }, power(&Token::Star))
    }

    fn list(&mut self, closing: &Token) -> Result<Vec<Node>, Unreadable> {
        let mut nodes = Vec::new();
        while self.peek() != closing {
            nodes.push(self.expression(0)?);
            if *self.peek() == Token::Comma && self.look(1) != closing {
                self.next += 1;
            } else if self.peek() != closing {
                return Err(self.unexpected(&format!("`,` or {closing} should")));
            }
        }
        self.next += 1;
        Ok(nodes)
    }

    fn hash(&mut self) -> Result<Node, Unreadable> {
        let mut pairs = Vec::new();
        loop {
            let (Token::Name(key) | Token::Quoted(key)) = self.peek().clone() else {
                return Err(self.unexpected("a key should"));
            };
            self.next += 1;
            self.expect(&Token::Colon, "a `:` should follow the key")?;
            pairs.push((key, self.expression(0)?));
            if *self.peek() == Token::CloseBrace {
                self.next += 1;
                return Ok(Node::Hash(pairs));
            }
            self.expect(&Token::Comma, "`,` or `}` should")?;
        }
    }
}
