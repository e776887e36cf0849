//! Attaching to interfaces, with links that are pinned so that they outlive the agent.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use serde::{Deserialize, Serialize};

use super::{FilterError, interface, interface::Interface, layout, link_folder, object::Object};
use crate::config::{self, XdpAttach};

/// An interface that the filter is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The interface's name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether the program runs in the driver; else in the generic hook.
    pub native: bool,
    /// The program's id.
    pub program: u32,
}

/// What holds an interface's XDP slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// This filter.
    Spinegate,
    /// Another program.
    Other {
        /// Its id.
        program: u32,
        /// Its name; empty if it has none, or only root may ask for it.
        name: String,
    },
    /// Nobody.
    Nobody,
    /// There is no such interface for now.
    Gone,
}

/// Whether the filter could be attached to every interface: each is there and free, or held by this filter already. One
/// that this filter was attached to may be away: it is attached again when it comes back.
pub(super) fn check(object: &mut Object, config: &config::Filter) -> Result<(), FilterError> {
    let folder = link_folder(&config.pin_dir);
    for name in &config.interfaces {
        match interface::find(name) {
            Ok(found) => match found.program {
                Some(program)
                    if Some(program) != held(&pin_of(&folder, name)) && !is_ours(object, program) =>
                {
                    return Err(occupied(name, program));
                }
                _ => {}
            },
            Err(FilterError::NoInterface { .. }) if pin_of(&folder, name).exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Attaches to every interface of the configuration, and detaches from those that it no longer names. An interface that
/// is away and was attached to before stays away without an error. One that can't be attached to keeps none of the others
/// from it: the first such failure stands beside the attachments, and then nothing is detached.
pub(super) fn attach_all(
    object: &mut Object,
    config: &config::Filter,
) -> Result<(Vec<Attachment>, Option<FilterError>), FilterError> {
    let folder = link_folder(&config.pin_dir);
    fs::create_dir_all(&folder).map_err(|error| FilterError::Pin {
        path: folder.clone(),
        error,
    })?;
    let (mut attachments, mut failure) = (Vec::new(), None);
    for name in &config.interfaces {
        let pin = pin_of(&folder, name);
        match attach(object, name, &pin, config.attach) {
            Ok(attachment) => attachments.push(attachment),
            Err(FilterError::NoInterface { name }) if pin.exists() => {
                tracing::warn!(
                    interface = name,
                    "the interface is away: it is attached to when it is back"
                );
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if failure.is_some() {
        return Ok((attachments, failure));
    }
    for pin in pins(&folder)? {
        let named = interface_of(&pin).is_some_and(|name| config.interfaces.contains(&name));
        if !named {
            remove(&pin)?;
        }
    }
    Ok((attachments, None))
}

/// What holds an interface's XDP slot now.
pub(super) fn owner(object: &mut Object, config: &config::Filter, name: &str) -> Owner {
    let Ok(found) = interface::find(name) else {
        return Owner::Gone;
    };
    match found.program {
        None => Owner::Nobody,
        Some(program)
            if is_ours(object, program)
                || Some(program) == held(&pin_of(&link_folder(&config.pin_dir), name)) =>
        {
            Owner::Spinegate
        }
        Some(program) => Owner::Other {
            program,
            name: program_name(program),
        },
    }
}

fn is_ours(object: &mut Object, program: u32) -> bool {
    object
        .program()
        .is_ok_and(|ours| ours.info().is_ok_and(|info| info.id() == program))
}

/// A program in an operator's words.
#[must_use]
pub fn titled(program: u32, name: &str) -> String {
    if name.is_empty() {
        format!("program {program}")
    } else {
        format!("program {program} {name:?}")
    }
}

/// The name of a loaded program; empty if it has none, is gone, or may not be asked for: that takes CAP_SYS_ADMIN, which
/// the keeper has not.
fn program_name(id: u32) -> String {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == id)
        .and_then(|info| info.name_as_str().map(str::to_owned))
        .unwrap_or_default()
}

pub(super) fn occupied(name: &str, program: u32) -> FilterError {
    FilterError::Occupied {
        name: name.to_owned(),
        program,
        program_name: program_name(program),
    }
}

/// Takes the filter off every interface and removes all its pins, those of other layouts too. Returns the interfaces'
/// names.
///
/// # Errors
/// If a pin can't be removed.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>, FilterError> {
    let names = release(pin_dir)?;
    layout::remove_all(pin_dir)?;
    for folder in [link_folder(pin_dir), pin_dir.to_owned()] {
        match fs::remove_dir(&folder) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) => {}
            Err(error) => return Err(FilterError::Pin { path: folder, error }),
        }
    }
    Ok(names)
}

/// Takes the filter off every interface. Returns their names.
pub(super) fn release(pin_dir: &Path) -> Result<Vec<String>, FilterError> {
    let mut names = Vec::new();
    for pin in pins(&link_folder(pin_dir))? {
        remove(&pin)?;
        names.extend(interface_of(&pin));
    }
    names.sort();
    Ok(names)
}

/// The interfaces of a configuration whose XDP slot another program holds, each with that program's id and name.
#[must_use]
pub fn foreign(config: &config::Filter) -> Vec<(String, u32, String)> {
    let held_by_another = |name: &String| {
        let program = interface::find(name).ok()?.program?;
        let ours = pinned_program(&config.pin_dir, name) == Some(program);
        (!ours).then(|| (name.clone(), program, program_name(program)))
    };
    config.interfaces.iter().filter_map(held_by_another).collect()
}

/// The program id that an earlier agent's pinned link holds, if the link is there.
pub(super) fn pinned_program(pin_dir: &Path, name: &str) -> Option<u32> {
    held(&pin_of(&link_folder(pin_dir), name))
}

/// Where the link of an interface is pinned. bpffs takes no name with a dot in it, which names of VLAN devices often have;
/// a colon is in no interface's name.
fn pin_of(folder: &Path, interface: &str) -> PathBuf {
    folder.join(interface.replace('.', ":"))
}

fn interface_of(pin: &Path) -> Option<String> {
    Some(pin.file_name()?.to_string_lossy().replace(':', "."))
}

fn held(pin: &Path) -> Option<u32> {
    let link = PinnedLink::from_pin(pin).ok()?;
    Some(FdLink::from(link).info().ok()?.program_id())
}

fn attach(object: &mut Object, name: &str, pin: &Path, mode: XdpAttach) -> Result<Attachment, FilterError> {
    let found = interface::find(name)?;
    if adopt(object, name, pin, &found)? {
        let other = match mode {
            XdpAttach::Auto => false,
            XdpAttach::Native => !found.native,
            XdpAttach::Generic => found.native,
        };
        if other {
            tracing::warn!(
                interface = name,
                "it stays attached as it is, so that no packet goes by unguarded: `spinegate detach` and then `spinegate \
                 attach` change between native and generic"
            );
        }
        return attached(object, name);
    }
    if let Some(program) = found.program {
        return Err(occupied(name, program));
    }
    let link = match mode {
        XdpAttach::Native => attach_in(object, name, found.index, XdpMode::Driver)?,
        XdpAttach::Generic => attach_in(object, name, found.index, XdpMode::Skb)?,
        XdpAttach::Auto => match attach_in(object, name, found.index, XdpMode::Driver) {
            Ok(link) => link,
            Err(error) => {
                tracing::warn!(interface = name, %error, "no XDP in the driver: using the generic hook");
                attach_in(object, name, found.index, XdpMode::Skb)?
            }
        },
    };
    link.pin(pin).map_err(|error| FilterError::pin(pin, error))?;
    attached(object, name)
}

/// Puts the program into the link that is pinned, in one step, if it is not there already. False if there is no such
/// link, or if it belonged to an interface that has gone away since.
fn adopt(object: &mut Object, name: &str, pin: &Path, found: &Interface) -> Result<bool, FilterError> {
    let Ok(pinned) = PinnedLink::from_pin(pin) else {
        return Ok(false);
    };
    let link = FdLink::from(pinned);
    let holds = link
        .info()
        .map_err(|error| FilterError::pin(pin, error))?
        .program_id();
    if found.program != Some(holds) {
        remove(pin)?;
        return Ok(false);
    }
    let program = object.program()?;
    if program.info().is_ok_and(|info| info.id() == holds) {
        return Ok(true);
    }
    let link = XdpLink::try_from(link).map_err(|error| FilterError::pin(pin, error))?;
    let id = program
        .attach_to_link(link)
        .map_err(|error| attach_error(name, "adopted link", &error))?;
    // The pin alone is to hold the link: as long as this process held it too, to remove the pin would not detach.
    program
        .take_link(id)
        .map(drop)
        .map_err(|error| attach_error(name, "adopted link", &error))?;
    Ok(true)
}

fn attach_in(object: &mut Object, name: &str, index: u32, mode: XdpMode) -> Result<FdLink, FilterError> {
    let label = if matches!(mode, XdpMode::Skb) {
        "generic"
    } else {
        "native"
    };
    let program = object.program()?;
    let id = program
        .attach_to_if_index(index, mode)
        .map_err(|error| attach_error(name, label, &error))?;
    let link = program
        .take_link(id)
        .map_err(|error| attach_error(name, label, &error))?;
    // A netlink attachment would not outlive the agent, so it is no use here; kernels from 5.9 on have links.
    FdLink::try_from(link).map_err(|error| FilterError::Attach {
        name: name.to_owned(),
        mode: label,
        error: error.to_string(),
    })
}

fn attached(object: &mut Object, name: &str) -> Result<Attachment, FilterError> {
    let found = interface::find(name)?;
    let info = object
        .program()?
        .info()
        .map_err(|error| attach_error(name, "info", &error))?;
    Ok(Attachment {
        name: name.to_owned(),
        index: found.index,
        native: found.native,
        program: info.id(),
    })
}

fn attach_error(name: &str, mode: &'static str, error: &ProgramError) -> FilterError {
    let mut text = error.to_string();
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        text = format!("{text}: {source}");
        cause = source;
    }
    FilterError::Attach {
        name: name.to_owned(),
        mode,
        error: text,
    }
}

pub(super) fn pins(folder: &Path) -> Result<Vec<PathBuf>, FilterError> {
    let pin_error = |error| FilterError::Pin {
        path: folder.to_owned(),
        error,
    };
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(pin_error),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(pin_error(error)),
    }
}

pub(super) fn remove(pin: &Path) -> Result<(), FilterError> {
    fs::remove_file(pin).map_err(|error| FilterError::Pin {
        path: pin.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pins_name_has_no_dot_and_tells_the_interface() {
        let pin = pin_of(Path::new("/pins"), "eth0.100");
        assert_eq!(pin, Path::new("/pins/eth0:100"));
        assert_eq!(interface_of(&pin).as_deref(), Some("eth0.100"));
        assert_eq!(interface_of(Path::new("/pins/eth0")).as_deref(), Some("eth0"));
    }
}
