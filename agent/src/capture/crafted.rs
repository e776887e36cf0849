//! Packets as an operator writes them, as in `tcp 192.0.2.7:40000 > 443 flags syn`, and the frames that they stand for.

mod frame;

use std::{
    iter::{Enumerate, Peekable},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::{FromStr, SplitWhitespace},
};

use spinegate_common::packet::MAX_VLAN_TAGS;

/// A packet that was written by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CraftedPacket {
    source: Endpoint,
    destination: Endpoint,
    message: Message,
    /// From the outer to the inner one.
    vlans: Vec<u16>,
    later_fragment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    address: IpAddr,
    /// 0 where the protocol has none.
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Tcp { flags: u8 },
    Udp,
    Icmp { kind: u8 },
}

/// What is wrong with a written packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}; write it as in `{EXAMPLE}`")]
pub struct PacketError {
    place: String,
    fault: String,
}

const EXAMPLE: &str = "tcp 192.0.2.7:40000 > 443 flags syn";
/// Of the ports that systems take for connections of their own (RFC 6335 section 6).
const SOURCE_PORT: u16 = 49152;
/// Where a packet goes whose destination is a port alone: addresses for documentation (RFC 5737, RFC 3849).
const DESTINATION: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
);
const FLAGS: [(&str, u8); 8] = [
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ece", 0x40),
    ("cwr", 0x80),
];
const ECHO_REQUEST: (u8, u8) = (8, 128);
const MAX_VLAN_ID: u16 = 4094;

impl FromStr for CraftedPacket {
    type Err = PacketError;

    fn from_str(text: &str) -> Result<Self, PacketError> {
        let mut words = Words::of(text);
        let (protocol, has_ports) = words.parse("a protocol: tcp, udp or icmp", |word| match word {
            "tcp" => Some((Message::Tcp { flags: 0x02 }, true)),
            "udp" => Some((Message::Udp, true)),
            "icmp" | "icmpv6" => Some((Message::Icmp { kind: 0 }, false)),
            _ => None,
        })?;
        let source = match has_ports {
            true => words.parse(
                "the source: an address, as in 192.0.2.7:40000 or [2001:db8::7]:40000",
                |word| endpoint(word, Some(SOURCE_PORT)),
            ),
            false => words.parse("the source's address, as in 192.0.2.7 or 2001:db8::7", bare),
        }?;
        words.parse(
            "`>` between source and destination, with blanks around it",
            |word| (word == ">").then_some(()),
        )?;
        let is_v4 = source.address.is_ipv4();
        let destination = match has_ports {
            true => words.parse(
                "the destination: a port, as in 443 or 203.0.113.1:443, of the source's family",
                |word| to_port(word, is_v4).filter(|end| end.address.is_ipv4() == is_v4),
            ),
            false => words.parse("the destination's address, of the source's family", |word| {
                bare(word).filter(|end| end.address.is_ipv4() == is_v4)
            }),
        }?;
        let message = match protocol {
            Message::Icmp { .. } => Message::Icmp {
                kind: if is_v4 { ECHO_REQUEST.0 } else { ECHO_REQUEST.1 },
            },
            other => other,
        };
        let mut packet = Self {
            source,
            destination,
            message,
            vlans: Vec::new(),
            later_fragment: false,
        };
        packet.read_options(&mut words)?;
        Ok(packet)
    }
}

impl CraftedPacket {
    fn read_options(&mut self, words: &mut Words<'_>) -> Result<(), PacketError> {
        let mut has_message = false;
        while !words.at_end() {
            let option = words.parse("an option: flags (tcp), type (icmp), vlan or fragment", |word| {
                ["flags", "type", "vlan", "fragment"]
                    .into_iter()
                    .find(|known| *known == word)
            })?;
            match (option, &mut self.message) {
                ("vlan", _) if self.vlans.len() == MAX_VLAN_TAGS => {
                    return Err(words.fault("there are two VLAN tags already"));
                }
                ("vlan", _) => self
                    .vlans
                    .push(words.parse("a VLAN's number from 0 to 4094", |word| {
                        number::<u16>(word).filter(|id| *id <= MAX_VLAN_ID)
                    })?),
                ("fragment", _) if self.later_fragment => return Err(words.fault("it is said twice")),
                ("fragment", _) => {
                    words.parse("`later`: the filter tells later fragments apart", |word| {
                        (word == "later").then_some(())
                    })?;
                    self.later_fragment = true;
                }
                _ if has_message => return Err(words.fault("it is said twice")),
                ("flags", Message::Tcp { flags }) => {
                    *flags = words.parse("TCP flags, as in syn or syn,ack, or none", tcp_flags)?;
                    has_message = true;
                }
                ("type", Message::Icmp { kind }) => {
                    *kind = words.parse("an ICMP type from 0 to 255", number)?;
                    has_message = true;
                }
                _ => return Err(words.fault("this protocol does not have it")),
            }
        }
        Ok(())
    }
}

/// The words of a packet, and how far they have been read.
struct Words<'text> {
    words: Peekable<Enumerate<SplitWhitespace<'text>>>,
    read: usize,
    last: &'text str,
}

impl<'text> Words<'text> {
    fn of(text: &'text str) -> Self {
        Self {
            words: text.split_whitespace().enumerate().peekable(),
            read: 0,
            last: "",
        }
    }

    fn at_end(&mut self) -> bool {
        self.words.peek().is_none()
    }

    /// Reads the next word as what is expected there.
    fn parse<T>(&mut self, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, PacketError> {
        let Some((index, word)) = self.words.next() else {
            return Err(PacketError {
                place: format!("after word {}", self.read),
                fault: format!("there should be {expected}"),
            });
        };
        self.read = index + 1;
        self.last = word;
        read(word).ok_or_else(|| self.fault(&format!("it is not {expected}")))
    }

    /// A fault of the word that was read last.
    fn fault(&self, fault: &str) -> PacketError {
        PacketError {
            place: format!("word {}, {:?}", self.read, self.last),
            fault: fault.to_owned(),
        }
    }
}

/// An address with a port; without one, if there is one to stand in for it.
fn endpoint(word: &str, port: Option<u16>) -> Option<Endpoint> {
    if let (Ok(address), Some(port)) = (address(word), port) {
        return Some(Endpoint { address, port });
    }
    let (address, port) = word.rsplit_once(':')?;
    // Without brackets the last group of an IPv6 address would be taken for a port.
    let address = match address.strip_prefix('[') {
        Some(inside) => IpAddr::V6(inside.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    Some(Endpoint {
        address,
        port: number(port)?,
    })
}

/// A port, of an address or alone.
fn to_port(word: &str, is_v4: bool) -> Option<Endpoint> {
    match number(word) {
        Some(port) => {
            let (v4, v6) = DESTINATION;
            let address = if is_v4 { v4.into() } else { v6.into() };
            Some(Endpoint { address, port })
        }
        None => endpoint(word, None),
    }
}

fn bare(word: &str) -> Option<Endpoint> {
    let address = address(word).ok()?;
    Some(Endpoint { address, port: 0 })
}

fn address(word: &str) -> Result<IpAddr, std::net::AddrParseError> {
    match word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
        Some(inside) => inside.parse().map(IpAddr::V6),
        None => word.parse(),
    }
}

/// A number in decimal digits, and nothing else: [`str::parse`] takes a sign too.
fn number<N: FromStr>(word: &str) -> Option<N> {
    let is_decimal = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_decimal)
}

fn tcp_flags(word: &str) -> Option<u8> {
    if word == "none" {
        return Some(0);
    }
    word.split(',').try_fold(0, |flags, name| {
        let (_, bit) = FLAGS.iter().find(|(known, _)| *known == name)?;
        Some(flags | bit)
    })
}

#[cfg(test)]
mod tests;
