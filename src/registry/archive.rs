//! The archive of a migration directory: a part of a version, made when the directory agrees with
//! its `atlas.sum`.
//!
//! An archive decides no verdict. The journal holds it before any target gets it, so a target that
//! misses it gets it by replay.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::events::{Event, Level};
use super::journal::Record;
use super::{Registry, blocking};
use crate::model::{
    ArtifactId, Author, Base, Format, Item, MigrationDirectory, RepoName, Section, Stamp,
};

impl Registry {
    /// Makes a directory, whose newest file has been pushed at `when`, a version; returns whether it
    /// is one. Every mount gives the same directory the same version.
    pub(super) async fn keep_directory(
        self: &Arc<Self>,
        repo: &RepoName,
        directory: &MigrationDirectory,
        when: u64,
        author: Option<Author>,
    ) -> bool {
        let Ok(content) = directory.to_archive() else {
            return false;
        };
        let stamp = Stamp {
            base: Base::New,
            author,
            ..Stamp::new(self.clock.next_stamp(), &content, Format::Sql)
        };
        let version = Stamp { when, ..stamp }.version();
        let id = ArtifactId {
            repo: repo.clone(),
            item: Item::Archive(version),
        };
        // A failed listing only means that a target may get what it has.
        let _ = self.refresh_for(&id).await;
        if self.exists(&id) {
            return true;
        }
        match self.write_archive(&id, content, stamp).await {
            Ok(()) => true,
            Err(reason) => {
                let event = Event::new(Level::Warn, "version-missed", reason);
                self.report(event.with("artifact", id.to_string()));
                false
            }
        }
    }

    async fn write_archive(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: Bytes,
        stamp: Stamp,
    ) -> Result<(), String> {
        let last = Instant::now() + self.settings.push_budget();
        let replicas = self.replicas(&id.section());
        let replicas = replicas.map_err(|error| error.reason)?;
        let elsewhere = self.replay.stores_elsewhere(id);
        let record = Record {
            registry: replicas.registry.name(),
            targets: self.replay.stores_for(id, replicas),
            ..Record::new(id, &stamp, false)
        };
        let written = self.write_journal("keep", record, content.clone(), last);
        let end = written.await.map_err(|error| error.reason)?;
        self.journal.decide(stamp.when, None);
        let puts = replicas.targets().map(|target| {
            let content = content.clone();
            async move {
                let put = target.ask(|target| target.put_part(id, content, &stamp, end));
                (target, put.await.is_ok())
            }
        });
        let puts = futures::future::join_all(puts).await;
        let named = |has: bool| {
            let targets = puts.iter().filter(move |(_, has_it)| *has_it == has);
            targets.map(|(target, _)| target)
        };
        let got: Vec<_> = named(true).map(|target| (target.id, None)).collect();
        let missing: Vec<_> = named(false).map(|target| target.id).collect();
        self.contents.insert(stamp.sha256, &content);
        self.index.change(id, |entry| {
            let revision = || self.index.next_revision();
            entry.pushed(stamp, &got, &missing, Instant::now(), revision);
        });
        self.index.expire(&Section::archives(&id.repo));
        let is_complete = missing.is_empty() && elsewhere.is_empty();
        let names: Vec<String> = named(true).map(|target| target.name()).collect();
        let (journal, id, when) = (Arc::clone(&self.journal), id.clone(), stamp.when);
        let settling = blocking::run(move || match is_complete {
            true => journal.settle(&id, when),
            false => {
                names.iter().for_each(|name| journal.got(when, name));
                let _ = journal.mark(when);
            }
        });
        let _ = timeout_at(last, settling).await;
        if !is_complete {
            self.replay.wake();
        }
        Ok(())
    }
}
