//! Packets outside the kernel: written by hand, read from captures, and written to them.

mod crafted;
mod pcapng;
mod reader;
mod trial;

pub use crafted::{CraftedPacket, PacketError};
pub use pcapng::{SampledFrame, Writer};
pub use reader::{CaptureError, CapturedFrame, Reader};
pub use trial::Trial;
