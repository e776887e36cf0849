//! The process that holds the filter and the one that serves the network: what each may, and what becomes of the filter when
//! one of them dies or is in wrong hands.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use spinegate_tests::{
    client::Knock,
    command::Run,
    expect::{serves, silent},
    json::at,
    lab::{Lab, filter, section},
    netns::Host,
    suite::Suite,
    wait::{wait_for, wait_until},
};
use toml::{Table, Value};

/// The worker's user. It need not have a name.
const WORKER: u32 = 54_310;
/// Who has nothing to do with the agent.
const OTHER: u32 = 54_311;
/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF.
const KEEPERS: u64 = 1 << 12 | 1 << 38 | 1 << 39;
const SOON: Duration = Duration::from_secs(10);
const REFUSED: i32 = 1;

fn main() -> ExitCode {
    Suite {
        name: "keeper",
        edit: run_as_worker,
        tests: spinegate_tests::tests![
            the_worker_has_no_capability_and_the_keeper_three,
            the_worker_holds_nothing_of_the_filter,
            a_worker_with_nothing_serves_and_denies_from_the_next_packet_on,
            nobody_has_the_filter_detached_through_the_worker_alone,
            nobody_adds_a_source_through_the_worker_alone,
            a_worker_that_is_killed_takes_nothing_with_it,
            a_keeper_that_is_killed_ends_the_agent_loudly_and_takes_nothing_with_it,
            a_kill_in_the_midst_of_a_policys_swap_opens_no_gate,
            a_reload_that_reaches_beyond_the_sandbox_is_refused_with_the_mend,
            a_successor_takes_over_with_a_keeper_of_its_own,
            a_file_that_the_workers_user_may_not_read_is_named_with_the_mend,
            a_configuration_that_the_worker_could_write_is_refused,
        ],
    }
    .run()
}

/// The worker has a user of its own, who may read the key, and a folder for the audit log that the agent makes for it.
fn run_as_worker(table: &mut Table) {
    section(table, "run").insert("user".to_owned(), Value::Integer(WORKER.into()));
    let audit = section(table, "audit");
    let file = audit.get("file").and_then(Value::as_str).unwrap_or_default();
    let folder = Path::new(file).with_file_name("audit");
    audit.insert(
        "file".to_owned(),
        folder.join("audit.jsonl").display().to_string().into(),
    );
    let key = section(table, "tls").get("private_key").and_then(Value::as_str);
    if let Some(key) = key {
        // As an operator would; the start says so if it was not done.
        let _ = chown(key, None, Some(WORKER));
        let _ = fs::set_permissions(key, fs::Permissions::from_mode(0o640));
    }
}

fn the_worker_has_no_capability_and_the_keeper_three(lab: &mut Lab) -> Result<()> {
    let (worker, keeper) = processes(lab)?;
    let threads = fs::read_dir(format!("/proc/{worker}/task"))?;
    let mut count = 0;
    for thread in threads {
        let status = status(&thread?.path())?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            ensure!(capabilities(&status, set)? == 0, "{set}: {status:?}");
        }
        for (field, wanted) in [("Uid", WORKER), ("Gid", WORKER)] {
            let ids = status.get(field).context("no ids")?;
            ensure!(
                ids.split_whitespace().all(|id| id == wanted.to_string()),
                "{field}: {ids}"
            );
        }
        ensure!(
            status.get("NoNewPrivs").is_some_and(|value| value == "1"),
            "{status:?}"
        );
        ensure!(
            status.get("Seccomp").is_some_and(|value| value == "2"),
            "{status:?}"
        );
        count += 1;
    }
    ensure!(count > 2, "only {count} threads were looked at");
    let keeper = status(Path::new(&format!("/proc/{keeper}")))?;
    for (set, wanted) in [
        ("CapPrm", KEEPERS),
        ("CapEff", KEEPERS),
        ("CapInh", 0),
        ("CapAmb", 0),
    ] {
        ensure!(capabilities(&keeper, set)? == wanted, "{set}: {keeper:?}");
    }
    ensure!(
        keeper.get("NoNewPrivs").is_some_and(|value| value == "1"),
        "{keeper:?}"
    );
    ensure!(
        keeper.get("Threads").is_some_and(|value| value == "1"),
        "{keeper:?}"
    );
    Ok(())
}

fn the_worker_holds_nothing_of_the_filter(lab: &mut Lab) -> Result<()> {
    let (worker, keeper) = processes(lab)?;
    let held = |pid: u32| -> Result<Vec<String>> {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?;
        let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
        Ok(targets.map(|target| target.display().to_string()).collect())
    };
    let of_bpf = |targets: &[String]| targets.iter().filter(|target| target.contains("bpf")).count();
    ensure!(of_bpf(&held(keeper)?) > 5, "{:?}", held(keeper)?);
    ensure!(of_bpf(&held(worker)?) == 0, "{:?}", held(worker)?);
    // And the keeper holds nothing of the network: its standard descriptors, the worker's end, the operators' socket.
    let sockets = held(keeper)?;
    let sockets = sockets
        .iter()
        .filter(|target| target.starts_with("socket:"))
        .count();
    ensure!(sockets <= 3, "{:?}", held(keeper)?);
    Ok(())
}

fn a_worker_with_nothing_serves_and_denies_from_the_next_packet_on(lab: &mut Lab) -> Result<()> {
    serves(lab)?;
    let system = lab.client(Host::System).address();
    lab.agent().order(&["verdicts", "add", &system, "--ttl", "10m"])?;
    ensure!(lab.client(Host::System).knock()? == Knock::Silence);
    lab.agent().order(&["verdicts", "remove", &system])?;
    ensure!(lab.client(Host::System).knock()? == Knock::Opened);
    let audit = lab.files().folder().join("audit/audit.jsonl");
    ensure!(
        fs::metadata(&audit)?.uid() == WORKER,
        "{} is not the worker's",
        audit.display()
    );
    lab.agent().order(&["reload"]).map(drop)
}

fn nobody_has_the_filter_detached_through_the_worker_alone(lab: &mut Lab) -> Result<()> {
    // What a worker in wrong hands would say to the keeper: an order that no operator has announced.
    let (status, said) = post(lab, "detach", "{}")?;
    ensure!(
        status != 200 && said.contains("no operator has announced"),
        "{status} {said}"
    );
    silent(lab)?;
    // Neither the worker's user nor a stranger can announce one.
    for user in [WORKER, OTHER] {
        let said = lab.announce(user, r#"{"order":"detach"}"#)?;
        ensure!(said.contains("may not order this"), "user {user}: {said:?}");
    }
    let (status, said) = post(lab, "detach", "{}")?;
    ensure!(status != 200, "{said}");
    silent(lab)?;
    // An operator can, and his order serves once.
    lab.agent().order(&["detach"])?;
    lab.agent().order(&["attach"])?;
    let (status, said) = post(lab, "detach", "{}")?;
    ensure!(status != 200, "an announcement was used again: {said}");
    silent(lab)
}

fn nobody_adds_a_source_through_the_worker_alone(lab: &mut Lab) -> Result<()> {
    let stranger = format!("{}/32", Host::Stranger.v4());
    let order = format!(r#"{{"cidr":"{stranger}","name":"forged","kind":"system"}}"#);
    let (status, said) = post(lab, "sources", &order)?;
    ensure!(
        status != 200 && said.contains("no operator has announced"),
        "{status} {said}"
    );
    silent(lab)?;
    // What is announced opens nothing else.
    let announced = r#"{"order":"sources_add","cidr":"192.0.2.0/24","name":"guest","kind":"system"}"#;
    lab.announce(0, announced)?;
    let (status, said) = post(lab, "sources", &order)?;
    ensure!(status != 200, "{said}");
    silent(lab)?;
    lab.agent()
        .order(&["sources", "add", "192.0.2.0/24", "--name", "guest"])?;
    lab.agent().order(&["sources", "remove", "192.0.2.0/24"])?;
    // Its file is not the worker's, either.
    let file = fs::metadata(lab.files().sources())?;
    ensure!(file.uid() == 0 && file.mode() & 0o022 == 0, "{file:?}");
    Ok(())
}

fn a_worker_that_is_killed_takes_nothing_with_it(lab: &mut Lab) -> Result<()> {
    let (_, keeper) = processes(lab)?;
    let system = lab.client(Host::System).address();
    lab.agent().order(&["verdicts", "add", &system, "--ttl", "10m"])?;
    lab.kill_agent()?;
    wait_until("the keeper to end", SOON, || Ok(!is_alive(keeper)))?;
    silent(lab)?;
    ensure!(
        lab.client(Host::System).knock()? == Knock::Silence,
        "the verdict is no longer in force"
    );
    lab.start_agent()?;
    lab.agent().order(&["verdicts", "remove", &system])?;
    serves(lab)
}

fn a_keeper_that_is_killed_ends_the_agent_loudly_and_takes_nothing_with_it(lab: &mut Lab) -> Result<()> {
    let (_, keeper) = processes(lab)?;
    let system = lab.client(Host::System).address();
    lab.agent().order(&["verdicts", "add", &system, "--ttl", "10m"])?;
    kill(Pid::from_raw(i32::try_from(keeper)?), Signal::SIGKILL)?;
    let log = lab.files().log(lab.agent_process()?.name());
    let ended = lab.agent_ended(SOON);
    let ended = ended.err().context("the agent ended as if all were well")?;
    ensure!(format!("{ended:#}").contains("exit status: 1"), "{ended:#}");
    ensure!(
        fs::read_to_string(log)?.contains("the filter's keeper (process"),
        "the agent does not say why it ends"
    );
    silent(lab)?;
    ensure!(lab.client(Host::System).knock()? == Knock::Silence);
    lab.start_agent()?;
    lab.agent().order(&["verdicts", "remove", &system])?;
    serves(lab)
}

fn a_kill_in_the_midst_of_a_policys_swap_opens_no_gate(lab: &mut Lab) -> Result<()> {
    let list = lab.files().folder().join("networks.txt");
    let networks = |third: u8| -> String {
        let hosts = (0..=u8::MAX).flat_map(|b| (0..32_u8).map(move |c| (b, c)));
        hosts.map(|(b, c)| format!("172.{third}.{b}.{c}\n")).collect()
    };
    fs::write(&list, networks(16))?;
    lab.reconfigure(|table| {
        let entry = toml::toml! {
            name = "many"
        };
        let mut entry = entry;
        entry.insert("file".to_owned(), list.display().to_string().into());
        filter(table).insert("source_list".to_owned(), vec![entry].into());
    })?;
    for (round, wait) in [10, 60, 150].into_iter().enumerate() {
        fs::write(&list, networks(17 + u8::try_from(round)?))?;
        let (_, keeper) = processes(lab)?;
        let agent = lab.agent();
        let reloading = thread::spawn(move || agent.output(&["reload"]));
        thread::sleep(Duration::from_millis(wait));
        kill(Pid::from_raw(i32::try_from(keeper)?), Signal::SIGKILL)?;
        silent(lab)?;
        ensure!(lab.agent_ended(SOON).is_err());
        let _ = reloading.join();
        silent(lab)?;
        lab.start_agent()?;
        silent(lab)?;
        serves(lab)?;
    }
    lab.reconfigure(|table| {
        filter(table).remove("source_list");
    })?;
    serves(lab)
}

fn a_reload_that_reaches_beyond_the_sandbox_is_refused_with_the_mend(lab: &mut Lab) -> Result<()> {
    let elsewhere = tempfile::tempdir()?;
    let was = fs::read_to_string(lab.files().config())?;
    let certificate = elsewhere.path().join("server.pem");
    lab.configure(|table| {
        let tls = section(table, "tls");
        let old = tls.insert("certificate".to_owned(), certificate.display().to_string().into());
        if let Some(old) = old.as_ref().and_then(Value::as_str) {
            let _ = fs::copy(old, &certificate);
        }
    })?;
    let finished = lab.agent().output(&["reload"])?;
    fs::write(lab.files().config(), was)?;
    ensure!(
        finished.code != Some(0)
            && finished.said().contains(&elsewhere.path().display().to_string())
            && finished.said().contains("restart the agent"),
        "{}",
        finished.said()
    );
    lab.agent().order(&["reload"])?;
    serves(lab)
}

fn a_successor_takes_over_with_a_keeper_of_its_own(lab: &mut Lab) -> Result<()> {
    let (_, old) = processes(lab)?;
    lab.take_over()?;
    wait_until("the old keeper to end", SOON, || Ok(!is_alive(old)))?;
    let (worker, _) = processes(lab)?;
    let status = status(Path::new(&format!("/proc/{worker}")))?;
    ensure!(capabilities(&status, "CapEff")? == 0, "{status:?}");
    silent(lab)?;
    serves(lab)?;
    // The operators' socket is the new one's.
    lab.agent().order(&["detach"])?;
    lab.agent().order(&["attach"]).map(drop)
}

fn a_file_that_the_workers_user_may_not_read_is_named_with_the_mend(lab: &mut Lab) -> Result<()> {
    lab.stop_agent()?;
    let config: Table = toml::from_str(&fs::read_to_string(lab.files().config())?)?;
    let key = config.get("tls").and_then(|tls| tls.get("private_key"));
    let key = key.and_then(Value::as_str).context("no key")?;
    fs::set_permissions(key, fs::Permissions::from_mode(0o600))?;
    let finished = lab.at_edge(&lab.files().config(), &["run"])?;
    fs::set_permissions(key, fs::Permissions::from_mode(0o640))?;
    ensure!(finished.code == Some(REFUSED), "{}", finished.said());
    for words in [key, &WORKER.to_string(), "chmod g+r"] {
        ensure!(finished.said().contains(words), "{words}: {}", finished.said());
    }
    silent(lab)?;
    lab.start_agent()?;
    serves(lab)
}

fn a_configuration_that_the_worker_could_write_is_refused(lab: &mut Lab) -> Result<()> {
    let files = [lab.files().config(), lab.files().sources()];
    for file in files.iter().filter(|file| file.exists()) {
        chown(file, Some(WORKER), None)?;
        let finished = lab.agent().output(&["reload"])?;
        chown(file, Some(0), None)?;
        ensure!(
            finished.code == Some(REFUSED)
                && finished.said().contains(&file.display().to_string())
                && finished.said().contains("chown root"),
            "{}",
            finished.said()
        );
    }
    lab.agent().order(&["reload"])?;
    serves(lab)
}

/// The worker and its keeper.
fn processes(lab: &Lab) -> Result<(u32, u32)> {
    let status = lab.agent().json(&["status"])?;
    let worker = at(&status, "/pid").as_u64().context("no pid")?;
    let worker = u32::try_from(worker)?;
    let keeper = wait_for("the keeper", SOON, || Ok(child_of(worker)))?;
    Ok((worker, keeper))
}

fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let status = status(&process.path()).ok()?;
        (status.get("PPid")? == &parent.to_string()).then_some(pid)
    })
}

fn is_alive(pid: u32) -> bool {
    status(Path::new(&format!("/proc/{pid}")))
        .is_ok_and(|status| status.get("State").is_some_and(|state| !state.starts_with('Z')))
}

fn status(process: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(process.join("status"))?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Ok(fields
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect())
}

fn capabilities(status: &BTreeMap<String, String>, set: &str) -> Result<u64> {
    let set = status.get(set).with_context(|| format!("no {set}"))?;
    Ok(u64::from_str_radix(set, 16)?)
}

/// An order to the worker as root, which no keeper has heard of: status and body.
fn post(lab: &Lab, path: &str, body: &str) -> Result<(u16, String)> {
    let printed = Run::new("curl")
        .args(["-sS", "-w", "\n%{http_code}", "--unix-socket"])
        .arg(lab.files().socket())
        .args([&format!("http://x/v1/{path}"), "--json", body])
        .success()?;
    let (said, status) = printed.rsplit_once('\n').context("curl prints no status")?;
    Ok((status.parse()?, said.to_owned()))
}
