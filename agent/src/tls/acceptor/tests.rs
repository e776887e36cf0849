//! Whatever is loaded, sound or broken, in whatever order: the last sound load says who is accepted, and no CRL gives way to
//! an older one.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use openssl::{
    pkey::PKey,
    rsa::Rsa,
    ssl::{SslContextBuilder, SslMethod, SslVersion},
    x509::{X509, extension::ExtendedKeyUsage},
};
use proptest::{collection::vec, prelude::*, sample::subsequence};
use spinegate_common::Reason;
use tempfile::TempDir;

use super::*;
use crate::{
    nrl::Fqdn,
    tls::{
        ExpiryKind, Presented, inspect, load,
        testing::{Ca, DAY, FQDN, Template, at, extension, san, time},
    },
};

const NAMES: [&str; 2] = [FQDN, "other.example.nhs.uk"];
/// The root of each SubCA.
const ROOT_OF: [usize; 3] = [0, 0, 1];

/// All that can be put in force: two roots, the SubCAs of each, leaves of every SubCA and name.
struct Pki {
    roots: [Ca; 2],
    subs: [Ca; 3],
    stranger: Ca,
    leaves: Vec<Leaf>,
    /// The gateway's own certificates, which end on different days.
    own: [X509; 2],
}

struct Leaf {
    sub: usize,
    name: usize,
    expired: bool,
    certificate: X509,
}

/// A sound configuration.
#[derive(Clone, Debug)]
struct World {
    own: usize,
    root: usize,
    /// Of those under the root.
    pinned: Vec<usize>,
    names: Vec<usize>,
    /// Leaves.
    revoked: Vec<usize>,
    revoked_subs: Vec<usize>,
    stale_subs: Vec<usize>,
    root_stale: bool,
    /// Of its CRLs.
    number: u8,
}

/// Whose CRL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Signer {
    Root(usize),
    Sub(usize),
}

/// What a CRL says: of a root's, which SubCAs are revoked, of a SubCA's, which leaves.
#[derive(Clone, Debug)]
struct Crl {
    number: u8,
    revoked: Vec<usize>,
    stale: bool,
}

/// What must be in force: the last sound world, with the newest CRLs of its CAs that were in force before.
#[derive(Clone, Debug)]
struct Expected {
    world: World,
    crls: HashMap<Signer, Crl>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    CertificateMissing,
    CertificateGarbage,
    CertificateExpired,
    KeyMissing,
    KeyGarbage,
    KeyOfAnother,
    RootGarbage,
    RootNotSelfSigned,
    IssuerMissing,
    IssuerOfAnotherRoot,
    IssuerForServers,
    CrlMissing,
    CrlGarbage,
    CrlOfStranger,
    CrlDelta,
    NoNames,
}

#[derive(Clone, Debug)]
enum Step {
    /// A reload that comes into force.
    Reload(World),
    /// One that must not.
    Broken(World, Fault),
    /// One on trial, that is taken back.
    Trial(World),
}

fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let roots = ["Root 0", "Root 1"].map(Ca::root);
        let mut names = ["Sub 0", "Sub 1", "Sub 2"].into_iter().zip(ROOT_OF);
        let subs = [(); 3].map(|()| {
            let (name, root) = names.next().unwrap();
            roots[root].subordinate(Template::ca(name))
        });
        let mut leaves = Vec::new();
        for (sub, ca) in subs.iter().enumerate() {
            for (name, expired) in [(0, false), (1, false), (0, true)] {
                let template = Template::leaf().with(|leaf| {
                    leaf.common_names = vec![NAMES[name]];
                    leaf.validity.1 = if expired { -DAY } else { DAY };
                });
                leaves.push(Leaf {
                    sub,
                    name,
                    expired,
                    certificate: ca.issue(template),
                });
            }
        }
        let stranger = Ca::root("Stranger");
        let own =
            [100, 200].map(|days| stranger.issue(Template::leaf().with(|own| own.validity.1 = days * DAY)));
        Pki {
            roots,
            subs,
            stranger,
            leaves,
            own,
        }
    })
}

fn worlds() -> impl Strategy<Value = World> {
    let leaves: Vec<usize> = (0..pki().leaves.len()).collect();
    let pinned = prop_oneof![
        subsequence(vec![0, 1], 1..=2).prop_map(|pinned| (0, pinned)),
        Just((1, vec![2])),
    ];
    (
        0..2_usize,
        pinned,
        subsequence(vec![0, 1], 1..=2),
        subsequence(leaves, 0..=3),
        subsequence(vec![0, 1, 2], 0..=1),
        subsequence(vec![0, 1, 2], 0..=1),
        prop::bool::weighted(0.1),
        1..4_u8,
    )
        .prop_map(
            |(own, (root, pinned), names, revoked, revoked_subs, stale_subs, root_stale, number)| World {
                own,
                root,
                pinned,
                names,
                revoked,
                revoked_subs,
                stale_subs,
                root_stale,
                number,
            },
        )
}

fn steps() -> impl Strategy<Value = Step> {
    let faults = prop::sample::select(vec![
        Fault::CertificateMissing,
        Fault::CertificateGarbage,
        Fault::CertificateExpired,
        Fault::KeyMissing,
        Fault::KeyGarbage,
        Fault::KeyOfAnother,
        Fault::RootGarbage,
        Fault::RootNotSelfSigned,
        Fault::IssuerMissing,
        Fault::IssuerOfAnotherRoot,
        Fault::IssuerForServers,
        Fault::CrlMissing,
        Fault::CrlGarbage,
        Fault::CrlOfStranger,
        Fault::CrlDelta,
        Fault::NoNames,
    ]);
    prop_oneof![
        2 => worlds().prop_map(Step::Reload),
        3 => (worlds(), faults).prop_map(|(world, fault)| Step::Broken(world, fault)),
        1 => worlds().prop_map(Step::Trial),
    ]
}

impl World {
    /// Writes the files, and gives the configuration that names them.
    fn publish(&self, folder: &Path) -> config::Tls {
        let pki = pki();
        let file = |name: &str, content: Vec<u8>| {
            let path = folder.join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let crls = folder.join("crl");
        let _ = fs::remove_dir_all(&crls);
        fs::create_dir(&crls).unwrap();
        let stale = |stale: bool| time(if stale { -1 } else { DAY });
        let revoked: Vec<_> = self
            .revoked_subs
            .iter()
            .map(|sub| &*pki.subs[*sub].certificate)
            .collect();
        let crl = pki.roots[self.root].numbered_crl(self.number, &revoked, |crl| {
            crl.set_next_update(&stale(self.root_stale)).unwrap();
        });
        fs::write(crls.join("root"), crl.to_pem().unwrap()).unwrap();
        for sub in &self.pinned {
            let revoked = self.revoked.iter().map(|leaf| &pki.leaves[*leaf]);
            let revoked: Vec<_> = revoked
                .filter(|leaf| leaf.sub == *sub)
                .map(|leaf| &*leaf.certificate)
                .collect();
            let crl = pki.subs[*sub].numbered_crl(self.number, &revoked, |crl| {
                crl.set_next_update(&stale(self.stale_subs.contains(sub)))
                    .unwrap();
            });
            fs::write(crls.join(format!("sub{sub}")), crl.to_der().unwrap()).unwrap();
        }
        let issuers = self.pinned.iter().map(|sub| {
            let pem = pki.subs[*sub].certificate.to_pem().unwrap();
            file(&format!("sub{sub}.pem"), pem)
        });
        config::Tls {
            certificate: file("own.pem", pki.own[self.own].to_pem().unwrap()),
            private_key: file(
                "own.key",
                Template::leaf().key.private_key_to_pem_pkcs8().unwrap(),
            ),
            suites: config::Suites::Strict,
            dh_group: config::DhGroup::Ffdhe2048,
            handshake_timeout: Duration::from_secs(1),
            handshake_threads: Some(1),
            handshake_queue: 1,
            require_ems: false,
            require_etm: false,
            resumption: false,
            unauthenticated: config::Unauthenticated {
                begin: 1,
                rate: 1,
                full: 1,
                per_source: 1,
                per_proxy: 1,
                ipv4_prefix: 32,
                ipv6_prefix: 64,
            },
            client: config::ClientTls {
                roots: vec![file(
                    "root.pem",
                    pki.roots[self.root].certificate.to_pem().unwrap(),
                )],
                issuers: issuers.collect(),
                fqdns: self
                    .names
                    .iter()
                    .map(|name| Fqdn::parse(NAMES[*name]).unwrap())
                    .collect(),
                crls: vec![crls],
                revocation: config::Revocation::Require,
                on_stale: config::OnStale::Deny,
                fetch: config::CrlFetch::off(),
                ocsp: config::Ocsp::off(),
            },
        }
    }

    fn crls(&self) -> HashMap<Signer, Crl> {
        let crl = |revoked: &[usize], stale| Crl {
            number: self.number,
            revoked: revoked.to_vec(),
            stale,
        };
        let subs = self.pinned.iter().map(|sub| {
            let stale = self.stale_subs.contains(sub);
            (Signer::Sub(*sub), crl(&self.revoked, stale))
        });
        let root = (Signer::Root(self.root), crl(&self.revoked_subs, self.root_stale));
        subs.chain([root]).collect()
    }
}

impl Expected {
    fn of(world: World) -> Self {
        Self {
            crls: world.crls(),
            world,
        }
    }

    /// What a change makes of what was in force `before`.
    fn after(mut self, before: &Self) -> Self {
        for (signer, crl) in &mut self.crls {
            if let Some(earlier) = before.crls.get(signer)
                && earlier.number > crl.number
            {
                *crl = earlier.clone();
            }
        }
        self
    }

    /// Why a leaf must be refused, said without any of the code that judges it.
    fn reason(&self, index: usize) -> Option<Reason> {
        let (leaf, world) = (&pki().leaves[index], &self.world);
        let revokes = |signer, what| {
            self.crls
                .get(&signer)
                .is_some_and(|crl| crl.revoked.contains(&what))
        };
        let stale = |signer| self.crls.get(&signer).is_some_and(|crl| crl.stale);
        let (sub, root) = (Signer::Sub(leaf.sub), Signer::Root(world.root));
        let broken = [
            (Reason::ChainUnknownCa, ROOT_OF[leaf.sub] != world.root),
            (Reason::IssuerNotPinned, !world.pinned.contains(&leaf.sub)),
            (Reason::CertificateExpired, leaf.expired),
            (Reason::CertificateRevoked, revokes(sub, index)),
            (Reason::CrlStale, stale(sub)),
            (Reason::CertificateRevoked, revokes(root, leaf.sub)),
            (Reason::CrlStale, stale(root)),
            (Reason::FqdnMismatch, !world.names.contains(&leaf.name)),
        ];
        broken
            .into_iter()
            .find(|(_, broken)| *broken)
            .map(|(reason, _)| reason)
    }
}

impl Fault {
    fn inflict(self, config: &mut config::Tls) {
        let pki = pki();
        let client = &mut config.client;
        let crl = client.crls[0].join("root");
        let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let overwrite = |path: &Path, content: &[u8]| fs::write(path, content).unwrap();
        match self {
            Self::CertificateMissing => fs::remove_file(&config.certificate).unwrap(),
            Self::CertificateGarbage => overwrite(&config.certificate, garbage),
            Self::CertificateExpired => {
                let over = Template::leaf().with(|own| own.validity.1 = -1);
                overwrite(&config.certificate, &pki.stranger.issue(over).to_pem().unwrap());
            }
            Self::KeyMissing => fs::remove_file(&config.private_key).unwrap(),
            Self::KeyGarbage => overwrite(&config.private_key, b"no key"),
            Self::KeyOfAnother => overwrite(&config.private_key, other_key()),
            Self::RootGarbage => overwrite(&client.roots[0], garbage),
            Self::RootNotSelfSigned => fs::copy(&client.issuers[0], &client.roots[0]).map(drop).unwrap(),
            Self::IssuerMissing => fs::remove_file(&client.issuers[0]).unwrap(),
            Self::IssuerOfAnotherRoot => {
                let foreign = pki.stranger.subordinate(Template::ca("Foreign"));
                overwrite(&client.issuers[0], &foreign.certificate.to_pem().unwrap());
            }
            Self::IssuerForServers => {
                let servers = ExtendedKeyUsage::new().server_auth().build().unwrap();
                let template = Template::ca("Servers").with(|sub| sub.extensions.push(servers));
                let sub = pki.roots[0].subordinate(template);
                overwrite(&client.issuers[0], &sub.certificate.to_pem().unwrap());
            }
            Self::CrlMissing => fs::remove_file(crl).unwrap(),
            Self::CrlGarbage => overwrite(&crl, b"no CRL"),
            Self::CrlOfStranger => overwrite(
                &client.crls[0].join("stranger"),
                &pki.stranger.fresh_crl(&[]).to_pem().unwrap(),
            ),
            Self::CrlDelta => {
                let delta = pki.stranger.crl(&[], |crl| {
                    crl.append_extension(extension("2.5.29.27", true, &[0x02, 0x01, 0x01]))
                        .unwrap();
                });
                overwrite(&crl, &delta.to_pem().unwrap());
            }
            Self::NoNames => client.fqdns.clear(),
        }
    }
}

fn other_key() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        key.private_key_to_pem_pkcs8().unwrap()
    })
}

fn loaded(config: &config::Tls) -> Result<Loaded, Vec<config::Problem>> {
    load(config, at(0))
}

/// What is in force judges every leaf, and every client that was ever accepted, as this world has it.
fn judges_as(
    acceptor: &Acceptor,
    expected: &Expected,
    accepted: &mut HashMap<usize, VerifiedClient>,
) -> Result<(), TestCaseError> {
    let (pki, trust) = (pki(), acceptor.trust());
    for (index, leaf) in pki.leaves.iter().enumerate() {
        let sub = pki.subs[leaf.sub].certificate.clone();
        let presented = Presented::new(leaf.certificate.clone(), vec![sub]);
        let judged = inspect::verify(&trust, &presented, at(0)).unwrap().judged;
        let reason = expected.reason(index);
        prop_assert_eq!(
            judged.as_ref().err().map(|refusal| refusal.reason),
            reason,
            "leaf {}",
            index
        );
        if let Some(earlier) = accepted.get(&index) {
            let again = trust.recheck(earlier, at(0));
            prop_assert_eq!(again.is_err(), reason.is_some(), "leaf {}: {:?}", index, again);
        }
        // A leaf that has passed is known from then on, as long as it would pass again.
        if let Ok(client) = &judged {
            trust.keep(&leaf.certificate, client);
        }
        let known = trust.known(&leaf.certificate, at(0));
        prop_assert_eq!(known.is_some(), reason.is_none(), "leaf {}", index);
        if let Ok(client) = judged {
            accepted.insert(index, client);
        }
    }
    let own = acceptor
        .expiries()
        .into_iter()
        .find(|expiry| expiry.kind == ExpiryKind::OwnCertificate);
    let days = own.map(|own| own.days_left(at(0)));
    prop_assert_eq!(days, Some([100, 200][expected.world.own]));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn r8_to_r12_no_sequence_of_reloads_lets_in_whom_the_last_sound_one_refuses(
        first in worlds(),
        steps in vec(steps(), 1..8),
    ) {
        let folder = TempDir::new().unwrap();
        let config = first.publish(folder.path());
        let acceptor = Acceptor::new(&config, loaded(&config).map_err(|faults| fail(&faults))?, Wanted::new().0).unwrap();
        let mut in_force = Expected::of(first);
        let mut accepted = HashMap::new();
        judges_as(&acceptor, &in_force, &mut accepted)?;
        for step in steps {
            match step {
                Step::Reload(world) => {
                    let loaded = loaded(&world.publish(folder.path())).map_err(|faults| fail(&faults))?;
                    acceptor.swap(loaded);
                    in_force = Expected::of(world).after(&in_force);
                }
                Step::Broken(world, fault) => {
                    let mut config = world.publish(folder.path());
                    fault.inflict(&mut config);
                    prop_assert!(loaded(&config).is_err(), "{:?} was loaded", fault);
                }
                Step::Trial(world) => {
                    let loaded = loaded(&world.publish(folder.path())).map_err(|faults| fail(&faults))?;
                    let before = acceptor.swap(loaded);
                    let on_trial = Expected::of(world).after(&in_force);
                    judges_as(&acceptor, &on_trial, &mut accepted)?;
                    acceptor.restore(before);
                    in_force = in_force.after(&on_trial);
                }
            }
            judges_as(&acceptor, &in_force, &mut accepted)?;
        }
    }
}

fn fail(faults: &[config::Problem]) -> TestCaseError {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    TestCaseError::fail(faults.join("; "))
}

/// A handshake over loopback with a client that shows this leaf, behind `sub`.
async fn shake_hands(acceptor: &Acceptor, leaf: &X509, sub: &X509) -> Result<(), Reason> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = SslContextBuilder::new(SslMethod::tls_client()).unwrap();
    client.set_cipher_list("DHE-RSA-AES256-SHA256").unwrap();
    client.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
    client.set_certificate(leaf).unwrap();
    client.add_extra_chain_cert(sub.clone()).unwrap();
    client.set_private_key(&Template::leaf().key).unwrap();
    let (client, address) = (client.build(), listener.local_addr().unwrap());
    let client = std::thread::spawn(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        // Whether it succeeds is the gateway's to say.
        let _ = Ssl::new(&client).unwrap().connect(stream);
    });
    let (stream, peer) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let accepted = acceptor
        .accept(TcpStream::from_std(stream).unwrap(), peer.ip())
        .await
        .map(drop);
    client.join().unwrap();
    accepted.map_err(|refusal| refusal.reason)
}

/// OpenSSL looks at some things when the rules have judged the leaf already: name constraints (RFC 5280 section 4.2.1.10).
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_chain_was_refused_in_the_end_is_refused_again() {
    let long = |template: Template| template.with(|template| template.validity = (-DAY, 20_000 * DAY));
    // Permitted are the dNSNames below example.org.
    let elsewhere = extension("2.5.29.30", true, b"\x30\x11\xa0\x0f\x30\x0d\x82\x0bexample.org");
    let root = Ca::root("Root");
    let subs = [
        root.subordinate(long(Template::ca("Sub"))),
        root.subordinate(long(Template::ca("Elsewhere")).with(|sub| sub.extensions.push(elsewhere))),
    ];
    let folder = TempDir::new().unwrap();
    let world = World {
        own: 0,
        root: 0,
        pinned: vec![0],
        names: vec![0],
        revoked: Vec::new(),
        revoked_subs: Vec::new(),
        stale_subs: Vec::new(),
        root_stale: false,
        number: 1,
    };
    let mut config = world.publish(folder.path());
    let file = |name: &str, certificate: &X509| {
        let path = folder.path().join(name);
        fs::write(&path, certificate.to_pem().unwrap()).unwrap();
        path
    };
    config.handshake_timeout = Duration::from_secs(10);
    config.client.roots = vec![file("own_root.pem", &root.certificate)];
    config.client.issuers = vec![
        file("a.pem", &subs[0].certificate),
        file("b.pem", &subs[1].certificate),
    ];
    config.client.fqdns = vec![Fqdn::parse(FQDN).unwrap()];
    config.client.crls = Vec::new();
    config.client.revocation = config::Revocation::Prefer;
    let acceptor = Acceptor::new(&config, loaded(&config).unwrap(), Wanted::new().0).unwrap();
    for (sub, expected) in subs.iter().zip([Ok(()), Err(Reason::ChainInvalid)]) {
        let leaf = sub.issue(long(Template::leaf()).with(|leaf| leaf.extensions.push(san(&[FQDN]))));
        for time in ["first", "second"] {
            let found = shake_hands(&acceptor, &leaf, &sub.certificate).await;
            assert_eq!(found, expected, "{time}");
        }
        let known = acceptor.trust().known(&leaf, SystemTime::now());
        assert_eq!(known.is_some(), expected.is_ok());
    }
}
