//! The crowds that fill a manager: processes that create many connections, locks or waiters, and
//! keep them.
//!
//! A process of a crowd creates its part in its first window, and reports how many there are and how
//! long it took.

use crate::party::{self, Failure, Orders};
use crate::raw_client::{RawClient, Replied};

/// The role of one process of a crowd.
pub(crate) const CROWD: &str = "crowd";

// The contents of a crowd.
pub(crate) const CONNECTIONS: &str = "connections";
pub(crate) const LOCKS: &str = "locks";
pub(crate) const WAITERS: &str = "waiters";
pub(crate) const WAITERS_WITH_DEADLINE: &str = "waiters with deadline";
pub(crate) const PASSERS_BY: &str = "passers-by";
pub(crate) const HOLDER: &str = "holder";
pub(crate) const SUCCESSOR: &str = "successor";

/// The number of requests before the answers are read. A manager stops reading from a client that does
/// not read its answers.
const BATCH: usize = 1000;

/// A deadline far beyond the time of a measurement.
const AN_HOUR_IN_MICROSECONDS: u64 = 3_600_000_000;

/// Runs one process of a crowd.
pub(crate) async fn gather(address: &str, what: &str, count: usize) -> Result<(), Failure> {
    party::raise_the_limit()?;
    let mut orders = Orders::announce()?;
    let Some(order) = orders.next().await? else {
        return Ok(());
    };
    let window = order.opened();
    let reported = u64::try_from(count)?;
    // The crowd is in place until this value is dropped.
    match what {
        CONNECTIONS => {
            let here: Result<Vec<_>, _> = (0..count).map(|_| RawClient::connect(address)).collect();
            let _here = here?;
            window.report(reported)?;
            orders.end().await
        }
        LOCKS => {
            let mut maker = RawClient::connect(address)?;
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
            (0..count).try_for_each(|_| RawClient::connect(address).map(drop))?;
            window.report(reported)?;
            orders.end().await
        }
        HOLDER => {
            let mut holder = RawClient::connect(address)?;
            acquire_all(&mut holder, count, Awaits::Each)?;
            window.report(reported)?;
            orders.end().await
        }
        SUCCESSOR => {
            let mut successor = RawClient::connect(address)?;
            acquire_all(&mut successor, count, Awaits::None)?;
            window.report(reported)?;
            let Some(order) = orders.next().await? else {
                return Ok(());
            };
            let window = order.opened();
            (0..count).try_for_each(|_| successor.replied().map(drop))?;
            window.report(reported)?;
            orders.end().await
        }
        other => Err(format!("no crowd consists of {other:?}").into()),
    }
}

/// Sends `count` acquires of one lock. The first one is granted, and the others wait.
fn queue_up(address: &str, micros: Option<u64>, count: usize) -> Result<RawClient, Failure> {
    let mut waiter = RawClient::connect(address)?;
    waiter.open_lock(Some("crowded"))?;
    let lock = waiter.opened()?;
    for _ in 0..count {
        waiter.call(&lock, "acquire", micros)?;
    }
    // An object serves the calls of one session in order, so all acquires wait once this call is
    // answered.
    waiter.call(&lock, "status", None)?;
    while waiter.replied()? != Replied::Last {}
    Ok(waiter)
}

/// Whether to wait for the grants.
#[derive(Clone, Copy)]
enum Awaits {
    Each,
    None,
}

/// Opens `count` locks by name, and acquires each.
fn acquire_all(session: &mut RawClient, count: usize, awaits: Awaits) -> Result<(), Failure> {
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
