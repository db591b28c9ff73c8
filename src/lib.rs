//! Locks, semaphores, events, conditions, barriers, queues and values that processes share, and a pool
//! of processes to use them: Python's `multiprocessing.Manager` for Rust.
//!
//! A [`Manager`] hosts the real objects. [`Lock`], [`Semaphore`], [`Event`] and the others are
//! proxies of them: data that goes into the arguments of a [`Task`] which a [`Pool`] runs in other
//! processes. What a process holds is given back when it ends, in whatever way.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`program`] | the one call at the top of main |
//! | [`Manager`], [`Address`], [`Limits`] | where the objects live |
//! | [`Lock`], [`ReentrantLock`], [`Condition`] | built-in kinds with one holder at a time |
//! | [`RwLock`] | many who read, or one who writes |
//! | [`KeyedLock`], [`KeyedSemaphore`] | a lock, or some permits, for each of any number of keys |
//! | [`lock_all`], [`lock_some`], [`Several`] | several locks at once |
//! | [`Queue`], [`Value`] | built-in kinds that keep data of your types |
//! | [`Semaphore`], [`BoundedSemaphore`], [`Event`], [`Barrier`], [`Latch`] | the other built-in kinds |
//! | [`Primitive`], [`Operation`], [`Serve`], [`Proxy`] | kinds of your own |
//! | [`Pool`], [`Task`], [`PlainTask`] | processes that run tasks |
//! | [`Fence`], [`FenceFile`] | how a resource refuses a holder that comes too late |
//! | [`Snapshot`], [`Deadlocks`] | who holds what, who waits, and who waits for ever |
//! | [`CallError`], [`StartError`], [`TaskError`] | what can go wrong |
//!
//! What happens is told through the crates `tracing` and `metrics`; docs/OBSERVING.md in the repository
//! lists what.
//!
//! Proxies work on any tokio runtime, and from plain threads through their `blocking_*` methods and
//! [`block_on`].
//!
//! ```no_run
//! use lockkeeper::{Manager, Pool, Semaphore, Task};
//! use serde::{Deserialize, Serialize};
//!
//! /// A number drawn while at most two tasks are inside.
//! #[derive(Serialize, Deserialize)]
//! struct Draw {
//!     number: u32,
//!     permits: Semaphore,
//! }
//!
//! impl Task for Draw {
//!     const NAME: &'static str = "draw";
//!     type Output = Result<u32, lockkeeper::CallError>;
//!
//!     async fn run(self) -> Self::Output {
//!         let _permit = self.permits.acquire().await?;
//!         Ok(self.number * self.number)
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     lockkeeper::program().task::<Draw>().run(async {
//!         let manager = Manager::start().await?;
//!         let permits = manager.semaphore(2).await?;
//!         let pool = Pool::new(4).await?;
//!         let draws = (0..10).map(|number| Draw { number, permits: permits.clone() });
//!         for value in pool.map(draws).await? {
//!             println!("{}", value?);
//!         }
//!         Ok(())
//!     })
//! }
//! ```

// A library's standard output is its program's; its tests are free to print.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

mod address;
mod arbiters;
mod client;
mod deadlock;
mod error;
mod fence_file;
mod inspect;
mod kinds;
mod limits;
mod manager;
mod observe;
mod part;
mod pool;
mod process;
mod program;
mod proxy;
mod server;
mod session;
mod shape;
mod supervisor;
mod task;
mod wire;

pub use address::Address;
pub use client::{label, spin_for};
pub use deadlock::Deadlocks;
pub use error::{CallError, StartError};
pub use fence_file::{FenceError, FenceFile};
pub use inspect::{CallInfo, ObjectInfo, PartInfo, Snapshot};
pub use limits::Limits;
pub use lockkeeper_actors::{
    self as actors, Abandoned, Bench, Breach, Call, CallId, Claim, Deadlock, Fault, Fence, HangUp,
    Member, Operation, Operations, Parked, Peer, Primitive, Refusal, Serve, SessionId, Stats,
    Survey, Tenure, Times, Wait, WaitQueue,
    data::{QueueStatus, TaskFault, TaskQueueStatus, ValueStatus, Versioned},
    sync::{
        BarrierSpec, BarrierStatus, EventStatus, Key, KeyStatus, KeyedStatus, LatchStatus,
        LockStatus, OnDeath, Passed, RwLockStatus, SemaphoreStatus, Wake,
    },
};
pub use manager::{Manager, ManagerBuilder, Named};
pub use pool::{Pool, PoolBuilder, TaskHandle};
pub use program::{Program, program};
#[doc(hidden)]
pub use proxy::several::Place;
pub use proxy::{
    Grant, Proxy, Token,
    abandoned::AbandonedGuard,
    barrier::{ActionError, Barrier},
    block_on,
    condition::{Condition, ConditionGuard, SetName},
    event::Event,
    guard::{Guard, Guarded, Ticket},
    keyed::{
        HeldKey, KeyedGuard, KeyedKind, KeyedLock, KeyedOf, KeyedPermit, KeyedSemaphore, OneKey,
    },
    latch::Latch,
    lock::{Lock, LockGuard, LockKind, LockOf},
    owner::Owner,
    permit::Permit,
    queue::Queue,
    reentrant_lock::{ActsFor, ReentrantGuard, ReentrantLock},
    rw_guard::{
        Reading, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard, Upgradable, Writing,
    },
    rw_lock::RwLock,
    semaphore::{BoundedSemaphore, Semaphore, SemaphoreOf},
    several::{Lockable, Several, SomeGuards, lock_all, lock_some},
    taken::{PutError, Taken},
    value::Value,
};
pub use task::{Plain, PlainTask, Task, TaskError};

/// The README's programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;

/// So is that of docs/OBSERVING.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/OBSERVING.md")]
pub struct ObservingDoctests;
