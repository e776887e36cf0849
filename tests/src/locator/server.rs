//! The locator on a socket: HTTP/1.1, one task a connection, the database on threads that may block.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    answer::{self, Answer, Refusal},
    interaction,
    store::Store,
    xml,
};

/// The largest body, in bytes.
const MAX_BODY: usize = 5 * 1024 * 1024;
/// How long requests under way may take after the order to stop.
const DRAIN: Duration = Duration::from_secs(2);
/// The wait after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A record locator: a store, and the URL under which its clients know it.
#[derive(Clone)]
pub struct Locator {
    store: Arc<Store>,
    public_url: Arc<str>,
}

impl Locator {
    /// A locator over a store. `public_url` is the scheme and authority that `Location` and other URLs begin with,
    /// such as `https://locator.example.nhs.uk`, without a slash at its end.
    #[must_use]
    pub fn new(store: Store, public_url: &str) -> Self {
        Self {
            store: Arc::new(store),
            public_url: Arc::from(public_url.trim_end_matches('/')),
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Ok(Refusal::TooLarge.answer()),
            Err(_) => return Ok(Refusal::InvalidMessage.answer()),
        };
        let (request, wants_xml) = match xml::taken(Request::from_parts(head, body)) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(refusal.answer()),
        };
        let answered = tokio::task::spawn_blocking(move || self.perform(&request)).await;
        let answer = answered.unwrap_or_else(|_| answer::internal_error());
        Ok(if wants_xml {
            xml::given(answer).await
        } else {
            answer
        })
    }

    fn perform(&self, request: &Request<Bytes>) -> Answer {
        interaction::answer(&self.store, &self.public_url, request, SystemTime::now())
    }
}

/// Serves connections until `stop` is ready, then lets requests under way finish, for two seconds at most.
pub async fn serve(locator: Locator, listener: TcpListener, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(locator.clone(), stream, stopped.clone()));
                }
                Err(error) => {
                    eprintln!("record-locator: a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(locator: Locator, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request| locator.clone().answer(request));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // What breaks here is the client's connection, and the client knows.
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
