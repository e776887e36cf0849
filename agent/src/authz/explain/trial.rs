//! A request on trial: what is described of it, and stand-ins for the rest.

use std::{cell::Cell, time::SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use spinegate_common::Reason;

use crate::{
    nrl::{Asid, Fqdn, Interaction, InteractionId, OdsCode},
    registry::{Registered, Registry, System},
};

use super::{
    super::{
        Admitted, AwaitingStored, AwaitingTarget, Check, Checks, Denial, Judged, Permit, Requester,
        Retrieval, Rules, Stored, Subject, admit, checks,
    },
    Described, stand_in,
};

const TRACE_ID: HeaderName = HeaderName::from_static("ssp-traceid");
const TOKEN_CHECKS: [Check; 4] = [
    Check::TokenForm,
    Check::TokenClaims,
    Check::TokenAsid,
    Check::TokenOds,
];

/// A request that can be judged, mended and judged again.
pub(super) struct Trial<'t> {
    rules: &'t Rules,
    given: &'t Registry,
    registry: Registry,
    request: Described,
    now: SystemTime,
    /// The checks that look at a stand-in for what the description lacks.
    assumed: Checks,
    /// Those that look at a stand-in for what failed an earlier check.
    replaced: Checks,
    /// Whether a stage asked for what the locator has.
    asked: Cell<bool>,
}

impl<'t> Trial<'t> {
    pub(super) fn of(
        rules: &'t Rules,
        registry: &'t Registry,
        described: &Described,
        now: SystemTime,
    ) -> Self {
        let mut trial = Self {
            rules,
            given: registry,
            registry: registry.clone(),
            request: described.clone(),
            now,
            assumed: Checks::default(),
            replaced: Checks::default(),
            asked: Cell::new(false),
        };
        if !described.whole {
            trial.fill_head();
        }
        trial
    }

    /// The checks that look at what is not described.
    pub(super) fn assumed(&self) -> Checks {
        let Described {
            whole,
            body,
            fqdn,
            custodian,
            stored,
            ..
        } = &self.request;
        let mut assumed = self.assumed;
        if fqdn.is_none() && self.requester().is_some_and(|system| system.fqdn().is_some()) {
            assumed.insert(Check::CertificateName);
        }
        let bodiless = !whole && body.is_none();
        if bodiless {
            assumed.insert(Check::Body);
        }
        let owner_is_told = custodian.is_some() || stored.is_some();
        if !owner_is_told && (self.asked.get() || bodiless) {
            assumed.insert(Check::Ownership);
        }
        assumed
    }

    pub(super) const fn replaced(&self) -> Checks {
        self.replaced
    }

    pub(super) fn system(&self, asid: &Asid) -> Option<Registered<'_>> {
        self.registry.system(asid, self.now)
    }

    /// Why a check is not made.
    pub(super) fn unneeded(&self, check: Check, interaction: Option<Interaction>) -> Option<&'static str> {
        let asks_no_registry = self
            .rules
            .provider
            .as_ref()
            .is_some_and(|provider| !provider.registered);
        match (check, interaction?) {
            (
                Check::AsidKnown
                | Check::AsidActive
                | Check::CertificateName
                | Check::TokenOds
                | Check::Interaction,
                _,
            ) => asks_no_registry.then_some(
                "a provider asks no registry unless `gateway.provider.requester` is \"registered\"",
            ),
            (Check::Body, Interaction::Create | Interaction::Update) => None,
            (Check::Body, _) => Some("the interaction has no body"),
            (Check::Ownership, interaction) if !interaction.writes() => Some("nobody owns what is only read"),
            _ => None,
        }
    }

    /// Has every stage judge the request, as the gateway does.
    pub(super) fn judge(&self) -> Result<Subject, Denial> {
        let registered = || Fqdn::parse(self.requester()?.fqdn()?).ok();
        let requester = Requester {
            fqdn: self.request.fqdn.clone().or_else(registered),
        };
        let Described {
            method, uri, headers, ..
        } = &self.request;
        if let Some(provider) = &self.rules.provider {
            let line = (method, uri, headers);
            let rules = (self.rules, provider);
            let retrieval = Retrieval::admit(rules, &self.registry, &requester, line, self.now)?;
            return Ok(retrieval.subject().clone());
        }
        let admitted = admit(
            self.rules,
            &self.registry,
            &requester,
            method,
            uri,
            headers,
            self.now,
        )?;
        let permit = match admitted {
            Admitted::Permitted(permit) => Ok(permit),
            Admitted::NeedsStored(awaiting) => self.judge_stored(awaiting),
            Admitted::NeedsBody(awaiting) => {
                let body = match &self.request.body {
                    Some(body) => body.clone(),
                    None if self.request.whole => Bytes::new(),
                    None => stand_in::body(awaiting.subject().interaction, self.owner().as_ref()),
                };
                match awaiting.judge_body(body)? {
                    Judged::Permitted(permit) => Ok(permit),
                    Judged::NeedsStored(awaiting) => self.judge_stored(awaiting),
                    Judged::NeedsTarget(awaiting) => self.judge_target(awaiting),
                }
            }
        };
        permit.map(|permit| permit.subject().clone())
    }

    fn judge_stored(&self, awaiting: AwaitingStored) -> Result<Permit, Denial> {
        self.asked.set(true);
        let stored = self.request.stored.clone().unwrap_or_else(|| {
            let owner = self.owner();
            let pointer = owner.and_then(|owner| stand_in::pointer(awaiting.selector(), owner));
            pointer.into_iter().collect()
        });
        awaiting.judge_stored(&Stored::Pointers(stored))
    }

    fn judge_target(&self, awaiting: AwaitingTarget) -> Result<Permit, Denial> {
        self.asked.set(true);
        let candidates = self.request.stored.clone().unwrap_or_else(|| {
            let owner = self.owner();
            let pointer = owner.map(|owner| stand_in::target(awaiting.target(), *awaiting.patient(), owner));
            pointer.into_iter().collect()
        });
        awaiting.judge_target(&Stored::Pointers(candidates))
    }

    /// Puts what would pass in the place of what failed. Says whether there is any use in going on.
    pub(super) fn mend(&mut self, check: Check, denial: &Denial) -> bool {
        match (check, denial.reason()) {
            (Check::Headers, Reason::ToAsidMissing | Reason::ToAsidInvalid) => {
                self.set_to_asid();
                self.replaced.insert(Check::Receiver);
            }
            (Check::Headers, Reason::JwtMissing) | (Check::TokenForm | Check::TokenClaims, _) => {
                self.set_token(None);
                for behind in TOKEN_CHECKS.into_iter().filter(|behind| *behind > check) {
                    self.replaced.insert(behind);
                }
            }
            (Check::Headers, Reason::InteractionMissing | Reason::InteractionMismatch) => {
                let [_, _, declared] = self.rules.header_names();
                self.request.headers.remove(declared);
                self.fill_retrieval();
            }
            (Check::Headers, Reason::TraceIdMissing | Reason::TraceIdInvalid) => {
                self.request.headers.remove(TRACE_ID);
                self.fill_retrieval();
            }
            (Check::Receiver, _) => self.set_to_asid(),
            (Check::AsidActive, _) => self.change_system(|system| system.active = true),
            (Check::CertificateName, _) => self.request.fqdn = None,
            // The organisation in it is still to be looked at.
            (Check::TokenAsid, _) => {
                let claims = denial.subject().claims.as_ref();
                self.set_token(claims.map(|claims| claims.ods.clone()));
            }
            (Check::TokenOds, _) => self.set_token(None),
            (Check::Interaction, _) => {
                let performed = denial.subject().interaction;
                let ids = performed
                    .map(|interaction| interaction.ids())
                    .into_iter()
                    .flatten();
                let ids: Vec<_> = ids.filter_map(|id| InteractionId::parse(id).ok()).collect();
                self.change_system(|system| system.interactions.extend(ids));
            }
            (Check::Body, Reason::MediaTypeUnsupported) => {
                let body = self.request.body.as_deref().unwrap_or_default();
                let content_type = stand_in::content_type(body);
                if self.request.headers.get(header::CONTENT_TYPE) == Some(&content_type) {
                    return false;
                }
                self.request.headers.remove(header::CONTENT_ENCODING);
                self.request.headers.insert(header::CONTENT_TYPE, content_type);
            }
            _ => return false,
        }
        true
    }

    /// What would pass, where only the declared interaction ID stands in the way.
    pub(super) fn hint(&self, check: Check, denial: &Denial) -> Option<String> {
        if check != Check::Interaction {
            return None;
        }
        if self.rules.provider.is_some() {
            return None;
        }
        let [_, _, header] = self.rules.header_names();
        let declared = self.request.headers.get(header)?.to_str().ok()?;
        let system = self.given.system(&denial.subject().asid?, self.now)?;
        let id = denial
            .subject()
            .interaction?
            .ids()
            .into_iter()
            .find(|id| *id != declared && system.interaction(id).is_some())?;
        Some(format!(
            "{id} is: a request without an InteractionID header passes"
        ))
    }

    fn fill_head(&mut self) {
        let headers = &self.request.headers;
        let [_, to, declared] = self.rules.header_names();
        let has_receiver = headers.contains_key(to);
        let is_whole = self.rules.provider.is_none()
            || (headers.contains_key(TRACE_ID) && headers.contains_key(declared));
        let has_token = headers.contains_key(header::AUTHORIZATION);
        let has_type = headers.contains_key(header::CONTENT_TYPE);
        if !has_receiver {
            self.set_to_asid();
            self.assumed.insert(Check::Receiver);
        }
        if !has_token {
            self.set_token(None);
            for check in TOKEN_CHECKS {
                self.assumed.insert(check);
            }
        }
        self.fill_retrieval();
        if !has_receiver || !has_token || !is_whole {
            self.assumed.insert(Check::Headers);
        }
        // The stand-in for a body is in JSON.
        if !has_type || self.request.body.is_none() {
            let body = self.request.body.as_deref().unwrap_or_default();
            let content_type = stand_in::content_type(body);
            self.request.headers.insert(header::CONTENT_TYPE, content_type);
        }
    }

    /// What the Secure Proxy sends besides, where it is not there.
    fn fill_retrieval(&mut self) {
        let Some(provider) = &self.rules.provider else {
            return;
        };
        let [_, _, declared] = self.rules.header_names();
        let id = provider.endpoint.interactions.first();
        let id = id.and_then(|id| HeaderValue::from_str(id.as_str()).ok());
        let headers = &mut self.request.headers;
        if let (Ok(name), Some(id)) = (HeaderName::from_bytes(declared.as_bytes()), id) {
            headers.entry(name).or_insert(id);
        }
        headers.entry(TRACE_ID).or_insert(stand_in::TRACE);
    }

    fn set_to_asid(&mut self) {
        let [_, to, _] = self.rules.header_names();
        let name = HeaderName::from_bytes(to.as_bytes());
        let asid = HeaderValue::from_str(self.rules.gateway_asid.as_str());
        if let (Ok(name), Ok(asid)) = (name, asid) {
            self.request.headers.insert(name, asid);
        }
    }

    /// A token that passes, but for its organisation where one is given.
    fn set_token(&mut self, organisation: Option<OdsCode>) {
        let ods = organisation.or_else(|| Some(self.requester()?.ods().clone()));
        let Some(asid) = self.asid() else { return };
        let Described { method, uri, .. } = &self.request;
        let token = stand_in::authorization(self.rules, (method, uri), (&asid, ods.as_ref()), self.now);
        if let Some(token) = token {
            self.request.headers.insert(header::AUTHORIZATION, token);
        }
    }

    fn change_system(&mut self, change: impl FnOnce(&mut System)) {
        if let Some(mut system) = self.requester().and_then(|system| system.to_system()) {
            change(&mut system);
            self.registry = self.registry.with(system);
        }
    }

    fn asid(&self) -> Option<Asid> {
        checks::from_asid(self.rules.names(), &self.request.headers).ok()
    }

    fn requester(&self) -> Option<Registered<'_>> {
        self.system(&self.asid()?)
    }

    /// Whose the stand-ins are.
    fn owner(&self) -> Option<OdsCode> {
        let told = self.request.custodian.clone();
        told.or_else(|| Some(self.requester()?.ods().clone()))
    }
}
