//! Deadlocks in small graphs, written by hand and drawn at random. The test checks a random graph against a
//! search of all subsets of callers.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::server::deadlock::graph::{Resource, WaitIndex, cycles};

/// A resource whose holders and waiters are callers with names of one letter.
fn resource(units: u64, holders: &str, waiters: &str) -> Resource<char> {
    let one = |letters: &str| letters.chars().map(|caller| (Some(caller), 1)).collect();
    Resource {
        units: Some(units),
        holders: one(holders),
        waiters: one(waiters),
    }
}

fn lock(holder: &str, waiters: &str) -> Resource<char> {
    resource(1, holder, waiters)
}

/// The callers of each deadlock, in order.
fn found(resources: &[Resource<char>]) -> Vec<String> {
    let cycles = cycles(resources).into_iter();
    let mut found: Vec<String> = cycles
        .map(|cycle| cycle.callers.into_keys().collect())
        .collect();
    found.sort();
    found
}

const NONE: [&str; 0] = [];

#[test]
fn two_that_wait_for_each_other_are_a_circle() {
    assert_eq!(found(&[lock("a", "b"), lock("b", "a")]), ["ab"]);
}

#[test]
fn one_that_waits_for_itself_is_a_circle() {
    assert_eq!(found(&[lock("a", "a")]), ["a"]);
}

#[test]
fn who_waits_behind_a_circle_is_not_of_it() {
    assert_eq!(
        found(&[lock("a", "bx"), lock("b", "a"), lock("x", "y")]),
        ["ab"]
    );
}

#[test]
fn waits_that_converge_are_no_circle() {
    let resources = [lock("a", "bcd"), lock("b", "cd"), lock("c", "d")];
    assert_eq!(found(&resources), NONE);
}

#[test]
fn circle_may_go_through_the_line_of_a_lock() {
    // b waits before c at the first lock, and waits for the lock that c holds; a can proceed.
    assert_eq!(found(&[lock("a", "bc"), lock("c", "b")]), NONE);
    // c holds the lock that a wants, and waits behind b, which wants the lock that a holds.
    let resources = [lock("a", "bc"), lock("c", "a")];
    assert_eq!(found(&resources), ["abc"], "b goes on only when a does");
}

#[test]
fn semaphore_counts_when_all_its_permits_are_in_the_circle() {
    let cycle = |third| [resource(3, third, "x"), lock("x", "abc")];
    assert_eq!(found(&cycle("abc")), ["abcx"]);
    assert_eq!(found(&cycle("abo")), NONE, "one permit is outside");
    assert_eq!(found(&cycle("ab")), NONE, "one permit is free");
}

#[test]
fn who_wants_several_units_waits_for_as_many() {
    let mut many = resource(3, "ab", "x");
    many.waiters[0].1 = 2;
    assert_eq!(found(&[many.clone(), lock("x", "ab")]), ["abx"]);
    many.waiters[0].1 = 1;
    assert_eq!(found(&[many.clone(), lock("x", "ab")]), NONE);
    many.waiters[0].1 = 4;
    assert_eq!(found(&[many, lock("x", "ab")]), NONE, "more than there is");
}

#[test]
fn readers_wait_for_the_writer_before_them_and_the_writer_for_all_readers() {
    let write = |caller| (Some(caller), u64::MAX);
    let shared = Resource {
        units: Some(u64::MAX),
        holders: vec![(Some('r'), 1), (Some('s'), 1)],
        waiters: vec![write('w'), (Some('t'), 1)],
    };
    assert_eq!(found(&[shared.clone(), lock("t", "s")]), ["stw"]);
    assert_eq!(found(&[shared, lock("o", "s")]), NONE);
    let written = Resource {
        units: Some(u64::MAX),
        holders: vec![write('w')],
        waiters: vec![(Some('r'), 1), (Some('s'), 1)],
    };
    assert_eq!(found(&[written, lock("r", "w")]), ["rw"]);
}

#[test]
fn what_any_session_may_end_is_no_reason_to_wait_for_ever() {
    let event = Resource {
        units: None,
        holders: vec![],
        waiters: vec![(Some('a'), 1)],
    };
    assert_eq!(found(&[event, lock("a", "b")]), NONE);
}

#[test]
fn caller_that_waits_for_several_things_goes_on_with_any_of_them() {
    let resources = [lock("a", "b"), lock("b", "a"), lock("o", "a")];
    assert_eq!(found(&resources), NONE, "a may get what o holds");
    let resources = [lock("a", "bb"), lock("b", "a"), lock("b", "a")];
    assert_eq!(found(&resources), ["ab"]);
}

#[test]
fn who_is_not_known_goes_on() {
    let mut stranger = lock("a", "b");
    stranger.holders[0].0 = None;
    assert_eq!(found(&[stranger, lock("b", "a")]), NONE);
    let mut stranger = lock("a", "xb");
    stranger.waiters[0].0 = None;
    assert_eq!(found(&[stranger, lock("b", "a")]), ["ab"]);
}

#[test]
fn circle_that_depends_on_another_is_not_told_before_that_one_is_over() {
    let two = [
        lock("a", "b"),
        lock("b", "a"),
        resource(2, "ac", "d"),
        lock("d", "c"),
    ];
    assert_eq!(found(&two), ["ab"]);
    assert_eq!(found(&two[2..]), NONE, "then a has given back its permit");
    let apart = [
        lock("a", "b"),
        lock("b", "a"),
        lock("c", "d"),
        lock("d", "c"),
    ];
    assert_eq!(found(&apart), ["ab", "cd"]);
}

#[test]
fn hundreds_of_thousands_in_line_behind_a_circle_are_looked_through() {
    let resource = |holder, waiters: Vec<u32>| Resource {
        units: Some(1),
        holders: vec![(Some(holder), 1)],
        waiters: waiters
            .into_iter()
            .map(|caller| (Some(caller), 1))
            .collect(),
    };
    let found = cycles(&[resource(0, (1..200_000).collect()), resource(1, vec![0])]);
    assert_eq!(found.len(), 1);
    assert_eq!(Vec::from_iter(found[0].callers.keys()), [&0, &1]);
    let ring: Vec<_> = (0..50_000)
        .map(|n| resource(n, vec![(n + 1) % 50_000]))
        .collect();
    assert_eq!(cycles(&ring)[0].callers.len(), 50_000);
}

/// Returns whether these callers stay blocked even if all others proceed: each waits, and each of its waits
/// is blocked by a member before it or by units that members hold.
fn is_stuck(resources: &[Resource<u8>], set: &BTreeSet<u8>) -> bool {
    let is_in = |caller: &Option<u8>| caller.is_some_and(|caller| set.contains(&caller));
    set.iter().all(|caller| {
        let mut waits = 0;
        let all_kept_up = resources.iter().all(|resource| {
            let lines = resource.waiters.iter().enumerate();
            let mine = lines.filter(|(_, (waiter, _))| *waiter == Some(*caller));
            mine.inspect(|_| waits += 1).all(|(position, (_, wanted))| {
                let Some(units) = resource.units.filter(|units| wanted <= units) else {
                    return false;
                };
                let mut before = resource.waiters[..position].iter();
                let held = resource.holders.iter().filter(|(holder, _)| is_in(holder));
                let held: u64 = held.map(|(_, units)| units).sum();
                before.any(|(waiter, _)| is_in(waiter)) || held > units - wanted
            })
        });
        all_kept_up && waits > 0
    })
}

/// A random graph of a few callers and resources, in which holders never exceed the units.
fn draw(random: &mut StdRng, callers: u8) -> Vec<Resource<u8>> {
    let resources = random.random_range(1..=5);
    let draw = |random: &mut StdRng| {
        let units = random.random_range(1..=3);
        let caller = |random: &mut StdRng| {
            let is_known = random.random_bool(0.95);
            is_known.then(|| random.random_range(0..callers))
        };
        let mut left: u64 = units;
        let mut holders = Vec::new();
        while left > 0 && random.random_bool(0.85) {
            let held = random.random_range(1..=left);
            left -= held;
            holders.push((caller(random), held));
        }
        let waiters = (0..random.random_range(0..=4))
            .map(|_| (caller(random), random.random_range(0..=units + 1)))
            .collect();
        Resource {
            units: random.random_bool(0.95).then_some(units),
            holders,
            waiters,
        }
    };
    (0..resources).map(|_| draw(random)).collect()
}

/// The union of all sets that `is_stuck`: the blocked callers.
fn all_stuck(resources: &[Resource<u8>], callers: u8) -> BTreeSet<u8> {
    let sets = (1_u32..1 << callers).map(|bits| {
        let set = (0..callers).filter(|caller| bits >> caller & 1 == 1);
        BTreeSet::from_iter(set)
    });
    sets.filter(|set| is_stuck(resources, set))
        .flatten()
        .collect()
}

#[test]
fn circles_are_those_that_trying_all_sets_finds() {
    const CALLERS: u8 = 6;
    let (mut stuck, mut several, mut behind, mut later) = (0, 0, 0, 0);
    for seed in 0..10_000 {
        let mut resources = draw(&mut StdRng::seed_from_u64(seed), CALLERS);
        for round in 0.. {
            let all = all_stuck(&resources, CALLERS);
            let cycles = cycles(&resources).into_iter();
            let found: Vec<BTreeSet<u8>> = cycles
                .map(|cycle| cycle.callers.into_keys().collect())
                .collect();
            let context = || format!("seed {seed}: {resources:?}\nfound {found:?} of {all:?}");
            assert_eq!(found.is_empty(), all.is_empty(), "{}", context());
            for (place, cycle) in found.iter().enumerate() {
                assert!(is_stuck(&resources, cycle), "{}", context());
                let mut others = found.iter().skip(place + 1);
                assert!(others.all(|other| other.is_disjoint(cycle)));
            }
            let members: BTreeSet<u8> = found.iter().flatten().copied().collect();
            stuck += usize::from(!found.is_empty());
            several += usize::from(found.len() > 1);
            behind += usize::from(members.len() < all.len());
            later += usize::from(round > 0 && !found.is_empty());
            if found.is_empty() {
                break;
            }
            // The callers give up, and release all that they hold.
            let stays = |(caller, _): &(Option<u8>, u64)| {
                caller.is_none_or(|caller| !members.contains(&caller))
            };
            for resource in &mut resources {
                resource.holders.retain(stays);
                resource.waiters.retain(stays);
            }
        }
    }
    let enough = stuck > 1000 && several > 10 && behind > 100 && later > 10;
    assert!(enough, "{stuck} {several} {behind} {later}");
}

#[test]
fn waits_of_a_circle_are_told_by_part_and_position() {
    let resources = [lock("o", "xa"), lock("a", "ob"), lock("b", "a")];
    let found = cycles(&resources);
    assert_eq!(found.len(), 1);
    let place = |resource, position| WaitIndex { resource, position };
    let waits: Vec<_> = found[0].callers.iter().collect();
    assert_eq!(
        waits,
        [
            (&'a', &vec![place(0, 1), place(2, 0)]),
            (&'b', &vec![place(1, 1)]),
            (&'o', &vec![place(1, 0)]),
            (&'x', &vec![place(0, 0)]),
        ]
    );
}
