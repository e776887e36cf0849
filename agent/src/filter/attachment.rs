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

use super::{FilterError, interface, interface::Interface, link_folder, map_folder, object::Object};
use crate::config::{self, XdpAttach};

/// An interface that the filter is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Attaches to every interface of the configuration, and detaches from those that it no longer names.
pub(super) fn attach_all(
    object: &mut Object,
    config: &config::Filter,
) -> Result<Vec<Attachment>, FilterError> {
    let folder = link_folder(&config.pin_dir);
    fs::create_dir_all(&folder).map_err(|error| FilterError::Pin {
        path: folder.clone(),
        error,
    })?;
    let attachments = config
        .interfaces
        .iter()
        .map(|name| attach(object, name, &folder.join(name), config.attach))
        .collect::<Result<Vec<_>, _>>()?;
    for pin in pins(&folder)? {
        let named = pin
            .file_name()
            .is_some_and(|name| config.interfaces.iter().any(|known| name == known.as_str()));
        if !named {
            remove(&pin)?;
        }
    }
    Ok(attachments)
}

/// Takes the filter off every interface and removes all its pins. Returns the interfaces' names.
///
/// # Errors
/// If a pin can't be removed.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>, FilterError> {
    let mut names = Vec::new();
    for pin in pins(&link_folder(pin_dir))? {
        remove(&pin)?;
        names.extend(pin.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    for pin in pins(&map_folder(pin_dir))? {
        remove(&pin)?;
    }
    for folder in [link_folder(pin_dir), map_folder(pin_dir), pin_dir.to_owned()] {
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
    names.sort();
    Ok(names)
}

/// The program id that an earlier agent's pinned link holds, if the link is there.
pub(super) fn pinned_program(pin_dir: &Path, name: &str) -> Option<u32> {
    let link = PinnedLink::from_pin(link_folder(pin_dir).join(name)).ok()?;
    Some(FdLink::from(link).info().ok()?.program_id())
}

fn attach(object: &mut Object, name: &str, pin: &Path, mode: XdpAttach) -> Result<Attachment, FilterError> {
    let found = interface::find(name)?;
    if adopt(object, name, pin, &found)? {
        return attached(object, name);
    }
    if let Some(program) = found.program {
        return Err(FilterError::Occupied {
            name: name.to_owned(),
            program,
        });
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
    link.pin(pin).map_err(|error| pin_error(pin, error))?;
    attached(object, name)
}

/// Puts the program into the link that is pinned, in one step, if it is not there already. False if there is no such
/// link, or if it belonged to an interface that has gone away since.
fn adopt(object: &mut Object, name: &str, pin: &Path, found: &Interface) -> Result<bool, FilterError> {
    let Ok(pinned) = PinnedLink::from_pin(pin) else {
        return Ok(false);
    };
    let link = FdLink::from(pinned);
    let holds = link.info().map_err(|error| pin_error(pin, error))?.program_id();
    if found.program != Some(holds) {
        remove(pin)?;
        return Ok(false);
    }
    let program = object.program()?;
    if program.info().is_ok_and(|info| info.id() == holds) {
        return Ok(true);
    }
    let link = XdpLink::try_from(link).map_err(|error| pin_error(pin, error))?;
    program
        .attach_to_link(link)
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

fn pin_error(pin: &Path, error: impl std::error::Error + Send + Sync + 'static) -> FilterError {
    FilterError::Pin {
        path: pin.to_owned(),
        error: io::Error::other(error),
    }
}

fn pins(folder: &Path) -> Result<Vec<PathBuf>, FilterError> {
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

fn remove(pin: &Path) -> Result<(), FilterError> {
    fs::remove_file(pin).map_err(|error| FilterError::Pin {
        path: pin.to_owned(),
        error,
    })
}
