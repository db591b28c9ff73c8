//! Spawned managers as child processes: started without a runtime, and left by their parent while
//! they are busy.

use std::{fs, future::pending, path::PathBuf, process, thread, time::Duration};

use futures::executor::block_on;
use lockkeeper::{
    Manager, Proxy,
    builders::Program,
    errors::Refusal,
    kind::{Call, CallId, HangUp, Operation, Operations, Primitive, Serve},
};
use lockkeeper_test_support::{Role, Roles, Watchdog, is_running, kill, report, until};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use crate::{manager::process::pid_of, program, run};

/// A kind with an operation that blocks its manager.
struct Blocker;

/// Returns the manager's process id.
#[derive(Serialize, Deserialize)]
struct Who;

impl Operation for Who {
    const NAME: &'static str = "who";
    type Reply = u32;
}

/// Blocks for a minute. It creates the file when it begins.
#[derive(Serialize, Deserialize)]
struct Block(PathBuf);

impl Operation for Block {
    const NAME: &'static str = "fall";
    type Reply = ();
}

impl Primitive for Blocker {
    const KIND: &'static str = "pit";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Who>().on::<Block>();
    }

    fn withdraw(&mut self, _: CallId) {}

    fn hang_up(&mut self, _: &HangUp) {}
}

impl Serve<Who> for Blocker {
    fn serve(&mut self, _: Who, call: Call<u32>) {
        call.reply(process::id());
    }
}

impl Serve<Block> for Blocker {
    fn serve(&mut self, Block(mark): Block, _call: Call<()>) {
        fs::write(mark, "").expect("the folder exists");
        // Longer than the time limit of every test, but finite, so that a failed test leaves no
        // process.
        thread::sleep(Duration::from_secs(60));
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.register::<Blocker>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("manager::spawned::owner", own_a_manager);
}

/// Owns a spawned manager, and reports the object.
async fn own_a_manager((): ()) {
    let manager = Manager::spawn().await.unwrap();
    let blocker: Proxy<Blocker> = manager.open(()).await.unwrap();
    report(&serde_json::to_string(&blocker).unwrap());
    pending::<()>().await;
}

#[test]
fn manager_is_spawned_without_a_runtime() {
    program();
    let _watchdog = Watchdog::start();
    block_on(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = manager.lock().await.unwrap();
        lock.acquire().await.unwrap().release().await.unwrap();
        manager.shutdown().await;
    });
}

#[test]
fn manager_is_spawned_in_a_runtime_without_a_timer() {
    program();
    let _watchdog = Watchdog::start();
    let runtime = Builder::new_current_thread().build().unwrap();
    let manager = runtime.block_on(Manager::spawn()).unwrap();
    runtime.block_on(manager.shutdown());
}

/// The thread of the background runtime would take a tenth of the start, and nothing in a manager uses it.
#[test]
fn spawned_manager_has_no_background_thread() {
    run(async {
        let manager = Manager::builder().shards(2).spawn().await.unwrap();
        let lock = manager.lock().await.unwrap();
        drop(lock.acquire().await.unwrap());
        let pid = manager.pid().unwrap();
        let name = |thread: &fs::DirEntry| fs::read_to_string(thread.path().join("comm")).unwrap();
        let names = || {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            threads.map(|thread| name(&thread.unwrap())).collect()
        };
        // A thread sets its name itself.
        until("the thread of the lifeline has its name", || async {
            let names: Vec<String> = names();
            names.iter().any(|name| name.starts_with("lockkeeper-life"))
        })
        .await;
        let names: Vec<String> = names();
        assert!(!names.contains(&"lockkeeper-io\n".to_owned()), "{names:?}");
    });
}

#[test]
fn spawned_manager_ends_with_its_parent_even_during_a_blocking_operation() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let mut owner = Role::start("manager::spawned::owner", &());
        let blocker: Proxy<Blocker> = serde_json::from_str(&owner.next_report()).unwrap();
        let pid = blocker.call(Who).await.unwrap();
        assert_ne!(pid, owner.pid());
        let block = tokio::spawn({
            let block = Block(mark.clone());
            async move { blocker.call(block).await }
        });
        until("the operation has begun", || async { mark.exists() }).await;
        kill(owner.pid());
        until("the manager has ended", || async { !is_running(pid) }).await;
        block.await.unwrap().unwrap_err();
    });
}

#[test]
fn process_of_a_spawned_manager_is_told_and_shows_what_it_is() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let pid = manager.pid().unwrap();
        assert_eq!(pid, pid_of(&manager).await);
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let mark = command.split(|byte| *byte == 0).nth(1).unwrap();
        assert!(mark.starts_with(b"lockkeeper:manager:"), "{mark:?}");

        let elsewhere = Manager::connect(manager.address().clone()).await.unwrap();
        assert_eq!(elsewhere.pid(), None);
        assert_eq!(Manager::start().await.unwrap().pid(), None);

        kill(pid);
        until("the handle knows the end", || async {
            manager.pid().is_none()
        })
        .await;
    });
}
