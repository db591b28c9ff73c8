//! `Admitted`: a client that may have a session. `Counts`: how many clients each key has at a shard, so that it has at
//! most as many sessions as it may.
//!
//! A client counts before its hello too, or it could take the places of all others without one. It counts apart from
//! the sessions that have begun, because its hello may end a former session, whose place it then takes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use lockkeeper_actors::Client;
use lockkeeper_protocol::{Peer, SessionId};

use crate::{access::Principal, peer_rights::PeerRights};

/// The sessions of a shard whose clients have a key, by its name.
#[derive(Default)]
pub(crate) struct Counts(RefCell<HashMap<String, Count>>);

/// The sessions of one key.
#[derive(Clone, Copy, Default)]
struct Count {
    /// The clients that have not sent their hello.
    arriving: usize,
    begun: usize,
}

impl Counts {
    /// Admits a client, which counts until the result is dropped. A client without a key is not counted.
    ///
    /// # Errors
    ///
    /// Returns the reason for a refusal if as many clients with the same key as may have sessions have not sent
    /// their hello.
    pub(crate) fn admit(
        self: &Rc<Self>,
        id: SessionId,
        principal: Principal,
    ) -> Result<Box<Admitted>, String> {
        if let Some(rights) = principal.peer() {
            let mut counts = self.0.borrow_mut();
            let count = counts.entry(rights.name().to_owned()).or_default();
            if count.arriving >= rights.most_sessions() {
                return Err(too_many(rights));
            }
            count.arriving += 1;
        }
        Ok(Box::new(Admitted {
            id,
            principal,
            counts: Rc::clone(self),
            stage: Cell::new(Stage::Arriving),
        }))
    }

    /// Returns whether no client with a key counts.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Count)) {
        let mut counts = self.0.borrow_mut();
        let Some(count) = counts.get_mut(name) else {
            return;
        };
        change(count);
        if count.arriving == 0 && count.begun == 0 {
            counts.remove(name);
        }
    }
}

/// A client that may have a session, and counts if it has a key.
pub(crate) struct Admitted {
    /// The number of its session.
    pub(super) id: SessionId,
    pub(super) principal: Principal,
    counts: Rc<Counts>,
    stage: Cell<Stage>,
}

/// As what a client counts.
#[derive(Clone, Copy)]
enum Stage {
    Arriving,
    Begun,
    Ended,
}

impl Admitted {
    /// A client that is refused, and so is not counted.
    pub(super) fn refused() -> Box<Self> {
        Box::new(Self {
            id: SessionId::new(0),
            principal: Principal::authenticated(None),
            counts: Rc::default(),
            stage: Cell::new(Stage::Ended),
        })
    }

    /// Counts the client as a session.
    ///
    /// # Errors
    ///
    /// Returns the reason for a refusal if there are as many sessions with the same key as may be.
    pub(super) fn begin(&self) -> Result<(), String> {
        let Some(rights) = self.principal.peer() else {
            return Ok(());
        };
        let mut begun = Err(too_many(rights));
        self.counts.change(rights.name(), |count| {
            if count.begun < rights.most_sessions() {
                count.arriving = count.arriving.saturating_sub(1);
                count.begun += 1;
                begun = Ok(());
            }
        });
        if begun.is_ok() {
            self.stage.set(Stage::Begun);
        }
        begun
    }

    /// The client as events tell it, with the process that it says to be.
    pub(super) fn as_told(&self, peer: Option<Arc<Peer>>) -> Client {
        Client {
            peer: peer.unwrap_or_default(),
            uid: self.principal.uid(),
            key: self.principal.key().map(str::to_owned),
        }
    }

    /// Counts the client no more.
    pub(super) fn end(&self) {
        let Some(rights) = self.principal.peer() else {
            return;
        };
        let stage = self.stage.replace(Stage::Ended);
        self.counts.change(rights.name(), |count| match stage {
            Stage::Arriving => count.arriving = count.arriving.saturating_sub(1),
            Stage::Begun => count.begun = count.begun.saturating_sub(1),
            Stage::Ended => {}
        });
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.end();
    }
}

fn too_many(rights: &PeerRights) -> String {
    let (most, name) = (rights.most_sessions(), rights.name());
    format!(
        "limit reached: at most {most} sessions with the key {name:?}, as the key file of the manager says"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(name: &str, most: usize) -> Principal {
        Principal::authenticated(Some(PeerRights::new(name).max_sessions(most)))
    }

    #[test]
    fn key_has_at_most_its_sessions_and_as_many_that_arrive() {
        let counts = Rc::new(Counts::default());
        let admit = |name, most| counts.admit(SessionId::new(0), principal(name, most));
        let first = admit("a", 1).expect("a place");
        let refused = admit("a", 1).map(drop).expect_err("one arrives");
        assert!(
            refused.contains("at most 1 sessions with the key \"a\""),
            "{refused}"
        );
        assert_eq!(first.begin(), Ok(()));
        let second = admit("a", 1).expect("the other has begun");
        assert!(second.begin().is_err());
        // Another key has its own places, and one without limits has all.
        assert_eq!(admit("b", 1).expect("a place").begin(), Ok(()));
        let all: Vec<_> = (0..9).map(|_| admit("c", usize::MAX)).collect();
        assert!(all.iter().all(Result::is_ok));
        first.end();
        assert_eq!(second.begin(), Ok(()));
        // The end counts once.
        drop(first);
        assert!(admit("a", 1).expect("it arrives").begin().is_err());
        drop((second, all));
        assert!(counts.is_empty());
    }

    #[test]
    fn client_without_a_key_is_not_counted() {
        let counts = Rc::new(Counts::default());
        let admitted = counts.admit(SessionId::new(0), Principal::authenticated(None));
        assert_eq!(admitted.map(|admitted| admitted.begin()), Ok(Ok(())));
        assert!(counts.is_empty());
    }
}
