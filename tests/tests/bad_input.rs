//! Faulty configurations and surroundings: each is an error that names the thing and the mend, and nothing is started.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    client::{Knock, Message, NHS_NUMBER},
    command::{Finished, Run},
    json::at,
    lab::{CONSUMER, Lab},
    netns::{Family, Host, INTERFACE},
    pki::{Authority, EDGE_FQDN, KeyCache, Leaf, Validity},
    suite::Suite,
};
use toml::{Table, Value};

fn main() -> ExitCode {
    Suite {
        name: "bad-input",
        edit: |_| {},
        tests: spinegate_tests::tests![
            an_unknown_key_is_named,
            a_value_of_the_wrong_type_is_named,
            a_missing_file_is_named,
            a_key_that_cannot_be_read_is_named,
            a_key_file_that_holds_no_key_is_named,
            a_key_that_does_not_match_the_certificate_is_named,
            an_expired_own_certificate_is_named,
            a_crl_that_does_not_verify_is_named,
            a_crl_that_is_stale_is_warned_of,
            a_cidr_with_host_bits_is_named,
            two_systems_with_one_asid_are_named,
            an_interface_that_does_not_exist_is_named,
            an_interface_with_another_xdp_program_is_left_alone_and_the_program_named,
            a_pin_folder_that_is_not_on_bpffs_is_named,
            a_kernel_without_btf_is_named,
            a_port_in_use_is_named,
            a_port_of_the_metrics_in_use_is_named,
            text_that_is_no_toml_is_named_with_its_line,
            a_configuration_that_is_not_there_is_named,
            every_faulty_value_of_a_file_is_reported_at_once,
            everything_that_a_file_names_in_vain_is_reported_at_once,
            a_faulty_configuration_starts_nothing,
        ],
    }
    .run()
}

fn an_unknown_key_is_named(lab: &mut Lab) -> Result<()> {
    faulty(
        lab,
        |table| set(table, "filter", "mod", "enforce"),
        &["filter.mod"],
    )
}

fn a_value_of_the_wrong_type_is_named(lab: &mut Lab) -> Result<()> {
    faulty(
        lab,
        |table| set(table, "listen", "addresses", 443),
        &["listen.addresses"],
    )
}

fn a_missing_file_is_named(lab: &mut Lab) -> Result<()> {
    faulty(
        lab,
        |table| set(table, "tls", "certificate", "absent.pem"),
        &["tls.certificate", "absent.pem"],
    )
}

fn a_key_that_cannot_be_read_is_named(lab: &mut Lab) -> Result<()> {
    // Root may read any file, but no folder.
    let folder = lab.files().pki().to_string_lossy().into_owned();
    faulty(
        lab,
        |table| set(table, "tls", "private_key", folder.as_str()),
        &["tls.private_key", &folder, "readable"],
    )
}

fn a_key_file_that_holds_no_key_is_named(lab: &mut Lab) -> Result<()> {
    let path = written(
        lab,
        "no.key",
        b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n",
    )?;
    faulty(
        lab,
        |table| set(table, "tls", "private_key", path),
        &["tls.private_key", "no.key"],
    )
}

fn a_key_that_does_not_match_the_certificate_is_named(lab: &mut Lab) -> Result<()> {
    let key = lab.pki().leaf("good")?.key.to_string_lossy().into_owned();
    faulty(
        lab,
        |table| set(table, "tls", "private_key", key),
        &["tls.private_key", "good.key"],
    )
}

fn an_expired_own_certificate_is_named(lab: &mut Lab) -> Result<()> {
    let key = KeyCache::in_folder(lab.files().pki()).get("server")?;
    let path = written(
        lab,
        "old.pem",
        &Leaf::server(EDGE_FQDN)
            .valid(Validity::past())
            .self_signed(&key)?,
    )?;
    faulty(
        lab,
        |table| set(table, "tls", "certificate", path),
        &["tls.certificate", "expired"],
    )
}

fn a_crl_that_does_not_verify_is_named(lab: &mut Lab) -> Result<()> {
    let folder = lab.files().folder().join("forged");
    fs::create_dir_all(&folder)?;
    fs::copy(lab.pki().crls.join("root.pem"), folder.join("root.pem"))?;
    // The SubCA's name, but not its key.
    let key = KeyCache::in_folder(lab.files().pki()).get("forger")?;
    let forger = Authority::root("Lab Authentication", key)?;
    fs::write(folder.join("sub.pem"), forger.crl(&[], Validity::days(-1, 30))?)?;
    let crls = folder.to_string_lossy().into_owned();
    let edit = |table: &mut Table| {
        if let Some(tls) = table.get_mut("tls").and_then(Value::as_table_mut) {
            set(tls, "client", "crls", vec![crls]);
        }
    };
    faulty(lab, edit, &["tls.client.crls", "sub.pem"])
}

fn a_crl_that_is_stale_is_warned_of(lab: &mut Lab) -> Result<()> {
    lab.pki().publish_crls(Validity::days(-30, -1))?;
    let finished = lab.at_edge(&lab.files().config(), &["check"]);
    lab.pki().publish_crls(Validity::days(-1, 30))?;
    let finished = finished?;
    ensure!(finished.code == Some(0), "{}", finished.said());
    for word in ["warning: ", "tls.client.crls", "CN=Lab Authentication"] {
        ensure!(
            finished.stdout.contains(word),
            "{word} is not named: {}",
            finished.said()
        );
    }
    Ok(())
}

fn a_cidr_with_host_bits_is_named(lab: &mut Lab) -> Result<()> {
    faulty(
        lab,
        |table| set_source(table, "10.0.0.1/8"),
        &["filter.source[0].cidr", "10.0.0.1/8", "10.0.0.0/8"],
    )
}

fn two_systems_with_one_asid_are_named(lab: &mut Lab) -> Result<()> {
    let registry = fs::read_to_string(lab.files().registry())?;
    let path = written(
        lab,
        "twice.toml",
        registry.replace("200000000102", "200000000101").as_bytes(),
    )?;
    let config = altered(lab, |table| set(table, "registry", "file", path.as_str()))?;
    let finished = lab.at_edge(&config, &["check"])?;
    names(&finished, &["on line 3"])?;
    ensure!(
        finished.stdout.starts_with(&format!(
            "error: system[1].asid: 200000000101 is already the ASID of the system on line 3\n  --> {path}:10:1\n"
        )),
        "{}",
        finished.said()
    );
    Ok(())
}

fn an_interface_that_does_not_exist_is_named(lab: &mut Lab) -> Result<()> {
    faulty(
        lab,
        |table| set(table, "filter", "interfaces", vec!["eth9"]),
        &["filter.interfaces", "eth9"],
    )
}

fn an_interface_with_another_xdp_program_is_left_alone_and_the_program_named(lab: &mut Lab) -> Result<()> {
    let id = at(&lab.agent().json(&["status"])?, "/interfaces/0/program_id").to_string();
    // With other pins the running agent's program is a stranger's to this configuration.
    let pins = format!("{}-other", lab.pins().display());
    let edit = |table: &mut Table| {
        set(table, "filter", "pin_dir", pins.clone());
        elsewhere(lab, table);
    };
    faulty(lab, edit, &[INTERFACE, &id])?;
    let finished = lab.at_edge(&altered(lab, edit)?, &["run"])?;
    let remains = fs::exists(&pins)?;
    if remains {
        fs::remove_dir_all(&pins)?;
    }
    names(&finished, &[INTERFACE, &id])?;
    ensure!(!remains, "{pins} was left behind");
    let now = at(&lab.agent().json(&["status"])?, "/interfaces/0/program_id").to_string();
    ensure!(now == id, "program {id} was replaced by {now}");
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Silence,
        "the filter is open"
    );
    Ok(())
}

fn a_pin_folder_that_is_not_on_bpffs_is_named(lab: &mut Lab) -> Result<()> {
    let pins = lab.files().folder().join("pins").to_string_lossy().into_owned();
    faulty(
        lab,
        |table| set(table, "filter", "pin_dir", pins),
        &["filter.pin_dir", "mount -t bpf"],
    )
}

fn a_kernel_without_btf_is_named(lab: &mut Lab) -> Result<()> {
    let run = Run::inside(&lab.network().namespace(Host::Edge), "unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs none /sys/kernel/btf && exec \"$@\"")
        .arg("sh")
        .arg(lab.binary())
        .arg("--config")
        .arg(lab.files().config())
        .arg("check");
    names(&run.output()?, &["filter.mode", "BTF", "CONFIG_DEBUG_INFO_BTF"])
}

fn a_port_in_use_is_named(lab: &mut Lab) -> Result<()> {
    let edit = |table: &mut Table| {
        set(table, "filter", "mode", "off");
        elsewhere(lab, table);
    };
    let finished = lab.at_edge(&altered(lab, edit)?, &["run"])?;
    names(&finished, &[&lab.gateway(Family::V4).to_string(), "in use"])
}

fn a_port_of_the_metrics_in_use_is_named(lab: &mut Lab) -> Result<()> {
    // The record locator's.
    let edit = |table: &mut Table| {
        elsewhere(lab, table);
        set(table, "filter", "mode", "off");
        set(table, "listen", "addresses", vec!["127.0.0.1:4443"]);
        table.insert("metrics".into(), toml::toml! { listen = "127.0.0.1:8080" }.into());
    };
    faulty(lab, edit, &["metrics.listen", "127.0.0.1:8080", "in use"])
}

fn text_that_is_no_toml_is_named_with_its_line(lab: &mut Lab) -> Result<()> {
    let path = written(lab, "torn.toml", b"[filter]\nmode = \"enforce\ninterfaces = []\n")?;
    let finished = lab.at_edge(path.as_ref(), &["check"])?;
    names(&finished, &["torn.toml:2:"])
}

fn a_configuration_that_is_not_there_is_named(lab: &mut Lab) -> Result<()> {
    let finished = lab.at_edge(&lab.files().folder().join("nowhere.toml"), &["check"])?;
    names(&finished, &["nowhere.toml"])
}

fn every_faulty_value_of_a_file_is_reported_at_once(lab: &mut Lab) -> Result<()> {
    let edit = |table: &mut Table| {
        set(table, "filter", "mod", "enforce");
        set(table, "gateway", "asid", "12");
        set(table, "verdict", "ttl", "soon");
        set_source(table, "10.0.0.1/8");
    };
    faulty(
        lab,
        edit,
        &[
            "filter.mod",
            "gateway.asid",
            "verdict.ttl",
            "filter.source[0].cidr",
        ],
    )
}

fn everything_that_a_file_names_in_vain_is_reported_at_once(lab: &mut Lab) -> Result<()> {
    let edit = |table: &mut Table| {
        set(table, "filter", "interfaces", vec!["eth9"]);
        set(table, "tls", "private_key", "absent.key");
        set(table, "registry", "file", "absent.toml");
    };
    faulty(lab, edit, &["eth9", "absent.key", "absent.toml"])
}

fn a_faulty_configuration_starts_nothing(lab: &mut Lab) -> Result<()> {
    lab.stop_agent()?;
    let config = altered(lab, |table| set(table, "gateway", "asid", "12"))?;
    let finished = lab.at_edge(&config, &["run"])?;
    let silent = lab.client(Host::Ssp).knock()?;
    lab.start_agent()?;
    ensure!(
        finished.code == Some(2),
        "{:?}: {}",
        finished.code,
        finished.said()
    );
    names(&finished, &["gateway.asid"])?;
    ensure!(silent == Knock::Refused, "something listens: {}", silent.as_str());
    let answer = lab
        .client(Host::Ssp)
        .answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
    ensure!(answer.status == 200, "{answer}");
    Ok(())
}

/// `check` refuses the lab's configuration after this change, and names the file and these things.
fn faulty(lab: &Lab, edit: impl FnOnce(&mut Table), words: &[&str]) -> Result<()> {
    let config = altered(lab, edit)?;
    let finished = lab.at_edge(&config, &["check"])?;
    ensure!(
        finished.code == Some(2),
        "{:?}: {}",
        finished.code,
        finished.said()
    );
    names(&finished, words)
}

fn names(finished: &Finished, words: &[&str]) -> Result<()> {
    let said = finished.said();
    ensure!(!finished.timed_out, "`{}` did not end: {said}", finished.command);
    ensure!(
        finished
            .code
            .is_some_and(|code| code == 1 || code == 2 || code == 4),
        "{:?}: {said}",
        finished.code
    );
    for word in words {
        ensure!(said.contains(word), "{word} is not named: {said}");
    }
    Ok(())
}

/// A copy of the lab's configuration with a change.
fn altered(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<PathBuf> {
    let mut table: Table = toml::from_str(&fs::read_to_string(lab.files().config())?)?;
    edit(&mut table);
    Ok(written(lab, "altered.toml", toml::to_string(&table)?.as_bytes())?.into())
}

fn written(lab: &Lab, name: &str, bytes: &[u8]) -> Result<String> {
    let path = lab.files().folder().join(name);
    fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

/// Another socket, audit log and sources file than the running agent's.
fn elsewhere(lab: &Lab, table: &mut Table) {
    let path = |name: &str| lab.files().folder().join(name).to_string_lossy().into_owned();
    set(table, "control", "socket", path("other.sock"));
    set(table, "audit", "file", path("other.jsonl"));
    set(table, "filter", "sources_file", path("other.json"));
}

fn set(table: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    if let Some(section) = table.get_mut(section).and_then(Value::as_table_mut) {
        section.insert(key.to_owned(), value.into());
    }
}

fn set_source(table: &mut Table, cidr: &str) {
    let source = table
        .get_mut("filter")
        .and_then(|filter| filter.get_mut("source")?.get_mut(0));
    if let Some(source) = source.and_then(Value::as_table_mut) {
        source.insert("cidr".to_owned(), cidr.into());
    }
}
