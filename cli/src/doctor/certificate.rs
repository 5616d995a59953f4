//! The certificate that `ordinaut-mcp http` is given: whether it is there, goes with a key, and holds today.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use jiff::{SignedDuration, Timestamp};
use x509_parser::pem::Pem;

use super::Findings;
use crate::config::CertificateFiles;

/// How long before its end a certificate should have been renewed: what renews them by itself does it sooner.
const SOON: SignedDuration = SignedDuration::from_hours(10 * 24);

/// What is wrong, and what to do.
type Wrong = (String, &'static str);

pub(super) fn judge(files: &CertificateFiles, now: Timestamp, findings: &mut Findings) {
    let (certificate, key) = match (&files.certificate, &files.key) {
        (None, None) => return,
        (Some(certificate), Some(key)) => (certificate, key),
        (given, _) => {
            let (set, unset) =
                if given.is_some() { ("tls_certificate", "tls_key") } else { ("tls_key", "tls_certificate") };
            let found = format!("mcp.{set} is set, mcp.{unset} is not");
            return findings.wrong(
                "certificate",
                found,
                "set both or neither; `ordinaut-mcp http` starts with neither half",
            );
        }
    };
    match until(certificate, now) {
        Ok(end) => findings.good("certificate", format!("{}, until {end}", certificate.display())),
        Err((found, mend)) => findings.wrong("certificate", format!("{}: {found}", certificate.display()), mend),
    }
    match private(key) {
        Ok(()) => findings.good("certificate's key", key.display().to_string()),
        Err((found, mend)) => findings.wrong("certificate's key", format!("{}: {found}", key.display()), mend),
    }
}

/// When a certificate that holds now ends.
fn until(path: &Path, now: Timestamp) -> Result<Timestamp, Wrong> {
    const RENEW: &str = "renew it; a server that runs takes the new one within seconds";
    let bytes = read(path)?;
    // The first is the server's own; the chain after it is its issuers' care.
    let first = Pem::iter_from_buffer(&bytes).next();
    let first = first.and_then(Result::ok).filter(|pem| pem.label == "CERTIFICATE");
    let parsed = first.as_ref().and_then(|pem| pem.parse_x509().ok());
    let instant = |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).ok();
    let validity = parsed.as_ref().map(|certificate| certificate.validity());
    let Some((begin, end)) = validity.and_then(|it| Some((instant(it.not_before)?, instant(it.not_after)?))) else {
        return Err(("holds no certificate".to_owned(), "it must hold the certificate and its chain, as PEM"));
    };
    if end <= now {
        Err((format!("expired at {end}"), RENEW))
    } else if begin > now {
        Err((format!("holds from {begin} only"), "is this machine's clock right?"))
    } else if end.duration_since(now) < SOON {
        Err((format!("expires at {end}"), RENEW))
    } else {
        Ok(end)
    }
}

/// Whether a file holds a private key that not everybody can read.
fn private(path: &Path) -> Result<(), Wrong> {
    let bytes = read(path)?;
    let labels: Vec<_> = Pem::iter_from_buffer(&bytes).filter_map(Result::ok).map(|pem| pem.label).collect();
    if !labels.iter().any(|label| label.ends_with("PRIVATE KEY") && !label.starts_with("ENCRYPTED")) {
        return Err(("holds no private key".to_owned(), "it must hold one, as PEM, and not encrypted"));
    }
    let everybody = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0);
    if everybody {
        return Err(("everybody on this machine can read it".to_owned(), "take that from them: chmod o-rwx"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Wrong> {
    std::fs::read(path).map_err(|error| (error.to_string(), "let the user that `ordinaut-mcp http` runs as read it"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// What `judge` says of a certificate for the years that are given, at the beginning of 2026.
    fn said(name: &str, (begin, end): (i32, i32), mode: u32) -> Vec<(String, bool)> {
        let directory = std::env::temp_dir().join(format!("ordinaut-certificate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(begin, 1, 1), date_time_ymd(end, 1, 5));
        let files = CertificateFiles { certificate: Some(directory.join("a.pem")), key: Some(directory.join("b.pem")) };
        std::fs::write(directory.join("a.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(directory.join("b.pem"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(directory.join("b.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
        let mut findings = Findings::default();
        judge(&files, "2026-01-01T00:00:00Z".parse().unwrap(), &mut findings);
        std::fs::remove_dir_all(directory).unwrap();
        findings.0.into_iter().map(|it| (it.found, it.mend.is_none())).collect()
    }

    #[test]
    fn a_certificate_is_good_only_while_it_holds_and_its_key_is_private() {
        let good = said("good", (2025, 2027), 0o600);
        assert!(good.iter().all(|(_, good)| *good), "{good:?}");
        assert!(good[0].0.ends_with("until 2027-01-05T00:00:00Z"), "{good:?}");
        for (name, years, what) in [
            ("past", (2024, 2025), "expired at 2025-01-05"),
            ("soon", (2025, 2026), "expires at 2026-01-05"),
            ("early", (2027, 2028), "holds from 2027-01-01"),
        ] {
            let found = said(name, years, 0o600);
            assert!(found[0].0.contains(what) && !found[0].1, "{found:?}");
        }
        let open = said("open", (2025, 2027), 0o644);
        assert!(open[1].0.contains("everybody") && !open[1].1, "{open:?}");
    }

    #[test]
    fn what_is_not_there_is_said_and_nothing_is_where_no_certificate_is_wanted() {
        let now = Timestamp::UNIX_EPOCH;
        let missing = || Some(PathBuf::from("/nonexistent/a.pem"));
        for (certificate, key, wrong) in
            [(None, None, 0), (missing(), None, 1), (None, missing(), 1), (missing(), missing(), 2)]
        {
            let mut findings = Findings::default();
            judge(&CertificateFiles { certificate, key }, now, &mut findings);
            assert_eq!(findings.0.len(), wrong);
            assert!(findings.0.iter().all(|it| it.mend.is_some()));
        }
    }
}
