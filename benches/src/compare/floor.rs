//! The floors: the cost of the system operations that a lock manager needs.
//!
//! The floor is one round trip over a Unix socket, from a blocking client to an echo on tokio's current-thread
//! runtime. The relay floor is one message from one blocking client to another through such a server: the least cost
//! of a contended lock's handoff. The messages are as long as a short frame. A bare process is this executable,
//! which only reports that it has started. This file does not use lockkeeper.

use crate::contest::{Executable, Side};
use crate::party::{self, Failure, Orders, Party};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

// The roles of the floors' parties, as the argument that starts each.
pub(crate) const ECHO: &str = "floor-echo";
pub(crate) const ASKER: &str = "floor-asker";
pub(crate) const RELAY: &str = "relay";
pub(crate) const MIRROR: &str = "relay-mirror";
pub(crate) const STARTER: &str = "relay-starter";
pub(crate) const SPAWNER: &str = "bare-spawner";
pub(crate) const BARE: &str = "bare";

/// The cycle of a starter that reports the median of its handoffs. With any other cycle it reports
/// their number.
pub(crate) const MEDIAN: &str = "median";

pub(crate) const FLOOR: Side = Side {
    name: "floor",
    hosts: &[ECHO],
    worker: ASKER,
    ..NOTHING
};

/// Only the starter counts. The mirror sends each message back.
pub(crate) const RELAY_FLOOR: Side = Side {
    name: "relay floor",
    hosts: &[RELAY, MIRROR],
    worker: STARTER,
    ..NOTHING
};

pub(crate) const BARE_PROCESS: Side = Side {
    name: "bare process",
    worker: SPAWNER,
    patience: Duration::from_secs(5),
    ..NOTHING
};

/// The default values of a floor's side.
pub(crate) const NOTHING: Side = Side {
    name: "",
    needs: &[],
    executable: Executable::Own,
    hosts: &[],
    worker: "",
    patience: Duration::ZERO,
};

/// A message of about the length of an acquire's frame.
pub(crate) const MESSAGE: [u8; 16] = [7; 16];

/// The size of a server's read buffer: more than is ever in flight, as in a real server.
pub(crate) const CHUNK: usize = 4096;

/// Sends each client's messages back to it, until the bench ends.
pub(crate) async fn echo(socket: &str) -> Result<(), Failure> {
    let listener = UnixListener::bind(socket)?;
    let orders = Orders::announce()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from, to) = client.into_split();
            tokio::spawn(forward(from, to));
        }
    });
    orders.end().await
}

/// Forwards between two clients, in both directions, until the bench ends.
pub(crate) async fn forward_between_two(socket: &str) -> Result<(), Failure> {
    let listener = UnixListener::bind(socket)?;
    let orders = Orders::announce()?;
    tokio::spawn(async move {
        let (Ok((one, _)), Ok((other, _))) = (listener.accept().await, listener.accept().await)
        else {
            return;
        };
        let (from_one, to_one) = one.into_split();
        let (from_other, to_other) = other.into_split();
        tokio::spawn(forward(from_one, to_other));
        tokio::spawn(forward(from_other, to_one));
    });
    orders.end().await
}

/// Ends when either side has closed its connection. The other client then finds its connection
/// closed.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut chunk = [0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// Counts round trips to the echo.
pub(crate) async fn ask(socket: &str) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    party::repeat(async || exchange(&mut stream).map(|()| 1)).await
}

/// Counts handoffs: each message that returns from the mirror counts as two.
pub(crate) async fn start_handoffs(socket: &str, cycle: &str) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    if cycle == MEDIAN {
        let lap = async || {
            let begun = Instant::now();
            exchange(&mut stream)?;
            Ok(begun.elapsed() / 2)
        };
        party::repeat_laps(lap).await
    } else {
        party::repeat(async || exchange(&mut stream).map(|()| 2)).await
    }
}

fn exchange(stream: &mut UnixStream) -> Result<(), Failure> {
    stream.write_all(&MESSAGE)?;
    Ok(stream.read_exact(&mut [0; MESSAGE.len()])?)
}

/// Writes each message back, until the relay has ended. It blocks, and needs no orders.
pub(crate) async fn mirror(socket: &str) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    let _unused = Orders::announce()?;
    let mut message = [0; MESSAGE.len()];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(failure) if failure.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// Starts bare processes, and reports how long each took to start.
pub(crate) async fn spawn_bare() -> Result<(), Failure> {
    party::repeat_laps(async || {
        let begun = Instant::now();
        let party = Party::start(party::role(&[BARE, "", "", "0"])?, Duration::ZERO).await?;
        let taken = begun.elapsed();
        drop(party);
        Ok(taken)
    })
    .await
}

/// Reports that it has started, and runs until it is ended.
pub(crate) async fn be_there() -> Result<(), Failure> {
    Orders::announce()?.end().await
}
