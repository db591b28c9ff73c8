//! Other ways to fork, and other actions of a child.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{self, Command},
};

use lockkeeper::{Fence, FenceFile, LockGuard, Manager, block_on};
use lockkeeper_sys::{Inherited, OnlyHere, Origin, PerProcess, Private};
use lockkeeper_test_forks::{
    Fork, close_all, end, exit, hear, is_running, kill, pause, tell, unshare_pids,
};

use crate::{
    Test,
    guards::{is_forked, spawned},
};

pub(crate) const TESTS: &[Test] = &[
    ("odd::fork_of_a_fork_holds_nothing", fork_of_a_fork),
    (
        "odd::number_of_a_private_descriptor_stays_in_use_and_is_dead",
        number_stays_in_use,
    ),
    (
        "odd::values_are_used_and_dropped_where_they_were_made",
        values_are_used_where_they_were_made,
    ),
    ("odd::raw_clone_is_noticed", raw_clone),
    ("odd::exec_after_a_fork_breaks_nothing", exec_after_a_fork),
    (
        "odd::exit_handlers_and_the_end_of_main_let_go_of_nothing",
        end_of_main,
    ),
    ("odd::child_that_is_process_1_is_told_apart", process_1),
    (
        "odd::strangers_descriptors_stay_open_in_a_child",
        strangers_descriptors,
    ),
    ("odd::turn_of_a_fence_file_is_its_writers", fence_file),
    (
        "odd::guards_of_plain_threads_go_with_the_parent",
        thread_in_a_child,
    ),
    (
        "odd::child_that_closes_all_descriptors_keeps_its_own_from_its_children",
        daemon,
    ),
];

/// Runs `fork` in a process that holds a lock, and checks that the lock is still held when the child has ended.
fn holding(fork: impl FnOnce(&mut dyn FnMut()) -> Fork) {
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let mut guard = Some(block_on(lock.acquire()).expect("it is free"));
    let child = fork(&mut || {
        let guard = guard.take().expect("a copy");
        assert!(!guard.is_valid());
        assert!(is_forked(&block_on(guard.release())));
        assert!(block_on(lock.try_acquire()).expect("an answer").is_none());
    });
    child.join();
    let guard = guard.expect("the parent's");
    assert!(guard.is_valid());
    block_on(guard.release()).expect("it is held");
    drop(block_on(lock.acquire()).expect("it is free"));
}

fn fork_of_a_fork() {
    holding(|check| {
        Fork::new(|| {
            Fork::new(|| Fork::new(check).join()).join();
        })
    });
    // A value that a child makes does not belong to the child's own child.
    holding(|check| {
        Fork::new(|| {
            let manager = spawned();
            let lock = block_on(manager.lock()).expect("a lock");
            let mut guard = Some(block_on(lock.acquire()).expect("it is free"));
            Fork::new(|| drop(guard.take())).join();
            let guard = guard.take().expect("the child's");
            block_on(guard.release()).expect("it is held");
            check();
        })
    });
}

fn number_stays_in_use() {
    let (here, mut there) = UnixStream::pair().expect("a pair");
    let here = Private::open(|| Ok(here)).expect("it is registered");
    let file = tempfile::tempfile().expect("a file");
    let file = Private::open(|| Ok(file)).expect("it is registered");
    // Closing removes the registration: a child keeps the next descriptor with the same number.
    let (gone, _other) = UnixStream::pair().expect("a pair");
    let gone = Private::open(|| Ok(gone)).expect("it is registered");
    let number = gone.as_raw_fd();
    drop(gone);
    let mut stranger = tempfile::tempfile().expect("a file");
    assert_eq!(
        stranger.as_raw_fd(),
        number,
        "the lowest number is used first"
    );
    Fork::new(|| {
        assert!(here.get().is_err() && file.get().is_err());
        for number in [here.as_fd(), file.as_fd()] {
            let mut copy = UnixStream::from(number.try_clone_to_owned().expect("it is in use"));
            assert_eq!(copy.read(&mut [0]).expect("the end"), 0);
            let written = copy.write(&[1]).expect_err("it is dead");
            assert_eq!(written.kind(), io::ErrorKind::BrokenPipe);
        }
        stranger.write_all(b"x").expect("it is as it was");
    })
    .join();
    here.get()
        .expect("the parent's")
        .write_all(b"x")
        .expect("it is open");
    there.read_exact(&mut [0]).expect("it arrives");
    // The end of the parent ends the connection, although a child is running.
    let child = Fork::new(|| pause());
    drop(here);
    assert_eq!(there.read(&mut [0]).expect("the end"), 0);
    child.kill();
}

fn values_are_used_where_they_were_made() {
    struct Loud(Origin);
    impl Drop for Loud {
        fn drop(&mut self) {
            assert!(self.0.is_here(), "dropped elsewhere");
        }
    }
    static EACH: PerProcess<Loud> = PerProcess::new();
    static LIST: Inherited<Vec<u32>> = Inherited::new(Vec::new());
    let make = || Loud(Origin::here());
    let mut only = Some((OnlyHere::new(make()), PerProcess::from(make())));
    let mut waits = Some(OnlyHere::future(async move {
        let _loud = make();
        std::future::pending::<()>().await;
    }));
    block_on(async {
        assert!(futures::poll!(waits.as_mut().expect("once")).is_pending());
    });
    EACH.get_or_init(make);
    LIST.with(|list| list.push(1));
    let mut check = || {
        let (only, own) = only.take().expect("a copy");
        assert!(only.get().is_none() && own.get().is_none() && EACH.get().is_none());
        assert!(own.get_or_init(make).0.is_here() && EACH.get_or_init(make).0.is_here());
        assert!(only.into_inner().is_none());
        assert_eq!(block_on(waits.take().expect("a copy")), None);
        assert_eq!(LIST.with(|list| list.len()), 1);
    };
    Fork::new(&mut check).join();
    Fork::raw(&mut check).join();
    let (only, own) = only.expect("the parent's");
    assert!(only.get().is_some() && own.get().is_some() && EACH.get().is_some());
}

fn raw_clone() {
    holding(|check| Fork::raw(check));
    // Another child only drops the value.
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let mut guard = Some(block_on(lock.acquire()).expect("it is free"));
    Fork::raw(|| drop(guard.take())).join();
    Fork::raw(|| Fork::new(|| drop(guard.take())).join()).join();
    assert!(guard.expect("the parent's").is_valid());
}

fn exec_after_a_fork() {
    holding(|_| {
        Fork::new(|| {
            let error = Command::new("true").exec();
            panic!("{error}");
        })
    });
    // The executed program has no descriptor of the parent, and no dead socket.
    let list = || {
        // With a working directory the standard library forks instead of using `posix_spawn`.
        let listed = Command::new("ls")
            .arg("/proc/self/fd")
            .current_dir("/")
            .output();
        listed.expect("a command").stdout
    };
    let before = list();
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let mut guard = Some(block_on(lock.acquire()).expect("it is free"));
    assert_eq!(list(), before);
    Fork::new(|| {
        drop(guard.take());
        assert_eq!(list(), before);
    })
    .join();
    assert!(guard.expect("the parent's").is_valid());
}

fn end_of_main() {
    holding(|check| {
        Fork::new(|| {
            check();
            exit(0)
        })
    });
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let guard = block_on(lock.acquire()).expect("it is free");
    match Fork::split() {
        Some(child) => {
            child.join();
            assert!(guard.is_valid());
            block_on(guard.release()).expect("it is held");
        }
        // Everything is dropped on the way to the end of main, and the exit code is success.
        None => drop((guard, lock, manager)),
    }
}

fn process_1() {
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let mut guard = Some(block_on(lock.acquire()).expect("it is free"));
    let child = as_process_1(|| {
        refuses(guard.take());
        // Its own child in another namespace has the same process id.
        let own = block_on(Manager::start()).expect("a manager");
        let lock = block_on(own.lock()).expect("a lock");
        let mut guard = Some(block_on(lock.acquire()).expect("it is free"));
        as_process_1(|| {
            refuses(guard.take());
        })
        .join();
        assert!(guard.expect("the child's").is_valid());
    });
    child.join();
    assert!(guard.expect("the parent's").is_valid());
}

fn refuses(guard: Option<LockGuard>) {
    let guard = guard.expect("a copy");
    assert!(!guard.is_valid());
    assert!(is_forked(&block_on(guard.release())));
}

/// Forks a process that runs `work` as process 1 in a new pid namespace.
fn as_process_1(work: impl FnOnce()) -> Fork {
    Fork::new(|| {
        if !unshare_pids() {
            eprintln!("skipped: this user gets no pid namespace");
            return;
        }
        Fork::new(|| {
            assert_eq!(process::id(), 1);
            work();
        })
        .join();
    })
}

fn strangers_descriptors() {
    let manager = spawned();
    let lock = block_on(manager.lock()).expect("a lock");
    let hosted = block_on(Manager::start()).expect("a manager");
    let mut all = Some((
        block_on(lock.acquire()).expect("it is free"),
        manager.clone(),
        hosted,
    ));
    let folder = tempfile::tempdir().expect("a folder");
    Fork::new(|| {
        let mut files: Vec<_> = (0..64)
            .map(|it| File::create(folder.path().join(it.to_string())).expect("a file"))
            .collect();
        drop(all.take());
        drop(block_on(lock.try_acquire()).expect("an answer"));
        for (file, number) in files.iter_mut().zip(0..) {
            write!(file, "{number}").expect("it is open");
        }
        for number in 0..64 {
            let text = fs::read_to_string(folder.path().join(number.to_string()));
            assert_eq!(text.expect("a file"), number.to_string());
        }
    })
    .join();
    assert!(all.expect("the parent's").0.is_valid());
}

fn fence_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = FenceFile::beside(folder.path().join("page"));
    let fence = |number| Fence::new(number);
    let (mut reader, writer) = io::pipe().expect("a pipe");
    // A child of the writer runs longer than the write.
    let child = mark
        .write(fence(1), || Fork::new(|| pause()))
        .expect("its turn");
    mark.check(fence(2)).expect("the turn is over");
    // A writer is killed during its write.
    let writer = Fork::new(|| {
        let written = mark.write(fence(3), || {
            let child = Fork::new(|| pause());
            tell(&writer, child.pid());
            pause()
        });
        drop(written);
        end(1)
    });
    let grandchild = hear(&mut reader);
    writer.kill();
    mark.check(fence(4)).expect("the writer is dead");
    assert!(is_running(grandchild) && is_running(child.pid()));
    kill(grandchild);
    child.kill();
    // A child uses an inherited mark.
    Fork::new(|| mark.check(fence(5)).expect("a mark is a path")).join();
    assert!(mark.check(fence(4)).is_err());
}

fn daemon() {
    let held = spawned();
    Fork::new(|| {
        close_all();
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let here = Private::open(|| Ok(here)).expect("it is registered");
        let child = Fork::new(|| pause());
        drop(here);
        assert_eq!(there.read(&mut [0]).expect("the end"), 0);
        child.kill();
    })
    .join();
    block_on(held.lock()).expect("it is there");
}

fn thread_in_a_child() {
    holding(|check| {
        Fork::new(|| {
            check();
            // The child has its own threads and runtimes.
            let thread = std::thread::spawn(|| {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async {
                    let manager = Manager::start().await.expect("a manager");
                    let lock = manager.lock().await.expect("a lock");
                    lock.acquire().await.expect("it is free").release().await
                })
            });
            thread.join().expect("no panic").expect("it is held");
        })
    });
}
