//! What follows a dot, and projections: an expression for each element of what stands left.

use super::{MAX_NESTING, Parser, power};
use crate::template::{expression::Unreadable, lexer::Token, node::Node};

/// Below this a token ends a projection.
const PROJECTION_STOP: u8 = 10;

impl Parser {
    pub(super) fn after_dot(&mut self, binding: u8) -> Result<Node, Unreadable> {
        match self.peek().clone() {
            Token::OpenBracket => {
                self.next += 1;
                self.list(&Token::CloseBracket).map(Node::List)
            }
            // After a dot a word is a field, whatever it means elsewhere.
            Token::Name(name) if *self.look(1) != Token::OpenParen => {
                self.next += 1;
                self.continue_from(Node::Field { name }, binding)
            }
            Token::Name(_) | Token::Quoted(_) | Token::Star | Token::OpenBrace => self.expression(binding),
            Token::Number(number) => {
                let error = Unreadable::new(self.at(), "an element of a list is written in brackets");
                Err(error.suggest(format!("[{number}]")))
            }
            _ => Err(self.unexpected("a field name should follow the `.`")),
        }
    }

    fn continue_from(&mut self, mut left: Node, binding: u8) -> Result<Node, Unreadable> {
        while binding < power(self.peek()) {
            left = self.extend(left)?;
        }
        Ok(left)
    }

    pub(super) fn values_of(&mut self, node: Node) -> Result<Node, Unreadable> {
        self.project(Node::Values(Box::new(node)), power(&Token::Star))
    }

    pub(super) fn flatten_of(&mut self, node: Node) -> Result<Node, Unreadable> {
        self.project(Node::Flatten(Box::new(node)), power(&Token::Flatten))
    }

    pub(super) fn filter_of(&mut self, node: Node) -> Result<Node, Unreadable> {
        let condition = self.expression(0)?;
        self.expect(&Token::CloseBracket, "a `]` should end the filter")?;
        let then = self.each(power(&Token::Filter))?;
        Ok(Node::Project(Box::new(node), Box::new(Node::When(Box::new(condition), Box::new(then)))))
    }

    pub(super) fn project(&mut self, source: Node, binding: u8) -> Result<Node, Unreadable> {
        Ok(Node::Project(Box::new(source), Box::new(self.each(binding)?)))
    }

    /// What is done with each element of a projection.
    fn each(&mut self, binding: u8) -> Result<Node, Unreadable> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Unreadable::new(self.at(), "it is nested too deeply"));
        }
        let each = match self.peek() {
            Token::Dot => {
                self.next += 1;
                self.after_dot(binding)?
            }
            Token::OpenBracket | Token::Filter => self.expression(binding)?,
            token if power(token) < PROJECTION_STOP => Node::Current,
            _ => return Err(self.unexpected("`.`, `[` or the end should")),
        };
        self.nesting -= 1;
        Ok(each)
    }
}
