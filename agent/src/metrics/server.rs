//! The pages over plain HTTP, on the address of `metrics.listen`.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::Pages;

/// Scrapes served at once.
const MAX_CLIENTS: usize = 16;
/// How long a scrape may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

/// Why metrics can't be served.
#[derive(Debug, thiserror::Error)]
#[error("metrics can't be served on {address}: {error}; free the port, or choose another `metrics.listen`")]
pub struct MetricsError {
    address: SocketAddr,
    error: io::Error,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// If the port is in use, or the address is not this host's.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| MetricsError { address, error })?;
        Ok(Self { listener })
    }

    /// Serves on a socket that listens already.
    #[must_use]
    pub const fn on(listener: TcpListener) -> Self {
        Self { listener }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`; waits for scrapes under way.
    pub async fn serve(self, pages: Arc<Pages>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
        let clients = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                        continue;
                    };
                    let pages = Arc::clone(&pages);
                    clients.spawn(async move {
                        client(stream, &pages).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!(%error, "The metrics port accepts no connection.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        clients.close();
        clients.wait().await;
    }
}

async fn client(stream: TcpStream, pages: &Pages) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(pages.answer(&request)) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CLIENT_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CLIENT_LIMIT, connection).await {
        debug!(%error, "A scrape broke off.");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{
        super::{Counters, Exporter, Need, Observed, Readiness},
        *,
    };

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_are_served_at_their_path_and_nowhere_else() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address().unwrap();
        let exporter = Exporter::new(Arc::new(Counters::new()), Observed::default);
        let pages = Arc::new(Pages::new(exporter, || {
            Readiness::of([(Need::Crl, "none".to_owned())])
        }));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(pages, stop.clone()));

        let plain = exchange(address, "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(plain.contains("text/plain; version=0.0.4"), "{plain}");
        assert!(
            plain.contains("# TYPE spinegate_verdicts_issued_total counter\n"),
            "{plain}"
        );
        let asked =
            "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: application/openmetrics-text;version=1.0.0\r\n\r\n";
        let found = exchange(address, asked).await;
        assert!(
            found.starts_with("HTTP/1.1 200 OK\r\n") && found.ends_with("# EOF\n"),
            "{found}"
        );
        assert!(
            found.contains("application/openmetrics-text; version=1.0.0"),
            "{found}"
        );
        let health = exchange(address, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(
            health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nok\n"),
            "{health}"
        );
        let ready = exchange(address, "GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
        assert!(
            ready.ends_with("{\"ready\":false,\"reasons\":[{\"need\":\"crl\",\"message\":\"none\"}]}\n"),
            "{ready}"
        );
        let elsewhere = exchange(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
        let post = exchange(
            address,
            "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
        let garbage = exchange(address, "\x16\x03\x01\r\n\r\n").await;
        assert!(!garbage.contains("200 OK"), "{garbage}");

        stop.cancel();
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_mend() {
        let first = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.address().unwrap();
        let error = Server::bind(address).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("metrics can't be served on {address}: ")),
            "{error}"
        );
        assert!(
            error.ends_with("free the port, or choose another `metrics.listen`"),
            "{error}"
        );
    }
}
