//! The host's interfaces and what holds their XDP slots, asked over rtnetlink.

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::FilterError;

/// An interface of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its index.
    pub(super) index: u32,
    /// The program in its XDP slot.
    pub(super) program: Option<u32>,
    /// Whether the program runs in the driver.
    pub(super) native: bool,
    /// The largest packet that it sends, in bytes.
    pub(super) mtu: u32,
}

/// Asks the kernel for an interface.
pub(super) fn find(name: &str) -> Result<Interface, FilterError> {
    let netlink = |error: &dyn std::fmt::Display| FilterError::Netlink(error.to_string());
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(|error| netlink(&error))?;
    socket.bind_auto().map_err(|error| netlink(&error))?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .map_err(|error| netlink(&error))?;
    socket.send(&request(name), 0).map_err(|error| netlink(&error))?;
    let (answer, _) = socket.recv_from_full().map_err(|error| netlink(&error))?;
    let answer =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(|error| netlink(&error))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(describe(&link)),
        _ => Err(FilterError::NoInterface {
            name: name.to_owned(),
        }),
    }
}

fn request(name: &str) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(link)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn describe(link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        ..Interface::default()
    };
    for attribute in &link.attributes {
        let attributes = match attribute {
            LinkAttribute::Mtu(mtu) => {
                interface.mtu = *mtu;
                continue;
            }
            LinkAttribute::Xdp(attributes) => attributes,
            _ => continue,
        };
        for attribute in attributes {
            match attribute {
                LinkXdp::ProgId(id) if *id != 0 => interface.program = Some(*id),
                LinkXdp::Attached(mode) => interface.native = *mode == XdpAttached::Driver,
                _ => {}
            }
        }
    }
    interface
}

#[cfg(test)]
mod tests {
    use super::find;
    use crate::filter::FilterError;

    #[test]
    fn the_loopback_interface_is_found_and_an_invented_one_is_named_in_the_error() {
        assert_eq!(find("lo").expect("lo").index, 1);
        let error = find("no-such-if0").expect_err("no such interface");
        assert!(
            matches!(&error, FilterError::NoInterface { name } if name == "no-such-if0"),
            "{error}"
        );
    }
}
