//! `Budgets`: the limits on what all shards of a manager keep together.

use std::sync::Arc;

use lockkeeper_actors::StoredBudget;

use crate::{
    limits::Limits,
    server::session::{buffer_budget::BufferBudget, sizes::arriving_bytes},
};

/// The budgets of one manager. Clones share the same budgets.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    pub(super) stored: Arc<StoredBudget>,
    /// The unread answers of all sessions.
    pub(super) unread: Arc<BufferBudget>,
    /// The messages of all sessions that have arrived in part, but for large ones.
    pub(super) arriving: Arc<BufferBudget>,
}

impl Budgets {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            stored: Arc::new(StoredBudget::new(limits.stored_bytes)),
            unread: Arc::new(BufferBudget::new(limits.unread_bytes)),
            arriving: Arc::new(BufferBudget::new(arriving_bytes(limits.stored_bytes))),
        }
    }
}
