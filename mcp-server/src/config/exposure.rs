//! Who can reach the server, and whether what they send crosses the network in clear.

use std::{net::SocketAddr, path::PathBuf};

use super::Mcp;

/// A certificate with its chain, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Others could read the tokens that clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} can be reached from other machines, and tokens would cross the network in clear; do one of three things: \
     listen on loopback (`mcp.listen = \"127.0.0.1:7447\"`), give a certificate (`mcp.tls_certificate` and `mcp.tls_key`), \
     or put a proxy that speaks TLS before this server and say so (`mcp.behind_proxy = true`)"
)]
pub struct Exposed(pub SocketAddr);

impl Mcp {
    /// Whether the server may listen where it should.
    ///
    /// # Errors
    /// Not without TLS, its own or a proxy's.
    pub fn check_exposure(&self) -> Result<(), Exposed> {
        let private = self.listen.ip().to_canonical().is_loopback();
        if private || self.behind_proxy || self.certificate().is_some() { Ok(()) } else { Err(Exposed(self.listen)) }
    }

    /// What the server speaks TLS with, where it does.
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let (certificate, key) = self.tls_certificate.clone().zip(self.tls_key.clone())?;
        Some(CertificateFiles { certificate, key })
    }

    pub(super) fn half_a_certificate(&self) -> Option<String> {
        let (given, missing) = match (&self.tls_certificate, &self.tls_key) {
            (Some(_), None) => ("tls_certificate", "tls_key"),
            (None, Some(_)) => ("tls_key", "tls_certificate"),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(format!("mcp.{given} is set and mcp.{missing} is not; TLS needs both"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Config;

    fn mcp(lines: &str) -> Mcp {
        Config::read(Some(&format!("[mcp]\n{lines}")), &BTreeMap::new()).unwrap().mcp
    }

    #[test]
    fn beyond_loopback_nothing_is_served_in_clear() {
        for (listen, is_private) in [
            ("127.0.0.1:7447", true),
            ("127.9.9.9:1", true),
            ("[::1]:7447", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:7447", false),
            ("[::]:7447", false),
            ("192.168.1.2:7447", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            assert_eq!(mcp(&format!("listen = '{listen}'")).check_exposure().is_ok(), is_private, "{listen}");
            let behind = mcp(&format!("listen = '{listen}'\nbehind_proxy = true"));
            assert_eq!(behind.check_exposure(), Ok(()), "{listen}");
            let with_tls = mcp(&format!("listen = '{listen}'\ntls_certificate = 'a.pem'\ntls_key = 'b.pem'"));
            assert_eq!(with_tls.check_exposure(), Ok(()), "{listen}");
        }
        let said = mcp("listen = '0.0.0.0:7447'").check_exposure().unwrap_err().to_string();
        for part in ["0.0.0.0:7447", "127.0.0.1:7447", "mcp.tls_certificate", "mcp.tls_key", "mcp.behind_proxy"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    #[test]
    fn the_example_file_is_read_with_every_line_in_force() {
        let example = include_str!("../../../examples/ordinaut.toml");
        assert_eq!(Config::read(Some(example), &BTreeMap::new()).unwrap().mcp, Mcp::default());
        let uncommented = |line: &'static str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        let in_force: Vec<_> = example.lines().map(|line| uncommented(line).unwrap_or(line)).collect();
        let mcp = Config::read(Some(&in_force.join("\n")), &BTreeMap::new()).unwrap().mcp;
        assert!(mcp.certificate().is_some() && !mcp.listen.ip().is_loopback());
        let untold = Mcp::default();
        assert_eq!((mcp.calls(), mcp.session_idle_timeout), (untold.calls(), untold.session_idle_timeout));
    }

    #[test]
    fn every_setting_is_a_variable_too_and_half_a_certificate_is_none() {
        let variables = [
            ("ORDINAUT_MCP_BEHIND_PROXY", "true"),
            ("ORDINAUT_MCP_TLS_CERTIFICATE", "/etc/a.pem"),
            ("ORDINAUT_MCP_TLS_KEY", "/etc/b.pem"),
            ("ORDINAUT_MCP_CALLS_PER_MINUTE", "7"),
            ("ORDINAUT_MCP_CALLS_BURST", "3"),
            ("ORDINAUT_MCP_SESSION_IDLE_TIMEOUT", "90s"),
        ];
        let read = |wanted: &[&str]| {
            let some = variables.iter().filter(|(name, _)| wanted.contains(name));
            let some = some.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Config::read(None, &some)
        };
        let mcp = read(&variables.map(|(name, _)| name)).unwrap().mcp;
        let files = CertificateFiles { certificate: "/etc/a.pem".into(), key: "/etc/b.pem".into() };
        assert_eq!(mcp.certificate(), Some(files));
        assert!(mcp.behind_proxy);
        assert_eq!((mcp.calls_per_minute, mcp.calls_burst), (7, 3));
        assert_eq!(mcp.session_idle_timeout.as_secs(), 90);

        let half = read(&["ORDINAUT_MCP_TLS_CERTIFICATE"]).unwrap_err().to_string();
        assert!(half.contains("mcp.tls_key is not"), "{half}");
        let half = read(&["ORDINAUT_MCP_TLS_KEY"]).unwrap_err().to_string();
        assert!(half.contains("mcp.tls_certificate is not"), "{half}");
    }
}
