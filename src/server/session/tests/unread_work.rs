//! Tasks that are answers to a worker which ends before it has read them: it has begun none of these.

use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::{
    JobId, Operation,
    codec::{self, Blob},
    operations::{
        Chunk, ChunkOutcome, Finished, GetTaskQueueStatus, Job, JobOutcome, Next, Reports, Submit,
        TaskFault, TaskQueueStatus,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    limits::Limits,
    server::session::tests::{Client, Heard, House, encoded, number_of},
    tests::raw::patiently,
};

impl Client {
    async fn send_task<O: Operation>(&mut self, queue: u32, operation: &O) -> u64 {
        let number = number_of::<TaskQueue>(O::NAME);
        self.send(queue, number, None, &encoded(operation)).await
    }

    async fn hear_reply<T: DeserializeOwned>(&mut self, seq: u64) -> T {
        match self.hear().await {
            Heard::Reply(answered, body) if answered == seq => {
                codec::decode(&body).expect("the operation's reply")
            }
            other => panic!("no answer to call {seq}: {other:?}"),
        }
    }

    /// Requests at most `most` jobs.
    async fn jobs(&mut self, queue: u32, most: u32) -> Vec<JobId> {
        let (finished, next) = (None, Next::NAME);
        let arguments = encoded(&Next { finished, most });
        let call = self.call(queue, number_of::<TaskQueue>(next), None, &arguments);
        let given: Option<Vec<Job>> = patiently(call).await.expect("an answer");
        let given = given.expect("the queue is open");
        given.iter().map(|job| job.id).collect()
    }

    /// Waits until workers have so many tasks.
    async fn until_given(&mut self, queue: u32, tasks: u64) {
        let until = async {
            loop {
                let seq = self.send_task(queue, &GetTaskQueueStatus).await;
                let status: TaskQueueStatus = self.hear_reply(seq).await;
                if status.running == tasks {
                    break;
                }
            }
        };
        patiently(until).await;
    }
}

fn report(job: JobId) -> Finished {
    let outcome = JobOutcome::Done(Blob::from(vec![14]));
    Finished { job, outcome }
}

#[actix_rt::test]
async fn jobs_of_all_answers_that_a_worker_has_not_read_are_run_by_others() {
    // How many of the answers to the request and to the report the worker reads.
    for read in [0, 1, 2] {
        let house = House::new(Limits::default());
        let mut submitter = house.welcome().await;
        let queue = submitter.open_tasks().await;
        let mut tasks = Vec::new();
        for _ in 0..6 {
            let chunk = Chunk {
                task: "double".to_owned(),
                arguments: Blob::from(vec![7]),
            };
            tasks.push(
                submitter
                    .send_task(
                        queue,
                        &Submit {
                            chunk,
                            rule: None,
                            series: None,
                        },
                    )
                    .await,
            );
        }
        let mut observer = house.welcome().await;
        let watched = observer.open_tasks().await;
        let (mut worker, _pipe) = house.welcome_with_pipe().await;
        let theirs = worker.open_tasks().await;
        let reports = number_of::<TaskQueue>(Reports::NAME);
        worker.set_report_pipe_for(theirs, reports).await.unwrap();
        let given = worker.jobs(theirs, 2).await;
        // The worker requests more while it runs the first job, and does not read the answers.
        let more = Next {
            finished: None,
            most: 2,
        };
        let more = worker.send_task(theirs, &more).await;
        observer.until_given(watched, 4).await;
        if read > 0 {
            let given: Option<Vec<Job>> = worker.hear_reply(more).await;
            assert_eq!(given.map(|given| given.len()), Some(2));
        }
        let reported = worker.send_task(theirs, &report(given[0])).await;
        observer.until_given(watched, 3).await;
        let first: ChunkOutcome = submitter.hear_reply(tasks[0]).await;
        first.expect("it was reported");
        if read > 1 {
            worker.hear_reply::<()>(reported).await;
        }
        worker.close().await;
        let left = if read < 2 {
            tasks.len() - 1
        } else {
            // The worker had begun the second job.
            let died: ChunkOutcome = submitter.hear_reply(tasks[1]).await;
            assert!(
                matches!(&died, Err(failure) if matches!(failure.fault, TaskFault::WorkerDied { .. })),
                "{died:?}"
            );
            tasks.len() - 2
        };
        let (mut other, theirs) = (observer, watched);
        let given = other.jobs(theirs, 9).await;
        assert_eq!(given.len(), left, "the worker has read {read} answers");
        for (job, task) in given.into_iter().zip(&tasks[tasks.len() - left..]) {
            let reported = other.send_task(theirs, &report(job)).await;
            other.hear_reply::<()>(reported).await;
            let told: ChunkOutcome = submitter.hear_reply(*task).await;
            told.expect("it has one outcome");
        }
    }
}
