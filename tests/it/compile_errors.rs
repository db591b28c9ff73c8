//! What the compiler says of the usual mistakes with tasks. It has to say what to write.
//!
//! Each mistake is compiled against the library that this test is linked with.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A task without a mistake.
const RIGHT: &str = "
#[derive(Serialize, Deserialize)]
struct Square(u64);
impl Task for Square {
    const NAME: &'static str = \"square\";
    type Output = u64;
    async fn run(self) -> u64 { self.0 * self.0 }
}
fn main() {}
";

/// The compiled crates that a program of the test needs.
struct Crates {
    folder: PathBuf,
    lockkeeper: PathBuf,
    serde: PathBuf,
}

/// Finds the crates among those of earlier builds: the newest ones that fit each other.
fn crates() -> &'static Crates {
    static CRATES: OnceLock<Crates> = OnceLock::new();
    CRATES.get_or_init(|| {
        let test = env::current_exe().expect("the test has a path");
        let folder = test.parent().expect("it is in a folder").to_owned();
        let (lockkeepers, serdes) = (newest(&folder, "lockkeeper"), newest(&folder, "serde"));
        let pairs = lockkeepers.iter().flat_map(|lockkeeper| {
            serdes.iter().map(|serde| Crates {
                folder: folder.clone(),
                lockkeeper: lockkeeper.clone(),
                serde: serde.clone(),
            })
        });
        let mut fitting = pairs.filter(|crates| compile(crates, RIGHT).is_empty());
        fitting.next().expect("this test was linked with both")
    })
}

/// The compiled versions of a crate, newest first.
fn newest(folder: &Path, name: &str) -> Vec<PathBuf> {
    let prefix = format!("lib{name}-");
    let files = fs::read_dir(folder).expect("the folder is there").flatten();
    let mut found: Vec<_> = files
        .filter(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".rlib")
        })
        .map(|file| {
            let changed = file.metadata().and_then(|metadata| metadata.modified());
            (changed.ok(), file.path())
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Compiles a program, and returns what the compiler says.
fn compile(crates: &Crates, program: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("main.rs");
    let uses = "use lockkeeper::{Blocking, BlockingTask, Failure, Pool, Task};
use serde::{Deserialize, Serialize};
";
    fs::write(&source, format!("{uses}{program}")).expect("a file");
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.args([
        "--edition",
        "2024",
        "--emit",
        "metadata",
        "--error-format",
        "human",
        "-A",
        "unused",
    ]);
    compiler.arg("--out-dir").arg(folder.path());
    compiler
        .arg("-L")
        .arg(format!("dependency={}", crates.folder.display()));
    for (name, path) in [("lockkeeper", &crates.lockkeeper), ("serde", &crates.serde)] {
        compiler
            .arg("--extern")
            .arg(format!("{name}={}", path.display()));
    }
    let output = compiler.arg(&source).output().expect("the compiler runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_says(program: &str, sentences: &[&str]) {
    let said = compile(crates(), program);
    for sentence in sentences {
        assert!(said.contains(sentence), "no {sentence:?} in:\n{said}");
    }
}

/// What serde says of a type that it does not know.
fn derives(name: &str) -> [String; 2] {
    ["Deserialize", "Serialize"]
        .map(|which| format!("consider adding `#[derive(serde::{which})]` to your `{name}` type"))
}

#[test]
fn task_that_serde_does_not_know_is_told_to_derive() {
    for (task, run) in [("Task", "async fn run"), ("BlockingTask", "fn run")] {
        let program = format!(
            "struct Square(u64);
            impl {task} for Square {{
                const NAME: &'static str = \"square\";
                type Output = u64;
                {run}(self) -> u64 {{ self.0 }}
            }}
            fn main() {{}}"
        );
        assert_says(&program, &derives("Square").each_ref().map(String::as_str));
    }
}

#[test]
fn output_that_serde_does_not_know_is_told_to_derive() {
    for output in ["Out", "Result<u64, Out>", "Vec<Out>"] {
        let program = format!(
            "struct Out;
            #[derive(Serialize, Deserialize)]
            struct Square(u64);
            impl Task for Square {{
                const NAME: &'static str = \"square\";
                type Output = {output};
                async fn run(self) -> Self::Output {{ loop {{}} }}
            }}
            fn main() {{}}"
        );
        assert_says(&program, &derives("Out").each_ref().map(String::as_str));
    }
}

#[test]
fn blocking_task_in_place_of_a_task_is_told_to_be_wrapped() {
    let program = "#[derive(Serialize, Deserialize)]
        struct Square(u64);
        impl BlockingTask for Square {
            const NAME: &'static str = \"square\";
            type Output = u64;
            fn run(self) -> u64 { self.0 }
        }
        async fn apply(pool: Pool) {
            pool.apply(Square(3)).await;
        }
        fn main() { lockkeeper::program().task::<Square>().init(); }";
    let wrap = "a `BlockingTask` is submitted as `Blocking(task)`, and registered by `.task::<Blocking<Square>>()`";
    assert_says(
        program,
        &["`Square` is not a task that a pool can run", wrap],
    );
}

#[test]
fn task_in_place_of_a_blocking_task_is_told_not_to_be_wrapped() {
    let program = format!(
        "{}
        fn register() {{ lockkeeper::program().task::<Blocking<Square>>().init(); }}
        async fn apply(pool: Pool) {{ pool.apply(Blocking(Square(3))).await; }}",
        RIGHT
    );
    let plain = "a `Task` is submitted and registered as it is, without `Blocking`";
    assert_says(&program, &["`Square` is not a `BlockingTask`", plain]);
}

#[test]
fn value_that_is_no_task_is_told_to_implement_it() {
    let program = "async fn apply(pool: Pool) {
            pool.map([3, 4]).await;
        }
        fn main() {}";
    assert_says(
        program,
        &[
            "is not a task that a pool can run",
            "implement `lockkeeper::Task` for",
        ],
    );
}

#[test]
fn task_that_borrows_is_told_that_it_must_not() {
    let program = "#[derive(Serialize, Deserialize)]
        struct Square<'a>(&'a str);
        impl Task for Square<'_> {
            const NAME: &'static str = \"square\";
            type Output = u64;
            async fn run(self) -> u64 { 1 }
        }
        fn main() {}";
    let said = compile(crates(), program);
    // These errors are about lifetimes, and their texts are the compiler's own.
    assert!(said.contains("must satisfy the static lifetime"), "{said}");
}

#[test]
fn task_that_cannot_move_to_another_thread_is_told_which_field() {
    let program = "#[derive(Serialize, Deserialize)]
        struct Square(std::marker::PhantomData<*const u8>);
        impl Task for Square {
            const NAME: &'static str = \"square\";
            type Output = u64;
            async fn run(self) -> u64 { 1 }
        }
        fn main() {}";
    assert_says(
        program,
        &["`*const u8` cannot be sent between threads safely"],
    );
}

#[test]
fn initializer_with_another_output_is_told_which_ones_there_are() {
    let program = format!(
        "{}
        fn build() {{ Pool::builder(1).initializer(Square(3)); }}",
        RIGHT
    );
    let outputs = "its `Output` has to be `()` or `Result<(), E>` with an `E` that has `Display`";
    assert_says(
        &program,
        &[
            "a task with the output `u64` cannot be the initializer of a pool",
            outputs,
        ],
    );
}
