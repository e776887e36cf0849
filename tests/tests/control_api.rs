//! The operator's socket as others than the command line meet it: over HTTP, by user and group, in haste and in masses.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::{Child, ExitCode, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::Knock,
    command::Run,
    expect::serves,
    json::at,
    lab::{Lab, section},
    netns::Host,
    pump::while_pumping,
    small_disk::SmallDisk,
    suite::Suite,
    wait::{wait_for, wait_until},
};
use toml::Table;

/// `control.group`, which need not have a name.
const READERS: u32 = 54_300;

/// A user who need not have a name either.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    group: Option<u32>,
}

const READER: User = User {
    uid: 54_301,
    group: Some(READERS),
};
const WRITER: User = User {
    uid: 54_302,
    group: Some(READERS),
};
const STRANGER: User = User {
    uid: 54_303,
    group: None,
};

fn main() -> ExitCode {
    Suite {
        name: "control_api",
        edit,
        tests: spinegate_tests::tests![
            curl_asks_and_gives_orders,
            a_reader_looks_and_gives_no_orders,
            a_reader_does_not_see_the_bytes_of_packets,
            a_user_without_a_role_gets_nothing,
            a_writer_gives_orders_until_a_reload_takes_that_back,
            each_order_is_recorded_before_it_is_carried_out_and_after,
            an_order_whose_caller_goes_away_is_carried_out_and_recorded,
            an_order_that_can_not_be_recorded_is_not_carried_out,
            metrics_and_health_are_there_too,
            what_is_malformed_too_large_or_slow_is_cut_off,
            a_command_from_before_http_is_told_what_to_use,
            readers_do_not_keep_an_operator_out,
            ten_thousand_requests_at_once_do_not_slow_the_clients,
        ],
    }
    .run()
}

fn edit(table: &mut Table) {
    let control = section(table, "control");
    control.insert("group".to_owned(), i64::from(READERS).into());
    write_for(control, &[WRITER]);
    // Nobody forgets the drops that a test looks at, or is denied for them.
    spinegate_tests::lab::open_verdicts(table);
}

fn write_for(control: &mut Table, writers: &[User]) {
    let writers: Vec<String> = writers.iter().map(|user| user.uid.to_string()).collect();
    control.insert("writers".to_owned(), writers.into());
}

fn curl_asks_and_gives_orders(lab: &mut Lab) -> Result<()> {
    let root = |arguments: &[&str]| curl(lab, None, arguments);
    let (status, body) = root(&["http://x/v1/status"])?;
    ensure!(
        status == 200 && *at(&body, "/status/mode") == "enforce",
        "{status} {body}"
    );
    let order = r#"{"source":"192.0.2.7","kind":"deny","ttl":600}"#;
    let (status, body) = root(&["http://x/v1/verdicts", "--json", order])?;
    ensure!(status == 200 && at(&body, "/done").is_string(), "{status} {body}");
    ensure!(lab.agent().verdict_on("192.0.2.7")?.is_some());
    let lift = ["-X", "DELETE", "http://x/v1/verdicts?source=192.0.2.7"];
    ensure!(root(&lift)?.0 == 200);
    let (status, body) = root(&lift)?;
    ensure!(
        status == 404 && *at(&body, "/error/code") == "not_found",
        "{status} {body}"
    );
    let cut = r#"{"source":"192.0.2.7","kind":"deny","until":"soon"}"#;
    let (status, body) = root(&["http://x/v1/verdicts", "--json", cut])?;
    ensure!(
        status == 400
            && at(&body, "/error/message")
                .as_str()
                .is_some_and(|said| said.contains("\"until\"")),
        "{status} {body}"
    );
    let (status, body) = root(&["http://x/v1"])?;
    let routes = at(&body, "/routes").as_array().context("no routes")?;
    ensure!(status == 200 && routes.len() > 20, "{status} {body}");
    let (status, body) = root(&["-X", "POST", "http://x/v1/reload"])?;
    ensure!(status == 200, "{status} {body}");
    Ok(())
}

fn a_reader_looks_and_gives_no_orders(lab: &mut Lab) -> Result<()> {
    let mode = fs::metadata(lab.files().socket())?.permissions().mode();
    ensure!(mode & 0o777 == 0o660, "the socket has the mode {mode:o}");
    for path in [
        "status", "stats", "sources", "verdicts", "crls", "registry", "events", "errors",
    ] {
        let (status, body) = curl(lab, Some(READER), &[&format!("http://x/v1/{path}")])?;
        ensure!(status == 200, "{path}: {status} {body}");
    }
    let mark = lab.audit().mark()?;
    for (method, path) in [
        ("POST", "reload"),
        ("POST", "detach"),
        ("POST", "verdicts/clear"),
        ("DELETE", "verdicts?source=192.0.2.1"),
        ("POST", "crls/fetch"),
    ] {
        let (status, body) = curl(lab, Some(READER), &["-X", method, &format!("http://x/v1/{path}")])?;
        ensure!(
            status == 403
                && *at(&body, "/error/code") == "forbidden"
                && *at(&body, "/error/reason") == "control_read_only",
            "{path}: {status} {body}"
        );
        let mend = at(&body, "/error/mend").as_str().unwrap_or_default();
        ensure!(mend.contains("control.writers"), "{path}: {body}");
    }
    let lines = orders(lab, mark)?;
    ensure!(lines.len() == 5, "{lines:?}");
    for line in &lines {
        ensure!(
            *at(line, "/decision") == "refuse"
                && *at(line, "/reason") == "control_read_only"
                && *at(line, "/operator/uid") == READER.uid
                && at(line, "/order/verb").is_string(),
            "{line}"
        );
    }
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Silence,
        "the filter is off"
    );
    Ok(())
}

fn a_reader_does_not_see_the_bytes_of_packets(lab: &mut Lab) -> Result<()> {
    ensure!(lab.client(Host::Stranger).knock()? == Knock::Silence);
    let latest = |user: Option<User>| -> Result<Option<Value>> {
        let (status, text) = fetch(lab, user, &["http://x/v1/events?last=1"])?;
        ensure!(status == 200, "{status} {text}");
        let line = text.lines().next().context("no line")?;
        Ok(serde_json::from_str::<Value>(line)?.get("event").cloned())
    };
    let whole = wait_for("the event of a drop", Duration::from_secs(5), || latest(None))?;
    ensure!(
        at(&whole, "/frame")
            .as_str()
            .is_some_and(|frame| frame.len() > 50),
        "{whole}"
    );
    let seen = latest(Some(READER))?.context("the reader sees no event")?;
    ensure!(
        *at(&seen, "/frame") == "" && at(&seen, "/packet") == at(&whole, "/packet"),
        "{seen}"
    );
    Ok(())
}

fn a_user_without_a_role_gets_nothing(lab: &mut Lab) -> Result<()> {
    let socket = lab.files().socket();
    let kept_out = run_curl(lab, Some(STRANGER), &["http://x/v1/status"]).output()?;
    ensure!(
        kept_out.code == Some(7),
        "the kernel lets a stranger connect: {}",
        kept_out.said()
    );
    // And if it did: the file's mode is not what decides.
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    let mark = lab.audit().mark()?;
    let asked = (|| {
        for (method, path) in [
            ("GET", "v1/status"),
            ("GET", "v1"),
            ("GET", "metrics"),
            ("POST", "v1/detach"),
            ("GET", "nothing"),
        ] {
            let (status, body) = curl(lab, Some(STRANGER), &["-X", method, &format!("http://x/{path}")])?;
            ensure!(status == 403, "{path}: {status} {body}");
            let text = body.to_string();
            ensure!(!text.contains("version") && text.len() < 200, "{path}: {text}");
            ensure!(*at(&body, "/error/reason") == "control_no_role", "{path}: {text}");
        }
        Ok(())
    })();
    fs::set_permissions(&socket, Permissions::from_mode(0o660))?;
    asked?;
    let lines = orders(lab, mark)?;
    ensure!(lines.len() == 5, "{lines:?}");
    let (_, metrics) = fetch(lab, None, &["http://x/metrics"])?;
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("spinegate_control_refused_total{reason=\"control_no_role\"} "))
        .context("it is not counted")?;
    ensure!(counted.parse::<f64>()? >= 5.0, "{counted}");
    for line in &lines {
        ensure!(
            *at(line, "/decision") == "refuse"
                && *at(line, "/reason") == "control_no_role"
                && *at(line, "/operator/uid") == STRANGER.uid
                && line.get("order").is_none(),
            "{line}"
        );
    }
    Ok(())
}

fn a_writer_gives_orders_until_a_reload_takes_that_back(lab: &mut Lab) -> Result<()> {
    let order = r#"{"cidr":"192.0.2.0/24","name":"by a writer","kind":"system"}"#;
    let add = |lab: &Lab| curl(lab, Some(WRITER), &["http://x/v1/sources", "--json", order]);
    let remove = |lab: &Lab| {
        curl(
            lab,
            Some(WRITER),
            &["-X", "DELETE", "http://x/v1/sources?cidr=192.0.2.0/24"],
        )
    };
    // What widens the allowlist is announced to the filter's keeper first, as `spinegate` does by itself.
    let (status, body) = add(lab)?;
    ensure!(
        status == 409 && body.to_string().contains("announced"),
        "{status} {body}"
    );
    let announced = format!(r#"{{"order":"sources_add",{}"#, &order[1..]);
    lab.announce(WRITER.uid, &announced)?;
    let (status, body) = add(lab)?;
    ensure!(status == 200, "{status} {body}");
    ensure!(lab.agent().order(&["sources", "list"])?.contains("by a writer"));
    ensure!(remove(lab)?.0 == 200);
    lab.configure(|table| write_for(section(table, "control"), &[]))?;
    lab.agent().order(&["reload"])?;
    let (status, body) = add(lab)?;
    ensure!(status == 403, "{status} {body}");
    lab.configure(|table| write_for(section(table, "control"), &[WRITER]))?;
    lab.agent().order(&["reload"])?;
    let (status, body) = remove(lab)?;
    ensure!(status == 404, "{status} {body}");
    Ok(())
}

fn each_order_is_recorded_before_it_is_carried_out_and_after(lab: &mut Lab) -> Result<()> {
    let mark = lab.audit().mark()?;
    let agent = lab.agent();
    agent.order(&[
        "sources",
        "add",
        "192.0.2.0/24",
        "--name",
        "example",
        "--service",
        "tcp/443",
    ])?;
    agent.order(&["sources", "remove", "192.0.2.0/24"])?;
    ensure!(agent.output(&["verdicts", "remove", "198.51.100.1"])?.code == Some(1));
    agent.order(&["status"])?;
    let (status, _) = curl(lab, None, &["-X", "POST", "http://x/v1/verdicts", "--json", "{}"])?;
    ensure!(status == 400);
    let lines = orders(lab, mark)?;
    let told: Vec<_> = lines
        .iter()
        .map(|line| format!("{} {}", at(line, "/order/verb"), at(line, "/decision")).replace('"', ""))
        .collect();
    ensure!(
        told == [
            "sources add allow",
            "sources add done",
            "sources remove allow",
            "sources remove done",
            "verdicts remove allow",
            "verdicts remove refuse",
            "verdicts add refuse",
        ],
        "{told:?}"
    );
    for pair in lines.chunks(2).take(3) {
        let [before, after] = pair else {
            unreachable!("chunks of two")
        };
        for same in ["/decision_id", "/operator", "/order"] {
            ensure!(at(before, same) == at(after, same), "{before}\n{after}");
        }
        ensure!(at(after, "/detail").is_string(), "{after}");
    }
    let first = lines.first().context("no line")?;
    ensure!(
        *at(first, "/operator/uid") == 0
            && *at(first, "/operator/gid") == 0
            && at(first, "/operator/pid").as_i64().is_some_and(|pid| pid > 0)
            && *at(first, "/order/arguments/cidr") == "192.0.2.0/24"
            && *at(first, "/order/arguments/name") == "example"
            && *at(first, "/order/arguments/services/0") == "tcp/443",
        "{first}"
    );
    Ok(())
}

fn an_order_whose_caller_goes_away_is_carried_out_and_recorded(lab: &mut Lab) -> Result<()> {
    let mark = lab.audit().mark()?;
    let mut caller = UnixStream::connect(lab.files().socket())?;
    caller.write_all(b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")?;
    wait_until("the order to be taken up", Duration::from_secs(5), || {
        Ok(!orders(lab, mark)?.is_empty())
    })?;
    drop(caller);
    wait_until("its outcome", Duration::from_secs(10), || {
        Ok(orders(lab, mark)?
            .iter()
            .any(|line| *at(line, "/decision") == "done"))
    })
}

fn an_order_that_can_not_be_recorded_is_not_carried_out(lab: &mut Lab) -> Result<()> {
    let old = fs::read_to_string(lab.files().config())?;
    let disk = SmallDisk::under(lab)?;
    disk.fill()?;
    let order = |source: &str| {
        let order = format!(r#"{{"source":"{source}","kind":"deny"}}"#);
        curl(lab, None, &["http://x/v1/verdicts", "--json", &order])
    };
    // What is left of the last page of the log may hold some lines yet.
    let mut sources = (1..255).map(|host| format!("192.0.2.{host}"));
    let (source, refused) = wait_for("an order to be refused", Duration::from_secs(10), || {
        let source = sources.next().context("no order is refused")?;
        let (status, body) = order(&source)?;
        Ok((status == 500).then_some((source, body)))
    })?;
    ensure!(
        at(&refused, "/error/message")
            .as_str()
            .is_some_and(|said| said.contains("can't be recorded")),
        "{refused}"
    );
    ensure!(
        lab.agent().verdict_on(&source)?.is_none(),
        "it was carried out all the same"
    );
    disk.make_room()?;
    ensure!(order(&source)?.0 == 200);
    lab.agent().order(&["verdicts", "clear"])?;
    lab.stop_agent()?;
    fs::write(lab.files().config(), old)?;
    lab.start_agent()
}

fn metrics_and_health_are_there_too(lab: &mut Lab) -> Result<()> {
    let (status, metrics) = fetch(lab, Some(READER), &["http://x/metrics"])?;
    ensure!(
        status == 200 && metrics.contains("spinegate_"),
        "{status} {metrics}"
    );
    let (status, health) = fetch(lab, Some(READER), &["http://x/healthz"])?;
    ensure!(status == 200, "{status} {health}");
    let (status, ready) = curl(lab, Some(READER), &["http://x/readyz"])?;
    ensure!(status == 200 && *at(&ready, "/ready") == true, "{status} {ready}");
    Ok(())
}

fn what_is_malformed_too_large_or_slow_is_cut_off(lab: &mut Lab) -> Result<()> {
    let socket = lab.files().socket();
    let long = format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let large = "POST /v1/explain HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000000\r\n\r\n{";
    for (bytes, status) in [
        (&b"nonsense\r\n\r\n"[..], "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"GET /v1/status HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "400"),
        (b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n{", "400"),
        (long.as_bytes(), "431"),
        (large.as_bytes(), "413"),
    ] {
        let mut caller = UnixStream::connect(&socket)?;
        caller.set_read_timeout(Some(Duration::from_secs(5)))?;
        // It may be answered before it has sent all.
        let _ = caller.write_all(bytes);
        let mut beginning = [0; 12];
        let answered = caller.read_exact(&mut beginning);
        answered.with_context(|| format!("no {status}"))?;
        let said = String::from_utf8_lossy(&beginning).into_owned();
        ensure!(said.ends_with(status), "{said:?}, not {status}");
    }
    // Silent, in the middle of a head (a byte now and then), and in the middle of a body.
    let begun = Instant::now();
    let slow = [
        &b""[..],
        b"GET /v1/status HTTP/1.1\r\nx: ",
        b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    ]
    .map(|bytes| {
        let socket = socket.clone();
        thread::spawn(move || drip(&socket, bytes))
    });
    let deaf = thread::spawn(move || ask_and_never_read(&socket));
    lab.agent().order(&["status"])?;
    for caller in slow.into_iter().chain([deaf]) {
        caller.join().map_err(|_| anyhow!("a caller panicked"))??;
    }
    ensure!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    Ok(())
}

/// Asks, and asks again, until it is cut off.
fn ask_and_never_read(socket: &Path) -> Result<()> {
    let mut caller = UnixStream::connect(socket)?;
    caller.set_write_timeout(Some(Duration::from_secs(25)))?;
    loop {
        match caller.write_all(b"GET /v1/stats HTTP/1.1\r\nhost: x\r\n\r\n") {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(anyhow!("whoever never reads is waited for"));
            }
            Err(_) => return Ok(()),
        }
    }
}

/// Sends a beginning and then a byte every half second, until it is cut off.
fn drip(socket: &Path, beginning: &[u8]) -> Result<()> {
    let mut caller = UnixStream::connect(socket)?;
    caller.set_read_timeout(Some(Duration::from_millis(500)))?;
    caller.write_all(beginning)?;
    let begun = Instant::now();
    let mut answer = [0; 1024];
    loop {
        ensure!(
            begun.elapsed() < Duration::from_secs(25),
            "{beginning:?} is waited for"
        );
        match caller.read(&mut answer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if !beginning.is_empty() && caller.write_all(b"y").is_err() {
                    return Ok(());
                }
            }
            Err(_) => return Ok(()),
        }
    }
}

fn a_command_from_before_http_is_told_what_to_use(lab: &mut Lab) -> Result<()> {
    let mut caller = UnixStream::connect(lab.files().socket())?;
    caller.set_read_timeout(Some(Duration::from_secs(5)))?;
    caller.write_all(b"{\"version\":6,\"request\":{\"verb\":\"status\"}}\n")?;
    let mut line = String::new();
    caller.read_to_string(&mut line)?;
    let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    ensure!(
        *at(&answer, "/version") == 6
            && *at(&answer, "/response/answer") == "error"
            && *at(&answer, "/response/body/kind") == "usage",
        "{line}"
    );
    let mend = at(&answer, "/response/body/mend").as_str().unwrap_or_default();
    ensure!(
        mend.contains("`spinegate` command of the running agent"),
        "{line}"
    );
    Ok(())
}

fn readers_do_not_keep_an_operator_out(lab: &mut Lab) -> Result<()> {
    let follow = |path: &str| -> Result<Child> {
        let url = format!("http://x/v1/{path}?last=0&follow=true");
        let run = run_curl(lab, Some(READER), &["-D-", &url]);
        let mut child = run
            .command()
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start curl")?;
        // It has its place before the next one asks for one.
        let mut status = [0; 12];
        let out = child.stdout.as_mut().context("curl has no output")?;
        out.read_exact(&mut status)?;
        ensure!(
            &status == b"HTTP/1.1 200",
            "{:?}",
            String::from_utf8_lossy(&status)
        );
        Ok(child)
    };
    let mark = lab.audit().mark()?;
    let mut followers = Vec::new();
    let crowded = (|| {
        for _ in 0..8 {
            followers.extend([follow("events")?, follow("errors")?]);
        }
        wait_until("a reader to be turned away", Duration::from_secs(10), || {
            Ok(curl(lab, Some(READER), &["http://x/v1/status"])?.0 == 503)
        })?;
        lab.agent().order(&["status"])?;
        lab.agent().order(&["reload"])
    })();
    for follower in &mut followers {
        follower.kill()?;
        follower.wait()?;
    }
    crowded?;
    let lines = orders(lab, mark)?;
    ensure!(
        lines.iter().any(|line| *at(line, "/reason") == "control_busy"),
        "{lines:?}"
    );
    wait_until("a reader to be served again", Duration::from_secs(5), || {
        Ok(curl(lab, Some(READER), &["http://x/v1/status"])?.0 == 200)
    })
}

fn ten_thousand_requests_at_once_do_not_slow_the_clients(lab: &mut Lab) -> Result<()> {
    const CALLERS: usize = 10_000;
    const THREADS: usize = 20;
    /// Loosely: what calls runs on the same cores as the gateway and its clients.
    const FACTOR: f64 = 8.0;

    // This process holds them all at once.
    Run::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), "--nofile=20000:20000"])
        .success()?;
    let socket = lab.files().socket();
    let mut told = [0, 0];
    let measured = while_pumping(lab, &AtomicBool::new(false), |lab, answered| {
        let rate = |begin: usize, time: Duration| {
            (answered.load(Ordering::Relaxed) - begin) as f64 / time.as_secs_f64()
        };
        let begin = answered.load(Ordering::Relaxed);
        thread::sleep(Duration::from_secs(3));
        let quiet = rate(begin, Duration::from_secs(3));
        let (begin, begun) = (answered.load(Ordering::Relaxed), Instant::now());
        let (served, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            let callers: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| call_at_once(&socket, CALLERS / THREADS, (&served, &turned_away))))
                .collect();
            callers
                .into_iter()
                .try_for_each(|caller| caller.join().map_err(|_| anyhow!("a caller panicked"))?)
        })?;
        let took = begun.elapsed();
        let busy = rate(begin, took.max(Duration::from_millis(500)));
        told = [served.into_inner(), turned_away.into_inner()];
        lab.agent().order(&["status"])?;
        Ok((quiet, busy, took))
    });
    let ((quiet, busy, took), _) = measured?;
    let [served, turned_away] = told;
    println!(
        "     {served} served, {turned_away} turned away in {took:.1?}; requests of clients per second: {quiet:.0} before, {busy:.0} meanwhile"
    );
    ensure!(
        served + turned_away == CALLERS,
        "{served} served, {turned_away} turned away"
    );
    ensure!(
        served > 0 && turned_away > 0,
        "{served} served, {turned_away} turned away"
    );
    ensure!(took < Duration::from_secs(30), "it took {took:?}");
    ensure!(
        busy * FACTOR > quiet,
        "{quiet:.0} requests of clients a second before, {busy:.0} meanwhile"
    );
    serves(lab)
}

/// Opens connections and asks on each, and only then reads the answers. Counts those with 200 and those with 503.
fn call_at_once(
    socket: &Path,
    callers: usize,
    (served, turned_away): (&AtomicUsize, &AtomicUsize),
) -> Result<()> {
    let mut open = Vec::with_capacity(callers);
    for _ in 0..callers {
        let mut caller = UnixStream::connect(socket)?;
        caller.set_read_timeout(Some(Duration::from_secs(20)))?;
        // Whoever is turned away may be told so before.
        let _ = caller.write_all(b"GET /v1/stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        open.push(caller);
    }
    for mut caller in open {
        let mut beginning = [0; 12];
        caller.read_exact(&mut beginning)?;
        match &beginning {
            b"HTTP/1.1 200" => served.fetch_add(1, Ordering::Relaxed),
            b"HTTP/1.1 503" => turned_away.fetch_add(1, Ordering::Relaxed),
            other => return Err(anyhow!("{:?}", String::from_utf8_lossy(other))),
        };
    }
    Ok(())
}

/// The lines of operators after a mark.
fn orders(lab: &Lab, mark: usize) -> Result<Vec<Value>> {
    let mut lines = lab.audit().since(mark)?;
    lines.retain(|line| *at(line, "/event") == "operator");
    Ok(lines)
}

/// The status and the JSON that a user gets.
fn curl(lab: &Lab, user: Option<User>, arguments: &[&str]) -> Result<(u16, Value)> {
    let (status, text) = fetch(lab, user, arguments)?;
    // Streams are lines of it.
    let first = text.lines().next().unwrap_or_default();
    let body = serde_json::from_str(&text).or_else(|_| serde_json::from_str(first));
    Ok((
        status,
        body.with_context(|| format!("{arguments:?}: {status} {text:?}"))?,
    ))
}

fn fetch(lab: &Lab, user: Option<User>, arguments: &[&str]) -> Result<(u16, String)> {
    let printed = run_curl(lab, user, &["-w", "\n%{http_code}"])
        .args(arguments)
        .success()?;
    let (text, status) = printed.rsplit_once('\n').context("curl prints no status")?;
    Ok((status.parse()?, text.to_owned()))
}

fn run_curl(lab: &Lab, user: Option<User>, arguments: &[&str]) -> Run {
    let run = match user {
        None => Run::new("curl"),
        Some(User { uid, group }) => {
            let groups = group.map_or_else(
                || "--clear-groups".to_owned(),
                |group| format!("--groups={group}"),
            );
            Run::new("setpriv")
                .args([format!("--reuid={uid}"), format!("--regid={uid}"), groups])
                .arg("curl")
        }
    };
    run.args(["-sN", "--unix-socket"])
        .arg(lab.files().socket())
        .args(arguments)
}
