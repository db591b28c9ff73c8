//! The parties of lockkeeper: a manager in its own process, and clients that use its objects.
//!
//! They use only the public interface, so the figures are those of a user's program.

use crate::contest::{Executable, OURS, Side};
use crate::data;
use crate::party::{self, Failure, Orders};
use lockkeeper::{Barrier, CallError, Event, KeyedLock, Limits, Lock, Manager, Semaphore};
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

// The roles of its parties, as the argument that starts each.
pub(crate) const MANAGER: &str = "manager";
pub(crate) const MANAGER_OF_TWO: &str = "manager-of-two-shards";
pub(crate) const CLIENT: &str = "client";
pub(crate) const THREAD_CLIENT: &str = "thread-client";
pub(crate) const WAITER: &str = "waiter";
pub(crate) const SETTER: &str = "setter";
pub(crate) const STARTER: &str = "starter";

// The cycles that workers repeat. Peers use the same names for the cycles that they support.
/// Acquires and releases the worker's own lock. It does not wait for the release if there is a choice.
pub(crate) const ALONE: &str = "alone";
/// As `ALONE`, but each call spins for its answer before it sleeps.
pub(crate) const SPINNING: &str = "spinning";
/// As `ALONE`, but each release is confirmed before the next cycle.
pub(crate) const AWAITED: &str = "awaited";
/// As `ALONE`, but with one lock for all workers, so each grant is a handoff between processes.
pub(crate) const SHARED: &str = "shared";
/// As `ALONE`, but with many locks at a time over one connection.
pub(crate) const PIPELINED: &str = "pipelined";
/// As `PIPELINED`, but with the keys of one keyed lock.
pub(crate) const KEYED: &str = "keyed";
/// Acquires and releases one of `PERMITS` permits.
pub(crate) const PERMIT: &str = "permit";
/// Waits at a barrier for all other workers.
pub(crate) const ROUND: &str = "round";
/// Sets an event that another process waits for.
pub(crate) const WAKE: &str = "wake";
/// Starts a manager as a process, and takes a lock of it.
pub(crate) const SPAWN: &str = "spawn";
/// Starts a manager on a thread, and takes a lock of it.
pub(crate) const THREAD: &str = "thread";

/// The number of permits of the semaphore; sync_manager.py has the same number.
const PERMITS: u32 = 4;

/// The number of concurrent cycles of `PIPELINED`, each with its own lock.
pub(crate) const OUTSTANDING: usize = 1024;

/// How long calls of `SPINNING` spin for their answer.
const SPIN: Duration = Duration::from_micros(20);

/// The number of pipelined cycles between two reads of the clock.
const BETWEEN_LOOKS: u64 = 16;

/// Clients that use the objects of one manager.
pub(crate) const CLIENTS: Side = Side {
    name: OURS,
    needs: &[],
    executable: Executable::Own,
    hosts: &[MANAGER],
    worker: CLIENT,
    patience: Duration::ZERO,
};

/// As `CLIENTS`, but from plain threads.
pub(crate) const THREADS: Side = Side {
    worker: THREAD_CLIENT,
    ..CLIENTS
};

/// As `CLIENTS`, but of a manager of two shards. Each client has half of its objects on each shard.
pub(crate) const CLIENTS_OF_TWO: Side = Side {
    name: "lockkeeper, 2 shards",
    hosts: &[MANAGER_OF_TWO],
    ..CLIENTS
};

/// A process that sets an event, and a process that waits for it.
pub(crate) const WAKERS: Side = Side {
    hosts: &[MANAGER, WAITER],
    worker: SETTER,
    ..CLIENTS
};

/// A process that starts managers.
pub(crate) const STARTERS: Side = Side {
    hosts: &[],
    worker: STARTER,
    patience: Duration::from_secs(5),
    ..CLIENTS
};

/// Runs a manager until the bench ends, with as many connections as the system permits.
pub(crate) async fn host(address: &str, shards: usize) -> Result<(), Failure> {
    party::raise_the_limit()?;
    // Two processes that open a million locks need more than the default of 1 GiB.
    let limits = Limits {
        stored_bytes: 4 << 30,
        ..Limits::default()
    };
    let builder = Manager::builder()
        .address(address)
        .limits(limits)
        .shards(shards);
    let _manager = builder.start().await?;
    Orders::announce()?.end().await
}

/// Runs a client, which connects and then counts cycles in each window.
pub(crate) async fn client(address: &str, cycle: &str, workers: usize) -> Result<(), Failure> {
    let client = Manager::client().spin(if cycle == SPINNING {
        SPIN
    } else {
        Duration::ZERO
    });
    repeat(&client.connect(address).await?, cycle, workers).await
}

/// Counts cycles with the objects of a manager.
pub(crate) async fn repeat(manager: &Manager, cycle: &str, workers: usize) -> Result<(), Failure> {
    match cycle {
        ALONE | SPINNING => repeat_cycles(manager.lock().await?).await,
        AWAITED => {
            let lock = manager.lock().await?;
            party::repeat(async || {
                lock.acquire().await?.release().await?;
                Ok(1)
            })
            .await
        }
        SHARED => repeat_cycles(manager.named("shared").lock().await?).await,
        PIPELINED => {
            let mut locks = Vec::new();
            for _ in 0..OUTSTANDING {
                locks.push(manager.lock().await?);
            }
            repeat_pipelined(&locks).await
        }
        KEYED => {
            let locks = manager.keyed_lock().await?;
            let keys = (0..OUTSTANDING).map(|place| OneKey {
                locks: locks.clone(),
                key: key(place),
            });
            repeat_pipelined(&keys.collect::<Vec<_>>()).await
        }
        PERMIT => repeat_permits(manager.named("permits").semaphore(PERMITS).await?).await,
        ROUND => repeat_rounds(manager, workers).await,
        other => data::repeat(manager, other).await,
    }
}

async fn repeat_cycles(lock: Lock) -> Result<(), Failure> {
    party::repeat(async || {
        drop(lock.acquire().await?);
        Ok(1)
    })
    .await
}

async fn repeat_permits(semaphore: Semaphore) -> Result<(), Failure> {
    party::repeat(async || {
        drop(semaphore.acquire().await?);
        Ok(1)
    })
    .await
}

/// An object that is acquired and released concurrently with others.
trait Cycled: Clone + Send + Sync + 'static {
    fn cycle(&self) -> impl Future<Output = Result<(), CallError>> + Send;
}

impl Cycled for Lock {
    async fn cycle(&self) -> Result<(), CallError> {
        self.acquire().await.map(drop)
    }
}

/// A key of a keyed lock.
#[derive(Clone)]
struct OneKey {
    locks: KeyedLock,
    key: String,
}

impl Cycled for OneKey {
    async fn cycle(&self) -> Result<(), CallError> {
        self.locks.acquire(&self.key).await.map(drop)
    }
}

/// Returns the key of a place. All keys have the same length.
pub(crate) fn key(place: usize) -> String {
    format!("record {place:07}")
}

async fn repeat_pipelined(seats: &[impl Cycled]) -> Result<(), Failure> {
    let mut orders = Orders::announce()?;
    while let Some(order) = orders.next().await? {
        let window = order.opened();
        let tasks = seats.iter().cloned().map(|seat| {
            tokio::spawn(async move {
                let mut cycles = 0;
                while window.is_open() {
                    for _ in 0..BETWEEN_LOOKS {
                        seat.cycle().await?;
                    }
                    cycles += BETWEEN_LOOKS;
                }
                Ok::<_, CallError>(cycles)
            })
        });
        let mut cycles = 0;
        for task in tasks.collect::<Vec<_>>() {
            cycles += task.await??;
        }
        window.report(cycles)?;
    }
    Ok(())
}

/// Each window has its own barrier. The first worker that finds the window closed breaks it.
async fn repeat_rounds(manager: &Manager, parties: usize) -> Result<(), Failure> {
    let parties = u32::try_from(parties)?;
    let mut orders = Orders::announce()?;
    while let Some(order) = orders.next().await? {
        let barrier: Barrier = manager.named(&order.name()).barrier(parties).await?;
        let window = order.opened();
        let mut rounds = 0;
        while window.is_open()
            && let Ok(passed) = barrier.wait().await
        {
            rounds += u64::from(passed.is_leader());
        }
        barrier.abort().await?;
        window.report(rounds)?;
    }
    Ok(())
}

/// Runs the waiter. It sends the time at which it woke to the setter over a socket, after it has begun to wait again.
pub(crate) async fn wait(address: &str) -> Result<(), Failure> {
    let event = shared_event(address).await?;
    let door = UnixListener::bind(beside(address))?;
    let _unused = Orders::announce()?;
    let (mut setter, _) = door.accept()?;
    let mut seen = event.status().await?.generation;
    let mut woke = 0;
    loop {
        let mut wait = pin!(event.wait_since(seen));
        // The first poll sends the call.
        let at_once = futures::poll!(&mut wait);
        setter.write_all(&u64::to_ne_bytes(woke))?;
        seen = match at_once {
            std::task::Poll::Ready(seen) => seen?,
            std::task::Poll::Pending => wait.await?,
        };
        woke = unix_nanoseconds()?;
    }
}

/// Runs the setter. It measures the time from just before the call until the waiter runs, by the clock of the
/// system.
pub(crate) async fn set(address: &str) -> Result<(), Failure> {
    let event = shared_event(address).await?;
    let mut waiter = UnixStream::connect(beside(address))?;
    let mut woke = [0; size_of::<u64>()];
    waiter.read_exact(&mut woke)?;
    party::repeat_laps(async || {
        let begun = unix_nanoseconds()?;
        event.set().await?;
        waiter.read_exact(&mut woke)?;
        let taken = u64::from_ne_bytes(woke).saturating_sub(begun);
        Ok(Duration::from_nanos(taken))
    })
    .await
}

async fn shared_event(address: &str) -> Result<Event, Failure> {
    let manager = Manager::connect(address).await?;
    Ok(manager.named("wake").event().await?)
}

/// Returns the address of the socket between waiter and setter.
fn beside(address: &str) -> String {
    format!("{address}.woke")
}

fn unix_nanoseconds() -> Result<u64, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(now.as_nanos().try_into()?)
}

/// Runs a process that starts a manager, acquires a lock of it, and ends it. The end is not
/// measured.
pub(crate) async fn start(cycle: &str) -> Result<(), Failure> {
    match cycle {
        SPAWN => party::repeat_laps(async || first_grant(Manager::spawn()).await).await,
        THREAD => party::repeat_laps(async || first_grant(Manager::start()).await).await,
        other => Err(format!("no manager is started by {other:?}").into()),
    }
}

async fn first_grant(
    start: impl Future<Output = Result<Manager, lockkeeper::StartError>>,
) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let manager = start.await?;
    let guard = manager.lock().await?.acquire().await?;
    let taken = begun.elapsed();
    drop(guard);
    manager.shutdown().await;
    Ok(taken)
}
