//! `spinegate man`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command};

use super::{Exit, Failure, output};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder that the pages are written into; it is made if it is missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(command: Command, arguments: &Arguments) -> Result<Exit, Failure> {
    let folder = &arguments.folder;
    write(command, folder).map_err(|error| {
        let message = format!(
            "the pages can't be written into {}: {error}; give a folder that this user may write to",
            folder.display()
        );
        Failure::new(Exit::Refused, message)
    })?;
    output::line(&format!("the pages are in {}", folder.display()))
}

fn write(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The commands of a command line that are shown, as their pages are named.
    fn pages(command: &Command, name: &str) -> Vec<String> {
        let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
        let below = shown.flat_map(|one| pages(one, &format!("{name}-{}", one.get_name())));
        let mut pages = vec![format!("{name}.1")];
        pages.extend(below);
        pages
    }

    #[test]
    fn every_command_has_its_page_with_what_it_does_and_its_options() {
        let folder = tempfile::tempdir().unwrap();
        let command = super::super::Cli::command();
        let folder = folder.path().join("man1");
        write(command.clone(), &folder).unwrap();
        let mut expected = pages(&command, "spinegate");
        let mut written: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        expected.sort();
        written.sort();
        assert_eq!(written, expected);
        assert!(expected.len() > 20, "{expected:?}");
        let page = fs::read_to_string(folder.join("spinegate-sources-add.1")).unwrap();
        for part in ["SYNOPSIS", "sources\\-add", "\\-\\-name"] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
    }
}
