//! A custom kind whose operations and replies fail or panic while they are encoded and decoded.
//!
//! Each error fails only one call: the object, its state and its waiting callers are unaffected, in
//! every process and on every shard.

use std::panic::panic_any;

use lockkeeper::{
    CallError, Manager, Proxy,
    builders::Program,
    errors::{Fault, Refusal},
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::run;

/// The behaviour of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Behaviour {
    FailsToEncode,
    PanicsInEncode,
    FailsToDecode,
    PanicsInDecode,
    PanicsInDecodeTwice,
}

/// A panic whose drop panics.
struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        panic!("the drop of the panic panics");
    }
}

/// A value with a behaviour and a length.
#[derive(Debug)]
struct Data(Behaviour, usize);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Behaviour::FailsToEncode => Err(S::Error::custom("it cannot be written")),
            Behaviour::PanicsInEncode => panic!("it is not to be written"),
            behaviour @ (Behaviour::FailsToDecode
            | Behaviour::PanicsInDecode
            | Behaviour::PanicsInDecodeTwice) => {
                (behaviour, "x".repeat(self.1)).serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (behaviour, text): (Behaviour, String) = Deserialize::deserialize(deserializer)?;
        match behaviour {
            Behaviour::PanicsInDecode => panic!("it is not to be read"),
            Behaviour::PanicsInDecodeTwice => panic_any(Twice),
            Behaviour::FailsToDecode => Err(D::Error::custom("it cannot be read")),
            behaviour @ (Behaviour::FailsToEncode | Behaviour::PanicsInEncode) => {
                Ok(Self(behaviour, text.len()))
            }
        }
    }
}

/// Sends a value.
#[derive(Debug, Serialize, Deserialize)]
struct Send(Data);

impl Operation for Send {
    const NAME: &'static str = "send";
    type Reply = ();
}

/// Requests a value.
#[derive(Debug, Serialize, Deserialize)]
struct Ask(Behaviour, usize);

impl Operation for Ask {
    const NAME: &'static str = "ask";
    type Reply = Data;
}

/// Counts the calls.
#[derive(Debug, Serialize, Deserialize)]
struct Count;

impl Operation for Count {
    const NAME: &'static str = "count";
    type Reply = u32;
}

/// Waits until the next count.
#[derive(Debug, Serialize, Deserialize)]
struct Wait;

impl Operation for Wait {
    const NAME: &'static str = "wait";
    type Reply = u32;
}

/// Has the object drop calls: this one, or those that wait.
#[derive(Debug, Serialize, Deserialize)]
enum Forget {
    This,
    Waiting,
}

impl Operation for Forget {
    const NAME: &'static str = "forget";
    type Reply = ();
}

/// Has the object's code panic.
#[derive(Debug, Serialize, Deserialize)]
struct Panic;

impl Operation for Panic {
    const NAME: &'static str = "panic";
    type Reply = ();
}

struct Counter {
    calls: u32,
    waiting: Vec<Call<u32>>,
}

impl Primitive for Counter {
    const KIND: &'static str = "own_code::counter";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        let waiting = Vec::new();
        Ok(Self { calls: 0, waiting })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Send>()
            .on::<Ask>()
            .on::<Count>()
            .on::<Wait>()
            .on::<Forget>()
            .on::<Panic>();
    }
}

impl Serve<Send> for Counter {
    fn serve(&mut self, _: Send, call: Call<()>) {
        self.calls += 1;
        call.reply(());
    }
}

impl Serve<Ask> for Counter {
    fn serve(&mut self, Ask(behaviour, length): Ask, call: Call<Data>) {
        self.calls += 1;
        call.reply(Data(behaviour, length));
    }
}

impl Serve<Count> for Counter {
    fn serve(&mut self, _: Count, call: Call<u32>) {
        self.calls += 1;
        for waiting in self.waiting.drain(..) {
            waiting.reply(self.calls);
        }
        call.reply(self.calls);
    }
}

impl Serve<Wait> for Counter {
    fn serve(&mut self, _: Wait, call: Call<u32>) {
        self.waiting.push(call);
    }
}

impl Serve<Forget> for Counter {
    fn serve(&mut self, forget: Forget, call: Call<()>) {
        match forget {
            Forget::This => drop(call),
            Forget::Waiting => {
                self.waiting.clear();
                call.reply(());
            }
        }
    }
}

impl Serve<Panic> for Counter {
    fn serve(&mut self, _: Panic, _call: Call<()>) {
        panic!("the counter broke");
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.register::<Counter>()
}

/// Checks the message of an error, and that it names no other class of errors.
fn assert_message(error: &CallError, words: &[&str]) {
    let shown = error.to_string();
    for words in words {
        assert!(shown.contains(words), "{shown}");
    }
}

/// Causes every error at an object with a waiting caller.
async fn each_error_is_of_its_call_alone(manager: &Manager) {
    let counter: Proxy<Counter> = manager.open(()).await.unwrap();
    let waiting = counter.call(Wait);
    let all = async {
        let send = async |behaviour| counter.call(Send(Data(behaviour, 1))).await.unwrap_err();
        // Errors in the caller.
        let type_name = "own_code::Send cannot be encoded";
        assert_message(
            &send(Behaviour::FailsToEncode).await,
            &[type_name, "it cannot be written"],
        );
        assert_message(
            &send(Behaviour::PanicsInEncode).await,
            &[type_name, "it is not to be written"],
        );
        // Errors in the manager.
        for (behaviour, words) in [
            (Behaviour::FailsToDecode, "it cannot be read"),
            (
                Behaviour::PanicsInDecode,
                "its code panicked: it is not to be read",
            ),
            (
                Behaviour::PanicsInDecodeTwice,
                "its code panicked: (not a text)",
            ),
        ] {
            let error = send(behaviour).await;
            assert!(
                matches!(error, CallError::Fault(Fault::BadArguments(_))),
                "{error}"
            );
            assert_message(&error, &[words]);
        }
        assert_eq!(
            counter.call(Count).await,
            Ok(1),
            "no failed call was served"
        );
        let mut served = 1;
        for length in [1, 1000, 1 << 20] {
            let ask = async |behaviour| counter.call(Ask(behaviour, length)).await.unwrap_err();
            // Errors in the manager.
            for (behaviour, words) in [
                (Behaviour::FailsToEncode, "it cannot be written"),
                (
                    Behaviour::PanicsInEncode,
                    "its code panicked: it is not to be written",
                ),
            ] {
                let error = ask(behaviour).await;
                assert!(
                    matches!(error, CallError::Fault(Fault::Unencodable(_))),
                    "{error}"
                );
                assert_message(&error, &[words]);
            }
            // Errors in the caller.
            for (behaviour, words) in [
                (Behaviour::FailsToDecode, "it cannot be read"),
                (
                    Behaviour::PanicsInDecode,
                    "its code panicked: it is not to be read",
                ),
                (
                    Behaviour::PanicsInDecodeTwice,
                    "its code panicked: (not a text)",
                ),
            ] {
                let error = ask(behaviour).await;
                let CallError::Undecoded(shown) = &error else {
                    panic!("{error}");
                };
                assert!(shown.bytes().len() > length);
                let advice = "let its Deserialize read what its Serialize writes, and build both programs with one \
                              version of it, or use bytes() to read what was sent";
                assert_message(
                    &error,
                    &[
                        words,
                        "own_code::counter",
                        "\"ask\"",
                        "own_code::Data",
                        advice,
                    ],
                );
            }
            served += 6;
            assert_eq!(counter.call(Count).await, Ok(served));
        }
    };
    let (first, ()) = tokio::join!(waiting, all);
    assert_eq!(first, Ok(1), "the waiting caller got no error");
}

#[test]
fn error_or_panic_of_a_custom_kinds_data_fails_only_its_call() {
    run(async {
        let manager = Manager::start().await.unwrap();
        each_error_is_of_its_call_alone(&manager).await;
        let manager = Manager::builder().shards(2).start().await.unwrap();
        each_error_is_of_its_call_alone(&manager).await;
        let manager = Manager::builder().spawn().await.unwrap();
        each_error_is_of_its_call_alone(&manager).await;
    });
}

#[test]
fn custom_kind_without_a_survey_shows_dashes() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let counter = manager.named("mine").open::<Counter>(()).await.unwrap();
        let _latch = manager.named("latch").latch(0).await.unwrap();
        let snapshot = manager.inspect().await.unwrap().to_string();
        let cells = |name: &str| {
            let line = snapshot.lines().find(|line| line.starts_with(name));
            let cells = line.unwrap_or_default().split_whitespace();
            cells.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            cells("mine")[1..],
            ["own_code::counter", "-", "-", "-", "-", "-"]
        );
        assert!(cells("latch").iter().any(|cell| cell == "0"), "{snapshot}");
        let info = counter.info().await.unwrap().to_string();
        let cells: Vec<_> = info.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(cells[1..], ["own_code::counter", "-", "-", "-", "-", "-"]);
    });
}

#[test]
fn call_that_a_living_object_drops_unanswered_is_a_fault_of_its_kind() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let counter: Proxy<Counter> = manager.open(()).await.unwrap();
        let unanswered = Fault::Unanswered("own_code::counter".to_owned());
        let error = counter.call(Forget::This).await.unwrap_err();
        assert_eq!(error, CallError::Fault(unanswered.clone()));
        assert_message(&error, &["own_code::counter", "without an answer"]);

        let waiting = counter.call(Wait);
        let forget = async { counter.call(Forget::Waiting).await.unwrap() };
        let (waited, ()) = tokio::join!(waiting, forget);
        assert_eq!(waited, Err(CallError::Fault(unanswered)));
        assert_eq!(counter.call(Count).await, Ok(1), "the object lives");

        // The calls of an object that panics or is removed are gone with it.
        let waiting = counter.call(Wait);
        let (waited, panicked) = tokio::join!(waiting, counter.call(Panic));
        assert_eq!(waited, Err(CallError::gone()));
        assert_eq!(panicked, Err(CallError::gone()));
    });
}

#[test]
fn name_of_an_object_that_panicked_is_gone_until_it_is_removed() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let open = async || manager.named("counter").open::<Counter>(()).await;
        let counter = open().await.unwrap();
        let sent = counter.token().clone();
        assert_eq!(counter.call(Panic).await, Err(CallError::gone()));

        let error = open().await.unwrap_err();
        assert_eq!(error, CallError::gone());
        assert_message(&error, &["\"counter\" is gone", "call remove(\"counter\")"]);
        let error = Proxy::from(sent).call(Count).await.unwrap_err();
        assert_eq!(error, CallError::gone());

        manager.remove("counter").await.unwrap();
        assert_eq!(open().await.unwrap().call(Count).await, Ok(1));
    });
}
