//! Managers with a state folder in which they reserve few fences at once, so that the fences are used up.

use std::{fs, path::Path, sync::Arc};

use lockkeeper_protocol::Fence;
use lockkeeper_test_support::{run, until};

use crate::{
    access::Access,
    address::Address,
    error::CallError,
    fence_file::FenceFile,
    limits::Limits,
    manager::manager::Manager,
    server::{
        budgets::Budgets,
        claim::address_claim::AddressClaim,
        kinds::Kinds,
        server::{Server, ServerRuntime},
        shards::{Shards, Threads},
        state::state::State,
    },
};

/// The number of fences that the managers reserve at once.
const BLOCK: u64 = 16;

/// Starts a manager of `shards` shards with a state folder.
fn start(folder: &Path, shards: u32) -> (Address, Threads, Arc<State>) {
    let address = Address::unused();
    let state = Arc::new(State::open_with(folder, BLOCK).expect("the folder is usable"));
    let access = Access::default();
    let claimed = AddressClaim::acquire_all(&address, shards, &access, Some(&state));
    let limits = Limits::default();
    let budgets = Budgets::new(limits);
    let servers = claimed
        .expect("the address is free")
        .into_iter()
        .map(|(claim, listener)| Server {
            claim,
            listener,
            others: Vec::new(),
            endpoints: Arc::default(),
            kinds: Kinds::built_in(),
            limits,
            budgets: budgets.clone(),
            deadlocks: None,
            lease: None,
            access: access.clone(),
            state: Some(Arc::clone(&state)),
            left: None,
        });
    let shards = ServerRuntime::new().and_then(|first| Shards::start(servers.collect(), first));
    let shards = shards.expect("the system has threads");
    let threads = shards.run_on_thread().expect("the system has threads");
    (address, threads, state)
}

fn number_in(folder: &Path, name: &str) -> u64 {
    let number = FenceFile::at(folder.join(name)).highest();
    number.expect("it is whole").map_or(0, Fence::number)
}

fn reserved(folder: &Path) -> u64 {
    number_in(folder, "fences")
}

/// Acquires and releases a lock of each shard by turns until a call fails, and returns the fences and the
/// error. After each grant it waits until `is_ready`.
async fn acquire(
    manager: &Manager,
    most: usize,
    mut is_ready: impl AsyncFnMut(u64),
) -> (Vec<u64>, Option<CallError>) {
    let mut fences = Vec::new();
    let mut locks = Vec::new();
    for name in ["jobs", "stock"] {
        match manager.named(name).lock().await {
            Ok(lock) => locks.push(lock),
            Err(error) => return (fences, Some(error)),
        }
    }
    for turn in 0..most {
        let lock = locks.get(turn % 2).expect("there are two");
        let guard = match lock.acquire().await {
            Ok(guard) => guard,
            Err(error) => return (fences, Some(error)),
        };
        let fence = guard.fence().number();
        fences.push(fence);
        is_ready(fence).await;
        drop(guard);
    }
    (fences, None)
}

#[test]
fn each_granted_fence_is_reserved_on_the_disk() {
    run(async {
        for shards in [1, 2] {
            let above = tempfile::tempdir().expect("a folder");
            let folder = above.path();
            let (address, threads, state) = start(folder, shards);
            let reserve = state.reserve();
            let manager = Manager::connect(address).await.expect("it runs");
            let (fences, error) = acquire(&manager, 200, async |fence| {
                assert!(
                    fence < reserved(folder),
                    "the disk has it before the client"
                );
                let has_more = || async { fence + BLOCK / 2 < reserve.reserved_until() };
                until("the next fences are reserved", has_more).await;
            })
            .await;
            assert_eq!(error, None);
            assert_eq!(fences.len(), 200);
            threads.end();
            assert_eq!(
                number_in(folder, "ended"),
                reserved(folder),
                "the end is clean"
            );
        }
    });
}

#[test]
fn manager_that_cannot_reserve_fences_grants_those_that_it_has_and_ends_with_the_reason() {
    run(async {
        for shards in [1, 2] {
            let above = tempfile::tempdir().expect("a folder");
            let folder = above.path();
            let (address, threads, state) = start(folder, shards);
            let manager = Manager::connect(address).await.expect("it runs");
            let obstacle = folder.join("fences.new");
            fs::create_dir(&obstacle).expect("a folder");
            let end = reserved(folder);
            // Each shard counts by itself, and asks for more once it has used half of the block.
            let some = u64::from(shards) * (BLOCK / 2 + 1);
            let some = usize::try_from(some).expect("it is small");
            let (mut fences, _) = acquire(&manager, some, async |_| ()).await;
            let has_failed = || async { state.has_failed() };
            until("an attempt to reserve more fails", has_failed).await;
            let (more, error) = acquire(&manager, 1000, async |_| ()).await;
            fences.extend(more);
            let least = usize::try_from(BLOCK).expect("it is small");
            assert!(fences.len() >= least, "{fences:?}");
            assert!(fences.iter().all(|fence| *fence < end), "{fences:?} {end}");
            let error = error.expect("the fences are used up");
            assert!(matches!(error, CallError::Disconnected { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains("it has used up the fences"), "{message}");
            assert!(
                message.contains(obstacle.to_str().expect("UTF-8")),
                "{message}"
            );
            threads.end();
            drop(state);
            assert_eq!(reserved(folder), end);

            // The next manager starts above all of them.
            fs::remove_dir(&obstacle).expect("it is empty");
            let (address, threads, _) = start(folder, shards);
            let manager = Manager::connect(address).await.expect("it runs");
            let (fences, _) = acquire(&manager, 1, async |_| ()).await;
            assert!(fences.iter().all(|fence| *fence >= end), "{fences:?} {end}");
            assert_eq!(fences.len(), 1);
            threads.end();
        }
    });
}

#[test]
fn manager_with_a_disk_that_does_not_answer_ends_with_the_reason() {
    run(async {
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path();
        let (address, threads, state) = start(folder, 2);
        let manager = Manager::connect(address).await.expect("it runs");
        let disk = state.hold_disk();
        let (fences, error) = acquire(&manager, 1000, async |_| ()).await;
        let end = reserved(folder);
        assert!(fences.iter().all(|fence| *fence < end), "{fences:?} {end}");
        let message = error.expect("the fences are used up").to_string();
        assert!(message.contains("it has used up the fences"), "{message}");
        assert!(message.contains("the disk was too slow"), "{message}");
        // Its threads end although the writes still wait.
        threads.end();
        assert_eq!(number_in(folder, "ended"), 0);
        drop(disk);
    });
}

#[test]
fn sessions_count_as_fences_do() {
    run(async {
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path();
        let (address, threads, _) = start(folder, 1);
        let end = reserved(folder);
        fs::create_dir(folder.join("fences.new")).expect("a folder");
        let mut begun = 0;
        // Each connection is a session with a number of its own.
        let error = loop {
            let labelled = Manager::client().label(&format!("client {begun}"));
            match labelled.connect(address.clone()).await {
                Ok(manager) => {
                    let opened = manager.named("jobs").lock().await;
                    if let Err(error) = opened {
                        break error;
                    }
                    begun += 1;
                }
                Err(error) => break error,
            }
            assert!(begun <= BLOCK, "{end}");
        };
        assert!(begun > 0, "{error}");
        let reason =
            "it has used up the numbers of sessions that it had reserved in its state folder";
        assert!(error.to_string().contains(reason), "{error}");
        threads.end();
    });
}
