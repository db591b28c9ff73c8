//! The fences of all grants, and the marks of dead holders.
//!
//! A reference does not predict fences. Invariant: fences grow, and a mark contains the fence of an
//! earlier grant.

use std::time::Duration;

use lockkeeper_actors::{Abandoned, CallId, Fence, Peer};

/// The mark of a dead holder, with the call that was granted instead of a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) grant: CallId,
    pub(crate) held: Duration,
}

/// All grants in the answers, in order.
#[derive(Debug, Default)]
pub(crate) struct Grants(Vec<(CallId, Fence)>);

impl Grants {
    /// Records a grant, and finds the hold that its mark is about.
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

    /// Finds the hold that a mark is about.
    pub(crate) fn left(&self, abandoned: &Abandoned) -> Left {
        assert_eq!(*abandoned.holder, Peer::default());
        let of = self
            .0
            .iter()
            .find(|(_, observed)| *observed == abandoned.fence);
        let (grant, _) = of.expect("a mark contains the fence of a grant");
        Left {
            grant: *grant,
            held: abandoned.held,
        }
    }
}
