//! Every protocol version with every cipher suite that the installed OpenSSL knows (R6, R7): one combination is accepted.

use std::{
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail, ensure};
use spinegate_tests::{
    client::{Client, Handshake, Offer},
    command::Run,
    lab::{self, Lab},
    netns::Host,
    observe::Counts,
    suite::Suite,
    wait::wait_until,
};

const SUITE: &str = "DHE-RSA-AES256-SHA256";
/// TLS 1.3's suites that OpenSSL has; by default it offers the first three alone.
const TLS13: [&str; 5] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
];
const VERSIONS: [&str; 3] = ["-tls1", "-tls1_1", "-tls1_2"];
const AT_ONCE: usize = 4;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    Suite {
        name: "offers",
        edit: lab::open_limits,
        tests: spinegate_tests::tests![
            of_all_versions_and_suites_one_combination_is_accepted_and_the_others_are_counted,
            of_all_numbers_that_a_suite_can_have_one_is_accepted,
        ],
    }
    .run()
}

/// A handshake that OpenSSL's client is asked to make.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    version: &'static str,
    suite: &'static str,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Accepted,
    /// protocol_version
    Version,
    /// handshake_failure
    Suite,
    /// The suite is none of this version, so the client has nothing to offer, and says so in an alert.
    NotOffered,
}

fn of_all_versions_and_suites_one_combination_is_accepted_and_the_others_are_counted(
    lab: &mut Lab,
) -> Result<()> {
    let attempts = attempts()?;
    let count = attempts.len();
    ensure!(count > 400, "OpenSSL knows so few suites: {attempts:?}");
    let before = Counts::read(&lab.agent())?;
    let ended = make_all(&lab.client(Host::Ssp), attempts)?;

    let accepted: Vec<_> = of(&ended, Outcome::Accepted);
    ensure!(
        matches!(accepted.as_slice(), [one] if one.version == "-tls1_2" && one.suite == SUITE),
        "accepted: {accepted:?}"
    );
    for (attempt, outcome) in &ended {
        let right = match (attempt.version, outcome) {
            ("-tls1_2", outcome) => *outcome != Outcome::Version,
            (_, outcome) => matches!(outcome, Outcome::Version | Outcome::NotOffered),
        };
        ensure!(right, "{attempt:?}: {outcome:?}");
    }
    let wanted: Counts = [
        (Counts::ACCEPTED, Outcome::Accepted),
        ("tls_version", Outcome::Version),
        ("no_common_cipher", Outcome::Suite),
        ("handshake_malformed", Outcome::NotOffered),
    ]
    .map(|(name, outcome)| (name, of(&ended, outcome).len() as u64))
    .into_iter()
    .collect();
    println!("{count} combinations: {wanted:?}");
    wait_until(&format!("the counters to be {wanted:?}"), PATIENCE, || {
        Ok(Counts::read(&lab.agent())?.since(&before) == wanted)
    })
}

/// Hellos by hand, since OpenSSL knows few of the 65536 numbers.
fn of_all_numbers_that_a_suite_can_have_one_is_accepted(lab: &mut Lab) -> Result<()> {
    const RIGHT: u16 = 0x006b;
    let client = lab.client(Host::Ssp);
    let numbers: Vec<u16> = (0..=u16::MAX).filter(|number| *number != RIGHT).collect();
    for some in numbers.chunks(16_384) {
        let mark = lab.audit().mark()?;
        client.raw(&hello(some))?;
        let reason = lab.audit().refusal(mark, &client.address())?;
        ensure!(reason == "no_common_cipher", "{:x?}…: {reason}", some.get(..4));
    }
    let answer = client.begin(&hello(&[RIGHT]))?;
    ensure!(answer.first() == Some(&0x16), "the right suite got {answer:x?}");
    Ok(())
}

/// A ClientHello of TLS 1.2 with signatures by RSA and SHA-256 (RFC 5246 section 7.4.1), in records.
fn hello(suites: &[u16]) -> Vec<u8> {
    const SIGNATURE_ALGORITHMS: [u8; 10] = [0, 8, 0, 13, 0, 4, 0, 2, 4, 1];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(((suites.len() * 2) as u16).to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    body.extend(SIGNATURE_ALGORITHMS);
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    message
        .chunks(16_384)
        .flat_map(|part| {
            let mut record = vec![22, 3, 3];
            record.extend((part.len() as u16).to_be_bytes());
            record.extend(part);
            record
        })
        .collect()
}

/// Each suite with each version up to TLS 1.2, and TLS 1.3's own.
fn attempts() -> Result<Vec<Attempt>> {
    let known = Run::new("openssl")
        .args(["ciphers", "ALL:COMPLEMENTOFALL@SECLEVEL=0"])
        .success()?;
    // An attempt's words live as long as the program.
    let known: &'static str = known.trim().to_owned().leak();
    let old = known.split(':').filter(|suite| !suite.starts_with("TLS_"));
    let old = old.flat_map(|suite| VERSIONS.map(|version| Attempt { version, suite }));
    let new = TLS13.map(|suite| Attempt {
        version: "-tls1_3",
        suite,
    });
    Ok(old.chain(new).collect())
}

impl Attempt {
    fn make(self, client: &Client<'_>) -> Result<Outcome> {
        let (option, list) = if self.version == "-tls1_3" {
            ("-ciphersuites", self.suite.to_owned())
        } else {
            ("-cipher", format!("{}:@SECLEVEL=0", self.suite))
        };
        let mut words = vec![self.version, option, list.leak()];
        // Else the client would not offer suites that need them.
        if self.suite.contains("PSK") {
            words.extend(["-psk", "00112233445566778899aabbccddeeff"]);
        }
        if self.suite.starts_with("SRP") {
            words.extend(["-srpuser", "nobody", "-srppass", "pass:nothing"]);
        }
        let handshake = client.handshake(Offer::of(words.leak()))?;
        match &handshake {
            Handshake::Finished(_) => Ok(Outcome::Accepted),
            Handshake::Alert(70) => Ok(Outcome::Version),
            Handshake::Alert(40) => Ok(Outcome::Suite),
            Handshake::Broken(words) if words.contains("no ciphers available") => Ok(Outcome::NotOffered),
            Handshake::Alert(_) | Handshake::Broken(_) => bail!("{self:?}: {handshake}"),
        }
    }
}

fn make_all(client: &Client<'_>, attempts: Vec<Attempt>) -> Result<Vec<(Attempt, Outcome)>> {
    let begun = Instant::now();
    let queue = Mutex::new(attempts);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let worker = || -> Result<Vec<_>> {
        let mut ended = Vec::new();
        while let Some(attempt) = next() {
            ended.push((attempt, attempt.make(client)?));
        }
        Ok(ended)
    };
    let ended = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    println!("made in {:.1} s", begun.elapsed().as_secs_f32());
    Ok(ended.concat())
}

fn of(ended: &[(Attempt, Outcome)], wanted: Outcome) -> Vec<Attempt> {
    ended
        .iter()
        .filter(|(_, outcome)| *outcome == wanted)
        .map(|(attempt, _)| *attempt)
        .collect()
}
