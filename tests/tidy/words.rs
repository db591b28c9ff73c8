//! Checks which files may name a crate or contain a word, and says what to do instead in all
//! others.

use std::collections::BTreeMap;

use crate::{
    imports::outside,
    rooms::is_in,
    source::{Tree, is_word},
};

/// A name, the files or folders that may contain it, and what other files must do instead.
type Row<'table> = (&'table str, &'table [&'table str], &'table str);

/// Crates, or modules of them, that only some files may name.
const CRATES: &[Row<'_>] = &[
    (
        "libc",
        &["sys/src/"],
        "rustix calls the system without unsafe code; put what it lacks into sys",
    ),
    (
        "interprocess",
        &["src/transport/unix.rs"],
        "use the contracts Stream and Listener, or give them what they lack",
    ),
    (
        "actix",
        &[
            "actors/src/host/host.rs",
            "actors/src/host/input.rs",
            "actors/src/host/mailbox.rs",
            "src/pool/drain.rs",
            "src/pool/supervisor.rs",
            "src/pool/place.rs",
            "src/pool/slot.rs",
            "src/pool/pool.rs",
            "src/pool/thread.rs",
            "src/server/server.rs",
            "src/server/session/context.rs",
            "src/server/supervisor/supervisor.rs",
        ],
        "an actor is a host, the supervisor or a crew: send one of them a message",
    ),
    (
        "actix_rt",
        &[
            "actors/src/host/host.rs",
            "src/pool/begin.rs",
            "src/pool/drain.rs",
            "src/pool/supervisor.rs",
            "src/pool/place.rs",
            "src/program.rs",
            "src/server/server.rs",
        ],
        "only what begins a system or a task of an actor needs it: spawn on tokio, or send a message",
    ),
    (
        "actix::dev",
        &["actors/src/host/mailbox.rs"],
        "use host::mailbox, or give it what it lacks",
    ),
    (
        "tokio",
        &[
            "actors/src/host/deadlines.rs",
            // This file yields to the runtime.
            "actors/src/host/mailbox.rs",
            "actors/src/host/shell.rs",
            "src/",
        ],
        "the hosted side has one clock, one timer task and no I/O: park the call",
    ),
    (
        "tracing",
        &["actors/src/host/watch.rs", "src/telemetry/"],
        "give the fact a function in telemetry",
    ),
    (
        "metrics",
        &["src/telemetry/"],
        "give the fact a function in telemetry, or add to the kind's Tally",
    ),
    (
        "petgraph",
        &["src/server/deadlock/graph.rs"],
        "ask deadlock::graph",
    ),
    (
        "pin_project_lite",
        &["src/proxy/wait.rs"],
        "make a Wait, which keeps its future in place",
    ),
];

/// Words that only some files may contain.
const WORDS: &[Row<'_>] = &[
    (
        "catch_unwind(",
        &[
            "protocol/src/panics.rs",
            "src/pool/handle.rs",
            "src/pool/tasks.rs",
            "src/transport/register.rs",
        ],
        "let it panic: the host ends the object and the worker fails the task",
    ),
    (
        "Instant",
        &[
            "actors/src/host/deadlines.rs",
            "actors/src/host/shell.rs",
            "src/client/spin.rs",
            "src/pool/source.rs",
            "src/pool/job_buffer.rs",
            "src/process/child.rs",
            "src/proxy/end.rs",
            "src/telemetry/call.rs",
            "src/transport/tls/socket.rs",
        ],
        "take the time as an argument, or give the call a deadline",
    ),
    (
        "(Abandoned {",
        &[],
        "let HangUp::abandon make the mark, so that it is counted and reported",
    ),
    (
        "Abandoned::new(",
        &["actors/src/kind/hang_up.rs"],
        "let HangUp::abandon make the mark, so that it is counted and reported",
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

/// Words that whole folders must not contain, and what to do instead.
const NOT_IN: &[(&[&str], &[&str], &str)] = &[
    (
        &["actors/src/sync/", "actors/src/data/"],
        &[
            "host", "encode", "decode", "thread", "async", "await", "Instant", "Arc", "Mutex",
            "tracing",
        ],
        "ask the outbox, or do it in the host",
    ),
    (
        &["actors/src/kind/", "actors/src/waiting/"],
        &[
            "host", "thread", "async", "await", "Instant", "Mutex", "tracing",
        ],
        "take it as an argument of the turn, or do it in the host",
    ),
    (
        &["protocol/src/"],
        &[
            "Primitive",
            "Serve",
            "Outbox",
            "actix",
            "tokio",
            "thread",
            "async",
            "await",
            "Instant",
            "Mutex",
            "tracing",
        ],
        "protocol has only what both sides share: data and its encoding",
    ),
];

/// Returns the names in files that may not contain them, and rows that no longer apply.
pub(crate) fn misplaced(tree: &Tree) -> Vec<String> {
    let outside: BTreeMap<_, _> = tree
        .keys()
        .map(|module| (&**module, outside(tree, module)))
        .collect();
    let mut faults = table(tree, CRATES, "CRATES", |module, name| {
        let found = outside[module].iter().find(|(_, path)| is_in(path, name));
        found.map(|(line, _)| *line)
    });
    faults.extend(table(tree, WORDS, "WORDS", |module, word| {
        let found = tree[module].lines().find(|(_, line)| has(line, word));
        found.map(|(line, _)| line)
    }));
    faults.extend(in_folders(tree));
    faults
}

/// Checks a table against the sources. `first` finds the first line of a module with a name.
fn table(
    tree: &Tree,
    rows: &[Row<'_>],
    called: &str,
    first: impl Fn(&str, &str) -> Option<usize>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (word, places, instead) in rows {
        let mut used = vec![false; places.len()];
        for (module, source) in tree {
            let path = &source.path;
            let Some(line) = first(module, word) else {
                continue;
            };
            match places.iter().position(|place| path.starts_with(place)) {
                Some(place) => used[place] = true,
                None => faults.push(format!("{path}:{line} has {word:?}: {instead}")),
            }
        }
        for (place, _) in places.iter().zip(used).filter(|(_, used)| !used) {
            faults.push(format!(
                "{place} has no {word:?} any more: remove it from {called}"
            ));
        }
    }
    faults
}

fn in_folders(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (folders, words, instead) in NOT_IN {
        let inside = |path: &str| folders.iter().any(|folder| path.starts_with(folder));
        let sources: Vec<_> = tree.values().filter(|it| inside(&it.path)).collect();
        assert!(sources.len() > 4, "the folders have moved: {folders:?}");
        for source in sources {
            for (line, code) in source.lines() {
                let mut found = code.split(|letter| !is_word(letter));
                if let Some(word) = found.find(|word| words.contains(word)) {
                    faults.push(format!("{}:{line} has {word:?}: {instead}", source.path));
                }
            }
        }
    }
    faults
}

/// Returns whether the line contains the word, and not only as the end of a longer one.
fn has(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(place, _)| {
        let before = line[..place].chars().next_back();
        !word.starts_with(is_word) || !before.is_some_and(is_word)
    })
}
