//! Certification authorities: they issue subordinates, leaves and CRLs.

use std::{
    fmt, fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use openssl::{
    asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time},
    bn::{BigNum, MsbOption},
    hash::MessageDigest,
    pkey::{PKey, Private},
    x509::{
        CrlNumber, X509, X509Builder, X509CrlBuilder, X509Extension, X509Name, X509Ref, X509RevokedBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
            SubjectKeyIdentifier,
        },
    },
};

use super::Address;

/// `id-ce-cRLDistributionPoints` (RFC 5280 section 4.2.1.13)
const POINTS: &str = "2.5.29.31";
/// `id-ce-issuingDistributionPoint` (section 5.2.5)
const ISSUING_POINT: &str = "2.5.29.28";
/// `id-pe-authorityInfoAccess` (section 4.2.2.1)
const ACCESS: &str = "1.3.6.1.5.5.7.1.1";

/// A span of time.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// notBefore, or thisUpdate.
    pub from: SystemTime,
    /// notAfter, or nextUpdate.
    pub to: SystemTime,
}

/// A CA: its certificate and key.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    /// A self-signed CA with path length 1.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn root(name: &str, key: PKey<Private>) -> Result<Self> {
        let certificate = ca(&subject("CA", &[name])?, &key, 1, None, Vec::new())?;
        Ok(Self { certificate, key })
    }

    /// A CA under this one, with path length 0, whose certificate says where this one's CRL and responder are.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn subordinate(&self, name: &str, key: PKey<Private>, (crl, ocsp): (&str, &str)) -> Result<Self> {
        let extensions = vec![distribution_points(crl)?, responder(ocsp)?];
        let certificate = ca(&subject("CA", &[name])?, &key, 0, Some(self), extensions)?;
        Ok(Self { certificate, key })
    }

    /// A leaf under this CA, as PEM, without the CA's own certificate.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn issue(&self, leaf: &Leaf, key: &PKey<Private>) -> Result<Vec<u8>> {
        leaf.signed(key, Some(self))
    }

    /// A CRL of this CA, as PEM.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn crl(&self, revoked: &[&X509Ref], validity: Validity) -> Result<Vec<u8>> {
        self.sign_crl(None, revoked, validity)
    }

    /// A CRL of this CA for the certificates alone that name the distribution point `uri`, as PEM.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn partial_crl(&self, uri: &str, revoked: &[&X509Ref], validity: Validity) -> Result<Vec<u8>> {
        self.sign_crl(Some(uri), revoked, validity)
    }

    fn sign_crl(&self, point: Option<&str>, revoked: &[&X509Ref], validity: Validity) -> Result<Vec<u8>> {
        let mut builder = X509CrlBuilder::new()?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        builder.set_last_update(&*time(validity.from)?)?;
        builder.set_next_update(&*time(validity.to)?)?;
        let carrier = X509::builder()?;
        let authority = AuthorityKeyIdentifier::new()
            .keyid(true)
            .build(&carrier.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(authority)?;
        // RFC 5280 section 5.2.3 wants a number that grows with each CRL: the time does.
        let number = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
        builder.append_extension(CrlNumber::new(BigNum::from_slice(&number.to_be_bytes())?)?.build()?)?;
        if let Some(uri) = point {
            builder.append_extension(sequence(ISSUING_POINT, true, &full_name(uri)?)?)?;
        }
        for certificate in revoked {
            let mut entry = X509RevokedBuilder::new()?;
            entry.set_serial_number(certificate.serial_number())?;
            entry.set_revocation_date(&*time(validity.from)?)?;
            builder.add_revoked(entry.build())?;
        }
        builder.sort()?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(builder.build()?.to_pem()?)
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &X509Ref {
        &self.certificate
    }

    /// The CA's key as PEM, for a responder that signs with it.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn key_pem(&self) -> Result<Vec<u8>> {
        Ok(self.key.private_key_to_pem_pkcs8()?)
    }

    /// The CA's certificate as PEM.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn pem(&self) -> Result<Vec<u8>> {
        Ok(self.certificate.to_pem()?)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("subject", &self.certificate.subject_name())
            .finish_non_exhaustive()
    }
}

/// What is to stand in a leaf. Key usage and subject are those of Spine's own leaves.
#[derive(Clone, Debug)]
pub struct Leaf {
    fqdn: String,
    more_common_names: Vec<String>,
    san: Option<String>,
    addresses: Vec<Address>,
    client_auth: bool,
    validity: Validity,
    crl: Option<String>,
    responder: Option<String>,
}

impl Leaf {
    /// A leaf for both ends of a connection, as Spine's are.
    #[must_use]
    pub fn client(fqdn: &str) -> Self {
        Self {
            fqdn: fqdn.to_owned(),
            more_common_names: Vec::new(),
            san: Some(fqdn.to_owned()),
            addresses: Vec::new(),
            client_auth: true,
            validity: Validity::present(),
            crl: None,
            responder: None,
        }
    }

    /// A leaf for servers only.
    #[must_use]
    pub fn server(fqdn: &str) -> Self {
        Self {
            client_auth: false,
            ..Self::client(fqdn)
        }
    }

    /// Valid in this time.
    #[must_use]
    pub fn valid(self, validity: Validity) -> Self {
        Self { validity, ..self }
    }

    /// The name in the CN alone, as in the first generation of Spine's leaves.
    #[must_use]
    pub fn without_san(self) -> Self {
        Self { san: None, ..self }
    }

    /// With another name in the SAN than in the CN.
    #[must_use]
    pub fn with_san(self, name: &str) -> Self {
        Self {
            san: Some(name.to_owned()),
            ..self
        }
    }

    /// With another common name beside the first.
    #[must_use]
    pub fn and_common_name(mut self, name: &str) -> Self {
        self.more_common_names.push(name.to_owned());
        self
    }

    /// With this distribution point of its issuer's CRL.
    #[must_use]
    pub fn with_crl_at(self, uri: &str) -> Self {
        Self {
            crl: Some(uri.to_owned()),
            ..self
        }
    }

    /// With this responder for OCSP.
    #[must_use]
    pub fn with_ocsp_at(self, uri: &str) -> Self {
        Self {
            responder: Some(uri.to_owned()),
            ..self
        }
    }

    /// Also for this address.
    #[must_use]
    pub fn address(mut self, address: Address) -> Self {
        self.addresses.push(address);
        self
    }

    /// The leaf signed with its own key, as PEM.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub fn self_signed(&self, key: &PKey<Private>) -> Result<Vec<u8>> {
        self.signed(key, None)
    }

    fn signed(&self, key: &PKey<Private>, issuer: Option<&Authority>) -> Result<Vec<u8>> {
        let mut names = vec![self.fqdn.as_str()];
        names.extend(self.more_common_names.iter().map(String::as_str));
        let mut builder = begin(&subject("Devices", &names)?, key, self.validity, issuer)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(
            KeyUsage::new()
                .critical()
                .digital_signature()
                .key_encipherment()
                .build()?,
        )?;
        let mut usage = ExtendedKeyUsage::new();
        usage.server_auth();
        if self.client_auth {
            usage.client_auth();
        }
        builder.append_extension(usage.build()?)?;
        if let Some(san) = &self.san {
            let mut names = SubjectAlternativeName::new();
            names.dns(san);
            for address in &self.addresses {
                names.ip(&address.to_string());
            }
            let names = names.build(&builder.x509v3_context(None, None))?;
            builder.append_extension(names)?;
        }
        if let Some(uri) = &self.responder {
            builder.append_extension(responder(uri)?)?;
        }
        if let Some(uri) = &self.crl {
            builder.append_extension(distribution_points(uri)?)?;
        }
        Ok(end(builder, key, issuer)?.to_pem()?)
    }
}

/// An extension whose content is a sequence.
fn sequence(oid: &str, critical: bool, content: &[u8]) -> Result<X509Extension> {
    let content = Asn1OctetString::new_from_bytes(&der(0x30, content)?)?;
    Ok(X509Extension::new_from_der(
        &*Asn1Object::from_str(oid)?,
        critical,
        &content,
    )?)
}

/// The distribution points of a certificate: one.
fn distribution_points(uri: &str) -> Result<X509Extension> {
    sequence(POINTS, false, &der(0x30, &full_name(uri)?)?)
}

/// Where to ask about a certificate over OCSP (RFC 5280 section 4.2.2.1).
fn responder(uri: &str) -> Result<X509Extension> {
    /// `id-ad-ocsp`, 1.3.6.1.5.5.7.48.1
    const OCSP: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
    let access = der(0x30, &[&OCSP, &*der(0x86, uri.as_bytes())?].concat())?;
    sequence(ACCESS, false, &access)
}

/// A DistributionPointName of one URI.
fn full_name(uri: &str) -> Result<Vec<u8>> {
    der(0xa0, &der(0xa0, &der(0x86, uri.as_bytes())?)?)
}

/// A DER element of a length that fits one byte.
fn der(tag: u8, content: &[u8]) -> Result<Vec<u8>> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 0x80);
    Ok([&[tag, length.context("too long a name for the lab")?], content].concat())
}

/// The first certificate of a PEM file.
pub(super) fn first_certificate(path: &Path) -> Result<X509> {
    let pem = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    Ok(X509::from_pem(&pem)?)
}

fn ca(
    name: &X509Name,
    key: &PKey<Private>,
    path_length: u32,
    issuer: Option<&Authority>,
    extensions: Vec<X509Extension>,
) -> Result<X509> {
    let mut builder = begin(name, key, Validity::days(-1095, 2555), issuer)?;
    builder.append_extension(
        BasicConstraints::new()
            .critical()
            .ca()
            .pathlen(path_length)
            .build()?,
    )?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    for extension in extensions {
        builder.append_extension(extension)?;
    }
    end(builder, key, issuer)
}

fn begin(
    name: &X509Name,
    key: &PKey<Private>,
    validity: Validity,
    issuer: Option<&Authority>,
) -> Result<X509Builder> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial()?)?;
    builder.set_subject_name(name)?;
    builder.set_issuer_name(issuer.map_or(&**name, |issuer| issuer.certificate.subject_name()))?;
    builder.set_not_before(&*time(validity.from)?)?;
    builder.set_not_after(&*time(validity.to)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn end(mut builder: X509Builder, key: &PKey<Private>, issuer: Option<&Authority>) -> Result<X509> {
    let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(own)?;
    let certificate: Option<&X509Ref> = issuer.map(|issuer| &*issuer.certificate);
    if certificate.is_some() {
        let authority = AuthorityKeyIdentifier::new()
            .keyid(true)
            .build(&builder.x509v3_context(certificate, None))?;
        builder.append_extension(authority)?;
    }
    builder.sign(issuer.map_or(key, |issuer| &issuer.key), MessageDigest::sha256())?;
    Ok(builder.build())
}

fn subject(unit: &str, common_names: &[&str]) -> Result<X509Name> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("O", "nhs")?;
    name.append_entry_by_text("OU", unit)?;
    for common_name in common_names {
        name.append_entry_by_text("CN", common_name)?;
    }
    Ok(name.build())
}

/// 127 random bits: unique, and positive in 16 bytes (RFC 5280 section 4.1.2.2).
fn serial() -> Result<Asn1Integer> {
    let mut number = BigNum::new()?;
    number.rand(127, MsbOption::ONE, false)?;
    Ok(number.to_asn1_integer()?)
}

fn time(moment: SystemTime) -> Result<Asn1Time> {
    Ok(Asn1Time::from_unix(i64::try_from(
        moment.duration_since(UNIX_EPOCH)?.as_secs(),
    )?)?)
}
