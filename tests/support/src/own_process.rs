//! Runs tests that change or count state of the whole process: its recorder, its subscriber, its
//! label, its descriptors.

use std::{
    any::type_name,
    env,
    process::{Command, Stdio},
};

use crate::run::Watchdog;

/// The environment variable with the test that this process was started for.
const TEST: &str = "LOCKKEEPER_TEST_IN_OWN_PROCESS";

/// Runs a test in its own process, which is the test binary with only that test.
///
/// Call it with a closure, directly in the test function: it takes the name of the test from the
/// closure's type.
///
/// # Panics
///
/// Panics with the output of the process when the test fails.
pub fn in_own_process<F: FnOnce()>(test: F) {
    let name = test_name::<F>();
    if env::var(TEST).is_ok_and(|wanted| wanted == name) {
        let _watchdog = Watchdog::start();
        return test();
    }
    let output = Command::new(env::current_exe().expect("the test binary has a path"))
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

/// Returns the harness's name of the test with a closure of this type: its path without the crate.
fn test_name<F>() -> &'static str {
    let path = type_name::<F>();
    let path = path
        .split_once("::{{closure}}")
        .map_or(path, |(path, _)| path);
    path.split_once("::").map_or(path, |(_, path)| path)
}
