//! VLAN tags, none, one or two: the packet inside is judged, wherever on its way a tag is kept (R13).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    client::Knock,
    command::Run,
    echo::{Connection, Echo},
    expect::attached,
    frames::{self, Tag},
    lab::{Lab, PORT, allow, filter, guard},
    netns::{Family, Host, INTERFACE},
    suite::{Suite, Test},
};
use toml::Table;

const NOT_ALLOWLISTED: &str = "source_not_allowlisted";
const TOO_MANY: &str = "packet_too_many_headers";
/// A guarded service that needs no TLS.
const ECHO: u16 = 7;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// What the interfaces do with tags, and how the filter is attached. With offloads the outer tag travels beside the frame,
/// where no program sees it, as it does behind a NIC that takes it off; without, within the frame.
const WAYS: [(&str, &str); 4] = [
    ("on", "generic"),
    ("on", "native"),
    ("off", "generic"),
    ("off", "native"),
];

const TAGGED: &[Test] = spinegate_tests::tests![
    a_tagged_packet_is_judged_by_what_is_inside,
    more_than_two_tags_pass_from_nobody_unless_the_hardware_has_taken_one_off,
];
const ALL: &[Test] = spinegate_tests::tests![
    a_tagged_packet_is_judged_by_what_is_inside,
    more_than_two_tags_pass_from_nobody_unless_the_hardware_has_taken_one_off,
    tcp_in_a_vlan_and_in_a_vlan_in_a_vlan_is_judged_wherever_the_tag_is_kept,
];

fn main() -> ExitCode {
    let tests = match try_vlan_device() {
        Ok(()) => ALL,
        Err(error) => {
            println!(
                "no VLAN devices here, so tags are sent and seen as frames alone; `cargo xtask vm -- test` runs TCP through \
                 VLAN devices on a kernel that has them (CONFIG_VLAN_8021Q): {error:#}"
            );
            TAGGED
        }
    };
    Suite {
        name: "vlan",
        edit: guard_echo,
        tests,
    }
    .run()
}

fn a_tagged_packet_is_judged_by_what_is_inside(lab: &mut Lab) -> Result<()> {
    use Tag::{Customer, Service};
    for (offloads, mode) in WAYS {
        set_vlan_offloads(lab, offloads)?;
        attached(lab, mode)?;
        for tags in [
            &[][..],
            &[Customer],
            &[Service],
            &[Service, Customer],
            &[Customer, Customer],
        ] {
            for family in FAMILIES {
                let what = format!("behind {tags:?}, {family:?}, offloads {offloads}, {mode}");
                ensure!(passes(lab, Host::Ssp, family, tags)?, "a listed source {what}");
                let before = lab.agent().drops(NOT_ALLOWLISTED)?;
                ensure!(!passes(lab, Host::Stranger, family, tags)?, "a stranger {what}");
                ensure!(
                    lab.agent().drops(NOT_ALLOWLISTED)? == before + 1,
                    "{what}: the counter did not move"
                );
            }
        }
    }
    Ok(())
}

fn more_than_two_tags_pass_from_nobody_unless_the_hardware_has_taken_one_off(lab: &mut Lab) -> Result<()> {
    let tags = [Tag::Service, Tag::Customer, Tag::Customer];
    for (offloads, mode) in WAYS {
        set_vlan_offloads(lab, offloads)?;
        attached(lab, mode)?;
        for family in FAMILIES {
            let before = lab.agent().drops(TOO_MANY)?;
            let passed = passes(lab, Host::Ssp, family, &tags)?;
            let dropped = lab.agent().drops(TOO_MANY)? - before;
            // The program sees two of them then, and nobody who is not listed gets through so.
            let wanted = if offloads == "on" { (true, 0) } else { (false, 1) };
            ensure!(
                (passed, dropped) == wanted,
                "offloads {offloads}, {mode}: passed {passed}, {dropped} counted as {TOO_MANY}"
            );
            ensure!(
                !passes(lab, Host::Stranger, family, &tags)?,
                "a stranger, offloads {offloads}, {mode}"
            );
        }
    }
    Ok(())
}

fn tcp_in_a_vlan_and_in_a_vlan_in_a_vlan_is_judged_wherever_the_tag_is_kept(lab: &mut Lab) -> Result<()> {
    let _echo = Echo::open(&namespace(lab, Host::Edge), ECHO)?;
    for host in [Host::Edge, Host::Ssp, Host::Stranger] {
        make_vlans(lab, host)?;
    }
    for (offloads, mode) in WAYS {
        set_vlan_offloads(lab, offloads)?;
        attached(lab, mode)?;
        for vlan in [Vlan::Single, Vlan::Double] {
            judged_in(lab, vlan).with_context(|| format!("{vlan:?}, offloads {offloads}, {mode}"))?;
        }
    }
    Ok(())
}

/// Whether a SYN behind tags reaches the edge's network stack. No VLAN device is there to take it.
fn passes(lab: &Lab, from: Host, family: Family, tags: &[Tag]) -> Result<bool> {
    let frame = frames::syn(from, Host::Edge, family, PORT, tags)?;
    let tap = lab.tap()?;
    frames::send(&namespace(lab, from), &frame)?;
    Ok(tap.syns(from.address(family))? == 1)
}

/// VLAN devices on the lab's interfaces, and the addresses that the hosts have on them.
#[derive(Clone, Copy, Debug)]
enum Vlan {
    /// 802.1Q
    Single,
    /// 802.1Q in 802.1ad
    Double,
}

impl Vlan {
    fn address(self, host: Host, family: Family) -> IpAddr {
        let (third, fourth) = match self {
            Self::Single => (7, 0x7),
            Self::Double => (77, 0x77),
        };
        let [.., number] = host.v4().octets();
        match family {
            Family::V4 => Ipv4Addr::new(10, 239, third, number).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x239, fourth, 0, 0, 0, 0, number.into()).into(),
        }
    }
}

fn judged_in(lab: &Lab, vlan: Vlan) -> Result<()> {
    for family in FAMILIES {
        let service = SocketAddr::new(vlan.address(Host::Edge, family), ECHO);
        Connection::open(&namespace(lab, Host::Ssp), service)
            .and_then(|mut connection| connection.exchange(1 << 20))
            .with_context(|| format!("a listed source, {family:?}"))?;
    }
    let service = SocketAddr::new(vlan.address(Host::Edge, Family::V4), ECHO);
    let (tap, before) = (lab.tap()?, lab.agent().drops(NOT_ALLOWLISTED)?);
    let knock = lab.client(Host::Stranger).knock_at(service)?;
    ensure!(knock == Knock::Silence, "a stranger: {}", knock.as_str());
    ensure!(
        lab.agent().drops(NOT_ALLOWLISTED)? > before,
        "the counter did not move"
    );
    ensure!(
        tap.syns(vlan.address(Host::Stranger, Family::V4))? == 0,
        "a stranger's SYN reached the network stack"
    );
    Ok(())
}

/// A frame has room for one tag more than its MTU says; for the second one the device inside makes room.
fn make_vlans(lab: &Lab, host: Host) -> Result<()> {
    let mut lines = format!(
        "link add link {INTERFACE} name vlan7 type vlan id 7\n\
         link add link {INTERFACE} name vlan70 type vlan protocol 802.1ad id 70\n\
         link add link vlan70 name vlan77 mtu 1496 type vlan id 77\n\
         link set dev vlan7 up\nlink set dev vlan70 up\nlink set dev vlan77 up\n"
    );
    for (vlan, device) in [(Vlan::Single, "vlan7"), (Vlan::Double, "vlan77")] {
        let [v4, v6] = FAMILIES.map(|family| vlan.address(host, family));
        lines += &format!("addr add {v4}/24 dev {device}\naddr add {v6}/64 dev {device} nodad\n");
    }
    lab.network().ip(host, &lines)
}

/// At both ends of every veth pair: either end can take a tag out of the frame.
fn set_vlan_offloads(lab: &Lab, to: &str) -> Result<()> {
    let features = [
        "rxvlan",
        "txvlan",
        "rx-vlan-stag-hw-parse",
        "tx-vlan-stag-hw-insert",
    ];
    let options = features.into_iter().flat_map(|feature| [feature, to]);
    for host in Host::ALL {
        let ends = [
            (namespace(lab, host), INTERFACE),
            (lab.network().lan(), host.as_str()),
        ];
        for (namespace, interface) in ends {
            Run::inside(&namespace, "ethtool")
                .args(["-K", interface])
                .args(options.clone())
                .success()?;
        }
    }
    Ok(())
}

/// Makes a VLAN device, in a namespace that goes with it.
fn try_vlan_device() -> Result<()> {
    Run::new("unshare")
        .args(["--net", "ip", "-batch", "-"])
        .stdin("link add veth7 type veth peer name peer7\nlink add link veth7 name vlan7 type vlan id 7\n")
        .success()
        .map(drop)
}

fn namespace(lab: &Lab, host: Host) -> String {
    lab.network().namespace(host)
}

fn guard_echo(table: &mut Table) {
    let filter = filter(table);
    guard(filter, "tcp", ECHO);
    for (vlan, name) in [(Vlan::Single, "ssp in a VLAN"), (Vlan::Double, "ssp in two")] {
        for (family, length) in [(Family::V4, 32), (Family::V6, 128)] {
            let address = vlan.address(Host::Ssp, family);
            allow(filter, format!("{address}/{length}"), name);
        }
    }
}
