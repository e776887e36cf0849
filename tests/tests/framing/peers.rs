//! The same streams through nginx and HAProxy, in front of an upstream that keeps what it gets: what an operator would have
//! behind one of them instead.
//!
//! They are asked over plain TCP: both take a request's end from the bytes behind their TLS, and by the same code without it.

mod outcome;
mod page;
mod proxy;

use std::{io::Read, io::Write, net::TcpStream, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use spinegate_tests::{
    lab::Lab,
    netns,
    recorder::{Heard, Recorder},
};

use self::{outcome::Outcome, page::Found, proxy::Proxy};
use crate::{
    cases::{REFUSED, TAKEN},
    pieces::Pieces,
};

/// Longer than any limit of a proxy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a proxy made of all streams, in the order of the cases.
pub(crate) struct Column {
    /// The proxy, with its version.
    pub(crate) name: String,
    /// Of those that the gateway refuses.
    pub(crate) refused: Vec<Outcome>,
    /// Of those that it takes: how many requests reached the upstream.
    pub(crate) taken: Vec<usize>,
}

/// Asks both, and compares with the page. What the gateway does with the same streams is the tests' before.
pub(crate) fn compare(lab: &Lab, test: &str) -> Result<()> {
    let programs = match proxy::programs() {
        Ok(programs) => programs,
        Err(missing) => {
            println!("SKIPPED {test}: {missing}");
            return Ok(());
        }
    };
    let columns = thread::scope(|scope| {
        let columns = programs.each_ref().map(|program| {
            scope.spawn(move || {
                Proxy::start(program, lab)?
                    .column(lab)
                    .context(program.kind.as_str())
            })
        });
        let ended = columns.map(|column| column.join().map_err(|_| anyhow!("a client panicked"))?);
        ended.into_iter().collect::<Result<Vec<_>>>()
    })?;
    Found(columns).compare_with_page()
}

/// Sends every `step`th of the streams that the gateway refuses, each between two sound requests.
fn refused_streams(
    upstream: &Recorder,
    first: usize,
    step: usize,
    ask: impl Fn(&str) -> Result<()>,
) -> Result<Vec<(usize, Outcome)>> {
    let pieces = Pieces::new();
    let cases = REFUSED.iter().flat_map(|class| class.cases).enumerate();
    let mut outcomes = Vec::new();
    for (number, (_, template)) in cases.skip(first).step_by(step) {
        let mark = upstream.mark();
        drop(upstream.all_since(mark)?);
        let stream = pieces.fill(template);
        let whole = [&pieces.read("before"), &*stream, &pieces.last("behind")].concat();
        ask(&whole).with_context(|| format!("{template:?}"))?;
        let (heard, faults) = upstream.all_since(mark)?;
        let sound = |one: &&Heard| !one.target.ends_with("/before") && !one.target.ends_with("/behind");
        ensure!(
            heard.first().is_some_and(|one| one.target.ends_with("/before")),
            "{template:?}: what stands before is not there: {heard:?}"
        );
        let of_stream: Vec<_> = heard.iter().filter(sound).collect();
        outcomes.push((number, Outcome::of(&stream, &of_stream, &faults)));
    }
    Ok(outcomes)
}

/// The same with those that it takes.
fn taken_streams(
    upstream: &Recorder,
    first: usize,
    step: usize,
    ask: impl Fn(&str) -> Result<()>,
) -> Result<Vec<(usize, usize)>> {
    let pieces = Pieces::new();
    let mut counts = Vec::new();
    for (number, (template, _)) in TAKEN.iter().enumerate().skip(first).step_by(step) {
        let mark = upstream.mark();
        ask(&(pieces.fill(template) + &pieces.last("behind")))?;
        let (heard, _) = upstream.all_since(mark)?;
        let of_stream = heard.iter().filter(|one| !one.target.ends_with("/behind"));
        counts.push((number, of_stream.count()));
    }
    Ok(counts)
}

/// Sends a stream over plain TCP, and reads until the other end closes.
fn ask_plainly(namespace: &str, port: u16, stream: &str) -> Result<()> {
    let mut connection = netns::enter(namespace, || Ok(TcpStream::connect(("127.0.0.1", port))?))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    // It may have refused, and closed, before all of it was written.
    let _ = connection.write_all(stream.as_bytes());
    match connection.read_to_end(&mut Vec::new()) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Err(error).context("the proxy keeps the connection")
        }
        _ => Ok(()),
    }
}
