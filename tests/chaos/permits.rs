//! The actions of processes on both semaphores.

use lockkeeper::{CallError, Permit, errors::Refusal, kind::sync::Bound, proxies::SemaphoreOf};
use rand::Rng;

use super::{
    hold_record::{Entry, HoldRecord},
    setup::Named,
    worker::Runner,
};

/// Acquires permits, and releases them at once or in parts.
pub(crate) async fn act_on<B: Bound>(runner: &mut Runner, named: &Named<SemaphoreOf<B>>) {
    if runner.chance(20) {
        return ask_too_much(runner, named).await;
    }
    let hold_record = named.hold_record(&runner.notes);
    let many = runner.random.random_range(1..=named.most);
    let Some((mut permit, mut entry)) = acquire_randomly(runner, named, &hold_record, many).await
    else {
        return;
    };
    runner.pause().await;
    if many > 1 && runner.random.random() {
        runner.trace(named, "split");
        let less = runner.random.random_range(1..many);
        let part = permit.split(less).expect("the guard has more permits");
        hold_record.leave_in_part(&mut entry, less.into());
        give_back(runner, named, part).await;
        runner.pause().await;
    }
    let mut entries = vec![entry];
    if runner.random.random() {
        entries.extend(merge(runner, named, &hold_record, &mut permit).await);
    }
    for entry in entries {
        hold_record.leave(entry);
    }
    give_back(runner, named, permit).await;
}

/// Acquires in a randomly chosen way.
async fn acquire_randomly<B: Bound>(
    runner: &mut Runner,
    named: &Named<SemaphoreOf<B>>,
    hold_record: &HoldRecord,
    many: u32,
) -> Option<(Permit, Entry)> {
    let highest = hold_record.highest();
    let semaphore = &named.object;
    let outcome = match runner.random.random_range(0..5) {
        0 | 1 => {
            runner.trace(named, "acquire_many");
            Some(semaphore.acquire_many(many).await)
        }
        2 => {
            runner.trace(named, "acquire_many with a timeout");
            let brief = runner.brief();
            let acquired = semaphore.acquire_many(many).timeout(brief);
            Some(runner.within(brief, acquired).await)
        }
        3 => {
            runner.trace(named, "try_acquire_many");
            semaphore.try_acquire_many(many).await.transpose()
        }
        _ => {
            runner.trace(named, "acquire_many and drop");
            runner.give_up(semaphore.acquire_many(many)).await
        }
    };
    let permit = runner.granted(&named.name, outcome)?;
    Some(enter(runner, named, hold_record, permit, highest).await)
}

async fn enter<B: Bound>(
    runner: &mut Runner,
    named: &Named<SemaphoreOf<B>>,
    hold_record: &HoldRecord,
    mut permit: Permit,
    highest: u64,
) -> (Permit, Entry) {
    let entry = hold_record.enter(permit.permits().into(), permit.fence(), highest);
    if !permit.is_valid() {
        runner
            .notes
            .violation(&format!("{}: {entry:?} is not valid", named.name));
    }
    runner.inspect(named, permit.abandoned());
    if permit.abandoned().is_some() && runner.random.random() {
        permit.mark_consistent();
    }
    (permit, entry)
}

/// Acquires one more permit if one is free. Waiting for it while holding others could deadlock.
async fn merge<B: Bound>(
    runner: &mut Runner,
    named: &Named<SemaphoreOf<B>>,
    hold_record: &HoldRecord,
    permit: &mut Permit,
) -> Option<Entry> {
    let highest = hold_record.highest();
    let outcome = named.object.try_acquire().await.transpose();
    let another = runner.granted(&named.name, outcome)?;
    runner.trace(named, "merge");
    let (another, entry) = enter(runner, named, hold_record, another, highest).await;
    let sum = permit.permits() + another.permits();
    if permit.merge(another).is_err() || permit.permits() != sum {
        let words = format!("{}: {sum} merged are {permit:?}", named.name);
        runner.notes.violation(&words);
    }
    runner.pause().await;
    Some(entry)
}

async fn give_back<B: Bound>(runner: &mut Runner, named: &Named<SemaphoreOf<B>>, permit: Permit) {
    let outcome = match runner.random.random_range(0..3) {
        0 => {
            runner.trace(named, "release");
            Some(permit.release().await)
        }
        1 => {
            runner.trace(named, "release and drop");
            runner.give_up(permit.release()).await
        }
        _ => {
            drop(permit);
            None
        }
    };
    if let Some(Err(error)) = outcome {
        runner.notes.violation(&format!("{}: {error}", named.name));
    }
}

/// Acquires more permits than exist. A bounded semaphore refuses this, and the other one times out.
async fn ask_too_much<B: Bound>(runner: &mut Runner, named: &Named<SemaphoreOf<B>>) {
    runner.trace(named, "ask too much");
    let brief = runner.brief();
    let asked = named.object.acquire_many(named.most + 1).timeout(brief);
    match runner.within(brief, asked).await {
        Err(CallError::TimedOut(_) | CallError::Refused(Refusal::TooMany { .. }, _)) => {}
        outcome => runner
            .notes
            .violation(&format!("{}: {outcome:?}", named.name)),
    }
}
