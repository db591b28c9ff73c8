//! The integration tests, in one binary with a module for each subject.
//!
//! Tests of one kind are in the module with its name, and tests with killed processes are in its
//! `deaths` module. The tests of this binary share a process: a test that needs its own process
//! uses `in_own_process`.

mod access;
mod addresses;
mod barrier;
mod claims;
mod client;
mod compile_errors;
mod condition;
mod deadlock;
mod drops;
mod dynamic;
mod environments;
mod event;
mod executable;
mod fence_file;
mod guards;
mod in_memory;
mod latch;
mod leases;
mod liveness;
mod lock;
mod manager;
mod not_a_program;
mod observe;
mod own_code;
mod own_kind;
mod own_transport;
mod pool;
mod printed;
mod process;
mod processes;
mod queue;
mod resources;
mod runtimes;
mod rw_lock;
mod semaphore;
mod sentences;
mod signals;
mod trust;
mod undecoded;
mod unpolled;
mod value;
mod values;
mod waits;
mod wants;

use std::future::Future;

use lockkeeper::builders::Program;
use lockkeeper_test_support::Roles;

/// Each function adds the tasks, kinds and transports of a module. Their names are unique in this
/// binary.
const TASKS_AND_KINDS: &[fn(Program) -> Program] = &[
    barrier::register,
    client::register,
    condition::register,
    environments::register,
    event::register,
    in_memory::register,
    latch::register,
    leases::register,
    liveness::register,
    lock::reentrant::register,
    manager::objects::register,
    manager::shards::register,
    manager::spawned::register,
    observe::numbers::register,
    observe::register,
    own_code::register,
    own_kind::register,
    own_transport::register,
    pool::deaths::register,
    pool::drain::register,
    pool::actions::register,
    pool::ends::register,
    pool::basic_tasks::register,
    pool::kills::register,
    pool::leftovers::register,
    pool::limits::register,
    pool::register,
    pool::outcomes::register,
    pool::retries::register,
    pool::storm::register,
    pool::room::register,
    pool::setup::register,
    pool::short_tasks::register,
    pool::streams::register,
    pool::user_code::register,
    pool::waits::register,
    pool::wants::register,
    process::register,
    processes::register,
    queue::register,
    rw_lock::register,
    signals::register,
    value::register,
    values::register,
    waits::register,
];

/// Each function adds the child roles of a module. Their names begin with the module's path.
const ROLES: &[fn(&mut Roles)] = &[
    access::roles,
    addresses::roles,
    barrier::deaths::roles,
    barrier::races::roles,
    barrier::roles,
    claims::roles,
    client::reconnect::roles,
    condition::deaths::roles,
    condition::roles,
    deadlock::roles,
    dynamic::roles,
    environments::roles,
    event::roles,
    executable::roles,
    fence_file::roles,
    latch::roles,
    leases::roles,
    liveness::roles,
    lock::keyed::roles,
    lock::keyed_scale::roles,
    lock::reentrant::roles,
    lock::roles,
    lock::several::roles,
    manager::deaths::roles,
    manager::inspect::roles,
    manager::shards::roles,
    manager::spawned::roles,
    manager::state::roles,
    observe::numbers::roles,
    observe::roles,
    own_kind::roles,
    own_transport::roles,
    pool::ends::roles,
    pool::folderless::roles,
    pool::wants::roles,
    process::roles,
    processes::roles,
    queue::deaths::roles,
    resources::descriptors::roles,
    resources::roles,
    rw_lock::deaths::roles,
    signals::roles,
    trust::roles,
    undecoded::roles,
    value::roles,
    wants::roles,
];

/// Enables pools and spawned managers in the calling test: its child processes run `children`.
fn program() {
    let mut program = lockkeeper::program();
    for register in TASKS_AND_KINDS {
        program = register(program);
    }
    program.in_test("children");
}

/// Runs a test that may have child processes, on a runtime of two threads and under a watchdog.
fn run<F: Future>(test: F) -> F::Output {
    program();
    lockkeeper_test_support::run(test)
}

/// The entry of child processes: a worker, a manager, or a role of a test.
#[test]
fn children() {
    let mut roles = Roles::new();
    // These are roles of programs that do not call `lockkeeper::program()`.
    not_a_program::roles(&mut roles);
    program();
    for add in ROLES {
        add(&mut roles);
    }
    roles.end();
}
