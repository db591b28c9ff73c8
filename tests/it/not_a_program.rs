//! Programs that do not call `lockkeeper::program()`, and programs whose children do not: pools and
//! spawned managers fail with an error, and no process is left.
//!
//! So no test and no role here calls [`crate::program`].

use std::future::pending;

use lockkeeper::{Manager, Pool, StartError};
use lockkeeper_test_support::{Role, Roles, children_of, in_own_process, report, run, until};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("not_a_program::misnamed", |test: String| async move {
        lockkeeper::program().in_test(&test);
        report(&why(Manager::spawn().await.map(drop)));
        report(&why(Pool::new(3).await.map(drop)));
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

fn why(started: Result<(), StartError>) -> String {
    started.unwrap_err().to_string()
}

#[test]
fn program_that_forgot_the_call_starts_no_process() {
    in_own_process(|| {
        run(async {
            let spawned = Manager::spawn().await.map(drop);
            assert_eq!(spawned, Err(StartError::NotAProgram));
            let pool = Pool::new(3).await.map(drop);
            assert_eq!(pool, Err(StartError::NotAProgram));
            // What needs no child process works.
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

/// Why no children start of a program that calls `in_test` with that name.
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
fn program_whose_children_do_not_make_the_call_is_told_so() {
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
fn program_whose_test_has_another_name_is_told_so() {
    run(async {
        // That of none, of a module, a part of a name, and one in another place.
        for test in ["no_such_test", "not_a_program", "child", "tests::children"] {
            for why in whys_of_misnamed(test).await {
                assert!(why.contains("ended before it was ready"), "{why}");
                assert!(why.contains(&format!("no test is named {test:?}")), "{why}");
            }
        }
    });
}
