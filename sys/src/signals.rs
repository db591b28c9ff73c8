//! Handlers of signals that do nothing, and the return to the default.

use std::{io, mem, ptr};

/// Keeps this process running on SIGINT and SIGTERM, by handlers that do nothing. System calls that a signal
/// interrupts are restarted.
///
/// A program that this process starts has the default handling again, which it would not if the signals were
/// ignored. A handler that is set later, for example by `tokio::signal`, replaces these.
///
/// # Errors
///
/// Returns the error of the system, which has none for these signals.
pub fn outlast_interrupts() -> io::Result<()> {
    // SAFETY: all fields of the structure are numbers, sets of bits or an optional function.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler uses nothing, so it may run at any time.
        if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives SIGTERM its default effect again, unless the program has replaced the handler of [`outlast_interrupts`].
///
/// # Errors
///
/// Returns the error of the system, which has none for this signal.
pub fn restore_termination() -> io::Result<()> {
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the structure is valid, and no handler is set.
    if unsafe { libc::sigaction(libc::SIGTERM, ptr::null(), &raw mut action) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if action.sa_sigaction != do_nothing as extern "C" fn(libc::c_int) as usize {
        return Ok(());
    }
    action.sa_sigaction = libc::SIG_DFL;
    // SAFETY: the default effect needs no handler.
    if unsafe { libc::sigaction(libc::SIGTERM, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn do_nothing(_: libc::c_int) {}
