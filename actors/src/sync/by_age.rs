//! `ByAge`: the grants of an object that anyone may release, the oldest first.
//!
//! Invariant: an object that only its holders release keeps nothing here.

use std::{collections::BTreeMap, fmt};

use lockkeeper_protocol::{CallId, Fence, Refusal, operations::ReleaseBy};

/// The grants of each `K`, by their fences; `None` if only holders may release.
pub(super) struct ByAge<K>(Option<BTreeMap<(K, Fence), CallId>>);

impl<K: Copy + Ord> ByAge<K> {
    pub(super) fn new(release_by: ReleaseBy) -> Self {
        Self(match release_by {
            ReleaseBy::Holder => None,
            ReleaseBy::Anyone => Some(BTreeMap::new()),
        })
    }

    pub(super) fn enter(&mut self, of: K, fence: Fence, grant: CallId) {
        if let Some(grants) = &mut self.0 {
            grants.insert((of, fence), grant);
        }
    }

    pub(super) fn leave(&mut self, of: K, fence: Fence) {
        if let Some(grants) = &mut self.0 {
            grants.remove(&(of, fence));
        }
    }

    pub(super) fn clear(&mut self) {
        if let Some(grants) = &mut self.0 {
            grants.clear();
        }
    }

    /// The grant that has been held longest.
    pub(super) fn oldest(&self, of: K) -> Result<CallId, Refusal> {
        let Some(grants) = &self.0 else {
            ReleaseBy::Holder.check()?;
            return Err(Refusal::NotHeld);
        };
        let all = (of, Fence::new(0))..=(of, Fence::new(u64::MAX));
        let oldest = grants.range(all).next();
        oldest.map(|(_, grant)| *grant).ok_or(Refusal::NotHeld)
    }
}

impl<K> fmt::Debug for ByAge<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grants = self.0.as_ref().map(BTreeMap::len);
        f.debug_tuple("ByAge").field(&grants).finish()
    }
}
