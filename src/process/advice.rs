//! What to do about a child that ended before it was ready.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::Signal;

/// The exit code of a child that could not take its role and has printed the reason.
pub(crate) const EXIT_NO_ROLE: i32 = 70;

/// The exit code of a program whose main panicked.
const EXIT_PANICKED: i32 = 101;

/// The exit code of the system's loader, which has printed which library of a program it does not find.
const EXIT_NOT_LOADED: i32 = 127;

/// The advice about a program that the loader does not load.
const NOT_LOADED: &str = "the loader did not find all of the program's libraries, and its standard error names them. \
                          After a chroot, start pools and managers before it, or copy the libraries into the new root";

/// The advice if the child may have run main without taking its role.
pub(super) const MISSED: &str = "is lockkeeper::program() the first thing that main does?";

/// Returns the advice if the child should have run a test, which may not exist.
pub(super) fn missed_in_test(test: &str, is_missing: bool) -> String {
    if is_missing {
        return format!(
            "no test is named {test:?}. in_test takes the full name of a test that calls \
             lockkeeper::program(), such as \"module::children\""
        );
    }
    format!("does the test {test:?} call lockkeeper::program(), and is it not ignored?")
}

/// Returns the advice about a child that ended in a step of its work.
pub(super) fn in_step(step: &str) -> String {
    format!("it was in {step}, whose code may have ended it: see its standard error")
}

/// Returns whether the child may have run something other than its role: it exited, and not with the code of an error
/// that it printed.
pub(super) fn may_have_run_main(status: ExitStatus) -> bool {
    let code = status.code();
    let others = [EXIT_NO_ROLE, EXIT_PANICKED, EXIT_NOT_LOADED];
    code.is_some_and(|code| !others.contains(&code))
}

/// Returns the advice for a child that took its role, or was ended by a signal.
pub(super) fn of(status: ExitStatus) -> &'static str {
    match status.signal().and_then(Signal::from_named_raw) {
        None if status.code() == Some(EXIT_NOT_LOADED) => NOT_LOADED,
        None if status.code().is_some() => "its standard error tells why",
        Some(Signal::XFSZ) => "raise the limit of the size of files (ulimit -f)",
        Some(Signal::XCPU) => "raise the limit of processor time (ulimit -t)",
        Some(Signal::KILL) => {
            "the system kills processes when the machine or their cgroup has no memory left (dmesg)"
        }
        Some(_) | None => "a signal ended it; its standard error may tell why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the status of a process that a signal ended.
    fn signalled(signal: Signal) -> ExitStatus {
        ExitStatus::from_raw(signal.as_raw())
    }

    /// Returns the status of a process that exited.
    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn only_a_child_that_exited_without_an_error_of_its_own_may_have_run_main() {
        assert!([0, 1, 2].map(exited).into_iter().all(may_have_run_main));
        let others = [
            exited(EXIT_NO_ROLE),
            exited(EXIT_PANICKED),
            exited(EXIT_NOT_LOADED),
            signalled(Signal::XFSZ),
            signalled(Signal::KILL),
        ];
        assert!(!others.into_iter().any(may_have_run_main));
        assert!(of(exited(EXIT_PANICKED)).contains("standard error"));
        assert!(of(exited(EXIT_NOT_LOADED)).contains("libraries"));
    }

    #[test]
    fn other_signals_have_the_advice_that_fits_them() {
        assert!(of(signalled(Signal::KILL)).contains("no memory left (dmesg)"));
        // The lowest real-time signal has no name.
        let unnamed = ExitStatus::from_raw(34);
        for status in [Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::SYS].map(signalled) {
            assert!(of(status).contains("a signal ended it"), "{status}");
        }
        assert!(of(unnamed).contains("a signal ended it"), "{unnamed}");
        // A real end by SIGSEGV may leave a core dump, which is another bit.
        assert!(of(ExitStatus::from_raw(0x80 | 11)).contains("a signal ended it"));
    }

    #[test]
    fn signals_of_limits_name_the_limit() {
        for (signal, limit) in [(Signal::XFSZ, "ulimit -f"), (Signal::XCPU, "ulimit -t")] {
            assert!(of(signalled(signal)).contains(limit));
        }
    }
}
