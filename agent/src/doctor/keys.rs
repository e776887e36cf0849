//! OpenSSL, certificates and CRLs.

use std::time::SystemTime;

use super::Finding;
use crate::{
    config::{Config, Revocation},
    control::{CertificateStatus, CrlStatus},
    tls,
};

/// What ends within so many days is to be renewed.
const SOON: i64 = 30;

pub(super) fn examine(config: &Config, now: SystemTime) -> Vec<Finding> {
    let mut findings = vec![openssl(tls::slow_openssl())];
    match tls::load(&config.tls, now) {
        Ok(loaded) => {
            findings.extend(loaded.certificates(now).iter().map(certificate));
            findings.extend(crls(&loaded.crls(now), config.tls.client.revocation));
        }
        Err(problems) => findings.extend(problems.into_iter().map(|problem| {
            let mend = format!("{}; as root, if this user may not read it", problem.mend);
            Finding::fail("certificate", problem.message, mend).about(problem.key)
        })),
    }
    findings
}

fn openssl(slow: Option<(String, &str)>) -> Finding {
    match slow {
        Some((detail, mend)) => Finding::warn("openssl", detail, mend),
        None => Finding::ok(
            "openssl",
            format!(
                "{}: a handshake with ffdhe2048 takes 1.1 to 1.6 ms of CPU time",
                openssl::version::version()
            ),
        ),
    }
}

fn certificate(found: &CertificateStatus) -> Finding {
    const CHECK: &str = "certificate";
    let CertificateStatus {
        what,
        subject,
        ends,
        days_left,
        ..
    } = found;
    let mend = "have it renewed, put the new file in place, and `spinegate check && spinegate reload`";
    match days_left {
        ..0 => Finding::fail(CHECK, format!("{what}: it ended on {ends}"), mend),
        0..SOON => Finding::warn(
            CHECK,
            format!("{what}: it ends in {days_left} days, on {ends}"),
            mend,
        ),
        SOON.. => Finding::ok(CHECK, format!("{what}: it ends in {days_left} days, on {ends}")),
    }
    .about(subject)
}

fn crls(found: &[CrlStatus], revocation: Revocation) -> Vec<Finding> {
    const CHECK: &str = "crl";
    const MEND: &str =
        "put a newer one into a folder of tls.client.crls, or let the agent fetch it: tls.client.fetch";
    let amiss = match revocation {
        Revocation::Require => Finding::fail,
        Revocation::Prefer => Finding::warn,
    };
    if found.is_empty() {
        return vec![amiss(
            CHECK,
            "none is loaded: nobody's revocation is known".to_owned(),
            MEND,
        )];
    }
    let judge = |crl: &CrlStatus| {
        let next = crl.next_update.as_deref().unwrap_or("never");
        let detail = format!("{}, {} revoked, next update {next}", crl.state, crl.entries);
        let finding = match crl.state.as_str() {
            "fresh" => Finding::ok(CHECK, detail),
            "grace" => Finding::warn(CHECK, detail, MEND),
            _ => amiss(CHECK, detail, MEND),
        };
        finding.about(&crl.issuer)
    };
    found.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Health;

    #[test]
    fn a_certificate_is_warned_of_before_it_ends() {
        let of = |days_left| {
            certificate(&CertificateStatus {
                what: "root".to_owned(),
                subject: "CN=Root".to_owned(),
                ends: "2030-01-01T00:00:00Z".to_owned(),
                days_left,
                sha256: String::new(),
            })
        };
        assert_eq!(
            [-1, 0, 29, 30].map(of).map(|finding| finding.outcome),
            [Health::Fail, Health::Warn, Health::Warn, Health::Ok]
        );
    }

    #[test]
    fn a_crl_that_is_not_fresh_is_as_bad_as_the_configuration_takes_it() {
        let of = |state: &str, revocation| {
            let crl = CrlStatus {
                issuer: "CN=Sub".to_owned(),
                scope: "all".to_owned(),
                number: None,
                this_update: String::new(),
                age_seconds: 0,
                next_update: None,
                state: state.to_owned(),
                entries: 0,
                source: String::new(),
                kept: None,
            };
            crls(&[crl], revocation)[0].outcome
        };
        assert_eq!(of("fresh", Revocation::Require), Health::Ok);
        assert_eq!(of("grace", Revocation::Require), Health::Warn);
        assert_eq!(of("stale", Revocation::Require), Health::Fail);
        assert_eq!(of("stale", Revocation::Prefer), Health::Warn);
        assert_eq!(crls(&[], Revocation::Require)[0].outcome, Health::Fail);
    }

    #[test]
    fn an_openssl_that_is_slow_is_warned_of() {
        assert_eq!(openssl(None).outcome, Health::Ok);
        assert_eq!(openssl(Some(("slow".to_owned(), "mend"))).outcome, Health::Warn);
    }
}
