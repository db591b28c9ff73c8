//! `NotReady`: why a child process did not get ready, and whether another one may.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus};

use lockkeeper_protocol::codec::Blob;
use rustix::process::Signal;

use crate::error::StartError;

/// The reason why a child did not get ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// The child reported that it cannot do its work, perhaps with bytes from which the role's owner reads more.
    Cannot(StartError, Option<Box<Blob>>),
    /// The child lacked a resource, or ended. Another child may get ready later.
    NotNow(StartError),
    /// SIGINT or SIGTERM ended the child before it had its handlers. Another child may get ready at once.
    Signalled(StartError),
}

impl NotReady {
    pub(super) const fn not_now(why: String) -> Self {
        Self::NotNow(StartError::ChildFailed(why))
    }

    /// Returns the reason for a child that ended by itself.
    pub(super) fn of_ended(status: io::Result<ExitStatus>, advice: &str) -> Self {
        let signal = status.as_ref().ok().and_then(ExitStatus::signal);
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let why =
            StartError::ChildFailed(format!("it ended before it was ready ({status}): {advice}"));
        match signal.and_then(Signal::from_named_raw) {
            Some(Signal::INT | Signal::TERM) => Self::Signalled(why),
            Some(_) | None => Self::NotNow(why),
        }
    }
}

impl From<NotReady> for StartError {
    fn from(not_ready: NotReady) -> Self {
        match not_ready {
            NotReady::Cannot(error, _) | NotReady::NotNow(error) | NotReady::Signalled(error) => {
                error
            }
        }
    }
}
