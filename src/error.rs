//! Why a call has no answer, and why a manager or a pool did not start.

use std::{fmt, io};

use lockkeeper_protocol::{Deadlock, Fault, PrintableText, Refusal, operations::TaskFault};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{address::Address, address_error::AddressError};

/// Why a call has no answer.
///
/// It can be sent on, so that a task may have it in its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallError {
    /// The time was over before the call could be granted. Nothing is held.
    TimedOut,
    /// The primitive said no, and is as it was.
    Refused(Refusal),
    /// The object was removed, or its code panicked.
    Gone,
    /// The call would have waited for ever: those are told who wait for each other. Only managers
    /// that are to fail such calls do.
    Deadlock(Box<Deadlock>),
    /// The manager would not let the object answer.
    Fault(Fault),
    /// What was given is no address.
    Address(AddressError),
    /// No manager is reached at the address.
    NoManager {
        /// Where one was looked for.
        address: Address,
        /// What the system says.
        why: String,
    },
    /// The connection is lost, and with it all that was held over it: the manager ended, was
    /// killed, or hung up. Connect anew, and open the objects anew.
    Disconnected {
        /// Where the manager was.
        address: Address,
        /// How the connection ended.
        why: String,
    },
    /// What the manager answered is not what was asked.
    Protocol(String),
    /// What was called belongs to the parent of this process, which was forked since. It has no effect
    /// here. Connect anew, and open the objects anew; a proxy does that by itself.
    Forked {
        /// What belongs to the parent.
        what: String,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => Fault::TimedOut.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Gone => Fault::Gone.fmt(f),
            Self::Deadlock(deadlock) => deadlock.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Address(error) => error.fmt(f),
            Self::NoManager { address, why } => {
                let why = PrintableText(why);
                write!(
                    f,
                    "no manager at {address} ({why}): start one there first, and keep its handle"
                )
            }
            Self::Disconnected { address, why } => {
                let why = PrintableText(why);
                write!(
                    f,
                    "disconnected from the manager at {address} ({why}): \
                     what was held is lost; connect and open anew"
                )
            }
            Self::Protocol(why) => {
                write!(f, "the manager broke the protocol: {}", PrintableText(why))
            }
            Self::Forked { what } => write!(
                f,
                "this process was forked since {} was made, which stays its parent's: \
                 connect and open anew in this process",
                PrintableText(what)
            ),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Fault(fault) => Some(fault),
            Self::Address(error) => Some(error),
            Self::TimedOut
            | Self::Gone
            | Self::Deadlock(_)
            | Self::NoManager { .. }
            | Self::Disconnected { .. }
            | Self::Protocol(_)
            | Self::Forked { .. } => None,
        }
    }
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TimedOut => Self::TimedOut,
            Fault::Gone => Self::Gone,
            Fault::Refused(refusal) => Self::Refused(refusal),
            Fault::Deadlock(deadlock) => Self::Deadlock(deadlock),
            other => Self::Fault(other),
        }
    }
}

impl From<AddressError> for CallError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What the system says, and which limit to raise if it has no room.
pub(crate) fn lack(error: &io::Error) -> String {
    let remedy = match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "raise this process's limit of open files (ulimit -n)",
        Some(Errno::NFILE) => "raise the machine's limit of open files (fs.file-max)",
        Some(Errno::AGAIN) => {
            "raise the limit of processes and threads (ulimit -u, and the pids limit of the cgroup)"
        }
        Some(Errno::NOMEM) => "free memory, or raise its limit",
        Some(_) | None => return error.to_string(),
    };
    format!("{error}: {remedy}")
}

/// Why a manager, a pool or a child process did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// What was given is no address.
    Address(AddressError),
    /// A live manager has the address.
    AddressInUse {
        /// The address.
        address: Address,
    },
    /// The address cannot be used.
    BadAddress {
        /// The address.
        address: Address,
        /// What is wrong with it.
        why: String,
    },
    /// The system would not give what is needed.
    System(String),
    /// The program does not call [`program`](crate::program) first thing in main, so a child
    /// would be the same program once more, and not a worker or a manager.
    NotAProgram,
    /// The child process ended, or failed, before it was ready.
    Child(String),
    /// What was asked for is not possible; the text says what is.
    Unusable(String),
    /// The manager started and cannot be reached.
    Call(CallError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::AddressInUse { address } => {
                write!(
                    f,
                    "a live manager is at {address}: connect to it, or use another address"
                )
            }
            Self::BadAddress { address, why } => {
                write!(
                    f,
                    "cannot use the address {address}: {}",
                    PrintableText(why)
                )
            }
            Self::System(why) => {
                write!(
                    f,
                    "the system would not let it start: {}",
                    PrintableText(why)
                )
            }
            Self::NotAProgram => f.write_str(
                "no child process can be started: call lockkeeper::program() first thing in main",
            ),
            Self::Child(why) => {
                write!(
                    f,
                    "the child process did not get ready: {}",
                    PrintableText(why)
                )
            }
            Self::Unusable(why) => PrintableText(why).fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(error) => Some(error),
            Self::Address(error) => Some(error),
            Self::AddressInUse { .. }
            | Self::BadAddress { .. }
            | Self::System(_)
            | Self::NotAProgram
            | Self::Child(_)
            | Self::Unusable(_) => None,
        }
    }
}

impl From<AddressError> for StartError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<CallError> for StartError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// The task failed, or there was no worker to run it to its end.
    Failed(TaskFault),
    /// The pool cannot be reached.
    Call(CallError),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(fault) => fault.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(fault) => Some(fault),
            Self::Call(error) => Some(error),
        }
    }
}

impl From<TaskFault> for TaskError {
    fn from(fault: TaskFault) -> Self {
        Self::Failed(fault)
    }
}

impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn start_that_failed_at_a_call_tells_which_error_the_call_had() {
        let error = StartError::from(CallError::Fault(Fault::ShuttingDown));
        let call = error.source().expect("a source");
        assert_eq!(
            call.downcast_ref(),
            Some(&CallError::Fault(Fault::ShuttingDown))
        );
        let fault = call.source().expect("a source of the source");
        assert_eq!(fault.downcast_ref(), Some(&Fault::ShuttingDown));
        assert!(StartError::NotAProgram.source().is_none());
    }
}
