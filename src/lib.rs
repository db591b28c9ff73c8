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
//! | [`ClientBuilder`] | how a process connects to them: label, spin, reconnection |
//! | [`Lock`], [`ReentrantLock`], [`Condition`] | built-in kinds with one holder at a time |
//! | [`RwLock`] | many who read, or one who writes |
//! | [`KeyedLock`], [`KeyedSemaphore`] | a lock, or some permits, for each of any number of keys |
//! | [`lock_all`], [`lock_some`] | several locks at once |
//! | [`Wait`] | a call that waits: awaited, with a timeout, or on a plain thread |
//! | [`Queue`], [`Value`] | built-in kinds that keep data of your types |
//! | [`Semaphore`], [`BoundedSemaphore`], [`Event`], [`Barrier`], [`Latch`] | the other built-in kinds |
//! | [`Ticket`], [`ReleaseBy`] | who may release what a process holds |
//! | [`Primitive`], [`Operation`], [`Serve`], [`Proxy`], [`Proof`] | kinds of your own |
//! | [`dynamic`] | calls by names and bytes, for bindings and tools |
//! | [`Pool`], [`Task`], [`PlainTask`] | processes that run tasks |
//! | [`Manager::in_memory`] | managers for tests, also with a paused clock |
//! | [`transport`] | what carries bytes between processes, also of your own making |
//! | [`Fence`], [`FenceFile`] | how a resource refuses a holder that comes too late |
//! | [`Snapshot`], [`deadlock`] | who holds what, who waits, and who waits for ever |
//! | [`CallError`], [`StartError`], [`TaskError`] | what can go wrong |
//!
//! What happens is told through the crates `tracing` and `metrics`; docs/OBSERVING.md in the repository
//! lists what.
//!
//! Proxies work on any tokio runtime, and from plain threads through [`Wait::blocking`] and
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

mod access;
mod address;
mod address_error;
mod background;
mod client;
mod error;
mod fence_file;
mod files;
mod limits;
mod manager;
mod pool;
mod process;
mod program;
mod proxy;
mod server;
mod subject;
mod telemetry;
pub mod transport;
mod undecoded;
mod want;

#[cfg(test)]
mod tests;

pub use address::Address;
pub use address_error::{AddressError, BadAddress};
pub use client::thread::block_on;
pub use error::{CallError, StartError, TaskError};
pub use fence_file::{FenceError, FenceFile};
pub use limits::Limits;
pub use lockkeeper_actors::{
    self as actors, Bench, Call, HangUp, HoldTimer, Operations, Parked, Primitive, Serve, Stored,
    Survey, WaitQueue,
};
pub use lockkeeper_protocol::{
    Abandoned, Breach, CallId, CallInfo, Fault, Fence, ObjectInfo, Operation, PartInfo, Peer,
    Proof, Refusal, SessionId, SignedCall, Snapshot, Stats, Times,
    operations::{
        BarrierSpec, BarrierStatus, EventStatus, Key, KeyStatus, KeyedStatus, LatchStatus,
        LockStatus, OnDeath, Passed, QueueStatus, ReleaseBy, RwLockStatus, SemaphoreStatus,
        TaskFault, ValueStatus, Versioned, Wake, WorkerExit,
    },
};
pub use manager::{
    builder::ManagerBuilder,
    client::ClientBuilder,
    manager::Manager,
    named::{Named, Releasable, WithSchema},
};
pub use pool::{
    handle::TaskHandle,
    pool::{Pool, PoolBuilder},
    status::PoolStatus,
    task::{Plain, PlainTask, Task},
};
pub use program::{Program, program};
#[doc(hidden)]
pub use proxy::several::Target;
pub use proxy::{
    abandoned::AbandonedGuard,
    barrier::{ActionError, Barrier},
    condition::{Condition, ConditionGuard, SetName},
    event::Event,
    guard::{Guard, Guarded, Ticket},
    hold::Grant,
    keyed::{
        held::{HeldKey, KeyedGuard, KeyedPermit},
        keyed::{KeyedKind, KeyedLock, KeyedOf, KeyedSemaphore},
    },
    latch::Latch,
    lock::{Lock, LockGuard, LockOf},
    lock_kind::LockKind,
    owner::Owner,
    permit::Permit,
    proxy::Proxy,
    queue::Queue,
    reentrant_lock::{ActsFor, ReentrantGuard, ReentrantLock},
    rw_guard::{
        Reading, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard, Upgradable, Writing,
    },
    rw_lock::RwLock,
    semaphore::{BoundedSemaphore, Semaphore, SemaphoreOf},
    several::{Lockable, SomeGuards, lock_all, lock_some, try_lock_all, try_lock_some},
    taken::{GetError, PutError, Taken, UndecodedItem},
    token::Token,
    value::Value,
    wait::Wait,
};
pub use subject::Subject;
pub use undecoded::Undecoded;

/// Calls by kind, operation and MessagePack bytes: for bindings and tools, which have no Rust types.
///
/// PROTOCOL.md in the repository tells the operations of the built-in
/// kinds, and how their specs, arguments and replies are written. A call takes the same way as that of a typed
/// proxy: it is withdrawn when it is dropped, the manager keeps its time, and its connection is that of the process.
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
    pub use crate::proxy::dynamic::{Answer, Hold, Object};
}

/// What a deadlock report says: which calls wait for each other, and for what.
pub mod deadlock {
    pub use lockkeeper_protocol::{Claim, Deadlock, Member, Wait};

    pub use crate::server::deadlock::policy::Deadlocks;
}

/// The README's programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;

/// So is that of docs/OBSERVING.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/OBSERVING.md")]
pub struct ObservingDoctests;
