use std::time::{Duration, SystemTime};

use openssl::x509::{X509, X509Crl, X509Extension, X509Ref};
use proptest::prelude::*;

use super::{list::SKEW, *};
use crate::tls::testing::{Ca, DAY, Template, at, extension, time};

const FILE: &str = "crl/sub.pem";
const FIRST: &str = "http://crl.example.nhs.uk/1.crl";
const SECOND: &str = "http://crl.example.nhs.uk/2.crl";

fn issuer() -> Ca {
    Ca::root("Sub")
}

fn none() -> Revocations {
    Revocations::new(config::Revocation::Require, OnStale::Deny)
}

fn added(issuer: &Ca, crl: &X509Crl) -> Result<Revocations, CrlError> {
    let mut revocations = none();
    revocations.add(crl, std::slice::from_ref(&issuer.certificate), FILE)?;
    Ok(revocations)
}

fn all(issuer: &Ca, crls: &[&X509Crl]) -> Revocations {
    let mut revocations = none();
    for crl in crls {
        revocations
            .add(crl, std::slice::from_ref(&issuer.certificate), FILE)
            .unwrap();
    }
    revocations
}

fn judge(
    revocations: &Revocations,
    issuer: &Ca,
    certificate: &X509,
    holder: Holder,
    now: SystemTime,
) -> Result<(), Fault> {
    let certificate = Certificate::of(certificate).unwrap();
    let authority = fingerprint(&issuer.certificate).unwrap();
    revocations.check(&certificate, holder, &authority, now.into())
}

fn reason(revocations: &Revocations, issuer: &Ca, leaf: &X509) -> Option<Reason> {
    let judged = judge(revocations, issuer, leaf, Holder::User, at(0));
    judged.err().map(|fault| fault.reason)
}

/// A DER element; all that is needed here is short.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A distribution point's full name: one URI.
fn full_name(uri: &str) -> Vec<u8> {
    der(0xa0, &der(0xa0, &der(0x86, uri.as_bytes())))
}

/// An issuing distribution point: its name if there is one, then the other fields as they are encoded.
fn issuing(uri: Option<&str>, fields: &[u8]) -> X509Extension {
    let name = uri.map(full_name).unwrap_or_default();
    extension("2.5.29.28", true, &der(0x30, &[&name, fields].concat()))
}

const ONLY_USERS: &[u8] = &[0x81, 0x01, 0xff];
const ONLY_AUTHORITIES: &[u8] = &[0x82, 0x01, 0xff];

/// A leaf whose CRL is at `uri`.
fn leaf_of(issuer: &Ca, uri: &str) -> X509 {
    let points = der(0x30, &der(0x30, &full_name(uri)));
    let points = extension("2.5.29.31", false, &points);
    issuer.issue(Template::leaf().with(|leaf| leaf.extensions.push(points)))
}

fn part(issuer: &Ca, point: X509Extension, revoked: &[&X509Ref]) -> X509Crl {
    issuer.crl(revoked, |crl| crl.append_extension(point).unwrap())
}

/// A CRL of this number.
fn numbered(issuer: &Ca, number: u8, revoked: &[&X509Ref]) -> X509Crl {
    issuer.numbered_crl(number, revoked, |_| {})
}

#[test]
fn a_crl_whose_extensions_change_what_it_says_is_refused() {
    let issuer = issuer();
    let with = |oid, critical, der: &[u8]| {
        let crl = issuer.crl(&[], |crl| {
            crl.append_extension(extension(oid, critical, der)).unwrap();
        });
        added(&issuer, &crl).map(drop)
    };
    assert!(matches!(
        with("2.5.29.27", true, &[0x02, 0x01, 0x01]),
        Err(CrlError::Delta)
    ));
    // onlySomeReasons, indirectCRL, onlyContainsAttributeCerts, and users and authorities at once
    for fields in [
        &[0x83, 0x02, 0x01, 0x06][..],
        &[0x84, 0x01, 0xff],
        &[0x85, 0x01, 0xff],
        &[ONLY_USERS, ONLY_AUTHORITIES].concat(),
    ] {
        let refused = with("2.5.29.28", true, &der(0x30, fields));
        assert!(matches!(refused, Err(CrlError::Scope(_))), "{fields:?}");
    }
    // nameRelativeToCRLIssuer: a common name
    let relative = [0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 0x61];
    let relative = der(0x30, &der(0xa0, &der(0xa1, &relative)));
    assert!(with("2.5.29.28", true, &relative).is_err());
    assert!(matches!(
        with("1.2.3.4", true, &[0x05, 0x00]),
        Err(CrlError::Critical(_))
    ));
    assert!(with("1.2.3.4", false, &[0x05, 0x00]).is_ok());
}

#[test]
fn a_crl_of_another_signer_or_name_is_refused() {
    let issuer = issuer();
    let other = Ca::root("Other").fresh_crl(&[]);
    assert!(matches!(added(&issuer, &other), Err(CrlError::NotOurs(name)) if name == "CN=Other"));
}

#[test]
fn of_several_crls_the_newest_says_how_fresh_they_are_and_all_say_who_is_revoked() {
    let issuer = issuer();
    let [early, late, good] = [(); 3].map(|()| issuer.issue(Template::leaf()));
    let old = issuer.crl(&[&early], |crl| {
        crl.set_last_update(&time(-3 * DAY)).unwrap();
        crl.set_next_update(&time(-2 * DAY)).unwrap();
    });
    let new = issuer.fresh_crl(&[&late]);
    for crls in [[&old, &new], [&new, &old]] {
        let revocations = all(&issuer, &crls);
        for revoked in [&early, &late] {
            assert_eq!(
                reason(&revocations, &issuer, revoked),
                Some(Reason::CertificateRevoked)
            );
        }
        assert_eq!(reason(&revocations, &issuer, &good), None);
    }
}

#[test]
fn a_crl_that_is_late_early_or_without_a_next_one_is_stale() {
    let issuer = issuer();
    let [leaf, revoked] = [(); 2].map(|()| issuer.issue(Template::leaf()));
    let skew = i64::try_from(SKEW.as_secs()).unwrap();
    for (from, to, wanted) in [
        (-DAY, Some(0), None),
        (-DAY, Some(-1), Some(Reason::CrlStale)),
        (-DAY, None, Some(Reason::CrlStale)),
        (skew, Some(DAY), None),
        (skew + 1, Some(DAY), Some(Reason::CrlStale)),
    ] {
        let crl = issuer.crl(&[&revoked], |crl| {
            crl.set_last_update(&time(from)).unwrap();
            crl.set_next_update(&time(to.unwrap_or(DAY))).unwrap();
        });
        let mut revocations = added(&issuer, &crl).unwrap();
        if to.is_none() {
            for held in revocations.lists.values_mut().flatten() {
                Arc::make_mut(&mut held.list).next_update = None;
            }
        }
        assert_eq!(reason(&revocations, &issuer, &leaf), wanted, "{from} to {to:?}");
        assert_eq!(
            reason(&revocations, &issuer, &revoked),
            Some(Reason::CertificateRevoked),
            "{from} to {to:?}"
        );
    }
}

#[test]
fn grace_lets_a_late_crl_count_for_its_time_and_not_a_revoked_client_pass() {
    let issuer = issuer();
    let [leaf, revoked] = [(); 2].map(|()| issuer.issue(Template::leaf()));
    let late = |until: i64| {
        let crl = issuer.crl(&[&revoked], |crl| crl.set_next_update(&time(until)).unwrap());
        Revocations {
            on_stale: OnStale::Grace(Duration::from_secs(60)),
            ..added(&issuer, &crl).unwrap()
        }
    };
    assert_eq!(reason(&late(-60), &issuer, &leaf), None);
    assert_eq!(reason(&late(-61), &issuer, &leaf), Some(Reason::CrlStale));
    for until in [-60, -61] {
        assert_eq!(
            reason(&late(until), &issuer, &revoked),
            Some(Reason::CertificateRevoked)
        );
    }
    let states = |until| late(until).status(at(0).into()).remove(0).state;
    assert_eq!([0, -60, -61].map(states), ["fresh", "grace", "stale"]);
    // A CRL of the future, or without an end, has no grace.
    let early = issuer.crl(&[], |crl| {
        let skew = i64::try_from(SKEW.as_secs()).unwrap();
        crl.set_last_update(&time(skew + 1)).unwrap();
    });
    let early = Revocations {
        on_stale: OnStale::Grace(Duration::from_secs(DAY.unsigned_abs())),
        ..added(&issuer, &early).unwrap()
    };
    assert_eq!(reason(&early, &issuer, &leaf), Some(Reason::CrlStale));
}

#[test]
fn a_part_of_a_crl_speaks_for_the_certificates_of_its_distribution_point() {
    let issuer = issuer();
    let [first, second] = [FIRST, SECOND].map(|uri| leaf_of(&issuer, uri));
    let nowhere = issuer.issue(Template::leaf());
    let revoked = leaf_of(&issuer, SECOND);
    let one = part(&issuer, issuing(Some(FIRST), &[]), &[&revoked]);
    let revocations = all(&issuer, &[&one]);
    assert_eq!(reason(&revocations, &issuer, &first), None);
    for uncovered in [&second, &nowhere] {
        assert_eq!(reason(&revocations, &issuer, uncovered), Some(Reason::CrlMissing));
    }
    // Serial numbers are the issuer's: a listed one is revoked whichever part lists it.
    assert_eq!(
        reason(&revocations, &issuer, &revoked),
        Some(Reason::CertificateRevoked)
    );

    let two = part(&issuer, issuing(Some(SECOND), &[]), &[]);
    let both = all(&issuer, &[&one, &two]);
    assert_eq!(
        [&first, &second].map(|leaf| reason(&both, &issuer, leaf)),
        [None, None]
    );
    assert_eq!(both.status(at(0).into()).len(), 2);
    let whole = all(&issuer, &[&one, &issuer.fresh_crl(&[])]);
    assert_eq!(
        [&second, &nowhere].map(|leaf| reason(&whole, &issuer, leaf)),
        [None, None]
    );
}

#[test]
fn a_stale_part_refuses_only_its_own_certificates() {
    let issuer = issuer();
    let [first, second] = [FIRST, SECOND].map(|uri| leaf_of(&issuer, uri));
    let stale = issuer.crl(&[], |crl| {
        crl.append_extension(issuing(Some(FIRST), &[])).unwrap();
        crl.set_next_update(&time(-1)).unwrap();
    });
    let revocations = all(
        &issuer,
        &[&stale, &part(&issuer, issuing(Some(SECOND), &[]), &[])],
    );
    assert_eq!(reason(&revocations, &issuer, &first), Some(Reason::CrlStale));
    assert_eq!(reason(&revocations, &issuer, &second), None);
}

#[test]
fn a_crl_of_users_says_nothing_of_authorities_and_the_other_way_round() {
    let issuer = issuer();
    let certificate = issuer.issue(Template::leaf());
    for (fields, speaks_for, silent_on) in [
        (ONLY_USERS, Holder::User, Holder::Authority),
        (ONLY_AUTHORITIES, Holder::Authority, Holder::User),
    ] {
        let revocations = all(&issuer, &[&part(&issuer, issuing(None, fields), &[])]);
        let judged = |holder| judge(&revocations, &issuer, &certificate, holder, at(0));
        assert!(judged(speaks_for).is_ok());
        let fault = judged(silent_on).unwrap_err();
        assert_eq!(
            (fault.reason, fault.depth),
            (Reason::CrlMissing, silent_on.depth())
        );
    }
}

#[test]
fn a_refusal_names_the_crl_on_which_it_rests() {
    let issuer = issuer();
    let revoked = issuer.issue(Template::leaf());
    let revocations = all(&issuer, &[&numbered(&issuer, 0x1f, &[&revoked])]);
    let fault = judge(&revocations, &issuer, &revoked, Holder::User, at(60)).unwrap_err();
    let crl = fault.crl.unwrap();
    assert_eq!(
        (crl.issuer.as_str(), crl.number.as_deref()),
        ("CN=Sub", Some("1f"))
    );
    assert_eq!(crl.age, Duration::from_secs(DAY.unsigned_abs() + 60));
}

#[test]
fn an_older_crl_or_none_does_not_take_the_place_of_a_newer_one() {
    let issuer = issuer();
    let authority = fingerprint(&issuer.certificate).unwrap();
    let revoked = issuer.issue(Template::leaf());
    let in_force = all(&issuer, &[&numbered(&issuer, 7, &[&revoked])]);
    for read in [none(), all(&issuer, &[&numbered(&issuer, 6, &[])])] {
        let mut after = read;
        after.succeed(&in_force, [authority].into_iter());
        assert_eq!(
            reason(&after, &issuer, &revoked),
            Some(Reason::CertificateRevoked)
        );
        let [status] = &after.status(at(0).into())[..] else {
            panic!("one CRL");
        };
        assert_eq!(status.number.as_deref(), Some("7"));
        assert!(status.kept.is_some());
    }
    // The same one again, and a newer one, do: an issuer may take a revocation back.
    for number in [7, 8] {
        let mut after = all(&issuer, &[&numbered(&issuer, number, &[])]);
        after.succeed(&in_force, [authority].into_iter());
        assert_eq!(reason(&after, &issuer, &revoked), None, "{number}");
        assert_eq!(after.status(at(0).into())[0].kept, None);
    }
    // What was known of a CA that is no longer one is let go.
    let mut after = none();
    after.succeed(&in_force, std::iter::empty());
    assert!(!after.covers(&authority));
}

#[test]
fn numbers_are_compared_as_numbers() {
    let issuer = issuer();
    let list = |number, issued: i64| {
        let crl = issuer.numbered_crl(number, &[], |crl| crl.set_last_update(&time(issued)).unwrap());
        List::of(&crl, FILE).unwrap()
    };
    assert!(list(0x10, 0).is_newer_than(&list(0x0f, 0)));
    assert!(list(0x10, -9).is_newer_than(&list(0x9, 0)));
    assert!(list(1, 1).is_newer_than(&list(1, 0)));
    assert!(!list(1, 0).is_newer_than(&list(1, 0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever files come and go, in whatever order: of each scope the newest ever read decides.
    #[test]
    fn no_sequence_of_files_takes_back_what_a_newer_crl_said(
        steps in prop::collection::vec((1u8..6, any::<bool>(), 0usize..3), 1..12)
    ) {
        let issuer = issuer();
        let authority = fingerprint(&issuer.certificate).unwrap();
        let leaf = issuer.issue(Template::leaf());
        let mut in_force = none();
        let mut newest = None::<(u8, bool)>;
        for (number, revokes, how) in steps {
            let listed: &[&X509Ref] = if revokes { &[&leaf] } else { &[] };
            let mut read = match how {
                // The file is gone.
                0 => none(),
                _ => all(&issuer, &[&numbered(&issuer, number, listed)]),
            };
            if how > 0 && newest.is_none_or(|(known, _)| number >= known) {
                newest = Some((number, revokes));
            }
            read.succeed(&in_force, [authority].into_iter());
            in_force = read;
            let wanted = match newest {
                None => Some(Reason::CrlMissing),
                Some((_, true)) => Some(Reason::CertificateRevoked),
                Some((_, false)) => None,
            };
            prop_assert_eq!(reason(&in_force, &issuer, &leaf), wanted);
        }
    }
}

#[test]
fn a_certificate_whose_distribution_points_cannot_be_read_is_refused() {
    let broken = extension("2.5.29.31", false, &[0x30, 0x03, 0x30, 0x7f]);
    let leaf = issuer().issue(Template::leaf().with(|leaf| leaf.extensions.push(broken)));
    assert!(Certificate::of(&leaf).is_err());
}
