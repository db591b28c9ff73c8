//! The floors: what the machine itself charges for what a lock manager can't do without.
//!
//! The floor is one round trip over a Unix socket, from a blocking client to an echo on tokio's current-thread runtime.
//! The relay floor is one message handed from one blocking client to another through such a server: the least that a
//! contended lock's handoff can cost. The messages are as long as a short frame. Knows nothing of lockkeeper.

use crate::party::{self, Crew, Failure, Orders, Party, Start, Step};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

// The roles of the floors' parties, by the word that starts them.
pub(crate) const ECHO: &str = "floor-echo";
pub(crate) const ASKER: &str = "floor-asker";
pub(crate) const RELAY: &str = "relay";
pub(crate) const MIRROR: &str = "relay-mirror";
pub(crate) const STARTER: &str = "relay-starter";

/// A message of about the length of an acquire's frame.
const MESSAGE: [u8; 16] = [7; 16];

/// As much as a server reads at once: more than is ever under way, as in a real one.
const CHUNK: usize = 4096;

/// The floor's row: an echo, and one that asks.
pub(crate) fn round_trip(place: &Path) -> Step<'_, Start> {
    Box::pin(async move {
        let socket = place.join("echo");
        let socket = socket.as_os_str();
        let echo = Party::start(party::role([ECHO.as_ref(), socket])?).await?;
        let asker = party::role([ASKER.as_ref(), socket])?;
        Crew::start(echo, vec![asker]).await
    })
}

/// The relay floor's row. Only the starter counts: the mirror does no more than hand back what it is handed.
pub(crate) fn relay(place: &Path) -> Step<'_, Start> {
    Box::pin(async move {
        let socket = place.join("relay");
        let socket = socket.as_os_str();
        let relay = Party::start(party::role([RELAY.as_ref(), socket])?).await?;
        let mirror = Party::start(party::role([MIRROR.as_ref(), socket])?).await?;
        let starter = party::role([STARTER.as_ref(), socket])?;
        Crew::start((mirror, relay), vec![starter]).await
    })
}

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
    count_exchanges(socket, 1).await
}

/// Counts handoffs: a message that went to the mirror and came back was handed on twice.
pub(crate) async fn start_handoffs(socket: &str) -> Result<(), Failure> {
    count_exchanges(socket, 2).await
}

async fn count_exchanges(socket: &str, cycles_an_exchange: u64) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    let mut orders = Orders::announce()?;
    while let Some(window) = orders.next().await? {
        let mut cycles = 0;
        while window.is_open() {
            stream.write_all(&MESSAGE)?;
            stream.read_exact(&mut [0; MESSAGE.len()])?;
            cycles += cycles_an_exchange;
        }
        window.report(cycles)?;
    }
    Ok(())
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
