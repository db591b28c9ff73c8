//! Tests that set or count what belongs to the whole process: its recorder, its subscriber, its
//! label, its descriptors.

use std::{
    any::type_name,
    env,
    process::{Command, Stdio},
};

use crate::run::Watchdog;

/// The variable that names the test which this process was started for.
const TEST: &str = "LOCKKEEPER_TEST_IN_OWN_PROCESS";

/// Runs a test in a process of its own: the test binary once more, with that test alone.
///
/// It is to be called with a closure, directly in the test function, whose name it takes from the
/// closure's type.
///
/// # Panics
///
/// Panics with the output of that process when the test fails there.
pub fn in_own_process<F: FnOnce()>(test: F) {
    let name = test_name::<F>();
    if env::var(TEST).is_ok_and(|wanted| wanted == name) {
        let _watchdog = Watchdog::start();
        return test();
    }
    let output = Command::new(env::current_exe().expect("a test has a file"))
        .args(["--exact", "--nocapture", "--test-threads=1", name])
        .env(TEST, name)
        .stdin(Stdio::null())
        .output()
        .expect("a process can be started");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let has_passed = output.status.success() && stdout.contains("1 passed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        has_passed,
        "{name} failed in its own process: {}\n{stdout}\n{stderr}",
        output.status
    );
}

/// The harness's name of the test that has a closure of this type: its path without the crate.
fn test_name<F>() -> &'static str {
    let path = type_name::<F>();
    let path = path
        .split_once("::{{closure}}")
        .map_or(path, |(path, _)| path);
    path.split_once("::").map_or(path, |(_, path)| path)
}
