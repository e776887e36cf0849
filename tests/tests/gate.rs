//! The gate before TLS and the queue before a handshake's arithmetic, from outside: who is turned away, and who is not.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    client::{Client, Message, NHS_NUMBER, Offer},
    expect::{agreed, serves},
    lab::{self, CONSUMER, Lab},
    netns::Host,
    observe::Counts,
    suite::Suite,
    wait::wait_until,
};
use toml::{Table, Value};

const PATIENCE: Duration = Duration::from_secs(5);
/// Handshakes that the agent's queue holds.
const QUEUE: i64 = 4;

fn main() -> ExitCode {
    Suite {
        name: "gate",
        edit: |table| {
            lab::open_limits(table);
            set(table, "handshake_threads", 1);
            set(table, "handshake_queue", QUEUE);
        },
        tests: spinegate_tests::tests![
            a_source_has_so_many_places_and_its_neighbours_have_theirs,
            when_all_places_are_taken_everybody_is_turned_away_until_one_is_free,
            between_begin_and_full_some_are_turned_away_and_some_are_not,
            a_connection_without_a_hello_loses_its_place_when_its_time_is_over,
            of_more_handshakes_than_the_queue_holds_some_are_refused_and_the_next_is_served,
            a_flood_of_one_source_does_not_cost_another_its_handshake,
        ],
    }
    .run()
}

fn a_source_has_so_many_places_and_its_neighbours_have_theirs(lab: &mut Lab) -> Result<()> {
    const PLACES: usize = 4;
    limit(lab, &[("per_source", PLACES as i64)])?;
    let system = lab.client(Host::System);
    let held = hold(&system, PLACES)?;
    turned_away(lab, &system, "source_unauthenticated_limit")?;
    serves(lab)?;
    ensure!(
        held.iter().all(is_open),
        "a connection that had a place was closed"
    );
    drop(held);
    served_again(&system)
}

fn when_all_places_are_taken_everybody_is_turned_away_until_one_is_free(lab: &mut Lab) -> Result<()> {
    const PLACES: usize = 6;
    limit(lab, &[("begin", PLACES as i64), ("full", PLACES as i64)])?;
    let (proxy, system) = (lab.client(Host::Ssp), lab.client(Host::System));
    let held = hold(&proxy, PLACES)?;
    turned_away(lab, &proxy, "unauthenticated_limit")?;
    turned_away(lab, &system, "unauthenticated_limit")?;
    ensure!(
        held.iter().all(is_open),
        "a connection that had a place was closed"
    );
    drop(held);
    served_again(&proxy)?;
    served_again(&system)
}

fn between_begin_and_full_some_are_turned_away_and_some_are_not(lab: &mut Lab) -> Result<()> {
    const BEGIN: usize = 2;
    // At these chances neither happens to all or none of them, not in the lifetime of this project.
    limit(lab, &[("begin", BEGIN as i64), ("full", 400), ("rate", 50)])?;
    let before = Counts::read(&lab.agent())?;
    let made = hold(&lab.client(Host::Ssp), 60)?;
    let open = made.iter().filter(|stream| is_open(stream)).count();
    ensure!(
        made.iter().take(BEGIN).all(is_open),
        "one was turned away too early"
    );
    ensure!(
        open > BEGIN && open < made.len(),
        "{open} of {} are open",
        made.len()
    );
    let refused = (made.len() - open) as u64;
    wait_until(&format!("{refused} to be counted"), PATIENCE, || {
        Ok(Counts::read(&lab.agent())?
            .since(&before)
            .of("unauthenticated_limit")
            == refused)
    })
}

fn a_connection_without_a_hello_loses_its_place_when_its_time_is_over(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("per_source", 1)])?;
    change(lab, |table| set(table, "handshake_timeout", "500ms"))?;
    let system = lab.client(Host::System);
    let mark = lab.audit().mark()?;
    let mut held = hold(&system, 1)?;
    let reason = lab.audit().refusal(mark, &system.address())?;
    ensure!(reason == "handshake_timeout", "refused for {reason}");
    let held = held.pop().context("no connection is held")?;
    ensure!(!is_open(&held), "its time is over, but it is open");
    served_again(&system)?;
    change(lab, |table| set(table, "handshake_timeout", "5s"))
}

fn of_more_handshakes_than_the_queue_holds_some_are_refused_and_the_next_is_served(
    lab: &mut Lab,
) -> Result<()> {
    limit(lab, &[])?;
    let proxy = lab.client(Host::Ssp);
    let hello = proxy.hello()?;
    let before = Counts::read(&lab.agent())?;
    let mut made = hold(&proxy, 60)?;
    for stream in &mut made {
        stream.write_all(&hello)?;
    }
    let answered = made.iter_mut().filter_map(answers).count();
    let refused = (made.len() - answered) as u64;
    ensure!(
        answered > 0 && refused > 0,
        "{answered} of {} were answered",
        made.len()
    );
    wait_until(&format!("{refused} to be counted"), PATIENCE, || {
        Ok(Counts::read(&lab.agent())?
            .since(&before)
            .of("handshake_queue_full")
            == refused)
    })?;
    drop(made);
    served_again(&proxy)
}

fn a_flood_of_one_source_does_not_cost_another_its_handshake(lab: &mut Lab) -> Result<()> {
    limit(lab, &[])?;
    let (proxy, system) = (lab.client(Host::Ssp), lab.client(Host::System));
    let hello = proxy.hello()?;
    let before = Counts::read(&lab.agent())?;
    let over = AtomicBool::new(false);
    let flood = || -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            let mut made = hold(&proxy, 20)?;
            for stream in &mut made {
                stream.write_all(&hello)?;
            }
            for stream in &mut made {
                answers(stream);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let flood = scope.spawn(flood);
        let served = (0..10).try_for_each(|_| agreed(&system, Offer::RIGHT).map(drop));
        over.store(true, Ordering::Relaxed);
        flood
            .join()
            .map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        served
    })?;
    let shed = Counts::read(&lab.agent())?
        .since(&before)
        .of("handshake_queue_full");
    ensure!(shed > 0, "the flood did not fill the queue");
    Ok(())
}

/// Opens so many connections, and says nothing on them.
fn hold(client: &Client<'_>, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| client.connect()).collect()
}

/// A connection is closed at once, and counted once.
fn turned_away(lab: &Lab, client: &Client<'_>, reason: &str) -> Result<()> {
    let before = Counts::read(&lab.agent())?;
    let stream = client.connect()?;
    wait_until(&format!("{reason} to be counted"), PATIENCE, || {
        Ok(Counts::read(&lab.agent())?.since(&before).of(reason) == 1)
    })?;
    ensure!(
        !is_open(&stream),
        "{reason} was counted, but the connection is open"
    );
    Ok(())
}

/// Places are given back when the gateway has seen that the connections are gone.
fn served_again(client: &Client<'_>) -> Result<()> {
    wait_until("a request to be answered", PATIENCE, || {
        let outcome = client.send(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        Ok(outcome.status() == Some(200))
    })
}

/// Whether the gateway keeps a connection on which nothing has been said.
fn is_open(stream: &TcpStream) -> bool {
    const SHORT: Duration = Duration::from_millis(100);
    let mut stream = stream;
    let read = stream
        .set_read_timeout(Some(SHORT))
        .and_then(|()| stream.read(&mut [0]));
    matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// The first byte of the gateway's answer, if there is one.
fn answers(stream: &mut TcpStream) -> Option<u8> {
    let mut first = [0];
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    matches!(stream.read(&mut first), Ok(1)).then(|| first[0])
}

/// Puts other limits in force: all open, but for these.
fn limit(lab: &Lab, limits: &[(&str, i64)]) -> Result<()> {
    change(lab, |table| {
        lab::open_limits(table);
        if let Some(Value::Table(gate)) = table
            .get_mut("tls")
            .and_then(|tls| tls.get_mut("unauthenticated"))
        {
            gate.extend(
                limits
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), Value::from(*value))),
            );
        }
    })
}

fn change(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    lab.reconfigure(edit)
}

fn set(table: &mut Table, key: &str, value: impl Into<Value>) {
    if let Some(Value::Table(tls)) = table.get_mut("tls") {
        tls.insert(key.to_owned(), value.into());
    }
}
