//! `Spare`: a descriptor that a manager keeps in reserve, so that it can accept a client and tell it that
//! there is no other descriptor.
//!
//! Without it, the client would wait in the listener's queue until its timeout, and would not learn the
//! reason.

use std::fs::File;

/// The number of consecutive failures to accept a client after which the next client is refused with the
/// reason. Until then another descriptor may be closed.
const PATIENCE: u32 = 50;

#[derive(Debug, Default)]
pub(super) struct Spare {
    file: Option<File>,
    /// The failures in a row to accept a client.
    failures: u32,
}

impl Spare {
    /// Opens the descriptor, if the system has one.
    pub(super) fn take() -> Self {
        let mut spare = Self::default();
        spare.restore();
        spare
    }

    /// Opens the descriptor again after [`Self::give_up`].
    pub(super) fn restore(&mut self) {
        if self.file.is_none() {
            self.file = File::open("/dev/null").ok();
        }
    }

    /// Records that a client was accepted.
    pub(super) const fn is_not_needed(&mut self) {
        self.failures = 0;
    }

    /// Records that a client could not be accepted. After more than [`PATIENCE`] failures in a row it closes
    /// the descriptor and returns true, so that a client can be accepted and told the reason.
    pub(super) fn give_up(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures > PATIENCE && self.file.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_up_once_no_client_could_be_accepted_for_a_while() {
        let mut spare = Spare::take();
        let is_kept = |spare: &mut Spare| (0..PATIENCE).all(|_| !spare.give_up());
        assert!(is_kept(&mut spare));
        spare.is_not_needed();
        assert!(is_kept(&mut spare), "one was accepted in between");
        assert!(spare.give_up());
        assert!(!spare.give_up(), "it is given up already");
        spare.restore();
        assert!(spare.give_up(), "the next client need not wait as long");
    }
}
