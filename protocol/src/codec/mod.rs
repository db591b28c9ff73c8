//! MessagePack. User values go through serde; frames are read and written element by element.
//!
//! It may import `panics` and `printable`.
//!
//! | module | contents |
//! | --- | --- |
//! | `value` | encodes and decodes any serde value; the error type |
//! | `blob` | byte strings as serde values |
//! | `guarded` | a panic in a value's own code as an error |
//! | `elements`, `fields` | writing and reading one array, element by element |
//! | `payload`, `kept` | byte strings that are stored in place, or shared with the received message |
//! | `lent` | long byte strings that are written without a copy |
//! | `markers` | the first bytes of MessagePack's types |

pub(crate) mod blob;
pub(crate) mod elements;
pub(crate) mod fields;
pub(crate) mod guarded;
pub(crate) mod kept;
pub(crate) mod lent;
pub(crate) mod markers;
pub(crate) mod payload;
pub(crate) mod value;

pub use blob::{Blob, BlobRef};
pub use elements::Elements;
pub use fields::Fields;
pub use guarded::guarded;
pub use kept::decode_within;
pub use payload::Payload;
pub use value::{
    CodecError, Fit, MAX_DEPTH, OK, begin_list, decode, encode, encode_into, encode_within, is_err,
};
