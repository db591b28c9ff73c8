//! Full disks, and folders that this process may not write to.

use std::{
    env, fs,
    future::pending,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use lockkeeper::{Fence, FenceFile, Manager};
use lockkeeper_test_support::{Role, Roles, report, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{run, wants::Unprivileged};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("wants::full_disk", use_full_disk);
    roles.add("wants::small_files", use_small_files);
    roles.add("wants::no_rights", use_closed_folder);
}

/// Makes each call that writes files, in a folder.
async fn writes(folder: &Path) -> Vec<Result<(), String>> {
    let at = |name: &str| Manager::builder().address(folder.join(name));
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let fences = FenceFile::at(folder.join("mark"));
    vec![
        at("a.sock")
            .start()
            .await
            .map(drop)
            .map_err(|error| text(&error)),
        at("b.sock")
            .spawn()
            .await
            .map(drop)
            .map_err(|error| text(&error)),
        at("c.sock")
            .shards(2)
            .start()
            .await
            .map(drop)
            .map_err(|error| text(&error)),
        fences.check(Fence::new(1)).map_err(|error| text(&error)),
    ]
}

fn tell(outcomes: Vec<Result<(), String>>) {
    for outcome in outcomes {
        report(&outcome.err().unwrap_or_else(|| "done".to_owned()));
    }
}

/// Uses a full disk, and a disk without room for another file. Both get room afterwards.
async fn use_full_disk(folder: PathBuf) {
    let ballast = folder.join("ballast");
    // A file of one byte takes a page.
    let mut files = 0;
    while fs::write(folder.join(format!("ballast {files}")), "x").is_ok() {
        files += 1;
    }
    tell(writes(&folder).await);
    // There is room for a file, but not for its content.
    fs::remove_file(folder.join("ballast 0")).unwrap();
    let _ = fs::write(&ballast, vec![0; 1 << 20]);
    tell(writes(&folder).await);
    fs::remove_file(ballast).unwrap();
    for file in 1..files {
        fs::remove_file(folder.join(format!("ballast {file}"))).unwrap();
    }
    tell(writes(&folder).await);
    pending::<()>().await;
}

/// Uses a folder while this process may write files of no byte, of too few bytes, and of any size.
async fn use_small_files(folder: PathBuf) {
    let limit = |current| {
        let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
    };
    for most in [Some(0), Some(10), getrlimit(Resource::Fsize).maximum] {
        limit(most);
        tell(writes(&folder).await);
    }
    pending::<()>().await;
}

/// Uses a folder that this user may not write to, until the mark exists.
async fn use_closed_folder((folder, mark): (PathBuf, PathBuf)) {
    tell(writes(&folder).await);
    until("the folder is writable", || async { mark.exists() }).await;
    tell(writes(&folder).await);
    pending::<()>().await;
}

/// Returns a command that runs this program with a small disk at a folder, if this machine supports
/// namespaces.
fn with_small_disk(folder: &Path) -> Option<Command> {
    let mount = format!(
        "mount -t tmpfs -o size=64k,nr_inodes=12 none '{}' && exec \"$0\" \"$@\"",
        folder.display()
    );
    let unshared = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &mount, program]);
        command
    };
    let has_namespaces = unshared("true")
        .status()
        .is_ok_and(|status| status.success());
    has_namespaces.then(|| unshared(env::current_exe().unwrap().to_str().unwrap()))
}

#[test]
fn full_disk_is_reported_and_the_next_attempt_works_once_there_is_space() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut command) = with_small_disk(folder.path()) else {
            return println!("skipped: this machine has no namespaces for this user");
        };
        let folder = folder.path();
        let mut role = Role::start_by(&mut command, "wants::full_disk", &folder);
        for what in ["no file", "no space"] {
            for _ in 0..4 {
                let shown = role.next_report();
                // The errors contain the path and the reason.
                assert!(shown.contains("No space left"), "{what}: {shown}");
                assert!(shown.contains(folder.to_str().unwrap()), "{what}: {shown}");
            }
        }
        for _ in 0..4 {
            assert_eq!(role.next_report(), "done");
        }
    });
}

#[test]
fn limit_of_the_size_of_files_is_reported_and_ends_no_process() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut role = Role::start("wants::small_files", &folder);
        for bytes in [0, 10] {
            for _ in 0..4 {
                let shown = role.next_report();
                assert!(shown.contains("ulimit -f"), "{bytes}: {shown}");
                assert!(shown.contains(folder.to_str().unwrap()), "{bytes}: {shown}");
            }
        }
        for _ in 0..4 {
            assert_eq!(role.next_report(), "done");
        }
    });
}

#[test]
fn folder_without_permission_is_reported_and_the_next_attempt_works_once_it_is_writable() {
    run(async {
        let Some(user) = Unprivileged::new() else {
            return;
        };
        let around = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(around.path(), 0o755);
        // One folder may not be written to, and one may not be entered.
        for mode in [0o755, 0o700] {
            let folder = around.path().join(format!("{mode:o}"));
            fs::create_dir(&folder).unwrap();
            set(&folder, mode);
            let mark = around.path().join(format!("open {mode:o}"));
            let mut role = user.start("wants::no_rights", &(&folder, &mark));
            for _ in 0..4 {
                let shown = role.next_report();
                assert!(shown.contains("Permission denied"), "{mode:o}: {shown}");
                assert!(
                    shown.contains(folder.to_str().unwrap()),
                    "{mode:o}: {shown}"
                );
            }
            set(&folder, 0o777);
            fs::write(mark, "").unwrap();
            for _ in 0..4 {
                assert_eq!(role.next_report(), "done", "{mode:o}");
            }
        }
    });
}
