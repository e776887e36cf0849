//! The interfaces: who holds them, how the filter is attached, and what they do with a frame before the filter sees it.

use super::Finding;
use crate::{
    config::{self, FilterMode, XdpAttach},
    control::{InterfaceStatus, Status},
    filter::{self, MTU_OF_A_PAGE, Surveyed},
};

pub(super) fn examine(config: &config::Filter, status: Option<&Status>) -> Vec<Finding> {
    if config.mode == FilterMode::Off {
        return Vec::new();
    }
    let mut findings = vec![bpffs(config)];
    for name in &config.interfaces {
        let attached = status.and_then(|status| {
            let mut interfaces = status.interfaces.iter();
            interfaces.find(|interface| interface.name == *name)
        });
        match filter::survey(name) {
            Ok(found) => findings.extend(judge(name, &found, config.attach, attached)),
            Err(error) => {
                let mend = "`ip link` shows the interfaces; name one of them in filter.interfaces";
                findings.push(Finding::fail("interface", error.to_string(), mend).about(name));
            }
        }
    }
    findings
}

fn bpffs(config: &config::Filter) -> Finding {
    let folder = config.pin_dir.display();
    if filter::is_on_bpffs(&config.pin_dir) {
        return Finding::ok("bpffs", format!("{folder} is on a BPF file system"));
    }
    let mend = "`mount -t bpf bpf /sys/fs/bpf`, or let systemd do it; filter.pin_dir names the folder";
    Finding::fail(
        "bpffs",
        format!("{folder} is on no BPF file system: nothing outlives the agent"),
        mend,
    )
}

fn judge(
    name: &str,
    found: &Surveyed,
    attach: XdpAttach,
    attached: Option<&InterfaceStatus>,
) -> Vec<Finding> {
    let findings = [
        slot(name, found, attached),
        driver(name, found, attach),
        mtu(name, found, attach),
        offload(
            "lro",
            found,
            &["rx-lro"],
            "it joins packets before the filter sees them, and no driver runs programs with it",
            &format!("`ethtool -K {name} lro off`"),
        ),
        offload(
            "vlan_offload",
            found,
            &["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"],
            "it takes VLAN tags off: decisions are the same, but events can't tell the VLAN",
            &format!("to have them seen: `ethtool -K {name} rxvlan off rx-vlan-stag-hw-parse off`"),
        ),
    ];
    findings.map(|finding| finding.about(name)).into()
}

fn slot(name: &str, found: &Surveyed, attached: Option<&InterfaceStatus>) -> Finding {
    const CHECK: &str = "interface";
    match (attached, found.program) {
        (Some(attached), _) if attached.owner == "spinegate" => Finding::ok(
            CHECK,
            format!("guarded, {}, program {}", attached.attach, attached.program_id),
        ),
        (Some(attached), _) => Finding::fail(
            CHECK,
            format!("not guarded: {} holds its XDP slot", attached.owner),
            format!("`ip link set dev {name} xdp off` takes another program away; `spinegate attach`"),
        ),
        (None, Some(program)) => {
            let mode = if found.native { "native" } else { "generic" };
            Finding::warn(
                CHECK,
                format!("program {program} is attached, {mode}, and no agent says whose it is"),
                format!("`bpftool prog show id {program}`; `spinegate run`"),
            )
        }
        (None, None) => Finding::warn(CHECK, "not guarded: no agent runs", "`spinegate run`"),
    }
}

fn driver(name: &str, found: &Surveyed, attach: XdpAttach) -> Finding {
    const CHECK: &str = "driver";
    let driver = found.driver.as_deref().unwrap_or("without hardware");
    let generic = "`filter.attach = \"generic\"` says so on purpose";
    match (found.runs_programs, attach) {
        (_, XdpAttach::Generic) => Finding::ok(CHECK, format!("{driver}; the generic hook is wanted")),
        (Some(true), _) => Finding::ok(CHECK, format!("{driver}; it runs XDP programs")),
        (Some(false), XdpAttach::Native) => Finding::fail(
            CHECK,
            format!("{driver}; it runs no XDP programs: attaching will fail"),
            generic,
        ),
        (Some(false), XdpAttach::Auto) => Finding::warn(
            CHECK,
            format!("{driver}; it runs no XDP programs: the generic hook is used, which is slower"),
            generic,
        ),
        (None, _) => Finding::warn(
            CHECK,
            format!("{driver}; this kernel does not tell whether it runs XDP programs"),
            format!("`ethtool -i {name}` names the driver, and its manual says so"),
        ),
    }
}

fn mtu(name: &str, found: &Surveyed, attach: XdpAttach) -> Finding {
    let mtu = found.mtu;
    if mtu > MTU_OF_A_PAGE && attach != XdpAttach::Generic {
        return Finding::warn(
            "mtu",
            format!("{mtu}: many drivers run no program on frames larger than a page"),
            format!("`ip link set dev {name} mtu 1500`, or see that the driver line of it says native"),
        );
    }
    Finding::ok("mtu", mtu.to_string())
}

fn offload(check: &'static str, found: &Surveyed, names: &[&str], consequence: &str, mend: &str) -> Finding {
    let Some(features) = &found.features else {
        return Finding::warn(check, "this kernel does not tell", "see `ethtool -k`");
    };
    let on: Vec<_> = names
        .iter()
        .filter(|name| features.iter().any(|feature| feature == *name))
        .copied()
        .collect();
    if on.is_empty() {
        return Finding::ok(check, "off");
    }
    Finding::warn(check, format!("{} is on: {consequence}", on.join(", ")), mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Health;

    fn good() -> Surveyed {
        Surveyed {
            driver: Some("virtio_net".to_owned()),
            mtu: 1500,
            program: Some(7),
            native: true,
            features: Some(vec!["rx-gro".to_owned()]),
            runs_programs: Some(true),
        }
    }

    fn held(owner: &str) -> InterfaceStatus {
        InterfaceStatus {
            name: "eth0".to_owned(),
            index: 2,
            attach: "native".to_owned(),
            program_id: 7,
            owner: owner.to_owned(),
        }
    }

    #[test]
    fn a_guarded_interface_of_a_good_driver_is_in_order() {
        for finding in judge("eth0", &good(), XdpAttach::Auto, Some(&held("spinegate"))) {
            assert_eq!(
                (finding.outcome, finding.mend.is_none()),
                (Health::Ok, true),
                "{finding:?}"
            );
            assert_eq!(finding.about.as_deref(), Some("eth0"));
        }
    }

    #[test]
    fn each_fault_of_an_interface_is_found_with_its_mend() {
        let with = |feature: &str| Surveyed {
            features: Some(vec![feature.to_owned()]),
            ..good()
        };
        let deaf = Surveyed {
            runs_programs: None,
            features: None,
            ..good()
        };
        let bare = Surveyed {
            program: None,
            ..good()
        };
        let weak = Surveyed {
            runs_programs: Some(false),
            ..good()
        };
        let jumbo = Surveyed { mtu: 9000, ..good() };
        let ours = held("spinegate");
        let other = held("program 12 \"x\"");
        use XdpAttach::{Auto, Generic, Native};
        let table = [
            ("interface", &good(), Auto, Some(&other), Health::Fail),
            ("interface", &good(), Auto, None, Health::Warn),
            ("interface", &bare, Auto, None, Health::Warn),
            ("driver", &weak, Auto, Some(&ours), Health::Warn),
            ("driver", &weak, Native, Some(&ours), Health::Fail),
            ("driver", &weak, Generic, Some(&ours), Health::Ok),
            ("driver", &deaf, Auto, Some(&ours), Health::Warn),
            ("mtu", &jumbo, Auto, Some(&ours), Health::Warn),
            ("mtu", &jumbo, Generic, Some(&ours), Health::Ok),
            ("lro", &with("rx-lro"), Auto, Some(&ours), Health::Warn),
            ("lro", &deaf, Auto, Some(&ours), Health::Warn),
            (
                "vlan_offload",
                &with("rx-vlan-hw-parse"),
                Auto,
                Some(&ours),
                Health::Warn,
            ),
        ];
        for (check, found, attach, attached, expected) in table {
            let findings = judge("eth0", found, attach, attached);
            let finding = findings.iter().find(|finding| finding.check == check).unwrap();
            assert_eq!(
                (finding.outcome, finding.mend.is_some()),
                (expected, expected != Health::Ok),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_amiss() {
        let config = config::Filter {
            interfaces: vec!["no-such-if0".to_owned()],
            ..config::Filter::default()
        };
        let found = examine(&config, None);
        let finding = found.iter().find(|finding| finding.check == "interface").unwrap();
        assert_eq!(finding.outcome, Health::Fail);
        assert!(finding.detail.contains("no-such-if0"), "{finding:?}");
    }
}
