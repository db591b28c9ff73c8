//! Copies the test binary.

use std::{path::Path, process::Command};

/// Copies a program in another process. If this process wrote the copy, another thread could fork meanwhile, and a
/// program cannot be started while any process has it open for writing.
///
/// # Panics
///
/// Panics when the program cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status();
    assert!(copied.expect("cp starts").success(), "no copy at {to:?}");
}
