//! Encoding without copies: a long byte string is lent to the writer of the encoded value.
//!
//! The counterpart of `kept`. Serde hands a serializer a slice, so the owner of the bytes travels beside it.
//!
//! Invariant: bytes are lent only for the slice that is being written.

use std::cell::RefCell;

use bytes::Bytes;

/// Shorter ones are copied, which costs less than another write.
pub(crate) const LEAST_BYTES: usize = 1 << 16;

thread_local! {
    /// The byte string that is being written, if there is one; nothing is offered outside of `lending`.
    static OFFER: RefCell<Offer> = const { RefCell::new(Offer { is_wanted: false, bytes: None }) };
}

struct Offer {
    is_wanted: bool,
    bytes: Option<Bytes>,
}

/// Runs an encoding whose writer may take byte strings that are offered.
pub(crate) fn lending<T>(encode: impl FnOnce() -> T) -> T {
    let _lending = Lending {
        outer: OFFER.with_borrow_mut(|offer| {
            let outer = Offer {
                is_wanted: true,
                bytes: None,
            };
            std::mem::replace(offer, outer)
        }),
    };
    encode()
}

/// An encoding, with the one round it: what a type does when it is encoded may be to encode another.
struct Lending {
    outer: Offer,
}

impl Drop for Lending {
    fn drop(&mut self) {
        OFFER.with_borrow_mut(|offer| std::mem::swap(offer, &mut self.outer));
    }
}

/// Offers bytes that are about to be written.
#[inline]
pub(crate) fn offer(bytes: &Bytes) {
    if bytes.len() >= LEAST_BYTES {
        OFFER.with_borrow_mut(|offer| offer.bytes = offer.is_wanted.then(|| bytes.clone()));
    }
}

/// Takes the offer if it is these bytes.
pub(crate) fn take(written: &[u8]) -> Option<Bytes> {
    let offered = OFFER.with_borrow_mut(|offer| offer.bytes.take())?;
    (offered.as_ptr_range() == written.as_ptr_range()).then_some(offered)
}
