//! Which hosts and origins are allowed: parsed once, compared without tricks.

use std::fmt;

use axum::http::{Uri, uri::Authority};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A name this server answers to, with a port or for any port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Reads `localhost`, `example.com:8443`, `[::1]:7447`; `None` for anything that is no host.
    pub fn parse(text: &str) -> Option<Self> {
        let authority = Authority::try_from(text.trim()).ok()?;
        let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        plain.then(|| Self { name: normal_name(authority.host()), port: authority.port_u16() })
    }

    /// Whether a request that names `given` may pass.
    pub fn covers(&self, given: &Self) -> bool {
        self.name == given.name && (self.port.is_none() || self.port == given.port)
    }

    /// What a server on loopback answers to.
    pub fn loopback() -> Vec<Self> {
        ["localhost", "127.0.0.1", "[::1]"].iter().filter_map(|name| Self::parse(name)).collect()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A web origin (RFC 6454): scheme, name, and a port or any port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    name: String,
    port: Option<u16>,
}

impl Origin {
    /// Reads `https://app.example.com`, `http://localhost:6274`, `http://localhost:*`; `null` is no origin.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (text, any_port) = text.strip_suffix(":*").map_or((text, false), |text| (text, true));
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let authority = uri.authority()?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        let port = match (any_port, authority.port_u16(), scheme.as_str()) {
            (true, _, _) => None,
            (false, Some(port), _) => Some(port),
            (false, None, "https") => Some(443),
            (false, None, "http") => Some(80),
            (false, None, _) => return None,
        };
        bare.then(|| Self { scheme, name: normal_name(authority.host()), port })
    }

    /// Whether a page of `given` may call.
    pub fn covers(&self, given: &Self) -> bool {
        self.scheme == given.scheme && self.name == given.name && (self.port.is_none() || self.port == given.port)
    }

    /// Pages served from this machine.
    pub fn loopback() -> Vec<Self> {
        ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"].iter().filter_map(|o| Self::parse(o)).collect()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

/// Lower case; a root dot at the end is the same name.
fn normal_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

macro_rules! as_text {
    ($($name:ident: $what:literal),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not {}", $what)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

as_text! {
    Host: "a host; write `example.com` or `example.com:8443`",
    Origin: "a web origin; write `https://app.example.com` or `http://localhost:*`"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_passes(allowed: &str, given: &str) -> bool {
        Host::parse(given).is_some_and(|given| Host::parse(allowed).unwrap().covers(&given))
    }

    fn origin_passes(allowed: &str, given: &str) -> bool {
        Origin::parse(given).is_some_and(|given| Origin::parse(allowed).unwrap().covers(&given))
    }

    #[test]
    fn a_host_is_compared_by_name_and_by_port_where_one_is_given() {
        assert!(host_passes("localhost", "LocalHost:7447"));
        assert!(host_passes("example.com:8443", "example.com:8443"));
        assert!(!host_passes("example.com:8443", "example.com"));
        assert!(!host_passes("localhost", "localhost.evil.example"));
        assert!(!host_passes("localhost", "evil@localhost"));
        assert!(host_passes("[::1]", "[::1]:7447"));
    }

    #[test]
    fn an_origin_is_compared_whole() {
        assert!(origin_passes("http://localhost:*", "http://localhost:6274"));
        assert!(origin_passes("https://app.example.com", "https://app.example.com:443"));
        assert!(!origin_passes("https://app.example.com", "http://app.example.com"));
        assert!(!origin_passes("http://localhost:*", "http://localhost.evil.example:1"));
        assert!(!origin_passes("http://localhost:*", "null"));
        assert!(!origin_passes("http://localhost:80", "http://localhost:6274"));
    }
}
