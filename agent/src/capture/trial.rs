//! What of a captured frame the filter can be asked about.

use spinegate_common::{
    Reason,
    event::Captured,
    packet::{self, Packet},
};

use super::CapturedFrame;

/// The longest frame that is made up: a call to the agent has to hold it.
const MAX_FRAME: usize = 32 << 10;

/// A captured frame as it is put to the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It was captured whole.
    Whole(Vec<u8>),
    /// Its headers were. What is missing is filled up with zeros: the filter looks at lengths and headers alone.
    Filled(Vec<u8>),
    /// Not even its headers were, so the filter would judge another packet.
    HeadersCut,
    /// It is longer than a call may be.
    TooLong,
}

impl Trial {
    /// What can be asked about a frame.
    #[must_use]
    pub fn of(frame: &CapturedFrame) -> Self {
        if frame.length > MAX_FRAME {
            return Self::TooLong;
        }
        if frame.length == frame.bytes.len() {
            return Self::Whole(frame.bytes.clone());
        }
        let mut filled = frame.bytes.clone();
        filled.resize(frame.length, 0);
        let captured = Captured {
            bytes: &frame.bytes,
            length: frame.length,
        };
        let (mut seen, mut made_up) = (Packet::default(), Packet::default());
        let (first, second) = (
            packet::parse(&captured, &mut seen),
            packet::parse(&filled.as_slice(), &mut made_up),
        );
        // The parser reached for a byte that was not captured: zeros there would be read as a header.
        let is_cut = first == Err(Reason::PacketTruncated) && (first != second || seen != made_up);
        if is_cut {
            Self::HeadersCut
        } else {
            Self::Filled(filled)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CraftedPacket;

    /// A TCP packet with a payload, cut to a number of bytes.
    fn cut(payload: usize, captured: usize) -> CapturedFrame {
        let mut bytes = "tcp 192.0.2.7 > 443".parse::<CraftedPacket>().unwrap().frame();
        bytes.resize(bytes.len() + payload, 7);
        let length = bytes.len();
        bytes[16..18].copy_from_slice(&u16::try_from(length - 14).unwrap().to_be_bytes());
        bytes.truncate(captured);
        CapturedFrame { bytes, length }
    }

    #[test]
    fn a_payload_that_was_cut_off_is_filled_up_and_a_header_is_not() {
        assert!(matches!(Trial::of(&cut(10, 64)), Trial::Whole(_)));
        match Trial::of(&cut(1000, 54)) {
            Trial::Filled(frame) => {
                assert_eq!((frame.len(), frame[53], frame[54]), (1054, 0, 0));
            }
            other => panic!("{other:?}"),
        }
        for captured in 0..54 {
            let trial = Trial::of(&cut(1000, captured));
            // The last header fields are none that the filter reads.
            assert!(
                trial == Trial::HeadersCut || captured >= 48 && matches!(trial, Trial::Filled(_)),
                "{captured}: {trial:?}"
            );
        }
        assert_eq!(Trial::of(&cut(40_000, 54)), Trial::TooLong);
    }
}
