//! Shows a condition with two wait sets: a bounded buffer between producers and consumers.
//!
//!     cargo run --release --example bounded_buffer
//!
//! The buffer is a folder that holds at most four files. Two producers add items, and wait while it
//! is full. Two consumers remove the oldest item, and wait while it is empty. All of them hold the
//! condition's lock while they use the folder. A producer notifies a waiter for "not empty", and a
//! consumer notifies a waiter for "not full". Each process prints what it did:
//!
//!     producer 0: put 500 items, waited 467 times
//!     ...
//!     1000 items went through a buffer of 4, none twice, none lost, in order

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use lockkeeper::{CallError, Condition, Manager, Pool, Task};
use serde::{Deserialize, Serialize};

const CAPACITY: usize = 4;
const ITEMS_EACH: u64 = 500;
const EACH: u64 = 2;

/// The buffer: its folder, and the two conditions, which share a lock.
#[derive(Clone, Serialize, Deserialize)]
struct Buffer {
    folder: PathBuf,
    not_full: Condition,
    not_empty: Condition,
}

/// Adds or removes items.
#[derive(Serialize, Deserialize)]
enum Work {
    Produce(u64, Buffer),
    Consume(u64, Buffer),
}

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = Result<Vec<u64>, CallError>;

    async fn run(self) -> Self::Output {
        let (who, done, waits) = match self {
            Self::Produce(number, buffer) => {
                let items: Vec<u64> = (0..ITEMS_EACH)
                    .map(|item| number * ITEMS_EACH + item)
                    .collect();
                let mut waits = 0;
                for item in &items {
                    if item % 50 == 0 {
                        // A pause now and then lets the buffer run empty.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    waits += buffer.put(*item).await?;
                }
                (format!("producer {number}: put"), items, waits)
            }
            Self::Consume(number, buffer) => {
                let (mut items, mut waits) = (Vec::new(), 0);
                for _ in 0..ITEMS_EACH {
                    let (item, waited) = buffer.take().await?;
                    items.push(item);
                    waits += waited;
                    // Simulates the work on an item.
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
                (format!("consumer {number}: took"), items, waits)
            }
        };
        println!("{who} {} items, waited {waits} times", done.len());
        Ok(done)
    }
}

impl Buffer {
    /// Adds an item. Returns how often it had to wait.
    async fn put(&self, item: u64) -> Result<u32, CallError> {
        let mut waits = 0;
        let mut guard = self.not_full.acquire().await?;
        while self.items().len() >= CAPACITY {
            guard = self.not_full.wait(guard).await?;
            waits += 1;
        }
        let last = self.items().last().map_or(0, |(place, _)| *place);
        self.write(last + 1, item);
        self.not_empty.notify_one(&guard).await?;
        Ok(waits)
    }

    /// Removes the oldest item. Returns it, and how often this had to wait.
    async fn take(&self) -> Result<(u64, u32), CallError> {
        let mut waits = 0;
        let mut guard = self.not_empty.acquire().await?;
        while self.items().is_empty() {
            guard = self.not_empty.wait(guard).await?;
            waits += 1;
        }
        let (place, item) = self.items()[0];
        fs::remove_file(self.folder.join(place.to_string())).expect("the lock is held");
        self.not_full.notify_one(&guard).await?;
        Ok((item, waits))
    }

    /// Returns the buffer's items in order. The name of a file is the place, and its content is the
    /// item.
    fn items(&self) -> Vec<(u64, u64)> {
        let mut items = read(&self.folder).expect("only the holder of the lock changes the folder");
        items.sort_unstable();
        items
    }

    fn write(&self, place: u64, item: u64) {
        let file = self.folder.join(place.to_string());
        fs::write(file, item.to_string()).expect("the folder can be written to");
    }
}

fn read(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    let number = |text: &str| text.parse().map_err(io::Error::other);
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let place = number(&entry.file_name().to_string_lossy())?;
            Ok((place, number(&fs::read_to_string(entry.path())?)?))
        })
        .collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program().task::<Work>().run(async {
        let folder = tempfile::tempdir()?;
        let manager = Manager::start().await?;
        let condition = manager.condition().await?;
        let buffer = Buffer {
            folder: folder.path().to_owned(),
            not_full: condition.wait_set("not full"),
            not_empty: condition.wait_set("not empty"),
        };
        let pool = Pool::new(2 * usize::try_from(EACH)?).await?;
        let work = (0..EACH).flat_map(|number| {
            [
                Work::Produce(number, buffer.clone()),
                Work::Consume(number, buffer.clone()),
            ]
        });
        let done: Vec<Vec<u64>> = pool
            .try_map(work)
            .await?
            .into_iter()
            .collect::<Result<_, _>>()?;
        pool.join().await?;

        let mut taken: Vec<u64> = done.iter().skip(1).step_by(2).flatten().copied().collect();
        // Each consumer received the items of each producer in order.
        let in_order = done.iter().skip(1).step_by(2).all(|taken| {
            (0..EACH).all(|producer| {
                let of_one = taken.iter().filter(|item| **item / ITEMS_EACH == producer);
                of_one.is_sorted()
            })
        });
        taken.sort_unstable();
        if !in_order || taken != (0..EACH * ITEMS_EACH).collect::<Vec<_>>() {
            return Err("items were lost, or came twice, or out of order".into());
        }
        let items = taken.len();
        println!(
            "{items} items went through a buffer of {CAPACITY}, none twice, none lost, in order"
        );
        Ok::<(), Box<dyn Error>>(())
    })
}
