//! The refusal of a stream of a program's own transport that proves no user.

use std::{io, sync::Arc};

use crate::{
    client::connect::check_user,
    error::CallError,
    transport::stream::{AttachedStream, Stream},
};

/// A stream whose transport does not know the peer's user.
#[derive(Debug)]
struct OfUnknownUser {
    is_trusted: bool,
}

impl Stream for OfUnknownUser {
    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn shutdown(&self) {}

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_trusted(&self) -> bool {
        self.is_trusted
    }
}

#[test]
fn stream_that_neither_names_its_user_nor_is_trusted_is_refused_with_what_its_transport_should_do()
{
    let address = "wire:jobs".parse().unwrap();
    let check = |is_trusted| check_user(&address, &OfUnknownUser { is_trusted });
    check(true).unwrap();
    let refused = check(false).unwrap_err();
    assert!(matches!(refused, CallError::NoManager { .. }));
    let words = refused.to_string();
    for told in [
        "wire:jobs",
        "its stream neither names its user nor is trusted",
        "let is_trusted() of the Stream of \"wire\" return true",
        "let peer_user() return the user",
    ] {
        assert!(words.contains(told), "{words}");
    }
}
