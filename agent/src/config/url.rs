//! Where the agent may fetch from: plain HTTP URLs, and the hosts that operators list.

use std::{fmt, str::FromStr};

use http::Uri;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longer URLs are none that a CA writes into certificates.
const LONGEST: usize = 1024;
const DEFAULT_PORT: u16 = 80;

/// An `http://` URL with a host and a path, and nothing that could carry a secret or another meaning: no user, no query,
/// no fragment. The host is in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpUrl {
    text: String,
    host: HttpHost,
}

/// A host that may be asked over plain HTTP, and its port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpHost {
    /// In lower case; an IPv6 address in brackets.
    name: String,
    port: u16,
}

/// Why a text is no URL or host to fetch from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {fault}")]
pub struct UrlError {
    text: String,
    /// What is wrong.
    pub fault: &'static str,
}

impl HttpUrl {
    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host that it is fetched from.
    #[must_use]
    pub const fn host(&self) -> &HttpHost {
        &self.host
    }
}

impl FromStr for HttpUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let fault = |fault| {
            // An error is for one line of a log.
            let text = text.chars().take(LONGEST).collect();
            Err(UrlError { text, fault })
        };
        if text.len() > LONGEST {
            return fault("is longer than 1024 characters");
        }
        let Ok(uri) = text.parse::<Uri>() else {
            return fault("is not a URL");
        };
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return fault("is https: what is fetched is signed, and TLS could ask for itself");
            }
            _ => return fault("does not begin with http://"),
        }
        let Some(authority) = uri.authority() else {
            return fault("has no host");
        };
        if authority.as_str().contains('@') {
            return fault("has a user name");
        }
        // `http::Uri` forgets a fragment, so that only the text shows one.
        if uri.query().is_some() || text.contains('#') {
            return fault("has a query or a fragment");
        }
        let Ok(host) = authority.as_str().parse::<HttpHost>() else {
            return fault("has no host, or no port from 1 to 65535");
        };
        let text = format!("http://{host}{}", uri.path());
        Ok(Self { text, host })
    }
}

impl FromStr for HttpHost {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let fault = |fault| {
            let text = text.chars().take(LONGEST).collect();
            Err(UrlError { text, fault })
        };
        let Ok(authority) = text.parse::<http::uri::Authority>() else {
            return fault("is not a host");
        };
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return fault("is not a host");
        }
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or("");
        let port = match rest.strip_prefix(':').map(str::parse) {
            None if rest.is_empty() => DEFAULT_PORT,
            Some(Ok(port)) if port != 0 => port,
            _ => return fault("has no port from 1 to 65535"),
        };
        Ok(Self {
            name: authority.host().to_ascii_lowercase(),
            port,
        })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            DEFAULT_PORT => f.write_str(&self.name),
            port => write!(f, "{}:{port}", self.name),
        }
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_into_one_form() {
        for (text, read) in [
            (
                "http://crl.nhs.uk/int/1c/crlc7.crl",
                "http://crl.nhs.uk/int/1c/crlc7.crl",
            ),
            ("http://CRL.NHS.uk:80/A", "http://crl.nhs.uk/A"),
            ("http://crl.nhs.uk", "http://crl.nhs.uk/"),
            ("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ] {
            assert_eq!(text.parse::<HttpUrl>().unwrap().as_str(), read);
        }
    }

    #[test]
    fn what_could_mean_something_else_is_no_url() {
        for (text, fault) in [
            (
                "https://crl.nhs.uk/a.crl",
                "is https: what is fetched is signed, and TLS could ask for itself",
            ),
            ("ldap://crl.nhs.uk/cn=a", "does not begin with http://"),
            ("file:///etc/passwd", "is not a URL"),
            ("/etc/passwd", "does not begin with http://"),
            ("http://user@crl.nhs.uk/", "has a user name"),
            ("http://crl.nhs.uk@10.0.0.1/", "has a user name"),
            ("http://crl.nhs.uk/?a=b", "has a query or a fragment"),
            ("http://crl.nhs.uk/#a", "has a query or a fragment"),
            ("http://crl.nhs.uk:0/", "has no host, or no port from 1 to 65535"),
            (
                "http://crl.nhs.uk:99999/",
                "has no host, or no port from 1 to 65535",
            ),
            ("http://crl.nhs.uk/a b", "is not a URL"),
            ("http://crl.nhs.uk/a\r\nHost: x", "is not a URL"),
        ] {
            assert_eq!(text.parse::<HttpUrl>().unwrap_err().fault, fault, "{text}");
        }
        assert!(
            format!("http://a/{}", "b".repeat(2000))
                .parse::<HttpUrl>()
                .is_err()
        );
    }

    #[test]
    fn a_host_without_a_port_is_at_port_80_alone() {
        let url: HttpUrl = "http://crl.nhs.uk:8080/a".parse().unwrap();
        assert_eq!(*url.host(), "CRL.nhs.uk:8080".parse().unwrap());
        assert_ne!(*url.host(), "crl.nhs.uk".parse().unwrap());
        for bad in ["", ":80", "a@b", "a:", "a:x", "a/b", "http://a", "a b"] {
            assert!(bad.parse::<HttpHost>().is_err(), "{bad:?}");
        }
    }
}
