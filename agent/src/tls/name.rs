//! The one name in a client's certificate (R12).

use openssl::{
    nid::Nid,
    x509::{GeneralNameRef, X509Ref},
};

use crate::nrl::Fqdn;

/// The FQDNs that a certificate claims: its SAN dNSNames if there are any, else the single common name (Spine's first
/// generation of certificates has no SAN).
///
/// # Errors
/// What is wrong with the names: none, several common names, or one that is no FQDN, such as a wildcard or a NUL byte.
pub(super) fn fqdns(certificate: &X509Ref) -> Result<Vec<Fqdn>, String> {
    let alternative = certificate.subject_alt_names();
    let dns: Vec<_> = alternative
        .iter()
        .flatten()
        .filter_map(|name| name.dnsname())
        .collect();
    if !dns.is_empty() {
        return dns.into_iter().map(parse).collect();
    }
    if alternative.iter().flatten().any(is_unreadable) {
        return Err("its SAN holds a name that can't be read".to_owned());
    }
    let mut common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let Some(entry) = common.next() else {
        return Err("it has neither a SAN dNSName nor a common name".to_owned());
    };
    if common.next().is_some() {
        return Err("it has several common names".to_owned());
    }
    let text = entry
        .data()
        .to_string()
        .map_err(|error| format!("its common name is unreadable: {error}"))?;
    Ok(vec![parse(&text)?])
}

/// Whether nothing of a name can be read: it may be a dNSName that is not ASCII, and then the common name has no say.
fn is_unreadable(name: &GeneralNameRef) -> bool {
    name.email().is_none()
        && name.uri().is_none()
        && name.ipaddress().is_none()
        && name.directory_name().is_none()
}

fn parse(name: &str) -> Result<Fqdn, String> {
    Fqdn::parse(name).map_err(|error| error.to_string())
}
