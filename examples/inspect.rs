//! Shows `inspect`: the holders and waiters of a manager's objects while a fan-out runs.
//!
//!     cargo run --release --example inspect
//!
//! Six workers share three seats and one pen. The main process prints the manager's report twice:
//! the holders, the waiters in the order of their grants, and how long calls have waited:
//!
//!     NAME   KIND       STATE                HELD  WAITING  WAITED  P50 / P99
//!     pen    lock       held                 1     2        3       5.2ms / 10.4ms
//!         holds process 4714 (inspect, "worker") for 3.1ms, fence 1795384507341834512
//!         waits process 4712 (inspect, "worker") for 1.9ms
//!         ...
//!     seats  semaphore  0 of 3 permits free  3     3        4       10.0ms / 18.9ms
//!         ...
//!     12 essays written, 17 waits for the pen, the longest of 10.8ms

use std::{error::Error, time::Duration};

use lockkeeper::{CallError, Lock, Manager, Pool, Semaphore, Task};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

const WORKERS: usize = 6;
const SEATS: u32 = 3;

/// Writes an essay: acquires a seat, and then the pen three times.
#[derive(Serialize, Deserialize)]
struct Essay {
    seats: Semaphore,
    pen: Lock,
}

impl Task for Essay {
    const NAME: &'static str = "essay";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        let address = &self.pen.token().address;
        let _manager = Manager::client().label("worker").connect(address).await?;
        let _seat = self.seats.acquire().await?;
        for _ in 0..3 {
            let _pen = self.pen.acquire().await?;
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Essay>().run(async {
        let manager = Manager::start().await?;
        let pen = manager.named("pen").lock().await?;
        let seats = manager.named("seats").semaphore(SEATS).await?;
        let pool = Pool::new(WORKERS).await?;
        let essays = (0..2 * WORKERS).map(|_| Essay {
            seats: seats.clone(),
            pen: pen.clone(),
        });
        let writing = pool.try_map(essays);
        let looking = async {
            // Waits until a worker had to wait for a seat.
            while seats.info().await?.stats.is_none() {
                sleep(Duration::from_millis(1)).await;
            }
            for _ in 0..2 {
                println!("{}", manager.inspect().await?);
                sleep(Duration::from_millis(20)).await;
            }
            Ok::<(), CallError>(())
        };
        let (written, looked) = futures::join!(writing, looking);
        looked?;
        let mut essays = 0;
        for outcome in written? {
            outcome?;
            essays += 1;
        }
        let stats = pen
            .info()
            .await?
            .stats
            .ok_or("no call waited for the pen")?;
        let (waits, longest) = (stats.waits, stats.waited.max);
        println!(
            "{essays} essays written, {waits} waits for the pen, the longest of {longest:.1?}"
        );
        Ok(())
    })
}
