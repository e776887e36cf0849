//! Where the registry's sources are: URLs over TLS, without anything that could carry a secret.

use std::fmt;

use http::Uri;

/// A URL of a scheme that means TLS: a host, a port, and a path where there is one. The host is in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureUrl {
    scheme: &'static str,
    host: String,
    port: u16,
    path: String,
}

impl SecureUrl {
    /// Takes a URL as it stands in a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, scheme: &'static str, default_port: u16) -> Result<Self, &'static str> {
        let Ok(uri) = text.parse::<Uri>() else {
            return Err("is not a URL");
        };
        if uri.scheme_str() != Some(scheme) {
            return Err("does not begin with the scheme that means TLS");
        }
        let Some(authority) = uri.authority() else {
            return Err("has no host");
        };
        if authority.as_str().contains('@') {
            return Err("has a user name");
        }
        // `http::Uri` forgets a fragment, so that only the text shows one.
        if uri.query().is_some() || text.contains('#') {
            return Err("has a query or a fragment");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or("");
        let port = match rest.strip_prefix(':').map(str::parse) {
            None if rest.is_empty() => default_port,
            Some(Ok(port)) if port != 0 => port,
            _ => return Err("has no port from 1 to 65535"),
        };
        if host.is_empty() {
            return Err("has no host");
        }
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The host: a name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path, without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, as a Host header has them.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for SecureUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::SecureUrl;

    #[test]
    fn a_url_has_one_form_and_no_secrets() {
        let parsed = |text| SecureUrl::parse(text, "https", 443).map(|url| url.to_string());
        assert_eq!(
            parsed("https://A.nhs.uk/FHIR/R4/").unwrap(),
            "https://a.nhs.uk:443/FHIR/R4"
        );
        assert_eq!(parsed("https://[::1]:8443").unwrap(), "https://[::1]:8443");
        for bad in [
            "http://a.nhs.uk",
            "https://",
            "https://u:p@a.nhs.uk",
            "https://a.nhs.uk/?apikey=1",
            "https://a.nhs.uk/#x",
            "https://a.nhs.uk:0",
            "https://a.nhs.uk:99999",
            "a.nhs.uk",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
