//! The actor that spawns the hosted objects and knows their names. Not on the path of a call.
//!
//! Invariant: a child is never restarted: a fresh lock under an old name would be granted twice.
//! The name of an object that failed stays taken until it is removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Bound,
    rc::Rc,
    sync::Arc,
};

use actix::{Actor, Addr, Context, Handler, Message, MessageResult};
use lockkeeper_actors::{Fault, Input, Inputs, Mailbox, Shell};

use crate::{
    Limits,
    kinds::{Kind, Kinds},
    part::{ANONYMOUS, Home, anonymous},
};

/// The actor that spawns and names the hosted objects of a manager.
pub(crate) struct Supervisor {
    kinds: Kinds,
    limits: Limits,
    shell: Rc<Shell>,
    children: HashMap<Arc<str>, Child>,
    /// The names of all children, by their numbers: in the order in which they were made.
    names: BTreeMap<u64, Arc<str>>,
    /// What the last object was made from.
    last_spec: Rc<[u8]>,
    home: Home,
    spawned: u64,
}

/// Where the supervisor of a manager is asked.
pub(crate) type Desk = Addr<Supervisor>;

/// A hosted object, as data.
struct Child {
    id: u64,
    kind: Arc<Kind>,
    /// Shared with others of the same: most objects are made from the few specs that there are.
    spec: Rc<[u8]>,
    mailbox: Mailbox,
}

/// Asks for an object: a new one without a name, or the one of that name, which is made if there
/// is a spec.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) spec: Option<Vec<u8>>,
}

/// An object that a session may call.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Unique within the manager, also when the name is used again.
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) operations: Arc<[&'static str]>,
    pub(crate) mailbox: Mailbox,
}

/// Ends the object of that name; the name is free afterwards.
#[derive(Debug)]
pub(crate) struct Remove(pub(crate) String);

/// Asks for objects, in the order of their numbers. Those that are not there are left out.
#[derive(Debug)]
pub(crate) enum Find {
    /// Those above a number, and how many at the most.
    Above(u64, usize),
    /// Those of these numbers.
    Numbered(BTreeSet<u64>),
    /// The one of that name.
    Named(String),
}

/// An object, by name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) mailbox: Mailbox,
}

impl Message for Find {
    type Result = Vec<Found>;
}

impl Message for Open {
    type Result = Result<Opened, Fault>;
}

impl Message for Remove {
    type Result = Result<(), Fault>;
}

impl Supervisor {
    pub(crate) fn new(kinds: Kinds, limits: Limits, shell: Rc<Shell>, home: Home) -> Self {
        Self {
            kinds,
            limits,
            shell,
            children: HashMap::new(),
            names: BTreeMap::new(),
            last_spec: Rc::default(),
            home,
            spawned: 0,
        }
    }

    fn open(&mut self, open: Open) -> Result<Opened, Fault> {
        let Open { kind, name, spec } = open;
        if let Some(name) = &name {
            if let Some(child) = self.children.get_key_value(name.as_str()) {
                return revisit(child, &kind, spec.as_deref());
            }
            self.check(name)?;
            self.check_arbiter(name)?;
        }
        let Some(spec) = spec else {
            return Err(match name {
                Some(name) => Fault::UnknownObject(name),
                None => Fault::BadArguments("an object without a name needs a spec".to_owned()),
            });
        };
        if name
            .as_ref()
            .is_some_and(|name| name.starts_with(ANONYMOUS))
        {
            return Err(Fault::BadName(format!(
                "a name may not begin with {ANONYMOUS:?}"
            )));
        }
        self.spawn(&kind, name, spec)
    }

    fn spawn(&mut self, kind: &str, name: Option<String>, spec: Vec<u8>) -> Result<Opened, Fault> {
        if self.children.len() >= self.limits.objects {
            return Err(Fault::limit("hosted objects", self.limits.objects));
        }
        let Some(kind) = self.kinds.get(kind) else {
            return Err(Fault::UnknownKind(kind.to_owned()));
        };
        let id = self.home.part.number(self.spawned + 1);
        let name: Arc<str> = match name {
            Some(name) => name.into(),
            None => anonymous(self.home.incarnation, id).into(),
        };
        let mailbox = (kind.spawn)(&spec, &name, id, &self.shell)?;
        if *self.last_spec != *spec {
            self.last_spec = spec.into();
        }
        self.spawned += 1;
        let child = Child {
            id,
            kind: Arc::clone(kind),
            spec: Rc::clone(&self.last_spec),
            mailbox,
        };
        let opened = child.opened(&name);
        self.names.insert(id, Arc::clone(&name));
        self.children.insert(name, child);
        Ok(opened)
    }

    /// Finds objects, without a look at any other.
    fn find(&self, find: &Find) -> Vec<Found> {
        match find {
            Find::Named(name) => self.found(name).into_iter().collect(),
            Find::Numbered(numbers) => {
                let names = numbers.iter().filter_map(|number| self.names.get(number));
                names.filter_map(|name| self.found(name)).collect()
            }
            Find::Above(number, most) => {
                let above = (Bound::Excluded(*number), Bound::Unbounded);
                let names = self.names.range(above).take(*most);
                names.filter_map(|(_, name)| self.found(name)).collect()
            }
        }
    }

    fn found(&self, name: &str) -> Option<Found> {
        let (name, child) = self.children.get_key_value(name)?;
        Some(Found {
            id: child.id,
            name: Arc::clone(name),
            kind: child.kind.name,
            mailbox: Arc::clone(&child.mailbox),
        })
    }

    /// Makes sure that a name is not another arbiter's: names are unique in the whole manager.
    fn check_arbiter(&self, name: &str) -> Result<(), Fault> {
        match self.home.part.owner(name) {
            arbiter if arbiter == self.home.part.index() => Ok(()),
            arbiter => Err(Fault::WrongArbiter {
                name: name.to_owned(),
                arbiter,
            }),
        }
    }

    fn check(&self, name: &str) -> Result<(), Fault> {
        let most = self.limits.name_bytes;
        if name.is_empty() || name.len() > most {
            let length = name.len();
            return Err(Fault::BadName(format!(
                "a name has 1 to {most} bytes, not {length}"
            )));
        }
        Ok(())
    }
}

/// Opens an object that is there already.
fn revisit(
    (name, child): (&Arc<str>, &Child),
    kind: &str,
    spec: Option<&[u8]>,
) -> Result<Opened, Fault> {
    if child.kind.name != kind {
        return Err(Fault::WrongKind {
            name: name.to_string(),
            is: child.kind.name.to_owned(),
            asked: kind.to_owned(),
        });
    }
    if spec.is_some_and(|spec| *spec != *child.spec) {
        return Err(Fault::WrongSpec(name.to_string()));
    }
    Ok(child.opened(name))
}

impl Child {
    fn opened(&self, name: &Arc<str>) -> Opened {
        Opened {
            id: self.id,
            name: Arc::clone(name),
            operations: Arc::clone(&self.kind.operations),
            mailbox: Arc::clone(&self.mailbox),
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<Open> for Supervisor {
    type Result = Result<Opened, Fault>;

    fn handle(&mut self, open: Open, _: &mut Context<Self>) -> Self::Result {
        self.open(open)
    }
}

impl Handler<Find> for Supervisor {
    type Result = MessageResult<Find>;

    fn handle(&mut self, find: Find, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.find(&find))
    }
}

impl Handler<Remove> for Supervisor {
    type Result = Result<(), Fault>;

    fn handle(&mut self, Remove(name): Remove, _: &mut Context<Self>) -> Self::Result {
        match self.children.remove(name.as_str()) {
            Some(child) => {
                self.names.remove(&child.id);
                let now = self.shell.now();
                child.mailbox.do_send(Inputs::one(now, Input::Remove));
                Ok(())
            }
            None => {
                self.check_arbiter(&name)?;
                Err(Fault::UnknownObject(name))
            }
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("kinds", &self.kinds)
            .field("children", &self.children.len())
            .finish_non_exhaustive()
    }
}
