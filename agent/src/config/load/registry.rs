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
        reader::{Example, Section},
        values::{self, Fault},
    },
    registry::Source,
};

const DAY: Duration = Duration::from_hours(24);
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(10)..=DAY;

pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Registry> {
    let ldap = section.section("ldap");
    let ldap = if ldap.is_given() {
        Some(self::ldap(ldap, folder))
    } else {
        None
    };
    let sds = section.section("sds");
    let sds = if sds.is_given() {
        Some(self::sds(sds, folder))
    } else {
        None
    };
    let file = if ldap.is_none() && sds.is_none() {
        section
            .required("file", Example("\"registry.toml\""), values::path(folder))
            .map(Some)
    } else {
        section.optional("file", values::path(folder))
    };
    let words = &[
        ("file", Source::File),
        ("ldap", Source::Ldap),
        ("sds", Source::Sds),
    ];
    let precedence = section.list("precedence", values::choice(words));
    let state_dir = section.or(
        "state_dir",
        PathBuf::from("/var/lib/spinegate/registry"),
        values::path(folder),
    );
    let ages = Duration::from_secs(1)..=DAY * 30;
    let max_age = section.or("max_age", DAY, values::duration(ages));
    let max_shrink = section.or("max_shrink", MaxShrink::Percent(10), values::max_shrink);
    let max_systems = section.or("max_systems", 2_000_000, values::integer(1..=100_000_000));
    let rules = &[("require", Fqdns::Require), ("ignore", Fqdns::Ignore)];
    let fqdns = section.or("fqdn", Fqdns::Require, values::choice(rules));
    let given = [
        (Source::File, matches!(file, Some(Some(_)))),
        (Source::Ldap, ldap.is_some()),
        (Source::Sds, sds.is_some()),
    ];
    let precedence = precedence.map(|listed| in_order(&section, listed, given));
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
    );
    let tls = outward_tls(&mut section, folder, true);
    let bind_dn = section.optional("bind_dn", values::distinguished_name);
    let password_file = section.optional("password_file", values::path(folder));
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
    let base = section.or("base", "ou=services,o=nhs".to_owned(), values::distinguished_name);
    let page_size = section.or("page_size", 500, values::integer(1..=10_000));
    let interval = section.or("interval", Duration::from_mins(15), values::duration(INTERVAL));
    let full_interval = section.or(
        "full_interval",
        Duration::from_hours(6),
        values::duration(INTERVAL),
    );
    let timeout = timeout(&mut section);
    let max_entry_bytes = section.or("max_entry_bytes", 1 << 20, values::integer(1024..=64 << 20));
    let max_bytes = section.or("max_bytes", 1 << 30, values::integer(1024..=64 << 30));
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
    let bundles = section.list("bundles", values::path(folder));
    let url = section.optional("url", values::secure_url("https", 443));
    let asks = matches!(url, Some(Some(_)));
    let tls = outward_tls(&mut section, folder, asks);
    let apikey_file = section.optional("apikey_file", values::path(folder));
    let (organizations, interactions) = if asks {
        (
            section.required_list("organizations", Example("[\"RR8\"]"), values::ods_code),
            section.required_list(
                "interactions",
                Example("[\"urn:nhs:names:services:nrl:DocumentReference.read\"]"),
                values::interaction_id,
            ),
        )
    } else {
        (
            section.list("organizations", values::ods_code),
            section.list("interactions", values::interaction_id),
        )
    };
    let interval = section.or("interval", Duration::from_mins(15), values::duration(INTERVAL));
    let timeout = timeout(&mut section);
    let max_bytes = section.or("max_bytes", 16 << 20, values::integer(1024..=1 << 30));
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
    section.or("timeout", Duration::from_mins(5), values::duration(limits))
}
