//! Queues of parked calls that find one call, or all calls of a session, without a scan of many.
//!
//! It may import `kind` and the protocol.
//!
//! | module | contents |
//! | --- | --- |
//! | `call_index` | the slot of each call, in about five bytes a call |
//! | `call_table` | a value per call, found by slot, call or session; the trait [`Parked`] |
//! | `queue_store` | the parked calls of any number of FIFO queues |
//! | `wait_queue` | [`WaitQueue`]: one FIFO queue, which most kinds need |

pub(crate) mod call_index;
pub(crate) mod call_table;
pub(crate) mod queue_store;
pub(crate) mod wait_queue;

pub use call_table::Parked;
pub use wait_queue::WaitQueue;
