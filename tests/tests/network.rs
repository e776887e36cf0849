//! Real packets on their ways in: native and generic, behind extension headers, in fragments (R13).

use std::{
    net::{SocketAddr, SocketAddrV6},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use spinegate_tests::{
    client::{Message, NHS_NUMBER},
    echo::{Connection, Echo, datagram},
    expect::{attached, dropped},
    lab::{CONSUMER, Lab, filter, guard},
    netns::{Family, Host},
    raw::{self, Extension},
    suite::Suite,
};
use toml::Table;

const NOT_ALLOWLISTED: &str = "source_not_allowlisted";
/// A guarded service, TCP and UDP, that needs no TLS.
const ECHO: u16 = 7;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn main() -> ExitCode {
    Suite {
        name: "network",
        edit: guard_echo,
        tests: spinegate_tests::tests![
            tcp_flows_natively_and_through_the_generic_hook_and_status_says_which,
            extension_headers_hide_nothing_and_harm_nobody_who_is_listed,
            a_datagram_in_fragments_arrives_from_a_listed_source_and_not_from_a_stranger,
            what_this_host_sends_in_fragments_is_left_alone,
        ],
    }
    .run()
}

fn tcp_flows_natively_and_through_the_generic_hook_and_status_says_which(lab: &mut Lab) -> Result<()> {
    let _echo = echo(lab)?;
    for mode in ["native", "generic"] {
        attached(lab, mode)?;
        for family in FAMILIES {
            let service = SocketAddr::new(Host::Edge.address(family), ECHO);
            let mut connection = Connection::open(&namespace(lab, Host::Ssp), service)?;
            connection.exchange(4 << 20)?;
            dropped(lab, &lab.client(Host::Stranger).over(family), NOT_ALLOWLISTED)?;
        }
        let answer = lab
            .client(Host::Ssp)
            .answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        ensure!(answer.status == 200, "{mode}: {answer}");
    }
    attached(lab, "native")
}

fn extension_headers_hide_nothing_and_harm_nobody_who_is_listed(lab: &mut Lab) -> Result<()> {
    use Extension::{Destination, Fragment, HopByHop};
    let echo = echo(lab)?;
    let service = SocketAddrV6::new(Host::Edge.v6(), ECHO, 0, 0);
    let chains: [&[Extension]; 5] = [
        &[],
        &[HopByHop],
        &[Destination, Destination],
        &[HopByHop, Destination, Fragment, Destination],
        &[Destination; 8],
    ];
    for chain in chains {
        ensure!(
            raw::datagram(&namespace(lab, Host::Ssp), Host::Ssp.v6(), service, chain)?,
            "a listed source got no answer behind {chain:?}"
        );
    }
    for chain in chains {
        let before = lab.agent().drops(NOT_ALLOWLISTED)?;
        ensure!(
            !raw::datagram(
                &namespace(lab, Host::Stranger),
                Host::Stranger.v6(),
                service,
                chain
            )?,
            "a stranger got an answer behind {chain:?}"
        );
        ensure!(
            lab.agent().drops(NOT_ALLOWLISTED)? > before,
            "the counter did not move for {chain:?}"
        );
    }
    ensure!(
        echo.datagrams(Host::Stranger.v6().into()) == 0,
        "a stranger's datagram reached the service"
    );
    // One header more than the filter looks through: no sound stack sends it, so it passes from nobody.
    let too_many = [Destination; 9];
    let before = lab.agent().drops("packet_too_many_headers")?;
    ensure!(!raw::datagram(
        &namespace(lab, Host::Ssp),
        Host::Ssp.v6(),
        service,
        &too_many
    )?);
    ensure!(lab.agent().drops("packet_too_many_headers")? > before);
    Ok(())
}

fn a_datagram_in_fragments_arrives_from_a_listed_source_and_not_from_a_stranger(lab: &mut Lab) -> Result<()> {
    const IN_FRAGMENTS: usize = 9_000;
    let echo = echo(lab)?;
    for family in FAMILIES {
        let service = SocketAddr::new(Host::Edge.address(family), ECHO);
        // What comes back is in fragments as well.
        ensure!(
            datagram(&namespace(lab, Host::Ssp), service, IN_FRAGMENTS)?,
            "a listed source's fragments did not arrive over {family:?}"
        );
        let reasons = [NOT_ALLOWLISTED, "fragment_not_allowlisted"];
        let before = reasons.map(|reason| lab.agent().drops(reason));
        ensure!(!datagram(&namespace(lab, Host::Stranger), service, IN_FRAGMENTS)?);
        for (reason, before) in reasons.into_iter().zip(before) {
            ensure!(
                lab.agent().drops(reason)? > before?,
                "the counter of {reason} did not move over {family:?}"
            );
        }
        ensure!(
            echo.datagrams(Host::Stranger.address(family)) == 0,
            "a stranger's fragments reached the service over {family:?}"
        );
    }
    Ok(())
}

fn what_this_host_sends_in_fragments_is_left_alone(lab: &mut Lab) -> Result<()> {
    let port = 4_007;
    let echo = Echo::open(&namespace(lab, Host::Stranger), port)?;
    for family in FAMILIES {
        let stranger = SocketAddr::new(Host::Stranger.address(family), port);
        let edge = namespace(lab, Host::Edge);
        ensure!(
            datagram(&edge, stranger, 1_000)?,
            "an answer in one piece must pass in scope `services`"
        );
        // The way out is free. The way back is not where a UDP service is guarded: a later fragment has no ports, and
        // might be one for that service.
        let before = lab.agent().drops("fragment_not_allowlisted")?;
        ensure!(
            !datagram(&edge, stranger, 9_000)?,
            "a stranger's later fragments came in"
        );
        ensure!(lab.agent().drops("fragment_not_allowlisted")? > before);
        ensure!(
            echo.datagrams(Host::Edge.address(family)) == 2,
            "what this host sent did not arrive over {family:?}"
        );
    }
    Ok(())
}

fn echo(lab: &Lab) -> Result<Echo> {
    Echo::open(&namespace(lab, Host::Edge), ECHO)
}

fn namespace(lab: &Lab, host: Host) -> String {
    lab.network().namespace(host)
}

fn guard_echo(table: &mut Table) {
    for protocol in ["tcp", "udp"] {
        guard(filter(table), protocol, ECHO);
    }
}
