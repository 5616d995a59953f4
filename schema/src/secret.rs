//! Secrets, as far as they can be judged without their values: names, where each may be sent, and how one is named in
//! a rendered input.
//!
//! A value is known to the executor only, for the length of one call. What is stored, journaled and shown is a
//! [`mark`] that no other text can contain; what comes back from a call is cleaned by a [`Redactor`].

mod binding;
pub mod mark;
mod redactor;

pub use binding::{BadHost, HostPattern};
pub use redactor::Redactor;

/// Values shorter than this are refused: they would be found in texts that have nothing to do with them.
pub const LEAST_CHARS: usize = 8;
/// Longer than any key or certificate that fits into a request.
pub const MOST_BYTES: usize = 16 * 1024;

/// The fields of `with` of an `http.*` step in which secrets may stand.
pub const FIELDS: [&str; 5] = ["headers", "query", "json", "form", "body"];

/// Whether a secret may be called so: `secrets.NAME` has to be one path.
pub fn is_name(name: &str) -> bool {
    const MOST: usize = 64;
    name.len() <= MOST
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a step's `with`, before it is rendered, may name a secret.
pub fn may_name(uses: &str, with: &serde_json::Value) -> bool {
    uses.starts_with("http.") && with.to_string().contains("secrets")
}

/// A stretch of a text of the operator's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured<'a> {
    Text(&'a str),
    /// The name in `${secrets.NAME}`.
    Secret(&'a str),
}

/// Finds `${secrets.NAME}` in a value of the operator's configuration. Nothing else is a template there: files that
/// other programs read too have a `${…}` of their own.
pub fn configured(text: &str) -> Vec<Configured<'_>> {
    let mut parts = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        at = start + 2;
        let Some(length) = text[at..].find('}') else { break };
        let name = text[at..at + length].trim().strip_prefix("secrets.").filter(|name| is_name(name));
        if let Some(name) = name {
            if plain < start {
                parts.push(Configured::Text(&text[plain..start]));
            }
            parts.push(Configured::Secret(name));
            at += length + 1;
            plain = at;
        }
    }
    if plain < text.len() || parts.is_empty() {
        parts.push(Configured::Text(&text[plain..]));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_word() {
        for good in ["API_KEY", "_x", "k9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "9k", "a-b", "a.b", "ключ", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn only_secrets_are_templates_in_the_configuration() {
        use Configured::{Secret, Text};
        assert_eq!(configured("Bearer ${secrets.KEY}!"), [Text("Bearer "), Secret("KEY"), Text("!")]);
        assert_eq!(configured("${secrets.A}${ secrets.B }"), [Secret("A"), Secret("B")]);
        for plain in ["", "${HOME}/bin", "${secrets.a-b}", "${secrets.KEY", "secrets.KEY", "${params.${x}"] {
            assert_eq!(configured(plain), [Text(plain)]);
        }
        assert_eq!(configured("${HOME ${secrets.A}"), [Text("${HOME "), Secret("A")]);
    }
}
