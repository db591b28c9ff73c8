//! Items and values that a process cannot decode: the error has the bytes and both types, owns the
//! delivery of an item, and blocks no other item.

use std::{fmt, future::pending, time::Duration};

use futures::TryStreamExt;
use lockkeeper::{
    CallError, GetError, Manager, Queue, Value, block_on,
    errors::{Fault, Undecoded, UndecodedItem},
};
use lockkeeper_test_support::{Role, Roles, Watchdog, report};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::run;

/// A number that is not thirteen, encoded as a plain number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u32")]
struct NotThirteen(u32);

impl TryFrom<u32> for NotThirteen {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            13 => Err("thirteen is refused".to_owned()),
            number => Ok(Self(number)),
        }
    }
}

/// A number whose encoding and decoding panic at thirteen.
#[derive(Clone, Debug, PartialEq)]
struct PanicsAtThirteen(u32);

impl Serialize for PanicsAtThirteen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, 13, "thirteen cannot be written");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PanicsAtThirteen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        assert_ne!(number, 13, "thirteen cannot be decoded");
        Ok(Self(number))
    }
}

/// Checks the error of a type that does not decode thirteen.
fn is_why<T>(undecoded: &Undecoded, why: &str) {
    let wanted = std::any::type_name::<T>();
    assert_eq!(undecoded.bytes(), [13], "thirteen as MessagePack");
    assert_eq!((undecoded.sent(), undecoded.wanted()), ("luck", wanted));
    assert!(undecoded.why().contains(why), "{undecoded}");
    let words = undecoded.to_string();
    assert!(words.contains("luck") && words.contains(wanted) && words.contains(why));
    let advice = "): use the same type in both programs, or use bytes() to read what was sent";
    assert!(words.ends_with(advice), "{words}");
    assert_eq!(format!("{undecoded:?}"), words);
}

fn undecoded<T: fmt::Debug>(got: Result<T, GetError>) -> UndecodedItem {
    match got {
        Err(GetError::Undecoded(item)) => item,
        other => panic!("{other:?}"),
    }
}

/// Makes a queue with thirteen and fourteen.
async fn thirteen_and_fourteen(manager: &Manager) -> Queue<u32> {
    let queue = manager.schema("luck").queue(9).await.unwrap();
    for item in [13, 14] {
        queue.put(item).await.unwrap();
    }
    queue
}

/// Checks a type that does not decode the first of two items.
async fn first_is_owned_by_its_error<T>(why: &str, reads_second: impl Fn(&T) -> bool)
where
    T: Serialize + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let manager = Manager::start().await.unwrap();
    let numbers = thirteen_and_fourteen(&manager).await;
    let queue = Queue::<T>::from(numbers.token().clone()).schema("luck");
    let second = Duration::from_secs(60);

    let item = undecoded(queue.get().await);
    is_why::<T>(&item, why);
    assert_eq!(item.attempts(), 1);
    // The item belongs to this process while the error exists, and other takers get the next one.
    let next = queue.try_get().await.unwrap().expect("the second item");
    assert!(reads_second(&next));
    assert!(numbers.try_get().await.unwrap().is_none());

    item.put_back().await.unwrap();
    let item = undecoded(queue.try_get().await);
    assert_eq!(item.attempts(), 2);
    // Dropping the error puts the item back.
    drop(item);
    let item = undecoded(queue.get().timeout(second).await);
    assert_eq!(item.attempts(), 3);
    drop(item);
    // A `?` in a function that returns `CallError` puts it back too.
    let error = CallError::from(queue.get().await.map(drop).unwrap_err());
    let CallError::Undecoded(shown) = &error else {
        panic!("{error}");
    };
    is_why::<T>(shown, why);
    let taken = numbers.get().await.unwrap();
    assert_eq!((*taken, taken.attempts()), (13, 5));
    drop(taken);

    let item = undecoded(queue.get().await);
    let shown = item.discard().await.unwrap();
    is_why::<T>(&shown, why);
    drop(next.done().await.unwrap());
    queue.join().await.unwrap();
    assert_eq!(queue.status().await.unwrap().taken, 0);
}

#[test]
fn item_that_its_taker_cannot_decode_is_owned_by_the_error() {
    run(async {
        first_is_owned_by_its_error::<NotThirteen>("thirteen is refused", |next| next.0 == 14)
            .await;
        let panicked = "its code panicked";
        first_is_owned_by_its_error::<PanicsAtThirteen>(panicked, |next| next.0 == 14).await;
    });
}

/// A method that an inherent method of the same name would hide.
trait Acknowledge: Sized {
    fn into_inner(self) -> &'static str {
        "it is not acknowledged"
    }
}

impl Acknowledge for UndecodedItem {}

#[test]
fn undecoded_item_has_no_method_that_acknowledges_it_silently() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let numbers = thirteen_and_fourteen(&manager).await;
        let queue = Queue::<NotThirteen>::from(numbers.token().clone()).schema("luck");
        let item = undecoded(queue.get().await);
        assert_eq!(item.into_inner(), "it is not acknowledged");
        assert_eq!(numbers.get().await.unwrap().attempts(), 2);
    });
}

#[test]
fn undecodable_item_does_not_block_later_ones() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let jobs = manager.named("jobs").schema("job");
        let numbers = jobs.queue::<u64>(9).await.unwrap();
        let texts = jobs.queue::<String>(9).await.unwrap();
        let pairs = jobs.queue::<(bool, Option<char>)>(9).await.unwrap();
        numbers.put(7).await.unwrap();
        pairs.put((true, None)).await.unwrap();
        texts.put("text".to_owned()).await.unwrap();
        for attempts in 1..=2 {
            let [first, second] = [undecoded(texts.get().await), undecoded(texts.get().await)];
            assert_eq!([first.attempts(), second.attempts()], [attempts; 2]);
            assert!(first.why().contains("string"), "{first}");
            if attempts == 2 {
                first.discard().await.unwrap();
                second.discard().await.unwrap();
            }
        }
        assert_eq!(texts.get().await.unwrap().done().await.unwrap(), "text");
        texts.join().await.unwrap();
    });
}

#[test]
fn undecoded_item_of_a_removed_queue_is_gone() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let numbers = thirteen_and_fourteen(&manager).await;
        let queue = Queue::<NotThirteen>::from(numbers.token().clone()).schema("luck");
        let item = undecoded(queue.get().await);
        manager.remove(&numbers.token().name).await.unwrap();
        assert_eq!(item.discard().await, Err(CallError::gone()));
    });
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add(
        "undecoded::consumer",
        |queue: Queue<NotThirteen>| async move {
            let item = undecoded(queue.get().await);
            report(&item.attempts().to_string());
            pending::<()>().await;
        },
    );
    roles.add(
        "undecoded::discarder",
        |queue: Queue<PanicsAtThirteen>| async move {
            let item = undecoded(queue.get().await);
            let shown = item.discard().await.unwrap();
            report(&format!("{:?}", shown.bytes()));
        },
    );
    roles.add("undecoded::failing_main", |()| async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.named("jobs").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        let late = lock.acquire().timeout(Duration::ZERO).await;
        let error: Box<dyn std::error::Error> = late.map(drop).unwrap_err().into();
        // The output of a `main` that returns the error.
        report(&format!("Error: {error:?}"));
    });
}

#[test]
fn main_that_returns_an_error_prints_a_sentence() {
    run(async {
        let mut child = Role::start("undecoded::failing_main", &());
        let printed = child.next_report();
        let words = "Error: lock \"jobs\" was not free, and the call did not wait";
        assert!(printed.starts_with(words), "{printed}");
    });
}

#[test]
fn undecoded_item_of_a_dead_process_returns_and_another_discards_it() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let numbers = thirteen_and_fourteen(&manager).await;
        for attempts in 1..=3 {
            // A serialized proxy contains the schema id.
            let mut consumer = Role::start("undecoded::consumer", &numbers);
            assert_eq!(consumer.next_report(), attempts.to_string());
            consumer.kill();
        }
        let mut discarder = Role::start("undecoded::discarder", &numbers);
        assert_eq!(discarder.next_report(), "[13]");
        let taken = numbers.get().await.unwrap();
        assert_eq!((*taken, taken.attempts()), (14, 1));
    });
}

/// Checks that every way to read the value fails with its bytes and both types, and that the value can be
/// replaced.
async fn value_is_told_and_replaced<T>(why: &str, good: T)
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + 'static,
{
    let manager = Manager::start().await.unwrap();
    let number = manager.schema("luck").value(13_u32).await.unwrap();
    let value = Value::<T>::from(number.token().clone()).schema("luck");
    let is_told = |outcome: Result<(), CallError>| match outcome {
        Err(CallError::Undecoded(shown)) => is_why::<T>(&shown, why),
        other => panic!("{other:?}"),
    };
    is_told(value.get().await.map(drop));
    is_told(value.versioned().await.map(drop));
    is_told(value.update(|value| value).await.map(drop));
    is_told(value.try_update(|_| None).await.map(drop));
    is_told(value.wait_for(|_| true).await.map(drop));
    is_told(value.watch().try_next().await.map(drop));
    let exchanged = value.compare_exchange(good.clone(), good.clone());
    is_told(exchanged.await.map(drop));
    let changed = value.wait_since(0);
    let (changed, set) = tokio::join!(changed, number.set(13));
    set.unwrap();
    is_told(changed.map(drop));
    // A swap sets the value, and reports that the old one cannot be decoded.
    is_told(value.swap(good.clone()).await.map(drop));
    assert_eq!(value.get().await.unwrap(), good);
    number.set(13).await.unwrap();
    is_told(value.get().await.map(drop));
    value.set(good.clone()).await.unwrap();
    assert_eq!(value.update(|value| value).await.unwrap(), good);
    assert_eq!(value.status().await.unwrap().waiting, 0);
}

#[test]
fn undecodable_value_is_reported_with_its_bytes_and_both_types() {
    run(async {
        value_is_told_and_replaced("thirteen is refused", NotThirteen(7)).await;
        value_is_told_and_replaced("its code panicked", PanicsAtThirteen(7)).await;
        value_is_told_and_replaced("string", "seven".to_owned()).await;
    });
}

#[test]
fn panic_while_an_item_or_a_value_is_encoded_is_the_error_of_that_call() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let queue = manager.queue::<PanicsAtThirteen>(9).await.unwrap();
        let value = manager.value(PanicsAtThirteen(1)).await.unwrap();
        let is_told = |error: CallError| {
            let CallError::Fault(Fault::BadArguments(why)) = &error else {
                panic!("{error}");
            };
            for words in [
                "PanicsAtThirteen cannot be encoded",
                "thirteen cannot be written",
            ] {
                assert!(why.contains(words), "{why}");
            }
        };
        let put = queue.put(PanicsAtThirteen(13)).await.unwrap_err();
        assert_eq!(put.item, PanicsAtThirteen(13));
        is_told(put.error);
        is_told(value.set(PanicsAtThirteen(13)).await.unwrap_err());
        is_told(value.swap(PanicsAtThirteen(13)).await.unwrap_err());
        is_told(value.update(|_| PanicsAtThirteen(13)).await.unwrap_err());
        let exchanged = value
            .compare_exchange(PanicsAtThirteen(1), PanicsAtThirteen(13))
            .await;
        is_told(exchanged.unwrap_err());
        is_told(manager.value(PanicsAtThirteen(13)).await.unwrap_err());
        queue.put(PanicsAtThirteen(2)).await.unwrap();
        assert_eq!(
            queue.get().await.unwrap().done().await,
            Ok(PanicsAtThirteen(2))
        );
        assert_eq!(value.get().await, Ok(PanicsAtThirteen(1)));
    });
}

#[test]
fn plain_thread_continues_after_an_undecodable_item() {
    let _watchdog = Watchdog::start();
    let manager = block_on(Manager::start()).unwrap();
    let numbers = block_on(thirteen_and_fourteen(&manager));
    let queue = Queue::<NotThirteen>::from(numbers.token().clone()).schema("luck");
    drop(undecoded(queue.get().blocking()));
    drop(undecoded(queue.try_get().blocking()));
    let item = undecoded(queue.get().timeout(Duration::from_secs(60)).blocking());
    assert_eq!(item.attempts(), 3);
    block_on(item.discard()).unwrap();
    assert_eq!(
        queue.get().blocking().unwrap().into_inner(),
        NotThirteen(14)
    );
    block_on(manager.shutdown());
}
