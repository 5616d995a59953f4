//! Finds the templates in a text.
//!
//! A template opens with `${` and ends at the brace that balances it, braces in quotes and backticks not counted.
//! `$${` is a literal `${`. A text without `${` is one part, itself.

/// A stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    Text(String),
    /// What stands between `${` and its brace, and where it starts: characters from 1.
    Template {
        source: &'a str,
        at: usize,
    },
}

/// A `${` that is never closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the `${{` at character {at} is never closed: add the `}}` that ends the template (and close every quote in it), \
     or write `$${{` for a literal `${{`"
)]
pub struct Unclosed {
    pub at: usize,
}

/// Whether the text has a template or an escaped one, so that rendering may change it.
pub fn has_template(text: &str) -> bool {
    text.contains("${")
}

/// Splits a text into what stays and what is evaluated.
///
/// # Errors
/// A template is never closed.
pub fn split(text: &str) -> Result<Vec<Part<'_>>, Unclosed> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let before = &rest[..dollar];
        if let Some(before) = before.strip_suffix('$') {
            plain.push_str(before);
            plain.push_str("${");
            rest = &rest[dollar + 2..];
            continue;
        }
        plain.push_str(before);
        let start = text.len() - rest.len() + dollar;
        let at = text[..start].chars().count() + 1;
        let source = &rest[dollar + 2..];
        let length = balanced(source).ok_or(Unclosed { at })?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Template { source: source[..length].trim(), at });
        rest = &source[length + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// How many bytes stand before the brace that balances the opened one.
fn balanced(source: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut quote = None;
    let mut chars = source.char_indices();
    while let Some((at, char)) = chars.next() {
        match (quote, char) {
            (Some(_), '\\') => drop(chars.next()),
            (Some(closing), _) => quote = Some(closing).filter(|closing| char != *closing),
            (None, '\'' | '"' | '`') => quote = Some(char),
            (None, '{') => open += 1,
            (None, '}') if open == 0 => return Some(at),
            (None, '}') => open -= 1,
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(source: &str, at: usize) -> Part<'_> {
        Part::Template { source, at }
    }

    #[test]
    fn a_template_ends_at_the_brace_that_balances_outside_quotes_and_backticks() {
        assert_eq!(split("${ {a: b} }").unwrap(), [template("{a: b}", 1)]);
        assert_eq!(split("${'}'}x").unwrap(), [template("'}'", 1), Part::Text("x".to_owned())]);
        assert_eq!(split(r#"é${`"}"`}"#).unwrap(), [Part::Text("é".to_owned()), template(r#"`"}"`"#, 2)]);
        assert_eq!(split(r"${'\'}'}").unwrap(), [template(r"'\'}'", 1)]);
        assert_eq!(split("a ${b"), Err(Unclosed { at: 3 }));
    }

    #[test]
    fn two_dollars_and_a_brace_are_a_literal_dollar_and_brace() {
        assert_eq!(split("$${x}").unwrap(), [Part::Text("${x}".to_owned())]);
        assert_eq!(split("$").unwrap(), [Part::Text("$".to_owned())]);
        assert_eq!(split("").unwrap(), [Part::Text(String::new())]);
    }

    proptest! {
        #[test]
        fn a_text_without_a_template_is_itself(text in ".*") {
            prop_assume!(!has_template(&text));
            prop_assert_eq!(split(&text).unwrap(), [Part::Text(text.clone())]);
        }

        #[test]
        fn splitting_never_panics(text in r"[${}'`\\a\u{e9}]*") {
            drop(split(&text));
        }
    }
}
