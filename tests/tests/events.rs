//! Drops as an operator sees them: events live and in captures, packets explained without being sent, rates.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, ExitCode, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use pcap_parser::{Block, PcapBlockOwned, create_reader, traits::PcapNGPacketBlock};
use serde_json::Value;
use spinegate_tests::{
    client::Knock,
    command::Run,
    json::at,
    lab::Lab,
    netns::{Family, Host, INTERFACE},
    suite::Suite,
    wait::wait_for,
};

const NOT_ALLOWLISTED: &str = "source_not_allowlisted";
const DENIED: &str = "verdict_deny";
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    Suite {
        name: "events",
        edit: |_| {},
        tests: spinegate_tests::tests![
            a_dropped_packet_is_an_event_with_its_reason,
            events_of_another_reason_are_left_out,
            events_arrive_live_while_they_are_followed,
            followed_events_say_when_the_agent_stops,
            tcpdump_reads_events_live,
            a_capture_of_events_has_the_reason_as_each_packets_comment,
            a_capture_of_events_is_explained_as_it_was_decided,
            a_written_packet_is_explained_by_the_step_that_decides,
            a_packet_that_is_cut_off_is_explained_as_malformed,
            a_frame_that_the_kernel_does_not_take_does_not_keep_others_from_being_judged,
            explaining_counts_nothing,
            top_shows_who_is_refused_and_why,
            // The last: for a while after it the kernel still samples less.
            drops_that_are_not_sampled_are_told,
        ],
    }
    .run()
}

fn a_dropped_packet_is_an_event_with_its_reason(lab: &mut Lab) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        refuse_stranger(lab, family)?;
        let event = event_from(lab, Host::Stranger, family, NOT_ALLOWLISTED)?;
        ensure!(*at(&event, "/service") == "tcp/443", "{event}");
        ensure!(*at(&event, "/interface_name") == INTERFACE, "{event}");
        let packet = at(&event, "/packet").as_str().unwrap_or_default();
        ensure!(
            packet.starts_with("tcp ") && packet.ends_with(":443 flags syn"),
            "{event}"
        );
    }
    let table = lab.agent().order(&["events"])?;
    ensure!(
        table.starts_with("TIME") && table.contains(NOT_ALLOWLISTED),
        "{table}"
    );
    Ok(())
}

fn events_of_another_reason_are_left_out(lab: &mut Lab) -> Result<()> {
    refuse_stranger(lab, Family::V4)?;
    let system = lab.client(Host::System);
    lab.agent()
        .order(&["verdicts", "add", &system.address(), "--ttl", "10m"])?;
    let knock = system.knock()?;
    lab.agent().order(&["verdicts", "remove", &system.address()])?;
    ensure!(knock == Knock::Silence, "a denied source gets {}", knock.as_str());
    event_from(lab, Host::System, Family::V4, DENIED)?;
    let said = lab.agent().order(&["events", "--reason", DENIED, "--json"])?;
    let events = lines(&said)?;
    ensure!(
        events
            .iter()
            .all(|event| event.get("lost_events").is_some() || *at(event, "/reason") == DENIED),
        "{said}"
    );
    let finished = lab.agent().output(&["events", "--reason", "not_owner"])?;
    ensure!(
        finished.code == Some(2) && finished.said().contains(DENIED),
        "{}",
        finished.said()
    );
    Ok(())
}

fn events_arrive_live_while_they_are_followed(lab: &mut Lab) -> Result<()> {
    let follow = command(lab, &["events", "--follow", "--last", "0", "--json"]);
    let mut follow = Process::start(&follow, Stdio::null())?;
    let lines = printed(&mut follow)?;
    let event: Value = serde_json::from_str(&knock_until_printed(lab, &lines)?)?;
    ensure!(*at(&event, "/reason") == NOT_ALLOWLISTED, "{event}");
    let stranger = Host::Stranger.v4().to_string();
    ensure!(*at(&event, "/source") == stranger.as_str(), "{event}");
    Ok(())
}

fn followed_events_say_when_the_agent_stops(lab: &mut Lab) -> Result<()> {
    let mut follow = Process::start(&command(lab, &["events", "--follow"]), Stdio::null())?;
    let lines = printed(&mut follow)?;
    let title = lines.recv_timeout(PATIENCE)?;
    ensure!(title.starts_with("TIME"), "{title}");
    lab.stop_agent()?;
    let status = wait_for("the command to end", PATIENCE, || Ok(follow.0.try_wait()?));
    lab.start_agent()?;
    let status = status?;
    ensure!(status.code() == Some(3), "it ended with {status}");
    Ok(())
}

fn drops_that_are_not_sampled_are_told(lab: &mut Lab) -> Result<()> {
    sample(lab, 0)?;
    let follow = command(lab, &["events", "--follow", "--last", "0", "--json"]);
    let mut follow = Process::start(&follow, Stdio::null())?;
    let lines = printed(&mut follow)?;
    let line = knock_until_printed(lab, &lines);
    sample(lab, 100)?;
    let missed: Value = serde_json::from_str(&line?)?;
    let unsampled = at(&missed, "/missed/unsampled").as_u64();
    ensure!(unsampled.is_some_and(|count| count > 0), "{missed}");
    Ok(())
}

fn tcpdump_reads_events_live(lab: &mut Lab) -> Result<()> {
    let follow = command(lab, &["events", "--follow", "--last", "0", "--pcap", "-"]);
    let mut follow = Process::start(&follow, Stdio::null())?;
    let capture = Stdio::from(follow.stdout()?);
    let mut tcpdump = Process::start(&Run::new("tcpdump").args(["-nn", "-l", "-r", "-"]), capture)?;
    let lines = printed(&mut tcpdump)?;
    let line = knock_until_printed(lab, &lines)?;
    let source = Host::Stranger.v4().to_string();
    ensure!(line.contains(&source) && line.contains("Flags [S]"), "{line}");
    Ok(())
}

fn a_capture_of_events_has_the_reason_as_each_packets_comment(lab: &mut Lab) -> Result<()> {
    refuse_stranger(lab, Family::V6)?;
    event_from(lab, Host::Stranger, Family::V6, NOT_ALLOWLISTED)?;
    let path = lab.files().folder().join("events.pcapng");
    let file = path.to_str().context("a path in UTF-8")?;
    lab.agent().order(&["events", "--pcap", file])?;
    let printed = Run::new("tcpdump").args(["-nn", "-r", file]).success()?;
    ensure!(printed.contains(&Host::Stranger.v6().to_string()), "{printed}");
    let comments = comments(&fs::read(&path)?)?;
    let wanted = format!("drop: {NOT_ALLOWLISTED}, service tcp/443");
    ensure!(comments.contains(&wanted), "{comments:?}");
    ensure!(
        comments.len() == printed.lines().count(),
        "{comments:?}: {printed}"
    );
    Ok(())
}

fn a_capture_of_events_is_explained_as_it_was_decided(lab: &mut Lab) -> Result<()> {
    refuse_stranger(lab, Family::V4)?;
    event_from(lab, Host::Stranger, Family::V4, NOT_ALLOWLISTED)?;
    let path = lab.files().folder().join("again.pcapng");
    let file = path.to_str().context("a path in UTF-8")?;
    lab.agent()
        .order(&["events", "--reason", NOT_ALLOWLISTED, "--pcap", file])?;
    let explained = lab.agent().json(&["explain", "--pcap", file])?;
    let explained = explained.as_array().context("a list")?;
    ensure!(!explained.is_empty(), "nothing was explained");
    for packet in explained {
        ensure!(*at(packet, "/reason") == NOT_ALLOWLISTED, "{packet}");
    }
    Ok(())
}

fn a_written_packet_is_explained_by_the_step_that_decides(lab: &mut Lab) -> Result<()> {
    let (proxy, system, stranger) = (Host::Ssp.v4(), Host::System.v6(), Host::Stranger.v4());
    lab.agent()
        .order(&["verdicts", "add", &system.to_string(), "--ttl", "10m"])?;
    let explained = [
        (
            format!("tcp {proxy}:40000 > 443"),
            "pass",
            "allowlist",
            "allowlisted",
        ),
        (
            format!("tcp {stranger} > 443"),
            "drop",
            "allowlist",
            NOT_ALLOWLISTED,
        ),
        (
            format!("tcp [{system}]:40000 > 443 vlan 5"),
            "drop",
            "verdict",
            DENIED,
        ),
        (
            format!("tcp {stranger} > 443 fragment later"),
            "drop",
            "fragment",
            "fragment_not_allowlisted",
        ),
        (format!("tcp {stranger} > 22"), "pass", "scope", "unguarded"),
    ]
    .map(|(packet, outcome, step, reason)| {
        let explained = lab.agent().json(&["explain", "--packet", &packet])?;
        for (key, wanted) in [("/0/outcome", outcome), ("/0/step", step), ("/0/reason", reason)] {
            ensure!(*at(&explained, key) == wanted, "{packet}: {explained}");
        }
        Ok(explained)
    });
    lab.agent().order(&["verdicts", "remove", &system.to_string()])?;
    let [passed, dropped, ..] = explained;
    let (passed, dropped) = (passed?, dropped?);
    let entry = at(&passed, "/0/entry").as_str().unwrap_or_default();
    ensure!(entry.contains(&proxy.to_string()), "{passed}");
    ensure!(*at(&passed, "/0/service") == "tcp/443", "{passed}");
    let mend = at(&dropped, "/0/mend").as_str().unwrap_or_default();
    ensure!(mend.contains("sources add"), "{dropped}");
    Ok(())
}

fn a_packet_that_is_cut_off_is_explained_as_malformed(lab: &mut Lab) -> Result<()> {
    let frame = truncated(Host::Ssp);
    let path = lab.files().folder().join("cut.pcap");
    let file = path.to_str().context("a path in UTF-8")?;
    fs::write(&path, pcap(1, &[(&frame, frame.len())]))?;
    let explained = lab.agent().json(&["explain", "--pcap", file])?;
    ensure!(*at(&explained, "/0/reason") == "packet_truncated", "{explained}");
    ensure!(*at(&explained, "/0/step") == "headers", "{explained}");

    // The same bytes of a longer frame: it is the capture that ends there.
    fs::write(&path, pcap(1, &[(&frame, 1514)]))?;
    let explained = lab.agent().order(&["explain", "--pcap", file])?;
    ensure!(
        explained.contains("34 of 1514 bytes were captured"),
        "{explained}"
    );
    ensure!(!explained.contains("packet_truncated"), "{explained}");

    fs::write(&path, pcap(113, &[(&frame, frame.len())]))?;
    let refused = lab.agent().output(&["explain", "--pcap", file])?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("LINUX_SLL"),
        "{}",
        refused.said()
    );
    Ok(())
}

fn a_frame_that_the_kernel_does_not_take_does_not_keep_others_from_being_judged(lab: &mut Lab) -> Result<()> {
    let path = lab.files().folder().join("short.pcap");
    let file = path.to_str().context("a path in UTF-8")?;
    let (short, long, last) = ([2; 13], [2; 9000], truncated(Host::Ssp));
    let frames: [&[u8]; 3] = [&short, &long, &last];
    fs::write(&path, pcap(1, &frames.map(|frame| (frame, frame.len()))))?;
    let explained = lab.agent().json(&["explain", "--pcap", file])?;
    ensure!(*at(&explained, "/0/outcome") == "not_judged", "{explained}");
    ensure!(*at(&explained, "/1/outcome") == "pass", "{explained}");
    ensure!(*at(&explained, "/2/reason") == "packet_truncated", "{explained}");
    Ok(())
}

fn explaining_counts_nothing(lab: &mut Lab) -> Result<()> {
    let counted = |lab: &Lab| -> Result<[Value; 4]> {
        let stats = lab.agent().json(&["stats"])?;
        Ok([
            at(&stats, "/filter/drops").clone(),
            at(&stats, "/filter/services/tcp~1443").clone(),
            at(&stats, "/filter/lost_events").clone(),
            lab.agent().json(&["sources", "list"])?,
        ])
    };
    let before = counted(lab)?;
    let sampled = lines(&lab.agent().order(&["events", "--json"])?)?.len();
    for host in [Host::Ssp, Host::Stranger] {
        for address in [host.address(Family::V4), host.address(Family::V6)] {
            let packet = format!("tcp {address} > 443");
            // More often than any handshake budget allows.
            let many = vec!["--packet"; 60]
                .into_iter()
                .flat_map(|option| [option, &packet]);
            let arguments: Vec<&str> = std::iter::once("explain").chain(many).collect();
            let explained = lab.agent().json(&arguments)?;
            ensure!(
                *at(&explained, "/59/reason") == *at(&explained, "/0/reason"),
                "{explained}"
            );
        }
    }
    thread::sleep(Duration::from_millis(500));
    ensure!(counted(lab)? == before, "explaining was counted");
    ensure!(
        lines(&lab.agent().order(&["events", "--json"])?)?.len() == sampled,
        "explaining made an event"
    );
    Ok(())
}

fn top_shows_who_is_refused_and_why(lab: &mut Lab) -> Result<()> {
    let agent = lab.agent();
    let top = thread::spawn(move || agent.json(&["top", "--once"]));
    thread::sleep(Duration::from_millis(300));
    refuse_stranger(lab, Family::V4)?;
    let top = top.join().ok().context("the thread panicked")??;
    let reasons = at(&top, "/filter").as_array().context("a list")?;
    ensure!(
        reasons
            .iter()
            .any(|rate| *at(rate, "/outcome") == "drop" && *at(rate, "/reason") == NOT_ALLOWLISTED),
        "{top}"
    );
    let stranger = Host::Stranger.v4().to_string();
    ensure!(
        *at(&top, "/refused_sources/0/source") == stranger.as_str(),
        "{top}"
    );
    let services = at(&top, "/services").as_array().context("a list")?;
    let guarded = services
        .iter()
        .find(|service| *at(service, "/service") == "tcp/443");
    let dropped = guarded.and_then(|service| at(service, "/dropped").as_f64());
    ensure!(dropped.is_some_and(|rate| rate > 0.0), "{top}");
    Ok(())
}

fn refuse_stranger(lab: &Lab, family: Family) -> Result<()> {
    let knock = lab.client(Host::Stranger).over(family).knock()?;
    ensure!(knock == Knock::Silence, "a stranger gets {}", knock.as_str());
    Ok(())
}

/// Waits for an event; the agent reads them several times a second.
fn event_from(lab: &Lab, host: Host, family: Family, reason: &str) -> Result<Value> {
    let source = host.address(family).to_string();
    wait_for("the event", PATIENCE, || {
        let events = lines(&lab.agent().order(&["events", "--json"])?)?;
        Ok(events
            .into_iter()
            .find(|event| *at(event, "/source") == source.as_str() && *at(event, "/reason") == reason))
    })
}

fn lines(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{line:?} is no JSON")))
        .collect()
}

/// How many drops a second may be reported.
fn sample(lab: &Lab, per_second: i64) -> Result<()> {
    lab.reconfigure(|table| {
        if let Some(filter) = table.get_mut("filter").and_then(toml::Value::as_table_mut) {
            filter.insert("events_per_second".into(), per_second.into());
        }
    })
}

/// A frame with an IPv4 header that announces more than there is.
fn truncated(source: Host) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0x05, 0xdc, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(source.v4().octets());
    frame.extend(Host::Edge.v4().octets());
    frame
}

/// A pcap file of frames, each with the length that it is to have had.
fn pcap(linktype: u32, frames: &[(&[u8], usize)]) -> Vec<u8> {
    let words =
        |file: &mut Vec<u8>, words: &[u32]| file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let mut file = Vec::new();
    words(&mut file, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, linktype]);
    for (frame, length) in frames {
        words(&mut file, &[0, 0, frame.len() as u32, *length as u32]);
        file.extend(*frame);
    }
    file
}

/// The comments of a pcapng file's packets.
fn comments(file: &[u8]) -> Result<Vec<String>> {
    const COMMENT: u16 = 1;
    let mut reader = create_reader(1 << 20, file).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut comments = Vec::new();
    while let Ok((length, block)) = reader.next() {
        if let PcapBlockOwned::NG(Block::EnhancedPacket(packet)) = block {
            ensure!(packet.packet_data().len() <= packet.orig_len() as usize);
            let comment = packet.options.iter().find(|option| option.code.0 == COMMENT);
            let comment = comment.and_then(|comment| comment.as_str().ok());
            comments.push(comment.context("a packet without a comment")?.to_owned());
        }
        reader.consume(length);
    }
    Ok(comments)
}

/// A command of the agent, not yet run.
fn command(lab: &Lab, arguments: &[&str]) -> Run {
    Run::new(lab.binary())
        .arg("--socket")
        .arg(lab.files().socket())
        .args(arguments)
}

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    fn start(run: &Run, stdin: Stdio) -> Result<Self> {
        let child = run
            .command()
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Ok(Self(child.with_context(|| {
            format!("can't start `{run}`: `cargo xtask setup` installs what is missing")
        })?))
    }

    fn stdout(&mut self) -> Result<ChildStdout> {
        self.0.stdout.take().context("no pipe")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a process prints, as they come.
fn printed(process: &mut Process) -> Result<Receiver<String>> {
    let out = BufReader::new(process.stdout()?);
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        out.lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    Ok(lines)
}

/// Lets a stranger knock until something is printed about it: a process that follows may still be starting.
fn knock_until_printed(lab: &Lab, lines: &Receiver<String>) -> Result<String> {
    wait_for("a line", PATIENCE, || {
        refuse_stranger(lab, Family::V4)?;
        Ok(lines.recv_timeout(Duration::from_secs(1)).ok())
    })
}
