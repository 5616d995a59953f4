//! What differs between two texts, line by line, as a person reads it.

/// More cells than this are not compared: then all of the old goes and all of the new comes.
const CELLS: usize = 4_000_000;
/// How many unchanged lines stay around a change.
const CONTEXT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The lines of both: `- ` before what goes, `+ ` before what comes, long stretches of what stays left out.
pub(super) fn diff(old: &str, new: &str) -> Vec<String> {
    let lines = compare(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let changes: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))).map(|(n, _)| n).collect();
    let is_near = |n: usize| {
        let next = changes.partition_point(|change| *change < n);
        [changes.get(next), next.checked_sub(1).and_then(|before| changes.get(before))]
            .into_iter()
            .flatten()
            .any(|change| change.abs_diff(n) <= CONTEXT)
    };
    let mut shown = Vec::new();
    let mut is_left_out = false;
    for (n, line) in lines.iter().enumerate() {
        if is_near(n) {
            shown.push(match line {
                Line::Same(text) => format!("  {text}"),
                Line::Gone(text) => format!("- {text}"),
                Line::New(text) => format!("+ {text}"),
            });
            is_left_out = false;
        } else if !is_left_out {
            shown.push("  …".to_owned());
            is_left_out = true;
        }
    }
    shown
}

/// By the longest common subsequence of what lies between the common beginning and the common end.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old_rest[..old_rest.len() - end], &new_rest[..new_rest.len() - end]);
    let mut lines: Vec<_> = old[..start].iter().map(|text| Line::Same(text)).collect();
    if a.len().saturating_mul(b.len()) > CELLS {
        lines.extend(a.iter().map(|text| Line::Gone(text)));
        lines.extend(b.iter().map(|text| Line::New(text)));
    } else {
        // lengths[i][j]: of the longest common subsequence of a[i..] and b[j..].
        let mut lengths = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                lengths[i][j] =
                    if a[i] == b[j] { lengths[i + 1][j + 1] + 1 } else { lengths[i + 1][j].max(lengths[i][j + 1]) };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                lines.push(Line::Same(a[i]));
                (i, j) = (i + 1, j + 1);
            } else if j == b.len() || (i < a.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
                lines.push(Line::Gone(a[i]));
                i += 1;
            } else {
                lines.push(Line::New(b[j]));
                j += 1;
            }
        }
    }
    lines.extend(old_rest[old_rest.len() - end..].iter().map(|text| Line::Same(text)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_what_comes_is_marked_and_the_rest_is_context() {
        assert_eq!(diff("a\nb\nc", "a\nx\nc\nd"), ["  a", "- b", "+ x", "  c", "+ d"]);
        let long: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let other = long.join("\n").replace("10", "ten");
        assert_eq!(
            diff(&long.join("\n"), &other),
            ["  …", "  7", "  8", "  9", "- 10", "+ ten", "  11", "  12", "  13", "  …"]
        );
        assert_eq!(diff("", "new"), ["+ new"]);
    }

    #[test]
    fn every_line_of_both_texts_is_accounted_for() {
        let texts = ["", "a", "a\nb", "b\na", "a\na\nb\nc", "c\nb\na", "x\na\ny\nb\nz"];
        for old in texts {
            for new in texts {
                let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
                let lines = compare(&old, &new);
                let side = |without: fn(&Line<'_>) -> bool| -> Vec<&str> {
                    let kept = lines.iter().filter(|line| !without(line));
                    kept.map(|line| match line {
                        Line::Same(text) | Line::Gone(text) | Line::New(text) => *text,
                    })
                    .collect()
                };
                assert_eq!(side(|line| matches!(line, Line::New(_))), old);
                assert_eq!(side(|line| matches!(line, Line::Gone(_))), new);
            }
        }
    }
}
