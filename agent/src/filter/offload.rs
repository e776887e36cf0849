//! What an interface does with a frame before the program sees it, and whether its driver runs programs at all: nothing to
//! refuse, but what an operator should know.

use netlink_packet_core::{DefaultNla, Emitable as _, NLA_F_NESTED};

use super::{
    FilterError,
    genetlink::{Attribute, ask, bytes, number, text, within},
    interface,
};
use crate::config::{self, FilterMode, Problem, XdpAttach};

/// The kernel's names of features (net/ethtool/common.c), each with the tag that the hardware takes off, and how ethtool
/// calls it.
const STRIPPING: [(&str, &str, &str); 2] = [
    ("rx-vlan-hw-parse", "802.1Q", "rxvlan"),
    ("rx-vlan-stag-hw-parse", "802.1ad", "rx-vlan-stag-hw-parse"),
];

/// A page less the room that a driver keeps before and after the frame: many run a program on no larger ones.
pub const MTU_OF_A_PAGE: u32 = 3_498;

/// What an operator should know of the interfaces of a configuration.
#[must_use]
pub fn remarks(config: &config::Filter) -> Vec<Problem> {
    if config.mode == FilterMode::Off {
        return Vec::new();
    }
    let interfaces = config.interfaces.iter().enumerate();
    interfaces
        .flat_map(|(position, name)| {
            let key = format!("filter.interfaces[{position}]");
            let remarks = remarks_on(name, config.attach).unwrap_or_default();
            remarks
                .into_iter()
                .map(move |(message, mend)| Problem::new(key.clone(), message, mend))
        })
        .collect()
}

/// Each with what to do about it. An interface that is not there is a problem, and not remarked on.
fn remarks_on(name: &str, attach: XdpAttach) -> Result<Vec<(String, String)>, FilterError> {
    let found = interface::find(name)?;
    let mut remarks = Vec::new();
    match features(name)? {
        None => remarks.push((
            format!("whether {name} takes VLAN tags off in hardware could not be determined"),
            format!("see `ethtool -k {name}`: rx-vlan-offload"),
        )),
        Some(features) => {
            for (feature, tag, option) in STRIPPING {
                if features.iter().any(|active| active == feature) {
                    remarks.push((
                        format!(
                            "{name} takes {tag} tags off in hardware ({feature}): the program sees such a frame without the \
                             tag, in the driver and in the generic hook alike, and judges it as an untagged one; the same \
                             packets pass and are dropped, but events and counters can't tell its VLAN"
                        ),
                        format!("to have the tag seen: `ethtool -K {name} {option} off`"),
                    ));
                }
            }
        }
    }
    if attach != XdpAttach::Generic && runs_programs(found.index)? == Some(false) {
        let consequence = match attach {
            XdpAttach::Native => "attaching will fail",
            _ => {
                "the generic hook is used, which is slower and comes after the kernel has allocated the packet"
            }
        };
        remarks.push((
            format!("the driver of {name} runs no XDP programs: {consequence}"),
            "`filter.attach = \"generic\"` says so on purpose".to_owned(),
        ));
    } else if attach != XdpAttach::Generic && found.mtu > MTU_OF_A_PAGE {
        remarks.push((
            format!(
                "the MTU of {name} is {}: many drivers run no program on frames larger than a page",
                found.mtu
            ),
            format!(
                "`spinegate status` shows whether it is attached native or generic; `ip link set dev {name} mtu 1500`"
            ),
        ));
    }
    Ok(remarks)
}

/// The features that are on; none if the kernel does not tell (before 5.7).
pub(super) fn features(name: &str) -> Result<Option<Vec<String>>, FilterError> {
    // linux/ethtool_netlink.h
    const FEATURES_GET: u8 = 11;
    const FEATURES_HEADER: u16 = 1;
    const FEATURES_ACTIVE: u16 = 4;
    const HEADER_DEV_NAME: u16 = 2;
    let mut device = name.as_bytes().to_vec();
    device.push(0);
    let device = [DefaultNla::new(HEADER_DEV_NAME, device)];
    let mut header = vec![0; device.as_slice().buffer_len()];
    device.as_slice().emit(&mut header);
    let header = DefaultNla::new(FEATURES_HEADER | NLA_F_NESTED, header);
    let answer = ask("ethtool", FEATURES_GET, &[header])?;
    Ok(answer.and_then(|answer| Some(names(&within(bytes(&answer, FEATURES_ACTIVE)?)))))
}

/// The names in a bitset without a mask: it lists the bits that are set (Documentation/networking/ethtool-netlink.rst).
fn names(bitset: &[Attribute]) -> Vec<String> {
    const BITS: u16 = 3;
    const BIT: u16 = 1;
    const NAME: u16 = 2;
    let bits = within(bytes(bitset, BITS).unwrap_or_default());
    bits.iter()
        .filter(|(kind, _)| *kind == BIT)
        .filter_map(|(_, bit)| text(&within(bit), NAME).map(str::to_owned))
        .collect()
}

/// Whether the driver runs XDP programs; none if the kernel does not tell (before 6.3).
pub(super) fn runs_programs(index: u32) -> Result<Option<bool>, FilterError> {
    // linux/netdev.h
    const DEV_GET: u8 = 1;
    const IFINDEX: u16 = 1;
    const XDP_FEATURES: u16 = 3;
    const BASIC: u64 = 1;
    let index = DefaultNla::new(IFINDEX, index.to_ne_bytes().to_vec());
    let answer = ask("netdev", DEV_GET, &[index])?;
    Ok(answer
        .and_then(|answer| number(&answer, XDP_FEATURES))
        .map(|features| features & BASIC != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_of_the_loopback_interface_are_told_by_name() {
        let features = features("lo").expect("asked").expect("a kernel that tells");
        assert!(
            features.iter().any(|feature| feature == "loopback"),
            "{features:?}"
        );
        assert!(
            !features.iter().any(|feature| feature == "rx-vlan-hw-parse"),
            "{features:?}"
        );
    }

    #[test]
    fn an_interface_whose_driver_runs_no_programs_is_remarked_on_unless_generic_is_asked_for() {
        // The loopback interface is such a one.
        if runs_programs(1).expect("asked").is_none() {
            println!("SKIPPED: this kernel does not tell which drivers run programs (before 6.3)");
            return;
        }
        let remarks = |attach| remarks_on("lo", attach).expect("asked");
        let said = |attach, words: &str| {
            remarks(attach)
                .iter()
                .any(|(message, _)| message.contains("lo runs no XDP programs") && message.contains(words))
        };
        assert!(said(XdpAttach::Auto, "the generic hook is used"));
        assert!(said(XdpAttach::Native, "attaching will fail"));
        assert!(remarks(XdpAttach::Generic).is_empty());
    }
}
