//! Tests of the queue, one fact each.

use std::time::Duration;

use lockkeeper_protocol::{Operation, Proof};

use crate::bench::Bench;

use super::*;

fn bench(capacity: Option<u64>) -> Bench<Queue> {
    let schema = "u8".to_owned();
    Bench::new(QueueSpec {
        capacity: capacity.map(i128::from),
        schema,
    })
    .unwrap()
}

fn put(bench: &mut Bench<Queue>, session: u64, item: u8) -> CallId {
    let item = Blob::from(vec![item]);
    bench.call(session, Put { item })
}

/// An unbounded queue of the items 1 to `items`.
fn filled(items: u8) -> Bench<Queue> {
    let mut bench = bench(None);
    for item in 1..=items {
        put(&mut bench, 9, item);
    }
    bench
}

fn get(bench: &mut Bench<Queue>, session: u64) -> CallId {
    bench.call(session, Get)
}

fn delivery(bench: &Bench<Queue>, id: CallId) -> Option<Delivery> {
    let told = bench.reply::<Get>(id)?;
    Some(told.expect("no fault").expect("no refusal"))
}

/// The item that a get received, and its number of deliveries.
fn item(bench: &Bench<Queue>, id: CallId) -> Option<(u8, u32)> {
    delivery(bench, id).map(|delivery| (delivery.item.0[0], delivery.attempts))
}

fn ask<O: Operation>(bench: &mut Bench<Queue>, operation: O) -> O::Reply
where
    Queue: Serve<O>,
{
    let id = bench.call(99, operation);
    bench.reply::<O>(id).expect("answered").expect("no fault")
}

fn done(bench: &mut Bench<Queue>, delivery: CallId) -> Result<(), Refusal> {
    let session = delivery.session().number();
    let delivery = Proof::own(delivery);
    let id = bench.call(session, Done { delivery });
    bench
        .reply::<Done>(id)
        .expect("answered")
        .expect("no fault")
}

fn put_back(bench: &mut Bench<Queue>, delivery: CallId) -> Result<(), Refusal> {
    let session = delivery.session().number();
    let delivery = Proof::own(delivery);
    let id = bench.call(session, PutBack { delivery });
    let told = bench.reply::<PutBack>(id);
    told.expect("answered").expect("no fault")
}

/// All items that are left, in order.
fn rest(bench: &mut Bench<Queue>) -> Vec<u8> {
    std::iter::from_fn(|| {
        let id = get(bench, 98);
        item(bench, id).map(|(item, _)| item)
    })
    .collect()
}

#[test]
fn items_are_taken_in_the_order_in_which_they_were_put() {
    let mut bench = filled(3);
    let taken: Vec<_> = (0..3).map(|_| get(&mut bench, 1)).collect();
    let items = taken.iter().map(|id| item(&bench, *id).unwrap());
    assert_eq!(items.collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
    let fences = taken.iter().map(|id| delivery(&bench, *id).unwrap().fence);
    assert!(fences.is_sorted_by(|one, next| one < next));
}

#[test]
fn who_waits_for_an_item_is_given_it_in_the_order_of_arrival() {
    let mut bench = bench(None);
    let takers = [3, 1, 2].map(|session| get(&mut bench, session));
    for number in 1..=3 {
        put(&mut bench, 9, number);
    }
    let items = takers.map(|id| item(&bench, id));
    assert_eq!(items, [Some((1, 1)), Some((2, 1)), Some((3, 1))]);
}

#[test]
fn put_without_room_keeps_its_place_until_there_is() {
    let mut bench = bench(Some(1));
    let puts = [5, 3, 4].map(|session| put(&mut bench, session, 10 + session as u8));
    assert_eq!(puts.map(|id| bench.is_answered(id)), [true, false, false]);
    let tried = bench.call_within(
        6,
        Put {
            item: Blob::from(vec![16]),
        },
        Duration::ZERO,
    );
    assert_eq!(bench.reply::<Put>(tried), Some(Err(Fault::TimedOut)));
    get(&mut bench, 1);
    assert_eq!(puts.map(|id| bench.is_answered(id)), [true, true, false]);
    bench.withdraw(puts[2]);
    assert_eq!(rest(&mut bench), [13]);
}

#[test]
fn join_waits_until_all_items_are_done() {
    let mut bench = filled(2);
    let joined = bench.call(1, Join);
    let [first, second] = [1, 2].map(|session| get(&mut bench, session));
    done(&mut bench, second).unwrap();
    assert!(!bench.is_answered(joined));
    put_back(&mut bench, first).unwrap();
    let again = get(&mut bench, 2);
    assert!(!bench.is_answered(joined));
    done(&mut bench, again).unwrap();
    assert!(bench.is_answered(joined));
    let at_once = bench.call(1, Join);
    assert!(bench.is_answered(at_once));
}

#[test]
fn late_or_second_acknowledgement_finds_nothing() {
    let mut bench = filled(2);
    let first = get(&mut bench, 1);
    bench.hang_up(1);
    let second = get(&mut bench, 2);
    assert_eq!(item(&bench, second), Some((1, 2)));
    assert_eq!(done(&mut bench, first), Err(Refusal::NotHeld));
    assert_eq!(put_back(&mut bench, first), Err(Refusal::NotHeld));
    done(&mut bench, second).unwrap();
    assert_eq!(done(&mut bench, second), Err(Refusal::NotHeld));
    assert_eq!(rest(&mut bench), [2]);
}

#[test]
fn items_of_a_dead_taker_come_back_to_the_front_in_order_and_marked() {
    let mut bench = filled(5);
    let taken: Vec<_> = [1, 2, 1, 1]
        .into_iter()
        .map(|session| get(&mut bench, session))
        .collect();
    let fence = delivery(&bench, taken[0]).unwrap().fence;
    done(&mut bench, taken[2]).unwrap();
    bench.advance(Duration::from_secs(3));
    bench.hang_up(1);
    let again = get(&mut bench, 3);
    let Delivery {
        abandoned,
        attempts,
        ..
    } = delivery(&bench, again).unwrap();
    let abandoned = abandoned.expect("it is marked");
    assert_eq!(
        (abandoned.held, abandoned.fence),
        (Duration::from_secs(3), fence)
    );
    assert_eq!(attempts, 2);
    let fourth = get(&mut bench, 3);
    assert_eq!(item(&bench, fourth), Some((4, 2)));
    let fifth = get(&mut bench, 3);
    assert_eq!(item(&bench, fifth), Some((5, 1)));
    assert_eq!(delivery(&bench, fifth).unwrap().abandoned, None);
}

#[test]
fn items_that_come_back_one_by_one_stand_in_their_order_all_the_same() {
    let mut bench = filled(4);
    let taken: Vec<_> = (0..3).map(|_| get(&mut bench, 1)).collect();
    for place in [1, 2, 0] {
        put_back(&mut bench, taken[place]).unwrap();
    }
    assert_eq!(rest(&mut bench), [1, 2, 3, 4]);
}

#[test]
fn item_that_comes_back_goes_to_who_waits() {
    let mut bench = filled(1);
    get(&mut bench, 1);
    let waiting = get(&mut bench, 2);
    bench.hang_up(1);
    assert_eq!(item(&bench, waiting), Some((1, 2)));
}

#[test]
fn delivery_that_nobody_saw_was_none() {
    let mut bench = filled(2);
    let unseen = get(&mut bench, 1);
    bench.withdraw(unseen);
    let seen = get(&mut bench, 2);
    assert_eq!(item(&bench, seen), Some((1, 1)));
    assert_eq!(delivery(&bench, seen).unwrap().abandoned, None);
    assert_eq!(rest(&mut bench), [2]);
}

#[test]
fn put_whose_caller_does_not_know_of_it_is_undone_until_somebody_has_it() {
    let mut bench = bench(Some(1));
    let [unseen, behind] = [1, 2].map(|number| put(&mut bench, 1, number));
    bench.withdraw(unseen);
    assert!(bench.is_answered(behind), "there is room again");
    let taken = get(&mut bench, 2);
    bench.withdraw(behind);
    bench.hang_up(2);
    let again = get(&mut bench, 3);
    assert_eq!(
        [taken, again].map(|id| item(&bench, id)),
        [Some((2, 1)), Some((2, 2))]
    );
}

#[test]
fn items_outlive_who_put_them_but_a_dead_one_puts_nothing() {
    let mut bench = bench(Some(1));
    put(&mut bench, 1, 1);
    put(&mut bench, 1, 2);
    bench.hang_up(1);
    assert_eq!(rest(&mut bench), [1]);
}

#[test]
fn items_that_come_back_are_let_in_beyond_the_capacity() {
    let mut bench = bench(Some(1));
    let puts = [1, 2, 3].map(|number| put(&mut bench, 9, number));
    let taken = get(&mut bench, 1);
    assert!(bench.is_answered(puts[1]) && !bench.is_answered(puts[2]));
    bench.hang_up(1);
    assert_eq!(ask(&mut bench, GetQueueStatus).len, 2);
    assert_eq!(done(&mut bench, taken), Err(Refusal::NotHeld));
    get(&mut bench, 2);
    assert!(!bench.is_answered(puts[2]), "it is full still");
    assert_eq!(rest(&mut bench), [2, 3]);
}

#[test]
fn closed_queue_is_emptied_and_then_refuses() {
    let mut bench = bench(Some(1));
    let puts = [1, 2].map(|number| put(&mut bench, 9, number));
    ask(&mut bench, CloseQueue);
    assert_eq!(bench.reply::<Put>(puts[1]), Some(Ok(Err(Refusal::Closed))));
    let late = put(&mut bench, 9, 3);
    assert_eq!(bench.reply::<Put>(late), Some(Ok(Err(Refusal::Closed))));
    let joined = bench.call(8, Join);
    let taken = get(&mut bench, 1);
    assert_eq!(item(&bench, taken), Some((1, 1)));
    // The taken item may return, so the next get waits.
    let [next, other] = [2, 3].map(|session| get(&mut bench, session));
    bench.hang_up(1);
    assert_eq!(item(&bench, next), Some((1, 2)));
    assert!(!bench.is_answered(other) && !bench.is_answered(joined));
    done(&mut bench, next).unwrap();
    assert!(bench.is_answered(joined));
    assert_eq!(bench.reply::<Get>(other), Some(Ok(Err(Refusal::Closed))));
    let late = get(&mut bench, 3);
    assert_eq!(bench.reply::<Get>(late), Some(Ok(Err(Refusal::Closed))));
}

#[test]
fn closing_an_empty_queue_sends_all_who_wait_home() {
    let mut bench = bench(None);
    let waiting = get(&mut bench, 1);
    ask(&mut bench, CloseQueue);
    assert_eq!(bench.reply::<Get>(waiting), Some(Ok(Err(Refusal::Closed))));
}

#[test]
fn who_is_withdrawn_too_late_or_dead_is_given_nothing() {
    let mut bench = bench(None);
    let withdrawn = get(&mut bench, 1);
    let late = bench.call_within(2, Get, Duration::from_secs(1));
    get(&mut bench, 3);
    let stays = get(&mut bench, 4);
    bench.withdraw(withdrawn);
    bench.advance(Duration::from_secs(2));
    bench.hang_up(3);
    assert_eq!(
        [withdrawn, late].map(|id| bench.reply::<Get>(id)),
        [Some(Err(Fault::Withdrawn)), Some(Err(Fault::TimedOut))]
    );
    put(&mut bench, 9, 1);
    assert_eq!(item(&bench, stays), Some((1, 1)));
    assert_eq!([withdrawn, late].map(|id| bench.times_answered(id)), [1, 1]);
}

#[test]
fn capacity_out_of_range_is_refused_with_what_is_allowed() {
    for capacity in [0, MOST + 1] {
        let made = Bench::<Queue>::new(QueueSpec {
            capacity: Some(capacity.into()),
            schema: "item".to_owned(),
        });
        let Err(Refusal::Invalid(why)) = made.map(drop) else {
            panic!("it was not refused");
        };
        assert!(why.contains("1 to 1000000000 items"), "{why}");
    }
    assert_eq!(ask(&mut bench(None), GetQueueStatus).capacity, MOST);
    assert_eq!(ask(&mut bench(Some(7)), GetQueueStatus).capacity, 7);
}

#[test]
fn items_of_another_type_are_refused_with_the_names_of_both() {
    let mut bench = bench(None);
    let check = |schema: &str| CheckType {
        schema: schema.to_owned(),
    };
    assert_eq!(ask(&mut bench, check("u8")), Ok(()));
    let Err(refusal) = ask(&mut bench, check("text")) else {
        panic!("it was not refused");
    };
    let why = refusal.to_string();
    assert!(why.contains("u8") && why.contains("text"), "{why}");
    let longest = "u".repeat(4096);
    let longest = ask(&mut bench, check(&longest)).expect_err("another type");
    assert!(matches!(longest, Refusal::WrongType { .. }), "{longest}");
}

#[test]
fn schema_id_has_1_to_4096_bytes_in_a_spec_and_in_a_check() {
    let mut bench = bench(None);
    for length in [0, 4097] {
        let schema = "u".repeat(length);
        let capacity = None;
        let made = Bench::<Queue>::new(QueueSpec {
            capacity,
            schema: schema.clone(),
        });
        let checked = ask(&mut bench, CheckType { schema });
        for refused in [made.map(drop), checked] {
            let Err(Refusal::Invalid(why)) = refused else {
                panic!("{length} bytes were not refused: {refused:?}");
            };
            let words = format!("a schema id has 1 to 4096 bytes, not {length}");
            assert_eq!(why, words);
        }
    }
}

#[test]
fn survey_tells_who_has_items_and_who_waits_for_what() {
    let mut bench = bench(Some(1));
    put(&mut bench, 1, 1);
    let taken = get(&mut bench, 2);
    bench.advance(Duration::from_secs(2));
    let waits = [
        put(&mut bench, 1, 2),
        put(&mut bench, 3, 3),
        bench.call(4, Join),
    ];
    ask(&mut bench, CloseQueue);
    let getting = get(&mut bench, 5);
    let getting = [getting, get(&mut bench, 6)];
    let survey = bench.primitive().unwrap().survey();
    assert_eq!(survey.state, "0 items wait, 2 are taken, closed");
    let part = &survey.parts[0];
    let holders = part
        .holders
        .iter()
        .map(|holding| (holding.call, holding.since));
    let holders: Vec<_> = holders.collect();
    let since = Duration::from_secs(2);
    assert_eq!(holders, [(taken, Duration::ZERO), (getting[0], since)]);
    let waiters = part
        .waiters
        .iter()
        .map(|waiting| (waiting.call, waiting.mode));
    let waiters: Vec<_> = waiters.collect();
    assert_eq!(waiters, [(getting[1], "get"), (waits[2], "join")]);
}

#[test]
fn a_hundred_thousand_items_of_one_that_dies_come_back_before_all_others() {
    let mut bench = bench(None);
    for _ in 0..150_000 {
        put(&mut bench, 9, 1);
    }
    for _ in 0..100_000 {
        get(&mut bench, 1);
    }
    bench.hang_up(1);
    let status = ask(&mut bench, GetQueueStatus);
    assert_eq!((status.len, status.taken), (150_000, 0));
    let takers: Vec<_> = (0..1000)
        .flat_map(|session| [session; 150])
        .map(|session| get(&mut bench, 1000 + session))
        .collect();
    for taker in &takers[..100_000] {
        assert_eq!(item(&bench, *taker), Some((1, 2)));
    }
    assert_eq!(item(&bench, takers[100_000]), Some((1, 1)));
    for taker in takers.into_iter().rev() {
        done(&mut bench, taker).unwrap();
    }
    assert_eq!(ask(&mut bench, GetQueueStatus).len, 0);
}
