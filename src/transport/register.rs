//! The registration of descriptors with a runtime.

use std::{io, os::fd::AsRawFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a descriptor with the current runtime.
#[expect(
    deprecated,
    reason = "the successor is unsafe, for types whose descriptor may change; the types here own theirs"
)]
pub(super) fn register<T: AsRawFd>(io: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(io, interest)
}
