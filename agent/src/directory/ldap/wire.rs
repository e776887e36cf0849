//! LDAP messages (RFC 4511) over a stream: a bind and paged searches, bounded in what they bring.
//!
//! What comes is read by `ldap-parser`; what is sent are three kinds of requests, written here.

use std::io;

use ldap_parser::{
    FromBer as _,
    asn1_rs::{Integer, OctetString, Sequence},
    ldap::{Control, LdapMessage, LdapResult, ProtocolOp, ResultCode},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The control for paged results (RFC 2696).
const PAGED: &[u8] = b"1.2.840.113556.1.4.319";

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const BIND_REQUEST: u8 = 0x60;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const CONTROLS: u8 = 0xa0;
const SIMPLE: u8 = 0x80;
const AND: u8 = 0xa0;
const EQUALITY: u8 = 0xa3;
const GREATER_OR_EQUAL: u8 = 0xa5;

/// What a connection may bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) message_bytes: usize,
    pub(super) all_bytes: u64,
    pub(super) entries: usize,
    pub(super) page: u32,
}

/// Why there is no answer to be had.
#[derive(Debug, thiserror::Error)]
pub(in crate::directory) enum WireError {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("it sends what is not LDAP: {0}")]
    Malformed(&'static str),
    #[error(
        "it sends a message of {bytes} bytes, and {most} is the most; raise `registry.ldap.max_entry_bytes` if that is right"
    )]
    MessageTooLarge { bytes: usize, most: usize },
    #[error("it sends more than {0} bytes; raise `registry.ldap.max_bytes` if that is right")]
    TooMuch(u64),
    #[error("it has more than {0} entries; raise `registry.max_systems` if that is right")]
    TooMany(usize),
    #[error("it sends more entries than a page has")]
    PageOverrun,
    #[error("it refuses the {what}: {code} {said:?}")]
    Refused {
        what: &'static str,
        code: String,
        said: String,
    },
}

/// An entry with the attributes that were asked for. Their names are in lower case: LDAP compares them without case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dn: String,
    pub(crate) attributes: Vec<(String, Vec<String>)>,
}

impl Entry {
    /// The values of an attribute, whose name is given in lower case.
    pub(crate) fn values(&self, name: &str) -> &[String] {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map_or(&[], |(_, values)| values.as_slice())
    }
}

/// Which entries are searched for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'s> {
    pub(super) base: &'s str,
    pub(super) class: &'s str,
    /// Only those that changed at that time or later, in generalized time.
    pub(super) since: Option<&'s str>,
    pub(super) attributes: &'s [&'s str],
}

/// A connection to a server.
pub(super) struct Connection<S> {
    stream: S,
    bounds: Bounds,
    bytes: u64,
    last_id: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) const fn new(stream: S, bounds: Bounds) -> Self {
        Self {
            stream,
            bounds,
            bytes: 0,
            last_id: 0,
        }
    }

    /// Says who asks; an empty name is anonymous.
    pub(super) async fn bind(&mut self, dn: &str, password: &[u8]) -> Result<(), WireError> {
        let operation = tlv(
            BIND_REQUEST,
            &[
                integer(INTEGER, 3),
                tlv(OCTET_STRING, dn.as_bytes()),
                tlv(SIMPLE, password),
            ]
            .concat(),
        );
        let id = self.send(&operation, &[]).await?;
        let message = self.receive().await?;
        match parse(&message, id)?.protocol_op {
            ProtocolOp::BindResponse(response) => succeeded("bind", &response.result),
            _ => Err(WireError::Malformed("another message than the answer to a bind")),
        }
    }

    /// Searches page by page, and hands over each entry.
    pub(super) async fn search(
        &mut self,
        search: Search<'_>,
        mut each: impl FnMut(Entry),
    ) -> Result<(), WireError> {
        let mut cookie = Vec::new();
        let mut entries = 0;
        loop {
            let id = self
                .send(&search.request(), &paged(self.bounds.page, &cookie))
                .await?;
            let mut of_page = 0;
            cookie = loop {
                let message = self.receive().await?;
                let message = parse(&message, id)?;
                match message.protocol_op {
                    ProtocolOp::SearchResultEntry(found) => {
                        (entries, of_page) = (entries + 1, of_page + 1);
                        if entries > self.bounds.entries {
                            return Err(WireError::TooMany(self.bounds.entries));
                        }
                        if of_page > self.bounds.page {
                            return Err(WireError::PageOverrun);
                        }
                        each(entry(&found));
                    }
                    // What another server holds is none of this one's.
                    ProtocolOp::SearchResultReference(_) => {}
                    ProtocolOp::SearchResultDone(result) => {
                        succeeded("search", &result)?;
                        break next_cookie(message.controls.as_deref().unwrap_or_default())?;
                    }
                    _ => return Err(WireError::Malformed("another message than answers to a search")),
                }
            };
            if cookie.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes leave, if the server still listens.
    pub(super) async fn unbind(mut self) {
        let _ = self.send(&tlv(UNBIND_REQUEST, &[]), &[]).await;
        let _ = self.stream.shutdown().await;
    }

    async fn send(&mut self, operation: &[u8], controls: &[u8]) -> Result<u32, WireError> {
        self.last_id += 1;
        let message = [&integer(INTEGER, self.last_id), operation, controls].concat();
        self.stream.write_all(&tlv(SEQUENCE, &message)).await?;
        self.stream.flush().await?;
        Ok(self.last_id)
    }

    /// The next message, of which nothing is kept in memory before its length is known to be in bounds.
    async fn receive(&mut self) -> Result<Vec<u8>, WireError> {
        let mut head = vec![0; 2];
        self.stream.read_exact(&mut head).await?;
        let [tag, first] = *head.as_slice() else {
            return Err(WireError::Malformed("no message"));
        };
        if tag != SEQUENCE {
            return Err(WireError::Malformed("a message that is no sequence"));
        }
        let length = match first {
            0..=0x7f => usize::from(first),
            // RFC 4511 section 5.1: only the definite form.
            0x81..=0x84 => {
                let begin = head.len();
                head.resize(begin + usize::from(first & 0x7f), 0);
                let octets = head.get_mut(begin..).unwrap_or_default();
                self.stream.read_exact(octets).await?;
                octets
                    .iter()
                    .fold(0, |length, octet| length << 8 | usize::from(*octet))
            }
            _ => return Err(WireError::Malformed("a message without a length")),
        };
        if length > self.bounds.message_bytes {
            return Err(WireError::MessageTooLarge {
                bytes: length,
                most: self.bounds.message_bytes,
            });
        }
        self.bytes += (head.len() + length) as u64;
        if self.bytes > self.bounds.all_bytes {
            return Err(WireError::TooMuch(self.bounds.all_bytes));
        }
        let mut message = head;
        let begin = message.len();
        message.resize(begin + length, 0);
        let content = message.get_mut(begin..).unwrap_or_default();
        self.stream.read_exact(content).await?;
        Ok(message)
    }
}

impl Search<'_> {
    fn request(&self) -> Vec<u8> {
        let assertion = |tag, name: &str, value: &str| {
            tlv(
                tag,
                &[
                    tlv(OCTET_STRING, name.as_bytes()),
                    tlv(OCTET_STRING, value.as_bytes()),
                ]
                .concat(),
            )
        };
        let of_class = assertion(EQUALITY, "objectClass", self.class);
        let filter = match self.since {
            None => of_class,
            Some(since) => tlv(
                AND,
                &[of_class, assertion(GREATER_OR_EQUAL, "modifyTimestamp", since)].concat(),
            ),
        };
        let attributes: Vec<u8> = self
            .attributes
            .iter()
            .flat_map(|name| tlv(OCTET_STRING, name.as_bytes()))
            .collect();
        const WHOLE_SUBTREE: u32 = 2;
        const NEVER_DEREFERENCE: u32 = 0;
        tlv(
            SEARCH_REQUEST,
            &[
                tlv(OCTET_STRING, self.base.as_bytes()),
                integer(ENUMERATED, WHOLE_SUBTREE),
                integer(ENUMERATED, NEVER_DEREFERENCE),
                // No limits but those here.
                integer(INTEGER, 0),
                integer(INTEGER, 0),
                tlv(BOOLEAN, &[0]),
                filter,
                tlv(SEQUENCE, &attributes),
            ]
            .concat(),
        )
    }
}

fn paged(size: u32, cookie: &[u8]) -> Vec<u8> {
    let value = tlv(
        SEQUENCE,
        &[integer(INTEGER, size), tlv(OCTET_STRING, cookie)].concat(),
    );
    let control = [
        tlv(OCTET_STRING, PAGED),
        // Critical: a server without it would answer with everything at once, or with a part.
        tlv(BOOLEAN, &[0xff]),
        tlv(OCTET_STRING, &value),
    ];
    tlv(CONTROLS, &tlv(SEQUENCE, &control.concat()))
}

/// A server that does not say how to go on has not paged, though it had to.
fn next_cookie(controls: &[Control<'_>]) -> Result<Vec<u8>, WireError> {
    const MALFORMED: WireError = WireError::Malformed("a page without its cookie");
    let paged = controls
        .iter()
        .find(|control| control.control_type.0.as_bytes() == PAGED);
    let value = paged
        .and_then(|control| control.control_value.as_deref())
        .ok_or(MALFORMED)?;
    let (_, sequence) = Sequence::from_ber(value).map_err(|_| MALFORMED)?;
    let (rest, _size) = Integer::from_ber(&sequence.content).map_err(|_| MALFORMED)?;
    let (_, cookie) = OctetString::from_ber(rest).map_err(|_| MALFORMED)?;
    Ok(cookie.as_ref().to_vec())
}

fn parse(message: &[u8], id: u32) -> Result<LdapMessage<'_>, WireError> {
    let (rest, message) =
        LdapMessage::from_ber(message).map_err(|_| WireError::Malformed("a message that can't be read"))?;
    if !rest.is_empty() {
        return Err(WireError::Malformed("a message with something after its end"));
    }
    if message.message_id.0 != id {
        return Err(WireError::Malformed("an answer to what was not asked"));
    }
    Ok(message)
}

fn succeeded(what: &'static str, result: &LdapResult<'_>) -> Result<(), WireError> {
    if result.result_code == ResultCode::Success {
        return Ok(());
    }
    Err(WireError::Refused {
        what,
        code: format!("{:?}", result.result_code),
        said: result.diagnostic_message.0.chars().take(200).collect(),
    })
}

fn entry(found: &ldap_parser::ldap::SearchResultEntry<'_>) -> Entry {
    let attributes = found.attributes.iter().map(|attribute| {
        let name = attribute.attr_type.0.to_ascii_lowercase();
        let values = attribute.attr_vals.iter();
        // What is no text is not what is asked for, and is refused as a value later.
        let values = values.map(|value| String::from_utf8_lossy(&value.0).into_owned());
        (name, values.collect())
    });
    Entry {
        dn: found.object_name.0.clone().into_owned(),
        attributes: attributes.collect(),
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let significant = length.iter().skip_while(|octet| **octet == 0);
            // Eight octets at most.
            out.push(0x80 | significant.clone().count() as u8);
            out.extend(significant);
        }
    }
    out.extend(content);
    out
}

fn integer(tag: u8, value: u32) -> Vec<u8> {
    let octets = value.to_be_bytes();
    // One octet more than is needed where its first bit would be the sign.
    let mut content: Vec<u8> = octets.into_iter().skip_while(|octet| *octet == 0).collect();
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    tlv(tag, &content)
}

#[cfg(test)]
mod tests;
