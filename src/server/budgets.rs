//! `Budgets`: the limits on what all shards of a manager keep together.

use std::sync::Arc;

use lockkeeper_actors::StoredBudget;

use crate::{limits::Limits, server::session::unread::UnreadBudget};

/// The budgets of one manager. Clones share the same budgets.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    pub(super) stored: Arc<StoredBudget>,
    pub(super) unread: Arc<UnreadBudget>,
}

impl Budgets {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            stored: Arc::new(StoredBudget::new(limits.stored_bytes)),
            unread: Arc::new(UnreadBudget::new(limits.unread_bytes)),
        }
    }
}
