//! A process with a pool of lockkeeper, and the tasks that it submits.

use crate::contest::Side;
use crate::ours;
use crate::party::{self, Failure};
use lockkeeper::{Pool, Task, builders::Program};
use lockkeeper_actors::codec::Blob;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The role of the process that has the pool.
pub(crate) const OWNER: &str = "pool-owner";

// The cycles of the owner. sync_manager.py does the same with Python's pool.
/// Many trivial tasks, each passed to a process separately.
pub(crate) const SINGLY: &str = "singly";
/// The same tasks in chunks of the size that Python's pool chooses.
pub(crate) const CHUNKED: &str = "chunked";
/// One task with a large argument.
pub(crate) const BULKY: &str = "bulky";

/// The number of trivial tasks that are submitted at once.
const TASKS: u64 = 10_000;

/// The bytes of a large argument.
const BULK: usize = 10_000_000;

/// A process with a pool.
pub(crate) const POOL: Side = Side {
    hosts: &[],
    worker: OWNER,
    patience: Duration::from_secs(5),
    ..ours::CLIENTS
};

/// The tasks of this executable.
pub(crate) fn program() -> Program {
    lockkeeper::program().task::<Negate>().task::<Measure>()
}

/// The trivial task.
#[derive(Serialize, Deserialize)]
struct Negate(i64);

impl Task for Negate {
    const NAME: &'static str = "negate";
    type Output = i64;

    async fn run(self) -> i64 {
        -self.0
    }
}

/// The task with a large argument.
#[derive(Serialize, Deserialize)]
struct Measure(Blob);

impl Task for Measure {
    const NAME: &'static str = "measure";
    type Output = usize;

    async fn run(self) -> usize {
        self.0.0.len()
    }
}

/// Runs the owner of a pool, which counts the tasks that were run.
pub(crate) async fn own(cycle: &str, processes: usize) -> Result<(), Failure> {
    match cycle {
        SINGLY => repeat_map(&Pool::new(processes).await?).await,
        CHUNKED => {
            let chunk = usize::try_from(TASKS)?.div_ceil(4 * processes);
            let pool = Pool::builder(processes).chunk_size(chunk).start().await?;
            repeat_map(&pool).await
        }
        BULKY => {
            let pool = Pool::new(processes).await?;
            let bulk = Blob::from(vec![7; BULK]);
            party::repeat(async || match pool.apply(Measure(bulk.clone())).await? {
                BULK => Ok(1),
                other => Err(format!("{other} of {BULK} bytes have arrived").into()),
            })
            .await
        }
        other => Err(format!("no owner of a pool repeats {other:?}").into()),
    }
}

async fn repeat_map(pool: &Pool) -> Result<(), Failure> {
    party::repeat(async || {
        let done = pool
            .try_map((0_i64..).take(usize::try_from(TASKS)?).map(Negate))
            .await?;
        Ok(u64::try_from(done.len())?)
    })
    .await
}
