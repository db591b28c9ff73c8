//! The built-in synchronization primitives, each a pure state machine.

mod exclusion;
mod granted;
mod lock;
mod semaphore;

pub use exclusion::{
    Acquire, Adopt, Entrant, Exclusion, Exclusive, ForceUnlock, LockStatus, Release, Status,
};
pub use granted::{Granted, MarkConsistent};
pub use lock::Lock;
pub use semaphore::{
    AcquireMany, AddPermits, Bound, Bounded, BoundedSemaphore, Close, Count, Counting, Forget,
    ReleasePermits, Semaphore, SemaphoreSpec, SemaphoreStatus, Unbounded,
};
