//! What a kind is and what it is given: pure, without an actor, a clock or a socket.
//!
//! | module | contents |
//! | --- | --- |
//! | `primitive` | the traits [`Primitive`] and [`Serve`], and the table of a kind's operations |
//! | `call` | [`Call`], the duty to answer one call, and [`Outbox`], where the answers go |
//! | `survey` | who holds and who waits, as a kind tells it |
//! | `hang_up` | the end of a session, and the mark that it leaves |
//! | `hold_timer`, `object_stats` | how long and how often |

pub(crate) mod call;
pub(crate) mod hang_up;
pub(crate) mod hold_timer;
pub(crate) mod object_stats;
pub(crate) mod primitive;
pub(crate) mod survey;

pub use call::{Answer, Call, Outbox, Outcome};
pub use hang_up::HangUp;
pub use hold_timer::HoldTimer;
pub use primitive::{Operations, Primitive, Serve};
pub use survey::{Holding, Part, Survey, Waiting};
