//! The ClientHello, judged before any arithmetic: what can't succeed ends here at no cost.

use std::{ptr, slice};

use foreign_types_shared::ForeignTypeRef as _;
use openssl::ssl::{SslAlert, SslRef};
use spinegate_common::Reason;

use super::Refusal;
use crate::config::{self, Suites};

/// A cipher suite: its number, and OpenSSL's name of it.
pub(super) type Suite = ([u8; 2], &'static str);

/// R7: the one suite.
pub(super) const MANDATED: Suite = ([0x00, 0x6b], "DHE-RSA-AES256-SHA256");
/// The eight suites of the NRL's security guidance, in its order of preference.
const NRL: [Suite; 8] = [
    ([0xc0, 0x30], "ECDHE-RSA-AES256-GCM-SHA384"),
    ([0xc0, 0x2f], "ECDHE-RSA-AES128-GCM-SHA256"),
    ([0x00, 0x9f], "DHE-RSA-AES256-GCM-SHA384"),
    ([0x00, 0x9e], "DHE-RSA-AES128-GCM-SHA256"),
    ([0xc0, 0x28], "ECDHE-RSA-AES256-SHA384"),
    MANDATED,
    ([0x00, 0x39], "DHE-RSA-AES256-SHA"),
    ([0xc0, 0x14], "ECDHE-RSA-AES256-SHA"),
];

const TLS_1_2: u16 = 0x0303;
/// Extensions of the ClientHello, by their numbers in IANA's registry.
const ALPN: u32 = 16;
const ENCRYPT_THEN_MAC: u32 = 22;
const EXTENDED_MASTER_SECRET: u32 = 23;
const SUPPORTED_VERSIONS: u32 = 43;

/// The one application protocol, as ALPN lists protocols: each behind its length (RFC 7301 section 3.1).
pub(super) const PROTOCOL: &[u8] = b"\x08http/1.1";

/// What a ClientHello must offer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demands {
    suites: &'static [Suite],
    extended_master_secret: bool,
    encrypt_then_mac: bool,
}

/// What a ClientHello offers besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) encrypt_then_mac: bool,
}

/// The suites of a configuration, in order of preference.
pub(super) const fn suites(suites: Suites) -> &'static [Suite] {
    match suites {
        Suites::Strict => &[MANDATED],
        Suites::Nrl => &NRL,
    }
}

impl Demands {
    pub(super) const fn of(config: &config::Tls) -> Self {
        Self {
            suites: suites(config.suites),
            extended_master_secret: config.require_ems,
            encrypt_then_mac: config.require_etm,
        }
    }

    /// Judges the ClientHello that OpenSSL has just read, in the order version, suite, extensions.
    pub(super) fn judge(&self, ssl: &SslRef) -> Result<Hello, (Refusal, SslAlert)> {
        if !offers_tls_1_2(ssl) {
            let refusal = Refusal::new(Reason::TlsVersion, "the client does not offer TLS 1.2");
            return Err((refusal, SslAlert::PROTOCOL_VERSION));
        }
        let offered = ssl.client_hello_ciphers().unwrap_or_default();
        let common = offered
            .chunks_exact(2)
            .any(|offered| self.suites.iter().any(|(number, _)| number == offered));
        if !common {
            let detail = format!("the client offers {}", list(offered));
            let refusal = Refusal::new(Reason::NoCommonCipher, detail);
            return Err((refusal, SslAlert::HANDSHAKE_FAILURE));
        }
        if extension(ssl, ALPN).is_some_and(|offer| !offers_protocol(&offer)) {
            let refusal = Refusal::new(Reason::NoCommonProtocol, "ALPN is offered without http/1.1");
            return Err((refusal, SslAlert::NO_APPLICATION_PROTOCOL));
        }
        let encrypt_then_mac = extension(ssl, ENCRYPT_THEN_MAC).is_some();
        if self.extended_master_secret && extension(ssl, EXTENDED_MASTER_SECRET).is_none() {
            let refusal = Refusal::new(Reason::ExtendedMasterSecretMissing, "extension 23 is missing");
            return Err((refusal, SslAlert::HANDSHAKE_FAILURE));
        }
        if self.encrypt_then_mac && !encrypt_then_mac {
            let refusal = Refusal::new(Reason::EncryptThenMacMissing, "extension 22 is missing");
            return Err((refusal, SslAlert::HANDSHAKE_FAILURE));
        }
        Ok(Hello { encrypt_then_mac })
    }
}

/// RFC 8446 section 4.2.1: a client with supported_versions means what it lists there, any other its legacy version. A
/// hello in the form of SSL 2.0 is none (RFC 6176).
fn offers_tls_1_2(ssl: &SslRef) -> bool {
    if ssl.client_hello_isv2() {
        return false;
    }
    match extension(ssl, SUPPORTED_VERSIONS) {
        Some(versions) => versions
            .get(1..)
            .unwrap_or_default()
            .chunks_exact(2)
            .any(|version| version == TLS_1_2.to_be_bytes()),
        None => legacy_version(ssl) >= TLS_1_2,
    }
}

/// Whether the content of an ALPN extension, a list behind its length, has the one protocol.
fn offers_protocol(offer: &[u8]) -> bool {
    let mut rest = offer.get(2..).unwrap_or_default();
    while let Some(length) = rest.first() {
        let Some((one, behind)) = rest.split_at_checked(1 + usize::from(*length)) else {
            return false;
        };
        if one == PROTOCOL {
            return true;
        }
        rest = behind;
    }
    false
}

/// The numbers of suites, as many as fit on a line.
fn list(suites: &[u8]) -> String {
    const SHOWN: usize = 16;
    if suites.is_empty() {
        return "no suite".to_owned();
    }
    let shown: Vec<_> = suites
        .chunks_exact(2)
        .take(SHOWN)
        .map(|suite| suite.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
        .collect();
    let more = (suites.len() / 2).saturating_sub(SHOWN);
    if more == 0 {
        shown.join(" ")
    } else {
        format!("{} and {more} more", shown.join(" "))
    }
}

fn legacy_version(ssl: &SslRef) -> u16 {
    // SAFETY: `ssl` is a live SSL, and OpenSSL only reads it. Outside of a ClientHello callback it answers 0.
    let version = unsafe { openssl_sys::SSL_client_hello_get0_legacy_version(ssl.as_ptr()) };
    u16::try_from(version).unwrap_or(0)
}

/// An extension's content. The crate has no safe call for this.
fn extension(ssl: &SslRef, number: u32) -> Option<Vec<u8>> {
    let (mut content, mut length) = (ptr::null(), 0);
    // SAFETY: `ssl` is a live SSL. On success OpenSSL has set both, to bytes that live until the ClientHello callback ends;
    // they are copied here. Outside of one it reports that there is no such extension.
    unsafe {
        if openssl_sys::SSL_client_hello_get0_ext(ssl.as_ptr(), number, &raw mut content, &raw mut length)
            != 1
        {
            return None;
        }
        if content.is_null() || length == 0 {
            return Some(Vec::new());
        }
        Some(slice::from_raw_parts(content, length).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_found_where_it_is_an_entry_of_its_own() {
        for (offer, found) in [
            (&b"\0\x09\x08http/1.1"[..], true),
            (b"\0\x0c\x02h2\x08http/1.1", true),
            (b"\0\x03\x02h2", false),
            (b"\0\x0a\x09\x08http/1.1", false),
            (b"\0\x09\x08http/1.", false),
            (b"\0", false),
            (b"", false),
        ] {
            assert_eq!(offers_protocol(offer), found, "{offer:?}");
        }
    }
}
