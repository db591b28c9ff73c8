//! `ByAge`: the grants of an object that every session may release, oldest first.
//!
//! Invariant: an object that only its holders may release stores nothing here.

use std::{collections::BTreeMap, fmt};

use lockkeeper_protocol::{CallId, Fence, Refusal, operations::ReleaseBy};

use crate::kind::hang_up::drop_some_of;

/// The grants by their fences; `None` if only holders may release.
pub(super) struct ByAge(Option<BTreeMap<Fence, CallId>>);

impl ByAge {
    pub(super) fn new(release_by: ReleaseBy) -> Self {
        Self(match release_by {
            ReleaseBy::Holder => None,
            ReleaseBy::Anyone => Some(BTreeMap::new()),
        })
    }

    pub(super) fn enter(&mut self, fence: Fence, grant: CallId) {
        if let Some(grants) = &mut self.0 {
            grants.insert(fence, grant);
        }
    }

    pub(super) fn leave(&mut self, fence: Fence) {
        if let Some(grants) = &mut self.0 {
            grants.remove(&fence);
        }
    }

    /// Drops some of many grants: see [`Primitive::drop_some`](crate::kind::primitive::Primitive::drop_some).
    pub(super) fn drop_some(&mut self) -> bool {
        self.0.as_mut().is_some_and(drop_some_of)
    }

    pub(super) fn clear(&mut self) {
        if let Some(grants) = &mut self.0 {
            grants.clear();
        }
    }

    /// The grant that has been held longest.
    pub(super) fn oldest(&self) -> Result<CallId, Refusal> {
        let Some(grants) = &self.0 else {
            ReleaseBy::Holder.check()?;
            return Err(Refusal::NotHeld);
        };
        let oldest = grants.first_key_value();
        oldest.map(|(_, grant)| *grant).ok_or(Refusal::NotHeld)
    }
}

impl fmt::Debug for ByAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grants = self.0.as_ref().map(BTreeMap::len);
        f.debug_tuple("ByAge").field(&grants).finish()
    }
}
