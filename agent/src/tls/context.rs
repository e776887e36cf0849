//! The OpenSSL context: TLS 1.2 with the mandated suite (R6, R7), and the callbacks in which the rules decide.

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use foreign_types_shared::ForeignTypeRef as _;
use openssl::{
    dh::Dh,
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::{
        AlpnError, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode,
        SslVerifyMode, SslVersion, select_next_proto,
    },
    stack::Stack,
    x509::{X509, X509PurposeId, X509Ref, X509StoreContextRef},
};
use openssl_sys as ffi;

use super::{hello, progress, trust::Anchors};
use crate::config::{self, DhGroup};

/// What a client may sign its CertificateVerify with: RSA, as Spine's certificates hold.
const SIGNATURES: &str =
    "rsa_pss_rsae_sha512:rsa_pss_rsae_sha384:rsa_pss_rsae_sha256:RSA+SHA512:RSA+SHA384:RSA+SHA256";
/// 112 bits: RSA and DH of 2048 bits or more, no SHA-1 in certificates.
const SECURITY_LEVEL: u32 = 2;
/// Sessions are of this gateway alone. They live in [`super::sessions`], one store a generation.
const SESSION_CONTEXT: &[u8] = b"spinegate";

/// What the gateway itself shows.
pub(super) struct Identity<'a> {
    pub(super) certificate: &'a X509,
    pub(super) chain: &'a [X509],
    pub(super) key: &'a PKey<Private>,
}

/// Builds the context.
pub(super) fn build(
    config: &config::Tls,
    identity: &Identity<'_>,
    anchors: &Anchors,
) -> Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::tls_server())?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_security_level(SECURITY_LEVEL);
    let suites: Vec<_> = hello::suites(config.suites)
        .iter()
        .map(|(_, name)| *name)
        .collect();
    context.set_cipher_list(&suites.join(":"))?;
    context.set_tmp_dh(&*group(config.dh_group)?)?;
    context.set_sigalgs_list(SIGNATURES)?;
    context.set_options(
        SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::NO_TICKET
            | SslOptions::SINGLE_DH_USE
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    // What was written in part may be repeated from another place, and an idle connection holds no buffers.
    context.set_mode(
        SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::RELEASE_BUFFERS,
    );
    // One read from the kernel for a record and its header.
    context.set_read_ahead(true);
    context.set_client_hello_callback(progress::on_client_hello);
    // An offer without it was refused at the hello.
    context.set_alpn_select_callback(|_, offer| {
        select_next_proto(hello::PROTOCOL, offer).ok_or(AlpnError::ALERT_FATAL)
    });
    resume(&mut context, config.resumption)?;
    judge_chains(&mut context);

    context.set_certificate(identity.certificate)?;
    context.set_private_key(identity.key)?;
    context.check_private_key()?;
    for certificate in identity.chain {
        context.add_extra_chain_cert(certificate.clone())?;
    }

    let mut names = Stack::new()?;
    for issuer in anchors.issuers() {
        names.push(issuer.subject_name().to_owned()?)?;
    }
    context.set_client_ca_list(names);
    context.set_verify_cert_store(anchors.store()?)?;
    // The leaf's usage is a rule of its own, judged in its turn; an issuer's was judged when it was loaded.
    context.verify_param_mut().set_purpose(X509PurposeId::ANY)?;
    context.set_verify_callback(
        SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
        progress::on_certificate,
    );
    Ok(context.build())
}

/// Sessions are kept by us or not at all: OpenSSL's own cache knows nothing of revocation.
fn resume(context: &mut SslContextBuilder, resumption: bool) -> Result<(), ErrorStack> {
    if !resumption {
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        return Ok(());
    }
    context.set_session_cache_mode(SslSessionCacheMode::SERVER | SslSessionCacheMode::NO_INTERNAL);
    context.set_session_id_context(SESSION_CONTEXT)?;
    context.set_new_session_callback(|ssl, session| progress::on_new_session(ssl, session));
    // SAFETY: the sessions that it returns come from `on_new_session` of a generation's store, and every connection of a
    // generation is of this one context.
    unsafe {
        context.set_get_session_callback(|ssl, id| progress::on_resumption(ssl, id));
    }
    Ok(())
}

/// Has [`progress::on_client_chain`] asked about each client's chain. The crate has no safe call for this, and none for a
/// chain's leaf before that is verified.
fn judge_chains(context: &mut SslContextBuilder) {
    type Judge = unsafe extern "C" fn(*mut ffi::X509_STORE_CTX, *mut c_void) -> c_int;
    unsafe extern "C" {
        fn SSL_CTX_set_cert_verify_callback(
            context: *mut ffi::SSL_CTX,
            judge: Option<Judge>,
            argument: *mut c_void,
        );
        fn X509_STORE_CTX_get0_cert(chain: *const ffi::X509_STORE_CTX) -> *mut ffi::X509;
    }
    unsafe extern "C" fn judge(chain: *mut ffi::X509_STORE_CTX, _: *mut c_void) -> c_int {
        // SAFETY: OpenSSL hands over a live chain that nobody else uses meanwhile, and the leaf in it lives as long; both are
        // null at worst, which is looked at first.
        let (chain, leaf) = unsafe {
            let leaf = if chain.is_null() {
                ptr::null_mut()
            } else {
                X509_STORE_CTX_get0_cert(chain)
            };
            if leaf.is_null() {
                return 0;
            }
            (X509StoreContextRef::from_ptr_mut(chain), X509Ref::from_ptr(leaf))
        };
        progress::on_client_chain(chain, leaf).into()
    }
    // SAFETY: the context is live, and the callback is of OpenSSL's type and takes no argument.
    unsafe {
        SSL_CTX_set_cert_verify_callback(context.as_ptr(), Some(judge), ptr::null_mut());
    }
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
    use crate::config::Suites;

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
    fn strict_is_one_suite_and_nrl_is_eight_and_openssl_knows_each() {
        for (choice, count) in [(Suites::Strict, 1), (Suites::Nrl, 8)] {
            let suites = hello::suites(choice);
            assert_eq!(suites.len(), count);
            for (_, name) in suites {
                let mut context = SslContextBuilder::new(SslMethod::tls_server()).expect("a context");
                assert!(context.set_cipher_list(name).is_ok(), "{name}");
            }
        }
    }
}
