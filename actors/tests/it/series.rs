//! Series of tasks in random schedules, compared with lists of single tasks: series that are split,
//! finished out of order and put back must behave like single tasks.

use std::collections::{BTreeMap, VecDeque};

use lockkeeper_actors::{
    Bench, CallId, JobId, SessionId,
    codec::Blob,
    data::{
        Collect, Feed, Finished, HandBack, Job, JobOutcome, Leave, Next, Reports, RetryRule, Row,
        TaskFault, TaskQueue, TaskRule,
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::seeds::{Tally, each};

/// The session that submits.
const SUBMITTER: u64 = 9;

/// The submitter's number of the first task.
const FIRST: u64 = 101;

/// The numbers of the series.
const SERIES: [u64; 2] = [1, 2];

/// A task: its number, its series, and the number of retries left.
type Entry = (u64, u64, u32);

#[derive(Default)]
struct Reference {
    waiting: VecDeque<Entry>,
    /// The tasks of each worker, with the call that delivered each, and whether a call still waits
    /// for its outcome.
    held: BTreeMap<u64, Vec<(CallId, Entry, bool)>>,
    idle: VecDeque<(u64, CallId, usize)>,
    /// The unreported outcomes of tasks, by series.
    ended: BTreeMap<u64, Vec<(u64, bool)>>,
    /// The expected answers to calls for jobs.
    given: Vec<(CallId, Vec<u64>)>,
}

impl Reference {
    fn has(&self, worker: u64) -> bool {
        self.held.get(&worker).is_some_and(|held| !held.is_empty())
    }

    fn give(&mut self, (worker, by, most): (u64, CallId, usize)) {
        let given: Vec<Entry> = (0..most).map_while(|_| self.waiting.pop_front()).collect();
        let numbers = given.iter().map(|task| task.0).collect();
        self.given.push((by, numbers));
        let held = self.held.entry(worker).or_default();
        held.extend(given.into_iter().map(|task| (by, task, true)));
    }

    fn dispatch(&mut self) {
        while !self.waiting.is_empty()
            && let Some(idle) = self.idle.pop_front()
        {
            self.give(idle);
        }
    }

    fn next(&mut self, worker: u64, by: CallId, most: usize) {
        if self.has(worker) {
            self.give((worker, by, most));
        } else {
            self.idle.push_back((worker, by, most));
        }
        self.dispatch();
    }

    fn finish(&mut self, worker: u64, number: u64) {
        let held = self.held.entry(worker).or_default();
        if let Some(place) = held.iter().position(|(_, task, _)| task.0 == number) {
            let (_, (number, series, _), is_wanted) = held.remove(place);
            if is_wanted {
                self.ended.entry(series).or_default().push((number, true));
            }
        }
    }

    fn take_back(&mut self, worker: u64, is_meant: impl Fn(CallId, u64) -> bool) {
        let held = self.held.remove(&worker).unwrap_or_default();
        let (back, kept): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|(by, task, _)| is_meant(*by, task.0));
        self.held.insert(worker, kept);
        for (_, task, is_wanted) in back.into_iter().rev() {
            if is_wanted {
                self.waiting.push_front(task);
            }
        }
    }

    fn die(&mut self, worker: u64) {
        self.idle.retain(|(idle, ..)| *idle != worker);
        let held = self.held.remove(&worker).unwrap_or_default();
        let mut held = held.into_iter();
        let begun = held.next();
        for (_, task, is_wanted) in held.rev() {
            if is_wanted {
                self.waiting.push_front(task);
            }
        }
        match begun {
            Some((_, (number, series, 0), true)) => {
                self.ended.entry(series).or_default().push((number, false));
            }
            Some((_, (number, series, retries), true)) => {
                self.waiting.push_front((number, series, retries - 1));
            }
            Some((_, _, false)) | None => {}
        }
        self.dispatch();
    }

    fn leave(&mut self, left: u64) {
        self.waiting.retain(|(_, series, _)| *series != left);
        for (_, task, is_wanted) in self.held.values_mut().flatten() {
            *is_wanted &= task.1 != left;
        }
        self.ended.remove(&left);
    }
}

fn id(number: u64) -> JobId {
    JobId::of_series(SessionId::new(SUBMITTER), number - FIRST)
}

/// Returns the arguments of a task, which differ from those of all others.
fn arguments(number: u64) -> Vec<u8> {
    vec![number.to_be_bytes()[7]; usize::try_from(number % 4).unwrap()]
}

struct Run {
    bench: Bench<TaskQueue>,
    reference: Reference,
    random: StdRng,
    last_number: u64,
    /// A dead worker is replaced by a new session.
    workers: [u64; 3],
}

impl Run {
    fn feed(&mut self, series: u64) {
        let (count, retries) = (
            self.random.random_range(1..20),
            self.random.random_range(0..2),
        );
        let first = self.last_number + 1;
        self.last_number += count;
        let numbers = first..first + count;
        let each: Vec<Vec<u8>> = numbers.clone().map(arguments).collect();
        let lengths = each.iter().map(|bytes| u32::try_from(bytes.len()).unwrap());
        let feed = Feed {
            series,
            first,
            task: "double".to_owned(),
            row: Row::new(each.concat().into(), lengths.collect()),
            rule: (retries > 0).then_some(TaskRule {
                limit: None,
                retry: Some(RetryRule {
                    attempts: retries + 1,
                    deaths: true,
                    panics: false,
                    transient: false,
                    first_pause: 0,
                    longest_pause: 0,
                }),
            }),
        };
        self.bench.call(SUBMITTER, feed);
        let tasks = numbers.map(|number| (number, series, retries));
        self.reference.waiting.extend(tasks);
        self.reference.ended.entry(series).or_default();
        self.reference.dispatch();
    }

    fn report(&mut self, worker: u64, tally: &mut Tally) {
        let held = self
            .reference
            .held
            .get(&worker)
            .cloned()
            .unwrap_or_default();
        let mut numbers: Vec<u64> = held.iter().map(|(_, task, _)| task.0).collect();
        numbers.truncate(self.random.random_range(0..6));
        if numbers.len() > 1 && self.random.random_bool(0.3) {
            let last = numbers.len() - 1;
            numbers.swap(0, last);
            tally.note("out of order");
        }
        if numbers.len() > 1 && self.random.random_bool(0.3) {
            // The first task is reported later.
            numbers.remove(0);
            tally.note("not the first");
        }
        let finished = |number: &u64| Finished {
            job: id(*number),
            outcome: JobOutcome::Done(Blob::from(arguments(*number))),
        };
        self.bench
            .call(worker, Reports(numbers.iter().map(finished).collect()));
        for number in numbers {
            self.reference.finish(worker, number);
        }
    }

    fn hand_back(&mut self, worker: u64, tally: &mut Tally) {
        let held = self
            .reference
            .held
            .get(&worker)
            .cloned()
            .unwrap_or_default();
        let kept = self.random.random_range(0..held.len().max(1) + 1);
        let back: Vec<u64> = held.iter().skip(kept).map(|(_, task, _)| task.0).collect();
        if !back.is_empty() {
            tally.note("handed back");
        }
        let jobs = back.iter().map(|number| id(*number)).collect();
        self.bench.call(worker, HandBack { jobs });
        self.reference
            .take_back(worker, |_, number| back.contains(&number));
        self.reference.dispatch();
    }

    /// Withdraws the last answered call of a worker, as if the worker had not seen the answer.
    fn withdraw_last(&mut self, worker: u64, tally: &mut Tally) {
        let held = self.reference.held.get(&worker);
        let Some((by, ..)) = held.and_then(|held| held.last()).copied() else {
            return;
        };
        tally.note("unseen");
        self.bench.withdraw(by);
        self.reference.take_back(worker, |given, _| given == by);
        self.reference.dispatch();
    }

    fn step(&mut self, tally: &mut Tally) {
        let place = self.random.random_range(0..3);
        let worker = self.workers[place];
        let series = SERIES[self.random.random_range(0..2)];
        match self.random.random_range(0..100) {
            0..20 => self.feed(series),
            20..50 => {
                if !self.reference.idle.iter().any(|(idle, ..)| *idle == worker) {
                    let most = self.random.random_range(1..9);
                    let finished = None;
                    let by = self.bench.call(worker, Next { finished, most });
                    let most = usize::try_from(most).unwrap();
                    self.reference.next(worker, by, most);
                }
            }
            50..75 => self.report(worker, tally),
            75..83 => self.hand_back(worker, tally),
            83..88 => self.withdraw_last(worker, tally),
            88..97 => {
                self.bench.hang_up(worker);
                self.reference.die(worker);
                self.workers[place] = worker + 10;
                tally.note("died");
            }
            _ => {
                self.bench.call(SUBMITTER, Leave { series });
                self.reference.leave(series);
                tally.note("left");
            }
        }
        self.check(series, tally);
    }

    fn check(&mut self, series: u64, tally: &mut Tally) {
        for (by, numbers) in self.reference.given.drain(..) {
            let jobs = self.bench.reply::<Next>(by).expect("the call is answered");
            let jobs = jobs.unwrap().expect("the queue is not closed");
            let each: Vec<(JobId, Blob)> = jobs.into_iter().flat_map(Job::each).collect();
            let observed = numbers
                .iter()
                .map(|number| (id(*number), Blob::from(arguments(*number))));
            assert_eq!(each, observed.collect::<Vec<_>>());
        }
        if let Some(ended) = self.reference.ended.get_mut(&series)
            && !ended.is_empty()
        {
            let collect = self.bench.call(SUBMITTER, Collect { series });
            let observed = self
                .bench
                .reply::<Collect>(collect)
                .expect("the series has outcomes");
            let observed = observed.unwrap().into_iter().map(|observed| {
                match observed.outcome {
                    Ok(outcome) => assert_eq!(outcome, Blob::from(arguments(observed.number))),
                    Err(failure) => assert!(matches!(failure.fault, TaskFault::WorkerDied { .. })),
                }
                observed.number
            });
            let expected = std::mem::take(ended);
            let numbers: Vec<u64> = expected.iter().map(|(number, _)| *number).collect();
            assert_eq!(observed.collect::<Vec<_>>(), numbers);
            if expected.iter().any(|(_, is_done)| !is_done) {
                tally.note("failed");
            }
        }
    }
}

#[test]
fn tasks_of_series_behave_like_single_tasks() {
    let must_occur = [
        "out of order",
        "not the first",
        "handed back",
        "unseen",
        "died",
        "left",
        "failed",
    ];
    each(
        "tasks_of_series_behave_like_single_tasks",
        400,
        &must_occur,
        |seed, tally| {
            let mut run = Run {
                bench: Bench::new(()).unwrap(),
                reference: Reference::default(),
                random: StdRng::seed_from_u64(seed),
                last_number: FIRST - 1,
                workers: [11, 12, 13],
            };
            for _ in 0..200 {
                run.step(tally);
            }
        },
    );
}
