//! Shows a graceful end: on Ctrl-C, or when a service manager sends SIGTERM.
//!
//!     cargo run --release --example graceful_end
//!     cargo run --release --example graceful_end -- --wait     # and press Ctrl-C
//!
//! Both signals reach all processes of a program. Workers ignore them; the main program drains its pool: tasks that run
//! end, a long task ends itself, and tasks that wait are given back. What still runs after five seconds, or at a second
//! signal, is ended. Without `--wait` the program sends the signal to itself and to its child processes. It prints:
//!
//!     asked to end after 12 pieces of work
//!     the watcher has ended itself, and has looked 47 times
//!     drained: 10 pieces of work are done, 2 did not run, and 0 were ended

use std::{env, error::Error, time::Duration};

use lockkeeper::{Pool, Task, errors::TaskFault, task::stopping};
use rustix::process::{Signal, getpid, kill_process_group, setpgid};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

const WORKERS: usize = 3;
/// How long what runs has to end.
const LIMIT: Duration = Duration::from_secs(5);
/// Without `--wait`, the number of pieces of work before the program sends the signal.
const DEMONSTRATION: usize = 12;

/// A piece of work that must not be interrupted.
#[derive(Serialize, Deserialize)]
struct Work;

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = ();

    async fn run(self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A task that runs until it is asked to end.
#[derive(Serialize, Deserialize)]
struct Watch;

impl Task for Watch {
    const NAME: &'static str = "watch";
    /// How often it has looked.
    type Output = u32;

    async fn run(self) -> u32 {
        let mut stopping = std::pin::pin!(stopping());
        let mut looks = 0;
        loop {
            tokio::select! {
                () = &mut stopping => return looks,
                () = tokio::time::sleep(Duration::from_millis(10)) => looks += 1,
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program()
        .task::<Work>()
        .task::<Watch>()
        .run(async {
            // From here on the signals no longer end this process.
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let is_demonstration = !env::args().any(|argument| argument == "--wait");
            if is_demonstration {
                // A new process group, so that the signal does not reach other processes of the shell.
                setpgid(None, None)?;
            }

            let pool = Pool::new(WORKERS).await?;
            let watch = pool.spawn(Watch);
            let mut arrivals = tokio::time::interval(Duration::from_millis(40));
            let mut work = Vec::new();
            loop {
                tokio::select! {
                    _ = interrupt.recv() => break,
                    _ = terminate.recv() => break,
                    _ = arrivals.tick() => work.push(pool.spawn(Work)),
                }
                if is_demonstration && work.len() == DEMONSTRATION {
                    kill_process_group(getpid(), Signal::INT)?;
                }
            }
            println!("asked to end after {} pieces of work", work.len());

            // At a second signal the time is over at once.
            let impatient = async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                pool.drain(Duration::ZERO).await
            };
            tokio::select! {
                drained = pool.drain(LIMIT) => drained?,
                drained = impatient => drained?,
            }

            match watch.await {
                Ok(looks) => {
                    println!("the watcher has ended itself, and has looked {looks} times");
                }
                Err(error) => println!("the watcher: {error}"),
            }
            let (mut done, mut not_run, mut ended) = (0, 0, 0);
            for piece in work {
                match piece.await {
                    Ok(()) => done += 1,
                    Err(error) => match error.fault() {
                        // A service would keep it for its next start.
                        Some(TaskFault::NotRun) => not_run += 1,
                        Some(TaskFault::Terminated) => ended += 1,
                        _ => return Err(error.into()),
                    },
                }
            }
            println!("drained: {done} pieces of work are done, {not_run} did not run, and {ended} were ended");
            Ok(())
        })
}
