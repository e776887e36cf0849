//! Sampled drops, as the kernel reports them.

use std::net::IpAddr;

use aya::maps::{MapData, RingBuf};
use spinegate_common::{DropEvent, Reason};

use super::{FilterError, object::Object, verdicts::address};

/// A dropped packet, or one that monitor mode would have dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Why.
    pub reason: Reason,
    /// Whether monitor mode let it pass.
    pub monitored: bool,
    /// The interface's index.
    pub interface: u32,
    /// The frame's length in bytes.
    pub length: u32,
    /// IP protocol number; 0 where the headers could not be read so far.
    pub protocol: u8,
    /// TCP's flags.
    pub tcp_flags: u8,
    /// The source, unspecified where the headers could not be read so far.
    pub source: IpAddr,
    /// Its port, 0 where there is none.
    pub source_port: u16,
    /// The destination.
    pub destination: IpAddr,
    /// Its port, 0 where there is none.
    pub destination_port: u16,
}

/// The stream of events. It is polled: the budget bounds what can gather between two polls, and a reader that waits
/// on the ring buffer's descriptor would have to vouch for it in unsafe code.
pub struct Events {
    ring: RingBuf<MapData>,
}

pub(super) fn open(object: &mut Object) -> Result<Option<Events>, FilterError> {
    const NAME: &str = "EVENTS";
    let Some(map) = object.take_map(NAME) else {
        return Ok(None);
    };
    let ring = RingBuf::try_from(map).map_err(|error| FilterError::map(NAME, error))?;
    Ok(Some(Events { ring }))
}

impl Iterator for Events {
    type Item = Drop;

    /// The next event that has been reported and not been read; none for now.
    fn next(&mut self) -> Option<Drop> {
        loop {
            let item = self.ring.next()?;
            if let Some(drop) = DropEvent::from_bytes(&item).and_then(|event| describe(&event)) {
                return Some(drop);
            }
        }
    }
}

fn describe(event: &DropEvent) -> Option<Drop> {
    Some(Drop {
        reason: event.reason()?,
        monitored: event.monitored(),
        interface: event.interface,
        length: event.length,
        protocol: event.protocol,
        tcp_flags: event.tcp_flags,
        source: address(&event.source),
        source_port: event.source_port,
        destination: address(&event.destination),
        destination_port: event.destination_port,
    })
}
