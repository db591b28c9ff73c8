//! `Access`: which users may use a manager beside its own user and root, and what they may do.
//!
//! The socket's access list lets them connect, which the kernel checks, supplementary groups included. The
//! manager then asks the kernel who a client is.

use serde::{Deserialize, Serialize};

use crate::{files::own_uid, transport::stream::PeerUser};

/// The users and groups that a manager was opened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// All that there is.
    Administer,
    /// All but to remove objects, to take holds by force, and to inspect.
    Use,
}

impl Access {
    /// Whether only the manager's own user and root may use it.
    pub(crate) fn is_private(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// What a user may do, `None` for nothing.
    pub(crate) fn right_of(&self, user: PeerUser) -> Option<Right> {
        if user.uid == own_uid() || user.uid == 0 {
            return Some(Right::Administer);
        }
        // No safe call tells the supplementary groups of a process: the access list of the socket has
        // checked them, when it connected.
        let may_use =
            self.uids.contains(&user.uid) || self.gids.contains(&user.gid) || !self.gids.is_empty();
        may_use.then_some(Right::Use)
    }

    /// What a client is told that may do nothing.
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
