//! The rooms of the crates: the imports that each may have, and the check for import cycles within
//! a room.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    imports::{Import, Token, imports, tokens},
    source::Tree,
};

/// Each room with the rooms that it may import, from the lowest to the highest: a row names only
/// rooms of rows above it.
///
/// A room is a file or a folder directly below a crate. `protocol` and `actors` stand for all public
/// items of these crates. `actors::Shell`, `actors::sync` and the like stand for a part of them.
pub(crate) const ROOMS: &[(&str, &[&str])] = &[
    ("sys::registry", &[]),
    ("sys::gate", &[]),
    ("sys::page", &[]),
    ("sys::signals", &[]),
    ("sys::origin", &["sys::gate", "sys::page", "sys::registry"]),
    ("sys::inherited", &["sys::gate", "sys::origin"]),
    ("sys::only_here", &["sys::origin"]),
    ("sys::per_process", &["sys::origin"]),
    (
        "sys::private",
        &["sys::gate", "sys::origin", "sys::registry"],
    ),
    ("protocol::printable", &[]),
    ("protocol::panics", &[]),
    (
        "protocol::codec",
        &["protocol::panics", "protocol::printable"],
    ),
    ("protocol::ids", &[]),
    ("protocol::operation", &[]),
    ("protocol::peer", &["protocol::ids", "protocol::printable"]),
    ("protocol::proof", &["protocol::ids"]),
    ("protocol::shard", &["protocol::ids"]),
    (
        "protocol::deadlock",
        &["protocol::ids", "protocol::peer", "protocol::printable"],
    ),
    (
        "protocol::inspection",
        &["protocol::ids", "protocol::peer", "protocol::printable"],
    ),
    (
        "protocol::fault",
        &[
            "protocol::deadlock",
            "protocol::peer",
            "protocol::printable",
        ],
    ),
    (
        "protocol::operations",
        &[
            "protocol::codec",
            "protocol::fault",
            "protocol::ids",
            "protocol::operation",
            "protocol::peer",
            "protocol::printable",
            "protocol::proof",
        ],
    ),
    (
        "protocol::frame",
        &[
            "protocol::codec",
            "protocol::fault",
            "protocol::inspection",
            "protocol::proof",
            "protocol::shard",
        ],
    ),
    (
        "protocol::handshake",
        &["protocol::codec", "protocol::frame"],
    ),
    ("actors::kind", &["protocol"]),
    ("actors::tables", &[]),
    (
        "actors::waiting",
        &["protocol", "actors::kind", "actors::tables"],
    ),
    (
        "actors::sync",
        &[
            "protocol",
            "actors::kind",
            "actors::tables",
            "actors::waiting",
        ],
    ),
    (
        "actors::data",
        &["protocol", "actors::kind", "actors::waiting"],
    ),
    (
        "actors::host",
        &[
            "protocol",
            "actors::kind",
            "actors::tables",
            "actors::waiting",
        ],
    ),
    (
        "actors::bench",
        &["protocol", "actors::kind", "actors::host"],
    ),
    // This row is only for tests.
    (
        "actors::bulk",
        &[
            "protocol",
            "actors::kind",
            "actors::sync",
            "actors::data",
            "actors::host",
        ],
    ),
    ("lockkeeper::background", &["sys"]),
    ("lockkeeper::want", &[]),
    ("lockkeeper::files", &["sys", "lockkeeper::want"]),
    ("lockkeeper::address_error", &[]),
    ("lockkeeper::network_place", &["lockkeeper::address_error"]),
    (
        "lockkeeper::address",
        &[
            "sys",
            "protocol",
            "lockkeeper::address_error",
            "lockkeeper::files",
            "lockkeeper::network_place",
        ],
    ),
    ("lockkeeper::peer_rights", &[]),
    ("lockkeeper::given_file", &["lockkeeper::files"]),
    (
        "lockkeeper::certificate_files",
        &["sys", "protocol", "lockkeeper::given_file"],
    ),
    (
        "lockkeeper::keys",
        &[
            "sys",
            "protocol",
            "lockkeeper::files",
            "lockkeeper::given_file",
            "lockkeeper::network_place",
            "lockkeeper::peer_rights",
        ],
    ),
    ("lockkeeper::limits", &["protocol"]),
    (
        "lockkeeper::fence_file",
        &["sys", "protocol", "lockkeeper::files"],
    ),
    (
        "lockkeeper::transport",
        &[
            "sys",
            "protocol",
            "lockkeeper::address",
            "lockkeeper::certificate_files",
            "lockkeeper::given_file",
            "lockkeeper::keys",
            "lockkeeper::network_place",
            "lockkeeper::peer_rights",
        ],
    ),
    (
        "lockkeeper::access",
        &[
            "protocol",
            "lockkeeper::files",
            "lockkeeper::peer_rights",
            "lockkeeper::transport::stream",
        ],
    ),
    ("lockkeeper::subject", &["protocol"]),
    ("lockkeeper::undecoded", &["protocol"]),
    (
        "lockkeeper::error",
        &[
            "protocol",
            "lockkeeper::address",
            "lockkeeper::address_error",
            "lockkeeper::subject",
            "lockkeeper::undecoded",
            "lockkeeper::want",
        ],
    ),
    (
        "lockkeeper::task_error",
        &["protocol", "lockkeeper::error", "lockkeeper::undecoded"],
    ),
    (
        "lockkeeper::telemetry",
        &[
            "protocol",
            "lockkeeper::task_error",
            "actors::Shell",
            "actors::Tally",
            "lockkeeper::access",
            "lockkeeper::address",
            "lockkeeper::error",
        ],
    ),
    (
        "lockkeeper::process",
        &[
            "sys",
            "protocol",
            "lockkeeper::background",
            "lockkeeper::certificate_files",
            "lockkeeper::error",
            "lockkeeper::files",
            "lockkeeper::keys",
        ],
    ),
    (
        "lockkeeper::client",
        &[
            "sys",
            "protocol",
            "lockkeeper::address",
            "lockkeeper::background",
            "lockkeeper::error",
            "lockkeeper::files",
            "lockkeeper::telemetry",
            "lockkeeper::transport",
        ],
    ),
    (
        "lockkeeper::server",
        &[
            "sys",
            "protocol",
            "actors",
            "lockkeeper::access",
            "lockkeeper::address",
            "lockkeeper::background",
            "lockkeeper::certificate_files",
            "lockkeeper::error",
            "lockkeeper::fence_file",
            "lockkeeper::files",
            "lockkeeper::keys",
            "lockkeeper::limits",
            "lockkeeper::peer_rights",
            "lockkeeper::telemetry",
            "lockkeeper::transport",
            "lockkeeper::want",
        ],
    ),
    (
        "lockkeeper::proxy",
        &[
            "sys",
            "protocol",
            "actors::Primitive",
            "actors::Serve",
            "actors::data",
            "actors::sync",
            "lockkeeper::address",
            "lockkeeper::background",
            "lockkeeper::client",
            "lockkeeper::error",
            "lockkeeper::telemetry",
            "lockkeeper::subject",
            "lockkeeper::undecoded",
        ],
    ),
    (
        "lockkeeper::untyped",
        &[
            "protocol",
            "lockkeeper::address",
            "lockkeeper::client",
            "lockkeeper::error",
            "lockkeeper::proxy",
            "lockkeeper::subject",
        ],
    ),
    (
        "lockkeeper::manager",
        &[
            "sys",
            "protocol",
            "actors::Primitive",
            "actors::data",
            "actors::sync",
            "lockkeeper::access",
            "lockkeeper::address",
            "lockkeeper::address_error",
            "lockkeeper::background",
            "lockkeeper::certificate_files",
            "lockkeeper::client",
            "lockkeeper::error",
            "lockkeeper::keys",
            "lockkeeper::limits",
            "lockkeeper::process",
            "lockkeeper::proxy",
            "lockkeeper::server",
            "lockkeeper::transport::endpoint",
            "lockkeeper::transport::handed",
            "lockkeeper::untyped",
        ],
    ),
    (
        "lockkeeper::pool",
        &[
            "sys",
            "protocol",
            "actors::data",
            "lockkeeper::address",
            "lockkeeper::background",
            "lockkeeper::client",
            "lockkeeper::error",
            "lockkeeper::limits",
            "lockkeeper::process",
            "lockkeeper::proxy",
            "lockkeeper::server",
            "lockkeeper::task_error",
            "lockkeeper::telemetry",
            "lockkeeper::transport::handed",
            "lockkeeper::undecoded",
        ],
    ),
    (
        "lockkeeper::program",
        &[
            "protocol",
            "actors::Primitive",
            "lockkeeper::address",
            "lockkeeper::background",
            "lockkeeper::error",
            "lockkeeper::manager",
            "lockkeeper::pool",
            "lockkeeper::process",
            "lockkeeper::server",
            "lockkeeper::transport",
        ],
    ),
];

/// Imports that no row may ever have, and what to do instead.
pub(crate) const NEVER: &[(&str, &str, &str)] = &[
    (
        "lockkeeper::client",
        "actors",
        "a client needs only operations and replies: put the type into protocol::operations",
    ),
    (
        "lockkeeper::server",
        "lockkeeper::client",
        "a server must not depend on the client: put shared code into protocol or transport",
    ),
    (
        "lockkeeper::proxy",
        "lockkeeper::transport",
        "a proxy calls through client::calls, which has the connection",
    ),
    (
        "lockkeeper::proxy",
        "lockkeeper::server",
        "a proxy needs only operations and replies: put the type into protocol",
    ),
    (
        "lockkeeper::manager",
        "lockkeeper::pool",
        "a pool starts a manager, and a manager never starts a pool",
    ),
];

/// Returns whether `path` is `room` or in it.
pub(crate) fn is_in(path: &str, room: &str) -> bool {
    path.strip_prefix(room)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns the crate and the first name in it.
fn room(module: &str) -> String {
    prefix(module, 2)
}

fn prefix(module: &str, parts: usize) -> String {
    let parts: Vec<_> = module.split("::").take(parts).collect();
    parts.join("::")
}

fn krate(path: &str) -> &str {
    path.split("::").next().expect("a crate")
}

/// Checks the table itself: the order of the rows, and that no row has a forbidden import.
pub(crate) fn order(rooms: &[(&str, &[&str])]) -> Vec<String> {
    let mut faults = Vec::new();
    for (place, (room, row)) in rooms.iter().enumerate() {
        for entry in *row {
            let is_above = rooms[..place].iter().any(|(above, _)| is_in(entry, above));
            if krate(entry) == krate(room) && !is_above {
                faults.push(format!(
                    "the row of {room} names {entry}, which has no row above it: move what {room} \
                     needs of it to a room below both"
                ));
            }
            for (_, _, instead) in NEVER
                .iter()
                .filter(|(from, to, _)| from == room && is_in(entry, to))
            {
                faults.push(format!("{room} never imports {entry}: {instead}"));
            }
        }
    }
    faults
}

/// Returns imports that are not in the row of their room, and entries of rows without an import.
pub(crate) fn arrows(tree: &Tree, rooms: &[(&str, &[&str])]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut used: Vec<Vec<bool>> = rooms
        .iter()
        .map(|(_, row)| vec![false; row.len()])
        .collect();
    let mut seen = vec![false; rooms.len()];
    for (name, source) in tree.iter().filter(|(_, source)| !source.is_map()) {
        let home = room(name);
        let Some(place) = rooms.iter().position(|(room, _)| *room == home) else {
            faults.push(format!(
                "{} belongs to the room {home}, which has no row: add a row with its imports to ROOMS",
                source.path
            ));
            continue;
        };
        seen[place] = true;
        for import in imports(tree, name) {
            let target = import.path();
            if is_in(&target, &home) || is_through_map(tree, name, &import) {
                continue;
            }
            let row = rooms[place].1;
            if let Some(entry) = row.iter().position(|entry| is_in(&target, entry)) {
                used[place][entry] = true;
                continue;
            }
            let instead = NEVER
                .iter()
                .find(|(from, to, _)| *from == home && is_in(&target, to))
                .map_or(
                    "move the needed code to a room below both, or pass it as an argument",
                    |(_, _, instead)| *instead,
                );
            faults.push(format!(
                "{}:{} imports {target}, and {home} may import only [{}]: {instead}",
                source.path,
                import.line,
                row.join(", ")
            ));
        }
    }
    for (((room, row), used), seen) in rooms.iter().zip(used).zip(seen) {
        if !seen {
            faults.push(format!("{room} has no file: remove its row from ROOMS"));
        }
        for (entry, _) in row.iter().zip(used).filter(|(_, used)| seen && !used) {
            faults.push(format!(
                "{room} does not import {entry} any more: remove it from ROOMS"
            ));
        }
    }
    faults
}

/// Returns whether an import names a re-export in a `lib.rs` or `mod.rs` of its own crate.
fn is_through_map(tree: &Tree, name: &str, import: &Import) -> bool {
    krate(name) == krate(&import.module)
        && !import.item.is_empty()
        && tree
            .get(&import.module)
            .is_some_and(|source| source.is_map())
}

/// Returns imports that hide a dependency: those through a re-export, and those of the parent.
pub(crate) fn paths(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, source) in tree.iter().filter(|(_, source)| !source.is_map()) {
        for import in imports(tree, name) {
            let (path, target) = (&source.path, import.path());
            let place = format!("{path}:{}", import.line);
            if is_through_map(tree, name, &import) {
                let map = &tree[&import.module].path;
                faults.push(format!(
                    "{place} imports {target} through {map}: name the module that defines it"
                ));
            } else if name != &import.module && is_in(name, &import.module) && {
                // An import of only the parent's name is allowed: paths through it are checked
                // separately.
                !import.item.is_empty() || !tree[&import.module].is_map()
            } {
                faults.push(format!(
                    "{place} imports {target} from its parent: move what it needs to a file beside \
                     it, which the parent may import too"
                ));
            }
            if import.is_public {
                faults.push(format!(
                    "{place} re-exports {target}: only lib.rs and mod.rs do; import it where it is \
                     defined"
                ));
            }
            if krate(name) == "lockkeeper"
                && krate(&target) == "actors"
                && let Some(map) = reexport(tree, &target)
            {
                faults.push(format!(
                    "{place} imports {target}, which {map} has from lockkeeper_protocol: import it \
                     from there"
                ));
            }
        }
    }
    faults
}

/// Returns the `mod.rs` or `lib.rs` of actors that re-exports `target` although protocol defines
/// it.
fn reexport<'tree>(tree: &'tree Tree, target: &str) -> Option<&'tree str> {
    let (module, item) = target.rsplit_once("::")?;
    let shown = imports(tree, tree.contains_key(module).then_some(module)?);
    let is_shown = |import: &Import| {
        krate(&import.module) == "protocol" && import.item.rsplit("::").next() == Some(item)
    };
    shown.iter().any(is_shown).then(|| &*tree[module].path)
}

/// Returns the items of `lib.rs` and `mod.rs` files other than `mod` and `pub use`.
pub(crate) fn maps(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, source) in tree.iter().filter(|(_, source)| source.is_map()) {
        let tokens = tokens(source);
        let mut place = 0;
        while place < tokens.len() {
            let at = |ahead: usize| tokens.get(place + ahead).map_or("", |token| token.text);
            let (path, line) = (&source.path, tokens[place].line);
            let after_pub = match (at(0), at(1)) {
                ("pub", "(") => 4,
                ("pub", _) => 1,
                _ => 0,
            };
            match (at(0), at(after_pub)) {
                ("#", _) => place = behind(&tokens, place, "[", "]"),
                // An inline `pub mod`, which has the same rule.
                (_, "mod") if at(after_pub + 2) == "{" => place += after_pub + 3,
                ("}", _) => place += 1,
                // The check of the target system.
                ("compile_error", _) => place = behind(&tokens, place, "(", ")") + 1,
                (_, "mod") | ("pub", "use") if at(after_pub) != "use" || after_pub == 1 => {
                    place = tokens[place..]
                        .iter()
                        .position(|token| token.text == ";")
                        .map_or(tokens.len(), |end| place + end + 1);
                }
                (other, _) => {
                    faults.push(format!(
                        "{path}:{line} has {other:?}: lib.rs and mod.rs hold `mod`, `pub use` and a \
                         map; put all else into a file of its own"
                    ));
                    break;
                }
            }
        }
        if name == krate(name) {
            continue;
        }
        for import in imports(tree, name) {
            if krate(&import.module) == krate(name) && !is_in(&import.module, name) {
                faults.push(format!(
                    "{}:{} re-exports {}: a mod.rs shows its own children",
                    source.path,
                    import.line,
                    import.path()
                ));
            }
        }
    }
    faults
}

/// Returns the place after the next pair of brackets.
fn behind(tokens: &[Token<'_>], from: usize, open: &str, close: &str) -> usize {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(from) {
        depth += usize::from(token.text == open);
        if token.text == close {
            depth -= 1;
            if depth == 0 {
                return place + 1;
            }
        }
    }
    tokens.len()
}

/// The imports of each module, with a line of each.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// Returns the import cycles within rooms: between files, and between the parts of a room.
pub(crate) fn cycles(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for parts in [usize::MAX, 3] {
        let mut graph = Graph::new();
        for (name, source) in tree.iter().filter(|(_, source)| !source.is_map()) {
            for import in imports(tree, name) {
                let is_map = tree
                    .get(&import.module)
                    .is_none_or(|source| source.is_map());
                let (from, to) = (prefix(name, parts), prefix(&import.module, parts));
                if is_map || from == to || room(&from) != room(&to) {
                    continue;
                }
                let place = format!("{}:{}", source.path, import.line);
                let arrows = graph.entry(from).or_default();
                arrows.entry(to).or_insert(place);
            }
        }
        let mut reported: Vec<String> = Vec::new();
        for module in graph.keys() {
            let Some(cycle) = shortest_cycle(&graph, module) else {
                continue;
            };
            if cycle.iter().any(|(from, _)| reported.contains(from)) {
                continue;
            }
            let steps: Vec<_> = cycle
                .iter()
                .map(|(from, place)| format!("{from} (at {place})"))
                .collect();
            let fault = format!(
                "{} -> {module}: these form an import cycle; move what two of them need \
                 to a file below both",
                steps.join(" -> ")
            );
            reported.extend(cycle.into_iter().map(|(from, _)| from));
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    faults
}

/// Returns the shortest path from a module back to itself, with the line of each step.
fn shortest_cycle(graph: &Graph, start: &str) -> Option<Vec<(String, String)>> {
    let mut ways = VecDeque::from([vec![(start.to_owned(), String::new())]]);
    let mut seen: Vec<&str> = Vec::new();
    while let Some(way) = ways.pop_front() {
        let (last, _) = way.last().expect("the path is not empty");
        for (next, place) in graph.get(last).into_iter().flatten() {
            let mut longer = way.clone();
            longer.last_mut().expect("as above").1.clone_from(place);
            if next == start {
                return Some(longer);
            }
            if !seen.contains(&&**next) {
                seen.push(next);
                longer.push((next.clone(), String::new()));
                ways.push_back(longer);
            }
        }
    }
    None
}
