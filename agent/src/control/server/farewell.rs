//! Callers that are not served: they are told so at once, at next to no cost.

use std::{os::fd::AsFd as _, sync::Arc, time::Duration};

use spinegate_common::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Semaphore,
    time::timeout,
};

use super::super::{Failure, FailureKind, Response};

/// Those that are waited for while they send what nobody reads, so that they find the answer and not a broken connection.
const MAX_LINGERING: usize = 64;
/// For how long.
const LINGER: Duration = Duration::from_millis(500);
/// And for how many bytes.
const MOST: usize = 64 << 10;

pub(super) struct Farewell {
    forbidden: Arc<[u8]>,
    busy: Arc<[u8]>,
    lingering: Arc<Semaphore>,
}

impl Farewell {
    pub(super) fn new() -> Self {
        Self {
            forbidden: answer("403 Forbidden", "", forbidden()).into(),
            busy: answer("503 Service Unavailable", "retry-after: 1\r\n", busy()).into(),
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
        }
    }

    /// The caller has no business here.
    pub(super) fn forbid(&self, stream: UnixStream) {
        self.say(stream, &self.forbidden);
    }

    /// There is no place for the caller.
    pub(super) fn turn_away(&self, stream: UnixStream) {
        self.say(stream, &self.busy);
    }

    fn say(&self, mut stream: UnixStream, answer: &Arc<[u8]>) {
        let Ok(place) = Arc::clone(&self.lingering).try_acquire_owned() else {
            // A fresh connection takes this at once, or nobody is there to read it.
            let _ = rustix::net::send(stream.as_fd(), answer, rustix::net::SendFlags::NOSIGNAL);
            return;
        };
        let answer = Arc::clone(answer);
        tokio::spawn(async move {
            let _ = timeout(LINGER, async {
                stream.write_all(&answer).await?;
                stream.shutdown().await?;
                let mut unread = vec![0; 4096];
                let mut read = 0;
                while read < MOST {
                    match stream.read(&mut unread).await? {
                        0 => break,
                        more => read += more,
                    }
                }
                Ok::<_, std::io::Error>(())
            })
            .await;
            drop(place);
        });
    }
}

fn answer(status: &str, headers: &str, failure: Failure) -> Vec<u8> {
    // It has no value that JSON could not hold.
    let body = serde_json::to_string(&Response::Error(failure)).unwrap_or_default() + "\n";
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// To a stranger nothing is said of the agent.
pub(super) fn forbidden() -> Failure {
    Failure::new(
        FailureKind::Forbidden,
        "this user has no role here",
        "run the command as root, or ask whoever runs this host for a role",
    )
    .because(Reason::ControlNoRole)
}

fn busy() -> Failure {
    Failure::new(
        FailureKind::Busy,
        "as many callers as the agent serves at once are connected",
        "try again in a moment",
    )
    .because(Reason::ControlBusy)
}
