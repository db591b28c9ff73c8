//! The floors: what the machine itself charges for what a lock manager can't do without.
//!
//! The floor is one round trip over a Unix socket, from a blocking client to an echo on tokio's current-thread runtime.
//! The relay floor is one message handed from one blocking client to another through such a server: the least that a
//! contended lock's handoff can cost. The messages are as long as a short frame. A bare process is this executable,
//! started once more, that says no more than that it is there. Knows nothing of lockkeeper.

use crate::contest::{Player, Side};
use crate::party::{self, Failure, Orders, Party};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

// The roles of the floors' parties, by the word that starts them.
pub(crate) const ECHO: &str = "floor-echo";
pub(crate) const ASKER: &str = "floor-asker";
pub(crate) const RELAY: &str = "relay";
pub(crate) const MIRROR: &str = "relay-mirror";
pub(crate) const STARTER: &str = "relay-starter";
pub(crate) const SPAWNER: &str = "bare-spawner";
pub(crate) const BARE: &str = "bare";

/// The cycle of a starter that tells the median of its handoffs; any other tells how many there were.
pub(crate) const MEDIAN: &str = "median";

pub(crate) const FLOOR: Side = Side {
    name: "floor",
    hosts: &[ECHO],
    worker: ASKER,
    ..NOTHING
};

/// Only the starter counts: the mirror does no more than hand back what it is handed.
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

/// What a floor needs and has, before it says who plays it.
pub(crate) const NOTHING: Side = Side {
    name: "",
    needs: &[],
    player: Player::Own,
    hosts: &[],
    worker: "",
    patience: Duration::ZERO,
};

/// A message of about the length of an acquire's frame.
pub(crate) const MESSAGE: [u8; 16] = [7; 16];

/// As much as a server reads at once: more than is ever under way, as in a real one.
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

/// Sends what the first client writes to the second, and the other way round, until the bench ends.
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

/// Ends when either side is gone; the clients then find their connections closed.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut chunk = [0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// Counts its own round trips to the echo.
pub(crate) async fn ask(socket: &str) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    party::repeat(async || exchange(&mut stream).map(|()| 1)).await
}

/// Counts handoffs: a message that went to the mirror and came back was handed on twice.
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

/// Writes back each message, blocking, until the relay is gone; so it needs no orders.
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

/// Starts bare processes, and tells how long each took until it was there.
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

/// Says that it is there, until it is ended.
pub(crate) async fn be_there() -> Result<(), Failure> {
    Orders::announce()?.end().await
}
