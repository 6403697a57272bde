//! The expected answer and effect of each operation on names.

use super::staged_file::StagedFile;
use super::truth::{Found, Handle, Name, Open, TemporaryFile, Truth, name};
use crate::fs::{Error, OpenMode, Result};
use crate::model::{ArtifactId, Format, Item};

impl Truth {
    pub(super) fn open(&mut self, path: &str, how: OpenMode, create: bool) -> Result<Open> {
        let handle = match self.find(path) {
            Ok(_) if create && how.exclusive => return Err(Error::Exists),
            Ok(Found::Directory) => return Err(Error::IsDirectory),
            Ok(Found::TemporaryFile(at)) if self.file(at).is_directory => {
                return Err(Error::IsDirectory);
            }
            Ok(Found::TemporaryFile(at)) => self.open_temporary(at, how),
            Ok(Found::Content(bytes)) if !how.write => Handle::Bytes(bytes),
            Ok(Found::Blank(true)) if !how.write => return Err(Error::Io),
            Ok(Found::Blank(_)) if !how.write => Handle::Bytes(Vec::new()),
            Ok(found) => match (name(path), found) {
                (Name::Artifact(id, suffix), Found::Content(bytes)) => {
                    let bytes = if how.truncate { Vec::new() } else { bytes };
                    self.open_staged(id, suffix, bytes, how.truncate)
                }
                (Name::Artifact(id, suffix), _) => {
                    self.open_staged(id, suffix, Vec::new(), how.truncate)
                }
                other => panic!("{other:?}"),
            },
            Err(Error::NotFound) if create => {
                self.parent(path)?;
                match name(path) {
                    // Another name of the artifact, as `schema.sql` of a state in HCL, or a new
                    // one.
                    Name::Artifact(id, suffix) => {
                        let handle = self.open_staged(id, suffix, Vec::new(), true);
                        self.staged(self.last).is_touched = !how.truncate && !how.exclusive;
                        handle
                    }
                    Name::TemporaryFile => {
                        let at = self.make(path, false);
                        self.open_temporary(at, how)
                    }
                    _ => return Err(Error::NotPermitted),
                }
            }
            Err(error) => return Err(error),
        };
        Ok(Open { handle, how })
    }

    fn open_temporary(&mut self, at: u64, how: OpenMode) -> Handle {
        if how.truncate {
            self.file(at).bytes.clear();
        }
        Handle::TemporaryFile(at)
    }

    fn open_staged(
        &mut self,
        id: ArtifactId,
        suffix: Option<Format>,
        bytes: Vec<u8>,
        is_dirty: bool,
    ) -> Handle {
        self.last += 1;
        let staged = StagedFile {
            bytes,
            base: self.artifacts.get(&id).map(|content| content.revision),
            is_dirty,
            handles: 1,
            ..StagedFile::default()
        };
        self.workings.insert(self.last, staged);
        Handle::StagedFile(id, suffix, self.last)
    }

    fn make(&mut self, path: &str, is_directory: bool) -> u64 {
        self.last += 1;
        let made = TemporaryFile {
            is_directory,
            ..TemporaryFile::default()
        };
        self.temporary.insert(self.last, made);
        self.names.insert(path.into(), self.last);
        self.last
    }

    /// Closes a file. Without `told`, the process was killed and gets no result.
    pub(super) fn close(&mut self, open: &Open, told: bool) -> Result<()> {
        let Some((id, suffix, at)) = self.view(open) else {
            return Ok(());
        };
        let flushed = match told {
            true => self.flush(&id, suffix, at),
            false => Ok(()),
        };
        self.release(&id, suffix, at);
        flushed
    }

    pub(super) fn truncate(&mut self, path: &str, size: u64) -> Result<()> {
        let how = OpenMode {
            write: true,
            ..OpenMode::default()
        };
        let open = self.open(path, how, false)?;
        self.change(&open, |bytes| bytes.resize(size as usize, 0));
        self.close(&open, true)
    }

    pub(super) fn unlink(&mut self, path: &str) -> Result<()> {
        match (self.find(path)?, name(path)) {
            (Found::Directory, _) => Err(Error::IsDirectory),
            (Found::TemporaryFile(at), _) if self.file(at).is_directory => Err(Error::IsDirectory),
            (Found::TemporaryFile(_), _) => {
                self.names.remove(path);
                Ok(())
            }
            (Found::Content(_), _) if !self.allow_delete => Err(Error::NotPermitted),
            (_, Name::Artifact(id, _)) => {
                self.artifacts.remove(&id);
                self.touched.remove(&id);
                self.failed.remove(&id);
                Ok(())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Removes a name for a program that knows both names of a schema: the other name keeps it.
    pub(super) fn unlink_listed(&mut self, path: &str) -> Result<()> {
        match (self.find(path)?, name(path)) {
            (Found::Content(_), Name::Artifact(id, _))
                if self.allow_delete && id.item == Item::Schema =>
            {
                Ok(())
            }
            (Found::Blank(_), Name::Artifact(id, suffix))
                if self.is_touched(&id, suffix) && id.item == Item::Schema =>
            {
                Ok(())
            }
            _ => self.unlink(path),
        }
    }

    pub(super) fn mkdir(&mut self, path: &str) -> Result<()> {
        match self.find(path) {
            Ok(_) => return Err(Error::Exists),
            Err(Error::NotFound) => self.parent(path)?,
            Err(error) => return Err(error),
        }
        match name(path) {
            Name::Repo(repo) => {
                self.repos.insert(repo);
            }
            Name::TemporaryFile => {
                self.make(path, true);
            }
            _ => return Err(Error::NotPermitted),
        }
        Ok(())
    }

    pub(super) fn rmdir(&mut self, path: &str) -> Result<()> {
        let below = format!("{path}/");
        let holds_temporary = self.names.keys().any(|name| name.starts_with(&below));
        match (self.find(path)?, name(path)) {
            (Found::Directory, Name::Repo(repo)) => {
                let mut ids = self.artifacts.keys().chain(self.touched.keys());
                if holds_temporary || ids.any(|id| id.repo.as_str() == repo) {
                    return Err(Error::NotEmpty);
                }
                let made_here = self.repos.remove(&repo);
                made_here.then_some(()).ok_or(Error::NotPermitted)
            }
            (Found::Directory, _) => Err(Error::NotPermitted),
            (Found::TemporaryFile(at), _) if self.file(at).is_directory => {
                if holds_temporary {
                    return Err(Error::NotEmpty);
                }
                self.names.remove(path);
                Ok(())
            }
            _ => Err(Error::NotDirectory),
        }
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, no_replace: bool) -> Result<()> {
        self.parent(from)?;
        self.parent(to)?;
        let source = self.find(from)?;
        match (source, name(from), name(to)) {
            (Found::TemporaryFile(at), _, Name::TemporaryFile | Name::Refused) => {
                self.rename_temporary((from, at), to, no_replace)
            }
            (Found::TemporaryFile(at), _, Name::Artifact(id, suffix))
                if self.file(at).is_directory =>
            {
                let content = self
                    .find(to)
                    .is_ok_and(|found| matches!(found, Found::Content(_)));
                let _ = (id, suffix);
                Err(if content {
                    Error::NotDirectory
                } else {
                    Error::NotPermitted
                })
            }
            (Found::TemporaryFile(_), _, Name::Artifact(id, suffix))
                if no_replace && self.is_there(&id, suffix) =>
            {
                Err(Error::Exists)
            }
            (Found::TemporaryFile(at), _, Name::Artifact(id, suffix)) => {
                self.rename_is_push((from, at), id, suffix)
            }
            (_, Name::Artifact(id, suffix), _) if !self.is_there(&id, suffix) => {
                Err(Error::NotFound)
            }
            (_, Name::Artifact(id, _), Name::Artifact(other, suffix)) => {
                if id == other && self.is_there(&other, suffix) {
                    return if no_replace {
                        Err(Error::Exists)
                    } else {
                        Ok(())
                    };
                }
                let plans =
                    id.item != other.item && [&id, &other].iter().all(|id| id.item != Item::Schema);
                Err(if plans {
                    Error::Invalid
                } else {
                    Error::NotPermitted
                })
            }
            _ => Err(Error::NotPermitted),
        }
    }

    fn rename_temporary(
        &mut self,
        (from, at): (&str, u64),
        to: &str,
        no_replace: bool,
    ) -> Result<()> {
        if name(to) == Name::Refused {
            return Err(Error::NotPermitted);
        }
        if let Some(&there) = self.names.get(to) {
            let below = format!("{to}/");
            let is_full = self.names.keys().any(|name| name.starts_with(&below));
            let kinds = (self.file(at).is_directory, self.file(there).is_directory);
            match kinds {
                _ if no_replace => return Err(Error::Exists),
                _ if at == there => return Ok(()),
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (true, true) if is_full => return Err(Error::NotEmpty),
                _ => {}
            }
        }
        let below = format!("{from}/");
        let moved: Vec<_> = self
            .names
            .keys()
            .filter_map(|name| Some((name.clone(), name.strip_prefix(&below)?.to_owned())))
            .collect();
        for (old, rest) in moved {
            let number = self.names.remove(&old).unwrap();
            self.names.insert(format!("{to}/{rest}"), number);
        }
        self.names.remove(from);
        self.names.insert(to.into(), at);
        Ok(())
    }

    /// A push gives a temporary file, with its open handles, an artifact's name; if the push fails,
    /// the file stays as it is.
    fn rename_is_push(
        &mut self,
        (from, at): (&str, u64),
        id: ArtifactId,
        suffix: Option<Format>,
    ) -> Result<()> {
        let file = self.file(at).clone();
        let current = self.artifacts.get(&id).map(|content| content.revision);
        let tried = file.tried.filter(|(tried, _)| *tried == id);
        let mut base = tried.map_or(current, |(_, base)| base);
        match self.push(&id, suffix, &file.bytes, base) {
            Ok(revision) => base = Some(revision),
            Err(error) => {
                self.file(at).tried = Some((id, base));
                return Err(error);
            }
        }
        let slots = self.slots.iter().flatten();
        let handles =
            slots.filter(|open| matches!(open.handle, Handle::TemporaryFile(n) if n == at));
        let handles = handles.count() as u32;
        self.last += 1;
        let staged = StagedFile {
            bytes: file.bytes,
            base,
            handles,
            ..StagedFile::default()
        };
        self.workings.insert(self.last, staged);
        self.file(at).pushed = Some((id, suffix, self.last));
        self.names.remove(from);
        Ok(())
    }
}
