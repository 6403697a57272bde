//! The content of a migration directory, and whether it agrees with its `atlas.sum`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use bytes::Bytes;

use super::archive::{InvalidArchive, read_archive, write_archive};
use super::{MigrationName, SUM_FILE, SumFile};

/// Whether a migration directory agrees with its `atlas.sum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SumState {
    /// It does.
    Agrees,
    /// It has no `atlas.sum`.
    Absent,
    /// The first difference, in Atlas's words.
    Differs(String),
}

impl fmt::Display for SumState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            SumState::Agrees => "ok",
            SumState::Absent => "absent",
            SumState::Differs(difference) => difference,
        })
    }
}

/// The files of a migration directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationDirectory {
    /// The content of each file, `atlas.sum` included.
    pub files: BTreeMap<MigrationName, Bytes>,
}

impl MigrationDirectory {
    /// Compares the directory with its `atlas.sum`.
    pub fn state(&self) -> SumState {
        let Some((_, sum)) = self.files.iter().find(|(name, _)| name.is_sum()) else {
            return SumState::Absent;
        };
        let sum = match SumFile::parse(sum) {
            Ok(sum) => sum,
            // It was put there by hand.
            Err(invalid) => return SumState::Differs(format!("{SUM_FILE}: {invalid}")),
        };
        match sum.difference(&SumFile::compute(self.migrations())) {
            None => SumState::Agrees,
            Some(difference) => SumState::Differs(difference.to_string()),
        }
    }

    /// Returns the directory's archive.
    ///
    /// # Errors
    ///
    /// Those of the library; writing to memory has none.
    pub fn to_archive(&self) -> io::Result<Bytes> {
        let sum = self.files.iter().filter(|(name, _)| name.is_sum());
        let sum = sum.map(|(name, content)| (name.as_str(), &**content));
        write_archive(sum.chain(self.migrations()))
    }

    /// Reads an archive. Files that a migration directory can't hold are left out.
    ///
    /// # Errors
    ///
    /// [`InvalidArchive`].
    pub fn from_archive(archive: &Bytes) -> Result<Self, InvalidArchive> {
        let files = read_archive(archive)?.into_iter();
        let files =
            files.filter_map(|(name, content)| Some((MigrationName::parse(&name).ok()?, content)));
        Ok(Self {
            files: files.collect(),
        })
    }

    /// Returns the files without `atlas.sum`, in the byte-wise order of their names.
    fn migrations(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.files.iter().filter(|(name, _)| !name.is_sum());
        files.map(|(name, content)| (name.as_str(), &**content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_survives_its_archive_with_atlas_sum_first() {
        let files = ["1.sql", "a.sql", "atlas.sum", "z.sql"];
        let files = files.map(|name| (MigrationName::parse(name).unwrap(), name.into()));
        let directory = MigrationDirectory {
            files: files.into_iter().collect(),
        };
        let archive = directory.to_archive().unwrap();
        assert!(archive.starts_with(b"atlas.sum\0"));
        assert_eq!(MigrationDirectory::from_archive(&archive), Ok(directory));
        let foreign =
            write_archive([("../x.sql", &b"x"[..]), ("README", b"x"), ("1.sql", b"y")]).unwrap();
        let read = MigrationDirectory::from_archive(&foreign).unwrap();
        assert_eq!(read.files.len(), 1);
    }
}
