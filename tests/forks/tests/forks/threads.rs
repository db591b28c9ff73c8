//! Processes whose first thread has ended while others keep running. `/proc` shows such a process as a
//! zombie, and `/proc/self` shows neither its program nor its descriptors, but the process is running.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    panic::{AssertUnwindSafe, catch_unwind},
    process, thread,
    time::Duration,
};

use lockkeeper::{Blocking, Manager, Pool, StartError, block_on};
use lockkeeper_test_forks::{
    Fork, end, end_thread, fill_queue, hear, is_running, kill, make_stopped, pause, tell, until,
    watch,
};

use crate::{Test, managers::folder, pools::Double};

pub(crate) const TESTS: &[Test] = &[
    (
        "threads::client_without_its_first_thread_keeps_its_lock_until_it_ends",
        client,
    ),
    (
        "threads::manager_without_its_first_thread_serves_starts_workers_and_spawns",
        manager,
    ),
    (
        "threads::manager_without_its_first_thread_keeps_its_name_though_the_queue_is_full",
        name_with_a_full_queue,
    ),
];

/// The time limit for noticing the end of a process.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Runs `work` on a second thread of a forked child, once the first thread has ended.
fn without_a_first_thread(work: impl FnOnce() + Send) -> Fork {
    Fork::new(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let state = || fs::read_to_string("/proc/self/stat").unwrap_or_default();
                until("the first thread has ended", || state().contains(") Z "));
                let done = catch_unwind(AssertUnwindSafe(work));
                end(i32::from(done.is_err()));
            });
            end_thread()
        })
    })
}

fn client() {
    let (_folder, path) = folder();
    let manager = block_on(Manager::builder().address(&*path).start()).expect("a manager");
    let lock = block_on(manager.named("it").lock()).expect("a lock");
    let (mut reader, writer) = io::pipe().expect("a pipe");
    // It connects before or after the end of its first thread.
    for is_early in [false, true] {
        let connect = || {
            let client = block_on(Manager::connect(&*path)).expect("it is there");
            block_on(client.named("it").lock()).expect("a lock")
        };
        let holder = Fork::new(|| {
            let early = is_early.then(connect);
            let early = early.as_ref();
            let writer = &writer;
            thread::scope(|scope| {
                scope.spawn(move || {
                    watch(40);
                    let state = || fs::read_to_string("/proc/self/stat").unwrap_or_default();
                    until("the first thread has ended", || state().contains(") Z "));
                    let own = early.is_none().then(connect);
                    let lock = early.or(own.as_ref()).expect("one of them");
                    drop(block_on(lock.acquire()).expect("it is free"));
                    let _guard = block_on(lock.acquire()).expect("it is free");
                    // The child keeps the socket open, so the manager notices only the end of the
                    // process.
                    let child = Fork::raw(|| pause());
                    tell(writer, child.pid());
                    pause()
                });
                end_thread()
            })
        });
        let child = hear(&mut reader);
        // Much longer than noticing an end takes.
        let waited = block_on(lock.acquire().timeout(Duration::from_secs(1)));
        assert!(waited.is_err(), "its holder lives");
        let info = block_on(lock.info()).expect("it is there");
        assert!(
            info.parts[0].holders[0].process.death_is_noticed,
            "{info:?}"
        );
        holder.kill();
        let acquired = block_on(lock.acquire().timeout(AT_ONCE));
        assert!(acquired.expect("its holder is dead").abandoned().is_some());
        assert!(is_running(child));
        kill(child);
    }
}

fn manager() {
    let (_folder, path) = folder();
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let manager = without_a_first_thread(|| {
        let manager = block_on(Manager::builder().address(&*path).start()).expect("a manager");
        let pool = block_on(Pool::new(1)).expect("a pool");
        assert_eq!(block_on(pool.apply(Blocking(Double(4)))), Ok(8));
        let spawned = block_on(Manager::spawn()).expect("a manager");
        let lock = block_on(spawned.lock()).expect("a lock");
        drop(block_on(lock.acquire()).expect("it is free"));
        tell(&writer, i32::try_from(process::id()).expect("a process id"));
        // The manager must notice the end of the client below.
        let gone = block_on(manager.named("gone").lock()).expect("a lock");
        until("the client's guard is there", || {
            block_on(gone.try_acquire()).expect("an answer").is_none()
        });
        let acquired = block_on(gone.acquire()).expect("its holder ends");
        assert!(acquired.abandoned().is_some());
    });
    assert_eq!(hear(&mut reader), manager.pid());
    let client = Fork::new(|| {
        let client = block_on(Manager::connect(&*path)).expect("it is there");
        let lock = block_on(client.named("gone").lock()).expect("a lock");
        let _guard = block_on(lock.acquire()).expect("it is free");
        let child = Fork::new(|| pause());
        let info = block_on(lock.info()).expect("it is there");
        assert_eq!(info.parts[0].holders.len(), 1);
        child.kill();
        end(0)
    });
    client.join();
    manager.join();
}

/// The process that has an abstract name whose queue is full is found by the descriptors of the processes.
fn name_with_a_full_queue() {
    let (files, path) = folder();
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let manager = without_a_first_thread(|| {
        let start = Manager::builder().address(&*path).start();
        let _kept = block_on(start).expect("a manager");
        tell(&writer, 1);
        pause()
    });
    assert_eq!(hear(&mut reader), 1);
    let inode = fs::metadata(files.path()).expect("a folder").ino();
    let inode = format!("/{inode:x}/manager.lockkeeper");
    let names = fs::read_to_string("/proc/net/unix").expect("the list of sockets");
    let mut names = names.lines().filter_map(|line| line.split_once(" @"));
    let name = names.find(|(_, name)| name.ends_with(&inode));
    let (_, name) = name.expect("the manager has a name");
    // It empties its queue now and then.
    make_stopped(manager.pid(), true);
    fill_queue(name.as_bytes());
    for file in [path.clone(), format!("{path}.lockkeeper")] {
        fs::remove_file(file).expect("it is there");
    }
    let refused = block_on(Manager::builder().address(&*path).start());
    let refused = refused.expect_err("a live manager has the name");
    assert!(
        matches!(refused, StartError::AddressInUse { .. }),
        "{refused}"
    );
    make_stopped(manager.pid(), false);
    manager.kill();
}
