//! A fan-out of tasks over processes in environments where programs run: hardly any variables, folders for
//! temporary files with long paths, no `/proc`, no `/dev`, and pid namespaces in which all are process 1.

use std::{
    env, fs,
    future::pending,
    path::Path,
    process::{self, Command},
};

use lockkeeper::{CallError, Manager, Pool, Semaphore, Task, builders::Program};
use lockkeeper_test_support::{Role, Roles, report};
use serde::{Deserialize, Serialize};

use crate::run;

/// Acquires and releases a permit, and returns its process id.
#[derive(Debug, Serialize, Deserialize)]
struct Enter(Semaphore);

impl Task for Enter {
    const NAME: &'static str = "environments::enter";
    type Output = Result<u32, CallError>;

    async fn run(self) -> Self::Output {
        let _permit = self.0.acquire().await?;
        Ok(process::id())
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.task::<Enter>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("environments::fan_out", fan_out);
}

/// Runs tasks that share semaphores of a manager on a thread and of a spawned manager.
async fn fan_out(rounds: u32) {
    for _ in 0..rounds {
        let outcome = async {
            let managers = [Manager::start().await, Manager::spawn().await];
            let pool = Pool::new(2).await.map_err(|error| error.to_string())?;
            for manager in managers {
                let manager = manager.map_err(|error| error.to_string())?;
                let permits = manager.semaphore(2).await;
                let permits = permits.map_err(|error| error.to_string())?;
                let tasks = (0..10).map(|_| Enter(permits.clone()));
                for entered in pool
                    .try_map(tasks)
                    .await
                    .map_err(|error| error.to_string())?
                {
                    entered.map_err(|error| error.to_string())?;
                }
                manager.shutdown().await;
            }
            pool.join().await.map_err(|error| error.to_string())
        };
        report(&outcome.await.err().unwrap_or_else(|| "done".to_owned()));
    }
    pending::<()>().await;
}

fn start(command: &mut Command, rounds: u32) -> Role {
    Role::start_by(command, "environments::fan_out", &rounds)
}

fn this_program() -> Command {
    Command::new(env::current_exe().unwrap())
}

/// Returns a command that runs this program in new namespaces, after a shell command, if this machine supports
/// them.
pub(crate) fn unshared(options: &str, first: &str) -> Option<Command> {
    let shell = format!("{first} exec \"$0\" \"$@\"");
    let command = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(options.split(' ')).args(["sh", "-c", &shell]);
        command.arg(program);
        command
    };
    let has_namespaces = command(Path::new("true")).status();
    if !has_namespaces.is_ok_and(|status| status.success()) {
        println!("skipped: this machine does not let this user unshare {options}");
        return None;
    }
    Some(command(&env::current_exe().unwrap()))
}

#[test]
fn tasks_run_with_any_environment_variables() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let long = folder
            .path()
            .join("x".repeat(88 - folder.path().as_os_str().len()));
        fs::create_dir(&long).unwrap();
        let long = format!("{}/", long.to_str().unwrap());
        assert_eq!(long.len(), 90);
        let path = env::var("PATH").unwrap_or_default();
        let home = env::var("HOME").unwrap_or_default();
        for variables in [
            &[][..],
            &[("PATH", path.as_str()), ("HOME", home.as_str())],
            &[("TMPDIR", long.as_str())],
            &[("TMPDIR", "/nowhere"), ("XDG_RUNTIME_DIR", "/nowhere")],
        ] {
            let mut program = this_program();
            program.env_clear().envs(variables.iter().copied());
            assert_eq!(
                start(&mut program, 1).next_report(),
                "done",
                "{variables:?}"
            );
        }
    });
}

#[test]
fn tasks_run_in_two_containers_at_a_time_that_share_their_folders() {
    run(async {
        let options = "-rpf --mount-proc --kill-child";
        let two = [unshared(options, ""), unshared(options, "")];
        let [Some(mut one), Some(mut other)] = two else {
            return;
        };
        // The program is process 1 of each container, with workers 2, 3 and so on.
        let mut programs = [start(&mut one, 5), start(&mut other, 5)];
        for _ in 0..5 {
            for program in &mut programs {
                assert_eq!(program.next_report(), "done");
            }
        }
    });
}

#[test]
fn tasks_run_without_dev() {
    run(async {
        if let Some(mut command) = unshared("-rm", "mount -t tmpfs none /dev &&") {
            assert_eq!(start(&mut command, 1).next_report(), "done");
        }
    });
}

#[test]
fn tasks_run_without_proc_and_in_a_folder_that_is_gone() {
    run(async {
        let hide_proc = "mount -t tmpfs none /proc &&";
        if let Some(mut command) = unshared("-rm", hide_proc) {
            assert_eq!(
                start(&mut command, 1).next_report(),
                "done",
                "without /proc"
            );
        }
        let gone = "cd \"$(mktemp -d)\" && rmdir \"$PWD\" &&";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{gone} exec \"$0\" \"$@\"")]);
        command.arg(env::current_exe().unwrap());
        assert_eq!(
            start(&mut command, 1).next_report(),
            "done",
            "in a removed folder"
        );
    });
}
