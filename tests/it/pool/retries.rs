//! Tasks that run again, and errors of tasks.

use std::{
    error::Error,
    fmt,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use lockkeeper::{
    Blocking, BlockingTask, Failure, Pool, Retry, StartError, Task, TaskError, builders::Program,
    errors::TaskFault, task::attempt,
};
use lockkeeper_test_support::kill;
use serde::{Deserialize, Serialize};

use crate::{pool::basic_tasks::at_once, run};

/// Fails until its last attempt, in one of several ways. It logs each attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fails {
    how: How,
    until: u32,
    log: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum How {
    Dies,
    Panics,
    IsBusy,
}

/// The typed error of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum ServiceError {
    Busy,
    Refused,
}

impl BlockingTask for Fails {
    const NAME: &'static str = "fails";
    type Output = Result<u32, ServiceError>;

    fn run(self) -> Self::Output {
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log");
        writeln!(log, "{}", attempt()).expect("a line");
        if attempt() < self.until {
            match self.how {
                How::Dies => {
                    kill(process::id());
                    std::thread::sleep(Duration::from_secs(600));
                }
                How::Panics => panic!("attempt {}", attempt()),
                How::IsBusy => return Err(ServiceError::Busy),
            }
        }
        if self.until == 0 {
            return Err(ServiceError::Refused);
        }
        Ok(attempt())
    }

    fn is_transient(output: &Self::Output) -> bool {
        matches!(output, Err(ServiceError::Busy))
    }
}

/// Reads a number from a file, with any error on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ReadNumber(PathBuf);

impl Task for ReadNumber {
    const NAME: &'static str = "read number";
    type Output = Result<u32, Failure>;

    async fn run(self) -> Result<u32, Failure> {
        let text = fs::read_to_string(&self.0).map_err(Unreadable)?;
        if text.is_empty() {
            Err("the file is empty")?;
        }
        if text == "boxed" {
            return Err(boxed())?;
        }
        Ok(text.trim().parse()?)
    }
}

fn boxed() -> Box<dyn Error + Send + Sync> {
    "no number".into()
}

#[derive(Debug)]
struct Unreadable(std::io::Error);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number cannot be read")
    }
}

impl Error for Unreadable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// An initializer that reads a number.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NeedsNumber(PathBuf);

impl Task for NeedsNumber {
    const NAME: &'static str = "needs number";
    type Output = Result<(), Failure>;

    async fn run(self) -> Result<(), Failure> {
        ReadNumber(self.0).run().await?;
        Ok(())
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Blocking<Fails>>()
        .task::<ReadNumber>()
        .task::<NeedsNumber>()
}

/// Runs a task that succeeds in attempt `until`. Returns the outcome and the logged attempts.
async fn attempts(
    pool: &Pool,
    folder: &Path,
    how: How,
    until: u32,
) -> (Result<Result<u32, ServiceError>, TaskError>, Vec<u32>) {
    let log = folder.join("attempts");
    let _ = fs::remove_file(&log);
    let task = Blocking(Fails {
        how,
        until,
        log: log.clone(),
    });
    let outcome = pool.apply(task).await;
    let lines = fs::read_to_string(&log).unwrap();
    (
        outcome,
        lines.lines().map(|line| line.parse().unwrap()).collect(),
    )
}

#[test]
fn failed_task_runs_again_as_its_policy_says() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let all = [How::Dies, How::Panics, How::IsBusy];
        let by_default = Retry::attempts(3).backoff(Duration::from_millis(1), LONGEST);
        for (retry, again) in [
            (Some(by_default), &[How::Dies, How::IsBusy][..]),
            (Some(at_once(3).panics()), &all),
            (
                Some(by_default.panics().not_deaths()),
                &[How::Panics, How::IsBusy],
            ),
            (Some(Retry::attempts(0).panics()), &[]),
            (None, &[]),
        ] {
            let builder = Pool::builder(1);
            let builder = match retry {
                Some(retry) => builder.retry(retry),
                None => builder,
            };
            let pool = builder.start().await.unwrap();
            for how in all {
                let (outcome, log) = attempts(&pool, folder, how, 3).await;
                if again.contains(&how) {
                    assert_eq!(
                        (outcome, log),
                        (Ok(Ok(3)), vec![1, 2, 3]),
                        "{how:?} {retry:?}"
                    );
                    let (outcome, log) = attempts(&pool, folder, how, 9).await;
                    assert_failed(how, outcome, 3);
                    assert_eq!(log, [1, 2, 3]);
                } else {
                    assert_failed(how, outcome, 1);
                    assert_eq!(log, [1], "{how:?} {retry:?}");
                }
            }
            // An error that the task does not call transient is its output.
            let (outcome, log) = attempts(&pool, folder, How::IsBusy, 0).await;
            assert_eq!((outcome, log), (Ok(Err(ServiceError::Refused)), vec![1]));
            pool.join().await.unwrap();
        }
    });
}

const LONGEST: Duration = Duration::from_millis(4);

#[track_caller]
fn assert_failed(how: How, outcome: Result<Result<u32, ServiceError>, TaskError>, attempts: u32) {
    match how {
        // The submitter gets the output of the last attempt.
        How::IsBusy => assert_eq!(outcome, Ok(Err(ServiceError::Busy))),
        How::Dies => {
            let error = outcome.unwrap_err();
            assert!(error.exit().is_some(), "{error}");
            assert_eq!(error.attempts(), attempts);
        }
        How::Panics => {
            let error = outcome.unwrap_err();
            let panicked = TaskFault::Panicked(format!("attempt {attempts}"));
            assert_eq!(
                (error.fault(), error.attempts()),
                (Some(&panicked), attempts)
            );
        }
    }
}

#[test]
fn task_of_a_stream_runs_again_alone() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("attempts");
        for chunk in [1, 5] {
            let _ = fs::remove_file(&log);
            let retry = Retry::attempts(2).backoff(Duration::from_millis(5), LONGEST);
            let builder = Pool::builder(2).chunk_size(chunk).retry(retry);
            let pool = builder.start().await.unwrap();
            let tasks = (0..20).map(|number| {
                Blocking(Fails {
                    how: How::IsBusy,
                    until: if number % 4 == 0 { 2 } else { 1 },
                    log: log.clone(),
                })
            });
            let outcomes = pool.try_map(tasks).await.unwrap();
            let expected = (0..20).map(|number| Ok(if number % 4 == 0 { 2 } else { 1 }));
            assert_eq!(outcomes, expected.collect::<Vec<_>>());
            assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 25);
        }
    });
}

#[test]
fn closed_pool_runs_tasks_again_that_were_submitted_before() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let pause = Duration::from_millis(300);
        let retry = Retry::attempts(2).backoff(pause, pause);
        let pool = Pool::builder(1).retry(retry).start().await.unwrap();
        let log = folder.path().join("attempts");
        let (how, until) = (How::IsBusy, 2);
        let handle = pool.spawn(Blocking(Fails { how, until, log }));
        pool.join().await.unwrap();
        assert_eq!(handle.await, Ok(Ok(2)));
    });
}

#[test]
fn error_of_any_type_arrives_with_its_sources() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let pool = Pool::new(1).await.unwrap();
        let read = || async {
            let output: Result<u32, Failure> = pool.apply(ReadNumber(file.clone())).await.unwrap();
            output.map_err(|failure| format!("{failure:#}"))
        };
        let missing = read().await.unwrap_err();
        assert!(
            missing.starts_with("the number cannot be read: No such file"),
            "{missing}"
        );
        for (text, told) in [
            ("", "the file is empty"),
            ("boxed", "no number"),
            ("x", "invalid digit found in string"),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(read().await, Err(told.to_owned()));
        }
        fs::write(&file, "7\n").unwrap();
        assert_eq!(read().await, Ok(7));
        async fn both(pool: &Pool, file: PathBuf) -> Result<u32, Box<dyn Error>> {
            Ok(pool.apply(ReadNumber(file)).await??)
        }
        assert_eq!(both(&pool, file.clone()).await.unwrap(), 7);
        fs::remove_file(&file).unwrap();
        let error = both(&pool, file.clone()).await.unwrap_err();
        assert!(
            error
                .source()
                .unwrap()
                .to_string()
                .starts_with("No such file")
        );
        let builder = Pool::builder(1).initializer(NeedsNumber(file.clone()));
        let StartError::ChildFailed(why) = builder.start().await.unwrap_err() else {
            panic!("it is the initializer's error");
        };
        assert!(
            why.contains("\"needs number\" returned an error: the number cannot be read"),
            "{why}"
        );
    });
}
