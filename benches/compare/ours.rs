//! lockkeeper's own rows: a manager in a process of its own, and clients that acquire and release a lock of it.
//!
//! Only what a user would write is called here, so that what is measured is what a user gets.

use crate::party::{self, Crew, Failure, Orders, Start, Step, Window};
use lockkeeper::{Address, Lock, Manager};
use std::path::Path;

/// The role of a client: it is followed by a cycle's name and the manager's address.
pub(crate) const CLIENT: &str = "lockkeeper-client";

// What a client repeats, by the word that it is told with.
const ALONE: &str = "alone";
const ALONE_AWAITED: &str = "alone-awaited";
const SHARED: &str = "shared";

/// One client, one lock, the release not waited for.
pub(crate) fn alone(_: &Path) -> Step<'_, Start> {
    Box::pin(clients(&[ALONE]))
}

/// One client, one lock, each release confirmed before the next cycle.
pub(crate) fn alone_awaited(_: &Path) -> Step<'_, Start> {
    Box::pin(clients(&[ALONE_AWAITED]))
}

/// Two clients that want the same lock all the time, so that each grant is a handoff between processes.
pub(crate) fn contended(_: &Path) -> Step<'_, Start> {
    Box::pin(clients(&[SHARED, SHARED]))
}

/// Each row has a manager to itself, so that no row pays for what another one left there.
async fn clients(cycles: &[&str]) -> Result<Start, Failure> {
    let manager = Manager::spawn().await?;
    let address = manager.address().to_string();
    let commands = cycles
        .iter()
        .map(|cycle| party::role([CLIENT, cycle, &address]));
    let commands = commands.collect::<Result<_, _>>()?;
    Crew::start(manager, commands).await
}

/// Plays a client: connects as any process would, then counts cycles whenever it is told to.
pub(crate) async fn client(cycle: &str, address: &str) -> Result<(), Failure> {
    let address: Address = address.parse()?;
    let manager = Manager::connect(address).await?;
    let lock = match cycle {
        SHARED => manager.named("shared").lock().await?,
        _ => manager.lock().await?,
    };
    let mut orders = Orders::announce()?;
    while let Some(window) = orders.next().await? {
        let cycles = match cycle {
            ALONE | SHARED => count_dropped(&lock, &window).await?,
            ALONE_AWAITED => count_awaited(&lock, &window).await?,
            other => return Err(format!("no client repeats {other:?}").into()),
        };
        window.report(cycles)?;
    }
    Ok(())
}

async fn count_dropped(lock: &Lock, window: &Window) -> Result<u64, Failure> {
    let mut cycles = 0;
    while window.is_open() {
        drop(lock.acquire().await?);
        cycles += 1;
    }
    Ok(cycles)
}

async fn count_awaited(lock: &Lock, window: &Window) -> Result<u64, Failure> {
    let mut cycles = 0;
    while window.is_open() {
        lock.acquire().await?.release().await?;
        cycles += 1;
    }
    Ok(cycles)
}
