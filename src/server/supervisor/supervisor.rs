//! `Supervisor`: the actor that spawns the hosted objects and knows their names. Calls do not pass through
//! it.
//!
//! Invariant: an object is never restarted, because a fresh lock under an old name would be granted
//! twice. The name of a failed object stays taken until the object is removed, and opening it returns `Gone`.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    rc::{Rc, Weak},
    sync::Arc,
};

use actix::{Actor, Addr, Context, Handler, Message, MessageResult};
use lockkeeper_actors::{Input, Inputs, Mailbox, Share, Shell};
use lockkeeper_protocol::{
    Fault, ObjectName, Shard, ShardOf, WrongKind, WrongSpec, codec::Payload,
};

use crate::{
    access::check_covered,
    limits::Limits,
    peer_rights::PeerRights,
    server::{
        kinds::{Kind, Kinds},
        supervisor::children::{Child, Children, Make, stored_bytes},
    },
};

pub(crate) struct Supervisor {
    kinds: Kinds,
    limits: Limits,
    shell: Rc<Shell>,
    children: Children,
    /// The spec of the last object of each kind, if an object still has it: each object counts its spec.
    makes: HashMap<&'static str, Weak<Make>>,
    shard_of: ShardOf,
    spawned: u64,
}

/// The address of the supervisor of a shard.
pub(crate) type Desk = Addr<Supervisor>;

/// Opens an object: a new one without a name, or the one with a name. If that does not exist and there is a
/// spec, it is created.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) spec: Option<Payload>,
    /// The bytes of the objects that the client has opened, which limit what it may make.
    pub(crate) opened: usize,
    /// The rights of the client, if it has its own.
    pub(crate) by: Option<Arc<PeerRights>>,
}

/// An object that a session may call.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) name: ObjectName,
    pub(crate) operations: Arc<[&'static str]>,
    /// The numbers of the operations that are reserved for administrators.
    pub(crate) administrative: Arc<[u32]>,
    pub(crate) mailbox: Mailbox,
    /// The bytes that the object counts, if this request has made it.
    pub(crate) made: usize,
}

/// Removes the object with a name, which frees the name.
#[derive(Debug)]
pub(crate) struct Remove {
    pub(crate) name: String,
    /// The rights of the client, if it has its own.
    pub(crate) by: Option<Arc<PeerRights>>,
}

/// The most bytes of an object that counts in the share of sessions, because sessions need such objects to
/// make calls. A larger object counts as data.
const SMALL_OBJECT_BYTES: usize = 1 << 12;

/// Asks for objects, in the order of their numbers. Missing ones are left out.
#[derive(Debug)]
pub(crate) enum Find {
    /// The objects above a number, up to a count.
    Above(u64, usize),
    /// The objects with these numbers.
    Numbered(BTreeSet<u64>),
    /// The object with that name.
    Named(String),
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: ObjectName,
    pub(crate) kind: &'static str,
    pub(crate) mailbox: Mailbox,
    /// What decides which clients may see the object: see [`PeerRights::cover`].
    pub(crate) home: Option<Arc<str>>,
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
    pub(crate) fn new(kinds: Kinds, limits: Limits, shell: Rc<Shell>, shard_of: ShardOf) -> Self {
        Self {
            kinds,
            limits,
            shell,
            children: Children::new(),
            makes: HashMap::new(),
            shard_of,
            spawned: 0,
        }
    }

    fn open(&mut self, open: Open) -> Result<Opened, Fault> {
        let Open {
            kind,
            name,
            spec,
            opened,
            by,
        } = open;
        if let Some(name) = &name {
            self.check_covered("open", name, by.as_deref())?;
            if let Some((number, child)) = self.named(name) {
                return self.revisit(number, child, &kind, spec.as_ref());
            }
            self.check(name)?;
            check_shard(self.shard_of.shard, name)?;
        }
        let Some(spec) = spec else {
            return Err(match name {
                Some(name) => Fault::UnknownObject(name),
                None => Fault::BadArguments("an object without a name needs a spec".to_owned()),
            });
        };
        if name
            .as_ref()
            .is_some_and(|name| name.starts_with(ObjectName::ANONYMOUS))
        {
            return Err(Fault::BadName(format!(
                "a name may not begin with {:?}",
                ObjectName::ANONYMOUS
            )));
        }
        self.shell.check_share(opened)?;
        let prefix = by.as_deref().map(PeerRights::prefix);
        let prefix = prefix.filter(|prefix| name.is_none() && !prefix.is_empty());
        self.spawn(&kind, name, prefix, spec)
    }

    fn spawn(
        &mut self,
        kind: &str,
        name: Option<String>,
        prefix: Option<&str>,
        spec: Payload,
    ) -> Result<Opened, Fault> {
        if self.children.len() >= self.limits.objects {
            return Err(Fault::limit("hosted objects", self.limits.objects));
        }
        let Some(kind) = self.kinds.get(kind) else {
            return Err(Fault::UnknownKind(kind.to_owned()));
        };
        let bytes = stored_bytes(kind, name.as_deref(), prefix, &spec);
        let share = if bytes <= SMALL_OBJECT_BYTES {
            Share::Session
        } else {
            Share::Data
        };
        let stored = self.shell.outbox().store_in(share, bytes)?;
        let number = self.shard_of.shard.number(self.spawned + 1);
        let given = name.map(Arc::from);
        let name = self.name(number, given.as_ref());
        let mailbox = (kind.spawn)(&spec, name, &self.shell)?;
        self.spawned += 1;
        let make = made_from(&mut self.makes, kind, spec);
        let child = Child {
            given,
            make,
            mailbox,
        };
        let opened = Opened {
            made: bytes,
            ..self.opened(number, &child)
        };
        self.children.insert(number, child, stored);
        if let Some(prefix) = prefix {
            self.children.made_with(number, prefix.into());
        }
        Ok(opened)
    }

    /// The object with a name, and its number.
    fn named(&self, name: &str) -> Option<(u64, &Child)> {
        let number = match ObjectName::read_anonymous(name) {
            Some(name) => name.number(),
            None => self.children.number_of(name)?,
        };
        let child = self.children.get(number)?;
        let is_it = self.name(number, child.given.as_ref()).text() == name;
        is_it.then_some((number, child))
    }

    /// The name of the object with a number.
    fn name(&self, number: u64, given: Option<&Arc<str>>) -> ObjectName {
        match given {
            Some(name) => ObjectName::given(Arc::clone(name), number),
            None => ObjectName::anonymous(self.shard_of.incarnation, number),
        }
    }

    /// Opens an existing object.
    fn revisit(
        &self,
        number: u64,
        child: &Child,
        kind: &str,
        spec: Option<&Payload>,
    ) -> Result<Opened, Fault> {
        let opened = self.opened(number, child);
        let is = child.make.kind.name;
        if is != kind {
            return Err(Fault::WrongKind(Box::new(WrongKind {
                name: opened.name.text().into_owned(),
                is: is.to_owned(),
                asked: kind.to_owned(),
            })));
        }
        if let Some(spec) = spec
            && **spec != *child.make.spec
        {
            let describe = child.make.kind.describe;
            return Err(Fault::WrongSpec(Box::new(WrongSpec {
                name: opened.name.text().into_owned(),
                kind: kind.to_owned(),
                is: describe(&child.make.spec),
                asked: describe(spec),
            })));
        }
        if self.shell.has_failed(number) {
            return Err(Fault::Gone);
        }
        Ok(opened)
    }

    fn opened(&self, number: u64, child: &Child) -> Opened {
        Opened {
            name: self.name(number, child.given.as_ref()),
            operations: Arc::clone(&child.make.kind.operations),
            administrative: Arc::clone(&child.make.kind.administrative),
            mailbox: Arc::clone(&child.mailbox),
            made: 0,
        }
    }

    fn remove(&mut self, name: String, by: Option<&PeerRights>) -> Result<(), Fault> {
        self.check_covered("remove", &name, by)?;
        let number = self.named(&name).map(|(number, _)| number);
        let child = number.and_then(|number| self.children.remove(number));
        let Some(child) = child else {
            check_shard(self.shard_of.shard, &name)?;
            return Err(Fault::UnknownObject(name));
        };
        let now = self.shell.now();
        child.mailbox.do_send(Inputs::one(now, Input::Remove));
        Ok(())
    }

    /// Finds the selected objects without scanning the others.
    fn find(&self, find: &Find) -> Vec<Found> {
        let found = |(number, child)| self.found(number, child);
        match find {
            Find::Named(name) => self.named(name).map(found).into_iter().collect(),
            Find::Numbered(numbers) => {
                let children = numbers
                    .iter()
                    .filter_map(|number| Some((*number, self.children.get(*number)?)));
                children.map(found).collect()
            }
            Find::Above(number, most) => {
                let above = self.children.above(*number);
                above.take(*most).map(found).collect()
            }
        }
    }

    fn found(&self, number: u64, child: &Child) -> Found {
        Found {
            name: self.name(number, child.given.as_ref()),
            kind: child.make.kind.name,
            mailbox: Arc::clone(&child.mailbox),
            home: self.children.home(number, child),
        }
    }

    /// Refuses an object that the rights of a client do not cover.
    fn check_covered(&self, verb: &str, name: &str, by: Option<&PeerRights>) -> Result<(), Fault> {
        let found = by.and_then(|_| self.named(name));
        let home = found.map(|(number, child)| self.children.home(number, child));
        let home = home.as_ref().map(Option::as_deref);
        check_covered(by, verb, name, home)
    }

    fn check(&self, name: &str) -> Result<(), Fault> {
        let most = self.limits.name_bytes;
        if name.is_empty() || name.len() > most {
            return Err(long_name(most, name.len()));
        }
        Ok(())
    }
}

/// Refuses names that belong to other shards, so that names are unique in the whole manager.
pub(crate) fn check_shard(shard: Shard, name: &str) -> Result<(), Fault> {
    match shard.owner(name) {
        owner if owner == shard.index() => Ok(()),
        owner => Err(Fault::WrongShard {
            name: name.to_owned(),
            shard: owner,
        }),
    }
}

/// The refusal of a name that is empty or too long.
pub(crate) fn long_name(most: usize, length: usize) -> Fault {
    Fault::BadName(format!(
        "a name has 1 to {most} bytes, not {length}: `name_bytes` of Manager::builder().limits(..) raises the limit"
    ))
}

/// The spec of an object, shared if it equals that of the last object of its kind.
fn made_from(
    makes: &mut HashMap<&'static str, Weak<Make>>,
    kind: &Arc<Kind>,
    spec: Payload,
) -> Rc<Make> {
    let last = makes.get(kind.name).and_then(Weak::upgrade);
    if let Some(last) = last.filter(|last| *last.spec == *spec) {
        return last;
    }
    let make = Rc::new(Make {
        kind: Arc::clone(kind),
        spec,
    });
    makes.insert(kind.name, Rc::downgrade(&make));
    make
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

    fn handle(&mut self, Remove { name, by }: Remove, _: &mut Context<Self>) -> Self::Result {
        self.remove(name, by.as_deref())
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

#[cfg(test)]
mod tests {
    use lockkeeper_actors::{
        Fences, Primitive,
        sync::{Lock, ReleaseBy, Semaphore},
    };
    use lockkeeper_protocol::{codec::encode, operations::SemaphoreSpec};

    use crate::tests::protocol::SECRET;

    use super::*;

    const INCARNATION: u64 = 0xabc;

    fn supervisor() -> Supervisor {
        let shell = Shell::new(Fences::count_from(1), SECRET);
        let shard_of = ShardOf {
            incarnation: INCARNATION,
            shard: Shard::ALONE,
        };
        Supervisor::new(Kinds::built_in(), Limits::default(), shell, shard_of)
    }

    fn open_as<P: Primitive>(
        supervisor: &mut Supervisor,
        name: Option<&str>,
        spec: Option<&P::Spec>,
    ) -> Result<String, Fault> {
        let open = Open {
            kind: P::KIND.to_owned(),
            name: name.map(str::to_owned),
            spec: spec.map(|spec| encode(spec).expect("a spec").into()),
            opened: 0,
            by: None,
        };
        supervisor
            .open(open)
            .map(|opened| opened.name.text().into_owned())
    }

    fn open(supervisor: &mut Supervisor, name: Option<&str>) -> String {
        open_as::<Lock>(supervisor, name, Some(&ReleaseBy::Holder)).expect("a lock")
    }

    fn names(supervisor: &Supervisor, find: &Find) -> Vec<String> {
        let found = supervisor.find(find);
        found
            .iter()
            .map(|found| found.name.text().into_owned())
            .collect()
    }

    #[actix_rt::test]
    async fn spec_is_shared_by_equal_objects_and_kept_only_while_one_exists() {
        let mut supervisor = supervisor();
        for name in ["a", "b"] {
            open(&mut supervisor, Some(name));
        }
        let kept = |supervisor: &Supervisor| supervisor.makes[Lock::KIND].strong_count();
        assert_eq!(kept(&supervisor), 2);
        for name in ["a", "b"] {
            supervisor.remove(name.to_owned(), None).expect("it exists");
        }
        assert_eq!(kept(&supervisor), 0);
        open(&mut supervisor, Some("c"));
        assert_eq!(kept(&supervisor), 1);
    }

    #[actix_rt::test]
    async fn objects_are_found_in_the_order_in_which_they_were_made() {
        let mut supervisor = supervisor();
        for name in [None, Some("b"), None, Some("a")] {
            open(&mut supervisor, name);
        }
        let all = ["#abc.1", "b", "#abc.3", "a"];
        assert_eq!(names(&supervisor, &Find::Above(0, 9)), all);
        assert_eq!(names(&supervisor, &Find::Above(1, 2)), all[1..3]);
        assert_eq!(names(&supervisor, &Find::Above(4, 9)), all[4..]);
        let some = Find::Numbered(BTreeSet::from([9, 4, 1]));
        assert_eq!(names(&supervisor, &some), ["#abc.1", "a"]);
        for name in all {
            let named = Find::Named(name.to_owned());
            assert_eq!(names(&supervisor, &named), [name]);
        }
    }

    #[actix_rt::test]
    async fn object_has_one_name_and_no_number_is_used_again() {
        let mut supervisor = supervisor();
        let lock = open(&mut supervisor, None);
        open(&mut supervisor, Some("jobs"));
        // A name of another incarnation, a name of an object with a chosen name, and a number that does not
        // exist yet.
        for name in ["#abd.1", "#abc.2", "#abc.3", "#abc.01", "#", "other"] {
            let unknown = Err(Fault::UnknownObject(name.to_owned()));
            let opened = open_as::<Lock>(&mut supervisor, Some(name), None);
            assert_eq!(opened, unknown, "{name:?}");
            assert_eq!(
                supervisor
                    .remove(name.to_owned(), None)
                    .map(|()| String::new()),
                unknown
            );
        }
        for name in [&*lock, "jobs"] {
            let again = open_as::<Lock>(&mut supervisor, Some(name), None);
            assert_eq!(again.as_deref(), Ok(name));
            assert_eq!(supervisor.remove(name.to_owned(), None), Ok(()));
            let gone = supervisor.remove(name.to_owned(), None);
            assert_eq!(gone, Err(Fault::UnknownObject(name.to_owned())));
        }
        assert_eq!(supervisor.children.len(), 0);
        open(&mut supervisor, Some("jobs"));
        assert_eq!(open(&mut supervisor, None), "#abc.4");
        assert_eq!(names(&supervisor, &Find::Above(0, 9)), ["jobs", "#abc.4"]);
    }

    #[actix_rt::test]
    async fn names_are_found_and_free_again_among_many() {
        let mut supervisor = supervisor();
        let all: Vec<String> = (0..500).map(|number| format!("name {number}")).collect();
        for name in &all {
            open(&mut supervisor, Some(name));
        }
        for name in &all[..490] {
            supervisor.remove(name.clone(), None).expect("it is there");
        }
        assert_eq!(names(&supervisor, &Find::Above(0, 99)), all[490..]);
        for name in &all[490..] {
            assert_eq!(names(&supervisor, &Find::Named(name.clone())), [&**name]);
        }
        let free = Find::Named(all[0].clone());
        assert!(names(&supervisor, &free).is_empty());
    }

    #[actix_rt::test]
    async fn what_objects_are_made_from_is_kept_once() {
        let mut supervisor = supervisor();
        for _ in 0..3 {
            open(&mut supervisor, None);
            for permits in [2, 3] {
                let spec = SemaphoreSpec::from(permits);
                let name = format!("{permits}");
                open_as::<Semaphore>(&mut supervisor, Some(&name), Some(&spec)).expect("permits");
            }
        }
        let make = |number| &supervisor.children.get(number).expect("a child").make;
        assert!(Rc::ptr_eq(make(1), make(4)));
        assert!(!Rc::ptr_eq(make(2), make(3)));
        let other = SemaphoreSpec::from(4);
        let wrong = open_as::<Semaphore>(&mut supervisor, Some("2"), Some(&other));
        assert_eq!(
            wrong,
            Err(Fault::WrongSpec(Box::new(WrongSpec {
                name: "2".to_owned(),
                kind: Semaphore::KIND.to_owned(),
                is: Semaphore::describe(&SemaphoreSpec::from(2)),
                asked: Semaphore::describe(&other),
            })))
        );
    }
}
