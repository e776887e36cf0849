//! The keeper's process.

use std::{
    io,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
};

use nix::sys::signal::{SigSet, Signal};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use serde::Serialize;

use crate::sandbox;

use super::{
    office::Office,
    orders::Orders,
    protocol::{Call, KeeperError, MAX_ANSWER, MAX_CALL, VERSION},
    wire,
};

/// Serves the worker at the other end of the standard input, until that ends.
///
/// # Errors
/// If there is no worker, or it can't be understood.
pub fn serve(config: &Path) -> io::Result<()> {
    // What stops a service stops the worker, and the keeper ends with that. So does a terminal's ^C.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    // Its file has this name, where a name of its own tells it from the worker.
    rustix::thread::set_name(c"spinegate-keep")?;
    sandbox::enter_keeper().map_err(io::Error::other)?;
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let mut worker = UnixStream::from(stdin);
    let mut office = Office::new(config.to_owned());
    loop {
        if !worker_calls(&worker, office.orders())? {
            continue;
        }
        let Some(call) = wire::receive(&mut worker, MAX_CALL)? else {
            return Ok(());
        };
        match wire::parse(&call) {
            Ok(call) => perform(&mut office, call, &mut worker)?,
            Err(error) => {
                tracing::error!(%error, "the keeper does not understand its worker");
                answer::<()>(&mut worker, &Err(KeeperError::refused(error)))?;
            }
        }
    }
}

/// Waits for the worker, or for an operator, who is heard. Whether the worker has called.
fn worker_calls(worker: &UnixStream, orders: Option<&mut Orders>) -> io::Result<bool> {
    let mut waiting = vec![PollFd::new(worker, PollFlags::IN)];
    waiting.extend(orders.as_deref().map(|orders| PollFd::new(orders, PollFlags::IN)));
    match poll(&mut waiting, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let ready: Vec<bool> = waiting.iter().map(|one| !one.revents().is_empty()).collect();
    // First who announces: what he gives to the worker next is behind it.
    if ready.get(1) == Some(&true)
        && let Some(orders) = orders
    {
        orders.hear();
        return Ok(false);
    }
    Ok(ready.first() == Some(&true))
}

fn perform(office: &mut Office, call: Call, worker: &mut UnixStream) -> io::Result<()> {
    match call {
        Call::Hello { version } => answer(worker, &hello(version)),
        Call::Open { expected } => answer(worker, &office.open(expected)),
        Call::Apply {
            expected,
            trial_until,
        } => answer(worker, &office.apply(expected, trial_until)),
        Call::KeepTrial => {
            office.keep_trial();
            answer(worker, &Ok(()))
        }
        Call::GoBack => answer(worker, &office.go_back()),
        Call::AddSource(entry) => answer(worker, &office.add_source(entry.into())),
        Call::RemoveSource { cidr } => {
            answer(worker, &office.change_sources(|sources| sources.without(cidr)))
        }
        Call::DropEndedSources => {
            let now = std::time::SystemTime::now();
            let ended = office
                .change_sources(|sources| Ok(sources.without_ended(now).unwrap_or_else(|| sources.clone())));
            answer(worker, &ended)
        }
        Call::Attach => answer(worker, &office.attach()),
        Call::Reattach => answer(worker, &office.reattach()),
        Call::Detach => answer(worker, &office.detach()),
        Call::Interfaces => answer(worker, &office.interfaces()),
        Call::Counters => answer(worker, &of(office.filter(), |filter| filter.counters())),
        Call::LostEvents => answer(worker, &of(office.filter(), |filter| filter.lost_events())),
        Call::Passed { entries } => answer(worker, &office.passed(&entries)),
        Call::Judge { source, verdict } => answer(worker, &office.judge(source, verdict)),
        Call::Lift { source } => answer(worker, &of(office.filter_mut(), |filter| filter.lift(source))),
        Call::Verdicts => answer(worker, &office.verdicts()),
        Call::VerdictOn { source } => {
            answer(worker, &of(office.filter(), |filter| filter.verdict_on(source)))
        }
        Call::VerdictsOver { address } => answer(
            worker,
            &of(office.filter(), |filter| filter.verdicts_over(address)),
        ),
        Call::ForgetExpired => answer(worker, &of(office.filter_mut(), |filter| filter.forget_expired())),
        Call::Drops => answer(worker, &office.drops()),
        Call::Explain { frame } => answer(worker, &of(office.filter_mut(), |filter| filter.explain(&frame))),
        Call::Figures => answer(worker, &office.figures()),
    }
}

/// What the filter says, if there is one.
fn of<F, T>(
    filter: Result<F, KeeperError>,
    ask: impl FnOnce(F) -> Result<T, crate::filter::FilterError>,
) -> Result<T, KeeperError> {
    Ok(ask(filter?)?)
}

fn hello(version: u32) -> Result<(), KeeperError> {
    if version == VERSION {
        return Ok(());
    }
    Err(KeeperError::Refused(format!(
        "the worker speaks version {version}, the keeper {VERSION}: the program was replaced while it started; start it again"
    )))
}

fn answer<T: Serialize>(worker: &mut UnixStream, answer: &Result<T, KeeperError>) -> io::Result<()> {
    wire::send(worker, answer, MAX_ANSWER)
}
