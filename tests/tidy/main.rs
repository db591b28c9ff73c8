//! Checks the architecture: which room imports which, and which words each file may contain.
//!
//! A room is a file or a folder directly below a crate. The checks read the sources of the three
//! crates without comments, strings and tests. A table row that no longer applies fails too.
//! `checks` breaks each rule on purpose.

mod checks;
mod documents;
mod imports;
mod rooms;
mod source;
mod words;

use source::{Tree, repository};

/// The most lines of a file: above it, split the file by a part of its state.
const MOST_LINES: usize = 480;

/// The least length at which a header is too long.
const MOST_HEADER_LINES: usize = 15;

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn each_room_imports_only_the_entries_of_its_row() {
    assert_none(&rooms::order(rooms::ROOMS));
    assert_none(&rooms::arrows(&repository(), rooms::ROOMS));
}

#[test]
fn no_files_of_a_room_import_each_other() {
    assert_none(&rooms::cycles(&repository()));
}

#[test]
fn each_import_names_the_defining_module() {
    assert_none(&rooms::paths(&repository()));
}

#[test]
fn each_mod_file_has_only_modules_and_reexports() {
    assert_none(&rooms::maps(&repository()));
}

#[test]
fn each_restricted_word_is_only_in_its_files() {
    assert_none(&words::misplaced(&repository()));
}

#[test]
fn each_file_has_a_header_and_no_more_than_the_most_lines() {
    assert_none(&shapes(&repository()));
}

#[test]
fn each_built_in_kind_has_the_form_that_the_protocol_promises() {
    assert_none(&forms(&repository()));
}

#[test]
fn each_link_of_a_document_leads_to_a_file_and_a_heading() {
    let documents = documents::documents();
    assert_none(&documents::broken_links(&documents, documents::exists));
}

#[test]
fn each_chapter_of_the_guide_is_listed_in_its_summary() {
    assert_none(&documents::unlisted_chapters(&documents::documents()));
}

#[test]
fn each_message_that_the_guide_explains_is_one_of_the_code() {
    let documents = documents::documents();
    assert_none(&documents::unknown_messages(&documents, &repository()));
}

/// Without `FORM` a kind has the form of programs' kinds.
fn forms(tree: &Tree) -> Vec<String> {
    let built_in = tree.values().filter(|source| {
        source.path.starts_with("actors/src/sync/") || source.path.starts_with("actors/src/data/")
    });
    let lacks = |source: &&source::Source| {
        let count = |text| source.code.matches(text).count();
        count(" Primitive for ") != count("const FORM: Form = Form::Compact;")
    };
    built_in
        .filter(lacks)
        .map(|source| {
            let path = &source.path;
            format!("{path} has a built-in kind without `const FORM: Form = Form::Compact;`")
        })
        .collect()
}

fn shapes(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for source in tree.values() {
        let (path, text) = (&source.path, &source.text);
        if !text.starts_with("//! ") {
            faults.push(format!("{path} does not begin with a header: //! .."));
        }
        let header = text.lines().take_while(|line| line.starts_with("//!"));
        if !path.ends_with("/lib.rs") && header.count() >= MOST_HEADER_LINES {
            faults.push(format!(
                "the header of {path} is too long: move it to a document"
            ));
        }
        let code = source.code.trim_end().lines().count();
        if code > MOST_LINES {
            faults.push(format!(
                "{path} has {code} lines without its tests: split it by a part of its state"
            ));
        }
    }
    faults
}
