//! MessagePack. User values go through serde; frames are read and written element by element.
//!
//! It may import `printable`.
//!
//! | module | contents |
//! | --- | --- |
//! | `form` | the two forms of structs, and the encoding in either |
//! | `value` | the compact encoding of built-in kinds; decodes values of either form |
//! | `serializer`, `output` | serde's data model, written as MessagePack |
//! | `deserializer`, `input` | serde's data model, read from it |
//! | `levels` | how deep values nest |
//! | `error` | the error type |
//! | `blob` | byte strings as serde values |
//! | `elements`, `fields` | writing and reading one array, element by element |
//! | `payload`, `kept` | byte strings that are stored in place, or shared with the received message |
//! | `lent` | long byte strings that are written without a copy |
//! | `markers` | the first bytes of MessagePack's types |

pub(crate) mod blob;
mod deserializer;
pub(crate) mod elements;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod form;
mod input;
pub(crate) mod kept;
mod lent;
mod levels;
mod markers;
mod output;
pub(crate) mod payload;
mod serializer;
pub(crate) mod value;

pub use blob::{Blob, BlobRef};
pub use elements::Elements;
pub use error::CodecError;
pub use fields::Fields;
pub use form::{Fit, Form};
pub use kept::decode_within;
pub use levels::MAX_DEPTH;
pub use payload::Payload;
pub use value::{OK, begin_list, decode, encode, encode_into, is_err};
