//! Checks the documents: each link within the repository has a target, the guide's summary lists all chapters,
//! and the code contains each message that the guide explains.

use std::{collections::BTreeMap, fs, path::Path};

use crate::source::Tree;

/// The texts of documents by their paths.
pub(crate) type Documents = BTreeMap<String, String>;

const FOLDERS: &[&str] = &["", "docs", "docs/src", "examples/sql"];

const SUMMARY: &str = "docs/src/SUMMARY.md";

const MESSAGES: &str = "docs/src/error-messages.md";

/// Reads the documents of this repository.
pub(crate) fn documents() -> Documents {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = Documents::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).expect("a folder of documents") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("a document is text");
                let path = path.strip_prefix(root).expect("below the root");
                documents.insert(path.display().to_string(), text);
            }
        }
    }
    documents
}

/// Returns whether this repository has a file or a folder at a path.
pub(crate) fn exists(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

/// Returns links within the repository whose file or heading does not exist.
pub(crate) fn broken_links(documents: &Documents, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in documents {
        for target in links(text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = resolved(path, file);
            let leads = match documents.get(&file) {
                Some(text) => heading.is_empty() || anchors(text).any(|anchor| anchor == heading),
                None => exists(&file),
            };
            if !leads {
                faults.push(format!(
                    "{path} has a link to {target}, which does not exist"
                ));
            }
        }
    }
    faults
}

/// Returns the chapters of the guide that its summary does not list.
pub(crate) fn unlisted_chapters(documents: &Documents) -> Vec<String> {
    let summary = documents.get(SUMMARY).map_or("", String::as_str);
    let listed: Vec<_> = links(summary).map(|link| resolved(SUMMARY, link)).collect();
    let chapters = documents
        .keys()
        .filter(|path| path.starts_with("docs/src/"));
    chapters
        .filter(|path| *path != SUMMARY && !listed.contains(path))
        .map(|path| format!("{path} is a chapter that {SUMMARY} does not list"))
        .collect()
}

/// Returns the messages that the guide explains and no source contains. In a message, `..` stands for a
/// variable part.
pub(crate) fn unknown_messages(documents: &Documents, sources: &Tree) -> Vec<String> {
    let mut texts = String::new();
    for source in sources.values() {
        let mut lines = source.text.split("\\\n");
        texts.push_str(lines.next().unwrap_or_default());
        lines.for_each(|line| texts.push_str(line.trim_start()));
    }
    let guide = documents.get(MESSAGES).map_or("", String::as_str);
    let messages =
        headings(guide).filter_map(|heading| heading.strip_prefix('`')?.strip_suffix('`'));
    messages
        .filter(|message| !message.split("..").all(|part| texts.contains(part)))
        .map(|message| format!("{MESSAGES} explains {message:?}, which no source contains"))
        .collect()
}

/// Returns the lines of a document outside code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Returns the targets of the links of a document that are within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let behind = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = behind.filter_map(|link| link.split_once(')'));
    targets
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    prose(text).filter_map(|line| {
        line.strip_prefix('#')?
            .trim_start_matches('#')
            .strip_prefix(' ')
    })
}

/// Returns the anchors of the headings, as a web page of the document has them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    headings(text).map(|heading| {
        let kept = heading
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    })
}

/// Returns the target of a link as a path from the root of the repository.
fn resolved(from: &str, link: &str) -> String {
    if link.is_empty() {
        return from.to_owned();
    }
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
