//! Answers as HTTP has them.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{Either, Full};
use serde::Serialize;
use spinegate_common::Reason;
use tokio::sync::mpsc;

use super::super::{Failure, FailureKind, Response, wire};

/// One answer, or lines without a certain end.
pub(super) type Answer = http::Response<Either<Full<Bytes>, Lines>>;

/// What the lines come through.
#[derive(Debug)]
pub(super) struct Lines(pub(super) mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// A failure, and with which status.
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) failure: Failure,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self {
            status: failure.kind.status(),
            failure,
        }
    }
}

impl Fault {
    /// What is wrong with how it was asked.
    pub(super) fn usage(status: StatusCode, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            status,
            failure: Failure::new(FailureKind::Usage, message, mend).because(Reason::ControlMalformed),
        }
    }
}

pub(super) fn of(response: Result<Response, Fault>) -> Answer {
    match response {
        Ok(response) => json(StatusCode::OK, &response),
        Err(Fault { status, failure }) => json(status, &Response::Error(failure)),
    }
}

/// A JSON value, with a line end for whoever reads it on a terminal.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // No value here has a key that is not a string, or refuses to be written.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    answer(status, wire::JSON, Either::Left(Full::from(body)))
}

pub(super) fn lines(lines: Lines) -> Answer {
    answer(StatusCode::OK, wire::JSON_LINES, Either::Right(lines))
}

fn answer(status: StatusCode, media_type: HeaderValue, body: Either<Full<Bytes>, Lines>) -> Answer {
    let mut answer = http::Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, media_type);
    answer
}

pub(super) fn line(response: &Response) -> Bytes {
    let mut line = serde_json::to_vec(response).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
