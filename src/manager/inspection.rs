//! Inspection of a manager's objects: collects the answers of all shards into one snapshot.

use std::sync::Arc;

use futures::future::try_join_all;
use lockkeeper_protocol::{Deadlock, ObjectInfo, Page, Question, Snapshot};

use crate::{client::connection::Connection, error::CallError, manager::manager::Manager};

impl Manager {
    /// Tells of all objects who holds them and who waits for them, in order.
    ///
    /// The snapshot is of one moment, between two calls, for as many objects as go into one message, at
    /// most 1,000; of more it is of several moments, and the manager serves others between them. A manager
    /// of several shards has at least one moment for each, and its objects in the order of their numbers,
    /// which each shard counts up by itself. For a manager with many objects, [`Self::inspect_contended`]
    /// is shorter. Of each object the snapshot lists at most 1,000 holders and 1,000 waiters, and says how
    /// many there are.
    ///
    /// The snapshot follows what this process has called before. For others it may have changed
    /// when it is read.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Disconnected`] without the manager.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn inspect(&self) -> Result<Snapshot, CallError> {
        self.look(Question::All).await
    }

    /// Returns only the objects that calls wait for. It takes a time that grows with the
    /// number of those, however many others there are.
    ///
    /// # Errors
    ///
    /// As [`Self::inspect`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::inspect`].
    pub async fn inspect_contended(&self) -> Result<Snapshot, CallError> {
        self.look(Question::Contended).await
    }

    /// Tells who waits for whom in a circle, at this moment as the manager sees it.
    ///
    /// A release or a withdrawal that is on its way to the manager may end such a circle; one that
    /// is told twice, a moment apart, is a deadlock.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Refused`] with `Invalid` from a manager that was built without
    /// [`ManagerBuilder::deadlocks`](crate::builders::ManagerBuilder::deadlocks), which does not know who
    /// calls, as those of several shards are; else as [`Self::inspect`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::inspect`].
    pub async fn deadlocks(&self) -> Result<Vec<Deadlock>, CallError> {
        Ok(self.reach.first().ask(Question::Deadlocks).await?)
    }

    async fn look(&self, question: fn(u64) -> Question) -> Result<Snapshot, CallError> {
        let shards = self.reach.all().await?;
        let views = shards.into_iter().map(|shard| View::of(shard, question));
        View::together(try_join_all(views).await?)
    }
}

/// What one shard tells of its objects.
#[derive(Default)]
struct View {
    objects: Vec<ObjectInfo>,
    /// The numbers of the objects, where there are other shards.
    numbers: Vec<u64>,
    moments: u64,
}

impl View {
    async fn of(shard: &Arc<Connection>, question: fn(u64) -> Question) -> Result<Self, CallError> {
        let mut view = Self::default();
        let mut above = Some(0);
        while let Some(number) = above {
            let page: Page = shard.ask(question(number)).await?;
            view.objects.extend(page.objects);
            view.numbers.extend(page.numbers);
            view.moments += 1;
            above = page.next;
        }
        Ok(view)
    }

    /// Puts the objects of all shards in the order of their numbers.
    fn together(views: Vec<Self>) -> Result<Snapshot, CallError> {
        let is_one = views.len() == 1;
        let mut moments = 0;
        let mut all = Vec::new();
        for view in views {
            moments += view.moments;
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
        // Those of one shard are in order already.
        all.sort_by_key(|(number, _)| *number);
        let objects = all.into_iter().map(|(_, object)| object).collect();
        let mut snapshot = Snapshot::default();
        snapshot.objects = objects;
        snapshot.moments = moments;
        Ok(snapshot)
    }
}
