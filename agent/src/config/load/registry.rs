//! `[registry]`

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::gateway::outward_tls;
use crate::{
    config::{
        Fqdns, Ldap, MaxShrink, Registry, Sds,
        reader::{Absent, Example, Needed, Section},
        values::{self, Fault},
    },
    registry::Source,
};

const DAY: Duration = Duration::from_hours(24);
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(10)..=DAY;

pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Registry> {
    let ldap = Some(section.section("ldap")).filter(Section::is_given);
    let sds = Some(section.section("sds")).filter(Section::is_given);
    let alone = Needed(
        ldap.is_none() && sds.is_none(),
        "but with `registry.ldap` or `registry.sds`",
    );
    let file = section.required_if(
        alone,
        "file",
        Example("\"registry.toml\""),
        values::path(folder),
        "TOML: the systems, their ASIDs, ODS codes and interactions",
    );
    let words = &[
        ("file", Source::File),
        ("ldap", Source::Ldap),
        ("sds", Source::Sds),
    ];
    let precedence = section.list(
        "precedence",
        values::choice(words),
        "which source decides of an ASID that several know: the first; empty: in that order \
         ([sources](registry.md))",
    );
    let state_dir = section.or(
        "state_dir",
        PathBuf::from("/var/lib/spinegate/registry"),
        values::path(folder),
        "where the last good snapshot of each fetched source is kept",
    );
    let ages = Duration::from_secs(1)..=DAY * 30;
    let max_age = section.or(
        "max_age",
        DAY,
        values::duration(ages),
        "how long a snapshot counts after it was fetched",
    );
    let max_shrink = section.or(
        "max_shrink",
        MaxShrink::Percent(10),
        values::max_shrink(),
        "a snapshot in which more systems are gone is held back until `spinegate registry sync \
         --accept-shrink`",
    );
    let max_systems = section.or(
        "max_systems",
        2_000_000,
        values::integer(1..=100_000_000),
        "a source with more gives nothing",
    );
    let rules = &[("require", Fqdns::Require), ("ignore", Fqdns::Ignore)];
    let fqdns = section.or(
        "fqdn",
        Fqdns::Require,
        values::choice(rules),
        "a fetched system's certificate must have the FQDN of its party, and without exactly one it is \
         left out; FQDNs are not looked at, as where systems come through a proxy",
    );
    let given = [
        (Source::File, matches!(file, Some(Some(_)))),
        (Source::Ldap, ldap.is_some()),
        (Source::Sds, sds.is_some()),
    ];
    let precedence = precedence.map(|listed| in_order(&section, listed, given));
    let ldap = ldap.map(|section| self::ldap(section, folder));
    let sds = sds.map(|section| self::sds(section, folder));
    section.finish();

    Some(Registry {
        file: file?,
        precedence: precedence?,
        state_dir: state_dir?,
        max_age: max_age?,
        max_shrink: max_shrink?,
        max_systems: max_systems?,
        fqdns: fqdns?,
        ldap: match ldap {
            None => None,
            Some(ldap) => Some(ldap?),
        },
        sds: match sds {
            None => None,
            Some(sds) => Some(sds?),
        },
    })
}

/// The sources that there are, in the listed order, or in the usual one. A list must not leave one out: it would be there and
/// decide nothing.
fn in_order(section: &Section<'_>, listed: Vec<Source>, given: [(Source, bool); 3]) -> Vec<Source> {
    let given: Vec<Source> = given
        .into_iter()
        .filter_map(|(source, given)| given.then_some(source))
        .collect();
    if listed.is_empty() {
        return given;
    }
    let left_out = given.iter().find(|source| !listed.contains(source));
    let absent = listed.iter().find(|source| !given.contains(source));
    let fault = match (left_out, absent) {
        (Some(source), _) => Some((format!("leaves out {source}"), "list every source that there is")),
        (None, Some(source)) => Some((format!("names {source}, which there is not"), "take it out")),
        (None, None) => None,
    };
    if let Some((message, mend)) = fault {
        section.fault("precedence", Fault::new(message, mend));
    }
    listed
}

fn ldap(mut section: Section<'_>, folder: &Path) -> Option<Ldap> {
    let url = section.required(
        "url",
        Example("\"ldaps://ldap.example.nhs.uk\""),
        values::secure_url("ldaps", 636),
        "the Spine Directory Service over LDAP",
    );
    let tls = outward_tls(&mut section, folder, Needed::ALWAYS);
    let bind_dn = section.optional(
        "bind_dn",
        Absent("none"),
        values::distinguished_name(),
        "who binds; without it the bind is anonymous",
    );
    let password_file = section.optional(
        "password_file",
        Absent("none"),
        values::path(folder),
        "the file with the password of `bind_dn` on its first line, read at each fetch",
    );
    match (&bind_dn, &password_file) {
        (Some(Some(_)), Some(None)) => section.fault(
            "password_file",
            Fault::new(
                "is missing, but there is a bind_dn",
                "name the file of its password",
            ),
        ),
        (Some(None), Some(Some(_))) => section.fault(
            "bind_dn",
            Fault::new(
                "is missing, but there is a password",
                "name the DN that it is for",
            ),
        ),
        _ => {}
    }
    let base = section.or(
        "base",
        "ou=services,o=nhs".to_owned(),
        values::distinguished_name(),
        "where the entries are",
    );
    let page_size = section.or(
        "page_size",
        500,
        values::integer(1..=10_000),
        "entries of a page of answers",
    );
    let interval = section.or(
        "interval",
        Duration::from_mins(15),
        values::duration(INTERVAL),
        "how often changes are asked for",
    );
    let full_interval = section.or(
        "full_interval",
        Duration::from_hours(6),
        values::duration(INTERVAL),
        "how often everything is asked for: only that shows what was deleted",
    );
    let timeout = timeout(&mut section);
    let max_entry_bytes = section.or(
        "max_entry_bytes",
        1 << 20,
        values::integer(1024..=64 << 20),
        "bytes of the largest entry that is taken",
    );
    let max_bytes = section.or(
        "max_bytes",
        1 << 30,
        values::integer(1024..=64 << 30),
        "bytes that a fetch may bring at most",
    );
    section.finish();

    Some(Ldap {
        url: url?,
        tls: tls?,
        bind_dn: bind_dn?,
        password_file: password_file?,
        base: base?,
        page_size: page_size?,
        interval: interval?,
        full_interval: full_interval?,
        timeout: timeout?,
        max_entry_bytes: max_entry_bytes?,
        max_bytes: max_bytes?,
    })
}

fn sds(mut section: Section<'_>, folder: &Path) -> Option<Sds> {
    let bundles = section.list(
        "bundles",
        values::path(folder),
        "JSON: bundles of Devices and Endpoints, or folders of such",
    );
    let url = section.optional(
        "url",
        Absent("none, but required without `bundles`"),
        values::secure_url("https", 443),
        "the base of the SDS FHIR API",
    );
    let asks = || Needed(matches!(url, Some(Some(_))), "with `url`");
    let tls = outward_tls(&mut section, folder, asks());
    let apikey_file = section.optional(
        "apikey_file",
        Absent("none"),
        values::path(folder),
        "the file with the API key on its first line, read at each fetch",
    );
    let organizations = section.required_list_if(
        asks(),
        "organizations",
        Example("[\"RR8\"]"),
        values::ods_code(),
        "whose systems are asked for",
    );
    let interactions = section.required_list_if(
        asks(),
        "interactions",
        Example("[\"urn:nhs:names:services:nrl:DocumentReference.read\"]"),
        values::interaction_id(),
        "by which of their interactions",
    );
    let interval = section.or(
        "interval",
        Duration::from_mins(15),
        values::duration(INTERVAL),
        "how often",
    );
    let timeout = timeout(&mut section);
    let max_bytes = section.or(
        "max_bytes",
        16 << 20,
        values::integer(1024..=1 << 30),
        "bytes of the largest answer or file that is taken",
    );
    if let (Some(bundles), Some(None)) = (&bundles, &url)
        && bundles.is_empty()
    {
        let mend = "name the API in `registry.sds.url`, or files in `registry.sds.bundles`";
        section.fault("url", Fault::new("is missing, and so is bundles", mend));
    }
    section.finish();

    Some(Sds {
        bundles: bundles?,
        url: url?,
        tls: tls?,
        apikey_file: apikey_file?,
        organizations: organizations?,
        interactions: interactions?,
        interval: interval?,
        timeout: timeout?,
        max_bytes: max_bytes?,
    })
}

fn timeout(section: &mut Section<'_>) -> Option<Duration> {
    let limits = Duration::from_millis(100)..=Duration::from_hours(1);
    section.or(
        "timeout",
        Duration::from_mins(5),
        values::duration(limits),
        "a fetch that takes longer is given up",
    )
}
