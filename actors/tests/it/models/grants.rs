//! The fences of all grants, and the marks that dead holders have left.
//!
//! A reference does not predict fences. Invariant: fences only grow, and a mark has the fence of an
//! earlier grant.

use std::time::Duration;

use lockkeeper_actors::{Abandoned, CallId, Fence, Peer};

/// What a dead holder has left, by the call that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) grant: CallId,
    pub(crate) held: Duration,
}

/// All grants that callers were told of, in order.
#[derive(Debug, Default)]
pub(crate) struct Grants(Vec<(CallId, Fence)>);

impl Grants {
    /// Takes note of a grant, and finds out whose hold its mark is about.
    pub(crate) fn note(
        &mut self,
        id: CallId,
        fence: Fence,
        abandoned: Option<Abandoned>,
    ) -> Option<Left> {
        let last = self.0.last();
        let grows = last.is_none_or(|(_, last)| fence > *last);
        assert!(grows, "{id:?} was granted fence {fence} after {last:?}");
        let left = abandoned.map(|abandoned| self.left(&abandoned));
        self.0.push((id, fence));
        left
    }

    /// Finds out whose hold a mark is about.
    pub(crate) fn left(&self, abandoned: &Abandoned) -> Left {
        assert_eq!(abandoned.holder, Peer::default());
        let of = self.0.iter().find(|(_, told)| *told == abandoned.fence);
        let (grant, _) = of.expect("a mark has the fence of a grant");
        Left {
            grant: *grant,
            held: abandoned.held,
        }
    }
}
