//! The filter stays on its interfaces: when they flap, go away and come back, and beside other programs (R13).

use std::{
    net::{Ipv4Addr, SocketAddr},
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
    echo::{Echo, answers},
    expect::{serves, silent},
    json::at,
    lab::{Lab, filter, guard},
    netns::{Family, Host, INTERFACE},
    suite::Suite,
    wait::wait_until,
};
use toml::Table;

const REFUSED: i32 = 1;
/// How soon the agent is to see that an interface has changed.
const SOON: Duration = Duration::from_secs(3);
/// A guarded port of the edge host with a plain service.
const ECHO: u16 = 7;
/// A second interface of the edge host, with a wire to the stranger. bpffs takes no pin with a dot in its name.
const SECOND: &str = "wan.2";
/// A program that is not Spinegate's; libxdp has it for sockets.
const FOREIGN: &str = "/usr/lib/x86_64-linux-gnu/bpf/xsk_def_xdp_prog.o";
const FOREIGN_NAME: &str = "xsk_def_prog";

fn main() -> ExitCode {
    Suite {
        name: "attachment",
        edit: guard_echo,
        tests: spinegate_tests::tests![
            a_link_that_goes_down_and_up_is_guarded_as_before,
            an_interface_that_goes_away_and_comes_back_is_attached_to_again,
            a_program_that_took_the_slot_is_named_and_left_alone,
            a_slot_that_is_taken_keeps_no_other_interface_from_its_guard,
            two_interfaces_are_guarded_and_one_that_is_no_longer_named_is_let_go,
            a_detached_filter_stays_off_until_it_is_attached,
            check_explains_what_the_hardware_takes_off,
        ],
    }
    .run()
}

fn a_link_that_goes_down_and_up_is_guarded_as_before(lab: &mut Lab) -> Result<()> {
    let before = program(lab)?;
    for _ in 0..3 {
        lab.network()
            .ip(Host::Edge, &format!("link set dev {INTERFACE} down\n"))?;
        is_held_by(lab, 0, "spinegate")?;
        lab.network()
            .ip(Host::Edge, &format!("link set dev {INTERFACE} up\n"))?;
        silent(lab)?;
    }
    // IPv6 addresses go with the link.
    lab.network().ip(
        Host::Edge,
        &format!("addr replace {}/64 dev {INTERFACE} nodad\n", Host::Edge.v6()),
    )?;
    ensure!(program(lab)? == before);
    serves(lab)
}

fn an_interface_that_goes_away_and_comes_back_is_attached_to_again(lab: &mut Lab) -> Result<()> {
    let mark = lab.audit().mark()?;
    lab.network().unplug(Host::Edge)?;
    wait_until("status to say that the interface is gone", SOON, || {
        Ok(is_held_by(lab, 0, "gone").is_ok())
    })?;
    is_attached(lab, 0, "none")?;
    wait_until("the audit log to say so", SOON, || {
        recorded(lab, mark, &format!("interface {INTERFACE} is gone"))
    })?;
    // What can be changed without the interface is not held up by it.
    lab.agent()
        .order(&["sources", "add", "192.0.2.0/24", "--name", "guest"])?;
    lab.agent().order(&["sources", "remove", "192.0.2.0/24"])?;
    lab.agent().order(&["reload"])?;
    let said = lab.agent().order(&["attach"])?;
    ensure!(said.contains("gone for now"), "{said}");

    lab.network().plug(Host::Edge)?;
    wait_until("the filter to be attached again", SOON, || {
        Ok(is_held_by(lab, 0, "spinegate").is_ok())
    })?;
    is_attached(lab, 0, "native")?;
    wait_until("the audit log to say so", SOON, || {
        recorded(lab, mark, &format!("the filter is attached to {INTERFACE} again"))
    })?;
    silent(lab)?;
    serves(lab)?;
    // What was pinned for the interface that is gone would keep a later agent from this one.
    lab.kill_agent()?;
    lab.start_agent()?;
    is_held_by(lab, 0, "spinegate")?;
    silent(lab)
}

fn a_program_that_took_the_slot_is_named_and_left_alone(lab: &mut Lab) -> Result<()> {
    let mark = lab.audit().mark()?;
    // A link's program can't be replaced, so the other one comes first to a new interface, while the agent does not look.
    paused(lab, |lab| {
        lab.network().unplug(Host::Edge)?;
        lab.network().plug(Host::Edge)?;
        take_slot(lab, INTERFACE)
    })?;
    let foreign = named_program(lab, 0)?;
    wait_until("the audit log to name the program", SOON, || {
        recorded(lab, mark, &format!("program {foreign} holds its XDP slot"))
    })?;
    thread::sleep(Duration::from_millis(2_500));
    ensure!(named_program(lab, 0)? == foreign, "the program was replaced");
    let said = "is not guarded: program";
    let times = details(lab, mark)?
        .iter()
        .filter(|detail| detail.contains(said))
        .count();
    ensure!(times == 1, "the audit log says it {times} times");
    for order in ["attach", "reload"] {
        let finished = lab.agent().output(&[order])?;
        ensure!(
            finished.code == Some(REFUSED) && finished.said().contains(&foreign.to_string()),
            "`{order}`: {}",
            finished.said()
        );
    }
    let check = lab.at_edge(&lab.files().config(), &["check"])?;
    ensure!(
        check.code == Some(2) && check.said().contains(FOREIGN_NAME),
        "{}",
        check.said()
    );
    // The policy can still be changed: there may be other interfaces.
    lab.agent()
        .order(&["sources", "add", "192.0.2.0/24", "--name", "guest"])?;
    lab.agent().order(&["sources", "remove", "192.0.2.0/24"])?;

    free_slot(lab, INTERFACE)?;
    wait_until("the filter to be attached again", SOON, || {
        Ok(is_held_by(lab, 0, "spinegate").is_ok())
    })?;
    silent(lab)?;
    serves(lab)
}

fn a_slot_that_is_taken_keeps_no_other_interface_from_its_guard(lab: &mut Lab) -> Result<()> {
    wire_second(lab)?;
    set_interfaces(lab, &[INTERFACE, SECOND])?;
    lab.agent().order(&["reload"])?;
    paused(lab, |lab| {
        // The first is taken, and the second is new: it is the second's turn although the first one fails.
        lab.network().unplug(Host::Edge)?;
        lab.network().plug(Host::Edge)?;
        take_slot(lab, INTERFACE)?;
        wire_second(lab)
    })?;
    wait_until("the second interface to be attached to", SOON, || {
        Ok(is_held_by(lab, 1, "spinegate").is_ok())
    })?;
    named_program(lab, 0)?;
    free_slot(lab, INTERFACE)?;
    wait_until("the first interface to be attached to", SOON, || {
        Ok(is_held_by(lab, 0, "spinegate").is_ok())
    })?;
    set_interfaces(lab, &[INTERFACE])?;
    lab.agent().order(&["reload"])?;
    serves(lab)
}

fn two_interfaces_are_guarded_and_one_that_is_no_longer_named_is_let_go(lab: &mut Lab) -> Result<()> {
    wire_second(lab)?;
    let _echo = Echo::open(&namespace(lab, Host::Edge), ECHO)?;
    let stranger = namespace(lab, Host::Stranger);
    let second = SocketAddr::from((SECOND_EDGE, ECHO));
    ensure!(
        answers(&stranger, second)?,
        "the second wire must work while nothing guards it"
    );
    set_interfaces(lab, &[INTERFACE, SECOND])?;
    lab.agent().order(&["reload"])?;
    for position in [0, 1] {
        is_held_by(lab, position, "spinegate")?;
        is_attached(lab, position, "native")?;
    }
    ensure!(!answers(&stranger, second)?);
    silent(lab)?;
    lab.kill_agent()?;
    ensure!(
        !answers(&stranger, second)?,
        "the second interface is open without an agent"
    );
    lab.start_agent()?;
    is_held_by(lab, 1, "spinegate")?;

    set_interfaces(lab, &[INTERFACE])?;
    lab.agent().order(&["reload"])?;
    ensure!(
        answers(&stranger, second)?,
        "an interface that is no longer named is still guarded"
    );
    silent(lab)
}

fn a_detached_filter_stays_off_until_it_is_attached(lab: &mut Lab) -> Result<()> {
    let _echo = Echo::open(&namespace(lab, Host::Edge), ECHO)?;
    let stranger = namespace(lab, Host::Stranger);
    let verdict = lab.client(Host::System).address();
    lab.agent()
        .order(&["verdicts", "add", &verdict, "--ttl", "10m"])?;
    let said = lab.agent().order(&["detach"])?;
    ensure!(said.contains(INTERFACE), "{said}");
    is_held_by(lab, 0, "nothing")?;
    // Neither time nor a change of the policy puts it back.
    lab.agent().order(&["reload"])?;
    lab.agent()
        .order(&["sources", "add", "192.0.2.0/24", "--name", "guest"])?;
    lab.agent().order(&["sources", "remove", "192.0.2.0/24"])?;
    thread::sleep(Duration::from_millis(1_500));
    is_held_by(lab, 0, "nothing")?;
    ensure!(answers(&stranger, service())?);
    ensure!(
        lab.agent().output(&["detach"])?.code == Some(REFUSED),
        "there is nothing to detach"
    );

    lab.agent().order(&["attach"])?;
    is_held_by(lab, 0, "spinegate")?;
    silent(lab)?;
    ensure!(
        lab.client(Host::System).knock()? == Knock::Silence,
        "the verdict went with the filter"
    );
    lab.agent().order(&["verdicts", "remove", &verdict])?;

    // Without an agent the command takes the pins away itself.
    lab.kill_agent()?;
    silent(lab)?;
    let finished = lab.at_edge(&lab.files().config(), &["detach"])?;
    ensure!(finished.code == Some(0), "{}", finished.said());
    ensure!(!lab.pins().exists(), "pins are left");
    ensure!(answers(&stranger, service())?);
    let finished = lab.at_edge(&lab.files().config(), &["detach"])?;
    ensure!(finished.code == Some(REFUSED), "{}", finished.said());
    lab.start_agent()?;
    silent(lab)
}

fn check_explains_what_the_hardware_takes_off(lab: &mut Lab) -> Result<()> {
    let strip = |to: &str| {
        Run::inside(&namespace(lab, Host::Edge), "ethtool")
            .args(["-K", INTERFACE, "rxvlan", to, "rx-vlan-stag-hw-parse", to])
            .success()
    };
    let check = || lab.at_edge(&lab.files().config(), &["check"]);
    strip("on")?;
    let finished = check()?;
    ensure!(finished.code == Some(0), "{}", finished.said());
    for words in [
        "takes 802.1Q tags off in hardware",
        "takes 802.1ad tags off in hardware",
        "without the tag",
        "ethtool -K eth0 rxvlan off",
        "filter.interfaces[0]",
    ] {
        ensure!(finished.said().contains(words), "{words}: {}", finished.said());
    }
    strip("off")?;
    let finished = check()?;
    ensure!(
        finished.code == Some(0) && !finished.said().contains("in hardware"),
        "{}",
        finished.said()
    );
    strip("on").map(drop)
}

const SECOND_EDGE: Ipv4Addr = Ipv4Addr::new(10, 239, 15, 26);
const SECOND_STRANGER: Ipv4Addr = Ipv4Addr::new(10, 239, 15, 66);

/// Wires the stranger to the second interface, anew if it was wired before.
fn wire_second(lab: &Lab) -> Result<()> {
    let _ = lab.network().ip(Host::Edge, &format!("link del dev {SECOND}\n"));
    let stranger = namespace(lab, Host::Stranger);
    lab.network().ip(
        Host::Edge,
        &format!(
            "link add {SECOND} type veth peer name eth1 netns {stranger}\nlink set dev {SECOND} up\n\
             addr add {SECOND_EDGE}/24 dev {SECOND}\n"
        ),
    )?;
    lab.network().ip(
        Host::Stranger,
        &format!("link set dev eth1 up\naddr add {SECOND_STRANGER}/24 dev eth1\n"),
    )
}

fn set_interfaces(lab: &Lab, names: &[&str]) -> Result<()> {
    lab.configure(|table| drop(filter(table).insert("interfaces".to_owned(), names.to_vec().into())))
}

/// Does something while the agent stands still, as it does between two looks at its interfaces.
fn paused(lab: &Lab, act: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let pid = at(&lab.agent().json(&["status"])?, "/pid")
        .as_i64()
        .context("no pid")?;
    let pid = Pid::from_raw(i32::try_from(pid)?);
    kill(pid, Signal::SIGSTOP)?;
    let done = act(lab);
    kill(pid, Signal::SIGCONT)?;
    done
}

fn take_slot(lab: &Lab, interface: &str) -> Result<()> {
    Run::inside(&namespace(lab, Host::Edge), "ip")
        .args(["link", "set", "dev", interface, "xdpgeneric"])
        .args(["object", FOREIGN, "section", "xdp"])
        .success()
        .map(drop)
}

fn free_slot(lab: &Lab, interface: &str) -> Result<()> {
    lab.network()
        .ip(Host::Edge, &format!("link set dev {interface} xdpgeneric off\n"))
}

/// The id of the foreign program that status names at an interface.
fn named_program(lab: &Lab, position: usize) -> Result<u64> {
    let status = lab.agent().json(&["status"])?;
    let owner = at(&status, &format!("/interfaces/{position}/owner"))
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let id = owner
        .strip_prefix("program ")
        .with_context(|| format!("the slot is said to be held by {owner:?}"))?;
    Ok(id.parse()?)
}

fn is_held_by(lab: &Lab, position: usize, wanted: &str) -> Result<()> {
    shows(lab, position, "owner", wanted)
}

fn is_attached(lab: &Lab, position: usize, wanted: &str) -> Result<()> {
    shows(lab, position, "attach", wanted)
}

fn shows(lab: &Lab, position: usize, key: &str, wanted: &str) -> Result<()> {
    let status = lab.agent().json(&["status"])?;
    let interface = at(&status, &format!("/interfaces/{position}"));
    ensure!(
        *at(interface, &format!("/{key}")) == wanted,
        "{key} is not {wanted}: {interface}"
    );
    Ok(())
}

fn program(lab: &Lab) -> Result<u64> {
    let status = lab.agent().json(&["status"])?;
    at(&status, "/interfaces/0/program_id")
        .as_u64()
        .with_context(|| format!("no program in {status}"))
}

fn recorded(lab: &Lab, mark: usize, words: &str) -> Result<bool> {
    Ok(details(lab, mark)?.iter().any(|detail| detail.contains(words)))
}

fn details(lab: &Lab, mark: usize) -> Result<Vec<String>> {
    let entries = lab.audit().since(mark)?;
    let details = entries
        .iter()
        .filter_map(|entry| at(entry, "/detail").as_str().map(str::to_owned));
    Ok(details.collect())
}

fn service() -> SocketAddr {
    SocketAddr::new(Host::Edge.address(Family::V4), ECHO)
}

fn namespace(lab: &Lab, host: Host) -> String {
    lab.network().namespace(host)
}

fn guard_echo(table: &mut Table) {
    guard(filter(table), "tcp", ECHO);
}
