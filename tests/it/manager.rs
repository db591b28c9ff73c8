//! The start and the end of managers, in this process and in their own, and the managers of
//! addresses.
//!
//! Clients of a manager that is killed are tested in `deaths`.

pub(crate) mod deaths;
pub(crate) mod inspect;
pub(crate) mod objects;
pub(crate) mod operations;
pub(crate) mod process;
mod room;
pub(crate) mod shards;
pub(crate) mod spawned;
pub(crate) mod state;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use lockkeeper::{Address, CallError, Limits, Manager, StartError};
use lockkeeper_test_support::{is_running, kill, until};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::run;

/// Returns an address in a new folder.
fn address_in(folder: &TempDir) -> Address {
    let path = folder.path().join("run").join("locks.sock");
    Address::try_from(path).unwrap()
}

/// Returns the process that listens at an address.
async fn pid_at(address: &Address) -> u32 {
    let stream = UnixStream::connect(address.path().unwrap()).await.unwrap();
    let pid = stream.peer_cred().unwrap().pid().unwrap();
    pid.try_into().unwrap()
}

/// Returns whether the folder of a manager's socket has no files of the manager.
fn is_clean(address: &Address) -> bool {
    let folder = address.path().unwrap().parent().unwrap();
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Returns the permissions of a file.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn started_manager_runs_in_this_process_and_shuts_down_without_leftovers() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = Manager::builder().address(address.clone());
        let manager = builder.start().await.unwrap();
        assert_eq!(manager.address(), &address);
        assert_eq!(pid_at(&address).await, std::process::id());
        let lock = manager.lock().await.unwrap();
        manager.shutdown().await;
        assert!(is_clean(&address));
        let late = lock.acquire().await.map(drop);
        assert!(
            matches!(late, Err(CallError::Disconnected { .. })),
            "{late:?}"
        );
    });
}

#[test]
fn spawned_manager_is_a_process_and_shuts_down_without_leftovers() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = Manager::builder().address(address.clone());
        let manager = builder.spawn().await.unwrap();
        let pid = pid_at(&address).await;
        assert_ne!(pid, std::process::id());
        drop(manager.lock().await.unwrap().acquire().await.unwrap());
        manager.shutdown().await;
        assert!(!is_running(pid) && is_clean(&address));
    });
}

#[test]
fn drop_of_the_last_handle_ends_the_manager() {
    run(async {
        for is_process in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let address = address_in(&folder);
            let builder = Manager::builder().address(address.clone());
            let manager = match is_process {
                true => builder.spawn().await.unwrap(),
                false => builder.start().await.unwrap(),
            };
            let pid = pid_at(&address).await;
            let other = manager.clone();
            drop(manager);
            other.lock().await.unwrap();
            drop(other);
            assert!(is_clean(&address));
            assert_eq!(is_running(pid), !is_process);
        }
    });
}

#[test]
fn anonymous_managers_leave_nothing_in_the_users_folder() {
    run(async {
        let started = Manager::start().await.unwrap();
        let spawned = Manager::spawn().await.unwrap();
        assert_ne!(started.address(), spawned.address());
        let paths = [started.address().clone(), spawned.address().clone()];
        assert_eq!(mode(paths[0].path().unwrap().parent().unwrap()), 0o700);
        drop((started, spawned));
        for address in paths {
            let lock = format!("{address}.lockkeeper");
            assert!(!address.path().unwrap().exists() && !Path::new(&lock).exists());
        }
    });
}

#[test]
fn waits_fail_when_the_manager_ends() {
    run(async {
        for is_process in [false, true] {
            let builder = Manager::builder();
            let manager = match is_process {
                true => builder.spawn().await.unwrap(),
                false => builder.start().await.unwrap(),
            };
            let lock = manager.lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            let waiting = tokio::spawn(lock.acquire());
            until("a call waits", || async {
                lock.status().await.unwrap().waiting == 1
            })
            .await;
            manager.shutdown().await;
            let shown = waiting.await.unwrap().map(drop);
            assert!(
                matches!(shown, Err(CallError::Disconnected { .. })),
                "{shown:?}"
            );
            guard.lost().await;
            assert!(!guard.is_valid());
        }
    });
}

#[test]
fn connected_handle_does_not_end_the_manager() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let connected = Manager::connect(manager.address().clone()).await.unwrap();
        let lock = connected.named("shared").lock().await.unwrap();
        connected.shutdown().await;
        let guard = lock.acquire().await.unwrap();
        let same = manager.named("shared").lock().await.unwrap();
        assert!(same.try_acquire().await.unwrap().is_none());
        drop(guard);
    });
}

#[test]
fn address_without_a_manager_is_an_error_that_names_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let error = Manager::connect(address.clone()).await.map(drop);
        match error.unwrap_err() {
            CallError::NoManager { address: there, .. } => assert_eq!(there, address),
            other => panic!("{other:?}"),
        }
        // A file that is not a socket is refused too.
        fs::create_dir(address.path().unwrap().parent().unwrap()).unwrap();
        fs::write(address.path().unwrap(), "").unwrap();
        let error = Manager::connect(address.clone()).await.map(drop);
        assert!(
            matches!(error, Err(CallError::NoManager { .. })),
            "{error:?}"
        );
    });
}

#[test]
fn address_of_a_live_manager_is_never_taken() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = || Manager::builder().address(address.clone());
        let manager = builder().start().await.unwrap();
        let lock = manager.named("kept").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        let in_use = StartError::AddressInUse {
            address: address.clone(),
        };
        assert_eq!(builder().start().await.map(drop), Err(in_use));
        match builder().spawn().await.map(drop) {
            Err(StartError::ChildFailed(why)) => assert!(why.contains("a live manager"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(lock.try_acquire().await.unwrap().is_none());
        manager.shutdown().await;
        drop(builder().start().await.unwrap());
    });
}

#[test]
fn new_manager_replaces_the_socket_of_a_killed_one_and_fences_increase() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let mut last = None;
        for round in 0..4 {
            let builder = Manager::builder().address(address.clone());
            let manager = match round % 2 {
                0 => builder.spawn().await.unwrap(),
                _ => builder.start().await.unwrap(),
            };
            let lock = manager.named("fenced").lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            assert!(Some(guard.fence()) > last, "a fence that was used before");
            last = Some(guard.fence());
            if round % 2 == 0 {
                kill(pid_at(&address).await);
                guard.lost().await;
                assert!(
                    address.path().unwrap().exists(),
                    "a killed manager leaves its files"
                );
            }
        }
        assert!(is_clean(&address));
    });
}

#[test]
fn concurrent_starts_at_one_address_make_one_manager() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let starts = (0..6).map(|_| Manager::builder().address(address.clone()).spawn());
        let outcomes = futures::future::join_all(starts).await;
        let started: Vec<&Manager> = outcomes.iter().flatten().collect();
        assert_eq!(started.len(), 1, "{outcomes:?}");
        started[0].lock().await.unwrap();
    });
}

#[test]
fn socket_and_its_folder_are_accessible_only_to_their_user() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = Manager::builder().address(address.clone());
        let _manager = builder.start().await.unwrap();
        assert_eq!(mode(address.path().unwrap().parent().unwrap()), 0o700);
        assert_eq!(mode(address.path().unwrap()), 0o600);
        let lock = format!("{address}.lockkeeper");
        assert_eq!(mode(Path::new(&lock)), 0o600);
    });
}

#[test]
fn impossible_address_is_refused() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(100));
        match Manager::builder().address(&long).start().await.map(drop) {
            Err(StartError::Address(error)) => {
                let shown = error.to_string();
                assert!(shown.contains("at most 100"), "{shown}");
            }
            other => panic!("{other:?}"),
        }
        fs::write(folder.path().join("file"), "").unwrap();
        let below_a_file = folder.path().join("file").join("locks.sock");
        {
            let address = Address::try_from(below_a_file).unwrap();
            let builder = Manager::builder().address(address.clone());
            match builder.start().await.map(drop) {
                Err(StartError::BadAddress { address: there, .. }) => assert_eq!(there, address),
                other => panic!("{other:?}"),
            }
            let builder = Manager::builder().address(address.clone());
            let spawned = builder.spawn().await.map(drop);
            assert!(
                matches!(spawned, Err(StartError::ChildFailed(_))),
                "{spawned:?}"
            );
        }
    });
}

#[test]
fn manager_with_a_limit_of_zero_sessions_does_not_start() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let limits = Limits {
            sessions: 0,
            handshake_time: Duration::from_secs(1),
            ..Limits::default()
        };
        let builder = Manager::builder().address(address.clone()).limits(limits);
        let refused = builder.start().await.map(drop).unwrap_err();
        assert!(
            refused.to_string().contains("at most 0 sessions"),
            "{refused}"
        );
        assert!(is_clean(&address));
    });
}
