//! All rows: the questions, the contenders and the targets.
//!
//! To add a row, add one value here. All contenders are compared with the first one of their contest.

use crate::contest::{Contender, Contest};
use crate::crowd;
use crate::data;
use crate::floor::{BARE_PROCESS, FLOOR, MEDIAN, RELAY_FLOOR};
use crate::load::{End, Load};
#[cfg(feature = "net")]
use crate::network::{SYNC_MANAGER_OVER_TCP, TLS_CLIENTS, TLS_FLOOR, TLS_THREADS};
use crate::ours::{self, CLIENTS, CLIENTS_OF_TWO, STARTERS, THREADS, WAKERS};
use crate::peers::{PYTHON_POOL, SYNC_MANAGER, SYNC_MANAGER_STARTERS, SYNC_MANAGER_WAKERS};
use crate::pool::{self, POOL};
use crate::postgres::POSTGRES;
use crate::raw_client::RAW_CLIENTS;
use crate::redis::REDIS;
use crate::report::{Reads, Target};
use crate::together::{BARRIER_FLOOR, SEMAPHORE_FLOOR};

/// The rows that measure a repeated cycle.
pub(crate) const CONTESTS: &[Contest] = &[
    Contest {
        name: "floors: one round trip, one message relayed",
        unit: "us",
        contenders: &[
            Contender::new(&FLOOR, "", 1),
            Contender::new(&RELAY_FLOOR, "", 1),
        ],
        reads: Reads::Times,
        target: Target::None,
    },
    Contest {
        name: "lock, uncontended",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&FLOOR, "", 1),
            Contender::new(&CLIENTS, ours::ALONE, 1),
            Contender::new(&SYNC_MANAGER, ours::ALONE, 1),
            Contender::new(&REDIS, ours::ALONE, 1),
            Contender::new(&POSTGRES, ours::ALONE, 1),
        ],
        reads: Reads::Times,
        target: Target::Ratio(1.5),
    },
    Contest {
        name: "lock, uncontended, from a plain thread",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&FLOOR, "", 1),
            Contender::new(&THREADS, ours::ALONE, 1),
        ],
        reads: Reads::Times,
        target: Target::Ratio(1.5),
    },
    Contest {
        name: "lock, uncontended, with a spin of 20 us",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&FLOOR, "", 1),
            Contender::new(&CLIENTS, ours::SPINNING, 1),
        ],
        reads: Reads::Times,
        target: Target::None,
    },
    Contest {
        name: "lock, uncontended, release awaited",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&FLOOR, "", 1),
            Contender::new(&CLIENTS, ours::AWAITED, 1),
        ],
        reads: Reads::Times,
        target: Target::Ratio(2.5),
    },
    Contest {
        name: "1,024 locks at a time over one connection",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&FLOOR, "", 1),
            Contender::new(&CLIENTS, ours::PIPELINED, 1),
            Contender::new(&RAW_CLIENTS, ours::PIPELINED, 1),
        ],
        reads: Reads::Rate,
        target: Target::Figure(1.0 / 3.0),
    },
    Contest {
        name: "keyed lock, 1,024 keys at a time over one connection",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&FLOOR, "", 1),
            Contender::new(&CLIENTS, ours::KEYED, 1),
            Contender::new(&RAW_CLIENTS, ours::KEYED, 1),
        ],
        reads: Reads::Rate,
        target: Target::Figure(1.0 / 5.0),
    },
    Contest {
        name: "shards: 1,024 locks at a time in each of 2 processes",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&CLIENTS, ours::PIPELINED, 2),
            Contender::new(&CLIENTS_OF_TWO, ours::PIPELINED, 2),
        ],
        reads: Reads::Rate,
        target: Target::None,
    },
    Contest {
        name: "shards: lock, uncontended",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&CLIENTS, ours::ALONE, 1),
            Contender::new(&CLIENTS_OF_TWO, ours::ALONE, 1),
        ],
        reads: Reads::Times,
        target: Target::None,
    },
    Contest {
        name: "lock, 2 processes contending",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&RELAY_FLOOR, "", 1),
            Contender::new(&CLIENTS, ours::SHARED, 2),
            Contender::new(&SYNC_MANAGER, ours::SHARED, 2),
            Contender::new(&REDIS, ours::SHARED, 2),
            Contender::new(&POSTGRES, ours::SHARED, 2),
        ],
        reads: Reads::Rate,
        target: Target::FairRatio(0.8),
    },
    Contest {
        name: "lock, 8 processes contending",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&RELAY_FLOOR, "", 1),
            Contender::new(&CLIENTS, ours::SHARED, 8),
            Contender::new(&SYNC_MANAGER, ours::SHARED, 8),
            Contender::new(&REDIS, ours::SHARED, 8),
            Contender::new(&POSTGRES, ours::SHARED, 8),
        ],
        reads: Reads::Rate,
        target: Target::FairRatio(0.8),
    },
    #[cfg(feature = "net")]
    Contest {
        name: "lock over TLS, uncontended",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&TLS_FLOOR, "", 1),
            Contender::new(&TLS_CLIENTS, ours::ALONE, 1),
            Contender::new(&SYNC_MANAGER_OVER_TCP, ours::ALONE, 1),
        ],
        reads: Reads::Times,
        target: Target::None,
    },
    #[cfg(feature = "net")]
    Contest {
        name: "lock over TLS, uncontended, from a plain thread",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&TLS_FLOOR, "", 1),
            Contender::new(&TLS_THREADS, ours::ALONE, 1),
        ],
        reads: Reads::Times,
        target: Target::None,
    },
    #[cfg(feature = "net")]
    Contest {
        name: "lock over TLS, 8 processes contending",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&SYNC_MANAGER_OVER_TCP, ours::SHARED, 8),
            Contender::new(&TLS_CLIENTS, ours::SHARED, 8),
        ],
        reads: Reads::Rate,
        target: Target::None,
    },
    Contest {
        name: "semaphore of 4 permits, 8 processes",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&SYNC_MANAGER, ours::PERMIT, 8),
            Contender::new(&CLIENTS, ours::PERMIT, 8),
            Contender::new(&SEMAPHORE_FLOOR, "", 8),
        ],
        reads: Reads::Rate,
        target: Target::Ratio(10.0),
    },
    Contest {
        name: "barrier of 8 processes",
        unit: "us a round",
        contenders: &[
            Contender::new(&SYNC_MANAGER, ours::ROUND, 8),
            Contender::new(&CLIENTS, ours::ROUND, 8),
            Contender::new(&BARRIER_FLOOR, "", 8),
        ],
        reads: Reads::Rate,
        target: Target::Ratio(8.0),
    },
    Contest {
        name: "event, from set in one process to awake in another",
        unit: "us, p50",
        contenders: &[
            Contender::new(&RELAY_FLOOR, MEDIAN, 1),
            Contender::new(&WAKERS, ours::WAKE, 1),
            Contender::new(&SYNC_MANAGER_WAKERS, ours::WAKE, 1),
        ],
        reads: Reads::Times,
        target: Target::Ratio(1.5),
    },
    Contest {
        name: "queue, a small struct put and taken",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&SYNC_MANAGER, data::QUEUE, 1),
            Contender::new(&CLIENTS, data::QUEUE, 1),
        ],
        reads: Reads::Rate,
        target: Target::None,
    },
    Contest {
        name: "queue, 1 MB put and taken",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&SYNC_MANAGER, data::BULKY_QUEUE, 1),
            Contender::new(&CLIENTS, data::BULKY_QUEUE, 1),
        ],
        reads: Reads::Rate,
        target: Target::None,
    },
    Contest {
        name: "value, a small struct set and read",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&SYNC_MANAGER, data::VALUE, 1),
            Contender::new(&CLIENTS, data::VALUE, 1),
        ],
        reads: Reads::Rate,
        target: Target::None,
    },
    Contest {
        name: "value, 1 MB set and read",
        unit: "us a cycle",
        contenders: &[
            Contender::new(&SYNC_MANAGER, data::BULKY_VALUE, 1),
            Contender::new(&CLIENTS, data::BULKY_VALUE, 1),
        ],
        reads: Reads::Rate,
        target: Target::None,
    },
    Contest {
        name: "start of a manager's process to the first grant",
        unit: "us, p50",
        contenders: &[
            Contender::new(&BARE_PROCESS, "", 1),
            Contender::new(&STARTERS, ours::SPAWN, 1),
            Contender::new(&SYNC_MANAGER_STARTERS, ours::SPAWN, 1),
        ],
        reads: Reads::Times,
        target: Target::Figure(3000.0),
    },
    Contest {
        name: "start of a manager on a thread to the first grant",
        unit: "us, p50",
        contenders: &[
            Contender::new(&BARE_PROCESS, "", 1),
            Contender::new(&STARTERS, ours::THREAD, 1),
        ],
        reads: Reads::Times,
        target: Target::Figure(1000.0),
    },
    Contest {
        name: "pool of 2, trivial tasks one by one",
        unit: "us a task",
        contenders: &[
            Contender::new(&PYTHON_POOL, pool::SINGLY, 2),
            Contender::new(&POOL, pool::SINGLY, 2),
        ],
        reads: Reads::Rate,
        target: Target::Ratio(10.0),
    },
    Contest {
        name: "pool of 2, trivial tasks in chunks",
        unit: "us a task",
        contenders: &[
            Contender::new(&PYTHON_POOL, pool::CHUNKED, 2),
            Contender::new(&POOL, pool::CHUNKED, 2),
        ],
        reads: Reads::Rate,
        target: Target::Ratio(2.0),
    },
    Contest {
        name: "pool of 2, a task with an argument of 10 MB",
        unit: "us a task",
        contenders: &[
            Contender::new(&PYTHON_POOL, pool::BULKY, 2),
            Contender::new(&POOL, pool::BULKY, 2),
        ],
        reads: Reads::Rate,
        target: Target::None,
    },
];

/// The rows that fill a manager.
pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "idle connections",
        crowd: crowd::CONNECTIONS,
        count: 10_000,
        quick: 1_000,
        processes: 4,
        memory: Target::Figure(4096.0),
        end: End::Quiet,
    },
    Load {
        name: "waiters on one lock",
        crowd: crowd::WAITERS,
        count: 1_000_000,
        quick: 100_000,
        processes: 4,
        memory: Target::Figure(64.0),
        end: End::Quiet,
    },
    Load {
        name: "waiters with a deadline on one lock",
        crowd: crowd::WAITERS_WITH_DEADLINE,
        count: 1_000_000,
        quick: 100_000,
        processes: 4,
        memory: Target::Figure(128.0),
        end: End::Quiet,
    },
    // Includes the memory of the session that made it, for each object.
    Load {
        name: "locks",
        crowd: crowd::LOCKS,
        count: 1_000_000,
        quick: 100_000,
        processes: 2,
        memory: Target::Figure(1024.0),
        end: End::Quiet,
    },
    Load {
        name: "sessions that have come and gone",
        crowd: crowd::PASSERS_BY,
        count: 100_000,
        quick: 10_000,
        processes: 2,
        memory: Target::None,
        end: End::Quiet,
    },
    Load {
        name: "locks that one session holds and another waits for",
        crowd: crowd::HOLDER,
        count: 100_000,
        quick: 10_000,
        processes: 1,
        memory: Target::None,
        end: End::Inherited,
    },
];
