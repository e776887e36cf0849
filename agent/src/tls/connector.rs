//! TLS towards the guarded service: named CAs alone, the name checked, never a fallback to the system's own.

use std::{io, net::IpAddr};

use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::{
        ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslStream,
        SslVerifyMode, SslVersion,
    },
    x509::{
        X509, X509VerifyResult,
        store::X509StoreBuilder,
        verify::{X509CheckFlags, X509VerifyFlags},
    },
};
use tokio::net::TcpStream;

use super::stream::{Socket, TlsStream, wants};
use crate::nrl::Fqdn;

/// Of TLS 1.2, those with forward secrecy: the mandated one for a record locator that has no other, and better ones first.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE-RSA-AES256-SHA256";
/// 112 bits, as towards clients.
const SECURITY_LEVEL: u32 = 2;

/// Makes TLS connections to upstreams.
#[derive(Clone)]
pub struct Connector {
    context: SslContext,
    /// The name that every upstream's certificate must have, in place of the host of its address.
    server_name: Option<String>,
}

/// The gateway's own certificate for upstreams.
pub(super) struct ClientIdentity {
    pub(super) certificate: X509,
    pub(super) chain: Vec<X509>,
    pub(super) key: PKey<Private>,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The other end broke off.
    #[error("the connection broke in the TLS handshake: {0}")]
    Broken(io::Error),
    /// One end refused the other.
    #[error("{0}")]
    Refused(String),
}

impl Connector {
    pub(super) fn new(
        authorities: &[X509],
        identity: Option<&ClientIdentity>,
        server_name: Option<&Fqdn>,
    ) -> Result<Self, ErrorStack> {
        let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_security_level(SECURITY_LEVEL);
        context.set_cipher_list(CIPHERS)?;
        context.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
        context.set_mode(
            SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::RELEASE_BUFFERS,
        );
        context.set_verify(SslVerifyMode::PEER);
        let mut store = X509StoreBuilder::new()?;
        for authority in authorities {
            store.add_cert(authority.clone())?;
        }
        context.set_verify_cert_store(store.build())?;
        // A CA that is named is trusted, whether or not it is a root.
        context
            .verify_param_mut()
            .set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        if let Some(identity) = identity {
            context.set_certificate(&identity.certificate)?;
            context.set_private_key(&identity.key)?;
            context.check_private_key()?;
            for certificate in &identity.chain {
                context.add_extra_chain_cert(certificate.clone())?;
            }
        }
        Ok(Self {
            context: context.build(),
            server_name: server_name.map(ToString::to_string),
        })
    }

    /// Does the handshake with an upstream. `host` is a name, or an IP address without brackets.
    ///
    /// # Errors
    /// The connection broke, or one end refused the other.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream, ConnectError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let ssl = self
            .prepare(name)
            .map_err(|error| ConnectError::Refused(error.to_string()))?;
        let mut stream = SslStream::new(ssl, Socket::new(stream))
            .map_err(|error| ConnectError::Refused(error.to_string()))?;
        loop {
            let Err(error) = stream.connect() else {
                return Ok(TlsStream::new(stream));
            };
            match wants(&error) {
                Some(wants) => stream
                    .get_ref()
                    .ready(wants)
                    .await
                    .map_err(ConnectError::Broken)?,
                None => return Err(refusal(stream.ssl().verify_result(), name, error)),
            }
        }
    }

    fn prepare(&self, name: &str) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        let address = name.parse::<IpAddr>();
        if address.is_err() {
            // RFC 6066 section 3: no addresses.
            ssl.set_hostname(name)?;
        }
        let parameters = ssl.param_mut();
        parameters.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        match address {
            Ok(address) => parameters.set_ip(address)?,
            Err(_) => parameters.set_host(name)?,
        }
        Ok(ssl)
    }
}

fn refusal(verified: X509VerifyResult, name: &str, error: openssl::ssl::Error) -> ConnectError {
    if verified != X509VerifyResult::OK {
        let fault = verified.error_string();
        return ConnectError::Refused(format!("the certificate of {name} is refused: {fault}"));
    }
    match error.code() {
        ErrorCode::SYSCALL | ErrorCode::ZERO_RETURN => match error.into_io_error() {
            Ok(error) => ConnectError::Broken(error),
            Err(_) => ConnectError::Broken(io::ErrorKind::UnexpectedEof.into()),
        },
        _ if is_truncation(&error) => ConnectError::Broken(io::ErrorKind::UnexpectedEof.into()),
        _ => ConnectError::Refused(format!("the TLS handshake failed: {error}")),
    }
}

/// Whether the other end went away without saying so in TLS, which OpenSSL 3 tells as a fault of the protocol.
pub(crate) fn is_truncation(error: &openssl::ssl::Error) -> bool {
    error.ssl_error().is_some_and(|stack| {
        let reasons = stack.errors().iter().map(openssl::error::Error::reason);
        reasons
            .into_iter()
            .any(|reason| reason == Some("unexpected eof while reading"))
    })
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
