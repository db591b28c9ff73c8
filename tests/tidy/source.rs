//! Reads the sources of the crates, and their code without comments, strings and tests.

use std::{collections::BTreeMap, fs, path::Path};

/// The source folders, and the names of their crates in the rules.
const CRATES: &[(&str, &str)] = &[
    ("sys/src", "sys"),
    ("protocol/src", "protocol"),
    ("actors/src", "actors"),
    ("src", "lockkeeper"),
];

/// One source file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with the same lines, in which comments, strings and tests are blank.
    pub(crate) code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: without_tests(&without_comments(text)),
        }
    }

    /// Returns whether it is a `lib.rs` or a `mod.rs`, which define nothing.
    pub(crate) fn is_map(&self) -> bool {
        self.path.ends_with("/lib.rs") || self.path.ends_with("/mod.rs")
    }

    /// Returns the lines of code with their numbers.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.lines())
    }
}

/// The sources except tests, by module: `lockkeeper::client::thread`.
pub(crate) type Tree = BTreeMap<String, Source>;

/// Reads the sources of this repository.
pub(crate) fn repository() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for (folder, _) in CRATES {
        let mut folders = vec![root.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder of sources") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).expect("a source is text");
                    let path = path.strip_prefix(root).expect("below the root");
                    files.push((path.display().to_string(), text));
                }
            }
        }
    }
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    tree(&files)
}

/// Makes a tree from paths and texts.
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    files
        .iter()
        .filter(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/tests/"))
        .map(|(path, text)| (module(path), Source::new(path, text)))
        .collect()
}

/// Returns the module of a file.
fn module(path: &str) -> String {
    let (folder, name) = CRATES
        .iter()
        .find(|(folder, _)| path.starts_with(folder))
        .expect("a source of one of the crates");
    let inside = &path[folder.len()..path.len() - ".rs".len()];
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    let inside = inside.strip_suffix("/lib").unwrap_or(inside);
    format!("{name}{}", inside.replace('/', "::"))
}

/// Blanks comments and the contents of string and character literals. Quotes and line breaks stay.
fn without_comments(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = |place: usize| letters.get(place).copied().unwrap_or('\0');
    let (mut code, mut place) = (String::new(), 0);
    while place < letters.len() {
        let begin = place;
        // The end of the part that begins here, and the number of characters to keep at both ends.
        let (end, kept) = match (at(place), at(place + 1)) {
            ('/', '/') => (find(&letters, place, "\n"), 0),
            ('/', '*') => (end_of_block(&letters, place), 0),
            ('"', _) => (end_of_quote(&letters, place, '"'), 1),
            ('\'', '\\') => (end_of_quote(&letters, place, '\''), 1),
            ('\'', _) if at(place + 2) == '\'' => (place + 3, 1),
            ('r', '"' | '#') if !is_word(at(place.wrapping_sub(1))) => {
                let hashes = letters[place + 1..].iter().take_while(|it| **it == '#');
                let hashes = hashes.count();
                if at(place + 1 + hashes) == '"' {
                    let close = format!("\"{}", "#".repeat(hashes));
                    let quote = place + hashes + 2;
                    (find(&letters, quote, &close) + close.len(), 0)
                } else {
                    (place + 1, 1)
                }
            }
            _ => (place + 1, 1),
        };
        let end = end.min(letters.len());
        for (index, letter) in letters[begin..end].iter().enumerate() {
            let is_kept = index < kept || index + kept >= end - begin || *letter == '\n';
            code.push(if is_kept { *letter } else { ' ' });
        }
        place = end;
    }
    code
}

pub(crate) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn find(letters: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    let found = letters[from..]
        .windows(what.len())
        .position(|it| *it == what);
    found.map_or(letters.len(), |found| from + found)
}

fn end_of_block(letters: &[char], from: usize) -> usize {
    let (mut depth, mut place) = (0, from);
    while place + 1 < letters.len() {
        match (letters[place], letters[place + 1]) {
            ('/', '*') => (depth, place) = (depth + 1, place + 2),
            ('*', '/') if depth == 1 => return place + 2,
            ('*', '/') => (depth, place) = (depth - 1, place + 2),
            _ => place += 1,
        }
    }
    letters.len()
}

fn end_of_quote(letters: &[char], from: usize, quote: char) -> usize {
    let mut place = from + 1;
    while place < letters.len() && letters[place] != quote {
        place += if letters[place] == '\\' { 2 } else { 1 };
    }
    place + 1
}

/// Blanks each item for tests or doctests, including its attribute.
fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    for mark in ["#[cfg(test)]", "#[cfg(doctest)]"] {
        while let Some(begin) = code.find(mark) {
            let end = begin + mark.len() + end_of_item(&code[begin + mark.len()..]);
            let blank: String = code[begin..end]
                .chars()
                .map(|letter| if letter == '\n' { '\n' } else { ' ' })
                .collect();
            code.replace_range(begin..end, &blank);
        }
    }
    code
}

/// Returns the end of an item: after the first `;` outside brackets, or after its block.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0;
    for (place, letter) in code.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(letter, '}' | ';') {
            return place + 1;
        }
    }
    code.len()
}
