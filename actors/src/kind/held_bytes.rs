//! `HeldBytes`: counts the holds of an object that has no [`HoldTimer`](crate::HoldTimer) for each; `CallBytes`: counts
//! what waiting calls need beside themselves.

use std::{fmt, rc::Rc};

use lockkeeper_protocol::SessionId;
use rustc_hash::FxHashMap;

use crate::kind::budget::Account;

/// The bytes of many holds of one object, which count as waiting calls do.
pub(crate) struct HeldBytes {
    account: Rc<Account>,
    /// The number of holds of each session.
    holds: FxHashMap<SessionId, usize>,
}

impl HeldBytes {
    pub(crate) fn new(account: Rc<Account>) -> Self {
        Self {
            account,
            holds: FxHashMap::default(),
        }
    }

    /// Counts a hold of a session, even beyond the limit.
    pub(crate) fn add(&mut self, session: SessionId) {
        self.account.hold(session);
        *self.holds.entry(session).or_default() += 1;
    }

    /// Stops counting a hold of a session.
    pub(crate) fn remove(&mut self, session: SessionId) {
        let Some(holds) = self.holds.get_mut(&session) else {
            return;
        };
        *holds -= 1;
        if *holds == 0 {
            self.holds.remove(&session);
        }
        self.account.release(session, 1);
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        for (session, holds) in self.holds.drain() {
            self.account.release(session, holds);
        }
    }
}

impl fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldBytes of {} sessions", self.holds.len())
    }
}

/// Bytes that waiting calls need beside those that each of them counts. They belong to no session.
pub(crate) struct CallBytes {
    account: Rc<Account>,
    bytes: usize,
}

impl CallBytes {
    /// Counts bytes, even beyond the limit: the host then refuses the call that needs them.
    pub(crate) fn new(account: Rc<Account>, bytes: usize) -> Self {
        account.count(bytes);
        Self { account, bytes }
    }
}

impl Drop for CallBytes {
    fn drop(&mut self) {
        self.account.forget(self.bytes);
    }
}

impl fmt::Debug for CallBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallBytes({} bytes)", self.bytes)
    }
}
