//! A PKI in memory, for the tests of this room. Its time is [`NOW`], whatever the clock says.

use std::{
    fs,
    path::Path,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use openssl::{
    asn1::{Asn1Object, Asn1OctetString, Asn1Time},
    bn::BigNum,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509Crl, X509CrlBuilder, X509Extension, X509Name, X509Ref, X509RevokedBuilder,
        extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName},
    },
};

use super::{Acceptor, VerifiedClient, Wanted, load};
use crate::{config, nrl::Fqdn};

/// The tests' present, in seconds since 1970.
pub(super) const NOW: i64 = 1_700_000_000;
pub(super) const DAY: i64 = 86_400;
/// The name in a leaf.
pub(super) const FQDN: &str = "ssp.example.nhs.uk";

/// Writes the files of a PKI into a folder, has the configuration name them, and gives the acceptor that trusts it with a
/// client that it has verified.
pub(crate) fn verified(folder: &Path, config: &mut config::Tls) -> (Acceptor, VerifiedClient) {
    let root = Ca::root("Root");
    let sub = root.subordinate(Template::ca("Sub"));
    let leaf = sub.issue(Template::leaf());
    let file = |name: &str, content: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    config.certificate = file("own.pem", root.issue(Template::leaf()).to_pem().unwrap());
    config.private_key = file("own.key", key().private_key_to_pem_pkcs8().unwrap());
    config.client.roots = vec![file("root.pem", root.certificate.to_pem().unwrap())];
    config.client.issuers = vec![file("sub.pem", sub.certificate.to_pem().unwrap())];
    config.client.fqdns = vec![Fqdn::parse(FQDN).unwrap()];
    config.client.crls = [&root, &sub]
        .into_iter()
        .zip(["root.crl", "sub.crl"])
        .map(|(ca, name)| file(name, ca.fresh_crl(&[]).to_pem().unwrap()))
        .collect();
    let loaded = load(config, at(0)).unwrap();
    let acceptor = Acceptor::new(config, loaded, Wanted::new().0).unwrap();
    let chain: [&X509Ref; 3] = [&leaf, &sub.certificate, &root.certificate];
    let client = acceptor.trust().judge(&chain, at(0)).unwrap();
    (acceptor, client)
}

/// A moment, in seconds from [`NOW`].
pub(super) fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(NOW + seconds).unwrap())
}

/// A CA. All have one key: it is their names and certificates that differ.
pub(crate) struct Ca {
    pub(crate) certificate: X509,
}

/// What is to stand in a certificate; the defaults are a good leaf's.
pub(super) struct Template {
    pub(super) common_names: Vec<&'static str>,
    /// From and to, in seconds from [`NOW`].
    pub(super) validity: (i64, i64),
    pub(super) key: PKey<Private>,
    pub(super) extensions: Vec<X509Extension>,
}

impl Ca {
    pub(crate) fn root(name: &'static str) -> Self {
        let certificate = Template::ca(name).sign(None);
        Self { certificate }
    }

    pub(super) fn subordinate(&self, template: Template) -> Self {
        let certificate = template.sign(Some(&self.certificate));
        Self { certificate }
    }

    pub(super) fn issue(&self, template: Template) -> X509 {
        template.sign(Some(&self.certificate))
    }

    /// A CRL from yesterday to tomorrow that lists these certificates, with what `change` makes of it.
    pub(super) fn crl(&self, revoked: &[&X509Ref], change: impl FnOnce(&mut X509CrlBuilder)) -> X509Crl {
        self.numbered_crl(1, revoked, change)
    }

    /// The same with another number.
    pub(crate) fn numbered_crl(
        &self,
        number: u8,
        revoked: &[&X509Ref],
        change: impl FnOnce(&mut X509CrlBuilder),
    ) -> X509Crl {
        let mut builder = X509CrlBuilder::new().unwrap();
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        builder.set_last_update(&time(-DAY)).unwrap();
        builder.set_next_update(&time(DAY)).unwrap();
        // RFC 5280 section 5.2 wants an authority key identifier and a number.
        for (oid, der) in [
            ("2.5.29.35", &[0x30, 0x03, 0x80, 0x01, 0x01][..]),
            ("2.5.29.20", &[0x02, 0x01, number]),
        ] {
            builder.append_extension(extension(oid, false, der)).unwrap();
        }
        for certificate in revoked {
            let mut entry = X509RevokedBuilder::new().unwrap();
            entry.set_serial_number(certificate.serial_number()).unwrap();
            entry.set_revocation_date(&time(-DAY)).unwrap();
            builder.add_revoked(entry.build()).unwrap();
        }
        change(&mut builder);
        builder.sign(&key(), MessageDigest::sha256()).unwrap();
        builder.build().unwrap()
    }

    pub(super) fn fresh_crl(&self, revoked: &[&X509Ref]) -> X509Crl {
        self.crl(revoked, |_| {})
    }
}

impl Template {
    pub(super) fn leaf() -> Self {
        let usage = KeyUsage::new().critical().digital_signature().build().unwrap();
        Self {
            common_names: vec![FQDN],
            validity: (-365 * DAY, 365 * DAY),
            key: key(),
            extensions: vec![usage, client_auth()],
        }
    }

    pub(super) fn ca(name: &'static str) -> Self {
        let usage = KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build()
            .unwrap();
        Self {
            common_names: vec![name],
            extensions: vec![ca(), usage],
            ..Self::leaf()
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn sign(self, issuer: Option<&X509Ref>) -> X509 {
        let mut name = X509Name::builder().unwrap();
        for common_name in self.common_names {
            name.append_entry_by_text("CN", common_name).unwrap();
        }
        let name = name.build();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        let mut serial = BigNum::new().unwrap();
        serial.rand(127, openssl::bn::MsbOption::ONE, false).unwrap();
        builder
            .set_serial_number(&serial.to_asn1_integer().unwrap())
            .unwrap();
        builder.set_subject_name(&name).unwrap();
        builder
            .set_issuer_name(issuer.map_or(&name, |issuer| issuer.subject_name()))
            .unwrap();
        builder.set_not_before(&time(self.validity.0)).unwrap();
        builder.set_not_after(&time(self.validity.1)).unwrap();
        builder.set_pubkey(&self.key).unwrap();
        for extension in self.extensions {
            builder.append_extension(extension).unwrap();
        }
        builder.sign(&key(), MessageDigest::sha256()).unwrap();
        builder.build()
    }
}

pub(super) fn ca() -> X509Extension {
    BasicConstraints::new().critical().ca().build().unwrap()
}

pub(super) fn client_auth() -> X509Extension {
    ExtendedKeyUsage::new().client_auth().build().unwrap()
}

/// A SAN of these dNSNames.
pub(super) fn san(names: &[&str]) -> X509Extension {
    let mut san = SubjectAlternativeName::new();
    for name in names {
        san.dns(name);
    }
    san.build(&X509::builder().unwrap().x509v3_context(None, None))
        .unwrap()
}

/// An extension of any content.
pub(super) fn extension(oid: &str, critical: bool, der: &[u8]) -> X509Extension {
    let oid = Asn1Object::from_str(oid).unwrap();
    let content = Asn1OctetString::new_from_bytes(der).unwrap();
    X509Extension::new_from_der(&oid, critical, &content).unwrap()
}

/// A moment, in seconds from [`NOW`], as a certificate has it.
pub(super) fn time(seconds: i64) -> Asn1Time {
    Asn1Time::from_unix(NOW + seconds).unwrap()
}

pub(super) fn key() -> PKey<Private> {
    static KEY: OnceLock<PKey<Private>> = OnceLock::new();
    KEY.get_or_init(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap())
        .clone()
}
