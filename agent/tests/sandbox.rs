//! What can be done from within the worker's sandbox, and what can be had from the keeper by who speaks for the worker. Both
//! are tried by processes of this program's own: a sandbox is of a whole process, and is never left.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects by panicking"
)]

use std::{
    env, fs,
    io::Write as _,
    net::TcpListener,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, SystemTime},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        signal::kill,
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
    unistd::{Pid, Uid, geteuid, getppid, setuid},
};
use spinegate::{
    config::{self, Loaded, Source},
    filter::{self, Filter, NewVerdict, Owner},
    keeper::Keeper,
    sandbox::{self, Reach},
    sources::Sources,
};
use spinegate_common::{Reason, VerdictKind, VerdictOrigin};

/// Without a name.
const WORKER: u32 = 54_320;
const INSIDE: &str = "inside";

type Test = (&'static str, fn());

const TESTS: [Test; 3] = [
    ("a_worker_of_its_own_user_reaches_nothing_but_its_files", || {
        from_within(Some(WORKER))
    }),
    ("a_worker_that_stays_root_reaches_nothing_but_its_files", || {
        from_within(None)
    }),
    ("what_no_operator_has_announced_the_keeper_does_not_do", forge),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    // The keeper is started from the running program.
    if arguments.iter().any(|argument| argument == "keeper") {
        return spinegate::cli::main(arguments);
    }
    if let [_, what, file] = arguments.as_slice()
        && what == INSIDE
    {
        inside(Path::new(file));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str()));
    let tests = TESTS.into_iter().filter(|(name, _)| is_wanted(name));
    if env::args().any(|argument| argument == "--list") {
        tests.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        if !geteuid().is_root() {
            println!("SKIPPED {name}: a sandbox that is entered needs root");
            println!("test {name} ... ignored");
            continue;
        }
        if std::panic::catch_unwind(test).is_ok() {
            println!("test {name} ... ok");
            passed += 1;
        } else {
            println!("test {name} ... FAILED");
            failed += 1;
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A configuration whose filter guards the loopback interface of a namespace of this process's own.
struct Ground {
    folder: tempfile::TempDir,
    pins: PathBuf,
}

impl Ground {
    fn make(test: &str, user: Option<u32>) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        let pins = PathBuf::from("/sys/fs/bpf").join(format!("spinegate-test-{test}"));
        let _ = fs::remove_dir_all(&pins);
        let run = user.map_or_else(String::new, |user| format!("[run]\nuser = {user}\n"));
        let text = format!(
            "{run}[filter]\ninterfaces = [\"lo\"]\nattach = \"generic\"\npin_dir = \"{pins}\"\nmax_sources = 1024\n\
             sources_file = \"{folder}/state/sources.json\"\n\
             [listen]\naddresses = [\"127.0.0.1:443\"]\n\
             [tls]\ncertificate = \"c.pem\"\nprivate_key = \"k.pem\"\n\
             [tls.client]\nroots = [\"r.pem\"]\nissuers = [\"i.pem\"]\nfqdns = [\"a.example.nhs.uk\"]\ncrls = [\"crl.pem\"]\n\
             [gateway]\nprofile = \"locator\"\nasid = \"999999999999\"\nupstream = \"http://127.0.0.1:8080\"\n\
             [registry]\nfile = \"registry.toml\"\n\
             [control]\nsocket = \"{folder}/run/control.sock\"\n\
             [audit]\nfile = \"{folder}/audit/audit.jsonl\"\n",
            pins = pins.display(),
            folder = folder.path().display(),
        );
        fs::write(folder.path().join("spinegate.toml"), text).expect("written");
        for name in ["run", "state"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        fs::write(folder.path().join("state/sources.json"), "[]").expect("written");
        Self { folder, pins }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("spinegate.toml")
    }

    fn load(&self) -> (Loaded, Sources) {
        load(&self.file())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = filter::detach(&self.pins);
        let _ = fs::remove_dir_all(&self.pins);
    }
}

fn load(file: &Path) -> (Loaded, Sources) {
    let loaded = config::load(file).unwrap_or_else(|problems| panic!("{problems:?}"));
    let settings = &loaded.config.filter;
    let sources = Sources::load(settings.sources.clone(), &settings.sources_file).expect("sources");
    (loaded, sources)
}

/// Has a process enter the sandbox, and looks at what it could do there. The filter is as it was.
fn from_within(user: Option<u32>) {
    let ground = Ground::make("sandbox", user);
    let (loaded, sources) = ground.load();
    let settings = &loaded.config.filter;
    let mut filter = Filter::open(settings, &sources.all()).expect("the filter");
    let child = Command::new("/proc/self/exe")
        .arg(INSIDE)
        .arg(ground.file())
        .stdout(Stdio::piped())
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said}");
    let mut tried = 0;
    let no_landlock = said.contains("no Landlock");
    for line in said.lines() {
        let Some((what, outcome)) = line.split_once(" => ") else {
            println!("  {line}");
            continue;
        };
        tried += 1;
        let wanted = if what.starts_with("may ") {
            "done"
        } else {
            "refused"
        };
        if no_landlock && outcome != wanted && user.is_none() {
            println!("SKIPPED {what}: root without Landlock can");
            continue;
        }
        assert!(outcome.starts_with(wanted), "{line}");
    }
    assert!(tried > 15, "{said}");
    assert_eq!(filter.owner(settings, "lo"), Owner::Spinegate);
    assert!(ground.pins.join("links/lo").exists());
}

fn inside(file: &Path) {
    let (loaded, _) = load(file);
    let config = &loaded.config;
    let reach = Reach::of(config, file);
    let unenforced = sandbox::enter_worker(config, &reach).expect("the sandbox");
    for one in unenforced {
        println!("{one}");
    }
    fn tell<T, E: std::fmt::Display>(what: &str, outcome: Result<T, E>) {
        match outcome {
            Ok(_) => println!("{what} => done"),
            Err(error) => println!("{what} => refused: {error}"),
        }
    }
    let (pins, folder) = (&config.filter.pin_dir, file.parent().expect("a folder"));
    tell("looking into the folder of the pins", fs::read_dir(pins));
    tell(
        "removing the pin of a link",
        fs::remove_file(pins.join("links/lo")),
    );
    tell(
        "detaching by the pins",
        filter::detach(pins).and_then(|names| {
            // Where nothing can be seen, nothing was detached.
            if names.is_empty() {
                Err(spinegate::filter::FilterError::NoBtf)
            } else {
                Ok(names)
            }
        }),
    );
    tell(
        "opening a pinned map",
        aya::maps::MapData::from_pin(pins.join("v2/VERDICTS")),
    );
    tell("making a map", aya::maps::Array::<_, u64>::create(1, 0));
    tell("loading the filter anew", Filter::open(&config.filter, &[]));
    tell("starting a program", Command::new("/bin/true").status());
    tell("a user namespace", unshare(CloneFlags::CLONE_NEWUSER));
    tell("a network namespace", unshare(CloneFlags::CLONE_NEWNET));
    tell(
        "becoming root",
        if geteuid().is_root() {
            Err(nix::Error::EPERM)
        } else {
            setuid(Uid::from_raw(0))
        },
    );
    tell("listening on another port", TcpListener::bind("127.0.0.1:0"));
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None);
    tell("a packet socket", raw);
    tell("a signal to the parent", kill(getppid(), None));
    tell("a signal to the first process", kill(Pid::from_raw(1), None));
    // The group has this process, too: a kernel that only scopes signals would let this one pass.
    tell("a signal to the parent's group", kill(Pid::from_raw(0), None));
    tell("may signal itself", kill(Pid::this(), None));
    let (parent, core) = (rustix::process::getppid(), rustix::process::Resource::Core);
    let limit = rustix::process::getrlimit(core);
    tell(
        "the parent's limits",
        rustix::process::prlimit(parent, core, limit),
    );
    tell(
        "may change its own limits",
        rustix::process::setrlimit(core, limit),
    );
    tell(
        "a signal to the parent through a descriptor",
        signal_through(getppid()),
    );
    tell(
        "the parent's memory",
        fs::File::open(format!("/proc/{}/mem", getppid())),
    );
    tell(
        "writing the configuration",
        fs::File::options().append(true).open(file),
    );
    tell(
        "writing the operators' sources",
        fs::File::options().append(true).open(&config.filter.sources_file),
    );
    tell(
        "a file beside the configuration",
        fs::write(folder.join("new.toml"), "x"),
    );
    tell(
        "the passwords of the host",
        fs::File::options().append(true).open("/etc/passwd"),
    );
    tell("the folder of root", fs::read_dir("/root"));
    tell("may read the configuration", fs::read(file));
    tell("may write the audit log", fs::write(&config.audit.file, "x"));
    tell("may read the clock's zone", fs::read_dir("/usr/share"));
    let threaded = std::thread::spawn(|| fs::read_dir("/root").map(drop)).join();
    tell(
        "another thread in the folder of root",
        threaded.expect("a thread"),
    );
    let _ = std::io::stdout().flush();
}

/// Has the kernel signal a process when a socket becomes readable.
fn signal_through(process: Pid) -> nix::Result<i32> {
    let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
    // SAFETY: the call takes a descriptor, which is open, and two numbers.
    nix::errno::Errno::result(unsafe {
        nix::libc::fcntl(socket.as_raw_fd(), nix::libc::F_SETOWN, process.as_raw())
    })
}

/// Speaks to a keeper as a worker in wrong hands would.
fn forge() {
    let ground = Ground::make("keeper", None);
    let (loaded, sources) = ground.load();
    let settings = &loaded.config.filter;
    let keeper = Keeper::start(&ground.file()).expect("a keeper");
    assert!(keeper.open(settings, &sources).expect("the filter"));
    let address = "192.0.2.7/32".parse().expect("an address");
    let refused = |outcome: Result<(), spinegate::keeper::KeeperError>, words: &str| {
        let error = outcome.expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(keeper.detach().map(drop), "no operator has announced");
    let everybody = Source::new("0.0.0.0/0".parse().expect("a network"), "everybody");
    refused(keeper.add_source(&everybody), "no operator has announced");
    refused(keeper.go_back(), "no configuration is on trial");
    refused(keeper.open(settings, &sources).map(drop), "open already");
    // What the files do not say is not put in force, whoever says that they do.
    let monitor = config::Filter {
        mode: config::FilterMode::Monitor,
        ..settings.clone()
    };
    refused(
        keeper.apply(&monitor, &sources, None),
        "was changed while it was read",
    );
    // A trial that is over is not gone back from.
    let past = SystemTime::now() - Duration::from_secs(3_600);
    keeper.apply(settings, &sources, Some(past)).expect("applied");
    refused(keeper.go_back(), "no configuration is on trial");
    let verdict = |ttl| NewVerdict {
        kind: VerdictKind::Deny,
        reason: Reason::TlsVersion,
        origin: VerdictOrigin::Agent,
        ttl,
    };
    let minute = Duration::from_secs(60);
    let network = "192.0.2.0/24".parse().expect("a network");
    refused(
        keeper.judge(network, verdict(minute)).map(drop),
        "addresses, not networks",
    );
    let long = loaded.config.verdict.ttl_max + minute;
    refused(
        keeper.judge(address, verdict(long)).map(drop),
        "longer than the configuration",
    );
    assert!(keeper.judge(address, verdict(minute)).expect("denied"));
    // A denial in force is not replaced by the agent, neither by a longer one nor by trust.
    let trust = NewVerdict {
        kind: VerdictKind::Trust,
        ..verdict(minute)
    };
    assert!(!keeper.judge(address, trust).expect("answered"));
    let found = keeper.interfaces().expect("interfaces");
    assert!(!found.detached, "{found:?}");
    assert_eq!(found.owners, [("lo".to_owned(), Owner::Spinegate)]);
    let link = ground.pins.join("links/lo");
    drop(keeper);
    assert!(link.exists(), "the keeper took the filter with it");
}
