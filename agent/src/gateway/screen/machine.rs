//! The screen itself: a state machine over a client's bytes, which follows requests to their ends and releases those
//! whose heads keep every rule. It knows no clock and no socket.

use super::{
    chunk::Chunks,
    field::Fields,
    hosts::Hosts,
    line::RequestLine,
    rule::{Rule, Violation},
};

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of a head, its last line end among them.
    pub(crate) head: usize,
    /// Header lines.
    pub(crate) headers: usize,
    /// Bytes of a request line.
    pub(crate) request_line: usize,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Screen {
    limits: Limits,
    hosts: Hosts,
    phase: Phase,
    /// The head under way.
    head: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    request: Option<RequestLine>,
    fields: Fields,
    heads: u64,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two requests.
    Between(Blank),
    Head,
    Length(u64),
    Chunked(Chunks),
    Over(Violation),
}

/// The empty line that may stand before a request line (RFC 9112 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blank {
    None,
    Cr,
    Whole,
}

impl Screen {
    /// The beginning of a connection, with requests for any host.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            hosts: Hosts::default(),
            phase: Phase::Between(Blank::None),
            head: Vec::new(),
            line: 0,
            request: None,
            fields: Fields {
                count: 0,
                host: None,
                length: None,
                chunked: false,
                expects: false,
            },
            heads: 0,
        }
    }

    /// The same, with requests for these hosts alone.
    pub(crate) fn for_hosts(self, hosts: Hosts) -> Self {
        Self { hosts, ..self }
    }

    /// Takes bytes from the client, and appends what may be read of them to `released`.
    ///
    /// # Errors
    /// The rule that was broken. It is final: whatever comes later is not read.
    pub(crate) fn feed(&mut self, bytes: &[u8], released: &mut Vec<u8>) -> Result<(), Violation> {
        let fed = self.advance(bytes, released);
        if let Err(violation) = fed {
            self.phase = Phase::Over(violation);
        }
        fed
    }

    /// Gives back the room for heads that an idle connection does not need.
    pub(crate) fn rest(&mut self) {
        self.head.shrink_to_fit();
    }

    /// Whether a head has begun and is not whole.
    pub(crate) fn is_within_head(&self) -> bool {
        matches!(self.phase, Phase::Head | Phase::Between(Blank::Cr | Blank::Whole))
    }

    /// Whether the next byte belongs to a body.
    pub(crate) const fn is_within_body(&self) -> bool {
        matches!(self.phase, Phase::Length(_) | Phase::Chunked(_))
    }

    /// How many bytes of the head under way there are.
    pub(crate) const fn head_length(&self) -> usize {
        self.head.len()
    }

    /// How many heads were released.
    pub(crate) const fn heads(&self) -> u64 {
        self.heads
    }

    /// Method and target of the head under way, once its request line has kept every rule.
    pub(crate) fn request_line(&self) -> Option<(&str, &str)> {
        let request = self.request.as_ref()?;
        let text = |range: &std::ops::Range<usize>| std::str::from_utf8(self.head.get(range.clone())?).ok();
        Some((text(&request.method)?, text(&request.target)?))
    }

    fn advance(&mut self, bytes: &[u8], released: &mut Vec<u8>) -> Result<(), Violation> {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            rest = match &mut self.phase {
                Phase::Over(violation) => return Err(*violation),
                Phase::Length(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let (body, behind) = rest.split_at(length);
                    released.extend_from_slice(body);
                    *left -= length as u64;
                    if *left == 0 {
                        self.phase = Phase::Between(Blank::None);
                    }
                    behind
                }
                Phase::Chunked(chunks) => {
                    let behind = chunks.take(rest, released)?;
                    if *chunks == Chunks::Over {
                        self.phase = Phase::Between(Blank::None);
                    }
                    behind
                }
                Phase::Between(blank) => {
                    match between(*blank, *byte)? {
                        Some(blank) => self.phase = Phase::Between(blank),
                        None => {
                            self.phase = Phase::Head;
                            self.take_head_byte(*byte, released)?;
                        }
                    }
                    behind
                }
                Phase::Head => match rest.split_at(self.plain_run(rest)) {
                    ([], _) => {
                        self.take_head_byte(*byte, released)?;
                        behind
                    }
                    (plain, behind) => {
                        self.head.extend_from_slice(plain);
                        behind
                    }
                },
            };
        }
        Ok(())
    }

    /// How many of the next bytes of a head are plain, and within every limit: what [`Self::take_head_byte`] would keep of
    /// each, and nothing more. Nearly all of a head is, and taken at once costs a tenth.
    fn plain_run(&self, bytes: &[u8]) -> usize {
        let limit = match self.request {
            None => self.limits.head.min(self.limits.request_line),
            Some(_) => self.limits.head,
        };
        if self.head.last() == Some(&b'\r') {
            return 0;
        }
        let room = limit.saturating_sub(self.head.len());
        let within = bytes.get(..room).unwrap_or(bytes);
        let end = within.iter().position(|byte| !is_plain(*byte));
        end.unwrap_or(within.len())
    }

    fn take_head_byte(&mut self, byte: u8, released: &mut Vec<u8>) -> Result<(), Violation> {
        let position = self.head.len();
        let at = |rule, position| Err(Violation::in_head(rule, position));
        if position >= self.limits.head {
            return at(Rule::HeadBytes, position);
        }
        let after_cr = self.head.last() == Some(&b'\r');
        match byte {
            b'\n' if !after_cr => return at(Rule::BareLf, position),
            b'\n' => {}
            _ if after_cr => return at(Rule::BareCr, position - 1),
            b'\r' => {}
            _ if is_plain(byte) => {
                if self.request.is_none() && position >= self.limits.request_line {
                    return at(Rule::RequestLineBytes, position);
                }
            }
            _ => return at(Rule::ControlByte, position),
        }
        self.head.push(byte);
        if byte == b'\n' {
            self.end_line(position - 1)?;
            if let Some(phase) = self.ended(position - 1)? {
                released.extend_from_slice(&self.head);
                self.begin_next(phase);
            } else {
                self.line = position + 1;
            }
        }
        Ok(())
    }

    /// Judges the line that ends before `end`.
    fn end_line(&mut self, end: usize) -> Result<(), Violation> {
        let line = self.head.get(self.line..end).unwrap_or_default();
        let begin = self.line;
        let fault = |(rule, position)| Violation::in_head(rule, begin + position);
        if self.request.is_none() {
            self.request = Some(RequestLine::read(line).map_err(fault)?);
        } else if !line.is_empty() {
            if self.fields.count >= self.limits.headers {
                return Err(fault((Rule::HeaderCount, 0)));
            }
            self.fields.read(line, begin).map_err(fault)?;
        }
        Ok(())
    }

    /// If the line that ends before `end` was the empty one, judges the head as a whole, and tells what follows it.
    fn ended(&self, end: usize) -> Result<Option<Phase>, Violation> {
        let Some(request) = &self.request else {
            return Ok(None);
        };
        if self.line != end {
            return Ok(None);
        }
        let at = |rule| Err(Violation::in_head(rule, end));
        let Some(host) = &self.fields.host else {
            return at(Rule::HostMissing);
        };
        let text = |range: &std::ops::Range<usize>| self.head.get(range.clone()).unwrap_or_default();
        if let Some(authority) = &request.authority
            && !text(authority).eq_ignore_ascii_case(text(host))
        {
            return Err(Violation::in_head(Rule::TargetHost, authority.start));
        }
        if !self.hosts.have(text(host)) {
            return Err(Violation::in_head(Rule::HostUnknown, host.start));
        }
        let phase = match self.fields.length {
            _ if self.fields.chunked => Phase::Chunked(Chunks::BEGIN),
            Some(length) if length > 0 => Phase::Length(length),
            _ => Phase::Between(Blank::None),
        };
        if request.bodiless && phase != Phase::Between(Blank::None) {
            return at(Rule::BodyUnexpected);
        }
        Ok(Some(phase))
    }

    fn begin_next(&mut self, phase: Phase) {
        self.phase = phase;
        self.head.clear();
        self.line = 0;
        self.request = None;
        self.fields = Fields::default();
        self.heads += 1;
    }
}

/// Whether a byte may stand anywhere in a line.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// What a byte between two requests makes of the empty line; none if it begins a head.
fn between(blank: Blank, byte: u8) -> Result<Option<Blank>, Violation> {
    let at_start = |rule| Err(Violation::in_head(rule, 0));
    match (blank, byte) {
        (Blank::None, b'\r') => Ok(Some(Blank::Cr)),
        (Blank::Cr, b'\n') => Ok(Some(Blank::Whole)),
        (Blank::Cr, _) => at_start(Rule::BareCr),
        (Blank::Whole, b'\r') => at_start(Rule::EmptyLines),
        (Blank::None | Blank::Whole, b'\n') => at_start(Rule::BareLf),
        (Blank::None | Blank::Whole, _) => Ok(None),
    }
}
