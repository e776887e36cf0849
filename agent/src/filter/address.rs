//! Addresses in the form that the kernel half has them in.

use std::net::{IpAddr, Ipv6Addr};

use spinegate_common::packet::Address;

/// An address as the kernel half has it.
pub(super) fn key(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(address) => Address::v4(address.octets()),
        IpAddr::V6(address) => Address::v6(address.octets()),
    }
}

/// An address that the kernel half has.
#[must_use]
pub fn address(key: &Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(key.octets())).to_canonical()
}
