//! The lab's record locator as a process.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Parser;
use spinegate_tests::locator::{Locator, Store, serve};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// An STU3 record locator with SQLite storage. It enforces no identity or ownership: keep it behind the gateway.
#[derive(Parser)]
#[command(name = "record-locator", version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The SQLite file; made where it does not exist.
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
    /// What URLs in answers begin with, such as https://locator.example.nhs.uk; by default http and the address listened on.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Listen on an address other than loopback, where anyone who reaches it may change every pointer.
    #[arg(long)]
    unsafe_beyond_loopback: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record-locator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.listen.ip().is_loopback() || arguments.unsafe_beyond_loopback,
        "{} is not a loopback address, and this locator asks nobody who they are; listen on 127.0.0.1, or add --unsafe-beyond-loopback",
        arguments.listen
    );
    let store = Store::open(&arguments.database)
        .with_context(|| format!("can't open the database {}", arguments.database.display()))?;
    let listener = TcpListener::bind(arguments.listen).await.with_context(|| {
        format!(
            "can't listen on {}; choose a free address with --listen",
            arguments.listen
        )
    })?;
    let address = listener.local_addr()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let public_url = arguments
        .public_url
        .unwrap_or_else(|| format!("http://{address}"));

    println!("listening on {address}");
    std::io::stdout().flush()?;
    serve(Locator::new(store, &public_url), listener, async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await;
    Ok(())
}
