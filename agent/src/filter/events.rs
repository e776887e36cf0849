//! Sampled drops, as the kernel reports them.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use aya::maps::{MapData, RingBuf};
use serde::{Deserialize, Serialize};
use spinegate_common::{DropEvent, Reason};

use super::{FilterError, address::address, clock::boot_time, object::Object, serial};

/// A dropped packet, or one that monitor mode would have dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// When.
    pub time: SystemTime,
    /// Why.
    #[serde(with = "serial::reason")]
    pub reason: Reason,
    /// Whether monitor mode let it pass.
    pub monitored: bool,
    /// The number of the service that it was for.
    pub service: u32,
    /// The interface's index.
    pub interface: u32,
    /// The frame's length in bytes.
    pub length: u32,
    /// The frame's beginning.
    pub frame: Vec<u8>,
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
    let packet = event.packet();
    let ago = Duration::from_nanos(boot_time().saturating_sub(event.time));
    Some(Drop {
        time: SystemTime::now().checked_sub(ago)?,
        reason: event.reason()?,
        monitored: event.monitored(),
        service: event.service,
        interface: event.interface,
        length: event.length,
        frame: event.bytes().to_vec(),
        protocol: packet.protocol,
        tcp_flags: packet.tcp_flags,
        source: address(&packet.source),
        source_port: packet.source_port,
        destination: address(&packet.destination),
        destination_port: packet.destination_port,
    })
}
