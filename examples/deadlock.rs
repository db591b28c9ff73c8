//! Shows a deadlock that is found and ended: two processes that take two locks in opposite orders.
//!
//!     cargo run --release --example deadlock
//!
//! One worker moves money from north to south, the other one from south to north. Each takes the
//! lock of the account that it takes from, waits until both have done so, and then wants the other
//! lock. The manager sees who waits for whom and fails the call of the one that began to wait last,
//! which gives back its lock and begins anew. It prints the circle, which is one long line, and
//! what came of it:
//!
//!     deadlock of 2: process 4712 (deadlock, "south to north"), caller 0 holds lock "south" for
//!     100.9ms and waits for lock "north" for 100.6ms, held by process 4711 (deadlock, "north to
//!     south"), caller 0; process 4711 (deadlock, "north to south"), caller 0 holds lock "north" ..
//!     north to south: done at attempt 1
//!     south to north: done at attempt 2

use std::{error::Error, time::Duration};

use lockkeeper::{Barrier, CallError, Lock, Manager, Pool, Task, deadlock::Deadlocks};
use serde::{Deserialize, Serialize};

/// Moves money from one account to another, with both locked.
#[derive(Serialize, Deserialize)]
struct Transfer {
    label: String,
    from: Lock,
    to: Lock,
    /// Where both meet that have taken their first lock, so that it goes wrong for sure.
    halfway: Barrier,
}

impl Task for Transfer {
    const NAME: &'static str = "transfer";
    /// At which attempt it was done, and what went wrong before.
    type Output = Result<(u32, Vec<String>), CallError>;

    async fn run(self) -> Self::Output {
        // The proxies have not connected yet.
        let address = self.from.token().address();
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
                // The first lock is given back here, and the other one can go on.
                Err(CallError::Deadlock(deadlock)) => troubles.push(deadlock.to_string()),
                Err(error) => return Err(error),
            }
        }
        unreachable!("it tries for as long as it takes")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Transfer>().run(async {
        let deadlocks = Deadlocks::new().fail().every(Duration::from_millis(50));
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
        for outcome in pool.map(transfers).await? {
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
            return Err("nobody was in the other's way".into());
        }
        Ok(())
    })
}
