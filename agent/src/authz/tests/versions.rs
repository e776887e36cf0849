//! The gap between check and use: what was judged is what is changed, or nothing is.

use http::{HeaderValue, header};
use spinegate_common::Reason;

use crate::nrl::{EntityTag, ErrorTable, Interaction};

use super::{Case, stored};

const CHANGES: [Interaction; 2] = [Interaction::Update, Interaction::Delete];

fn with_if_match(interaction: Interaction, lines: &[&str]) -> Case {
    Case::of(interaction).with(|c| {
        let lines = lines.iter().map(|line| ("if-match", (*line).to_owned()));
        c.headers.extend(lines);
    })
}

fn sent(case: &Case) -> Option<HeaderValue> {
    case.judge().unwrap().if_match()
}

#[test]
fn the_version_that_was_judged_is_the_only_one_that_may_be_changed() {
    for interaction in CHANGES {
        for case in [Case::of(interaction), Case::conditional(interaction)] {
            let permit = case.judge().unwrap();
            assert_eq!(permit.if_match().unwrap(), "W/\"1\"");
            assert!(permit.adds_if_match());
        }
        let strong = Case::of(interaction).with(|c| c.stored[0].version = EntityTag::parse("\"a\""));
        assert_eq!(sent(&strong).unwrap(), "\"a\"");
        let unversioned = Case::of(interaction).with(|c| c.stored[0].version = None);
        assert_eq!(sent(&unversioned), None);
    }
    for interaction in [Interaction::Read, Interaction::Search, Interaction::Create] {
        assert_eq!(sent(&Case::of(interaction)), None);
    }
}

#[test]
fn a_clients_own_if_match_must_agree_with_the_version_that_was_judged() {
    for interaction in CHANGES {
        for (lines, agrees) in [
            (&["W/\"1\""] as &[_], true),
            (&["\"1\""], true),
            (&["*"], true),
            (&["W/\"0\"", "W/\"1\""], true),
            (&["W/\"2\""], false),
            (&["1"], false),
            (&[""], false),
            (&["W/\"1\"", "x"], false),
        ] {
            let case = with_if_match(interaction, lines);
            match case.judge() {
                Ok(permit) => {
                    assert!(agrees, "{lines:?}");
                    assert_eq!(permit.if_match().unwrap(), "W/\"1\"");
                    assert!(!permit.adds_if_match());
                }
                Err(denial) => {
                    assert!(!agrees, "{lines:?}: {denial}");
                    assert_eq!(denial.reason(), Reason::VersionMismatch);
                    assert_eq!(denial.outcome(ErrorTable::Nrl).status, 412);
                }
            }
        }
    }
}

#[test]
fn where_the_locator_has_no_versions_the_clients_if_match_is_for_the_locator() {
    let case = with_if_match(Interaction::Delete, &["\"a\"", "\"b\""]).with(|c| c.stored[0].version = None);
    assert_eq!(sent(&case).unwrap(), "\"a\", \"b\"");
    assert_eq!(header::IF_MATCH, "if-match");
}

#[test]
fn a_stranger_learns_no_version() {
    for hide in [true, false] {
        let denial = |lines: &[&str]| {
            let case = with_if_match(Interaction::Delete, lines).with(|c| {
                c.rules.hide_existence = hide;
                c.stored = vec![stored("p1", "RGD")];
            });
            case.judge().unwrap_err()
        };
        assert_eq!(denial(&["W/\"1\""]), denial(&["W/\"2\""]));
        assert_eq!(denial(&["W/\"2\""]).reason(), Reason::NotOwner);
    }
}
