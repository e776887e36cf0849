//! Verdicts in the maps: an address or a prefix to an end on the boot-time clock.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use aya::maps::{HashMap, LpmTrie, MapError, lpm_trie::Key};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use spinegate_common::{Reason, VerdictKind, VerdictOrigin, VerdictValue, packet::Address, policy::Control};

use super::{
    FilterError,
    address::{address, key},
    clock::boot_time,
    object::Object,
    policy, serial,
};

const ADDRESSES: &str = "VERDICTS";
const PREFIXES: &str = "PREFIX_VERDICTS";
const LIMIT: usize = 1 << 20;

/// A verdict in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whom it is on; a single address has a prefix of full length.
    pub source: IpNet,
    /// What it says.
    #[serde(with = "serial::kind")]
    pub kind: VerdictKind,
    /// What tipped the scales.
    #[serde(with = "serial::reason")]
    pub reason: Reason,
    /// Whether an operator ordered it.
    pub ordered: bool,
    /// How long it still lasts.
    pub remaining: Duration,
    /// Dropped packets of a denied source, handshakes of a trusted one.
    pub hits: u64,
}

/// What there is to know of a verdict that is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVerdict {
    /// What it says.
    #[serde(with = "serial::kind")]
    pub kind: VerdictKind,
    /// Why.
    #[serde(with = "serial::reason")]
    pub reason: Reason,
    /// Who says so.
    #[serde(with = "serial::origin")]
    pub origin: VerdictOrigin,
    /// How long it lasts.
    pub ttl: Duration,
}

/// Writes a verdict, in the place of the one that there may be on the very same address or prefix.
pub(super) fn put(object: &mut Object, source: IpNet, new: NewVerdict) -> Result<(), FilterError> {
    let ttl = u64::try_from(new.ttl.as_nanos()).unwrap_or(u64::MAX);
    let value = VerdictValue::new(new.kind, new.reason, new.origin, boot_time().saturating_add(ttl));
    announce(object, source)?;
    if is_address(source) {
        let mut map: HashMap<_, Address, VerdictValue> = object.map_mut(ADDRESSES)?;
        map.insert(key(source.addr()), value, 0)
            .map_err(|error| refused(ADDRESSES, error))
    } else {
        // What covers it is taken into account first: not for one packet may it hide a denial.
        let mut all = prefixes(object)?;
        all.retain(|(other, _)| *other != source);
        all.push((source, value));
        let value = settled(source, &value, &all, boot_time());
        shield(object, &all)?;
        let (length, address) = prefix(source);
        let mut map: LpmTrie<_, Address, VerdictValue> = object.map_mut(PREFIXES)?;
        map.insert(&Key::new(length, address), value, 0)
            .map_err(|error| refused(PREFIXES, error))?;
        settle(object)
    }
}

/// Removes the verdict on an address or a prefix; false if none was in force.
pub(super) fn lift(object: &mut Object, source: IpNet) -> Result<bool, FilterError> {
    let in_force = find(object, source)?.is_some();
    remove(object, source)?;
    if !is_address(source) {
        settle(object)?;
    }
    Ok(in_force)
}

/// The verdicts in force, by address.
pub(super) fn list(object: &Object) -> Result<Vec<Verdict>, FilterError> {
    let now = boot_time();
    let verdicts = entries(object)?
        .into_iter()
        .filter_map(|(source, value)| describe(source, &value, now));
    let mut verdicts: Vec<_> = verdicts.collect();
    verdicts.sort_by_key(|verdict| (verdict.source.addr(), verdict.source.prefix_len()));
    Ok(verdicts)
}

/// How many verdicts there are, ended ones included until they are swept.
pub(super) fn count(object: &Object) -> Result<usize, FilterError> {
    let addresses: HashMap<_, Address, VerdictValue> = object.map(ADDRESSES)?;
    Ok(addresses.keys().count() + prefixes(object)?.len())
}

/// The verdict in force on the very same address or prefix.
pub(super) fn find(object: &Object, source: IpNet) -> Result<Option<Verdict>, FilterError> {
    let found = if is_address(source) {
        let map: HashMap<_, Address, VerdictValue> = object.map(ADDRESSES)?;
        match map.get(&key(source.addr()), 0) {
            Ok(value) => Some(value),
            Err(MapError::KeyNotFound) => None,
            Err(error) => return Err(FilterError::map(ADDRESSES, error)),
        }
    } else {
        let all = prefixes(object)?;
        all.into_iter()
            .find(|(prefix, _)| *prefix == source)
            .map(|(_, value)| value)
    };
    Ok(found.and_then(|value| describe(source, &value, boot_time())))
}

/// The verdicts in force that an address is judged by: its own, and those on prefixes that cover it.
pub(super) fn covering(object: &Object, address: IpAddr) -> Result<Vec<Verdict>, FilterError> {
    let address = address.to_canonical();
    let mut verdicts: Vec<_> = find(object, IpNet::from(address))?.into_iter().collect();
    let now = boot_time();
    verdicts.extend(
        prefixes(object)?
            .into_iter()
            .filter(|(prefix, _)| prefix.contains(&address))
            .filter_map(|(prefix, value)| describe(prefix, &value, now)),
    );
    Ok(verdicts)
}

/// When verdicts end, the next one first. What has been replaced or lifted stays in it until its time comes.
#[derive(Default)]
pub(super) struct Ends(BinaryHeap<Reverse<(u64, IpNet)>>);

impl Ends {
    /// The ends of the verdicts that there are.
    pub(super) fn read(object: &Object) -> Result<Self, FilterError> {
        let all = entries(object)?.into_iter();
        Ok(Self(
            all.map(|(source, value)| Reverse((value.expires, source)))
                .collect(),
        ))
    }

    /// Notes a verdict that has been written and lasts `ttl`.
    pub(super) fn note(&mut self, source: IpNet, ttl: Duration) {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        self.0.push(Reverse((boot_time().saturating_add(ttl), source)));
    }
}

/// Deletes what has ended, and says how much that was.
pub(super) fn forget_expired(object: &mut Object, ends: &mut Ends) -> Result<usize, FilterError> {
    let now = boot_time();
    let (mut forgotten, mut settle_after) = (0, false);
    while let Some(Reverse((end, source))) = ends.0.peek().copied()
        && end <= now
    {
        ends.0.pop();
        // A verdict that has been renewed meanwhile has another end.
        if find(object, source)?.is_none() && remove(object, source)? {
            forgotten += 1;
            settle_after |= !is_address(source);
        }
    }
    if settle_after {
        settle(object)?;
    }
    if forgotten > 0 {
        retract(object)?;
    }
    Ok(forgotten)
}

/// Tells the program that there may be verdicts of this form, before the first one is written.
fn announce(object: &mut Object, source: IpNet) -> Result<(), FilterError> {
    let Some(control) = policy::control(object)? else {
        return Ok(());
    };
    let announced = Control {
        verdicts: control.verdicts || is_address(source),
        prefix_verdicts: control.prefix_verdicts || !is_address(source),
        ..control
    };
    if announced == control {
        return Ok(());
    }
    policy::set_control(object, announced)
}

/// Tells the program which forms of verdicts there are, where none are left.
pub(super) fn retract(object: &mut Object) -> Result<(), FilterError> {
    let Some(control) = policy::control(object)? else {
        return Ok(());
    };
    let addresses: HashMap<_, Address, VerdictValue> = object.map(ADDRESSES)?;
    let verdicts = addresses.keys().next().is_some();
    let left = Control {
        verdicts,
        prefix_verdicts: !prefixes(object)?.is_empty(),
        ..control
    };
    if left == control {
        return Ok(());
    }
    policy::set_control(object, left)
}

/// Has each prefix say what the prefixes that cover it say: the program finds the longest one alone.
fn settle(object: &mut Object) -> Result<(), FilterError> {
    let now = boot_time();
    let all = prefixes(object)?;
    shield(object, &all)?;
    let mut map: LpmTrie<_, Address, VerdictValue> = object.map_mut(PREFIXES)?;
    for (source, value) in &all {
        let settled = settled(*source, value, &all, now);
        if settled != *value {
            let (length, address) = prefix(*source);
            map.insert(&Key::new(length, address), settled, 0)
                .map_err(|error| refused(PREFIXES, error))?;
        }
    }
    Ok(())
}

/// All of IPv4. In the form in which the program has addresses, a wide prefix of IPv6 covers it.
const ALL_V4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));

/// Keeps verdicts on IPv6 prefixes off IPv4's addresses: where one covers them and nothing else is said of them, an
/// entry that says nothing stands in between.
fn shield(object: &mut Object, all: &[(IpNet, VerdictValue)]) -> Result<(), FilterError> {
    if all.iter().any(|(source, _)| *source == ALL_V4) {
        return Ok(());
    }
    let (length, address) = prefix(ALL_V4);
    let key = Key::new(length, address);
    let mut map: LpmTrie<_, Address, VerdictValue> = object.map_mut(PREFIXES)?;
    if all.iter().any(|(source, _)| covers_v4(*source)) {
        return map
            .insert(&key, VerdictValue::default(), 0)
            .map_err(|error| refused(PREFIXES, error));
    }
    match map.remove(&key) {
        Err(error) if !is_absent(&error) => Err(FilterError::map(PREFIXES, error)),
        _ => Ok(()),
    }
}

/// Whether a prefix of IPv6 covers what IPv4's addresses are mapped to.
fn covers_v4(source: IpNet) -> bool {
    matches!(source, IpNet::V6(wide) if wide.contains(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()))
}

fn settled(source: IpNet, value: &VerdictValue, all: &[(IpNet, VerdictValue)], now: u64) -> VerdictValue {
    let mut settled = *value;
    (settled.deny_until, settled.trust_until) = (0, 0);
    let covering = all.iter().filter(|(other, _)| other.contains(&source));
    for (_, other) in covering.filter(|(_, other)| other.is_in_force(now)) {
        match other.kind() {
            Some(VerdictKind::Deny) => settled.deny_until = settled.deny_until.max(other.expires),
            Some(VerdictKind::Trust) => settled.trust_until = settled.trust_until.max(other.expires),
            None => {}
        }
    }
    settled
}

/// False if there was none, ended or not.
fn remove(object: &mut Object, source: IpNet) -> Result<bool, FilterError> {
    if source == ALL_V4 {
        // Not for one packet may a verdict on IPv6 show through.
        let mut all = prefixes(object)?;
        let before = all.len();
        all.retain(|(other, _)| *other != source);
        shield(object, &all)?;
        return Ok(all.len() < before);
    }
    let (name, removed) = if is_address(source) {
        let mut map: HashMap<_, Address, VerdictValue> = object.map_mut(ADDRESSES)?;
        (ADDRESSES, map.remove(&key(source.addr())))
    } else {
        let (length, address) = prefix(source);
        let mut map: LpmTrie<_, Address, VerdictValue> = object.map_mut(PREFIXES)?;
        (PREFIXES, map.remove(&Key::new(length, address)))
    };
    match removed {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(FilterError::map(name, error)),
    }
}

fn entries(object: &Object) -> Result<Vec<(IpNet, VerdictValue)>, FilterError> {
    let map: HashMap<_, Address, VerdictValue> = object.map(ADDRESSES)?;
    let mut all = prefixes(object)?;
    for entry in map.iter() {
        let (key, value) = entry.map_err(|error| FilterError::map(ADDRESSES, error))?;
        all.push((IpNet::from(address(&key)), value));
    }
    Ok(all)
}

fn prefixes(object: &Object) -> Result<Vec<(IpNet, VerdictValue)>, FilterError> {
    let map: LpmTrie<_, Address, VerdictValue> = object.map(PREFIXES)?;
    let mut all = Vec::new();
    for entry in map.iter() {
        let (key, value) = entry.map_err(|error| FilterError::map(PREFIXES, error))?;
        let length = u8::try_from(key.prefix_len()).unwrap_or(128);
        if let Ok(prefix) = Ipv6Net::new(Ipv6Addr::from(key.data().octets()), length)
            && value.kind().is_some()
        {
            all.push((unmapped(prefix), value));
        }
    }
    Ok(all)
}

fn describe(source: IpNet, value: &VerdictValue, now: u64) -> Option<Verdict> {
    let kind = value.kind()?;
    value.is_in_force(now).then(|| Verdict {
        source,
        kind,
        reason: value.reason().unwrap_or(Reason::OperatorOrder),
        ordered: value.is_order(),
        remaining: Duration::from_nanos(value.expires - now),
        hits: value.hits,
    })
}

fn refused(name: &'static str, error: MapError) -> FilterError {
    const FULL: [i32; 2] = [nix::libc::E2BIG, nix::libc::ENOSPC];
    match &error {
        MapError::SyscallError(syscall)
            if syscall
                .io_error
                .raw_os_error()
                .is_some_and(|code| FULL.contains(&code)) =>
        {
            FilterError::TooManyVerdicts { limit: LIMIT }
        }
        _ => FilterError::map(name, error),
    }
}

fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(syscall) if syscall.io_error.raw_os_error() == Some(nix::libc::ENOENT))
}

fn is_address(source: IpNet) -> bool {
    source.prefix_len() == source.max_prefix_len()
}

/// A prefix over the form in which the program has addresses.
fn prefix(source: IpNet) -> (u32, Address) {
    let family = if source.addr().is_ipv4() { 96 } else { 0 };
    (family + u32::from(source.prefix_len()), key(source.network()))
}

fn unmapped(prefix: Ipv6Net) -> IpNet {
    match prefix.addr().to_ipv4_mapped() {
        Some(address) if prefix.prefix_len() >= 96 => {
            IpNet::new(IpAddr::V4(address), prefix.prefix_len() - 96).unwrap_or(IpNet::V6(prefix))
        }
        _ => IpNet::V6(prefix),
    }
}
