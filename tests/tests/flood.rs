//! Floods of DHE handshakes (CVE-2002-20001) by DHEater, from one source and from many: good clients go on being served.
//!
//! Strikes lead to no verdict here, or the floods would end before they begin; only the last test leaves them on.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use spinegate_tests::{
    client::{Message, NHS_NUMBER},
    command::Run,
    lab::{self, Background, CONSUMER, Lab},
    netns::{CROWD, Family, Host},
    observe::Counts,
    suite::Suite,
    tools,
    wait::{wait_for, wait_until},
};
use toml::{Table, Value};

/// Sources of the flood of many.
const MANY: u8 = 6;
const GOOD_REQUESTS: usize = 15;
/// The default of `tls.handshake_timeout`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// DHEater first looks at what the gateway offers.
const PATIENCE: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    Suite {
        name: "flood",
        edit: |table| {
            set_thresholds(table, 1_000_000);
            let filter = lab::filter(table);
            let (address, length) = CROWD;
            if let Some(Value::Array(sources)) = filter.get_mut("source") {
                let entry = [
                    ("cidr", format!("{address}/{length}")),
                    ("name", "crowd".to_owned()),
                ];
                sources
                    .push(Table::from_iter(entry.map(|(key, value)| (key.to_owned(), value.into()))).into());
            }
        },
        tests: spinegate_tests::tests![
            in_a_flood_from_one_source_good_clients_are_served,
            in_a_flood_from_one_source_without_a_handshake_budget_good_clients_are_served,
            in_a_flood_from_many_sources_without_a_handshake_budget_good_clients_are_served,
            a_source_that_floods_earns_a_verdict_and_is_dropped_in_the_kernel,
        ],
    }
    .run()
}

fn in_a_flood_from_one_source_good_clients_are_served(lab: &mut Lab) -> Result<()> {
    let system = lab.network().namespace(Host::System);
    served_during(lab, &[(system, 16)], 20)
}

fn in_a_flood_from_one_source_without_a_handshake_budget_good_clients_are_served(
    lab: &mut Lab,
) -> Result<()> {
    budget(lab, 1_000_000)?;
    let system = lab.network().namespace(Host::System);
    served_during(lab, &[(system, 32)], 200)
}

fn in_a_flood_from_many_sources_without_a_handshake_budget_good_clients_are_served(
    lab: &mut Lab,
) -> Result<()> {
    budget(lab, 1_000_000)?;
    let many = (1..=MANY).map(|number| Ok((lab.network().join(number)?, 4)));
    let many = many.collect::<Result<Vec<_>>>()?;
    served_during(lab, &many, 200)
}

fn a_source_that_floods_earns_a_verdict_and_is_dropped_in_the_kernel(lab: &mut Lab) -> Result<()> {
    let system = lab.client(Host::System).address();
    let drops = lab.agent().drops("verdict_deny")?;
    lab.reconfigure(|table| set_thresholds(table, 10))?;
    let flood = flood(lab, &lab.network().namespace(Host::System), 0, 8)?;
    let judged = wait_until("a deny verdict on the source", PATIENCE, || {
        Ok(lab.agent().verdict_on(&system)?.is_some() && lab.agent().drops("verdict_deny")? > drops)
    })
    .and_then(|()| served(lab));
    flood.kill()?;
    judged
}

/// Floods from namespaces, each with so many threads, until so many handshakes were abandoned or turned away; then every
/// good request must be answered, while the flood goes on.
fn served_during(lab: &Lab, sources: &[(String, usize)], enough: u64) -> Result<()> {
    let before = Counts::read(&lab.agent())?;
    let mut floods = Vec::new();
    let mut judge = || -> Result<()> {
        for (number, (namespace, threads)) in sources.iter().enumerate() {
            floods.push(flood(lab, namespace, number, *threads)?);
        }
        let harm = || -> Result<u64> {
            let counts = Counts::read(&lab.agent())?.since(&before);
            Ok(counts.of("handshake_abandoned") + counts.of("source_unauthenticated_limit"))
        };
        wait_until("the flood", PATIENCE, || Ok(harm()? >= enough))?;
        let begun = harm()?;
        // However quick the requests are: until some of the flood has come meanwhile.
        let end = wait_for("the flood to go on", PATIENCE, || {
            served(lab)?;
            let now = harm()?;
            Ok((now > begun).then_some(now))
        })?;
        println!(
            "{} handshakes abandoned or turned away, {} of them meanwhile",
            end,
            end - begun
        );
        Ok(())
    };
    let judged = judge();
    for flood in floods {
        flood.kill()?;
    }
    judged
}

/// Every good request is answered, and none waits longer than a handshake may.
fn served(lab: &Lab) -> Result<()> {
    let client = lab.client(Host::Ssp).patient();
    for number in 0..GOOD_REQUESTS {
        let begun = Instant::now();
        let answer = client.answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        ensure!(answer.status == 200, "request {number}: {answer}");
        let took = begun.elapsed();
        ensure!(took < HANDSHAKE_TIMEOUT, "request {number} took {took:?}");
    }
    Ok(())
}

fn flood(lab: &Lab, namespace: &str, number: usize, threads: usize) -> Result<Background> {
    let run = Run::inside(namespace, tools::program("dheat")?)
        .args(["--protocol", "tls", "--thread-num", &threads.to_string()])
        .arg(lab.gateway(Family::V4).to_string());
    Background::start(&format!("flood-{number}"), &run, lab.files())
}

/// Connections a second, and at once, that the filter lets through for a source that has not authenticated.
fn budget(lab: &Lab, connections: i64) -> Result<()> {
    lab.reconfigure(|table| {
        let keys = ["untrusted_per_second", "untrusted_burst"];
        let budget = keys.map(|key| (key.to_owned(), Value::from(connections)));
        lab::filter(table).insert("handshake".to_owned(), Table::from_iter(budget).into());
    })
}

fn set_thresholds(table: &mut Table, strikes: i64) {
    if let Some(Value::Table(verdict)) = table.get_mut("verdict") {
        for key in ["system_threshold", "proxy_threshold"] {
            verdict.insert(key.to_owned(), strikes.into());
        }
    }
}
