use std::fs;

use super::*;
use crate::{
    config::{Fqdns, MaxShrink, Sds, UpstreamTls},
    nrl::Asid,
};

const READ: &str = "urn:nhs:names:services:nrl:DocumentReference.read";

/// A source of bundles in a folder, with its state beside it.
struct Place {
    folder: tempfile::TempDir,
    settings: crate::config::Registry,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sds = Sds {
            bundles: vec![folder.path().join("bundles")],
            url: None,
            tls: UpstreamTls {
                ca: Vec::new(),
                certificate: None,
                private_key: None,
                server_name: None,
            },
            apikey_file: None,
            organizations: Vec::new(),
            interactions: Vec::new(),
            interval: Duration::from_secs(600),
            timeout: Duration::from_secs(5),
            max_bytes: 4 << 20,
        };
        let settings = crate::config::Registry {
            file: None,
            precedence: vec![Source::Sds],
            state_dir: folder.path().join("state"),
            max_age: Duration::from_secs(3600),
            max_shrink: MaxShrink::Percent(10),
            max_systems: 1000,
            fqdns: Fqdns::Ignore,
            ldap: None,
            sds: Some(sds),
        };
        fs::create_dir(folder.path().join("bundles")).unwrap();
        Self { folder, settings }
    }

    fn publish(&self, asids: std::ops::Range<u64>, ods: &str) {
        let entries: Vec<String> = asids
            .map(|number| {
                format!(
                    r#"{{"resource":{{"resourceType":"Device",
                    "identifier":[{{"system":"https://fhir.nhs.uk/Id/nhsSpineASID","value":"{number:012}"}}],
                    "extension":[{{"url":"https://fhir.nhs.uk/StructureDefinition/Extension-SDS-NhsServiceInteractionId",
                    "valueReference":{{"identifier":{{"system":"https://fhir.nhs.uk/Id/nhsServiceInteractionId","value":"{READ}"}}}}}}],
                    "owner":{{"identifier":{{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"{ods}"}}}}}}}}"#
                )
            })
            .collect();
        let bundle = format!(r#"{{"resourceType":"Bundle","entry":[{}]}}"#, entries.join(","));
        fs::write(self.folder.path().join("bundles/a.json"), bundle).unwrap();
    }

    fn order(&self) -> Order {
        Order::load(&self.settings, SystemTime::now()).unwrap().0
    }

    fn open(&self) -> (Directory, Arc<registry::InForce>) {
        let registry = Arc::new(registry::InForce::default());
        (Directory::new(Arc::clone(&registry), self.order()).0, registry)
    }
}

fn ods(registry: &registry::InForce, number: u64) -> Option<String> {
    let registry = registry.load();
    let system = registry.system(&Asid::from_number(number).unwrap(), SystemTime::now());
    system.map(|system| system.ods().to_string())
}

#[tokio::test]
async fn what_was_fetched_is_in_force_and_outlives_a_restart_without_its_source() {
    let place = Place::new();
    place.publish(1..21, "RR8");
    let (directory, registry) = place.open();
    assert!(registry.load().is_empty());
    let said = directory.fetch(Source::Sds, Wish::default()).await.unwrap();
    assert_eq!(
        said,
        "20 systems are in force: 20 new, 0 gone, 0 records set aside"
    );
    assert_eq!(ods(&registry, 20).as_deref(), Some("RR8"));

    fs::remove_dir_all(place.folder.path().join("bundles")).unwrap();
    assert!(directory.fetch(Source::Sds, Wish::default()).await.is_err());
    assert_eq!(registry.load().len(), 20);
    let (again, registry) = place.open();
    assert_eq!(ods(&registry, 1).as_deref(), Some("RR8"));
    let status = again.status();
    assert_eq!((status[0].state.as_str(), status[0].systems), ("fresh", 20));
}

#[tokio::test]
async fn too_many_losses_are_held_back_until_the_operator_says_so() {
    let place = Place::new();
    place.publish(1..21, "RR8");
    let (directory, registry) = place.open();
    directory.fetch(Source::Sds, Wish::default()).await.unwrap();
    // As many as before, but others: what counts is who is gone.
    place.publish(11..31, "RR8");
    let held = directory.fetch(Source::Sds, Wish::default()).await.unwrap_err();
    assert!(held.contains("10 of 20 systems are gone"), "{held}");
    assert_eq!(
        (ods(&registry, 1).as_deref(), ods(&registry, 30)),
        (Some("RR8"), None)
    );
    assert!(directory.status()[0].held.is_some());
    let accept = Wish {
        whole: true,
        accept_shrink: true,
    };
    directory.fetch(Source::Sds, accept).await.unwrap();
    assert_eq!(
        (ods(&registry, 1), ods(&registry, 30).as_deref()),
        (None, Some("RR8"))
    );
    assert!(directory.status()[0].held.is_none());
    // Two of twenty are within the share.
    place.publish(13..31, "RR8");
    directory.fetch(Source::Sds, Wish::default()).await.unwrap();
    assert_eq!(ods(&registry, 11), None);
}

#[tokio::test]
async fn a_source_that_gives_nothing_to_take_over_changes_nothing() {
    let place = Place::new();
    place.publish(1..21, "RR8");
    let (directory, registry) = place.open();
    directory.fetch(Source::Sds, Wish::default()).await.unwrap();
    let accept = Wish {
        whole: true,
        accept_shrink: true,
    };
    place.publish(0..0, "RR8");
    assert!(
        directory
            .fetch(Source::Sds, accept)
            .await
            .unwrap_err()
            .contains("it knows none")
    );
    place.publish(1..21, "R-8");
    let error = directory.fetch(Source::Sds, accept).await.unwrap_err();
    assert!(error.contains("is not an ODS code"), "{error}");
    place.publish(1..2000, "RR8");
    let error = directory.fetch(Source::Sds, accept).await.unwrap_err();
    assert!(error.contains("more than 1000 systems"), "{error}");
    fs::write(
        place.folder.path().join("bundles/b.json"),
        vec![b' '; (4 << 20) + 1],
    )
    .unwrap();
    assert!(
        directory
            .fetch(Source::Sds, accept)
            .await
            .unwrap_err()
            .contains("bytes")
    );
    assert_eq!(registry.load().len(), 20);
    let status = &directory.status()[0];
    assert_eq!((status.failures, status.failures_total), (4, 4));
}

#[tokio::test]
async fn a_snapshot_ends_with_its_age_whatever_the_clock_says() {
    let mut place = Place::new();
    place.publish(1..3, "RR8");
    let (directory, registry) = place.open();
    directory.fetch(Source::Sds, Wish::default()).await.unwrap();
    let hour = Duration::from_secs(3600);
    let known = |now| {
        registry
            .load()
            .system(&Asid::from_number(1).unwrap(), now)
            .is_some()
    };
    let now = SystemTime::now();
    assert!(known(now) && known(now + hour - Duration::from_secs(60)));
    assert!(!known(now + hour) && !known(now - hour));
    // The wall clock may stand still: time since boot does not.
    let mut desks = directory.lock();
    let desk = desks.get_mut(&Source::Sds).unwrap();
    assert!(!desk.end_if_overdue(boot_time()));
    assert!(desk.end_if_overdue(boot_time() + hour) && !desk.end_if_overdue(boot_time() + hour));
    directory.put_in_force(&desks);
    drop(desks);
    assert!(registry.load().is_empty());
    assert_eq!(directory.status()[0].state, "overdue");

    // A restart does not make it younger.
    place.settings.max_age = Duration::from_secs(1);
    std::thread::sleep(Duration::from_millis(1100));
    let (_, registry) = place.open();
    assert_eq!(ods(&registry, 1), None);
}

#[tokio::test]
async fn another_configuration_has_only_what_belongs_to_it_and_the_way_back_is_open() {
    let mut place = Place::new();
    place.publish(1..3, "RR8");
    let (directory, registry) = place.open();
    directory.fetch(Source::Sds, Wish::default()).await.unwrap();
    let file = place.folder.path().join("registry.toml");
    fs::write(
        &file,
        "[[system]]\nasid = \"000000000002\"\nods = \"RGD\"\ninteractions = []\n",
    )
    .unwrap();
    place.settings.file = Some(file);
    place.settings.precedence = vec![Source::File, Source::Sds];
    let before = directory.configure(Arc::new(place.order()));
    assert_eq!(ods(&registry, 1).as_deref(), Some("RR8"));
    assert_eq!(ods(&registry, 2).as_deref(), Some("RGD"));
    assert_eq!(registry.load().len(), 2);
    place.settings.sds.as_mut().unwrap().bundles = vec![place.folder.path().join("elsewhere")];
    directory.configure(Arc::new(place.order()));
    assert_eq!(
        (ods(&registry, 1), ods(&registry, 2).as_deref()),
        (None, Some("RGD"))
    );
    directory.configure(before);
    assert_eq!(ods(&registry, 2).as_deref(), Some("RR8"));
}
