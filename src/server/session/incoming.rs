//! `Incoming`: counts the bytes of a large message that is incomplete, and refuses a message for which the
//! manager has no room.

use lockkeeper_actors::{Share, Shell, StoredBytes};
use lockkeeper_protocol::{
    Fault,
    frame::{Inbox, Misread},
};

/// A smaller message is not counted: each session has this many bytes beside the limit.
const LEAST_BYTES: usize = 1 << 16;

/// The bytes that a session counts for an incoming message.
#[derive(Default)]
pub(super) struct Incoming {
    stored: Option<StoredBytes>,
}

impl Incoming {
    /// Stops counting once the message is complete: its content is counted where it is stored.
    pub(super) fn end(&mut self, inbox: &Inbox) {
        if self.stored.is_some() && inbox.missing() == 0 {
            self.stored = None;
        }
    }

    /// Counts the received bytes of a message. If there is no room for it, the inbox drops it, and the
    /// session has to tell the client.
    ///
    /// # Errors
    ///
    /// Returns the message and the reason if it is refused.
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
