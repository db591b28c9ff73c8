//! `program()`: the one call at the top of `main`. It registers kinds and tasks, and decides whether
//! this process is the main program, a worker or a spawned manager.

use std::{collections::BTreeMap, future::Future, panic::Location, process, sync::Arc};

use lockkeeper_actors::Primitive;
use lockkeeper_protocol::Refusal;
use tokio::runtime::{Builder, Handle};

use crate::{
    address::is_scheme,
    background,
    error::lack,
    manager::hosting,
    pool::{
        process_work,
        task::Task,
        tasks::{self, Tasks},
        worker,
    },
    process::{
        advice::EXIT_NO_ROLE,
        child::{Launch, set_launch},
        exit::exit,
        role::Role,
    },
    server::kinds::{self, Registrations},
    transport::{
        endpoint::{self, is_built_in},
        transport::Transport,
    },
};

/// Begins the call at the top of main that lets one executable serve as main program, as worker of
/// a pool and as spawned manager.
///
/// The call ends with [`Program::run`], with [`Program::init`] in a program that has its own
/// runtime, or with [`Program::in_test`] in a test.
///
/// ```no_run
/// # use lockkeeper::{Task, Pool};
/// # use serde::{Serialize, Deserialize};
/// # #[derive(Serialize, Deserialize)] struct Draw;
/// # impl Task for Draw { const NAME: &'static str = "draw"; type Output = (); async fn run(self) {} }
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     lockkeeper::program().task::<Draw>().run(async {
///         let pool = Pool::new(4).await?;
///         pool.try_map([Draw, Draw]).await?;
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

/// The tasks, kinds and transports of this program's processes. See [`program`].
#[derive(Debug)]
#[must_use = "it has an effect with run, init or in_test"]
pub struct Program {
    tasks: Tasks,
    kinds: Registrations,
    transports: BTreeMap<String, Arc<dyn Transport>>,
}

impl Program {
    /// Adds a task that pools and processes may run.
    ///
    /// # Panics
    ///
    /// Panics when another type has the same name. If that type was added by an earlier call in
    /// this process, [`Self::run`], [`Self::init`] or [`Self::in_test`] panics instead.
    #[track_caller]
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks.add::<T>();
        self
    }

    /// Adds a custom kind to all managers of this program, including spawned ones.
    pub fn register<P: Primitive>(self) -> Self {
        self.register_with(P::create)
    }

    /// Adds a custom kind whose objects are created by `make`, which may capture what they need.
    pub fn register_with<P: Primitive>(
        mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.push(make);
        self
    }

    /// Adds a transport: this program, its workers and its spawned managers use it for addresses
    /// that begin with `scheme:`. See [`transport`](crate::transport).
    ///
    /// # Panics
    ///
    /// Panics when the scheme is not at least two lowercase letters, is `unix`, `memory` or `tls`,
    /// which are this crate's own, or was added before.
    #[track_caller]
    pub fn transport(mut self, scheme: &str, transport: impl Transport) -> Self {
        assert!(
            is_scheme(scheme),
            "a scheme is two lowercase letters or more, not {scheme:?}"
        );
        assert!(
            !is_built_in(scheme),
            "{scheme:?} is a transport of lockkeeper: give yours another scheme"
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
    /// Panics inside a runtime, and when there are too few descriptors for one.
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

    /// Returns at once in the main program. In a child process it does the child's work instead,
    /// and does not return.
    ///
    /// Call it at the beginning of main, before a runtime or a thread is started and before
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
    /// Panics inside a runtime, for example in an `async fn main`: the work of a child needs its
    /// own runtime.
    #[track_caller]
    pub fn init(self) {
        assert_no_runtime();
        self.enter(Launch::Main);
    }

    /// Does the work of [`Self::init`] in a test harness, which has its own main. `test` is the
    /// full name of a test that does nothing but call this method. A child process runs only that
    /// test.
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
    ///
    /// # Panics
    ///
    /// Panics in a child if the test named `test` is async: the work of a child needs its own runtime. Other tests
    /// may be async.
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
        let in_runtime = in_runtime(&launch);
        set_launch(launch);
        match Role::of_this_process() {
            Ok(None) => {}
            Ok(Some(mut role)) => {
                if Handle::try_current().is_ok() {
                    // The parent has the error, and then kills this process, maybe before it prints the panic.
                    let place = Location::caller();
                    role.lifeline.failed(format!("{in_runtime} (at {place})"));
                    panic!("{in_runtime}");
                }
                take(role);
                exit(0);
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

/// Panics inside a runtime. The work of a child needs its own runtime, and runtimes cannot be
/// nested.
#[track_caller]
fn assert_no_runtime() {
    assert!(
        Handle::try_current().is_err(),
        "{}",
        in_runtime(&Launch::Main)
    );
}

/// Returns what is wrong with a call inside a runtime, and what to do.
fn in_runtime(launch: &Launch) -> String {
    let remedy = match launch {
        Launch::Main => "call it in a plain `fn main`".to_owned(),
        Launch::Test(test) => {
            format!("make the test {test:?}, which in_test names, a plain #[test] without async")
        }
    };
    format!(
        "lockkeeper::program() was called inside a runtime: {remedy}, and start the runtime after it"
    )
}

/// Does the work of a child.
fn take(mut role: Role) {
    match role.name.as_str() {
        hosting::ROLE => hosting::work(role),
        worker::ROLE => worker::work(role),
        process_work::ROLE => process_work::work(role),
        other => role
            .lifeline
            .failed(format!("this program knows no role {other:?}")),
    }
}
