//! The dry run behind `spinegate explain`: every check of a request that is only described.

use std::time::SystemTime;

use serde::Serialize;
use spinegate_common::Reason;

use crate::{
    nrl::{Asid, Claims, Fqdn, Interaction, InteractionId, OdsCode, Refusal, Token},
    registry::{Registry, System},
};

use super::{Check, Rules, checks};

/// A request as an operator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The requester's ASID.
    pub asid: Asid,
    /// The interaction's ID, as an InteractionID header would declare it.
    pub interaction: InteractionId,
    /// toASID.
    pub to_asid: Option<Asid>,
    /// The owner of the pointer concerned.
    pub custodian: Option<OdsCode>,
    /// The name in the client's certificate.
    pub fqdn: Option<Fqdn>,
    /// The JWT in compact form.
    pub token: Option<String>,
}

/// What each check says to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether no check fails, as far as the request is described.
    pub allowed: bool,
    /// The check that decides: the first that fails.
    pub decided_by: Option<&'static str>,
    /// Its reason code.
    pub reason: Option<&'static str>,
    /// Every check, in the order in which they are made.
    pub checks: Vec<Checked>,
}

/// A check, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The check's name.
    pub check: &'static str,
    /// What it says.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a check says to a request that is described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Verdict {
    /// It passes.
    Passed {
        /// What it found.
        detail: String,
    },
    /// It fails.
    Failed {
        /// The reason code.
        reason: &'static str,
        /// What the client would be told.
        detail: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// The description does not say what it looks at.
    NotGiven {
        /// What would have to be given.
        detail: String,
    },
    /// The interaction does not need it.
    NotNeeded {
        /// Why.
        detail: String,
    },
}

/// Runs the checks of [`super::admit`] and of the stages after it on what is described. Unlike those it goes
/// on after a failure.
#[must_use]
pub fn explain(rules: &Rules, registry: &Registry, described: &Described, now: SystemTime) -> Explanation {
    let checks: Vec<Checked> = Check::ALL
        .into_iter()
        .map(|check| Checked {
            check: check.as_str(),
            verdict: verdict(check, rules, registry, described, now),
        })
        .collect();
    let decisive = checks.iter().find_map(|checked| match &checked.verdict {
        Verdict::Failed { reason, .. } => Some((checked.check, *reason)),
        _ => None,
    });
    Explanation {
        allowed: decisive.is_none(),
        decided_by: decisive.map(|(check, _)| check),
        reason: decisive.map(|(_, reason)| reason),
        checks,
    }
}

fn verdict(
    check: Check,
    rules: &Rules,
    registry: &Registry,
    described: &Described,
    now: SystemTime,
) -> Verdict {
    let interaction = described.interaction.interaction();
    let served = |asked: &Interaction| match rules.provider {
        None => Interaction::LOCATOR.contains(asked),
        Some(_) => *asked == Interaction::Retrieve,
    };
    let Some(interaction) = interaction.filter(served) else {
        return match check {
            Check::MethodAndPath => {
                let why = format!("No request to this service performs {}", described.interaction);
                failed(&Refusal::new(Reason::PathUnknown, why))
            }
            _ => not_given("an interaction that this service has"),
        };
    };
    if rules
        .provider
        .as_ref()
        .is_some_and(|provider| !provider.registered)
    {
        return of_anybody(check, rules, described, interaction, now);
    }
    match checks::known_system(rules.names(), registry, &described.asid, now) {
        Ok(known) => of_system(check, (registry, &known), rules, described, interaction, now),
        Err(refusal) if check == Check::AsidKnown => failed(&refusal),
        Err(_) => of_request(check, rules, described, interaction, now),
    }
}

/// The checks of a request whose system is registered.
fn of_system(
    check: Check,
    (registry, known): (&Registry, &System),
    rules: &Rules,
    described: &Described,
    interaction: Interaction,
    now: SystemTime,
) -> Verdict {
    let claims = || {
        let token = Token::parse(described.token.as_deref()?);
        token
            .and_then(|token| Claims::check(&token, interaction, &rules.claims, now))
            .ok()
    };
    match check {
        Check::AsidActive => said(checks::active(known), "it is active"),
        Check::CertificateName => match (&known.fqdn, &described.fqdn) {
            (None, fqdn) => said(
                checks::certificate_name(known, fqdn.as_ref()),
                "no FQDN is registered for the ASID",
            ),
            (Some(_), None) => not_given("the FQDN in the client's certificate"),
            (Some(_), fqdn) => said(
                checks::certificate_name(known, fqdn.as_ref()),
                "it is the registered FQDN",
            ),
        },
        Check::TokenAsid => claims().map_or_else(
            || not_given("a JWT whose claims are consistent"),
            |claims| {
                let result = checks::token_asid(rules.names(), Some((registry, now)), &claims, &known.asid);
                said(result, "it is the requester's")
            },
        ),
        Check::TokenOds => claims().map_or_else(
            || not_given("a JWT whose claims are consistent"),
            |claims| said(checks::token_ods(&claims, known), "it is the requester's"),
        ),
        Check::Interaction => associated(known, interaction, &described.interaction),
        Check::Ownership if !interaction.writes() => not_needed("nobody owns a read or a search"),
        Check::Ownership => match &described.custodian {
            None => not_given("the custodian of the pointer"),
            Some(custodian) => said(
                checks::owner(known, custodian),
                "the custodian is the ASID's organisation",
            ),
        },
        Check::AsidKnown => {
            let name = known.name.as_deref().unwrap_or("no name");
            passed(format!("{} is registered for {} ({name})", known.asid, known.ods))
        }
        Check::MethodAndPath
        | Check::Headers
        | Check::Receiver
        | Check::TokenForm
        | Check::TokenClaims
        | Check::Body => of_request(check, rules, described, interaction, now),
    }
}

/// The checks of a request to a provider that asks no registry.
fn of_anybody(
    check: Check,
    rules: &Rules,
    described: &Described,
    interaction: Interaction,
    now: SystemTime,
) -> Verdict {
    let token = described.token.as_deref().map(Token::parse);
    match (check, token) {
        (
            Check::AsidKnown
            | Check::AsidActive
            | Check::CertificateName
            | Check::TokenOds
            | Check::Interaction
            | Check::Ownership,
            _,
        ) => not_needed("a provider asks no registry unless gateway.provider.requester is \"registered\""),
        (Check::TokenAsid, Some(Ok(token))) => match Claims::check(&token, interaction, &rules.claims, now) {
            Err(_) => not_given("a JWT whose claims are consistent"),
            Ok(claims) => {
                let result = checks::token_asid(rules.names(), None, &claims, &described.asid);
                said(result, "it is the requester's")
            }
        },
        (Check::TokenAsid, _) => not_given("a JWT whose claims are consistent"),
        (
            Check::MethodAndPath
            | Check::Headers
            | Check::Receiver
            | Check::TokenForm
            | Check::TokenClaims
            | Check::Body,
            _,
        ) => of_request(check, rules, described, interaction, now),
    }
}

/// R2, for the ID that is described. A request need not declare it, and is then performed under either ID.
fn associated(system: &System, interaction: Interaction, id: &InteractionId) -> Verdict {
    let refusal = match checks::associated(system, interaction, Some(id)) {
        Ok(id) => return passed(format!("{id} is associated with the ASID")),
        Err(refusal) => refusal,
    };
    let hint = match checks::associated(system, interaction, None) {
        Ok(other) => format!(" (but {other} is: a request without an InteractionID header passes)"),
        Err(_) => String::new(),
    };
    Verdict::Failed {
        reason: refusal.reason().as_str(),
        detail: format!("{}{hint}", refusal.diagnostics()),
        mend: refusal.reason().mend(),
    }
}

/// What can be said of a check by the request alone.
fn of_request(
    check: Check,
    rules: &Rules,
    described: &Described,
    interaction: Interaction,
    now: SystemTime,
) -> Verdict {
    let token = described.token.as_deref().map(Token::parse);
    match (check, token) {
        (Check::MethodAndPath, _) => passed(format!("a request that performs {interaction}")),
        (Check::Receiver, _) => match &described.to_asid {
            None => not_given("toASID"),
            Some(to) => said(
                checks::receiver(rules.names(), to, &rules.gateway_asid),
                "toASID is the gateway's",
            ),
        },
        (Check::TokenForm, Some(Err(refusal))) => failed(&refusal),
        (Check::TokenForm, Some(Ok(_))) => passed("the JWT is well formed"),
        (Check::TokenClaims, Some(Ok(token))) => said(
            Claims::check(&token, interaction, &rules.claims, now).map(drop),
            "the claims are consistent",
        ),
        (Check::TokenForm | Check::TokenClaims, _) => not_given("a JWT that is well formed"),
        (Check::Body, _) if !interaction.writes() || interaction == Interaction::Delete => {
            not_needed("the interaction has no body")
        }
        (Check::Body, _) => not_given("a body"),
        (Check::Headers, _) => not_given("the request's headers"),
        _ => not_given("an ASID that is registered"),
    }
}

fn said(result: Result<(), Refusal>, detail: &str) -> Verdict {
    match result {
        Ok(()) => passed(detail),
        Err(refusal) => failed(&refusal),
    }
}

fn passed(detail: impl Into<String>) -> Verdict {
    Verdict::Passed {
        detail: detail.into(),
    }
}

fn failed(refusal: &Refusal) -> Verdict {
    Verdict::Failed {
        reason: refusal.reason().as_str(),
        detail: refusal.diagnostics().to_owned(),
        mend: refusal.reason().mend(),
    }
}

fn not_given(detail: &str) -> Verdict {
    Verdict::NotGiven {
        detail: detail.to_owned(),
    }
}

fn not_needed(detail: &str) -> Verdict {
    Verdict::NotNeeded {
        detail: detail.to_owned(),
    }
}
