//! Shows events: a start signal that wakes all workers at once, and a stop signal that lets each
//! finish its work.
//!
//!     cargo run --release --example start_and_stop
//!
//! Four workers wait for the start event. Then each does pieces of work, and checks the stop event
//! between two pieces. The program prints one line per worker:
//!
//!     worker 0: began 87 µs after the start, did 160 pieces
//!     ...
//!     4 workers, 641 pieces, none begun before the start, and all have stopped

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use lockkeeper::{CallError, Event, Manager, Pool, Semaphore, Task};
use serde::{Deserialize, Serialize};

const WORKERS: usize = 4;
const SHIFT: Duration = Duration::from_millis(500);
const PIECE: Duration = Duration::from_millis(2);

/// Works from the start to the stop.
#[derive(Serialize, Deserialize)]
struct Work {
    ready: Semaphore,
    start: Event,
    stop: Event,
}

/// When a worker began, each of its pieces, and when it stopped.
#[derive(Serialize, Deserialize)]
struct Report {
    began: SystemTime,
    pieces: Vec<SystemTime>,
    stopped: SystemTime,
}

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = Result<Report, CallError>;

    async fn run(self) -> Self::Output {
        self.ready.add_permits(1).await?;
        self.start.wait().await?;
        let began = SystemTime::now();
        let mut pieces = Vec::new();
        while !self.stop.is_set().await? {
            pieces.push(SystemTime::now());
            tokio::time::sleep(PIECE).await;
        }
        Ok(Report {
            began,
            pieces,
            stopped: SystemTime::now(),
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Work>().run(async {
        let manager = Manager::start().await?;
        let (start, stop) = (manager.event().await?, manager.event().await?);
        let ready = manager.semaphore(0).await?;
        let pool = Pool::new(WORKERS).await?;
        let shift: Vec<_> = (0..WORKERS)
            .map(|_| {
                pool.spawn(Work {
                    ready: ready.clone(),
                    start: start.clone(),
                    stop: stop.clone(),
                })
            })
            .collect();

        // Waits until all workers are ready.
        ready.consume(WORKERS.try_into()?).await?;
        let started = SystemTime::now();
        start.set().await?;
        tokio::time::sleep(SHIFT).await;
        stop.set().await?;
        let stopped = SystemTime::now();

        let mut total = 0;
        for (worker, report) in shift.into_iter().enumerate() {
            let report = report.await??;
            total += report.pieces.len();
            print(worker, started, &report)?;
            let began_after_stop = report.pieces.iter().filter(|piece| **piece > stopped);
            // A worker that checked just before the stop may begin one more piece after it.
            if report.began < started || report.stopped < started || began_after_stop.count() > 1 {
                return Err(format!("worker {worker} did not keep to the signals").into());
            }
        }
        pool.join().await?;
        println!(
            "{WORKERS} workers, {total} pieces, none begun before the start, and all have stopped"
        );
        Ok(())
    })
}

fn print(worker: usize, started: SystemTime, report: &Report) -> Result<(), Box<dyn Error>> {
    let after = report.began.duration_since(started)?.as_micros();
    let pieces = report.pieces.len();
    println!("worker {worker}: began {after} µs after the start, did {pieces} pieces");
    Ok(())
}
