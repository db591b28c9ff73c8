//! `State`: the fences that a manager has reserved on the disk, and the record that it ended cleanly.
//!
//! The shards of a manager share one `State`. A later manager starts above all reserved fences. The manager
//! reserves the next ones on another thread when half of them are left. If that fails, it serves until it has
//! used up the rest, and ends then.
//!
//! Invariant: a fence reaches a client only after its reservation was synced (see `Reserve`), and after a clean
//! end nothing is reserved any more.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use lockkeeper_actors::Reserve;
use lockkeeper_protocol::Fence;
use tokio::{sync::Notify, task, time};

use crate::{
    error::StartError,
    fence_file::{FenceError, FenceFile},
    server::state::{
        folder::{StateFolder, bad},
        marks::{ENDED, FENCES, LONGEST_LEASE, Marks, Previous},
    },
    telemetry::manager,
};

/// The number of fences that a manager reserves at once. They last for minutes at the highest rate, so a disk
/// has that long to become writable again.
const BLOCK: u64 = 1 << 30;

/// The highest fence, so that all fit a signed 64-bit column.
const MOST: u64 = u64::MAX >> 1;

/// The pause after an attempt to reserve fences that has failed.
const RETRY: Duration = Duration::from_secs(1);

/// The state folder of a manager, which has it locked.
#[derive(Debug)]
pub(crate) struct State {
    folder: StateFolder,
    fences: FenceFile,
    ended: FenceFile,
    longest_lease: FenceFile,
    previous: Previous,
    /// The end of the fences that earlier managers have reserved.
    earlier: u64,
    block: u64,
    reserve: Arc<Reserve>,
    /// Notified when a shard wants more fences reserved.
    wanted: Arc<Notify>,
    progress: Mutex<Progress>,
    /// The reason if the manager has used up its fences.
    lost: OnceLock<String>,
}

/// How far the manager has come. The lock is held during writes, so that a clean end is the last one.
#[derive(Debug)]
struct Progress {
    /// The number of shards that have not ended.
    shards: u32,
    has_ended: bool,
}

impl State {
    /// Locks the folder at an absolute path, which is created if it is missing, and reads how the previous
    /// manager ended.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::StateInUse`] when another manager uses the folder, and [`StartError::BadState`]
    /// when it cannot be used or a file in it is damaged or missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        Self::open_with(path, BLOCK)
    }

    /// Opens the folder for a manager that reserves that many fences at once, at least two.
    pub(crate) fn open_with(path: &Path, block: u64) -> Result<Self, StartError> {
        let folder = StateFolder::open(path)?;
        let [fences, ended, longest_lease] =
            [FENCES, ENDED, LONGEST_LEASE].map(|name| FenceFile::at(folder.path().join(name)));
        let read = |file: &FenceFile| match file.highest() {
            Ok(number) => Ok(number.map(Fence::number)),
            Err(error) => Err(bad(folder.path(), explain(&error))),
        };
        let marks = Marks {
            fences: read(&fences)?,
            ended: read(&ended)?,
            longest_lease: read(&longest_lease)?,
        };
        let previous = marks
            .previous()
            .map_err(|damage| bad(folder.path(), format!("{damage}: {REPAIR}")))?;
        let wanted = Arc::new(Notify::new());
        let want = Arc::clone(&wanted);
        Ok(Self {
            folder,
            fences,
            ended,
            longest_lease,
            previous,
            earlier: marks.fences.unwrap_or(0),
            block,
            // Nothing is reserved before `begin`.
            reserve: Arc::new(Reserve::new(0, 0, move || want.notify_one())),
            wanted,
            progress: Mutex::new(Progress {
                shards: 0,
                has_ended: false,
            }),
            lost: OnceLock::new(),
        })
    }

    /// Reserves the first fences of a manager of `shards` shards, and returns the first number: that of the
    /// clock, unless earlier managers have reserved it. The folder then counts as that of a manager that
    /// was killed, until all shards have ended.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::BadState`] when the reservation cannot be written.
    pub(crate) fn begin(&self, clock: u64, shards: u32) -> Result<u64, StartError> {
        let mut progress = self.progress();
        let first = clock.max(self.earlier);
        // The order is what `Marks::previous` expects. A killed manager may have written a part of them.
        let begun = self.reserve_above(first).and_then(|()| {
            self.raise(&self.longest_lease, 0)?;
            self.raise(&self.ended, 0)
        });
        begun.map_err(|why| bad(self.folder.path(), why))?;
        progress.shards = shards;
        Ok(first)
    }

    /// The fences that this manager may give out.
    pub(crate) fn reserve(&self) -> Arc<Reserve> {
        Arc::clone(&self.reserve)
    }

    /// The path of the folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How the previous manager ended.
    pub(crate) const fn previous(&self) -> Previous {
        self.previous
    }

    /// The reason if the manager has used up its fences, and has to end.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Reserves more fences whenever half of them are used. One shard runs it.
    ///
    /// Completes when the manager has used up its fences: [`Self::lost`].
    pub(crate) async fn keep_reserving(self: Arc<Self>) {
        let mut failure = None;
        loop {
            self.wanted.notified().await;
            while !self.reserve.is_exceeded() {
                let state = Arc::clone(&self);
                let extended = task::spawn_blocking(move || state.extend()).await;
                let why = match extended.map_err(|error| error.to_string()) {
                    Ok(Ok(())) => {
                        failure = None;
                        break;
                    }
                    Ok(Err(why)) | Err(why) => why,
                };
                if failure.as_ref() != Some(&why) {
                    manager::state_not_written(self.path(), &why);
                    failure = Some(why);
                }
                let exceeded = async {
                    while !self.reserve.is_exceeded() {
                        self.wanted.notified().await;
                    }
                };
                // Both outcomes lead to the check of the loop.
                let _ = time::timeout(RETRY, exceeded).await;
            }
            if self.reserve.is_exceeded() {
                break;
            }
        }
        let why = failure.unwrap_or_else(|| "the disk was too slow".to_owned());
        let why = format!(
            "it has used up the fences that it had reserved in its state folder {}: {why}",
            self.path().display()
        );
        manager::state_lost(self.path(), &why);
        let _ = self.lost.set(why);
    }

    /// Reserves more fences if half of them are used.
    fn extend(&self) -> Result<(), String> {
        let progress = self.progress();
        let highest = self.reserve.highest();
        // Shards may ask several times before the reservation is extended.
        if progress.has_ended || highest < self.reserve.end() - self.block / 2 {
            return Ok(());
        }
        self.reserve_above(highest)
    }

    /// Reserves a block above a number. The caller has the progress locked.
    fn reserve_above(&self, highest: u64) -> Result<(), String> {
        let end = highest.checked_add(self.block);
        let end = end.filter(|end| *end <= MOST).ok_or_else(|| {
            format!(
                "{}: the fences up to {MOST} are used up: use another folder, for objects of other names",
                self.fences.path().display()
            )
        })?;
        self.raise(&self.fences, end)?;
        self.reserve.extend(end - self.block / 2, end);
        Ok(())
    }

    /// Raises the number in a file of the folder.
    fn raise(&self, file: &FenceFile, number: u64) -> Result<(), String> {
        self.folder.check()?;
        match file.check(Fence::new(number)) {
            Ok(()) => Ok(()),
            // The folder is not new.
            Err(FenceError::Stale { .. }) if number == 0 => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }

    /// Records that a shard has ended all of its sessions. The last one writes the record of a clean end.
    pub(crate) fn end_shard(&self) {
        let mut progress = self.progress();
        progress.shards = progress.shards.saturating_sub(1);
        if progress.shards > 0 || progress.has_ended {
            return;
        }
        progress.has_ended = true;
        if let Err(why) = self.raise(&self.ended, self.reserve.end()) {
            manager::state_not_written(self.path(), &why);
        }
    }

    /// Locks the progress. Poison is ignored, because no code inside panics between two changes.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about a damaged state folder.
const REPAIR: &str = "restore the folder, or remove it if the clock of this machine was not set back since a manager \
                      last used it: fences then count up from the clock";

fn explain(error: &FenceError) -> String {
    match error {
        FenceError::System { path, why } => format!("{}: {why}", path.display()),
        FenceError::Corrupt { path, why } => {
            format!("{} is damaged ({why}): {REPAIR}", path.display())
        }
        FenceError::Stale { token, highest } => format!(
            "another manager has written {highest} into its file, which is higher than {token}"
        ),
    }
}

#[cfg(test)]
mod tests;
