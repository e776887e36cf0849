//! An operator can't lock himself out by accident: what cuts his session is refused, and a reload on trial goes back.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    client::{Knock, Message, NHS_NUMBER, Offer},
    command::{Finished, Run},
    expect::{agreed, handshake_refused},
    json::at,
    lab::{Agent, CONSUMER, Interaction, Lab, System, UNKNOWN_ASID, allow, filter},
    netns::Host,
    suite::Suite,
    wait::wait_until,
};
use toml::{Table, Value};

const REFUSED: i32 = 1;
/// Where the operator works from, and what sshd says of that.
const OPERATOR: &str = "203.0.113.9";
const SESSION: &str = "203.0.113.9 50000 10.239.14.26 22";

fn main() -> ExitCode {
    Suite {
        name: "lockout",
        edit: |_| {},
        tests: spinegate_tests::tests![
            a_reload_that_cuts_the_operators_session_is_refused_without_force,
            the_session_is_found_behind_sudo_too,
            a_reload_that_cuts_the_control_plane_is_refused_from_any_session,
            monitor_mode_that_ends_is_looked_at_too,
            a_source_whose_removal_cuts_the_session_stays_listed,
            a_denial_that_cuts_the_session_is_not_given,
            a_reload_that_nobody_confirms_is_taken_back_whole,
            a_reload_that_is_confirmed_stays,
            a_reload_in_a_trial_does_not_end_it,
            a_faulty_reload_in_a_trial_does_not_end_it,
            what_is_added_in_a_trial_outlives_it,
            there_is_nothing_to_confirm_without_a_trial,
        ],
    }
    .run()
}

fn a_reload_that_cuts_the_operators_session_is_refused_without_force(lab: &mut Lab) -> Result<()> {
    let operator = operator(lab);
    configure(lab, "scope", "host")?;
    refused(&operator.output(&["reload"])?, OPERATOR)?;
    refused(
        &operator.output(&["reload", "--confirm-within", "60s"])?,
        OPERATOR,
    )?;
    is(lab, "/scope", "services")?;
    is_on_trial(lab, false)?;

    operator.order(&["reload", "--force"])?;
    is(lab, "/scope", "host")?;
    // Cut already: to leave it so is no reason to refuse.
    operator.order(&["reload"])?;

    configure(lab, "scope", "services")?;
    operator.order(&["reload"])?;
    is(lab, "/scope", "services")
}

fn the_session_is_found_behind_sudo_too(lab: &mut Lab) -> Result<()> {
    configure(lab, "scope", "host")?;
    // As `sudo` does it: a process whose environment has the variable starts one whose environment lacks it.
    let finished = Run::new("sh")
        .args(["-c", "env -u SSH_CONNECTION \"$@\"; exit $?", "sh"])
        .arg(lab.binary())
        .arg("--socket")
        .arg(lab.files().socket())
        .arg("reload")
        .env("SSH_CONNECTION", SESSION)
        .output()?;
    configure(lab, "scope", "services")?;
    refused(&finished, OPERATOR)?;
    is(lab, "/scope", "services")
}

fn a_reload_that_cuts_the_control_plane_is_refused_from_any_session(lab: &mut Lab) -> Result<()> {
    configure(lab, "scope", "host")?;
    configure(lab, "control_plane", vec!["198.51.100.4"])?;
    let finished = lab.agent().output(&["reload"])?;
    refused(&finished, "198.51.100.4")?;
    // A failsafe entry keeps it, whatever else there is.
    let failsafe = Table::from_iter([("cidr".to_owned(), Value::from("198.51.100.0/24"))]);
    configure(lab, "failsafe", vec![failsafe])?;
    lab.agent().order(&["reload"])?;
    is(lab, "/scope", "host")?;
    for key in ["control_plane", "failsafe"] {
        edit(lab, |filter| drop(filter.remove(key)))?;
    }
    configure(lab, "scope", "services")?;
    lab.agent().order(&["reload"]).map(drop)
}

fn monitor_mode_that_ends_is_looked_at_too(lab: &mut Lab) -> Result<()> {
    let operator = operator(lab);
    configure(lab, "scope", "host")?;
    configure(lab, "mode", "monitor")?;
    operator.order(&["reload"])?;
    configure(lab, "mode", "enforce")?;
    refused(&operator.output(&["reload"])?, OPERATOR)?;
    configure(lab, "scope", "services")?;
    operator.order(&["reload"]).map(drop)
}

fn a_source_whose_removal_cuts_the_session_stays_listed(lab: &mut Lab) -> Result<()> {
    let operator = operator(lab);
    let cidr = format!("{OPERATOR}/32");
    operator.order(&["sources", "add", &cidr, "--name", "operator"])?;
    configure(lab, "scope", "host")?;
    operator.order(&["reload"])?;
    refused(&operator.output(&["sources", "remove", &cidr])?, OPERATOR)?;
    ensure!(operator.order(&["sources", "list"])?.contains(&cidr));
    // Another session is not cut by it.
    lab.agent()
        .in_session("192.0.2.200 50000 10.239.14.26 22")
        .order(&["sources", "remove", &cidr])?;
    operator.order(&["sources", "add", &cidr, "--name", "operator"])?;
    operator.order(&["sources", "remove", &cidr, "--force"])?;
    ensure!(!operator.order(&["sources", "list"])?.contains(&cidr));
    configure(lab, "scope", "services")?;
    operator.order(&["reload"]).map(drop)
}

fn a_denial_that_cuts_the_session_is_not_given(lab: &mut Lab) -> Result<()> {
    // Over SSH in scope `services` a denial does not bite; over a guarded port it does.
    let over_ssh = operator(lab);
    over_ssh.order(&["verdicts", "add", OPERATOR, "--ttl", "1m"])?;
    over_ssh.order(&["verdicts", "remove", OPERATOR])?;
    let guarded = lab
        .agent()
        .in_session(format!("{OPERATOR} 50000 10.239.14.26 443"));
    for target in [OPERATOR, "203.0.113.0/24"] {
        refused(
            &guarded.output(&["verdicts", "add", target, "--ttl", "1m"])?,
            OPERATOR,
        )?;
        ensure!(lab.agent().verdict_on(target)?.is_none(), "{target} is denied");
    }
    guarded.order(&["verdicts", "add", OPERATOR, "--ttl", "1m", "--force"])?;
    ensure!(lab.agent().verdict_on(OPERATOR)?.is_some());
    guarded.order(&["verdicts", "remove", OPERATOR]).map(drop)
}

fn a_reload_that_nobody_confirms_is_taken_back_whole(lab: &mut Lab) -> Result<()> {
    let old = Old::read(lab)?;
    let newcomer = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    let search = |system: &System| Message::search(NHS_NUMBER).from(system);
    // Another filter, another TLS, another registry, another list of sources.
    list_stranger(lab)?;
    lab.configure(|table| {
        if let Some(client) = table
            .get_mut("tls")
            .and_then(|tls| tls.get_mut("client"))
            .and_then(Value::as_table_mut)
        {
            client.insert("fqdns".into(), vec![spinegate_tests::pki::SSP_FQDN].into());
        }
    })?;
    let registry = fs::read_to_string(lab.files().registry())?;
    let entry = format!(
        "\n[[system]]\nasid = \"{}\"\nods = \"{}\"\ninteractions = [\"{}\"]\n",
        newcomer.asid,
        newcomer.ods,
        Interaction::Search.urn()
    );
    fs::write(lab.files().registry(), registry + &entry)?;

    let mark = lab.audit().mark()?;
    let said = operator(lab).order(&["reload", "--confirm-within", "3s"])?;
    old.write(lab)?;
    ensure!(said.contains("spinegate reload --confirm"), "{said}");
    let status = lab.agent().json(&["status"])?;
    ensure!(at(&status, "/confirm_until").is_string(), "{status}");
    ensure!(lab.agent().order(&["status"])?.contains("on trial"));
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Opened,
        "the new source is not in force in the trial"
    );
    ensure!(lab.client(Host::Ssp).answer(&search(&newcomer))?.status == 200);
    handshake_refused(lab, &lab.client(Host::System), Offer::RIGHT, "fqdn_mismatch")?;

    end_of_trial(lab)?;
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Silence,
        "the source of the trial is still let in"
    );
    ensure!(!lab.agent().order(&["sources", "list"])?.contains("on trial"));
    ensure!(lab.client(Host::Ssp).answer(&search(&newcomer))?.status == 400);
    ensure!(lab.client(Host::Ssp).answer(&search(&CONSUMER))?.status == 200);
    agreed(&lab.client(Host::System), Offer::RIGHT)?;
    let recorded = lab.audit().since(mark)?.iter().any(|entry| {
        at(entry, "/detail")
            .as_str()
            .is_some_and(|detail| detail.contains("nobody confirmed"))
    });
    ensure!(recorded, "the way back is not in the audit log");
    // What failed in the trial is no burden on the system afterwards.
    lab.agent()
        .output(&["verdicts", "remove", &lab.client(Host::System).address()])
        .map(drop)
}

fn a_reload_that_is_confirmed_stays(lab: &mut Lab) -> Result<()> {
    let old = Old::read(lab)?;
    list_stranger(lab)?;
    let operator = operator(lab);
    operator.order(&["reload", "--confirm-within", "2s"])?;
    operator.order(&["reload", "--confirm"])?;
    old.write(lab)?;
    is_on_trial(lab, false)?;
    std::thread::sleep(Duration::from_millis(2_500));
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Opened,
        "it was confirmed and went back"
    );
    operator.order(&["reload"]).map(drop)
}

fn a_reload_in_a_trial_does_not_end_it(lab: &mut Lab) -> Result<()> {
    let old = Old::read(lab)?;
    list_stranger(lab)?;
    let operator = operator(lab);
    operator.order(&["reload", "--confirm-within", "3s"])?;
    // As a timer does it that fetches CRLs: it confirms nothing.
    let said = lab.agent().order(&["reload"])?;
    ensure!(said.contains("--confirm"), "{said}");
    is_on_trial(lab, true)?;
    // A trial in a trial goes back to before the first.
    operator.order(&["reload", "--confirm-within", "2s"])?;
    old.write(lab)?;
    ensure!(lab.client(Host::Stranger).knock()? == Knock::Opened);
    end_of_trial(lab)?;
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Silence,
        "the trial did not go back"
    );
    Ok(())
}

fn a_faulty_reload_in_a_trial_does_not_end_it(lab: &mut Lab) -> Result<()> {
    let old = Old::read(lab)?;
    list_stranger(lab)?;
    let agent = lab.agent();
    agent.order(&["reload", "--confirm-within", "2s"])?;
    fs::write(lab.files().config(), "nonsense")?;
    ensure!(agent.output(&["reload"])?.code == Some(2));
    is_on_trial(lab, true)?;
    old.write(lab)?;
    end_of_trial(lab)?;
    ensure!(lab.client(Host::Stranger).knock()? == Knock::Silence);
    Ok(())
}

fn what_is_added_in_a_trial_outlives_it(lab: &mut Lab) -> Result<()> {
    let old = Old::read(lab)?;
    list_stranger(lab)?;
    let agent = lab.agent();
    agent.order(&["reload", "--confirm-within", "2s"])?;
    agent.order(&["sources", "add", "192.0.2.0/24", "--name", "guest"])?;
    old.write(lab)?;
    end_of_trial(lab)?;
    ensure!(agent.order(&["sources", "list"])?.contains("192.0.2.0/24"));
    lab.stop_agent()?;
    lab.start_agent()?;
    ensure!(lab.agent().order(&["sources", "list"])?.contains("192.0.2.0/24"));
    lab.agent()
        .order(&["sources", "remove", "192.0.2.0/24"])
        .map(drop)
}

fn there_is_nothing_to_confirm_without_a_trial(lab: &mut Lab) -> Result<()> {
    let finished = lab.agent().output(&["reload", "--confirm"])?;
    ensure!(finished.code == Some(REFUSED), "{}", finished.said());
    ensure!(finished.said().contains("on trial"), "{}", finished.said());
    Ok(())
}

/// The files that a reload reads.
struct Old {
    config: String,
    registry: String,
}

impl Old {
    fn read(lab: &Lab) -> Result<Self> {
        Ok(Self {
            config: fs::read_to_string(lab.files().config())?,
            registry: fs::read_to_string(lab.files().registry())?,
        })
    }

    fn write(&self, lab: &Lab) -> Result<()> {
        fs::write(lab.files().config(), &self.config)?;
        fs::write(lab.files().registry(), &self.registry).context("writing the registry back")
    }
}

fn operator(lab: &Lab) -> Agent {
    lab.agent().in_session(SESSION)
}

/// It was refused, names who would be cut off, and how to do it all the same.
fn refused(finished: &Finished, who: &str) -> Result<()> {
    let said = finished.said();
    ensure!(
        finished.code == Some(REFUSED),
        "`{}` ended with {:?}: {said}",
        finished.command,
        finished.code
    );
    ensure!(
        said.contains(who) && said.contains("--force") && said.contains("cut off"),
        "{said}"
    );
    Ok(())
}

fn is(lab: &Lab, pointer: &str, wanted: &str) -> Result<()> {
    let status = lab.agent().json(&["status"])?;
    let found = at(&status, pointer).as_str();
    ensure!(found == Some(wanted), "{pointer} is {found:?}");
    Ok(())
}

fn is_on_trial(lab: &Lab, wanted: bool) -> Result<()> {
    let status = lab.agent().json(&["status"])?;
    let found = at(&status, "/confirm_until").is_string();
    ensure!(found == wanted, "on trial: {found}, not {wanted}");
    Ok(())
}

fn end_of_trial(lab: &Lab) -> Result<()> {
    wait_until("the end of the trial", Duration::from_secs(5), || {
        Ok(is_on_trial(lab, false).is_ok())
    })
}

/// Puts the stranger on the configuration's allowlist.
fn list_stranger(lab: &Lab) -> Result<()> {
    edit(lab, |filter| {
        allow(filter, format!("{}/32", Host::Stranger.v4()), "on trial")
    })
}

fn configure(lab: &Lab, key: &str, value: impl Into<Value>) -> Result<()> {
    edit(lab, |filter| drop(filter.insert(key.to_owned(), value.into())))
}

fn edit(lab: &Lab, change: impl FnOnce(&mut Table)) -> Result<()> {
    lab.configure(|table| change(filter(table)))
}
