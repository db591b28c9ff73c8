//! Pools need neither a writable folder nor an environment variable with a folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use lockkeeper::{Manager, Pool};
use lockkeeper_test_support::{Role, Roles, act_as, kill, may_act_as_others, report, until};
use tempfile::TempDir;

use crate::{pool::basic_tasks::Who, run};

/// A user id without files or processes.
const OTHER_USER: u32 = 4_000_021;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("pool::folderless::pool", async |(): ()| {
        report(&worked().await);
        std::future::pending::<()>().await
    });
    roles.add("pool::folderless::stranger", async |uid: u32| {
        act_as(uid, uid, &[]);
        report(&worked().await);
        std::future::pending::<()>().await
    });
    roles.add(
        "pool::folderless::spawn",
        async |(uid, path): (u32, Option<PathBuf>)| {
            if uid != 0 {
                act_as(uid, uid, &[]);
            }
            let mut builder = Manager::builder();
            if let Some(path) = path {
                builder = builder.address(path);
            }
            let spawned = builder.spawn().await;
            report(
                &spawned
                    .err()
                    .map_or_else(String::new, |error| error.to_string()),
            );
            std::future::pending::<()>().await
        },
    );
    roles.add("pool::folderless::anonymous", async |(): ()| {
        let managers = [Manager::start().await, Manager::spawn().await];
        let [started, spawned] = managers.map(|manager| manager.unwrap());
        let worked = worked().await;
        let pid = std::process::id();
        report(&format!(
            "{pid} {} {} {worked}",
            started.address(),
            spawned.address()
        ));
        std::future::pending::<()>().await
    });
}

/// Runs tasks in a pool, kills one of its workers, and waits for the replacement. Returns "works" or the
/// error.
async fn worked() -> String {
    let pool = match Pool::new(2).await {
        Ok(pool) => pool,
        Err(error) => return error.to_string(),
    };
    for _ in 0..3 {
        let worker = match pool.apply(Who).await {
            Ok(worker) => worker,
            Err(error) => return error.to_string(),
        };
        kill(worker);
        until("the worker is replaced", || async {
            let pids = pool.pids().await;
            pids.len() == 2 && !pids.contains(&worker)
        })
        .await;
    }
    match pool.try_map([Who, Who, Who]).await {
        Ok(_) => "works".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn pool_works_with_any_folders_in_environment_variables() {
    run(async {
        let long = format!("/{}", "x".repeat(90));
        for folder in ["/nonsense/folder", "relative", "", &long] {
            let environment = [
                ("TMPDIR", folder),
                ("XDG_RUNTIME_DIR", folder),
                ("HOME", folder),
            ];
            let mut role = Role::start_in(&environment, "pool::folderless::pool", &());
            assert_eq!(role.next_report(), "works", "{folder:?}");
        }
    });
}

#[test]
fn pool_makes_no_folder() {
    if !may_act_as_others() {
        return;
    }
    run(async {
        let mut role = Role::start("pool::folderless::stranger", &OTHER_USER);
        assert_eq!(role.next_report(), "works");
        let folder = format!("/tmp/lockkeeper-{OTHER_USER}");
        assert!(!Path::new(&folder).exists(), "{folder}");
    });
}

/// Returns a command that runs the test binary in new namespaces, after another command. Returns `None`
/// and prints the reason if the machine does not support namespaces.
fn unshared(options: &str, before: &str) -> Option<Command> {
    let script = format!("{before} exec \"$0\" \"$@\"");
    let start = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args([options, "--kill-child", "sh", "-c", &script]);
        command.arg(program);
        command
    };
    let may = start(Path::new("true")).output();
    if may.is_ok_and(|output| output.status.success()) {
        return Some(start(&env::current_exe().unwrap()));
    }
    println!("skipped: this system gives no namespaces (unshare {options})");
    None
}

/// A command that makes `/tmp` read-only.
const READ_ONLY: &str = "mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp &&";

#[test]
fn pool_works_without_a_writable_folder() {
    let Some(mut unshared) = unshared("-rmf", READ_ONLY) else {
        return;
    };
    run(async {
        let mut role = Role::start_by(&mut unshared, "pool::folderless::pool", &());
        assert_eq!(role.next_report(), "works");
    });
}

#[test]
fn error_of_a_manager_in_a_read_only_folder_names_it_and_the_remedy() {
    run(async {
        if let Some(mut unshared) = unshared("-rmf", READ_ONLY) {
            let argument = (0, None::<PathBuf>);
            let mut role = Role::start_by(&mut unshared, "pool::folderless::spawn", &argument);
            let why = role.next_report();
            assert!(why.contains("/tmp/lockkeeper-0"), "{why}");
        }
        if may_act_as_others() {
            let folder = TempDir::new_in("/tmp").unwrap();
            for mode in [0o755, 0o711, 0o700] {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
                let argument = (OTHER_USER, Some(folder.path().join("manager.sock")));
                let mut role = Role::start("pool::folderless::spawn", &argument);
                let why = role.next_report();
                let names = folder.path().to_string_lossy().into_owned();
                assert!(
                    why.contains(&names) && why.contains("uid 0"),
                    "{mode:o}: {why}"
                );
            }
        }
    });
}

#[test]
fn managers_that_are_process_1_of_different_namespaces_can_share_a_folder() {
    run(async {
        let mut addresses = Vec::new();
        let mut managers = Vec::new();
        for _ in 0..3 {
            let Some(mut unshared) = unshared("-rpf", "") else {
                return;
            };
            let role = Role::start_by(&mut unshared, "pool::folderless::anonymous", &());
            managers.push(role);
        }
        for manager in &mut managers {
            let shown = manager.next_report();
            let parts: Vec<_> = shown.splitn(4, ' ').map(str::to_owned).collect();
            assert_eq!((&*parts[0], &*parts[3]), ("1", "works"), "{shown}");
            for address in &parts[1..3] {
                Manager::connect(address).await.unwrap();
                assert!(!addresses.contains(address), "{shown}");
                addresses.push(address.clone());
            }
        }
    });
}
