//! Texts of ours that name tools, without those that the reader does not see.
//!
//! What a server does not offer, or a token's scopes forbid, is named nowhere: a model would try it. A hint loses no
//! more than it must: what stands in parentheses first, then one of the parts that semicolons make, then a sentence.

/// The text without what names a tool that is hidden; empty where nothing else is said. `may_read` says of a part
/// whether it names none. What stands in double quotes is a title or a value, and names no tool.
pub(crate) fn shown(text: &str, may_read: impl Fn(&str) -> bool) -> String {
    let is_shown = |part: &str| may_read(&unquoted(part));
    if is_shown(text) {
        return text.to_owned();
    }
    let mut kept = String::new();
    for sentence in sentences(text) {
        if is_shown(sentence) {
            kept.push_str(sentence);
            continue;
        }
        let sentence = without_asides(sentence, is_shown);
        if is_shown(&sentence) {
            kept.push_str(&sentence);
            continue;
        }
        let parts: Vec<&str> = sentence.split("; ").filter(|part| is_shown(part)).collect();
        if !parts.is_empty() {
            let parts = parts.join("; ");
            let (parts, space) = (parts.trim_end(), &sentence[sentence.trim_end().len()..]);
            let end =
                if parts.ends_with(['.', '!', '?', ':']) || !sentence.trim_end().ends_with('.') { "" } else { "." };
            kept.push_str(parts);
            kept.push_str(end);
            kept.push_str(space);
        }
    }
    kept.trim_end().to_owned()
}

/// The parts of a text that end with a full stop, each with the space behind it.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(". ").map_or(rest.len(), |at| at + 2);
        let (sentence, after) = rest.split_at(end);
        rest = after;
        Some(sentence)
    })
}

/// The sentence without what stands in parentheses and names what is hidden.
fn without_asides(sentence: &str, is_shown: impl Fn(&str) -> bool) -> String {
    let mut kept = String::new();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once(" (") {
        let Some((aside, after)) = after.split_once(')') else { break };
        kept.push_str(before);
        if is_shown(aside) {
            kept.push_str(" (");
            kept.push_str(aside);
            kept.push(')');
        }
        rest = after;
    }
    kept + rest
}

fn unquoted(text: &str) -> String {
    text.split('"').step_by(2).collect::<Vec<_>>().join("\"")
}

/// Markdown of ours, as [`shown`]: paragraphs and list items lose sentences, and those that lose all of them go; what
/// is fenced stays as it is.
pub(crate) fn shown_markdown(text: &str, may_read: impl Fn(&str) -> bool) -> String {
    if may_read(text) {
        return text.to_owned();
    }
    let mut blocks: Vec<String> = Vec::new();
    let mut is_fenced = false;
    // A block goes on until a line that begins another one.
    let mut goes_on = false;
    for line in text.lines() {
        let is_fence = line.starts_with("```");
        let begins = is_fence || line.is_empty() || line.starts_with('#') || line.starts_with("- ");
        if is_fenced || begins || !goes_on {
            blocks.push(line.to_owned());
        } else if let Some(block) = blocks.last_mut() {
            block.push(' ');
            block.push_str(line.trim_start());
        }
        goes_on = !is_fenced && !is_fence && !line.is_empty() && !line.starts_with('#');
        is_fenced ^= is_fence;
    }
    let mut kept = String::new();
    for block in blocks {
        if is_fenced || block.is_empty() || block.starts_with("```") {
            is_fenced ^= block.starts_with("```");
            kept.push_str(&block);
            kept.push('\n');
            continue;
        }
        let (mark, said) = block.strip_prefix("- ").map_or(("", block.as_str()), |said| ("- ", said));
        let said = shown(said, &may_read);
        if !said.is_empty() {
            kept.push_str(mark);
            kept.push_str(&said);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(hidden: &[&str], text: &str) -> String {
        let is_hidden = |word: &str| hidden.contains(&word);
        shown(text, |part| !part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(is_hidden))
    }

    #[test]
    fn a_hint_loses_what_names_a_hidden_tool_and_no_more() {
        for (text, told) in [
            ("Nothing was changed. get_run shows how it stands.", "Nothing was changed."),
            ("Look first (get_task, list_runs), then call again.", "Look first, then call again."),
            ("To stop it use pause; to stop one run use get_run.", "To stop it use pause."),
            ("get_run shows it; to stop it use pause. Then wait.", "to stop it use pause. Then wait."),
            (
                "Perhaps \"get_run\" is meant. list_tasks shows all.",
                "Perhaps \"get_run\" is meant. list_tasks shows all.",
            ),
            ("get_run shows how it goes.", ""),
        ] {
            assert_eq!(without(&["get_run", "list_runs"], text), told);
        }
        let whole = "get_run shows it; pause stops it.";
        assert_eq!(without(&[], whole), whole);
    }

    #[test]
    fn markdown_loses_sentences_and_keeps_what_is_fenced() {
        let text = "# Runs\nThe first is\nsaid. `get_run` shows\nit.\n- `get_run`: one\n- `pause`: stop\n\n```yaml\nget_run: 1\n```\nEnd.\n";
        let told = shown_markdown(text, |part| !part.contains("get_run"));
        assert_eq!(told, "# Runs\nThe first is said.\n- `pause`: stop\n\n```yaml\nget_run: 1\n```\nEnd.\n");
    }
}
