//! MessagePack. Values of any type go through serde; frames, whose shape is known, are written and
//! read element by element.
//!
//! | module | contents |
//! | --- | --- |
//! | `value` | any serde value, and the error of this room |
//! | `blob` | byte strings as values of serde |
//! | `elements`, `fields` | an array that is written, and one that is read |
//! | `payload`, `kept` | byte strings that are stored in place, or shared with the message they came in |
//! | `markers` | the first bytes of MessagePack's types |

pub(crate) mod blob;
pub(crate) mod elements;
pub(crate) mod fields;
pub(crate) mod kept;
pub(crate) mod markers;
pub(crate) mod payload;
pub(crate) mod value;

pub use blob::{Blob, BlobRef};
pub use elements::Elements;
pub use fields::Fields;
pub use kept::decode_within;
pub use payload::Payload;
pub use value::{CodecError, MAX_DEPTH, OK, begin_list, decode, encode, encode_into, is_err};
