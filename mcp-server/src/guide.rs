//! The guide to pipelines, for models: one text, the same as tool answer and as resource.

use crate::hints;

/// Markdown.
const TEXT: &str = include_str!("guide.md");

/// The guide for whom `may_read` says of a text whether it names no tool that is hidden.
pub(crate) fn text(may_read: impl Fn(&str) -> bool) -> String {
    hints::shown_markdown(TEXT, may_read)
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::{
        action::{Catalogue, Grants},
        limits::Limits,
        task::{Acceptance, accept, read},
    };

    use super::*;

    /// Every block of the guide that is marked as `yaml` is a whole definition.
    #[test]
    fn every_example_of_the_guide_is_accepted_as_it_is() {
        let catalogue = Catalogue { grants: Grants::local(), ..Catalogue::default() };
        let now = "2026-11-23T06:00:00Z".parse().unwrap();
        let against = Acceptance { now, default_zone: None, catalogue: &catalogue, limits: &Limits::DEFAULT };
        let mut examples = 0;
        for block in TEXT.split("```yaml\n").skip(1) {
            let text = block.split("```").next().unwrap();
            for definition in read(text, &Limits::DEFAULT).unwrap() {
                let accepted = accept(&definition, against).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
                assert_eq!(accepted.warnings, Vec::<String>::new());
                examples += 1;
            }
        }
        assert!(examples >= 2, "{examples}");
    }

    #[test]
    fn the_guide_is_short_enough_to_be_read_whole() {
        assert!(TEXT.len() < 10_000, "{}", TEXT.len());
    }
}
