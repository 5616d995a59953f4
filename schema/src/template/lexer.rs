//! Cuts an expression into tokens, each with the byte it starts at.
//!
//! Beyond JMESPath: numbers with fractions, `$`, `now+24h`, and `-` within a name (`content-type`, `my-step`), which
//! is safe because JMESPath has no subtraction.

use std::fmt;

use serde_json::{Number, Value};

use super::expression::Unreadable;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    /// A name in double quotes.
    Quoted(String),
    Number(Number),
    Literal(Value),
    /// `+24h` after `now`.
    Shift(String),
    Dot,
    Star,
    Flatten,
    And,
    Or,
    Pipe,
    Filter,
    OpenBracket,
    CloseBracket,
    Comma,
    Colon,
    Not,
    Compare(Comparator),
    Current,
    Root,
    Ampersand,
    OpenParen,
    CloseParen,
    OpenBrace,
    CloseBrace,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// As an error names it.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Quoted(name) => write!(f, "`\"{name}\"`"),
            Self::Number(number) => write!(f, "`{number}`"),
            Self::Literal(value) => write!(f, "`{value}`"),
            Self::Shift(amount) => write!(f, "`{amount}`"),
            Self::Compare(comparator) => write!(f, "`{}`", comparator.as_str()),
            Self::End => f.write_str("the end"),
            Self::Dot => f.write_str("`.`"),
            Self::Star => f.write_str("`*`"),
            Self::Flatten => f.write_str("`[]`"),
            Self::And => f.write_str("`&&`"),
            Self::Or => f.write_str("`||`"),
            Self::Pipe => f.write_str("`|`"),
            Self::Filter => f.write_str("`[?`"),
            Self::OpenBracket => f.write_str("`[`"),
            Self::CloseBracket => f.write_str("`]`"),
            Self::Comma => f.write_str("`,`"),
            Self::Colon => f.write_str("`:`"),
            Self::Not => f.write_str("`!`"),
            Self::Current => f.write_str("`@`"),
            Self::Root => f.write_str("`$`"),
            Self::Ampersand => f.write_str("`&`"),
            Self::OpenParen => f.write_str("`(`"),
            Self::CloseParen => f.write_str("`)`"),
            Self::OpenBrace => f.write_str("`{`"),
            Self::CloseBrace => f.write_str("`}`"),
        }
    }
}

impl Comparator {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// More tokens than any expression that a person maintains.
const MAX_TOKENS: usize = 2_000;

pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Unreadable> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let (at, token) = lexer.next(tokens.last().map(|(_, token)| token))?;
        let ended = token == Token::End;
        tokens.push((at, token));
        if ended {
            return Ok(tokens);
        }
        if tokens.len() > MAX_TOKENS {
            return Err(Unreadable::new(at, format!("more than {MAX_TOKENS} parts: split it over several steps")));
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest()[..bytes];
        self.at += bytes;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let length = self.rest().find(|c| !wanted(c)).unwrap_or(self.rest().len());
        self.take(length)
    }

    fn next(&mut self, last: Option<&Token>) -> Result<(usize, Token), Unreadable> {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
        let at = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok((at, Token::End));
        };
        if last == Some(&Token::Name("now".to_owned())) && matches!(first, '+' | '-') {
            self.take(1);
            self.take_while(|c| c == ' ');
            let amount = self.take_while(|c| c.is_ascii_alphanumeric());
            return Ok((at, Token::Shift(format!("{first}{amount}"))));
        }
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => self.name(last),
            '0'..='9' => self.number()?,
            '-' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            '"' => {
                let quoted = self.quoted('"')?;
                match serde_json::from_str(&format!("\"{quoted}\"")) {
                    Ok(name) => Token::Quoted(name),
                    Err(_) => return Err(Unreadable::new(at, format!("`\"{quoted}\"` is not a JSON string"))),
                }
            }
            '\'' => Token::Literal(Value::String(self.quoted('\'')?.replace("\\'", "'"))),
            '`' => {
                let json = self.quoted('`')?.replace("\\`", "`");
                match serde_json::from_str(&json) {
                    Ok(value) => Token::Literal(value),
                    Err(_) => {
                        return Err(Unreadable::new(
                            at,
                            format!("`{json}` in backticks is not JSON; a text is written '{json}'"),
                        ));
                    }
                }
            }
            _ => self.sign(first)?,
        };
        Ok((at, token))
    }

    fn name(&mut self, last: Option<&Token>) -> Token {
        let start = self.at;
        loop {
            self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            let clock = &self.text[start..self.at] == "now" && last != Some(&Token::Dot);
            let mut after = self.rest().chars();
            if clock || after.next() != Some('-') || !after.next().is_some_and(|c| c.is_ascii_alphanumeric()) {
                return Token::Name(self.text[start..self.at].to_owned());
            }
            self.take(1);
        }
    }

    fn number(&mut self) -> Result<Token, Unreadable> {
        let start = self.at;
        self.take(1);
        let digits = |c: char| c.is_ascii_digit();
        self.take_while(digits);
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(digits) {
            self.take(1);
            self.take_while(digits);
        }
        if self.rest().starts_with(['e', 'E']) {
            let exponent = self.rest()[1..].trim_start_matches(['+', '-']);
            if exponent.starts_with(digits) {
                self.at = self.text.len() - exponent.len();
                self.take_while(digits);
            }
        }
        let text = &self.text[start..self.at];
        serde_json::from_str(text)
            .map(Token::Number)
            .map_err(|_| Unreadable::new(start, format!("`{text}` is not a number as JSON writes them")))
    }

    /// What stands between `quote` and the next one that no backslash precedes.
    fn quoted(&mut self, quote: char) -> Result<&'a str, Unreadable> {
        let start = self.at;
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((offset, char)) = chars.next() {
            if char == quote {
                let inside = &self.rest()[1..offset];
                self.at += offset + 1;
                return Ok(inside);
            }
            if char == '\\' {
                chars.next();
            }
        }
        Err(Unreadable::new(start, format!("the {quote} is never closed")))
    }

    fn sign(&mut self, first: char) -> Result<Token, Unreadable> {
        const SIGNS: [(&str, Token); 26] = [
            ("==", Token::Compare(Comparator::Equal)),
            ("!=", Token::Compare(Comparator::NotEqual)),
            ("<=", Token::Compare(Comparator::LessOrEqual)),
            (">=", Token::Compare(Comparator::GreaterOrEqual)),
            ("||", Token::Or),
            ("&&", Token::And),
            ("[]", Token::Flatten),
            ("[?", Token::Filter),
            (".", Token::Dot),
            ("*", Token::Star),
            ("|", Token::Pipe),
            ("[", Token::OpenBracket),
            ("]", Token::CloseBracket),
            (",", Token::Comma),
            (":", Token::Colon),
            ("!", Token::Not),
            ("<", Token::Compare(Comparator::Less)),
            (">", Token::Compare(Comparator::Greater)),
            ("@", Token::Current),
            ("$", Token::Root),
            ("&", Token::Ampersand),
            ("(", Token::OpenParen),
            (")", Token::CloseParen),
            ("{", Token::OpenBrace),
            ("}", Token::CloseBrace),
            ("", Token::End),
        ];
        let rest = self.rest();
        let (sign, token) = SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign)).expect("the last matches all");
        if token != Token::End {
            self.take(sign.len());
            return Ok(token);
        }
        let why = match first {
            '=' => "a single `=`; compare with `==`".to_owned(),
            '+' | '-' | '/' | '%' => format!("`{first}`: there is no arithmetic, except `now+24h` and `now-7d`"),
            _ => format!("`{first}` has no meaning here"),
        };
        Err(Unreadable::new(self.at, why))
    }
}
