use proptest::prelude::*;

use super::*;
use crate::nrl::OdsCode;

fn asid(number: u64) -> Asid {
    Asid::from_number(number).unwrap()
}

fn system(number: u64, ods: &str) -> System {
    System {
        asid: asid(number),
        ods: OdsCode::parse(ods).unwrap(),
        interactions: Interactions::default(),
        name: None,
        fqdn: None,
        active: true,
        shadow: false,
    }
}

fn snapshot(source: Source, life: Option<Life>, systems: &[(u64, &str)]) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        source,
        systems: Arc::new(systems.iter().map(|(number, ods)| system(*number, ods)).collect()),
        life,
    })
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

const LIFE: fn(u64, u64) -> Option<Life> = |fetched, ends| {
    Some(Life {
        fetched: at(fetched),
        ends: at(ends),
    })
};

#[test]
fn the_first_source_that_knows_an_asid_decides() {
    let registry = Registry::new(vec![
        snapshot(Source::File, None, &[(1, "AAA"), (2, "AAA")]),
        snapshot(Source::Ldap, LIFE(0, 100), &[(2, "BBB"), (3, "BBB")]),
        snapshot(Source::Sds, LIFE(0, 200), &[(1, "CCC"), (3, "CCC"), (4, "CCC")]),
    ]);
    assert_eq!(registry.len(), 4);
    let ods = |number, now| Some(registry.system(&asid(number), at(now))?.ods().as_str().to_owned());
    let all = |now| [1, 2, 3, 4, 5].map(|number| ods(number, now));
    let of = |codes: [Option<&str>; 5]| codes.map(|code| code.map(str::to_owned));
    assert_eq!(
        all(99),
        of([Some("AAA"), Some("AAA"), Some("BBB"), Some("CCC"), None])
    );
    // What only an overdue source knew is gone, and what another knows is as that one has it.
    assert_eq!(
        all(100),
        of([Some("AAA"), Some("AAA"), Some("CCC"), Some("CCC"), None])
    );
    assert_eq!(all(200), of([Some("AAA"), Some("AAA"), None, None, None]));
}

#[test]
fn a_clock_that_is_set_back_before_the_fetch_ends_a_snapshot() {
    let registry = Registry::new(vec![snapshot(Source::Ldap, LIFE(1000, 2000), &[(1, "AAA")])]);
    let known = |now| registry.system(&asid(1), at(now)).is_some();
    assert!(known(1000) && known(941) && known(1999));
    assert!(!known(900) && !known(2000));
}

#[test]
fn pages_join_to_the_whole_in_order_without_repetition() {
    let registry = Registry::new(vec![
        snapshot(Source::File, None, &[(2, "AAA"), (9, "AAA")]),
        snapshot(Source::Ldap, LIFE(0, 100), &[(1, "BBB"), (2, "BBB"), (7, "BBB")]),
        snapshot(Source::Sds, LIFE(0, 50), &[(3, "CCC")]),
    ]);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = registry.page(after.as_ref(), 2, at(60));
        let Some((_, last)) = page.last() else { break };
        after = Some(last.asid);
        seen.extend(
            page.iter()
                .map(|(source, system)| (*source, system.asid.number())),
        );
    }
    let expected = [
        (Source::Ldap, 1),
        (Source::File, 2),
        (Source::Ldap, 7),
        (Source::File, 9),
    ];
    assert_eq!(seen, expected);
}

proptest! {
    /// Whatever snapshots there are, and whichever of them still count: nobody has more than one of them says.
    #[test]
    fn what_is_known_of_a_system_is_what_one_snapshot_says(
        sources in proptest::collection::vec(
            (proptest::collection::btree_map(0..6_u64, 0..4_usize, 0..6), 0..20_u64, proptest::bool::ANY),
            0..4,
        ),
        now in 0..20_u64,
    ) {
        const CODES: [&str; 4] = ["AAA", "BBB", "CCC", "DDD"];
        let snapshots: Vec<_> = sources
            .iter()
            .map(|(systems, ends, ages)| {
                let systems: Vec<_> = systems.iter().map(|(number, ods)| (*number, CODES[*ods])).collect();
                snapshot(Source::Ldap, LIFE(0, *ends).filter(|_| *ages), &systems)
            })
            .collect();
        let registry = Registry::new(snapshots.clone());
        let page = registry.page(None, 100, at(now));
        for number in 0..6 {
            let known = registry.system(&asid(number), at(now));
            let said = snapshots
                .iter()
                .filter(|snapshot| snapshot.counts_at(at(now)))
                .find_map(|snapshot| snapshot.systems.get(&asid(number)));
            let known = known.and_then(|system| system.to_system());
            prop_assert_eq!(known.as_ref(), said.as_ref());
            let listed = page.iter().find(|(_, system)| system.asid == asid(number));
            prop_assert_eq!(listed.map(|(_, system)| system), said.as_ref());
        }
    }
}
