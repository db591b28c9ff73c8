//! Managers and clients in network namespaces, whose network loses packets, delays them, cuts connections or fails.
//!
//! Each test makes two namespaces that a pair of virtual devices connects. The manager and some clients run in one
//! of them, and other clients in the other one. Each client records what it did, and `check` reads the records. The
//! tests need root, and the programs of `network::PROGRAMS`. Without them they print SKIPPED with the reason.
//!
//! Invariant: no test expects that a session outlives a fault, or that it ends at once. The tests expect that nothing
//! unsafe happens, and that all clients go on once the network works again.

mod check;
mod client;
mod delay;
mod faults;
mod history;
mod network;
mod programs;
mod scene;

use std::{future::Future, time::Duration};

use lockkeeper_test_support::Roles;

/// The shortest lease.
const LEASE: Duration = Duration::from_secs(2);

fn program() {
    programs::register(lockkeeper::program()).in_test("children");
}

/// Runs a test that has child processes, on a runtime of two threads and under a watchdog.
fn run<F: Future>(test: F) -> F::Output {
    program();
    lockkeeper_test_support::run(test)
}

/// The entry of child processes: a worker, or a role of a test.
#[test]
fn children() {
    let mut roles = Roles::new();
    program();
    client::roles(&mut roles);
    delay::roles(&mut roles);
    programs::roles(&mut roles);
    scene::roles(&mut roles);
    roles.end();
}
