//! `Kinds`: maps the name of a kind to the function that spawns an object of it.
//!
//! A built-in kind and a kind of the user are registered in the same way, by one line.

use std::{
    any::{TypeId, type_name},
    collections::HashMap,
    fmt,
    rc::Rc,
    sync::Arc,
};

use lockkeeper_actors::{
    Host, Mailbox, Operations, Primitive, Shell,
    data::{Queue, TaskQueue, Value},
    sync::{
        Barrier, BoundedSemaphore, Condition, Event, KeyedLock, KeyedSemaphore, Latch, Lock,
        ReentrantLock, RwLock, Semaphore,
    },
};
use lockkeeper_protocol::{
    Fault, ObjectName, Refusal,
    codec::{self, Payload},
};
use lockkeeper_sys::Inherited;

/// Creates an object of one kind from an encoded spec, with a name, on the shard of the shell.
type Spawn = dyn Fn(&Payload, ObjectName, &Rc<Shell>) -> Result<Mailbox, Fault> + Send + Sync;

/// The kinds that a manager hosts.
#[derive(Clone)]
pub(crate) struct Kinds(HashMap<&'static str, Arc<Kind>>);

/// How objects of one kind are created and called.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    type_id: TypeId,
    pub(crate) operations: Arc<[&'static str]>,
    /// The numbers of the operations that are reserved for administrators.
    pub(crate) administrative: Arc<[u32]>,
    pub(crate) spawn: Box<Spawn>,
    /// The memory of the task of an object.
    pub(crate) task_bytes: usize,
    /// Returns the text of an encoded spec.
    pub(crate) describe: fn(&Payload) -> String,
}

impl Kinds {
    pub(crate) fn built_in() -> Self {
        let mut kinds = Self(HashMap::new());
        kinds.add::<Lock>(Lock::create);
        kinds.add::<Semaphore>(Semaphore::create);
        kinds.add::<BoundedSemaphore>(BoundedSemaphore::create);
        kinds.add::<ReentrantLock>(ReentrantLock::create);
        kinds.add::<Event>(Event::create);
        kinds.add::<Condition>(Condition::create);
        kinds.add::<Queue>(Queue::create);
        kinds.add::<Value>(Value::create);
        kinds.add::<Barrier>(Barrier::create);
        kinds.add::<KeyedLock>(KeyedLock::create);
        kinds.add::<KeyedSemaphore>(KeyedSemaphore::create);
        kinds.add::<RwLock>(RwLock::create);
        kinds.add::<Latch>(Latch::create);
        kinds
    }

    /// The kind that the manager inside a pool hosts. No other manager hosts it, because a task queue trusts its
    /// clients, the workers of the pool, not to exceed the manager's memory.
    pub(crate) fn of_pool() -> Self {
        let mut kinds = Self(HashMap::new());
        kinds.add::<TaskQueue>(TaskQueue::create);
        kinds
    }

    /// The most bytes of a kind's name.
    pub(crate) const MOST_NAME_BYTES: usize = 255;

    /// Adds a kind whose objects `make` creates. A second registration of the same kind replaces the first.
    ///
    /// # Panics
    ///
    /// Panics if another kind has the name, built-in or not, or if the name is longer than a client may send.
    pub(crate) fn add<P: Primitive>(
        &mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) {
        assert!(
            P::KIND.len() <= Self::MOST_NAME_BYTES,
            "the KIND of {} has {} bytes: it may have {}",
            type_name::<P>(),
            P::KIND.len(),
            Self::MOST_NAME_BYTES
        );
        let mut operations = Operations::default();
        P::operations(&mut operations);
        let names = operations.names().collect();
        let administrative = operations.administrative().collect();
        let operations = Arc::new(operations);
        let known = self
            .0
            .get(P::KIND)
            .is_none_or(|kind| kind.type_id == TypeId::of::<P>());
        assert!(
            known,
            "two kinds are named {:?}: give {} another KIND",
            P::KIND,
            type_name::<P>()
        );
        let spawn = move |spec: &Payload, name: ObjectName, shell: &Rc<Shell>| {
            // Decoding runs code of the kind as well, so it is inside the panic guard.
            let make = || {
                let spec = spec
                    .decode::<P::Spec>()
                    .map_err(|error| Fault::BadArguments(format!("spec: {error}")))?;
                make(spec).map_err(Fault::Refused)
            };
            let host = Host::build(make, Arc::clone(&operations), Rc::clone(shell))?;
            Ok(host.known_as(name).launch())
        };
        let kind = Kind {
            name: P::KIND,
            type_id: TypeId::of::<P>(),
            operations: names,
            administrative,
            spawn: Box::new(spawn),
            task_bytes: Host::<P>::task_bytes(),
            describe: describe::<P>,
        };
        self.0.insert(P::KIND, Arc::new(kind));
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Arc<Kind>> {
        self.0.get(kind)
    }
}

/// The most bytes of the text of a spec.
const MOST_TEXT_BYTES: usize = 400;

/// Returns the text of an encoded spec. Code of the kind runs inside the panic guard.
fn describe<P: Primitive>(spec: &Payload) -> String {
    let text = codec::guarded(|| Ok(P::describe(&spec.decode::<P::Spec>()?)));
    let text =
        text.unwrap_or_else(|error| format!("a spec that its kind cannot describe: {error}"));
    codec::cut(text, MOST_TEXT_BYTES)
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The kinds to add to a manager that does not exist yet.
#[derive(Default)]
pub(crate) struct Registrations(Vec<Box<Register>>);

type Register = dyn FnOnce(&mut Kinds) + Send;

impl Registrations {
    pub(crate) fn push<P: Primitive>(
        &mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) {
        self.0.push(Box::new(|kinds| kinds.add(make)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add_to(self, kinds: &mut Kinds) {
        for register in self.0 {
            register(kinds);
        }
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registrations").field(&self.0.len()).finish()
    }
}

/// The kinds of this program, including the built-in ones.
static REGISTERED: Inherited<Option<Kinds>> = Inherited::new(None);

/// Adds kinds to this program.
pub(crate) fn register(kinds: Registrations) {
    REGISTERED.with(|all| kinds.add_to(all.get_or_insert_with(Kinds::built_in)));
}

/// Returns the kinds of this program, including the built-in ones.
pub(crate) fn kinds() -> Kinds {
    REGISTERED.with(|all| all.get_or_insert_with(Kinds::built_in).clone())
}

#[cfg(test)]
mod tests {
    use lockkeeper_actors::Fences;
    use lockkeeper_protocol::{ObjectName, codec::encode};

    use crate::tests::protocol::SECRET;

    use super::*;

    /// A kind whose code panics where an object is made and where its spec is shown.
    struct Panics;

    impl Primitive for Panics {
        const KIND: &'static str = "panics";
        type Spec = u8;

        fn create(spec: u8) -> Result<Self, Refusal> {
            panic!("no object of {spec} can be made")
        }

        fn describe(spec: &u8) -> String {
            panic!("no words for {spec}")
        }

        fn operations(_: &mut Operations<Self>) {}
    }

    #[actix_rt::test]
    async fn the_text_of_a_panic_of_a_kind_is_in_the_error() {
        let mut kinds = Kinds::built_in();
        kinds.add(Panics::create);
        let kind = kinds.get(Panics::KIND).expect("it was added");
        let spec = Payload::from(encode(&7_u8).expect("a number"));
        let shell = Shell::new(Fences::count_from(1), SECRET);
        let made = (kind.spawn)(&spec, ObjectName::anonymous(1, 1), &shell);
        let Err(fault) = made else {
            panic!("it was made");
        };
        for (text, words) in [
            (fault.to_string(), "panicked: no object of 7 can be made"),
            ((kind.describe)(&spec), "panicked: no words for 7"),
            (
                (kind.describe)(&b"\xa1x"[..].into()),
                "expected a whole number from 0 to 255",
            ),
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}
