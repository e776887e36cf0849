//! Where an upstream is.

use std::fmt;

use http::{HeaderValue, Uri};

/// Scheme, host and port of an upstream.
#[derive(Clone, Debug)]
pub(super) struct Address {
    secure: bool,
    host: String,
    port: u16,
    field: HeaderValue,
    text: String,
}

impl Address {
    /// The address in an `http` or `https` URI; none where it has no host.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        let secure = uri.scheme_str() == Some("https");
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Some(Self {
            secure,
            host: bare.to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            field: HeaderValue::from_str(authority.as_str()).ok()?,
            text: format!("{}://{authority}", if secure { "https" } else { "http" }),
        })
    }

    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// A name or an address, without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The Host field of requests.
    pub(super) const fn field(&self) -> &HeaderValue {
        &self.field
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_port_of_its_scheme_and_a_host_without_brackets() {
        for (uri, shown, host, port, secure) in [
            (
                "http://locator:8080",
                "http://locator:8080",
                "locator",
                8080,
                false,
            ),
            (
                "https://[2001:db8::7]/",
                "https://[2001:db8::7]",
                "2001:db8::7",
                443,
                true,
            ),
            ("http://192.0.2.7", "http://192.0.2.7", "192.0.2.7", 80, false),
        ] {
            let address = Address::of(&Uri::from_static(uri)).unwrap();
            assert_eq!(
                (
                    address.to_string().as_str(),
                    address.host(),
                    address.port(),
                    address.is_secure()
                ),
                (shown, host, port, secure)
            );
        }
        assert!(Address::of(&Uri::from_static("/path")).is_none());
    }
}
