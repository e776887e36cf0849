//! `[tls]`

use std::{path::Path, time::Duration};

use crate::config::{
    ClientTls, DhGroup, Revocation, Suites, Tls,
    reader::{Example, Section},
    values,
};

pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Tls> {
    let certificate = section.required(
        "certificate",
        Example("\"server-chain.pem\""),
        values::path(folder),
    );
    let private_key = section.required("private_key", Example("\"server-key.pem\""), values::path(folder));
    let profiles = &[("strict", Suites::Strict), ("nrl", Suites::Nrl)];
    let suites = section.or("suites", Suites::Strict, values::choice(profiles));
    let groups = &[
        ("ffdhe2048", DhGroup::Ffdhe2048),
        ("ffdhe3072", DhGroup::Ffdhe3072),
        ("ffdhe4096", DhGroup::Ffdhe4096),
    ];
    let dh_group = section.or("dh_group", DhGroup::Ffdhe2048, values::choice(groups));
    let limits = Duration::from_millis(100)..=Duration::from_mins(1);
    let handshake_timeout = section.or(
        "handshake_timeout",
        Duration::from_secs(5),
        values::duration(limits),
    );
    let client = client(section.section("client"), folder);
    section.finish();

    Some(Tls {
        certificate: certificate?,
        private_key: private_key?,
        suites: suites?,
        dh_group: dh_group?,
        handshake_timeout: handshake_timeout?,
        client: client?,
    })
}

fn client(mut section: Section<'_>, folder: &Path) -> Option<ClientTls> {
    let roots = section.required_list("roots", Example("[\"root-ca.pem\"]"), values::path(folder));
    let issuers = section.required_list("issuers", Example("[\"sub-ca.pem\"]"), values::path(folder));
    let fqdns = section.required_list("fqdns", Example("[\"ssp.example.nhs.uk\"]"), values::fqdn);
    let policies = &[("require", Revocation::Require), ("prefer", Revocation::Prefer)];
    let revocation = section.or("revocation", Revocation::Require, values::choice(policies));
    let crls = match revocation {
        // Without a CRL every client would be refused.
        Some(Revocation::Require) => {
            section.required_list("crls", Example("[\"crl/\"]"), values::path(folder))
        }
        _ => section.list("crls", values::path(folder)),
    };
    section.finish();

    Some(ClientTls {
        roots: roots?,
        issuers: issuers?,
        fqdns: fqdns?,
        crls: crls?,
        revocation: revocation?,
    })
}
