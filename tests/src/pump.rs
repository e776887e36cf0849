//! Clients that send one request after the other while something happens to the agent, and count what they lose.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    client::{Dialer, Line, Message, NHS_NUMBER},
    lab::{CONSUMER, Lab},
    netns::Host,
};

/// A pause between two requests: all of them are to leave the agent some of two cores.
const PAUSE: Duration = Duration::from_millis(5);

/// How a client uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// One for as long as the gateway keeps it.
    Kept,
    /// A new one for each request.
    New,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Requests that were answered with 200.
    pub answered: usize,
    /// Connections that the gateway ended in order, after an answer.
    pub closed: usize,
}

/// Sends searches through the proxy on kept and on new connections while `act` runs; it gets the count of answers so far.
/// Where `gone` says so, a connection that nobody accepts is no loss: the agent is meant to be away.
///
/// # Errors
/// `act` failed, or a single request was not answered with 200.
pub fn while_pumping<T>(
    lab: &mut Lab,
    gone: &AtomicBool,
    act: impl FnOnce(&mut Lab, &AtomicUsize) -> Result<T>,
) -> Result<(T, Pumped)> {
    let (done, answered, closed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let dialer = lab.client(Host::Ssp).dialer()?;
    let (dialer, done, answered, closed) = (&dialer, &done, &answered, &closed);
    thread::scope(|scope| {
        let pumps = [Use::Kept, Use::Kept, Use::New]
            .map(|way| scope.spawn(move || pump(dialer, way, (done, gone), (answered, closed))));
        let acted = act(lab, answered);
        done.store(true, Ordering::Relaxed);
        for pump in pumps {
            pump.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        let pumped = Pumped {
            answered: answered.load(Ordering::Relaxed),
            closed: closed.load(Ordering::Relaxed),
        };
        Ok((acted?, pumped))
    })
}

fn pump(
    dialer: &Dialer,
    way: Use,
    (done, gone): (&AtomicBool, &AtomicBool),
    (answered, closed): (&AtomicUsize, &AtomicUsize),
) -> Result<()> {
    let mut line: Option<Line> = None;
    while !done.load(Ordering::Relaxed) {
        let mut open = match line.take() {
            Some(open) => open,
            None => match dialer.line() {
                Ok(open) => open,
                Err(error) if gone.load(Ordering::Relaxed) && is_refused(&error) => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Err(error) => return Err(error.context(format!("a connection ({way:?}) was lost"))),
            },
        };
        let reply = open
            .ask(&Message::search(NHS_NUMBER).from(&CONSUMER))
            .with_context(|| format!("a request ({way:?}) was lost"))?;
        ensure!(reply.status == 200, "{way:?}: {reply:?}");
        answered.fetch_add(1, Ordering::Relaxed);
        if reply.closes() {
            closed.fetch_add(1, Ordering::Relaxed);
        } else if way == Use::Kept {
            line = Some(open);
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The host answered that nobody listens.
fn is_refused(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
