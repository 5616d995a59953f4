//! Where a secret may be sent: hosts, written as people write them.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// `api.example.com`, `api.example.com:8443`, `*.example.com`, `127.0.0.1:8080`, `[::1]:8080`.
///
/// Without a port it is the scheme's own port. A star stands for one label or more, never for none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    below: bool,
    host: String,
    port: Option<u16>,
}

/// Why a text is no [`HostPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no host that a secret can be bound to: {why}")]
pub struct BadHost {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for HostPattern {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let bad = |why| BadHost { text: text.to_owned(), why };
        let written = text.trim();
        if written.contains(['/', '@', '?', '#']) || written.contains(char::is_whitespace) {
            return Err(bad("write the host alone, such as api.example.com, without https:// and without a path"));
        }
        let (place, port) = match written.rsplit_once(':') {
            Some((place, port)) if !port.contains(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (place, Some(port.ok_or_else(|| bad("its port is no number from 1 to 65535"))?))
            }
            _ => (written, None),
        };
        let (below, name) = match place.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, place),
        };
        if name.contains('*') {
            return Err(bad("a star stands only for whole labels at the beginning, as in *.example.com"));
        }
        let host = Host::parse(name.trim_end_matches('.')).map_err(|_| bad("that is neither a name nor an address"))?;
        if below && !matches!(&host, Host::Domain(name) if name.contains('.')) {
            return Err(bad("below a star at least two labels are needed, as in *.example.com"));
        }
        Ok(Self { below, host: host.to_string(), port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.below {
            f.write_str("*.")?;
        }
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl HostPattern {
    /// Whether a request to `url` goes to such a host. The scheme is judged by whoever sends it.
    pub fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host = host.trim_end_matches('.');
        let is_host = if self.below {
            matches!(url.host(), Some(Host::Domain(_)))
                && host
                    .strip_suffix(&self.host)
                    .and_then(|rest| rest.strip_suffix('.'))
                    .is_some_and(|it| !it.is_empty())
        } else {
            host == self.host
        };
        is_host
            && match self.port {
                Some(port) => url.port_or_known_default() == Some(port),
                None => url.port().is_none(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().covers(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_host_is_covered_exactly_or_below_a_star() {
        assert!(covers("api.example.com", "https://API.example.com./x"));
        assert!(covers("*.example.com", "https://a.b.example.com"));
        assert!(covers("münchen.example", "https://xn--mnchen-3ya.example"));
        for (pattern, url) in [
            ("api.example.com", "https://example.com"),
            ("api.example.com", "https://api.example.com.evil.example"),
            ("api.example.com", "https://evil.example/api.example.com"),
            ("api.example.com", "https://api.example.com@evil.example"),
            ("*.example.com", "https://example.com"),
            ("*.example.com", "https://evilexample.com"),
            ("*.example.com", "https://.example.com"),
        ] {
            assert!(!covers(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn without_a_port_it_is_the_schemes_own() {
        assert!(covers("a.example", "https://a.example") && !covers("a.example", "https://a.example:8443"));
        assert!(covers("a.example:8443", "https://a.example:8443") && !covers("a.example:8443", "https://a.example"));
        assert!(covers("a.example:443", "https://a.example") && !covers("a.example:443", "http://a.example"));
        assert!(covers("127.0.0.1:8080", "http://127.1:8080") && covers("[::1]:80", "http://[0::1]/"));
    }

    #[test]
    fn what_would_bind_to_too_much_or_to_nothing_is_refused() {
        for text in
            ["", "*", "*.com", "a.*.com", "https://a.example", "a.example/x", "u@a.example", "a.example:0", "a b"]
        {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        for text in ["a.example", "*.example.com:8443", "[::1]:80", "10.0.0.1"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
    }
}
