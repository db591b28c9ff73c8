//! Clients whose keys lack rights: each request that such a key does not allow is refused, and changes nothing.

use lockkeeper_actors::{
    Primitive,
    sync::{KeyedLock, Semaphore},
};
use lockkeeper_protocol::{
    Fault, Page, Proof, Question, Refusal,
    codec::BlobRef,
    frame::Request,
    operations::{
        Acquire, ForceUnlock, ForceUnlockKey, GetLockStatus, Release, ReleaseBy, SemaphoreSpec,
    },
};

use crate::{
    limits::Limits,
    peer_rights::PeerRights,
    server::session::tests::{Client, Heard, House, KIND, SPEC, encoded, number_of, operation},
    tests::raw::patiently,
};

impl House {
    /// Adds a client that has been welcomed, with the rights of its key.
    async fn welcome_with(&self, rights: PeerRights) -> Client {
        self.rights.replace(Some(rights));
        let client = self.welcome().await;
        self.rights.replace(None);
        client
    }

    /// Adds a client that may use the names that begin with `ci/`.
    async fn confined(&self) -> Client {
        self.welcome_with(PeerRights::new("k").with_prefix("ci/"))
            .await
    }
}

/// Checks that a fault is a refusal with all of the words.
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Fault>, words: &[&str]) {
    match outcome {
        Err(fault @ Fault::NotAllowed(_)) => {
            let shown = fault.to_string();
            for word in words
                .iter()
                .chain(&["not allowed to", "the key \"k\"", "use a"])
            {
                assert!(shown.contains(word), "{word}: {shown}");
            }
        }
        other => panic!("{words:?}: {other:?}"),
    }
}

impl Client {
    /// Opens an object without a name, and returns its name.
    async fn open_unnamed(&mut self) -> String {
        let number = self.open(KIND, None, Some(SPEC)).await.expect("a lock");
        let page: Page = self.ask(Question::All(0)).await.expect("it may inspect");
        assert_eq!(number, 0, "it is the first that this session opens");
        let last = page.objects.last().expect("the object");
        last.name.clone()
    }

    async fn names(&mut self, question: Question) -> Vec<String> {
        let page: Page = self.ask(question).await.expect("it may inspect");
        page.objects.into_iter().map(|object| object.name).collect()
    }
}

#[actix_rt::test]
async fn key_for_a_prefix_opens_and_makes_names_below_it_alone() {
    let house = House::new(Limits::default());
    let (mut all, mut confined) = (house.welcome().await, house.confined().await);
    all.open_lock("jobs").await;
    all.open_lock("ci").await;
    let spec = encoded(&SemaphoreSpec::from(2));
    for name in [
        "jobs", "ci", "CI/a", "c", " ci/a", "\u{e9}", "#ci/a", "none",
    ] {
        let opened = confined.open(KIND, Some(name), None).await;
        if name.starts_with('#') {
            // No object can have such a name.
            assert!(matches!(opened, Err(Fault::UnknownObject(_))), "{opened:?}");
            continue;
        }
        let words = ["to open", &format!("{name:?}"), "begin with \"ci/\""];
        assert_refused(opened, &words);
        // Whether it exists, and as which kind, makes no difference.
        assert_refused(confined.open(KIND, Some(name), Some(SPEC)).await, &words);
        let other = confined
            .open(Semaphore::KIND, Some(name), Some(&spec))
            .await;
        assert_refused(other, &words);
    }
    for name in ["ci/", "ci/a", "ci/#"] {
        let lock = confined.open_lock(name).await;
        confined.try_acquire(lock).await.expect("it is free");
        assert_eq!(confined.remove(name).await, Ok(()));
    }
    assert_eq!(all.names(Question::All(0)).await, ["jobs", "ci"]);
}

#[actix_rt::test]
async fn key_for_a_prefix_removes_and_inspects_below_it_alone() {
    let house = House::new(Limits::default());
    let (mut all, mut confined) = (house.welcome().await, house.confined().await);
    let mut waiter = house.welcome().await;
    for name in ["jobs", "ci/a", "other"] {
        let lock = all.open_lock(name).await;
        all.try_acquire(lock).await.expect("it is free");
        let (number, arguments) = operation(&Acquire);
        let lock = waiter.open_lock(name).await;
        waiter.send(lock, number, None, &arguments).await;
        assert_eq!(waiter.status(lock).await.waiting, 1);
    }
    for question in [Question::All, Question::Contended] {
        assert_eq!(all.names(question(0)).await, ["jobs", "ci/a", "other"]);
        assert_eq!(confined.names(question(0)).await, ["ci/a"]);
    }
    for name in ["jobs", "none"] {
        let named = confined.ask::<Page>(Question::Named(name.to_owned())).await;
        assert_refused(named, &["to inspect", name]);
        assert_refused(confined.remove(name).await, &["to remove", name]);
    }
    let own = Question::Named("ci/a".to_owned());
    assert_eq!(confined.names(own).await, ["ci/a"]);
    let unknown = Question::Named("ci/none".to_owned());
    let unknown = confined.ask::<Page>(unknown).await;
    assert_eq!(unknown, Err(Fault::UnknownObject("ci/none".to_owned())));
    let deadlocks = confined.ask::<Vec<()>>(Question::Deadlocks).await;
    assert_refused(deadlocks, &["to look for deadlocks", "\"ci/\""]);
    assert_eq!(all.names(Question::All(0)).await, ["jobs", "ci/a", "other"]);
}

#[actix_rt::test]
async fn unnamed_object_is_for_the_keys_whose_names_it_could_have() {
    let house = House::new(Limits::default());
    let mut all = house.welcome().await;
    let of_all = all.open_unnamed().await;
    let mut confined = house.confined().await;
    let own = confined.open_unnamed().await;
    assert_ne!(of_all, own);
    for (verb, refused) in [
        (
            "open",
            confined.open(KIND, Some(&of_all), None).await.map(drop),
        ),
        (
            "open",
            confined
                .open(KIND, Some(&of_all), Some(SPEC))
                .await
                .map(drop),
        ),
        (
            "open",
            confined
                .open(Semaphore::KIND, Some(&of_all), None)
                .await
                .map(drop),
        ),
        ("remove", confined.remove(&of_all).await),
    ] {
        assert_refused(refused, &[verb, &of_all, "unnamed objects"]);
    }
    let named = confined.ask::<Page>(Question::Named(of_all.clone())).await;
    assert_refused(named, &["inspect", &of_all]);
    assert_eq!(confined.names(Question::All(0)).await, [&*own]);
    // A session of another key for the same prefix, or for a part of it.
    for (prefix, may) in [
        ("ci/", true),
        ("c", true),
        ("ci/linux/", false),
        ("cj/", false),
    ] {
        let mut other = house
            .welcome_with(PeerRights::new("k").with_prefix(prefix))
            .await;
        let opened = other.open(KIND, Some(&own), None).await;
        match may {
            true => assert_eq!(opened, Ok(0)),
            false => assert_refused(opened, &["open", &own]),
        }
        let named = other.ask::<Page>(Question::Named(own.clone())).await;
        assert_eq!(named.is_ok(), may, "{prefix}");
    }
    assert_eq!(all.open(KIND, Some(&own), None).await, Ok(1));
    confined.remove(&own).await.expect("it is its own");
    let gone = confined.open(KIND, Some(&own), None).await;
    assert_eq!(gone, Err(Fault::UnknownObject(own)));
}

#[actix_rt::test]
async fn ticket_of_a_foreign_object_is_good_for_nothing_below_the_prefix() {
    let house = House::new(Limits::default());
    let (mut all, mut confined) = (house.welcome().await, house.confined().await);
    let jobs = all.open_lock("jobs").await;
    all.try_acquire(jobs).await.expect("it is free");
    let grant = Proof::Signed(all.sign(all.last_seq));
    let (number, arguments) = operation(&Release { grant });
    // The number of the object in the other session, and an object that the key may use.
    let own = confined.open_lock("ci/a").await;
    for object in [own, own + 1] {
        let told: Result<Result<(), Refusal>, Fault> =
            confined.call(object, number, None, &arguments).await;
        match object == own {
            true => assert_eq!(told, Ok(Err(Refusal::NotHeld))),
            false => assert!(matches!(told, Err(Fault::UnknownObject(_))), "{told:?}"),
        }
    }
    assert!(all.status(jobs).await.is_held);
}

#[actix_rt::test]
async fn key_without_administration_uses_objects_and_administers_none() {
    let house = House::new(Limits::default());
    let (mut all, rights) = (house.welcome().await, PeerRights::new("k"));
    let jobs = all.open_lock("jobs").await;
    all.try_acquire(jobs).await.expect("it is free");
    let mut user = house.welcome_with(rights.without_administration()).await;
    let own = user.open_lock("own").await;
    user.try_acquire(own).await.expect("it is free");
    let spec = encoded(&ReleaseBy::Holder);
    let keyed = user.open(KeyedLock::KIND, Some("keyed"), Some(&spec)).await;
    let jobs_too = user.open_lock("jobs").await;
    let (force, arguments) = operation(&ForceUnlock);
    for lock in [own, jobs_too] {
        let name = if lock == own { "own" } else { "jobs" };
        let words = ["to call force_unlock", name, "no-admin"];
        let forced = user.call::<bool>(lock, force, None, &arguments).await;
        assert_refused(forced, &words);
        // One way there is no answer, and nothing happens.
        let cast = Request::Cast {
            object: lock,
            operation: force,
            arguments: BlobRef(&arguments),
        };
        user.raw.send(&cast).await;
        let seq = user.seq();
        let reports = Request::ReportPipe {
            seq,
            object: lock,
            operation: force,
        };
        user.raw.send(&reports).await;
        match user.hear().await {
            Heard::Fault(_, fault) => assert_refused(Err::<(), _>(fault), &words),
            other => panic!("{other:?}"),
        }
    }
    let force_key = number_of::<KeyedLock>("force_unlock");
    let key = encoded(&ForceUnlockKey { key: "a".into() });
    let forced = user.call::<bool>(keyed.expect("a keyed lock"), force_key, None, &key);
    assert_refused(forced.await, &["to call force_unlock", "keyed", "no-admin"]);
    for name in ["own", "jobs", "none"] {
        assert_refused(user.remove(name).await, &["to remove", name, "no-admin"]);
        let named = user.ask::<Page>(Question::Named(name.to_owned())).await;
        assert_refused(named, &["to inspect", name, "no-admin"]);
    }
    for question in [Question::All(0), Question::Contended(0)] {
        assert_refused(
            user.ask::<Page>(question).await,
            &["inspect objects", "no-admin"],
        );
    }
    let deadlocks = user.ask::<Vec<()>>(Question::Deadlocks).await;
    assert_refused(deadlocks, &["to look for deadlocks", "no-admin"]);
    assert!(user.status(own).await.is_held && all.status(jobs).await.is_held);
}

#[actix_rt::test]
async fn calls_of_a_key_are_limited_for_each_session() {
    let limits = Limits {
        calls_in_flight: 3,
        ..Limits::default()
    };
    let house = House::new(limits);
    let mut holder = house.welcome().await;
    let lock = holder.open_lock("jobs").await;
    holder.try_acquire(lock).await.expect("it is free");
    let (number, arguments) = operation(&Acquire);
    for (most, counts) in [(2, 2), (5, 3)] {
        let rights = PeerRights::new("k").max_calls(most);
        let mut client = house.welcome_with(rights).await;
        let lock = client.open_lock("jobs").await;
        for _ in 0..counts {
            client.send(lock, number, None, &arguments).await;
        }
        let refused = client.call::<()>(lock, number, None, &arguments).await;
        let what = match most < limits.calls_in_flight {
            true => "calls in flight for the key \"k\"",
            false => "calls in flight",
        };
        assert_eq!(refused, Err(Fault::limit(what, counts)));
        // What need not wait is served.
        assert!(client.status(lock).await.is_held);
    }
}

#[actix_rt::test]
async fn sessions_of_a_key_are_limited_and_others_are_not() {
    let house = House::new(Limits::default());
    let rights = || PeerRights::new("k").max_sessions(2);
    let first = house.welcome_with(rights()).await;
    let mut second = house.welcome_with(rights()).await;
    house.rights.replace(Some(rights()));
    let third = house.let_in();
    third.raw.send(&super::hello(1)).await;
    let bye = third.hear_bye().await;
    assert!(
        bye.contains("at most 2 sessions with the key \"k\""),
        "{bye}"
    );
    // Of those that say no hello, there are as many at most.
    let silent = [house.let_in(), house.let_in()];
    let bye = house.let_in().hear_bye().await;
    assert!(bye.contains("at most 2 sessions"), "{bye}");
    house
        .welcome_with(PeerRights::new("other").max_sessions(1))
        .await;
    house.welcome().await;
    for client in silent {
        client.close().await;
    }
    first.close().await;
    house.welcome_with(rights()).await.close().await;
    assert!(second.is_served().await);
}

#[actix_rt::test]
async fn session_that_has_ended_counts_no_more_while_its_last_words_wait() {
    let house = House::new(Limits::default());
    let mut client = house
        .welcome_with(PeerRights::new("k").max_sessions(1))
        .await;
    let lock = client.open_lock("jobs").await;
    let (number, arguments) = operation(&GetLockStatus);
    // The answers fill the socket, and the client reads none.
    for _ in 0..20_000 {
        client.send(lock, number, None, &arguments).await;
    }
    client.raw.send(&super::hello(1)).await;
    patiently(async {
        while !house.context.counts.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!client.session.is_finished(), "it waits for its client");
}
