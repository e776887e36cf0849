//! Who may do what: the ordered checks of a request, and the only way to a [`Permit`].
//!
//! A request goes through [`admit`], which judges everything that its head decides. What it answers says what
//! is still needed: nothing, the body, or the stored pointer. Each stage takes the thing that it waits for
//! and leads to the next, so that a permit exists only where every check of its interaction was made (see
//! [`Check::ALL`] for the order). No I/O; the clock is passed in.

mod checks;
mod denial;
mod explain;
mod leave;
mod provider;
mod shadow;
mod stages;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, Method, Uri, uri::PathAndQuery};

use crate::{
    nrl::{
        Asid, ClaimRules, Claims, Dialect, Format, Fqdn, Interaction, InteractionId, OdsCode, Refusal, Route,
        Token, allowed_methods, bearer, body_format,
    },
    registry::Registry,
    tls::VerifiedClient,
};

pub use checks::{Check, Checks};
pub use denial::{Action, Denial, Subject};
pub use explain::{Described, Explanation, Verdict, explain};
pub use leave::Leave;
pub use provider::{Provider, Retrieval};
pub use shadow::{Shadow, ShadowCase, Shadowed};
pub use stages::{Admitted, AwaitingBody, AwaitingStored, AwaitingTarget, ByOwner, Judged, Permit, Stored};

/// What the gateway's configuration says about requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `gateway.asid`: what toASID must be.
    pub gateway_asid: Asid,
    /// `gateway.base_path`: what stands before `/DocumentReference`.
    pub base_path: String,
    /// `[gateway.jwt]`
    pub claims: ClaimRules,
    /// `gateway.compat.double_encoded`: whether conditional forms may be spelt as in the NRL's examples.
    pub double_encoded: bool,
    /// `gateway.hide_existence`: whether a stranger is told that a pointer does not exist.
    pub hide_existence: bool,
    /// `[gateway.provider]`, in the provider profile; none in the locator's.
    pub provider: Option<Provider>,
    /// `[authz]`: on which requests permission is only tried.
    pub shadow: Shadow,
}

impl Rules {
    /// How request lines are spelt.
    #[must_use]
    pub fn dialect(&self) -> Dialect<'_> {
        Dialect {
            base_path: &self.base_path,
            double_encoded: self.double_encoded,
        }
    }

    /// The headers in which a request names its sender, its receiver and its interaction.
    #[must_use]
    pub const fn header_names(&self) -> [&'static str; 3] {
        let checks::Names {
            from,
            to,
            interaction,
        } = *self.names();
        [from, to, interaction]
    }

    /// The path of all pointers, on both sides.
    #[must_use]
    pub fn pointers_path(&self) -> String {
        format!("{}/DocumentReference", self.base_path.trim_end_matches('/'))
    }

    /// A request line that performs an interaction, if there is one here.
    #[must_use]
    pub fn line_of(&self, interaction: Interaction) -> Option<(Method, Uri)> {
        let base = self.pointers_path();
        let (method, target) = match (interaction, &self.provider) {
            (Interaction::Retrieve, Some(provider)) => {
                let path = provider.endpoint.paths.first()?;
                (Method::GET, format!("{}/record", path.trim_end_matches('/')))
            }
            (Interaction::Retrieve, None) | (_, Some(_)) => return None,
            (Interaction::Read, None) => (Method::GET, format!("{base}/pointer")),
            (Interaction::Search, None) => (Method::GET, format!("{base}?_id=pointer")),
            (Interaction::Create, None) => (Method::POST, base),
            (Interaction::Update, None) => (Method::PATCH, format!("{base}/pointer")),
            (Interaction::Delete, None) => (Method::DELETE, format!("{base}/pointer")),
        };
        Some((method, target.parse().ok()?))
    }

    const fn names(&self) -> &'static checks::Names {
        match self.provider {
            None => &checks::Names::LOCATOR,
            Some(_) => &checks::Names::SSP,
        }
    }
}

/// Who sent the request, as far as its certificate proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    fqdn: Option<Fqdn>,
}

impl From<&VerifiedClient> for Requester {
    fn from(client: &VerifiedClient) -> Self {
        Self {
            fqdn: Some(client.fqdn().clone()),
        }
    }
}

impl Requester {
    /// A client with a certificate of this name, for the tests of this room and its fuzzer.
    #[cfg(any(test, feature = "fuzzing"))]
    #[must_use]
    pub const fn with_fqdn(fqdn: Fqdn) -> Self {
        Self { fqdn: Some(fqdn) }
    }

    /// A client whose certificate proves no name: it passes for no system that has one registered.
    #[cfg(test)]
    pub(crate) const fn without_fqdn() -> Self {
        Self { fqdn: None }
    }
}

/// Judges a request's head, by one snapshot of the registry.
///
/// # Errors
/// The first check that fails, in the order of [`Check::ALL`].
pub fn admit(
    rules: &Rules,
    registry: &Registry,
    requester: &Requester,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<Admitted, Denial> {
    let mut subject = Subject::default();
    let judged = judge_head(
        rules,
        registry,
        requester,
        (method, uri, headers),
        now,
        &mut subject,
    );
    match judged {
        Ok((ods, read)) => Ok(stages::admitted(
            rules,
            subject,
            ods,
            read,
            (method, uri, headers),
        )),
        Err((check, refusal)) => {
            let allowed = allowed_methods(&rules.base_path, uri.path());
            Err(Denial::by(check, refusal, subject).allowing(allowed))
        }
    }
}

/// A request's line and fields.
type Head<'r> = (&'r Method, &'r Uri, &'r HeaderMap);
/// Whose request it is, what it asks for, and what its body is in.
type Accepted = (OdsCode, (Route, Format));

/// The checks in their order. The subject is filled as far as they got, since the audit wants to know who was
/// refused.
fn judge_head(
    rules: &Rules,
    registry: &Registry,
    requester: &Requester,
    (method, uri, headers): Head<'_>,
    now: SystemTime,
    subject: &mut Subject,
) -> Result<Accepted, (Check, Refusal)> {
    let at = |check: Check| move |refusal: Refusal| (check, refusal);
    let names = &checks::Names::LOCATOR;

    let route = Route::classify(rules.dialect(), method, uri.path(), uri.query());
    let route = subject.made(Check::MethodAndPath, route)?;
    let interaction = route.interaction();
    subject.interaction = Some(interaction);
    subject.action = Some(Action::of(interaction));
    subject.pointer = route.pointer().cloned();

    let from = checks::from_asid(names, headers).map_err(at(Check::Headers))?;
    subject.asid = Some(from);
    let to = checks::to_asid(names, headers).map_err(at(Check::Headers))?;
    let bearer = bearer(headers).map_err(at(Check::Headers))?;
    let declared = checks::declared_interaction(headers, interaction);
    let declared = subject.made(Check::Headers, declared)?;

    subject.made(Check::Receiver, checks::receiver(names, &to, &rules.gateway_asid))?;

    let claims = judge_token(bearer, interaction, &rules.claims, now, subject)?;
    let by = (registry, now);
    let asked = (interaction, declared.as_ref());
    let ods = judge_system(names, by, requester, (&from, &claims), asked, subject)?;

    let format = match &route {
        Route::CreateOrSupersede | Route::Update(_) => body_format(headers).map_err(at(Check::Body))?,
        // Without a body there is nothing to read.
        Route::Read(_) | Route::Search(_) | Route::Delete(_) => Format::Json,
    };
    Ok((ods, (route, format)))
}

/// The checks of the token by itself.
fn judge_token(
    bearer: &str,
    interaction: Interaction,
    rules: &ClaimRules,
    now: SystemTime,
    subject: &mut Subject,
) -> Result<Arc<Claims>, (Check, Refusal)> {
    let token = subject.made(Check::TokenForm, Token::parse(bearer))?;
    let claims = subject.made(Check::TokenClaims, Claims::check(&token, interaction, rules, now))?;
    let claims = Arc::new(claims);
    subject.claims = Some(Arc::clone(&claims));
    Ok(claims)
}

/// The checks of the requester by the registry, in their order: from whether it is known to whether it may do what it
/// asks for. Gives its organisation.
fn judge_system(
    names: &checks::Names,
    (registry, now): (&Registry, SystemTime),
    requester: &Requester,
    (from, claims): (&Asid, &Claims),
    (interaction, declared): (Interaction, Option<&InteractionId>),
    subject: &mut Subject,
) -> Result<OdsCode, (Check, Refusal)> {
    let system = checks::known_system(names, registry, from, now);
    let system = subject.made(Check::AsidKnown, system)?;
    subject.ods = Some(system.ods().clone());
    subject.made(Check::AsidActive, checks::active(system))?;
    let name = checks::certificate_name(system, requester.fqdn.as_ref());
    subject.made(Check::CertificateName, name)?;
    let asid = checks::token_asid(names, Some((registry, now)), claims, from);
    subject.made(Check::TokenAsid, asid)?;
    subject.made(Check::TokenOds, checks::token_ods(claims, system))?;
    let id = checks::associated(system, interaction, declared);
    subject.interaction_id = Some(subject.made(Check::Interaction, id)?);
    Ok(system.ods().clone())
}

/// The path and query of a request, as it came.
fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}
