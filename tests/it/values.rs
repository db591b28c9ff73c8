//! Users' values arrive equal through tasks, queues, values and custom kinds.

use std::{collections::BTreeMap, iter};

use futures::StreamExt;
use lockkeeper::{
    CallError, Limits, Manager, Pool, Proxy, Task,
    builders::Program,
    errors::{Fault, Refusal},
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::run;

/// Values that an encoding by position, or one that flattens options, would lose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<u8>,
    nested: Option<Option<()>>,
    #[serde(skip)]
    skipped: u8,
    huge: u128,
    keyed: BTreeMap<(u8, bool), Option<Option<u8>>>,
    unit: Stop,
    inner: Option<Box<Self>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stop;

impl Item {
    fn nested(depth: usize) -> Self {
        let inner = iter::successors(Some(Self::default()), |inner| {
            let inner = Some(Box::new(inner.clone()));
            Some(Self {
                inner,
                ..Self::default()
            })
        });
        inner.take(depth).last().expect("the depth is at least one")
    }
}

fn items() -> Vec<Item> {
    let item = Item {
        second: Some(5),
        nested: Some(None),
        huge: u128::MAX,
        keyed: BTreeMap::from([((1, true), Some(None)), ((2, false), None)]),
        ..Item::default()
    };
    let nested = Some(Some(()));
    let inner = Some(Box::new(item.clone()));
    vec![
        Item::default(),
        Item {
            nested,
            inner,
            ..item.clone()
        },
        item,
    ]
}

/// Returns its argument, in an option that distinguishes `Some(None)` from `None`.
#[derive(Serialize, Deserialize)]
struct Echo {
    #[serde(skip_serializing_if = "Option::is_none")]
    none: Option<u8>,
    item: Option<Item>,
}

impl Task for Echo {
    const NAME: &'static str = "values::echo";
    type Output = Option<Option<Item>>;

    async fn run(self) -> Self::Output {
        Some(self.item)
    }
}

/// An object that stores an item.
struct Kept(Item);

/// Replaces the item, and returns the previous one. A long reply is kept until it can be sent.
#[derive(Serialize, Deserialize)]
struct Replace {
    #[serde(skip_serializing_if = "Option::is_none")]
    none: Option<u8>,
    item: Item,
    padding: Vec<u8>,
}

impl Operation for Replace {
    const NAME: &'static str = "replace";
    type Reply = (Option<Option<()>>, Item, Vec<u8>);
}

impl Primitive for Kept {
    const KIND: &'static str = "values::kept";
    type Spec = Item;

    fn create(item: Item) -> Result<Self, Refusal> {
        Ok(Self(item))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Replace>();
    }
}

impl Serve<Replace> for Kept {
    fn serve(&mut self, replace: Replace, call: Call<<Replace as Operation>::Reply>) {
        let before = std::mem::replace(&mut self.0, replace.item);
        call.reply((Some(None), before, replace.padding));
    }
}

/// An endless list of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Endless;

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(iter::repeat("an element"))
    }
}

impl<'de> Deserialize<'de> for Endless {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// A task that takes or returns an endless list.
#[derive(Serialize, Deserialize)]
struct WithoutEnd(Option<Endless>);

impl Task for WithoutEnd {
    const NAME: &'static str = "values::without_end";
    type Output = Endless;

    async fn run(self) -> Endless {
        Endless
    }
}

/// An operation and a spec with an endless list.
#[derive(Serialize, Deserialize)]
struct Insert(Endless);

impl Operation for Insert {
    const NAME: &'static str = "insert";
    type Reply = ();
}

struct EndlessKind;

impl Primitive for EndlessKind {
    const KIND: &'static str = "values::bottomless";
    type Spec = Option<Endless>;

    fn create(_: Self::Spec) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Insert>();
    }
}

impl Serve<Insert> for EndlessKind {
    fn serve(&mut self, _: Insert, call: Call<()>) {
        call.reply(());
    }
}

pub(crate) fn register(program: Program) -> Program {
    program
        .task::<Echo>()
        .task::<WithoutEnd>()
        .register::<Kept>()
}

#[test]
fn encoding_of_an_endless_value_stops_at_the_limit_of_a_message() {
    run(async {
        let frame_bytes = 1 << 16;
        let limits = Limits {
            frame_bytes,
            ..Limits::default()
        };
        let builder = Manager::builder().limits(limits);
        let manager = builder.register::<EndlessKind>().start().await.unwrap();
        let limit = |what, most| CallError::Fault(Fault::limit(what, most));
        let queue = manager.queue::<Endless>(1).await.unwrap();
        let refused = queue.put(Endless).await.unwrap_err();
        let most = frame_bytes - 2048;
        assert_eq!(CallError::from(refused), limit("bytes of an item", most));
        let value = manager.value(Some(Endless)).await;
        assert_eq!(value.map(drop), Err(limit("bytes of a value", most)));
        let value = manager.value(None::<Endless>).await.unwrap();
        let set = value.set(Some(Endless)).await;
        assert_eq!(set, Err(limit("bytes of a value", most)));
        let most = frame_bytes - 1024;
        let opened = manager.open::<EndlessKind>(Some(Endless)).await;
        assert_eq!(opened.map(drop), Err(limit("bytes of a spec", most)));
        let object = manager.open::<EndlessKind>(None).await.unwrap();
        let called = object.call(Insert(Endless)).await;
        assert_eq!(called, Err(limit("bytes of arguments", most)));
        object.cast(Insert(Endless));
        assert_eq!(value.get().await, Ok(None));

        let pool = Pool::new(1).await.unwrap();
        let (tasks, words) = (
            [WithoutEnd(Some(Endless)), WithoutEnd(None)],
            ["arguments of", "output of"],
        );
        for (task, words) in tasks.into_iter().zip(words) {
            let failed = pool.apply(task).await.unwrap_err().to_string();
            assert!(failed.contains(words), "{failed}");
            assert!(failed.contains("it has more than 67"), "{failed}");
        }
    });
}

#[test]
fn items_arrive_equal_through_tasks() {
    run(async {
        let pool = Pool::new(1).await.unwrap();
        for item in items() {
            let echo = |item| Echo { none: None, item };
            let echoed = pool.apply(echo(Some(item.clone()))).await.unwrap();
            assert_eq!(echoed, Some(Some(item.clone())));
            assert_eq!(pool.apply(echo(None)).await.unwrap(), Some(None));
            let streamed = pool.imap([echo(Some(item.clone())), echo(None)]);
            let streamed: Vec<_> = streamed.map(|outcome| outcome.unwrap()).collect().await;
            assert_eq!(streamed, [Some(Some(item)), Some(None)]);
        }
        let deep = Echo {
            none: None,
            item: Some(Item::nested(1000)),
        };
        let error = pool.apply(deep).await.unwrap_err().to_string();
        assert!(error.contains("deeper than 128 levels"), "{error}");
    });
}

#[test]
fn items_arrive_equal_through_queues_and_values() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let queue = manager
            .unbounded_queue::<Option<Option<Item>>>()
            .await
            .unwrap();
        let value = manager.value(Some(None::<Item>)).await.unwrap();
        assert_eq!(value.get().await.unwrap(), Some(None));
        for item in items()
            .into_iter()
            .map(Some)
            .chain([None])
            .map(Some)
            .chain([None])
        {
            queue.put(item.clone()).await.unwrap();
            let taken = queue.get().await.unwrap();
            assert_eq!(*taken, item);
            taken.done().await.unwrap();
            value.set(item.clone()).await.unwrap();
            assert_eq!(value.get().await.unwrap(), item);
        }
        let deep = Some(Some(Item::nested(1000)));
        for error in [
            queue.put(deep.clone()).await.unwrap_err().to_string(),
            value.set(deep.clone()).await.unwrap_err().to_string(),
        ] {
            assert!(error.contains("deeper than 128 levels"), "{error}");
        }
    });
}

#[test]
fn specs_operations_and_replies_of_a_custom_kind_arrive_equal() {
    run(async {
        let manager = Manager::builder().register::<Kept>().start().await.unwrap();
        let mut before = items().remove(1);
        let kept: Proxy<Kept> = manager.open(before.clone()).await.unwrap();
        for length in [0, 1000, 100_000] {
            for item in items() {
                let padding = vec![7; length];
                let replace = Replace {
                    none: None,
                    item: item.clone(),
                    padding: padding.clone(),
                };
                let reply = kept.call(replace).await.unwrap();
                assert_eq!(reply, (Some(None), before, padding));
                before = item;
            }
        }
        let item = Item::nested(1000);
        let deep = Replace {
            none: None,
            item,
            padding: Vec::new(),
        };
        let error = kept.call(deep).await.unwrap_err();
        assert!(matches!(error, CallError::Fault(_)), "{error}");
        assert!(
            error.to_string().contains("deeper than 128 levels"),
            "{error}"
        );
    });
}
