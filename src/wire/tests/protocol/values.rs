//! The values that PROTOCOL.md shows: what stands inside frames as bytes, and faults.

use std::time::Duration;

use lockkeeper_actors::{
    Abandoned, Peer,
    codec::Blob,
    data::{Finished, Job, Next, Submit, TaskFault},
    sync::{
        Acquire, AcquireMany, Granted, LockStatus, ReleasePermits, SemaphoreSpec, SemaphoreStatus,
    },
};
use serde::de::DeserializeOwned;

use super::*;

/// Holds the values of one section against the code, both ways.
struct Values(std::vec::IntoIter<Sample>);

impl Values {
    fn of(section: &str) -> Self {
        let samples: Vec<Sample> = samples()
            .into_iter()
            .filter(|sample| sample.section == section && sample.mark == '=')
            .collect();
        assert!(!samples.is_empty(), "the document has no {section:?}");
        Self(samples.into_iter())
    }

    fn show<T: Serialize + DeserializeOwned>(&mut self, value: &T) -> &mut Self {
        let bytes = encoded(value);
        let what = std::any::type_name::<T>();
        is_next(&mut self.0, '=', &bytes, what);
        let read: T = codec::decode(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(encoded(&read), bytes, "{what}");
        self
    }

    fn and_no_more(&self) {
        assert!(self.0.as_slice().is_empty(), "{:?}", self.0.as_slice());
    }
}

fn peer() -> Peer {
    Peer::new(4711, "demo", "")
}

fn abandoned() -> Abandoned {
    Abandoned::new(peer(), Duration::from_millis(1500), FENCE)
}

#[test]
fn values_are_written_as_the_document_shows() {
    Values::of("## How values are written")
        .show(&())
        .show(&Acquire)
        .show(&grant_of(2))
        .show(&peer())
        .show(&Duration::from_millis(1500))
        .show(&abandoned())
        .show(&Ok::<(), Refusal>(()))
        .show(&Err::<(), Refusal>(Refusal::NotHeld))
        .and_no_more();
}

#[test]
fn faults_and_refusals_are_written_as_the_document_shows() {
    let why = || "why".to_owned();
    let jobs = || "jobs".to_owned();
    Values::of("## Faults")
        .show(&Fault::Gone)
        .show(&Fault::TimedOut)
        .show(&Fault::Withdrawn)
        .show(&Fault::UnknownObject(jobs()))
        .show(&Fault::UnknownKind("lokc".to_owned()))
        .show(&Fault::UnknownOperation("number 7".to_owned()))
        .show(&Fault::WrongKind {
            name: jobs(),
            is: "lock".to_owned(),
            asked: "semaphore".to_owned(),
        })
        .show(&Fault::WrongSpec(jobs()))
        .show(&Fault::BadName(why()))
        .show(&Fault::BadArguments(why()))
        .show(&Fault::Refused(Refusal::Invalid(why())))
        .show(&Fault::Unencodable(why()))
        .show(&Fault::limit("sessions", 100_000))
        .show(&Fault::ShuttingDown)
        .and_no_more();
    Values::of("## Refusals")
        .show(&Refusal::NotHeld)
        .show(&Refusal::OverRelease { bound: 2 })
        .show(&Refusal::TooMany { asked: 3, most: 2 })
        .show(&Refusal::Closed)
        .show(&Refusal::Invalid(why()))
        .and_no_more();
}

#[test]
fn arguments_and_replies_are_written_as_the_document_shows() {
    let later = Fence::new(FENCE.number() + 1);
    let mut lock_status = LockStatus::default();
    (lock_status.held, lock_status.depth, lock_status.waiting) = (true, 1, 2);
    Values::of("### `lock`")
        .show(&Acquire)
        .show(&fresh_grant())
        .show(&Granted {
            fence: later,
            abandoned: Some(abandoned()),
        })
        .show(&Release { grant: grant_of(2) })
        .show(&Ok::<_, Refusal>(Granted {
            fence: later,
            abandoned: None,
        }))
        .show(&lock_status)
        .and_no_more();
    let granted = Granted {
        fence: FENCE,
        abandoned: None,
    };
    let too_many = Refusal::TooMany { asked: 3, most: 2 };
    let mut semaphore_status = SemaphoreStatus::default();
    (semaphore_status.held, semaphore_status.waiting) = (2, 1);
    Values::of("### `semaphore`")
        .show(&SemaphoreSpec { permits: 2 })
        .show(&Ok::<_, Refusal>(granted))
        .show(&Err::<Granted, _>(too_many))
        .show(&ReleasePermits {
            grant: grant_of(12),
            permits: 1,
        })
        .show(&semaphore_status)
        .and_no_more();
    assert_eq!(encoded(&AcquireMany { permits: 2 }), [0x91, 2]);
    let finished = Finished {
        job: grant_of(20),
        outcomes: vec![Ok(Blob(vec![14])), Err(TaskFault::WorkerDied { pid: 4712 })],
    };
    let (task, arguments) = ("double".to_owned(), vec![Blob(vec![7])]);
    Values::of("### `task_queue`")
        .show(&Submit {
            task: task.clone(),
            arguments: arguments.clone(),
            retries: 0,
        })
        .show(&Next { finished: None })
        .show(&Next {
            finished: Some(finished),
        })
        .show(&Job {
            id: grant_of(20),
            task,
            arguments,
        })
        .and_no_more();
}
