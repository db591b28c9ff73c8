//! Shows ten processes that share one lock: each pays into an account, which is a file that it
//! reads, changes and writes.
//!
//!     cargo run --release --example shared_lock
//!
//! The program prints one line per process, and last the balance, which must be the sum of all
//! deposits. With `-- --careless` no process acquires the lock: money gets lost, and the program
//! fails.
//!
//!     process 4711 paid in 5043
//!     ...
//!     10 processes paid in 50312, and the balance is 50312

use std::{
    collections::HashSet,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use argh::FromArgs;
use futures::StreamExt;
use lockkeeper::{Blocking, BlockingTask, CallError, Lock, Manager, Pool};
use serde::{Deserialize, Serialize};

const PROCESSES: usize = 10;

/// Pays into one account from ten processes at once.
#[derive(FromArgs)]
struct Options {
    /// do without the lock, to see that money gets lost
    #[argh(switch)]
    careless: bool,
}

/// Makes a hundred deposits, each with the lock unless `--careless` is given.
#[derive(Clone, Serialize, Deserialize)]
struct Deposits {
    account: PathBuf,
    lock: Option<Lock>,
}

#[derive(Serialize, Deserialize)]
struct Deposited {
    process: u32,
    sum: u64,
}

impl BlockingTask for Deposits {
    const NAME: &'static str = "deposits";
    type Output = Result<Deposited, CallError>;

    fn run(self) -> Self::Output {
        let mut sum = 0;
        for _ in 0..100 {
            let amount = fastrand::u64(1..=100);
            let _guard = self
                .lock
                .as_ref()
                .map(|lock| lock.acquire().blocking())
                .transpose()?;
            pay_in(&self.account, amount).expect("the account is a file of this example");
            sum += amount;
        }
        let process = process::id();
        Ok(Deposited { process, sum })
    }
}

/// The critical section: if two processes run it at once, a deposit is lost.
fn pay_in(account: &Path, amount: u64) -> io::Result<()> {
    let balance = balance(account)?;
    fs::write(account, (balance + amount).to_string())
}

/// Reads the account. An empty file, which is being written, counts as zero.
fn balance(account: &Path) -> io::Result<u64> {
    Ok(fs::read_to_string(account)?.parse().unwrap_or(0))
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program()
        .task::<Blocking<Deposits>>()
        .run(async {
            let Options { careless } = argh::from_env();
            let folder = tempfile::tempdir()?;
            let account = folder.path().join("account");
            fs::write(&account, "0")?;

            let manager = Manager::start().await?;
            let lock = manager.lock().await?;
            let pool = Pool::new(PROCESSES).await?;

            let deposits = Deposits {
                account: account.clone(),
                lock: (!careless).then_some(lock),
            };
            let mut processes = HashSet::new();
            let mut total = 0;
            let mut outcomes = pool.imap_unordered(vec![Blocking(deposits); PROCESSES]);
            while let Some(outcome) = outcomes.next().await {
                let Deposited { process, sum } = outcome??;
                println!("process {process} paid in {sum}");
                processes.insert(process);
                total += sum;
            }
            pool.join().await?;

            let balance = balance(&account)?;
            let processes = processes.len();
            println!("{processes} processes paid in {total}, and the balance is {balance}");
            if balance != total {
                return Err(format!("the balance is off by {}", total.abs_diff(balance)).into());
            }
            Ok(())
        })
}
