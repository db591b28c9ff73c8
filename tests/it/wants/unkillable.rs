//! Child processes that cannot be killed, such as those that wait for a broken disk: the library waits for
//! their end for a limited time.
//!
//! A tracer that gets exit events stops a process during its exit, so SIGKILL does not end the process.

use std::{
    future::pending,
    thread,
    time::{Duration, Instant},
};

use lockkeeper::{Pool, errors::WorkerExit};
use lockkeeper_test_support::{Role, Roles, is_running, report, until};
use nix::{
    sys::ptrace::{self, Options},
    unistd::Pid,
};

use crate::{
    pool::{actions::Action, basic_tasks::Who},
    run,
};

/// The time limit for the end of a pool or a manager with such a child.
const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("wants::tracer", trace);
}

/// Prevents the end of a process while this one is running.
async fn trace(pid: i32) {
    let seized = ptrace::seize(Pid::from_raw(pid), Options::PTRACE_O_TRACEEXIT);
    report(&seized.map_or_else(|error| error.to_string(), |()| "seized".to_owned()));
    pending::<()>().await;
}

/// Makes a process unkillable until the returned role is dropped.
fn hold(pid: u32) -> Option<Role> {
    let mut tracer = Role::start("wants::tracer", &pid);
    let shown = tracer.next_report();
    let is_seized = shown == "seized";
    if !is_seized {
        println!("skipped: no process can be traced here: {shown}");
    }
    is_seized.then_some(tracer)
}

#[test]
fn pool_ends_although_its_workers_cannot_be_killed() {
    run(async {
        let ends: [fn(Pool) -> thread::JoinHandle<()>; 2] = [
            |pool| thread::spawn(move || drop(pool)),
            |pool| thread::spawn(move || lockkeeper::block_on(pool.terminate())),
        ];
        let mut ending = Vec::new();
        for end in ends {
            let pool = Pool::new(2).await.unwrap();
            let worker = pool.pids().await[0];
            let Some(tracer) = hold(worker) else {
                return;
            };
            ending.push((tracer, worker, Instant::now(), end(pool)));
        }
        for (tracer, worker, begun, end) in ending {
            end.join().unwrap();
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            assert!(is_running(worker), "the worker was killed");
            drop(tracer);
            until("the worker ends", || async { !is_running(worker) }).await;
        }
    });
}

#[test]
fn worker_without_a_session_that_does_not_end_is_replaced() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        let worker = pool.apply(Who).await.unwrap();
        let Some(_tracer) = hold(worker) else {
            return;
        };
        let outcome = pool.apply(Action::CloseAndBlock).await;
        let error = outcome.unwrap_err();
        assert_eq!(
            (error.exit(), error.pid()),
            (Some(WorkerExit::Unknown), Some(worker))
        );
        assert_ne!(pool.apply(Who).await.unwrap(), worker);
        assert!(is_running(worker), "the worker was killed");
    });
}
