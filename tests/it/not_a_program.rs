//! Programs that do not call `lockkeeper::program()`, and programs whose children do not call it:
//! pools and spawned managers fail with an error, and no process is left.
//!
//! No test and no role in this file calls [`crate::program`].

use std::{env, future::pending};

use lockkeeper::{Manager, Pool, StartError};
use lockkeeper_test_support::{Role, Roles, children_of, in_own_process, report, run, until};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("not_a_program::misnamed", |test: String| async move {
        lockkeeper::program().in_test(&test);
        report(&why(Manager::spawn().await.map(drop)));
        report(&why(Pool::new(3).await.map(drop)));
        pending::<()>().await;
    });
    roles.add("not_a_program::asynchronous", |test: String| async move {
        lockkeeper::program().in_test(&test);
        report(&why(Manager::spawn().await.map(drop)));
        pending::<()>().await;
    });
    roles.add("not_a_program::forgetful", |(): ()| async {
        report(&why(Manager::spawn().await.map(drop)));
        report(&why(Pool::new(3).await.map(drop)));
        pending::<()>().await;
    });
}

/// A test that does not call `program()` when a child runs it.
#[test]
fn does_something_else() {}

/// Calls `program()` in a child. In the suite this would set the test for the children of all tests.
fn call_as_a_child(test: &str) {
    if env::args().any(|argument| argument.starts_with("lockkeeper:")) {
        lockkeeper::program().in_test(test);
    }
}

#[tokio::test]
async fn tokio_test() {
    call_as_a_child("not_a_program::tokio_test");
}

#[actix_rt::test]
async fn actix_test() {
    call_as_a_child("not_a_program::actix_test");
}

#[tokio::test(flavor = "multi_thread")]
async fn test_of_many_threads() {
    call_as_a_child("not_a_program::test_of_many_threads");
}

#[test]
fn error_says_that_the_test_of_the_children_is_async() {
    run(async {
        for test in ["tokio_test", "actix_test", "test_of_many_threads"] {
            let test = format!("not_a_program::{test}");
            let mut role = Role::start("not_a_program::asynchronous", &test);
            let shown = role.next_report();
            let remedy = format!("make the test {test:?}, which in_test names, a plain #[test]");
            assert!(shown.contains(&remedy), "{shown}");
            assert!(shown.contains("(at tests/it/not_a_program.rs:"), "{shown}");
        }
    });
}

fn why(started: Result<(), StartError>) -> String {
    started.unwrap_err().to_string()
}

#[test]
fn program_without_the_call_starts_no_process() {
    in_own_process(|| {
        run(async {
            let spawned = Manager::spawn().await.map(drop);
            assert_eq!(spawned, Err(StartError::ProgramNotCalled));
            let pool = Pool::new(3).await.map(drop);
            assert_eq!(pool, Err(StartError::ProgramNotCalled));
            // A manager on a thread needs no child process.
            let manager = Manager::start().await.unwrap();
            drop(manager.lock().await.unwrap().acquire().await.unwrap());

            let mut forgetful = Role::start("not_a_program::forgetful", &());
            for _ in 0..2 {
                assert!(
                    forgetful
                        .next_report()
                        .contains("call lockkeeper::program()")
                );
            }
            assert!(children_of(forgetful.pid()).is_empty());
        });
    });
}

/// Returns the errors of a program that calls `in_test` with a wrong name.
async fn whys_of_misnamed(test: &str) -> [String; 2] {
    let mut misnamed = Role::start("not_a_program::misnamed", &test);
    let whys = [misnamed.next_report(), misnamed.next_report()];
    // One worker is enough for the error; the others end soon after it.
    until("no child is left", || async {
        children_of(misnamed.pid()).is_empty()
    })
    .await;
    whys
}

#[test]
fn error_says_that_the_children_do_not_make_the_call() {
    run(async {
        let test = "not_a_program::does_something_else";
        for why in whys_of_misnamed(test).await {
            assert!(why.contains("ended before it was ready"), "{why}");
            let hint = format!("does the test {test:?} call lockkeeper::program()");
            assert!(why.contains(&hint), "{why}");
        }
    });
}

#[test]
fn error_says_that_the_test_does_not_exist() {
    run(async {
        // An unknown name, a module, a part of a name, and a name in another module.
        for test in ["no_such_test", "not_a_program", "child", "tests::children"] {
            for why in whys_of_misnamed(test).await {
                assert!(why.contains("ended before it was ready"), "{why}");
                assert!(why.contains(&format!("no test is named {test:?}")), "{why}");
            }
        }
    });
}
