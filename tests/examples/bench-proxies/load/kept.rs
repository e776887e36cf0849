//! Connections that are kept and all send at the same time, at as little cost as can be: one thread serves them all.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use openssl::ssl::SslStream;
use tokio::{
    io::Interest,
    runtime::{self, Runtime},
    task::JoinSet,
};

use super::{Client, OK};

const END: &[u8] = b"\r\n\r\n";

/// Connections to one server.
pub(crate) struct Kept {
    runtime: Runtime,
    lines: Vec<Line>,
}

struct Line {
    tls: SslStream<TcpStream>,
    /// The same socket, to wait for.
    socket: tokio::net::TcpStream,
    answer: Vec<u8>,
}

impl Kept {
    pub(crate) fn open(client: &Client, server: SocketAddr, count: usize) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let open = |_| {
            let tls = client.connect(server, Ipv4Addr::LOCALHOST)?.0;
            let _entered = runtime.enter();
            tls.get_ref().set_nonblocking(true)?;
            Ok(Line {
                socket: tokio::net::TcpStream::from_std(tls.get_ref().try_clone()?)?,
                tls,
                answer: Vec::new(),
            })
        };
        let lines = (0..count).map(open).collect::<Result<_>>()?;
        Ok(Self { runtime, lines })
    }

    /// Has each connection send the request again and again for a while, the next one when the last is answered. Gives
    /// the number of answers, all of which have a body of this length.
    pub(crate) fn load(&mut self, turn: Duration, request: &str, body: usize) -> Result<u32> {
        let end = Instant::now() + turn;
        self.runtime.block_on(async {
            let mut sending = JoinSet::new();
            for line in self.lines.drain(..) {
                sending.spawn(line.repeat(end, request.to_owned().into_bytes(), body));
            }
            let mut sum = 0;
            while let Some(sent) = sending.join_next().await {
                let (line, count) = sent.context("a connection of the load")??;
                self.lines.push(line);
                sum += count;
            }
            Ok(sum)
        })
    }
}

impl Line {
    async fn repeat(mut self, end: Instant, request: Vec<u8>, body: usize) -> Result<(Self, u32)> {
        let mut count = 0;
        while Instant::now() < end {
            self.send(&request).await?;
            self.receive(body).await?;
            count += 1;
        }
        Ok((self, count))
    }

    async fn send(&mut self, request: &[u8]) -> Result<()> {
        let written = loop {
            let tls = &mut self.tls;
            let sending = || tls.ssl_write(request).map_err(error);
            match self.socket.try_io(Interest::WRITABLE, sending) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.socket.writable().await?,
                written => break written.context("sending")?,
            }
        };
        ensure!(written == request.len(), "a request went out in part");
        Ok(())
    }

    async fn receive(&mut self, body: usize) -> Result<()> {
        self.answer.clear();
        let mut whole = None;
        let mut piece = [0; 16 * 1024];
        while whole.is_none_or(|whole| self.answer.len() < whole) {
            let read = self.read(&mut piece).await?;
            ensure!(read > 0, "the connection ended within an answer");
            self.answer
                .extend_from_slice(piece.get(..read).unwrap_or_default());
            if whole.is_none() {
                let end = self.answer.windows(END.len()).position(|part| part == END);
                whole = end.map(|end| end + END.len() + body);
            }
        }
        ensure!(
            self.answer.starts_with(OK) && whole == Some(self.answer.len()),
            "not the answer that was asked for: {}",
            String::from_utf8_lossy(self.answer.get(..1024).unwrap_or(&self.answer))
        );
        Ok(())
    }

    async fn read(&mut self, piece: &mut [u8]) -> Result<usize> {
        loop {
            let tls = &mut self.tls;
            let receiving = || tls.ssl_read(piece).map_err(error);
            match self.socket.try_io(Interest::READABLE, receiving) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.socket.readable().await?,
                read => return read.context("receiving"),
            }
        }
    }
}

fn error(error: openssl::ssl::Error) -> io::Error {
    error.into_io_error().unwrap_or_else(io::Error::other)
}
