//! The service behind the contestants: one short answer or one long document, at next to no cost.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    thread,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
};

/// The id of the pointer that is the document.
pub(crate) const DOCUMENT: &str = "9876543210";
/// The size of the document.
pub(crate) const MIB: usize = 1 << 20;

const ANSWER: &str = "{\"resourceType\":\"DocumentReference\"}\n";
/// The size of the short answer.
pub(crate) const SHORT: usize = ANSWER.len();
const END: &[u8] = b"\r\n\r\n";

/// A running service; it ends with the process.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
}

/// What it may answer with.
struct Answers {
    short: Vec<u8>,
    document: Vec<u8>,
}

impl Origin {
    pub(crate) fn open() -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let text = "x".repeat(MIB - ANSWER.len());
        let answers: &'static Answers = Box::leak(Box::new(Answers {
            short: answer(ANSWER),
            document: answer(&(text + ANSWER)),
        }));
        thread::spawn(move || {
            runtime.block_on(async {
                while let Ok((stream, _)) = listener.accept().await {
                    // A connection that breaks off is its client's affair.
                    tokio::spawn(async move { drop(serve(stream, answers).await) });
                }
            });
        });
        Ok(Self { address })
    }
}

fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let document = format!("/{DOCUMENT} ").into_bytes();
    let mut head = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
        if head.ends_with(END) {
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let wants_document = line.windows(document.len()).any(|part| part == document);
            head.clear();
            stream
                .write_all(if wants_document {
                    &answers.document
                } else {
                    &answers.short
                })
                .await?;
        }
    }
}
