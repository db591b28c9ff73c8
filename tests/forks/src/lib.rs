//! Forks in tests: child processes without exec. Each has a watchdog, and its parent waits for it.

use std::{
    env, fs,
    io::{Error, PipeReader, Read, Write},
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

mod named;
mod stand_ins;

pub use named::Named;
pub use stand_ins::{
    detached_threads, make_closes_slow, make_file_locks_slow, make_socket_pairs_slow,
    refuse_peer_processes, slow_file_locks, slow_socket_pairs,
};

/// How long a fork may live, in seconds. SIGALRM ends it then.
const LIFE: u32 = 40;

/// The time limit for a state.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A forked child. Dropping it kills the child.
#[derive(Debug)]
pub struct Fork {
    pid: i32,
    has_ended: bool,
}

impl Fork {
    /// Forks, and runs `work` in the child, which then ends without unwinding or running exit handlers.
    ///
    /// # Panics
    ///
    /// Panics when the system cannot fork.
    pub fn new(work: impl FnOnce()) -> Self {
        // SAFETY: the child uses only what lockkeeper documents as safe in a forked child, and memory, files
        // and sockets.
        Self::begin(unsafe { libc::fork() }, work)
    }

    /// Forks as [`Self::new`] does, but with the system call itself: no handler of the C library
    /// runs.
    ///
    /// # Panics
    ///
    /// As [`Self::new`].
    pub fn raw(work: impl FnOnce()) -> Self {
        let flags = libc::c_long::from(libc::SIGCHLD);
        // SAFETY: as in `new`. Without CLONE_VM and without a stack, the call is a fork.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        Self::begin(i32::try_from(pid).expect("a process id"), work)
    }

    /// Forks, and returns in both processes: `None` in the child, which must call [`end`].
    ///
    /// # Panics
    ///
    /// As [`Self::new`].
    #[must_use]
    pub fn split() -> Option<Self> {
        // SAFETY: as in `new`.
        Self::of(unsafe { libc::fork() })
    }

    fn begin(pid: i32, work: impl FnOnce()) -> Self {
        Self::of(pid).unwrap_or_else(|| {
            let done = panic::catch_unwind(AssertUnwindSafe(work));
            end(i32::from(done.is_err()))
        })
    }

    fn of(pid: i32) -> Option<Self> {
        assert!(pid >= 0, "no process: {}", Error::last_os_error());
        if pid == 0 {
            watch(LIFE);
            return None;
        }
        Some(Self {
            pid,
            has_ended: false,
        })
    }

    /// Returns the process id.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the end of the child, which must succeed.
    ///
    /// # Panics
    ///
    /// Panics when the child panicked, was killed, or does not end.
    pub fn join(mut self) {
        let status = self.wait();
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            "the child ended with status {status:#x} (0xe is the watchdog)"
        );
    }

    /// Kills the child and waits for its end.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: this sends a signal to a child that was not waited for, so the system has not
        // reused its id.
        let _ = unsafe { libc::kill(self.pid, signal) };
    }

    fn wait(&mut self) -> i32 {
        let (mut status, deadline) = (0, Instant::now() + PATIENCE + PATIENCE);
        loop {
            // SAFETY: `status` is writable.
            let ended = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
            if ended != 0 {
                self.has_ended = true;
                return status;
            }
            assert!(Instant::now() < deadline, "child {} does not end", self.pid);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        if !self.has_ended {
            self.signal(libc::SIGKILL);
            self.wait();
        }
    }
}

/// Makes SIGALRM end this process after some seconds.
pub fn watch(seconds: u32) {
    // SAFETY: this only sets a timer of this process.
    let _ = unsafe { libc::alarm(seconds) };
}

/// Ends this process at once.
pub fn end(code: i32) -> ! {
    // SAFETY: the call does not return.
    unsafe { libc::_exit(code) }
}

/// Ends only this thread, without unwinding. The process keeps running while it has other threads, even without its
/// first one.
pub fn end_thread() -> ! {
    loop {
        // SAFETY: the call does not return, and data that the thread has borrowed stays valid.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Has the system kill only this thread, by a filter of its system calls.
///
/// # Panics
///
/// Panics when the system refuses the filter.
pub fn kill_thread() -> ! {
    let statement = |code: u32, k: u32, (jt, jf): (u8, u8)| libc::sock_filter {
        code: u16::try_from(code).expect("a small number"),
        jt,
        jf,
        k,
    };
    let getppid = u32::try_from(libc::SYS_getppid).expect("a small number");
    let mut filter = [
        // Loads the number of the system call, which is the first field.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, (0, 0)),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, getppid, (0, 1)),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_KILL_THREAD,
            (0, 0),
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, (0, 0)),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("a small number"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the system copies the filter, which only this thread gets. It ends at the call after it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        );
        assert_eq!(set, 0, "{}", Error::last_os_error());
        libc::syscall(libc::SYS_getppid);
    }
    panic!("the system has not killed this thread");
}

/// Has the exit of this process never return: it runs a handler that names its thread `hangs` and waits for ever.
///
/// # Panics
///
/// Panics when there is no room for the handler.
pub fn hang_at_exit() {
    extern "C" fn hang() {
        fs::write("/proc/thread-self/comm", "hangs").expect("the system has /proc");
        pause()
    }
    // SAFETY: the function exists for the lifetime of this process.
    let registered = unsafe { libc::atexit(hang) };
    assert_eq!(registered, 0);
}

/// Has the exit of this process exit again, with code 8.
///
/// # Panics
///
/// Panics when there is no room for the handler.
pub fn exit_at_exit() {
    extern "C" fn again() {
        exit(8)
    }
    // SAFETY: the function exists for the lifetime of this process.
    let registered = unsafe { libc::atexit(again) };
    assert_eq!(registered, 0);
}

/// Returns whether a descriptor is a connected socket whose other end is closed and which has no bytes to
/// read.
#[must_use]
pub fn is_dead(number: i32) -> bool {
    let (mut byte, flags) = ([0_u8; 1], libc::MSG_PEEK | libc::MSG_DONTWAIT);
    // SAFETY: the buffer has room for one byte.
    unsafe { libc::recv(number, byte.as_mut_ptr().cast(), 1, flags) == 0 }
}

/// Closes all descriptors of this process except the standard ones, even if they are in use, as a process does
/// that becomes a daemon.
pub fn close_all() {
    // SAFETY: the caller uses none of them afterwards.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    assert_eq!(closed, 0, "{}", Error::last_os_error());
}

/// Removes all variables from the environment of this process.
pub fn clear_environment() {
    for (name, _) in env::vars_os() {
        // SAFETY: the process has no other thread that reads the environment through the C library.
        unsafe { env::remove_var(name) };
    }
}

/// Makes the C library run functions before each fork, and after it in the child.
pub fn on_fork(before: extern "C" fn(), in_child: extern "C" fn()) {
    // SAFETY: the functions exist for the lifetime of this process.
    let registered = unsafe { libc::pthread_atfork(Some(before), None, Some(in_child)) };
    assert_eq!(registered, 0);
}

/// Ends this process with its exit handlers.
pub fn exit(code: i32) -> ! {
    // SAFETY: no other thread of a forked child runs exit handlers.
    unsafe { libc::exit(code) }
}

/// Puts the forks of this process into a new pid namespace, where the first one is process 1. Returns whether
/// the system permits it.
#[must_use]
pub fn unshare_pids() -> bool {
    // SAFETY: the call changes no memory.
    unsafe { libc::unshare(libc::CLONE_NEWPID) == 0 }
}

/// Kills a process that is not a child of this one.
pub fn kill(pid: i32) {
    // SAFETY: the call only sends a signal.
    let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Returns whether a process is running. A zombie is not.
#[must_use]
pub fn is_running(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, Some(Some('Z' | 'X')) | None)
}

/// Polls until the condition holds.
///
/// # Panics
///
/// Panics with `what` when that takes too long.
pub fn until(what: &str, ask: impl FnMut() -> bool) {
    until_within(PATIENCE, what, ask);
}

/// Polls until the answer is yes, for a limited time.
///
/// # Panics
///
/// Panics with `what` when that takes longer.
pub fn until_within(patience: Duration, what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !ask() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a number to another process.
///
/// # Panics
///
/// Panics when the pipe is closed.
pub fn tell(mut pipe: impl Write, number: i32) {
    pipe.write_all(&number.to_ne_bytes())
        .expect("the pipe takes it");
}

/// Receives a number from another process.
///
/// # Panics
///
/// Panics when the other process has ended.
#[must_use]
pub fn hear(pipe: &mut PipeReader) -> i32 {
    let mut bytes = [0; 4];
    pipe.read_exact(&mut bytes).expect("a number");
    i32::from_ne_bytes(bytes)
}

/// Waits until a signal ends this process.
pub fn pause() -> ! {
    loop {
        thread::sleep(PATIENCE);
    }
}

/// Has this process have no descriptors beside those below a number.
pub fn limit_descriptors(below: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable, and is read.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = below;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// Runs `work` while signals interrupt the system calls of this thread, and those of the others now and then. The
/// handler does not have the system restart them.
pub fn among_signals<T>(work: impl FnOnce() -> T) -> T {
    extern "C" fn handle(_: libc::c_int) {}
    let handle: extern "C" fn(libc::c_int) = handle;
    // SAFETY: a zero is a value of each field, and the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as libc::sighandler_t;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()),
            0
        );
    }
    // SAFETY: it returns the number of this thread.
    let this = unsafe { libc::pthread_self() };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0_u32.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                // SAFETY: the thread and the process are there, and have a handler.
                unsafe {
                    if turn.is_multiple_of(8) {
                        libc::kill(libc::getpid(), libc::SIGUSR1);
                    } else {
                        libc::pthread_kill(this, libc::SIGUSR1);
                    }
                }
                thread::sleep(Duration::from_micros(20));
            }
        });
        let done = panic::catch_unwind(AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Runs `work` while this process waits for all of its children by itself, whichever thread has started them.
pub fn while_all_are_reaped<T>(work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // SAFETY: it writes no status.
                let reaped = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
                if reaped <= 0 {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        });
        let done = panic::catch_unwind(AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Has SIGPIPE end this process, as programs of the command line do.
pub fn let_sigpipe_end() {
    // SAFETY: no handler is replaced.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Connects to an abstract name until its queue is full.
pub fn fill_queue(name: &[u8]) {
    // SAFETY: a zero is a value of each field.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).expect("a small number");
    for (place, byte) in address.sun_path[1..].iter_mut().zip(name) {
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    let length = libc::socklen_t::try_from(length).expect("a small number");
    loop {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the address is initialized, and the descriptor is closed once.
        let error = unsafe {
            let socket = libc::socket(libc::AF_UNIX, kind, 0);
            let connected = libc::connect(socket, (&raw const address).cast(), length);
            let error = (connected != 0).then(Error::last_os_error);
            libc::close(socket);
            error
        };
        if let Some(error) = error {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            return;
        }
    }
}

/// Stops a process, or has it go on.
pub fn make_stopped(pid: i32, is_stopped: bool) {
    let signal = if is_stopped {
        libc::SIGSTOP
    } else {
        libc::SIGCONT
    };
    // SAFETY: the caller knows the process.
    let _ = unsafe { libc::kill(pid, signal) };
}
