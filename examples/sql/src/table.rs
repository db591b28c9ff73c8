//! A table of an in-memory SQL database whose rows refuse stale fences.
//!
//! The condition and the write are one statement, so no other write can happen in between. The tests
//! run the statement in the documentation of `FenceFile`.

use gluesql::{
    core::error::Error as SqlError,
    prelude::{Glue, MemoryStorage, Payload},
};
use lockkeeper::Fence;

/// Writes a row unless the row has seen a higher fence. `?1` are the words, `?2` the fence and `?3`
/// the row.
const UPDATE: &str = "UPDATE page SET words = ?1, fence = ?2 WHERE id = ?3 AND fence <= ?2";

/// A table of pages, each with the highest fence that wrote it.
pub(crate) struct Table(Glue<MemoryStorage>);

impl Table {
    /// Makes a table with the empty pages 1 and 2.
    pub(crate) fn new() -> Result<Self, SqlError> {
        let mut engine = Glue::new(MemoryStorage::default());
        engine.execute(
            "CREATE TABLE page (id INTEGER PRIMARY KEY, words TEXT, fence INTEGER);
             INSERT INTO page VALUES (1, '', 0), (2, '', 0)",
        )?;
        Ok(Self(engine))
    }

    /// Executes `UPDATE` and returns how many rows it changed.
    pub(crate) fn write(&mut self, id: u64, words: &str, fence: Fence) -> Result<usize, SqlError> {
        let words = words.replace('\'', "''");
        let statement = UPDATE
            .replace("?3", &id.to_string())
            .replace("?2", &fence.to_string())
            .replace("?1", &format!("'{words}'"));
        let payloads = self.0.execute(statement)?;
        Ok(match payloads[..] {
            [Payload::Update(rows)] => rows,
            _ => 0,
        })
    }

    /// Returns the words of a page, if there is such a page.
    pub(crate) fn words(&mut self, id: u64) -> Result<Option<String>, SqlError> {
        let select = format!("SELECT words FROM page WHERE id = {id}");
        let payloads = self.0.execute(select)?;
        Ok(match &payloads[..] {
            [Payload::Select { rows, .. }] => rows.first().map(|row| String::from(&row[0])),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_is_the_one_of_the_documentation() {
        let documentation = include_str!("../../../src/fence_file.rs");
        let statement = documentation
            .lines()
            .find(|line| line.starts_with("/// UPDATE "))
            .expect("the documentation has a statement");
        assert_eq!(statement.strip_prefix("/// "), Some(UPDATE));
    }

    #[test]
    fn each_row_refuses_lower_fences_and_the_count_of_changed_rows_shows_it() {
        let mut table = Table::new().unwrap();
        let mut write = |id, words, fence| table.write(id, words, Fence::new(fence)).unwrap();
        assert_eq!(write(1, "a", 34), 1);
        assert_eq!(write(1, "b", 33), 0);
        assert_eq!(write(1, "c", 34), 1, "the holder may write again");
        assert_eq!(write(2, "d", 33), 1, "row 2 has its own fence");
        assert_eq!(write(3, "e", 35), 0, "there is no row 3");
        assert_eq!(table.words(1).unwrap().as_deref(), Some("c"));
        assert_eq!(table.words(2).unwrap().as_deref(), Some("d"));
        assert_eq!(table.words(3).unwrap(), None);
    }

    #[test]
    fn column_takes_the_largest_signed_number() {
        let mut table = Table::new().unwrap();
        let most = i64::MAX.unsigned_abs();
        assert_eq!(table.write(1, "f", Fence::new(most)).unwrap(), 1);
        assert_eq!(table.write(1, "g", Fence::new(most - 1)).unwrap(), 0);
        assert_eq!(table.words(1).unwrap().as_deref(), Some("f"));
    }

    #[test]
    fn row_is_inserted_only_once() {
        let mut table = Table::new().unwrap();
        assert!(
            table
                .0
                .execute("INSERT INTO page VALUES (1, 'h', 0)")
                .is_err()
        );
    }
}
