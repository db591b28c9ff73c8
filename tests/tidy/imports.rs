//! Finds the modules that a source names, in `use` declarations and in paths such as
//! `deadlock::find(..)`.

use std::collections::BTreeMap;

use crate::source::{Source, Tree, is_word};

/// One path in a source, and its target.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) line: usize,
    /// The target: a module of these crates, or another crate.
    pub(crate) module: String,
    /// The item in that module. Empty if the path names the module itself.
    pub(crate) item: String,
    /// Whether it is in a `pub use`.
    pub(crate) is_public: bool,
}

impl Import {
    /// Returns the module and the item as one path.
    pub(crate) fn path(&self) -> String {
        if self.item.is_empty() {
            self.module.clone()
        } else {
            format!("{}::{}", self.module, self.item)
        }
    }
}

/// Returns all imports of the module `name` from these crates.
pub(crate) fn imports(tree: &Tree, name: &str) -> Vec<Import> {
    named(tree, name).0
}

/// Returns all paths of a module that lead to other crates, with their lines.
pub(crate) fn outside(tree: &Tree, name: &str) -> Vec<(usize, String)> {
    named(tree, name).1
}

fn named(tree: &Tree, name: &str) -> (Vec<Import>, Vec<(usize, String)>) {
    let tokens = tokens(&tree[name]);
    let (mut found, mut outside, mut names) = (Vec::new(), Vec::new(), BTreeMap::new());
    // Paths are resolved last, because a later `use` may define their first name.
    let mut rest: Vec<Token<'_>> = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let is_use = tokens[place].text == "use" && text(&tokens, place + 1) != "<";
        if !is_use {
            rest.push(tokens[place]);
            place += 1;
            continue;
        }
        let is_public = place > 0 && matches!(tokens[place - 1].text, "pub" | ")");
        let mut leaves = Vec::new();
        place = leaf(&tokens, place + 1, &[], &mut leaves);
        for (line, path, alias) in leaves {
            let Some(import) = resolve(tree, name, &BTreeMap::new(), &path, line) else {
                outside.push((line, path.join("::")));
                continue;
            };
            if import.item.is_empty() {
                names.insert(alias, import.module.clone());
            }
            found.push(Import {
                is_public,
                ..import
            });
        }
    }
    let mut place = 0;
    while place < rest.len() {
        let begin = place;
        place += 1;
        if !rest[begin].is_word() || (begin > 0 && rest[begin - 1].text == "::") {
            continue;
        }
        let mut path = vec![rest[begin].text];
        while text(&rest, place) == "::" && rest.get(place + 1).is_some_and(Token::is_word) {
            path.push(rest[place + 1].text);
            place += 2;
        }
        if path.len() > 1 {
            match resolve(tree, name, &names, &path, rest[begin].line) {
                Some(import) => found.push(import),
                None => outside.push((rest[begin].line, path.join("::"))),
            }
        }
    }
    (found, outside)
}

/// Returns the target of a path in this module, if it is in these crates.
fn resolve(
    tree: &Tree,
    name: &str,
    names: &BTreeMap<&str, String>,
    path: &[&str],
    line: usize,
) -> Option<Import> {
    let home = name.split("::").next().expect("a crate");
    let child = format!("{name}::{}", path[0]);
    let mut full = match path[0] {
        "crate" => home.to_owned(),
        "self" => name.to_owned(),
        "super" => parent(name).to_owned(),
        "lockkeeper_sys" => "sys".to_owned(),
        "lockkeeper_protocol" => "protocol".to_owned(),
        "lockkeeper_actors" => "actors".to_owned(),
        other if names.contains_key(other) => names[other].clone(),
        _ if tree.contains_key(&child) => child,
        _ => return None,
    };
    let mut item = Vec::new();
    for part in &path[1..] {
        let next = format!("{full}::{part}");
        // Of another crate only the public paths are visible, not its modules.
        let is_inside = full == home || full.starts_with(&format!("{home}::"));
        match *part {
            "super" => full = parent(&full).to_owned(),
            "self" => {}
            _ if is_inside && item.is_empty() && tree.contains_key(&next) => full = next,
            _ => item.push(*part),
        }
    }
    Some(Import {
        line,
        module: full,
        item: item.join("::"),
        is_public: false,
    })
}

/// Returns the parent of a module.
pub(crate) fn parent(module: &str) -> &str {
    module
        .rsplit_once("::")
        .map_or(module, |(parent, _)| parent)
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'source> {
    pub(crate) line: usize,
    pub(crate) text: &'source str,
}

impl Token<'_> {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(is_word)
    }
}

fn text<'source>(tokens: &[Token<'source>], place: usize) -> &'source str {
    tokens.get(place).map_or("", |token| token.text)
}

/// Splits the code into words, `::` and single characters.
pub(crate) fn tokens(source: &Source) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (line, mut text) in source.lines() {
        while let Some(first) = text.chars().next() {
            let end = if is_word(first) {
                text.find(|letter| !is_word(letter)).unwrap_or(text.len())
            } else if text.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(Token {
                    line,
                    text: &text[..end],
                });
            }
            text = &text[end..];
        }
    }
    tokens
}

/// The line of a `use` declaration, a path in it, and its name in the module.
type Leaf<'source> = (usize, Vec<&'source str>, &'source str);

/// Reads one tree of a `use` declaration, and returns the place after it.
fn leaf<'source>(
    tokens: &[Token<'source>],
    mut place: usize,
    before: &[&'source str],
    leaves: &mut Vec<Leaf<'source>>,
) -> usize {
    let (line, mut path) = (tokens[place].line, before.to_vec());
    loop {
        match text(tokens, place) {
            "::" => place += 1,
            "{" => {
                place += 1;
                while text(tokens, place) != "}" {
                    place = leaf(tokens, place, &path, leaves);
                    place += usize::from(text(tokens, place) == ",");
                }
                return place + 1;
            }
            "as" => {
                leaves.push((line, path, text(tokens, place + 1)));
                return place + 2;
            }
            "," | "}" | ";" | "" => break,
            word => {
                path.push(word);
                place += 1;
            }
        }
    }
    let named = path.iter().rev().find(|part| **part != "self");
    let alias = named.copied().unwrap_or("self");
    leaves.push((line, path, alias));
    place
}
