//! Text of a peer or of the file system as shown to people: on one line, without characters that control a
//! terminal or a log, and without invisible ones.
//!
//! Values store every text unchanged; their `Display` escapes it. This module imports no other of this crate.
//!
//! Invariant: the output has no control character, no line or paragraph separator, and no format character,
//! such as those that change the direction of writing.

use std::fmt::{self, Write};

/// Shows a name, such as that of an object, a key or a file, with escapes. Backslashes are escaped too, so
/// different names are shown differently. A space at either end or beside another space is escaped as well,
/// so no name looks like a line or a column of a table.
///
/// ```
/// use lockkeeper_protocol::Printable;
///
/// let name = Printable("caf\u{e9}\n\u{1b}[2J\\");
/// assert_eq!(name.to_string(), "caf\u{e9}\\n\\u{1b}[2J\\\\");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Printable<'a>(pub &'a str);

/// Shows a sentence, such as a reason or the message of a panic, with escapes. Backslashes are not escaped,
/// because the sentence may quote names that are escaped already. To escape a sentence twice has the effect
/// of escaping it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrintableText<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = ['\'', '"'];
        let mut pieces = self.0.split(' ');
        let mut before = pieces.next().unwrap_or_default();
        escape(f, before, &kept)?;
        for piece in pieces {
            let is_seen = !before.is_empty() && !piece.is_empty();
            f.write_str(if is_seen { " " } else { "\\u{20}" })?;
            escape(f, piece, &kept)?;
            before = piece;
        }
        Ok(())
    }
}

impl fmt::Display for PrintableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, &['\'', '"', '\\'])
    }
}

/// Invisible letters and marks that Unicode does not classify as format characters. Variation selectors are
/// not included: they belong to the character before, as in emoji.
const BLANK: [char; 11] = [
    '\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{180b}', '\u{180c}', '\u{180d}',
    '\u{180f}', '\u{3164}', '\u{ffa0}',
];

/// Writes a text as the standard library's `Debug` does, but without escaping the characters in `kept`.
/// `Debug` escapes control, format, private and unassigned characters, and separators.
fn escape(f: &mut fmt::Formatter<'_>, text: &str, kept: &[char]) -> fmt::Result {
    for piece in text.split_inclusive(kept) {
        let words = piece.strip_suffix(kept).unwrap_or(piece);
        for c in words.escape_debug() {
            if BLANK.contains(&c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        f.write_str(piece.get(words.len()..).unwrap_or_default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_escaped() {
        for (text, shown) in [
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\0"),
            ("\u{7f}\u{85}\u{9b}31m", "\\u{7f}\\u{85}\\u{9b}31m"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            (
                "\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}",
                "\\u{200b}\\u{200d}\\u{2060}\\u{feff}\\u{ad}",
            ),
            ("\u{e0041}\u{3164}\u{34f}", "\\u{e0041}\\u{3164}\\u{34f}"),
            ("\u{a0}\u{3000}", "\\u{a0}\\u{3000}"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
            assert_eq!(PrintableText(text).to_string(), shown);
        }
    }

    #[test]
    fn what_people_write_stays() {
        for text in [
            "jobs",
            "",
            "it's \"quoted\"",
            "\u{e9}t\u{e9}, e\u{301}",
            "\u{6771}\u{4eac}",
            "\u{1f512}\u{2764}\u{fe0f}",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
        ] {
            assert_eq!(Printable(text).to_string(), text);
            assert_eq!(PrintableText(text).to_string(), text);
        }
    }

    #[test]
    fn spaces_of_a_name_that_are_not_seen_are_escaped() {
        for (name, shown) in [
            ("two words", "two words"),
            ("    holds", "\\u{20}\\u{20}\\u{20}\\u{20}holds"),
            ("a  b ", "a\\u{20}\\u{20}b\\u{20}"),
            (" ", "\\u{20}"),
        ] {
            assert_eq!(Printable(name).to_string(), shown);
            assert_eq!(PrintableText(name).to_string(), name);
        }
    }

    #[test]
    fn shown_name_stands_for_one_name_and_a_sentence_may_be_escaped_twice() {
        assert_eq!(Printable("\\n").to_string(), "\\\\n");
        assert_ne!(Printable("\\n").to_string(), Printable("\n").to_string());
        let once = PrintableText("C:\\new \u{1b}\"'").to_string();
        assert_eq!(once, "C:\\new \\u{1b}\"'");
        assert_eq!(PrintableText(&once).to_string(), once);
    }
}
