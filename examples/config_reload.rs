//! Shows a readers-writer lock and a latch: settings that many processes read and few change.
//!
//!     cargo run --release --example config_reload
//!
//! The settings are two files that must match. Three servers read both files for each request,
//! concurrently. Both reloaders see every change, and the first one to get the lock writes it. A
//! reloader takes the upgradable read lock, beside the servers, and upgrades it only if the other
//! reloader has not written the change. Then it downgrades to a reader and checks the files. A latch
//! makes all begin together. Each process prints what it did:
//!
//!     server 0: 115 requests, up to 4 at once, none saw half a change
//!     ...
//!     reloader 1: wrote 13 changes, found 12 written
//!     25 changes, each written once, while 3 servers answered 339 requests

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use lockkeeper::{Latch, Manager, Pool, RwLock, Task};
use serde::{Deserialize, Serialize};

const SERVERS: usize = 3;
const RELOADERS: usize = 2;
const CHANGES: u64 = 25;

/// The settings, and the lock that guards them.
#[derive(Clone, Serialize, Deserialize)]
struct Settings {
    folder: PathBuf,
    lock: RwLock,
}

/// Answers requests, or updates the settings.
#[derive(Serialize, Deserialize)]
enum Work {
    Serve(Settings, Latch),
    Reload(Settings, Latch),
}

/// The result of a worker.
#[derive(Serialize, Deserialize)]
enum Report {
    Served { requests: u64, at_once: u64 },
    Reloaded { wrote: u64, found: u64 },
}

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = Result<Report, String>;

    async fn run(self) -> Self::Output {
        let report = match self {
            Self::Serve(settings, ready) => settings.serve(ready).await,
            Self::Reload(settings, ready) => settings.reload(ready).await,
        };
        report.map_err(|error| error.to_string())
    }
}

impl Settings {
    /// Answers requests until the last change is written.
    async fn serve(&self, ready: Latch) -> Result<Report, Box<dyn Error>> {
        ready.arrive_and_wait(1).await?;
        let (mut requests, mut at_once, mut last) = (0, 0, 0);
        while last < CHANGES {
            let guard = self.lock.read().await?;
            let seen = read(&self.folder)?;
            at_once = at_once.max(self.lock.status().await?.readers);
            drop(guard);
            if seen < last {
                return Err(format!("change {seen} came after {last}").into());
            }
            (requests, last) = (requests + 1, seen);
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        Ok(Report::Served { requests, at_once })
    }

    /// Writes each change, unless the other reloader has written it.
    async fn reload(&self, ready: Latch) -> Result<Report, Box<dyn Error>> {
        ready.arrive_and_wait(1).await?;
        let (mut wrote, mut found) = (0, 0);
        for change in 1..=CHANGES {
            tokio::time::sleep(Duration::from_millis(4)).await;
            let guard = self.lock.upgradable_read().await?;
            if read(&self.folder)? >= change {
                found += 1;
                continue;
            }
            // No other process can write between the upgradable read and the upgrade.
            let guard = guard.upgrade().await?;
            write(&self.folder, change).await?;
            let _guard = guard.downgrade().await?;
            if read(&self.folder)? != change {
                return Err(format!("change {change} was written over").into());
            }
            wrote += 1;
        }
        Ok(Report::Reloaded { wrote, found })
    }
}

/// Reads the change number of both files, which must be equal.
fn read(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let [routes, limits] = ["routes", "limits"].map(|name| fs::read_to_string(folder.join(name)));
    let (routes, limits): (u64, u64) = (routes?.parse()?, limits?.parse()?);
    if routes != limits {
        return Err(format!("half a change: routes of {routes}, limits of {limits}").into());
    }
    Ok(routes)
}

/// Writes both files, one after the other.
async fn write(folder: &Path, change: u64) -> io::Result<()> {
    fs::write(folder.join("routes"), change.to_string())?;
    tokio::time::sleep(Duration::from_millis(1)).await;
    fs::write(folder.join("limits"), change.to_string())
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Work>().run(async {
        let folder = tempfile::tempdir()?;
        write(folder.path(), 0).await?;
        let manager = Manager::start().await?;
        let settings = Settings {
            folder: folder.path().to_owned(),
            lock: manager.rw_lock().await?,
        };
        let ready = manager.latch(u32::try_from(SERVERS + RELOADERS)?).await?;
        let serve = || Work::Serve(settings.clone(), ready.clone());
        let reload = || Work::Reload(settings.clone(), ready.clone());
        let pool = Pool::new(SERVERS + RELOADERS).await?;
        let servers = Vec::from_iter((0..SERVERS).map(|_| pool.spawn(serve())));
        let reloaders = Vec::from_iter((0..RELOADERS).map(|_| pool.spawn(reload())));

        let (mut answered, mut written) = (0, 0);
        for (number, worker) in servers.into_iter().chain(reloaders).enumerate() {
            match worker.await?? {
                Report::Served { requests, at_once } => {
                    answered += requests;
                    println!(
                        "server {number}: {requests} requests, up to {at_once} at once, \
                         none saw half a change"
                    );
                }
                Report::Reloaded { wrote, found } => {
                    written += wrote;
                    let number = number - SERVERS;
                    println!("reloader {number}: wrote {wrote} changes, found {found} written");
                }
            }
        }
        pool.join().await?;
        if written != CHANGES {
            return Err(format!("{CHANGES} changes were written {written} times").into());
        }
        println!(
            "{CHANGES} changes, each written once, while {SERVERS} servers answered \
             {answered} requests"
        );
        Ok::<(), Box<dyn Error>>(())
    })
}
