//! The sessions that may act for a holder: its own session with the number of the call, and another session
//! with a signed call, but not with a guess. Each kind has a table of operations.

use lockkeeper_actors::{
    Bench, CallId, Operation, Primitive, Proof, Refusal, Serve, SessionId,
    codec::{self, Blob},
    data::{Done, Get, Put, PutBack, Queue, QueueSpec},
    sync::{
        Access, Acquire, AcquireAs, AcquireFor, AcquireKey, AcquireKeyMany, AcquireMany, Adopt,
        AdoptAs, AdoptKey, Arrive, Barrier, Condition, Downgrade, Finish, Forget, Key, KeyedLock,
        KeyedSemaphore, Lock, MarkConsistent, Notify, ReentrantLock, Release, ReleaseAny,
        ReleaseAnyKey, ReleaseBy, ReleasePermits, RwLock, Semaphore, SemaphoreSpec, Sleep, Upgrade,
    },
};

const HOLDER: u64 = 1;
const OTHER_SESSION: u64 = 2;

/// The effect of an operation on the hold that it names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Effect {
    Ends,
    Keeps,
    /// Only the holder's own session may call it, even with a ticket.
    OwnOnly,
}

use Effect::{Ends, Keeps, OwnOnly};

/// An operation that takes a proof, and returns its answer.
type Act<P> = fn(&mut Bench<P>, u64, Proof) -> Result<(), Refusal>;

fn ask<P, O, T>(bench: &mut Bench<P>, session: u64, operation: O) -> Result<(), Refusal>
where
    P: Serve<O>,
    O: Operation<Reply = Result<T, Refusal>>,
{
    let id = bench.call(session, operation);
    match bench.reply::<O>(id) {
        Some(observed) => observed.expect("no fault").map(drop),
        // The call waits, as that of a sleeper.
        None => Ok(()),
    }
}

/// Returns the signed call with one bit of its MAC changed.
fn forged(proof: Proof, bit: usize) -> Proof {
    let mut bytes = codec::encode(&proof).unwrap();
    let mac = bytes.len() - 16;
    bytes[mac + bit / 8] ^= 1 << (bit % 8);
    codec::decode(&bytes).unwrap()
}

/// Checks each operation of a kind from other sessions.
fn check<P: Primitive>(hold: fn() -> (Bench<P>, CallId), acts: &[(Act<P>, Effect)]) {
    for (place, (act, effect)) in acts.iter().enumerate() {
        let case = format!("{} operation {place}, {effect:?}", P::KIND);
        let (mut bench, grant) = hold();
        for seq in 0..2 * grant.seq() + 20 {
            let guessed = act(&mut bench, OTHER_SESSION, Proof::Own(seq));
            assert!(guessed.is_err(), "{case}: number {seq}");
        }
        let ticket = bench.signed(grant);
        for bit in 0..128 {
            let guessed = act(&mut bench, OTHER_SESSION, forged(ticket, bit));
            assert_eq!(guessed, Err(Refusal::NotHeld), "{case}: bit {bit}");
        }
        // Valid MACs of other grants.
        for other in [
            CallId::new(grant.session(), grant.seq() + 1),
            CallId::new(SessionId::new(OTHER_SESSION), grant.seq()),
        ] {
            let other = bench.signed(other);
            assert!(act(&mut bench, OTHER_SESSION, other).is_err(), "{case}");
        }
        assert!(!bench.is_revoked(grant), "{case}");

        let observed = act(&mut bench, OTHER_SESSION, ticket);
        match effect {
            OwnOnly => assert_eq!(observed, Err(Refusal::NotHeld), "{case}"),
            Ends | Keeps => assert_eq!(observed, Ok(()), "{case}"),
        }
        assert_eq!(bench.is_revoked(grant), *effect == Ends, "{case}");
        if *effect == Ends {
            for (session, again) in [(OTHER_SESSION, ticket), (HOLDER, Proof::own(grant))] {
                let observed = act(&mut bench, session, again);
                assert_eq!(
                    observed,
                    Err(Refusal::NotHeld),
                    "{case}: the hold has ended"
                );
            }
        }

        let (mut bench, grant) = hold();
        assert_eq!(act(&mut bench, HOLDER, Proof::own(grant)), Ok(()), "{case}");
    }
}

fn held<P: Serve<O>, O: Operation>(spec: P::Spec, operation: O) -> (Bench<P>, CallId) {
    let mut bench = Bench::new(spec).expect("the spec is valid");
    let grant = bench.call(HOLDER, operation);
    assert!(bench.is_answered(grant));
    (bench, grant)
}

fn release<P: Serve<Release>>(
    bench: &mut Bench<P>,
    session: u64,
    grant: Proof,
) -> Result<(), Refusal> {
    ask(bench, session, Release { grant })
}

fn mark<P: Serve<MarkConsistent>>(
    bench: &mut Bench<P>,
    session: u64,
    grant: Proof,
) -> Result<(), Refusal> {
    ask(bench, session, MarkConsistent { grant })
}

fn adopt<P: Serve<Adopt>>(bench: &mut Bench<P>, session: u64, grant: Proof) -> Result<(), Refusal> {
    ask(bench, session, Adopt { grant })
}

#[test]
fn no_guess_acts_for_the_holder_of_a_lock() {
    check::<Lock>(
        || held(ReleaseBy::Holder, Acquire),
        &[(release, Ends), (adopt, Ends), (mark, Keeps)],
    );
}

#[test]
fn no_guess_acts_for_the_owner_of_a_reentrant_lock() {
    check::<ReentrantLock>(
        || held(ReleaseBy::Holder, AcquireAs { owner: 7 }),
        &[
            (release, Ends),
            (
                // The owner's number is known, but it is no proof in another session.
                |bench, session, grant| ask(bench, session, AdoptAs { grant, owner: 7 }),
                Ends,
            ),
            (mark, Keeps),
        ],
    );
}

#[test]
fn the_number_of_an_owner_is_nothing_in_another_session() {
    let (mut bench, grant) = held::<ReentrantLock, _>(ReleaseBy::Holder, AcquireAs { owner: 7 });
    let stranger = bench.call(OTHER_SESSION, AcquireAs { owner: 7 });
    assert!(!bench.is_answered(stranger));
    release(&mut bench, HOLDER, Proof::own(grant)).unwrap();
    assert!(bench.is_answered(stranger));
}

#[test]
fn no_guess_acts_for_the_holder_of_a_condition() {
    let sleep: Act<Condition> = |bench, session, grant| {
        let set = String::new();
        ask(bench, session, Sleep { grant, set })
    };
    let notify: Act<Condition> = |bench, session, grant| {
        let (set, most) = (String::new(), Some(1));
        ask(bench, session, Notify { grant, set, most })
    };
    // The holder's sleep releases the lock, so the grant after waking is another one.
    check::<Condition>(
        || held(ReleaseBy::Holder, Acquire),
        &[
            (release, Ends),
            (adopt, Ends),
            (mark, Keeps),
            (notify, Keeps),
        ],
    );
    let (mut bench, grant) = held::<Condition, _>(ReleaseBy::Holder, Acquire);
    for seq in 0..20 {
        let observed = sleep(&mut bench, OTHER_SESSION, Proof::Own(seq));
        assert_eq!(observed, Err(Refusal::NotHeld));
    }
    let ticket = bench.signed(grant);
    assert_eq!(sleep(&mut bench, OTHER_SESSION, ticket), Ok(()));
    assert!(bench.is_revoked(grant));
}

#[test]
fn no_guess_acts_for_the_holder_of_a_readers_writer_lock() {
    let upgrade: Act<RwLock> = |bench, session, grant| ask(bench, session, Upgrade { grant });
    let downgrade: Act<RwLock> = |bench, session, grant| {
        let to = Access::Read;
        ask(bench, session, Downgrade { grant, to })
    };
    for access in [Access::Read, Access::Upgradable, Access::Write] {
        let hold = match access {
            Access::Read => || {
                let access = Access::Read;
                held(ReleaseBy::Holder, AcquireFor { access })
            },
            Access::Upgradable => || {
                let access = Access::Upgradable;
                held(ReleaseBy::Holder, AcquireFor { access })
            },
            Access::Write => || {
                let access = Access::Write;
                held(ReleaseBy::Holder, AcquireFor { access })
            },
        };
        check::<RwLock>(hold, &[(release, Ends), (mark, Keeps)]);
        if access == Access::Upgradable {
            check::<RwLock>(hold, &[(upgrade, OwnOnly), (downgrade, OwnOnly)]);
        }
    }
}

#[test]
fn a_ticket_of_an_upgraded_hold_ends_it_for_both_grants_that_the_holder_knows() {
    let access = Access::Upgradable;
    let (mut bench, grant) = held::<RwLock, _>(ReleaseBy::Holder, AcquireFor { access });
    let upgraded = bench.call(
        HOLDER,
        Upgrade {
            grant: Proof::own(grant),
        },
    );
    let tickets = [grant, upgraded].map(|grant| bench.signed(grant));
    let observed = tickets.map(|ticket| release(&mut bench, OTHER_SESSION, ticket));
    assert_eq!(observed, [Err(Refusal::NotHeld), Ok(())]);
    assert!(bench.is_revoked(grant) && bench.is_revoked(upgraded));
}

#[test]
fn no_guess_acts_for_the_holder_of_permits() {
    check::<Semaphore>(
        || held(SemaphoreSpec::from(3), AcquireMany { permits: 2 }),
        &[
            (
                |bench, session, grant| ask(bench, session, ReleasePermits { grant, permits: 2 }),
                Ends,
            ),
            (
                |bench, session, grant| ask(bench, session, Forget { grant, permits: 2 }),
                Ends,
            ),
            (mark, Keeps),
        ],
    );
    let (mut bench, grant) =
        held::<Semaphore, _>(SemaphoreSpec::from(3), AcquireMany { permits: 2 });
    let grant = bench.signed(grant);
    let observed = ask(
        &mut bench,
        OTHER_SESSION,
        ReleasePermits { grant, permits: 1 },
    );
    assert!(matches!(observed, Err(Refusal::Invalid(_))), "{observed:?}");
}

#[test]
fn no_guess_acts_for_the_holder_of_a_key() {
    let key = || Key::from("a");
    check::<KeyedLock>(
        || {
            let key = Key::from("a");
            held(ReleaseBy::Holder, AcquireKey { key })
        },
        &[
            (release, Ends),
            (
                |bench, session, grant| ask(bench, session, AdoptKey { grant }),
                Ends,
            ),
            (mark, Keeps),
        ],
    );
    check::<KeyedSemaphore>(
        || {
            let (key, permits) = (Key::from("a"), 2);
            held(SemaphoreSpec::from(3), AcquireKeyMany { key, permits })
        },
        &[(release, Ends), (mark, Keeps)],
    );
    let (mut bench, grant) = held::<KeyedLock, _>(ReleaseBy::Holder, AcquireKey { key: key() });
    bench.hang_up(HOLDER);
    let ticket = bench.signed(grant);
    let late = release(&mut bench, OTHER_SESSION, ticket);
    assert_eq!(
        late,
        Err(Refusal::NotHeld),
        "the session of the hold has ended"
    );
}

#[test]
fn no_guess_acknowledges_an_item_of_another_taker() {
    check::<Queue>(
        || {
            let spec = QueueSpec {
                capacity: None,
                schema: "item".to_owned(),
            };
            let mut bench = Bench::new(spec).unwrap();
            let item = Blob::from(vec![1]);
            bench.call(HOLDER, Put { item });
            let delivery = bench.call(HOLDER, Get);
            assert!(bench.is_answered(delivery));
            (bench, delivery)
        },
        &[
            (
                |bench, session, delivery| ask(bench, session, Done { delivery }),
                Ends,
            ),
            (
                |bench, session, delivery| ask(bench, session, PutBack { delivery }),
                Ends,
            ),
        ],
    );
}

#[test]
fn no_guess_finishes_the_action_of_another_party() {
    check::<Barrier>(
        || held(1.into(), Arrive { acts: true }),
        &[(
            |bench, session, turn| ask(bench, session, Finish { turn }),
            OwnOnly,
        )],
    );
}

/// Checks an object that any session may release: two calls hold it, at the same time or one after
/// the other, and a third one waits.
fn check_any<P, A, R>(spec: fn(ReleaseBy) -> P::Spec, acquire: fn() -> A, any: fn() -> R)
where
    P: Serve<A> + Serve<R>,
    A: Operation,
    R: Operation<Reply = Result<(), Refusal>>,
{
    let mut bench = Bench::<P>::new(spec(ReleaseBy::Holder)).unwrap();
    let grant = bench.call(HOLDER, acquire());
    for session in [HOLDER, OTHER_SESSION] {
        let observed = ask(&mut bench, session, any());
        let Err(Refusal::Invalid(why)) = observed else {
            panic!("{}: {observed:?}", P::KIND);
        };
        assert!(why.contains("ReleaseBy::Anyone"), "{why}");
    }
    assert!(!bench.is_revoked(grant));

    let mut bench = Bench::<P>::new(spec(ReleaseBy::Anyone)).unwrap();
    let nothing = ask(&mut bench, OTHER_SESSION, any());
    assert_eq!(nothing, Err(Refusal::NotHeld), "{}", P::KIND);
    // The later session has the lower number, so the order must be that of the grants.
    let calls: Vec<CallId> = [5, 4, 3, 2]
        .map(|session| bench.call(session, acquire()))
        .to_vec();
    for (turn, grant) in calls.iter().enumerate() {
        assert!(bench.is_answered(*grant), "{}", P::KIND);
        // The holder's own session may release it too, because another task of it may have the
        // guard.
        let session = if turn == 1 {
            grant.session().number()
        } else {
            9
        };
        assert_eq!(ask(&mut bench, session, any()), Ok(()), "{}", P::KIND);
        let void = calls.iter().map(|call| bench.is_revoked(*call));
        let void: Vec<bool> = void.collect();
        let order: Vec<bool> = (0..calls.len()).map(|place| place <= turn).collect();
        assert_eq!(void, order, "{}", P::KIND);
    }
    let nothing = ask(&mut bench, OTHER_SESSION, any());
    assert_eq!(nothing, Err(Refusal::NotHeld), "{}", P::KIND);
    // A hold that was released, withdrawn or ended with its session is not released again.
    let withdrawn = bench.call(6, acquire());
    bench.withdraw(withdrawn);
    bench.call(7, acquire());
    bench.hang_up(7);
    let nothing = ask(&mut bench, OTHER_SESSION, any());
    assert_eq!(nothing, Err(Refusal::NotHeld), "{}", P::KIND);
}

#[test]
fn any_session_releases_only_objects_with_that_rule() {
    let same = |release_by| release_by;
    let two = |release_by| SemaphoreSpec {
        permits: 2,
        release_by,
    };
    let any = || ReleaseAny;
    let any_key = || ReleaseAnyKey { key: "a".into() };
    check_any::<Lock, _, _>(same, || Acquire, any);
    check_any::<Condition, _, _>(same, || Acquire, any);
    check_any::<ReentrantLock, _, _>(same, || AcquireAs { owner: 1 }, any);
    for acquire in [
        || AcquireFor {
            access: Access::Read,
        },
        || AcquireFor {
            access: Access::Write,
        },
    ] {
        check_any::<RwLock, _, _>(same, acquire, any);
    }
    check_any::<Semaphore, _, _>(two, || AcquireMany { permits: 1 }, any);
    check_any::<KeyedLock, _, _>(same, || AcquireKey { key: "a".into() }, any_key);
    check_any::<KeyedSemaphore, _, _>(
        two,
        || AcquireKeyMany {
            key: "a".into(),
            permits: 1,
        },
        any_key,
    );
}

#[test]
fn any_session_releases_an_upgraded_hold_and_one_whose_upgrade_was_withdrawn() {
    let mut bench = Bench::<RwLock>::new(ReleaseBy::Anyone).unwrap();
    for undone in [false, true] {
        let access = Access::Upgradable;
        let grant = bench.call(HOLDER, AcquireFor { access });
        let upgraded = bench.call(
            HOLDER,
            Upgrade {
                grant: Proof::own(grant),
            },
        );
        assert!(bench.is_answered(upgraded));
        if undone {
            bench.withdraw(upgraded);
        }
        assert_eq!(ask(&mut bench, OTHER_SESSION, ReleaseAny), Ok(()));
        assert!(bench.is_revoked(grant) && bench.is_revoked(upgraded) != undone);
        let nothing = ask(&mut bench, OTHER_SESSION, ReleaseAny);
        assert_eq!(nothing, Err(Refusal::NotHeld));
    }
}

#[test]
fn keys_with_release_by_any_session_are_released_one_by_one() {
    let mut bench = Bench::<KeyedLock>::new(ReleaseBy::Anyone).unwrap();
    let keys = ["b", "a", "c"].map(Key::from);
    let grants = keys.map(|key| bench.call(HOLDER, AcquireKey { key }));
    let key = Key::from("a");
    assert_eq!(
        ask(&mut bench, OTHER_SESSION, ReleaseAnyKey { key }),
        Ok(())
    );
    let void = grants.map(|grant| bench.is_revoked(grant));
    assert_eq!(void, [false, true, false]);
    for key in ["a", "d", ""].map(Key::from) {
        let observed = ask(&mut bench, OTHER_SESSION, ReleaseAnyKey { key });
        assert_eq!(observed, Err(Refusal::NotHeld));
    }
}

#[test]
fn a_notification_that_its_receiver_could_not_use_goes_to_the_next_sleeper() {
    let mut bench = Bench::<Condition>::new(ReleaseBy::Anyone).unwrap();
    let sleepers = [3, 4].map(|session| {
        let grant = Proof::own(bench.call(session, Acquire));
        let set = String::new();
        bench.call(session, Sleep { grant, set })
    });
    let grant = Proof::own(bench.call(5, Acquire));
    let (set, most) = (String::new(), Some(1));
    bench.call(5, Notify { grant, set, most });
    release(&mut bench, 5, grant).unwrap();
    assert!(bench.is_answered(sleepers[0]) && !bench.is_answered(sleepers[1]));
    assert_eq!(ask(&mut bench, OTHER_SESSION, ReleaseAny), Ok(()));
    assert!(bench.is_revoked(sleepers[0]) && bench.is_answered(sleepers[1]));
}
