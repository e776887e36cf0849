//! The decision table: one fault each, with reason, status, codes and text of the answer.

use http::header;
use spinegate_common::Reason;

use crate::{
    authz::checks,
    nrl::{Asid, ErrorTable, Fqdn, Interaction, InteractionId, NhsNumber, Status},
    registry::Systems,
};

use super::{ASID, Case, document, stored, system};

type Row = (&'static str, Case, Reason, u16, &'static str, &'static str);

fn rows() -> Vec<Row> {
    use Interaction::{Create, Delete, Read, Search, Update};
    let read = || Case::of(Read);
    let create = || Case::of(Create);
    vec![
        (
            "unknown path",
            read().with(|c| c.target = "/STU3/Patient/1".to_owned()),
            Reason::PathUnknown,
            404,
            "BAD_REQUEST",
            "The path /STU3/Patient/1 is not served here",
        ),
        (
            "unknown method",
            read().with(|c| c.method = "PUT"),
            Reason::MethodUnknown,
            405,
            "BAD_REQUEST",
            "The method PUT is not supported for the path /STU3/DocumentReference/p1",
        ),
        (
            "conditional delete without an identifier",
            Case::of(Delete).with(|c| c.target = "/STU3/DocumentReference?subject=x".to_owned()),
            Reason::ParameterInvalid,
            400,
            "INVALID_PARAMETER",
            "Without an id in the path the parameters subject and identifier must name the pointer",
        ),
        (
            "search without subject",
            Case::of(Search).with(|c| c.target = "/STU3/DocumentReference".to_owned()),
            Reason::ParameterInvalid,
            400,
            "INVALID_PARAMETER",
            "A search needs the parameter subject, or _id alone",
        ),
        (
            "no fromASID",
            read().with(|c| c.from = None),
            Reason::FromAsidMissing,
            400,
            "MISSING_OR_INVALID_HEADER",
            "fromASID HTTP Header is missing",
        ),
        (
            "two fromASIDs",
            read().with(|c| c.headers.push(("fromasid", ASID.to_owned()))),
            Reason::FromAsidMissing,
            400,
            "MISSING_OR_INVALID_HEADER",
            "fromASID HTTP Header is sent more than once",
        ),
        (
            "malformed fromASID",
            read().with(|c| c.from = Some("20000000020".to_owned())),
            Reason::FromAsidInvalid,
            400,
            "MISSING_OR_INVALID_HEADER",
            "fromASID (20000000020) HTTP Header is not an ASID of 12 digits",
        ),
        (
            "no toASID",
            read().with(|c| c.to = None),
            Reason::ToAsidMissing,
            400,
            "MISSING_OR_INVALID_HEADER",
            "toASID HTTP Header is missing",
        ),
        (
            "another's toASID",
            read().with(|c| c.to = Some("999999999998".to_owned())),
            Reason::ToAsidInvalid,
            400,
            "MISSING_OR_INVALID_HEADER",
            "toASID (999999999998) HTTP Header is not the ASID of this service",
        ),
        (
            "no Authorization",
            read().with(|c| c.bearer = false),
            Reason::JwtMissing,
            400,
            "MISSING_OR_INVALID_HEADER",
            "The Authorisation header must be supplied",
        ),
        (
            "another InteractionID",
            read().with(|c| c.headers.push(("InteractionID", Update.ids()[0].to_owned()))),
            Reason::InteractionMismatch,
            400,
            "MISSING_OR_INVALID_HEADER",
            "InteractionID (urn:nhs:names:services:nrl:DocumentReference.update) HTTP Header does not name this request's \
             interaction, read",
        ),
        (
            "a JWT of two sections",
            read().with(|c| c.token = Some("a.b".to_owned())),
            Reason::JwtInvalid,
            400,
            "MISSING_OR_INVALID_HEADER",
            "The JWT associated with the Authorisation header must have the 3 sections",
        ),
        (
            "a JWT without a mandatory claim",
            read().with(|c| drop(c.claims.as_object_mut().unwrap().remove("exp"))),
            Reason::JwtClaimInvalid,
            400,
            "MISSING_OR_INVALID_HEADER",
            "The mandatory claim exp from the JWT associated with the Authorisation header is missing",
        ),
        (
            "an unknown ASID",
            read().with(|c| c.system = None),
            Reason::AsidUnknown,
            400,
            "MISSING_OR_INVALID_HEADER",
            "The ASID defined in the fromASID (200000000205) HTTP Header is unknown",
        ),
        (
            "an ASID that is switched off",
            read().with(|c| c.system.as_mut().unwrap().active = false),
            Reason::AsidInactive,
            403,
            "ACCESS_DENIED",
            "The ASID 200000000205 has no access at present",
        ),
        (
            "another system's certificate",
            read().with(|c| c.system.as_mut().unwrap().fqdn = Fqdn::parse("ward.example.nhs.uk").ok()),
            Reason::AsidFqdnMismatch,
            401,
            "ACCESS_DENIED",
            "The client certificate is not that of the ASID 200000000205",
        ),
        (
            "another ASID in the JWT",
            read().with(|c| {
                let other = "https://fhir.nhs.uk/Id/accredited-system|200000000206";
                c.claims["requesting_system"] = other.into();
            }),
            Reason::JwtAsidMismatch,
            400,
            "MISSING_OR_INVALID_HEADER",
            "The ASID defined in the requesting_system (200000000206) is unknown",
        ),
        (
            "another ODS code in the JWT",
            read().with(|c| {
                c.claims["requesting_organization"] =
                    "https://fhir.nhs.uk/Id/ods-organization-code|RGD".into();
            }),
            Reason::JwtOdsMismatch,
            400,
            "MISSING_OR_INVALID_HEADER",
            "requesting_system ASID (200000000205) is not associated with the requesting_organization ODS code (RGD)",
        ),
        (
            "an interaction that the ASID lacks",
            create().with(|c| c.system = Some(system(Read.ids()))),
            Reason::InteractionNotAllowed,
            403,
            "ACCESS_DENIED",
            "The interaction urn:nhs:names:services:nrl:DocumentReference.create is not associated with the ASID 200000000205",
        ),
        (
            "a body of another media type",
            create().with(|c| c.headers = vec![("content-type", "text/html".to_owned())]),
            Reason::MediaTypeUnsupported,
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "Content-Type \"text/html\" is not supported: send the body as application/fhir+json or application/fhir+xml",
        ),
        (
            "a JSON body that is said to be XML",
            create().with(|c| c.headers = vec![("content-type", "application/fhir+xml".to_owned())]),
            Reason::BodyMalformed,
            400,
            "INVALID_REQUEST_MESSAGE",
            "Invalid Request Message: not acceptable as XML: it begins as JSON does",
        ),
        (
            "an NHS number that is none",
            create().with(|c| {
                c.body = String::from_utf8_lossy(&c.body)
                    .replace("9876543210", "987 654 3210")
                    .into()
            }),
            Reason::NhsNumberInvalid,
            400,
            "INVALID_NHS_NUMBER",
            "The NHS number does not conform to the NHS Number format: 987 654 3210",
        ),
        (
            "a custodian that is no ODS code",
            create().with(|c| c.body = document("R_8", None)),
            Reason::OrganisationNotFound,
            400,
            "ORGANISATION_NOT_FOUND",
            "The ODS code in the custodian and/or author element is not resolvable - R_8",
        ),
        (
            "create of a pointer that is not current",
            create().with(|c| {
                c.body = String::from_utf8_lossy(&c.body)
                    .replace("current", "superseded")
                    .into()
            }),
            Reason::StatusNotCurrent,
            400,
            "BAD_REQUEST",
            "DocumentReference status is not 'current'",
        ),
        (
            "a body that is no pointer",
            create().with(|c| c.body = b"{\"resourceType\":\"Patient\"}".to_vec()),
            Reason::BodyInvalid,
            400,
            "INVALID_RESOURCE",
            "DocumentReference: resourceType must be DocumentReference",
        ),
        (
            "an update of something else than the status",
            Case::of(Update).with(|c| c.body = b"{\"resourceType\":\"Parameters\"}".to_vec()),
            Reason::BodyInvalid,
            400,
            "INVALID_RESOURCE",
            "Parameters: parameter must have exactly one entry",
        ),
        (
            "create for another owner",
            create().with(|c| c.body = document("RGD", None)),
            Reason::NotOwner,
            400,
            "INVALID_RESOURCE",
            "The Custodian ODS code is not affiliated with the sender ASID.",
        ),
        (
            "delete of another's pointer",
            Case::of(Delete).with(|c| c.stored = vec![stored("p1", "RGD")]),
            Reason::NotOwner,
            400,
            "INVALID_RESOURCE",
            "The Custodian ODS code is not affiliated with the sender ASID.",
        ),
        (
            "update of a pointer that is not there",
            Case::of(Update).with(|c| c.stored.clear()),
            Reason::PointerNotFound,
            404,
            "NO_RECORD_FOUND",
            "No record found for supplied DocumentReference identifier - p1.",
        ),
        (
            "delete of a pointer that is not current",
            Case::of(Delete).with(|c| c.stored[0].status = Status::Superseded),
            Reason::PointerNotCurrent,
            404,
            "NO_RECORD_FOUND",
            "No record found for supplied DocumentReference identifier - p1.",
        ),
        (
            "a locator that answers with another pointer",
            Case::of(Delete).with(|c| c.stored = vec![stored("p2", "RR8")]),
            Reason::UpstreamInvalid,
            502,
            "INTERNAL_SERVER_ERROR",
            "The record locator answered with another pointer",
        ),
        (
            "supersede of another's pointer",
            Case::supersede().with(|c| c.stored = vec![stored("p1", "RGD")]),
            Reason::TargetNotOwner,
            400,
            "INVALID_RESOURCE",
            "Resolved DocumentReference is not associated with custodian RR8",
        ),
        (
            "supersede of a pointer that is not there",
            Case::supersede().with(|c| c.stored.clear()),
            Reason::TargetNotFound,
            400,
            "INVALID_RESOURCE",
            "Referenced DocumentReference does not exist.",
        ),
        (
            "supersede of another patient's pointer",
            Case::supersede().with(|c| c.stored[0].subject = NhsNumber::parse("9000000009").unwrap()),
            Reason::TargetPatientMismatch,
            400,
            "INVALID_RESOURCE",
            "Resolved DocumentReference is not associated with the same patient",
        ),
    ]
}

#[test]
fn each_fault_has_its_reason_status_code_and_diagnostics() {
    for (name, case, reason, status, code, diagnostics) in rows() {
        let denial = case.judge().expect_err(name);
        let outcome = denial.outcome(ErrorTable::Nrl);
        assert_eq!(denial.reason(), reason, "{name}");
        assert_eq!((outcome.status.as_u16(), outcome.code), (status, code), "{name}");
        assert_eq!(denial.diagnostics(), diagnostics, "{name}");
    }
}

#[test]
fn without_a_fault_every_interaction_is_permitted_as_it_was_judged() {
    let mut cases: Vec<Case> = Interaction::LOCATOR.into_iter().map(Case::of).collect();
    cases.push(Case::supersede());
    for case in cases {
        let permit = case
            .judge()
            .unwrap_or_else(|denial| panic!("{} {}: {denial}", case.method, case.target));
        assert_eq!(permit.method().as_str(), case.method);
        assert_eq!(permit.path_and_query().as_str(), case.target);
        assert_eq!(permit.body(), &case.body);
        assert!(permit.subject().asid.is_some());
        assert!(permit.subject().interaction_id.is_some());
    }
}

#[test]
fn an_interaction_is_associated_by_the_id_that_the_registry_has_and_by_no_other() {
    let [current, old] = Interaction::Read.ids();
    for (registered, declared, permitted) in [
        (current, None, true),
        (old, None, true),
        (current, Some(current), true),
        (old, Some(old), true),
        (current, Some(old), false),
        (old, Some(current), false),
        ("urn:nhs:names:services:nrl:documentreference.read", None, false),
        (
            "urn:nhs:names:services:nrl:DocumentReference.content.read",
            None,
            false,
        ),
    ] {
        let mut case = Case::of(Interaction::Read).with(|c| c.system = Some(system([registered])));
        if let Some(declared) = declared {
            case.headers.push(("InteractionID", declared.to_owned()));
        }
        match case.judge() {
            Ok(permit) => {
                assert!(permitted, "{registered} {declared:?}");
                assert_eq!(
                    permit.subject().interaction_id.as_ref().unwrap().as_str(),
                    registered
                );
            }
            Err(denial) => assert!(
                !permitted && denial.reason() == Reason::InteractionNotAllowed,
                "{registered} {declared:?}"
            ),
        }
    }
}

#[test]
fn a_retrieval_is_associated_by_either_spelling_of_its_id() {
    let asid = Asid::parse(ASID).unwrap();
    for registered in Interaction::Retrieve.ids() {
        let systems: Systems = [system([registered])].into_iter().collect();
        let system = systems.find(&asid).unwrap();
        for declared in Interaction::Retrieve.ids() {
            let declared = InteractionId::parse(declared).unwrap();
            let id = checks::associated(system, Interaction::Retrieve, Some(&declared)).unwrap();
            assert_eq!(id.as_str(), registered);
        }
        assert!(checks::associated(system, Interaction::Read, None).is_err());
    }
    let systems: Systems = [system(Interaction::Read.ids())].into_iter().collect();
    let reader = systems.find(&asid).unwrap();
    assert!(checks::associated(reader, Interaction::Retrieve, None).is_err());
}

#[test]
fn a_registered_fqdn_wants_a_certificate_of_that_name() {
    let named = |case: &mut Case| case.system.as_mut().unwrap().fqdn = Fqdn::parse("SSP.example.nhs.uk").ok();
    assert!(Case::of(Interaction::Read).with(named).judge().is_ok());
    let nameless = Case::of(Interaction::Read)
        .with(named)
        .with(|c| c.requester = crate::authz::Requester::without_fqdn());
    assert_eq!(nameless.judge().unwrap_err().reason(), Reason::AsidFqdnMismatch);
}

#[test]
fn the_answers_header_is_the_one_that_its_status_asks_for() {
    let by = |table, case: Case| {
        let denial = case.judge().unwrap_err();
        denial.header(denial.outcome(table).status)
    };
    let header = |case: Case| by(ErrorTable::Nrl, case);
    let (name, value) = header(Case::of(Interaction::Read).with(|c| c.method = "PUT")).unwrap();
    assert_eq!(
        (name, value.to_str().unwrap()),
        (header::ALLOW, "GET, PATCH, DELETE")
    );
    let other = |c: &mut Case| c.system.as_mut().unwrap().fqdn = Fqdn::parse("ward.example.nhs.uk").ok();
    assert_eq!(
        header(Case::of(Interaction::Read).with(other)).unwrap().0,
        header::WWW_AUTHENTICATE
    );
    assert_eq!(
        by(ErrorTable::SpineCore, Case::of(Interaction::Read).with(other)),
        None
    );
    assert_eq!(
        header(Case::of(Interaction::Read).with(|c| c.system = None)),
        None
    );
}

/// What is told is what was sent, or stands in the program: nothing of the registry, and nothing of stored pointers.
#[test]
fn no_diagnostics_name_what_the_client_did_not_send() {
    for (name, case, ..) in rows() {
        let denial = case.judge().expect_err(name);
        let mut sent = vec![
            case.method.to_owned(),
            case.target.clone(),
            case.claims.to_string(),
        ];
        sent.extend(case.from.iter().chain(&case.to).chain(&case.token).cloned());
        sent.extend(case.headers.iter().map(|(_, value)| value.clone()));
        sent.push(String::from_utf8_lossy(&case.body).into_owned());
        let sent = sent.join(" ");
        let system = case.system.iter().flat_map(|system| {
            let fqdn = system.fqdn.iter().map(ToString::to_string);
            let name = system.name.iter().map(ToString::to_string);
            fqdn.chain(name).chain([system.ods.to_string()])
        });
        let stored = case.stored.iter().flat_map(|pointer| {
            let identifier = pointer.master_identifier.iter().map(|one| one.value.clone());
            let id = pointer.id.iter().map(ToString::to_string);
            let others = [pointer.custodian.to_string(), pointer.subject.as_str().to_owned()];
            identifier.chain(id).chain(others)
        });
        for secret in system
            .chain(stored)
            .filter(|value| !sent.contains(value.as_str()))
        {
            assert!(
                !denial.diagnostics().contains(&secret),
                "{name}: {secret} is told: {}",
                denial.diagnostics()
            );
        }
    }
}

#[test]
fn a_denial_tells_the_audit_as_much_as_the_checks_found_out() {
    let unknown = Case::of(Interaction::Delete)
        .with(|c| c.system = None)
        .judge()
        .unwrap_err();
    let subject = unknown.subject();
    assert_eq!(subject.asid.unwrap().as_str(), ASID);
    assert_eq!(
        (subject.ods.as_ref(), subject.interaction),
        (None, Some(Interaction::Delete))
    );
    assert_eq!(subject.pointer.as_ref().unwrap().as_str(), "p1");
    assert!(subject.claims.is_some());
    let foreign = Case::of(Interaction::Delete)
        .with(|c| c.stored = vec![stored("p1", "RGD")])
        .judge()
        .unwrap_err();
    assert_eq!(foreign.subject().ods.as_ref().unwrap().as_str(), "RR8");
    assert_eq!(foreign.subject().custodian.as_ref().unwrap().as_str(), "RGD");
}
