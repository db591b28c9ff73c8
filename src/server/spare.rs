//! `Spare`: a descriptor that a manager keeps free of use, so that it can accept a client and tell it that
//! there is no other descriptor for it.
//!
//! Without it the client would wait in the listener's queue until it gave up, and would not learn why.

use std::fs::File;

/// How often in a row no client can be accepted before the next one is told so. Other descriptors may be
/// closed meanwhile.
const PATIENCE: u32 = 50;

/// A descriptor that is used for nothing.
#[derive(Debug, Default)]
pub(super) struct Spare {
    file: Option<File>,
    /// How often in a row no client could be accepted.
    failures: u32,
}

impl Spare {
    /// Takes a descriptor, unless there is none now.
    pub(super) fn take() -> Self {
        let mut spare = Self::default();
        spare.restore();
        spare
    }

    /// Takes a descriptor again after [`Self::give_up`].
    pub(super) fn restore(&mut self) {
        if self.file.is_none() {
            self.file = File::open("/dev/null").ok();
        }
    }

    /// Notes that a client was accepted.
    pub(super) const fn is_not_needed(&mut self) {
        self.failures = 0;
    }

    /// Notes that no client could be accepted. Closes the descriptor if that has occurred often enough in a
    /// row, and returns whether it did: a client can be accepted then, to be told.
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
