//! Managers with several shards: the shard of an object, the common end of all shards, and the
//! files that are left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::pending,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::{join_all, try_join_all};
use lockkeeper::{
    Address, CallError, Lock, Manager, Proxy, StartError,
    builders::Program,
    deadlock::DeadlockPolicy,
    errors::{Fault, Refusal},
    kind::{Call, Operation, Operations, Primitive, Serve},
    lock_all,
};
use lockkeeper_test_support::{Role, Roles, in_own_process, is_running, kill, report, until};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{lock::waiting::until_waiting, manager::process::pid_of, run, waits::is_disconnected};

/// A kind that returns the thread that serves it.
struct Spot;

#[derive(Serialize, Deserialize)]
struct Where;

impl Operation for Where {
    const NAME: &'static str = "where";
    type Reply = String;
}

impl Primitive for Spot {
    const KIND: &'static str = "spot";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Where>();
    }
}

impl Serve<Where> for Spot {
    fn serve(&mut self, _: Where, call: Call<String>) {
        let thread = fs::read_link("/proc/thread-self").expect("the system has /proc");
        call.reply(thread.display().to_string());
    }
}

/// A kind that has the last handle of its own manager, and drops it at a call.
struct Last(Arc<Mutex<Option<Manager>>>);

#[derive(Serialize, Deserialize)]
struct DropManager;

impl Operation for DropManager {
    const NAME: &'static str = "let_go";
    type Reply = ();
}

impl Primitive for Last {
    const KIND: &'static str = "last";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Err(Refusal::Invalid(
            "the builder has a closure for it".to_owned(),
        ))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<DropManager>();
    }
}

impl Serve<DropManager> for Last {
    fn serve(&mut self, _: DropManager, call: Call<()>) {
        drop(
            self.0
                .lock()
                .expect("no thread panics while it holds the mutex")
                .take(),
        );
        call.reply(());
    }
}

/// A kind whose first object makes [`PanickingRecorder`] panic.
struct PanicTrigger;

impl Primitive for PanicTrigger {
    const KIND: &'static str = "straw";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(_: &mut Operations<Self>) {}
}

/// A recorder that panics once, on the thread of the shard that publishes the number of
/// [`PanicTrigger`] objects.
struct PanickingRecorder {
    is_well: AtomicBool,
}

impl Recorder for PanickingRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let is_straw = key
            .labels()
            .any(|label| label.value() == PanicTrigger::KIND);
        let breaks = is_straw && self.is_well.swap(false, Ordering::Relaxed);
        assert!(!breaks, "the recorder panics on purpose");
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.register::<Spot>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("manager::shards::finder", |address: String| async move {
        let manager = Manager::connect(address.as_str()).await.unwrap();
        report(&serde_json::to_string(&found(&manager).await).unwrap());
    });
    roles.add("manager::shards::holder", |locks: Vec<Lock>| async move {
        let guards = locks.iter().map(Lock::acquire);
        let _guards = try_join_all(guards).await.unwrap();
        report("held");
        pending::<()>().await;
    });
    roles.add("manager::shards::waiter", |locks: Vec<Lock>| async move {
        let waits = locks.iter().map(|lock| async {
            let outcome = lock.acquire().await.map(drop);
            outcome.unwrap_err().to_string()
        });
        report(&join_all(waits).await.join("; "));
    });
    roles.add("manager::shards::locker", |locks: Vec<Lock>| async move {
        take_together(&locks).await;
        report("done");
    });
}

const NAMES: u32 = 40;

/// Returns the address and the serving thread of objects with some names.
async fn found(manager: &Manager) -> BTreeMap<String, (String, String)> {
    let mut all = BTreeMap::new();
    for name in (0..NAMES).map(|number| format!("spot/{number}")) {
        let spot: Proxy<Spot> = manager.named(&name).open(()).await.unwrap();
        let address = spot.token().address.to_string();
        let thread = spot.call(Where).await.unwrap();
        all.insert(name, (address, thread));
    }
    all
}

/// Acquires all locks together, repeatedly.
async fn take_together(locks: &[Lock]) {
    for _ in 0..100 {
        let guards = lock_all(locks).await.unwrap();
        assert_eq!(guards.len(), locks.len());
    }
}

fn address_in(folder: &TempDir) -> Address {
    let path = folder.path().join("m.sock");
    Address::try_from(path).unwrap()
}

/// Returns the names of the files in a folder, in order.
fn files(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

async fn start(shards: usize) -> Manager {
    let manager = Manager::builder().shards(shards).start().await;
    manager.unwrap()
}

/// Makes one lock on each shard.
async fn a_lock_on_each(manager: &Manager, shards: usize) -> Vec<Lock> {
    let mut locks = Vec::new();
    for _ in 0..shards {
        locks.push(manager.lock().await.unwrap());
    }
    let addresses: BTreeSet<String> = locks.iter().map(address_of).collect();
    assert_eq!(addresses.len(), shards, "{addresses:?}");
    locks
}

fn address_of(lock: &Lock) -> String {
    lock.token().address.to_string()
}

/// Starts a task that waits for a lock.
fn wait_for(lock: &Lock) -> JoinHandle<Result<(), CallError>> {
    let lock = lock.clone();
    tokio::spawn(async move { lock.acquire().await.map(drop) })
}

#[test]
fn all_processes_find_a_name_on_the_same_shard_and_each_shard_has_some() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = Manager::builder().address(address.clone()).shards(3);
        let manager = builder.spawn().await.unwrap();
        let host = pid_of(&manager).await;
        let mut finder = Role::start("manager::shards::finder", &address);
        let here = found(&manager).await;
        let there: BTreeMap<String, (String, String)> =
            serde_json::from_str(&finder.next_report()).unwrap();
        assert_eq!(here, there);
        let places: BTreeSet<(String, String)> = here.into_values().collect();
        assert_eq!(places.len(), 3, "{places:?}");
        let addresses: BTreeSet<&String> = places.iter().map(|(address, _)| address).collect();
        let threads: BTreeSet<&String> = places.iter().map(|(_, thread)| thread).collect();
        assert_eq!((addresses.len(), threads.len()), (3, 3));
        for thread in threads {
            assert!(thread.starts_with(&format!("{host}/task/")));
            assert!(Path::new("/proc").join(thread).exists());
        }
    });
}

#[test]
fn anonymous_objects_are_created_on_the_shards_in_turn() {
    run(async {
        let manager = start(3).await;
        let mut threads = Vec::new();
        for _ in 0..6 {
            let spot: Proxy<Spot> = manager.open(()).await.unwrap();
            threads.push(spot.call(Where).await.unwrap());
        }
        let distinct: BTreeSet<&String> = threads.iter().take(3).collect();
        assert_eq!(distinct.len(), 3);
        assert_eq!(threads[..3], threads[3..]);
    });
}

#[test]
fn manager_has_one_shard_by_default() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = Manager::builder().address(address.clone());
        let manager = builder.start().await.unwrap();
        let locks = [
            manager.lock().await.unwrap(),
            manager.named("jobs").lock().await.unwrap(),
            manager.named("stock").lock().await.unwrap(),
        ];
        assert!(locks.iter().all(|lock| lock.token().address == address));
        assert_eq!(files(&folder), ["m.sock", "m.sock.lockkeeper"]);
        manager.shutdown().await;
        assert!(files(&folder).is_empty());
    });
}

#[test]
fn holds_of_a_killed_process_are_released_on_each_shard() {
    run(async {
        let manager = Manager::builder().shards(3).spawn().await.unwrap();
        let locks = a_lock_on_each(&manager, 3).await;
        let mut holder = Role::start("manager::shards::holder", &locks);
        assert_eq!(holder.next_report(), "held");
        let waiting: Vec<_> = locks
            .iter()
            .map(|lock| tokio::spawn(lock.acquire()))
            .collect();
        for lock in &locks {
            until_waiting(lock, 1).await;
        }
        holder.kill();
        for guard in waiting {
            let guard = guard.await.unwrap().unwrap();
            let abandoned = guard.abandoned().expect("the guard names the dead holder");
            assert_eq!(abandoned.holder.pid, holder.pid());
        }
    });
}

#[test]
fn locks_of_different_shards_are_acquired_together_in_any_order() {
    run(async {
        let manager = start(3).await;
        let mut locks = a_lock_on_each(&manager, 3).await;
        locks.push(manager.named("jobs").lock().await.unwrap());
        let mut lockers = [
            Role::start("manager::shards::locker", &locks),
            Role::start("manager::shards::locker", &locks),
        ];
        locks.reverse();
        take_together(&locks).await;
        for locker in &mut lockers {
            assert_eq!(locker.next_report(), "done");
        }
        for lock in &locks {
            assert!(!lock.status().await.unwrap().is_held);
        }
    });
}

#[test]
fn snapshot_has_the_objects_of_all_shards_in_order() {
    run(async {
        let manager = start(2).await;
        let locks = a_lock_on_each(&manager, 2).await;
        let names = ["jobs", "stock", "row/7/7", "a"];
        for name in names {
            manager.named(name).event().await.unwrap();
        }
        let guards = try_join_all(locks.iter().map(Lock::acquire)).await.unwrap();
        let snapshot = manager.inspect().await.unwrap();
        assert_eq!((snapshot.objects.len(), snapshot.instants), (6, 2));
        let shown: Vec<&str> = snapshot
            .objects
            .iter()
            .map(|object| &*object.name)
            .collect();
        // Each shard counts its own objects: jobs and row/7/7 are objects 2 and 3 of one shard.
        let own = |number: usize| locks[number].token().name.as_str();
        let first = usize::from(!own(0).ends_with(".2"));
        let expected = [own(first), own(1 - first), "stock", "jobs", "a", "row/7/7"];
        assert_eq!(shown, expected);
        for object in &snapshot.objects[..2] {
            let holder = &object.parts[0].holders[0];
            assert_eq!(holder.process.pid, std::process::id());
        }

        assert!(
            manager
                .inspect_contended()
                .await
                .unwrap()
                .objects
                .is_empty()
        );
        let waiting = wait_for(&locks[1]);
        until_waiting(&locks[1], 1).await;
        let contended = manager.inspect_contended().await.unwrap();
        assert_eq!(contended.objects.len(), 1);
        assert_eq!(contended.objects[0].name, own(1));
        assert_eq!(locks[1].info().await.unwrap().waiting(), 1);
        drop(guards);
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn objects_of_every_shard_can_be_removed() {
    run(async {
        let manager = start(3).await;
        let other = Manager::connect(manager.address().clone()).await.unwrap();
        let mut locks = a_lock_on_each(&manager, 3).await;
        for name in ["jobs", "stock", "row/7/7"] {
            locks.push(manager.named(name).lock().await.unwrap());
        }
        for lock in &locks {
            let name = &lock.token().name;
            // The generated name of an anonymous object opens it too.
            other.named(name).lock().await.unwrap();
            other.remove(name).await.unwrap();
            assert_eq!(lock.acquire().await.map(drop), Err(CallError::gone()));
            let unknown = other.remove(name).await.unwrap_err();
            let is_named = matches!(&unknown, CallError::NoObject { name: of, .. } if of == name);
            assert!(is_named, "{unknown}");
        }
        assert!(manager.inspect().await.unwrap().objects.is_empty());
    });
}

#[test]
fn other_shards_refuse_a_name() {
    run(async {
        let manager = start(2).await;
        let jobs = manager.named("jobs").lock().await.unwrap();
        let token = serde_json::to_string(&jobs).unwrap();
        let elsewhere = token.replace(&address_of(&jobs), &manager.address().to_string());
        assert_ne!(token, elsewhere);
        let stray: Lock = serde_json::from_str(&elsewhere).unwrap();
        let wrong = Fault::WrongShard {
            name: "jobs".to_owned(),
            shard: 1,
        };
        let outcome = stray.acquire().await.map(drop);
        assert_eq!(outcome, Err(CallError::Fault(wrong)));
    });
}

#[test]
fn manager_is_found_by_the_address_of_any_of_its_objects() {
    run(async {
        let manager = start(3).await;
        for lock in a_lock_on_each(&manager, 3).await {
            let found = Manager::connect(lock.token().address.clone()).await;
            let found = found.unwrap();
            assert_eq!(found.address(), manager.address());
            found.remove(&lock.token().name).await.unwrap();
        }
    });
}

#[test]
fn shutdown_fails_the_waits_of_all_shards_and_leaves_no_files() {
    run(async {
        for is_process in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let builder = Manager::builder().address(address_in(&folder)).shards(3);
            let manager = match is_process {
                true => builder.spawn().await.unwrap(),
                false => builder.start().await.unwrap(),
            };
            let sockets = ["m.sock", "m.sock.1", "m.sock.2", "m.sock.lockkeeper"];
            assert_eq!(files(&folder), sockets);
            let host = pid_of(&manager).await;
            let locks = a_lock_on_each(&manager, 3).await;
            let guards = try_join_all(locks.iter().map(Lock::acquire)).await.unwrap();
            let waiting: Vec<_> = locks.iter().map(wait_for).collect();
            let mut waiter = Role::start("manager::shards::waiter", &locks);
            for lock in &locks {
                until_waiting(lock, 2).await;
            }
            manager.shutdown().await;
            assert!(files(&folder).is_empty());
            assert_eq!(is_running(host), !is_process);
            for waiting in waiting {
                assert!(is_disconnected(&waiting.await.unwrap()));
            }
            assert_eq!(waiter.next_report().matches("disconnected").count(), 3);
            for guard in guards {
                guard.lost().await;
            }
        }
    });
}

#[test]
fn new_manager_replaces_all_sockets_of_a_killed_one() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = |shards| Manager::builder().address(address.clone()).shards(shards);
        let mut fence = None;
        for (shards, files_then) in [
            (
                4,
                &[
                    "m.sock",
                    "m.sock.1",
                    "m.sock.2",
                    "m.sock.3",
                    "m.sock.lockkeeper",
                ][..],
            ),
            (
                4,
                &[
                    "m.sock",
                    "m.sock.1",
                    "m.sock.2",
                    "m.sock.3",
                    "m.sock.lockkeeper",
                ],
            ),
            (2, &["m.sock", "m.sock.1", "m.sock.lockkeeper"]),
            (1, &["m.sock", "m.sock.lockkeeper"]),
            (3, &["m.sock", "m.sock.1", "m.sock.2", "m.sock.lockkeeper"]),
        ] {
            let manager = builder(shards).spawn().await.unwrap();
            assert_eq!(files(&folder), files_then);
            let busy = builder(shards).start().await.map(drop);
            let at = address.clone();
            assert_eq!(busy, Err(StartError::AddressInUse { address: at }));
            let lock = manager.named("jobs").lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            assert!(Some(guard.fence()) > fence);
            fence = Some(guard.fence());
            kill(pid_of(&manager).await);
            guard.lost().await;
            // The drop waits for the end of the process.
            drop(manager);
            assert_eq!(files(&folder), files_then);
        }
        builder(2).start().await.unwrap().shutdown().await;
        assert!(files(&folder).is_empty());
    });
}

#[test]
fn handle_never_creates_objects_in_the_next_manager() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = address_in(&folder);
        let builder = || Manager::builder().address(address.clone()).shards(4);
        let first = builder().spawn().await.unwrap();
        let old = Manager::connect(address.clone()).await.unwrap();
        let lock = first.named("jobs").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        kill(pid_of(&first).await);
        guard.lost().await;
        drop(first);
        for name in ["a", "stock", "jobs", "row/7/7"] {
            assert!(is_disconnected(&old.named(name).lock().await));
        }
        let second = builder().start().await.unwrap();
        for _ in 0..4 {
            assert!(is_disconnected(&old.lock().await));
        }
        for name in ["a", "stock", "jobs", "row/7/7", "spot/1", "spot/2"] {
            assert!(is_disconnected(&old.named(name).lock().await));
        }
        assert!(is_disconnected(&old.inspect().await));
        assert!(second.inspect().await.unwrap().objects.is_empty());
    });
}

#[test]
fn next_manager_removes_the_sockets_of_a_killed_anonymous_one() {
    run(async {
        let killed = Manager::builder().shards(3).spawn().await.unwrap();
        let sockets = a_lock_on_each(&killed, 3).await;
        let sockets: Vec<String> = sockets.iter().map(address_of).collect();
        kill(pid_of(&killed).await);
        drop(killed);
        let _next = Manager::start().await.unwrap();
        for socket in sockets {
            assert!(!Path::new(&socket).exists(), "{socket}");
            assert!(!Path::new(&format!("{socket}.lock")).exists());
        }
    });
}

#[test]
fn builder_options_that_need_one_shard_are_refused() {
    run(async {
        for shards in [0, 65, usize::MAX] {
            let builder = || Manager::builder().shards(shards);
            for refused in [builder().start().await, builder().spawn().await] {
                let Err(StartError::InvalidSettings(why)) = refused else {
                    panic!("it is there: {refused:?}");
                };
                let shown = format!("a manager has 1 to 64 shards, not {shards}");
                assert_eq!(why, shown);
            }
        }
        let builder = || {
            Manager::builder()
                .shards(2)
                .deadlocks(DeadlockPolicy::new())
        };
        for refused in [builder().start().await, builder().spawn().await] {
            let Err(StartError::InvalidSettings(why)) = refused else {
                panic!("it is there: {refused:?}");
            };
            assert!(why.contains("have one shard in place of 2"), "{why}");
        }
        let manager = start(2).await;
        let asked = manager.deadlocks().await;
        assert!(matches!(asked, Err(CallError::Refused(_, _))), "{asked:?}");
        let one = Manager::builder()
            .shards(1)
            .deadlocks(DeadlockPolicy::new());
        assert!(
            one.start()
                .await
                .unwrap()
                .deadlocks()
                .await
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn last_handle_may_be_dropped_on_any_shard() {
    run(async {
        for name in ["stock", "jobs"] {
            let handle = Arc::<Mutex<Option<Manager>>>::default();
            let its = Arc::clone(&handle);
            let builder = Manager::builder()
                .shards(2)
                .register_with(move |()| Ok(Last(Arc::clone(&its))));
            let manager = builder.start().await.unwrap();
            let locks = a_lock_on_each(&manager, 2).await;
            let guards = try_join_all(locks.iter().map(Lock::acquire)).await.unwrap();
            let last: Proxy<Last> = manager.named(name).open(()).await.unwrap();
            *handle.lock().unwrap() = Some(manager);
            // The answer may or may not arrive before the end.
            let _ = last.call(DropManager).await;
            for guard in guards {
                guard.lost().await;
            }
        }
    });
}

#[test]
fn end_of_one_shard_ends_the_manager_and_fails_all_waits() {
    in_own_process(|| {
        run(async {
            let recorder = PanickingRecorder {
                is_well: AtomicBool::new(true),
            };
            metrics::set_global_recorder(recorder).expect("no other recorder is set");
            let folder = tempfile::tempdir().unwrap();
            let address = address_in(&folder);
            let builder = || Manager::builder().address(address.clone()).shards(3);
            let manager = builder().register::<PanicTrigger>().start().await.unwrap();
            let locks = a_lock_on_each(&manager, 3).await;
            let guards = try_join_all(locks.iter().map(Lock::acquire)).await.unwrap();
            let waiting: Vec<_> = locks.iter().map(wait_for).collect();
            for lock in &locks {
                until_waiting(lock, 1).await;
            }
            // The object is on the second of three shards, so not on the one that waits for the
            // others.
            let trigger: Proxy<PanicTrigger> = manager.named("jobs").open(()).await.unwrap();
            assert_ne!(trigger.token().address, *manager.address());
            for waiting in waiting {
                assert!(is_disconnected(&waiting.await.unwrap()));
            }
            for guard in guards {
                guard.lost().await;
            }
            for _ in 0..3 {
                assert!(is_disconnected(&manager.lock().await));
            }
            // The address is free although the manager was not shut down.
            until("its sockets are removed", || async {
                files(&folder).is_empty()
            })
            .await;
            let next = builder().start().await.unwrap();
            a_lock_on_each(&next, 3).await;
            manager.shutdown().await;
        });
    });
}

#[test]
fn manager_does_not_remove_sockets_of_other_programs() {
    run(async {
        let folder = TempDir::new().unwrap();
        let other = folder.path().join("m.sock.1");
        // A socket of another program, which is bound but does not listen yet.
        drop(std::os::unix::net::UnixListener::bind(&other).unwrap());
        let address = folder.path().join("m.sock");
        let address = address.to_str().unwrap();
        let manager = Manager::builder().address(address).start().await.unwrap();
        assert!(other.exists());
        drop(manager);
        assert!(other.exists());
    });
}
