//! MessagePack. Users' values go through serde; frames are read and written element by element.
//!
//! It may import `panics` and `printable`.
//!
//! | module | contents |
//! | --- | --- |
//! | `form`, `encoding`, `value` | the two forms of structs, and the encoding and decoding of any serde value |
//! | `serializer`, `count`, `output` | serde's data model, written as MessagePack |
//! | `deserializer`, `variant`, `input` | serde's data model, read from MessagePack |
//! | `levels`, `error`, `markers` | the limit of nesting; the error type; the first bytes of MessagePack's types |
//! | `blob`, `lent` | byte strings as serde values, and written without a copy |
//! | `guarded`, `shown` | turns a panic in a value's own code into an error; the text of an encoded value |
//! | `elements`, `fields` | writing and reading one array, element by element |
//! | `payload`, `kept`, `short`, `whole` | byte strings inline or shared with the message; lists with a limit; numbers |

pub(crate) mod blob;
mod count;
mod deserializer;
pub(crate) mod elements;
pub(crate) mod encoding;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod form;
pub(crate) mod guarded;
mod input;
pub(crate) mod kept;
mod lent;
mod levels;
mod markers;
mod output;
pub(crate) mod payload;
mod serializer;
pub(crate) mod short;
mod shown;
pub(crate) mod value;
mod variant;
pub(crate) mod whole;

pub use blob::{Blob, BlobRef};
pub use elements::Elements;
pub use encoding::Fit;
pub use error::CodecError;
pub use fields::Fields;
pub use form::Form;
pub use guarded::{guarded, guarded_in};
pub use kept::decode_within;
pub use levels::MAX_DEPTH;
pub use payload::Payload;
pub use shown::{cut, text_of, text_of_bytes};
pub use value::{OK, begin_list, decode, encode, encode_into, is_err};
