//! The boundaries of ARCHITECTURE.md as a test: which word may stand in which file.
//!
//! Reads the sources of both crates, without comments and without tests. A row of the table that
//! no longer applies fails too, so that the table stays true.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A word, the files that may contain it, and what to do instead in all others.
const WORDS: &[(&str, &[&str], &str)] = &[
    (
        "rmp_serde",
        &["actors/src/codec.rs"],
        "call codec::encode or codec::decode",
    ),
    (
        "rmp::",
        &["actors/src/codec/fields.rs"],
        "call codec::encode or codec::decode, or read elements with codec::Fields",
    ),
    (
        "interprocess",
        &["src/wire/socket.rs"],
        "use wire::Socket, or give it what it lacks",
    ),
    (
        "actix",
        &[
            "actors/src/host.rs",
            "actors/src/host/post.rs",
            "src/pool.rs",
            "src/pool/crew.rs",
            "src/pool/worker.rs",
            "src/program.rs",
            "src/server.rs",
            "src/session.rs",
            "src/supervisor.rs",
        ],
        "an actor is a host, the supervisor or a crew: send one of them a message",
    ),
    (
        "catch_unwind",
        &["actors/src/host.rs", "src/task.rs"],
        "let it panic: the host ends the object and the worker fails the task",
    ),
    (
        "Instant",
        &[
            "actors/src/deadlines.rs",
            "actors/src/shell.rs",
            "src/client/spin.rs",
            "src/observe/call.rs",
            "src/pool/stock.rs",
            "src/process.rs",
            "src/proxy/end.rs",
        ],
        "take the time as an argument, or give the call a deadline",
    ),
    (
        "tokio::",
        &["actors/src/deadlines.rs", "src/"],
        "the hosted side has one timer task and no other I/O: park the call",
    ),
    (
        "tracing::",
        &["actors/src/observe.rs", "src/observe"],
        "give the fact a function in observe",
    ),
    (
        "metrics::",
        &["src/observe"],
        "give the fact a function in observe, or add to the kind's Tally",
    ),
    (
        "(Abandoned {",
        &[],
        "have HangUp::abandon make the mark, so that it is counted and told",
    ),
    (
        "Abandoned::new(",
        &["actors/src/host/hang_up.rs"],
        "have HangUp::abandon make the mark, so that it is counted and told",
    ),
    (
        ".unwrap()",
        &[],
        "return an error, or expect with the reason why it cannot fail",
    ),
    (
        "#[allow",
        &[],
        "use #[expect(.., reason = \"..\")], which says so when it is no longer needed",
    ),
];

/// What a primitive must not name: it has its state to itself, and sees one typed input at a time.
const NOT_IN_PRIMITIVES: &[&str] = &[
    "host", "encode", "decode", "thread", "async", "await", "Instant", "Arc", "Mutex", "tracing",
];

/// Beyond this a file is a reason to look: split it by a part of its state.
const MOST_LINES: usize = 480;

/// The sources by their path, as they are.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("actors/src")];
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("a source is text");
                let path = path.strip_prefix(root).expect("below the root");
                sources.insert(path.display().to_string(), text);
            }
        }
    }
    sources
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The code of a file: no comments, and nothing behind the line that begins its tests.
fn code(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
        .collect()
}

#[test]
fn each_word_stands_only_where_it_may() {
    let (sources, mut faults) = (sources(), Vec::new());
    for (word, places, instead) in WORDS {
        let mut used = vec![false; places.len()];
        for (path, text) in sources.iter().filter(|(path, _)| !is_test(path)) {
            let Some((line, _)) = code(text).into_iter().find(|(_, line)| line.contains(word))
            else {
                continue;
            };
            match places.iter().position(|place| path.starts_with(place)) {
                Some(place) => used[place] = true,
                None => faults.push(format!("{path}:{line} has {word:?}: {instead}")),
            }
        }
        for (place, _) in places.iter().zip(used).filter(|(_, used)| !used) {
            faults.push(format!(
                "{place} has no {word:?} any more: strike it out here"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_primitive_knows_nothing_but_its_state() {
    let mut faults = Vec::new();
    let is_primitive =
        |path: &str| path.starts_with("actors/src/sync/") || path.starts_with("actors/src/data/");
    let sources = sources();
    let primitives: Vec<_> = sources
        .iter()
        .filter(|(path, _)| is_primitive(path))
        .collect();
    assert!(primitives.len() > 4, "they have moved: {primitives:?}");
    for (path, text) in primitives {
        for (line, code) in code(text) {
            let mut words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if let Some(word) = words.find(|word| NOT_IN_PRIMITIVES.contains(word)) {
                faults.push(format!(
                    "{path}:{line} has {word:?}: ask the outbox, or do it in the shell"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_file_says_what_it_is_and_is_no_longer_than_it_should_be() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//! ") {
            faults.push(format!("{path} does not begin with what it is: //! .."));
        }
        let header = text.lines().take_while(|line| line.starts_with("//!"));
        if path != "src/lib.rs" && path != "actors/src/lib.rs" && header.count() >= 15 {
            faults.push(format!(
                "the header of {path} is a document: move it to one"
            ));
        }
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        if lines > MOST_LINES {
            faults.push(format!(
                "{path} has {lines} lines: split it by a part of its state"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
