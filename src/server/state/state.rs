//! `State`: the fences that a manager has reserved on the disk, and the record that it ended cleanly.
//!
//! The shards of a manager share one `State`. A later manager starts above all reserved fences. The manager
//! reserves the next ones on another thread when half of them are left. If that fails, it serves until it has
//! used up the rest, and ends then.
//!
//! Invariant: a fence reaches a client only after its reservation was synced (see `Reserve`), and after a clean
//! end nothing is reserved any more. A shard's thread never waits for a disk that does not answer.

use std::{
    mem,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use lockkeeper_actors::Reserve;
use lockkeeper_protocol::Fence;
use tokio::{
    sync::{Notify, oneshot},
    time,
};

use crate::{
    error::{StartError, lack},
    fence_file::{FenceError, FenceFile},
    server::state::{
        folder::{StateFolder, bad},
        marks::{ENDED, FENCES, LEASE, Marks, PreviousEnd},
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

/// The longest wait for the record of the end. A manager with a disk that does not answer ends without it.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The state folder of a manager, which has it locked.
#[derive(Debug)]
pub(crate) struct State {
    folder: StateFolder,
    fences: FenceFile,
    ended: FenceFile,
    /// The longest lease that a manager of this folder has promised, in milliseconds.
    lease: FenceFile,
    longest_lease: Duration,
    previous_end: PreviousEnd,
    /// The end of the fences that earlier managers have reserved.
    reserved_before: u64,
    block: u64,
    reserve: Arc<Reserve>,
    /// Notified when a shard requests more fences, or drew one that is not reserved.
    requested: Arc<Notify>,
    shards: Mutex<ShardCount>,
    /// Whether a client may not know that its session has ended, so that the end is not recorded as clean.
    is_unclean: AtomicBool,
    /// Locked by the thread that writes, so that a clean end is the last write.
    writer: Mutex<Writer>,
    /// Why the last attempt to reserve fences has failed.
    failure: Mutex<Option<String>>,
}

/// The number of shards that have not ended, and of those that serve.
#[derive(Debug, Default)]
struct ShardCount {
    left: u32,
    running: u32,
}

/// What was written.
#[derive(Debug, Default)]
struct Writer {
    has_begun: bool,
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
        let [fences, ended, lease] =
            [FENCES, ENDED, LEASE].map(|name| FenceFile::at(folder.path().join(name)));
        let read = |file: &FenceFile| match file.highest() {
            Ok(number) => Ok(number.map(Fence::number)),
            Err(error) => Err(bad(folder.path(), explain(&error))),
        };
        let marks = Marks {
            fences: read(&fences)?,
            ended: read(&ended)?,
            lease: read(&lease)?,
        };
        let longest_lease = Duration::from_millis(marks.lease.unwrap_or(0));
        let previous_end = marks
            .previous_end()
            .map_err(|damage| bad(folder.path(), format!("{damage}: {REPAIR}")))?;
        let requested = Arc::new(Notify::new());
        let request_more = Arc::clone(&requested);
        Ok(Self {
            folder,
            fences,
            ended,
            lease,
            longest_lease,
            previous_end,
            reserved_before: marks.fences.unwrap_or(0),
            block,
            // Nothing is reserved before `begin`.
            reserve: Arc::new(Reserve::new(0, 0, move || request_more.notify_one())),
            requested,
            shards: Mutex::default(),
            is_unclean: AtomicBool::new(false),
            writer: Mutex::default(),
            failure: Mutex::default(),
        })
    }

    /// Reserves the first fences of a manager of `shards` shards, and returns the first number: that of the
    /// clock, unless earlier managers have reserved it. The folder then counts as that of a manager that
    /// was killed, until all shards have ended, or the start has failed before the first shard served.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::BadState`] when the reservation cannot be written.
    pub(crate) fn begin(&self, clock: u64, shards: u32) -> Result<u64, StartError> {
        let first = clock.max(self.reserved_before);
        let mut writer = lock(&self.writer);
        // The order is what `Marks::previous_end` expects.
        let begun = self
            .reserve_above(first)
            .and_then(|()| self.raise(&self.lease, 0))
            .and_then(|()| self.raise(&self.ended, 0));
        begun.map_err(|why| bad(self.folder.path(), why))?;
        writer.has_begun = true;
        lock(&self.shards).left = shards;
        Ok(first)
    }

    /// Records that sessions will have a lease of that length, for the managers after this one.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::BadState`] when it cannot be written.
    pub(crate) fn promise(&self, lease: Duration) -> Result<(), StartError> {
        if lease <= self.longest_lease {
            return Ok(());
        }
        let millis = lease.as_millis().try_into().unwrap_or(MOST);
        let _writer = lock(&self.writer);
        let raised = self.raise(&self.lease, millis);
        raised.map_err(|why| bad(self.folder.path(), why))
    }

    /// Begins the silence of a manager whose predecessor did not end cleanly, and returns its length.
    pub(crate) fn begin_silence(&self) -> Duration {
        let silence = self.silence();
        if silence > Duration::ZERO {
            manager::silent(self.path(), silence);
        }
        silence
    }

    /// The time for which this manager must grant nothing, because clients of the previous one may be unaware
    /// of its end.
    fn silence(&self) -> Duration {
        match self.previous_end {
            PreviousEnd::Unclean => self.longest_lease,
            PreviousEnd::Absent | PreviousEnd::Clean => Duration::ZERO,
        }
    }

    /// Records that a shard serves from now on.
    pub(crate) fn begin_shard(&self) {
        lock(&self.shards).running += 1;
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
    pub(crate) const fn previous_end(&self) -> PreviousEnd {
        self.previous_end
    }

    /// The reason if the manager has used up its fences, and has to end.
    pub(crate) fn lost(&self) -> Option<String> {
        self.reserve.is_exhausted().then(|| {
            let why = lock(&self.failure).clone();
            format!(
                "it has used up the fences that it had reserved in its state folder {}: {}",
                self.path().display(),
                why.unwrap_or_else(|| "the disk was too slow".to_owned())
            )
        })
    }

    /// Reserves more fences whenever half of them are used. One shard runs it.
    ///
    /// Completes when the manager has used up its fences: [`Self::lost`].
    pub(crate) async fn keep_reserving(self: Arc<Self>) {
        while !self.reserve.is_exhausted() {
            if !self.reserve.needs_more() {
                self.requested.notified().await;
                continue;
            }
            let attempt = async {
                let failure = self.on_thread(Self::extend).await.err();
                let last = mem::replace(&mut *lock(&self.failure), failure.clone());
                if let Some(why) = failure {
                    if last.as_ref() != Some(&why) {
                        manager::state_not_written(self.path(), &why);
                    }
                    time::sleep(RETRY).await;
                }
            };
            let exhausted = async {
                while !self.reserve.is_exhausted() {
                    self.requested.notified().await;
                }
            };
            // A disk may never answer the attempt. Both outcomes lead to the check of the loop.
            tokio::select! {
                () = attempt => {}
                () = exhausted => {}
            }
        }
        if let Some(why) = self.lost() {
            manager::state_lost(self.path(), &why);
        }
    }

    /// Records that a shard has ended all of its sessions. The last one writes the record of a clean end, unless a
    /// client of any shard may not know that its session has ended.
    pub(crate) async fn end_shard(self: Arc<Self>, is_unclean: bool) {
        self.is_unclean.fetch_or(is_unclean, Ordering::AcqRel);
        let is_last = {
            let mut shards = lock(&self.shards);
            shards.running = shards.running.saturating_sub(1);
            shards.left = shards.left.saturating_sub(1);
            shards.left == 0
        };
        if !is_last {
            return;
        }
        let recorded = time::timeout(END_PATIENCE, self.on_thread(Self::record_end)).await;
        let recorded = recorded
            .unwrap_or_else(|_| Err(format!("the disk did not answer within {END_PATIENCE:?}")));
        if let Err(why) = recorded {
            manager::state_not_written(self.path(), &why);
        }
    }

    /// Runs a write on a thread of its own. When a runtime is dropped, it waits for its blocking threads, and a
    /// disk may never answer.
    async fn on_thread(
        self: &Arc<Self>,
        write: fn(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        let state = Arc::clone(self);
        let work = move || {
            let written = write(&state);
            // The caller may be the last one that uses the folder, and then unlocks it.
            drop(state);
            let _ = sender.send(written);
        };
        let thread = thread::Builder::new().name("lockkeeper-disk".to_owned());
        thread.spawn(work).map_err(|error| lack(&error))?;
        let written = receiver.await;
        written.unwrap_or_else(|_| Err("the thread that writes has panicked".to_owned()))
    }

    /// Reserves more fences if half of them are used.
    fn extend(&self) -> Result<(), String> {
        let writer = lock(&self.writer);
        if writer.has_ended {
            return Err("the manager has ended".to_owned());
        }
        // An earlier attempt may have ended late.
        if !self.reserve.needs_more() {
            return Ok(());
        }
        self.reserve_above(self.reserve.highest_drawn())
    }

    /// Writes the record of a clean end, at most once.
    fn record_end(&self) -> Result<(), String> {
        let mut writer = lock(&self.writer);
        if !writer.has_begun || writer.has_ended || self.is_unclean.load(Ordering::Acquire) {
            return Ok(());
        }
        writer.has_ended = true;
        self.raise(&self.ended, self.reserve.reserved_until())
    }

    /// Reserves a block above a number. The caller has the writer locked.
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

    /// Raises the number in a file of the folder. The caller has the writer locked.
    fn raise(&self, file: &FenceFile, number: u64) -> Result<(), String> {
        self.folder.check()?;
        match file.check_alone(Fence::new(number)) {
            Ok(()) => Ok(()),
            // The folder is not new.
            Err(FenceError::Stale { .. }) if number == 0 => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }

    /// Returns whether the last attempt to reserve fences has failed.
    #[cfg(test)]
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.failure).is_some()
    }

    /// Makes all writes wait, as for a disk that does not answer, until the guard is dropped.
    #[cfg(test)]
    pub(crate) fn hold_disk(&self) -> impl Drop + '_ {
        lock(&self.writer)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let shards = self
            .shards
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // A shard that panicked still counts as running. In a forked child another thread of the parent may
        // have had the writer locked, so the order of the two conditions matters.
        if self.folder.is_forked() || shards.running > 0 {
            return;
        }
        // No shard has served, or the last one found no thread for the record.
        if let Err(why) = self.record_end() {
            manager::state_not_written(self.path(), &why);
        }
    }
}

/// Locks a mutex. Poison is ignored, because no code inside panics between two changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What to do about a damaged state folder.
const REPAIR: &str = "restore the folder, or remove it if the clock of this machine was not set back since a manager \
                      last used it, and that manager ended longer ago than its lease: fences then count up from the \
                      clock";

fn explain(error: &FenceError) -> String {
    match error {
        FenceError::System { path, why } => format!("{}: {why}", path.display()),
        FenceError::Corrupt { path, why } => {
            format!("{} is damaged ({why}): {REPAIR}", path.display())
        }
        FenceError::Stale { fence, highest } => format!(
            "another manager has written {highest} into its file, which is higher than {fence}"
        ),
    }
}

#[cfg(test)]
mod tests;
