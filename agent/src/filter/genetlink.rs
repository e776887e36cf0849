//! One question to a family of generic netlink, and the attributes of its answer.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use super::FilterError;

/// The controller, which knows the numbers of the other families (linux/genetlink.h).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// An attribute by its number.
pub(super) type Attribute = (u16, Vec<u8>);

/// Asks a family by name. None if the kernel has no such family, or does not answer the question.
pub(super) fn ask(
    family: &str,
    command: u8,
    attributes: &[DefaultNla],
) -> Result<Option<Vec<Attribute>>, FilterError> {
    let mut name = family.as_bytes().to_vec();
    name.push(0);
    let found = exchange(CONTROLLER, GET_FAMILY, &[DefaultNla::new(FAMILY_NAME, name)])?;
    let number = found.and_then(|found| number(&found, FAMILY_ID));
    match number.and_then(|number| u16::try_from(number).ok()) {
        Some(number) => exchange(number, command, attributes),
        None => Ok(None),
    }
}

/// The attributes inside of an attribute.
pub(super) fn within(bytes: &[u8]) -> Vec<Attribute> {
    let attributes = NlasIterator::new(bytes).map_while(Result::ok);
    attributes
        .map(|attribute| (attribute.kind(), attribute.value().to_vec()))
        .collect()
}

/// An attribute's bytes.
pub(super) fn bytes(attributes: &[Attribute], kind: u16) -> Option<&[u8]> {
    let found = attributes.iter().find(|(found, _)| *found == kind)?;
    Some(&found.1)
}

/// An attribute that is a number of two, four or eight bytes.
pub(super) fn number(attributes: &[Attribute], kind: u16) -> Option<u64> {
    match bytes(attributes, kind)? {
        &[a, b] => Some(u16::from_ne_bytes([a, b]).into()),
        &[a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
        bytes => Some(u64::from_ne_bytes(bytes.try_into().ok()?)),
    }
}

/// An attribute that is a text ended by a zero.
pub(super) fn text(attributes: &[Attribute], kind: u16) -> Option<&str> {
    let bytes = bytes(attributes, kind)?;
    std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
}

fn exchange(
    family: u16,
    command: u8,
    attributes: &[DefaultNla],
) -> Result<Option<Vec<Attribute>>, FilterError> {
    let failed = |error: &dyn std::fmt::Display| FilterError::Netlink(error.to_string());
    let mut socket = Socket::new(NETLINK_GENERIC).map_err(|error| failed(&error))?;
    socket.bind_auto().map_err(|error| failed(&error))?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .map_err(|error| failed(&error))?;
    socket
        .send(&question(family, command, attributes), 0)
        .map_err(|error| failed(&error))?;
    let (answer, _) = socket.recv_from_full().map_err(|error| failed(&error))?;
    let answer = NetlinkMessage::<Generic>::deserialize(&answer).map_err(|error| failed(&error))?;
    Ok(match answer.payload {
        NetlinkPayload::InnerMessage(Generic { attributes, .. }) => Some(within(&attributes)),
        _ => None,
    })
}

fn question(family: u16, command: u8, attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    let generic = Generic {
        family,
        command,
        attributes: bytes,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(generic));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A message of a family: command, version, two bytes of nothing, attributes.
struct Generic {
    family: u16,
    command: u8,
    attributes: Vec<u8>,
}

const HEADER: usize = 4;
const VERSION: u8 = 1;

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let bytes = [self.command, VERSION, 0, 0];
        let bytes = bytes.iter().chain(&self.attributes);
        buffer
            .iter_mut()
            .zip(bytes)
            .for_each(|(place, byte)| *place = *byte);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match payload.split_at_checked(HEADER) {
            Some(([command, ..], attributes)) => Ok(Self {
                family: header.message_type,
                command: *command,
                attributes: attributes.to_vec(),
            }),
            _ => Err(DecodeError::from("a generic netlink message without its header")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_answers_and_one_that_is_not_there_does_not() {
        let name = DefaultNla::new(FAMILY_NAME, b"nlctrl\0".to_vec());
        let answer = ask("nlctrl", GET_FAMILY, &[name])
            .expect("asked")
            .expect("the controller itself");
        assert_eq!(text(&answer, FAMILY_NAME), Some("nlctrl"));
        assert_eq!(number(&answer, FAMILY_ID), Some(CONTROLLER.into()));
        assert_eq!(ask("no such family", 1, &[]).expect("asked"), None);
    }

    #[test]
    fn numbers_and_texts_are_read_as_they_come() {
        let attributes = vec![(1, vec![1, 0]), (2, vec![0; 3]), (3, b"eth0".to_vec())];
        assert_eq!(number(&attributes, 1), Some(u16::from_ne_bytes([1, 0]).into()));
        assert_eq!(number(&attributes, 2), None);
        assert_eq!(text(&attributes, 3), Some("eth0"));
        assert_eq!(text(&attributes, 4), None);
        assert!(within(&[9, 0, 1]).is_empty(), "broken bytes have no attributes");
    }
}
