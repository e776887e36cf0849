//! The audit log from outside: it is a chain through rotation, restart and takeover, what somebody does to it is found, a
//! decision is found by its id, and what can't be recorded is not answered.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER, pointer},
    command::{Finished, Run},
    expect::{allowed, created, serves},
    json::at,
    lab::{CONSUMER, Lab, PROVIDER, System, UNKNOWN_ASID, open_limits},
    netns::Host,
    small_disk::SmallDisk,
    suite::Suite,
    wait::wait_until,
};
use toml::Table;

fn main() -> ExitCode {
    Suite {
        name: "audit",
        edit: open_limits,
        tests: spinegate_tests::tests![
            the_log_of_a_lab_is_sound_and_signed_at_the_stop,
            what_somebody_does_to_the_log_is_found_and_named,
            rotation_and_takeover_keep_the_chain,
            a_decision_is_found_by_the_id_that_its_client_has,
            what_can_not_be_recorded_is_not_answered,
            on_the_disk_before_the_answer,
            in_the_journal_too_or_there_alone,
        ],
    }
    .run()
}

fn the_log_of_a_lab_is_sound_and_signed_at_the_stop(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    allowed(lab, &Message::read(&id).from(&CONSUMER), 200)?;
    lab.stop_agent()?;
    let found = verified(lab, &[])?;
    lab.start_agent()?;
    ensure!(*at(&found, "/faults") == Value::Array(Vec::new()), "{found}");
    let number = |key: &str| at(&found, key).as_u64().context("no number");
    ensure!(
        number("/checkpoints")? >= 1 && number("/signed_until")? + 1 == number("/last")?,
        "{found}"
    );
    Ok(())
}

fn what_somebody_does_to_the_log_is_found_and_named(lab: &mut Lab) -> Result<()> {
    created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    lab.stop_agent()?;
    let (log, copy) = (lab.files().audit(), lab.files().folder().join("copy.jsonl"));
    let text = fs::read_to_string(&log)?;
    let line = text.lines().position(|line| line.contains("\"status\":201"));
    let line = line.context("the create is not in the log")?;
    type Tamper = fn(&mut Vec<&str>, usize);
    let cases: [(&str, Tamper, u64); 3] = [
        (
            "missing",
            |lines, at| {
                lines.remove(at);
            },
            1,
        ),
        (
            "out_of_order",
            |lines, at| {
                let twice = lines.get(at).copied();
                lines.splice(at..at, twice);
            },
            2,
        ),
        (
            "foreign",
            |lines, at| lines.insert(at, "{\"event\":\"request\"}"),
            1,
        ),
    ];
    for (fault, tamper, after) in cases {
        let mut lines: Vec<&str> = text.lines().collect();
        tamper(&mut lines, line);
        fs::write(&copy, lines.join("\n") + "\n")?;
        let (finished, found) = verify(lab, &log, &copy)?;
        ensure!(
            finished.code == Some(1)
                && at(&found, "/faults/0/fault") == fault
                && *at(&found, "/faults/0/line") == line as u64 + after,
            "{fault}: {found}"
        );
    }
    fs::write(&copy, text.replacen("\"status\":201", "\"status\":200", 1))?;
    let (_, found) = verify(lab, &log, &copy)?;
    ensure!(at(&found, "/faults/0/fault") == "changed", "{found}");
    // The end that is cut off is known from what the agent noted.
    let shorter: Vec<&str> = text.lines().take(line).collect();
    fs::write(&copy, shorter.join("\n") + "\n")?;
    fs::copy(with(&log, ".head"), with(&copy, ".head"))?;
    let (_, found) = verify(lab, &log, &copy)?;
    ensure!(at(&found, "/faults/0/fault") == "truncated", "{found}");
    lab.start_agent()
}

fn rotation_and_takeover_keep_the_chain(lab: &mut Lab) -> Result<()> {
    let log = lab.files().audit();
    serves(lab)?;
    fs::rename(&log, with(&log, ".1"))?;
    lab.agent().order(&["reload"])?;
    serves(lab)?;
    lab.take_over()?;
    serves(lab)?;
    lab.stop_agent()?;
    lab.start_agent()?;
    serves(lab)?;
    // The one before the takeover may still write its last lines.
    wait_until("the log is sound", Duration::from_secs(5), || {
        Ok(*at(&verified(lab, &[])?, "/faults") == Value::Array(Vec::new()))
    })?;
    let found = verified(lab, &[])?;
    ensure!(*at(&found, "/first") == 1, "{found}");
    Ok(())
}

fn a_decision_is_found_by_the_id_that_its_client_has(lab: &mut Lab) -> Result<()> {
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    let message = Message::search(NHS_NUMBER).from(&unknown);
    let answer = lab.client(Host::Ssp).answer(&message)?;
    let id = answer.header("x-request-id").context("no X-Request-Id")?;
    let search = |arguments: &[&str]| -> Result<Finished> {
        let config = lab.files().config();
        lab.at_edge(&config, &[&["audit", "search"], arguments].concat())
    };
    let found = search(&["--decision", id, "--json"])?;
    let line: Value = serde_json::from_str(&found.stdout).context("not one line of JSON")?;
    ensure!(at(&line, "/reason") == "asid_unknown", "{line}");
    let told = search(&["--asid", UNKNOWN_ASID, "--since", "1m"])?;
    ensure!(
        told.code == Some(0) && told.stdout.contains("asid_unknown") && told.stdout.contains(id),
        "{}",
        told.said()
    );
    let nothing = search(&["--decision", "ffffffff-0000", "--until", "2020-01-01T00:00:00Z"])?;
    ensure!(nothing.code == Some(1), "{}", nothing.said());
    Ok(())
}

fn what_can_not_be_recorded_is_not_answered(lab: &mut Lab) -> Result<()> {
    let before = set(lab, &[])?;
    let disk = SmallDisk::under(lab)?;
    serves(lab)?;
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    disk.fill()?;
    let rows = lab.database().pointers()?;
    for message in [
        Message::read(&id).from(&CONSUMER),
        Message::search(NHS_NUMBER).from(&CONSUMER),
    ] {
        let answer = lab.client(Host::Ssp).answer(&message)?;
        ensure!(
            answer.status == 500 && !answer.body.contains("DocumentReference\""),
            "{message}: {answer}: {}",
            answer.body
        );
    }
    ensure!(lab.database().pointers()? == rows);
    let said = lab.agent_process()?.log()?;
    ensure!(said.contains("the answer is withheld"), "{said}");
    disk.make_room()?;
    allowed(lab, &Message::read(&id).from(&CONSUMER), 200)?;
    let (_, found) = verify(lab, &disk.log(), &disk.log())?;
    ensure!(*at(&found, "/faults") == Value::Array(Vec::new()), "{found}");

    restart_with(lab, before)
}

fn on_the_disk_before_the_answer(lab: &mut Lab) -> Result<()> {
    let before = set(lab, &[("durability", "fsync".into())])?;
    lab.stop_agent()?;
    lab.start_agent()?;
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    allowed(lab, &Message::read(&id).from(&CONSUMER), 200)?;
    let said = lab.agent_process()?.log()?;
    ensure!(!said.contains("could not be recorded"), "{said}");
    restart_with(lab, before)
}

fn in_the_journal_too_or_there_alone(lab: &mut Lab) -> Result<()> {
    let before = set(lab, &[("output", "both".into())])?;
    let journal = Journal::open(lab)?;
    lab.stop_agent()?;
    start_with(lab, &journal)?;
    let mark = lab.audit().mark()?;
    created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    let line = lab
        .audit()
        .requests(mark)?
        .pop()
        .context("nothing is in the file")?;
    let entry = journal.entry_of(at(&line, "/decision_id").as_str().unwrap_or_default())?;
    ensure!(
        entry.contains(&format!("\nSPINEGATE_SEQ={}\n", at(&line, "/seq"))),
        "{entry}"
    );
    ensure!(
        entry.starts_with("SYSLOG_IDENTIFIER=spinegate-audit\n"),
        "{entry}"
    );
    ensure!(entry.contains("\nMESSAGE={\"ts\":"), "{entry}");

    set(lab, &[("output", "journald".into())])?;
    lab.stop_agent()?;
    start_with(lab, &journal)?;
    let mark = lab.audit().mark()?;
    let message = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
    let answer = allowed(lab, &message, 201)?;
    let id = answer.header("x-request-id").context("no id")?.to_owned();
    journal.entry_of(&id)?;
    ensure!(lab.audit().mark()? == mark, "the file has it too");

    // What the journal does not take is answered as what a full disk does not take.
    journal.close()?;
    let answer = lab.client(Host::Ssp).answer(&message)?;
    ensure!(answer.status == 500, "{answer}");
    restart_with(lab, before)
}

/// Stands where systemd's journal would.
struct Journal {
    folder: PathBuf,
    entries: mpsc::Receiver<String>,
}

impl Journal {
    fn open(lab: &Lab) -> Result<Self> {
        let folder = lab.files().folder().join("journal");
        fs::create_dir_all(&folder)?;
        let socket = UnixDatagram::bind(folder.join("socket"))?;
        let (tell, entries) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(length) = socket.recv(&mut bytes) {
                let entry = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
                if entry == END || tell.send(entry).is_err() {
                    return;
                }
            }
        });
        Ok(Self { folder, entries })
    }

    fn entry_of(&self, decision: &str) -> Result<String> {
        let wanted = format!("\nSPINEGATE_DECISION_ID={decision}\n");
        loop {
            let entry = self
                .entries
                .recv_timeout(Duration::from_secs(10))
                .with_context(|| format!("no entry has {decision}"))?;
            if entry.contains(&wanted) {
                return Ok(entry);
            }
        }
    }

    fn close(self) -> Result<()> {
        let path = self.folder.join("socket");
        UnixDatagram::unbound()?.send_to(END.as_bytes(), &path)?;
        Ok(fs::remove_file(path)?)
    }
}

const END: &str = "END";

/// Starts the agent where the journal's socket is that of the test: in a mount namespace with a `/run` of its own.
fn start_with(lab: &mut Lab, journal: &Journal) -> Result<()> {
    let script =
        "mount -t tmpfs none /run && mkdir /run/systemd && ln -s \"$0\" /run/systemd/journal && exec \"$@\"";
    let run = Run::inside(&lab.network().namespace(Host::Edge), "unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(&journal.folder)
        .arg(lab.binary())
        .arg("--config")
        .arg(lab.files().config())
        .arg("run");
    lab.start_agent_by(&run)
}

/// Changes `[audit]`, and gives what it was.
fn set(lab: &Lab, keys: &[(&str, toml::Value)]) -> Result<Table> {
    let mut before = None;
    lab.configure(|table| {
        if let Some(toml::Value::Table(audit)) = table.get_mut("audit") {
            before = Some(audit.clone());
            let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
            audit.extend(Table::from_iter(keys));
        }
    })?;
    before.context("no [audit]")
}

fn restart_with(lab: &mut Lab, audit: Table) -> Result<()> {
    lab.stop_agent()?;
    lab.configure(|table| drop(table.insert("audit".to_owned(), audit.into())))?;
    lab.start_agent()?;
    serves(lab)
}

/// What `spinegate audit verify` says of the configuration's log.
fn verified(lab: &Lab, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["audit", "verify", "--json"], arguments].concat();
    let finished = lab.at_edge(&lab.files().config(), &arguments)?;
    serde_json::from_str(&finished.stdout).with_context(|| finished.said())
}

/// What it says of a file, with the key of a log.
fn verify(lab: &Lab, log: &Path, file: &Path) -> Result<(Finished, Value)> {
    let key = with(log, ".key.pub").display().to_string();
    let file = file.display().to_string();
    let arguments = ["audit", "verify", "--json", "--key", &key, &file];
    let finished = lab.at_edge(&lab.files().config(), &arguments)?;
    let found = serde_json::from_str(&finished.stdout).with_context(|| finished.said())?;
    Ok((finished, found))
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
