//! Keys that lack rights, and keys with limits of their own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use lockkeeper::{
    Address, BoundedSemaphore, CallError, Lock, Manager, Pool, Ticket, Value,
    builders::ManagerBuilder,
    deadlock::DeadlockPolicy,
    errors::{Fault, Refusal},
    kind::{Call, Operation, Operations, Primitive, Serve},
    lock_all,
};
use lockkeeper_test_support::{Link, Relay, in_own_process, until};
use serde::{Deserialize, Serialize};

use crate::{Site, log::Log, port, run, services::Squeeze};

/// A manager whose key file has several lines, and clients with one of these keys each.
struct Realm {
    site: Site,
    manager: Manager,
    lines: Vec<String>,
}

impl Realm {
    /// Starts a manager. Each of the options is for a key of its own, with the names `k0`, `k1` and so on.
    async fn start(options: &[&str]) -> Self {
        Self::build(options, |builder| builder).await
    }

    async fn build(options: &[&str], build: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> Self {
        let site = Site::new();
        let lines: Vec<String> = (0..)
            .zip(options)
            .map(|(number, options)| {
                let secret = format!("{number:02x}").repeat(32);
                format!("k{number} {secret} {options}\n")
            })
            .collect();
        fs::write(site.key(), lines.concat()).unwrap();
        // Each client has another address of the machine, as this process has one key for each endpoint.
        let builder = site.builder().listen("tls://0.0.0.0:0");
        let manager = build(builder).start().await.unwrap();
        let realm = Self {
            site,
            manager,
            lines,
        };
        for number in 0..options.len() {
            fs::write(realm.key(number), &realm.lines[number]).unwrap();
            fs::set_permissions(realm.key(number), Permissions::from_mode(0o600)).unwrap();
        }
        realm
    }

    /// The key file of a client.
    fn key(&self, number: usize) -> PathBuf {
        self.site.path(&format!("k{number}"))
    }

    fn address(&self, number: usize) -> Address {
        let host = number + 1;
        let port = port(&self.manager.endpoints()[0]);
        format!("tls://127.0.0.{host}:{port}").parse().unwrap()
    }

    /// Connects with a key.
    async fn client(&self, number: usize) -> Result<Manager, CallError> {
        let client = Manager::client().reconnect().key_file(self.key(number));
        client.connect(self.address(number)).await
    }

    /// The same token or proxy, as a client with another key gets it.
    fn passed<T: Serialize, U: for<'a> Deserialize<'a>>(
        &self,
        proxy: &T,
        from: usize,
        to: usize,
    ) -> U {
        let text = serde_json::to_string(proxy).unwrap();
        let [from, to] = [from, to].map(|number| self.address(number).to_string());
        assert!(text.contains(&from), "{text}");
        serde_json::from_str(&text.replace(&from, &to)).unwrap()
    }
}

/// Checks that an outcome is a refusal with all of the words.
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, CallError>, words: &[&str]) {
    match outcome {
        Err(CallError::Fault(fault @ Fault::NotAllowed(_))) => {
            let shown = fault.to_string();
            for word in words {
                assert!(shown.contains(word), "{word}: {shown}");
            }
        }
        other => panic!("{words:?}: {other:?}"),
    }
}

/// A kind of this test, with an operation for administrators.
#[derive(Debug)]
struct Tally(u64);

#[derive(Debug, Serialize, Deserialize)]
struct Add(u64);

impl Operation for Add {
    const NAME: &'static str = "add";
    type Reply = u64;
}

#[derive(Debug, Serialize, Deserialize)]
struct Clear;

impl Operation for Clear {
    const NAME: &'static str = "clear";
    const IS_ADMINISTRATIVE: bool = true;
    type Reply = u64;
}

impl Primitive for Tally {
    const KIND: &'static str = "net::tally";
    type Spec = u64;

    fn create(spec: u64) -> Result<Self, Refusal> {
        Ok(Self(spec))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Add>().on::<Clear>();
    }
}

impl Serve<Add> for Tally {
    fn serve(&mut self, Add(more): Add, call: Call<u64>) {
        self.0 += more;
        call.reply(self.0);
    }
}

impl Serve<Clear> for Tally {
    fn serve(&mut self, Clear: Clear, call: Call<u64>) {
        call.reply(std::mem::take(&mut self.0));
    }
}

/// Opens an object of each kind by name, and returns the outcomes by kind.
async fn open_all(manager: &Manager, name: &str) -> Vec<(&'static str, Result<(), CallError>)> {
    let named = |kind: &str| format!("{name}{kind}");
    vec![
        ("lock", manager.named(&named("lock")).lock().await.map(drop)),
        (
            "reentrant_lock",
            manager
                .named(&named("reentrant_lock"))
                .reentrant_lock()
                .await
                .map(drop),
        ),
        (
            "condition",
            manager
                .named(&named("condition"))
                .condition()
                .await
                .map(drop),
        ),
        (
            "event",
            manager.named(&named("event")).event().await.map(drop),
        ),
        (
            "semaphore",
            manager
                .named(&named("semaphore"))
                .semaphore(1)
                .await
                .map(drop),
        ),
        (
            "bounded_semaphore",
            manager
                .named(&named("bounded_semaphore"))
                .bounded_semaphore(1)
                .await
                .map(drop),
        ),
        (
            "barrier",
            manager.named(&named("barrier")).barrier(2).await.map(drop),
        ),
        (
            "rw_lock",
            manager.named(&named("rw_lock")).rw_lock().await.map(drop),
        ),
        (
            "latch",
            manager.named(&named("latch")).latch(1).await.map(drop),
        ),
        (
            "queue",
            manager
                .named(&named("queue"))
                .queue::<u64>(1)
                .await
                .map(drop),
        ),
        (
            "unbounded_queue",
            manager
                .named(&named("unbounded_queue"))
                .unbounded_queue::<u64>()
                .await
                .map(drop),
        ),
        (
            "value",
            manager.named(&named("value")).value(0_u64).await.map(drop),
        ),
        (
            "keyed_lock",
            manager
                .named(&named("keyed_lock"))
                .keyed_lock()
                .await
                .map(drop),
        ),
        (
            "keyed_semaphore",
            manager
                .named(&named("keyed_semaphore"))
                .keyed_semaphore(1)
                .await
                .map(drop),
        ),
        (
            "net::tally",
            manager
                .named(&named("net::tally"))
                .open::<Tally>(0)
                .await
                .map(drop),
        ),
    ]
}

#[test]
fn key_for_a_prefix_opens_all_kinds_below_it_alone() {
    run(async {
        for shards in [1, 2] {
            let build = |builder: ManagerBuilder| builder.shards(shards).register::<Tally>();
            let realm = Realm::build(&["", "prefix=ci/"], build).await;
            let (all, confined) = (
                realm.client(0).await.unwrap(),
                realm.client(1).await.unwrap(),
            );
            for exists in [false, true] {
                for (kind, outcome) in open_all(&confined, "other/").await {
                    let name = format!("\"other/{kind}\"");
                    let words = ["to open", &name, "the key \"k1\"", "\"ci/\"", "another key"];
                    assert_refused(outcome, &words);
                }
                let made = all.inspect().await.unwrap().objects.len();
                assert_eq!(made, if exists { 15 } else { 0 });
                for (kind, outcome) in open_all(&all, "other/").await {
                    outcome.unwrap_or_else(|error| panic!("{kind}: {error}"));
                }
            }
            for (kind, outcome) in open_all(&confined, "ci/").await {
                outcome.unwrap_or_else(|error| panic!("{kind}: {error}"));
            }
            // What it sees is its own.
            let seen = confined.inspect().await.unwrap();
            assert_eq!(seen.objects.len(), 15);
            assert!(seen.objects.iter().all(|it| it.name.starts_with("ci/")));
            let seen = serde_json::to_string(&seen).unwrap();
            assert!(!seen.contains("other/"), "{seen}");
            assert_eq!(all.inspect().await.unwrap().objects.len(), 30);
            for name in ["other/lock", "other/none"] {
                assert_refused(confined.remove(name).await, &["to remove", name, "\"k1\""]);
            }
            confined.remove("ci/lock").await.unwrap();
            assert_eq!(all.inspect().await.unwrap().objects.len(), 29);
        }
    });
}

#[test]
fn proxy_or_ticket_of_a_foreign_object_is_refused() {
    run(async {
        let realm = Realm::start(&["", "prefix=ci/"]).await;
        let (all, confined) = (
            realm.client(0).await.unwrap(),
            realm.client(1).await.unwrap(),
        );
        for name in [Some("jobs"), None] {
            let lock = match name {
                Some(name) => all.named(name).lock().await.unwrap(),
                None => all.lock().await.unwrap(),
            };
            let stolen: Lock = realm.passed(&lock, 0, 1);
            let told = name.unwrap_or("\"#");
            assert_refused(
                stolen.acquire().await.map(drop),
                &["to open", told, "\"k1\""],
            );
            assert_refused(stolen.force_unlock().await, &["to open", told]);
            assert_refused(stolen.info().await, &["to open", told]);
            let own = confined.named("ci/lock").lock().await.unwrap();
            let both = lock_all([&own, &stolen]).await;
            assert_refused(both, &["to open", told]);
            assert!(!own.status().await.unwrap().is_held);
            // A ticket names the grant alone, so it needs an object that the key may use.
            let guard = lock.acquire().await.unwrap();
            let ticket: Ticket = guard.into_ticket();
            let adopted = stolen.adopt(ticket.clone()).await.map(drop);
            assert_refused(adopted, &["to open", told]);
            assert_refused(
                stolen.release_ticket(ticket.clone()).await,
                &["to open", told],
            );
            let adopted = own.adopt(ticket.clone()).await.map(drop);
            assert!(
                matches!(adopted, Err(CallError::Refused(Refusal::NotHeld, _))),
                "{adopted:?}"
            );
            assert!(own.release_ticket(ticket).await.is_err());
            assert!(lock.status().await.unwrap().is_held);
        }
    });
}

#[test]
fn unnamed_object_is_for_the_keys_of_its_prefix_and_their_children() {
    run(async {
        let realm = Realm::start(&["", "prefix=ci/", "prefix=ci/", "prefix=web/"]).await;
        let confined = realm.client(1).await.unwrap();
        let value = confined.value(7_u64).await.unwrap();
        let same: Value<u64> = realm.passed(&value, 1, 2);
        realm.client(2).await.unwrap();
        assert_eq!(same.get().await.unwrap(), 7);
        let other: Value<u64> = realm.passed(&value, 1, 3);
        realm.client(3).await.unwrap();
        assert_refused(other.get().await, &["to open", "\"#", "\"k3\"", "\"web/\""]);
        // The workers of a pool have the key of this process.
        let permits: BoundedSemaphore = confined.bounded_semaphore(2).await.unwrap();
        let pool = Pool::new(2).await.unwrap();
        let tasks = (0..4).map(|_| Squeeze(permits.clone()));
        for outcome in pool.try_map(tasks).await.unwrap() {
            outcome.unwrap();
        }
    });
}

#[test]
fn key_without_administration_may_not_administer_what_it_uses() {
    run(async {
        let build = |builder: ManagerBuilder| {
            let builder = builder.deadlocks(DeadlockPolicy::new());
            builder.register::<Tally>()
        };
        let realm = Realm::build(&["", "no-admin", "no-admin prefix=ci/"], build).await;
        let all = realm.client(0).await.unwrap();
        for number in [1, 2] {
            let user = realm.client(number).await.unwrap();
            let lock = user.named("ci/lock").lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            let tally = user.named("ci/tally").open::<Tally>(1).await.unwrap();
            tally.call(Add(2)).await.unwrap();
            let key = format!("the key \"k{number}\" has no-admin");
            for (outcome, what) in [
                (
                    lock.force_unlock().await.map(drop),
                    "to call force_unlock of \"ci/lock\"",
                ),
                (
                    tally.call(Clear).await.map(drop),
                    "to call clear of \"ci/tally\"",
                ),
                (lock.info().await.map(drop), "to inspect \"ci/lock\""),
                (user.inspect().await.map(drop), "to inspect objects"),
                (
                    user.inspect_contended().await.map(drop),
                    "to inspect objects",
                ),
                (user.deadlocks().await.map(drop), "to look for deadlocks"),
                (user.remove("ci/lock").await, "to remove \"ci/lock\""),
            ] {
                assert_refused(outcome, &[what, &key, "use a key without it"]);
            }
            assert!(guard.is_valid());
            assert_eq!(tally.call(Add(0)).await.unwrap(), 3);
            guard.release().await.unwrap();
            let tally = all.named("ci/tally").open::<Tally>(1).await.unwrap();
            assert_eq!(tally.call(Clear).await.unwrap(), 3);
            tally.call(Add(1)).await.unwrap();
        }
        assert_eq!(all.deadlocks().await.unwrap(), []);
        let lock = all.named("ci/lock").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        assert!(lock.force_unlock().await.unwrap());
        all.remove("ci/lock").await.unwrap();
    });
}

#[test]
fn deadlock_shows_a_confined_client_its_own_names_alone() {
    run(async {
        let deadlocks = DeadlockPolicy::new()
            .fail()
            .every(Duration::from_millis(20));
        let build = |builder: ManagerBuilder| builder.deadlocks(deadlocks);
        let realm = Realm::build(&["", "prefix=ci/"], build).await;
        let (all, confined) = (
            realm.client(0).await.unwrap(),
            realm.client(1).await.unwrap(),
        );
        assert_refused(
            confined.deadlocks().await,
            &["to look for deadlocks", "\"k1\""],
        );
        let own_a = confined.named("ci/a").lock().await.unwrap();
        let own_b = confined.named("ci/b").lock().await.unwrap();
        let guard = own_a.acquire().await.unwrap();
        let mut tasks = Vec::new();
        for (holds, wants) in [("secret", "ci/a"), ("ci/b", "secret")] {
            let holds = all.named(holds).lock().await.unwrap();
            let wants = all.named(wants).lock().await.unwrap();
            tasks.push(tokio::spawn({
                let holds = holds.clone();
                async move {
                    let _held = holds.acquire().await.unwrap();
                    wants.acquire().await.map(drop)
                }
            }));
            until("the task holds it", async || {
                holds.status().await.unwrap().is_held
            })
            .await;
        }
        let secret = all.named("secret").lock().await.unwrap();
        let a = all.named("ci/a").lock().await.unwrap();
        until("both wait", async || {
            let waits = async |lock: &Lock| lock.status().await.unwrap().waiting == 1;
            waits(&secret).await && waits(&a).await
        })
        .await;
        // This call began to wait last, so it fails.
        let failed = own_b.acquire().await.map(drop).unwrap_err();
        assert!(matches!(failed, CallError::Deadlock(_)), "{failed}");
        let shown = format!("{failed} {failed:?}");
        for seen in ["deadlock of 3", "ci/a", "ci/b", "(not shown)"] {
            assert!(shown.contains(seen), "{seen}: {shown}");
        }
        assert!(!shown.contains("secret"), "{shown}");
        guard.release().await.unwrap();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

#[test]
fn administration_is_told_with_the_key_and_the_host() {
    in_own_process(|| {
        run(async {
            let log = Log::start();
            let build = |builder: ManagerBuilder| builder.register::<Tally>();
            let realm = Realm::build(&["", "no-admin"], build).await;
            let (all, user) = (
                realm.client(0).await.unwrap(),
                realm.client(1).await.unwrap(),
            );
            for client in [&all, &user] {
                let lock = client.named("lock").lock().await.unwrap();
                let _ = lock.force_unlock().await;
                let tally = client.named("tally").open::<Tally>(0).await.unwrap();
                let _ = tally.call(Clear).await;
                let _ = lock.info().await;
                let _ = client.remove("none").await;
                let _ = client.inspect().await;
            }
            all.remove("lock").await.unwrap();
            for event in [
                ["WARN", "hold taken by force", "name=\"lock\""],
                ["INFO", "administrative call", "operation=\"clear\""],
                [
                    "DEBUG",
                    "client inspected objects",
                    "about=\"named\" name=\"lock\"",
                ],
                ["DEBUG", "client inspected objects", "about=\"all\""],
                ["INFO", "client removed an object", "name=\"lock\""],
            ] {
                let who = ["key=\"k0\"", "host=\"127.0.0.1\"", "pid="];
                log.wait_for(1, &[&event[..], &who].concat()).await;
            }
            // What was refused was not done.
            for line in log
                .text()
                .lines()
                .filter(|line| line.contains("key=\"k1\""))
            {
                assert!(line.contains("session begun"), "{line}");
            }
        });
    });
}

#[test]
fn sessions_of_a_key_end_and_make_room() {
    run(async {
        let realm = Realm::start(&["", "sessions=1"]).await;
        let all = realm.client(0).await.unwrap();
        let one = realm.client(1).await.unwrap();
        let lock = one.named("lock").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        // Another address of the machine, and so another connection.
        let client = Manager::client().key_file(realm.key(1));
        let port = port(&realm.manager.endpoints()[0]);
        let refused = client.connect(format!("tls://127.0.0.9:{port}")).await;
        let shown = refused.map(drop).unwrap_err().to_string();
        for word in [
            "at most 1 sessions",
            "the key \"k1\"",
            "the key file of the manager",
        ] {
            assert!(shown.contains(word), "{shown}");
        }
        assert!(guard.is_valid());
        drop((guard, lock, one));
        until("the session has ended", async || {
            let client = Manager::client().key_file(realm.key(1));
            client
                .connect(format!("tls://127.0.0.9:{port}"))
                .await
                .is_ok()
        })
        .await;
        all.inspect().await.unwrap();
    });
}

#[test]
fn client_that_connects_again_takes_its_own_place() {
    run(async {
        let realm = Realm::start(&["", "sessions=1"]).await;
        let relay = Relay::start(0, port(&realm.manager.endpoints()[0]));
        let address = format!("tls://127.0.0.1:{}", relay.port());
        let client = Manager::client().reconnect().key_file(realm.key(1));
        let client = client.connect(address).await.unwrap();
        let lock = client.named("lock").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        relay.set(Link::CutAtClient);
        guard.lost().await;
        relay.set(Link::Up);
        let again = lock.acquire().await.unwrap();
        assert!(again.abandoned().is_some());
    });
}

#[test]
fn calls_of_a_key_are_limited() {
    run(async {
        let realm = Realm::start(&["", "calls=2"]).await;
        let held = realm.manager.named("lock").lock().await.unwrap();
        let _guard = held.acquire().await.unwrap();
        let limited = realm.client(1).await.unwrap();
        let lock = limited.named("lock").lock().await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let lock = lock.clone();
                tokio::spawn(async move { lock.acquire().await.map(drop) })
            })
            .collect();
        until("both wait", async || {
            held.status().await.unwrap().waiting == 2
        })
        .await;
        let shown = lock.acquire().await.unwrap_err().to_string();
        assert!(
            shown.contains("at most 2 calls in flight for the key \"k1\""),
            "{shown}"
        );
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn changed_file_is_for_sessions_that_begin_later() {
    run(async {
        let realm = Realm::start(&["", "", "prefix=ci/"]).await;
        let [free, confined] = [1, 2].map(|number| realm.client(number));
        let (free, confined) = (free.await.unwrap(), confined.await.unwrap());
        let [all, one, two] = &*realm.lines else {
            panic!("three lines");
        };
        let one = one.trim();
        let two = two.replace("prefix=ci/", "");
        // A file with a bad line changes nothing.
        for bad in ["no-admn", "prefix=a b", "sessions=0", "no-admin no-admin"] {
            fs::write(realm.site.key(), format!("{all}{one} {bad}\n{two}")).unwrap();
            let port = port(&realm.manager.endpoints()[0]);
            let again = Manager::client().key_file(realm.key(1));
            let again = again.connect(format!("tls://127.0.0.8:{port}")).await;
            again.unwrap().inspect().await.unwrap();
        }
        fs::write(realm.site.key(), format!("{all}{one} no-admin\n{two}")).unwrap();
        let port = port(&realm.manager.endpoints()[0]);
        let again = Manager::client().key_file(realm.key(1));
        let again = again
            .connect(format!("tls://127.0.0.7:{port}"))
            .await
            .unwrap();
        assert_refused(again.inspect().await, &["\"k1\" has no-admin"]);
        let again = Manager::client().key_file(realm.key(2));
        let again = again
            .connect(format!("tls://127.0.0.6:{port}"))
            .await
            .unwrap();
        again.named("any").lock().await.unwrap();
        // The first sessions go on as they began.
        free.inspect().await.unwrap();
        let refused = confined.named("any").lock().await.map(drop);
        assert_refused(refused, &["\"ci/\""]);
    });
}

#[test]
fn bad_line_is_told_at_the_start_and_to_a_client() {
    run(async {
        let site = Site::new();
        let key = fs::read_to_string(site.key()).unwrap();
        let manager = site.start().await;
        let line = key.lines().last().unwrap();
        let (_, digits) = line.split_once(' ').unwrap();
        for (bad, why) in [
            (
                format!("{line} no-admn"),
                "line 1 has a word after the key that is no option",
            ),
            (format!("{line} prefix=a b"), "a prefix has no spaces"),
            (format!("{line} prefix="), "line 1 has an empty prefix"),
            (
                format!("{line} calls=1 calls=1"),
                "line 1 has the option calls twice",
            ),
            (
                format!("{line} sessions=0"),
                "line 1 has the limit sessions=0",
            ),
            (
                format!("{line}\n{line} no-admin"),
                "line 2 has the name of an earlier key",
            ),
        ] {
            let other = Site::new();
            fs::write(other.key(), &bad).unwrap();
            let started = other.builder().listen("tls://127.0.0.1:0").start().await;
            let shown = started.map(drop).unwrap_err().to_string();
            let connected = other.connect(&manager.endpoints()[0]).await;
            let also = connected.map(drop).unwrap_err().to_string();
            for shown in [shown, also] {
                assert!(shown.contains(why), "{shown}");
                assert!(shown.contains(other.key().to_str().unwrap()), "{shown}");
                assert!(!shown.contains(digits), "{shown}");
            }
        }
        // The options of a client's own file change nothing: the file of the manager counts.
        let other = Site::new();
        fs::write(other.key(), format!("{line} no-admin prefix=ci/\n")).unwrap();
        let client = other.connect(&manager.endpoints()[0]).await.unwrap();
        client.inspect().await.unwrap();
    });
}
