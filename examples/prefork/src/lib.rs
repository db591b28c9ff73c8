//! A prefork web service: several processes accept requests from one socket, and share a limit and locks.
//!
//! An order makes a charge at a bank, which permits four charges at a time and one for each customer. A semaphore and
//! a keyed lock of the main program keep to that over all processes, also when some of them are killed.
//!
//! | module | contents |
//! | --- | --- |
//! | `bank` | the bank, which counts the charges: the witness of the tests |
//! | `listener` | how processes get the socket that the main program listens on |
//! | `worker` | the processes: an actix-web server in each |
//! | `service` | the main program's side: starts the processes, replaces them, and ends them |

mod bank;
mod listener;
mod service;
mod worker;

pub use bank::{Bank, Books};
pub use service::{Service, program};
