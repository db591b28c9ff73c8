//! Spawned managers as child processes: started without a runtime, and orphaned while they are
//! busy.

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

use crate::{program, run};

/// A kind with an operation that ends when it is too late.
struct Blocker;

/// Asks for the manager's process.
#[derive(Serialize, Deserialize)]
struct Who;

impl Operation for Who {
    const NAME: &'static str = "who";
    type Reply = u32;
}

/// Ends when it is too late. That it has begun is seen by a file of that path.
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
        fs::write(mark, "").expect("the folder is there");
        // Beyond the patience of any test, and yet no process is left of one that fails.
        thread::sleep(Duration::from_secs(60));
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.kind::<Blocker>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("manager::spawned::owner", own_a_manager);
}

/// Owns a spawned manager and tells where the pit is in it.
async fn own_a_manager((): ()) {
    let manager = Manager::spawn().await.unwrap();
    let blocker: Proxy<Blocker> = manager.open(()).await.unwrap();
    report(&serde_json::to_string(&blocker).unwrap());
    pending::<()>().await;
}

#[test]
fn manager_is_spawned_where_there_is_no_runtime() {
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

#[test]
fn spawned_manager_ends_with_its_parent_also_in_an_operation_that_does_not_end() {
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
        until("it falls", || async { mark.exists() }).await;
        kill(owner.pid());
        until("the manager is gone", || async { !is_running(pid) }).await;
        block.await.unwrap().unwrap_err();
    });
}
