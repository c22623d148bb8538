//! How much the journal holds, wherever its pages are.

use super::Sqlite;
use crate::Error;

impl Sqlite {
    /// Bytes of all pages, of which the newest may still be in the write-ahead log alone: the file's own length says
    /// nothing of those.
    ///
    /// # Errors
    /// [`Error::Storage`] when the journal cannot be read.
    pub fn bytes(&self) -> Result<u64, Error> {
        self.point(|connection| {
            let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
            Ok(number("page_count")?.saturating_mul(number("page_size")?))
        })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::Options;

    #[tokio::test]
    async fn what_is_only_in_the_log_counts() {
        let dir = TempDir::new().unwrap();
        let journal = Sqlite::open(dir.path(), &Options::default()).unwrap();
        let beside = Sqlite::read_only(dir.path()).unwrap();
        let (before, file) = (beside.bytes().unwrap(), dir.path().join("journal.sqlite"));
        let length = std::fs::metadata(&file).unwrap().len();
        let other = Connection::open(&file).unwrap();
        other.execute_batch("CREATE TABLE more (x); INSERT INTO more VALUES (zeroblob(1000000))").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), length);
        assert!(beside.bytes().unwrap() >= before + 1_000_000);
        journal.close().await;
    }
}
