//! Shows a process pool that runs a fan-out of tasks, while a semaphore limits how many are inside
//! a section at once.
//!
//!     cargo run --release --example task_fanout -- --tasks 10 --workers 4 --permits 2 --seed 7
//!
//! The program prints one line per task, with the random number of seconds that the task slept, and
//! last the largest number of tasks inside at once. The tasks count this in a file, which each
//! locks and changes:
//!
//!     task  3 drew 0.062 in worker 4711
//!     ...
//!     10 tasks, 4 workers, at most 2 inside at once

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use argh::FromArgs;
use fastrand::Rng;
use futures::StreamExt;
use lockkeeper::{CallError, Manager, Pool, Semaphore, Task};
use serde::{Deserialize, Serialize};

/// Runs tasks in a pool of processes while a semaphore lets only some of them in.
#[derive(FromArgs)]
struct Options {
    /// how many tasks there are (10)
    #[argh(option, default = "10")]
    tasks: u64,
    /// how many processes run them (4)
    #[argh(option, default = "4")]
    workers: usize,
    /// how many tasks may be inside at once (2)
    #[argh(option, default = "NonZeroU32::MIN.saturating_add(1)")]
    permits: NonZeroU32,
    /// where the random numbers start (7)
    #[argh(option, default = "7")]
    seed: u64,
}

/// Draws a number and sleeps for that many seconds, with a permit.
#[derive(Serialize, Deserialize)]
struct Draw {
    number: u64,
    seed: u64,
    permits: Semaphore,
    witness: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Drawn {
    number: u64,
    value: f64,
    worker: u32,
    inside: u32,
}

impl Task for Draw {
    const NAME: &'static str = "draw";
    type Output = Result<Drawn, CallError>;

    async fn run(self) -> Self::Output {
        let permit = self.permits.acquire().await?;
        let inside = count(&self.witness, 1).expect("the witness is a file of this example");
        let value = Rng::with_seed(self.seed ^ self.number).f64() / 2.0;
        tokio::time::sleep(Duration::from_secs_f64(value)).await;
        count(&self.witness, -1).expect("the witness is a file of this example");
        drop(permit);
        Ok(Drawn {
            number: self.number,
            value,
            worker: std::process::id(),
            inside,
        })
    }
}

/// Changes the number in a file that all processes share, and returns it. It counts the tasks
/// inside without relying on the semaphore.
fn count(witness: &Path, change: i32) -> io::Result<u32> {
    let mut file: File = OpenOptions::new().read(true).write(true).open(witness)?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let now = text
        .trim()
        .parse::<u32>()
        .unwrap_or(0)
        .saturating_add_signed(change);
    file.rewind()?;
    file.set_len(0)?;
    write!(file, "{now}")?;
    Ok(now)
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Draw>().run(async {
        let options: Options = argh::from_env();
        let folder = tempfile::tempdir()?;
        let witness = folder.path().join("inside");
        File::create(&witness)?;

        let manager = Manager::start().await?;
        let permits = manager.semaphore(options.permits.get()).await?;
        let pool = Pool::new(options.workers).await?;
        let draws = (0..options.tasks).map(|number| Draw {
            number,
            seed: options.seed,
            permits: permits.clone(),
            witness: witness.clone(),
        });
        let mut most = 0;
        let mut outcomes = pool.imap_unordered(draws);
        while let Some((_, outcome)) = outcomes.next().await {
            let Drawn {
                number,
                value,
                worker,
                inside,
            } = outcome??;
            most = most.max(inside);
            println!("task {number:>2} drew {value:.3} in worker {worker}");
        }
        pool.join().await?;
        let Options { tasks, workers, .. } = options;
        println!("{tasks} tasks, {workers} workers, at most {most} inside at once");
        if most > options.permits.get() {
            return Err("more tasks were inside than there are permits".into());
        }
        Ok(())
    })
}
