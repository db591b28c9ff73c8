//! `Access`: which users may use a manager beside its own user and root, and what they may do.
//!
//! The access list of the socket lets these users connect: the kernel checks it, supplementary groups
//! included. The manager then asks the kernel for the user of each client.

use serde::{Deserialize, Serialize};

use crate::{files::own_uid, transport::stream::PeerUser};

/// The users and groups that may use a manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
}

/// The operations that a client may perform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// All operations.
    Administer,
    /// All operations except removing objects, forcing holds open and inspecting.
    Use,
}

impl Access {
    /// Returns whether only the manager's own user and root may use it.
    pub(crate) fn is_private(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// Returns the right of a user, or `None` if the user may do nothing.
    pub(crate) fn right_of(&self, user: PeerUser) -> Option<Right> {
        if user.uid == own_uid() || user.uid == 0 {
            return Some(Right::Administer);
        }
        // No safe call returns the supplementary groups of another process. The kernel checked them
        // against the socket's access list when the client connected.
        let may_use =
            self.uids.contains(&user.uid) || self.gids.contains(&user.gid) || !self.gids.is_empty();
        may_use.then_some(Right::Use)
    }

    /// Returns the error message for a client that has no right.
    pub(crate) fn refusal(&self, user: Option<PeerUser>) -> String {
        let own = own_uid();
        let whom = match self.is_private() {
            true => format!("its own user (uid {own}) and root alone"),
            false => format!("its own user (uid {own}), root, and those it was opened to"),
        };
        let who = user.map_or_else(String::new, |user| format!(", and not uid {}", user.uid));
        format!("this manager serves {whom}{who}")
    }
}
