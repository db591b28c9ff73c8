//! Shared support of lockkeeper's integration tests.
//!
//! | Module | Contents |
//! | --- | --- |
//! | `run` | a runtime for each test, and the watchdog that ends a hung test |
//! | `relay` | a network between clients and a manager, which fails on demand |
//! | `role` | child processes of the test binary, each in a role |
//! | `own_process` | tests that need their own process |
//! | `program` | copies of the test binary |
//! | `signals` | killing, stopping and inspecting processes |
//! | `until` | polling a state with a deadline |
//! | `turns` | dropping a future after each number of polls |
//! | `user` | acting as another user |
//! | `seed` | reproducible random numbers |
//!
//! Invariant: this crate does not depend on lockkeeper.

mod own_process;
mod program;
mod relay;
mod role;
mod run;
mod seed;
mod signals;
mod turns;
mod until;
mod user;

pub use own_process::in_own_process;
pub use program::copy_program;
pub use relay::{Link, Relay};
pub use role::{Role, Roles, report};
pub use run::{Watchdog, run};
pub use seed::seeded;
pub use signals::{children_of, is_running, kill, signal, signal_group, stop};
pub use turns::{for_turns, run_in_turns, sweep};
pub use until::until;
pub use user::{act_as, may_act_as_others};
