//! Tasks above the limit of a pool wait in the submitting process, and none is lost.

use futures::{StreamExt, TryStreamExt};
use lockkeeper::{
    CallError, Manager, Pool, Semaphore, Task,
    builders::Program,
    errors::{Fault, TaskCause},
};
use lockkeeper_test_support::until;
use serde::{Deserialize, Serialize};

use crate::run;

const MEGABYTE: usize = 1 << 20;

/// Returns a number after it has consumed a permit.
#[derive(Debug, Serialize, Deserialize)]
struct Heavy {
    number: u64,
    permits: Semaphore,
    ballast: String,
}

impl Task for Heavy {
    const NAME: &'static str = "pool::room::heavy";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        self.permits.consume(1).await?;
        Ok(self.number)
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Heavy>()
}

#[test]
fn tasks_above_the_limit_of_a_pool_wait_in_order_and_all_run() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let permits = manager.semaphore(0).await.unwrap();
        let builder = Pool::builder(2).stored_bytes(5 * MEGABYTE);
        let pool = builder.start().await.unwrap();
        let heavy = |number, megabytes| Heavy {
            number,
            permits: permits.clone(),
            ballast: "x".repeat(megabytes * MEGABYTE),
        };
        let handles: Vec<_> = (0..12).map(|number| pool.spawn(heavy(number, 1))).collect();
        // Half of the limit is for single tasks: for two of them, which run.
        let running = async || pool.status().await.unwrap().running == 2;
        until("two tasks run", running).await;
        assert_eq!(pool.status().await.unwrap().waiting, 0);
        permits.add_permits(12).await.unwrap();
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.await, Ok(Ok(number)));
        }
        // A stream has the other half, and continues beside a single task.
        permits.add_permits(13).await.unwrap();
        let mut outcomes = pool.imap((0..12).map(|number| heavy(number, 1)));
        assert_eq!(outcomes.next().await, Some(Ok(Ok(0))));
        assert_eq!(pool.apply(heavy(99, 2)).await, Ok(Ok(99)));
        let rest: Vec<_> = outcomes.try_collect().await.unwrap();
        assert_eq!(rest, (1..12).map(Ok).collect::<Vec<_>>());
        let limit = Fault::limit("bytes of a task of this pool", 5 * MEGABYTE / 2);
        let refused = TaskCause::Call(CallError::Fault(limit));
        let error = pool.apply(heavy(0, 3)).await.unwrap_err();
        assert_eq!(error.cause(), &refused);
        let mut outcomes = Box::pin(pool.imap([heavy(0, 3)]));
        let error = outcomes.next().await.unwrap().unwrap_err();
        assert_eq!((error.cause(), error.index()), (&refused, Some(0)));
        pool.join().await.unwrap();
    });
}

#[test]
fn tasks_that_wait_for_room_run_before_a_pool_closes_and_cancelled_ones_never() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let permits = manager.semaphore(0).await.unwrap();
        let builder = Pool::builder(1).stored_bytes(3 * MEGABYTE);
        let pool = builder.start().await.unwrap();
        let heavy = |number| Heavy {
            number,
            permits: permits.clone(),
            ballast: "x".repeat(MEGABYTE),
        };
        let [first, second, third] = [0, 1, 2].map(|number| pool.spawn(heavy(number)));
        second.cancel();
        permits.add_permits(9).await.unwrap();
        pool.join().await.unwrap();
        assert_eq!(first.await, Ok(Ok(0)));
        assert_eq!(third.await, Ok(Ok(2)));
        assert_eq!(permits.status().await.unwrap().available, 7);
    });
}
