//! Shows a deadlock that the manager detects and resolves: two processes take two locks in opposite
//! orders.
//!
//!     cargo run --release --example deadlock
//!
//! One worker moves money from north to south, the other one from south to north. Each locks the
//! account that it withdraws from, waits until both have done so, and then acquires the other lock.
//! The manager detects the cycle and fails the call that began to wait last. That worker releases
//! its lock and starts again. The program prints the cycle, which is one long line, and the
//! results:
//!
//!     deadlock of 2: process 4712 (deadlock, "south to north"), caller 0 holds lock "south" for
//!     100.9ms and waits for lock "north" for 100.6ms, held by process 4711 (deadlock, "north to
//!     south"), caller 0; process 4711 (deadlock, "north to south"), caller 0 holds lock "north" ..
//!     north to south: done at attempt 1
//!     south to north: done at attempt 2

use std::{error::Error, time::Duration};

use lockkeeper::{Barrier, CallError, Lock, Manager, Pool, Task, deadlock::DeadlockPolicy};
use serde::{Deserialize, Serialize};

/// Moves money from one account to another, with both locked.
#[derive(Serialize, Deserialize)]
struct Transfer {
    label: String,
    from: Lock,
    to: Lock,
    /// Both workers wait here with their first lock, so that the deadlock always happens.
    halfway: Barrier,
}

impl Task for Transfer {
    const NAME: &'static str = "transfer";
    /// The successful attempt, and the deadlocks before it.
    type Output = Result<(u32, Vec<String>), CallError>;

    async fn run(self) -> Self::Output {
        // This comes before the first call: the proxies have not connected yet.
        let address = &self.from.token().address;
        let client = Manager::client().label(&self.label);
        let _manager = client.connect(address).await?;
        let mut troubles = Vec::new();
        for attempt in 1.. {
            let from = self.from.acquire().await?;
            if attempt == 1 {
                self.halfway.wait().await?;
            }
            match self.to.acquire().await {
                Ok(to) => {
                    drop((to, from));
                    return Ok((attempt, troubles));
                }
                // The end of the block released the first lock, so the other worker can continue.
                Err(CallError::Deadlock(deadlock)) => troubles.push(deadlock.to_string()),
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends only with a return")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Transfer>().run(async {
        let deadlocks = DeadlockPolicy::new()
            .fail()
            .every(Duration::from_millis(50));
        let manager = Manager::builder().deadlocks(deadlocks).start().await?;
        let north = manager.named("north").lock().await?;
        let south = manager.named("south").lock().await?;
        let halfway = manager.barrier(2).await?;
        let pool = Pool::new(2).await?;
        let transfer = |label: &str, from: &Lock, to: &Lock| Transfer {
            label: label.to_owned(),
            from: from.clone(),
            to: to.clone(),
            halfway: halfway.clone(),
        };
        let labels = ["north to south", "south to north"];
        let transfers = [
            transfer(labels[0], &north, &south),
            transfer(labels[1], &south, &north),
        ];
        let mut outcomes = Vec::new();
        for outcome in pool.try_map(transfers).await? {
            outcomes.push(outcome?);
        }
        for trouble in outcomes.iter().flat_map(|(_, troubles)| troubles) {
            println!("{trouble}");
        }
        for (label, (attempt, _)) in labels.iter().zip(&outcomes) {
            println!("{label}: done at attempt {attempt}");
        }
        let attempts: u32 = outcomes.iter().map(|(attempt, _)| attempt).sum();
        if attempts < 3 {
            return Err("there was no deadlock".into());
        }
        Ok(())
    })
}
