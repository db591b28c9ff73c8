//! Suspicions.
use futures::future::join;
use lockkeeper::{Manager, block_on};
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

fn within(name: &str, work: impl FnOnce() + Send + 'static) {
    let t = thread::spawn(work);
    let end = Instant::now() + Duration::from_secs(6);
    while !t.is_finished() {
        assert!(Instant::now() < end, "{name} hangs");
        thread::sleep(Duration::from_millis(5));
    }
    t.join().unwrap();
}

#[test]
fn a_companion_that_yields_does_not_starve_the_call() {
    within("yielding companion", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        let done = AtomicBool::new(false);
        let busy = async {
            while !done.load(Ordering::Relaxed) {
                tokio::task::yield_now().await
            }
        };
        let call = async {
            drop(lock.acquire().await.unwrap());
            done.store(true, Ordering::Relaxed)
        };
        block_on(join(call, busy));
    });
}

#[test]
fn a_companion_with_much_to_do_does_not_starve_the_call() {
    within("busy channel", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let (tx, mut rx) = tokio::sync::mpsc::channel::<u8>(1000);
        let d = done.clone();
        let p = thread::spawn(move || {
            while !d.load(Ordering::Relaxed) {
                if tx.blocking_send(1).is_err() {
                    break;
                }
            }
        });
        let call = async {
            drop(lock.acquire().await.unwrap());
            done.store(true, Ordering::Relaxed)
        };
        let busy = async { while rx.recv().await.is_some() {} };
        block_on(join(call, busy));
        p.join().unwrap();
    });
}

#[test]
fn a_call_that_nobody_polls_any_more_costs_nothing_when_its_connection_ends() {
    within("idle", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        let _held = block_on(lock.acquire()).unwrap();
        let polls = AtomicU64::new(0);
        block_on(async {
            let mut call = Box::pin(lock.acquire());
            assert!(futures::poll!(&mut call).is_pending());
            manager.shutdown().await;
            let mut nap = Box::pin(tokio::time::sleep(Duration::from_millis(500)));
            poll_fn(|task| {
                polls.fetch_add(1, Ordering::Relaxed);
                nap.as_mut().poll(task)
            })
            .await;
            drop(call);
        });
        let polls = polls.into_inner();
        assert!(polls < 20, "{polls} polls in half a second of sleep");
    });
}

#[test]
fn nested_in_another_executor() {
    within("futures::executor inside", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        block_on(async { drop(futures::executor::block_on(lock.acquire()).unwrap()) });
    });
}

#[test]
fn nested_block_in_place_other_runtime() {
    within("other runtime inside", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        block_on(async {
            tokio::task::block_in_place(|| {
                other.block_on(async { drop(lock.acquire().await.unwrap()) })
            })
        });
    });
}

#[test]
fn nested_block_in_place_own_block_on() {
    within("own block_on inside", || {
        let one = block_on(Manager::start()).unwrap();
        let two = block_on(Manager::start()).unwrap();
        let (a, b) = (block_on(one.lock()).unwrap(), block_on(two.lock()).unwrap());
        let held = block_on(a.acquire()).unwrap();
        let freer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            drop(held)
        });
        block_on(join(async { drop(a.acquire().await.unwrap()) }, async {
            tokio::task::block_in_place(|| drop(b.blocking_acquire().unwrap()));
        }));
        freer.join().unwrap();
    });
}

type Held = Pin<Box<dyn Future<Output = ()>>>;
thread_local! { static KEPT: RefCell<Option<Held>> = const { RefCell::new(None) }; }

#[test]
fn a_call_in_a_thread_local_is_dropped_with_its_thread() {
    within("tls", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        let held = block_on(lock.acquire()).unwrap();
        let l = lock.clone();
        thread::spawn(move || {
            KEPT.with_borrow_mut(|kept| {
                *kept = Some(Box::pin(async move { drop(l.acquire().await) }))
            });
            block_on(poll_fn(|task| {
                KEPT.with_borrow_mut(|k| {
                    assert!(k.as_mut().unwrap().as_mut().poll(task).is_pending())
                });
                Poll::Ready(())
            }));
        })
        .join()
        .unwrap();
        drop(held);
        drop(lock.blocking_acquire().unwrap());
    });
}

fn fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn threads_cost_no_descriptors() {
    within("fds", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        drop(lock.blocking_acquire().unwrap());
        let before = fds();
        let gate = Arc::new(std::sync::Barrier::new(101));
        let ts: Vec<_> = (0..100)
            .map(|_| {
                let (l, g) = (lock.clone(), gate.clone());
                thread::spawn(move || {
                    drop(l.blocking_acquire().unwrap());
                    g.wait();
                    g.wait();
                })
            })
            .collect();
        gate.wait();
        let more = fds() - before;
        gate.wait();
        for t in ts {
            t.join().unwrap()
        }
        let left = fds() - before;
        assert!(more < 20, "{more} descriptors more, {left} left");
    });
}

#[test]
fn a_companion_that_keeps_its_budget_does_not_starve_the_call() {
    within("cooperative companion", || {
        let manager = block_on(Manager::start()).unwrap();
        let lock = block_on(manager.lock()).unwrap();
        let done = AtomicBool::new(false);
        let busy = async {
            while !done.load(Ordering::Relaxed) {
                tokio::task::consume_budget().await
            }
        };
        let call = async {
            drop(lock.acquire().await.unwrap());
            done.store(true, Ordering::Relaxed)
        };
        block_on(join(call, busy));
    });
}

#[test]
fn nested_block_on_that_reads_nothing() {
    within("own block_on inside", || {
        let one = block_on(Manager::start()).unwrap();
        let a = block_on(one.lock()).unwrap();
        let held = block_on(a.acquire()).unwrap();
        let freer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            drop(held)
        });
        block_on(join(async { drop(a.acquire().await.unwrap()) }, async {
            tokio::task::block_in_place(|| block_on(async {}));
        }));
        freer.join().unwrap();
    });
}

#[test]
fn nested_block_on_that_takes_the_outer_wake() {
    within("own block_on inside", || {
        let (tx, rx) = futures::channel::oneshot::channel::<()>();
        let teller = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            tx.send(()).unwrap();
        });
        block_on(join(async { rx.await.unwrap() }, async {
            tokio::task::block_in_place(|| {
                block_on(tokio::time::sleep(Duration::from_millis(500)))
            });
        }));
        teller.join().unwrap();
    });
}

#[test]
fn a_few_threads() {
    let manager = block_on(Manager::start()).unwrap();
    let lock = block_on(manager.lock()).unwrap();
    for threads in [1, 2, 4] {
        let begun = Instant::now();
        thread::scope(|s| {
            for _ in 0..threads {
                s.spawn(|| {
                    for _ in 0..20000 / threads {
                        drop(lock.blocking_acquire().unwrap())
                    }
                });
            }
        });
        eprintln!(
            "RATE {threads} threads: {:.1} us a cycle",
            begun.elapsed().as_secs_f64() * 1e6 / 20000.0
        );
    }
    let begun = Instant::now();
    for _ in 0..20000 {
        drop(lock.blocking_acquire().unwrap())
    }
    eprintln!(
        "RATE 1 thread after company: {:.1} us a cycle",
        begun.elapsed().as_secs_f64() * 1e6 / 20000.0
    );
}

#[test]
fn a_manager_of_one_arbiter_leaves_other_programs_sockets_alone() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("app.sock.7");
    // Bound, and not listened at yet, or left by another program.
    drop(std::os::unix::net::UnixListener::bind(&other).unwrap());
    let path = folder.path().join("app.sock");
    let manager = block_on(Manager::builder().address(path.to_str().unwrap()).start()).unwrap();
    assert!(other.exists(), "it is gone");
    drop(manager);
}
