//! The inspection of a manager's objects: combines the answers of all shards into one snapshot.

use std::sync::Arc;

use futures::future::try_join_all;
use lockkeeper_protocol::{Deadlock, ObjectInfo, Page, Question, Snapshot};

use crate::{client::connection::Connection, error::CallError, manager::manager::Manager};

impl Manager {
    /// Returns the holders and waiters of all objects, in order.
    ///
    /// The snapshot describes one moment, between two calls, for as many objects as fit into one message, at
    /// most 1,000. A larger snapshot describes several instants, and the manager serves other calls in
    /// between. A manager of several shards has at least one moment for each shard; its objects are in the
    /// order of their numbers, which each shard assigns by itself. If a manager has many objects,
    /// [`Self::inspect_contended`] is shorter. For each object the snapshot lists at most 1,000 holders and
    /// 1,000 waiters, with the total numbers.
    ///
    /// The snapshot includes the effects of all earlier calls of this process. Other calls may have changed
    /// the state by the time the caller reads it.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] if the manager is gone.
    ///
    /// # Cancel safety
    ///
    /// This call changes nothing, so its future may be dropped.
    pub async fn inspect(&self) -> Result<Snapshot, CallError> {
        self.look(Question::All).await
    }

    /// Returns only the objects that calls wait for. The time depends on the number of those objects, not on
    /// the total.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::inspect`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::inspect`].
    pub async fn inspect_contended(&self) -> Result<Snapshot, CallError> {
        self.look(Question::Contended).await
    }

    /// Returns the groups of callers that wait for one another at this moment.
    ///
    /// A release or a withdrawal that is on its way to the manager may end such a wait; a group that two
    /// calls return, some time apart, is a deadlock.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Invalid` if the manager was built without
    /// [`ManagerBuilder::deadlocks`](crate::builders::ManagerBuilder::deadlocks), because it then does not
    /// know the callers; a manager of several shards never has that setting. Returns also the errors of
    /// [`Self::inspect`].
    ///
    /// # Cancel safety
    ///
    /// See [`Self::inspect`].
    pub async fn deadlocks(&self) -> Result<Vec<Deadlock>, CallError> {
        let asked = self.reach.first().ask(Question::Deadlocks).await;
        asked.map_err(|error: CallError| error.of_function("deadlocks"))
    }

    async fn look(&self, question: fn(u64) -> Question) -> Result<Snapshot, CallError> {
        let shards = self.reach.all().await?;
        let views = shards.into_iter().map(|shard| View::of(shard, question));
        View::together(try_join_all(views).await?)
    }
}

/// The answer of one shard about its objects.
#[derive(Default)]
struct View {
    objects: Vec<ObjectInfo>,
    /// The numbers of the objects, if the manager has several shards.
    numbers: Vec<u64>,
    instants: u64,
}

impl View {
    async fn of(shard: &Arc<Connection>, question: fn(u64) -> Question) -> Result<Self, CallError> {
        let mut view = Self::default();
        let mut above = Some(0);
        while let Some(number) = above {
            let page: Page = shard.ask(question(number)).await?;
            view.objects.extend(page.objects);
            view.numbers.extend(page.numbers);
            view.instants += 1;
            above = page.next;
        }
        Ok(view)
    }

    /// Merges the objects of all shards in the order of their numbers.
    fn together(views: Vec<Self>) -> Result<Snapshot, CallError> {
        let is_one = views.len() == 1;
        let mut instants = 0;
        let mut all = Vec::new();
        for view in views {
            instants += view.instants;
            let mut numbers = view.numbers.into_iter();
            for object in view.objects {
                let number = numbers.next();
                if number.is_none() && !is_one {
                    let why = "a shard did not number its objects".to_owned();
                    return Err(CallError::Protocol(why));
                }
                all.push((number, object));
            }
        }
        // The objects of one shard are in order already.
        all.sort_by_key(|(number, _)| *number);
        let objects = all.into_iter().map(|(_, object)| object).collect();
        let mut snapshot = Snapshot::default();
        snapshot.objects = objects;
        snapshot.instants = instants;
        Ok(snapshot)
    }
}
