//! Capabilities (capabilities(7)).

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
};

use super::SandboxError;

/// Gives up all others for good.
pub(super) fn keep(kept: CapabilitySet) -> Result<(), SandboxError> {
    let failed = |error: rustix::io::Errno| SandboxError::step("giving up capabilities")(error.into());
    clear_ambient_capability_set().map_err(failed)?;
    let had = capabilities(None).map_err(failed)?;
    let kept = had.permitted & kept;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed)
}
