//! Tables of up to millions of entries that grow and shrink in small steps.
//!
//! A `Vec` or a hash table that doubles moves all of its entries in one call, and its drop visits them all,
//! which takes tens of milliseconds with four million entries. No call of these tables moves or visits more
//! than about two thousand entries. They import nothing of ours.
//!
//! | module | contents |
//! | --- | --- |
//! | `table` | [`Table`]: a hash table in parts, which are split one at a time |
//! | `slots` | [`Slots`]: a slab in pages, each freed by itself |

pub(crate) mod slots;
pub(crate) mod table;

pub use table::{Table, hash_number};
