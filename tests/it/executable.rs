//! Programs whose executable is deleted, moved or replaced while they run, or that were started in an
//! unusual way: their workers and spawned managers start anyway, or the error says what is wrong.

use std::{
    env, fs,
    future::pending,
    os::{
        fd::OwnedFd,
        unix::{fs::chroot, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lockkeeper::{Manager, Pool};
use lockkeeper_test_support::{Role, Roles, copy_program, is_running, kill, report, until};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{environments::unshared, pool::basic_tasks::Who, run};

/// A change to a program's file, and the expected result.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    /// The program continues once this file exists.
    mark: PathBuf,
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("executable::owner", own_children);
    roles.add("executable::chrooted", start_in_another_root);
}

/// Starts a pool before the mark exists. Afterwards it starts another worker, another pool and a
/// manager.
async fn own_children(Owner { mark }: Owner) {
    let pool = Pool::new(1).await.unwrap();
    report("ready");
    until("the mark exists", || async { mark.exists() }).await;
    let outcome = async {
        let before = pool.apply(Who).await.map_err(|error| error.to_string())?;
        kill(before);
        until("the worker has ended", || async { !is_running(before) }).await;
        let after = pool.apply(Who).await;
        let after = match after {
            // The task may have been assigned to the dead worker.
            Err(_) => pool.apply(Who).await,
            after => after,
        };
        let after = after.map_err(|error| error.to_string())?;
        let name = fs::read_to_string(format!("/proc/{after}/comm")).unwrap();
        assert_eq!(name.trim_end(), "program", "the name in ps");
        let manager = Manager::spawn().await.map_err(|error| error.to_string())?;
        manager.shutdown().await;
        let other = Pool::new(1).await.map_err(|error| error.to_string())?;
        other.apply(Who).await.map_err(|error| error.to_string())?;
        Ok::<_, String>("children started".to_owned())
    };
    report(&outcome.await.unwrap_or_else(|error| error));
}

/// Makes a folder the root of this process, and starts children there.
async fn start_in_another_root(root: PathBuf) {
    chroot(root).unwrap();
    env::set_current_dir("/").unwrap();
    report(&Manager::spawn().await.map(drop).unwrap_err().to_string());
    report(&Pool::new(1).await.map(drop).unwrap_err().to_string());
    pending::<()>().await;
}

/// A copy of this program in its own folder.
struct Copy {
    folder: TempDir,
    program: PathBuf,
    mark: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        fs::create_dir(&place).unwrap();
        let program = place.join("program");
        copy_program(&env::current_exe().unwrap(), &program);
        let mark = folder.path().join("mark");
        Self {
            folder,
            program,
            mark,
        }
    }

    /// Starts the program and changes its file. Returns the program's report.
    fn run(&self, command: &mut Command, change: impl FnOnce(&Self)) -> String {
        let owner = Owner {
            mark: self.mark.clone(),
        };
        let mut role = Role::start_by(command, "executable::owner", &owner);
        assert_eq!(role.next_report(), "ready");
        change(self);
        fs::write(&self.mark, "").unwrap();
        role.next_report()
    }

    fn run_directly(&self, change: impl FnOnce(&Self)) -> String {
        self.run(&mut Command::new(&self.program), change)
    }

    /// Replaces the copy with another program.
    fn replace(&self) {
        let other = self.folder.path().join("other");
        copy_program(Path::new("/bin/true"), &other);
        fs::rename(other, &self.program).unwrap();
    }
}

/// Returns the path of the system's program loader.
fn loader() -> Option<PathBuf> {
    let folders = ["/lib64", "/lib"];
    let files = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let mut files = files.flatten().flatten().map(|file| file.path());
    files.find(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("ld-") && name.contains(".so") && path.exists()
    })
}

#[test]
fn children_start_after_any_change_of_the_executable() {
    run(async {
        let changes: [fn(&Copy); 5] = [
            |copy| fs::remove_file(&copy.program).unwrap(),
            Copy::replace,
            |copy| fs::rename(&copy.program, copy.folder.path().join("elsewhere")).unwrap(),
            |copy| fs::remove_dir_all(copy.program.parent().unwrap()).unwrap(),
            |copy| {
                let place = copy.program.parent().unwrap();
                fs::rename(place, copy.folder.path().join("elsewhere")).unwrap();
            },
        ];
        for change in changes {
            let shown = Copy::new().run_directly(change);
            assert_eq!(shown, "children started");
        }
    });
}

#[test]
fn children_start_if_a_loader_has_started_the_program() {
    let Some(loader) = loader() else {
        return println!("skipped: this machine has no loader at a usual path");
    };
    run(async {
        let copy = Copy::new();
        let command = &mut Command::new(&loader);
        let shown = copy.run(command.arg(&copy.program), |_| ());
        assert_eq!(shown, "children started");
    });
}

/// A program that was started through a loader starts its children from its path, where a replaced
/// program would be another one.
#[test]
fn child_that_would_be_another_program_is_not_started() {
    let Some(loader) = loader() else {
        return println!("skipped: this machine has no loader at a usual path");
    };
    run(async {
        let same_again = |copy: &Copy| {
            fs::remove_file(&copy.program).unwrap();
            copy_program(&env::current_exe().unwrap(), &copy.program);
        };
        let changes: [(fn(&Copy), _); 3] = [
            (Copy::replace, "it is not the file"),
            (same_again, "it is not the file"),
            (
                |copy| fs::remove_file(&copy.program).unwrap(),
                "No such file",
            ),
        ];
        for (change, why) in changes {
            let copy = Copy::new();
            let command = &mut Command::new(&loader);
            let shown = copy.run(command.arg(&copy.program), change);
            assert!(shown.contains(why), "{shown}");
            assert!(shown.contains(copy.program.to_str().unwrap()), "{shown}");
        }
    });
}

/// A program may give up its root folder while it runs.
#[test]
fn error_after_a_chroot_says_what_is_missing_in_the_new_root() {
    let Some(loader) = loader() else {
        return println!("skipped: this machine has no loader at a usual path");
    };
    run(async {
        for (has_proc, has_loader, words) in [
            (false, false, "There is no /proc: mount it"),
            (true, false, "loader (ld.so) is missing"),
            (true, true, "copy the libraries into the new root"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let proc = root.path().join("proc");
            fs::create_dir(&proc).unwrap();
            let mount = match has_proc {
                true => format!("mount --rbind /proc '{}' &&", proc.display()),
                false => String::new(),
            };
            if has_loader {
                let copy = root.path().join(loader.strip_prefix("/").unwrap());
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                copy_program(&loader, &copy);
            }
            let Some(mut command) = unshared("-rm", &mount) else {
                return;
            };
            let mut role = Role::start_by(&mut command, "executable::chrooted", &root.path());
            for _ in 0..2 {
                let shown = role.next_report();
                assert!(shown.contains(words), "{shown}");
                assert!(!shown.contains("lockkeeper::program()"), "{shown}");
            }
        }
    });
}

/// Returns different standard inputs of a program.
fn inputs() -> [(&'static str, Stdio); 3] {
    let (_, socket) = UnixStream::pair().unwrap();
    [
        ("a pipe", Stdio::piped()),
        ("nothing", Stdio::null()),
        ("a socket", Stdio::from(OwnedFd::from(socket))),
    ]
}

/// Returns the arguments with which the harness runs `children`, with another argument at different
/// places.
fn arguments(argument: &str) -> [Vec<&str>; 2] {
    let run = ["--exact", "--nocapture", "children"];
    let first = [&[argument], &run[..]].concat();
    [first, [&run[..], &[argument]].concat()]
}

#[test]
fn argument_like_a_childs_does_not_make_a_child() {
    let looks = [
        "lockkeeper:worker",
        "lockkeeper:worker:1",
        "lockkeeper:worker:",
        "lockkeeper::1",
    ];
    for arguments in looks.iter().flat_map(|look| arguments(look)) {
        for (input, stdio) in inputs() {
            let child = Command::new(env::current_exe().unwrap())
                .args(&arguments)
                .stdin(stdio)
                .stdout(Stdio::piped())
                .spawn();
            let output = child.unwrap().wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{arguments:?} with {input}: {output:?}"
            );
        }
    }
}
