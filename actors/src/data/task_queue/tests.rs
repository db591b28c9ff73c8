//! Tests of the task queue, one fact each.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lockkeeper_protocol::{
    Fault, Operation, SessionId,
    codec::Blob,
    operations::{Chunk, JobOutcome, RetryRule, Row, TaskRule, WorkerExit},
};

use crate::{bench::Bench, data::task_queue::series::MOST_BYTES_AT_A_TIME};

use super::*;

fn bench() -> Bench<TaskQueue> {
    Bench::new(()).unwrap()
}

/// The rule of tasks that run again at once after the death of a worker.
fn rule(retries: u32) -> Option<TaskRule> {
    let retry = RetryRule {
        attempts: retries + 1,
        deaths: true,
        panics: false,
        transient: false,
        first_pause: 0,
        longest_pause: 0,
    };
    let limit = None;
    (retries > 0).then_some(TaskRule {
        limit,
        retry: Some(retry),
    })
}

fn submit(bench: &mut Bench<TaskQueue>, session: u64, retries: u32) -> CallId {
    let chunk = Chunk {
        task: "double".to_owned(),
        arguments: Blob::from(vec![7]),
    };
    bench.call(
        session,
        Submit {
            chunk,
            rule: rule(retries),
            series: None,
        },
    )
}

fn next(bench: &mut Bench<TaskQueue>, session: u64) -> CallId {
    next_of(bench, session, 1)
}

fn next_of(bench: &mut Bench<TaskQueue>, session: u64, most: u32) -> CallId {
    let finished = None;
    bench.call(session, Next { finished, most })
}

/// The jobs with which a call for work was answered, if it was.
fn jobs(bench: &Bench<TaskQueue>, id: CallId) -> Option<Vec<CallId>> {
    let reply = bench.reply::<Next>(id)?;
    let jobs = reply.unwrap().expect("no worker is sent home");
    Some(jobs.iter().map(|job| job.id.into()).collect())
}

fn job(bench: &Bench<TaskQueue>, id: CallId) -> Option<CallId> {
    jobs(bench, id).and_then(|jobs| jobs.first().copied())
}

/// The outcome of a task, with the fault and the number of attempts of one that failed.
fn outcome(bench: &Bench<TaskQueue>, job: CallId) -> Option<Result<Blob, (TaskFault, u32)>> {
    let outcome = bench.reply::<Submit>(job).map(Result::unwrap)?;
    Some(outcome.map_err(|failure| (failure.fault, failure.attempts)))
}

fn died() -> Result<Blob, (TaskFault, u32)> {
    died_in_attempt(1)
}

fn died_in_attempt(attempts: u32) -> Result<Blob, (TaskFault, u32)> {
    let exit = WorkerExit::Unknown;
    Err((TaskFault::WorkerDied { exit }, attempts))
}

fn finish(bench: &mut Bench<TaskQueue>, session: u64, job: CallId) -> CallId {
    let finished = Some(Finished {
        job: job.into(),
        outcome: JobOutcome::Done(Blob::from(vec![14])),
    });
    bench.call(session, Next { finished, most: 1 })
}

#[test]
fn a_task_goes_to_a_worker_and_its_result_back() {
    let mut bench = bench();
    let (worker, task) = (next(&mut bench, 1), submit(&mut bench, 9, 0));
    assert_eq!(job(&bench, worker), Some(task));
    finish(&mut bench, 1, task);
    assert_eq!(outcome(&bench, task), Some(Ok(Blob::from(vec![14]))));
}

#[test]
fn tasks_are_taken_in_the_order_of_their_submission() {
    let mut bench = bench();
    let tasks: Vec<CallId> = (0..3).map(|_| submit(&mut bench, 9, 0)).collect();
    let workers: Vec<CallId> = (1..=3).map(|session| next(&mut bench, session)).collect();
    let taken: Vec<CallId> = workers.iter().filter_map(|id| job(&bench, *id)).collect();
    assert_eq!(taken, tasks);
}

#[test]
fn a_killed_worker_fails_only_the_task_it_ran() {
    let mut bench = bench();
    let (first, second) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
    next(&mut bench, 1);
    bench.hang_up(1);
    assert_eq!(outcome(&bench, first), Some(died()));
    let worker = next(&mut bench, 2);
    assert_eq!(job(&bench, worker), Some(second));
}

#[test]
fn a_task_with_retries_is_tried_again_before_all_others() {
    let mut bench = bench();
    let (first, _) = (submit(&mut bench, 9, 1), submit(&mut bench, 9, 0));
    next(&mut bench, 1);
    bench.hang_up(1);
    let worker = next(&mut bench, 2);
    assert_eq!(job(&bench, worker), Some(first));
    bench.hang_up(2);
    assert_eq!(outcome(&bench, first), Some(died_in_attempt(2)));
}

#[test]
fn a_withdrawn_task_is_not_run_and_its_late_result_is_ignored() {
    let mut bench = bench();
    let (first, second) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
    bench.withdraw(first);
    let worker = next(&mut bench, 1);
    assert_eq!(job(&bench, worker), Some(second));
    bench.withdraw(second);
    finish(&mut bench, 1, second);
    assert_eq!(bench.times_answered(second), 1);
}

#[test]
fn a_job_whose_worker_never_saw_it_goes_back_to_the_front() {
    let mut bench = bench();
    let (first, _) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
    let unseen = next(&mut bench, 1);
    bench.withdraw(unseen);
    let worker = next(&mut bench, 2);
    assert_eq!(job(&bench, worker), Some(first));
}

#[test]
fn jobs_of_a_worker_that_has_not_seen_the_answer_to_its_report_are_all_run_by_others() {
    let report = |job: CallId| Finished {
        job: job.into(),
        outcome: JobOutcome::Done(Blob::from(vec![14])),
    };
    for is_confirmed in [false, true] {
        let mut bench = bench();
        let tasks: Vec<CallId> = (0..6).map(|_| submit(&mut bench, 9, 0)).collect();
        let given = next_of(&mut bench, 1, 2);
        // The worker runs the first of two jobs and requests more. It reads neither those nor the answer to its
        // report.
        let more = next_of(&mut bench, 1, 2);
        assert_eq!(jobs(&bench, more).as_deref(), Some(&tasks[2..4]));
        let reported = bench.call(1, report(tasks[0]));
        let last = match is_confirmed {
            true => bench.call(1, GetTaskQueueStatus),
            false => reported,
        };
        bench.withdraw(last);
        bench.hang_up(1);
        assert!(
            tasks[1..]
                .iter()
                .all(|task| outcome(&bench, *task).is_none())
        );
        let taken = next_of(&mut bench, 2, 9);
        assert_eq!(jobs(&bench, taken).as_deref(), Some(&tasks[1..]));
        assert!(jobs(&bench, given).is_some());
    }
}

#[test]
fn a_worker_that_has_seen_the_answer_to_its_report_had_begun_its_next_job() {
    let mut bench = bench();
    let tasks: Vec<CallId> = (0..6).map(|_| submit(&mut bench, 9, 0)).collect();
    next_of(&mut bench, 1, 2);
    bench.call(
        1,
        Finished {
            job: tasks[0].into(),
            outcome: JobOutcome::Done(Blob::from(vec![14])),
        },
    );
    // It has not read this one.
    let more = next_of(&mut bench, 1, 2);
    bench.withdraw(more);
    bench.hang_up(1);
    assert_eq!(outcome(&bench, tasks[1]), Some(died()));
    let taken = next_of(&mut bench, 2, 9);
    assert_eq!(jobs(&bench, taken).as_deref(), Some(&tasks[2..]));
}

#[test]
fn a_worker_that_is_given_several_jobs_and_dies_fails_only_the_first_of_them() {
    let mut bench = bench();
    let tasks: Vec<CallId> = (0..4).map(|_| submit(&mut bench, 9, 0)).collect();
    let taken = next_of(&mut bench, 1, 3);
    assert_eq!(jobs(&bench, taken).as_deref(), Some(&tasks[..3]));
    bench.hang_up(1);
    assert_eq!(outcome(&bench, tasks[0]), Some(died()));
    let taken = next_of(&mut bench, 2, 9);
    assert_eq!(jobs(&bench, taken).as_deref(), Some(&tasks[1..]));
}

#[test]
fn status_counts_what_runs_although_its_submitter_has_left() {
    let running = |bench: &mut Bench<TaskQueue>| {
        let count = bench.call(8, GetTaskQueueStatus);
        bench
            .reply::<GetTaskQueueStatus>(count)
            .unwrap()
            .unwrap()
            .running
    };
    let mut bench = bench();
    let withdrawn = submit(&mut bench, 9, 0);
    next(&mut bench, 1);
    bench.withdraw(withdrawn);
    assert_eq!(running(&mut bench), 1);
    submit(&mut bench, 10, 0);
    next(&mut bench, 2);
    bench.hang_up(10);
    assert_eq!(running(&mut bench), 2);
    feed(&mut bench, 2000, 3, 0);
    next_of(&mut bench, 3, 2);
    bench.call(9, Leave { series: 1000 });
    assert_eq!(running(&mut bench), 4);
    finish(&mut bench, 1, withdrawn);
    bench.hang_up(3);
    assert_eq!(running(&mut bench), 1);
}

#[test]
fn a_job_behind_one_that_nobody_waits_for_is_not_begun_when_its_worker_dies() {
    let mut bench = bench();
    let tasks: Vec<CallId> = (0..2).map(|_| submit(&mut bench, 9, 0)).collect();
    next_of(&mut bench, 1, 2);
    bench.withdraw(tasks[0]);
    bench.hang_up(1);
    let taken = next(&mut bench, 2);
    assert_eq!(job(&bench, taken), Some(tasks[1]));
}

#[test]
fn a_worker_that_has_jobs_is_told_at_once_that_there_are_no_others() {
    let mut bench = bench();
    submit(&mut bench, 9, 0);
    next(&mut bench, 1);
    let more = next(&mut bench, 1);
    assert_eq!(jobs(&bench, more), Some(Vec::new()));
    let idle = next(&mut bench, 2);
    assert!(!bench.is_answered(idle));
}

#[test]
fn jobs_that_are_handed_back_are_run_by_others_before_those_that_came_later() {
    let mut bench = bench();
    let tasks: Vec<CallId> = (0..4).map(|_| submit(&mut bench, 9, 0)).collect();
    next_of(&mut bench, 1, 3);
    let jobs: Vec<JobId> = tasks[1..3].iter().copied().map(JobId::from).collect();
    bench.call(2, HandBack { jobs: jobs.clone() });
    bench.call(1, HandBack { jobs });
    let taken = next_of(&mut bench, 2, 9);
    assert_eq!(self::jobs(&bench, taken).as_deref(), Some(&tasks[1..]));
    finish(&mut bench, 1, tasks[0]);
    assert!(bench.is_answered(tasks[0]));
}

#[test]
fn large_jobs_are_not_given_together_with_others() {
    let mut bench = bench();
    for length in [1, 1, MOST_BYTES_AT_A_TIME, 1] {
        let chunk = Chunk {
            task: "double".to_owned(),
            arguments: Blob::from(vec![7; length]),
        };
        bench.call(
            9,
            Submit {
                chunk,
                rule: None,
                series: None,
            },
        );
    }
    for (worker, many) in [(1, 2), (2, 1), (3, 1)] {
        let taken = next_of(&mut bench, worker, 9);
        assert_eq!(jobs(&bench, taken).map(|jobs| jobs.len()), Some(many));
    }
}

#[test]
fn a_worker_cannot_finish_the_job_of_another() {
    let mut bench = bench();
    let task = submit(&mut bench, 9, 0);
    next(&mut bench, 1);
    finish(&mut bench, 2, task);
    assert!(!bench.is_answered(task));
}

#[test]
fn a_closed_queue_finishes_what_it_has_and_sends_its_workers_home() {
    let mut bench = bench();
    let task = submit(&mut bench, 9, 0);
    bench.call(9, CloseTasks { reason: None });
    let late = submit(&mut bench, 9, 0);
    assert_eq!(outcome(&bench, late), Some(Err((TaskFault::Closed, 0))));
    let worker = next(&mut bench, 1);
    assert_eq!(job(&bench, worker), Some(task));
    let home = finish(&mut bench, 1, task);
    assert!(bench.reply::<Next>(home).unwrap().unwrap().is_none());
}

#[test]
fn a_closed_queue_keeps_a_worker_for_the_job_of_one_that_dies() {
    let mut bench = bench();
    let task = submit(&mut bench, 9, 1);
    next(&mut bench, 1);
    let spare = next(&mut bench, 2);
    bench.call(9, CloseTasks { reason: None });
    assert!(!bench.is_answered(spare));
    bench.hang_up(1);
    assert_eq!(job(&bench, spare), Some(task));
}

#[test]
fn tasks_that_wait_fail_without_a_worker_and_those_that_come_later_are_run() {
    let mut bench = bench();
    let (running, waiting) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
    next(&mut bench, 1);
    let reason = TaskFault::Broken("no processes are left".to_owned());
    bench.call(
        8,
        FailTasks {
            reason: reason.clone(),
        },
    );
    assert_eq!(outcome(&bench, waiting), Some(Err((reason, 0))));
    assert!(!bench.is_answered(running));
    let later = submit(&mut bench, 9, 0);
    let worker = next(&mut bench, 2);
    assert_eq!(job(&bench, worker), Some(later));
}

#[test]
fn a_terminated_queue_fails_what_waits_and_what_runs() {
    let mut bench = bench();
    let (running, waiting) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
    next(&mut bench, 1);
    bench.call(
        9,
        CloseTasks {
            reason: Some(TaskFault::Terminated),
        },
    );
    for task in [running, waiting] {
        assert_eq!(outcome(&bench, task), Some(Err((TaskFault::Terminated, 0))));
    }
}

/// Submits `count` tasks of the first series of session 9, numbered from `first`.
fn feed(bench: &mut Bench<TaskQueue>, first: u64, count: u64, retries: u32) -> Vec<JobId> {
    feed_by(bench, first, count, rule(retries))
}

fn feed_by(
    bench: &mut Bench<TaskQueue>,
    first: u64,
    count: u64,
    rule: Option<TaskRule>,
) -> Vec<JobId> {
    let bytes = (0..count).map(|_| 7).collect::<Vec<u8>>();
    let lengths = vec![1; bytes.len()];
    let feed = Feed {
        series: 1000,
        first,
        task: "double".to_owned(),
        row: Row::new(bytes.into(), lengths),
        rule,
    };
    bench.call(9, feed);
    (0..count)
        .map(|place| JobId::of_series(SessionId::new(9), place))
        .collect()
}

fn collect(bench: &mut Bench<TaskQueue>) -> CallId {
    bench.call(9, Collect { series: 1000 })
}

/// The tasks that a call for outcomes reported as ended, and whether each succeeded, if it was answered.
fn ended(bench: &Bench<TaskQueue>, collect: CallId) -> Option<Vec<(u64, bool)>> {
    let ended = bench.reply::<Collect>(collect)?.unwrap();
    let ended = ended.iter();
    Some(
        ended
            .map(|ended| (ended.number, ended.outcome.is_ok()))
            .collect(),
    )
}

/// The ids of all jobs that a worker received by a call.
fn each(bench: &Bench<TaskQueue>, worker: CallId) -> Vec<JobId> {
    let jobs = bench.reply::<Next>(worker).unwrap().unwrap().unwrap();
    let each = jobs.into_iter().flat_map(Job::each);
    each.map(|(id, arguments)| {
        assert_eq!(arguments, Blob::from(vec![7]));
        id
    })
    .collect()
}

fn report(bench: &mut Bench<TaskQueue>, worker: u64, jobs: &[JobId]) {
    let finished = jobs.iter().map(|job| Finished {
        job: *job,
        outcome: JobOutcome::Done(Blob::from(vec![14])),
    });
    bench.call(worker, Reports(finished.collect()));
}

#[test]
fn tasks_of_a_series_are_given_out_in_parts_and_their_outcomes_collected_together() {
    let mut bench = bench();
    let tasks = feed(&mut bench, 2000, 10, 0);
    let waits = collect(&mut bench);
    let taken = [(1, 4), (2, 3), (1, 9)].map(|(worker, most)| {
        let taken = next_of(&mut bench, worker, most);
        each(&bench, taken)
    });
    assert_eq!(taken.concat(), tasks);
    assert_eq!(ended(&bench, waits), None);
    report(&mut bench, 2, &tasks[4..6]);
    assert_eq!(ended(&bench, waits), Some(vec![(2004, true), (2005, true)]));
    // Reports may come in any order.
    report(&mut bench, 1, &[tasks[2], tasks[0], tasks[8]]);
    report(&mut bench, 2, &tasks[6..7]);
    let waits = collect(&mut bench);
    let numbers = [2002, 2000, 2008, 2006].map(|number| (number, true));
    assert_eq!(ended(&bench, waits), Some(numbers.to_vec()));
    // The worker still has the other jobs.
    bench.hang_up(1);
    let waits = collect(&mut bench);
    assert_eq!(ended(&bench, waits), Some(vec![(2001, false)]));
    let taken = next_of(&mut bench, 2, 9);
    let left = [3, 7, 9].map(|place: usize| tasks[place]);
    assert_eq!(each(&bench, taken), left);
}

#[test]
fn one_task_of_a_series_is_tried_again_and_those_behind_it_are_given_to_others() {
    let mut bench = bench();
    let tasks = feed(&mut bench, 2000, 5, 1);
    next_of(&mut bench, 1, 4);
    report(&mut bench, 1, &tasks[..1]);
    bench.hang_up(1);
    let taken = next_of(&mut bench, 2, 9);
    assert_eq!(each(&bench, taken), tasks[1..]);
    bench.hang_up(2);
    let waits = collect(&mut bench);
    assert_eq!(
        ended(&bench, waits),
        Some(vec![(2000, true), (2001, false)])
    );
    let taken = next_of(&mut bench, 3, 9);
    assert_eq!(each(&bench, taken), tasks[2..]);
}

#[test]
fn tasks_of_a_series_that_are_handed_back_are_run_by_others_in_their_order() {
    let mut bench = bench();
    let tasks = feed(&mut bench, 2000, 5, 0);
    next_of(&mut bench, 1, 4);
    let unseen = next_of(&mut bench, 1, 4);
    bench.withdraw(unseen);
    let jobs = tasks[2..4].to_vec();
    bench.call(1, HandBack { jobs });
    let taken = next_of(&mut bench, 2, 9);
    assert_eq!(each(&bench, taken), tasks[2..]);
    report(&mut bench, 1, &tasks[..2]);
    let waits = collect(&mut bench);
    assert_eq!(ended(&bench, waits), Some(vec![(2000, true), (2001, true)]));
}

#[test]
fn tasks_of_a_series_that_is_left_are_not_run_and_those_that_are_have_no_effect() {
    for by_death in [true, false] {
        let mut bench = bench();
        let tasks = feed(&mut bench, 2000, 4, 9);
        next_of(&mut bench, 1, 2);
        let other = submit(&mut bench, 8, 0);
        if by_death {
            bench.hang_up(9);
        } else {
            bench.call(9, Leave { series: 1000 });
        }
        let taken = next_of(&mut bench, 2, 9);
        assert_eq!(jobs(&bench, taken), Some(vec![other]));
        report(&mut bench, 1, &tasks[..1]);
        bench.hang_up(1);
        let idle = next(&mut bench, 3);
        assert!(!bench.is_answered(idle));
    }
}

#[test]
fn a_closed_queue_ends_the_tasks_of_a_series() {
    let mut bench = bench();
    feed(&mut bench, 2000, 2, 0);
    next(&mut bench, 1);
    let waits = collect(&mut bench);
    let reason = Some(TaskFault::Terminated);
    bench.call(9, CloseTasks { reason });
    assert_eq!(
        ended(&bench, waits),
        Some(vec![(2001, false), (2000, false)])
    );
    feed(&mut bench, 3000, 1, 0);
    let waits = collect(&mut bench);
    assert_eq!(ended(&bench, waits), Some(vec![(3000, false)]));
}

#[test]
fn outcomes_of_a_series_come_in_as_many_messages_as_they_need() {
    let mut bench = bench();
    let tasks = feed(&mut bench, 2000, 3, 0);
    next_of(&mut bench, 1, 9);
    for task in &tasks {
        let outcome = JobOutcome::Done(Blob::from(vec![7; MOST_BYTES_AT_A_TIME / 2 + 1]));
        bench.call(
            1,
            Finished {
                job: *task,
                outcome,
            },
        );
    }
    for number in 2000..2003 {
        let waits = collect(&mut bench);
        assert_eq!(ended(&bench, waits), Some(vec![(number, true)]));
    }
}

#[test]
fn a_collector_that_gives_up_loses_nothing() {
    let mut bench = bench();
    let tasks = feed(&mut bench, 2000, 1, 0);
    next(&mut bench, 1);
    let waits = collect(&mut bench);
    bench.withdraw(waits);
    report(&mut bench, 1, &tasks);
    let waits = collect(&mut bench);
    assert_eq!(ended(&bench, waits), Some(vec![(2000, true)]));
    let nothing = bench.call(8, Collect { series: 1000 });
    assert!(bench.reply::<Collect>(nothing).unwrap().is_err());
}
#[test]
fn a_submitter_that_numbers_its_tasks_anyhow_gets_all_outcomes_and_leaves_nothing() {
    let mut bench = bench();
    let chunk = submit(&mut bench, 9, 0);
    let other = submit(&mut bench, 8, 0);
    // Numbers that repeat, that are the number of a chunk, and that overflow.
    let firsts = [2000, 2000, chunk.seq(), other.seq(), u64::MAX - 1];
    for first in firsts {
        feed(&mut bench, first, 3, 0);
    }
    let worker = next_of(&mut bench, 1, 99);
    let jobs: Vec<JobId> = each(&bench, worker);
    let distinct: BTreeSet<&JobId> = jobs.iter().collect();
    assert_eq!((jobs.len(), distinct.len()), (17, 17));
    report(&mut bench, 1, &jobs);
    for task in [chunk, other] {
        assert!(matches!(outcome(&bench, task), Some(Ok(_))));
    }
    let waits = collect(&mut bench);
    let told = ended(&bench, waits).expect("there are some");
    let numbers = firsts
        .iter()
        .flat_map(|first| (0..3).map(|n| first.wrapping_add(n)));
    let expected: Vec<(u64, bool)> = numbers.map(|number| (number, true)).collect();
    assert_eq!(told, expected);

    feed(&mut bench, 2000, 3, 0);
    feed(&mut bench, 2000, 3, 0);
    next_of(&mut bench, 1, 2);
    bench.hang_up(9);
    bench.hang_up(1);
    let count = bench.call(8, GetTaskQueueStatus);
    let count = bench.reply::<GetTaskQueueStatus>(count).unwrap().unwrap();
    assert_eq!((count.waiting, count.running), (0, 0));
    assert!(bench.primitive().unwrap().jobs.assigned.is_empty());
}

/// Feeds tasks of one byte, with a name of their own.
fn feed_named(bench: &mut Bench<TaskQueue>, session: u64, series: u64, task: &str, count: u32) {
    let tasks = usize::try_from(count).unwrap();
    let row = Row::new(vec![7; tasks].into(), vec![1; tasks]);
    let first = 0;
    let feed = Feed {
        series,
        first,
        task: task.to_owned(),
        row,
        rule: None,
    };
    bench.call(session, feed);
}

/// The answer of a call with a list of `entries` entries.
fn list_of<O>(make: impl Fn(usize) -> O, entries: usize) -> Result<(), Fault>
where
    O: Operation<Reply = ()>,
    TaskQueue: Serve<O>,
{
    let mut bench = bench();
    let call = bench.call(9, make(entries));
    bench.reply::<O>(call).expect("it is answered at once")
}

#[test]
fn a_call_with_a_longer_list_than_a_turn_has_time_for_fails_alone() {
    let feed = |tasks| Feed {
        series: 1000,
        first: 0,
        task: String::new(),
        row: Row::new(Blob::default(), vec![0; tasks]),
        rule: None,
    };
    let job = || JobId::from(CallId::new(SessionId::new(9), 1));
    let hand_back = |jobs| HandBack {
        jobs: vec![job(); jobs],
    };
    let reports = |jobs| {
        let finished = || Finished {
            job: job(),
            outcome: JobOutcome::Failed(TaskFault::Closed),
        };
        Reports((0..jobs).map(|_| finished()).collect())
    };
    assert_eq!(list_of(feed, Row::MOST_TASKS), Ok(()));
    assert_eq!(list_of(hand_back, HandBack::MOST), Ok(()));
    assert_eq!(list_of(reports, Reports::MOST), Ok(()));
    for (most, refused) in [
        (Row::MOST_TASKS, list_of(feed, Row::MOST_TASKS + 1)),
        (HandBack::MOST, list_of(hand_back, HandBack::MOST + 1)),
        (Reports::MOST, list_of(reports, Reports::MOST + 1)),
    ] {
        let Err(Fault::BadArguments(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains(&format!("at most {most} entries")), "{why}");
    }
}

#[test]
fn a_worker_is_given_no_more_tasks_at_once_than_a_turn_has_time_for() {
    let mut bench = bench();
    for series in 0..3 {
        let row = Row::new(Blob::default(), vec![0; Row::MOST_TASKS]);
        let feed = Feed {
            series: 1000 + series,
            first: 0,
            task: String::new(),
            row,
            rule: None,
        };
        bench.call(9, feed);
    }
    let taken = next_of(&mut bench, 1, u32::MAX);
    let reply = bench.reply::<Next>(taken).expect("there are tasks");
    let jobs = reply.unwrap().expect("no worker is sent home");
    let tasks: usize = jobs.iter().map(|job| job.row.len()).sum();
    assert_eq!(tasks, Row::MOST_TASKS);
}

#[test]
fn tasks_that_were_submitted_together_share_their_name() {
    let mut bench = bench();
    let name = "n".repeat(1 << 20);
    feed_named(&mut bench, 9, 1, &name, 20);
    for _ in 0..10 {
        next(&mut bench, 1);
    }
    let queue = &bench.primitive().unwrap().jobs;
    let names = queue.assigned.iter().chain(queue.waiting.iter());
    let names: BTreeSet<*const u8> = names.map(|job| job.task.as_ptr()).collect();
    assert_eq!((queue.assigned.iter().count(), names.len()), (10, 1));
}

#[test]
fn jobs_with_long_names_do_not_come_in_one_message() {
    let mut bench = bench();
    let name = "n".repeat(MOST_BYTES_AT_A_TIME / 2);
    for series in 0..3 {
        feed_named(&mut bench, 9, series, &name, 1);
    }
    let taken = next_of(&mut bench, 1, 9);
    assert_eq!(jobs(&bench, taken).map(|jobs| jobs.len()), Some(1));
}

#[test]
fn the_text_that_a_queue_is_closed_with_is_cut_and_kept_once() {
    let mut bench = bench();
    feed_named(&mut bench, 9, 1, "double", 100);
    next_of(&mut bench, 1, 50);
    let reason = Some(TaskFault::Broken("\u{1f480}".repeat(1 << 18)));
    bench.call(8, CloseTasks { reason });
    let closed = bench.primitive().unwrap().jobs.closed.as_ref().unwrap();
    assert_eq!(
        (closed.fault.text().len(), Rc::strong_count(closed)),
        (4096, 101)
    );
    let waits = bench.call(9, Collect { series: 1 });
    let ended = bench.reply::<Collect>(waits).unwrap().unwrap();
    assert_eq!(ended.len(), 100);
}

#[test]
fn the_text_that_waiting_tasks_fail_with_is_cut() {
    let mut bench = bench();
    feed_named(&mut bench, 9, 1, "double", 2);
    let reason = TaskFault::Broken("\u{1f480}".repeat(1 << 18));
    bench.call(8, FailTasks { reason });
    let waits = bench.call(9, Collect { series: 1 });
    let ended = bench.reply::<Collect>(waits).unwrap().unwrap();
    let faults = ended.iter().filter_map(|it| it.outcome.as_ref().err());
    let lengths: Vec<usize> = faults.map(|failure| failure.fault.text().len()).collect();
    assert_eq!(lengths, [4096, 4096]);
}

#[test]
fn no_call_visits_the_jobs_that_it_does_not_concern() {
    takes_linear_time(500, calls_among);
}

#[test]
fn no_release_moves_the_other_jobs_of_its_series() {
    takes_linear_time(100, releases_among);
}

/// Sixteen times as many calls take sixteen times as long, and not 256 times.
fn takes_linear_time(few: u64, time: impl Fn(u64) -> Duration) {
    let ratio = || time(16 * few).as_secs_f64() / time(few).as_secs_f64();
    let ratios: Vec<f64> = (0..5)
        .map(|_| ratio())
        .take_while(|it| *it > 64.0)
        .collect();
    assert!(ratios.len() < 5, "{ratios:?}");
}

/// The time to run a series of `many` jobs and as many chunks, of which the limit allows one at a time.
fn releases_among(many: u64) -> Duration {
    let start = Instant::now();
    let mut bench = bench();
    limit(&mut bench, 0);
    for first in 0..many {
        feed(&mut bench, first, 1, 0);
        submit_in(&mut bench, Some(1000));
    }
    for _ in 0..2 * many {
        let worker = next(&mut bench, 1);
        let given = job(&bench, worker).expect("the next job in order is given");
        let outcome = JobOutcome::Done(Blob::from(vec![14]));
        let job = given.into();
        bench.call(1, Finished { job, outcome });
        let paused = next(&mut bench, 2);
        bench.withdraw(paused);
        release(&mut bench, 1);
    }
    assert!(bench.primitive().unwrap().jobs.waiting.is_empty());
    start.elapsed()
}

/// The time of many calls of each sort, with `many` chunks and rows.
fn calls_among(many: u64) -> Duration {
    let start = Instant::now();
    let mut bench = bench();
    // `many` chunks, series and rows in one hand, and `many` in the line.
    let mut chunks: Vec<CallId> = Vec::new();
    for series in 0..many {
        feed_named(&mut bench, 9, series, "double", 2);
        chunks.push(submit(&mut bench, 9, 0));
    }
    while !bench.primitive().unwrap().jobs.waiting.is_empty() {
        next_of(&mut bench, 1, u32::MAX);
    }
    for series in 0..many {
        feed_named(&mut bench, 9, many + series, "double", 2);
        chunks.push(submit(&mut bench, 9, 0));
    }
    let unknown = |n| JobId::from(CallId::new(SessionId::new(7), n));
    let jobs = (0..many).map(unknown).collect();
    bench.call(1, HandBack { jobs });
    let outcome = || JobOutcome::Done(Blob::default());
    let reports = (0..many).map(|n| Finished {
        job: unknown(n),
        outcome: outcome(),
    });
    bench.call(1, Reports(reports.collect()));
    let reason = None;
    bench.call(8, CloseTasks { reason });
    for n in 0..many {
        bench.withdraw(CallId::new(SessionId::new(1), u64::MAX / 4 + n));
        bench.withdraw(CallId::new(SessionId::new(9), u64::MAX / 4 + n));
        bench.call(8, GetTaskQueueStatus);
        let series = 2 * n;
        bench.call(9, Leave { series });
    }
    for chunk in chunks.iter().step_by(2) {
        bench.withdraw(*chunk);
    }
    let count = bench.call(8, GetTaskQueueStatus);
    let count = bench.reply::<GetTaskQueueStatus>(count).unwrap().unwrap();
    // The worker also has the jobs that are not awaited.
    assert_eq!((count.waiting, count.running), (3 * many / 2, 3 * many));
    let running = bench.primitive().unwrap().jobs.assigned.running();
    assert_eq!(u64::try_from(running), Ok(3 * many / 2));
    bench.hang_up(9);
    let queue = &bench.primitive().unwrap().jobs;
    assert_eq!((queue.waiting.tasks(), queue.assigned.running()), (0, 0));
    bench.hang_up(1);
    assert!(bench.primitive().unwrap().jobs.assigned.is_empty());
    start.elapsed()
}

#[test]
fn tasks_of_a_row_are_handed_back_one_by_one_from_its_end() {
    const MANY: u32 = 20_000;
    let mut bench = bench();
    feed_named(&mut bench, 9, 1, "double", MANY);
    let taken = next_of(&mut bench, 1, MANY);
    let jobs: Vec<JobId> = each(&bench, taken);
    for last in jobs.rchunks(HandBack::MOST) {
        let jobs = last.to_vec();
        bench.call(1, HandBack { jobs });
    }
    let queue = &bench.primitive().unwrap().jobs;
    assert!(queue.assigned.is_empty());
    let waiting: Vec<JobId> = queue.waiting.iter().map(|job| job.id).collect();
    assert_eq!(waiting, jobs);
    assert_eq!(queue.waiting.tasks(), jobs.len());
}

/// Limits the outcomes of the first series of session 9.
fn limit(bench: &mut Bench<TaskQueue>, most: u64) {
    bench.call(9, LimitSeries { series: 1000, most });
}

/// Submits a chunk of session 9 whose outcome counts for a series.
fn submit_in(bench: &mut Bench<TaskQueue>, series: Option<u64>) -> CallId {
    let chunk = Chunk {
        task: "double".to_owned(),
        arguments: Blob::from(vec![7]),
    };
    bench.call(
        9,
        Submit {
            chunk,
            rule: None,
            series,
        },
    )
}

/// Releases as many outcomes of one byte.
fn release(bench: &mut Bench<TaskQueue>, count: u64) {
    let released = ReleaseOutcomes {
        series: 1000,
        bytes: count,
        count,
    };
    bench.call(9, released);
}

/// The call for work of a worker that has reported its job, if that was answered with one job.
fn next_job(bench: &mut Bench<TaskQueue>, session: u64, job: JobId) -> Option<CallId> {
    let next = finish(bench, session, job.into());
    self::job(bench, next)
}

#[test]
fn series_at_its_limit_waits_for_a_release_while_other_jobs_go_on() {
    let mut bench = bench();
    limit(&mut bench, 2);
    let jobs = feed(&mut bench, 1, 4, 0);
    let first = next(&mut bench, 1);
    assert_eq!(job(&bench, first), Some(jobs[0].into()));
    assert_eq!(next_job(&mut bench, 1, jobs[0]), Some(jobs[1].into()));
    let paused = finish(&mut bench, 1, jobs[1].into());
    assert_eq!(job(&bench, paused), None);
    // Outcomes that were collected still count.
    let told = collect(&mut bench);
    assert_eq!(ended(&bench, told), Some(vec![(1, true), (2, true)]));
    assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 2);
    // The paused tasks are not in the way of others.
    let chunk = submit(&mut bench, 9, 0);
    assert_eq!(job(&bench, paused), Some(chunk));
    let second = next(&mut bench, 2);
    assert_eq!(job(&bench, second), None);
    release(&mut bench, 1);
    assert_eq!(job(&bench, second), Some(jobs[2].into()));
}

#[test]
fn series_at_its_limit_is_given_the_task_that_is_next_in_order() {
    let mut bench = bench();
    limit(&mut bench, 1);
    let jobs = feed(&mut bench, 1, 4, 1);
    let two = [next(&mut bench, 1), next(&mut bench, 2)];
    assert_eq!(
        two.map(|it| job(&bench, it)),
        [0, 1].map(|place| Some(jobs[place].into()))
    );
    // The second task reaches the limit, and the worker of the first one dies: the next outcome in order is missing.
    let idle = finish(&mut bench, 2, jobs[1].into());
    assert_eq!(job(&bench, idle), None);
    bench.hang_up(1);
    assert_eq!(job(&bench, idle), Some(jobs[0].into()));
    assert_eq!(next_job(&mut bench, 2, jobs[0]), None);
    release(&mut bench, 1);
    let third = next(&mut bench, 3);
    assert_eq!(job(&bench, third), None);
    release(&mut bench, 1);
    assert_eq!(bench.primitive().unwrap().jobs.status().running, 2);
}

#[test]
fn chunk_counts_for_the_series_that_it_names() {
    let mut bench = bench();
    limit(&mut bench, 1);
    let [first, second] = [(); 2].map(|()| submit_in(&mut bench, Some(1000)));
    let free = submit_in(&mut bench, None);
    let worker = next(&mut bench, 1);
    assert_eq!(job(&bench, worker), Some(first));
    assert_eq!(next_job(&mut bench, 1, first.into()), Some(free));
    // A withdrawn job does not come back.
    bench.withdraw(second);
    release(&mut bench, 1);
    assert_eq!(next_job(&mut bench, 1, free.into()), None);
    assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 0);
}

#[test]
fn closed_queue_runs_the_tasks_of_a_series_at_its_limit() {
    let mut bench = bench();
    limit(&mut bench, 0);
    let jobs = feed(&mut bench, 1, 2, 0);
    next(&mut bench, 1);
    let paused = finish(&mut bench, 1, jobs[0].into());
    assert_eq!(job(&bench, paused), None);
    bench.call(9, CloseTasks { reason: None });
    assert_eq!(job(&bench, paused), Some(jobs[1].into()));
}

#[test]
fn paused_tasks_end_with_their_series_their_session_and_their_queue() {
    for is_left in [true, false] {
        let mut bench = bench();
        limit(&mut bench, 0);
        let jobs = feed(&mut bench, 1, 2, 0);
        next(&mut bench, 1);
        finish(&mut bench, 1, jobs[0].into());
        assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 1);
        if is_left {
            bench.call(9, Leave { series: 1000 });
        } else {
            bench.hang_up(9);
        }
        assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 0);
    }
    let mut bench = bench();
    limit(&mut bench, 0);
    let jobs = feed(&mut bench, 1, 2, 0);
    next(&mut bench, 1);
    finish(&mut bench, 1, jobs[0].into());
    let reason = TaskFault::Broken("no room".to_owned());
    bench.call(9, FailTasks { reason });
    let told = collect(&mut bench);
    assert_eq!(ended(&bench, told), Some(vec![(1, true), (2, false)]));
}

#[test]
fn chunks_of_a_series_that_is_left_are_withdrawn_unless_a_worker_has_them() {
    for most in [0, 100] {
        let mut bench = bench();
        limit(&mut bench, most);
        let chunks = [(); 3].map(|()| submit_in(&mut bench, Some(1000)));
        let free = submit_in(&mut bench, None);
        next(&mut bench, 1);
        bench.call(9, Leave { series: 1000 });
        for waiting in &chunks[1..] {
            let withdrawn = bench.reply::<Submit>(*waiting);
            assert_eq!(withdrawn, Some(Err(Fault::Withdrawn)));
        }
        assert_eq!(next_job(&mut bench, 1, chunks[0].into()), Some(free));
        assert!(matches!(outcome(&bench, chunks[0]), Some(Ok(_))));
        assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 0);
    }
}

#[test]
fn number_of_a_series_that_is_used_again_loses_no_chunk() {
    let mut bench = bench();
    limit(&mut bench, 0);
    let [given, gone] = [(); 2].map(|()| submit_in(&mut bench, Some(1000)));
    next(&mut bench, 1);
    bench.call(9, Leave { series: 1000 });
    limit(&mut bench, 0);
    let again = [(); 2].map(|()| submit_in(&mut bench, Some(1000)));
    let jobs = vec![given.into()];
    bench.call(1, HandBack { jobs });
    let worker = next_of(&mut bench, 1, 9);
    assert_eq!(self::jobs(&bench, worker), Some(vec![given, again[0]]));
    // The withdrawal comes late, and concerns no job of the new series.
    bench.withdraw(gone);
    release(&mut bench, 1);
    assert_eq!(next_job(&mut bench, 1, given.into()), Some(again[1]));
    for chunk in again {
        finish(&mut bench, 1, chunk);
    }
    for chunk in [given, again[0], again[1]] {
        assert!(matches!(outcome(&bench, chunk), Some(Ok(_))));
        assert_eq!(bench.times_answered(chunk), 1);
    }
    let queue = &bench.primitive().unwrap().jobs;
    assert!(queue.waiting.is_empty() && queue.assigned.is_empty());
}

#[test]
fn call_that_collects_is_withdrawn_by_another_one_and_by_the_end_of_its_series() {
    let mut bench = bench();
    feed(&mut bench, 1, 1, 0);
    let [first, second] = [(); 2].map(|()| collect(&mut bench));
    let reply = |bench: &Bench<TaskQueue>, call| bench.reply::<Collect>(call);
    assert_eq!(reply(&bench, first), Some(Err(Fault::Withdrawn)));
    assert_eq!(reply(&bench, second), None);
    bench.call(9, Leave { series: 1000 });
    assert_eq!(reply(&bench, second), Some(Err(Fault::Withdrawn)));
}

mod drain;
mod limits;
