//! The floors of shared objects: a bare barrier, and a bare semaphore that grants in order.
//!
//! A server on tokio's current-thread runtime and blocking clients exchange the fewest possible messages: one to the
//! server and one back, for each client and cycle. So a client of the semaphore releases its permit and requests the
//! next one in the same message, which a client that works in between cannot do. The messages are as long as a short
//! frame. This file does not use lockkeeper.

use crate::contest::Side;
use crate::floor::{CHUNK, MESSAGE, NOTHING};
use crate::party::{Failure, Orders};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{self, UnixListener};

// The roles of the parties, as the argument that starts each.
pub(crate) const BARRIER: &str = "floor-barrier";
pub(crate) const ARRIVER: &str = "floor-arriver";
pub(crate) const SEMAPHORE: &str = "floor-semaphore";
pub(crate) const TAKER: &str = "floor-taker";

pub(crate) const BARRIER_FLOOR: Side = Side {
    name: "barrier floor",
    hosts: &[BARRIER],
    worker: ARRIVER,
    ..NOTHING
};

pub(crate) const SEMAPHORE_FLOOR: Side = Side {
    name: "semaphore floor",
    hosts: &[SEMAPHORE],
    worker: TAKER,
    ..NOTHING
};

type Message = [u8; MESSAGE.len()];

// The first byte of a barrier message: whether this round is the last one of its window.
const AGAIN: u8 = 0;
const LAST: u8 = 1;

// The first byte of a message to the semaphore.
const TAKE: u8 = 0;
const GIVE_AND_TAKE: u8 = 1;
const GIVE: u8 = 2;

/// The number of permits.
const PERMITS: usize = 4;

/// The server's end of a client's connection.
type Client = Arc<OwnedWriteHalf>;

/// Answers all parties once the last one has arrived, each with its index. If the round is the last one for any
/// party, the answer says so to all: a window ends for all in the same round.
pub(crate) async fn open_barrier(socket: &str, parties: usize) -> Result<(), Failure> {
    let mut here = Vec::new();
    let mut word = AGAIN;
    serve(socket, move |client, said| {
        word = word.max(said);
        here.push(Arc::clone(client));
        if here.len() < parties {
            return Ok(());
        }
        let word = mem::replace(&mut word, AGAIN);
        let mut places = 0..;
        here.drain(..)
            .zip(&mut places)
            .try_for_each(|(party, place)| answer(&party, word, place))
    })
    .await
}

/// Grants permits in the order in which they were asked for.
pub(crate) async fn lend_permits(socket: &str) -> Result<(), Failure> {
    let mut line = VecDeque::new();
    let mut free = PERMITS;
    serve(socket, move |client, said| {
        free += usize::from(said != TAKE);
        if said != GIVE {
            line.push_back(Arc::clone(client));
        }
        while free > 0
            && let Some(first) = line.pop_front()
        {
            free -= 1;
            answer(&first, 0, 0)?;
        }
        Ok(())
    })
    .await
}

/// Calls `receive` with each client's messages, in order of arrival, until the bench ends.
async fn serve(
    socket: &str,
    receive: impl FnMut(&Client, u8) -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let listener = UnixListener::bind(socket)?;
    let orders = Orders::announce()?;
    let receive = Arc::new(Mutex::new(receive));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(listen(client, Arc::clone(&receive)));
        }
    });
    orders.end().await
}

/// Ends when the client has closed its connection.
async fn listen(
    client: net::UnixStream,
    receive: Arc<Mutex<impl FnMut(&Client, u8) -> io::Result<()>>>,
) -> io::Result<()> {
    // After this a short answer always fits, because each client waits for its answer before it sends again.
    client.writable().await?;
    let (mut from, to) = client.into_split();
    let client = Arc::new(to);
    let mut chunk = [0; CHUNK];
    while let length @ 1.. = from.read(&mut chunk).await? {
        let mut receive = receive.lock().map_err(|_| io::ErrorKind::Other)?;
        for message in chunk[..length].chunks(MESSAGE.len()) {
            receive(&client, message[0])?;
        }
    }
    Ok(())
}

fn answer(client: &Client, word: u8, place: u8) -> io::Result<()> {
    client.try_write(&message(word, place)).map(drop)
}

fn message(word: u8, place: u8) -> Message {
    let mut message = MESSAGE;
    [message[0], message[1]] = [word, place];
    message
}

/// Arrives at the barrier repeatedly. The first party to arrive counts the round, so that each round
/// counts once.
pub(crate) async fn arrive(socket: &str) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    let mut orders = Orders::announce()?;
    while let Some(order) = orders.next().await? {
        let window = order.opened();
        let (mut rounds, mut word) = (0, AGAIN);
        while word == AGAIN {
            let says = if window.is_open() { AGAIN } else { LAST };
            let place;
            [word, place, ..] = exchange(&mut stream, says)?;
            rounds += u64::from(place == 0);
        }
        window.report(rounds)?;
    }
    Ok(())
}

/// Takes a permit repeatedly, and releases the last one when its window is closed.
pub(crate) async fn take(socket: &str) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    let mut orders = Orders::announce()?;
    while let Some(order) = orders.next().await? {
        let window = order.opened();
        exchange(&mut stream, TAKE)?;
        let mut cycles = 1;
        while window.is_open() {
            exchange(&mut stream, GIVE_AND_TAKE)?;
            cycles += 1;
        }
        stream.write_all(&message(GIVE, 0))?;
        window.report(cycles)?;
    }
    Ok(())
}

fn exchange(stream: &mut UnixStream, word: u8) -> Result<Message, Failure> {
    let mut answer = MESSAGE;
    stream.write_all(&message(word, 0))?;
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
