//! Programs whose children would not become workers or managers: an error, and no process.
//!
//! No test here makes the call at the top of main, for itself or for others, but in a process of
//! its own.

#[path = "support/parts.rs"]
mod parts;
mod support;

use std::{fs, future::pending};

use lockkeeper::{Manager, Pool, StartError};
use parts::{Part, play, say};
use support::run;

/// The parts run in test processes of their own, so what they declare is theirs alone.
#[test]
fn children() {
    play("misnamed", |test: String| async move {
        lockkeeper::program().in_test(&test);
        say(&why(Manager::spawn().await.map(drop)));
        say(&why(Pool::new(3).await.map(drop)));
        pending::<()>().await;
    });
    play("forgetful", |(): ()| async {
        say(&why(Manager::spawn().await.map(drop)));
        say(&why(Pool::new(3).await.map(drop)));
        pending::<()>().await;
    });
}

/// A test that, as a child, does not make the call.
#[test]
fn does_something_else() {}

fn why(started: Result<(), StartError>) -> String {
    started.unwrap_err().to_string()
}

/// How many processes a process has started that are there still, also as zombies.
fn children_of(pid: u32) -> usize {
    let is_child = |stat: &String| {
        // The name stands in parentheses; behind it are the state and the parent.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1) == Some(&pid.to_string())
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(is_child)
        .count()
}

#[test]
fn program_that_forgot_the_call_starts_no_process() {
    run(async {
        let spawned = Manager::spawn().await.map(drop);
        assert_eq!(spawned, Err(StartError::NotAProgram));
        let pool = Pool::new(3).await.map(drop);
        assert_eq!(pool, Err(StartError::NotAProgram));
        // What needs no process works all the same.
        let manager = Manager::start().await.unwrap();
        drop(manager.lock().await.unwrap().acquire().await.unwrap());

        let mut forgetful = Part::start("forgetful", &());
        for _ in 0..2 {
            assert!(forgetful.hear().contains("call lockkeeper::program()"));
        }
        assert_eq!(children_of(forgetful.pid()), 0);
    });
}

#[test]
fn program_whose_children_do_not_make_the_call_is_told_so() {
    run(async {
        for test in ["no_such_test", "does_something_else"] {
            let mut misnamed = Part::start("misnamed", &test);
            for _ in 0..2 {
                let why = misnamed.hear();
                assert!(why.contains("ended before it was ready"), "{why}");
                assert!(why.contains("lockkeeper::program()"), "{why}");
            }
            assert_eq!(children_of(misnamed.pid()), 0);
        }
    });
}
