//! On which line of its file each part of a definition stands.
//!
//! Definitions are judged as values, which know nothing of text; the text is read once more for its lines only.
//! JSON is YAML here. Where that fails, faults are told without lines.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The lines of one definition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Option<Node>);

#[derive(Debug, Clone)]
struct Node {
    line: u64,
    parts: Vec<(String, Node)>,
}

impl Lines {
    /// One for each of the `count` definitions that `text` holds.
    pub(super) fn of_documents(text: &str, count: usize) -> Vec<Self> {
        let documents: Vec<Spanned<Parts>> = serde_saphyr::from_multiple(text).unwrap_or_default();
        let found: Vec<_> = documents.into_iter().map(Node::from).flat_map(Node::definitions).collect();
        if found.len() == count {
            found.into_iter().map(|node| Self(Some(node))).collect()
        } else {
            vec![Self(None); count]
        }
    }

    /// The line of what `path` (`$.pipeline[2].with.url`) names, or of the nearest thing around it that there is.
    pub(super) fn line_of(&self, path: &str) -> Option<u64> {
        let mut node = self.0.as_ref()?;
        for name in path.split(['.', '[', ']']).skip(1).filter(|name| !name.is_empty()) {
            let Some((_, part)) = node.parts.iter().find(|(known, _)| known == name) else { break };
            node = part;
        }
        (node.line > 0).then_some(node.line)
    }
}

impl Node {
    /// A list holds several definitions.
    fn definitions(self) -> Vec<Self> {
        let is_list = self.parts.first().is_some_and(|(name, _)| name == "0");
        if is_list { self.parts.into_iter().map(|(_, part)| part).collect() } else { vec![self] }
    }
}

impl From<Spanned<Parts>> for Node {
    fn from(spanned: Spanned<Parts>) -> Self {
        Self { line: spanned.referenced.line(), parts: spanned.value.0 }
    }
}

/// What a mapping or a list holds; nothing for a scalar.
#[derive(Default)]
struct Parts(Vec<(String, Node)>);

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let mut parts = Vec::new();
        // The key's line: that of a value may be the next one.
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let mut node = Node::from(map.next_value::<Spanned<Parts>>()?);
            node.line = key.referenced.line();
            parts.push((key.value, node));
        }
        Ok(Parts(parts))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Parts, A::Error> {
        let mut parts = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Parts>>()? {
            parts.push((parts.len().to_string(), Node::from(item)));
        }
        Ok(Parts(parts))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_unit<E>(self) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_none<E>(self) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parts, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Parts::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "\
# a comment
title: one
pipeline:
  - id: a
    uses: http.get
    with:
      url: x
---
title: two
pipeline: [{ uses: a },
  { uses: b }]
";

    #[test]
    fn each_part_of_each_document_has_its_line() {
        let lines = Lines::of_documents(YAML, 2);
        let line = |document: usize, path: &str| lines[document].line_of(path);
        assert_eq!(line(0, "$.title"), Some(2));
        assert_eq!(line(0, "$.pipeline[0].with.url"), Some(7));
        assert_eq!(line(0, "$.pipeline[0]"), Some(4));
        assert_eq!(line(1, "$.title"), Some(9));
        assert_eq!(line(1, "$.pipeline[1].uses"), Some(11));
    }

    #[test]
    fn what_is_missing_has_the_line_of_what_it_is_missing_from() {
        let lines = Lines::of_documents(YAML, 2);
        assert_eq!(lines[0].line_of("$.pipeline[0].with.query.q"), Some(6));
        assert_eq!(lines[0].line_of("$.schedule_kind"), Some(2));
    }

    #[test]
    fn json_has_lines_too_and_lists_hold_several_definitions() {
        let lines = Lines::of_documents("[{\n \"title\": \"a\"},\n{\"title\":\n\"b\"}]", 2);
        assert_eq!(lines[0].line_of("$.title"), Some(2));
        assert_eq!(lines[1].line_of("$.title"), Some(3));
    }

    #[test]
    fn text_that_cannot_be_followed_has_no_lines() {
        assert_eq!(Lines::of_documents("a: [", 1)[0].line_of("$.a"), None);
    }
}
