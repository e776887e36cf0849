//! From a TOML value to a value that can't be wrong, or to a fault with its mend.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use http::uri::PathAndQuery;

pub(super) use super::kind::Fault;
use super::{
    Cidr, HttpHost, HttpUrl, MaxShrink, OnStale, SecureUrl, Service, SourceKind, SourceName, UrlError,
    kind::{Given, Kind, bare, quoted, quoted_path, quoted_span},
};
use crate::nrl::{Asid, Fqdn, Interaction, InteractionId, OdsCode};

/// One of a few words.
pub(super) fn choice<T: Copy + PartialEq>(words: &'static [(&'static str, T)]) -> Kind<'static, T> {
    let all = |quote: &str| {
        let words: Vec<_> = words
            .iter()
            .map(|(word, _)| format!("{quote}{word:?}{quote}"))
            .collect();
        words.join(", ")
    };
    let write = |value: &T| {
        let word = words.iter().find(|(_, meant)| meant == value);
        quoted(&word.map_or("", |(word, _)| word))
    };
    Kind::new(all("`"), write, move |given| {
        let example = words
            .first()
            .map_or_else(String::new, |(word, _)| format!("{word:?}"));
        let text = given.text(&example)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => Err(Fault::new(
                format!("{text:?} is none of its values"),
                format!("write one of {}", all("")),
            )),
        }
    })
}

/// `true` or `false`.
pub(super) fn flag() -> Kind<'static, bool> {
    Kind::new("`true`, `false`", bare, |given| {
        given.0.as_bool().ok_or_else(|| {
            Fault::new(
                format!("is {}, not true or false", given.type_name()),
                "write true or false",
            )
        })
    })
}

/// A whole number within limits.
pub(super) fn integer<T>(limits: RangeInclusive<T>) -> Kind<'static, T>
where
    T: TryFrom<i64> + PartialOrd + Display + 'static,
{
    let one = format!("{} to {}", limits.start(), limits.end());
    Kind::new(one, bare, move |given| {
        let mend = || format!("write an integer from {} to {}", limits.start(), limits.end());
        let number = given
            .0
            .as_integer()
            .ok_or_else(|| Fault::new(format!("is {}, not an integer", given.type_name()), mend()))?;
        match T::try_from(number) {
            Ok(value) if limits.contains(&value) => Ok(value),
            _ => Err(Fault::new(format!("{number} is out of range"), mend())),
        }
    })
}

/// A time span with its unit, within limits.
pub(super) fn duration(limits: RangeInclusive<Duration>) -> Kind<'static, Duration> {
    let [least, most] = [limits.start(), limits.end()].map(|span| humantime::format_duration(*span));
    let one = format!("time span, {least} to {most}");
    Kind::new(one, quoted_span, move |given| {
        let text = given.text("\"5s\" (a number and its unit)")?;
        let mend = || format!("write a time span from {least} to {most}, as in \"5s\"");
        match humantime::parse_duration(text) {
            Ok(value) if limits.contains(&value) => Ok(value),
            Ok(_) => Err(Fault::new(format!("{text:?} is out of range"), mend())),
            Err(error) => Err(Fault::new(
                format!("{text:?} is not a time span: {error}"),
                mend(),
            )),
        }
    })
}

/// `"deny"`, or a time span.
pub(super) fn grace(limits: RangeInclusive<Duration>) -> Kind<'static, OnStale> {
    let span = duration(limits);
    let write = |on_stale: &OnStale| match on_stale {
        OnStale::Deny => quoted(&"deny"),
        OnStale::Grace(span) => quoted_span(span),
    };
    Kind::new(format!("`\"deny\"`, or a {}", span.one), write, move |given| {
        if given.text("\"deny\"")? == "deny" {
            return Ok(OnStale::Deny);
        }
        span.read(given)
            .map(OnStale::Grace)
            .map_err(|fault| Fault::new(fault.message, format!("write \"deny\", or {}", fault.mend)))
    })
}

/// A path; a relative one starts from the folder.
pub(super) fn path(folder: &Path) -> Kind<'_, PathBuf> {
    let kind = Kind::new("path", quoted_path, move |given| {
        let text = given.text("\"file.pem\"")?;
        if text.is_empty() || text.contains('\0') {
            return Err(Fault::new(
                format!("{text:?} is no path"),
                "name a file or a folder",
            ));
        }
        Ok(folder.join(text))
    });
    kind.or_many("paths")
}

/// A URL of a scheme that means TLS.
pub(super) fn secure_url(scheme: &'static str, default_port: u16) -> Kind<'static, SecureUrl> {
    let one = format!("`\"{scheme}://host:port\"`, by itself port {default_port}");
    Kind::new(one, quoted, move |given| {
        let example = format!("\"{scheme}://host.example.nhs.uk\"");
        let text = given.text(&example)?;
        SecureUrl::parse(text, scheme, default_port)
            .map_err(|fault| Fault::new(format!("{text:?} {fault}"), format!("write it like {example}")))
    })
}

/// A distinguished name. The server knows what it means.
pub(super) fn distinguished_name() -> Kind<'static, String> {
    Kind::new("distinguished name", quoted, |given| {
        let text = given.text("\"ou=services,o=nhs\"")?;
        if text.is_empty() || text.len() > 1024 || text.contains(char::is_control) {
            let message = format!("{text:?} is not a distinguished name");
            return Err(Fault::new(message, "write it like \"ou=services,o=nhs\""));
        }
        Ok(text.to_owned())
    })
}

/// An ODS code.
pub(super) fn ods_code() -> Kind<'static, OdsCode> {
    Kind::new("ODS code", quoted, |given| {
        let text = given.text("\"RR8\"")?;
        OdsCode::parse(text).map_err(|error| Fault::new(error.to_string(), "write it like \"RR8\""))
    })
    .or_many("ODS codes")
}

/// An interaction ID.
pub(super) fn interaction_id() -> Kind<'static, InteractionId> {
    Kind::new("interaction ID", quoted, |given| {
        let text = given.text("\"urn:nhs:names:services:nrl:DocumentReference.read\"")?;
        InteractionId::parse(text)
            .map_err(|error| Fault::new(error.to_string(), "write the whole ID, as the SDS has it"))
    })
    .or_many("interaction IDs")
}

/// A number of systems, or a share of them in percent.
pub(super) fn max_shrink() -> Kind<'static, MaxShrink> {
    Kind::new(
        "`\"10%\"`, or a number of systems",
        |shrink| match shrink {
            MaxShrink::Percent(percent) => quoted(&format!("{percent}%")),
            MaxShrink::Systems(systems) => bare(systems),
        },
        |given| {
            const MEND: &str = "write a share as \"10%\", or a number of systems";
            if let Some(number) = given.0.as_integer() {
                let systems = usize::try_from(number);
                return systems
                    .map(MaxShrink::Systems)
                    .map_err(|_| Fault::new(format!("{number} is out of range"), MEND));
            }
            let text = given
                .text("\"10%\"")
                .map_err(|fault| Fault::new(fault.message, MEND))?;
            match text.strip_suffix('%').map(str::parse) {
                Some(Ok(percent @ 0..=100)) => Ok(MaxShrink::Percent(percent)),
                _ => Err(Fault::new(format!("{text:?} is no share"), MEND)),
            }
        },
    )
}

/// An interface's name, as the kernel allows it (`dev_valid_name`).
pub(super) fn interface() -> Kind<'static, String> {
    Kind::new("interface name", quoted, |given| {
        let name = given.text("\"eth0\"")?;
        let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.contains(forbidden) {
            let message = format!("{name:?} is not an interface's name");
            let mend = "write a name that `ip link` shows: 1 to 15 characters, no blank, no slash, no colon";
            return Err(Fault::new(message, mend));
        }
        Ok(name.to_owned())
    })
    .or_many("interface names")
}

/// An address to listen on.
pub(super) fn listen_address() -> Kind<'static, SocketAddr> {
    Kind::new("`\"address:port\"`", quoted, |given| {
        let text = given.text("\"0.0.0.0:443\"")?;
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(address),
            Ok(_) => Err(Fault::new(
                format!("{text:?} has port 0"),
                "name a port from 1 to 65535",
            )),
            Err(_) => Err(Fault::new(
                format!("{text:?} is not an address with a port"),
                "write an IP address and a port, as in \"0.0.0.0:443\" or \"[::]:443\"",
            )),
        }
    })
}

/// An IP address.
pub(super) fn address() -> Kind<'static, IpAddr> {
    Kind::new("IP address", quoted, |given| {
        let text = given.text("\"192.0.2.7\"")?;
        let mend = "write an address without port or prefix length, as in \"192.0.2.7\" or \"2001:db8::7\"";
        text.parse::<IpAddr>()
            .map(|address| address.to_canonical())
            .map_err(|_| Fault::new(format!("{text:?} is not an IP address"), mend))
    })
    .or_many("IP addresses")
}

/// A moment in UTC.
pub(super) fn moment() -> Kind<'static, SystemTime> {
    Kind::new(
        "`\"2026-12-31T23:59:59Z\"`",
        |moment| quoted(&humantime::format_rfc3339(*moment)),
        |given| {
            let mend = "write it as \"2026-12-31T23:59:59Z\", in quotes";
            let text = given.text("\"2026-12-31T23:59:59Z\"")?;
            humantime::parse_rfc3339(text)
                .map_err(|_| Fault::new(format!("{text:?} is not a moment in UTC"), mend))
        },
    )
}

/// A network without host bits.
pub(super) fn cidr() -> Kind<'static, Cidr> {
    Kind::new("network without host bits", quoted, |given| {
        let text = given.text("\"10.239.14.31/32\"")?;
        text.parse()
            .map_err(|error: super::CidrError| Fault::new(error.message, error.mend))
    })
}

/// A service such as `tcp/443`.
pub(super) fn service() -> Kind<'static, Service> {
    Kind::new("`\"tcp/443\"`", quoted, |given| {
        let text = given.text("\"tcp/443\"")?;
        let mend = "write `tcp/` or `udp/` and a port of 1 to 65535, as in \"tcp/443\"";
        text.parse()
            .map_err(|_| Fault::new(format!("{text:?} is not a service"), mend))
    })
}

/// Whether many systems stand behind a source.
pub(super) fn source_kind() -> Kind<'static, SourceKind> {
    choice(&[("proxy", SourceKind::Proxy), ("system", SourceKind::System)])
}

/// What the operator calls a source.
pub(super) fn source_name() -> Kind<'static, SourceName> {
    Kind::new(
        "1 to 64 characters",
        |name: &SourceName| quoted(&name.as_str()),
        |given| {
            let text = given.text("\"ssp-int\"")?;
            let mend = "write 1 to 64 characters, none of them a control character";
            text.parse()
                .map_err(|_| Fault::new(format!("{text:?} is not a name"), mend))
        },
    )
}

/// A fully qualified domain name.
pub(super) fn fqdn() -> Kind<'static, Fqdn> {
    Kind::new("FQDN", quoted, |given| {
        let text = given.text("\"ssp.example.nhs.uk\"")?;
        let mend = "write the whole name that the certificate has, without wildcard";
        Fqdn::parse(text).map_err(|error| Fault::new(error.to_string(), mend))
    })
    .or_many("FQDNs")
}

/// A host as requests name it: an FQDN in lower case, or an address, an IPv6 one in brackets.
pub(super) fn host() -> Kind<'static, String> {
    Kind::new("`\"name\"` or `\"address\"`", quoted, |given| {
        let text = given.text("\"edge.example.nhs.uk\"")?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            });
        }
        let mend = "write a whole name or an address, without port, as in \"edge.example.nhs.uk\"";
        Fqdn::parse(text)
            .map(|name| name.as_str().to_owned())
            .map_err(|error| Fault::new(error.to_string(), mend))
    })
}

/// An ASID.
pub(super) fn asid() -> Kind<'static, Asid> {
    Kind::new("twelve digits, in quotes", quoted, |given| {
        // A bare integer would lose its leading zeros.
        let text = given.text("\"999999999999\" (in quotes)")?;
        Asid::parse(text).map_err(|_| {
            Fault::new(
                format!("{text:?} is not an ASID"),
                "write its twelve digits in quotes",
            )
        })
    })
}

/// The origin of an HTTP service.
pub(super) fn http_origin() -> Kind<'static, http::Uri> {
    Kind::new("`\"http://host:port\"`", quoted, |given| {
        let text = given.text("\"http://127.0.0.1:8080\"")?;
        let fault = |what: &str, mend: &str| Err(Fault::new(format!("{text:?} {what}"), mend));
        let form = "write the scheme, the host and the port, as in \"http://127.0.0.1:8080\"";
        let Ok(uri) = text.parse::<http::Uri>() else {
            return fault("is not a URI", form);
        };
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return fault("does not begin with http:// or https://", form),
        }
        if uri
            .authority()
            .is_none_or(|authority| authority.as_str().contains('@') || authority.host().is_empty())
        {
            return fault("has a user name or no host", form);
        }
        if uri.port().is_some() && uri.port_u16().is_none_or(|port| port == 0) {
            return fault("has no port from 1 to 65535", form);
        }
        // `http::Uri` forgets a fragment, so that only the text shows one.
        if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
            return fault(
                "has a path, a query or a fragment",
                "end it after the port; `gateway.base_path` sets the path",
            );
        }
        Ok(uri)
    })
    .or_many("such")
}

/// A path, with a query if need be, to ask a service for.
pub(super) fn path_and_query() -> Kind<'static, PathAndQuery> {
    Kind::new("path, as in `\"/STU3/metadata\"`", quoted, |given| {
        let text = given.text("\"/STU3/metadata\"")?;
        let mend = "write a path that begins with a slash, as in \"/STU3/metadata\"";
        if !text.starts_with('/') || text.contains('#') {
            return Err(Fault::new(format!("{text:?} is not a path"), mend));
        }
        text.parse()
            .map_err(|_| Fault::new(format!("{text:?} is not a path"), mend))
    })
}

/// A URL that the agent fetches.
pub(super) fn http_url() -> Kind<'static, HttpUrl> {
    Kind::new("`\"http://host/path\"`", quoted, |given| {
        let mend =
            "write the whole URL without user name and query, as in \"http://crl.example.nhs.uk/root.crl\"";
        given
            .text("\"http://crl.example.nhs.uk/root.crl\"")?
            .parse()
            .map_err(|error: UrlError| Fault::new(error.to_string(), mend))
    })
}

/// A host that the agent may fetch from.
pub(super) fn http_host() -> Kind<'static, HttpHost> {
    Kind::new("`\"host\"`, `\"host:port\"`", quoted, |given| {
        let mend = "write its name, and its port unless that is 80, as in \"crl.example.nhs.uk\"";
        given
            .text("\"crl.example.nhs.uk\"")?
            .parse()
            .map_err(|error: UrlError| Fault::new(error.to_string(), mend))
    })
}

/// A path prefix of URLs: empty, or segments that each begin with a slash (RFC 3986 section 3.3, unreserved characters).
pub(super) fn base_path() -> Kind<'static, String> {
    Kind::new("path prefix", quoted, |given| {
        let text = given.text("\"/STU3\"")?;
        let plain = |segment: &str| {
            let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(unreserved)
        };
        if text.is_empty()
            || text
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(plain))
        {
            return Ok(text.to_owned());
        }
        let mend =
            "write \"\", or segments of letters, digits and -._~ with a slash before each, as in \"/STU3\"";
        Err(Fault::new(format!("{text:?} is not a path prefix"), mend))
    })
}

/// A path under which a provider has records: `/`, or what [`base_path`] takes.
pub(super) fn endpoint_path() -> Kind<'static, String> {
    Kind::new("path", quoted, |given| match given.text("\"/records\"")? {
        "/" => Ok("/".to_owned()),
        "" => Err(Fault::new("\"\" is no path", "write \"/\" for every path")),
        _ => base_path().read(given),
    })
    .or_many("paths")
}

/// The ID of an interaction that the gateway knows.
pub(super) fn interaction() -> Kind<'static, Interaction> {
    Kind::new(
        "interaction ID",
        |interaction: &Interaction| quoted(&interaction.ids()[0]),
        |given| {
            let text = given.text("\"urn:nhs:names:services:nrl:DocumentReference.create\"")?;
            InteractionId::parse(text)
                .ok()
                .and_then(|id| id.interaction())
                .ok_or_else(|| {
                    Fault::new(
                        format!("{text:?} is not the ID of an interaction of the NRL"),
                        "write the whole ID, as in \"urn:nhs:names:services:nrl:DocumentReference.create\"",
                    )
                })
        },
    )
}

/// A spelling of the ID under which records are retrieved.
pub(super) fn retrieval() -> Kind<'static, InteractionId> {
    Kind::new("interaction ID", quoted, |given| {
        let [declared, registered] = Interaction::Retrieve.ids();
        let text = given.text("\"urn:nhs:names:services:nrl:DocumentReference.content.read\"")?;
        match InteractionId::parse(text) {
            Ok(id) if id.interaction() == Some(Interaction::Retrieve) => Ok(id),
            _ => Err(Fault::new(
                format!("{text:?} is not the ID of the retrieval of a record"),
                format!("write \"{declared}\" or \"{registered}\""),
            )),
        }
    })
    .or_many("interaction IDs")
}

/// A user by name or number: its id.
pub(super) fn user() -> Kind<'static, u32> {
    Kind::new("user, by name or number", bare, |given| {
        id(given, "user", "\"deploy\"", "getent passwd", |name| {
            Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()))
        })
    })
    .or_many("names or numbers of users")
}

/// A group by name or number: its id.
pub(super) fn group() -> Kind<'static, u32> {
    Kind::new("group, by name or number", bare, |given| {
        id(given, "group", "\"spinegate\"", "getent group", group_named)
    })
}

/// The id of a group, if there is one of this name.
pub(super) fn group_named(name: &str) -> nix::Result<Option<u32>> {
    Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

fn id(
    given: Given<'_>,
    what: &str,
    example: &str,
    list: &str,
    named: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, Fault> {
    let mend = || format!("write the name or the number of one that `{list}` shows");
    // The last number stands for nobody in the kernel's calls.
    let number = |number: u32| Some(number).filter(|number| *number != u32::MAX);
    if let Some(integer) = given.0.as_integer() {
        let found = u32::try_from(integer).ok().and_then(number);
        return found.ok_or_else(|| Fault::new(format!("{integer} is no {what}'s number"), mend()));
    }
    let text = given.text(example)?;
    if let Some(found) = text.parse().ok().and_then(number) {
        return Ok(found);
    }
    match named(text) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Fault::new(format!("there is no {what} {text:?}"), mend())),
        Err(error) => Err(Fault::new(
            format!("the {what} {text:?} can't be looked up: {error}"),
            mend(),
        )),
    }
}

/// What the kernel takes of a socket's path, in bytes (unix(7), `sun_path`).
const SOCKET_PATH_MAX: usize = 107;

/// A path of a unix socket.
pub(super) fn socket_path(folder: &Path) -> Kind<'_, PathBuf> {
    let one = format!("path of up to {SOCKET_PATH_MAX} bytes");
    let any = path(folder);
    Kind::new(one, quoted_path, move |given| {
        let path = any.read(given)?;
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            let message = format!(
                "the path {} is longer than the {SOCKET_PATH_MAX} bytes that a socket's path may have",
                path.display()
            );
            return Err(Fault::new(
                message,
                "choose a shorter one, as in \"/run/spinegate/control.sock\"",
            ));
        }
        Ok(path)
    })
}
