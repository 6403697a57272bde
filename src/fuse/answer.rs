//! How each answer of the file system goes into fuser's reply.

use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, Generation, INodeNo, ReplyAttr, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyXattr,
};

use super::attr::{Owner, file_type};
use crate::fs::{Attr, DirEntry, Entry, FileKind, Fs, Listing};

/// Inode numbers are never reused, so every inode is of the first generation.
pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn entry(owner: Owner) -> impl FnOnce(ReplyEntry, Entry) {
    move |reply, entry| {
        reply.entry_with_ttls(
            &entry.attr_ttl,
            &entry.entry_ttl,
            &owner.attr(&entry.attr),
            GENERATION,
        );
    }
}

pub(super) fn attr(owner: Owner) -> impl FnOnce(ReplyAttr, (Attr, Duration)) {
    move |reply, (attr, ttl)| {
        let ino = INodeNo(attr.shown);
        let attr = owner.attr(&attr);
        reply.attr(&ttl, &FileAttr { ino, ..attr });
    }
}

pub(super) fn done(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

/// Lists entries until the reply is full.
pub(super) fn list(fs: &Fs, offset: u64, mut reply: ReplyDirectory, listing: &Listing) {
    fs.hand_on(listing, offset, false, |entry| {
        let kind = file_type(entry.kind);
        !reply.add(INodeNo(entry.ino), entry.offset, kind, entry.name)
    });
    reply.ok();
}

/// Answers the size of an extended attribute (list), or the bytes if they fit.
pub(super) fn sized(size: u32) -> impl FnOnce(ReplyXattr, Vec<u8>) {
    move |reply, value| match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(&value),
        _ => reply.error(Errno::ERANGE),
    }
}

/// Lists entries with their attributes until the reply is full.
pub(super) fn list_plus(
    fs: &Fs,
    owner: Owner,
    offset: u64,
    mut reply: ReplyDirectoryPlus,
    listing: &Listing,
) {
    fs.hand_on(listing, offset, true, |listed| {
        let (shown, ttl) = match listed.entry {
            // The reply has one time for both, so the shorter one holds.
            Some(entry) => (entry.attr, entry.entry_ttl.min(entry.attr_ttl)),
            // The kernel reads nothing but number and type of `.` and `..`.
            None => (bare(listed), Duration::ZERO),
        };
        !reply.add(
            INodeNo(shown.ino),
            listed.offset,
            listed.name,
            &ttl,
            &owner.attr(&shown),
            GENERATION,
        )
    });
    reply.ok();
}

fn bare(listed: DirEntry<'_>) -> Attr {
    Attr {
        ino: listed.ino,
        shown: listed.ino,
        kind: listed.kind,
        perm: match listed.kind {
            FileKind::Directory => 0o755,
            _ => 0o644,
        },
        size: 0,
        time: SystemTime::UNIX_EPOCH,
        accessed: SystemTime::UNIX_EPOCH,
        changed: SystemTime::UNIX_EPOCH,
        links: 1,
        uid: None,
        gid: None,
        device: 0,
    }
}
