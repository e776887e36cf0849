//! Layouts of the pinned maps: what an older agent has left is carried over and then removed; what a newer one has left
//! is not touched.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData};
use ipnet::IpNet;
use spinegate_common::{Reason, VerdictKind, VerdictOrigin, policy::LAYOUT};

use super::{
    FilterError, NewVerdict,
    attachment::{pins, remove},
    clock::boot_time,
};

const VERDICTS: &str = "VERDICTS";

/// Fails if an agent with a newer layout has pinned its maps here: this one can't tell what they say, and by its own
/// program it would take the place of a policy that it does not know.
pub(super) fn refuse_newer(pin_dir: &Path) -> Result<(), FilterError> {
    match folders(pin_dir)?.into_iter().max() {
        Some((layout, folder)) if layout > LAYOUT => Err(FilterError::NewerLayout { folder, layout }),
        _ => Ok(()),
    }
}

/// The verdicts in force that an older agent has left.
pub(super) fn inherited(pin_dir: &Path) -> Result<Vec<(IpNet, NewVerdict)>, FilterError> {
    // Layout 1 is the only older one with maps: what other folders there may be hold nothing that has a meaning.
    let pin = super::layout_folder(pin_dir, 1).join(VERDICTS);
    if LAYOUT == 1 || !pin.exists() {
        return Ok(Vec::new());
    }
    let old = |error| FilterError::OldLayout {
        path: pin.clone(),
        error: Box::new(error),
    };
    let map = Map::HashMap(MapData::from_pin(&pin).map_err(old)?);
    let map: HashMap<_, [u8; 16], [u8; 16]> = HashMap::try_from(map).map_err(old)?;
    let now = boot_time();
    let mut verdicts = Vec::new();
    for entry in map.iter() {
        let (key, value) = entry.map_err(old)?;
        let source = IpAddr::V6(Ipv6Addr::from(key)).to_canonical();
        verdicts.extend(verdict(value, now).map(|verdict| (IpNet::from(source), verdict)));
    }
    Ok(verdicts)
}

/// Removes the maps of older layouts. By now no link runs a program that reads them.
pub(super) fn remove_older(pin_dir: &Path) -> Result<(), FilterError> {
    for (_, folder) in folders(pin_dir)?
        .into_iter()
        .filter(|(layout, _)| *layout < LAYOUT)
    {
        remove_folder(&folder)?;
        tracing::info!(folder = %folder.display(), "an older agent's maps are no longer used, and removed");
    }
    Ok(())
}

/// Removes the maps of every layout.
pub(super) fn remove_all(pin_dir: &Path) -> Result<(), FilterError> {
    folders(pin_dir)?
        .iter()
        .try_for_each(|(_, folder)| remove_folder(folder))
}

/// A value of layout 1: when it ends (boot-time clock, ns), kind, reason, origin, padding. None if it has ended.
fn verdict(value: [u8; 16], now: u64) -> Option<NewVerdict> {
    let (expires, [kind, reason, origin, ..]) =
        value.split_first_chunk::<8>().and_then(|(expires, rest)| {
            let rest: [u8; 8] = rest.try_into().ok()?;
            Some((u64::from_ne_bytes(*expires), rest))
        })?;
    let left = expires.checked_sub(now).filter(|left| *left > 0)?;
    if kind != VerdictKind::Deny as u8 {
        return None;
    }
    Some(NewVerdict {
        kind: VerdictKind::Deny,
        reason: Reason::from_number(reason).unwrap_or(Reason::OperatorOrder),
        origin: if origin == VerdictOrigin::Agent as u8 {
            VerdictOrigin::Agent
        } else {
            VerdictOrigin::Operator
        },
        ttl: Duration::from_nanos(left),
    })
}

/// The folders of maps in the pin folder, each with its layout's version.
fn folders(pin_dir: &Path) -> Result<Vec<(u32, PathBuf)>, FilterError> {
    let found = pins(pin_dir)?.into_iter().filter_map(|path| {
        let version = path.file_name()?.to_str()?.strip_prefix('v')?.parse().ok()?;
        path.is_dir().then_some((version, path))
    });
    Ok(found.collect())
}

fn remove_folder(folder: &Path) -> Result<(), FilterError> {
    for pin in pins(folder)? {
        remove(&pin)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FilterError::Pin {
            path: folder.to_owned(),
            error,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(expires: u64, kind: u8, reason: Reason, origin: u8) -> [u8; 16] {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&expires.to_ne_bytes());
        value[8..11].copy_from_slice(&[kind, reason as u8, origin]);
        value
    }

    #[test]
    fn a_verdict_of_layout_1_keeps_its_reason_its_origin_and_its_remaining_time() {
        let carried = verdict(value(1_500, 1, Reason::CertificateMissing, 1), 500).expect("in force");
        assert_eq!(
            carried,
            NewVerdict {
                kind: VerdictKind::Deny,
                reason: Reason::CertificateMissing,
                origin: VerdictOrigin::Agent,
                ttl: Duration::from_nanos(1_000),
            }
        );
        let ordered = verdict(value(1_500, 1, Reason::OperatorOrder, 2), 500).expect("in force");
        assert_eq!(ordered.origin, VerdictOrigin::Operator);
    }

    #[test]
    fn what_has_ended_or_is_no_denial_is_not_carried_over() {
        for (expires, kind) in [(500, 1), (499, 1), (1_500, 0), (1_500, 2)] {
            assert_eq!(
                verdict(value(expires, kind, Reason::TlsVersion, 1), 500),
                None,
                "{expires} {kind}"
            );
        }
    }

    #[test]
    fn layouts_are_told_by_the_names_of_their_folders() {
        let pin_dir = tempfile::tempdir().expect("a folder");
        for name in ["v1", "v07", "links", "v", "vx", "v-1"] {
            fs::create_dir(pin_dir.path().join(name)).expect("made");
        }
        fs::write(pin_dir.path().join("v9"), "").expect("a file is no folder of maps");
        let mut versions: Vec<_> = folders(pin_dir.path())
            .expect("listed")
            .into_iter()
            .map(|(version, _)| version)
            .collect();
        versions.sort_unstable();
        assert_eq!(versions, [1, 7]);
        assert!(folders(Path::new("/no/such/folder")).expect("none").is_empty());
    }

    #[test]
    fn a_newer_layout_is_refused_with_its_folder_and_the_mend() {
        let pin_dir = tempfile::tempdir().expect("a folder");
        let newer = pin_dir.path().join(format!("v{}", LAYOUT + 1));
        for name in [format!("v{LAYOUT}"), "v1".to_owned()] {
            fs::create_dir(pin_dir.path().join(name)).expect("made");
        }
        assert!(refuse_newer(pin_dir.path()).is_ok());
        fs::create_dir(&newer).expect("made");
        let error = refuse_newer(pin_dir.path()).expect_err("refused").to_string();
        assert!(
            error.contains(&newer.display().to_string()) && error.contains("spinegate detach"),
            "{error}"
        );
    }
}
