use clap::CommandFactory as _;

use super::{crl, errors, registry, sources, stats, status, verdicts};
use crate::screens::{answer, same};

#[test]
fn status_shows_how_the_agent_is() {
    same("status", &status::render(&answer("status")));
}

#[test]
fn stats_show_what_was_counted() {
    same("stats", &stats::render(&answer("stats")));
}

#[test]
fn sources_list_shows_the_allowlist() {
    same(
        "sources-list",
        &sources::render(&answer::<Vec<_>>("sources-list")),
    );
}

#[test]
fn verdicts_list_shows_the_verdicts_in_force() {
    same(
        "verdicts-list",
        &verdicts::render(&answer::<Vec<_>>("verdicts-list")),
    );
}

#[test]
fn crl_status_shows_the_crls_and_their_fetching() {
    same("crl-status", &crl::render(&answer("crl-status")));
}

#[test]
fn registry_list_shows_the_systems() {
    same(
        "registry-list",
        &registry::render(&answer::<Vec<_>>("registry-list")),
    );
}

#[test]
fn errors_show_two_lines_for_each() {
    let reports: Vec<_> = answer("errors");
    let shown: String = reports.iter().map(errors::render).collect();
    same("errors", &shown);
}

#[test]
fn the_command_line_is_well_formed() {
    super::Cli::command().debug_assert();
}

/// Commands that change something, or have no end of their own: for these there is nothing to be read by a program.
const WITHOUT_JSON: [&str; 13] = [
    "run",
    "crl fetch",
    "sources add",
    "sources remove",
    "verdicts add",
    "verdicts remove",
    "verdicts clear",
    "reload",
    "attach",
    "detach",
    "help",
    "completions",
    "man",
];

#[test]
fn every_flag_is_documented_and_every_reading_command_has_json() {
    let mut seen = Vec::new();
    walk(&mut seen, "", &super::Cli::command());
    assert!(seen.len() > 20, "{seen:?}");
}

fn walk(seen: &mut Vec<String>, above: &str, command: &clap::Command) {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{above} {}", command.get_name()).trim().to_owned();
        assert!(
            command.get_about().is_some(),
            "`spinegate {name}` is not documented"
        );
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(
                argument.get_help().is_some(),
                "`spinegate {name}`: {id} is not documented"
            );
            let help = argument.get_help().unwrap_or_default().to_string();
            assert!(
                help.starts_with(|c: char| c.is_uppercase() || c == '`'),
                "`spinegate {name}`: the text of {id} begins with a small letter: {help}"
            );
        }
        if command.has_subcommands() {
            walk(seen, &name, command);
            continue;
        }
        let has_json = command
            .get_arguments()
            .any(|argument| argument.get_id() == "json");
        assert_eq!(
            has_json,
            !WITHOUT_JSON.contains(&name.as_str()),
            "`spinegate {name}`: --json"
        );
        seen.push(name);
    }
}
