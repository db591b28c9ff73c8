//! Encoding without copies: the writer of the encoded value gets a shared handle of a long byte
//! string.
//!
//! The counterpart of `kept`. A serde serializer gets only a slice, so the handle is passed in a
//! thread-local.
//!
//! Invariant: the handle is used only for the slice that it was offered for.

use std::cell::RefCell;

use bytes::Bytes;

/// Shorter byte strings are copied, which costs less than another write.
pub(crate) const LEAST_BYTES: usize = 1 << 16;

thread_local! {
    /// The byte string that is being written, if there is one. It is always empty outside `lending`.
    static OFFER: RefCell<Offer> = const { RefCell::new(Offer { is_wanted: false, bytes: None }) };
}

struct Offer {
    is_wanted: bool,
    bytes: Option<Bytes>,
}

/// Runs an encoding whose writer may take offered byte strings.
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

/// An encoding. It also holds the outer offer, because a type's `Serialize` may encode another
/// value.
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

/// Takes the offered byte string if it is the slice `written`.
pub(crate) fn take(written: &[u8]) -> Option<Bytes> {
    let offered = OFFER.with_borrow_mut(|offer| offer.bytes.take())?;
    (offered.as_ptr_range() == written.as_ptr_range()).then_some(offered)
}
