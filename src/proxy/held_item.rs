//! `HeldItem`: the delivery of an item, which `Taken` and `UndecodedItem` share.

use std::time::Duration;

use lockkeeper_protocol::{
    Abandoned, Fence,
    codec::Blob,
    operations::{Delivery, Done, PutBack},
};

use crate::{error::CallError, proxy::hold::Hold};

/// A delivery. Dropping it returns the item unless the delivery is over.
pub(super) struct HeldItem {
    pub(super) hold: Hold,
    pub(super) fence: Fence,
    pub(super) attempts: u32,
    pub(super) abandoned: Option<Box<Abandoned>>,
    /// Whether the drop has nothing to put back.
    is_over: bool,
}

impl HeldItem {
    /// Returns the holder of a delivery, and its encoded item.
    pub(super) fn new(hold: Hold, delivery: Delivery) -> (Self, Blob) {
        let Delivery {
            fence,
            attempts,
            abandoned,
            item,
        } = delivery;
        let held = Self {
            hold,
            fence,
            attempts,
            abandoned: abandoned.map(Box::new),
            is_over: false,
        };
        (held, item)
    }

    /// Acknowledges the item.
    pub(super) async fn done(mut self, timeout: Option<Duration>) -> Result<(), CallError> {
        let delivery = self.hold.proof();
        let done = self.hold.call(&Done { delivery }, timeout).await;
        // A failed call may not have reached the queue, and then the drop puts the item back. If the call
        // was served, the drop's message has no effect.
        self.is_over = done.is_ok();
        done
    }

    /// Acknowledges the item without waiting.
    pub(super) fn done_at_once(mut self) {
        let delivery = self.hold.proof();
        self.hold.cast(&Done { delivery });
        self.is_over = true;
    }

    /// Returns the item to the queue.
    pub(super) async fn put_back(mut self, timeout: Option<Duration>) -> Result<(), CallError> {
        let delivery = self.hold.proof();
        let is_back = self.hold.call(&PutBack { delivery }, timeout).await;
        self.is_over = is_back.is_ok();
        is_back
    }
}

impl Drop for HeldItem {
    fn drop(&mut self) {
        if !self.is_over {
            let delivery = self.hold.proof();
            self.hold.cast(&PutBack { delivery });
        }
    }
}
