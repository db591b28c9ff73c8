//! `Incoming`: counts the bytes of a large message that has not come in whole, and refuses one for which the
//! manager has no room.

use lockkeeper_actors::{Share, Shell, Stored};
use lockkeeper_protocol::{
    Fault,
    frame::{Inbox, Misread},
};

/// A message of fewer bytes is not counted: each session has so many beside the limit.
const LEAST_BYTES: usize = 1 << 16;

/// What a session keeps of a message that is coming in.
#[derive(Default)]
pub(super) struct Incoming {
    stored: Option<Stored>,
}

impl Incoming {
    /// Counts no more once the message is there: what is kept of it is counted where it is kept.
    pub(super) fn end(&mut self, inbox: &Inbox) {
        if self.stored.is_some() && inbox.missing() == 0 {
            self.stored = None;
        }
    }

    /// Counts what there is of a message that has begun. If there is no room for it, the inbox drops it,
    /// and the session has to tell the client.
    ///
    /// # Errors
    ///
    /// Returns what the message is and why it is not taken in.
    pub(super) fn count(
        &mut self,
        inbox: &mut Inbox,
        shell: &Shell,
    ) -> Result<(), (Misread, Fault)> {
        let bytes = inbox.begun();
        if bytes <= LEAST_BYTES {
            return Ok(());
        }
        let counted = match &mut self.stored {
            Some(stored) => stored.resize_in(Share::Session, bytes),
            None => shell
                .outbox()
                .store_in(Share::Session, bytes)
                .map(|stored| self.stored = Some(stored)),
        };
        counted.map_err(|fault| {
            self.stored = None;
            (Misread::of(&inbox.skip()), fault)
        })
    }
}
