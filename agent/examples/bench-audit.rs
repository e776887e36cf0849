//! What the audit log takes: decisions a second, with lines that the kernel has and with lines that the disk has.
//!
//! `bench-audit FOLDER [--json]`. The folder says which disk is measured.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use spinegate::{
    audit::{Certificate, Decision, Event, Log, Record, Request, Verifier, VerifyingKey, public_half},
    config::{Audit, AuditOutput, Durability, OnFailure},
};

/// Requests that are under way at once.
const AT_ONCE: usize = 64;
const TIME: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let folder = PathBuf::from(
        arguments
            .next()
            .context("name a folder on the disk to be measured")?,
    );
    let json = arguments.next().is_some_and(|argument| argument == "--json");
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rates = [
        (Durability::Buffered, Vec::new()),
        (Durability::Fsync, Vec::new()),
    ];
    for _ in 0..ROUNDS {
        for (durability, rates) in &mut rates {
            rates.push(runtime.block_on(rate(&folder, *durability))?);
        }
    }
    let [buffered, fsync] = rates.map(|(_, mut rates)| {
        rates.sort_unstable();
        rates.get(ROUNDS / 2).copied().unwrap_or_default()
    });
    if json {
        println!("{{\"decisions_per_s_buffered\": {buffered}, \"decisions_per_s_fsync\": {fsync}}}");
    } else {
        println!("decisions a second, with {AT_ONCE} at once, the median of {ROUNDS} runs of {TIME:?} each");
        println!("buffered  {buffered}\nfsync     {fsync}");
    }
    Ok(())
}

/// Decisions a second. The log that was written is verified afterwards.
async fn rate(folder: &Path, durability: Durability) -> Result<u64> {
    let folder = folder.join(format!("audit-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(&folder, durability).await;
    fs::remove_dir_all(&folder)?;
    measured
}

async fn measure(folder: &Path, durability: Durability) -> Result<u64> {
    let file = folder.join("audit.jsonl");
    let config = Audit {
        key: folder.join("audit.key"),
        file: file.clone(),
        output: AuditOutput::File,
        checkpoint_interval: Duration::from_secs(1),
        durability,
        timeout: Duration::from_secs(5),
        on_failure: OnFailure::Refuse,
        mask: true,
    };
    let log = Arc::new(Log::open(&config)?);
    let (written, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (log, written, over) = (Arc::clone(&log), Arc::clone(&written), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    log.commit(&decision()).await?;
                    written.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    tokio::time::sleep(TIME).await;
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let (count, time) = (written.load(Ordering::Relaxed), begun.elapsed());
    log.checkpoint()?;
    let mut verifier = Verifier::new(Some(VerifyingKey::load(&public_half(&config.key))?));
    verifier.read("audit.jsonl", std::io::BufReader::new(fs::File::open(&file)?))?;
    let found = verifier.finish(None);
    ensure!(
        found.faults.is_empty() && found.lines >= count,
        "the log is not sound: {found:?}"
    );
    Ok((count as f64 / time.as_secs_f64()) as u64)
}

/// A read that was allowed, with all that such a line has.
fn decision() -> Record {
    let mut record = Record::new(SystemTime::now(), Event::Request, Decision::Allow);
    record.peer = Some(([192, 0, 2, 7], 40000).into());
    record.certificate = Some(Arc::new(Certificate {
        fqdn: Some("ssp.example.nhs.uk".to_owned()),
        subject: "CN=ssp.example.nhs.uk, OU=Devices, O=nhs".to_owned(),
        issuer: "CN=NHS INT Authentication G2, OU=CA, O=nhs, C=GB".to_owned(),
        serial: "5a3b1c0d9e8f7a6b".to_owned(),
        sha256: "0123456789abcdef".repeat(4),
        not_after: "2027-01-01T00:00:00Z".to_owned(),
        ..Certificate::default()
    }));
    let mut request = Request::new(
        record.decision_id.to_string(),
        "GET",
        "/STU3/DocumentReference/da2b6e8a-3c8f-11e8-baae-6c3be5a609f5-584d385036514c383142",
    );
    request.interaction = Some("urn:nhs:names:services:nrl:DocumentReference.read".to_owned());
    request.asid = Some("200000000101".to_owned());
    request.ods = Some("RR8".to_owned());
    request.status = Some(200);
    record.request = Some(Arc::new(request));
    record.duration = Some(Duration::from_millis(3));
    record
}
