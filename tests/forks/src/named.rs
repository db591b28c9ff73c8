//! Processes that are told from later ones with their ids: a system with few ids gives one again within minutes.

use std::{fmt, fs, io::Error, str::FromStr};

/// A process, by its id and the time of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    pid: i32,
    started: u64,
}

impl Named {
    /// Returns this process.
    ///
    /// # Panics
    ///
    /// Panics without `/proc`.
    #[must_use]
    pub fn this() -> Self {
        let pid = i32::try_from(std::process::id()).expect("a process id");
        Self::of(pid).expect("it is there")
    }

    /// Returns the process that has the id now, which may have ended if its parent has not waited for it.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let (_, started) = state_of(pid)?;
        Some(Self { pid, started })
    }

    /// Whether it runs. A zombie does not.
    #[must_use]
    pub fn is_running(self) -> bool {
        state_of(self.pid)
            .is_some_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    /// Kills it, and no process that has its id by now.
    ///
    /// # Panics
    ///
    /// Panics when the system has no descriptor left.
    pub fn kill(self) {
        // SAFETY: it makes a descriptor.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if process < 0 {
            let error = Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error}");
            return;
        }
        // If the process still has the id, the descriptor is that of the process.
        if self.is_running() {
            // SAFETY: it sends a signal, without further data.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, libc::SIGKILL, 0, 0) };
        }
        let process = i32::try_from(process).expect("a descriptor");
        // SAFETY: the descriptor is closed once.
        unsafe { libc::close(process) };
    }
}

/// The state of a process, and the time of its start in ticks of the system.
fn state_of(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    // The 22nd field, of which the state is the third.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.started)
    }
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@');
        let named = parts.and_then(|(pid, started)| {
            Some(Self {
                pid: pid.parse().ok()?,
                started: started.parse().ok()?,
            })
        });
        named.ok_or_else(|| format!("{text:?} names no process"))
    }
}
