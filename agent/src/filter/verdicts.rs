//! Verdicts in the map: an address to an end on the boot-time clock.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use aya::maps::{HashMap, MapError};
use spinegate_common::{Reason, VerdictKind, VerdictOrigin, VerdictValue, packet};

use super::{FilterError, clock::boot_time, object::Object};

const NAME: &str = "VERDICTS";
const LIMIT: usize = 1 << 16;

/// A deny verdict in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The denied address.
    pub source: IpAddr,
    /// What tipped the scales.
    pub reason: Reason,
    /// Whether an operator ordered it.
    pub ordered: bool,
    /// How long it still lasts.
    pub remaining: Duration,
}

pub(super) fn deny(
    object: &mut Object,
    source: IpAddr,
    ttl: Duration,
    reason: Reason,
    origin: VerdictOrigin,
) -> Result<(), FilterError> {
    let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
    let value = VerdictValue::new(VerdictKind::Deny, reason, origin, boot_time().saturating_add(ttl));
    let mut map: HashMap<_, [u8; 16], VerdictValue> = object.map_mut(NAME)?;
    map.insert(key(source), value, 0).map_err(|error| match &error {
        MapError::SyscallError(syscall) if syscall.io_error.raw_os_error() == Some(nix::libc::E2BIG) => {
            FilterError::TooManyVerdicts { limit: LIMIT }
        }
        _ => FilterError::map(NAME, error),
    })
}

pub(super) fn lift(object: &mut Object, source: IpAddr) -> Result<bool, FilterError> {
    let in_force = find(object, source)?.is_some();
    let mut map: HashMap<_, [u8; 16], VerdictValue> = object.map_mut(NAME)?;
    match map.remove(&key(source)) {
        Ok(()) => Ok(in_force),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(FilterError::map(NAME, error)),
    }
}

pub(super) fn list(object: &Object) -> Result<Vec<Verdict>, FilterError> {
    let now = boot_time();
    let verdicts = entries(object)?
        .into_iter()
        .filter_map(|(key, value)| verdict(&key, &value, now));
    let mut verdicts: Vec<_> = verdicts.collect();
    verdicts.sort_by_key(|verdict| verdict.source);
    Ok(verdicts)
}

pub(super) fn find(object: &Object, source: IpAddr) -> Result<Option<Verdict>, FilterError> {
    let map: HashMap<_, [u8; 16], VerdictValue> = object.map(NAME)?;
    let key = key(source);
    match map.get(&key, 0) {
        Ok(value) => Ok(verdict(&key, &value, boot_time())),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(FilterError::map(NAME, error)),
    }
}

pub(super) fn forget_expired(object: &mut Object) -> Result<usize, FilterError> {
    let now = boot_time();
    let expired: Vec<_> = entries(object)?
        .into_iter()
        .filter(|(_, value)| !value.denies(now))
        .map(|(key, _)| key)
        .collect();
    let mut map: HashMap<_, [u8; 16], VerdictValue> = object.map_mut(NAME)?;
    for key in &expired {
        match map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(FilterError::map(NAME, error)),
        }
    }
    Ok(expired.len())
}

fn entries(object: &Object) -> Result<Vec<([u8; 16], VerdictValue)>, FilterError> {
    let map: HashMap<_, [u8; 16], VerdictValue> = object.map(NAME)?;
    map.iter()
        .collect::<Result<_, _>>()
        .map_err(|error| FilterError::map(NAME, error))
}

fn verdict(key: &[u8; 16], value: &VerdictValue, now: u64) -> Option<Verdict> {
    value.denies(now).then(|| Verdict {
        source: address(key),
        reason: value.reason().unwrap_or(Reason::OperatorOrder),
        ordered: value.is_order(),
        remaining: Duration::from_nanos(value.expires - now),
    })
}

fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(syscall) if syscall.io_error.raw_os_error() == Some(nix::libc::ENOENT))
}

fn key(source: IpAddr) -> [u8; 16] {
    match source.to_canonical() {
        IpAddr::V4(address) => packet::mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

pub(super) fn address(key: &[u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(*key)).to_canonical()
}
