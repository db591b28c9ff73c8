//! Questions about objects, as any client may ask them.

use lockkeeper_protocol::{
    Fault, Page, Question, Refusal,
    codec::{self, BlobRef},
    frame::{self, Request},
    operations::Acquire,
};
use serde::de::DeserializeOwned;

use crate::{
    limits::Limits,
    server::session::tests::{Client, Heard, House, operation},
};

impl Client {
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        question: Question,
    ) -> Result<T, Fault> {
        let seq = self.seq();
        self.raw.send(&Request::Inspect { seq, question }).await;
        match self.hear().await {
            Heard::Reply(answered, body) if answered == seq => {
                Ok(codec::decode(&body).expect("the answer to the question"))
            }
            Heard::Fault(answered, fault) if answered == seq => Err(fault),
            other => panic!("no answer to question {seq}: {other:?}"),
        }
    }

    /// Sends a call by a caller, without waiting for its answer.
    pub(super) async fn send_by(&mut self, object: u32, caller: u64) -> u64 {
        let seq = self.seq();
        let (operation, arguments) = operation(&Acquire);
        let call = Request::CallBy {
            seq,
            object,
            operation,
            micros: None,
            arguments: BlobRef(&arguments),
            caller,
        };
        self.raw.send(&call).await;
        seq
    }
}

#[actix_rt::test]
async fn question_sees_all_that_was_sent_before_it_and_nothing_that_was_sent_after() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let lock = client.open_lock("jobs").await;
    let (operation, arguments) = operation(&Acquire);
    let mut bytes = Vec::new();
    let seqs = [(); 4].map(|()| client.seq());
    for (place, seq) in seqs.into_iter().enumerate() {
        let request = match place {
            2 => Request::Inspect {
                seq,
                question: Question::All(0),
            },
            _ => Request::Call {
                seq,
                object: lock,
                operation,
                micros: None,
                arguments: BlobRef(&arguments),
            },
        };
        frame::append(&mut bytes, &request, usize::MAX).unwrap();
    }
    client.raw.write(&bytes).await.unwrap();
    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == seqs[0]));
    let Heard::Reply(seq, body) = client.hear().await else {
        panic!("the question was not answered");
    };
    assert_eq!(seq, seqs[2]);
    let page: Page = codec::decode(&body).expect("a page");
    let shard = &page.objects[0].parts[0];
    assert_eq!((shard.held, shard.waiting, page.next), (1, 1, None));
}

#[actix_rt::test]
async fn callers_are_told_also_by_a_manager_that_did_not_ask() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let lock = client.open_lock("jobs").await;
    let granted = client.send_by(lock, 7).await;
    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == granted));
    client.send_by(lock, u64::MAX).await;
    let page: Page = client.ask(Question::Contended(0)).await.unwrap();
    let shard = &page.objects[0].parts[0];
    assert_eq!(shard.holders[0].caller, Some(7));
    assert_eq!(shard.waiters[0].caller, Some(u64::MAX));
    let named = Question::Named("jobs".to_owned());
    let again: Page = client.ask(named).await.unwrap();
    assert_eq!(again.objects[0].name, "jobs");
}

#[actix_rt::test]
async fn question_that_cannot_be_answered_is_told_why() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let unknown = client.ask::<Page>(Question::Named("none".to_owned())).await;
    assert_eq!(unknown, Err(Fault::UnknownObject("none".to_owned())));
    let deadlocks = client.ask::<Vec<()>>(Question::Deadlocks).await;
    assert!(matches!(
        deadlocks,
        Err(Fault::Refused(Refusal::Invalid(_)))
    ));
    let behind: Page = client.ask(Question::All(u64::MAX)).await.unwrap();
    assert_eq!(behind, Page::default());
    let behind: Page = client.ask(Question::Contended(u64::MAX)).await.unwrap();
    assert_eq!(behind, Page::default());
    assert!(client.is_served().await);
}
