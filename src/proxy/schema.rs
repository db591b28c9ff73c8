//! The schema id of a type, which two programs compare to check that they use the same type.
//!
//! By default it is the compiler's name of the type without the paths of its modules, so that copies of a
//! type in two programs, and one that has moved to another module, have the same id.

use std::any::type_name;

/// Returns the default id of a type: its name without module paths and lifetimes, for example
/// `Vec<Job>`.
pub(crate) fn of<T: ?Sized>() -> String {
    without_paths(type_name::<T>())
}

fn without_paths(name: &str) -> String {
    let mut id = String::with_capacity(name.len());
    // The starts of the current path in the id, and of the paths around it.
    let mut starts = vec![0];
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        if rest.starts_with("::") {
            // The text so far is a module, or a function or type that contains the declaration.
            id.truncate(starts.last().copied().unwrap_or_default());
            rest = rest.get(2..).unwrap_or_default();
            continue;
        }
        if let Some(behind) = behind_lifetime(rest) {
            rest = behind;
            // `Cow<'static, str>` is `Cow<str>`, and `Ref<'_>` is `Ref`.
            if let Some(behind) = rest.strip_prefix(", ").or_else(|| rest.strip_prefix(' ')) {
                rest = behind;
            } else if id.ends_with('<')
                && let Some(behind) = rest.strip_prefix('>')
            {
                id.pop();
                starts.pop();
                rest = behind;
            }
            continue;
        }
        match first {
            '-' if rest.starts_with("->") => {
                length = 2;
                id.push_str("->");
            }
            '<' | '(' | '[' => {
                id.push(first);
                starts.push(id.len());
            }
            '>' | ')' | ']' => {
                id.push(first);
                starts.pop();
            }
            ' ' | ',' | ';' | '&' | '*' => {
                id.push(first);
                if let Some(start) = starts.last_mut() {
                    *start = id.len();
                }
            }
            other => id.push(other),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    id
}

/// Returns the text after a lifetime, if it begins with one and not with a quoted character.
fn behind_lifetime(text: &str) -> Option<&str> {
    let name = text.strip_prefix('\'')?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
    let behind = name.get(end.unwrap_or(name.len())..)?;
    (behind.len() < name.len() && !behind.starts_with('\'')).then_some(behind)
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData, path::PathBuf};

    use super::*;

    struct Job;

    struct Borrowed<'a, T>(PhantomData<&'a T>);

    struct Lent<'a>(PhantomData<&'a u8>);

    struct Grid<const WIDTH: usize, T>(PhantomData<T>);

    mod deep {
        pub(super) mod down {
            pub(in super::super) struct Job;
        }
    }

    trait Local {
        fn id_of_its_own() -> String;
    }

    impl<T> Local for Vec<T> {
        fn id_of_its_own() -> String {
            struct Inner;
            let closure = || of::<Option<Inner>>();
            closure()
        }
    }

    #[test]
    fn id_is_the_name_without_module_paths() {
        assert_eq!(of::<u64>(), "u64");
        assert_eq!(of::<Job>(), "Job");
        assert_eq!(of::<deep::down::Job>(), of::<Job>());
        assert_eq!(of::<Vec<Job>>(), "Vec<Job>");
        assert_eq!(of::<(bool, PathBuf, ())>(), "(bool, PathBuf, ())");
        assert_eq!(of::<[Option<deep::down::Job>; 3]>(), "[Option<Job>; 3]");
        assert_eq!(
            of::<BTreeMap<String, Vec<(u8, Job)>>>(),
            "BTreeMap<String, Vec<(u8, Job)>>"
        );
        assert_eq!(of::<Result<Box<str>, Job>>(), "Result<Box<str>, Job>");
        assert_eq!(of::<Grid<7, Job>>(), "Grid<7, Job>");
        assert_eq!(of::<Vec<Job>>(), of::<Vec<deep::down::Job>>());
        assert_ne!(of::<Vec<Job>>(), of::<Option<Job>>());
        assert_ne!(of::<u32>(), of::<u64>());
    }

    #[test]
    fn type_that_is_declared_in_a_function_has_its_own_name_alone() {
        struct Job;
        assert_eq!(of::<Job>(), "Job");
        assert_eq!(Vec::<u8>::id_of_its_own(), "Option<Inner>");
    }

    #[test]
    fn lifetimes_are_no_part_of_an_id() {
        assert_eq!(of::<Cow<'static, str>>(), "Cow<str>");
        assert_eq!(of::<Borrowed<'static, Job>>(), "Borrowed<Job>");
        assert_eq!(of::<Lent<'static>>(), "Lent");
        // The names from compilers that print lifetimes.
        for (name, id) in [
            ("alloc::borrow::Cow<'_, str>", "Cow<str>"),
            ("a::Lent<'static>", "Lent"),
            ("a::Two<'a, 'b>", "Two"),
            ("(&'static str, a::Lent<'_>)", "(&str, Lent)"),
            ("a::Letter<'x'>", "Letter<'x'>"),
        ] {
            assert_eq!(without_paths(name), id);
        }
    }

    #[test]
    fn every_form_of_a_path_is_read() {
        for (name, id) in [
            ("<a::Outer<a::B> as c::Trait>::f::Job", "Job"),
            ("a::f::{{closure}}::Job", "Job"),
            ("a::outer<b::C>::Job", "Job"),
            ("fn(a::B, &c::D) -> e::F<g::H>", "fn(B, &D) -> F<H>"),
            ("alloc::boxed::Box<dyn a::B + c::D>", "Box<dyn B + D>"),
            ("", ""),
        ] {
            assert_eq!(without_paths(name), id);
        }
    }
}
