//! A chunked body (RFC 9112 section 7.1), without extensions and without trailers.

use std::io::Write as _;

use super::rule::{Place, Rule, Violation};

/// 4 GiB, which no body of ours reaches.
const MAX_DIGITS: usize = 8;

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line of a size: the size so far, its digits, and whether CR was read.
    Line { size: u64, digits: usize, cr: bool },
    /// In a chunk's data.
    Data { left: u64 },
    /// Behind a chunk's data.
    End { cr: bool },
    /// Behind the last chunk.
    Last { cr: bool },
    /// Behind the body.
    Over,
}

impl Chunks {
    pub(super) const BEGIN: Self = Self::Line {
        size: 0,
        digits: 0,
        cr: false,
    };

    /// Takes bytes, and gives those behind the body's end or behind what it has taken. A line is released once it is
    /// whole, in one spelling of its size; so is the end of the body.
    pub(super) fn take<'b>(
        &mut self,
        bytes: &'b [u8],
        released: &mut Vec<u8>,
    ) -> Result<&'b [u8], Violation> {
        if let Self::Data { left } = self {
            let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            let (data, behind) = bytes.split_at(length);
            released.extend_from_slice(data);
            *left -= length as u64;
            if *left == 0 {
                *self = Self::End { cr: false };
            }
            return Ok(behind);
        }
        let Some((byte, behind)) = bytes.split_first() else {
            return Ok(bytes);
        };
        *self = self.after(*byte, released)?;
        Ok(behind)
    }

    fn after(self, byte: u8, released: &mut Vec<u8>) -> Result<Self, Violation> {
        match (self, byte) {
            (
                Self::Line {
                    size,
                    digits,
                    cr: false,
                },
                byte,
            ) if byte.is_ascii_hexdigit() => {
                if digits >= MAX_DIGITS {
                    return Err(in_line(Rule::ChunkSize, digits));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Ok(Self::Line {
                    size: size * 16 + u64::from(digit),
                    digits: digits + 1,
                    cr: false,
                })
            }
            (
                Self::Line {
                    size,
                    digits: digits @ 1..,
                    cr: false,
                },
                b'\r',
            ) => Ok(Self::Line {
                size,
                digits,
                cr: true,
            }),
            (
                Self::Line {
                    size: 0, cr: true, ..
                },
                b'\n',
            ) => Ok(Self::Last { cr: false }),
            (Self::Line { size, cr: true, .. }, b'\n') => {
                // Writing to a vector can't fail.
                let _ = write!(released, "{size:x}\r\n");
                Ok(Self::Data { left: size })
            }
            (Self::Line { digits, cr: true, .. }, _) => Err(in_line(Rule::BareCr, digits)),
            (
                Self::Line {
                    digits: digits @ 1.., ..
                },
                b';',
            ) => Err(in_line(Rule::ChunkExtension, digits)),
            (
                Self::Line {
                    digits: digits @ 1.., ..
                },
                b'\n',
            ) => Err(in_line(Rule::BareLf, digits)),
            (Self::Line { digits, .. }, _) => Err(in_line(Rule::ChunkSize, digits)),

            (Self::End { cr: false }, b'\r') => Ok(Self::End { cr: true }),
            (Self::End { cr: true }, b'\n') => {
                released.extend_from_slice(b"\r\n");
                Ok(Self::BEGIN)
            }
            (Self::End { cr }, _) => Err(behind(Rule::ChunkEnd, cr)),

            (Self::Last { cr: false }, b'\r') => Ok(Self::Last { cr: true }),
            (Self::Last { cr: true }, b'\n') => {
                released.extend_from_slice(b"0\r\n\r\n");
                Ok(Self::Over)
            }
            (Self::Last { cr: false }, b'\n') => Err(behind(Rule::BareLf, false)),
            (Self::Last { cr: false }, _) => Err(behind(Rule::Trailer, false)),
            (Self::Last { cr: true }, _) => Err(behind(Rule::BareCr, false)),

            (Self::Data { .. } | Self::Over, _) => Ok(self),
        }
    }
}

const fn in_line(rule: Rule, position: usize) -> Violation {
    Violation {
        rule,
        place: Place::ChunkLine,
        position,
    }
}

fn behind(rule: Rule, after_cr: bool) -> Violation {
    Violation {
        rule,
        place: Place::ChunkEnd,
        position: usize::from(after_cr),
    }
}
