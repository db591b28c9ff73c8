//! The kinds that a manager hosts: kind name to the function that spawns an object of it.
//!
//! A kind is added by one line, whether it is built in or the user's own.

use std::{
    any::{TypeId, type_name},
    collections::HashMap,
    fmt,
    rc::Rc,
    sync::Arc,
};

use lockkeeper_actors::{
    Fault, Host, Mailbox, Operations, Primitive, Refusal, Shell, codec,
    data::TaskQueue,
    sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, ReentrantLock, Semaphore},
};

/// Makes an object of one kind from an encoded spec, on the arbiter of the shell, to be known by a
/// number.
type Spawn = dyn Fn(&[u8], &Rc<Shell>, u64) -> Result<Mailbox, Fault> + Send + Sync;

/// The kinds that a manager hosts.
#[derive(Clone)]
pub(crate) struct Kinds(HashMap<&'static str, Kind>);

/// How objects of one kind are made and called.
#[derive(Clone)]
pub(crate) struct Kind {
    type_id: TypeId,
    pub(crate) operations: Arc<[&'static str]>,
    pub(crate) spawn: Arc<Spawn>,
}

impl Kinds {
    /// The built-in kinds.
    pub(crate) fn built_in() -> Self {
        let mut kinds = Self(HashMap::new());
        kinds.add::<Lock>(Lock::create);
        kinds.add::<Semaphore>(Semaphore::create);
        kinds.add::<BoundedSemaphore>(BoundedSemaphore::create);
        kinds.add::<ReentrantLock>(ReentrantLock::create);
        kinds.add::<Event>(Event::create);
        kinds.add::<Condition>(Condition::create);
        kinds.add::<Barrier>(Barrier::create);
        kinds.add::<TaskQueue>(TaskQueue::create);
        kinds
    }

    /// Adds a kind whose objects `make` makes. The same kind once more takes the place of the former.
    ///
    /// # Panics
    ///
    /// Panics if another kind, built in or not, has the name.
    pub(crate) fn add<P: Primitive>(
        &mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) {
        let mut operations = Operations::default();
        P::operations(&mut operations);
        let names = operations.names().collect();
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
        let spawn = move |spec: &[u8], shell: &Rc<Shell>, number: u64| {
            // Decoding runs code of the kind as well.
            let make = || {
                let spec = codec::decode::<P::Spec>(spec)
                    .map_err(|error| Fault::BadArguments(format!("spec: {error}")))?;
                make(spec).map_err(Fault::Refused)
            };
            let host = Host::build(make, Arc::clone(&operations), Rc::clone(shell))?;
            Ok(host.known_as(number).launch())
        };
        self.0.insert(
            P::KIND,
            Kind {
                type_id: TypeId::of::<P>(),
                operations: names,
                spawn: Arc::new(spawn),
            },
        );
    }

    /// The kind of that name.
    pub(crate) fn get(&self, kind: &str) -> Option<(&'static str, &Kind)> {
        self.0.get_key_value(kind).map(|(name, kind)| (*name, kind))
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Kinds that are to be added to a manager that is not there yet.
#[derive(Default)]
pub(crate) struct Registrations(Vec<Box<Register>>);

/// Adds one kind.
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
