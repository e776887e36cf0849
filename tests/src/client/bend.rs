//! A client that is OpenSSL's, but for one message that is bent on its way.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use anyhow::{Result, bail};

use super::Client;
use crate::pki::EDGE_FQDN;

const HANDSHAKE: u8 = 22;
const CERTIFICATE: u8 = 11;
/// A record's header, and then a handshake message's.
const RECORD_HEADER: usize = 5;

impl Client<'_> {
    /// The record with the ClientHello that OpenSSL's client would begin with.
    ///
    /// # Errors
    /// OpenSSL sends none.
    pub fn hello(&self) -> Result<Vec<u8>> {
        let mut sent = Vec::new();
        let began = self
            .connector()?
            .connect(EDGE_FQDN, Overheard(&mut sent))
            .is_err();
        if !began || sent.is_empty() {
            bail!("OpenSSL did not begin a handshake");
        }
        Ok(sent)
    }

    /// Makes a handshake in which the record with the client's Certificate message is bent, and tells whether it was
    /// finished all the same.
    ///
    /// # Errors
    /// The gateway can't be reached, or the client never came to send its certificate.
    pub fn with_bent_certificate(&self, bend: impl FnOnce(&mut Vec<u8>)) -> Result<bool> {
        let mut bent = false;
        let bending = Bending {
            stream: self.bounded()?,
            pending: Vec::new(),
            bend: Some(|record: &mut Vec<u8>| {
                bend(record);
                bent = true;
            }),
        };
        let finished = self.connector()?.connect(EDGE_FQDN, bending).is_ok();
        if !bent {
            bail!("the handshake ended before the client's certificate");
        }
        Ok(finished)
    }
}

/// A connection on which nobody answers.
#[derive(Debug)]
struct Overheard<'s>(&'s mut Vec<u8>);

impl Read for Overheard<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Write for Overheard<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that changes one record of those that the client writes.
struct Bending<B> {
    stream: TcpStream,
    pending: Vec<u8>,
    bend: Option<B>,
}

impl<B> std::fmt::Debug for Bending<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bending")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl<B> Read for Bending<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl<B: FnOnce(&mut Vec<u8>)> Write for Bending<B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend(bytes);
        while let Some(mut record) = take_record(&mut self.pending) {
            let certificate =
                record.first() == Some(&HANDSHAKE) && record.get(RECORD_HEADER) == Some(&CERTIFICATE);
            if let Some(bend) = self.bend.take_if(|_| certificate) {
                bend(&mut record);
            }
            self.stream.write_all(&record)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Takes the first record, if all of it is there.
fn take_record(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = pending
        .get(3..RECORD_HEADER)?
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    (pending.len() >= RECORD_HEADER + length).then(|| pending.drain(..RECORD_HEADER + length).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_whole_and_in_their_order() {
        let mut pending = b"\x16\x03\x03\x00\x02ab\x14\x03\x03\x00\x01".to_vec();
        assert_eq!(take_record(&mut pending).unwrap(), b"\x16\x03\x03\x00\x02ab");
        assert_eq!(take_record(&mut pending), None);
        pending.push(1);
        assert_eq!(take_record(&mut pending).unwrap(), b"\x14\x03\x03\x00\x01\x01");
        assert!(pending.is_empty());
    }
}
