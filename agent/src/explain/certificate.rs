//! The client's certificate, by the rules of the handshake (R8 to R12).

use std::{path::Path, time::SystemTime};

use spinegate_common::Reason;

use super::{check, failed, not_given, passed, usage};
use crate::{
    control::{Check, Failure, Outcome},
    nrl::Fqdn,
    tls::{self, Presented, Rule, Trust},
};

/// Judges a certificate. Gives the accepted name that it has.
pub(super) fn judged(
    trust: &Trust,
    certificate: &[u8],
    now: SystemTime,
) -> Result<(Vec<Check>, Option<Fqdn>), Failure> {
    let mend = "give the client's certificate in PEM or DER; its key is not needed";
    let presented =
        Presented::of(certificate, Path::new("the certificate")).map_err(|error| usage(error, mend))?;
    let inspection = tls::inspect(trust, &presented, now).map_err(|error| usage(error, mend))?;
    let checks = inspection.rules.iter().map(|judged| {
        let name = judged.rule.check();
        let detail = judged.detail.clone();
        match judged.outcome {
            tls::Outcome::Pass => passed(name, detail.unwrap_or_else(|| kept(judged.rule).to_owned())),
            tls::Outcome::NotChecked => check(name, Outcome::NotNeeded, None, detail.unwrap_or_default()),
            tls::Outcome::NotReached => super::not_reached(name),
            tls::Outcome::Fail => Check {
                reason: judged.reason.map(str::to_owned),
                ..check(name, Outcome::Fail, None, detail.unwrap_or_default())
            },
        }
    });
    Ok((checks.collect(), inspection.fqdn))
}

/// What can be said where the name alone is given, or nothing.
pub(super) fn of_name(trust: &Trust, fqdn: Option<&Fqdn>) -> Vec<Check> {
    let of_rule = |rule: Rule| match (rule, fqdn) {
        (Rule::Name, Some(fqdn)) => name(trust, fqdn),
        (Rule::Name, None) => not_given(rule.check(), "Give --cert or --fqdn"),
        _ => not_given(rule.check(), "Give --cert"),
    };
    Rule::ALL.into_iter().map(of_rule).collect()
}

/// R12, for a name.
fn name(trust: &Trust, fqdn: &Fqdn) -> Check {
    if trust.fqdns().contains(fqdn) {
        passed(Rule::Name.check(), format!("{fqdn} is one of `tls.client.fqdns`"))
    } else {
        failed(
            Rule::Name.check(),
            Reason::FqdnMismatch,
            format!("{fqdn} is none of `tls.client.fqdns`"),
        )
    }
}

const fn kept(rule: Rule) -> &'static str {
    match rule {
        Rule::Chain => "it leads to a trusted root",
        Rule::Issuer => "an accepted CA has issued it",
        Rule::Validity => "it and its issuer are in their time",
        Rule::Revocation => "neither it nor its issuer is revoked",
        Rule::Usage => "it is for the authentication of clients",
        Rule::Key => "its key and its signature are strong enough",
        Rule::Name => "its name is one of `tls.client.fqdns`",
    }
}
