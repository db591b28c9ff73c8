//! Time limits, kills and retries, one fact each.

use lockkeeper_protocol::operations::{Due, Enlist, KillTask, ListRunning, Running, Tend, Tended};

use super::*;

const SUBMITTER: u64 = 9;
const SUPERVISOR: u64 = 8;

const LIMIT: Duration = Duration::from_millis(100);

fn limited() -> Option<TaskRule> {
    Some(TaskRule {
        limit: Some(100_000),
        retry: None,
    })
}

fn retried(attempts: u32) -> Option<TaskRule> {
    let retry = RetryRule {
        attempts,
        deaths: true,
        panics: true,
        transient: true,
        first_pause: 100_000,
        longest_pause: 100_000,
    };
    Some(TaskRule {
        limit: None,
        retry: Some(retry),
    })
}

fn submit_with(bench: &mut Bench<TaskQueue>, rule: Option<TaskRule>) -> CallId {
    let chunk = Chunk {
        task: "double".to_owned(),
        arguments: Blob::from(vec![7]),
    };
    let series = None;
    let submit = Submit {
        chunk,
        rule,
        series,
    };
    bench.call(SUBMITTER, submit)
}

/// Submits tasks of the first series, numbered from 0.
fn feed_with(bench: &mut Bench<TaskQueue>, count: u64, rule: Option<TaskRule>) -> Vec<JobId> {
    feed_by(bench, 0, count, rule)
}

/// Ends the killed worker, and checks that its first task has failed and that another worker gets the others.
fn only_the_first_is_killed(bench: &mut Bench<TaskQueue>, tasks: &[JobId]) {
    bench.hang_up(1);
    let waits = collect(bench);
    assert_eq!(ended(bench, waits), Some(vec![(0, false)]));
    let taken = next_of(bench, 2, 9);
    assert_eq!(each(bench, taken), tasks[1..]);
}

fn enlist(bench: &mut Bench<TaskQueue>, worker: u64) {
    let pid = pid(worker);
    bench.call(worker, Enlist { pid });
}

fn pid(worker: u64) -> u32 {
    u32::try_from(4000 + worker).unwrap()
}

fn tend(bench: &mut Bench<TaskQueue>, returns_at: Option<u64>) -> CallId {
    bench.call(SUPERVISOR, Tend { returns_at })
}

fn tended(bench: &Bench<TaskQueue>, call: CallId) -> Option<Tended> {
    bench.reply::<Tend>(call).map(Result::unwrap)
}

/// Returns which workers the queue wants to be killed now, and when the next thing is due.
fn look(bench: &mut Bench<TaskQueue>) -> (Vec<u32>, Option<u64>) {
    let call = tend(bench, None);
    let tended = tended(bench, call).unwrap_or_default();
    (tended.kill, tended.next.map(|next| next.micros))
}

fn report_of(bench: &mut Bench<TaskQueue>, worker: u64, job: CallId, outcome: JobOutcome) {
    let job = job.into();
    bench.call(worker, Finished { job, outcome });
}

fn done() -> JobOutcome {
    JobOutcome::Done(Blob::from(vec![14]))
}

fn panicked() -> JobOutcome {
    JobOutcome::Failed(TaskFault::Panicked("on purpose".to_owned()))
}

fn kill(bench: &mut Bench<TaskQueue>, task: CallId) {
    let call = task.seq();
    bench.call(SUBMITTER, KillTask { call });
}

#[test]
fn worker_whose_task_is_over_its_limit_is_killed_and_the_task_fails_with_the_limit() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let task = submit_with(&mut bench, limited());
    let waits = tend(&mut bench, None);
    assert_eq!(tended(&bench, waits), None, "nothing has begun");
    bench.advance(Duration::from_secs(60));
    next(&mut bench, 1);
    let told = tended(&bench, waits).unwrap();
    assert_eq!((told.kill, told.next.unwrap().micros), (vec![], 100_000));
    // The supervisor looks at that time by itself.
    let waits = tend(&mut bench, told.next.map(|next| next.at));
    bench.advance(LIMIT - Duration::from_micros(1));
    assert_eq!(tended(&bench, waits), None);
    assert_eq!(look(&mut bench), (vec![], Some(1)));
    bench.advance(Duration::from_micros(1));
    assert_eq!(look(&mut bench).0, [pid(1)]);
    assert_eq!(look(&mut bench).0, [], "it was told");
    bench.hang_up(1);
    let limit = Err((TaskFault::TimeLimit(LIMIT), 1));
    assert_eq!(outcome(&bench, task), Some(limit));
    let failure = bench.reply::<Submit>(task).unwrap().unwrap().unwrap_err();
    assert_eq!(failure.ran, Some(LIMIT));
}

#[test]
fn limit_counts_from_the_report_on_the_task_before() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let (first, second) = (
        submit_with(&mut bench, None),
        submit_with(&mut bench, limited()),
    );
    next_of(&mut bench, 1, 2);
    bench.advance(Duration::from_secs(60));
    assert_eq!(look(&mut bench).0, [], "the first has no limit");
    report_of(&mut bench, 1, first, done());
    assert_eq!(look(&mut bench), (vec![], Some(100_000)));
    bench.advance(LIMIT);
    assert_eq!(look(&mut bench).0, [pid(1)]);
    bench.hang_up(1);
    assert_eq!(
        outcome(&bench, second),
        Some(Err((TaskFault::TimeLimit(LIMIT), 1)))
    );
}

#[test]
fn worker_with_other_tasks_is_killed_only_once_it_has_returned_them() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let tasks = feed_with(&mut bench, 3, limited());
    next_of(&mut bench, 1, 3);
    bench.advance(2 * LIMIT);
    assert_eq!(look(&mut bench), (vec![], Some(4000)));
    bench.call(
        1,
        HandBack {
            jobs: tasks[1..].to_vec(),
        },
    );
    assert_eq!(look(&mut bench).0, [pid(1)]);
    only_the_first_is_killed(&mut bench, &tasks);
}

#[test]
fn worker_that_returns_nothing_is_killed_in_the_end() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let tasks = feed_with(&mut bench, 3, limited());
    next_of(&mut bench, 1, 3);
    bench.advance(LIMIT + Duration::from_secs(1));
    assert_eq!(look(&mut bench).0, [pid(1)]);
    only_the_first_is_killed(&mut bench, &tasks);
}

#[test]
fn task_that_ends_before_the_kill_keeps_its_outcome_and_its_worker_gets_no_other() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let task = submit_with(&mut bench, limited());
    next(&mut bench, 1);
    bench.advance(LIMIT);
    assert_eq!(look(&mut bench).0, [pid(1)]);
    let other = submit_with(&mut bench, None);
    finish(&mut bench, 1, task);
    assert_eq!(outcome(&bench, task), Some(Ok(Blob::from(vec![14]))));
    assert!(!bench.is_answered(other));
    bench.advance(Duration::from_secs(1));
    assert_eq!(look(&mut bench).0, [pid(1)], "it is still to be killed");
    bench.hang_up(1);
    let taken = next(&mut bench, 2);
    assert_eq!(job(&bench, taken), Some(other));
    assert!(
        bench
            .primitive()
            .unwrap()
            .jobs
            .assigned
            .has(SessionId::new(2))
    );
}

#[test]
fn task_that_nobody_waits_for_has_its_limit_too() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let task = submit_with(&mut bench, limited());
    next(&mut bench, 1);
    bench.withdraw(task);
    bench.advance(LIMIT);
    assert_eq!(look(&mut bench).0, [pid(1)]);
    bench.hang_up(1);
    assert_eq!(bench.times_answered(task), 1);
    assert_eq!(look(&mut bench), (vec![], None));
}

#[test]
fn killed_task_that_waits_is_withdrawn() {
    let mut bench = bench();
    let task = submit_with(&mut bench, None);
    kill(&mut bench, task);
    assert_eq!(outcome(&bench, task), Some(Err((TaskFault::Killed, 0))));
    kill(&mut bench, task);
    assert_eq!(bench.times_answered(task), 1);
    assert!(bench.primitive().unwrap().jobs.waiting.is_empty());
}

#[test]
fn worker_of_a_killed_task_is_killed_at_once_and_its_neighbours_are_not() {
    let mut bench = bench();
    for worker in [1, 2] {
        enlist(&mut bench, worker);
    }
    let [task, other] = [(); 2].map(|()| submit_with(&mut bench, retried(9)));
    for worker in [1, 2] {
        next(&mut bench, worker);
    }
    let waits = tend(&mut bench, None);
    kill(&mut bench, task);
    kill(&mut bench, task);
    assert_eq!(tended(&bench, waits).unwrap().kill, [pid(1)]);
    assert!(!bench.is_answered(task), "it is running");
    bench.hang_up(1);
    assert_eq!(outcome(&bench, task), Some(Err((TaskFault::Killed, 1))));
    finish(&mut bench, 2, other);
    assert_eq!(outcome(&bench, other), Some(Ok(Blob::from(vec![14]))));
    kill(&mut bench, other);
    let (kill, _) = look(&mut bench);
    assert_eq!(kill, [], "it has its outcome");
}

#[test]
fn killed_task_that_its_worker_returns_is_not_run() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let [first, second] = [(); 2].map(|()| submit_with(&mut bench, None));
    next_of(&mut bench, 1, 2);
    kill(&mut bench, second);
    assert_eq!(look(&mut bench), (vec![], Some(4000)));
    bench.call(
        1,
        HandBack {
            jobs: vec![second.into()],
        },
    );
    assert_eq!(outcome(&bench, second), Some(Err((TaskFault::Killed, 0))));
    assert_eq!(look(&mut bench), (vec![], None));
    finish(&mut bench, 1, first);
    assert!(matches!(outcome(&bench, first), Some(Ok(_))));
}

#[test]
fn killed_task_behind_one_that_hangs_has_its_outcome_after_a_second() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let [first, second] = [(); 2].map(|()| submit_with(&mut bench, None));
    next_of(&mut bench, 1, 2);
    kill(&mut bench, second);
    bench.advance(Duration::from_secs(1));
    assert_eq!(look(&mut bench).0, []);
    assert_eq!(outcome(&bench, second), Some(Err((TaskFault::Killed, 0))));
    assert!(!bench.is_answered(first));
    bench.hang_up(1);
    assert_eq!(outcome(&bench, first), Some(died()));
    assert!(bench.primitive().unwrap().jobs.assigned.is_empty());
}

#[test]
fn failed_task_with_retries_pauses_and_runs_again_with_its_number() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let task = submit_with(&mut bench, retried(3));
    next(&mut bench, 1);
    let waits = tend(&mut bench, None);
    report_of(&mut bench, 1, task, panicked());
    let pause = tended(&bench, waits).unwrap().next.unwrap();
    assert!((50_000..=100_000).contains(&pause.micros), "{pause:?}");
    let work = next(&mut bench, 1);
    bench.advance(Duration::from_micros(pause.micros - 1));
    look(&mut bench);
    assert!(!bench.is_answered(work));
    assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 1);
    bench.advance(Duration::from_micros(1));
    look(&mut bench);
    let jobs = bench.reply::<Next>(work).unwrap().unwrap().unwrap();
    assert_eq!(jobs[0].attempt, 2);
    report_of(
        &mut bench,
        1,
        task,
        JobOutcome::Transient(Blob::from(vec![1])),
    );
    bench.advance(LIMIT);
    look(&mut bench);
    let work = next(&mut bench, 1);
    assert_eq!(
        bench.reply::<Next>(work).unwrap().unwrap().unwrap()[0].attempt,
        3
    );
    report_of(
        &mut bench,
        1,
        task,
        JobOutcome::Transient(Blob::from(vec![2])),
    );
    let last = Ok(Blob::from(vec![2]));
    assert_eq!(
        outcome(&bench, task),
        Some(last),
        "the last output is the outcome"
    );
}

#[test]
fn last_failure_says_how_many_attempts_there_were() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let task = submit_with(&mut bench, retried(2));
    for _ in 0..2 {
        next(&mut bench, 1);
        bench.advance(LIMIT);
        report_of(&mut bench, 1, task, panicked());
        bench.advance(LIMIT);
        look(&mut bench);
    }
    let failure = bench.reply::<Submit>(task).unwrap().unwrap().unwrap_err();
    let expected = TaskFailure {
        fault: TaskFault::Panicked("on purpose".to_owned()),
        attempts: 2,
        ran: Some(LIMIT),
        pid: Some(pid(1)),
    };
    assert_eq!(*failure, expected);
}

#[test]
fn task_over_its_limit_is_not_run_again() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let rule = TaskRule {
        retry: retried(9).unwrap().retry,
        ..limited().unwrap()
    };
    let task = submit_with(&mut bench, Some(rule));
    next(&mut bench, 1);
    bench.advance(LIMIT);
    look(&mut bench);
    bench.hang_up(1);
    assert_eq!(
        outcome(&bench, task),
        Some(Err((TaskFault::TimeLimit(LIMIT), 1)))
    );
}

#[test]
fn tasks_that_pause_are_found_by_all_that_ends_tasks() {
    for way in 0..5 {
        let mut bench = bench();
        let task = submit_with(&mut bench, retried(9));
        feed_with(&mut bench, 2, retried(9));
        let work = next_of(&mut bench, 1, 9);
        for job in each(&bench, work) {
            report_of(&mut bench, 1, job.into(), panicked());
        }
        assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 3);
        let reason = TaskFault::Terminated;
        match way {
            0 => bench.withdraw(task),
            1 => kill(&mut bench, task),
            2 => drop(bench.call(7, FailTasks { reason })),
            3 => {
                let reason = Some(reason);
                bench.call(7, CloseTasks { reason });
            }
            _ => bench.hang_up(SUBMITTER),
        }
        bench.call(SUBMITTER, Leave { series: 1000 });
        assert_eq!(bench.times_answered(task), usize::from(way < 4), "{way}");
        assert_eq!(bench.primitive().unwrap().jobs.status().waiting, 0, "{way}");
        assert_eq!(look(&mut bench), (vec![], None), "{way}");
    }
}

#[test]
fn closed_queue_lets_tasks_that_pause_run_before_it_sends_workers_home() {
    let mut bench = bench();
    let task = submit_with(&mut bench, retried(2));
    next(&mut bench, 1);
    report_of(&mut bench, 1, task, panicked());
    bench.call(7, CloseTasks { reason: None });
    let work = next(&mut bench, 1);
    assert!(!bench.is_answered(work));
    bench.advance(LIMIT);
    look(&mut bench);
    assert_eq!(job(&bench, work), Some(task));
    let home = finish(&mut bench, 1, task);
    assert!(matches!(bench.reply::<Next>(home), Some(Ok(None))));
}

#[test]
fn running_tasks_are_listed_with_their_workers_and_times() {
    let mut bench = bench();
    enlist(&mut bench, 1);
    let [_, withdrawn] = [(); 2].map(|()| submit_with(&mut bench, None));
    next(&mut bench, 1);
    bench.advance(LIMIT);
    next(&mut bench, 2);
    bench.withdraw(withdrawn);
    let list = bench.call(SUPERVISOR, ListRunning);
    let running = |pid, task: Option<&str>, micros| Running {
        pid,
        task: task.map(Into::into),
        micros,
        attempt: 1,
    };
    let expected = vec![
        running(pid(1), Some("double"), 100_000),
        running(0, None, 0),
    ];
    assert_eq!(bench.reply::<ListRunning>(list), Some(Ok(expected)));
}

#[test]
fn supervisor_that_knows_the_time_is_not_woken_by_later_tasks() {
    let mut bench = bench();
    for worker in [1, 2] {
        enlist(&mut bench, worker);
    }
    submit_with(&mut bench, limited());
    next(&mut bench, 1);
    let call = tend(&mut bench, None);
    let Some(Due { at, .. }) = tended(&bench, call).unwrap().next else {
        panic!("the first is due");
    };
    let waits = tend(&mut bench, Some(at));
    bench.advance(LIMIT / 2);
    submit_with(&mut bench, limited());
    next(&mut bench, 2);
    assert_eq!(tended(&bench, waits), None);
    let sooner = TaskRule {
        limit: Some(1000),
        retry: None,
    };
    submit_with(&mut bench, Some(sooner));
    next(&mut bench, 3);
    assert_eq!(
        tended(&bench, waits),
        None,
        "the process of that worker is unknown"
    );
    enlist(&mut bench, 4);
    submit_with(&mut bench, Some(sooner));
    next(&mut bench, 4);
    assert_eq!(tended(&bench, waits).unwrap().next.unwrap().micros, 1000);
    // A call that its caller has left is answered no more.
    let waits = tend(&mut bench, None);
    bench.withdraw(waits);
    assert_eq!(bench.times_answered(waits), 1);
}
