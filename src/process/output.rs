//! The surroundings of a child that differ from those of its parent: where its output goes, and its environment.
//!
//! Invariant: a forked child of the parent inherits no end of the pipes, so a reader sees the end of the output.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
};

use lockkeeper_sys::Private;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::unix::pipe,
    process::Command,
};

/// Where the standard output or the standard error of a [`Process`](crate::Process) goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputTo {
    /// To that of this process.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// To this process, which reads it: see [`Process::take_stdout`](crate::Process::take_stdout).
    Pipe,
}

/// The surroundings of a child. The default is those of its parent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) stdout: OutputTo,
    pub(crate) stderr: OutputTo,
    /// Variables that are set in its environment.
    pub(crate) variables: Vec<(OsString, OsString)>,
}

impl Surroundings {
    pub(super) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let variables = self.variables.iter();
        variables.map(|(name, value)| (&**name, &**value))
    }

    /// Opens the pipes of a child. The caller is on the runtime that waits for them.
    pub(super) fn open(&self) -> io::Result<(Outputs, Pipes)> {
        let (stdout, stdout_pipe) = self.stdout.open()?;
        let (stderr, stderr_pipe) = self.stderr.open()?;
        let pipes = Pipes {
            stdout: stdout_pipe,
            stderr: stderr_pipe,
        };
        Ok((Outputs { stdout, stderr }, pipes))
    }
}

impl OutputTo {
    fn open(self) -> io::Result<(Output, Option<ProcessOutput>)> {
        match self {
            Self::Inherit => Ok((Output::Inherit, None)),
            Self::Null => Ok((Output::Null, None)),
            Self::Pipe => {
                let (reader, writer) = Private::open_pair(|| {
                    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                    Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
                })?;
                Ok((Output::Pipe(writer), Some(ProcessOutput(reader))))
            }
        }
    }
}

/// The outputs that a child gets.
pub(super) struct Outputs {
    stdout: Output,
    stderr: Output,
}

enum Output {
    Inherit,
    Null,
    Pipe(Private<OwnedFd>),
}

impl Outputs {
    /// Sets the outputs of a command. Forks wait meanwhile.
    pub(super) fn attach(&self, command: &mut Command) -> io::Result<()> {
        command.stdout(self.stdout.stdio()?);
        command.stderr(self.stderr.stdio()?);
        Ok(())
    }
}

impl Output {
    fn stdio(&self) -> io::Result<Stdio> {
        match self {
            Self::Inherit => Ok(Stdio::inherit()),
            Self::Null => Ok(Stdio::null()),
            Self::Pipe(writer) => Ok(writer.get()?.try_clone()?.into()),
        }
    }
}

/// The streams of a child's outputs.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub(crate) stdout: Option<ProcessOutput>,
    pub(crate) stderr: Option<ProcessOutput>,
}

/// The standard output or the standard error of a [`Process`](crate::Process), as a stream of bytes.
///
/// It ends once the process and the processes that it has started have closed it. It may be read on any runtime, and
/// outlives the `Process`. In a forked child of the process that started the `Process`, reading fails.
#[derive(Debug)]
pub struct ProcessOutput(Private<pipe::Receiver>);

impl AsyncRead for ProcessOutput {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = self.0.get()?;
        loop {
            ready!(pipe.poll_read_ready(context))?;
            match pipe.try_read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
