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

#[cfg(test)]
mod tests {
    use openssl::x509::X509Extension;

    use super::fqdns;
    use crate::tls::testing::{Ca, FQDN, Template, extension, san};

    fn names(common_names: &[&'static str], san: Option<X509Extension>) -> Option<Vec<String>> {
        let template = Template::leaf().with(|leaf| {
            leaf.common_names = common_names.to_vec();
            leaf.extensions.extend(san);
        });
        let found = fqdns(&Ca::root("Root").issue(template)).ok()?;
        Some(found.iter().map(|name| name.as_str().to_owned()).collect())
    }

    #[test]
    fn a_san_silences_the_common_name_and_without_one_there_is_one_common_name() {
        const OTHER: &str = "other.example.nhs.uk";
        // subjectAltName: a dNSName that is not ASCII, and an address.
        let unreadable = extension("2.5.29.17", false, &[0x30, 0x03, 0x82, 0x01, 0xff]);
        let address = extension("2.5.29.17", false, &[0x30, 0x06, 0x87, 0x04, 10, 0, 0, 1]);
        let own = Some(vec![FQDN.to_owned()]);
        assert_eq!(names(&[FQDN], None), own);
        assert_eq!(names(&[FQDN], Some(address)), own);
        assert_eq!(names(&[FQDN], Some(san(&[OTHER]))), Some(vec![OTHER.to_owned()]));
        assert_eq!(names(&[FQDN], Some(unreadable)), None);
        assert_eq!(names(&[FQDN], Some(san(&[FQDN, "*.example.nhs.uk"]))), None);
        assert_eq!(names(&[FQDN, OTHER], None), None);
        assert_eq!(names(&["*.example.nhs.uk"], None), None);
        assert_eq!(names(&[], None), None);
    }
}
