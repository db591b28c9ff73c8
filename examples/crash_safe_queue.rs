//! Shows a queue that loses no item: a worker is killed while it processes an item, and another
//! worker processes it again.
//!
//!     cargo run --release --example crash_safe_queue
//!
//! Three processes take letters from a queue and copy them. The process with letter 4 is killed with
//! SIGKILL while it copies. The letter returns to the front of the queue. Another process takes it,
//! learns which process died with it, and copies it from the beginning. The main process waits until
//! every letter is done, and prints which process copied which letter:
//!
//!     letter  1 copied by process 4711, at attempt 1
//!     ...
//!     process 4713 died with letter 4
//!     letter  4 copied by process 4712, at attempt 2
//!     ...
//!     20 letters copied, each once, with 1 worker killed

use std::{collections::BTreeMap, error::Error, process, time::Duration};

use lockkeeper::{CallError, Manager, Pool, Queue, Task, Value};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

const LETTERS: u32 = 20;

/// The letter whose copyist is killed, once.
const FATAL: u32 = 4;

/// A letter that was copied.
#[derive(Debug, Serialize, Deserialize)]
struct Copied {
    letter: u32,
    attempt: u32,
    by: u32,
    /// The process that died with the letter before.
    heir_of: Option<u32>,
}

/// Copies letters until the queue is closed.
#[derive(Serialize, Deserialize)]
struct Copyist {
    letters: Queue<u32>,
    copies: Queue<Copied>,
    /// The process that copies the fatal letter.
    victim: Value<Option<u32>>,
}

impl Task for Copyist {
    const NAME: &'static str = "copyist";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        loop {
            let letter = match self.letters.get().await {
                Ok(letter) => letter,
                Err(error) if error.is_closed() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if *letter == FATAL && letter.attempts() == 1 {
                self.victim.set(Some(process::id())).await?;
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            let copied = Copied {
                letter: *letter,
                attempt: letter.attempts(),
                by: process::id(),
                heir_of: letter.abandoned().map(|mark| mark.holder.pid),
            };
            self.copies.put(copied).await?;
            // The queue may drop the item only now.
            letter.done().await?;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Copyist>().run(async {
        let manager = Manager::start().await?;
        let letters = manager.queue(100).await?;
        let copies = manager.unbounded_queue().await?;
        let victim = manager.value(None).await?;
        let pool = Pool::new(3).await?;
        let copyists: Vec<_> = (0..3)
            .map(|_| {
                pool.spawn(Copyist {
                    letters: letters.clone(),
                    copies: copies.clone(),
                    victim: victim.clone(),
                })
            })
            .collect();

        for letter in 1..=LETTERS {
            letters.put(letter).await?;
        }
        letters.close().await?;
        let killed = victim.wait_for(Option::is_some).await?.value;
        let killed = killed.ok_or("no process took the fatal letter")?;
        let process = Pid::from_raw(killed.try_into()?).ok_or("no process has the id 0")?;
        kill_process(process, Signal::KILL)?;
        letters.join().await?;

        let times = report(&copies, killed).await?;
        if !times.keys().copied().eq(1..=LETTERS) || times.values().any(|times| *times != 1) {
            return Err(format!("not each letter was copied once: {times:?}").into());
        }
        let mut deaths = 0;
        for copyist in copyists {
            match copyist.await {
                Ok(ended) => ended?,
                Err(error) if error.exit().is_some() && error.pid() == Some(killed) => deaths += 1,
                Err(error) => return Err(error.into()),
            }
        }
        pool.join().await?;
        println!("{LETTERS} letters copied, each once, with {deaths} worker killed");
        Ok(())
    })
}

/// Prints all copies, and counts those of each letter.
async fn report(copies: &Queue<Copied>, killed: u32) -> Result<BTreeMap<u32, u32>, Box<dyn Error>> {
    let mut times = BTreeMap::new();
    while let Some(copied) = copies.try_get().await? {
        let Copied {
            letter,
            attempt,
            by,
            heir_of,
        } = copied.done().await?;
        if let Some(dead) = heir_of {
            println!("process {dead} died with letter {letter}");
        }
        println!("letter {letter:2} copied by process {by}, at attempt {attempt}");
        let is_right = match letter {
            FATAL => attempt == 2 && heir_of == Some(killed) && by != killed,
            _ => attempt == 1 && heir_of.is_none(),
        };
        if !is_right {
            return Err("that is not what was to happen".into());
        }
        *times.entry(letter).or_insert(0) += 1;
    }
    Ok(times)
}
