//! `spinegate registry`

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde::Serialize;

use super::{
    Exit, Failure, Format, Place,
    failure::lines,
    output::{self, printable},
    table::{self, Table},
};
use crate::{
    config::Fqdns,
    control::{Request, Response, SystemEntry, SystemVersion},
    directory::{DirectoryStatus, Imported, import},
    registry::{self, Source},
};

/// Systems of a call.
const PAGE: usize = 5_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the systems: whose each is, what it may do, and the source that says so.
    List(Format),
    /// Show what each source says of an ASID, and which of them decides.
    Show {
        /// The twelve digits.
        asid: String,
        #[command(flatten)]
        format: Format,
    },
    /// Show what a registry file would change: systems that come, go and differ.
    Diff {
        /// A registry.toml.
        file: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Fetch the registry's sources now, without waiting until that is due.
    Sync {
        /// The only one to fetch.
        source: Option<Source>,
        /// Take over what is held back otherwise, because so many systems are gone.
        #[arg(long)]
        accept_shrink: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Print a bundle of the SDS FHIR API (JSON), a folder of such, or entries of the SDS (LDIF) as registry.toml.
    Import {
        /// The file or the folder.
        file: PathBuf,
        /// Leave the FQDNs out, as for systems that come through a proxy; without this, systems without an FQDN are left out.
        #[arg(long)]
        ignore_fqdns: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Say everything that is wrong with a registry file, a bundle or an LDIF.
    Check {
        /// A registry.toml, or what `import` takes.
        file: PathBuf,
        #[command(flatten)]
        format: Format,
    },
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(format) => list(place, format),
        Command::Show { asid, format } => show(place, asid, format),
        Command::Diff { file, format } => diff(place, &file, format),
        Command::Sync {
            source,
            accept_shrink,
            format,
        } => sync(place, source, accept_shrink, format),
        Command::Import {
            file,
            ignore_fqdns,
            format,
        } => print_imported(&file, ignore_fqdns, format),
        Command::Check { file, format } => check(&file, format),
    }
}

fn list(place: &Place, format: Format) -> Result<Exit, Failure> {
    let systems = all(place)?;
    if format.json {
        return output::json(&systems);
    }
    output::text(&render(&systems))
}

pub(super) fn render(systems: &[SystemEntry]) -> String {
    let mut table = Table::titled(["ASID", "ODS", "SOURCE", "ACTIVE", "FQDN", "NAME", "INTERACTIONS"]);
    for system in systems {
        table.row(cells(system));
    }
    table.render()
}

fn cells(system: &SystemEntry) -> [String; 7] {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        system.asid.clone(),
        system.ods.clone(),
        system.source.to_string(),
        access(system).to_owned(),
        or_none(&system.fqdn),
        or_none(&system.name),
        system.interactions.join(" "),
    ]
}

/// Whether a system has access, and whether that is enforced.
const fn access(system: &SystemEntry) -> &'static str {
    match (system.active, system.shadow) {
        (false, _) => "no",
        (true, false) => "yes",
        (true, true) => "shadow",
    }
}

/// Every system, page by page: a registry may be larger than an answer.
pub(super) fn all(place: &Place) -> Result<Vec<SystemEntry>, Failure> {
    let mut systems: Vec<SystemEntry> = Vec::new();
    loop {
        let after = systems.last().map(|system| system.asid.clone());
        let Response::Systems(page) = place.ask(Request::RegistryList { after, limit: PAGE })? else {
            return Err(Failure::other_answer());
        };
        if page.is_empty() {
            return Ok(systems);
        }
        systems.extend(page);
    }
}

fn show(place: &Place, asid: String, format: Format) -> Result<Exit, Failure> {
    let Response::Versions(versions) = place.ask(Request::RegistryShow { asid })? else {
        return Err(Failure::other_answer());
    };
    if format.json {
        return output::json(&versions);
    }
    output::text(&render_versions(&versions))
}

fn render_versions(versions: &[SystemVersion]) -> String {
    let mut text = String::new();
    for version in versions {
        let system = &version.system;
        let standing = match (version.decides, version.counts) {
            (true, _) => "decides",
            (false, true) => "stands behind",
            (false, false) => "is overdue, and does not count",
        };
        let mut facts = Table::untitled();
        let mut fact = |name: &str, value: &str| facts.row([format!("  {name}"), value.to_owned()]);
        fact("ODS code", &system.ods);
        fact("active", access(system));
        fact("FQDN", system.fqdn.as_deref().unwrap_or("-"));
        fact("name", system.name.as_deref().unwrap_or("-"));
        for interaction in &system.interactions {
            fact("interaction", interaction);
        }
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}: {} {standing}", printable(&system.asid), system.source);
        text.push_str(&facts.render());
    }
    text
}

/// What a file would change.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Difference {
    /// Systems that are in the file alone.
    added: Vec<SystemEntry>,
    /// Systems that are in force alone.
    removed: Vec<SystemEntry>,
    /// Systems that differ: as they are, and as they would be.
    changed: Vec<(SystemEntry, SystemEntry)>,
}

fn diff(place: &Place, file: &Path, format: Format) -> Result<Exit, Failure> {
    let listed = load(file)?;
    // Against what the file in force lists: what other sources know is not the file's to change.
    let in_force = all(place)?
        .into_iter()
        .filter(|system| system.source == Source::File);
    let new = listed
        .iter()
        .map(|system| SystemEntry::new(Source::File, &system));
    let difference = compare(in_force, new);
    if format.json {
        return output::json(&difference);
    }
    output::text(&render_difference(&difference))
}

fn compare(old: impl Iterator<Item = SystemEntry>, new: impl Iterator<Item = SystemEntry>) -> Difference {
    let mut old: BTreeMap<String, SystemEntry> = old.map(|system| (system.asid.clone(), system)).collect();
    let mut difference = Difference::default();
    for new in new {
        match old.remove(&new.asid) {
            None => difference.added.push(new),
            Some(old) if old == new => {}
            Some(old) => difference.changed.push((old, new)),
        }
    }
    difference.removed = old.into_values().collect();
    difference
}

fn render_difference(difference: &Difference) -> String {
    let mut text = String::new();
    let mut side = |mark: &str, system: &SystemEntry| {
        let [asid, ods, _, active, fqdn, name, interactions] = cells(system).map(|cell| printable(&cell));
        let _ = writeln!(
            text,
            "{mark} {asid} {ods} active={active} fqdn={fqdn} name={name} {interactions}"
        );
    };
    difference.removed.iter().for_each(|system| side("-", system));
    difference.added.iter().for_each(|system| side("+", system));
    for (old, new) in &difference.changed {
        side("<", old);
        side(">", new);
    }
    let _ = writeln!(
        text,
        "{} added, {} removed, {} changed",
        difference.added.len(),
        difference.removed.len(),
        difference.changed.len()
    );
    text
}

fn sync(place: &Place, source: Option<Source>, accept_shrink: bool, format: Format) -> Result<Exit, Failure> {
    let request = Request::RegistrySync {
        source,
        accept_shrink,
    };
    if !format.json {
        return place.order(request);
    }
    let Response::Done(_) = place.ask(request)? else {
        return Err(Failure::other_answer());
    };
    let Response::Status(status) = place.ask(Request::Status)? else {
        return Err(Failure::other_answer());
    };
    output::json(&status.registry)
}

fn print_imported(file: &Path, ignore_fqdns: bool, format: Format) -> Result<Exit, Failure> {
    let imported = read_import(
        file,
        if ignore_fqdns {
            Fqdns::Ignore
        } else {
            Fqdns::Require
        },
    )?;
    if imported.systems.is_empty() {
        let why = imported.examples.join("\n");
        let message = format!("{}: there is no system to be taken over\n{why}", file.display());
        return Err(Failure::new(Exit::Usage, message.trim_end()));
    }
    for why in &imported.examples {
        output::note(&format!("left out: {why}"));
    }
    if imported.set_aside > imported.examples.len() {
        output::note(&format!("left out: {} records in all", imported.set_aside));
    }
    if format.json {
        let source = Source::File;
        let systems: Vec<_> = imported
            .systems
            .iter()
            .map(|system| SystemEntry::new(source, &system))
            .collect();
        return output::json(&systems);
    }
    output::text(&imported.to_toml())
}

/// What was found in a file.
#[derive(Debug, Serialize)]
struct Findings {
    systems: usize,
    problems: Vec<String>,
}

fn check(file: &Path, format: Format) -> Result<Exit, Failure> {
    let is_toml = file.extension().is_some_and(|extension| extension == "toml");
    let findings = if is_toml {
        match registry::load(file) {
            Ok(systems) => Findings {
                systems: systems.len(),
                problems: Vec::new(),
            },
            Err(problems) => Findings {
                systems: 0,
                problems: problems.iter().map(ToString::to_string).collect(),
            },
        }
    } else {
        // Systems without an FQDN are not amiss by themselves: the configuration says whether it is needed.
        let imported = read_import(file, Fqdns::Ignore)?;
        let mut problems = imported.examples;
        if imported.set_aside > problems.len() {
            problems.push(format!(
                "{} records in all can't be taken over",
                imported.set_aside
            ));
        }
        Findings {
            systems: imported.systems.len(),
            problems,
        }
    };
    if format.json {
        output::json(&findings)?;
    } else {
        let mut text = String::new();
        for problem in &findings.problems {
            let _ = writeln!(text, "{}", printable(problem));
        }
        let _ = match findings.problems.len() {
            0 => writeln!(text, "{}: sound, {} systems", file.display(), findings.systems),
            1 => writeln!(text, "1 problem"),
            count => writeln!(text, "{count} problems"),
        };
        output::text(&text)?;
    }
    Ok(if findings.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Usage
    })
}

fn load(file: &Path) -> Result<registry::Systems, Failure> {
    registry::load(file).map_err(|problems| Failure::new(Exit::Usage, lines(&problems)))
}

fn read_import(file: &Path, fqdns: Fqdns) -> Result<Imported, Failure> {
    import(file, fqdns).map_err(|error| {
        let mend = "give a bundle of Devices and Endpoints in JSON, or what `ldapsearch -LLL` prints";
        Failure::new(Exit::Usage, format!("{error}; {mend}"))
    })
}

/// As `status` shows them.
pub(super) fn sources(sources: &[DirectoryStatus]) -> String {
    let mut table = Table::titled([
        "REGISTRY",
        "STATE",
        "SYSTEMS",
        "SET ASIDE",
        "FETCHED",
        "COUNTS UNTIL",
        "FROM",
    ])
    .toned(1, table::state);
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for source in sources {
        table.row([
            source.source.clone(),
            source.state.clone(),
            source.systems.to_string(),
            source.set_aside.to_string(),
            or_none(&source.fetched),
            or_none(&source.ends),
            source.origin.clone(),
        ]);
    }
    let mut text = table.render();
    for source in sources {
        let name = printable(&source.source);
        if let Some(why) = &source.held {
            let _ = writeln!(text, "{name}: {}", printable(why));
        } else if let Some(error) = &source.last_error {
            let times = source.failures;
            let _ = writeln!(
                text,
                "{name}: not fetched, {times} in a row: {}",
                printable(error)
            );
        }
        for why in &source.set_aside_examples {
            let _ = writeln!(text, "{name}: set aside: {}", printable(why));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(asid: &str, ods: &str) -> SystemEntry {
        SystemEntry {
            asid: asid.to_owned(),
            ods: ods.to_owned(),
            interactions: vec!["urn:a".to_owned()],
            fqdn: None,
            name: None,
            active: true,
            shadow: false,
            source: Source::File,
        }
    }

    #[test]
    fn a_system_that_goes_into_shadow_is_a_difference() {
        let new = SystemEntry {
            shadow: true,
            ..system("1", "RR8")
        };
        let difference = compare([system("1", "RR8")].into_iter(), [new].into_iter());
        let text = render_difference(&difference);
        assert!(
            text.contains("< 1 RR8 active=yes ") && text.contains("> 1 RR8 active=shadow "),
            "{text}"
        );
    }

    #[test]
    fn a_difference_tells_what_comes_what_goes_and_what_changes() {
        let old = [system("1", "RR8"), system("2", "RR8"), system("3", "RR8")];
        let new = [system("2", "RR8"), system("3", "RGD"), system("4", "RR8")];
        let difference = compare(old.into_iter(), new.into_iter());
        let text = render_difference(&difference);
        assert_eq!(
            text,
            "- 1 RR8 active=yes fqdn=- name=- urn:a\n\
             + 4 RR8 active=yes fqdn=- name=- urn:a\n\
             < 3 RR8 active=yes fqdn=- name=- urn:a\n\
             > 3 RGD active=yes fqdn=- name=- urn:a\n\
             1 added, 1 removed, 1 changed\n"
        );
    }

    #[test]
    fn of_several_versions_one_decides() {
        let version = |decides, counts, source| SystemVersion {
            decides,
            counts,
            system: SystemEntry {
                source,
                ..system("200000000001", "RR8")
            },
        };
        let text = render_versions(&[
            version(false, false, Source::File),
            version(true, true, Source::Ldap),
            version(false, true, Source::Sds),
        ]);
        let first: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(
            first,
            [
                "200000000001: file is overdue, and does not count",
                "200000000001: ldap decides",
                "200000000001: sds stands behind"
            ]
        );
    }
}
