//! What a manager tells of its objects when it is asked.

use lockkeeper_actors::Deadlock;

use super::Manager;
use crate::{
    CallError, Snapshot,
    inspect::survey::{Page, Question},
};

impl Manager {
    /// Tells of all objects who holds them and who waits for them, in order.
    ///
    /// The snapshot is of one moment, between two calls, for as many objects as go into one message,
    /// at most 10,000; of more it is of several moments, and the manager serves others between
    /// them. [`Self::inspect_contended`] tells of a large manager what matters. Of each object at
    /// most 1,000 holders and 1,000 waiters are told, and how many there are.
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

    /// Tells only of the objects that somebody waits for. It takes a time that grows with the
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
    /// [`ManagerBuilder::deadlocks`](crate::ManagerBuilder::deadlocks), which does not know who
    /// calls; else as [`Self::inspect`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::inspect`].
    pub async fn deadlocks(&self) -> Result<Vec<Deadlock>, CallError> {
        self.connection.ask(Question::Deadlocks).await
    }

    async fn look(&self, question: fn(u64) -> Question) -> Result<Snapshot, CallError> {
        let mut snapshot = Snapshot::default();
        let mut above = Some(0);
        while let Some(number) = above {
            let page: Page = self.connection.ask(question(number)).await?;
            snapshot.objects.extend(page.objects);
            snapshot.moments += 1;
            above = page.next;
        }
        Ok(snapshot)
    }
}
