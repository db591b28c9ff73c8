//! Numbers of a session for what is no request of its own, as tasks that are handed in together.

use super::{Connection, lock};

impl Connection {
    /// Takes so many numbers, from that one on, that no request will have.
    pub(crate) fn reserve(&self, count: u64) -> u64 {
        let mut state = lock(&self.state);
        let first = state.last_seq + 1;
        state.last_seq += count;
        first
    }
}
