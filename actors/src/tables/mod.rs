//! Tables of up to millions of entries that grow and shrink in small steps.
//!
//! A `Vec` or a hash table that doubles moves all of its entries in one call, and one that is dropped visits
//! them all: tens of milliseconds with four million. Here no call moves or visits more than about two
//! thousand, however many there are. They import nothing of ours.
//!
//! | module | contents |
//! | --- | --- |
//! | `table` | [`Table`]: a hash table in parts, which are split one at a time |
//! | `slots` | [`Slots`]: a slab in pages, each freed by itself |

pub(crate) mod slots;
pub(crate) mod table;

pub use table::{Table, hash_number};
