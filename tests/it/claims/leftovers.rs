//! Files that are at the path of a manager when it starts: only sockets of a killed manager are removed.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown, symlink},
        net::UnixListener,
    },
    path::Path,
};

use lockkeeper::{Address, Manager, StartError};
use lockkeeper_test_support::{Role, Roles, may_act_as_others, report, until};

use super::{OTHER_USER, claim_of, path_in, start_at};
use crate::run;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("claims::shards", host_shards);
}

/// Hosts a manager of three shards until it is killed.
async fn host_shards(address: Address) {
    let builder = Manager::builder().address(address).shards(3);
    let _manager = builder.start().await.unwrap();
    report("serving");
    std::future::pending().await
}

/// Starts and kills a manager, and leaves its files.
fn leave_files_at(role: &str, path: &Path) {
    let address = Address::try_from(path).unwrap();
    let mut host = Role::start(role, &address);
    assert_eq!(host.next_report(), "serving");
    host.kill();
    assert!(path.exists() && claim_of(path).exists());
}

/// Makes a socket without a listener.
fn leave_socket_at(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
}

#[test]
fn sockets_that_no_manager_has_bound_stay_and_the_error_names_the_owner_and_the_remedy() {
    run(async {
        let mut all = vec![
            "dead socket",
            "dead socket after a kill",
            "dead socket of an unlisted shard",
            "dead socket beside a claim file without a list",
            "link to a dead socket",
            "file",
        ];
        if may_act_as_others() {
            all.push("dead socket of another user");
        }
        for what in all {
            let folder = tempfile::tempdir().unwrap();
            let socket = path_in(&folder);
            let mut shards = 1;
            let mut path = socket.clone();
            match what {
                "dead socket" | "dead socket of another user" => leave_socket_at(&socket),
                "dead socket after a kill" => {
                    leave_files_at("claims::host", &socket);
                    fs::remove_file(&socket).unwrap();
                    // The next file may get the inode of the one that was removed.
                    fs::write(folder.path().join("other"), "").unwrap();
                    leave_socket_at(&socket);
                }
                "dead socket of an unlisted shard" => {
                    leave_files_at("claims::host", &socket);
                    shards = 3;
                    path = folder.path().join("jobs.sock.2");
                    leave_socket_at(&path);
                }
                "dead socket beside a claim file without a list" => {
                    leave_socket_at(&socket);
                    fs::write(claim_of(&socket), "").unwrap();
                }
                "link to a dead socket" => {
                    let target = folder.path().join("target");
                    leave_socket_at(&target);
                    symlink(&target, &socket).unwrap();
                }
                _ => fs::write(&socket, "precious").unwrap(),
            }
            let mut owner = rustix::process::geteuid().as_raw();
            if what == "dead socket of another user" {
                owner = OTHER_USER;
                chown(&socket, Some(owner), None).unwrap();
            }
            let before = fs::symlink_metadata(&path).unwrap().ino();
            for _ in 0..2 {
                let builder = Manager::builder().address(&socket).shards(shards);
                match builder.start().await.map(drop) {
                    Err(StartError::BadAddress { why, .. }) => {
                        for part in [
                            path.to_str().unwrap(),
                            &format!("of uid {owner} with mode"),
                            "use another address",
                        ] {
                            assert!(why.contains(part), "{what}: {part} is not in {why}");
                        }
                    }
                    other => panic!("{what}: {other:?}"),
                }
                let after = fs::symlink_metadata(&path).unwrap().ino();
                assert_eq!(after, before, "{what}");
            }
            // The remedy of the error helps.
            fs::remove_file(&path).unwrap();
            let builder = Manager::builder().address(&socket).shards(shards);
            builder.start().await.expect(what).shutdown().await;
        }
    });
}

#[test]
fn manager_starts_at_the_path_of_a_killed_one_and_removes_all_sockets_of_it() {
    run(async {
        for role in ["claims::host", "claims::shards"] {
            for shards in [1, 2, 3] {
                let folder = tempfile::tempdir().unwrap();
                let socket = path_in(&folder);
                leave_files_at(role, &socket);
                // A live socket of another program beside them is not touched.
                let other = folder.path().join("other");
                let _listener = UnixListener::bind(&other).unwrap();
                let builder = Manager::builder().address(&socket).shards(shards);
                let manager = builder.start().await.unwrap();
                drop(manager.lock().await.unwrap().acquire().await.unwrap());
                manager.shutdown().await;
                let left: Vec<_> = fs::read_dir(folder.path())
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .collect();
                assert_eq!(left, [other], "{role}, then {shards} shards");
            }
        }
    });
}

#[test]
fn sockets_of_a_killed_manager_are_removed_although_another_file_prevents_the_start() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = path_in(&folder);
        leave_files_at("claims::shards", &socket);
        let foreign = folder.path().join("jobs.sock.1");
        fs::remove_file(&foreign).unwrap();
        fs::write(&foreign, "precious").unwrap();
        let start = || Manager::builder().address(&socket).shards(3).start();
        let refused = start().await.map(drop);
        assert!(
            matches!(refused, Err(StartError::BadAddress { .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "precious");
        fs::remove_file(&foreign).unwrap();
        drop(start().await.unwrap());
        drop(start_at(&socket).await.unwrap());
    });
}

#[test]
fn sockets_that_a_manager_has_bound_again_are_removed_after_its_kill() {
    run(async {
        for gone in ["socket", "claim file", "both"] {
            let folder = tempfile::tempdir().unwrap();
            let socket = path_in(&folder);
            let claim = claim_of(&socket);
            let address = Address::try_from(&socket).unwrap();
            let mut host = Role::start("claims::host", &address);
            assert_eq!(host.next_report(), "serving");
            if gone != "claim file" {
                fs::remove_file(&socket).unwrap();
            }
            if gone != "socket" {
                fs::remove_file(&claim).unwrap();
            }
            until("both files exist again", async || {
                let is_listed = fs::symlink_metadata(&socket).is_ok_and(|there| {
                    let list = fs::read_to_string(&claim).unwrap_or_default();
                    list.contains(&there.ino().to_string())
                });
                is_listed && Manager::connect(&socket).await.is_ok()
            })
            .await;
            host.kill();
            drop(start_at(&socket).await.expect(gone));
        }
    });
}
