//! Sources that are not what they should be.

use std::fs;

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    json::at,
    lab::Lab,
    rogue::{Rogue, Script, Step, say},
    slapd::dn,
};

use super::{LDAP, acceptor, address, asids, begin, edge, fails, has_access, source, with_ldap};

pub(crate) fn losses_wait_for_the_operators_word(lab: &mut Lab) -> Result<()> {
    let server = begin(lab, 12)?;
    server.delete(&asids(6))?;
    let said = fails(lab, "ldap")?;
    ensure!(
        said.contains("6 of 12 systems are gone") && said.contains("--accept-shrink"),
        "{said}"
    );
    ensure!(has_access(lab)?, "what is held back is in force");
    let status = source(lab, "ldap")?;
    ensure!(
        at(&status, "/held").is_string() && *at(&status, "/systems") == 12,
        "{status}"
    );
    // A restart is no word of the operator's.
    lab.stop_agent()?;
    lab.start_agent()?;
    ensure!(has_access(lab)?);
    lab.agent()
        .order(&["registry", "sync", "ldap", "--accept-shrink"])?;
    ensure!(!has_access(lab)?, "the operator's word does not count");
    let status = source(lab, "ldap")?;
    ensure!(
        at(&status, "/held").is_null() && *at(&status, "/systems") == 6,
        "{status}"
    );
    server.stop()
}

pub(crate) fn a_changed_schema_takes_nobodys_access(lab: &mut Lab) -> Result<()> {
    let server = begin(lab, 3)?;
    let changes = asids(3)
        .into_iter()
        .map(|asid| format!("dn: {}\nchangetype: modify\ndelete: nhsAsSvcIA\n\n", dn(&asid)));
    server.change(&changes.collect::<String>())?;
    let said = fails(lab, "ldap")?;
    ensure!(
        said.contains("it gives no system that can be taken over"),
        "{said}"
    );
    // Nor does the operator's word put nothing in force.
    let accepted = lab
        .agent()
        .output(&["registry", "sync", "ldap", "--accept-shrink"])?;
    ensure!(accepted.code == Some(1), "{}", accepted.said());
    ensure!(has_access(lab)?, "a changed schema took access away");
    server.stop()
}

/// The answer to a bind.
const BOUND: &[u8] = &[0x30, 0x0c, 2, 1, 1, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0];

/// An entry without attributes, in answer to the first search.
const ENTRY: &[u8] = &[0x30, 0x09, 2, 1, 2, 0x64, 4, 4, 0, 0x30, 0];

pub(crate) fn a_server_that_lies_stalls_or_floods_changes_nothing(lab: &mut Lab) -> Result<()> {
    begin(lab, 3)?.stop()?;
    with_ldap(lab, |_, ldap| drop(ldap.insert("timeout".into(), "1s".into())))?;
    let before = resident(lab)?;
    let bound = || Step::Say(BOUND.to_vec());
    let scripts: [(&str, Script, &str); 8] = [
        ("stalls before its first word", vec![Step::Hold], "within 1s"),
        ("stalls after the bind", vec![bound(), Step::Hold], "within 1s"),
        ("goes away", vec![], "broke"),
        (
            "speaks HTTP",
            vec![say("HTTP/1.1 200 OK\r\n\r\n")],
            "what is not LDAP",
        ),
        (
            "announces a message of a gigabyte",
            vec![bound(), Step::Say(vec![0x30, 0x84, 0x40, 0, 0, 0]), Step::Hold],
            "message of 1073741824 bytes",
        ),
        (
            "sends entries without end",
            vec![bound(), Step::Say(ENTRY.repeat(100_000)), Step::Hold],
            "more entries than a page",
        ),
        (
            "refuses the bind",
            vec![
                Step::Say(vec![0x30, 0x0c, 2, 1, 1, 0x61, 7, 0x0a, 1, 49, 4, 0, 4, 0]),
                Step::Hold,
            ],
            "refuses the bind: InvalidCredentials",
        ),
        (
            "sends what has no end",
            vec![bound(), Step::Say(vec![0xff; 1 << 16]), Step::Again],
            "what is not LDAP",
        ),
    ];
    for (what, script, words) in scripts {
        let _rogue = Rogue::open_tls(&edge(lab), address(LDAP)?, acceptor(lab)?, script)?;
        let said = fails(lab, "ldap").with_context(|| what.to_owned())?;
        ensure!(said.contains(words), "{what}: {said}");
        ensure!(has_access(lab)?, "{what}: its systems lost their access");
        let status = source(lab, "ldap")?;
        ensure!(
            at(&status, "/last_error").is_string() && *at(&status, "/systems") == 3,
            "{what}: {status}"
        );
    }
    let after = resident(lab)?;
    ensure!(
        after < before + 64 * 1024,
        "the agent grew from {before} to {after} KiB"
    );
    Ok(())
}

/// The agent's memory, in KiB.
fn resident(lab: &Lab) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", lab.agent_process()?.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.context("no VmRSS")?.parse().context("no number")
}
