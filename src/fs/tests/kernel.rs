//! A kernel in miniature: paths, retries after ESTALE, and the calls that programs make.

use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(super) use super::fixtures::{Choice, Fixture};
use crate::fs::{Attr, CreateAttrs, Error, FileKind, OpenMode, ROOT, Result, SetAttr};

/// The deadlines, each with some tolerance for a slow machine.
const METADATA: Duration = Duration::from_millis(2_010);
const READING: Duration = Duration::from_millis(5_010);
const PUSH: Duration = Duration::from_millis(15_010);

impl Fixture {
    /// Looks a path up from the root, then drops the references.
    pub(super) async fn walk(&self, path: &str, pid: u32) -> Result<Attr> {
        let mut ino = ROOT;
        let mut attr = self.fs.clone().getattr(ROOT, None, 0).await?.0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let looked_up = self.fs.clone().lookup(ino, OsStr::new(name), pid);
            let entry = self.in_time("lookup", METADATA, looked_up).await?;
            // A real kernel drops the references later; the inode must last until then.
            attr = entry.attr;
            ino = attr.ino;
        }
        Ok(attr)
    }

    pub(super) async fn stat(&self, path: &str) -> Result<Attr> {
        self.walk(path, self.pid()).await
    }

    /// Asserts that an operation ends by its deadline, even if something hangs.
    async fn in_time<T>(
        &self,
        what: &str,
        limit: Duration,
        operation: impl Future<Output = T>,
    ) -> T {
        let begun = tokio::time::Instant::now();
        let done = operation.await;
        let took = begun.elapsed();
        assert!(
            took <= limit,
            "every operation ends by its deadline: {what} took {took:?}"
        );
        done
    }

    pub(super) fn pid(&self) -> u32 {
        self.next_pid.fetch_add(1, Ordering::Relaxed)
    }

    /// open(2): with O_CREAT where `create` says so, and once more after ESTALE.
    pub(super) async fn open(&self, path: &str, how: OpenMode, create: bool) -> Result<File<'_>> {
        self.open_by(path, how, create, self.pid()).await
    }

    /// open(2) by a thread.
    pub(super) async fn open_by(
        &self,
        path: &str,
        how: OpenMode,
        create: bool,
        pid: u32,
    ) -> Result<File<'_>> {
        match self.open_once(path, how, create, pid).await {
            Err(Error::Stale) => {
                // The kernel finds the old entry invalid by a look-up of its own.
                let invalid = self.walk(path, pid).await;
                if let Ok(attr) = invalid {
                    self.fs.forget(attr.ino, 1);
                }
                self.open_once(path, how, create, pid).await
            }
            opened => opened,
        }
    }

    async fn open_once(
        &self,
        path: &str,
        how: OpenMode,
        create: bool,
        pid: u32,
    ) -> Result<File<'_>> {
        let (ino, opened) = match self.walk(path, pid).await {
            Ok(attr) => {
                if create && how.exclusive {
                    return Err(Error::Exists);
                }
                let opened = self.fs.clone().open(attr.ino, how, pid);
                (attr.ino, self.in_time("open", READING, opened).await?)
            }
            Err(Error::NotFound) if create => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                let parent = self.walk(parent, pid).await?.ino;
                let created = self.fs.clone().create(
                    parent,
                    OsStr::new(name),
                    how,
                    CreateAttrs {
                        perm: 0o644,
                        pid,
                        ..CreateAttrs::default()
                    },
                );
                let (entry, opened) = self.in_time("create", READING, created).await?;
                (entry.attr.ino, opened)
            }
            Err(error) => return Err(error),
        };
        Ok(File {
            fixture: self,
            ino,
            fh: opened.fh,
        })
    }

    /// Does what `cp` does: open with O_CREAT and O_TRUNC, write, close.
    pub(super) async fn cp(&self, path: &str, content: &[u8]) -> Result<()> {
        let file = self.open(path, WRITE_ANEW, true).await?;
        let written = file.write(0, content);
        let flushed = file.close().await;
        written.and(flushed)
    }

    /// Does what `cat` does.
    pub(super) async fn cat(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.open(path, READ, false).await?;
        let content = file.read_all().await;
        file.close().await?;
        content
    }

    /// Lists a directory, without the history that every repository has.
    pub(super) async fn ls(&self, path: &str) -> Result<Vec<String>> {
        self.ls_by(path, self.pid()).await
    }

    pub(super) async fn ls_by(&self, path: &str, pid: u32) -> Result<Vec<String>> {
        let mut names = self.ls_all(path, pid).await?;
        names.retain(|name| !["migrations", "versions", "tags"].contains(&name.as_str()));
        Ok(names)
    }

    pub(super) async fn ls_all(&self, path: &str, pid: u32) -> Result<Vec<String>> {
        let ino = self.walk(path, pid).await?.ino;
        let fh = self.fs.clone().opendir(ino, pid).await?;
        // A listing continues at offset 2 after `.` and `..`.
        let _ = self.fs.clone().readdir(fh, 2).await;
        let listing = self.fs.clone().readdir(fh, 0);
        let listing = self.in_time("readdir", METADATA, listing).await;
        self.fs.releasedir(fh);
        let mut names = Vec::new();
        self.fs.for_each_entry(&listing?, 0, true, |listed| {
            // All entries but `.` and `..`; the kernel forgets their inodes at once.
            if let Some(entry) = listed.entry {
                names.push(listed.name.to_str().unwrap().to_owned());
                self.fs.forget(entry.attr.ino, 1);
            }
            true
        });
        Ok(names)
    }

    pub(super) async fn mkdir(&self, path: &str) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.stat(parent).await?.ino;
        // The kernel looks the name up first.
        match self.walk(path, self.pid()).await {
            Ok(_) => return Err(Error::Exists),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let made = self
            .fs
            .clone()
            .mkdir(parent, OsStr::new(name), CreateAttrs::default());
        self.in_time("mkdir", METADATA, made).await?;
        Ok(())
    }

    pub(super) async fn rmdir(&self, path: &str) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.stat(parent).await?.ino;
        self.fs.clone().rmdir(parent, OsStr::new(name)).await
    }

    pub(super) async fn rm(&self, path: &str) -> Result<()> {
        self.rm_by(path, self.pid()).await
    }

    pub(super) async fn rm_by(&self, path: &str, pid: u32) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.stat(parent).await?.ino;
        let removed = self.fs.clone().unlink(parent, OsStr::new(name), pid);
        self.in_time("unlink", PUSH, removed).await
    }

    /// rename(2), as a process of its own.
    pub(super) async fn mv(&self, from: &str, to: &str) -> Result<()> {
        self.rename(from, to, false, self.pid()).await
    }

    /// renameat2(2): once more after ESTALE, as the kernel does.
    pub(super) async fn rename(
        &self,
        from: &str,
        to: &str,
        no_replace: bool,
        pid: u32,
    ) -> Result<()> {
        match self.rename_once(from, to, no_replace, pid).await {
            Err(Error::Stale) => self.rename_once(from, to, no_replace, pid).await,
            renamed => renamed,
        }
    }

    async fn rename_once(&self, from: &str, to: &str, no_replace: bool, pid: u32) -> Result<()> {
        let (parent, name) = self.parent(from).await?;
        let (new_parent, new_name) = self.parent(to).await?;
        self.walk(from, pid).await?;
        match self.walk(to, pid).await {
            Ok(_) | Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let (from, to) = (
            (parent, OsStr::new(name)),
            (new_parent, OsStr::new(new_name)),
        );
        let renamed = self.fs.clone().rename(from, to, no_replace, pid);
        self.in_time("rename", PUSH, renamed).await
    }

    pub(super) async fn symlink(&self, to: &str, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path).await?;
        let made =
            self.fs
                .clone()
                .symlink(parent, OsStr::new(name), to.into(), CreateAttrs::default());
        made.await.map(drop)
    }

    pub(super) async fn readlink(&self, path: &str) -> Result<String> {
        let ino = self.stat(path).await?.ino;
        let to = self.fs.clone().readlink(ino).await?;
        Ok(to.into_string().unwrap())
    }

    pub(super) async fn ln(&self, from: &str, to: &str) -> Result<()> {
        let ino = self.stat(from).await?.ino;
        let (parent, name) = self.parent(to).await?;
        let linked = self.fs.clone().link(ino, parent, OsStr::new(name));
        linked.await.map(drop)
    }

    /// Returns the directory of a path, and the last name.
    async fn parent<'a>(&self, path: &'a str) -> Result<(u64, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let attr = self.stat(parent).await?;
        match attr.kind {
            FileKind::Directory => Ok((attr.ino, name)),
            _ => Err(Error::NotDirectory),
        }
    }

    pub(super) async fn xattr(&self, path: &str, name: &str) -> Option<String> {
        let ino = self.stat(path).await.unwrap().ino;
        let name = format!("user.atlas.{name}");
        let value = self.fs.clone().getxattr(ino, OsStr::new(&name)).await;
        Some(String::from_utf8(value.ok()?.to_vec()).unwrap())
    }

    pub(super) async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_slice(&self.cat(path).await.unwrap()).unwrap()
    }

    /// Waits until the TTL has passed.
    pub(super) async fn wait(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(1_001)).await;
    }
}

pub(super) const READ: OpenMode = OpenMode {
    read: true,
    write: false,
    append: false,
    truncate: false,
    exclusive: false,
};
pub(super) const WRITE: OpenMode = OpenMode {
    read: false,
    write: true,
    ..READ
};
pub(super) const READ_WRITE: OpenMode = OpenMode {
    read: true,
    write: true,
    ..READ
};
pub(super) const WRITE_ANEW: OpenMode = OpenMode {
    truncate: true,
    ..WRITE
};

/// An open file description.
pub(super) struct File<'a> {
    pub(super) fixture: &'a Fixture,
    pub(super) ino: u64,
    pub(super) fh: u64,
}

impl File<'_> {
    pub(super) fn write(&self, offset: u64, content: &[u8]) -> Result<()> {
        let written = self.fixture.fs.write(self.fh, offset, content, 0)?;
        assert_eq!(written as usize, content.len());
        Ok(())
    }

    pub(super) async fn read_all(&self) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let read = self.fixture.fs.clone();
            let read = read.read(self.fh, content.len() as u64, 7).await?;
            if read.is_empty() {
                return Ok(content);
            }
            content.extend(read);
        }
    }

    pub(super) async fn truncate(&self, size: u64) -> Result<()> {
        let set = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        let fs = self.fixture.fs.clone();
        fs.setattr(self.ino, Some(self.fh), set, 0).await?;
        Ok(())
    }

    pub(super) async fn size(&self) -> u64 {
        let fs = self.fixture.fs.clone();
        fs.getattr(self.ino, None, 0).await.unwrap().0.size
    }

    /// close(2) of one of several descriptors.
    pub(super) async fn flush(&self) -> Result<()> {
        let flushed = self.fixture.fs.clone().flush(self.fh, 0);
        self.fixture.in_time("flush", PUSH, flushed).await
    }

    /// close(2) of the last descriptor.
    pub(super) async fn close(self) -> Result<()> {
        let flushed = self.flush().await;
        self.fixture.fs.clone().release(self.fh).await?;
        flushed
    }

    /// Ends a killed process: the result of its FLUSH goes nowhere.
    pub(super) async fn release(self) {
        self.fixture.fs.clone().release(self.fh).await.unwrap();
    }
}
