//! Bearer tokens (RFC 6750): how one is read from a request, and who is asked about it.

use std::fmt;

use axum::http::{HeaderMap, header::AUTHORIZATION};
use futures_util::future::BoxFuture;
use sha2::Digest as _;

use crate::principal::Principal;

/// A token in clear, on its way to be looked up; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    #[cfg(test)]
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(sha2::Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The SHA-256 of a token, by which one is told from another; shown is its beginning, enough to find it by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..4]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Knows whose a token is.
pub trait Authenticate: Send + Sync + 'static {
    /// The agent that the token speaks for; `None` where it is unknown, revoked or expired.
    ///
    /// # Errors
    /// Nobody can say at the moment.
    fn authenticate(&self, token: Token) -> BoxFuture<'_, Result<Option<Principal>, Unavailable>>;
}

/// The services that know the tokens do not answer; the text says what is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What the `Authorization` header of a request holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    Absent,
    /// There is something, and it is not one bearer token.
    Malformed,
    Bearer(Token),
}

impl Credential {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return if headers.contains_key(AUTHORIZATION) { Self::Malformed } else { Self::Absent };
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty() && token.bytes().all(is_token_byte));
        token.map_or(Self::Malformed, |token| Self::Bearer(Token(token.to_owned())))
    }
}

/// RFC 6750 section 2.1, `b64token`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(values: &[&str]) -> Credential {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        Credential::of(&headers)
    }

    #[test]
    fn a_bearer_token_is_read_in_any_case_of_the_scheme() {
        assert_eq!(credential(&["Bearer abc"]), Credential::Bearer(Token("abc".to_owned())));
        assert_eq!(credential(&["bearer abc"]), Credential::Bearer(Token("abc".to_owned())));
    }

    #[test]
    fn anything_else_is_no_token() {
        assert_eq!(credential(&[]), Credential::Absent);
        for wrong in [&["Basic abc"][..], &["Bearer"], &["Bearer "], &["Bearer a b"], &["Bearer a", "Bearer a"]] {
            assert_eq!(credential(wrong), Credential::Malformed, "{wrong:?}");
        }
    }
}
