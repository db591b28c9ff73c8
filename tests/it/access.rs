//! Managers that other users may use, and the rights of those users.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
};

use lockkeeper::{Address, CallError, Manager, StartError, errors::Fault};
use lockkeeper_test_support::{Role, Roles, act_as, may_act_as_others, report};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::run;

/// A user id, a group id and supplementary groups.
#[derive(Clone, Serialize, Deserialize)]
struct User(u32, u32, Vec<u32>);

const OWNER: u32 = 4_000_001;
const GUEST: u32 = 4_000_002;
const OTHER: u32 = 4_000_003;
const GROUP: u32 = 4_000_009;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("access::host", host);
    roles.add("access::visitor", visitor);
}

/// Hosts a manager as a user, and allows users and groups.
async fn host((user, path, uids, gids): (u32, PathBuf, Vec<u32>, Vec<u32>)) {
    act_as(user, user, &[]);
    let mut builder = Manager::builder().address(path);
    for uid in uids {
        builder = builder.allow_uid(uid);
    }
    for gid in gids {
        builder = builder.allow_group(gid);
    }
    let manager = builder.start().await.unwrap();
    let lock = manager.named("held").lock().await.unwrap();
    let _guard = lock.acquire().await.unwrap();
    report("serving");
    std::future::pending().await
}

/// Performs the permitted calls as a user, and tries all others. Reports the refusals.
async fn visitor((user, address): (User, String)) {
    let User(uid, gid, groups) = user;
    act_as(uid, gid, &groups);
    let manager = match Manager::connect(address).await {
        Ok(manager) => manager,
        Err(error) => return report(&format!("not let in: {error}")),
    };
    let value = manager.named("count").value(0_u64).await.unwrap();
    value.fetch_add(1).await.unwrap();
    let own = manager.named(&format!("own {uid}")).lock().await.unwrap();
    own.acquire().await.unwrap().release().await.unwrap();
    let keyed = manager.named("keys").keyed_lock().await.unwrap();
    let rw_lock = manager.named("rw").rw_lock().await.unwrap();
    let reentrant = manager.named("again").reentrant_lock().await.unwrap();
    let held = manager.named("held").lock().await.unwrap();
    let asked = [
        held.force_unlock().await.map(drop),
        keyed.force_unlock("k").await.map(drop),
        rw_lock.force_unlock().await.map(drop),
        reentrant.force_unlock().await.map(drop),
        manager.inspect().await.map(drop),
        manager.inspect_contended().await.map(drop),
        held.info().await.map(drop),
        manager.remove(&format!("own {uid}")).await,
    ];
    let is_refused = |outcome: &Result<(), CallError>| {
        matches!(outcome, Err(CallError::Fault(Fault::NotAllowed(_))))
    };
    report(&if asked.iter().all(is_refused) {
        // The session still works, and the holder's hold is unchanged.
        value.fetch_add(1).await.unwrap();
        "uses".to_owned()
    } else if asked.iter().all(Result::is_ok) {
        "administers".to_owned()
    } else {
        format!("{asked:?}")
    });
}

/// Creates a folder that other users may enter.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn visit(uid: u32, gid: u32, groups: &[u32], address: &str) -> String {
    let user = User(uid, gid, groups.to_vec());
    Role::start("access::visitor", &(user, address)).next_report()
}

#[test]
fn allowed_users_and_groups_may_use_the_manager_but_not_administer_it() {
    run(async {
        if !may_act_as_others() {
            return;
        }
        let folder = open_folder();
        chown(folder.path(), Some(OWNER), None).unwrap();
        for (uids, gids) in [
            (vec![GUEST], vec![]),
            (vec![], vec![GROUP]),
            (vec![GUEST], vec![GROUP]),
        ] {
            // The manager creates the folder, and lets other users enter it.
            let path = folder.path().join(format!("{}-{}", uids.len(), gids.len()));
            let path = path.join("locks.sock");
            let mut host = Role::start("access::host", &(OWNER, &path, &uids, &gids));
            assert_eq!(host.next_report(), "serving");
            let pinned = format!("unix:{}#uid:{OWNER}", path.display());
            let by_uid = uids.is_empty();
            let by_gid = gids.is_empty();
            for (user, is_refused) in [
                ((GUEST, GUEST, &[][..]), by_uid),
                ((OTHER, GROUP, &[][..]), by_gid),
                ((OTHER, OTHER, &[7, GROUP][..]), by_gid),
                ((OTHER, OTHER, &[7][..]), true),
            ] {
                let shown = visit(user.0, user.1, user.2, &pinned);
                match is_refused {
                    true => {
                        assert!(shown.contains("not let in"), "{user:?}: {shown}");
                        assert!(shown.contains(&format!("uid {OWNER}")), "{user:?}: {shown}");
                    }
                    false => assert_eq!(shown, "uses", "{user:?}, {uids:?}, {gids:?}"),
                }
            }
            let own = path.to_str().unwrap();
            assert_eq!(visit(OWNER, OWNER, &[], own), "administers");
            assert_eq!(visit(0, 0, &[], &pinned), "administers");
        }
    });
}

#[test]
fn client_trusts_its_own_user_root_and_the_user_in_the_address() {
    run(async {
        if !may_act_as_others() {
            return;
        }
        let folder = open_folder();
        chown(folder.path(), Some(OWNER), None).unwrap();
        let path = folder.path().join("locks.sock");
        let mut host = Role::start("access::host", &(OWNER, &path, [GUEST], [0_u32; 0]));
        assert_eq!(host.next_report(), "serving");
        let path = path.to_str().unwrap();
        let pinned = format!("unix:{path}#uid:{OWNER}");
        assert_eq!(visit(GUEST, GUEST, &[], &pinned), "uses");
        for address in [path.to_owned(), format!("unix:{path}#uid:{OTHER}")] {
            let shown = visit(GUEST, GUEST, &[], &address);
            assert!(shown.contains(&pinned), "it says what to write: {shown}");
        }
        host.kill();
        // A manager of root needs no user in the address.
        let path = folder.path().join("roots.sock");
        let path = path.to_str().unwrap();
        let mut host = Role::start("access::host", &(0, path, [GUEST], [0_u32; 0]));
        assert_eq!(host.next_report(), "serving");
        assert_eq!(visit(GUEST, GUEST, &[], path), "uses");
    });
}

#[test]
fn manager_refuses_other_users_by_default() {
    run(async {
        if !may_act_as_others() {
            return;
        }
        let folder = open_folder();
        let path = folder.path().join("locks.sock");
        let manager = Manager::builder().address(&path).start().await.unwrap();
        let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        let shown = visit(GUEST, GUEST, &[0], path.to_str().unwrap());
        assert!(shown.contains("not let in"), "{shown}");
        assert!(
            shown.contains("a socket of uid 0 with mode 0600"),
            "{shown}"
        );
        // Changing the socket's mode does not give access to the manager.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let shown = visit(GUEST, GUEST, &[0], path.to_str().unwrap());
        assert!(shown.contains(&format!("and not uid {GUEST}")), "{shown}");
        manager.shutdown().await;
    });
}

#[test]
fn spawned_manager_allows_other_users_too() {
    run(async {
        if !may_act_as_others() {
            return;
        }
        let folder = open_folder();
        let path = folder.path().join("locks.sock");
        let builder = Manager::builder().address(&path).shards(2).allow_uid(GUEST);
        let manager = builder.spawn().await.unwrap();
        let lock = manager.named("held").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        assert_eq!(visit(GUEST, GUEST, &[], path.to_str().unwrap()), "uses");
        let shown = visit(OTHER, OTHER, &[], path.to_str().unwrap());
        assert!(shown.contains("not let in"), "{shown}");
    });
}

#[test]
fn manager_without_a_path_cannot_allow_other_users() {
    run(async {
        let name = format!("test-{:x}", rand::random::<u64>());
        let named = || Manager::builder().address(&name);
        let in_memory = || Manager::builder().address("memory:open to others");
        for builder in [
            Manager::builder().allow_uid(GUEST),
            Manager::builder().allow_group(GROUP),
            named().allow_uid(GUEST),
            named().allow_group(GROUP),
            in_memory().allow_uid(GUEST),
        ] {
            let refused = builder.start().await.map(drop);
            match refused {
                Err(StartError::InvalidSettings(why)) => {
                    assert!(why.contains("at a path"), "{why}")
                }
                other => panic!("{other:?}"),
            }
        }
        let address: Address = name.parse().unwrap();
        assert!(!address.path().unwrap().exists());
    });
}
