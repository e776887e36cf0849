//! Loading certificates, keys and CRLs, with every fault that they have.

mod upstream;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    x509::{X509, X509ExtendedKeyUsage, X509Ref, X509VerifyResult},
};

use super::{
    Trust,
    acceptor::Generation,
    client::{Time, fingerprint, name},
    context::{self, Identity},
    expiry, hello,
    revocation::{self, Revocations},
    trust::Anchors,
};
use crate::{
    config::{self, Problem, Suites},
    control::{CertificateStatus, CrlStatus},
};

pub use upstream::load_connector;

/// OpenSSL from which a DHE handshake costs a third: it no longer checks what a named group makes needless.
const FAST_DHE: i64 = 0x3040_0000;

/// What ends within this time is warned of.
const SOON: Duration = Duration::from_secs(30 * 86_400);

/// A sound set of certificates, and what an operator should know about it.
pub struct Loaded {
    pub(super) generation: Generation,
    /// What is allowed, but should be seen to.
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// The gateway's certificate and the CAs of clients.
    #[must_use]
    pub fn certificates(&self, now: SystemTime) -> Vec<CertificateStatus> {
        expiry::certificates(&self.generation.expiries(), now)
    }

    /// Who is trusted.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(self.generation.trust())
    }

    /// The CRLs.
    #[must_use]
    pub fn crls(&self, now: SystemTime) -> Vec<CrlStatus> {
        self.generation.trust().crls(now)
    }
}

/// Who is trusted, without what the gateway itself shows.
pub struct LoadedTrust {
    /// The rules' snapshot.
    pub trust: Trust,
    /// What is allowed, but should be seen to.
    pub warnings: Vec<Problem>,
}

/// The CAs of clients, and what they have revoked.
struct Authorities {
    roots: Vec<Found>,
    issuers: Vec<Found>,
    revocations: Revocations,
}

/// Loads everything that `[tls]` names.
///
/// # Errors
/// Everything that is wrong, not only the first fault.
pub fn load(config: &config::Tls, now: SystemTime) -> Result<Loaded, Vec<Problem>> {
    let mut faults = Faults::default();
    let now = Time::from(now);
    let (certificate, chain) = own_certificate("tls.certificate", &config.certificate, now, &mut faults);
    let own = certificate
        .as_ref()
        .map(|certificate| (certificate, &*config.certificate));
    let key = own_key("tls.private_key", &config.private_key, own, &mut faults);
    let authorities = Authorities::load(&config.client, now, &mut faults);
    let (Some(certificate), Some(key), true) = (certificate, key, faults.problems.is_empty()) else {
        return Err(faults.problems);
    };

    let generation = authorities
        .trust(&config.client)
        .and_then(|trust| {
            let identity = Identity {
                certificate: &certificate,
                chain: &chain,
                key: &key,
            };
            let context = context::build(config, &identity, trust.anchors())?;
            Ok(Generation::new(config, context, Arc::new(trust)))
        })
        .map_err(|error| vec![refused_by_openssl(&error)])?;
    warn_generally(config, &mut faults);
    Ok(Loaded {
        generation,
        warnings: faults.warnings,
    })
}

/// Loads what `[tls.client]` names, and nothing that is secret.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_trust(config: &config::ClientTls, now: SystemTime) -> Result<LoadedTrust, Vec<Problem>> {
    let mut faults = Faults::default();
    let authorities = Authorities::load(config, now.into(), &mut faults);
    if !faults.problems.is_empty() {
        return Err(faults.problems);
    }
    let trust = authorities
        .trust(config)
        .map_err(|error| vec![refused_by_openssl(&error)])?;
    Ok(LoadedTrust {
        trust,
        warnings: faults.warnings,
    })
}

impl Authorities {
    fn load(config: &config::ClientTls, now: Time, faults: &mut Faults) -> Self {
        let roots = authorities("tls.client.roots", &config.roots, faults);
        let issuers = authorities("tls.client.issuers", &config.issuers, faults);
        check_authorities(&roots, &issuers, now, faults);
        if config.fqdns.is_empty() {
            faults.add(
                "tls.client.fqdns",
                "no name is accepted, so no client could be",
                "list the clients' FQDNs",
            );
        }
        let revocations = revocations(config, &roots, &issuers, now, faults);
        Self {
            roots,
            issuers,
            revocations,
        }
    }

    fn trust(self, config: &config::ClientTls) -> Result<Trust, ErrorStack> {
        let plain =
            |found: &[Found]| -> Vec<X509> { found.iter().map(|found| found.certificate.clone()).collect() };
        let anchors = Anchors::new(&plain(&self.roots), &plain(&self.issuers))?;
        Ok(Trust::new(anchors, config.fqdns.clone(), self.revocations).asking(config.ocsp.mode))
    }
}

fn refused_by_openssl(error: &ErrorStack) -> Problem {
    let mend = "use certificates and keys of OpenSSL's security level 2: RSA of 2048 bits, SHA-256";
    Problem::new("tls", format!("OpenSSL refuses the settings: {error}"), mend)
}

#[derive(Default)]
struct Faults {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Faults {
    fn add(&mut self, key: &str, message: impl Into<String>, mend: &str) {
        self.problems.push(Problem::new(key, message, mend));
    }

    fn warn(&mut self, key: &str, message: impl Into<String>, mend: &str) {
        self.warnings.push(Problem::new(key, message, mend));
    }
}

/// A CA's certificate and the key of the configuration that named it.
struct Found {
    key: String,
    path: PathBuf,
    certificate: X509,
}

fn own_certificate(key: &str, path: &Path, now: Time, faults: &mut Faults) -> (Option<X509>, Vec<X509>) {
    let mut certificates = pem_certificates(key, path, faults).into_iter();
    let Some(certificate) = certificates.next() else {
        return (None, Vec::new());
    };
    let path = path.display();
    match (
        Time::of(certificate.not_before()),
        Time::of(certificate.not_after()),
    ) {
        (Ok(_), Ok(end)) if end < now => {
            faults.add(
                key,
                format!("{path}: the certificate expired on {end}"),
                "renew it",
            );
        }
        (Ok(start), Ok(_)) if start > now => {
            faults.add(
                key,
                format!("{path}: the certificate is valid only from {start}"),
                "check the clock, or wait",
            );
        }
        (Ok(_), Ok(end)) => {
            if let Some(ends) = ends_soon(end, now) {
                let mend = "have it renewed, and reload";
                faults.warn(key, format!("{path}: the gateway's certificate {ends}"), mend);
            }
        }
        _ => faults.add(
            key,
            format!("{path}: the certificate's validity can't be read"),
            "renew it",
        ),
    }
    (Some(certificate), certificates.collect())
}

/// The private key in a file, which must be that of the certificate, if there is one.
fn own_key(
    key: &str,
    path: &Path,
    certificate: Option<(&X509, &Path)>,
    faults: &mut Faults,
) -> Option<PKey<Private>> {
    let content = read(key, path, faults)?;
    let path = path.display();
    // An encrypted key would have OpenSSL ask at the terminal; with an empty answer it fails instead.
    let private = match PKey::private_key_from_pem_callback(&content, |_| Ok(0)) {
        Ok(private) => private,
        Err(_) => {
            faults.add(
                key,
                format!("{path} holds no readable private key"),
                "give it in PEM, without a password",
            );
            return None;
        }
    };
    if let Some((certificate, of)) = certificate
        && !certificate
            .public_key()
            .is_ok_and(|public| public.public_eq(&private))
    {
        let message = format!("{path} is not the key of the certificate {}", of.display());
        faults.add(key, message, "give the key that belongs to the certificate");
    }
    Some(private)
}

fn authorities(list: &str, paths: &[PathBuf], faults: &mut Faults) -> Vec<Found> {
    if paths.is_empty() {
        faults.add(
            list,
            "no certificate is named, so no client could be trusted",
            "name the PEM files",
        );
    }
    let mut found = Vec::new();
    for (position, path) in paths.iter().enumerate() {
        let key = format!("{list}[{position}]");
        for certificate in pem_certificates(&key, path, faults) {
            found.push(Found {
                key: key.clone(),
                path: path.clone(),
                certificate,
            });
        }
    }
    found
}

/// Roots sign themselves, and issuers are signed by a root. One that has expired is no fault: its successor may stand beside
/// it.
fn check_authorities(roots: &[Found], issuers: &[Found], now: Time, faults: &mut Faults) {
    for found in roots.iter().chain(issuers) {
        let Ok(end) = Time::of(found.certificate.not_after()) else {
            continue;
        };
        let path = found.path.display();
        if end < now {
            let message = format!("{path} expired on {end}, so all under it is refused");
            faults.warn(&found.key, message, "name its successor in its place");
        } else if let Some(ends) = ends_soon(end, now) {
            let message = format!("{path} {ends}; then all under it is refused");
            faults.warn(&found.key, message, "name its successor beside it, and reload");
        }
    }
    let signed_by = |certificate: &X509, authority: &X509| {
        authority.issued(certificate) == X509VerifyResult::OK
            && authority
                .public_key()
                .is_ok_and(|key| certificate.verify(&key).unwrap_or(false))
    };
    for root in roots {
        if !signed_by(&root.certificate, &root.certificate) {
            let message = format!("{} is not a self-signed root", root.path.display());
            faults.add(
                &root.key,
                message,
                "name the RootCA here and the SubCA in `tls.client.issuers`",
            );
        }
    }
    for issuer in issuers {
        if !may_issue_clients(&issuer.certificate) {
            let message = format!("{} may not issue clients' certificates", issuer.path.display());
            let mend = "name an issuer whose extended key usage, if it has one, holds clientAuth";
            faults.add(&issuer.key, message, mend);
        }
        if !roots
            .iter()
            .any(|root| signed_by(&issuer.certificate, &root.certificate))
        {
            let message = format!(
                "{} ({}) is signed by none of `tls.client.roots`",
                issuer.path.display(),
                name(issuer.certificate.subject_name())
            );
            faults.add(&issuer.key, message, "name the RootCA that signed it");
        }
    }
}

fn ends_soon(end: Time, now: Time) -> Option<String> {
    (end < now.plus(SOON)).then(|| match end.days_since(now) {
        0 => format!("ends within a day, on {end}"),
        1 => format!("ends in a day, on {end}"),
        days => format!("ends in {days} days, on {end}"),
    })
}

/// A CA's extended key usage bounds what it may issue for.
fn may_issue_clients(issuer: &X509Ref) -> bool {
    issuer
        .extended_key_usage()
        .is_none_or(|usage| usage.intersects(X509ExtendedKeyUsage::SSL_CLIENT | X509ExtendedKeyUsage::ANYEKU))
}

fn revocations(
    config: &config::ClientTls,
    roots: &[Found],
    issuers: &[Found],
    now: Time,
    faults: &mut Faults,
) -> Revocations {
    const KEY: &str = "tls.client.crls";
    let authorities: Vec<_> = roots
        .iter()
        .chain(issuers)
        .map(|found| found.certificate.clone())
        .collect();
    let reading = Revocations::read(config, &authorities);
    for fault in reading.faults {
        if fault.key == revocation::FETCHED {
            // The next fetch mends it, and until then clients are refused.
            faults.warn(&fault.key, fault.message, fault.mend);
        } else {
            faults.add(&fault.key, fault.message, fault.mend);
        }
    }
    let revocations = reading.revocations;
    for authority in &authorities {
        let Ok(print) = fingerprint(authority) else {
            continue;
        };
        let name = name(authority.subject_name());
        if !revocations.covers(&print) && config.revocation == config::Revocation::Require {
            let message = format!("there is no CRL of {name}, and revocation = \"require\"");
            if config.fetch.is_on() {
                let mend =
                    "clients are refused until it is fetched: `spinegate crl status` shows how that goes";
                faults.warn(KEY, message, mend);
            } else {
                let mend = "add it, or set `tls.client.revocation = \"prefer\"`";
                faults.add(KEY, message, mend);
            }
        }
        for fault in revocations.stale(&print, now) {
            faults.warn(KEY, fault, "fetch the CRL that its issuer has now");
        }
    }
    revocations
}

fn pem_certificates(key: &str, path: &Path, faults: &mut Faults) -> Vec<X509> {
    let Some(content) = read(key, path, faults) else {
        return Vec::new();
    };
    match X509::stack_from_pem(&content) {
        Ok(certificates) if !certificates.is_empty() => certificates,
        _ => {
            faults.add(
                key,
                format!("{} holds no certificate", path.display()),
                "give it in PEM",
            );
            Vec::new()
        }
    }
}

fn read(key: &str, path: &Path, faults: &mut Faults) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(content) => Some(content),
        Err(error) => {
            faults.add(
                key,
                format!("{}: {error}", path.display()),
                "correct the path, or make the file readable",
            );
            None
        }
    }
}

/// What an operator should know of an OpenSSL that is slow at what R7 demands, and what to do about it.
#[must_use]
pub fn slow_openssl() -> Option<(String, &'static str)> {
    let message = || {
        format!(
            "{} checks each client's DH key at length: a handshake with ffdhe2048 was measured at 3.5 to 4.3 ms of CPU time, \
             and with OpenSSL 3.6 at 1.1 to 1.6 ms",
            openssl::version::version()
        )
    };
    let mend = "run with OpenSSL 3.4 or newer, or build with the feature `vendored-openssl`";
    (openssl::version::number() < FAST_DHE).then(|| (message(), mend))
}

fn warn_generally(config: &config::Tls, faults: &mut Faults) {
    if let Some((message, mend)) = slow_openssl() {
        faults.warn("tls", message, mend);
    }
    if config.suites == Suites::Nrl {
        let suites: Vec<_> = hello::suites(config.suites)
            .iter()
            .map(|(_, name)| *name)
            .collect();
        let message = format!(
            "\"nrl\" gives R7 up: the first of these that a client offers is taken, not {} alone: {}",
            hello::MANDATED.1,
            suites.join(", ")
        );
        let mend =
            "set \"strict\" once no client needs them; `tls.cipher` in the audit log says which still does";
        faults.warn("tls.suites", message, mend);
    }
}

#[cfg(test)]
mod tests {
    use openssl::x509::extension::ExtendedKeyUsage;

    use super::{ends_soon, may_issue_clients};
    use crate::tls::testing::{self, Ca, DAY, Template, at};

    #[test]
    fn what_ends_within_thirty_days_is_warned_of() {
        let soon = |seconds| ends_soon(at(seconds).into(), at(0).into()).is_some();
        assert_eq!(
            [0, DAY, 30 * DAY - 1, 30 * DAY].map(soon),
            [true, true, true, false]
        );
    }

    #[test]
    fn an_issuer_whose_usage_leaves_clients_out_is_none() {
        let root = Ca::root("Root");
        let with = |usage| {
            let template = Template::ca("Sub").with(|sub| sub.extensions.extend(usage));
            may_issue_clients(&root.subordinate(template).certificate)
        };
        assert!(with(None));
        assert!(with(Some(testing::client_auth())));
        assert!(!with(Some(
            ExtendedKeyUsage::new().server_auth().build().unwrap()
        )));
    }
}
