//! The honest client: a separate process that uses the library.
//!
//! It holds an object of each kind for the whole run. It also counts under a lock, passes items
//! through a queue, and reads many large values at a time. If the manager refuses a call for a limit,
//! it tries again.

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

/// The objects that the honest client holds for the whole run: kinds and names.
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

/// The number of concurrent reads of a large value: together they are more than a session may leave
/// unread.
const LARGE_READS: usize = 48;

/// The number of tasks that count under the lock.
const COUNTERS: u64 = 3;

/// The time limit of a call, without which the test could hang.
const PATIENCE: Duration = Duration::from_secs(15);

/// The configuration of the honest client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HonestConfig {
    pub(crate) address: String,
    /// A file that is created when the attacks end.
    pub(crate) over: PathBuf,
}

/// The report of the honest client.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct HonestReport {
    pub(crate) faults: Vec<String>,
    /// The duration of each round trip in microseconds.
    pub(crate) round_trips: Vec<u32>,
    pub(crate) counted: u64,
    pub(crate) items: u64,
    pub(crate) large_reads: u64,
    /// How often the manager refused a call for a limit.
    pub(crate) refused: u64,
}

/// The state that the tasks of the honest client share.
#[derive(Clone, Debug)]
struct Honest {
    manager: Manager,
    over: Rc<PathBuf>,
    report: Rc<RefCell<HonestReport>>,
}

/// Runs until the attacks end, and reports.
pub(crate) async fn honest(config: HonestConfig) {
    let (reader, mut writer) = std::io::pipe().expect("the system has pipes");
    // A record in the format of report pipes. No manager may read it, because this process never
    // sent the pipe's descriptor.
    let record = [0, 0, 0, 3, 0xc4, 1, 7];
    writer
        .write_all(&record)
        .expect("the record fits into the pipe");
    assert!(
        reader.as_raw_fd() > 2,
        "the attackers try descriptors from 3 on"
    );
    let manager = Manager::connect(&*config.address)
        .await
        .expect("the manager is running");
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
    reader.read_to_end(&mut left).expect("the pipe can be read");
    if left != record {
        honest.fault(format!(
            "the manager has read a foreign pipe: {left:?} is left"
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
        // The holds have the first call numbers of the session, so that attackers guess them soon.
        let (holds, all_held) = oneshot::channel();
        let work = async {
            // The sender is dropped if an acquire fails, and the other task reports that.
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

    /// Records a fault once.
    fn fault(&self, fault: String) {
        let faults = &mut self.report.borrow_mut().faults;
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    fn is_over(&self) -> bool {
        self.over.exists()
    }

    /// Awaits an answer, and repeats the call while the manager refuses it for a limit.
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

    /// Counts under a lock, with a read and a write between which another holder could write.
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
        // The last item marks the end.
        self.retry("put", || async {
            queue.put(0).await.map_err(|put| put.error)
        })
        .await
    }

    /// Takes all items, and checks that each arrives once and in order.
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
                    "item {item} arrived at attempt {attempts}, after {expected}"
                ));
                break;
            }
        }
        Ok(())
    }

    /// Reads a large value many times concurrently. It reads all answers, so its session must not
    /// be closed.
    async fn reads(&self, value: &Value<String>) -> Result<(), CallError> {
        while !self.is_over() {
            let reads = (0..LARGE_READS).map(|_| self.retry("a large read", || value.get()));
            for read in join_all(reads).await {
                if read? != large() {
                    self.fault("a large value has changed".to_owned());
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
            if status.is_held {
                self.fault("a lock that is never acquired is held".to_owned());
            }
            time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Holds an object of each kind, and checks at the end that it still holds all of them.
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
        let a_key = keyed.acquire("held key").await?;
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
                self.retry("a try", || keyed.try_acquire("held key"))
                    .await?
                    .is_some(),
                self.retry("a try", || async { Ok(queue.try_get().await?) })
                    .await?
                    .is_some(),
            ];
            if free.contains(&true) {
                self.fault(format!("held objects were free: {free:?}"));
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
            self.fault(format!("holds cannot be released: {released:?}"));
        }
        let status = self.retry("a barrier", || barrier.status()).await?;
        if status.arrived != 0 || status.generation != 0 {
            self.fault(format!("the barrier has another arrival: {status:?}"));
        }
        Ok(())
    }
}

/// Returns a large value that is fast to decode.
fn large() -> String {
    "h".repeat(budget::LARGE / 2)
}

/// Signals the end of the attacks to the honest client.
pub(crate) fn end_attacks(over: &Path) {
    fs::write(over, "").expect("the folder exists");
}
