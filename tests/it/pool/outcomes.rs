//! Outcomes of streams that are not read take no more than their part of what the pool keeps.

use std::{fs, pin::Pin, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use lockkeeper::{
    Barrier, CallError, Manager, Pool, Semaphore, Task, TaskError, builders::Program,
};
use lockkeeper_test_support::{in_own_process, until};
use serde::{Deserialize, Serialize};

use crate::run;

const MEGABYTE: usize = 1 << 20;

/// What the pools of these tests keep. A quarter is for outcomes, and half of that for the first stream.
const STORED: usize = 64 * MEGABYTE;

/// The part of the first stream, in outcomes of 1 MiB.
const PART: u64 = 8;

const WORKERS: usize = 2;

/// Gives its number and as many bytes as it is told. Each run adds a permit.
#[derive(Debug, Serialize, Deserialize)]
struct Bulk {
    number: u64,
    bytes: usize,
    ran: Semaphore,
}

impl Task for Bulk {
    const NAME: &'static str = "pool::outcomes::bulk";
    type Output = Result<(u64, String), CallError>;

    async fn run(self) -> Self::Output {
        self.ran.add_permits(1).await?;
        Ok((self.number, "x".repeat(self.bytes)))
    }
}

/// Waits until another task has arrived, which must run at the same time.
#[derive(Debug, Serialize, Deserialize)]
struct Meeting(Barrier);

impl Task for Meeting {
    const NAME: &'static str = "pool::outcomes::meeting";
    type Output = Result<(), CallError>;

    async fn run(self) -> Self::Output {
        self.0.wait().timeout(LONG).await.map(drop)
    }
}

/// A task that waits as long waits for ever.
const LONG: Duration = Duration::from_secs(30);

pub(crate) fn register(program: Program) -> Program {
    program.task::<Bulk>().task::<Meeting>()
}

type Outcomes = Pin<Box<dyn Stream<Item = Result<u64, TaskError>>>>;

/// A pool, with the count of the tasks that have run.
struct Bench {
    pool: Pool,
    ran: Semaphore,
    manager: Manager,
}

impl Bench {
    async fn new(chunk: usize) -> Self {
        let manager = Manager::start().await.unwrap();
        let builder = Pool::builder(WORKERS)
            .chunk_size(chunk)
            .stored_bytes(STORED);
        Self {
            pool: builder.start().await.unwrap(),
            ran: manager.semaphore(0).await.unwrap(),
            manager,
        }
    }

    /// The numbers of outcomes, whose bytes are checked and dropped.
    fn stream(&self, is_ordered: bool, bytes: Vec<usize>) -> Outcomes {
        let ran = self.ran.clone();
        let sizes = bytes.clone();
        let tasks = (0..).zip(bytes).map(move |(number, bytes)| Bulk {
            number,
            bytes,
            ran: ran.clone(),
        });
        let number = move |outcome: Result<(u64, String), CallError>| {
            let (number, text) = outcome.unwrap();
            assert_eq!(text.len(), sizes[usize::try_from(number).unwrap()]);
            number
        };
        if is_ordered {
            Box::pin(self.pool.imap(tasks).map_ok(number))
        } else {
            let outcomes = self.pool.imap_unordered(tasks);
            Box::pin(outcomes.map(move |(_, outcome)| outcome.map(&number)))
        }
    }

    async fn ran(&self) -> u64 {
        self.ran.status().await.unwrap().available
    }

    /// Waits until the workers have nothing to do, although tasks wait.
    async fn is_paused(&self) {
        let is_paused = async || {
            let status = self.pool.status().await.unwrap();
            status.idle == u64::try_from(WORKERS).unwrap() && status.running == 0
        };
        until("the workers have paused", is_paused).await;
    }
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

#[test]
fn stream_that_is_read_slowly_keeps_no_more_outcomes_than_its_part() {
    for (chunk, is_ordered) in [(1, true), (1, false), (2, true), (2, false)] {
        run(async move {
            let bench = Bench::new(chunk).await;
            let count = 60;
            let mut outcomes = bench.stream(is_ordered, vec![MEGABYTE; count]);
            let mut read = vec![outcomes.next().await.unwrap().unwrap()];
            bench.is_paused().await;
            // What reaches the limit, what the workers run meanwhile, and the rest of a chunk that is read.
            let chunk = u64::try_from(chunk).unwrap();
            let most = PART + (u64::try_from(WORKERS).unwrap() + 1) * chunk;
            let kept = bench.ran().await - 1;
            assert!((PART - chunk..=most).contains(&kept), "{kept}");
            while let Some(outcome) = outcomes.next().await {
                read.push(outcome.unwrap());
                let kept = bench.ran().await - u64::try_from(read.len()).unwrap();
                assert!(kept <= most, "{kept} outcomes are kept");
            }
            if !is_ordered {
                read = sorted(read);
            }
            assert!((0..60).eq(read));
            bench.pool.join().await.unwrap();
        });
    }
}

#[test]
fn outcomes_that_become_large_suddenly_keep_to_the_limit() {
    run(async {
        let bench = Bench::new(1).await;
        let sizes = [vec![10; 400], vec![MEGABYTE; 40], vec![10; 60]].concat();
        let count = sizes.len();
        let mut outcomes = bench.stream(true, sizes);
        for number in 0..400 {
            assert_eq!(outcomes.next().await, Some(Ok(number)));
        }
        bench.is_paused().await;
        let kept = bench.ran().await - 400;
        assert!((PART - 2..=PART + 2).contains(&kept), "{kept}");
        let rest: Vec<u64> = outcomes.try_collect().await.unwrap();
        assert_eq!(rest.len(), count - 400);
        bench.pool.join().await.unwrap();
    });
}

#[test]
fn stream_that_is_not_read_leaves_room_for_others_and_gives_its_part_back() {
    run(async {
        let bench = Bench::new(1).await;
        let sizes = || vec![MEGABYTE; 40];
        let mut unread = Vec::new();
        // Each part is half of what is left. The fifth stream keeps less than an outcome, and is served one by one.
        for part in [8_u64, 4, 2, 1, 1] {
            let before = bench.ran().await;
            let mut outcomes = bench.stream(true, sizes());
            assert_eq!(outcomes.next().await, Some(Ok(0)));
            bench.is_paused().await;
            let kept = bench.ran().await - before - 1;
            assert!((part - 1..=part + 2).contains(&kept), "{kept} of {part}");
            unread.push(outcomes);
        }
        let all: Vec<u64> = bench.stream(false, sizes()).try_collect().await.unwrap();
        assert!((0..40).eq(sorted(all)));
        let number = Bulk {
            number: 7,
            bytes: MEGABYTE,
            ran: bench.ran.clone(),
        };
        assert_eq!(bench.pool.apply(number).await.unwrap().unwrap().0, 7);
        // The first stream goes on where it was, and the others give back their parts.
        unread.truncate(1);
        let mut first = unread.remove(0);
        assert_eq!(first.next().await, Some(Ok(1)));
        drop(first);
        // The tasks that were running then end by themselves.
        bench.is_paused().await;
        let before = bench.ran().await;
        let mut again = bench.stream(true, sizes());
        assert_eq!(again.next().await, Some(Ok(0)));
        bench.is_paused().await;
        let kept = bench.ran().await - before - 1;
        assert!((PART - 1..=PART + 2).contains(&kept), "{kept}");
        // A pool that is joined runs the tasks that were submitted, and does not wait for their reader.
        bench.pool.join().await.unwrap();
        let ran = bench.ran.status().await.unwrap().available;
        assert_eq!(ran - before, 40);
        drop(again);
    });
}

#[test]
fn last_of_many_streams_uses_all_workers() {
    run(async {
        let bench = Bench::new(1).await;
        let mut unread = Vec::new();
        for _ in 0..40 {
            let mut outcomes = bench.stream(true, vec![10; 2]);
            assert_eq!(outcomes.next().await, Some(Ok(0)));
            unread.push(outcomes);
        }
        let barrier = bench.manager.barrier(2).await.unwrap();
        let meetings = (0..10).map(|_| Meeting(barrier.clone()));
        let met: Vec<_> = bench.pool.imap(meetings).try_collect().await.unwrap();
        assert!(met.iter().all(Result::is_ok), "{met:?}");
        bench.pool.join().await.unwrap();
    });
}

#[test]
fn memory_of_a_pool_stays_small_while_its_outcomes_are_read_slowly() {
    in_own_process(|| {
        run(async {
            let bench = Bench::new(1).await;
            let sizes = vec![4 * MEGABYTE; 150];
            let mut outcomes = bench.stream(false, sizes);
            let mut read = 0;
            while let Some(outcome) = outcomes.next().await {
                outcome.unwrap();
                read += 1;
                if read % 50 == 1 {
                    bench.is_paused().await;
                }
            }
            assert_eq!(read, 150);
        });
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let peak = kilobytes.unwrap().trim().parse::<usize>().unwrap() << 10;
        // All outcomes are 600 MiB. Those that are kept may be there twice, as bytes and as values.
        assert!(peak < 120 * MEGABYTE, "{} MiB", peak / MEGABYTE);
    });
}
