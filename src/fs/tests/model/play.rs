//! Plays a sequence on a file system and on the model, and compares all visible results.

use super::operation::{Operation, PATHS, SLOTS};
use super::truth::{Found, Name, Truth, name, split};
use crate::fs::tests::kernel::{Choice, File, Fixture};
use crate::fs::{Error, FileKind, Result, SetAttr};

/// Plays a sequence.
pub(super) async fn play(allow_delete: bool, operations: &[Operation]) {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        allow_delete,
        ..Choice::default()
    });
    let mut truth = Truth {
        allow_delete,
        ..Truth::default()
    };
    let mut files: [Option<File<'_>>; SLOTS] = [const { None }; SLOTS];
    for (n, operation) in operations.iter().enumerate() {
        if let Some((is, must_be)) = step(&fixture, &mut truth, &mut files, operation).await {
            assert_eq!(is, must_be, "{operation:?}, number {n}");
        }
        compare(
            &fixture,
            &truth,
            &files,
            &format!("after {operation:?}, number {n}"),
        )
        .await;
    }
}

/// Runs one operation; returns its answer, and the expected one.
async fn step<'a>(
    fixture: &'a Fixture,
    truth: &mut Truth,
    files: &mut [Option<File<'a>>; SLOTS],
    operation: &Operation,
) -> Option<(Result<()>, Result<()>)> {
    Some(match *operation {
        Operation::Open(slot, path, how, create) => {
            if files[slot].is_some() {
                return None;
            }
            let is = fixture.open(path, how, create).await;
            let must_be = truth.open(path, how, create);
            let both = (
                is.as_ref().map(drop).map_err(|e| *e),
                must_be.as_ref().map(drop).map_err(|e| *e),
            );
            if let (Ok(file), Ok(open)) = (is, must_be) {
                files[slot] = Some(file);
                truth.slots[slot] = Some(open);
            }
            both
        }
        Operation::Write(slot, offset, content) => {
            let (file, open) = (files[slot].as_ref()?, truth.slots[slot].clone()?);
            if !open.how.write {
                return None;
            }
            let size = truth.read(&open).len() as u64;
            let offset = offset.min(size + 2);
            let at = if open.how.append { size } else { offset } as usize;
            truth.change(&open, |bytes| {
                let end = at + content.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[at..end].copy_from_slice(content.as_bytes());
            });
            (file.write(offset, content.as_bytes()), Ok(()))
        }
        Operation::Truncate(slot, size) => {
            let (file, open) = (files[slot].as_ref()?, truth.slots[slot].clone()?);
            if !open.how.write {
                return None;
            }
            truth.change(&open, |bytes| bytes.resize(size as usize, 0));
            (file.truncate(size).await, Ok(()))
        }
        Operation::Flush(slot) => {
            let (file, open) = (files[slot].as_ref()?, truth.slots[slot].clone()?);
            let must_be = match truth.view(&open) {
                Some((id, suffix, at)) => truth.flush(&id, suffix, at),
                None => Ok(()),
            };
            (file.flush().await, must_be)
        }
        Operation::Close(slot) => {
            let (file, open) = (files[slot].take()?, truth.slots[slot].take()?);
            (file.close().await, truth.close(&open, true))
        }
        Operation::Abandon(slot) => {
            let (file, open) = (files[slot].take()?, truth.slots[slot].take()?);
            file.release().await;
            (Ok(()), truth.close(&open, false))
        }
        Operation::Save(path, content) => {
            let how = crate::fs::tests::kernel::WRITE_ANEW;
            let must_be = truth.open(path, how, true).and_then(|open| {
                truth.change(&open, |bytes| *bytes = content.into());
                truth.close(&open, true)
            });
            (fixture.cp(path, content.as_bytes()).await, must_be)
        }
        Operation::TruncatePath(path, size) => (
            truncate(fixture, path, size).await,
            truth.truncate(path, size),
        ),
        Operation::Unlink(path) => {
            let is = match fixture.stat(path).await {
                Ok(attr) if attr.kind == FileKind::Directory => Err(Error::IsDirectory),
                Ok(_) => fixture.rm(path).await,
                Err(error) => Err(error),
            };
            (is, truth.unlink(path))
        }
        Operation::UnlinkListed(path) => {
            let pid = fixture.pid();
            let is = match fixture.stat(path).await {
                Ok(attr) if attr.kind == FileKind::Directory => Err(Error::IsDirectory),
                Ok(_) => {
                    fixture.ls_by(split(path).0, pid).await.unwrap();
                    fixture.rm_by(path, pid).await
                }
                Err(error) => Err(error),
            };
            (is, truth.unlink_listed(path))
        }
        Operation::Mkdir(path) => {
            let is = match fixture.stat(path).await {
                Ok(_) => Err(Error::Exists),
                Err(Error::NotFound) => fixture.mkdir(path).await,
                Err(error) => Err(error),
            };
            (is, truth.mkdir(path))
        }
        Operation::Rmdir(path) => {
            let is = match fixture.stat(path).await {
                Ok(attr) if attr.kind != FileKind::Directory => Err(Error::NotDirectory),
                Ok(_) => fixture.rmdir(path).await,
                Err(error) => Err(error),
            };
            (is, truth.rmdir(path))
        }
        Operation::Rename(from, to, no_replace) => {
            // The kernel answers these itself.
            let asks = !to.starts_with(&format!("{from}/")) && !from.starts_with(&format!("{to}/"));
            if !asks || matches!(name(to), Name::Repo(_) | Name::Plans) {
                return None;
            }
            let is = fixture.rename(from, to, no_replace, fixture.pid()).await;
            (is, truth.rename(from, to, no_replace))
        }
    })
}

/// truncate(2): once more after ESTALE, as the kernel does.
async fn truncate(fixture: &Fixture, path: &str, size: u64) -> Result<()> {
    let (pid, set) = (
        fixture.pid(),
        SetAttr {
            size: Some(size),
            ..SetAttr::default()
        },
    );
    let once = async || {
        let attr = fixture.walk(path, pid).await?;
        if attr.kind == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        let set = fixture.fs.clone().setattr(attr.ino, None, set, pid).await;
        set.map(drop)
    };
    match once().await {
        Err(Error::Stale) => {
            // The kernel finds the old entry invalid by a look-up of its own.
            let _ = fixture.walk(path, pid).await;
            once().await
        }
        done => done,
    }
}

/// Compares names, kinds, sizes, contents and open handles with the expected state.
async fn compare(fixture: &Fixture, truth: &Truth, files: &[Option<File<'_>>; SLOTS], when: &str) {
    for path in PATHS {
        let is = fixture.stat(path).await.map(|attr| (attr.kind, attr.size));
        let found = truth.find(path);
        let must_be = found
            .as_ref()
            .map_err(|error| *error)
            .map(|found| match found {
                Found::Directory => (FileKind::Directory, 0),
                Found::Content(bytes) => (FileKind::File, bytes.len() as u64),
                Found::Blank(_) => (FileKind::File, 0),
                Found::TemporaryFile(at) => match &truth.temporary[at] {
                    file if file.is_directory => (FileKind::Directory, 0),
                    file => (FileKind::File, file.bytes.len() as u64),
                },
            });
        assert_eq!(is, must_be, "{path} {when}");
        let content = match found {
            Ok(Found::Content(bytes)) => Ok(bytes),
            Ok(Found::Blank(true)) => Err(Error::Io),
            Ok(Found::Blank(false)) => Ok(Vec::new()),
            Ok(Found::TemporaryFile(at)) if !truth.temporary[&at].is_directory => {
                Ok(truth.temporary[&at].bytes.clone())
            }
            _ => continue,
        };
        assert_eq!(fixture.cat(path).await, content, "{path} {when}");
    }
    for dir in [
        "",
        "app",
        "app/plans",
        "app/.d",
        "app/.d/sub",
        "new",
        "new/plans",
    ] {
        let is_directory = fixture
            .stat(dir)
            .await
            .is_ok_and(|attr| attr.kind == FileKind::Directory);
        if is_directory {
            let mut names = fixture.ls(dir).await.unwrap();
            names.sort();
            assert_eq!(names, truth.list(dir), "in {dir:?} {when}");
        }
    }
    for (file, open) in files.iter().zip(&truth.slots) {
        if let (Some(file), Some(open)) = (file, open) {
            let content = file.read_all().await.unwrap();
            assert_eq!(content, truth.read(open), "{open:?} {when}");
        }
    }
    // The targets hold the pushes.
    for (id, content) in &truth.artifacts {
        for store in fixture.all() {
            let held = store.content(&id.to_string());
            assert_eq!(held.as_deref(), Some(&*content.bytes), "{id} {when}");
        }
    }
}
