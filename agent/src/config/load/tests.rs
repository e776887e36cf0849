//! Every bad input of a configuration file, with the very words that the operator reads.

use std::path::Path;

use proptest::prelude::*;

use super::*;

/// The example that the documentation calls the least that works.
pub(super) fn least() -> String {
    const DOCUMENTATION: &str = include_str!("../../../../docs/configuration.md");
    let (_, rest) = DOCUMENTATION.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

pub(super) fn load_text(text: impl Into<String>) -> Result<Loaded, Vec<Diagnostic>> {
    from_document(
        Document::parse(Path::new("dir/a.toml"), text.into()).map_err(|diagnostic| vec![diagnostic])?,
    )
}

fn diagnostics(text: impl Into<String>) -> Vec<String> {
    load_text(text).map_or_else(
        |found| found.iter().map(ToString::to_string).collect(),
        |_| Vec::new(),
    )
}

/// The example with one line replaced (or, by an empty text, taken out), and what is said about it.
fn with(line: &str, by: &str) -> Vec<String> {
    let text = least();
    assert!(
        text.contains(&format!("{line}\n")),
        "the example has no line {line:?}"
    );
    diagnostics(text.replacen(line, by, 1))
}

#[test]
fn the_least_that_works_loads_with_the_ports_it_listens_on_guarded_and_paths_from_its_folder() {
    let loaded = load_text(least()).unwrap();
    assert_eq!(
        loaded.config.filter.services,
        [crate::config::GuardedService::everywhere(
            "tcp/443".parse().unwrap()
        )]
    );
    assert_eq!(loaded.config.tls.certificate, Path::new("dir/server-chain.pem"));
    assert_eq!(
        loaded.config.audit.file,
        Path::new("/var/log/spinegate/audit.jsonl")
    );
    assert_eq!(loaded.config.metrics.listen, None);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn each_bad_value_gets_its_diagnostic() {
    // The line to replace, its replacement, what is said.
    let table = [
        (
            "interfaces = [\"eth0\"]",
            "interfaces = [\"eth0\", \"eth 1\", \"eth0\"]",
            "dir/a.toml:2: filter.interfaces[1]: \"eth 1\" is not an interface's name; write a name that `ip link` shows: 1 to 15 characters, no blank, no slash, no colon\n\
             dir/a.toml:2: filter.interfaces[2]: stands in the list already; take it out",
        ),
        (
            "interfaces = [\"eth0\"]",
            "interfaces = \"eth0\"",
            "dir/a.toml:2: filter.interfaces: is a string, not a list; put its values in [ ]",
        ),
        (
            "interfaces = [\"eth0\"]",
            "interface = [\"eth0\"]",
            "dir/a.toml:1: filter.interfaces: is missing; write `interfaces = [\"eth0\"]` under [filter]\n\
             dir/a.toml:2: filter.interface: is not a known key; did you mean `interfaces`?",
        ),
        (
            "interfaces = [\"eth0\"]",
            "interfaces = [\"eth0\"]\nmode = \"enforced\"",
            "dir/a.toml:3: filter.mode: \"enforced\" is none of its values; write one of \"enforce\", \"monitor\", \"off\"",
        ),
        (
            "interfaces = [\"eth0\"]",
            "interfaces = [\"eth0\"]\nevents_per_second = -1",
            "dir/a.toml:3: filter.events_per_second: -1 is out of range; write an integer from 0 to 1000000",
        ),
        (
            "interfaces = [\"eth0\"]",
            "interfaces = [\"eth0\"]\nevents_per_second = 1.5",
            "dir/a.toml:3: filter.events_per_second: is a float, not an integer; write an integer from 0 to 1000000",
        ),
        (
            "cidr = \"10.239.14.31/32\"",
            "cidr = \"10.239.14.31/16\"",
            "dir/a.toml:4: filter.source[0].cidr: \"10.239.14.31/16\" has host bits set; write \"10.239.0.0/16\" for the network, or \"10.239.14.31/32\" for the one address",
        ),
        (
            "cidr = \"10.239.14.31/32\"",
            "cidr = \"10.239.14.31/33\"",
            "dir/a.toml:4: filter.source[0].cidr: \"10.239.14.31/33\" has no prefix length of 0 to 32; write an address and a prefix length, as in \"10.239.14.31/32\" or \"2001:db8::/64\"",
        ),
        (
            "cidr = \"10.239.14.31/32\"",
            "cidr = \"10.239.14.31\"",
            "dir/a.toml:4: filter.source[0].cidr: \"10.239.14.31\" has no prefix length; write \"10.239.14.31/32\" for the one address",
        ),
        (
            "cidr = \"10.239.14.31/32\"",
            "",
            "dir/a.toml:3: filter.source[0].cidr: is missing; add `cidr = \"10.239.14.31/32\"` under its [[filter.source]]",
        ),
        (
            "kind = \"proxy\"",
            "[[filter.source]]\ncidr = \"10.239.14.31/32\"\nname = \"b\"\nservices = [\"tcp/0\"]",
            "dir/a.toml:7: filter.source[1].cidr: 10.239.14.31/32 is the same as that of filter.source[0].cidr; keep one of the two entries\n\
             dir/a.toml:9: filter.source[1].services[0]: \"tcp/0\" is not a service; write `tcp/` or `udp/` and a port of 1 to 65535, as in \"tcp/443\"",
        ),
        (
            "[[filter.source]]",
            "[filter.source]",
            "dir/a.toml:3: filter.source: is not a list of tables; begin each entry with a line [[filter.source]]",
        ),
        (
            "[[filter.source]]",
            "[[filter.service]]\nprotocol = \"tcp\"\nport = 0\n[[filter.source]]",
            "dir/a.toml:5: filter.service[0].port: 0 is out of range; write an integer from 1 to 65535",
        ),
        (
            "addresses = [\"0.0.0.0:443\"]",
            "addresses = [\"0.0.0.0\", \"[::]:0\"]",
            "dir/a.toml:9: listen.addresses[0]: \"0.0.0.0\" is not an address with a port; write an IP address and a port, as in \"0.0.0.0:443\" or \"[::]:443\"\n\
             dir/a.toml:9: listen.addresses[1]: \"[::]:0\" has port 0; name a port from 1 to 65535",
        ),
        (
            "private_key = \"server-key.pem\"",
            "handshake_timeout = 5",
            "dir/a.toml:11: tls.private_key: is missing; add `private_key = \"server-key.pem\"` under [tls]\n\
             dir/a.toml:13: tls.handshake_timeout: is an integer, not a string; write a string, as in \"5s\" (a number and its unit)",
        ),
        (
            "private_key = \"server-key.pem\"",
            "private_key = \"\"\nhandshake_timeout = \"5 parsecs\"",
            "dir/a.toml:13: tls.private_key: \"\" is no path; name a file or a folder\n\
             dir/a.toml:14: tls.handshake_timeout: \"5 parsecs\" is not a time span: unknown time unit \"parsecs\", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations); write a time span from 100ms to 1m, as in \"5s\"",
        ),
        (
            "private_key = \"server-key.pem\"",
            "private_key = \"k\"\nhandshake_timeout = \"2m\"",
            "dir/a.toml:14: tls.handshake_timeout: \"2m\" is out of range; write a time span from 100ms to 1m, as in \"5s\"",
        ),
        (
            "fqdns = [\"ssp.example.nhs.uk\"]",
            "fqdns = [\"*.nhs.uk\"]",
            "dir/a.toml:17: tls.client.fqdns[0]: \"*.nhs.uk\" is not a fully qualified domain name: a label has a character other than a letter, a digit or a hyphen; write the whole name that the certificate has, without wildcard",
        ),
        (
            "fqdns = [\"ssp.example.nhs.uk\"]",
            "fqdns = []",
            "dir/a.toml:17: tls.client.fqdns: is empty; write `fqdns = [\"ssp.example.nhs.uk\"]` under [tls.client]",
        ),
        (
            "crls = [\"crl/\"]",
            "",
            "dir/a.toml:14: tls.client.crls: is missing; write `crls = [\"crl/\"]` under [tls.client]",
        ),
        (
            "asid = \"999999999999\"",
            "asid = 999999999999",
            "dir/a.toml:21: gateway.asid: is an integer, not a string; write a string, as in \"999999999999\" (in quotes)",
        ),
        (
            "asid = \"999999999999\"",
            "asid = \"99999999999\"\nprofile = \"responder\"",
            "dir/a.toml:21: gateway.asid: \"99999999999\" is not an ASID; write its twelve digits in quotes\n\
             dir/a.toml:22: gateway.profile: \"responder\" is none of its values; write one of \"locator\", \"provider\"",
        ),
        (
            "upstream = \"http://127.0.0.1:8080\"",
            "upstream = \"http://127.0.0.1:8080\"\n[gateway.jwt]\ntolerance = \"6m\"\n[gateway.provider]\npaths = []\ninteractions = \
             [\"urn:nhs:names:services:nrl:DocumentReference.read\"]\nrequester = \"all\"",
            "dir/a.toml:24: gateway.jwt.tolerance: \"6m\" is out of range; write a time span from 0s to 5m, as in \"5s\"\n\
             dir/a.toml:26: gateway.provider.paths: is empty; write `paths = [\"/records\"]` under [gateway.provider]\n\
             dir/a.toml:27: gateway.provider.interactions[0]: \"urn:nhs:names:services:nrl:DocumentReference.read\" is not the ID of the retrieval of a record; \
             write \"urn:nhs:names:services:nrl:DocumentReference.content.read\" or \"urn:nhs:names:services:nrl:DocumentReference.content\"\n\
             dir/a.toml:28: gateway.provider.requester: \"all\" is none of its values; write one of \"any\", \"registered\"",
        ),
        (
            "upstream = \"http://127.0.0.1:8080\"",
            "upstream = \"https://127.0.0.1:8080\"",
            "dir/a.toml:20: gateway.upstream_tls.ca: is missing; add `ca = \"upstream-ca.pem\"` under [gateway.upstream_tls]",
        ),
        (
            "upstream = \"http://127.0.0.1:8080\"",
            "upstream = \"http://127.0.0.1:8080/STU3\"\nbase_path = \"STU3/\"",
            "dir/a.toml:22: gateway.upstream: \"http://127.0.0.1:8080/STU3\" has a path, a query or a fragment; end it after the port; `gateway.base_path` sets the path\n\
             dir/a.toml:23: gateway.base_path: \"STU3/\" is not a path prefix; write \"\", or segments of letters, digits and -._~ with a slash before each, as in \"/STU3\"",
        ),
        (
            "upstream = \"http://127.0.0.1:8080\"",
            "upstream = [\"http://127.0.0.1:8080\", \"ftp://a\", \"http://127.0.0.1:8080\"]",
            "dir/a.toml:22: gateway.upstream[1]: \"ftp://a\" does not begin with http:// or https://; write the scheme, the host and the port, as in \"http://127.0.0.1:8080\"\n\
             dir/a.toml:22: gateway.upstream[2]: stands in the list already; take it out",
        ),
        (
            "upstream = \"http://127.0.0.1:8080\"",
            "upstream = []",
            "dir/a.toml:22: gateway.upstream: is empty; write `upstream = \"http://127.0.0.1:8080\"` under [gateway]",
        ),
        (
            "upstream = \"http://127.0.0.1:8080\"",
            "upstream = \"https://a:8443\"\n[gateway.upstream_tls]\nca = \"ca.pem\"\ncertificate = \"a.pem\"\n[gateway.health]\npath = \"metadata\"\neject_time = \"2m\"",
            "dir/a.toml:23: gateway.upstream_tls.private_key: is missing, but there is a certificate; name the certificate's key\n\
             dir/a.toml:26: gateway.health.eject_time_max: 1m is shorter than gateway.health.eject_time, 2m; raise eject_time_max, or lower eject_time\n\
             dir/a.toml:27: gateway.health.path: \"metadata\" is not a path; write a path that begins with a slash, as in \"/STU3/metadata\"",
        ),
        (
            "[audit]",
            "[verdict]\nttl = \"2h\"\n[audits]",
            "dir/a.toml:1: audit.file: is missing; add `file = \"/var/log/spinegate/audit.jsonl\"` under [audit]\n\
             dir/a.toml:27: verdict.ttl_max: 1h is shorter than verdict.ttl, 2h; raise ttl_max, or lower ttl\n\
             dir/a.toml:29: audits: is not a known key; did you mean `audit`?",
        ),
        (
            "[audit]",
            "[authz]\nmode = \"monitor\"\n[[authz.shadow]]\nasid = \"1\"\n[[authz.shadow]]\ninteraction = \"urn:x\"\n[audit]",
            "dir/a.toml:28: authz.mode: \"monitor\" is none of its values; write one of \"enforce\", \"shadow\"\n\
             dir/a.toml:29: authz.shadow[0].interaction: is missing; add `interaction = \"urn:nhs:names:services:nrl:DocumentReference.create\"` under its [[authz.shadow]]\n\
             dir/a.toml:30: authz.shadow[0].asid: \"1\" is not an ASID; write its twelve digits in quotes\n\
             dir/a.toml:32: authz.shadow[1].interaction: \"urn:x\" is not the ID of an interaction of the NRL; write the whole ID, as in \"urn:nhs:names:services:nrl:DocumentReference.create\"",
        ),
        (
            "[audit]",
            "[whatever]",
            "dir/a.toml:1: audit.file: is missing; add `file = \"/var/log/spinegate/audit.jsonl\"` under [audit]\n\
             dir/a.toml:27: whatever: is not a known key; take it out; known here: run, filter, listen, tls, gateway, authz, registry, verdict, control, metrics, log, audit",
        ),
        (
            "[audit]",
            "[run]\ngroup = 7\n[audit]",
            "dir/a.toml:28: run.group: has no user that it is the group of; add `user` to [run]",
        ),
        (
            "[registry]",
            "[registry]\n\"odd key\" = 1",
            "dir/a.toml:25: registry.\"odd key\": is not a known key; take it out; known here: ldap, sds, file, precedence, state_dir, max_age, max_shrink, max_systems, fqdn",
        ),
        (
            "name = \"ssp-int\"",
            "name = \"ssp-int",
            "dir/a.toml:5: not TOML: invalid basic string, expected `\"`; correct this line; the rest is checked once the file parses",
        ),
        (
            "name = \"ssp-int\"",
            "name = \"a\"\nname = \"b\"",
            "dir/a.toml:6: not TOML: duplicate key; correct this line; the rest is checked once the file parses",
        ),
    ];
    for (line, by, said) in table {
        assert_eq!(with(line, by).join("\n"), said, "{by}");
    }
}

#[test]
fn an_empty_file_is_told_every_key_that_it_must_have() {
    let keys: Vec<String> = load_text("")
        .unwrap_err()
        .into_iter()
        .map(|diagnostic| diagnostic.key)
        .collect();
    let entries = [
        "filter.service.",
        "filter.source.",
        "filter.source_list.",
        "filter.failsafe.",
        "registry.ldap.",
        "registry.sds.",
        "authz.shadow.",
    ];
    let documented: Vec<String> = page::keys()
        .into_iter()
        .filter(|(key, [_, default, _])| {
            let needed = default == "*required*" || default.starts_with("*required* but ");
            needed && !entries.iter().any(|entry| key.starts_with(entry))
        })
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, documented);
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let missing = load(&file).unwrap_err();
    assert_eq!(
        missing[0].to_string(),
        format!(
            "{}: the file can't be read: No such file or directory (os error 2); create it, or name another with --config",
            file.display()
        )
    );
    std::fs::write(&file, b"# a\n# \xff\n").unwrap();
    let binary = load(&file).unwrap_err();
    assert_eq!(
        binary[0].to_string(),
        format!(
            "{}:2: the line is not UTF-8; save the file as UTF-8: TOML allows nothing else",
            file.display()
        )
    );
    assert!(load(folder.path()).is_err());
}

#[test]
fn mode_off_needs_no_interface_and_prefer_no_crl() {
    assert_eq!(with("interfaces = [\"eth0\"]", "mode = \"off\""), [""; 0]);
    assert_eq!(with("crls = [\"crl/\"]", "revocation = \"prefer\""), [""; 0]);
}

#[test]
fn fetched_crls_stand_in_for_named_ones_and_come_from_listed_hosts_alone() {
    let fetch = |lines: &str| with("crls = [\"crl/\"]", &format!("[tls.client.fetch]\n{lines}\n"));
    assert_eq!(fetch("hosts = [\"crl.nhs.uk\"]"), [""; 0]);
    assert_eq!(
        fetch("hosts = [\"crl.nhs.uk\"]\nurls = [\"http://crl.nhs.uk:81/a.crl\"]"),
        [
            "dir/a.toml:20: tls.client.fetch.urls[0]: http://crl.nhs.uk:81/a.crl is at crl.nhs.uk:81, which is none of the hosts; add the host to `tls.client.fetch.hosts`, or take the URL out"
        ]
    );
    assert_eq!(
        fetch("hosts = []"),
        ["dir/a.toml:14: tls.client.crls: is missing; write `crls = [\"crl/\"]` under [tls.client]"]
    );
}

#[test]
fn fetched_sources_stand_in_for_the_registry_file_and_each_of_several_has_its_place() {
    let registry = |lines: &str| with("file = \"registry.toml\"", lines);
    let ldap = "[registry.ldap]\nurl = \"ldaps://a.nhs.uk\"\nca = \"ca.pem\"";
    assert_eq!(registry(ldap), [""; 0]);
    assert_eq!(registry("[registry.sds]\nbundles = [\"sds/\"]"), [""; 0]);
    assert_eq!(
        registry("max_age = \"1h\""),
        ["dir/a.toml:24: registry.file: is missing; add `file = \"registry.toml\"` under [registry]"]
    );
    let both =
        |precedence: &str| registry(&format!("file = \"r.toml\"\nprecedence = [{precedence}]\n{ldap}"));
    assert_eq!(both("\"ldap\", \"file\""), [""; 0]);
    assert_eq!(
        both("\"ldap\""),
        ["dir/a.toml:26: registry.precedence: leaves out file; list every source that there is"]
    );
    assert_eq!(
        both("\"ldap\", \"sds\", \"file\""),
        ["dir/a.toml:26: registry.precedence: names sds, which there is not; take it out"]
    );
    for (line, said) in [
        ("max_shrink = \"10\"", "registry.max_shrink: \"10\" is no share"),
        ("max_shrink = -1", "registry.max_shrink: -1 is out of range"),
        (
            "[registry.ldap]\nurl = \"ldap://a.nhs.uk\"\nca = \"ca.pem\"",
            "registry.ldap.url: \"ldap://a.nhs.uk\" does not begin with",
        ),
        (
            "[registry.ldap]\nurl = \"ldaps://a.nhs.uk\"\nca = \"ca.pem\"\nbind_dn = \"cn=a\"",
            "registry.ldap.password_file: is missing",
        ),
        (
            "[registry.ldap]\nurl = \"ldaps://a.nhs.uk\"",
            "registry.ldap.ca: is missing",
        ),
        (
            "[registry.sds]",
            "registry.sds.url: is missing, and so is bundles",
        ),
        (
            "[registry.sds]\nurl = \"https://a.nhs.uk\"\nca = \"ca.pem\"\ninteractions = [\"urn:a\"]",
            "registry.sds.organizations: is missing",
        ),
    ] {
        let found = registry(&format!("file = \"r.toml\"\n{line}"));
        assert!(found.len() == 1 && found[0].contains(said), "{found:?}");
    }
}

#[test]
fn an_address_that_no_service_guards_is_warned_of() {
    let services = "[[filter.service]]\nprotocol = \"tcp\"\nport = 8443\n[listen]";
    let guarded = least().replacen("[listen]", services, 1);
    let said = |text: &str| -> Vec<String> {
        load_text(text)
            .unwrap()
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        said(&guarded),
        [
            "dir/a.toml:12: listen.addresses[0]: 0.0.0.0:443 is not guarded: no [[filter.service]] names tcp/443; add a [[filter.service]] with protocol = \"tcp\" and port = 443"
        ]
    );
    assert!(said(&guarded.replacen("[filter]", "[filter]\nscope = \"host\"", 1)).is_empty());
    assert!(said(&guarded.replacen("[filter]", "[filter]\nmode = \"off\"", 1)).is_empty());
}

#[test]
fn the_socket_is_found_in_a_file_that_has_faults_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    std::fs::write(&file, "[control]\nsocket = \"c.sock\"\n[nonsense]\n").unwrap();
    assert_eq!(control_socket(&file), Some(folder.path().join("c.sock")));
    std::fs::write(&file, "").unwrap();
    assert_eq!(control_socket(&file), Some(PathBuf::from(DEFAULT_SOCKET)));
    std::fs::write(&file, "[control]\nsocket = 1\n").unwrap();
    assert_eq!(control_socket(&file), None);
}

proptest! {
    #[test]
    fn any_value_for_any_key_is_taken_or_refused_without_a_panic(
        index in 0_usize..40,
        value in "(\"[^\"\\\\\n]{0,20}\"|-?[0-9]{1,19}|[0-9].[0-9]|true|\\[[0-9, ]{0,6}\\]|\\{ a = 1 \\}|1979-05-27)",
    ) {
        let keys = page::keys();
        let (table, name) = keys[index % keys.len()].0.rsplit_once('.').unwrap();
        let text = format!("[{table}]\n{name} = {value}\n");
        if let Err(found) = load_text(text) {
            prop_assert!(found.iter().all(|diagnostic| !diagnostic.message.is_empty() && !diagnostic.mend.is_empty()));
        }
    }
}
