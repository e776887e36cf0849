//! The decision table: each row of `rows.toml` is a request and what is decided on it, in JSON and in XML, and by either
//! family of interaction IDs.

mod row;

use std::{collections::BTreeMap, fs, process::ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Heard, Line},
    fhir,
    json::at,
    lab::{self, Lab, section},
    netns::Host,
    suite::Suite,
};

use self::row::{Family, Format, Ready, Row};

fn main() -> ExitCode {
    Suite {
        name: "decisions",
        edit: lab::open_verdicts,
        tests: spinegate_tests::tests![
            each_row_is_decided_as_it_says_in_json_and_in_xml,
            each_row_is_decided_the_same_by_the_old_family_of_interaction_ids,
            with_spine_cores_table_an_asid_that_fails_has_one_code,
        ],
    }
    .run()
}

fn each_row_is_decided_as_it_says_in_json_and_in_xml(lab: &mut Lab) -> Result<()> {
    decide(lab, Family::Current, &row::all()?)
}

fn each_row_is_decided_the_same_by_the_old_family_of_interaction_ids(lab: &mut Lab) -> Result<()> {
    let file = lab.files().registry();
    let current = fs::read_to_string(&file)?;
    fs::write(&file, Family::Old.of_registry(&current))?;
    lab.agent().order(&["reload"])?;
    let decided = decide(lab, Family::Old, &row::all()?);
    fs::write(&file, current)?;
    lab.agent().order(&["reload"])?;
    decided
}

fn with_spine_cores_table_an_asid_that_fails_has_one_code(lab: &mut Lab) -> Result<()> {
    let errors = |lab: &Lab, value: &str| -> Result<()> {
        lab.reconfigure(|table| drop(section(table, "gateway").insert("errors".to_owned(), value.into())))
    };
    errors(lab, "spine-core")?;
    let mut rows = row::all()?;
    rows.retain(|row| {
        let reason = row.reason.as_deref().unwrap_or_default();
        [
            "asid_unknown",
            "asid_inactive",
            "asid_fqdn_mismatch",
            "interaction_not_allowed",
        ]
        .contains(&reason)
    });
    for row in &mut rows {
        row.status = 403;
        row.issue = "forbidden".to_owned();
        row.code = "ASID_CHECK_FAILED".to_owned();
        row.display = "The sender or receiver's ASID is not authorised for this interaction".to_owned();
    }
    ensure!(rows.len() >= 4, "{} rows are of an ASID", rows.len());
    let decided = decide(lab, Family::Current, &rows);
    errors(lab, "nrl")?;
    decided
}

/// What is to be found in the audit log about an answer.
struct Awaited {
    row: String,
    reason: Option<String>,
}

/// Makes every row's request in both formats over one connection, and looks each decision up in the audit log.
fn decide(lab: &Lab, family: Family, rows: &[Row]) -> Result<()> {
    let mark = lab.audit().mark()?;
    let (client, mut faults, mut awaited) = (lab.client(Host::Ssp), Vec::new(), BTreeMap::new());
    let mut line = client.line()?;
    for row in rows {
        for format in row.formats() {
            let heard = ask(&mut line, row, format, family);
            let (ready, heard) = heard.with_context(|| format!("{} ({})", row.name, format.as_str()))?;
            if heard.closes() {
                line = client.line()?;
            }
            let id = heard.header("x-request-id").unwrap_or_default().to_owned();
            if let Err(error) = check(row, format, &ready, &heard, &id) {
                faults.push(format!("{} ({}): {error:#}", row.name, format.as_str()));
            }
            awaited.insert(
                id,
                Awaited {
                    row: row.name.clone(),
                    reason: row.reason.clone(),
                },
            );
        }
    }
    for entry in lab.audit().since(mark)? {
        let id = at(&entry, "/decision_id").as_str().unwrap_or_default();
        let Some(awaited) = awaited.remove(id) else {
            continue;
        };
        let decision = if awaited.reason.is_some() {
            "refuse"
        } else {
            "allow"
        };
        if *at(&entry, "/decision") != decision || at(&entry, "/reason").as_str() != awaited.reason.as_deref()
        {
            faults.push(format!("{}: the audit log has {entry}", awaited.row));
        }
    }
    faults.extend(
        awaited
            .values()
            .map(|awaited| format!("{}: not in the audit log", awaited.row)),
    );
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Makes what a row needs, then its request.
fn ask(line: &mut Line, row: &Row, format: Format, family: Family) -> Result<(Ready, Heard)> {
    let mut ready = Ready::new(row, format, family);
    if let Some(message) = ready.before() {
        let made = line.ask(&message)?;
        ensure!(
            made.status == 201,
            "the stored pointer: {} {}",
            made.status,
            made.body
        );
        let id = made.header("location").and_then(|url| url.rsplit('/').next());
        ready.stored(id.context("no id in Location")?);
    }
    let heard = line.ask(&ready.message()?)?;
    Ok((ready, heard))
}

fn check(row: &Row, format: Format, ready: &Ready, heard: &Heard, id: &str) -> Result<()> {
    ensure!(
        heard.status == row.status,
        "{} and not {}: {}",
        heard.status,
        row.status,
        heard.body
    );
    let media_type = heard.header("content-type").unwrap_or_default();
    ensure!(
        media_type.starts_with(format.media_type()),
        "Content-Type {media_type}"
    );
    let body: Value = match format {
        Format::Json => serde_json::from_str(&heard.body)?,
        Format::Xml => fhir::from_xml(&heard.body)?,
    };
    if row.reason.is_none() {
        return Ok(());
    }
    ensure!(
        *at(&body, "/id") == *id && !id.is_empty(),
        "{} is not the decision {id}",
        at(&body, "/id")
    );
    ensure!(
        heard.header("cache-control") == Some("no-store"),
        "it may be stored"
    );
    for (pointer, wanted) in [
        ("/resourceType", "OperationOutcome"),
        (
            "/meta/profile/0",
            "https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1",
        ),
        ("/issue/0/severity", "error"),
        ("/issue/0/code", row.issue.as_str()),
        (
            "/issue/0/details/coding/0/system",
            "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1",
        ),
        ("/issue/0/details/coding/0/code", row.code.as_str()),
        ("/issue/0/details/coding/0/display", row.display.as_str()),
    ] {
        let found = at(&body, pointer);
        ensure!(*found == wanted, "{pointer} is {found} and not {wanted:?}");
    }
    let said = at(&body, "/issue/0/diagnostics").as_str().unwrap_or_default();
    if let Some(wanted) = &row.diagnostics {
        let wanted = ready.filled(wanted);
        ensure!(said == wanted, "diagnostics {said:?} and not {wanted:?}");
    }
    for wanted in &row.names {
        ensure!(said.contains(wanted), "diagnostics {said:?} without {wanted:?}");
    }
    Ok(())
}
