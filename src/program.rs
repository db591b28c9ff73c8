//! `program()`: the one call at the top of `main`. It registers kinds and tasks, and decides whether
//! this process is the main program, a worker or a spawned manager.

use std::{collections::BTreeMap, future::Future, process, sync::Arc};

use lockkeeper_actors::Primitive;
use lockkeeper_protocol::Refusal;
use tokio::runtime::{Builder, Handle};

use crate::{
    address::is_scheme,
    background,
    error::lack,
    manager::hosting,
    pool::{
        task::Task,
        tasks::{self, Tasks},
        worker,
    },
    process::{
        advice::EXIT_NO_ROLE,
        child::{Launch, set_launch},
        role::Role,
    },
    server::kinds::{self, Registrations},
    transport::{
        endpoint::{self, is_built_in},
        transport::Transport,
    },
};

/// Begins the one call at the top of main, by which the same executable serves as main program,
/// as worker of a pool and as spawned manager.
///
/// It ends with [`Program::run`], or with [`Program::init`] in a program with a runtime of its
/// own, or with [`Program::in_test`] in a test.
///
/// ```no_run
/// # use lockkeeper::{Task, Pool};
/// # use serde::{Serialize, Deserialize};
/// # #[derive(Serialize, Deserialize)] struct Draw;
/// # impl Task for Draw { const NAME: &'static str = "draw"; type Output = (); async fn run(self) {} }
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     lockkeeper::program().task::<Draw>().run(async {
///         let pool = Pool::new(4).await?;
///         pool.map([Draw, Draw]).await?;
///         Ok(())
///     })
/// }
/// ```
#[doc(alias = "freeze_support")]
#[doc(alias = "__main__")]
pub fn program() -> Program {
    Program {
        tasks: Tasks::default(),
        kinds: Registrations::default(),
        transports: BTreeMap::new(),
    }
}

/// What the processes of this program can do. See [`program`].
#[derive(Debug)]
#[must_use = "it has an effect with run, init or in_test"]
pub struct Program {
    tasks: Tasks,
    kinds: Registrations,
    transports: BTreeMap<String, Arc<dyn Transport>>,
}

impl Program {
    /// Adds a task that pools may run.
    ///
    /// # Panics
    ///
    /// Panics when another type has its name, here or at an earlier call by this process, in which
    /// case it is [`Self::run`], [`Self::init`] or [`Self::in_test`] that does.
    #[track_caller]
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks.add::<T>();
        self
    }

    /// Adds a kind of your own to all managers of this program, also to spawned ones.
    pub fn kind<P: Primitive>(self) -> Self {
        self.kind_with(P::create)
    }

    /// Adds a kind of your own whose objects `make` makes, which may capture what they need.
    pub fn kind_with<P: Primitive>(
        mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.push(make);
        self
    }

    /// Adds a transport: addresses that begin with `scheme:` are reached through it, by this program
    /// and by its workers and spawned managers. See [`transport`](crate::transport).
    ///
    /// # Panics
    ///
    /// Panics when the scheme is not two lowercase letters or more, is `unix` or `memory`, which every
    /// program has, or was added before.
    #[track_caller]
    pub fn transport(mut self, scheme: &str, transport: impl Transport) -> Self {
        assert!(
            is_scheme(scheme),
            "a scheme is two lowercase letters or more, not {scheme:?}"
        );
        assert!(
            !is_built_in(scheme),
            "every program has a transport for {scheme:?}: give yours another scheme"
        );
        let earlier = self
            .transports
            .insert(scheme.to_owned(), Arc::new(transport));
        assert!(
            earlier.is_none(),
            "two transports have the scheme {scheme:?}"
        );
        self
    }

    /// Runs the main program in an actix system, which is a tokio runtime on this thread. In a
    /// child it does the child's work instead, and does not return.
    ///
    /// # Panics
    ///
    /// Panics inside a runtime, and when the system has no descriptors for one.
    #[track_caller]
    pub fn run<F: Future>(self, main: F) -> F::Output {
        assert_no_runtime();
        self.enter(Launch::Main);
        let runtime = background::build(&mut Builder::new_current_thread());
        let runtime = runtime.unwrap_or_else(|error| {
            panic!(
                "lockkeeper::program().run(..) needs descriptors for a runtime: {}",
                lack(&error)
            )
        });
        actix_rt::System::with_tokio_rt(|| runtime).block_on(main)
    }

    /// Returns at once in the main program. In a child it does the child's work instead, and does
    /// not return.
    ///
    /// To be called first thing in main, before a runtime or a thread is started and before
    /// arguments are parsed:
    ///
    /// ```no_run
    /// fn main() {
    ///     lockkeeper::program().init();
    ///     serve();
    /// }
    ///
    /// #[tokio::main]
    /// async fn serve() {
    ///     // Manager::spawn() and Pool::new() work from here on.
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics inside a runtime, as in an `async fn main`: the child's work needs its own.
    #[track_caller]
    pub fn init(self) {
        assert_no_runtime();
        self.enter(Launch::Main);
    }

    /// Does the same within a test harness, where main is not ours: `test` is the full name of a
    /// test that does nothing but this, and children are started by running that test alone.
    ///
    /// ```no_run
    /// fn program() {
    ///     lockkeeper::program().in_test("children");
    /// }
    ///
    /// #[test]
    /// fn children() {
    ///     program();
    /// }
    ///
    /// #[test]
    /// fn manager_is_a_process() {
    ///     program();
    ///     // Manager::spawn() and Pool::new() work from here on.
    /// }
    /// ```
    #[track_caller]
    pub fn in_test(self, test: &str) {
        self.enter(Launch::Test(test.to_owned()));
    }

    #[track_caller]
    fn enter(self, launch: Launch) {
        tasks::register(&self.tasks);
        kinds::register(self.kinds);
        for (scheme, transport) in self.transports {
            endpoint::register(&scheme, transport);
        }
        set_launch(launch);
        match Role::of_this_process() {
            Ok(None) => {}
            Ok(Some(role)) => {
                take(role);
                process::exit(0);
            }
            Err(error) => {
                eprintln!(
                    "lockkeeper: this process was started as a child and cannot be one: {error}"
                );
                process::exit(EXIT_NO_ROLE);
            }
        }
    }
}

/// A child's work is a runtime of its own, which another one would not let begin.
#[track_caller]
fn assert_no_runtime() {
    assert!(
        Handle::try_current().is_err(),
        "lockkeeper::program() was called inside a runtime: call it in a plain `fn main`, and start \
         the runtime after it"
    );
}

/// Does the work of a child.
fn take(mut role: Role) {
    match role.name.as_str() {
        hosting::ROLE => hosting::work(role),
        worker::ROLE => worker::work(role),
        other => role
            .lifeline
            .failed(format!("this program knows no role {other:?}")),
    }
}
