//! The built-in synchronization primitives, each a pure state machine.

mod lock;
mod semaphore;

pub use lock::{
    Acquire, Adopt, ForceUnlock, Lock, LockGrant, LockStatus, MarkConsistent, Release, Status,
};
pub use semaphore::{
    AcquireMany, AddPermits, Bound, Bounded, BoundedSemaphore, Close, Count, Counting, Forget,
    MarkPermitsConsistent, PermitGrant, ReleasePermits, Semaphore, SemaphoreSpec, SemaphoreStatus,
    Unbounded,
};
