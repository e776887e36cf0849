//! `spinegate doctor`

use serde::Serialize;

use super::{
    Exit, Failure, Format, Place, output,
    table::{Table, Tone},
};
use crate::doctor::{self, Finding, Health};

pub(super) fn run(place: &Place, format: Format) -> Result<Exit, Failure> {
    let file = place.config();
    let socket = place.socket_if_any();
    let findings = doctor::examine(&file, &socket);
    if format.json {
        output::json(&Report::of(&findings))?;
    } else {
        output::text(&render(&findings))?;
    }
    Ok(exit(&findings))
}

/// A faulty configuration is told apart: what depends on it was not looked at.
fn exit(findings: &[Finding]) -> Exit {
    let mut failed = findings
        .iter()
        .filter(|finding| finding.outcome == Health::Fail)
        .peekable();
    if failed.peek().is_none() {
        Exit::Done
    } else if failed.any(|finding| finding.check == doctor::CONFIGURATION) {
        Exit::Usage
    } else {
        Exit::Refused
    }
}

/// What a program reads.
#[derive(Debug, Serialize)]
struct Report<'f> {
    checks: &'f [Finding],
    ok: usize,
    warn: usize,
    fail: usize,
}

impl<'f> Report<'f> {
    fn of(checks: &'f [Finding]) -> Self {
        let count = |outcome| checks.iter().filter(|finding| finding.outcome == outcome).count();
        Self {
            checks,
            ok: count(Health::Ok),
            warn: count(Health::Warn),
            fail: count(Health::Fail),
        }
    }
}

fn render(findings: &[Finding]) -> String {
    let mut table = Table::titled(["CHECK", "ABOUT", "OUTCOME", "FOUND"]).toned(2, tone);
    for finding in findings {
        table.row([
            finding.check,
            finding.about.as_deref().unwrap_or("-"),
            finding.outcome.as_str(),
            &finding.detail,
        ]);
    }
    // Below the table, so that its rows stay short: the worst first.
    let mut amiss: Vec<_> = findings.iter().filter(|finding| finding.mend.is_some()).collect();
    amiss.sort_by_key(|finding| std::cmp::Reverse(finding.outcome));
    let mut mends = Table::titled(["OUTCOME", "CHECK", "ABOUT", "WHAT TO DO"]).toned(0, tone);
    for finding in &amiss {
        mends.row([
            finding.outcome.as_str(),
            finding.check,
            finding.about.as_deref().unwrap_or("-"),
            finding.mend.as_deref().unwrap_or_default(),
        ]);
    }
    let mends = match amiss.as_slice() {
        [] => String::new(),
        _ => mends.render() + "\n",
    };
    let Report { ok, warn, fail, .. } = Report::of(findings);
    format!(
        "{}\n{mends}{ok} ok, {warn} to be seen to, {fail} amiss\n",
        table.render()
    )
}

fn tone(outcome: &str) -> Tone {
    match outcome {
        "ok" => Tone::Good,
        "warn" => Tone::Warn,
        _ => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screens;

    fn finding(check: &'static str, about: Option<&str>, outcome: Health, mend: Option<&str>) -> Finding {
        Finding {
            check,
            about: about.map(str::to_owned),
            outcome,
            detail: format!("what was found of {check}"),
            mend: mend.map(str::to_owned),
        }
    }

    #[test]
    fn the_mends_stand_below_what_was_found_the_worst_first() {
        let findings = [
            finding("kernel", None, Health::Ok, None),
            finding(
                "lro",
                Some("eth0"),
                Health::Warn,
                Some("`ethtool -K eth0 lro off`"),
            ),
            finding("btf", None, Health::Fail, Some("run another kernel")),
        ];
        screens::same("doctor", &render(&findings));
        assert_eq!(exit(&findings), Exit::Refused);
    }

    #[test]
    fn warnings_are_no_failure_and_a_faulty_configuration_is_one_of_its_own() {
        let warned = finding("lro", None, Health::Warn, Some("mend"));
        assert_eq!(exit(std::slice::from_ref(&warned)), Exit::Done);
        let faulty = finding(doctor::CONFIGURATION, None, Health::Fail, Some("mend"));
        assert_eq!(
            exit(&[finding("btf", None, Health::Fail, None), warned, faulty]),
            Exit::Usage
        );
    }
}
