//! What an interface is, for whom looks a host over.

use std::fs;

use super::{FilterError, interface, offload};

/// What was found of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// The driver's name; none where there is no device behind it, or where the kernel does not show it.
    pub driver: Option<String>,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
    /// The program in its XDP slot.
    pub program: Option<u32>,
    /// Whether that runs in the driver.
    pub native: bool,
    /// The offloads that are on, by the kernel's names; none if it does not tell (before 5.7).
    pub features: Option<Vec<String>>,
    /// Whether its driver runs XDP programs; none if the kernel does not tell (before 6.3).
    pub runs_programs: Option<bool>,
}

/// Looks at an interface of this network namespace.
///
/// # Errors
/// If there is none of that name, or the kernel can't be asked.
pub fn survey(name: &str) -> Result<Surveyed, FilterError> {
    let found = interface::find(name)?;
    // What netlink tells of a driver is for devices without hardware alone.
    let driver = fs::read_link(format!("/sys/class/net/{name}/device/driver")).ok();
    Ok(Surveyed {
        driver: driver.and_then(|driver| Some(driver.file_name()?.to_str()?.to_owned())),
        mtu: found.mtu,
        program: found.program,
        native: found.native,
        features: offload::features(name)?,
        runs_programs: offload::runs_programs(found.index)?,
    })
}
