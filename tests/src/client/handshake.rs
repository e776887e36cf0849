//! Handshakes by `openssl s_client`.

use std::{fmt, fs};

use anyhow::Result;

use super::{Client, LIMIT};
use crate::{command::Run, pki::EDGE_FQDN};

/// What a client offers in its ClientHello, in `s_client`'s own options.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    arguments: &'static [&'static str],
}

impl Offer {
    /// TLS 1.2 with DHE-RSA-AES256-SHA256, as R6 and R7 have it.
    pub const RIGHT: Self = Self::of(&["-tls1_2", "-cipher", "DHE-RSA-AES256-SHA256"]);
    /// TLS 1.3 alone.
    pub const TLS13: Self = Self::of(&["-tls1_3"]);
    /// TLS 1.1 alone, with suites that it has.
    pub const TLS11: Self = Self::of(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    /// TLS 1.0 alone, with suites that it has.
    pub const TLS10: Self = Self::of(&["-tls1", "-cipher", "ALL:@SECLEVEL=0"]);
    /// TLS 1.2 with ECDHE suites alone.
    pub const ECDHE: Self = Self::of(&[
        "-tls1_2",
        "-cipher",
        "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-SHA384",
    ]);
    /// TLS 1.2 with every suite that the library has but the one of R7.
    pub const ALL_BUT_RIGHT: Self =
        Self::of(&["-tls1_2", "-cipher", "ALL:!DHE-RSA-AES256-SHA256:@SECLEVEL=0"]);
    /// Everything that the library offers by default, TLS 1.2 and 1.3.
    pub const DEFAULT: Self = Self::of(&[]);

    /// An offer of one's own.
    #[must_use]
    pub const fn of(arguments: &'static [&'static str]) -> Self {
        Self { arguments }
    }
}

/// How a handshake ended.
#[derive(Clone, Debug)]
pub enum Handshake {
    /// It was finished.
    Finished(Session),
    /// The gateway refused with this TLS alert.
    Alert(u8),
    /// It ended without an alert; what the client said about it.
    Broken(String),
}

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The protocol version, as OpenSSL names it.
    pub protocol: String,
    /// The cipher suite, as OpenSSL names it.
    pub suite: String,
    /// The gateway's ephemeral key.
    pub key: String,
    /// All that the client printed.
    pub printed: String,
}

impl Client<'_> {
    /// Makes a handshake, closes the connection, and tells how it ended.
    ///
    /// # Errors
    /// `openssl` can't be started.
    pub fn handshake(&self, offer: Offer) -> Result<Handshake> {
        let finished = self.s_client(offer).output()?;
        Ok(read(finished.code == Some(0), &finished.stdout, &finished.stderr))
    }

    /// Makes a handshake, types what a shell script prints, and gives all that the client said.
    ///
    /// # Errors
    /// The shell can't be started.
    pub fn converse(&self, offer: Offer, script: &str) -> Result<String> {
        let line = format!("({script}) | {}", self.s_client(offer));
        Ok(Run::new("sh").args(["-c", &line]).within(LIMIT).output()?.said())
    }

    /// The command line that makes a handshake, for a shell.
    #[must_use]
    pub fn handshake_line(&self, offer: Offer) -> String {
        format!("{} </dev/null", self.s_client(offer))
    }

    fn s_client(&self, offer: Offer) -> Run {
        let mut run = Run::inside(&self.namespace(), "openssl")
            .args([
                "s_client",
                "-connect",
                &self.gateway().to_string(),
                "-servername",
                EDGE_FQDN,
            ])
            .args(["-verify_return_error", "-CAfile"])
            .arg(&self.lab.pki().server_ca)
            .args(offer.arguments)
            .within(LIMIT);
        if let Some(identity) = &self.identity {
            run = run
                .arg("-cert")
                .arg(&identity.cert)
                .arg("-key")
                .arg(&identity.key);
            // Spine's clients send the SubCA with the leaf, as curl does by itself.
            let pem = fs::read_to_string(&identity.cert).unwrap_or_default();
            if pem.matches("BEGIN CERTIFICATE").count() > 1 {
                run = run.arg("-cert_chain").arg(&identity.cert);
            }
        }
        run
    }
}

impl Handshake {
    /// The alert's number, if the gateway sent one.
    #[must_use]
    pub const fn alert(&self) -> Option<u8> {
        match self {
            Self::Alert(number) => Some(*number),
            Self::Finished(_) | Self::Broken(_) => None,
        }
    }

    /// What was agreed on, if anything was.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        match self {
            Self::Finished(session) => Some(session),
            Self::Alert(_) | Self::Broken(_) => None,
        }
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(session) => {
                write!(f, "{} with {}, {}", session.protocol, session.suite, session.key)
            }
            Self::Alert(number) => write!(f, "TLS alert {number}"),
            Self::Broken(words) => write!(f, "broken off: {words}"),
        }
    }
}

fn read(ended_well: bool, stdout: &str, stderr: &str) -> Handshake {
    let alert = stderr.split("SSL alert number ").nth(1);
    if let Some(number) = alert.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
        return Handshake::Alert(number);
    }
    let field = |name: &str| {
        stdout.lines().find_map(|line| {
            let value = line.trim().strip_prefix(name)?.trim_start().strip_prefix(':')?;
            Some(value.trim().to_owned())
        })
    };
    match (field("Protocol"), field("Cipher")) {
        (Some(protocol), Some(suite)) if ended_well && suite != "0000" => Handshake::Finished(Session {
            protocol,
            suite,
            key: field("Server Temp Key").unwrap_or_else(|| "no ephemeral key".to_owned()),
            printed: stdout.to_owned(),
        }),
        _ => {
            let words = stderr
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("no words");
            Handshake::Broken(words.trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_found_in_what_openssl_says() {
        let words = "40C7:error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:\
                     record/rec_layer_s3.c:1605:SSL alert number 40\n";
        assert_eq!(read(false, "", words).alert(), Some(40));
        assert_eq!(read(true, "Protocol : TLSv1.2\n", words).alert(), Some(40));
    }

    #[test]
    fn a_session_is_finished_only_with_a_suite() {
        let printed =
            "Server Temp Key: DH, 2048 bits\nSSL-Session:\n    Protocol  : TLSv1.2\n    Cipher    : X\n";
        let session = read(true, printed, "").session().cloned().unwrap();
        assert_eq!(
            (session.protocol.as_str(), session.suite.as_str()),
            ("TLSv1.2", "X")
        );
        assert_eq!(session.key, "DH, 2048 bits");
        assert!(
            read(true, "Protocol  : TLSv1.2\nCipher    : 0000\n", "")
                .session()
                .is_none()
        );
    }
}
