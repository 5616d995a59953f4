//! Text of strangers: without what could hide in it, or with that written out.
//!
//! Control characters steer terminals; marks and overrides of direction show text in another order than it has;
//! zero-width and tag characters are read by a model and by no person.

/// Without control characters (line ends and tabs stay) and without those that format invisibly.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| is_shown(*c)).collect()
}

/// The text with what [`clean`] would remove written out, for a person who decides by what they see.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shown(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

fn is_shown(c: char) -> bool {
    matches!(c, '\n' | '\t') || !(c.is_control() || is_invisible(c))
}

/// Bidirectional marks and overrides, zero-width and tag characters, variation selectors beyond those of emoji,
/// byte-order marks, line separators.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_hide_is_removed_or_written_out_and_all_else_stays() {
        let hostile = "a\u{1b}[2J\u{202e}b\u{200b}\u{e0041}\u{e0100}\nc\té";
        assert_eq!(clean(hostile), "a[2Jb\nc\té");
        assert_eq!(visible(hostile), "a\\u{1b}[2J\\u{202e}b\\u{200b}\\u{e0041}\\u{e0100}\nc\té");
    }
}
