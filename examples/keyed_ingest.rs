//! Shows a keyed lock: the workers of a pool merge records into one sum per key, and only one worker
//! at a time changes each sum.
//!
//!     cargo run --release --example keyed_ingest -- --records 100000 --keys 5000 --workers 4
//!
//! First some of the records are merged as with a manager that has no keyed lock: a dictionary
//! counts the users of each key's lock, another lock guards the dictionary, the first user of a key
//! makes its lock and the last user removes it. Then all records are merged with a keyed lock. The
//! program counts every awaited call, and last compares the sums with those of one process:
//!
//!     by hand:             2000 records, 12.0 round trips a record, 395 us a record
//!     with a keyed lock: 100000 records, 1.0 round trips a record, 14 us a record
//!     all 5000 sums are right
//!
//! Users of Python's manager have counted 23 round trips for such a cycle, where making a proxy
//! takes calls too (HKUDS/LightRAG #3413).

use std::{
    collections::HashMap,
    error::Error,
    fs::{File, OpenOptions},
    io,
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use argh::FromArgs;
use fastrand::Rng;
use futures::StreamExt;
use lockkeeper::{
    Address, CallError, KeyedLock, Lock, Manager, Pool, Proxy, Task,
    errors::Refusal,
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use serde::{Deserialize, Serialize};

/// Merges records by key in a pool of processes, with locks made by hand and with a keyed lock.
#[derive(FromArgs)]
struct Options {
    /// how many records there are (100000)
    #[argh(option, default = "100_000")]
    records: u64,
    /// how many of them are merged with locks made by hand (2000)
    #[argh(option, default = "2_000")]
    by_hand: u64,
    /// how many keys the records have (5000)
    #[argh(option, default = "NonZeroU64::MIN.saturating_add(4_999)")]
    keys: NonZeroU64,
    /// how many processes merge them (4)
    #[argh(option, default = "4")]
    workers: usize,
    /// where the random numbers of the records start (7)
    #[argh(option, default = "7")]
    seed: u64,
}

/// How many records a task merges.
const CHUNK: u64 = 250;

/// A dictionary of numbers as a custom kind: the number of users of each key's lock.
struct Counts(HashMap<u64, u64>);

/// Returns a number.
#[derive(Serialize, Deserialize)]
struct Get(u64);

/// Sets or removes a number.
#[derive(Serialize, Deserialize)]
struct Put(u64, Option<u64>);

impl Operation for Get {
    const NAME: &'static str = "get";
    type Reply = Option<u64>;
}

impl Operation for Put {
    const NAME: &'static str = "put";
    type Reply = ();
}

impl Primitive for Counts {
    const KIND: &'static str = "counts";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self(HashMap::new()))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Get>().on::<Put>();
    }
}

impl Serve<Get> for Counts {
    fn serve(&mut self, Get(key): Get, call: Call<Option<u64>>) {
        call.reply(self.0.get(&key).copied());
    }
}

impl Serve<Put> for Counts {
    fn serve(&mut self, Put(key, number): Put, call: Call<()>) {
        match number {
            Some(number) => self.0.insert(key, number),
            None => self.0.remove(&key),
        };
        call.reply(());
    }
}

/// Counts the awaited calls.
#[derive(Default)]
struct Meter(u64);

impl Meter {
    async fn trip<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.0 += 1;
        call.await
    }
}

/// A record, which is generated from its number.
struct Record {
    key: u64,
    amount: u64,
}

impl Record {
    fn draw(seed: u64, number: u64, keys: u64) -> Self {
        let mut random = Rng::with_seed(seed.wrapping_add(number));
        Self {
            key: random.u64(0..keys),
            amount: random.u64(1..=100),
        }
    }
}

/// The sums, as numbers in a file. A change reads the number first, so two concurrent changes would
/// lose an amount.
struct Sums(File);

impl Sums {
    fn create(path: &Path, keys: u64) -> io::Result<()> {
        File::create(path)?.set_len(keys * 8)
    }

    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(file))
    }

    fn get(&self, key: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, key * 8)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn merge(&self, record: &Record) -> io::Result<()> {
        let sum = self.get(record.key)? + record.amount;
        self.0.write_all_at(&sum.to_ne_bytes(), record.key * 8)
    }
}

/// The way to lock a key.
#[derive(Clone, Serialize, Deserialize)]
enum Way {
    ByHand {
        manager: Address,
        registry: Lock,
        counts: Proxy<Counts>,
    },
    Keyed(KeyedLock),
}

/// Merges some of the records, and returns the number of round trips.
#[derive(Serialize, Deserialize)]
struct Merge {
    way: Way,
    records: Range<u64>,
    seed: u64,
    keys: u64,
    sums: PathBuf,
}

impl Task for Merge {
    const NAME: &'static str = "merge";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let sums = Sums::open(&self.sums).expect("the sums are a file of this example");
        let mut meter = Meter::default();
        let records = self.records.clone();
        let records = records.map(|number| Record::draw(self.seed, number, self.keys));
        match &self.way {
            Way::ByHand {
                manager,
                registry,
                counts,
            } => {
                let manager = Manager::connect(manager.clone()).await?;
                for record in records {
                    merge_by_hand(&manager, registry, counts, &sums, &record, &mut meter).await?;
                }
            }
            Way::Keyed(locks) => {
                for record in records {
                    let key = record.key.to_string();
                    let _guard = meter.trip(locks.acquire(key)).await?;
                    sums.merge(&record)
                        .expect("the sums are a file of this example");
                }
            }
        }
        Ok(meter.0)
    }
}

/// Merges a record with a lock that the first user of its key makes and the last user removes. Each release
/// is awaited, as in Python.
async fn merge_by_hand(
    manager: &Manager,
    registry: &Lock,
    counts: &Proxy<Counts>,
    sums: &Sums,
    record: &Record,
    meter: &mut Meter,
) -> Result<(), CallError> {
    let (key, name) = (record.key, format!("lock of {}", record.key));

    let inside = meter.trip(registry.acquire()).await?;
    let wanted = meter.trip(counts.call(Get(key))).await?.unwrap_or(0);
    let lock = meter.trip(manager.named(&name).lock()).await?;
    meter.trip(counts.call(Put(key, Some(wanted + 1)))).await?;
    meter.trip(inside.release()).await?;

    let guard = meter.trip(lock.acquire()).await?;
    sums.merge(record)
        .expect("the sums are a file of this example");
    meter.trip(guard.release()).await?;

    let inside = meter.trip(registry.acquire()).await?;
    let wanted = meter.trip(counts.call(Get(key))).await?.unwrap_or(1);
    let left = (wanted > 1).then(|| wanted - 1);
    meter.trip(counts.call(Put(key, left))).await?;
    if left.is_none() {
        meter.trip(manager.remove(&name)).await?;
    }
    meter.trip(inside.release()).await
}

/// The parameters of a run.
struct Ingest<'a> {
    pool: &'a Pool,
    seed: u64,
    keys: u64,
    folder: &'a Path,
}

impl Ingest<'_> {
    /// Merges records, prints the cost, and checks the sums. Returns the number of sums.
    async fn run(&self, heading: &str, way: Way, number: u64) -> Result<u64, Box<dyn Error>> {
        let path = self.folder.join("sums");
        Sums::create(&path, self.keys)?;
        let begun = Instant::now();
        let starts = (0..number).step_by(CHUNK.try_into()?);
        let merges = starts.map(|start| Merge {
            way: way.clone(),
            records: start..number.min(start + CHUNK),
            seed: self.seed,
            keys: self.keys,
            sums: path.clone(),
        });
        let mut outcomes = self.pool.imap_unordered(merges);
        let mut trips = 0;
        while let Some((_, outcome)) = outcomes.next().await {
            trips += outcome??;
        }
        let taken = begun.elapsed();
        println!(
            "{heading:<18} {number:>6} records, {:.1} round trips a record, {:.0} us a record",
            trips as f64 / number.max(1) as f64,
            micros(taken) / number.max(1) as f64,
        );
        self.check(&path, number)
    }

    /// Compares the sums with those that one process computes from the same records.
    fn check(&self, path: &Path, number: u64) -> Result<u64, Box<dyn Error>> {
        let mut right: HashMap<u64, u64> = HashMap::new();
        for number in 0..number {
            let Record { key, amount } = Record::draw(self.seed, number, self.keys);
            *right.entry(key).or_default() += amount;
        }
        let sums = Sums::open(path)?;
        for key in 0..self.keys {
            let (sum, right) = (sums.get(key)?, right.get(&key).copied().unwrap_or(0));
            if sum != right {
                return Err(format!("the sum of key {key} is {sum}, not {right}").into());
            }
        }
        Ok(self.keys)
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn main() -> Result<(), Box<dyn Error>> {
    lockkeeper::program()
        .register::<Counts>()
        .task::<Merge>()
        .run(async {
            let options: Options = argh::from_env();
            let folder = tempfile::tempdir()?;
            let manager = Manager::spawn().await?;
            let pool = Pool::new(options.workers).await?;
            let ingest = Ingest {
                pool: &pool,
                seed: options.seed,
                keys: options.keys.get(),
                folder: folder.path(),
            };

            let by_hand = Way::ByHand {
                manager: manager.address().clone(),
                registry: manager.lock().await?,
                counts: manager.open::<Counts>(()).await?,
            };
            let few = options.by_hand.min(options.records);
            ingest.run("by hand:", by_hand, few).await?;

            let keyed = Way::Keyed(manager.keyed_lock().await?);
            let sums = ingest.run("with a keyed lock:", keyed, options.records);
            let sums = sums.await?;
            println!("all {sums} sums are right");

            pool.join().await?;
            Ok(())
        })
}
