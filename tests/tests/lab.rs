//! The lab itself: its contract, and that it leaves nothing behind however it ends.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER},
    command::{Finished, Run},
    json::at,
    lab::{CONSUMER, Lab},
    netns::{Host, Network},
    suite::Suite,
    wait::wait_until,
};

fn main() -> ExitCode {
    Suite {
        name: "lab",
        edit: |_| {},
        tests: spinegate_tests::tests![
            the_record_has_exactly_the_agreed_keys,
            two_labs_at_once_do_not_disturb_each_other,
            down_leaves_nothing_behind,
            down_leaves_nothing_behind_of_a_demo_that_was_killed,
            up_replaces_what_an_agent_that_was_killed_left,
            a_lab_of_another_folder_is_left_alone,
        ],
    }
    .run()
}

fn the_record_has_exactly_the_agreed_keys(lab: &mut Lab) -> Result<()> {
    let record: Value = serde_json::from_str(&fs::read_to_string(lab.files().record())?)?;
    for (pointer, wanted) in [
        (
            "",
            "namespaces edge addresses pki systems gateway_asid upstream binary config socket audit",
        ),
        ("/namespaces", "edge ssp system stranger"),
        ("/edge", "address address6 port interface"),
        ("/addresses", "ssp system stranger"),
        ("/addresses/ssp", "v4 v6"),
        (
            "/pki",
            "root sub server_ca good system wrong_fqdn expired not_yet_valid revoked self_signed rogue other_sub \
             no_client_auth cn_only",
        ),
        ("/pki/good", "cert key"),
        ("/systems/0", "asid ods interactions"),
        ("/upstream", "url database"),
    ] {
        let object = at(&record, pointer)
            .as_object()
            .with_context(|| format!("{pointer} is no object"))?;
        let keys: BTreeSet<&str> = object.keys().map(String::as_str).collect();
        ensure!(
            keys == wanted.split_whitespace().collect(),
            "{pointer} has the keys {keys:?}"
        );
    }
    for pointer in [
        "/binary",
        "/config",
        "/socket",
        "/audit",
        "/upstream/database",
        "/pki/root",
        "/pki/good/cert",
    ] {
        let path = at(&record, pointer).as_str().context("a path is no text")?;
        ensure!(
            Path::new(path).is_absolute() && fs::exists(path)?,
            "{pointer}: {path} is not there"
        );
    }
    Ok(())
}

fn two_labs_at_once_do_not_disturb_each_other(lab: &mut Lab) -> Result<()> {
    let other = Other::beside(lab, "two");
    other.succeed("up")?;
    let search = Message::search(NHS_NUMBER).from(&CONSUMER);
    let answer = lab.client(Host::Ssp).answer(&search)?;
    ensure!(answer.status == 200, "while another lab is up: {answer}");
    ensure!(
        other.run("status")?.code == Some(0),
        "the other lab is not wholly up"
    );
    other.succeed("down")?;
    let answer = lab.client(Host::Ssp).answer(&search)?;
    ensure!(answer.status == 200, "after another lab went down: {answer}");
    Ok(())
}

fn down_leaves_nothing_behind(lab: &mut Lab) -> Result<()> {
    let other = Other::beside(lab, "down");
    other.succeed("up")?;
    ensure!(
        other.remains()?.len() > 6,
        "there is nothing that could be left behind: {:?}",
        other.remains()?
    );
    other.succeed("down")?;
    other.must_be_gone()?;
    ensure!(
        other.run("status")?.code == Some(1),
        "a lab that is down must not be called up"
    );
    other.succeed("down")
}

fn down_leaves_nothing_behind_of_a_demo_that_was_killed(lab: &mut Lab) -> Result<()> {
    let other = Other::beside(lab, "killed");
    let mut demo = other
        .verb("demo")
        .command()
        .stdout(std::process::Stdio::null())
        .spawn()?;
    wait_until("the demo to have its lab up", Duration::from_secs(20), || {
        Ok(other.folder.join("lab.json").exists())
    })?;
    demo.kill()?;
    demo.wait()?;
    ensure!(
        !other.remains()?.is_empty(),
        "the demo left nothing, so this proves nothing"
    );
    other.succeed("down")?;
    other.must_be_gone()
}

fn up_replaces_what_an_agent_that_was_killed_left(lab: &mut Lab) -> Result<()> {
    let other = Other::beside(lab, "again");
    other.succeed("up")?;
    let pid = fs::read_to_string(other.folder.join("agent.pid"))?;
    Run::new("kill").args(["-9", pid.trim()]).success()?;
    ensure!(
        other.run("status")?.code == Some(1),
        "a lab without its agent must not be called up"
    );
    other.succeed("up")?;
    ensure!(
        other.run("status")?.code == Some(0),
        "the lab is not wholly up again"
    );
    other.succeed("down")?;
    other.must_be_gone()
}

fn a_lab_of_another_folder_is_left_alone(lab: &mut Lab) -> Result<()> {
    let other = Other {
        name: lab.name().to_owned(),
        ..Other::beside(lab, "folder")
    };
    for verb in ["up", "down"] {
        let finished = other.run(verb)?;
        ensure!(
            finished.code == Some(1),
            "{verb} took another's lab: {}",
            finished.said()
        );
        ensure!(finished.said().contains(lab.name()), "{}", finished.said());
    }
    let answer = lab
        .client(Host::Ssp)
        .answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
    ensure!(answer.status == 200, "{answer}");
    Ok(())
}

/// A lab beside the suite's own, by the binary as a person uses it.
struct Other {
    name: String,
    folder: PathBuf,
    agent: PathBuf,
}

impl Other {
    fn beside(lab: &Lab, what: &str) -> Self {
        Self {
            name: format!("{}-{what}", lab.name()),
            folder: lab.files().folder().with_extension(what),
            agent: lab.binary().to_owned(),
        }
    }

    fn verb(&self, verb: &str) -> Run {
        Run::new(env!("CARGO_BIN_EXE_spinegate-lab"))
            .args(["--name", &self.name])
            .arg("--dir")
            .arg(&self.folder)
            .arg("--agent")
            .arg(&self.agent)
            .arg(verb)
            .within(Duration::from_secs(30))
    }

    fn run(&self, verb: &str) -> Result<Finished> {
        self.verb(verb).output()
    }

    fn succeed(&self, verb: &str) -> Result<()> {
        self.verb(verb).success().map(drop)
    }

    /// Everything that bears its name.
    fn remains(&self) -> Result<Vec<String>> {
        let mut remains = Network::named(&self.name).present();
        let folder = self.folder.to_string_lossy().into_owned();
        remains.extend(self.folder.exists().then(|| folder.clone()));
        for (parent, start) in [("/sys/fs/bpf", "spinegate-"), ("/run", "spinegate-lab-")] {
            for entry in fs::read_dir(parent)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let ours = name
                    .strip_prefix(start)
                    .is_some_and(|rest| rest.trim_end_matches(".claim") == self.name);
                remains.extend(ours.then(|| format!("{parent}/{name}")));
            }
        }
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path().join("cmdline");
            let command = fs::read(path).unwrap_or_default();
            let ours = String::from_utf8_lossy(&command).contains(&folder);
            remains.extend(ours.then(|| String::from_utf8_lossy(&command).replace('\0', " ")));
        }
        Ok(remains)
    }

    fn must_be_gone(&self) -> Result<()> {
        let remains = self.remains()?;
        ensure!(remains.is_empty(), "left behind: {remains:?}");
        Ok(())
    }
}
