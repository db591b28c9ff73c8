//! Shows a graceful shutdown: on Ctrl-C, or when a service manager sends SIGTERM.
//!
//!     cargo run --release --example graceful_end
//!     cargo run --release --example graceful_end -- --wait     # and press Ctrl-C
//!
//! Both signals reach all processes of a program. Workers and spawned managers ignore them; the main
//! program stops submitting work, closes its pool and joins it. Without `--wait` the program sends the
//! signal to itself and to its child processes. It prints:
//!
//!     asked to end after 12 pieces of work: 2 are running, 1 wait
//!     drained: 12 pieces were submitted, and 12 are finished

use std::{env, error::Error, time::Duration};

use lockkeeper::{CallError, Manager, Pool, Task, Value};
use rustix::process::{Signal, getpid, kill_process_group, setpgid};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

const WORKERS: usize = 2;
/// Without `--wait`, the number of pieces of work before the program sends the signal.
const DEMONSTRATION: usize = 12;

/// A piece of work that must not be interrupted.
#[derive(Serialize, Deserialize)]
struct Work {
    finished: Value<u64>,
}

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.finished.fetch_add(1).await?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Work>().run(async {
        // From here on the signals no longer end this process.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let is_demonstration = !env::args().any(|argument| argument == "--wait");
        if is_demonstration {
            // A new process group, so that the signal does not reach other processes of the shell.
            setpgid(None, None)?;
        }

        let manager = Manager::spawn().await?;
        let finished = manager.value(0).await?;
        let pool = Pool::new(WORKERS).await?;
        let mut arrivals = tokio::time::interval(Duration::from_millis(40));
        let mut work = Vec::new();
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = arrivals.tick() => {
                    let finished = finished.clone();
                    work.push(pool.spawn(Work { finished }));
                }
            }
            if is_demonstration && work.len() == DEMONSTRATION {
                kill_process_group(getpid(), Signal::INT)?;
            }
        }
        let status = pool.status().await?;
        let (running, waiting) = (status.running, status.waiting);
        println!(
            "asked to end after {} pieces of work: {running} are running, {waiting} wait",
            work.len()
        );

        let begun = work.len();
        pool.close().await?;
        for piece in work {
            piece.await??;
        }
        pool.join().await?;
        let finished = finished.get().await?;
        println!("drained: {begun} pieces were submitted, and {finished} are finished");
        if finished != u64::try_from(begun)? {
            return Err("work was lost".into());
        }
        manager.shutdown().await;
        Ok(())
    })
}
