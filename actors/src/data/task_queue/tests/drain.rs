//! The drain of a queue, one fact each.

use super::*;

/// Returns the fault of a task, and how often it was begun.
fn fault(bench: &Bench<TaskQueue>, task: CallId) -> Option<(TaskFault, u32)> {
    outcome(bench, task)?.err()
}

#[test]
fn a_drained_queue_gives_back_what_waits_and_what_comes_later() {
    let mut bench = bench();
    let (running, waiting) = (submit(&mut bench, 9, 0), submit(&mut bench, 9, 0));
    next(&mut bench, 1);
    bench.call(8, DrainTasks);
    assert_eq!(fault(&bench, waiting), Some((TaskFault::NotRun, 0)));
    let late = submit(&mut bench, 9, 0);
    assert_eq!(fault(&bench, late), Some((TaskFault::NotRun, 0)));
    assert!(!bench.is_answered(running));
    let home = finish(&mut bench, 1, running);
    assert!(outcome(&bench, running).is_some_and(|outcome| outcome.is_ok()));
    assert!(bench.reply::<Next>(home).unwrap().unwrap().is_none());
}

#[test]
fn a_drained_queue_gives_back_what_a_worker_returns_or_had_not_begun() {
    let mut bench = bench();
    let tasks: Vec<_> = (0..4).map(|_| submit(&mut bench, 9, 3)).collect();
    next_of(&mut bench, 1, 9);
    bench.call(8, DrainTasks);
    assert!(tasks.iter().all(|task| !bench.is_answered(*task)));
    let jobs = vec![tasks[3].into()];
    bench.call(1, HandBack { jobs });
    assert_eq!(fault(&bench, tasks[3]), Some((TaskFault::NotRun, 0)));
    // The first one has begun, and is not tried again.
    bench.hang_up(1);
    let exit = WorkerExit::Unknown;
    let died = TaskFault::WorkerDied { exit };
    assert_eq!(fault(&bench, tasks[0]), Some((died, 1)));
    for task in &tasks[1..3] {
        assert_eq!(fault(&bench, *task), Some((TaskFault::NotRun, 0)));
    }
}

#[test]
fn a_task_that_waits_for_another_attempt_has_begun_when_its_queue_is_drained() {
    let mut bench = bench();
    let task = submit(&mut bench, 9, 3);
    next(&mut bench, 1);
    bench.hang_up(1);
    bench.call(8, DrainTasks);
    assert_eq!(fault(&bench, task), Some((TaskFault::Terminated, 1)));
}
