//! The OpenSSL context: TLS 1.2 with the mandated suite (R6, R7), and the client's certificate judged by [`Trust`].

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::SystemTime,
};

use openssl::{
    dh::Dh,
    error::ErrorStack,
    ex_data::Index,
    pkey::{PKey, Private},
    ssl::{
        Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode,
        SslVersion,
    },
    stack::Stack,
    x509::{X509, X509Ref, X509StoreContext, X509StoreContextRef, store::X509StoreBuilder},
};
use spinegate_common::Reason;

use super::{Refusal, Trust, VerifiedClient};
use crate::config::{DhGroup, Suites};

/// R7: the one suite, 0x00,0x6B.
const STRICT: &str = "DHE-RSA-AES256-SHA256";
/// The eight suites of the NRL's security guidance, in its order of preference.
const NRL: &str = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:\
                   DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-SHA384:DHE-RSA-AES256-SHA256:\
                   DHE-RSA-AES256-SHA:ECDHE-RSA-AES256-SHA";
/// What a client may sign its CertificateVerify with: RSA, as Spine's certificates hold.
const SIGNATURES: &str =
    "rsa_pss_rsae_sha512:rsa_pss_rsae_sha384:rsa_pss_rsae_sha256:RSA+SHA512:RSA+SHA384:RSA+SHA256";
/// 112 bits: RSA and DH of 2048 bits or more, no SHA-1 in certificates.
const SECURITY_LEVEL: u32 = 2;

/// What the gateway itself shows and can do.
pub(super) struct Identity<'a> {
    pub(super) certificate: &'a X509,
    pub(super) chain: &'a [X509],
    pub(super) key: &'a PKey<Private>,
    pub(super) suites: Suites,
    pub(super) group: DhGroup,
}

/// What the rules said of one handshake's client.
pub(super) type Outcome = Arc<Mutex<Option<Result<VerifiedClient, Refusal>>>>;

/// Builds the context.
pub(super) fn build(
    identity: &Identity<'_>,
    roots: &[X509],
    issuers: &[X509],
    trust: Arc<Trust>,
) -> Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::tls_server())?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_security_level(SECURITY_LEVEL);
    context.set_cipher_list(match identity.suites {
        Suites::Strict => STRICT,
        Suites::Nrl => NRL,
    })?;
    context.set_tmp_dh(&*group(identity.group)?)?;
    context.set_sigalgs_list(SIGNATURES)?;
    context.set_options(
        SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::NO_TICKET
            | SslOptions::SINGLE_DH_USE
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    // A resumed session shows no chain, so issuer and revocation could not be checked again: there is no resumption.
    context.set_session_cache_mode(SslSessionCacheMode::OFF);

    context.set_certificate(identity.certificate)?;
    context.set_private_key(identity.key)?;
    context.check_private_key()?;
    for certificate in identity.chain {
        context.add_extra_chain_cert(certificate.clone())?;
    }

    let mut store = X509StoreBuilder::new()?;
    let mut names = Stack::new()?;
    for certificate in roots.iter().chain(issuers) {
        store.add_cert(certificate.clone())?;
    }
    for issuer in issuers {
        names.push(issuer.subject_name().to_owned()?)?;
    }
    context.set_verify_cert_store(store.build())?;
    context.set_client_ca_list(names);
    context.set_verify_callback(
        SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
        move |sound, client| judge(&trust, sound, client),
    );
    Ok(context.build())
}

/// Where the verify callback leaves its outcome.
pub(super) fn outcome_index() -> Result<Index<Ssl, Outcome>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Outcome>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// OpenSSL asks for each certificate of the chain, and for each fault that it finds itself. The rules run at the first
/// question; whatever they say is the answer to all, and OpenSSL's own objections stand beside it.
fn judge(trust: &Trust, sound: bool, client: &mut X509StoreContextRef) -> bool {
    let Some(outcome) = outcome_of(client) else {
        return false;
    };
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = outcome.get_or_insert_with(|| verify(trust, client));
    match outcome {
        Err(_) => {
            if sound {
                client.set_error(openssl::x509::X509VerifyResult::APPLICATION_VERIFICATION);
            }
            false
        }
        Ok(_) if sound => true,
        Ok(_) => {
            *outcome = Err(Refusal::new(Reason::ChainInvalid, client.error().error_string()));
            false
        }
    }
}

fn outcome_of(client: &X509StoreContextRef) -> Option<Outcome> {
    let ssl = client.ex_data(X509StoreContext::ssl_idx().ok()?)?;
    ssl.ex_data(outcome_index().ok()?).cloned()
}

fn verify(trust: &Trust, client: &X509StoreContextRef) -> Result<VerifiedClient, Refusal> {
    let missing = || {
        Refusal::new(
            Reason::CertificateMissing,
            "OpenSSL holds no certificate of the client",
        )
    };
    let chain = client.chain().ok_or_else(missing)?;
    let leaf: &X509Ref = chain.iter().next().ok_or_else(missing)?;
    trust.verify(leaf, chain, SystemTime::now())
}

/// The group's parameters. They are RFC 7919's, so OpenSSL knows them by name and takes short exponents.
fn group(group: DhGroup) -> Result<Dh<openssl::pkey::Params>, ErrorStack> {
    Dh::params_from_pem(match group {
        DhGroup::Ffdhe2048 => include_bytes!("groups/ffdhe2048.pem"),
        DhGroup::Ffdhe3072 => include_bytes!("groups/ffdhe3072.pem"),
        DhGroup::Ffdhe4096 => include_bytes!("groups/ffdhe4096.pem"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_are_known_by_name_so_that_exponents_are_short() {
        // RFC 7919 section 5.2 gives 225, 275 and 325 bits as enough.
        for (name, bits) in [
            (DhGroup::Ffdhe2048, 225),
            (DhGroup::Ffdhe3072, 275),
            (DhGroup::Ffdhe4096, 325),
        ] {
            let key = group(name).and_then(Dh::generate_key).expect("a key");
            assert!(
                key.private_key().num_bits() <= bits,
                "{name:?}: {}",
                key.private_key().num_bits()
            );
        }
    }

    #[test]
    fn strict_is_one_suite_and_nrl_is_eight() {
        for (list, count) in [(STRICT, 1), (NRL, 8)] {
            let mut context = SslContextBuilder::new(SslMethod::tls_server()).expect("a context");
            context
                .set_max_proto_version(Some(SslVersion::TLS1_2))
                .expect("a version");
            context.set_cipher_list(list).expect("the suites");
            assert_eq!(list.split(':').count(), count);
        }
    }
}
