//! The sessions that have opened an object, each with its number for the object.

use std::collections::BTreeMap;

use lockkeeper_protocol::SessionId;

/// The sessions that have opened an object, and their numbers for it. Most objects are opened by one session,
/// for which a tree would be large.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "one word in each object, where nearly none has any"
)]
pub(super) struct Openers {
    one: Option<(SessionId, u32)>,
    others: Option<Box<BTreeMap<SessionId, u32>>>,
}

impl Openers {
    pub(super) fn insert(&mut self, session: SessionId, object: u32) {
        self.remove(session);
        if self.one.is_none() {
            self.one = Some((session, object));
        } else {
            self.others.get_or_insert_default().insert(session, object);
        }
    }

    /// Removes a session. Returns whether it had opened the object.
    pub(super) fn remove(&mut self, session: SessionId) -> bool {
        let others = &mut self.others;
        self.one.take_if(|(one, _)| *one == session).is_some()
            || others
                .as_mut()
                .is_some_and(|others| others.remove(&session).is_some())
    }

    pub(super) fn has(&self, session: SessionId) -> bool {
        let others = self.others.as_ref();
        self.one.is_some_and(|(one, _)| one == session)
            || others.is_some_and(|others| others.contains_key(&session))
    }

    pub(super) fn len(&self) -> usize {
        let others = self.others.as_ref().map_or(0, |others| others.len());
        usize::from(self.one.is_some()) + others
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, u32)> {
        let others = self.others.iter().flat_map(|others| others.iter());
        let others = others.map(|(session, object)| (*session, *object));
        self.one.into_iter().chain(others)
    }
}
