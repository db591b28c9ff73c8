//! The settings of a client: label, spin and reconnection, which are set for each connection.

pub(crate) mod reconnect;

use std::process;

use lockkeeper::{Address, CallError, Lock, Manager, Pool, Task, builders::Program};
use serde::{Deserialize, Serialize};

use crate::run;

pub(crate) fn register(program: Program) -> Program {
    reconnect::register(program).task::<Settle>().task::<Hold>()
}

/// Connects a worker with a label to the manager of its tasks.
#[derive(Debug, Serialize, Deserialize)]
struct Settle {
    address: Address,
    label: String,
}

impl Task for Settle {
    const NAME: &'static str = "client::settle";
    type Output = ();

    async fn run(self) {
        let client = Manager::client().label(&self.label);
        client.connect(self.address).await.unwrap();
    }
}

/// Returns the label of the process that holds a lock while this task holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    lock: Lock,
}

impl Task for Hold {
    const NAME: &'static str = "client::hold";
    type Output = Result<String, CallError>;

    async fn run(self) -> Self::Output {
        let _guard = self.lock.acquire().await?;
        label_of_holder(&self.lock).await
    }
}

/// Returns the label of the process that holds a lock.
async fn label_of_holder(lock: &Lock) -> Result<String, CallError> {
    let info = lock.info().await?;
    Ok(info.parts[0].holders[0].process.label.clone())
}

/// Returns the label of this process at the manager of a lock.
async fn label_at(lock: &Lock) -> String {
    let _guard = lock.acquire().await.unwrap();
    label_of_holder(lock).await.unwrap()
}

#[test]
fn settings_apply_to_one_manager_and_to_objects_that_are_opened_later() {
    run(async {
        let [here, there] = [
            Manager::start().await.unwrap(),
            Manager::start().await.unwrap(),
        ];
        let before = here.lock().await.unwrap();
        assert_eq!(label_at(&before).await, "");
        let client = Manager::client().label("one").connect(here.address()).await;
        let client = client.unwrap();
        let after = client.lock().await.unwrap();
        assert_eq!(label_at(&after).await, "one");
        let sent: Lock = before.token().clone().into();
        assert_eq!(label_at(&sent).await, "one");
        assert_eq!(
            label_at(&before).await,
            "",
            "an earlier proxy keeps its connection"
        );
        let elsewhere: Lock = there.lock().await.unwrap().token().clone().into();
        assert_eq!(label_at(&elsewhere).await, "");
        // A handle without settings uses the existing connection.
        let plain = Manager::connect(here.address()).await.unwrap();
        assert_eq!(label_at(&plain.lock().await.unwrap()).await, "one");
        let other = Manager::client().label("two").connect(here.address()).await;
        assert_eq!(label_at(&other.unwrap().lock().await.unwrap()).await, "two");
        assert_eq!(label_at(&after).await, "one");
    });
}

#[test]
fn same_settings_use_the_same_connection() {
    run(async {
        let owner = Manager::start().await.unwrap();
        let permit = async |label: &str| {
            let client = Manager::client().label(label);
            let manager = client.connect(owner.address()).await.unwrap();
            let permits = manager.named("permits").semaphore(3).await.unwrap();
            permits.acquire().await.unwrap()
        };
        let mut first = permit("same").await;
        let (same, other) = (permit("same").await, permit("other").await);
        // Only permits of the same session can be merged.
        assert!(first.merge(same).is_ok());
        assert!(first.merge(other).is_err());
    });
}

#[test]
fn settings_apply_to_all_shards() {
    run(async {
        let owner = Manager::builder().shards(3).start().await.unwrap();
        let mut locks = Vec::new();
        for _ in 0..6 {
            locks.push(owner.lock().await.unwrap());
        }
        for (address, label) in [
            (owner.address(), "by the first"),
            (&locks[1].token().address, "by another"),
        ] {
            let client = Manager::client().label(label).connect(address).await;
            let client = client.unwrap();
            for _ in 0..3 {
                assert_eq!(label_at(&client.lock().await.unwrap()).await, label);
            }
            for lock in &locks {
                let sent: Lock = lock.token().clone().into();
                assert_eq!(label_at(&sent).await, label);
            }
        }
    });
}

#[test]
fn label_of_a_worker_lasts_from_its_initializer_to_its_tasks() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let settle = Settle {
            address: manager.address().clone(),
            label: "worker".to_owned(),
        };
        let pool = Pool::builder(1).initializer(settle);
        let pool = pool.start().await.unwrap();
        let hold = || Hold { lock: lock.clone() };
        for _ in 0..2 {
            let label = pool.apply(hold()).await.unwrap().unwrap();
            assert_eq!(label, "worker");
        }
    });
}

#[test]
fn long_label_is_cut_and_settings_apply_to_a_manager_that_starts_later() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("late.sock");
        let long = "\u{e9}".repeat(200);
        let missing = Manager::client().label(&long).connect(&path).await;
        let Err(CallError::NoManager { .. }) = missing else {
            panic!("there is no manager for {}: {missing:?}", process::id());
        };
        let _owner = Manager::builder().address(&path).start().await.unwrap();
        let manager = Manager::connect(&path).await.unwrap();
        let label = label_at(&manager.lock().await.unwrap()).await;
        assert_eq!(label, "\u{e9}".repeat(127));
    });
}
