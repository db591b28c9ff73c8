//! Tests the checks: each rule is broken in a few made-up files.

use crate::{documents, forms, rooms, shapes, source};

/// Returns all faults of made-up files, for rules without a table.
fn faults(files: &[(&str, &str)]) -> Vec<String> {
    let tree = source::tree(files);
    let mut faults = rooms::cycles(&tree);
    faults.extend(rooms::paths(&tree));
    faults.extend(rooms::maps(&tree));
    faults
}

#[track_caller]
fn assert_fault(faults: &[String], beginning: &str) {
    assert!(
        matches!(faults, [fault] if fault.starts_with(beginning)),
        "{faults:#?} is not one fault that begins with {beginning:?}"
    );
}

const ROOMS: &[(&str, &[&str])] = &[
    ("lockkeeper::low", &[]),
    ("lockkeeper::high", &["lockkeeper::low", "actors::Shell"]),
];

#[test]
fn an_import_that_no_row_allows_is_found_in_every_notation() {
    for back in [
        "use crate::high::High;",
        "use crate::{\n    high::{High as Other},\n};",
        "use super::high::High;",
        "fn f() -> crate::high::High { todo }",
        "fn f() { use crate::high; }",
        "/* \" */ use crate::high; // \"",
    ] {
        let high = "use crate::low; use lockkeeper_actors::Shell; struct High;";
        let tree = source::tree(&[("src/low.rs", back), ("src/high.rs", high)]);
        assert_fault(&rooms::arrows(&tree, ROOMS), "src/low.rs:");
    }
}

#[test]
fn an_import_in_a_comment_a_string_or_a_test_is_ignored() {
    let low = r##"
        // use crate::high::High;
        /* /* */ use crate::high::High; */
        const A: &str = "use crate::high::High; \" \\";
        const B: &str = r#"use crate::high::High; ""#;
        const C: [char; 2] = ['"', '\''];
        fn f<'a>(_: &'a str) -> impl Sized + use<'a> {}
        #[cfg(test)]
        #[expect(dead_code)]
        fn only_in_tests(_: [u8; 2]) { crate::high::f(); }
        #[cfg(test)]
        mod tests { use crate::high::High; }
    "##;
    let high = "use crate::low; use lockkeeper_actors::Shell;";
    let tree = source::tree(&[("src/low.rs", low), ("src/high.rs", high)]);
    assert_eq!(rooms::arrows(&tree, ROOMS), [""; 0]);
}

#[test]
fn an_unused_entry_of_a_row_is_found() {
    let tree = source::tree(&[("src/low.rs", ""), ("src/high.rs", "use crate::low::Low;")]);
    let unused = "lockkeeper::high does not import actors::Shell any more";
    assert_fault(&rooms::arrows(&tree, ROOMS), unused);
    let tree = source::tree(&[("src/low.rs", "")]);
    assert_fault(&rooms::arrows(&tree, ROOMS), "lockkeeper::high has no file");
    let tree = source::tree(&[("src/low.rs", ""), ("src/new.rs", "")]);
    assert_fault(
        &rooms::arrows(&tree, &ROOMS[..1]),
        "src/new.rs belongs to the room lockkeeper::new, which has no row",
    );
}

#[test]
fn a_table_with_a_wrong_order_or_a_forbidden_import_is_found() {
    let up: &[(&str, &[&str])] = &[("lockkeeper::low", &["lockkeeper::high"])];
    assert_fault(
        &rooms::order(up),
        "the row of lockkeeper::low names lockkeeper::high, which has no row above it",
    );
    let forbidden: &[(&str, &[&str])] = &[("lockkeeper::client", &["actors::Shell"])];
    assert_fault(
        &rooms::order(forbidden),
        "lockkeeper::client never imports actors::Shell",
    );
}

#[test]
fn an_import_cycle_is_reported_step_by_step() {
    let one = "use crate::room::two; fn f() { two::f(); }";
    let two = "use super::three::f as other;";
    let three = "fn f() { super::one::f(); }";
    let files = [
        ("src/room/mod.rs", ""),
        ("src/room/one.rs", one),
        ("src/room/two.rs", two),
        ("src/room/three.rs", three),
    ];
    assert_fault(
        &faults(&files),
        "lockkeeper::room::one (at src/room/one.rs:1) -> lockkeeper::room::two \
         (at src/room/two.rs:1) -> lockkeeper::room::three (at src/room/three.rs:1) -> \
         lockkeeper::room::one: these form an import cycle",
    );
}

#[test]
fn a_cycle_between_folders_is_found_without_a_cycle_between_files() {
    let files = [
        ("src/room/mod.rs", ""),
        ("src/room/left/mod.rs", ""),
        ("src/room/right/mod.rs", ""),
        ("src/room/left/a.rs", "use crate::room::right::a::A;"),
        ("src/room/left/b.rs", ""),
        ("src/room/right/a.rs", ""),
        ("src/room/right/b.rs", "use crate::room::left::b::B;"),
    ];
    assert_fault(&faults(&files), "lockkeeper::room::left (at ");
}

#[test]
fn an_import_through_a_reexport_and_one_of_the_parent_are_found() {
    let map = ("src/room/mod.rs", "mod a; pub use a::A;");
    for hidden in [
        "use crate::room::A;",
        "use crate::A;",
        "fn f(_: crate::A) {}",
    ] {
        let files = [
            map,
            ("src/lib.rs", "mod room; pub use room::A;"),
            ("src/b.rs", hidden),
        ];
        assert_fault(&faults(&files), "src/b.rs:1 imports lockkeeper::");
    }
    let files = [
        map,
        ("src/room/a.rs", ""),
        ("src/room/b.rs", "use super::A;"),
    ];
    assert_fault(
        &faults(&files),
        "src/room/b.rs:1 imports lockkeeper::room::A through src/room",
    );
    let files = [("src/a.rs", "mod b;"), ("src/a/b.rs", "use super::A;")];
    assert_fault(
        &faults(&files),
        "src/a/b.rs:1 imports lockkeeper::a::A from its parent",
    );
    let files = [
        ("src/a.rs", "pub(crate) use crate::b::B;"),
        ("src/b.rs", ""),
    ];
    assert_fault(&faults(&files), "src/a.rs:1 re-exports lockkeeper::b::B");
    let files = [
        (
            "actors/src/lib.rs",
            "pub use lockkeeper_protocol::{Fault, codec};",
        ),
        ("src/a.rs", "use lockkeeper_actors::{Shell, Fault};"),
    ];
    assert_fault(
        &faults(&files),
        "src/a.rs:1 imports actors::Fault, which actors/src/lib.rs has",
    );
}

#[test]
fn a_mod_file_with_a_definition_is_found() {
    let good =
        "#![warn(x)]\n#[doc(hidden)]\npub mod a;\npub(crate) mod b;\nmod c;\npub use {a::A, b::B};";
    assert_eq!(faults(&[("src/room/mod.rs", good)]), [""; 0]);
    for bad in [
        "struct A;",
        "use a::A;",
        "pub(crate) use a::A;",
        "pub fn f() {}",
    ] {
        assert_fault(
            &faults(&[("src/room/mod.rs", bad)]),
            "src/room/mod.rs:1 has ",
        );
    }
    let files = [("src/b.rs", ""), ("src/a/mod.rs", "pub use crate::b::B;")];
    assert_fault(
        &faults(&files),
        "src/a/mod.rs:1 re-exports lockkeeper::b::B",
    );
}

#[test]
fn a_file_without_a_header_and_one_with_too_many_lines_are_found() {
    let faults_of = |text: &str| shapes(&source::tree(&[("src/a.rs", text)]));
    assert_fault(
        &faults_of("fn f() {}"),
        "src/a.rs does not begin with a header",
    );
    assert_fault(
        &faults_of(&"//! a\n".repeat(15)),
        "the header of src/a.rs is too long",
    );
    let code = format!("//! a\n{}", "fn f() {}\n".repeat(500));
    assert_fault(
        &faults_of(&code),
        "src/a.rs has 501 lines without its tests",
    );
    let tests = format!("//! a\n#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(500));
    assert_eq!(faults_of(&tests), [""; 0]);
}

#[test]
fn a_built_in_kind_without_the_compact_form_is_found() {
    let faults_of = |path, form: &str| {
        let text = format!("//! a\nimpl Primitive for A {{\n{form}\n}}\n");
        forms(&source::tree(&[(path, &*text)]))
    };
    let form = "const FORM: Form = Form::Compact;";
    assert_fault(
        &faults_of("actors/src/sync/a.rs", ""),
        "actors/src/sync/a.rs has a built-in kind without",
    );
    assert_eq!(faults_of("actors/src/data/a.rs", form), [""; 0]);
    assert_eq!(faults_of("actors/src/bench.rs", ""), [""; 0]);
}

#[test]
fn a_broken_link_an_unlisted_chapter_and_an_unknown_message_are_found() {
    let chapter =
        "# A b-c `d`\n[a](../x.rs) [b](#a-b-c-d) [c](https://x.org/a#b)\n```\n[d](y)\n```\n";
    let message = "### `no lock at .., or ..: open it`\n### `no queue`\n";
    let documents = [
        ("docs/src/SUMMARY.md", "[a](a.md)\n"),
        (
            "docs/src/a.md",
            &format!("{chapter}[e](../b) [f](a.md#a) [g](SUMMARY.md)\n"),
        ),
        ("docs/src/error-messages.md", message),
    ];
    let documents: documents::Documents = documents
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
    let faults_of = documents::broken_links(&documents, |path| path == "docs/x.rs");
    assert_eq!(
        faults_of,
        [
            "docs/src/a.md has a link to ../b, which does not exist",
            "docs/src/a.md has a link to a.md#a, which does not exist"
        ]
    );
    assert_fault(
        &documents::unlisted_chapters(&documents),
        "docs/src/error-messages.md is a chapter that",
    );
    let code = "//! a\nconst A: &str = \"no lock at {x}, \\\n    or {y}: open it\";\n";
    let faults_of = documents::unknown_messages(&documents, &source::tree(&[("src/a.rs", code)]));
    assert_eq!(
        faults_of,
        ["docs/src/error-messages.md explains \"no queue\", which no source contains"]
    );
}
