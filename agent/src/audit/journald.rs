//! The record in systemd's journal: an entry a line, by the journal's native protocol.
//!
//! The journal takes an entry into its memory and says nothing back: what it has taken is on the disk some time later, so that
//! there is no waiting for that. An entry that it does not take in time is a failure, as one is that the disk does not take.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    },
};

use super::{Decision, Record};

const SOCKET: &str = "/run/systemd/journal/socket";
/// What journald has to take an entry in: a decision waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The journal's socket.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Looks whether somebody listens there.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// Writes a record, with the line that says all of it. `number` is that of the line in the file, if it stands there too.
    pub(super) fn write(&self, record: &Record, line: &[u8], number: Option<u64>) -> io::Result<()> {
        let entry = entry(record, line, number)?;
        // By its path each time: journald may have begun anew.
        match self.socket.send_to(&entry, &self.path) {
            Ok(_) => Ok(()),
            Err(error) if too_large(&error) => self.send_by_descriptor(&entry),
            Err(error) => Err(error),
        }
    }

    /// What is too large for a datagram goes as a sealed file in memory.
    fn send_by_descriptor(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
        let mut file = File::from(memfd_create(c"spinegate-audit", flags)?);
        file.write_all(entry)?;
        let seals =
            SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
        let descriptors = [file.as_raw_fd()];
        let address = UnixAddr::new(&self.path)?;
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&[])],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::empty(),
            Some(&address),
        )?;
        Ok(())
    }
}

fn too_large(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMSGSIZE | Errno::ENOBUFS))
}

/// `NAME=value` a line. There is no end of a line in a value: JSON escapes it, and the others are words of ours.
fn entry(record: &Record, line: &[u8], number: Option<u64>) -> io::Result<Vec<u8>> {
    if line.contains(&b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the record has more than one line",
        ));
    }
    let priority = match record.decision {
        // notice and info of syslog(3)
        Decision::Refuse => "5",
        _ => "6",
    };
    let mut entry = Vec::with_capacity(line.len() + 256);
    let mut field = |name: &str, value: &[u8]| {
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'=');
        entry.extend_from_slice(value);
        entry.push(b'\n');
    };
    field("SYSLOG_IDENTIFIER", b"spinegate-audit");
    field("PRIORITY", priority.as_bytes());
    field("SPINEGATE_DECISION_ID", record.decision_id.to_string().as_bytes());
    if let Some(reason) = record.reason {
        field("SPINEGATE_REASON", reason.as_str().as_bytes());
    }
    if let Some(number) = number {
        field("SPINEGATE_SEQ", number.to_string().as_bytes());
    }
    field("MESSAGE", line);
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSliceMut, Read as _, Seek as _},
        os::fd::{FromRawFd as _, OwnedFd},
        time::SystemTime,
    };

    use nix::{
        cmsg_space,
        sys::socket::{ControlMessageOwned, recvmsg},
    };
    use spinegate_common::Reason;

    use super::*;
    use crate::audit::Event;

    fn refusal() -> Record {
        let mut record = Record::new(SystemTime::now(), Event::Request, Decision::Refuse);
        record.refuse(Reason::NotOwner);
        record
    }

    #[test]
    fn an_entry_has_the_line_and_what_it_is_looked_up_by() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let record = refusal();
        let journal = Journal::at(&path).unwrap();
        journal.write(&record, b"{\"a\":1}", Some(7)).unwrap();
        let mut bytes = [0; 4096];
        let length = receiver.recv(&mut bytes).unwrap();
        let text = str::from_utf8(&bytes[..length]).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let id = format!("SPINEGATE_DECISION_ID={}", record.decision_id);
        assert_eq!(
            lines,
            [
                "SYSLOG_IDENTIFIER=spinegate-audit",
                "PRIORITY=5",
                &id,
                "SPINEGATE_REASON=not_owner",
                "SPINEGATE_SEQ=7",
                "MESSAGE={\"a\":1}",
            ]
        );
        assert!(journal.write(&record, b"{}\nPRIORITY=0", None).is_err());
    }

    #[test]
    fn a_large_entry_goes_as_a_sealed_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let line = vec![b'x'; 4 << 20];
        Journal::at(&path)
            .unwrap()
            .write(&refusal(), &line, None)
            .unwrap();
        let mut space = cmsg_space!([i32; 1]);
        let mut bytes = [0; 16];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg::<()>(
            receiver.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        )
        .unwrap();
        assert_eq!(got.bytes, 0);
        let mut descriptors = got.cmsgs().unwrap().filter_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        let descriptor = descriptors.next().unwrap();
        // SAFETY: the kernel has just made it for this process, and nobody else knows of it.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        let seals = fcntl(file.as_fd(), FcntlArg::F_GET_SEALS).unwrap();
        assert!(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE));
        let mut text = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        assert!(text.ends_with(b"x\n") && text.len() > line.len());
    }

    #[test]
    fn a_journal_that_takes_nothing_is_a_failure_and_not_a_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Journal::at(&path).is_err());
        let _receiver = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let failed = (0..10_000).find_map(|_| journal.write(&refusal(), b"{\"a\":1}", None).err());
        assert_eq!(failed.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
