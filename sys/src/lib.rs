//! The unsafe code of lockkeeper: values that detect that their process was forked without exec.
//!
//! A forked child has a copy of all memory and all descriptors, but only the thread that forked. So a
//! value of the parent must have no effect in the child, and a mutex that was locked at the fork stays
//! locked in the child.
//!
//! | module | contents |
//! | --- | --- |
//! | `page`, `origin` | [`Origin`]: the process in which a value was made |
//! | `gate`, `inherited` | [`without_forks`]: work that no fork interrupts. [`Inherited`]: data behind a mutex that no fork finds locked |
//! | `registry`, `private` | [`Private`]: a descriptor that a forked child does not inherit |
//! | `only_here` | [`OnlyHere`]: a value that only its own process uses and drops |
//! | `per_process` | [`PerProcess`]: a value that each process creates separately |
//! | `signals` | [`outlast_interrupts`], [`restore_termination`]: handlers that do nothing |

#[cfg(not(target_os = "linux"))]
compile_error!(
    "lockkeeper is for Linux: it needs pidfds, abstract socket names and /proc. Build it for a Linux target, \
     or put it behind `[target.'cfg(target_os = \"linux\")'.dependencies]`"
);

mod gate;
mod inherited;
mod only_here;
mod origin;
mod page;
mod per_process;
mod private;
mod registry;
mod signals;

pub use inherited::{Inherited, without_forks};
pub use only_here::{HereFuture, OnlyHere};
pub use origin::Origin;
pub use per_process::PerProcess;
pub use private::Private;
pub use signals::{outlast_interrupts, restore_termination};
