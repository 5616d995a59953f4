//! A credential of the operator's: in clear, or with `${secrets.NAME}` in it, alone or among other text.

use std::fmt;

use url::Url;

use crate::{fault::FaultCode, fields::Fields};

const OPENS: &str = "${";
const REFERENCE: &str = "${secrets.";

/// Text that nobody is shown. Without references it is itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Credential {
    /// # Errors
    /// A `${` that is no `${secrets.NAME}`; the reason does not quote the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let credential = Self(text.to_owned());
        credential.pieces()?;
        Ok(credential)
    }

    /// The secrets that it refers to.
    pub fn references(&self) -> Vec<&str> {
        let names = self.pieces().unwrap_or_default().into_iter();
        names.filter_map(|piece| if let Piece::Secret(name) = piece { Some(name) } else { None }).collect()
    }

    /// The text itself, each reference replaced by what `secret` says.
    ///
    /// # Errors
    /// `secret`'s own.
    pub fn fill<E>(&self, mut secret: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
        let mut filled = String::new();
        for piece in self.pieces().unwrap_or_default() {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Secret(name) => filled.push_str(&secret(name)?),
            }
        }
        Ok(filled)
    }

    fn pieces(&self) -> Result<Vec<Piece<'_>>, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find(OPENS) {
            let (text, from) = rest.split_at(at);
            let named = from.strip_prefix(REFERENCE).and_then(|rest| rest.split_once('}'));
            let (name, after) = named
                .filter(|(name, _)| is_secret_name(name))
                .ok_or("a `${` in it must be `${secrets.NAME}`; NAME is letters, digits and `_`")?;
            pieces.extend([Piece::Text(text), Piece::Secret(name)]);
            rest = after;
        }
        pieces.push(Piece::Text(rest));
        Ok(pieces)
    }
}

enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
}

fn is_secret_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads a field whose text nobody is shown, not even in a fault.
pub(super) fn read(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Credential> {
    let value = fields.get(name)?;
    match value.as_str().map(|text| Credential::parse(text.trim())) {
        None => fields.fault(name, FaultCode::WrongType, format!("`{name}` must be a text (in quotes)")),
        Some(Err(why)) => fields.fault(name, FaultCode::InvalidValue, format!("`{name}`: {why}")),
        Some(Ok(credential)) if credential.0.is_empty() => {
            fields.fault(name, FaultCode::InvalidValue, format!("`{name}` is empty"));
        }
        Some(Ok(credential)) if credential.0.contains(char::is_control) => {
            fields.fault(
                name,
                FaultCode::InvalidValue,
                format!("`{name}` must be one line without control characters"),
            );
        }
        Some(Ok(credential)) => return Some(credential),
    }
    None
}

/// Reads a URL that is a credential itself, as those of incoming webhooks are.
pub(super) fn read_url(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Credential> {
    let credential = read(fields, name)?;
    if credential.references().is_empty()
        && let Err(why) = endpoint(&credential.0)
    {
        fields.fault(name, FaultCode::InvalidValue, format!("`{name}` {why}"));
        return None;
    }
    Some(credential)
}

/// A URL that requests may go to.
///
/// # Errors
/// It is none; the reason does not quote it.
pub(super) fn endpoint(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a whole URL such as https://hooks.example.com/services/x")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must be an http:// or https:// URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password; send them as a header");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_itself_or_what_its_references_say() {
        let plain = Credential::parse("hunter2").unwrap();
        assert_eq!(plain.fill(|_| Err(())), Ok("hunter2".to_owned()));
        let mixed = Credential::parse("Bearer ${secrets.KEY}-${secrets.B}").unwrap();
        assert_eq!(mixed.references(), ["KEY", "B"]);
        assert_eq!(mixed.fill(|name| Ok::<_, ()>(name.to_lowercase())), Ok("Bearer key-b".to_owned()));
        assert_eq!(mixed.fill(|_| Err(())), Err(()));
    }

    #[test]
    fn other_templates_are_refused_in_a_credential() {
        for text in ["${params.x}", "a${", "${secrets.}", "${secrets.a b}", "${secrets.x"] {
            assert!(Credential::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_credential_is_not_shown() {
        assert_eq!(format!("{:?}", Credential::parse("hunter2").unwrap()), "[hidden]");
    }
}
