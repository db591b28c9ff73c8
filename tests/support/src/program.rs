//! Copies of the test binary.

use std::{path::Path, process::Command};

/// Copies a program in another process. A child of another thread may be forked while this process has the copy open
/// for writing, and no program can be started while any process has.
///
/// # Panics
///
/// Panics when the program cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status();
    assert!(copied.expect("cp starts").success(), "no copy at {to:?}");
}
