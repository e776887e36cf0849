//! The one thing that is not asked in HTTP: another agent takes over.

use std::{io, os::fd::AsFd as _, sync::Arc};

use spinegate_common::Reason;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{
    super::{
        Failure, FailureKind, Role,
        access::Caller,
        hand_over::{self, Step},
    },
    CALLER_LIMIT, Hall, Operations, Rebuff, WORK_LIMIT, farewell,
};

/// The longest line that is read.
const MAX_LINE: u64 = 64 << 10;

impl<O: Operations> Hall<O> {
    /// Reads lines, which a successor sends, or a command of an agent before HTTP.
    pub(super) async fn converse(self: &Arc<Self>, stream: UnixStream, caller: &Caller) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let line = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            line = timeout(CALLER_LIMIT, read_line(&mut reader)) => line??,
        };
        let said = match hand_over::read(&line) {
            Ok(Step::HandOver) => match self.role(caller) {
                Some(Role::Own) => return self.succeed(caller, &mut reader, &mut writer).await,
                Some(Role::Read | Role::Write) => {
                    self.operations.rebuffed(caller.peer, &Rebuff::TakeOver);
                    hand_over::answer(&Err(not_the_owner()))
                }
                None => {
                    self.operations.rebuffed(caller.peer, &Rebuff::Stranger);
                    hand_over::answer(&Err(farewell::forbidden()))
                }
            },
            Ok(Step::StandDown) => hand_over::answer(&Err(no_successor())),
            Err(told) => told,
        };
        send(&mut writer, &said).await
    }

    /// Gives a successor what this agent listens on, and stands down when it says so. If it goes away instead, nothing has
    /// happened.
    async fn succeed(
        &self,
        caller: &Caller,
        reader: &mut BufReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        let own = &self.own;
        let Ok(_permit) = own.succession.try_acquire() else {
            return send(writer, &hand_over::answer(&Err(succession_under_way()))).await;
        };
        let estate = match timeout(WORK_LIMIT, self.operations.hand_over(caller.peer)).await {
            Ok(Ok(estate)) => estate,
            Ok(Err(failure)) => return send(writer, &hand_over::answer(&Err(failure))).await,
            Err(_) => return send(writer, &hand_over::answer(&Err(succession_under_way()))).await,
        };
        let given = [own.socket.lock(), own.listener.as_fd()].into_iter();
        let given: Vec<_> = given
            .chain(estate.sockets.iter().map(|socket| socket.as_fd()))
            .collect();
        let line = hand_over::answer(&Ok("these are the sockets".to_owned()));
        hand_over::send(writer.as_ref(), &line, &given).await?;
        // It loads the filter's program now, among other things.
        let line = tokio::select! {
            () = self.stop.cancelled() => {
                // This agent ends of itself: the successor goes on with what it has, the socket's name with it.
                own.socket.leave(true);
                return Ok(());
            }
            line = timeout(WORK_LIMIT, read_line(reader)) => line??,
        };
        if hand_over::read(&line) != Ok(Step::StandDown) {
            return Ok(());
        }
        let said = self.operations.stand_down(caller.peer, estate).await;
        if said.is_ok() {
            own.socket.leave(true);
        }
        send(writer, &hand_over::answer(&said)).await
    }
}

async fn send(writer: &mut OwnedWriteHalf, line: &[u8]) -> io::Result<()> {
    timeout(CALLER_LIMIT, writer.write_all(line)).await?
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line).await?;
    Ok(line)
}

fn not_the_owner() -> Failure {
    Failure::new(
        FailureKind::Forbidden,
        "only root and the agent's own user may take over",
        "run the command as one of them",
    )
    .because(Reason::ControlTakeOver)
}

fn no_successor() -> Failure {
    Failure::new(
        FailureKind::Usage,
        "no sockets were handed over on this connection",
        "use `spinegate run --take-over`",
    )
    .because(Reason::ControlMalformed)
}

fn succession_under_way() -> Failure {
    Failure::new(
        FailureKind::Refused,
        "another agent is taking over, or a change is under way",
        "try again when it is done",
    )
}
