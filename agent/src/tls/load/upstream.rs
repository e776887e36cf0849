//! What `[gateway.upstream_tls]` and the tables of the registry's sources name: the CAs of servers, and the gateway's own
//! certificate for them.

use std::time::SystemTime;

use super::{Faults, Time, own_certificate, own_key, pem_certificates};
use crate::{
    config::{self, Problem},
    tls::{Connector, connector::ClientIdentity},
};

/// Loads everything that the table named `section` names, with what should be seen to; none where it names no CA.
///
/// # Errors
/// Everything that is wrong, not only the first fault.
pub fn load_connector(
    section: &str,
    config: &config::UpstreamTls,
    now: SystemTime,
) -> Result<(Option<Connector>, Vec<Problem>), Vec<Problem>> {
    let mut faults = Faults::default();
    let now = Time::from(now);
    let mut authorities = Vec::new();
    for (position, path) in config.ca.iter().enumerate() {
        let key = format!("{section}.ca[{position}]");
        for certificate in pem_certificates(&key, path, &mut faults) {
            if let Ok(end) = Time::of(certificate.not_after())
                && end < now
            {
                let message = format!("{} expired on {end}, so all under it is refused", path.display());
                faults.warn(&key, message, "name its successor in its place");
            }
            authorities.push(certificate);
        }
    }
    let identity = match (&config.certificate, &config.private_key) {
        (Some(certificate), Some(key)) => {
            let (own, chain) =
                own_certificate(&format!("{section}.certificate"), certificate, now, &mut faults);
            let of = own.as_ref().map(|own| (own, &**certificate));
            let key = own_key(&format!("{section}.private_key"), key, of, &mut faults);
            own.zip(key).map(|(certificate, key)| ClientIdentity {
                certificate,
                chain,
                key,
            })
        }
        _ => None,
    };
    if !faults.problems.is_empty() {
        return Err(faults.problems);
    }
    if authorities.is_empty() {
        return Ok((None, faults.warnings));
    }
    match Connector::new(&authorities, identity.as_ref(), config.server_name.as_ref()) {
        Ok(connector) => Ok((Some(connector), faults.warnings)),
        Err(error) => {
            let mend = "use certificates and keys of OpenSSL's security level 2: RSA of 2048 bits, SHA-256";
            let message = format!("OpenSSL refuses the settings: {error}");
            Err(vec![Problem::new(section, message, mend)])
        }
    }
}
