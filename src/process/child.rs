//! Starts child processes of the same program, each in a role.
//!
//! A child runs the program's own executable, with a marker as its first argument and a socket as its
//! standard input: the lifeline. The parent sends its build and the role over the lifeline, and the child
//! reports when it is ready. Each side notices the end of the other as end of file.
//!
//! Invariant: this file does not depend on what a role does. A program that does not take roles never
//! starts children, so children cannot start further copies without end.

use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use lockkeeper_protocol::{
    codec::{self, Blob},
    frame,
    operations::JobOutcome,
};
use lockkeeper_sys::{Private, without_forks};
use rustix::fs::fstat;
use serde::Serialize;
use tokio::process;

use crate::{
    background::{self, background},
    error::{StartError, lack},
    process::{
        advice,
        executable::{Build, Executable},
        lifeline::{Assignment, ChildReport, MOST_BYTES, send_first},
        not_ready::NotReady,
        output::{Pipes, Surroundings},
        reports::Reports,
        threads::first_has_ended,
        within::within,
    },
};

/// The prefix of a child's first argument. The role follows, for `ps`, and the inode of the socket at the child's
/// standard input, so the argument alone does not make a process a child.
pub(super) const MARKER: &str = "lockkeeper:";

/// The time limit from the start of a child until it is ready.
pub(super) const READY_PATIENCE: Duration = Duration::from_secs(60);

/// The time limit for a child to end by itself after its lifeline was closed.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(5);

/// The time limit for the end of a killed child. A child that waits for a broken disk, or is traced, may never end.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The number of consecutive children that SIGINT or SIGTERM may end before they are ready.
pub(crate) const MOST_SIGNALLED: u32 = 8;

/// The time limit for reading the last reports of a child that has ended.
const LAST_REPORTS_PATIENCE: Duration = Duration::from_millis(100);

/// The way in which children of this program are started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    /// Main calls `program()` at its beginning, which takes the role.
    Main,
    /// In a test harness, the test of that name calls it.
    Test(String),
}

static LAUNCH: OnceLock<Launch> = OnceLock::new();

/// Sets how children are started. Only the first call has an effect.
pub(crate) fn set_launch(launch: Launch) {
    Executable::of_this_process();
    LAUNCH.get_or_init(|| launch);
}

/// The parent's handle of a child process. Dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Child {
    pub(super) process: process::Child,
    /// The process id, which the system may give to another process after the end of this one.
    pub(crate) first_pid: u32,
    reports: Reports,
    pipes: Pipes,
    /// When the child was ready.
    since: Option<Instant>,
    /// What the child has reported of its work.
    work: Work,
    /// The test that the child runs, if the program is a test harness.
    test: Option<String>,
}

/// The reports of a child about its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Whether the child reported that its work was done.
    pub(crate) is_done: bool,
    /// The outcome of the task that was all of its work.
    pub(crate) outcome: Option<JobOutcome>,
}

impl Work {
    fn note(&mut self, report: ChildReport) {
        match report {
            ChildReport::Done => self.is_done = true,
            ChildReport::Outcome(outcome) => self.outcome = Some(outcome),
            ChildReport::Begun(_)
            | ChildReport::Waits(_)
            | ChildReport::Ready
            | ChildReport::Failed(..)
            | ChildReport::Lacking(_) => {}
        }
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// How long the child was ready.
    pub(crate) ran: Option<Duration>,
    pub(crate) work: Work,
    /// Whether the child exited by itself with code 0.
    pub(crate) is_well: bool,
    pub(crate) exit: Option<ExitStatus>,
    /// The exit status in words.
    pub(crate) status: String,
}

impl Child {
    /// Starts this program as a child in a role, and passes descriptors to it.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::ProgramNotCalled`] when the program would not take the role, and
    /// [`StartError::System`] when no process can be started.
    pub(crate) fn start<C: Serialize>(
        role: &str,
        config: &C,
        handed: &[BorrowedFd<'_>],
    ) -> Result<Self, StartError> {
        let launch = LAUNCH.get().ok_or(StartError::ProgramNotCalled)?;
        let surroundings = Surroundings::default();
        Self::start_in(&surroundings, launch, role, config, handed)
    }

    fn start_in<C: Serialize>(
        surroundings: &Surroundings,
        launch: &Launch,
        role: &str,
        config: &C,
        handed: &[BorrowedFd<'_>],
    ) -> Result<Self, StartError> {
        let build = Build::of_this_process();
        Self::start_as(launch, &build, surroundings, role, config, handed)
            .map_err(|error| StartError::System(lack(&error)))
    }

    /// Starts this program as a child in a role and in some surroundings, and waits until the child is ready. If a
    /// signal ends a child before the child handles it, another child is started.
    ///
    /// # Errors
    ///
    /// As [`Self::start`] and [`Self::ready`].
    pub(crate) async fn start_until_ready<C: Serialize>(
        surroundings: &Surroundings,
        role: &str,
        config: &C,
        handed: &[BorrowedFd<'_>],
    ) -> Result<Self, StartError> {
        let launch = LAUNCH.get().ok_or(StartError::ProgramNotCalled)?;
        let mut signalled = 0;
        loop {
            let mut child = Self::start_in(surroundings, launch, role, config, handed)?;
            match child.ready().await {
                Ok(()) => return Ok(child),
                Err(NotReady::Signalled(_)) if signalled < MOST_SIGNALLED => signalled += 1,
                Err(not_ready) => return Err(not_ready.into()),
            }
        }
    }

    pub(super) fn start_as<C: Serialize>(
        launch: &Launch,
        build: &Build,
        surroundings: &Surroundings,
        role: &str,
        config: &C,
        handed: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let config = Blob::from(codec::encode(config).map_err(io::Error::other)?);
        let assignment = Assignment {
            role: role.to_owned(),
            config,
            #[cfg(feature = "net")]
            keys: crate::keys::hand_over(),
            #[cfg(feature = "net")]
            certificates: crate::certificate_files::hand_over(),
        };
        let runtime = background::start()?.enter();
        // A process that another thread forks must inherit neither end, or this child would outlive its parent.
        let (lifeline, theirs) = Private::open_pair(|| {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let ours = tokio::net::UnixStream::from_std(ours)?;
            Ok((ours, OwnedFd::from(theirs)))
        })?;
        let (outputs, pipes) = surroundings.open()?;
        let marker = format!("{MARKER}{role}:{}", fstat(&theirs)?.st_ino);
        let executable = Executable::of_this_process();
        let process = executable.start(|path| {
            let mut command = process::Command::new(path);
            command.arg0(&executable.arg0).arg(&marker);
            if let Launch::Test(name) = launch {
                command.args(["--exact", "--nocapture", "--test-threads=1", name.as_str()]);
            }
            command.kill_on_drop(true);
            command.envs(surroundings.variables());
            // A process that another thread forks must not inherit the copies that become the child's standard
            // streams. The standard library starts this process with `posix_spawn`, so it does not wait for this
            // section itself.
            without_forks(|| {
                let input = theirs.get()?.try_clone()?;
                let mut command = command;
                outputs.attach(&mut command)?;
                command.stdin(input).spawn()
            })
        })?;
        drop((theirs, outputs));
        // No process is waited for before it was started.
        let first_pid = process.id().ok_or(io::ErrorKind::NotFound)?;
        let mut message = Vec::new();
        frame::append(&mut message, build, MOST_BYTES).map_err(io::Error::other)?;
        frame::append(&mut message, &assignment, MOST_BYTES).map_err(io::Error::other)?;
        let sent = send_first(lifeline.get()?, &message, handed)?;
        drop(runtime);
        let unsent = message.split_off(sent).into();
        let test = match launch {
            Launch::Main => None,
            Launch::Test(name) => Some(name.clone()),
        };
        Ok(Self {
            process,
            first_pid,
            reports: Reports::new(lifeline, unsent),
            pipes,
            since: None,
            work: Work::default(),
            test,
        })
    }

    /// Asks the child to stop, once it is ready.
    pub(crate) fn ask_to_stop(&mut self) {
        self.reports.ask_to_stop();
    }

    /// Takes the streams of the child's outputs that the parent reads.
    pub(crate) fn take_pipes(&mut self) -> Pipes {
        std::mem::take(&mut self.pipes)
    }

    /// Returns the process id, unless the end of the process was noticed.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Returns the process id while the process runs.
    pub(crate) fn running_pid(&mut self) -> Option<u32> {
        // After it, the id of a process that has ended is gone. An error leaves the id as it is.
        let _ = self.process.try_wait();
        self.process.id()
    }

    /// Waits until the child is ready.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError::ChildFailed`] when it reports a failure, ends, or
    /// takes longer than a minute, beyond the waits that it reports.
    pub(crate) async fn ready(&mut self) -> Result<(), NotReady> {
        let mut step = None;
        let mut patience = READY_PATIENCE;
        let report = loop {
            match within(patience, self.next_report()).await {
                Some(Ok(Some(ChildReport::Begun(begun)))) => step = Some(begun),
                Some(Ok(Some(ChildReport::Waits(time)))) => patience = READY_PATIENCE + time,
                Some(other) => break other,
                None => {
                    let why = format!("it took longer than {patience:?}");
                    return Err(NotReady::not_now(why));
                }
            }
        };
        match report {
            Ok(Some(
                report @ (ChildReport::Ready | ChildReport::Outcome(_) | ChildReport::Done),
            )) => {
                self.work.note(report);
                self.since = Some(Instant::now());
                Ok(())
            }
            Ok(Some(ChildReport::Failed(why, detail))) => Err(NotReady::Cannot(
                StartError::ChildFailed(why),
                detail.map(Box::new),
            )),
            Ok(Some(ChildReport::Lacking(why))) => Err(NotReady::not_now(why)),
            Ok(Some(ChildReport::Begun(_) | ChildReport::Waits(_)) | None) => {
                let status = self.process.wait().await;
                let advice = match (&status, step) {
                    (_, Some(step)) => advice::in_step(&step),
                    (Ok(status), None) if !advice::may_have_run_main(*status) => {
                        advice::of(*status).to_owned()
                    }
                    (Ok(_) | Err(_), None) => self.missed_call().await,
                };
                Err(NotReady::of_ended(status, &advice))
            }
            Err(error) => Err(NotReady::not_now(error.to_string())),
        }
    }

    /// Waits for the next report of a child that is not ready yet; `None` if it has ended.
    async fn next_report(&mut self) -> io::Result<Option<ChildReport>> {
        // Another process may hold the child's end of the lifeline open, so this also waits for the end of the
        // child, after its reports.
        let first_thread = first_has_ended(self.process.id());
        tokio::select! {
            biased;
            report = self.reports.next() => report,
            _ = self.process.wait() => {
                let last = within(LAST_REPORTS_PATIENCE, self.reports.next());
                last.await.unwrap_or(Ok(None))
            }
            () = first_thread => {
                // Its end is waited for again, and told.
                let _ = self.killed().await;
                Ok(None)
            }
        }
    }

    /// Returns the advice if the child may have run main, or a test, without taking its role.
    async fn missed_call(&self) -> String {
        match self.test.as_deref() {
            Some(test) => advice::missed_in_test(test, is_no_test(test).await),
            None => advice::MISSED.to_owned(),
        }
    }

    /// Waits until the child has ended.
    pub(crate) async fn ended(&mut self) -> Ending {
        let first_thread = first_has_ended(self.process.id());
        let mut first_thread = pin!(first_thread);
        // The child's own children may hold its end of the lifeline open, so only the end of the process counts.
        let status = loop {
            tokio::select! {
                status = self.process.wait() => break status,
                () = &mut first_thread => break self.killed().await,
                report = self.reports.next() => match report {
                    Ok(Some(report)) => self.work.note(report),
                    // End of file without the end of the process: a task may have closed all
                    // descriptors of its process, which can do no work without them.
                    Ok(None) | Err(_) => {
                        if let Some(status) = within(END_PATIENCE, self.process.wait()).await {
                            break status;
                        }
                        break self.killed().await;
                    }
                },
            }
        };
        self.ending(status).await
    }

    /// Kills the child, and waits for its end for a limited time.
    pub(crate) async fn end_now(&mut self) -> Ending {
        let status = self.killed().await;
        self.ending(status).await
    }

    /// Kills the child, and waits for its end for at most [`KILL_PATIENCE`].
    async fn killed(&mut self) -> io::Result<ExitStatus> {
        // It fails only when the process has ended already.
        let _ = self.process.start_kill();
        let ended = within(KILL_PATIENCE, self.process.wait()).await;
        ended.unwrap_or_else(|| {
            Err(io::Error::other(format!(
                "it has not ended within {KILL_PATIENCE:?} of SIGKILL: it may wait for a disk, or be traced"
            )))
        })
    }

    /// Makes an `Ending` from an exit status and the child's reports.
    async fn ending(&mut self, status: io::Result<ExitStatus>) -> Ending {
        let last_reports = async {
            while let Ok(Some(report)) = self.reports.next().await {
                self.work.note(report);
            }
        };
        // All reports have arrived already. Only the end of file may be missing, if another process
        // holds the stream open.
        let _ = within(LAST_REPORTS_PATIENCE, last_reports).await;
        let is_well = status.as_ref().is_ok_and(ExitStatus::success);
        let exit = status.as_ref().ok().copied();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        Ending {
            ran: self.since.map(|since| since.elapsed()),
            work: std::mem::take(&mut self.work),
            is_well,
            exit,
            status,
        }
    }

    /// Closes the lifeline, waits for a limited time until the child has ended, and kills it otherwise. Blocks.
    pub(crate) fn end(self) {
        let Self {
            mut process,
            first_pid: _,
            reports,
            pipes: _,
            since: _,
            work: _,
            test: _,
        } = self;
        drop(reports);
        let patience = Instant::now() + END_PATIENCE;
        let mut pause = Duration::from_micros(100);
        while let Ok(None) = process.try_wait() {
            if Instant::now() > patience + KILL_PATIENCE {
                return;
            }
            if Instant::now() > patience {
                // It fails only when the process has ended already.
                let _ = process.start_kill();
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}

/// Returns whether this program, a test harness, lists its tests and has none of that name.
async fn is_no_test(name: &str) -> bool {
    let list = {
        let _runtime = background().enter();
        Executable::of_this_process().start(|path| {
            let mut command = process::Command::new(path);
            command.args(["--exact", "--list", name]);
            let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
            command.stderr(Stdio::null()).kill_on_drop(true).spawn()
        })
    };
    let Ok(list) = list else {
        return false;
    };
    let Some(Ok(list)) = within(END_PATIENCE, list.wait_with_output()).await else {
        return false;
    };
    let names = String::from_utf8_lossy(&list.stdout);
    list.status.success() && names.lines().all(|line| line != format!("{name}: test"))
}
