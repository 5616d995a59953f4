//! The message itself, and its length by the measure of whoever takes it.

use ordinaut_schema::run::{ErrorKind, StepFailure};
use serde_json::Value;

/// What a step asked to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) channel: String,
    pub(super) text: String,
    pub(super) title: Option<String>,
    pub(super) level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Info,
    Warning,
    Error,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How a service counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Measure {
    Chars,
    /// As JavaScript and Telegram do.
    Utf16,
    Bytes,
}

impl Message {
    /// Reads the rendered `with`; what is no text becomes its JSON.
    pub(super) fn read(input: &Value) -> Result<Self, StepFailure> {
        let text = |name: &str| match input.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let unfit = |message: String| StepFailure::new(ErrorKind::ClientError, message);
        let needs = |name: &str, what: &str| unfit(format!("notify.send needs `{name}`: {what}"));
        let level = match text("level").as_deref() {
            None | Some("info") => Level::Info,
            Some("warning") => Level::Warning,
            Some("error") => Level::Error,
            Some(other) => return Err(unfit(format!("`level` is `{other}`; it may be info, warning or error"))),
        };
        let channel = text("channel").ok_or_else(|| needs("channel", "where to, such as `me`"))?;
        let body = text("text").filter(|body| !body.trim().is_empty());
        let body = body.ok_or_else(|| needs("text", "what the message says; it is empty"))?;
        Ok(Self { channel, text: body, title: text("title").filter(|title| !title.trim().is_empty()), level })
    }

    /// The title on one line.
    pub(super) fn heading(&self) -> Option<String> {
        self.title.as_deref().map(one_line)
    }

    /// Title and text as one, the title marked.
    pub(super) fn joined(&self, mark: &str) -> String {
        match self.heading() {
            Some(heading) => format!("{mark}{heading}{mark}\n{}", self.text),
            None => self.text.clone(),
        }
    }
}

/// Without line breaks and control characters.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// At most `most`, an ellipsis at its end where something is missing.
pub(super) fn cut(text: &str, most: usize, measure: Measure) -> String {
    const MARK: char = '…';
    let size = |c: char| match measure {
        Measure::Chars => 1,
        Measure::Utf16 => c.len_utf16(),
        Measure::Bytes => c.len_utf8(),
    };
    if text.chars().map(size).sum::<usize>() <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(size(MARK));
    let mut used = 0;
    let mut kept: String = text
        .chars()
        .take_while(|c| {
            used += size(*c);
            used <= room
        })
        .collect();
    kept.push(MARK);
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_cut_by_the_measure_of_the_service_and_says_so() {
        assert_eq!(cut("abcd", 4, Measure::Chars), "abcd");
        assert_eq!(cut("abcde", 4, Measure::Chars), "abc…");
        assert_eq!(cut("🦀🦀🦀", 5, Measure::Utf16), "🦀🦀…");
        assert_eq!(cut("🦀🦀🦀", 11, Measure::Bytes), "🦀🦀…");
    }

    #[test]
    fn a_message_is_read_and_what_is_missing_is_named() {
        let message = Message::read(&json!({"channel": "me", "text": {"a": 1}, "title": "x\ny", "level": "error"}));
        let message = message.unwrap();
        assert_eq!((message.text.as_str(), message.joined("*").as_str()), ("{\"a\":1}", "*x y*\n{\"a\":1}"));
        for (input, part) in [
            (json!({"text": "x"}), "needs `channel`"),
            (json!({"channel": "me", "text": " "}), "needs `text`"),
            (json!({"channel": "me", "text": "x", "level": "loud"}), "info, warning or error"),
        ] {
            let failure = Message::read(&input).unwrap_err();
            assert!(failure.message.contains(part), "{failure}");
        }
    }
}
