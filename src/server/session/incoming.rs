//! `Incoming`: counts the bytes of a large message that has not come in whole, and refuses one for which the
//! manager has no room.

use lockkeeper_actors::{Shell, Stored};
use lockkeeper_protocol::{Fault, codec::Fields, frame::Inbox};

/// A message of fewer bytes is not counted: each session has so many beside the limit.
const LEAST_BYTES: usize = 1 << 16;

/// What a session keeps of a message that is coming in.
#[derive(Default)]
pub(super) struct Incoming {
    stored: Option<Stored>,
}

/// A message that is not taken in: what it is, and its number.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) seq: u64,
    /// Whether it is a cast, which has no answer.
    pub(super) is_cast: bool,
    pub(super) fault: Fault,
}

/// The message type of a cast.
const CAST: u8 = 4;

impl Incoming {
    /// Counts no more once the message is there: what is kept of it is counted where it is kept.
    pub(super) fn end(&mut self, inbox: &Inbox) {
        if self.stored.is_some() && inbox.missing() == 0 {
            self.stored = None;
        }
    }

    /// Counts what there is of a message that has begun. If there is no room for it, the inbox drops it,
    /// and whoever sent it is to be told.
    ///
    /// # Errors
    ///
    /// Returns the fault of a message without a number.
    pub(super) fn count(
        &mut self,
        inbox: &mut Inbox,
        shell: &Shell,
    ) -> Result<Option<Refused>, Fault> {
        let bytes = inbox.begun();
        if bytes <= LEAST_BYTES {
            return Ok(None);
        }
        let counted = match &mut self.stored {
            Some(stored) => stored.resize(bytes),
            None => shell
                .outbox()
                .store(bytes)
                .map(|stored| self.stored = Some(stored)),
        };
        let Err(fault) = counted else {
            return Ok(None);
        };
        self.stored = None;
        let begin = inbox.skip();
        let read = |mut fields: Fields<'_>| Ok((fields.number::<u8>()?, fields.number::<u64>()?));
        match Fields::of(&begin).and_then(read) {
            Ok((kind, seq)) => Ok(Some(Refused {
                seq,
                is_cast: kind == CAST,
                fault,
            })),
            Err(_) => Err(fault),
        }
    }
}
