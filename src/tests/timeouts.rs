//! Checks that the error of a timeout has words for each built-in operation that can wait.

use crate::{
    error::CallError,
    server::kinds::Kinds,
    subject::{Asked, Subject},
};

/// The operations that a manager answers at once. All others can wait, or are repeated until they succeed.
const AT_ONCE: &[&str] = &[
    "abort",
    "add_permits",
    "adopt",
    "check_type",
    "clear",
    "close",
    "count_down",
    "done",
    "downgrade",
    "fail",
    "force_unlock",
    "forget",
    "key_status",
    "mark_consistent",
    "notify",
    "put_back",
    "read",
    "release",
    "release_any",
    "reset",
    "set",
    "sleepers",
    "status",
    "store",
    "swap",
];

#[test]
fn timeout_of_each_built_in_operation_that_waits_says_what_the_object_lacked() {
    let kinds = Kinds::built_in();
    let mut waits = 0;
    for name in kinds.names() {
        let kind = kinds.get(name).expect("a built-in kind");
        for operation in &*kind.operations {
            let asked = Asked::Call((*operation).to_owned());
            let subject = Subject::new(name, "x").asked(asked);
            let sentence = CallError::TimedOut(subject).to_string();
            let has_words = !sentence.contains("did not answer");
            let can_wait = !AT_ONCE.contains(operation);
            assert_eq!(has_words, can_wait, "{operation} of {name}: {sentence}");
            waits += usize::from(can_wait);
        }
    }
    assert!(waits > kinds.names().count());
}
