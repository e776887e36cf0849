//! How calls and answers go over the socket pair: a length, and that much JSON.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

pub(super) fn send(stream: &mut impl Write, message: &impl Serialize, limit: u32) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if length > limit {
        return Err(io::Error::other(format!(
            "a message of {length} bytes is longer than {limit}"
        )));
    }
    for (place, byte) in bytes.iter_mut().zip(length.to_le_bytes()) {
        *place = byte;
    }
    stream.write_all(&bytes)
}

/// The next message; none at the end.
pub(super) fn receive(stream: &mut impl Read, limit: u32) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut first = 0;
    while first == 0 {
        first = match stream.read(&mut length) {
            Ok(0) => return Ok(None),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
    }
    stream.read_exact(length.get_mut(first..).unwrap_or_default())?;
    let length = u32::from_le_bytes(length);
    if length > limit {
        return Err(io::Error::other(format!(
            "a message of {length} bytes is longer than {limit}"
        )));
    }
    let mut bytes = Vec::new();
    if stream.take(u64::from(length)).read_to_end(&mut bytes)? < usize::try_from(length).unwrap_or(usize::MAX)
    {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_what_is_too_long_or_cut_off_is_not() {
        let mut line = Vec::new();
        send(&mut line, &["a", "b"], 100).unwrap();
        assert_eq!(
            receive(&mut line.as_slice(), 100).unwrap().unwrap(),
            br#"["a","b"]"#
        );
        assert!(receive(&mut &line[..0], 100).unwrap().is_none());
        for cut in [1, 4, line.len() - 1] {
            assert!(receive(&mut &line[..cut], 100).is_err(), "{cut}");
        }
        assert!(receive(&mut line.as_slice(), 8).is_err());
        assert!(send(&mut Vec::new(), &["a", "b"], 8).is_err());
    }
}
