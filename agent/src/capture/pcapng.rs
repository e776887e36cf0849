//! Sampled drops as a pcapng capture (draft-ietf-opsawg-pcapng), whole after each of them.
//!
//! Three kinds of blocks are all it takes, and crates that write them bring more code than these do.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use spinegate_common::event::SNAPSHOT;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
/// Direction: inbound.
const INBOUND: u32 = 1;
/// Ten to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// A frame with what was decided about it.
#[derive(Clone, Copy, Debug)]
pub struct SampledFrame<'event> {
    /// When.
    pub time: SystemTime,
    /// The interface's index.
    pub interface: u32,
    /// Its name, if it is known.
    pub interface_name: Option<&'event str>,
    /// The frame's own length in bytes.
    pub length: u32,
    /// Its beginning.
    pub bytes: &'event [u8],
    /// What was decided.
    pub comment: &'event str,
}

/// Writes a capture. Each write reaches the reader at once, so that one that is connected by a pipe sees it live.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// The interfaces described so far, by index; the place is the number that packets name.
    interfaces: Vec<u32>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn new(out: W) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        // The section's length is not known beforehand.
        body.extend((-1_i64).to_le_bytes());
        option(
            &mut body,
            SHB_USERAPPL,
            concat!("spinegate ", env!("CARGO_PKG_VERSION")).as_bytes(),
        );
        option(&mut body, OPT_END, &[]);
        let mut writer = Self {
            out,
            interfaces: Vec::new(),
        };
        writer.block(SECTION_HEADER, &body)?;
        writer.out.flush()?;
        Ok(writer)
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&mut self, frame: &SampledFrame<'_>) -> io::Result<()> {
        let number = match self.interfaces.iter().position(|index| *index == frame.interface) {
            Some(number) => number,
            None => self.describe(frame)?,
        };
        let since = frame.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let mut body = Vec::new();
        body.extend(word(number).to_le_bytes());
        // The more significant half comes first, whatever the byte order.
        body.extend(((nanoseconds >> 32) as u32).to_le_bytes());
        body.extend((nanoseconds as u32).to_le_bytes());
        body.extend(word(frame.bytes.len()).to_le_bytes());
        body.extend(frame.length.to_le_bytes());
        padded(&mut body, frame.bytes);
        option(&mut body, OPT_COMMENT, frame.comment.as_bytes());
        option(&mut body, EPB_FLAGS, &INBOUND.to_le_bytes());
        option(&mut body, OPT_END, &[]);
        self.block(ENHANCED_PACKET, &body)?;
        self.out.flush()
    }

    /// Describes the frame's interface; gives the number that packets name.
    fn describe(&mut self, frame: &SampledFrame<'_>) -> io::Result<usize> {
        let mut body = Vec::new();
        body.extend(LINKTYPE_ETHERNET.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        // libpcap wants the same of all interfaces.
        body.extend(word(SNAPSHOT).to_le_bytes());
        if let Some(name) = frame.interface_name {
            option(&mut body, IF_NAME, name.as_bytes());
        }
        option(&mut body, IF_TSRESOL, &[NANOSECONDS]);
        option(&mut body, OPT_END, &[]);
        self.block(INTERFACE_DESCRIPTION, &body)?;
        self.interfaces.push(frame.interface);
        Ok(self.interfaces.len() - 1)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        // The length counts the block's type, itself, and its repetition at the end.
        let length = word(body.len() + 12).to_le_bytes();
        self.out
            .write_all(&[&kind.to_le_bytes()[..], &length, body, &length].concat())
    }
}

/// An option; one whose value does not fit is left out.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        body.extend(code.to_le_bytes());
        body.extend(length.to_le_bytes());
        padded(body, value);
    }
}

/// Bytes, filled up to a multiple of four.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.extend(std::iter::repeat_n(
        0,
        bytes.len().next_multiple_of(4) - bytes.len(),
    ));
}

/// Nothing written here comes near the limit.
fn word(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_parser::{Block, OptionCode, PcapBlockOwned, PcapNGOption, create_reader};

    use super::*;

    fn text(options: &[PcapNGOption<'_>], code: u16) -> Option<String> {
        let option = options.iter().find(|option| option.code == OptionCode(code))?;
        Some(option.as_str().unwrap().to_owned())
    }

    /// Each block in a line.
    fn read_back(bytes: &[u8]) -> Vec<String> {
        let mut reader = create_reader(1 << 16, bytes).unwrap();
        let mut lines = Vec::new();
        while let Ok((length, block)) = reader.next() {
            lines.push(match block {
                PcapBlockOwned::NG(Block::SectionHeader(header)) => {
                    format!("section {}", text(&header.options, SHB_USERAPPL).unwrap())
                }
                PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => format!(
                    "interface {} {:?} {}",
                    interface.linktype,
                    text(&interface.options, IF_NAME),
                    interface.ts_resolution().unwrap()
                ),
                PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => format!(
                    "packet {} {} {}/{} {:02x?} {}",
                    packet.if_id,
                    u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
                    packet.caplen,
                    packet.origlen,
                    &packet.data[..packet.caplen as usize],
                    text(&packet.options, OPT_COMMENT).unwrap()
                ),
                _ => "other".to_owned(),
            });
            reader.consume(length);
        }
        lines
    }

    #[test]
    fn a_reader_finds_interface_time_lengths_and_comment() {
        let time = UNIX_EPOCH + Duration::new(1_767_225_600, 123_456_789);
        let frame = SampledFrame {
            time,
            interface: 7,
            interface_name: Some("eth0"),
            length: 1514,
            bytes: &[1, 2, 3, 4, 5],
            comment: "drop: verdict_deny, tcp/443",
        };
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.write(&frame).unwrap();
        writer
            .write(&SampledFrame {
                interface: 9,
                interface_name: None,
                bytes: &[],
                ..frame
            })
            .unwrap();
        writer.write(&frame).unwrap();
        let first = "packet 0 1767225600123456789 5/1514 [01, 02, 03, 04, 05] drop: verdict_deny, tcp/443";
        assert_eq!(
            read_back(&writer.out),
            [
                concat!("section spinegate ", env!("CARGO_PKG_VERSION")),
                "interface ETHERNET Some(\"eth0\") 1000000000",
                first,
                "interface ETHERNET None 1000000000",
                "packet 1 1767225600123456789 0/1514 [] drop: verdict_deny, tcp/443",
                first,
            ]
        );
    }

    #[test]
    fn a_capture_without_packets_is_a_capture() {
        let writer = Writer::new(Vec::new()).unwrap();
        assert_eq!(read_back(&writer.out).len(), 1);
    }
}
