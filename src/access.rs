//! `Access`: which users may use a manager beside its own user and root. `Principal`: who the client of a session
//! is, and what it may do.
//!
//! The access list of the socket lets these users connect: the kernel checks it, supplementary groups
//! included. The manager then asks the kernel for the user of each client. A client of another machine has
//! rights that its stream reports, as they go with its key.

use std::sync::Arc;

use lockkeeper_protocol::{Fault, ObjectName};
use serde::{Deserialize, Serialize};

use crate::{
    files::own_uid,
    peer_rights::PeerRights,
    transport::stream::{PeerUser, Stream},
};

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
            true => format!("only its own user (uid {own}) and root"),
            false => format!(
                "its own user (uid {own}), root, and the users and groups that it was opened to"
            ),
        };
        let who = user.map_or_else(String::new, |user| format!(", and not uid {}", user.uid));
        format!("this manager serves {whom}{who}")
    }
}

/// Who the client of a session is, as the manager has verified it, and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    right: Right,
    uid: Option<u32>,
    peer: Option<Arc<PeerRights>>,
}

impl Principal {
    /// Returns the principal of a new stream, or `None` if it may do nothing.
    pub(crate) fn of(stream: &dyn Stream, access: &Access) -> Option<Self> {
        if let Some(user) = stream.peer_user() {
            return Some(Self {
                right: access.right_of(user)?,
                uid: Some(user.uid),
                peer: None,
            });
        }
        stream
            .is_trusted()
            .then(|| Self::authenticated(stream.peer_rights()))
    }

    /// Returns the principal of a client that the manager trusts, with all rights if it has none of its own.
    pub(crate) fn authenticated(rights: Option<PeerRights>) -> Self {
        let may_administer = rights.as_ref().is_none_or(PeerRights::may_administer);
        Self {
            right: if may_administer {
                Right::Administer
            } else {
                Right::Use
            },
            uid: None,
            peer: rights.map(Arc::new),
        }
    }

    #[inline]
    pub(crate) const fn right(&self) -> Right {
        self.right
    }

    /// The user, if the kernel reports it.
    pub(crate) const fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// The name of the key that the client has proved.
    pub(crate) fn key(&self) -> Option<&str> {
        Some(self.peer.as_deref()?.name())
    }

    /// The rights that go with the key of the client.
    pub(crate) const fn peer(&self) -> Option<&Arc<PeerRights>> {
        self.peer.as_ref()
    }

    /// The prefix of the names to which the client is confined.
    pub(crate) fn prefix(&self) -> Option<&str> {
        let prefix = self.peer.as_deref()?.prefix();
        (!prefix.is_empty()).then_some(prefix)
    }

    /// The most calls in flight, where the manager allows that many.
    pub(crate) fn most_calls(&self, most: usize) -> usize {
        let own = self.peer.as_deref().map(PeerRights::most_calls);
        own.map_or(most, |own| own.min(most))
    }

    /// Refuses an administrative request, which `what` names, if the client may not administer.
    ///
    /// # Errors
    ///
    /// Returns `NotAllowed` with the request and whom to ask.
    pub(crate) fn check_administration(&self, what: impl FnOnce() -> String) -> Result<(), Fault> {
        match self.right {
            Right::Administer => Ok(()),
            Right::Use => Err(self.not_administrative(&what())),
        }
    }

    /// The refusal of an administrative request.
    pub(crate) fn not_administrative(&self, what: &str) -> Fault {
        Fault::NotAllowed(match self.key() {
            None => format!("{what}: only the manager's own user and root may"),
            Some(key) => format!(
                "{what}: the key {key:?} has no-admin in the key file of the manager, so use a key without it"
            ),
        })
    }

    /// The refusal of a request that would show objects to which the client is not confined.
    pub(crate) fn not_for_some_names(&self, what: &str) -> Fault {
        let key = self.key().unwrap_or_default();
        let prefix = self.prefix().unwrap_or_default();
        Fault::NotAllowed(format!(
            "{what}: the key {key:?} is for names that begin with {prefix:?}, so use a key for all names"
        ))
    }
}

/// Refuses a request about the object with a name that the rights of a client do not cover. `home` is that of the
/// object (see [`PeerRights::cover`]), if there is one with the name.
///
/// # Errors
///
/// Returns `NotAllowed`. For a chosen name it makes no difference whether it exists.
pub(crate) fn check_covered(
    rights: Option<&PeerRights>,
    verb: &str,
    name: &str,
    home: Option<Option<&str>>,
) -> Result<(), Fault> {
    let Some(rights) = rights else {
        return Ok(());
    };
    let is_covered = match name.starts_with(ObjectName::ANONYMOUS) {
        true => home.is_none_or(|home| rights.cover(home)),
        false => rights.cover(Some(name)),
    };
    if is_covered {
        return Ok(());
    }
    let (key, prefix) = (rights.name(), rights.prefix());
    Err(Fault::NotAllowed(format!(
        "to {verb} {name:?}: the key {key:?} is for names that begin with {prefix:?} and for unnamed objects that such \
         keys have made, so use a name of that kind or another key"
    )))
}
