//! No sequence of requests by one owner's systems changes another owner's pointer, however they overlap (R3, R4, R5).
//!
//! The locator here believes everything: it does what a permit says, and asks nobody who they are.

use std::collections::HashMap;

use http::Method;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    authz::{Admitted, ByOwner, Judged, Permit, Stored, admit},
    nrl::{
        Asid, EntityTag, Format, Identifier, Interaction, NhsNumber, ORGANISATION_PREFIX, OdsCode, Pointer,
        PointerId, Selector, Status, TargetRef,
    },
    registry::Registry,
};

use super::{Case, identifier, now, status_update};

const OWNERS: [(&str, &str); 2] = [("200000000205", "RR8"), ("200000000206", "RGD")];
const PATIENTS: [&str; 2] = ["9876543210", "9000000009"];
/// So few that different owners' requests come upon the same.
const NAMES: [&str; 4] = ["urn:oid:1", "urn:oid:2", "urn:oid:3", "urn:oid:4"];

/// A request by one of the owners; ids are counted through, and most exist.
#[derive(Clone, Debug)]
enum Request {
    Create(NewPointer),
    Supersede(NewPointer, Naming),
    Update(Naming),
    Delete(Naming),
}

#[derive(Clone, Debug)]
struct NewPointer {
    custodian: &'static str,
    patient: &'static str,
    name: &'static str,
}

/// How a request names a stored pointer.
#[derive(Clone, Debug)]
enum Naming {
    Id(usize),
    /// `?_id=`, or a supersede's reference and identifier both.
    IdOtherwise(usize, &'static str),
    Name(&'static str, &'static str),
}

/// What happens at a moment: a request is judged, or the locator gets one that was.
#[derive(Clone, Debug)]
enum Event {
    Judge(usize, Request),
    Forward(prop::sample::Index),
}

fn new_pointer() -> impl Strategy<Value = NewPointer> {
    (
        select(&["RR8", "RGD"][..]),
        select(&PATIENTS[..]),
        select(&NAMES[..]),
    )
        .prop_map(|(custodian, patient, name)| NewPointer {
            custodian,
            patient,
            name,
        })
}

fn naming() -> impl Strategy<Value = Naming> {
    prop_oneof![
        (0..8_usize).prop_map(Naming::Id),
        (0..8_usize, select(&NAMES[..])).prop_map(|(id, name)| Naming::IdOtherwise(id, name)),
        (select(&PATIENTS[..]), select(&NAMES[..])).prop_map(|(patient, name)| Naming::Name(patient, name)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let request = prop_oneof![
        3 => new_pointer().prop_map(Request::Create),
        2 => (new_pointer(), naming()).prop_map(|(new, old)| Request::Supersede(new, old)),
        2 => naming().prop_map(Request::Update),
        2 => naming().prop_map(Request::Delete),
    ];
    prop_oneof![
        3 => (0..OWNERS.len(), request).prop_map(|(who, request)| Event::Judge(who, request)),
        2 => any::<prop::sample::Index>().prop_map(Event::Forward),
    ]
}

fn id(number: usize) -> PointerId {
    PointerId::parse(&format!("p{number}")).unwrap()
}

fn reference(number: usize) -> String {
    format!("https://nrl.nhs.uk/STU3/DocumentReference/{}", id(number))
}

impl NewPointer {
    fn document(&self, target: Option<Value>) -> Vec<u8> {
        let mut pointer = json!({
            "resourceType": "DocumentReference",
            "status": "current",
            "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": self.name},
            "subject": {"reference": format!("{}{}", NhsNumber::REFERENCE_PREFIX, self.patient)},
            "custodian": {"reference": format!("{ORGANISATION_PREFIX}{}", self.custodian)},
        });
        if let Some(target) = target {
            pointer["relatesTo"] = json!([{"code": "replaces", "target": target}]);
        }
        pointer.to_string().into_bytes()
    }
}

impl Naming {
    fn line(&self) -> String {
        const POINTERS: &str = "/STU3/DocumentReference";
        match self {
            Self::Id(number) => format!("{POINTERS}/{}", id(*number)),
            Self::IdOtherwise(number, _) => format!("{POINTERS}?_id={}", id(*number)),
            Self::Name(patient, name) => format!(
                "{POINTERS}?subject={}{patient}&identifier=urn:ietf:rfc:3986%7C{name}",
                NhsNumber::REFERENCE_PREFIX
            ),
        }
    }

    fn target(&self) -> Value {
        let named = |name: &str| json!({"system": "urn:ietf:rfc:3986", "value": name});
        match self {
            Self::Id(number) => json!({"reference": reference(*number)}),
            Self::IdOtherwise(number, name) => {
                json!({"reference": reference(*number), "identifier": named(name)})
            }
            Self::Name(_, name) => json!({"identifier": named(name)}),
        }
    }
}

impl Request {
    fn case(&self, who: usize, hide: bool) -> Case {
        let (asid, ods) = OWNERS[who];
        let interaction = match self {
            Self::Create(_) | Self::Supersede(..) => Interaction::Create,
            Self::Update(_) => Interaction::Update,
            Self::Delete(_) => Interaction::Delete,
        };
        Case::of(interaction).with(|c| {
            c.rules.hide_existence = hide;
            c.from = Some(asid.to_owned());
            let system = c.system.as_mut().unwrap();
            (system.asid, system.ods) = (Asid::parse(asid).unwrap(), OdsCode::parse(ods).unwrap());
            for claim in ["sub", "requesting_system"] {
                c.claims[claim] = format!("https://fhir.nhs.uk/Id/accredited-system|{asid}").into();
            }
            c.claims["requesting_organization"] =
                format!("https://fhir.nhs.uk/Id/ods-organization-code|{ods}").into();
            match self {
                Self::Create(new) => c.body = new.document(None),
                Self::Supersede(new, old) => c.body = new.document(Some(old.target())),
                Self::Update(naming) => {
                    c.target = naming.line();
                    c.body = status_update();
                }
                Self::Delete(naming) => c.target = naming.line(),
            }
        })
    }
}

/// A record locator that believes everything, and what the gateway remembers of it.
#[derive(Default)]
struct Locator {
    /// `None` once it is deleted; its name is never used again.
    pointers: Vec<Option<Pointer>>,
    used: Vec<(NhsNumber, Option<Identifier>)>,
    /// Whether it looks at If-Match.
    versions: bool,
    remembered: HashMap<PointerId, OdsCode>,
    remembers: bool,
}

impl Locator {
    fn find(&self, id: &PointerId) -> Option<&Pointer> {
        self.pointers
            .iter()
            .flatten()
            .find(|pointer| pointer.id.as_ref() == Some(id))
    }

    fn read(&mut self, id: &PointerId) -> Stored {
        match self.find(id).cloned() {
            None => Stored::Pointers(Vec::new()),
            Some(pointer) if pointer.status != Status::Current => Stored::NotCurrent,
            Some(pointer) => {
                self.remembered.insert(id.clone(), pointer.custodian.clone());
                Stored::Pointers(vec![pointer])
            }
        }
    }

    fn search(&self, patient: &NhsNumber) -> Stored {
        let current = self
            .pointers
            .iter()
            .flatten()
            .filter(|pointer| pointer.subject == *patient && pointer.status == Status::Current);
        Stored::Pointers(current.cloned().collect())
    }

    /// Judges a request as the gateway does, with what it fetches from here.
    fn judge(&mut self, case: &Case) -> Option<Permit> {
        let registry = Registry::of(case.system.clone());
        let (method, uri) = (case.method.parse().unwrap(), case.target.parse().unwrap());
        let headers = case.header_map();
        let admitted = admit(
            &case.rules,
            &registry,
            &case.requester,
            &method,
            &uri,
            &headers,
            now(),
        );
        let waiting = match admitted.ok()? {
            Admitted::Permitted(permit) => return Some(permit),
            Admitted::NeedsStored(waiting) => waiting,
            Admitted::NeedsBody(waiting) => match waiting.judge_body(case.body.clone().into()).ok()? {
                Judged::Permitted(permit) => return Some(permit),
                Judged::NeedsStored(waiting) => waiting,
                Judged::NeedsTarget(waiting) => {
                    let candidates = match waiting.target().id() {
                        Some(id) => self.read(id),
                        None => self.search(waiting.patient()),
                    };
                    return waiting.judge_target(&candidates).ok();
                }
            },
        };
        let known = match waiting.selector() {
            Selector::Id(id) if self.remembers => self.remembered.get(id).cloned(),
            _ => None,
        };
        let waiting = match known {
            None => waiting,
            Some(owner) => match waiting.judge_owner(&owner).ok()? {
                ByOwner::Permitted(permit) => return Some(permit),
                ByOwner::NeedsStored(waiting) => waiting,
            },
        };
        let stored = match waiting.selector() {
            Selector::Id(id) => self.read(id),
            Selector::Identifier { subject, .. } => self.search(subject),
        };
        waiting.judge_stored(&stored).ok()
    }

    /// Does what a permit says.
    fn perform(&mut self, permit: &Permit) {
        let path = permit.path_and_query().path();
        assert_eq!(
            permit.path_and_query().query(),
            None,
            "a conditional form is forwarded"
        );
        match (
            permit.method(),
            path.strip_prefix("/STU3/DocumentReference").unwrap(),
        ) {
            (&Method::POST, "") => self.create(permit.body()),
            (method, id) => {
                let id = PointerId::parse(id.strip_prefix('/').unwrap()).unwrap();
                let versions = self.versions;
                let found = self.pointers.iter_mut().find(|pointer| {
                    let pointer = pointer.as_ref();
                    pointer.is_some_and(|pointer| {
                        let version = pointer.version.as_ref().unwrap();
                        let taken = permit.if_match().is_none_or(|taken| version.is_taken_by(&taken));
                        pointer.id.as_ref() == Some(&id)
                            && pointer.status == Status::Current
                            && (taken || !versions)
                    })
                });
                match (found, method) {
                    (None, _) => {}
                    (Some(place), &Method::DELETE) => *place = None,
                    (Some(place), _) => {
                        let pointer = place.as_mut().unwrap();
                        pointer.status = Status::EnteredInError;
                        pointer.version = EntityTag::of_version("2");
                    }
                }
            }
        }
    }

    fn create(&mut self, body: &[u8]) {
        let mut new = Pointer::read(Format::Json, body).unwrap();
        let name = (new.subject, new.master_identifier.clone());
        if self.used.contains(&name) {
            return;
        }
        if let Some(target) = &new.replaces {
            let old = self.pointers.iter_mut().flatten().find(|pointer| match target {
                TargetRef::Id(id) => pointer.id.as_ref() == Some(id),
                TargetRef::Identifier(name) => {
                    pointer.subject == new.subject && pointer.master_identifier.as_ref() == Some(name)
                }
                TargetRef::Both(id, name) => {
                    pointer.id.as_ref() == Some(id) && pointer.master_identifier.as_ref() == Some(name)
                }
            });
            match old {
                Some(old) if old.status == Status::Current => {
                    old.status = Status::Superseded;
                    old.version = EntityTag::of_version("2");
                }
                _ => return,
            }
        }
        new.id = Some(id(self.pointers.len()));
        new.version = EntityTag::of_version("1");
        self.used.push(name);
        self.pointers.push(Some(new));
    }

    fn owned_by(&self, ods: &OdsCode) -> Vec<Option<Pointer>> {
        let own = |pointer: &Option<Pointer>| pointer.clone().filter(|pointer| pointer.custodian == *ods);
        self.pointers.iter().map(own).collect()
    }
}

/// Forwards a permit, and sees that nothing of the other owner's is other than before.
fn forward(locator: &mut Locator, permit: &Permit) -> Result<(), TestCaseError> {
    let others: Vec<OdsCode> = OWNERS
        .iter()
        .filter_map(|(_, ods)| OdsCode::parse(ods).ok())
        .filter(|ods| Some(ods) != permit.subject().ods.as_ref())
        .collect();
    let before: Vec<_> = others.iter().map(|ods| locator.owned_by(ods)).collect();
    locator.perform(permit);
    for (ods, before) in others.iter().zip(before) {
        let mut after = locator.owned_by(ods);
        if after.len() > before.len() {
            prop_assert_eq!(
                after.pop(),
                Some(None),
                "a pointer of {} was created by another",
                ods
            );
        }
        prop_assert_eq!(after, before, "a pointer of {} was changed by another", ods);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_requests_of_one_owner_changes_anothers_pointer(
        events in vec(event(), 1..60),
        hide in any::<bool>(),
        versions in any::<bool>(),
        remembers in any::<bool>(),
    ) {
        let mut locator = Locator { versions, remembers, ..Locator::default() };
        for (number, (_, custodian)) in OWNERS.into_iter().cycle().take(4).enumerate() {
            let new = NewPointer { custodian, patient: PATIENTS[number / 2], name: NAMES[number] };
            locator.create(&new.document(None));
        }
        let mut under_way = Vec::new();
        for event in events {
            match event {
                Event::Judge(who, request) => under_way.extend(locator.judge(&request.case(who, hide))),
                Event::Forward(_) if under_way.is_empty() => {}
                Event::Forward(index) => {
                    let permit = under_way.swap_remove(index.index(under_way.len()));
                    forward(&mut locator, &permit)?;
                }
            }
        }
        for permit in under_way {
            forward(&mut locator, &permit)?;
        }
    }
}

#[test]
fn the_sequences_reach_every_change_that_there_is() {
    let (own, other) = (identifier(NAMES[0]), identifier(NAMES[1]));
    let mut locator = Locator {
        remembers: true,
        ..Locator::default()
    };
    let new = |name| NewPointer {
        custodian: "RR8",
        patient: PATIENTS[0],
        name,
    };
    let mut all = |request: Request| {
        let permit = locator.judge(&request.case(0, true)).unwrap();
        locator.perform(&permit);
        locator.pointers.clone()
    };
    let after = all(Request::Create(new(NAMES[0])));
    assert_eq!(after[0].as_ref().unwrap().master_identifier, Some(own));
    let after = all(Request::Supersede(
        new(NAMES[1]),
        Naming::Name(PATIENTS[0], NAMES[0]),
    ));
    assert_eq!(after[0].as_ref().unwrap().status, Status::Superseded);
    assert_eq!(after[1].as_ref().unwrap().master_identifier, Some(other));
    let after = all(Request::Supersede(
        new(NAMES[2]),
        Naming::IdOtherwise(1, NAMES[1]),
    ));
    assert_eq!(after[1].as_ref().unwrap().status, Status::Superseded);
    let after = all(Request::Update(Naming::Name(PATIENTS[0], NAMES[2])));
    assert_eq!(after[2].as_ref().unwrap().status, Status::EnteredInError);
    let after = all(Request::Create(new(NAMES[3])));
    assert!(after[3].is_some());
    let after = all(Request::Delete(Naming::IdOtherwise(3, NAMES[3])));
    assert!(after[3].is_none());
}
