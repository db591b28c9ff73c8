//! Shows a lock whose holder is killed: the next waiter gets it at once, and learns of the death.
//!
//!     cargo run --release --example killed_holder
//!
//! Five processes, one after the other, acquire the lock, write half a sentence, and are killed
//! with SIGKILL. The main process, which waits for the lock each time, finishes the sentence and
//! marks the state as consistent. It prints one line per kill, and last the longest time from a
//! kill to the next grant:
//!
//!     process 4711 held it for 1.4ms under fence 1795384507341834506: next after 573 µs
//!     ...
//!     5 holders killed, and the next in line had the lock within 746 µs

use std::{
    error::Error,
    fs,
    future::pending,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lockkeeper::{CallError, Lock, LockGuard, Manager, Pool, Semaphore, Task, guards::Abandoned};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

const KILLS: usize = 5;

/// Acquires the lock, reports this, and never releases it.
#[derive(Serialize, Deserialize)]
struct Write {
    lock: Lock,
    page: PathBuf,
    /// A signal between processes: it has no permits except those that are added.
    inside: Semaphore,
}

impl Task for Write {
    const NAME: &'static str = "write";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        let _guard = self.lock.acquire().await?;
        fs::write(&self.page, "half a").expect("the page is a file of this example");
        self.inside.add_permits(1).await?;
        pending().await
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Write>().run(async {
        let folder = tempfile::tempdir()?;
        let page = folder.path().join("page");
        let manager = Manager::start().await?;
        let lock = manager.lock().await?;
        let inside = manager.semaphore(0).await?;
        let pool = Pool::new(1).await?;

        let mut longest = Duration::ZERO;
        for _ in 0..KILLS {
            let doomed = pool.spawn(Write {
                lock: lock.clone(),
                page: page.clone(),
                inside: inside.clone(),
            });
            inside.consume(1).await?;
            let next = tokio::spawn(lock.acquire());
            // The acquire must wait before the kill.
            while lock.status().await?.waiting == 0 {}

            let holder = *pool.pids().await.first().ok_or("there is no worker")?;
            let killed = Instant::now();
            kill(holder)?;
            let guard = next.await??;
            let waited = killed.elapsed();

            longest = longest.max(waited);
            take_over(guard, holder, &page, waited)?;
            // Later guards are unmarked, so a strict program accepts them.
            lock.acquire().await?.strict()?.release().await?;
            match doomed.await {
                Err(error) if error.exit().is_some() && error.pid() == Some(holder) => {}
                outcome => return Err(format!("the task was not killed: {outcome:?}").into()),
            }
        }
        pool.join().await?;

        let longest = longest.as_micros();
        println!("{KILLS} holders killed, and the next in line had the lock within {longest} µs");
        if longest > 1_000_000 {
            return Err("that was not at once".into());
        }
        Ok(())
    })
}

fn kill(process: u32) -> Result<(), Box<dyn Error>> {
    let process = Pid::from_raw(process.try_into()?).ok_or("no process has the id 0")?;
    Ok(kill_process(process, Signal::KILL)?)
}

/// Repairs the state after a holder has died.
fn take_over(
    mut guard: LockGuard,
    holder: u32,
    page: &Path,
    waited: Duration,
) -> Result<(), Box<dyn Error>> {
    let Abandoned {
        holder: dead,
        held,
        fence,
        ..
    } = guard
        .abandoned()
        .ok_or("the guard does not report that the holder died")?;
    let pid = dead.pid;
    let waited = waited.as_micros();
    println!("process {pid} held it for {held:.1?} under fence {fence}: next after {waited} µs");
    if pid != holder || *fence >= guard.fence() {
        return Err("that is not the holder that died".into());
    }
    let half = fs::read_to_string(page)?;
    fs::write(page, half + " sentence")?;
    guard.mark_consistent();
    Ok(())
}
