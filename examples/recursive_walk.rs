//! Shows a reentrant lock: a function that acquires it calls itself and other functions that
//! acquire it.
//!
//!     cargo run --release --example recursive_walk
//!
//! Accounts are files in a tree of folders. `transfer` moves money between two accounts, and `total` adds up
//! the accounts of a folder and, recursively, of its folders. Both acquire the lock, because each is also
//! called directly. `audit` acquires the lock, adds up, transfers and adds up again, and no other process makes
//! a change in between. Three processes audit and transfer at the same time:
//!
//!     auditor 0: 40 audits, at most 6 deep in the lock
//!     ...
//!     3 auditors, 120 audits, and never was anything missing

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use futures::future::{BoxFuture, FutureExt};
use lockkeeper::{Manager, Pool, ReentrantLock, Task};
use serde::{Deserialize, Serialize};

const AUDITORS: usize = 3;
const AUDITS: usize = 40;
const DEPTH: usize = 4;
const TOTAL: i64 = 8 * 100;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The accounts, and the lock that guards them.
#[derive(Clone, Serialize, Deserialize)]
struct Books {
    root: PathBuf,
    lock: ReentrantLock,
}

impl Books {
    /// Adds up the accounts in a folder and its folders. Returns the sum and the depth of the lock.
    fn total<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Outcome<(i64, u64)>> {
        async move {
            let _guard = self.lock.acquire().await?;
            let (mut sum, mut deepest) = (0, self.lock.status().await?.depth);
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    let (inner, depth) = self.total(&path).await?;
                    (sum, deepest) = (sum + inner, deepest.max(depth));
                } else {
                    sum += balance(&path)?;
                }
            }
            Ok((sum, deepest))
        }
        .boxed()
    }

    /// Moves money from one account to another.
    async fn transfer(&self, from: &Path, to: &Path, amount: i64) -> Outcome<()> {
        let _guard = self.lock.acquire().await?;
        fs::write(from, (balance(from)? - amount).to_string())?;
        fs::write(to, (balance(to)? + amount).to_string())?;
        Ok(())
    }

    /// Checks the total before and after a transfer. Returns the depth of the lock.
    async fn audit(&self) -> Outcome<u64> {
        let _guard = self.lock.acquire().await?;
        let (before, depth) = self.total(&self.root).await?;
        let accounts = accounts(&self.root)?;
        let any = || &accounts[fastrand::usize(0..accounts.len())];
        self.transfer(any(), any(), 7).await?;
        let (after, _) = self.total(&self.root).await?;
        if (before, after) != (TOTAL, TOTAL) {
            return Err(format!("there were {before}, and are {after}").into());
        }
        Ok(depth)
    }
}

fn balance(account: &Path) -> Outcome<i64> {
    Ok(fs::read_to_string(account)?.parse()?)
}

/// Returns all accounts in a folder and its folders.
fn accounts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(accounts(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Creates nested folders with two accounts in each.
fn open_accounts(root: &Path) -> io::Result<()> {
    let mut folder = root.to_owned();
    for _ in 0..DEPTH {
        for account in ["north", "south"] {
            fs::write(folder.join(account), (TOTAL / 8).to_string())?;
        }
        folder.push("branch");
        fs::create_dir(&folder)?;
    }
    Ok(())
}

/// Audits the accounts repeatedly.
#[derive(Serialize, Deserialize)]
struct Audit(usize, Books);

impl Task for Audit {
    const NAME: &'static str = "audit";
    type Output = Result<usize, String>;

    async fn run(self) -> Self::Output {
        let Self(auditor, books) = self;
        let mut deepest = 0;
        for _ in 0..AUDITS {
            let depth = books.audit().await.map_err(|error| error.to_string())?;
            deepest = deepest.max(depth);
        }
        println!("auditor {auditor}: {AUDITS} audits, at most {deepest} deep in the lock");
        Ok(AUDITS)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Audit>().run(async {
        let folder = tempfile::tempdir()?;
        open_accounts(folder.path())?;
        let manager = Manager::start().await?;
        let books = Books {
            root: folder.path().to_owned(),
            lock: manager.reentrant_lock().await?,
        };
        let pool = Pool::new(AUDITORS).await?;
        let audits = (0..AUDITORS).map(|auditor| Audit(auditor, books.clone()));
        let mut total = 0;
        for audits in pool.try_map(audits).await? {
            total += audits?;
        }
        pool.join().await?;
        println!("{AUDITORS} auditors, {total} audits, and never was anything missing");
        Ok::<(), Box<dyn Error>>(())
    })
}
