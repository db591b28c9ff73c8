//! The errors of calls, and of starting managers and pools.

use std::{fmt, io, path::PathBuf};

use lockkeeper_protocol::{
    Abandoned, Deadlock, Fault, Printable, PrintableText, Refusal, operations::Key,
};
use serde::{Deserialize, Serialize};

use crate::{
    address::Address, address_error::AddressError, subject::Subject, undecoded::Undecoded,
    want::remedy,
};

/// The error of a call that has no answer.
///
/// It can be serialized, so a task may have it in its output. `Debug` prints the same sentence as `Display`,
/// for a `main` that returns the error.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = lockkeeper::Manager::start().await?;
/// use std::time::Duration;
///
/// use lockkeeper::{CallError, errors::Refusal};
///
/// let lock = manager.named("stock").lock().await?;
/// let guard = lock.acquire().await?;
/// match lock.acquire().timeout(Duration::from_millis(10)).await {
///     Ok(_guard) => println!("acquired"),
///     Err(CallError::TimedOut(_)) => println!("another process holds it"),
///     Err(error) => return Err(error.into()),
/// }
///
/// lock.force_unlock().await?;
/// let late = guard.release().await;
/// assert!(matches!(late, Err(CallError::Refused(Refusal::NotHeld, _))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallError {
    /// The timeout ended before the call was granted. The caller holds nothing.
    TimedOut(Subject),
    /// The object refused the call. Its state is unchanged.
    Refused(Refusal, Subject),
    /// The object was removed, or its code panicked.
    Gone(Subject),
    /// An earlier holder died with the object held, and the guard was [strict](crate::LockGuard::strict). It was
    /// dropped, and the next guard is marked too.
    Abandoned(Box<Abandoned>, Subject),
    /// The value or the reply that was received cannot be decoded.
    Undecoded(Box<Undecoded>),
    /// The call would have waited for ever. The report lists the calls that wait for each other.
    /// Only a manager that is configured to fail such calls returns this error.
    Deadlock(Box<Deadlock>),
    /// The manager would not let the object answer.
    Fault(Fault),
    /// The given text is not an address.
    Address(AddressError),
    /// No manager is reached at the address.
    NoManager {
        /// The address.
        address: Address,
        /// The system's reason.
        why: String,
        /// What to do; empty if the reason says it.
        advice: String,
    },
    /// The connection is lost, and all holds over it: the manager ended, was killed, or closed the
    /// connection. Connect again, and open the objects again.
    Disconnected {
        /// The address of the manager.
        address: Address,
        /// How the connection ended.
        why: String,
    },
    /// The manager has no object of that name. It was removed, or never made there.
    NoObject {
        /// The name.
        name: String,
        /// Where the manager is.
        address: Address,
    },
    /// The manager's answer does not fit the call.
    Protocol(String),
    /// This process was forked after the called value was made, so the value belongs to its parent. The
    /// call had no effect. Connect again and open the objects again; a proxy connects by itself.
    Forked {
        /// A description of the value.
        what: String,
    },
}

impl CallError {
    /// Makes a timeout at an unknown object.
    #[must_use]
    pub const fn timed_out() -> Self {
        Self::TimedOut(Subject::UNKNOWN)
    }

    /// Makes the error that an unknown object is gone.
    #[must_use]
    pub const fn gone() -> Self {
        Self::Gone(Subject::UNKNOWN)
    }

    /// Makes a refusal by an unknown object.
    #[must_use]
    pub const fn refused(refusal: Refusal) -> Self {
        Self::Refused(refusal, Subject::UNKNOWN)
    }

    /// Returns whether the call timed out.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// Returns whether the object refused the call because it was closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Refused(Refusal::Closed, _))
    }

    /// Returns whether the object was removed, or its code panicked.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }

    /// Adds the address of the manager to the error that it has no such object.
    #[must_use]
    pub(crate) fn at(self, address: &Address) -> Self {
        match self {
            Self::Fault(Fault::UnknownObject(name)) => Self::NoObject {
                name,
                address: address.clone(),
            },
            other => other,
        }
    }

    /// Adds the key that the call was about to an error that names the object.
    #[must_use]
    pub(crate) fn of_key(mut self, key: &Key) -> Self {
        if let Self::TimedOut(about)
        | Self::Refused(_, about)
        | Self::Gone(about)
        | Self::Abandoned(_, about) = &mut self
        {
            about.set_key(key);
        }
        self
    }

    /// Adds the function of this library that the error is about, such as `deadlocks`, which no object serves.
    #[must_use]
    pub(crate) fn of_function(self, name: &'static str) -> Self {
        self.about(|| Subject::function(name))
    }

    /// Adds the object that the error is about, unless the error already has one or concerns no
    /// object.
    #[must_use]
    pub(crate) fn about(mut self, subject: impl FnOnce() -> Subject) -> Self {
        match &mut self {
            Self::TimedOut(about)
            | Self::Refused(_, about)
            | Self::Gone(about)
            | Self::Abandoned(_, about) => {
                if about.kind().is_none() {
                    *about = subject();
                }
            }
            Self::Undecoded(_)
            | Self::Deadlock(_)
            | Self::Fault(_)
            | Self::Address(_)
            | Self::NoManager { .. }
            | Self::NoObject { .. }
            | Self::Disconnected { .. }
            | Self::Protocol(_)
            | Self::Forked { .. } => {}
        }
        self
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(subject) if subject.kind().is_none() => Fault::TimedOut.fmt(f),
            Self::Refused(refusal, subject) if subject.kind().is_none() => refusal.fmt(f),
            Self::TimedOut(subject) => subject.fmt_timeout(f),
            Self::Refused(refusal, subject) => subject.fmt_refusal(refusal, f),
            Self::Gone(subject) => subject.fmt_gone(f),
            Self::Abandoned(mark, subject) => write!(
                f,
                "{subject} was {mark}: repair what it protects with the guard in the error of strict(), and call \
                 mark_consistent()"
            ),
            Self::Undecoded(undecoded) => undecoded.fmt(f),
            Self::Deadlock(deadlock) => deadlock.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Address(error) => error.fmt(f),
            Self::NoManager {
                address,
                why,
                advice,
            } => {
                write!(f, "no manager at {address} ({})", PrintableText(why))?;
                if advice.is_empty() {
                    return Ok(());
                }
                write!(f, ": {}", PrintableText(advice))
            }
            Self::Disconnected { address, why } => {
                let advice = if why.ends_with(BY_THIS_PROGRAM) {
                    "keep the `Manager` that `start()` returned for as long as its objects are used"
                } else {
                    "connect and open the objects again"
                };
                let why = PrintableText(why);
                write!(
                    f,
                    "disconnected from the manager at {address} ({why}): what was held is lost; {advice}"
                )
            }
            Self::NoObject { name, address } => write!(
                f,
                "no object named {name:?} is at the manager at {address}: it was removed, or never made there: \
                 make it by its name, or connect to the manager that has it"
            ),
            Self::Protocol(why) => write!(
                f,
                "the manager broke the protocol: {}: use the same version of lockkeeper on both sides",
                PrintableText(why)
            ),
            Self::Forked { what } => write!(
                f,
                "this process was forked since {} was made, which belongs to its parent: \
                 connect and open the objects again in this process",
                PrintableText(what)
            ),
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CallError {
    /// Returns whether the manager refused the call because the stored bytes are at their limit. Such a
    /// call changed nothing, and can be made again.
    pub(crate) fn lacks_room(&self) -> bool {
        matches!(self, Self::Fault(Fault::Limit { what, .. }) if what == Fault::STORED)
    }
}
/// The message of an error contains its whole chain, so `source` returns `None`.
impl std::error::Error for CallError {}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TimedOut => Self::timed_out(),
            Fault::Gone => Self::gone(),
            Fault::Refused(refusal) => refusal.into(),
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
        Self::refused(refusal)
    }
}

/// The end of the reason of [`CallError::Disconnected`] in the process that has ended the manager.
pub(crate) const BY_THIS_PROGRAM: &str = ", by this program";

/// Returns the text of a system error, and which limit to raise if the system lacks a resource.
pub(crate) fn lack(error: &io::Error) -> String {
    match remedy(error) {
        Some(remedy) => format!("{error}: {remedy}"),
        None => error.to_string(),
    }
}

/// The error of a manager, a pool or a child process that did not start.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lockkeeper::{Manager, StartError};
///
/// let manager = Manager::start().await?;
/// let second = Manager::builder().address(manager.address().clone()).start().await;
/// assert!(matches!(second, Err(StartError::AddressInUse { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartError {
    /// The given text is not an address.
    Address(AddressError),
    /// A running manager has the address.
    AddressInUse {
        /// The address.
        address: Address,
    },
    /// The address cannot be used.
    BadAddress {
        /// The address.
        address: Address,
        /// The reason.
        why: String,
    },
    /// A running manager uses the state folder.
    StateInUse {
        /// The folder.
        folder: PathBuf,
        /// The process of that manager, unless it is in another pid namespace or has just started.
        pid: Option<u32>,
    },
    /// The state folder cannot be used.
    BadState {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        why: String,
    },
    /// The system lacks a resource that is needed.
    System(String),
    /// The program does not call [`program`](crate::program) at the beginning of main, so a child
    /// process would run the program again instead of a worker or a manager.
    ProgramNotCalled,
    /// The child process ended or failed before it was ready.
    ChildFailed(String),
    /// The request is not possible. The text says what is.
    InvalidSettings(String),
    /// The manager started, but cannot be reached.
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
            Self::StateInUse { folder, pid } => {
                let folder = folder.to_string_lossy();
                let folder = Printable(&folder);
                match pid {
                    Some(pid) => write!(f, "the manager of process {pid} uses")?,
                    None => f.write_str(
                        "a process of another pid namespace, or one that has just started, uses",
                    )?,
                }
                write!(
                    f,
                    " the state folder {folder}: end that manager, or use another folder"
                )
            }
            Self::BadState { folder, why } => {
                let folder = folder.to_string_lossy();
                let (folder, why) = (Printable(&folder), PrintableText(why));
                write!(f, "cannot use the state folder {folder}: {why}")
            }
            Self::System(why) => {
                write!(f, "the system could not start it: {}", PrintableText(why))
            }
            Self::ProgramNotCalled => f.write_str(
                "no child process can be started: call lockkeeper::program() first thing in main",
            ),
            Self::ChildFailed(why) => {
                write!(
                    f,
                    "the child process did not get ready: {}",
                    PrintableText(why)
                )
            }
            Self::InvalidSettings(why) => PrintableText(why).fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {}

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

#[cfg(test)]
mod tests {
    use std::error::Error;

    use lockkeeper_protocol::codec;

    use super::*;

    #[test]
    fn error_names_its_object_once_and_has_no_source_with_the_same_text() {
        let about = || Subject::new("lock", "jobs");
        for error in [
            CallError::timed_out(),
            CallError::gone(),
            CallError::from(Refusal::NotHeld),
        ] {
            let message = error.clone().about(about);
            assert_eq!(message, error);
            let message = message.about(|| Subject::new("queue", "other"));
            assert!(message.to_string().contains("lock \"jobs\""), "{message}");
            assert_eq!(format!("{message:?}"), message.to_string());
            let start = StartError::from(message.clone());
            assert_eq!(format!("{start:?}"), message.to_string());
            assert!(message.source().is_none() && start.source().is_none());
        }
    }

    #[test]
    fn questions_tell_the_kinds_of_failures_apart() {
        let asked = |error: &CallError| (error.is_timeout(), error.is_closed(), error.is_gone());
        assert_eq!(asked(&CallError::timed_out()), (true, false, false));
        assert_eq!(asked(&Refusal::Closed.into()), (false, true, false));
        assert_eq!(asked(&CallError::gone()), (false, false, true));
        assert_eq!(asked(&Refusal::NotHeld.into()), (false, false, false));
    }

    #[test]
    fn errors_of_starts_are_sent_as_those_of_calls_are() {
        let call = CallError::from(Refusal::Closed).about(|| Subject::new("queue", "jobs"));
        let start = StartError::from(call.clone());
        let sent = codec::encode(&(&start, &call)).unwrap();
        let read: (StartError, CallError) = codec::decode(&sent).unwrap();
        assert_eq!(read, (start, call));
    }
}
