//! `[tls]`

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::config::{
    ClientTls, CrlFetch, DhGroup, Ocsp, OcspMode, OnStale, Revocation, Suites, Tls, Unauthenticated,
    reader::{Absent, Example, Needed, Section},
    values::{self, Fault},
};

/// How long a CRL may be let count after its end.
const GRACE: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(7 * 24);

pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Tls> {
    let certificate = section.required(
        "certificate",
        Example("\"server-chain.pem\""),
        values::path(folder),
        "PEM: the gateway's certificate, then its chain",
    );
    let private_key = section.required(
        "private_key",
        Example("\"server-key.pem\""),
        values::path(folder),
        "PEM: its key",
    );
    let profiles = &[("strict", Suites::Strict), ("nrl", Suites::Nrl)];
    let suites = section.or(
        "suites",
        Suites::Strict,
        values::choice(profiles),
        "DHE-RSA-AES256-SHA256 alone; the eight suites of the NRL security guidance",
    );
    let groups = &[
        ("ffdhe2048", DhGroup::Ffdhe2048),
        ("ffdhe3072", DhGroup::Ffdhe3072),
        ("ffdhe4096", DhGroup::Ffdhe4096),
    ];
    let dh_group = section.or(
        "dh_group",
        DhGroup::Ffdhe2048,
        values::choice(groups),
        "named group of RFC 7919",
    );
    let limits = Duration::from_millis(100)..=Duration::from_mins(1);
    let handshake_timeout = section.or(
        "handshake_timeout",
        Duration::from_secs(5),
        values::duration(limits),
        "a handshake that takes longer is broken off",
    );
    let handshake_threads = section.optional(
        "handshake_threads",
        Absent("one less than cores"),
        values::integer(1..=1024),
        "threads that do the arithmetic of handshakes, beside those that serve requests; a change needs \
         a restart",
    );
    let handshake_queue = section.or(
        "handshake_queue",
        256,
        values::integer(1..=65_536),
        "handshakes that may wait for such a thread; beyond it the source with the most of them loses \
         places first; a change needs a restart",
    );
    let require_ems = section.or(
        "require_ems",
        false,
        values::flag(),
        "refuse clients without the extended master secret (RFC 7627)",
    );
    let require_etm = section.or(
        "require_etm",
        false,
        values::flag(),
        "refuse clients without encrypt-then-MAC (RFC 7366)",
    );
    let switch = &[("off", false), ("on", true)];
    let resumption = section.or(
        "resumption",
        false,
        values::choice(switch),
        "whether a client may take up a session of the last five minutes; its certificate, issuer and \
         revocation are judged again, and a reload ends all sessions",
    );
    let unauthenticated = unauthenticated(section.section("unauthenticated"));
    let client = client(section.section("client"), folder);
    section.finish();

    Some(Tls {
        certificate: certificate?,
        private_key: private_key?,
        suites: suites?,
        dh_group: dh_group?,
        handshake_timeout: handshake_timeout?,
        handshake_threads: handshake_threads?,
        handshake_queue: handshake_queue?,
        require_ems: require_ems?,
        require_etm: require_etm?,
        resumption: resumption?,
        unauthenticated: unauthenticated?,
        client: client?,
    })
}

fn unauthenticated(mut section: Section<'_>) -> Option<Unauthenticated> {
    let count = || values::integer(1..=1_000_000);
    let begin = section.or(
        "begin",
        64,
        count(),
        "from so many connections in their handshake on, new ones are turned away at random",
    );
    let rate = section.or(
        "rate",
        30,
        values::integer(1..=100),
        "so many percent of them at first",
    );
    let full = section.or("full", 512, count(), "and all from so many on");
    let per_source = section.or(
        "per_source",
        16,
        count(),
        "connections in their handshake from one source",
    );
    let per_proxy = section.or("per_proxy", 256, count(), "the same for a source of kind `proxy`");
    let ipv4_prefix = section.or(
        "ipv4_prefix",
        32,
        values::integer(8..=32),
        "addresses that share so many bits are one source",
    );
    let ipv6_prefix = section.or("ipv6_prefix", 64, values::integer(16..=128), "the same in IPv6");
    if let (Some(begin), Some(full)) = (begin, full)
        && begin > full
    {
        let message = format!("{full} is less than tls.unauthenticated.begin, {begin}");
        section.fault("full", Fault::new(message, "raise full, or lower begin"));
    }
    section.finish();

    Some(Unauthenticated {
        begin: begin?,
        rate: rate?,
        full: full?,
        per_source: per_source?,
        per_proxy: per_proxy?,
        ipv4_prefix: ipv4_prefix?,
        ipv6_prefix: ipv6_prefix?,
    })
}

fn client(mut section: Section<'_>, folder: &Path) -> Option<ClientTls> {
    let roots = section.required_list(
        "roots",
        Example("[\"root-ca.pem\"]"),
        values::path(folder),
        "PEM: the RootCA",
    );
    let issuers = section.required_list(
        "issuers",
        Example("[\"sub-ca.pem\"]"),
        values::path(folder),
        "PEM: the only CAs that may issue client certificates",
    );
    let fqdns = section.required_list(
        "fqdns",
        Example("[\"ssp.example.nhs.uk\"]"),
        values::fqdn(),
        "the only names that a client certificate may have",
    );
    let policies = &[("require", Revocation::Require), ("prefer", Revocation::Prefer)];
    let revocation = section.or(
        "revocation",
        Revocation::Require,
        values::choice(policies),
        "without a fresh CRL refuse; accept, unless the last known one lists the certificate",
    );
    let fetch = fetch(section.section("fetch"), folder);
    let ocsp = ocsp(section.section("ocsp"));
    let fetches = fetch.as_ref().is_none_or(CrlFetch::is_on);
    // Without a CRL every client would be refused.
    let needed = Needed(
        revocation == Some(Revocation::Require) && !fetches,
        "but with `revocation = \"prefer\"` or `tls.client.fetch.hosts`",
    );
    let crls = section.required_list_if(
        needed,
        "crls",
        Example("[\"crl/\"]"),
        values::path(folder),
        "PEM or DER: CRLs, or folders of them",
    );
    let on_stale = section.or(
        "on_stale",
        OnStale::Deny,
        values::grace(GRACE),
        "whom a CRL past its nextUpdate speaks for: refuse; accept for so long after it, but never a \
         serial number on it",
    );
    section.finish();

    Some(ClientTls {
        roots: roots?,
        issuers: issuers?,
        fqdns: fqdns?,
        crls: crls?,
        revocation: revocation?,
        on_stale: on_stale?,
        fetch: fetch?,
        ocsp: ocsp?,
    })
}

fn ocsp(mut section: Section<'_>) -> Option<Ocsp> {
    let modes = &[
        ("off", OcspMode::Off),
        ("prefer", OcspMode::Prefer),
        ("require", OcspMode::Require),
    ];
    let mode = section.or(
        "mode",
        OcspMode::Off,
        values::choice(modes),
        "ask nobody; refuse whom a responder says to be revoked, and without an answer let the CRLs \
         decide; refuse also without an answer that client and issuer are good",
    );
    let hosts = section.list(
        "hosts",
        values::http_host(),
        "the only hosts whose responders are asked because a certificate names them, over plain HTTP",
    );
    let responder = section.optional(
        "responder",
        Absent("none"),
        values::http_url(),
        "the responder to ask in place of those that certificates name",
    );
    let limits = Duration::from_millis(100)..=Duration::from_secs(5);
    let deadline = section.or(
        "deadline",
        Ocsp::off().deadline,
        values::duration(limits),
        "no client waits longer for responders",
    );
    if let (Some(mode), Some(hosts), Some(None)) = (mode, &hosts, &responder)
        && mode != OcspMode::Off
        && hosts.is_empty()
    {
        let mend = "list the hosts of the responders that certificates name, or name one in `tls.client.ocsp.responder`";
        section.fault("mode", Fault::new("nobody may be asked", mend));
    }
    section.finish();

    Some(Ocsp {
        mode: mode?,
        hosts: hosts?,
        responder: responder?,
        deadline: deadline?,
    })
}

fn fetch(mut section: Section<'_>, folder: &Path) -> Option<CrlFetch> {
    let hosts = section.list(
        "hosts",
        values::http_host(),
        "the only hosts from which the agent fetches CRLs, over plain HTTP; empty: it fetches none. \
         Without a port, port 80",
    );
    let urls = section.list(
        "urls",
        values::http_url(),
        "what is fetched besides the distribution points in the certificates of `issuers` and of \
         verified clients",
    );
    let kept = section.or(
        "folder",
        PathBuf::from("/var/lib/spinegate/crl"),
        values::path(folder),
        "where fetched CRLs are kept; they count as those of `tls.client.crls` do",
    );
    let limits = Duration::from_millis(100)..=Duration::from_mins(5);
    let timeout = section.or(
        "timeout",
        Duration::from_secs(10),
        values::duration(limits),
        "a CRL that takes longer is given up",
    );
    let max_bytes = section.or(
        "max_bytes",
        32 << 20,
        values::integer(1..=1 << 30),
        "bytes of the largest CRL that is taken",
    );
    let limits = Duration::from_mins(1)..=Duration::from_hours(7 * 24);
    let interval = section.or(
        "interval",
        Duration::from_hours(6),
        values::duration(limits),
        "a CRL is fetched again after this time at the latest, however long it is valid",
    );
    if let (Some(hosts), Some(urls)) = (&hosts, &urls) {
        for (index, url) in urls.iter().enumerate() {
            if !hosts.contains(url.host()) {
                let message = format!("{url} is at {}, which is none of the hosts", url.host());
                let mend = "add the host to `tls.client.fetch.hosts`, or take the URL out";
                section.fault(&format!("urls[{index}]"), Fault::new(message, mend));
            }
        }
    }
    section.finish();

    Some(CrlFetch {
        hosts: hosts?,
        urls: urls?,
        folder: kept?,
        timeout: timeout?,
        max_bytes: max_bytes?,
        interval: interval?,
    })
}
