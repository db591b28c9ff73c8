//! Forks of a process that has a manager, and of a client.

use std::{fs, io, path::Path, time::Duration};

use lockkeeper::{Manager, StartError, block_on};
use lockkeeper_test_forks::{
    Fork, end, exit, hear, is_running, kill, pause, refuse_peer_processes, tell, until,
};
use tempfile::TempDir;

use crate::{Test, guards::is_forked};

pub(crate) const TESTS: &[Test] = &[
    (
        "managers::address_is_free_and_clients_are_hung_up_at_once_though_a_child_lives",
        address_is_free_though_a_child_lives,
    ),
    (
        "managers::child_that_exits_or_unwinds_leaves_the_manager_alone",
        child_leaves_the_manager_alone,
    ),
    (
        "managers::dead_clients_lock_is_passed_on_though_its_child_lives",
        dead_clients_lock_is_passed_on,
    ),
    (
        "managers::client_whose_process_the_system_does_not_give_is_watched_by_its_id",
        client_is_watched_by_its_id,
    ),
    (
        "managers::spawned_manager_is_its_starters_and_ends_with_it",
        spawned_manager_is_its_starters,
    ),
    (
        "managers::manager_in_memory_stays_with_its_process",
        manager_in_memory_stays,
    ),
];

/// The time limit for noticing the end of a process.
const AT_ONCE: Duration = Duration::from_secs(5);

pub(crate) fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("manager");
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    (folder, path)
}

fn start(path: &str, shards: usize) -> Result<Manager, StartError> {
    block_on(Manager::builder().address(path).shards(shards).start())
}

/// Forks a process that runs `work`, forks its own child and waits. Returns the process and the id of
/// the child, once `work` is done.
fn parent_and_child<T>(work: impl FnOnce() -> T) -> (Fork, i32) {
    parent_and_child_by(Fork::new, work)
}

/// As [`parent_and_child`], with a function that forks the child.
fn parent_and_child_by<T>(fork: fn(fn()) -> Fork, work: impl FnOnce() -> T) -> (Fork, i32) {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let parent = Fork::new(|| {
        let _kept = work();
        let child = fork(|| pause());
        tell(writer, child.pid());
        pause()
    });
    (parent, hear(&mut reader))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(AT_ONCE, future).await;
    done.expect("it takes no longer than the end of a process")
}

fn address_is_free_though_a_child_lives() {
    for shards in [1, 3] {
        let (_folder, path) = folder();
        let (parent, child) = parent_and_child(|| start(&path, shards).expect("a manager"));
        let refused = start(&path, 1).expect_err("it is another's");
        assert!(
            matches!(refused, StartError::AddressInUse { .. }),
            "{refused}"
        );
        let client = block_on(Manager::connect(&*path)).expect("it is there");
        let lock = block_on(client.lock()).expect("a lock");
        let guard = block_on(lock.acquire()).expect("it is free");
        parent.kill();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(soon(guard.lost()));
        let next = start(&path, shards).expect("the address is free");
        assert!(is_running(child));
        drop(next);
        kill(child);
    }
}

fn child_leaves_the_manager_alone() {
    let (folder, path) = folder();
    let mut manager = Some(start(&path, 2).expect("a manager"));
    let files = || {
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    let (before, lock) = (
        files(),
        block_on(manager.as_ref().unwrap().lock()).expect("a lock"),
    );
    assert!(before.len() >= 3, "{before:?}");
    let guard = block_on(lock.acquire()).expect("it is free");
    Fork::new(|| drop(manager.take())).join();
    Fork::new(|| {
        drop(manager.take());
        exit(0)
    })
    .join();
    Fork::new(|| {
        let manager = manager.take().expect("a copy");
        assert!(is_forked(&block_on(manager.lock()).map(drop)));
        block_on(manager.shutdown());
    })
    .join();
    assert_eq!(files(), before);
    assert!(guard.is_valid());
    let other = block_on(Manager::connect(&*path)).expect("it accepts clients");
    block_on(other.lock()).expect("it serves");
    drop(manager);
    assert!(files().is_empty());
}

fn dead_clients_lock_is_passed_on() {
    let (_folder, path) = folder();
    let manager = start(&path, 1).expect("a manager");
    // After a raw clone the child keeps the socket open, so the manager notices only the end of the
    // process.
    for fork in [Fork::new, Fork::raw, Fork::new, Fork::raw] {
        let lock = block_on(manager.named("it").lock()).expect("a lock");
        let (client, child) = parent_and_child_by(fork, || {
            let client = block_on(Manager::connect(&*path)).expect("it is there");
            let lock = block_on(client.named("it").lock()).expect("a lock");
            block_on(lock.acquire()).expect("it is free")
        });
        assert!(block_on(lock.try_acquire()).expect("an answer").is_none());
        client.kill();
        let acquired = block_on(lock.acquire().timeout(AT_ONCE));
        assert!(acquired.expect("its holder is dead").abandoned().is_some());
        assert!(is_running(child));
        kill(child);
    }
}

/// An older kernel, or a sandbox, does not know the option for a peer's process.
fn client_is_watched_by_its_id() {
    refuse_peer_processes();
    let (_folder, path) = folder();
    let manager = start(&path, 1).expect("a manager");
    let lock = block_on(manager.named("it").lock()).expect("a lock");
    let (client, child) = parent_and_child_by(Fork::raw, || {
        let client = block_on(Manager::connect(&*path)).expect("it is there");
        let lock = block_on(client.named("it").lock()).expect("a lock");
        block_on(lock.acquire()).expect("it is free")
    });
    let waited = block_on(lock.acquire().timeout(Duration::from_millis(500)));
    assert!(waited.is_err(), "its holder lives");
    let info = block_on(lock.info()).expect("it is there");
    assert!(
        info.parts[0].holders[0].process.death_is_noticed,
        "{info:?}"
    );
    client.kill();
    let acquired = block_on(lock.acquire().timeout(AT_ONCE));
    assert!(acquired.expect("its holder is dead").abandoned().is_some());
    assert!(is_running(child));
    kill(child);
}

fn spawned_manager_is_its_starters() {
    let (_folder, path) = folder();
    let spawn = || block_on(Manager::builder().address(&*path).spawn()).expect("a manager");
    let mut manager = Some(spawn());
    Fork::new(|| drop(manager.take())).join();
    let lock = block_on(manager.as_ref().unwrap().lock()).expect("it lives on");
    drop((lock, manager));
    assert!(!Path::new(&path).exists());
    let (parent, child) = parent_and_child(spawn);
    assert!(Path::new(&path).exists());
    parent.kill();
    until("the manager ends with its parent", || {
        start(&path, 1).is_ok()
    });
    assert!(is_running(child));
    kill(child);
}

fn manager_in_memory_stays() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(Manager::in_memory(async |manager| {
        let lock = manager.lock().await.expect("a lock");
        let guard = lock.acquire().await.expect("it is free");
        for turn in 0..2 {
            let Some(fork) = Fork::split() else {
                assert!(is_forked(&guard.release().await));
                assert!(is_forked(&manager.lock().await.map(drop)));
                // The manager does not exist in the child.
                let reached = lock.acquire().await.map(drop).expect_err("no manager");
                assert!(reached.to_string().contains("no manager"), "{reached}");
                if turn == 0 {
                    end(0);
                }
                // The other child drops the manager and then the runtime.
                return true;
            };
            fork.join();
        }
        assert!(guard.is_valid());
        guard.release().await.expect("it is held");
        false
    }));
    let is_child = outcome.expect("a manager");
    drop(runtime);
    if is_child {
        end(0);
    }
}
