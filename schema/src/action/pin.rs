//! Tools of MCP servers that are not what was accepted of them any more.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Descriptor;

/// In what a tool differs from what was accepted of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub description: bool,
    pub input_schema: bool,
    /// Its word on whether it only reads, or may be repeated.
    pub hints: bool,
}

impl Change {
    /// Between two descriptors whose digests differ.
    pub fn between(accepted: &Descriptor, seen: &Descriptor) -> Self {
        let description = accepted.sentence != seen.sentence;
        let input_schema = accepted.input_schema != seen.input_schema;
        // The digest is over these three; one hint for another leaves the effect as it is.
        let hints = accepted.effect != seen.effect || !(description || input_schema);
        Self { description, input_schema, hints }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts =
            [(self.description, "its description"), (self.input_schema, "its input schema"), (self.hints, "its hints")];
        let parts: Vec<_> = parts.into_iter().filter_map(|(differs, part)| differs.then_some(part)).collect();
        f.write_str(&parts.join(" and "))
    }
}

/// What a person types to look at a changed tool and accept it.
///
/// A tool's name is its server's word: one that a shell could take for more than a name is left out, and the command
/// is for every changed tool of the server.
pub fn accept_command(server: &str, tool: &str) -> String {
    let is_plain = tool.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tool.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    if is_plain {
        format!("ordinaut server accept {server} {tool}")
    } else {
        format!("ordinaut server accept {server}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::action::Effect;

    fn descriptor(sentence: &str, kind: &str, effect: Effect) -> Descriptor {
        let input_schema = json!({ "type": kind });
        let (name, sentence) = ("hub.close".to_owned(), sentence.to_owned());
        Descriptor { name, sentence, input_schema, example: json!({}), effect }
    }

    #[test]
    fn a_change_says_in_what_and_is_never_of_nothing() {
        let accepted = descriptor("Closes.", "object", Effect::Once);
        let said = |seen: Descriptor| Change::between(&accepted, &seen).to_string();
        assert_eq!(said(descriptor("Closes!", "object", Effect::Once)), "its description");
        assert_eq!(said(descriptor("Closes.", "array", Effect::Once)), "its input schema");
        assert_eq!(said(descriptor("Closes.", "object", Effect::Idempotent)), "its hints");
        assert_eq!(
            said(descriptor("x", "x", Effect::Idempotent)),
            "its description and its input schema and its hints"
        );
        assert_eq!(said(accepted.clone()), "its hints");
    }

    #[test]
    fn a_tools_name_cannot_smuggle_anything_into_the_persons_command() {
        assert_eq!(accept_command("hub", "issues/close-all.v2"), "ordinaut server accept hub issues/close-all.v2");
        for hostile in ["x; rm -rf ~", "$(reboot)", "--yes", "a b", "x\u{202e}y", "`id`", ""] {
            assert_eq!(accept_command("hub", hostile), "ordinaut server accept hub", "{hostile}");
        }
    }
}
