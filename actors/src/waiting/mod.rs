//! Parked calls in order, and how one of them, or all of a session, are found without a scan.
//!
//! | module | contents |
//! | --- | --- |
//! | `call_index` | where each of many calls is, in five bytes a call |
//! | `call_table` | what is kept of each of many calls, by place and by call |
//! | `lines` | any number of FIFO lines in one store |
//! | `wait_queue` | one FIFO line: what most kinds need |

pub(crate) mod call_index;
pub(crate) mod call_table;
pub(crate) mod lines;
pub(crate) mod wait_queue;

pub use call_table::Parked;
pub use wait_queue::WaitQueue;
