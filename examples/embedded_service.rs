//! Shows a service (an actor in the main process) that shares a semaphore with child processes.
//!
//!     cargo run --release --example embedded_service
//!
//! An oven holds two loaves at a time. The baker, an actor in this process, bakes six loaves, and helpers in
//! three child processes bake six more. The program prints one line per loaf, and last the largest number of
//! loaves in the oven at once, computed from the times:
//!
//!     the baker, process 4711, baked for 51ms
//!     a helper, process 4715, baked for 50ms
//!     ...
//!     12 loaves by 4 processes, at most 2 in the oven at once

use std::{
    collections::HashSet,
    error::Error,
    process,
    time::{Duration, SystemTime},
};

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use futures::{StreamExt, TryStreamExt, stream};
use lockkeeper::{CallError, Manager, Pool, Semaphore, Task};
use serde::{Deserialize, Serialize};

const ROOM: u32 = 2;
const LOAVES: usize = 6;
const HELPERS: usize = 3;

/// The time that a loaf was in the oven, and the process that baked it.
#[derive(Serialize, Deserialize)]
struct Loaf {
    process: u32,
    from: SystemTime,
    until: SystemTime,
}

async fn bake(oven: Semaphore) -> Result<Loaf, CallError> {
    let _room = oven.acquire().await?;
    let from = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(Loaf {
        process: process::id(),
        from,
        until: SystemTime::now(),
    })
}

/// The service.
struct Baker {
    oven: Semaphore,
}

#[derive(Message)]
#[rtype(result = "Result<Loaf, CallError>")]
struct Order;

impl Actor for Baker {
    type Context = Context<Self>;
}

impl Handler<Order> for Baker {
    type Result = ResponseFuture<Result<Loaf, CallError>>;

    /// Bakes a loaf. The actor handles other orders while it bakes or waits for the oven.
    fn handle(&mut self, _: Order, _: &mut Context<Self>) -> Self::Result {
        Box::pin(bake(self.oven.clone()))
    }
}

/// The task of a helper.
#[derive(Clone, Serialize, Deserialize)]
struct Help {
    oven: Semaphore,
}

impl Task for Help {
    const NAME: &'static str = "help";
    type Output = Result<Loaf, CallError>;

    async fn run(self) -> Self::Output {
        bake(self.oven).await
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A program with its own runtime calls this before it starts the runtime.
    lockkeeper::program().task::<Help>().init();
    actix_rt::System::new().block_on(open())
}

async fn open() -> Result<(), Box<dyn Error>> {
    let manager = Manager::start().await?;
    let oven = manager.semaphore(ROOM).await?;
    let baker = Baker { oven: oven.clone() }.start();
    let pool = Pool::new(HELPERS).await?;

    let ordered = stream::iter((0..LOAVES).map(|_| baker.send(Order)))
        .buffer_unordered(HELPERS)
        .map(|answer| Ok::<Loaf, Box<dyn Error>>(answer??));
    let helped = pool
        .imap_unordered(vec![Help { oven }; LOAVES])
        .map(|(_, outcome)| Ok(outcome??));
    let loaves: Vec<Loaf> = stream::select(ordered, helped)
        .inspect_ok(Loaf::show)
        .try_collect()
        .await?;
    pool.join().await?;

    let bakers = loaves.iter().map(|loaf| loaf.process);
    let (count, bakers) = (loaves.len(), bakers.collect::<HashSet<_>>().len());
    let most = most_at_once(&loaves);
    println!("{count} loaves by {bakers} processes, at most {most} in the oven at once");
    if most > ROOM as usize {
        return Err("the oven was too full".into());
    }
    Ok(())
}

impl Loaf {
    fn show(&self) {
        let time = self.until.duration_since(self.from).unwrap_or_default();
        let who = if self.process == process::id() {
            "the baker"
        } else {
            "a helper"
        };
        println!("{who}, process {}, baked for {time:.0?}", self.process);
    }
}

/// Returns the largest number of loaves in the oven at once: the maximum over the times at which
/// one was put in.
fn most_at_once(loaves: &[Loaf]) -> usize {
    let inside = |at| {
        let is_inside = |loaf: &&Loaf| loaf.from <= at && at < loaf.until;
        loaves.iter().filter(is_inside).count()
    };
    loaves
        .iter()
        .map(|loaf| inside(loaf.from))
        .max()
        .unwrap_or(0)
}
