//! `Failure`: the error of a task, of any type, as data that travels between processes.

use std::{error::Error, fmt, iter};

use lockkeeper_protocol::PrintableText;
use serde::{Deserialize, Serialize};

/// An error of any type as a task returns it: its text, and those of its sources.
///
/// The operator `?` makes it of every error that is `Send` and `Sync`, of those of the crate `anyhow`, of boxed ones
/// and of texts, so a task that has `Result<_, Failure>` as its output needs no error type of its own. Like
/// `anyhow::Error` it does not implement [`Error`] itself, and `?` makes a `Box<dyn Error>` of it. A program that has to
/// tell its errors apart gives the task an output with an error type of its own instead, which arrives as it was sent.
///
/// ```no_run
/// use lockkeeper::{Blocking, BlockingTask, Failure, Pool};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct CountLines(String);
///
/// impl BlockingTask for CountLines {
///     const NAME: &'static str = "count lines";
///     type Output = Result<usize, Failure>;
///
///     fn run(self) -> Result<usize, Failure> {
///         Ok(std::fs::read_to_string(&self.0)?.lines().count())
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     lockkeeper::program().task::<Blocking<CountLines>>().run(async {
///         let pool = Pool::new(2).await?;
///         let lines = pool.apply(Blocking(CountLines("/etc/hosts".to_owned()))).await??;
///         println!("{lines}");
///         Ok(())
///     })
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    text: String,
    sources: Vec<String>,
}

/// The most sources that are kept, since a faulty error may be its own source.
const MOST_SOURCES: usize = 64;

impl Failure {
    /// Copies the text of an error and those of its sources. It is for errors that are not `Send` and `Sync`; all others
    /// become a `Failure` with `?` and [`From`].
    #[must_use]
    pub fn new(error: &dyn Error) -> Self {
        let sources = iter::successors(error.source(), |&error| error.source());
        Self {
            text: error.to_string(),
            sources: sources
                .take(MOST_SOURCES)
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Returns the text of the error, and then those of its sources, the cause last.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        iter::once(&self.text)
            .chain(&self.sources)
            .map(String::as_str)
    }

    /// Returns an error of the standard library's sort, for functions whose errors have to be `Send` and `Sync`.
    #[must_use]
    pub fn into_error(self) -> Box<dyn Error + Send + Sync> {
        Box::new(Chained::of(self))
    }
}

/// Writes the text; the alternate form `{:#}` adds the sources, each after a colon.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", PrintableText(&self.text))?;
        if f.alternate() {
            write_sources(&self.sources, f)?;
        }
        Ok(())
    }
}

/// Writes the text and the sources on one line, for a `main` that returns the error.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", PrintableText(&self.text))?;
        write_sources(&self.sources, f)
    }
}

/// Writes each source after a colon.
fn write_sources(sources: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    sources
        .iter()
        .try_for_each(|source| write!(f, ": {}", PrintableText(source)))
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(&*error.into())
    }
}

impl From<Failure> for Box<dyn Error> {
    fn from(failure: Failure) -> Self {
        Box::new(Chained::of(failure))
    }
}

/// A failure as an error with sources.
struct Chained {
    text: String,
    source: Option<Box<Self>>,
}

impl Chained {
    fn of(Failure { text, sources }: Failure) -> Self {
        let source = sources
            .into_iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Self { text, source })));
        Self { text, source }
    }
}

impl fmt::Display for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", PrintableText(&self.text))
    }
}

/// Writes the chain on one line, since that is what a `main` that returns the error prints.
impl fmt::Debug for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self);
        let mut colon = "";
        while let Some(error) = next {
            write!(f, "{colon}{error}")?;
            (next, colon) = (error.source.as_deref(), ": ");
        }
        Ok(())
    }
}

impl Error for Chained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &dyn Error)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, num::ParseIntError};

    use lockkeeper_protocol::codec;

    use super::*;

    /// An error with a source.
    #[derive(Debug)]
    struct BadConfig(ParseIntError);

    impl fmt::Display for BadConfig {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the config is bad")
        }
    }

    impl Error for BadConfig {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn parse(text: &str) -> Result<u32, Failure> {
        Ok(text.parse().map_err(BadConfig)?)
    }

    fn sent(failure: &Failure) -> Failure {
        codec::decode(&codec::encode(failure).unwrap()).unwrap()
    }

    #[test]
    fn failure_has_the_texts_of_an_error_and_its_sources_in_another_process() {
        let failure = sent(&parse("x").unwrap_err());
        let expected = ["the config is bad", "invalid digit found in string"];
        assert_eq!(failure.chain().collect::<Vec<_>>(), expected);
        assert_eq!(failure.to_string(), expected[0]);
        assert_eq!(format!("{failure:#}"), expected.join(": "));
        assert_eq!(format!("{failure:?}"), expected.join(": "));
    }

    #[test]
    fn question_mark_takes_errors_boxed_errors_and_texts() {
        fn all(which: u32) -> Result<(), Failure> {
            match which {
                0 => Err(io::Error::other("io"))?,
                1 => Err(Box::<dyn Error + Send + Sync>::from("boxed"))?,
                2 => Err("text")?,
                3 => Err("owned".to_owned())?,
                _ => Err(parse("x").unwrap_err())?,
            }
            Ok(())
        }
        let texts = (0..5).map(|which| all(which).unwrap_err().to_string());
        let expected = ["io", "boxed", "text", "owned", "the config is bad"];
        assert_eq!(texts.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn main_prints_the_whole_chain_of_a_failure() {
        fn main() -> Result<(), Box<dyn Error>> {
            parse("x")?;
            Ok(())
        }
        let error = main().unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            "the config is bad: invalid digit found in string"
        );
        assert_eq!(
            error.source().unwrap().to_string(),
            "invalid digit found in string"
        );
        let boxed = parse("x").unwrap_err().into_error();
        assert_eq!(Failure::from(boxed), parse("x").unwrap_err());
    }

    #[test]
    fn text_of_several_lines_is_shown_on_one() {
        let failure = Failure::from("one\ntwo");
        assert_eq!(failure.to_string().lines().count(), 1);
        assert_eq!(failure.chain().next(), Some("one\ntwo"));
    }

    /// An error that is its own source.
    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn error_that_is_its_own_source_has_an_end() {
        assert_eq!(Failure::from(Endless).chain().count(), 1 + MOST_SOURCES);
    }
}
