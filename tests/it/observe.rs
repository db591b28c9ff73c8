//! The events and spans of managers, sessions, objects, calls, clients and pools.
//!
//! The subscriber is global, so each test runs in its own process.

pub(crate) mod numbers;
pub(crate) mod recorded;

use std::{
    collections::BTreeSet,
    fs,
    future::{Future, pending},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process,
    time::Duration,
};

use futures::FutureExt;
use lockkeeper::{
    CallError, Limits, Lock, Manager, Pool, Retry, Semaphore, Task,
    builders::Program,
    errors::Refusal,
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use lockkeeper_test_support::{Role, Roles, in_own_process, kill, report, until};
use serde::{Deserialize, Serialize};
use tracing::Level;

use crate::observe::recorded::{Recorded, recorded, recorded_once, start_recording};

pub(crate) fn register(program: Program) -> Program {
    program.task::<Double>().register::<Fragile>()
}

/// Runs a test in its own process, with a subscriber.
fn run<F: Future>(test: F) -> F::Output {
    start_recording();
    crate::run(test)
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("observe::holder", |lock: Lock| async move {
        let _guard = lock.acquire().await.unwrap();
        report("held");
        pending::<()>().await;
    });
    roles.add("observe::holder_of_three", |seats: Semaphore| async move {
        let _permits = [
            seats.acquire().await.unwrap(),
            seats.acquire().await.unwrap(),
            seats.acquire().await.unwrap(),
        ];
        report("held");
        pending::<()>().await;
    });
}

/// Doubles a number. Panics on 13 and aborts its process on 14.
#[derive(Serialize, Deserialize)]
struct Double(u64);

impl Task for Double {
    const NAME: &'static str = "double";
    type Output = u64;

    async fn run(self) -> u64 {
        match self.0 {
            13 => panic!("thirteen is too much"),
            14 => process::abort(),
            number => number * 2,
        }
    }
}

/// A kind whose code panics.
struct Fragile;

#[derive(Serialize, Deserialize)]
struct Break;

impl Operation for Break {
    const NAME: &'static str = "break";
    type Reply = ();
}

#[derive(Debug, Serialize, Deserialize)]
struct Mend;

impl Operation for Mend {
    const NAME: &'static str = "mend";
    const IS_ADMINISTRATIVE: bool = true;
    type Reply = ();
}

impl Serve<Mend> for Fragile {
    fn serve(&mut self, _: Mend, call: Call<()>) {
        call.reply(());
    }
}

impl Primitive for Fragile {
    const KIND: &'static str = "fragile";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Break>().on::<Mend>();
    }
}

impl Serve<Break> for Fragile {
    fn serve(&mut self, _: Break, _: Call<()>) {
        panic!("it is broken");
    }
}

/// Returns a filter for events of the object with a name.
fn of(name: &str) -> impl Fn(&Recorded) -> bool {
    move |recorded| recorded.field("name") == name
}

fn at(manager: &Manager) -> impl Fn(&Recorded) -> bool + use<> {
    let address = manager.address().to_string();
    move |recorded| recorded.field("address") == address
}

#[track_caller]
fn assert_is(recorded: &Recorded, level: Level, target: &str) {
    assert_eq!(
        (recorded.level, &*recorded.target),
        (level, target),
        "{recorded:?} is another event"
    );
}

#[test]
fn manager_of_several_shards_begins_and_ends_once() {
    in_own_process(|| {
        run(async {
            let manager = Manager::builder().shards(3).start().await.unwrap();
            let incarnation = recorded_once("manager started", at(&manager))
                .await
                .number("incarnation");
            let is_there = at(&manager);
            manager.shutdown().await;
            recorded_once("manager ended", &is_there).await;
            let is_of_it =
                |recorded: &Recorded| recorded.field("incarnation") == incarnation.to_string();
            let started = recorded("manager started", is_of_it);
            assert_eq!(started.len(), 1, "{started:?}");
            assert_eq!(started[0].number("shards"), 3);
        });
    });
}

#[test]
fn state_folder_is_recorded_with_the_end_of_the_previous_manager() {
    in_own_process(|| {
        run(async {
            let above = tempfile::tempdir().unwrap();
            let folder = above.path().join("state");
            let of_folder =
                |recorded: &Recorded| recorded.field("folder") == folder.to_str().unwrap();
            for previous in ["absent", "clean", "unclean"] {
                let manager = Manager::builder().state_folder(&folder).start();
                let manager = manager.await.unwrap();
                let opened = recorded_once("state folder opened", |recorded| {
                    of_folder(recorded) && recorded.field("previous") == previous
                })
                .await;
                assert_is(&opened, Level::INFO, "lockkeeper::manager");
                if previous == "clean" {
                    // The record of the end cannot be written.
                    fs::create_dir(folder.join("ended.new")).unwrap();
                }
                manager.shutdown().await;
            }
            let not_written = recorded("state not written", of_folder);
            assert_eq!(not_written.len(), 2, "{not_written:?}");
            assert_is(&not_written[0], Level::WARN, "lockkeeper::manager");
            assert!(not_written[0].field("why").contains("ended.new"));
        });
    });
}

#[test]
fn begin_and_end_of_a_manager_and_its_client_are_recorded() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let is_there = at(&manager);
            let started = recorded_once("manager started", &is_there).await;
            assert_is(&started, Level::INFO, "lockkeeper::manager");
            assert!(started.number("incarnation") > 0);
            assert_eq!(started.number("pid"), u64::from(process::id()));

            let connected = recorded_once("connected", &is_there).await;
            assert_is(&connected, Level::DEBUG, "lockkeeper::client");
            let session = connected.field("session").to_owned();
            let begun = recorded_once("session begun", |recorded| {
                recorded.field("session") == session
            })
            .await;
            assert_is(&begun, Level::DEBUG, "lockkeeper::session");
            assert_eq!(begun.number("pid"), u64::from(process::id()));
            assert!(begun.field("program").starts_with("it-"), "{begun:?}");
            assert_eq!(begun.field("label"), "");

            let lock = manager.lock().await.unwrap();
            manager.shutdown().await;
            let ended = recorded_once("session ended", |recorded| {
                recorded.field("session") == session
            })
            .await;
            assert_is(&ended, Level::DEBUG, "lockkeeper::session");
            assert_eq!(ended.field("reason"), "the manager ends");
            let ended = recorded_once("manager ended", &is_there).await;
            assert_is(&ended, Level::INFO, "lockkeeper::manager");

            let lost = lock.acquire().await.unwrap_err();
            let shown = recorded_once("disconnected", &is_there).await;
            // This process has ended the manager itself.
            assert_is(&shown, Level::DEBUG, "lockkeeper::client");
            assert!(lost.to_string().contains(shown.field("why")), "{lost}");
            assert_eq!(shown.field("session"), session);
            Manager::connect(lock.token().address.clone())
                .await
                .unwrap_err();
            let not = recorded_once("not connected", &is_there).await;
            assert_is(&not, Level::DEBUG, "lockkeeper::client");
            assert!(not.field("why").starts_with("no manager at"), "{not:?}");
        });
    });
}

#[test]
fn end_of_a_manager_is_a_warning_to_a_process_that_did_not_end_it() {
    in_own_process(|| {
        run(async {
            let manager = Manager::spawn().await.unwrap();
            let is_there = at(&manager);
            let lock = manager.lock().await.unwrap();
            kill(manager.pid().unwrap());
            lock.acquire().await.unwrap_err();
            let shown = recorded_once("disconnected", &is_there).await;
            assert_is(&shown, Level::WARN, "lockkeeper::client");
        });
    });
}

#[test]
fn manager_of_a_pool_begins_and_ends_at_debug() {
    in_own_process(|| {
        run(async {
            let pool = Pool::new(1).await.unwrap();
            pool.join().await.unwrap();
            let started = recorded_once("manager started", |_| true).await;
            assert_is(&started, Level::DEBUG, "lockkeeper::manager");
            let ended = recorded_once("manager ended", |_| true).await;
            assert_is(&ended, Level::DEBUG, "lockkeeper::manager");
            for shown in recorded("disconnected", |_| true) {
                assert_is(&shown, Level::DEBUG, "lockkeeper::client");
            }
        });
    });
}

#[test]
fn unused_connection_is_recorded_as_closed() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let is_there = at(&manager);
            drop(manager);
            let closed = recorded_once("connection closed", &is_there).await;
            assert_is(&closed, Level::DEBUG, "lockkeeper::client");
            assert!(recorded("disconnected", is_there).is_empty());
        });
    });
}

#[test]
fn dead_holder_is_recorded_with_its_process_and_its_hold() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let lock = manager.named("left behind").lock().await.unwrap();
            let mut holder = Role::start("observe::holder", &lock);
            assert_eq!(holder.next_report(), "held");
            holder.kill();
            let guard = lock.acquire().await.unwrap();
            let mark = guard.abandoned().unwrap();

            let abandoned = recorded_once("hold abandoned", of("left behind")).await;
            assert_is(&abandoned, Level::WARN, "lockkeeper::object");
            assert_eq!(abandoned.field("kind"), "lock");
            assert_eq!(abandoned.number("pid"), u64::from(holder.pid()));
            assert_eq!(abandoned.field("program"), mark.holder.program);
            assert_eq!(abandoned.number("holds"), 1);
            assert_eq!(abandoned.number("fence"), mark.fence.number());
            assert_eq!(abandoned.field("held"), format!("{:?}", mark.held));
            let session = abandoned.field("session");
            let ended = recorded_once("session ended", |recorded| {
                recorded.field("session") == session
            })
            .await;
            assert_is(&ended, Level::DEBUG, "lockkeeper::session");
            assert_eq!(ended.number("pid"), u64::from(holder.pid()));
            assert_eq!(ended.field("reason"), "the client left");
        });
    });
}

#[test]
fn holds_that_a_session_leaves_in_one_object_are_one_event() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let seats = manager.named("seats").semaphore(3).await.unwrap();
            let mut holder = Role::start("observe::holder_of_three", &seats);
            assert_eq!(holder.next_report(), "held");
            holder.kill();
            let permits = seats.acquire_many(3).await.unwrap();
            let mark = permits.abandoned().unwrap();
            let session = |recorded: &Recorded| recorded.field("kind") == "semaphore";
            recorded_once("session ended", |recorded| {
                recorded.number("pid") == u64::from(holder.pid())
            })
            .await;
            let abandoned = recorded("hold abandoned", session);
            assert_eq!(abandoned.len(), 1, "{abandoned:?}");
            assert_eq!(abandoned[0].number("holds"), 3);
            // The first hold was the longest.
            assert!(abandoned[0].number("fence") <= mark.fence.number());
        });
    });
}

#[test]
fn creation_removal_and_administration_of_an_object_are_recorded() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let lock = manager.named("forced").lock().await.unwrap();
            let made = recorded_once("object made", of("forced")).await;
            assert_is(&made, Level::DEBUG, "lockkeeper::object");
            assert_eq!(made.field("kind"), "lock");

            let guard = lock.acquire().await.unwrap();
            assert!(recorded("hold taken by force", of("forced")).is_empty());
            assert!(lock.force_unlock().await.unwrap());
            guard.lost().await;
            let forced = recorded_once("hold taken by force", of("forced")).await;
            assert_is(&forced, Level::WARN, "lockkeeper::object");
            let revoked = recorded_once("grant revoked", of("forced")).await;
            assert_is(&revoked, Level::INFO, "lockkeeper::object");
            assert_eq!(revoked.field("session"), forced.field("session"));
            let granted = recorded("call", of("forced"));
            let granted = granted
                .iter()
                .find(|call| call.field("operation") == "acquire");
            assert_eq!(revoked.field("seq"), granted.unwrap().field("seq"));

            manager.remove("forced").await.unwrap();
            let removed = recorded_once("object removed", of("forced")).await;
            assert_is(&removed, Level::DEBUG, "lockkeeper::object");
        });
    });
}

#[test]
fn administration_is_recorded_with_who_did_it() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let lock = manager.named("whose").lock().await.unwrap();
            let _guard = lock.acquire().await.unwrap();
            lock.force_unlock().await.unwrap();
            let fragile = manager.named("whose own").open::<Fragile>(()).await;
            fragile.unwrap().call(Mend).await.unwrap();
            lock.info().await.unwrap();
            manager.inspect().await.unwrap();
            manager.remove("whose").await.unwrap();
            let by = |name: &'static str, about: &'static str| {
                move |recorded: &Recorded| {
                    recorded.field("name") == name && recorded.field("about") == about
                }
            };
            for (event, level, target, by) in [
                (
                    "hold taken by force",
                    Level::WARN,
                    "object",
                    by("whose", ""),
                ),
                (
                    "administrative call",
                    Level::INFO,
                    "object",
                    by("whose own", ""),
                ),
                (
                    "client inspected objects",
                    Level::DEBUG,
                    "session",
                    by("whose", "named"),
                ),
                (
                    "client inspected objects",
                    Level::DEBUG,
                    "session",
                    by("", "all"),
                ),
                (
                    "client removed an object",
                    Level::INFO,
                    "session",
                    by("whose", ""),
                ),
            ] {
                let told = recorded_once(event, by).await;
                assert_is(&told, level, &format!("lockkeeper::{target}"));
                assert_eq!(
                    told.field("uid"),
                    rustix::process::geteuid().as_raw().to_string(),
                    "{event}"
                );
                assert_eq!(told.field("pid"), process::id().to_string(), "{event}");
                assert_eq!((told.field("key"), told.field("host")), ("", ""), "{event}");
                let is_mend = told.field("operation") == "mend";
                assert_eq!(is_mend, event == "administrative call");
            }
        });
    });
}

#[test]
fn panic_of_an_object_is_recorded_with_its_message() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let fragile = manager.named("frail").open::<Fragile>(()).await.unwrap();
            assert_eq!(fragile.call(Break).await, Err(CallError::gone()));
            let failed = recorded_once("object failed: its code panicked", of("frail")).await;
            assert_is(&failed, Level::ERROR, "lockkeeper::object");
            assert_eq!(
                (failed.field("kind"), failed.field("why")),
                ("fragile", "it is broken")
            );
            // The object has already ended when it is removed.
            manager.remove("frail").await.unwrap();
            assert_eq!(fragile.call(Break).await, Err(CallError::gone()));
            assert!(recorded("object removed", of("frail")).is_empty());
        });
    });
}

#[test]
fn call_is_a_span_at_its_caller_and_an_event_at_the_manager_with_the_same_number() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let lock = manager.named("called").lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            let is_it = |recorded: &Recorded| {
                of("called")(recorded) && recorded.field("operation") == "acquire"
            };
            let came = recorded_once("call came", is_it).await;
            assert_is(&came, Level::TRACE, "lockkeeper::call");
            let span = recorded_once("call", is_it).await;
            assert_is(&span, Level::DEBUG, "lockkeeper::call");
            assert_eq!(span.field("outcome"), "answered");
            for field in ["kind", "session", "seq"] {
                assert_eq!(span.field(field), came.field(field), "{field}");
                assert!(!span.field(field).is_empty(), "{field}");
            }
            assert!(span.number("micros") > 0);
            drop(guard);
            let sent = recorded_once("call sent one way", of("called")).await;
            assert_is(&sent, Level::TRACE, "lockkeeper::call");
            assert_eq!(sent.field("operation"), "release");
        });
    });
}

#[test]
fn failed_call_is_recorded_with_the_reason_on_both_sides() {
    in_own_process(|| {
        run(async {
            let manager = Manager::start().await.unwrap();
            let lock = manager.named("contended").lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();

            let late = lock.acquire().timeout(Duration::from_millis(5)).await;
            let late = late.unwrap_err();
            assert_eq!(late, CallError::timed_out());
            let shown = recorded_once("call timed out", of("contended")).await;
            assert_is(&shown, Level::DEBUG, "lockkeeper::call");
            let is_late = |recorded: &Recorded| {
                of("contended")(recorded) && recorded.field("outcome") == late.to_string()
            };
            let span = recorded_once("call", is_late).await;
            assert_eq!(span.field("seq"), shown.field("seq"));
            assert!(span.number("micros") >= 5000);

            let mut dropped = Box::pin(lock.acquire());
            assert!((&mut dropped).now_or_never().is_none());
            drop(dropped);
            let shown = recorded_once("call withdrawn", of("contended")).await;
            assert_is(&shown, Level::DEBUG, "lockkeeper::call");
            let is_dropped = |recorded: &Recorded| {
                of("contended")(recorded) && recorded.field("outcome") == "dropped"
            };
            let span = recorded_once("call", is_dropped).await;
            assert_eq!(span.field("seq"), shown.field("seq"));

            let ticket = guard.into_ticket();
            lock.release_ticket(ticket.clone()).await.unwrap();
            let refused = lock.release_ticket(ticket).await.unwrap_err();
            let shown = recorded_once("call refused", of("contended")).await;
            assert_is(&shown, Level::DEBUG, "lockkeeper::call");
            // The manager records the refusal, and the error also names the object.
            let why = shown.field("why");
            assert!(refused.to_string().ends_with(why), "{refused}");

            manager.remove("contended").await.unwrap();
            assert_eq!(lock.acquire().await.unwrap_err(), CallError::gone());
        });
    });
}

#[test]
fn refused_client_is_recorded_with_the_reason() {
    in_own_process(|| {
        run(async {
            let limits = Limits {
                sessions: 2,
                ..Limits::default()
            };
            let manager = Manager::builder().limits(limits).start().await.unwrap();
            let path = manager.address().path().unwrap();
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"\0\0\0\x01\x90").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            let reason = |text: &'static str| {
                move |recorded: &Recorded| recorded.field("reason").contains(text)
            };
            let refused = recorded_once("client refused", reason("bad frame")).await;
            assert_is(&refused, Level::WARN, "lockkeeper::session");

            // The same for a client with a session, which begins as in PROTOCOL.md.
            let mut stream = UnixStream::connect(path).unwrap();
            let hello = b"\0\0\0\x15\x96\x01\xaalockkeeper\x01\x07\xa4rude\xa0";
            stream.write_all(hello).unwrap();
            stream.write_all(b"\0\0\0\x01\x90").unwrap();
            stream.read_to_end(&mut answer).unwrap();
            let is_rude = |recorded: &Recorded| recorded.field("program") == "rude";
            let begun = recorded_once("session begun", is_rude).await;
            let ended = recorded_once("session ended", is_rude).await;
            assert_is(&ended, Level::WARN, "lockkeeper::session");
            assert!(ended.field("reason").contains("bad frame"), "{ended:?}");
            assert_eq!(ended.field("session"), begun.field("session"));

            let _silent = UnixStream::connect(path).unwrap();
            let is_full = reason("at most 2 sessions");
            until("the manager has no room", || async {
                let mut third = UnixStream::connect(path).unwrap();
                // An accepted client gets no answer before its hello.
                third
                    .set_read_timeout(Some(Duration::from_millis(10)))
                    .unwrap();
                third.read(&mut [0; 64]).is_ok_and(|length| length > 0)
            })
            .await;
            let refused = recorded("client refused", is_full);
            assert_is(&refused[0], Level::WARN, "lockkeeper::session");
        });
    });
}

#[test]
fn workers_and_failed_tasks_of_a_pool_are_recorded() {
    in_own_process(|| {
        run(async {
            let pool = Pool::builder(1)
                .retry(Retry::attempts(2))
                .start()
                .await
                .unwrap();
            let pid = pool.pids().await[0].to_string();
            let is_worker = |recorded: &Recorded| recorded.field("pid") == pid;
            for message in ["worker started", "worker ready"] {
                let shown = recorded_once(message, is_worker).await;
                assert_is(&shown, Level::DEBUG, "lockkeeper::pool");
                assert_eq!(shown.field("place"), "0");
            }
            assert_eq!(pool.apply(Double(4)).await.unwrap(), 8);
            assert!(recorded("task panicked", |_| true).is_empty());
            pool.apply(Double(13)).await.unwrap_err();
            let shown = recorded_once("task panicked", |_| true).await;
            assert_is(&shown, Level::WARN, "lockkeeper::pool");
            assert_eq!(
                (shown.field("task"), shown.field("why")),
                ("double", "thirteen is too much")
            );

            pool.apply(Double(14)).await.unwrap_err();
            let died = recorded_once("worker died", is_worker).await;
            assert_is(&died, Level::WARN, "lockkeeper::pool");
            assert!(died.field("status").contains("signal: 6"), "{died:?}");
            let anew = recorded_once("job restarted: its worker died", is_worker).await;
            assert_is(&anew, Level::WARN, "lockkeeper::object");
            assert_eq!(
                (anew.field("kind"), anew.field("jobs")),
                ("task_queue", "1")
            );
            let failed = recorded_once("task failed: its worker died", |_| true).await;
            assert_is(&failed, Level::WARN, "lockkeeper::pool");
            assert_ne!(failed.field("pid"), pid, "the second worker died too");

            pool.join().await.unwrap();
            let ended = recorded_once("worker ended", |_| true).await;
            assert_is(&ended, Level::DEBUG, "lockkeeper::pool");
            assert!(ended.field("status").contains("status: 0"), "{ended:?}");
        });
    });
}

/// Returns the string literals of a source, in order.
fn texts(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

#[test]
fn document_lists_exactly_the_events_and_numbers_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let telemetry = fs::read_dir(root.join("src/telemetry")).unwrap();
    let telemetry = telemetry.map(|entry| entry.unwrap().path());
    let mut sources = vec![read("actors/src/host/watch.rs")];
    sources.extend(telemetry.map(|path| read(path.to_str().unwrap())));
    for source in &mut sources {
        let code = source.find("\n#[cfg(test)]\n").unwrap_or(source.len());
        source.truncate(code);
    }
    let mut shown = BTreeSet::new();
    for source in &sources {
        for event in source.split("tracing::").skip(1) {
            let Some((level, rest)) = event.split_once("!(") else {
                continue;
            };
            let level = level.strip_suffix("_span").unwrap_or(level).to_owned();
            if ["trace", "debug", "info", "warn", "error"].contains(&&*level) {
                let event = rest.split(");").next().unwrap();
                let message = texts(event).filter(|text| *text != "unknown" && *text != "refused");
                shown.insert((level, message.last().expect("it says something").to_owned()));
            }
        }
        for name in texts(source).filter(|text| text.starts_with("lockkeeper_")) {
            shown.insert(("number".to_owned(), name.to_owned()));
        }
    }
    let mut listed = BTreeSet::new();
    for row in read("docs/OBSERVING.md").lines() {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (Some(what), Some(level)) = (cells.next(), cells.next()) else {
            continue;
        };
        let Some(what) = what
            .strip_prefix('`')
            .and_then(|what| what.strip_suffix('`'))
        else {
            continue;
        };
        if what.starts_with("lockkeeper_") {
            listed.insert(("number".to_owned(), what.to_owned()));
        } else if !what.starts_with("lockkeeper::") {
            listed.insert((level.to_owned(), what.to_owned()));
        }
    }
    assert_eq!(shown, listed);
    assert!(shown.len() > 50, "there are more: {shown:?}");
}
