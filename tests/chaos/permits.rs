//! What processes do with semaphores of both kinds.

use lockkeeper::{CallError, Permit, errors::Refusal, kind::sync::Bound, proxies::SemaphoreOf};
use rand::Rng;

use super::{
    ledger::{Entry, Ledger},
    scene::Known,
    worker::Hand,
};

/// Takes permits, and gives them back at once or in parts.
pub(crate) async fn visit<B: Bound>(hand: &mut Hand, known: &Known<SemaphoreOf<B>>) {
    if hand.chance(20) {
        return ask_too_much(hand, known).await;
    }
    let ledger = known.ledger(&hand.notes);
    let many = hand.random.random_range(1..=known.most);
    let Some((mut permit, mut entry)) = come_in(hand, known, &ledger, many).await else {
        return;
    };
    hand.linger().await;
    if many > 1 && hand.random.random() {
        hand.does(known, "split");
        let less = hand.random.random_range(1..many);
        let part = permit.split(less).expect("there are more");
        ledger.leave_in_part(&mut entry, less.into());
        give_back(hand, known, part).await;
        hand.linger().await;
    }
    let mut entries = vec![entry];
    if hand.random.random() {
        entries.extend(merge(hand, known, &ledger, &mut permit).await);
    }
    for entry in entries {
        ledger.leave(entry);
    }
    give_back(hand, known, permit).await;
}

/// Acquires in one of the ways that there are.
async fn come_in<B: Bound>(
    hand: &mut Hand,
    known: &Known<SemaphoreOf<B>>,
    ledger: &Ledger,
    many: u32,
) -> Option<(Permit, Entry)> {
    let highest = ledger.highest();
    let semaphore = &known.object;
    let outcome = match hand.random.random_range(0..5) {
        0 | 1 => {
            hand.does(known, "acquire_many");
            Some(semaphore.acquire_many(many).await)
        }
        2 => {
            hand.does(known, "acquire_many with a timeout");
            let brief = hand.brief();
            let acquired = semaphore.acquire_many(many).timeout(brief);
            Some(hand.within(brief, acquired).await)
        }
        3 => {
            hand.does(known, "try_acquire_many");
            semaphore.try_acquire_many(many).await.transpose()
        }
        _ => {
            hand.does(known, "acquire_many and drop");
            hand.give_up(semaphore.acquire_many(many)).await
        }
    };
    let permit = hand.granted(&known.name, outcome)?;
    Some(enter(hand, known, ledger, permit, highest).await)
}

async fn enter<B: Bound>(
    hand: &mut Hand,
    known: &Known<SemaphoreOf<B>>,
    ledger: &Ledger,
    mut permit: Permit,
    highest: u64,
) -> (Permit, Entry) {
    let entry = ledger.enter(permit.permits(), permit.fence(), highest);
    if !permit.is_valid() {
        hand.notes
            .violation(&format!("{}: {entry:?} is not valid", known.name));
    }
    hand.inspect(known, permit.abandoned());
    if permit.abandoned().is_some() && hand.random.random() {
        permit.mark_consistent();
    }
    (permit, entry)
}

/// Takes one more in, if one is free: to wait for it with others held could be for ever.
async fn merge<B: Bound>(
    hand: &mut Hand,
    known: &Known<SemaphoreOf<B>>,
    ledger: &Ledger,
    permit: &mut Permit,
) -> Option<Entry> {
    let highest = ledger.highest();
    let outcome = known.object.try_acquire().await.transpose();
    let another = hand.granted(&known.name, outcome)?;
    hand.does(known, "merge");
    let (another, entry) = enter(hand, known, ledger, another, highest).await;
    let sum = permit.permits() + another.permits();
    if permit.merge(another).is_err() || permit.permits() != sum {
        let words = format!("{}: {sum} merged are {permit:?}", known.name);
        hand.notes.violation(&words);
    }
    hand.linger().await;
    Some(entry)
}

async fn give_back<B: Bound>(hand: &mut Hand, known: &Known<SemaphoreOf<B>>, permit: Permit) {
    let outcome = match hand.random.random_range(0..3) {
        0 => {
            hand.does(known, "release");
            Some(permit.release().await)
        }
        1 => {
            hand.does(known, "release and drop");
            hand.give_up(permit.release()).await
        }
        _ => {
            drop(permit);
            None
        }
    };
    if let Some(Err(error)) = outcome {
        hand.notes.violation(&format!("{}: {error}", known.name));
    }
}

/// Asks for more than there are, which is refused where there is a bound, and waits in vain else.
async fn ask_too_much<B: Bound>(hand: &mut Hand, known: &Known<SemaphoreOf<B>>) {
    hand.does(known, "ask too much");
    let brief = hand.brief();
    let asked = known.object.acquire_many(known.most + 1).timeout(brief);
    match hand.within(brief, asked).await {
        Err(CallError::TimedOut(_) | CallError::Refused(Refusal::TooMany { .. }, _)) => {}
        outcome => hand
            .notes
            .violation(&format!("{}: {outcome:?}", known.name)),
    }
}
