//! Where a request comes from, as far as that can be told.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use axum::http::{Extensions, HeaderMap};

/// The address at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(IpAddr);

/// Whoever shares a [`Peer`]'s patience: one IPv4 address, or the network that one IPv6 subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Neighbourhood(IpAddr);

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self(address.ip().to_canonical())
    }

    /// Whom the request is from: behind a proxy, whom the proxy names last, which is whom it saw itself.
    pub(super) fn of(extensions: &Extensions, headers: &HeaderMap, behind_proxy: bool) -> Option<Self> {
        let connected = extensions.get::<Self>().copied();
        if !behind_proxy {
            return connected;
        }
        let named = headers.get_all("x-forwarded-for").iter().next_back();
        let named = named.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
        named.map(|address| Self(address.to_canonical())).or(connected)
    }

    pub(super) fn neighbourhood(self) -> Neighbourhood {
        Neighbourhood(match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn peer(connected: &str, forwarded: &[&'static str], behind_proxy: bool) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(Peer::new(SocketAddr::new(connected.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        Peer::of(&extensions, &headers, behind_proxy).unwrap().to_string()
    }

    #[test]
    fn only_a_proxy_of_the_operators_may_say_whom_it_saw() {
        assert_eq!(peer("10.0.0.1", &["203.0.113.9"], false), "10.0.0.1");
        assert_eq!(peer("10.0.0.1", &["203.0.113.9"], true), "203.0.113.9");
        // What the client itself wrote stands before it.
        assert_eq!(peer("10.0.0.1", &["198.51.100.1, 203.0.113.9"], true), "203.0.113.9");
        assert_eq!(peer("10.0.0.1", &["198.51.100.1", "203.0.113.9"], true), "203.0.113.9");
        assert_eq!(peer("10.0.0.1", &["unknown"], true), "10.0.0.1");
        assert_eq!(peer("::ffff:10.0.0.1", &[], true), "10.0.0.1");
    }

    #[test]
    fn the_addresses_of_one_network_are_one_neighbourhood() {
        let neighbourhood = |text: &str| Peer(text.parse().unwrap()).neighbourhood();
        assert_eq!(neighbourhood("2001:db8::1"), neighbourhood("2001:db8::ffff:2"));
        assert_ne!(neighbourhood("2001:db8::1"), neighbourhood("2001:db8:0:1::1"));
        assert_ne!(neighbourhood("192.0.2.1"), neighbourhood("192.0.2.2"));
    }
}
