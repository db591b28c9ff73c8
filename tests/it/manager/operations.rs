//! Operations of custom kinds, as a proxy encodes and sends them.

use std::{cell::Cell, collections::HashSet, time::Duration};

use lockkeeper::{
    CallError, Manager, Proxy, Token,
    errors::{Fault, Refusal},
    kind::{Call, Operation, Operations, Primitive, Serve},
};
use serde::{Deserialize, Serialize, Serializer, ser::Error};

use crate::run;

/// A sum.
struct Sum(u32);

/// A number that is `Send` but not `Sync`, which operations and specs need not be.
#[derive(Serialize, Deserialize)]
struct Add(Cell<u32>);

/// A value that cannot be encoded.
#[derive(Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("not to be told"))
    }
}

impl Operation for Add {
    const NAME: &'static str = "add";
    type Reply = u32;
}

impl Operation for Secret {
    const NAME: &'static str = "secret";
    type Reply = ();
}

impl Primitive for Sum {
    const KIND: &'static str = "sum";
    type Spec = Add;

    fn create(Add(number): Add) -> Result<Self, Refusal> {
        Ok(Self(number.get()))
    }

    fn operations(operations: &mut Operations<Self>) {
        operations.on::<Add>().on::<Secret>();
    }
}

impl Serve<Add> for Sum {
    fn serve(&mut self, Add(number): Add, call: Call<u32>) {
        self.0 += number.get();
        call.reply(self.0);
    }
}

impl Serve<Secret> for Sum {
    fn serve(&mut self, _: Secret, call: Call<()>) {
        call.reply(());
    }
}

/// A kind that cannot be opened, because its spec cannot be encoded.
struct Vault;

impl Primitive for Vault {
    const KIND: &'static str = "vault";
    type Spec = Secret;

    fn create(_: Secret) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn operations(_: &mut Operations<Self>) {}
}

fn add(number: u32) -> Add {
    Add(Cell::new(number))
}

/// Compiles only for futures that are `Send`.
fn assert_send<F: Future + Send>(future: F) -> F {
    future
}

async fn manager() -> Manager {
    let builder = Manager::builder().register::<Sum>().register::<Vault>();
    builder.start().await.unwrap()
}

#[test]
fn operation_and_spec_need_not_be_sync_for_a_call_to_be_sent() {
    run(async {
        let manager = manager().await;
        let sum: Proxy<Sum> = assert_send(manager.open(add(1))).await.unwrap();
        assert_eq!(assert_send(sum.call(add(1))).await, Ok(2));
        let timeout = Duration::from_secs(9);
        assert_eq!(assert_send(sum.call(add(1)).timeout(timeout)).await, Ok(3));
        let held = assert_send(sum.hold(add(1))).await.unwrap();
        assert_eq!(held.0, 4);
        let named: Proxy<Sum> = assert_send(manager.named("sum").open(add(7)))
            .await
            .unwrap();
        assert_eq!(named.call(add(1)).await, Ok(8));
    });
}

#[test]
fn encoding_error_is_reported_to_the_caller_and_leaves_the_manager_intact() {
    run(async {
        let manager = manager().await;
        let sum = manager.open::<Sum>(add(0)).await.unwrap();
        let describe = |error: CallError| match error {
            CallError::Fault(Fault::BadArguments(why)) => why,
            other => panic!("{other:?}"),
        };
        let why = describe(sum.call(Secret).await.unwrap_err());
        assert!(why.contains("not to be told"), "{why}");
        let why = describe(manager.open::<Vault>(Secret).await.map(drop).unwrap_err());
        assert!(why.contains("not to be told"), "{why}");
        assert_eq!(sum.call(add(5)).await, Ok(5));
    });
}

#[test]
fn token_can_be_compared_hashed_and_converted_to_a_proxy() {
    run(async {
        let manager = manager().await;
        let one: Proxy<Sum> = manager.open(add(1)).await.unwrap();
        let other: Proxy<Sum> = manager.open(add(1)).await.unwrap();
        let tokens: HashSet<Token<Sum>> = [&one, &other, &one.clone()]
            .map(|proxy| proxy.token().clone())
            .into();
        assert_eq!(tokens.len(), 2);
        assert!(tokens.contains(one.token()) && one.token() != other.token());
        let again = Proxy::from(one.token().clone());
        assert_eq!(one.call(add(1)).await, Ok(2));
        assert_eq!(again.call(add(1)).await, Ok(3));
    });
}
