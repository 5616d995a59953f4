//! Where HTTP steps may connect to.
//!
//! Callers are language models, so a URL is hostile until shown otherwise. A host is resolved once, every address
//! is judged, and only judged addresses are connected to: a name that answers differently the second time is
//! never asked a second time. One bad address refuses the whole host. Not public means refused, unless the
//! operator allows exactly that `host:port` or `network:port`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use async_trait::async_trait;
use ordinaut_schema::run::{ErrorKind, StepFailure};
use url::{Host, Url};

/// Turns a name into addresses: the system's resolver, or a test's.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// One exception that the operator made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowance {
    /// `intranet.example:443`: whatever address the name has.
    Name { name: String, port: u16 },
    /// `127.0.0.1:8080`, `10.0.0.0/8:443`, `[::1]:80`, `[fd00::]/8:443`.
    Network { network: IpAddr, prefix: u8, port: u16 },
}

/// Why a text is no [`Allowance`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` cannot be allowed: {reason} (write `host:port` or `network:port`, such as `127.0.0.1:8080`, \
     `10.0.0.0/8:443`, `[::1]:80` or `intranet.example:443`)"
)]
pub struct BadAllowance {
    pub text: String,
    pub reason: &'static str,
}

impl FromStr for Allowance {
    type Err = BadAllowance;

    fn from_str(text: &str) -> Result<Self, BadAllowance> {
        let bad = |reason| BadAllowance { text: text.to_owned(), reason };
        let (place, port) = text.trim().rsplit_once(':').ok_or_else(|| bad("it names no port"))?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| bad("the port is not 1 to 65535"))?;
        let (address, prefix) = match place.split_once('/') {
            // `[fd00::/8]:443` and `[fd00::]/8:443` mean the same.
            Some((address, prefix)) => (address, Some(prefix.trim_end_matches(']'))),
            None => (place, None),
        };
        let bracketed = address.starts_with('[');
        match (address.trim_matches(['[', ']']).parse::<IpAddr>(), prefix) {
            (Ok(IpAddr::V6(_)), _) if !bracketed => Err(bad("an IPv6 address stands in brackets")),
            (Ok(network), prefix) => {
                let widest = if network.is_ipv4() { 32 } else { 128 };
                let prefix = match prefix {
                    None => widest,
                    Some(prefix) => prefix
                        .parse()
                        .ok()
                        .filter(|prefix| *prefix <= widest)
                        .ok_or_else(|| bad("the prefix length does not fit the address"))?,
                };
                Ok(Self::Network { network, prefix, port })
            }
            (Err(_), Some(_)) => Err(bad("the network is not an address with a prefix length")),
            (Err(_), None) => match Host::parse(place) {
                Ok(Host::Domain(name)) => Ok(Self::Name { name: plain(&name), port }),
                // `0x7f.1` and its like: an operator should see what is allowed.
                Ok(Host::Ipv4(_) | Host::Ipv6(_)) => Err(bad("the address is not in its usual form")),
                Err(_) => Err(bad("the host is neither a name nor an address")),
            },
        }
    }
}

impl Allowance {
    fn covers(&self, host: &Host<&str>, address: IpAddr, port: u16) -> bool {
        match self {
            Self::Name { name, port: allowed } => {
                *allowed == port && matches!(host, Host::Domain(asked) if plain(asked) == *name)
            }
            Self::Network { network, prefix, port: allowed } => *allowed == port && within(address, *network, *prefix),
        }
    }
}

/// A name without its trailing dot, in lower case.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is_localhost(name: &str) -> bool {
    let name = plain(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// Where one request may go: the judged addresses of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// For people: host, and port where it is not the scheme's own. Never credentials.
    pub shown: String,
    pub addresses: Vec<SocketAddr>,
    /// The operator named all of them, by `host:port` or `network:port`.
    pub is_allowed: bool,
}

/// Judges destinations.
pub struct Guard {
    allowed: Vec<Allowance>,
    resolver: Box<dyn Resolve>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl Guard {
    pub fn new(allowed: Vec<Allowance>, resolver: impl Resolve) -> Self {
        Self { allowed, resolver: Box::new(resolver) }
    }

    /// Resolves the host of `url` and judges every address it has.
    pub async fn judge(&self, url: &Url) -> Result<Destination, StepFailure> {
        let shown = shown(url);
        let refused = |why: &str| {
            StepFailure::new(
                ErrorKind::Denied,
                format!(
                    "{shown} is refused: {why}. HTTP steps reach public addresses only, unless the operator allows \
                     `host:port`"
                ),
            )
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(&format!("`{}` is neither http nor https", url.scheme())));
        }
        let host = url.host().ok_or_else(|| refused("the URL names no host"))?;
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = match host {
            Host::Ipv4(address) => vec![IpAddr::V4(address)],
            Host::Ipv6(address) => vec![IpAddr::V6(address)],
            // RFC 6761: no resolver is asked. One address, so that `127.0.0.1:8080` allows `localhost:8080`.
            Host::Domain(name) if is_localhost(name) => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            Host::Domain(name) => self.resolver.resolve(name).await.map_err(|error| {
                StepFailure::new(ErrorKind::Connection, format!("the name `{name}` could not be resolved: {error}"))
            })?,
        };
        if addresses.is_empty() {
            return Err(StepFailure::new(ErrorKind::Connection, format!("{shown} has no address")));
        }
        let allowed = |address: &IpAddr| self.allowed.iter().any(|it| it.covers(&host, *address, port));
        for address in &addresses {
            if let Some(why) = reserved(*address)
                && !allowed(address)
            {
                // The address itself stays unsaid: what an inner name resolves to is nobody's business.
                return Err(refused(&format!("it leads to {why}")));
            }
        }
        let is_allowed = addresses.iter().all(allowed);
        let addresses = addresses.into_iter().map(|it| SocketAddr::new(it, port)).collect();
        Ok(Destination { shown, addresses, is_allowed })
    }
}

/// Host and, where it is not the scheme's own, port.
pub(crate) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or("a URL without a host");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// What an address is kept for, if it is not a public one.
pub fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => RESERVED_V4
            .iter()
            .find(|(network, prefix, _)| within(address.into(), (*network).into(), *prefix))
            .map(|(_, _, why)| *why),
        IpAddr::V6(address) => RESERVED_V6
            .iter()
            .find(|(network, prefix, _)| within(address.into(), (*network).into(), *prefix))
            .map(|(_, _, why)| *why)
            // Whatever is not global unicast has no place on the public Internet.
            .or_else(|| {
                let global = within(address.into(), Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0).into(), 3);
                (!global).then_some("an address outside the global range")
            }),
    }
}

fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    }
}

/// The IANA special-purpose registry, and multicast.
const RESERVED_V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::UNSPECIFIED, 8, "an unspecified address"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a carrier's inner address"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "an address of protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "a documentation address"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "a name-server sink address"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "a multicast relay address"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay address"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "a name-server sink address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "a benchmarking address"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "a documentation address"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "a documentation address"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved address"),
];

/// Named first; [`reserved`] refuses the rest outside `2000::/3`.
const RESERVED_V6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "an unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4 address in IPv6 clothes"),
    (Ipv6Addr::UNSPECIFIED, 96, "an IPv4 address in IPv6 clothes"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "a NAT64 address"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a NAT64 address"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "a discard address"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "an address of protocol assignments"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "a documentation address"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 address"),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, "a name-server sink address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "a documentation address"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a private address"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local address"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "a site-local address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_range_is_refused_at_both_ends() {
        for (network, prefix, why) in RESERVED_V4 {
            let last = network.to_bits() | u32::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0);
            assert_eq!(reserved((*network).into()), Some(*why));
            assert!(reserved(Ipv4Addr::from_bits(last).into()).is_some(), "{network}/{prefix}");
        }
        for (network, prefix, _) in RESERVED_V6 {
            let last = network.to_bits() | u128::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0);
            assert!(reserved((*network).into()).is_some(), "{network}/{prefix}");
            assert!(reserved(Ipv6Addr::from_bits(last).into()).is_some(), "{network}/{prefix}");
        }
    }

    #[test]
    fn public_addresses_are_not_reserved() {
        for address in ["1.1.1.1", "9.255.255.255", "100.63.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1111"] {
            assert_eq!(reserved(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn ipv4_in_ipv6_clothes_and_unknown_ranges_are_refused() {
        for address in [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "4000::1",
            "5f00::1",
        ] {
            assert!(reserved(address.parse().unwrap()).is_some(), "{address}");
        }
    }

    #[test]
    fn allowances_are_read_in_every_documented_form() {
        let network = |text: &str, prefix, port| Allowance::Network { network: text.parse().unwrap(), prefix, port };
        for (text, expected) in [
            ("127.0.0.1:8080", network("127.0.0.1", 32, 8080)),
            ("10.0.0.0/8:443", network("10.0.0.0", 8, 443)),
            ("[::1]:80", network("::1", 128, 80)),
            ("[fd00::]/8:443", network("fd00::", 8, 443)),
            ("[fd00::/8]:443", network("fd00::", 8, 443)),
            ("Intranet.Example.:443", Allowance::Name { name: "intranet.example".to_owned(), port: 443 }),
        ] {
            assert_eq!(text.parse::<Allowance>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_allowance_that_says_too_little_is_refused() {
        for text in
            ["127.0.0.1", "localhost", "::1:80", "10.0.0.0/33:80", "host:0", "host:99999", "a b:80", "0x7f.1:80"]
        {
            assert!(text.parse::<Allowance>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_allowance_covers_its_own_port_only() {
        let allowance: Allowance = "10.0.0.0/8:443".parse().unwrap();
        let host = Host::Domain("x.example");
        assert!(allowance.covers(&host, "10.9.8.7".parse().unwrap(), 443));
        assert!(!allowance.covers(&host, "10.9.8.7".parse().unwrap(), 80));
        assert!(!allowance.covers(&host, "11.0.0.1".parse().unwrap(), 443));
        let allowance: Allowance = "intranet.example:443".parse().unwrap();
        assert!(allowance.covers(&Host::Domain("INTRANET.example."), "10.0.0.1".parse().unwrap(), 443));
        assert!(!allowance.covers(&Host::Domain("other.example"), "10.0.0.1".parse().unwrap(), 443));
    }
}
