//! The record locator as the lab starts it: a process.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[test]
fn it_says_where_it_listens_and_ends_at_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Killed(
        locator(&folder)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.strip_prefix("listening on ").unwrap().trim_end();

    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /STU3/DocumentReference/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("NO_RECORD_FOUND"),
        "{answer}"
    );

    kill(
        Pid::from_raw(i32::try_from(child.0.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "SIGTERM does not end it"
        );
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn it_listens_beyond_loopback_only_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let refused = locator(&folder).args(["--listen", "0.0.0.0:0"]).output().unwrap();
    assert_refused(&refused, "--unsafe-beyond-loopback");
}

#[test]
fn a_database_that_can_not_be_opened_is_named_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("pointers.db"),
        "not a database, but a text of some length",
    )
    .unwrap();
    let refused = locator(&folder)
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_refused(&refused, "pointers.db");
    assert_refused(&refused, "see that it is a database, and that its folder exists");
}

fn locator(folder: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_record-locator"));
    command.arg("--database").arg(folder.path().join("pointers.db"));
    command
}

fn assert_refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains(words) && said.lines().count() == 1,
        "{said}"
    );
}

/// A child that doesn't outlive a failed test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
