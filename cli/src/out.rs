//! What commands say: answers on stdout, progress on stderr.
//!
//! A reader that goes away (`ordinaut runs | head`) ends the command quietly: [`Failure::ReaderGone`].

use std::io::{self, ErrorKind, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// The form of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Tables and sentences.
    People,
    /// JSON, one value a command (one a line where a command goes on).
    Programs,
}

/// The way to stdout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) form: Form,
}

#[expect(clippy::unused_self, reason = "one way to stdout, whatever it comes to depend on")]
impl Out {
    pub(crate) fn is_json(self) -> bool {
        self.form == Form::Programs
    }

    /// One line, or several.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), Failure> {
        write_stdout(&format!("{}\n", text.as_ref()))
    }

    /// A value, laid out for reading as well.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).expect("answers have string keys");
        write_stdout(&format!("{text}\n"))
    }

    /// A value on one line: one of many.
    pub(crate) fn json_line(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).expect("answers have string keys");
        write_stdout(&format!("{text}\n"))
    }

    /// Rows under headings; `none` where there is no row.
    pub(crate) fn table(self, headings: &[&str], rows: Vec<Vec<String>>, none: &str) -> Result<(), Failure> {
        if rows.is_empty() {
            return self.line(none);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.to_vec());
        for row in rows {
            table.add_row(row.into_iter().map(|cell| clean(&cell)).collect::<Vec<_>>());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        self.line(lines.join("\n"))
    }
}

fn write_stdout(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::ReaderGone),
        Err(error) => Err(Failure::new(Exit::Failed, format!("could not write the answer: {error}"))),
    }
}

/// One line on stderr. Nobody is left to hear of its failure.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Text from steps and titles without what would steer a terminal; line breaks become spaces.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\r' | '\t' => Some(' '),
            c if c.is_control() => None,
            // Marks and overrides of direction: they show text in another order than it has.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c => Some(c),
        })
        .collect()
}

/// At most `most` characters, the rest said to be missing.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= most {
        return text;
    }
    let head: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", head.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c\nd"), "a[2Jbc d");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd efg", 6), "abcd…");
    }
}
