//! Proxies: serde values that name an object and call it, one module for each kind.
//!
//! They may import `client`, the modules below it, and kinds as type parameters. Invariant: a proxy
//! does not depend on sockets or the server.

// The first block of a type on its page is that of its first module.
pub(crate) mod lock;

pub(crate) mod abandoned;
pub(crate) mod ask;
pub(crate) mod barrier;
pub(crate) mod binding;
pub(crate) mod bound;
pub(crate) mod condition;
pub(crate) mod end;
pub(crate) mod event;
pub(crate) mod guard;
pub(crate) mod held_item;
pub(crate) mod hold;
pub(crate) mod keyed;
pub(crate) mod latch;
pub(crate) mod lock_kind;
pub(crate) mod permit;
pub(crate) mod proxy;
pub(crate) mod queue;
pub(crate) mod reentrant_lock;
pub(crate) mod rw_guard;
pub(crate) mod rw_lock;
pub(crate) mod schema;
pub(crate) mod semaphore;
pub(crate) mod served;
pub(crate) mod several;
pub(crate) mod taken;
pub(crate) mod token;
pub(crate) mod typed;
pub(crate) mod value;
pub(crate) mod wait;
pub(crate) mod watch;
