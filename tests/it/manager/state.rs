//! The state folder of a manager, with managers in other processes that are killed.

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use lockkeeper::{Fence, FenceFile, Manager, StartError};
use lockkeeper_test_support::{Role, Roles, kill, report, seeded, until};
use rand::Rng;

use crate::{
    environments::unshared, lock::waiting::until_waiting, manager::process::pid_of, run,
    wants::Unprivileged,
};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("manager::state::keeper", keep);
    roles.add("manager::state::starter", start_once);
}

/// Runs a manager with a state folder, and reports its address.
async fn keep((folder, shards): (PathBuf, usize)) {
    let manager = Manager::builder().state_folder(folder).shards(shards);
    let manager = manager.start().await.unwrap();
    report(&manager.address().to_string());
    std::future::pending::<()>().await;
}

/// Starts a manager with a state folder, and reports the error, or the first fence.
async fn start_once(folder: PathBuf) {
    match Manager::builder().state_folder(folder).start().await {
        Ok(manager) => report(&fence_of(&manager, "jobs").await.to_string()),
        Err(error) => report(&error.to_string()),
    }
}

/// Returns the fence of one grant.
async fn fence_of(manager: &Manager, name: &str) -> u64 {
    let lock = manager.named(name).lock().await.unwrap();
    lock.acquire().await.unwrap().fence().number()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("state");
    (above, folder)
}

/// Writes a reservation that is years ahead of the clock, which is as if the clock was set back. Returns the
/// highest fence below it.
fn set_clock_back(folder: &Path) -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let years = Duration::from_secs(10 * 365 * 24 * 3600);
    let later = u64::try_from((since.unwrap() + years).as_nanos()).unwrap();
    FenceFile::at(folder.join("fences"))
        .check(Fence::new(later))
        .unwrap();
    later - 1
}

fn number_in(folder: &Path, name: &str) -> Option<u64> {
    let number = FenceFile::at(folder.join(name)).highest().unwrap();
    number.map(Fence::number)
}

fn ended_cleanly(folder: &Path) -> bool {
    number_in(folder, "ended") == number_in(folder, "fences")
}

/// Kills a manager at any moment of 20 lives, and collects the fences that its clients saw.
async fn kill_again_and_again(shards: usize) {
    let (_above, folder) = folder();
    Role::start("manager::state::keeper", &(&folder, shards)).next_report();
    let highest = set_clock_back(&folder);
    let mut random = seeded();
    let (mut fences, mut granted) = (vec![highest], 0);
    for _ in 0..20 {
        let before = number_in(&folder, "fences");
        let mut keeper = Role::start("manager::state::keeper", &(&folder, shards));
        let pid = keeper.pid();
        match random.random_range(0..6) {
            // It has begun to start.
            0 => {
                let begun = format!("lockkeeper state 1\nprocess {pid}\npid namespace ");
                let lock = folder.join("lock");
                let is_locked = || async { fs::read_to_string(&lock).unwrap().starts_with(&begun) };
                until("the manager has locked the folder", is_locked).await;
            }
            // It has reserved fences.
            1 => {
                let is_raised = || async { number_in(&folder, "fences") != before };
                until("the manager has reserved fences", is_raised).await;
            }
            _ => {
                let address = keeper.next_report();
                let manager = Manager::connect(&*address).await.unwrap();
                for _ in 0..random.random_range(1..20) {
                    for name in ["jobs", "stock"].into_iter().take(shards) {
                        let fence = fence_of(&manager, name).await;
                        assert!(Some(fence) < number_in(&folder, "fences"));
                        if name == "jobs" {
                            fences.push(fence);
                        }
                        granted += 1;
                    }
                }
            }
        }
        assert!(!ended_cleanly(&folder));
        kill(pid);
        drop(keeper);
    }
    println!("{granted} grants");
    assert!(granted > 20);
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
}

#[test]
fn fences_rise_over_kills_although_the_clock_was_set_back() {
    run(kill_again_and_again(1));
}

#[test]
fn fences_of_shards_rise_over_kills_although_the_clock_was_set_back() {
    run(kill_again_and_again(2));
}

#[test]
fn spawned_manager_has_the_folder_and_its_fences_rise_too() {
    run(async {
        let (_above, folder) = folder();
        let start = || Manager::builder().state_folder(&folder).spawn();
        start().await.unwrap().shutdown().await;
        assert!(ended_cleanly(&folder));
        let mut highest = set_clock_back(&folder);
        for round in 0..4 {
            let manager = start().await.unwrap();
            assert!(!ended_cleanly(&folder), "it serves");
            let pid = pid_of(&manager).await;
            let fence = fence_of(&manager, "jobs").await;
            assert!(fence > highest, "{fence} is not above {highest}");
            highest = fence;

            let refused = start().await.unwrap_err().to_string();
            let shown = folder.display();
            let message = format!(
                "the manager of process {pid} uses the state folder {shown}: end that manager, or use another folder"
            );
            assert!(refused.contains(&message), "{refused}");
            match round % 2 {
                0 => {
                    kill(pid);
                    manager.shutdown().await;
                    assert!(!ended_cleanly(&folder), "it was killed");
                }
                _ => {
                    manager.shutdown().await;
                    assert!(ended_cleanly(&folder));
                }
            }
        }
    });
}

#[test]
fn end_of_a_manager_with_holds_and_waiters_is_clean() {
    run(async {
        let (_above, folder) = folder();
        for shards in [1, 3] {
            let manager = Manager::builder().state_folder(&folder).shards(shards);
            let manager = manager.start().await.unwrap();
            let lock = manager.named("jobs").lock().await.unwrap();
            let _held = lock.acquire().await.unwrap();
            let waits = tokio::spawn(lock.acquire());
            until_waiting(&lock, 1).await;
            assert!(!ended_cleanly(&folder));
            manager.shutdown().await;
            assert!(ended_cleanly(&folder), "{shards}");
            assert!(waits.await.unwrap().is_err());
            // The folder is free again, and a second handle in this process may use it at once.
            let manager = Manager::builder().state_folder(&folder).start().await;
            drop(manager.unwrap());
            assert!(ended_cleanly(&folder), "the last handle was dropped");
        }
    });
}

#[test]
fn folder_of_another_manager_is_refused_with_its_process() {
    run(async {
        let (_above, folder) = folder();
        let mut keeper = Role::start("manager::state::keeper", &(&folder, 1));
        keeper.next_report();
        let reserved = number_in(&folder, "fences");
        let refused = Manager::builder().state_folder(&folder).start().await;
        let in_use = StartError::StateInUse {
            folder: folder.clone(),
            pid: Some(keeper.pid()),
        };
        assert_eq!(refused.unwrap_err(), in_use);
        assert_eq!(number_in(&folder, "fences"), reserved);
        keeper.kill();
        Manager::builder()
            .state_folder(&folder)
            .start()
            .await
            .unwrap();
    });
}

#[test]
fn manager_without_an_address_leaves_the_end_of_the_last_one_clean() {
    run(async {
        let (_above, folder) = folder();
        let first = Manager::builder().state_folder(&folder).start().await;
        first.unwrap().shutdown().await;
        let reserved = number_in(&folder, "fences");
        let other = Manager::start().await.unwrap();
        let builder = Manager::builder().address(other.address().clone());
        let refused = builder.state_folder(&folder).start().await.unwrap_err();
        assert!(
            matches!(refused, StartError::AddressInUse { .. }),
            "{refused}"
        );
        assert_eq!(number_in(&folder, "fences"), reserved);
        assert!(ended_cleanly(&folder));
    });
}

#[test]
fn damaged_folder_starts_no_manager() {
    run(async {
        let (_above, folder) = folder();
        let start = || Manager::builder().state_folder(&folder);
        start().start().await.unwrap().shutdown().await;
        let fences = folder.join("fences");
        let text = fs::read_to_string(&fences).unwrap();
        for damage in [
            "",
            "lockkeeper fence 1 00",
            text.replace("1 0", "1 1").as_str(),
        ] {
            fs::write(&fences, damage).unwrap();
            for refused in [start().start().await, start().spawn().await] {
                let message = refused.unwrap_err().to_string();
                let damaged = format!("{} is damaged", fences.display());
                assert!(message.contains(&damaged), "{message}");
                assert!(message.contains("restore the folder"), "{message}");
            }
            assert_eq!(fs::read_to_string(&fences).unwrap(), damage);
        }
        fs::remove_file(&fences).unwrap();
        let refused = start().start().await.unwrap_err().to_string();
        assert!(refused.contains("its file fences is missing"), "{refused}");
    });
}

#[test]
fn path_that_is_no_state_folder_starts_no_manager() {
    run(async {
        let (above, folder) = folder();
        fs::write(&folder, "precious").unwrap();
        for (path, words) in [
            (folder.clone(), "it is a file of uid"),
            (folder.join("state"), "Not a directory"),
            (above.path().join("none/state"), "there is no folder"),
            (PathBuf::new(), "it is no path"),
        ] {
            for refused in [
                Manager::builder().state_folder(&path).start().await,
                Manager::builder().state_folder(&path).spawn().await,
            ] {
                let message = refused.unwrap_err().to_string();
                let begin = format!("cannot use the state folder {}: ", path.display());
                assert!(message.contains(&begin), "{message}");
                assert!(message.contains(words), "{message}");
            }
        }
        assert_eq!(fs::read(&folder).unwrap(), b"precious");
        let in_memory = Manager::builder().state_folder(above.path());
        let refused = in_memory.in_memory(async |_| ()).await.unwrap_err();
        let message = refused.to_string();
        assert!(
            message.contains("a manager in memory has no files"),
            "{message}"
        );
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1);
    });
}

#[test]
fn folder_whose_parent_cannot_be_synced_is_not_created() {
    run(async {
        let Some(user) = Unprivileged::new() else {
            return;
        };
        let (above, folder) = folder();
        // Everybody may write to it, but not read it.
        fs::set_permissions(above.path(), Permissions::from_mode(0o733)).unwrap();
        let message = user.start("manager::state::starter", &folder).next_report();
        assert!(message.contains("Permission denied"), "{message}");
        let shown = format!("{} is a folder", above.path().display());
        assert!(message.contains(&shown), "{message}");
        assert!(!folder.exists());
        fs::set_permissions(above.path(), Permissions::from_mode(0o777)).unwrap();
        let mut starter = user.start("manager::state::starter", &folder);
        let fence = starter.next_report();
        assert!(fence.parse::<u64>().is_ok(), "{fence}");
        // A folder that exists needs no sync of its parent.
        drop(starter);
        fs::set_permissions(above.path(), Permissions::from_mode(0o733)).unwrap();
        let mut starter = user.start("manager::state::starter", &folder);
        let fence = starter.next_report();
        assert!(fence.parse::<u64>().is_ok(), "{fence}");
    });
}

/// Returns what a starter reports that a command runs.
fn report_of(command: &mut Command, folder: &Path) -> String {
    Role::start_by(command, "manager::state::starter", &folder).next_report()
}

#[test]
fn disk_that_takes_no_reservation_starts_no_manager() {
    run(async {
        let (_above, folder) = folder();
        fs::create_dir(&folder).unwrap();
        let mut shell = Command::new("sh");
        let limited = "ulimit -f 0; exec \"$0\" \"$@\"";
        shell.args(["-c", limited]).arg(env::current_exe().unwrap());
        let message = report_of(&mut shell, &folder);
        assert!(message.contains("cannot use the state folder"), "{message}");
        assert!(message.contains("ulimit -f"), "{message}");

        let shown = folder.display();
        let full = format!(
            "mount -t tmpfs -o size=8k none {shown} && chmod 700 {shown} && \
             {{ cat /dev/zero > {shown}/filler 2> /dev/null || true; }} &&"
        );
        let read_only =
            format!("mount --bind {shown} {shown} && mount -o remount,bind,ro {shown} &&");
        for (mount, words) in [(full, "free space"), (read_only, "read-only")] {
            let Some(mut unshared) = unshared("-rm", &mount) else {
                return;
            };
            let message = report_of(&mut unshared, &folder);
            assert!(message.contains("cannot use the state folder"), "{message}");
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "an empty lock file"
        );
        let mut starter = Role::start("manager::state::starter", &folder);
        assert!(starter.next_report().parse::<u64>().is_ok());
    });
}
