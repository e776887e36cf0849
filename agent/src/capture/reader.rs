//! Captures of Ethernet frames, in pcap or pcapng, read frame by frame.

use std::{fs::File, io, path::Path, path::PathBuf};

use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError, create_reader,
    traits::{PcapNGPacketBlock as _, PcapReaderIterator},
};

/// The largest block that is read: more than the largest packet with all that a capture may say about it.
const MAX_BLOCK: usize = 1 << 20;
/// A pcap header's link type, without what it says about frame check sequences.
const LINKTYPE_BITS: i32 = 0x03ff_ffff;

/// A frame, or as much of it as was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// The captured bytes.
    pub bytes: Vec<u8>,
    /// The frame's own length in bytes, never less than those.
    pub length: usize,
}

/// Why a capture can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file can't be opened.
    #[error("{path}: {error}; name a readable file, or - for standard input")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is no capture.
    #[error("this is neither pcap nor pcapng; write one with `tcpdump -i eth0 -w FILE`")]
    NoCapture,
    /// Its frames are not Ethernet frames.
    #[error(
        "the capture's link type is {0}, and the filter judges ETHERNET frames; capture on the interface itself, as in `tcpdump -i eth0 -w FILE`"
    )]
    LinkType(Linktype),
    /// It ends in the middle.
    #[error("the capture ends inside a packet; end the program that writes it first")]
    BrokenOff,
    /// It contradicts itself.
    #[error("the capture is damaged after byte {0}; capture anew")]
    Damaged(usize),
    /// The system fails.
    #[error("the capture can't be read on; check the disk or the pipe")]
    Io,
}

/// A capture that is being read. It ends at its first error.
pub struct Reader {
    blocks: Box<dyn PcapReaderIterator + Send>,
    /// The link types of this section's interfaces.
    interfaces: Vec<Linktype>,
    failed: bool,
}

impl Reader {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// If it can't be read, or is no capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        if path == Path::new("-") {
            return Self::new(io::stdin());
        }
        let file = File::open(path).map_err(|error| CaptureError::Open {
            path: path.to_owned(),
            error,
        })?;
        Self::new(file)
    }

    /// Reads a capture.
    ///
    /// # Errors
    /// If it is none.
    pub fn new(source: impl io::Read + Send + 'static) -> Result<Self, CaptureError> {
        let blocks = create_reader(MAX_BLOCK, source).map_err(|error| match error {
            PcapError::ReadError => CaptureError::Io,
            _ => CaptureError::NoCapture,
        })?;
        Ok(Self {
            blocks,
            interfaces: Vec::new(),
            failed: false,
        })
    }

    fn read(&mut self) -> Result<Option<CapturedFrame>, CaptureError> {
        loop {
            let consumed = self.blocks.consumed();
            let (length, found) = match self.blocks.next() {
                Ok((length, block)) => (length, examine(&block, &mut self.interfaces, consumed)),
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::UnexpectedEof) => return Err(CaptureError::BrokenOff),
                Err(PcapError::Incomplete(_)) => {
                    self.refill()?;
                    continue;
                }
                Err(PcapError::ReadError) => return Err(CaptureError::Io),
                Err(_) => return Err(CaptureError::Damaged(consumed)),
            };
            self.blocks.consume(length);
            if let Some(frame) = found? {
                return Ok(Some(frame));
            }
        }
    }

    fn refill(&mut self) -> Result<(), CaptureError> {
        let (consumed, before) = (self.blocks.consumed(), self.blocks.data().len());
        self.blocks.refill().map_err(|_| CaptureError::Io)?;
        // A block that wants more than there is room for would be asked for again and again.
        if self.blocks.data().len() == before && !self.blocks.reader_exhausted() {
            return Err(CaptureError::Damaged(consumed));
        }
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<CapturedFrame, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let frame = self.read().transpose();
        self.failed = !matches!(frame, Some(Ok(_)));
        frame
    }
}

/// The frame in a block, if it is one of those that hold frames.
fn examine(
    block: &PcapBlockOwned<'_>,
    interfaces: &mut Vec<Linktype>,
    consumed: usize,
) -> Result<Option<CapturedFrame>, CaptureError> {
    let (interface, bytes, length) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            interfaces.push(Linktype(header.network.0 & LINKTYPE_BITS));
            return Ok(None);
        }
        PcapBlockOwned::Legacy(packet) => (0, packet.data, packet.origlen),
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            interfaces.push(interface.linktype);
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            (packet.if_id, packet.packet_data(), packet.origlen)
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => (0, packet.packet_data(), packet.origlen),
        PcapBlockOwned::NG(_) => return Ok(None),
    };
    let linktype = usize::try_from(interface)
        .ok()
        .and_then(|interface| interfaces.get(interface));
    match linktype {
        Some(&Linktype::ETHERNET) => Ok(Some(CapturedFrame {
            bytes: bytes.to_vec(),
            length: usize::try_from(length).unwrap_or(usize::MAX).max(bytes.len()),
        })),
        Some(other) => Err(CaptureError::LinkType(*other)),
        None => Err(CaptureError::Damaged(consumed)),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, time::UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::capture::{SampledFrame, Writer};

    /// A pcap file of one packet, of which some bytes may be missing.
    fn pcap(linktype: u32, frame: &[u8], length: u32) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, linktype, 1, 2] {
            file.extend(u32::to_le_bytes(word));
        }
        file.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
        file.extend(length.to_le_bytes());
        file.extend(frame);
        file
    }

    fn pcapng(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file).unwrap();
        for bytes in frames {
            writer
                .write(&SampledFrame {
                    time: UNIX_EPOCH,
                    interface: 1,
                    interface_name: None,
                    length: 100,
                    bytes,
                    comment: "",
                })
                .unwrap();
        }
        file
    }

    fn frames(file: Vec<u8>) -> Result<Vec<CapturedFrame>, CaptureError> {
        Reader::new(Cursor::new(file))?.collect()
    }

    #[test]
    fn both_formats_give_the_captured_bytes_and_the_frames_own_length() {
        let frame = CapturedFrame {
            bytes: vec![1, 2, 3],
            length: 100,
        };
        let twice = [frame.clone(), frame];
        assert_eq!(frames(pcap(1, &[1, 2, 3], 100)).unwrap(), twice[..1]);
        // With what a frame check sequence of four bytes does to the link type.
        assert_eq!(frames(pcap(0x4400_0001, &[1, 2, 3], 100)).unwrap(), twice[..1]);
        assert_eq!(frames(pcapng(&[&[1, 2, 3], &[1, 2, 3]])).unwrap(), twice);
        assert_eq!(frames(pcap(1, &[1, 2, 3], 2)).unwrap()[0].length, 3);
        assert!(frames(pcapng(&[])).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_capture_of_ethernet_frames_is_refused_by_name() {
        let error = frames(pcap(276, &[1], 1)).unwrap_err().to_string();
        assert!(error.contains("LINUX_SLL2"), "{error}");
        assert!(matches!(
            frames(b"PK\x03\x04 no capture at all".to_vec()),
            Err(CaptureError::NoCapture)
        ));
        assert!(matches!(frames(Vec::new()), Err(CaptureError::NoCapture)));
        let mut file = pcap(1, &[1; 60], 60);
        file.truncate(file.len() - 1);
        assert!(matches!(frames(file), Err(CaptureError::BrokenOff)));
        let error = Reader::open(Path::new("/no/such.pcap"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.starts_with("/no/such.pcap: No such file"), "{error}");
    }

    #[test]
    fn a_packet_of_an_interface_that_is_not_described_is_damage() {
        let mut file = pcapng(&[&[1]]);
        let packet = file.len() - 64..file.len();
        let number = file[packet.clone()]
            .windows(4)
            .position(|word| word == 6_u32.to_le_bytes())
            .unwrap();
        file[packet.start + number + 8] = 9;
        assert!(matches!(frames(file), Err(CaptureError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_after_a_header_are_read_without_a_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..300), is_new in any::<bool>(), at in 0_usize..200, byte: u8,
        ) {
            let mut file = if is_new { pcapng(&[&[7; 60]]) } else { pcap(1, &[7; 60], 60) };
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            file.extend(tail);
            let _ = frames(file);
        }
    }
}
