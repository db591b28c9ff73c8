//! The state of a readers-writer lock in one value.

use lockkeeper::RwLock;
use lockkeeper_test_support::until;

/// The number of readers, whether there is an upgradable reader, whether there is a writer, and the
/// number of waiters.
pub(crate) type State = (u64, bool, bool, u64);

pub(crate) const FREE: State = (0, false, false, 0);

pub(crate) async fn state(lock: &RwLock) -> State {
    let status = lock.status().await.unwrap();
    (
        status.readers,
        status.has_upgradable,
        status.has_writer,
        status.waiting,
    )
}

pub(crate) async fn until_state(lock: &RwLock, wanted: State) {
    until(&format!("{wanted:?}"), || async {
        state(lock).await == wanted
    })
    .await;
}
