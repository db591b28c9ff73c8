//! `Idle`: a worker that waits for jobs.

use lockkeeper_protocol::{CallId, operations::Job};

use crate::{kind::call::Call, waiting::call_table::Parked};

#[derive(Debug)]
pub(super) struct Idle {
    pub(super) call: Call<Option<Vec<Job>>>,
    /// The most jobs that it takes.
    pub(super) most: u32,
}

impl Parked for Idle {
    fn id(&self) -> CallId {
        self.call.id()
    }
}
