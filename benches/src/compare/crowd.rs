//! The crowds that fill a manager: processes that put many of something in place, and keep it there.
//!
//! A crowd puts its part in place in its first window, and tells how many it was and how long it took.

use crate::party::{Failure, Orders};
use crate::stranger::{Replied, Stranger};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The role of one process of a crowd.
pub(crate) const CROWD: &str = "crowd";

// What a crowd consists of.
pub(crate) const CONNECTIONS: &str = "connections";
pub(crate) const LOCKS: &str = "locks";
pub(crate) const WAITERS: &str = "waiters";
pub(crate) const WAITERS_WITH_DEADLINE: &str = "waiters with deadline";
pub(crate) const PASSERS_BY: &str = "passers-by";
pub(crate) const HOLDER: &str = "holder";
pub(crate) const HEIR: &str = "heir";

/// So many are asked for before the answers are read: a manager stops listening to one who reads none.
const BATCH: usize = 1000;

/// A deadline that never passes while it is measured.
const AN_HOUR_IN_MICROSECONDS: u64 = 3_600_000_000;

/// Lets this process have as many files and sockets as the system allows it at all; says how many, if there is a limit.
pub(crate) fn raise_the_limit() -> Result<Option<u64>, Failure> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: most,
        },
    )?;
    Ok(most)
}

/// Plays one process of a crowd, of so many.
pub(crate) async fn gather(address: &str, what: &str, count: usize) -> Result<(), Failure> {
    raise_the_limit()?;
    let mut orders = Orders::announce()?;
    let Some(order) = orders.next().await? else {
        return Ok(());
    };
    let window = order.opened();
    let reported = u64::try_from(count)?;
    // What is in place stays there for as long as it is not dropped.
    match what {
        CONNECTIONS => {
            let here: Result<Vec<_>, _> = (0..count).map(|_| Stranger::connect(address)).collect();
            let _here = here?;
            window.report(reported)?;
            orders.end().await
        }
        LOCKS => {
            let mut maker = Stranger::connect(address)?;
            in_batches(count, |batch| {
                for _ in batch.clone() {
                    maker.open_lock(None)?;
                }
                batch.into_iter().try_for_each(|_| maker.opened().map(drop))
            })?;
            window.report(reported)?;
            orders.end().await
        }
        WAITERS | WAITERS_WITH_DEADLINE => {
            let micros = (what == WAITERS_WITH_DEADLINE).then_some(AN_HOUR_IN_MICROSECONDS);
            let _here = queue_up(address, micros, count)?;
            window.report(reported)?;
            orders.end().await
        }
        PASSERS_BY => {
            (0..count).try_for_each(|_| Stranger::connect(address).map(drop))?;
            window.report(reported)?;
            orders.end().await
        }
        HOLDER => {
            let mut holder = Stranger::connect(address)?;
            acquire_all(&mut holder, count, Awaits::Each)?;
            window.report(reported)?;
            orders.end().await
        }
        HEIR => {
            let mut heir = Stranger::connect(address)?;
            acquire_all(&mut heir, count, Awaits::None)?;
            window.report(reported)?;
            let Some(order) = orders.next().await? else {
                return Ok(());
            };
            let window = order.opened();
            (0..count).try_for_each(|_| heir.replied().map(drop))?;
            window.report(reported)?;
            orders.end().await
        }
        other => Err(format!("no crowd consists of {other:?}").into()),
    }
}

/// Acquires one lock so many times. The first of all gets it, the others wait.
fn queue_up(address: &str, micros: Option<u64>, count: usize) -> Result<Stranger, Failure> {
    let mut waiter = Stranger::connect(address)?;
    waiter.open_lock(Some("crowded"))?;
    let lock = waiter.opened()?;
    for _ in 0..count {
        waiter.call(&lock, "acquire", micros)?;
    }
    // An object serves the calls of one session in order: once this one is answered, all wait.
    waiter.call(&lock, "status", None)?;
    while waiter.replied()? != Replied::Last {}
    Ok(waiter)
}

/// Whether the grants are waited for.
#[derive(Clone, Copy)]
enum Awaits {
    Each,
    None,
}

/// Opens so many locks by name and acquires each.
fn acquire_all(session: &mut Stranger, count: usize, awaits: Awaits) -> Result<(), Failure> {
    let mut last = None;
    in_batches(count, |batch| {
        for number in batch.clone() {
            session.open_lock(Some(&format!("held-{number}")))?;
        }
        let mut opened = Vec::new();
        for _ in batch.clone() {
            opened.push(session.opened()?);
        }
        for lock in &opened {
            session.call(lock, "acquire", None)?;
        }
        if let Awaits::Each = awaits {
            batch
                .into_iter()
                .try_for_each(|_| session.replied().map(drop))?;
        }
        last = opened.pop();
        Ok(())
    })?;
    if let (Awaits::None, Some(last)) = (awaits, last) {
        session.call(&last, "status", None)?;
        session.replied()?;
    }
    Ok(())
}

fn in_batches(
    count: usize,
    mut batch: impl FnMut(std::ops::Range<usize>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    (0..count)
        .step_by(BATCH)
        .try_for_each(|first| batch(first..count.min(first + BATCH)))
}
