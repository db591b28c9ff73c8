//! The honest client: a program that uses the library, in a process of its own.
//!
//! It holds something of each kind for the whole run, and counts under a lock, passes items through a
//! queue, and reads many large values at a time. What it cannot do while the manager's budget is used
//! up, it tries again.

use std::{
    cell::RefCell,
    fs,
    future::Future,
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use lockkeeper::{
    CallError, Condition, KeyedLock, Lock, Manager, Queue, ReentrantLock, RwLock, Semaphore, Value,
    errors::Fault,
};
use lockkeeper_test_support::report;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time};

use super::budget;

/// What the honest client holds for the whole run: kinds and names.
pub(crate) const HELD_OBJECTS: [(&str, &str); 8] = [
    ("lock", "honest lock"),
    ("reentrant_lock", "honest reentrant lock"),
    ("rw_lock", "honest rw lock"),
    ("semaphore", "honest semaphore"),
    ("condition", "honest condition"),
    ("keyed_lock", "honest keyed lock"),
    ("queue", "honest taken item"),
    ("barrier", "honest barrier"),
];

/// How many large values it asks for at a time: together they are more than a session may leave unread.
const LARGE_READS: usize = 48;

/// How many tasks count under the lock.
const COUNTERS: u64 = 3;

/// No call may take longer: the test would hang otherwise.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the honest client is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HonestConfig {
    pub(crate) address: String,
    /// The file that appears when the attacks are over.
    pub(crate) over: PathBuf,
}

/// What it has seen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct HonestReport {
    pub(crate) faults: Vec<String>,
    /// Microseconds of each round trip.
    pub(crate) round_trips: Vec<u32>,
    pub(crate) counted: u64,
    pub(crate) items: u64,
    pub(crate) large_reads: u64,
    /// How often it was told that the budget of the manager was used up.
    pub(crate) refused: u64,
}

/// What the tasks of the honest client share.
#[derive(Clone, Debug)]
struct Honest {
    manager: Manager,
    over: Rc<PathBuf>,
    report: Rc<RefCell<HonestReport>>,
}

/// Runs until the attacks are over, and reports the account.
pub(crate) async fn honest(config: HonestConfig) {
    let (reader, mut writer) = std::io::pipe().expect("the system has pipes");
    // A record as report pipes have them. No manager may read it, since none was told of this pipe.
    let record = [0, 0, 0, 3, 0xc4, 1, 7];
    writer.write_all(&record).expect("it has room");
    assert!(reader.as_raw_fd() > 2, "the attackers look for it");
    let manager = Manager::connect(&*config.address)
        .await
        .expect("the manager serves");
    let honest = Honest {
        manager,
        over: Rc::new(config.over),
        report: Rc::default(),
    };
    if let Err(error) = honest.clone().all().await {
        honest.fault(format!("the honest client: {error:?}"));
    }
    drop(writer);
    let mut left = Vec::new();
    let mut reader = reader;
    reader.read_to_end(&mut left).expect("a pipe is read");
    if left != record {
        honest.fault(format!(
            "the manager has read a pipe of another: {left:?} is left"
        ));
    }
    let seen = honest.report.take();
    report(&serde_json::to_string(&seen).expect("plain data"));
}

impl Honest {
    async fn all(self) -> Result<(), CallError> {
        let named = |name: &'static str| self.manager.named(name);
        let lock = named("honest counting lock").lock().await?;
        let total = named("honest total").value(0u64).await?;
        let queue = named("honest queue").queue(16).await?;
        let large = named("honest large value").value(large()).await?;
        let quiet = named("honest quiet lock").lock().await?;
        let counters = (0..COUNTERS).map(|_| self.counts(&lock, &total));
        // What it holds has the first numbers of its session, so that thieves meet it soon.
        let (holds, all_held) = oneshot::channel();
        let work = async {
            // The sender is dropped if something cannot be had, which is told there.
            let _ = all_held.await;
            let (counted, ..) = tokio::try_join!(
                async { join_all(counters).await.into_iter().sum::<Result<u64, _>>() },
                self.puts(&queue),
                self.gets(&queue),
                self.reads(&large),
                self.pings(&quiet),
            )?;
            let is = self.retry("the total", || total.get()).await?;
            if is != counted {
                self.fault(format!("{counted} were counted, and the total is {is}"));
            }
            self.report.borrow_mut().counted = counted;
            Ok(())
        };
        tokio::try_join!(self.holds(holds), work)?;
        Ok(())
    }

    /// Notes a fault, once.
    fn fault(&self, fault: String) {
        let faults = &mut self.report.borrow_mut().faults;
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    fn is_over(&self) -> bool {
        self.over.exists()
    }

    /// Awaits an answer, and calls again while the manager says that its budget is used up.
    async fn retry<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        what: &str,
        mut call: impl FnMut() -> F,
    ) -> Result<T, CallError> {
        loop {
            match time::timeout(PATIENCE, call()).await {
                Err(_) => {
                    self.fault(format!("{what} has no answer within {PATIENCE:?}"));
                    return Err(CallError::timed_out());
                }
                Ok(Err(CallError::Fault(Fault::Limit { .. }))) => {
                    self.report.borrow_mut().refused += 1;
                    time::sleep(Duration::from_millis(2)).await;
                }
                Ok(answer) => return answer,
            }
        }
    }

    /// Counts under a lock, by a read and a write that another holder would come between.
    async fn counts(&self, lock: &Lock, total: &Value<u64>) -> Result<u64, CallError> {
        let (mut counted, mut highest) = (0, 0);
        while !self.is_over() {
            let guard = self.retry("acquire", || lock.acquire()).await?;
            if guard.fence().number() <= highest || guard.abandoned().is_some() {
                self.fault(format!("{guard:?} after {highest}"));
            }
            highest = guard.fence().number();
            let value = self.retry("get", || total.get()).await?;
            self.retry("set", || total.set(value + 1)).await?;
            counted += 1;
            if !guard.is_valid() {
                self.fault("the counting lock was lost".to_owned());
            }
            guard.release().await?;
        }
        Ok(counted)
    }

    async fn puts(&self, queue: &Queue<u64>) -> Result<(), CallError> {
        let mut item = 1;
        while !self.is_over() {
            self.retry("put", || async {
                queue.put(item).await.map_err(|put| put.error)
            })
            .await?;
            item += 1;
        }
        // The last one says so.
        self.retry("put", || async {
            queue.put(0).await.map_err(|put| put.error)
        })
        .await
    }

    /// Takes all items, which come in the order in which they were put, each once.
    async fn gets(&self, queue: &Queue<u64>) -> Result<(), CallError> {
        for expected in 1.. {
            let taken = self
                .retry("get of a queue", || async { Ok(queue.get().await?) })
                .await?;
            let (item, attempts) = (*taken, taken.attempts());
            taken.done().await?;
            if item == 0 {
                self.report.borrow_mut().items = expected;
                break;
            }
            if (item, attempts) != (expected, 1) {
                self.fault(format!(
                    "item {item} came for the {attempts}. time, after {expected}"
                ));
                break;
            }
        }
        Ok(())
    }

    /// Reads a large value many times at once: it reads all answers, so its session must live.
    async fn reads(&self, value: &Value<String>) -> Result<(), CallError> {
        while !self.is_over() {
            let reads = (0..LARGE_READS).map(|_| self.retry("a large read", || value.get()));
            for read in join_all(reads).await {
                if read? != large() {
                    self.fault("a large value is another".to_owned());
                }
                self.report.borrow_mut().large_reads += 1;
            }
            time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Measures round trips.
    async fn pings(&self, lock: &Lock) -> Result<(), CallError> {
        while !self.is_over() {
            let begun = Instant::now();
            let status = self.retry("status", || lock.status()).await?;
            let took = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
            self.report.borrow_mut().round_trips.push(took);
            if status.held {
                self.fault("a lock that no one acquires is held".to_owned());
            }
            time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Holds something of each kind, and finds it held by itself at the end.
    async fn holds(&self, holds: oneshot::Sender<()>) -> Result<(), CallError> {
        let named = |at: usize| self.manager.named(HELD_OBJECTS[at].1);
        let lock: Lock = named(0).lock().await?;
        let reentrant: ReentrantLock = named(1).reentrant_lock().await?;
        let rw_lock: RwLock = named(2).rw_lock().await?;
        let semaphore: Semaphore = named(3).semaphore(3).await?;
        let condition: Condition = named(4).condition().await?;
        let keyed: KeyedLock = named(5).keyed_lock().await?;
        let queue: Queue<u64> = named(6).queue(4).await?;
        let barrier = named(7).barrier(2).await?;
        queue.put(1).await.map_err(|put| put.error)?;
        let a_lock = lock.acquire().await?;
        let an_entry = reentrant.acquire().await?;
        let a_writer = rw_lock.write().await?;
        let permits = semaphore.acquire_many(3).await?;
        let a_condition = condition.acquire().await?;
        let a_key = keyed.acquire("treasure").await?;
        let an_item = queue.get().await?;
        report("holds");
        let _ = holds.send(());
        while !self.is_over() {
            let valid = [
                a_lock.is_valid(),
                an_entry.is_valid(),
                a_writer.is_valid(),
                permits.is_valid(),
                a_condition.is_valid(),
                a_key.is_valid(),
                an_item.is_valid(),
            ];
            if valid.contains(&false) {
                self.fault(format!("guards are lost: {valid:?}"));
            }
            let free = [
                self.retry("a try", || lock.try_acquire()).await?.is_some(),
                self.retry("a try", || rw_lock.try_read()).await?.is_some(),
                self.retry("a try", || semaphore.try_acquire())
                    .await?
                    .is_some(),
                self.retry("a try", || condition.try_acquire())
                    .await?
                    .is_some(),
                self.retry("a try", || keyed.try_acquire("treasure"))
                    .await?
                    .is_some(),
                self.retry("a try", || async { Ok(queue.try_get().await?) })
                    .await?
                    .is_some(),
            ];
            if free.contains(&true) {
                self.fault(format!("what is held was free: {free:?}"));
            }
            time::sleep(Duration::from_millis(20)).await;
        }
        let released = [
            a_lock.release().await,
            an_entry.release().await,
            a_writer.release().await,
            permits.release().await,
            a_condition.release().await,
            a_key.release().await,
            an_item.done().await.map(drop),
        ];
        if released.iter().any(Result::is_err) {
            self.fault(format!(
                "what was held is not there to release: {released:?}"
            ));
        }
        let status = self.retry("a barrier", || barrier.status()).await?;
        if status.arrived != 0 || status.generation != 0 {
            self.fault(format!("the barrier has had a visitor: {status:?}"));
        }
        Ok(())
    }
}

/// A large value that is decoded in no time.
fn large() -> String {
    "h".repeat(budget::LARGE / 2)
}

/// Tells the honest client that the attacks are over.
pub(crate) fn end_attacks(over: &Path) {
    fs::write(over, "").expect("the folder is there");
}
