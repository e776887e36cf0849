//! `[[filter.source_list]]`: sources from a file of networks, one a line.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use crate::config::{
    Cidr, Source, SourceKind,
    reader::{Example, Section},
    values::{self, Fault},
};

/// Faults of one file that are told one by one.
const FAULTS_MAX: usize = 20;

/// Adds the sources of all lists, and gives their files. `known` are the networks that have entries already, each with the entry's name.
pub(super) fn read(
    section: &mut Section<'_>,
    folder: &Path,
    known: &mut HashMap<IpNet, String>,
    sources: &mut Vec<Source>,
) -> Option<Vec<PathBuf>> {
    let mut sound = Some(Vec::new());
    for mut entry in section.sections("source_list") {
        let file = entry.required(
            "file",
            Example("\"networks.txt\""),
            values::path(folder),
            "a text file of sources: a network or an address on each line, `#` begins a comment",
        );
        let name = entry.required(
            "name",
            Example("\"partners\""),
            values::source_name(),
            "what the operator calls them",
        );
        let kind = entry.or(
            "kind",
            SourceKind::default(),
            values::source_kind(),
            "as of a source",
        );
        let services = entry.list("services", values::service(), "as of a source");
        let (Some(file), Some(name), Some(kind), Some(services)) = (file, name, kind, services) else {
            sound = None;
            entry.finish();
            continue;
        };
        match networks(&file, known) {
            Ok(networks) => {
                sources.extend(networks.into_iter().map(|cidr| Source {
                    kind,
                    services: services.clone(),
                    ..Source::new(cidr, name.as_str())
                }));
                sound.iter_mut().for_each(|files| files.push(file.clone()));
            }
            Err(faults) => {
                for fault in faults {
                    entry.fault("file", fault);
                }
                sound = None;
            }
        }
        entry.finish();
    }
    sound
}

/// The networks of a file: an address or a network a line, `#` begins a comment.
fn networks(file: &Path, known: &mut HashMap<IpNet, String>) -> Result<Vec<IpNet>, Vec<Fault>> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| {
        vec![Fault::new(
            format!("{shown} can't be read: {error}"),
            "name a text file with a network on each line",
        )]
    })?;
    let mut networks = Vec::new();
    let mut faults = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split_once('#').map_or(text, |(text, _)| text).trim();
        if text.is_empty() {
            continue;
        }
        let fault = match network(text) {
            Err(error) => Fault::new(format!("{shown}:{line}: {}", error.message), error.mend),
            Ok(cidr) => match known.insert(cidr, format!("{shown}:{line}")) {
                None => {
                    networks.push(cidr);
                    continue;
                }
                Some(first) => {
                    let message = format!("{shown}:{line}: {cidr} is the same as that of {first}");
                    Fault::new(message, "keep one of the two entries")
                }
            },
        };
        faults.push(fault);
        if faults.len() == FAULTS_MAX {
            faults.push(Fault::new(
                format!("{shown} has more faults than these"),
                "correct these first",
            ));
            break;
        }
    }
    if faults.is_empty() {
        Ok(networks)
    } else {
        Err(faults)
    }
}

fn network(text: &str) -> Result<IpNet, crate::config::CidrError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address.to_canonical())),
        Err(_) => text.parse::<Cidr>().map(Cidr::network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("networks.txt");
        fs::write(&file, text).unwrap();
        let named = |text: String| text.replace(&folder.path().display().to_string(), "dir");
        networks(&file, &mut HashMap::new())
            .map(|networks| networks.iter().map(ToString::to_string).collect())
            .map_err(|faults| faults.into_iter().map(|fault| named(fault.message)).collect())
    }

    #[test]
    fn a_line_is_an_address_a_network_or_a_comment() {
        let text =
            "# partners\n192.0.2.0/24\n\n198.51.100.7 # one host\n2001:db8::/32\r\n::ffff:203.0.113.9\n";
        assert_eq!(
            read(text).unwrap(),
            [
                "192.0.2.0/24",
                "198.51.100.7/32",
                "2001:db8::/32",
                "203.0.113.9/32"
            ]
        );
        assert_eq!(read("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_fault_has_its_line_and_none_is_left_out_silently() {
        let faults = read("192.0.2.1/24\nnonsense\n10.0.0.0/8\n10.0.0.0/8\n").unwrap_err();
        assert!(faults[0].starts_with("dir/networks.txt:1: "), "{faults:?}");
        assert!(faults[1].starts_with("dir/networks.txt:2: "), "{faults:?}");
        assert!(faults[2].contains("dir/networks.txt:3"), "{faults:?}");
        let faults = read(&"x\n".repeat(100)).unwrap_err();
        assert_eq!(faults.len(), FAULTS_MAX + 1);
        assert!(faults[FAULTS_MAX].contains("more faults"), "{faults:?}");
    }
}
