//! Locks, semaphores, events, conditions, barriers, queues and values that processes share, and a
//! process pool: Python's `multiprocessing.Manager` for Rust.
//!
//! 1. A [`Manager`] hosts the objects. [`Manager::start`] runs it on a thread, [`Manager::spawn`] as a process, and
//!    [`Manager::connect`] connects to a manager of another program.
//! 2. [`Manager::lock`], [`Manager::semaphore`], [`Manager::queue`] and similar methods create an object and return
//!    its proxy. [`Manager::named`] opens an object that several programs share by its name.
//! 3. A call such as [`Lock::acquire`](proxies::LockOf::acquire) is a [`Wait`]: it is awaited, or given a
//!    [timeout](Wait::timeout), or made on a [plain thread](Wait::blocking). It returns a [guard](guards::Guard).
//! 4. A proxy can be serialized. It can be a field of a [`Task`], which a [`Pool`] runs in another process. A program
//!    with a pool calls [`program`] at the beginning of main.
//! 5. When a process ends, the manager releases what it holds, and the next guard
//!    [reports](guards::Guard::abandoned) it.
//!
//! The repository has a guide in docs/src, and the guarantees in SEMANTICS.md.
//!
//! ```no_run
//! use lockkeeper::{Manager, Pool, Semaphore, Task};
//! use serde::{Deserialize, Serialize};
//!
//! /// Squares a number, while at most two tasks hold a permit.
//! #[derive(Serialize, Deserialize)]
//! struct Square {
//!     number: u32,
//!     permits: Semaphore,
//! }
//!
//! impl Task for Square {
//!     const NAME: &'static str = "square";
//!     type Output = Result<u32, lockkeeper::CallError>;
//!
//!     async fn run(self) -> Self::Output {
//!         let _permit = self.permits.acquire().await?;
//!         Ok(self.number * self.number)
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     lockkeeper::program().task::<Square>().run(async {
//!         let manager = Manager::start().await?;
//!         let permits = manager.semaphore(2).await?;
//!         let pool = Pool::new(4).await?;
//!         let tasks = (0..10).map(|number| Square { number, permits: permits.clone() });
//!         for square in pool.try_map(tasks).await? {
//!             println!("{}", square?);
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! | entry | what it is for |
//! | --- | --- |
//! | [`program`] | the one call at the top of main |
//! | [`Manager`], [`Address`], [`Limits`] | where the objects live |
//! | [`Lock`], [`ReentrantLock`], [`Condition`] | one holder at a time |
//! | [`RwLock`] | many readers, or one writer |
//! | [`KeyedLock`], [`KeyedSemaphore`] | a lock, or some permits, for each of any number of keys |
//! | [`Semaphore`], [`BoundedSemaphore`], [`Event`], [`Barrier`], [`Latch`] | permits and signals |
//! | [`Queue`], [`Value`] | data of your types |
//! | [`lock_all`], [`lock_some`] | several locks or keys at once |
//! | [`Wait`] | a call: awaited, with a timeout, or on a plain thread |
//! | [`Ticket`], [`ReleaseBy`] | release by another process than the holder |
//! | [`Fence`], [`FenceFile`] | how a resource refuses a holder that comes too late |
//! | [`Pool`], [`Task`], [`BlockingTask`], [`Blocking`] | processes that run tasks |
//! | [`Process`], [`task`] | a process for one task, and what tasks learn of their end and their attempt |
//! | [`Retry`] | when a task that has failed runs again |
//! | [`CallError`], [`StartError`], [`TaskError`], [`errors`] | what can go wrong |
//! | [`Failure`] | the error of a task, of any type |
//! | [`inspect`], [`deadlock`] | who holds what, who waits, and which calls wait for each other |
//! | [`kind`], [`Proxy`] | kinds of objects of your own |
//! | [`Manager::in_memory`] | managers for tests, also with a paused clock |
//! | [`transport`] | what carries bytes between processes, also of your own making |
//!
//! The crates `tracing` and `metrics` receive events and figures; docs/OBSERVING.md in the repository lists
//! them.
//!
//! Proxies work on any tokio runtime, and from plain threads through [`Wait::blocking`] and
//! [`block_on`].

// Only the program may write to standard output, not the library. Tests may print.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "lockkeeper is for Linux: it needs pidfds, abstract socket names and /proc. Build it for a Linux target, \
     or put it behind `[target.'cfg(target_os = \"linux\")'.dependencies]`"
);

mod access;
mod address;
mod address_error;
mod background;
#[cfg(feature = "net")]
mod certificate_files;
mod client;
mod error;
mod fence_file;
mod files;
#[cfg(feature = "net")]
mod given_file;
#[cfg(feature = "net")]
mod keys;
mod limits;
mod manager;
#[cfg(feature = "net")]
mod network_place;
mod peer_rights;
mod pool;
mod process;
mod program;
mod proxy;
mod server;
mod subject;
mod task_error;
mod telemetry;
pub mod transport;
mod undecoded;
mod untyped;
mod want;

#[cfg(test)]
mod tests;

pub use address::Address;
pub use client::owner::Owner;
pub use client::thread::block_on;
pub use error::{CallError, StartError};
pub use fence_file::FenceFile;
pub use limits::Limits;
pub use lockkeeper_protocol::{Fence, operations::ReleaseBy};
pub use manager::manager::Manager;
pub use pool::{
    failure::Failure,
    handle::TaskHandle,
    pool::Pool,
    process::Process,
    retry::Retry,
    task::{Blocking, BlockingTask, Task},
};
pub use program::program;
pub use proxy::{
    barrier::Barrier,
    condition::{Condition, ConditionGuard},
    event::Event,
    guard::Ticket,
    keyed::{
        held::{KeyedLockGuard, KeyedSemaphorePermit},
        keyed::{KeyedLock, KeyedSemaphore},
    },
    latch::Latch,
    lock::{Lock, LockGuard},
    permit::Permit,
    proxy::Proxy,
    queue::Queue,
    reentrant_lock::{ReentrantLock, ReentrantLockGuard},
    rw_guard::{RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard},
    rw_lock::RwLock,
    semaphore::{BoundedSemaphore, Semaphore},
    several::{lock_all, lock_some, try_lock_all, try_lock_some},
    taken::{GetError, PutError, Taken},
    token::Token,
    value::Value,
    wait::Wait,
};
pub use task_error::TaskError;

/// The builders of managers, clients, pools, processes and objects, and of the program.
pub mod builders {
    pub use lockkeeper_protocol::operations::{BarrierSpec, OnDeath};

    pub use crate::{
        manager::{
            builder::ManagerBuilder,
            client::ClientBuilder,
            named::{Named, WithReleaseBy, WithSchema},
        },
        peer_rights::PeerRights,
        pool::{builder::PoolBuilder, initializer::InitializerOutput, process::ProcessBuilder},
        process::output::OutputTo,
        program::Program,
    };
}

/// Untyped calls, by kind, operation and MessagePack bytes, for bindings and tools that do not have
/// the Rust types.
///
/// PROTOCOL.md in the repository lists the operations of the built-in kinds, and how their specs, arguments and
/// replies are encoded. A call behaves like that of a typed proxy: dropping it withdraws it, the manager enforces
/// its timeout, and it uses the connection of the process.
///
/// ```
/// use lockkeeper::{Manager, dynamic::Object};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = Manager::start().await?;
/// // The spec of a lock: only its holder releases it.
/// let lock = Object::open(&manager, "lock", Some("jobs"), b"\xa6Holder").await?;
/// // Without arguments: an empty array.
/// let answer = lock.call("acquire", &[0x90]).await?;
/// assert!(answer.reply().starts_with(b"\x81\xa2Ok"));
/// let hold = answer.into_hold();
/// assert!(hold.is_valid());
/// // One argument, the grant: an array of it.
/// let release = [vec![0x91], hold.proof()].concat();
/// hold.cast("release", &release)?;
/// assert_eq!(lock.call("status", &[0x90]).await?.reply(), [0x93, 0xc2, 0, 0]);
/// # Ok(())
/// # }
/// ```
pub mod dynamic {
    pub use crate::untyped::{Answer, Hold, Object};
}

/// The parts of a deadlock report: which calls wait for each other, and for what.
pub mod deadlock {
    pub use lockkeeper_protocol::{Caller, Claim, Deadlock, WaitsFor};

    pub use crate::server::deadlock::policy::DeadlockPolicy;
}

/// The errors inside [`CallError`], [`StartError`] and [`TaskError`], and those of single calls.
pub mod errors {
    pub use lockkeeper_protocol::{
        BreakReason, Fault, Refusal, WrongKind, WrongSpec,
        operations::{TaskFault, UndecodedTask, WorkerExit},
    };

    pub use crate::{
        address_error::{AddressError, AddressErrorKind},
        fence_file::FenceError,
        proxy::{abandoned::AbandonedGuard, barrier::ActionError, taken::UndecodedItem},
        subject::Subject,
        task_error::TaskCause,
        undecoded::Undecoded,
    };
}

/// [`Guard`](guards::Guard), the type of all guards of locks, and the types of its methods.
pub mod guards {
    pub use lockkeeper_protocol::{
        Abandoned,
        operations::{BarrierWaitResult, Versioned},
    };

    #[doc(hidden)]
    pub use lockkeeper_protocol::operations::Wake;

    pub use crate::proxy::{
        guard::{Guard, Guarded, Ticketed},
        rw_guard::{Reading, Upgradable, Writing},
        several::{Lockable, SomeGuards},
    };

    #[doc(hidden)]
    pub use crate::proxy::keyed::held::HeldKey;
}

/// The status of managers, objects and pools: see [`Manager::inspect`] and [`Proxy::status`].
pub mod inspect {
    pub use lockkeeper_protocol::{
        CallInfo, ObjectInfo, PartInfo, Peer, Snapshot, Stats, Times,
        operations::{
            BarrierStatus, EventStatus, Key, KeyStatus, KeyedStatus, LatchStatus, LockStatus,
            QueueStatus, RwLockStatus, SemaphoreStatus, ValueStatus,
        },
    };

    pub use crate::{
        pool::status::{PoolStatus, RunningTask},
        proxy::served::HasStatus,
    };
}

/// Custom kinds of objects: see [`Primitive`](kind::Primitive), and [`Proxy`] for an example.
pub mod kind {
    pub use lockkeeper_actors::{
        Bench, Call, HangUp, HoldTimer, Holding, Operations, Outbox, Parked, Part, Primitive,
        Serve, StoredBytes, Survey, WaitQueue, Waiting, sync,
    };
    pub use lockkeeper_protocol::{CallId, Operation, Proof, SessionId, SignedCall, codec::Blob};

    pub use crate::proxy::hold::Grant;

    /// The built-in hosted data types. The queue between a pool and its workers is not public.
    pub mod data {
        pub use lockkeeper_actors::data::{
            CheckType, CloseQueue, Delivery, Done, Exchange, Exchanged, Get, GetQueueStatus,
            GetValueStatus, Join, OnlyIf, Put, PutBack, Queue, QueueSpec, QueueStatus, Read, Store,
            Swap, Value, ValueSpec, ValueStatus, Versioned, WaitChange,
        };
    }
}

/// What managers at network addresses need, with the feature `net`.
///
/// A manager that [listens](builders::ManagerBuilder::listen) at `tls://host:port` serves clients on other machines.
/// Both sides have a copy of one key file, and prove that to each other before a session begins.
///
/// Their sessions have [leases](builders::ManagerBuilder::lease): a client that is cut off gives up what it holds
/// before the manager gives it away.
#[cfg(feature = "net")]
pub mod net {
    pub use crate::keys::{KeyFileError, make_key_file};
}

/// The generic proxies: of locks by their kind, of semaphores by their bound, and of keyed kinds by their permits. The
/// aliases at the root, such as [`Lock`], name all of them.
pub mod proxies {
    pub use crate::proxy::{
        keyed::keyed::{KeyedKind, KeyedOf},
        lock::LockOf,
        lock_kind::LockKind,
        semaphore::SemaphoreOf,
    };

    #[doc(hidden)]
    pub use crate::proxy::{condition::WaitSetName, reentrant_lock::ActsFor};
}

/// What the code of a task learns from the process that submitted it, and the output of a process.
pub mod task {
    pub use crate::{
        pool::retry::attempt,
        process::{
            output::ProcessOutput,
            stop::{is_stopping, stopping},
        },
    };
}

#[doc(hidden)]
pub use proxy::several::Target;

/// Compiles the programs of the README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;

/// Compiles the program of docs/OBSERVING.md as a test.
#[cfg(doctest)]
#[doc = include_str!("../docs/OBSERVING.md")]
pub struct ObservingDoctests;

/// Compiles the programs of the guide as tests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../docs/src/first-steps.md")]
    pub struct FirstSteps;

    #[doc = include_str!("../docs/src/choosing.md")]
    pub struct Choosing;

    #[doc = include_str!("../docs/src/pools.md")]
    pub struct Pools;

    #[doc = include_str!("../docs/src/when-things-die.md")]
    pub struct WhenThingsDie;

    #[doc = include_str!("../docs/src/testing.md")]
    pub struct Testing;

    #[doc = include_str!("../docs/src/several-programs.md")]
    pub struct SeveralPrograms;

    #[cfg(feature = "net")]
    #[doc = include_str!("../docs/src/several-machines.md")]
    pub struct SeveralMachines;

    #[doc = include_str!("../docs/src/own-kinds.md")]
    pub struct OwnKinds;

    #[doc = include_str!("../docs/src/observing.md")]
    pub struct Observing;

    #[doc = include_str!("../docs/src/multiprocessing.md")]
    pub struct Multiprocessing;
}
